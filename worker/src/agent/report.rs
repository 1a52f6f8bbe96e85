//! What is left of an agent's work in words, and the tool by which it asks people.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::json;
use swarm_protocol::agent::{AgentStatus, Envelope};

use super::outside::Outside;
use super::tools::bounded;
use super::tools::plan::{Report, ReportStatus};
use super::tools::tool::{Effect, Tool, spec};

/// The longest summary, in bytes.
const SUMMARY_BYTES_MAX: usize = 8 << 10;
/// The longest item of evidence or follow-ups, in bytes.
const ITEM_BYTES_MAX: usize = 1 << 10;
/// Items of evidence, and of follow-ups.
const ITEMS_MAX: usize = 32;

/// Where the model's report lies once it was given.
pub type Reported = Arc<Mutex<Option<Report>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    question: String,
}

/// The tool that asks a person.
pub fn question(outside: &(impl Outside + Clone + Send + Sync + 'static)) -> Tool {
    let spec = spec(
        "ask_person",
        "Asks a person who may be watching. Ask only what you can neither find out nor decide; often nobody is there.",
        json!({ "question": {"type": "string"} }),
        &["question"],
    );
    let outside = outside.clone();
    Tool::own(spec, Effect::Changes, move |asked: Question| {
        let nobody = "nobody is here to answer: decide yourself, and say in your report what you assumed";
        Ok(outside.question(&asked.question).unwrap_or_else(|| nobody.to_owned()))
    })
}

/// Takes the report, if there is one.
pub fn take(reported: &Reported) -> Option<Report> {
    reported.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What a report becomes.
pub fn envelope(report: Report, turns: u32) -> Envelope {
    let items =
        |items: Vec<String>| items.into_iter().take(ITEMS_MAX).map(|item| bounded(&item, ITEM_BYTES_MAX)).collect();
    Envelope {
        status: match report.status {
            ReportStatus::Done => AgentStatus::Done,
            ReportStatus::Partial => AgentStatus::Partial,
            ReportStatus::Blocked => AgentStatus::Blocked,
        },
        evidence: items(report.evidence),
        follow_ups: items(report.follow_ups),
        ..words_only(report.summary, turns)
    }
}

/// An envelope that holds nothing but words.
pub fn words_only(words: String, turns: u32) -> Envelope {
    Envelope {
        status: AgentStatus::Done,
        detail: String::new(),
        summary: bounded(words.trim(), SUMMARY_BYTES_MAX),
        evidence: vec![],
        follow_ups: vec![],
        turns,
    }
}
