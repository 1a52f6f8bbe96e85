//! OpenAI's Chat Completions, as OpenAI and the many servers that resemble it speak it. Whether there are calls is decided
//! by the calls, never by `finish_reason`: servers send `stop` with calls, and several reasons in one stream.
//!
//! Source: `POST /v1/chat/completions`.

use serde_json::{Map, Value, json};
use swarm_protocol::chat::{AssistantPart, Message, ModelRequest, Reply, Stop, ToolSpec, Usage, UserPart};

use super::draft::{self, OpenCall, PARTS_MAX, count, text};
use super::{DecodeError, Delta, failure};

/// An answer while it arrives.
#[derive(Debug, Default)]
pub struct Stream {
    content: Vec<AssistantPart>,
    calls: Vec<(Slot, OpenCall)>,
    refused: bool,
    finish: Option<Stop>,
    /// The word of the filter that ended it.
    filter: Option<String>,
    usage: Usage,
    ended: bool,
}

/// What fragments of one call have in common; servers count from 0, from 1, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(Option<u64>);

impl Stream {
    pub fn event(&mut self, event: &Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        if self.ended {
            return Ok(());
        }
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(DecodeError::Failed(failure::in_stream(event)));
        }
        self.take_usage(event.get("usage"));
        let choices = event.get("choices").and_then(Value::as_array).into_iter().flatten();
        for choice in choices.filter(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0) {
            if let Some(delta) = choice.get("delta") {
                self.delta(delta, deltas)?;
            }
            if let Some(word) = choice.get("finish_reason").and_then(Value::as_str) {
                self.take_finish(word);
            }
        }
        Ok(())
    }

    pub fn done(&mut self) {
        self.ended = true;
    }

    /// What it holds, in bytes.
    pub fn weight(&self) -> usize {
        draft::weight_of(&self.content) + self.calls.iter().map(|(_, call)| call.arguments.len()).sum::<usize>()
    }

    /// Some servers leave `[DONE]` out, none leaves the reason out: an end without both was cut off.
    pub fn finish(mut self) -> Result<Reply, DecodeError> {
        let Some(finish) = self.finish.take() else { return Err(DecodeError::Truncated) };
        let stop = if self.refused && finish == Stop::End { Stop::Refusal } else { finish };
        if let Some(word) = &self.filter {
            draft::push_refusal(&mut self.content, word, "");
        }
        for (position, (_, call)) in self.calls.into_iter().enumerate() {
            self.content.push(AssistantPart::Call(call.close(position, &stop)));
        }
        draft::reply(self.content, stop, self.usage)
    }

    fn delta(&mut self, delta: &Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        for place in ["/reasoning_content", "/reasoning"] {
            let more = text(delta, place);
            if !more.is_empty() {
                draft::push_thinking(&mut self.content, more);
                deltas.push(Delta::Thinking(more.to_owned()));
                break;
            }
        }
        for place in ["/content", "/refusal"] {
            let more = text(delta, place);
            if !more.is_empty() {
                self.refused |= place == "/refusal";
                draft::push_text(&mut self.content, more);
                deltas.push(Delta::Text(more.to_owned()));
            }
        }
        for fragment in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.fragment(fragment, deltas)?;
        }
        Ok(())
    }

    fn fragment(&mut self, fragment: &Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        let (id, name) = (text(fragment, "/id"), text(fragment, "/function/name"));
        let slot = Slot(fragment.get("index").and_then(Value::as_u64));
        // A known place with another id is another call; without a place, an id or a name begins one.
        let more = fragment.pointer("/function/arguments");
        let known = match slot {
            Slot(Some(_)) => self.calls.iter().rposition(|(other, _)| *other == slot),
            Slot(None) if id.is_empty() && name.is_empty() => self.calls.len().checked_sub(1),
            Slot(None) if id.is_empty() => self.calls.len().checked_sub(1).filter(|&at| {
                let call = &self.calls[at].1;
                call.name == name && is_open(call) && more.and_then(Value::as_str).is_some_and(|more| !more.is_empty())
            }),
            Slot(None) => self.calls.iter().rposition(|(_, call)| call.id == id),
        };
        let known = known.filter(|&at| id.is_empty() || self.calls[at].1.id.is_empty() || self.calls[at].1.id == id);
        let at = match known {
            Some(at) => at,
            None if self.calls.len() >= PARTS_MAX => {
                return Err(DecodeError::TooLarge { what: "calls", max: PARTS_MAX });
            }
            None => {
                self.calls.push((slot, OpenCall::default()));
                deltas.push(Delta::Call { name: name.to_owned() });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at].1;
        if call.id.is_empty() {
            call.id = id.to_owned();
        }
        join_name(call, name);
        match more {
            Some(Value::String(more)) => call.arguments.push_str(more),
            Some(object @ Value::Object(_)) => call.arguments = object.to_string(),
            _ => {}
        }
        if let Some(proof) = fragment.get("extra_content").filter(|proof| !proof.is_null()) {
            call.proof = Some(proof.clone());
        }
        Ok(())
    }

    /// The first reason stands, but one that cuts the answer off always wins.
    fn take_finish(&mut self, word: &str) {
        let stop = draft::stop_of(word);
        if stop == Stop::Refusal {
            self.filter.get_or_insert_with(|| word.to_owned());
        }
        if self.finish.is_none() || matches!(stop, Stop::OutputMax | Stop::ContextFull | Stop::Refusal) {
            self.finish = Some(stop);
        }
    }

    fn take_usage(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage.filter(|usage| usage.is_object()) else { return };
        let cached = usage.pointer("/prompt_tokens_details/cached_tokens").and_then(Value::as_u64);
        let input = usage.get("prompt_tokens").and_then(Value::as_u64);
        self.usage.input = input.map(|all| all.saturating_sub(cached.unwrap_or(0))).or(self.usage.input);
        self.usage.cache_read = cached.or(self.usage.cache_read);
        count(&mut self.usage.output, usage.get("completion_tokens"));
    }
}

/// Whether more of a call's arguments may come.
fn is_open(call: &OpenCall) -> bool {
    !matches!(serde_json::from_str::<Value>(&call.arguments), Ok(Value::Object(_)))
}

/// A name comes with a call's first fragment; some servers repeat it with each, or what they have of it until then, and some send
/// it in pieces. It is whole where the arguments begin.
fn join_name(call: &mut OpenCall, more: &str) {
    if more.starts_with(&call.name) {
        call.name = more.to_owned();
    } else if call.arguments.is_empty() {
        call.name.push_str(more);
    }
}

/// An answer in one piece.
pub fn whole(body: &Value) -> Result<Reply, DecodeError> {
    if body.get("error").is_some_and(|error| !error.is_null()) {
        return Err(DecodeError::Failed(failure::in_stream(body)));
    }
    let Some(choice) = body.pointer("/choices/0") else {
        return Err(DecodeError::Malformed("there are no choices".to_owned()));
    };
    let mut stream = Stream::default();
    if let Some(message) = choice.get("message") {
        stream.delta(message, &mut Vec::new())?;
    }
    stream.take_usage(body.get("usage"));
    stream.take_finish(choice.get("finish_reason").and_then(Value::as_str).unwrap_or("stop"));
    stream.finish()
}

/// The body of a request.
pub fn encode(request: &ModelRequest) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), request.model.clone().into());
    body.insert("stream".to_owned(), true.into());
    body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    body.insert(output_bound(&request.model).to_owned(), request.output_tokens_max.into());
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    body.insert("messages".to_owned(), messages(request, told, said));
    Value::Object(body)
}

/// The conversation, the system's words first: each part of what the model is told as `told` puts it, a turn of its own as
/// `said` does.
pub(super) fn messages(
    request: &ModelRequest,
    told: fn(&UserPart) -> Value,
    said: fn(&[AssistantPart]) -> Value,
) -> Value {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    for message in &request.messages {
        match message {
            Message::User { content: parts } => messages.extend(parts.iter().map(told)),
            Message::Assistant { content: parts, .. } => messages.push(said(parts)),
        }
    }
    messages.into()
}

/// OpenAI's newer models refuse the older name; other servers know only that one.
pub fn output_bound(model: &str) -> &'static str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let reasons = name.starts_with("gpt-5") || ["o1", "o3", "o4"].iter().any(|family| name.starts_with(family));
    if reasons { "max_completion_tokens" } else { "max_tokens" }
}

/// A tool, as both this format and Ollama's write it.
pub fn tool(tool: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "function": { "name": tool.name, "description": tool.description, "parameters": tool.schema },
    })
}

fn told(part: &UserPart) -> Value {
    match part {
        UserPart::Text { text } => json!({ "role": "user", "content": text }),
        UserPart::ToolResult { call, content, .. } => {
            json!({ "role": "tool", "tool_call_id": call, "content": content })
        }
    }
}

fn said(parts: &[AssistantPart]) -> Value {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in parts {
        match part {
            AssistantPart::Text { text: more, .. } => text.push_str(more),
            AssistantPart::Call(call) => {
                let arguments = draft::sent(&call.arguments).to_string();
                let mut sent = json!({
                    "id": call.id,
                    "type": "function",
                    "function": { "name": call.name, "arguments": arguments },
                });
                if let Some(proof) = call.proof.as_ref().filter(|proof| proof.is_object()) {
                    sent["extra_content"] = proof.clone();
                }
                calls.push(sent);
            }
            AssistantPart::Thinking { .. } | AssistantPart::Opaque { .. } => {}
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

#[cfg(test)]
mod tests {
    use swarm_protocol::chat::Arguments;

    use super::*;

    fn streamed(deltas: &[Value], finish: &[&str]) -> Result<Reply, DecodeError> {
        let mut stream = Stream::default();
        let events = deltas.iter().map(|delta| json!({ "choices": [{ "delta": delta }] }));
        let ends = finish.iter().map(|word| json!({ "choices": [{ "delta": {}, "finish_reason": word }] }));
        for event in events.chain(ends) {
            stream.event(&event, &mut vec![])?;
        }
        stream.finish()
    }

    fn fragment(index: Option<u64>, id: &str, name: &str, arguments: &str) -> Value {
        let mut call = json!({ "id": id, "function": { "name": name, "arguments": arguments } });
        if let Some(index) = index {
            call["index"] = index.into();
        }
        json!({ "tool_calls": [call] })
    }

    fn calls(deltas: &[Value]) -> Vec<(String, String)> {
        let reply = streamed(deltas, &["stop"]).unwrap();
        reply.calls().map(|call| (call.name.clone(), draft::sent(&call.arguments).to_string())).collect()
    }

    fn pair(name: &str, arguments: &str) -> (String, String) {
        (name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn no_call_of_an_answer_that_a_filter_ended_counts() {
        let call = fragment(Some(0), "i", "a", r#"{"x":1}"#);
        for finish in [&["content_filter"][..], &["tool_calls", "content_filter"], &["guardrail_intervened"]] {
            let reply = streamed(std::slice::from_ref(&call), finish).unwrap();
            let Arguments::Broken { text, reason } = &reply.calls().next().unwrap().arguments else {
                panic!("{finish:?}")
            };
            assert_eq!((text.as_str(), &reply.stop), (r#"{"x":1}"#, &Stop::Refusal));
            assert!(reason.contains("filter"), "{reason}");
        }
    }

    #[test]
    fn fragments_find_their_call() {
        let expected = [pair("a", r#"{"x":1}"#), pair("b", "{}")];
        let by_index = [
            fragment(Some(1), "i", "a", ""),
            fragment(Some(2), "j", "b", ""),
            fragment(Some(1), "", "", "{\"x\""),
            fragment(Some(1), "", "", ":1}"),
        ];
        assert_eq!(calls(&by_index), expected);
        let without_index =
            [fragment(None, "i", "a", "{\"x\""), fragment(None, "", "", ":1}"), fragment(None, "j", "b", "{}")];
        assert_eq!(calls(&without_index), expected);
        let one_index_two_ids = [fragment(Some(0), "i", "a", "{\"x\":1}"), fragment(Some(0), "j", "b", "{}")];
        assert_eq!(calls(&one_index_two_ids), expected);
        let whole_with_empty_ids = [fragment(Some(0), "", "a", "{\"x\":1}"), fragment(Some(1), "", "b", "")];
        assert_eq!(calls(&whole_with_empty_ids), expected);
    }

    #[test]
    fn names_come_whole_in_pieces_or_again_with_each_fragment() {
        let expected = [pair("read", r#"{"x":1}"#)];
        for names in [["read", "", ""], ["read", "read", "read"], ["re", "ad", ""], ["re", "read", "read"]] {
            let fragments = |index, id| {
                let arguments = ["", "", "{\"x\":1}"];
                [0, 1, 2].map(|n| fragment(index, id, names[n], arguments[n]))
            };
            assert_eq!(calls(&fragments(Some(0), "i")), expected, "{names:?}");
            assert_eq!(calls(&fragments(Some(0), "")), expected, "{names:?}");
            assert_eq!(calls(&fragments(None, "i")), expected, "{names:?}");
        }
        let nothing_but_names = [fragment(None, "", "read", "{\"x\""), fragment(None, "", "read", ":1}")];
        assert_eq!(calls(&nothing_but_names), expected);
        let twice = [fragment(None, "", "ls", "{}"), fragment(None, "", "ls", "{}")];
        assert_eq!(calls(&twice), [pair("ls", "{}"), pair("ls", "{}")]);
        assert_eq!(calls(&[fragment(None, "", "ls", ""), fragment(None, "", "ls", "")]).len(), 2);
    }

    #[test]
    fn a_filter_s_word_is_told() {
        let reply = streamed(&[json!({ "content": "so" })], &["content_filter"]).unwrap();
        assert_eq!(
            (reply.text().as_str(), &reply.stop),
            ("so\n(ended by its provider: content_filter)", &Stop::Refusal)
        );
    }

    #[test]
    fn a_length_anywhere_breaks_half_written_arguments() {
        let half = fragment(Some(0), "i", "a", "{\"x\":");
        for finish in [["length", "stop"], ["stop", "length"]] {
            let reply = streamed(std::slice::from_ref(&half), &finish).unwrap();
            assert_eq!(reply.stop, Stop::OutputMax);
            assert!(matches!(reply.calls().next().unwrap().arguments, Arguments::Broken { .. }));
        }
    }

    #[test]
    fn a_filter_behind_the_name_of_a_tool_executes_nothing() {
        for finish in ["content_filter", "insufficient_system_resource"] {
            let reply = streamed(&[fragment(Some(0), "i", "a", "")], &[finish]).unwrap();
            assert!(matches!(reply.calls().next().unwrap().arguments, Arguments::Broken { .. }), "{finish}");
        }
    }

    #[test]
    fn an_end_without_a_reason_was_cut_off() {
        assert_eq!(streamed(&[json!({ "content": "x" })], &[]), Err(DecodeError::Truncated));
    }

    #[test]
    fn an_error_under_status_200_is_an_error() {
        let event = json!({ "error": { "message": "slow", "code": 429 } });
        assert!(matches!(Stream::default().event(&event, &mut vec![]), Err(DecodeError::Failed(_))));
    }
}
