//! A layer that turns one prepared tree into another: changed files, whiteouts for what is gone, and the index that fits.
//! Its cost follows the difference, except for copying the index. What differs is there, also where `[workspace] sparse` leaves
//! out what lies around it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use git2::{Odb, Oid};
use rustix::fs::{FileType, Mode, Timespec};
use rustix::io::Errno;

use super::BaseError;
use super::checkout::{open_folder, write_entry};
use super::index_file::{Index, IndexEntry, Presence, Stat};
use crate::entry_name::check_path;
use crate::repository::Repository;
use crate::tree::{self, Difference, GITLINK};

/// Bytes of the list of removed paths that are read back.
const REMOVED_BYTES_MAX: usize = 64 << 20;

/// How a delta says that a path of the layers below is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whiteouts {
    /// Overlay's own form, a character device 0/0, which anybody may make since Linux 5.8.
    Devices,
    /// A list beside the layer, for the copy backend.
    Listed,
}

/// What a delta is made of.
pub struct Delta<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Where blobs come from.
    pub odb: &'a Odb<'a>,
    /// The new tree.
    pub tree: Oid,
    /// From the prepared tree to the new one.
    pub differences: &'a [Difference],
    /// How removals are told.
    pub whiteouts: Whiteouts,
    /// When the files that differ were changed last.
    pub time: Timespec,
    /// The same of some of those that are the same in both and only get another time.
    pub times: Option<&'a BTreeMap<Vec<u8>, Timespec>>,
}

impl Delta<'_> {
    /// Writes the layer's files below `root`, an empty folder, the removed paths (each ended by a NUL) to `removed`, and
    /// changes `index` from the prepared tree's to the new one's.
    ///
    /// # Errors
    /// As for a checkout.
    pub fn write(&self, root: &Path, removed: &Path, index: &mut Index) -> Result<(), BaseError> {
        let io = |path: &[u8]| {
            let path = root.join(String::from_utf8_lossy(path).as_ref());
            move |source: std::io::Error| BaseError::Io { path, source }
        };
        let folder = File::open(root).map_err(io(b""))?;
        let mut gone = BTreeSet::new();
        let mut changed = Vec::new();
        let mut whiteouts = BTreeSet::new();
        for Difference { path, old, new } in self.differences {
            check_path(path).map_err(|reason| BaseError::HostileName { path: path.clone(), reason })?;
            match new {
                Some(entry) => {
                    let known = self.times.filter(|_| old == new).and_then(|times| times.get(path));
                    let time = known.copied().unwrap_or(self.time);
                    changed.push(self.put(&folder, path, entry.canonical(), time).map_err(|error| match error {
                        PutError::Io(error) => io(path)(error),
                        PutError::Base(error) => error,
                    })?)
                }
                None => {
                    gone.insert(path.clone());
                    whiteouts.extend(self.topmost_gone(path)?);
                }
            }
        }
        if self.whiteouts == Whiteouts::Devices {
            for path in &whiteouts {
                self.white_out(&folder, path).map_err(io(path))?;
            }
        }
        let list: Vec<u8> = whiteouts.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
        std::fs::write(removed, list).map_err(io(b"removed"))?;
        index.replace(changed, &gone);
        Ok(())
    }

    fn put(&self, root: &File, path: &[u8], entry: tree::Entry, time: Timespec) -> Result<IndexEntry, PutError> {
        let fresh = |stat, presence| IndexEntry { path: path.to_vec(), mode: entry.mode, id: entry.id, stat, presence };
        let (parent, name) = split(path);
        make_folders(root, parent)?;
        if entry.mode == GITLINK {
            make_folders(root, path)?;
            return Ok(fresh(Stat::default(), Presence::CheckedOut));
        }
        let blob = self.repository.blob(self.odb, entry.id);
        let blob = blob.map_err(|error| BaseError::of_blob(self.repository, path, entry.id, error))?;
        let parent = open_folder(root, parent)?;
        let stat = write_entry(&parent, name, entry.mode, &blob, time)?;
        Ok(fresh(stat, Presence::CheckedOut))
    }

    /// The topmost folder on the way to a removed path that the new tree lacks, or the path itself; `None` when something
    /// else of the new tree stands there or above it.
    fn topmost_gone(&self, path: &[u8]) -> Result<Option<Vec<u8>>, BaseError> {
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            match tree::find(self.odb, self.tree, &path[..end])? {
                None => return Ok(Some(path[..end].to_vec())),
                Some(entry) if entry.is_tree() => {}
                Some(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn white_out(&self, root: &File, path: &[u8]) -> std::io::Result<()> {
        let (parent, name) = split(path);
        make_folders(root, parent)?;
        let parent = open_folder(root, parent)?;
        Ok(rustix::fs::mknodat(parent.as_fd(), name, FileType::CharacterDevice, Mode::empty(), 0)?)
    }
}

/// Reads the list of removed paths beside a layer; a layer without one removes nothing.
///
/// # Errors
/// The file system's.
pub fn read_removed(list: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    match std::fs::read(list) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(bytes) if bytes.len() > REMOVED_BYTES_MAX => Err(std::io::ErrorKind::FileTooLarge.into()),
        Ok(bytes) => Ok(bytes.split(|&byte| byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()),
    }
}

enum PutError {
    Io(std::io::Error),
    Base(BaseError),
}

impl From<std::io::Error> for PutError {
    fn from(error: std::io::Error) -> Self {
        PutError::Io(error)
    }
}

impl From<BaseError> for PutError {
    fn from(error: BaseError) -> Self {
        PutError::Base(error)
    }
}

/// The folder (`.` for the root) and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

/// Makes a folder of a layer with its parents; it holds nothing but what this module put there.
pub(super) fn make_folders(root: &File, path: &[u8]) -> std::io::Result<()> {
    let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        match rustix::fs::mkdirat(root, &path[..end], Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
