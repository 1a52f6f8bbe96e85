//! Refs of ours whose commit is gone: somebody collected garbage in the moment between the writing of a result and that of its ref, or
//! the repository is damaged. Every later `git gc` refuses to run for one, so a person is told; only `swarm clean` removes any.

use std::fmt;
use std::path::Path;

use git2::Oid;

use crate::commit;
use crate::ids::RunId;
use crate::report::sanitize::shell_word;
use crate::repository::{Repository, RepositoryError, is_known};

/// A ref of a run whose commit cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hollow {
    /// The ref's full name.
    pub name: String,
    /// What reading it failed with; `None` where the repository does not know the commit.
    pub why: Option<String>,
}

impl fmt::Display for Hollow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            None => {
                let name = shell_word(&self.name);
                write!(
                    f,
                    "what {} kept is gone (git gc?), and git gc fails until the ref is, too: git update-ref -d {name}",
                    self.name
                )
            }
            Some(why) => write!(f, "what {} keeps cannot be read ({why}): git fsck", self.name),
        }
    }
}

/// The refs of a run whose results cannot be had: somebody collected garbage (`git gc --prune=now`) in the moment between the
/// writing of a result and that of its ref, or the repository is damaged. They are looked for where it was packed since the
/// run began, at `began_at_ms` since the Unix epoch.
///
/// None of them is removed, although every later `git gc` refuses to run for one whose commit is gone: a store that is away for
/// a moment (an alternate on a network's disk) looks the same, and then the ref is the last that knows the result.
///
/// # Errors
/// [`RepositoryError::Git`] when refs cannot be listed.
pub fn hollow(repository: &Repository, run: &RunId, began_at_ms: u64) -> Result<Vec<Hollow>, RepositoryError> {
    let packs = repository.common_dir().join("objects/pack");
    let packed_at = std::fs::metadata(packs).and_then(|packs| packs.modified()).ok();
    let packed_ms =
        packed_at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |at| at.as_millis());
    if packed_ms < u128::from(began_at_ms) {
        return Ok(Vec::new());
    }
    let git = repository.fresh()?;
    let refs =
        repository.refs_below(&commit::run_refs(run))?.into_iter().filter(|(name, _)| *name != commit::base_ref(run));
    let hollow = |(name, commit): (String, Oid)| match is_known(&git, commit) {
        Ok(true) => None,
        Ok(false) => Some(Hollow { name, why: None }),
        Err(error) => Some(Hollow { name, why: Some(error.message().to_owned()) }),
    };
    Ok(refs.filter_map(hollow).collect())
}

/// Those below `prefix` (which ends in `/`) of which the repository knows nothing, with the ids that they name. None where a store that
/// it borrows from is away: what they keep may lie there.
///
/// # Errors
/// [`RepositoryError::Git`].
pub fn gone(repository: &Repository, prefix: &str) -> Result<Vec<(String, Oid)>, RepositoryError> {
    let refs = repository.refs_below(prefix)?;
    if refs.is_empty() || !lenders_are_there(repository.common_dir()) {
        return Ok(Vec::new());
    }
    let git = repository.fresh()?;
    let odb = git.odb()?;
    Ok(refs.into_iter().filter(|(_, id)| !odb.exists(*id)).collect())
}

/// Whether all other stores are there that a repository reads objects from. Source: gitrepository-layout(5), `objects/info/alternates`.
fn lenders_are_there(common_dir: &Path) -> bool {
    let objects = common_dir.join("objects");
    let Ok(listed) = std::fs::read_to_string(objects.join("info/alternates")) else {
        return !objects.join("info/alternates").exists();
    };
    // A store that was never filled has these folders all the same; a mount that is away has not.
    let paths = listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    objects.join("pack").is_dir() && paths.map(|path| objects.join(path)).all(|lender| lender.join("pack").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::Fixture;

    #[test]
    fn what_is_gone_is_named_unless_it_may_lie_elsewhere() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let head = repository.resolve("HEAD").expect("a commit");
        commit::keep(&repository, "refs/swarm/r-1/a/1", head).expect("kept");
        let missing = "0123456789012345678901234567890123456789";
        let path = repository.common_dir().join("refs/swarm/r-1/a/2");
        std::fs::write(path, format!("{missing}\n")).expect("a ref");
        let names = || gone(&repository, "refs/swarm/").expect("legible").into_iter().map(|(name, _)| name);
        assert_eq!(names().collect::<Vec<_>>(), ["refs/swarm/r-1/a/2"]);
        let alternates = repository.common_dir().join("objects/info/alternates");
        std::fs::write(&alternates, "/none/such/objects\n").expect("a file");
        assert_eq!(names().count(), 0, "a store that is away may have it");
        std::fs::write(&alternates, format!("{}\n", repository.common_dir().join("objects").display()))
            .expect("a file");
        assert_eq!(names().count(), 1);
    }
}
