//! What the kernel really holds a job to, as data: the degree of enforcement is never a log line.
//!
//! [`Enforcement::of`] is computed from the policy and the Landlock ABI that was entered. It is complete because a launch
//! has no optional steps: each one listed under `enforced` either succeeded or the job was never started.

use std::fmt;

use crate::policy::{Network, Policy, Worktree};

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
}

impl Enforcement {
    /// What a job of `policy` is held to, once every step of its launch succeeded with `landlock_abi`.
    pub fn of(policy: &Policy, landlock_abi: u32) -> Self {
        let draft = policy.get();
        let mut enforced = vec!["landlock", "seccomp", "capabilities", "rlimits", "environment", "session"];
        if draft.tier == Tier::Namespaces {
            enforced.extend(["userns", "mountns", "pidns", "ipcns", "utsns", "root", "tmp"]);
            if draft.network == Network::None {
                enforced.push("netns");
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
        Enforcement {
            tier: draft.tier,
            landlock_abi,
            enforced: enforced.into_iter().map(str::to_owned).collect(),
            not_enforced: not_enforced(policy, landlock_abi),
        }
    }
}

fn not_enforced(policy: &Policy, abi: u32) -> Vec<String> {
    let draft = policy.get();
    let mut open: Vec<&str> = Vec::new();
    if draft.network == Network::Host {
        open.push("network: the host's network is open to the job");
        if abi < 6 && draft.tier == Tier::Namespaces {
            open.push("abstract unix sockets of the host can be connected to");
        }
    }
    if draft.tier == Tier::Landlock {
        open.extend([
            "metadata outside the granted folders: mode, owner, times and attributes of files the user owns can be changed",
            "names outside the granted folders: whether a path exists, and its size, can be seen",
            "command lines and names of other processes can be read in /proc",
            "processor affinity of the user's other processes can be changed",
        ]);
        if abi < 3 {
            open.push("truncation of files the user owns outside the granted folders");
        }
        if abi < 6 {
            open.push("signals to the user's other processes");
        }
    }
    if abi < 2 {
        open.push("renames between folders are refused everywhere, also where they are harmless");
    }
    if abi < 5 {
        open.push("ioctl on the device files a job has open");
    }
    if draft.tier == Tier::Namespaces && abi < 9 {
        open.push("unix sockets inside granted folders can be connected to");
    }
    let limits = draft.limits;
    if limits.memory_bytes.is_some() {
        open.push("memory of the whole job: each process is bounded, not their sum");
    }
    if limits.cpu.is_some() {
        open.push("cpu");
    }
    if limits.processes.is_some() && (draft.tier == Tier::Landlock || rustix::process::getuid().is_root()) {
        open.push(if rustix::process::getuid().is_root() {
            "processes: the kernel does not count those of root"
        } else {
            "processes: all of the user's processes are counted together"
        });
    }
    open.into_iter().map(str::to_owned).collect()
}
