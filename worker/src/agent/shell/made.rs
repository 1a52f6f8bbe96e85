//! Whether a script may itself have made a file that it has a shell run, and what wrote it.
//!
//! A deny rule has to be proved not to speak of a script, and what lies in a file that the script changes before it runs it cannot be
//! read when the rule is asked. So every command counts as writing each file that its words name, and all that lies in the folders
//! that they name, whatever it is for; programs that unpack, patch or check out count as writing everything. A file is known by its
//! name without its folder, as links and `cd` lead anywhere. Left out are those that are known to write no file's text ([`WRITES_NOT`],
//! what only reads), and those that build ([`BUILDS`]): they run what the worktree holds and could run the command themselves, which
//! no rule promises to see. What a program puts together for a name (`awk '{print > a b}'`) is not followed either.
//!
//! In a call of its own such a file is run as it lies there, and is read then: [`super::held_in`].

use globset::Glob;
use swarm_protocol::glob_bounds;

use super::files::Given;
use super::safe::{only_reads, prints_only};
use super::written::is_for_a_shell;
use super::{Command, Word, unread, unwrap, without_options_of_git};

/// Programs and words of the shell that give no file a text.
const WRITES_NOT: &[&str] = &[
    "[",
    "[[",
    "test",
    ":",
    ".",
    "source",
    "cd",
    "pushd",
    "popd",
    "chmod",
    "chown",
    "chgrp",
    "mkdir",
    "rmdir",
    "rm",
    "unlink",
    "touch",
    "truncate",
    "export",
    "unset",
    "set",
    "shift",
    "local",
    "declare",
    "readonly",
    "typeset",
    "umask",
    "ulimit",
    "wait",
    "kill",
    "sleep",
    "trap",
    "exit",
    "return",
    "hash",
    "alias",
    "printf",
    "read",
    "shellcheck",
    "less",
    "more",
    "pgrep",
    "pkill",
];

/// Programs that build, test or fetch what the worktree's own files say.
const BUILDS: &[&str] = &[
    "make",
    "gmake",
    "cargo",
    "rustc",
    "npm",
    "pnpm",
    "yarn",
    "npx",
    "bun",
    "bunx",
    "deno",
    "node",
    "tsc",
    "go",
    "cmake",
    "ctest",
    "cpack",
    "ninja",
    "samu",
    "meson",
    "just",
    "task",
    "bazel",
    "bazelisk",
    "buck2",
    "gradle",
    "mvn",
    "ant",
    "sbt",
    "rake",
    "bundle",
    "scons",
    "tox",
    "nox",
    "pytest",
    "poetry",
    "pdm",
    "hatch",
    "uv",
    "uvx",
    "pip",
    "pip3",
    "pipx",
    "venv",
    "virtualenv",
    "conda",
    "m4",
    "autoreconf",
    "autoconf",
    "automake",
    "autoheader",
    "aclocal",
    "libtoolize",
    "cc",
    "gcc",
    "g++",
    "c++",
    "clang",
    "clang++",
    "ld",
    "javac",
    "ghc",
    "cabal",
    "stack",
    "zig",
    "swift",
    "dotnet",
    "docker",
    "podman",
    "nix",
    "mix",
    "dune",
    "opam",
    "composer",
];

/// Options by which a compiler hands on the text that it was given.
const HANDS_ON: &[&str] = &["-E", "-P", "--preprocess"];

/// Programs whose last word, or the value of an option, is where they write: a file, or a folder.
const CARRIES: &[&str] = &["cp", "mv", "ln", "link", "install", "dd", "rsync", "scp", "tee", "curl", "wget"];

/// Programs that write files which lie in what they read, or whose names they make.
const UNPACKS: &[&str] = &[
    "unzip",
    "bsdtar",
    "cpio",
    "pax",
    "ar",
    "patch",
    "7z",
    "7za",
    "7zr",
    "unrar",
    "uudecode",
    "unshar",
    "split",
    "csplit",
    "rename",
    "prename",
    "file-rename",
    "mmv",
    "zmv",
    "jar",
    "munpack",
    "ripmime",
];

/// Subcommands of git that change files of the worktree.
const CHECKS_OUT: &[&str] = &[
    "apply",
    "am",
    "checkout",
    "switch",
    "restore",
    "reset",
    "stash",
    "pull",
    "merge",
    "rebase",
    "cherry-pick",
    "revert",
    "clone",
    "submodule",
    "worktree",
    "checkout-index",
    "read-tree",
    "archive",
    "bundle",
    "lfs",
    "sparse-checkout",
];

/// What takes one ending off a file's name.
const UNPACKS_ONE: &[&str] =
    &["gunzip", "gzip", "unxz", "xz", "bunzip2", "bzip2", "zstd", "unzstd", "lz4", "unlzma", "brotli"];

/// A file that a script has a shell run.
pub struct Run {
    /// As it is written in the script.
    pub file: String,
    /// Where it may lie, from where the script starts.
    pub places: Vec<String>,
    /// What has it run.
    pub by: By,
}

/// How a file comes to be run. A shell's own word is the stricter one, and comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// A shell is given it, and reads it whatever it begins with.
    Shell,
    /// Its name: what it begins with says who reads it.
    Name,
}

impl By {
    /// Whether a shell reads a file that begins so.
    pub fn has_a_shell_read(self, begins: &[u8]) -> bool {
        self == By::Shell || is_for_a_shell(begins)
    }
}

/// What a command may write.
enum Reach {
    /// No file.
    Nothing,
    /// What its words name.
    Named,
    /// The same, and where it writes may only show when it runs.
    Carried,
    /// All there is.
    Everything,
}

impl Run {
    /// The first of some commands that may have written the file.
    pub fn maker<'c>(&self, mut commands: impl Iterator<Item = &'c Command>) -> Option<&'c Command> {
        commands.find(|command| self.is_made_by(command))
    }

    /// Whether a place that the script writes may be the file.
    pub fn may_be(&self, place: &str) -> bool {
        is_same(name_of(place), name_of(&self.file))
    }

    fn is_made_by(&self, command: &Command) -> bool {
        let own = || without_inner(command, &self.file);
        match reach(command) {
            Reach::Nothing => false,
            Reach::Everything => true,
            Reach::Named => own().iter().any(|word| self.is_named(word, command)) || self.is_meant(command),
            Reach::Carried => {
                let own = own();
                let last = own.last().is_some_and(|word| word.literal().is_none() && is_any(word.text()));
                let here = own.last().is_some_and(|word| folder(word.text()).is_empty()) && !self.file.starts_with('/');
                last || here || self.is_meant(command) || own.iter().any(|word| self.is_named(word, command))
            }
        }
    }

    /// Whether names of files that the shell puts into a command may be the file's.
    fn is_meant(&self, command: &Command) -> bool {
        command.globs.iter().any(|glob| is_same(name_of(glob), name_of(&self.file)))
    }

    /// Whether a word names the file, or a folder around it.
    fn is_named(&self, word: &Word, command: &Command) -> bool {
        let (name, text) = (name_of(&self.file), word.text());
        let takes_ending = command.name().is_some_and(|program| UNPACKS_ONE.contains(&program));
        let is_it = |token: &str| {
            let token = name_of(token);
            let is_packed = takes_ending && token.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            token == name || is_packed || (name.contains(GLOB) && is_same(token, name))
        };
        let around = folder(text);
        let holds = |place: &String| {
            let parts = folder(place);
            !around.is_empty() && parts.len() > around.len() && parts[..around.len()] == around[..]
        };
        text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"/._+@%~-*?[]".contains(c)).any(is_it)
            || self.places.iter().any(holds)
    }
}

const GLOB: [char; 3] = ['*', '?', '['];

/// Whether a program of that name runs what the worktree holds.
pub fn builds(name: &str) -> bool {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    BUILDS.contains(&name) || BUILDS.contains(&plain)
}

/// What a command may write.
fn reach(command: &Command) -> Reach {
    let Some(name) = command.name() else { return Reach::Named };
    let has = |options: &[&str]| command.known().any(|word| options.contains(&word));
    match name {
        _ if only_reads(command) || prints_only(name) || WRITES_NOT.contains(&name) => Reach::Nothing,
        "find" | "fd" | "fdfind" if !command.known().any(|word| word.starts_with("-f") && word != "-follow") => {
            Reach::Nothing
        }
        "git" => of_git(command),
        "tar" | "gtar" if packs(command) => Reach::Named,
        "tar" | "gtar" => Reach::Everything,
        _ if UNPACKS.contains(&name) => Reach::Everything,
        "sed" | "gsed" if edits_in_place(command, "efl") => Reach::Carried,
        "perl" if edits_in_place(command, "eEIMmFxV") => Reach::Carried,
        "ruby" if edits_in_place(command, "eIrECFx") => Reach::Carried,
        _ if CARRIES.contains(&name) => Reach::Carried,
        _ if builds(name) && !has(HANDS_ON) => Reach::Nothing,
        "python" | "python2" | "python3" if has(&["venv", "virtualenv", "pip"]) => Reach::Nothing,
        _ => Reach::Named,
    }
}

fn of_git(command: &Command) -> Reach {
    let command = without_options_of_git(command).unwrap_or_else(|| command.clone());
    let words: Vec<&str> = command.words.iter().skip(1).map(Word::text).collect();
    match words[..] {
        // A branch of what is checked out.
        ["checkout", "-b", _] | ["switch", "-c" | "--create", _] => Reach::Nothing,
        // They show, but for where they are told to write what they show.
        ["stash", "list" | "show" | "drop", ..] | ["worktree" | "submodule", "list" | "status", ..] => Reach::Named,
        ["config", ..] if is_of_a_file(&command.words[2..]) => Reach::Everything,
        [subcommand, ..] if CHECKS_OUT.contains(&subcommand) => Reach::Everything,
        [
            "add" | "commit" | "push" | "fetch" | "branch" | "tag" | "rm" | "config" | "update-index" | "gc" | "notes",
            ..,
        ] => Reach::Nothing,
        _ => Reach::Named,
    }
}

/// Whether `git config` may write another file than those that git reads: its lines can be commands to a shell, too. What nobody knows
/// is no option behind the name of a setting, which has a dot.
fn is_of_a_file(words: &[Word]) -> bool {
    let is_option = |word: &Word| {
        let short = |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains('f');
        word.literal().is_some_and(|word| word.starts_with("--f") || short(word))
    };
    let is_setting = |word: &Word| word.literal().is_some_and(|word| word.contains('.') && !word.starts_with('-'));
    let before = words.iter().take_while(|word| !is_setting(word));
    words.iter().any(is_option) || before.into_iter().any(|word| word.literal().is_none())
}

/// Whether tar certainly writes or lists an archive, which keeps it from unpacking one: it refuses to do both. A mode counts that is
/// certainly no value of an option: in the first word, or behind a word that is no option. Source: tar(1), "Option styles".
fn packs(command: &Command) -> bool {
    const MODES: [char; 4] = ['c', 't', 'r', 'u'];
    const LONG: [&str; 4] = ["--create", "--list", "--append", "--update"];
    let words: Vec<Option<&str>> = command.words.iter().skip(1).map(Word::literal).collect();
    if let Some(Some(letters)) = words.first().filter(|first| first.is_some_and(|first| !first.starts_with('-'))) {
        return letters.contains(MODES) && !letters.contains('x');
    }
    let is_mode = |word: &str| {
        let letters =
            word.strip_prefix('-').map(|letters| letters.trim_start_matches(['a', 'j', 'J', 'p', 'v', 'z', 'Z']));
        LONG.contains(&word) || letters.is_some_and(|letters| letters.starts_with(MODES))
    };
    let is_free = |before: &Option<&str>| before.is_some_and(|before| !before.starts_with('-') || before.contains('='));
    let behind = words.windows(2).any(|pair| is_free(&pair[0]) && pair[1].is_some_and(is_mode));
    behind || words.first().copied().flatten().is_some_and(is_mode)
}

/// Whether an editor of streams may write into the files that it reads: `i` stands among its letters, before one of `valued`, whose
/// rest is a value; or its options only show when it runs.
fn edits_in_place(command: &Command, valued: &str) -> bool {
    let is_told = |word: &str| match word.strip_prefix('-') {
        Some(letters) if letters.starts_with('-') => letters.starts_with("-i"),
        Some(letters) => letters.chars().take_while(|letter| !valued.contains(*letter)).any(|letter| letter == 'i'),
        None => false,
    };
    let is_unseen = |word: &Word| word.literal().is_none() && word.text().starts_with(['$', '`']);
    command.known().any(is_told) || command.words.get(1).is_some_and(is_unseen)
}

/// The words of a command that are its own: not those of the command that it runs, and not the file that is its program.
fn without_inner(command: &Command, file: &str) -> Vec<Word> {
    let mut own: Vec<Word> = command.words.iter().skip(1).cloned().collect();
    let mut leave_out = |word: &str| {
        if let Some(at) = own.iter().position(|own| own.text() == word) {
            own.remove(at);
        }
    };
    match unwrap::inner(command) {
        unwrap::Inner::Nothing => {
            let found = unread::find(command);
            found
                .commands
                .iter()
                .chain(&found.perhaps)
                .flat_map(|inner| &inner.words)
                .for_each(|word| leave_out(word.text()));
        }
        unwrap::Inner::Commands(inner) => {
            inner.iter().flat_map(|inner| &inner.words).for_each(|word| leave_out(word.text()))
        }
        unwrap::Inner::Scripts(scripts) => scripts.iter().for_each(|script| leave_out(script.text())),
    }
    match unread::program_file(command) {
        Given::File(program) if name_of(program) == name_of(file) => leave_out(program),
        _ => {}
    }
    own
}

/// A path's parts, without those that lead nowhere.
fn folder(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}

pub fn name_of(place: &str) -> &str {
    place.trim_end_matches('/').rsplit('/').next().unwrap_or(place)
}

/// The name that a written place may have: each expansion in it is any text.
pub fn place_of(written: &str) -> String {
    let mut out = String::new();
    let mut rest = written.trim_matches('"');
    while let Some(at) = rest.find(['$', '`']) {
        out.push_str(&rest[..at]);
        out.push('*');
        let behind = &rest[at + 1..];
        let end = match behind.chars().next() {
            Some('{') if !behind[1..].contains(['{', '$', '`']) => behind.find('}').map_or(behind.len(), |end| end + 1),
            Some(c) if c.is_alphanumeric() || c == '_' => {
                behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(behind.len())
            }
            // A substitution: all that follows may belong to it.
            _ => behind.len(),
        };
        rest = &behind[end..];
    }
    out.push_str(rest);
    name_of(&out).to_owned()
}

/// Whether nothing is known of what a word names: an expansion alone, or what comes from a list.
fn is_any(written: &str) -> bool {
    let is_expansion = written.contains(['$', '`']);
    let place = place_of(written);
    !is_expansion || (!place.is_empty() && place.chars().all(|c| c == '*'))
}

/// Whether two names, each of which may be a pattern, may be of one file.
fn is_same(one: &str, other: &str) -> bool {
    let fits = |pattern: &str, name: &str| {
        pattern.contains(GLOB)
            && (glob_bounds::check(pattern).is_err()
                || Glob::new(pattern).map_or(true, |glob| glob.compile_matcher().is_match(name)))
    };
    one == other || fits(one, other) || fits(other, one)
}
