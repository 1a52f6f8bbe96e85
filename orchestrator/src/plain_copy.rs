//! Copies a folder onto another, as the copy backend needs it: modification times and links kept, files replaced, nothing
//! followed out of the source.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

use crate::removal::remove_tree;

/// Copies all below `from` onto `to`, an existing folder. Folders merge, everything else replaces what stands there. What is
/// neither file, folder nor link is left out.
///
/// # Errors
/// The file system's.
pub fn copy_onto(from: &Path, to: &Path) -> io::Result<()> {
    // A worklist instead of recursion: how deep a cache is nested is not ours to bound.
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(from.join(&folder))? {
            let entry = entry?;
            let relative = folder.join(entry.file_name());
            let target = to.join(&relative);
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !target.symlink_metadata().is_ok_and(|known| known.is_dir()) {
                    make_way(&target)?;
                    fs::create_dir(&target)?;
                }
                pending.push(relative);
            } else if kind.is_file() || kind.is_symlink() {
                make_way(&target)?;
                copy_one(&entry.path(), &target)?;
            }
        }
    }
    Ok(())
}

/// Whether a copy is no longer what [`copy_onto`] made of `from` in an empty folder, as far as names, kinds, sizes and
/// modification times tell. What cannot be listed in the copy differs.
///
/// # Errors
/// The file system's, for `from`.
pub fn differs(from: &Path, copy: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        let mut names = 0_usize;
        for entry in fs::read_dir(from.join(&folder))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let kind = metadata.file_type();
            if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
                continue;
            }
            names += 1;
            let relative = folder.join(entry.file_name());
            let Ok(copied) = copy.join(&relative).symlink_metadata() else { return Ok(true) };
            let looks = |known: &fs::Metadata| (known.len(), known.mtime(), known.mtime_nsec());
            if copied.file_type() != kind || !kind.is_dir() && looks(&metadata) != looks(&copied) {
                return Ok(true);
            }
            if kind.is_dir() {
                pending.push(relative);
            }
        }
        let Ok(listed) = fs::read_dir(copy.join(&folder)) else { return Ok(true) };
        if listed.count() != names {
            return Ok(true);
        }
    }
    Ok(false)
}

fn make_way(target: &Path) -> io::Result<()> {
    match target.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(known) if known.is_dir() => remove_tree(target),
        Ok(_) => fs::remove_file(target),
    }
}

fn copy_one(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = from.symlink_metadata()?;
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut source = File::from(rustix::fs::openat(CWD, from, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if metadata.mode() & 0o100 == 0 { 0o644 } else { 0o755 });
        let mut target = File::from(rustix::fs::openat(CWD, to, flags, mode)?);
        io::copy(&mut source, &mut target)?;
    }
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
