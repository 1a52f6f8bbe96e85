//! What is asked, without what no two runs of it have in common: ids of sessions and runs, the time, places below `/tmp`. Two
//! questions that are the same but for those are alike. A program puts them anywhere; to an agent they come from its tools, so
//! that a plain number in what it is told to do counts.

use serde_json::{Map, Value};

/// Stands for a word that may differ.
const ANY: &str = "#";
/// The longest number that somebody tells an agent, in bytes; a longer one is an id, or a time since the Unix epoch.
const NUMBER_BYTES_MAX: usize = 8;
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

/// The same of an agent's question: of what it was told, plain numbers stay, and so does all that is not its conversation.
pub fn alike_of_agent(request: &Value) -> Value {
    let mut request = request.clone();
    for place in ["/system", "/messages"] {
        if let Some(value) = request.pointer_mut(place) {
            *value = told(value);
        }
    }
    request
}

/// What an agent was told and said; what its tools gave is looked at as a program's question is.
fn told(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(words_but(text, |word| is_number(word) || !may_differ(word))),
        Value::Array(items) => items.iter().map(told).collect(),
        Value::Object(map) if map.get("part").is_some_and(|part| part == "tool-result") => alike(value),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), told(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// `12`, `1.5`, `50%`, `12.` at the end of a sentence: no id and no time.
fn is_number(word: &str) -> bool {
    word.len() <= NUMBER_BYTES_MAX && word.bytes().all(|byte| byte.is_ascii_digit() || b".%".contains(&byte))
}

fn words(text: &str) -> String {
    words_but(text, |word| !may_differ(word))
}

/// A text with [`ANY`] for each word that does not stay.
fn words_but(text: &str, stays: impl Fn(&str) -> bool) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "_-./:+~@%".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = is_of_word(first);
        let end = rest.find(|c| is_of_word(c) != is_word).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        out.push_str(if is_word && !stays(part) { ANY } else { part });
        rest = behind;
    }
    out
}

fn may_differ(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit())
        || word.starts_with("/tmp/")
        || word.starts_with("/run/swarm/tmp/")
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

    #[test]
    fn what_an_agent_is_told_counts_with_its_numbers_and_what_its_tools_gave_without() {
        let ask = |told: &str, gave: &str| {
            let parts =
                json!([{"part": "tool-result", "call": "c-1", "content": gave}, {"part": "text", "text": told}]);
            alike_of_agent(&json!({"model": "m-1", "system": "s", "output_tokens_max": 9,
                "messages": [{"role": "user", "content": parts}]}))
        };
        let one = ask("Fix 12 files in run it-1.", "12 tests, took 0.31s at 1732331231123");
        assert_eq!(one, ask("Fix 12 files in run it-2.", "13 tests, took 1.7s at 1732339999999"));
        assert_ne!(one, ask("Fix 13 files in run it-1.", "12 tests, took 0.31s at 1732331231123"));
        assert_ne!(one, ask("Fix 12 files in run it-1.", "12 errors, took 0.31s at 1732331231123"));
        assert_eq!((&one["model"], &one["output_tokens_max"]), (&json!("m-1"), &json!(9)));
    }
}
