//! Letters of a script that nobody sees. Pure.

/// Whether a script shows less than it holds. What joins two letters of a script that is not ASCII, or two signs to one, is seen.
pub fn holds_unseen(text: &str) -> bool {
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let joins = matches!(c, '\u{200c}' | '\u{200d}')
            && [Some(before), letters.peek().copied()].iter().all(|c| c.is_some_and(is_seen_beyond_ascii));
        let hides = (c.is_control() && !matches!(c, '\n' | '\t')) || (!c.is_ascii() && c.is_whitespace());
        if hides || (is_invisible(c) && !joins) {
            return true;
        }
        before = c;
    }
    false
}

fn is_seen_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace() && !is_invisible(c)
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}
