//! The prepared lower layers: a commit in, a stack of read-only folders out that any number of worktrees share.
//!
//! A *base* is one checkout of a tree, made once and reused by later runs. On top of it lie small layers: the private git
//! directory of a commit (*head*), the difference to another tree (*delta*), files that the plan copies from the user's
//! checkout, and what `[workspace] setup` made. Each is built under a lock in a temporary name, renamed when it is whole, and
//! never changed afterwards; one that a killed process left half made is removed by the next who wants it.

/// Ways below a folder that workers wrote, following no link.
pub mod beneath;
/// Writes a tree into an empty folder.
pub mod checkout;
/// Untracked files and caches of the user's checkout.
pub mod copied;
/// A layer that turns one prepared tree into another.
pub mod delta;
/// Prepared layers that nobody used for long.
pub mod eviction;
/// The private git directory.
pub mod git_dir;
/// Git's index as bytes.
pub mod index_file;
/// What the checkout has built since a base was prepared.
mod live;
/// Builds a layer once, atomically.
pub mod published;
/// What `setup` left becomes a layer.
pub mod setup;
/// What git remembers of folders without untracked files, as bytes.
pub mod untracked_cache;
/// What the gate left of ignored files on the base becomes a layer.
pub mod warm;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use git2::{ErrorCode, Oid};
use rustix::fs::Timespec;
use swarm_protocol::Grant;

use self::checkout::{Bounds, Checkout, FRESH_AGE_SECONDS, WarmTimes, Written};
use self::delta::{Delta, Whiteouts};
use self::git_dir::{GitDir, ObjectsAt};
use self::index_file::{Index, Presence, Stat, Unreadable};
use self::live::Live;
use self::published::{Survives, publish};
use self::warm::Warm;
use crate::path_globs::{BadGlob, PathGlobs};
use crate::repository::{Objects, Repository, RepositoryError};
use crate::state::StateDir;
use crate::tree::{self, TreeError};
use crate::worktree::Backend;

/// Part of every key: a change of what a layer holds makes old ones unused, never wrong.
const FORMAT: &str = "2";
/// Hex digits of a key.
const KEY_DIGITS: usize = 32;

/// Why a base could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A tree of it.
    #[error("read a tree: {0}")]
    Tree(#[from] TreeError),
    /// A name that no checkout should hold; the repository itself is hostile or damaged.
    #[error("check out {}: {reason}", String::from_utf8_lossy(path).escape_debug())]
    HostileName {
        /// Its path.
        path: Vec<u8>,
        /// Why.
        reason: &'static str,
    },
    /// More than a checkout may hold; a repository can say with a few kilobytes that a tree has billions of files.
    #[error("check out the tree {tree}: it has {count} {what}, and a base has at most {max}")]
    TooLarge {
        /// The tree.
        tree: Oid,
        /// What there is too much of.
        what: &'static str,
        /// How much there is, as far as it was counted.
        count: u64,
        /// The bound.
        max: u64,
    },
    /// A person or the deadline ended the run while it was prepared.
    #[error("go on: the run was ended")]
    Stopped,
    /// A blob that a partial clone never fetched: `git checkout` of that commit fetches it.
    #[error("find the content {id} of {}: a partial clone never fetched it; `git checkout` of the base, or `git fetch --refetch --no-filter`, does", String::from_utf8_lossy(path).escape_debug())]
    MissingObject {
        /// Its path.
        path: Vec<u8>,
        /// Its blob.
        id: Oid,
    },
    /// A blob that is lost: the repository is damaged.
    #[error("find the content {id} of {}: it is lost from the repository; `git fsck --full` names all that is, `git fetch --refetch` gets it from where you cloned", String::from_utf8_lossy(path).escape_debug())]
    LostObject {
        /// Its path.
        path: Vec<u8>,
        /// Its blob.
        id: Oid,
    },
    /// A file of `[workspace] copy` or `cache` that cannot be taken.
    #[error("take {path:?} from the checkout: {reason}")]
    Copy {
        /// As written.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A layer that `setup` left and that cannot be shared.
    #[error("it left {}, which no worktree can be given: {reason}", path.display())]
    Setup {
        /// Where, from the root of the worktree.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A tree has a link or a file where a cache of the workspace, or a folder on the way to it, has to be.
    #[error("put the cache {} into a worktree: {} is a link or a file there", cache.display(), path.display())]
    Cache {
        /// From the root of the checkout.
        cache: PathBuf,
        /// What is in the way, from the root of the worktree.
        path: PathBuf,
    },
    /// A pattern of `[workspace] sparse`.
    #[error(transparent)]
    BadGlob(#[from] BadGlob),
    /// A prepared index was damaged from outside; `swarm clean` removes prepared bases.
    #[error(transparent)]
    Index(#[from] Unreadable),
    /// The file system: usually a full disk.
    #[error("write {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl BaseError {
    /// What a blob is that is not there.
    fn missing(repository: &Repository, path: &[u8], id: Oid) -> BaseError {
        let path = path.to_owned();
        match repository.standing().map(|standing| standing.objects) {
            Err(error) => error.into(),
            Ok(Objects::Partial) => BaseError::MissingObject { path, id },
            Ok(Objects::Whole) => BaseError::LostObject { path, id },
        }
    }

    /// Why the blob of a path cannot be had.
    fn of_blob(repository: &Repository, path: &[u8], id: Oid, error: TreeError) -> BaseError {
        match error {
            TreeError::Store(error) if error.code() == ErrorCode::NotFound => BaseError::missing(repository, path, id),
            error => error.into(),
        }
    }

    /// Whether the tree itself is the reason, so that no later try helps.
    pub fn is_the_trees(&self) -> bool {
        matches!(self, BaseError::TooLarge { .. } | BaseError::HostileName { .. })
    }
}

/// What a plan says about worktrees, and what the machine allows.
#[derive(Debug, Clone)]
pub struct BaseSettings {
    /// How worktrees will be made from the layers.
    pub backend: Backend,
    /// Where workers see the object stores.
    pub objects: ObjectsAt,
    /// `[workspace] sparse`; empty checks out all.
    pub sparse: Vec<String>,
    /// `[workspace] copy`.
    pub copy: Vec<String>,
    /// `[workspace] cache`.
    pub cache: Vec<String>,
}

/// A stack of read-only layers that holds one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// What HEAD is in it.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// The object stores and what else the cage must show for the private git directory to work.
    pub grants: Vec<Grant>,
    /// Folders of the user's checkout that worktrees see copy-on-write, from the root of both.
    pub caches: Vec<PathBuf>,
    /// Which of its files worktrees hold.
    pub extent: Extent,
    stack: Stack,
}

/// What a run stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What tasks start from.
    pub shown: Layers,
    /// The same commit with all of its files, for who judges a tree as a whole; `None` where nobody does.
    pub whole: Option<Layers>,
}

/// Which files of a tree worktrees hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Whole,
    /// Those that `[workspace] sparse` names, and those that differ from the run's base: what a task made, whoever needs it
    /// has to find, wherever it lies. The index says which.
    Sparse,
}

/// Folders relative to the state folder; the order of the fields is the order in the overlay, topmost first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stack {
    head: String,
    delta: Option<String>,
    warm: Option<Warm>,
    setup: Option<String>,
    copied: Option<String>,
    base: String,
    /// Where worktrees see folders of the checkout.
    live: Option<Arc<Live>>,
}

impl Layers {
    /// The layers' roots, relative to the state folder, topmost first: at most six.
    pub fn lowers(&self) -> Vec<String> {
        self.bottom_up().into_iter().rev().map(|layer| format!("{layer}/tree")).collect()
    }

    /// The layers' own folders (a list `removed` may lie in them beside `tree`), lowest first.
    pub(crate) fn bottom_up(&self) -> Vec<&str> {
        let Stack { head, delta, warm, setup, copied, base, live: _ } = &self.stack;
        let warm = warm.as_ref().map(|warm| &warm.name);
        let optional = [copied.as_ref(), setup.as_ref(), warm, delta.as_ref()].into_iter().flatten();
        [base].into_iter().chain(optional).chain([head]).map(String::as_str).collect()
    }

    /// What tells these layers from others whose files differ, whatever their times; and which folders of the checkout hide some.
    fn content(&self) -> String {
        let Stack { setup, copied, base, .. } = &self.stack;
        let layers = [setup.as_deref(), copied.as_deref(), Some(base)].map(Option::unwrap_or_default);
        let caches = self.caches.iter().map(|cache| cache.to_string_lossy());
        let names: Vec<_> = layers.into_iter().map(Into::into).chain(caches).collect();
        names.join("\0")
    }

    /// These layers with what `setup` made under other layers of the same commit.
    pub fn with_setup_of(&self, other: &Layers) -> Layers {
        let stack = Stack { setup: other.stack.setup.clone(), ..self.stack.clone() };
        Layers { stack, ..self.clone() }
    }

    /// Layers of untracked files: what stands in them is nobody's change.
    pub(crate) fn untracked(&self) -> Vec<String> {
        [&self.stack.setup, &self.stack.copied].into_iter().flatten().map(|layer| format!("{layer}/tree")).collect()
    }

    /// The index that git sees in a fresh worktree, relative to the state folder.
    pub fn index(&self) -> String {
        format!("{}/tree/.git/index", self.stack.delta.as_ref().unwrap_or(&self.stack.base))
    }
}

/// Prepares layers for one run.
#[derive(Debug)]
pub struct Bases {
    repository: Arc<Repository>,
    state: StateDir,
    settings: BaseSettings,
    sparse: Option<PathGlobs>,
    branch: Option<(String, Oid)>,
    stop: Arc<AtomicBool>,
}

impl Bases {
    /// For one run on one repository.
    ///
    /// # Errors
    /// [`BaseError::BadGlob`], and those of the repository.
    pub fn new(repository: Arc<Repository>, state: StateDir, settings: BaseSettings) -> Result<Self, BaseError> {
        let sparse = match settings.sparse.as_slice() {
            [] => None,
            patterns => Some(PathGlobs::new(patterns)?),
        };
        let branch = match repository.head_branch()? {
            Some(name) => repository.find_ref(&name)?.map(|id| (name, id)),
            None => None,
        };
        Ok(Bases { repository, state, settings, sparse, branch, stop: Arc::default() })
    }

    /// What ends a checkout that is under way, once it is true.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The layers of a commit: checked out if no run before did it.
    ///
    /// # Errors
    /// All of [`BaseError`].
    pub fn prepare(&self, commit: Oid) -> Result<Layers, BaseError> {
        let tree = self.repository.tree_of(commit)?;
        let extent = if self.sparse.is_some() { Extent::Sparse } else { Extent::Whole };
        let base = self.base(tree, extent)?;
        let copied = copied::copied_layer(&self.repository, &self.state, &self.settings.copy)?;
        let caches = copied::caches(&self.repository, &self.settings.cache)?;
        let (head, grants) = self.head(commit)?;
        let live = self.live_of(&base, &caches)?;
        let mut stack = Stack { head, delta: None, warm: None, setup: None, copied, base, live };
        stack.delta = self.delta(&stack, extent, tree)?;
        Ok(Layers { commit, tree, grants, caches, extent, stack })
    }

    /// Prepared layers with all files of their commit, whatever `[workspace] sparse` says. What `setup` makes later is not
    /// in them ([`Layers::with_setup_of`]).
    ///
    /// # Errors
    /// All of [`BaseError`].
    pub fn whole(&self, shown: &Layers) -> Result<Layers, BaseError> {
        if shown.extent == Extent::Whole {
            return Ok(shown.clone());
        }
        let extent = Extent::Whole;
        let base = self.base(shown.tree, extent)?;
        let live = self.live_of(&base, &shown.caches)?;
        let mut stack = Stack { base, live, delta: None, ..shown.stack.clone() };
        stack.delta = self.delta(&stack, extent, shown.tree)?;
        Ok(Layers { extent, stack, ..shown.clone() })
    }

    /// The checkout of a tree: made if no run before did it.
    fn base(&self, tree: Oid, extent: Extent) -> Result<String, BaseError> {
        let sparse = self.sparse.as_ref().filter(|_| extent == Extent::Sparse);
        let patterns = sparse.map(|_| self.settings.sparse.join("\0")).unwrap_or_default();
        let parts: [&[u8]; 4] = [b"base", tree.as_bytes(), patterns.as_bytes(), &self.home()?];
        let base = format!("bases/{}", secret_key(&self.state, &parts)?);
        let is_intact = |layer: &Path| is_intact(&layer.join("tree"));
        let check_out = |layer: &Path| self.check_out(tree, sparse, &layer.join("tree"));
        publish(&self.state, &base, Survives::IfIntact(&is_intact), check_out)?;
        Ok(base)
    }

    /// What has to be known of the caches that worktrees see; what is not there yet can hold nothing that was built.
    fn live_of(&self, base: &str, caches: &[PathBuf]) -> Result<Option<Arc<Live>>, BaseError> {
        if caches.is_empty() { Ok(None) } else { Ok(Some(Arc::new(self.live(base)?))) }
    }

    /// Where bases belong: a repository that is copied or moved with its state makes its own. Git would believe nothing of
    /// what the index says of files that have other inodes, and read all of them at each look.
    fn home(&self) -> Result<Vec<u8>, BaseError> {
        use std::os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _};
        let state = self.state.root();
        let metadata = state.metadata().map_err(|source| BaseError::Io { path: state.to_owned(), source })?;
        Ok([&metadata.ino().to_le_bytes(), self.repository.place().as_os_str().as_bytes()].concat())
    }

    /// The layers of another commit on top of prepared ones, at a cost that follows the difference of the trees.
    ///
    /// # Errors
    /// All of [`BaseError`].
    pub fn derive(&self, base: &Layers, commit: Oid) -> Result<Layers, BaseError> {
        let tree = self.repository.tree_of(commit)?;
        let (head, _) = self.head(commit)?;
        let delta = self.delta(&base.stack, base.extent, tree)?;
        let stack = Stack { head, delta, ..base.stack.clone() };
        Ok(Layers { commit, tree, stack, ..base.clone() })
    }

    fn delta(&self, stack: &Stack, extent: Extent, tree: Oid) -> Result<Option<String>, BaseError> {
        let base = &stack.base;
        let base_tree_file = self.state.path(&format!("{base}/tree-id"));
        let text = std::fs::read_to_string(&base_tree_file)
            .map_err(|source| BaseError::Io { path: base_tree_file.clone(), source })?;
        let old: Oid = text.trim().parse().map_err(TreeError::from)?;
        let live = stack.live.as_ref();
        if old == tree && live.is_none_or(|live| live.is_as_prepared()) {
            return Ok(None);
        }
        let whiteouts = match self.settings.backend {
            Backend::Overlay => Whiteouts::Devices,
            Backend::Copy => Whiteouts::Listed,
        };
        let form: &[u8] = if whiteouts == Whiteouts::Devices { b"devices" } else { b"listed" };
        let warm = stack.warm.as_ref().map(Warm::identity).unwrap_or_default();
        let mut parts: Vec<&[u8]> = vec![b"delta", base.as_bytes(), tree.as_bytes(), form];
        parts.extend(stack.warm.as_ref().map(|_| warm.as_bytes()));
        let looked = live.map(|live| live.looked_ns.to_le_bytes());
        parts.extend(looked.as_ref().map(|looked| &looked[..]));
        // An older swarm left out what differs outside of the globs.
        parts.extend((extent == Extent::Sparse).then_some(&b"differences are shown"[..]));
        let name = format!("layers/{}", key(&parts));
        publish(&self.state, &name, Survives::Never, |layer| {
            let git = self.repository.handle()?;
            let odb = git.odb().map_err(TreeError::from)?;
            let differences = tree::diff(&odb, Some(old), Some(tree))?;
            let differences = match live {
                Some(live) => live.beside(differences),
                None => differences,
            };
            let root = layer.join("tree");
            let mut index = read_index(&self.state.path(&format!("{base}/tree/.git/index")))?;
            let fresh = Timespec { tv_sec: now_seconds() - FRESH_AGE_SECONDS, tv_nsec: 0 };
            let time = match (&stack.warm, live) {
                (Some(warm), _) => warm.behind(),
                (None, Some(_)) => warm::time(warm::now_ns()),
                (None, None) => fresh,
            };
            // Above the gate's output everything has to be younger than that.
            let times = live.filter(|_| stack.warm.is_none()).map(|live| &live.times);
            let repository = self.repository.as_ref();
            let delta = Delta { repository, odb: &odb, tree, differences: &differences, whiteouts, time, times };
            delta.write(&root, &layer.join("removed"), &mut index)?;
            write_index(&root, &index)
        })?;
        Ok(Some(name))
    }

    fn check_out(&self, tree: Oid, sparse: Option<&PathGlobs>, root: &Path) -> Result<(), BaseError> {
        let warm = WarmTimes::of(&self.repository);
        let repository = self.repository.as_ref();
        let (bounds, stop) = (&Bounds::default(), self.stop.as_ref());
        let checkout = Checkout { repository, tree, sparse, warm: &warm, now_seconds: now_seconds(), bounds, stop };
        let Written { index, folders } = checkout.write(root)?;
        let path = root.with_file_name("tree-id");
        std::fs::write(&path, format!("{tree}\n")).map_err(|source| BaseError::Io { path, source })?;
        let exclude = git_dir::exclude(repository)?;
        let remembered = untracked_cache::encode(repository.place(), &exclude, &folders, &index);
        write_index(root, &index.with_folders(Some(remembered.map_err(TreeError::from)?)))
    }

    /// The layer of a commit's private git directory, and what the cage must show for it.
    fn head(&self, commit: Oid) -> Result<(String, Vec<Grant>), BaseError> {
        let branch = self.branch.as_ref().map(|(name, id)| (name.as_str(), *id));
        let BaseSettings { backend, objects, .. } = &self.settings;
        let git_dir = GitDir { repository: &self.repository, objects, backend: *backend, commit, branch };
        let files = git_dir.files()?;
        let mut parts: Vec<&[u8]> = vec![b"head"];
        parts.extend(files.iter().flat_map(|(path, content)| [path.as_bytes(), content.as_slice()]));
        let name = format!("layers/{}", secret_key(&self.state, &parts)?);
        publish(&self.state, &name, Survives::Never, |layer| {
            let root = layer.join("tree");
            let io = |source| BaseError::Io { path: root.clone(), source };
            git_dir::FOLDERS.iter().try_for_each(|folder| std::fs::create_dir(root.join(folder))).map_err(io)?;
            files.iter().try_for_each(|(path, content)| std::fs::write(root.join(path), content)).map_err(io)?;
            std::fs::write(layer.join("empty"), b"").map_err(io)
        })?;
        let grants = git_dir.grants(&self.state.path(&format!("{name}/empty")))?;
        Ok((name, grants))
    }
}

/// A name for what is made of `parts` in this version of the format.
fn key(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [FORMAT.as_bytes()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex()[..KEY_DIGITS].to_owned()
}

/// A name for what is made of `parts` in this state folder. Where a job sees the host's folders, it could change the modes and
/// attributes of what it can name: it knows its tree, and not this.
fn secret_key(state: &StateDir, parts: &[&[u8]]) -> Result<String, BaseError> {
    let secret = state.secret().map_err(|source| BaseError::Io { path: state.path("secret"), source })?;
    let all: Vec<&[u8]> = [&secret[..]].into_iter().chain(parts.iter().copied()).collect();
    Ok(key(&all))
}

fn now_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

pub(crate) fn read_index(path: &Path) -> Result<Index, BaseError> {
    let bytes = std::fs::read(path).map_err(|source| BaseError::Io { path: path.to_owned(), source })?;
    Ok(Index::parse(&bytes)?)
}

fn write_index(root: &Path, index: &Index) -> Result<(), BaseError> {
    let folder = root.join(".git");
    let path = folder.join("index");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, index.to_bytes()))
        .map_err(|source| BaseError::Io { path, source })
}

/// Whether all files of a base are as they were made: after a power failure some may be cut short.
fn is_intact(root: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(index) = read_index(&root.join(".git/index")) else { return false };
    index.entries().iter().filter(|entry| entry.presence == Presence::CheckedOut).all(|entry| {
        let path = root.join(std::ffi::OsStr::from_bytes(&entry.path));
        path.symlink_metadata().is_ok_and(|metadata| {
            // The number of a device may be another at each start of the machine.
            let found = Stat { dev: entry.stat.dev, ..Stat::of(&metadata) };
            index_file::is_gitlink(entry) || found == entry.stat
        })
    })
}

#[cfg(test)]
pub(crate) mod tests;
