//! Limits of resources, and by which means of this machine each is held.
//!
//! | limit | means, best first |
//! |---|---|
//! | memory | control group; else the watchdog adds up what all processes have mapped in memory; files in memory cannot be had but for the private folders, which are bounded apart, and of shared memory only what is mapped counts; page tables do not |
//! | processes | control group; else, in a user namespace of an ordinary user, setrlimit(2), which counts by namespace; else, for root, `kernel.pid_max` of the pid namespace; else the watchdog counts |
//! | cpu | control group; else nothing |
//! | all of the watchdog's but disk and files | nothing, where `/proc` is mounted with `hidepid` and the caller is an ordinary user |
//! | open files | setrlimit(2), for each process |
//! | disk, files | the watchdog walks what the job wrote; each single file by setrlimit(2) |
//!
//! Private temporary folders are bounded by the size of their file system. A means is chosen before the launch and named
//! in the [`crate::Enforcement`]; a launch in which it cannot be applied is refused.
//!
//! Source: getrlimit(2), user_namespaces(7) ("ucounts", since Linux 5.14), pid_namespaces(7).

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::cgroup::{Controller, Version};
use crate::enforcement::Tier;
use crate::policy::{Draft, Limits};

/// `kernel.pid_max` of the calling process's pid namespace.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// The first kernel on which it belongs to the namespace. On an older one the same write would change the whole machine,
/// which is why a version is looked at here, and nowhere else.
const PID_MAX_SINCE: (u32, u32) = (6, 14);
/// Process ids that the kernel does not give out again once they were used, and below which it accepts no bound.
const RESERVED_PIDS: u64 = 301;
/// The most that the kernel accepts (`PID_MAX_LIMIT`).
const PID_LIMIT: u64 = 1 << 22;
/// What part of the signals that the kernel keeps for a user a job may have waiting.
const SIGNALS_SHARE: u64 = 4;

/// What can be limited, in the words of plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Processes,
    /// Processor time.
    Cpu,
    /// Open files.
    OpenFiles,
    /// Bytes on disk.
    Disk,
    /// Files and folders.
    Files,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Memory => "memory",
            Limit::Processes => "processes",
            Limit::Cpu => "cpu",
            Limit::OpenFiles => "open-files",
            Limit::Disk => "disk",
            Limit::Files => "files",
        })
    }
}

/// What holds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A control group.
    Group(Version),
    /// setrlimit(2).
    Rlimit,
    /// `kernel.pid_max` of the pid namespace.
    PidMax,
    /// The supervisor looks, and kills.
    Watchdog,
    /// Nothing on this machine.
    Nothing,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Means::Group(Version::V1) => "cgroup-v1",
            Means::Group(Version::V2) => "cgroup-v2",
            Means::Rlimit => "rlimit",
            Means::PidMax => "pid_max",
            Means::Watchdog => "watchdog",
            Means::Nothing => "nothing",
        })
    }
}

/// What holds each limit that a policy sets, in a fixed order.
pub fn means(draft: &Draft) -> Vec<(Limit, Means)> {
    let limits = &draft.limits;
    let group = |controller| {
        let place = limits.groups.iter().find(|place| place.controllers.contains(&controller));
        place.map(|place| Means::Group(place.version))
    };
    let mut all = Vec::new();
    if limits.memory_bytes.is_some() {
        all.push((Limit::Memory, group(Controller::Memory).unwrap_or_else(watched)));
    }
    if limits.processes.is_some() {
        let means = group(Controller::Processes).unwrap_or_else(|| processes_without_group(draft.tier));
        all.push((Limit::Processes, means));
    }
    if limits.cpu.is_some() {
        all.push((Limit::Cpu, group(Controller::Cpu).unwrap_or(Means::Nothing)));
    }
    if limits.open_files.is_some() {
        all.push((Limit::OpenFiles, Means::Rlimit));
    }
    if limits.disk_bytes.is_some() {
        all.push((Limit::Disk, Means::Watchdog));
    }
    if limits.files.is_some() {
        all.push((Limit::Files, Means::Watchdog));
    }
    all
}

/// The means that holds `wanted` among `all`.
pub fn by(all: &[(Limit, Means)], wanted: Limit) -> Option<Means> {
    all.iter().find(|(limit, _)| *limit == wanted).map(|(_, means)| *means)
}

/// What this machine has where no control group is.
#[derive(Debug, Clone, Copy)]
struct Machine {
    watched: Means,
    processes_in_namespace: Means,
}

/// Found out once a process, or once for all that are forked from it: in its namespaces, the first process of a cage would find
/// something else.
fn machine() -> Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    *MACHINE.get_or_init(|| {
        let watched = find_watched();
        let processes_in_namespace = match () {
            () if !is_machine_root() => Means::Rlimit,
            () if can_set_pid_max() => Means::PidMax,
            () => watched,
        };
        Machine { watched, processes_in_namespace }
    })
}

/// Finds out what this machine has, for all processes that are forked from this one.
pub(crate) fn prepare() {
    machine();
}

fn processes_without_group(tier: Tier) -> Means {
    match tier {
        Tier::Landlock => watched(),
        Tier::Namespaces => machine().processes_in_namespace,
    }
}

/// The watchdog, where it sees what it counts.
pub(crate) fn watched() -> Means {
    machine().watched
}

fn find_watched() -> Means {
    let sees_all = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE));
    watched_in(fs::read("/proc/self/mountinfo").ok().as_deref(), sees_all)
}

/// As [`watched`], of a caller with these mounts. Where they cannot be read nothing is claimed: a limit that is told as held and is not
/// is worse than one that is told as missing.
fn watched_in(mounts: Option<&[u8]>, sees_all: bool) -> Means {
    let is_hidden = mounts.is_none_or(|mounts| hides_processes(&String::from_utf8_lossy(mounts)));
    if is_hidden && !sees_all { Means::Nothing } else { Means::Watchdog }
}

/// Whether `/proc` is mounted with `hidepid`: then it shows an ordinary user nothing that made itself undumpable, as the first process
/// of every job does, and so none of those below it. Source: proc(5); proc_pid_mountinfo(5), the mount point and the last field.
fn hides_processes(mounts: &str) -> bool {
    let of_proc = |line: &&str| line.split_ascii_whitespace().nth(4) == Some("/proc");
    mounts.lines().rfind(of_proc).is_some_and(|line| line.contains("hidepid="))
}

/// Whether the caller is user 0 of the whole machine, whose processes the kernel never counts against a limit. User 0 of a
/// container with ids of its own is somebody else.
pub(crate) fn is_machine_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_ascii_whitespace().take(2).collect();
    geteuid().is_root() && (fields.is_empty() || fields == ["0", "0"])
}

fn can_set_pid_max() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // Container runtimes mount it read-only.
    version >= PID_MAX_SINCE && openat(CWD, PID_MAX, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// Bounds the process ids of the calling process's own, new pid namespace. Ids up to [`RESERVED_PIDS`] are given out once
/// only, so they are added: at least `processes` can live at once, and at most that many more.
///
/// # Errors
/// The kernel's; the launch is refused.
pub fn bound_pids(processes: u64) -> io::Result<()> {
    let file = openat(CWD, PID_MAX, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let bound = processes.saturating_add(RESERVED_PIDS).min(PID_LIMIT);
    io::write(&file, bound.to_string().as_bytes()).map(drop)
}

/// Makes the calling process and all that it starts the kernel's first choice when the whole machine is out of memory,
/// before the coordinator and whatever else the user runs. Source: proc_pid_oom_score_adj(5).
///
/// # Errors
/// The system's; a value that is higher already is left.
pub fn volunteer() -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    const SCORE: i32 = 500;
    let file = openat(CWD, FILE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = [0; 16];
    let length = io::read(&file, &mut bytes)?;
    let now = str::from_utf8(&bytes[..length]).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now >= SCORE) {
        return Ok(());
    }
    io::write(&file, SCORE.to_string().as_bytes()).map(drop)
}

/// Sets all limits of the calling process that single processes are held to, for good. A limit above what the machine
/// allows becomes the machine's own. `own` bounds processes where only the watchdog does.
///
/// # Errors
/// The system's; the launch is refused.
pub fn apply(limits: &Limits, means: &[(Limit, Means)], own: Option<u64>) -> io::Result<()> {
    lower(Resource::Core, 0)?;
    // The kernel counts those of all that the user runs: who takes all that it may leaves most to the others.
    if let Some(all) = getrlimit(Resource::Sigpending).current {
        lower(Resource::Sigpending, all / SIGNALS_SHARE)?;
    }
    if let Some(bound) = limits.open_files {
        lower_hard(Resource::Nofile, bound, limits.open_files_at_first)?;
    }
    if let Some(bound) = limits.disk_bytes {
        lower(Resource::Fsize, bound)?;
    }
    if let Some(bound) = limits.data_bytes {
        lower(Resource::Data, bound)?;
    }
    match (limits.processes, by(means, Limit::Processes)) {
        // Init counts, too.
        (Some(bound), Some(Means::Rlimit)) => lower(Resource::Nproc, bound.saturating_add(1)),
        _ => own.map_or(Ok(()), |own| lower(Resource::Nproc, own)),
    }
}

fn lower(resource: Resource, bound: u64) -> io::Result<()> {
    let bound = getrlimit(resource).maximum.map_or(bound, |machine| bound.min(machine));
    setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) })
}

/// Leaves the soft limit, which many programs rely on to be small, where none is said and it is not above the bound.
fn lower_hard(resource: Resource, bound: u64, soft: Option<u64>) -> io::Result<()> {
    let now = getrlimit(resource);
    let maximum = now.maximum.map_or(bound, |machine| bound.min(machine));
    let current = soft.or(now.current).map_or(maximum, |current| current.min(maximum));
    setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_hides_is_not_watched() {
        let check = |options: &str, hides| {
            let mounts =
                format!("21 1 0:20 / /proc rw - proc proc rw\n30 21 0:20 / /proc rw,nosuid - proc proc {options}\n");
            assert_eq!(hides_processes(&mounts), hides, "{options}");
        };
        check("rw", false);
        check("rw,hidepid=invisible", true);
        check("rw,gid=4,hidepid=2", true);
        assert!(!hides_processes("22 1 0:21 / /mnt/proc rw - proc proc rw,hidepid=2\n"));
    }

    #[test]
    fn what_nobody_knows_of_is_not_claimed_as_watched() {
        let mounts = b"21 1 0:20 / /proc rw - proc proc rw\n";
        let means =
            [(Some(&mounts[..]), false), (None, false), (None, true)].map(|(mounts, all)| watched_in(mounts, all));
        assert_eq!(means, [Means::Watchdog, Means::Nothing, Means::Watchdog]);
    }
}
