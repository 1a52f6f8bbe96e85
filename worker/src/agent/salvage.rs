//! Calls that small models write as prose: fenced JSON, bare JSON, `<tool_call>` and `<function=…>` tags. A call is taken
//! only when it is all that the message says, names a tool that exists and has an object for arguments, each of them whole;
//! anything less is text.

use serde_json::{Map, Value};
use swarm_protocol::chat::ToolSpec;

/// The tools that can be called.
#[derive(Debug)]
pub struct Known(Vec<ToolSpec>);

impl Known {
    /// These.
    pub fn new(specs: Vec<ToolSpec>) -> Self {
        Known(specs)
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|tool| tool.name == name)
    }

    /// Their names, for people and models.
    pub fn names(&self) -> String {
        self.0.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether an argument of a tool is text, whatever it looks like.
    fn is_text(&self, tool: &str, key: &str) -> bool {
        let spec = self.0.iter().find(|known| known.name == tool);
        spec.is_some_and(|spec| spec.schema["properties"][key]["type"] == "string")
    }
}

/// A call found in prose.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// The calls that `text` consists of; empty when it is anything else.
pub fn calls(text: &str, tools: &Known) -> Vec<Found> {
    let mut rest = text.trim();
    let mut found = vec![];
    while !rest.is_empty() {
        let Some((value, behind)) = next(rest, tools) else { return vec![] };
        let calls = match value {
            Value::Array(calls) => calls,
            call => vec![call],
        };
        for call in calls {
            match call_of(call, tools) {
                Some(call) => found.push(call),
                None => return vec![],
            }
        }
        rest = behind.trim_start();
    }
    found
}

/// Why a text that seems to be a call cannot be taken for one; `None` for what reads as anything else. A model that writes calls
/// as prose does not know that nobody heard them.
pub fn half_a_call(text: &str, tools: &Known) -> Option<&'static str> {
    let text = text.trim();
    let behind = |mark: &str| text.find(mark).map(|at| text[at + mark.len()..].trim_start());
    let mut tagged = ["<tool_call>", "<function_call>", "<tools>"].into_iter().filter_map(behind);
    let is_tagged = tagged.any(|rest| rest.starts_with(['{', '[']) || rest.starts_with("<function="));
    let named = behind("<function=").map(|rest| rest.split(['>', '\n']).next().unwrap_or_default().trim());
    let bare = text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).unwrap_or(text).trim_start();
    let has = |key: &str| bare.contains(&format!("\"{key}\""));
    let is_json = bare.starts_with(['{', '[']) && has("name") && (has("arguments") || has("parameters"));
    match (is_tagged || named.is_some_and(|name| tools.has(name)) || ends_with_a_call(text, tools), is_json) {
        (true, _) => Some("its tags, its name or its arguments are not whole, or there is text around it"),
        (false, true) => Some("it is no whole JSON, names no tool, or has text behind it"),
        (false, false) => None,
    }
}

/// Whether a call stands behind other text: in a fence of its own, or from the first bracket of a line or behind a colon.
fn ends_with_a_call(text: &str, tools: &Known) -> bool {
    let fenced = text.strip_suffix("```").and_then(|body| body.rfind("```"));
    let begun = ["\n{", ": {", "\n[", ": ["].into_iter().filter_map(|mark| Some(text.find(mark)? + mark.len() - 1));
    fenced.into_iter().chain(begun).any(|at| at > 0 && !calls(&text[at..], tools).is_empty())
}

/// The first call of a text, still as JSON, and what follows it.
fn next<'a>(text: &'a str, tools: &Known) -> Option<(Value, &'a str)> {
    if let Some(fenced) = text.strip_prefix("```") {
        let (_, body) = fenced.split_once('\n')?;
        let (body, behind) = body.split_once("```")?;
        return Some((serde_json::from_str(body.trim()).ok()?, behind));
    }
    for (open, close) in
        [("<tool_call>", "</tool_call>"), ("<tools>", "</tools>"), ("<function_call>", "</function_call>")]
    {
        if let Some(inner) = text.strip_prefix(open) {
            let (body, behind) = inner.split_once(close).unwrap_or((inner, ""));
            return match tagged(body.trim(), tools) {
                Some(value) => Some((value, behind)),
                None => Some((serde_json::from_str(body.trim()).ok()?, behind)),
            };
        }
    }
    if text.starts_with("<function=") {
        let (body, behind) = text.split_once("</function>").unwrap_or((text, ""));
        return Some((tagged(body, tools)?, behind));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok().filter(|value| value.is_object() || value.is_array())?;
    Some((value, &text[values.byte_offset()..]))
}

/// `<function=NAME>` with JSON, or with `<parameter=KEY>` tags, inside. A value is what the tool takes there: text stays text, though
/// it reads as a number. One that holds a tag of its own has no certain end, and the call is none.
fn tagged(text: &str, tools: &Known) -> Option<Value> {
    let (name, body) = text.strip_prefix("<function=")?.split_once('>')?;
    let (name, body) = (name.trim(), body.trim().trim_end_matches("</function>").trim());
    if let Ok(arguments @ Value::Object(_)) = serde_json::from_str(body) {
        return Some(serde_json::json!({ "name": name, "arguments": arguments }));
    }
    let mut arguments = Map::new();
    let mut parts = body.split("<parameter=");
    if !parts.next()?.trim().is_empty() {
        return None;
    }
    for part in parts {
        let (key, value) = part.split_once('>')?;
        // A value without its end was cut off.
        let (value, behind) = value.split_once("</parameter>")?;
        if !behind.trim().is_empty() {
            return None;
        }
        let (key, value) = (key.trim(), value.trim_matches('\n'));
        let value = match serde_json::from_str::<Value>(value) {
            Ok(read) if !read.is_string() && !tools.is_text(name, key) => read,
            _ => Value::from(value),
        };
        arguments.insert(key.to_owned(), value);
    }
    Some(serde_json::json!({ "name": name, "arguments": arguments }))
}

fn call_of(value: Value, tools: &Known) -> Option<Found> {
    let Value::Object(mut call) = value else { return None };
    if let Some(Value::Object(inner)) = call.remove("function") {
        call = inner;
    }
    let name = call.get("name").or_else(|| call.get("tool"))?.as_str()?.to_owned();
    let arguments = ["arguments", "parameters", "input", "args"].into_iter().find_map(|key| call.remove(key));
    let arguments = match arguments {
        Some(Value::Object(arguments)) => arguments,
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        None => Map::new(),
        Some(_) => return None,
    };
    tools.has(&name).then_some(Found { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Known {
        let schema = serde_json::json!({"properties": {"text": {"type": "string"}, "from": {"type": "integer"}}});
        let spec = |name: &str| ToolSpec { name: name.to_owned(), description: String::new(), schema: schema.clone() };
        Known::new(["read", "bash"].map(spec).to_vec())
    }

    fn names(text: &str) -> Vec<String> {
        let found = calls(text, &tools());
        found.iter().map(|call| format!("{} {}", call.name, Value::from(call.arguments.clone()))).collect()
    }

    #[test]
    fn calls_in_every_dress_are_found() {
        let expected = [r#"read {"path":"a"}"#];
        for text in [
            r#"{"name": "read", "arguments": {"path": "a"}}"#,
            "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n```",
            r#"<tool_call>{"name": "read", "arguments": {"path": "a"}}</tool_call>"#,
            r#"<tools>{"name": "read", "parameters": "{\"path\": \"a\"}"}</tools>"#,
            "<function=read>{\"path\": \"a\"}</function>",
            "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>",
            r#"[{"function": {"name": "read", "arguments": {"path": "a"}}}]"#,
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
        assert_eq!(names("{\"name\":\"read\",\"arguments\":{}}\n{\"name\":\"bash\",\"arguments\":{}}").len(), 2);
    }

    #[test]
    fn a_value_in_tags_is_what_the_tool_takes() {
        let check = |key: &str, value: &str, expected: &str| {
            let text = format!("<function=read><parameter={key}>\n{value}\n</parameter></function>");
            assert_eq!(names(&text), [format!("read {expected}")], "{text}");
        };
        check("text", "{\"a\": 1}", r#"{"text":"{\"a\": 1}"}"#);
        check("text", "123", r#"{"text":"123"}"#);
        check("text", "    1", r#"{"text":"    1"}"#);
        check("from", "7", r#"{"from":7}"#);
        check("other", "[1]", r#"{"other":[1]}"#);
        check("other", "\"a\"", r#"{"other":"\"a\""}"#);
    }

    #[test]
    fn prose_about_calls_is_text() {
        for text in [
            "",
            "I would call {\"name\": \"read\"} now.",
            r#"{"name": "unknown", "arguments": {}}"#,
            r#"{"name": "read", "arguments": [1]}"#,
            r#"{"name": "read", "arguments": {}} and then more"#,
            r#"{"name": "serde", "version": "1"}"#,
            "```rust\nfn main() {}\n```",
            "<tool_call>{\"name\": \"read\"",
            "<function=read><parameter=path>a/half",
            "<tool_call><function=read><parameter=path>a</parameter><parameter=from>1</function></tool_call>",
            "<function=read><parameter=text>\n<a>\n</parameter>\n<b>\n</parameter></function>",
            "<function=read>and <parameter=text>a</parameter></function>",
        ] {
            assert_eq!(names(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_seems_to_be_a_call_is_told_from_prose() {
        let seems = |text: &str| half_a_call(text, &tools()).is_some();
        for text in [
            "<tool_call>{\"name\": \"read\"",
            "I will look: <tool_call>\n{\"name\": \"read\", \"arguments\": {}}</tool_call>",
            "<function=read><parameter=path>a/half",
            "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"\n```",
            "{\"name\": \"no_such\", \"arguments\": {}}",
            "[{\"name\": \"read\", \"parameters\": {}}] and more",
            "Let me look.\n```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n```",
            "I will do: {\"name\": \"read\", \"arguments\": {}}",
            "First this.\n{\"name\": \"read\", \"arguments\": {}}",
            "<function=read><parameter=text>a</parameter>b</parameter></function>",
        ] {
            assert!(seems(text), "{text}");
        }
        for text in [
            "",
            "It is done.",
            "```json\n{\"name\": \"serde\", \"version\": \"1\"}\n```",
            "A model writes <tool_call> tags.",
            "<function=other> is no tool",
            "The file holds {\"name\": \"x\", \"arguments\": []}.",
            "It prints:\n```json\n{\"name\": \"x\", \"arguments\": {}}\n```",
        ] {
            assert!(!seems(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z{}\\[\\]<>=\"`:,/\n ü]{0,60}") {
            names(&text);
            half_a_call(&text, &tools());
        }
    }
}
