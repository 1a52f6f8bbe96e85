//! Three versions of a text as one: cleanly, with both sides' lines where both changed the same place, or with conflict
//! markers around such places. Bytes in, bytes out.

use std::collections::HashMap;
use std::ops::Range;

use super::diff::{Hunk, hunks};

/// Base, ours and theirs as one: the base with the changes of both sides. `None` where two changes overlap or have no
/// unchanged line between them.
pub fn diff3(texts: [&[u8]; 3]) -> Option<Vec<u8>> {
    let versions = Lines::of_all(texts);
    let mut merged = Vec::new();
    for stretch in stretches(&versions) {
        match stretch {
            Stretch::Settled(version, lines) => merged.extend(versions[version].lines[lines].concat()),
            Stretch::Agreed(lines) => merged.extend(versions[OURS].lines[lines].concat()),
            Stretch::Disputed(_) => return None,
        }
    }
    Some(merged)
}

/// Base, ours and theirs as one in which nothing is in dispute: where both sides changed the same place, the lines that ours
/// has there come first, then those that only theirs has.
pub fn union(texts: [&[u8]; 3]) -> Vec<u8> {
    let versions = Lines::of_all(texts);
    let mut page = Page::default();
    for stretch in stretches(&versions) {
        match stretch {
            Stretch::Settled(version, lines) => page.put(&versions[version].lines[lines]),
            Stretch::Agreed(lines) => page.put(&versions[OURS].lines[lines]),
            Stretch::Disputed([_, ours, theirs]) => join(&versions, ours, theirs, &mut page),
        }
    }
    page.bytes
}

/// The most lines between two places in dispute that git takes for a part of one.
/// Source: git's `xdl_simplify_non_conflicts`.
const BETWEEN_MAX: usize = 3;

/// Base, ours and theirs as one, as git's own union does (`merge=union` of gitattributes(5)): where both sides changed the same place,
/// ours stands before theirs, and what few lines both have between two such places stand in both. `None` where git would align
/// lines by another diff, or end one by another line feed.
pub fn gits_union(texts: [&[u8]; 3]) -> Option<Vec<u8>> {
    let versions = Lines::of_all(texts);
    let mut parts: Vec<Stretch> = Vec::new();
    for stretch in stretches(&versions) {
        match stretch {
            Stretch::Disputed([base, ours, theirs]) if !ours.is_empty() && !theirs.is_empty() => {
                let [our_numbers, their_numbers] = [(OURS, &ours), (THEIRS, &theirs)]
                    .map(|(version, range)| &versions[version].numbers[range.clone()]);
                let mut at = ours.start;
                for Hunk { taken, put } in hunks(our_numbers, their_numbers)? {
                    let [taken, put] = [(taken, ours.start), (put, theirs.start)]
                        .map(|(range, start)| range.start + start..range.end + start);
                    parts.push(Stretch::Agreed(at..taken.start));
                    at = taken.end;
                    parts.push(Stretch::Disputed([base.clone(), taken, put]));
                }
                parts.push(Stretch::Agreed(at..ours.end));
            }
            other => parts.push(other),
        }
    }
    let has_cr = texts.iter().any(|text| text.contains(&b'\r'));
    let mut page = Page::default();
    for part in simplified(parts) {
        match part {
            Stretch::Settled(version, lines) => page.put(&versions[version].lines[lines]),
            Stretch::Agreed(lines) => page.put(&versions[OURS].lines[lines]),
            Stretch::Disputed([_, ours, theirs]) => {
                page.put(&versions[OURS].lines[ours]);
                if has_cr && page.bytes.last().is_some_and(|&byte| byte != b'\n') {
                    return None;
                }
                // Git ends the last line of ours even where nothing of theirs follows.
                page.end_line();
                page.put(&versions[THEIRS].lines[theirs]);
            }
        }
    }
    Some(page.bytes)
}

/// With places in dispute taken together that have few lines between them, and those on both sides.
fn simplified(parts: Vec<Stretch>) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for part in parts {
        // What one side alone changed keeps two places apart; base lines and what both changed alike do not.
        let is_between = |part: &Stretch| matches!(part, Stretch::Agreed(_) | Stretch::Settled(BASE, _));
        let before = all.iter().rposition(|part| !is_between(part));
        if let (Stretch::Disputed([_, ours, theirs]), Some(at)) = (&part, before)
            && let Stretch::Disputed([_, our_first, their_first]) = &mut all[at]
            && ours.start - our_first.end <= BETWEEN_MAX
        {
            (our_first.end, their_first.end) = (ours.end, theirs.end);
            all.truncate(at + 1);
            continue;
        }
        all.push(part);
    }
    all
}

/// The names that stand beside the three versions in conflict markers.
#[derive(Debug, Clone)]
pub struct Labels {
    /// What both sides started from.
    pub base: String,
    /// What landed.
    pub ours: String,
    /// What does not fit.
    pub theirs: String,
}

/// Base, ours and theirs as one, with conflict markers around what is in dispute; `None` when nothing is.
pub fn marked(texts: [&[u8]; 3], labels: &Labels) -> Option<Vec<u8>> {
    let versions = Lines::of_all(texts);
    let mut page = Page::default();
    let mut disputed = false;
    for stretch in stretches(&versions) {
        match stretch {
            Stretch::Settled(version, lines) => page.put(&versions[version].lines[lines]),
            Stretch::Agreed(lines) => page.put(&versions[OURS].lines[lines]),
            Stretch::Disputed(ranges) => {
                disputed = true;
                let [base, ours, theirs] = [BASE, OURS, THEIRS].map(|at| &versions[at].lines[ranges[at].clone()]);
                page.dispute(labels, [base, ours, theirs]);
            }
        }
    }
    disputed.then_some(page.bytes)
}

/// Conflict markers around three descriptions, for versions that cannot be shown as text.
pub fn described(words: [String; 3], labels: &Labels) -> Vec<u8> {
    let mut page = Page::default();
    let lines = [0, 1, 2].map(|at| [words[at].as_bytes()]);
    page.dispute(labels, [&lines[BASE], &lines[OURS], &lines[THEIRS]]);
    page.bytes
}

/// Seven of it begin a line of a conflict marker.
/// Source: gitattributes(5), `conflict-marker-size`.
const MARKS: [u8; 4] = *b"<|=>";

/// How many bytes of a line say whether it is one.
const MARKER_BYTES: usize = 8;

/// Counts the lines of a text that are conflict markers, by kind in the order of `MARKS`. It hears the text piece by piece, since a
/// file with markers holds three versions and is larger than any.
#[derive(Debug, Default)]
pub struct Markers {
    counts: [usize; 4],
    /// How the line begins that has not ended yet.
    start: [u8; MARKER_BYTES],
    /// Bytes of it.
    length: usize,
}

impl Markers {
    /// Takes what comes next of the text.
    pub fn hear(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            let (line, ends) = part.strip_suffix(b"\n").map_or((part, false), |line| (line, true));
            let taken = line.len().min(MARKER_BYTES - self.length);
            self.start[self.length..self.length + taken].copy_from_slice(&line[..taken]);
            self.length += taken;
            if ends {
                self.end_line();
            }
        }
    }

    /// The counts of all that was heard.
    pub fn counts(mut self) -> [usize; 4] {
        self.end_line();
        self.counts
    }

    fn end_line(&mut self) {
        let line = &self.start[..std::mem::take(&mut self.length)];
        let marks = line.iter().take_while(|&&byte| byte == *line.first().unwrap_or(&0)).count();
        let ends = matches!(line.get(7), None | Some(b' ' | b'\r'));
        if let (7, true, Some(kind)) = (marks, ends, MARKS.iter().position(|mark| line.first() == Some(mark))) {
            self.counts[kind] += 1;
        }
    }
}

/// A stretch of a merged file.
enum Stretch {
    /// These lines of this version.
    Settled(usize, Range<usize>),
    /// Both sides have the same lines there, these of ours.
    Agreed(Range<usize>),
    /// Both sides changed it: its lines in base, ours and theirs.
    Disputed([Range<usize>; 3]),
}

/// Indices of the versions.
const BASE: usize = 0;
const OURS: usize = 1;
const THEIRS: usize = 2;

/// A merged file in its order. Where lines cannot be aligned, all of it is disputed.
fn stretches(versions: &[Lines<'_>; 3]) -> Vec<Stretch> {
    let [base, ours, theirs] = versions;
    let changes = hunks(&base.numbers, &ours.numbers).zip(hunks(&base.numbers, &theirs.numbers));
    let Some((our_hunks, their_hunks)) = changes else {
        return vec![Stretch::Disputed([base, ours, theirs].map(|version| 0..version.lines.len()))];
    };
    let mut rests = [our_hunks.as_slice(), their_hunks.as_slice()];
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        let (taken, stretch) = match rests.map(<[Hunk]>::first) {
            [None, None] => break,
            [Some(one), Some(two)] if one.taken == two.taken && ours.equal(one, theirs, two) => {
                rests = rests.map(|rest| &rest[1..]);
                (one.taken.clone(), Stretch::Agreed(one.put.clone()))
            }
            [Some(one), Some(two)] if one.taken.end >= two.taken.start && two.taken.end >= one.taken.start => {
                let disputed = dispute(&mut rests);
                (disputed[BASE].clone(), Stretch::Disputed(disputed))
            }
            [Some(one), two] if two.is_none_or(|two| one.taken.start < two.taken.start) => {
                rests[0] = &rests[0][1..];
                (one.taken.clone(), Stretch::Settled(OURS, one.put.clone()))
            }
            [_, Some(two)] => {
                rests[1] = &rests[1][1..];
                (two.taken.clone(), Stretch::Settled(THEIRS, two.put.clone()))
            }
            [Some(_), None] => unreachable!("BUG: the guard above takes it"),
        };
        all.push(Stretch::Settled(BASE, at..taken.start));
        at = taken.end;
        all.push(stretch);
    }
    all.push(Stretch::Settled(BASE, at..base.lines.len()));
    all
}

/// Takes the changes that overlap or touch, one after the other, and says which lines they cover in each version.
fn dispute(rests: &mut [&[Hunk]; 2]) -> [Range<usize>; 3] {
    let start = rests[0][0].taken.start.min(rests[1][0].taken.start);
    let mut end = start;
    let mut takens = [0, 0];
    while let Some(side) =
        [0, 1].into_iter().find(|&side| rests[side].get(takens[side]).is_some_and(|hunk| hunk.taken.start <= end))
    {
        end = end.max(rests[side][takens[side]].taken.end);
        takens[side] += 1;
    }
    let put = [0, 1].map(|side| {
        let (taken, rest) = rests[side].split_at(takens[side]);
        rests[side] = rest;
        let (first, last) = (&taken[0], &taken[taken.len() - 1]);
        first.put.start - (first.taken.start - start)..last.put.end + (end - last.taken.end)
    });
    let [ours, theirs] = put;
    [start..end, ours, theirs]
}

/// Puts what both sides have once, and else the lines of ours before those of theirs.
fn join(versions: &[Lines<'_>; 3], ours: Range<usize>, theirs: Range<usize>, page: &mut Page) {
    let [our_lines, their_lines] = [&versions[OURS].lines[ours.clone()], &versions[THEIRS].lines[theirs.clone()]];
    let apart = hunks(&versions[OURS].numbers[ours], &versions[THEIRS].numbers[theirs]);
    let apart = apart.unwrap_or_else(|| vec![Hunk { taken: 0..our_lines.len(), put: 0..their_lines.len() }]);
    let mut at = 0;
    for Hunk { taken, put } in apart {
        page.put(&our_lines[at..taken.end]);
        page.put(&their_lines[put]);
        at = taken.end;
    }
    page.put(&our_lines[at..]);
}

/// A file that is being written from lines of several versions: the last line of a version may lack its line feed.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
}

impl Page {
    fn put(&mut self, lines: &[&[u8]]) {
        for line in lines {
            self.end_line();
            self.bytes.extend_from_slice(line);
        }
    }

    /// Ends the last line as the lines before it end.
    fn end_line(&mut self) {
        if self.bytes.last().is_none_or(|&byte| byte == b'\n') {
            return;
        }
        let before = self.bytes.iter().rposition(|&byte| byte == b'\n');
        let cr = before.is_some_and(|at| at > 0 && self.bytes[at - 1] == b'\r');
        self.bytes.extend_from_slice(if cr { b"\r\n" } else { b"\n" });
    }

    fn dispute(&mut self, labels: &Labels, [base, ours, theirs]: [&[&[u8]]; 3]) {
        let sides = [(b'<', labels.ours.as_str(), ours), (b'|', &labels.base, base), (b'=', "", theirs)];
        for (mark, label, lines) in sides {
            self.marker(mark, label);
            self.put(lines);
        }
        self.marker(b'>', &labels.theirs);
    }

    fn marker(&mut self, mark: u8, label: &str) {
        self.end_line();
        self.bytes.extend_from_slice(&[mark; 7]);
        if !label.is_empty() {
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(label.as_bytes());
        }
        self.bytes.push(b'\n');
    }
}

/// A version cut into lines, each with its line feed.
struct Lines<'a> {
    lines: Vec<&'a [u8]>,
    /// The same number for the same line in all versions.
    numbers: Vec<u32>,
}

impl<'a> Lines<'a> {
    fn of_all(texts: [&'a [u8]; 3]) -> [Lines<'a>; 3] {
        let mut numbers = HashMap::new();
        texts.map(|bytes| Lines::of(bytes, &mut numbers))
    }

    fn of(bytes: &'a [u8], numbers: &mut HashMap<&'a [u8], u32>) -> Lines<'a> {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let number = |line: &&'a [u8]| {
            let fresh = numbers.len() as u32;
            *numbers.entry(line).or_insert(fresh)
        };
        let numbers = lines.iter().map(number).collect();
        Lines { lines, numbers }
    }

    /// Whether two changes put the same lines.
    fn equal(&self, hunk: &Hunk, other: &Lines<'_>, others: &Hunk) -> bool {
        self.numbers[hunk.put.clone()] == other.numbers[others.put.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(base: &str, ours: &str, theirs: &str) -> String {
        String::from_utf8(union([base, ours, theirs].map(str::as_bytes))).expect("text")
    }

    fn markers(text: &[u8]) -> [usize; 4] {
        let mut all = Markers::default();
        all.hear(text);
        all.counts()
    }

    fn labels() -> Labels {
        let [base, ours, theirs] = ["before", "landed", "task"].map(str::to_owned);
        Labels { base, ours, theirs }
    }

    #[test]
    fn a_union_keeps_both_additions_ours_first() {
        assert_eq!(joined("# log\n", "# log\na\n", "# log\nb\n"), "# log\na\nb\n");
        assert_eq!(joined("", "head\na\n", "head\nb\n"), "head\na\nb\n");
        assert_eq!(joined("x\n1\ny\n", "x\n2\ny\n", "x\n3\ny\n"), "x\n2\n3\ny\n");
    }

    #[test]
    fn a_last_line_without_its_line_feed_gets_one_when_more_follows() {
        assert_eq!(joined("x", "x\na", "x\nb"), "x\na\nb");
        assert_eq!(joined("x\r\n", "x\r\na", "x\r\nb"), "x\r\na\r\nb");
    }

    #[test]
    fn markers_stand_around_what_is_in_dispute_only() {
        let text = marked(["1\n2\n3\n", "1\na\n3\n", "1\nb\n3\n"].map(str::as_bytes), &labels()).expect("a dispute");
        let want = "1\n<<<<<<< landed\na\n||||||| before\n2\n=======\nb\n>>>>>>> task\n3\n";
        assert_eq!(String::from_utf8(text.clone()).expect("text"), want);
        assert_eq!(markers(&text), [1, 1, 1, 1]);
        assert_eq!(marked([b"1\n", b"2\n", b"2\n"], &labels()), None);
    }

    #[test]
    fn lines_that_only_look_like_markers_do_not_count() {
        assert_eq!(markers(b"<<<<<<<<\n<<<<<<\n ======= \n=======x\n>>>>>>>>>\n"), [0; 4]);
        assert_eq!(markers(b"=======\r\n>>>>>>> x"), [0, 0, 1, 1]);
    }

    #[test]
    fn markers_are_counted_wherever_the_pieces_of_a_text_end() {
        let text = b"<<<<<<< a\n1\n||||||| b\n=======\n<<<<<<<<\n=======x\n>>>>>>> c";
        for bytes in 1..text.len() {
            let mut all = Markers::default();
            text.chunks(bytes).for_each(|piece| all.hear(piece));
            assert_eq!(all.counts(), [1; 4], "pieces of {bytes} bytes");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a\n", "b\n", "c\n", "\n"]), 0..10).prop_map(|all| all.concat())
    }

    proptest! {
        #[test]
        fn a_union_of_additions_holds_every_line_of_both(
            base in text(), ours in prop::collection::vec((0..10usize, 0..20u32), 0..4), theirs in prop::collection::vec((0..10usize, 20..40u32), 0..4)
        ) {
            let add = |all: &[(usize, u32)]| {
                let mut lines: Vec<String> = base.split_inclusive('\n').map(str::to_owned).collect();
                for (at, number) in all {
                    lines.insert(at % (lines.len() + 1), format!("line {number}\n"));
                }
                lines.concat()
            };
            let (ours, theirs) = (add(&ours), add(&theirs));
            let both = joined(&base, &ours, &theirs);
            for line in ours.lines().chain(theirs.lines()) {
                prop_assert!(both.lines().any(|other| other == line), "{line:?} is not in {both:?}");
            }
            if let Some(clean) = diff3([&base, &ours, &theirs].map(String::as_bytes)) {
                prop_assert_eq!(clean, both.into_bytes());
            }
        }
    }
}
