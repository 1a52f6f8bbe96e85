//! Options as programs read them: letters in one word, values attached or in the next word, long names cut short. One reader
//! for every program that is known here, so that no row of a table knows a spelling that another one does not.
//!
//! A value is never skipped when the next word is looked at: a word that may be an option is taken for one, too. So what an
//! option is given is never missed where a program has options that are not known here.

use crate::agent::shell::{Command, Word};

/// What is known of a program's letters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Letters<'a> {
    /// Those whose value is what is attached, or the next word.
    pub valued: &'a str,
    /// Those whose value is what is attached, if anything.
    pub attached: &'a str,
}

impl Letters<'_> {
    /// Nothing is known.
    pub const NONE: Letters<'static> = Letters { valued: "", attached: "" };

    fn takes_rest(self, letter: char) -> bool {
        self.valued.contains(letter) || self.attached.contains(letter)
    }
}

/// The values of some options (`-x`, `--long`; `-long` for programs that write them so), in order.
pub fn values(command: &Command, letters: Letters<'_>, options: &[&str]) -> Vec<Word> {
    let mut found = vec![];
    for (at, word) in command.words.iter().enumerate().skip(1) {
        let text = word.text().trim_start_matches('"');
        let Some(attached) = options.iter().find_map(|option| given(text, letters, option)) else { continue };
        match (attached.is_empty(), word.literal().is_some()) {
            (true, _) => found.extend(command.words.get(at + 1).cloned()),
            (false, true) => found.push(Word::Literal(attached.to_owned())),
            (false, false) => found.push(Word::Unknown(attached.to_owned())),
        }
    }
    found
}

/// Whether one of some options is given.
pub fn has(command: &Command, letters: Letters<'_>, options: &[&str]) -> bool {
    let mut words = command.words.iter().skip(1);
    words.any(|word| options.iter().any(|option| given(word.text(), letters, option).is_some()))
}

/// What is attached to an option in a word that gives it.
fn given<'a>(text: &'a str, letters: Letters<'_>, option: &str) -> Option<&'a str> {
    if let Some(long) = option.strip_prefix("--") {
        let (name, attached) = match text.strip_prefix("--")?.split_once('=') {
            Some((name, attached)) => (name, attached),
            None => (text.strip_prefix("--")?, ""),
        };
        return (!name.is_empty() && long.starts_with(name)).then_some(attached);
    }
    let letter = option.strip_prefix('-')?;
    let cluster = text.strip_prefix('-').filter(|cluster| !cluster.starts_with('-'))?;
    if letter.len() > 1 {
        let rest = cluster.strip_prefix(letter)?;
        return (rest.is_empty() || rest.starts_with('=')).then(|| rest.trim_start_matches('='));
    }
    for (at, one) in cluster.char_indices() {
        if letter.starts_with(one) {
            return Some(&cluster[at + one.len_utf8()..]);
        }
        if letters.takes_rest(one) {
            return None;
        }
    }
    None
}

/// The words that are no options, and no values of letters or of the long options named here; all behind `--`.
pub fn operands<'a>(command: &'a Command, letters: Letters<'_>, long_valued: &[&str]) -> Vec<&'a Word> {
    let (mut found, mut at) = (vec![], 1);
    while let Some(word) = command.words.get(at) {
        at += 1;
        let text = word.text();
        if text == "--" {
            found.extend(&command.words[at..]);
            break;
        }
        let Some(cluster) = text.strip_prefix('-').filter(|cluster| !cluster.is_empty()) else {
            found.push(word);
            continue;
        };
        at += usize::from(match cluster.strip_prefix('-') {
            Some(long) => !long.contains('=') && long_valued.iter().any(|known| known.starts_with(long)),
            None => {
                let first = cluster.char_indices().find(|(_, letter)| letters.takes_rest(*letter));
                first.is_some_and(|(from, letter)| {
                    letters.valued.contains(letter) && from + letter.len_utf8() == cluster.len()
                })
            }
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: Letters<'static> = Letters { valued: "ef", attached: "i" };

    fn command(script: &str) -> Command {
        Command::of(script.split(' ').map(|word| Word::Literal(word.to_owned())).collect())
    }

    #[test]
    fn an_option_is_found_however_it_is_written() {
        let check = |script: &str, expected: &[&str]| {
            let found = values(&command(script), LETTERS, &["-e", "--expression", "-exec"]);
            assert_eq!(found.iter().map(Word::text).collect::<Vec<_>>(), expected, "{script}");
        };
        check("x -e a", &["a"]);
        check("x -ea -ne b -nec", &["a", "b", "c"]);
        check("x --expression a --expr=b --e=c", &["a", "b", "c"]);
        check("x -exec a -exec=b", &["xec", "xec=b"]);
        check("x -i.e a -fe b -n", &[]);
        check("x --expressions a --file=e", &[]);
    }

    #[test]
    fn operands_are_what_is_left() {
        let check = |script: &str, expected: &[&str]| {
            let command = command(script);
            let found = operands(&command, LETTERS, &["file"]);
            assert_eq!(found.iter().map(|word| word.text()).collect::<Vec<_>>(), expected, "{script}");
        };
        check("x -n a -e b c", &["a", "c"]);
        check("x -eb c -i d --fil e f", &["c", "d", "f"]);
        check("x - -- -e", &["-", "-e"]);
    }
}
