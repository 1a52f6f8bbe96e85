//! What a person decides about results that did not land: another try (`swarm retry`), or none (`swarm drop`).

use std::collections::HashMap;

use swarm_plans::InstanceId;

use crate::commit::{attempt_ref, history_ref, run_refs};
use crate::event::{AttemptEnd, Fate, InstanceResult, OnFailure, ParkedBy, Recorded, RunEvent};
use crate::ids::{Attempt, RunId, encode_component};
use crate::journal::{
    AttemptState, InstanceState, Journal, JournalError, JournalReader, LockError, Phase, RunLock, RunState,
};
use crate::report::{Ending, exit, exit_code};
use crate::repository::{Repository, RepositoryError};
use crate::state::StateDir;

/// The results that another try would be given, in graph order: all that failed or are parked, or the named one with what is
/// parked because it builds on it, or waits to be published with it.
pub fn worth_another_try(state: &RunState, named: Option<&InstanceId>) -> Vec<InstanceId> {
    let mut chosen: Vec<InstanceId> = Vec::new();
    for (id, instance) in &state.instances {
        let builds_on = |chosen: &InstanceId| {
            let task = state.instances.get(chosen).map(InstanceState::task);
            instance.needs().iter().any(|need| **need == *chosen.0 || Some(need.as_str()) == task)
        };
        // Whoever waits for the others is published with them.
        let waits = matches!(instance.fate(), Some(Fate::Parked { by: ParkedBy::Others, .. }));
        let wanted = match named {
            Some(named) if named == id => is_parked(instance) || has_failed(instance),
            Some(_) => is_parked(instance) && (waits || chosen.iter().any(builds_on)),
            None => is_parked(instance) || has_failed(instance) && instance.on_failure == OnFailure::Fail,
        };
        if wanted {
            chosen.push(id.clone());
        }
    }
    chosen
}

fn is_parked(instance: &InstanceState) -> bool {
    matches!(instance.fate(), Some(Fate::Parked { .. }))
}

/// Whether an instance ended without what it was for, by its own fault or another's.
pub(crate) fn has_failed(instance: &InstanceState) -> bool {
    use InstanceResult::{Cancelled, Failed, Lost, TimedOut, Violation};
    matches!(instance.phase, Phase::Finished(Failed | TimedOut | Violation | Cancelled | Lost))
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

/// Why a result was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Its run has not ended.
    #[error("drop a result of {0}: the run has not ended")]
    Unfinished(RunId),
    /// It is on the target.
    #[error("drop {id}: it landed as {commit}")]
    Landed {
        /// Which.
        id: InstanceId,
        /// Full hex commit id.
        commit: String,
    },
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
    /// The commits that no ref of ours keeps any more, full hex ids with the refs that kept them.
    pub refs: Vec<(String, String)>,
    /// The run's exit code from now on.
    pub exit: u8,
}

/// The tries of an instance whose good change was put aside for a later try that ended well, too: what they did is on no branch,
/// whatever became of the later one.
pub fn put_aside(instance: &InstanceState) -> impl Iterator<Item = &AttemptState> {
    let ended_well = |attempt: &&AttemptState| attempt.end() == Some(&AttemptEnd::Succeeded);
    let last = instance.attempts.iter().filter(ended_well).map(|attempt| attempt.attempt).next_back();
    instance
        .attempts
        .iter()
        .filter(ended_well)
        .filter(move |attempt| Some(attempt.attempt) != last && attempt.change().is_some())
}

/// Gives a result up for good: no ref keeps it any more, so that git's own collection takes its objects in time. The journal
/// knows first; a crash behind that leaves refs that dropping again removes.
///
/// # Errors
/// [`DropError`]; nothing was dropped then, unless the repository failed.
pub fn drop_result(
    repository: &Repository,
    state: &StateDir,
    (run, id): (&RunId, &InstanceId),
    now_ms: u64,
) -> Result<Dropped, DropError> {
    let of_run = RunLock::of_run(state.root(), run, now_ms)?;
    let mut journal = Journal::open(state.root())?;
    let mut known = JournalReader::open(state.root())?.state(run)?;
    let Some(before) = known.finished.clone() else { return Err(DropError::Unfinished(run.clone())) };
    let fate = known.instances.get(id).and_then(|instance| instance.fate().cloned());
    let put_aside: Vec<String> = known
        .instances
        .get(id)
        .into_iter()
        .flat_map(put_aside)
        .flat_map(|attempt| [attempt_ref(run, id, attempt.attempt), history_ref(run, id, attempt.attempt)])
        .collect();
    let has_landed = matches!(fate, Some(Fate::Landed { .. }));
    if let Some(Fate::Landed { commit }) = fate.clone().filter(|_| put_aside.is_empty()) {
        return Err(DropError::Landed { id: id.clone(), commit });
    }
    let mut code = before.exit;
    // A process that died while it held this run's lock may have held those of its refs.
    repository.sweep_locks(&run_refs(run));
    if let Some(Fate::Parked { .. }) = fate {
        let writer = journal.resume_run(run, of_run)?;
        let dropped = RunEvent::Merged { instance: id.clone(), fate: Fate::Dropped };
        known.apply(&Recorded { seq: u64::MAX, at_ms: now_ms, event: dropped.clone() });
        if before.exit == exit::PARKED {
            code = exit_code(Ending::Complete, &known);
        }
        let finished = RunEvent::RunFinished { exit: code, tip: before.tip, cause: before.cause, lost: before.lost };
        // As one: nobody finds it dropped in a run that still counts it.
        writer.append(now_ms, vec![dropped, finished])?;
    }
    let prefix = format!("refs/swarm/{}/{}/", encode_component(&run.0), encode_component(&id.0));
    let mut refs = Vec::new();
    for (name, commit) in repository.refs_below(&prefix)? {
        // What landed is not given up with what it took the place of.
        if !has_landed || put_aside.contains(&name) {
            repository.delete_ref(&name)?;
            refs.push((name, commit.to_string()));
        }
    }
    Ok(Dropped { refs, exit: code })
}
