//! What this machine can do for a run: asked once of a worker that really tries (`swarm __worker --probe`), then a few
//! plain facts. Nothing here is guessed from versions.

use std::path::{Path, PathBuf};

use swarm_protocol::probe::Verdict;
use swarm_protocol::{EnforcementReport, Probe, Tier};

use crate::base::git_dir::ObjectsAt;
use crate::policy::Offer;
use crate::worker_process::{WorkerError, WorkerProgram};
use crate::worktree::Backend;

/// Where the namespaces tier shows the repository's object stores.
const OBJECTS: &str = "/run/swarm/objects";

/// Why no worker can be confined here, or not as the plan insists.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The worker that should have tried did not answer.
    #[error("find out what this machine can enforce: {0}")]
    Probe(#[from] WorkerError),
    /// Not even the weakest cage can be closed.
    #[error("no worker can be confined on this machine: {step}: {reason}")]
    NoCage {
        /// The step that failed.
        step: String,
        /// Why.
        reason: String,
    },
    /// `require` names something that is not enforced here.
    #[error("sandbox.{policy} requires `{missing}`, which is not enforced on this machine (enforced: {})", enforced.join(", "))]
    Missing {
        /// The policy.
        policy: String,
        /// As written.
        missing: String,
        /// What is.
        enforced: Vec<String>,
    },
}

/// What this machine can do.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What every worker is held to, before a plan's own limits.
    pub enforcement: EnforcementReport,
    /// How worktrees are made.
    pub backend: Backend,
    /// Things a person should know.
    pub notes: Vec<String>,
}

impl Machine {
    /// Asks a worker. `state` is the folder in which overlays would lie.
    ///
    /// # Errors
    /// [`MachineError::Probe`] and [`MachineError::NoCage`].
    pub async fn probe(worker: &WorkerProgram, state: &Path) -> Result<Machine, MachineError> {
        Machine::of(worker.probe(state).await?)
    }

    /// Chooses the strongest tier and the cheapest backend that work.
    ///
    /// # Errors
    /// [`MachineError::NoCage`].
    pub fn of(probe: Probe) -> Result<Machine, MachineError> {
        let mut notes = Vec::new();
        let mut why = |what: &str, step: &str, reason: &str| notes.push(format!("{what}: {step}: {reason}"));
        match (probe.overlay, probe.namespaces, probe.landlock) {
            (Verdict::Works(enforcement), ..) => Ok(Machine { enforcement, backend: Backend::Overlay, notes }),
            (Verdict::Fails(overlay), Verdict::Works(enforcement), _) => {
                why("worktrees are copies, overlays cannot be mounted here", &overlay.step, &overlay.reason);
                Ok(Machine { enforcement, backend: Backend::Copy, notes })
            }
            (_, Verdict::Fails(namespaces), Verdict::Works(enforcement)) => {
                why("no namespaces here, workers are held by the landlock tier", &namespaces.step, &namespaces.reason);
                Ok(Machine { enforcement, backend: Backend::Copy, notes })
            }
            (_, Verdict::Fails(_), Verdict::Fails(landlock)) => {
                Err(MachineError::NoCage { step: landlock.step, reason: landlock.reason })
            }
        }
    }

    /// The tier of every worker.
    pub fn tier(&self) -> Tier {
        self.enforcement.tier
    }

    /// For policies.
    pub fn offer(&self, network: crate::settings::HostNetwork) -> Offer {
        Offer { tier: self.tier(), overlay: self.backend == Backend::Overlay, network }
    }

    /// Where workers see the repository's object stores.
    pub fn objects_at(&self) -> ObjectsAt {
        match self.tier() {
            Tier::Namespaces => ObjectsAt::Bound(PathBuf::from(OBJECTS)),
            Tier::Landlock => ObjectsAt::Host,
        }
    }

    /// Whether everything that a policy insists on is enforced.
    ///
    /// # Errors
    /// [`MachineError::Missing`] names the first that is not.
    pub fn check(&self, policy: &str, require: &[String]) -> Result<(), MachineError> {
        match require.iter().find(|wanted| !self.enforcement.enforced.contains(wanted)) {
            None => Ok(()),
            Some(missing) => Err(MachineError::Missing {
                policy: policy.to_owned(),
                missing: missing.clone(),
                enforced: self.enforcement.enforced.clone(),
            }),
        }
    }
}
