//! Builds a layer once: under a lock, in a temporary name, renamed when it is whole.

use std::io;
use std::path::Path;

use super::BaseError;
use super::eviction::used;
use crate::boot::{BOOT_ID, boot_id};
use crate::clean::disk_bytes;
use crate::fault;
use crate::removal::{Debris, remove_tree};
use crate::state::{StateDir, make_private_dir_all};

/// The file that says that a layer is whole; it holds the id of the boot in which it was made or last judged.
pub(super) const READY: &str = "ready";

/// The file that says how many bytes a layer takes, in decimal.
pub(super) const BYTES: &str = "bytes";

/// Whether a layer that an earlier boot of the machine made may be trusted. Nothing is synced while layers are built (that
/// takes seconds for a large tree), so a power failure may cut files short.
pub(super) enum Survives<'a> {
    /// Cheap to build again.
    Never,
    /// Only if this says so of the layer's folder.
    IfIntact(&'a dyn Fn(&Path) -> bool),
    /// It is synced to the disk before it gets its name.
    Synced,
}

/// Makes sure that the layer of that name (relative to the state folder) is there. `build` fills the folder that it is
/// given, in which an empty `tree` waits.
pub(super) fn publish(
    state: &StateDir,
    name: &str,
    survives: Survives<'_>,
    build: impl FnOnce(&Path) -> Result<(), BaseError>,
) -> Result<(), BaseError> {
    let path = state.path(name);
    let boot = boot_id().map_err(|source| BaseError::Io { path: BOOT_ID.into(), source })?;
    let made_in = || std::fs::read_to_string(path.join(READY)).ok();
    if made_in().as_ref() == Some(&boot) {
        used(&path);
        return Ok(());
    }
    let io = |source| BaseError::Io { path: path.clone(), source };
    let _lock = state.lock(name).map_err(io)?;
    match made_in() {
        Some(known) if known == boot => {
            used(&path);
            return Ok(());
        }
        Some(_) => {
            let trusted = match &survives {
                Survives::Never => false,
                Survives::IfIntact(judge) => judge(&path),
                Survives::Synced => true,
            };
            if trusted {
                return std::fs::write(path.join(READY), &boot).map_err(io);
            }
        }
        None => {}
    }
    drop(Debris::take(state, &path).map_err(io)?);
    let half_made = state.path(&format!("{name}.tmp"));
    remove_tree(&half_made).map_err(io)?;
    fault::point().and_then(|()| make_private_dir_all(&half_made)).map_err(io)?;
    // The root of a layer shows in the worktree; the folder around it keeps others out.
    std::fs::create_dir(half_made.join("tree")).map_err(io)?;
    if let Err(error) = build(&half_made) {
        // A full disk is the usual reason: what was written is no use to anybody. Whoever builds the layer next removes
        // what cannot be removed now, so the first error is the one to tell.
        drop(remove_tree(&half_made));
        return Err(error);
    }
    std::fs::write(half_made.join(BYTES), disk_bytes(&half_made).to_string()).map_err(io)?;
    std::fs::write(half_made.join(READY), &boot).map_err(io)?;
    if matches!(survives, Survives::Synced) {
        let folder = std::fs::File::open(&half_made).map_err(io)?;
        rustix::fs::syncfs(&folder).map_err(|error| io(error.into()))?;
    }
    fault::point().and_then(|()| std::fs::rename(&half_made, &path)).map_err(io)
}

/// Whether the layer of that name (relative to the state folder) was made since the machine was started.
pub(super) fn is_of_this_boot(state: &StateDir, name: &str) -> bool {
    boot_id().is_ok_and(|now| std::fs::read_to_string(state.path(name).join(READY)).is_ok_and(|boot| boot == now))
}

/// Removes all prepared layers, whole and half made, and says how many there were. For `swarm clean`: only while no run uses
/// the state folder; the next run makes what it needs again.
///
/// # Errors
/// The file system's.
pub fn clear_prepared(state: &StateDir) -> io::Result<usize> {
    let mut cleared = 0;
    for folder in ["bases", "layers"] {
        for entry in std::fs::read_dir(state.path(folder))? {
            let path = entry?.path();
            if path.is_dir() {
                remove_tree(&path)?;
                cleared += 1;
            } else {
                std::fs::remove_file(&path)?;
            }
        }
    }
    Ok(cleared)
}
