//! What an agent wants of a person, and what becomes of it: an entry of the transcript first, the agent's word second. Pure.

use serde_json::{Map, Value};
use swarm_protocol::agent::{PermissionWord, ToAgent};

use super::transcript::Entry;
use super::{attach, show};

/// What an agent wants of a person.
pub(super) enum Wish {
    /// A yes to a call.
    Call { tool: String, arguments: Map<String, Value>, reason: String },
    /// An answer.
    Words(String),
}

impl Wish {
    /// For whoever decides: nothing of it is left out.
    pub(super) fn text(&self) -> String {
        match self {
            Wish::Call { tool, arguments, reason } => show::call_to_decide(tool, arguments, reason),
            Wish::Words(text) => text.clone(),
        }
    }

    /// Whether this was decided before, as an entry says.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        match (self, entry) {
            (Wish::Call { tool, arguments, .. }, Entry::Permission { tool: before, arguments: with, .. }) => {
                tool == before && arguments == with
            }
            (Wish::Words(text), Entry::Question { text: before, .. }) => text == before,
            _ => false,
        }
    }

    /// What becomes of it by a person's words, or by a no and why there are none.
    pub(super) fn decided(self, words: Result<String, String>) -> Entry {
        match self {
            Wish::Words(text) => Entry::Question { text, answer: words.ok() },
            Wish::Call { tool, arguments, reason } => {
                let denied = match words {
                    Ok(words) if attach::is_yes(&words) => None,
                    Ok(words) if words.trim().is_empty() => Some("a person says no".to_owned()),
                    Ok(words) => Some(format!("a person says no: {}", words.trim())),
                    Err(why) => Some(why),
                };
                Entry::Permission { tool, arguments, reason, denied }
            }
        }
    }
}

/// What an agent is told of a decision.
pub(super) fn word_on(id: u64, decided: &Entry) -> Option<ToAgent> {
    match decided {
        Entry::Question { answer, .. } => Some(ToAgent::Answered { id, text: answer.clone() }),
        Entry::Permission { denied, .. } => {
            let word = denied.clone().map_or(PermissionWord::Allow, |why| PermissionWord::Deny { why });
            Some(ToAgent::Decided { id, word })
        }
        _ => None,
    }
}

/// No person's words.
pub(super) fn nobody() -> Result<String, String> {
    Err("nobody is here to be asked".to_owned())
}
