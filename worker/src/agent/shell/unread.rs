//! What runs commands that nobody can read before they run: an interpreter that is given its program as an argument or on its
//! input, a text that an expansion makes, a program under another name. Rules that restrict hold for it as for what they name
//! (see [`crate::agent::restraint`]); where no rule restricts, it is of no interest.
//!
//! What lies in a file is not read here. `bash script.sh`, `python x.py`, `make` and `npm test` run what the worktree holds. Of a file for
//! a shell, [`super::made`] and [`super::held_in`] say what the agent wrote into it; of all others that is the cage's matter.

use super::files::Given;
use super::unwrap::SHELLS;
use super::{Command, Word};

/// Programs of awk.
mod awk;
/// Clients of databases, which leave for a shell when they are told to.
mod databases;
/// Expansions that evaluate a text.
mod expansions;
/// What one setting, alias or subcommand of git runs.
mod git;
/// The programs that are given a program.
mod interpreters;
/// The programs that are given a command.
mod launchers;
/// What puts a program under another name.
mod names;
/// How options are written.
mod options;
/// The programs that are given a text of their own language.
mod texts;
/// Words that may be options.
mod unseen_options;
/// Variables whose value some program runs.
mod variables;

pub use expansions::Marks;
pub use launchers::{TAR_RUNS, dashed};
pub use options::{Letters, values};
pub use unseen_options::{find as unseen_options, without_appended};
pub use variables::{assigned, declared, is_special};

/// Something that is run and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What it is, as a sentence about the script.
    pub what: String,
    /// What to write instead.
    pub instead: &'static str,
    /// It is a program that would run what comes from its input, or that nobody knows: it says nothing of a word that may be no
    /// command.
    pub waits: bool,
}

impl Unread {
    /// Something that cannot be read.
    pub fn new(what: impl Into<String>, instead: &'static str) -> Unread {
        Unread { what: what.into(), instead, waits: false }
    }

    /// A program that runs what comes from its input.
    pub fn input(name: &str) -> Unread {
        Unread { waits: true, ..Unread::new(format!("`{name}` runs what comes from its input"), FILE) }
    }

    /// A script that an expansion makes.
    pub fn script(word: &Word) -> Unread {
        Unread::new(format!("`{}` is a script that only shows when it runs", word.text()), PLAIN)
    }
}

/// The words that stand for those that a program puts behind what it runs.
const APPENDED: &str = "$@";
/// What to do about a text that is made by an expansion.
const PLAIN: &str = "write the commands themselves, without variables and substitutions where they are named";
/// What to do about a program that is handed over as a text.
const FILE: &str = "write it into a file and run the file";

/// What one command hands on.
#[derive(Debug, Default)]
pub struct Found {
    /// Commands that it may run.
    pub commands: Vec<Command>,
    /// Words that begin a command if the program runs any, and are plain words otherwise.
    pub perhaps: Vec<Command>,
    /// Scripts that it may run.
    pub texts: Vec<String>,
    /// What cannot be read.
    pub unread: Option<Unread>,
    /// What cannot be read if git runs in the same script.
    pub of_git: Option<Unread>,
}

impl Found {
    fn unread(what: impl Into<String>, instead: &'static str) -> Found {
        Found { unread: Some(Unread::new(what, instead)), ..Found::default() }
    }

    /// A word that somebody runs as a script, with words of their own behind it.
    fn runs(&mut self, word: &Word) {
        match word {
            Word::Literal(text) if text.trim().is_empty() => {}
            Word::Literal(text) => self.texts.push(format!("{text} {APPENDED}")),
            Word::Unknown(_) | Word::Assigned(..) | Word::Fed(_) => self.unread = Some(Unread::script(word)),
        }
    }
}

/// What a command runs from a file.
pub fn program_file(command: &Command) -> Given<'_> {
    let Some(first) = command.words.first() else { return Given::Nothing };
    let named = |word: &'_ Word| matches!(word, Word::Literal(path) if path.contains('/'));
    let given = match command.name() {
        None => return Given::Unknown(first),
        Some("source" | ".") => match command.words.iter().skip(1).find(|word| word.text() != "--") {
            Some(Word::Literal(path)) => Given::File(path),
            Some(word) => Given::Unknown(word),
            None => Given::Nothing,
        },
        Some(name) => interpreters::of(name).map_or(Given::Nothing, |interpreter| interpreter.file(command)),
    };
    match (given, first) {
        (Given::Nothing, Word::Literal(path)) if named(first) => Given::File(path),
        (given, _) => given,
    }
}

/// What a person types into, and which may leave for a shell.
const EDITORS: &[&str] = &[
    "ed",
    "ex",
    "vi",
    "vim",
    "nvim",
    "view",
    "rvim",
    "rview",
    "vimdiff",
    "gvim",
    "emacs",
    "emacsclient",
    "ipython",
    "ptpython",
    "bpython",
    "ptipython",
    "kak",
    "jed",
    "joe",
    "mg",
    "ranger",
    "vifm",
    "lf",
    "mail",
    "mailx",
    "mutt",
    "neomutt",
    "ftp",
    "lftp",
];

/// The letters of groff whose value is a word of its own.
const ROFF: Letters<'static> = Letters { valued: "dDfFIKLmMnoPrTwW", attached: "" };

/// What else makes programs that run what they are told say something of themselves, and nothing more.
const ABOUT: &[(&str, &[&str])] = &[
    ("at", &["-l", "-V"]),
    ("crontab", &["-l", "-V"]),
    ("gdb", &["-v"]),
    ("expect", &["-v"]),
    ("socat", &["-V", "-h"]),
    ("fc", &["-l"]),
    ("bind", &["-l", "-p", "-P", "-s", "-S", "-v", "-V"]),
];

/// Whether a command is asked for its version, its options or its list, by one word and nothing else.
fn says_of_itself(name: &str, command: &Command) -> bool {
    let [_, Word::Literal(asked)] = &command.words[..] else { return false };
    let own = ABOUT.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, own)| own);
    matches!(asked.as_str(), "--version" | "--help") || own.contains(&asked.as_str())
}

/// What a command runs besides what stands plainly in it.
pub fn find(command: &Command) -> Found {
    let Some(first) = command.words.first() else { return Found::default() };
    let Some(name) = command.name() else {
        return Found::unread(format!("nobody knows what `{}` runs", first.text()), "write the program's name");
    };
    let is_test = matches!(name, "[" | "[[");
    if first.literal().is_some_and(is_stream) || (name.contains(['*', '?', '[', '{']) && !is_test && name != "{") {
        let unread = Unread::new(format!("nobody knows what `{}` runs", first.text()), "write the program's name");
        return Found { unread: Some(Unread { waits: !is_stream(name), ..unread }), ..Found::default() };
    }
    if says_of_itself(name, command) {
        return Found::default();
    }
    if let Some(interpreter) = interpreters::of(name) {
        let module = interpreter.module_command(command);
        return Found {
            unread: interpreter.unread(command),
            commands: module.into_iter().collect(),
            ..Found::default()
        };
    }
    // Systems keep several editors of one name apart (`vim.basic`), and Python's versions.
    let editor = name.split('.').next().unwrap_or(name).trim_end_matches(|c: char| c.is_ascii_digit());
    if EDITORS.contains(&editor) {
        return Found::unread(format!("`{name}` runs what it is told"), "use programs that do one thing");
    }
    by_name(name, command)
}

/// What a program of its own kind runs.
fn by_name(name: &str, command: &Command) -> Found {
    match name {
        "git" => git::find(command),
        "awk" | "gawk" | "mawk" | "nawk" | "original-awk" | "goawk" | "bioawk" => texts::awk(command),
        "sed" | "gsed" => Found { unread: texts::sed(command), ..Found::default() },
        "make" | "gmake" => texts::make(command),
        "eval" | "trap" => Found::default(),
        "source" | "." => Found { unread: texts::sourced(command), ..Found::default() },
        "env" if names::splits_escaped(command) => Found::unread(
            "`env` reads escapes and comments of its own in what it splits",
            "write the command's words by themselves",
        ),
        "env" | "export" => {
            let found = all(command.words.iter().skip(1).map(declared));
            all([found, names::under_another_name(command)].into_iter())
        }
        "exec" => names::under_another_name(command),
        "read" | "printf" | "mapfile" | "readarray" | "getopts" => variables::sets(name, command),
        "alias" | "hash" | "enable" => names::renames(name, command),
        "su" | "runuser" | "unshare" | "nsenter" | "chroot" | "sudo" | "doas"
            if names::starts_shell_on_input(name, command) =>
        {
            Found { unread: Some(Unread::input(name)), ..launchers::find(name, command) }
        }
        "npm" | "pnpm" | "yarn" => all([names::package_script(command), launchers::find(name, command)].into_iter()),
        "prove" if names::has_letter(command, 'e', "--exec") => {
            Found::unread("`prove` runs what its options say", "run the tests themselves")
        }
        "ln" if command.known().any(is_stream) => {
            Found::unread("a link leads to what flows through it", "name the file itself")
        }
        "setarch" | "linux32" | "linux64" | "i386" | "x86_64" | "uname26" | "script" | "newgrp"
            if names::starts_shell(name, command) =>
        {
            Found { unread: Some(Unread::input(name)), ..Found::default() }
        }
        "less" | "more" | "most" | "zless" | "xzless" | "bzless" | "zmore" => {
            Found { unread: texts::paged(command), ..Found::default() }
        }
        "fzf" | "sk" | "bind" => {
            Found::unread(format!("`{name}` runs what its options say"), "use programs that do one thing")
        }
        // Without it they run nothing. Source: groff(1).
        "groff" | "troff" | "gtroff" | "nroff" if options::has(command, ROFF, &["-U"]) => {
            Found::unread(format!("`{name} -U` runs what its text says"), "leave `-U` out")
        }
        "m4" | "gm4" => Found { unread: texts::m4(name, command), ..Found::default() },
        "rpm" | "rpmbuild" | "rpmspec" => Found { unread: texts::rpm(command), ..Found::default() },
        "ninja" | "just" | "scons" | "ant" | "rake" | "cmake" | "nox" | "samu" | "task" => {
            all([texts::built(name, command), launchers::find(name, command)].into_iter())
        }
        "sqlite3" | "psql" | "mysql" | "mariadb" | "duckdb" => {
            Found { unread: databases::find(name, command), ..Found::default() }
        }
        "run-parts" => Found::unread("`run-parts` runs what lies in a folder", "run those programs by their names"),
        "at" | "batch" | "crontab" | "gdb" | "lldb" | "expect" | "dc" | "socat" | "fc" => {
            Found::unread(format!("`{name}` runs what it is told"), "use programs that do one thing")
        }
        _ => launchers::find(name, command),
    }
}

fn all(found: impl Iterator<Item = Found>) -> Found {
    found.fold(Found::default(), |mut all, one| {
        all.commands.extend(one.commands);
        all.perhaps.extend(one.perhaps);
        all.texts.extend(one.texts);
        all.unread = all.unread.or(one.unread);
        all.of_git = all.of_git.or(one.of_git);
        all
    })
}

/// Whether a path is no file but whatever flows through it.
fn is_stream(path: &str) -> bool {
    let harmless = matches!(path, "/dev/null" | "/dev/zero" | "/dev/stdout" | "/dev/stderr" | "/dev/tty");
    !harmless
        && (path == "-"
            || path.starts_with("/dev/")
            || path.starts_with("/proc/")
            || path == "/dev"
            || path == "stdin"
            || path.ends_with("/stdin")
            || path.contains("/fd/")
            || path.starts_with("<("))
}

/// Whether `name` is a shell, whose `-c` is read elsewhere.
fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}
