//! Who holds a run or a target. The lock is `flock(2)` on a small file: the kernel drops it when its holder dies, however
//! it dies, so a lock is never stale; the file's text says who holds it.
//!
//! Source: flock(2). The descriptor is close-on-exec, so workers never carry it on.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ids::{RunId, encode_component};
use crate::state::StateDir;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The coordinator's process id.
    pub pid: u32,
    /// When it took the lock, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What it works on, for people.
    pub what: String,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another coordinator works on it (exit code 8).
    #[error("{}", held_text(holder.as_ref()))]
    Held {
        /// Who, when its file is legible.
        holder: Option<Holder>,
    },
    /// The file cannot be made or locked.
    #[error("lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Said aloud, because closing is not enough: a child of another thread has a copy of the descriptor between its
        // fork and its exec, and the lock lives as long as the last copy. It can only fail for a bad descriptor.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn held_text(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("another coordinator works on {} (process {})", holder.what, holder.pid),
        None => "another coordinator works on it".to_owned(),
    }
}

impl RunLock {
    /// Takes the lock of a run, at `<state>/runs/<run>/lock`.
    ///
    /// # Errors
    /// [`LockError::Held`]: wait for the holder or end it. [`LockError::Io`]: the state folder is not writable.
    pub fn of_run(state: &Path, run: &RunId, now_ms: u64) -> Result<Self, LockError> {
        take(&run_lock_path(state, run), &format!("run {run}"), now_ms)
    }

    /// Takes the lock of a target branch, named by its full ref, at `<state>/locks/`.
    ///
    /// # Errors
    /// As [`RunLock::of_run`].
    pub fn of_target(state: &Path, target: &str, now_ms: u64) -> Result<Self, LockError> {
        take(&state.join("locks").join(encode_component(target)), &format!("branch {target}"), now_ms)
    }

    /// Says that somebody uses the state folder's bases and layers, at `<state>/in-use`. Any number of coordinators hold it
    /// at once; [`RunLock::of_idle_state`] waits for none and gets it only alone.
    ///
    /// # Errors
    /// [`LockError::Io`]. Waits while somebody cleans, which is bounded by the removal of what lies there.
    pub fn of_state(state: &Path) -> Result<Self, LockError> {
        let path = state.join("in-use");
        let file = open_lock(&path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared))
            .map_err(|error| LockError::Io { path, source: error.into() })?;
        Ok(RunLock { file })
    }

    /// The state folder, when no coordinator uses it.
    ///
    /// # Errors
    /// As [`RunLock::of_run`].
    pub fn of_idle_state(state: &Path) -> Result<Self, LockError> {
        let path = state.join("in-use");
        let file = open_lock(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RunLock { file }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { holder: None }),
            Err(error) => Err(LockError::Io { path, source: error.into() }),
        }
    }

    /// Who works on a run now; `None` when nobody does.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn holder_of_run(state: &Path, run: &RunId) -> Result<Option<Holder>, LockError> {
        let path = run_lock_path(state, run);
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        // Shared, so that two who look do not see each other; a run's lock is taken before anybody can know its name,
        // so looking never gets in the way of taking.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => {
                Ok(Some(read_holder(&mut file).unwrap_or(Holder { pid: 0, since_ms: 0, what: format!("run {run}") })))
            }
            Err(error) => Err(io(error.into())),
        }
    }
}

/// The folder of all that a run writes outside of the journal.
pub fn run_dir(state: &Path, run: &RunId) -> PathBuf {
    state.join(StateDir::run(run))
}

fn run_lock_path(state: &Path, run: &RunId) -> PathBuf {
    run_dir(state, run).join("lock")
}

fn open_lock(path: &Path) -> Result<File, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)
}

fn take(path: &Path, what: &str, now_ms: u64) -> Result<RunLock, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    let mut file = open_lock(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(LockError::Held { holder: read_holder(&mut file) }),
        Err(error) => return Err(io(error.into())),
    }
    let holder = Holder { pid: std::process::id(), since_ms: now_ms, what: what.to_owned() };
    let text = serde_json::to_vec(&holder).expect("a holder has string keys only");
    file.set_len(0).and_then(|()| file.write_all(&text)).map_err(io)?;
    Ok(RunLock { file })
}

/// What the holder wrote; `None` in the instant between its taking the lock and its writing.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_about_the_first() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let run = RunId("demo-1".to_owned());
        let held = RunLock::of_run(state.path(), &run, 7).expect("free");
        match RunLock::of_run(state.path(), &run, 8) {
            Err(LockError::Held { holder: Some(holder) }) => {
                assert_eq!((holder.pid, holder.since_ms), (std::process::id(), 7));
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
        let seen = RunLock::holder_of_run(state.path(), &run).expect("legible").expect("held");
        assert_eq!(seen.what, "run demo-1");
        drop(held);
        assert_eq!(RunLock::holder_of_run(state.path(), &run).expect("legible"), None);
        RunLock::of_run(state.path(), &run, 9).expect("free again");
    }

    #[test]
    fn a_run_without_a_lock_file_is_held_by_nobody() {
        let state = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(RunLock::holder_of_run(state.path(), &RunId("x-1".to_owned())).expect("legible"), None);
    }

    #[test]
    fn a_state_folder_in_use_is_not_idle() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let first = RunLock::of_state(state.path()).expect("shared");
        let second = RunLock::of_state(state.path()).expect("shared");
        drop(first);
        assert!(matches!(RunLock::of_idle_state(state.path()), Err(LockError::Held { .. })));
        drop(second);
        RunLock::of_idle_state(state.path()).expect("nobody uses it");
    }

    #[test]
    fn targets_with_slashes_have_locks_of_their_own() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let _a = RunLock::of_target(state.path(), "refs/heads/swarm/a", 1).expect("free");
        let _b = RunLock::of_target(state.path(), "refs/heads/swarm/b", 1).expect("free");
        assert!(RunLock::of_target(state.path(), "refs/heads/swarm/a", 1).is_err());
    }
}
