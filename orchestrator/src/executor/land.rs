//! Changes onto the target: folds a batch in memory onto the target's present tip, commit by commit, and moves the target
//! by one compare-and-swap. Nothing is forced: a target that somebody else moved is folded onto again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use git2::Oid;
use swarm_plans::InstanceIx;

use swarm_protocol::causes::causes;

use super::Executor;
use super::resolve::LANDED_MAX;
use super::settle::{Made, Meeting, refused};
use crate::collect::rules::judge_together;
use crate::collect::{Refusal, display_path};
use crate::commit;
use crate::dispatcher::core::{FoldedBatch, FoldedMember, Landing, NotFolded, Origin, TargetMove};
use crate::ids::Attempt;
use crate::merge::{ConflictPath, FoldError, Folded, Outcome, Step, fold_by};
use crate::report::{sanitize, words};
use crate::repository::{Repository, RepositoryError, Swap};
use crate::target::{self, TargetError};
use crate::threads;
use crate::tree::{self, Entry, TreeError};

/// Conflicting paths that a refusal names; the rest is counted.
const PATHS_NAMED_MAX: usize = 20;

impl Executor {
    /// Folds a batch in order onto a commit, or onto the target's tip, which has to hold what was `landed`.
    ///
    /// # Errors
    /// [`NotFolded`]; where objects are gone, nobody collects garbage any more when this returns, as far as can be known.
    pub async fn fold(
        self: Arc<Self>,
        batch: Vec<Landing>,
        onto: Option<String>,
        landed: Option<String>,
    ) -> Result<FoldedBatch, NotFolded> {
        let makes = !self.settler.makers().is_empty();
        let fold = move || {
            let folded = self.fold_batch(&batch, onto.as_deref(), landed.as_deref());
            // What an earlier run folded to the same, and a power cut left empty, is not written over while it is there.
            let is_to_be_repeated = match &folded {
                Ok(folded) if folded.members.iter().any(|member| matches!(member, FoldedMember::Failed { .. })) => {
                    sweeps(&self.repository)
                }
                // It is folded anew by whoever decides; who collects garbage takes again what is written while it is at it.
                Err(error) if error.is_of_the_gone() => {
                    self.repository.outlast_gc();
                    false
                }
                Err(BatchError::Repository(error)) => self.repository.may_be_written_again(error)?,
                _ => false,
            };
            if is_to_be_repeated { self.fold_batch(&batch, onto.as_deref(), landed.as_deref()) } else { folded }
        };
        let folded = match makes {
            // A command that makes files again has work of its own for the pool.
            true => threads::apart("fold", fold).await.map_err(|error| NotFolded::Failed(causes(&error)))?,
            false => tokio::task::spawn_blocking(fold).await.map_err(|error| NotFolded::Failed(causes(&error)))?,
        };
        folded.map_err(|error| match error.is_of_the_gone() {
            true => NotFolded::Gone(causes(&error)),
            false => NotFolded::Failed(causes(&error)),
        })
    }

    fn fold_batch(
        self: &Arc<Self>,
        batch: &[Landing],
        onto: Option<&str>,
        landed: Option<&str>,
    ) -> Result<FoldedBatch, BatchError> {
        let target = self.target.as_deref().expect("BUG: a run without a target folds nothing");
        if let Some(landed) = landed
            && let Some(error) = target::lost_landed(&self.repository, target, Oid::from_str(landed)?)?
        {
            return Err(error.into());
        }
        let from = match onto {
            Some(_) => None,
            None => self.repository.find_ref(target)?,
        };
        let onto = match (onto, from) {
            (Some(onto), _) => Oid::from_str(onto)?,
            (None, Some(tip)) => self.onto_base(tip)?,
            (None, None) => self.base,
        };
        let mut tip = onto;
        let mut refused = Vec::new();
        let mut members = Vec::new();
        let there = self.already_there(batch, onto)?;
        for landing in batch {
            // As long as nothing else came in between, what stands there already needs no walk.
            if tip == onto && there.contains(&landing.instance) {
                members.push(FoldedMember::Clean { commit: tip.to_string() });
                continue;
            }
            self.keep_reused(landing)?;
            let waits = landing.stands_on().any(|need| refused.contains(&need));
            let member = if waits { FoldedMember::Waits } else { self.fold_one(landing, &mut tip)? };
            if !matches!(member, FoldedMember::Clean { .. }) {
                refused.push(landing.instance);
            }
            members.push(member);
        }
        if tip != onto {
            commit::keep_new(&self.repository, &commit::folded_ref(&self.run), tip, &[onto])?;
        }
        let from = from.map(|from| from.to_string());
        Ok(FoldedBatch { from, tip: onto.to_string(), tip_tree: self.repository.tree_of(onto)?.to_string(), members })
    }

    /// Reused results that the tip holds already, path by path: folding them changes nothing. A second run of an unchanged
    /// plan has ten thousand of them, so the way from the base to the tip is walked once for all.
    fn already_there(&self, batch: &[Landing], tip: Oid) -> Result<HashSet<InstanceIx>, RepositoryError> {
        let mut there = HashSet::new();
        if batch.iter().all(|landing| landing.origin == Origin::Ran) {
            return Ok(there);
        }
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        let (base, tip) = (self.repository.tree_of(self.base)?, git.find_commit(tip)?.tree_id());
        // A tree that cannot be read is met again by the fold, which says so.
        let Ok(differences) = tree::diff(&odb, Some(base), Some(tip)) else { return Ok(there) };
        let on_tip: HashMap<Vec<u8>, Option<Entry>> =
            differences.into_iter().map(|difference| (difference.path, difference.new)).collect();
        for landing in batch.iter().filter(|landing| landing.origin == Origin::Reused) {
            let [before, after] = [&landing.change.base_tree, &landing.change.tree].map(|id| Oid::from_str(id));
            let Ok(differences) = tree::diff(&odb, Some(before?), Some(after?)) else { continue };
            let stands = |change: &tree::Difference| on_tip.get(&change.path) == Some(&change.new);
            if differences.iter().all(stands) {
                there.insert(landing.instance);
            }
        }
        Ok(there)
    }

    /// A reused result that does not stand on the target gets a ref of this run: whatever becomes of it, it is not lost.
    fn keep_reused(&self, landing: &Landing) -> Result<(), RepositoryError> {
        if landing.origin == Origin::Ran {
            return Ok(());
        }
        let reference = commit::attempt_ref(&self.run, &landing.name, Attempt(1));
        commit::keep(&self.repository, &reference, Oid::from_str(&landing.change.commit)?)
    }

    /// The tip to fold onto when the target exists: itself when it holds the base, the base when that holds it.
    fn onto_base(&self, tip: Oid) -> Result<Oid, RepositoryError> {
        let git = self.repository.handle()?;
        if tip != self.base && git.graph_descendant_of(self.base, tip)? {
            return Ok(self.base);
        }
        Ok(tip)
    }

    fn fold_one(self: &Arc<Self>, landing: &Landing, tip: &mut Oid) -> Result<FoldedMember, BatchError> {
        let git = self.repository.handle()?;
        let tip_tree = git.find_commit(*tip)?.tree_id();
        let step = Step::try_from(&landing.change)?;
        let folded = fold_by(&git, &self.trees.rules, tip_tree, &step);
        match folded {
            Ok(Outcome { folded: Folded::Clean { tree }, again }) => {
                let meeting = Meeting { paths: again, sides: vec![step.result] };
                let tree = match self.made_again(*tip, tree, &meeting).map_err(BatchError::Settle)? {
                    Made::Tree(tree) => tree,
                    Made::Not(reason) => return Ok(not_made(&meeting.paths, reason)),
                };
                if tree != tip_tree {
                    match judge_together(&git.odb()?, tip_tree, tree) {
                        Ok(None) => {}
                        Ok(Some(refusal)) => return Ok(hostile(&refusal)),
                        Err(TreeError::Store(error)) if is_of_the_disk(&error) => return Err(error.into()),
                        Err(error) => {
                            return Ok(FoldedMember::Failed { reason: format!("it could not be judged: {error}") });
                        }
                    }
                    *tip = self.land_on(landing, *tip, (tree, &meeting.paths))?;
                }
                Ok(FoldedMember::Clean { commit: tip.to_string() })
            }
            Ok(Outcome { folded: Folded::Conflict { paths }, .. }) => Ok(self.conflict_on(*tip, &paths)),
            // A disk that fails says nothing about the change: the run stops, and whoever resumes it folds again.
            Err(FoldError::Store(error) | FoldError::Tree(TreeError::Store(error))) if is_of_the_disk(&error) => {
                Err(error.into())
            }
            Err(error) => Ok(FoldedMember::Failed { reason: format!("it could not be merged: {error}") }),
        }
    }

    /// Why a change does not fit onto `tip`.
    fn conflict_on(&self, tip: Oid, paths: &[ConflictPath]) -> FoldedMember {
        let named: Vec<String> = paths.iter().take(PATHS_NAMED_MAX).map(|at| display_path(&at.path)).collect();
        let moved = paths.iter().find_map(|at| Some((&at.path, at.moved_to.as_ref()?)));
        let reason = match (paths, moved) {
            (_, Some((from, to))) => {
                let (mover, from, to) = (self.mover(tip, from), display_path(from), display_path(to));
                format!("it changed {from}, which {mover} moved to {to}, where its `writes` allow it no change")
            }
            ([only], None) => format!("it conflicts with what landed before, in {} ({})", named[0], only.kind),
            (all, None) => format!("it conflicts with what landed before, in {} paths", all.len()),
        };
        FoldedMember::Conflict { reason, paths: named }
    }

    /// Who took a path away that is not on `tip`, in words.
    fn mover(&self, tip: Oid, path: &[u8]) -> String {
        let search = || {
            let git = self.repository.handle().ok()?;
            let odb = git.odb().ok()?;
            let mut commit = git.find_commit(tip).ok()?;
            for _ in 0..LANDED_MAX {
                let parent = commit.parent(0).ok()?;
                if tree::find(&odb, parent.tree_id(), path).ok()?.is_some() {
                    let task = commit::task_of(commit.message().unwrap_or_default());
                    let named = task.map(|task| format!("`{}`", sanitize::name(task)));
                    return Some(named.unwrap_or_else(|| format!("commit {}", words::short(&commit.id().to_string()))));
                }
                commit = parent;
            }
            None
        };
        search().unwrap_or_else(|| "what landed before".to_owned())
    }

    /// Moves the target from one commit to another, if it still is where it was.
    pub async fn move_target(self: Arc<Self>, from: Option<String>, to: String) -> TargetMove {
        let moved = tokio::task::spawn_blocking(move || {
            let target = self.target.as_deref().expect("BUG: a run without a target moves nothing");
            let from = from.as_deref().map(Oid::from_str).transpose()?;
            // Somebody switched to it meanwhile: their next commit would undo what lands under them.
            if let Some(at) = self.repository.checked_out_at(target)? {
                return Ok(TargetMove::Refused(format!("it is checked out at {} by now", at.display())));
            }
            let message = format!("swarm run {}", self.run);
            let lock = self.target_lock.as_deref().expect("BUG: a target is moved under its lock");
            let tell = |moving| lock.set_moving(moving).map_err(std::io::Error::other);
            let to = Oid::from_str(&to)?;
            if !self.repository.is_whole(to, &[from.unwrap_or(self.base), self.base])? {
                // Somebody took it away all the same.
                return Ok(TargetMove::Hollow);
            }
            let swap = self.repository.compare_and_swap_told(target, from, to, &message, &tell)?;
            if swap == Swap::Done {
                return Ok(TargetMove::Done);
            }
            Ok::<_, RepositoryError>(match self.repository.stands_for(target)? {
                Some(other) => TargetMove::Refused(format!("it only stands for {} by now", sanitize::name(&other))),
                None => TargetMove::Lost,
            })
        });
        match moved.await {
            Ok(Ok(moved)) => moved,
            Ok(Err(error)) => TargetMove::Refused(format!("{error} ({})", error.hint())),
            Err(_) => TargetMove::Refused("the coordinator failed; this is a bug".to_owned()),
        }
    }
}

/// Why a batch could not be folded: a failure of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("make files again: {0}")]
    Settle(String),
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl BatchError {
    /// Whether objects were gone that were there.
    fn is_of_the_gone(&self) -> bool {
        match self {
            BatchError::Repository(RepositoryError::Vanished(_)) => true,
            BatchError::Repository(RepositoryError::Git(error)) => {
                (error.class(), error.code()) == (git2::ErrorClass::Odb, git2::ErrorCode::NotFound)
            }
            BatchError::Repository(_) | BatchError::Settle(_) | BatchError::Target(_) => false,
        }
    }
}

impl From<git2::Error> for BatchError {
    fn from(error: git2::Error) -> Self {
        BatchError::Repository(error.into())
    }
}

/// Whether damaged files got out of the way, so that what failed at one may be done. That a store cannot be swept is no failure of the
/// batch: what failed says why.
fn sweeps(repository: &Repository) -> bool {
    let swept = repository.remove_damaged();
    swept
        .inspect_err(|error| tracing::warn!(error = %causes(error), "damaged objects stay"))
        .is_ok_and(|found| found > 0)
}

fn hostile(refusal: &Refusal) -> FoldedMember {
    let paths = match refusal {
        Refusal::Hostile { path, .. } | Refusal::Limit { path, .. } => std::slice::from_ref(path),
        Refusal::OutOfScope { paths, .. } => paths,
    };
    let paths = paths.iter().map(|path| display_path(path)).collect();
    FoldedMember::Hostile { reason: format!("with what landed before, it {}", refused(refusal)), paths }
}

fn not_made(again: &[Vec<u8>], reason: String) -> FoldedMember {
    let named = again.iter().take(PATHS_NAMED_MAX).map(|path| display_path(path));
    FoldedMember::Conflict { reason, paths: named.collect() }
}

/// Whether the store could not be read or written, or an object in it is no object, whatever the others say.
fn is_of_the_disk(error: &git2::Error) -> bool {
    use git2::ErrorClass::{Filesystem, NoMemory, Object, Odb, Os, Zlib};
    matches!(error.class(), Os | Filesystem | Odb | Object | Zlib | NoMemory)
}

#[cfg(test)]
mod tests {
    use git2::{Error, ErrorClass, ErrorCode};

    use super::*;
    use crate::git_fixture::Fixture;

    #[test]
    fn a_store_that_cannot_be_swept_fails_nothing_but_what_failed() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let objects = repository.common_dir().join("objects");
        let free = (0..=255).map(|byte| objects.join(format!("{byte:02x}"))).find(|folder| !folder.exists());
        std::fs::write(free.expect("few objects"), "").expect("space");
        assert!(repository.remove_damaged().is_err() && !sweeps(&repository));
    }

    #[test]
    fn an_object_that_is_none_says_nothing_of_a_change() {
        let error = |class| Error::new(ErrorCode::GenericError, class, "failed to parse loose object");
        assert!(is_of_the_disk(&error(ErrorClass::Object)) && is_of_the_disk(&error(ErrorClass::Odb)));
        assert!(!is_of_the_disk(&error(ErrorClass::Merge)));
    }
}
