//! A result as a clean linked worktree: an ordinary checkout of its commit, for a person's editor and tools. What the
//! worker did to its own `.git` is long gone; this is made by libgit2 from the commit alone, and runs no filter or hook.

use std::path::{Path, PathBuf};

use git2::{ErrorCode, Oid, WorktreeAddOptions};

use crate::repository::{Repository, RepositoryError};

/// Worktrees of one name before a person is asked to remove some.
const WORKTREES_MAX: u32 = 100;

/// Why nothing was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is there already.
    #[error("make {}: it exists", .0.display())]
    Exists(PathBuf),
    /// Too many worktrees of that name.
    #[error("name the worktree: there are {WORKTREES_MAX} of {name} already")]
    TooMany {
        /// The name.
        name: String,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<git2::Error> for OpenError {
    fn from(error: git2::Error) -> Self {
        OpenError::Repository(error.into())
    }
}

/// Checks `commit` out into the new folder `at`, as a linked worktree with a detached HEAD. `name` (safe as a file and
/// branch name) is what `git worktree list` knows it by; a number is added when it is taken.
///
/// # Errors
/// All of [`OpenError`].
pub fn open_worktree(repository: &Repository, commit: Oid, name: &str, at: &Path) -> Result<(), OpenError> {
    if at.symlink_metadata().is_ok() {
        return Err(OpenError::Exists(at.to_owned()));
    }
    let git = repository.handle()?;
    let commit = git.find_commit(commit)?;
    for n in 1..=WORKTREES_MAX {
        let name = if n == 1 { name.to_owned() } else { format!("{name}-{n}") };
        // libgit2 makes a worktree from a branch only: one of our own name for the moment, never one that exists.
        let mut branch = match git.branch(&name, &commit, false) {
            Ok(branch) => branch,
            Err(error) if error.code() == ErrorCode::Exists => continue,
            Err(error) => return Err(error.into()),
        };
        let made = {
            let mut options = WorktreeAddOptions::new();
            options.reference(Some(branch.get()));
            git.worktree(&name, at, Some(&options))
        };
        let detached =
            made.and_then(|worktree| git2::Repository::open_from_worktree(&worktree)?.set_head_detached(commit.id()));
        branch.delete()?;
        return match detached {
            Ok(()) => Ok(()),
            Err(error) if error.code() == ErrorCode::Exists => continue,
            Err(error) => Err(error.into()),
        };
    }
    Err(OpenError::TooMany { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_opens_as_a_clean_checkout_and_leaves_no_branch() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init(folder.path().join("house")).expect("a repository");
        let mut tree = git.treebuilder(None).expect("a builder");
        tree.insert("a.txt", git.blob(b"result\n").expect("a blob"), 0o100_644).expect("a legal name");
        let tree = git.find_tree(tree.write().expect("a tree")).expect("just written");
        let who = git2::Signature::new("t", "t@example.org", &git2::Time::new(1, 0)).expect("legal");
        let commit = git.commit(Some("refs/swarm/x-1/a/1"), &who, &who, "m", &tree, &[]).expect("a commit");
        let repository = Repository::open(git.path()).expect("a repository");
        for name in ["one", "two"] {
            let at = folder.path().join(name);
            open_worktree(&repository, commit, "x-1-a", &at).expect("opens");
            assert_eq!(std::fs::read_to_string(at.join("a.txt")).expect("checked out"), "result\n");
            let opened = git2::Repository::open(&at).expect("a worktree");
            assert!(opened.head_detached().expect("a head") && opened.statuses(None).expect("a status").is_empty());
        }
        assert_eq!(git.branches(None).expect("branches").count(), 0);
        let error = open_worktree(&repository, commit, "x-1-a", &folder.path().join("one")).expect_err("it exists");
        assert!(matches!(error, OpenError::Exists(_)));
    }
}
