//! What a coding agent and its coordinator say to each other. The agent's loop runs inside of the cage, without network and
//! without keys; all that it wants from outside it asks for in these words. They travel inside the frames of
//! [`crate::message`]; the supervisor, outside of the cage, bounds every line before it passes it on.
//!
//! One question at a time: an agent that asked waits for the answer of that number before it asks again. Hints come
//! whenever a person gives them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chat::{Dialect, ModelRequest, Reply, ToolStatus};
use crate::frame::LINE_BYTES_MAX;
use crate::toolset::Toolset;

/// The longest line that comes out of a cage, in bytes: what it becomes inside of a frame fits, too.
pub const AGENT_LINE_BYTES_MAX: usize = LINE_BYTES_MAX - (64 << 10);

/// A coding agent and what it is held to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentJob {
    /// The worktree as the cage sees it, absolute.
    pub worktree: PathBuf,
    /// A folder for what is too long to show, as the cage sees it; absolute.
    pub scratch: PathBuf,
    /// The model, as the plan names it.
    pub model: String,
    /// Standing instructions.
    pub system: String,
    /// The task.
    pub prompt: String,
    /// What ends it.
    pub limits: AgentLimits,
    /// How much it may do where no rule speaks.
    pub mode: AgentMode,
    /// What it may do without asking, after asking, and never.
    pub rules: AgentRules,
    /// What it is given beside its own tools.
    pub toolset: Toolset,
}

/// What ends an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentLimits {
    /// Answers of the model.
    pub turns: u32,
    /// Tokens in and out, over all turns.
    pub tokens: Option<u64>,
    /// Size of the model's context, in tokens; what comes near is summed up before.
    pub context_tokens: u64,
    /// Bound of one answer, in tokens.
    pub output_tokens: u32,
}

/// How much an agent may do where no rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentMode {
    /// Look, and nothing else.
    ReadOnly,
    /// Change the worktree and run what is not dangerous.
    WorkspaceWrite,
    /// Everything; the cage alone holds it.
    Full,
}

/// Rules as they are written: `tool` or `tool(pattern)`. A deny always wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentRules {
    /// What needs no asking.
    pub allow: Vec<String>,
    /// What a person has to allow each time; without a person it is a deny.
    pub ask: Vec<String>,
    /// What never happens.
    pub deny: Vec<String>,
}

/// Agent → coordinator. Nothing of it is believed: whoever sends it may be what a program made of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub enum AgentSays {
    /// The model is to be asked; `request.model` is the plan's name of it.
    Ask {
        /// The number of the question.
        id: u64,
        /// The request.
        request: ModelRequest,
    },
    /// Something happened that belongs into the transcript.
    Note {
        /// What.
        note: AgentNote,
    },
    /// A call needs a person's word.
    Permission {
        /// The number of the question.
        id: u64,
        /// The tool.
        tool: String,
        /// What it is called with.
        arguments: Map<String, Value>,
        /// Why it is asked.
        reason: String,
    },
    /// The model wants to know something from a person.
    Question {
        /// The number of the question.
        id: u64,
        /// What.
        text: String,
    },
    /// A tool of a foreign server that the coordinator speaks with.
    Remote {
        /// The number of the question.
        id: u64,
        /// The server, as the plan names it.
        server: String,
        /// The server's own name of the tool.
        tool: String,
        /// What it is called with.
        arguments: Map<String, Value>,
    },
    /// The last word.
    Ended {
        /// How it ended.
        envelope: Envelope,
    },
}

/// What belongs into a transcript beside the model's answers, which the coordinator knows itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum AgentNote {
    /// What the calls of the newest answer gave.
    Results {
        /// In the order of the calls.
        results: Vec<CallResult>,
    },
    /// Something was said beside the results: to the model a hint or a warning, to people what a hook has for them.
    Told {
        /// What.
        text: String,
    },
    /// Something that the agent was to have is not there, or went: a server that died, a hook that is not asked any more. Said
    /// with the attempt's end, too.
    Lacks {
        /// What, for people.
        text: String,
    },
    /// The conversation became too long and was summed up.
    SummedUp {
        /// Messages that were taken away.
        messages: usize,
    },
}

/// What one call gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CallResult {
    /// The call's id.
    pub call: String,
    /// The tool.
    pub tool: String,
    /// What the model is told.
    pub content: String,
    /// Whether it worked.
    pub status: ToolStatus,
}

/// Coordinator → agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum ToAgent {
    /// The model's answer.
    Reply {
        /// Of which question.
        id: u64,
        /// In whose words.
        dialect: Dialect,
        /// The answer.
        reply: Reply,
    },
    /// The model cannot be asked any more.
    Failed {
        /// Of which question.
        id: u64,
        /// Why, for people.
        why: String,
    },
    /// The request is longer than the model takes; a shorter one may be answered.
    TooLong {
        /// Of which question.
        id: u64,
        /// The provider's words, for people.
        why: String,
    },
    /// A person says something; the model hears it with its next request.
    Hint {
        /// What.
        text: String,
    },
    /// A person's word on a call.
    Decided {
        /// Of which question.
        id: u64,
        /// The word.
        word: PermissionWord,
    },
    /// A person's answer.
    Answered {
        /// Of which question.
        id: u64,
        /// The answer; `None` when nobody is there.
        text: Option<String>,
    },
    /// What a foreign tool gave.
    RemoteResult {
        /// Of which question.
        id: u64,
        /// For the model.
        content: String,
        /// Whether it worked.
        status: ToolStatus,
    },
}

/// A person's word on a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum PermissionWord {
    /// Go on.
    Allow,
    /// No.
    Deny {
        /// Why, for the model.
        why: String,
    },
}

/// What an agent leaves beside its change. Only checks decide whether the work is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Envelope {
    /// How the conversation ended.
    pub status: AgentStatus,
    /// Why it ended so, where the status does not say it all; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What was done, in the model's words.
    pub summary: String,
    /// What shows that it is done, in the model's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What should be done next by somebody else, in the model's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<String>,
    /// Answers of the model.
    pub turns: u32,
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentStatus {
    /// The model says that it is done.
    Done,
    /// The model says that it did a part.
    Partial,
    /// The model says that it cannot do it.
    Blocked,
    /// The model refuses.
    Refused,
    /// A limit was reached.
    Limit,
    /// It went round in circles.
    Circles,
    /// The model could not be asked any more.
    Unanswered,
    /// A hook ended it.
    Stopped,
    /// It could not begin.
    Unready,
}

impl AgentStatus {
    /// Whether the model ended its work of its own accord, so that checks may decide on it.
    pub fn is_for_checks(self) -> bool {
        matches!(self, AgentStatus::Done | AgentStatus::Partial)
    }

    /// As journals and plans name it.
    pub fn name(self) -> &'static str {
        match self {
            AgentStatus::Done => "done",
            AgentStatus::Partial => "partial",
            AgentStatus::Blocked => "blocked",
            AgentStatus::Refused => "refused",
            AgentStatus::Limit => "limit",
            AgentStatus::Circles => "circles",
            AgentStatus::Unanswered => "unanswered",
            AgentStatus::Stopped => "stopped",
            AgentStatus::Unready => "unready",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_survives_the_wire() {
        let envelope = Envelope {
            status: AgentStatus::Done,
            detail: String::new(),
            summary: "s".to_owned(),
            evidence: vec![],
            follow_ups: vec!["f".to_owned()],
            turns: 3,
        };
        let says = AgentSays::Ended { envelope };
        let text = serde_json::to_string(&says).unwrap();
        let expected = r#"{"says":"ended","envelope":{"status":"done","summary":"s","follow-ups":["f"],"turns":3}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<AgentSays>(&text).unwrap(), says);
        let told = ToAgent::Decided { id: 1, word: PermissionWord::Deny { why: "w".to_owned() } };
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(text, r#"{"answer":"decided","id":1,"word":{"word":"deny","why":"w"}}"#);
        assert_eq!(serde_json::from_str::<ToAgent>(&text).unwrap(), told);
    }
}
