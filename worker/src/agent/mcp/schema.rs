//! Schemas of foreign tools as every provider takes them. A provider looks at all tools of a request and refuses it as a whole,
//! so a single schema that is none would take the model from its agent. What older drafts wrote otherwise is written anew, what
//! has not the form of its word is left out (a server looks at its arguments itself), and what says something that cannot be
//! written is said in words. Pure; nothing is refused.
//!
//! Source: JSON Schema 2020-12; Anthropic, `tools.input_schema` (checked against that draft; no `oneOf`, `allOf`, `anyOf` on top,
//! keys `^[a-zA-Z0-9_.-]{1,64}$`); OpenAI, function calling (an array says its `items`); Ollama, `api.ToolProperty` (a property is
//! an object).

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// The longest schema that the model is told, in bytes.
const BYTES_MAX: usize = 32 << 10;
/// The longest schema that is looked at, in bytes.
const GIVEN_BYTES_MAX: usize = 1 << 20;
/// Schemas within each other; deeper ones allow anything.
const DEPTH_MAX: usize = 24;
/// The longest name of an argument, in bytes.
const KEY_BYTES_MAX: usize = 64;
const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
/// Words that only say more of what a server looks at itself, and that no provider takes on top.
const NOT_ON_TOP: [&str; 6] = ["oneOf", "anyOf", "allOf", "not", "enum", "const"];

/// A schema as it is sent.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// An object's, of draft 2020-12.
    pub schema: Value,
    /// What of the server's own could not be written so, the first of it, for people: its text belongs into the description.
    pub lacks: Option<String>,
}

/// What a word of JSON Schema holds.
enum Form {
    Schema,
    /// A list of schemas that is not empty.
    Schemas,
    /// Schemas by name.
    Named,
    Text,
    Flag,
    /// A whole number, not negative.
    Count,
    Number,
    /// A number above zero.
    Step,
    /// A list that is not empty.
    Values,
    /// Names, each once.
    Names,
    /// Names by name.
    NamesByName,
    /// Whatever it is.
    Any,
    /// Not sent at all: it names another draft, or leads out of this schema.
    Never,
}

fn form(word: &str) -> Form {
    match word {
        "items"
        | "additionalProperties"
        | "not"
        | "contains"
        | "if"
        | "then"
        | "else"
        | "propertyNames"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => Form::Schema,
        "prefixItems" | "anyOf" | "oneOf" | "allOf" => Form::Schemas,
        "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => Form::Named,
        "description" | "title" | "pattern" | "format" | "$ref" | "$comment" | "contentEncoding"
        | "contentMediaType" => Form::Text,
        "uniqueItems" | "deprecated" | "readOnly" | "writeOnly" | "nullable" => Form::Flag,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
        | "maxContains" => Form::Count,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Form::Number,
        "multipleOf" => Form::Step,
        "enum" | "examples" => Form::Values,
        "required" => Form::Names,
        "dependentRequired" => Form::NamesByName,
        "$schema" | "$id" | "id" | "$anchor" | "$vocabulary" | "$dynamicRef" | "$dynamicAnchor" | "$recursiveRef"
        | "$recursiveAnchor" | "dependencies" | "additionalItems" => Form::Never,
        _ => Form::Any,
    }
}

/// The schema of a tool as every provider takes it.
pub fn told(given: &Value) -> Told {
    let nothing = |why: Option<String>| Told { schema: json!({"type": "object", "properties": {}}), lacks: why };
    if given.to_string().len() > GIVEN_BYTES_MAX {
        return nothing(Some(format!("it is longer than {BYTES_MAX} bytes")));
    }
    let top = match given {
        Value::Object(top) => top,
        Value::Null => return nothing(None),
        _ => return nothing(Some("it is no object".to_owned())),
    };
    let mut top = top.clone();
    top.retain(|word, _| !NOT_ON_TOP.contains(&word.as_str()));
    let is_object = match top.get("type") {
        None | Some(Value::Null) => true,
        Some(Value::Array(types)) => types.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
    };
    if !is_object {
        return nothing(Some(format!("it wants {}, and arguments are an object", top["type"])));
    }
    top.insert("type".to_owned(), "object".into());
    if top.get("properties").is_none_or(Value::is_null) {
        top.insert("properties".to_owned(), Value::Object(Map::new()));
    }
    let mut mender = Mender { root: given, lacks: None };
    let Value::Object(mut schema) = mender.schema(&Value::Object(top), "", 0) else { return nothing(None) };
    schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    let schema = Value::Object(schema);
    match schema.to_string().len() {
        long if long > BYTES_MAX => nothing(Some(format!("it is longer than {BYTES_MAX} bytes"))),
        _ => Told { schema, lacks: mender.lacks },
    }
}

struct Mender<'a> {
    /// What references lead into.
    root: &'a Value,
    lacks: Option<String>,
}

impl Mender<'_> {
    /// A schema with all within; `at` is where it stands.
    fn schema(&mut self, given: &Value, at: &str, depth: usize) -> Value {
        let given = match given {
            Value::Bool(true) => return json!({}),
            Value::Bool(false) => return json!({"not": {}}),
            Value::Object(given) if depth < DEPTH_MAX => given,
            Value::Object(_) => return json!({}),
            other => {
                self.lacks(format!("`{at}` is {other}, and no schema"));
                return json!({});
            }
        };
        let given = of_older_drafts(given.clone());
        let mut sent = Map::new();
        for (word, value) in &given {
            let at = if at.is_empty() { word.clone() } else { format!("{at}.{word}") };
            if let Some(value) = self.word(word, value, &at, depth) {
                sent.insert(word.clone(), value);
            }
        }
        self.agree(&mut sent, &given);
        Value::Object(sent)
    }

    /// What a word is sent with; `None` where it is left out.
    fn word(&mut self, word: &str, value: &Value, at: &str, depth: usize) -> Option<Value> {
        match form(word) {
            // What an object may hold beside, or a list: there a plain yes or no is what everybody writes.
            Form::Schema if value.is_boolean() && word != "not" => Some(value.clone()),
            Form::Schema => (value.is_object() || value.is_boolean()).then(|| self.schema(value, at, depth + 1)),
            Form::Schemas => {
                let all = value.as_array().filter(|all| !all.is_empty())?;
                Some(all.iter().map(|one| self.schema(one, at, depth + 1)).collect())
            }
            Form::Named => self.named(word, value, at, depth),
            Form::Text if word == "$ref" => {
                let leads = value.as_str().is_some_and(|to| self.leads_somewhere(to));
                if !leads {
                    self.lacks(format!("`{at}` is {value}, and leads nowhere in it"));
                }
                leads.then(|| value.clone())
            }
            Form::Text if word == "pattern" => value.as_str().filter(|pattern| is_pattern(pattern)).map(Value::from),
            Form::Text => value.is_string().then(|| value.clone()),
            Form::Flag => value.is_boolean().then(|| value.clone()),
            Form::Count => {
                number(value).filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 1e15).map(|n| json!(n as u64))
            }
            Form::Number => as_number(value),
            Form::Step => as_number(value).filter(|_| number(value).is_some_and(|n| n > 0.0)),
            Form::Values => {
                value.as_array().map(|all| once(all.iter())).filter(|all| !all.is_empty()).map(Value::Array)
            }
            Form::Names => {
                let names = once(value.as_array()?.iter().filter(|name| name.is_string()));
                (!names.is_empty()).then_some(Value::Array(names))
            }
            Form::NamesByName => {
                let names = |all: &Value| Some(once(all.as_array()?.iter().filter(|name| name.is_string())));
                let all = value.as_object()?.iter();
                Some(all.filter_map(|(name, all)| Some((name.clone(), Value::Array(names(all)?)))).collect())
            }
            Form::Any if word == "type" => self.types(value, at),
            Form::Any => Some(value.clone()),
            Form::Never => None,
        }
    }

    fn named(&mut self, word: &str, value: &Value, at: &str, depth: usize) -> Option<Value> {
        let Some(all) = value.as_object() else {
            if word == "properties" {
                self.lacks(format!("`{at}` is no object"));
            }
            return None;
        };
        let mut sent = Map::new();
        for (name, one) in all {
            if word == "properties" && !is_key(name) {
                self.lacks(format!("`{at}` has the name {name:?}, which providers refuse"));
                continue;
            }
            sent.insert(name.clone(), self.schema(one, &format!("{at}.{name}"), depth + 1));
        }
        Some(Value::Object(sent))
    }

    fn types(&mut self, value: &Value, at: &str) -> Option<Value> {
        let is_type = |kind: &&Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
        let all = match value {
            Value::Array(all) => once(all.iter().filter(is_type)),
            one => once(Some(one).into_iter().filter(is_type)),
        };
        match all.as_slice() {
            [] => {
                self.lacks(format!("`{at}` is {value}, and no type of JSON Schema"));
                None
            }
            [one] => Some(one.clone()),
            _ => Some(Value::Array(all)),
        }
    }

    /// Words that lean on each other.
    fn agree(&mut self, sent: &mut Map<String, Value>, given: &Map<String, Value>) {
        if sent.get("type").is_some_and(|kind| kind == "array") && !sent.contains_key("items") {
            sent.insert("items".to_owned(), json!({}));
        }
        let properties = |of: &Map<String, Value>| of.get("properties").and_then(Value::as_object).cloned();
        let (Some(kept), Some(all)) = (properties(sent), properties(given)) else { return };
        if kept.len() < all.len() {
            // What is said in words only is an argument all the same.
            sent.remove("additionalProperties");
            if let Some(Value::Array(names)) = sent.get_mut("required") {
                names.retain(|name| {
                    name.as_str().is_some_and(|name| kept.contains_key(name) || !all.contains_key(name))
                });
            }
        }
    }

    /// Whether a reference leads to a schema of the same tool that is sent under the same name.
    fn leads_somewhere(&self, to: &str) -> bool {
        let Some(pointer) = to.strip_prefix('#') else { return false };
        let steps: Vec<&str> = pointer.split('/').collect();
        let is_sent = match steps.as_slice() {
            [""] => true,
            ["", "properties", name] => is_key(name),
            ["", "$defs" | "definitions", _] => true,
            _ => false,
        };
        is_sent && self.root.pointer(pointer).is_some_and(|found| found.is_object() || found.is_boolean())
    }

    fn lacks(&mut self, why: String) {
        self.lacks.get_or_insert(why);
    }
}

/// What drafts before 2020-12 wrote otherwise: the places of a list, and bounds that do not count themselves.
fn of_older_drafts(mut schema: Map<String, Value>) -> Map<String, Value> {
    if schema.get("items").is_some_and(Value::is_array) {
        let places = schema.remove("items").expect("it is there");
        schema.insert("prefixItems".to_owned(), places);
        if let Some(rest) = schema.remove("additionalItems") {
            schema.insert("items".to_owned(), rest);
        }
    }
    for (excluding, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match schema.get(excluding) {
            Some(Value::Bool(true)) => {
                schema.remove(excluding);
                if let Some(bound) = schema.remove(bound) {
                    schema.insert(excluding.to_owned(), bound);
                }
            }
            Some(Value::Bool(false)) => drop(schema.remove(excluding)),
            _ => {}
        }
    }
    schema
}

/// Each value the first time that it stands there.
fn once<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    values.take(BYTES_MAX).filter(|value| seen.insert(value.to_string())).cloned().collect()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        other => other.as_f64(),
    }
}

/// A number as it is, or one that stands there as a text.
fn as_number(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => match text.trim().parse::<i64>() {
            Ok(whole) => Some(json!(whole)),
            Err(_) => number(value).map(|n| json!(n)),
        },
        _ => None,
    }
}

/// Whether a text may be a pattern of JavaScript. What this machine's expressions lack is not judged.
fn is_pattern(pattern: &str) -> bool {
    let has_more = pattern.contains("(?") || pattern.contains('\\');
    has_more || regex::Regex::new(pattern).is_ok()
}

fn is_key(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && name.len() <= KEY_BYTES_MAX && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(items: Value) -> Value {
        json!({"type": "object", "properties": {"a": items}})
    }

    /// What is sent where nothing has to be said in words.
    fn sent(given: &Value) -> Value {
        let told = told(given);
        assert_eq!(told.lacks, None, "{given}");
        told.schema
    }

    #[test]
    fn what_only_says_more_is_left_out_and_what_lacks_is_put_in() {
        let empty = json!({"type": "object", "properties": {}});
        for given in [
            json!(null),
            json!({}),
            json!({"type": "object"}),
            json!({"type": ["object", "null"], "properties": null}),
            json!({"anyOf": [{"required": ["a"]}], "oneOf": 7}),
            json!({"$schema": "http://json-schema.org/draft-04/schema#", "id": "x", "if": 5, "dependentSchemas": 5, "$defs": 5}),
        ] {
            assert_eq!(sent(&given), empty, "{given}");
        }
        let nested = listed(json!({"anyOf": [{"type": ["string", "null"]}, {}], "description": "d", "x-own": 5}));
        assert_eq!(sent(&nested), nested);
    }

    #[test]
    fn older_drafts_are_written_anew_and_what_has_not_its_form_is_left_out() {
        let cycle = json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/q"}}});
        for (given, expected) in [
            (json!(true), json!({})),
            (json!(false), json!({"not": {}})),
            (json!({"type": "array"}), json!({"type": "array", "items": {}})),
            (
                json!({"type": "array", "items": [{"type": "string"}, true], "additionalItems": false}),
                json!({"type": "array", "prefixItems": [{"type": "string"}, {}], "items": false}),
            ),
            (json!({"minimum": 0, "exclusiveMinimum": true}), json!({"exclusiveMinimum": 0})),
            (json!({"maximum": 9, "exclusiveMaximum": false}), json!({"maximum": 9})),
            (json!({"minLength": "3", "maxLength": -1, "minItems": 2.0}), json!({"minLength": 3, "minItems": 2})),
            (json!({"multipleOf": 0, "maximum": "1.5", "minimum": {}}), json!({"maximum": 1.5})),
            (
                json!({"required": ["a", "a", 7], "type": ["string", "string"]}),
                json!({"required": ["a"], "type": "string"}),
            ),
            (json!({"enum": [], "required": true, "pattern": "(", "title": 5}), json!({})),
            (json!({"enum": ["a", "a", null], "pattern": "(?=x)"}), json!({"enum": ["a", null], "pattern": "(?=x)"})),
            (json!({"anyOf": [], "propertyNames": 7, "then": "x"}), json!({})),
            (json!({"dependentRequired": {"a": ["b", "b"], "c": 5}}), json!({"dependentRequired": {"a": ["b"]}})),
        ] {
            assert_eq!(sent(&listed(given.clone())), listed(expected), "{given}");
        }
        let mut given = listed(json!({"$ref": "#/$defs/q"}));
        given["$defs"] = json!({"q": cycle});
        assert_eq!(sent(&given), given, "a reference that leads somewhere");
        let deep = (0..30).fold(json!({"type": "string"}), |inner, _| json!({"items": inner}));
        assert!(sent(&listed(deep)).to_string().len() < 400);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let check = |given: Value, expected: Value, why: &str| {
            assert_eq!(told(&given), Told { schema: expected, lacks: Some(why.to_owned()) });
        };
        let empty = || json!({"type": "object", "properties": {}});
        check(json!("x"), empty(), "it is no object");
        check(json!({"type": "array"}), empty(), "it wants \"array\", and arguments are an object");
        check(json!({"properties": []}), empty(), "`properties` is no object");
        check(json!({"properties": {"a": "text"}}), listed(json!({})), "`properties.a` is \"text\", and no schema");
        let given = listed(json!({"items": {"type": "str", "title": "t"}}));
        let why = "`properties.a.items.type` is \"str\", and no type of JSON Schema";
        check(given, listed(json!({"items": {"title": "t"}})), why);
        let given =
            json!({"properties": {"a b": {}, "a": {}}, "required": ["a b", "a"], "additionalProperties": false});
        let expected = json!({"type": "object", "properties": {"a": {}}, "required": ["a"]});
        check(given, expected, "`properties` has the name \"a b\", which providers refuse");
        for to in ["#/$defs/none", "http://127.0.0.1:1/x", "#/properties/a/items"] {
            let why = format!("`properties.a.$ref` is \"{to}\", and leads nowhere in it");
            check(listed(json!({"$ref": to, "title": "t"})), listed(json!({"title": "t"})), &why);
        }
        check(json!({"description": "x".repeat(BYTES_MAX)}), empty(), "it is longer than 32768 bytes");
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_once_is_taken_as_it_is(key in "[a-z$]{1,9}", text in "[a-z]{0,6}") {
            for word in ["items", "type", "required", "enum", "minLength", "anyOf", "$ref", &key] {
                for value in [json!(text), json!({}), json!([]), json!(true), json!(3), json!({key.clone(): text.clone()})] {
                    let once = told(&listed(json!({word: value}))).schema;
                    proptest::prop_assert_eq!(told(&once), Told { schema: once, lacks: None });
                }
            }
        }
    }
}
