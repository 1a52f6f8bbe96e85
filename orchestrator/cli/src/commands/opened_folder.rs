//! A folder by its descriptor, and what lies beneath it. A path is looked up anew each time, and whoever may write the folder
//! meanwhile can put a link in the place of any part of it; a descriptor stays with what was opened.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, chmodat, fstat, openat, openat2, statat};
use rustix::io::Errno;

/// A folder of the person's own.
#[derive(Debug)]
pub struct OpenedFolder {
    path: PathBuf,
    dir: OwnedFd,
}

/// Device and inode: what something is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(u64, u64);

impl OpenedFolder {
    /// Opens a folder by its absolute path, which is used for messages only from here on.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = openat(CWD, path, OFlags::DIRECTORY | HANDLE, Mode::empty())?;
        Ok(OpenedFolder { path: path.to_owned(), dir })
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder beneath this one by its relative path, or this one by an empty one; `None` where no folder lies there, or only
    /// by way of a link.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn folder(&self, below: &Path) -> io::Result<Option<OwnedFd>> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let opened = match openat2(&self.dir, path, OFlags::DIRECTORY | HANDLE, Mode::empty(), resolve) {
            // As a cage answers.
            Err(Errno::NOSYS) => self.step_by_step(below),
            opened => opened,
        };
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, one name after the other.
    fn step_by_step(&self, below: &Path) -> rustix::io::Result<OwnedFd> {
        let mut at = openat(&self.dir, ".", OFlags::DIRECTORY | HANDLE, Mode::empty())?;
        for part in below.components() {
            let Component::Normal(name) = part else { return Err(Errno::XDEV) };
            at = openat(&at, name, OFlags::DIRECTORY | HANDLE, Mode::empty())?;
        }
        Ok(at)
    }
}

/// What opens nothing and follows no link.
pub const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Identity {
    /// # Errors
    /// Those of fstat(2).
    pub fn of(opened: impl AsFd) -> io::Result<Identity> {
        let stat = fstat(opened)?;
        Ok(Identity(stat.st_dev, stat.st_ino))
    }

    /// Of an entry of a folder; of a link itself.
    ///
    /// # Errors
    /// Those of fstatat(2).
    pub fn at(folder: impl AsFd, name: &OsStr) -> io::Result<Identity> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Identity(stat.st_dev, stat.st_ino))
    }
}

/// Whether a folder has an entry of that name.
pub fn has(folder: impl AsFd, name: &OsStr) -> bool {
    Identity::at(folder, name).is_ok()
}

/// Gives a folder's owner every right to it.
///
/// # Errors
/// Those of chmod(2): the folder is somebody else's.
pub fn open_to_owner(folder: impl AsFd) -> io::Result<()> {
    let mode = Mode::from_raw_mode(fstat(&folder)?.st_mode) | Mode::RWXU;
    // fchmod(2) takes no descriptor of this kind; its name in proc leads to the very folder, whatever lies at its path.
    let itself = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    Ok(chmodat(CWD, itself, mode, AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_anywhere() {
        let place = tempfile::tempdir().expect("a folder");
        for folder in ["in/a/b", "out/b"] {
            std::fs::create_dir_all(place.path().join(folder)).expect("a folder");
        }
        for (link, target) in [("in/out", "../out"), ("in/here", "."), ("in/a/last", "b")] {
            std::os::unix::fs::symlink(target, place.path().join(link)).expect("a link");
        }
        let folder = OpenedFolder::open(&place.path().join("in")).expect("it is there");
        for (path, there) in [("", true), ("a/b", true), ("out/b", false), ("here/a", false), ("a/last", false)] {
            let path = Path::new(path);
            assert_eq!(folder.folder(path).expect("it opens").is_some(), there, "{path:?}");
            assert_eq!(folder.step_by_step(path).is_ok(), there, "{path:?}");
        }
        assert!(folder.folder(Path::new("../out")).is_err() && folder.step_by_step(Path::new("../out")).is_err());
    }
}
