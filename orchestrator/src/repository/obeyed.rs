//! What in a work tree git obeys, because the repository's configuration or a hook in `.git` names it: a file that is included, a folder of
//! hooks, a filter's script, what a hook leads to or calls. Whoever changes such a file has the next command of git run what it says, like a hook in `.git` itself; of
//! files that git obeys by their name alone `collect/self_running.rs` knows.
//!
//! Read generously: a value is taken for a path, and each of its words, too, whatever the key, and every include is followed, whatever
//! its condition. A path too much is named to a person once more than needed. What stands behind an expansion of a shell
//! (`$(git rev-parse --show-toplevel)/tools/clean`, `$PWD/x`) is one of the work tree, and with `GIT_PREFIX` in the value of any folder in
//! it; what only a shell could make out of a command line (`sh -c "$(cat x)"`) is not found.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

use super::{Repository, RepositoryError, read_small, shared_settings};

/// Hooks that are looked into; git knows some thirty.
const HOOKS_MAX: usize = 100;
/// Config files that are read; git follows 10 includes in one another.
const FILES_MAX: usize = 64;
/// Sections whose values are names and places, and nothing that git reads or runs.
const PLACES_ONLY: &[&str] = &["user", "safe", "maintenance", "scalar", "gui"];
/// In a value with this variable the paths may be relative to any folder.
const OF_THE_CALLER: &str = "GIT_PREFIX";
/// Paths that are kept.
const PATHS_MAX: usize = 1_000;

/// Paths below a work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obeyed {
    /// With all that lies in them.
    trees: BTreeSet<PathBuf>,
    /// Words that may be a file: nothing that lies in a folder of that name.
    files: BTreeSet<PathBuf>,
    /// Words that may be a file in any folder: where somebody called git from.
    anywhere: BTreeSet<PathBuf>,
    /// Whether that is all.
    is_all: bool,
}

impl Default for Obeyed {
    /// Nothing at all.
    fn default() -> Self {
        Obeyed { trees: BTreeSet::new(), files: BTreeSet::new(), anywhere: BTreeSet::new(), is_all: true }
    }
}

impl Obeyed {
    /// Whether that is all that git obeys by its configuration and hooks: not where this names more than is kept, or could not be read to its end.
    pub fn is_all(&self) -> bool {
        self.is_all
    }

    /// Whether git obeys a path below the work tree.
    pub fn covers(&self, path: &Path) -> bool {
        self.files.contains(path)
            || self.anywhere.iter().any(|end| path.ends_with(end))
            || path.ancestors().any(|above| self.trees.contains(above))
    }

    /// Files, and folders with all that lies in them, sorted.
    pub fn trees(&self) -> impl Iterator<Item = &Path> {
        self.trees.iter().map(PathBuf::as_path)
    }

    /// Ends of paths of files, sorted.
    pub fn anywhere(&self) -> impl Iterator<Item = &Path> {
        self.anywhere.iter().map(PathBuf::as_path)
    }

    /// What is obeyed where it is a file, sorted.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}

impl Repository {
    /// What of the checkout git obeys by configuration (the repository's own, the person's and the machine's) and by the hooks in `.git`. `home` is for `~/`.
    /// What is not there, or what the person may not read, names nothing to their git; of what else cannot be read to its end nobody knows
    /// what it names ([`Obeyed::is_all`]).
    pub fn obeyed(&self, home: &Path) -> Obeyed {
        let Some(root) = self.workdir() else { return Obeyed::default() };
        let own = [self.common_dir().join("config"), self.git_dir().join("config.worktree")];
        let files = own.into_iter().chain(shared_settings::files()).collect();
        let places = Places { root, home };
        let mut obeyed = obeyed_by(files, places, &|path| known_of(read_small(path)));
        obeyed.add_hooks(&self.common_dir().join("hooks"), places);
        obeyed
    }
}

impl Obeyed {
    /// What the hooks of a folder lead to, and what they name.
    fn add_hooks(&mut self, folder: &Path, places: Places<'_>) {
        let hooks = folder.read_dir().into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let mut hooks = hooks.filter(|path| path.extension().is_none_or(|end| end != "sample"));
        for hook in hooks.by_ref().take(HOOKS_MAX) {
            self.trees.extend(hook.to_str().into_iter().flat_map(|path| places.below(path, folder)));
            // What is longer than such files are is no script.
            let Some(text) = known_of(read_small(&hook)) else { continue };
            for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.trim_start().starts_with('#')) {
                self.add_command(line, places);
            }
        }
        self.is_all &= hooks.next().is_none();
    }

    /// What a command line names; what is called behind a `cd` lies in that folder.
    fn add_command(&mut self, command: &str, places: Places<'_>) {
        if self.trees.len() + self.files.len() + self.anywhere.len() >= PATHS_MAX {
            self.is_all = false;
            return;
        }
        let mut before = "";
        for word in words(command) {
            let below = places.below(word, places.root).into_iter().filter(|below| below != Path::new(""));
            match word.contains('/') || before == "cd" {
                true => self.trees.extend(below),
                false => self.files.extend(below),
            }
            before = word;
        }
    }
}

/// What a config says; `None` where nobody knows.
fn known_of(read: Result<Vec<u8>, RepositoryError>) -> Option<Vec<u8>> {
    use std::io::ErrorKind::{IsADirectory, PermissionDenied};
    match read {
        Err(RepositoryError::Io { source, .. }) if matches!(source.kind(), IsADirectory | PermissionDenied) => {
            Some(Vec::new())
        }
        read => read.ok(),
    }
}

/// What paths are relative to.
#[derive(Debug, Clone, Copy)]
struct Places<'a> {
    /// The work tree, canonical.
    root: &'a Path,
    home: &'a Path,
}

impl Places<'_> {
    /// A path of a config as one below the work tree: as it is written, and where its links lead.
    fn below(self, text: &str, relative_to: &Path) -> Vec<PathBuf> {
        let path = match text.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => relative_to.join(text),
        };
        let real = path.canonicalize().ok();
        let all = [Some(plain(&path)), real].into_iter().flatten();
        let below = all.filter_map(|path| Some(path.strip_prefix(self.root).ok()?.to_owned()));
        // What lies in the repository itself nobody writes.
        below.filter(|below| !below.starts_with(".git")).collect()
    }
}

/// Without `.` and `..`, as if no part were a link.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

fn obeyed_by(files: Vec<PathBuf>, places: Places<'_>, read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Obeyed {
    let (mut obeyed, mut waiting, mut seen) = (Obeyed::default(), files, HashSet::new());
    while let Some(file) = waiting.pop() {
        if seen.contains(&file) {
            continue;
        }
        let text = if seen.len() < FILES_MAX { read(&file) } else { None };
        let Some(text) = text else {
            obeyed.is_all = false;
            continue;
        };
        seen.insert(file.clone());
        let text = String::from_utf8_lossy(&text).into_owned();
        let folder = file.parent().unwrap_or(places.root);
        for Entry { section, key, value } in entries(&text) {
            if obeyed.trees.len() + obeyed.files.len() + obeyed.anywhere.len() >= PATHS_MAX {
                obeyed.is_all = false;
                return obeyed;
            }
            if matches!(&*section, "include" | "includeif") {
                let path = value.strip_prefix("~/").map_or_else(|| folder.join(&value), |rest| places.home.join(rest));
                waiting.push(plain(&path));
                obeyed.trees.extend(places.below(&value, folder));
                continue;
            }
            if PLACES_ONLY.contains(&&*section) {
                continue;
            }
            // `hooksPath`, `attributesFile`, `templateDir`: the whole value, the work tree itself among them.
            if ["path", "file", "dir"].iter().any(|end| key.ends_with(end)) {
                obeyed.trees.extend(places.below(&value, places.root));
            }
            if value.contains(OF_THE_CALLER) {
                obeyed.anywhere.extend(words(&value).filter(|word| word.contains(['/', '.'])).filter_map(end_of_path));
            }
            obeyed.add_command(&value, places);
        }
    }
    obeyed
}

/// The words of a command line: where one stands behind an expansion of a shell, also what it is below that.
fn words(value: &str) -> impl Iterator<Item = &str> {
    let is_between = |c: char| c.is_whitespace() || "'\"!;|&()<>=`$,{}".contains(c);
    let mut at = 0;
    value.split(is_between).flat_map(move |word| {
        let before = value[..at].chars().next_back();
        at += word.len() + value[at + word.len()..].chars().next().map_or(0, char::len_utf8);
        let behind = match before {
            Some('$') => word.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'),
            Some(')' | '}' | '`' | '"' | '\'') => word,
            _ => "",
        };
        [Some(word), behind.strip_prefix('/')].into_iter().flatten()
    })
}

/// A word as the end of a path; `None` where it says nothing of one.
fn end_of_path(word: &str) -> Option<PathBuf> {
    let end = plain(Path::new(word.trim_start_matches('/')));
    end.file_name().is_some().then_some(end)
}

/// A line of a config.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Its first word, in small letters.
    section: String,
    /// In small letters.
    key: String,
    value: String,
}

/// The entries of a config that have a value. Source: git-config(1), "Syntax"; what git would stop at is passed by.
fn entries(text: &str) -> Vec<Entry> {
    let (mut found, mut section) = (Vec::new(), String::new());
    let mut rest = text;
    while !rest.is_empty() {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if let Some(head) = rest.strip_prefix('[') {
            let name = head.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default();
            section = name.to_ascii_lowercase();
            rest = behind_head(head);
            continue;
        }
        let line_end = rest.find('\n').unwrap_or(rest.len());
        match rest[..line_end].split_once('=') {
            Some((key, _)) if !rest.starts_with(['#', ';']) => {
                let (value, behind) = value(&rest[key.len() + 1..]);
                found.push(Entry { section: section.clone(), key: key.trim().to_ascii_lowercase(), value });
                rest = behind;
            }
            _ => rest = &rest[line_end..],
        }
    }
    found
}

/// What stands behind the `]` of a section, whose name may hold one in quotes.
fn behind_head(head: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in head.char_indices() {
        match letter {
            '\n' => return &head[at..],
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return &head[at + 1..],
            _ => {}
        }
    }
    ""
}

/// A value from behind its `=`, over lines that are continued, without quotes and comments; and what follows it.
fn value(text: &str) -> (String, &str) {
    let (mut value, mut quoted) = (String::new(), false);
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\n' => return (value.trim().to_owned(), &text[at..]),
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => {
                let end = text[at..].find('\n').map_or(text.len(), |line| at + line);
                return (value.trim().to_owned(), &text[end..]);
            }
            '\\' => match letters.next() {
                None | Some((_, '\n')) => {}
                Some((_, 'n' | 't' | 'b')) => value.push(' '),
                Some((_, other)) => value.push(other),
            },
            letter => value.push(letter),
        }
    }
    (value.trim().to_owned(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether git obeys a path of the work tree `/w`, by a config of its repository.
    fn obeys(config: &str, path: &str) -> bool {
        let read = |file: &Path| match file.to_str() {
            Some("/w/.git/config") => config.as_bytes().to_vec(),
            Some("/w/cfg/gitc") => b"[core]\n\thooksPath = from/included\n[include]\n\tpath = more".to_vec(),
            Some("/w/cfg/more") => b"[alias]\n\tx = !scripts/x.sh".to_vec(),
            _ => Vec::new(),
        };
        let read = |file: &Path| Some(read(file));
        let places = Places { root: Path::new("/w"), home: Path::new("/home/me") };
        obeyed_by(vec!["/w/.git/config".into()], places, &read).covers(Path::new(path))
    }

    #[test]
    fn what_a_config_names_in_the_tree_is_obeyed() {
        for (config, path) in [
            ("[include]\n\tpath = ../.gitconfig", ".gitconfig"),
            ("[include]\n\tpath = ../cfg/gitc", "from/included/pre-commit"),
            ("[include]\n\tpath = ../cfg/gitc", "scripts/x.sh"),
            ("[includeIf \"gitdir:]\"]\npath=\"/w/cfg/\\\ngitc\" # x", "cfg/gitc"),
            ("[core] hooksPath = .husky", ".husky/_/pre-commit"),
            ("[core]\n\thooksPath = ./hooks/", "hooks/pre-commit"),
            ("[core]\n\thooksPath = .", "pre-commit"),
            ("[Core]\n\tFSMonitor = sh watch.sh -x", "watch.sh"),
            ("; comment\n[filter \"x\"]\n\tclean = tools/clean --to=cfg/x %f", "cfg/x"),
            ("[alias]\n\tst = \"!f() { ./bin/st \\\"$@\\\"; }; f\"", "bin/st"),
            ("[filter \"x\"]\n\tclean = \"$(git rev-parse --show-toplevel)/tools/clean\"", "tools/clean"),
            ("[filter \"x\"]\n\tclean = `git rev-parse --show-toplevel`/tools/clean", "tools/clean"),
            ("[diff \"x\"]\n\ttextconv = $PWD/tools/show", "tools/show"),
            ("[merge \"x\"]\n\tdriver = \"\\\"${PWD}\\\"/m.sh %O\"", "m.sh"),
            ("[alias]\n\tx = !cd tools && ./hooks/x", "tools/hooks/x"),
            ("[alias]\n\tx = !$GIT_PREFIX/x.sh", "deep/in/x.sh"),
            ("[alias]\n\tx = \"!cd ${GIT_PREFIX:-.} && ./bin/y\"", "deep/bin/y"),
        ] {
            assert!(obeys(config, path), "{config}: {path}");
        }
    }

    #[test]
    fn what_hooks_lead_to_and_what_they_call_is_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in [".git/hooks", "scripts"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("scripts/commit.sh"), "").unwrap();
        std::os::unix::fs::symlink("../../scripts/commit.sh", root.join(".git/hooks/pre-commit")).unwrap();
        let hook = "#!/bin/sh\n# see doc/x\ncd tools && ./lint\nexec ci/push.sh \"$@\"\n";
        std::fs::write(root.join(".git/hooks/pre-push"), hook).unwrap();
        std::fs::write(root.join(".git/hooks/update.sample"), "sample/x").unwrap();
        let mut obeyed = Obeyed::default();
        obeyed.add_hooks(&root.join(".git/hooks"), Places { root: &root, home: Path::new("/home/me") });
        let known = ["scripts/commit.sh", "tools/lint", "ci/push.sh", "doc/x", "sample/x", "src/lib.rs"];
        assert_eq!(known.map(|path| obeyed.covers(Path::new(path))), [true, true, true, false, false, false]);
        assert!(obeyed.is_all());
    }

    /// Whether all is known that git obeys by a config that names such files.
    fn is_all(config: &str) -> bool {
        let read = |file: &Path| match file.to_str() {
            Some("/w/.git/config") => Some(config.as_bytes().to_vec()),
            Some("/w/.git/large") => None,
            _ => Some(Vec::new()),
        };
        let places = Places { root: Path::new("/w"), home: Path::new("/home/me") };
        obeyed_by(vec!["/w/.git/config".into()], places, &read).is_all()
    }

    #[test]
    fn what_is_beyond_a_bound_is_not_passed_by_silently() {
        let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
        let includes = |count| many(count, &|number| format!("[include]\n\tpath = ../c{number}\n"));
        let aliases = |count| many(count, &|number| format!("[alias]\n\tx{number} = !./s/{number}\n"));
        assert!(is_all("[include]\n\tpath = config\n") && is_all(&includes(FILES_MAX - 1)) && is_all(&aliases(500)));
        assert!(!is_all("[include]\n\tpath = large\n"));
        assert!(!is_all(&includes(FILES_MAX)) && !is_all(&aliases(PATHS_MAX + 1)));
    }

    #[test]
    fn nothing_else_is() {
        for (config, path) in [
            ("[core]\n\thooksPath = ../hooks", "hooks/pre-commit"),
            ("[core]\n\teditor = vim\n\tbare = false", "vim/x"),
            ("# [core]\n# hooksPath = .husky", ".husky/x"),
            ("[core]\n\thooksPath = .husky ; x/y", "x/y"),
            (
                "[remote \"origin\"]\n\turl = https://example.org/src/x\n\tfetch = +refs/heads/*:refs/remotes/x/*",
                "src/x",
            ),
            ("[init]\n\tdefaultBranch = src", "src/lib.rs"),
            ("[safe]\n\tdirectory = /w/src", "src/lib.rs"),
            ("[include]\n\tpath = ~/.gitconfig", ".gitconfig"),
            ("[filter \"x\"]\n\tclean = /usr/bin/x", "usr/bin/x"),
            ("[alias]\n\tx = \"!cd $GIT_PREFIX && git status\"", "deep/status"),
        ] {
            assert!(!obeys(config, path), "{config}: {path}");
        }
    }
}
