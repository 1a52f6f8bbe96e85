//! Programs that are given a command among their arguments. Whatever words of them could begin one are taken for one, since
//! nobody knows all their options.

use super::{Found, Word, values};
use crate::agent::shell::Command;

/// The most words of one command that are taken for the beginning of another.
const BEGINNINGS_MAX: usize = 32;

/// Programs that run the command that follows, the words behind which it does (none is all that follows), and how many plain
/// words of their own come before it.
const LAUNCHERS: &[(&str, &[&str], usize)] = &[
    ("setarch", &[], 1),
    ("linux32", &[], 0),
    ("linux64", &[], 0),
    ("prlimit", &[], 0),
    ("choom", &[], 0),
    ("numactl", &[], 0),
    ("fakeroot", &[], 0),
    ("xvfb-run", &[], 0),
    ("dbus-run-session", &[], 0),
    ("unbuffer", &[], 0),
    ("valgrind", &[], 0),
    ("rlwrap", &[], 0),
    ("bwrap", &[], 0),
    ("proot", &[], 0),
    ("firejail", &[], 0),
    ("start-stop-daemon", &[], 0),
    ("logsave", &[], 1),
    ("perf", &[], 0),
    ("watchexec", &[], 0),
    ("nodemon", &[], 0),
    ("entr", &[], 0),
    ("cmake", &["-E"], 0),
    ("uv", &["run", "tool"], 0),
    ("uvx", &[], 0),
    ("pipx", &["run"], 0),
    ("poetry", &["run"], 0),
    ("pipenv", &["run"], 0),
    ("pdm", &["run"], 0),
    ("hatch", &["run"], 0),
    ("rye", &["run"], 0),
    ("bundle", &["exec"], 0),
    ("npx", &[], 0),
    ("bunx", &[], 0),
    ("npm", &["exec", "x"], 0),
    ("pnpm", &["exec", "dlx"], 0),
    ("yarn", &["exec", "dlx"], 0),
    ("conda", &["run"], 0),
    ("mamba", &["run"], 0),
    ("micromamba", &["run"], 0),
    ("mise", &["exec", "x"], 0),
    ("asdf", &["exec"], 0),
    ("direnv", &["exec"], 1),
    ("rustup", &["run"], 1),
    ("nix", &["-c", "--command"], 0),
    ("docker", &["run", "exec"], 1),
    ("podman", &["run", "exec"], 1),
];

/// Options of programs whose value is a command.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        "tar",
        &[
            "--to-command",
            "--checkpoint-action",
            "--use-compress-program",
            "-I",
            "--info-script",
            "-F",
            "--rsh-command",
        ],
    ),
    ("rsync", &["-e", "--rsh", "--rsync-path"]),
    ("split", &["--filter"]),
    ("sort", &["--compress-program"]),
    ("rg", &["--pre", "--hostname-bin"]),
    ("man", &["-P", "--pager"]),
    ("zip", &["-TT", "--unzip-command"]),
    ("npx", &["-c", "--call"]),
    ("npm", &["-c", "--call", "--script-shell"]),
    ("pnpm", &["-c", "--script-shell"]),
    ("yarn", &["--script-shell"]),
    ("nix-shell", &["--run", "--command"]),
    ("script", &["-c", "-qc", "-ec", "-qec", "--command"]),
    ("go", &["-exec", "-toolexec", "-vettool"]),
    ("compgen", &["-C"]),
    ("complete", &["-C"]),
    ("wget", &["--use-askpass"]),
    ("cargo", &["--config"]),
    ("nc", &["-e", "-c", "--exec", "--sh-exec"]),
    ("ncat", &["-e", "-c", "--exec", "--sh-exec"]),
    ("watchexec", &["--shell"]),
    ("nodemon", &["-x", "--exec"]),
];

/// What a command of this name hands on.
pub fn find(name: &str, command: &Command) -> Found {
    let mut found = Found::default();
    if let Some((_, options)) = OPTIONS.iter().find(|(known, _)| *known == name) {
        for value in values(command, options) {
            match (name, value.literal()) {
                ("cargo", Some(setting)) => cargo_setting(setting, &mut found),
                ("tar", Some(action)) => found.runs(&Word::Literal(action.trim_start_matches("exec=").to_owned())),
                _ => found.runs(&value),
            }
        }
    }
    let is_linker = name.starts_with("ld-linux") || name.starts_with("ld-musl") || name.starts_with("ld.so");
    let launcher = LAUNCHERS.iter().find(|(known, _, _)| *known == name).map(|(_, verbs, own)| (*verbs, *own));
    if let Some((verbs, own_words)) = launcher.or(is_linker.then_some((&[], 0))) {
        found.commands.extend(beginnings(command, verbs, own_words));
    }
    if name == "parallel" {
        // It gives a shell what it makes of its words and of its input.
        let words: Vec<&str> = command.words.iter().map(Word::text).collect();
        found.runs(&Word::Unknown(words.join(" ")));
    }
    found
}

/// Each word behind the verb that may begin a command, with all that follows: a plain one anywhere, since nobody knows all
/// options; one that only shows when it runs only where no command has begun before it.
fn beginnings(command: &Command, verbs: &[&str], own_words: usize) -> Vec<Command> {
    let behind = |word: &Word| word.literal().is_some_and(|word| verbs.contains(&word));
    let from = match verbs {
        [] => 1,
        _ => match command.words.iter().position(behind) {
            Some(at) => at + 1,
            None => return vec![],
        },
    };
    let (mut found, mut plain, mut behind_option) = (vec![], 0, false);
    for (at, word) in command.words.iter().enumerate().skip(from) {
        if word.text().starts_with('-') {
            behind_option = true;
            continue;
        }
        if word.literal().is_some() || plain <= own_words {
            found.push(Command { words: command.words[at..].to_vec(), assigns: vec![], piped: false });
        }
        // It may be the option's value.
        plain += usize::from(!std::mem::take(&mut behind_option));
    }
    found.truncate(BEGINNINGS_MAX);
    found
}

/// A setting of cargo that names a program.
fn cargo_setting(setting: &str, found: &mut Found) {
    const KEYS: &[&str] = &["runner", "linker", "wrapper", "rustc", "credential"];
    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
    if KEYS.iter().any(|part| key.contains(part)) {
        let bare = value.trim().trim_matches(|c| "\"'[] ".contains(c)).replace("\", \"", " ").replace("\",\"", " ");
        found.runs(&Word::Literal(bare));
    }
}
