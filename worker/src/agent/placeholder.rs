//! Text that stands for other text. A model that writes `// ... rest of the code` deletes what it does not want to repeat.

/// What comments begin with.
const COMMENTS: &[&str] = &["//", "#", "--", "/*", "<!--", ";", "%", "*", "{/*", "'''", "\"\"\""];

/// Words that say that something stays as it was.
const WORDS: &[&str] = &[
    "rest of",
    "existing",
    "remaining",
    "unchanged",
    "same as",
    "previous",
    "omitted",
    "other code",
    "other methods",
    "other functions",
    "keep the",
    "as before",
    "continue here",
    "implementation here",
];

/// The first line of `new` that is a placeholder and does not stand in `old` already: its number from 1, and its text.
pub fn find<'a>(old: &str, new: &'a str) -> Option<(usize, &'a str)> {
    let known = |line: &str| old.lines().any(|other| other.trim() == line.trim());
    new.lines().enumerate().find(|(_, line)| stands_for(line) && !known(line)).map(|(at, line)| (at + 1, line.trim()))
}

fn stands_for(line: &str) -> bool {
    let line = line.trim();
    if matches!(line, "..." | "…") {
        return true;
    }
    let Some(comment) = COMMENTS.iter().find_map(|mark| line.strip_prefix(mark)) else {
        // In brackets, as models write it in prose.
        let bracketed = line.strip_prefix(['[', '(', '<']).is_some_and(|rest| rest.ends_with([']', ')', '>']));
        return bracketed && dots(line) && says_unchanged(line);
    };
    let bare = comment.trim().trim_end_matches("*/").trim_end_matches("-->").trim();
    dots(bare) && (says_unchanged(bare) || matches!(bare, "..." | "…"))
}

fn dots(text: &str) -> bool {
    text.contains("...") || text.contains('…')
}

fn says_unchanged(text: &str) -> bool {
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found() {
        for line in [
            "// ... rest of the code",
            "    # ... existing code ...",
            "/* … remaining methods unchanged … */",
            "<!-- ... same as before ... -->",
            "...",
            "// ...",
            "[... rest of the file unchanged ...]",
        ] {
            assert!(find("", line).is_some(), "{line}");
        }
    }

    #[test]
    fn honest_lines_are_left_alone() {
        for line in [
            "// waits for the rest of the queue",
            "let all = [..., x];",
            "f(...args)",
            "def f(x: int = ...) -> None: ...",
            "println!(\"loading...\");",
            "# existing users keep their name",
            "..",
        ] {
            assert!(find("", line).is_none(), "{line}");
        }
        assert!(find("a\n// ... existing code\n", "b\n// ... existing code").is_none());
    }
}
