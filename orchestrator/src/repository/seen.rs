//! What is known of the repository's own object store and outlasts a command: in which boot it was looked at, and when something in it
//! was not what its name says. It lies in the state folder, which may be that of several repositories, and several commands write it
//! at once: each reads under a lock what the others wrote, and takes nothing back.
//!
//! That something was found is written down before it gets out of the way, whoever finds it: a run that goes on looks through what it
//! needs then. Where that cannot be written, the file stays.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError};
use crate::clock::Clock;
use crate::state::{make_private_dir_all, write_whole};

/// What was seen of an object store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    version: u32,
    /// In which boot of the machine, and mount of the store's file system, it was looked at; empty where it was not yet.
    pub(super) mount: String,
    /// When the first look of it began, in milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// When something was found last, whether in this boot or in an earlier one.
    pub(super) found_at_ms: Option<u64>,
}

/// The version of [`Seen`].
const VERSION: u32 = 1;

/// For how long one entry says of all that is found, in milliseconds: a sweep that finds thousands waits for the disk once.
const FOUND_FOR_MS: u64 = 60_000;

/// Where it is written.
#[derive(Debug)]
pub(super) struct SeenFile {
    path: PathBuf,
}

impl SeenFile {
    /// That of a repository, by its common git folder, below a state folder.
    pub(super) fn of(state: &Path, common_dir: &Path) -> SeenFile {
        let name = blake3::hash(common_dir.as_os_str().as_bytes()).to_hex();
        SeenFile { path: state.join("stores").join(format!("{}.json", &name[..16])) }
    }

    /// What was seen by now; nothing where that is no sound word, as of an older swarm. A look that is still to come was taken by a clock
    /// that went wrong: nobody knows when.
    pub(super) fn read(&self, now_ms: u64) -> Result<Option<Seen>, RepositoryError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let seen = serde_json::from_slice(&text).ok().filter(|seen: &Seen| seen.version == VERSION);
        Ok(seen.map(|seen| Seen {
            at_ms: if seen.at_ms > now_ms { 0 } else { seen.at_ms },
            found_at_ms: seen.found_at_ms.map(|at_ms| at_ms.min(now_ms)),
            ..seen
        }))
    }

    /// Writes down that something was found. Where it was not looked through in this boot, that is still to be done.
    pub(super) fn tell_found(&self, now_ms: u64) -> Result<(), RepositoryError> {
        self.change(now_ms, |last| Seen { found_at_ms: Some(now_ms), ..last })
    }

    /// Writes down that all was looked through, from then on.
    pub(super) fn tell_looked(&self, mount: String, at_ms: u64, now_ms: u64) -> Result<(), RepositoryError> {
        self.change(now_ms, |last| Seen { mount, at_ms, ..last })
    }

    fn change(&self, now_ms: u64, change: impl FnOnce(Seen) -> Seen) -> Result<(), RepositoryError> {
        let folder = self.path.parent().expect("it has a name");
        let _lock = make_private_dir_all(folder).and_then(|()| locked(folder)).map_err(|error| self.failed(error))?;
        let seen = Seen { version: VERSION, ..change(self.read(now_ms)?.unwrap_or_default()) };
        let bytes = serde_json::to_vec(&seen).expect("it is plain data");
        let draft = self.path.with_extension(std::process::id().to_string());
        write_whole(&self.path, &draft, 0o600, &bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> RepositoryError {
        RepositoryError::Io { path: self.path.clone(), source }
    }
}

/// Held until it is dropped.
fn locked(folder: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
    Ok(file)
}

impl Repository {
    /// Whether objects were found damaged since then, in milliseconds since the Unix epoch: what was there may not be there any more.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when what is known of the store cannot be read.
    pub(crate) fn lost_objects_since(&self, state: &Path, since_ms: u64) -> Result<bool, RepositoryError> {
        let now_ms = Clock::system().now_ms();
        let found_at_ms = SeenFile::of(state, &self.common_dir).read(now_ms)?.and_then(|seen| seen.found_at_ms);
        Ok(found_at_ms.is_some_and(|at_ms| at_ms.saturating_add(super::damaged::ON_DISK_AFTER_MS) >= since_ms))
    }

    /// Writes down that something is about to get out of the way, where anybody will ask.
    pub(super) fn tell_found(&self) -> Result<(), RepositoryError> {
        let Some(file) = self.seen_file.get() else { return Ok(()) };
        let mut told_ms = self.found_told_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = Clock::system().now_ms();
        if now_ms.checked_sub(*told_ms).is_none_or(|age_ms| age_ms >= FOUND_FOR_MS) {
            file.tell_found(now_ms)?;
            *told_ms = now_ms;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, SeenFile) {
        let state = tempfile::tempdir().expect("space");
        let file = SeenFile::of(state.path(), Path::new("/r/.git"));
        (state, file)
    }

    #[test]
    fn what_is_written_down_of_a_look_is_read_again_and_anything_else_is_no_look() {
        let (_state, file) = file();
        std::fs::create_dir(file.path.parent().expect("a folder")).expect("space");
        let seen = || file.read(9).expect("legible");
        let text = r#"{"version":1,"mount":"b 8:1 2","at_ms":5,"found_at_ms":null}"#;
        std::fs::write(&file.path, text).expect("space");
        assert_eq!(seen(), Some(Seen { version: 1, mount: "b 8:1 2".to_owned(), at_ms: 5, found_at_ms: None }));
        assert_eq!(serde_json::to_string(&seen()).expect("plain"), text);
        for other in ["", "\0\0", "{}", &text.replace(":1,", ":2,")] {
            std::fs::write(&file.path, other).expect("space");
            assert_eq!(seen(), None, "{other:?}");
        }
    }

    #[test]
    fn what_one_command_found_no_other_takes_back() {
        let (_state, file) = file();
        let said = || file.read(99).expect("legible").map(|seen| (seen.mount, seen.at_ms, seen.found_at_ms));
        file.tell_found(7).expect("space");
        assert_eq!(said(), Some((String::new(), 0, Some(7))), "nobody looked through it yet");
        file.tell_looked("one".to_owned(), 5, 8).expect("space");
        file.tell_looked("one".to_owned(), 6, 9).expect("space");
        assert_eq!(said(), Some(("one".to_owned(), 6, Some(7))));
        file.tell_found(12).expect("space");
        assert_eq!(said(), Some(("one".to_owned(), 6, Some(12))));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_look_of_one_that_is_still_to_come() {
        let (_state, file) = file();
        file.tell_found(70).expect("space");
        file.tell_looked("one".to_owned(), 60, 80).expect("space");
        let seen = file.read(50).expect("legible").expect("seen");
        assert_eq!((seen.at_ms, seen.found_at_ms), (0, Some(50)));
    }
}
