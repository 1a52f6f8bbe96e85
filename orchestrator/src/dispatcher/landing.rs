//! The target half of a run's decisions: which results are folded next, which of them the gate lets through, when the target
//! moves, and what becomes of each result. A pure value: results and answers in, events and actions out. What a place of
//! the train stands for, the core knows.
//!
//! ready → folded → verified → moved, one batch at a time; what does not fit goes to [`super::ladder`], and whatever stood
//! behind a culprit is folded again without it. Start reading at [`Landings::drive`].

/// What changed nothing.
mod onlookers;
/// What is settled before others start.
mod rounds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use swarm_plans::{InstanceId, InstanceIx, Merge, MergeMode, Publish, Rung};

use super::core::INSTANCES_PER_EVENT_MAX;
use super::gate::{Base, Gate};
use super::held::{Held, Publication};
use super::history::{Refusal, SecondTry};
use super::ladder::{Climb, Climbed, Ladder, Round};
use super::messages::{Action, FoldedBatch, Landing, NotFolded, RunFacts, StopCause, TargetMove, VerifyDone};
use super::settlement::{Settlement, Word};
use crate::event::{Fate, ParkedBy, RefusalKind, RunEvent};
use crate::merge::order::{End, Next, Place, TaskPlace, Train};
use crate::merge::train::search::{Found, Search};

pub(super) use self::rounds::Parted;

/// How often a batch is folded again because somebody else moved the target meanwhile, or took objects of it away.
pub const REFOLDS_MAX: u32 = 10;

/// How often the batches of a target that keeps moving are halved: what lands alone lands in the time that one fold takes.
const HALVED_MAX: u32 = 16;

#[derive(Debug)]
enum Target {
    Idle,
    Folding { batch: Vec<Landing> },
    Verifying { folded: FoldedBatch, batch: Vec<Landing>, search: Search },
    Moving { plan: Settlement },
}

/// What is on its way to the target.
#[derive(Debug)]
pub(super) struct Landings {
    /// In which order results leave.
    train: Train,
    /// Those whose turn has come, in order.
    ready: VecDeque<Landing>,
    /// Those that changed nothing and had their turn: they are settled when what they stand on is, or asked again with it.
    onlookers: BTreeMap<Place, Landing>,
    target: Target,
    parked: BTreeSet<InstanceIx>,
    /// Those that were parked and that a person gave up.
    dropped: BTreeSet<InstanceIx>,
    gate: Option<Gate>,
    ladder: Ladder,
    /// Those whose second try failed, with why they do not land, and those that it left nothing of. They are spoken of when all
    /// that is tried with them has ended: whoever goes on with the run in between would land what waits for them, try the others
    /// on another tip, or try the next thing with these before the others have landed.
    without_change: BTreeMap<Place, (Landing, Option<Refusal>)>,
    /// `None` lands what is green at once.
    held: Option<Held>,
    /// The run's id.
    run: String,
    /// Its base commit.
    base: String,
    /// The newest commit that something was folded onto or that landed.
    tip: String,
    /// The newest commit that landed.
    landed: Option<String>,
    refolds: u32,
    /// How often a batch was halved, because somebody else was quicker with the target than what was to land with it.
    halved: u32,
    stopped: Option<StopCause>,
    /// The round of the train that is being settled, and whether those who wait until it is start in the next.
    round: usize,
    parted: bool,
    /// Why the target cannot be worked on; nothing more is tried then, and what was on its way stays as it is.
    broken: Option<String>,
    events: Vec<RunEvent>,
    actions: Vec<Action>,
}

impl Landings {
    pub(super) fn new(merge: &Merge, facts: &RunFacts) -> Self {
        let RunFacts { id: run, base, .. } = facts;
        Landings {
            train: Train::new(),
            ready: VecDeque::new(),
            onlookers: BTreeMap::new(),
            target: Target::Idle,
            parked: BTreeSet::new(),
            dropped: BTreeSet::new(),
            gate: merge.verify.as_ref().filter(|_| merge.mode == MergeMode::Train).map(Gate::new),
            ladder: Ladder::default(),
            without_change: BTreeMap::new(),
            held: (merge.publish == Publish::AllOrNothing).then(Held::default),
            run: run.clone(),
            base: base.clone(),
            tip: base.clone(),
            landed: None,
            refolds: 0,
            halved: 0,
            stopped: None,
            round: 0,
            parted: false,
            broken: None,
            events: vec![],
            actions: vec![],
        }
    }

    /// More instances of a task may join.
    pub(super) fn open(&mut self, task: TaskPlace) {
        self.train.open(task);
    }

    /// All instances of a task have joined.
    pub(super) fn close(&mut self, task: TaskPlace) {
        self.train.close(task);
    }

    /// Adds an instance whose end is not known yet.
    pub(super) fn join(&mut self, place: Place) {
        self.train.join(place);
    }

    /// Says how an instance ended.
    pub(super) fn finished(&mut self, place: Place, end: End) {
        self.train.finished(place, end);
    }

    /// The machine failed an instance, in a way that counts against the run.
    pub(super) fn failed_by_machine(&mut self, instance: &InstanceId, said: &str) {
        if let Some(held) = &mut self.held {
            held.failed_by_machine(instance, said);
        }
    }

    /// An instance failed in a way that counts against the run.
    pub(super) fn failed(&mut self, place: Place, instance: &InstanceId) {
        if let Some(held) = &mut self.held {
            held.failed(place, instance);
        }
    }

    /// The next place whose turn has come; the core answers with [`Landings::ready`] or [`Landings::empty`].
    pub(super) fn next(&mut self) -> Option<Next> {
        self.train.advance(self.round)
    }

    /// Says what an earlier coordinator landed last: the target has to hold it before anything more is put on it.
    pub(super) fn landed_before(&mut self, commit: Option<&str>) {
        self.landed = commit.map(str::to_owned);
    }

    /// Says where the target stands, behind an earlier coordinator.
    pub(super) fn stands_at(&mut self, tip: String) {
        self.tip = tip;
    }

    /// Says how many verifications earlier coordinators made.
    pub(super) fn verified_before(&mut self, verifications: u64) {
        if let Some(gate) = &mut self.gate {
            gate.behind(verifications);
        }
    }

    /// Says that a result was parked by an earlier coordinator: what builds on it is parked, too.
    pub(super) fn was_parked(&mut self, instance: InstanceIx) {
        self.parked.insert(instance);
    }

    /// Says that a result was given up: what builds on it is parked, unless a person settles that.
    pub(super) fn was_dropped(&mut self, instance: InstanceIx) {
        self.dropped.insert(instance);
    }

    /// Whether a person gave it up.
    pub(super) fn is_dropped(&self, instance: InstanceIx) -> bool {
        self.dropped.contains(&instance)
    }

    /// Whether a change that had its turn, and is settled, stands on what landed, or on what is held to land with all others.
    pub(super) fn stands(&self, instance: InstanceIx) -> bool {
        !self.parked.contains(&instance) && !self.dropped.contains(&instance)
    }

    /// Whether nothing is on its way to the target now; there may be more to come. What an early end kept from being verified
    /// or tried again is neither landed nor parked, and stays for the next time.
    pub(super) fn is_at_rest(&self) -> bool {
        let idle = matches!(self.target, Target::Idle) && !self.ladder.is_climbing();
        let waiting = self.gate.as_ref().is_some_and(Gate::is_waiting);
        idle && !waiting && (self.ready.is_empty() || self.is_cut())
    }

    /// A change whose turn has come and which did not land in its first turn under an earlier coordinator.
    pub(super) fn second_before(&mut self, landing: Landing, before: &SecondTry) {
        self.ladder.put_as_before(landing, before);
    }

    /// A change, or none, whose turn has come.
    pub(super) fn ready(&mut self, landing: Landing) {
        match landing.changes() {
            true => self.ready.push_back(landing),
            false if landing.stands_on().next().is_none() && !landing.is_stale => self.empty(landing.name),
            false => drop(self.onlookers.insert(landing.place, landing)),
        }
    }

    /// An instance that changed nothing.
    fn empty(&mut self, instance: InstanceId) {
        self.events.push(RunEvent::Merged { instance, fate: Fate::Empty });
    }

    /// Whether work may start: the base has passed the gate, if there is one.
    pub(super) fn is_open(&self) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.base() == Base::Green)
    }

    /// Why the run has to end, when the base does not pass.
    pub(super) fn closed(&self) -> Option<StopCause> {
        match self.gate.as_ref()?.base() {
            Base::Red => Some(StopCause::BaseRed),
            Base::Unverifiable => Some(StopCause::Unverifiable),
            Base::Unknown | Base::Asked | Base::Green => None,
        }
    }

    /// What the machine said when a batch could not be folded or the target not be moved.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The run ends early.
    pub(super) fn stop(&mut self, cause: StopCause) {
        self.stopped = Some(cause);
    }

    /// Whether everything has its fate, or will not get one in this run.
    pub(super) fn is_done(&self) -> bool {
        let held = self.held.as_ref().is_some_and(|held| !held.is_empty());
        let rest = self.has_settled() && !held;
        self.is_at_rest() && self.train.is_done() && (rest || self.is_cut())
    }

    /// Whether nothing of what has had its turn is under way or aside.
    pub(super) fn has_settled(&self) -> bool {
        self.is_at_rest() && self.ready.is_empty() && self.onlookers.is_empty() && self.ladder.is_empty()
    }

    /// Whether more may take its turn before what has had it is settled.
    fn awaits_more(&self) -> bool {
        !self.train.is_through(self.round)
    }

    /// Whether nothing more can be verified, tried or published together: a person, the deadline or the gate ended the run.
    fn is_cut(&self) -> bool {
        let waits_for_more = self.gate.is_some() || self.held.is_some();
        self.broken.is_some()
            || self.stopped.is_some_and(|cause| cause > StopCause::FailFast)
                && (waits_for_more || self.ready.is_empty())
    }

    /// What happened and what is to be done since the last call.
    pub(super) fn take(&mut self) -> (Vec<RunEvent>, Vec<Action>) {
        (std::mem::take(&mut self.events), std::mem::take(&mut self.actions))
    }

    /// Folds what is ready, when the target is at rest. Returns what has to be tried again for the train to go on.
    pub(super) fn drive(&mut self) -> Vec<Climb> {
        if let Some(gate) = &mut self.gate
            && self.stopped.is_none()
        {
            gate.ask_base(&self.base, &mut self.actions);
        }
        if !matches!(self.target, Target::Idle) || !self.is_open() || self.ladder.is_climbing() {
            return vec![];
        }
        if self.broken.is_some() || (self.is_cut() && self.gate.is_some()) {
            return vec![];
        }
        self.mind_the_machine();
        if self.broken.is_some() {
            return vec![];
        }
        self.next_batch();
        if !matches!(self.target, Target::Idle) || !self.ready.is_empty() {
            return vec![];
        }
        self.settle_onlookers();
        if self.awaits_more() || self.is_cut() {
            return vec![];
        }
        self.climb()
    }

    /// Where all is published or nothing, a result that the machine failed is waited for: without it, others might be refused.
    fn mind_the_machine(&mut self) {
        let is_all = !self.awaits_more();
        let Some(held) = self.held.as_mut().filter(|_| is_all) else { return };
        if self.ready.is_empty() && self.ladder.is_empty() && held.is_empty() {
            return;
        }
        if let Some(reason) = held.take_failed_by_machine(&self.run) {
            self.broken = Some(reason);
        }
    }

    /// Takes the next batch, if there is enough for one.
    fn next_batch(&mut self) {
        let more = self.awaits_more();
        if self.enough(more) == 0 {
            return;
        }
        self.mind_onlookers();
        for _ in 0..self.ready.len() {
            let landing = self.ready.pop_front().expect("it was counted");
            if let Some(landing) = self.unless_held_back(landing) {
                self.ready.push_back(landing);
            }
        }
        let take = self.enough(more);
        if take > 0 {
            let take = if self.held.is_some() { take } else { take.div_ceil(1 << self.halved) };
            let batch = self.ready.drain(..take).collect();
            self.fold(batch);
        }
    }

    /// Gives back a change that may be folded. One that needs a parked change is parked, too, one that only came after it is
    /// made again, and one that stands on what is tried again waits for that.
    fn unless_held_back(&mut self, landing: Landing) -> Option<Landing> {
        let stays_away = |(need, _): &&(InstanceIx, InstanceId)| !self.stands(*need);
        if let Some((_, need)) = landing.builds_on.iter().find(|(need, _)| self.dropped.contains(need)) {
            let reason = builds_on_dropped(&need.0);
            self.park(landing, ParkedBy::Need, reason);
        } else if let Some((_, need)) = landing.builds_on.iter().find(stays_away) {
            let reason = builds_on_parked(&need.0);
            self.park(landing, ParkedBy::Need, reason);
        } else if let Some((_, before)) = landing.comes_after.iter().find(stays_away) {
            let reason = format!("it started from the change of `{before}`, which is parked");
            self.refuse(landing, Refusal { reason, paths: vec![], kind: RefusalKind::Stale, verification: None });
        } else if landing.stands_on().any(|need| self.ladder.holds(need)) {
            self.ladder.wait(landing);
        } else if landing.is_stale {
            self.refuse(landing, outdated_by_a_rerun());
        } else {
            return Some(landing);
        }
        None
    }

    /// How many of those that are ready make a batch now; `more` may still come.
    fn enough(&self, more: bool) -> usize {
        match (&self.gate, &self.held) {
            (_, Some(_)) if more => 0,
            (Some(gate), _) => gate.batch_of(self.ready.len(), more),
            (None, _) => self.ready.len(),
        }
    }

    fn fold(&mut self, batch: Vec<Landing>) {
        let onto = self.held.as_ref().and_then(Held::tip).cloned();
        self.actions.push(Action::Fold { batch: batch.clone(), onto, landed: self.landed.clone() });
        self.target = Target::Folding { batch };
    }

    /// Everything else has its fate: what was put aside is tried again, and what was held is published.
    fn climb(&mut self) -> Vec<Climb> {
        if self.stopped.is_some() {
            // In order, so that what others stand on is parked before them.
            for (landing, refusal) in self.ladder.give_up() {
                match refusal {
                    Some(refusal) => self.park_refused(landing, refusal),
                    None if !landing.changes() => self.empty(landing.name),
                    None => {
                        let free = self.unless_held_back(landing);
                        self.ready.extend(free);
                    }
                }
            }
            if !self.ready.is_empty() {
                return self.drive();
            }
        }
        // What was aside already when a person gave up what it builds on has not been asked for that since.
        for (landing, need) in self.ladder.orphans(&self.dropped) {
            self.park(landing, ParkedBy::Need, builds_on_dropped(&need.0));
        }
        for (landing, need) in self.ladder.orphans(&self.parked) {
            self.park(landing, ParkedBy::Need, builds_on_parked(&need.0));
        }
        if self.ladder.is_empty() {
            if self.train.is_done() {
                self.publish();
            }
            return vec![];
        }
        match self.ladder.round() {
            Round::Try(climbs) => climbs,
            Round::Turn { all, anew } => {
                let (all, looked): (Vec<Landing>, Vec<Landing>) = all.into_iter().partition(Landing::changes);
                self.onlookers.extend(looked.into_iter().map(|landing| (landing.place, landing)));
                let requeued = |names: &[InstanceId]| RunEvent::Requeued { instances: names.to_vec() };
                self.events.extend(anew.chunks(INSTANCES_PER_EVENT_MAX).map(requeued));
                self.ready.extend(all);
                self.drive()
            }
        }
    }

    /// A batch was folded.
    pub(super) fn folded(&mut self, folded: Result<FoldedBatch, NotFolded>) {
        let Target::Folding { batch } = std::mem::replace(&mut self.target, Target::Idle) else {
            unreachable!("BUG: nothing was being folded");
        };
        let folded = match folded {
            Ok(folded) => folded,
            Err(NotFolded::Gone(_)) if self.refolds < REFOLDS_MAX => {
                self.refolds += 1;
                return self.put_back(batch);
            }
            Err(NotFolded::Gone(reason) | NotFolded::Failed(reason)) => {
                self.broken = Some(format!("results could not be merged: {reason}"));
                return self.put_back(batch);
            }
        };
        self.tip.clone_from(&folded.tip);
        let clean = folded.clean().count();
        match &mut self.gate {
            Some(gate) if clean > 0 => {
                let search = gate.search(clean, &folded.tip_tree);
                self.target = Target::Verifying { folded, batch, search };
                self.search();
            }
            _ => self.settle(folded, batch, clean),
        }
    }

    /// A verdict came.
    pub(super) fn verified(&mut self, number: u64, done: &VerifyDone) {
        let Some(gate) = &mut self.gate else { unreachable!("BUG: a verdict without a gate") };
        let prefix = gate.verdict(number, done, &self.base, &mut self.events, &mut self.actions);
        if let (Some(prefix), Target::Verifying { search, .. }) = (prefix, &mut self.target) {
            search.verdict(prefix, done.verdict, done.look);
            self.search();
        }
    }

    /// Goes on with the search, or with what it found.
    fn search(&mut self) {
        let Target::Verifying { folded, batch, mut search } = std::mem::replace(&mut self.target, Target::Idle) else {
            unreachable!("BUG: no search");
        };
        let Some(gate) = &mut self.gate else { unreachable!("BUG: a search without a gate") };
        let cut = self.stopped.is_some_and(|cause| cause > StopCause::FailFast);
        match search.found() {
            None | Some(Found::Broken) if cut => {
                // Nobody waits for these verdicts any more; the results stay as they are.
                gate.forget();
                self.put_back(batch);
            }
            None => {
                for (prefix, look) in search.wanted() {
                    let commit = match prefix {
                        0 => folded.tip.as_str(),
                        _ => folded.clean().nth(prefix - 1).expect("a prefix of the clean ones").1,
                    };
                    gate.ask_prefix((prefix, look), commit, &mut self.actions);
                }
                self.target = Target::Verifying { folded, batch, search };
            }
            Some(Found::All) => {
                let clean = folded.clean().count();
                self.settle(folded, batch, clean);
            }
            Some(Found::Culprit { green }) => self.settle(folded, batch, green),
            Some(Found::RedTip) => {
                let reason = "the target itself fails its verification".to_owned();
                let red = gate.red_by(0);
                let fate = Fate::Parked { reason, paths: vec![], by: ParkedBy::Target, verification: red };
                batch.into_iter().for_each(|landing| self.parks(landing, fate.clone()));
            }
            Some(Found::Broken) => {
                // That says nothing of the results: they wait for whoever goes on with the run.
                gate.forget();
                self.broken = Some("results could not be verified; `swarm logs '[merge] verify'` shows why".to_owned());
                self.put_back(batch);
            }
        }
    }

    /// Decides what becomes of a batch of which the first `green` clean members land.
    fn settle(&mut self, folded: FoldedBatch, batch: Vec<Landing>, green: usize) {
        let red = self.gate.as_ref().and_then(|gate| gate.red_by(green + 1));
        let to = green.checked_sub(1).and_then(|last| folded.clean().nth(last)).map(|(_, commit)| commit.to_owned());
        let from = folded.from.clone();
        let settlement = Settlement::of(folded, batch, green, red);
        match (to, &mut self.held) {
            (Some(to), Some(held)) => {
                held.reaches(from, to);
                self.spoken(settlement);
            }
            (Some(to), None) if Some(&to) != from.as_ref() => {
                let merges = settlement.merges();
                self.events.push(RunEvent::Landing { from: from.clone(), to: to.clone(), merges });
                self.actions.push(Action::MoveTarget { from, to });
                self.target = Target::Moving { plan: settlement };
            }
            _ => self.spoken(settlement),
        }
    }

    /// The compare-and-swap was tried.
    pub(super) fn moved(&mut self, outcome: TargetMove) {
        let Target::Moving { plan } = std::mem::replace(&mut self.target, Target::Idle) else {
            unreachable!("BUG: the target was not being moved");
        };
        let everyone = |plan: Settlement| plan.members.into_iter().map(|(landing, _)| landing).chain(plan.rest);
        let reason = match outcome {
            TargetMove::Done => {
                (self.refolds, self.halved) = (0, self.halved.saturating_sub(1));
                return if self.held.is_some() { self.published(plan) } else { self.spoken(plan) };
            }
            TargetMove::Lost | TargetMove::Hollow if self.refolds < REFOLDS_MAX => {
                self.refolds += 1;
                self.halved = (self.halved + 1).min(HALVED_MAX);
                // What was published together is folded together again, on what is there now.
                return self.put_back(everyone(plan).collect());
            }
            TargetMove::Lost => "the target kept moving while this was merged".to_owned(),
            TargetMove::Hollow => "objects of what was merged are gone from the repository (git fsck)".to_owned(),
            TargetMove::Refused(reason) => {
                self.broken = Some(format!("the target could not be moved: {reason}"));
                return self.put_back(everyone(plan).collect());
            }
        };
        let all = everyone(plan).collect();
        self.park_all(all, ParkedBy::Target, &reason);
    }

    /// Says what became of a batch, and puts back what is folded again.
    fn spoken(&mut self, settlement: Settlement) {
        self.put_back(settlement.rest);
        for (landing, word) in settlement.members {
            match (word, &mut self.held) {
                (Word::Lands { commit }, Some(held)) => held.hold(landing, commit),
                (Word::Lands { commit }, None) => self.landed(landing.name, commit),
                (Word::Refused(refusal), _) => self.refuse(landing, refusal),
                // What it stands on has been spoken of: it is parked, or aside.
                (Word::Waits, _) => {
                    if let Some(landing) = self.unless_held_back(landing) {
                        self.ladder.wait(landing);
                    }
                }
                (Word::Parks { reason }, _) => self.park(landing, ParkedBy::Failure, reason),
            }
        }
    }

    /// They are the next again.
    fn put_back(&mut self, batch: Vec<Landing>) {
        batch.into_iter().rev().for_each(|landing| self.ready.push_front(landing));
    }

    fn landed(&mut self, instance: InstanceId, commit: String) {
        self.tip.clone_from(&commit);
        self.landed = Some(commit.clone());
        self.events.push(RunEvent::Merged { instance, fate: Fate::Landed { commit } });
    }

    /// A change does not land as it is: something else is tried, or it is parked.
    fn refuse(&mut self, landing: Landing, refusal: Refusal) {
        let rung = self.ladder.rung(&landing, &refusal).filter(|_| self.stopped != Some(StopCause::FailFast));
        let Some(rung) = rung else { return self.park_refused(landing, refusal) };
        let Refusal { reason, paths, kind, verification } = refusal.clone();
        let (instance, next) = (landing.name.clone(), rung.into());
        self.events.push(RunEvent::Evicted { instance, reason, paths, kind, verification, next });
        self.ladder.put(landing, rung, refusal);
    }

    /// What came of trying a change again.
    pub(super) fn climbed(&mut self, instance: InstanceIx, climbed: Climbed) {
        if self.is_cut() && matches!(climbed, Climbed::Failed(_)) {
            // It stays aside, for the next time.
            return self.ladder.stay(instance);
        }
        let outdated = self.ladder.outdated_by(instance, &climbed);
        match self.ladder.climbed(instance, climbed) {
            Some((landing, _, Climbed::Unchanged)) => {
                self.without_change.insert(landing.place, (landing, None));
            }
            Some((landing, mut refusal, Climbed::Failed(how))) => {
                refusal.reason = format!("{}; {how}", refusal.reason);
                self.without_change.insert(landing.place, (landing, Some(refusal)));
            }
            Some((_, _, Climbed::Change(_))) => unreachable!("BUG: a change takes its place in the order"),
            None => {}
        }
        for landing in outdated {
            self.refuse(landing, outdated_by_a_rerun());
        }
        if !self.ladder.is_climbing() && !self.is_cut() {
            for (landing, refusal) in std::mem::take(&mut self.without_change).into_values() {
                match refusal {
                    None => self.empty(landing.name),
                    // What a task made of what is no more stands no longer when it fails behind what is.
                    Some(refusal) if refusal.kind == RefusalKind::Stale => self.park_refused(landing, refusal),
                    Some(refusal) => self.refuse(landing, refusal),
                }
            }
        }
    }

    /// The commit that a change is tried again on.
    pub(super) fn tip(&self) -> &str {
        self.held.as_ref().and_then(Held::tip).unwrap_or(&self.tip)
    }

    /// The change that is being tried again.
    pub(super) fn aside(&self, instance: InstanceIx) -> Option<&Landing> {
        self.ladder.landing(instance)
    }

    /// What is being tried with a change, and why it did not land.
    pub(super) fn trying(&self, instance: InstanceIx) -> Option<(Rung, &Refusal)> {
        self.ladder.trying(instance)
    }

    /// Lands all that was held, or parks it.
    fn publish(&mut self) {
        let Some(publication) = self.held.as_mut().and_then(|held| held.publish(!self.parked.is_empty())) else {
            return;
        };
        let (members, from, to) = match publication {
            Publication::Lands { members, from, to } => (members, from, to),
            Publication::Parks { members, reason } => return self.park_all(members, ParkedBy::Others, &reason),
        };
        let members: Vec<_> = members.into_iter().map(|(landing, commit)| (landing, Word::Lands { commit })).collect();
        let plan = Settlement { members, rest: vec![] };
        if Some(&to) == from.as_ref() {
            return self.published(plan);
        }
        self.events.push(RunEvent::Landing { from: from.clone(), to: to.clone(), merges: plan.merges() });
        self.actions.push(Action::MoveTarget { from, to });
        self.target = Target::Moving { plan };
    }

    /// All that was held is on the target.
    fn published(&mut self, plan: Settlement) {
        for (landing, word) in plan.members {
            if let Word::Lands { commit } = word {
                self.landed(landing.name, commit);
            }
        }
    }

    fn park_all(&mut self, batch: Vec<Landing>, by: ParkedBy, reason: &str) {
        batch.into_iter().for_each(|landing| self.park(landing, by, reason.to_owned()));
    }

    fn park(&mut self, landing: Landing, by: ParkedBy, reason: String) {
        self.parks(landing, Fate::Parked { reason, paths: vec![], by, verification: None });
    }

    fn park_refused(&mut self, landing: Landing, refusal: Refusal) {
        let Refusal { reason, paths, kind, verification } = refusal;
        self.parks(landing, Fate::Parked { reason, paths, by: kind.into(), verification });
    }

    fn parks(&mut self, landing: Landing, fate: Fate) {
        self.parked.insert(landing.instance);
        self.events.push(RunEvent::Merged { instance: landing.name, fate });
    }
}

/// Why a change is made again that was made from what a task handed over before it ran once more.
fn outdated_by_a_rerun() -> Refusal {
    let reason = "a task that it needs ran again".to_owned();
    Refusal { reason, paths: vec![], kind: RefusalKind::Stale, verification: None }
}

/// Why a change is parked that builds on one that was given up.
fn builds_on_dropped(need: &str) -> String {
    format!("it builds on `{need}`, which was dropped")
}

/// Why a change is parked that builds on a parked one.
pub fn builds_on_parked(need: &str) -> String {
    format!("it builds on `{need}`, which is parked")
}
