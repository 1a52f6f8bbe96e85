//! What a worker may see: a named policy of the plan and the caller's host become a [`Cage`], once a run; a cage and one
//! attempt's worktree become a [`SandboxSpec`]. Grants come from the plan and the coordinator only, never from a file that
//! a worker could have written.
//!
//! What runs in the caller's shell runs in the cage: folders on `PATH` are readable, and toolchains know their homes. It is
//! decided in one place what no policy may ask for ([`paths`]), and in another what a plan may ask for only when the person who
//! runs it said so ([`word`]).

/// A policy as one machine grants it.
mod cage;
/// Caches that share one overlay.
mod copies;
/// Which variables and files hold credentials, by their names and values.
pub mod credentials;
/// What programs need of the installation that they lie in.
mod installation;
/// Credentials in what is shown although no policy names it.
mod kept;
/// What a worktree lacks of the checkout.
mod left_out;
/// How much a task may use of the machine.
pub mod limits;
/// Programs that links on `PATH` lead to.
mod linked;
/// Who listens on this machine.
mod listeners;
/// The paths that a policy names.
mod named;
/// What runs when the caller types a command.
pub mod on_path;
/// What a policy may ask for, path by path.
pub mod paths;
/// Why a path is not granted.
pub mod reason;
/// What a plan would have to say to allow what was refused.
pub mod remedy;
/// From a policy to a cage.
mod resolve;
/// What of a home runs by itself.
mod running;
/// Collects what is shown.
mod showcase;
/// Toolchain presets.
pub mod toolchains;
/// What is hidden as a file and readable through git.
pub mod tracked;
/// What may be shown of what no policy names.
mod unnamed;
/// What the policies of one run look at.
mod view;
/// The links on the way to a path, and who may have made them.
pub mod way;
/// What a plan may not ask for on its own.
pub mod word;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use swarm_protocol::Tier;

pub use self::cage::{AttemptPlaces, Cage};
pub use self::resolve::{PolicyError, look_ahead, refusals, resolve};
pub use self::view::{Looked, View};
pub use self::word::{Ask, Word};
use limits::Capacity;

/// Folders that the sandbox itself shows in every cage. A test of the command line holds them against the sandbox crate's own list.
pub const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// What the command line captured of the caller, once.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The caller's home folder; absolute.
    pub home: PathBuf,
    /// The folders of the caller's `PATH`, absolute ones only, in order.
    pub path: Vec<PathBuf>,
    /// The caller's environment, as far as it is UTF-8.
    pub env: BTreeMap<String, String>,
    /// The state folder of what belongs to no repository; absolute, and need not exist.
    pub state: PathBuf,
}

impl Host {
    /// A caller with that home, `PATH` and environment.
    pub fn new(home: PathBuf, path: Vec<PathBuf>, env: BTreeMap<String, String>) -> Self {
        let cache = env.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|cache| cache.is_absolute());
        let state = cache.unwrap_or_else(|| home.join(".cache")).join("swarm");
        Host { home, path, env, state }
    }
}

/// What the machine offers, as far as policies care.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The strongest tier.
    pub tier: Tier,
    /// Whether folders can be shown copy-on-write.
    pub overlay: bool,
    /// What the person who runs the plan lets it ask for.
    pub word: Word,
    /// What limits are relative to, and what can hold them.
    pub capacity: Capacity,
}

/// Places of the run that no policy may expose.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Where workers see the worktree: the repository's own path.
    pub worktree: &'a Path,
    /// The repository's common git folder.
    pub git: &'a Path,
    /// The state folder.
    pub state: &'a Path,
}

impl Places<'static> {
    /// Where there is no repository.
    pub fn nowhere() -> Self {
        let nowhere = Path::new("/proc/nowhere");
        Places { worktree: nowhere, git: nowhere, state: nowhere }
    }
}
