//! The launch sequence, one function a step. Three processes take part:
//!
//! - the *supervisor* calls [`launch`], keeps [`Caged`] and is outside;
//! - *init* is the first process of the cage (pid 1 of its namespace): it makes the cage around itself, then reaps and ends
//!   what is inside; it holds no capability once the cage stands;
//! - the *job* is confined further and becomes the program.
//!
//! In order: [groups](crate::cgroup) → block signals → clone init (into new namespaces) → enter the groups → output, close
//! every other descriptor → lifeline → \[namespaces: id maps, bound on process ids, private mounts,
//! [root](crate::root)\] → bound on capabilities → \[namespaces: the host's root goes, host name, loopback,
//! [door](crate::door)\] → capabilities → fork the job → session → lifeline → working directory → rlimits → Landlock with
//! `no_new_privs` → seccomp → canary → `Ready` → exec.
//!
//! A job that becomes a program borrows init's memory until it has, as vfork(2) does it: a copy of what both share, its page
//! faults and its end cost more than all that the job does. A job that stays code of ours has memory of its own.
//!
//! seccomp comes before the canary, so that the self-check tries the filter too, and before the status record, so that
//! nothing is announced that is not closed; the record is one write(2), which the filter allows.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
use crate::hunt::{HUNT_MAX, Hunt, end_children};
use crate::init::{Init, KILL_ALL, TERMINATE_ALL};
use crate::limits::{Limit, Means, by};
use crate::mounts::last_error;
use crate::namespaces::{self, Cloned, Ids, NetworkOf};
use crate::network::Private;
use crate::policy::{Draft, Network, Policy};
use crate::program::Program;
use crate::seccomp::{self, Filter, Occupant};
use crate::status::{Reader, Status, send};
use crate::tree::Tree;
use crate::wasm::{self, GuestJob};
use crate::watchdog::{Breach, Watchdog};
use crate::{capabilities, door, home, landlock, limits, root};

/// The exit status of init and job where the launch failed; nobody reads it, the status record says why.
const EXIT_REFUSED: i32 = 125;

/// The exit status of an errand that panicked; its words are on standard error.
const EXIT_PANICKED: i32 = 101;

/// A step of the launch that failed: nothing was run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct Refused {
    /// The step, for people: `mount /usr`, `landlock` …
    pub step: String,
    /// The reason, for people.
    pub reason: String,
    /// What it says about the machine.
    pub want: Want,
}

/// What a step lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// What this machine, or this policy, does not have.
    Means,
    /// A process that nobody could make at that moment, which says nothing about the machine or the policy.
    Processes,
}

/// What stands at the end of a reason that is a want of processes.
const NO_MORE_PROCESSES: &str =
    "a limit of processes and threads is reached, the user's (ulimit -u) or a control group's (pids.max)";

impl Refused {
    pub(crate) fn new(step: &str, reason: impl ToString) -> Self {
        Refused { step: step.to_owned(), reason: reason.to_string(), want: Want::Means }
    }

    pub(crate) fn by_kernel(step: &str, error: io::Errno) -> Self {
        match error {
            io::Errno::AGAIN => {
                let reason = format!("{error}: {NO_MORE_PROCESSES}");
                Refused { want: Want::Processes, ..Refused::new(step, reason) }
            }
            error => Refused::new(step, error),
        }
    }

    /// Whether a process was missing that nobody could make at that moment.
    pub fn lacks_processes(&self) -> bool {
        self.want == Want::Processes
    }
}

/// What a cage is given: the writing ends of pipes for the job's two output streams, a door, and a network.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// A connected unix socket that takes the socket behind the proxy's port, for [`Network::Egress`] in the namespaces
    /// tier; no other cage needs it.
    pub door: Option<OwnedFd>,
    /// Where the calling process itself is in a network that the job may have, for [`Network::None`] in the namespaces tier;
    /// a job without it gets a new one.
    pub network: Option<Private>,
}

/// What the job does once its cage is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Last<'a> {
    /// Becomes the program.
    Exec(&'a Program),
    /// Becomes the program, on the terminal that is its output.
    Terminal(&'a Program),
    /// Runs a WebAssembly guest.
    Guest(&'a GuestJob),
    /// Runs code of ours.
    Errand(&'a Errand<'a>),
    /// Compiles a module; the machine code goes to standard output, what is wrong with the module to standard error.
    Compile {
        /// The engine that the machine code is for.
        engine: &'a wasmtime::Engine,
        /// The module.
        module: &'a [u8],
    },
    /// Ends at once: a probe wants to know that the cage closes.
    Exit,
}

/// Code of ours as a job. Unlike a guest's it may start programs; none of them inherits the channel, and none may look into
/// the process that runs it: it is not dumpable, and seccomp refuses the calls that would.
pub struct Errand<'a> {
    /// Where it starts, as the cage sees it.
    pub cwd: &'a Path,
    /// The job's end of a connection to whoever launches it; nobody else inside has it.
    pub channel: OwnedFd,
    /// What it does, with the channel; gives the exit status.
    pub run: &'a dyn Fn(BorrowedFd<'_>) -> i32,
}

impl std::fmt::Debug for Errand<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errand").field("cwd", &self.cwd).field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Starts `program` inside the cage that `policy` describes. Comes back as soon as the first process exists; whether the
/// cage could be closed is told by [`Caged::read`].
///
/// # Errors
/// [`Refused`] when not even the first process could be made.
pub fn launch(policy: &Policy, program: &Program, output: Output) -> Result<Caged, Refused> {
    launch_until(policy, Last::Exec(program), output)
}

/// Starts `program` as [`launch`] does, with a terminal: both streams of `output` are one, the program reads from it, too, and
/// it is the controlling terminal of its session. It has to be a terminal made for this job alone: a cage does not keep
/// a program from what its own terminal can do.
///
/// # Errors
/// [`Refused`] when not even the first process could be made.
pub fn launch_on_terminal(policy: &Policy, program: &Program, output: Output) -> Result<Caged, Refused> {
    launch_until(policy, Last::Terminal(program), output)
}

/// Runs a WebAssembly guest inside the cage that `policy` describes, as [`launch`] does a program. Its process can neither
/// execute programs nor fork.
///
/// # Errors
/// [`Refused`] when not even the first process could be made.
pub fn launch_guest(policy: &Policy, job: &GuestJob, output: Output) -> Result<Caged, Refused> {
    launch_until(policy, Last::Guest(job), output)
}

/// Runs code of ours inside the cage that `policy` describes, as [`launch`] does a program.
///
/// # Errors
/// [`Refused`] when not even the first process could be made.
pub fn launch_errand(policy: &Policy, errand: &Errand<'_>, output: Output) -> Result<Caged, Refused> {
    launch_until(policy, Last::Errand(errand), output)
}

/// Compiles a module inside a cage: machine code comes through standard output and the exit status is 0, or what is wrong
/// with the module comes through standard error.
///
/// # Errors
/// [`Refused`] when not even the first process could be made.
pub fn launch_compiler(
    policy: &Policy,
    engine: &wasmtime::Engine,
    module: &[u8],
    output: Output,
) -> Result<Caged, Refused> {
    launch_until(policy, Last::Compile { engine, module }, output)
}

pub(crate) fn launch_until(policy: &Policy, last: Last<'_>, output: Output) -> Result<Caged, Refused> {
    let tier = policy.get().tier;
    let occupant = match last {
        Last::Exec(_) | Last::Terminal(_) | Last::Errand(_) | Last::Exit => Occupant::Program,
        Last::Guest(_) | Last::Compile { .. } => Occupant::Guest,
    };
    let network = network_of(policy.get(), &output)?;
    let filter = seccomp::filter(policy, occupant);
    let ids = Ids::current();
    let watchdog = Watchdog::new(policy.get()).map_err(|error| Refused::new("prepare the limits", error))?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| Refused::new("status pipe", error))?;
    let flags = match tier {
        Tier::Namespaces => namespaces::flags(network),
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
            let launch = Launch { policy, last, filter, ids, output, network, status: writer, watchdog: &watchdog };
            launch.run_init()
        }
        Ok(Cloned::Parent(pid, pidfd)) => {
            blocked.restore().map_err(|error| Refused::new("signals", error))?;
            Ok(Caged { tier, init: Some(pid), pidfd, status: reader, reader: Reader::default(), watchdog })
        }
        Err(error) => {
            blocked.restore().map_err(|error| Refused::new("signals", error))?;
            Err(Refused::by_kernel("make the first process", error))
        }
    }
}

/// Everything that the inside needs, prepared outside.
struct Launch<'a> {
    policy: &'a Policy,
    last: Last<'a>,
    filter: Arc<Filter>,
    ids: Ids,
    output: Output,
    network: NetworkOf,
    status: OwnedFd,
    watchdog: &'a Watchdog,
}

/// Whose network the job gets. One that was entered for jobs without any is for no other job.
fn network_of(draft: &Draft, output: &Output) -> Result<NetworkOf, Refused> {
    match (draft.tier, draft.network, output.network) {
        (Tier::Namespaces, Network::None, Some(_)) => Ok(NetworkOf::Caller),
        (_, _, Some(_)) => Err(Refused::new("network", "it was entered for a job of another kind")),
        (_, Network::Host, None) | (Tier::Landlock, _, None) => Ok(NetworkOf::Caller),
        (Tier::Namespaces, Network::None | Network::Egress { .. }, None) => Ok(NetworkOf::Job),
    }
}

impl Launch<'_> {
    fn run_init(&self) -> ! {
        match self.enter() {
            Ok(job) => {
                let init = Init { tier: self.policy.get().tier, job, group: self.watchdog.group() };
                init.run(&self.status)
            }
            Err(refused) => self.refuse(refused),
        }
    }

    fn refuse(&self, refused: Refused) -> ! {
        send(&self.status, &Status::Refused(refused));
        exit_now(EXIT_REFUSED)
    }

    /// Makes the cage around the calling process and starts the job in it.
    fn enter(&self) -> Result<Pid, Refused> {
        let draft = self.policy.get();
        step("enter the control groups", || self.watchdog.group().enter())?;
        step("output", || self.take_output())?;
        step("lifeline", || self.tie_to_supervisor(draft.tier))?;
        step("be the first to go when memory is short", limits::volunteer)?;
        if draft.tier == Tier::Namespaces {
            step("map ids", || namespaces::map_ids(self.ids))?;
            if let (Some(bound), Some(Means::PidMax)) =
                (draft.limits.processes, by(self.watchdog.means(), Limit::Processes))
            {
                step("bound the process ids", || limits::bound_pids(bound))?;
            }
            step("make mounts private", namespaces::make_mounts_private)?;
            root::enter(self.policy)?;
        }
        step("fill the home folder", || home::fill(&draft.home, &draft.home_files))?;
        step("stdin", || dup2_stdin(open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))?;
        // From here on no process of the same user can look into init, whose memory is a copy of the supervisor's.
        step("hide init", || set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
        if draft.tier == Tier::Namespaces || !capabilities::is_bound_for_all() {
            step("bound capabilities", capabilities::bound)?;
        }
        self.complete()?;
        let init = rustix::process::getpid();
        let job = step("fork the job", || match self.last {
            Last::Exec(_) | Last::Terminal(_) | Last::Exit => namespaces::borrow_memory(|| self.run_job(init)),
            Last::Guest(_) | Last::Errand(_) | Last::Compile { .. } => match namespaces::clone(0)? {
                Cloned::Parent(job, _) => Ok(job),
                Cloned::Child => self.run_job(init),
            },
        })?;
        step("let go of the output", || self.let_go_of_output())?;
        Ok(job)
    }

    /// The last of the cage itself. Nothing of it may wait for the job: one that becomes a program holds up init until it has.
    fn complete(&self) -> Result<(), Refused> {
        let draft = self.policy.get();
        if draft.tier == Tier::Namespaces {
            step("leave the host's root", root::leave_host)?;
            step("name the host, loopback", || namespaces::name_and_loopback(self.network))?;
            if let Network::Egress { port } = draft.network {
                step("open the proxy's port", || {
                    door::open(port, self.output.door.as_ref().ok_or(io::Errno::NOTCONN)?)
                })?;
            }
        }
        // Of init and of the job, which is made after this.
        step("capabilities", capabilities::give_up)
    }

    fn let_go_of_output(&self) -> io::Result<()> {
        dup2_stdout(rustix::stdio::stdin())?;
        dup2_stderr(rustix::stdio::stdin())?;
        // Its end has to be seen when the job ends.
        let Some(channel) = self.channel() else { return Ok(()) };
        let number = channel.as_raw_fd().unsigned_abs();
        close_range(number, number, CloseRange::Now)
    }

    fn run_job(&self, init: Pid) -> ! {
        match self.become_job(init) {
            Ok(never) => match never {},
            Err(refused) => self.refuse(refused),
        }
    }

    /// Confines the calling process and executes the program.
    fn become_job(&self, init: Pid) -> Result<std::convert::Infallible, Refused> {
        let draft = self.policy.get();
        step("session", || setsid().map(drop))?;
        if let Last::Terminal(_) = self.last {
            step("terminal", take_terminal)?;
        }
        let kept = match self.last {
            Last::Guest(_) => wasm::FAULTS,
            // A program of its own that ends must not end it.
            Last::Errand(_) => &[libc::SIGPIPE],
            Last::Exec(_) | Last::Terminal(_) | Last::Compile { .. } | Last::Exit => &[],
        };
        step("signals", || crate::init::default_signals(kept))?;
        step("lifeline", || tie_to_init(init))?;
        umask(Mode::from_raw_mode(0o022));
        match self.last {
            Last::Exec(program) | Last::Terminal(program) => {
                step("enter the working directory", || chdir(program.cwd()))?;
            }
            Last::Guest(_) => step("enter the worktree", || chdir(draft.worktree.at()))?,
            Last::Errand(errand) => step("enter the working directory", || chdir(errand.cwd))?,
            Last::Compile { .. } | Last::Exit => {}
        }
        step("rlimits", || limits::apply(&draft.limits, self.watchdog.means(), self.watchdog.room().own()))?;
        let canary = Canary::new(self.policy);
        step("descriptors", || close_all_from(3, CloseRange::OnExec))?;
        let landlock_abi = landlock::confine(self.policy).map_err(|error| Refused::new("landlock", error))?;
        step("seccomp", || seccomp::install(&self.filter))?;
        canary.sing().map_err(|reason| Refused::new("self-check", reason))?;
        send(&self.status, &Status::Ready { landlock_abi });
        match self.last {
            Last::Exit => exit_now(0),
            Last::Guest(job) => {
                step("close descriptors", || close_all_but(&[&self.status]))?;
                exit_now(job.run(&self.status))
            }
            Last::Compile { engine, module } => {
                step("close descriptors", || close_all_but(&[&self.status]))?;
                exit_now(wasm::compile_in_cage(engine, module))
            }
            Last::Errand(errand) => {
                // Not the status pipe: how it ends is told by its exit status, and what it says goes through the channel.
                step("close descriptors", || close_all_but(&[&errand.channel]))?;
                let run = std::panic::AssertUnwindSafe(|| (errand.run)(errand.channel.as_fd()));
                exit_now(std::panic::catch_unwind(run).unwrap_or(EXIT_PANICKED))
            }
            Last::Exec(program) | Last::Terminal(program) => {
                let errno = program.exec();
                send(&self.status, &Status::StartFailed { errno: errno.raw_os_error() });
                exit_now(EXIT_REFUSED)
            }
        }
    }

    /// Takes the job's output as its own and closes everything else but the status pipe and the door.
    fn take_output(&self) -> io::Result<()> {
        dup2_stdout(&self.output.stdout)?;
        dup2_stderr(&self.output.stderr)?;
        let kept = [Some(&self.status), self.output.door.as_ref(), self.channel()];
        close_all_but(&kept.into_iter().flatten().collect::<Vec<_>>())
    }

    /// The descriptor that only the job keeps.
    fn channel(&self) -> Option<&OwnedFd> {
        match self.last {
            Last::Errand(errand) => Some(&errand.channel),
            Last::Exec(_) | Last::Terminal(_) | Last::Guest(_) | Last::Compile { .. } | Last::Exit => None,
        }
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
        let mut pipe = [PollFd::new(&self.status, PollFlags::empty())];
        poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if pipe[0].revents().contains(PollFlags::ERR) { Err(io::Errno::PIPE) } else { Ok(()) }
    }
}

fn step<T>(name: &str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Refused> {
    act().map_err(|error| Refused::by_kernel(name, error))
}

/// Makes sure that the calling process, the job, ends when init does.
fn tie_to_init(init: Pid) -> io::Result<()> {
    die_with_parent(Signal::KILL)?;
    // Had init ended before, no signal would come.
    if rustix::process::getppid() == Some(init) { Ok(()) } else { Err(io::Errno::SRCH) }
}

fn die_with_parent(signal: Signal) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseRange {
    Now,
    OnExec,
}

/// Closes every descriptor but the standard streams: what the program inherited by mistake. To be called before the program
/// opens anything.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_inherited() -> io::Result<()> {
    close_all_from(3, CloseRange::Now)
}

fn close_all_from(first: u32, when: CloseRange) -> io::Result<()> {
    close_range(first, u32::MAX, when)
}

/// Closes everything but the standard streams and these.
fn close_all_but(kept: &[&OwnedFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|descriptor| descriptor.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for descriptor in kept {
        if descriptor > first {
            close_range(first, descriptor - 1, CloseRange::Now)?;
        }
        first = first.max(descriptor + 1);
    }
    close_range(first, u32::MAX, CloseRange::Now)
}

fn close_range(first: u32, last: u32, when: CloseRange) -> io::Result<()> {
    let flags = if when == CloseRange::OnExec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: the descriptors closed here belong to no value (`close_inherited`), or to values that this process never
    // drops: it ends by `exit_now` or exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Makes the terminal that standard output is the input and the controlling terminal of this session. Source: ioctl_tty(2).
fn take_terminal() -> io::Result<()> {
    let terminal = rustix::stdio::stdout();
    rustix::process::ioctl_tiocsctty(terminal)?;
    dup2_stdin(terminal)
}

/// Ends the calling process without running anything that belongs to the process it is a copy of: neither destructors nor
/// what libraries registered for the end. What was written through a buffer of this process must have been flushed.
pub fn exit_now(code: i32) -> ! {
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
    watchdog: Watchdog,
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
        let said = self.reader.read(&self.status)?;
        for status in &said {
            if let Status::Ended { refused, .. } = status {
                self.watchdog.hear_refused(*refused);
            }
        }
        Ok(said)
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

    /// When to call [`Caged::look`] next; `None` when this job has no limits that want it.
    pub fn next_look(&self) -> Option<std::time::Instant> {
        self.watchdog.next_look()
    }

    /// Looks after the limits. A breach that it gives is to be answered by [`Caged::kill`]: the job may be held still.
    pub fn look(&mut self) -> Option<Breach> {
        let tree = Tree::new(self.init?, self.pidfd.as_fd());
        self.watchdog.look(tree)
    }

    /// Waits until init has ended, and everything inside with it, but not for ever.
    ///
    /// # Errors
    /// The system's, when there is no such child: somebody else reaped it.
    pub fn reap(mut self) -> io::Result<Reaped> {
        let left = self.wait()?;
        let breach = self.watchdog.last_look();
        Ok(Reaped { breach, left, lacked_room: self.watchdog.lacked_room() })
    }

    fn wait(&mut self) -> io::Result<Left> {
        let Some(init) = self.init.take() else { return Ok(Left::Nothing) };
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // pid 1 ends when all of its namespace has.
        let timeout = Timespec { tv_sec: HUNT_MAX.as_secs().cast_signed(), tv_nsec: 0 };
        if io::retry_on_intr(|| poll(&mut ended, Some(&timeout)))? == 0 {
            return Ok(Left::MayRun);
        }
        io::retry_on_intr(|| waitpid(Some(init), WaitOptions::NOHANG))?;
        Ok(match self.tier {
            Tier::Landlock if matches!(end_children(self.watchdog.group()), Hunt::Escaped(_)) => Left::MayRun,
            Tier::Landlock | Tier::Namespaces => Left::Nothing,
        })
    }
}

/// What was found when a cage had ended.
#[derive(Debug)]
pub struct Reaped {
    /// The gravest breach of a limit that was seen then.
    pub breach: Option<Breach>,
    /// Whether all of it has ended.
    pub left: Left,
    /// Whether its user had, at some look, as many processes as it may, whoever's they were.
    pub lacked_room: bool,
}

/// Whether all of a cage has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It has.
    Nothing,
    /// Something inside outlived every attempt to end it, or hangs in the kernel: what it may still write is not to be believed.
    MayRun,
}

impl Drop for Caged {
    fn drop(&mut self) {
        if self.init.is_some() {
            self.destroy();
            let _ = self.wait();
        }
    }
}
