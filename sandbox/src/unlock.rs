//! Permissions given back to what a job has locked.
//!
//! chmod(2) by name follows a link, and a job that still runs can exchange what stands under a name at any moment: the
//! name is resolved once, without following, and what it gave is looked at before it is changed.
//!
//! Source: open(2), `O_PATH`; proc_pid_fd(5).

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{FileType, Mode, OFlags, chmod, fstat, openat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Adds `bits` to the mode of what stands under `name` in `parent`, where it is of that kind.
///
/// # Errors
/// `ELOOP` where something else stands there; the kernel's otherwise.
pub(crate) fn unlock(parent: impl AsFd, name: impl Arg, kind: FileType, bits: Mode) -> Result<(), Errno> {
    let there = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&there)?;
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Err(Errno::LOOP);
    }
    // fchmod(2) takes no such descriptor; its own entry leads to what it stands for, whatever the name is by now.
    chmod(format!("/proc/self/fd/{}", there.as_raw_fd()), Mode::from_raw_mode(stat.st_mode) | bits)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_link_in_place_of_a_folder_leads_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dark, link) = (folder.path().join("dark"), folder.path().join("link"));
        fs::create_dir(&dark).and_then(|()| symlink("dark", &link)).expect("new names");
        let mode = || fs::metadata(&dark).expect("it is there").permissions().mode() & 0o777;
        fs::set_permissions(&dark, fs::Permissions::from_mode(0o077)).expect("ours");
        assert_eq!(unlock(rustix::fs::CWD, &link, FileType::Directory, Mode::RWXU), Err(Errno::LOOP));
        assert_eq!(mode(), 0o077);
        assert_eq!(unlock(rustix::fs::CWD, &dark, FileType::RegularFile, Mode::RWXU), Err(Errno::LOOP));
        assert_eq!(unlock(rustix::fs::CWD, &dark, FileType::Directory, Mode::RWXU), Ok(()));
        assert_eq!(mode(), 0o777);
    }
}
