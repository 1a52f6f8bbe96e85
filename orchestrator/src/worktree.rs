//! One attempt's worktree: a few empty folders on top of shared layers, or a plain copy of them where overlays cannot be
//! mounted. The mount itself is made by the worker, inside its own namespace.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use swarm_protocol::{Cow, Grant, WorktreeSpec};

use crate::base::index_file::Stat;
use crate::base::{BaseError, Layers, delta, read_index};
use crate::plain_copy::copy_onto;
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
    /// Makes a worktree of `layers` in `attempt` (relative to the state folder, as [`StateDir::attempt`] names it), which the worker
    /// will see at `at`. What an earlier, killed attempt left there is thrown away.
    ///
    /// # Errors
    /// [`BaseError::Io`]: usually a full disk.
    pub fn provision(
        state: &StateDir,
        layers: &Layers,
        attempt: &str,
        at: &Path,
        backend: Backend,
    ) -> Result<Worktree, BaseError> {
        let folder = state.path(attempt);
        let io = |source| BaseError::Io { path: folder.clone(), source };
        make_private_dir_all(&folder).map_err(io)?;
        let name = match backend {
            Backend::Overlay => "upper",
            Backend::Copy => "tree",
        };
        match DirBuilder::new().mode(0o755).create(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                for left in ["upper", "work", "tree", "cow"] {
                    drop(Debris::take(state, &folder.join(left)).map_err(io)?);
                }
                DirBuilder::new().mode(0o755).create(folder.join(name)).map_err(io)?;
            }
            made => made.map_err(io)?,
        }
        let (spec, cow) = match backend {
            Backend::Overlay => overlay(state, layers, attempt, at).map_err(io)?,
            Backend::Copy => {
                copy_layers(state, layers, &folder)?;
                let caches = copy_caches(layers, at, &folder.join("tree")).map_err(io);
                caches?;
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

    /// The attempt's folder on the host. Beside what belongs to the worktree it is the caller's: home, tmp, artifacts, log.
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

    /// Takes the worktree out of use: its folders are renamed into the trash at once and removed when the returned value is
    /// dropped, off the critical path. Artifacts and logs in the attempt's folder stay.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(self) -> io::Result<Vec<Debris>> {
        let folder = self.attempt_dir();
        let present = ["upper", "work", "tree", "cow", "home", "tmp"].map(|name| folder.join(name));
        let _ = std::fs::remove_file(folder.join("index"));
        present
            .iter()
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| Debris::take(&self.state, path))
            .collect()
    }
}

fn overlay(state: &StateDir, layers: &Layers, attempt: &str, at: &Path) -> io::Result<(WorktreeSpec, Vec<Cow>)> {
    let folder = state.path(attempt);
    DirBuilder::new().mode(0o700).create(folder.join("work"))?;
    let mut cow = Vec::new();
    for (number, cache) in layers.caches.iter().enumerate() {
        let (upper, work) = (format!("{attempt}/cow/{number}/upper"), format!("{attempt}/cow/{number}/work"));
        make_private_dir_all(&state.path(&upper))?;
        make_private_dir_all(&state.path(&work))?;
        // Where the cache is mounted, there must be a folder.
        DirBuilder::new().recursive(true).mode(0o755).create(folder.join("upper").join(cache))?;
        cow.push(Cow { path: at.join(cache), at: at.join(cache), upper, work });
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
            remove_tree(&root.join(std::ffi::OsStr::from_bytes(&removed))).map_err(io)?;
        }
        copy_onto(&layer.join("tree"), &root).map_err(io)?;
    }
    let mut index = read_index(&state.path(&layers.index()))?;
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

fn copy_caches(layers: &Layers, checkout: &Path, root: &Path) -> io::Result<()> {
    for cache in &layers.caches {
        DirBuilder::new().recursive(true).mode(0o755).create(root.join(cache))?;
        File::open(root.join(cache))?;
        copy_onto(&checkout.join(cache), &root.join(cache))?;
    }
    Ok(())
}
