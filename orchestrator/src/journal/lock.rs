//! Who holds a run or a target. The lock is `flock(2)` on a small file: the kernel drops it when its holder dies, however
//! it dies, so a lock is never stale; the file's text says who holds it.
//!
//! Source: flock(2). The descriptor is close-on-exec, so workers never carry it on.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, inotify};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ids::{RunId, branch_of, encode_component};
use crate::state::{StateDir, make_private_dir_all};

/// How long a lock may outlive its holder; the child that keeps it needs microseconds, and much longer on a machine that is
/// busy with other things.
const LEFTOVER_MAX: Duration = Duration::from_secs(5);

/// How long the word of a holder is waited for that is about to write it.
const WORD_MAX: Duration = Duration::from_secs(1);

/// How often a lock is taken anew whose file was taken away meanwhile.
const TAKEN_AWAY_MAX: u32 = 16;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    path: PathBuf,
    /// Who had it before, as far as its file still tells.
    before: Option<Holder>,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The coordinator's process id.
    pub pid: u32,
    /// When it took the lock, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What it works on, for people.
    pub what: String,
    /// The run that it works on; none while that has no name yet.
    #[serde(default)]
    pub run: Option<RunId>,
    /// The state folder of that run, where that is not the one of whoever reads this, or may be another.
    #[serde(default)]
    pub state: Option<PathBuf>,
    /// When the process was started, in clock ticks since the machine was: with its id the name of one process only.
    #[serde(default)]
    pub started_ticks: u64,
    /// Whether it is moving the target at this moment.
    #[serde(default)]
    pub moving: bool,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another coordinator works on it (exit code 8).
    #[error("{}", held_text(holder.as_ref()))]
    Held {
        /// Who, when its file is legible.
        holder: Option<Holder>,
    },
    /// The file cannot be made or locked.
    #[error("lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Said aloud, because closing is not enough: a child of another thread has a copy of the descriptor between its
        // fork and its exec, and the lock lives as long as the last copy. It can only fail for a bad descriptor.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn held_text(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { what, pid, run: Some(run), .. }) if *what != run_word(run) => {
            format!("another coordinator works on {what} for {run} (process {pid})")
        }
        Some(Holder { what, pid, .. }) => format!("another coordinator works on {what} (process {pid})"),
        None => "another coordinator works on it".to_owned(),
    }
}

fn run_word(run: &RunId) -> String {
    format!("run {run}")
}

impl RunLock {
    /// Takes the lock of a run, at `<state>/runs/<run>/lock`.
    ///
    /// # Errors
    /// [`LockError::Held`]: wait for the holder or end it. [`LockError::Io`]: the state folder is not writable.
    pub fn of_run(state: &Path, run: &RunId, now_ms: u64) -> Result<Self, LockError> {
        take(&run_lock_path(state, run), &run_word(run), Some(run), now_ms)
    }

    /// Takes the lock of a target branch, named by its full ref. It lies in the repository, at `<git common dir>/swarm/locks/`,
    /// so that coordinators with different state folders meet there.
    ///
    /// # Errors
    /// As [`RunLock::of_run`].
    pub fn of_target(common_dir: &Path, target: &str, now_ms: u64) -> Result<Self, LockError> {
        let path = common_dir.join("swarm/locks").join(encode_component(target));
        take(&path, &format!("branch {}", branch_of(target)), None, now_ms)
    }

    /// Takes the lock of a checkout that is about to be written, in its folder of the repository.
    ///
    /// # Errors
    /// As [`RunLock::of_run`].
    pub fn of_checkout(folder: &Path, now_ms: u64) -> Result<Self, LockError> {
        take(&folder.join("lock"), "this checkout", None, now_ms)
    }

    /// Gives the lock's file a second name, which must be free.
    ///
    /// # Errors
    /// The file system's, [`std::io::ErrorKind::AlreadyExists`] among them.
    pub fn put_at(&self, name: &Path) -> std::io::Result<()> {
        std::fs::hard_link(&self.path, name)
    }

    /// Whether a name is one of the lock's file.
    ///
    /// # Errors
    /// The file system's; a name of nothing is none.
    pub fn is_at(&self, name: &Path) -> std::io::Result<bool> {
        is_named(&self.file, name)
    }

    /// Writes into the lock of a target for which run of which state folder it is held, once that has its name.
    ///
    /// # Errors
    /// [`LockError::Io`]; the lock is still held.
    pub fn name_run(&self, run: &RunId, state: &Path) -> Result<(), LockError> {
        let Some(holder) = read_holder(&self.file) else { return Ok(()) };
        let holder = Holder { run: Some(run.clone()), state: Some(state.to_owned()), ..holder };
        write_holder(&self.file, &holder).map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    /// Says that somebody uses the state folder's bases and layers, at `<state>/in-use`. Any number of coordinators hold it
    /// at once; [`RunLock::of_idle_state`] waits for none and gets it only alone.
    ///
    /// # Errors
    /// [`LockError::Io`]. Waits while somebody cleans, which is bounded by the removal of what lies there.
    pub fn of_state(state: &Path) -> Result<Self, LockError> {
        let path = state.join("in-use");
        let file = open_lock(&path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared))
            .map_err(|error| LockError::Io { path: path.clone(), source: error.into() })?;
        Ok(RunLock { file, path, before: None })
    }

    /// Whether the holder before died while it moved the target: what it left of a lock on the ref is nobody's.
    pub fn was_moving(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.moving)
    }

    /// Writes into the lock of a target whether it is being moved now.
    ///
    /// # Errors
    /// [`LockError::Io`]; the lock is still held.
    pub fn set_moving(&self, moving: bool) -> Result<(), LockError> {
        let Some(holder) = read_holder(&self.file) else { return Ok(()) };
        // On the disk before the branch's own lock is: what a power cut leaves of that is only known for ours by this word.
        write_holder(&self.file, &Holder { moving, ..holder })
            .and_then(|()| self.file.sync_data())
            .map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    /// The state folder, when no coordinator uses it.
    ///
    /// # Errors
    /// As [`RunLock::of_run`].
    pub fn of_idle_state(state: &Path) -> Result<Self, LockError> {
        let path = state.join("in-use");
        let file = open_lock(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RunLock { file, path, before: None }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { holder: None }),
            Err(error) => Err(LockError::Io { path, source: error.into() }),
        }
    }

    /// Who works on a run now; `None` when nobody does.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn holder_of_run(state: &Path, run: &RunId) -> Result<Option<Holder>, LockError> {
        let path = run_lock_path(state, run);
        let io = |source| LockError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        // Shared, so that two who look do not see each other; a run's lock is taken before anybody can know its name,
        // so looking never gets in the way of taking.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(read_holder(&file).unwrap_or(Holder {
                pid: 0,
                since_ms: 0,
                what: run_word(run),
                run: Some(run.clone()),
                state: None,
                started_ticks: 0,
                moving: false,
            }))),
            Err(error) => Err(io(error.into())),
        }
    }
}

/// The folder of all that a run writes outside of the journal.
pub fn run_dir(state: &Path, run: &RunId) -> PathBuf {
    state.join(StateDir::run(run))
}

/// The run that the lock in a folder of a run names, whether somebody holds it or not.
pub(super) fn last_run_of(folder: &Path) -> Option<RunId> {
    read_holder(&File::open(folder.join("lock")).ok()?)?.run
}

fn run_lock_path(state: &Path, run: &RunId) -> PathBuf {
    run_dir(state, run).join("lock")
}

fn open_lock(path: &Path) -> Result<File, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        make_private_dir_all(folder).map_err(io)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)
}

fn is_named(file: &File, name: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let here = file.metadata()?;
    match name.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (here.dev(), here.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn take(path: &Path, what: &str, run: Option<&RunId>, now_ms: u64) -> Result<RunLock, LockError> {
    take_within(path, what, run, now_ms, LEFTOVER_MAX)
}

/// Takes a lock; one whose holder is known to be dead is waited for.
///
/// A coordinator that is killed while it starts a worker leaves a child with a copy of the descriptor, which ends with the
/// child's exec: the lock outlives its holder by that.
fn take_within(
    path: &Path,
    what: &str,
    run: Option<&RunId>,
    now_ms: u64,
    longest: Duration,
) -> Result<RunLock, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    // Who cleans takes a run's folder away with its lock: one that has its name no longer keeps nobody out.
    let mut locked = (0..TAKEN_AWAY_MAX).map(|_| {
        let file = locked_file(path, longest)?;
        Ok(is_named(&file, path).map_err(io)?.then_some(file))
    });
    let taken_away = || io(std::io::Error::other("it is taken away again and again"));
    let file = locked.find_map(Result::transpose).unwrap_or_else(|| Err(taken_away()))?;
    let pid = std::process::id();
    let started_ticks = started_ticks(pid).unwrap_or(0);
    let before = read_holder(&file);
    let (what, run) = (what.to_owned(), run.cloned());
    // What the one before was in the midst of stays written until it is put in order.
    let moving = before.as_ref().is_some_and(|before| before.moving);
    let holder = Holder { pid, since_ms: now_ms, what, run, state: None, started_ticks, moving };
    write_holder(&file, &holder).map_err(io)?;
    Ok(RunLock { file, path: path.to_owned(), before })
}

/// The lock's file as it is opened now, locked.
fn locked_file(path: &Path, longest: Duration) -> Result<File, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    let file = open_lock(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            let holder = awaited_holder(&file, path);
            let is_free = match &holder {
                Some(holder) => !holder.lives() && comes_free(&file, longest).map_err(io)?,
                // Who died before it wrote has let go.
                None => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
            };
            if is_free { Ok(file) } else { Err(LockError::Held { holder: read_holder(&file).or(holder) }) }
        }
        Err(error) => Err(io(error.into())),
    }
}

/// Waits for a lock, not for ever; whether it was taken. flock(2) has no wait with an end, so another thread waits: on a copy
/// of the descriptor, whose lock is this one's. When the time is over it goes on waiting, and lets go at once.
fn comes_free(file: &File, longest: Duration) -> std::io::Result<bool> {
    let copy = file.try_clone()?;
    let (sender, taken) = std::sync::mpsc::sync_channel(0);
    let wait = move || {
        let locked = rustix::io::retry_on_intr(|| rustix::fs::flock(&copy, FlockOperation::LockExclusive));
        let is_locked = locked.is_ok();
        if sender.send(locked).is_err() && is_locked {
            // Nobody wants it any more. It can only fail for a bad descriptor.
            let _ = rustix::fs::flock(&copy, FlockOperation::Unlock);
        }
    };
    std::thread::Builder::new().name("lock".to_owned()).stack_size(128 << 10).spawn(wait)?;
    match taken.recv_timeout(longest) {
        Ok(locked) => Ok(locked.map(|()| true)?),
        Err(_) => Ok(false),
    }
}

fn write_holder(mut file: &File, holder: &Holder) -> std::io::Result<()> {
    let text = serde_json::to_vec(holder).expect("a holder has string keys only");
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

/// When a process was started, in clock ticks since the machine was; `None` when there is none of that id, or when it has
/// ended and only its parent has not noticed.
/// Source: proc_pid_stat(5), fields 3 and 22, counted behind the name in parentheses, which may hold anything.
pub fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok()).flatten()
}

impl LockError {
    /// The same for who works with that state folder: a run that lies there needs no place to be named.
    pub fn seen_from(self, own: &Path) -> Self {
        match self {
            LockError::Held { holder: Some(holder) } => {
                let state = holder.state.filter(|state| state != own);
                LockError::Held { holder: Some(Holder { state, ..holder }) }
            }
            other => other,
        }
    }
}

impl Holder {
    /// Whether the very process that took the lock lives on this machine.
    fn lives(&self) -> bool {
        started_ticks(self.pid) == Some(self.started_ticks)
    }
}

/// What the holder wrote; `None` in the instant between its taking the lock and its writing.
fn read_holder(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The same, waited for while it is being written: behind the taking, and whenever the holder has something new to say. `None` where
/// nobody wrote in time.
fn awaited_holder(file: &File, path: &Path) -> Option<Holder> {
    if let Some(holder) = read_holder(file) {
        return Some(holder);
    }
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).ok()?;
    let deadline = Instant::now() + WORD_MAX;
    let mut events = [0_u8; 4096];
    loop {
        // Read behind the watch: what is written from here on is told.
        if let Some(holder) = read_holder(file) {
            return Some(holder);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        match poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&Timespec::try_from(left).ok()?)) {
            Ok(_) | Err(Errno::INTR) => while rustix::io::read(&watch, &mut events).is_ok_and(|read| read > 0) {},
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_meets_a_lock_that_was_just_taken_hears_whose_it_is() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let file = open_lock(&path).expect("a file");
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).expect("free");
        let watched = format!("inotify wd:1 ino:{:x} ", file.metadata().expect("it is open").ino());
        let is_waited_for = || {
            let all = std::fs::read_dir("/proc/self/fdinfo").expect("proc_pid_fdinfo(5)").flatten();
            all.filter_map(|fd| std::fs::read_to_string(fd.path()).ok()).any(|text| text.contains(&watched))
        };
        let pid = std::process::id();
        let started_ticks = started_ticks(pid).expect("it lives");
        let (what, run, state) = ("it".to_owned(), None, None);
        let own = Holder { pid, since_ms: 7, what, run, state, started_ticks, moving: false };
        std::thread::scope(|scope| {
            let meets = scope.spawn(|| take(&path, "it", None, 8));
            while !is_waited_for() && !meets.is_finished() {
                std::thread::yield_now();
            }
            write_holder(&file, &own).expect("writable");
            let met = meets.join().expect("no panic").expect_err("it is held");
            assert!(matches!(&met, LockError::Held { holder: Some(holder) } if *holder == own), "{met:?}");
        });
    }

    #[test]
    fn a_second_holder_is_told_about_the_first() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let run = RunId("demo-1".to_owned());
        let held = RunLock::of_run(state.path(), &run, 7).expect("free");
        match RunLock::of_run(state.path(), &run, 8) {
            Err(LockError::Held { holder: Some(holder) }) => {
                assert_eq!((holder.pid, holder.since_ms), (std::process::id(), 7));
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
        let seen = RunLock::holder_of_run(state.path(), &run).expect("legible").expect("held");
        assert_eq!(seen.what, "run demo-1");
        drop(held);
        assert_eq!(RunLock::holder_of_run(state.path(), &run).expect("legible"), None);
        RunLock::of_run(state.path(), &run, 9).expect("free again");
    }

    #[test]
    fn a_lock_that_outlives_its_holder_is_waited_for_and_a_living_holder_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let left = take(&path, "it", None, 1).expect("free");
        let no_time = Duration::ZERO;
        assert!(matches!(take_within(&path, "it", None, 2, LEFTOVER_MAX), Err(LockError::Held { .. })), "it lives");
        let holder = read_holder(&left.file).expect("just written");
        write_holder(&left.file, &Holder { started_ticks: holder.started_ticks + 1, ..holder }).expect("writable");
        assert!(take_within(&path, "it", None, 3, no_time).is_err(), "not for ever");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take_within(&path, "it", None, 4, LEFTOVER_MAX));
            // Without a word, as by a process that is killed.
            rustix::fs::flock(&left.file, FlockOperation::Unlock).expect("it was held");
            waiting.join().expect("no panic").expect("the last copy is closed");
        });
    }

    #[test]
    fn a_lock_that_was_taken_away_while_it_was_waited_for_is_taken_anew() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let left = take(&path, "it", None, 1).expect("free");
        let holder = read_holder(&left.file).expect("just written");
        write_holder(&left.file, &Holder { started_ticks: holder.started_ticks + 1, ..holder }).expect("writable");
        let inode = format!(":{} ", left.file.metadata().expect("it is open").ino());
        let is_waited_for = || {
            let locks = std::fs::read_to_string("/proc/locks").expect("proc_locks(5)");
            locks.lines().any(|line| line.contains("->") && line.contains(&inode))
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take_within(&path, "it", None, 2, Duration::from_secs(60)));
            while !is_waited_for() {
                std::thread::yield_now();
            }
            std::fs::rename(&path, folder.path().join("trash")).expect("the same folder");
            rustix::fs::flock(&left.file, FlockOperation::Unlock).expect("it was held");
            let taken = waiting.join().expect("no panic").expect("nobody has it");
            assert!(taken.is_at(&path).expect("legible"));
            assert!(matches!(take(&path, "it", None, 3), Err(LockError::Held { .. })), "one holder");
        });
    }

    #[test]
    fn a_run_without_a_lock_file_is_held_by_nobody() {
        let state = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(RunLock::holder_of_run(state.path(), &RunId("x-1".to_owned())).expect("legible"), None);
    }

    #[test]
    fn a_state_folder_in_use_is_not_idle() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let first = RunLock::of_state(state.path()).expect("shared");
        let second = RunLock::of_state(state.path()).expect("shared");
        drop(first);
        assert!(matches!(RunLock::of_idle_state(state.path()), Err(LockError::Held { .. })));
        drop(second);
        RunLock::of_idle_state(state.path()).expect("nobody uses it");
    }

    #[test]
    fn targets_with_slashes_have_locks_of_their_own_and_name_their_run() {
        let git = tempfile::tempdir().expect("a temporary folder");
        let a = RunLock::of_target(git.path(), "refs/heads/swarm/a", 1).expect("free");
        let _b = RunLock::of_target(git.path(), "refs/heads/swarm/b", 1).expect("free");
        let refusal = || RunLock::of_target(git.path(), "refs/heads/swarm/a", 1).expect_err("held").to_string();
        assert_eq!(refusal(), format!("another coordinator works on branch swarm/a (process {})", std::process::id()));
        a.name_run(&RunId("tour-7".to_owned()), git.path()).expect("writable");
        assert!(refusal().contains("on branch swarm/a for tour-7 (process"), "{}", refusal());
    }
}
