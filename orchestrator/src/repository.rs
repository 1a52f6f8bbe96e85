//! The only door to git2: a repository opened from an explicit path, its facts checked once, its refs moved by
//! compare-and-swap only.
//!
//! Nothing here runs a hook, a filter or any other program, and nothing reads a path that a worker can write. A
//! [`Repository`] may be shared between threads; libgit2's own handles may not, so each caller borrows one from a small
//! pool ([`Repository::handle`]).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock, PoisonError};

use git2::{ErrorClass, ErrorCode, Oid, RepositoryOpenFlags};
use serde::{Deserialize, Serialize};

use crate::fault;
use crate::report::sanitize::shell_word;

/// What a power cut left of objects.
mod damaged;
/// Objects and refs of ours that outlast a power cut.
mod durable;
/// Whether recorded results are there with all that they bring.
mod inspection;
/// Objects that are files of their own, read by ourselves.
mod loose;
/// What in a work tree git obeys by its configuration and hooks.
mod obeyed;
/// Whether a commit is there, gone, or out of reach.
mod presence;
/// Refs: read, listed, and moved only from what they are known to name.
mod refs;
/// What was seen of the object store, written down for later commands.
mod seen;
/// Which files of settings count beside a repository's own.
pub mod shared_settings;
/// Whether all of a commit is there.
mod whole;

pub(crate) use durable::Brought;
pub(crate) use inspection::Inspection;
pub(crate) use loose::is_whole_within;
pub use obeyed::Obeyed;
pub(crate) use presence::Presence;
pub use refs::Swap;

/// Opened handles that are kept for the next caller.
const HANDLES_IDLE_MAX: usize = 8;
/// How far alternates of alternates are followed; git's own bound.
const ALTERNATES_DEPTH_MAX: usize = 5;
/// Object stores of one repository.
const OBJECT_DIRS_MAX: usize = 32;
/// Bytes read of `info/alternates` and files like it.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a repository cannot be used. [`RepositoryError::hint`] says what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Neither the folder nor one above it is a repository.
    #[error("find a git repository at {}", .0.display())]
    NotFound(PathBuf),
    /// The repository belongs to somebody else, so its configuration is not trusted: its working folder.
    #[error("trust the repository at {}: it is owned by another user", .0.display())]
    NotOwned(PathBuf),
    /// A git directory by itself: which folder its files belong in, nobody can know.
    #[error("find the checkout of the repository at {}: it was found by its git directory alone", .0.display())]
    NoCheckout(PathBuf),
    /// A repository format that libgit2 cannot read.
    #[error("read the repository: it uses the extension {name} = {value}")]
    Format {
        /// The key below `extensions.`.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// There is no commit yet.
    #[error("start from HEAD: the branch that it names has no commits")]
    NoCommits,
    /// The same in a bare repository, where none can be made.
    #[error("start from HEAD: the branch that it names has no commits, and a repository without a checkout makes none")]
    NothingPushed,
    /// The revision does not name a commit.
    #[error("find a commit named {spec:?}")]
    BadRevision {
        /// As given.
        spec: String,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// The file system failed.
    #[error("read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another git has the lock of a ref and keeps it.
    #[error("write a ref: another git has had its lock for two seconds, {}", .0.display())]
    Locked(PathBuf),
    /// A ref is another one each time it is to be written: somebody moves it, or it stands for one that does not exist.
    #[error("write {0}: it is never what it was a moment ago")]
    Unsteady(String),
    /// A ref that is nobody's to guess holds nothing.
    #[error("read {name}: its file is empty, as a power cut leaves one")]
    VoidRef {
        /// Its full name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// An object of a commit of ours is gone before anything could keep it.
    #[error("keep a result: its object {0} is gone already (git gc --prune=now, git prune?)")]
    Vanished(Oid),
    /// An object is in no store, or its file is not what its name says.
    #[error("find the object {0}: it is gone, or its file was damaged (a power cut, git prune?)")]
    Lost(Oid),
    /// libgit2 failed: a damaged repository, a full disk.
    #[error("use the repository: {0}")]
    Git(#[from] git2::Error),
}

/// What makes a first commit of what is there, be it nothing.
const FIRST_COMMIT: &str = "git add -A && git commit --allow-empty -m start";

impl RepositoryError {
    /// What a person can do about it, as the next command to type or the thing to change.
    pub fn hint(&self) -> String {
        match self {
            RepositoryError::NotFound(_) => {
                format!("run it inside a repository, or make one: git init && {FIRST_COMMIT}")
            }
            RepositoryError::NotOwned(path) => {
                format!("git config --global --add safe.directory {}", shell_word(&path.to_string_lossy()))
            }
            RepositoryError::NoCheckout(_) => "go to the checkout, the folder with the `.git`: cd CHECKOUT".to_owned(),
            RepositoryError::Format { name: "objectformat", .. } => {
                "only repositories with SHA-1 ids are supported yet: git init ../sha1 && git fast-export --all | git -C ../sha1 fast-import \
                 makes one with the same history"
                    .to_owned()
            }
            RepositoryError::Format { name, .. } => {
                format!("repositories with extensions.{name} are not supported yet; clone it into the default format")
            }
            RepositoryError::NoCommits => FIRST_COMMIT.to_owned(),
            RepositoryError::NothingPushed => {
                "push a branch to it from a checkout (git push), or let its HEAD name one: git symbolic-ref HEAD refs/heads/BRANCH"
                    .to_owned()
            }
            RepositoryError::BadRevision { spec, .. } => {
                format!("git rev-parse --verify {}", shell_word(&format!("{spec}^{{commit}}")))
            }
            RepositoryError::Io { .. } => {
                "look at the permissions of the repository's folder; git fsck finds what is damaged".to_owned()
            }
            RepositoryError::Locked(lock) => {
                format!("let that git end; if none runs: rm {}", shell_word(&lock.to_string_lossy()))
            }
            RepositoryError::Unsteady(name) => {
                let name = shell_word(name);
                format!("where git symbolic-ref {name} names a ref that does not exist: git symbolic-ref -d {name}")
            }
            RepositoryError::VoidRef { name, path } => {
                let (name, path) = (shell_word(name), shell_word(&path.to_string_lossy()));
                format!("remove it: rm {path}, then type it again; git reflog {name} may tell where it was")
            }
            RepositoryError::Vanished(_) => "let the git that collects garbage end, then type it again".to_owned(),
            RepositoryError::Lost(_) => "git fsck names all that is; git fetch brings what another clone has".to_owned(),
            RepositoryError::Git(error) if matches!(error.class(), ErrorClass::Os | ErrorClass::Filesystem) => {
                "look at the space and the permissions where the repository lies: df -h .".to_owned()
            }
            RepositoryError::Git(error) if error.class() == ErrorClass::Index => {
                "an index that is split or sparse only git itself reads: git update-index --no-split-index, and git \
                 sparse-checkout reapply --no-sparse-index, write it whole; git fsck finds out about a damaged one"
                    .to_owned()
            }
            RepositoryError::Git(_) => "git fsck".to_owned(),
        }
    }
}

/// Who the author of swarm's commits is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    /// `user.name`.
    pub name: String,
    /// `user.email`.
    pub email: String,
    /// Where both come from.
    pub source: IdentitySource,
}

/// Where an identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentitySource {
    /// The user's configuration.
    Configured,
    /// Nothing is configured: `swarm <swarm@localhost>`; worth a note in the report.
    Fallback,
}

/// What a person should know about a repository before work starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// History is cut (`git clone --depth`).
    pub history: History,
    /// Objects may be missing and fetched on demand (`git clone --filter`); libgit2 cannot fetch them.
    pub objects: Objects,
}

/// How much of the history is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All of it.
    Whole,
    /// Cut: a merge may not find the common ancestor.
    Shallow,
}

/// How many of the objects are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// All that history names.
    Whole,
    /// A partial clone: blobs that were never checked out may be missing.
    Partial,
}

/// A repository whose format, owner and place were checked.
pub struct Repository {
    // Invariant: canonical paths.
    git_dir: PathBuf,
    common_dir: PathBuf,
    workdir: Option<PathBuf>,
    /// What libgit2 is given to open. A git directory by itself does not tell where its checkout is: libgit2 takes the folder that
    /// it lies in, which is another one where `.git` is a link or a file.
    door: PathBuf,
    idle: Idle,
    /// Handles that write refs through to the disk.
    idle_for_refs: Idle,
    /// What makes them do so: a file that has no name.
    synced: OnceLock<fs::File>,
    /// Who its commits are by in place of whom the configuration names.
    signer: OnceLock<Identity>,
    /// When its own store was looked at first in this boot, in milliseconds since the Unix epoch; 0 while nobody knows.
    seen_at_ms: AtomicU64,
    /// Where that is written down, once somebody looked.
    seen_file: OnceLock<seen::SeenFile>,
    /// When was written down there last that something was found, in milliseconds since the Unix epoch.
    found_told_ms: Mutex<u64>,
    /// Large files of its own store that were read and were whole.
    known_whole: Mutex<HashMap<Oid, damaged::Inode>>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("git_dir", &self.git_dir).finish_non_exhaustive()
    }
}

/// Handles that nobody uses at this moment.
type Idle = Mutex<Vec<git2::Repository>>;

/// A borrowed libgit2 handle; goes back to the pool when dropped.
pub struct Handle<'a> {
    pool: &'a Idle,
    // Invariant: `Some` until dropped.
    git: Option<git2::Repository>,
}

impl<'a> Handle<'a> {
    /// One of a pool, or a new one.
    fn taken(
        pool: &'a Idle,
        open: impl FnOnce() -> Result<git2::Repository, git2::Error>,
    ) -> Result<Handle<'a>, RepositoryError> {
        let idle = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Handle { pool, git: Some(idle.map_or_else(open, Ok)?) })
    }
}

impl Deref for Handle<'_> {
    type Target = git2::Repository;

    fn deref(&self) -> &git2::Repository {
        self.git.as_ref().expect("the handle is taken out by drop only")
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        let mut idle = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(git), true) = (self.git.take(), idle.len() < HANDLES_IDLE_MAX) {
            idle.push(git);
        }
    }
}

impl Repository {
    /// Opens the repository that `start` lies in, searching upwards as git does.
    ///
    /// # Errors
    /// All of [`RepositoryError`] but those of revisions.
    pub fn discover(start: &Path) -> Result<Self, RepositoryError> {
        let none: [&Path; 0] = [];
        let found = git2::Repository::discover_path(start, none).map_err(|error| match error.code() {
            ErrorCode::Owner => RepositoryError::NotOwned(trusted_as(start)),
            _ => RepositoryError::NotFound(start.to_owned()),
        })?;
        let opened = git2::Repository::open_ext(start, RepositoryOpenFlags::empty(), none);
        let opened = opened.and_then(|git| shared_settings::count_in(&git).map(|()| git));
        Repository::checked(opened.map_err(|error| match error.code() {
            ErrorCode::Owner => RepositoryError::NotOwned(trusted_as(start)),
            _ => why_not_opened(&found, error),
        })?)
    }

    /// Opens exactly the repository at `path`: a checkout, a linked worktree, a bare repository or a `.git` folder.
    ///
    /// # Errors
    /// All of [`RepositoryError`] but those of revisions.
    pub fn open(path: &Path) -> Result<Self, RepositoryError> {
        Repository::checked(shared_settings::open(path).map_err(|error| why_not_opened(path, error))?)
    }

    fn checked(git: git2::Repository) -> Result<Self, RepositoryError> {
        // A tree that is written refers to blobs of the base that a partial clone may not hold.
        git2::opts::strict_object_creation(false);
        let (git_dir, workdir) = (canonical(git.path())?, git.workdir().map(canonical).transpose()?);
        let leads_here = |folder: &&PathBuf| {
            git2::Repository::open(folder).is_ok_and(|there| canonical(there.path()).is_ok_and(|at| at == git_dir))
        };
        let door = match workdir.as_ref().filter(leads_here) {
            Some(checkout) => checkout.clone(),
            // Its configuration says where its checkout is, or that it has none.
            None if workdir.is_none() || git.config()?.get_path("core.worktree").is_ok() => git_dir.clone(),
            None => return Err(RepositoryError::NoCheckout(git_dir)),
        };
        let common_dir = canonical(git.commondir())?;
        let (idle, idle_for_refs) = (Mutex::new(vec![git]), Mutex::default());
        let (synced, signer) = (OnceLock::new(), OnceLock::new());
        let (seen_at_ms, seen_file, found_told_ms) = (AtomicU64::new(0), OnceLock::new(), Mutex::default());
        Ok(Repository {
            git_dir,
            common_dir,
            workdir,
            door,
            idle,
            idle_for_refs,
            synced,
            signer,
            seen_at_ms,
            seen_file,
            found_told_ms,
            known_whole: Mutex::default(),
        })
    }

    /// A libgit2 handle for this thread. Opening one costs a few hundred microseconds, borrowing an idle one nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] when the repository vanished.
    pub fn handle(&self) -> Result<Handle<'_>, RepositoryError> {
        Handle::taken(&self.idle, || self.fresh())
    }

    /// A libgit2 handle that nobody else had or will have.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] when the repository vanished.
    pub(crate) fn fresh(&self) -> Result<git2::Repository, git2::Error> {
        shared_settings::open(&self.door)
    }

    /// The `.git` folder of the checkout that was opened; for a linked worktree, its folder below `worktrees/`.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The `.git` folder that all worktrees share.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The checkout; `None` for a bare repository.
    pub fn workdir(&self) -> Option<&Path> {
        self.workdir.as_deref()
    }

    /// Where workers see their worktree: the checkout's own path, so that absolute paths in build caches stay valid; for a
    /// bare repository its own folder.
    pub fn place(&self) -> &Path {
        self.workdir.as_deref().unwrap_or(&self.common_dir)
    }

    /// The object stores, this repository's own first, alternates of alternates included; canonical paths.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when a store that is named cannot be read.
    pub fn object_dirs(&self) -> Result<Vec<PathBuf>, RepositoryError> {
        let mut found: Vec<PathBuf> = Vec::new();
        let mut level = vec![self.common_dir.join("objects")];
        for _ in 0..=ALTERNATES_DEPTH_MAX {
            let mut next = Vec::new();
            for path in level {
                let path = path.canonicalize().map_err(|source| RepositoryError::Io { path, source })?;
                if found.contains(&path) || found.len() == OBJECT_DIRS_MAX {
                    continue;
                }
                next.extend(alternates_of(&path)?);
                found.push(path);
            }
            level = next;
        }
        Ok(found)
    }

    /// The branch that HEAD names, as a full ref name; `None` when HEAD is detached.
    ///
    /// # Errors
    /// [`RepositoryError::NoCommits`] and [`RepositoryError::Git`].
    pub fn head_branch(&self) -> Result<Option<String>, RepositoryError> {
        let git = self.handle()?;
        let head = git.head().map_err(|error| why_no_head(&git, error))?;
        Ok(if head.is_branch() { Some(head.name()?.to_owned()) } else { None })
    }

    /// Whether the checkout's commit is this one, or has it in its history.
    ///
    /// # Errors
    /// [`RepositoryError`]; there is no such commit.
    pub fn head_holds(&self, spec: &str) -> Result<bool, RepositoryError> {
        let (head, commit) = (self.resolve("HEAD")?, self.resolve(spec)?);
        Ok(head == commit || self.handle()?.graph_descendant_of(head, commit)?)
    }

    /// The commit that a revision names, as `git rev-parse` would say.
    ///
    /// # Errors
    /// [`RepositoryError::NoCommits`] and [`RepositoryError::BadRevision`].
    pub fn resolve(&self, spec: &str) -> Result<Oid, RepositoryError> {
        let git = self.handle()?;
        if spec == "HEAD" {
            git.head().map_err(|error| why_no_head(&git, error))?;
        }
        let commit = git.revparse_single(spec).and_then(|object| object.peel_to_commit());
        commit
            .map(|commit| commit.id())
            .map_err(|source| RepositoryError::BadRevision { spec: spec.to_owned(), source })
    }

    /// The tree of a commit.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] when it is no commit or is missing.
    pub fn tree_of(&self, commit: Oid) -> Result<Oid, RepositoryError> {
        Ok(self.handle()?.find_commit(commit)?.tree_id())
    }

    /// Lets all commits be by `identity` from now on, whomever the configuration names; the first one stands.
    pub fn sign_as(&self, identity: Identity) {
        self.signer.get_or_init(|| identity);
    }

    /// The author of swarm's commits: of [`Repository::sign_as`], else from the user's configuration.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] when the configuration is damaged.
    pub fn identity(&self) -> Result<Identity, RepositoryError> {
        if let Some(identity) = self.signer.get() {
            return Ok(identity.clone());
        }
        let config = self.handle()?.config()?.snapshot()?;
        let get = |key: &str| config.get_string(key).ok().and_then(|value| fit_to_sign(&value));
        Ok(match (get("user.name"), get("user.email")) {
            (Some(name), Some(email)) => Identity { name, email, source: IdentitySource::Configured },
            _ => Identity {
                name: "swarm".to_owned(),
                email: "swarm@localhost".to_owned(),
                source: IdentitySource::Fallback,
            },
        })
    }

    /// Whether history and objects are whole.
    ///
    /// # Errors
    /// [`RepositoryError::Git`] when the configuration is damaged.
    pub fn standing(&self) -> Result<Standing, RepositoryError> {
        let git = self.handle()?;
        let mut partial = false;
        let config = git.config()?.snapshot()?;
        config.entries(Some(r"^(remote\..*\.promisor|extensions\.partialclone)$"))?.for_each(|entry| {
            partial |= !matches!(entry.value(), Ok(value) if value.eq_ignore_ascii_case("false"));
        })?;
        Ok(Standing {
            history: if git.is_shallow() { History::Shallow } else { History::Whole },
            objects: if partial { Objects::Partial } else { Objects::Whole },
        })
    }

    /// The user's own ignore rules for this repository, in rising precedence: the file that `core.excludesFile` names, then
    /// `info/exclude`. A missing file is empty.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when one exists and cannot be read.
    pub fn exclude_files(&self) -> Result<Vec<Vec<u8>>, RepositoryError> {
        let config = self.handle()?.config()?;
        let personal = config.get_path("core.excludesFile").ok().or_else(|| {
            let folder = git2::Config::find_xdg().ok()?.parent()?.to_owned();
            Some(folder.join("ignore"))
        });
        let shared = self.common_dir.join("info/exclude");
        personal.into_iter().chain([shared]).map(|path| read_small(&path)).collect()
    }

    /// Where a branch (full ref name) is checked out: the main checkout or a linked worktree, which an update of the ref
    /// would leave behind. `None` when nowhere.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when the worktrees cannot be listed, or a worktree's HEAD cannot be read.
    pub fn checked_out_at(&self, branch: &str) -> Result<Option<PathBuf>, RepositoryError> {
        let bare = self.handle()?.config()?.get_bool("core.bare").unwrap_or(false);
        if !bare && head_names(&self.common_dir, branch)? {
            let own = self.workdir().filter(|_| self.git_dir == self.common_dir);
            let beside = || self.common_dir.parent().filter(|_| self.common_dir.ends_with(".git"));
            return Ok(Some(own.or_else(beside).unwrap_or(&self.common_dir).to_owned()));
        }
        let worktrees = self.common_dir.join("worktrees");
        let io = |source| RepositoryError::Io { path: worktrees.clone(), source };
        let linked = match fs::read_dir(&worktrees) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            linked => linked.map_err(io)?,
        };
        for folder in linked {
            let folder = folder.map_err(io)?.path();
            if head_names(&folder, branch)? {
                let pointer = read_small(&folder.join("gitdir"))?;
                let pointer = PathBuf::from(String::from_utf8_lossy(&pointer).trim_end());
                return Ok(Some(pointer.parent().unwrap_or(&folder).to_owned()));
            }
        }
        Ok(None)
    }

    /// Asks the kernel to write everything of the object store's file system to the disk: one call for a whole batch of
    /// loose objects and refs. Called before a landing is announced, and before a checkout is written to.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when the disk failed to take something.
    pub fn make_durable(&self) -> Result<(), RepositoryError> {
        write_out(self.common_dir.join("objects"))
    }

    /// The same for the files of the checkout, which may be on another disk.
    ///
    /// # Errors
    /// As of [`Repository::make_durable`].
    pub fn make_checkout_durable(&self) -> Result<(), RepositoryError> {
        self.workdir().map_or(Ok(()), |root| write_out(root.to_owned()))
    }
}

/// Waits until everything is on the disk that the file system of a folder holds.
fn write_out(folder: PathBuf) -> Result<(), RepositoryError> {
    let synced = fault::point().and_then(|()| sync_around(&folder));
    synced.map_err(|source| RepositoryError::Io { path: folder, source })
}

/// The same as a part of something that counts as one effect.
pub(crate) fn sync_around(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(folder)?)?)
}

/// Renders a value as one line without control characters.
pub fn single_line(text: &str) -> String {
    let kept: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    kept.trim().to_owned()
}

/// A name or an address as it can stand in a signature: one line without angle brackets; `None` where nothing is left but what is
/// stripped from its ends.
///
/// Source: `git_signature_new` of libgit2 1.9, which makes an error of both.
pub fn fit_to_sign(text: &str) -> Option<String> {
    let line = single_line(text).replace(['<', '>'], "");
    let fit = line.trim_matches(|c: char| c <= ' ' || ",:;\"\\'".contains(c));
    (!fit.is_empty()).then(|| fit.to_owned())
}

fn canonical(path: &Path) -> Result<PathBuf, RepositoryError> {
    path.canonicalize().map_err(|source| RepositoryError::Io { path: path.to_owned(), source })
}

/// What `safe.directory` has to name so that the repository around a folder is trusted: its working folder, and for a bare one
/// itself. Its git directory would be compared with nothing.
///
/// Source: git-config(1), `safe.directory`; `validate_ownership` of libgit2 1.9.
fn trusted_as(start: &Path) -> PathBuf {
    let start = start.canonicalize().unwrap_or_else(|_| start.to_owned());
    let is_bare = |folder: &Path| folder.join("HEAD").is_file() && folder.join("objects").is_dir();
    let above = start.ancestors().find(|folder| folder.join(".git").exists() || is_bare(folder));
    let found = above.unwrap_or(&start);
    let checkout = found.parent().filter(|_| found.ends_with(".git"));
    checkout.unwrap_or(found).to_owned()
}

fn why_not_opened(path: &Path, error: git2::Error) -> RepositoryError {
    match error.code() {
        ErrorCode::NotFound => return RepositoryError::NotFound(path.to_owned()),
        ErrorCode::Owner => return RepositoryError::NotOwned(trusted_as(path)),
        _ => {}
    }
    // libgit2 refuses formats that it does not know with a text only, so the configuration itself is asked.
    for folder in [path.to_owned(), path.join(".git")] {
        let Ok(config) = git2::Config::open(&folder.join("config")) else { continue };
        for name in ["objectformat", "refstorage"] {
            if let Ok(value) = config.get_string(&format!("extensions.{name}")) {
                return RepositoryError::Format { name, value };
            }
        }
    }
    RepositoryError::Git(error)
}

fn why_no_head(git: &git2::Repository, error: git2::Error) -> RepositoryError {
    match error.code() {
        ErrorCode::UnbornBranch | ErrorCode::NotFound if git.is_bare() => RepositoryError::NothingPushed,
        ErrorCode::UnbornBranch | ErrorCode::NotFound => RepositoryError::NoCommits,
        _ => RepositoryError::Git(error),
    }
}

/// A file that may be missing (then it is empty). One that is larger than such files are is refused: half of it says something else.
fn read_small(path: &Path) -> Result<Vec<u8>, RepositoryError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let failed = |source| Err(RepositoryError::Io { path: path.to_owned(), source });
    match fs::File::open(path).and_then(|file| file.take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound && source.kind() != io::ErrorKind::NotADirectory => {
            failed(source)
        }
        _ if bytes.len() as u64 > SMALL_FILE_BYTES_MAX => {
            failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"))
        }
        _ => Ok(bytes),
    }
}

/// Source: gitrepository-layout(5), `objects/info/alternates`.
fn alternates_of(objects: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = read_small(&objects.join("info/alternates"))?;
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#');
    Ok(lines.map(|line| objects.join(std::ffi::OsStr::from_bytes(line))).collect())
}

fn head_names(git_dir: &Path, branch: &str) -> Result<bool, RepositoryError> {
    // A rebase detaches HEAD and remembers the branch that it will move.
    for (file, prefix) in [("HEAD", "ref: "), ("rebase-merge/head-name", ""), ("rebase-apply/head-name", "")] {
        let bytes = read_small(&git_dir.join(file))?;
        let text = String::from_utf8_lossy(&bytes);
        if text.trim_end().strip_prefix(prefix).is_some_and(|name| name.trim_start() == branch) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
