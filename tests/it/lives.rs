//! Random runs whose coordinator dies or is stopped at random moments and is resumed, again and again, without processes:
//! what was not yet in the journal is lost, what had been done to the target stays. In some lives the disk is full. In the end every result, every fate and
//! the history of the target are those of the same plan in one undisturbed life.
//!
//! `SWARM_SEEDS=1000000` tries more; a failure names the seed, and `SWARM_SEED` tries that one only. The core knows no clock, so a clock that
//! jumps can only change the order in which waits end, and that order is random here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};
use swarm_orchestrator::dispatcher::core::{
    Action, AttemptDone, AttemptJob, FailFast, FoldedBatch, FoldedMember, Input, Landing, NoItems, NotFolded, Options,
    Reuse, ReuseResults, RunCore, RunFacts, StartAt, StopCause, TargetMove, Verification, VerifyDone,
};
use swarm_orchestrator::dispatcher::history::History;
use swarm_orchestrator::event::{
    AttemptEnd, ChangeSummary, Fate, GateVerdict, GivenUp, Handed, InstanceResult, ParkedBy, Recorded, RunEvent,
};
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::{RunState, Tally, replay};
use swarm_orchestrator::second_word::worth_another_try;
use swarm_plans::{InstanceId, InstanceIx, TaskGraph, TaskIx};
use swarm_protocol::{Ended, EnforcementReport, Tier};

use super::random_plan::{Dice, mixed};

/// Random plans tried when nobody asks for more.
const SEEDS: u64 = 1500;
/// Seeds that once came to something else, for a reason of their own each.
const ONCE_WRONG: [u64; 18] = [
    1145, 3867, 6229, 6473, 8177, 8333, 8505, 8869, 17111, 17508, 17774, 21499, 22846, 36899, 37509, 45825, 55300,
    87951,
];
/// Inputs that a life of a dozen tasks needs at most; more means that it goes in circles.
const STEPS_MAX: usize = 20_000;
/// Lives of one run, at most; the last is not disturbed.
const LIVES_MAX: usize = 12;

/// What a name says about itself, the same in every life: how an instance ends, what a fan-out finds.
fn fortune(seed: u64, what: &str, name: &str, sides: u64) -> u64 {
    let text = what.bytes().chain(name.bytes());
    text.fold(seed, |hash, byte| mixed(hash ^ u64::from(byte))) % sides
}

fn random_plan(dice: &mut Dice) -> String {
    super::random_plan::random_plan(dice, random_merge, |dice| {
        let retry = "retry = { max = 2, on = ['exit', 'timeout'], delay = '1ms' }\n";
        if dice.one_in(2) { retry.to_owned() } else { String::new() }
    })
}

fn random_merge(dice: &mut Dice) -> String {
    let publish = if dice.one_in(4) { "publish = 'all-or-nothing'\n" } else { "" };
    let overlap = if dice.one_in(2) { "overlap = 'serialize'\n" } else { "" };
    let resolve = "on-conflict = ['rerun', 'resolve', 'park']\nresolver = { run = 'true' }\n";
    let ladder = ["", "on-conflict = ['rerun', 'park']\n", resolve][dice.below(3)];
    let batch = ["'auto'", "1", "2", "3"][dice.below(4)];
    let (parallel, retry) = (1 + dice.below(3), dice.below(2));
    let verify = format!("verify = {{ run = 'true', batch = {batch}, parallel = {parallel}, retry = {retry} }}\n");
    let verify = if dice.one_in(2) { verify.as_str() } else { "" };
    format!("[merge]\n{publish}{overlap}{ladder}{verify}")
}

/// What is owed to the core.
enum Owed {
    Attempt(Box<AttemptJob>),
    Items(TaskIx),
    Retry(InstanceIx),
    Fold { batch: Vec<Landing>, onto: Option<String> },
    Verify(Verification),
    Reuse(Vec<AttemptJob>),
    Move { from: Option<String>, to: String },
}

/// What outlives a coordinator.
#[derive(Default)]
struct World {
    seed: u64,
    /// What the journal has.
    stored: Vec<Recorded>,
    /// The target's commit.
    tip: Option<String>,
    /// Every commit: its parent, and the instance that it brought.
    commits: HashMap<String, (Option<String>, String)>,
    /// Those that the gate does not let through.
    red: BTreeSet<String>,
    /// Attempts that were started and have no end.
    running: BTreeSet<(String, u32)>,
    /// What those that handed something over were given, by that.
    seen: HashMap<String, Value>,
    /// What a person committed to the target meanwhile; `None` where nobody does.
    theirs: Option<Vec<String>>,
    /// What earlier runs recorded.
    records: Records,
    /// What landed and was given up when its branch was gone; `None` where nobody takes branches away.
    given_up: Option<BTreeSet<String>>,
}

/// What earlier runs recorded of tasks with `cache = true`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Records {
    /// No task asks for it.
    #[default]
    None,
    /// Some of what passes at its first try.
    Some,
    /// The same, until a person forgets all of it (`swarm clean --cache`).
    Forgotten,
}

/// One coordinator.
struct Life<'a> {
    world: &'a mut World,
    core: RunCore,
    dice: Dice,
    /// When a person commits; apart, so that seeds keep their meaning.
    person: Dice,
    owed: Vec<Owed>,
    /// Batches of events on their way to the journal, each with what may be done behind it only.
    in_flight: Vec<(Vec<RunEvent>, Vec<Action>)>,
    stopped: bool,
    machine: Machine,
}

/// What the machine is like in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    Free,
    /// An attempt in a while dies of something that has nothing to do with it.
    Odd,
    /// Whatever writes fails.
    Full,
}

/// What an attempt makes.
struct Makes {
    made: String,
    /// In which way it runs once more; empty at first.
    again: String,
    contradicts: bool,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Died,
    Stopped,
    Complete,
}

/// Whether a life may be cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    Bad,
    Good,
}

impl World {
    fn store(&mut self, events: Vec<RunEvent>) {
        for event in events {
            let seq = self.stored.len() as u64 + 1;
            self.stored.push(Recorded { seq, at_ms: seq, event });
        }
    }

    fn history(&self) -> History {
        History::of(self.stored.iter().map(|recorded| &recorded.event))
    }

    /// What the journal has, an event a line.
    fn told(&self) -> String {
        let line = |recorded: &Recorded| serde_json::to_string(&recorded.event).expect("plain data") + "\n";
        self.stored.iter().map(line).collect()
    }

    /// Whether a commit is the target's, or behind it.
    fn holds(&self, commit: &str) -> bool {
        let mut at = self.tip.as_deref();
        while let Some(here) = at {
            if here == commit {
                return true;
            }
            at = self.commits[here].0.as_deref();
        }
        false
    }

    /// What a commit and all behind it brought, the newest first.
    fn brought(&self, commit: &str) -> impl Iterator<Item = &String> {
        let behind = |(parent, _): &&(Option<String>, String)| self.commits.get(parent.as_ref()?);
        std::iter::successors(self.commits.get(commit), behind).map(|(_, brought)| brought)
    }

    /// The instances that landed, the first first.
    fn landed(&self) -> Vec<String> {
        let mut all: Vec<String> = self.tip.iter().flat_map(|tip| self.brought(tip)).cloned().collect();
        all.reverse();
        all
    }

    /// A core for the next life: new, or from what the journal has.
    fn core(&mut self, graph: TaskGraph, jobs: usize, again: &[InstanceId]) -> RunCore {
        let (name, id, base) = ("sim".to_owned(), "sim-1".to_owned(), "base".to_owned());
        let facts = RunFacts { name, id, base, ..RunFacts::default() };
        let reuse = if self.records == Records::None { ReuseResults::No } else { ReuseResults::Yes };
        let options = Options { jobs, fail_fast: FailFast::No, facts, grace_ms: 5, reuse };
        // Workers die with their coordinator.
        self.running.clear();
        if self.stored.is_empty() {
            return RunCore::new(graph, options, &|_| None);
        }
        let announced = self.history().announced().filter(|announced| self.holds(&announced.to));
        let merged = announced.into_iter().flat_map(|announced| announced.merges);
        self.store(merged.map(|part| RunEvent::Merged { instance: part.instance, fate: part.fate }).collect());
        let mut history = self.history();
        let again = &history.with_a_turn(again);
        let taken_up = history.try_again(again, None);
        let mut resumed = RunCore::resume(graph, options, &|_| None, &history);
        let mut tally = replay(&self.stored).tally;
        tally.parked -= taken_up.parked;
        tally.dropped -= taken_up.dropped;
        tally.instances -= resumed.unexpanded.len() as u64;
        resumed.unexpanded.iter().chain(&resumed.reopened).for_each(|(_, result)| tally.reopen(*result));
        let unexpanded = resumed.unexpanded.iter().map(|(id, _)| id.clone()).collect();
        self.store(vec![goes_on(unexpanded, tally)]);
        let instances = resumed.still_there(again);
        if !instances.is_empty() {
            self.store(vec![RunEvent::Retried { instances, resolved: None }]);
        }
        self.store(resumed.take_events());
        self.tip.iter().for_each(|tip| resumed.core.stands_at(tip.clone()));
        resumed.core
    }
}

/// What a person does between two lives.
mod between;

fn goes_on(unexpanded: Vec<swarm_plans::InstanceId>, tally: Tally) -> RunEvent {
    let enforcement = EnforcementReport {
        tier: Tier::Landlock,
        landlock_abi: 7,
        enforced: vec![],
        not_enforced: vec![],
        limits: Default::default(),
    };
    RunEvent::RunResumed { jobs: 1, backend: "copy".to_owned(), enforcement, notes: vec![], unexpanded, tally }
}

impl Life<'_> {
    fn live(mut self, luck: Luck) -> End {
        self.core.pump();
        for _ in 0..STEPS_MAX {
            let (events, actions) = self.core.take();
            let (behind, now): (Vec<Action>, Vec<Action>) =
                actions.into_iter().partition(|action| matches!(action, Action::MoveTarget { .. }));
            now.into_iter().for_each(|action| self.owe(action));
            if !events.is_empty() {
                self.in_flight.push((events, behind));
            }
            if self.core.is_done() && self.in_flight.is_empty() {
                let early = self.stopped || self.machine != Machine::Free;
                return if early { End::Stopped } else { End::Complete };
            }
            if luck == Luck::Bad && self.dice.one_in(60) {
                return End::Died;
            }
            self.step(luck);
        }
        panic!("it goes in circles");
    }

    /// Something happens: a batch becomes durable, somebody answers, a person has enough.
    fn step(&mut self, luck: Luck) {
        let may_wait = !self.owed.is_empty() || self.in_flight.is_empty();
        if !self.in_flight.is_empty() && (!may_wait || self.dice.one_in(2)) {
            let (events, behind) = self.in_flight.remove(0);
            self.world.store(events);
            behind.into_iter().for_each(|action| self.owe(action));
            return;
        }
        let input = if luck == Luck::Bad && self.dice.one_in(80) {
            self.stopped = true;
            let causes = [StopCause::Deadline, StopCause::Interrupted(2), StopCause::Killed(15)];
            Input::Stop(causes[self.dice.below(causes.len())])
        } else {
            self.person_commits();
            assert!(!self.owed.is_empty(), "nothing runs, nothing waits, and it is not done: {:?}", self.core);
            let at = self.dice.below(self.owed.len());
            self.answer(at)
        };
        let spread = self.dice.below(1000) as f64 / 1000.0;
        self.core.handle(input, spread);
    }

    /// Now and then, where a person works beside the run.
    fn person_commits(&mut self) {
        let Some(theirs) = self.world.theirs.as_mut().filter(|_| self.person.one_in(12)) else { return };
        let commit = format!("theirs {}", theirs.len());
        theirs.push(commit.clone());
        let parent = self.world.tip.replace(commit.clone());
        if parent.as_ref().is_some_and(|parent| self.world.red.contains(parent)) {
            self.world.red.insert(commit.clone());
        }
        self.world.commits.insert(commit.clone(), (parent, commit));
    }

    fn owe(&mut self, action: Action) {
        self.owed.push(match action {
            Action::Attempt(job) => {
                let key = (job.name.to_string(), job.attempt.0);
                assert!(self.world.running.insert(key), "{} runs twice under one number", job.name);
                Owed::Attempt(job)
            }
            Action::Items { task, .. } => Owed::Items(task),
            Action::RetryIn { instance, .. } => Owed::Retry(instance),
            Action::Fold { batch, onto, .. } => Owed::Fold { batch, onto },
            Action::MoveTarget { from, to } => Owed::Move { from, to },
            Action::CancelAll { .. } => {
                self.stopped = true;
                return;
            }
            Action::Verify(verification) => Owed::Verify(verification),
            Action::Reuse(jobs) => Owed::Reuse(jobs),
        });
    }

    fn answer(&mut self, at: usize) -> Input {
        match self.owed.swap_remove(at) {
            Owed::Attempt(job) => {
                self.world.running.remove(&(job.name.to_string(), job.attempt.0));
                Input::Attempt(job.instance, Box::new(self.attempt_end(&job)))
            }
            Owed::Items(task) => Input::Items(task, self.items(task)),
            Owed::Retry(instance) => Input::RetryDue(instance),
            Owed::Fold { batch, onto } => self.fold(&batch, onto),
            Owed::Verify(verification) => self.verify(verification),
            Owed::Reuse(jobs) => Input::Reused(jobs.iter().map(|job| (job.instance, self.recorded(job))).collect()),
            Owed::Move { .. } if self.machine == Machine::Full => {
                Input::Moved(TargetMove::Refused("no space".to_owned()))
            }
            Owed::Move { from, .. } if self.world.theirs.is_some() && from != self.world.tip => {
                Input::Moved(TargetMove::Lost)
            }
            Owed::Move { from, to } => {
                assert_eq!(from, self.world.tip, "only this run moves the target");
                self.world.tip = Some(to);
                Input::Moved(TargetMove::Done)
            }
        }
    }

    fn items(&mut self, task: TaskIx) -> Result<Vec<Value>, NoItems> {
        let name = &self.core.graph().plan().task(task).name.0;
        match fortune(self.world.seed, "items", name, 8) {
            _ if self.machine == Machine::Full => Err(NoItems::Machine("no space".to_owned())),
            0 => Err(NoItems::Work("`ls` exited with 1".to_owned())),
            count => Ok((0..count % 4).map(|item| json!(format!("item{item}"))).collect()),
        }
    }

    /// What an attempt makes, by name; and whether what it was given contradicts itself.
    fn makes(&self, job: &AttemptJob) -> Makes {
        let (seed, name) = (self.world.seed, &job.name.0);
        if let StartAt::Tip { commit } = &job.start {
            for (need, _) in &job.needs.without_turns().changes {
                let need = &self.core.graph().instance(*need).id.0;
                assert!(
                    self.world.brought(commit).any(|name| *name == **need),
                    "{name} starts without {need}: {commit}\n{}",
                    self.world.told()
                );
            }
        }
        let again = match &job.start {
            StartAt::Tip { commit } => format!(" again on {commit}"),
            StartAt::Conflict { commit, change } => format!(" of {} settled on {commit}", change.commit),
            StartAt::Needs => String::new(),
        };
        // What it makes, it makes of what it was given: outputs, and a tree.
        let in_tree = job.needs.changes.iter().filter(|_| job.start == StartAt::Needs);
        let commits: Vec<&String> = in_tree.map(|(_, change)| &change.commit).collect();
        let given =
            format!("{} {commits:?}", job.needs.json).bytes().fold(seed, |hash, byte| mixed(hash ^ u64::from(byte)));
        let made = format!("{name}{again} of {given:x}");
        let contradict = |one: &str, other: &str| fortune(seed, "contradict", &format!("{one} {other}"), 8) == 0;
        // What was made on others that landed need not fit onto the base without them.
        let is_of_others =
            |commit: &&&String| commit.contains(" again on ") && fortune(seed, "of others", commit, 4) == 0;
        let contradicts = commits.iter().any(|commit| is_of_others(&commit))
            || (1..commits.len()).any(|at| commits[..at].iter().any(|earlier| contradict(earlier, commits[at])));
        Makes { made, again, contradicts }
    }

    /// What an earlier run recorded of a job: what it would come to at its first try.
    fn recorded(&mut self, job: &AttemptJob) -> Option<Reuse> {
        let (seed, makes) = (self.world.seed, self.makes(job));
        let fails = makes.contradicts || fortune(seed, "end", &format!("{}/1", job.name.0), 10) < 3;
        let is_recorded = self.world.records == Records::Some && fortune(seed, "recorded", &makes.made, 3) > 0;
        if fails || !is_recorded {
            return None;
        }
        let AttemptDone { change, outputs, .. } = self.passes(job, &makes, AttemptDone::bare(AttemptEnd::Succeeded));
        Some(Reuse {
            key: makes.made,
            from: RunId("sim-0".to_owned()),
            saved_ms: 1,
            change: change.filter(ChangeSummary::changes_anything),
            outputs,
            handed: Handed::Nothing,
            notes: vec![],
        })
    }

    fn attempt_end(&mut self, job: &AttemptJob) -> AttemptDone {
        let (seed, name, makes) = (self.world.seed, &job.name.0, self.makes(job));
        let (contradicts, again) = (makes.contradicts, &makes.again);
        let work = |ended| AttemptEnd::Work { ended };
        // A stopped life cancels most of what runs; the rest was quick enough.
        let end = match fortune(seed, "end", &format!("{name}/{}{again}", job.try_number), 10) {
            _ if self.stopped && !self.dice.one_in(3) => work(Ended::Cancelled),
            _ if self.machine == Machine::Full || self.machine == Machine::Odd && self.dice.one_in(20) => {
                AttemptEnd::Infra { detail: "no space".to_owned() }
            }
            _ if contradicts => AttemptEnd::Needs { detail: "they contradict each other".to_owned() },
            0 => work(Ended::Exited { code: 1 }),
            1 => work(Ended::TimedOut),
            2 => AttemptEnd::Violation { detail: String::new(), paths: vec![], allow_with: None },
            _ => AttemptEnd::Succeeded,
        };
        let done = AttemptDone::bare(end.clone());
        if end == AttemptEnd::Succeeded { self.passes(job, &makes, done) } else { done }
    }

    /// What an attempt that passes hands over and changes.
    fn passes(&mut self, job: &AttemptJob, Makes { made, again, .. }: &Makes, mut done: AttemptDone) -> AttemptDone {
        let (seed, name) = (self.world.seed, &job.name.0);
        if fortune(seed, "outputs", name, 6) > 0 {
            // What it hands over, it may hand over otherwise when it runs again.
            let items = fortune(seed, "count", &format!("{name}{again}"), 4);
            self.world.seen.insert(made.clone(), job.needs.json.clone());
            let made = made.clone().into();
            done.outputs = Map::from_iter([("all".to_owned(), (0..items).collect()), ("made".to_owned(), made)]);
        }
        let is_base = fortune(seed, "tree", &format!("{name}{again}"), 3) == 0;
        let tree = if is_base { "base".to_owned() } else { format!("tree of {name}") };
        let (base_tree, commit) = ("base".to_owned(), format!("result of {made}"));
        done.change = Some(ChangeSummary { base_tree, commit, tree, files: 1, history: None, writes: None });
        done
    }

    /// A gate that no build output can lead astray: what it says is the same in every life.
    fn verify(&mut self, asked: Verification) -> Input {
        let verdict = match self.world.red.contains(&asked.commit) {
            _ if self.machine == Machine::Full || self.stopped && self.dice.one_in(2) => GateVerdict::Broken,
            true => GateVerdict::Red,
            false => GateVerdict::Green,
        };
        let (tree, gate) = (format!("tree of {}", asked.commit), String::new());
        let Verification { number, of, look, .. } = asked;
        let done = VerifyDone { tree, gate, of, look, verdict, duration_ms: 1, detail: None };
        Input::Verified(number, Box::new(done))
    }

    fn fold(&mut self, batch: &[Landing], onto: Option<String>) -> Input {
        if self.machine == Machine::Full {
            return Input::Folded(Err(NotFolded::Failed("no space".to_owned())));
        }
        let from = if onto.is_some() { None } else { self.world.tip.clone() };
        let mut last = onto.or_else(|| self.world.tip.clone());
        let tip = last.clone().unwrap_or_else(|| "base".to_owned());
        let (mut members, mut refused) = (Vec::new(), BTreeSet::new());
        for landing in batch {
            let name = &landing.name.0;
            if landing.stands_on().any(|need| refused.contains(&need)) {
                refused.insert(landing.instance);
                members.push(FoldedMember::Waits);
                continue;
            }
            if fortune(self.world.seed, "conflict", &landing.change.commit, 5) == 0 {
                refused.insert(landing.instance);
                // Those that share a path are tried again one after the other.
                let paths = vec![format!("path{}", fortune(self.world.seed, "path", name, 3))];
                members.push(FoldedMember::Conflict { reason: "conflict".to_owned(), paths });
                continue;
            }
            let commit =
                format!("{:x}", mixed(fortune(1, last.as_deref().unwrap_or("base"), &landing.change.commit, u64::MAX)));
            let is_poison = fortune(self.world.seed, "poison", &landing.change.commit, 6) == 0;
            if is_poison || last.as_ref().is_some_and(|last| self.world.red.contains(last)) {
                self.world.red.insert(commit.clone());
            }
            self.world.commits.insert(commit.clone(), (last, name.to_string()));
            last = Some(commit.clone());
            members.push(FoldedMember::Clean { commit });
        }
        Input::Folded(Ok(FoldedBatch { from, tip_tree: format!("tree of {tip}"), tip, members }))
    }
}

/// What a run is to whoever looks at its end.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    results: BTreeMap<String, InstanceResult>,
    /// Whose failure those name that were blocked.
    causes: BTreeMap<String, String>,
    fates: BTreeMap<String, String>,
    landed: Vec<String>,
    tip: Option<String>,
}

fn outcome(world: &World) -> Outcome {
    let state = replay(&world.stored);
    consistent(&state);
    let result = |instance: &swarm_orchestrator::journal::InstanceState| instance.result().expect("all have ended");
    let fate = |fate: &Fate| match fate {
        Fate::Landed { commit } => format!("landed as {commit}"),
        // Of several, any may be named.
        Fate::Parked { by: ParkedBy::Need, .. } => "parked for another's sake".to_owned(),
        Fate::Parked { reason, .. } => format!("parked: {reason}"),
        Fate::Empty => "empty".to_owned(),
        Fate::Dropped { .. } => "dropped".to_owned(),
    };
    let blocked = state.instances.iter().filter(|(_, instance)| instance.result() == Some(InstanceResult::Blocked));
    Outcome {
        causes: blocked.map(|(id, it)| (id.to_string(), it.cause().unwrap_or_default().to_owned())).collect(),
        results: state.instances.iter().map(|(id, instance)| (id.to_string(), result(instance))).collect(),
        fates: state.instances.iter().filter_map(|(id, i)| Some((id.to_string(), fate(i.fate()?)))).collect(),
        landed: world.landed(),
        tip: world.tip.clone(),
    }
}

/// What landed, or only looked, was made of what its needs handed over last.
fn stands_on_what_there_is(world: &World) {
    let (state, history) = (replay(&world.stored), world.history());
    let made = |id: &str| {
        let past = history.instance(&InstanceId(id.into()))?;
        past.outputs.to_map().get("made").and_then(Value::as_str).map(str::to_owned)
    };
    let stands = |fate: Option<&Fate>| matches!(fate, Some(Fate::Landed { .. } | Fate::Empty));
    for (id, _) in state.instances.iter().filter(|(_, instance)| stands(instance.fate())) {
        let Some(given) = made(&id.0).and_then(|made| world.seen.get(&made)) else { continue };
        for task in given.as_object().into_iter().flat_map(Map::values) {
            for (need, was) in task["instances"].as_object().into_iter().flatten() {
                // What is parked may still become something else, and is asked about again then.
                if !state
                    .instances
                    .get(&InstanceId(need.as_str().into()))
                    .is_some_and(|instance| stands(instance.fate()))
                {
                    continue;
                }
                let was = was["outputs"]["made"].as_str().map(str::to_owned);
                let told = || {
                    let names =
                        |event: &String| event.contains(&format!("{:?}", id.0)) || event.contains(&format!("{need:?}"));
                    let events =
                        world.stored.iter().map(|recorded| serde_json::to_string(&recorded.event).expect("plain data"));
                    events.filter(names).collect::<Vec<_>>().join("\n")
                };
                assert_eq!(was, made(need), "{id} stands on what {need} handed over:\n{}", told());
            }
        }
    }
}

/// The counts of a state are those of its instances.
fn consistent(state: &RunState) {
    let count = |is: &dyn Fn(InstanceResult) -> bool| {
        state.instances.values().filter(|instance| instance.standing_result().is_some_and(&is)).count() as u64
    };
    assert_eq!(state.tally.instances, state.instances.len() as u64, "{state:?}");
    assert_eq!(state.tally.finished, count(&|_| true), "{state:?}");
    assert_eq!(state.tally.passed, count(&InstanceResult::passed), "{state:?}");
    let parked = state.instances.values().filter(|instance| matches!(instance.fate(), Some(Fate::Parked { .. })));
    assert_eq!(state.tally.parked, parked.count() as u64, "{state:?}");
    let landed = state.instances.values().filter(|instance| matches!(instance.fate(), Some(Fate::Landed { .. })));
    assert_eq!(state.tally.landed, landed.count() as u64, "{state:?}");
    assert_eq!(state.tally.blocked, count(&|result| result == InstanceResult::Blocked), "{state:?}");
    assert_eq!(state.tally.cancelled, count(&|result| result == InstanceResult::Cancelled), "{state:?}");
}

/// What the events of all lives together keep: numbers of attempts grow, what has ended does not start, all merge once. Gives how
/// many started for the first time on what had landed.
fn keeps_its_word(stored: &[Recorded]) -> usize {
    let mut on_landed = 0;
    let (mut numbers, mut ended, mut merged) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
    // Changes that are put aside, each for one more attempt that says something about the work.
    let (mut aside, mut verdicts) = (BTreeSet::new(), BTreeMap::new());
    for recorded in stored {
        match &recorded.event {
            RunEvent::AttemptStarted { instance, attempt, on } => {
                on_landed += usize::from(on.is_some() && !ended.contains(&instance.0));
                let may = !ended.contains(&instance.0) || aside.contains(&instance.0);
                assert!(may, "{instance} starts although it has ended");
                let before = numbers.insert(instance.0.clone(), attempt.0).unwrap_or(0);
                assert_eq!(attempt.0, before + 1, "{instance}");
            }
            RunEvent::InstanceFinished { instance, .. } => {
                assert!(ended.insert(instance.0.clone()), "{instance} ends twice");
            }
            RunEvent::Reused { instances } => instances.iter().for_each(|one| {
                let id = one.instance.0.clone();
                assert!(ended.insert(id.clone()), "{id} is taken although it has ended");
                *numbers.entry(id.clone()).or_insert(0) += 1;
                if one.change.is_none() {
                    assert!(merged.insert(id.clone()), "{id} is taken although it has its fate");
                }
            }),
            RunEvent::Retried { instances, .. } => instances.iter().for_each(|id| {
                merged.remove(&id.0);
                aside.remove(&id.0);
            }),
            RunEvent::Reopened { instances } => instances.iter().for_each(|id| {
                assert!(ended.remove(&id.0), "{id} is open again and had not ended");
            }),
            RunEvent::RunResumed { unexpanded, .. } => unexpanded.iter().for_each(|id| {
                assert!(ended.remove(&id.0), "{id} is open again and had not ended");
            }),
            RunEvent::Evicted { instance, .. } => {
                assert!(aside.insert(instance.0.clone()), "{instance} is put aside twice for one attempt");
            }
            RunEvent::AttemptFinished { instance, end, .. } if speaks_of_the_work(end) => {
                aside.remove(&instance.0);
            }
            RunEvent::Verified { number, verdict, .. } => {
                assert!(verdicts.insert(*number, *verdict).is_none(), "two verifications have the number {number}");
            }
            RunEvent::Merged { instance, fate: Fate::Dropped { was: GivenUp::Landed } } => {
                assert!(merged.contains(&instance.0), "{instance} is given up and had not landed");
            }
            RunEvent::Merged { instance, fate } => {
                assert!(merged.insert(instance.0.clone()), "{instance} merges twice");
                if let Fate::Parked { by: ParkedBy::Gate, verification, .. } = fate {
                    let verdict = verification.and_then(|number| verdicts.get(&number));
                    assert_eq!(verdict, Some(&GateVerdict::Red), "{instance}");
                }
            }
            _ => {}
        }
    }
    on_landed
}

fn speaks_of_the_work(end: &AttemptEnd) -> bool {
    *end != AttemptEnd::Lost && !end.is_cancelled() && !matches!(end, AttemptEnd::Infra { .. })
}

fn graph(seed: u64, records: Records) -> Option<TaskGraph> {
    let mut text = random_plan(&mut Dice(seed));
    if records != Records::None {
        for task in 0..12 {
            let head = format!("[tasks.t{task}]\n");
            let cached = format!("{head}cache = true\n");
            let may = fortune(seed, "cache", &head, 2) == 0;
            text = if may { text.replace(&head, &cached) } else { text };
        }
    }
    let parsed = swarm_plans::parse("sim.toml", &text, &[], &mut |_| Err("no such file".to_owned()));
    // Some random plans are none: a fan-out over what is no list, for one.
    Some(TaskGraph::expand(parsed.plan?).expect("it was validated"))
}

/// Lives until the run is complete; then a person asks for another try of what failed or is parked, and it is completed again.
fn run(seed: u64, lives: usize) -> (World, usize) {
    run_in(World { seed, ..World::default() }, lives)
}

fn run_in(mut world: World, lives: usize) -> (World, usize) {
    let seed = world.seed;
    let mut dice = Dice(mixed(seed) ^ lives as u64);
    let lived = live_on(&mut world, &mut dice, lives, &[]);
    let state = replay(&world.stored);
    // In which order fan-outs got their items, is no matter.
    let mut all = worth_another_try(&state, None);
    all.sort_unstable();
    let named = (all.len() as u64).checked_sub(1).map(|last| fortune(seed, "word", "named", 2 * last + 2));
    let named = named.and_then(|named| all.get(named as usize));
    let again = named.map_or_else(|| all.clone(), |named| worth_another_try(&state, Some(named)));
    match again.is_empty() {
        true => (world, lived),
        false => {
            let lived = lived + live_on(&mut world, &mut dice, lives, &again);
            (world, lived)
        }
    }
}

/// Returns how many lives it took; the last of `lives` is not disturbed.
fn live_on(world: &mut World, dice: &mut Dice, lives: usize, again: &[InstanceId]) -> usize {
    let seed = world.seed;
    for life in 1..=lives {
        let luck = if life < lives { Luck::Bad } else { Luck::Good };
        let jobs = 1 + dice.below(4);
        let again = if life == 1 { again } else { &[] };
        let core = world.core(graph(seed, world.records).expect("it was one"), jobs, again);
        let own = Dice(mixed(dice.0 ^ life as u64));
        dice.below(2);
        // An allowed failure holds whoever caused it: those who need it have run by then.
        let may_fail = luck == Luck::Bad && !random_plan(&mut Dice(seed)).contains("allow-failure");
        // Where results land one by one, those behind what the machine failed do not wait for it.
        let waits = ["serialize", "all-or-nothing"].iter().any(|word| random_plan(&mut Dice(seed)).contains(word));
        let machine = match dice.below(5) {
            0 if may_fail => Machine::Full,
            1 if may_fail && waits => Machine::Odd,
            _ => Machine::Free,
        };
        let life_of = Life {
            world: &mut *world,
            core,
            person: Dice(mixed(own.0)),
            dice: own,
            owed: vec![],
            in_flight: vec![],
            stopped: false,
            machine,
        };
        let end = life_of.live(luck);
        keeps_its_word(&world.stored);
        consistent(&replay(&world.stored));
        if end == End::Complete {
            return life;
        }
        world.person_cleans(dice, end);
    }
    unreachable!("the last life is not disturbed");
}

#[test]
fn lives_cut_short_at_random_come_to_what_one_life_comes_to() {
    let seeds = std::env::var("SWARM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let only: Option<u64> = std::env::var("SWARM_SEED").ok().and_then(|text| text.parse().ok());
    let (mut lives_lived, mut on_landed) = (0, 0);
    for seed in only.map_or_else(|| ONCE_WRONG.into_iter().chain(0..seeds).collect(), |seed| vec![seed]) {
        if graph(seed, Records::None).is_none() {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| {
            let (undisturbed, _) = run(seed, 1);
            let (disturbed, lives) = run(seed, LIVES_MAX);
            assert_eq!(outcome(&disturbed), outcome(&undisturbed));
            stands_on_what_there_is(&disturbed);
            (lives, keeps_its_word(&disturbed.stored))
        });
        let Ok((lives, landed)) = outcome else {
            panic!("seed {seed} (the reason stands above):\n{}", random_plan(&mut Dice(seed)));
        };
        (lives_lived, on_landed) = (lives_lived + lives, on_landed + landed);
    }
    assert!(only.is_some() || on_landed > 0, "somebody has to start on what landed");
    assert!(only.is_some() || lives_lived as u64 > seeds, "{lives_lived} lives in {seeds} runs are none too many");
}

/// What landed stands on the target once, what a person committed too, and what has no place there has another fate.
#[test]
fn of_a_person_who_commits_between_lives_and_within_nothing_is_lost() {
    let seeds = std::env::var("SWARM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS / 3);
    let (mut committed, mut landed_beside) = (0, 0);
    for seed in (0..seeds).filter(|&seed| graph(seed, Records::None).is_some()) {
        let told = std::panic::catch_unwind(|| {
            let (world, _) = run_in(World { seed, theirs: Some(vec![]), ..World::default() }, LIVES_MAX);
            let (state, theirs) = (replay(&world.stored), world.theirs.clone().unwrap_or_default());
            let mut on_target = world.landed();
            assert!(theirs.iter().all(|commit| world.holds(commit)), "all of {theirs:?} in {on_target:?}");
            on_target.retain(|brought| !theirs.contains(brought));
            let is_landed = |(id, commit): (String, &String)| world.holds(commit).then_some(id).expect("it is there");
            let fates = state.instances.iter().filter_map(|(id, instance)| Some((id.to_string(), instance.fate()?)));
            let landed = fates.filter_map(|(id, fate)| match fate {
                Fate::Landed { commit } => Some(is_landed((id, commit))),
                _ => None,
            });
            let mut landed: Vec<String> = landed.collect();
            landed.sort_unstable();
            on_target.sort_unstable();
            assert_eq!(on_target, landed, "once each");
            (theirs.len(), landed.len())
        });
        let Ok((theirs, landed)) = told else {
            panic!("seed {seed} (the reason stands above):\n{}", random_plan(&mut Dice(seed)))
        };
        committed += theirs;
        landed_beside += if theirs > 0 { landed } else { 0 };
    }
    assert!(
        committed > seeds as usize / 4 && landed_beside > 0,
        "{committed} commits, {landed_beside} results beside them"
    );
}
