//! Long conversations made short before they no longer fit: what is old is summed up by the model itself, the task stays
//! word for word, and a call is never parted from its result. A model that calls a tool instead of summing up is asked once
//! more; then a list of what it did stands in the summary's place ([`account`]). Pure.

use swarm_protocol::chat::{Arguments, AssistantPart, Message, Reply, ToolSpec, ToolStatus, UserPart};

use super::tools::bounded;

/// Messages at the end that stay as they are.
const KEPT: usize = 4;
/// The share of the context, in percent, from which a conversation is summed up.
const FULL_PERCENT: u64 = 80;
/// The share of the context, in percent, that the results of one answer may take: those of two answers, which stay when all
/// else is summed up, leave room for the next.
const RESULTS_PERCENT: u64 = 25;
/// The longest account of what was done, in bytes.
const ACCOUNT_BYTES_MAX: usize = 12 << 10;
/// The longest part of one text within it, in bytes.
const ACCOUNT_TEXT_BYTES_MAX: usize = 240;
/// Bytes of a token, roughly, for what no provider has counted.
const TOKEN_BYTES: u64 = 4;

/// Whether a conversation of so many tokens is to be summed up.
pub fn is_due(tokens: u64, context_tokens: u64) -> bool {
    tokens.saturating_mul(100) >= context_tokens.saturating_mul(FULL_PERCENT)
}

/// The size of a conversation in tokens, roughly.
pub fn estimate(messages: &[Message]) -> u64 {
    let bytes: usize = messages.iter().map(|message| serde_json::to_vec(message).map_or(0, |text| text.len())).sum();
    tokens(bytes)
}

/// The same of so many bytes.
fn tokens(bytes: usize) -> u64 {
    bytes as u64 / TOKEN_BYTES
}

/// What every request holds besides the conversation, in tokens, roughly.
pub fn fixed(system: &str, tools: &[ToolSpec]) -> u64 {
    tokens(system.len() + serde_json::to_string(tools).map_or(0, |text| text.len()))
}

/// Why no request fits, where what each holds is larger than the context; for people.
pub fn unfit(system: &str, tools: &[ToolSpec], prompt: &str, context_tokens: u64) -> Option<String> {
    let (system, prompt) = (fixed(system, tools), tokens(prompt.len()));
    (system + prompt >= context_tokens).then(|| {
        format!(
            "its context is {context_tokens} tokens, and every request holds about {} of them already: {system} of instructions and tools, {prompt} of the task; raise `context` of the model or `context-tokens` of the agent, or give it fewer `tools`",
            system + prompt
        )
    })
}

/// The longest that each of `results` may be, in bytes, where they are too long together; `None` where they are not.
pub fn result_bytes_max<'a>(results: impl Iterator<Item = &'a str> + Clone, context_tokens: u64) -> Option<usize> {
    let most = (context_tokens.saturating_mul(RESULTS_PERCENT) / 100).saturating_mul(TOKEN_BYTES);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let all: usize = results.clone().map(str::len).sum();
    (all > most).then(|| most / results.count().max(1))
}

/// The message from which on the conversation is kept; `None` when there is nothing to gain. It is always the model's: its
/// calls keep their results, and what stands before ends with results, too.
pub fn keep_from(messages: &[Message]) -> Option<usize> {
    let latest = messages.len().checked_sub(KEPT)?;
    let at = (2..=latest)
        .rev()
        .find(|&at| matches!(messages[at], Message::Assistant { .. }) && is_user(&messages[at - 1]))?;
    (at > 2).then_some(at)
}

fn is_user(message: &Message) -> bool {
    matches!(message, Message::User { .. })
}

/// How often a summary was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Not before.
    Once,
    /// The model called a tool, or said nothing.
    Again,
}

/// The summary that an answer is; `None` for one that calls a tool or says nothing.
pub fn summary(reply: &Reply) -> Option<String> {
    let text = reply.text();
    let calls = reply.content.iter().any(|part| matches!(part, AssistantPart::Call(_)));
    (!calls && !text.trim().is_empty()).then_some(text)
}

/// What was done, told from the conversation itself: what was said, the calls and how they ended, the newest last. An older
/// summary stays in front.
pub fn account(messages: &[Message]) -> String {
    let one = |text: &str| bounded(&text.split_whitespace().collect::<Vec<_>>().join(" "), ACCOUNT_TEXT_BYTES_MAX);
    let mut lines = vec![];
    for message in messages.iter().skip(1) {
        match message {
            Message::Assistant { content, .. } => lines.extend(content.iter().filter_map(|part| match part {
                AssistantPart::Text { text, .. } if !text.trim().is_empty() => Some(format!("- you: {}", one(text))),
                AssistantPart::Call(call) => Some(format!("- `{}` {}", call.name, one(&written(&call.arguments)))),
                _ => None,
            })),
            Message::User { content } => lines.extend(content.iter().map(|part| match part {
                UserPart::ToolResult { content, status: ToolStatus::Ok, .. } => format!("  gave: {}", one(content)),
                UserPart::ToolResult { content, .. } => format!("  failed: {}", one(content)),
                UserPart::Text { text } => format!("- you were told: {}", one(text)),
            })),
        }
    }
    let (mut bytes, mut kept) = (0, vec![]);
    for line in lines.iter().rev() {
        bytes += line.len() + 1;
        if bytes > ACCOUNT_BYTES_MAX {
            kept.push("- … (what came before is left out)".to_owned());
            break;
        }
        kept.push(line.clone());
    }
    let older = match messages.first() {
        Some(Message::User { content }) => content.get(1),
        _ => None,
    };
    let older = match older {
        Some(UserPart::Text { text }) => format!("{}\n\n", bounded(text, ACCOUNT_BYTES_MAX)),
        _ => String::new(),
    };
    kept.reverse();
    format!(
        "{older}There is no summary of yours. Your calls and what they gave, cut short, the newest last:\n{}",
        kept.join("\n")
    )
}

/// A call's arguments as they are compared and shown.
pub fn written(arguments: &Arguments) -> String {
    match arguments {
        Arguments::Object(object) => serde_json::Value::Object(object.clone()).to_string(),
        Arguments::Broken { text, .. } => text.clone(),
    }
}

/// The conversation to sum up, with the request for it as the last words.
pub fn request(messages: &[Message], asked: Asked) -> Vec<Message> {
    const AGAIN: &str = " You were asked for this before and called a tool, or said nothing: no call is run now. Answer in \
        plain text.";
    const REQUEST: &str = "Stop here and sum up, for yourself, since the conversation above will be taken away and only \
        your summary stays beside the task: what has been found out, with names of files and functions; what was changed; \
        which commands were run and what they showed; what is still to be done, in order. No calls, only text.";
    let mut messages = messages.to_vec();
    let again = if asked == Asked::Again { AGAIN } else { "" };
    let text = UserPart::Text { text: format!("{REQUEST}{again}") };
    match messages.last_mut() {
        Some(Message::User { content }) => content.push(text),
        _ => messages.push(Message::User { content: vec![text] }),
    }
    messages
}

/// Puts a summary in the place of all between the task and `keep_from`.
pub fn replace(messages: &mut Vec<Message>, keep_from: usize, summary: &str) {
    let mut content = match messages.first() {
        Some(Message::User { content }) => content.clone(),
        _ => vec![],
    };
    // The task is the first part; an older summary goes with what it stood for.
    content.truncate(1);
    content.push(UserPart::Text { text: format!("What was done so far, summed up by you:\n\n{}", summary.trim()) });
    messages.splice(..keep_from, [Message::User { content }]);
    drop_foreign_thinking(messages);
}

/// Thinking whose conversation is gone is refused by some providers.
fn drop_foreign_thinking(messages: &mut [Message]) {
    for message in messages {
        if let Message::Assistant { content, .. } = message {
            let only = content.iter().all(|part| matches!(part, AssistantPart::Thinking { .. }));
            if !only {
                content.retain(|part| !matches!(part, AssistantPart::Thinking { proof: None, .. }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use swarm_protocol::chat::Dialect;

    use super::*;

    #[test]
    fn what_every_request_holds_has_to_fit() {
        let tool = ToolSpec { name: "x".to_owned(), description: "d".repeat(400), schema: serde_json::Value::Null };
        assert_eq!(unfit("system", std::slice::from_ref(&tool), "task", 1000), None);
        let why = unfit("system", &[tool], &"t".repeat(400), 200).unwrap();
        assert!(
            why.starts_with("its context is 200 tokens, and every request holds about 212 of them already: 112 of"),
            "{why}"
        );
    }

    fn user(text: &str) -> Message {
        Message::User { content: vec![UserPart::Text { text: text.to_owned() }] }
    }

    fn model() -> Message {
        let text = AssistantPart::Text { text: "x".to_owned(), proof: None };
        Message::Assistant { dialect: Dialect::Ollama, content: vec![text] }
    }

    #[test]
    fn a_short_conversation_stays() {
        let short: Vec<Message> = (0..5).map(|n| if n % 2 == 0 { user("x") } else { model() }).collect();
        assert_eq!(keep_from(&short), None);
    }

    #[test]
    fn the_task_stays_and_an_older_summary_goes() {
        let mut messages: Vec<Message> = (0..11).map(|n| if n % 2 == 0 { user("task") } else { model() }).collect();
        for summary in ["one", "two"] {
            let at = keep_from(&messages).unwrap();
            replace(&mut messages, at, summary);
            messages.extend([model(), user("r"), model(), user("r")]);
        }
        let Message::User { content } = &messages[0] else { panic!("no task") };
        assert_eq!(content.len(), 2);
        assert!(matches!(&content[1], UserPart::Text { text } if text.ends_with("two")));
    }

    #[test]
    fn results_are_bounded_together() {
        let max = |lengths: &[usize]| {
            let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            result_bytes_max(texts.iter().map(String::as_str), 1000)
        };
        assert_eq!((max(&[]), max(&[1000]), max(&[900, 200])), (None, None, Some(500)));
    }

    #[test]
    fn a_conversation_is_due_before_it_is_full() {
        assert!(!is_due(799, 1000));
        assert!(is_due(800, 1000));
        assert!(is_due(u64::MAX, 1000) && is_due(u64::MAX, u64::MAX));
    }
}
