//! A result as a clean linked worktree: an ordinary checkout of its commit, for a person's editor and tools. What the
//! worker did to its own `.git` is long gone; this is made by libgit2 from the commit alone, and runs no filter or hook.

/// What a task handed over, as a folder.
pub mod files;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::Oid;
use git2::build::CheckoutBuilder;

use crate::fault;
use crate::removal::remove_tree;
use crate::repository::{Repository, RepositoryError, shared_settings};

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
            drop(remove_half_made(&admin));
        }
        return made;
    }
    Err(OpenError::TooMany { name: name.to_owned() })
}

/// Removes a worktree that nobody was given, and what the repository knows of it in `admin`; returns where it was. That knowledge
/// goes last: by it, a folder that could not be removed is found again.
///
/// # Errors
/// [`RepositoryError::Io`] when something cannot be removed, or it cannot be read whose the folder is.
pub(crate) fn remove_half_made(admin: &Path) -> Result<PathBuf, RepositoryError> {
    let io = |path: &Path, source| RepositoryError::Io { path: path.to_owned(), source };
    let line = read_if_there(&admin.join("gitdir"))?.unwrap_or_default();
    let pointer = PathBuf::from(OsStr::from_bytes(line.trim_ascii_end()));
    // Otherwise it was not written to its end, and there is no folder yet.
    let at = pointer.parent().filter(|_| pointer.ends_with(".git"));
    if let Some(at) = at {
        if is_of(admin, at)? {
            fault::point().and_then(|()| remove_worktree(at)).map_err(|source| io(at, source))?;
        } else {
            // Refused where there is something in it.
            drop(fs::remove_dir(at));
        }
    }
    // Without it, it is no worktree for git, which would complain of one without a HEAD.
    for path in [&admin.join("gitdir"), admin] {
        fault::point().and_then(|()| remove_tree(path)).map_err(|source| io(path, source))?;
    }
    Ok(at.unwrap_or(admin).to_owned())
}

/// Whether a folder is the worktree that `admin` knows. One of that name may have become somebody else's: ours points back, or has
/// nothing in it but the beginning of that.
fn is_of(admin: &Path, at: &Path) -> Result<bool, RepositoryError> {
    let points_back = [b"gitdir: ", admin.as_os_str().as_bytes()].concat();
    let Some(text) = read_if_there(&at.join(".git"))? else { return Ok(false) };
    let rest = text.trim_ascii_end().strip_prefix(&*points_back);
    let is_begun = || points_back.starts_with(&text) && fs::read_dir(at).is_ok_and(|all| all.count() == 1);
    Ok(rest.is_some_and(|rest| matches!(rest, b"" | b"/")) || is_begun())
}

/// A file's bytes; `None` where there is no file. One that cannot be read for another reason may be ours.
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, RepositoryError> {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | IsADirectory) => Ok(None),
        Err(source) => Err(RepositoryError::Io { path: path.to_owned(), source }),
    }
}

/// Removes a worktree, what says whose it is last: whoever is killed in between is completed by the next.
fn remove_worktree(at: &Path) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        if entry.file_name() != ".git" {
            remove_tree(&entry.path())?;
        }
    }
    remove_tree(at)
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
    // Git takes what has a `gitdir` for a worktree, and complains of one without a whole HEAD.
    write(admin.join("HEAD"), format!("{commit}\n").as_bytes())?;
    write(admin.join("commondir"), b"../..\n")?;
    // Before it is there, where it will be: whoever finds it half made knows what to remove.
    write(admin.join("gitdir"), &line(&at.join(".git")))?;
    if let Some(above) = at.parent() {
        make_dir_all(above)?;
    }
    fs::create_dir(at).map_err(|source| RepositoryError::Io { path: at.to_owned(), source })?;
    write(at.join(".git"), &[b"gitdir: ", &*line(admin)].concat())?;
    let git = shared_settings::open(at)?;
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
    fn a_half_made_worktree_is_known_until_its_folder_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (admin, at) = (folder.path().join("admin"), folder.path().join("at"));
        let (pointer, write) = (at.join(".git"), |path: &Path, text: String| fs::write(path, text).expect("a file"));
        for path in [&admin, &at] {
            fs::create_dir(path).expect("a folder");
        }
        write(&admin.join("gitdir"), format!("{}\n", pointer.display()));
        write(&at.join("kept"), "x".to_owned());
        std::os::unix::fs::symlink(".git", &pointer).expect("a link");
        assert!(remove_half_made(&admin).is_err() && admin.exists() && at.join("kept").exists(), "it may be ours");
        fs::remove_file(&pointer).expect("it is there");
        write(&pointer, format!("gitdir: {}\n", admin.display()));
        assert_eq!(remove_half_made(&admin).expect("removed"), at);
        assert!(!admin.exists() && !at.exists());
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (admin, at) = (folder.path().join("admin"), folder.path().join("at"));
        for (pointer, theirs) in [("at/.git", Some("gitdir: /else\n")), ("at/.git", None), ("at/x/.gi", None)] {
            fs::create_dir_all(at.join("x")).expect("a folder");
            fs::create_dir(&admin).expect("a folder");
            fs::write(admin.join("gitdir"), folder.path().join(pointer).as_os_str().as_bytes()).expect("a file");
            if let Some(theirs) = theirs {
                fs::write(at.join(".git"), theirs).expect("a file");
            }
            remove_half_made(&admin).expect("removed");
            assert!(at.join("x").exists() && !admin.exists(), "{pointer}");
            fs::remove_dir_all(&at).expect("a folder");
        }
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
