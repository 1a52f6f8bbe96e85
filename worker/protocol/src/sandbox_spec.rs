//! What the coordinator asks the sandbox to allow. Plain data: nothing here is checked against the machine, that happens
//! in the worker's airlock, which refuses (and never repairs) what it cannot enforce.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How strong a cage is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Landlock, seccomp and rlimits; no privilege, no namespaces.
    Landlock,
    /// The same inside user, mount, pid, net, ipc and uts namespaces with a minimal root.
    Namespaces,
}

/// One worker's cage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The tier to enter. The coordinator probed it; a worker that cannot enter it refuses to run the job.
    pub tier: Tier,
    /// The tree the job works in.
    pub worktree: WorktreeSpec,
    /// Host folders and files beside the worktree, in the order in which they are mounted (a later one may lie in an
    /// earlier one). A path that does not exist on the host is refused.
    pub grants: Vec<Grant>,
    /// Host folders seen copy-on-write (namespaces tier only; the coordinator asks for something else elsewhere).
    pub cow: Vec<Cow>,
    /// Paths inside granted trees or the worktree that the job must not see, as the job would name them. Missing ones are
    /// skipped.
    pub hide: Vec<PathBuf>,
    /// The job's home folder as `$HOME` names it: an empty private folder inside the cage. In the landlock tier it is a
    /// host folder made by the coordinator for this attempt.
    pub home: PathBuf,
    /// Files that it holds from the start; one that is there already stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub home_files: Vec<HomeFile>,
    /// Where `/tmp` is: `None` gives a private tmpfs at `/tmp` (namespaces tier), and at `/run/swarm/tmp` another for a worktree
    /// below `/tmp`; a host folder made by the coordinator
    /// for this attempt is granted instead in the landlock tier, and `$TMPDIR` names it.
    pub tmp: Option<PathBuf>,
    /// What the job may reach over the network.
    pub network: NetworkSpec,
    /// Resource limits.
    pub limits: LimitsSpec,
    /// The job's whole environment, in order; nothing is inherited.
    pub env: Vec<(String, String)>,
}

/// The tree the job works in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "backend", rename_all = "kebab-case")]
pub enum WorktreeSpec {
    /// An overlay mount. All layer paths are relative to `state` (so that no path needs escaping in mount options) and
    /// consist of `[A-Za-z0-9._/-]` only.
    Overlay {
        /// Where the job sees the tree: absolute, the repository's own path.
        at: PathBuf,
        /// The host folder that the layers' paths start from.
        state: PathBuf,
        /// The read-only layers, topmost first; at least one.
        lowers: Vec<String>,
        /// Receives what the job writes.
        upper: String,
        /// The overlay's scratch folder, beside `upper`. One that was never mounted before saves two milliseconds. Afterwards
        /// it holds `work/incompat/volatile`, each without permissions.
        work: String,
    },
    /// A plain host folder that the job may write. In the namespaces tier it is bound at `at`; in the landlock tier `at`
    /// equals `path`.
    Directory {
        /// Where the job sees the tree.
        at: PathBuf,
        /// The folder on the host.
        path: PathBuf,
    },
}

impl WorktreeSpec {
    /// Where the job sees the tree.
    pub fn at(&self) -> &PathBuf {
        match self {
            WorktreeSpec::Overlay { at, .. } | WorktreeSpec::Directory { at, .. } => at,
        }
    }
}

/// A file in the home folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeFile {
    /// Where, below the home folder: plain names only.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// A host path and what may be done below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Absolute path on the host. A symlink anywhere in it refuses the job: an earlier one could have planted it.
    pub path: PathBuf,
    /// Where the job sees it; equal to `path` in the landlock tier.
    pub at: PathBuf,
    /// What may be done there.
    pub access: Access,
}

/// What may be done below a granted path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and execute.
    Read,
    /// Read, execute, write, create, remove.
    Write,
}

/// A host folder seen copy-on-write, or some folders in it that share one overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cow {
    /// Absolute path on the host: the lower layer.
    pub path: PathBuf,
    /// Where the job sees it.
    pub at: PathBuf,
    /// Which folders of it the job sees, relative to `path` and `at`, and nothing beside them; empty for all of it.
    #[serde(default)]
    pub shown: Vec<PathBuf>,
    /// Receives what the job writes; relative to the worktree's `state`.
    pub upper: String,
    /// Scratch folder, relative to the worktree's `state`.
    pub work: String,
}

/// What the job may reach over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkSpec {
    /// Its own loopback (namespaces tier) or nothing at all (landlock tier).
    None,
    /// One port of its loopback, behind which the coordinator's egress proxy answers; else as [`NetworkSpec::None`].
    Egress {
        /// The port.
        port: u16,
        /// Namespaces tier: a unix socket of the host that takes the listening socket of that port out of the cage, before
        /// the job runs. Landlock tier: `None`, the coordinator itself listens on the host's loopback.
        door: Option<PathBuf>,
    },
    /// The host's network, allowed by the person at the command line.
    Host,
}

/// Resource limits; `None` is without limit beyond the machine's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitsSpec {
    /// Bytes of memory of all processes together.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Open files a process.
    pub open_files: Option<u64>,
    /// How many files each process may have open before it asks for more; as many as the worker, where none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files_at_first: Option<u64>,
    /// Bytes on disk that the job writes, and of each single file.
    pub disk_bytes: Option<u64>,
    /// Files and folders that it makes or changes.
    pub files: Option<u64>,
    /// Bytes that it prints, whether they are passed on or not.
    pub output_bytes: Option<u64>,
    /// Processors, as a fraction.
    pub cpu: Option<f64>,
    /// Where control groups can be made, as the probe found; what no group holds, the worker holds by other means.
    pub groups: Vec<GroupSpec>,
}

/// A folder of the kernel in which control groups can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Absolute.
    pub folder: PathBuf,
    /// 1 or 2: the kernel's design.
    pub version: u32,
    /// What a group bounds.
    pub controllers: Vec<ControllerSpec>,
}

/// What a control group bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControllerSpec {
    /// Memory.
    Memory,
    /// Processes and threads.
    Processes,
    /// Processor time.
    Cpu,
}
