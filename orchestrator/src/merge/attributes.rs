//! What a tree's own `.gitattributes` say of merging: which files git merges as a whole, never line by line (two changes of
//! such a file are a conflict, whatever their lines), and of which it keeps both sides' lines. And which files they have git store
//! through a filter: who collects a change asks that.
//!
//! Only files of the tree count, so the same plan gives the same tree everywhere; attributes of a machine (`info/attributes`,
//! `core.attributesFile`) and drivers that a machine's configuration names do not. Where a driver is named, lines are merged,
//! as git does where its configuration knows no such driver; what is in dispute then is a conflict.
//!
//! Source: gitattributes(5), "merge", "filter", "DEFINING MACRO ATTRIBUTES".

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use git2::{Odb, Oid};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use swarm_protocol::glob_bounds::GLOB_BYTES_MAX;

use self::way::{Above, go_on};
use super::fold::FoldError;

/// The folders on the way to what is asked about.
mod way;

/// The file that a folder's attributes stand in.
const NAME: &[u8] = b".gitattributes";
/// A larger one is not read, and all that lies in its folder is merged as a whole. Git's own bound is 100 MiB.
const BYTES_MAX: usize = 1 << 20;

/// Bytes of all that may speak of one path together: what has more above it is merged as a whole. Made ready, lines take some 15 times
/// as much; so many are kept at once.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Patterns of one file that are no plain names: each is tried on each path. What lies in the folder of a file that has more is merged as
/// a whole.
const GLOBS_MAX: usize = 1000;

/// How a file is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By its lines, or as if.
    Lines,
    /// By its lines, and both sides' where both changed the same ones.
    Union,
    /// Not at all: two changes contradict each other.
    Whole,
}

/// What the attributes of one tree say. Each file of them is read once, and each of its patterns made ready once, for all paths below its
/// folder that are asked about one after the other: a task may write both, and thousands of either.
#[derive(Debug)]
pub struct Attributes {
    tree: Oid,
    /// The one that is asked about.
    attribute: &'static str,
    macros: OnceCell<Macros>,
    files: RefCell<Kept>,
    last: RefCell<Option<Asked>>,
}

/// The folder that was asked about last, with those above it: of two paths in the order of a tree, most of the way is the same.
#[derive(Debug)]
struct Asked {
    /// From the top of the tree, with a slash at its end.
    folder: Vec<u8>,
    /// From the top on, as far as the tree has folders there.
    way: Vec<Above>,
    /// The files that may speak of what lies in it.
    files: Rc<[OnTheWay]>,
}

/// The files of attributes that are kept ready.
#[derive(Debug, Default)]
struct Kept {
    /// By the file's blob, each with its bytes; `None` where it is not read.
    files: HashMap<Oid, (usize, Option<Rc<Rules>>)>,
    // Invariant: of all in `files` together.
    bytes: usize,
}

impl Kept {
    /// Keeps one more. Where that is too much, of the others only those in `way` stay, which together are not.
    fn keep(&mut self, file: Oid, (bytes, rules): (usize, Option<Rc<Rules>>), way: &[OnTheWay]) {
        if self.bytes + bytes > KEPT_BYTES_MAX {
            self.files.retain(|kept, _| way.iter().any(|one| one.file == *kept));
            self.bytes = self.files.values().map(|(bytes, _)| bytes).sum();
        }
        self.bytes += bytes;
        self.files.insert(file, (bytes, rules));
    }
}

/// A file of attributes that may speak of a path.
#[derive(Debug, Clone, Copy)]
struct OnTheWay {
    file: Oid,
    /// How much of it is read: nothing of one that is too large.
    bytes: usize,
    /// How many bytes of a path lead to the file's folder.
    above: usize,
}

impl Attributes {
    /// What those of a tree say of merging.
    pub fn of(tree: Oid) -> Self {
        Attributes::about(MERGE, tree)
    }

    /// What those of a tree say of filters.
    pub fn of_filters(tree: Oid) -> Self {
        Attributes::about(FILTER, tree)
    }

    fn about(attribute: &'static str, tree: Oid) -> Self {
        let (macros, files, last) = (OnceCell::new(), RefCell::default(), RefCell::default());
        Attributes { tree, attribute, macros, files, last }
    }

    /// How two changes of the file at `path`, from the top of the tree, are merged.
    ///
    /// # Errors
    /// [`FoldError`] when trees or attributes cannot be read.
    pub fn way(&self, odb: &Odb<'_>, path: &[u8]) -> Result<Way, FoldError> {
        Ok(way_of(&self.said(odb, path)?).unwrap_or(Way::Lines))
    }

    /// The filter through which git stores the file at `path`, from the top of the tree. A file of attributes that is too large to be
    /// read names none.
    ///
    /// # Errors
    /// [`FoldError`] when trees or attributes cannot be read.
    pub fn filter(&self, odb: &Odb<'_>, path: &[u8]) -> Result<Option<String>, FoldError> {
        Ok(match self.said(odb, path)? {
            Said::Text(name) if !name.is_empty() => Some(name),
            _ => None,
        })
    }

    fn said(&self, odb: &Odb<'_>, path: &[u8]) -> Result<Said, FoldError> {
        let files = self.files_on_the_way(odb, path)?;
        if files.iter().map(|one| one.bytes).sum::<usize>() > KEPT_BYTES_MAX {
            return Ok(Said::Unread);
        }
        let macros = match self.macros.get() {
            Some(macros) => macros,
            None => {
                // Macros are only defined at the top; below they are used.
                let top = match files.first() {
                    Some(top) if top.above == 0 => read(odb, top.file)?,
                    _ => None,
                };
                self.macros.get_or_init(|| Macros::of(self.attribute, top.as_deref().unwrap_or_default()))
            }
        };
        let mut search = Search::new(macros);
        // The nearest file has the first word.
        for one in files.iter().rev() {
            match self.rules_of(odb, one, macros, &files)? {
                Some(rules) => search.hear_file(&rules, &path[one.above..]),
                None => search.said = Some(Said::Unread),
            }
            if let Some(said) = search.said {
                return Ok(said);
            }
        }
        Ok(Said::Unspecified)
    }

    /// The files of attributes that may speak of a path, from the top.
    fn files_on_the_way(&self, odb: &Odb<'_>, path: &[u8]) -> Result<Rc<[OnTheWay]>, FoldError> {
        let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        if let Some(asked) = self.last.borrow().as_ref()
            && asked.folder == path[..name]
        {
            return Ok(Rc::clone(&asked.files));
        }
        let mut way = self.last.take().map_or_else(Vec::new, |asked| {
            let is_above = |one: &Above| path[..name].get(..one.above) == asked.folder.get(..one.above);
            asked.way.into_iter().take_while(is_above).collect()
        });
        go_on(odb, self.tree, &path[..name], &mut way)?;
        let files: Rc<[OnTheWay]> = way.iter().filter_map(|one| one.file).collect();
        *self.last.borrow_mut() = Some(Asked { folder: path[..name].to_vec(), way, files: Rc::clone(&files) });
        Ok(files)
    }

    fn rules_of(
        &self,
        odb: &Odb<'_>,
        one: &OnTheWay,
        macros: &Macros,
        way: &[OnTheWay],
    ) -> Result<Option<Rc<Rules>>, FoldError> {
        if let Some((_, known)) = self.files.borrow().files.get(&one.file) {
            return Ok(known.clone());
        }
        let rules = read(odb, one.file)?.and_then(|text| Rules::of(&text, macros)).map(Rc::new);
        self.files.borrow_mut().keep(one.file, (one.bytes, rules.clone()), way);
        Ok(rules)
    }
}

/// How many bytes a file of attributes has; `None` where it is too large to be read.
fn bytes_of(odb: &Odb<'_>, id: Oid) -> Result<Option<usize>, FoldError> {
    let (size, _) = odb.read_header(id).map_err(|error| FoldError::of_read(id, error))?;
    Ok((size <= BYTES_MAX).then_some(size))
}

/// What a file of attributes says; `None` where it is too large to be read.
fn read(odb: &Odb<'_>, id: Oid) -> Result<Option<Vec<u8>>, FoldError> {
    if bytes_of(odb, id)?.is_none() {
        return Ok(None);
    }
    Ok(Some(odb.read(id).map_err(|error| FoldError::of_read(id, error))?.data().to_vec()))
}

/// Git throws longer lines away.
const LINE_BYTES_MAX: usize = 2048;
/// What git takes for blank.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// The lines that say something: a pattern, or the name of a macro behind its mark, and words.
fn lines(text: &[u8]) -> impl Iterator<Item = (String, Vec<String>)> + '_ {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    // Git reads up to the first NUL.
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter(|line| line.len() <= LINE_BYTES_MAX).filter_map(|line| {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_start_matches(BLANK);
        let (pattern, words) = match line.strip_prefix('"').and_then(quoted_pattern) {
            Some(quoted) => quoted,
            None => {
                let end = line.find(BLANK).unwrap_or(line.len());
                (line[..end].to_owned(), &line[end..])
            }
        };
        // Git warns of a pattern that excludes, and takes it for none.
        let says = !pattern.is_empty() && !pattern.starts_with(['#', '!']);
        let words: Vec<String> = words.split(BLANK).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let is_understood = |word: &String| {
            let word = word.strip_prefix(['-', '!']).unwrap_or(word);
            is_name(word.split('=').next().unwrap_or_default())
        };
        (says && words.iter().all(is_understood)).then_some((pattern, words))
    })
}

/// Whether git takes a word for the name of an attribute; of a line with any other nothing counts.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && !name.starts_with('-') && !name.starts_with("builtin_") && name.bytes().all(is_letter)
}

/// A pattern between quotes, as a string of C, and what stands behind it; `None` where it is no such string.
fn quoted_pattern(text: &str) -> Option<(String, &str)> {
    let mut pattern = Vec::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((String::from_utf8_lossy(&pattern).into_owned(), &text[at + 1..])),
            '\\' => {
                let (at, escaped) = characters.next()?;
                pattern.push(match escaped {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' | '"' => u8::try_from(escaped).ok()?,
                    '0'..='3' => {
                        characters.nth(1)?;
                        u8::from_str_radix(text.get(at..at + 3)?, 8).ok()?
                    }
                    _ => return None,
                });
            }
            other => pattern.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    None
}

/// Macros by name: the words that stand for them.
#[derive(Debug)]
struct Macros {
    /// The attribute that is asked about.
    attribute: &'static str,
    by_name: HashMap<String, Vec<String>>,
}

impl Macros {
    /// Those that git knows, and those of the file at the top: the last of a name counts, wherever it is used.
    fn of(attribute: &'static str, text: &[u8]) -> Self {
        let mut by_name = HashMap::from([("binary".to_owned(), vec!["-merge".to_owned()])]);
        let named = |(pattern, words): (String, _)| Some((pattern.strip_prefix("[attr]")?.to_owned(), words));
        by_name.extend(lines(text).filter_map(named));
        Macros { attribute, by_name }
    }

    /// Whether an attribute has a say in what is asked.
    fn matters(&self, name: &str) -> bool {
        name == self.attribute || self.by_name.contains_key(name)
    }
}

/// How files are merged.
const MERGE: &str = "merge";
/// What git makes of a file before it stores it.
const FILTER: &str = "filter";

/// A word of a line: the attribute, and what it is set to.
fn parts(word: &str) -> (&str, Value<'_>) {
    match (word.strip_prefix('-'), word.strip_prefix('!'), word.split_once('=')) {
        (Some(name), ..) => (name, Value::False),
        (_, Some(name), _) => (name, Value::Unspecified),
        (.., Some((name, text))) => (name, Value::Text(text)),
        _ => (word, Value::True),
    }
}

/// What an attribute is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    True,
    False,
    Unspecified,
    Text(&'a str),
}

/// What is said of the attribute in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    True,
    False,
    /// Nothing, or it was taken back.
    Unspecified,
    Text(String),
    /// Nobody here can read it.
    Unread,
}

impl Said {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::True => Said::True,
            Value::False => Said::False,
            Value::Unspecified => Said::Unspecified,
            Value::Text(text) => Said::Text(text.to_owned()),
        }
    }
}

/// The search for what is said of one path. As git does it, it hears the last line first, and of each its last word: an
/// attribute of which something was said is settled, a macro as well, and what a macro stands for is heard where it is set. So each
/// is looked at once, however macros use each other.
struct Search<'a> {
    macros: &'a Macros,
    settled: HashSet<&'a str>,
    /// `None` where nothing was said so far.
    said: Option<Said>,
}

impl<'a> Search<'a> {
    fn new(macros: &'a Macros) -> Self {
        Search { macros, settled: HashSet::new(), said: None }
    }

    /// Hears a file of attributes, which knows the path as `path`. A line of which nobody here knows whether it covers the path says
    /// what loses nothing: that files are merged as a whole, and of filters nothing.
    fn hear_file(&mut self, rules: &Rules, path: &[u8]) {
        for (pattern, words) in rules.lines.iter().rev() {
            match pattern.covers(path) {
                Covers::Yes => self.hear(words),
                Covers::Perhaps if self.macros.attribute == MERGE => self.said = Some(Said::Unread),
                Covers::No | Covers::Perhaps => {}
            }
            if self.said.is_some() {
                return;
            }
        }
    }

    /// Hears the words of one line, and those that its macros stand for.
    fn hear(&mut self, words: &[String]) {
        let macros = self.macros;
        let mut open = vec![words.iter().rev()];
        while let Some(words) = open.last_mut() {
            let Some(word) = words.next() else {
                open.pop();
                continue;
            };
            let (name, value) = parts(word);
            if name == macros.attribute {
                self.said = Some(Said::of(value));
                return;
            }
            let Some((name, stands_for)) = macros.by_name.get_key_value(name) else { continue };
            if self.settled.insert(name) && value == Value::True {
                open.push(stands_for.iter().rev());
            }
        }
    }
}

/// How a file is merged whose attribute is this; `None` where nothing is said after all.
fn way_of(merge: &Said) -> Option<Way> {
    match merge {
        Said::Unread | Said::False => Some(Way::Whole),
        Said::Text(driver) if driver == "binary" => Some(Way::Whole),
        Said::Text(driver) if driver == "union" => Some(Way::Union),
        Said::True | Said::Text(_) => Some(Way::Lines),
        Said::Unspecified => None,
    }
}

/// Whether a pattern of attributes covers a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Covers {
    Yes,
    No,
    Perhaps,
}

/// The lines of a file that speak of the attribute, in its order.
#[derive(Debug)]
struct Rules {
    lines: Vec<(Pattern, Vec<String>)>,
}

impl Rules {
    /// `None` where they have more patterns than are tried on a path.
    fn of(text: &[u8], macros: &Macros) -> Option<Self> {
        let is_about_it = |words: &[String]| words.iter().any(|word| macros.matters(parts(word).0));
        let spoken = lines(text).filter(|(pattern, words)| !pattern.starts_with("[attr]") && is_about_it(words));
        let lines: Vec<_> = spoken.map(|(pattern, words)| (Pattern::of(pattern), words)).collect();
        let globs = lines.iter().filter(|(pattern, _)| matches!(pattern, Pattern::Glob { .. })).count();
        (globs <= GLOBS_MAX).then_some(Rules { lines })
    }
}

/// What a line is about.
#[derive(Debug)]
enum Pattern {
    /// Files of this name, in whatever folder.
    Name(String),
    /// The file at this path.
    Path(String),
    /// What it covers, it says itself; made ready when it is asked for the first time. `None` within where nobody here can read it.
    Glob { text: String, ready: OnceCell<Option<Gitignore>> },
}

impl Pattern {
    fn of(text: String) -> Self {
        if text.contains(['*', '?', '[', ']', '\\', ' ']) || text.ends_with('/') {
            return Pattern::Glob { text, ready: OnceCell::new() };
        }
        match text.strip_prefix('/') {
            Some(path) => Pattern::Path(path.to_owned()),
            None if text.contains('/') => Pattern::Path(text),
            None => Pattern::Name(text),
        }
    }

    fn covers(&self, path: &[u8]) -> Covers {
        use std::os::unix::ffi::OsStrExt as _;
        let is_covered = match self {
            Pattern::Name(name) => path.rsplit(|&byte| byte == b'/').next() == Some(name.as_bytes()),
            Pattern::Path(whole) => path == whole.as_bytes(),
            Pattern::Glob { text, ready } => {
                let Some(rule) = ready.get_or_init(|| readable(text)) else { return Covers::Perhaps };
                rule.matched(Path::new(std::ffi::OsStr::from_bytes(path)), false).is_ignore()
            }
        };
        if is_covered { Covers::Yes } else { Covers::No }
    }
}

/// A pattern that is no plain name, ready to be tried; `None` where it cannot be read here.
fn readable(pattern: &str) -> Option<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    // Classes of letters by name are git's alone.
    let is_read = pattern.len() <= GLOB_BYTES_MAX && !pattern.contains("[:");
    if !is_read || builder.add_line(None, &without_braces(pattern)).is_err() {
        return None;
    }
    builder.build().ok()
}

/// Braces mean themselves to git, and alternatives to whoever reads the pattern here.
fn without_braces(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if matches!(character, '{' | '}') {
            plain.push('\\');
        }
        plain.push(character);
        if character == '\\' {
            plain.extend(characters.next());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{self, Entry};

    fn check(text: &str, path: &str, expected: Option<Option<Way>>) {
        let macros = Macros::of(MERGE, text.as_bytes());
        let mut search = Search::new(&macros);
        search.hear_file(&Rules::of(text.as_bytes(), &macros).expect("few globs"), path.as_bytes());
        assert_eq!(search.said.as_ref().map(way_of), expected, "{text:?} {path}");
    }

    #[test]
    fn the_last_line_that_covers_a_path_and_speaks_of_merging_decides() {
        let (whole, lines, taken_back) = (Some(Some(Way::Whole)), Some(Some(Way::Lines)), Some(None));
        check("f -merge", "f", whole);
        check("f -merge", "g", None);
        check("*.lock binary", "a/b.lock", whole);
        check("/b.lock binary", "a/b.lock", None);
        check("a/*.lock merge=binary", "a/b.lock", whole);
        check("* -merge\nf merge", "f", lines);
        check("* -merge\nf !merge", "f", taken_back);
        check("* -merge\nf text", "f", whole);
        check("f merge=union", "f", Some(Some(Way::Union)));
        check("f merge=union\nf merge=other", "f", lines);
        check("[attr]joined merge=union\nf joined", "f", Some(Some(Way::Union)));
        check("f -merge merge", "f", lines);
        check("[attr]kept -merge -diff\nf kept", "f", whole);
        check("[attr]kept -diff\nf kept", "f", None);
        check("\"a b\" -merge", "a b", whole);
        check("# f -merge\n!f -merge\n  f -merge  \r\n", "f", whole);
        check("# f -merge\n!f -merge", "f", None);
        check("folder/ -merge", "folder/f", None);
        check("folder/** -merge", "folder/a/f", whole);
        check("{a,b} -merge", "a", None);
        check("{a,b} -merge", "{a,b}", whole);
        check("a/b -merge", "a/b", whole);
        check("a/b -merge", "c/a/b", None);
        check("b -merge", "c/a/b", whole);
        check("/a/b -merge", "a/b", whole);
        check("a -merge", "a/b", None);
        check("folder/ -merge", "folder", None);
    }

    #[test]
    fn the_filter_of_a_file_is_found_as_git_finds_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init_bare(folder.path()).expect("an empty repository");
        let odb = git.odb().expect("its object store");
        let top = "[attr]big filter=lfs diff=lfs merge=lfs -text\n*.bin big\n*.key filter=git-crypt\nplain.key !filter\n\
                   off.key -filter\nset filter\n[[:alpha:]].odd filter=x\n* text\n";
        let file = |text: &str| {
            let id = odb.write(git2::ObjectType::Blob, text.as_bytes()).expect("space");
            Some(Entry { mode: tree::FILE, id })
        };
        let files = [(NAME.to_vec(), file(top)), (b"d/.gitattributes".to_vec(), file("*.txt filter=here\n"))];
        let tree = tree::edit(&odb, None, &files.into_iter().collect()).expect("legal").expect("it has files");
        let attributes = Attributes::of_filters(tree);
        for (path, expected) in [
            ("a.bin", Some("lfs")),
            ("new/er/a.bin", Some("lfs")),
            ("a.key", Some("git-crypt")),
            ("d/a.key", Some("git-crypt")),
            ("d/a.txt", Some("here")),
            ("d/e/a.txt", Some("here")),
            ("a.txt", None),
            ("plain.key", None),
            ("off.key", None),
            ("set", None),
            ("a.odd", None),
        ] {
            assert_eq!(attributes.filter(&odb, path.as_bytes()).expect("readable").as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_is_made_ready_once_however_many_paths_are_asked_about() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init_bare(folder.path()).expect("an empty repository");
        let odb = git.odb().expect("its object store");
        let of = |text: &str| {
            let id = odb.write(git2::ObjectType::Blob, text.as_bytes()).expect("space");
            let attributes = [(NAME.to_vec(), Some(Entry { mode: tree::FILE, id }))].into_iter().collect();
            Attributes::of(tree::edit(&odb, None, &attributes).expect("legal").expect("it has a file"))
        };
        let plain: String = (0..50_000).map(|n| format!("d/f{n} -merge\n")).collect();
        let globs = |count: usize| (0..count).map(|n| format!("[a]{n}*c -merge\n")).collect::<String>();
        let many = of(&format!("{plain}{}", globs(GLOBS_MAX)));
        for n in 0..50 {
            assert_eq!(many.way(&odb, format!("g/f{n}").as_bytes()).expect("readable"), Way::Lines);
        }
        assert_eq!(many.way(&odb, b"d/f17").expect("readable"), Way::Whole);
        assert_eq!(many.files.borrow().files.len(), 1, "it was read once");
        let too_many = of(&globs(GLOBS_MAX + 1));
        assert_eq!(too_many.way(&odb, b"g/f").expect("readable"), Way::Whole);
    }

    #[test]
    fn however_many_files_speak_only_so_much_is_kept_and_what_has_more_above_it_is_merged_as_a_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init_bare(folder.path()).expect("an empty repository");
        let odb = git.odb().expect("its object store");
        let file_of = |n: usize| {
            let text = format!("# {n}\nf{n} -merge\n#{}\n", "x".repeat(BYTES_MAX / 2));
            let id = odb.write(git2::ObjectType::Blob, text.as_bytes()).expect("space");
            Some(Entry { mode: tree::FILE, id })
        };
        let made = |folders: Vec<String>| {
            let path = |folder: &String| [folder.as_bytes(), NAME].concat();
            let files = folders.iter().enumerate().map(|(n, folder)| (path(folder), file_of(n))).collect();
            Attributes::of(tree::edit(&odb, None, &files).expect("legal").expect("it has a file"))
        };
        // Files beside each other, as many as are too much together.
        let wide = made((0..20).map(|n| format!("d{n:02}/")).chain([String::new()]).collect());
        for n in 0..20 {
            for (name, expected) in [(n, Way::Whole), (n + 1, if n == 19 { Way::Whole } else { Way::Lines })] {
                assert_eq!(wide.way(&odb, format!("d{n:02}/f{name}").as_bytes()).expect("readable"), expected, "{n}");
            }
            let kept = wide.files.borrow();
            assert_eq!(kept.bytes, kept.files.values().map(|(bytes, _)| bytes).sum::<usize>());
            assert!(kept.bytes <= KEPT_BYTES_MAX, "{}", kept.bytes);
        }
        // And in each other.
        for (count, expected) in [(7, Way::Lines), (8, Way::Whole)] {
            let deep = made((0..count).map(|n| "d/".repeat(n)).collect());
            let path = format!("{}g", "d/".repeat(count - 1));
            assert_eq!(deep.way(&odb, path.as_bytes()).expect("readable"), expected, "{count}");
        }
    }

    #[test]
    fn macros_in_macros_are_each_looked_at_once() {
        let level = |n: usize| format!("[attr]m{n} {}\n", vec![format!("m{}", n + 1); 60].join(" "));
        let mut text: String = (0..31).map(level).collect();
        text.push_str("f -merge\nf m0\n");
        check(&text, "f", Some(Some(Way::Whole)));
        let deep: String = (0..30_000).map(|n| format!("[attr]m{n} m{}\n", n + 1)).collect();
        check(&format!("{deep}[attr]m30000 -merge\nf m0\n"), "f", Some(Some(Way::Whole)));
    }

    #[test]
    fn what_git_reads_otherwise_than_it_looks_is_read_as_git_does() {
        let whole = Some(Some(Way::Whole));
        check("\u{feff}f -merge", "f", whole);
        check("[attr]a b\n[attr]b -merge\nf a", "f", whole);
        check("[attr]a a\nf a", "f", None);
        check("[attr]a b -merge\n[attr]b a\nf b", "f", whole);
        check("* binary\nf -binary", "f", None);
        check("* binary\nf !binary", "f", None);
        check("* binary\nf binary=x", "f", None);
        check("f merge=union binary", "f", whole);
        check("f binary merge=union", "f", Some(Some(Way::Union)));
        check("[[:alpha:]] -merge", "f", whole);
        check("f -merge\n[[:alpha:]] merge", "f", whole);
        check("\"\\146\" -merge", "f", whole);
        check("\"a\\tb\" -merge", "a\tb", whole);
        check("f -merge\nf a@b merge", "f", whole);
        check("f -merge\nf builtin_x merge", "f", whole);
        check("f -merge\0x\nf merge", "f", whole);
        check(&format!("f -merge\nf merge {}", "x".repeat(2050)), "f", whole);
        check("f -merge\nf\u{b}merge", "f", whole);
    }
}
