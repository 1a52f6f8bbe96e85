//! The trees that attempts start from: the base, the base with the changes of needs, the result of an attempt. Each is a
//! commit and, once it is worked in, a stack of layers; equal lists of needs share one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use git2::Oid;
use serde_json::Value;
use swarm_plans::InstanceIx;

use crate::base::{BaseError, Bases, Layers};
use crate::collect::display_path;
use crate::commit::{self, CommitSpec, Signing};
use crate::event::ChangeSummary;
use crate::machine::Machine;
use crate::merge::{FoldError, FoldedAll, Step, fold_all};
use crate::path_globs::PathGlobs;
use crate::repository::{Repository, RepositoryError};
use crate::state::StateDir;
use crate::tree;
use crate::worktree::{Backend, Worktree};
use swarm_protocol::{Tier, WorktreeSpec};

/// Why there is no tree to start from.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The changes of two needs do not fit together: the dependent cannot run.
    #[error("{detail}")]
    Contradiction {
        /// For people: whose change, in which paths.
        detail: String,
    },
    /// A file's name that no template can hold.
    #[error("use `{0}` as an item: its name is not UTF-8")]
    Name(String),
    /// Layers.
    #[error("prepare a tree: {0}")]
    Base(#[from] BaseError),
    /// Commits.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Merging.
    #[error("merge the changes of its needs: {0}")]
    Fold(#[from] FoldError),
}

/// Where an attempt starts, or what it results in.
#[derive(Debug)]
pub struct Start {
    /// HEAD of the worktree.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// The layers that hold it.
    pub layers: Layers,
}

/// Trees before and after each change of a list, in hex: what a joined tree depends on beside the base.
type Changes = Vec<(String, String)>;

/// The trees of one run.
#[derive(Debug)]
pub struct Trees {
    /// The repository.
    pub repository: Arc<Repository>,
    /// Prepares layers.
    pub bases: Bases,
    /// The run's base.
    pub base: Arc<Start>,
    /// How worktrees are made.
    pub backend: Backend,
    /// Author and date of the commits that join needs.
    pub signing: Signing,
    /// The plan's name, for those commits.
    pub plan: String,
    state: StateDir,
    tier: Tier,
    cleaner: Cleaner,
    joined: Mutex<HashMap<Changes, Arc<Start>>>,
}

impl Trees {
    /// The trees of a run that starts from `base`.
    pub fn new(repository: Arc<Repository>, bases: Bases, base: Layers, machine: &Machine, naming: Naming) -> Self {
        let base = Arc::new(Start { commit: base.commit, tree: base.tree, layers: base });
        let Naming { signing, plan, state } = naming;
        let (backend, tier, cleaner) = (machine.backend, machine.tier(), Cleaner::start());
        Trees { repository, bases, base, backend, signing, plan, state, tier, cleaner, joined: Mutex::default() }
    }

    /// A worktree in a folder relative to the state folder. Blocks.
    ///
    /// # Errors
    /// [`TreeError::Base`].
    pub fn worktree(&self, start: &Start, folder: &str) -> Result<Worktree, TreeError> {
        let at = self.repository.place();
        let mut worktree = Worktree::provision(&self.state, &start.layers, folder, at, self.backend)?;
        // Without a mount namespace a worker can only be where the folder really is.
        if let (Tier::Landlock, WorktreeSpec::Directory { at, path }) = (self.tier, &mut worktree.spec) {
            at.clone_from(path);
        }
        Ok(worktree)
    }

    /// Removes a worktree, off the critical path.
    pub fn discard(&self, worktree: Worktree) {
        self.cleaner.take(worktree);
    }

    /// The base with the changes of needs, in merge order. Blocks.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn with_changes(&self, changes: &[(InstanceIx, ChangeSummary)]) -> Result<Arc<Start>, TreeError> {
        if changes.is_empty() {
            return Ok(Arc::clone(&self.base));
        }
        let key: Changes = changes.iter().map(|(_, change)| (change.base_tree.clone(), change.tree.clone())).collect();
        // Held while it is made: whoever needs the same tree waits for it instead of making it again.
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = joined.get(&key) {
            return Ok(Arc::clone(start));
        }
        let commit = self.joined_commit(changes)?;
        let start = Arc::new(self.layered(commit)?);
        joined.insert(key, Arc::clone(&start));
        Ok(start)
    }

    /// The layers of a commit that stems from the base. Blocks.
    ///
    /// # Errors
    /// [`TreeError::Base`].
    pub fn layered(&self, commit: Oid) -> Result<Start, TreeError> {
        let layers = self.bases.derive(&self.base.layers, commit)?;
        Ok(Start { commit: layers.commit, tree: layers.tree, layers })
    }

    fn joined_commit(&self, changes: &[(InstanceIx, ChangeSummary)]) -> Result<Oid, TreeError> {
        let id = |text: &str| Oid::from_str(text).map_err(RepositoryError::from);
        if let [(_, only)] = changes
            && id(&only.base_tree)? == self.base.tree
        {
            return Ok(id(&only.commit)?);
        }
        let steps: Vec<Step> = changes
            .iter()
            .map(|(_, change)| Ok(Step { base: id(&change.base_tree)?, result: id(&change.tree)? }))
            .collect::<Result<_, RepositoryError>>()?;
        let git = self.repository.handle()?;
        let tree = match fold_all(&git, self.base.tree, &steps)? {
            FoldedAll::Clean { tree } => tree,
            FoldedAll::Conflict { paths, .. } => {
                let named: Vec<String> = paths.iter().take(5).map(|at| display_path(&at.path)).collect();
                let detail = format!("the changes of its needs contradict each other in {}", named.join(", "));
                return Err(TreeError::Contradiction { detail });
            }
        };
        let subject = format!("{}: what its needs changed", self.plan);
        let spec = CommitSpec { parents: &[self.base.commit], tree, subject: &subject, trailers: &[] };
        Ok(commit::write_commit(&self.repository, &self.signing, &spec)?)
    }
}

/// The files of a commit that match any of the globs, sorted by bytes, as the items of a fan-out. A name that is not UTF-8
/// is an error: no template could hold it.
///
/// # Errors
/// [`TreeError::Base`] for a bad glob, [`TreeError::Name`], and those of the repository.
pub fn files_matching(repository: &Repository, commit: Oid, globs: &[String]) -> Result<Vec<Value>, TreeError> {
    let globs = PathGlobs::new(globs).map_err(BaseError::from)?;
    let git = repository.handle()?;
    let odb = git.odb().map_err(RepositoryError::from)?;
    let files = tree::diff(&odb, None, Some(repository.tree_of(commit)?)).map_err(BaseError::from)?;
    let matching = files.into_iter().map(|file| file.path).filter(|path| globs.matches(path));
    matching
        .map(|path| String::from_utf8(path).map(Value::String).map_err(|e| TreeError::Name(display_path(e.as_bytes()))))
        .collect()
}

/// What commits and folders of a run are named by.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Author and date.
    pub signing: Signing,
    /// The plan's name.
    pub plan: String,
    /// Where worktrees lie.
    pub state: StateDir,
}

/// Worktrees that wait to be removed at most; whoever discards one more waits for the disk.
const DISCARDED_MAX: usize = 256;

/// A thread that removes worktrees. Dropping it waits until all are gone.
#[derive(Debug)]
struct Cleaner {
    queue: Option<mpsc::SyncSender<Worktree>>,
    thread: Option<JoinHandle<()>>,
}

impl Cleaner {
    fn start() -> Self {
        let (sender, receiver) = mpsc::sync_channel::<Worktree>(DISCARDED_MAX);
        let clean = move || {
            while let Ok(worktree) = receiver.recv() {
                // What cannot be removed now is in the trash folder, which `swarm clean` empties.
                drop(worktree.remove());
            }
        };
        let thread = std::thread::Builder::new().name("cleaner".to_owned()).stack_size(512 << 10).spawn(clean);
        Cleaner { queue: Some(sender), thread: thread.ok() }
    }

    fn take(&self, worktree: Worktree) {
        if let (Some(queue), Some(_)) = (&self.queue, &self.thread) {
            // The thread lives as long as the queue.
            drop(queue.send(worktree));
        } else {
            drop(worktree.remove());
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
