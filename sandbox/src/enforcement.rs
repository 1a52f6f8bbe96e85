//! What the kernel really holds a job to, as data: the degree of enforcement is never a log line.
//!
//! [`Enforcement::of`] is computed from the policy and the Landlock ABI that was entered. It is complete because a launch
//! has no optional steps: each one listed under `enforced` either succeeded or the job was never started.

use std::fmt;

use crate::cgroup::Version;
use crate::limits::{Limit, Means, by, is_machine_root, means, watched};
use crate::namespaces;
use crate::policy::{Draft, Network, Policy, Worktree};
use crate::seccomp::Metadata;

/// How strong a cage is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Landlock, seccomp and rlimits.
    Landlock,
    /// The same inside namespaces with a minimal root.
    Namespaces,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Landlock => "landlock",
            Tier::Namespaces => "namespaces",
        })
    }
}

/// What is enforced for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// The tier that was entered.
    pub tier: Tier,
    /// The Landlock ABI in force.
    pub landlock_abi: u32,
    /// What holds, in the words of a plan's `require`.
    pub enforced: Vec<String>,
    /// What a reader might expect to hold and does not.
    pub not_enforced: Vec<String>,
    /// The limits that were set, each with what holds it: `memory: cgroup-v1`.
    pub limits: Vec<String>,
}

impl Enforcement {
    /// What a job of `policy` is held to, once every step of its launch succeeded with `landlock_abi` and its files' `metadata` changed
    /// by whom it says.
    pub fn of(policy: &Policy, landlock_abi: u32, metadata: Metadata) -> Self {
        let draft = policy.get();
        let mut enforced = vec!["landlock", "seccomp", "capabilities", "rlimits", "environment", "session"];
        if draft.tier == Tier::Namespaces {
            enforced.extend(["userns", "mountns", "pidns", "ipcns", "utsns", "root", "tmp"]);
            if !draft.network.is_host() {
                enforced.push("netns");
            }
            // Without a network of its own a job reaches the proxy's port on any address: that is listed below.
            if matches!(draft.network, Network::Egress { .. }) {
                enforced.push("egress");
            }
            if matches!(draft.worktree, Worktree::Overlay { .. }) {
                enforced.push("overlay");
            }
        } else if draft.network == Network::None {
            enforced.push("no-sockets");
        }
        if landlock_abi >= 6 {
            enforced.push("scopes");
        }
        // In namespaces no file outside can be named for writing.
        if draft.tier == Tier::Namespaces || metadata == Metadata::Asked {
            enforced.push("metadata");
        }
        let means = means(draft);
        let held = means.iter().filter(|(_, means)| *means != Means::Nothing).map(|(limit, _)| limit.to_string());
        Enforcement {
            tier: draft.tier,
            landlock_abi,
            enforced: enforced.into_iter().map(str::to_owned).chain(held).collect(),
            not_enforced: not_enforced(policy, landlock_abi, metadata),
            limits: means.iter().map(|(limit, means)| format!("{limit}: {means}")).collect(),
        }
    }
}

fn not_enforced(policy: &Policy, abi: u32, metadata: Metadata) -> Vec<String> {
    let draft = policy.get();
    let mut open: Vec<&str> = Vec::new();
    if draft.network == Network::Host {
        open.push(match draft.tier {
            Tier::Namespaces => "network: the host's network is open to the job",
            Tier::Landlock => {
                "network: the host's network is open to the job, and names of abstract unix sockets can be taken there"
            }
        });
        if abi < 6 && draft.tier == Tier::Namespaces {
            open.push("abstract unix sockets of the host can be connected to");
        }
    }
    if draft.tier == Tier::Landlock {
        if matches!(draft.network, Network::Egress { .. }) {
            open.push("egress: the proxy's port can be connected to on every address, not only on this machine");
        }
        if metadata == Metadata::Own {
            open.push(
                "metadata outside the granted folders: mode, owner and times of files the user owns can be changed, those of other \
                 tasks' worktrees and of what gates judge, too",
            );
        }
        open.extend([
            "names outside the granted folders: whether a path exists, its size, where a link leads and its extended attributes can \
             be seen",
            "changes outside the granted folders can be watched, where the user may read them",
            "command lines, names, mounts and control groups of other processes, numbers of the descriptors of the user's own, \
             the host's tables of sockets and the names of the kernel's keys can be read in /proc",
            "processor affinity of the user's other processes can be changed",
        ]);
        if abi < 3 {
            open.push("truncation of files the user owns outside the granted folders");
        }
        if abi < 6 {
            open.push("signals to the user's other processes");
        }
    }
    open.push(
        "files that are only shown can be locked with flock(2), and for reading with fcntl(2), which other programs that lock them \
         notice",
    );
    open.extend(shared_with_the_user(draft));
    open.push(
        "what the kernel tells of the machine as a whole can be read in /proc: its command line, its memory, how often it was interrupted",
    );
    if abi < 2 {
        open.push("renames between folders are refused everywhere, also where they are harmless");
    }
    if abi < 5 {
        open.push("ioctl on the device files a job has open");
    }
    if draft.tier == Tier::Namespaces && abi < 9 {
        open.push("unix sockets inside granted folders can be connected to");
    }
    open.extend(limits_not_held(draft));
    open.into_iter().map(str::to_owned).collect()
}

/// What the kernel counts for all that the user runs, and no limit of a job bounds.
fn shared_with_the_user(draft: &Draft) -> Vec<&'static str> {
    let mut open = Vec::new();
    if draft.tier == Tier::Landlock || !namespaces::bounds_watchers() {
        open.push(
            "inotify instances are shared with all that the user runs: a job that takes all leaves none to others",
        );
    }
    open.push(
        "descriptors on their way between sockets are counted for all that the user runs: where a job has more of them than another \
         program may have files open, that program can send none",
    );
    open.push("epoll watches are shared with all that the user runs: a job that takes all leaves none to others");
    if has_few_files() {
        open.push(
            "open files of the machine (fs.file-max) are shared with all users but root: many processes of a job with many files each \
             take all",
        );
    }
    open.push(
        "room for pipes is shared with all that the user runs, but for what root runs outside: where a job has taken it, new pipes \
         hold less",
    );
    open
}

/// Whether the machine bounds the open files of all processes together by a number that jobs can reach. Where systemd has started it
/// there is none.
fn has_few_files() -> bool {
    const OUT_OF_REACH: u64 = 1 << 40;
    let most = std::fs::read_to_string("/proc/sys/fs/file-max").ok().and_then(|most| most.trim().parse::<u64>().ok());
    most.is_none_or(|most| most < OUT_OF_REACH)
}

/// What the limits of a job leave open, by what holds each of them here.
fn limits_not_held(draft: &Draft) -> Vec<&'static str> {
    let all = means(draft);
    let [cpu, memory, processes] = [Limit::Cpu, Limit::Memory, Limit::Processes].map(|limit| by(&all, limit));
    let mut open = Vec::new();
    if cpu == Some(Means::Nothing) {
        open.push("cpu: there is no control group for it here");
    }
    if memory == Some(Means::Nothing) {
        open.push(
            "memory: there is no control group for it here, and /proc hides processes from their supervisor (hidepid)",
        );
    }
    if processes == Some(Means::Nothing) {
        open.push(
            "processes: there is no control group for them here, and /proc hides them from their supervisor (hidepid)",
        );
    }
    if matches!(processes, Some(Means::Watchdog | Means::Rlimit)) && !is_machine_root() {
        open.push(
            "room for processes is shared with all that the user runs: a job that fails for want of it is told from one that fails \
             by itself only where that was seen, twenty times a second",
        );
    }
    if draft.tier == Tier::Landlock && processes == Some(Means::Watchdog) && is_machine_root() {
        open.push(
            "processes that fork and vanish faster than they are met may outlive the job: the kernel bounds none of root's, and there \
             is no control group for it here",
        );
    }
    if draft.limits.disk_bytes.is_some() {
        open.push(
            "files without a name that are on their way between sockets do not count as disk; nor, unless root looks, what is \
             mapped of one beyond the mapping, and in the landlock tier what a process holds that made itself undumpable",
        );
    }
    if draft.limits.disk_bytes.is_some() && watched() == Means::Nothing {
        open.push(
            "files without a name do not count as disk: /proc hides who holds them from their supervisor (hidepid)",
        );
    }
    if memory == Some(Means::Group(Version::V1)) {
        open.push(
            "what sockets hold comes on top of the memory, roughly bounded: control groups of version 1 count it by itself, and of many open \
             TCP connections too late, or not at all where the kernel is made without",
        );
    }
    if memory == Some(Means::Watchdog) {
        open.extend([
            "memory, and in the landlock tier files without a name, of a process that passes them on to a new one faster than it is \
             met are not seen: there is no control group for it here",
            "memory of the kernel for page tables, pipes, sockets and queues is not counted: there is no control group for it here",
            "shared memory of which only a piece is mapped any more counts as that piece: there is no control group for it here",
        ]);
        if draft.tier == Tier::Namespaces {
            open.push(
                "files in the private /tmp, /dev/shm and home are not counted as memory, and may take as much again: there is no control \
                 group for it here",
            );
        }
    }
    open
}
