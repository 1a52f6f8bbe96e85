//! A result as a clean linked worktree: an ordinary checkout of its commit, for a person's editor and tools. What the
//! worker did to its own `.git` is long gone; this is made by libgit2 from the commit alone, and runs no filter or hook.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::Oid;
use git2::build::CheckoutBuilder;

use crate::fault;
use crate::removal::remove_tree;
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

/// Checks `commit` out into the new folder `at`, as a linked worktree with a detached HEAD. `name` (safe as a file name) is what
/// `git worktree list` knows it by; a number is added when it is taken. No branch is made for it, not even for a moment.
///
/// # Errors
/// All of [`OpenError`]. What was made is removed again then; where that fails, `git worktree remove --force` does it.
pub fn open_worktree(repository: &Repository, commit: Oid, name: &str, at: &Path) -> Result<(), OpenError> {
    if at.symlink_metadata().is_ok() {
        return Err(OpenError::Exists(at.to_owned()));
    }
    let above = admin_dir(repository, "");
    make_dir_all(&above)?;
    for n in 1..=WORKTREES_MAX {
        let name = if n == 1 { name.to_owned() } else { format!("{name}-{n}") };
        let admin = above.join(&name);
        match fault::point().and_then(|()| fs::create_dir(&admin)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(source) => return Err(RepositoryError::Io { path: admin, source }.into()),
            Ok(()) => {}
        }
        let made = make(repository, commit, &admin, at);
        if made.is_err() {
            // Whatever failed is told; what cannot be removed is still known to git.
            drop(unmake(&admin, at));
        }
        return made;
    }
    Err(OpenError::TooMany { name: name.to_owned() })
}

/// Removes what was made of a worktree. What the repository knows of it goes last: by that, a folder that could not be removed is
/// found again. A folder that is not ours yet goes only while it is empty.
fn unmake(admin: &Path, at: &Path) -> io::Result<()> {
    let gone = match at.join(".git").symlink_metadata() {
        Ok(_) => remove_tree(at),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir(at),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => remove_tree(admin),
    }
}

/// The folder in which the repository keeps what it knows of a linked worktree.
pub(crate) fn admin_dir(repository: &Repository, name: &str) -> PathBuf {
    repository.common_dir().join("worktrees").join(name)
}

/// Source: gitrepository-layout(5), `worktrees/<id>/`: `gitdir`, `commondir` and `HEAD`; git-worktree(1), "Details".
fn make(repository: &Repository, commit: Oid, admin: &Path, at: &Path) -> Result<(), OpenError> {
    let line = |path: &Path| [path.as_os_str().as_encoded_bytes(), b"\n"].concat();
    let write = |path: PathBuf, text: &[u8]| {
        let written = fault::point().and_then(|()| fs::write(&path, text));
        written.map_err(|source| RepositoryError::Io { path, source })
    };
    // First of all where it will be: whoever finds it half made knows what to remove.
    write(admin.join("gitdir"), &line(&at.join(".git")))?;
    write(admin.join("commondir"), b"../..\n")?;
    write(admin.join("HEAD"), format!("{commit}\n").as_bytes())?;
    if let Some(above) = at.parent() {
        make_dir_all(above)?;
    }
    fs::create_dir(at).map_err(|source| RepositoryError::Io { path: at.to_owned(), source })?;
    write(at.join(".git"), &[b"gitdir: ", &*line(admin)].concat())?;
    let git = git2::Repository::open(at)?;
    let tree = repository.tree_of(commit)?;
    fault::point().map_err(|source| RepositoryError::Io { path: at.to_owned(), source })?;
    git.checkout_tree(git.find_tree(tree)?.as_object(), Some(CheckoutBuilder::new().force()))?;
    Ok(())
}

fn make_dir_all(path: &Path) -> Result<(), RepositoryError> {
    fs::create_dir_all(path).map_err(|source| RepositoryError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_known_until_its_folder_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (admin, at) = (folder.path().join("admin"), folder.path().join("at"));
        for path in [&admin, &at] {
            fs::create_dir(path).expect("a folder");
        }
        fs::write(at.join("somebody's"), "x").expect("a file");
        assert!(unmake(&admin, &at).is_err() && admin.exists() && at.join("somebody's").exists());
        fs::write(at.join(".git"), "gitdir: admin\n").expect("a file");
        unmake(&admin, &at).expect("removed");
        assert!(!admin.exists() && !at.exists());
    }

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
