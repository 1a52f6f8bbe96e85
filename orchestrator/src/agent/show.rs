//! What was said, legible: what the model says as it is, its calls as one line each, results shortened. No line of what a model
//! or a tool wrote passes for one of ours, whichever line feeds, carriage returns and invisible characters it holds.

use serde_json::{Map, Value};
use swarm_protocol::agent::{CallResult, Envelope};
use swarm_protocol::chat::{Arguments, AssistantPart, Reply, ToolCall, ToolStatus};

use super::transcript::Entry;
use crate::report::sanitize;

/// Lines of a result that are shown.
const RESULT_LINES_MAX: usize = 16;
/// Lines of a diff that are shown.
const DIFF_LINES_MAX: usize = 80;
/// Lines of the task that are shown.
const PROMPT_LINES_MAX: usize = 24;
/// Lines of thinking that are shown.
const THINKING_LINES_MAX: usize = 6;
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 240;
/// Characters of a call that are shown.
const CALL_CHARS_MAX: usize = 400;

/// What our own lines begin with.
const MARKS: [char; 4] = ['─', '●', '│', '$'];

/// What a model says, piece by piece.
#[derive(Debug)]
pub struct Spoken {
    /// Whether nothing was seen of the line that the last piece ended in.
    is_blank: bool,
}

impl Default for Spoken {
    fn default() -> Self {
        Spoken { is_blank: true }
    }
}

impl Spoken {
    /// The next piece for people: as it is, but for what nobody sees, and with a mark before a line that could be taken for ours.
    pub fn more(&mut self, text: &str) -> String {
        let is_blank = &mut self.is_blank;
        let (mut shown, mut letters) = (String::with_capacity(text.len()), text.chars().peekable());
        while let Some(c) = letters.next() {
            match c {
                '\n' => *is_blank = true,
                '\t' => {}
                c if sanitize::is_deceptive(c) => continue,
                c if c.is_whitespace() => {}
                // A sum of money or a variable is no script.
                '$' if letters.peek().is_some_and(|next| !next.is_whitespace()) => *is_blank = false,
                c => {
                    if *is_blank && MARKS.contains(&c) {
                        shown.push_str("| ");
                    }
                    *is_blank = false;
                }
            }
            shown.push(c);
        }
        shown
    }
}

/// Words with nothing left out, in which no further line can pass for one of ours.
fn whole(text: &str) -> String {
    text.replace('\n', "\n  | ")
}

/// A call for whoever decides on it: all its arguments, whole, and what speaks of it.
pub fn call_to_decide(tool: &str, arguments: &Map<String, Value>, reason: &str) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all = arguments.iter().map(|(name, value)| format!("\n{}: {}", whole(name), whole(&text(value))));
    format!("{}{}\n({})", whole(tool), all.collect::<String>(), whole(reason))
}

/// An entry as lines, each with its line feed; empty for what nobody needs to see.
pub fn entry(entry: &Entry) -> String {
    match entry {
        Entry::Begun { model, prompt, .. } => {
            format!("── agent: {} ──\n{}", sanitize::name(model), shortened(prompt, "  ", PROMPT_LINES_MAX))
        }
        Entry::Answer { reply, .. } => answer(reply),
        Entry::Results { results } => results.iter().map(result).collect(),
        Entry::Told { text } => shortened(text, "  > ", RESULT_LINES_MAX),
        Entry::Hint { text } => format!("── a person says ──\n{}", shortened(text, "  > ", RESULT_LINES_MAX)),
        Entry::SummedUp { messages } => format!("── the conversation is summed up: {messages} messages ──\n"),
        Entry::Permission { tool, arguments, reason, denied } => {
            let word = denied.as_ref().map_or("allowed".to_owned(), |why| format!("denied: {}", sanitize::name(why)));
            format!("── asked: {} ({}): {word} ──\n", call_line(tool, arguments), sanitize::name(reason))
        }
        Entry::Question { text, answer } => {
            let answer = answer.as_deref().unwrap_or("(nobody is here)");
            format!("── asked a person ──\n{}{}", shortened(text, "  ? ", 8), shortened(answer, "  > ", 8))
        }
        Entry::TooLong { why } => format!("── the conversation is too long ──\n{}", shortened(why, "  ! ", 8)),
        Entry::Unanswered { why } => format!("── the model could not be asked ──\n{}", shortened(why, "  ! ", 8)),
        Entry::Ended { envelope } => ended(envelope),
    }
}

/// An answer: its words, a line for each call, the beginning of what was thought.
pub fn answer(reply: &Reply) -> String {
    reply.content.iter().map(part).collect()
}

/// The same without the words, which were shown already.
pub fn without_words(reply: &Reply) -> String {
    reply.content.iter().filter(|part| !matches!(part, AssistantPart::Text { .. })).map(part).collect()
}

fn part(part: &AssistantPart) -> String {
    match part {
        AssistantPart::Text { text, .. } if text.trim().is_empty() => String::new(),
        AssistantPart::Text { text, .. } => format!("\n{}\n", Spoken::default().more(text.trim_end())),
        AssistantPart::Thinking { text, .. } if text.trim().is_empty() => String::new(),
        AssistantPart::Thinking { text, .. } => shortened(text, "  ~ ", THINKING_LINES_MAX),
        AssistantPart::Call(call) => format!("{}\n", call_of(call)),
        AssistantPart::Opaque { .. } => String::new(),
    }
}

/// A call in one line, for people.
pub fn call_of(call: &ToolCall) -> String {
    match &call.arguments {
        Arguments::Object(arguments) => call_line(&call.name, arguments),
        Arguments::Broken { reason, .. } => format!("● {}: {}", sanitize::name(&call.name), sanitize::name(reason)),
    }
}

/// A call by its tool and what it is called with, in one line.
pub fn call_line(tool: &str, arguments: &Map<String, Value>) -> String {
    let word = |key: &str| arguments.get(key).and_then(Value::as_str);
    let (mark, said) = match (tool, word("script")) {
        ("bash", Some(script)) => ("$", Spoken { is_blank: false }.more(script.trim()).replace('\n', "\n  ")),
        _ => {
            let named = ["path", "pattern", "name", "url", "question"].into_iter().find_map(word);
            let rest = named.map_or_else(|| Value::Object(arguments.clone()).to_string(), str::to_owned);
            ("●", sanitize::name(&format!("{tool} {rest}")))
        }
    };
    format!("{mark} {}", cut(&said, CALL_CHARS_MAX))
}

fn result(result: &CallResult) -> String {
    let mark = match result.status {
        ToolStatus::Ok => "  │ ",
        ToolStatus::Error => "  ! ",
    };
    let is_diff = result.content.lines().any(|line| line.starts_with("@@ "));
    shortened(&result.content, mark, if is_diff { DIFF_LINES_MAX } else { RESULT_LINES_MAX })
}

fn ended(envelope: &Envelope) -> String {
    let Envelope { status, detail, summary, evidence, follow_ups, turns } = envelope;
    let because = if detail.is_empty() { String::new() } else { format!(": {}", sanitize::name(detail)) };
    let mut text = format!(
        "── {}{} after {turns} {} ──\n",
        status.name(),
        cut(&because, CALL_CHARS_MAX),
        if *turns == 1 { "turn" } else { "turns" }
    );
    text.push_str(&shortened(summary, "  ", RESULT_LINES_MAX));
    for (title, items) in [("shown by", evidence), ("left to others", follow_ups)] {
        items.iter().for_each(|item| text.push_str(&shortened(item, &format!("  {title}: "), 4)));
    }
    text
}

/// The head and the tail of a text, each line behind `mark`.
fn shortened(text: &str, mark: &str, most: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    // A carriage return would take the mark away.
    let line = |line: &&str| {
        let line = Spoken { is_blank: mark.trim().is_empty() }.more(&sanitize::line(line.as_bytes()));
        format!("{mark}{}\n", cut(&line, LINE_CHARS_MAX))
    };
    if lines.len() <= most {
        return lines.iter().map(line).collect();
    }
    let (head, tail) = (most - most / 3, most / 3);
    let left_out = format!("{mark}[{} lines more]\n", lines.len() - head - tail);
    let shown = lines[..head].iter().map(line).chain([left_out]).chain(lines[lines.len() - tail..].iter().map(line));
    shown.collect()
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use swarm_protocol::agent::AgentStatus;
    use swarm_protocol::chat::{Stop, Usage};

    use super::*;

    fn call(name: &str, arguments: Value) -> AssistantPart {
        let arguments = Arguments::Object(arguments.as_object().unwrap().clone());
        AssistantPart::Call(ToolCall { id: "1".to_owned(), name: name.to_owned(), arguments, proof: None })
    }

    fn said(content: Vec<AssistantPart>) -> String {
        let reply = Reply { content, stop: Stop::Calls, usage: Usage::default() };
        answer(&reply)
    }

    #[test]
    fn an_answer_is_words_and_one_line_a_call() {
        let content = vec![
            AssistantPart::Text { text: "Now I look.\n".to_owned(), proof: None },
            call("bash", json!({"script": "cargo test\nls"})),
            call("read", json!({"path": "src/a.rs", "lines": 3})),
            call("todo", json!({"items": []})),
        ];
        let expected = "\nNow I look.\n$ cargo test\n  ls\n● read src/a.rs\n● todo {\"items\":[]}\n";
        assert_eq!(said(content), expected);
    }

    #[test]
    fn nothing_that_a_model_or_a_tool_wrote_passes_for_a_line_of_ours() {
        const FORGED: [&str; 6] = ["\n", "\r", "\n \t", "\n\u{200b}", "\n\u{1b}[0m", "\r\n\u{2028}"];
        for front in FORGED {
            let text = format!("fine{front}── a person says ──\n● bash{front}  │ ok{front}$ git push");
            let arguments = json!({"path": text, "script": text}).as_object().unwrap().clone();
            let refused = Entry::Permission {
                tool: text.clone(),
                arguments: arguments.clone(),
                reason: text.clone(),
                denied: Some(text.clone()),
            };
            let envelope = Envelope {
                status: AgentStatus::Done,
                detail: text.clone(),
                summary: text.clone(),
                evidence: vec![text.clone()],
                follow_ups: vec![],
                turns: 1,
            };
            let told =
                CallResult { call: String::new(), tool: text.clone(), content: text.clone(), status: ToolStatus::Ok };
            let pages = [
                said(vec![AssistantPart::Text { text: text.clone(), proof: None }]),
                call_line("bash", &arguments),
                call_line("read", &arguments),
                call_line(&text, &Map::new()),
                entry(&refused),
                ended(&envelope),
                result(&told),
            ];
            for page in pages {
                let ours = |line: &&str| {
                    let line = sanitize::line(line.as_bytes());
                    let line = line.trim_start();
                    line.starts_with("── a person") || line.starts_with("● bash") || line.starts_with("$ git")
                };
                assert_eq!(page.split('\n').find(ours), None, "{front:?}: {page:?}");
            }
        }
    }

    #[test]
    fn words_that_arrive_in_pieces_are_held_to_the_same() {
        let pieces =
            ["Now \u{2014} I", " look.\n", " ", "\u{200b}── a person says ──", "\n$5 and $x\n$", " rm\n\tlist"];
        let mut spoken = Spoken::default();
        let shown: String = pieces.iter().map(|piece| spoken.more(piece)).collect();
        assert_eq!(shown, "Now — I look.\n | ── a person says ──\n$5 and $x\n| $ rm\n\tlist");
    }

    #[test]
    fn long_results_lose_their_middle() {
        let content: String = (1..=40).map(|n| format!("{n}\n")).collect();
        let shown =
            result(&CallResult { call: String::new(), tool: String::new(), content, status: ToolStatus::Error });
        assert!(shown.starts_with("  ! 1\n") && shown.ends_with("  ! 40\n"), "{shown}");
        assert_eq!((shown.lines().count(), shown.contains("[24 lines more]")), (17, true));
    }

    #[test]
    fn the_end_says_how_and_what_shows_it() {
        let envelope = Envelope {
            status: AgentStatus::Limit,
            detail: "turns".to_owned(),
            summary: "half".to_owned(),
            evidence: vec!["cargo test".to_owned()],
            follow_ups: vec![],
            turns: 1,
        };
        assert_eq!(ended(&envelope), "── limit: turns after 1 turn ──\n  half\n  shown by: cargo test\n");
    }
}
