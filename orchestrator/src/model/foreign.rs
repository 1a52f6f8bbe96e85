//! Answers that are none: a page of a web server, or what another provider would say. Asking again is of no use then, and
//! "cut off" would be the wrong word. Pure.

use serde_json::Value;
use swarm_plans::hosts_alone;
use swarm_protocol::chat::Dialect;

/// Characters of an answer that a message quotes.
const QUOTED_MAX: usize = 60;

const DIALECTS: [Dialect; 5] =
    [Dialect::Anthropic, Dialect::OpenaiChat, Dialect::OpenaiResponses, Dialect::Gemini, Dialect::Ollama];

/// A wire format, for people.
pub fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "Anthropic's Messages",
        Dialect::OpenaiChat => "OpenAI's Chat Completions",
        Dialect::OpenaiResponses => "OpenAI's Responses",
        Dialect::Gemini => "Gemini's generateContent",
        Dialect::Ollama => "Ollama's chat",
    }
}

/// Whether a server says that its answer is a page.
pub fn is_page(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    ["text/html", "application/xhtml+xml"].iter().any(|page| kind.eq_ignore_ascii_case(page))
}

/// A page instead of an answer, for people.
pub fn page(dialect: Dialect, base_url: &str) -> String {
    let advice = if base_url.ends_with("/v1") { "?" } else { of_the_end(dialect) };
    format!("{} answers HTML, not {}: is `base-url` right{advice}", hosts_alone(base_url), name(dialect))
}

/// What may be wrong with the end of a `base-url`: to those of OpenAI's kind alone it belongs where the version stands.
fn of_the_end(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenaiChat | Dialect::OpenaiResponses => "; is `/v1` missing at its end?",
        Dialect::Anthropic | Dialect::Gemini | Dialect::Ollama => "?",
    }
}

/// Whether an event or a whole answer is one of these.
pub fn fits(dialect: Dialect, value: &Value) -> bool {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    let object = value.get("object").and_then(Value::as_str).unwrap_or_default();
    let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
    match dialect {
        Dialect::Anthropic => {
            kind.starts_with("message") || kind.starts_with("content_block") || kind == "ping" || has("stop_reason")
        }
        Dialect::OpenaiChat => has("choices") || object.starts_with("chat.completion"),
        Dialect::OpenaiResponses => kind.starts_with("response.") || object == "response" || has("output"),
        Dialect::Gemini => ["candidates", "usageMetadata", "promptFeedback"].into_iter().any(has),
        Dialect::Ollama => has("done") && (has("message") || has("response")),
    }
}

/// Why an event or a whole answer is another provider's, for people; `None` where it is not plainly so.
pub fn of_another(dialect: Dialect, value: &Value) -> Option<String> {
    let is_error = value.get("error").is_some_and(|error| !error.is_null());
    if is_error || fits(dialect, value) {
        return None;
    }
    let other = DIALECTS.into_iter().find(|other| fits(*other, value))?;
    Some(format!("it answers as {} do, not {}: are `provider` and `base-url` right?", name(other), name(dialect)))
}

/// Why JSON that answers nothing is no answer, for people.
pub fn of_nobody(dialect: Dialect, value: &Value) -> Option<String> {
    let is_known = fits(dialect, value) || value.get("error").is_some() || value.get(0).is_some();
    (!is_known).then(|| text(dialect, &value.to_string()))
}

/// Why a text is no answer, for people; it begins like this.
pub fn text(dialect: Dialect, begins: &str) -> String {
    let begins = begins.trim();
    if begins.starts_with('<') {
        return format!("it answers HTML, not {}: is `base-url` right{}", name(dialect), of_the_end(dialect));
    }
    let quoted: String = begins.chars().take(QUOTED_MAX).collect();
    format!("it answers {quoted:?}, not {}: is `base-url` right?", name(dialect))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_provider_is_known_by_what_it_says() {
        let rows = [
            (Dialect::Anthropic, json!({"type": "message_start", "message": {}})),
            (Dialect::Anthropic, json!({"type": "message", "content": [], "stop_reason": "end_turn"})),
            (Dialect::OpenaiChat, json!({"object": "chat.completion.chunk", "choices": []})),
            (Dialect::OpenaiResponses, json!({"type": "response.created", "response": {}})),
            (Dialect::OpenaiResponses, json!({"object": "response", "output": []})),
            (Dialect::Gemini, json!({"candidates": [{}]})),
            (Dialect::Ollama, json!({"model": "m", "message": {"content": "x"}, "done": false})),
        ];
        for (dialect, value) in &rows {
            for asked in DIALECTS {
                assert_eq!(of_another(asked, value).is_some(), asked != *dialect, "{asked:?} {value}");
            }
        }
        for error in [json!({"type": "error", "error": {"message": "x"}}), json!({"error": "x"})] {
            assert_eq!(DIALECTS.map(|asked| of_another(asked, &error)), [None, None, None, None, None]);
        }
        assert!(of_nobody(Dialect::Gemini, &json!({"status": "ok"})).is_some());
        assert_eq!(of_nobody(Dialect::Gemini, &json!([{"error": {}}])), None);
    }

    #[test]
    fn a_page_says_what_may_be_missing() {
        assert!(is_page("text/html; charset=utf-8") && is_page("TEXT/HTML") && !is_page("text/event-stream"));
        let chat = Dialect::OpenaiChat;
        let wanted =
            "http://x answers HTML, not OpenAI's Chat Completions: is `base-url` right; is `/v1` missing at its end?";
        assert_eq!(page(chat, "http://x"), wanted);
        assert_eq!(text(Dialect::Ollama, "<html>"), "it answers HTML, not Ollama's chat: is `base-url` right?");
        let mended = page(chat, "http://x/SECRET/v1");
        assert!(mended.starts_with("http://x/… answers") && mended.ends_with("is `base-url` right?"), "{mended}");
        assert_eq!(text(chat, " OK\n"), "it answers \"OK\", not OpenAI's Chat Completions: is `base-url` right?");
    }
}
