//! Refs that keep recorded commits alive: one for each run and thousand results, `refs/swarm/cache/<run>/<n>`, each a
//! commit of an empty tree whose parents are the results. A ref for each result would be ten thousand files to read at the
//! start of every run.

use git2::Oid;

use crate::commit::{bundle, keep};
use crate::ids::{RunId, encode_component};
use crate::repository::{Presence, Repository, RepositoryError};

/// Where these refs lie. No run is called `cache`: their names end in a number.
const PREFIX: &str = "refs/swarm/cache/";

/// Commits that one ref keeps.
const COMMITS_PER_REF_MAX: usize = 1000;

/// Keeps exactly `commits` for a run: what was kept before and is not among them is let go. Those that do not exist any
/// more are passed over; what only cannot be read at this moment is kept as it is.
///
/// # Errors
/// [`RepositoryError::Git`].
pub fn set(repository: &Repository, run: &RunId, commits: &[Oid]) -> Result<(), RepositoryError> {
    let prefix = format!("{PREFIX}{}/", encode_component(&run.0));
    let git = repository.fresh()?;
    let odb = git.odb()?;
    let is_gone = |commit| !odb.exists(commit) && matches!(repository.presence(&git, commit), Presence::Gone(_));
    let present: Vec<Oid> = commits.iter().copied().filter(|&commit| !is_gone(commit)).collect();
    let mut wanted = Vec::new();
    for (number, chunk) in present.chunks(COMMITS_PER_REF_MAX).enumerate() {
        let holds = bundle(repository, chunk, &format!("results recorded by {}", run.0))?;
        wanted.push((format!("{prefix}{number}"), holds));
    }
    for (name, _) in repository.refs_below(&prefix)? {
        if !wanted.iter().any(|(kept, _)| *kept == name) {
            repository.delete_ref(&name)?;
        }
    }
    wanted.into_iter().try_for_each(|(name, commit)| keep(repository, &name, commit))
}

/// Lets everything go.
///
/// # Errors
/// [`RepositoryError::Git`].
pub fn remove_all(repository: &Repository) -> Result<(), RepositoryError> {
    let refs = repository.refs_below(PREFIX)?;
    refs.iter().try_for_each(|(name, _)| repository.delete_ref(name))
}
