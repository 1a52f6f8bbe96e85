//! What people see of an answer while it arrives.

use swarm_protocol::chat::Reply;

use super::conversation::{Ear, said};
use super::show;
use super::transcript::Entry;
use crate::model::Delta;
use crate::report::{sanitize, words};

/// Bytes of a line of an answer that is still arriving: no terminal shows more in one line.
const LINE_BYTES_MAX: usize = 500;

/// What of an answer was shown while it arrived. Only words are: thinking and calls are shown when they are whole.
#[derive(Debug, Default)]
pub struct Shown {
    text: String,
    /// The end of it.
    spoken: show::Spoken,
    /// Its last line that is not blank, as far as people see it in one line.
    line: String,
    /// Whether a new line has begun since.
    is_line_over: bool,
    /// Why it had to be asked for again.
    refusal: String,
}

impl Shown {
    /// Shows more of an answer.
    pub fn hear(&mut self, delta: Delta, ear: &dyn Ear) {
        match delta {
            // An answer that begins with empty lines has not begun.
            Delta::Text(text) if self.text.is_empty() && text.trim().is_empty() => {}
            Delta::Text(text) => {
                let shown = self.spoken.more(&text);
                ear.log(&if self.text.is_empty() { format!("\n{shown}") } else { shown });
                self.text.push_str(&text);
                if self.go_on(&text) {
                    ear.line(&self.line);
                }
            }
            Delta::Call { name } => ear.line(&format!("● {name}")),
            Delta::Thinking(_) => {}
            Delta::Waits(wait) => said(&words::waits(&wait), ear),
            Delta::Said(text) => said(&sanitize::name(&text), ear),
            Delta::Restarted => ear.log(&std::mem::take(self).broken_off()),
            Delta::Again { why, wait } => {
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let told = if why == self.refusal { "the same".into() } else { sanitize::name(&why) };
                let text = format!("{told}; asked again in {}", words::duration(wait));
                self.refusal = why;
                ear.log(&format!("\n── {text} ──\n"));
                ear.line(&text);
            }
        }
    }

    /// Puts more words at the end of the last line; whether it looks different then.
    fn go_on(&mut self, text: &str) -> bool {
        let mut has_changed = false;
        for c in text.chars() {
            if c == '\n' {
                self.is_line_over = true;
            } else if self.is_line_over {
                if !c.is_whitespace() {
                    self.is_line_over = false;
                    self.line = c.to_string();
                    has_changed = true;
                }
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(c);
                has_changed |= !c.is_whitespace();
            }
        }
        has_changed
    }

    /// What is shown of an entry beside what was shown already.
    pub fn page(&mut self, entry: &Entry) -> String {
        match entry {
            Entry::Answer { reply, .. } => std::mem::take(self).rest(reply),
            // Somebody speaks while an answer arrives: it goes on behind that.
            Entry::Hint { .. } if !self.text.is_empty() => format!("\n{}\n", show::entry(entry)),
            entry => std::mem::take(self).broken_off() + &show::entry(entry),
        }
    }

    /// What is still to be shown of an answer that is whole.
    pub fn rest(self, reply: &Reply) -> String {
        match (self.text.is_empty(), self.text.trim() == reply.text().trim()) {
            (true, _) => show::answer(reply),
            (false, true) => format!("\n{}", show::without_words(reply)),
            (false, false) => self.broken_off() + &show::answer(reply),
        }
    }

    /// The end of what was shown of an answer that did not become whole.
    pub fn broken_off(self) -> String {
        if self.text.is_empty() { String::new() } else { "\n── the answer broke off ──\n".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_shown_in_part_and_told_no_more() {
        let mut shown = Shown::default();
        let told = (0..10_000).filter(|_| shown.go_on("word after word ")).count();
        assert!(told < LINE_BYTES_MAX && shown.line.len() <= LINE_BYTES_MAX + 4, "{told}");
        assert!(shown.go_on("\n\n  next") && shown.line == "next");
        assert!(!shown.go_on("\n  \n"), "a line that has not begun is not shown");
    }
}
