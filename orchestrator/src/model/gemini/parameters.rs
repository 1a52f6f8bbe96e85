//! Schemas of tools in the words that Gemini knows: it refuses a request as a whole for one word more, a type that is a list, a
//! reference, or a value without a type. What is lost says nothing that a model needs, or is looked at by the tool itself. Pure.
//!
//! Source: Gemini API, `Schema`; Vertex AI, `Schema`: `anyOf` stands alone, `enum` is of strings, `required` names what is there.

use serde_json::{Map, Value, json};

/// Words that are sent as they are.
const PLAIN: [&str; 9] =
    ["description", "title", "pattern", "maxItems", "minItems", "minimum", "maximum", "minLength", "maxLength"];
/// Schemas within each other, through references, too: one may lead back to itself.
const DEPTH_MAX: usize = 16;
/// Schemas of one tool, and references that are followed.
const SCHEMAS_MAX: usize = 1000;
/// The longest schema that is looked at, in bytes; a worker tells none that is half as long.
const GIVEN_BYTES_MAX: usize = 64 << 10;
/// All texts of one tool's schema, in bytes: what many references lead to is written as often.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The schema of a tool's arguments; `root` is what its references lead into.
pub fn subset(root: &Value) -> Value {
    if root.to_string().len() > GIVEN_BYTES_MAX {
        return json!({ "type": "object" });
    }
    Subset { root, room: SCHEMAS_MAX, text_bytes: TEXT_BYTES_MAX }.schema(root, 0)
}

struct Subset<'a> {
    root: &'a Value,
    /// How many schemas may still be written.
    room: usize,
    /// How long the texts may be that are still written.
    text_bytes: usize,
}

impl Subset<'_> {
    fn schema(&mut self, given: &Value, depth: usize) -> Value {
        if depth > DEPTH_MAX || self.room == 0 {
            let given = self.resolved(given, 0);
            return json!({ "type": given.get("type").filter(|kind| kind.is_string()).unwrap_or(&"object".into()) });
        }
        self.room -= 1;
        let given = self.resolved(given, 0);
        let mut sent: Map<String, Value> = Map::new();
        for (word, value) in given.iter().filter(|(word, _)| PLAIN.contains(&word.as_str())) {
            if self.has_room_for(value) {
                sent.insert(word.clone(), value.clone());
            }
        }
        let (kinds, nullable) = kinds(&given);
        if nullable {
            sent.insert("nullable".to_owned(), true.into());
        }
        let branches = given.get("anyOf").or_else(|| given.get("oneOf")).and_then(Value::as_array);
        if let Some(branches) = branches.filter(|_| !given.contains_key("properties")) {
            return self.any_of(branches, sent, depth);
        }
        if let [_, _, ..] = kinds.as_slice() {
            let branch = |kind: &String| {
                let mut branch = given.clone();
                branch.insert("type".to_owned(), kind.as_str().into());
                Value::Object(branch)
            };
            let branches: Vec<Value> = kinds.iter().map(branch).collect();
            return self.any_of(&branches, sent, depth);
        }
        let kind = kinds.into_iter().next().unwrap_or_else(|| implied(&given).to_owned());
        match kind.as_str() {
            "object" => self.object(&given, &mut sent, depth),
            "array" => drop(sent.insert("items".to_owned(), self.items(&given, depth))),
            "string" => self.choices(&given, &mut sent),
            _ => {}
        }
        let formats: &[&str] = match kind.as_str() {
            "string" => &["enum", "date-time"],
            "integer" => &["int32", "int64"],
            "number" => &["float", "double"],
            _ => &[],
        };
        if let Some(format) = given.get("format").filter(|format| formats.iter().any(|known| *format == known)) {
            sent.insert("format".to_owned(), format.clone());
        }
        sent.insert("type".to_owned(), kind.into());
        Value::Object(sent)
    }

    /// Whether a value may still be written; if so, it takes its room.
    fn has_room_for(&mut self, value: &Value) -> bool {
        let bytes = value.as_str().map_or_else(|| value.to_string().len(), str::len);
        let left = self.text_bytes.checked_sub(bytes);
        self.text_bytes = left.unwrap_or(self.text_bytes);
        left.is_some()
    }

    /// The words that a text may be, as far as they can be written: none is empty.
    fn choices(&mut self, given: &Map<String, Value>, sent: &mut Map<String, Value>) {
        let one = given.get("const").map(std::slice::from_ref);
        let all = given.get("enum").and_then(Value::as_array).map(Vec::as_slice).or(one).unwrap_or_default();
        let can_stand = |word: &&Value| word.as_str().is_some_and(|word| !word.is_empty());
        let words = Value::Array(all.iter().filter(can_stand).cloned().collect());
        // A word that cannot be written would be forbidden by the others.
        if all.iter().any(|word| !word.is_null())
            && all.iter().all(|word| word.is_null() || can_stand(&word))
            && self.has_room_for(&words)
        {
            sent.insert("enum".to_owned(), words);
        }
    }

    /// One of several. It stands alone: what is said beside it goes to each, and nothing at all is a value that may lack.
    fn any_of(&mut self, branches: &[Value], mut beside: Map<String, Value>, depth: usize) -> Value {
        let is_null = |branch: &Value| branch.get("type").is_some_and(|kind| kind == "null");
        if branches.iter().any(is_null) {
            beside.insert("nullable".to_owned(), true.into());
        }
        let mut sent: Vec<Value> = Vec::new();
        for branch in branches.iter().filter(|branch| !is_null(branch)) {
            let mut branch = self.schema(branch, depth + 1);
            let own = branch.get("anyOf").is_none();
            if let Some(branch) = branch.as_object_mut().filter(|_| own) {
                for (word, value) in &beside {
                    if !branch.contains_key(word) && self.has_room_for(value) {
                        branch.insert(word.clone(), value.clone());
                    }
                }
            }
            sent.push(branch);
        }
        match sent.len() {
            0 => {
                beside.insert("type".to_owned(), "string".into());
                Value::Object(beside)
            }
            1 => sent.remove(0),
            _ => json!({ "anyOf": sent }),
        }
    }

    fn object(&mut self, given: &Map<String, Value>, sent: &mut Map<String, Value>, depth: usize) {
        let Some(Value::Object(all)) = given.get("properties").filter(|all| *all != &json!({})) else { return };
        let required = given.get("required").and_then(Value::as_array);
        let required: Vec<Value> = required
            .into_iter()
            .flatten()
            .filter(|name| name.as_str().is_some_and(|name| all.contains_key(name)))
            .cloned()
            .collect();
        let mut told = Map::new();
        for (name, schema) in all {
            if self.has_room_for(&Value::String(name.clone())) {
                told.insert(name.clone(), self.schema(schema, depth + 1));
            }
        }
        sent.insert("properties".to_owned(), Value::Object(told));
        let required = Value::Array(required);
        if required != json!([]) && self.has_room_for(&required) {
            sent.insert("required".to_owned(), required);
        }
    }

    /// What a list holds: one schema, whatever stands at which place.
    fn items(&mut self, given: &Map<String, Value>, depth: usize) -> Value {
        let places = given.get("prefixItems").or_else(|| given.get("items")).and_then(Value::as_array);
        match (places, given.get("items")) {
            (Some(places), _) => self.any_of(places, Map::new(), depth),
            (None, Some(items)) => self.schema(items, depth + 1),
            (None, None) => json!({ "type": "string" }),
        }
    }

    /// A schema with what its reference leads to, and with all of `allOf`: both are unknown there. Its own words come first.
    fn resolved(&mut self, given: &Value, depth: usize) -> Map<String, Value> {
        let Value::Object(given) = given else { return Map::new() };
        let mut own = given.clone();
        let target = own.remove("$ref").and_then(|to| self.root.pointer(to.as_str()?.strip_prefix('#')?).cloned());
        let parts = own.remove("allOf");
        let parts = parts.as_ref().and_then(Value::as_array).into_iter().flatten();
        for part in target.iter().chain(parts) {
            if depth > DEPTH_MAX || self.room == 0 {
                break;
            }
            self.room -= 1;
            for (word, value) in self.resolved(part, depth + 1) {
                match (own.get_mut(&word), value) {
                    (None, value) => drop(own.insert(word, value)),
                    (Some(Value::Object(all)), Value::Object(more)) if word == "properties" => {
                        for (name, schema) in more {
                            all.entry(name).or_insert(schema);
                        }
                    }
                    (Some(Value::Array(all)), Value::Array(more)) if word == "required" => {
                        all.extend(more.into_iter().filter(|name| !all.contains(name)).collect::<Vec<_>>());
                    }
                    _ => {}
                }
            }
        }
        own
    }
}

/// The types that a value may have, and whether it may lack.
fn kinds(given: &Map<String, Value>) -> (Vec<String>, bool) {
    let all: Vec<&str> = match given.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let flag = given.get("nullable").is_some_and(|flag| flag == true);
    let nullable = flag || all.len() > 1 && all.contains(&"null");
    (all.into_iter().filter(|kind| *kind != "null").map(str::to_owned).collect(), nullable)
}

/// The type of a value that says none.
fn implied(given: &Map<String, Value>) -> &'static str {
    let has = |word: &str| given.contains_key(word);
    let choice = given.get("enum").and_then(|all| all.get(0)).or_else(|| given.get("const"));
    match choice {
        Some(Value::Number(_)) => "number",
        Some(Value::Bool(_)) => "boolean",
        _ if has("properties") || has("additionalProperties") => "object",
        _ if has("items") || has("prefixItems") => "array",
        _ if has("minimum") || has("maximum") => "number",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(schema: Value) -> Value {
        let whole = subset(&json!({ "type": "object", "properties": { "a": schema }, "$defs": {
            "q": { "type": "string", "description": "of q" },
            "n": { "type": "object", "properties": { "next": { "$ref": "#/$defs/n" } } } } }));
        whole["properties"]["a"].clone()
    }

    #[test]
    fn what_many_references_lead_to_does_not_grow_without_end() {
        let all: Map<String, Value> = (0..400).map(|n| (format!("p{n}"), json!({ "$ref": "#/$defs/q" }))).collect();
        let long = json!({ "type": "string", "description": "x".repeat(16 << 10) });
        let schema = json!({ "type": "object", "properties": all, "$defs": { "q": long } });
        let sent = subset(&schema);
        assert!(sent.to_string().len() < 2 * TEXT_BYTES_MAX, "{}", sent.to_string().len());
        assert_eq!(sent["properties"].as_object().map(Map::len), Some(400), "each is still named, with its type");
    }

    #[test]
    fn schemas_lose_what_gemini_refuses() {
        let schema = json!({ "type": "object", "$schema": "x", "additionalProperties": false,
            "properties": { "const": { "type": "string", "format": "uri" } }, "required": ["const", "gone"] });
        let known = json!({ "type": "object", "properties": { "const": { "type": "string" } }, "required": ["const"] });
        assert_eq!(subset(&schema), known);
        for (given, expected) in [
            (json!(true), json!({ "type": "string" })),
            (json!({}), json!({ "type": "string" })),
            (json!({ "type": ["string", "null"] }), json!({ "type": "string", "nullable": true })),
            (
                json!({ "type": ["integer", "string"], "title": "t" }),
                json!({ "anyOf": [{ "type": "integer", "title": "t" }, { "type": "string", "title": "t" }] }),
            ),
            (json!({ "type": "string", "format": "date-time" }), json!({ "type": "string", "format": "date-time" })),
            (json!({ "type": "integer", "enum": [1, 2] }), json!({ "type": "integer" })),
            (json!({ "type": "string", "enum": ["a", null] }), json!({ "type": "string", "enum": ["a"] })),
            (json!({ "enum": ["a", ""] }), json!({ "type": "string" })),
            (json!({ "enum": [] }), json!({ "type": "string" })),
            (json!({ "const": 5 }), json!({ "type": "number" })),
            (json!({ "type": "array" }), json!({ "type": "array", "items": { "type": "string" } })),
            (json!({ "items": [{ "type": "integer" }] }), json!({ "type": "array", "items": { "type": "integer" } })),
            (
                json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "string" }] }),
                json!({ "type": "array", "items": { "anyOf": [{ "type": "integer" }, { "type": "string" }] } }),
            ),
            (
                json!({ "anyOf": [{ "type": "null" }, { "type": "string" }], "description": "d" }),
                json!({ "type": "string", "nullable": true, "description": "d" }),
            ),
            (json!({ "properties": {} }), json!({ "type": "object" })),
        ] {
            assert_eq!(sent(given.clone()), expected, "{given}");
        }
    }

    #[test]
    fn references_are_followed_and_end() {
        let of_q = json!({ "type": "string", "description": "of q" });
        assert_eq!(sent(json!({ "$ref": "#/$defs/q" })), of_q);
        assert_eq!(sent(json!({ "allOf": [{ "$ref": "#/$defs/q" }], "title": "t" }))["description"], "of q");
        assert_eq!(sent(json!({ "$ref": "#/$defs/q", "description": "own" }))["description"], "own");
        assert_eq!(sent(json!({ "$ref": "#/none" })), json!({ "type": "string" }));
        let round = sent(json!({ "$ref": "#/$defs/n" })).to_string();
        assert!(round.len() < 2000 && !round.contains("$ref"), "{round}");
        let twice = json!({ "type": "object", "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#" } } });
        assert!(subset(&twice).to_string().len() < 200_000, "bounded");
        let many = vec![json!({ "$ref": "#" }); 50];
        assert!(
            subset(&json!({ "properties": { "a": { "allOf": many } }, "allOf": many })).to_string().len() < 200_000
        );
        assert_eq!(sent(json!({ "allOf": [{ "$ref": "#/properties/a" }] })), json!({ "type": "string" }));
    }
}
