//! Opens what lies beneath a folder, and nothing else: symlinks are followed as long as they stay there. openat2(2) does it
//! in one call; a cage answers that it does not know that call, so there it is done step by step, one name after the other,
//! each opened without following.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};

/// Symlinks that one path may lead through, as in the kernel.
const LINKS_MAX: usize = 40;

/// Opens a path beneath a folder.
///
/// # Errors
/// `EXDEV` for one that leads out of it, and those of openat(2).
pub fn open(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(&root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => step_by_step(root, path, flags),
        opened => opened,
    }
}

/// Where a path below a folder leads through links, when that is another place in it.
pub fn led_to(root: &Path, path: &str) -> Option<String> {
    let place = root.join(path).canonicalize().ok()?;
    let place = place.strip_prefix(root.canonicalize().ok()?).ok()?.to_str()?.to_owned();
    (!place.is_empty() && place != path).then_some(place)
}

fn step_by_step(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let mut folders = vec![rustix::io::fcntl_dupfd_cloexec(root, 3)?];
    let mut left = names(path)?;
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let at = folders.last().expect("the root is never left");
        match name.as_str() {
            "" | "." => continue,
            ".." if folders.len() == 1 => return Err(Errno::XDEV),
            ".." => {
                folders.pop();
                continue;
            }
            _ => {}
        }
        match readlinkat(at, &name, Vec::new()) {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                let target = target.into_string().map_err(|_| Errno::ILSEQ)?;
                names(&target)?.into_iter().rev().for_each(|name| left.push_front(name));
                continue;
            }
            // It is no symlink.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
        if left.is_empty() {
            return openat(at, &name, flags | OFlags::NOFOLLOW, Mode::empty());
        }
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(at, &name, folder, Mode::empty())?;
        folders.push(folder);
    }
    openat(folders.last().expect("the root is never left"), ".", flags, Mode::empty())
}

/// The names of a path; one that begins at the root leads out of every folder.
fn names(path: &str) -> Result<VecDeque<String>> {
    if path.starts_with('/') {
        return Err(Errno::XDEV);
    }
    Ok(path.split('/').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn step_by_step_is_as_in_one_call() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), "text").unwrap();
        let links = [
            ("inside", "a/b/file"),
            ("a/up", "../inside"),
            ("out", "../x"),
            ("far", "/etc/passwd"),
            ("round", "round"),
            ("a/b/folder", "../../a"),
            ("dangling", "nothing"),
        ];
        links.iter().for_each(|(name, target)| symlink(target, root.join(name)).unwrap());
        let handle = std::fs::File::open(root).unwrap();
        let read = |opened: Result<OwnedFd>| {
            let mut text = String::new();
            std::fs::File::from(opened?).read_to_string(&mut text).map_err(|_| Errno::ISDIR).map(|_| text)
        };
        let paths = [
            "a/b/file",
            "./a//b/file",
            "inside",
            "a/up",
            "a/b/folder/b/file",
            "a/b/../b/file",
            "out",
            "far",
            "round",
            "..",
            "a/../../x",
            "/etc/passwd",
            "dangling",
            "nothing",
            "a/b/file/x",
            "a",
            "",
        ];
        for path in paths {
            let (one, many) = (open(&handle, path, OFlags::RDONLY), step_by_step(&handle, path, OFlags::RDONLY));
            // An empty path names nothing in one call, and the folder itself step by step.
            if !path.is_empty() {
                assert_eq!(read(one), read(many), "{path}");
            }
        }
    }
}
