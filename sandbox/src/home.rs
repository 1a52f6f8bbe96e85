//! Files that a job finds in its home folder: for programs that take their settings from a file and from nowhere else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::{self, Errno};

use crate::mounts::open_beneath;

/// A file in the home folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeFile {
    /// Where, below the home folder.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

impl HomeFile {
    /// Whether its place is one below the home folder, in words that need no thought: no `..`, no `.`, not absolute, no name
    /// missing.
    pub(crate) fn is_below_home(&self) -> bool {
        let is_name = |part| matches!(part, std::path::Component::Normal(_));
        self.path.file_name().is_some() && self.path.components().all(is_name)
    }
}

/// Writes them below `home`, an absolute path as the calling process sees it. What is there already is an earlier command's of
/// the same attempt, whatever it is, and stays; no link is followed.
///
/// # Errors
/// The kernel's.
pub fn fill(home: &Path, files: &[HomeFile]) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let root = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let home = open_beneath(&root, home.strip_prefix("/").map_err(|_| Errno::INVAL)?, FOLDER)?;
    files.iter().try_for_each(|file| match write(&home, file) {
        Err(Errno::EXIST | Errno::LOOP | Errno::NOTDIR) => Ok(()),
        written => written,
    })
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

fn write(home: &OwnedFd, file: &HomeFile) -> io::Result<()> {
    let mut folder = open_beneath(home, Path::new("."), FOLDER)?;
    for part in file.path.parent().ok_or(Errno::INVAL)?.components() {
        let part: &Path = part.as_ref();
        match mkdirat(&folder, part, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        folder = open_beneath(&folder, part, FOLDER)?;
    }
    let name = Path::new(file.path.file_name().ok_or(Errno::INVAL)?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    write_all(openat(&folder, name, flags, Mode::from_raw_mode(0o600))?, file.text.as_bytes())
}

fn write_all(file: impl AsFd, mut content: &[u8]) -> io::Result<()> {
    while !content.is_empty() {
        content = &content[io::retry_on_intr(|| io::write(&file, content))?..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> HomeFile {
        HomeFile { path: path.into(), text: "text".to_owned() }
    }

    #[test]
    fn what_is_there_stays_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        fill(&home, &[file("a/b/c"), file("d")]).unwrap();
        assert_eq!(std::fs::read_to_string(home.join("a/b/c")).unwrap(), "text");
        std::fs::write(home.join("d"), "the job's").unwrap();
        fill(&home, &[file("d")]).unwrap();
        assert_eq!(std::fs::read_to_string(home.join("d")).unwrap(), "the job's");
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), home.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("y"), home.join("y")).unwrap();
        fill(&home, &[file("link/x"), file("y"), file("d/x"), file("z")]).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(home.join("z").exists());
    }

    #[test]
    fn only_places_below_the_home_folder_are_places() {
        for path in ["", "/etc/x", "../x", "a/../x", "."] {
            assert!(!file(path).is_below_home(), "{path}");
        }
        assert!(file(".a/b").is_below_home());
    }
}
