//! Looks after the limits of one job from outside, from its launch to after its end: those that no kernel object holds, and
//! what became of those that one holds.
//!
//! Looks are cheap and many ([`LOOK_EVERY`]); what they suspect is looked at exactly, with the job held still, so that a
//! fast writer gains nothing by being fast. A suspicion that proves wrong is not raised again until there is more to it.
//!
//! A breach is [`Grade::Broke`] when the job cannot go on or would go on breaking it (out of memory, no end of forks, too
//! much on disk) and [`Grade::Touched`] when the kernel refused something and the job may have coped: only the end tells.

use std::time::{Duration, Instant};

use rustix::io;
use rustix::time::{ClockId, clock_gettime};

use crate::cgroup::Group;
use crate::disk::{Disk, Walked, Written};
use crate::limits::{Limit, Means, by, means};
use crate::policy::{Draft, Limits};
use crate::room::Room;
use crate::tree::Tree;

/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A look takes at most one part in this many of the time.
const LOOK_SHARE: u32 = 20;
/// So many refused forks are no accident.
const REFUSALS_MAX: u64 = 1_000;
/// Being so long at the limit of processes, where the kernel counts no refusals, is no accident.
const CROWDED_MAX: Duration = Duration::from_secs(2);
/// A look that comes late, on a busy machine, counts for no more than this.
const CROWDED_LOOK_MAX: Duration = Duration::from_millis(500);
/// A count within one part in this many of the bound is at the bound: processes come and go while they are counted.
const CROWD_SLACK: u64 = 16;

/// How far a limit was gone against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It was reached, and the job may have coped.
    Touched,
    /// It was broken: the job is a violation, however it ends.
    Broke,
}

/// A limit that was reached or broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The limit.
    pub limit: Limit,
    /// How far.
    pub grade: Grade,
    /// What was seen, for people.
    pub detail: String,
}

/// Looks after one job.
#[derive(Debug)]
pub struct Watchdog {
    limits: Limits,
    means: Vec<(Limit, Means)>,
    group: Group,
    disk: Option<Disk>,
    /// When to look next.
    next: Instant,
    /// What the last wrong suspicion about memory was based on.
    wrongly_suspected_bytes: u64,
    /// How long looks have found the job at its limit of processes; those that did not take away from it.
    crowded: Duration,
    /// When that was looked at last.
    crowd_seen: Instant,
    /// Whether any look did.
    was_crowded: bool,
    room: Room,
    /// Whether any look found none.
    lacked_room: bool,
    /// How many processes its group had refused when its first one ended.
    refused: u64,
    /// How many processes were left at once when its first one had ended.
    left_behind: u64,
}

impl Watchdog {
    /// For a job of `draft` that does not exist yet.
    ///
    /// # Errors
    /// The system's: a group could not be made, or a folder not be opened. The launch is refused.
    pub fn new(draft: &Draft) -> io::Result<Self> {
        let limits = draft.limits.clone();
        let disk = (limits.disk_bytes.is_some() || limits.files.is_some()).then(|| Disk::new(draft)).transpose()?;
        let means = means(draft);
        Ok(Watchdog {
            room: Room::now(draft, &means),
            lacked_room: false,
            refused: 0,
            left_behind: 0,
            means,
            group: Group::make(&limits)?,
            disk,
            limits,
            next: Instant::now() + LOOK_EVERY,
            wrongly_suspected_bytes: 0,
            crowded: Duration::ZERO,
            crowd_seen: Instant::now(),
            was_crowded: false,
        })
    }

    /// The job's groups, for init to enter.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What holds each limit.
    pub fn means(&self) -> &[(Limit, Means)] {
        &self.means
    }

    /// What room its processes had at its launch.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Whether its processes had none at some look.
    pub fn lacked_room(&self) -> bool {
        self.lacked_room
    }

    /// Takes down how many processes the job's group had refused when its first one ended: from then on nobody can tell.
    pub fn hear_refused(&mut self, refused: u64) {
        self.refused = refused;
    }

    /// Takes down how many processes were left at once when the first one had ended: looks come too seldom for a crowd that grows so
    /// fast.
    pub fn hear_crowd(&mut self, crowd: u64) {
        self.left_behind = crowd;
    }

    /// When to look next; `None` when there is nothing to look for.
    pub fn next_look(&self) -> Option<Instant> {
        let needed = |(limit, means): &(Limit, Means)| *limit != Limit::OpenFiles && *means != Means::Nothing;
        self.means.iter().any(needed).then_some(self.next)
    }

    /// Looks at a running job, which has to be killed when there is an answer.
    pub fn look(&mut self, tree: Tree<'_>) -> Option<Breach> {
        let started = own_time();
        let breach = self.counters(Grade::Broke).or_else(|| self.tree(tree)).or_else(|| self.written(Some(tree)));
        self.lacked_room |= self.room.is_used_up() || self.group.is_crowded_from_above();
        // Time that others took is no reason to look away.
        self.next = Instant::now() + LOOK_EVERY.max(own_time().saturating_sub(started) * LOOK_SHARE);
        breach
    }

    /// Looks at what an ended job left behind: the gravest breach, if any.
    pub fn last_look(&mut self) -> Option<Breach> {
        self.lacked_room |= self.room.is_used_up() || self.group.is_crowded_from_above();
        let is_counted_here = by(&self.means, Limit::Processes) == Some(Means::Watchdog);
        let crowd = is_counted_here.then(|| self.crowd(Means::Watchdog, self.left_behind)).flatten();
        let breach = self.counters(Grade::Broke).or(crowd).or_else(|| self.written(None));
        breach.or_else(|| self.counters(Grade::Touched)).or_else(|| {
            let detail = || format!("it had {} processes, as many as it may", self.limits.processes.unwrap_or(0));
            self.was_crowded.then(|| Breach { limit: Limit::Processes, grade: Grade::Touched, detail: detail() })
        })
    }

    /// What the kernel has counted.
    fn counters(&self, grade: Grade) -> Option<Breach> {
        let killed = self.group.killed_for_memory();
        if killed > 0 {
            let processes = if killed == 1 { "a process".to_owned() } else { format!("{killed} processes") };
            let detail = format!("the kernel killed {processes}: more than {}", bytes(self.limits.memory_bytes));
            return Some(Breach { limit: Limit::Memory, grade: Grade::Broke, detail });
        }
        let refused = self.group.refused_processes().max(self.refused);
        let counts = match grade {
            Grade::Broke => refused >= REFUSALS_MAX,
            Grade::Touched => refused > 0,
        };
        counts.then(|| {
            let times = if refused == 1 { "once".to_owned() } else { format!("{refused} times") };
            let bound = self.limits.processes.unwrap_or(0);
            let detail = format!("the kernel refused a process {times}: more than {bound} at once");
            Breach { limit: Limit::Processes, grade, detail }
        })
    }

    /// What only a look at all processes tells.
    fn tree(&mut self, tree: Tree<'_>) -> Option<Breach> {
        let counted = by(&self.means, Limit::Processes).filter(|means| !matches!(means, Means::Group(_)));
        let weighed = by(&self.means, Limit::Memory) == Some(Means::Watchdog);
        if counted.is_none() && !weighed {
            return None;
        }
        // Of those that end as fast as others come, most are gone when they are asked one by one; each of them was a process.
        if let Some(breach) =
            (counted == Some(Means::Watchdog)).then(|| self.crowd(Means::Watchdog, tree.children())).flatten()
        {
            return Some(breach);
        }
        let used = tree.measure();
        let crowd = counted.and_then(|means| self.crowd(means, used.processes));
        crowd.or_else(|| weighed.then(|| self.memory(tree, used.memory_bytes)).flatten())
    }

    fn crowd(&mut self, means: Means, processes: u64) -> Option<Breach> {
        let bound = self.limits.processes?;
        let broke = |detail: String| Some(Breach { limit: Limit::Processes, grade: Grade::Broke, detail });
        if means == Means::Watchdog {
            return if processes > bound { broke(format!("{processes} at once, more than {bound}")) } else { None };
        }
        let passed = std::mem::replace(&mut self.crowd_seen, Instant::now()).elapsed().min(CROWDED_LOOK_MAX);
        if processes + bound / CROWD_SLACK < bound {
            // Those that come and go while they are counted are missed now and then.
            self.crowded = self.crowded.saturating_sub(passed);
            return None;
        }
        self.was_crowded = true;
        self.crowded += passed;
        if self.crowded < CROWDED_MAX {
            return None;
        }
        broke(format!("{processes} at once, and no end: it may have {bound}"))
    }

    fn memory(&mut self, tree: Tree<'_>, counted: u64) -> Option<Breach> {
        let bound = self.limits.memory_bytes?;
        // What forks share was counted in each: ask exactly, but not at every look.
        if counted <= bound.max(self.wrongly_suspected_bytes.saturating_add(bound / 8)) {
            return None;
        }
        tree.hold();
        let exactly = tree.memory_exactly();
        if exactly > bound {
            let detail = format!("{} in memory, more than {}", bytes(Some(exactly)), bytes(Some(bound)));
            return Some(Breach { limit: Limit::Memory, grade: Grade::Broke, detail });
        }
        self.wrongly_suspected_bytes = counted;
        tree.release();
        None
    }

    /// What lies on disk; `tree` is `None` when the job has ended.
    fn written(&mut self, tree: Option<Tree<'_>>) -> Option<Breach> {
        let bound =
            Written { bytes: self.limits.disk_bytes.unwrap_or(u64::MAX), files: self.limits.files.unwrap_or(u64::MAX) };
        let disk = self.disk.as_mut()?;
        let suspect = disk.is_suspect(bound);
        let now = Instant::now();
        let due = if tree.is_some() { disk.is_walk_due(now) } else { disk.is_last_walk_due(now) };
        if !suspect && !due {
            return None;
        }
        let processes = || tree.map_or_else(Vec::new, |tree| tree.processes());
        if !suspect && over(disk.walk(bound, &processes()), bound).is_none() {
            return None;
        }
        tree.inspect(Tree::hold);
        let breach = over(disk.walk(bound, &processes()), bound);
        if breach.is_none() {
            tree.inspect(Tree::release);
        }
        breach
    }
}

/// Processor time of the calling thread.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn over(walked: Walked, bound: Written) -> Option<Breach> {
    let broke = |limit, detail| Some(Breach { limit, grade: Grade::Broke, detail });
    match walked {
        Walked::TooDeep => broke(Limit::Files, "folders in folders without end".to_owned()),
        Walked::Whole(written) if written.bytes > bound.bytes => {
            broke(Limit::Disk, format!("it wrote more than {}", bytes(Some(bound.bytes))))
        }
        Walked::Whole(written) if written.files > bound.files => {
            broke(Limit::Files, format!("it made or changed more than {} files and folders", bound.files))
        }
        Walked::Whole(_) => None,
    }
}

/// A number of bytes for people, in the largest binary unit that is not below one.
pub fn bytes(count: Option<u64>) -> String {
    const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let count = count.unwrap_or(0);
    let (unit, shift) = *UNITS.iter().find(|(_, shift)| count >> shift > 0).unwrap_or(&("B", 0));
    let tenths = ((count % (1 << shift)) * 10) >> shift;
    match tenths {
        0 => format!("{} {unit}", count >> shift),
        _ => format!("{}.{tenths} {unit}", count >> shift),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_for_people() {
        let all = [0, 1023, 1024, 64 << 20, (1 << 30) + (1 << 29)].map(|count| bytes(Some(count)));
        assert_eq!(all, ["0 B", "1023 B", "1 KiB", "64 MiB", "1.5 GiB"]);
    }

    #[test]
    fn each_bound_on_disk_has_its_own_name() {
        let bound = Written { bytes: 100, files: 10 };
        let check = |bytes, files, expected: Option<Limit>| {
            let breach = over(Walked::Whole(Written { bytes, files }), bound);
            assert_eq!(breach.map(|breach| breach.limit), expected);
        };
        check(100, 10, None);
        check(101, 0, Some(Limit::Disk));
        check(0, 11, Some(Limit::Files));
        assert_eq!(over(Walked::TooDeep, bound).map(|breach| breach.limit), Some(Limit::Files));
    }
}
