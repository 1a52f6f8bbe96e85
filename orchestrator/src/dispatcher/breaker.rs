//! Whether the machine still works: a full disk or a missing device fails task after task in milliseconds, and running all of
//! them into it says nothing about any. Several in a row on different instances open the breaker, and the run stops so that
//! it can be resumed. A pure value.

use std::collections::HashMap;
use std::time::Duration;

use swarm_plans::InstanceIx;

use super::history::FailedBy;
use crate::event::AttemptEnd;
use crate::retry;

/// Failures of the machine in a row, on different instances, that open it.
pub const FAILURES_MAX: usize = 3;

/// The failures of the machine since something last worked.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    suspects: Vec<InstanceIx>,
    /// How often instances were tried again because others left their processes no room.
    roomless: HashMap<InstanceIx, u32>,
}

/// What an end says about the machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// It works: these had failed by themselves, and keep nobody waiting any more.
    Works(Vec<InstanceIx>),
    /// Perhaps it does not.
    Doubtful,
    /// It does not.
    Broken,
}

impl Breaker {
    /// When an instance is tried again whose attempt ended for want of room for its processes. That costs nothing (whoever resumes the
    /// run counts it as lost, too), and says nothing of the machine that will not be different in a moment.
    pub(super) fn waits_for_room(&mut self, instance: InstanceIx, end: &AttemptEnd) -> Option<Duration> {
        let before = self.roomless.get(&instance).copied().unwrap_or(0);
        let wait = retry::when_there_is_room(end, before)?;
        self.roomless.insert(instance, before + 1);
        Some(wait)
    }

    /// An attempt of an instance ended.
    pub(super) fn hear(&mut self, instance: InstanceIx, failed_by: FailedBy) -> Says {
        if failed_by == FailedBy::Work {
            return Says::Works(self.release());
        }
        if !self.suspects.contains(&instance) {
            self.suspects.push(instance);
        }
        if self.suspects.len() < FAILURES_MAX { Says::Doubtful } else { Says::Broken }
    }

    /// Whether an instance failed, and nothing has worked since.
    pub(super) fn suspects(&self, instance: InstanceIx) -> bool {
        self.suspects.contains(&instance)
    }

    /// Nothing more can happen: whoever failed did so by itself.
    pub(super) fn release(&mut self) -> Vec<InstanceIx> {
        std::mem::take(&mut self.suspects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(ends: &[(u32, FailedBy)]) -> Says {
        let mut breaker = Breaker::default();
        let mut last = Says::Works(vec![]);
        for &(instance, failed_by) in ends {
            last = breaker.hear(InstanceIx(instance), failed_by);
        }
        last
    }

    #[test]
    fn three_different_ones_in_a_row_open_it() {
        use FailedBy::{Machine, Work};
        assert_eq!(story(&[(1, Machine), (2, Machine), (3, Machine)]), Says::Broken);
        assert_eq!(story(&[(1, Machine), (1, Machine), (1, Machine)]), Says::Doubtful);
        assert_eq!(story(&[(1, Machine), (2, Machine), (9, Work), (3, Machine)]), Says::Doubtful);
        assert_eq!(story(&[(1, Machine), (2, Machine), (9, Work)]), Says::Works(vec![InstanceIx(1), InstanceIx(2)]));
    }
}
