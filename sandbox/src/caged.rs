//! A launched tree of processes, seen from outside: what it says, what it is told, and its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io;
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};

use crate::cgroup::Group;
use crate::enforcement::Tier;
use crate::hunt::{HUNT_MAX, Hunt, end_children};
use crate::init::{KILL_ALL, TERMINATE_ALL};
use crate::overlay::Layers;
use crate::seccomp::Occupant;
use crate::status::{Reader, Status};
use crate::tree::Tree;
use crate::watchdog::{Breach, Watchdog};

/// A launched tree of processes, seen from outside. Dropping it kills the tree.
#[derive(Debug)]
pub struct Caged {
    first: First,
    status: OwnedFd,
    reader: Reader,
    watchdog: Watchdog,
    /// Whether init's word is enough to let go of it: only init has the status pipe while the job runs.
    is_word_enough: bool,
    /// Init's own word that all of the job is dead.
    is_over: bool,
    /// Held until init has ended, and its mounts with it.
    _layers: Layers,
}

/// The first process of a cage.
#[derive(Debug)]
pub(crate) struct First {
    tier: Tier,
    /// `None` once it was reaped.
    init: Option<Pid>,
    pidfd: OwnedFd,
    /// Processes that had to be killed after its end.
    hunted: u64,
    /// It was waited for as long as anything is.
    outlived_a_wait: bool,
}

/// How long one that outlived a wait is waited for when it was killed once more.
const LAST_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Caged {
    /// Of a first process that goes on by itself; `status` is our end of its pipe.
    pub(crate) fn new(first: First, status: OwnedFd, occupant: Occupant, watchdog: Watchdog, layers: Layers) -> Self {
        Caged {
            first,
            status,
            reader: Reader::default(),
            watchdog,
            is_word_enough: occupant == Occupant::Program,
            is_over: false,
            _layers: layers,
        }
    }

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
            if let Status::Ended { crowd, refused, is_over, .. } = status {
                self.watchdog.hear_refused(*refused);
                self.watchdog.hear_crowd(*crowd);
                self.is_over = *is_over && self.is_word_enough;
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
        self.first.signal(signal);
    }

    /// When to call [`Caged::look`] next; `None` when this job has no limits that want it.
    pub fn next_look(&self) -> Option<std::time::Instant> {
        self.watchdog.next_look()
    }

    /// Looks after the limits. A breach that it gives is to be answered by [`Caged::kill`]: the job may be held still.
    pub fn look(&mut self) -> Option<Breach> {
        let tree = Tree::new(self.first.init?, self.first.pidfd.as_fd());
        self.watchdog.look(tree)
    }

    /// Waits until all of the job is dead, but not for ever; to be called when the inside has ended its words. Init itself may
    /// still be on its way out: the kernel takes its namespaces apart, which nobody needs to wait for.
    ///
    /// # Errors
    /// The system's, when there is no such child: somebody else reaped it.
    pub fn finish(mut self) -> io::Result<(Reaped, Remains)> {
        let left = if self.is_over { Left::Nothing } else { self.first.wait(self.watchdog.group())? };
        let breach = self.watchdog.last_look();
        let (hunted, lacked_room) = (self.first.hunted, self.watchdog.lacked_room());
        let reaped = Reaped { breach, left, lacked_room, hunted };
        Ok((reaped, Remains { caged: self, left }))
    }

    /// Waits until init has ended, and everything inside with it, but not for ever.
    ///
    /// # Errors
    /// The system's, when there is no such child: somebody else reaped it.
    pub fn reap(mut self) -> io::Result<Reaped> {
        self.is_over = false;
        self.finish().map(|(reaped, _)| reaped)
    }
}

/// Init on its way out, and the control groups that can be removed when it has gone: dropping this waits for both.
#[derive(Debug)]
#[must_use = "dropping it waits"]
pub struct Remains {
    caged: Caged,
    left: Left,
}

impl Remains {
    /// Waits, and tells whether anything outlived even that.
    pub fn wait(mut self) -> Left {
        match self.left {
            Left::Nothing => self.caged.first.wait(self.caged.watchdog.group()).unwrap_or(Left::MayRun),
            // It is killed once more as this goes.
            Left::MayRun => Left::MayRun,
        }
    }
}

impl First {
    /// A child of the calling process; `pidfd` stands for it.
    pub(crate) fn new(tier: Tier, init: Pid, pidfd: OwnedFd) -> Self {
        First { tier, init: Some(init), pidfd, hunted: 0, outlived_a_wait: false }
    }

    /// Nothing is to be done about one that has already ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its own end, but not for ever. What is left of the others is another question.
    ///
    /// # Errors
    /// The system's, when there is no such child: somebody else reaped it.
    pub(crate) fn wait_alone(&mut self) -> io::Result<Left> {
        // pid 1 ends when all of its namespace has.
        let left = self.wait_for(Timespec { tv_sec: HUNT_MAX.as_secs().cast_signed(), tv_nsec: 0 })?;
        self.outlived_a_wait = left == Left::MayRun;
        Ok(left)
    }

    fn wait_for(&mut self, timeout: Timespec) -> io::Result<Left> {
        let Some(init) = self.init else { return Ok(Left::Nothing) };
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if io::retry_on_intr(|| poll(&mut ended, Some(&timeout)))? == 0 {
            return Ok(Left::MayRun);
        }
        // Until it is waited for, whoever holds it can end it, and has to.
        let waited = io::retry_on_intr(|| waitpid(Some(init), WaitOptions::NOHANG));
        self.init = None;
        waited.map(|_| Left::Nothing)
    }

    fn wait(&mut self, group: &Group) -> io::Result<Left> {
        if self.init.is_none() {
            return Ok(Left::Nothing);
        }
        let left = self.wait_alone()?;
        Ok(self.end_orphans(left, group))
    }

    /// The same for one that outlived a wait, and was killed once more.
    fn wait_again(&mut self, timeout: Timespec, group: &Group) -> io::Result<Left> {
        if self.init.is_none() {
            return Ok(Left::Nothing);
        }
        let left = self.wait_for(timeout)?;
        Ok(self.end_orphans(left, group))
    }

    /// Ends what it had no time for, where that has become ours.
    fn end_orphans(&mut self, left: Left, group: &Group) -> Left {
        if (left, self.tier) != (Left::Nothing, Tier::Landlock) {
            return left;
        }
        let (killed, left) = match end_children(group) {
            Hunt::Over(found) => (found.killed, Left::Nothing),
            Hunt::Escaped(found) => (found.killed, Left::MayRun),
        };
        self.hunted += killed;
        left
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
    /// How many processes had to be killed that init had left.
    pub hunted: u64,
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
        if self.first.init.is_none() {
            return;
        }
        if !self.is_over {
            self.destroy();
        }
        let _ = match self.first.outlived_a_wait {
            true => self.first.wait_again(LAST_WAIT, self.watchdog.group()),
            false => self.first.wait(self.watchdog.group()),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use rustix::process::{PidfdFlags, getpid, pidfd_open, set_child_subreaper, test_kill_process};

    use super::*;

    #[test]
    fn one_that_outlives_a_wait_can_still_be_killed_and_reaped() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let init = Pid::from_raw(child.id().cast_signed()).unwrap();
        let mut first = First::new(Tier::Landlock, init, pidfd_open(init, PidfdFlags::empty()).unwrap());
        assert_eq!(first.wait_for(Timespec { tv_sec: 0, tv_nsec: 0 }), Ok(Left::MayRun));
        assert_eq!(first.init, Some(init));
        first.signal(Signal::KILL);
        assert_eq!((first.wait_alone(), first.init), (Ok(Left::Nothing), None));
        assert!(child.wait().is_err(), "nothing is left to be waited for");
    }

    #[test]
    fn what_one_leaves_that_outlived_a_wait_is_ended_with_it() {
        const ALONE: &str = "SWARM_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            // All children of a process are ended: it takes one that has no others.
            let name = "caged::tests::what_one_leaves_that_outlived_a_wait_is_ended_with_it";
            let mut alone = Command::new(std::env::current_exe().unwrap());
            assert!(alone.args(["--exact", name]).env(ALONE, "1").status().unwrap().success());
            return;
        }
        set_child_subreaper(Some(getpid())).unwrap();
        let script = "sleep 60 & echo $!; exec sleep 60";
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let init = Pid::from_raw(child.id().cast_signed()).unwrap();
        let mut first = First::new(Tier::Landlock, init, pidfd_open(init, PidfdFlags::empty()).unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let orphan = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        test_kill_process(orphan).unwrap();
        first.signal(Signal::KILL);
        let long = Timespec { tv_sec: 60, tv_nsec: 0 };
        let group = Group::known(Vec::new()).unwrap();
        assert_eq!(first.wait_again(long, &group), Ok(Left::Nothing));
        assert!(test_kill_process(orphan).is_err(), "it lives on");
        assert!(child.wait().is_err(), "nothing is left to be waited for");
    }
}
