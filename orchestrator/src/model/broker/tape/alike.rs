//! What a program asks, without what no two runs of it have in common: its sessions' ids, the time, places below `/tmp`. Two
//! questions that are the same but for those are alike.

use serde_json::{Map, Value};

/// Stands for a word that may differ.
const ANY: &str = "#";
/// Words of dates, beside those with digits in them.
const DATE_WORDS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "jan",
    "feb",
    "mar",
    "apr",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "mon",
    "tue",
    "wed",
    "thu",
    "fri",
    "sat",
    "sun",
];

/// The same value with [`ANY`] for every word that may differ and 0 for every number. Keys keep their order.
pub fn alike(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(words(text)),
        Value::Number(_) => Value::from(0),
        Value::Array(items) => items.iter().map(alike).collect(),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (words(key), alike(value)));
            Value::Object(entries.collect::<Map<String, Value>>())
        }
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

fn words(text: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "_-./:+~@%".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = is_of_word(first);
        let end = rest.find(|c| is_of_word(c) != is_word).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        out.push_str(if is_word && may_differ(part) { ANY } else { part });
        rest = behind;
    }
    out
}

fn may_differ(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit())
        || word.starts_with("/tmp/")
        || DATE_WORDS.iter().any(|date| word.eq_ignore_ascii_case(date))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_times_and_private_places_may_differ_and_words_may_not() {
        let ask = |id: &str, day: &str, words: &str| {
            alike(&json!({"metadata": {"session": id}, "max_tokens": id.len(),
                "messages": [{"role": "user", "content": format!("Today is {day}, in /tmp/{id}. {words}")}]}))
        };
        let one = ask("0f9c-77", "Sunday, November 22, 2026", "fix the parser");
        assert_eq!(one, ask("ab12-cd-9", "Monday, December 1, 2026", "fix the parser"));
        assert_ne!(one, ask("0f9c-77", "Sunday, November 22, 2026", "fix the lexer"));
        assert_eq!(one["messages"][0]["content"], "Today is #, # #, #, in # fix the parser");
    }
}
