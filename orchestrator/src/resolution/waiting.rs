//! What a result is settled on where a plan publishes all or nothing: the target alone would not show what it conflicts with.

use git2::Oid;
use swarm_plans::{InstanceId, Merge};

use super::ResolutionError;
use crate::commit::{self, CommitSpec, Signing};
use crate::event::{AttemptEnd, Fate, ParkedBy};
use crate::journal::{AttemptState, InstanceState, RunState};
use crate::merge::{FileRules, FoldedAll, Step, fold_all};
use crate::repository::Repository;

/// The commit of `tip` with the changes that wait to be published together with `id`'s and come before it; `tip` itself where
/// none does. Those behind it meet what a person makes of it in their own turns.
///
/// # Errors
/// Those of the repository.
pub fn with_what_waits(
    repository: &Repository,
    plan: &Merge,
    (state, id): (&RunState, &InstanceId),
    tip: Oid,
    signing: &Signing,
) -> Result<Oid, ResolutionError> {
    let (git, rules) = (repository.handle()?, FileRules::of(plan)?);
    let before = repository.tree_of(tip)?;
    let waits = |instance: &InstanceState| matches!(instance.fate(), Some(Fate::Parked { by: ParkedBy::Others, .. }));
    let ended_well = |attempt: &&AttemptState| attempt.end() == Some(&AttemptEnd::Succeeded);
    let newest = |instance: &'_ InstanceState| {
        instance.attempts.iter().rev().filter(ended_well).find_map(AttemptState::change).cloned()
    };
    let others = state.instances.iter().take_while(|(name, _)| *name != id).filter(|(_, instance)| waits(instance));
    let mut tree = before;
    for change in others.filter_map(|(_, instance)| newest(instance)) {
        let step = Step { base: change.base_tree, result: change.tree, writes: None };
        // Those that do not fit beside each other meet in their own turns.
        if let FoldedAll::Clean { tree: together, .. } = fold_all(&git, &rules, tree, &[step])? {
            tree = together;
        }
    }
    if tree == before {
        return Ok(tip);
    }
    let spec = CommitSpec { parents: &[tip], tree, subject: "what waits to be published together", trailers: &[] };
    Ok(commit::write_commit(repository, signing, &spec)?)
}
