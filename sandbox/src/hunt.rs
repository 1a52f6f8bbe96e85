//! Finds the processes that descend from one, and ends all that a job left behind.
//!
//! The kernel lists children by number, and a number is free again as soon as its process was reaped: between the list and the
//! signal it may have become a stranger's. So each process is first held by a descriptor, then asked whose child it is, and only
//! then met. Where a process has to be told from all that had its number before, its start time does that: numbers are given in a
//! circle, and none comes back within one tick of the clock. Whether it is a child of our own the kernel answers by the descriptor
//! alone: so nothing that a process says or hides of itself keeps it from being ended once it has become ours.
//!
//! Everything here ends within [`HUNT_MAX`], whatever the kernel does with a child.
//!
//! Source: pidfd_open(2), waitid(2), proc_pid_stat(5), proc_pid_task_children(5).

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, pidfd_open,
    pidfd_send_signal, prlimit, wait, waitid,
};

use crate::cgroup::Group;
use crate::init::{block_child_signal, wait_for_child};
use crate::room::is_filling_up;
use crate::stat::Stat;

/// How long processes are hunted that fork faster than they are killed, or hang in the kernel.
pub const HUNT_MAX: Duration = Duration::from_secs(10);
/// How many are hunted at once (landlock tier).
const HUNTED_MAX: usize = 100_000;
/// So many of the dead are reaped before anything else is looked at: where they come as fast as they are reaped, there is no end to
/// them before those that they come from are stopped.
pub(crate) const REAPED_AT_ONCE: usize = 2048;
/// So many of the newest are looked at while any are fresh among them: by the time that thousands of dead were looked at, who was
/// alive is gone.
const NEWEST: usize = 512;
/// So many are met before those that have ended are reaped.
const MET_BETWEEN: usize = 64;
/// After so long without news of a child, all that are left are looked for and killed anew.
const ROUND: Duration = Duration::from_millis(100);

/// What became of everything that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hunt {
    /// All is dead.
    Over(Found),
    /// Something was still left after [`HUNT_MAX`]: nothing that it can write may be believed.
    Escaped(Found),
}

/// What was found of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// How many had to be killed and were reaped.
    pub killed: u64,
    /// How many processes were left at once, at the most: those that were listed together, with those among them that had ended
    /// and were not reaped.
    pub crowd: u64,
}

impl Hunt {
    /// What was found, however it ended.
    pub fn found(self) -> Found {
        let (Hunt::Over(found) | Hunt::Escaped(found)) = self;
        found
    }
}

/// Kills children, and their children when they have become ours, until none is left. The calling process must be a
/// subreaper. Where some are left, a control group that holds them lets none of them fork any more.
pub fn end_children(group: &Group) -> Hunt {
    let stop_until = Instant::now() + HUNT_MAX / 2;
    reap_while(|reaped| {
        group.forbid_forks();
        // While none is killed, none that is killed makes room for another.
        stop_forks(stop_until, reaped);
        each_descendant(getpid(), First::Newest, HUNTED_MAX, |one| one.signal(Signal::KILL));
    })
}

/// Waits for children that have been killed, and for those that became ours, until none is left.
pub fn reap_all() -> Hunt {
    reap_while(|_| {})
}

/// Reaps until no child is left; `kill` is called whenever some are and nothing more of them is to be heard.
fn reap_while(kill: impl Fn(&mut Reaped)) -> Hunt {
    let mut reaped = Reaped { found: Found::default(), until: Instant::now() + HUNT_MAX };
    // Most jobs leave nothing: then there is no need to look around.
    if reaped.take_ended() == Left::Nobody {
        return Hunt::Over(reaped.found);
    }
    // Without the signal, a round takes its whole time.
    let mask = block_child_signal();
    let hunt = loop {
        kill(&mut reaped);
        let others = reaped.take_most();
        let left = reaped.until.saturating_duration_since(Instant::now());
        match others {
            Left::Nobody => break Hunt::Over(reaped.found),
            Left::Some | Left::Dead if left.is_zero() => break Hunt::Escaped(reaped.found),
            Left::Some => wait_for_child(left.min(ROUND)),
            Left::Dead => {}
        }
    };
    if let Ok(mask) = mask {
        let _ = mask.restore();
    }
    hunt
}

/// What was reaped so far.
struct Reaped {
    found: Found,
    until: Instant,
}

/// Whether any child is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nobody,
    Some,
    /// And some that can be reaped at once.
    Dead,
}

impl Reaped {
    /// Reaps those that have ended, as a rule all of them.
    fn take_most(&mut self) -> Left {
        let mut rounds = (0..HUNTED_MAX / REAPED_AT_ONCE).map(|_| self.take_ended());
        rounds.find(|left| *left != Left::Dead).unwrap_or(Left::Dead)
    }

    /// Reaps those that have ended, at most [`REAPED_AT_ONCE`].
    fn take_ended(&mut self) -> Left {
        for _ in 0..REAPED_AT_ONCE {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((_, status))) => self.found.killed += was_killed(status),
                Ok(None) => return Left::Some,
                Err(Errno::INTR) => {}
                Err(_) => return Left::Nobody,
            }
        }
        Left::Dead
    }
}

fn was_killed(status: WaitStatus) -> u64 {
    u64::from(status.terminating_signal() == Some(Signal::KILL.as_raw()))
}

/// Stops all descendants until no new one is met or it is `until`, and sets to 0 how many processes their user may have: one that a
/// process not met yet wakes again can fork no more, nor can what inherits that. The kernel asks nothing of the kind of root, who
/// is only stopped. Those that have a child and are gone, over and over, are met where the dead take their room: a fork that fails is
/// tried again by who stays. So nobody is reaped before all are stopped, unless the dead fill the machine. The newest are met first:
/// what lives of such a chain came last, behind all of its dead, and is gone when those were looked at.
fn stop_forks(until: Instant, reaped: &mut Reaped) {
    let (mut stopped, mut looked_at) = (HashSet::new(), NEWEST);
    loop {
        let (mut fresh, mut met) = (0, 0);
        let listed = each_descendant(getpid(), First::Newest, looked_at, |one| {
            met += 1;
            if met % MET_BETWEEN == 0 && is_filling_up(reaped.found.crowd) {
                reaped.take_ended();
            }
            if stopped.insert((one.pid, one.started)) {
                fresh += 1;
                one.signal(Signal::STOP);
                one.forbid_forks();
            }
        });
        reaped.found.crowd = reaped.found.crowd.max(listed as u64);
        let is_quiet = fresh == 0 && listed <= looked_at || Instant::now() >= until;
        let is_nobody_left = (is_quiet || is_filling_up(reaped.found.crowd)) && reaped.take_ended() == Left::Nobody;
        if is_quiet || is_nobody_left {
            return;
        }
        looked_at = if fresh == 0 { HUNTED_MAX } else { NEWEST };
    }
}

/// A descendant that lived when it was met, and that no other process can be taken for.
pub struct Descendant {
    pid: Pid,
    pidfd: OwnedFd,
    /// Ticks since the machine started.
    started: u64,
}

impl Descendant {
    /// The process of that number; `None` when it has ended, or is the child of nobody that `is_ours` says yes to.
    fn meet(pid: Pid, is_ours: impl FnOnce(Pid) -> bool) -> Option<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let stat = Stat::of(pid)?;
        let one = Descendant { pid, pidfd, started: stat.started };
        // While it lives nobody else has its number: then what was read is about the process that the descriptor holds.
        (one.lives() && is_ours(stat.parent)).then_some(one)
    }

    /// A child of the calling process; `None` when it has ended, or when the number is somebody else's by now.
    fn meet_own(pid: Pid) -> Option<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Asked before anything that costs more: thousands may have ended.
        if !matches!(waitid(WaitId::PidFd(pidfd.as_fd()), only_look), Ok(None)) {
            return None;
        }
        // Where /proc does not show it, neither are its children shown: the time is compared with nobody's.
        let started = Stat::of(pid).map_or(0, |stat| stat.started);
        Some(Descendant { pid, pidfd, started })
    }

    /// Sends it a signal; nobody else can get it.
    pub fn signal(&self, signal: Signal) {
        // Nothing to be done about a process that has already ended.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// To be called behind a SIGSTOP, as the call takes a number: a parent that is stopped reaps nobody and one that is stopped
    /// does not end by itself, so only who is killed by another and waited for by nobody could lose it in between.
    fn forbid_forks(&self) {
        if self.lives() {
            let _ = prlimit(Some(self.pid), Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) });
        }
    }

    fn lives(&self) -> bool {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}

/// Which child of a process is met before the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The one that it has had longest.
    Oldest,
    /// The one that became its child last.
    Newest,
}

/// Meets the descendants of a process that cannot end meanwhile, parents before children, at most about `max`; the ancestor's own
/// children in that order. Gives how many it found listed, with those that had ended.
pub fn each_descendant(ancestor: Pid, first: First, max: usize, mut meet: impl FnMut(&Descendant)) -> usize {
    let mut known: HashMap<Pid, u64> = HashMap::new();
    let mut listed = children_of(ancestor);
    if first == First::Newest {
        listed.reverse();
    }
    let own = if ancestor == getpid() { listed.len() } else { 0 };
    let mut next = 0;
    while next < listed.len() && next < max {
        let pid = listed[next];
        next += 1;
        let still = |parent: Pid| known.get(&parent).is_some_and(|then| Some(*then) == start_of(parent));
        let met = match next <= own {
            true => Descendant::meet_own(pid),
            false => Descendant::meet(pid, |parent| parent == ancestor || still(parent)),
        };
        let Some(one) = met else { continue };
        known.insert(pid, one.started);
        listed.extend(children_of(pid));
        meet(&one);
    }
    listed.len()
}

/// The numbers of all descendants of a process, parents before children, at most about `max`; to be read about, not to be acted
/// on: some may be strangers' by now.
pub fn descendants_of(pid: Pid, max: usize) -> Vec<Pid> {
    let mut all = children_of(pid);
    let mut next = 0;
    while next < all.len() && all.len() < max {
        all.extend(children_of(all[next]));
        next += 1;
    }
    all
}

/// How many children a process has at this moment, those among them that have ended and were not reaped.
pub fn count_children(pid: Pid) -> u64 {
    children_of(pid).len() as u64
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

fn start_of(pid: Pid) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process with a child of its own; what it prints is that child's number.
    fn family() -> (Child, Pid, Pid) {
        let mut parent = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; read line; kill $!; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut line = String::new();
        let out = parent.stdout.as_mut().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("it prints");
        let first = Pid::from_child(&parent);
        (parent, first, parse_pid(line.trim()).expect("a number"))
    }

    fn met(ancestor: Pid, max: usize) -> Vec<Pid> {
        let mut met = Vec::new();
        each_descendant(ancestor, First::Oldest, max, |one| met.push(one.pid));
        met
    }

    #[test]
    fn who_is_nobodys_child_of_ours_is_not_met() {
        let (mut parent, first, second) = family();
        assert!(met(getpid(), 100_000).ends_with(&[second]) || met(getpid(), 100_000).contains(&second));
        assert_eq!((met(first, 9), met(first, 0)), (vec![second], vec![]));
        // As when a list names a number that became a stranger's.
        assert!(Descendant::meet(second, |parent| parent == getpid()).is_none());
        assert!(Descendant::meet(getpid(), |parent| parent == first).is_none());
        assert!(Descendant::meet(second, |parent| parent == first).is_some());
        assert!(Descendant::meet_own(first).is_some() && Descendant::meet_own(second).is_none());
        drop(parent.stdin.take());
        parent.wait().expect("our child");
        assert!(Descendant::meet(first, |_| true).is_none(), "nobody has that number now");
    }

    #[test]
    fn the_newest_child_is_met_first_and_the_dead_count_until_they_are_reaped() {
        let mut shell = Command::new("sh")
            .args(["-c", "for n in 1 2 3; do sleep 600 & echo $!; done; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let first = Pid::from_child(&shell);
        let lines = std::io::BufRead::lines(std::io::BufReader::new(shell.stdout.take().expect("piped"))).take(3);
        let sleeps: Vec<Pid> = lines.map(|line| parse_pid(&line.expect("text")).expect("a number")).collect();
        let mut newest = Vec::new();
        each_descendant(first, First::Newest, 9, |one| newest.push(one.pid));
        newest.reverse();
        assert_eq!((met(first, 9), newest), (sleeps.clone(), sleeps.clone()));
        let held = pidfd_open(sleeps[0], PidfdFlags::empty()).expect("it lives");
        pidfd_send_signal(&held, Signal::KILL).expect("ours");
        poll(&mut [PollFd::new(&held, PollFlags::IN)], None).expect("it ends");
        assert_eq!((count_children(first), met(first, 9).len()), (3, 2), "nobody reaps it");
        for one in &sleeps[1..] {
            rustix::process::kill_process(*one, Signal::KILL).expect("a child of our child, not reaped");
        }
        shell.kill().expect("our child");
        shell.wait().expect("our child");
    }

    #[test]
    fn who_has_ended_is_not_met_before_it_is_reaped_either() {
        let mut child = Command::new("true").spawn().expect("true starts");
        let pid = Pid::from_child(&child);
        let held = pidfd_open(pid, PidfdFlags::empty()).expect("not reaped");
        poll(&mut [PollFd::new(&held, PollFlags::IN)], None).expect("it ends");
        assert!(Descendant::meet(pid, |_| true).is_none());
        child.wait().expect("our child");
    }

    #[test]
    fn a_process_says_whose_child_it_is() {
        let Stat { parent, started, .. } = Stat::of(getpid()).expect("our own");
        assert_eq!(Some(parent), rustix::process::getppid());
        assert!(started > 0 && start_of(getpid()) == Some(started));
    }
}
