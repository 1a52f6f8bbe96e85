//! What a person decides about results that did not land, or are on no branch any more: another try (`swarm retry`), or none
//! (`swarm drop`).

use std::collections::{HashMap, HashSet};

use git2::Oid;
use swarm_plans::InstanceId;

use crate::clean::{landed_commits, reachable};
use crate::commit::{attempt_ref, history_ref, run_refs};
use crate::event::{AttemptEnd, Fate, GivenUp, InstanceResult, OnFailure, ParkedBy, Recorded, RunEvent};
use crate::ids::{Attempt, RunId, encode_component};
use crate::journal::{
    AttemptState, Finished, InstanceState, Journal, JournalError, JournalReader, LockError, Phase, RunLock, RunState,
};
use crate::report::{Ending, exit, exit_code};
use crate::repository::{Repository, RepositoryError};
use crate::reused;
use crate::state::StateDir;
use crate::target::{TargetError, lost_landed};

/// The results that another try would be given, in graph order: all that failed or are parked and that nobody gave up, or the
/// named one with what is parked because it builds on it, or waits to be published with it.
pub fn worth_another_try(state: &RunState, named: Option<&InstanceId>) -> Vec<InstanceId> {
    worth_another_try_of(state, named.map(std::slice::from_ref))
}

/// The same for any number of named ones.
pub fn worth_another_try_of(state: &RunState, named: Option<&[InstanceId]>) -> Vec<InstanceId> {
    let mut chosen: HashSet<&str> = HashSet::new();
    let mut tasks: HashSet<&str> = HashSet::new();
    // Instances of a fan-out stand behind others that need them: what builds on what is found in rounds.
    loop {
        let before = chosen.len();
        for (id, instance) in &state.instances {
            let builds_on_one =
                || instance.needs().iter().any(|need| chosen.contains(need.as_str()) || tasks.contains(need.as_str()));
            // Whoever waits for the others is published with them.
            let waits = matches!(instance.fate(), Some(Fate::Parked { by: ParkedBy::Others, .. }));
            let is_one = match named {
                Some(named) if named.contains(id) => is_parked(instance) || has_failed(instance),
                Some(_) => is_parked(instance) && (waits || builds_on_one()),
                None => is_parked(instance) || counts_as_failed(instance),
            };
            // What changed nothing, but looked at what may be another one then.
            if is_one || instance.fate() == Some(&Fate::Empty) && builds_on_one() {
                chosen.insert(&id.0);
                tasks.insert(instance.task());
            }
        }
        if chosen.len() == before {
            return state.instances.keys().filter(|id| chosen.contains(&*id.0)).cloned().collect();
        }
    }
}

/// The result that a person gave up and without which a failed instance cannot be what it was to be: the changes of its needs
/// contradict each other, and this is one of them. `None` where it failed otherwise, or nothing was given up.
pub fn dropped_need<'a>(state: &'a RunState, instance: &InstanceState) -> Option<&'a InstanceId> {
    let end = instance.last_attempt().and_then(AttemptState::end);
    if !has_failed(instance) || !matches!(end, Some(AttemptEnd::Needs { .. })) {
        return None;
    }
    let mut open: Vec<&str> = instance.needs().iter().map(String::as_str).collect();
    let mut asked: HashSet<&str> = open.iter().copied().collect();
    let mut dropped = HashSet::new();
    while let Some(need) = open.pop() {
        // A need is an instance, or a task with all that it has.
        for (id, it) in state.instances.iter().filter(|(id, it)| *id.0 == *need || it.task() == need) {
            if matches!(it.fate(), Some(Fate::Dropped { .. })) {
                dropped.insert(id);
            }
            open.extend(it.needs().iter().map(String::as_str).filter(|need| asked.insert(need)));
        }
    }
    state.instances.keys().find(|id| dropped.contains(id))
}

fn is_parked(instance: &InstanceState) -> bool {
    matches!(instance.fate(), Some(Fate::Parked { .. }))
}

/// Whether an instance ended without what it was for, by its own fault or another's.
pub(crate) fn has_failed(instance: &InstanceState) -> bool {
    use InstanceResult::{Cancelled, Failed, Lost, TimedOut, Violation};
    matches!(instance.phase, Phase::Finished(Failed | TimedOut | Violation | Cancelled | Lost))
}

/// Whether a failure counts against the run, and nobody gave it up.
fn counts_as_failed(instance: &InstanceState) -> bool {
    has_failed(instance) && instance.on_failure == OnFailure::Fail && !is_given_up(instance)
}

pub(crate) fn is_given_up(instance: &InstanceState) -> bool {
    matches!(instance.fate(), Some(Fate::Dropped { was: GivenUp::Failed }))
}

/// Those that failed and that a person gave up, in graph order: nobody tries them again unless they are named.
pub fn given_up(state: &RunState) -> impl Iterator<Item = &InstanceId> {
    state.instances.iter().filter(|(_, instance)| is_given_up(instance)).map(|(id, _)| id)
}

/// What keeps results from landing that wait to be published with all others, in graph order: it failed, or is parked for a reason of
/// its own. `None` where nothing waits so.
pub fn keeps_others(state: &RunState) -> Option<Vec<&InstanceId>> {
    let waits = |instance: &InstanceState| matches!(instance.fate(), Some(Fate::Parked { by: ParkedBy::Others, .. }));
    state.instances.values().any(waits).then_some(())?;
    let keeps = |instance: &InstanceState| counts_as_failed(instance) || is_parked(instance) && !waits(instance);
    Some(state.instances.iter().filter(|(_, instance)| keeps(instance)).map(|(id, _)| id).collect())
}

/// The results whose newest change a person settled by hand; told event by event.
#[derive(Debug, Clone, Default)]
pub struct SettledByHand {
    /// Whose settlement is the next change of it.
    awaited: Option<InstanceId>,
    newest: HashMap<InstanceId, Attempt>,
}

impl SettledByHand {
    /// Takes in the next event of a run.
    pub fn hear(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Retried { resolved, .. } => self.awaited.clone_from(resolved),
            RunEvent::AttemptFinished { instance, attempt, end: AttemptEnd::Succeeded, .. } => {
                if self.awaited.as_ref() == Some(instance) {
                    self.newest.insert(instance.clone(), *attempt);
                    self.awaited = None;
                } else {
                    self.newest.remove(instance);
                }
            }
            _ => {}
        }
    }

    /// The attempt under whose ref the settlement is kept; `None` where there is none, or a later attempt took its place.
    pub fn attempt_of(&self, id: &InstanceId) -> Option<Attempt> {
        self.newest.get(id).copied()
    }
}

/// Why nothing was dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// The run's coordinator died, and nobody brought the run to an end.
    #[error("drop results of {0}: its coordinator died in the midst of it")]
    Unfinished(RunId),
    /// A coordinator works on the run.
    #[error(transparent)]
    Held(#[from] LockError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// What was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// What became of each of those that were asked for, in their order.
    pub each: Vec<(InstanceId, DropOutcome)>,
    /// The run's exit code from now on.
    pub exit: u8,
}

/// What dropping came to for one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropOutcome {
    /// The commits that no ref of ours keeps any more, full hex ids with the refs that kept them; empty where nothing was kept.
    Dropped {
        /// The refs first.
        refs: Vec<(String, String)>,
        /// What it was until now; `None` where nothing of it was given up that had not been before.
        was: Option<GivenUp>,
    },
    /// It landed as this commit, which a branch still has: all of it stays.
    Landed {
        /// Full hex commit id.
        commit: String,
    },
    /// Its run was interrupted and has not come to it: whoever goes on with the run merges it. All of it stays.
    Awaited,
}

/// Gives results up for good: no ref keeps them any more, so that git's own collection takes their objects in time. The journal
/// knows first; a crash behind that leaves refs that dropping again removes.
///
/// # Errors
/// [`DropError`]; nothing was dropped then, unless the repository failed.
pub fn drop_results(
    repository: &Repository,
    state: &StateDir,
    (run, ids): (&RunId, &[InstanceId]),
    now_ms: u64,
) -> Result<Dropped, DropError> {
    let of_run = RunLock::of_run(state.root(), run, now_ms)?;
    let mut journal = Journal::open(state.root())?;
    let mut known = JournalReader::open(state.root())?.state(run)?;
    let Some(before) = known.finished.clone() else { return Err(DropError::Unfinished(run.clone())) };
    let landed = reachable(repository, landed_commits(ids.iter().filter_map(|id| known.instances.get(id))).collect())?;
    let said: Vec<Kept> = ids.iter().map(|id| Kept::of(&known, run, id, &landed)).collect();
    // What it took of earlier runs and cannot be read is not given up by halves.
    reused::to_keep(repository, run, &known)?;
    // A process that died while it held this run's lock may have held those of its refs.
    repository.sweep_refs(&run_refs(run));
    let was: Vec<Option<GivenUp>> = ids.iter().zip(&said).map(|(id, kept)| gives_up(&known, id, kept)).collect();
    let dropped = ids.iter().zip(&was).filter_map(|(id, was)| Some((id.clone(), (*was)?)));
    let mut events: Vec<RunEvent> =
        dropped.map(|(instance, was)| RunEvent::Merged { instance, fate: Fate::Dropped { was } }).collect();
    let mut code = before.exit;
    if !events.is_empty() {
        let writer = journal.resume_run(run, of_run)?;
        for event in &events {
            known.apply(&Recorded { seq: u64::MAX, at_ms: now_ms, event: event.clone() });
        }
        let judged = judged_anew(repository, &known, before)?;
        code = judged.exit;
        let Finished { exit, tip, cause, lost, way_back, at_ms: _ } = judged;
        events.push(RunEvent::RunFinished { exit, tip, cause, lost, way_back });
        // As one: nobody finds them dropped in a run that still counts them.
        writer.append(now_ms, events)?;
    }
    // What is kept together with others could not be let go alone.
    reused::settle(repository, run, &known)?;
    let mut each = Vec::new();
    for ((id, kept), was) in ids.iter().zip(said).zip(was) {
        let outcome = match kept {
            Kept::Landed { commit } => DropOutcome::Landed { commit },
            Kept::Awaited => DropOutcome::Awaited,
            Kept::All => DropOutcome::Dropped { refs: delete_refs(repository, run, id, |_| true)?, was },
            Kept::Aside(names) => {
                DropOutcome::Dropped { refs: delete_refs(repository, run, id, |name| names.contains(name))?, was }
            }
        };
        each.push((id.clone(), outcome));
    }
    Ok(Dropped { each, exit: code })
}

/// The end of a run of which something was given up: one that came to it is judged by what became of each; one that did not is
/// still to be gone on with.
fn judged_anew(repository: &Repository, known: &RunState, before: Finished) -> Result<Finished, RepositoryError> {
    let mut end = before;
    let was_lost = end.lost.is_some();
    if let (true, Some(target)) = (was_lost, &known.target) {
        let newest = known.instances.values().filter_map(InstanceState::landed).max();
        let landed = newest.and_then(|(_, commit)| Oid::from_str(commit).ok());
        let lost = landed.map(|landed| lost_landed(repository, target, landed)).transpose()?.flatten();
        end.cause = lost.as_ref().map(ToString::to_string);
        end.lost = lost.as_ref().and_then(TargetError::lost);
        end.way_back = lost.as_ref().and_then(TargetError::way_back);
    }
    let is_open = |instance: &InstanceState| {
        use InstanceResult::{Cancelled, Lost};
        let awaits = instance.result().is_some_and(InstanceResult::passed) && instance.fate().is_none();
        awaits || matches!(instance.result(), None | Some(Cancelled | Lost))
    };
    // Nobody can tell any more what had cut that one short.
    let is_over = !was_lost || end.lost.is_none() && !known.instances.values().any(is_open);
    if is_over && (end.exit == exit::PARKED || end.exit == exit::ENVIRONMENT && end.cause.is_none()) {
        end.exit = exit_code(Ending::Complete, known);
    }
    Ok(end)
}

/// What an instance is that is given up now; `None` where there is nothing to give up, or somebody did before.
fn gives_up(known: &RunState, id: &InstanceId, kept: &Kept) -> Option<GivenUp> {
    use InstanceResult::{Cancelled, Lost};
    let instance = known.instances.get(id).filter(|_| matches!(kept, Kept::All))?;
    // Whoever goes on with the run runs it: it has not come to anything yet.
    let is_open = exit::is_resumable(known.finished.as_ref().map(|end| end.exit))
        && matches!(instance.result(), Some(Cancelled | Lost));
    match instance.fate() {
        Some(Fate::Parked { .. }) => Some(GivenUp::Parked),
        // `Kept::All`: no branch has it.
        Some(Fate::Landed { .. }) => Some(GivenUp::Landed),
        None | Some(Fate::Empty) if has_failed(instance) && !is_open => Some(GivenUp::Failed),
        Some(Fate::Empty | Fate::Dropped { .. }) | None => None,
    }
}

/// What of an instance dropping may take.
enum Kept {
    /// All that is kept of it.
    All,
    /// What of a result that landed is on no branch: these refs.
    Aside(Vec<String>),
    /// Nothing, it landed, and a branch has it.
    Landed { commit: String },
    /// Nothing yet.
    Awaited,
}

impl Kept {
    /// `landed` are the commits that landed and that a branch still has.
    fn of(known: &RunState, run: &RunId, id: &InstanceId, landed: &HashSet<Oid>) -> Kept {
        let Some(instance) = known.instances.get(id) else { return Kept::All };
        let is_resumable = exit::is_resumable(known.finished.as_ref().map(|finished| finished.exit));
        let has_passed = || {
            let mut attempts = instance.attempts.iter();
            attempts.any(|attempt| attempt.end() == Some(&AttemptEnd::Succeeded) && attempt.change().is_some())
        };
        match instance.fate() {
            // No branch has it any more: what keeps it is the result's ref alone.
            Some(Fate::Landed { commit }) if Oid::from_str(commit).is_ok_and(|it| !landed.contains(&it)) => Kept::All,
            Some(Fate::Landed { commit }) => {
                let refs = |attempt: &AttemptState| {
                    [attempt_ref(run, id, attempt.attempt), history_ref(run, id, attempt.attempt)]
                };
                let aside: Vec<String> = instance.put_aside().flat_map(refs).collect();
                if aside.is_empty() { Kept::Landed { commit: commit.clone() } } else { Kept::Aside(aside) }
            }
            None if is_resumable && has_passed() => Kept::Awaited,
            _ => Kept::All,
        }
    }
}

/// Deletes the refs of an instance that are wanted, and returns them with their commits.
fn delete_refs(
    repository: &Repository,
    run: &RunId,
    id: &InstanceId,
    is_wanted: impl Fn(&String) -> bool,
) -> Result<Vec<(String, String)>, RepositoryError> {
    let prefix = format!("{}{}/", run_refs(run), encode_component(&id.0));
    let mut refs = Vec::new();
    for (name, commit) in repository.refs_below(&prefix)? {
        if is_wanted(&name) {
            repository.delete_ref(&name)?;
            refs.push((name, commit.to_string()));
        }
    }
    Ok(refs)
}
