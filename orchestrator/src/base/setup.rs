//! What `[workspace] setup` left in its worktree becomes a read-only layer under all worktrees: dependencies that were
//! installed once, generated files. Tracked files are the repository's, so changes of them are dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::beneath::{self, Missing, Way};
use super::delta::read_removed;
use super::eviction::used;
use super::index_file::is_gitlink;
use super::published::{READY, Survives, publish};
use super::{BaseError, Bases, Layers, key, read_index};
use crate::removal::remove_tree;
use crate::worktree::{Backend, Worktree};

/// The list beside a layer of the caches that `setup` wrote to, each path ended by a NUL.
const LEFT_OUT: &str = "left-out";

/// Extended attributes that overlay keeps on a folder; in a lower layer they would hide what lies below.
pub(super) const OPAQUE: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];

impl Bases {
    /// The name of the layer that `setup` gives on these layers. `parts` is all else that the result depends on: the
    /// command, the policy it runs under.
    fn setup_name(base: &Layers, parts: &[&[u8]]) -> String {
        let content = base.content();
        let mut all = vec![&b"setup"[..], content.as_bytes()];
        all.extend(parts);
        format!("layers/{}", key(&all))
    }

    /// The layers with the result of an earlier `setup` that had the same `parts`; `None` when it has to run.
    pub fn known_setup(&self, base: &Layers, parts: &[&[u8]]) -> Option<Layers> {
        let name = Bases::setup_name(base, parts);
        let layer = self.state.path(&name);
        layer.join(READY).exists().then(|| {
            used(&layer);
            with_setup(base, name)
        })
    }

    /// Makes what `setup` wrote in `worktree` (made of `base`, its process tree dead, its command ended with 0) a layer under
    /// all later worktrees. The worktree is used up.
    ///
    /// # Errors
    /// [`BaseError::Setup`] names what cannot be shared: a device, a socket, a pipe.
    pub fn adopt_setup_layer(&self, base: &Layers, parts: &[&[u8]], worktree: Worktree) -> Result<Layers, BaseError> {
        let name = Bases::setup_name(base, parts);
        let written = worktree.written_dir();
        let io = |source| BaseError::Io { path: written.clone(), source };
        worktree.strip_git_dir().map_err(io)?;
        publish(&self.state, &name, Survives::Synced, |layer| {
            let left_out = worktree.written_caches(self.repository.place()).map_err(io)?;
            let list: Vec<u8> =
                left_out.iter().flat_map(|cache| [cache.as_os_str().as_bytes(), b"\0"].concat()).collect();
            fs::write(layer.join(LEFT_OUT), list).map_err(io)?;
            let index = read_index(&self.state.path(&base.index()))?;
            for entry in index.entries() {
                let kind = if is_gitlink(entry) { Tracked::Submodule } else { Tracked::Content };
                drop_tracked(&written, &entry.path, kind).map_err(io)?;
            }
            base.caches.iter().try_for_each(|cache| drop_cache(&written, cache, worktree.backend()))?;
            clean(&written)?;
            fs::remove_dir(layer.join("tree")).and_then(|()| fs::rename(&written, layer.join("tree"))).map_err(io)
        })?;
        drop(worktree.remove().map_err(io)?);
        Ok(with_setup(base, name))
    }

    /// The folders of `[workspace] cache` that the `setup` of these layers wrote to. Worktrees see those folders as the user's
    /// checkout has them, so none of them sees what it wrote there.
    ///
    /// # Errors
    /// [`BaseError::Io`].
    pub fn left_out_of_setup(&self, layers: &Layers) -> Result<Vec<PathBuf>, BaseError> {
        let Some(setup) = &layers.stack.setup else { return Ok(Vec::new()) };
        let list = self.state.path(&format!("{setup}/{LEFT_OUT}"));
        let paths = read_removed(&list).map_err(|source| BaseError::Io { path: list, source })?;
        Ok(paths.into_iter().map(|path| PathBuf::from(OsString::from_vec(path))).collect())
    }
}

fn with_setup(base: &Layers, name: String) -> Layers {
    let mut layers = base.clone();
    layers.stack.setup = Some(name);
    layers
}

/// Removes the copy of a cache that a worktree was made with. What `setup` put in its way would show the next worktrees a
/// folder that is none of theirs.
pub(super) fn drop_cache(written: &Path, cache: &Path, backend: Backend) -> Result<(), BaseError> {
    let io = |source| BaseError::Io { path: written.to_owned(), source };
    match (beneath::walk(written, cache, Missing::Stop).map_err(io)?, backend) {
        (Way::Open, Backend::Copy) => remove_tree(&written.join(cache)).map_err(io),
        (Way::Open, Backend::Overlay) | (Way::Missing, _) => Ok(()),
        (Way::Blocked(path), _) => {
            let reason = "it is a link or a file in the way of a folder of `[workspace] cache`";
            Err(BaseError::Setup { path, reason })
        }
    }
}

/// What the repository has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tracked {
    /// A file or a link.
    Content,
    /// A submodule: what is in its folder is not the repository's, and stays.
    Submodule,
}

/// Removes what `setup` wrote at a tracked path, and what it put in the place of a folder on the way: a link there would
/// show other files than the repository's under tracked names.
fn drop_tracked(root: &Path, path: &[u8], tracked: Tracked) -> std::io::Result<()> {
    let mut folder: OwnedFd = File::open(root)?.into();
    let mut components = path.split(|&byte| byte == b'/').peekable();
    while let Some(name) = components.next() {
        let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            found => found?,
        };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match (is_folder, components.peek().is_none()) {
            (true, true) if tracked == Tracked::Submodule => return Ok(()),
            (true, true) => return remove_tree(&root.join(std::ffi::OsStr::from_bytes(path))),
            (true, false) => folder = super::checkout::open_folder(&File::from(folder), name)?,
            (false, _) => return Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?),
        }
    }
    Ok(())
}

/// Makes a written folder fit to be a lower layer: no whiteouts, no opaque folders, nothing but files, folders and links.
fn clean(root: &Path) -> Result<(), BaseError> {
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        let io = |source| BaseError::Io { path: folder.clone(), source };
        for name in OPAQUE {
            let _ = rustix::fs::lremovexattr(&folder, name);
        }
        for entry in fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let metadata = entry.metadata().map_err(io)?;
            let refuse = |reason| {
                let path = entry.path();
                BaseError::Setup { path: path.strip_prefix(root).unwrap_or(&path).to_owned(), reason }
            };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if crate::collect::is_whiteout(&metadata) {
                fs::remove_file(entry.path()).map_err(io)?;
            } else if !metadata.is_file() && !metadata.is_symlink() {
                return Err(refuse("it is neither a file, a folder nor a link"));
            }
        }
    }
    Ok(())
}
