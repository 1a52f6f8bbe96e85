//! Whether all that a commit brings is in the repository before a branch moves to it. A person may collect garbage beside a run
//! (`git gc --prune=now`), and a gc that looked at the refs before one of ours kept a commit takes of it what it wants. Git
//! itself promises nothing there; we promise a green target.

use std::path::Path;
use std::time::{Duration, Instant};

use git2::{ErrorCode, Oid};

use super::{Brought, Repository, RepositoryError};

/// How long a gc of somebody is waited for before the target moves.
const GC_MAX: Duration = Duration::from_secs(30);
/// How often is looked whether it is over: nothing tells of its end but its file.
const GC_LOOK: Duration = Duration::from_millis(20);

impl Repository {
    /// Whether a commit, and all that it and those behind it bring back to one of `before`, is there. A `git gc` that is at work
    /// is waited for, [`GC_MAX`] at most; what begins later sees the ref that keeps the commit.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] when the repository cannot be read, which says nothing about what is there.
    pub fn is_whole(&self, commit: Oid, before: &[Oid]) -> Result<bool, RepositoryError> {
        self.outlast_gc();
        match self.brought(&self.fresh()?, commit, before) {
            Ok(Brought::All(_)) => Ok(true),
            Ok(Brought::Missing(_)) => Ok(false),
            // It was there a moment ago.
            Err(RepositoryError::Git(error)) if error.code() == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody collects garbage at this moment, as far as that can be known.
    pub(super) fn is_collected(&self) -> bool {
        is_collecting(self.common_dir())
    }

    /// Waits until no `git gc` is at work, [`GC_MAX`] at most.
    pub(crate) fn outlast_gc(&self) {
        let until = Instant::now() + GC_MAX;
        while self.is_collected() && Instant::now() < until {
            std::thread::sleep(GC_LOOK);
        }
    }
}

/// How old the word of a gc may be to be believed: git's own bound.
const GC_BELIEVED: Duration = Duration::from_secs(12 * 3600);

/// Whether a `git gc` of this machine is at work in a repository: it writes its process id in front of the host's name. One that
/// was killed leaves the file behind, and its number is given to others; nobody here knows who lives on another host. Source:
/// git's builtin/gc.c, `lock_repo_for_gc`.
fn is_collecting(common_dir: &Path) -> bool {
    let path = common_dir.join("gc.pid");
    let Ok(said) = std::fs::read_to_string(&path) else { return false };
    let written = path.metadata().and_then(|metadata| metadata.modified());
    // What was written in the future is not old.
    let age = written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default();
    let uname = rustix::system::uname();
    is_at_work(&said, age, uname.nodename().to_bytes(), |pid| Path::new(&format!("/proc/{pid}")).exists())
}

/// The same by what the file says, and how old it is.
fn is_at_work(said: &str, age: Duration, host: &[u8], lives: impl Fn(u32) -> bool) -> bool {
    let mut words = said.split_whitespace();
    let pid = words.next().and_then(|pid| pid.parse::<u32>().ok());
    let is_ours = words.next().is_some_and(|word| word.as_bytes() == host);
    is_ours && age <= GC_BELIEVED && pid.is_some_and(lives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};

    #[test]
    fn a_commit_without_one_of_its_files_is_not_whole() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let before = repository.resolve("HEAD").expect("a commit");
        std::fs::create_dir(fixture.path().join("d")).expect("space");
        std::fs::write(fixture.path().join("d/b"), "2").expect("space");
        git(fixture.path(), &["add", "."]);
        git(fixture.path(), &["commit", "-qm", "two"]);
        let commit = repository.resolve("HEAD").expect("a commit");
        assert!(repository.is_whole(commit, &[before]).expect("legible"));
        for lost in ["HEAD:d/b", "HEAD:d", "HEAD^{tree}", "HEAD"] {
            let id = git(fixture.path(), &["rev-parse", lost]);
            let object = repository.common_dir().join("objects").join(&id[..2]).join(id[2..].trim());
            let aside = fixture.path().join("aside");
            std::fs::rename(&object, &aside).expect("a loose object");
            assert!(!repository.is_whole(commit, &[before]).expect("legible"), "{lost}");
            std::fs::rename(&aside, &object).expect("the same disk");
        }
    }

    #[test]
    fn a_gc_that_was_killed_or_is_of_another_host_is_not_waited_for() {
        let said = |said: &str, age_s| is_at_work(said, Duration::from_secs(age_s), b"here", |pid| pid == 7);
        assert!(said("7 here", 0) && said("7 here", 12 * 3600) && !said("7 here", 12 * 3600 + 1));
        assert!(!said("8 here", 0) && !said("7 there", 0) && !said("", 0) && !said("7", 0));
    }

    #[test]
    fn a_gc_at_work_is_seen() {
        let folder = tempfile::tempdir().expect("space");
        assert!(!is_collecting(folder.path()));
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        std::fs::write(folder.path().join("gc.pid"), format!("{} {host}", std::process::id())).expect("space");
        assert!(is_collecting(folder.path()));
    }
}
