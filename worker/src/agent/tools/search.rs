//! Finding files and lines in the worktree: what git ignores is passed over, and every answer is bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use globset::GlobBuilder;
use ignore::WalkBuilder;
use regex::RegexBuilder;

use super::{Refused, ToolResult, bounded};

/// Files that are named.
const FILES_MAX: usize = 200;
/// Lines that are shown.
const LINES_MAX: usize = 200;
/// Files that are looked at.
const LOOKED_AT_MAX: usize = 200_000;
/// The longest file that is searched, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
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

/// Lines below `root` that match.
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
    let (mut shown, mut count, mut files) = (String::new(), 0usize, 0usize);
    let looked = walk(tree, "", &mut |path, entry| {
        if within.as_ref().is_some_and(|within| !within.is_match(path)) {
            return true;
        }
        if entry.metadata().is_ok_and(|facts| facts.len() > FILE_BYTES_MAX) {
            return true;
        }
        let Ok(bytes) = std::fs::read(entry.path()) else { return true };
        let Ok(text) = std::str::from_utf8(&bytes) else { return true };
        let mut here = 0;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| expression.is_match(line)) {
            here += 1;
            if search.show == Show::Lines && count < LINES_MAX {
                shown.push_str(&format!(
                    "{path}:{}:{}\n",
                    number + 1,
                    bounded(line, LINE_BYTES_MAX).replace('\n', " ")
                ));
            }
            count += 1;
        }
        if here > 0 {
            files += 1;
            if search.show == Show::Files && files <= FILES_MAX {
                shown.push_str(&format!("{path} ({here})\n"));
            }
        }
        count <= LINES_MAX || search.show == Show::Files
    });
    if count == 0 {
        return Ok(format!("nothing matches `{}`{}", search.pattern, looked.note()));
    }
    match search.show {
        Show::Lines if count > LINES_MAX => {
            shown.push_str(&format!("[more than {LINES_MAX} lines match; narrow the search]\n"))
        }
        Show::Files if files > FILES_MAX => {
            shown.push_str(&format!("[{} more files; narrow the search]\n", files - FILES_MAX))
        }
        Show::Lines | Show::Files => {}
    }
    Ok(shown + &looked.note())
}

fn matcher(pattern: &str) -> Result<globset::GlobMatcher, Refused> {
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
}

impl Looked {
    fn note(&self) -> String {
        match self {
            Looked::Everywhere => String::new(),
            Looked::Partly => format!(" [only {LOOKED_AT_MAX} files were looked at]\n"),
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

/// Visits files with their paths below the worktree, in order, until `visit` says no.
fn walk(tree: &Tree, folder: &str, visit: &mut dyn FnMut(&str, &ignore::DirEntry) -> bool) -> Looked {
    let walk = WalkBuilder::new(tree.root.join(folder))
        .hidden(false)
        .parents(false)
        .require_git(false)
        .git_global(false)
        .filter_entry(|entry| entry.file_name() != ".git")
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
    fn a_search_is_narrowed_and_counted() {
        let folder = worktree();
        let narrow = Search { within: Some("src/*.txt"), ..search("fn") };
        assert_eq!(grep(&Tree::all(folder.path()), &narrow).unwrap(), "src/b.txt:1:fn b\n");
        let files = Search { show: Show::Files, case: Case::Insensitive, ..search("ALPHA") };
        assert_eq!(grep(&Tree::all(folder.path()), &files).unwrap(), "src/a.rs (1)\n");
        assert!(grep(&Tree::all(folder.path()), &search("nowhere")).unwrap().starts_with("nothing matches"));
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
