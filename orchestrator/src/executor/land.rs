//! Changes onto the target: folds a batch in memory onto the target's present tip, commit by commit, and moves the target
//! by one compare-and-swap. Nothing is forced: a target that somebody else moved is folded onto again.

use git2::Oid;
use swarm_plans::InstanceId;

use super::Executor;
use crate::collect::display_path;
use crate::commit::{self, CommitSpec};
use crate::dispatcher::core::{FoldedBatch, Landing, TargetMove, builds_on_parked};
use crate::event::Fate;
use crate::merge::fold::{ConflictPath, Folded, fold};
use crate::repository::{RepositoryError, Swap};

/// Conflicting paths that a fate names; the rest is counted.
const PATHS_NAMED_MAX: usize = 20;

impl Executor {
    /// Folds a batch, in order. Failures of ours park the member they hit: its ref keeps the change.
    pub async fn fold(self: std::sync::Arc<Self>, batch: Vec<Landing>) -> FoldedBatch {
        let members: Vec<_> = batch.iter().map(|landing| landing.instance).collect();
        let executor = std::sync::Arc::clone(&self);
        let folded = tokio::task::spawn_blocking(move || executor.fold_batch(&batch)).await;
        let reason = match folded {
            Ok(Ok(folded)) => return folded,
            Ok(Err(error)) => format!("it could not be merged: {error}"),
            Err(_) => "it could not be merged: the coordinator failed; this is a bug".to_owned(),
        };
        let fates =
            members.into_iter().map(|ix| (ix, Fate::Parked { reason: reason.clone(), paths: vec![] })).collect();
        FoldedBatch { from: None, to: None, fates }
    }

    fn fold_batch(&self, batch: &[Landing]) -> Result<FoldedBatch, RepositoryError> {
        let target = self.target.as_deref().expect("BUG: a run without a target folds nothing");
        let from = self.repository.find_ref(target)?;
        let mut tip = match from {
            Some(tip) => self.onto_base(tip)?,
            None => self.base,
        };
        let mut parked = Vec::new();
        let mut fates = Vec::new();
        for landing in batch {
            let fate = match landing.builds_on.iter().find(|need| parked.contains(*need)) {
                Some(need) => {
                    let need = self.name_of(batch, *need);
                    Fate::Parked { reason: builds_on_parked(&need), paths: vec![] }
                }
                None => self.fold_one(landing, &mut tip)?,
            };
            if matches!(fate, Fate::Parked { .. }) {
                parked.push(landing.instance);
            }
            fates.push((landing.instance, fate));
        }
        let landed = fates.iter().any(|(_, fate)| matches!(fate, Fate::Landed { .. }));
        let to = if landed { Some(tip) } else { from };
        if landed && from != to {
            self.repository.make_durable()?;
        }
        let text = |id: Oid| id.to_string();
        Ok(FoldedBatch { from: from.map(text), to: to.map(text), fates })
    }

    /// The tip to fold onto when the target exists: itself when it holds the base, the base when that holds it.
    fn onto_base(&self, tip: Oid) -> Result<Oid, RepositoryError> {
        let git = self.repository.handle()?;
        if tip != self.base && git.graph_descendant_of(self.base, tip)? {
            return Ok(self.base);
        }
        Ok(tip)
    }

    fn name_of(&self, batch: &[Landing], instance: swarm_plans::InstanceIx) -> String {
        batch.iter().find(|l| l.instance == instance).map_or_else(String::new, |l| l.name.0.clone())
    }

    fn fold_one(&self, landing: &Landing, tip: &mut Oid) -> Result<Fate, RepositoryError> {
        let id = |text: &str| Oid::from_str(text).map_err(RepositoryError::from);
        let git = self.repository.handle()?;
        let tip_tree = git.find_commit(*tip)?.tree_id();
        let folded = fold(&git, id(&landing.change.base_tree)?, tip_tree, id(&landing.change.tree)?);
        match folded {
            Ok(Folded::Clean { tree }) => {
                if tree != tip_tree {
                    *tip = self.commit_on(&landing.name, *tip, tree)?;
                }
                Ok(Fate::Landed { commit: tip.to_string() })
            }
            Ok(Folded::Conflict { paths }) => Ok(conflict(&paths)),
            Err(error) => Ok(Fate::Parked { reason: format!("it could not be merged: {error}"), paths: vec![] }),
        }
    }

    fn commit_on(&self, instance: &InstanceId, parent: Oid, tree: Oid) -> Result<Oid, RepositoryError> {
        let trailers = commit::trailers(&self.plan.name, instance);
        let subject = format!("{}: {instance}", self.plan.name);
        let spec = CommitSpec { parents: &[parent], tree, subject: &subject, trailers: &trailers };
        commit::write_commit(&self.repository, &self.signing, &spec)
    }

    /// Moves the target from one commit to another, if it still is where it was.
    pub async fn move_target(self: std::sync::Arc<Self>, from: Option<String>, to: String) -> TargetMove {
        let moved = tokio::task::spawn_blocking(move || {
            let target = self.target.as_deref().expect("BUG: a run without a target moves nothing");
            let from = from.as_deref().map(Oid::from_str).transpose()?;
            let message = format!("swarm run {}", self.run);
            self.repository.compare_and_swap(target, from, Oid::from_str(&to)?, &message)
        });
        match moved.await {
            Ok(Ok(Swap::Done)) => TargetMove::Done,
            Ok(Ok(Swap::Moved(_))) => TargetMove::Lost,
            Ok(Err(error)) => TargetMove::Refused(error.to_string()),
            Err(_) => TargetMove::Refused("the coordinator failed; this is a bug".to_owned()),
        }
    }
}

fn conflict(paths: &[ConflictPath]) -> Fate {
    let named: Vec<String> = paths.iter().take(PATHS_NAMED_MAX).map(|at| display_path(&at.path)).collect();
    let more = paths.len().saturating_sub(named.len());
    let reason = match (paths.first(), more) {
        (Some(first), 0) if named.len() == 1 => {
            format!("it conflicts with what landed before, in {} ({})", named[0], first.kind)
        }
        (_, 0) => format!("it conflicts with what landed before, in {} paths", named.len()),
        (_, more) => format!("it conflicts with what landed before, in {} paths", named.len() + more),
    };
    Fate::Parked { reason, paths: named }
}
