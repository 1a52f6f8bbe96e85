//! What a run is asked for beside its plan: flags and the caller's surroundings, captured once by the command line. Parts
//! are passed on, never the whole.

use std::path::PathBuf;

use crate::clock::Clock;
use crate::dispatcher::core::FailFast;
use crate::policy::Host;

/// Milliseconds that cancelled or timed-out work gets between SIGTERM and SIGKILL.
pub const GRACE_MS: u64 = 10_000;

/// Everything a run is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A folder in the repository.
    pub repository: PathBuf,
    /// The state folder; `None` is `<git common dir>/swarm`.
    pub state_dir: Option<PathBuf>,
    /// Workers at once; `None` takes the plan's, then the machine's number of cores.
    pub jobs: Option<usize>,
    /// The machine's number of cores.
    pub cores: usize,
    /// The target branch without `refs/heads/`; `None` takes the plan's.
    pub into: Option<String>,
    /// Whether the first failure ends the run.
    pub fail_fast: FailFast,
    /// Whether plans may use the host's network.
    pub host_network: HostNetwork,
    /// The caller's surroundings.
    pub host: Host,
    /// Where time comes from.
    pub clock: Clock,
    /// The program that is started as `__worker`.
    pub worker: PathBuf,
}

/// Whether plans may use the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostNetwork {
    /// A policy that asks for it is refused.
    Refused,
    /// The person at the command line said so.
    Allowed,
}
