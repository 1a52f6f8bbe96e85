//! OpenAI's Responses. Items are complete when their `done` came; the last event is `completed`, `incomplete` or
//! `failed`, and there is no `[DONE]`. Stateless: nothing is stored there, reasoning comes encrypted and goes back.
//!
//! Source: `POST /v1/responses`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use swarm_protocol::chat::{
    AssistantPart, Dialect, Message, ModelRequest, Reply, Stop, ToolCall, ToolSpec, Usage, UserPart,
};

use super::draft::{self, OpenCall, PARTS_MAX, count, text};
use super::{DecodeError, Delta, failure};

/// An answer while it arrives.
#[derive(Debug, Default)]
pub struct Stream {
    items: BTreeMap<u64, Value>,
    end: Option<Value>,
    /// Its last event says so, whatever the response in it says.
    is_incomplete: bool,
}

impl Stream {
    pub fn event(&mut self, mut event: Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        if self.end.is_some() {
            return Ok(());
        }
        match text(&event, "/type") {
            "response.output_text.delta" | "response.refusal.delta" => {
                deltas.push(Delta::Text(text(&event, "/delta").to_owned()));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                deltas.push(Delta::Thinking(text(&event, "/delta").to_owned()));
            }
            "response.output_item.added" if text(&event, "/item/type") == "function_call" => {
                deltas.push(Delta::Call { name: text(&event, "/item/name").to_owned() });
            }
            "response.output_item.done" => {
                if self.items.len() >= PARTS_MAX {
                    return Err(DecodeError::TooLarge { what: "items", max: PARTS_MAX });
                }
                let at = event.get("output_index").and_then(Value::as_u64).unwrap_or(self.items.len() as u64);
                self.items.insert(at, event.get_mut("item").map(Value::take).unwrap_or_default());
            }
            kind @ ("response.completed" | "response.incomplete") => {
                self.is_incomplete |= kind == "response.incomplete";
                self.end = event.get_mut("response").map(Value::take);
            }
            "response.failed" | "error" => {
                return Err(DecodeError::Failed(failure::in_stream(&event)));
            }
            _ if event.get("error").is_some_and(|error| !error.is_null()) => {
                return Err(DecodeError::Failed(failure::in_stream(&event)));
            }
            _ => {}
        }
        Ok(())
    }

    /// What it holds, in bytes.
    pub fn weight(&self) -> usize {
        self.items.values().chain(&self.end).map(draft::weight).sum()
    }

    pub fn finish(self) -> Result<Reply, DecodeError> {
        let Some(mut end) = self.end else { return Err(DecodeError::Truncated) };
        // The last event may leave the items out, or be all there is.
        let items = match end.get_mut("output").map(Value::take) {
            Some(Value::Array(items)) if self.items.is_empty() => items,
            _ => self.items.into_values().collect(),
        };
        let stop = stop(&end, self.is_incomplete);
        let refused = stop == Stop::End && items.iter().any(is_refusal);
        let mut content = Vec::new();
        for item in items {
            take_item(item, &stop, &mut content);
        }
        if stop == Stop::Refusal {
            draft::push_refusal(&mut content, text(&end, "/incomplete_details/reason"), "");
        }
        draft::reply(content, if refused { Stop::Refusal } else { stop }, usage(&end))
    }
}

fn is_refusal(item: &Value) -> bool {
    let parts = item.get("content").and_then(Value::as_array);
    parts.into_iter().flatten().any(|part| text(part, "/type") == "refusal")
}

fn stop(response: &Value, is_incomplete: bool) -> Stop {
    match (text(response, "/status"), text(response, "/incomplete_details/reason")) {
        (_, filter) if draft::is_filter(filter) => Stop::Refusal,
        // Whatever the reason, more was to come.
        ("completed" | "", "") if !is_incomplete => Stop::End,
        ("completed" | "" | "incomplete", _) => Stop::OutputMax,
        (other, _) => Stop::Other(format!("an error, {other}")),
    }
}

fn take_item(item: Value, stop: &Stop, content: &mut Vec<AssistantPart>) {
    match text(&item, "/type") {
        "message" => {
            for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
                match text(part, "/type") {
                    "output_text" => draft::push_text(content, text(part, "/text")),
                    "refusal" => draft::push_text(content, text(part, "/refusal")),
                    _ => {}
                }
            }
        }
        "function_call" => content.push(AssistantPart::Call(call(&item, content.len(), stop))),
        _ if item.is_object() => content.push(AssistantPart::Opaque { dialect: Dialect::OpenaiResponses, item }),
        _ => {}
    }
}

fn call(item: &Value, position: usize, stop: &Stop) -> ToolCall {
    let open = OpenCall {
        id: text(item, "/call_id").to_owned(),
        name: text(item, "/name").to_owned(),
        arguments: text(item, "/arguments").to_owned(),
        proof: None,
    };
    let mut call = open.close(position, stop);
    if text(item, "/status") == "incomplete" {
        let reason = "the answer was cut off before the arguments were whole".to_owned();
        call.arguments = draft::broken(text(item, "/arguments").to_owned(), reason);
    }
    call
}

fn usage(response: &Value) -> Usage {
    let cached = response.pointer("/usage/input_tokens_details/cached_tokens").and_then(Value::as_u64);
    let input = response.pointer("/usage/input_tokens").and_then(Value::as_u64);
    let mut usage = Usage { cache_read: cached, ..Usage::default() };
    usage.input = input.map(|all| all.saturating_sub(cached.unwrap_or(0)));
    count(&mut usage.output, response.pointer("/usage/output_tokens"));
    usage
}

/// An answer in one piece.
pub fn whole(body: Value) -> Result<Reply, DecodeError> {
    if body.get("error").is_some_and(|error| !error.is_null()) {
        return Err(DecodeError::Failed(failure::in_stream(&body)));
    }
    if !body.get("output").is_some_and(Value::is_array) {
        return Err(DecodeError::Malformed("there is no output".to_owned()));
    }
    Stream { end: Some(body), ..Stream::default() }.finish()
}

/// The body of a request.
pub fn encode(request: &ModelRequest) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.clone().into());
    body.insert("stream".to_owned(), true.into());
    body.insert("store".to_owned(), false.into());
    body.insert("include".to_owned(), json!(["reasoning.encrypted_content"]));
    body.insert("max_output_tokens".to_owned(), request.output_tokens_max.into());
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    if !request.system.is_empty() {
        body.insert("instructions".to_owned(), request.system.clone().into());
    }
    let mut input = Vec::new();
    for message in &request.messages {
        match message {
            Message::User { content: parts } => input.extend(parts.iter().map(told)),
            Message::Assistant { content: parts, .. } => input.extend(parts.iter().filter_map(said)),
        }
    }
    body.insert("input".to_owned(), input.into());
    Value::Object(body)
}

fn tool(tool: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
        "strict": false,
    })
}

fn told(part: &UserPart) -> Value {
    match part {
        UserPart::Text { text } => {
            json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] })
        }
        UserPart::ToolResult { call, content, .. } => {
            json!({ "type": "function_call_output", "call_id": call, "output": content })
        }
    }
}

fn said(part: &AssistantPart) -> Option<Value> {
    match part {
        AssistantPart::Text { text, .. } => Some(
            json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": text }] }),
        ),
        AssistantPart::Call(call) => {
            let arguments = draft::sent(&call.arguments).to_string();
            Some(json!({ "type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments }))
        }
        AssistantPart::Opaque { dialect: Dialect::OpenaiResponses, item } => Some(item.clone()),
        AssistantPart::Thinking { .. } | AssistantPart::Opaque { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use swarm_protocol::chat::Arguments;

    use super::*;

    fn item(at: u64, item: Value) -> Value {
        json!({ "type": "response.output_item.done", "output_index": at, "item": item })
    }

    fn streamed(events: Vec<Value>) -> Result<Reply, DecodeError> {
        let mut stream = Stream::default();
        for event in events {
            stream.event(event, &mut vec![])?;
        }
        stream.finish()
    }

    #[test]
    fn only_a_response_that_says_it_is_complete_ends_of_its_own_accord() {
        let end = |response: Value, is_incomplete| stop(&response, is_incomplete);
        for (response, is_incomplete, whole) in [
            (serde_json::json!({"status": "completed"}), false, true),
            (serde_json::json!({}), false, true),
            (serde_json::json!({}), true, false),
            (serde_json::json!({"status": "completed", "incomplete_details": {"reason": "max_tokens"}}), false, false),
            (serde_json::json!({"status": "incomplete"}), false, false),
            (serde_json::json!({"status": "failed"}), false, false),
            (serde_json::json!({"status": "in_progress"}), false, false),
        ] {
            assert_eq!(end(response.clone(), is_incomplete) == Stop::End, whole, "{response}");
        }
    }

    #[test]
    fn an_answer_is_built_from_its_items_when_the_last_event_has_none() {
        let call = json!({ "type": "function_call", "id": "fc", "call_id": "c", "name": "ls", "arguments": "" });
        let reasoning = json!({ "type": "reasoning", "id": "r", "encrypted_content": "x" });
        let end = json!({ "type": "response.completed", "response": { "status": "completed" } });
        let reply = streamed(vec![item(1, call), item(0, reasoning.clone()), end]).unwrap();
        assert_eq!(reply.content[0], AssistantPart::Opaque { dialect: Dialect::OpenaiResponses, item: reasoning });
        assert_eq!((reply.calls().next().unwrap().id.as_str(), &reply.stop), ("c", &Stop::Calls));
    }

    #[test]
    fn without_its_last_event_it_was_cut_off() {
        let text = json!({ "type": "message", "content": [{ "type": "output_text", "text": "x" }] });
        assert_eq!(streamed(vec![item(0, text)]), Err(DecodeError::Truncated));
    }

    #[test]
    fn an_incomplete_call_is_broken() {
        let call =
            json!({ "type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}", "status": "incomplete" });
        let end = json!({ "type": "response.incomplete",
            "response": { "status": "incomplete", "incomplete_details": { "reason": "max_output_tokens" } } });
        let reply = streamed(vec![item(0, call), end]).unwrap();
        assert_eq!(reply.stop, Stop::OutputMax);
        assert!(matches!(reply.calls().next().unwrap().arguments, Arguments::Broken { .. }));
    }
}
