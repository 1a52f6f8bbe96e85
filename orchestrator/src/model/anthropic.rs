//! Anthropic's Messages. A stream is `message_start`, blocks of start, deltas and stop, `message_delta`, `message_stop`,
//! with `ping` anywhere; kinds that are not known here are kept whole or passed over.
//!
//! Source: `POST /v1/messages`, `anthropic-version: 2023-06-01`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use swarm_protocol::chat::{
    Arguments, AssistantPart, Dialect, Message, ModelRequest, Reply, Stop, ToolCall, ToolSpec, ToolStatus, Usage,
    UserPart,
};

use super::draft::{self, OpenCall, PARTS_MAX, count, text};
use super::{DecodeError, Delta, failure};

/// An answer while it arrives.
#[derive(Debug, Default)]
pub struct Stream {
    blocks: BTreeMap<u64, Block>,
    stop: Option<String>,
    /// Why it refuses, in its classifier's words; empty where it says none.
    explanation: String,
    usage: Usage,
    ended: bool,
}

/// One block while it arrives.
#[derive(Debug, Default)]
struct Block {
    start: Value,
    text: String,
    json: String,
    signature: String,
    stopped: bool,
}

impl Stream {
    pub fn event(&mut self, mut event: Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        if self.ended {
            return Ok(());
        }
        match text(&event, "/type") {
            "message_start" => {
                // A gateway that fell back to another server sends a second one: the first attempt is void.
                if !self.blocks.is_empty() {
                    deltas.push(Delta::Restarted);
                }
                *self = Stream::default();
                self.take_usage(event.pointer("/message/usage"));
                // Of the answer, it counts what was there when it began; only `message_delta` says what it came to.
                self.usage.output = None;
            }
            "content_block_start" => {
                if self.blocks.len() >= PARTS_MAX {
                    return Err(DecodeError::TooLarge { what: "blocks", max: PARTS_MAX });
                }
                let start = event.get_mut("content_block").map(Value::take).unwrap_or_default();
                let block = Block { text: first_text(&start).to_owned(), start, ..Block::default() };
                deltas.extend(shown(&block));
                self.blocks.insert(index(&event), block);
            }
            "content_block_delta" => {
                if let Some(block) = self.blocks.get_mut(&index(&event)) {
                    deltas.extend(block.grow(&event));
                }
            }
            "content_block_stop" => {
                if let Some(block) = self.blocks.get_mut(&index(&event)) {
                    block.stopped = true;
                }
            }
            "message_delta" => {
                if let Some(stop) = event.pointer("/delta/stop_reason").and_then(Value::as_str) {
                    self.stop = Some(stop.to_owned());
                }
                self.explanation.push_str(text(&event, "/delta/stop_details/explanation"));
                self.take_usage(event.get("usage"));
            }
            "message_stop" => self.ended = true,
            "error" => return Err(DecodeError::Failed(failure::in_stream(&event))),
            _ if event.get("error").is_some() => {
                return Err(DecodeError::Failed(failure::in_stream(&event)));
            }
            _ => {}
        }
        Ok(())
    }

    /// `[DONE]`, which does not belong here: the end all the same, where everything else is there.
    pub fn done(&mut self) {
        self.ended |= self.stop.is_some() && self.blocks.values().all(|block| block.stopped);
    }

    pub fn finish(self) -> Result<Reply, DecodeError> {
        if !self.ended {
            return Err(DecodeError::Truncated);
        }
        let stop = draft::stop_of(self.stop.as_deref().unwrap_or_default());
        let parts = self.blocks.into_values().enumerate();
        let mut content: Vec<AssistantPart> =
            parts.filter_map(|(position, block)| block.close(position, &stop)).collect();
        if stop == Stop::Refusal {
            draft::push_refusal(&mut content, "refusal", &self.explanation);
        }
        draft::reply(content, stop, self.usage)
    }

    /// What it holds, in bytes.
    pub fn weight(&self) -> usize {
        let block =
            |block: &Block| draft::weight(&block.start) + block.text.len() + block.json.len() + block.signature.len();
        self.blocks.values().map(block).sum()
    }

    /// Counts are totals of the whole message: a later one replaces an earlier one.
    fn take_usage(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        count(&mut self.usage.input, usage.get("input_tokens"));
        count(&mut self.usage.output, usage.get("output_tokens"));
        count(&mut self.usage.cache_read, usage.get("cache_read_input_tokens"));
        count(&mut self.usage.cache_write, usage.get("cache_creation_input_tokens"));
        count(&mut self.usage.cache_write_long, usage.pointer("/cache_creation/ephemeral_1h_input_tokens"));
    }
}

fn index(event: &Value) -> u64 {
    event.get("index").and_then(Value::as_u64).unwrap_or_default()
}

/// What a block begins with: nothing, from Anthropic itself.
fn first_text(start: &Value) -> &str {
    match text(start, "/type") {
        "thinking" => text(start, "/thinking"),
        _ => text(start, "/text"),
    }
}

fn shown(block: &Block) -> Option<Delta> {
    match text(&block.start, "/type") {
        "tool_use" => Some(Delta::Call { name: text(&block.start, "/name").to_owned() }),
        "text" if !block.text.is_empty() => Some(Delta::Text(block.text.clone())),
        _ => None,
    }
}

impl Block {
    fn grow(&mut self, event: &Value) -> Option<Delta> {
        match text(event, "/delta/type") {
            "text_delta" => {
                let more = text(event, "/delta/text");
                self.text.push_str(more);
                Some(Delta::Text(more.to_owned()))
            }
            "thinking_delta" => {
                let more = text(event, "/delta/thinking");
                self.text.push_str(more);
                Some(Delta::Thinking(more.to_owned()))
            }
            "input_json_delta" => {
                self.json.push_str(text(event, "/delta/partial_json"));
                None
            }
            "signature_delta" => {
                self.signature.push_str(text(event, "/delta/signature"));
                None
            }
            _ => None,
        }
    }

    fn close(mut self, position: usize, stop: &Stop) -> Option<AssistantPart> {
        match text(&self.start, "/type") {
            "text" => (!self.text.is_empty()).then_some(AssistantPart::Text { text: self.text, proof: None }),
            "thinking" => {
                let signature =
                    if self.signature.is_empty() { text(&self.start, "/signature") } else { &self.signature };
                let proof = (!signature.is_empty()).then(|| Value::from(signature));
                Some(AssistantPart::Thinking { text: self.text, proof })
            }
            "tool_use" => Some(AssistantPart::Call(self.call(position, stop))),
            _ => {
                if let Ok(input) = serde_json::from_str::<Value>(&self.json) {
                    self.start["input"] = input;
                }
                self.start
                    .is_object()
                    .then_some(AssistantPart::Opaque { dialect: Dialect::Anthropic, item: self.start })
            }
        }
    }

    fn call(&self, position: usize, stop: &Stop) -> ToolCall {
        let open = OpenCall {
            id: text(&self.start, "/id").to_owned(),
            name: text(&self.start, "/name").to_owned(),
            arguments: self.json.clone(),
            proof: None,
        };
        let mut call = open.close(position, stop);
        if !self.stopped {
            let reason = "the answer was cut off before the arguments were whole".to_owned();
            call.arguments = draft::broken(self.json.clone(), reason);
        } else if self.json.trim().is_empty() {
            // Servers that do not stream arguments put them into the start.
            if let Some(input) = self.start.get("input").and_then(Value::as_object).filter(|input| !input.is_empty()) {
                call.arguments = Arguments::Object(input.clone());
            }
        }
        call
    }
}

/// An answer in one piece.
pub fn whole(mut body: Value) -> Result<Reply, DecodeError> {
    if body.get("error").is_some_and(|error| !error.is_null()) {
        return Err(DecodeError::Failed(failure::in_stream(&body)));
    }
    let mut stream = Stream { ended: true, ..Stream::default() };
    stream.take_usage(body.get("usage"));
    stream.stop = Some(text(&body, "/stop_reason").to_owned());
    stream.explanation = text(&body, "/stop_details/explanation").to_owned();
    let Some(Value::Array(blocks)) = body.get_mut("content").map(Value::take) else {
        return Err(DecodeError::Malformed("there is no content".to_owned()));
    };
    for (at, start) in blocks.into_iter().enumerate() {
        let block = Block { text: first_text(&start).to_owned(), start, stopped: true, ..Block::default() };
        stream.blocks.insert(at as u64, block);
    }
    stream.finish()
}

/// The body of a request. Two marks for the cache: behind the instructions (with the tools before them), and behind the
/// newest message.
pub fn encode(request: &ModelRequest) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.clone().into());
    body.insert("max_tokens".to_owned(), request.output_tokens_max.into());
    body.insert("stream".to_owned(), true.into());
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    if !request.system.is_empty() {
        let system = json!([{ "type": "text", "text": request.system, "cache_control": { "type": "ephemeral" } }]);
        body.insert("system".to_owned(), system);
    }
    let mut messages: Vec<Value> = request.messages.iter().map(message).collect();
    let newest = messages.last_mut().and_then(|message| message.pointer_mut("/content")?.as_array_mut()?.last_mut());
    if let Some(part) = newest.and_then(Value::as_object_mut) {
        part.insert("cache_control".to_owned(), json!({ "type": "ephemeral" }));
    }
    body.insert("messages".to_owned(), messages.into());
    Value::Object(body)
}

fn tool(tool: &ToolSpec) -> Value {
    json!({ "name": tool.name, "description": tool.description, "input_schema": tool.schema })
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { content: parts } => {
            json!({ "role": "user", "content": parts.iter().map(told).collect::<Vec<_>>() })
        }
        Message::Assistant { content: parts, .. } => {
            json!({ "role": "assistant", "content": parts.iter().filter_map(said).collect::<Vec<_>>() })
        }
    }
}

fn told(part: &UserPart) -> Value {
    match part {
        UserPart::Text { text } => json!({ "type": "text", "text": text }),
        UserPart::ToolResult { call, content, status, .. } => {
            let mut result = json!({ "type": "tool_result", "tool_use_id": call, "content": content });
            if *status == ToolStatus::Error {
                result["is_error"] = true.into();
            }
            result
        }
    }
}

fn said(part: &AssistantPart) -> Option<Value> {
    match part {
        AssistantPart::Text { text, .. } => Some(json!({ "type": "text", "text": text })),
        // Thinking without its signature is refused, and thinking of another provider's model means nothing here.
        AssistantPart::Thinking { text, proof } => {
            let signature = proof.as_ref().filter(|proof| proof.is_string())?;
            Some(json!({ "type": "thinking", "thinking": text, "signature": signature }))
        }
        AssistantPart::Call(call) => {
            let input = draft::sent(&call.arguments);
            Some(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }))
        }
        AssistantPart::Opaque { dialect: Dialect::Anthropic, item } => Some(item.clone()),
        AssistantPart::Opaque { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(events: &[Value]) -> Result<Reply, DecodeError> {
        let mut stream = Stream::default();
        for event in events {
            stream.event(event.clone(), &mut vec![])?;
        }
        stream.finish()
    }

    fn call_events() -> Vec<Value> {
        vec![
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "ls"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ]
    }

    #[test]
    fn a_call_without_arguments_has_none() {
        let reply = streamed(&call_events()).unwrap();
        let call = reply.calls().next().unwrap();
        assert_eq!((call.id.as_str(), &call.arguments), ("t", &Arguments::Object(Map::new())));
        assert_eq!((reply.usage.input, reply.usage.output), (Some(9), Some(7)));
    }

    #[test]
    fn a_stream_without_its_end_is_cut_off_wherever_it_stops() {
        let events = call_events();
        (0..events.len()).for_each(|n| assert_eq!(streamed(&events[..n]), Err(DecodeError::Truncated), "{n}"));
    }

    #[test]
    fn the_count_of_the_beginning_is_not_the_answer_s() {
        for output in [json!(null), json!(-1), json!(1.5), json!("7")] {
            let mut events = call_events();
            events[4]["usage"]["output_tokens"] = output;
            let usage = streamed(&events).unwrap().usage;
            assert_eq!((usage.input, usage.output), (Some(9), None));
        }
    }

    #[test]
    fn a_second_start_begins_anew() {
        let mut events = call_events();
        events.splice(4..4, call_events());
        assert_eq!(streamed(&events).unwrap().content.len(), 1);
    }

    #[test]
    fn a_call_cut_by_the_bound_is_broken() {
        let mut events = call_events();
        events[4]["delta"]["stop_reason"] = "max_tokens".into();
        let reply = streamed(&events).unwrap();
        assert!(matches!(reply.calls().next().unwrap().arguments, Arguments::Broken { .. }));
    }

    #[test]
    fn a_foreign_done_ends_only_what_is_whole() {
        let ended = |n: usize| {
            let mut stream = Stream::default();
            call_events()[..n].iter().for_each(|event| stream.event(event.clone(), &mut vec![]).unwrap());
            stream.done();
            stream.finish().is_ok()
        };
        assert_eq!((ended(3), ended(4), ended(5)), (false, false, true));
    }
}
