//! The launch sequence, one function a step. Three processes take part:
//!
//! - the *supervisor* calls [`launch`], keeps [`Caged`] and is outside;
//! - *init* is the first process of the cage (pid 1 of its namespace): it makes the cage around itself, then reaps and ends
//!   what is inside; it holds no capability once the cage stands;
//! - the *job* is confined further and becomes the program.
//!
//! In order: block signals → clone init (into new namespaces), then
//! - what depends on nothing but the [`Kind`] of the cage, [`begin`]: output, close every other descriptor → lifeline → first
//!   to go when memory is short → \[namespaces: id maps, bound on watchers, private mounts, host name, loopback, [root](crate::root) without what is the
//!   job's\] → bound on capabilities;
//! - what is this job's: \[namespaces: bound on process ids, root\] → home folder → stdin → nobody looks into
//!   init → \[namespaces: the host's root goes, [door](crate::door)\] → capabilities → fork the job → session → signals →
//!   lifeline → working directory → Landlock with `no_new_privs` → seccomp → \[landlock: [clerk](crate::clerk)\] → rlimits → canary →
//!   `Ready` → exec.
//!
//! Its [groups](crate::cgroup) are the job's, too: init enters them before the first half, or between both where that is over
//! [ahead](crate::ahead) of the job. Most of the time goes into the first half.
//!
//! A job that becomes a program borrows init's memory until it has, as vfork(2) does it: a copy of what both share, its page
//! faults and its end cost more than all that the job does. A job that stays code of ours has memory of its own.
//!
//! seccomp comes before the canary, so that the self-check tries the filter too, and before the status record, so that
//! nothing is announced that is not closed; the record is one write(2), which the filter allows.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, chdir, set_child_subreaper, set_dumpable_behavior, setsid, umask,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::caged::{Caged, First};
use crate::canary::Canary;
use crate::cgroup::Group;
use crate::clerk::{Clerk, Post};
use crate::enforcement::Tier;
use crate::init::{Init, KILL_ALL};
use crate::limits::{Limit, Means, by};
use crate::mounts::last_error;
use crate::namespaces::{self, Cloned, Ids, NetworkOf};
use crate::network::Private;
use crate::overlay::Layers;
use crate::policy::{Draft, Network, Policy};
use crate::program::Program;
use crate::seccomp::{self, Filters, Metadata, Occupant};
use crate::status::{Status, send};
use crate::wasm::{self, GuestJob};
use crate::watchdog::Watchdog;
use crate::{capabilities, door, home, landlock, limits, root};

/// The exit status of init and job where the launch failed; nobody reads it, the status record says why.
pub(crate) const EXIT_REFUSED: i32 = 125;

/// The step that waits for whoever still has the layers of the job's tree.
pub(crate) const HOLD_LAYERS: &str = "hold the layers of its tree";

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

/// What stands at the end of a reason that is a limit of namespaces, which the kernel's own word for it does not tell.
const NO_MORE_NAMESPACES: &str =
    "no more namespaces may be made here, a limit in /proc/sys/user (max_user_namespaces …) is reached";

impl Refused {
    /// At a step, for a reason.
    pub fn new(step: &str, reason: impl ToString) -> Self {
        Refused { step: step.to_owned(), reason: reason.to_string(), want: Want::Means }
    }

    pub(crate) fn by_kernel(step: &str, error: io::Errno) -> Self {
        match error {
            io::Errno::AGAIN => {
                let reason = format!("{error}: {NO_MORE_PROCESSES}");
                Refused { want: Want::Processes, ..Refused::new(step, reason) }
            }
            // Source: clone(2), user_namespaces(7).
            io::Errno::NOSPC | io::Errno::USERS => Refused::new(step, format!("{error}: {NO_MORE_NAMESPACES}")),
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
    let occupant = match last {
        Last::Exec(_) | Last::Terminal(_) | Last::Errand(_) | Last::Exit => Occupant::Program,
        Last::Guest(_) | Last::Compile { .. } => Occupant::Guest,
    };
    let kind = Kind::of(policy.get());
    let network = kind.network_of(output.network)?;
    let watchdog = Watchdog::new(policy.get()).map_err(|error| Refused::new("prepare the limits", error))?;
    let layers = step(HOLD_LAYERS, || Layers::take(&policy.get().worktree, &policy.get().copies))?;
    let filters = seccomp::filters(policy.get(), watchdog.means(), occupant);
    let ids = Ids::current();
    let (reader, status) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| Refused::new("status pipe", error))?;
    match clone_init(kind, network)? {
        Cloned::Child => {
            let inside = Inside { means: watchdog.means(), own_room: watchdog.room().own(), group: watchdog.group() };
            let launch = Launch { policy, last, filters, output, status: Some(status), inside };
            launch.run_init(|launch| {
                // While their entrances are open.
                launch.enter_groups()?;
                let kept = [launch.status.as_ref(), launch.output.door.as_ref(), launch.channel()];
                begin(kind, network, ids, &launch.output, &kept.into_iter().flatten().collect::<Vec<_>>())
            })
        }
        Cloned::Parent(init, pidfd) => {
            Ok(Caged::new(First::new(kind.tier, init, pidfd), reader, occupant, watchdog, layers))
        }
    }
}

/// Makes the first process of a cage, with the signals blocked that it will wait for.
pub(crate) fn clone_init(kind: Kind, network: NetworkOf) -> Result<Cloned, Refused> {
    let flags = match kind.tier {
        Tier::Namespaces => namespaces::flags(network),
        Tier::Landlock => {
            // Should init be killed, what it leaves behind comes to us and is ended by `Caged::finish`.
            set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| Refused::new("subreaper", error))?;
            0
        }
    };
    let blocked = crate::init::block_signals().map_err(|error| Refused::new("signals", error))?;
    let cloned = namespaces::clone(flags);
    if let Ok(Cloned::Child) = cloned {
        return Ok(Cloned::Child);
    }
    blocked.restore().map_err(|error| Refused::new("signals", error))?;
    cloned.map_err(|error| Refused::by_kernel("make the first process", error))
}

/// What the first steps of a launch depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The tier.
    pub tier: Tier,
    /// What may be reached over the network.
    pub network: Network,
}

impl Kind {
    /// Of a policy.
    pub fn of(draft: &Draft) -> Self {
        Kind { tier: draft.tier, network: draft.network }
    }

    /// Whether its jobs reach their network through a door.
    pub fn needs_door(self) -> bool {
        self.tier == Tier::Namespaces && matches!(self.network, Network::Egress { .. })
    }

    /// Whether its jobs can be in a network that the calling process has entered: those without any, in the namespaces tier.
    pub fn takes_entered(self) -> bool {
        self.tier == Tier::Namespaces && self.network == Network::None
    }

    /// Whose network the job gets. One that was entered for jobs without any is for no other job.
    pub(crate) fn network_of(self, entered: Option<Private>) -> Result<NetworkOf, Refused> {
        match (self.tier, self.network, entered) {
            (.., Some(_)) if self.takes_entered() => Ok(NetworkOf::Caller),
            (.., Some(_)) => Err(Refused::new("network", "it was entered for a job of another kind")),
            (_, Network::Host, None) | (Tier::Landlock, _, None) => Ok(NetworkOf::Caller),
            (Tier::Namespaces, Network::None | Network::Egress { .. }, None) => Ok(NetworkOf::Job),
        }
    }
}

/// A cage whose first steps are done, around the calling process.
#[derive(Debug)]
pub(crate) struct Begun {
    root: Option<root::Root>,
    /// Only where there was time for it.
    pub(crate) rules: Option<landlock::Rules>,
}

/// The first steps, in the first process: all that asks for nothing but a kind. Closes every descriptor but the standard streams
/// and `kept`, of which the first is the supervisor's status pipe.
pub(crate) fn begin(
    kind: Kind,
    network: NetworkOf,
    ids: Ids,
    output: &Output,
    kept: &[&OwnedFd],
) -> Result<Begun, Refused> {
    step("output", || {
        dup2_stdout(&output.stdout)?;
        dup2_stderr(&output.stderr)?;
        // So that the supervisor's is not held here, until there is the cage's own /dev/null.
        dup2_stdin(&output.stdout)?;
        close_all_but(kept)
    })?;
    step("lifeline", || tie_to_supervisor(kind.tier, kept[0]))?;
    step("be the first to go when memory is short", limits::volunteer)?;
    let mut root = None;
    if kind.tier == Tier::Namespaces {
        step("map ids", || namespaces::map_ids(ids))?;
        step("bound watchers of files", namespaces::bound_watchers)?;
        step("make mounts private", namespaces::make_mounts_private)?;
        step("name the host, loopback", || namespaces::name_and_loopback(network))?;
        root = Some(root::begin(kind.network)?);
    }
    if kind.tier == Tier::Namespaces || !capabilities::is_bound_for_all() {
        step("bound capabilities", capabilities::bound)?;
    }
    Ok(Begun { root, rules: None })
}

/// Everything that the inside needs, prepared outside.
pub(crate) struct Launch<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) last: Last<'a>,
    pub(crate) filters: Filters,
    pub(crate) output: Output,
    /// `None` once init has taken it for its last word.
    pub(crate) status: Option<OwnedFd>,
    pub(crate) inside: Inside<'a>,
}

/// What the supervisor has found out for the inside.
pub(crate) struct Inside<'a> {
    pub(crate) means: &'a [(Limit, Means)],
    /// Processes that the job bounds itself to.
    pub(crate) own_room: Option<u64>,
    pub(crate) group: &'a Group,
}

impl<'a> Launch<'a> {
    /// Makes the cage around the calling process, runs the job in it and ends.
    pub(crate) fn run_init(mut self, begun: impl FnOnce(&Self) -> Result<Begun, Refused>) -> ! {
        match begun(&self).and_then(|begun| self.enter(begun)) {
            Ok((job, clerk)) => {
                let init = Init { tier: self.policy.get().tier, job, group: self.inside.group, clerk };
                init.run(self.status.take().expect("nobody else takes it"))
            }
            Err(refused) => self.refuse(refused),
        }
    }

    pub(crate) fn enter_groups(&self) -> Result<(), Refused> {
        step("enter the control groups", || self.inside.group.enter())
    }

    fn tell(&self, status: &Status) {
        if let Some(pipe) = &self.status {
            send(pipe, status);
        }
    }

    fn refuse(&self, refused: Refused) -> ! {
        self.tell(&Status::Refused(refused));
        exit_now(EXIT_REFUSED)
    }

    /// Completes the cage around the calling process and starts the job in it.
    fn enter(&self, begun: Begun) -> Result<(Pid, Option<Clerk<'a>>), Refused> {
        let draft = self.policy.get();
        if let Some(root) = &begun.root {
            if let (Some(bound), Some(Means::PidMax)) =
                (draft.limits.processes, by(self.inside.means, Limit::Processes))
            {
                step("bound the process ids", || limits::bound_pids(bound))?;
            }
            root.enter(self.policy)?;
        }
        step("fill the home folder", || home::fill(&draft.home, &draft.home_files))?;
        step("stdin", || dup2_stdin(open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))?;
        // From here on no process of the same user can look into init, whose memory is a copy of the supervisor's.
        step("hide init", || set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
        self.complete()?;
        let init = rustix::process::getpid();
        let (rules, post) = (begun.rules, step("prepare the clerk", || Post::of(draft.tier))?);
        let job = step("fork the job", || match self.last {
            Last::Exec(_) | Last::Terminal(_) | Last::Exit => {
                namespaces::borrow_memory(|| self.run_job(init, rules, post.as_ref()))
            }
            Last::Guest(_) | Last::Errand(_) | Last::Compile { .. } => match namespaces::clone(0)? {
                Cloned::Parent(job, _) => Ok(job),
                Cloned::Child => self.run_job(init, rules, post.as_ref()),
            },
        })?;
        step("let go of the output", || self.let_go_of_output())?;
        let clerk = step("prepare the clerk", || post.map(|post| Clerk::new(self.policy, post)).transpose())?;
        Ok((job, clerk))
    }

    /// The last of the cage itself. Nothing of it may wait for the job: one that becomes a program holds up init until it has.
    fn complete(&self) -> Result<(), Refused> {
        let draft = self.policy.get();
        if draft.tier == Tier::Namespaces {
            step("leave the host's root", root::leave_host)?;
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

    fn run_job(&self, init: Pid, rules: Option<landlock::Rules>, post: Option<&Post>) -> ! {
        match self.become_job(init, rules, post) {
            Ok(never) => match never {},
            Err(refused) => self.refuse(refused),
        }
    }

    /// Confines the calling process and executes the program.
    fn become_job(
        &self,
        init: Pid,
        rules: Option<landlock::Rules>,
        post: Option<&Post>,
    ) -> Result<std::convert::Infallible, Refused> {
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
        let canary = Canary::new(self.policy);
        step("descriptors", || close_all_from(3, CloseRange::OnExec))?;
        let landlock_abi = landlock::confine(self.policy, rules).map_err(|error| Refused::new("landlock", error))?;
        let metadata = self.install_filter(post)?;
        // Behind what is sent to the clerk: the kernel counts what all jobs of the user send each other, and stops who may have
        // the fewest files open.
        step("rlimits", || limits::apply(&draft.limits, self.inside.means, self.inside.own_room))?;
        canary.sing().map_err(|reason| Refused::new("self-check", reason))?;
        self.tell(&Status::Ready { landlock_abi, metadata });
        match self.last {
            Last::Exit => exit_now(0),
            Last::Guest(job) => {
                let status = self.status.as_ref().expect("init has not taken it");
                step("close descriptors", || close_all_but(&[status]))?;
                exit_now(job.run(status))
            }
            Last::Compile { engine, module } => {
                step("close descriptors", || close_all_but(&[]))?;
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
                self.tell(&Status::StartFailed { errno: errno.raw_os_error() });
                exit_now(EXIT_REFUSED)
            }
        }
    }

    /// Closes the calls that no job makes, and hands over to the clerk where others are asked.
    fn install_filter(&self, post: Option<&Post>) -> Result<Metadata, Refused> {
        let listener = step("seccomp", || seccomp::install(&self.filters))?;
        let Some(listener) = listener else { return Ok(Metadata::Own) };
        step("hand over to the clerk", || post.ok_or(io::Errno::NOTCONN)?.send(&listener))?;
        Ok(Metadata::Asked)
    }

    /// The descriptor that only the job keeps.
    fn channel(&self) -> Option<&OwnedFd> {
        match self.last {
            Last::Errand(errand) => Some(&errand.channel),
            Last::Exec(_) | Last::Terminal(_) | Last::Guest(_) | Last::Compile { .. } | Last::Exit => None,
        }
    }
}

/// Makes sure that the cage ends when the supervisor does, even by SIGKILL.
fn tie_to_supervisor(tier: Tier, status: &OwnedFd) -> io::Result<()> {
    match tier {
        // The end of pid 1 is the end of its namespace.
        Tier::Namespaces => die_with_parent(Signal::KILL)?,
        Tier::Landlock => {
            set_child_subreaper(Some(rustix::process::getpid()))?;
            die_with_parent(KILL_ALL)?;
        }
    }
    // Had the supervisor ended before, no signal would come; but then nobody holds the pipe's other end.
    let mut pipe = [PollFd::new(status, PollFlags::empty())];
    poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if pipe[0].revents().contains(PollFlags::ERR) { Err(io::Errno::PIPE) } else { Ok(()) }
}

pub(crate) fn step<T>(name: &str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Refused> {
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
