//! What puts a program under another name, where no rule knows it again.

use super::options::{Letters, operands, values};
use super::{Found, Unread, Word};
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

/// Whether `env` splits a text with escapes or a comment in it, which it reads otherwise than the shell.
pub fn splits_escaped(command: &Command) -> bool {
    has_letter(command, 'S', "--split-string") && command.words.iter().any(|word| word.text().contains(['\\', '#']))
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

/// Whether a program that changes who or where one is starts a shell, which reads its input: it is given no command.
///
/// Source: su(1), runuser(1), unshare(1), nsenter(1), chroot(8), sudo(8).
pub fn starts_shell_on_input(name: &str, command: &Command) -> bool {
    let (letters, longs): (_, &[&str]) = match name {
        "su" | "runuser" => {
            let given = has_letter(command, 'c', "--command") || has_letter(command, 'c', "--session-command");
            return !(given || name == "runuser" && has_letter(command, 'u', "--user"));
        }
        "sudo" | "doas" => {
            let shell = has_letter(command, 's', "--shell") || has_letter(command, 'i', "--login");
            let plain = operands(command, Letters { valued: "ughpCTrtRUD", attached: "" }, &["user", "group", "host"]);
            return shell && plain.is_empty();
        }
        "chroot" => (Letters::NONE, &[]),
        _ => (Letters { valued: "SGtRw", attached: "muinpUCT" }, &["setuid", "setgid", "target", "root", "wd"]),
    };
    operands(command, letters, longs).len() <= usize::from(name == "chroot")
}

/// What `npm pkg set scripts.x=…` has a later `npm run` run.
pub fn package_script(command: &Command) -> Found {
    let mut found = Found::default();
    if !command.known().any(|word| word == "set") {
        return found;
    }
    for word in command.words.iter().skip(1) {
        let text = word.text().trim_start_matches('"');
        let Some((_, value)) = text.split_once('=').filter(|(key, _)| key.starts_with("scripts")) else { continue };
        match word.literal() {
            Some(_) => found.runs(&Word::Literal(value.to_owned())),
            None => found.runs(&Word::Unknown(value.to_owned())),
        }
    }
    found
}
