//! Where a plan's texts say something, found by its keys: for what is wrong with a plan only here, long after it was parsed.

use crate::diagnostic::{Location, SourceFile};
use crate::document::{Node, read};

/// The place of a value in the first source that has it: `keys` lead to it from the top, and `item` is the text in it, of a list,
/// that is meant; where the list has no such text, the whole value.
pub fn find(sources: &[SourceFile], keys: &[&str], item: Option<&str>) -> Option<Location> {
    sources.iter().enumerate().find_map(|(source, file)| {
        let top = read(source, &file.text, &mut Vec::new())?;
        let value = keys.iter().try_fold(&top, |node, key| node.table()?.get(key))?;
        let texts: &[Node] = value.list().unwrap_or_default();
        let meant = texts.iter().find(|node| item.is_some() && node.text() == item);
        Some(meant.unwrap_or(value).at)
    })
}

/// A text as a plan says it, in double quotes. Source: the strings of TOML 1.0.
pub fn quoted(text: &str) -> String {
    let mut all = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => all.extend(['\\', letter]),
            letter if letter.is_control() => all.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => all.push(letter),
        }
    }
    all.push('"');
    all
}

/// What is pasted into a plan of which nothing lands, so that changes do.
pub const TRAIN: &str = "mode = \"train\"  # in [merge]; or commit a .gitignore that names what is only built";

/// A key of a list as it is pasted into a plan, the texts each once: behind the head of its table, or as a line that says in a
/// comment which table it belongs in where that is written already. `and` is what else is to be done, for people.
pub fn list_to_paste(table: &str, is_written: IsWritten, (key, texts): (&str, &[String]), and: Option<&str>) -> String {
    let mut known = std::collections::HashSet::new();
    let texts = texts.iter().filter(|text| known.insert(text.as_str())).map(|text| quoted(text));
    let line = format!("{key} = [{}]", texts.collect::<Vec<_>>().join(", "));
    match (is_written, and) {
        (IsWritten::Yes, None) => format!("{line}  # in [{table}]"),
        (IsWritten::Yes, Some(and)) => format!("{line}  # in [{table}], and {and}"),
        (IsWritten::No, None) => format!("[{table}]\n{line}"),
        (IsWritten::No, Some(and)) => format!("[{table}]\n{line}  # and {and}"),
    }
}

/// Whether a table stands in the plan: TOML knows each head once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsWritten {
    /// It does.
    Yes,
    /// It does not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_as_it_was() {
        for text in ["src/", "it's", "a\"b\\c", "tab\t and bell\u{7}", "\u{2028}ü\u{200b}\u{7f}"] {
            let sources = [SourceFile { name: "p".to_owned(), text: format!("a = [{}]", quoted(text)) }];
            let found = find(&sources, &["a"], Some(text)).expect("the list is there");
            assert_eq!(&sources[0].text[found.span()], quoted(text), "the text of it, not the list");
        }
    }

    #[test]
    fn a_value_is_found_however_its_table_is_written() {
        let check = |text: &str, item: Option<&str>, expected: Option<&str>| {
            let sources = ["version = 1", text].map(|text| SourceFile { name: "p".to_owned(), text: text.to_owned() });
            let found = find(&sources, &["sandbox", "a", "read"], item);
            assert_eq!(found.map(|at| &sources[at.source as usize].text[at.span()]), expected, "{text}");
        };
        check("[sandbox.a]\nread = ['/x', '/y']", Some("/y"), Some("'/y'"));
        check("sandbox = { a = { read = ['/x'] } }", Some("/x"), Some("'/x'"));
        check("sandbox.a.read = [\n'/x',\n]", Some("/z"), Some("[\n'/x',\n]"));
        check("[sandbox.b]\nread = ['/x']", Some("/x"), None);
    }

    #[test]
    fn what_is_to_be_pasted_is_toml_whether_its_table_is_written_or_not() {
        let texts = ["a\"b", "c", "c"].map(str::to_owned);
        for (is_written, and, expected) in [
            (IsWritten::No, None, "[sandbox.x]\nread = [\"a\\\"b\", \"c\"]"),
            (IsWritten::No, Some("--allow read=c"), "[sandbox.x]\nread = [\"a\\\"b\", \"c\"]  # and --allow read=c"),
            (IsWritten::Yes, Some("so on"), "read = [\"a\\\"b\", \"c\"]  # in [sandbox.x], and so on"),
        ] {
            let paste = list_to_paste("sandbox.x", is_written, ("read", &texts), and);
            assert_eq!(paste, expected);
            let whole = if is_written == IsWritten::Yes { format!("[sandbox.x]\n{paste}") } else { paste };
            let mut wrong = Vec::new();
            assert!(read(0, &whole, &mut wrong).is_some() && wrong.is_empty(), "{whole}: {wrong:?}");
        }
    }
}
