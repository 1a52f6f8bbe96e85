//! Worktrees in which somebody settled a result and that have served: what was made there is kept as an attempt of its own, and
//! whoever took it was killed before it had removed them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use swarm_plans::InstanceId;

use super::{NAMED_BY, NOTE, Note, known_worktrees, worktree_name};
use crate::event::Fate;
use crate::ids::RunId;
use crate::journal::{InstanceState, RunState};
use crate::open;
use crate::repository::{Repository, RepositoryError};

/// Whether there may be any, of whatever run: nearly always there is none, and a journal takes long to read.
///
/// # Errors
/// Those of the repository.
pub fn may_be(repository: &Repository) -> Result<bool, RepositoryError> {
    Ok(known_worktrees(repository)?.iter().any(|name| name.as_encoded_bytes().starts_with(NAMED_BY.as_bytes())))
}

/// Those of a run that nobody works on whose worktrees nothing can be taken from any more, in graph order: they were opened for a
/// change that has another behind it, or are half removed. [`super::abort`] removes one, unless somebody edited it since.
///
/// # Errors
/// Those of the repository.
pub fn served<'a>(
    repository: &Repository,
    run: &RunId,
    state: &'a RunState,
) -> Result<Vec<&'a InstanceId>, RepositoryError> {
    let known = known_worktrees(repository)?;
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let has_served = |(id, instance): &(&InstanceId, &InstanceState)| {
        let name = worktree_name(run, id);
        known.contains(OsStr::new(&name)) && is_of_no_use(&open::admin_dir(repository, &name), instance)
    };
    Ok(state.instances.iter().filter(has_served).map(|(id, _)| id).collect())
}

fn is_of_no_use(admin: &Path, instance: &InstanceState) -> bool {
    let newest = instance.attempts.iter().rev().find_map(|attempt| attempt.change());
    let note = fs::read_to_string(admin.join(NOTE)).ok();
    match note.map(|text| serde_json::from_str::<Note>(&text)) {
        Some(Ok(note)) => newest.is_some_and(|change| change.commit.to_string() != note.change),
        Some(Err(_)) => false,
        // One of a parked result may be in the making.
        None => !admin.join(NOTE).exists() && !matches!(instance.fate(), Some(Fate::Parked { .. })),
    }
}
