//! Worktrees in which a result was settled by hand and that have served, although whoever took what was there was killed before it
//! removed them: the next command that may change anything does, and the others say so.

use std::path::Path;

use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::{ChangeState, InstanceState, JournalReader, LockError, RunLock, RunState};
use swarm_orchestrator::merge::Step;
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::resolution::served::{may_be, served};
use swarm_orchestrator::resolution::{self, Edits, ResolutionError, Subject};
use swarm_plans::InstanceId;

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Removes those of a run that nobody works on, and says so; what somebody edited since stays, with the command that removes it.
/// Returns whose are gone.
///
/// # Errors
/// The journal or the repository cannot be read, or nobody reads what is said.
pub fn remove_served(
    repository: &Repository,
    (state_dir, journal): (&Path, &JournalReader),
    run: &RunId,
    it: &Surroundings,
) -> Result<Vec<InstanceId>, Failure> {
    if !may_be(repository)? || served(repository, run, &journal.state(run)?)?.is_empty() {
        return Ok(Vec::new());
    }
    let _held = match RunLock::of_run(state_dir, run, it.clock.now_ms()) {
        Ok(held) => held,
        // Whoever has it may be taking what is there.
        Err(LockError::Held { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let state = journal.state(run)?;
    let mut gone = Vec::new();
    for id in served(repository, run, &state)? {
        let Some(change) = newest_change(&state.instances[id]) else { continue };
        let step = Step { base: change.base_tree, result: change.tree, writes: None };
        let subject = Subject { run, id, change: step, commit: change.commit };
        let (name, words) = (sanitize::name(&id.0), format!("{run} {}", sanitize::shell_word(&id.0)));
        it.err.write(&match resolution::abort(repository, subject, Edits::Keep) {
            Ok(at) => {
                gone.push(id.clone());
                format!("removed {}, what was settled there of {name} had been taken\n", at.display())
            }
            Err(error @ (ResolutionError::Edited(_) | ResolutionError::Away(_))) => format!(
                "note: what was settled by hand of {name} had been taken, and its worktree is still there: {error}\n      \
                 swarm resolve {words} --abort --force gives up what is in it\n"
            ),
            Err(error) => format!("note: the worktree in which {name} was settled is still there: {error}\n"),
        })?;
    }
    Ok(gone)
}

/// Says of those of a run that nobody works on what removes them; empty where there is none.
pub fn left_behind(repository: &Repository, run: &RunId, state: &RunState) -> String {
    // A repository that cannot be read says so to whatever else is asked of it.
    let left = served(repository, run, state).unwrap_or_default().into_iter();
    let note = |id| {
        let (name, word) = (sanitize::name(id), sanitize::shell_word(id));
        format!(
            "note: what was settled by hand of {name} had been taken, and its worktree is still there\n      \
             swarm resolve {run} {word} --abort removes it\n"
        )
    };
    left.map(|id| note(&id.0)).collect()
}

/// The change that a result has now.
pub fn newest_change(instance: &InstanceState) -> Option<&ChangeState> {
    instance.attempts.iter().rev().find_map(|attempt| attempt.change())
}
