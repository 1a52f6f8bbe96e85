//! What is green and waits for all others, where a plan publishes all or nothing. A pure value.

use swarm_plans::InstanceId;

use crate::report::sanitize;

use super::messages::Landing;
use crate::merge::order::Place;

/// Results that are green and wait for all others (`publish = "all-or-nothing"`).
#[derive(Debug, Default)]
pub(super) struct Held {
    /// With their commits, in order.
    members: Vec<(Landing, String)>,
    /// The target before, and the newest commit.
    tip: Option<(Option<String>, String)>,
    /// What failed, the first in the order of the plan: nothing lands.
    failed: Option<(Place, InstanceId)>,
    /// What the machine failed, which says nothing, and what it said: nothing lands, and nothing is parked, until the run is resumed.
    failed_by_machine: Option<(InstanceId, String)>,
}

/// What becomes of all that was held.
#[derive(Debug)]
pub(super) enum Publication {
    /// It lands with its commits; the target moves from the one to the other.
    Lands { members: Vec<(Landing, String)>, from: Option<String>, to: String },
    /// It does not, for a reason for people.
    Parks { members: Vec<Landing>, reason: String },
}

impl Held {
    /// The machine failed an instance, in a way that counts against the run.
    pub(super) fn failed_by_machine(&mut self, instance: &InstanceId, said: &str) {
        self.failed_by_machine.get_or_insert_with(|| (instance.clone(), said.to_owned()));
    }

    /// An instance failed in a way that counts against the run.
    pub(super) fn failed(&mut self, place: Place, instance: &InstanceId) {
        if self.failed.as_ref().is_none_or(|(first, _)| place < *first) {
            self.failed = Some((place, instance.clone()));
        }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Why nothing can be decided before the run is resumed; said once.
    pub(super) fn take_failed_by_machine(&mut self, run: &str) -> Option<String> {
        let (failed, said) = self.failed_by_machine.take()?;
        let word = sanitize::shell_word(&failed.0);
        Some(format!(
            "the plan publishes all or nothing, and nobody knows what `{failed}` is worth: it failed for a reason that is not its own \
             ({said}); mend that before you resume it, or give it up, and the others land without it: `swarm drop {run} {word} && swarm \
             resume {run}`"
        ))
    }

    /// The newest commit that is held.
    pub(super) fn tip(&self) -> Option<&String> {
        self.tip.as_ref().map(|(_, tip)| tip)
    }

    /// More is green: up to the commit `to`, on a target that stood at `from` when nothing was held.
    pub(super) fn reaches(&mut self, from: Option<String>, to: String) {
        let from = self.tip.take().map_or(from, |(from, _)| from);
        self.tip = Some((from, to));
    }

    /// Holds a change with its commit.
    pub(super) fn hold(&mut self, landing: Landing, commit: String) {
        self.members.push((landing, commit));
    }

    /// What becomes of all that is held, now that all has its end; `None` when nothing is.
    pub(super) fn publish(&mut self, something_is_parked: bool) -> Option<Publication> {
        let members = std::mem::take(&mut self.members);
        let (from, to) = self.tip.take().filter(|_| !members.is_empty())?;
        let reason = match &self.failed {
            Some((_, failed)) => format!("the plan publishes all or nothing, and `{failed}` did not pass"),
            None if something_is_parked => "the plan publishes all or nothing, and something is parked".to_owned(),
            None => return Some(Publication::Lands { members, from, to }),
        };
        let members = members.into_iter().map(|(landing, _)| landing).collect();
        Some(Publication::Parks { members, reason })
    }
}
