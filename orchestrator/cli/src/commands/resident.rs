//! Keeps a coordinator small: what only the start of a run needs of this program does not stay resident while it runs.

use swarm_orchestrator::event::{Progress, Recorded, RunEvent};
use swarm_orchestrator::journal::RunState;
use swarm_orchestrator::report::Reporter;

/// Lets go of this program's pages when a run has begun, and when its first attempt has ended: from there on the same code
/// runs again and again, and only that comes back; in a large run in smaller pieces than in others.
#[derive(Debug, Default)]
pub struct Resident {
    stage: Stage,
    is_cut: bool,
}

/// Instances from which on a run is long enough for ten milliseconds of work on its coordinator's size.
const CUT_FROM: u64 = 1000;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Starting,
    Begun,
    Working,
}

impl Stage {
    fn after(self, event: &RunEvent) -> Stage {
        match (self, event) {
            (Stage::Starting, RunEvent::RunStarted { .. } | RunEvent::RunResumed { .. }) => Stage::Begun,
            (Stage::Begun, RunEvent::AttemptFinished { .. }) => Stage::Working,
            (stage, _) => stage,
        }
    }
}

impl Reporter for Resident {
    fn event(&mut self, recorded: &Recorded, state: &RunState) {
        if !self.is_cut && is_worth_a_cut(&recorded.event, state.tally.instances) {
            self.is_cut = true;
            cut();
            let_go();
        }
        let stage = self.stage.after(&recorded.event);
        if stage != self.stage {
            self.stage = stage;
            if stage == Stage::Working {
                swarm_sandbox::image::trim();
            }
            let_go();
        }
    }

    fn progress(&mut self, _: &Progress) {}

    fn tick(&mut self, _: u64, _: &RunState) {}
}

/// Whether there is much to do yet: a run that is resumed may have nothing left.
fn is_worth_a_cut(event: &RunEvent, instances: u64) -> bool {
    let goes_on = matches!(event, RunEvent::InstancesAdded { .. } | RunEvent::AttemptFinished { .. });
    goes_on && instances >= CUT_FROM
}

/// Lets what is touched from now on bring less of its surroundings along. Where the kernel does not, the coordinator is larger
/// and nothing else.
fn cut() {
    if let Err(error) = swarm_sandbox::image::cut() {
        tracing::debug!(%error, "the program's mappings stay whole");
    }
}

/// Lets go of this program's pages. Where the kernel does not, the coordinator is larger and nothing else.
pub fn let_go() {
    if let Err(error) = swarm_sandbox::image::let_go() {
        tracing::debug!(%error, "the program's pages stay resident");
    }
}

#[cfg(test)]
mod tests {
    use swarm_orchestrator::ids::Attempt;
    use swarm_plans::InstanceId;

    use super::*;

    #[test]
    fn only_the_beginning_and_the_first_end_are_stages() {
        let instance = InstanceId("a".into());
        let started = RunEvent::AttemptStarted { instance: instance.clone(), attempt: Attempt(1) };
        let items = RunEvent::ItemsFound { task: "t".to_owned(), items: vec![] };
        assert_eq!(Stage::Starting.after(&items), Stage::Starting);
        assert_eq!(Stage::Begun.after(&started), Stage::Begun);
        let ended: RunEvent = serde_json::from_value(serde_json::json!({
            "event": "attempt-finished", "instance": "a", "attempt": 1, "end": { "end": "succeeded" }, "duration-ms": 3,
            "change": null, "outputs": {}, "notes": [], "retry-in-ms": null,
        }))
        .expect("an event as the journal has it");
        assert_eq!(Stage::Begun.after(&ended), Stage::Working);
        assert_eq!(Stage::Working.after(&ended), Stage::Working);
        assert!(is_worth_a_cut(&ended, CUT_FROM) && !is_worth_a_cut(&ended, CUT_FROM - 1));
        assert!(!is_worth_a_cut(&items, CUT_FROM));
    }
}
