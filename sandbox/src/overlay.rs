//! Copy-on-write mounts, by overlayfs inside a user namespace.
//!
//! `userxattr` keeps the overlay's own marks in `user.overlay.*`, which needs no privilege and is what collect reads.
//! `volatile` leaves out every sync: without it each copied-up file is synced, and unmounting syncs the *whole* host file
//! system that holds the upper layer. An attempt that does not survive a power cut is simply run again, so nothing is lost.
//! `index`, `metacopy` and redirects are off: the upper layer must say all it means by plain files, whiteouts and
//! opaque folders. Source: Documentation/filesystems/overlayfs.rst.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, open, unlinkat};
use rustix::io;
use rustix::mount::{MountFlags, mount};

use crate::policy::{CopyOnWrite, Worktree};

const OPTIONS: &str = "userxattr,volatile,index=off,metacopy=off,xino=off,redirect_dir=nofollow";

/// The layers of one cage's overlays, which no other cage mounts meanwhile: what the kernel calls undefined. A cage that has ended
/// takes its mounts apart for a while yet, and only who mounts them again has to wait for that; what is in them is complete as soon as
/// everything inside is dead. No job sees the scratch folders that are locked.
#[derive(Debug)]
pub struct Layers {
    /// Locks of flock(2), which end with their holder however it ends.
    _locks: Vec<OwnedFd>,
}

impl Layers {
    /// Waits until no other cage has these layers.
    ///
    /// # Errors
    /// The system's.
    pub fn take(worktree: &Worktree, copies: &[CopyOnWrite]) -> io::Result<Self> {
        let Worktree::Overlay { state, work, .. } = worktree else { return Ok(Layers { _locks: Vec::new() }) };
        let scratch = std::iter::once(work).chain(copies.iter().map(|copy| &copy.work));
        let lock = |work: &String| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let folder = open(state.join(work), flags, Mode::empty())?;
            io::retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive))?;
            Ok(folder)
        };
        Ok(Layers { _locks: scratch.map(lock).collect::<io::Result<_>>()? })
    }
}

/// Mounts an overlay onto `target`. Layer paths are relative to the current directory and need no escaping; a lower layer
/// may also be named `/proc/self/fd/N`.
pub fn mount_overlay(lowers: &[String], upper: &str, work: &str, target: impl AsFd) -> io::Result<()> {
    forget_volatile_mark(work);
    let data = format!("lowerdir={},upperdir={upper},workdir={work},{OPTIONS}", lowers.join(":"));
    let data = CString::new(data).map_err(|_| io::Errno::INVAL)?;
    let target = format!("/proc/self/fd/{}", target.as_fd().as_raw_fd());
    mount(c"overlay", target.as_str(), c"overlay", MountFlags::NOSUID | MountFlags::NODEV, Some(data.as_c_str()))
}

/// Removes the mark with which an earlier volatile mount says that its upper layer was not synced. The layer is mounted
/// again on purpose: a check looks at what the work has left, on the same running machine.
fn forget_volatile_mark(work: &str) {
    let mark = format!("{work}/work/incompat/volatile");
    if unlinkat(CWD, format!("{mark}/dirty").as_str(), AtFlags::empty()).is_ok() {
        for folder in [mark.as_str(), &mark[..mark.len() - "/volatile".len()]] {
            // A folder that stays makes the mount fail, which is reported there.
            let _ = unlinkat(CWD, folder, AtFlags::REMOVEDIR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_one_cages_at_a_time_and_those_of_others_are_free() {
        let dir = tempfile::tempdir().unwrap();
        let layers = |name: &str| {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            let (at, state) = (dir.path().join("tree"), dir.path().to_owned());
            Worktree::Overlay { at, state, lowers: vec![], upper: "upper".to_owned(), work: name.to_owned() }
        };
        let (one, other) = (layers("one"), layers("other"));
        let held = Layers::take(&one, &[]).unwrap();
        let _free = Layers::take(&other, &[]).unwrap();
        std::thread::scope(|scope| {
            let (told, hears) = std::sync::mpsc::channel();
            let waits = scope.spawn(move || {
                let taken = Layers::take(&one, &[]).is_ok();
                told.send(()).unwrap();
                taken
            });
            assert!(hears.recv_timeout(std::time::Duration::from_millis(50)).is_err());
            drop(held);
            assert!(waits.join().unwrap());
        });
    }
}
