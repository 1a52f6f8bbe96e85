//! A text as a screen shows it, with the place of each byte: without sequences that a terminal obeys and without what nobody
//! sees. A secret with such a thing between its letters stands in no log as it is, and in plain for whoever reads it there; so a
//! mask looks for it in what is beheld, not in what is written. Nobody has to mask again behind what [`sanitize`] takes out.
//!
//! There are two readings: the sequences gone whole, as [`sanitize::line`] has it, and only their control characters gone, as
//! the lines of a conversation have it. Pure.
//!
//! Source: ECMA-48 (control functions).

use crate::report::sanitize;

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Sequences are gone as a whole.
    Sequences,
    /// Only what nobody sees is gone.
    Letters,
}

/// Where in a sequence a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Within {
    #[default]
    Nothing,
    /// Behind an escape.
    Escape,
    /// Behind the intermediates of a short one.
    Intermediates,
    /// Among the parameters of a control sequence.
    Control,
    /// In a string: a title, a link.
    Text,
    /// Behind an escape in a string.
    TextEscape,
}

/// Who reads a text that comes in pieces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eye {
    within: Within,
}

/// What is seen of a text.
#[derive(Debug, Default)]
pub struct Beheld {
    pub bytes: Vec<u8>,
    /// Where each of them stands in the text.
    at: Vec<usize>,
}

impl Beheld {
    /// Where in the text, of `length` bytes, the byte at `index` stands.
    pub fn place(&self, index: usize, length: usize) -> usize {
        self.at.get(index).copied().unwrap_or(length)
    }

    /// Where in the text these stand: the first byte, and behind the last.
    pub fn range(&self, (start, end): (usize, usize)) -> (usize, usize) {
        (self.at[start], self.at[end - 1] + 1)
    }
}

/// Whether all of a text is seen by whoever stands in no sequence: most is, and needs no second look.
pub fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'))
}

/// Where the letter begins that a text ends in the middle of; its length where it does not.
pub fn whole_letters(bytes: &[u8]) -> usize {
    let front = bytes.len().saturating_sub(3);
    let starts = (front..bytes.len()).rev().find(|&at| bytes[at] & 0b1100_0000 != 0b1000_0000);
    let is_open = |at: &usize| std::str::from_utf8(&bytes[*at..]).is_err_and(|error| error.error_len().is_none());
    starts.filter(is_open).unwrap_or(bytes.len())
}

impl Eye {
    /// Whether it stands in no sequence.
    pub fn is_outside(self) -> bool {
        self.within == Within::Nothing
    }

    /// Reads a text, and what is seen of it.
    pub fn behold(&mut self, bytes: &[u8], reading: Reading) -> Beheld {
        let mut seen = Beheld { bytes: Vec::with_capacity(bytes.len()), at: Vec::with_capacity(bytes.len()) };
        self.each(bytes, reading, |at, letter| {
            seen.bytes.extend_from_slice(letter);
            seen.at.extend(at..at + letter.len());
        });
        seen
    }

    /// Reads a text and forgets it.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.each(bytes, Reading::Sequences, |_, _| {});
    }

    fn each(&mut self, bytes: &[u8], reading: Reading, mut seen: impl FnMut(usize, &[u8])) {
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            for letter in chunk.valid().chars() {
                let end = at + letter.len_utf8();
                let is_seen = match reading {
                    Reading::Sequences => self.sees(letter),
                    Reading::Letters => letter == '\n' || letter == '\t' || !sanitize::is_deceptive(letter),
                };
                if is_seen {
                    seen(at, &bytes[at..end]);
                }
                at = end;
            }
            let end = at + chunk.invalid().len();
            // What is no letter is shown as one.
            if end > at && (reading == Reading::Letters || self.sees(char::REPLACEMENT_CHARACTER)) {
                seen(at, &bytes[at..end]);
            }
            at = end;
        }
    }

    /// Whether a letter is seen.
    fn sees(&mut self, letter: char) -> bool {
        let (within, goes_on) = match (self.within, letter) {
            // No sequence goes beyond its line, or beyond what begins the line anew.
            (_, '\n' | '\r') => (Within::Nothing, false),
            (Within::Escape, '[') => (Within::Control, true),
            (Within::Escape, ']' | 'P' | 'X' | '^' | '_') => (Within::Text, true),
            (Within::Escape | Within::Intermediates, '\u{20}'..='\u{2f}') => (Within::Intermediates, true),
            (Within::Escape | Within::Intermediates, '\u{30}'..='\u{7e}') => (Within::Nothing, true),
            (Within::Control, '\u{20}'..='\u{3f}') => (Within::Control, true),
            (Within::Control, '\u{40}'..='\u{7e}') => (Within::Nothing, true),
            (Within::Text, '\u{7}' | '\u{9c}') | (Within::TextEscape, '\\') => (Within::Nothing, true),
            (Within::Text, '\u{1b}') => (Within::TextEscape, true),
            (Within::Text, _) => (Within::Text, true),
            _ => (Within::Nothing, false),
        };
        self.within = within;
        if goes_on {
            return false;
        }
        self.within = match letter {
            '\u{1b}' => Within::Escape,
            '\u{9b}' => Within::Control,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => Within::Text,
            _ => return letter == '\n' || letter == '\t' || !sanitize::is_deceptive(letter),
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(text: &[u8], reading: Reading) -> String {
        String::from_utf8_lossy(&Eye::default().behold(text, reading).bytes).into_owned()
    }

    #[test]
    fn what_a_screen_obeys_is_not_seen() {
        let text = "a\u{1b}[0mb\u{200b}c\u{9b}1md\u{1b}]0;t\u{7}e\rf\u{8}\0\u{7f}\n";
        assert_eq!(seen(text.as_bytes(), Reading::Sequences), "abcdef\n");
        assert_eq!(seen(text.as_bytes(), Reading::Letters), "a[0mbc1md]0;tef\n");
        assert_eq!(seen("x\u{1b}yz".as_bytes(), Reading::Letters), "xyz");
    }

    #[test]
    fn each_byte_knows_its_place() {
        let text = "a\u{1b}[0m\u{fc}b";
        let beheld = Eye::default().behold(text.as_bytes(), Reading::Sequences);
        assert_eq!((beheld.range((0, 3)), beheld.range((1, 4)), beheld.place(4, 8)), ((0, 7), (5, 8), 8));
    }

    #[test]
    fn a_letter_in_the_middle_of_which_a_text_ends_is_waited_for() {
        for (text, whole) in
            [(&b"ab"[..], 2), (b"ab\xe2", 2), (b"ab\xe2\x80", 2), (b"a\xe2\x80\x8b", 4), (b"a\xff", 2), (b"", 0)]
        {
            assert_eq!(whole_letters(text), whole, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_line_shows(text in "(\u{1b}|\u{9b}|\u{90}|\\[|\\]|;|[0-9]|m|\u{7}|\u{9c}|\\\\|\u{202e}|x| |\\(){0,40}") {
            prop_assert_eq!(seen(text.as_bytes(), Reading::Sequences), sanitize::line(text.as_bytes()));
        }

        #[test]
        fn pieces_are_read_as_the_whole(text in "(\u{1b}|\u{9b}|\\[|\\]|;|m|\u{7}|\u{202e}|x|\n|\r){0,40}", cut in 0..40_usize) {
            let cut = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
            let mut eye = Eye::default();
            let mut bytes = eye.behold(&text.as_bytes()[..cut], Reading::Sequences).bytes;
            bytes.extend(eye.behold(&text.as_bytes()[cut..], Reading::Sequences).bytes);
            prop_assert_eq!(bytes, Eye::default().behold(text.as_bytes(), Reading::Sequences).bytes);
        }
    }
}
