//! Which boot of the machine this is, and which mount of a file system: what an earlier one wrote and did not sync may be lost.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

/// Source: random(4), `boot_id`.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// `STATX_MNT_ID_UNIQUE`, which rustix does not name: a number that is not given twice, of a kernel since 6.8. Source: statx(2).
const MOUNT_FOR_GOOD: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Which boot of the machine this is.
///
/// # Errors
/// The kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    boot_in(Path::new(BOOT_ID))
}

/// Which boot this is, and which mount of the file system that a path lies on: a disk that was taken away and is back is another.
///
/// # Errors
/// The kernel does not tell.
pub fn mounted(path: &Path) -> io::Result<String> {
    let Statx { stx_mnt_id, stx_dev_major, stx_dev_minor, .. } =
        statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID | MOUNT_FOR_GOOD)?;
    Ok(format!("{} {stx_dev_major}:{stx_dev_minor} {stx_mnt_id}", boot_id()?))
}

fn boot_in(file: &Path) -> io::Result<String> {
    let id = std::fs::read_to_string(file)?.trim().to_owned();
    if id.is_empty() { Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")) } else { Ok(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_the_kernel_does_not_tell_is_no_boot() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(boot_in(file.path()).is_err());
        assert!(boot_in(&file.path().join("missing")).is_err());
        std::fs::write(file.path(), "0af3\n").expect("space");
        assert_eq!(boot_in(file.path()).expect("it is told"), "0af3");
    }

    #[test]
    fn a_mount_is_the_same_wherever_one_looks_in_it_and_not_another() {
        let folder = tempfile::tempdir().expect("space");
        let here = mounted(folder.path()).expect("it is told");
        std::fs::create_dir(folder.path().join("d")).expect("space");
        assert_eq!(mounted(&folder.path().join("d")).expect("it is told"), here);
        assert_ne!(mounted(Path::new("/proc")).expect("it is told"), here);
    }
}
