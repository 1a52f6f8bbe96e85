//! What an agent can do. A [`Tool`] is a value: what the model is told of it, what it is about to do, what it does. Every tool
//! gives text for the model, also when it refuses; nothing here decides whether it may ([`super::permission`] does), and
//! nothing leaves the worktree but what programs do in the cage. Start reading at [`toolbox`].

/// Programs: in the foreground with a time limit, in the background with a number.
pub mod bash;
/// The tools for files, searches and programs, as the model sees them.
pub mod basic;
/// Reading, writing and editing.
pub mod files;
/// Modes of files that an agent writes.
mod mode;
/// A list of things to do, notes, skills and the report.
pub mod plan;
/// Finding files and lines.
pub mod search;
/// What the model knows of a file.
mod seen;
/// What a program prints, bounded.
mod spill;
/// One tool.
pub mod tool;
/// All tools of one agent.
pub mod toolbox;

pub use tool::{Effect, Tool};
pub use toolbox::Toolbox;

/// What a tool gives.
pub type ToolResult = Result<String, Refused>;

/// Why a tool did nothing; for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    /// A refusal in these words.
    pub fn new(words: impl Into<String>) -> Self {
        Refused(words.into())
    }
}

/// The longest text that a tool hands to the model, in bytes.
pub const TEXT_BYTES_MAX: usize = 48 << 10;

/// Keeps head and tail of a text that is too long, with a line that says what was left out.
pub fn bounded(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let mut head = half;
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = text.len() - half;
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}\n[… {} bytes left out …]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_ends() {
        assert_eq!(bounded("short", 10), "short");
        let cut = bounded(&"ü".repeat(100), 20);
        assert!(cut.starts_with("üüüüü\n[… 180 bytes left out …]\n") && cut.ends_with("\nüüüüü"), "{cut}");
    }
}
