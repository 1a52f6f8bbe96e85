//! How many instances of a run stand where: counted event by event, and kept beside the events, so that a list of runs needs
//! no replay.

use serde::{Deserialize, Serialize};

use crate::event::{Fate, GivenUp, InstanceResult, RunEvent};

/// How many instances stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Tally {
    /// All that are known; grows while fan-outs get their items.
    pub instances: u64,
    /// Those with a result.
    pub finished: u64,
    /// Succeeded, or flaky.
    pub passed: u64,
    /// Among `passed`: on a retry only.
    pub flaky: u64,
    /// Among `passed`: a recorded result was taken.
    pub reused: u64,
    /// Failed, timed-out, violation or lost.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Their `if` was false.
    pub skipped: u64,
    /// A need failed.
    pub blocked: u64,
    /// Their change is on the target.
    pub landed: u64,
    /// Their change is kept, not merged.
    pub parked: u64,
    /// They were parked, had failed or are on no branch any more, and a person gave them up.
    pub dropped: u64,
}

impl Tally {
    /// Takes back what [`Tally::count`] counted of a result that no longer holds.
    pub fn reopen(&mut self, result: InstanceResult) {
        self.finished -= 1;
        match result {
            InstanceResult::Succeeded => self.passed -= 1,
            InstanceResult::Flaky => {
                self.passed -= 1;
                self.flaky -= 1;
            }
            InstanceResult::Failed | InstanceResult::TimedOut | InstanceResult::Violation | InstanceResult::Lost => {
                self.failed -= 1;
            }
            InstanceResult::Cancelled => self.cancelled -= 1,
            InstanceResult::Skipped => self.skipped -= 1,
            InstanceResult::Blocked => self.blocked -= 1,
        }
    }

    /// Counts one event.
    pub fn count(&mut self, event: &RunEvent) {
        match event {
            RunEvent::InstancesAdded { instances } => self.instances += instances.len() as u64,
            RunEvent::Reused { instances } => {
                let reused = instances.len() as u64;
                self.finished += reused;
                self.passed += reused;
                self.reused += reused;
            }
            RunEvent::InstanceFinished { result, .. } => {
                self.finished += 1;
                match result {
                    InstanceResult::Succeeded => self.passed += 1,
                    InstanceResult::Flaky => {
                        self.passed += 1;
                        self.flaky += 1;
                    }
                    InstanceResult::Failed
                    | InstanceResult::TimedOut
                    | InstanceResult::Violation
                    | InstanceResult::Lost => self.failed += 1,
                    InstanceResult::Cancelled => self.cancelled += 1,
                    InstanceResult::Skipped => self.skipped += 1,
                    InstanceResult::Blocked => self.blocked += 1,
                }
            }
            RunEvent::Merged { fate, .. } => match fate {
                Fate::Landed { .. } => self.landed += 1,
                Fate::Parked { .. } => self.parked += 1,
                Fate::Dropped { was } => {
                    match was {
                        GivenUp::Parked => self.parked = self.parked.saturating_sub(1),
                        GivenUp::Landed => self.landed = self.landed.saturating_sub(1),
                        GivenUp::Failed => {}
                    }
                    self.dropped += 1;
                }
                Fate::Empty => {}
            },
            RunEvent::RunResumed { tally, .. } => *self = *tally,
            RunEvent::RunStarted { .. }
            | RunEvent::Reopened { .. }
            | RunEvent::Retried { .. }
            | RunEvent::ItemsFound { .. }
            | RunEvent::AttemptStarted { .. }
            | RunEvent::ModelAsked { .. }
            | RunEvent::ModelWaits { .. }
            | RunEvent::ModelDown { .. }
            | RunEvent::ModelCalled { .. }
            | RunEvent::AttemptFinished { .. }
            | RunEvent::Verified { .. }
            | RunEvent::Evicted { .. }
            | RunEvent::Requeued { .. }
            | RunEvent::Noted { .. }
            | RunEvent::NeedsSettled { .. }
            | RunEvent::Landing { .. }
            | RunEvent::RunFinished { .. } => {}
        }
    }
}
