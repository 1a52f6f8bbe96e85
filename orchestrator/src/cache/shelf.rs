//! Where the artifacts of results lie: a folder each, named by the key. One appears there whole, by a rename in the same transaction
//! as its row, so two who record the same never mix theirs. What was being made when its maker died lies under a name that no row
//! has; it is swept when nobody records, which a lock tells.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{CacheError, folder};
use crate::state::make_private_dir;

/// Who records shares this lock, in the folder of results; who sweeps has it alone.
const LOCK: &str = "recording.lock";

/// Between a key and what makes the name of a folder that is not in its place a fresh one. No key has it.
const BESIDE: char = '+';

/// The folder of results.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
}

/// Artifacts that are complete and not in their place yet. Nothing is swept while there are any.
#[derive(Debug)]
pub struct Ready {
    made: PathBuf,
    place: PathBuf,
    /// Where those go that were in that place.
    aside: PathBuf,
    _recording: File,
}

impl Ready {
    /// Puts them in their place, whatever was there. Only in a transaction: two renames are no single step.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&self) -> io::Result<()> {
        match std::fs::rename(&self.place, &self.aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(&self.made, &self.place)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // What stays of them all the same is swept.
        let _ = std::fs::remove_dir_all(&self.made);
        let _ = std::fs::remove_dir_all(&self.aside);
    }
}

impl Shelf {
    /// The folder of results, which exists.
    pub fn new(folder: PathBuf) -> Self {
        Shelf { folder }
    }

    /// Where the artifacts of a result lie.
    pub fn place(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }

    /// The artifacts in a folder, to be put in the place of a key.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn ready(&self, key: &str, artifacts: &Path) -> Result<Ready, CacheError> {
        let lock = self.folder.join(LOCK);
        let recording = held(&lock, FlockOperation::LockShared).map_err(io_at(&lock))?;
        let made = self.fresh(key)?;
        let aside = self.fresh(key)?;
        let ready = Ready { made, place: self.place(key), aside, _recording: recording };
        folder::link(artifacts, &ready.made).map_err(io_at(&ready.made))?;
        Ok(ready)
    }

    /// An empty folder that nobody else has.
    fn fresh(&self, key: &str) -> Result<PathBuf, CacheError> {
        for number in 0_u32.. {
            let path = self.folder.join(format!("{key}{BESIDE}{number}"));
            match make_private_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| path.clone()).map_err(io_at(&path)),
            }
        }
        unreachable!("BUG: four thousand million folders beside one key");
    }

    /// Removes the folders of artifacts that are none of a result's: their makers died, or could not remove them. Somebody who records
    /// meanwhile has some of them; then it is for the next one.
    ///
    /// # Errors
    /// [`CacheError`]; some may be removed.
    pub fn sweep(&self, known: impl FnOnce() -> Result<HashSet<String>, CacheError>) -> Result<(), CacheError> {
        let lock = self.folder.join(LOCK);
        let _alone = match held(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error.raw_os_error() == Some(Errno::WOULDBLOCK.raw_os_error()) => return Ok(()),
            alone => alone.map_err(io_at(&lock))?,
        };
        let known = known()?;
        for entry in std::fs::read_dir(&self.folder).map_err(io_at(&self.folder))? {
            let entry = entry.map_err(io_at(&self.folder))?;
            let is_folder = entry.file_type().map_err(io_at(&entry.path()))?.is_dir();
            if is_folder && entry.file_name().to_str().is_none_or(|name| !known.contains(name)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the artifacts of a result.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn remove(&self, key: &str) -> Result<(), CacheError> {
        remove(&self.place(key))
    }
}

fn remove(folder: &Path) -> Result<(), CacheError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(folder)(error)),
        _ => Ok(()),
    }
}

fn held(lock: &Path, how: FlockOperation) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    rustix::io::retry_on_intr(|| flock(&file, how))?;
    Ok(file)
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> CacheError + use<> {
    let path = path.to_owned();
    move |source| CacheError::Io { path: path.clone(), source }
}
