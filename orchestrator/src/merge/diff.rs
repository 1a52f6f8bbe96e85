//! Which lines one version changed, as git's merge sees it: the histogram diff, then every change slid to where git puts it.
//!
//! libgit2 merges lines by Myers' diff, git by the histogram diff, and on repeated lines (braces, blank lines) the two align
//! differently, so that one is clean where the other conflicts. Therefore the diff is made here, over interned lines.
//! Source: the histogram diff comes from JGit; gitdiff-options(1) names it, and merge-strategies says that `ort` uses it.

use std::ops::Range;

/// Lines that occur more often than this in a stretch of the old version align nothing.
/// Source: git's `max_chain_length` of the histogram diff.
const OCCURRENCES_MAX: u32 = 64;

/// Lines that are looked at for one diff, again for each stretch that they lie in: about a second's work when optimised. Two versions in
/// which every line stands between new ones make the histogram diff quadratic, in git too.
const LOOKS_MAX: usize = 200_000_000;

/// A change: the lines of the old version that it takes away, and the lines of the new one that it puts there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// In the old version.
    pub taken: Range<usize>,
    /// In the new version.
    pub put: Range<usize>,
}

/// The changes from `old` to `new`, ascending; between two of them lies at least one unchanged line. Lines are given as
/// numbers that are equal where the lines are, small ones: there is room for each up to the greatest. `None` where only
/// lines are common that occur too often (git then falls back to another diff), and where it takes too long.
pub fn hunks(old: &[u32], new: &[u32]) -> Option<Vec<Hunk>> {
    hunks_within(old, new, LOOKS_MAX)
}

fn hunks_within(old: &[u32], new: &[u32], looks_max: usize) -> Option<Vec<Hunk>> {
    let mut changed = [vec![false; old.len()], vec![false; new.len()]];
    let mut stretches = vec![(0..old.len(), 0..new.len())];
    let mut occurrences = Occurrences::of(old, new);
    let mut looks = 0_usize;
    while let Some((old_stretch, new_stretch)) = stretches.pop() {
        looks += old_stretch.len() + new_stretch.len();
        if looks + occurrences.looks > looks_max {
            return None;
        }
        occurrences.count_in(old, &old_stretch);
        let block = match common_block(old, new, &old_stretch, &new_stretch, &mut occurrences) {
            Common::TooOften => return None,
            Common::Nothing => {
                changed[0][old_stretch].fill(true);
                changed[1][new_stretch].fill(true);
                continue;
            }
            Common::Block(block) => block,
        };
        stretches.push((old_stretch.start..block.taken.start, new_stretch.start..block.put.start));
        stretches.push((block.taken.end..old_stretch.end, block.put.end..new_stretch.end));
    }
    let [old_changed, new_changed] = &mut changed;
    slide(old, old_changed, new_changed);
    slide(new, new_changed, old_changed);
    Some(collect(&changed[0], &changed[1]))
}

/// What two stretches have in common.
enum Common {
    Nothing,
    /// Only lines above [`OCCURRENCES_MAX`].
    TooOften,
    /// The block that aligns best, as if it were taken and put.
    Block(Hunk),
}

/// The lines of a stretch of the old version.
struct Occurrences {
    /// Line → in how many-th stretch it was counted last, its first position there, and how often it occurs there.
    lines: Vec<(u32, usize, u32)>,
    /// Position → the next one of the same line in the stretch.
    next: Vec<Option<usize>>,
    /// How many stretches were counted.
    stretch: u32,
    /// Lines that were looked at to extend blocks.
    looks: usize,
}

impl Occurrences {
    fn of(old: &[u32], new: &[u32]) -> Occurrences {
        let lines = old.iter().chain(new).max().map_or(0, |&most| most as usize + 1);
        Occurrences { lines: vec![(0, 0, 0); lines], next: vec![None; old.len()], stretch: 0, looks: 0 }
    }

    fn count_in(&mut self, old: &[u32], stretch: &Range<usize>) {
        self.stretch += 1;
        for at in stretch.clone().rev() {
            let line = &mut self.lines[old[at] as usize];
            if line.0 == self.stretch {
                self.next[at] = Some(line.1);
                *line = (self.stretch, at, line.2 + 1);
            } else {
                self.next[at] = None;
                *line = (self.stretch, at, 1);
            }
        }
    }

    /// Where a line occurs first in the stretch, and how often.
    fn find(&self, line: u32) -> Option<(usize, u32)> {
        let (stretch, first, count) = self.lines[line as usize];
        (stretch == self.stretch).then_some((first, count))
    }

    fn count(&self, line: u32) -> u32 {
        self.lines[line as usize].2
    }
}

/// Finds the common block whose rarest line is rarest; among equally rare ones, the longest; among those, the first.
fn common_block(
    old: &[u32],
    new: &[u32],
    old_stretch: &Range<usize>,
    new_stretch: &Range<usize>,
    occurrences: &mut Occurrences,
) -> Common {
    let mut any_common = false;
    let mut rarest = OCCURRENCES_MAX + 1;
    let mut best: Option<Hunk> = None;
    let mut new_at = new_stretch.start;
    while new_at < new_stretch.end {
        let mut new_next = new_at + 1;
        let Some((first, count)) = occurrences.find(new[new_at]) else {
            new_at = new_next;
            continue;
        };
        any_common = true;
        let mut candidate = (count <= rarest).then_some(first);
        while let Some(old_at) = candidate {
            let (block, block_rarest) = extend(old, new, (old_at, new_at), (old_stretch, new_stretch), occurrences);
            occurrences.looks += block.taken.len();
            new_next = new_next.max(block.put.end);
            // A block of one line has the length that git's empty start value has.
            let longer = best.as_ref().map_or(1, |best| best.taken.len()) < block.taken.len();
            let end = block.taken.end;
            if longer || block_rarest < rarest {
                rarest = block_rarest;
                best = Some(block);
            }
            candidate = occurrences.next[old_at];
            while candidate.is_some_and(|at| at < end) {
                candidate = candidate.and_then(|at| occurrences.next[at]);
            }
        }
        new_at = new_next;
    }
    match best {
        _ if any_common && rarest > OCCURRENCES_MAX => Common::TooOften,
        Some(block) => Common::Block(block),
        None => Common::Nothing,
    }
}

/// Extends a common line to the longest common block around it, and says how often its rarest line occurs.
fn extend(
    old: &[u32],
    new: &[u32],
    (old_at, new_at): (usize, usize),
    (old_stretch, new_stretch): (&Range<usize>, &Range<usize>),
    occurrences: &Occurrences,
) -> (Hunk, u32) {
    let mut rarest = occurrences.count(old[old_at]);
    let mut block = Hunk { taken: old_at..old_at + 1, put: new_at..new_at + 1 };
    while block.taken.start > old_stretch.start
        && block.put.start > new_stretch.start
        && old[block.taken.start - 1] == new[block.put.start - 1]
    {
        block.taken.start -= 1;
        block.put.start -= 1;
        rarest = rarest.min(occurrences.count(old[block.taken.start]));
    }
    while block.taken.end < old_stretch.end
        && block.put.end < new_stretch.end
        && old[block.taken.end] == new[block.put.end]
    {
        rarest = rarest.min(occurrences.count(old[block.taken.end]));
        block.taken.end += 1;
        block.put.end += 1;
    }
    (block, rarest)
}

/// A run of changed lines, possibly empty, between two unchanged ones. The two versions have equally many groups, because
/// they have equally many unchanged lines.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
}

impl Group {
    fn first(changed: &[bool]) -> Group {
        Group { start: 0, end: run_end(changed, 0) }
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn next(self, changed: &[bool]) -> Option<Group> {
        let start = self.end + 1;
        (self.end < changed.len()).then(|| Group { start, end: run_end(changed, start) })
    }

    fn previous(self, changed: &[bool]) -> Option<Group> {
        let end = self.start.checked_sub(1)?;
        Some(Group { start: run_start(changed, end), end })
    }

    /// Moves the group one line up where that gives the same text; joins what it meets.
    fn slide_up(&mut self, lines: &[u32], changed: &mut [bool]) -> bool {
        let possible = self.start > 0 && lines[self.start - 1] == lines[self.end - 1];
        if possible {
            changed[self.start - 1] = true;
            changed[self.end - 1] = false;
            *self = Group { start: run_start(changed, self.start - 1), end: self.end - 1 };
        }
        possible
    }

    /// Moves the group one line down where that gives the same text; joins what it meets.
    fn slide_down(&mut self, lines: &[u32], changed: &mut [bool]) -> bool {
        let possible = self.end < lines.len() && lines[self.start] == lines[self.end];
        if possible {
            changed[self.start] = false;
            changed[self.end] = true;
            *self = Group { start: self.start + 1, end: run_end(changed, self.end + 1) };
        }
        possible
    }
}

fn run_end(changed: &[bool], from: usize) -> usize {
    from + changed[from..].iter().take_while(|changed| **changed).count()
}

fn run_start(changed: &[bool], from: usize) -> usize {
    from - changed[..from].iter().rev().take_while(|changed| **changed).count()
}

const ALIGNED: &str = "BUG: both versions have equally many groups";

/// Slides each change of one version down as far as it goes, or to the last place where the other version changed too.
fn slide(lines: &[u32], changed: &mut [bool], other_changed: &[bool]) {
    let (mut group, mut other) = (Group::first(changed), Group::first(other_changed));
    loop {
        if !group.is_empty() {
            slide_group(lines, (&mut group, changed), (&mut other, other_changed));
        }
        let Some(next) = group.next(changed) else { return };
        group = next;
        other = other.next(other_changed).expect(ALIGNED);
    }
}

fn slide_group(
    lines: &[u32],
    (group, changed): (&mut Group, &mut [bool]),
    (other, other_changed): (&mut Group, &[bool]),
) {
    loop {
        let length = group.end - group.start;
        while group.slide_up(lines, changed) {
            *other = other.previous(other_changed).expect(ALIGNED);
        }
        let highest = group.end;
        let mut meets_other = !other.is_empty();
        while group.slide_down(lines, changed) {
            *other = other.next(other_changed).expect(ALIGNED);
            meets_other |= !other.is_empty();
        }
        // It may have joined another group on the way down, and may now go further up.
        if length != group.end - group.start {
            continue;
        }
        while group.end != highest && meets_other && other.is_empty() {
            assert!(group.slide_up(lines, changed), "BUG: it came from there");
            *other = other.previous(other_changed).expect(ALIGNED);
        }
        return;
    }
}

fn collect(old_changed: &[bool], new_changed: &[bool]) -> Vec<Hunk> {
    let mut hunks = Vec::new();
    let (mut old, mut new) = (Group::first(old_changed), Group::first(new_changed));
    loop {
        if !old.is_empty() || !new.is_empty() {
            hunks.push(Hunk { taken: old.start..old.end, put: new.start..new.end });
        }
        let Some(next) = old.next(old_changed) else { return hunks };
        old = next;
        new = new.next(new_changed).expect(ALIGNED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, want: &[(Range<usize>, Range<usize>)]) {
        let lines = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        let hunks = hunks(&lines(old), &lines(new)).unwrap();
        assert_eq!(hunks.into_iter().map(|hunk| (hunk.taken, hunk.put)).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_change_is_what_lies_between_rare_lines() {
        check("", "", &[]);
        check("abc", "abc", &[]);
        check("abc", "aXc", &[(1..2, 1..2)]);
        check("", "ab", &[(0..0, 0..2)]);
        check("}}a}}", "}}b}a}}", &[(2..2, 2..4)]);
    }

    #[test]
    fn an_ambiguous_change_slides_down() {
        check("xaay", "xaaay", &[(3..3, 3..4)]);
        check("xaaay", "xaay", &[(3..4, 3..3)]);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let old: Vec<u32> = (0..1000).collect();
        let new: Vec<u32> = old.iter().flat_map(|&line| [line, line + 1000]).collect();
        assert_eq!(hunks(&old, &new).map(|hunks| hunks.len()), Some(1000));
        assert_eq!(hunks_within(&old, &new, 1_000_000), None);
    }

    #[test]
    fn lines_that_occur_too_often_align_nothing() {
        let many = vec![1; OCCURRENCES_MAX as usize + 2];
        assert_eq!(hunks(&many, &[2, 1, 3]), None);
    }
}
