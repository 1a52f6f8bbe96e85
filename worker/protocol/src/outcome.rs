//! How a job ended and what really confined it, as values.

use serde::{Deserialize, Serialize};

use crate::sandbox_spec::Tier;
use crate::seen::SeenRefusal;

/// The last word about one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the job's first process ended.
    pub ended: Ended,
    /// Wall time of the job in milliseconds, without the making of the cage.
    pub wall_ms: u64,
    /// Processor time (user + system) of the job's whole tree in milliseconds.
    pub cpu_ms: u64,
    /// Largest resident size of one of its processes, in KiB.
    pub max_rss_kib: u64,
    /// Bytes the job wrote to both streams, including those not passed on.
    pub output_bytes: u64,
    /// Bytes among them that were left out between head and tail.
    pub output_bytes_dropped: u64,
    /// Processes that were still alive when the first one ended, and were killed.
    pub orphans: u64,
    /// What the cage seems to have kept from a job that failed; at most [`crate::SEEN_MAX`].
    #[serde(default)]
    pub refusals: Vec<SeenRefusal>,
    /// A limit that it reached and coped with, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_reached: Option<String>,
    /// What of it may still run and could not be ended, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_running: Option<String>,
}

impl Outcome {
    /// Of a job that was never run.
    pub fn of_nothing(ended: Ended) -> Self {
        Outcome {
            ended,
            wall_ms: 0,
            cpu_ms: 0,
            max_rss_kib: 0,
            output_bytes: 0,
            output_bytes_dropped: 0,
            orphans: 0,
            refusals: Vec::new(),
            limit_reached: None,
            left_running: None,
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Ended {
    /// It returned an exit status.
    Exited {
        /// 0–255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// Its wall time was over.
    TimedOut,
    /// The coordinator asked for its end.
    Cancelled,
    /// It broke a limit.
    Limit {
        /// The limit's name as plans write it: `memory`, `processes` …
        limit: String,
        /// What was seen, for people.
        detail: String,
    },
    /// The program could not be executed.
    StartFailed {
        /// The program and the reason, for people.
        reason: String,
    },
    /// The cage could not be closed as asked and nothing was run, or it failed while the job ran (step `work`).
    Refused(Refusal),
}

/// Why a cage was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The step of the launch that failed: `landlock`, `mount /usr` …
    pub step: String,
    /// The reason, for people.
    pub reason: String,
    /// Whether all that was missing was room for a process: that can be different in a moment, and nobody has to change
    /// anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_room: bool,
}

impl Refusal {
    /// What failed, and why.
    pub fn new(step: impl Into<String>, reason: impl Into<String>) -> Self {
        Refusal { step: step.into(), reason: reason.into(), lacks_room: false }
    }

    /// The same for want of room for a process.
    pub fn for_want_of_room(step: impl Into<String>, reason: impl Into<String>) -> Self {
        Refusal { lacks_room: true, ..Refusal::new(step, reason) }
    }
}

/// What the kernel really enforces for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforcementReport {
    /// The tier that was entered.
    pub tier: Tier,
    /// Landlock's ABI in force.
    pub landlock_abi: u32,
    /// What holds, in the words of `require`: `landlock`, `seccomp`, `userns`, `mountns`, `pidns`, `netns`, `ipcns`, `utsns`, `rlimits` …
    pub enforced: Vec<String>,
    /// What a reader might expect to hold and does not, each a short phrase.
    pub not_enforced: Vec<String>,
    /// The limits that were set, each with what holds it: `memory: cgroup-v1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}
