//! Who may write into a checkout now, and what one that died in it left.
//!
//! While an application writes it holds git's own `index.lock`, as every git does: nobody stages a file in between and loses it.
//! That lock is a second name of the file that the application has locked by `flock(2)`, which the kernel lets go when it
//! dies. So whoever comes later knows whose a leftover `index.lock` is: ours, and nobody's any more, when it is that very file
//! and the file can be locked. Any other stays.
//!
//! The index is worked on as a copy and takes its place by one rename, behind the files and before the branch moves. What an
//! application is about to change stands in a note beside it; [`super::undo`] takes back what one that died had written.
//!
//! Source: git's own use of `$GIT_DIR/index.lock`: gitrepository-layout(5), and the API of its lock files, which are made by
//! O_EXCL and hold nothing before the rename.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::{Index, Oid};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use super::ApplyError;
use crate::commit;
use crate::fault;
use crate::ids::encode_component;
use crate::journal::{LockError, RunLock};
use crate::ref_lock;
use crate::repository::Repository;
use crate::state::{make_private_dir_all, sync_folder_of, write_whole};

/// Bytes of the checksum at the end of an index.
const SUM_BYTES: usize = 20;

/// The version of [`Note`]s that are written here.
const VERSION: u32 = 1;

/// What an application is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Note {
    version: u32,
    /// Full hex id of the tree that the checkout had.
    from: String,
    /// Full hex id of the tree that it gets.
    to: String,
    /// Full name of the branch that moves; `None` where HEAD is detached.
    branch: Option<String>,
    /// Whether the branch is being moved at this moment.
    moving: bool,
}

impl Note {
    pub(super) fn new(from: Oid, to: Oid, branch: Option<String>) -> Note {
        Note { version: VERSION, from: from.to_string(), to: to.to_string(), branch, moving: false }
    }

    /// The same at another moment.
    pub(super) fn moving(&self, moving: bool) -> Note {
        Note { moving, ..self.clone() }
    }

    /// The trees before and after.
    pub(super) fn trees(&self) -> Result<[Oid; 2], git2::Error> {
        Ok([Oid::from_str(&self.from)?, Oid::from_str(&self.to)?])
    }
}

/// The right to write into one checkout; one at a time has it.
pub(super) struct Claim<'a> {
    repository: &'a Repository,
    lock: RunLock,
    folder: PathBuf,
}

impl<'a> Claim<'a> {
    /// Takes it, and puts the locks in order that one which died left on git's own files.
    ///
    /// # Errors
    /// [`ApplyError::Busy`] while another application works there, and those of the file system.
    pub(super) fn take(repository: &'a Repository, now_ms: u64) -> Result<Claim<'a>, ApplyError> {
        let folder = folder_of(repository);
        let lock = RunLock::of_checkout(&folder, now_ms)?;
        let claim = Claim { repository, lock, folder };
        claim.unlink_index_lock()?;
        repository.sweep_refs(&kept_ref(repository));
        match claim.note()? {
            Some(note) if note.moving => {
                match &note.branch {
                    Some(branch) => drop(repository.sweep_refs(branch)),
                    None => ref_lock::sweep(&repository.git_dir().join("HEAD.lock")),
                }
                claim.write(&Note { moving: false, ..note })?;
            }
            Some(_) => {}
            None => claim.let_go()?,
        }
        Ok(claim)
    }

    /// What an application that did not come to its end was doing; `None` when there was none.
    pub(super) fn note(&self) -> Result<Option<Note>, ApplyError> {
        let path = self.note_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ApplyError::Io { path, source }),
        };
        match serde_json::from_slice::<Note>(&text) {
            Ok(note) if note.version == VERSION => Ok(Some(note)),
            _ => Err(ApplyError::Note(path)),
        }
    }

    /// Says what is about to be done, before any of it is.
    pub(super) fn write(&self, note: &Note) -> Result<(), ApplyError> {
        let (path, beside) = (self.note_path(), self.folder.join("note.new"));
        let text = serde_json::to_vec(note).expect("plain strings");
        let written = fault::point().and_then(|()| write_whole(&path, &beside, 0o600, &text));
        written.map_err(|source| ApplyError::Io { path, source })
    }

    /// Keeps what is about to be written among the repository's objects until that is done or taken back: its branch may be
    /// deleted in between, and a merge is on none yet.
    pub(super) fn keep(&self, commit: Oid) -> Result<(), ApplyError> {
        Ok(commit::keep(self.repository, &kept_ref(self.repository), commit)?)
    }

    /// Says that all of it is done, or taken back.
    pub(super) fn forget(&self) -> Result<(), ApplyError> {
        let path = self.note_path();
        match fault::point().and_then(|()| fs::remove_file(&path)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ApplyError::Io { path, source }),
            _ => {
                // All is done by now; whoever applies next tries again.
                if let Err(error) = self.let_go() {
                    tracing::warn!(%error, "a ref below refs/swarm/+apply/ stays until the next `swarm apply`");
                }
                Ok(())
            }
        }
    }

    /// Nothing needs what was kept any more.
    fn let_go(&self) -> Result<(), ApplyError> {
        let kept = kept_ref(self.repository);
        match self.repository.find_ref(&kept)? {
            Some(_) => Ok(self.repository.delete_ref(&kept)?),
            None => Ok(()),
        }
    }

    /// Keeps every git from the checkout's index, and gives a copy of it to work on.
    ///
    /// # Errors
    /// [`ApplyError::IndexLocked`] while a git works in the checkout.
    pub(super) fn hold_index(&self) -> Result<HeldIndex<'_>, ApplyError> {
        let (real, copy) = (self.repository.git_dir().join("index"), self.folder.join("index"));
        let at = index_lock(self.repository);
        match fault::point().and_then(|()| self.lock.put_at(&at)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(ApplyError::IndexLocked(at)),
            Err(source) => return Err(ApplyError::Io { path: at, source }),
        }
        let held = HeldIndex { claim: self, real, copy };
        held.make_copy().map_err(|source| match fs::metadata(&held.real) {
            Ok(about) if !about.is_file() => ApplyError::IndexDamaged(held.real.clone()),
            _ => ApplyError::Io { path: held.copy.clone(), source },
        })?;
        Ok(held)
    }

    /// A handle of the checkout whose index is this file.
    pub(super) fn git_with_index(&self, path: &Path) -> Result<(git2::Repository, Index), ApplyError> {
        let git = self.repository.fresh()?;
        let mut index = Index::open(path)?;
        git.set_index(&mut index)?;
        Ok((git, index))
    }

    /// An empty folder to lay files out in.
    pub(super) fn scratch(&self) -> Result<PathBuf, ApplyError> {
        let path = self.folder.join("scratch");
        let made = self.clear_scratch().and_then(|()| make_private_dir_all(&path));
        made.map_err(|source| ApplyError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    pub(super) fn clear_scratch(&self) -> io::Result<()> {
        fault::point()?;
        match fs::remove_dir_all(self.folder.join("scratch")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where what belongs to applications to this checkout lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn note_path(&self) -> PathBuf {
        self.folder.join("note")
    }

    /// Removes git's lock where it is ours. The caller has the claim: nobody who lives stands behind that.
    fn unlink_index_lock(&self) -> Result<(), ApplyError> {
        let at = index_lock(self.repository);
        let removed = self.lock.is_at(&at).and_then(|is_ours| match is_ours {
            true => fault::point().and_then(|()| fs::remove_file(&at)),
            false => Ok(()),
        });
        removed.map_err(|source| ApplyError::Io { path: at, source })
    }
}

/// A checkout's index that no git can write; dropping it lets git go on with the index as it is then.
pub(super) struct HeldIndex<'a> {
    claim: &'a Claim<'a>,
    real: PathBuf,
    copy: PathBuf,
}

impl HeldIndex<'_> {
    /// A handle of its own, whose index is the copy.
    pub(super) fn git(&self) -> Result<(git2::Repository, Index), ApplyError> {
        self.claim.git_with_index(&self.copy).map_err(|error| match fs::read(&self.copy) {
            Ok(bytes) if !is_as_git_left_it(&bytes) => ApplyError::IndexDamaged(self.real.clone()),
            _ => error,
        })
    }

    /// Puts the copy in the place of the index, when the files that it speaks of are on the disk: each write-out that follows would
    /// write out their names, and leave their contents for later.
    pub(super) fn publish(&self) -> Result<(), ApplyError> {
        self.claim.repository.make_checkout_durable()?;
        // On the disk before it has its name: half an index is none.
        let put = || fs::File::open(&self.copy)?.sync_all().and_then(|()| fs::rename(&self.copy, &self.real));
        let moved = fault::point().and_then(|()| match put() {
            // A checkout that never had one, and needs none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| sync_folder_of(&self.real)),
        });
        moved.map_err(|source| ApplyError::Io { path: self.real.clone(), source })
    }

    /// Copies the index with its time: what was written in the same instant as the index is told by it.
    fn make_copy(&self) -> io::Result<()> {
        fault::point()?;
        for leftover in [self.copy.clone(), self.copy.with_extension("lock")] {
            match fs::remove_file(leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::copy(&self.real, &self.copy) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let written = fs::metadata(&self.real)?.modified()?;
                fs::File::options().write(true).open(&self.copy)?.set_modified(written)
            }
        }
    }
}

impl Drop for HeldIndex<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.claim.unlink_index_lock() {
            tracing::warn!(%error, "the index stays locked until the next command of swarm");
        }
    }
}

/// Removes the `index.lock` that an application which died left in a checkout, and says whether there was one. What else it
/// left, the next application puts in order.
pub fn unlock_index(repository: &Repository, now_ms: u64) -> bool {
    let folder = folder_of(repository);
    // Nearly always neither is there.
    if !index_lock(repository).exists() || !folder.exists() {
        return false;
    }
    let unlocked = RunLock::of_checkout(&folder, now_ms).and_then(|lock| {
        let at = index_lock(repository);
        let io = |source| LockError::Io { path: at.clone(), source };
        let is_ours = lock.is_at(&at).map_err(io)?;
        if is_ours {
            fs::remove_file(&at).map_err(io)?;
        }
        Ok(is_ours)
    });
    match unlocked {
        Ok(unlocked) => unlocked,
        // Somebody applies right now.
        Err(LockError::Held { .. }) => false,
        Err(error) => {
            tracing::warn!(%error, "an application that died may have left the index locked");
            false
        }
    }
}

fn index_lock(repository: &Repository) -> PathBuf {
    repository.git_dir().join("index.lock")
}

/// Whether an application to this checkout did not come to its end, or is at work: one that died before it wrote anything has
/// left what it was to write.
pub(super) fn is_noted(repository: &Repository) -> bool {
    let kept = kept_ref(repository);
    // A ref that was never written is none, and yet is in the way of every `git gc`.
    let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
    is_there(folder_of(repository).join("note"))
        || is_there(repository.common_dir().join(&kept))
        || matches!(repository.find_ref(&kept), Ok(Some(_)))
}

/// Whether these are the bytes of an index as git wrote them, whatever they say: its name in front, and at its end the SHA-1 of all
/// before, or nothing but zeros (`index.skipHash`).
///
/// Source: gitformat-index(5).
fn is_as_git_left_it(bytes: &[u8]) -> bool {
    let Some((content, sum)) = bytes.split_last_chunk::<SUM_BYTES>() else { return false };
    content.starts_with(b"DIRC") && (*sum == [0; SUM_BYTES] || Sha1::digest(content)[..] == sum[..])
}

/// The ref that keeps what is being applied to this checkout; no run has such a name.
fn kept_ref(repository: &Repository) -> String {
    let folder = folder_of(repository);
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("refs/swarm/+apply/{name}")
}

/// Where the state of applications to this checkout lies, in the repository itself whatever the state folder: git's lock has to
/// be on the same file system.
fn folder_of(repository: &Repository) -> PathBuf {
    let above = repository.common_dir().join("swarm/checkouts");
    match repository.git_dir().strip_prefix(repository.common_dir().join("worktrees")) {
        Ok(linked) => above.join(encode_component(&format!("of-{}", linked.display()))),
        Err(_) => above.join("main"),
    }
}

/// Whether nothing but folders leads to a path below a root: no link that a person put in the place of one.
pub(super) fn leads_through_folders(root: &Path, path: &Path) -> bool {
    let mut above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    above.all(|above| root.join(above).symlink_metadata().is_ok_and(|about| about.is_dir()))
}
