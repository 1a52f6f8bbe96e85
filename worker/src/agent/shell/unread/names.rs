//! What puts a program under another name, where no rule knows it again.

use super::options::{Letters, values};
use super::{Found, Unread};
use crate::agent::shell::Command;

/// `exec -a NAME`, `env --argv0=NAME`: some programs do what their name says.
pub fn under_another_name(command: &Command) -> Found {
    let named = values(command, Letters { valued: "uCS", attached: "" }, &["-a", "--argv0"]);
    Found { commands: named.into_iter().map(|word| Command::of(vec![word])).collect(), ..Found::default() }
}

/// What makes a command of something else. Copies and links are looked at where it is known what a rule names.
pub fn renames(name: &str, command: &Command) -> Found {
    let short =
        |letter: char| move |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    match name {
        "alias" => Found {
            unread: command.words.iter().find(|word| word.literal().is_none()).map(Unread::script),
            ..Found::default()
        },
        "hash" if !command.known().any(short('p')) => Found::default(),
        "enable" if !command.known().any(short('f')) => Found::default(),
        _ => Found::unread(format!("`{name}` makes a command of a file"), "name the file itself where it runs"),
    }
}

/// Whether an option has a letter, or is a long one, cut short or not.
pub fn has_letter(command: &Command, letter: char, long: &str) -> bool {
    command.known().any(|word| match word.strip_prefix("--") {
        Some(rest) => !rest.is_empty() && long[2..].starts_with(rest.split('=').next().unwrap_or(rest)),
        None => word.starts_with('-') && word.contains(letter),
    })
}

/// Whether `env` splits a text with escapes in it.
pub fn splits_escaped(command: &Command) -> bool {
    has_letter(command, 'S', "--split-string") && command.words.iter().any(|word| word.text().contains('\\'))
}

/// Whether a program that starts what it is given is given nothing, and starts a shell then.
pub fn starts_shell(name: &str, command: &Command) -> bool {
    let own = match name {
        "newgrp" => return true,
        "script" => return !has_letter(command, 'c', "--command"),
        "setarch" => 1,
        _ => 0,
    };
    command.words.iter().skip(1).filter(|word| !word.text().starts_with('-')).count() <= own
}
