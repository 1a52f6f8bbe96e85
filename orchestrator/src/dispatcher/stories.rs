//! Runs told by hand, without a clock or a worker: a plan's text and a list of inputs give the results in the order in
//! which they became final.

/// Those of several lives.
mod lives;

use serde_json::json;
use swarm_plans::{InstanceIx, TaskGraph, TaskIx};

use super::core::{
    Action, AttemptDone, FailFast, FoldedBatch, FoldedMember, Input, NoItems, NotFolded, Options, REFOLDS_MAX,
    ReuseResults, RunCore, RunFacts, StopCause, TargetMove,
};
use crate::event::{AttemptEnd, ChangeSummary, Fate, RefusalKind, RunEvent};

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

/// Two changes that do not need each other, and one behind each; all of them wait for the end of what stands before them.
const TRAIN: &str = r#"
version = 1
name = "story"
tasks.before.run = "true"
tasks.first.run = "true"
tasks.second.run = "true"
tasks.on-first = { run = "true", needs = ["first"] }
tasks.on-second = { run = "true", needs = ["second"] }
"#;

fn core(fail_fast: FailFast) -> RunCore {
    core_of(FAN_OUT, fail_fast)
}

fn core_of(plan: &str, fail_fast: FailFast) -> RunCore {
    let mut core = RunCore::new(graph_of(plan), options(fail_fast), &|_| None);
    core.pump();
    core
}

fn graph_of(plan: &str) -> TaskGraph {
    let parsed = swarm_plans::parse("story", plan, &[], &mut |_| Err("nothing to include".to_owned()));
    let plan = parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    TaskGraph::expand(plan).expect("a small plan")
}

fn options(fail_fast: FailFast) -> Options {
    Options { jobs: 4, fail_fast, facts: RunFacts::default(), grace_ms: 5000, reuse: ReuseResults::Yes }
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
    Input::Attempt(ix, Box::new(AttemptDone::bare(end)))
}

/// An instance passes and has changed something.
fn changed(core: &RunCore, id: &str) -> Input {
    let mut input = ended(core, id, AttemptEnd::Succeeded);
    if let Input::Attempt(_, done) = &mut input {
        let (base_tree, tree, commit) = ("0".to_owned(), format!("{id}'s tree"), id.to_owned());
        done.change = Some(ChangeSummary { base_tree, tree, commit, files: 1, history: None, writes: None });
    }
    input
}

/// The batch that is under way was folded so, from the first on; a clean member is the commit of its own name.
fn folded(members: Vec<FoldedMember>) -> Input {
    let (tip, tip_tree) = ("tip".to_owned(), "tip's tree".to_owned());
    Input::Folded(Ok(FoldedBatch { from: None, tip, tip_tree, members }))
}

fn clean(commit: &str) -> FoldedMember {
    FoldedMember::Clean { commit: commit.to_owned() }
}

fn conflict() -> FoldedMember {
    FoldedMember::Conflict { reason: "they differ".to_owned(), paths: vec![] }
}

/// Feeds the inputs and gives `instance fate: reason` for each change that was spoken of.
fn merged(core: &mut RunCore, inputs: Vec<Input>) -> Vec<String> {
    inputs.into_iter().for_each(|input| core.handle(input, 0.5));
    let spoken = |event| match event {
        RunEvent::Merged { instance, fate: Fate::Parked { reason, .. } } => {
            Some(format!("{instance} parked: {reason}"))
        }
        RunEvent::Merged { instance, fate: Fate::Empty } => Some(format!("{instance} empty")),
        RunEvent::Merged { instance, .. } => Some(format!("{instance} landed")),
        _ => None,
    };
    core.take().0.into_iter().filter_map(spoken).collect()
}

fn cancelled(core: &RunCore, id: &str) -> Input {
    ended(core, id, AttemptEnd::Work { ended: swarm_protocol::Ended::Cancelled })
}

#[test]
fn items_that_come_after_an_interrupt_start_nothing_and_the_run_ends() {
    for items in [Ok(vec![json!("a"), json!("b")]), Err(NoItems::Work("it was cancelled".to_owned()))] {
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
    let no_items = || Input::Items(WORK, Err(NoItems::Work("`ls` exited with 2".to_owned())));
    assert_eq!(told(&mut careful, vec![no_items(), beside]), ["work failed", "after blocked", "beside succeeded"]);
    assert!(careful.is_done());

    let mut hasty = core(FailFast::Yes);
    let beside = cancelled(&hasty, "beside");
    assert_eq!(told(&mut hasty, vec![no_items(), beside]), ["work failed", "after blocked", "beside cancelled"]);
    assert!(hasty.is_done());
    assert_eq!(hasty.ending().1.as_deref(), Some("fail-fast"));
}

#[test]
fn a_machine_that_cannot_list_items_ends_the_run_until_it_is_resumed() {
    let mut core = core(FailFast::No);
    let no_items = Input::Items(WORK, Err(NoItems::Machine("no space is left".to_owned())));
    let beside = cancelled(&core, "beside");
    assert_eq!(told(&mut core, vec![no_items, beside]), ["after cancelled", "work cancelled", "beside cancelled"]);
    assert!(core.is_done());
    let (ending, cause) = core.ending();
    assert_eq!(ending, StopCause::Machine.ending().0);
    assert_eq!(cause.as_deref(), Some("the items of `work` could not be listed: no space is left"));
}

#[test]
fn what_needs_a_parked_change_is_parked_while_what_is_before_it_is_folded() {
    let mut core = core_of(TRAIN, FailFast::No);
    let first = vec![ended(&core, "before", AttemptEnd::Succeeded), changed(&core, "first"), folded(vec![conflict()])];
    assert_eq!(merged(&mut core, first), ["first parked: they differ"]);
    let both = vec![changed(&core, "on-first"), changed(&core, "second")];
    assert_eq!(merged(&mut core, both), ["on-first parked: it builds on `first`, which is parked"]);
    assert_eq!(
        merged(&mut core, vec![folded(vec![clean("second")]), Input::Moved(TargetMove::Done)]),
        ["second landed"]
    );
}

#[test]
fn what_is_lost_from_the_repository_is_parked_for_that_and_not_tried_for_ever() {
    let mut core = core_of(TRAIN, FailFast::No);
    let first = vec![ended(&core, "before", AttemptEnd::Succeeded), changed(&core, "first")];
    assert!(merged(&mut core, first).is_empty());
    let hollow = || vec![folded(vec![clean("first")]), Input::Moved(TargetMove::Hollow)];
    let tries = (0..REFOLDS_MAX).map(|_| merged(&mut core, hollow())).filter(Vec::is_empty).count();
    assert_eq!(tries, REFOLDS_MAX as usize);
    let gone = "first parked: objects of what was merged are gone from the repository (git fsck)";
    assert_eq!(merged(&mut core, hollow()), [gone]);
}

#[test]
fn a_fold_whose_objects_are_gone_is_made_again_and_not_for_ever() {
    let gone = || Input::Folded(Err(NotFolded::Gone("f00d is gone".to_owned())));
    let mut core = core_of(TRAIN, FailFast::No);
    let first = vec![ended(&core, "before", AttemptEnd::Succeeded), changed(&core, "first")];
    assert!(merged(&mut core, first).is_empty());
    let tries = (0..REFOLDS_MAX).flat_map(|_| merged(&mut core, vec![gone()])).collect::<Vec<_>>();
    assert_eq!(tries, Vec::<String>::new());
    let landed = vec![folded(vec![clean("first")]), Input::Moved(TargetMove::Done)];
    assert_eq!(merged(&mut core, landed), ["first landed"]);
    let second = changed(&core, "second");
    assert!(merged(&mut core, vec![second]).is_empty());
    for _ in 0..=REFOLDS_MAX {
        assert!(!core.is_done() && merged(&mut core, vec![gone()]).is_empty());
    }
    let others = ["on-first", "on-second"].map(|id| ended(&core, id, AttemptEnd::Succeeded));
    assert!(merged(&mut core, others.into()).is_empty());
    let (_, cause) = core.ending();
    assert_eq!(cause.as_deref(), Some("results could not be merged: f00d is gone"));
}

#[test]
fn what_needs_a_change_that_is_parked_in_its_own_batch_is_parked_in_its_place() {
    let mut core = core_of(TRAIN, FailFast::No);
    let mut inputs =
        ["first", "second", "on-first", "on-second"].map(|id| changed(&core, id)).into_iter().collect::<Vec<_>>();
    inputs.push(ended(&core, "before", AttemptEnd::Succeeded));
    inputs.push(folded(vec![conflict(), clean("second"), FoldedMember::Waits, clean("on-second")]));
    inputs.push(Input::Moved(TargetMove::Done));
    let on_first = "on-first parked: it builds on `first`, which is parked";
    assert_eq!(merged(&mut core, inputs), ["first parked: they differ", "second landed", on_first, "on-second landed"]);
}

/// A task and a fan-out beside it, and nothing lands unless all does.
const ALL: &str = r#"
version = 1
name = "story"
merge = { publish = "all-or-nothing", on-conflict = ["rerun", "park"] }
tasks.first.run = "true"
tasks.second.run = "true"
tasks.fan = { run = "true", foreach = { item = { lines = "ls" } } }
"#;

#[test]
fn a_fan_out_without_items_keeps_all_or_nothing_from_landing() {
    let mut core = core_of(ALL, FailFast::No);
    let fan = core.graph().plan().task_by_name("fan").expect("part of the plan");
    let inputs = vec![
        changed(&core, "first"),
        ended(&core, "second", AttemptEnd::Succeeded),
        Input::Items(fan, Err(NoItems::Work("`ls` exited with 2".to_owned()))),
        folded(vec![clean("first")]),
    ];
    let parked = "first parked: the plan publishes all or nothing, and `fan` did not pass";
    assert_eq!(merged(&mut core, inputs), [parked]);
    assert!(core.is_done());
}

/// A change, one that builds on it, and one that conflicts as it does.
const WAITS: &str = r#"
version = 1
name = "story"
merge = { publish = "all-or-nothing", on-conflict = ["rerun", "park"] }
tasks.first.run = "true"
tasks.second.run = "true"
tasks.on-first = { run = "true", needs = ["first"] }
"#;

#[test]
fn what_needs_a_task_that_ran_again_is_made_again_when_what_came_back_has_had_its_turn() {
    let mut core = core_of(WAITS, FailFast::No);
    let changes = ["first", "second", "on-first"].map(|id| changed(&core, id)).into_iter();
    changes.for_each(|input| core.handle(input, 0.5));
    let conflicts = folded(vec![conflict(), conflict(), FoldedMember::Waits]);
    let again = vec![conflicts, ended(&core, "first", AttemptEnd::Succeeded), changed(&core, "second")];
    again.into_iter().for_each(|input| core.handle(input, 0.5));
    let (events, _) = core.take();
    let stale = |event: &RunEvent| match event {
        RunEvent::Evicted { instance, kind: RefusalKind::Stale, .. } => Some(instance.0.to_string()),
        _ => None,
    };
    assert!(events.iter().filter_map(stale).eq(["on-first"]), "{events:?}");
    let Some([RunEvent::Merged { instance, fate: Fate::Empty }, RunEvent::Requeued { instances }]) =
        events.last_chunk()
    else {
        panic!("both are said at once: {events:?}");
    };
    assert_eq!((&*instance.0, &*instances[0].0, instances.len()), ("first", "second", 1));
    core.handle(folded(vec![clean("second")]), 0.5);
    let (_, actions) = core.take();
    let started = |action: &Action| matches!(action, Action::Attempt(job) if &*job.name.0 == "on-first");
    assert!(actions.iter().any(started), "{actions:?}");
}

/// `WAITS` up to where `on-first` is made again, because `first` was.
fn made_again() -> RunCore {
    let mut core = core_of(WAITS, FailFast::No);
    let changes = ["first", "second", "on-first"].map(|id| changed(&core, id)).into_iter();
    changes.for_each(|input| core.handle(input, 0.5));
    let again = [folded(vec![conflict(), clean("second"), FoldedMember::Waits]), changed(&core, "first")];
    again.into_iter().for_each(|input| core.handle(input, 0.5));
    core.handle(folded(vec![clean("first")]), 0.5);
    core.take();
    core
}

#[test]
fn what_is_made_again_behind_its_need_may_still_run_again_against_a_conflict() {
    let mut core = made_again();
    let made = changed(&core, "on-first");
    core.handle(made, 0.5);
    core.handle(folded(vec![conflict()]), 0.5);
    let (events, actions) = core.take();
    let evicted = |event: &RunEvent| matches!(event, RunEvent::Evicted { kind: RefusalKind::Conflict, .. });
    assert!(events.iter().any(evicted), "{events:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Attempt(_))), "{actions:?}");
}

/// The changes that are being folded since the last call.
fn folding(core: &mut RunCore) -> Vec<String> {
    let batch = |action| match action {
        Action::Fold { batch, .. } => Some(batch),
        _ => None,
    };
    core.take().1.into_iter().filter_map(batch).flatten().map(|landing| landing.name.to_string()).collect()
}

#[test]
fn of_a_target_that_keeps_moving_ever_smaller_batches_are_tried() {
    let mut core = core_of(TRAIN, FailFast::No);
    for id in ["second", "first", "on-second", "on-first", "before"] {
        core.handle(changed(&core, id), 0.5);
    }
    assert_eq!(folding(&mut core), ["before", "first", "second", "on-first", "on-second"]);
    let names = ["before", "first", "second", "on-first", "on-second"];
    let lost =
        |of: usize| [folded(names[..of].iter().map(|name| clean(name)).collect()), Input::Moved(TargetMove::Lost)];
    let then = |core: &mut RunCore, inputs: [Input; 2]| {
        inputs.into_iter().for_each(|input| core.handle(input, 0.5));
        folding(core)
    };
    assert_eq!(then(&mut core, lost(5)), names[..3]);
    assert_eq!(then(&mut core, lost(3)), names[..2]);
    let [batch, _] = lost(2);
    // What has landed once was small enough: it is tried with more.
    assert_eq!(then(&mut core, [batch, Input::Moved(TargetMove::Done)]), names[2..4]);
}

#[test]
fn what_fails_behind_its_need_is_parked_as_it_was() {
    let mut core = made_again();
    let failed = ended(&core, "on-first", AttemptEnd::Outputs { detail: "none".to_owned() });
    let parked = merged(&mut core, vec![failed]);
    assert!(parked[0].starts_with("on-first parked: a task that it needs ran again; its second try"), "{parked:?}");
}

const LOOKS: &str = r#"
version = 1
name = "story"
merge = { on-conflict = ["rerun", "park"] }
tasks.first.run = "true"
tasks.look = { run = "true", needs = ["first"] }
tasks.on-look = { run = "true", needs = ["look"] }
"#;

/// An instance passes and has changed nothing.
fn unchanged(core: &RunCore, id: &str) -> Input {
    let mut input = changed(core, id);
    if let Input::Attempt(_, done) = &mut input
        && let Some(change) = &mut done.change
    {
        change.tree.clone_from(&change.base_tree);
    }
    input
}

fn starts(core: &mut RunCore) -> Vec<String> {
    let name = |action: Action| match action {
        Action::Attempt(job) => Some(job.name.0.to_string()),
        _ => None,
    };
    core.take().1.into_iter().filter_map(name).collect()
}

/// `LOOKS` up to where `first` was made again and has landed.
fn looks_again() -> RunCore {
    let mut core = core_of(LOOKS, FailFast::No);
    let first = [changed(&core, "first"), folded(vec![conflict()])];
    first.into_iter().for_each(|input| core.handle(input, 0.5));
    let others = [unchanged(&core, "look"), changed(&core, "on-look"), changed(&core, "first")];
    others.into_iter().for_each(|input| core.handle(input, 0.5));
    core.handle(folded(vec![clean("first")]), 0.5);
    core.take();
    core.handle(Input::Moved(TargetMove::Done), 0.5);
    core
}

#[test]
fn what_only_looked_at_what_is_made_again_looks_again_before_what_stands_on_it() {
    let mut core = looks_again();
    assert_eq!(starts(&mut core), ["look"]);
    let looked = unchanged(&core, "look");
    core.handle(looked, 0.5);
    assert_eq!(starts(&mut core), ["on-look"]);
}

#[test]
fn what_looks_again_and_fails_is_parked_with_what_stands_on_it() {
    let mut core = looks_again();
    core.take();
    let failed = ended(&core, "look", AttemptEnd::Work { ended: swarm_protocol::Ended::Exited { code: 1 } });
    let parked = merged(&mut core, vec![failed]);
    assert!(parked[0].starts_with("look parked: a task that it needs ran again; its second try"), "{parked:?}");
    assert_eq!(parked[1], "on-look parked: it builds on `look`, which is parked");
}

#[test]
fn what_only_looked_is_settled_with_what_it_looked_at() {
    let mut core = core_of(LOOKS, FailFast::No);
    let all = vec![changed(&core, "first"), unchanged(&core, "look")];
    assert_eq!(merged(&mut core, all), Vec::<String>::new());
    let landed = vec![folded(vec![clean("first")]), Input::Moved(TargetMove::Done)];
    assert_eq!(merged(&mut core, landed), ["first landed", "look empty"]);
}

/// `second` contradicts `other`, runs again behind it, and from then on stands on it.
const CONTRADICTED: &str = r#"
version = 1
name = "story"
merge = { on-conflict = ["rerun", "park"] }
tasks.other.run = "true"
tasks.first.run = "true"
tasks.second.run = "true"
tasks.on-both = { run = "true", needs = ["first", "second"] }
"#;

/// `CONTRADICTED` until all that `on-both` needs is settled: `second` as what comes of its second try.
fn settled(second: impl Fn(&RunCore) -> Vec<Input>) -> RunCore {
    let mut core = core_of(CONTRADICTED, FailFast::No);
    // In this order they are one batch.
    let all = ["first", "second", "other"].map(|id| changed(&core, id));
    all.into_iter().for_each(|input| core.handle(input, 0.5));
    let waits = ended(&core, "on-both", AttemptEnd::Needs { detail: "they contradict each other".to_owned() });
    let landed = vec![waits, folded(vec![clean("other"), clean("first"), conflict()]), Input::Moved(TargetMove::Done)];
    landed.into_iter().chain(second(&core)).for_each(|input| core.handle(input, 0.5));
    core
}

/// What `on-both` was started on, and its result.
fn on_both(core: &mut RunCore) -> Vec<String> {
    let told = |event| match event {
        RunEvent::AttemptStarted { instance, on, .. } if &*instance.0 == "on-both" => {
            Some(on.unwrap_or_else(|| "its needs".to_owned()))
        }
        RunEvent::InstanceFinished { instance, result, .. } if &*instance.0 == "on-both" => {
            Some(result.name().to_owned())
        }
        _ => None,
    };
    core.take().0.into_iter().filter_map(told).collect()
}

#[test]
fn whose_needs_have_landed_and_contradict_each_other_without_the_others_starts_from_what_landed() {
    let mut core = settled(|core| {
        vec![changed(core, "second"), folded(vec![clean("second again")]), Input::Moved(TargetMove::Done)]
    });
    assert_eq!(on_both(&mut core), ["its needs", "its needs"]);
    let waits = ended(&core, "on-both", AttemptEnd::Needs { detail: "they contradict each other".to_owned() });
    let passes = changed(&core, "on-both");
    [waits, passes].into_iter().for_each(|input| core.handle(input, 0.5));
    assert_eq!(on_both(&mut core), ["second again", "succeeded"]);
}

#[test]
fn whose_needs_contradict_each_other_and_did_not_all_land_fails() {
    let mut core = settled(|core| vec![ended(core, "second", AttemptEnd::Outputs { detail: "none".to_owned() })]);
    let waits = ended(&core, "on-both", AttemptEnd::Needs { detail: "they contradict each other".to_owned() });
    core.handle(waits, 0.5);
    assert_eq!(on_both(&mut core), ["its needs", "its needs", "failed"]);
    assert!(core.is_done());
}
