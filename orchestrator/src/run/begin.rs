//! A run gets its name, its place in the journal, and where it asks for one, a branch of its own.

use std::sync::Arc;

use git2::{ErrorCode, Oid};

use super::error::Begun;
use super::{LoadedPlan, RunError, expanded_hash};
use crate::commit;
use crate::journal::{Journal, LockError, NewRun, NewTarget, RunLock, RunWriter};
use crate::repository::{Repository, RepositoryError, Swap};
use crate::settings::Asked;
use crate::state::StateDir;
use crate::target;

/// Names of a run that are passed by because somebody seems to make their refs at this moment.
const NAMES_LOCKED_MAX: u32 = 4;

/// Gives the run its name and its place in the journal, and the lock of a target that is named after it.
pub(super) fn begin(
    repository: &Repository,
    state: &StateDir,
    loaded: &LoadedPlan,
    base: Oid,
    target: Option<NewTarget>,
    started_at_ms: u64,
    asked: Asked,
) -> Result<(RunWriter, Option<Arc<RunLock>>), RunError> {
    let sources: Vec<(String, String)> = loaded.sources.iter().map(|s| (s.name.clone(), s.text.clone())).collect();
    let new = NewRun {
        plan: loaded.graph.plan().name.clone(),
        sources,
        repository: repository.common_dir().to_string_lossy().into_owned(),
        expanded_hash: expanded_hash(loaded),
        base: base.to_string(),
        target: target.clone(),
        started_at_ms,
        asked,
    };
    let mut journal = Journal::open(state.root())?;
    // Every run leaves the ref of its base, also where its journal is gone: a name is never given twice. Making that ref is one
    // step for all who work on the repository, whichever state folder they have.
    let (mut failed, mut locked, mut of_run) = (None, 0, None);
    let writer = journal.begin_run(new, |run| {
        if let Some(own @ NewTarget::OfRun) = &target {
            match claim(repository, state, &own.of(run), started_at_ms) {
                Ok(None) => return true,
                Ok(lock) => of_run = lock,
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            }
        }
        match repository.compare_and_swap(&commit::base_ref(run), None, base, "swarm") {
            Ok(swap) => swap != Swap::Done,
            // Somebody makes it at this moment; where all of them are, none can be made.
            Err(RepositoryError::Git(error)) if error.code() == ErrorCode::Locked && locked < NAMES_LOCKED_MAX => {
                locked += 1;
                true
            }
            Err(error) => {
                failed = Some(error.into());
                false
            }
        }
    })?;
    match failed {
        Some(error) => Err(error.cut(writer.run(), Begun::Now)),
        None => Ok((writer, of_run)),
    }
}

/// The lock of a branch that is to be one run's own; `None` where it is somebody's already.
fn claim(
    repository: &Repository,
    state: &StateDir,
    target: &str,
    now_ms: u64,
) -> Result<Option<Arc<RunLock>>, RunError> {
    match target::lock(repository, state.root(), target, now_ms) {
        Ok(lock) => Ok(target::is_free(repository, target)?.then_some(lock)),
        Err(LockError::Held { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
