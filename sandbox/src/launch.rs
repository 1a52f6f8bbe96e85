//! The launch sequence, one function a step. Three processes take part:
//!
//! - the *supervisor* calls [`launch`], keeps [`Caged`] and is outside;
//! - *init* is the first process of the cage (pid 1 of its namespace): it makes the cage around itself, then reaps and ends
//!   what is inside; it holds no capability once the cage stands;
//! - the *job* is confined further and becomes the program.
//!
//! In order: block signals → clone init (into new namespaces) → output, close every other descriptor → lifeline →
//! \[namespaces: id maps, private mounts, [root](crate::root), host name, loopback\] → capabilities → fork the job → session →
//! working directory → rlimits → Landlock with `no_new_privs` → seccomp → canary → `Ready` → exec.
//!
//! seccomp comes before the canary, so that the self-check tries the filter too, and before the status record, so that
//! nothing is announced that is not closed; the record is one write(2), which the filter allows.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, chdir, pidfd_send_signal, set_child_subreaper, set_dumpable_behavior,
    setsid, umask, waitpid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::canary::Canary;
use crate::enforcement::Tier;
use crate::init::{Hunt, Init, KILL_ALL, TERMINATE_ALL, end_children};
use crate::mounts::last_error;
use crate::namespaces::{self, Cloned, Ids};
use crate::policy::Policy;
use crate::program::Program;
use crate::seccomp::{self, Filter};
use crate::status::{Reader, Status, send};
use crate::{capabilities, landlock, limits, root};

/// The exit status of init and job where the launch failed; nobody reads it, the status record says why.
const EXIT_REFUSED: i32 = 125;

/// A step of the launch that failed: nothing was run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct Refused {
    /// The step, for people: `mount /usr`, `landlock` …
    pub step: String,
    /// The reason, for people.
    pub reason: String,
}

impl Refused {
    fn new(step: &str, reason: impl ToString) -> Self {
        Refused { step: step.to_owned(), reason: reason.to_string() }
    }
}

/// Where the job's two output streams go: the writing ends of pipes.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// What the job does once its cage is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Last<'a> {
    /// Becomes the program.
    Exec(&'a Program),
    /// Ends at once: a probe wants to know that the cage closes.
    Exit,
}

/// Starts `program` inside the cage that `policy` describes. Comes back as soon as the first process exists; whether the
/// cage could be closed is told by [`Caged::read`].
///
/// # Errors
/// [`Refused`] when not even the first process could be made.
pub fn launch(policy: &Policy, program: &Program, output: Output) -> Result<Caged, Refused> {
    launch_until(policy, Last::Exec(program), output)
}

pub(crate) fn launch_until(policy: &Policy, last: Last<'_>, output: Output) -> Result<Caged, Refused> {
    let tier = policy.get().tier;
    let filter = seccomp::filter(policy);
    let ids = Ids::current();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| Refused::new("status pipe", error))?;
    let flags = match tier {
        Tier::Namespaces => namespaces::flags(policy.get().network),
        Tier::Landlock => {
            // Should init be killed, what it leaves behind comes to us and is ended by `Caged::reap`.
            set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| Refused::new("subreaper", error))?;
            0
        }
    };
    let blocked = crate::init::block_signals().map_err(|error| Refused::new("signals", error))?;
    let cloned = namespaces::clone(flags);
    match cloned {
        Ok(Cloned::Child) => {
            let launch = Launch { policy, last, filter, ids, output, status: writer };
            launch.run_init()
        }
        Ok(Cloned::Parent(pid, pidfd)) => {
            blocked.restore().map_err(|error| Refused::new("signals", error))?;
            Ok(Caged { tier, init: Some(pid), pidfd, status: reader, reader: Reader::default() })
        }
        Err(error) => {
            blocked.restore().map_err(|error| Refused::new("signals", error))?;
            Err(Refused::new("clone into new namespaces", error))
        }
    }
}

/// Everything that the inside needs, prepared outside.
struct Launch<'a> {
    policy: &'a Policy,
    last: Last<'a>,
    filter: Filter,
    ids: Ids,
    output: Output,
    status: OwnedFd,
}

impl Launch<'_> {
    fn run_init(&self) -> ! {
        match self.enter() {
            Ok(job) => {
                let init = Init { tier: self.policy.get().tier, job };
                init.run(&self.status)
            }
            Err(refused) => self.refuse(refused),
        }
    }

    fn refuse(&self, refused: Refused) -> ! {
        send(&self.status, &Status::Refused { step: refused.step, reason: refused.reason });
        exit_now(EXIT_REFUSED)
    }

    /// Makes the cage around the calling process and starts the job in it.
    fn enter(&self) -> Result<Pid, Refused> {
        let draft = self.policy.get();
        step("output", || self.take_output())?;
        step("lifeline", || self.tie_to_supervisor(draft.tier))?;
        if draft.tier == Tier::Namespaces {
            step("map ids", || namespaces::map_ids(self.ids))?;
            step("make mounts private", namespaces::make_mounts_private)?;
            root::enter(self.policy)?;
            step("name the host, loopback", || namespaces::name_and_loopback(draft.network))?;
        }
        step("stdin", || dup2_stdin(open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))?;
        step("capabilities", capabilities::drop_all)?;
        // From here on no process of the same user can look into init, whose memory is a copy of the supervisor's.
        step("hide init", || set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
        match step("fork the job", || namespaces::clone(0))? {
            Cloned::Parent(job, _) => {
                step("let go of the output", || {
                    dup2_stdout(rustix::stdio::stdin())?;
                    dup2_stderr(rustix::stdio::stdin())
                })?;
                Ok(job)
            }
            Cloned::Child => match self.become_job() {
                Ok(never) => match never {},
                Err(refused) => self.refuse(refused),
            },
        }
    }

    /// Confines the calling process and executes the program.
    fn become_job(&self) -> Result<std::convert::Infallible, Refused> {
        let draft = self.policy.get();
        step("session", || setsid().map(drop))?;
        step("signals", crate::init::default_signals)?;
        step("lifeline", || die_with_parent(Signal::KILL))?;
        umask(Mode::from_raw_mode(0o022));
        if let Last::Exec(program) = self.last {
            step("enter the working directory", || chdir(program.cwd()))?;
        }
        step("rlimits", || limits::apply(&draft.limits))?;
        let canary = Canary::new(self.policy);
        step("descriptors", || close_all_from(3, CloseRange::OnExec))?;
        let landlock_abi = landlock::confine(self.policy).map_err(|error| Refused::new("landlock", error))?;
        step("seccomp", || seccomp::install(&self.filter))?;
        canary.sing().map_err(|reason| Refused::new("self-check", reason))?;
        send(&self.status, &Status::Ready { landlock_abi });
        match self.last {
            Last::Exit => exit_now(0),
            Last::Exec(program) => {
                let errno = program.exec();
                send(&self.status, &Status::StartFailed { errno: errno.raw_os_error() });
                exit_now(EXIT_REFUSED)
            }
        }
    }

    /// Takes the job's output as its own and closes everything else but the status pipe.
    fn take_output(&self) -> io::Result<()> {
        dup2_stdout(&self.output.stdout)?;
        dup2_stderr(&self.output.stderr)?;
        let status = self.status.as_raw_fd().unsigned_abs();
        if status > 3 {
            close_range(3, status - 1, CloseRange::Now)?;
        }
        close_range(status + 1, u32::MAX, CloseRange::Now)
    }

    /// Makes sure that the cage ends when the supervisor does, even by SIGKILL.
    fn tie_to_supervisor(&self, tier: Tier) -> io::Result<()> {
        match tier {
            // The end of pid 1 is the end of its namespace.
            Tier::Namespaces => die_with_parent(Signal::KILL)?,
            Tier::Landlock => {
                set_child_subreaper(Some(rustix::process::getpid()))?;
                die_with_parent(KILL_ALL)?;
            }
        }
        // Had the supervisor ended before, no signal would come; but then nobody holds the pipe's other end.
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut pipe = [PollFd::new(&self.status, PollFlags::empty())];
        poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if pipe[0].revents().contains(PollFlags::ERR) { Err(io::Errno::PIPE) } else { Ok(()) }
    }
}

fn step<T>(name: &str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Refused> {
    act().map_err(|error| Refused::new(name, error))
}

fn die_with_parent(signal: Signal) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseRange {
    Now,
    OnExec,
}

fn close_all_from(first: u32, when: CloseRange) -> io::Result<()> {
    close_range(first, u32::MAX, when)
}

fn close_range(first: u32, last: u32, when: CloseRange) -> io::Result<()> {
    let flags = if when == CloseRange::OnExec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: the descriptors closed here belong to values that this process never drops: it ends by `exit_now` or exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Ends the calling process without running anything that belongs to the process it is a copy of.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A launched tree of processes, seen from outside. Dropping it kills the tree.
#[derive(Debug)]
pub struct Caged {
    tier: Tier,
    /// `None` once it was reaped.
    init: Option<Pid>,
    pidfd: OwnedFd,
    status: OwnedFd,
    reader: Reader,
}

impl Caged {
    /// Becomes readable when [`Caged::read`] has something.
    pub fn status(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// What the inside said since the last call; waits for a word when nothing came yet.
    ///
    /// # Errors
    /// `EPIPE` when the inside has ended; nothing more will come.
    pub fn read(&mut self) -> io::Result<Vec<Status>> {
        self.reader.read(&self.status)
    }

    /// Asks every process inside to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(TERMINATE_ALL);
    }

    /// Ends every process inside; init tells when that is done.
    pub fn kill(&self) {
        self.signal(KILL_ALL);
    }

    /// Ends init itself, for the case that it does not answer [`Caged::kill`].
    pub fn destroy(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // Nothing to be done about a process that has already ended.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits until init has ended, and everything inside with it.
    ///
    /// # Errors
    /// `EBUSY` when something inside outlived the hunt: what it may still write is not to be believed. The system's, when
    /// there is no such child: somebody else reaped it.
    pub fn reap(mut self) -> io::Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some(init) = self.init.take() else { return Ok(()) };
        loop {
            match waitpid(Some(init), WaitOptions::empty()) {
                Err(io::Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        if self.tier == Tier::Landlock && end_children() == Hunt::Escaped {
            return Err(io::Errno::BUSY);
        }
        Ok(())
    }
}

impl Drop for Caged {
    fn drop(&mut self) {
        if self.init.is_some() {
            self.destroy();
            let _ = self.wait();
        }
    }
}
