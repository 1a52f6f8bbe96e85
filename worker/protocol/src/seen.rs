//! Refusals that a failed job seems to have met: found in what it printed, kept only where its own policy confirms them.
//! They are there for people who ask why; nothing is decided by them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The most refusals that one job reports.
pub const SEEN_MAX: usize = 10;

/// Something that the cage kept from a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenRefusal {
    /// What was tried.
    pub act: RefusedAct,
    /// The rule that refuses it, for people: a clause such as `nothing shows it`.
    pub rule: String,
}

/// What was tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum RefusedAct {
    /// Reading or executing what nothing shows.
    Read {
        /// The path, as the job names it.
        path: PathBuf,
    },
    /// Writing where it may not.
    Write {
        /// The path, as the job names it.
        path: PathBuf,
    },
    /// Reading or writing what a policy hides.
    Hidden {
        /// The path, as the job names it.
        path: PathBuf,
        /// The hidden path around it.
        hidden: PathBuf,
    },
    /// What no policy allows: writing to the system, a system call.
    Never {
        /// The path or the call.
        what: String,
    },
    /// Going beyond a limit.
    Limit {
        /// As a plan names it (`disk`), or as `swarm doctor` does (`open-files`).
        limit: String,
    },
    /// Finding a file of the checkout in a worktree that has it not.
    Uncommitted {
        /// The path, from the top of both.
        path: PathBuf,
    },
    /// Having a variable that is not set in the cage.
    Unset {
        /// Its name.
        name: String,
    },
    /// Reaching a host; `None` where the output does not name it.
    Host {
        /// Its name.
        host: Option<String>,
    },
}
