//! Programs that are given a program: in a file, which is not of interest here, as an argument, or on their input.

use super::{FILE, Unread, is_shell, is_stream};
use crate::agent::shell::{Command, Word};

/// How one interpreter is called.
pub struct Interpreter {
    /// What it may be called.
    names: &'static [&'static str],
    /// Options whose value is a program; a single letter also among others.
    text: &'static [&'static str],
    /// Options whose value is the next word where nothing is attached.
    valued: &'static [&'static str],
    /// Options that have their value attached.
    attached: &'static str,
    /// With one of these it only says something of itself.
    about: &'static [&'static str],
    /// Words in the place of the file behind which a program stands, or anything else that is run.
    verbs: &'static [&'static str],
}

const fn called(names: &'static [&'static str], text: &'static [&'static str]) -> Interpreter {
    Interpreter { names, text, valued: &[], attached: "", about: &["--version", "--help"], verbs: &[] }
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        valued: &["-o", "-O"],
        ..called(
            &["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "rbash", "mksh"],
            &["-s", "-i", "-C", "--rcfile", "--init-file", "--init-command"],
        )
    },
    Interpreter {
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        about: &["--version", "--help", "-V", "-VV", "-h"],
        ..called(&["python", "python2", "python3", "pypy", "pypy3"], &["-c", "-i"])
    },
    Interpreter {
        attached: "iImMxVDFC",
        about: &["--version", "--help", "-v", "-V", "-h"],
        ..called(&["perl", "perl5"], &["-e", "-E"])
    },
    Interpreter {
        valued: &["-r", "-I", "-C"],
        attached: "iEFKTWx",
        about: &["--version", "--help", "-v", "-h"],
        ..called(&["ruby", "jruby"], &["-e"])
    },
    Interpreter {
        valued: &["-r", "--require", "--import", "--loader", "--env-file", "-C", "--conditions"],
        about: &["--version", "--help", "-v", "-h", "--test"],
        ..called(&["node", "nodejs", "tsx", "ts-node"], &["-e", "-p", "-i", "--eval", "--print", "--interactive"])
    },
    Interpreter {
        verbs: &["eval", "repl", "run", "exec", "x"],
        ..called(&["deno", "bun"], &["-e", "-p", "--eval", "--print"])
    },
    Interpreter {
        valued: &["-d", "-c", "-z"],
        about: &["--version", "--help", "-v", "-m", "-h"],
        ..called(&["php"], &["-r", "-R", "-B", "-E", "-a"])
    },
    Interpreter { valued: &["-l"], about: &["-v"], ..called(&["lua", "luajit"], &["-e", "-i"]) },
    called(
        &["Rscript", "R", "julia", "groovy", "scala", "kotlin", "racket", "swipl", "osascript"],
        &["-e", "-E", "-g"],
    ),
    called(&["octave", "sbcl", "clisp", "guile", "erl"], &["-c", "-x", "-eval", "--eval"]),
    called(
        &["elixir", "iex", "ghc", "ghci", "runghc", "irb", "tclsh", "wish", "jshell", "bc", "pwsh"],
        &["-e", "-c", "-Command"],
    ),
];

/// The interpreter of that name; versions belong to the name (`python3.12`).
pub fn of(name: &str) -> Option<&'static Interpreter> {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.iter().find(|one| one.names.contains(&name) || (plain != name && one.names.contains(&plain)))
}

/// What an interpreter is given to run.
enum Given<'a> {
    /// What cannot be read.
    Unread(Unread),
    /// This file.
    File(&'a str),
    /// Nothing, or what is read elsewhere.
    Elsewhere,
}

/// What an option means for what follows.
enum Meaning {
    /// It stands alone.
    Alone,
    /// The next word is its value.
    TakesNext,
    /// It is given a program.
    Program,
    /// A script that is read elsewhere, or a module: what follows is not the interpreter's.
    Last,
}

impl Interpreter {
    /// What it runs that cannot be read; `None` where it runs a file or says something of itself.
    pub fn unread(&self, command: &Command) -> Option<Unread> {
        match self.given(command) {
            Given::Unread(unread) => Some(unread),
            Given::File(_) | Given::Elsewhere => None,
        }
    }

    /// The file that it runs.
    pub fn file<'a>(&self, command: &'a Command) -> Option<&'a str> {
        match self.given(command) {
            Given::File(file) => Some(file),
            Given::Unread(_) | Given::Elsewhere => None,
        }
    }

    fn given<'a>(&self, command: &'a Command) -> Given<'a> {
        let name = command.name().unwrap_or_default();
        let shows = |word: &Word| {
            let what = format!("what `{name}` is given only shows when it runs: `{}`", word.text());
            Given::Unread(Unread::new(what, "name the file itself"))
        };
        let text_of =
            |option: &str| Given::Unread(Unread::new(format!("`{name} {option}` runs a text of its arguments"), FILE));
        let mut words = command.words.iter().skip(1);
        while let Some(word) = words.next() {
            let Some(text) = word.literal() else { return shows(word) };
            match text {
                "--" => continue,
                _ if self.about.contains(&text) => return Given::Elsewhere,
                _ if text.starts_with('+') && is_shell(name) => continue,
                "-" => break,
                _ if text.starts_with('-') => match self.option(name, text) {
                    Meaning::Alone => continue,
                    Meaning::TakesNext => match words.next() {
                        Some(value) if value.literal().is_none_or(|value| value.starts_with("data:")) => {
                            return shows(value);
                        }
                        _ => continue,
                    },
                    Meaning::Program if matches!(text, "-s" | "-i") => break,
                    Meaning::Program => return text_of(text),
                    Meaning::Last => {
                        return self.module(name, text, words.next()).map_or(Given::Elsewhere, Given::Unread);
                    }
                },
                _ if is_stream(text) => break,
                _ if self.verbs.contains(&text) => match (text, words.next().map(Word::literal)) {
                    ("run", Some(Some(file))) if !is_stream(file) => return Given::File(file),
                    _ => return text_of(text),
                },
                file => return Given::File(file),
            }
        }
        Given::Unread(Unread::new(format!("`{name}` runs what comes from its input"), FILE))
    }

    fn option(&self, name: &str, option: &str) -> Meaning {
        let (long, value) = option.split_once('=').map_or((option, None), |(long, value)| (long, Some(value)));
        if self.text.contains(&long) {
            return Meaning::Program;
        }
        if option.starts_with("--") {
            let data = value.is_some_and(|value| value.starts_with("data:"));
            return match (data, value, self.valued.contains(&long)) {
                (true, _, _) => Meaning::Program,
                (false, None, true) => Meaning::TakesNext,
                (false, _, _) => Meaning::Alone,
            };
        }
        let letters = option.char_indices().skip(1);
        for (at, letter) in letters {
            let single = format!("-{letter}");
            let is_last = at + letter.len_utf8() == option.len();
            if (is_shell(name) && letter == 'c') || (name.starts_with("py") && letter == 'm') {
                return Meaning::Last;
            }
            if self.text.contains(&single.as_str()) {
                return Meaning::Program;
            }
            if self.valued.contains(&single.as_str()) {
                return if is_last { Meaning::TakesNext } else { Meaning::Alone };
            }
            if self.attached.contains(letter) {
                break;
            }
        }
        Meaning::Alone
    }

    /// `-c SCRIPT` of a shell is read elsewhere; a module of Python is a file, but for those that run their arguments.
    fn module(&self, name: &str, option: &str, next: Option<&Word>) -> Option<Unread> {
        if is_shell(name) {
            return None;
        }
        let attached = option.split_once('m').map(|(_, module)| module).filter(|module| !module.is_empty());
        let module = attached.or_else(|| next.and_then(Word::literal));
        match module {
            Some("timeit" | "code" | "pdb" | "asyncio" | "cProfile" | "profile" | "sqlite3" | "idlelib") | None => {
                Some(Unread::new(format!("`{name} -m` runs what its module is given"), FILE))
            }
            Some(_) => None,
        }
    }
}
