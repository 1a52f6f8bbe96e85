//! One run of a task: which values it stands for, and the id that people and refs know it by.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::ids::InstanceId;
use crate::plan::TaskIx;

/// An instance's place in the graph's list; never reused, never moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceIx(pub u32);

impl InstanceIx {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A task with its matrix and foreach values chosen.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `name` or `name[key=value,…]`; unique in the graph.
    pub id: InstanceId,
    /// The task.
    pub task: TaskIx,
    /// The values, matrix first, in plan order; shared between instances.
    pub bindings: Box<[Binding]>,
}

/// One value of an instance.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The axis, or the foreach name.
    pub name: Arc<str>,
    /// The value.
    pub value: BoundValue,
    /// Where it comes from.
    pub origin: Origin,
}

/// The value of a binding. Nearly all that a run may have a hundred thousand of are texts, names of files and lines of output, and
/// a JSON value takes several times their memory.
#[derive(Debug, Clone)]
pub enum BoundValue {
    /// A text that no plan holds.
    Text(Arc<str>),
    /// Anything else, shared with the plan where it stands there.
    Json(Arc<Value>),
}

impl From<Value> for BoundValue {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => BoundValue::Text(text.into()),
            other => BoundValue::Json(Arc::new(other)),
        }
    }
}

impl BoundValue {
    /// The value as JSON, made where it is not at hand.
    pub fn json(&self) -> Cow<'_, Value> {
        match self {
            BoundValue::Text(text) => Cow::Owned(Value::String(text.to_string())),
            BoundValue::Json(value) => Cow::Borrowed(value),
        }
    }
}

/// Where a binding's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An axis of the matrix: the plan itself.
    Axis,
    /// A pair that `matrix-include` adds to a combination: the plan itself, not part of the id.
    Added,
    /// A list in the plan.
    List,
    /// Names of files, or lines of a command's output: a shell must not interpret them.
    Names,
    /// A worker's output.
    Worker,
}

impl Origin {
    /// Whether it is a foreach value.
    pub fn is_foreach(self) -> bool {
        matches!(self, Origin::List | Origin::Names | Origin::Worker)
    }
}

/// The longest label of one value in an id, in characters, before it is cut.
const LABEL_CHARS_MAX: usize = 48;

/// A value in an id: short, readable, without the letters that ids use themselves. `index` is its place among its siblings,
/// which stands for lists and for objects without a `name` or `id`.
pub(crate) fn label(value: &Value, index: usize) -> String {
    match value {
        Value::String(text) => text_label(text),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) => index.to_string(),
        Value::Object(object) => match object.get("name").or_else(|| object.get("id")) {
            Some(Value::String(text)) => text_label(text),
            Some(Value::Number(number)) => number.to_string(),
            _ => index.to_string(),
        },
    }
}

/// A text as it is when it is plain and short, else a slug and six letters that depend on all of it.
fn text_label(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_./@+:-".contains(c);
    if !text.is_empty() && text.len() <= LABEL_CHARS_MAX && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut slug = String::new();
    for letter in text.chars().take(LABEL_CHARS_MAX) {
        if plain(letter) {
            slug.push(letter);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    format!("{}~{:06x}", slug.trim_matches('-'), stable_hash(text) & 0xff_ffff)
}

/// The label of a batch: its first and last item.
pub(crate) fn batch_label(first: String, last: String) -> String {
    if first == last { first } else { format!("{first}..{last}") }
}

/// FNV-1a: the same on every machine and in every version. Source: RFC 9923.
pub(crate) fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A run of 100,000 tasks has as many of these.
    #[test]
    fn an_instance_takes_40_bytes_and_40_a_binding() {
        assert!(size_of::<Instance>() <= 40, "{}", size_of::<Instance>());
        assert!(size_of::<Binding>() <= 40, "{}", size_of::<Binding>());
        assert!(size_of::<BoundValue>() <= 16, "{}", size_of::<BoundValue>());
    }

    #[test]
    fn a_value_reads_as_what_it_was_made_of() {
        for value in [json!("src/a.rs"), json!(3), json!(null), json!({"name": "core"}), json!(["a"])] {
            assert_eq!(*BoundValue::from(value.clone()).json(), value);
        }
    }

    #[test]
    fn plain_values_are_their_own_labels() {
        for (value, expected) in [
            (json!("src/a.rs"), "src/a.rs"),
            (json!(3), "3"),
            (json!(1.5), "1.5"),
            (json!(true), "true"),
            (json!({"name": "core", "dir": "x"}), "core"),
            (json!({"id": 7}), "7"),
            (json!({"dir": "x"}), "4"),
            (json!(["a"]), "4"),
            (json!("ü"), "ü"),
        ] {
            assert_eq!(label(&value, 4), expected);
        }
    }

    #[test]
    fn odd_values_become_readable_and_stay_different() {
        let labels: Vec<String> =
            ["a b", "a,b", "a]b", "a\nb", "", "x=y"].iter().map(|text| label(&json!(text), 0)).collect();
        for (index, one) in labels.iter().enumerate() {
            assert!(!one.contains([' ', ',', ']', '[', '=', '\n']), "{one}");
            assert!(!labels[..index].contains(one));
        }
        assert!(labels[0].starts_with("a-b~"));
    }
}
