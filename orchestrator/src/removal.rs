//! Removes what a worker left: any depth, any modes, any names, following no link and without recursion.
//!
//! Every folder is moved up to the top before it is emptied, so a path a million levels deep needs one open folder and no
//! long path. Folders that their owner locked (mode 000, the scratch folder of an overlay) are unlocked first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::fault;
use crate::state::StateDir;

/// Something that is no longer used and is removed when this value is dropped, on whichever thread that is.
#[derive(Debug)]
pub struct Debris {
    // Invariant: a folder in `trash/`, ours alone.
    path: Option<PathBuf>,
}

impl Debris {
    /// Takes a folder out of use at once: it is renamed into the trash and no longer found under its name. A missing one is
    /// fine.
    ///
    /// # Errors
    /// The file system's.
    pub fn take(state: &StateDir, path: &Path) -> io::Result<Debris> {
        let trash = state.fresh_trash();
        unlock(path);
        fault::point()?;
        match std::fs::rename(path, &trash) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Debris { path: Some(trash) }),
        }
    }

    /// Where it is until it is removed.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Takes it into use again, under a name that nothing has.
    ///
    /// # Errors
    /// The file system's; what could not be moved is removed.
    pub fn put(mut self, to: &Path) -> io::Result<()> {
        fault::point()?;
        if let Some(path) = &self.path {
            std::fs::rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }

    /// Removes it now.
    ///
    /// # Errors
    /// The file system's; what is left stays in the trash for [`sweep`].
    pub fn clear(mut self) -> io::Result<()> {
        self.path.take().map_or(Ok(()), |path| remove_tree(&path))
    }
}

impl Drop for Debris {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = remove_tree(&path)
        {
            tracing::warn!(path = %path.display(), %error, "the trash could not be emptied; `swarm clean` tries again");
        }
    }
}

/// Removes everything that an earlier, killed process left in the trash. Only for who knows that no other process of ours
/// runs on this state folder.
///
/// # Errors
/// The file system's.
pub fn sweep(state: &StateDir) -> io::Result<()> {
    for entry in std::fs::read_dir(state.path("trash"))? {
        remove_tree(&entry?.path())?;
    }
    Ok(())
}

/// Removes a folder with all that is in it; a missing one is fine. The folder's parents are trusted, its content is not.
///
/// # Errors
/// The file system's.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let root = match open_dir(rustix::fs::CWD, path.as_os_str()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
        opened => opened?,
    };
    let mut hoisted = 0_u64;
    loop {
        let mut folders = 0;
        let mut entries = Dir::read_from(&root)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if !is_folder(root.as_fd(), name, entry.file_type())? {
                rustix::fs::unlinkat(&root, name, AtFlags::empty())?;
                continue;
            }
            folders += 1;
            empty_into(root.as_fd(), name, &mut hoisted)?;
        }
        if folders == 0 {
            break;
        }
    }
    drop(root);
    std::fs::remove_dir(path)
}

/// Unlinks all files of one folder, moves its folders up to `root` under names that nothing else has, and removes it.
fn empty_into(root: BorrowedFd<'_>, name: &std::ffi::CStr, hoisted: &mut u64) -> io::Result<()> {
    let folder = match open_dir(root, name) {
        Ok(folder) => folder,
        // Not ours to open: an empty one still goes.
        Err(_) => return Ok(rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR)?),
    };
    loop {
        let mut seen = false;
        let mut entries = Dir::read_from(&folder)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let inner = entry.file_name();
            if matches!(inner.to_bytes(), b"." | b"..") {
                continue;
            }
            seen = true;
            if is_folder(folder.as_fd(), inner, entry.file_type())? {
                hoist(folder.as_fd(), inner, root, hoisted)?;
            } else {
                rustix::fs::unlinkat(&folder, inner, AtFlags::empty())?;
            }
        }
        if !seen {
            break;
        }
    }
    Ok(rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR)?)
}

fn hoist(folder: BorrowedFd<'_>, inner: &std::ffi::CStr, root: BorrowedFd<'_>, hoisted: &mut u64) -> io::Result<()> {
    // Most folders are leaves or small trees of ours; an empty one needs no move.
    if rustix::fs::unlinkat(folder, inner, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    // Moving a folder writes its `..`, which needs write permission on it.
    drop(open_dir(folder, inner));
    loop {
        *hoisted += 1;
        let fresh = format!(".hoisted-{hoisted}");
        match rustix::fs::renameat_with(folder, inner, root, fresh, rustix::fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

fn is_folder(parent: BorrowedFd<'_>, name: &std::ffi::CStr, known: FileType) -> io::Result<bool> {
    if known != FileType::Unknown {
        return Ok(known == FileType::Directory);
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Opens a folder for reading and makes sure that its owner may change it.
fn open_dir(parent: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // It is a folder: the error for a link or a file would be another one.
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(&parent, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if rustix::fs::fstat(&folder)?.st_mode & 0o300 != 0o300 {
        // A folder of somebody else (as root sees it) is removable as it is.
        let _ = rustix::fs::fchmod(&folder, Mode::RWXU);
    }
    Ok(folder)
}

/// Best effort: a rename into another folder needs write permission on what is moved.
fn unlock(path: &Path) {
    drop(open_dir(rustix::fs::CWD, path.as_os_str()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn odd_modes_links_and_pipes_are_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kept = folder.path().join("kept");
        std::fs::write(&kept, "x").expect("a file beside");
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).expect("folders");
        std::fs::write(tree.join("a/b/.hoisted-1"), "x").expect("a file");
        std::fs::create_dir(tree.join(".hoisted-1")).expect("a folder with an awkward name");
        std::os::unix::fs::symlink(folder.path(), tree.join("a/up")).expect("a link");
        rustix::fs::mknodat(rustix::fs::CWD, tree.join("a/pipe"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        for locked in ["a/b/c", "a/b", "a"] {
            std::fs::set_permissions(tree.join(locked), std::fs::Permissions::from_mode(0o000)).expect("a mode");
        }
        remove_tree(&tree).expect("all is removed");
        assert!(!tree.exists() && kept.exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(folder.path()).expect("a state folder");
        let top = folder.path().join("deep");
        std::fs::create_dir(&top).expect("the first");
        let mut at = std::fs::File::open(&top).expect("the first");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).expect("the next");
            at = open_dir(&at, "d").expect("the next").into();
        }
        Debris::take(&state, &top).expect("renamed").clear().expect("removed");
        assert!(!top.exists());
        assert_eq!(std::fs::read_dir(state.path("trash")).expect("the trash").count(), 0);
    }
}
