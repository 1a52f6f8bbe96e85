//! A core as a journal left it. The facts of the [`History`] go through the same schedule and the same train as live ones,
//! in the order in which the schedule would start them, so there is no second idea of what follows from a result. What
//! comes out that the journal has already is dropped; what it has and what does not come out again is open again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use swarm_plans::graph::Need;
use swarm_plans::{AllowFailure, Fan, InstanceId, InstanceIx, Overlap, TaskGraph, TaskIx};

use super::given_up::given_up;
use super::reuse::Lookup;
use super::{INSTANCES_PER_EVENT_MAX, Options, Role, RunCore, StopCause, Tried};
use crate::dispatcher::core::FailFast;
use crate::dispatcher::history::{Became, History, Past, SecondTry, Word};
use crate::dispatcher::needs::{NeedsView, transitive};
use crate::event::{AttemptEnd, ChangeSummary, Handed, InstanceResult, RunEvent};
use crate::ids::Attempt;
use crate::schedule::{NodeIx, Verdict};

/// A core that goes on, and what has to be in the journal before it does.
#[derive(Debug)]
pub struct Resumed {
    /// The core; [`RunCore::pump`] starts it.
    pub core: RunCore,
    /// Fan-outs that ended without items under their task's own name, and are open again.
    pub unexpanded: NoLonger,
    /// Results that no longer hold, in graph order; those of `unexpanded` are not among them.
    pub reopened: NoLonger,
    /// What happened besides, in order: attempts that were lost, results that follow anew.
    pub events: Vec<RunEvent>,
}

/// Results that no longer hold.
type NoLonger = Vec<(InstanceId, InstanceResult)>;

/// Something that an instance which is still open will be given.
#[derive(Debug)]
pub struct Leaning<'a> {
    /// Whose.
    pub id: &'a InstanceId,
    /// Its newest attempt.
    pub attempt: Attempt,
    /// Its change, when that has to be there.
    pub change: Option<&'a ChangeSummary>,
    /// Whether its artifacts have to be there.
    pub artifacts: Artifacts,
}

/// Whether artifacts are handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Artifacts {
    /// To nobody that is open.
    Unneeded,
    /// They are.
    Needed,
}

impl RunCore {
    /// A core for the rest of a run. `graph` is as the plan's text and the globs give it.
    pub fn resume(
        graph: TaskGraph,
        options: Options,
        expected_ms: &dyn Fn(&str) -> Option<u64>,
        history: &History,
    ) -> Resumed {
        let fail_fast = options.fail_fast;
        // A failure of the past stops the run when all of the past is known, not in its midst.
        let options = Options { fail_fast: FailFast::No, ..options };
        let had_theirs = match graph.plan().merge.overlap {
            Overlap::Serialize => ended(&graph, history),
            Overlap::Parallel => HashSet::new(),
        };
        let mut core = RunCore::after(graph, options, expected_ms, had_theirs);
        core.landings.verified_before(history.verifications());
        core.landings.landed_before(history.tip());
        core.given_up = given_up(history);
        let open = core.relive(history);
        if let Some(queue) = &mut core.queue {
            queue.had_theirs.clear();
        }
        core.options.fail_fast = fail_fast;
        core.relive_grounds(history);
        core.relive_landed(history);
        core.waited = core.that_waited(history);
        open.into_iter().for_each(|node| core.schedule.wake(node));
        let failed = core.events.iter().any(|event| core.is_failure(event));
        let mut events = core.lost(history);
        let (anew, follows) = core.compare(history);
        let (unexpanded, reopened) = core.open_again(history, &anew);
        events.extend(follows);
        if fail_fast == FailFast::Yes && failed {
            core.stop(StopCause::FailFast);
            let (more, _) = core.take();
            events.extend(more);
        }
        Resumed { core, unexpanded, reopened, events }
    }

    /// Says at which commit (full hex id) the target stands: what is tried again first starts from there.
    pub fn stands_at(&mut self, tip: String) {
        self.landings.stands_at(tip);
    }

    /// Whether an event is a result that ends a run under `--fail-fast`.
    fn is_failure(&self, event: &RunEvent) -> bool {
        use InstanceResult::{Failed, TimedOut, Violation};
        let RunEvent::InstanceFinished { instance: id, result, .. } = event else { return false };
        let instance = self.graph.instance_by_id(&id.0);
        let allowed = instance.is_some_and(|ix| self.states[ix.index()].allowed);
        matches!(result, Failed | TimedOut | Violation) && !allowed && !self.given_up.contains(id)
    }

    /// Feeds everything that holds through the schedule. Returns what is open and could start, all of it resting.
    fn relive(&mut self, history: &History) -> Vec<NodeIx> {
        let mut open = Vec::new();
        while let Some(node) = self.schedule.start_next() {
            let done = match self.roles[node.index()] {
                Role::Instance(ix) => self.relive_instance(ix, history),
                Role::Fan(task) => self.relive_fan(task, history),
                Role::Join(_) | Role::Turn => unreachable!("BUG: a join is never started"),
                Role::Climb(_) => unreachable!("BUG: nothing lands while the past is relived"),
            };
            if done == Relived::Open {
                self.schedule.rest(node);
                open.push(node);
            }
        }
        self.relive_attempts(history);
        self.landings.rounds_before(history.rounds() as usize);
        self.relive_turns(history);
        self.relive_starts(history);
        open
    }

    /// How often each instance was tried, whether or not it has joined yet, and what it hands over by now.
    fn relive_attempts(&mut self, history: &History) {
        let tried = |past: &Past, is_open: bool| Tried {
            attempts: past.attempts,
            lost: match is_open && past.result.is_some_and(InstanceResult::passed) {
                // It passed with what its needs are no longer: the next try is the first with what they are.
                true => past.attempts,
                // Of one whose tries are forgotten, the one that ran is among them.
                false => (past.lost + u32::from(past.running.is_some())).min(past.attempts),
            },
            is_settled: past.is_settled_for_good(),
        };
        for (instance, state) in self.graph.instances().iter().zip(&mut self.states) {
            let past = history.instance(&instance.id);
            let before = past.map(|past| tried(past, state.result.is_none())).unwrap_or_default();
            (state.attempts, state.lost) = (before.attempts, before.lost);
            // What is behind something that is open again has not come up.
            state.is_settled |= before.is_settled;
            if let Some(past) = past.filter(|past| past.first_outputs.is_some() && state.result.is_some()) {
                state.outputs.clone_from(&past.outputs);
            }
        }
        if !self.graph.pending().is_empty() {
            let missing = history.instances().filter(|(id, _)| self.graph.instance_by_id(&id.0).is_none());
            self.tried_before = missing.map(|(id, past)| (id.clone(), tried(past, true))).collect();
        }
    }

    /// Who had their turn came after those that had ended by then, and not after those that are made again since.
    fn relive_turns(&mut self, history: &History) {
        if self.queue.is_none() {
            return;
        }
        let past_of = |ix: InstanceIx| history.instance(&self.graph.instance(ix).id);
        let all = || (0..self.states.len()).map(|at| InstanceIx(at as u32));
        let has_ended = |ix: InstanceIx| self.states[ix.index()].result.is_some();
        let again = all().filter_map(|ix| {
            let past = past_of(ix)?;
            match past.reopened {
                // What had ended and is open now is about to be opened again.
                before if !has_ended(ix) && (before > 0 || past.result.is_some()) => Some((ix, u32::MAX)),
                0 => None,
                reopened => Some((ix, reopened)),
            }
        });
        let started = all().filter(|ix| has_ended(*ix)).filter_map(|ix| Some((ix, past_of(ix)?.started)));
        self.before.relived(again.collect(), started);
    }

    /// What the changes started from that have no fate yet. Those who had their turn are relived in any order, so this is known
    /// when all of them are. Who only came before and changed nothing then was not among them, whatever it changed since.
    fn relive_starts(&mut self, history: &History) {
        for at in 0..self.states.len() {
            let (ix, state) = (InstanceIx(at as u32), &self.states[at]);
            if !state.result.is_some_and(InstanceResult::passed) || state.is_settled {
                continue;
            }
            let mut view = self.view(ix);
            let past_of = |ix: InstanceIx| history.instance(&self.graph.instance(ix).id);
            if let Some(past) = past_of(ix) {
                let saw = |earlier: InstanceIx| past_of(earlier).is_none_or(|earlier| past.saw_a_change_of(earlier));
                let is_from =
                    |need: InstanceIx| !view.comes_after.contains(&need) || !past.stands_on_landed && saw(need);
                if !view.changes.iter().all(|(need, _)| is_from(*need)) {
                    let changes = view.changes.iter().filter(|(need, _)| is_from(*need)).cloned().collect();
                    view = Arc::new(NeedsView { changes, ..NeedsView::clone(&view) });
                }
            }
            // What was parked was not asked when its needs ran again; now that a person asks for it, it is.
            let is_asked = |past: &&Past| past.word == Word::Again;
            let is_outdated = past_of(ix).filter(is_asked).is_some_and(|past| self.is_outdated(ix, past, history));
            let state = &mut self.states[at];
            state.builds_on = Some(view);
            state.is_stale |= is_outdated;
        }
    }

    /// Whether any that an instance needs handed over something else since.
    fn is_outdated(&self, ix: InstanceIx, past: &Past, history: &History) -> bool {
        let needs = self.graph.needs_of(self.graph.instance(ix).task, Some(ix));
        let mut instances = needs.into_iter().flat_map(|need| match need {
            Need::Task(task) => self.graph.task_instances(task).to_vec(),
            Need::Instance(one) => vec![one],
        });
        instances
            .any(|need| history.instance(&self.graph.instance(need).id).is_some_and(|need| past.is_outdated_by(need)))
    }

    fn relive_instance(&mut self, ix: InstanceIx, history: &History) -> Relived {
        let id = &self.graph.instance(ix).id;
        let state = &mut self.states[ix.index()];
        let Some(past) = history.instance(id) else { return Relived::Open };
        state.is_settled = past.is_settled_for_good();
        // That is so, too, where it runs again because what it left is gone.
        match past.fate {
            Some(Became::Parked) => self.landings.was_parked(ix),
            Some(Became::Dropped) => self.landings.was_dropped(ix),
            Some(Became::Landed | Became::Empty | Became::GivenUp) | None => {}
        }
        let Some(result) = history.still_holds(id, past, state.allowed) else { return Relived::Open };
        state.is_settled = past.fate.is_some();
        self.relive_result(ix, result, past, history.rounds() > 0);
        Relived::Ended
    }

    fn relive_result(&mut self, ix: InstanceIx, result: InstanceResult, past: &Past, has_rounds: bool) {
        let state = &mut self.states[ix.index()];
        // Fan-outs have had their items from what was handed over first; see `relive_attempts`.
        state.outputs.clone_from(past.first_outputs.as_deref().unwrap_or(&past.outputs));
        (state.gave, state.is_stale) = (past.gave, past.is_stale);
        state.ran_again = past.first_outputs.is_some();
        state.change.clone_from(&past.change);
        state.lookup = Lookup::of(past.origin);
        state.word = past.word;
        if let Some(second) = &past.second {
            self.second_tries.insert(ix, SecondTry::clone(second));
        }
        let passes = result.passed() || result == InstanceResult::Skipped || self.states[ix.index()].allowed;
        self.record(ix, result, None);
        // Who joins meanwhile joins the last of the rounds.
        if has_rounds {
            self.landings.was_in(self.place(ix), past.round as usize);
        }
        let effects = self.schedule.finish(self.nodes[ix.index()], if passes { Verdict::Pass } else { Verdict::Fail });
        self.effects(effects);
    }

    fn relive_fan(&mut self, task: TaskIx, history: &History) -> Relived {
        if self.is_fan_given_up(task) {
            self.fan_stays_given_up(task);
            return Relived::Ended;
        }
        let waiting = self.graph.pending().into_iter().find(|waiting| waiting.task == task);
        let giver = waiting.and_then(|waiting| match waiting.source {
            Fan::Output { task, .. } => Some(task),
            Fan::Grown { giver } => Some(giver),
            _ => None,
        });
        // From what was handed over first, unless its items are named; or it was not asked yet when that was made again.
        let is_output = giver.is_some_and(|giver| !self.ran_again(giver) || self.was_expanded(task, history));
        let name = self.graph.plan().task(task).name.0.clone();
        match history.items(&name) {
            // An output is in the journal, so what follows from it is the same again.
            None if is_output => self.start_fan(task),
            None => return Relived::Open,
            Some(items) => self.items(task, Ok(items.clone())),
        }
        Relived::Ended
    }

    /// Whether the journal names an instance of a fan-out, or what stands for one that has none.
    fn was_expanded(&self, task: TaskIx, history: &History) -> bool {
        let family: Vec<&str> =
            self.graph.family(task).into_iter().map(|member| self.graph.plan().task(member).name.0.as_str()).collect();
        let is_of_it = |id: &InstanceId| family.contains(&id.task());
        // What stands for one that was never asked has no result of its own.
        let was_asked = |past: &Past| !matches!(past.result, Some(InstanceResult::Cancelled | InstanceResult::Blocked));
        history.instances().any(|(id, past)| is_of_it(id) && (id.0.contains('[') || was_asked(past)))
    }

    /// Those that waited until their needs are settled.
    fn that_waited(&self, history: &History) -> HashSet<InstanceIx> {
        let waited = |ix: &InstanceIx| {
            let is_open = self.states[ix.index()].result.is_none() && !self.grounds.contains_key(ix);
            is_open && history.instance(&self.graph.instance(*ix).id).is_some_and(|past| past.is_contradicted)
        };
        (0..self.states.len()).map(|at| InstanceIx(at as u32)).filter(waited).collect()
    }

    /// The attempts that died with their coordinator.
    fn lost(&self, history: &History) -> Vec<RunEvent> {
        let mut lost: Vec<(&InstanceId, Attempt)> =
            history.instances().filter_map(|(id, past)| Some((id, past.running?))).collect();
        lost.sort_unstable();
        let event = |(id, attempt): (&InstanceId, Attempt)| RunEvent::AttemptFinished {
            instance: id.clone(),
            attempt,
            end: AttemptEnd::Lost,
            duration_ms: 0,
            change: None,
            outputs: serde_json::Map::new(),
            handed: Handed::Unknown,
            notes: vec![],
            refusals: vec![],
            envelope: None,
            retry_in_ms: Some(0),
        };
        lost.into_iter().map(event).collect()
    }

    /// Which of the journal's results came out again, by their places in the history, and what came out that it does not have.
    fn compare(&mut self, history: &History) -> (Vec<bool>, Vec<RunEvent>) {
        let (events, actions) = self.take();
        debug_assert!(actions.is_empty(), "BUG: nothing is done while the past is relived");
        // Of those that stand for a fan-out; they have no place in the graph.
        let results: HashMap<InstanceId, (InstanceResult, Option<String>)> =
            events.iter().filter_map(result).filter(|(id, _)| self.graph.instance_by_id(&id.0).is_none()).collect();
        let (mut again, mut follows) = (vec![false; history.instances().len()], Vec::new());
        for event in events {
            match event {
                RunEvent::InstancesAdded { mut instances } => {
                    // A fan-out that ended without items and ends so again, but otherwise, joins again: what stood for it
                    // goes with `run-resumed`.
                    let stands_in_anew = |id: &InstanceId, past: &Past| {
                        let is_as_before = match results.get(id) {
                            Some((result, cause)) => past.ended_so(*result, cause.as_deref()),
                            None => past.result.is_none(),
                        };
                        self.graph.instance_by_id(&id.0).is_none() && !is_as_before
                    };
                    instances
                        .retain(|added| history.instance(&added.id).is_none_or(|past| stands_in_anew(&added.id, past)));
                    if !instances.is_empty() {
                        follows.push(RunEvent::InstancesAdded { instances });
                    }
                }
                RunEvent::InstanceFinished { instance, result, cause } => {
                    match history.place_of(&instance).filter(|(_, past)| past.ended_so(result, cause.as_deref())) {
                        Some((place, _)) => again[place] = true,
                        None => follows.push(RunEvent::InstanceFinished { instance, result, cause }),
                    }
                }
                other => follows.push(other),
            }
        }
        (again, follows)
    }

    /// The journal's results that did not come out again.
    fn open_again(&self, history: &History, again: &[bool]) -> (NoLonger, NoLonger) {
        let gone = |((id, past), again): ((&InstanceId, &Past), &bool)| {
            let result = past.result.filter(|_| !again)?;
            Some((self.graph.instance_by_id(&id.0), id.clone(), result))
        };
        let mut all: Vec<(Option<InstanceIx>, InstanceId, InstanceResult)> =
            history.instances().zip(again).filter_map(gone).collect();
        all.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let (mut unexpanded, mut reopened) = (Vec::new(), Vec::new());
        for (ix, id, result) in all {
            match ix {
                Some(_) => reopened.push((id, result)),
                // What stands for a fan-out that was given up stays for it.
                None if self.given_up.contains(&id) => {}
                None => unexpanded.push((id, result)),
            }
        }
        (unexpanded, reopened)
    }

    /// What instances that are still open will be given by those that have ended: it has to be there still.
    pub fn leanings(&self) -> Vec<Leaning<'_>> {
        let mut direct: HashSet<InstanceIx> = HashSet::new();
        let mut changes: HashSet<InstanceIx> = HashSet::new();
        let passed = |ix: &InstanceIx| self.states[ix.index()].result.is_some_and(InstanceResult::passed);
        // What has not ended may pass yet.
        let may_count = |ix: InstanceIx| self.states[ix.index()].result.is_none_or(InstanceResult::passed);
        let all = || (0..self.states.len()).map(|at| InstanceIx(at as u32));
        let mut needs_seen = HashSet::new();
        for ix in all().filter(|ix| self.states[ix.index()].result.is_none()) {
            let needs = self.graph.needs_of(self.graph.instance(ix).task, Some(ix));
            if needs_seen.insert(needs.clone()) {
                direct.extend(super::super::needs::direct(&self.graph, &needs).into_iter().filter(passed));
                changes
                    .extend(transitive(&self.graph, &self.before, (needs, &[]), &may_count).into_iter().filter(passed));
            }
            let turn = self.before.of(ix);
            changes
                .extend(transitive(&self.graph, &self.before, (vec![], turn), &may_count).into_iter().filter(passed));
        }
        changes.extend(all().filter(passed).filter(|ix| !self.states[ix.index()].is_settled));
        let mut all: Vec<InstanceIx> = direct.union(&changes).copied().collect();
        all.sort_unstable();
        let leaning = |ix: InstanceIx| Leaning {
            id: &self.graph.instance(ix).id,
            attempt: Attempt(self.states[ix.index()].gave),
            change: self.states[ix.index()].change.as_deref().filter(|_| changes.contains(&ix)),
            artifacts: if direct.contains(&ix) { Artifacts::Needed } else { Artifacts::Unneeded },
        };
        all.into_iter().map(leaning).collect()
    }
}

/// The instances whose results hold.
fn ended(graph: &TaskGraph, history: &History) -> HashSet<InstanceId> {
    let holds = |(id, _): &(&InstanceId, &Past)| {
        // Instances of fan-outs that are not answered yet are known by their task's name in front of the bracket.
        let task = graph.plan().task_by_name(id.task());
        let allowed = task.is_some_and(|task| graph.plan().task(task).allow_failure == AllowFailure::Yes);
        history.holds(id, allowed).is_some()
    };
    history.instances().filter(holds).map(|(id, _)| id.clone()).collect()
}

fn result(event: &RunEvent) -> Option<(InstanceId, (InstanceResult, Option<String>))> {
    match event {
        RunEvent::InstanceFinished { instance, result, cause } => Some((instance.clone(), (*result, cause.clone()))),
        _ => None,
    }
}

impl Resumed {
    /// Those of `asked` that there still are behind `run-resumed`: what stood for a fan-out is gone with it.
    pub fn still_there(&self, asked: &[InstanceId]) -> Vec<InstanceId> {
        let is_gone = |id: &InstanceId| self.unexpanded.iter().any(|(gone, _)| gone == id);
        asked.iter().filter(|id| !is_gone(id)).cloned().collect()
    }

    /// Everything that has to be in the journal behind `run-resumed`, in order.
    pub fn take_events(&mut self) -> Vec<RunEvent> {
        let ids: Vec<InstanceId> = self.reopened.iter().map(|(id, _)| id.clone()).collect();
        let reopened = ids.chunks(INSTANCES_PER_EVENT_MAX).map(|ids| RunEvent::Reopened { instances: ids.to_vec() });
        let (lost, rest): (Vec<RunEvent>, Vec<RunEvent>) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| matches!(event, RunEvent::AttemptFinished { .. }));
        lost.into_iter().chain(reopened).chain(rest).collect()
    }
}

/// What became of something that the schedule started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relived {
    /// Its result holds.
    Ended,
    /// It is still to be done.
    Open,
}
