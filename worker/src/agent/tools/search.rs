//! Finding files and lines in the worktree: what git ignores is passed over, and every answer is bounded.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use globset::GlobBuilder;
use ignore::WalkBuilder;
use regex::bytes::{Regex, RegexBuilder};
use swarm_protocol::glob_bounds;

use super::{Refused, ToolResult, bounded};

/// Files that are named.
const FILES_MAX: usize = 200;
/// Lines that are shown.
const LINES_MAX: usize = 200;
/// Files that are looked at.
const LOOKED_AT_MAX: usize = 200_000;
/// The longest file that is searched as a whole, in bytes; a longer one is searched line by line.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// As much of a longer file is searched, in bytes.
const LARGE_BYTES_MAX: u64 = 64 << 20;
/// As much of all longer files together.
const LARGE_BYTES_ALL_MAX: u64 = 256 << 20;
/// The longest line of a longer file, in bytes: a file with such a one has no lines.
const LARGE_LINE_BYTES_MAX: u64 = 1 << 20;
/// Files that are named when they were not searched to their end.
const UNSEARCHED_NAMED_MAX: usize = 10;
/// The longest line that is shown whole, in bytes.
const LINE_BYTES_MAX: usize = 300;
/// The largest compiled expression, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Says of a path below the worktree whether it is passed over.
pub type Hidden = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The files that are searched.
#[derive(Clone)]
pub struct Tree {
    root: PathBuf,
    hidden: Hidden,
}

impl Tree {
    /// All files below `root` that are not hidden.
    pub fn new(root: &Path, hidden: Hidden) -> Tree {
        Tree { root: root.to_owned(), hidden }
    }

    /// All files below `root`.
    pub fn all(root: &Path) -> Tree {
        Tree::new(root, Arc::new(|_| false))
    }

    /// The worktree.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Files below `root` whose paths match a glob, newest first.
///
/// # Errors
/// [`Refused`] for a glob that cannot be read.
pub fn glob(tree: &Tree, pattern: &str) -> ToolResult {
    let glob = matcher(pattern)?;
    let mut found: Vec<(SystemTime, String)> = vec![];
    let looked = walk(tree, "", &mut |path, entry| {
        if glob.is_match(path) {
            let changed = entry.metadata().ok().and_then(|facts| facts.modified().ok());
            found.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), path.to_owned()));
        }
        true
    });
    if found.is_empty() {
        return Ok(format!("no file matches `{pattern}`{}", looked.note()));
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let more = found.len().saturating_sub(FILES_MAX);
    let mut shown: String = found.into_iter().take(FILES_MAX).map(|(_, path)| path + "\n").collect();
    if more > 0 {
        shown.push_str(&format!("[{more} more; narrow the glob]\n"));
    }
    Ok(shown + &looked.note())
}

/// What `grep` looks for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// A regular expression over one line.
    pub pattern: &'a str,
    /// Only in files whose paths match this glob.
    pub within: Option<&'a str>,
    /// Whether upper and lower case are the same.
    pub case: Case,
    /// What is shown.
    pub show: Show,
}

/// Whether upper and lower case are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They are not.
    Sensitive,
    /// They are.
    Insensitive,
}

/// What is shown of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Each line, with its file and number.
    Lines,
    /// The files alone.
    Files,
}

/// Lines below `root` that match. Files are searched as bytes, whatever they are written in; one that holds a NUL is no text, and
/// only said to match.
///
/// # Errors
/// [`Refused`] for an expression or a glob that cannot be read.
pub fn grep(tree: &Tree, search: &Search<'_>) -> ToolResult {
    let expression = RegexBuilder::new(search.pattern)
        .case_insensitive(search.case == Case::Insensitive)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| Refused(format!("`{}` is no regular expression: {error}", search.pattern)))?;
    let within = search.within.map(matcher).transpose()?;
    let (mut matches, mut large) = (Matches::of(&expression, search.show), Large::default());
    let looked = walk(tree, "", &mut |path, entry| {
        if within.as_ref().is_some_and(|within| !within.is_match(path)) {
            return true;
        }
        matches.begin();
        if entry.metadata().is_ok_and(|facts| facts.len() > FILE_BYTES_MAX) {
            large.search(path, entry.path(), &mut |number, line| matches.look(path, number, line));
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            let bytes = as_bytes_of_text(&bytes);
            matches.is_text = !bytes.contains(&0);
            let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
            let _ = lines.map(|(at, line)| matches.look(path, at + 1, line)).take_while(|goes_on| *goes_on).count();
        }
        matches.end(path)
    });
    if matches.count == 0 {
        return Ok(format!("nothing matches `{}`{}{}", search.pattern, looked.note(), large.note()));
    }
    Ok(matches.said() + &looked.note() + &large.note())
}

/// UTF-16 with its mark as UTF-8, anything else as it is.
fn as_bytes_of_text(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (little, rest) = match bytes {
        [0xff, 0xfe, rest @ ..] => (true, rest),
        [0xfe, 0xff, rest @ ..] => (false, rest),
        _ => return Cow::Borrowed(bytes),
    };
    let units = rest.chunks_exact(2).map(|pair| match little {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => u16::from_be_bytes([pair[0], pair[1]]),
    });
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Cow::Owned(text.into_bytes())
}

/// What was found so far.
struct Matches<'a> {
    expression: &'a Regex,
    show: Show,
    shown: String,
    /// Lines in all files, and in the one that is looked at.
    count: usize,
    here: usize,
    files: usize,
    /// The file that is looked at held no NUL so far.
    is_text: bool,
}

impl<'a> Matches<'a> {
    fn of(expression: &'a Regex, show: Show) -> Matches<'a> {
        Matches { expression, show, shown: String::new(), count: 0, here: 0, files: 0, is_text: true }
    }

    fn begin(&mut self) {
        (self.here, self.is_text) = (0, true);
    }

    /// Looks at a line, with or without its end; whether to go on with the file.
    fn look(&mut self, path: &str, number: usize, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.is_text &= !line.contains(&0);
        let is_match = self.expression.is_match(line);
        if is_match {
            self.here += 1;
            if self.show == Show::Lines && self.count < LINES_MAX {
                let line = match self.is_text {
                    true => format!(
                        "{path}:{number}:{}\n",
                        bounded(&String::from_utf8_lossy(line), LINE_BYTES_MAX).replace('\n', " ")
                    ),
                    false => format!("{path}: a binary file matches\n"),
                };
                self.shown.push_str(&line);
            }
            self.count += 1;
        }
        (self.is_text || !is_match) && self.goes_on()
    }

    /// Takes the file in; whether to go on with the next.
    fn end(&mut self, path: &str) -> bool {
        if self.here > 0 {
            self.files += 1;
            if self.show == Show::Files && self.files <= FILES_MAX {
                self.shown.push_str(&format!("{path} ({})\n", self.here));
            }
        }
        self.goes_on()
    }

    fn goes_on(&self) -> bool {
        self.count <= LINES_MAX || self.show == Show::Files
    }

    fn said(self) -> String {
        let more = match self.show {
            Show::Lines if self.count > LINES_MAX => {
                format!("[more than {LINES_MAX} lines match; narrow the search]\n")
            }
            Show::Files if self.files > FILES_MAX => {
                format!("[{} more files; narrow the search]\n", self.files - FILES_MAX)
            }
            Show::Lines | Show::Files => String::new(),
        };
        self.shown + &more
    }
}

/// Files that are too long to be searched as a whole.
#[derive(Default)]
struct Large {
    /// Bytes of them that were read.
    read: u64,
    /// Those that were not searched to their end, each with the reason.
    unsearched: Vec<String>,
}

impl Large {
    /// Looks at the lines of one until `look` says no.
    fn search(&mut self, path: &str, place: &Path, look: &mut dyn FnMut(usize, &[u8]) -> bool) {
        let most = LARGE_BYTES_MAX.min(LARGE_BYTES_ALL_MAX.saturating_sub(self.read));
        let Ok(file) = File::open(place) else { return };
        let mut lines = BufReader::new(file.take(most));
        let (mut bytes, mut number, mut read) = (vec![], 0, 0);
        loop {
            bytes.clear();
            match (&mut lines).take(LARGE_LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(more) => read += more as u64,
                Err(_) => return,
            }
            number += 1;
            if bytes.len() as u64 == LARGE_LINE_BYTES_MAX {
                self.unsearched.push(format!("{path} (from line {number} on, which is longer than 1 MiB)"));
                break;
            }
            if !look(number, &bytes) {
                break;
            }
        }
        self.read += read;
        if read == most {
            self.unsearched.push(format!("{path} (behind its first {} MiB)", most >> 20));
        }
    }

    fn note(&self) -> String {
        match self.unsearched.len() {
            0 => String::new(),
            n => {
                let named = self.unsearched.iter().take(UNSEARCHED_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
                let more = if n > UNSEARCHED_NAMED_MAX {
                    format!(" and {} more", n - UNSEARCHED_NAMED_MAX)
                } else {
                    String::new()
                };
                format!("\n[not searched: {named}{more}; look there with `bash`]\n")
            }
        }
    }
}

fn matcher(pattern: &str) -> Result<globset::GlobMatcher, Refused> {
    glob_bounds::check(pattern).map_err(|error| Refused(format!("this is no glob: {error}")))?;
    // A pattern without a folder means files anywhere.
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
    Ok(glob.map_err(|error| Refused(format!("`{pattern}` is no glob: {}", error.kind())))?.compile_matcher())
}

/// How far a walk came.
#[derive(PartialEq, Eq)]
enum Looked {
    Everywhere,
    Partly,
    /// What git ignores cannot be read.
    Nowhere,
}

impl Looked {
    fn note(&self) -> String {
        match self {
            Looked::Everywhere => String::new(),
            Looked::Partly => format!(" [only {LOOKED_AT_MAX} files were looked at]\n"),
            Looked::Nowhere => " [its .gitignore has lines that nobody reads; look there with `bash`]\n".to_owned(),
        }
    }
}

/// Visits all files below a folder that git does not ignore, in order, with their paths below the worktree.
pub fn each_file(tree: &Tree, folder: &str, visit: &mut dyn FnMut(&str, &ignore::DirEntry)) {
    walk(tree, folder, &mut |path, entry| {
        visit(path, entry);
        true
    });
}

/// Whether what git ignores in a folder may be read by who walks through it.
fn may_be_walked(folder: &Path) -> bool {
    glob_bounds::are_lists_bounded(|name| {
        let list = folder.join(name);
        list.metadata().is_ok_and(|it| it.is_file()).then(|| std::fs::read(list))
    })
}

/// Visits files with their paths below the worktree, in order, until `visit` says no. A folder whose list of what git ignores
/// nobody reads is passed over.
fn walk(tree: &Tree, folder: &str, visit: &mut dyn FnMut(&str, &ignore::DirEntry) -> bool) -> Looked {
    let from = tree.root.join(folder);
    if !may_be_walked(&from) {
        return Looked::Nowhere;
    }
    let walk = WalkBuilder::new(from)
        .hidden(false)
        .parents(false)
        .require_git(false)
        .git_global(false)
        .filter_entry(|entry| {
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            entry.file_name() != ".git" && (!is_folder || may_be_walked(entry.path()))
        })
        .sort_by_file_path(|a, b| a.cmp(b))
        .build();
    let files = walk.flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
    for (n, entry) in files.enumerate() {
        if n >= LOOKED_AT_MAX {
            return Looked::Partly;
        }
        let Some(path) = entry.path().strip_prefix(&tree.root).ok().and_then(Path::to_str) else { continue };
        if (tree.hidden)(path) {
            continue;
        }
        if !visit(path, &entry) {
            break;
        }
    }
    Looked::Everywhere
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worktree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("src/a.rs", "fn a() {}\nfn Alpha() {}\n"),
            ("src/b.txt", "fn b\n"),
            (".gitignore", "target\n"),
            ("target/x.rs", "fn x() {}\n"),
            (".git/config", "fn no\n"),
            ("bin", "fn\0\u{1}"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn search(pattern: &str) -> Search<'_> {
        Search { pattern, within: None, case: Case::Sensitive, show: Show::Lines }
    }

    #[test]
    fn what_git_ignores_is_passed_over() {
        let folder = worktree();
        assert_eq!(glob(&Tree::all(folder.path()), "*.rs").unwrap(), "src/a.rs\n");
        let lines = grep(&Tree::all(folder.path()), &search(r"fn \w+\(")).unwrap();
        assert_eq!(lines, "src/a.rs:1:fn a() {}\nsrc/a.rs:2:fn Alpha() {}\n");
    }

    #[test]
    fn a_list_of_what_git_ignores_overflows_no_stack() {
        let folder = worktree();
        let deep = format!("{}a{}\n", "{".repeat(20_000), "}".repeat(20_000));
        std::fs::write(folder.path().join("src/.gitignore"), &deep).unwrap();
        std::fs::write(folder.path().join("c.rs"), "").unwrap();
        assert_eq!(glob(&Tree::all(folder.path()), "*.rs").unwrap(), "c.rs\n");
        std::fs::write(folder.path().join(".gitignore"), &deep).unwrap();
        assert!(glob(&Tree::all(folder.path()), "*.rs").unwrap().contains("lines that nobody reads"));
    }

    #[test]
    fn a_glob_that_nobody_compiles_is_refused() {
        let folder = worktree();
        let deep = format!("{}a{}", "{".repeat(8000), "}".repeat(8000));
        for pattern in [deep, format!("{}a{}", "{a,".repeat(200), "}".repeat(200)), "?".repeat(1 << 20)] {
            let why = glob(&Tree::all(folder.path()), &pattern).unwrap_err().0;
            assert!(why.starts_with("this is no glob: "), "{why}");
            assert!(grep(&Tree::all(folder.path()), &Search { within: Some(&pattern), ..search("fn") }).is_err());
        }
        assert_eq!(glob(&Tree::all(folder.path()), "{src/{a,b},x}.rs").unwrap(), "src/a.rs\n");
    }

    #[test]
    fn a_search_is_narrowed_and_counted() {
        let folder = worktree();
        let narrow = Search { within: Some("src/*.txt"), ..search("fn") };
        assert_eq!(grep(&Tree::all(folder.path()), &narrow).unwrap(), "src/b.txt:1:fn b\n");
        let files = Search { show: Show::Files, case: Case::Insensitive, ..search("ALPHA") };
        assert_eq!(grep(&Tree::all(folder.path()), &files).unwrap(), "src/a.rs (1)\n");
        assert!(grep(&Tree::all(folder.path()), &search("nowhere")).unwrap().starts_with("nothing matches"));
    }

    #[test]
    fn a_large_file_is_searched_line_by_line_and_what_is_not_is_said() {
        let folder = worktree();
        let put = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        put("large.txt", "line\n".repeat(1_000_000) + "needle\n");
        put("wide.txt", "x".repeat(5 << 20) + "\nneedle\n");
        let tree = Tree::all(folder.path());
        let said = grep(&tree, &search("needle")).unwrap();
        let behind =
            "\n[not searched: wide.txt (from line 1 on, which is longer than 1 MiB); look there with `bash`]\n";
        assert_eq!(said, format!("large.txt:1000001:needle\n{behind}"));
        assert_eq!(grep(&tree, &search("nowhere")).unwrap(), format!("nothing matches `nowhere`{behind}"));
        let many = grep(&tree, &Search { within: Some("large.txt"), ..search("line") }).unwrap();
        assert!(many.ends_with("[more than 200 lines match; narrow the search]\n"), "{}", &many[many.len() - 99..]);
    }

    #[test]
    fn files_are_searched_whatever_they_are_written_in() {
        let folder = worktree();
        let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        put("latin1.c", b"/* gr\xfc\xdfe */\nint needle;\r\n");
        let utf16: Vec<u8> = "a\nneedle \u{e9}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        put("utf16.rc", &[b"\xff\xfe".as_slice(), &utf16].concat());
        put("x.o", b"\x7fELF\0\0needle\0\nneedle\n");
        let large = [b"gr\xfc\xdfe\n".repeat(1_000_000).as_slice(), b"needle\n\0\nneedle\nneedle\n"].concat();
        put("z-large.txt", &large);
        let tree = Tree::all(folder.path());
        assert_eq!(
            grep(&tree, &search("needle")).unwrap(),
            "latin1.c:2:int needle;\nutf16.rc:2:needle \u{e9}\nx.o: a binary file matches\nz-large.txt:1000001:needle\n\
             z-large.txt: a binary file matches\n"
        );
        let files = Search { show: Show::Files, within: Some("*.c"), ..search("gr.*e") };
        assert_eq!(grep(&tree, &files).unwrap(), "nothing matches `gr.*e`", "a dot is a letter");
        assert_eq!(grep(&tree, &Search { pattern: "gr", ..files }).unwrap(), "latin1.c (1)\n");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let folder = worktree();
        assert!(grep(&Tree::all(folder.path()), &search("(")).is_err());
        assert!(glob(&Tree::all(folder.path()), "[").is_err());
    }

    #[test]
    fn what_may_not_be_read_is_not_found_either() {
        let folder = worktree();
        let tree = Tree::new(folder.path(), Arc::new(|path| path.ends_with("b.txt")));
        assert_eq!(grep(&tree, &search("fn b")).unwrap(), "nothing matches `fn b`");
        assert_eq!(glob(&tree, "*.txt").unwrap(), "no file matches `*.txt`");
        assert!(glob(&tree, "*.rs").is_ok_and(|found| found.contains("a.rs")));
    }
}
