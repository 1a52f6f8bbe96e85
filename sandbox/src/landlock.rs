//! Kernel Landlock: which files, ports and processes a job may touch, for itself and all its descendants, for good.
//!
//! Every right of the ABI in force is handled, so what is not granted here is refused. Rules are placed at the trees a job
//! works in and not at the root: the kernel walks from a file upwards until a rule answers, at each open.
//! Source: Documentation/userspace-api/landlock.rst.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::enforcement::Tier;
use crate::launch::Kind;
use crate::mounts::open_source;
use crate::policy::{Access, Draft, Network, Policy};

/// The oldest ABI that counts as a cage at all.
pub const ABI_MIN: u32 = 1;
/// The oldest ABI that knows ports.
pub const ABI_PORTS: u32 = 4;
/// The newest ABI whose rights this crate knows.
pub const ABI_KNOWN: u32 = 9;
/// Entries of one folder that are looked at when a hidden path in it makes its neighbours be granted one by one.
const NEIGHBOURS_MAX: usize = 4096;

/// Where a rule is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RulePath {
    /// Must be there, else the launch is refused: a rule that is silently left out is a job that fails for no visible reason.
    Needed(PathBuf),
    /// A folder of the system that not every machine has.
    IfThere(PathBuf),
}

/// What may be done below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Read and execute.
    Read,
    /// All but making devices, fifos and sockets.
    Write,
    /// [`Right::Write`], fifos and sockets: private folders that are thrown away.
    Private,
    /// Reading, writing and `ioctl` of device files, no new entries.
    Device,
}

/// Why the job cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum LandlockError {
    /// The kernel has no Landlock, or it is switched off.
    #[error("the kernel has no Landlock")]
    Missing,
    /// The policy lets one port through, and this kernel's Landlock cannot tell ports apart.
    #[error("the kernel's Landlock is older than ABI {ABI_PORTS} and cannot let a single port through")]
    NoPorts,
    /// A rule's path cannot be opened.
    #[error("cannot open {path:?}: {reason}")]
    Path {
        /// The path, as the job sees it.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A folder with a hidden entry has too many neighbours.
    #[error("{0:?} has more than {NEIGHBOURS_MAX} entries beside a hidden one")]
    TooManyNeighbours(PathBuf),
    /// The kernel refused.
    #[error("{0}")]
    Ruleset(#[from] landlock::RulesetError),
    /// Something of the ruleset is not in force.
    #[error("the ruleset is only partly in force")]
    Partial,
}

/// The kernel's Landlock ABI; 0 without Landlock.
pub fn kernel_abi() -> u32 {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: with a null attribute of size 0 and the version flag the call reads nothing and returns a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0usize, CREATE_RULESET_VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// The ABI a job of `policy` gets on this kernel.
pub fn abi_for(policy: &Policy) -> u32 {
    kernel_abi().min(ABI_KNOWN).min(policy.get().landlock_abi_max.unwrap_or(ABI_KNOWN))
}

/// A ruleset that is being made.
#[derive(Debug)]
pub(crate) struct Rules {
    kind: Kind,
    ruleset: RulesetCreated,
    abi: ABI,
    number: u32,
    /// Whether it has what every job of its kind is shown of the system, all of it.
    has_system: bool,
}

impl Rules {
    /// With what every job of this kind is shown of the system, to be completed for one that hides nothing of that.
    ///
    /// # Errors
    /// [`LandlockError`]; nothing is confined.
    pub(crate) fn begin(kind: Kind) -> Result<Self, LandlockError> {
        let mut rules = Rules::empty(kind, kernel_abi().min(ABI_KNOWN))?;
        if kind.tier == Tier::Landlock {
            let mut system = Vec::new();
            system_rules(kind.network, &[], &mut system)?;
            rules.add(system)?;
            rules.has_system = true;
        }
        Ok(rules)
    }

    fn empty(kind: Kind, number: u32) -> Result<Self, LandlockError> {
        let Kind { tier, network } = kind;
        if number < ABI_MIN {
            return Err(LandlockError::Missing);
        }
        let abi = ABI::from(i32::try_from(number).expect("at most ABI_KNOWN"));
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))?;
        // A network namespace of its own is stronger, and leaves the job its loopback.
        let ports = tier == Tier::Landlock && !network.is_host();
        if ports && number >= ABI_PORTS {
            ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
        }
        if number >= 6 {
            ruleset = ruleset.scope(Scope::from_all(abi))?;
        }
        let mut ruleset = ruleset.create()?;
        if let (true, Network::Egress { port }) = (ports, network) {
            if number < ABI_PORTS {
                return Err(LandlockError::NoPorts);
            }
            ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
        Ok(Rules { kind, ruleset, abi, number, has_system: false })
    }

    fn add(&mut self, rules: Vec<(RulePath, Right)>) -> Result<(), LandlockError> {
        for (path, right) in rules {
            let Some(fd) = open_rule(&path)? else { continue };
            let access = rights(right, self.abi, &fd).map_err(|error| path_error(path.path(), error))?;
            (&mut self.ruleset).add_rule(PathBeneath::new(fd, access))?;
        }
        Ok(())
    }

    fn serves(&self, policy: &Policy) -> bool {
        let draft = policy.get();
        let is_shown = |hidden: &PathBuf| shown_of_the_system().any(|shown| touches(hidden, &shown));
        self.kind == Kind::of(draft)
            && self.number == abi_for(policy)
            && !(self.has_system && draft.hide.iter().any(is_shown))
    }
}

/// Confines the calling process for good; sets `no_new_privs` as well. What has `begun` is completed where it serves the policy.
///
/// # Errors
/// [`LandlockError`]; the process must end, since it may be confined in part.
pub(crate) fn confine(policy: &Policy, begun: Option<Rules>) -> Result<u32, LandlockError> {
    let draft = policy.get();
    let mut all = match begun.filter(|begun| begun.serves(policy)) {
        Some(begun) => begun,
        None => Rules::empty(Kind::of(draft), abi_for(policy))?,
    };
    if draft.tier == Tier::Landlock && !all.has_system {
        let mut system = Vec::new();
        system_rules(draft.network, &draft.hide, &mut system)?;
        all.add(system)?;
    }
    all.add(own_rules(policy)?)?;
    let status = all.ruleset.restrict_self()?;
    if status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs {
        Ok(all.number)
    } else {
        Err(LandlockError::Partial)
    }
}

/// Opens a rule's path; an absent optional one gives `None`.
fn open_rule(path: &RulePath) -> Result<Option<OwnedFd>, LandlockError> {
    let opened = match path {
        // A symlink could have been planted by an earlier job, to have this one's rule placed elsewhere.
        RulePath::Needed(path) => open_source(path).map(Some),
        RulePath::IfThere(path) => match openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some),
        },
    };
    opened.map_err(|error| path_error(path.path(), error))
}

fn path_error(path: &Path, error: Errno) -> LandlockError {
    let reason = if error == Errno::LOOP { "a symlink stands in the way".to_owned() } else { error.to_string() };
    LandlockError::Path { path: path.to_owned(), reason }
}

fn rights(right: Right, abi: ABI, fd: &OwnedFd) -> rustix::io::Result<BitFlags<AccessFs>> {
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock;
    let meetings = AccessFs::MakeFifo | AccessFs::MakeSock;
    let all = AccessFs::from_all(abi);
    let granted = match right {
        Right::Read => AccessFs::from_read(abi),
        Right::Write => all & !(nodes | meetings),
        Right::Private => all & !nodes,
        Right::Device => {
            all & (AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::IoctlDev)
        }
    };
    let is_folder = FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory;
    Ok(if is_folder { granted } else { granted & AccessFs::from_file(abi) })
}

impl RulePath {
    fn path(&self) -> &Path {
        match self {
            RulePath::Needed(path) | RulePath::IfThere(path) => path,
        }
    }
}

/// When a path of the system is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenWith {
    /// Always.
    Anything,
    /// To jobs that use the host's network.
    HostNetwork,
}

/// A path of the system that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SystemPath {
    /// Where it really leads, without symlinks.
    real: PathBuf,
    seen_with: SeenWith,
}

/// What the landlock tier shows of the system. Looked up once a process, or once for all that are forked from it: the
/// machine's own folders do not move while jobs run.
fn system_paths() -> &'static [SystemPath] {
    static PATHS: OnceLock<Vec<SystemPath>> = OnceLock::new();
    PATHS.get_or_init(|| {
        let always = crate::root::SYSTEM_FOLDERS.iter().map(PathBuf::from);
        let etc = crate::root::ETC_ENTRIES.iter().map(|name| Path::new("/etc").join(name));
        let always = always.chain(etc).chain([PathBuf::from("/proc")]).map(|path| (path, SeenWith::Anything));
        let network = crate::root::ETC_NETWORK_ENTRIES.iter().map(|name| Path::new("/etc").join(name));
        let network = network.map(|path| (path, SeenWith::HostNetwork));
        let found =
            |(path, seen_with): (PathBuf, SeenWith)| Some(SystemPath { real: path.canonicalize().ok()?, seen_with });
        without_parts(always.chain(network).filter_map(found).collect())
    })
}

/// Leaves out what is, or lies in, something earlier that every job is shown: `/lib` is a link into `/usr`. A rule of its own
/// would allow nothing more, and each is a handful of calls at every launch.
fn without_parts(all: Vec<SystemPath>) -> Vec<SystemPath> {
    let mut kept: Vec<SystemPath> = Vec::with_capacity(all.len());
    for path in all {
        if !kept.iter().any(|above| above.seen_with == SeenWith::Anything && path.real.starts_with(&above.real)) {
            kept.push(path);
        }
    }
    kept
}

/// Looks the system's paths up, for all processes that are forked from this one.
pub(crate) fn prepare() {
    system_paths();
}

/// The rules for what the landlock tier shows of the system, but for what is hidden.
fn system_rules(network: Network, hide: &[PathBuf], rules: &mut Vec<(RulePath, Right)>) -> Result<(), LandlockError> {
    for SystemPath { real, seen_with } in system_paths() {
        if *seen_with == SeenWith::HostNetwork && network != Network::Host {
            continue;
        }
        if hide.iter().any(|hidden| touches(hidden, real)) {
            read_around(real, hide, rules)?;
        } else {
            rules.push((RulePath::IfThere(real.clone()), Right::Read));
        }
    }
    let shown = devices().filter(|device| !hide.iter().any(|hidden| device.starts_with(hidden)));
    rules.extend(shown.map(|device| (RulePath::IfThere(device), Right::Device)));
    Ok(())
}

fn devices() -> impl Iterator<Item = PathBuf> {
    crate::root::DEVICES.iter().map(|name| Path::new("/dev").join(name))
}

/// All that [`system_rules`] shows where nothing is hidden.
fn shown_of_the_system() -> impl Iterator<Item = PathBuf> {
    system_paths().iter().map(|path| path.real.clone()).chain(devices())
}

/// Whether something that is hidden is what is shown, lies in it or holds it.
fn touches(hidden: &Path, shown: &Path) -> bool {
    hidden.starts_with(shown) || shown.starts_with(hidden)
}

fn needed(path: &Path, right: Right) -> (RulePath, Right) {
    (RulePath::Needed(path.to_owned()), right)
}

/// Rules add up from a file to the root: what a private folder allows holds for a worktree inside it, too.
fn private(draft: &Draft, path: &Path) -> (RulePath, Right) {
    needed(path, if draft.worktree.at().starts_with(path) { Right::Write } else { Right::Private })
}

/// The folders and files that a policy's job may write, as they are called inside.
pub(crate) fn writable(policy: &Policy) -> Vec<PathBuf> {
    write_rules(policy.get()).into_iter().map(|(rule, _)| rule.path().to_owned()).collect()
}

fn write_rules(draft: &Draft) -> Vec<(RulePath, Right)> {
    let mut rules = vec![needed(draft.worktree.at(), Right::Write), private(draft, &draft.home)];
    rules.extend(draft.copies.iter().flat_map(|copy| copy.places()).map(|place| needed(&place, Right::Write)));
    rules.extend(draft.tmp.iter().map(|tmp| private(draft, tmp)));
    rules.extend(
        draft.grants.iter().filter(|grant| grant.access == Access::Write).map(|grant| needed(&grant.at, Right::Write)),
    );
    rules
}

/// All other rules of a policy, in no particular order: Landlock adds them up.
fn own_rules(policy: &Policy) -> Result<Vec<(RulePath, Right)>, LandlockError> {
    let draft = policy.get();
    let mut rules = write_rules(draft);
    match draft.tier {
        Tier::Namespaces => {
            // The root holds nothing but what may be read.
            rules.push(needed(Path::new("/"), Right::Read));
            rules.push(needed(Path::new("/dev"), Right::Device));
            rules.push(needed(Path::new("/dev/shm"), Right::Private));
            if draft.tmp.is_none() {
                rules.push(private(draft, Path::new("/tmp")));
            }
            rules.extend(draft.tmp_beside().map(|tmp| private(draft, tmp)));
        }
        Tier::Landlock => {
            for grant in draft.grants.iter().filter(|grant| grant.access == Access::Read) {
                read_around(&grant.at, &draft.hide, &mut rules)?;
            }
        }
    }
    Ok(rules)
}

/// Grants reading below `path` except for what is hidden. Landlock cannot take away inside what it has granted, so a
/// folder on the way to a hidden entry is not granted itself: its other entries are, one by one.
fn read_around(path: &Path, hide: &[PathBuf], rules: &mut Vec<(RulePath, Right)>) -> Result<(), LandlockError> {
    if hide.iter().any(|hidden| path.starts_with(hidden)) {
        return Ok(());
    }
    let inside: Vec<PathBuf> = hide.iter().filter(|hidden| hidden.starts_with(path)).cloned().collect();
    if inside.is_empty() || !path.is_dir() || path.is_symlink() {
        rules.push((RulePath::Needed(path.to_owned()), Right::Read));
        return Ok(());
    }
    let io = |error: std::io::Error| LandlockError::Path { path: path.to_owned(), reason: error.to_string() };
    for (count, entry) in std::fs::read_dir(path).map_err(io)?.enumerate() {
        if count >= NEIGHBOURS_MAX {
            return Err(LandlockError::TooManyNeighbours(path.to_owned()));
        }
        let entry = entry.map_err(io)?;
        // A symlink's rule would be one for its target, which is no business of this grant.
        if !entry.file_type().map_err(io)?.is_symlink() {
            read_around(&entry.path(), &inside, rules)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_into_what_is_shown_anyway_needs_no_rule_of_its_own() {
        let shown = |real: &str, seen_with| SystemPath { real: PathBuf::from(real), seen_with };
        let [usr, lib] = ["/usr", "/usr/lib"].map(|real| shown(real, SeenWith::Anything));
        let [etc, beside] = ["/etc/hosts", "/usr-local"].map(|real| shown(real, SeenWith::HostNetwork));
        let all = vec![usr.clone(), lib, etc.clone(), beside.clone(), usr.clone(), etc.clone()];
        // What only some jobs are shown covers nothing.
        assert_eq!(without_parts(all), [usr, etc.clone(), beside, etc]);
    }
}
