//! Copy-on-write mounts, by overlayfs inside a user namespace.
//!
//! `userxattr` keeps the overlay's own marks in `user.overlay.*`, which needs no privilege and is what collect reads.
//! `volatile` leaves out every sync: without it each copied-up file is synced, and unmounting syncs the *whole* host file
//! system that holds the upper layer. An attempt that does not survive a power cut is simply run again, so nothing is lost.
//! `index`, `metacopy` and redirects are off: the upper layer must say all it means by plain files, whiteouts and
//! opaque folders. Source: Documentation/filesystems/overlayfs.rst.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io;
use rustix::mount::{MountFlags, mount};

const OPTIONS: &str = "userxattr,volatile,index=off,metacopy=off,xino=off,redirect_dir=nofollow";

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
