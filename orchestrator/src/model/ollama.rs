//! Ollama's own chat: JSON lines, arguments as objects, and `stop` also when there are calls. Its imitation of OpenAI's
//! format ignores the size of the context and cuts long conversations without a word, so it is not used.
//!
//! Source: `POST /api/chat`.

use serde_json::{Map, Value, json};
use swarm_protocol::chat::{AssistantPart, ModelRequest, Reply, Stop, Usage, UserPart};

use super::draft::{self, OpenCall, PARTS_MAX, count, text};
use super::{DecodeError, Delta, failure};

/// An answer while it arrives.
#[derive(Debug, Default)]
pub struct Stream {
    content: Vec<AssistantPart>,
    calls: Vec<OpenCall>,
    usage: Usage,
    end: Option<Stop>,
}

impl Stream {
    pub fn event(&mut self, event: &Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        if self.end.is_some() {
            return Ok(());
        }
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(DecodeError::Failed(failure::in_stream(event)));
        }
        let thinking = text(event, "/message/thinking");
        if !thinking.is_empty() {
            draft::push_thinking(&mut self.content, thinking);
            deltas.push(Delta::Thinking(thinking.to_owned()));
        }
        let more = text(event, "/message/content");
        if !more.is_empty() {
            draft::push_text(&mut self.content, more);
            deltas.push(Delta::Text(more.to_owned()));
        }
        for call in event.pointer("/message/tool_calls").and_then(Value::as_array).into_iter().flatten() {
            if self.calls.len() >= PARTS_MAX {
                return Err(DecodeError::TooLarge { what: "calls", max: PARTS_MAX });
            }
            let arguments = match call.pointer("/function/arguments") {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
            let name = text(call, "/function/name").to_owned();
            deltas.push(Delta::Call { name: name.clone() });
            self.calls.push(OpenCall { id: text(call, "/id").to_owned(), name, arguments, proof: None });
        }
        if event.get("done").and_then(Value::as_bool) == Some(true) {
            count(&mut self.usage.input, event.get("prompt_eval_count"));
            count(&mut self.usage.output, event.get("eval_count"));
            self.end = Some(match text(event, "/done_reason") {
                "" => Stop::End,
                word => draft::stop_of(word),
            });
        }
        Ok(())
    }

    /// What it holds, in bytes.
    pub fn weight(&self) -> usize {
        draft::weight_of(&self.content) + self.calls.iter().map(|call| call.arguments.len()).sum::<usize>()
    }

    pub fn finish(mut self) -> Result<Reply, DecodeError> {
        let Some(stop) = self.end else { return Err(DecodeError::Truncated) };
        for (position, call) in self.calls.into_iter().enumerate() {
            self.content.push(AssistantPart::Call(call.close(position, &stop)));
        }
        draft::reply(self.content, stop, self.usage)
    }
}

/// An answer in one piece: its only line.
pub fn whole(body: &Value) -> Result<Reply, DecodeError> {
    let mut stream = Stream::default();
    stream.event(body, &mut Vec::new())?;
    stream.finish()
}

/// The body of a request.
pub fn encode(request: &ModelRequest) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.clone().into());
    body.insert("stream".to_owned(), true.into());
    let mut options = json!({ "num_predict": request.output_tokens_max });
    if let Some(context) = request.context_tokens {
        options["num_ctx"] = context.into();
    }
    body.insert("options".to_owned(), options);
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(super::chat::tool).collect());
    }
    body.insert("messages".to_owned(), super::chat::messages(request, told, said));
    Value::Object(body)
}

fn told(part: &UserPart) -> Value {
    match part {
        UserPart::Text { text } => json!({ "role": "user", "content": text }),
        UserPart::ToolResult { name, content, .. } => json!({ "role": "tool", "tool_name": name, "content": content }),
    }
}

fn said(parts: &[AssistantPart]) -> Value {
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part {
            AssistantPart::Text { text: more, .. } => text.push_str(more),
            AssistantPart::Thinking { text: more, .. } => thinking.push_str(more),
            AssistantPart::Call(call) => {
                let arguments = draft::sent(&call.arguments);
                calls.push(json!({ "function": { "name": call.name, "arguments": arguments } }));
            }
            AssistantPart::Opaque { .. } => {}
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !thinking.is_empty() {
        message["thinking"] = thinking.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_before_the_last_line_and_stop_means_calls() {
        let mut stream = Stream::default();
        let call = json!({ "function": { "name": "ls", "arguments": { "path": "." } } });
        for event in [
            json!({ "message": { "tool_calls": [call.clone(), call] }, "done": false }),
            json!({ "message": { "content": "" }, "done": true, "done_reason": "stop", "eval_count": 3 }),
        ] {
            stream.event(&event, &mut vec![]).unwrap();
        }
        let reply = stream.finish().unwrap();
        assert_eq!((reply.calls().count(), &reply.stop, reply.usage.output), (2, &Stop::Calls, Some(3)));
    }

    #[test]
    fn a_stream_without_its_last_line_was_cut_off() {
        let mut stream = Stream::default();
        stream.event(&json!({ "message": { "content": "x" }, "done": false }), &mut vec![]).unwrap();
        assert_eq!(stream.finish(), Err(DecodeError::Truncated));
    }
}
