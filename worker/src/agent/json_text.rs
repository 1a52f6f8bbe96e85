//! Where the values of a JSON text stand in it, so that one is changed and all others stay byte for byte: a number may have more digits
//! than any type of it. Pure; of a text that is no JSON there is nothing to be found.

use std::ops::Range;

use serde::de::IgnoredAny;

/// What JSON lets stand between its parts.
pub const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// The members of the object that begins at a byte: their names, and where their values stand, in order.
pub fn members(text: &str, at: usize) -> Option<Vec<(String, Range<usize>)>> {
    let mut at = behind(text, at, '{')?;
    let mut members = vec![];
    if behind(text, at, '}').is_some() {
        return Some(members);
    }
    loop {
        let name = value(text, at)?;
        let held = value(text, behind(text, name.end, ':')?)?;
        let end = held.end;
        members.push((serde_json::from_str(&text[name]).ok()?, held));
        match behind(text, end, ',') {
            Some(next) => at = next,
            None => return behind(text, end, '}').map(|_| members),
        }
    }
}

/// Where the elements of the list stand that begins at a byte, in order.
pub fn elements(text: &str, at: usize) -> Option<Vec<Range<usize>>> {
    let mut at = behind(text, at, '[')?;
    let mut elements = vec![];
    if behind(text, at, ']').is_some() {
        return Some(elements);
    }
    loop {
        let element = value(text, at)?;
        let end = element.end;
        elements.push(element);
        match behind(text, end, ',') {
            Some(next) => at = next,
            None => return behind(text, end, ']').map(|_| elements),
        }
    }
}

/// Where the value stands that comes next.
fn value(text: &str, at: usize) -> Option<Range<usize>> {
    let at = text.len() - text[at..].trim_start_matches(BLANKS).len();
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(at..at + values.byte_offset())
}

/// Where the text goes on behind a mark, if that comes next.
fn behind(text: &str, at: usize, mark: char) -> Option<usize> {
    let rest = text[at..].trim_start_matches(BLANKS).strip_prefix(mark)?;
    Some(text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn values_are_found_where_they_stand() {
        let text = "{ \"a\\\"}\" : 1e400 ,\"ä\":[ {\"]\": []},\n\"x\\\\\" , -0.10 ], \"n\":null}";
        let members = members(text, 0).unwrap();
        let found: Vec<(&str, &str)> =
            members.iter().map(|(name, held)| (name.as_str(), &text[held.clone()])).collect();
        let list = "[ {\"]\": []},\n\"x\\\\\" , -0.10 ]";
        assert_eq!(found, [("a\"}", "1e400"), ("ä", list), ("n", "null")]);
        let elements = elements(text, members[1].1.start).unwrap();
        let found: Vec<&str> = elements.into_iter().map(|element| &text[element]).collect();
        assert_eq!(found, ["{\"]\": []}", "\"x\\\\\"", "-0.10"]);
    }

    #[test]
    fn what_is_cut_off_has_no_values() {
        let text = "{\"a\": [1, {\"b\": 2}]}";
        assert_eq!(members(text, 0).unwrap().len(), 1);
        assert!((0..text.len()).all(|end| members(&text[..end], 0).is_none()));
        assert!((0..13).all(|end| elements(&"[1, {\"b\": 2}]"[..end], 0).is_none()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_none_is_found_in_vain(text in "[\\[\\]{}\",:0-9eä \n\\\\-]{0,40}") {
            let read = serde_json::from_str::<Value>(&text);
            let found = (members(&text, 0), elements(&text, 0));
            if let Ok(Value::Array(list)) = read {
                proptest::prop_assert_eq!(found.1.map(|found| found.len()), Some(list.len()));
            }
        }
    }
}
