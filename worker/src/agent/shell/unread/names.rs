//! What puts a program under another name, where no rule knows it again.

use super::{Found, Unread, Word, values};
use crate::agent::shell::Command;

/// `exec -a NAME`: some programs do what their name says.
pub fn under_another_name(command: &Command, options: &[&str]) -> Found {
    let named =
        values(command, options).into_iter().map(|word| Command { words: vec![word], assigns: vec![], piped: false });
    Found { commands: named.collect(), ..Found::default() }
}

/// What puts a program under another name. What it is given must be plain: nobody knows what else is behind it.
pub fn renames(name: &str, command: &Command) -> Found {
    let short =
        |letter: char| move |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    let what = match name {
        "alias" => {
            return Found {
                unread: command.words.iter().find(|word| word.literal().is_none()).map(Unread::script),
                ..Found::default()
            };
        }
        "hash" if !command.known().any(short('p')) => return Found::default(),
        "enable" if !command.known().any(short('f')) => return Found::default(),
        "hash" | "enable" => "makes a command of a file".to_owned(),
        // The last word is where it goes; `dd` names its own.
        _ => match command
            .words
            .iter()
            .skip(1)
            .rev()
            .skip(usize::from(name != "dd"))
            .find(|word| word.literal().is_none())
        {
            Some(word) => format!("may give a program another name: `{}` only shows when it runs", word.text()),
            None => return Found::default(),
        },
    };
    Found::unread(format!("`{name}` {what}"), "name the files themselves; a pattern such as *.rs is plain enough")
}
