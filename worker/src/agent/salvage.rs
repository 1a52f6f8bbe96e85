//! Calls that small models write as prose: fenced JSON, bare JSON, `<tool_call>`, `<function=…>` and `<invoke …>` tags. A call is
//! taken only when it is all that the message says, names a tool that exists and has an object for arguments, each of them whole;
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

    /// Whether an argument of a tool is text, though it reads as `read`: text is allowed there, and what it reads as is not.
    fn is_text(&self, tool: &str, key: &str, read: &Value) -> bool {
        let spec = self.0.iter().find(|known| known.name == tool);
        spec.is_some_and(|spec| {
            let kinds = kinds(&spec.schema["properties"][key]);
            kinds.contains(&"string") && !kinds.iter().any(|kind| is_of(kind, read))
        })
    }
}

/// The kinds of values that a schema names, in JSON Schema's words.
fn kinds(schema: &Value) -> Vec<&str> {
    let named = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect::<Vec<_>>(),
    };
    let ways = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    named.into_iter().chain(ways.flat_map(kinds)).collect()
}

/// Whether a value is of a kind.
fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Tags in which calls are written.
struct Dress {
    /// Before the tool's name.
    call: &'static str,
    /// Before an argument's name.
    parameter: &'static str,
    /// Behind either name.
    named: &'static str,
    /// Behind the call.
    end: &'static str,
    /// What stands between a value and its tags, at each end of it.
    edge: &'static str,
}

const DRESSES: [Dress; 2] = [
    Dress { call: "<function=", parameter: "<parameter=", named: ">", end: "</function>", edge: "\n" },
    Dress { call: "<invoke name=\"", parameter: "<parameter name=\"", named: "\">", end: "</invoke>", edge: "" },
];

impl Dress {
    /// A value without the edges; more of the same belongs to it.
    fn value<'a>(&self, text: &'a str) -> &'a str {
        let text = text.strip_prefix(self.edge).unwrap_or(text);
        text.strip_suffix(self.edge).unwrap_or(text)
    }
}

/// Tags around one call.
const AROUND: [(&str, &str); 4] = [
    ("<tool_call>", "</tool_call>"),
    ("<tools>", "</tools>"),
    ("<function_call>", "</function_call>"),
    ("<function_calls>", "</function_calls>"),
];

/// What is written before calls, and nothing behind them.
const MARKS: [&str; 2] = ["<|python_tag|>", "[TOOL_CALLS]"];

/// How a call's arguments are called.
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "input", "args"];

/// A fence around a call that is written as code.
const CODE: &str = "```tool_code\n";

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
    let mut tagged = AROUND.into_iter().map(|(open, _)| open).chain(MARKS).filter_map(behind);
    let is_dressed = |rest: &str| DRESSES.iter().any(|dress| rest.starts_with(dress.call));
    let is_tagged = tagged.any(|rest| rest.starts_with(['{', '[']) || is_dressed(rest));
    let mut named = DRESSES.iter().filter_map(|dress| behind(dress.call));
    let is_named = named.any(|rest| tools.has(rest.split(['>', '"', '\n']).next().unwrap_or_default().trim()));
    let bare = text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).unwrap_or(text).trim_start();
    let has = |key: &str| bare.contains(&format!("\"{key}\""));
    let is_json = bare.starts_with(['{', '[']) && has("name") && (has("arguments") || has("parameters"));
    let code = behind(CODE).map(|rest| rest.split("```").next().unwrap_or_default());
    let is_code = code.is_some_and(|code| tools.0.iter().any(|tool| code.contains(&format!("{}(", tool.name))));
    match (is_tagged || is_named || holds_a_call(text, tools), is_json, is_code) {
        (true, ..) => Some("its tags, its name or its arguments are not whole, or there is text around it"),
        (false, true, _) => Some("it is no whole JSON, names no tool, or has text behind it"),
        (false, false, true) => Some("it is code, which nobody runs"),
        (false, false, false) => None,
    }
}

/// Whether a call with its arguments stands among other text: in a fence of its own, or from a bracket that begins a line or stands
/// behind a colon.
fn holds_a_call(text: &str, tools: &Known) -> bool {
    let fences = text.match_indices("```").map(|(at, _)| at);
    let brackets = text.match_indices(['{', '[']).map(|(at, _)| at).filter(|&at| {
        let before = text[..at].trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with(['\n', ':'])
    });
    // Without arguments it may be anything that has a name.
    let has_arguments = |call: &Value| ARGUMENTS.iter().any(|key| call.get(key).is_some());
    let is_call = |call: &Value| {
        (has_arguments(call) || has_arguments(&call["function"])) && call_of(call.clone(), tools).is_some()
    };
    fences.chain(brackets).filter_map(|at| next(&text[at..], tools)).any(|(value, _)| match &value {
        Value::Array(calls) => calls.iter().any(is_call),
        call => is_call(call),
    })
}

/// The first call of a text, still as JSON, and what follows it.
fn next<'a>(text: &'a str, tools: &Known) -> Option<(Value, &'a str)> {
    if let Some(fenced) = text.strip_prefix("```") {
        let (_, body) = fenced.split_once('\n')?;
        let (body, behind) = body.split_once("```")?;
        return Some((serde_json::from_str(body.trim()).ok()?, behind));
    }
    for (open, close) in AROUND {
        if let Some(inner) = text.strip_prefix(open) {
            let (body, behind) = inner.split_once(close).unwrap_or((inner, ""));
            return match tagged(body.trim(), tools) {
                Some(value) => Some((value, behind)),
                None => Some((serde_json::from_str(body.trim()).ok()?, behind)),
            };
        }
    }
    if let Some(dress) = DRESSES.iter().find(|dress| text.starts_with(dress.call)) {
        let (body, behind) = text.split_once(dress.end).unwrap_or((text, ""));
        return Some((tagged(body, tools)?, behind));
    }
    let text = MARKS.into_iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text);
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok().filter(|value| value.is_object() || value.is_array())?;
    Some((value, &text[values.byte_offset()..]))
}

/// A call in a [`Dress`] with JSON, or with tags for its arguments, inside. A value is what the tool takes there: text stays text,
/// though it reads as a number. One that holds a tag of its own has no certain end, and the call is none.
fn tagged(text: &str, tools: &Known) -> Option<Value> {
    let (dress, text) = DRESSES.iter().find_map(|dress| Some((dress, text.strip_prefix(dress.call)?)))?;
    let (name, body) = text.split_once(dress.named)?;
    let (name, body) = (name.trim(), body.trim().trim_end_matches(dress.end).trim());
    if let Ok(arguments @ Value::Object(_)) = serde_json::from_str(body) {
        return Some(serde_json::json!({ "name": name, "arguments": arguments }));
    }
    let mut arguments = Map::new();
    let mut parts = body.split(dress.parameter);
    if !parts.next()?.trim().is_empty() {
        return None;
    }
    for part in parts {
        let (key, value) = part.split_once(dress.named)?;
        // A value without its end was cut off.
        let (value, behind) = value.split_once("</parameter>")?;
        if !behind.trim().is_empty() {
            return None;
        }
        let (key, value) = (key.trim(), dress.value(value));
        let value = match serde_json::from_str::<Value>(value) {
            Ok(read) if !read.is_string() && !tools.is_text(name, key, &read) => read,
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
    let arguments = ARGUMENTS.into_iter().find_map(|key| call.remove(key));
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
        let schema = serde_json::json!({"properties": {
            "text": {"type": "string"}, "from": {"type": "integer"}, "maybe": {"type": ["string", "null"]},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        }});
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
            r#"<|python_tag|>{"name": "read", "parameters": {"path": "a"}}"#,
            r#"[TOOL_CALLS] [{"name": "read", "arguments": {"path": "a"}}]"#,
            "<invoke name=\"read\">\n<parameter name=\"path\">a</parameter>\n</invoke>",
            "<function_calls>\n<invoke name=\"read\"><parameter name=\"path\">a</parameter></invoke>\n</function_calls>",
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
        check("maybe", "123", r#"{"maybe":"123"}"#);
        check("maybe", "null", r#"{"maybe":null}"#);
        check("either", "true", r#"{"either":"true"}"#);
        check("either", "1.5", r#"{"either":"1.5"}"#);
        check("either", "1", r#"{"either":1}"#);
    }

    #[test]
    fn a_text_in_tags_keeps_the_line_ends_that_are_its_own() {
        let check = |value: &str, expected: &str| {
            let text = format!("<function=read>\n<parameter=text>{value}</parameter>\n</function>");
            assert_eq!(calls(&text, &tools())[0].arguments["text"], expected, "{text}");
        };
        check("a", "a");
        check("\na\n", "a");
        check("\na\n\n", "a\n");
        check("\n\n\na\n", "\n\na");
        check("\n", "");
        let invoked = "<invoke name=\"read\"><parameter name=\"text\">\na\n</parameter></invoke>";
        assert_eq!(calls(invoked, &tools())[0].arguments["text"], "\na\n", "these tags have no lines of their own");
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
            "Let me look.\n```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n```\nI wait for its result.",
            "One.\n```\nfn\n```\n```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n```\nTwo.",
            "I will do: {\"name\": \"read\", \"arguments\": {}}",
            "I will do: {\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\nThen I check.",
            "First this.\n{\"name\": \"read\", \"arguments\": {}}",
            "First this.\n  [{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}]\nDone.",
            "I call <|python_tag|>{\"name\": \"read\", \"arguments\": {}}",
            "So: <invoke name=\"read\"><parameter name=\"path\">a</parameter></invoke>",
            "```tool_code\nread(path=\"a\")\n```",
            "Look:\n```tool_code\nprint(read(path=\"a\"))\n```\nThen more.",
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
            "Its manifest is:\n```json\n{\"name\": \"read\", \"version\": \"1\"}\n```\nThat is all.",
            "```tool_code\nother(1)\n```",
            "<invoke name=\"other\"> is no tool",
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
