//! What a text says once the escapes of JSON in it are read, and where each byte of that is written: arguments of a call are
//! JSON in a text, and a key in them may be written `sk\/…` or `\u0073k-…`. A text that is no JSON is read the same way; what
//! is no escape stays as it is. Pure.
//!
//! Source: RFC 8259, section 7.

/// How often one text may be within another: servers encode arguments twice.
const DEPTH_MAX: usize = 2;

/// A text whose escapes are read, once or more.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it says. An escape that is cut off at the end is left out.
    pub text: String,
    /// Where each byte of it begins as written, and behind the last byte that is read. Answers are shorter than 4 GiB.
    starts: Vec<u32>,
}

/// What stands behind a backslash.
enum Escape {
    /// A character, and the bytes of the whole escape.
    Is(char, usize),
    /// Nothing that JSON knows.
    IsNone,
    /// Its beginning.
    IsCutOff,
}

impl Reading {
    /// The ways to read a text otherwise than as it stands: none where it has no backslash.
    pub fn all(text: &str) -> Vec<Reading> {
        let mut all: Vec<Reading> = vec![];
        while all.len() < DEPTH_MAX {
            let (written, starts) = all.last().map_or((text, None), |last| (&*last.text, Some(&*last.starts)));
            if !written.contains('\\') {
                break;
            }
            let next = read(written, &|at| starts.map_or(number(at), |starts| starts[at]));
            all.push(next);
        }
        all
    }

    /// Where a byte of the reading begins as written; behind all that is read for the byte behind the last.
    pub fn start(&self, at: usize) -> usize {
        self.starts[at] as usize
    }
}

/// Reads escapes once; `place` says where a byte of `text` is written.
fn read(text: &str, place: &dyn Fn(usize) -> u32) -> Reading {
    let (mut said, mut starts, mut at) = (String::with_capacity(text.len()), Vec::with_capacity(text.len() + 1), 0);
    let mut push = |letter: char, at: usize| {
        starts.extend((0..letter.len_utf8()).map(|_| place(at)));
        said.push(letter);
    };
    while let Some(letter) = text[at..].chars().next() {
        let (meant, length) = match escape(&text[at..]) {
            Escape::Is(meant, length) => (meant, length),
            Escape::IsNone => (letter, letter.len_utf8()),
            Escape::IsCutOff => break,
        };
        push(meant, at);
        at += length;
    }
    starts.push(place(at));
    Reading { text: said, starts }
}

/// The escape that a text begins with.
fn escape(text: &str) -> Escape {
    let Some(behind) = text.strip_prefix('\\') else { return Escape::IsNone };
    let plain = |letter: char| Escape::Is(letter, 2);
    match behind.chars().next() {
        None => Escape::IsCutOff,
        Some(letter @ ('"' | '\\' | '/')) => plain(letter),
        Some('n') => plain('\n'),
        Some('t') => plain('\t'),
        Some('r') => plain('\r'),
        Some('b') => plain('\u{8}'),
        Some('f') => plain('\u{c}'),
        Some('u') => {
            let digits: String = behind.chars().skip(1).take(4).take_while(char::is_ascii_hexdigit).collect();
            match digits.len() {
                4 => {
                    let letter = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    // Half of a pair: no key has such letters.
                    Escape::Is(letter.unwrap_or(char::REPLACEMENT_CHARACTER), 6)
                }
                some if behind.len() == 1 + some => Escape::IsCutOff,
                _ => Escape::IsNone,
            }
        }
        Some(_) => Escape::IsNone,
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<String> {
        Reading::all(text).into_iter().map(|reading| reading.text).collect()
    }

    #[test]
    fn escapes_are_read_as_often_as_there_are_any() {
        assert_eq!(texts("plain"), Vec::<String>::new());
        assert_eq!(texts(r"s\u006b\/x\n"), ["sk/x\n"]);
        assert_eq!(texts(r"\\u0073k"), [r"\u0073k", "sk"]);
        assert_eq!(texts(r"C:\q \u12 x"), [r"C:\q \u12 x", r"C:\q \u12 x"], "what is none stays");
        for cut in [r"ab\", r"ab\u", r"ab\u00", r"ab\u006"] {
            let readings = Reading::all(cut);
            assert_eq!((&*readings[0].text, readings[0].start(2)), ("ab", 2), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn each_byte_is_written_where_it_says(plain in "[a-c/+\u{e9}\"\\\\]{0,20}", forms in prop::collection::vec(0u8..3, 20)) {
            let one = |(letter, form): (char, &u8)| match (letter, form) {
                (letter, 1) => format!("\\u{:04x}", u32::from(letter)),
                ('/' | '"' | '\\', _) => format!("\\{letter}"),
                (letter, _) => letter.to_string(),
            };
            let parts: Vec<String> = plain.chars().zip(forms.iter().cycle()).map(one).collect();
            let written = parts.concat();
            if let Some(reading) = Reading::all(&written).first() {
                prop_assert_eq!(&reading.text, &plain);
                let mut place = 0;
                for ((at, _), part) in plain.char_indices().zip(&parts) {
                    prop_assert_eq!(reading.start(at), place);
                    place += part.len();
                }
                prop_assert_eq!(reading.start(plain.len()), written.len());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[u0-9a\\\\\u{e9}]{0,30}") {
            for reading in Reading::all(&text) {
                prop_assert!((0..=reading.text.len()).all(|at| text.is_char_boundary(reading.start(at))));
            }
        }
    }
}
