//! What the model knows of a file: its content by hash, and which of its lines were shown. Pure.

use std::ops::Range;

use similar::{DiffTag, TextDiff};

/// What the model knows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Of the content as it was shown.
    pub hash: blake3::Hash,
    // Invariant: in order, none empty, none touching another. Lines from 0.
    lines: Vec<Range<usize>>,
}

impl Seen {
    /// A content of which no line was shown yet.
    pub fn none(hash: blake3::Hash) -> Seen {
        Seen { hash, lines: vec![] }
    }

    /// A content that the model knows whole.
    pub fn whole(hash: blake3::Hash, lines: usize) -> Seen {
        let mut seen = Seen::none(hash);
        seen.show(0..lines);
        seen
    }

    /// Lines are shown.
    pub fn show(&mut self, shown: Range<usize>) {
        self.lines.push(shown);
        self.lines.retain(|range| !range.is_empty());
        self.lines.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = vec![];
        for range in self.lines.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.lines = merged;
    }

    /// The first of some lines that was not shown.
    pub fn first_unseen(&self, wanted: Range<usize>) -> Option<usize> {
        let mut at = wanted.start;
        for range in &self.lines {
            if range.contains(&at) {
                at = range.end;
            }
        }
        (at < wanted.end).then_some(at)
    }

    /// The first line that a change replaces, or stands beside, and that was not shown.
    pub fn first_unseen_of(&self, before: &str, after: &str) -> Option<usize> {
        let diff = TextDiff::from_lines(before, after);
        diff.ops().iter().find_map(|op| match op.tag() {
            DiffTag::Equal => None,
            DiffTag::Delete | DiffTag::Replace => self.first_unseen(op.old_range()),
            DiffTag::Insert => {
                let at = op.old_range().start;
                let beside = at.saturating_sub(1)..at + 1;
                let known = beside.clone().any(|line| self.first_unseen(line..line + 1).is_none());
                (!known && !before.is_empty()).then_some(beside.start)
            }
        })
    }

    /// What the model knows after a change of its own: what it knew, where it stands now, and what it wrote.
    pub fn changed(&self, before: &str, after: &str, hash: blake3::Hash) -> Seen {
        let mut seen = Seen::none(hash);
        for op in TextDiff::from_lines(before, after).ops() {
            let (old, new) = (op.old_range(), op.new_range());
            if op.tag() != DiffTag::Equal {
                seen.show(new);
                continue;
            }
            for range in &self.lines {
                let (start, end) = (range.start.max(old.start), range.end.min(old.end));
                if start < end {
                    seen.show(new.start + (start - old.start)..new.start + (end - old.start));
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ranges: &[Range<usize>]) -> Seen {
        let mut seen = Seen::none(blake3::hash(b""));
        ranges.iter().for_each(|range| seen.show(range.clone()));
        seen
    }

    #[test]
    fn ranges_join() {
        let known = seen(&[5..8, 0..2, 2..3, 6..10]);
        assert_eq!(known.lines, [0..3, 5..10]);
        assert_eq!(
            (known.first_unseen(0..3), known.first_unseen(2..6), known.first_unseen(9..12)),
            (None, Some(3), Some(10))
        );
        assert_eq!(seen(&[]).first_unseen(4..4), None);
    }

    #[test]
    fn a_change_outside_of_what_was_shown_is_found() {
        let known = seen(&[std::ops::Range { start: 1, end: 2 }]);
        assert_eq!(known.first_unseen_of("a\nb\nc\n", "a\nB\nc\n"), None);
        assert_eq!(known.first_unseen_of("a\nb\nc\n", "a\nb\nx\nc\n"), None, "beside a known line");
        assert_eq!(known.first_unseen_of("a\nb\nc\nd\n", "a\nb\nc\nD\n"), Some(3));
    }

    #[test]
    fn what_was_known_moves_with_a_change() {
        let known = seen(&[std::ops::Range { start: 2, end: 3 }]);
        let after = known.changed("a\nb\nc\n", "a\nx\ny\nb\nc\n", blake3::hash(b""));
        assert_eq!(after.lines, [1..3, 4..5]);
    }
}
