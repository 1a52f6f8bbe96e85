//! A cage that is made before its job is known: its first process goes through the first steps of the
//! [launch](mod@crate::launch), waits for an order, and goes on. What an order says is the caller's: two lines of bytes from
//! the process outside to the one inside, which are copies of the same program. The first says what is to be done, and both
//! can make out at the same time what that means; the second that it shall be done, and what only the process outside knows.
//!
//! What is made ahead is what no job has a say in. It holds nothing of any job and has seen none; it serves one, or nobody: it
//! ends when the process outside closes its end, or itself. It serves programs alone (no guest, no code of ours, nothing that
//! needs a door), and only while the host is [as it was](crate::host_view) when it was made.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::caged::{Caged, First};
use crate::cgroup::{Group, GroupPlace};
use crate::host_view::HostView;
use crate::landlock::Rules;
use crate::launch::{
    Begun, EXIT_REFUSED, HOLD_LAYERS, Inside, Kind, Last, Launch, Output, Refused, begin, clone_init, exit_now, step,
};
use crate::limits::means;
use crate::namespaces::{Cloned, Ids, NetworkOf};
use crate::network::Private;
use crate::overlay::Layers;
use crate::policy::Policy;
use crate::program::Program;
use crate::seccomp::{self, Occupant};
use crate::status::{Status, send};
use crate::watchdog::Watchdog;

/// What ends an order.
const END: u8 = b'\n';
/// Bytes read of an order at once.
const READ_BYTES: usize = 16 << 10;

/// A cage without a job, seen from outside. Dropping it ends it.
#[derive(Debug)]
pub struct Ahead {
    kind: Kind,
    /// `None` once it has a job, or is given up.
    idle: Option<Idle>,
}

#[derive(Debug)]
struct Idle {
    host: HostView,
    first: First,
    order: OwnedFd,
    status: OwnedFd,
    /// Our ends of the job's two output streams.
    streams: [OwnedFd; 2],
}

/// A cage without a job, seen by its first process.
#[derive(Debug)]
pub struct Within {
    kind: Kind,
    output: Output,
    order: BufReader<File>,
    status: OwnedFd,
    begun: Begun,
}

/// What goes with an order: what only the process outside can know or make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// How many processes the job bounds itself to, where only the watchdog does.
    pub own_room: Option<u64>,
    /// The job's control groups.
    pub groups: Vec<GroupPlace>,
}

/// Why an order was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// The launch is refused, here as anywhere.
    Refused(Refused),
    /// The cage has ended, or the host is another: another one is wanted.
    Gone,
}

/// Begins a cage of this kind; `entered` as in [`Output::network`]. The cage's first process, a copy of the calling one in
/// which every descriptor is closed, goes on in `inside` when the first steps are done.
///
/// # Errors
/// [`Refused`] when not even the first process could be made, or the kind needs a door, which comes with a job.
pub fn make(kind: Kind, entered: Option<Private>, inside: fn(Within) -> !) -> Result<Ahead, Refused> {
    if kind.needs_door() {
        return Err(Refused::new("network", "its door comes with the job"));
    }
    let network = kind.network_of(entered)?;
    let host = step("look at the host", || HostView::now(kind.network))?;
    let pipe = || step("pipes", || pipe_with(PipeFlags::CLOEXEC));
    let ((listening, order), (status, telling)) = (pipe()?, pipe()?);
    let ((stdout, stdout_end), (stderr, stderr_end)) = (pipe()?, pipe()?);
    // Nobody waits for a cage that does not take its order.
    step("pipes", || io::ioctl_fionbio(&order, true))?;
    let ids = Ids::current();
    match clone_init(kind, network)? {
        Cloned::Parent(init, pidfd) => {
            let first = First::new(kind.tier, init, pidfd);
            Ok(Ahead { kind, idle: Some(Idle { host, first, order, status, streams: [stdout, stderr] }) })
        }
        Cloned::Child => {
            let output = Output { stdout: stdout_end, stderr: stderr_end, door: None, network: entered };
            match begin_all(kind, network, ids, &output, &[&telling, &listening]) {
                Ok(begun) => {
                    let order = BufReader::with_capacity(READ_BYTES, File::from(listening));
                    inside(Within { kind, output, order, status: telling, begun })
                }
                Err(refused) => {
                    send(&telling, &Status::Refused(refused));
                    exit_now(EXIT_REFUSED)
                }
            }
        }
    }
}

fn begin_all(kind: Kind, network: NetworkOf, ids: Ids, output: &Output, kept: &[&OwnedFd]) -> Result<Begun, Refused> {
    let mut begun = begin(kind, network, ids, output, kept)?;
    let rules = Rules::begin(kind).map_err(|error| Refused::new("landlock", error))?;
    begun.rules = Some(rules);
    Ok(begun)
}

impl Ahead {
    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Says by priority that the host is not as it was any more, and that this serves nobody; `None` where it does not anyway.
    pub fn changes(&self) -> Option<BorrowedFd<'_>> {
        Some(self.idle.as_ref()?.host.mounts())
    }

    /// Passes on the first line of an order, with its end. A cage that does not take it at once is given up.
    pub fn announce(&mut self, line: &[u8]) {
        if self.pass_on(line).is_none() {
            self.give_up();
        }
    }

    /// Passes on the second line of an order for a job of `policy`, which has to be of this kind. Gives the cage and our ends of
    /// the job's two output streams.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing was run.
    pub fn launch(
        mut self,
        policy: &Policy,
        order: impl FnOnce(&Handed) -> Vec<u8>,
    ) -> Result<(Caged, [OwnedFd; 2]), NotTaken> {
        assert_eq!(self.kind, Kind::of(policy.get()), "BUG: a cage of another kind");
        let watchdog = Watchdog::new(policy.get())
            .map_err(|error| NotTaken::Refused(Refused::new("prepare the limits", error)))?;
        let layers = Layers::take(&policy.get().worktree, &policy.get().copies)
            .map_err(|error| NotTaken::Refused(Refused::by_kernel(HOLD_LAYERS, error)))?;
        let handed = Handed { own_room: watchdog.room().own(), groups: watchdog.group().places() };
        let is_host_same = self.idle.as_ref().is_some_and(|idle| idle.host.holds());
        is_host_same.then(|| self.pass_on(&order(&handed))).flatten().ok_or(NotTaken::Gone)?;
        let Idle { first, status, streams, .. } = self.idle.take().ok_or(NotTaken::Gone)?;
        Ok((Caged::new(first, status, Occupant::Program, watchdog, layers), streams))
    }

    /// `None` where not all of a line was taken, which is of no use then.
    fn pass_on(&self, line: &[u8]) -> Option<()> {
        let idle = self.idle.as_ref()?;
        let written = io::retry_on_intr(|| io::write(&idle.order, line)).ok()?;
        (written == line.len()).then_some(())
    }

    fn give_up(&mut self) {
        let Some(mut idle) = self.idle.take() else { return };
        // It has no job: nothing else can be inside.
        idle.first.signal(Signal::KILL);
        let _ = idle.first.wait_alone();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Within {
    /// Waits for the next line of the order, which comes without its end; `None` when there will be none.
    pub fn wait(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        self.order.read_until(END, &mut line).ok()?;
        (line.pop() == Some(END)).then_some(line)
    }

    /// Completes the cage for `program` under `policy`, runs it and ends.
    pub fn launch(self, policy: &Policy, program: &Program, handed: Handed) -> ! {
        let draft = policy.get();
        assert_eq!(self.kind, Kind::of(draft), "BUG: a cage of another kind");
        let means = means(draft);
        let group = match Group::known(handed.groups) {
            Ok(group) => group,
            Err(error) => self.refuse(Refused::new("open the control groups", error)),
        };
        let launch = Launch {
            policy,
            last: Last::Exec(program),
            filters: seccomp::filters(draft, &means, Occupant::Program),
            output: self.output,
            status: Some(self.status),
            inside: Inside { means: &means, own_room: handed.own_room, group: &group },
        };
        launch.run_init(|launch| launch.enter_groups().map(|()| self.begun))
    }

    /// Says why the order cannot be followed, and ends.
    pub fn refuse(&self, refused: Refused) -> ! {
        send(&self.status, &Status::Refused(refused));
        exit_now(EXIT_REFUSED)
    }
}
