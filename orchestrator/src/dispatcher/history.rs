//! What a journal says of a run, as far as a fresh core has to know it: results with their outputs and changes, items of
//! fan-outs, and a landing that was announced and perhaps not made. Pure: events in, facts out.

/// Who waits no longer until its needs are settled.
mod ground;
/// What is left of a result when the repository has lost some of it.
mod left;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;
use swarm_plans::InstanceId;
use swarm_protocol::Ended;

use self::ground::Ground;
pub use self::left::{Files, Left};
use super::kept::{Changes, Outputs};
use super::messages::Origin;
use crate::event::{
    AttemptEnd, CallOutcome, ChangeSummary, Counted, Fate, GivenUp, Handed, InstanceResult, Merge, RefusalKind, Remedy,
    ReusedInstance, RunEvent,
};
use crate::ids::Attempt;
use crate::journal::Spending;

/// What is known of one instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// The number of its newest attempt; 0 when it was never started.
    pub attempts: u32,
    /// Among them, those that say nothing about the work: their coordinator died, they were cancelled, or the machine failed
    /// them. Whoever goes on with the run does not count them as tries.
    pub lost: u32,
    /// The attempt without an end.
    pub running: Option<Attempt>,
    /// Whether the newest attempt that ended did so for reasons of ours.
    pub failed_by: FailedBy,
    /// Its result, when it has one.
    pub result: Option<InstanceResult>,
    /// Whose failure kept it from starting, for people; `None` for all that is not blocked.
    blocked_by: Option<Box<str>>,
    /// Its outputs by name.
    pub outputs: Outputs,
    /// The attempt that handed over these outputs and the artifacts beside them.
    pub gave: u32,
    /// Whether there are such artifacts.
    pub handed: Handed,
    /// What its first success handed over, where it ran again since: fan-outs have had their items from that.
    pub first_outputs: Option<Box<Outputs>>,
    /// A task that it needs ran again behind it, and it has not since.
    pub is_stale: bool,
    /// The change of its newest attempt.
    pub change: Option<Arc<ChangeSummary>>,
    /// What it changed when it ran again for the first time although its change had landed.
    made_again: Option<Arc<ChangeSummary>>,
    /// Where its change comes from.
    pub origin: Origin,
    /// What became of its change.
    pub fate: Option<Became>,
    /// What a person said of its change, which was parked.
    pub word: Word,
    /// Its change did not land as it was, or waited for one that did not.
    pub second: Option<Box<SecondTry>>,
    /// Its newest attempt found that the changes of its needs contradict each other.
    pub is_contradicted: bool,
    /// Its change was made on what had landed by then: it came after nobody.
    pub stands_on_landed: bool,
    /// Where it may start since it waits no longer until its needs are settled.
    ground: Option<Box<Ground>>,
    /// The round of the train in which it takes its turn, from 0.
    pub round: u32,
    /// How many had turned when it started.
    pub started: u32,
    /// It was opened again: it was the how-manieth to turn. 0 for all others.
    pub reopened: u32,
    /// The same of one that had not landed by then, so that others may be given something else.
    remade: u32,
    /// It changed nothing and did so when it ran again, or what it changed holds no more: it was the how-manieth to turn so, and who had
    /// started by then had nothing of what it changes now. 0 for all others.
    turned: u32,
    /// It ran again behind its first success and handed over something else: it was the how-manieth to turn. 0 for all others.
    handed_anew: u32,
}

/// What became of a change, without the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It is on the target branch.
    Landed,
    /// It is kept and not merged.
    Parked,
    /// It changed nothing.
    Empty,
    /// It was parked, or no branch had it any more, and a person gave it up.
    Dropped,
    /// Its instance failed, and a person gave that up.
    GivenUp,
}

impl From<&Fate> for Became {
    fn from(fate: &Fate) -> Self {
        match fate {
            Fate::Landed { .. } => Became::Landed,
            Fate::Parked { .. } => Became::Parked,
            Fate::Empty => Became::Empty,
            Fate::Dropped { was: GivenUp::Parked | GivenUp::Landed } => Became::Dropped,
            Fate::Dropped { was: GivenUp::Failed } => Became::GivenUp,
        }
    }
}

/// Why a change does not land as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For people.
    pub reason: String,
    /// The conflicting paths, rendered for people; at most 20.
    pub paths: Vec<String>,
    /// What kind of refusal it is.
    pub kind: RefusalKind,
    /// The number of the verification that was red with it, where one was.
    pub verification: Option<u64>,
}

/// A change that did not land in its first turn.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondTry {
    /// All that was tried against a refusal, the newest last.
    pub tried: Vec<Remedy>,
    /// Where it stands.
    pub stands: Stands,
}

/// Where a change stands that did not land in its first turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Stands {
    /// It is put aside.
    Aside(Box<PutAside>),
    /// Its turn has come again: the how-manieth of all turns that came again.
    Requeued(u64),
}

/// A change that was put aside.
#[derive(Debug, Clone, PartialEq)]
pub struct PutAside {
    /// Why.
    pub refusal: Refusal,
    /// What is tried now.
    pub next: Remedy,
    /// What came of `next`, when it is over and says something about the work.
    pub came: Option<Came>,
}

/// What came of trying something with a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Came {
    /// The attempt.
    pub attempt: Attempt,
    /// How it ended.
    pub end: AttemptEnd,
    /// What it changed.
    pub change: Option<ChangeSummary>,
    /// Its outputs by name.
    pub outputs: Outputs,
    /// Whether files lie beside them.
    pub handed: Handed,
}

/// What a person said of a change that was parked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Word {
    /// Nothing.
    #[default]
    None,
    /// It is to be tried again: its task may run once more, on what landed.
    Again,
    /// They settled it by hand: nothing but that is tried.
    ByHand,
}

/// Whose fault an attempt's end was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailedBy {
    /// The work's, or nobody's.
    #[default]
    Work,
    /// Ours or the machine's.
    Machine,
}

/// A landing that was announced: the target was about to move.
#[derive(Debug, Clone, PartialEq)]
pub struct Announced {
    /// Full hex commit id of the target before; `None` when it did not exist.
    pub from: Option<String>,
    /// Full hex commit id of the target after.
    pub to: String,
    /// What was to become of each change.
    pub merges: Vec<Merge>,
}

/// How many a person wants tried again of those that were put aside for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// They are parked no more.
    pub parked: u64,
    /// They are given up no more.
    pub dropped: u64,
}

/// All facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// In the order in which the journal names them first.
    instances: IndexMap<InstanceId, Past>,
    changes: Changes,
    items: HashMap<String, Vec<Value>>,
    /// What each instance spent on models.
    spending: HashMap<InstanceId, Spending>,
    /// Of that, what was spent since the newest attempt of each that was not cut short, with that attempt's number.
    cut_short: HashMap<InstanceId, (Attempt, Spending)>,
    announced: Option<Announced>,
    /// What landed, in order, with its commit there in full hex.
    landed: Vec<(InstanceId, Box<str>)>,
    /// The highest number of a verification; 0 when there was none.
    verifications: u64,
    /// Results whose change or artifacts are gone: what needs them cannot have them, so they are made again.
    gone: HashSet<InstanceId>,
    /// How many turns came again.
    requeued: u64,
    /// Grows with every round of the train behind the first, by one for each event that tells of it.
    rounds: u32,
    /// How many have turned, as [`Past::saw_a_change_of`] counts them.
    turned: u32,
    /// Calls that were sent and have no end, by their numbers, each as the event that it comes to when nobody knows more.
    open_calls: IndexMap<u64, RunEvent>,
}

impl Past {
    /// An attempt begins, `on` a commit of the target or elsewhere; `now` counts who has turned, and the rounds.
    fn start(&mut self, attempt: Attempt, on: Option<&str>, now: (u32, u32)) {
        (self.attempts, self.running) = (self.attempts.max(attempt.0), Some(attempt));
        if self.result.is_none() {
            ((self.started, self.round), self.stands_on_landed) = (now, on.is_some());
        }
    }

    /// Whether it ended just so; what blocked it counts, too.
    pub fn ended_so(&self, result: InstanceResult, cause: Option<&str>) -> bool {
        let is_blocked = result == InstanceResult::Blocked;
        self.result == Some(result) && (!is_blocked || self.blocked_by.as_deref() == cause)
    }

    fn end(&mut self, result: InstanceResult, cause: Option<&str>, turned: u32) {
        self.result = Some(result);
        self.blocked_by = cause.filter(|_| result == InstanceResult::Blocked).map(Box::from);
        if result == InstanceResult::Skipped {
            self.started = turned;
        }
    }

    /// An attempt has ended.
    fn finish(
        &mut self,
        attempt: Attempt,
        end: &AttemptEnd,
        change: Option<&ChangeSummary>,
        (outputs, handed): (Outputs, Handed),
        changes: &mut Changes,
    ) {
        (self.attempts, self.running) = (self.attempts.max(attempt.0), None);
        let is_ours = says_nothing(end) || failed_by(end) == FailedBy::Machine;
        self.is_contradicted = matches!(end, AttemptEnd::Needs { .. });
        self.lost += u32::from(is_ours || self.is_contradicted);
        if let Some(Stands::Aside(aside)) = self.second.as_mut().map(|second| &mut second.stands) {
            // What follows from it, the next event says; until then the first change stands.
            let came = || Came { attempt, end: end.clone(), change: change.cloned(), outputs, handed };
            aside.came = (!is_ours).then(came);
            return;
        }
        // A second try on what landed takes nothing away: when it fails, the first change still stands.
        if self.result.is_some() && *end != AttemptEnd::Succeeded {
            return;
        }
        self.failed_by = failed_by(end);
        if handed != Handed::Before {
            (self.outputs, self.gave, self.handed) = (outputs, attempt.0, handed);
        }
        self.is_stale &= *end != AttemptEnd::Succeeded;
        // What landed stays what others are given, whatever comes out when it runs again for what it handed over.
        let change = change.map(|change| changes.keep(change));
        if self.fate != Some(Became::Landed) || self.change.is_none() {
            (self.change, self.origin) = (change, Origin::Ran);
        } else if self.made_again.is_none() {
            self.made_again = change;
        }
    }

    /// An earlier run's result was taken.
    fn reuse(&mut self, reused: &ReusedInstance, changes: &mut Changes, now: (u32, u32)) {
        (self.started, self.round) = now;
        // It stands as an attempt of its own.
        (self.attempts, self.result) = (self.attempts + 1, Some(InstanceResult::Succeeded));
        (self.outputs, self.gave, self.handed) = (reused.outputs.clone().into(), self.attempts, reused.handed);
        self.change = reused.change.as_ref().map(|change| changes.keep(change));
        self.origin = Origin::Reused;
        self.fate = reused.change.is_none().then_some(Became::Empty);
    }

    /// Ends its time aside: a change that came of it takes the place of the first. Returns what was tried.
    fn come_back(&mut self, turned: &mut u32) -> Vec<Remedy> {
        let Some(second) = self.second.take() else { return vec![] };
        let SecondTry { tried, stands } = *second;
        let Stands::Aside(aside) = stands else { return tried };
        if let PutAside {
            next,
            came: Some(Came { attempt, end: AttemptEnd::Succeeded, change, outputs, handed }),
            ..
        } = *aside
        {
            if next == Remedy::Rerun {
                let before = std::mem::replace(&mut self.outputs, outputs);
                self.first_outputs.get_or_insert_with(|| Box::new(before));
                *turned += 1;
                (self.gave, self.is_stale, self.handed_anew) = (attempt.0, false, *turned);
                self.handed = handed;
            }
            match change {
                Some(change) if change.changes_anything() => {
                    if !self.change.as_deref().is_some_and(ChangeSummary::changes_anything) {
                        self.turn(turned);
                    }
                    (self.change, self.origin, self.stands_on_landed) = (Some(Arc::new(change)), Origin::Ran, true);
                }
                // On what landed, nothing is left to change.
                nothing if next == Remedy::Rerun => self.change = nothing.map(Arc::new),
                _ => {}
            }
        }
        tried
    }

    /// Whether it started from what `need` left, as far as that changed anything by then.
    pub fn saw_a_change_of(&self, need: &Past) -> bool {
        need.turned <= self.started
    }

    /// Whether `need` handed over something else since this was made of it.
    pub fn is_outdated_by(&self, need: &Past) -> bool {
        need.handed_anew > self.started.max(self.handed_anew)
    }

    /// What it changes is not what others had from it that have started.
    fn turn(&mut self, turned: &mut u32) {
        *turned += 1;
        self.turned = *turned;
    }

    /// Whether another try changes nothing about what became of its change: only a person who names it can.
    pub fn is_settled_for_good(&self) -> bool {
        matches!(self.fate, Some(Became::Landed | Became::Parked | Became::Dropped | Became::GivenUp))
    }

    /// Its result no longer holds.
    fn reopen(&mut self, turned: &mut u32) {
        if !self.is_settled_for_good() {
            self.fate = None;
        }
        self.forget_tries();
        self.turn(turned);
        self.reopened = self.turned;
        if self.fate != Some(Became::Landed) {
            self.remade = self.turned;
        }
        self.is_contradicted &= self.result == Some(InstanceResult::Cancelled);
        (self.result, self.second, self.first_outputs) = (None, None, None);
    }

    /// What it passed with is gone: whoever goes on does as if it had never been tried.
    fn forget_tries(&mut self) {
        if self.result.is_some_and(InstanceResult::passed) {
            self.lost = self.attempts;
        }
    }

    /// Its change does not land as it is: `next` is tried, after all that was tried before.
    fn put_aside(&mut self, refusal: Refusal, next: Remedy, turned: &mut u32) {
        let mut tried = self.come_back(turned);
        if refusal.kind == RefusalKind::Stale {
            self.is_stale = true;
        } else {
            tried.push(next);
        }
        let stands = Stands::Aside(Box::new(PutAside { refusal, next, came: None }));
        self.second = Some(Box::new(SecondTry { tried, stands }));
    }

    /// Its turn comes again.
    fn requeue(&mut self, turn: u64, turned: &mut u32) {
        let tried = self.come_back(turned);
        self.second = Some(Box::new(SecondTry { tried, stands: Stands::Requeued(turn) }));
    }
}

impl History {
    /// The facts after all of `events`, in their order.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a RunEvent>) -> Self {
        let mut history = History::default();
        events.into_iter().for_each(|event| history.hear(event));
        history
    }

    /// Moves on by one event. Total: what does not fit changes what it can.
    pub fn hear(&mut self, event: &RunEvent) {
        match event {
            RunEvent::InstancesAdded { instances } => {
                for added in instances {
                    self.instances.entry(added.id.clone()).or_default();
                }
            }
            RunEvent::ItemsFound { task, items } => {
                self.items.insert(task.clone(), items.clone());
            }
            RunEvent::AttemptStarted { instance, attempt, on } => {
                let now = (self.turned, self.rounds);
                self.past(instance).start(*attempt, on.as_deref(), now);
            }
            RunEvent::ModelAsked { call, .. } => self.open_calls.extend(abandoned(event).map(|end| (*call, end))),
            RunEvent::ModelWaits { .. } | RunEvent::ModelDown { .. } => {}
            RunEvent::ModelCalled { call, instance, attempt, .. } => {
                self.open_calls.shift_remove(call);
                let (ended, spending) =
                    self.cut_short.entry(instance.clone()).or_insert((Attempt(0), Spending::default()));
                if attempt > ended {
                    spending.count(event);
                }
                self.spending.entry(instance.clone()).or_default().count(event);
            }
            RunEvent::AttemptFinished { instance, attempt, end, change, outputs, handed, .. } => {
                if !says_nothing(end) {
                    self.cut_short.insert(instance.clone(), (*attempt, Spending::default()));
                }
                let past = Self::past_of(&mut self.instances, instance);
                let given = (outputs.clone().into(), *handed);
                past.finish(*attempt, end, change.as_ref(), given, &mut self.changes);
            }
            RunEvent::Reused { instances } => instances.iter().for_each(|reused| self.reuse(reused)),
            RunEvent::InstanceFinished { instance, result, cause } => {
                let turned = self.turned;
                self.past(instance).end(*result, cause.as_deref(), turned);
            }
            RunEvent::Retried { instances, resolved } => {
                self.begin_rounds_anew();
                instances.iter().for_each(|id| self.retry(id, resolved.as_ref()));
            }
            RunEvent::Reopened { instances } => instances.iter().for_each(|id| self.reopen(id)),
            RunEvent::RunResumed { unexpanded, .. } => {
                for id in unexpanded {
                    self.instances.swap_remove(id);
                }
            }
            RunEvent::Landing { from, to, merges } => {
                self.announced = Some(Announced { from: from.clone(), to: to.clone(), merges: merges.clone() });
            }
            RunEvent::Merged { instance, fate } => self.merged(instance, fate),
            RunEvent::Evicted { instance, next, .. } => {
                let refusal = refusal(event);
                Self::past_of(&mut self.instances, instance).put_aside(refusal, *next, &mut self.turned);
            }
            RunEvent::Requeued { instances } => instances.iter().for_each(|id| self.requeue(id)),
            RunEvent::NeedsSettled { instances, on } => {
                self.rounds += 1;
                instances.iter().for_each(|id| self.settle(id, on.as_deref()));
            }
            // Verdicts are remembered beside the events.
            RunEvent::Verified { number, .. } => self.verifications = self.verifications.max(*number),
            RunEvent::RunStarted { .. } | RunEvent::Noted { .. } | RunEvent::RunFinished { .. } => {}
        }
    }

    fn merged(&mut self, instance: &InstanceId, fate: &Fate) {
        if let Fate::Landed { commit } = fate {
            self.landed.push((instance.clone(), commit.as_str().into()));
        }
        let past = Self::past_of(&mut self.instances, instance);
        let was_aside = matches!(past.second.as_deref(), Some(SecondTry { stands: Stands::Aside(_), .. }));
        past.come_back(&mut self.turned);
        past.fate = Some(fate.into());
        // Parked, it may be asked for its turn again; done with, there is nothing of it that could take one.
        if was_aside && past.fate == Some(Became::Empty) {
            past.change = None;
        }
    }

    fn reuse(&mut self, reused: &ReusedInstance) {
        let now = (self.turned, self.rounds);
        Self::past_of(&mut self.instances, &reused.instance).reuse(reused, &mut self.changes, now);
    }

    fn reopen(&mut self, id: &InstanceId) {
        Self::past_of(&mut self.instances, id).reopen(&mut self.turned);
    }

    fn requeue(&mut self, id: &InstanceId) {
        self.requeued += 1;
        Self::past_of(&mut self.instances, id).requeue(self.requeued, &mut self.turned);
    }

    /// What takes its turn from here on does so as if nothing had been settled in between: others may stand on it.
    fn begin_rounds_anew(&mut self) {
        if self.rounds > 0 {
            self.rounds = 0;
            self.instances.values_mut().for_each(|past| past.round = 0);
        }
    }

    /// A person asked for another try: what was parked has no fate any more, and attempts that failed do not count.
    fn retry(&mut self, id: &InstanceId, resolved: Option<&InstanceId>) {
        let past = self.past(id);
        past.word = match past.fate {
            Some(Became::Parked) if resolved == Some(id) => Word::ByHand,
            Some(Became::Parked) => Word::Again,
            Some(Became::Landed | Became::Empty | Became::Dropped | Became::GivenUp) | None => Word::None,
        };
        // What looked at a result that takes its turn again is settled with that; what was given up, they name.
        if past.word != Word::None || matches!(past.fate, Some(Became::Empty | Became::GivenUp)) {
            past.fate = None;
        }
        (past.lost, past.second) = (past.attempts, None);
        (past.is_contradicted, past.ground) = (false, None);
    }

    /// The same before the journal knows; what failed is open again.
    pub fn try_again(&mut self, ids: &[InstanceId], resolved: Option<&InstanceId>) -> TakenUp {
        let mut taken_up = TakenUp::default();
        if !ids.is_empty() {
            self.begin_rounds_anew();
        }
        for id in ids {
            taken_up.dropped += u64::from(self.past(id).fate == Some(Became::GivenUp));
            self.retry(id, resolved);
            taken_up.parked += u64::from(self.past(id).word != Word::None);
            if self.past(id).result.is_some_and(|result| !result.passed()) {
                self.gone.insert(id.clone());
            }
        }
        taken_up
    }

    /// What is known of an instance; `None` when the journal does not name it.
    pub fn instance(&self, id: &InstanceId) -> Option<&Past> {
        self.instances.get(id)
    }

    /// The same with its place among [`History::instances`].
    pub fn place_of(&self, id: &InstanceId) -> Option<(usize, &Past)> {
        self.instances.get_full(id).map(|(place, _, past)| (place, past))
    }

    /// All instances that the journal names, in no order that means anything.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = (&InstanceId, &Past)> {
        self.instances.iter()
    }

    /// The tasks of which a person gave up every instance that there is: nothing of them runs.
    pub fn given_up_tasks(&self) -> HashSet<&str> {
        let all = self.instances.iter().map(|(id, past)| (id.task(), past));
        let (given_up, others): (Vec<_>, Vec<_>) = all.partition(|(_, past)| past.fate == Some(Became::GivenUp));
        let others: HashSet<&str> = others.into_iter().map(|(task, _)| task).collect();
        given_up.into_iter().map(|(task, _)| task).filter(|task| !others.contains(task)).collect()
    }

    /// What instances spent on models, in no order.
    pub fn spending(&self) -> impl Iterator<Item = (&InstanceId, &Spending)> {
        self.spending.iter()
    }

    /// What attempts spent that were cut short, and in whose place the next one of their instance goes on; in no order.
    pub fn spending_cut_short(&self) -> impl Iterator<Item = (&InstanceId, &Spending)> {
        self.cut_short.iter().map(|(id, (_, spending))| (id, spending))
    }

    /// What becomes of the calls that a dead coordinator had sent: each is booked with the most that it can have taken.
    pub fn abandoned_calls(&self) -> Vec<RunEvent> {
        self.open_calls.values().cloned().collect()
    }

    /// The items that a command listed for a fan-out.
    pub fn items(&self, task: &str) -> Option<&Vec<Value>> {
        self.items.get(task)
    }

    /// The newest landing that was announced and of which some members have no fate yet; only those are named.
    pub fn announced(&self) -> Option<Announced> {
        let mut announced = self.announced.clone()?;
        announced.merges.retain(|merge| self.instances.get(&merge.instance).is_none_or(|past| past.fate.is_none()));
        (!announced.merges.is_empty()).then_some(announced)
    }

    /// Grows with every round of the train behind the first.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Full hex id of the commit that landed last, of those that nobody gave up since.
    pub fn tip(&self) -> Option<&str> {
        let is_landed = |id: &InstanceId| self.instances.get(id).is_some_and(|past| past.fate == Some(Became::Landed));
        self.landed.iter().rev().find(|(id, _)| is_landed(id)).map(|(_, commit)| &**commit)
    }

    /// The highest number of a verification that has its verdict; 0 when there is none.
    pub fn verifications(&self) -> u64 {
        self.verifications
    }

    /// The result of an instance, when it still holds: it says something about the work, and what it left is there.
    /// `allowed` instances failed with their dependents' consent, so those may have run: their failures hold whoever caused
    /// them.
    pub fn holds(&self, id: &InstanceId, allowed: bool) -> Option<(InstanceResult, &Past)> {
        let past = self.instances.get(id)?;
        Some((self.still_holds(id, past, allowed)?, past))
    }

    /// The same of what is known of the instance.
    pub fn still_holds(&self, id: &InstanceId, past: &Past, allowed: bool) -> Option<InstanceResult> {
        use InstanceResult::*;
        // Nobody wants that tried again, whatever it failed for.
        let is_given_up = past.fate == Some(Became::GivenUp);
        past.result
            .filter(|result| match result {
                Succeeded | Flaky | TimedOut | Violation | Skipped => true,
                Failed => allowed || is_given_up || past.failed_by == FailedBy::Work,
                Cancelled | Lost => is_given_up,
                Blocked => false,
            })
            .filter(|_| self.gone.is_empty() || !self.gone.contains(id))
    }

    fn past(&mut self, id: &InstanceId) -> &mut Past {
        Self::past_of(&mut self.instances, id)
    }

    fn past_of<'a>(instances: &'a mut IndexMap<InstanceId, Past>, id: &InstanceId) -> &'a mut Past {
        instances.entry(id.clone()).or_default()
    }
}

/// Why a change was put aside.
fn refusal(evicted: &RunEvent) -> Refusal {
    let RunEvent::Evicted { reason, paths, kind, verification, .. } = evicted else {
        unreachable!("BUG: asked of what is put aside only");
    };
    Refusal { reason: reason.clone(), paths: paths.clone(), kind: *kind, verification: *verification }
}

/// The end of a call of which nothing was heard again.
fn abandoned(asked: &RunEvent) -> Option<RunEvent> {
    let RunEvent::ModelAsked { call, instance, attempt, asked, model, usage, cost_nano_usd, tries } = asked.clone()
    else {
        return None;
    };
    let outcome = CallOutcome::Abandoned;
    Some(RunEvent::ModelCalled {
        call,
        instance,
        attempt,
        asked,
        model,
        usage,
        cost_nano_usd,
        counted: Counted::AtMost,
        duration_ms: 0,
        tries,
        outcome,
    })
}

fn says_nothing(end: &AttemptEnd) -> bool {
    *end == AttemptEnd::Lost || end.is_cancelled()
}

/// Whose fault an end was.
pub fn failed_by(end: &AttemptEnd) -> FailedBy {
    match end {
        AttemptEnd::Infra { .. }
        | AttemptEnd::Work { ended: Ended::Refused(_) }
        | AttemptEnd::Check { ended: Ended::Refused(_), .. } => FailedBy::Machine,
        _ => FailedBy::Work,
    }
}

#[cfg(test)]
mod tests;
