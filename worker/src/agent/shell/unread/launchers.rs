//! Programs that are given a command among their arguments. Whatever words of them could begin one are taken for one, since
//! nobody knows all their options.

use super::{Found, Word, values};
use crate::agent::shell::Command;

/// The most words of one command that are taken for the beginning of another.
const BEGINNINGS_MAX: usize = 32;

/// Programs that run the command that follows, and the words behind which it does; none is all that follows.
const LAUNCHERS: &[(&str, &[&str])] = &[
    ("setarch", &[]),
    ("linux32", &[]),
    ("linux64", &[]),
    ("prlimit", &[]),
    ("choom", &[]),
    ("numactl", &[]),
    ("fakeroot", &[]),
    ("xvfb-run", &[]),
    ("dbus-run-session", &[]),
    ("unbuffer", &[]),
    ("valgrind", &[]),
    ("rlwrap", &[]),
    ("bwrap", &[]),
    ("proot", &[]),
    ("firejail", &[]),
    ("start-stop-daemon", &[]),
    ("logsave", &[]),
    ("perf", &[]),
    ("watchexec", &[]),
    ("nodemon", &[]),
    ("entr", &[]),
    ("cmake", &["-E"]),
    ("uv", &["run", "tool"]),
    ("uvx", &[]),
    ("pipx", &["run"]),
    ("poetry", &["run"]),
    ("pipenv", &["run"]),
    ("pdm", &["run"]),
    ("hatch", &["run"]),
    ("rye", &["run"]),
    ("bundle", &["exec"]),
    ("npx", &[]),
    ("bunx", &[]),
    ("npm", &["exec", "x"]),
    ("pnpm", &["exec", "dlx"]),
    ("yarn", &["exec", "dlx"]),
    ("conda", &["run"]),
    ("mamba", &["run"]),
    ("micromamba", &["run"]),
    ("mise", &["exec", "x"]),
    ("asdf", &["exec"]),
    ("direnv", &["exec"]),
    ("rustup", &["run"]),
    ("nix", &["-c", "--command"]),
    ("docker", &["run", "exec"]),
    ("podman", &["run", "exec"]),
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
    let launcher = LAUNCHERS.iter().find(|(known, _)| *known == name).map(|(_, verbs)| *verbs);
    if let Some(verbs) = launcher.or(is_linker.then_some(&[])) {
        found.commands.extend(beginnings(command, verbs));
    }
    if name == "parallel" {
        // It gives a shell what it makes of its words and of its input.
        let words: Vec<&str> = command.words.iter().map(Word::text).collect();
        found.runs(&Word::Unknown(words.join(" ")));
    }
    found
}

/// Each word behind the verb that is no option, with all that follows.
fn beginnings(command: &Command, verbs: &[&str]) -> Vec<Command> {
    let behind = |word: &Word| word.literal().is_some_and(|word| verbs.contains(&word));
    let from = match verbs {
        [] => 1,
        _ => match command.words.iter().position(behind) {
            Some(at) => at + 1,
            None => return vec![],
        },
    };
    let starts = (from..command.words.len()).filter(|&at| !command.words[at].text().starts_with('-'));
    let from = |at: usize| Command { words: command.words[at..].to_vec(), assigns: vec![], piped: false };
    starts.take(BEGINNINGS_MAX).map(from).collect()
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
