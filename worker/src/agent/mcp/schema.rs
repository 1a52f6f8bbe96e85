//! Schemas of foreign tools as every provider takes them. A provider looks at all tools of a request and refuses it as a whole,
//! so a single schema that is none would take the model from its agent: what can be told otherwise is, the rest is named and its
//! tool left out. Pure.
//!
//! Source: JSON Schema 2020-12; Anthropic, `tools.input_schema` (no `oneOf`, `allOf`, `anyOf` on top, keys
//! `^[a-zA-Z0-9_.-]{1,64}$`); OpenAI, function calling (an array says its `items`).

use serde_json::{Map, Value};

/// The longest schema that the model is told, in bytes.
const BYTES_MAX: usize = 32 << 10;
/// Schemas within each other.
const DEPTH_MAX: usize = 24;
/// The longest name of an argument, in bytes.
const KEY_BYTES_MAX: usize = 64;
const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
/// Words that only say more of what a server looks at itself, and that no provider takes on top.
const NOT_ON_TOP: [&str; 6] = ["oneOf", "anyOf", "allOf", "not", "enum", "const"];

/// The schema as it is sent.
///
/// # Errors
/// What is wrong with it, for people.
pub fn usable(schema: &Value) -> Result<Value, String> {
    let Value::Object(schema) = schema else { return Err("it is no object".to_owned()) };
    let mut schema = schema.clone();
    schema.retain(|key, _| !NOT_ON_TOP.contains(&key.as_str()));
    let is_object = match schema.get("type") {
        None | Some(Value::Null) => true,
        Some(Value::Array(types)) => types.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
    };
    if !is_object {
        return Err(format!("it wants {}, and arguments are an object", schema["type"]));
    }
    schema.insert("type".to_owned(), "object".into());
    if schema.get("properties").is_none_or(Value::is_null) {
        schema.insert("properties".to_owned(), Value::Object(Map::new()));
    }
    let mut schema = Value::Object(schema);
    look(&mut schema, "", 0)?;
    match schema.to_string().len() {
        long if long > BYTES_MAX => Err(format!("it is longer than {BYTES_MAX} bytes")),
        _ => Ok(schema),
    }
}

/// Looks at a schema and all within; `at` is where it stands.
fn look(schema: &mut Value, at: &str, depth: usize) -> Result<(), String> {
    let place = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    let wrong = |key: &str, is: &str| Err(format!("`{}` {is}", place(key)));
    let schema = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(schema) if depth < DEPTH_MAX => schema,
        Value::Object(_) => return Err(format!("it is more than {DEPTH_MAX} schemas deep")),
        other => return Err(format!("`{at}` is {other}, and no schema")),
    };
    let is_type = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    match schema.get("type") {
        Some(Value::Array(all)) if !all.is_empty() && all.iter().all(is_type) => {}
        Some(kind) if !is_type(kind) => return wrong("type", &format!("is {kind}, and no type of JSON Schema")),
        _ => {}
    }
    if schema.get("type").is_some_and(|kind| kind == "array") && !schema.contains_key("items") {
        schema.insert("items".to_owned(), Value::Object(Map::new()));
    }
    if schema.get("required").is_some_and(|all| !all.as_array().is_some_and(|all| all.iter().all(Value::is_string))) {
        return wrong("required", "is no list of names");
    }
    if schema.get("enum").is_some_and(|all| !all.is_array()) {
        return wrong("enum", "is no list");
    }
    for key in ["description", "title", "pattern", "format", "$ref"] {
        if schema.get(key).is_some_and(|text| !text.is_string()) {
            return wrong(key, "is no text");
        }
    }
    for key in ["properties", "$defs", "definitions", "patternProperties"] {
        match schema.get_mut(key) {
            None => {}
            Some(Value::Object(inner)) => {
                for (name, one) in inner {
                    if key == "properties" && !is_key(name) {
                        return wrong(key, &format!("has the name {name:?}, which providers refuse"));
                    }
                    look(one, &format!("{}.{name}", place(key)), depth + 1)?;
                }
            }
            Some(_) => return wrong(key, "is no object"),
        }
    }
    for key in ["items", "additionalProperties", "not", "contains", "prefixItems", "anyOf", "oneOf", "allOf"] {
        match schema.get_mut(key) {
            None => {}
            Some(Value::Array(all)) => {
                all.iter_mut().try_for_each(|one| look(one, &place(key), depth + 1))?;
            }
            Some(one) => look(one, &place(key), depth + 1)?,
        }
    }
    Ok(())
}

fn is_key(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && name.len() <= KEY_BYTES_MAX && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_says_more_is_left_out_and_what_lacks_is_put_in() {
        let check = |given: Value, sent: Value| assert_eq!(usable(&given), Ok(sent));
        let empty = json!({"type": "object", "properties": {}});
        for given in [json!({}), json!({"type": "object"}), json!({"type": ["object", "null"], "properties": null})] {
            check(given, empty.clone());
        }
        check(json!({"anyOf": [{"required": ["a"]}], "oneOf": 7}), empty);
        let listed = |items: Value| json!({"type": "object", "properties": {"a": items}});
        check(listed(json!({"type": "array"})), listed(json!({"type": "array", "items": {}})));
        let nested = listed(json!({"anyOf": [{"type": ["string", "null"]}, true], "description": "d"}));
        check(nested.clone(), nested);
    }

    #[test]
    fn what_a_provider_would_refuse_is_named() {
        let check = |given: Value, why: &str| assert_eq!(usable(&given), Err(why.to_owned()));
        check(json!("x"), "it is no object");
        check(json!({"type": "array"}), "it wants \"array\", and arguments are an object");
        check(json!({"properties": []}), "`properties` is no object");
        check(json!({"properties": {"a": "text"}}), "`properties.a` is \"text\", and no schema");
        let str = json!({"properties": {"a": {"items": {"type": "str"}}}});
        check(str, "`properties.a.items.type` is \"str\", and no type of JSON Schema");
        check(json!({"required": true}), "`required` is no list of names");
        check(json!({"properties": {"a b": {}}}), "`properties` has the name \"a b\", which providers refuse");
        let deep = (0..30).fold(json!({}), |inner, _| json!({"items": inner}));
        check(json!({"properties": {"a": deep}}), "it is more than 24 schemas deep");
        check(json!({"description": "x".repeat(BYTES_MAX)}), "it is longer than 32768 bytes");
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_once_is_taken_as_it_is(key in "[a-z$]{1,9}", text in "[a-z]{0,6}") {
            for value in [json!(text), json!({}), json!([]), json!(true), json!({key.clone(): text.clone()})] {
                if let Ok(sent) = usable(&json!({key.clone(): value})) {
                    proptest::prop_assert_eq!(usable(&sent), Ok(sent.clone()));
                }
            }
        }
    }
}
