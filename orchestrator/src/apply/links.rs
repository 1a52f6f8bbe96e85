//! Files of a checkout that have a second name elsewhere (`cp -al`, a store that shares equal files). Libgit2 writes into the
//! file that it finds, and so into whatever else shares it. Before it does, such a file gets a copy of its own: the same
//! content, mode and time, so that git sees nothing of it and whoever dies in between has lost nothing.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::{Delta, FileMode, Oid};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::ApplyError;
use super::claim::leads_through_folders;
use crate::fault;

/// Gives each file that a checkout of `to` over `from` would write into a copy of its own, where it has another name. `beside` is
/// a path of ours that nothing has, best on the same file system.
pub(super) fn part(git: &git2::Repository, (from, to): (Oid, Oid), beside: &Path) -> Result<(), ApplyError> {
    let root = git.workdir().ok_or(ApplyError::Bare)?;
    let diff = git.diff_tree_to_tree(Some(&git.find_tree(from)?), Some(&git.find_tree(to)?), None)?;
    for delta in diff.deltas() {
        // What goes, or becomes another kind of file, libgit2 removes by its name.
        let is_file = |mode| matches!(mode, FileMode::Blob | FileMode::BlobExecutable);
        let stays = delta.status() == Delta::Modified && is_file(delta.old_file().mode());
        let Some(path) = delta.new_file().path_bytes().filter(|_| stays && is_file(delta.new_file().mode())) else {
            continue;
        };
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let at = root.join(path);
        let is_shared = at.symlink_metadata().is_ok_and(|about| about.is_file() && about.nlink() > 1);
        if is_shared && leads_through_folders(root, path) {
            fault::point()
                .and_then(|()| part_one(&at, beside))
                .map_err(|source| ApplyError::Io { path: at, source })?;
        }
    }
    Ok(())
}

/// Puts a copy of a file in its place.
fn part_one(at: &Path, beside: &Path) -> io::Result<()> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::open(at)?;
    let placed = File::create_new(beside).and_then(|copy| fill(&mut file, copy)).and_then(|_| fs::rename(beside, at));
    match placed {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            drop(fs::remove_file(beside));
            part_across(at)
        }
        Err(error) => {
            drop(fs::remove_file(beside));
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// The same where the checkout lies on another file system than ours, without a name that a death would leave there: the file
/// is missing for an instant, and whoever takes the application back puts a missing one there again.
fn part_across(at: &Path) -> io::Result<()> {
    let folder = at.parent().unwrap_or(Path::new("/"));
    let unnamed = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(CWD, folder, unnamed, Mode::RUSR | Mode::WUSR)?;
    let copy = fill(&mut File::open(at)?, copy.into())?;
    let opened = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    fs::remove_file(at)?;
    // Source: open(2), O_TMPFILE: a name is given by way of /proc, following that link.
    Ok(rustix::fs::linkat(CWD, opened, CWD, at, AtFlags::SYMLINK_FOLLOW)?)
}

/// Copies content, mode and time.
fn fill(file: &mut File, mut copy: File) -> io::Result<File> {
    let about = file.metadata()?;
    io::copy(file, &mut copy)?;
    copy.set_permissions(about.permissions())?;
    copy.set_modified(about.modified()?)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_with_a_second_name_gets_a_copy_that_git_takes_for_the_same() {
        for part in [part_one as fn(&Path, &Path) -> io::Result<()>, |at, _| part_across(at)] {
            let folder = tempfile::tempdir().expect("a folder");
            let [one, two, beside] = ["one", "two", "beside"].map(|name| folder.path().join(name));
            fs::write(&one, "content").expect("space");
            fs::set_permissions(&one, fs::Permissions::from_mode(0o741)).expect("it is ours");
            fs::hard_link(&one, &two).expect("a second name");
            part(&one, &beside).expect("space");
            let [here, there] = [&one, &two].map(|path| path.metadata().expect("it is there"));
            assert_eq!((here.nlink(), there.nlink()), (1, 1));
            assert_eq!(
                (here.mode(), here.mtime(), here.mtime_nsec()),
                (there.mode(), there.mtime(), there.mtime_nsec())
            );
            fs::write(&one, "another").expect("space");
            assert_eq!(fs::read_to_string(&two).expect("it is there"), "content");
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        }
    }
}
