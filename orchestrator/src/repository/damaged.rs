//! What a power cut left of the objects that were on their way to the disk: files that hold nothing, or the first part of what their
//! names say. No git writes an object whose name is there, and libgit2 goes round for ever in one that ends too early. So the store is
//! looked at before anything reads it, once a boot: every file that may have been on its way when the machine stopped is read whole, and
//! gets out of the way if it is not what it says.
//!
//! When that was done, and when something was found, is written down in the state folder. Within one boot nothing is lost: who goes on
//! with a run that was cut short, or fails at an object, looks again all the same.

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, Oid};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::loose::{self, Loose};
use super::{Repository, RepositoryError};
use crate::boot::mounted;
use crate::clock::Clock;
use crate::state::{make_private_dir_all, write_whole};
use crate::tree::TreeError;

/// How much older than a look a file has to be to have been on the disk then. The kernel writes out what is half a minute old, and a
/// laptop's what is ten; and clocks are set.
/// Source: the kernel's admin-guide/sysctl/vm.rst, `dirty_expire_centisecs`, and laptop-mode.rst.
const ON_DISK_AFTER_MS: u64 = 3_600_000;

/// Threads that read the store.
const THREADS_MAX: usize = 4;

/// What names begin with that git gives to objects which have none yet; its gc removes old ones. Source: git's builtin/prune.c.
const ASIDE: &str = "tmp_obj_";

/// What was seen of an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    version: u32,
    /// In which boot of the machine, and mount of the store's file system.
    mount: String,
    /// When the first look of it began, in milliseconds since the Unix epoch.
    at_ms: u64,
    /// When something was found last, whether in this boot or in an earlier one.
    found_at_ms: Option<u64>,
}

/// The version of [`Seen`].
const VERSION: u32 = 1;

/// Bytes from which on a file is not read again while it is the one that was whole: a result is looked at when it is kept, when it is
/// folded, and when it lands.
const LARGE_BYTES: u64 = 256 << 10;

/// Files that are known so.
const KNOWN_MAX: usize = 10_000;

/// By which a large file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    number: u64,
    bytes: u64,
    /// When it changed, in seconds and nanoseconds since the Unix epoch.
    changed: (i64, i64),
}

impl Inode {
    fn of(path: &Path) -> Option<Inode> {
        let file = path.symlink_metadata().ok().filter(|file| file.len() >= LARGE_BYTES)?;
        Some(Inode { number: file.ino(), bytes: file.len(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}

impl Repository {
    /// Looks at the store once a boot, and says how many files got out of the way. Below `state` is written down that it was done.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when the store, or what is known of it, cannot be read or written.
    pub fn look_after_power_cut(&self, state: &Path) -> Result<usize, RepositoryError> {
        let objects = self.common_dir.join("objects");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RepositoryError::Io { path, source }
        };
        let mount = mounted(&objects).map_err(io(&objects))?;
        let (path, at_ms) = (self.seen_path(state), Clock::system().now_ms());
        let last = self.seen(state)?;
        if let Some(last) = last.as_ref().filter(|last| last.mount == mount) {
            self.seen_at_ms.store(last.at_ms, Ordering::Relaxed);
            return Ok(0);
        }
        let found = self.remove_damaged_since(last.as_ref().map_or(0, |last| last.at_ms))?;
        let found_at_ms = if found > 0 { Some(at_ms) } else { last.and_then(|last| last.found_at_ms) };
        let seen = Seen { version: VERSION, mount, at_ms, found_at_ms };
        let bytes = serde_json::to_vec(&seen).expect("it is plain data");
        let draft = path.with_extension(std::process::id().to_string());
        let folder = path.parent().expect("it has a name");
        let written = make_private_dir_all(folder).and_then(|()| write_whole(&path, &draft, 0o600, &bytes));
        written.map_err(io(&path))?;
        self.seen_at_ms.store(at_ms, Ordering::Relaxed);
        Ok(found)
    }

    /// Whether objects were found damaged since then, in milliseconds since the Unix epoch: what was there may not be there any more.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when what is known of the store cannot be read.
    pub(crate) fn lost_objects_since(&self, state: &Path, since_ms: u64) -> Result<bool, RepositoryError> {
        let found_at_ms = self.seen(state)?.and_then(|seen| seen.found_at_ms);
        Ok(found_at_ms.is_some_and(|at_ms| at_ms.saturating_add(ON_DISK_AFTER_MS) >= since_ms))
    }

    /// Removes the files of the repository's own store that hold nothing, and renames those that hold something else than their names
    /// say, of all that may have changed since it was looked at last. Says how many there were.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when the store cannot be read.
    pub(crate) fn remove_damaged(&self) -> Result<usize, RepositoryError> {
        self.remove_damaged_since(0)
    }

    /// The same of those among them that are younger than that, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// As of [`Repository::remove_damaged`].
    pub(crate) fn remove_damaged_since(&self, since_ms: u64) -> Result<usize, RepositoryError> {
        let since_ms = since_ms.max(self.seen_at_ms.load(Ordering::Relaxed));
        let objects = self.common_dir.join("objects");
        let since_s = i64::try_from(since_ms.saturating_sub(ON_DISK_AFTER_MS) / 1000).unwrap_or(i64::MAX);
        let folders = named(&objects, 2).map_err(|source| RepositoryError::Io { path: objects, source })?;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut removed = 0;
            while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
                removed += self.remove_damaged_in(folder, since_s)?;
            }
            Ok(removed)
        };
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
        std::thread::scope(|scope| {
            // This thread is one of them, and all where the system makes no other.
            let other = |_| std::thread::Builder::new().name("objects".to_owned()).spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(other).collect();
            let mine = work()?;
            others.into_iter().try_fold(mine, |sum, thread| {
                thread.join().expect("BUG: a thread that looks at objects panicked").map(|count: usize| sum + count)
            })
        })
    }

    fn remove_damaged_in(&self, folder: &Path, since_s: i64) -> Result<usize, RepositoryError> {
        let all = match named(folder, 38) {
            // A git that collects garbage takes empty folders away.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            all => all.map_err(|source| RepositoryError::Io { path: folder.to_owned(), source })?,
        };
        let first = folder.file_name().expect("it has a name").to_string_lossy().into_owned();
        let mut removed = 0;
        for path in all {
            // When its inode changed no program can set.
            let is_young = path.symlink_metadata().is_ok_and(|file| file.ctime() >= since_s);
            let rest = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            let Some(id) = Oid::from_str(&format!("{first}{rest}")).ok().filter(|_| is_young) else { continue };
            match loose::judge(&path, id) {
                Ok(Loose::Damaged | Loose::Void) => removed += usize::from(self.set_aside(&path, id)?),
                Ok(Loose::Whole | Loose::Absent) => {}
                // What nobody can read nobody takes for whole, and nobody knows to be damaged.
                Err(error) => tracing::warn!(%error, object = %path.display(), "an object cannot be read"),
            }
        }
        Ok(removed)
    }

    /// What the file of an object in the repository's own store is. One that is not what its name says is moved out of the way.
    pub(super) fn loose(&self, id: Oid) -> Result<Loose, git2::Error> {
        let path = self.loose_path(id);
        let inode = Inode::of(&path);
        let known = || self.known_whole.lock().unwrap_or_else(PoisonError::into_inner);
        if inode.is_some() && known().get(&id) == inode.as_ref() {
            return Ok(Loose::Whole);
        }
        match loose::judge(&path, id).map_err(|error| unreadable(&path, &error))? {
            Loose::Whole => {
                if let Some(inode) = inode {
                    let mut known = known();
                    if known.len() == KNOWN_MAX {
                        known.clear();
                    }
                    known.insert(id, inode);
                }
                Ok(Loose::Whole)
            }
            Loose::Damaged | Loose::Void => {
                self.set_aside(&path, id).map_err(|error| unreadable(&path, &error))?;
                Ok(Loose::Absent)
            }
            found => Ok(found),
        }
    }

    /// The bytes of a blob, which libgit2 is not asked for where they are a file of their own: what ends too early is said not to be
    /// there.
    ///
    /// # Errors
    /// [`TreeError::Malformed`] for what is no blob; libgit2's, [`ErrorCode::NotFound`] for one that is in no store.
    pub(crate) fn blob(&self, odb: &Odb<'_>, id: Oid) -> Result<Vec<u8>, TreeError> {
        let path = self.loose_path(id);
        match loose::body(&path, id).map_err(|error| unreadable(&path, &error))? {
            Ok((ObjectType::Blob, bytes)) => return Ok(bytes),
            Ok(_) => return Err(TreeError::Malformed(id)),
            Err(Loose::Absent) => {}
            Err(_) => drop(self.set_aside(&path, id).map_err(|error| unreadable(&path, &error))?),
        }
        let found = odb.read(id)?;
        if found.kind() != ObjectType::Blob {
            return Err(TreeError::Malformed(id));
        }
        Ok(found.data().to_vec())
    }

    /// Moves a file that is not what its name says out of the way; says whether that was so. Somebody else may have done the same
    /// since it was looked at, and have written the object anew: what was moved is looked at once more, and goes back if it is whole.
    fn set_aside(&self, path: &Path, id: Oid) -> Result<bool, RepositoryError> {
        let aside = path.with_file_name(format!("{ASIDE}{}", &id.to_string()[2..]));
        let moved = || -> io::Result<bool> {
            std::fs::rename(path, &aside)?;
            Ok(match loose::judge(&aside, id)? {
                Loose::Whole => {
                    match renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE) {
                        Err(rustix::io::Errno::EXIST) => std::fs::remove_file(&aside)?,
                        moved => moved?,
                    }
                    false
                }
                Loose::Void => std::fs::remove_file(&aside).map(|()| true)?,
                Loose::Damaged | Loose::Absent => true,
            })
        };
        match moved() {
            Ok(is_moved) => {
                if is_moved {
                    tracing::info!(object = %path.display(), "a file of the object store was not what its name says");
                }
                Ok(is_moved)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(RepositoryError::Io { path: path.to_owned(), source }),
        }
    }

    /// Where is written down what was seen of the store: the state folder may be that of several repositories.
    fn seen_path(&self, state: &Path) -> PathBuf {
        let name = blake3::hash(self.common_dir.as_os_str().as_bytes()).to_hex();
        state.join("stores").join(format!("{}.json", &name[..16]))
    }

    /// What was seen of the store; nothing where that is no sound word, as of an older swarm.
    fn seen(&self, state: &Path) -> Result<Option<Seen>, RepositoryError> {
        let path = self.seen_path(state);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|seen: &Seen| seen.version == VERSION)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RepositoryError::Io { path, source }),
        }
    }
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> git2::Error {
    git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, format!("read {}: {error}", path.display()))
}

/// What lies in a folder under a name of so many hexadecimal digits.
fn named(folder: &Path, digits: usize) -> io::Result<Vec<PathBuf>> {
    let is_hex = |name: &std::ffi::OsStr| name.len() == digits && name.as_bytes().iter().all(u8::is_ascii_hexdigit);
    let entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|it| is_hex(&it.file_name())).map(|it| it.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};

    /// A repository with a commit, and the folder of a state.
    fn fixture() -> (Fixture, Repository, tempfile::TempDir) {
        let fixture = Fixture::with_files(&[("a", "1"), ("d/b", "2")]);
        let repository = fixture.repository();
        (fixture, repository, tempfile::tempdir().expect("space"))
    }

    /// The file of an object, which is replaced by a part of itself.
    fn cut(fixture: &Fixture, revision: &str, bytes: usize) -> (Oid, PathBuf) {
        let id: Oid = git(fixture.path(), &["rev-parse", revision]).trim().parse().expect("an id");
        let path = fixture.repository().loose_path(id);
        let whole = std::fs::read(&path).expect("loose");
        std::fs::remove_file(&path).and_then(|()| std::fs::write(&path, &whole[..bytes])).expect("ours");
        (id, path)
    }

    #[test]
    fn the_store_is_looked_at_once_a_boot() {
        let (fixture, repository, state) = fixture();
        let look = || repository.look_after_power_cut(state.path()).expect("legible");
        assert_eq!(look(), 0);
        let (id, path) = cut(&fixture, "HEAD:a", 9);
        assert_eq!((look(), path.exists()), (0, true), "within a boot nothing is lost");
        assert!(!repository.lost_objects_since(state.path(), 0).expect("legible"));
        let seen =
            Seen { mount: "before".to_owned(), ..repository.seen(state.path()).expect("legible").expect("seen") };
        let write = |seen: &Seen| {
            std::fs::write(repository.seen_path(state.path()), serde_json::to_vec(seen).expect("plain")).expect("ours");
        };
        write(&Seen { at_ms: u64::MAX, ..seen.clone() });
        assert_eq!((look(), path.exists()), (0, true), "it was on the disk long before");
        repository.seen_at_ms.store(0, Ordering::Relaxed);
        write(&seen);
        assert_eq!((look(), path.exists()), (1, false));
        assert!(repository.lost_objects_since(state.path(), seen.at_ms).expect("legible"));
        assert!(!repository.lost_objects_since(state.path(), u64::MAX).expect("legible"));
        assert_eq!(
            std::fs::read(path.with_file_name(format!("tmp_obj_{}", &id.to_string()[2..]))).expect("kept").len(),
            9
        );
        assert_eq!(look(), 0);
    }

    #[test]
    fn what_is_written_down_of_a_look_is_read_again_and_anything_else_is_no_look() {
        let (_fixture, repository, state) = fixture();
        let path = repository.seen_path(state.path());
        std::fs::create_dir(path.parent().expect("a folder")).expect("space");
        let seen = || repository.seen(state.path()).expect("legible");
        let text = r#"{"version":1,"mount":"b 8:1 2","at_ms":5,"found_at_ms":null}"#;
        std::fs::write(&path, text).expect("space");
        assert_eq!(seen(), Some(Seen { version: 1, mount: "b 8:1 2".to_owned(), at_ms: 5, found_at_ms: None }));
        assert_eq!(serde_json::to_string(&seen()).expect("plain"), text);
        for other in ["", "\0\0", "{}", &text.replace(":1,", ":2,")] {
            std::fs::write(&path, other).expect("space");
            assert_eq!(seen(), None, "{other:?}");
        }
    }

    #[test]
    fn a_large_object_that_was_whole_is_known_until_its_file_changes() {
        let (fixture, repository, _) = fixture();
        let mut hash = blake3::hash(b"what does not get smaller");
        let next = |_| {
            hash = blake3::hash(hash.as_bytes());
            *hash.as_bytes()
        };
        let content: Vec<u8> = (0..LARGE_BYTES / 16).flat_map(next).collect();
        std::fs::write(fixture.path().join("large"), &content).expect("space");
        git(fixture.path(), &["add", "large"]);
        let id: Oid = git(fixture.path(), &["rev-parse", ":large"]).trim().parse().expect("an id");
        let path = repository.loose_path(id);
        let whole = std::fs::metadata(&path).expect("loose").len();
        assert!(whole > LARGE_BYTES);
        assert_eq!(repository.loose(id).expect("legible"), Loose::Whole);
        assert_eq!(repository.known_whole.lock().expect("sound").len(), 1);
        assert_eq!(repository.loose(id).expect("legible"), Loose::Whole);
        cut(&fixture, ":large", usize::try_from(whole - 1).expect("small"));
        assert_eq!(repository.loose(id).expect("legible"), Loose::Absent);
    }

    #[test]
    fn what_somebody_wrote_anew_meanwhile_stays() {
        let (fixture, repository, _) = fixture();
        let id: Oid = git(fixture.path(), &["rev-parse", "HEAD:a"]).trim().parse().expect("an id");
        let path = repository.loose_path(id);
        assert!(!repository.set_aside(&path, id).expect("ours"));
        assert_eq!(loose::judge(&path, id).expect("legible"), Loose::Whole);
        std::fs::remove_file(&path).expect("ours");
        assert!(!repository.set_aside(&path, id).expect("nothing is there"));
    }

    #[test]
    fn objects_are_told_from_what_is_none_wherever_they_lie_in_the_store() {
        let (fixture, repository, _) = fixture();
        assert_eq!(repository.remove_damaged().expect("legible"), 0);
        let other = repository.common_dir().join("objects/pack/empty");
        std::fs::write(&other, "").expect("space");
        let damaged = [("HEAD", 20), ("HEAD^{tree}", 0), ("HEAD:d", 9), ("HEAD:d/b", 3)];
        // What is named by way of another one is cut before that.
        let paths: Vec<PathBuf> =
            damaged.iter().rev().map(|(revision, bytes)| cut(&fixture, revision, *bytes).1).collect();
        assert_eq!(repository.remove_damaged().expect("legible"), paths.len());
        assert!(paths.iter().all(|path| !path.exists()) && other.exists());
        assert_eq!(repository.remove_damaged().expect("legible"), 0, "what lies aside is no object");
    }

    #[test]
    fn a_blob_that_ends_too_early_is_not_there_and_nobody_waits_for_it() {
        let (fixture, repository, _) = fixture();
        let git = repository.handle().expect("opens");
        let odb = git.odb().expect("a store");
        let tree = repository.tree_of(repository.resolve("HEAD").expect("a commit")).expect("its tree");
        let id = git.revparse_single("HEAD:a").expect("a blob").id();
        assert_eq!(repository.blob(&odb, id).expect("there"), b"1");
        assert!(matches!(repository.blob(&odb, tree), Err(TreeError::Malformed(_))));
        let (id, _) = cut(&fixture, "HEAD:a", 9);
        let said = repository.blob(&odb, id);
        assert!(matches!(&said, Err(TreeError::Store(error)) if error.code() == ErrorCode::NotFound), "{said:?}");
    }
}
