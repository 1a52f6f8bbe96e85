//! Variables whose value some program runs, and what sets them.

use super::{Found, Unread, Word, is_stream, values};
use crate::agent::shell::Command;

/// Variables whose value is run by some program.
const COMMANDS: &[&str] = &[
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "SSH_ASKPASS",
    "PAGER",
    "MANPAGER",
    "EDITOR",
    "VISUAL",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "CC",
    "CXX",
    "LD",
    "AR",
    "SHELL",
    "RSYNC_RSH",
    "PROMPT_COMMAND",
];
/// Variables whose value some program evaluates, unless it is a plain word.
const EVALUATED: &[&str] = &["BASH_ENV", "ENV", "PS4", "MAKEFLAGS", "GNUMAKEFLAGS", "MFLAGS", "NODE_OPTIONS"];
/// Beginnings of variables that put commands under other names.
const RENAMING: &[&str] = &[
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY",
    "GIT_CONFIG_VALUE",
    "GIT_CONFIG_PARAMETERS",
    "BASH_FUNC_",
    "BASH_ALIASES",
    "BASH_CMDS",
];

/// A variable that is set to `value`.
pub fn assigned(name: &str, value: &Word) -> Found {
    let mut found = Found::default();
    if COMMANDS.contains(&name)
        || (name.starts_with("CARGO_") && ["_RUNNER", "_LINKER"].iter().any(|end| name.ends_with(end)))
    {
        found.runs(value);
    }
    let is_plain = value.literal().is_some_and(|text| {
        !text.contains(['$', '`'])
            && !["eval", "SHELL", "data:"].iter().any(|mark| text.contains(mark))
            && !is_stream(text)
    });
    let renames = RENAMING.iter().any(|front| name.starts_with(front));
    if renames || (EVALUATED.contains(&name) && !is_plain) {
        let what = format!("the variable `{name}` makes programs run something else");
        found.unread = Some(Unread::new(what, "leave it out"));
    }
    found
}

/// A word of `env` or `export`, which may set a variable.
pub fn declared(word: &Word) -> Found {
    match word.text().trim_start_matches('"').split_once('=') {
        Some((name, value)) if word.literal().is_some() => assigned(name, &Word::Literal(value.to_owned())),
        Some((name, value)) if !name.contains(['$', '`']) => assigned(name, &Word::Unknown(value.to_owned())),
        _ => Found::default(),
    }
}

/// Builtins that set variables by name.
pub fn sets(name: &str, command: &Command) -> Found {
    let special = |word: &str| {
        let known = COMMANDS.iter().chain(EVALUATED).any(|special| *special == word);
        known || RENAMING.iter().any(|front| word.starts_with(front))
    };
    if let Some(variable) = command.known().find(|word| special(word)) {
        let what = format!("`{name}` sets `{variable}`, which makes programs run something else");
        return Found::unread(what, "leave it out");
    }
    let mut found = Found::default();
    values(command, &["-C"]).iter().for_each(|script| found.runs(script));
    found
}
