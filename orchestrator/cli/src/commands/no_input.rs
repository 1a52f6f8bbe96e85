//! A caged command reads nothing from its caller's standard input: a terminal that it held could be typed into from inside, and a run
//! has no place for a stream. Whoever gave some, or waits for a prompt, is told.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::Path;

use rustix::fs::{FileType, SeekFrom, fstat, seek};
use rustix::io::ioctl_fionread;

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Programs that ask for lines when they are given no arguments.
const PROMPTS: [&str; 16] = [
    "sh", "bash", "dash", "zsh", "fish", "ash", "ksh", "python", "python3", "ipython", "node", "ruby", "irb", "psql",
    "lua", "ghci",
];

/// What the caller's standard input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A person may type there.
    Terminal,
    /// Bytes that wait to be read.
    Some,
    /// None, or nobody can tell.
    Nothing,
}

/// Says that what was given is not read, where something was; after the command, whose input had time to come until then.
///
/// # Errors
/// Nobody reads it.
pub fn say(command: &[OsString], it: &Surroundings) -> Result<(), Failure> {
    note(given(), command).map_or(Ok(()), |note| it.err.write(&format!("swarm: {note}\n")))
}

fn given() -> Input {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Input::Terminal;
    }
    let Ok(stat) = fstat(&stdin) else { return Input::Nothing };
    let waits = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket => ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0),
        FileType::RegularFile => {
            seek(&stdin, SeekFrom::Current(0)).is_ok_and(|at| u64::try_from(stat.st_size).is_ok_and(|size| at < size))
        }
        _ => false,
    };
    if waits { Input::Some } else { Input::Nothing }
}

fn note(input: Input, command: &[OsString]) -> Option<&'static str> {
    let prompts = |program: &OsString| {
        let name = Path::new(program).file_name().and_then(OsStr::to_str);
        command.len() == 1 && name.is_some_and(|name| PROMPTS.contains(&name))
    };
    match input {
        Input::Some => Some(
            "what was given on standard input was not read: a caged command finds /dev/null there; put it into a file that it sees",
        ),
        Input::Terminal if command.first().is_some_and(prompts) => Some(
            "it had nothing to read: a caged command finds /dev/null in place of the terminal; `swarm shell TASK` opens a shell in \
             the cage of a run's task",
        ),
        Input::Terminal | Input::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_input_or_waits_for_a_prompt_is_told() {
        for (input, command, expected) in [
            (Input::Some, &["cat"][..], Some("was not read")),
            (Input::Terminal, &["/usr/bin/python3"], Some("swarm shell TASK")),
            (Input::Terminal, &["bash", "x.sh"], None),
            (Input::Terminal, &["cargo"], None),
            (Input::Nothing, &["bash"], None),
        ] {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            let told = note(input, &command);
            assert_eq!(told.is_some(), expected.is_some(), "{command:?}");
            assert!(expected.is_none_or(|words| told.is_some_and(|told| told.contains(words))), "{told:?}");
        }
    }
}
