//! How much a task may use: what its policy says, and where it says nothing, a share of the machine that ordinary builds
//! never reach. No task is without limits.

use swarm_plans::SandboxPolicy;
use swarm_protocol::{GroupSpec, LimitsSpec};

use crate::descriptors;

/// What limits are relative to, and what can hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of memory that all workers together can have; 0 when that is not known.
    pub memory_bytes: u64,
    /// Bytes that are free on the file system of the state folder; 0 when that is not known.
    pub disk_bytes: u64,
    /// Where control groups can be made.
    pub groups: Vec<GroupSpec>,
}

/// The part of the machine's memory, and of its free disk, that one task may take when its policy says nothing: a half
/// leaves the coordinator and its peers alive, and a linker at work on a large program needs a few GiB.
const SHARE: u64 = 2;
/// No share of memory is smaller, in bytes.
const MEMORY_BYTES_MIN: u64 = 1 << 30;
/// No share of the disk is smaller, in bytes.
const DISK_BYTES_MIN: u64 = 1 << 30;
/// No share of the disk is larger, in bytes: a warm build folder of a large workspace has some 30 GiB.
const DISK_BYTES_MAX: u64 = 64 << 30;
/// Processes and threads: a build with as many jobs as a large machine has cores starts a few hundred.
const PROCESSES: u64 = 4_096;
/// Open files of a process. The soft limit, which programs see first, stays the caller's.
const OPEN_FILES: u64 = 16_384;
/// Files and folders made or changed: a large `node_modules` has some 300,000.
const FILES: u64 = 1_000_000;
/// Bytes printed. Of these the log keeps the first and the last 8 MiB.
const OUTPUT_BYTES: u64 = 1 << 30;

/// The limits of a policy on a machine.
pub fn of(policy: &SandboxPolicy, capacity: Capacity) -> LimitsSpec {
    let share = |whole: u64| (whole > 0).then_some(whole / SHARE);
    let memory = share(capacity.memory_bytes).map(|bytes| bytes.max(MEMORY_BYTES_MIN));
    let disk = share(capacity.disk_bytes).map(|bytes| bytes.clamp(DISK_BYTES_MIN, DISK_BYTES_MAX));
    let open_files = descriptors::of_job(OPEN_FILES);
    LimitsSpec {
        memory_bytes: policy.memory_bytes.or(memory),
        processes: Some(policy.processes.unwrap_or(PROCESSES)),
        open_files: Some(open_files.at_most),
        open_files_at_first: Some(open_files.at_first),
        disk_bytes: policy.disk_bytes.or(disk),
        files: Some(policy.files.unwrap_or(FILES)),
        output_bytes: Some(OUTPUT_BYTES),
        cpu: policy.cpu,
        groups: capacity.groups,
    }
}

/// The limits that a policy names itself and that work can break. A share of the processors only makes it slower.
pub fn named(policy: &SandboxPolicy) -> LimitsSpec {
    LimitsSpec {
        memory_bytes: policy.memory_bytes,
        processes: policy.processes,
        disk_bytes: policy.disk_bytes,
        files: policy.files,
        ..LimitsSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn capacity(memory_gib: u64, disk_gib: u64) -> Capacity {
        Capacity { memory_bytes: memory_gib * GIB, disk_bytes: disk_gib * GIB, groups: vec![] }
    }

    #[test]
    fn a_policy_without_limits_takes_a_share_of_the_machine() {
        let check = |machine, memory_gib, disk_gib| {
            let limits = of(&SandboxPolicy::default(), machine);
            assert_eq!((limits.memory_bytes, limits.disk_bytes), (Some(memory_gib * GIB), Some(disk_gib * GIB)));
            assert!(limits.processes.is_some() && limits.open_files.is_some() && limits.files.is_some());
            assert!(limits.output_bytes.is_some() && limits.cpu.is_none());
        };
        check(capacity(24, 40), 12, 20);
        check(capacity(1, 1), 1, 1);
        check(capacity(512, 4_000), 256, 64);
    }

    #[test]
    fn what_a_policy_says_is_taken_as_it_is() {
        let policy = SandboxPolicy {
            memory_bytes: Some(1),
            processes: Some(2),
            disk_bytes: Some(3),
            files: Some(4),
            cpu: Some(0.5),
            ..SandboxPolicy::default()
        };
        let limits = of(&policy, capacity(24, 40));
        assert_eq!((limits.memory_bytes, limits.processes), (Some(1), Some(2)));
        assert_eq!((limits.disk_bytes, limits.files, limits.cpu), (Some(3), Some(4), Some(0.5)));
    }
}
