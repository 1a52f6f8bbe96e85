//! The state folder: where everything of ours lives (DESIGN §6). Nothing of swarm is ever written outside of it and of
//! `refs/swarm/`.
//!
//! ```text
//! bases/<key>/           a checked-out tree, the lowest overlay layer; immutable once it has its name
//! layers/<key>/          small layers on top of one: heads, deltas, copied files, results of `setup`
//! runs/<run>/<instance>/<attempt>/   what one attempt writes
//! wasm/modules/<digest>.wasm, wasm/compiled/<key>   modules of guests, and the machine code made of them
//! trash/                 what is being removed off the critical path
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use swarm_plans::InstanceId;

use crate::ids::{Attempt, RunId, encode_component};

/// Folders of the state folder that exist from the start.
const FOLDERS: [&str; 4] = ["bases", "layers", "runs", "trash"];

/// The state folder of one repository. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    // Invariant: absolute, canonical, exists.
    root: PathBuf,
}

impl StateDir {
    /// The modules of WebAssembly guests, relative to the state folder; made when the first one is kept.
    pub const MODULES: &str = "wasm/modules";
    /// What workers made of them, relative to the state folder; no job can write it.
    pub const COMPILED: &str = "wasm/compiled";

    /// Opens the folder, making it (mode 0700) and its first floor where they are missing.
    ///
    /// # Errors
    /// The file system's; a full or read-only disk is the usual cause.
    pub fn open(root: &Path) -> io::Result<Self> {
        make_private_dir_all(root)?;
        let root = root.canonicalize()?;
        for folder in FOLDERS {
            make_private_dir_all(&root.join(folder))?;
        }
        Ok(StateDir { root })
    }

    /// The folder itself; absolute and canonical.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The absolute path of something named relative to the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The folder of one attempt, relative to the state folder; not made yet. It consists of what the worker accepts in a
    /// layer's path: `[A-Za-z0-9._/-]`. No encoded name has a dot behind a hyphen, so different names stay different.
    pub fn attempt(run: &RunId, instance: &InstanceId, attempt: Attempt) -> String {
        format!("{}/{}/{attempt}", StateDir::run(run), folder_name(&instance.0))
    }

    /// The folder of all attempts of a run, relative to the state folder; not made yet.
    pub fn run(run: &RunId) -> String {
        format!("runs/{}", folder_name(&run.0))
    }

    /// A name in `trash/` that was never given before, as an absolute path.
    pub fn fresh_trash(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("trash/{}-{now}-{next}", std::process::id()))
    }

    /// What the disk below has run out of; `None` while there is some of it, and where the system does not tell.
    pub fn lacks(&self) -> Option<&'static str> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        lack(disk.f_bavail.saturating_mul(disk.f_frsize), (disk.f_files > 0).then_some(disk.f_favail))
    }

    /// Waits until no other process or thread holds the lock of that name, and holds it until the value is dropped. The
    /// kernel releases it when the holder dies, however it dies.
    ///
    /// # Errors
    /// The file system's.
    pub fn lock(&self, relative: &str) -> io::Result<Lock> {
        let path = self.path(&format!("{relative}.lock"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
        Ok(Lock { _file: file })
    }
}

/// Whatever stops for want of space stops a little before the last byte: a write is refused whole, or by the block.
const SPACE_BYTES_MIN: u64 = 1 << 20;

/// The same for inodes: what failed for want of one is asked about when others' worktrees have gone already.
const INODES_MIN: u64 = 64;

/// A file system without a fixed number of inodes names none.
fn lack(free_bytes: u64, free_inodes: Option<u64>) -> Option<&'static str> {
    match free_inodes {
        _ if free_bytes < SPACE_BYTES_MIN => Some("space"),
        Some(left) if left < INODES_MIN => Some("inodes"),
        _ => None,
    }
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Makes a folder and its missing parents, all with mode 0700.
///
/// # Errors
/// The file system's.
pub fn make_private_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn folder_name(name: &str) -> String {
    encode_component(name).replace('+', "-.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_state_folder_is_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(&folder.path().join("a/swarm")).expect("a state folder");
        for relative in ["", "bases", "trash"] {
            let mode = state.path(relative).metadata().expect("made by open").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{relative:?}");
        }
    }

    #[test]
    fn the_folder_of_an_attempt_has_no_byte_that_a_mount_option_would_need_escaped() {
        let attempt = |name: &str| StateDir::attempt(&RunId("r-1".into()), &InstanceId(name.into()), Attempt(2));
        assert_eq!(attempt("t[os=a,b]"), "runs/r-1/t-.5Bos-.3Da-.2Cb-.5D/2");
        assert_eq!(attempt("a-.5B"), "runs/r-1/a--.2E5B/2");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
        assert!(["é\n", ":", "\\,", "../x", "a..b"].iter().all(|name| attempt(name).bytes().all(plain)));
    }

    #[test]
    fn a_disk_is_full_when_either_is_gone() {
        assert_eq!(lack(4096, Some(7)), Some("space"));
        assert_eq!(lack(1 << 30, Some(0)), Some("inodes"));
        assert_eq!((lack(1 << 30, Some(INODES_MIN)), lack(1 << 30, None)), (None, None));
    }

    #[test]
    fn a_lock_is_free_again_when_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(folder.path()).expect("a state folder");
        drop(state.lock("bases/x").expect("the first"));
        drop(state.lock("bases/x").expect("the second"));
    }
}
