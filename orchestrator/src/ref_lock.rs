//! Locks on refs: waiting for somebody else's, and removing what a dead writer left.
//!
//! Every git that writes a ref holds `NAME.lock` beside it for an instant, and git itself waits for that (git-config(1),
//! `core.filesRefLockTimeout`); libgit2 fails at once. A coordinator that is killed in that instant leaves the file for ever.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::{ErrorClass, ErrorCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock, inotify};

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a lock that was no file when it was looked for the write is tried again.
const UNSEEN_LOOK: Duration = Duration::from_millis(1);

/// How often a write is begun anew whose folder went away beneath it.
const FOLDERS_LOST_MAX: u32 = 64;

/// How often among them the folder is there when it is looked for: somebody else made it again, or it never was the reason.
const FOLDERS_BACK_MAX: u32 = 16;

/// Writes a ref that needs all of the lock files `locks`. While somebody else has one it is tried again, two seconds at most; and
/// at once where a lock's folder went away: a git that packs refs removes the folders that are empty then, between the moment at
/// which one is made for a lock and that at which the lock is. Source: git-pack-refs(1), and the files backend of git's refs, which
/// begins anew for the same reason. Whatever else fails (no space, no permission) is told at once.
///
/// # Errors
/// What `write` says; [`ErrorCode::Locked`] for a lock that stays.
pub fn patiently<T>(locks: &[PathBuf], mut write: impl FnMut() -> Result<T, git2::Error>) -> Result<T, git2::Error> {
    let deadline = Instant::now() + PATIENCE;
    let is_free_again = || match locks.iter().find(|lock| lock.exists()) {
        Some(lock) => wait(lock, deadline),
        // It went before it was looked at, or never was a file. Nothing tells when the next try may come to more.
        None => {
            std::thread::sleep(UNSEEN_LOOK);
            Instant::now() < deadline
        }
    };
    let (mut lost, mut back) = (0, 0);
    loop {
        match write() {
            Err(error) if error.code() == ErrorCode::Locked && is_free_again() => {}
            Err(error) if error.class() == ErrorClass::Os && lost < FOLDERS_LOST_MAX => match folders(locks) {
                Folders::Lost => lost += 1,
                // libgit2 tells no number of the error, and its text is nobody's business.
                Folders::There if back < FOLDERS_BACK_MAX => back += 1,
                Folders::There | Folders::Impossible => return Err(error),
            },
            written => return written,
        }
    }
}

/// What became of the folders that locks belong in.
enum Folders {
    /// One was missing, and could be made.
    Lost,
    /// They are all there.
    There,
    /// One is missing and cannot be made: that is why nothing could be written.
    Impossible,
}

fn folders(locks: &[PathBuf]) -> Folders {
    let lost = locks.iter().filter_map(|lock| lock.parent()).filter(|folder| !folder.is_dir());
    let mut state = Folders::There;
    for folder in lost {
        match fs::create_dir_all(folder) {
            // It may go again at once.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Folders::Impossible,
            _ => state = Folders::Lost,
        }
    }
    state
}

/// Which file a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Seen {
    fn of(about: &fs::Metadata) -> Seen {
        Seen { device: about.dev(), inode: about.ino(), changed: (about.ctime(), about.ctime_nsec()) }
    }
}

/// Waits until the lock file is gone, or until `deadline`; says whether to try again.
fn wait(lock: &Path, deadline: Instant) -> bool {
    let Some(folder) = lock.parent() else { return false };
    let Ok(watch) = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK) else { return false };
    // A lock ends as the ref's new file, or is removed.
    let ends = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM;
    if inotify::add_watch(&watch, folder, ends).is_err() {
        return Instant::now() < deadline;
    }
    let mut events = [0_u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // Looked at behind the watch: what ends from here on is told.
        if lock.symlink_metadata().is_err() {
            return true;
        }
        let Ok(left) = Timespec::try_from(left) else { return false };
        if poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&left)).is_err() {
            continue;
        }
        while rustix::io::read(&watch, &mut events).is_ok_and(|read| read > 0) {}
    }
}

/// Removes a lock whose writer is known to have died, unless a process has it open or it became another file meanwhile. Says
/// whether it is gone.
fn take_away(lock: &Path, seen: Seen) -> io::Result<bool> {
    let file = File::open(lock)?;
    // Of two who judge the same file one removes it; the other does not find it again.
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    if is_open_elsewhere(&file)? || Seen::of(&lock.symlink_metadata()?) != seen {
        return Ok(false);
    }
    fs::remove_file(lock)?;
    tracing::warn!(lock = %lock.display(), "a lock that a dead coordinator left was removed");
    Ok(true)
}

/// Removes the locks that a dead coordinator left: one lock, or all below a folder of refs that nobody else writes. That it
/// died while it had them, the caller knows: by its look alone a lock that waits in a git's hook is no other.
pub fn sweep(place: &Path) {
    let entries = ignore::WalkBuilder::new(place).standard_filters(false).build().flatten();
    let locks = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "lock"));
    for lock in locks.filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file())) {
        let taken = lock.path().symlink_metadata().and_then(|about| take_away(lock.path(), Seen::of(&about)));
        if let Err(error) = taken {
            tracing::warn!(lock = %lock.path().display(), %error, "a lock that a dead process left stays");
        }
    }
}

/// Whether a process that can be looked at has a file open, other than here.
fn is_open_elsewhere(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    let about = file.metadata()?;
    let here = format!("{}/fd/{}", std::process::id(), file.as_raw_fd());
    let is_process = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = fs::read_dir("/proc")?.flatten().filter(|entry| is_process(&entry.file_name()));
    let folders = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok());
    let mut open = folders.flatten().flatten().map(|entry| entry.path());
    Ok(open.any(|path| {
        !path.ends_with(&here)
            && fs::metadata(&path).is_ok_and(|one| (one.dev(), one.ino()) == (about.dev(), about.ino()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_lock_that_ends_is_waited_for_and_one_that_stays_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = folder.path().join("main.lock");
        assert!(wait(&lock, soon()), "there is none");
        fs::write(&lock, "").expect("a file");
        assert!(!wait(&lock, Instant::now()));
        let ending = lock.clone();
        let holder = std::thread::spawn(move || fs::rename(&ending, ending.with_extension("")));
        assert!(wait(&lock, soon()));
        holder.join().expect("it ends").expect("renamed");
    }

    #[test]
    fn a_lock_that_is_no_file_is_asked_for_no_more_than_once_a_millisecond() {
        let (folder, mut tries) = (tempfile::tempdir().expect("a folder"), 0);
        let written = patiently(&[folder.path().join("main.lock")], || {
            tries += 1;
            Err::<(), _>(git2::Error::new(ErrorCode::Locked, ErrorClass::Reference, "locked, whatever lies there"))
        });
        assert!(written.is_err_and(|error| error.code() == ErrorCode::Locked));
        assert!(tries <= 1 + PATIENCE.as_millis(), "{tries} tries");
    }

    #[test]
    fn a_write_whose_folder_goes_away_is_begun_anew_and_one_that_fails_otherwise_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (refs, file) = (folder.path().join("refs/task"), folder.path().join("file"));
        fs::write(&file, "").expect("space");
        let fails = |lock: PathBuf, times: u32, meanwhile: &dyn Fn()| {
            let mut tries = 0;
            let written = patiently(&[lock], || {
                tries += 1;
                meanwhile();
                let lost = git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, "failed to make a directory");
                if tries <= times { Err(lost) } else { Ok(()) }
            });
            (written.is_ok(), tries)
        };
        let goes = || drop(fs::remove_dir(&refs));
        assert_eq!(fails(refs.join("1.lock"), 3, &goes), (true, 4));
        assert_eq!(fails(refs.join("1.lock"), u32::MAX, &goes), (false, FOLDERS_LOST_MAX + 1));
        fs::create_dir_all(&refs).expect("a folder");
        assert_eq!(fails(refs.join("1.lock"), u32::MAX, &|| ()), (false, FOLDERS_BACK_MAX + 1), "it is there");
        assert_eq!(fails(file.join("task/1.lock"), u32::MAX, &|| ()), (false, 1), "it cannot be made");
    }

    /// Whether a lock is taken away after a change.
    fn is_taken(change: impl FnOnce(&Path)) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = folder.path().join("main.lock");
        fs::write(&lock, "").expect("a file");
        let seen = Seen::of(&lock.symlink_metadata().expect("it is there"));
        change(&lock);
        let taken = take_away(&lock, seen).expect("it can be looked at");
        assert_eq!(taken, !lock.exists());
        taken
    }

    #[test]
    fn of_a_run_all_locks_are_left_over_and_refs_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("task");
        fs::create_dir(&below).expect("a folder");
        ["1", "1.lock", "2.lock"].iter().for_each(|name| fs::write(below.join(name), "x").expect("a file"));
        sweep(folder.path());
        assert_eq!(fs::read_dir(&below).expect("it is there").count(), 1);
    }

    #[test]
    fn a_lock_is_not_left_over_while_somebody_has_it_open_or_when_it_is_another_file() {
        let (mut open, mut other) = (None, None);
        assert!(is_taken(|_| ()));
        assert!(!is_taken(|lock| open = File::options().write(true).open(lock).ok()));
        assert!(open.is_some());
        assert!(!is_taken(|lock| {
            fs::rename(lock, lock.with_extension("old")).expect("renamed");
            other = fs::write(lock, "").ok();
        }));
        assert!(other.is_some());
    }
}
