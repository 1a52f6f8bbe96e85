//! What can be said of a call of a model: what became of it, and what it waits for.

use serde::{Deserialize, Serialize};

/// What became of a call of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum CallOutcome {
    /// There is an answer.
    Answered,
    /// There is one, from a recording.
    Replayed,
    /// There is none.
    Failed {
        /// Why, for people; without any key.
        why: String,
        /// The budget that is less than one such call may take, where that is why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        too_small: Option<Whose>,
    },
    /// Whoever asked went away.
    Abandoned,
}

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The run's: nothing of it goes on.
    Run,
    /// The task's, over all its instances.
    Task,
    /// The attempt's.
    Attempt,
}

/// Whether a provider said what a call took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// All of it.
    #[default]
    Said,
    /// Not all, or it broke off: the most is counted that it can have been.
    AtMost,
}

impl Counted {
    /// Whether all of it was said.
    pub fn is_said(&self) -> bool {
        *self == Counted::Said
    }
}

/// What a call of a model waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelWait {
    /// The model, `provider/model`.
    pub model: String,
    /// Until when at most, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// Why.
    pub reason: WaitReason,
}

/// Why a call of a model waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// Its provider says that nothing is left until then, or that too much was asked of it.
    #[default]
    RateLimit,
    /// Its provider says that it has too much to do.
    Overloaded,
    /// It did not answer, and is asked again then.
    NoAnswer,
}

impl WaitReason {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            WaitReason::RateLimit => "rate limit",
            WaitReason::Overloaded => "overloaded",
            WaitReason::NoAnswer => "no answer",
        }
    }
}
