//! What a batch comes to that was folded and verified. A pure value.

use super::history::Refusal;
use super::messages::{FoldedBatch, FoldedMember, Landing};
use crate::event::{Fate, Merge as Part, RefusalKind};

/// What a batch comes to, once the target has moved.
#[derive(Debug)]
pub(super) struct Settlement {
    /// Members in order, each with what becomes of it.
    pub members: Vec<(Landing, Word)>,
    /// What is folded again, behind the culprit.
    pub rest: Vec<Landing>,
}

impl Settlement {
    /// What becomes of a batch of which the first `green` clean members land; `red` is the number of the verification that the next
    /// one was red in.
    pub(super) fn of(folded: FoldedBatch, batch: Vec<Landing>, green: usize, red: Option<u64>) -> Settlement {
        let culprit = folded.clean().nth(green).map(|(at, _)| at);
        let mut settlement = Settlement { members: vec![], rest: vec![] };
        for (at, (landing, member)) in batch.into_iter().zip(folded.members).enumerate() {
            if culprit.is_some_and(|culprit| at > culprit) {
                settlement.rest.push(landing);
                continue;
            }
            let word = match member {
                FoldedMember::Clean { .. } if culprit == Some(at) => Word::Refused(Refusal {
                    reason: "with it, the verification fails".to_owned(),
                    paths: vec![],
                    kind: RefusalKind::Red,
                    verification: red,
                }),
                FoldedMember::Clean { commit } => Word::Lands { commit },
                FoldedMember::Conflict { reason, paths } => {
                    Word::Refused(Refusal { reason, paths, kind: RefusalKind::Conflict, verification: None })
                }
                FoldedMember::Hostile { reason, paths } => {
                    Word::Refused(Refusal { reason, paths, kind: RefusalKind::Hostile, verification: None })
                }
                FoldedMember::Waits => Word::Waits,
                FoldedMember::Failed { reason } => Word::Parks { reason },
            };
            settlement.members.push((landing, word));
        }
        settlement
    }

    /// What is settled by the move alone.
    pub(super) fn merges(&self) -> Vec<Part> {
        let part = |(landing, word): &(Landing, Word)| match word {
            Word::Lands { commit } => {
                Some(Part { instance: landing.name.clone(), fate: Fate::Landed { commit: commit.clone() } })
            }
            Word::Refused(_) | Word::Waits | Word::Parks { .. } => None,
        };
        self.members.iter().filter_map(part).collect()
    }
}

/// The word on a member of a batch.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Lands {
        commit: String,
    },
    Refused(Refusal),
    /// It builds on one that was refused.
    Waits,
    /// A failure of ours.
    Parks {
        reason: String,
    },
}
