//! Events become the state of a run; pure. What a command shows of a run that ended last week and what the live view
//! shows of one that is running is the same value, made by the same function from the same events.

use std::collections::BTreeSet;
use std::sync::Arc;

use git2::Oid;
use indexmap::IndexMap;
use swarm_plans::InstanceId;
use swarm_protocol::EnforcementReport;
use swarm_protocol::agent::Envelope;

use crate::event::{
    AddedInstance, AttemptEnd, ChangeSummary, Fate, GateVerdict, GivenUp, Handed, InstanceResult, ModelWait, OnFailure,
    Recorded, RefusalSeen, Remedy, ReusedInstance, RunEvent,
};
use crate::ids::{Attempt, RunId, branch_of};
use crate::journal::{Spending, Tally, Tries};

/// All that is known of a run. Outputs of tasks stay in the journal: they can be large and no report shows them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunState {
    /// The run; empty until its first event.
    pub run: Option<RunId>,
    /// The plan's name.
    pub plan: String,
    /// Full hex id of the base commit.
    pub base: String,
    /// Full ref name of the target branch.
    pub target: Option<String>,
    /// Workers at once.
    pub jobs: u32,
    /// The worktree backend.
    pub backend: String,
    /// What every worker is held to.
    pub enforcement: Option<EnforcementReport>,
    /// Things a person should know.
    pub notes: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// When the newest event was recorded, in milliseconds since the Unix epoch.
    pub newest_at_ms: u64,
    /// How long coordinators worked on it up to the newest event, in milliseconds: what lies between the end of one and the
    /// beginning of the next is not counted.
    pub lived_ms: u64,
    /// The newest event's number.
    pub seq: u64,
    /// In graph order.
    pub instances: IndexMap<InstanceId, InstanceState>,
    /// The counts over `instances`.
    pub tally: Tally,
    /// Full hex commit id that the newest landing moved the target to, or was about to.
    pub tip: Option<String>,
    /// The number of the event of the first landing that moved the target, or was about to.
    pub first_moved: Option<u64>,
    /// Where landings began that did not go on from the newest one: full hex commit ids, each with the number of its event.
    pub found_at: Vec<(u64, String)>,
    /// What the target's gate did.
    pub gate: GateState,
    /// The end; `None` while it runs, and for ever when its coordinator died.
    pub finished: Option<Finished>,
    /// What was collected last.
    newest_change: Option<Arc<ChangeState>>,
}

/// One instance. A run may have a hundred thousand, so what nearly all of them share is kept once, what few of them have lies
/// elsewhere, and the one try that most of them need takes no memory of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceState {
    kin: Arc<Kin>,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// Where it stands.
    pub phase: Phase,
    /// All tries, in order.
    pub attempts: Tries,
    fate: FateState,
    /// The result that it had before it was tried again.
    result_before: Option<InstanceResult>,
    rare: Option<Box<Rare>>,
}

/// What the instances of a task share.
#[derive(Debug, Default, PartialEq)]
struct Kin {
    task: Box<str>,
    needs: Box<[String]>,
}

/// What most instances do not have.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rare {
    cause: Option<Box<str>>,
    reused_from: Option<Arc<str>>,
    models: Option<Spending>,
    waits: Option<ModelWait>,
    evicted: Option<Evicted>,
}

/// Why a change did not land as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    /// For people.
    pub reason: String,
    /// What is tried next.
    pub next: Remedy,
}

/// What the target's gate did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateState {
    /// Verifications that ran; known verdicts are not counted.
    pub verifications: u64,
    /// Verdicts that were known from an earlier run.
    pub remembered: u64,
    /// Their wall time together, in milliseconds.
    pub spent_ms: u64,
    /// Trees that were red first and green on a later try.
    pub flaky: u64,
    /// Trees whose last verdict is red.
    red: BTreeSet<String>,
}

impl GateState {
    fn count(&mut self, tree: &str, verdict: GateVerdict, duration_ms: u64) {
        self.spent_ms += duration_ms;
        match verdict {
            GateVerdict::Green if duration_ms == 0 => self.remembered += 1,
            _ => self.verifications += 1,
        }
        match verdict {
            GateVerdict::Green => self.flaky += u64::from(self.red.remove(tree)),
            GateVerdict::Red => drop(self.red.insert(tree.to_owned())),
            GateVerdict::Broken => {}
        }
    }
}

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For its needs, or for a free place.
    Waiting,
    /// An attempt runs.
    Running,
    /// The next attempt may start at this time, in milliseconds since the Unix epoch.
    Retrying {
        /// See above.
        at_ms: u64,
    },
    /// It has its result.
    Finished(InstanceResult),
}

/// One try.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptState {
    /// Which.
    pub attempt: Attempt,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// From spawn to the end of the last check, in milliseconds; 0 while it runs.
    pub duration_ms: u64,
    /// What was collected, perhaps without any difference; tries that left the same share it.
    pub collected: Option<Arc<ChangeState>>,
    has_ended: bool,
    /// `None` of a try that ended well and of which there is nothing to say, as nearly all do.
    said: Option<Box<Said>>,
}

/// What became of a change, in no memory of its own where it is nothing.
#[derive(Debug, Clone, PartialEq)]
enum FateState {
    Unknown,
    Empty,
    Otherwise(Box<Spoken>),
}

/// A fate, and the number of the event that told it.
#[derive(Debug, Clone, PartialEq)]
struct Spoken {
    fate: Fate,
    seq: u64,
    /// The try whose change it speaks of: the newest good one with a change by then.
    attempt: Option<Attempt>,
}

/// What there is to say of a try.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    end: AttemptEnd,
    notes: Vec<String>,
    refusals: Vec<RefusalSeen>,
    envelope: Option<Box<Envelope>>,
    handed: Handed,
}

impl AttemptState {
    /// `None` while it runs.
    pub fn end(&self) -> Option<&AttemptEnd> {
        self.has_ended.then(|| self.said.as_ref().map_or(&AttemptEnd::Succeeded, |said| &said.end))
    }

    /// Things a person should know.
    pub fn notes(&self) -> &[String] {
        self.said.as_ref().map_or(&[], |said| &said.notes)
    }

    /// What its cage seems to have kept from it.
    pub fn refusals(&self) -> &[RefusalSeen] {
        self.said.as_ref().map_or(&[], |said| &said.refusals)
    }

    /// What its agent said of the work.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.said.as_ref()?.envelope.as_deref()
    }

    /// Whether it left files in `$SWARM_ARTIFACTS`, passed or not.
    pub fn left_files(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.handed == Handed::Files)
    }

    /// What it changed, when that is anything: the commit of a try that changed nothing is its base.
    pub fn change(&self) -> Option<&ChangeState> {
        self.collected.as_deref().filter(|change| change.tree != change.base_tree)
    }

    /// Whether it ended well and changed something.
    fn is_good_change(&self) -> bool {
        self.end() == Some(&AttemptEnd::Succeeded) && self.change().is_some()
    }
}

/// What a try changed: a [`ChangeSummary`] in a quarter of its memory, since a coordinator keeps one an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeState {
    /// The tree it started from.
    pub base_tree: Oid,
    /// The commit that holds the result; its parent is the attempt's base commit.
    pub commit: Oid,
    /// The resulting tree; equal to `base_tree` when nothing changed.
    pub tree: Oid,
    /// Files added, changed or removed.
    pub files: u64,
}

impl FateState {
    fn of(fate: &Fate, seq: u64, attempts: &[AttemptState]) -> Self {
        let made = |attempt: &&AttemptState| attempt.is_good_change();
        match fate {
            Fate::Empty => FateState::Empty,
            fate => {
                let attempt = attempts.iter().rfind(made).map(|attempt| attempt.attempt);
                FateState::Otherwise(Box::new(Spoken { fate: fate.clone(), seq, attempt }))
            }
        }
    }
}

impl ChangeState {
    /// `None` when an id is no id, which only a damaged journal has.
    fn new(summary: &ChangeSummary) -> Option<Self> {
        let id = |text: &str| Oid::from_str(text).ok();
        Some(ChangeState {
            base_tree: id(&summary.base_tree)?,
            commit: id(&summary.commit)?,
            tree: id(&summary.tree)?,
            files: summary.files,
        })
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The exit code.
    pub exit: u8,
    /// The target's full hex commit id.
    pub tip: Option<String>,
    /// Why it ended early.
    pub cause: Option<String>,
    /// Full hex id of the last commit that the run has landed on the target, where that no longer holds it.
    pub lost: Option<String>,
    /// The commands that give it back to the target, as they were at the end.
    pub way_back: Option<String>,
}

/// The state after all of `events`, in their order.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> RunState {
    let mut state = RunState::default();
    for event in events {
        state.apply(event);
    }
    state
}

impl RunState {
    /// Moves on by one event. Total: an event that does not fit (only a damaged journal has one) changes what it can and
    /// never panics.
    pub fn apply(&mut self, recorded: &Recorded) {
        self.count_time(recorded);
        self.tally.count(&recorded.event);
        match &recorded.event {
            RunEvent::RunStarted { .. } => self.begin(recorded),
            RunEvent::RunResumed { jobs, backend, enforcement, notes, unexpanded, tally: _ } => {
                self.jobs = *jobs;
                self.backend.clone_from(backend);
                self.enforcement = Some(enforcement.clone());
                self.notes.clone_from(notes);
                self.finished = None;
                self.instances.retain(|id, _| !unexpanded.contains(id));
            }
            RunEvent::Noted { notes } => self.notes.extend_from_slice(notes),
            RunEvent::Reopened { instances } => instances.iter().for_each(|id| self.instance(id).reopen()),
            RunEvent::Retried { instances, .. } => instances.iter().for_each(|id| self.instance(id).try_again()),
            RunEvent::ItemsFound { .. } => {}
            RunEvent::InstancesAdded { instances } => self.grow(instances),
            RunEvent::AttemptStarted { instance, attempt, .. } => {
                self.instance(instance).start(*attempt, recorded.at_ms);
            }
            RunEvent::ModelCalled { instance, .. } => {
                let rare = self.instance(instance).rare();
                rare.waits = None;
                rare.models.get_or_insert_default().count(&recorded.event);
            }
            RunEvent::AttemptFinished { .. } => self.end_attempt(recorded),
            RunEvent::Reused { instances } => self.reuse(instances, recorded.at_ms),
            RunEvent::InstanceFinished { instance, result, cause } => {
                let state = self.instance(instance);
                state.phase = Phase::Finished(*result);
                state.because(cause.as_deref());
            }
            RunEvent::Verified { tree, verdict, duration_ms, .. } => self.gate.count(tree, *verdict, *duration_ms),
            RunEvent::Evicted { instance, reason, next, .. } => {
                self.instance(instance).rare().evicted = Some(Evicted { reason: reason.clone(), next: *next });
            }
            // Nobody is shown where a change stands among others, nor whom calls pass by.
            RunEvent::Requeued { .. } | RunEvent::NeedsSettled { .. } | RunEvent::ModelDown { .. } => {}
            RunEvent::ModelWaits { instance, wait, .. } => self.instance(instance).rare().waits = Some(wait.clone()),
            RunEvent::ModelAsked { instance, .. } => self.instance(instance).no_longer_waits(),
            RunEvent::Landing { from, to, .. } => {
                let is_new = from.is_some() && *from != self.tip;
                self.found_at.extend(from.iter().filter(|_| is_new).map(|from| (recorded.seq, from.clone())));
                self.tip = Some(to.clone());
                self.first_moved.get_or_insert(recorded.seq);
            }
            RunEvent::Merged { instance, fate } => {
                let state = self.instance(instance);
                state.fate = FateState::of(fate, recorded.seq, &state.attempts);
                if let Some(rare) = &mut state.rare {
                    rare.evicted = None;
                }
            }
            RunEvent::RunFinished { exit, tip, cause, lost, way_back } => {
                let (tip, cause, lost, way_back) = (tip.clone(), cause.clone(), lost.clone(), way_back.clone());
                self.finished = Some(Finished { at_ms: recorded.at_ms, exit: *exit, tip, cause, lost, way_back });
            }
        }
    }

    fn count_time(&mut self, recorded: &Recorded) {
        self.seq = recorded.seq;
        let begins = matches!(recorded.event, RunEvent::RunStarted { .. } | RunEvent::RunResumed { .. });
        if !begins && self.finished.is_none() && self.newest_at_ms > 0 {
            self.lived_ms += recorded.at_ms.saturating_sub(self.newest_at_ms);
        }
        self.newest_at_ms = recorded.at_ms;
    }

    /// How long coordinators have worked on it at `now_ms`, in milliseconds, when one does so now or it has ended.
    pub fn lived_until(&self, now_ms: u64) -> u64 {
        let since = if self.finished.is_some() { 0 } else { now_ms.saturating_sub(self.newest_at_ms) };
        self.lived_ms + since
    }

    fn begin(&mut self, recorded: &Recorded) {
        let RunEvent::RunStarted { run, plan, base, target, jobs, backend, enforcement, notes } = &recorded.event
        else {
            return;
        };
        self.run = Some(run.clone());
        self.plan.clone_from(plan);
        self.base.clone_from(base);
        self.target.clone_from(target);
        self.jobs = *jobs;
        self.backend.clone_from(backend);
        self.enforcement = Some(enforcement.clone());
        self.notes.clone_from(notes);
        self.started_at_ms = recorded.at_ms;
    }

    fn end_attempt(&mut self, recorded: &Recorded) {
        let RunEvent::AttemptFinished {
            instance,
            attempt,
            end,
            duration_ms,
            change,
            notes,
            refusals,
            envelope,
            retry_in_ms,
            outputs: _,
            handed,
        } = &recorded.event
        else {
            return;
        };
        let collected = self.collected(change.as_ref());
        let state = self.instance(instance);
        state.no_longer_waits();
        if state.attempts.last().is_none_or(|last| last.attempt != *attempt) {
            state.start(*attempt, recorded.at_ms.saturating_sub(*duration_ms));
        }
        let last = state.attempts.last_mut().expect("an attempt was just found or added");
        last.has_ended = true;
        last.duration_ms = *duration_ms;
        last.collected = collected;
        let handed = *handed;
        let says = *end != AttemptEnd::Succeeded || !notes.is_empty() || !refusals.is_empty() || envelope.is_some();
        let (notes, refusals) = (|| notes.clone(), || refusals.clone());
        let said =
            || Said { end: end.clone(), notes: notes(), refusals: refusals(), envelope: envelope.clone(), handed };
        last.said = (says || handed == Handed::Files).then(said).map(Box::new);
        state.phase = match (state.result_before.take(), retry_in_ms) {
            // Another try of what has a result takes nothing away, however it ends.
            (Some(result), _) => Phase::Finished(result),
            (None, Some(wait_ms)) => Phase::Retrying { at_ms: recorded.at_ms + wait_ms },
            // Its result follows as an event of its own; until then nothing of it runs.
            (None, None) => Phase::Waiting,
        };
    }

    /// Instances join; those of one task share its name and their list of needs.
    fn grow(&mut self, instances: &[AddedInstance]) {
        for added in instances {
            let before = self.instances.last().map(|(_, before)| &before.kin);
            let is_kin = |kin: &&Arc<Kin>| *kin.task == *added.task && *kin.needs == *added.needs;
            let kin = before.filter(is_kin).map_or_else(
                || Arc::new(Kin { task: added.task.as_str().into(), needs: added.needs.as_slice().into() }),
                Arc::clone,
            );
            let state = InstanceState { kin, on_failure: added.on_failure, ..InstanceState::unknown() };
            self.instances.insert(added.id.clone(), state);
        }
    }

    /// Instances end with a recorded result: it stands as an attempt of theirs, the only one unless they waited for their needs
    /// before, which took no time.
    fn reuse(&mut self, instances: &[ReusedInstance], at_ms: u64) {
        let mut from: Arc<str> = Arc::default();
        for reused in instances {
            if *from != *reused.from.0 {
                from = reused.from.0.as_str().into();
            }
            let collected = self.collected(reused.change.as_ref());
            let state = self.instance(&reused.instance);
            let before = state.last_attempt().map_or(0, |attempt| attempt.attempt.0);
            let last = state.start(Attempt(before + 1), at_ms);
            (last.has_ended, last.collected) = (true, collected);
            let (end, handed) = (AttemptEnd::Succeeded, reused.handed);
            let said = || Said { end, notes: reused.notes.clone(), refusals: vec![], envelope: None, handed };
            last.said = (!reused.notes.is_empty() || handed == Handed::Files).then(said).map(Box::new);
            state.phase = Phase::Finished(InstanceResult::Succeeded);
            state.rare().reused_from = Some(Arc::clone(&from));
            if state.change().is_none() {
                state.fate = FateState::Empty;
            }
        }
    }

    /// What was collected; one after the other that is the same is kept once.
    fn collected(&mut self, change: Option<&ChangeSummary>) -> Option<Arc<ChangeState>> {
        let change = ChangeState::new(change?)?;
        match &self.newest_change {
            Some(newest) if **newest == change => Some(Arc::clone(newest)),
            _ => Some(Arc::clone(self.newest_change.insert(Arc::new(change)))),
        }
    }

    /// The target as people name it.
    pub fn branch(&self) -> Option<&str> {
        self.target.as_deref().map(branch_of)
    }

    /// The instances with an attempt that runs, in graph order.
    pub fn running(&self) -> impl Iterator<Item = (&InstanceId, &InstanceState)> {
        self.instances.iter().filter(|(_, state)| state.phase == Phase::Running)
    }

    fn instance(&mut self, id: &InstanceId) -> &mut InstanceState {
        self.instances.entry(id.clone()).or_insert_with(InstanceState::unknown)
    }
}

impl InstanceState {
    fn unknown() -> Self {
        InstanceState {
            kin: Arc::default(),
            on_failure: OnFailure::Fail,
            phase: Phase::Waiting,
            attempts: Tries::None,
            fate: FateState::Unknown,
            result_before: None,
            rare: None,
        }
    }

    fn start(&mut self, attempt: Attempt, at_ms: u64) -> &mut AttemptState {
        self.result_before = self.result().or(self.result_before);
        self.phase = Phase::Running;
        self.attempts.push(AttemptState {
            attempt,
            started_at_ms: at_ms,
            duration_ms: 0,
            collected: None,
            has_ended: false,
            said: None,
        })
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn no_longer_waits(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.waits = None;
        }
    }

    /// Its result no longer holds.
    fn reopen(&mut self) {
        self.phase = Phase::Waiting;
        self.because(None);
    }

    /// A person asked for another try: what was parked, looked at what was, or failed and was given up has no fate any more.
    fn try_again(&mut self) {
        if let Some(Fate::Parked { .. } | Fate::Empty | Fate::Dropped { was: GivenUp::Failed }) = self.fate() {
            self.fate = FateState::Unknown;
        }
    }

    fn because(&mut self, cause: Option<&str>) {
        if cause.is_some() || self.rare.is_some() {
            self.rare().cause = cause.map(Box::from);
        }
    }

    /// The task it stems from.
    pub fn task(&self) -> &str {
        &self.kin.task
    }

    /// What it waits for, as displayed.
    pub fn needs(&self) -> &[String] {
        &self.kin.needs
    }

    /// Why it ended so, where that is not evident.
    pub fn cause(&self) -> Option<&str> {
        self.rare.as_ref()?.cause.as_deref()
    }

    /// The run whose recorded result it took instead of running.
    pub fn reused_from(&self) -> Option<&str> {
        self.rare.as_ref()?.reused_from.as_deref()
    }

    /// What it spent on models; `None` when it asked none.
    pub fn models(&self) -> Option<&Spending> {
        self.rare.as_ref()?.models.as_ref()
    }

    /// The model that it waits for.
    pub fn waits(&self) -> Option<&ModelWait> {
        self.rare.as_ref()?.waits.as_ref()
    }

    /// Why its change did not land as it is, while something else is being tried.
    pub fn evicted(&self) -> Option<&Evicted> {
        self.rare.as_ref()?.evicted.as_ref()
    }

    /// What became of its change; `None` until the merge train spoke.
    pub fn fate(&self) -> Option<&Fate> {
        match &self.fate {
            FateState::Unknown => None,
            FateState::Empty => Some(&Fate::Empty),
            FateState::Otherwise(spoken) => Some(&spoken.fate),
        }
    }

    /// The commit that its change landed as, in full hex, and the number of the event that said so: numbers rise in the order
    /// of the commits.
    pub fn landed(&self) -> Option<(u64, &str)> {
        match &self.fate {
            FateState::Otherwise(spoken) => match &spoken.fate {
                Fate::Landed { commit } => Some((spoken.seq, commit)),
                _ => None,
            },
            FateState::Unknown | FateState::Empty => None,
        }
    }

    /// The try whose change landed.
    pub fn landed_attempt(&self) -> Option<&AttemptState> {
        let FateState::Otherwise(spoken) = &self.fate else { return None };
        let landed = spoken.attempt.filter(|_| matches!(spoken.fate, Fate::Landed { .. }))?;
        self.attempts.iter().find(|attempt| attempt.attempt == landed)
    }

    /// The tries whose good change is on no branch although the instance landed, or changed nothing in the end: those put aside for
    /// a later try, and those made again behind a landing that changed something else.
    pub fn put_aside(&self) -> impl Iterator<Item = &AttemptState> {
        let landed = self.landed_attempt();
        let is_as_landed = move |attempt: &AttemptState| {
            let is_same =
                |landed: &ChangeState, it: &ChangeState| (landed.base_tree, landed.tree) == (it.base_tree, it.tree);
            landed.is_some_and(|landed| {
                let is_later = attempt.attempt > landed.attempt;
                let both = landed.change().zip(attempt.change());
                attempt.attempt == landed.attempt || is_later && both.is_some_and(|(landed, it)| is_same(landed, it))
            })
        };
        let has_settled = landed.is_some() || self.fate() == Some(&Fate::Empty);
        let made = self.attempts.iter().filter(|attempt| attempt.is_good_change());
        made.filter(move |attempt| has_settled && !is_as_landed(attempt))
    }

    /// The result that counts: while it is tried again, the one before.
    pub fn standing_result(&self) -> Option<InstanceResult> {
        self.result().or(self.result_before)
    }

    /// The result, once there is one.
    pub fn result(&self) -> Option<InstanceResult> {
        match self.phase {
            Phase::Finished(result) => Some(result),
            Phase::Waiting | Phase::Running | Phase::Retrying { .. } => None,
        }
    }

    /// The newest try.
    pub fn last_attempt(&self) -> Option<&AttemptState> {
        self.attempts.last()
    }

    /// Whether a try of it that passed left files in `$SWARM_ARTIFACTS`.
    pub fn handed_files(&self) -> bool {
        let passed = |attempt: &AttemptState| attempt.end() == Some(&AttemptEnd::Succeeded);
        self.attempts.iter().any(|attempt| passed(attempt) && attempt.left_files())
    }

    /// Whether any try of it did.
    pub fn left_files(&self) -> bool {
        self.attempts.iter().any(AttemptState::left_files)
    }

    /// The newest try's change, when it changed something.
    pub fn change(&self) -> Option<&ChangeState> {
        self.last_attempt().and_then(AttemptState::change)
    }

    /// Time spent over all tries, in milliseconds.
    pub fn spent_ms(&self) -> u64 {
        self.attempts.iter().map(|attempt| attempt.duration_ms).sum()
    }
}

#[cfg(test)]
mod tests;
