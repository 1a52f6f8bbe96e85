//! Programs that are given a program: in a file, which is not of interest here, as an argument, or on their input.

use super::options::{Letters, values};
use super::{FILE, SHELLS, Unread, is_shell, is_stream};
use crate::agent::shell::files::Given;
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
    /// Options whose value names what is loaded before: a file, or what flows through one.
    loads: &'static [&'static str],
    /// With one of these it says something of itself, and waits for no input.
    about: &'static [&'static str],
    /// Words in the place of the file behind which a program stands, or anything else that is run.
    verbs: &'static [&'static str],
}

const fn called(names: &'static [&'static str], text: &'static [&'static str]) -> Interpreter {
    Interpreter { names, text, valued: &[], attached: "", loads: &[], about: &["--version", "--help"], verbs: &[] }
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        valued: &["-o", "-O"],
        ..called(SHELLS, &["-s", "-i", "-C", "--rcfile", "--init-file", "--init-command"])
    },
    Interpreter {
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        about: &["--version", "--help", "-V", "-VV", "-h"],
        ..called(&["python", "python2", "python3", "pypy", "pypy3", "graalpy"], &["-c", "-i"])
    },
    Interpreter {
        valued: &["-I"],
        attached: "imMxVDFC",
        loads: &["-M", "-m"],
        about: &["--version", "--help", "-v", "-V", "-h"],
        ..called(&["perl", "perl5"], &["-e", "-E", "-d"])
    },
    Interpreter {
        valued: &["-r", "-I", "-C"],
        attached: "iEFKTWx",
        loads: &["-r"],
        about: &["--version", "--help", "-v", "-h"],
        ..called(&["ruby", "jruby"], &["-e"])
    },
    Interpreter {
        valued: &[
            "-r",
            "--title",
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "--env-file",
            "-C",
            "--conditions",
            "--cpu-prof-dir",
            "--diagnostic-dir",
            "--disable-proto",
            "--disable-warning",
            "--icu-data-dir",
            "--input-type",
            "--max-http-header-size",
            "--unhandled-rejections",
        ],
        loads: &["-r", "--require", "--import", "--loader", "--experimental-loader"],
        about: &["--version", "--help", "-v", "-h", "--test"],
        ..called(&["node", "nodejs", "tsx", "ts-node"], &["-e", "-p", "-i", "--eval", "--print", "--interactive"])
    },
    Interpreter {
        verbs: &["eval", "repl", "run", "exec", "x"],
        ..called(&["deno", "bun"], &["-e", "-p", "--eval", "--print"])
    },
    Interpreter { verbs: &["eval", "i", "play"], ..called(&["crystal"], &["-e"]) },
    Interpreter {
        valued: &["-d", "-c", "-z", "-S", "-t"],
        loads: &["-d", "-c", "-z"],
        about: &["--version", "--help", "-v", "-m", "-h"],
        ..called(&["php"], &["-r", "-R", "-B", "-E", "-a"])
    },
    Interpreter { valued: &["-l"], loads: &["-l"], about: &["-v"], ..called(&["lua", "luajit"], &["-e", "-i"]) },
    called(
        &["Rscript", "R", "julia", "groovy", "scala", "kotlin", "racket", "swipl", "osascript"],
        &["-e", "-E", "-g"],
    ),
    called(&["octave", "sbcl", "clisp", "guile", "erl"], &["-c", "-x", "-eval", "--eval"]),
    called(
        &["elixir", "iex", "ghc", "ghci", "runghc", "irb", "tclsh", "wish", "jshell", "pwsh", "powershell"],
        &["-e", "-c", "-Command"],
    ),
    called(
        &["nu", "elvish", "xonsh", "ysh", "micropython", "jython", "hy", "qjs", "gjs", "d8", "rhino", "amm", "sage"],
        &["-c", "-e", "-i", "--command", "--commands", "--eval"],
    ),
    called(
        &[
            "gnuplot", "gp", "maxima", "scilab", "ocaml", "utop", "swift", "clojure", "clj", "bb", "janet", "fennel",
            "newlisp", "ecl", "ccl", "abcl", "gforth", "pike", "raku", "perl6",
        ],
        &["-e", "-E", "-c", "-x", "-eval", "--eval", "--batch-string"],
    ),
];

/// The interpreter of that name; versions belong to the name (`python3.12`).
pub fn of(name: &str) -> Option<&'static Interpreter> {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.iter().find(|one| one.names.contains(&name) || (plain != name && one.names.contains(&plain)))
}

/// What an interpreter is given to run.
enum Run<'a> {
    /// What cannot be read.
    Unread(Unread),
    /// A file that only shows when it runs.
    Unknown(&'a Word),
    /// This file.
    File(&'a str),
    /// This module.
    Module(&'a str),
    /// Nothing, or what is read elsewhere.
    Elsewhere,
}

/// Options that stand alone, of all interpreters, which are often given before a file.
const ALONE: &[&str] = &["--inspect", "--inspect-brk", "--watch", "--expose-gc", "--enable-source-maps", "--check"];

/// Whether an option of which nothing is known may have the next word for its value.
fn may_take_next(option: &str) -> bool {
    let is_flag = ALONE.contains(&option)
        || ["--no-", "--experimental-", "--trace-"].iter().any(|front| option.starts_with(front));
    option.starts_with("--") && option.len() > 2 && !option.contains('=') && !is_flag
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
            Run::Unread(unread) => Some(unread),
            Run::Unknown(word) => {
                let name = command.name().unwrap_or_default();
                let what = format!("what `{name}` is given only shows when it runs: `{}`", word.text());
                let instead = "name the file itself, or by a variable that is set to plain words in the same script";
                Some(Unread::new(what, instead))
            }
            Run::File(_) | Run::Module(_) | Run::Elsewhere => None,
        }
    }

    /// `python -m MODULE WORDS` as the program that the module is: `MODULE WORDS`.
    pub fn module_command(&self, command: &Command) -> Option<Command> {
        let Run::Module(module) = self.given(command) else { return None };
        let at = command.words.iter().position(|word| word.text().ends_with(module))?;
        let rest = command.words.iter().skip(at + 1).cloned();
        Some(Command::of([Word::Literal(module.to_owned())].into_iter().chain(rest).collect()))
    }

    /// The file that it runs.
    pub fn file<'a>(&self, command: &'a Command) -> Given<'a> {
        match self.given(command) {
            Run::File(file) => Given::File(file),
            Run::Module(module) => Given::Module(module),
            Run::Unknown(word) => Given::Unknown(word),
            Run::Unread(_) | Run::Elsewhere => Given::Nothing,
        }
    }

    fn given<'a>(&self, command: &'a Command) -> Run<'a> {
        let name = command.name().unwrap_or_default();
        let text_of =
            |option: &str| Run::Unread(Unread::new(format!("`{name} {option}` runs a text of its arguments"), FILE));
        let (mut words, mut is_about, mut before) = (command.words.iter().skip(1), false, "");
        while let Some(word) = words.next() {
            let odd = std::mem::replace(&mut before, word.text());
            let Some(text) = word.literal() else { return Run::Unknown(word) };
            match text {
                "--" => continue,
                _ if self.about.contains(&text) => is_about = true,
                _ if text.starts_with('+') && is_shell(name) => continue,
                "-" => break,
                _ if self.loads_text(word, words.clone().next()) => {
                    return Run::Unread(Unread::new(format!("`{name} {text}` loads what may be no file"), FILE));
                }
                _ if text.starts_with('-') => match self.option(name, text) {
                    Meaning::Alone => continue,
                    Meaning::TakesNext => drop(words.next()),
                    Meaning::Program if matches!(text, "-s" | "-i") => break,
                    Meaning::Program => return text_of(text),
                    Meaning::Last => {
                        return self.module(name, text, words.next());
                    }
                },
                _ if is_stream(text) => break,
                _ if self.verbs.contains(&text) => match (text, words.next().map(Word::literal)) {
                    ("run", Some(Some(file))) if !is_stream(file) => return Run::File(file),
                    _ => return text_of(text),
                },
                // Nobody knows all options: this one may be the value of the one before, and the next one the interpreter's.
                _ if may_take_next(odd) && words.clone().next().is_some_and(|next| self.is_program(name, next)) => {
                    return text_of(words.next().map_or(text, Word::text));
                }
                file => return Run::File(file),
            }
        }
        if is_about { Run::Elsewhere } else { Run::Unread(Unread::input(name)) }
    }

    /// Whether a word is an option that is given a program.
    fn is_program(&self, name: &str, word: &Word) -> bool {
        word.text().starts_with('-') && matches!(self.option(name, word.text()), Meaning::Program)
    }

    /// Whether an option, with the next word, loads what is no plain file or module.
    fn loads_text(&self, option: &Word, next: Option<&Word>) -> bool {
        let letters: String =
            self.valued.iter().filter(|option| option.len() == 2).map(|option| &option[1..]).collect();
        let letters = Letters { valued: &letters, attached: self.attached };
        let is_text = |word: &Word| {
            let text = word.text();
            let value = text.split_once('=').map_or(text, |(_, value)| value);
            let is_flow = |text: &str| is_stream(text) || text.starts_with("data:");
            let wraps = text.starts_with("auto_") && value.contains(':');
            word.literal().is_none()
                || is_flow(text)
                || is_flow(value)
                || wraps
                || text.contains([';', '(', '{', '`', '$'])
        };
        let words = [Word::Literal(String::new()), option.clone()].into_iter().chain(next.cloned()).collect();
        let values = values(&Command::of(words), letters, self.loads);
        values.first().is_some_and(is_text)
    }

    fn option(&self, name: &str, option: &str) -> Meaning {
        let (long, value) = option.split_once('=').map_or((option, None), |(long, value)| (long, Some(value)));
        let cut = name == "fish" && long.len() > 2 && "--command".starts_with(long);
        if cut || self.text.contains(&long) {
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
    fn module<'a>(&self, name: &str, option: &'a str, next: Option<&'a Word>) -> Run<'a> {
        if is_shell(name) {
            return Run::Elsewhere;
        }
        let attached = option.split_once('m').map(|(_, module)| module).filter(|module| !module.is_empty());
        let module = match (attached, next) {
            (Some(module), _) => Some(module),
            (None, Some(word)) => match word.literal() {
                Some(module) => Some(module),
                None => return Run::Unknown(word),
            },
            (None, None) => None,
        };
        match module {
            Some(
                "timeit" | "code" | "pdb" | "asyncio" | "cProfile" | "profile" | "sqlite3" | "idlelib" | "trace"
                | "IPython" | "ptpython" | "bpython",
            )
            | None => Run::Unread(Unread::new(format!("`{name} -m` runs what its module is given"), FILE)),
            Some(module) => Run::Module(module),
        }
    }
}
