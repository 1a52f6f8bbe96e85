//! Words that only show when they run, where a program has options that run what they say: `tar cf x $(cat list)`. The shell makes
//! any number of words of an expansion outside of quotes, and one of them may be `--checkpoint-action=exec=…`.
//!
//! An expansion in quotes is one word, and the words of a list (`xargs`) come behind those of a command: nearly all of them are
//! names, and both are free here.

use super::{APPENDED, Found, Unread, Word, git, launchers};
use crate::agent::shell::Command;

/// What to write instead.
const APART: &str = "put `--` before it, or put it in quotes, so that it is no option";

/// The first word of a command that may be an option which runs something.
pub fn find(command: &Command) -> Found {
    let Some(name) = command.name() else { return Found::default() };
    let runs = match name {
        "git" => git::may_run_more(command),
        "find" | "fd" | "fdfind" => true,
        name => launchers::has_options(name),
    };
    // Behind it `find` still has expressions.
    let ends = |word: &&Word| word.literal() == Some("--") && name != "find";
    let mut words = command.words.iter().skip(1).take_while(|word| !ends(word));
    let word = words.find(|word| runs && is_several(word));
    let what = |word: &Word| format!("`{}` may give `{name}` options that run a program", word.text());
    Found { unread: word.map(|word| Unread::new(what(word), APART)), ..Found::default() }
}

/// A command that another one runs, without the words which that puts behind it: what they are, the other one knows.
pub fn without_appended(command: &Command) -> Command {
    let mut own = command.clone();
    own.words.pop_if(|last| matches!(last, Word::Unknown(text) if text == APPENDED));
    own
}

/// Whether the shell may make several words of one, or an option.
fn is_several(word: &Word) -> bool {
    match word {
        Word::Unknown(text) => !word.is_one() && text.contains(['$', '`']),
        Word::Literal(_) | Word::Assigned(..) | Word::Fed(_) => false,
    }
}
