//! What a power cut left of the objects that were on their way to the disk: files that hold nothing, or the first part of what their
//! names say. No git writes an object whose name is there, and libgit2 goes round for ever in one that ends too early. So the store is
//! looked at before anything reads it, once a boot: every file that may have been on its way when the machine stopped is read whole, and
//! gets out of the way if it is not what it says.
//!
//! When that was done, and when something was found, is for [`super::seen`]. Within one boot nothing is lost: who goes on with a run
//! that was cut short, or fails at an object, looks again all the same.

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, Oid};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::loose::{self, Loose};
use super::seen::SeenFile;
use super::{Repository, RepositoryError};
use crate::boot::mounted;
use crate::clock::Clock;
use crate::tree::TreeError;

/// How much older than a look a file has to be to have been on the disk then. The kernel writes out what is half a minute old, and a
/// laptop's what is ten; and clocks are set.
/// Source: the kernel's admin-guide/sysctl/vm.rst, `dirty_expire_centisecs`, and laptop-mode.rst.
pub(super) const ON_DISK_AFTER_MS: u64 = 3_600_000;

/// Threads that read the store.
const THREADS_MAX: usize = 4;

/// What names begin with that git gives to objects which have none yet; its gc removes old ones. Source: git's builtin/prune.c.
const ASIDE: &str = "tmp_obj_";

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
        self.look(state, Clock::system().now_ms())
    }

    fn look(&self, state: &Path, now_ms: u64) -> Result<usize, RepositoryError> {
        let objects = self.common_dir.join("objects");
        let mount = mounted(&objects).map_err(|source| RepositoryError::Io { path: objects, source })?;
        let file = self.seen_file.get_or_init(|| SeenFile::of(state, &self.common_dir));
        let last = file.read(now_ms)?.unwrap_or_default();
        if last.mount == mount {
            self.seen_at_ms.store(last.at_ms, Ordering::Relaxed);
            return Ok(0);
        }
        let found = self.remove_damaged_since(last.at_ms)?;
        file.tell_looked(mount, now_ms, Clock::system().now_ms().max(now_ms))?;
        self.seen_at_ms.store(now_ms, Ordering::Relaxed);
        Ok(found)
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
        // What began in a time to come began by a clock that went wrong.
        let since_ms = if since_ms > Clock::system().now_ms() { 0 } else { since_ms };
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

    /// Moves a file that is not what its name says out of the way, once that is written down; says whether it was so. Somebody else may
    /// have done the same since it was looked at, and have written the object anew: what was moved is looked at once more, and goes
    /// back if it is whole.
    fn set_aside(&self, path: &Path, id: Oid) -> Result<bool, RepositoryError> {
        self.tell_found()?;
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

    /// Lets the next look find the machine started anew, at which everything was on the disk for long.
    fn start_anew(repository: &Repository, state: &Path, now_ms: u64, at_ms: u64) {
        SeenFile::of(state, repository.common_dir())
            .tell_looked("before".to_owned(), at_ms, now_ms)
            .expect("space for a word");
    }

    #[test]
    fn the_store_is_looked_at_once_a_boot() {
        let (fixture, repository, state) = fixture();
        let now_ms = Clock::system().now_ms();
        let long_after_ms = now_ms + 2 * ON_DISK_AFTER_MS;
        let look = |now_ms| repository.look(state.path(), now_ms).expect("legible");
        assert_eq!(look(now_ms), 0);
        let (id, path) = cut(&fixture, "HEAD:a", 9);
        assert_eq!((look(now_ms), path.exists()), (0, true), "within a boot nothing is lost");
        assert!(!repository.lost_objects_since(state.path(), 0).expect("legible"));
        start_anew(&repository, state.path(), long_after_ms, long_after_ms);
        repository.seen_at_ms.store(long_after_ms, Ordering::Relaxed);
        assert_eq!((look(long_after_ms), path.exists()), (0, true), "it was on the disk long before");
        repository.seen_at_ms.store(0, Ordering::Relaxed);
        start_anew(&repository, state.path(), now_ms, now_ms);
        assert_eq!((look(now_ms), path.exists()), (1, false));
        assert!(repository.lost_objects_since(state.path(), now_ms).expect("legible"));
        assert!(!repository.lost_objects_since(state.path(), u64::MAX).expect("legible"));
        assert_eq!(
            std::fs::read(path.with_file_name(format!("tmp_obj_{}", &id.to_string()[2..]))).expect("kept").len(),
            9
        );
        assert_eq!(look(now_ms), 0);
    }

    #[test]
    fn a_look_by_a_clock_that_went_wrong_is_none() {
        let (fixture, repository, state) = fixture();
        let now_ms = Clock::system().now_ms();
        let (_, path) = cut(&fixture, "HEAD:a", 9);
        start_anew(&repository, state.path(), u64::MAX, now_ms + 2 * ON_DISK_AFTER_MS);
        assert_eq!((repository.look(state.path(), now_ms).expect("legible"), path.exists()), (1, false));
        let (_, path) = cut(&fixture, "HEAD:d/b", 9);
        assert_eq!(repository.remove_damaged_since(u64::MAX).expect("legible"), 1, "a run that is still to begin");
        assert!(!path.exists());
    }

    #[test]
    fn whoever_finds_something_writes_it_down_before_it_gets_out_of_the_way() {
        let (fixture, repository, state) = fixture();
        repository.look_after_power_cut(state.path()).expect("legible");
        let is_told = || repository.lost_objects_since(state.path(), 0).expect("legible");
        let file = SeenFile::of(state.path(), repository.common_dir());
        let stores = state.path().join("stores");
        let (_, path) = cut(&fixture, "HEAD:a", 9);
        std::fs::remove_dir_all(&stores).and_then(|()| std::fs::write(&stores, "")).expect("ours");
        assert!(repository.remove_damaged().is_err() && path.exists(), "what cannot be written down stays");
        std::fs::remove_file(&stores).expect("ours");
        assert!(!is_told());
        // A sweep that gets no further than to this folder of the store.
        assert_eq!(repository.remove_damaged_in(path.parent().expect("a folder"), 0).expect("legible"), 1);
        assert!(is_told() && !path.exists());
        assert_eq!(file.read(u64::MAX).expect("legible").expect("told").mount, "", "it is to be looked through yet");
        repository.look_after_power_cut(state.path()).expect("legible");
        assert!(is_told(), "a look takes nothing back");
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
