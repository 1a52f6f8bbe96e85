//! What is common to all answers while they arrive: parts in order, calls whose arguments come in fragments, and the one
//! place that decides whether arguments are whole.

use serde_json::{Map, Value};
use swarm_protocol::chat::{Arguments, AssistantPart, Reply, Stop, ToolCall, Usage};

use super::DecodeError;

/// Parts of one answer; more is no answer.
pub const PARTS_MAX: usize = 4096;

/// A call while its arguments arrive.
#[derive(Debug, Default)]
pub struct OpenCall {
    /// The provider's id; empty where it gives none.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments' text so far.
    pub arguments: String,
    /// Goes back unchanged.
    pub proof: Option<Value>,
}

impl OpenCall {
    /// The call, `position`-th of its answer. Nothing at all stands for no arguments, unless the answer was cut off there.
    pub fn close(self, position: usize, stop: &Stop) -> ToolCall {
        let arguments = match self.arguments.trim() {
            "" if cuts_off(stop) => {
                broken(String::new(), "the answer was cut off before the arguments came".to_owned())
            }
            "" => Arguments::Object(Map::new()),
            text => arguments(text),
        };
        let id = if self.id.is_empty() { format!("call_{position}") } else { self.id };
        ToolCall { id, name: self.name, arguments, proof: self.proof }
    }
}

/// Whether an answer may have ended in the middle of what it was about to say: wherever it did not end of its own accord.
/// The only place that decides it.
pub fn cuts_off(stop: &Stop) -> bool {
    match stop {
        Stop::End | Stop::Calls | Stop::Sequence => false,
        Stop::OutputMax | Stop::ContextFull | Stop::Pause | Stop::Refusal | Stop::Other(_) => true,
    }
}

/// Arguments from their text.
pub fn arguments(text: &str) -> Arguments {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => Arguments::Object(object),
        Ok(Value::Null) => Arguments::Object(Map::new()),
        // Some servers encode them twice.
        Ok(Value::String(inner)) => match serde_json::from_str::<Value>(&inner) {
            Ok(Value::Object(object)) => Arguments::Object(object),
            _ => broken(text.to_owned(), "the arguments are not a JSON object".to_owned()),
        },
        Ok(_) => broken(text.to_owned(), "the arguments are not a JSON object".to_owned()),
        Err(error) => broken(text.to_owned(), format!("the arguments are not valid JSON: {error}")),
    }
}

/// Arguments that must not be used.
pub fn broken(text: String, reason: String) -> Arguments {
    Arguments::Broken { text, reason }
}

/// Arguments as they go back to a provider: what was broken was never executed, and goes back as nothing.
pub fn sent(arguments: &Arguments) -> Value {
    match arguments {
        Arguments::Object(object) => Value::Object(object.clone()),
        Arguments::Broken { .. } => Value::Object(Map::new()),
    }
}

/// Whether a word for why an answer ended means a filter of its provider, or of a gateway before it. No list is whole: each has
/// its own.
pub fn is_filter(word: &str) -> bool {
    const PARTS: [&str; 9] =
        ["filter", "safety", "guardrail", "sensitive", "moderation", "prohibited", "blocked", "recitation", "spii"];
    let word = word.to_ascii_lowercase();
    PARTS.iter().any(|part| word.contains(part)) || word == "blocklist"
}

/// The finished answer: ids made unique, `End` and `Calls` told apart by whether there are calls. No call is whole in an answer
/// that a filter ended: nobody knows what would have come, or what was taken away before it.
pub fn reply(mut content: Vec<AssistantPart>, stop: Stop, usage: Usage) -> Result<Reply, DecodeError> {
    if content.len() > PARTS_MAX {
        return Err(DecodeError::TooLarge { what: "parts", max: PARTS_MAX });
    }
    let mut seen = std::collections::HashSet::new();
    let mut calls = 0;
    for part in &mut content {
        if let AssistantPart::Call(call) = part {
            calls += 1;
            if stop == Stop::Refusal {
                filter(call);
            }
            while !seen.insert(call.id.clone()) {
                call.id = format!("{}_{calls}", call.id);
            }
        }
    }
    let stop = match stop {
        Stop::End | Stop::Calls if calls > 0 => Stop::Calls,
        Stop::End | Stop::Calls => Stop::End,
        other => other,
    };
    Ok(Reply { content, stop, usage })
}

fn filter(call: &mut ToolCall) {
    let text = match &call.arguments {
        Arguments::Object(object) => Value::Object(object.clone()).to_string(),
        Arguments::Broken { text, .. } => text.clone(),
    };
    call.arguments = broken(text, "the provider's filter ended the answer, so none of its calls counts".to_owned());
}

/// Joins text onto the last part of its kind.
pub fn push_text(content: &mut Vec<AssistantPart>, more: &str) {
    match content.last_mut() {
        Some(AssistantPart::Text { text, proof: None }) => text.push_str(more),
        _ => content.push(AssistantPart::Text { text: more.to_owned(), proof: None }),
    }
}

/// Joins thinking onto the last part of its kind.
pub fn push_thinking(content: &mut Vec<AssistantPart>, more: &str) {
    match content.last_mut() {
        Some(AssistantPart::Thinking { text, proof: None }) => text.push_str(more),
        _ => content.push(AssistantPart::Thinking { text: more.to_owned(), proof: None }),
    }
}

/// What a value takes in memory, roughly, in bytes.
pub fn weight(value: &Value) -> usize {
    let inside: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inside
}

/// The same of parts.
pub fn weight_of(parts: &[AssistantPart]) -> usize {
    let proof = |proof: &Option<Value>| proof.as_ref().map_or(0, weight);
    let one = |part: &AssistantPart| match part {
        AssistantPart::Text { text, proof: it } | AssistantPart::Thinking { text, proof: it } => text.len() + proof(it),
        AssistantPart::Opaque { item, .. } => weight(item),
        AssistantPart::Call(call) => {
            proof(&call.proof)
                + match &call.arguments {
                    Arguments::Object(object) => object.iter().map(|(key, value)| key.len() + weight(value)).sum(),
                    Arguments::Broken { text, .. } => text.len(),
                }
        }
    };
    parts.iter().map(one).sum()
}

/// The text behind a pointer, empty when there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Takes a count over, where there is one.
pub fn count(into: &mut Option<u64>, value: Option<&Value>) {
    if let Some(count) = value.and_then(Value::as_u64) {
        *into = Some(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(arguments: &str, stop: Stop) -> Arguments {
        OpenCall { arguments: arguments.to_owned(), ..OpenCall::default() }.close(0, &stop).arguments
    }

    #[test]
    fn nothing_is_no_arguments_unless_the_answer_was_cut_off() {
        assert_eq!(closed("", Stop::End), Arguments::Object(Map::new()));
        for cut in [Stop::OutputMax, Stop::ContextFull, Stop::Pause, Stop::Refusal, Stop::Other("x".to_owned())] {
            assert!(matches!(closed("", cut.clone()), Arguments::Broken { .. }), "{cut:?}");
        }
    }

    #[test]
    fn half_written_arguments_are_broken() {
        for half in ["{\"path\":\"a", "{", "[1]", "7", "{} {}", "\"x\""] {
            assert!(matches!(closed(half, Stop::Calls), Arguments::Broken { .. }), "{half}");
        }
        assert_eq!(closed(" {} ", Stop::OutputMax), Arguments::Object(Map::new()));
    }

    #[test]
    fn ids_are_made_unique_and_calls_decide_why_it_stopped() {
        let call = || AssistantPart::Call(OpenCall { id: "a".to_owned(), ..OpenCall::default() }.close(0, &Stop::End));
        let reply = reply(vec![call(), call(), call()], Stop::End, Usage::default()).unwrap();
        let ids: std::collections::HashSet<&str> = reply.calls().map(|call| call.id.as_str()).collect();
        assert_eq!((ids.len(), reply.stop), (3, Stop::Calls));
    }
}
