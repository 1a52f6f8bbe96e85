//! What a run took from earlier ones is kept by refs of its own, whatever becomes of those runs and of the recorded results
//! (`swarm clean --cache`, the bounds of the store).
//!
//! While the run can go on, one ref keeps all that was found at once, `refs/swarm/<run>/+reused/<commit>`: a ref for each result would
//! be ten thousand files where nothing is run. When it has ended, or somebody gives any of it up, what did not land is kept as every
//! other result is, by the ref of its attempt, and those go.

use std::collections::HashSet;

use git2::Oid;

use crate::commit::{attempt_ref, bundle, keep, run_refs};
use crate::event::Fate;
use crate::ids::RunId;
use crate::journal::{AttemptState, InstanceState, RunState};
use crate::repository::{Repository, RepositoryError};

/// Below which name the refs of a run are that keep what it took.
pub fn reused_refs(run: &RunId) -> String {
    format!("{}+reused/", run_refs(run))
}

/// Keeps what was found; nothing where that is nothing.
///
/// # Errors
/// [`RepositoryError::Git`]: nothing keeps it, so it may not be taken.
pub fn hold(repository: &Repository, run: &RunId, mut commits: Vec<Oid>) -> Result<(), RepositoryError> {
    commits.sort_unstable();
    commits.dedup();
    if commits.is_empty() {
        return Ok(());
    }
    let holds = bundle(repository, &commits, "results of earlier runs")?;
    keep(repository, &format!("{}{holds}", reused_refs(run)), holds)
}

/// The refs that what a run took and has not landed gets when those go that keep it together, with their commits.
///
/// # Errors
/// [`RepositoryError`], also where one cannot be read: nobody knows what else keeps it.
pub fn to_keep(repository: &Repository, run: &RunId, state: &RunState) -> Result<Vec<(String, Oid)>, RepositoryError> {
    let mut held = HashSet::new();
    let mut is_one_gone = false;
    for (_, holds) in repository.refs_below(&reused_refs(run))? {
        if repository.has_commit(holds)? {
            held.extend(repository.handle()?.find_commit(holds)?.parent_ids());
        } else {
            is_one_gone = true;
        }
    }
    let mut wanted = Vec::new();
    if held.is_empty() && !is_one_gone {
        return Ok(wanted);
    }
    // What was held by one that is gone itself may be there all the same.
    let is_held =
        |commit: Oid| Ok::<_, RepositoryError>(held.contains(&commit) || is_one_gone && repository.has_commit(commit)?);
    for (id, instance) in state.instances.iter().filter(|(_, instance)| instance.reused_from().is_some()) {
        for attempt in unsettled(instance) {
            let Some(commit) = attempt.change().map(|change| change.commit) else { continue };
            if is_held(commit)? {
                wanted.push((attempt_ref(run, id, attempt.attempt), commit));
            }
        }
    }
    Ok(wanted)
}

/// Gives what a run took and has not landed refs like those of all other results. Whoever dies in between leaves more refs than there
/// have to be; nobody else works on the run meanwhile.
///
/// # Errors
/// [`RepositoryError::Git`].
pub fn settle(repository: &Repository, run: &RunId, state: &RunState) -> Result<(), RepositoryError> {
    for (name, commit) in to_keep(repository, run, state)? {
        keep(repository, &name, commit)?;
    }
    for (name, _) in repository.refs_below(&reused_refs(run))? {
        repository.delete_ref(&name)?;
    }
    Ok(())
}

/// The tries of an instance of which a change is on no branch.
fn unsettled(instance: &InstanceState) -> Vec<&AttemptState> {
    match instance.fate() {
        Some(Fate::Dropped { .. }) => Vec::new(),
        Some(Fate::Landed { .. } | Fate::Empty) => instance.put_aside().collect(),
        Some(Fate::Parked { .. }) | None => instance.attempts.iter().collect(),
    }
}
