//! The state of a run and every decision in it, as a pure value: inputs in, events and actions out. No clock, no I/O, no
//! randomness; the loop in [`super`] stores the events, announces them, carries out the actions and feeds back what comes
//! of them. Start reading at [`RunCore::handle`].

/// What is tried with a change that did not land.
mod climb;
/// What waits until its needs contradict each other no longer.
mod contradicted;
/// Fan-outs that wait for their items.
mod fan;
/// What failed and is not tried again.
mod given_up;
/// What runs again although its change has landed.
mod landed;
/// A core as a journal left it.
pub mod resume;
/// Results of earlier runs instead of attempts.
mod reuse;
/// What goes to the target, in its turn.
mod to_target;
/// One after the other, where two may change the same.
pub mod turns;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use swarm_plans::{AllowFailure, InstanceId, InstanceIx, Need, RenderError, Rendered, Rung, TaskGraph, TaskIx};

use self::contradicted::{Ground, Hope};
use self::landed::Kept;
use self::reuse::Lookup;
use self::turns::{Before, Queue};
use super::breaker::{Breaker, FAILURES_MAX, Says};
use super::history::{SecondTry, Word, failed_by};
use super::kept::{Changes, Outputs};
use super::ladder::{Climb, Climbed};
use super::landing::Landings;
use super::needs::{NeedsView, Views};
use crate::event::{AddedInstance, AttemptEnd, ChangeSummary, InstanceResult, OnFailure, RunEvent};
use crate::ids::Attempt;
use crate::merge::order::End;
use crate::report::{Ending, words};
use crate::retry;
use crate::schedule::{Effect, NodeIx, NodeSpec, Schedule, Verdict};

pub use super::landing::{REFOLDS_MAX, builds_on_parked};
pub use super::messages::{
    Action, AttemptDone, AttemptJob, FailFast, FoldedBatch, FoldedMember, Input, Landing, NoItems, NotFolded,
    OUT_OF_TIME, Options, Origin, Reach, Reuse, ReuseResults, RunFacts, StartAt, StopCause, TargetMove, Verification,
    VerifyDone,
};

/// Why a fan-out that was never answered is cancelled.
const ENDED_EARLY: &str = "the run ended early";

/// What earlier coordinators tried of an instance.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    /// How often.
    attempts: u32,
    /// Among these, what does not count.
    lost: u32,
    /// Whether another try changes nothing about what became of its change.
    is_settled: bool,
}

/// What is known of an instance.
#[derive(Debug, Default)]
pub struct InstanceState {
    /// How often it was started.
    pub attempts: u32,
    /// Among these, attempts that were lost or cancelled: `retry` does not count them.
    lost: u32,
    /// The train has spoken on its change.
    is_settled: bool,
    /// What a person said of its change.
    word: Word,
    /// Its final result.
    pub result: Option<InstanceResult>,
    /// Its outputs by name.
    pub outputs: Outputs,
    /// The attempt that handed over these outputs and the artifacts beside them.
    pub gave: u32,
    /// A task that it needs ran again behind it, and it has not since.
    is_stale: bool,
    /// It ran again since it first handed anything over.
    ran_again: bool,
    /// The change of its last attempt.
    pub change: Option<Arc<ChangeSummary>>,
    /// What it started from, kept until it is merged.
    builds_on: Option<Arc<NeedsView>>,
    /// Its failure is no failure of the run: dependents run without its change.
    allowed: bool,
    lookup: Lookup,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Instance(InstanceIx),
    Fan(TaskIx),
    Join(TaskIx),
    /// An instance whose change did not land is tried again.
    Climb(Climb),
    /// Somebody may change now what others changed before.
    Turn,
}

/// Instances that one event names: a fan-out of a hundred thousand is never one text in memory.
pub(super) const INSTANCES_PER_EVENT_MAX: usize = 1000;

/// The state of one run.
#[derive(Debug)]
pub struct RunCore {
    graph: TaskGraph,
    options: Options,
    schedule: Schedule,
    roles: Vec<Role>,
    joins: Vec<NodeIx>,
    nodes: Vec<NodeIx>,
    states: Vec<InstanceState>,
    rank: Vec<u32>,
    /// Who takes turns; `None` where nobody does.
    queue: Option<Queue>,
    before: Before,
    /// What earlier coordinators tried of instances that have not joined yet.
    tried_before: HashMap<InstanceId, Tried>,
    views: Views,
    changes: Changes,
    landings: Landings,
    /// The nodes of instances that are tried again, and how.
    climbing: HashMap<InstanceIx, (NodeIx, Rung)>,
    /// Changes that did not land in their first turn under an earlier coordinator, until they are tried again.
    second_tries: HashMap<InstanceIx, SecondTry>,
    breaker: Breaker,
    /// Those that wait for other changes of their needs, since these contradict each other.
    contradicted: BTreeMap<InstanceIx, Hope>,
    /// Where those may start of whose needs all has landed, however that contradicts itself on the run's base.
    grounds: HashMap<InstanceIx, Ground>,
    /// Those that run again although what they changed has landed.
    landed: HashMap<InstanceIx, Kept>,
    /// Those that waited so under an earlier coordinator, until their turn comes.
    waited: HashSet<InstanceIx>,
    /// Those that failed and that a person gave up.
    given_up: HashSet<InstanceId>,
    /// How many wait for the time of their next try, or to hear what an earlier run recorded.
    resting: usize,
    stop: Option<StopCause>,
    /// What the machine said when it failed the run.
    broken: Option<String>,
    /// What the newest attempt that ended says of why.
    said: String,
    /// Randomness for jitter, given by the caller with every input.
    spread: f64,
    /// Ready to start, unless an earlier run recorded their results.
    lookups: Vec<AttemptJob>,
    events: Vec<RunEvent>,
    actions: Vec<Action>,
}

impl RunCore {
    /// A run of `graph`. `expected_ms` gives a task's usual duration, where one is known.
    pub fn new(graph: TaskGraph, options: Options, expected_ms: &dyn Fn(&str) -> Option<u64>) -> Self {
        RunCore::after(graph, options, expected_ms, HashSet::new())
    }

    /// The same behind earlier coordinators, under whom `had_theirs` took their turns.
    fn after(
        graph: TaskGraph,
        options: Options,
        expected_ms: &dyn Fn(&str) -> Option<u64>,
        had_theirs: HashSet<InstanceId>,
    ) -> Self {
        let capacities = graph.plan().resources.values().copied().collect();
        let rank = graph.levels();
        let mut core = RunCore {
            schedule: Schedule::new(options.jobs, capacities),
            landings: Landings::new(&graph.plan().merge, &options.facts),
            climbing: HashMap::new(),
            second_tries: HashMap::new(),
            graph,
            options,
            roles: vec![],
            joins: vec![],
            nodes: vec![],
            states: vec![],
            rank,
            queue: None,
            before: Before::default(),
            tried_before: HashMap::new(),
            views: Views::default(),
            changes: Changes::default(),
            breaker: Breaker::default(),
            contradicted: BTreeMap::new(),
            grounds: HashMap::new(),
            landed: HashMap::new(),
            waited: HashSet::new(),
            given_up: HashSet::new(),
            resting: 0,
            stop: None,
            broken: None,
            said: String::new(),
            spread: 0.5,
            lookups: vec![],
            events: vec![],
            actions: vec![],
        };
        core.build(expected_ms, had_theirs);
        core
    }

    /// Takes one input; `spread` is uniformly random in `0.0..1.0`. Afterwards [`RunCore::take`] gives what follows from it.
    pub fn handle(&mut self, input: Input, spread: f64) {
        self.spread = spread;
        match input {
            Input::Attempt(ix, done) => self.attempt_done(ix, *done),
            Input::Reused(found) => self.looked_up(found),
            Input::Items(task, items) => {
                if let (Ok(items), None) = (&items, self.stop) {
                    let task = self.graph.plan().task(task).name.0.clone();
                    self.events.push(RunEvent::ItemsFound { task, items: items.clone() });
                }
                let items = items.map_err(|reason| self.no_items(task, reason));
                self.items(task, items);
            }
            Input::RetryDue(ix) => self.retry_due(ix),
            Input::Folded(batch) => self.landings.folded(batch),
            Input::Verified(number, done) => self.landings.verified(number, &done),
            Input::Moved(outcome) => self.landings.moved(outcome),
            Input::Stop(cause) => self.stop(cause),
        }
        self.pump();
    }

    /// What happened and what is to be done, since the last call. Events are to be stored before anything is done.
    pub fn take(&mut self) -> (Vec<RunEvent>, Vec<Action>) {
        (std::mem::take(&mut self.events), std::mem::take(&mut self.actions))
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.schedule.is_done() && (self.landings.is_done() || (self.is_held() && self.landings.is_at_rest()))
    }

    /// Whether what was cancelled keeps its place in the landing order, for the coordinator that goes on with the run.
    fn is_held(&self) -> bool {
        self.stop.is_some_and(StopCause::is_resumable)
    }

    /// The graph as it has grown.
    pub fn graph(&self) -> &TaskGraph {
        &self.graph
    }

    /// Why the run stopped, for its exit code, and in a few words for people when it ended early.
    pub fn ending(&self) -> (Ending, Option<String>) {
        self.stop.map_or((Ending::Complete, None), |cause| {
            let (ending, word) = cause.ending();
            let broken = self.broken.as_ref().filter(|_| cause == StopCause::Machine);
            (ending, Some(broken.map_or_else(|| word.to_owned(), Clone::clone)))
        })
    }

    fn build(&mut self, expected_ms: &dyn Fn(&str) -> Option<u64>, had_theirs: HashSet<InstanceId>) {
        let tasks: Vec<TaskIx> = (0..self.graph.plan().tasks.len()).map(|at| TaskIx(at as u32)).collect();
        self.joins = tasks.iter().map(|&task| self.add_node(NodeSpec::Join, Role::Join(task))).collect();
        let pending = self.graph.pending();
        for waiting in &pending {
            let fan =
                self.add_node(NodeSpec::Work { weight_ms: 1, priority: 0, demand: vec![] }, Role::Fan(waiting.task));
            for need in self.graph.items_needs(waiting.task) {
                self.schedule.add_need(fan, self.joins[need.index()]);
            }
            for member in self.graph.family(waiting.task) {
                self.schedule.add_need(self.joins[member.index()], fan);
            }
        }
        for member in pending.iter().flat_map(|waiting| self.graph.family(waiting.task)) {
            self.landings.open(self.task_place(member));
        }
        self.queue_up(had_theirs);
        let all: Vec<InstanceIx> = (0..self.graph.instances().len()).map(|at| InstanceIx(at as u32)).collect();
        self.add_instances(&all, expected_ms);
        let effects = self.schedule.seal();
        self.effects(effects);
    }

    fn add_node(&mut self, spec: NodeSpec, role: Role) -> NodeIx {
        let node = self.schedule.add(spec, &[]);
        debug_assert_eq!(node.index(), self.roles.len());
        self.roles.push(role);
        node
    }

    fn add_instances(&mut self, added: &[InstanceIx], expected_ms: &dyn Fn(&str) -> Option<u64>) {
        // All at once: growing step by step leaves holes behind that are as large in all.
        self.nodes.reserve(added.len());
        self.states.reserve(added.len());
        self.roles.reserve(added.len());
        self.schedule.reserve(added.len());
        for &ix in added {
            let task_ix = self.graph.instance(ix).task;
            let task = self.graph.plan().task(task_ix);
            let spec = self.demand(ix, expected_ms(&task.name.0).unwrap_or(1000));
            let allowed = task.allow_failure == AllowFailure::Yes;
            let node = self.add_node(spec, Role::Instance(ix));
            self.nodes.push(node);
            let Tried { attempts, lost, is_settled } =
                self.tried_before.get(&self.graph.instance(ix).id).copied().unwrap_or_default();
            self.states.push(InstanceState { allowed, attempts, lost, is_settled, ..InstanceState::default() });
            let place = self.place(ix);
            self.landings.join(place);
            self.schedule.add_need(self.joins[task_ix.index()], node);
        }
        for &ix in added {
            for need in self.graph.needs_of(self.graph.instance(ix).task, Some(ix)) {
                let need = match need {
                    Need::Task(task) => self.joins[task.index()],
                    Need::Instance(other) => self.nodes[other.index()],
                };
                self.schedule.add_need(self.nodes[ix.index()], need);
            }
        }
        self.take_turns(added);
        let describe = |&ix: &InstanceIx| {
            let instance = self.graph.instance(ix);
            let task = self.graph.plan().task(instance.task);
            let needs = self.graph.needs_of(instance.task, Some(ix)).into_iter().map(|need| match need {
                Need::Task(task) => self.graph.plan().task(task).name.0.clone(),
                Need::Instance(other) => self.graph.instance(other).id.to_string(),
            });
            let on_failure = match task.allow_failure {
                AllowFailure::Yes => OnFailure::Allow,
                AllowFailure::No => OnFailure::Fail,
            };
            AddedInstance { id: instance.id.clone(), task: task.name.0.clone(), needs: needs.collect(), on_failure }
        };
        for chunk in added.chunks(INSTANCES_PER_EVENT_MAX) {
            self.events.push(RunEvent::InstancesAdded { instances: chunk.iter().map(describe).collect() });
        }
    }

    /// What an instance takes while it runs.
    fn demand(&self, ix: InstanceIx, weight_ms: u64) -> NodeSpec {
        let task = self.graph.plan().task(self.graph.instance(ix).task);
        let resource = |name: &String| self.graph.plan().resources.get_index_of(name).expect("validated");
        let mut demand: Vec<(usize, u32)> =
            task.resources.iter().filter(|(_, n)| **n > 0).map(|(name, n)| (resource(name), *n)).collect();
        demand.sort_unstable();
        NodeSpec::Work { weight_ms, priority: task.priority, demand }
    }

    /// Starts what can start and moves the train on.
    pub fn pump(&mut self) {
        loop {
            self.drive_target();
            let mut started = false;
            while self.landings.is_open()
                && let Some(node) = self.schedule.start_next()
            {
                started = true;
                match self.roles[node.index()] {
                    Role::Instance(ix) => self.start(ix),
                    Role::Fan(task) => self.start_fan(task),
                    Role::Climb(climb) => self.start_again(climb),
                    Role::Join(_) | Role::Turn => unreachable!("BUG: a join is never started"),
                }
            }
            self.look_up();
            // When nothing more can tell whether the machine works, what failed did so by itself.
            let is_over = (self.schedule.is_done() || self.stalls()) && !self.is_held();
            let alone = if is_over { self.breaker.release() } else { vec![] };
            let moves_on = started || !alone.is_empty();
            self.nothing_to_land(alone);
            if !moves_on && !self.settle_the_contradicted() {
                return;
            }
        }
    }

    fn start(&mut self, ix: InstanceIx) {
        if self.waited.remove(&ix) {
            return self.goes_on_waiting(ix);
        }
        if self.is_given_up(ix) {
            return self.stays_given_up(ix);
        }
        let view = self.view(ix);
        let rendered = match self.rendered(ix, &view.json) {
            Ok(Some(rendered)) => rendered,
            Ok(None) => return self.finish(ix, InstanceResult::Skipped, Some("its `if` is false".to_owned())),
            Err(error) => return self.finish(ix, InstanceResult::Failed, Some(error.to_string())),
        };
        let start = self.start_at(ix);
        // On what landed it comes after nobody.
        let builds_on = if start == StartAt::Needs { Arc::clone(&view) } else { view.without_turns() };
        self.states[ix.index()].builds_on = Some(builds_on);
        self.attempt(ix, rendered, view, start);
    }

    /// What its needs, and those before it in turn, hand on.
    fn view(&mut self, ix: InstanceIx) -> Arc<NeedsView> {
        self.views.of(&self.graph, &self.states, (&self.rank, &self.before), ix)
    }

    fn attempt(&mut self, ix: InstanceIx, rendered: Rendered, needs: Arc<NeedsView>, start: StartAt) {
        let state = &mut self.states[ix.index()];
        state.attempts += 1;
        let (attempt, try_number) = (Attempt(state.attempts), state.attempts - state.lost);
        let (name, task) = (self.name(ix), self.graph.instance(ix).task);
        let on = start.on_target().map(str::to_owned);
        let job = AttemptJob { instance: ix, name, task, attempt, try_number, rendered, needs, start };
        let Some(job) = self.looks_up(job) else { return };
        self.events.push(RunEvent::AttemptStarted { instance: job.name.clone(), attempt, on });
        self.actions.push(Action::Attempt(Box::new(job)));
    }

    /// What an instance would run now and with what, whatever its `if` says, for a person who looks at it.
    ///
    /// # Errors
    /// [`RenderError`] of its texts.
    pub fn looked_at(&self, ix: InstanceIx) -> Result<(Rendered, Arc<NeedsView>), RenderError> {
        let view = Views::default().of(&self.graph, &self.states, (&self.rank, &self.before), ix);
        let facts = &self.options.facts;
        let rendered = self.graph.render(ix, &facts.context(&view.json, &facts.lookup()))?;
        Ok((rendered, view))
    }

    fn attempt_finished(&mut self, ix: InstanceIx, done: AttemptDone, retry_in_ms: Option<u64>) {
        self.events.push(RunEvent::AttemptFinished {
            instance: self.name(ix),
            attempt: Attempt(self.states[ix.index()].attempts),
            end: done.end,
            duration_ms: done.duration_ms,
            change: done.change,
            outputs: done.outputs,
            handed: done.handed,
            notes: done.notes,
            refusals: done.refusals,
            envelope: done.envelope.map(Box::new),
            retry_in_ms,
        });
    }

    /// What to run, unless the instance's `if` is false.
    fn rendered(&self, ix: InstanceIx, needs: &Value) -> Result<Option<Rendered>, RenderError> {
        let facts = &self.options.facts;
        let lookup = facts.lookup();
        let context = facts.context(needs, &lookup);
        match self.graph.condition(ix, &context)? {
            true => self.graph.render(ix, &context).map(Some),
            false => Ok(None),
        }
    }

    fn attempt_done(&mut self, ix: InstanceIx, mut done: AttemptDone) {
        if self.climbing.contains_key(&ix) {
            return self.again_done(ix, done);
        }
        done.notes.extend(self.grounds.get(&ix).and_then(Ground::note));
        let given = self.given_on(ix, &mut done);
        let task = self.graph.plan().task(self.graph.instance(ix).task);
        let state = &mut self.states[ix.index()];
        let try_number = state.attempts - state.lost;
        let room = if self.stop.is_none() { self.breaker.waits_for_room(ix, &done.end) } else { None };
        let wait = room.or_else(|| retry::follows(task, &done.end, try_number, self.spread));
        let says = match room {
            Some(_) => Says::Doubtful,
            None => self.breaker.hear(ix, failed_by(&done.end)),
        };
        state.lost += u32::from(room.is_some());
        let is_contradicted = matches!(done.end, AttemptEnd::Needs { .. });
        let detail = says_why(&done.end);
        self.said.clone_from(&detail);
        let (wait, result) = match self.stop {
            None if says == Says::Broken => (None, retry::result_of(task, &done.end, try_number)),
            None => (wait, retry::result_of(task, &done.end, try_number)),
            // Its last word is not spoken: whoever goes on with the run tries again.
            Some(cause) if cause.is_resumable() && (wait.is_some() || is_contradicted) => {
                (None, InstanceResult::Cancelled)
            }
            Some(_) => (None, retry::result_of(task, &done.end, try_number)),
        };
        state.outputs = done.outputs.clone().into();
        (state.gave, state.change) = (given.gave.map_or(state.attempts, |attempt| attempt.0), given.change);
        let retry_in_ms = wait.map(|wait| wait.as_millis() as u64);
        self.attempt_finished(ix, done, retry_in_ms);
        match retry_in_ms {
            None if is_contradicted && self.stop.is_none() => self.waits_for_its_needs(ix),
            Some(delay_ms) => {
                self.schedule.rest(self.nodes[ix.index()]);
                self.resting += 1;
                self.actions.push(Action::RetryIn { instance: ix, delay_ms });
            }
            None => self.finish(ix, result, None),
        }
        match says {
            // Once the run has stopped, what the machine failed keeps its place for whoever goes on with it.
            Says::Works(alone) if !self.is_held() => self.nothing_to_land(alone),
            // Whoever comes after it in turn would start without its change.
            Says::Doubtful if retry_in_ms.is_none() && self.queue.is_some() && !self.states[ix.index()].allowed => {
                self.machine_failed(format!("`{}` failed: {detail}", self.name(ix)));
            }
            Says::Works(_) | Says::Doubtful => {}
            Says::Broken => self.machine_failed(format!("{FAILURES_MAX} tasks in a row failed: {detail}")),
        }
    }

    /// Instances that failed by themselves hold nothing back any more.
    fn nothing_to_land(&mut self, instances: Vec<InstanceIx>) {
        for ix in instances.into_iter().filter(|ix| self.states[ix.index()].result == Some(InstanceResult::Failed)) {
            self.landings.finished(self.place(ix), End::Nothing);
        }
    }

    /// The machine fails the run, whatever the work is worth: it stops, and can be resumed.
    fn machine_failed(&mut self, reason: String) {
        self.broken.get_or_insert(reason);
        self.stop(StopCause::Machine);
    }

    fn retry_due(&mut self, ix: InstanceIx) {
        self.resting -= 1;
        if self.states[ix.index()].result.is_none() {
            self.schedule.wake(self.nodes[ix.index()]);
        }
    }

    /// An instance that was started (or would have been) has its result.
    fn finish(&mut self, ix: InstanceIx, result: InstanceResult, cause: Option<String>) {
        let allowed = self.states[ix.index()].allowed && result != InstanceResult::Cancelled;
        let passes = result.passed() || result == InstanceResult::Skipped || allowed;
        self.record(ix, result, cause);
        let effects = self.schedule.finish(self.nodes[ix.index()], if passes { Verdict::Pass } else { Verdict::Fail });
        self.effects(effects);
        if !passes && result != InstanceResult::Cancelled && self.options.fail_fast == FailFast::Yes {
            self.stop(StopCause::FailFast);
        }
    }

    /// Writes a final result down and tells the train.
    fn record(&mut self, ix: InstanceIx, result: InstanceResult, cause: Option<String>) {
        self.states[ix.index()].result = Some(result);
        let instance = self.graph.instance(ix).id.clone();
        self.events.push(RunEvent::InstanceFinished { instance: instance.clone(), result, cause });
        let end = match &self.states[ix.index()].change {
            _ if self.states[ix.index()].is_settled => End::Nothing,
            // Nothing behind it lands before the run is resumed: the order of commits is that of an undisturbed run.
            _ if result == InstanceResult::Cancelled && self.is_held() => return,
            // Nor before it is known whether it failed alone or the machine fails them all.
            _ if result == InstanceResult::Failed && self.breaker.suspects(ix) => return self.failed(ix),
            Some(change) if result.passed() && change.changes_anything() => End::Change,
            Some(_) if result.passed() => End::Unchanged,
            _ => End::Nothing,
        };
        // What is blocked failed by what failed before it.
        if !matches!(result, InstanceResult::Skipped | InstanceResult::Blocked) && !result.passed() {
            self.failed(ix);
        }
        self.landings.finished(self.place(ix), end);
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Blocked { node, cause } = effect else { continue };
            let cause = match self.roles[cause.index()] {
                Role::Instance(ix) | Role::Climb(Climb { instance: ix, .. }) => {
                    let failed = &self.graph.instance(ix).id;
                    match self.names_as_need(node, ix) {
                        true => format!("its need `{failed}` did not pass{}", self.unasked(node)),
                        false => format!("`{failed}`, on which its needs build, did not pass"),
                    }
                }
                Role::Fan(task) | Role::Join(task) => {
                    format!("the fan-out of `{}` did not get its items", self.graph.plan().task(task).name)
                }
                Role::Turn => unreachable!("BUG: a turn does not fail"),
            };
            match self.roles[node.index()] {
                Role::Instance(ix) => self.record(ix, InstanceResult::Blocked, Some(cause)),
                Role::Fan(task) => self.unexpanded(task, InstanceResult::Blocked, cause),
                Role::Join(_) | Role::Climb(_) | Role::Turn => {}
            }
        }
    }

    /// Why a blocked task's `if` was not asked, where it has one.
    fn unasked(&self, node: NodeIx) -> &'static str {
        let task = match self.roles[node.index()] {
            Role::Instance(ix) | Role::Climb(Climb { instance: ix, .. }) => self.graph.instance(ix).task,
            Role::Fan(task) | Role::Join(task) => task,
            Role::Turn => return "",
        };
        match self.graph.plan().task(task).condition {
            Some(_) => "; its `if` would be asked if that had `allow-failure`",
            None => "",
        }
    }

    /// Whether the plan names an instance, or its task, among the needs of what a node stands for.
    fn names_as_need(&self, node: NodeIx, need: InstanceIx) -> bool {
        let (task, instance) = match self.roles[node.index()] {
            Role::Instance(ix) | Role::Climb(Climb { instance: ix, .. }) => (self.graph.instance(ix).task, Some(ix)),
            Role::Fan(task) | Role::Join(task) => (task, None),
            Role::Turn => return false,
        };
        let is_it = |named: Need| match named {
            Need::Instance(ix) => ix == need,
            Need::Task(task) => task == self.graph.instance(need).task,
        };
        self.graph.needs_of(task, instance).into_iter().any(is_it)
    }

    fn stop(&mut self, cause: StopCause) {
        if self.stop.is_some_and(|before| before >= cause) {
            return;
        }
        let first = self.stop.is_none();
        self.stop = Some(cause);
        self.landings.stop(cause);
        if first {
            self.contradicted.clear();
            let (blocked, cancelled) = self.schedule.stop();
            self.effects(blocked);
            for node in cancelled {
                match self.roles[node.index()] {
                    Role::Instance(ix) => self.record(ix, InstanceResult::Cancelled, None),
                    Role::Fan(task) => self.unexpanded(task, InstanceResult::Cancelled, ENDED_EARLY.to_owned()),
                    Role::Climb(Climb { instance, .. }) => {
                        self.climbing.remove(&instance);
                        self.landings.climbed(instance, Climbed::Failed(ENDED_EARLY.to_owned()));
                    }
                    Role::Join(_) | Role::Turn => {}
                }
            }
        }
        let grace_ms = cause.grace_ms(self.options.grace_ms);
        self.actions.push(Action::CancelAll { grace_ms, reach: cause.reach() });
    }

    fn name(&self, instance: InstanceIx) -> InstanceId {
        self.graph.instance(instance).id.clone()
    }
}

/// What an attempt says of the machine that failed it, in a few words.
fn says_why(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Infra { detail } => detail.clone(),
        end => words::end(end),
    }
}
