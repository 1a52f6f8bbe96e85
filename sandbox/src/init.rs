//! The first process of a cage. It waits for its children, passes on the orders from outside, and when the job's first
//! process has ended it counts and ends all others, however they daemonised.
//!
//! In the namespaces tier it is pid 1: `kill(-1)` reaches exactly the cage and nothing can fork past it. In the landlock
//! tier it is a subreaper: whatever loses its parent becomes its child, so killing children until none is left reaches
//! everything in the end.
//!
//! Source: pid_namespaces(7), PR_SET_CHILD_SUBREAPER in prctl(2), sigwaitinfo(2).

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::{self, Errno};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, wait};

use crate::cgroup::Group;
use crate::clerk::Clerk;
use crate::enforcement::Tier;
use crate::hunt::{First, Found, Hunt, REAPED_AT_ONCE, each_descendant, end_children, reap_all};
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
/// How many descendants an order from outside reaches in the landlock tier, whichever it is. The job's first process is the first
/// of them, and when that has ended the others are [hunted](crate::hunt): what one order to kill does not reach lives no longer.
const DESCENDANTS_MAX: usize = 10_000;

/// What init knows.
pub struct Init<'a> {
    /// The tier of the cage.
    pub tier: Tier,
    /// The job's first process, a child of the calling process.
    pub job: Pid,
    /// The cage's control groups.
    pub group: &'a Group,
    /// Who changes metadata for the job, where it may not do it itself.
    pub clerk: Option<Clerk<'a>>,
}

impl Init<'_> {
    /// Stays until the job's first process has ended and everything else is dead; reports and ends.
    pub fn run(mut self, status: OwnedFd) -> ! {
        let end = self.wait_for_job();
        // While the others are killed, they may not fork, which the kernel counts, too.
        let refused = self.group.refused_processes();
        // What is left becomes the supervisor's, which hunts on, or ends with the namespace.
        let hunt = match self.tier {
            Tier::Namespaces => end_namespace(),
            Tier::Landlock => end_children(self.group),
        };
        let (Found { killed: orphans, crowd }, is_over) = (hunt.found(), matches!(hunt, Hunt::Over(_)));
        send(&status, &Status::Ended { end, usage: children_usage(), orphans, crowd, refused, is_over });
        // Heard at once, and not when the kernel has taken this process apart.
        drop(status);
        exit_now(0)
    }

    fn wait_for_job(&mut self) -> End {
        let mut reaped = Reaped::All;
        loop {
            // Orders are heard however fast children end.
            let signal = if reaped == Reaped::Some { pending_signal() } else { self.next_signal() };
            match signal {
                Some(TERMINATE_ALL) => self.signal_all(Signal::TERM),
                Some(KILL_ALL) => self.signal_all(Signal::KILL),
                Some(HOLD_ALL) => self.signal_all(Signal::STOP),
                Some(RELEASE_ALL) => self.signal_all(Signal::CONT),
                _ => {}
            }
            if signal == Some(Signal::CHILD) || reaped == Reaped::Some {
                reaped = self.reap();
            }
            if let Reaped::Job(end) = reaped {
                return end;
            }
        }
    }

    /// Waits for a signal; meanwhile what the job asks is answered.
    fn next_signal(&mut self) -> Option<Signal> {
        if let Some(clerk) = &mut self.clerk {
            clerk.work();
        }
        wait_for_signal()
    }

    /// Reaps those that have ended, at most [`REAPED_AT_ONCE`], and none behind the job.
    fn reap(&self) -> Reaped {
        for _ in 0..REAPED_AT_ONCE {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.job => return Reaped::Job(end_of(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return Reaped::All,
            }
        }
        Reaped::Some
    }

    fn signal_all(&self, signal: Signal) {
        match self.tier {
            Tier::Namespaces => kill_everything(signal),
            Tier::Landlock => {
                each_descendant(getpid(), First::Oldest, DESCENDANTS_MAX, |one| one.signal(signal));
            }
        }
    }
}

/// Who was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaped {
    /// All that had ended.
    All,
    /// Some of them.
    Some,
    /// The job's first process, which ended so.
    Job(End),
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

/// Kills all but the caller, pid 1, and waits for them. What hangs in the kernel is not waited for for ever: the namespace ends
/// with the caller, and the supervisor sees whether it does.
fn end_namespace() -> Hunt {
    kill_everything(Signal::KILL);
    reap_all()
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
    block(&awaited())
}

/// Blocks SIGCHLD, so that none is lost between a look at the children and [`wait_for_child`].
pub fn block_child_signal() -> io::Result<Mask> {
    block(&set_of(&[Signal::CHILD]))
}

fn block(signals: &libc::sigset_t) -> io::Result<Mask> {
    let mut before = empty_set();
    // SAFETY: both sets are initialised and outlive the call.
    let result = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const *signals, &raw mut before) };
    if result == 0 { Ok(Mask(before)) } else { Err(last_error()) }
}

/// Waits until something became of a child, at most so long. SIGCHLD has to be blocked.
pub fn wait_for_child(at_most: Duration) {
    wait_for_any(&set_of(&[Signal::CHILD]), at_most);
}

/// Waits for one of these, which have to be blocked, at most so long. Source: sigtimedwait(2).
fn wait_for_any(set: &libc::sigset_t, at_most: Duration) -> Option<Signal> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(at_most.subsec_nanos().cast_signed()),
    };
    // SAFETY: set and timeout are initialised and outlive the call; no information is asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const *set, std::ptr::null_mut(), &raw const timeout) };
    Signal::from_named_raw(signal)
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

/// A signal that has come already, if there is one.
fn pending_signal() -> Option<Signal> {
    wait_for_any(&awaited(), Duration::ZERO)
}

fn awaited() -> Box<libc::sigset_t> {
    set_of(&[Signal::CHILD, TERMINATE_ALL, KILL_ALL, HOLD_ALL, RELEASE_ALL])
}

/// Becomes readable when one of the signals waits that init waits for. Source: signalfd(2).
pub fn awaited_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised and outlives the call.
    let descriptor = unsafe { libc::signalfd(-1, &raw const *awaited(), libc::SFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(last_error());
    }
    // SAFETY: the call gave a descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn set_of(signals: &[Signal]) -> Box<libc::sigset_t> {
    let mut set = Box::new(empty_set());
    for signal in signals {
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
