//! Runs told by hand, without a clock or a worker: a plan's text and a list of inputs give the results in the order in
//! which they became final.

use serde_json::{Map, json};
use swarm_plans::{InstanceIx, TaskGraph, TaskIx};

use super::core::{AttemptDone, FailFast, Input, Options, RunCore, RunFacts, StopCause};
use crate::event::{AttemptEnd, RunEvent};

/// One fan-out over what a command prints, and a task that waits for it.
const FAN_OUT: &str = r#"
version = 1
name = "story"
merge.mode = "none"

[tasks.work]
foreach = { item = { lines = "ls" } }
run = "true"

[tasks.after]
needs = ["work"]
run = "true"

[tasks.beside]
run = "true"
"#;

const WORK: TaskIx = TaskIx(0);

fn core(fail_fast: FailFast) -> RunCore {
    let parsed = swarm_plans::parse("story", FAN_OUT, &[], &mut |_| Err("nothing to include".to_owned()));
    let plan = parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    let graph = TaskGraph::expand(plan).expect("a small plan");
    let options = Options { jobs: 4, fail_fast, facts: RunFacts::default(), grace_ms: 5000 };
    let mut core = RunCore::new(graph, options, &|_| None);
    core.pump();
    core
}

/// Feeds the inputs and gives `instance result` for each that became final.
fn told(core: &mut RunCore, inputs: Vec<Input>) -> Vec<String> {
    inputs.into_iter().for_each(|input| core.handle(input, 0.5));
    let finished = |event| match event {
        RunEvent::InstanceFinished { instance, result, .. } => Some(format!("{instance} {}", result.name())),
        _ => None,
    };
    core.take().0.into_iter().filter_map(finished).collect()
}

fn ended(core: &RunCore, id: &str, end: AttemptEnd) -> Input {
    let ix: InstanceIx = core.graph().instance_by_id(id).expect("part of the plan");
    let done = AttemptDone { end, duration_ms: 1, change: None, outputs: Map::new(), notes: vec![] };
    Input::Attempt(ix, Box::new(done))
}

fn cancelled(core: &RunCore, id: &str) -> Input {
    ended(core, id, AttemptEnd::Work { ended: swarm_protocol::Ended::Cancelled })
}

#[test]
fn items_that_come_after_an_interrupt_start_nothing_and_the_run_ends() {
    for items in [Ok(vec![json!("a"), json!("b")]), Err("it was cancelled".to_owned())] {
        let mut core = core(FailFast::No);
        let beside = cancelled(&core, "beside");
        let inputs = vec![Input::Stop(StopCause::Interrupted(2)), Input::Items(WORK, items), beside];
        assert_eq!(told(&mut core, inputs), ["after cancelled", "work cancelled", "beside cancelled"]);
        assert!(core.is_done());
    }
}

#[test]
fn a_fan_out_without_items_is_a_failure_that_ends_a_run_under_fail_fast() {
    let mut careful = core(FailFast::No);
    let beside = ended(&careful, "beside", AttemptEnd::Succeeded);
    let no_items = || Input::Items(WORK, Err("`ls` exited with 2".to_owned()));
    assert_eq!(told(&mut careful, vec![no_items(), beside]), ["work failed", "after blocked", "beside succeeded"]);
    assert!(careful.is_done());

    let mut hasty = core(FailFast::Yes);
    let beside = cancelled(&hasty, "beside");
    assert_eq!(told(&mut hasty, vec![no_items(), beside]), ["work failed", "after blocked", "beside cancelled"]);
    assert!(hasty.is_done());
    assert_eq!(hasty.ending().1, Some("fail-fast"));
}
