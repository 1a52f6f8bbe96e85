//! The files that a script runs: programs with a folder in their name, and what an interpreter is given. Not what they read in
//! turn.

use swarm_protocol::toolset::{FILE_ENDS, MODULE_ENDS};

use super::made::{By, Run};
use super::unread::{Letters, program_file, values};
use super::unwrap::SHELLS;
use super::word::Word;
use super::{Command, Script};

/// The most folders of one script.
const FOLDERS_MAX: usize = 16;

/// A program that a script runs from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// One of these files, from where the script starts: which one depends on what there is, and on the folder it is in then.
    OneOf(Vec<String>),
    /// Which file that is only shows when it runs; as it is written.
    Unknown(String),
}

/// What a command runs from a file.
pub enum Given<'a> {
    /// A file, as it is named.
    File(&'a str),
    /// A module of Python.
    Module(&'a str),
    /// A file that only shows when it runs.
    Unknown(&'a Word),
    /// None.
    Nothing,
}

/// The programs that a script runs from files, in its order.
pub fn of(script: &Script) -> Vec<Program> {
    let commands = known(script);
    let places = Places::of(&commands);
    commands.iter().filter_map(|command| places.program(command)).collect()
}

/// The files that a script has a shell run, or runs by their names.
pub fn of_shells(script: &Script) -> Vec<Run> {
    let commands = known(script);
    let places = Places::of(&commands);
    let run = |command: &&Command| {
        let Given::File(file) = program_file(command) else { return None };
        let is_by_shell = command.name().is_some_and(|name| SHELLS.contains(&name) || matches!(name, "." | "source"));
        let is_by_name = command.words.first().and_then(Word::literal) == Some(file);
        let by = if is_by_shell { By::Shell } else { By::Name };
        (is_by_shell || is_by_name).then(|| places.run(file, by))
    };
    commands.iter().filter_map(run).chain(script.loads.iter().map(|file| places.run(file, By::Shell))).collect()
}

/// The commands of a script as far as its variables are known.
pub fn known(script: &Script) -> Vec<&Command> {
    script.commands.iter().filter(|command| !command.resolved).chain(&script.handed).collect()
}

/// The folders that a script may be in. Which one it is in at a command is not followed: a file counts in each.
struct Places {
    folders: Vec<String>,
    is_known: bool,
}

impl Places {
    fn of(commands: &[&Command]) -> Places {
        let mut places = Places { folders: vec![String::new()], is_known: true };
        commands.iter().for_each(|command| places.enter(command));
        places
    }

    fn run(&self, file: &str, by: By) -> Run {
        Run { file: file.to_owned(), places: self.folders.iter().map(|folder| join(folder, file)).collect(), by }
    }

    fn enter(&mut self, command: &Command) {
        enters(command).iter().for_each(|folder| self.add(Some(folder)));
        if !matches!(command.name(), Some("cd" | "pushd" | "popd")) {
            return;
        }
        let mut words = command.words.iter().skip(1);
        self.add(words.find(|word| !matches!(word.text(), "--" | "-P" | "-L")));
    }

    fn add(&mut self, folder: Option<&Word>) {
        match folder.map(Word::literal) {
            Some(Some(folder)) if folder != "-" && !folder.starts_with('~') && self.folders.len() < FOLDERS_MAX => {
                let all: Vec<String> = self.folders.iter().map(|from| join(from, folder)).collect();
                self.folders.extend(all);
                self.folders.sort();
                self.folders.dedup();
            }
            _ => self.is_known = false,
        }
    }

    fn program(&self, command: &Command) -> Option<Program> {
        let (name, forms) = match program_file(command) {
            Given::Nothing => return None,
            Given::Unknown(word) => return Some(Program::Unknown(word.text().to_owned())),
            Given::Module(module) => {
                let path = module.replace('.', "/");
                let forms = MODULE_ENDS.iter().map(|end| format!("{path}{end}")).collect();
                (module, forms)
            }
            Given::File(file) => {
                let forms: Vec<String> = FILE_ENDS.iter().map(|end| format!("{file}{end}")).collect();
                (file, forms)
            }
        };
        if !self.is_known && !name.starts_with('/') {
            return Some(Program::Unknown(name.to_owned()));
        }
        let places = self.folders.iter().flat_map(|folder| forms.iter().map(move |form| join(folder, form)));
        let mut all: Vec<String> = places.collect();
        all.sort();
        all.dedup();
        Some(Program::OneOf(all))
    }
}

/// The folders that a program is told to start another one in.
fn enters(command: &Command) -> Vec<Word> {
    let (letters, options): (_, &[&str]) = match command.name() {
        Some("env") => (Letters { valued: "uaS", attached: "" }, &["-C", "--chdir"]),
        Some("sudo") => (Letters { valued: "ughpCTrtRU", attached: "" }, &["-D", "--chdir"]),
        Some("unshare" | "nsenter") => (Letters { valued: "SGtWR", attached: "muinpUCT" }, &["-w", "--wd"]),
        Some("make" | "gmake" | "ninja" | "git") => {
            (Letters { valued: "fIoWEjlc", attached: "" }, &["-C", "--directory"])
        }
        Some("npm" | "pnpm" | "yarn") => (Letters { valued: "", attached: "" }, &["-C", "--prefix", "--dir", "--cwd"]),
        Some("uv") => (Letters { valued: "", attached: "" }, &["--directory"]),
        _ => return vec![],
    };
    values(command, letters, options)
}

fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_runs_is_looked_for_in_every_folder_that_it_enters() {
        let check = |script: &str, expected: &str| {
            let found: Vec<Vec<String>> = of(&super::super::read(script))
                .into_iter()
                .map(|program| match program {
                    Program::OneOf(files) => {
                        files.into_iter().filter(|file| !file.ends_with("js") && !file.ends_with("ts")).collect()
                    }
                    Program::Unknown(written) => vec![format!("? {written}")],
                })
                .collect();
            assert_eq!(found.concat().join(" "), expected, "{script}");
        };
        check("jq . x | grep y", "");
        check("ci/check", "ci/check ci/check/__main__.py");
        check("cd ci && sh check", "check check/__main__.py ci/check ci/check/__main__.py");
        check("sh /w/ci/check", "/w/ci/check /w/ci/check/__main__.py");
        check("python -m ci.check", "ci/check.py ci/check/__init__.py ci/check/__main__.py");
        check("cd \"$x\" && ./check", "? ./check");
        check("sh \"$x\"", "? \"$x\"");
        check("$x", "? $x");
        check("env -C ci ./check", "./check ./check/__main__.py ci/./check ci/./check/__main__.py");
        check("env --chdir=ci sh check", "check check/__main__.py ci/check ci/check/__main__.py");
        check("env -C \"$x\" ./check", "? ./check");
        check("d=ci; . ./vars; sh \"$d/check\"", "./vars ./vars/__main__.py ? \"$d/check\"");
        check("d=ci; . \"$d/env\"", "ci/env ci/env/__main__.py");
    }
}
