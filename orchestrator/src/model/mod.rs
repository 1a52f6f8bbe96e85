//! The model broker's language room: one conversation in the words of [`swarm_protocol::chat`], spoken to providers in
//! their five wire formats. Pure: bytes in, values out; no network, no clock, no keys.
//!
//! A stream is fed in whatever slices the network gives ([`Decoder::feed`]) and is an answer only when its own end was
//! seen ([`Decoder::finish`]): a stream that was cut off is [`DecodeError::Truncated`], and nothing of it is executed.
//! Start reading at [`Decoder`].

/// Anthropic's Messages.
mod anthropic;
/// The one door from a run's workers to models.
pub mod broker;
/// What a run may spend.
pub mod budget;
/// OpenAI's Chat Completions and all that is compatible.
mod chat;
/// What is common to all answers while they arrive.
mod draft;
/// What a refused call means: wait, try again, or never.
pub mod failure;
/// Answers that are none.
mod foreign;
/// Streams cut into events: server-sent events, and JSON lines.
mod framing;
/// Google's `generateContent`.
mod gemini;
/// How many calls go to a provider at a time.
pub mod governor;
/// Which models do not answer.
pub mod health;
/// Ollama's own chat.
mod ollama;
/// OpenAI's Responses.
mod responses;
/// Times in the heads of answers.
mod times;

#[cfg(test)]
mod recordings;

use serde_json::Value;
use swarm_protocol::chat::{AssistantPart, Dialect, Message, ModelRequest, Reply, ToolCall, UserPart};

use crate::event::ModelWait;
use failure::Failure;
use framing::{Framing, Lines};

/// The most that an answer may hold once it is decoded, and the longest that comes in one piece, in bytes: three times the
/// 10 MB of arguments that the largest files need. The events that it comes in may be longer together: they are not kept.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// How much of an answer comes until it is weighed once more, in bytes.
const WEIGHED_EVERY_BYTES: usize = 1 << 20;

/// News of an answer while it arrives, for people who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text.
    Text(String),
    /// More thinking.
    Thinking(String),
    /// A call begins.
    Call {
        /// The tool's name.
        name: String,
    },
    /// The provider began anew: what was shown of this answer is void.
    Restarted,
    /// The model is asked later.
    Waits(ModelWait),
    /// What happened to the call, for people; without any key.
    Said(String),
    /// There was no answer; it is asked for again.
    Again {
        /// Why there was none, for people, without any key.
        why: String,
        /// How long until then.
        wait: std::time::Duration,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The stream ended before the answer did. Nothing of it may be executed; the whole turn may be asked again.
    #[error("the answer was cut off")]
    Truncated,
    /// The provider reports a failure inside of the answer.
    #[error("{0}")]
    Failed(Failure),
    /// What answers is no provider of this kind; for people.
    #[error("{0}")]
    Foreign(String),
    /// More than is ever read.
    #[error("the answer exceeds {max} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// Not what the provider's specification says.
    #[error("the answer is not understood: {0}")]
    Malformed(String),
}

/// Turns one streamed answer into a [`Reply`].
#[derive(Debug)]
pub struct Decoder {
    dialect: Dialect,
    lines: Lines,
    answer: Answer,
    /// Bytes that came since the answer was weighed.
    unweighed: usize,
    heard: HeardOf,
    /// Events that say something: not those that only keep a connection open.
    said: u64,
}

/// What was heard of an answer until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeardOf {
    /// No event.
    Nothing,
    /// Events, and none of this provider's.
    Others,
    /// At least one event of this provider's.
    Its,
}

#[derive(Debug)]
enum Answer {
    Anthropic(anthropic::Stream),
    Chat(chat::Stream),
    Responses(responses::Stream),
    Gemini(gemini::Stream),
    Ollama(ollama::Stream),
}

impl Decoder {
    /// For an answer in `dialect`, asked for as a stream.
    pub fn new(dialect: Dialect) -> Self {
        let (framing, answer) = match dialect {
            Dialect::Anthropic => (Framing::Events, Answer::Anthropic(anthropic::Stream::default())),
            Dialect::OpenaiChat => (Framing::Events, Answer::Chat(chat::Stream::default())),
            Dialect::OpenaiResponses => (Framing::Events, Answer::Responses(responses::Stream::default())),
            Dialect::Gemini => (Framing::Events, Answer::Gemini(gemini::Stream::default())),
            Dialect::Ollama => (Framing::JsonLines, Answer::Ollama(ollama::Stream::default())),
        };
        Decoder { dialect, lines: Lines::new(framing), answer, unweighed: 0, heard: HeardOf::Nothing, said: 0 }
    }

    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// All of [`DecodeError`] but `Truncated`; the stream is of no use afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Delta>, DecodeError> {
        let mut deltas = Vec::new();
        for event in self.lines.feed(bytes)? {
            self.event(&event, &mut deltas)?;
        }
        self.unweighed += bytes.len();
        if self.unweighed >= WEIGHED_EVERY_BYTES {
            self.unweighed = 0;
            self.weigh()?;
        }
        Ok(deltas)
    }

    /// How many events of the answer said something.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// The answer, at the end of the stream.
    ///
    /// # Errors
    /// All of [`DecodeError`].
    pub fn finish(mut self) -> Result<Reply, DecodeError> {
        if let Some(event) = self.lines.rest()? {
            self.event(&event, &mut Vec::new())?;
        }
        self.weigh()?;
        let reply = match self.answer {
            Answer::Anthropic(stream) => stream.finish(),
            Answer::Chat(stream) => stream.finish(),
            Answer::Responses(stream) => stream.finish(),
            Answer::Gemini(stream) => stream.finish(),
            Answer::Ollama(stream) => stream.finish(),
        };
        match (reply, self.heard, self.lines.is_none_of_its()) {
            (Err(DecodeError::Truncated), HeardOf::Nothing, Some(begins)) => {
                Err(DecodeError::Foreign(foreign::text(self.dialect, &begins)))
            }
            (Err(DecodeError::Truncated), HeardOf::Others, _) => {
                Err(DecodeError::Foreign(foreign::text(self.dialect, "events of another kind")))
            }
            (reply, _, _) => reply,
        }
    }

    /// An answer that is too large is not kept.
    fn weigh(&self) -> Result<(), DecodeError> {
        let weight = match &self.answer {
            Answer::Anthropic(stream) => stream.weight(),
            Answer::Chat(stream) => stream.weight(),
            Answer::Responses(stream) => stream.weight(),
            Answer::Gemini(stream) => stream.weight(),
            Answer::Ollama(stream) => stream.weight(),
        };
        if weight > ANSWER_BYTES_MAX {
            return Err(DecodeError::TooLarge { what: "MiB", max: ANSWER_BYTES_MAX >> 20 });
        }
        Ok(())
    }

    fn event(&mut self, data: &str, deltas: &mut Vec<Delta>) -> Result<(), DecodeError> {
        // OpenAI's last word; gateways append it to the streams of others, too.
        if data.trim() == "[DONE]" {
            match &mut self.answer {
                Answer::Anthropic(stream) => stream.done(),
                Answer::Chat(stream) => stream.done(),
                Answer::Responses(_) | Answer::Gemini(_) | Answer::Ollama(_) => {}
            }
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        self.said += u64::from(event["type"] != "ping");
        if self.heard != HeardOf::Its {
            if let Some(why) = foreign::of_another(self.dialect, &event) {
                return Err(DecodeError::Foreign(why));
            }
            self.heard = if foreign::fits(self.dialect, &event) { HeardOf::Its } else { HeardOf::Others };
        }
        match &mut self.answer {
            Answer::Anthropic(stream) => stream.event(event, deltas),
            Answer::Chat(stream) => stream.event(&event, deltas),
            Answer::Responses(stream) => stream.event(event, deltas),
            Answer::Gemini(stream) => stream.event(event, deltas),
            Answer::Ollama(stream) => stream.event(&event, deltas),
        }
    }
}

/// Reads an answer that came in one piece.
///
/// # Errors
/// All of [`DecodeError`].
pub fn decode_whole(dialect: Dialect, body: &[u8]) -> Result<Reply, DecodeError> {
    let body: Value = serde_json::from_slice(body).map_err(|error| match error.is_eof() {
        true => DecodeError::Truncated,
        false => DecodeError::Malformed(error.to_string()),
    })?;
    if let Some(why) = foreign::of_another(dialect, &body).or_else(|| foreign::of_nobody(dialect, &body)) {
        return Err(DecodeError::Foreign(why));
    }
    match dialect {
        Dialect::Anthropic => anthropic::whole(body),
        Dialect::OpenaiChat => chat::whole(&body),
        Dialect::OpenaiResponses => responses::whole(body),
        Dialect::Gemini => gemini::whole(body),
        Dialect::Ollama => ollama::whole(&body),
    }
}

/// The body of a request for a streamed answer. The same request gives the same bytes, and a conversation that grew gives
/// a body whose front is unchanged: that is what providers' caches look for.
pub fn encode(dialect: Dialect, request: &ModelRequest) -> Value {
    let messages = request.messages.iter().map(|message| draft::speakable(dialect, native(dialect, message))).collect();
    let request = ModelRequest { messages, ..request.clone() };
    match dialect {
        Dialect::Anthropic => anthropic::encode(&request),
        Dialect::OpenaiChat => chat::encode(&request),
        Dialect::OpenaiResponses => responses::encode(&request),
        Dialect::Gemini => gemini::encode(&request),
        Dialect::Ollama => ollama::encode(&request),
    }
}

/// A message as `dialect` may hear it: results before text, and of what another provider said only words and calls.
fn native(dialect: Dialect, message: &Message) -> Message {
    match message {
        Message::User { content } => {
            let mut content = content.clone();
            content.sort_by_key(|part| matches!(part, UserPart::Text { .. }));
            Message::User { content }
        }
        Message::Assistant { dialect: said_by, .. } if *said_by == dialect => message.clone(),
        Message::Assistant { content, .. } => {
            let words = content.iter().filter_map(|part| match part {
                AssistantPart::Text { text, .. } => Some(AssistantPart::Text { text: text.clone(), proof: None }),
                AssistantPart::Call(call) => Some(AssistantPart::Call(ToolCall { proof: None, ..call.clone() })),
                AssistantPart::Thinking { .. } | AssistantPart::Opaque { .. } => None,
            });
            Message::Assistant { dialect, content: words.collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use swarm_protocol::chat::Arguments;

    use super::*;

    const DIALECTS: [Dialect; 5] =
        [Dialect::Anthropic, Dialect::OpenaiChat, Dialect::OpenaiResponses, Dialect::Gemini, Dialect::Ollama];

    /// JSON made of the words that the decoders look for, in places where nobody expects them.
    fn hostile() -> impl Strategy<Value = Value> {
        const WORDS: &[&str] = &[
            "type",
            "index",
            "delta",
            "content_block",
            "message",
            "content",
            "choices",
            "tool_calls",
            "function",
            "id",
            "name",
            "arguments",
            "finish_reason",
            "usage",
            "error",
            "candidates",
            "parts",
            "functionCall",
            "partialArgs",
            "jsonPath",
            "stringValue",
            "willContinue",
            "thoughtSignature",
            "text",
            "item",
            "output_index",
            "response",
            "output",
            "message_start",
            "content_block_start",
            "content_block_delta",
            "input_json_delta",
            "partial_json",
            "tool_use",
            "message_delta",
            "message_stop",
            "response.output_item.done",
            "response.completed",
            "$.a[0].b",
            "$[4095][4095]",
            "function_call",
            "done",
            "finishReason",
            "STOP",
            "stop",
        ];
        let deep_path = format!("${}", ".a".repeat(1000));
        let words: Vec<String> = WORDS.iter().map(|word| (*word).to_owned()).chain([deep_path]).collect();
        let word = proptest::sample::select(words);
        let leaf = prop_oneof![
            word.clone().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (0u64..3).prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(6, 48, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((word.clone(), inner), 0..6)
                    .prop_map(|pairs| { Value::Object(pairs.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_answer_makes_a_decoder_panic(events in proptest::collection::vec(hostile(), 0..8)) {
            for dialect in DIALECTS {
                let mut decoder = Decoder::new(dialect);
                let fed = events.iter().all(|event| decoder.feed(format!("data: {event}\n\n").as_bytes()).is_ok());
                if fed && let Ok(reply) = decoder.finish() {
                    let message = Message::Assistant { dialect, content: reply.content };
                    let request = ModelRequest { model: String::new(), system: String::new(), messages: vec![message],
                        tools: vec![], output_tokens_max: 1, context_tokens: None };
                    encode(dialect, &request);
                }
                for event in &events {
                    let _ = decode_whole(dialect, event.to_string().as_bytes());
                }
            }
        }
    }

    /// An answer in one piece, with a call that is whole and that the provider says was stopped by its length, or was not.
    fn with_a_call(dialect: Dialect, is_stopped: bool) -> Value {
        let word = |stopped: &'static str, ended: &'static str| if is_stopped { stopped } else { ended };
        let function = json!({ "name": "ls", "arguments": "{}" });
        match dialect {
            Dialect::Anthropic => json!({ "type": "message", "stop_reason": word("max_tokens", "tool_use"),
                "content": [{ "type": "tool_use", "id": "i", "name": "ls", "input": {} }] }),
            Dialect::OpenaiChat => json!({ "choices": [{ "finish_reason": word("length", "tool_calls"),
                "message": { "tool_calls": [{ "id": "i", "function": function }] } }] }),
            Dialect::OpenaiResponses => {
                json!({ "status": word("incomplete", "completed"), "output": [{ "status": "completed",
                "type": "function_call", "call_id": "i", "name": "ls", "arguments": "{}" }] })
            }
            Dialect::Gemini => json!({ "candidates": [{ "finishReason": word("MAX_TOKENS", "STOP"),
                "content": { "parts": [{ "functionCall": { "name": "ls", "args": {} } }] } }] }),
            Dialect::Ollama => json!({ "done": true, "done_reason": word("length", "stop"),
                "message": { "tool_calls": [{ "function": { "name": "ls", "arguments": {} } }] } }),
        }
    }

    #[test]
    fn no_dialect_has_a_call_executed_of_an_answer_that_was_stopped_by_its_length() {
        for dialect in DIALECTS {
            for is_stopped in [true, false] {
                let body = with_a_call(dialect, is_stopped).to_string();
                let reply = decode_whole(dialect, body.as_bytes()).expect("an answer");
                let calls: Vec<&ToolCall> = reply.calls().collect();
                let whole = matches!(calls[..], [ToolCall { arguments: Arguments::Object(_), .. }]);
                assert!(calls.len() == 1 && whole != is_stopped, "{dialect:?} {is_stopped}: {reply:?}");
            }
        }
    }

    #[test]
    fn what_another_provider_said_loses_its_proofs() {
        let call = ToolCall {
            id: "c".to_owned(),
            name: "ls".to_owned(),
            proof: Some("s".into()),
            arguments: Arguments::Object(Default::default()),
        };
        let content = vec![
            AssistantPart::Thinking { text: "t".to_owned(), proof: Some("s".into()) },
            AssistantPart::Opaque { dialect: Dialect::Anthropic, item: Value::Null },
            AssistantPart::Call(call),
        ];
        let said = Message::Assistant { dialect: Dialect::Anthropic, content };
        assert_eq!(native(Dialect::Anthropic, &said), said);
        let Message::Assistant { content, .. } = native(Dialect::Gemini, &said) else { panic!("still said") };
        assert!(matches!(&content[..], [AssistantPart::Call(ToolCall { proof: None, .. })]));
    }
}
