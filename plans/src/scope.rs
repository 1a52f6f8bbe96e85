//! What instances may change, compared before anything runs: whether two scopes can meet is decided, not sampled. Each glob
//! becomes an automaton (from the very regular expression by which it is matched later), and two of them meet when some
//! path leads both to their end. In the wider sense of [`Sense::OrFolder`], a file of one scope that is a folder of the other
//! is a meeting, too: `docs` and `docs/a`.
//!
//! Scopes that do not meet in the wider sense cannot conflict, whatever the tasks do, but where one moves a whole folder
//! into which the other puts a new file: as in git, that one belongs to the new place, where its `writes` do not reach. Start
//! reading at [`Scope::meets`].

use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;

use globset::GlobBuilder;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// States of one glob's automaton; a glob with more is taken to match anything.
const STATES_MAX: usize = 10_000;

/// The glob as it is matched: a pattern that ends in a slash means everything below, and `./` in front means nothing.
pub fn whole_glob(pattern: &str) -> String {
    let whole = match pattern.strip_suffix('/') {
        Some(folder) => format!("{folder}/**"),
        None => pattern.to_owned(),
    };
    whole.strip_prefix("./").map_or(whole.clone(), str::to_owned)
}

/// What an instance may change.
#[derive(Debug, Clone)]
pub struct Scope {
    globs: Vec<Glob>,
}

#[derive(Debug, Clone)]
struct Glob {
    /// As written; `**` for a task without `writes`.
    pattern: String,
    literals: Literals,
    /// Made when it is first compared: most globs never are.
    automaton: OnceLock<Automaton>,
    /// The same of the glob that does not tell capitals of ASCII.
    in_any_case: OnceLock<Automaton>,
}

impl Glob {
    fn new(pattern: &str) -> Self {
        Glob {
            pattern: pattern.to_owned(),
            literals: Literals::of(&whole_glob(pattern)),
            automaton: OnceLock::new(),
            in_any_case: OnceLock::new(),
        }
    }

    fn automaton(&self) -> &Automaton {
        self.automaton.get_or_init(|| Automaton::of(&whole_glob(&self.pattern), Capitals::Told))
    }

    fn in_any_case(&self) -> &Automaton {
        self.in_any_case.get_or_init(|| Automaton::of(&whole_glob(&self.pattern), Capitals::Alike))
    }

    fn meets(&self, other: &Glob, sense: Sense, compared: &mut u64) -> Option<String> {
        // A folder ends otherwise than the files below it.
        let agree = sense == Sense::OrFolder || self.literals.agree(&other.literals);
        *compared += u64::from(agree);
        let path = agree.then(|| meeting(self.automaton(), other.automaton(), sense)).flatten();
        if path.is_some() || sense != Sense::Alike {
            return path;
        }
        let above = self.file_above(other).or_else(|| other.file_above(self));
        let in_any_case = || agree.then(|| meeting(self.in_any_case(), other.in_any_case(), sense)).flatten();
        above.map(str::to_owned).or_else(in_any_case)
    }

    /// The file that it names, when it names a single one, and that the other one's files lie below.
    fn file_above<'a>(&'a self, other: &Glob) -> Option<&'a str> {
        let named = |glob: &'a str| glob.strip_prefix("./").unwrap_or(glob);
        let file = Some(named(&self.pattern)).filter(|file| is_literal(file) && !file.ends_with('/'))?;
        let below = other.pattern.strip_prefix("./").unwrap_or(&other.pattern);
        let (folder, rest) = below.split_at_checked(file.len())?;
        (folder.eq_ignore_ascii_case(file) && rest.starts_with('/')).then_some(file)
    }
}

/// What every path of a glob is known to consist of, in small letters: it tells most globs apart without their automata.
#[derive(Debug, Clone)]
struct Literals {
    /// The path begins so.
    beginning: String,
    /// It ends so.
    ending: String,
    /// Its last component begins so.
    name: String,
}

impl Literals {
    fn of(glob: &str) -> Self {
        // Which letters other than these are alike, is for the comparison itself.
        let is_open = |c: char| META.contains(&c) || !c.is_ascii();
        let until_open = |text: &str| text[..text.find(is_open).unwrap_or(text.len())].to_ascii_lowercase();
        let after_open = |(at, open): (usize, &str)| at + open.len();
        let is_close = |c: char| is_open(c) || c == ']';
        let ending = &glob[glob.rmatch_indices(is_close).next().map_or(0, after_open)..];
        // Where slashes may be part of something else, nothing is known of the last component.
        let name = match glob.contains(['[', '{', '\\']) {
            true => "",
            false => glob.rsplit('/').next().unwrap_or(glob),
        };
        Literals { beginning: until_open(glob), ending: ending.to_ascii_lowercase(), name: until_open(name) }
    }

    /// Whether a path may be both, whatever capitals are.
    fn agree(&self, other: &Literals) -> bool {
        let goes_on = |one: &String, other: &String| one.starts_with(&**other) || other.starts_with(&**one);
        goes_on(&self.beginning, &other.beginning)
            && (self.ending.ends_with(&other.ending) || other.ending.ends_with(&self.ending))
            && goes_on(&self.name, &other.name)
    }
}

/// What makes a glob more than a name.
const META: [char; 6] = ['*', '?', '[', '{', '}', '\\'];

/// Whether a glob names one path, which is its text, or everything below it where it ends in a slash.
pub fn is_literal(glob: &str) -> bool {
    !glob.contains(META)
}

/// Whether names are different that differ in capitals only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capitals {
    Told,
    Alike,
}

/// What counts as a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// Both allow the same path.
    Path,
    /// That, or names that differ in capitals of ASCII only (they do not land beside each other), or the one names a file in the place
    /// of a folder that the other one's files lie in by name.
    Alike,
    /// That, or one allows a path that would be a folder on the way to one of the other's. Globs like `**/x` do with nearly
    /// everything, so this is for proofs, not for people.
    OrFolder,
}

/// Two scopes that can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The glob of the first scope.
    pub one: String,
    /// The glob of the second.
    pub other: String,
    /// A path that both allow, or that one allows and whose folder the other may make a file.
    pub path: String,
}

impl Scope {
    /// From `writes`: `None` allows anything, an empty list nothing.
    pub fn new(writes: Option<&[String]>) -> Self {
        let globs = match writes {
            None => vec![Glob::new("**")],
            Some(patterns) => patterns.iter().map(|pattern| Glob::new(pattern)).collect(),
        };
        Scope { globs }
    }

    /// Where both meet; `None` when nowhere. `compared` grows by the pairs of globs of which that is not told at a glance.
    pub fn meets(&self, other: &Scope, sense: Sense, compared: &mut u64) -> Option<Meeting> {
        let pairs = self.globs.iter().flat_map(|one| other.globs.iter().map(move |two| (one, two)));
        pairs.into_iter().find_map(|(one, two)| {
            let path = one.meets(two, sense, compared)?;
            Some(Meeting { one: one.pattern.clone(), other: two.pattern.clone(), path })
        })
    }

    /// Where two of their globs meet.
    pub fn meets_at(&self, glob: usize, other: &Scope, its: usize, sense: Sense) -> Option<Meeting> {
        let (one, two) = (&self.globs[glob], &other.globs[its]);
        let path = one.meets(two, sense, &mut 0)?;
        Some(Meeting { one: one.pattern.clone(), other: two.pattern.clone(), path })
    }

    /// Whether two of their globs may meet in the sense of [`Sense::Alike`], as far as that is told at a glance.
    pub fn may_meet(&self, glob: usize, other: &Scope, its: usize) -> bool {
        let (one, two) = (&self.globs[glob], &other.globs[its]);
        one.literals.agree(&two.literals) || one.file_above(two).is_some() || two.file_above(one).is_some()
    }

    /// How many globs it has.
    pub fn glob_count(&self) -> usize {
        self.globs.len()
    }

    /// A glob as it is written, in small letters.
    pub fn written(&self, glob: usize) -> String {
        let pattern = &self.globs[glob].pattern;
        pattern.strip_prefix("./").unwrap_or(pattern).to_ascii_lowercase()
    }

    /// Whether a glob names a single file.
    pub fn is_file(&self, glob: usize) -> bool {
        is_literal(&self.globs[glob].pattern)
    }

    /// The bytes that every path of a glob begins with, in small letters: globs of which neither beginning is the other's never meet.
    pub fn beginning(&self, glob: usize) -> String {
        self.globs[glob].literals.beginning.trim_end_matches('/').to_owned()
    }

    /// The same of what its paths end with, from the end on; a file in the place of a folder ends otherwise.
    pub fn ending_backwards(&self, glob: usize) -> String {
        self.globs[glob].literals.ending.chars().rev().collect()
    }

    /// The same of what the last components of its paths begin with.
    pub fn name(&self, glob: usize) -> String {
        self.globs[glob].literals.name.clone()
    }

    /// [`Scope::beginning`] of each glob.
    pub fn beginnings(&self) -> impl Iterator<Item = String> {
        (0..self.glob_count()).map(|glob| self.beginning(glob))
    }
}

/// An automaton over bytes, with steps that take none. State 0 is the start.
#[derive(Debug, Clone, Default)]
struct Automaton {
    states: Vec<State>,
    end: usize,
}

#[derive(Debug, Clone, Default)]
struct State {
    free: Vec<usize>,
    /// First and last byte, and where they lead.
    steps: Vec<(u8, u8, usize)>,
}

impl Automaton {
    /// What is no glob was refused before; what cannot be expressed here is taken to match anything.
    fn of(pattern: &str, capitals: Capitals) -> Self {
        Automaton::exactly(pattern, capitals).unwrap_or_else(|| {
            let any = State { free: vec![], steps: vec![(0, 255, 0)] };
            Automaton { states: vec![any], end: 0 }
        })
    }

    fn exactly(pattern: &str, capitals: Capitals) -> Option<Self> {
        let alike = capitals == Capitals::Alike;
        let glob = GlobBuilder::new(pattern).literal_separator(true).case_insensitive(alike).build().ok()?;
        // As globset itself reads it. Source: globset, `new_regex`.
        let mut parser = ParserBuilder::new().utf8(false).dot_matches_new_line(true).build();
        let hir = parser.parse(glob.regex()).ok()?;
        let mut automaton = Automaton { states: vec![State::default()], end: 0 };
        automaton.end = automaton.add(0, &hir)?;
        Some(automaton)
    }

    fn fresh(&mut self) -> Option<usize> {
        self.states.push(State::default());
        (self.states.len() <= STATES_MAX).then(|| self.states.len() - 1)
    }

    /// Adds what `hir` matches behind a state; returns the state behind it.
    fn add(&mut self, from: usize, hir: &Hir) -> Option<usize> {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Some(from),
            HirKind::Literal(literal) => literal.0.iter().try_fold(from, |at, &byte| {
                let next = self.fresh()?;
                self.states[at].steps.push((byte, byte, next));
                Some(next)
            }),
            HirKind::Class(class) => {
                let bytes = match class {
                    Class::Bytes(bytes) => bytes.clone(),
                    Class::Unicode(unicode) => unicode.to_byte_class()?,
                };
                let next = self.fresh()?;
                self.states[from].steps.extend(bytes.iter().map(|range| (range.start(), range.end(), next)));
                Some(next)
            }
            HirKind::Capture(capture) => self.add(from, &capture.sub),
            HirKind::Concat(parts) => parts.iter().try_fold(from, |at, part| self.add(at, part)),
            HirKind::Alternation(parts) => {
                let end = self.fresh()?;
                for part in parts {
                    let begin = self.fresh()?;
                    self.states[from].free.push(begin);
                    let at = self.add(begin, part)?;
                    self.states[at].free.push(end);
                }
                Some(end)
            }
            HirKind::Repetition(repetition) => {
                let mut at = from;
                for _ in 0..repetition.min {
                    at = self.add(at, &repetition.sub)?;
                }
                let end = self.fresh()?;
                self.states[at].free.push(end);
                let more = repetition.max.map(|max| max - repetition.min);
                for _ in 0..more.unwrap_or(1) {
                    let begin = self.fresh()?;
                    self.states[at].free.push(begin);
                    at = self.add(begin, &repetition.sub)?;
                    self.states[at].free.push(end);
                    if more.is_none() {
                        self.states[at].free.push(begin);
                    }
                }
                Some(end)
            }
        }
    }
}

/// Who still reads the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    Both(usize, usize),
    /// The other one's file ended where this one goes on: it is a folder here.
    One(usize),
    Other(usize),
}

/// A place in the search: who reads, and whether a component has begun (a path has no empty ones).
type Place = (Reading, bool);

/// The shortest path that leads both to their end.
fn meeting(one: &Automaton, other: &Automaton, sense: Sense) -> Option<String> {
    let start: Place = (Reading::Both(0, 0), false);
    let mut came: HashMap<Place, Option<(Place, Option<u8>)>> = HashMap::from([(start, None)]);
    let mut open = VecDeque::from([start]);
    while let Some(place) = open.pop_front() {
        if ends(place, one, other) {
            return Some(path(place, &came));
        }
        let mut all = steps(place, one, other);
        if sense == Sense::OrFolder {
            all.extend(into_folders(place, one, other));
        }
        for (next, byte) in all {
            if let std::collections::hash_map::Entry::Vacant(vacant) = came.entry(next) {
                vacant.insert(Some((place, byte)));
                match byte {
                    // Free steps first: the shortest path is what people want to see.
                    None => open.push_front(next),
                    Some(_) => open.push_back(next),
                }
            }
        }
    }
    None
}

fn ends((reading, begun): Place, one: &Automaton, other: &Automaton) -> bool {
    begun
        && match reading {
            Reading::Both(a, b) => a == one.end && b == other.end,
            Reading::One(a) => a == one.end,
            Reading::Other(b) => b == other.end,
        }
}

fn steps((reading, begun): Place, one: &Automaton, other: &Automaton) -> Vec<(Place, Option<u8>)> {
    let mut next: Vec<(Place, Option<u8>)> = Vec::new();
    let mut read = |low: u8, high: u8, to: Reading| {
        if let Some(byte) = legible(low, high) {
            next.push(((to, true), Some(byte)));
        }
        if begun && (low..=high).contains(&b'/') {
            next.push(((to, false), Some(b'/')));
        }
    };
    match reading {
        Reading::Both(a, b) => {
            for &(low, high, to_a) in &one.states[a].steps {
                for &(other_low, other_high, to_b) in &other.states[b].steps {
                    let (low, high) = (low.max(other_low), high.min(other_high));
                    if low <= high {
                        read(low, high, Reading::Both(to_a, to_b));
                    }
                }
            }
            next.extend(one.states[a].free.iter().map(|&to| ((Reading::Both(to, b), begun), None)));
            next.extend(other.states[b].free.iter().map(|&to| ((Reading::Both(a, to), begun), None)));
        }
        Reading::One(at) => {
            one.states[at].steps.iter().for_each(|&(low, high, to)| read(low, high, Reading::One(to)));
            next.extend(one.states[at].free.iter().map(|&to| ((Reading::One(to), begun), None)));
        }
        Reading::Other(at) => {
            other.states[at].steps.iter().for_each(|&(low, high, to)| read(low, high, Reading::Other(to)));
            next.extend(other.states[at].free.iter().map(|&to| ((Reading::Other(to), begun), None)));
        }
    }
    next
}

/// Where one's file has ended and the other goes on below it.
fn into_folders((reading, begun): Place, one: &Automaton, other: &Automaton) -> Vec<(Place, Option<u8>)> {
    let Reading::Both(a, b) = reading else { return vec![] };
    let slash = |automaton: &Automaton, at: usize| -> Vec<usize> {
        let steps = automaton.states[at].steps.iter();
        steps.filter(|(low, high, _)| (*low..=*high).contains(&b'/')).map(|(_, _, to)| *to).collect()
    };
    let mut next = Vec::new();
    if begun && a == one.end {
        next.extend(slash(other, b).into_iter().map(|to| ((Reading::Other(to), false), Some(b'/'))));
    }
    if begun && b == other.end {
        next.extend(slash(one, a).into_iter().map(|to| ((Reading::One(to), false), Some(b'/'))));
    }
    next
}

/// A byte of a range that may stand in a name, as pleasant to read as the range allows.
fn legible(low: u8, high: u8) -> Option<u8> {
    let within = |first: u8, last: u8| (low.max(first) <= high.min(last)).then(|| low.max(first));
    let pleasant = [(b'a', b'z'), (b'A', b'Z'), (b'0', b'9'), (b'0', b'~'), (b' ', b'.')];
    pleasant
        .into_iter()
        .find_map(|(first, last)| within(first, last))
        .or_else(|| within(1, b'.'))
        .or_else(|| within(b'0', 255))
}

fn path(mut place: Place, came: &HashMap<Place, Option<(Place, Option<u8>)>>) -> String {
    let mut bytes = Vec::new();
    while let Some(Some((before, byte))) = came.get(&place) {
        bytes.extend(*byte);
        place = *before;
    }
    bytes.reverse();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(globs: &[&str]) -> Scope {
        Scope::new(Some(&globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>()))
    }

    fn check(one: &[&str], other: &[&str], expected: Option<&str>) {
        for (one, other) in [(one, other), (other, one)] {
            let met = scope(one).meets(&scope(other), Sense::Path, &mut 0);
            assert_eq!(met.as_ref().map(|met| met.path.as_str()), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn scopes_meet_where_one_path_is_in_both() {
        check(&["a.txt"], &["a.txt"], Some("a.txt"));
        check(&["a.txt"], &["b.txt"], None);
        check(&["src/*.rs"], &["src/lib.*"], Some("src/lib.rs"));
        check(&["src/*.rs"], &["src/*/mod.rs"], None);
        check(&["src/**"], &["**/mod.rs"], Some("src/mod.rs"));
        check(&["crates/a/**"], &["crates/b/**"], None);
        check(&["crates/a/"], &["crates/*/Cargo.toml"], Some("crates/a/Cargo.toml"));
        check(&["{a,b}.txt"], &["[b-c].txt"], Some("b.txt"));
        check(&["x?z"], &["x/z"], None);
        check(&["*.rs"], &["*.md"], None);
        check(&[], &["**"], None);
        check(&["one", "two"], &["three", "two"], Some("two"));
    }

    #[test]
    fn a_file_that_is_a_folder_elsewhere_is_a_meeting() {
        let met =
            |one: &str, other: &str| scope(&[one]).meets(&scope(&[other]), Sense::OrFolder, &mut 0).map(|met| met.path);
        assert_eq!(met("docs", "docs/a.md").as_deref(), Some("docs/a.md"));
        assert_eq!(met("docs/a/b", "docs/*").as_deref(), Some("docs/a/b"));
        assert_eq!(met("docs", "doc"), None);
        check(&["docs"], &["docs/a.md"], None);
    }

    #[test]
    fn what_differs_in_capitals_or_takes_a_named_folders_place_meets_too() {
        let met = |one: &str, other: &str| {
            let meets = |a: &str, b: &str| scope(&[a]).meets(&scope(&[b]), Sense::Alike, &mut 0).map(|met| met.path);
            assert_eq!(meets(one, other).is_some(), meets(other, one).is_some(), "{one} {other}");
            meets(one, other)
        };
        assert_eq!(met("README.md", "README.md").as_deref(), Some("README.md"));
        assert_eq!(met("n", "N").map(|path| path.to_lowercase()).as_deref(), Some("n"));
        assert!(met("n/*", "N/*").is_some());
        assert_eq!(met("x", "x/**").as_deref(), Some("x"));
        assert_eq!(met("d", "D/h").as_deref(), Some("d"));
        for (one, other) in [("README.md", "**/*.rs"), ("d/f", "d/g"), ("d", "dd/h"), ("src/*", "src/a/b.rs")] {
            assert_eq!(met(one, other), None, "{one} {other}");
        }
    }

    #[test]
    fn without_writes_everything_is_allowed() {
        let anything = Scope::new(None);
        assert!(anything.meets(&scope(&["a/b"]), Sense::Path, &mut 0).is_some());
        assert!(anything.meets(&scope(&[]), Sense::OrFolder, &mut 0).is_none());
        assert!(anything.meets(&anything, Sense::Path, &mut 0).is_some());
    }

    const PIECES: &[&str] = &["a", "b", "*", "**", "?", "[ab]", "{a,b}", "a*", "[!a]"];

    fn globs() -> impl Strategy<Value = String> {
        let pieces = prop::collection::vec(prop::sample::select(PIECES), 1..4);
        pieces.prop_map(|pieces| pieces.join("/"))
    }

    fn matches(glob: &str, path: &str) -> bool {
        let glob = GlobBuilder::new(&whole_glob(glob)).literal_separator(true).build().expect("a glob");
        glob.compile_matcher().is_match(path)
    }

    proptest! {
        /// The matcher that judges results agrees: what is said to meet has a witness, what is said not to has none among
        /// all short paths.
        #[test]
        fn the_decision_is_the_matchers(one in globs(), other in globs(), folders_too in any::<bool>()) {
            let sense = if folders_too { Sense::OrFolder } else { Sense::Path };
            let met = scope(&[&one]).meets(&scope(&[&other]), sense, &mut 0);
            let folders = |path: &str| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>();
            let agrees = |path: &str| {
                let on = |glob: &str, other: &str| {
                    matches(glob, path) && (matches(other, path) || folders_too && folders(path).iter().any(|folder| matches(other, folder)))
                };
                on(&one, &other) || on(&other, &one)
            };
            match met {
                Some(met) => prop_assert!(agrees(&met.path), "{} is no witness", met.path),
                None => {
                    let names = ["a", "b", "ab", "c"];
                    let below = |paths: &[String]| -> Vec<String> {
                        paths.iter().flat_map(|path| names.map(|name| format!("{path}/{name}"))).collect()
                    };
                    let first = names.map(str::to_owned).to_vec();
                    let second = below(&first);
                    let third = below(&second);
                    for path in first.iter().chain(&second).chain(&third) {
                        prop_assert!(!agrees(path), "they meet at {}", path);
                    }
                }
            }
        }
    }
}
