//! Google's `generateContent`. Every event is a candidate with parts; calls come whole (on Vertex also in pieces), mostly
//! without ids; a signature belongs to the part it came with and goes back on that part. A stream may name several
//! reasons to finish, with text behind the first.
//!
//! Source: `POST …:streamGenerateContent?alt=sse`.

use serde_json::{Map, Value, json};
use swarm_protocol::chat::{
    Arguments, AssistantPart, Dialect, Message, ModelRequest, Reply, Stop, ToolCall, ToolSpec, ToolStatus, Usage,
    UserPart,
};

/// Schemas of tools as it takes them.
mod parameters;

use super::draft::{self, count, text};
use super::{DecodeError, Delta, failure};

/// Steps of the longest path within arguments. A value that is nested without a bound cannot be dropped, nor written, without
/// as much of the stack; the workers' own reader of JSON ends at 128, and what lies around the arguments counts there, too.
const STEPS_MAX: usize = 64;

/// An answer while it arrives.
#[derive(Debug, Default)]
pub struct Stream {
    content: Vec<AssistantPart>,
    /// A call that arrives in pieces.
    pieces: Option<Pieces>,
    finish: Option<Stop>,
    /// Why it refuses: the word, and the sentence; empty where there is none.
    refusal: Option<(String, String)>,
    usage: Usage,
}

/// A call in pieces, each a value with the place it belongs to.
#[derive(Debug)]
struct Pieces {
    name: String,
    arguments: Value,
    proof: Option<Value>,
}

impl Stream {
    pub fn event(&mut self, mut event: Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        let failed = |event: &Value| event.get("error").is_some_and(|error| !error.is_null());
        if failed(&event) || event.get(0).is_some_and(failed) {
            let error = event.get(0).cloned().unwrap_or(event);
            return Err(DecodeError::Failed(failure::in_stream(&error)));
        }
        self.take_usage(event.get("usageMetadata"));
        if let Some(reason) = event.pointer("/promptFeedback/blockReason") {
            self.finish = Some(Stop::Refusal);
            let word = format!("the prompt is blocked, {}", reason.as_str().unwrap_or("for no reason that it says"));
            self.refusal.get_or_insert((word, text(&event, "/promptFeedback/blockReasonMessage").to_owned()));
        }
        if let Some(Value::Array(parts)) = event.pointer_mut("/candidates/0/content/parts").map(Value::take) {
            for part in parts {
                self.part(part, deltas)?;
            }
        }
        if let Some(word) = event.pointer("/candidates/0/finishReason").and_then(Value::as_str) {
            // The last reason counts, but one that cuts the answer off stays.
            if !matches!(self.finish, Some(Stop::OutputMax | Stop::ContextFull | Stop::Refusal)) {
                self.finish = Some(draft::stop_of(word));
            }
            if draft::stop_of(word) == Stop::Refusal {
                let sentence = text(&event, "/candidates/0/finishMessage").to_owned();
                self.refusal.get_or_insert((word.to_owned(), sentence));
            }
        }
        if self.content.len() > draft::PARTS_MAX {
            return Err(DecodeError::TooLarge { what: "parts", max: draft::PARTS_MAX });
        }
        Ok(())
    }

    /// What it holds, in bytes.
    pub fn weight(&self) -> usize {
        draft::weight_of(&self.content) + self.pieces.as_ref().map_or(0, |pieces| draft::weight(&pieces.arguments))
    }

    pub fn finish(mut self) -> Result<Reply, DecodeError> {
        let Some(stop) = self.finish.take() else { return Err(DecodeError::Truncated) };
        match self.pieces.take() {
            Some(pieces) if draft::cuts_off(&stop) => {
                let reason = "the answer was cut off before the arguments were whole".to_owned();
                let arguments = draft::broken(pieces.arguments.to_string(), reason);
                self.push_call(String::new(), pieces.name, arguments, pieces.proof);
            }
            Some(pieces) => self.close(pieces),
            None => {}
        }
        if let Some((word, sentence)) = &self.refusal {
            draft::push_refusal(&mut self.content, word, sentence);
        }
        draft::reply(self.content, stop, self.usage)
    }

    fn part(&mut self, mut part: Value, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        let proof = part.get_mut("thoughtSignature").map(Value::take).filter(|proof| !proof.is_null());
        if let Some(call) = part.get_mut("functionCall").map(Value::take) {
            return self.call(call, proof, deltas);
        }
        match part.get("text").and_then(Value::as_str) {
            Some(words) if part.get("thought").and_then(Value::as_bool) == Some(true) => {
                deltas.push(Delta::Thinking(words.to_owned()));
                match proof {
                    None => draft::push_thinking(&mut self.content, words),
                    proof => self.content.push(AssistantPart::Thinking { text: words.to_owned(), proof }),
                }
            }
            Some(words) => {
                deltas.push(Delta::Text(words.to_owned()));
                match proof {
                    None if words.is_empty() => {}
                    None => draft::push_text(&mut self.content, words),
                    proof => self.content.push(AssistantPart::Text { text: words.to_owned(), proof }),
                }
            }
            None if part.as_object().is_some_and(|part| !part.is_empty()) => {
                if let Some(proof) = proof {
                    part["thoughtSignature"] = proof;
                }
                self.content.push(AssistantPart::Opaque { dialect: Dialect::Gemini, item: part });
            }
            None => {}
        }
        Ok(())
    }

    fn call(&mut self, mut call: Value, proof: Option<Value>, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        let name = text(&call, "/name").to_owned();
        let goes_on = call.get("willContinue").and_then(Value::as_bool) == Some(true);
        let partial = call.get_mut("partialArgs").map(Value::take);
        if !name.is_empty() {
            if let Some(before) = self.pieces.take() {
                self.close(before);
            }
            deltas.push(Delta::Call { name: name.clone() });
            if !goes_on && partial.is_none() {
                let arguments = match call.get_mut("args").map(Value::take) {
                    Some(Value::Object(arguments)) => Arguments::Object(arguments),
                    None | Some(Value::Null) => Arguments::Object(Map::new()),
                    Some(other) => draft::broken(other.to_string(), "the arguments are not a JSON object".to_owned()),
                };
                self.push_call(text(&call, "/id").to_owned(), name, arguments, proof);
                return Ok(());
            }
            self.pieces = Some(Pieces { name, arguments: Value::Object(Map::new()), proof });
        }
        let Some(open) = &mut self.pieces else { return Ok(()) };
        if let Some(Value::Array(pieces)) = partial {
            pieces.iter().try_for_each(|piece| place(&mut open.arguments, piece))?;
        }
        if !goes_on && let Some(whole) = self.pieces.take() {
            self.close(whole);
        }
        Ok(())
    }

    fn close(&mut self, pieces: Pieces) {
        let arguments = match pieces.arguments {
            Value::Object(arguments) => Arguments::Object(arguments),
            other => draft::broken(other.to_string(), "the arguments are not a JSON object".to_owned()),
        };
        self.push_call(String::new(), pieces.name, arguments, pieces.proof);
    }

    fn push_call(&mut self, id: String, name: String, arguments: Arguments, proof: Option<Value>) {
        let id = if id.is_empty() { format!("call_{}", self.content.len()) } else { id };
        self.content.push(AssistantPart::Call(ToolCall { id, name, arguments, proof }));
    }

    fn take_usage(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        let number = |name: &str| usage.get(name).and_then(Value::as_u64);
        count(&mut self.usage.cache_read, usage.get("cachedContentTokenCount"));
        let cached = self.usage.cache_read.unwrap_or(0);
        self.usage.input = number("promptTokenCount").map(|all| all.saturating_sub(cached)).or(self.usage.input);
        let output = number("candidatesTokenCount");
        let thoughts = number("thoughtsTokenCount");
        if output.is_some() || thoughts.is_some() {
            self.usage.output = Some(output.unwrap_or(0).saturating_add(thoughts.unwrap_or(0)));
        }
    }
}

/// Puts one piece of arguments where its path says: `$.name`, `$.list[0].name`, `$['name']`. Text joins what is there.
///
/// # Errors
/// [`DecodeError::Malformed`] for a path that is too long, or that leaves items of a list out.
fn place(arguments: &mut Value, piece: &Value) -> Result<(), DecodeError> {
    let mut at = arguments;
    for step in steps(text(piece, "/jsonPath"))? {
        at = match step {
            Step::Name(name) => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                &mut at[name]
            }
            Step::Item(n) => item(at, n)?,
        };
    }
    if let Some(more) = piece.get("stringValue").and_then(Value::as_str) {
        match at {
            Value::String(before) => before.push_str(more),
            _ => *at = Value::from(more),
        }
    } else if let Some(value) = piece.get("numberValue").or_else(|| piece.get("boolValue")) {
        *at = value.clone();
    } else if piece.get("nullValue").is_some() {
        *at = Value::Null;
    }
    Ok(())
}

/// The `n`-th item of a list, or the place behind its last one: lists come in order, and one number makes no more than one item.
fn item(at: &mut Value, n: usize) -> Result<&mut Value, DecodeError> {
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    let items = at.as_array_mut().expect("made above");
    if n > items.len() {
        let why = format!("item {n} of a list within arguments comes behind {} items", items.len());
        return Err(DecodeError::Malformed(why));
    }
    if n == items.len() {
        items.push(Value::Null);
    }
    Ok(&mut items[n])
}

enum Step {
    Name(String),
    Item(usize),
}

fn steps(path: &str) -> Result<Vec<Step>, DecodeError> {
    let mut steps = Vec::new();
    for part in path.trim_start_matches('$').split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        if steps.len() == STEPS_MAX {
            return Err(DecodeError::Malformed(format!("a path within arguments has more than {STEPS_MAX} steps")));
        }
        let name = part.trim_matches(['\'', '"']);
        match part.parse::<usize>() {
            Ok(item) => steps.push(Step::Item(item)),
            Err(_) => steps.push(Step::Name(name.to_owned())),
        }
    }
    Ok(steps)
}

/// An answer in one piece: a stream of one event.
pub fn whole(body: Value) -> Result<Reply, DecodeError> {
    let mut stream = Stream::default();
    stream.event(body, &mut Vec::new())?;
    stream.finish()
}

/// The body of a request.
pub fn encode(request: &ModelRequest) -> Value {
    let mut body = Map::new();
    if !request.system.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({ "parts": [{ "text": request.system }] }));
    }
    if !request.tools.is_empty() {
        let declared: Vec<Value> = request.tools.iter().map(tool).collect();
        body.insert("tools".to_owned(), json!([{ "functionDeclarations": declared }]));
    }
    body.insert("generationConfig".to_owned(), json!({ "maxOutputTokens": request.output_tokens_max }));
    body.insert("contents".to_owned(), request.messages.iter().map(message).collect());
    Value::Object(body)
}

fn tool(tool: &ToolSpec) -> Value {
    let mut declared = json!({ "name": tool.name, "description": tool.description });
    // An object without properties is refused: such a tool has no parameters at all.
    if tool.schema.get("properties").and_then(Value::as_object).is_some_and(|properties| !properties.is_empty()) {
        declared["parameters"] = parameters::subset(&tool.schema);
    }
    declared
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { content: parts } => {
            json!({ "role": "user", "parts": parts.iter().map(told).collect::<Vec<_>>() })
        }
        Message::Assistant { content: parts, .. } => {
            json!({ "role": "model", "parts": parts.iter().filter_map(said).collect::<Vec<_>>() })
        }
    }
}

fn told(part: &UserPart) -> Value {
    match part {
        UserPart::Text { text } => json!({ "text": text }),
        // Results are matched by name and order, which are those of the calls.
        UserPart::ToolResult { name, content, status, .. } => {
            let key = if *status == ToolStatus::Error { "error" } else { "output" };
            json!({ "functionResponse": { "name": name, "response": { key: content } } })
        }
    }
}

fn said(part: &AssistantPart) -> Option<Value> {
    let signed = |mut part: Value, proof: &Option<Value>| {
        if let Some(proof) = proof {
            part["thoughtSignature"] = proof.clone();
        }
        part
    };
    match part {
        AssistantPart::Text { text, proof } => Some(signed(json!({ "text": text }), proof)),
        AssistantPart::Thinking { text, proof } => {
            proof.as_ref()?;
            Some(signed(json!({ "text": text, "thought": true }), proof))
        }
        AssistantPart::Call(call) => {
            let sent = json!({ "functionCall": { "name": call.name, "args": draft::sent(&call.arguments) } });
            Some(signed(sent, &call.proof))
        }
        AssistantPart::Opaque { dialect: Dialect::Gemini, item } => Some(item.clone()),
        AssistantPart::Opaque { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(parts: Value, finish: Option<&str>) -> Value {
        json!({ "candidates": [{ "content": { "parts": parts }, "finishReason": finish }] })
    }

    fn streamed(events: Vec<Value>) -> Result<Reply, DecodeError> {
        let mut stream = Stream::default();
        for event in events {
            stream.event(event, &mut vec![])?;
        }
        stream.finish()
    }

    #[test]
    fn a_signature_stays_with_its_part() {
        let call = json!({ "functionCall": { "name": "ls", "args": { "a": 1 } }, "thoughtSignature": "s" });
        let bare = json!({ "functionCall": { "name": "ls", "args": {} } });
        let reply = streamed(vec![event(json!([call, bare]), Some("STOP"))]).unwrap();
        let back = message(&Message::Assistant { dialect: Dialect::Gemini, content: reply.content.clone() });
        assert_eq!(back["parts"], json!([call, bare]));
        let ids: Vec<&str> = reply.calls().map(|call| call.id.as_str()).collect();
        assert_eq!((ids, &reply.stop), (vec!["call_0", "call_1"], &Stop::Calls));
    }

    #[test]
    fn no_call_of_an_answer_that_a_filter_ended_counts() {
        let call = || json!([{ "functionCall": { "name": "ls", "args": { "a": 1 } } }]);
        for reason in ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST", "IMAGE_SAFETY"] {
            for events in
                [vec![event(call(), Some(reason))], vec![event(call(), Some(reason)), event(json!([]), Some("STOP"))]]
            {
                let reply = streamed(events).unwrap();
                assert_eq!(reply.stop, Stop::Refusal, "{reason}");
                assert!(matches!(reply.calls().next().unwrap().arguments, Arguments::Broken { .. }), "{reason}");
            }
        }
    }

    #[test]
    fn why_it_refuses_is_told() {
        let refused = |event: Value| {
            let reply = streamed(vec![event]).unwrap();
            assert_eq!(reply.stop, Stop::Refusal);
            reply.text()
        };
        let blocked = json!({ "promptFeedback": { "blockReason": "OTHER", "blockReasonMessage": "try another" } });
        assert_eq!(refused(blocked), "(ended by its provider: the prompt is blocked, OTHER: try another)");
        let mut filtered = event(json!([{ "text": "so" }]), Some("SAFETY"));
        filtered["candidates"][0]["finishMessage"] = "it is unsafe".into();
        assert_eq!(refused(filtered), "so\n(ended by its provider: SAFETY: it is unsafe)");
    }

    #[test]
    fn text_behind_the_first_reason_is_kept() {
        let text = |words: &str, finish| event(json!([{ "text": words }]), finish);
        let reply = streamed(vec![text("a", Some("STOP")), text("b", None), text("c", Some("STOP"))]).unwrap();
        assert_eq!(reply.text(), "abc");
        assert_eq!(streamed(vec![text("a", None)]), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_call_in_pieces_is_put_together() {
        let piece = |call: Value, finish| event(json!([{ "functionCall": call }]), finish);
        let string = |path: &str, text: &str| json!({ "jsonPath": path, "stringValue": text });
        let events = |last: Option<Value>, finish| {
            let mut events = vec![
                piece(json!({ "name": "w", "willContinue": true }), None),
                piece(json!({ "partialArgs": [string("$.path", "a")], "willContinue": true }), None),
                piece(
                    json!({ "partialArgs": [string("$.path", "b"), string("$.l[0]", "y"), string("$.l[1].n", "x")], "willContinue": true }),
                    None,
                ),
            ];
            events.extend(last.map(|call| piece(call, None)));
            events.push(event(json!([]), finish));
            streamed(events).unwrap().calls().next().unwrap().arguments.clone()
        };
        let whole = json!({ "path": "ab", "l": ["y", { "n": "x" }] });
        for last in [Some(json!({})), None] {
            assert_eq!(events(last, Some("STOP")), Arguments::Object(whole.as_object().unwrap().clone()));
        }
        assert!(matches!(events(None, Some("MAX_TOKENS")), Arguments::Broken { .. }));
    }

    #[test]
    fn a_path_makes_no_more_than_it_has_steps() {
        let reply = |path: &str| {
            let piece = json!({ "jsonPath": path, "stringValue": "x" });
            let call = json!({ "functionCall": { "name": "w", "partialArgs": [piece] } });
            streamed(vec![event(json!([call]), Some("STOP"))])
        };
        let told = |path: &str| reply(path).expect_err("a broken answer").to_string();
        assert!(reply(&format!("${}", ".a".repeat(STEPS_MAX))).is_ok());
        let deep = "the answer is not understood: a path within arguments has more than 64 steps";
        for step in [".a", "[0]", "['a']"] {
            assert_eq!(told(&format!("${}", step.repeat(100_000))), deep, "{step}");
        }
        let gap = "the answer is not understood: item 1 of a list within arguments comes behind 0 items";
        assert_eq!(told(&format!("$.l{}", "[1]".repeat(STEPS_MAX - 1))), gap);
        assert!(told("$.l[4095]").contains("item 4095"));
    }

    #[test]
    fn counts_beyond_all_numbers_are_the_most_that_there_is() {
        let mut last = event(json!([{ "text": "a" }]), Some("STOP"));
        last["usageMetadata"] = json!({ "candidatesTokenCount": u64::MAX, "thoughtsTokenCount": 1 });
        assert_eq!(streamed(vec![last]).unwrap().usage.output, Some(u64::MAX));
    }
}
