//! What lies in a folder, for whoever decides by that what may be shown. Comes in a folder, go out its entries, or that nobody knows
//! them: a folder whose listing breaks off (too many open files, a path that is too long, a disk that fails) is not an empty one.

use std::fs::{DirEntry, FileType};
use std::io;
use std::path::Path;

/// The entries of a folder with their kinds, in no order, and no more than so many. What the caller may not list is empty, because
/// nobody can list it in a cage either; so is what is not there, or no folder.
///
/// # Errors
/// The system's; what the folder holds is not known then.
pub fn listed(folder: &Path, entries_max: usize) -> io::Result<Vec<(DirEntry, FileType)>> {
    let entries = match folder.read_dir() {
        Err(error) if shows_nothing(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries.take(entries_max) {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) => all.push((entry, kind)),
            // It went away since it was named, or nobody reaches it.
            Err(error) if shows_nothing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Whether an error says that there is nothing to see, for us and for a cage.
pub fn shows_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// The longest path that the system takes. Source: path_resolution(7), `PATH_MAX`.
#[cfg(test)]
const PATH_BYTES_MAX: usize = 4096;

/// Makes folders below one, each in the one before, until the path of the last is longer than the system takes, and gives the deepest
/// that is open: what lies there can be made and not be listed by its path.
#[cfg(test)]
pub fn too_long_to_list(below: &Path) -> std::os::fd::OwnedFd {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let (name, flags) = ("n".repeat(250), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC);
    let mut deepest = open(below, flags, Mode::empty()).expect("it is there");
    for _ in 0..=PATH_BYTES_MAX / name.len() {
        mkdirat(&deepest, &name, Mode::RWXU).expect("a folder");
        deepest = openat(&deepest, &name, flags, Mode::empty()).expect("just made");
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listed_is_not_empty() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), "").expect("a file");
        let count = |path: &Path| listed(path, 10).map(|all| all.len());
        assert_eq!(count(dir.path()).expect("it is there"), 1);
        assert_eq!(count(&dir.path().join("file")).expect("no folder"), 0);
        assert_eq!(count(&dir.path().join("gone")).expect("not there"), 0);
        let long = dir.path().join("n/".repeat(PATH_BYTES_MAX));
        assert!(count(&long).is_err());
    }
}
