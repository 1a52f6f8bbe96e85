//! The state of a run and every decision in it, as a pure value: inputs in, events and actions out. No clock, no I/O, no
//! randomness; the loop in [`super`] stores the events, announces them, carries out the actions and feeds back what comes
//! of them. Start reading at [`RunCore::handle`].

use std::collections::BTreeSet;
use std::sync::Arc;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::{Map, Value};
use swarm_plans::{AllowFailure, Fan, InstanceId, InstanceIx, Need, RenderError, Rendered, TaskGraph, TaskIx};

use super::needs::{NeedsView, Views};
use crate::event::{AddedInstance, ChangeSummary, Fate, InstanceResult, OnFailure, RunEvent};
use crate::ids::Attempt;
use crate::merge::order::{End, Next, Place, TaskPlace, Train};
use crate::report::Ending;
use crate::retry;
use crate::schedule::{Effect, NodeIx, NodeSpec, Schedule, Verdict};

pub use super::messages::{
    Action, AttemptDone, AttemptJob, FailFast, FoldedBatch, Input, Landing, Options, RunFacts, StopCause, TargetMove,
};

/// How often a batch is folded again because somebody else moved the target meanwhile.
pub const REFOLDS_MAX: u32 = 10;

/// Why a fan-out that was never answered is cancelled.
const ENDED_EARLY: &str = "the run ended early";

/// What is known of an instance.
#[derive(Debug, Default)]
pub struct InstanceState {
    /// How often it was started.
    pub attempts: u32,
    /// Its final result.
    pub result: Option<InstanceResult>,
    /// Its outputs by name.
    pub outputs: Map<String, Value>,
    /// The change of its last attempt.
    pub change: Option<ChangeSummary>,
    /// What it started from, kept until it is merged.
    builds_on: Option<Arc<NeedsView>>,
    /// Its failure is no failure of the run: dependents run without its change.
    allowed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Instance(InstanceIx),
    Fan(TaskIx),
    Join(TaskIx),
}

#[derive(Debug)]
enum Target {
    Idle,
    Folding { batch: Vec<Landing>, refolds: u32 },
    Moving { batch: Vec<Landing>, refolds: u32, fates: Vec<(InstanceIx, Fate)> },
}

/// Instances that one event names: a fan-out of a hundred thousand is never one text in memory.
const INSTANCES_PER_EVENT_MAX: usize = 1000;

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
    views: Views,
    train: Train,
    parked: BTreeSet<InstanceIx>,
    target: Target,
    stop: Option<StopCause>,
    /// Randomness for jitter, given by the caller with every input.
    spread: f64,
    events: Vec<RunEvent>,
    actions: Vec<Action>,
}

impl RunCore {
    /// A run of `graph`. `expected_ms` gives a task's usual duration, where one is known.
    pub fn new(graph: TaskGraph, options: Options, expected_ms: &dyn Fn(&str) -> Option<u64>) -> Self {
        let capacities = graph.plan().resources.values().copied().collect();
        let rank = levels(&graph);
        let mut core = RunCore {
            schedule: Schedule::new(options.jobs, capacities),
            train: Train::new(),
            graph,
            options,
            roles: vec![],
            joins: vec![],
            nodes: vec![],
            states: vec![],
            rank,
            views: Views::default(),
            parked: BTreeSet::new(),
            target: Target::Idle,
            stop: None,
            spread: 0.5,
            events: vec![],
            actions: vec![],
        };
        core.build(expected_ms);
        core
    }

    /// Takes one input; `spread` is uniformly random in `0.0..1.0`. Afterwards [`RunCore::take`] gives what follows from it.
    pub fn handle(&mut self, input: Input, spread: f64) {
        self.spread = spread;
        match input {
            Input::Attempt(ix, done) => self.attempt_done(ix, *done),
            Input::Items(task, items) => self.items(task, items),
            Input::RetryDue(ix) => self.retry_due(ix),
            Input::Folded(batch) => self.folded(batch),
            Input::Moved(outcome) => self.moved(outcome),
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
        self.schedule.is_done() && self.train.is_done() && matches!(self.target, Target::Idle)
    }

    /// The graph as it has grown.
    pub fn graph(&self) -> &TaskGraph {
        &self.graph
    }

    /// Why the run stopped, for its exit code, and in a word for people when it ended early.
    pub fn ending(&self) -> (Ending, Option<&'static str>) {
        self.stop.map_or((Ending::Complete, None), |cause| {
            let (ending, word) = cause.ending();
            (ending, Some(word))
        })
    }

    fn build(&mut self, expected_ms: &dyn Fn(&str) -> Option<u64>) {
        let tasks: Vec<TaskIx> = (0..self.graph.plan().tasks.len()).map(|at| TaskIx(at as u32)).collect();
        self.joins = tasks.iter().map(|&task| self.add_node(NodeSpec::Join, Role::Join(task))).collect();
        let pending = self.graph.pending();
        for waiting in &pending {
            let fan =
                self.add_node(NodeSpec::Work { weight_ms: 1, priority: 0, demand: vec![] }, Role::Fan(waiting.task));
            for need in self.graph.named_needs(waiting.task).to_vec() {
                self.schedule.add_need(fan, self.joins[need.index()]);
            }
            self.schedule.add_need(self.joins[waiting.task.index()], fan);
        }
        for waiting in &pending {
            self.train.open(self.task_place(waiting.task));
        }
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
        for &ix in added {
            let task_ix = self.graph.instance(ix).task;
            let task = self.graph.plan().task(task_ix);
            let resource = |name: &String| self.graph.plan().resources.get_index_of(name).expect("validated");
            let mut demand: Vec<(usize, u32)> =
                task.resources.iter().filter(|(_, n)| **n > 0).map(|(name, n)| (resource(name), *n)).collect();
            demand.sort_unstable();
            let weight_ms = expected_ms(&task.name.0).unwrap_or(1000);
            let spec = NodeSpec::Work { weight_ms, priority: task.priority, demand };
            let allowed = task.allow_failure == AllowFailure::Yes;
            let node = self.add_node(spec, Role::Instance(ix));
            self.nodes.push(node);
            self.states.push(InstanceState { allowed, ..InstanceState::default() });
            let place = self.place(ix);
            self.train.join(place);
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
        let describe = |&ix: &InstanceIx| {
            let instance = self.graph.instance(ix);
            let task = self.graph.plan().task(instance.task);
            let needs = self.graph.needs_of(instance.task, Some(ix)).into_iter().map(|need| match need {
                Need::Task(task) => self.graph.plan().task(task).name.0.clone(),
                Need::Instance(other) => self.graph.instance(other).id.0.clone(),
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

    /// Starts what can start and folds what can be folded.
    pub fn pump(&mut self) {
        while let Some(node) = self.schedule.start_next() {
            match self.roles[node.index()] {
                Role::Instance(ix) => self.start(ix),
                Role::Fan(task) => self.start_fan(task),
                Role::Join(_) => unreachable!("BUG: a join is never started"),
            }
        }
        self.drive_target();
    }

    fn start_fan(&mut self, task: TaskIx) {
        let waiting = self.graph.pending().into_iter().find(|waiting| waiting.task == task);
        let waiting = waiting.expect("BUG: a fan-out starts once for each of its sources");
        if let Fan::Output { task: need, output } = &waiting.source {
            let value = super::needs::output(&self.graph, &self.states, *need, output);
            let name = &self.graph.plan().task(*need).name;
            let items = match value {
                Some(Value::Array(items)) => Ok(items),
                Some(_) => Err(format!("output `{output}` of `{name}` is not a list")),
                None => Err(format!("`{name}` gave no output `{output}`")),
            };
            self.items(task, items);
            return;
        }
        let Fan::Lines(command) = &waiting.source else {
            unreachable!("BUG: lists need no answer, and globs are answered before the run");
        };
        let facts = &self.options.facts;
        let rendered = self.graph.render_command(command, &facts.context(&Value::Null, &facts.lookup()));
        match rendered {
            Ok(command) => self.actions.push(Action::Items { task, command }),
            Err(error) => self.items(task, Err(error.to_string())),
        }
    }

    fn start(&mut self, ix: InstanceIx) {
        let view = self.views.of(&self.graph, &self.states, &self.rank, ix);
        let rendered = match self.rendered(ix, &view.json) {
            Ok(Some(rendered)) => rendered,
            Ok(None) => return self.finish(ix, InstanceResult::Skipped, Some("its `if` is false".to_owned())),
            Err(error) => return self.finish(ix, InstanceResult::Failed, Some(error.to_string())),
        };
        let state = &mut self.states[ix.index()];
        state.attempts += 1;
        state.builds_on = Some(Arc::clone(&view));
        let attempt = Attempt(state.attempts);
        let (name, task) = (self.graph.instance(ix).id.clone(), self.graph.instance(ix).task);
        self.events.push(RunEvent::AttemptStarted { instance: name.clone(), attempt });
        let job = AttemptJob { instance: ix, name, task, attempt, rendered, needs: view };
        self.actions.push(Action::Attempt(Box::new(job)));
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

    fn attempt_done(&mut self, ix: InstanceIx, done: AttemptDone) {
        let task = self.graph.plan().task(self.graph.instance(ix).task);
        let state = &mut self.states[ix.index()];
        let wait = match self.stop {
            None => retry::next_delay(&task.retry, &done.end, state.attempts, self.spread),
            Some(_) => None,
        };
        let result = retry::result(&done.end, state.attempts);
        state.outputs = done.outputs.clone();
        state.change = done.change.clone();
        let retry_in_ms = wait.map(|wait| wait.as_millis() as u64);
        self.events.push(RunEvent::AttemptFinished {
            instance: self.graph.instance(ix).id.clone(),
            attempt: Attempt(state.attempts),
            end: done.end,
            duration_ms: done.duration_ms,
            change: done.change,
            outputs: done.outputs,
            notes: done.notes,
            retry_in_ms,
        });
        match retry_in_ms {
            Some(delay_ms) => {
                self.schedule.rest(self.nodes[ix.index()]);
                self.actions.push(Action::RetryIn { instance: ix, delay_ms });
            }
            None => self.finish(ix, result, None),
        }
    }

    fn retry_due(&mut self, ix: InstanceIx) {
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
            Some(change) if result.passed() && change.tree != change.base_tree => End::Change,
            Some(_) if result.passed() => End::Unchanged,
            _ => End::Nothing,
        };
        self.train.finished(self.place(ix), end);
    }

    fn task_place(&self, task: TaskIx) -> TaskPlace {
        TaskPlace { level: self.rank[task.index()], task: task.0 }
    }

    fn place(&self, ix: InstanceIx) -> Place {
        Place { task: self.task_place(self.graph.instance(ix).task), instance: ix.0 }
    }

    /// The change at a place of the train, with the instances it builds on.
    fn landing(&mut self, place: Place) -> Option<Landing> {
        let instance = InstanceIx(place.instance);
        let state = &mut self.states[instance.index()];
        let builds_on = state.builds_on.take();
        let change = state.change.clone()?;
        let builds_on = builds_on.iter().flat_map(|view| view.changes.iter().map(|(need, _)| *need)).collect();
        let name = self.graph.instance(instance).id.clone();
        Some(Landing { instance, name, change, builds_on })
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Blocked { node, cause } = effect else { continue };
            let cause = match self.roles[cause.index()] {
                Role::Instance(ix) => format!("its need `{}` did not pass", self.graph.instance(ix).id),
                Role::Fan(task) | Role::Join(task) => {
                    format!("the fan-out of `{}` did not get its items", self.graph.plan().task(task).name)
                }
            };
            match self.roles[node.index()] {
                Role::Instance(ix) => self.record(ix, InstanceResult::Blocked, Some(cause)),
                Role::Fan(task) => self.unexpanded(task, InstanceResult::Blocked, cause),
                Role::Join(_) => {}
            }
        }
    }

    /// A fan-out that never got its items ends under the task's own name, so that a person sees it.
    fn unexpanded(&mut self, task: TaskIx, result: InstanceResult, cause: String) {
        let name = &self.graph.plan().task(task).name.0;
        let id = InstanceId(name.clone());
        let added = AddedInstance { id: id.clone(), task: name.clone(), needs: vec![], on_failure: OnFailure::Fail };
        self.events.push(RunEvent::InstancesAdded { instances: vec![added] });
        self.events.push(RunEvent::InstanceFinished { instance: id, result, cause: Some(cause) });
        self.close(task);
    }

    fn close(&mut self, task: TaskIx) {
        self.train.close(self.task_place(task));
    }

    fn items(&mut self, task: TaskIx, items: Result<Vec<Value>, String>) {
        let is_fan = |role: &Role| matches!(role, Role::Fan(of) if *of == task);
        let fan = NodeIx::at(self.roles.iter().position(is_fan).expect("BUG: items of a task that is no fan-out"));
        if self.stop.is_some() {
            // What would be added now could never start.
            self.unexpanded(task, InstanceResult::Cancelled, ENDED_EARLY.to_owned());
            let effects = self.schedule.finish(fan, Verdict::Fail);
            return self.effects(effects);
        }
        let added = items.and_then(|items| self.graph.supply(task, items).map_err(|error| error.to_string()));
        match added {
            Ok(added) => {
                self.add_instances(&added, &|_| None);
                let effects = self.schedule.seal();
                self.effects(effects);
                self.close(task);
                let effects = self.schedule.finish(fan, Verdict::Pass);
                self.effects(effects);
            }
            Err(reason) => {
                self.unexpanded(task, InstanceResult::Failed, reason);
                let effects = self.schedule.finish(fan, Verdict::Fail);
                self.effects(effects);
                if self.options.fail_fast == FailFast::Yes {
                    self.stop(StopCause::FailFast);
                }
            }
        }
    }

    fn stop(&mut self, cause: StopCause) {
        if self.stop.is_some_and(|before| before >= cause) {
            return;
        }
        let first = self.stop.is_none();
        self.stop = Some(cause);
        if first {
            for node in self.schedule.stop() {
                match self.roles[node.index()] {
                    Role::Instance(ix) => self.record(ix, InstanceResult::Cancelled, None),
                    Role::Fan(task) => self.unexpanded(task, InstanceResult::Cancelled, ENDED_EARLY.to_owned()),
                    Role::Join(_) => {}
                }
            }
        }
        self.actions.push(Action::CancelAll { grace_ms: cause.grace_ms(self.options.grace_ms) });
    }

    fn drive_target(&mut self) {
        if !matches!(self.target, Target::Idle) {
            return;
        }
        let mut batch = Vec::new();
        while let Some(next) = self.train.advance() {
            let (Next::Fold(place) | Next::Empty(place)) = next;
            let ix = InstanceIx(place.instance);
            let instance = self.graph.instance(ix).id.clone();
            if let Next::Empty(_) = next {
                self.events.push(RunEvent::Merged { instance, fate: Fate::Empty });
                continue;
            }
            let Some(landing) = self.landing(place) else { continue };
            match landing.builds_on.iter().find(|need| self.parked.contains(need)) {
                None => batch.push(landing),
                Some(need) => {
                    let reason = builds_on_parked(&self.graph.instance(*need).id.0);
                    self.parked.insert(ix);
                    self.events.push(RunEvent::Merged { instance, fate: Fate::Parked { reason, paths: vec![] } });
                }
            }
        }
        if !batch.is_empty() {
            self.actions.push(Action::Fold(batch.clone()));
            self.target = Target::Folding { batch, refolds: 0 };
        }
    }

    fn folded(&mut self, folded: FoldedBatch) {
        let Target::Folding { batch, refolds } = std::mem::replace(&mut self.target, Target::Idle) else {
            unreachable!("BUG: nothing was being folded");
        };
        match folded.to {
            Some(to) if Some(&to) != folded.from.as_ref() => {
                self.events.push(RunEvent::Landing { from: folded.from.clone(), to: to.clone() });
                self.actions.push(Action::MoveTarget { from: folded.from, to });
                self.target = Target::Moving { batch, refolds, fates: folded.fates };
            }
            _ => self.settle_fates(folded.fates),
        }
    }

    fn moved(&mut self, outcome: TargetMove) {
        let Target::Moving { batch, refolds, fates } = std::mem::replace(&mut self.target, Target::Idle) else {
            unreachable!("BUG: the target was not being moved");
        };
        let park = |reason: String| {
            batch.iter().map(|l| (l.instance, Fate::Parked { reason: reason.clone(), paths: vec![] })).collect()
        };
        match outcome {
            TargetMove::Done => self.settle_fates(fates),
            TargetMove::Lost if refolds < REFOLDS_MAX => {
                self.actions.push(Action::Fold(batch.clone()));
                self.target = Target::Folding { batch, refolds: refolds + 1 };
            }
            TargetMove::Lost => self.settle_fates(park("the target kept moving while this was merged".to_owned())),
            TargetMove::Refused(reason) => self.settle_fates(park(format!("the target could not be moved: {reason}"))),
        }
    }

    fn settle_fates(&mut self, fates: Vec<(InstanceIx, Fate)>) {
        for (ix, fate) in fates {
            if matches!(fate, Fate::Parked { .. }) {
                self.parked.insert(ix);
            }
            self.events.push(RunEvent::Merged { instance: self.graph.instance(ix).id.clone(), fate });
        }
    }
}

/// Why a change is parked that builds on a parked one.
pub fn builds_on_parked(need: &str) -> String {
    format!("it builds on `{need}`, which is parked")
}

/// The depth of each task: 0 without needs, else one more than its deepest need. Tasks whose instances need each other
/// crosswise stand at one depth: their order is that of the plan then.
fn levels(graph: &TaskGraph) -> Vec<u32> {
    let count = graph.plan().tasks.len();
    let mut tasks: DiGraph<(), ()> = DiGraph::with_capacity(count, count);
    for _ in 0..count {
        tasks.add_node(());
    }
    for task in 0..count {
        for need in graph.named_needs(TaskIx(task as u32)) {
            tasks.add_edge(NodeIndex::new(task), NodeIndex::new(need.index()), ());
        }
    }
    let mut levels = vec![0; count];
    // Needs come before what needs them. Source: petgraph's `tarjan_scc`, "reverse topological order".
    for group in tarjan_scc(&tasks) {
        let outside = group.iter().flat_map(|&task| tasks.neighbors(task)).filter(|need| !group.contains(need));
        let level = outside.map(|need| levels[need.index()] + 1).max().unwrap_or(0);
        group.iter().for_each(|task| levels[task.index()] = level);
    }
    levels
}
