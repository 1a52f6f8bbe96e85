//! The folder that a result handed over: its digest, and the same files under another name. Nothing runs any more that
//! could write there, so what is seen once stays so; links are never followed.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::key::{Digest, Mix};
use crate::plain_attributes::make_plain;
use crate::state::make_private_dir_all;

/// Bytes of one result's artifacts; a result with more is not recorded.
pub const BYTES_MAX: u64 = 512 << 20;

/// Files and folders of one result's artifacts; a result with more is not recorded.
pub const ENTRIES_MAX: u64 = 20_000;

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Of names, kinds, the executable bit and contents.
    pub digest: Digest,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// What a folder holds; `None` when that is nothing, or there is no folder.
///
/// # Errors
/// The file system's, and `InvalidData` for what cannot be recorded: too much, or something that is neither file, folder
/// nor symbolic link.
pub fn contents(folder: &Path) -> io::Result<Option<Contents>> {
    let mut walk = Walk { mix: Mix::new("folder"), bytes: 0, entries: 0 };
    match walk.folder(folder, b"") {
        Ok(()) if walk.entries == 0 => Ok(None),
        Ok(()) => Ok(Some(Contents { digest: walk.mix.done(), bytes: walk.bytes })),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

struct Walk {
    mix: Mix,
    bytes: u64,
    entries: u64,
}

impl Walk {
    fn folder(&mut self, folder: &Path, below: &[u8]) -> io::Result<()> {
        for (name, metadata) in entries(folder)? {
            let path = folder.join(&name);
            let inner = [below, b"/", name.as_bytes()].concat();
            self.entries += 1;
            self.bytes += if metadata.is_file() { metadata.len() } else { 0 };
            if self.entries > ENTRIES_MAX || self.bytes > BYTES_MAX {
                return Err(too_large());
            }
            match kind(&metadata)? {
                Kind::Folder => {
                    self.mix.add("folder", &inner);
                    self.folder(&path, &inner)?;
                }
                Kind::Link => {
                    let target = std::fs::read_link(&path)?;
                    self.mix.list("link", [inner.as_slice(), target.as_os_str().as_bytes()]);
                }
                Kind::File => {
                    let mut content = blake3::Hasher::new();
                    io::copy(&mut std::fs::File::open(&path)?, &mut content)?;
                    let executable: &[u8] = if metadata.mode() & 0o100 != 0 { b"x" } else { b"-" };
                    self.mix.list("file", [inner.as_slice(), executable, content.finalize().as_bytes()]);
                }
            }
        }
        Ok(())
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is too large to be recorded")
}

enum Kind {
    Folder,
    File,
    Link,
}

fn kind(metadata: &Metadata) -> io::Result<Kind> {
    match metadata.file_type() {
        kind if kind.is_dir() => Ok(Kind::Folder),
        kind if kind.is_file() => Ok(Kind::File),
        kind if kind.is_symlink() => Ok(Kind::Link),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it holds something that is neither file, folder nor link"))
        }
    }
}

/// Of one folder, by name. A folder with more than the artifacts of a result is not listed to its end.
fn entries(folder: &Path) -> io::Result<Vec<(std::ffi::OsString, Metadata)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if all.len() as u64 == ENTRIES_MAX {
            return Err(too_large());
        }
        all.push((entry.file_name(), entry.path().symlink_metadata()?));
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}

/// An empty folder of that name, whatever stood there before.
///
/// # Errors
/// The file system's.
pub fn fresh(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make_private_dir_all(folder)
}

/// The same files in another folder of the same file system, which exists: files are shared, folders and links made again.
///
/// # Errors
/// The file system's.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    for (name, metadata) in entries(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        match kind(&metadata)? {
            Kind::Folder => {
                make_private_dir_all(&target)?;
                link(&source, &target)?;
            }
            Kind::Link => std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?,
            Kind::File => std::fs::hard_link(&source, &target)?,
        }
    }
    Ok(())
}

/// The same files in another folder, which is made anew, where they are those of a digest (hex); whether they are. They are looked at
/// where they were linked to: what they were linked from somebody else may put something else in the place of at any moment. Nothing
/// is left in `to` of others.
///
/// # Errors
/// The file system's.
pub fn taken(from: &Path, to: &Path, digest: &str) -> io::Result<bool> {
    fresh(to)?;
    match link(from, to) {
        // It is not there, or not there any more.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        linked => linked?,
    }
    // As they are where they were made: who needs them cannot tell.
    make_plain(to).map_err(io::Error::other)?;
    let is_it = contents(to)?.is_some_and(|contents| contents.digest.to_string() == digest);
    if !is_it {
        fresh(to)?;
    }
    Ok(is_it)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_linked_folder_has_the_same_contents_and_an_empty_one_has_none() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let [from, to] = ["from", "to"].map(|name| temporary.path().join(name));
        assert_eq!(contents(&from).expect("no folder"), None);
        std::fs::create_dir_all(from.join("inner")).expect("a folder");
        std::fs::write(from.join("inner/file"), "12345").expect("a file");
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).expect("a link");
        let before = contents(&from).expect("legible").expect("something");
        assert_eq!(before.bytes, 5);
        fresh(&to).and_then(|()| link(&from, &to)).expect("linked");
        assert_eq!(contents(&to).expect("legible"), Some(before));
        std::fs::remove_file(to.join("inner/file")).expect("removed");
        assert_ne!(contents(&to).expect("legible"), Some(before));
        fresh(&to).expect("emptied");
        assert_eq!(contents(&to).expect("legible"), None);
    }

    #[test]
    fn what_is_taken_is_judged_where_it_was_taken_to() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let [from, to] = ["from", "to"].map(|name| temporary.path().join(name));
        std::fs::create_dir(&from).and_then(|()| std::fs::write(from.join("file"), "1")).expect("a file");
        let digest = contents(&from).expect("legible").expect("something").digest.to_string();
        for (path, mode) in [(from.join("file"), 0o666), (from.clone(), 0o700)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
        }
        assert!(taken(&from, &to, &digest).expect("linked") && to.join("file").exists());
        let mode = |path: &Path| path.metadata().expect("it is there").mode() & 0o7777;
        assert_eq!((mode(&to.join("file")), mode(&to)), (0o644, 0o755), "as what was just made");
        std::fs::write(from.join("more"), "2").expect("a file");
        assert!(!taken(&from, &to, &digest).expect("linked"));
        assert_eq!(contents(&to).expect("legible"), None, "nothing of it stays");
        assert!(!taken(&temporary.path().join("none"), &to, &digest).expect("no folder is no error"));
    }

    #[test]
    fn a_folder_of_too_much_is_not_listed_to_its_end() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        for number in 0..=ENTRIES_MAX {
            std::fs::write(temporary.path().join(number.to_string()), "").expect("a file");
        }
        assert_eq!(entries(temporary.path()).expect_err("too many").kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(temporary.path().join("0")).expect("ours");
        assert_eq!(entries(temporary.path()).expect("as many as may be").len() as u64, ENTRIES_MAX);
    }

    #[test]
    fn what_is_no_file_cannot_be_recorded() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let at = temporary.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("made");
        let error = contents(temporary.path()).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
