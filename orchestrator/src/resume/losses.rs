//! What a run that goes on needs of its past and does not find any more: commits that `git gc` took once `swarm clean` had given
//! their refs back, artifacts that `swarm clean` or a person removed. Only what the repository says that it does not know is
//! gone; a store that cannot be read ends the resume, so that nothing is made again that is there.
//!
//! What landed is not gone with its own commit: the target has it, as the difference that it made there. Where that lacks something,
//! too, the task runs again.

use std::collections::HashSet;
use std::sync::Arc;

use git2::Oid;
use swarm_plans::InstanceId;

use super::mending::LookedThrough;
use crate::commit;
use crate::dispatcher::core::RunCore;
use crate::dispatcher::core::resume::{Artifacts, Leaning};
use crate::dispatcher::history::{Files, History, Left};
use crate::event::ChangeSummary;
use crate::executor::outputs::{ARTIFACTS, OUT};
use crate::ids::Attempt;
use crate::journal::{RunState, attempt_dir};
use crate::repository::RepositoryError;
use crate::run::Stage;

/// A part of a result that is not there.
enum Loss {
    /// It is to be made again.
    Gone(Left),
    /// Its change; this stands in for it.
    Replaced(Arc<ChangeSummary>),
}

/// What a run lost, round by round: what is made again instead may need more that is gone.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// The parts that were forgotten, and whose change another one stands in for.
    // Invariant: each is lost once, so that the rounds come to an end.
    forgotten: HashSet<(InstanceId, Left)>,
    replaced: HashSet<InstanceId>,
}

impl Losses {
    /// Makes the history forget a part of a result, or gives it what stands in.
    fn lose(&mut self, id: InstanceId, loss: Loss, history: &mut History) {
        let (what, named) = match loss {
            Loss::Replaced(change) => {
                assert!(self.replaced.insert(id.clone()), "BUG: what stands in for the change of {id} was gone itself");
                return history.stand_in(&id, change);
            }
            Loss::Gone(what @ Left::Change) => (what, "the change"),
            Loss::Gone(what @ Left::HandedOver) => (what, "what it handed over"),
        };
        assert!(self.forgotten.insert((id.clone(), what)), "BUG: {named} of {id} was forgotten and is given to others");
        self.notes.push(format!("{named} of {id} is no longer there: it runs again, with what builds on it"));
        history.forget(id, what);
    }
}

impl Stage<'_> {
    /// Makes the history forget what open instances will be given and is not there any more; says so in the notes where it is made
    /// again. Where objects may be lacking, and refs were looked through, a change is there only with all of its own. Returns whether
    /// anything was lost.
    pub(super) fn lose_what_is_gone(
        &self,
        (core, looked): (&RunCore, Option<&LookedThrough>),
        state: &RunState,
        history: &mut History,
        losses: &mut Losses,
    ) -> Result<bool, RepositoryError> {
        let mut lost: Vec<(InstanceId, Loss)> = Vec::new();
        for leaning in core.leanings() {
            let past = history.instance(leaning.id).filter(|_| leaning.artifacts == Artifacts::Needed);
            match past.map_or(Files::There, |past| past.files(self.has_artifacts(leaning.id, leaning.attempt))) {
                Files::There => {}
                Files::Gone => lost.push((leaning.id.clone(), Loss::Gone(Left::HandedOver))),
                Files::Missed => {
                    let missed = format!(
                        "the files that {} handed over are no longer there: what needs it goes without, since what you settled stays",
                        leaning.id
                    );
                    if !losses.notes.contains(&missed) {
                        losses.notes.push(missed);
                    }
                }
            }
            if let Some(change) = leaning.change
                && self.is_lost(change, looked)?
            {
                let stand_in = match losses.replaced.contains(leaning.id) {
                    // Somebody collects garbage at this moment.
                    true => None,
                    false => self.stand_in(&leaning, (change, looked), state, history)?,
                };
                lost.push((leaning.id.clone(), stand_in.map_or(Loss::Gone(Left::Change), Loss::Replaced)));
            }
        }
        let is_any = !lost.is_empty();
        lost.into_iter().for_each(|(id, loss)| losses.lose(id, loss, history));
        Ok(is_any)
    }

    /// Whether a change is not there as open instances need it: this is asked of what stands in for another one, too.
    fn is_lost(&self, change: &ChangeSummary, looked: Option<&LookedThrough>) -> Result<bool, RepositoryError> {
        let is_whole = || looked.map_or(Ok(true), |looked| self.is_all_there(change, looked));
        Ok(!self.has_commit_and_tree(&change.commit)? || !is_whole()?)
    }

    /// What others are given for a change that is lost: what it made of the target when it landed, else what it changed when it had to be
    /// made again before. `None` where that is lost, too.
    fn stand_in(
        &self,
        leaning: &Leaning<'_>,
        (change, looked): (&ChangeSummary, Option<&LookedThrough>),
        state: &RunState,
        history: &History,
    ) -> Result<Option<Arc<ChangeSummary>>, RepositoryError> {
        let landed = state.instances.get(leaning.id).and_then(|instance| instance.landed());
        if let Some((_, landed)) = landed
            && self.has_commit_and_tree(landed)?
            && let Some(on_target) = self.as_landed(leaning.id, change, landed)?
            && !self.is_lost(&on_target, looked)?
        {
            return Ok(Some(Arc::new(on_target)));
        }
        let Some(again) = history.instance(leaning.id).and_then(|past| past.made_again()) else { return Ok(None) };
        Ok(if self.is_lost(again, looked)? { None } else { Some(Arc::clone(again)) })
    }

    /// A change as it landed: from before its first commit on the target to its last. `None` where it made no difference there.
    fn as_landed(
        &self,
        id: &InstanceId,
        change: &ChangeSummary,
        landed: &str,
    ) -> Result<Option<ChangeSummary>, RepositoryError> {
        let git = self.repository.handle()?;
        let last = git.find_commit(Oid::from_str(landed)?)?;
        // A commit of ours names its task, and all those of a run have one date.
        let date = last.time().seconds();
        let is_its_own = |commit: &git2::Commit<'_>| {
            commit.time().seconds() == date && commit::task_of(commit.message().unwrap_or_default()) == Some(&*id.0)
        };
        if !is_its_own(&last) || last.parent_count() != 1 {
            return Ok(None);
        }
        let mut before = last.parent(0)?;
        while change.history.is_some() && is_its_own(&before) && before.parent_count() == 1 {
            before = before.parent(0)?;
        }
        Ok(Some(ChangeSummary {
            base_tree: before.tree_id().to_string(),
            commit: landed.to_owned(),
            tree: last.tree_id().to_string(),
            files: change.files,
            history: None,
            writes: change.writes.clone(),
        }))
    }

    /// Whether a commit and its tree are there, by its full hex id; what is in the tree may be gone.
    pub(super) fn has_commit_and_tree(&self, commit: &str) -> Result<bool, RepositoryError> {
        self.repository.has_commit(Oid::from_str(commit)?)
    }

    /// Whether the folder is there that an attempt's artifacts lay in.
    pub(super) fn has_artifacts(&self, id: &InstanceId, attempt: Attempt) -> bool {
        attempt_dir(self.state.root(), self.journal.run(), id, attempt).join(OUT).join(ARTIFACTS).is_dir()
    }
}
