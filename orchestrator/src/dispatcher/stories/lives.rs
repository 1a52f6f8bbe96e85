//! Stories in which a coordinator ends or dies, and another goes on from what the journal has.

use swarm_plans::InstanceId;

use super::*;
use crate::dispatcher::history::History;
use crate::event::GivenUp;

/// What a journal holds so far.
struct Told {
    plan: &'static str,
    events: Vec<RunEvent>,
}

impl Told {
    /// A first life, up to what these inputs come to.
    fn by(plan: &'static str, inputs: impl Fn(&RunCore) -> Vec<Input>) -> Told {
        let mut core = core_of(plan, FailFast::No);
        inputs(&core).into_iter().for_each(|input| core.handle(input, 0.5));
        Told { plan, events: core.take().0 }
    }

    /// A core of the next life, after a person asked for another try of these.
    fn next(&self, again: &[&str]) -> RunCore {
        let mut history = History::of(&self.events);
        let again: Vec<InstanceId> = again.iter().map(|&id| InstanceId(id.into())).collect();
        history.try_again(&again, None);
        let mut core = RunCore::resume(graph_of(self.plan), options(FailFast::No), &|_| None, &history).core;
        core.pump();
        core
    }
}

/// The instances of which an attempt is to be made now.
fn starts(core: &mut RunCore) -> Vec<String> {
    let name = |action: Action| match action {
        Action::Attempt(job) => Some(job.name.0.to_string()),
        _ => None,
    };
    core.take().1.into_iter().filter_map(name).collect()
}

/// Two changes, a task that fails, and one that needs it; nothing lands unless all does.
const WITHOUT: &str = r#"
version = 1
name = "story"
merge.publish = "all-or-nothing"
tasks.bad.run = "true"
tasks.first.run = "true"
tasks.second.run = "true"
tasks.on-bad = { run = "true", needs = ["bad"] }
"#;

fn drops(id: &str) -> RunEvent {
    RunEvent::Merged { instance: InstanceId(id.into()), fate: Fate::Dropped { was: GivenUp::Failed } }
}

#[test]
fn what_a_person_gave_up_is_not_tried_again_and_keeps_nobody_from_landing() {
    let by_itself = AttemptEnd::Outputs { detail: String::new() };
    let by_the_machine = AttemptEnd::Infra { detail: String::new() };
    let both = || folded(vec![clean("first"), clean("second")]);
    // Where the machine failed it, nothing is folded: what passed waits.
    for (end, batches, again) in [(by_itself, 1, &["first", "second"][..]), (by_the_machine, 0, &[])] {
        let mut told = Told::by(WITHOUT, |core| {
            let ends = [changed(core, "first"), changed(core, "second"), ended(core, "bad", end.clone())];
            ends.into_iter().chain((0..batches).map(|_| both())).collect()
        });
        told.events.push(drops("bad"));
        let mut core = told.next(again);
        assert_eq!(starts(&mut core), [""; 0]);
        let landed = merged(&mut core, vec![both(), Input::Moved(TargetMove::Done)]);
        assert_eq!(landed, ["first landed", "second landed"]);
        assert!(core.is_done());
        assert_eq!(starts(&mut told.next(&["bad"])), ["bad"], "the control: a person names it");
    }
}

#[test]
fn what_was_given_up_does_not_run_because_what_it_needs_runs_again() {
    const CHAIN: &str = "version = 1\nname = 'story'\nmerge.mode = 'none'\ntasks.first.run = 'true'\n\
                         tasks.bad = { run = 'true', needs = ['first'] }\n";
    let failed = || AttemptEnd::Outputs { detail: String::new() };
    let told = Told::by(CHAIN, |core| vec![ended(core, "first", AttemptEnd::Succeeded), ended(core, "bad", failed())]);
    let reopened = RunEvent::Reopened { instances: vec![InstanceId("first".into())] };
    let events = [told.events.clone(), vec![drops("bad"), reopened]].concat();
    let mut core = Told { events, ..told }.next(&[]);
    assert_eq!(starts(&mut core), ["first"]);
    let first = ended(&core, "first", AttemptEnd::Succeeded);
    assert_eq!(self::told(&mut core, vec![first]), ["first succeeded", "bad cancelled"]);
    assert!(core.is_done() && starts(&mut core).is_empty());
}

#[test]
fn a_fan_out_that_was_given_up_is_not_asked_for_its_items_again() {
    const FAN: &str = "version = 1\nname = 'story'\nmerge.mode = 'none'\ntasks.bad.run = 'true'\n\
                       tasks.fan = { run = 'true', foreach.x = { lines = 'exit 3' } }\n";
    let asks = |core: &mut RunCore| core.take().1.into_iter().any(|action| matches!(action, Action::Items { .. }));
    let failed = || AttemptEnd::Outputs { detail: String::new() };
    let mut told = Told::by(FAN, |core| {
        let task = core.graph().plan().task_by_name("fan").expect("it is named");
        let items = Input::Items(task, Err(NoItems::Work("exited with 3".to_owned())));
        vec![ended(core, "bad", failed()), items]
    });
    assert!(asks(&mut told.next(&["fan"])), "the control: a person names it");
    told.events.push(drops("fan"));
    // Two lives behind it, the second behind what the first wrote.
    for _ in 0..2 {
        let mut core = told.next(&["bad"]);
        let (events, actions) = core.take();
        assert!(!actions.iter().any(|action| matches!(action, Action::Items { .. })), "{actions:?}");
        told.events.extend(events);
        let more = ended(&core, "bad", failed());
        core.handle(more, 0.5);
        assert!(core.is_done());
        told.events.extend(core.take().0);
    }
    let history = History::of(&told.events);
    let fan = history.instance(&InstanceId("fan".into())).and_then(|past| past.fate);
    assert_eq!(fan, Some(crate::dispatcher::history::Became::GivenUp));
}

/// Two changes that contradict each other, and a task that needs both.
const CONTRADICT: &str = r#"
version = 1
name = "story"
merge.on-conflict = ["rerun"]
tasks.a.run = "true"
tasks.b.run = "true"
tasks.c = { run = "true", needs = ["a", "b"] }
"#;

fn no_tree(core: &RunCore) -> Input {
    ended(core, "c", AttemptEnd::Needs { detail: "they contradict each other".to_owned() })
}

/// `a` has landed, `b` runs again on it, and `c` waits until that is settled.
fn b_runs_again(core: &RunCore) -> Vec<Input> {
    let moved = || Input::Moved(TargetMove::Done);
    let ends = vec![changed(core, "a"), changed(core, "b"), no_tree(core)];
    ends.into_iter().chain([folded(vec![clean("a")]), moved(), folded(vec![conflict()])]).collect()
}

/// `b` lands on top of `a`.
fn b_lands(core: &RunCore) -> Vec<Input> {
    vec![changed(core, "b"), folded(vec![clean("b")]), Input::Moved(TargetMove::Done)]
}

/// The commits of the target that attempts start from, where they do.
fn started_on(events: &[RunEvent]) -> Vec<(String, Option<String>)> {
    let start = |event: &RunEvent| match event {
        RunEvent::AttemptStarted { instance, on, .. } => Some((instance.0.to_string(), on.clone())),
        _ => None,
    };
    events.iter().filter_map(start).collect()
}

#[test]
fn who_waits_for_its_needs_goes_on_waiting_behind_a_kill() {
    let mut core = Told::by(CONTRADICT, b_runs_again).next(&[]);
    assert_eq!(starts(&mut core), ["b"], "what is tried with it was lost, and `c` waits for that");
    b_lands(&core).into_iter().for_each(|input| core.handle(input, 0.5));
    assert_eq!(starts(&mut core), ["c"]);
}

#[test]
fn who_starts_from_what_landed_does_so_again_behind_a_kill() {
    let told = Told::by(CONTRADICT, |core| {
        b_runs_again(core).into_iter().chain(b_lands(core)).chain([no_tree(core)]).collect()
    });
    let on_tip = ("c".to_owned(), Some("b".to_owned()));
    assert_eq!(started_on(&told.events).last(), Some(&on_tip), "{:?}", told.events);
    let mut core = told.next(&[]);
    assert_eq!(started_on(&core.take().0), [on_tip]);
}
