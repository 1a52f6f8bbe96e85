//! What is asked of a provider in a program's name and was not asked by it: how many tokens a stream of chat took. It comes as
//! a chunk of its own without choices, which a program that did not ask for it does not look for: `chunk.choices[0]` ends it.
//! So its event is left out; every other byte is passed on as it came.
//!
//! Source: OpenAI, "Chat completions", `stream_options.include_usage`.

use serde_json::{Map, Value};
use swarm_protocol::chat::Dialect;

use crate::model::ANSWER_BYTES_MAX;
use crate::model::framing::{Framing, Lines};

/// Asks for the tokens of a stream, whatever its program says of it.
pub fn ask(dialect: Dialect, fields: &mut Map<String, Value>) {
    if dialect != Dialect::OpenaiChat || fields.get("stream") != Some(&Value::Bool(true)) {
        return;
    }
    let options = fields.entry("stream_options").or_insert(Value::Null);
    if options.is_null() {
        *options = Value::Object(Map::new());
    }
    if let Value::Object(options) = options {
        options.insert("include_usage".to_owned(), true.into());
    }
}

/// What of an answer goes on to its program.
#[derive(Debug)]
pub enum Unasked {
    /// All of it.
    Nothing,
    /// All but the chunk that nobody asked for.
    Usage(Events),
}

impl Unasked {
    /// For the answer to a request of these fields. `whole` is one that comes in one piece.
    pub fn of(dialect: Dialect, fields: &Map<String, Value>, whole: bool) -> Self {
        let asked = fields.get("stream_options").and_then(|options| options.get("include_usage"));
        match dialect {
            Dialect::OpenaiChat if !whole && asked != Some(&Value::Bool(true)) => Unasked::Usage(Events::default()),
            _ => Unasked::Nothing,
        }
    }

    /// What goes on now that these bytes came.
    pub fn without(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Unasked::Nothing => bytes.to_vec(),
            Unasked::Usage(events) => events.without(bytes),
        }
    }

    /// What goes on at the end: servers leave the last blank line out.
    pub fn rest(self) -> Vec<u8> {
        match self {
            Unasked::Nothing => Vec::new(),
            Unasked::Usage(events) => events.rest(),
        }
    }
}

/// A stream that is cut behind its events.
#[derive(Debug, Default)]
pub struct Events {
    /// The open event, as it came.
    open: Vec<u8>,
    /// Where its open line begins.
    line: usize,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The last event was not passed on.
    left_out: bool,
}

impl Events {
    fn without(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut given = Vec::new();
        for byte in bytes {
            let follows = std::mem::replace(&mut self.after_cr, *byte == b'\r') && *byte == b'\n';
            if follows && self.open.is_empty() {
                given.extend((!self.left_out).then_some(*byte));
                continue;
            }
            self.open.push(*byte);
            let blank = !follows && self.line + 1 == self.open.len();
            if matches!(byte, b'\n' | b'\r') {
                self.line = self.open.len();
            }
            // One that is too long to be looked at is not what is looked for.
            if self.line == self.open.len() && blank || self.open.len() > ANSWER_BYTES_MAX {
                self.left_out = is_usage_alone(&self.open);
                let event = std::mem::take(&mut self.open);
                self.line = 0;
                given.extend(if self.left_out { Vec::new() } else { event });
            }
        }
        given
    }

    fn rest(self) -> Vec<u8> {
        if is_usage_alone(&self.open) { Vec::new() } else { self.open }
    }
}

/// Whether an event is the chunk that only says what the answer took.
fn is_usage_alone(event: &[u8]) -> bool {
    let mut lines = Lines::new(Framing::Events);
    let mut found = lines.feed(event).unwrap_or_default();
    found.extend(lines.rest().ok().flatten());
    let [data] = &found[..] else { return false };
    let Ok(chunk) = serde_json::from_str::<Value>(data) else { return false };
    chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a program gets of these bytes, however they are cut.
    fn given(request: &Value, bytes: &str) -> String {
        let fields = request.as_object().expect("an object");
        let in_pieces = |length: usize| {
            let mut unasked = Unasked::of(Dialect::OpenaiChat, fields, false);
            let mut given: Vec<u8> = bytes.as_bytes().chunks(length).flat_map(|it| unasked.without(it)).collect();
            given.extend(unasked.rest());
            String::from_utf8(given).expect("text")
        };
        let whole = in_pieces(bytes.len());
        for length in 1..20 {
            assert_eq!(in_pieces(length), whole, "{length} bytes at once");
        }
        whole
    }

    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11}}";

    #[test]
    fn the_chunk_that_only_says_what_was_taken_goes_to_who_asked_for_it() {
        let stream = json!({ "stream": true });
        let asked = json!({ "stream": true, "stream_options": { "include_usage": true } });
        let not_asked = json!({ "stream": true, "stream_options": { "include_usage": false } });
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let (head, done) = (format!(": hi{end}data: {{\"choices\":[{{}}],\"usage\":null}}{end}"), "data: [DONE]");
            let all = format!("{head}{USAGE}{end}{done}{end}");
            let without = format!("{head}{done}{end}");
            assert_eq!(given(&asked, &all), all);
            assert_eq!(given(&stream, &all), without.as_str());
            assert_eq!(given(&not_asked, &all), without.as_str());
            assert_eq!(given(&stream, &format!("{head}{USAGE}")), head, "without its last line");
        }
    }

    #[test]
    fn every_other_byte_is_passed_on_as_it_came() {
        let stream = json!({ "stream": true });
        for bytes in [
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":11}}\n\ndata: [DONE]\n\n",
            "data: {\"error\":{}}\n\n\n\r\n\n: x\r\n\r\ndata: half",
            "{\"choices\":[],\"usage\":{}}",
        ] {
            assert_eq!(given(&stream, bytes), bytes);
        }
    }

    #[test]
    fn every_stream_of_chat_is_asked_what_it_takes() {
        let with = |mut fields: Value| {
            ask(Dialect::OpenaiChat, fields.as_object_mut().expect("an object"));
            fields
        };
        let asked = json!({ "stream": true, "stream_options": { "include_usage": true } });
        assert_eq!(with(json!({ "stream": true })), asked);
        assert_eq!(with(json!({ "stream": true, "stream_options": null })), asked);
        assert_eq!(with(json!({ "stream": true, "stream_options": { "include_usage": false } })), asked);
        assert_eq!(with(json!({ "stream": false })), json!({ "stream": false }));
    }
}
