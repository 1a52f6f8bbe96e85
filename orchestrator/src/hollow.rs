//! Refs of ours whose commit is gone: somebody collected garbage in the moment between the writing of a result and that of its ref, or
//! the repository is damaged. Every later `git gc` refuses to run for one, so a person is told; `swarm resume` and `swarm clean` remove
//! them, and none of which they cannot be sure: nor one whose commit is there and of which a tree or a file is gone, since the rest of
//! that result can be read as long as something keeps it.

use std::collections::HashMap;
use std::fmt;

use git2::{ObjectType, Oid};
use swarm_protocol::causes::causes;

use crate::commit;
use crate::ids::RunId;
use crate::report::sanitize::shell_word;
use crate::repository::{Presence, Repository, RepositoryError};

/// A ref of a run whose commit cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hollow {
    /// The ref's full name.
    pub name: String,
    /// What it names.
    pub commit: Oid,
    /// What reading it failed with; `None` where the commit is in no store of the repository.
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
/// None of them is removed here, although every later `git gc` refuses to run for one whose commit is gone: a person asks for that.
///
/// # Errors
/// [`RepositoryError::Git`] when refs cannot be listed.
pub fn hollow(repository: &Repository, run: &RunId, began_at_ms: u64) -> Result<Vec<Hollow>, RepositoryError> {
    if !is_packed_since(repository, began_at_ms) {
        return Ok(Vec::new());
    }
    let refs = repository.refs_below(&commit::run_refs(run))?;
    among(repository, refs.into_iter().filter(|(name, _)| *name != commit::base_ref(run)))
}

/// Whether somebody packed objects since then, in milliseconds since the Unix epoch, as a `git gc` does.
pub fn is_packed_since(repository: &Repository, began_at_ms: u64) -> bool {
    let packs = repository.common_dir().join("objects/pack");
    let packed_at = std::fs::metadata(packs).and_then(|packs| packs.modified()).ok();
    let packed_ms =
        packed_at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |at| at.as_millis());
    packed_ms >= u128::from(began_at_ms)
}

/// Those below `prefix` (which ends in `/`).
///
/// # Errors
/// [`RepositoryError::Git`] when refs cannot be listed.
pub fn below(repository: &Repository, prefix: &str) -> Result<Vec<Hollow>, RepositoryError> {
    among(repository, repository.refs_below(prefix)?)
}

/// Those below a prefix, by what can be done about them.
#[derive(Debug, Default)]
pub struct Unreadable {
    /// Why each cannot be read, by its full name: what it keeps may come back.
    pub hidden: HashMap<String, String>,
    /// Those whose commit is in no store, with it.
    pub gone: Vec<(String, Oid)>,
}

/// Those below `prefix` (which ends in `/`), parted.
///
/// # Errors
/// [`RepositoryError::Git`] when refs cannot be listed.
pub fn unreadable(repository: &Repository, prefix: &str) -> Result<Unreadable, RepositoryError> {
    let mut unreadable = Unreadable::default();
    for Hollow { name, commit, why } in below(repository, prefix)? {
        match why {
            Some(why) => drop(unreadable.hidden.insert(name, why)),
            None => unreadable.gone.push((name, commit)),
        }
    }
    Ok(unreadable)
}

fn among(
    repository: &Repository,
    refs: impl IntoIterator<Item = (String, Oid)>,
) -> Result<Vec<Hollow>, RepositoryError> {
    let git = repository.fresh()?;
    let odb = git.odb()?;
    let hollow = |(name, commit): (String, Oid)| {
        let why = match repository.presence(&git, commit) {
            Presence::Here => return None,
            Presence::Gone(missing) if missing == commit => None,
            Presence::Gone(tree) => Some(format!("its tree {tree} is gone")),
            // A base that is about to be removed is marked by what is no commit.
            Presence::Hidden(_) if odb.read_header(commit).is_ok_and(|(_, kind)| kind != ObjectType::Commit) => {
                return None;
            }
            Presence::Hidden(error) => Some(causes(&error)),
        };
        Some(Hollow { name, commit, why })
    };
    Ok(refs.into_iter().filter_map(hollow).collect())
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
        let said = || {
            let mut hollow = below(&repository, "refs/swarm/").expect("refs");
            assert_eq!(hollow.len(), 1);
            (hollow[0].name.clone(), hollow.remove(0).why)
        };
        assert_eq!(said(), ("refs/swarm/r-1/a/2".to_owned(), None));
        let alternates = repository.common_dir().join("objects/info/alternates");
        std::fs::write(&alternates, "/none/such/objects\n").expect("a file");
        assert!(said().1.is_some(), "a store that is away may have it");
        std::fs::write(&alternates, format!("{}\n", repository.common_dir().join("objects").display()))
            .expect("a file");
        assert_eq!(said().1, None);
    }

    #[test]
    fn a_result_whose_pack_cannot_be_looked_into_is_not_gone() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let head = repository.resolve("HEAD").expect("a commit");
        commit::keep(&repository, "refs/swarm/r-1/a/1", head).expect("kept");
        commit::mark_base(&repository, &RunId("r-1".into())).expect("marked");
        let packs = repository.common_dir().join("objects/pack");
        std::fs::write(packs.join("pack-1.pack"), "").expect("space");
        assert_eq!(below(&repository, "refs/swarm/").expect("refs"), [], "nothing is missing");
        let hex = head.to_string();
        std::fs::remove_file(repository.common_dir().join("objects").join(&hex[..2]).join(&hex[2..])).expect("loose");
        let hollow = below(&repository, "refs/swarm/").expect("refs").remove(0);
        assert!(hollow.to_string().contains("pack-1.idx") && hollow.to_string().ends_with("git fsck"), "{hollow}");
    }
}
