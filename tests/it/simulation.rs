//! Thousands of runs without a process: random plans, ends, retries and stops against the pure core of the dispatcher, and
//! what must hold in every one of them. `SWARM_SEEDS=10000` tries more; a failure names the seed that shows it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use swarm_orchestrator::dispatcher::core::{
    Action, AttemptDone, FailFast, FoldedBatch, FoldedMember, Input, Landing, NoItems, NotFolded, Options, Reach,
    Reuse, ReuseResults, RunCore, RunFacts, StartAt, StopCause, TargetMove, Verification, VerifyDone,
};
use swarm_orchestrator::event::{
    AttemptEnd, ChangeSummary, Fate, GateVerdict, Handed, InstanceResult, OnFailure, ParkedBy, RefusalKind, RunEvent,
};
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::merge::train::search::Look;
use swarm_plans::scope::{Scope, Sense};
use swarm_plans::{InstanceIx, Overlap, Publish, TaskGraph, TaskIx};
use swarm_protocol::Ended;

use super::random_plan::Dice;

/// Random plans tried when nobody asks for more.
const SEEDS: u64 = 400;
/// Inputs that a run of a dozen tasks needs at most; more means that it goes in circles.
const STEPS_MAX: usize = 20_000;

fn random_plan(dice: &mut Dice) -> String {
    super::random_plan::random_plan(dice, random_merge, |dice| {
        let cache = if dice.one_in(3) { "cache = true\n" } else { "" };
        let retry = "retry = { max = 2, on = ['exit', 'infra', 'timeout'], delay = '1ms' }\n";
        format!("{cache}{}", if dice.one_in(3) { retry } else { "" })
    })
}

fn random_merge(dice: &mut Dice) -> String {
    let mut keys = String::new();
    if dice.one_in(2) {
        let batch = ["'auto'", "1", "2", "3"][dice.below(4)];
        let (parallel, retry) = (1 + dice.below(3), dice.below(2));
        writeln!(keys, "verify = {{ run = 'true', batch = {batch}, parallel = {parallel}, retry = {retry} }}")
            .expect("memory");
    }
    if dice.one_in(2) {
        keys.push_str("on-conflict = ['rerun', 'park']\n");
    }
    if dice.one_in(5) {
        keys.push_str("publish = 'all-or-nothing'\n");
    }
    if dice.one_in(2) {
        keys.push_str("overlap = 'serialize'\n");
    }
    format!("[merge]\n{keys}")
}

/// What is owed to the core.
enum Owed {
    Attempt { instance: InstanceIx },
    Reuse(Vec<InstanceIx>),
    Items(TaskIx),
    Retry(InstanceIx),
    Fold { batch: Vec<Landing>, onto: Option<String> },
    Verify(Verification),
    Move { from: Option<String>, to: String },
}

/// A world around the core that answers at random and watches what it does.
struct World {
    core: RunCore,
    dice: Dice,
    jobs: usize,
    owed: Vec<Owed>,
    tip: Option<String>,
    commits: u32,
    stopped: bool,
    cut: bool,
    /// The gate is red with these changes, by their commits.
    poison: BTreeSet<String>,
    /// The changes in each commit of the target, by their commits.
    content: BTreeMap<String, Vec<String>>,
    gated: bool,
    all_or_nothing: bool,
    red_base: bool,
    log: Log,
}

/// What the events said so far.
#[derive(Default)]
struct Log {
    added: BTreeMap<String, (String, Vec<String>, OnFailure)>,
    running: BTreeMap<String, u32>,
    attempts: BTreeMap<String, u32>,
    resting: BTreeSet<String>,
    results: BTreeMap<String, InstanceResult>,
    changed: BTreeSet<String>,
    merged: Vec<(String, Fate)>,
    intent: Option<(Option<String>, String)>,
    evicted: BTreeSet<String>,
    /// Those among them that something contradicted: the others stood on what is no more, as often as that happened.
    refused: BTreeSet<String>,
    /// Commits that the gate let through; the world's trees have the names of their commits.
    green: BTreeSet<String>,
}

impl World {
    fn new(graph: TaskGraph, mut dice: Dice) -> World {
        let jobs = 1 + dice.below(4);
        let fail_fast = if dice.one_in(4) { FailFast::Yes } else { FailFast::No };
        let facts =
            RunFacts { name: "sim".to_owned(), id: "sim-1".to_owned(), base: "base".to_owned(), ..RunFacts::default() };
        let core =
            RunCore::new(graph, Options { jobs, fail_fast, facts, grace_ms: 5, reuse: ReuseResults::Yes }, &|_| None);
        let merge = &core.graph().plan().merge;
        let (gated, all_or_nothing) = (merge.verify.is_some(), merge.publish == Publish::AllOrNothing);
        let red_base = dice.one_in(20);
        World {
            core,
            dice,
            jobs,
            owed: vec![],
            tip: None,
            commits: 0,
            stopped: false,
            cut: false,
            poison: BTreeSet::new(),
            content: BTreeMap::from([("base".to_owned(), vec![])]),
            gated,
            all_or_nothing,
            red_base,
            log: Log::default(),
        }
    }

    fn run(&mut self) {
        self.core.pump();
        for _ in 0..STEPS_MAX {
            let (events, actions) = self.core.take();
            for event in events {
                self.log.hear(event, self.jobs);
            }
            actions.into_iter().for_each(|action| self.owe(action));
            if self.core.is_done() {
                return;
            }
            let input = self.next_input();
            let spread = self.dice.below(1000) as f64 / 1000.0;
            self.core.handle(input, spread);
        }
        panic!("it goes in circles");
    }

    fn owe(&mut self, action: Action) {
        match action {
            Action::Attempt(job) => {
                if job.start == StartAt::Needs {
                    self.expect_turn(job.instance);
                }
                self.owed.push(Owed::Attempt { instance: job.instance });
            }
            Action::Reuse(jobs) => self.owed.push(Owed::Reuse(jobs.iter().map(|job| job.instance).collect())),
            Action::Items { task, .. } => self.owed.push(Owed::Items(task)),
            Action::RetryIn { instance, .. } => self.owed.push(Owed::Retry(instance)),
            Action::Fold { batch, onto, .. } => self.owed.push(Owed::Fold { batch, onto }),
            Action::Verify(verification) => self.owed.push(Owed::Verify(verification)),
            Action::MoveTarget { from, to } => {
                assert_eq!(
                    self.log.intent.take(),
                    Some((from.clone(), to.clone())),
                    "the target moves behind its intent only"
                );
                let verified = self.log.green.contains(&to);
                assert!(!self.gated || verified, "{to} was never verified, or is red");
                self.owed.push(Owed::Move { from, to });
            }
            Action::CancelAll { reach, .. } => {
                self.stopped = true;
                self.cut |= reach == Reach::Everything;
            }
        }
    }

    /// Under `overlap = "serialize"` nothing runs beside what may change the same.
    fn expect_turn(&self, instance: InstanceIx) {
        let graph = self.core.graph();
        if graph.plan().merge.overlap == Overlap::Parallel {
            return;
        }
        let scope = |ix: InstanceIx| Scope::new(graph.writes_before(ix).expect("nothing to render").as_deref());
        for owed in &self.owed {
            let Owed::Attempt { instance: other } = owed else { continue };
            let met = scope(instance).meets(&scope(*other), Sense::Alike, &mut 0);
            assert!(met.is_none(), "{} runs beside {}", graph.instance(instance).id, graph.instance(*other).id);
        }
    }

    fn next_input(&mut self) -> Input {
        if self.dice.one_in(150) {
            let causes = [StopCause::Deadline, StopCause::Interrupted(2), StopCause::Killed(15)];
            return Input::Stop(causes[self.dice.below(causes.len())]);
        }
        assert!(!self.owed.is_empty(), "nothing runs, nothing waits, and it is not done");
        let at = self.dice.below(self.owed.len());
        match self.owed.swap_remove(at) {
            Owed::Attempt { instance } => Input::Attempt(instance, Box::new(self.attempt_end())),
            Owed::Reuse(instances) => Input::Reused(instances.into_iter().map(|ix| (ix, self.reuse())).collect()),
            Owed::Items(task) => Input::Items(task, self.items()),
            Owed::Retry(instance) => Input::RetryDue(instance),
            Owed::Fold { batch, onto } => self.fold(&batch, onto),
            Owed::Verify(verification) => self.verify(&verification),
            Owed::Move { from, to } => self.move_target(from.as_ref(), to),
        }
    }

    fn items(&mut self) -> Result<Vec<Value>, NoItems> {
        if self.dice.one_in(8) {
            return Err(NoItems::Work("`ls` exited with 1".to_owned()));
        }
        Ok((0..self.dice.below(4)).map(|item| json!(format!("item{item}"))).collect())
    }

    fn reuse(&mut self) -> Option<Reuse> {
        if self.dice.one_in(2) {
            return None;
        }
        self.commits += 1;
        let (tree, commit) = (format!("tree{}", self.commits), format!("commit{}", self.commits));
        let change =
            ChangeSummary { base_tree: "base".to_owned(), commit, tree, files: 1, history: None, writes: None };
        let change = (!self.dice.one_in(3)).then_some(change);
        let outputs = Map::from_iter([("all".to_owned(), (0..self.dice.below(4)).collect())]);
        Some(Reuse {
            key: String::new(),
            from: RunId("sim-0".to_owned()),
            saved_ms: 1,
            change,
            outputs,
            handed: Handed::Unknown,
            notes: vec![],
        })
    }

    fn attempt_end(&mut self) -> AttemptDone {
        let work = |ended| AttemptEnd::Work { ended };
        let end = match (self.stopped, self.dice.below(10)) {
            (true, 0..7) => work(Ended::Cancelled),
            (_, 0) => work(Ended::Exited { code: 1 }),
            (_, 1) => work(Ended::TimedOut),
            (_, 2) => AttemptEnd::Infra { detail: String::new() },
            (_, 3) => AttemptEnd::Violation { detail: String::new(), paths: vec![], allow_with: None },
            _ => AttemptEnd::Succeeded,
        };
        let mut outputs = Map::new();
        if end == AttemptEnd::Succeeded && !self.dice.one_in(6) {
            let items = self.dice.below(4);
            outputs.insert("all".to_owned(), (0..items).collect());
        }
        self.commits += 1;
        let tree = if self.dice.one_in(3) { "base".to_owned() } else { format!("tree{}", self.commits) };
        let commit = format!("commit{}", self.commits);
        if self.dice.one_in(8) {
            self.poison.insert(commit.clone());
        }
        let change =
            ChangeSummary { base_tree: "base".to_owned(), commit, tree, files: 1, history: None, writes: None };
        let change = (end == AttemptEnd::Succeeded).then_some(change);
        AttemptDone {
            end,
            duration_ms: 1,
            change,
            outputs,
            handed: Handed::Unknown,
            notes: vec![],
            refusals: vec![],
            envelope: None,
        }
    }

    fn fold(&mut self, batch: &[Landing], onto: Option<String>) -> Input {
        if self.dice.one_in(60) {
            return Input::Folded(Err(NotFolded::Failed("no memory".to_owned())));
        }
        let from = if onto.is_some() { None } else { self.tip.clone() };
        let tip = onto.or_else(|| self.tip.clone()).unwrap_or_else(|| "base".to_owned());
        let mut last = tip.clone();
        let mut refused = Vec::new();
        let mut members = Vec::new();
        for landing in batch {
            let member = if landing.stands_on().any(|need| refused.contains(&need)) {
                FoldedMember::Waits
            } else if self.dice.one_in(5) {
                FoldedMember::Conflict { reason: "conflict".to_owned(), paths: vec![] }
            } else {
                self.commits += 1;
                let commit = format!("tip{}", self.commits);
                let mut content = self.content.get(&last).cloned().unwrap_or_default();
                content.push(landing.change.commit.clone());
                self.content.insert(commit.clone(), content);
                last.clone_from(&commit);
                FoldedMember::Clean { commit }
            };
            if !matches!(member, FoldedMember::Clean { .. }) {
                refused.push(landing.instance);
            }
            members.push(member);
        }
        Input::Folded(Ok(FoldedBatch { from, tip: tip.clone(), tip_tree: tip, members }))
    }

    fn verify(&mut self, asked: &Verification) -> Input {
        let content = self.content.get(&asked.commit).cloned().unwrap_or_default();
        let red = content.iter().any(|change| self.poison.contains(change)) || self.red_base;
        let verdict = match self.dice.below(30) {
            _ if self.cut => GateVerdict::Broken,
            0 => GateVerdict::Broken,
            1..=3 if asked.look == Look::Warm => GateVerdict::Red,
            4..=6 if asked.look == Look::Warm => GateVerdict::Green,
            1 => GateVerdict::Red,
            _ if red => GateVerdict::Red,
            _ => GateVerdict::Green,
        };
        let (tree, of, look) = (asked.commit.clone(), asked.of.clone(), asked.look);
        let done = VerifyDone { tree, gate: String::new(), of, look, verdict, duration_ms: 1, detail: None };
        Input::Verified(asked.number, Box::new(done))
    }

    fn move_target(&mut self, from: Option<&String>, to: String) -> Input {
        assert_eq!(from, self.tip.as_ref(), "it moves from where it is");
        Input::Moved(match self.dice.below(12) {
            0 => {
                self.commits += 1;
                self.tip = Some(format!("theirs{}", self.commits));
                TargetMove::Lost
            }
            1 => TargetMove::Refused("read-only".to_owned()),
            2 => TargetMove::Hollow,
            _ => {
                self.tip = Some(to);
                TargetMove::Done
            }
        })
    }
}

impl Log {
    fn hear(&mut self, event: RunEvent, jobs: usize) {
        match event {
            RunEvent::InstancesAdded { instances } => {
                for one in instances {
                    let before = self.added.insert(one.id.to_string(), (one.task, one.needs, one.on_failure));
                    assert!(before.is_none(), "{} joins once", one.id);
                }
            }
            RunEvent::AttemptStarted { instance, attempt, .. } => self.starts(instance.to_string(), attempt.0, jobs),
            RunEvent::AttemptFinished { instance, attempt, change, retry_in_ms, .. } => {
                assert_eq!(self.running.remove(&*instance.0), Some(attempt.0), "{instance} ends what it started");
                if change.is_some_and(|change| change.tree != change.base_tree) {
                    self.changed.insert(instance.to_string());
                }
                if retry_in_ms.is_some() {
                    self.resting.insert(instance.to_string());
                }
            }
            RunEvent::Reused { instances } => {
                instances.into_iter().for_each(|one| self.is_reused(one.instance.to_string(), one.change.is_some()));
            }
            RunEvent::InstanceFinished { instance, result, .. } => {
                assert!(!self.running.contains_key(&*instance.0), "{instance} finishes behind its attempt");
                assert!(self.added.contains_key(&*instance.0), "{instance} was never added");
                assert!(self.results.insert(instance.to_string(), result).is_none(), "{instance} ends once");
            }
            RunEvent::Verified { tree, verdict, .. } => {
                if verdict == GateVerdict::Green {
                    self.green.insert(tree);
                }
            }
            RunEvent::Evicted { instance, kind, .. } => {
                assert!(self.results[&*instance.0].passed(), "{instance} is evicted without having passed");
                self.evicted.insert(instance.to_string());
                let is_stale = kind == RefusalKind::Stale;
                assert!(
                    is_stale || self.refused.insert(instance.to_string()),
                    "each is run again once against a refusal"
                );
            }
            RunEvent::Requeued { instances } => {
                for instance in instances {
                    let merged = self.merged.iter().any(|(name, _)| **name == *instance.0);
                    assert!(!merged, "{instance} takes its turn again although it has its fate");
                }
            }
            RunEvent::Landing { from, to, .. } => self.intent = Some((from, to)),
            RunEvent::Merged { instance, fate } => {
                assert!(self.results[&*instance.0].passed(), "{instance} is merged without having passed");
                self.merged.push((instance.to_string(), fate));
            }
            RunEvent::ItemsFound { .. }
            | RunEvent::NeedsSettled { .. }
            | RunEvent::Noted { .. }
            | RunEvent::ModelAsked { .. }
            | RunEvent::ModelWaits { .. }
            | RunEvent::ModelDown { .. }
            | RunEvent::ModelCalled { .. } => {}
            RunEvent::RunStarted { .. }
            | RunEvent::RunResumed { .. }
            | RunEvent::Reopened { .. }
            | RunEvent::Retried { .. }
            | RunEvent::RunFinished { .. } => unreachable!("the run writes these"),
        }
    }

    fn starts(&mut self, id: String, attempt: u32, jobs: usize) {
        self.needs_are_met(&id);
        let again = self.evicted.contains(&id);
        assert!(again || !self.results.contains_key(&id), "{id} starts after its end");
        let count = self.attempts.entry(id.clone()).or_default();
        *count += 1;
        assert_eq!(attempt, *count, "{id}");
        self.resting.remove(&id);
        assert!(self.running.insert(id, attempt).is_none(), "one attempt at a time");
        assert!(self.running.len() <= jobs, "{} run at once", self.running.len());
    }

    fn is_reused(&mut self, id: String, has_changed: bool) {
        self.needs_are_met(&id);
        // The recorded result stands as its first.
        assert!(self.attempts.insert(id.clone(), 1).is_none(), "{id} ran before it was looked up");
        let before = self.results.insert(id.clone(), InstanceResult::Succeeded);
        assert!(before.is_none(), "{id} ends once");
        if has_changed {
            self.changed.insert(id);
        } else {
            self.merged.push((id, Fate::Empty));
        }
    }

    fn needs_are_met(&self, id: &str) {
        let (_, needs, _) = self.added.get(id).unwrap_or_else(|| panic!("{id} starts before it is added"));
        for need in needs {
            for (name, (task, _, on_failure)) in &self.added {
                if name == need || task == need {
                    let result = self.results.get(name);
                    let lets_on = |result: &InstanceResult| {
                        result.passed() || *result == InstanceResult::Skipped || *on_failure == OnFailure::Allow
                    };
                    assert!(result.is_some_and(lets_on), "{id} starts although {name} is {result:?}");
                }
            }
        }
    }

    /// A change that is parked for another's sake is parked behind that one.
    fn parked_for_others_come_behind_them(&self) {
        let mut parked = BTreeSet::new();
        for (name, fate) in &self.merged {
            if let Some(other) = because_of(fate) {
                assert!(parked.contains(other), "{name} is parked for {other}, which is not");
            }
            if matches!(fate, Fate::Parked { .. }) {
                parked.insert(name.as_str());
            }
        }
    }

    /// What must hold when all is done.
    fn settle(&self, graph: &TaskGraph, stopped: bool, all_or_nothing: bool) {
        assert!(self.running.is_empty(), "{:?} never end", self.running);
        for id in self.added.keys() {
            assert!(self.results.contains_key(id), "{id} has no result");
        }
        let names: BTreeSet<&String> = self.merged.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), self.merged.len(), "merged once");
        for (id, result) in self.results.iter().filter(|(_, result)| result.passed()) {
            // What stands behind a fan-out that has no items yet waits for whoever goes on with a run that was stopped.
            assert!(stopped || names.contains(id), "{id} is {result:?} and was never merged");
        }
        let landed = self.merged.iter().any(|(_, fate)| matches!(fate, Fate::Landed { .. }));
        let parked = self.merged.iter().any(|(_, fate)| matches!(fate, Fate::Parked { .. }));
        assert!(!(all_or_nothing && landed && parked), "all or nothing: {:?}", self.merged);
        self.parked_for_others_come_behind_them();
        if !self.evicted.is_empty() || (all_or_nothing && parked) {
            return;
        }
        let places: Vec<_> = self.merged.iter().filter(|(_, fate)| !matches!(fate, Fate::Empty)).collect();
        let place = |name: &str| {
            let ix = graph.instance_by_id(name).expect("it joined the graph");
            let task = graph.instance(ix).task;
            (level(graph, task), task, ix)
        };
        let settled: Vec<_> = places.iter().map(|(name, _)| place(name)).collect();
        // DESIGN orders what is folded. What stands on a parked change is not: its fate follows from that one's alone and says so,
        // so it is spoken of when its turn comes, while a batch of what is before it may still be on its way.
        let landing: Vec<_> = settled
            .iter()
            .zip(&places)
            .filter(|(_, (_, fate))| because_of(fate).is_none())
            .map(|(place, _)| *place)
            .collect();
        assert!(landing.is_sorted(), "merged out of order: {places:?}");
    }
}

/// For whose sake a change is parked, when not for its own.
fn because_of(fate: &Fate) -> Option<&str> {
    match fate {
        Fate::Parked { reason, by: ParkedBy::Need | ParkedBy::Stale, .. } => reason.split('`').nth(1),
        _ => None,
    }
}

fn level(graph: &TaskGraph, task: TaskIx) -> usize {
    graph.named_needs(task).iter().map(|need| level(graph, *need) + 1).max().unwrap_or(0)
}

fn simulate(seed: u64) {
    let mut dice = Dice(seed);
    let text = random_plan(&mut dice);
    let parsed = swarm_plans::parse("sim.toml", &text, &[], &mut |_| Err("no such file".to_owned()));
    // Some random plans are none: a fan-out over what is no list, for one.
    let Some(plan) = parsed.plan else { return };
    let graph = TaskGraph::expand(plan).expect("it was validated");
    let mut world = World::new(graph, dice);
    world.run();
    // A gate that cannot be run ends a run as a person does.
    let stopped = world.stopped || world.core.ending().1.is_some();
    world.log.settle(world.core.graph(), stopped, world.all_or_nothing);
}

#[test]
fn every_random_run_ends_and_keeps_its_promises() {
    let seeds = std::env::var("SWARM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "seed {seed} (the reason stands above):\n{}", random_plan(&mut Dice(seed)));
    }
}

#[test]
fn most_random_plans_are_plans() {
    let is_plan = |seed: &u64| {
        let text = random_plan(&mut Dice(*seed));
        swarm_plans::parse("sim.toml", &text, &[], &mut |_| Err(String::new())).plan.is_some()
    };
    assert!((0..SEEDS).filter(is_plan).count() as u64 > SEEDS / 2);
}
