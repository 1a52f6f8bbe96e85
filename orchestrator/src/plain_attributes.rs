//! What is handed over, without what no digest of it counts: the mode bits that are not canonical, and extended attributes. Who
//! is shown such a folder sees names, contents, links and which files are executable, whoever made it and on whichever day; else a result
//! that was recorded as following from these would follow from more. Times stay, and how many names a file has.
//!
//! The folder was written by a worker. It is walked by descriptors, no link is followed, and nothing but files and folders is touched:
//! what is neither cannot be part of a recorded result at all.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::collect::display_path;

/// Of files that their owner may not execute.
const FILE: Mode = Mode::from_raw_mode(0o644);
/// Of folders, and of files that their owner may execute. What lies around a folder that was handed over is private.
const FOLDER: Mode = Mode::from_raw_mode(0o755);

/// Folders within each other; as many as [`crate::collect::CollectLimits`] allows in a worktree.
pub(crate) const DEPTH_MAX: usize = 128;

/// Files and folders that are looked at; as many as there.
const ENTRIES_MAX: u64 = 1_000_000;

/// Bytes of the names of one file's attributes. Source: xattr(7), `XATTR_LIST_MAX`.
const NAMES_BYTES_MAX: usize = 65_536;

/// Attributes that a job without capabilities can set, beside those of `user.`. What lies there of others (a file's capabilities, labels
/// of the machine) no job has set, and who has no capabilities either cannot remove it. Source: xattr(7), acl(5), capabilities(7).
const SETTABLE: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Why a folder cannot be handed over as it is.
#[derive(Debug, thiserror::Error)]
#[error("take the attributes from `{path}`: {source}")]
pub struct NotPlain {
    /// From the folder on, its name included; for people.
    path: String,
    /// The file system's word, or `InvalidData` for a folder that is too much.
    pub source: io::Error,
}

/// Gives all files and folders of `folder`, itself among them, canonical modes and no attributes.
///
/// # Errors
/// [`NotPlain`] for the first that cannot have them: some may be done. Also where `folder` is a link or none.
pub fn make_plain(folder: &Path) -> Result<(), NotPlain> {
    let path = folder.file_name().unwrap_or_default().as_bytes().to_vec();
    let mut walk = Walk { entries: 0, names: vec![0; NAMES_BYTES_MAX], path };
    walk.root(folder).map_err(|source| NotPlain { path: display_path(&walk.path), source })
}

struct Walk {
    entries: u64,
    /// Room for the names of one file's attributes.
    names: Vec<u8>,
    /// Where the walk stands, from the folder on; with `/`.
    path: Vec<u8>,
}

impl Walk {
    fn root(&mut self, folder: &Path) -> io::Result<()> {
        let folder = rustix::fs::openat(CWD, folder, in_place() | OFlags::DIRECTORY, Mode::empty())?;
        self.folder(folder.as_fd(), 0)
    }

    fn folder(&mut self, folder: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(too_much(format!("folders lie more than {DEPTH_MAX} deep there")));
        }
        // Before it is read: its owner may have locked it.
        self.plain(folder, FOLDER)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = Dir::new(rustix::fs::openat(folder, ".", flags, Mode::empty())?)?;
        for entry in listed {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(too_much(format!("it holds more than {ENTRIES_MAX} files and folders")));
            }
            let above = self.path.len();
            self.path.extend(b"/".iter().chain(name.to_bytes()));
            let inner = rustix::fs::openat(folder, name, in_place(), Mode::empty())?;
            let mode = rustix::fs::fstat(&inner)?.st_mode;
            match FileType::from_raw_mode(mode) {
                FileType::Directory => self.folder(inner.as_fd(), depth + 1)?,
                FileType::RegularFile if mode & 0o100 != 0 => self.plain(inner.as_fd(), FOLDER)?,
                FileType::RegularFile => self.plain(inner.as_fd(), FILE)?,
                _ => {}
            }
            self.path.truncate(above);
        }
        Ok(())
    }

    /// One file or folder that is open, though perhaps for nothing: by its descriptor's name, which leads to it and nowhere else.
    fn plain(&mut self, file: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
        let at = format!("/proc/self/fd/{}", file.as_raw_fd());
        // First, because attributes are only taken from what may be written.
        if Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode) != mode {
            rustix::fs::chmod(at.as_str(), mode)?;
        }
        let length = match rustix::fs::listxattr(at.as_str(), &mut self.names[..]) {
            Err(Errno::OPNOTSUPP) => return Ok(()),
            length => length?,
        };
        for name in self.names[..length].split(|byte| *byte == 0) {
            if is_settable(name) {
                match rustix::fs::removexattr(at.as_str(), name) {
                    Err(Errno::NODATA) => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }
}

fn is_settable(attribute: &[u8]) -> bool {
    attribute.starts_with(b"user.") || SETTABLE.contains(&attribute)
}

/// The file of a name and no other, not opened for anything: whatever its mode, and without waiting for a pipe's other end.
fn in_place() -> OFlags {
    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn too_much(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().expect("it is there").permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    #[test]
    fn modes_and_attributes_that_no_digest_counts_are_taken_from_what_is_handed_over() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let outside = temporary.path().join("outside");
        fs::write(&outside, "o").expect("a file");
        set_mode(&outside, 0o600);
        let handed = temporary.path().join("handed");
        fs::create_dir_all(handed.join("deep/er")).expect("folders");
        for (name, mode) in [("plain", 0o600), ("run", 0o711), ("deep/er/odd", 0o6611), ("deep/locked", 0)] {
            fs::write(handed.join(name), name).expect("a file");
            set_mode(&handed.join(name), mode);
        }
        symlink(&outside, handed.join("link")).expect("a link");
        let set = |path: &str| rustix::fs::setxattr(handed.join(path), "user.k", b"v", rustix::fs::XattrFlags::empty());
        for path in ["", "run", "deep"] {
            match set(path) {
                Err(Errno::OPNOTSUPP) => {
                    swarm_protocol::skipped::say(format_args!("no `user.` attributes in {}", handed.display()));
                }
                set => set.expect("ours"),
            }
        }
        for folder in ["deep/er", "deep"] {
            set_mode(&handed.join(folder), 0o1300);
        }
        make_plain(&handed).expect("made");
        let modes =
            ["", "plain", "run", "deep", "deep/er", "deep/er/odd", "deep/locked"].map(|it| mode(&handed.join(it)));
        assert_eq!(modes.map(|mode| format!("{mode:o}")), ["755", "644", "755", "755", "755", "644", "644"]);
        for name in ["", "run", "deep"] {
            let mut names = [0; 1024];
            let length = match rustix::fs::listxattr(handed.join(name), &mut names[..]) {
                Err(Errno::OPNOTSUPP) => 0,
                length => length.expect("ours, and short"),
            };
            let left = names[..length].split(|byte| *byte == 0).find(|name| name.starts_with(b"user."));
            assert_eq!(left, None, "{name}");
        }
        assert_eq!((fs::read_link(handed.join("link")).expect("a link"), mode(&outside)), (outside, 0o600));
    }

    #[test]
    fn only_what_a_job_can_set_is_taken() {
        for (attribute, expected) in [
            (&b"user.k"[..], true),
            (b"system.posix_acl_access", true),
            (b"system.posix_acl_default", true),
            (b"security.capability", false),
            (b"security.selinux", false),
        ] {
            assert_eq!(is_settable(attribute), expected, "{}", String::from_utf8_lossy(attribute));
        }
    }

    #[test]
    fn what_is_no_folder_or_too_deep_is_refused_by_name() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let [handed, link] = ["handed", "link"].map(|name| temporary.path().join(name));
        let deepest = handed.join(vec!["d"; DEPTH_MAX].join("/"));
        fs::create_dir_all(&deepest).expect("folders");
        make_plain(&handed).expect("as deep as may be");
        fs::create_dir(deepest.join("e")).expect("a folder");
        let refused = make_plain(&handed).expect_err("too deep").to_string();
        assert!(refused.ends_with("d/e`: folders lie more than 128 deep there"), "{refused}");
        symlink(&handed, &link).expect("a link");
        assert!(make_plain(&link).is_err() && make_plain(&handed.join("none")).is_err());
    }

    #[test]
    fn what_is_neither_file_nor_folder_stays_as_it_is() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let fifo = temporary.path().join(OsStr::new("fifo"));
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        make_plain(temporary.path()).expect("made, without waiting for who writes into it");
        assert_eq!(mode(&fifo), 0o400);
    }
}
