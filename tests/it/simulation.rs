//! Thousands of runs without a process: random plans, ends, retries and stops against the pure core of the dispatcher, and
//! what must hold in every one of them. `SWARM_SEEDS=10000` tries more; a failure names the seed that shows it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use swarm_orchestrator::dispatcher::core::{
    Action, AttemptDone, FailFast, FoldedBatch, Input, Landing, Options, RunCore, RunFacts, StopCause, TargetMove,
};
use swarm_orchestrator::event::{AttemptEnd, ChangeSummary, Fate, InstanceResult, OnFailure, RunEvent};
use swarm_plans::{InstanceIx, TaskGraph, TaskIx};
use swarm_protocol::Ended;

/// Random plans tried when nobody asks for more.
const SEEDS: u64 = 400;
/// Inputs that a run of a dozen tasks needs at most; more means that it goes in circles.
const STEPS_MAX: usize = 20_000;

/// Numbers that look random and are the same for the same seed: the generator splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % sides as u64) as usize
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

fn random_plan(dice: &mut Dice) -> String {
    let count = 1 + dice.below(12);
    let mut plan = String::from("version = 1\nname = 'sim'\n[resources]\nbench = 2\n");
    for task in 0..count {
        let mut needs: Vec<usize> = (0..task).filter(|_| dice.one_in(3)).collect();
        let mut keys = String::new();
        match dice.below(8) {
            0 if task > 0 => {
                let source = dice.below(task);
                needs.retain(|need| *need != source);
                needs.push(source);
                writeln!(keys, "foreach.it = 'needs.t{source}.outputs.all'").expect("memory");
            }
            1 => keys.push_str("foreach.it = { lines = 'ls' }\n"),
            2 => keys.push_str("matrix = { a = [1, 2], b = ['x', 'y'] }\n"),
            _ => keys.push_str("outputs.all = { json = 'l.json' }\n"),
        }
        // Only a task that is one instance has an output to fan out over; others are no source.
        let names: Vec<String> = needs.iter().map(|need| format!("'t{need}'")).collect();
        if dice.one_in(5) {
            keys.push_str("allow-failure = true\n");
        }
        if dice.one_in(8) {
            keys.push_str("if = 'false'\n");
        }
        if dice.one_in(3) {
            keys.push_str("retry = { max = 2, on = ['exit', 'infra', 'timeout'], delay = '1ms' }\n");
        }
        if dice.one_in(4) {
            writeln!(keys, "resources = {{ bench = {} }}", dice.below(3)).expect("memory");
        }
        writeln!(plan, "[tasks.t{task}]\nrun = 'true'\nneeds = [{}]\n{keys}", names.join(", ")).expect("memory");
    }
    plan
}

/// What is owed to the core.
enum Owed {
    Attempt { instance: InstanceIx },
    Items(TaskIx),
    Retry(InstanceIx),
    Fold(Vec<Landing>),
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
}

impl World {
    fn new(graph: TaskGraph, mut dice: Dice) -> World {
        let jobs = 1 + dice.below(4);
        let fail_fast = if dice.one_in(4) { FailFast::Yes } else { FailFast::No };
        let facts = RunFacts { name: "sim".to_owned(), id: "sim-1".to_owned(), ..RunFacts::default() };
        let core = RunCore::new(graph, Options { jobs, fail_fast, facts, grace_ms: 5 }, &|_| None);
        World { core, dice, jobs, owed: vec![], tip: None, commits: 0, stopped: false, log: Log::default() }
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
            Action::Attempt(job) => self.owed.push(Owed::Attempt { instance: job.instance }),
            Action::Items { task, .. } => self.owed.push(Owed::Items(task)),
            Action::RetryIn { instance, .. } => self.owed.push(Owed::Retry(instance)),
            Action::Fold(batch) => self.owed.push(Owed::Fold(batch)),
            Action::MoveTarget { from, to } => {
                assert_eq!(
                    self.log.intent.take(),
                    Some((from.clone(), to.clone())),
                    "the target moves behind its intent only"
                );
                self.owed.push(Owed::Move { from, to });
            }
            Action::CancelAll { .. } => self.stopped = true,
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
            Owed::Items(task) => Input::Items(task, self.items()),
            Owed::Retry(instance) => Input::RetryDue(instance),
            Owed::Fold(batch) => self.fold(&batch),
            Owed::Move { from, to } => self.move_target(from.as_ref(), to),
        }
    }

    fn items(&mut self) -> Result<Vec<Value>, String> {
        if self.dice.one_in(8) {
            return Err("`ls` exited with 1".to_owned());
        }
        Ok((0..self.dice.below(4)).map(|item| json!(format!("item{item}"))).collect())
    }

    fn attempt_end(&mut self) -> AttemptDone {
        let work = |ended| AttemptEnd::Work { ended };
        let end = match (self.stopped, self.dice.below(10)) {
            (true, 0..7) => work(Ended::Cancelled),
            (_, 0) => work(Ended::Exited { code: 1 }),
            (_, 1) => work(Ended::TimedOut),
            (_, 2) => AttemptEnd::Infra { detail: String::new() },
            (_, 3) => AttemptEnd::Violation { detail: String::new(), paths: vec![] },
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
        let change = ChangeSummary { base_tree: "base".to_owned(), commit, tree, files: 1 };
        let change = (end == AttemptEnd::Succeeded).then_some(change);
        AttemptDone { end, duration_ms: 1, change, outputs, notes: vec![] }
    }

    fn fold(&mut self, batch: &[Landing]) -> Input {
        self.commits += 1;
        let to = format!("tip{}", self.commits);
        let fate = |dice: &mut Dice| match dice.one_in(4) {
            true => Fate::Parked { reason: "conflict".to_owned(), paths: vec![] },
            false => Fate::Landed { commit: to.clone() },
        };
        let fates: Vec<_> = batch.iter().map(|landing| (landing.instance, fate(&mut self.dice))).collect();
        let lands = fates.iter().any(|(_, fate)| matches!(fate, Fate::Landed { .. }));
        let to = if lands { Some(to) } else { self.tip.clone() };
        Input::Folded(FoldedBatch { from: self.tip.clone(), to, fates })
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
                    let before = self.added.insert(one.id.0.clone(), (one.task, one.needs, one.on_failure));
                    assert!(before.is_none(), "{} joins once", one.id);
                }
            }
            RunEvent::AttemptStarted { instance, attempt } => {
                self.needs_are_met(&instance.0);
                assert!(!self.results.contains_key(&instance.0), "{instance} starts after its end");
                let count = self.attempts.entry(instance.0.clone()).or_default();
                *count += 1;
                assert_eq!(attempt.0, *count, "{instance}");
                self.resting.remove(&instance.0);
                assert!(self.running.insert(instance.0, attempt.0).is_none(), "one attempt at a time");
                assert!(self.running.len() <= jobs, "{} run at once", self.running.len());
            }
            RunEvent::AttemptFinished { instance, attempt, change, retry_in_ms, .. } => {
                assert_eq!(self.running.remove(&instance.0), Some(attempt.0), "{instance} ends what it started");
                if change.is_some_and(|change| change.tree != change.base_tree) {
                    self.changed.insert(instance.0.clone());
                }
                if retry_in_ms.is_some() {
                    self.resting.insert(instance.0);
                }
            }
            RunEvent::InstanceFinished { instance, result, .. } => {
                assert!(!self.running.contains_key(&instance.0), "{instance} finishes behind its attempt");
                assert!(self.added.contains_key(&instance.0), "{instance} was never added");
                assert!(self.results.insert(instance.0.clone(), result).is_none(), "{instance} ends once");
            }
            RunEvent::Landing { from, to } => self.intent = Some((from, to)),
            RunEvent::Merged { instance, fate } => {
                assert!(self.results[&instance.0].passed(), "{instance} is merged without having passed");
                self.merged.push((instance.0, fate));
            }
            RunEvent::RunStarted { .. } | RunEvent::RunFinished { .. } => unreachable!("the run writes these"),
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

    /// What must hold when all is done.
    fn settle(&self, graph: &TaskGraph) {
        assert!(self.running.is_empty(), "{:?} never end", self.running);
        for id in self.added.keys() {
            assert!(self.results.contains_key(id), "{id} has no result");
        }
        let names: BTreeSet<&String> = self.merged.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), self.merged.len(), "merged once");
        for (id, result) in self.results.iter().filter(|(_, result)| result.passed()) {
            assert!(names.contains(id), "{id} is {result:?} and was never merged");
        }
        let places: Vec<_> = self.merged.iter().filter(|(_, fate)| !matches!(fate, Fate::Empty)).collect();
        let place = |name: &str| {
            let ix = graph.instance_by_id(name).expect("it joined the graph");
            let task = graph.instance(ix).task;
            (level(graph, task), task, ix)
        };
        let settled: Vec<_> = places.iter().map(|(name, _)| place(name)).collect();
        // A change that builds on a parked one is parked as soon as its turn comes, while those before it may still be folding.
        let builds_on = |fate: &Fate| matches!(fate, Fate::Parked { reason, .. } if reason.starts_with("it builds on"));
        let landing: Vec<_> =
            settled.iter().zip(&places).filter(|(_, (_, fate))| !builds_on(fate)).map(|(place, _)| *place).collect();
        assert!(landing.is_sorted(), "merged out of order: {places:?}");
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
    world.log.settle(world.core.graph());
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
