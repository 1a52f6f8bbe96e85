//! What a refused call means: when to try again, or that trying again is of no use. Pure; the caller has the clock.
//!
//! Waiting times are read from refusals only: providers send `retry-after` with answers of status 200, too.

use std::time::Duration;

use serde_json::Value;

use super::times::http_date_ms;
use crate::event::WaitReason;

/// Text of a provider that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 2000;

/// The longest name of a request that is told, in bytes.
const REQUEST_NAME_BYTES_MAX: usize = 128;

/// The longest wait that a provider may ask for.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// What providers say where a conversation is longer than their model takes, in lower case. OpenAI, vLLM, OpenRouter and
/// DeepSeek; OpenAI's Responses; Anthropic; Gemini; Ollama; llama.cpp; xAI; Bedrock; Moonshot; MiniMax; OpenAI's 429 for one
/// request that is larger than what a minute allows; vLLM of a prompt alone; DashScope; Text Generation Inference.
const TOO_LONG: [&str; 22] = [
    "context_length",
    "context length",
    "context window",
    "string_above_max_length",
    "prompt is too long",
    "exceed context limit",
    "request_too_large",
    "input token count",
    "prompt too long",
    "exceed_context_size",
    "context size",
    "maximum prompt length",
    "input is too long",
    "exceeded model token limit",
    "context_window_exceeded",
    "prompt token count",
    "maximum context",
    "tokens must be reduced",
    "longer than the maximum model length",
    "range of input length should be",
    "`max_new_tokens` must be <=",
    "input tokens exceed",
];

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// The provider's own words, bounded, without any key; with its name of the request, for its support.
    pub message: String,
}

/// What to do about a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Too many calls: all callers slow down, then try again.
    RateLimited {
        /// How long the provider asks to wait.
        wait: Option<Duration>,
    },
    /// The provider has too much to do: try again later.
    Overloaded {
        /// How long the provider asks to wait.
        wait: Option<Duration>,
    },
    /// A failure that may be gone the next time.
    Transient {
        /// How long the provider asks to wait.
        wait: Option<Duration>,
    },
    /// Its host has no address here: a few more times, a network may only just come up.
    Nameless,
    /// The account's money or quota is spent: never again.
    Spent,
    /// The key is missing, wrong or not allowed to do this: never again.
    Key,
    /// The model is not known there: never again.
    UnknownModel,
    /// The conversation is too long for the model.
    TooLong,
    /// This model has no answer to it, whatever the reason: never again there; another may have one.
    NotHere,
    /// What answers there is no provider of this kind: never again.
    Foreign,
    /// The request is wrong: never again.
    Invalid,
}

impl Class {
    /// Whether the same call may be tried again, and after which wait when the provider names one.
    pub fn retry(self) -> Option<Option<Duration>> {
        match self {
            Class::RateLimited { wait } | Class::Overloaded { wait } | Class::Transient { wait } => Some(wait),
            Class::Nameless => Some(None),
            Class::Spent
            | Class::Key
            | Class::UnknownModel
            | Class::TooLong
            | Class::NotHere
            | Class::Foreign
            | Class::Invalid => None,
        }
    }
}

impl Class {
    /// What whoever tries again waits for until then.
    pub fn waits_for(self) -> WaitReason {
        match self {
            Class::RateLimited { .. } => WaitReason::RateLimit,
            Class::Overloaded { .. } => WaitReason::Overloaded,
            _ => WaitReason::NoAnswer,
        }
    }
}

/// Reads a refusal: its status, its headers by lower-case name, its body; `now_ms` is in milliseconds since the Unix epoch.
pub fn refused(status: u16, header: &dyn Fn(&str) -> Option<String>, body: &[u8], now_ms: u64) -> Failure {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    // Google wraps streamed errors in a list.
    let json = match json {
        Value::Array(mut items) if !items.is_empty() => items.swap_remove(0),
        other => other,
    };
    let wait = wait(header, &json, now_ms);
    let words = match &json {
        Value::Null => String::from_utf8_lossy(&body[..body.len().min(MESSAGE_BYTES_MAX)]).to_lowercase(),
        json => words_of(json),
    };
    let class = classify(status, &words, wait);
    let class = match (header("x-should-retry").as_deref(), class.retry()) {
        (Some("false"), Some(_)) => Class::NotHere,
        (Some("true"), None) => Class::Transient { wait },
        _ => class,
    };
    let words = message(&json).unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let named = header("request-id").or_else(|| header("x-request-id")).filter(|name| is_request_name(name));
    let request = named.map(|name| format!(", request {name}")).unwrap_or_default();
    let message = match words.as_str() {
        "" => format!("HTTP status {status}{request}"),
        words => format!("{} (HTTP status {status}{request})", bounded(words)),
    };
    Failure { class, message }
}

/// Whether that names a request: what a person can copy.
fn is_request_name(text: &str) -> bool {
    (1..=REQUEST_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads an error that came inside of an answer whose status was 200.
pub fn in_stream(event: &Value) -> Failure {
    let status = event.pointer("/error/code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let class = classify(status.unwrap_or(0), &words_of(event), wait(&|_| None, event, 0));
    let message = message(event).unwrap_or_else(|| event.to_string());
    Failure { class, message: bounded(&message) }
}

/// `words` are the provider's, in lower case.
fn classify(status: u16, words: &str, wait: Option<Duration>) -> Class {
    let says = |needle: &str| words.contains(needle);
    // Anthropic names a limit of spending by `details.error_code`; a gateway in front of it may just not say when to come back.
    if ["insufficient_quota", "credit_balance", "spend_limit", "billing_hard_limit", "credit balance is too low"]
        .into_iter()
        .any(says)
    {
        return Class::Spent;
    }
    let is_too_long = TOO_LONG.into_iter().any(says);
    match status {
        // Whatever its status: servers say it with 400, 413, 422, 429 and 500, and in the midst of an answer.
        0 | 400 | 413 | 422 | 429 | 500 if is_too_long => Class::TooLong,
        429 => Class::RateLimited { wait },
        529 => Class::Overloaded { wait },
        503 => Class::Overloaded { wait },
        408 | 409 | 425 => Class::Transient { wait },
        401 | 403 => Class::Key,
        402 => Class::Spent,
        404 => Class::UnknownModel,
        413 => Class::TooLong,
        500..=599 => Class::Transient { wait },
        _ if says("rate_limit") || says("resource_exhausted") => Class::RateLimited { wait },
        _ if says("overloaded") => Class::Overloaded { wait },
        _ if says("api_key_invalid") || says("api key not valid") || says("authentication") => Class::Key,
        _ if says("model_not_found") || says("not_found_error") => Class::UnknownModel,
        // An error without a status came in mid-stream: the server broke off.
        0 if says("invalid_request") => Class::Invalid,
        0 => Class::Transient { wait },
        _ => Class::Invalid,
    }
}

/// All words that a provider might put an error's kind into, in lower case.
fn words_of(body: &Value) -> String {
    let places =
        ["/error/type", "/error/code", "/error/status", "/error/message", "/error/details/error_code", "/error"];
    let mut words = String::new();
    for place in places
        .into_iter()
        .chain(["/message", "/code", "/type", "/response/error/code", "/response/error/message"])
        .chain([
            // A gateway's word for what the server behind it said, and FastAPI's place for any of its own.
            "/error/metadata/raw",
            "/detail",
        ])
    {
        if let Some(text) = body.pointer(place).and_then(Value::as_str) {
            words.push_str(&text.to_lowercase());
            words.push('\n');
        }
    }
    for detail in body.pointer("/error/details").and_then(Value::as_array).into_iter().flatten() {
        words.push_str(&detail.get("reason").and_then(Value::as_str).unwrap_or_default().to_lowercase());
        words.push('\n');
    }
    words
}

fn message(body: &Value) -> Option<String> {
    let places = ["/error/message", "/response/error/message", "/error", "/message", "/detail"];
    places.into_iter().find_map(|place| body.pointer(place).and_then(Value::as_str)).map(str::to_owned)
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// How long a provider asks to wait; never longer than [`WAIT_MAX`].
fn wait(header: &dyn Fn(&str) -> Option<String>, body: &Value, now_ms: u64) -> Option<Duration> {
    let seconds = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let ms = header("retry-after-ms").and_then(|text| seconds(&text)).map(|ms| ms / 1000.0);
    // A moment is one of the server's clock, which its answer says, too.
    let until = |text: &str| {
        let now_ms = header("date").and_then(|date| http_date_ms(&date)).unwrap_or(now_ms);
        Some(http_date_ms(text)?.saturating_sub(now_ms) as f64 / 1000.0)
    };
    let after = |text: String| seconds(&text).or_else(|| until(&text));
    let asked = ms.or_else(|| header("retry-after").and_then(after)).or_else(|| {
        let details = body.pointer("/error/details").and_then(Value::as_array)?;
        let delay = details.iter().find_map(|detail| detail.get("retryDelay").and_then(Value::as_str))?;
        seconds(delay.strip_suffix('s')?)
    });
    asked.map(|seconds| Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_protocol::chat::Dialect;

    /// Thu, 29 Feb 2024 12:00:00 GMT.
    const NOW_MS: u64 = 1_709_208_000_000;

    fn class(status: u16, headers: &[(&str, &str)], body: &str) -> Class {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        refused(status, &header, body.as_bytes(), NOW_MS).class
    }

    #[test]
    fn refusals_and_what_they_mean() {
        use Dialect::{Anthropic, Gemini, Ollama, OpenaiChat};
        let secs = |n| Some(Duration::from_secs(n));
        let rows = [
            (Anthropic, 429, vec![("retry-after", "7")], "", Class::RateLimited { wait: secs(7) }),
            (Anthropic, 429, vec![], r#"{"error":{"type":"rate_limit_error"}}"#, Class::RateLimited { wait: None }),
            (
                Anthropic,
                429,
                vec![],
                r#"{"error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                Class::Spent,
            ),
            (Anthropic, 529, vec![], r#"{"error":{"type":"overloaded_error"}}"#, Class::Overloaded { wait: None }),
            (Anthropic, 400, vec![], r#"{"error":{"message":"prompt is too long: 9 > 8"}}"#, Class::TooLong),
            (Anthropic, 401, vec![], "", Class::Key),
            (OpenaiChat, 429, vec![("retry-after", "1")], r#"{"error":{"code":"insufficient_quota"}}"#, Class::Spent),
            (
                OpenaiChat,
                429,
                vec![("retry-after-ms", "1500")],
                "",
                Class::RateLimited { wait: Some(Duration::from_millis(1500)) },
            ),
            (OpenaiChat, 429, vec![], "", Class::RateLimited { wait: None }),
            // A moment instead of a time to wait: after this machine's clock, or the server's where that says what it shows.
            (
                OpenaiChat,
                429,
                vec![("retry-after", "Thu, 29 Feb 2024 12:01:15 GMT")],
                "",
                Class::RateLimited { wait: secs(75) },
            ),
            (
                Anthropic,
                429,
                vec![("retry-after", "Thu, 29 Feb 2024 12:01:15 GMT"), ("date", "Thu, 29 Feb 2024 12:01:10 GMT")],
                "",
                Class::RateLimited { wait: secs(5) },
            ),
            (
                Gemini,
                503,
                vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")],
                "",
                Class::Overloaded { wait: secs(0) },
            ),
            (
                Gemini,
                503,
                vec![("retry-after", "Sat, 29 Feb 2025 12:00:00 GMT")],
                "",
                Class::Overloaded { wait: Some(WAIT_MAX) },
            ),
            (OpenaiChat, 500, vec![("x-should-retry", "false")], "", Class::NotHere),
            (OpenaiChat, 404, vec![], r#"{"error":{"code":"model_not_found"}}"#, Class::UnknownModel),
            (OpenaiChat, 400, vec![], r#"{"error":{"code":"context_length_exceeded"}}"#, Class::TooLong),
            (
                Gemini,
                429,
                vec![],
                r#"[{"error":{"details":[{"retryDelay":"19s"}]}}]"#,
                Class::RateLimited { wait: secs(19) },
            ),
            (Gemini, 400, vec![], r#"{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}"#, Class::Key),
            (Ollama, 404, vec![], r#"{"error":"model 'x' not found"}"#, Class::UnknownModel),
            (Ollama, 502, vec![("retry-after", "999999")], "<html>", Class::Transient { wait: Some(WAIT_MAX) }),
            (OpenaiChat, 418, vec![], "", Class::Invalid),
        ];
        for (dialect, status, headers, body, expected) in rows {
            assert_eq!(class(status, &headers, body), expected, "{dialect:?} {status} {body}");
        }
    }

    #[test]
    fn the_providers_name_of_the_request_is_told() {
        let told = |name: &str, id: &str, body: &str| {
            let header = |asked: &str| (asked == name).then(|| id.to_owned());
            refused(500, &header, body.as_bytes(), NOW_MS).message
        };
        assert_eq!(told("request-id", "req_1", ""), "HTTP status 500, request req_1");
        let body = r#"{"error":{"message":"broke"}}"#;
        assert_eq!(told("x-request-id", "req_1", body), "broke (HTTP status 500, request req_1)");
        for odd in ["", "a b", "\u{1b}[31m", &"x".repeat(REQUEST_NAME_BYTES_MAX + 1)] {
            assert_eq!(told("request-id", odd, body), "broke (HTTP status 500)", "{odd:?}");
        }
    }

    #[test]
    fn a_conversation_that_is_too_long_is_called_so_by_every_provider() {
        let check = |status, message: &str, expected| {
            let body = serde_json::json!({ "error": { "message": message } }).to_string();
            assert_eq!(class(status, &[("retry-after", "1")], &body), expected, "{message}");
        };
        for (status, message) in [
            (400, "prompt is too long: 210000 tokens > 200000 maximum"),
            (400, "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000"),
            (400, "This model's maximum context length is 8192 tokens. However, you requested 9000"),
            (400, "Your input exceeds the context window of this model. Please adjust your input"),
            (429, "Request too large for gpt-4o. The input or output tokens must be reduced in order to run"),
            (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
            (400, "the input length exceeds the context length"),
            (500, "prompt too long; exceeded max context length by 12 tokens"),
            (500, "the request exceeds the available context size, try increasing it"),
            (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
            (400, "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that"),
            (400, "Range of input length should be [1, 30720]"),
            (400, "input tokens exceed the configured limit of 8192 tokens"),
            (
                422,
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000 `inputs` tokens",
            ),
        ] {
            check(status, message, Class::TooLong);
        }
        check(400, "Unsupported parameter: 'max_tokens'", Class::Invalid);
        check(404, "no model with that context window", Class::UnknownModel);
        let raw = r#"{"error":{"message":"Provider returned error","metadata":{"raw":"maximum context length is 9"}}}"#;
        assert_eq!(class(400, &[], raw), Class::TooLong);
        assert_eq!(class(422, &[], r#"{"detail":"context length exceeded"}"#), Class::TooLong);
        assert_eq!(class(400, &[], "maximum context length is 9"), Class::TooLong);
        let failed = serde_json::json!({ "type": "response.failed",
            "response": { "error": { "code": "context_length_exceeded", "message": "too much" } } });
        assert_eq!(in_stream(&failed).class, Class::TooLong);
    }

    #[test]
    fn errors_inside_of_an_answer() {
        let event = |text: &str| in_stream(&serde_json::from_str(text).unwrap());
        let overloaded = event(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
        assert_eq!((overloaded.class, overloaded.message.as_str()), (Class::Overloaded { wait: None }, "Overloaded"));
        assert_eq!(event(r#"{"error":{"code":429,"message":"slow"}}"#).class, Class::RateLimited { wait: None });
        assert_eq!(event(r#"{"error":"oops"}"#).class, Class::Transient { wait: None });
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "ü".repeat(MESSAGE_BYTES_MAX));
        assert!(refused(500, &|_| None, body.as_bytes(), 0).message.len() < MESSAGE_BYTES_MAX + 40);
    }
}
