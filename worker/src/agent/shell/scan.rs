//! What cannot be parsed is read word by word: each may be a command's name, so that no danger hides behind an error.

use tree_sitter::Node;

use super::{COMMANDS_MAX, Command, Reader, Word};

/// The most words of such a command.
const WORDS_MAX: usize = 8;

impl Reader {
    /// Takes every word of the text that is read for a command's name, once.
    pub(super) fn scan_once(&mut self, text: &str) {
        if !std::mem::replace(&mut self.is_scanned, true) {
            self.scan(text);
        }
    }

    /// Takes every word of a script for a command's name.
    pub(super) fn scan(&mut self, text: &str) {
        let edge = |c: char| c.is_whitespace() || ",;|&(){}`\"'$<>".contains(c);
        let words: Vec<&str> = text.split(edge).filter(|word| !word.is_empty()).take(COMMANDS_MAX + 1).collect();
        for at in 0..words.len() {
            if self.script.commands.len() >= COMMANDS_MAX {
                return self.too_much("it has too many words that may be commands to be read");
            }
            let end = words.len().min(at + WORDS_MAX);
            let words = words[at..end].iter().map(|&word| Word::Literal(word.to_owned())).collect();
            self.script.commands.push(Command { resolved: self.resolved, ..Command::of(words) });
        }
    }

    /// A line break within what must be one line: everything is read once more, word by word.
    pub(super) fn gaps(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
        let broken = children.windows(2).any(|pair| {
            let (end, start) = (pair[0].end_byte(), pair[1].start_byte());
            end < start && breaks_line(&text[end..start])
        });
        if broken {
            self.scan_once(text);
        }
    }
}

/// Whether there is a line break that no backslash takes back.
pub(super) fn breaks_line(gap: &str) -> bool {
    gap.replace("\\\n", "").contains('\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::shell::{Reading, judge, read};

    #[test]
    fn words_that_may_be_commands_are_taken_once_and_bounded() {
        let broken = "echo a >\n b; ".repeat(20);
        let script = read(&format!("if {broken}"));
        assert!((60..200).contains(&script.commands.len()), "{}", script.commands.len());
        let guesses = "echo ${y#$(a b c d)}; ".repeat(3000);
        let script = read(&guesses);
        assert!(script.commands.len() <= COMMANDS_MAX, "{}", script.commands.len());
        assert!(matches!(judge(&script), Reading::Dangerous(why) if why.contains("too many")));
    }
}
