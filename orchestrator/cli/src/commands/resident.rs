//! Keeps a coordinator small: what only the start of a run needs of this program does not stay resident while it runs.

use std::sync::Once;

use swarm_orchestrator::event::{Progress, Recorded, RunEvent};
use swarm_orchestrator::journal::RunState;
use swarm_orchestrator::report::Reporter;
use swarm_plans::TaskGraph;

/// Lets go of this program's pages when a run has begun, and when its first attempt has ended: from there on the same code
/// runs again and again, and only that comes back; in a large run in smaller pieces than in others, and once more with each
/// thousand of instances, since what happens rarely adds up.
#[derive(Debug, Default)]
pub struct Resident {
    stage: Stage,
    is_cut: bool,
    rounds: u64,
}

/// Instances from which on a run is long enough for ten milliseconds of work on its coordinator's size.
const CUT_FROM: u64 = 1000;

/// Instances that end before everything is let go once more: seconds of work for a millisecond of it.
const ROUND: u64 = 1000;

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
        if self.moves_on(&recorded.event, state.tally.finished) {
            if self.stage == Stage::Working {
                swarm_sandbox::image::trim();
            }
            let_go();
        }
    }

    fn progress(&mut self, _: &Progress) {}

    fn tick(&mut self, _: u64, _: &RunState) {}
}

impl Resident {
    /// Whether a stage or a round is over with an event, after which so many instances have ended.
    fn moves_on(&mut self, event: &RunEvent, finished: u64) -> bool {
        let before = (self.stage, self.rounds);
        (self.stage, self.rounds) = (self.stage.after(event), finished / ROUND);
        (self.stage, self.rounds) != before
    }
}

/// Whether there is much to do yet: a run that is resumed may have nothing left.
fn is_worth_a_cut(event: &RunEvent, instances: u64) -> bool {
    let goes_on = matches!(event, RunEvent::InstancesAdded { .. } | RunEvent::AttemptFinished { .. });
    goes_on && instances >= CUT_FROM
}

/// Lets go of what reading a plan took, and where the plan is large, or may become so, keeps little of what comes next.
pub fn prepare(graph: &TaskGraph) {
    let may_grow = graph.pending().iter().any(|fan| u64::from(graph.plan().task(fan.task).foreach_max) >= CUT_FROM);
    if may_grow || graph.instances().len() as u64 >= CUT_FROM {
        cut();
    }
    let_go();
}

/// Lets what is touched from now on bring less of its surroundings along, once for all. Where the kernel does not, the
/// coordinator is larger and nothing else.
fn cut() {
    static CUT: Once = Once::new();
    CUT.call_once(|| {
        if let Err(error) = swarm_sandbox::image::cut() {
            tracing::debug!(%error, "the program's mappings stay whole");
        }
    });
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
    fn the_beginning_the_first_end_and_each_round_are_moves() {
        let instance = InstanceId("a".into());
        let started = RunEvent::AttemptStarted { instance: instance.clone(), attempt: Attempt(1), on: None };
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
        let mut resident = Resident { stage: Stage::Begun, ..Resident::default() };
        let moves = [1, 2, ROUND - 1, ROUND, ROUND + 1, 3 * ROUND].map(|finished| resident.moves_on(&ended, finished));
        assert_eq!(moves, [true, false, false, true, false, true], "the first end, and once a round");
        assert!(is_worth_a_cut(&ended, CUT_FROM) && !is_worth_a_cut(&ended, CUT_FROM - 1));
        assert!(!is_worth_a_cut(&items, CUT_FROM));
    }
}
