//! The kernel's mount calls as few small functions over descriptors: no path of the new tree is ever named from outside.
//!
//! Source: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), openat2(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_string, fsmount, fsopen, fspick, move_mount, open_tree,
};

/// Opens a host path that must not contain a symlink, without opening what is there (`O_PATH`).
///
/// A symlink is refused because a job could have planted it in a folder that it was once allowed to write.
pub fn open_source(path: &Path) -> io::Result<OwnedFd> {
    openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Opens a path below `root` without leaving it and without passing a symlink.
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// A detached copy of the mount tree below an open folder or file.
pub fn clone_tree(source: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(source, c"", flags)
}

/// [`clone_tree`] of what stands at a name in an open folder; of a symlink it is the link itself, which is no mount of anything.
pub fn clone_tree_at(folder: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(folder, name, flags)
}

/// How much a tmpfs may hold; `None` leaves the kernel's own bound, half of the machine's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    /// Bytes.
    pub bytes: Option<u64>,
    /// Files and folders.
    pub files: Option<u64>,
}

/// A detached, empty tmpfs with the given mode (octal text) of its root.
pub fn new_tmpfs(mode: &CStr) -> io::Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"mode", mode)?;
    finish(context, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// Bounds a tmpfs that is mounted, given by its root.
pub fn bound_tmpfs(root: impl AsFd, room: Room) -> io::Result<()> {
    if room.bytes.is_none() && room.files.is_none() {
        return Ok(());
    }
    let context = fspick(root, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    if let Some(bytes) = room.bytes {
        fsconfig_set_string(context.as_fd(), c"size", bytes.to_string().as_str())?;
    }
    if let Some(files) = room.files {
        fsconfig_set_string(context.as_fd(), c"nr_inodes", files.to_string().as_str())?;
    }
    fsconfig_reconfigure(context.as_fd())
}

/// A detached proc of the calling process's pid namespace, read-only.
pub fn new_proc() -> io::Result<OwnedFd> {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    finish(
        context,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

/// Terminals of one devpts: the machine has 4,096 for all (`kernel.pty.max`).
const TERMINALS_MAX: &CStr = c"64";

/// A detached devpts of its own.
pub fn new_devpts() -> io::Result<OwnedFd> {
    let context = fsopen(c"devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"max", TERMINALS_MAX)?;
    fsconfig_set_string(context.as_fd(), c"ptmxmode", c"0666")?;
    fsconfig_set_string(context.as_fd(), c"mode", c"0600")?;
    finish(context, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

fn finish(context: OwnedFd, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    fsconfig_create(context.as_fd())?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts a detached mount onto an open folder or file.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// [`attach`] onto what stands at a name in an open folder. A symlink there is not followed.
pub fn attach_at(mount: impl AsFd, folder: impl AsFd, name: &Path) -> io::Result<()> {
    move_mount(mount, c"", folder, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// How far an attribute change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One mount.
    Single,
    /// The mount and all below it.
    Tree,
}

/// Adds attributes to a mount.
pub fn restrict(mount: impl AsFd, reach: Reach, attributes: MountAttrFlags) -> io::Result<()> {
    let change = libc::mount_attr { attr_set: u64::from(attributes.bits()), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if reach == Reach::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, `change` outlives the call and its true size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// The error of the last libc call.
pub fn last_error() -> io::Errno {
    io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO)
}
