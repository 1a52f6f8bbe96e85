//! The trees that attempts start from: the base, the base with the changes of needs, the result of an attempt. Each is a
//! commit and, once it is worked in, a stack of layers; equal lists of needs share one.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use git2::Oid;
use serde_json::Value;
use swarm_plans::InstanceIx;

use super::above::readable;
use super::settle::refused;
use crate::base::checkout::{Bounds, measure};
use crate::base::{BaseError, Bases, Layers, Prepared};
use crate::collect::display_path;
use crate::collect::rules::judge_together;
use crate::commit::{self, CommitSpec, Signing};
use crate::event::ChangeSummary;
use crate::ids::RunId;
use crate::machine::Machine;
use crate::merge::{ConflictPath, FileRules, FoldError, FoldedAll, Step, fold_all};
use crate::path_globs::PathGlobs;
use crate::repository::{Repository, RepositoryError};
use crate::state::StateDir;
use crate::threads::SMALL_STACK_BYTES;
use crate::tree;
use crate::worktree::{Backend, Retired, Spare, Worktree};
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
    /// The changes of needs meet in files that a command makes again: whoever can run it does, and says what came of it
    /// ([`Trees::settle`]).
    #[error("use the changes of its needs before {} is made again", again.first().map(|path| display_path(path)).unwrap_or_default())]
    ToBeMade {
        /// The merged tree, those files as in the first change.
        tree: Oid,
        /// Those files.
        again: Vec<Vec<u8>>,
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
    /// See [`Prepared::whole`].
    whole: Option<Layers>,
    /// How worktrees are made.
    pub backend: Backend,
    /// Author and date of the commits that join needs.
    pub signing: Signing,
    /// The plan's name, for those commits.
    pub plan: String,
    /// Whose refs keep those commits alive.
    run: Option<RunId>,
    /// Files that merge by rules of their own.
    pub rules: FileRules,
    state: StateDir,
    tier: Tier,
    cleaner: Cleaner,
    joined: Mutex<HashMap<Changes, Arc<Start>>>,
    commits: Mutex<HashMap<Changes, Oid>>,
}

fn changes_of(changes: &[(InstanceIx, ChangeSummary)]) -> Changes {
    changes.iter().map(|(_, change)| (change.base_tree.clone(), change.tree.clone())).collect()
}

impl Trees {
    /// The trees of a run that starts from `base`.
    pub fn new(
        repository: Arc<Repository>,
        bases: Bases,
        base: Prepared,
        machine: &Machine,
        naming: Naming,
        rules: FileRules,
    ) -> Self {
        let Prepared { shown, whole } = base;
        let base = Arc::new(Start { commit: shown.commit, tree: shown.tree, layers: shown });
        let Naming { signing, plan, run, state } = naming;
        let (backend, tier, cleaner) = (machine.backend, machine.tier(), Cleaner::start());
        Trees {
            repository,
            bases,
            base,
            whole,
            backend,
            signing,
            plan,
            run,
            rules,
            state,
            tier,
            cleaner,
            joined: Mutex::default(),
            commits: Mutex::default(),
        }
    }

    /// The base for who judges a merged tree: with all of its files, and what `setup` made. For runs whose plan has somebody who does.
    pub fn whole(&self) -> Layers {
        let whole = self.whole.as_ref().expect("BUG: no whole base was prepared for who judges whole trees");
        whole.with_setup_of(&self.base.layers)
    }

    /// A worktree in a folder relative to the state folder. Blocks.
    ///
    /// # Errors
    /// [`TreeError::Base`].
    pub fn worktree(&self, start: &Start, folder: &str) -> Result<Worktree, TreeError> {
        self.maker(start, folder)()
    }

    /// As [`Trees::worktree`], for the thread that decides: somebody else makes it.
    ///
    /// # Errors
    /// As of that.
    pub async fn worktree_beside(&self, start: &Start, folder: &str) -> Result<Worktree, TreeError> {
        let made = tokio::task::spawn_blocking(self.maker(start, folder)).await;
        made.map_err(|error| BaseError::Io { path: self.state.path(folder), source: error.into() })?
    }

    fn maker(&self, start: &Start, folder: &str) -> impl FnOnce() -> Result<Worktree, TreeError> + Send + use<> {
        let (repository, state, layers) = (Arc::clone(&self.repository), self.state.clone(), start.layers.clone());
        let (folder, backend, tier, spare) = (folder.to_owned(), self.backend, self.tier, self.cleaner.spare());
        let base = self.base.tree;
        move || {
            let mut worktree = Worktree::provision(&state, &layers, &folder, repository.place(), backend, spare)?;
            // Without a mount namespace a worker can only be where the folder really is.
            if let (Tier::Landlock, WorktreeSpec::Directory { at, path }) = (tier, &mut worktree.spec) {
                at.clone_from(path);
                worktree.grants.extend(readable(&repository, base, path));
            }
            Ok(worktree)
        }
    }

    /// Whether every worktree is seen under one path, so that paths in what was built in another one hold.
    pub fn share_a_path(&self) -> bool {
        self.tier == Tier::Namespaces
    }

    /// Takes a worktree out of use, and removes it off the critical path. Blocks where too many wait to be removed.
    pub fn discard(&self, worktree: Worktree) {
        discard(self.cleaner.queue(), worktree);
    }

    /// As [`Trees::discard`], for the thread that decides: somebody else waits for the disk.
    pub async fn let_go(&self, worktree: Worktree) {
        let queue = self.cleaner.queue();
        // A panic there is heard of.
        let _ = tokio::task::spawn_blocking(move || discard(queue, worktree)).await;
    }

    /// The base with the changes of needs, in merge order. Blocks.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn with_changes(&self, changes: &[(InstanceIx, ChangeSummary)]) -> Result<Arc<Start>, TreeError> {
        if changes.is_empty() {
            return Ok(Arc::clone(&self.base));
        }
        let key = changes_of(changes);
        // Held while it is made: whoever needs the same tree waits for it instead of making it again.
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = joined.get(&key) {
            return Ok(Arc::clone(start));
        }
        let commit = self.commit_with(changes)?;
        let start = Arc::new(self.layered(commit)?);
        joined.insert(key, Arc::clone(&start));
        Ok(start)
    }

    /// The tree of the base with the changes of needs, without layers to work in. Blocks.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn tree_with(&self, changes: &[(InstanceIx, ChangeSummary)]) -> Result<Oid, TreeError> {
        if changes.is_empty() {
            return Ok(self.base.tree);
        }
        Ok(self.repository.tree_of(self.commit_with(changes)?)?)
    }

    /// The commit of the base with the changes of needs, without layers to work in. Blocks.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn commit_with(&self, changes: &[(InstanceIx, ChangeSummary)]) -> Result<Oid, TreeError> {
        if changes.is_empty() {
            return Ok(self.base.commit);
        }
        let key = changes_of(changes);
        let known = self.commits.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(commit) = known {
            return Ok(commit);
        }
        let commit = match self.joined_commit(changes) {
            // What an earlier run joined to the same, and a power cut left empty, is not written over while it is there.
            Err(TreeError::Repository(error)) if self.repository.may_be_written_again(&error)? => {
                self.joined_commit(changes)?
            }
            Err(TreeError::Fold(_)) if self.repository.remove_damaged()? > 0 => self.joined_commit(changes)?,
            commit => commit?,
        };
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).insert(key, commit);
        Ok(commit)
    }

    /// The layers of a commit that stems from the base. Blocks.
    ///
    /// # Errors
    /// [`TreeError::Base`].
    pub fn layered(&self, commit: Oid) -> Result<Start, TreeError> {
        self.layered_on(&self.base.layers, commit)
    }

    /// The same on layers of the base with more under them. Blocks.
    ///
    /// # Errors
    /// [`TreeError::Base`].
    pub fn layered_on(&self, layers: &Layers, commit: Oid) -> Result<Start, TreeError> {
        let layers = self.bases.derive(layers, commit)?;
        Ok(Start { commit: layers.commit, tree: layers.tree, layers })
    }

    fn joined_commit(&self, changes: &[(InstanceIx, ChangeSummary)]) -> Result<Oid, TreeError> {
        let id = |text: &str| Oid::from_str(text).map_err(RepositoryError::from);
        if let [(_, only)] = changes
            && id(&only.base_tree)? == self.base.tree
        {
            return Ok(id(&only.commit)?);
        }
        let steps = changes.iter().map(|(_, change)| Step::try_from(change));
        let steps = steps.collect::<Result<Vec<Step<'_>>, _>>().map_err(RepositoryError::from)?;
        let git = self.repository.handle()?;
        let tree = match fold_all(&git, &self.rules, self.base.tree, &steps)? {
            FoldedAll::Clean { tree, again } if again.is_empty() => tree,
            FoldedAll::Clean { tree, again } => return Err(TreeError::ToBeMade { tree, again }),
            FoldedAll::Conflict { paths, .. } => {
                let named: Vec<String> = paths.iter().take(5).map(named).collect();
                let detail = format!("the changes of its needs contradict each other in {}", named.join(", "));
                return Err(TreeError::Contradiction { detail });
            }
        };
        self.commit_joined(tree)
    }

    /// A commit of what needs come to together, which nobody has seen before.
    fn commit_joined(&self, tree: Oid) -> Result<Oid, TreeError> {
        let git = self.repository.handle()?;
        let odb = git.odb().map_err(RepositoryError::from)?;
        if let Some(refusal) = judge_together(&odb, self.base.tree, tree).map_err(FoldError::from)? {
            let detail = format!("the changes of its needs, taken together, {}", refused(&refusal));
            return Err(TreeError::Contradiction { detail });
        }
        let subject = format!("{}: what its needs changed", self.plan);
        let spec = CommitSpec { parents: &[self.base.commit], tree, subject: &subject, trailers: &[] };
        let commit = commit::write_commit(&self.repository, &self.signing, &spec)?;
        if let Some(run) = &self.run {
            commit::keep_new(&self.repository, &commit::start_ref(run, commit), commit, &[self.base.commit])?;
        }
        Ok(commit)
    }

    /// Says which tree the changes of needs come to that meet in files which were made again.
    ///
    /// # Errors
    /// [`TreeError::Repository`], and [`TreeError::Contradiction`] for a tree that no worker may leave.
    pub fn settle(&self, changes: &[(InstanceIx, ChangeSummary)], tree: Oid) -> Result<(), TreeError> {
        let commit = self.commit_joined(tree)?;
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).insert(changes_of(changes), commit);
        Ok(())
    }
}

/// Where two needs contradict each other, for people.
fn named(at: &ConflictPath) -> String {
    let path = display_path(&at.path);
    match &at.moved_to {
        Some(to) => format!("{path} (moved to {}, where the `writes` of the other allow no change)", display_path(to)),
        None => path,
    }
}

/// The files of a commit that match any of the globs, sorted by bytes, as the items of a fan-out. A name that is not UTF-8
/// is an error: no template could hold it.
///
/// # Errors
/// [`TreeError::Base`] for a bad glob, [`TreeError::Name`], and those of the repository.
pub fn files_matching(repository: &Repository, commit: Oid, globs: &[String]) -> Result<Vec<Value>, TreeError> {
    let globs = PathGlobs::new(globs).map_err(BaseError::from)?;
    let matching = files_of(repository, commit)?.into_iter().filter(|path| globs.matches(path));
    matching
        .map(|path| String::from_utf8(path).map(Value::String).map_err(|e| TreeError::Name(display_path(e.as_bytes()))))
        .collect()
}

/// The paths of a commit's files, sorted by bytes.
///
/// # Errors
/// [`TreeError::Base`] for a tree that nobody checks out, and those of the repository.
pub fn files_of(repository: &Repository, commit: Oid) -> Result<Vec<Vec<u8>>, TreeError> {
    let git = repository.handle()?;
    let odb = git.odb().map_err(RepositoryError::from)?;
    let tree = repository.tree_of(commit)?;
    measure(&odb, tree, &Bounds::default(), &AtomicBool::new(false))?;
    let files = tree::diff(&odb, None, Some(tree)).map_err(BaseError::from)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// What commits and folders of a run are named by.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Author and date.
    pub signing: Signing,
    /// The plan's name.
    pub plan: String,
    /// The run, where there is one.
    pub run: Option<RunId>,
    /// Where worktrees lie.
    pub state: StateDir,
}

/// Worktrees that wait to be removed at most; whoever discards one more waits for the disk.
const DISCARDED_MAX: usize = 256;

/// Folders kept for the next worktrees at most.
const SPARES_MAX: usize = 64;

/// How long the end of a run waits for worktrees to be removed: a task may have left a million folders.
const CLEANING_MAX: Duration = Duration::from_secs(5);

/// A thread that removes worktrees, and keeps folders of those that nothing was written to. Dropping it waits until all are
/// gone, but not for long: the rest is no longer in use, and goes with `swarm clean` or a `swarm resume`.
#[derive(Debug)]
struct Cleaner {
    queue: Option<mpsc::SyncSender<Retired>>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
    spares: Arc<Mutex<Vec<Spare>>>,
}

impl Cleaner {
    fn start() -> Self {
        let (sender, receiver) = mpsc::sync_channel::<Retired>(DISCARDED_MAX);
        let spares = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spares);
        let (ends, ended) = mpsc::channel();
        let clean = move || {
            let _ends: mpsc::Sender<()> = ends;
            while let Ok(retired) = receiver.recv() {
                // What cannot be removed now is in the trash folder, which `swarm clean` empties.
                if let Some(spare) = retired.remove() {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() < SPARES_MAX {
                        kept.push(spare);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("cleaner".to_owned()).stack_size(SMALL_STACK_BYTES).spawn(clean);
        Cleaner { queue: Some(sender), thread: thread.ok(), ended: Mutex::new(ended), spares }
    }

    /// Folders for the next worktree, where there are some.
    fn spare(&self) -> Option<Spare> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Where worktrees wait; `None` where nobody removes them.
    fn queue(&self) -> Option<mpsc::SyncSender<Retired>> {
        self.queue.clone().filter(|_| self.thread.is_some())
    }
}

fn discard(queue: Option<mpsc::SyncSender<Retired>>, worktree: Worktree) {
    // Whoever makes the next one under its name takes what could not be renamed.
    let Ok(retired) = worktree.retire() else { return };
    match queue {
        // The thread lives as long as the queue.
        Some(queue) => drop(queue.send(retired)),
        None => drop(retired.remove()),
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return };
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(CLEANING_MAX) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    "large worktrees could not be removed in time: `swarm clean` takes away what is left of them"
                );
            }
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => drop(thread.join()),
        }
    }
}
