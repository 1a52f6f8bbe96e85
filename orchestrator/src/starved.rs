//! Who did not get to ask a model because the run's whole budget is less than one such call may take; told event by event. A
//! larger budget is all that they need.

use std::collections::HashSet;

use swarm_plans::InstanceId;

use crate::event::{CallOutcome, RunEvent, Whose};

/// The instances whose last call was not made for that reason.
#[derive(Debug, Clone, Default)]
pub struct Starved(HashSet<InstanceId>);

impl Starved {
    /// Takes in the next event of a run.
    pub fn hear(&mut self, event: &RunEvent) {
        match event {
            RunEvent::ModelCalled {
                instance,
                outcome: CallOutcome::Failed { too_small: Some(Whose::Run), .. },
                ..
            } => {
                self.0.insert(instance.clone());
            }
            RunEvent::ModelCalled { instance, .. } | RunEvent::AttemptStarted { instance, .. } => {
                self.0.remove(instance);
            }
            _ => {}
        }
    }

    /// Whether an instance is one of them.
    pub fn holds(&self, id: &InstanceId) -> bool {
        self.0.contains(id)
    }
}
