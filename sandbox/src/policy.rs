//! What a job may do, checked when built and unchangeable afterwards.
//!
//! A [`Draft`] is plain data from anywhere; [`Draft::check`] is the only way to a [`Policy`]. The check refuses and never
//! repairs: a relative path, a `..`, a grant of `/` or of a kernel file system is an error of whoever asked. Whether a path
//! exists, and that no symlink stands in it, is found out when it is opened for the mount or the rule, because only that
//! answer cannot be outdated.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::cgroup::GroupPlace;
use crate::enforcement::Tier;
use crate::home::HomeFile;

/// The longest list of grants, hidden paths or layers that is accepted. The kernel allows 100,000 mounts a namespace and
/// 500 overlay layers; a job with more than this is a mistake.
pub const PATHS_MAX: usize = 4096;

/// What `$TMPDIR` names inside where the worktree lies below `/tmp`. Whoever writes a job's environment says the same.
const TMP_BESIDE: &str = "/run/swarm/tmp";

/// The file systems of the kernel: nothing in them is granted, nothing is mounted over them.
pub const KERNEL_FOLDERS: &[&str] = &["/proc", "/sys", "/dev"];
/// The folders of the system: nothing in them is granted for writing.
pub const SYSTEM_FOLDERS: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/etc", "/boot"];
/// Folders that hold the folders of many owners: what lies in them may be granted for writing, they themselves not.
pub const SHARED_FOLDERS: &[&str] =
    &["/var", "/var/tmp", "/root", "/home", "/run", "/opt", "/srv", "/mnt", "/media", "/tmp"];

/// A wish for a cage; see [`Draft::check`].
#[derive(Debug, Clone)]
pub struct Draft {
    /// The tier to enter; no other is tried.
    pub tier: Tier,
    /// The tree the job works in.
    pub worktree: Worktree,
    /// Host paths beside the worktree.
    pub grants: Vec<PathGrant>,
    /// Host folders seen copy-on-write (namespaces tier only).
    pub copies: Vec<CopyOnWrite>,
    /// Paths that the job must not see, as the job would name them; missing ones are skipped.
    pub hide: Vec<PathBuf>,
    /// The home folder: private and empty in the namespaces tier, a host folder granted for writing in the landlock tier.
    pub home: PathBuf,
    /// Files that it holds from the start.
    pub home_files: Vec<HomeFile>,
    /// Where temporary files go: `None` is a private `/tmp` (namespaces tier); else a host folder granted for writing.
    pub tmp: Option<PathBuf>,
    /// What may be reached over the network.
    pub network: Network,
    /// Limits of resources.
    pub limits: Limits,
    /// Uses at most this Landlock ABI, although the kernel has more. For tests of older kernels; `None` everywhere else.
    pub landlock_abi_max: Option<u32>,
}

/// A cage that can be asked of the kernel. Built by [`Draft::check`] only.
#[derive(Debug, Clone)]
pub struct Policy {
    // Invariant: passed `Draft::check`.
    draft: Draft,
}

impl Policy {
    /// What was asked for.
    pub fn get(&self) -> &Draft {
        &self.draft
    }
}

/// The tree a job works in.
#[derive(Debug, Clone)]
pub enum Worktree {
    /// An overlay; layer paths are relative to `state`.
    Overlay {
        /// Where the job sees the tree.
        at: PathBuf,
        /// The host folder that layer paths start from.
        state: PathBuf,
        /// Read-only layers, topmost first.
        lowers: Vec<String>,
        /// Receives what the job writes.
        upper: String,
        /// Scratch folder on the same file system as `upper`.
        work: String,
    },
    /// A host folder.
    Directory {
        /// Where the job sees it.
        at: PathBuf,
        /// The folder on the host.
        path: PathBuf,
    },
}

impl Worktree {
    /// Where the job sees the tree.
    pub fn at(&self) -> &Path {
        match self {
            Worktree::Overlay { at, .. } | Worktree::Directory { at, .. } => at,
        }
    }
}

/// A host path and what may be done below it.
#[derive(Debug, Clone)]
pub struct PathGrant {
    /// The path on the host, without symlinks.
    pub path: PathBuf,
    /// Where the job sees it.
    pub at: PathBuf,
    /// What may be done.
    pub access: Access,
}

/// What may be done below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and execute.
    Read,
    /// Read, execute, write, create and remove.
    Write,
}

/// A host folder seen copy-on-write, or some folders in it that share one overlay: an overlay of its own for each would
/// cost as much as the rest of the cage.
#[derive(Debug, Clone)]
pub struct CopyOnWrite {
    /// The folder on the host, without symlinks: the lower layer.
    pub path: PathBuf,
    /// Where the job sees it.
    pub at: PathBuf,
    /// Which folders of it the job sees, relative to `path` and `at`, and nothing beside them; empty for all of it.
    pub shown: Vec<PathBuf>,
    /// Receives writes; relative to the worktree's `state`.
    pub upper: String,
    /// Scratch folder; relative to the worktree's `state`.
    pub work: String,
}

impl CopyOnWrite {
    /// What the job sees, as it names it.
    pub fn places(&self) -> Vec<PathBuf> {
        match &*self.shown {
            [] => vec![self.at.clone()],
            shown => shown.iter().map(|folder| self.at.join(folder)).collect(),
        }
    }
}

/// What may be reached over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Only the job's own loopback (namespaces tier), or nothing (landlock tier).
    None,
    /// One port on the job's loopback, behind which the egress proxy answers; else as [`Network::None`].
    Egress {
        /// The port. In the namespaces tier init opens it inside; in the landlock tier it is one of the host's loopback.
        port: u16,
    },
    /// The host's network.
    Host,
}

impl Network {
    /// Whether the job may reach the host's network as it is.
    pub fn is_host(self) -> bool {
        self == Network::Host
    }
}

/// Limits of resources; `None` leaves the machine's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory of all processes together.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// How many files each process may have open before it asks for more; no more than that.
    pub open_files_at_first: Option<u64>,
    /// Bytes on disk that the job writes: in its worktree, in what it may write beside it, and of each single file.
    pub disk_bytes: Option<u64>,
    /// Files and folders that it makes or changes there.
    pub files: Option<u64>,
    /// Processors, as a fraction.
    pub cpu: Option<f64>,
    /// Bytes of private writable memory of each process, by setrlimit(2): for programs of ours that start no other. Others
    /// reserve more than they ever use.
    pub data_bytes: Option<u64>,
    /// Where groups can be made for these limits, as [`crate::cgroup::find`] gave them; what no group holds is held by
    /// other means ([`crate::limits`]).
    pub groups: Vec<GroupPlace>,
}

/// Why a wish is no policy. Every variant names what must be changed by whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not absolute, or with `.`, `..`, a NUL or nothing in it.
    #[error("path {path:?} of {what} is not absolute and plain")]
    NotPlain {
        /// The part of the policy.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A place that is never granted.
    #[error("{what} may not be {path:?}: it belongs to the system")]
    Reserved {
        /// The part of the policy.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A layer path that is not relative, plain and of `[A-Za-z0-9._/-]`.
    #[error("overlay layer {0:?} is not a plain relative path")]
    Layer(String),
    /// An overlay without lower layers.
    #[error("an overlay needs at least one lower layer")]
    NoLower,
    /// A file of the home folder with another place.
    #[error("the file {0:?} does not lie below the home folder")]
    NotBelowHome(PathBuf),
    /// More than [`PATHS_MAX`] of something.
    #[error("more than {PATHS_MAX} {0}")]
    TooMany(&'static str),
    /// A hidden path with something in it that may be written: one of the two has to go.
    #[error("hiding {hidden:?} would hide {inside:?} too, which the job is to write")]
    Hides {
        /// The hidden path.
        hidden: PathBuf,
        /// What lies in it.
        inside: PathBuf,
    },
    /// A port that cannot be listened on by number.
    #[error("port 0 cannot be the proxy's")]
    Port,
    /// Something that the tier cannot do.
    #[error("the {tier} tier cannot {what}")]
    Tier {
        /// The tier that was asked for.
        tier: Tier,
        /// What it cannot do.
        what: String,
    },
}

impl Draft {
    /// Checks everything that can be checked without the kernel.
    ///
    /// # Errors
    /// [`PolicyError`], the first fault found; the caller changes its wish.
    pub fn check(self) -> Result<Policy, PolicyError> {
        for (count, what) in [
            (self.grants.len(), "grants"),
            (self.copies.len(), "copy-on-write folders"),
            (self.hide.len(), "hidden paths"),
        ] {
            if count > PATHS_MAX {
                return Err(PolicyError::TooMany(what));
            }
        }
        if self.network == (Network::Egress { port: 0 }) {
            return Err(PolicyError::Port);
        }
        check_worktree(&self.worktree)?;
        check_home(&self.home)?;
        if let Some(file) = self.home_files.iter().find(|file| !file.is_below_home()) {
            return Err(PolicyError::NotBelowHome(file.path.clone()));
        }
        if let Some(tmp) = &self.tmp {
            check_writable("the folder for temporary files", tmp)?;
        }
        for grant in &self.grants {
            check_grant(grant)?;
        }
        for copy in &self.copies {
            plain("a copy-on-write folder", &copy.path)?;
            copy.places().iter().try_for_each(|place| check_copy(&copy.at, place))?;
            layer(&copy.upper)?;
            layer(&copy.work)?;
        }
        let writable = self.writable();
        for path in &self.hide {
            plain("a hidden path", path)?;
            if let Some(inside) = writable.iter().find(|tree| tree.starts_with(path)) {
                return Err(PolicyError::Hides { hidden: path.clone(), inside: inside.clone() });
            }
        }
        match self.tier {
            Tier::Namespaces => self.check_namespaces()?,
            Tier::Landlock => self.check_landlock()?,
        }
        Ok(Policy { draft: self })
    }

    /// The private folder for temporary files of a job whose `/tmp` holds its worktree. Landlock's rules add up from a file to the
    /// root, so a `/tmp` in which pipes and sockets could be made would allow them in the worktree, too.
    pub fn tmp_beside(&self) -> Option<&'static Path> {
        let needed = self.tier == Tier::Namespaces && self.tmp.is_none() && self.worktree.at().starts_with("/tmp");
        needed.then_some(Path::new(TMP_BESIDE))
    }

    /// Where the job may write, as it names these places.
    fn writable(&self) -> Vec<PathBuf> {
        let granted = self.grants.iter().filter(|grant| grant.access == Access::Write).map(|grant| &*grant.at);
        let own = [self.worktree.at(), &*self.home].into_iter().chain(self.tmp.as_deref());
        let copies = self.copies.iter().flat_map(CopyOnWrite::places);
        own.chain(granted).map(Path::to_owned).chain(copies).collect()
    }

    fn check_namespaces(&self) -> Result<(), PolicyError> {
        if !self.copies.is_empty() && !matches!(self.worktree, Worktree::Overlay { .. }) {
            let what = "show folders copy-on-write without an overlay worktree".to_owned();
            return Err(PolicyError::Tier { tier: self.tier, what });
        }
        Ok(())
    }

    fn check_landlock(&self) -> Result<(), PolicyError> {
        let cannot = |what: String| Err(PolicyError::Tier { tier: Tier::Landlock, what });
        match &self.worktree {
            Worktree::Overlay { .. } => return cannot("mount an overlay".to_owned()),
            Worktree::Directory { at, path } if at != path => {
                return cannot(format!("show {} at {}", path.display(), at.display()));
            }
            Worktree::Directory { .. } => {}
        }
        if let Some(moved) = self.grants.iter().find(|grant| grant.path != grant.at) {
            return cannot(format!("show {} at {}", moved.path.display(), moved.at.display()));
        }
        if let Some(place) = self.copies.iter().flat_map(CopyOnWrite::places).next() {
            return cannot(format!("show {} copy-on-write", place.display()));
        }
        if self.tmp.is_none() {
            return cannot("give a private /tmp".to_owned());
        }
        let writable = self.writable();
        let narrowed =
            |grant: &&PathGrant| grant.access == Access::Read && writable.iter().any(|tree| grant.at.starts_with(tree));
        if let Some(narrowed) = self.grants.iter().find(narrowed) {
            return cannot(format!("keep {} read-only inside a writable folder", narrowed.at.display()));
        }
        let hidden = self.hide.iter().find(|hidden| writable.iter().any(|tree| hidden.starts_with(tree)));
        match hidden {
            Some(hidden) => cannot(format!("hide {} inside a writable folder", hidden.display())),
            None => Ok(()),
        }
    }
}

fn check_worktree(worktree: &Worktree) -> Result<(), PolicyError> {
    check_writable("the worktree", worktree.at())?;
    match worktree {
        Worktree::Directory { path, .. } => check_writable("the worktree", path),
        Worktree::Overlay { state, lowers, upper, work, .. } => {
            plain("the state folder", state)?;
            if lowers.is_empty() {
                return Err(PolicyError::NoLower);
            }
            if lowers.len() > PATHS_MAX {
                return Err(PolicyError::TooMany("overlay layers"));
            }
            lowers.iter().chain([upper, work]).try_for_each(|path| layer(path))
        }
    }
}

fn check_grant(grant: &PathGrant) -> Result<(), PolicyError> {
    for path in [&grant.path, &grant.at] {
        check_outside_kernel("a grant", path)?;
        if grant.access == Access::Write {
            let what = "a writable grant";
            check_writable(what, path)?;
            if within(path, SYSTEM_FOLDERS) {
                return Err(PolicyError::Reserved { what, path: path.clone() });
            }
        }
    }
    Ok(())
}

/// Whether a grant of `path` passes [`Draft::check`].
pub(crate) fn grantable(path: &Path, access: Access) -> bool {
    check_grant(&PathGrant { path: path.to_owned(), at: path.to_owned(), access }).is_ok()
}

/// Refuses places that no job may have for writing as a whole. Folders *inside* `/home`, `/var` or `/run` are fine, and so
/// is a repository that lies in `/usr/src`.
fn check_writable(what: &'static str, path: &Path) -> Result<(), PolicyError> {
    check_outside_kernel(what, path)?;
    let taken = SYSTEM_FOLDERS.iter().chain(SHARED_FOLDERS).any(|folder| path == Path::new(folder));
    if taken { Err(PolicyError::Reserved { what, path: path.to_owned() }) } else { Ok(()) }
}

/// `place` must lie below `at`, which joining an absolute path would leave.
fn check_copy(at: &Path, place: &Path) -> Result<(), PolicyError> {
    let what = "a copy-on-write folder";
    check_writable(what, place)?;
    if place.starts_with(at) { Ok(()) } else { Err(PolicyError::NotPlain { what, path: place.to_owned() }) }
}

/// The home folder may be `/root`, but no folder of the system.
fn check_home(path: &Path) -> Result<(), PolicyError> {
    let what = "the home folder";
    check_outside_kernel(what, path)?;
    if within(path, SYSTEM_FOLDERS) { Err(PolicyError::Reserved { what, path: path.to_owned() }) } else { Ok(()) }
}

fn check_outside_kernel(what: &'static str, path: &Path) -> Result<(), PolicyError> {
    plain(what, path)?;
    if within(path, KERNEL_FOLDERS) { Err(PolicyError::Reserved { what, path: path.to_owned() }) } else { Ok(()) }
}

fn within(path: &Path, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

pub(crate) fn plain(what: &'static str, path: &Path) -> Result<(), PolicyError> {
    let mut components = path.components();
    let rooted = components.next() == Some(Component::RootDir);
    let normal = components.clone().all(|component| matches!(component, Component::Normal(_)));
    // `components()` swallows `.` and doubled slashes; the text must be what it means.
    let spelled: usize = components.map(|component| component.as_os_str().len() + 1).sum();
    let exact = spelled == path.as_os_str().len() && !path.as_os_str().as_bytes().contains(&0);
    if rooted && normal && exact && spelled > 0 {
        Ok(())
    } else if path == Path::new("/") {
        Err(PolicyError::Reserved { what, path: path.to_owned() })
    } else {
        Err(PolicyError::NotPlain { what, path: path.to_owned() })
    }
}

fn layer(path: &str) -> Result<(), PolicyError> {
    let plain_bytes = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
    let plain_parts = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain_bytes && plain_parts { Ok(()) } else { Err(PolicyError::Layer(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_job_sees_of_the_system_no_job_writes() {
        for folder in crate::root::SYSTEM_FOLDERS {
            assert!(SYSTEM_FOLDERS.contains(folder), "{folder}");
            let grantable = |access| grantable(&Path::new(folder).join("x"), access);
            assert!(grantable(Access::Read) && !grantable(Access::Write), "{folder}");
        }
    }

    fn draft(tier: Tier) -> Draft {
        Draft {
            tier,
            worktree: Worktree::Directory { at: "/home/u/repo".into(), path: "/home/u/repo".into() },
            grants: Vec::new(),
            copies: Vec::new(),
            hide: Vec::new(),
            home: "/home/u".into(),
            home_files: Vec::new(),
            tmp: (tier == Tier::Landlock).then(|| "/home/u/state/tmp".into()),
            network: Network::None,
            limits: Limits::default(),
            landlock_abi_max: None,
        }
    }

    #[test]
    fn shared_copies_stay_below_their_folder() {
        let check = |folder: &str| {
            let (upper, work) = ("u".to_owned(), "w".to_owned());
            let (path, shown) = (PathBuf::from("/home/u"), vec![PathBuf::from(".npm"), folder.into()]);
            let worktree = Worktree::Overlay {
                at: "/home/u/repo".into(),
                state: "/home/u/state".into(),
                lowers: vec!["base".to_owned()],
                upper: "upper".to_owned(),
                work: "work".to_owned(),
            };
            let copies = vec![CopyOnWrite { at: path.clone(), path, shown, upper, work }];
            Draft { copies, worktree, ..draft(Tier::Namespaces) }.check()
        };
        assert!(check(".cargo/registry").is_ok());
        for folder in ["/home/other", "../other", "a/../../other", "/usr"] {
            assert!(check(folder).is_err(), "{folder}");
        }
    }

    fn granted(path: &str, access: Access) -> Result<Policy, PolicyError> {
        let grants = vec![PathGrant { path: path.into(), at: path.into(), access }];
        Draft { grants, ..draft(Tier::Namespaces) }.check()
    }

    #[test]
    fn what_belongs_to_the_system_is_never_granted() {
        for path in ["/", "/proc", "/proc/self", "/sys/fs", "/dev", "/dev/sda"] {
            assert!(matches!(granted(path, Access::Read), Err(PolicyError::Reserved { .. })), "{path}");
        }
        for path in ["/usr", "/usr/lib", "/etc/ssl", "/var", "/home", "/root", "/run", "/tmp", "/boot/grub", "/lib64"] {
            assert!(matches!(granted(path, Access::Write), Err(PolicyError::Reserved { .. })), "{path}");
        }
        for path in ["/usr/local/go", "/etc/java-17", "/home", "/var/cache", "/opt", "/root/.rustup"] {
            assert!(granted(path, Access::Read).is_ok(), "{path}");
        }
        for path in ["/home/u/out", "/var/cache/x", "/tmp/x", "/run/user/1"] {
            assert!(granted(path, Access::Write).is_ok(), "{path}");
        }
    }

    #[test]
    fn nothing_that_is_to_be_written_is_hidden() {
        for (hidden, fine) in
            [("/home/u", false), ("/home/u/repo", false), ("/home/u/repo/secrets", true), ("/x", true)]
        {
            let checked = Draft { hide: vec![hidden.into()], ..draft(Tier::Namespaces) }.check();
            assert_eq!(checked.is_ok(), fine, "{hidden}");
            assert!(fine || matches!(checked, Err(PolicyError::Hides { .. })), "{hidden}");
        }
    }

    #[test]
    fn a_path_must_be_absolute_and_plain() {
        for path in ["", "home", "./x", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\0b", "//a"] {
            assert!(matches!(granted(path, Access::Read), Err(PolicyError::NotPlain { .. })), "{path:?}");
        }
    }

    #[test]
    fn layers_are_plain_relative_paths() {
        let with = |lower: &str| {
            let worktree = Worktree::Overlay {
                at: "/home/u/repo".into(),
                state: "/home/u/state".into(),
                lowers: vec![lower.to_owned()],
                upper: "upper".to_owned(),
                work: "work".to_owned(),
            };
            Draft { worktree, ..draft(Tier::Namespaces) }.check()
        };
        for lower in ["", "/abs", "a/../b", "a:b", "a,b", "a\\b", "a b", "a//b", ".."] {
            assert_eq!(with(lower).unwrap_err(), PolicyError::Layer(lower.to_owned()));
        }
        assert!(with("bases/0a1b/tree-1.x").is_ok());
    }

    #[test]
    fn the_landlock_tier_refuses_what_only_mounts_can_do() {
        let check = |change: fn(&mut Draft), word: &str| {
            let mut draft = draft(Tier::Landlock);
            change(&mut draft);
            let error = draft.check().expect_err(word).to_string();
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        };
        check(|draft| draft.tmp = None, "private /tmp");
        check(|draft| draft.hide.push("/home/u/repo/secrets".into()), "inside a writable folder");
        check(
            |draft| {
                let path: PathBuf = "/home/u/repo/vendor".into();
                draft.grants.push(PathGrant { at: path.clone(), path, access: Access::Read });
            },
            "keep /home/u/repo/vendor read-only inside a writable folder",
        );
        check(
            |draft| {
                let path = "/home/u/x".into();
                draft.grants.push(PathGrant { path, at: "/home/u/y".into(), access: Access::Read });
            },
            "show /home/u/x at /home/u/y",
        );
        check(|draft| draft.worktree = Worktree::Directory { at: "/a".into(), path: "/b".into() }, "show /b at /a");
        check(
            |draft| {
                let (upper, work) = ("u".to_owned(), "w".to_owned());
                let path = PathBuf::from("/home/u/.npm");
                draft.copies.push(CopyOnWrite { at: path.clone(), path, shown: vec![], upper, work });
            },
            "copy-on-write",
        );
        assert!(draft(Tier::Landlock).check().is_ok());
    }
}
