//! What became of a change, or of an instance that a person gave up.

use serde::{Deserialize, Serialize};

use super::RefusalKind;
use crate::tag_first::tag_first;

tag_first! {
    "fate", "Fate",

    /// What became of a change.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Fate as FateOutside {
        /// It is on the target branch.
        Landed {
            /// Full hex id of its commit there.
            commit: String,
        },
        /// It is kept under its ref and not merged.
        Parked {
            /// Why, for people.
            reason: String,
            /// The conflicting paths, rendered for people; at most 20.
            paths: Vec<String>,
            /// The same as `reason` for programs.
            #[serde(default)]
            by: ParkedBy,
            /// The number of the verification that was red, where one was.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            verification: Option<u64>,
        },
        /// It changed nothing.
        Empty,
        /// It did not land, or no branch had it any more, and a person gave it up (`swarm drop`).
        Dropped {
            /// What it was until then.
            #[serde(default, skip_serializing_if = "GivenUp::was_parked")]
            was: GivenUp,
        },
    }
}

/// What a person gave up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GivenUp {
    /// A result that was parked.
    #[default]
    Parked,
    /// An instance that had failed: it stays so, and nobody tries it again unless it is named.
    Failed,
    /// A result that had landed, and that no branch had any more.
    Landed,
}

impl GivenUp {
    fn was_parked(&self) -> bool {
        *self == GivenUp::Parked
    }
}

/// What keeps a parked change from the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParkedBy {
    /// A journal that does not say it.
    #[default]
    Unsaid,
    /// It contradicts what landed before.
    Conflict,
    /// With it, the gate is red.
    Gate,
    /// With what landed before, it comes to a tree that no worker may leave.
    Hostile,
    /// It started from a change that is parked and that it does not need.
    Stale,
    /// It builds on a change that is parked.
    Need,
    /// The plan publishes all or nothing, and something else failed or is parked.
    Others,
    /// The target is red by itself, could not be verified or kept moving.
    Target,
    /// A failure of ours.
    Failure,
}

impl From<RefusalKind> for ParkedBy {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Conflict => ParkedBy::Conflict,
            RefusalKind::Red => ParkedBy::Gate,
            RefusalKind::Hostile => ParkedBy::Hostile,
            RefusalKind::Stale => ParkedBy::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_before_failures_could_be_was_parked() {
        let read = |text: &str| serde_json::from_str::<Fate>(text).expect("a fate");
        let [parked, failed, landed] =
            [GivenUp::Parked, GivenUp::Failed, GivenUp::Landed].map(|was| Fate::Dropped { was });
        assert_eq!(read(r#"{"fate":"dropped"}"#), parked);
        assert_eq!(serde_json::to_string(&parked).expect("a text"), r#"{"fate":"dropped"}"#);
        for fate in [failed, landed] {
            assert_eq!(read(&serde_json::to_string(&fate).expect("a text")), fate);
        }
    }
}
