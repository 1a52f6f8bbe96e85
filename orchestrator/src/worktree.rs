//! One attempt's worktree: a few empty folders on top of shared layers, or a plain copy of them where overlays cannot be
//! mounted. The mount itself is made by the worker, inside its own namespace.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use swarm_protocol::{Cow, Grant, WorktreeSpec};

use crate::base::beneath::{self, Missing, Way};
use crate::base::index_file::Stat;
use crate::base::{BaseError, Layers, delta, read_index};
use crate::fault;
use crate::plain_copy::{copy_onto, differs};
use crate::removal::{Debris, remove_tree};
use crate::state::{StateDir, make_private_dir_all};

/// How worktrees are made from layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// An overlay mount: the same cost for any size.
    Overlay,
    /// A plain copy, for machines that allow nothing better.
    Copy,
}

impl Backend {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Overlay => "overlay",
            Backend::Copy => "copy",
        }
    }
}

/// The folders of an overlay that nothing was written to, for the next worktree: making and removing a dozen folders for
/// each costs more than what most file systems need for the rest. It is removed when dropped.
#[derive(Debug)]
pub struct Spare(Debris);

/// A worktree that a worker can be started in.
#[derive(Debug)]
pub struct Worktree {
    /// For the worker.
    pub spec: WorktreeSpec,
    /// Caches that the worker sees copy-on-write; empty with the copy backend, which copied them.
    pub cow: Vec<Cow>,
    /// What else the cage must show, read-only.
    pub grants: Vec<Grant>,
    layers: Layers,
    backend: Backend,
    state: StateDir,
    // Invariant: relative to the state folder, ours alone.
    attempt: String,
}

impl Worktree {
    /// Makes a worktree of `layers` in `attempt` (relative to the state folder, below what [`StateDir::attempt`] names), which
    /// the worker will see at `at`. What an earlier, killed attempt left there is thrown away; the folders of `spare` are used
    /// where there is one.
    ///
    /// # Errors
    /// [`BaseError::Io`]: usually a full disk.
    pub fn provision(
        state: &StateDir,
        layers: &Layers,
        attempt: &str,
        at: &Path,
        backend: Backend,
        spare: Option<Spare>,
    ) -> Result<Worktree, BaseError> {
        let folder = state.path(attempt);
        let io = |source| BaseError::Io { path: folder.clone(), source };
        fault::point().map_err(io)?;
        if folder.symlink_metadata().is_ok() {
            drop(Debris::take(state, &folder).map_err(io)?);
        }
        match (spare, backend) {
            (Some(Spare(folders)), Backend::Overlay) => {
                folder.parent().map_or(Ok(()), make_private_dir_all).map_err(io)?;
                folders.put(&folder).map_err(io)?;
            }
            (_, Backend::Overlay) => make_private_dir_all(&folder).and_then(|()| make_layers(&folder)).map_err(io)?,
            (_, Backend::Copy) => {
                make_private_dir_all(&folder).map_err(io)?;
                DirBuilder::new().mode(UPPER_MODE).create(folder.join("tree")).map_err(io)?;
            }
        }
        fault::point().map_err(io)?;
        let (spec, cow) = match backend {
            Backend::Overlay => overlay(state, layers, attempt, at).map_err(io)?,
            Backend::Copy => {
                copy_layers(state, layers, &folder)?;
                copy_caches(layers, at, &folder.join("tree"))?;
                (WorktreeSpec::Directory { at: at.to_owned(), path: folder.join("tree") }, Vec::new())
            }
        };
        let (grants, layers) = (layers.grants.clone(), layers.clone());
        Ok(Worktree { spec, cow, grants, layers, backend, state: state.clone(), attempt: attempt.to_owned() })
    }

    /// The layers it stands on.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// How it was made.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The state folder that it lies in.
    pub(crate) fn state(&self) -> &StateDir {
        &self.state
    }

    /// The worktree's folder on the host, with what its cage calls its own: home, tmp, copy-on-write layers.
    pub fn attempt_dir(&self) -> PathBuf {
        self.state.path(&self.attempt)
    }

    /// The host folder that holds what the worker wrote: only that (overlay), or everything (copy).
    pub fn written_dir(&self) -> PathBuf {
        self.attempt_dir().join(match self.backend {
            Backend::Overlay => "upper",
            Backend::Copy => "tree",
        })
    }

    /// The index for exactly this worktree, kept where no worker can write.
    pub(crate) fn index_path(&self) -> PathBuf {
        match self.backend {
            Backend::Overlay => self.state.path(&self.layers.index()),
            Backend::Copy => self.attempt_dir().join("index"),
        }
    }

    /// Removes the worker's private git directory, so that no tool on the host ever takes what is left for a repository.
    /// To be called when the process tree is dead.
    ///
    /// # Errors
    /// The file system's.
    pub fn strip_git_dir(&self) -> io::Result<()> {
        let git_dir = self.written_dir().join(".git");
        // A whiteout or a file of the worker's is no folder.
        match git_dir.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_dir() => Debris::take(&self.state, &git_dir).map(drop),
            Ok(_) => std::fs::remove_file(&git_dir),
        }
    }

    /// Which of the caches of `checkout` were written to in it. To be called when the process tree is dead.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn written_caches(&self, checkout: &Path) -> io::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for (number, cache) in self.layers.caches.iter().enumerate() {
            let is_written = match self.backend {
                Backend::Overlay => is_filled(&self.attempt_dir().join(format!("cow/{number}/upper")))?,
                Backend::Copy => match beneath::walk(&self.written_dir(), cache, Missing::Stop)? {
                    Way::Open => differs(&checkout.join(cache), &self.written_dir().join(cache))?,
                    Way::Missing | Way::Blocked(_) => true,
                },
            };
            if is_written {
                written.push(cache.clone());
            }
        }
        Ok(written)
    }

    /// Takes the worktree out of use: its folder is renamed into the trash at once, and another worktree may be made under its
    /// name.
    ///
    /// # Errors
    /// The file system's.
    pub fn retire(self) -> io::Result<Retired> {
        let folders = Debris::take(&self.state, &self.attempt_dir())?;
        let spare = self.backend == Backend::Overlay && self.layers.caches.is_empty();
        Ok(Retired { folders, spare })
    }

    /// [`Worktree::retire`] and [`Retired::remove`].
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(self) -> io::Result<Option<Spare>> {
        self.retire().map(Retired::remove)
    }
}

/// A worktree that is out of use and still lies in the trash; removed when dropped.
#[derive(Debug)]
pub struct Retired {
    folders: Debris,
    /// Whether its folders may serve again where nobody wrote to them.
    spare: bool,
}

impl Retired {
    /// What nobody wrote to is given back for the next worktree; all else is removed, or stays in the trash where it cannot be.
    pub fn remove(self) -> Option<Spare> {
        let clean = self.spare && self.folders.path().is_some_and(|folder| renew_layers(folder).unwrap_or(false));
        clean.then_some(Spare(self.folders))
    }
}

/// The mode of a worktree's own folder.
const UPPER_MODE: u32 = 0o755;

/// The two layers of an overlay.
fn make_layers(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(UPPER_MODE).create(folder.join("upper"))?;
    DirBuilder::new().mode(0o700).create(folder.join("work"))
}

/// Puts new folders in the place of those that a job could write to, if they are empty: a folder that was removed takes its
/// mode, owner, times and attributes along. The scratch folders were never seen inside a cage.
fn renew_layers(folder: &Path) -> io::Result<bool> {
    let mut uppers = vec![(folder.join("upper"), UPPER_MODE)];
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Some("upper" | "work") => {}
            Some("cow") => {
                let copies = std::fs::read_dir(entry.path())?;
                uppers.extend(
                    copies.collect::<Result<Vec<_>, _>>()?.iter().map(|copy| (copy.path().join("upper"), 0o700)),
                );
            }
            _ => return Ok(false),
        }
    }
    for (upper, mode) in uppers {
        match std::fs::remove_dir(&upper) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            removed => removed?,
        }
        DirBuilder::new().mode(mode).create(&upper)?;
    }
    Ok(true)
}

/// Whether anything is in an upper folder. One that its owner may not even list was written to.
fn is_filled(upper: &Path) -> io::Result<bool> {
    match std::fs::read_dir(upper) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        listed => Ok(listed?.next().is_some()),
    }
}

fn overlay(state: &StateDir, layers: &Layers, attempt: &str, at: &Path) -> io::Result<(WorktreeSpec, Vec<Cow>)> {
    let folder = state.path(attempt);
    let mut cow = Vec::new();
    for (number, cache) in layers.caches.iter().enumerate() {
        let (upper, work) = (format!("{attempt}/cow/{number}/upper"), format!("{attempt}/cow/{number}/work"));
        make_private_dir_all(&state.path(&upper))?;
        make_private_dir_all(&state.path(&work))?;
        // Where the cache is mounted, there must be a folder.
        DirBuilder::new().recursive(true).mode(0o755).create(folder.join("upper").join(cache))?;
        cow.push(Cow { path: at.join(cache), at: at.join(cache), shown: vec![], upper, work });
    }
    let spec = WorktreeSpec::Overlay {
        at: at.to_owned(),
        state: state.root().to_owned(),
        lowers: layers.lowers(),
        upper: format!("{attempt}/upper"),
        work: format!("{attempt}/work"),
    };
    Ok((spec, cow))
}

/// Copies the layers into `tree` of the attempt, lowest first, and writes the index for the copy: once for git inside, once
/// where the collector will look.
fn copy_layers(state: &StateDir, layers: &Layers, attempt: &Path) -> Result<(), BaseError> {
    let root = attempt.join("tree");
    let io = |source| BaseError::Io { path: root.clone(), source };
    for layer in layers.bottom_up() {
        let layer = state.path(layer);
        for removed in delta::read_removed(&layer.join("removed")).map_err(io)? {
            use std::os::unix::ffi::OsStrExt as _;
            let removed = Path::new(std::ffi::OsStr::from_bytes(&removed));
            // What a layer put in the place of its folder hides it already.
            let folder = removed.parent().unwrap_or(Path::new(""));
            if beneath::walk(&root, folder, Missing::Stop).map_err(io)? == Way::Open {
                remove_tree(&root.join(removed)).map_err(io)?;
            }
        }
        copy_onto(&layer.join("tree"), &root).map_err(io)?;
    }
    // What is remembered of the base's folders is nothing about the copy's.
    let mut index = read_index(&state.path(&layers.index()))?.with_folders(None);
    for entry in index.entries_mut() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = root.join(std::ffi::OsStr::from_bytes(&entry.path));
        if let Ok(metadata) = path.symlink_metadata().map(|metadata| Stat::of(&metadata))
            && entry.stat != Stat::default()
        {
            entry.stat = metadata;
        }
    }
    let bytes = index.to_bytes();
    std::fs::write(root.join(".git/index"), &bytes).map_err(io)?;
    std::fs::write(attempt.join("index"), &bytes).map_err(io)
}

/// Copies the user's caches into `root`, which holds what setup and the tasks before left: no link of theirs is followed.
fn copy_caches(layers: &Layers, checkout: &Path, root: &Path) -> Result<(), BaseError> {
    let io = |source| BaseError::Io { path: root.to_owned(), source };
    for cache in &layers.caches {
        match beneath::walk(root, cache, Missing::Make).map_err(io)? {
            Way::Open => copy_onto(&checkout.join(cache), &root.join(cache)).map_err(io)?,
            Way::Missing => return Err(io(io::ErrorKind::NotFound.into())),
            Way::Blocked(path) => return Err(BaseError::Cache { cache: cache.clone(), path }),
        }
    }
    Ok(())
}
