//! What a person gave in front of a command, `-C` and `--state-dir`, belongs in front of the next one, too: typed without it, that
//! would look for its run somewhere else. Texts name their commands as they are typed in the repository; here is the one place
//! where they become what has to be typed where the person stands.

use std::borrow::Cow;
use std::path::Path;

use clap::CommandFactory as _;
use swarm_orchestrator::report::sanitize;

use crate::commands::{CommandLine, Global};

/// Commands of git that are told to people and that look for the repository themselves.
const OF_GIT: [&str; 19] = [
    "add",
    "branch",
    "commit",
    "diff",
    "fetch",
    "for-each-ref",
    "fsck",
    "init",
    "ls-tree",
    "merge",
    "rev-parse",
    "revert",
    "stash",
    "status",
    "switch",
    "symbolic-ref",
    "update-index",
    "update-ref",
    "worktree",
];

/// What a person gave in front of a command, as it is typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Behind `swarm`, with a blank in front; empty where nothing was given.
    swarm: String,
    /// The same behind `git`.
    git: String,
    /// Commands of ours; empty where nothing was given.
    known: Vec<String>,
}

/// What is said behind a command of a plan that has ended: the command in front of it is no next step, and what follows is quoted.
const ENDED: [&str; 9] = [
    "exited with ",
    "was killed by ",
    "timed out",
    "was cancelled",
    "broke its limit ",
    "could not be started",
    "was refused by the cage",
    "passed before the work",
    "before the work ",
];

impl Given {
    /// As the command line has it: a relative folder stays relative to where the person is.
    pub fn of(global: &Global) -> Given {
        let flag =
            |flag: &str, path: Option<&Path>| path.map(|path| format!(" {flag} {}", typed(path))).unwrap_or_default();
        let git = flag("-C", global.folder.as_deref());
        let swarm = format!("{git}{}", flag("--state-dir", global.state_dir.as_deref()));
        let known = match swarm.is_empty() {
            true => vec![],
            false => CommandLine::command().get_subcommands().map(|command| command.get_name().to_owned()).collect(),
        };
        Given { swarm, git, known }
    }

    /// A text of ours with its commands as they have to be typed. What quotes a command of a plan, or what a worker printed, stays
    /// as it is.
    pub fn complete<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.swarm.is_empty() {
            return text.into();
        }
        let line = |line: &str| {
            let (ours, quoted) = line.split_at(if is_quoted(line) { 0 } else { beginning_of_quote(line) });
            self.line(ours) + quoted
        };
        text.split_inclusive('\n').map(line).collect::<String>().into()
    }

    fn line(&self, line: &str) -> String {
        let mut words = line.split_inclusive(' ').peekable();
        let mut completed = String::with_capacity(line.len());
        while let Some(word) = words.next() {
            completed.push_str(word);
            let next = words.peek().map_or("", |next| plain(next));
            let flags = match word.trim_start_matches(['`', '(']) {
                "swarm " if self.known.iter().any(|known| known == next) => &self.swarm,
                "git " if OF_GIT.contains(&next) => &self.git,
                _ => continue,
            };
            completed.truncate(completed.len() - 1);
            completed.push_str(flags);
            completed.push(' ');
        }
        completed
    }
}

/// A path as a word behind a flag: one that begins with a dash would be taken for flags.
fn typed(path: &Path) -> String {
    match path.as_os_str().as_encoded_bytes() {
        bytes @ [b'-', ..] => sanitize::shell_bytes(&[b"./", bytes].concat()),
        bytes => sanitize::shell_bytes(bytes),
    }
}

/// Where in a line a command of a plan is quoted of which is said how it ended, with all that is said of it; the line's end where
/// none is.
fn beginning_of_quote(line: &str) -> usize {
    let has_ended =
        |rest: &str| ENDED.iter().any(|end| rest.strip_prefix(' ').is_some_and(|rest| rest.starts_with(end)));
    let mut quotes = line.match_indices('`').map(|(at, _)| at);
    let Some(first) = quotes.next() else { return line.len() };
    if quotes.any(|at| has_ended(&line[at + 1..])) { first } else { line.len() }
}

/// A word without what stands behind it in a sentence.
fn plain(word: &str) -> &str {
    word.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default()
}

/// Whether a line is one of a log or of a plan, behind its bar or its number and bar, which may be coloured.
fn is_quoted(line: &str) -> bool {
    let line = line.trim_start();
    let bare = line.strip_prefix("\u{1b}[").and_then(|rest| rest.split_once('m')).map_or(line, |(_, bare)| bare);
    let bare = bare.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    bare.starts_with("| ") || bare.starts_with("|\u{1b}") || bare.starts_with("\u{1b}[0m |")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(folder: Option<&str>, state_dir: Option<&str>, text: &str, expected: &str) {
        let global = Global {
            folder: folder.map(Into::into),
            state_dir: state_dir.map(Into::into),
            color: crate::commands::surroundings::Colour::Auto,
        };
        assert_eq!(Given::of(&global).complete(text), expected);
    }

    #[test]
    fn commands_that_are_told_have_what_was_given() {
        check(None, None, "next: swarm retry x-1", "next: swarm retry x-1");
        check(
            None,
            Some("s"),
            "next: swarm retry x-1   git diff a...b\n",
            "next: swarm --state-dir s retry x-1   git diff a...b\n",
        );
        let of_plan = "3 | run = \"git status && swarm list {{ x }}\"\n  |                           ^\n";
        check(Some("r"), None, of_plan, of_plan);
        check(Some("it's"), None, "`swarm apply` merges it", "`swarm -C 'it'\\''s' apply` merges it");
        check(
            Some("r"),
            Some("s"),
            "then: swarm drop: git status;",
            "then: swarm -C r --state-dir s drop: git -C r status;",
        );
        let first = "git init && git add -A && git commit -m start";
        check(Some("r"), None, first, "git -C r init && git -C r add -A && git -C r commit -m start");
        check(Some("r"), None, "git -C /x switch y, and git has it", "git -C /x switch y, and git has it");
    }

    #[test]
    fn what_is_no_command_and_what_somebody_printed_stays() {
        for text in [
            "swarm has never run here",
            "the newer swarm that wrote it",
            "      | run swarm retry x",
            "     \u{1b}[2m|\u{1b}[0m swarm retry x",
        ] {
            check(Some("r"), Some("s"), text, text);
        }
    }

    #[test]
    fn commands_of_a_plan_are_no_next_steps() {
        let failed = "    a: check 1 `git diff --exit-code && swarm list` exited with 1, 1 file after 24ms\n";
        check(Some("r"), None, failed, failed);
        let red = "[!] verify: 1 result  0ms  red: `git status \\`x\\`` timed out; git status says\n";
        check(Some("r"), None, red, red);
        check(
            Some("r"),
            None,
            "`swarm apply` merges it; next: swarm logs a\n",
            "`swarm -C r apply` merges it; next: swarm -C r logs a\n",
        );
    }

    #[test]
    fn whatever_the_path_is_the_command_is_taken_as_it_stands() {
        for (folder, typed) in [("-x", "./-x"), ("a\nb", "$'a\\012b'"), ("-\u{1b}", "$'./-\\033'"), ("~", "'~'")] {
            check(Some(folder), None, "next: swarm apply", &format!("next: swarm -C {typed} apply"));
            check(None, Some(folder), "next: swarm apply", &format!("next: swarm --state-dir {typed} apply"));
            check(Some(folder), None, "next: git status", &format!("next: git -C {typed} status"));
        }
    }

    #[test]
    fn what_is_complete_stays() {
        check(Some("r"), None, "swarm -C r retry x-1", "swarm -C r retry x-1");
    }
}
