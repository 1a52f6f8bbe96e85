//! A TOML text as a tree in which every key and value knows its place. Everything the language says about keys and types
//! happens later, on this tree, so that one mistake never hides another.

use crate::diagnostic::{Diagnostic, Location};
use crate::keys::is_name;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where it is written.
    pub at: Location,
    /// What is written there.
    pub value: Value,
}

/// What TOML can say.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A string, unescaped.
    Text(String),
    /// A 64-bit integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// `true` or `false`.
    Flag(bool),
    /// A date or time, as written.
    Datetime(String),
    /// An array.
    List(Vec<Node>),
    /// A table, in the order of the text.
    Table(Table),
}

/// Keys and values in the order of the text; keys are unique.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// One key of a table.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key, unescaped.
    pub key: String,
    /// Where the key is written.
    pub key_at: Location,
    /// Its value.
    pub node: Node,
}

impl Table {
    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }
}

impl Node {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn integer(&self) -> Option<i64> {
        match self.value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self.value {
            Value::Integer(integer) => Some(integer as f64),
            Value::Float(number) => Some(number),
            _ => None,
        }
    }

    /// The flag, if it is one.
    pub fn flag(&self) -> Option<bool> {
        match self.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The name of its type, with an article.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Flag(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The same as JSON; dates become strings, and floats that JSON does not know become null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Text(text) | Value::Datetime(text) => serde_json::Value::String(text.clone()),
            Value::Integer(integer) => (*integer).into(),
            Value::Float(number) => (*number).into(),
            Value::Flag(flag) => (*flag).into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Table(table) => {
                serde_json::Value::Object(table.entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect())
            }
        }
    }
}

/// Reads one source. A text that is not TOML gives its first error.
pub(crate) fn read(source: usize, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    match toml::de::DeTable::parse(text) {
        Ok(document) => {
            let at = Location::new(source, 0..0);
            Some(Node { at, value: Value::Table(table(source, document.into_inner(), diagnostics)) })
        }
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let at = Location::new(source, span.clone());
            let diagnostic = Diagnostic::error(at, format!("invalid TOML: {}", error.message()));
            let diagnostic = match hint(error.message(), text) {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            };
            diagnostics.push(match first_of(text, span.start).filter(|_| error.message().contains("duplicate")) {
                Some(first) => diagnostic.related(Location::new(source, first), "the first one"),
                None => diagnostic,
            });
            None
        }
    }
}

/// What helps whoever wrote a text that is not TOML.
fn hint(message: &str, text: &str) -> Option<&'static str> {
    if message.contains("escape") {
        return Some("in double quotes a backslash begins an escape: single quotes take it as it is");
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let is_of_yaml = !first.contains('=') && first.split_once(':').is_some_and(|(key, _)| is_name(key.trim()));
    is_of_yaml.then_some("a plan is TOML, not YAML: key = \"value\", and [tasks.NAME] above the keys of a task")
}

/// Where the head of a table stands for the first time whose line holds the byte `at`.
fn first_of(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let begins = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let head = text[begins..].lines().next()?.trim_end();
    if !head.starts_with('[') {
        return None;
    }
    let mut line_begins = 0;
    for line in text[..begins].split_inclusive('\n') {
        if line.trim_end() == head {
            return Some(line_begins..line_begins + head.len());
        }
        line_begins += line.len();
    }
    None
}

/// Parsed tables come sorted by key: the places bring the text's order back.
fn table(source: usize, parsed: toml::de::DeTable<'_>, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let mut entries: Vec<Entry> = parsed
        .into_iter()
        .map(|(key, value)| Entry {
            key_at: Location::new(source, key.span()),
            key: key.into_inner().into_owned(),
            node: node(source, value, diagnostics),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_at.start);
    Table { entries }
}

fn node(source: usize, parsed: toml::Spanned<toml::de::DeValue<'_>>, diagnostics: &mut Vec<Diagnostic>) -> Node {
    use toml::de::DeValue;
    let at = Location::new(source, parsed.span());
    let value = match parsed.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => {
                diagnostics.push(Diagnostic::error(at, "this integer does not fit into 64 bits"));
                Value::Integer(0)
            }
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(date) => Value::Datetime(date.to_string()),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(source, item, diagnostics)).collect()),
        DeValue::Table(entries) => Value::Table(table(source, entries, diagnostics)),
    };
    Node { at, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_table_that_is_there_twice_the_first_is_shown() {
        let first = |text: &str| {
            let mut diagnostics = Vec::new();
            assert!(read(0, text, &mut diagnostics).is_none(), "{text}");
            diagnostics[0].related.first().map(|(_, span, _)| &text[span.clone()]).map(str::to_owned)
        };
        assert_eq!(first("[tasks.a]\nx = 1\n[tasks.b]\n[tasks.a]\n").as_deref(), Some("[tasks.a]"));
        assert_eq!(first("x = 1\nx = 2\n"), None);
        assert_eq!(first("x = \n"), None);
    }

    #[test]
    fn tables_keep_the_order_of_the_text() {
        let mut diagnostics = Vec::new();
        let node = read(0, "z = 1\na = 2\n[tasks.b]\nrun = 'x'\n[tasks.a]\nrun = 'y'\n", &mut diagnostics).unwrap();
        let keys = |table: &Table| table.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(node.table().unwrap()), ["z", "a", "tasks"]);
        assert_eq!(keys(node.table().unwrap().get("tasks").unwrap().table().unwrap()), ["b", "a"]);
        assert!(diagnostics.is_empty());
    }
}
