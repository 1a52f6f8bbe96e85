//! The first process of a cage. It waits for its children, passes on the orders from outside, and when the job's first
//! process has ended it counts and ends all others, however they daemonised.
//!
//! In the namespaces tier it is pid 1: `kill(-1)` reaches exactly the cage and nothing can fork past it. In the landlock
//! tier it is a subreaper: whatever loses its parent becomes its child, so killing children until none is left reaches
//! everything in the end.
//!
//! Source: pid_namespaces(7), PR_SET_CHILD_SUBREAPER in prctl(2), sigwaitinfo(2).

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::{self, Errno};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, kill_process, prlimit, wait};

use crate::enforcement::Tier;
use crate::launch::exit_now;
use crate::mounts::last_error;
use crate::status::{End, Status, Usage, send};

/// The order to pass SIGTERM on to everything inside.
pub const TERMINATE_ALL: Signal = Signal::TERM;
/// The order to kill everything inside; also what the kernel sends when the supervisor dies (landlock tier).
pub const KILL_ALL: Signal = Signal::USR1;
/// The order to stop everything inside where it is, while the supervisor looks.
pub const HOLD_ALL: Signal = Signal::USR2;
/// The order to let it go on.
pub const RELEASE_ALL: Signal = Signal::CONT;
/// How long processes are hunted that fork faster than they are killed, or hang in the kernel (landlock tier).
const HUNT_MAX: Duration = Duration::from_secs(10);
/// How many are hunted at once.
const HUNTED_MAX: usize = 100_000;
/// How many descendants get a polite SIGTERM in the landlock tier.
const DESCENDANTS_MAX: usize = 10_000;

/// What init knows.
pub struct Init {
    /// The tier of the cage.
    pub tier: Tier,
    /// The job's first process, a child of the calling process.
    pub job: Pid,
}

impl Init {
    /// Stays until the job's first process has ended and everything else is dead; reports and ends.
    pub fn run(&self, status: impl AsFd) -> ! {
        let end = self.wait_for_job();
        let orphans = match self.tier {
            Tier::Namespaces => end_namespace(),
            Tier::Landlock => match end_children() {
                Hunt::Over(killed) => killed,
                // What is left becomes the supervisor's, which hunts on.
                Hunt::Escaped => 0,
            },
        };
        send(status, &Status::Ended { end, usage: children_usage(), orphans });
        exit_now(0)
    }

    fn wait_for_job(&self) -> End {
        loop {
            match wait_for_signal() {
                Some(Signal::CHILD) => {
                    if let Some(end) = self.reap() {
                        return end;
                    }
                }
                Some(TERMINATE_ALL) => self.signal_all(Signal::TERM),
                Some(KILL_ALL) => self.signal_all(Signal::KILL),
                Some(HOLD_ALL) => self.signal_all(Signal::STOP),
                Some(RELEASE_ALL) => self.signal_all(Signal::CONT),
                _ => {}
            }
        }
    }

    /// Reaps all that have ended; the end of the job when it was among them.
    fn reap(&self) -> Option<End> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.job => return Some(end_of(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        match self.tier {
            Tier::Namespaces => kill_everything(signal),
            Tier::Landlock => {
                for pid in descendants() {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Signaled(signal),
        (None, None) => unreachable!("BUG: waited for ended processes only"),
    }
}

/// Every process of the pid namespace but the caller. The kernel walks its list under the lock that a fork takes, and a
/// fork with a deadly signal pending fails, so none escapes.
fn kill_everything(signal: Signal) {
    // SAFETY: kill(2) touches no memory.
    let _ = unsafe { libc::kill(-1, signal.as_raw()) };
}

/// Kills all but the caller, pid 1, and waits for them; gives how many were killed.
fn end_namespace() -> u64 {
    kill_everything(Signal::KILL);
    let mut killed = 0;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((_, status))) => killed += was_killed(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return killed,
        }
    }
}

fn was_killed(status: WaitStatus) -> u64 {
    u64::from(status.terminating_signal() == Some(Signal::KILL.as_raw()))
}

/// What became of everything that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hunt {
    /// All is dead; so many had to be killed.
    Over(u64),
    /// Something still lives after [`HUNT_MAX`]: nothing that it can write may be believed.
    Escaped,
}

/// Kills children, and their children when they have become ours, until none is left. The calling process must be a
/// subreaper.
pub fn end_children() -> Hunt {
    let started = Instant::now();
    let mut killed = 0;
    // Most jobs leave nothing: then there is no need to look around.
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((_, status))) => killed += was_killed(status),
            Ok(None) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Hunt::Over(killed),
        }
    }
    while started.elapsed() < HUNT_MAX {
        // While none is killed, none that is killed makes room for another.
        stop_forks(started + HUNT_MAX / 2);
        for pid in descendants_of(getpid(), HUNTED_MAX) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // A child that is not ours to kill any more, or not yet dead, is met again in the next round.
        match wait(WaitOptions::empty()) {
            Ok(Some((_, status))) => killed += was_killed(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return Hunt::Over(killed),
        }
        while let Ok(Some((_, status))) = wait(WaitOptions::NOHANG) {
            killed += was_killed(status);
        }
    }
    Hunt::Escaped
}

/// Stops all descendants, and takes their processes away from their users' count, until no new one is met or it is `until`. What
/// the kernel counts for nobody (user 0) is only stopped.
fn stop_forks(until: Instant) {
    let mut stopped = HashSet::new();
    loop {
        let fresh: Vec<Pid> =
            descendants_of(getpid(), HUNTED_MAX).into_iter().filter(|pid| stopped.insert(*pid)).collect();
        for &pid in &fresh {
            let _ = kill_process(pid, Signal::STOP);
            let _ = prlimit(Some(pid), Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) });
        }
        if fresh.is_empty() || Instant::now() >= until {
            return;
        }
    }
}

/// All descendants, parents before children, at most [`DESCENDANTS_MAX`].
fn descendants() -> Vec<Pid> {
    descendants_of(getpid(), DESCENDANTS_MAX)
}

/// All descendants of a process, parents before children, at most about `max`.
pub fn descendants_of(pid: Pid, max: usize) -> Vec<Pid> {
    let mut all = children_of(pid);
    let mut next = 0;
    while next < all.len() && all.len() < max {
        all.extend(children_of(all[next]));
        next += 1;
    }
    all
}

/// The children of all threads of a process. Source: proc_pid_task_children(5).
fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(parse_pid).collect::<Vec<_>>()).collect()
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

fn children_usage() -> Usage {
    // SAFETY: all-zero bytes are a valid `rusage`, which consists of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills a `rusage` that outlives the call.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let microseconds = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    Usage {
        cpu_us: microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }
}

/// The signal mask as it was before [`block_signals`].
pub struct Mask(libc::sigset_t);

/// Blocks the signals that init waits for, so that none is lost before it does.
pub fn block_signals() -> io::Result<Mask> {
    let mut before = empty_set();
    // SAFETY: both sets are initialised and outlive the call.
    let result = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const *awaited(), &raw mut before) };
    if result == 0 { Ok(Mask(before)) } else { Err(last_error()) }
}

impl Mask {
    /// Restores the mask.
    pub fn restore(&self) -> io::Result<()> {
        // SAFETY: the set was filled by the kernel and outlives the call.
        let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
        if result == 0 { Ok(()) } else { Err(last_error()) }
    }
}

/// Gives a program the signals it expects: none blocked, none ignored. Both would be inherited through its exec; Rust's
/// runtime ignores SIGPIPE, and whoever started the coordinator may have ignored others. Those in `kept` stay as they are.
pub fn default_signals(kept: &[libc::c_int]) -> io::Result<()> {
    const STANDARD_SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=31;
    let changeable = |signal: &libc::c_int| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP) && !kept.contains(signal);
    for signal in STANDARD_SIGNALS.filter(changeable) {
        // SAFETY: SIG_DFL installs no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Mask(empty_set()).restore()
}

fn wait_for_signal() -> Option<Signal> {
    // SAFETY: the set is initialised and outlives the call; no information is asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const *awaited(), std::ptr::null_mut()) };
    Signal::from_named_raw(signal)
}

fn awaited() -> Box<libc::sigset_t> {
    let mut set = Box::new(empty_set());
    for signal in [Signal::CHILD, TERMINATE_ALL, KILL_ALL, HOLD_ALL, RELEASE_ALL] {
        // SAFETY: the set is initialised and the number names a signal.
        unsafe { libc::sigaddset(&raw mut *set, signal.as_raw()) };
    }
    set
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}
