//! Which untracked files stay out: the `.gitignore` files of the result, the repository's `info/exclude` and the user's
//! `core.excludesFile`, matched as git matches them. Source: gitignore(5).

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Bytes of one `.gitignore` that are read; git has no bound, a worker needs one.
pub const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;
/// Rules of one `.gitignore` that count.
const RULES_MAX: usize = 10_000;
/// Bytes that a letter of a rule takes when it is compiled: 675 MB were measured for 11,400 rules of 1,000 letters.
const BYTES_A_LETTER: u64 = 64;
/// Bytes that a matcher takes beside that: its caches fill up while it works. Source: the crate `regex-automata`, 2 MiB by default.
const BYTES_A_FILE: u64 = 2 << 20;
/// Bytes up to which rules are held without waiting: four files with a few rules each.
const LIGHT_BYTES_MAX: u64 = 8 << 20;
/// Held by whose rules take more, of all tasks that are collected at once: they take their bound together, however many they are.
static HEAVY: Turns = Turns::new();
/// The matcher wants rooted paths; the worktree's root is called this.
const ROOT: &str = "/worktree";

/// What stands at a path, for rules that end in a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// Anything else.
    File,
}

/// The rules in force in the folder that is being walked.
#[derive(Debug)]
pub struct IgnoreRules {
    /// In rising precedence.
    personal: Vec<Gitignore>,
    /// From the root down to the current folder, each with what it takes; `None` where a folder has no rules.
    folders: Vec<Option<(Gitignore, u64)>>,
    /// Time that compiling and matching took.
    spent: Cell<Duration>,
    /// While they take much.
    turn: Option<Turn>,
}

/// Whose turn it is to hold heavy rules. A turn belongs to a thread, so that one which holds two sets of rules waits for nobody but others.
#[derive(Debug)]
struct Turns {
    /// Whose it is, and how many sets of rules it is for.
    holder: Mutex<Option<(ThreadId, usize)>>,
    is_free: Condvar,
}

impl Turns {
    const fn new() -> Self {
        Turns { holder: Mutex::new(None), is_free: Condvar::new() }
    }

    /// Waits until nobody else has heavy rules.
    fn take(&'static self) -> Turn {
        let own = thread::current().id();
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        while holder.is_some_and(|(other, _)| other != own) {
            holder = self.is_free.wait(holder).unwrap_or_else(PoisonError::into_inner);
        }
        let sets = holder.map_or(0, |(_, sets)| sets);
        *holder = Some((own, sets + 1));
        Turn(self)
    }
}

/// A turn, over when it is dropped.
#[derive(Debug)]
struct Turn(&'static Turns);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut holder = self.0.holder.lock().unwrap_or_else(PoisonError::into_inner);
        *holder = holder.and_then(|(thread, sets)| (sets > 1).then_some((thread, sets - 1)));
        self.0.is_free.notify_all();
    }
}

impl IgnoreRules {
    /// Starts above the root, with the contents of the user's own files in rising precedence.
    pub fn new(personal: &[Vec<u8>]) -> Self {
        let personal = personal.iter().map(|content| compile(b"", content)).collect();
        IgnoreRules { personal, folders: Vec::new(), spent: Cell::default(), turn: None }
    }

    /// Enters a folder, with the content of its `.gitignore`. Where the rules take much by then, it waits until nobody else's do.
    pub fn enter(&mut self, folder: &[u8], content: Option<&[u8]>) {
        if self.turn.is_none() && content.is_some_and(|content| self.weight_with(content) > LIGHT_BYTES_MAX) {
            self.turn = Some(HEAVY.take());
        }
        let begun = Instant::now();
        self.folders.push(content.map(|content| (compile(folder, content), weight(content))));
        self.spend(begun);
    }

    /// Leaves the folder that was entered last.
    pub fn leave(&mut self) {
        self.folders.pop();
        if self.turn.is_some() && self.weight_with(b"") <= LIGHT_BYTES_MAX {
            self.turn = None;
        }
    }

    /// Whether the rules exclude `path` itself; that a folder above it is excluded is the caller's to know.
    pub fn excludes(&self, path: &[u8], kind: Kind) -> bool {
        let (path, begun) = (rooted(path), Instant::now());
        let folders = self.folders.iter().rev().flatten().map(|(rules, _)| rules);
        let mut deepest_first = folders.chain(self.personal.iter().rev());
        let decides = deepest_first.find_map(|rules| {
            let matched = rules.matched(&path, kind == Kind::Folder);
            (!matched.is_none()).then(|| matched.is_ignore())
        });
        self.spend(begun);
        decides.unwrap_or(false)
    }

    /// Bytes that the rules of the folders above take with those of a `.gitignore` that is yet to be entered: all of them are held
    /// at once.
    pub fn weight_with(&self, content: &[u8]) -> u64 {
        self.folders.iter().flatten().map(|(_, weight)| weight).sum::<u64>() + weight(content)
    }

    /// Time that compiling and matching took so far.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }

    fn spend(&self, begun: Instant) {
        self.spent.set(self.spent.get() + begun.elapsed());
    }
}

/// How many rules a `.gitignore` has, as far as they count.
pub fn count(content: &[u8]) -> u64 {
    rules(content).count() as u64
}

fn rules(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_rule = |line: &&[u8]| !line.trim_ascii().is_empty() && !line.starts_with(b"#");
    content.split(|&byte| byte == b'\n').take(RULES_MAX).filter(is_rule)
}

/// What the rules of a `.gitignore` take in memory when they are compiled, about.
fn weight(content: &[u8]) -> u64 {
    let letters: u64 = rules(content).map(|rule| rule.len() as u64).sum();
    if letters == 0 { 0 } else { BYTES_A_FILE + letters * BYTES_A_LETTER }
}

fn rooted(path: &[u8]) -> PathBuf {
    Path::new(ROOT).join(OsStr::from_bytes(path))
}

fn compile(folder: &[u8], content: &[u8]) -> Gitignore {
    let mut builder = GitignoreBuilder::new(rooted(folder));
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    for line in content.split(|&byte| byte == b'\n').take(RULES_MAX) {
        // A line that is no glob excludes nothing, as in git.
        let _ = builder.add_line(None, &String::from_utf8_lossy(line));
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], path: &str, kind: Kind, expected: bool) {
        let mut rules = IgnoreRules::new(&[b"*.swp\n".to_vec()]);
        for (folder, content) in files {
            rules.enter(folder.as_bytes(), Some(content.as_bytes()));
        }
        assert_eq!(rules.excludes(path.as_bytes(), kind), expected, "{path} under {files:?}");
    }

    #[test]
    fn rules_match_as_git_matches_them() {
        check(&[("", "target/\n")], "target", Kind::Folder, true);
        check(&[("", "target/\n")], "target", Kind::File, false);
        check(&[("", "/a\n")], "b/a", Kind::File, false);
        check(&[("", "*.o\n!keep.o\n")], "x/keep.o", Kind::File, false);
        check(&[("", "*.o\n!keep.o\n")], "x/y.o", Kind::File, true);
        check(&[], "a.swp", Kind::File, true);
    }

    #[test]
    fn a_deeper_file_has_the_last_word() {
        check(&[("", "*.o\n"), ("a", "!b.o\n")], "a/b.o", Kind::File, false);
        check(&[("", ""), ("a", "/x\n")], "a/x", Kind::File, true);
        check(&[("", ""), ("a", "/x\n")], "a/b/x", Kind::File, false);
    }

    #[test]
    fn what_is_held_at_once_is_weighed() {
        let mut rules = IgnoreRules::new(&[]);
        assert_eq!(rules.weight_with(b"\n# a comment\n"), 0);
        let one = rules.weight_with(b"*.o\n");
        rules.enter(b"", Some(b"*.o\n"));
        assert_eq!(rules.weight_with(b"*.o\n"), 2 * one);
        rules.leave();
        assert_eq!(rules.weight_with(b"*.o\n"), one);
    }

    #[test]
    fn heavy_rules_are_held_by_one_thread_at_a_time() {
        static TURNS: Turns = Turns::new();
        let said = Mutex::new(Vec::new());
        let say = |word| said.lock().expect("nobody panics").push(word);
        let (first, again) = (TURNS.take(), TURNS.take());
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let turn = TURNS.take();
                say("another's");
                drop(turn);
            });
            drop(again);
            say("still one's own");
            drop(first);
            other.join().expect("it gets its turn");
        });
        assert_eq!(said.into_inner().expect("nobody panics"), ["still one's own", "another's"]);
    }
}
