//! What a machine can do, as `swarm __worker --probe QUESTION --state DIR` prints it: one line of JSON.

use serde::{Deserialize, Serialize};

use crate::outcome::{EnforcementReport, Refusal};
use crate::sandbox_spec::{GroupSpec, Tier};

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The strongest cage that can be closed here.
    Strongest,
    /// Which cages can be closed here.
    Each,
}

impl Question {
    /// As the worker is asked it.
    pub const fn word(self) -> &'static str {
        match self {
            Question::Strongest => "strongest",
            Question::Each => "each",
        }
    }
}

/// What was found out by closing real cages. One that was not asked for has no verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// [`crate::VERSION`] of the worker.
    pub version: u32,
    /// The strongest tier that works; `None` where no job can be run at all.
    pub tier: Option<Tier>,
    /// The kernel's Landlock ABI; 0 without Landlock.
    pub landlock_abi: u32,
    /// The landlock tier.
    pub landlock: Option<Verdict>,
    /// The namespaces tier with a plain folder as worktree.
    pub namespaces: Option<Verdict>,
    /// The namespaces tier with an overlay whose layers lie in the state folder.
    pub overlay: Option<Verdict>,
    /// Where control groups can be made; empty where nowhere.
    #[serde(default)]
    pub groups: Vec<GroupSpec>,
    /// Bytes of memory that all jobs together can have.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Bytes that are free on the file system of the state folder.
    #[serde(default)]
    pub disk_bytes: u64,
}

/// Whether something works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It does, and enforces this for a job without grants or limits.
    Works(EnforcementReport),
    /// It does not.
    Fails(Refusal),
}
