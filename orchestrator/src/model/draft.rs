//! What is common to all answers while they arrive: parts in order, calls whose arguments come in fragments, and the one
//! place that decides whether arguments are whole.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use swarm_protocol::chat::{Arguments, AssistantPart, Dialect, Message, Reply, Stop, ToolCall, Usage, UserPart};

use super::DecodeError;

/// Parts of one answer; more is no answer.
pub const PARTS_MAX: usize = 4096;

/// The longest name of a tool that every provider takes, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// What stands for a name that says nothing.
const NAMELESS: &str = "unnamed";
/// Why no call counts of an answer that was stopped by its length, for the model.
const TOO_LONG: &str =
    "the answer was stopped at the greatest length it may have, so none of its calls counts; take smaller steps";

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

/// A message as a provider takes it back: it looks at the names of tools and refuses, with the whole conversation and for
/// ever, a name that its own model made up. What was called stays as it was wherever people read it.
pub fn speakable(dialect: Dialect, mut message: Message) -> Message {
    match &mut message {
        Message::Assistant { content, .. } => content.iter_mut().for_each(|part| {
            if let AssistantPart::Call(call) = part {
                speak(dialect, &mut call.id, &mut call.name);
            }
        }),
        Message::User { content } => content.iter_mut().for_each(|part| {
            if let UserPart::ToolResult { call, name, .. } = part {
                speak(dialect, call, name);
            }
        }),
    }
    message
}

fn speak(dialect: Dialect, id: &mut String, name: &mut String) {
    if !is_name(name) {
        *name = as_name(name);
    }
    // Source: Anthropic, Messages, `tool_use.id`: `^[a-zA-Z0-9_-]+$`. Servers that resemble OpenAI make ids such as
    // `functions.ls:0`, and want them back.
    if dialect == Dialect::Anthropic && (id.is_empty() || !id.bytes().all(is_plain)) {
        *id = id.bytes().fold("id".to_owned(), |mut id, byte| {
            let _ = match is_plain(byte) && byte != b'_' {
                true => write!(id, "{}", char::from(byte)),
                false => write!(id, "_{byte:02x}"),
            };
            id
        });
    }
}

/// Whether all providers take this as the name of a tool: what OpenAI and Anthropic want, and begun as Gemini wants it.
///
/// Source: OpenAI, `function.name`: `^[a-zA-Z0-9_-]{1,64}$`; Anthropic, `tool_use.name`: `^[a-zA-Z0-9_-]{1,128}$`; Gemini,
/// `FunctionDeclaration.name`: begins with a letter or an underscore, at most 64.
fn is_name(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn as_name(name: &str) -> String {
    let plain = |c: char| if u8::try_from(c).is_ok_and(is_plain) { c } else { '_' };
    let mut kept: String = name.chars().map(plain).take(NAME_BYTES_MAX).collect();
    if kept.bytes().all(|byte| byte == b'_') {
        return NAMELESS.to_owned();
    }
    if !is_name(&kept) {
        kept.insert(0, '_');
        kept.truncate(NAME_BYTES_MAX);
    }
    kept
}

/// Whether a word for why an answer ended means a filter of its provider, or of a gateway before it. No list is whole: each has
/// its own.
pub fn is_filter(word: &str) -> bool {
    const PARTS: [&str; 9] =
        ["filter", "safety", "guardrail", "sensitive", "moderation", "prohibited", "blocked", "recitation", "spii"];
    let word = word.to_ascii_lowercase();
    PARTS.iter().any(|part| word.contains(part)) || word == "blocklist"
}

/// Why no call of an answer counts, by how it ended, for the model; `None` where they count. Of what a filter ended nobody knows what
/// would have come, or what was taken away before it. Of what was too long, the last call may look whole and not be what was meant,
/// and those before it were written with one behind them that never came.
fn uncounted(stop: &Stop) -> Option<&'static str> {
    match stop {
        Stop::Refusal => Some("the provider's filter ended the answer, so none of its calls counts"),
        Stop::OutputMax | Stop::ContextFull => Some(TOO_LONG),
        Stop::Other(word) if is_failure(word) => Some("the answer was broken off, so none of its calls counts"),
        Stop::End | Stop::Calls | Stop::Sequence | Stop::Pause | Stop::Other(_) => None,
    }
}

/// What a word for why an answer ended means, of whichever dialect: gateways pass on those of others, and servers have their own.
pub fn stop_of(word: &str) -> Stop {
    let plain = word.to_ascii_lowercase().replace(['-', ' '], "_");
    let has = |part: &str| plain.contains(part);
    match plain.as_str() {
        "stop" | "end" | "end_turn" | "eos" | "eos_token" | "complete" | "completed" | "done" => Stop::End,
        "tool_calls" | "tool_call" | "tool_use" | "function_call" => Stop::Calls,
        "stop_sequence" => Stop::Sequence,
        "pause_turn" => Stop::Pause,
        "refusal" => Stop::Refusal,
        _ if is_filter(word) => Stop::Refusal,
        _ if has("context") && (has("window") || has("full") || has("exceed")) => Stop::ContextFull,
        _ if has("length") || has("limit") || has("truncat") || has("max_") => Stop::OutputMax,
        _ => Stop::Other(word.to_owned()),
    }
}

/// Whether a word for why an answer ended, of no list that is known here, says that something went wrong.
fn is_failure(word: &str) -> bool {
    const PARTS: [&str; 6] = ["error", "abort", "cancel", "fail", "malformed", "too_many"];
    let word = word.to_ascii_lowercase();
    PARTS.iter().any(|part| word.contains(part))
}

/// The finished answer: ids made unique, `End` and `Calls` told apart by whether there are calls, and calls that do not count
/// broken.
pub fn reply(mut content: Vec<AssistantPart>, stop: Stop, usage: Usage) -> Result<Reply, DecodeError> {
    if content.len() > PARTS_MAX {
        return Err(DecodeError::TooLarge { what: "parts", max: PARTS_MAX });
    }
    let mut seen = std::collections::HashSet::new();
    let mut calls = 0;
    for part in &mut content {
        if let AssistantPart::Call(call) = part {
            calls += 1;
            if let Some(reason) = uncounted(&stop) {
                discount(call, reason);
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

fn discount(call: &mut ToolCall, reason: &str) {
    let text = match &call.arguments {
        Arguments::Object(object) => Value::Object(object.clone()).to_string(),
        Arguments::Broken { text, .. } => text.clone(),
    };
    call.arguments = broken(text, reason.to_owned());
}

/// Joins text onto the last part of its kind.
pub fn push_text(content: &mut Vec<AssistantPart>, more: &str) {
    match content.last_mut() {
        Some(AssistantPart::Text { text, proof: None }) => text.push_str(more),
        _ => content.push(AssistantPart::Text { text: more.to_owned(), proof: None }),
    }
}

/// Says why a provider refused, or ended an answer that it will not let pass: its word for it, and its sentence where it has one.
pub fn push_refusal(content: &mut Vec<AssistantPart>, word: &str, sentence: &str) {
    let words: Vec<&str> = [word, sentence].into_iter().filter(|words| !words.is_empty()).collect();
    let before = content.iter().any(|part| matches!(part, AssistantPart::Text { text, .. } if !text.is_empty()));
    let line = if before { "\n" } else { "" };
    push_text(content, &format!("{line}(ended by its provider: {})", words.join(": ")));
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
    fn odd_names_of_tools_become_names_that_every_provider_takes() {
        for (called, sent) in [
            ("read", "read"),
            ("mcp__git-hub__x", "mcp__git-hub__x"),
            ("read file", "read_file"),
            ("functions.read", "functions_read"),
            ("lire_été", "lire__t_"),
            ("7z", "_7z"),
            ("", NAMELESS),
            ("日本", NAMELESS),
            ("<|x|>", "__x__"),
        ] {
            assert_eq!((as_name(called).as_str(), is_name(called)), (sent, called == sent), "{called}");
        }
        for long in ["x".repeat(65), "é".repeat(65), "1".repeat(64), format!("a{}", ".".repeat(90))] {
            assert!(is_name(&as_name(&long)), "{long}");
        }
    }

    #[test]
    fn a_call_and_its_result_go_back_under_one_name_and_id() {
        let call = OpenCall { id: "functions.ls:0".to_owned(), name: "l s".to_owned(), ..OpenCall::default() };
        let call = call.close(0, &Stop::Calls);
        let result = UserPart::ToolResult {
            call: call.id.clone(),
            name: call.name.clone(),
            content: "x".to_owned(),
            status: swarm_protocol::chat::ToolStatus::Ok,
        };
        for (dialect, id) in [(Dialect::Anthropic, "idfunctions_2els_3a0"), (Dialect::OpenaiChat, "functions.ls:0")] {
            let said = Message::Assistant { dialect, content: vec![AssistantPart::Call(call.clone())] };
            let Message::Assistant { content, .. } = speakable(dialect, said) else { panic!("still said") };
            let told = speakable(dialect, Message::User { content: vec![result.clone()] });
            let Message::User { content: told } = told else { panic!("still told") };
            assert!(matches!(&content[0], AssistantPart::Call(sent) if sent.name == "l_s" && sent.id == id));
            assert!(
                matches!(&told[0], UserPart::ToolResult { call, name, .. } if name == "l_s" && call == id),
                "{dialect:?}"
            );
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
    fn no_call_counts_of_an_answer_that_was_stopped_by_its_length() {
        let call = |id: &str| OpenCall { id: id.to_owned(), arguments: "{}".to_owned(), ..OpenCall::default() };
        let other = |word: &str| Stop::Other(word.to_owned());
        for (stop, counts) in [
            (Stop::OutputMax, false),
            (Stop::ContextFull, false),
            (stop_of("model_length"), false),
            (stop_of("MAX_NEW_TOKENS"), false),
            (stop_of("model_context_window_exceeded"), false),
            (stop_of("token_limit"), false),
            (stop_of("max_output_reached"), false),
            (stop_of("truncated"), false),
            (other("MALFORMED_FUNCTION_CALL"), false),
            (other("abort"), false),
            (other("interrupt"), true),
            (stop_of("tool_use"), true),
            (stop_of("STOP"), true),
            (Stop::Calls, true),
        ] {
            let calls = ["a", "b"].map(|id| AssistantPart::Call(call(id).close(0, &stop)));
            let reply = reply(calls.into(), stop.clone(), Usage::default()).unwrap();
            assert!(reply.calls().all(|call| matches!(call.arguments, Arguments::Object(_)) == counts), "{stop:?}");
        }
    }

    #[test]
    fn ids_are_made_unique_and_calls_decide_why_it_stopped() {
        let call = || AssistantPart::Call(OpenCall { id: "a".to_owned(), ..OpenCall::default() }.close(0, &Stop::End));
        let reply = reply(vec![call(), call(), call()], Stop::End, Usage::default()).unwrap();
        let ids: std::collections::HashSet<&str> = reply.calls().map(|call| call.id.as_str()).collect();
        assert_eq!((ids.len(), reply.stop), (3, Stop::Calls));
    }
}
