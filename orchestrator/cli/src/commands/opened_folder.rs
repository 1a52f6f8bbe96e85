//! A folder by its descriptor, and what lies beneath it. A path is looked up anew each time, and whoever may write the folder
//! meanwhile can put a link in the place of any part of it; a descriptor stays with what was opened.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, chmodat, fstat, openat, openat2, statat};
use rustix::io::Errno;

/// Bytes of a path behind which another piece begins: with one more name it stays below the 4,095 that the kernel takes.
const PIECE_BYTES_MAX: usize = 3_800;
/// Letters of a path that people are shown.
const SHOWN_MAX: usize = 400;

/// A folder of the person's own.
#[derive(Debug)]
pub struct OpenedFolder {
    path: PathBuf,
    dir: OwnedFd,
}

/// Device and inode: what something is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// # Errors
    /// Those of fstat(2).
    pub fn identity(&self) -> io::Result<Identity> {
        Identity::of(&self.dir)
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder beneath this one by its relative path, or this one by an empty one; `None` where no folder lies there, or only
    /// by way of a link. The path may be longer than the kernel takes.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn folder(&self, below: &Path) -> io::Result<Option<OwnedFd>> {
        let opened = match self.piece_by_piece(below) {
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

    fn piece_by_piece(&self, below: &Path) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open =
            |from: BorrowedFd<'_>, path: &Path| openat2(from, path, OFlags::DIRECTORY | HANDLE, Mode::empty(), resolve);
        let mut pieces = pieces(below).into_iter();
        let mut at = open(self.dir.as_fd(), &pieces.next().unwrap_or_else(|| PathBuf::from(".")))?;
        for piece in pieces {
            at = open(at.as_fd(), &piece)?;
        }
        Ok(at)
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

/// A path in pieces that the kernel takes; none of an empty one.
fn pieces(path: &Path) -> Vec<PathBuf> {
    let mut pieces: Vec<PathBuf> = Vec::new();
    for part in path.components() {
        match pieces.last_mut() {
            Some(last) if last.as_os_str().len() < PIECE_BYTES_MAX => last.push(part),
            _ => pieces.push(PathBuf::from(part.as_os_str())),
        }
    }
    pieces
}

/// A path for people: the middle of a long one is left out.
pub fn shortened(path: &Path) -> String {
    let text = path.to_string_lossy();
    let letters = text.chars().count();
    if letters <= SHOWN_MAX {
        return text.into_owned();
    }
    let part = |from, count| text.chars().skip(from).take(count).collect::<String>();
    format!("{}…{}", part(0, SHOWN_MAX / 2), part(letters - SHOWN_MAX / 2, SHOWN_MAX / 2))
}

/// What opens nothing and follows no link.
pub const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Identity {
    /// Device and inode.
    pub fn numbers(self) -> (u64, u64) {
        (self.0, self.1)
    }

    /// From what [`Identity::numbers`] gave.
    pub fn from_numbers((device, inode): (u64, u64)) -> Identity {
        Identity(device, inode)
    }

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
    set_mode(folder, mode)
}

/// Takes every right to a folder from everybody.
///
/// # Errors
/// Those of chmod(2): the folder is somebody else's.
pub fn close_to_all(folder: impl AsFd) -> io::Result<()> {
    set_mode(folder, Mode::empty())
}

/// fchmod(2) takes no descriptor of this kind; its name in proc leads to the very folder, whatever lies at its path.
fn set_mode(folder: impl AsFd, mode: Mode) -> io::Result<()> {
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

    #[test]
    fn a_path_that_the_kernel_does_not_take_leads_to_its_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = OpenedFolder::open(place.path()).expect("it is there");
        let name = "n".repeat(250);
        let (mut path, mut at) =
            (PathBuf::new(), folder.folder(Path::new("")).expect("it opens").expect("it is there"));
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("a folder");
            path.push(&name);
            at = folder.folder(&path).expect("it opens").expect("it is there");
        }
        assert_eq!(Identity::of(folder.step_by_step(&path).expect("it opens")).ok(), Identity::of(&at).ok());
        assert!(shortened(&path).chars().count() <= SHOWN_MAX + 1);
        assert_eq!(shortened(Path::new("a/b")), "a/b");
    }
}
