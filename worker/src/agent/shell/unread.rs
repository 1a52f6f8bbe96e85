//! What runs commands that nobody can read before they run: an interpreter that is given its program as an argument or on its
//! input, a text that an expansion makes, a program under another name. Rules that restrict hold for it as for what they name
//! (see [`crate::agent::restraint`]); where no rule restricts, it is of no interest.
//!
//! What lies in a file is not read here. `bash script.sh`, `python x.py`, `make` and `npm test` run what the worktree holds,
//! which any of the agent's tools may have written: that is the cage's matter.

use super::unwrap::SHELLS;
use super::{Command, Script, Word};

/// What one setting, alias or subcommand of git runs.
mod git;
/// The programs that are given a program.
mod interpreters;
/// The programs that are given a command.
mod launchers;
/// What puts a program under another name.
mod names;
/// The programs that are given a text of their own language.
mod texts;
/// Variables whose value some program runs.
mod variables;

pub use variables::{assigned, declared};

/// Something that is run and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What it is, as a sentence about the script.
    pub what: String,
    /// What to write instead.
    pub instead: &'static str,
}

impl Unread {
    /// Something that cannot be read.
    pub fn new(what: impl Into<String>, instead: &'static str) -> Unread {
        Unread { what: what.into(), instead }
    }

    /// A script that an expansion makes.
    pub fn script(word: &Word) -> Unread {
        Unread::new(format!("`{}` is a script that only shows when it runs", word.text()), PLAIN)
    }
}

/// What to do about a text that is made by an expansion.
const PLAIN: &str = "write the commands themselves, without variables and substitutions where they are named";
/// What to do about a program that is handed over as a text.
const FILE: &str = "write it into a file and run the file";

/// What one command hands on.
#[derive(Debug, Default)]
pub struct Found {
    /// Commands that it may run.
    pub commands: Vec<Command>,
    /// Scripts that it may run.
    pub texts: Vec<String>,
    /// What cannot be read.
    pub unread: Option<Unread>,
}

impl Found {
    fn unread(what: impl Into<String>, instead: &'static str) -> Found {
        Found { unread: Some(Unread::new(what, instead)), ..Found::default() }
    }

    /// A word that somebody runs as a script, with words of their own behind it.
    fn runs(&mut self, word: &Word) {
        match word {
            Word::Literal(text) if text.trim().is_empty() => {}
            Word::Literal(text) => self.texts.push(format!("{text} $@")),
            Word::Unknown(_) | Word::Fed(_) => self.unread = Some(Unread::script(word)),
        }
    }
}

/// What a text says by itself that no command shows: expansions that evaluate what a variable holds.
pub fn in_text(text: &str) -> Option<Unread> {
    let evaluates = ["@P}", "[$(", "[`", "[\\$("].into_iter().find(|mark| text.contains(mark))?;
    Some(Unread::new(format!("`{evaluates}` evaluates a text when it runs"), PLAIN))
}

/// The files that a script runs, as it names them: programs with a folder in their name, and what an interpreter is given.
pub fn files(script: &Script) -> Vec<&str> {
    script.commands.iter().filter_map(file).collect()
}

fn file(command: &Command) -> Option<&str> {
    let name = command.name()?;
    let given = match name {
        "source" | "." => command.words.get(1).and_then(Word::literal),
        _ => interpreters::of(name).and_then(|interpreter| interpreter.file(command)),
    };
    given.or_else(|| command.words.first().and_then(Word::literal).filter(|name| name.contains('/')))
}

/// What a command runs besides what stands plainly in it.
pub fn find(command: &Command) -> Found {
    let Some(first) = command.words.first() else { return Found::default() };
    let Some(name) = command.name() else {
        return Found::unread(format!("nobody knows what `{}` runs", first.text()), "write the program's name");
    };
    let is_test = matches!(name, "[" | "[[");
    if first.literal().is_some_and(is_stream) || (name.contains(['*', '?', '[', '{']) && !is_test && name != "{") {
        return Found::unread(format!("nobody knows what `{}` runs", first.text()), "write the program's name");
    }
    if let Some(interpreter) = interpreters::of(name) {
        return Found { unread: interpreter.unread(command), ..Found::default() };
    }
    match name {
        "git" => git::find(command),
        "awk" | "gawk" | "mawk" | "nawk" | "original-awk" => Found { unread: texts::awk(command), ..Found::default() },
        "sed" | "gsed" => Found { unread: texts::sed(command), ..Found::default() },
        "make" | "gmake" => texts::make(command),
        "eval" | "trap" => Found::default(),
        "source" | "." => Found { unread: texts::sourced(command), ..Found::default() },
        "env" | "export" => {
            let found = all(command.words.iter().skip(1).map(declared));
            all([found, names::under_another_name(command, &["-a", "--argv0"])].into_iter())
        }
        "exec" => names::under_another_name(command, &["-a"]),
        "read" | "printf" | "mapfile" | "readarray" | "getopts" => variables::sets(name, command),
        "alias" | "hash" | "enable" | "cp" | "mv" | "ln" | "link" | "install" | "dd" | "rsync" => {
            names::renames(name, command)
        }
        "at" | "batch" | "crontab" | "ed" | "ex" | "vi" | "vim" | "nvim" | "emacs" | "gdb" | "lldb" | "expect"
        | "m4" | "dc" | "sqlite3" | "psql" | "socat" | "fc" => {
            Found::unread(format!("`{name}` runs what it is told"), "use programs that do one thing")
        }
        _ => launchers::find(name, command),
    }
}

fn all(found: impl Iterator<Item = Found>) -> Found {
    found.fold(Found::default(), |mut all, one| {
        all.commands.extend(one.commands);
        all.texts.extend(one.texts);
        all.unread = all.unread.or(one.unread);
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
            || path.ends_with("dev/stdin")
            || path.contains("/fd/")
            || path.starts_with("<("))
}

/// The values of options: `-x VALUE`, `-xVALUE`, `--long VALUE`, `--long=VALUE`.
fn values(command: &Command, options: &[&str]) -> Vec<Word> {
    let mut found = vec![];
    for (at, word) in command.words.iter().enumerate().skip(1) {
        let text = word.text().trim_start_matches('"');
        for option in options {
            let Some(rest) = text.strip_prefix(option) else { continue };
            let attached = match (option.starts_with("--"), rest.strip_prefix('=')) {
                (_, Some(value)) => value,
                (true, None) if !rest.is_empty() => continue,
                (_, None) => rest,
            };
            match (attached.is_empty(), word.literal().is_some()) {
                (true, _) => found.extend(command.words.get(at + 1).cloned()),
                (false, true) => found.push(Word::Literal(attached.to_owned())),
                (false, false) => found.push(Word::Unknown(attached.to_owned())),
            }
        }
    }
    found
}

/// Whether `name` is a shell, whose `-c` is read elsewhere.
fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}
