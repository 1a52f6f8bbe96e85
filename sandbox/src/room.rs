//! Whether there was room for a job's processes. Where no control group counts them by themselves, the kernel counts all of a user's
//! together: a bomb elsewhere, or a small `ulimit -u`, makes forks fail in a job that has hardly any.
//!
//! A job that failed meanwhile says nothing about its work. What a look misses (between two of them, or where /proc shows no
//! strangers) stays the job's failure.
//!
//! Source: getrlimit(2), RLIMIT_NPROC; user_namespaces(7): a namespace inherits the limit under which it was made.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Resource, geteuid, getrlimit};

use crate::enforcement::Tier;
use crate::limits::{Limit, Means, by, is_machine_root};
use crate::policy::Draft;

/// How many times its bound a job may have in processes before the watchdog has seen it.
const BOMB_FACTOR: u64 = 4;
/// A count within one part in this many of the bound is at the bound: processes come and go while they are counted.
const SLACK: u64 = 16;

/// How many processes and threads the user of a job may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// For the job; what it sets for itself where only the watchdog bounds its processes.
    own: Option<u64>,
    /// At which count its forks fail; `None` where the kernel asks nothing of its user.
    all: Option<u64>,
}

impl Room {
    /// Of a job of `draft` that is launched now.
    pub fn now(draft: &Draft, means: &[(Limit, Means)]) -> Self {
        let own = match (draft.limits.processes, by(means, Limit::Processes)) {
            // All of the user's processes count together here. This leaves them their room, and only keeps a bomb from
            // filling the machine before it is seen.
            (Some(bound), Some(Means::Watchdog)) => {
                tasks_of_machine().map(|others| others.saturating_add(bound.saturating_mul(BOMB_FACTOR)))
            }
            _ => None,
        };
        // In a namespace of its own, a job's own limit counts what is in that.
        let shared = own.filter(|_| draft.tier == Tier::Landlock);
        let all = [shared, getrlimit(Resource::Nproc).current].into_iter().flatten().min();
        Room { own, all: all.filter(|_| !is_machine_root()) }
    }

    /// What the job sets for itself.
    pub fn own(&self) -> Option<u64> {
        self.own
    }

    /// Whether there is none: the user has as many as it may, or nearly.
    pub fn is_used_up(&self) -> bool {
        // Cheap, and mostly enough: no user has more than there are.
        let is_at = |count: Option<u64>| self.all.is_some_and(|all| count.is_some_and(|count| reaches(count, all)));
        is_at(tasks_of_machine()) && is_at(tasks_of_user(geteuid().as_raw()))
    }
}

fn reaches(count: u64, bound: u64) -> bool {
    count + bound / SLACK >= bound
}

/// Whether the machine, or the namespace of the calling process, has room left for only few more processes and threads: for less than a
/// quarter of what it may have. `ours` is how many are ours at the least, the dead among them that nobody reaped.
pub fn is_filling_up(ours: u64) -> bool {
    // Who cannot tell is careful.
    tasks_of_machine().zip(Most::now()).is_none_or(|(count, most)| most.is_near(count, ours))
}

/// How many processes and threads there may be. Source: proc_sys_kernel(5), `pid_max`, `threads-max`.
#[derive(Debug, Clone, Copy)]
struct Most {
    /// On the machine.
    tasks: u64,
    /// Of the numbers that are given in the calling process's namespace.
    numbers: u64,
    /// Whether that is the machine's first one, in which all have a number. Since Linux 6.14 each has a bound of its own.
    is_first: bool,
}

impl Most {
    fn now() -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse::<u64>().ok();
        let is_first = fs::metadata("/proc/self/ns/pid").ok()?.ino() == FIRST_NAMESPACE;
        Some(Most { tasks: read("threads-max")?, numbers: read("pid_max")?, is_first })
    }

    /// Whether `count` on the machine, `ours` among them, are nearly as many. No namespace has more than the machine; in one that is
    /// not the first, how much of the machine's is in it nobody tells for little, and what is ours there decides.
    fn is_near(self, count: u64, ours: u64) -> bool {
        let is_ours = || self.is_first || ours >= self.numbers / 4;
        count >= self.tasks / 4 * 3 || count >= self.numbers / 4 * 3 && is_ours()
    }
}

/// The inode of the machine's first namespace of process numbers. Source: Linux, include/uapi/linux/nsfs.h, `PID_NS_INIT_INO`; fixed
/// since 3.8.
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Processes and threads of the whole machine. Source: proc_loadavg(5), the fourth field.
fn tasks_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Those of a user, as far as /proc shows them.
fn tasks_of_user(user: u32) -> Option<u64> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let processes = entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    // A process may call itself what is no text.
    let status = processes.filter_map(|process| fs::read(process.path().join("status")).ok());
    Some(status.filter_map(|status| threads_of(&String::from_utf8_lossy(&status), user)).sum())
}

/// Threads of a process, where it is the user's. Source: proc_pid_status(5), Uid: the real one, which the limit is about.
fn threads_of(status: &str, user: u32) -> Option<u64> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next();
    (field("Uid:")?.parse() == Ok(user)).then(|| field("Threads:")?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_where_they_are_the_users() {
        let status = "Name:\tUid: 7\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nThreads:\t3\n";
        assert_eq!((threads_of(status, 1000), threads_of(status, 0), threads_of("", 0)), (Some(3), None, None));
        assert!(tasks_of_user(rustix::process::getuid().as_raw()).is_some_and(|all| all >= 1));
    }

    #[test]
    fn a_namespace_is_not_filled_by_what_is_outside_of_it() {
        let machine = Most { tasks: 192_000, numbers: 32_768, is_first: true };
        let inside = Most { is_first: false, ..machine };
        // A large machine is quiet, in a container with a small bound of its own.
        assert!(machine.is_near(30_000, 5) && !inside.is_near(30_000, 5) && inside.is_near(30_000, 9_000));
        assert!(!machine.is_near(20_000, 20_000) && !inside.is_near(20_000, 20_000));
        // A namespace that may have more than the machine.
        let roomy = Most { tasks: 30_000, numbers: 4_194_304, is_first: false };
        assert!(roomy.is_near(29_000, 5) && !roomy.is_near(20_000, 5));
        assert!(Most::now().is_some() && !is_filling_up(1), "this one is not full");
    }

    #[test]
    fn nearly_all_is_all() {
        assert!(reaches(160, 160) && reaches(151, 160) && !reaches(149, 160) && reaches(1, 1));
        let none = Room { own: None, all: None };
        assert!(!none.is_used_up(), "nobody counts");
        assert!(Room { own: None, all: Some(1) }.is_used_up() && !Room { own: None, all: Some(1 << 40) }.is_used_up());
    }
}
