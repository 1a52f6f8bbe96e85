//! Filters and tests that a template names: minijinja looks for them only when it renders, which may be hours into a run.

use std::ops::Range;

use minijinja::{Environment, ErrorKind, Value};

use crate::code_spans::{Code, spans, string_bytes};
use crate::diagnostic::nearest;

/// The filters that a mistyped one is compared with.
const FILTERS: [&str; 20] = [
    "abs", "batch", "default", "dictsort", "first", "int", "items", "join", "last", "length", "list", "lower", "map",
    "replace", "select", "sort", "title", "trim", "unique", "upper",
];

/// A filter or test that does not exist.
pub(crate) struct UnknownWord {
    /// Its bytes in the template.
    pub at: Range<usize>,
    /// What to say about it.
    pub message: String,
    /// The one that was meant.
    pub hint: Option<String>,
}

/// The first filter (`x | name`) or test (`x is name`) of a template that minijinja does not know. `code` says whether all of
/// the text is an expression, or only what stands in braces.
pub(crate) fn unknown_word(environment: &Environment<'_>, text: &str, code: Code) -> Option<UnknownWord> {
    spans(text, code).into_iter().find_map(|span| unknown_in(environment, text, span))
}

fn unknown_in(environment: &Environment<'_>, text: &str, span: Range<usize>) -> Option<UnknownWord> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = span.start;
    let mut before = ' ';
    while at < span.end {
        let rest = &text[at..span.end];
        let letter = rest.chars().next()?;
        if letter == '"' || letter == '\'' {
            at += string_bytes(rest.as_bytes());
            before = letter;
            continue;
        }
        let is_test = rest.starts_with("is ") && !part(before);
        if letter == '|' || is_test {
            let words = rest[if is_test { 2 } else { 1 }..].trim_start();
            let words = if is_test { words.strip_prefix("not ").map_or(words, str::trim_start) } else { words };
            let name = &words[..words.find(|c| !part(c)).unwrap_or(words.len())];
            let known =
                name.is_empty() || if is_test { has_test(environment, name) } else { has_filter(environment, name) };
            if !known {
                let start = span.end - words.len();
                let kind = if is_test { "test" } else { "filter" };
                let near = nearest(name, FILTERS).filter(|_| !is_test);
                return Some(UnknownWord {
                    at: start..start + name.len(),
                    message: format!("there is no {kind} `{name}`"),
                    hint: near.map(|near| format!("did you mean `{near}`?")),
                });
            }
        }
        before = letter;
        at += letter.len_utf8();
    }
    None
}

/// Asks by using it: what it says about the value does not matter.
fn has_filter(environment: &Environment<'_>, name: &str) -> bool {
    let result = environment.empty_state().apply_filter(name, &[Value::from("")]);
    result.err().is_none_or(|error| error.kind() != ErrorKind::UnknownFilter)
}

fn has_test(environment: &Environment<'_>, name: &str) -> bool {
    let result = environment.empty_state().perform_test(name, &[Value::from("")]);
    result.err().is_none_or(|error| error.kind() != ErrorKind::UnknownTest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: Code, expected: Option<&str>) {
        let found = unknown_word(&Environment::new(), text, code);
        assert_eq!(found.map(|word| text[word.at].to_owned()).as_deref(), expected, "{text}");
    }

    #[test]
    fn filters_and_tests_are_looked_up_where_they_are_code() {
        check("ls | uper {{ x | upper }}", Code::Braces, None);
        check("{{ x | uper }}", Code::Braces, Some("uper"));
        check("{{ '| uper' }}{% for a in b | sort | srot %}", Code::Braces, Some("srot"));
        check("x is defined and y is not odder", Code::All, Some("odder"));
        check("this is fine", Code::Braces, None);
        check("{% raw %}{{ x | uper }}{% endraw %}{{ x | upr }}", Code::Braces, Some("upr"));
        check("{{ {'a': {'b': x}}['a'] | uper }}", Code::Braces, Some("uper"));
    }
}
