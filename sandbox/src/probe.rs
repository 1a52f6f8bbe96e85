//! What this machine can do, found out by doing: every answer comes from a cage that was really closed, by the same code
//! that closes it around jobs. Versions, configuration files and sysctls are not asked; they lie in containers.

use std::fs;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::enforcement::{Enforcement, Tier};
use crate::landlock::kernel_abi;
use crate::launch::{Last, Output, Refused, launch_until};
use crate::policy::{Draft, Limits, Network, Worktree};
use crate::status::Status;

/// Whether something works here: what it enforces, or the step that failed.
pub type Verdict = Result<Enforcement, Refused>;

/// What this machine can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The kernel's Landlock ABI; 0 without Landlock.
    pub landlock_abi: u32,
    /// The landlock tier.
    pub landlock: Verdict,
    /// The namespaces tier with a plain folder as worktree.
    pub namespaces: Verdict,
    /// The namespaces tier with an overlay whose layers lie in the given state folder.
    pub overlay: Verdict,
}

/// Tries every tier, in a new folder below `state` that is removed afterwards.
///
/// # Errors
/// The system's, when no folder can be made in `state`.
pub fn probe(state: &Path) -> std::io::Result<Probe> {
    let folder = state.join(format!("probe-{}", std::process::id()));
    for name in ["lower", "upper", "work", "tree", "home", "tmp"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let folder = fs::canonicalize(folder)?;
    let probe = Probe {
        landlock_abi: kernel_abi(),
        landlock: attempt(&folder, Tier::Landlock, directory(&folder)),
        namespaces: attempt(&folder, Tier::Namespaces, directory(&folder)),
        overlay: attempt(&folder, Tier::Namespaces, overlay(&folder)),
    };
    remove(&folder)?;
    Ok(probe)
}

fn directory(folder: &Path) -> Worktree {
    Worktree::Directory { at: folder.join("tree"), path: folder.join("tree") }
}

fn overlay(folder: &Path) -> Worktree {
    Worktree::Overlay {
        at: folder.join("tree"),
        state: folder.to_owned(),
        lowers: vec!["lower".to_owned()],
        upper: "upper".to_owned(),
        work: "work".to_owned(),
    }
}

fn attempt(folder: &Path, tier: Tier, worktree: Worktree) -> Verdict {
    let draft = Draft {
        tier,
        worktree,
        grants: Vec::new(),
        copies: Vec::new(),
        hide: Vec::new(),
        home: folder.join("home"),
        tmp: (tier == Tier::Landlock).then(|| folder.join("tmp")),
        network: Network::None,
        limits: Limits::default(),
        landlock_abi_max: None,
    };
    let policy = draft.check().map_err(|error| refused("policy", error))?;
    let null = || open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let output = null().and_then(|stdout| Ok(Output { stdout, stderr: null()? }));
    let output = output.map_err(|error| refused("open /dev/null", error))?;
    let mut caged = launch_until(&policy, Last::Exit, output)?;
    let mut verdict = Err(refused("launch", "the first process ended without a word"));
    while let Ok(words) = caged.read() {
        for word in words {
            match word {
                Status::Ready { landlock_abi } => verdict = Ok(Enforcement::of(&policy, landlock_abi)),
                Status::Refused { step, reason } => verdict = Err(Refused { step, reason }),
                Status::StartFailed { .. } | Status::Ended { .. } => {}
            }
        }
    }
    caged.reap().map_err(|error| refused("reap", error))?;
    verdict
}

fn refused(step: &str, reason: impl ToString) -> Refused {
    Refused { step: step.to_owned(), reason: reason.to_string() }
}

/// An overlay leaves folders without permissions in its scratch folder, which their owner may change and remove.
fn remove(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for scratch in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
        match fs::set_permissions(folder.join(scratch), fs::Permissions::from_mode(0o700)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            other => other?,
        }
    }
    fs::remove_dir_all(folder)
}
