//! What a task hands over is on the disk before the journal says that the task has passed: whoever needs it after a power cut takes it as
//! it lies there, and the task does not run again. (What git keeps of a result: [`crate::repository`].)

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FileType, Mode, OFlags, fadvise, fdatasync, fstat, fsync, open};

use crate::repository::sync_around;

/// Files and folders that are synced one by one; of more, the whole file system is.
const SYNCED_MAX: usize = 100;

/// As [`bring_to_disk`], for the thread that decides: somebody else waits for the disk.
///
/// # Errors
/// As of that.
pub async fn bring_to_disk_beside(folder: PathBuf) -> io::Result<()> {
    tokio::task::spawn_blocking(move || bring_to_disk(&folder)).await?
}

/// Brings a folder with all that is in it to the disk; one that holds nothing, or is not there, need not be. No link is followed, and
/// what is neither file nor folder holds nobody up.
///
/// # Errors
/// The file system's; a disk that failed to take it.
fn bring_to_disk(folder: &Path) -> io::Result<()> {
    let mut entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let Some(all) = opened(folder)? else {
        return sync_around(folder);
    };
    for (file, is_folder) in &all {
        match is_folder {
            true => fsync(file)?,
            false => fdatasync(file)?,
        }
    }
    Ok(())
}

/// The files and folders of a folder, itself the last, and which of them are folders; the disk was told of all files. `None` for more
/// than are synced one by one.
fn opened(folder: &Path) -> io::Result<Option<Vec<(OwnedFd, bool)>>> {
    let mut waiting: Vec<PathBuf> = vec![folder.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = waiting.pop() {
        if all.len() + waiting.len() >= SYNCED_MAX {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match open(&path, flags, Mode::empty()) {
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => continue,
            file => file?,
        };
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::Directory => {
                for entry in path.read_dir()?.take(SYNCED_MAX + 1) {
                    waiting.push(entry?.path());
                }
                all.push((file, true));
            }
            FileType::RegularFile => {
                // Writing begins here; that it was left out costs time only.
                let _ = fadvise(&file, 0, None, Advice::DontNeed);
                all.push((file, false));
            }
            _ => {}
        }
    }
    all.reverse();
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_folder_is_synced_and_nothing_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("out");
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/a"), "a").unwrap();
        std::fs::write(folder.join("b"), "b").unwrap();
        std::os::unix::fs::symlink("/etc", folder.join("link")).unwrap();
        let kinds = |all: Vec<(OwnedFd, bool)>| all.iter().filter(|(_, is_folder)| *is_folder).count();
        let all = opened(&folder).unwrap().unwrap();
        assert_eq!((all.len(), all.last().map(|(_, is_folder)| *is_folder), kinds(all)), (4, Some(true), 2));
        bring_to_disk(&folder).unwrap();
        bring_to_disk(&dir.path().join("none")).unwrap();
        assert!(bring_to_disk(&folder.join("b")).is_err());
    }

    #[test]
    fn of_many_files_the_file_system_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..SYNCED_MAX {
            std::fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        assert!(opened(dir.path()).unwrap().is_none());
        bring_to_disk(dir.path()).unwrap();
    }
}
