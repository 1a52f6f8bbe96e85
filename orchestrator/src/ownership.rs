//! Whose a run is. One state folder may serve several repositories (`--state-dir`), and its journal then holds the runs of all: refs,
//! branches and results of a run are in its own repository, and a command that changes any of them works there only.

use std::path::Path;

use crate::commit::base_ref;
use crate::journal::RunRow;
use crate::repository::{Repository, RepositoryError};

/// The repository of a run, where that is another one than `repository`: its common git folder. `state` is the folder whose journal
/// has the run.
///
/// A repository that was moved takes the runs along that it holds itself; of those in a folder elsewhere it is known by the ref of
/// their base. Runs of before, which say nothing, belong to whoever asks.
///
/// # Errors
/// [`RepositoryError`]; the refs cannot be read.
pub fn other_repository<'r>(
    row: &'r RunRow,
    repository: &Repository,
    state: &Path,
) -> Result<Option<&'r str>, RepositoryError> {
    let own = repository.common_dir();
    let Some(of) = row.repository.as_deref().filter(|of| **of != *own.to_string_lossy()) else { return Ok(None) };
    let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
    let was_moved =
        || Ok::<_, RepositoryError>(!Path::new(of).exists() && repository.find_ref(&base_ref(&row.id))?.is_some());
    Ok(if state.starts_with(own) || was_moved()? { None } else { Some(of) })
}
