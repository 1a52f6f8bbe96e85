//! What this machine can do for a run: asked once of a worker that really tries (`swarm __worker --probe strongest`), then a few
//! plain facts. Nothing here is guessed from versions.

use std::path::{Path, PathBuf};

use swarm_plans::{Network, SandboxPolicy};
use swarm_protocol::probe::Verdict;
use swarm_protocol::{EnforcementReport, Probe, Tier};

use crate::base::git_dir::ObjectsAt;
use crate::policy::limits::Capacity;
use crate::policy::paths::{KERNEL, MACHINE, settled};
use crate::policy::{Offer, SYSTEM, Word};
use crate::report::sanitize::shell_word;
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
    #[error("confine a worker on this machine: {step}: {reason}")]
    NoCage {
        /// The step that failed.
        step: String,
        /// Why.
        reason: String,
    },
    /// Below it lies what is the system's, and no task writes there.
    #[error("keep the state of runs in {}: it lies below {below}, which tasks see read-only", state.display())]
    StateOfSystem {
        /// The state folder.
        state: PathBuf,
        /// The system's folder.
        below: &'static str,
    },
    /// It lies where nothing is mounted for a task.
    #[error("show tasks the repository at {}: it lies below {below}, which is the kernel's", place.display())]
    PlaceOfKernel {
        /// Where workers would see their worktree.
        place: PathBuf,
        /// The kernel's folder.
        below: &'static str,
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

impl MachineError {
    /// What to type or change next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            MachineError::StateOfSystem { below, .. } => Some(format!(
                "name a folder outside of {below}, here and for what follows: swarm --state-dir ~/.local/state/swarm/NAME …"
            )),
            MachineError::PlaceOfKernel { place, .. } => {
                Some(format!("work in a clone elsewhere: git clone {} ~/NAME", shell_word(&place.to_string_lossy())))
            }
            MachineError::Probe(_) | MachineError::NoCage { .. } | MachineError::Missing { .. } => None,
        }
    }
}

/// Whether workers can have their worktrees at `place`, and what is theirs below `state`. Nothing has to be there yet.
///
/// # Errors
/// [`MachineError::PlaceOfKernel`] and [`MachineError::StateOfSystem`].
pub fn has_room(place: &Path, state: &Path) -> Result<(), MachineError> {
    let above = |path: &Path, folders: &[&[&'static str]]| {
        folders.iter().copied().flatten().copied().find(|folder| path.starts_with(folder))
    };
    let (place, state) = (settled(place), settled(state));
    match (above(&place, &[KERNEL]), above(&state, &[KERNEL, SYSTEM, MACHINE])) {
        (Some(below), _) => Err(MachineError::PlaceOfKernel { place, below }),
        (None, Some(below)) => Err(MachineError::StateOfSystem { state, below }),
        (None, None) => Ok(()),
    }
}

/// What this machine can do.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What every worker is held to, before a plan's own limits.
    pub enforcement: EnforcementReport,
    /// How worktrees are made.
    pub backend: Backend,
    /// What limits are relative to, and what can hold them.
    pub capacity: Capacity,
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
        let capacity =
            Capacity { memory_bytes: probe.memory_bytes, disk_bytes: probe.disk_bytes, groups: probe.groups };
        let mut notes = Vec::new();
        let mut why = |what: &str, step: &str, reason: &str| notes.push(format!("{what}: {step}: {reason}"));
        match (probe.overlay, probe.namespaces, probe.landlock) {
            (Some(Verdict::Works(enforcement)), ..) => {
                Ok(Machine { enforcement, backend: Backend::Overlay, capacity, notes })
            }
            (Some(Verdict::Fails(overlay)), Some(Verdict::Works(enforcement)), _) => {
                why("worktrees are copies, overlays cannot be mounted here", &overlay.step, &overlay.reason);
                Ok(Machine { enforcement, backend: Backend::Copy, capacity, notes })
            }
            (_, Some(Verdict::Fails(namespaces)), Some(Verdict::Works(enforcement))) => {
                why("no namespaces here, workers are held by the landlock tier", &namespaces.step, &namespaces.reason);
                Ok(Machine { enforcement, backend: Backend::Copy, capacity, notes })
            }
            (.., Some(Verdict::Fails(landlock))) => {
                Err(MachineError::NoCage { step: landlock.step, reason: landlock.reason })
            }
            (_, namespaces, landlock) => {
                let reason = format!("the worker has no verdict: {namespaces:?}, {landlock:?}");
                Err(MachineError::NoCage { step: "probe".to_owned(), reason })
            }
        }
    }

    /// The tier of every worker.
    pub fn tier(&self) -> Tier {
        self.enforcement.tier
    }

    /// For policies, with what a person lets them ask for.
    pub fn offer(&self, word: Word) -> Offer {
        Offer { tier: self.tier(), overlay: self.backend == Backend::Overlay, word, capacity: self.capacity.clone() }
    }

    /// Where workers see the repository's object stores.
    pub fn objects_at(&self) -> ObjectsAt {
        match self.tier() {
            Tier::Namespaces => ObjectsAt::Bound(PathBuf::from(OBJECTS)),
            Tier::Landlock => ObjectsAt::Host,
        }
    }

    /// What workers are held to whose policy has this network. Workers report the same once they are in; here it is known before
    /// any of them starts. The words are those of the sandbox.
    pub fn held_to(&self, network: &Network) -> EnforcementReport {
        let mut report = self.enforcement.clone();
        let namespaces = report.tier == Tier::Namespaces;
        let lost = if namespaces { "netns" } else { "no-sockets" };
        match network {
            Network::None => {}
            Network::Hosts(_) if namespaces => report.enforced.push(EGRESS.to_owned()),
            Network::Hosts(_) => {
                report.enforced.retain(|word| word != lost);
                report.not_enforced.push(EGRESS_OPEN.to_owned());
            }
            Network::Host => {
                report.enforced.retain(|word| word != lost);
                report.not_enforced.push(NETWORK_OPEN.to_owned());
            }
        }
        report
    }

    /// What a policy's network leaves open that no other policy does, in words for people.
    pub fn left_open_by(&self, network: &Network) -> Vec<String> {
        let known = &self.enforcement.not_enforced;
        self.held_to(network).not_enforced.into_iter().filter(|line| !known.contains(line)).collect()
    }

    /// Whether everything that a policy insists on is enforced.
    ///
    /// # Errors
    /// [`MachineError::Missing`] names the first that is not.
    pub fn check(&self, name: &str, policy: &SandboxPolicy) -> Result<(), MachineError> {
        let enforced = self.held_to(&policy.network).enforced;
        match policy.require.iter().find(|wanted| !enforced.contains(wanted)) {
            None => Ok(()),
            Some(missing) => Err(MachineError::Missing { policy: name.to_owned(), missing: missing.clone(), enforced }),
        }
    }
}

/// A `network` list is all that can be reached, in the words of `require`.
const EGRESS: &str = "egress";
/// What a `network` list leaves open in the landlock tier, whose rules know ports and no addresses.
pub const EGRESS_OPEN: &str = "egress: the proxy's port can be connected to on every address, not only on this machine";
/// What `network = "host"` leaves open.
const NETWORK_OPEN: &str = "network: the host's network is open to the job";

#[cfg(test)]
mod tests {
    #[test]
    fn below_what_is_the_systems_no_state_is_kept_and_below_the_kernels_no_worktree() {
        let has_room = |place: &str, state: &str| {
            super::has_room(std::path::Path::new(place), std::path::Path::new(state)).map_err(|error| {
                let hint = error.hint().expect("what to do is known");
                format!("{error}; {hint}")
            })
        };
        for place in ["/usr/src/nobodys", "/usr/local/nobodys", "/etc/nobodys"] {
            let told = has_room(place, &format!("{place}/.git/swarm")).expect_err("no task writes there");
            assert!(told.contains(&format!("in {place}/.git/swarm: it lies below /")), "{told}");
            assert!(told.contains("swarm --state-dir ~/.local/state/swarm/NAME"), "{told}");
            assert_eq!(has_room(place, "/var/lib/nobodys"), Ok(()));
        }
        for state in ["/dev/shm/nobodys/.git/swarm", "/var/lib/nobodys"] {
            let told = has_room("/dev/shm/nobodys", state).expect_err("nothing is mounted there");
            assert!(told.contains("below /dev") && told.contains("git clone /dev/shm/nobodys ~/NAME"), "{told}");
        }
        assert_eq!(has_room("/srv/nobodys", "/srv/nobodys/.git/swarm"), Ok(()));
    }

    use super::*;

    fn machine(tier: Tier, enforced: &[&str]) -> Machine {
        let enforced = enforced.iter().map(|&word| word.to_owned()).collect();
        let enforcement =
            EnforcementReport { tier, landlock_abi: 7, enforced, not_enforced: vec!["x".to_owned()], limits: vec![] };
        Machine { enforcement, backend: Backend::Copy, capacity: Capacity::default(), notes: vec![] }
    }

    #[test]
    fn no_cage_is_said_behind_what_failed() {
        let error = MachineError::NoCage { step: "landlock".to_owned(), reason: "refused".to_owned() };
        assert_eq!(format!("failed to {error}"), "failed to confine a worker on this machine: landlock: refused");
    }

    #[test]
    fn a_policys_network_decides_what_it_is_held_to() {
        let hosts = Network::Hosts(vec![]);
        let check = |tier, has: &str, network: &Network, enforced: &[&str], open: &[&str]| {
            let machine = machine(tier, &["landlock", has]);
            assert_eq!(machine.held_to(network).enforced, enforced, "{tier:?} {network:?}");
            assert_eq!(machine.left_open_by(network), open, "{tier:?} {network:?}");
        };
        let (strong, weak) = (Tier::Namespaces, Tier::Landlock);
        check(strong, "netns", &Network::None, &["landlock", "netns"], &[]);
        check(strong, "netns", &hosts, &["landlock", "netns", "egress"], &[]);
        check(strong, "netns", &Network::Host, &["landlock"], &[NETWORK_OPEN]);
        check(weak, "no-sockets", &Network::None, &["landlock", "no-sockets"], &[]);
        check(weak, "no-sockets", &hosts, &["landlock"], &[EGRESS_OPEN]);
        check(weak, "no-sockets", &Network::Host, &["landlock"], &[NETWORK_OPEN]);
    }

    #[test]
    fn a_policy_can_insist_on_what_its_network_takes_away() {
        let policy = |require: &str, network: Network| SandboxPolicy {
            require: vec![require.to_owned()],
            network,
            ..SandboxPolicy::default()
        };
        let (strong, weak) = (machine(Tier::Namespaces, &["netns"]), machine(Tier::Landlock, &["no-sockets"]));
        assert!(strong.check("p", &policy("egress", Network::Hosts(vec![]))).is_ok());
        assert!(weak.check("p", &policy("egress", Network::Hosts(vec![]))).is_err());
        assert!(weak.check("p", &policy("no-sockets", Network::Hosts(vec![]))).is_err());
        assert!(weak.check("p", &policy("no-sockets", Network::None)).is_ok());
        assert!(strong.check("p", &policy("netns", Network::Host)).is_err());
    }
}
