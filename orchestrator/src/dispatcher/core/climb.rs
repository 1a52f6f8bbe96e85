//! What is tried with a change that did not land: its task once more on what landed, or the resolver. Which of them, and when,
//! [`crate::dispatcher::ladder`] decides.

use std::sync::Arc;

use swarm_plans::{InstanceIx, RetryClass, Rung};

use super::{AttemptDone, Landing, Origin, RunCore, StartAt, says_why};
use crate::dispatcher::history::{Came, FailedBy, Stands, Word, failed_by};
use crate::dispatcher::kept::Outputs;
use crate::dispatcher::ladder::{Climb, Climbed};
use crate::event::{AttemptEnd, ChangeSummary};
use crate::ids::Attempt;
use crate::report::words;
use crate::schedule::Verdict;

impl RunCore {
    /// An instance whose change did not land runs once more, on what landed, or its resolver does.
    pub(super) fn start_again(&mut self, climb: Climb) {
        let ix = climb.instance;
        if let Some(Stands::Aside(before)) = self.second_tries.remove(&ix).map(|second| second.stands)
            && let Some(Came { attempt, end, change, outputs, .. }) = before.came
        {
            let climbed = self.comes_of(ix, (attempt, outputs), &end, change.as_ref());
            return self.climbed(ix, climbed);
        }
        let view = self.view(ix);
        match self.rendered(ix, &view.json) {
            Ok(Some(rendered)) => {
                let commit = self.landings.tip().to_owned();
                let start = match (climb.rung, self.landings.aside(ix)) {
                    (Rung::Resolve, Some(aside)) => StartAt::Conflict { commit, change: aside.change.clone() },
                    (Rung::Rerun | Rung::Resolve, _) => StartAt::Tip { commit },
                };
                self.attempt(ix, rendered, view, start);
            }
            Ok(None) => self.climbed(ix, Climbed::Unchanged),
            Err(error) => self.climbed(ix, Climbed::Failed(error.to_string())),
        }
    }

    pub(super) fn climbed(&mut self, ix: InstanceIx, climbed: Climbed) {
        if let Some((node, _)) = self.climbing.remove(&ix) {
            let effects = self.schedule.finish(node, Verdict::Pass);
            self.effects(effects);
        }
        // Who needs it, and runs again, is given what it is now.
        self.views.forget();
        self.landings.climbed(ix, climbed);
    }

    /// An attempt that was made because the first change did not land.
    pub(super) fn again_done(&mut self, ix: InstanceIx, mut done: AttemptDone) {
        let gives = (Attempt(self.states[ix.index()].attempts), done.outputs.clone().into());
        let climbed = self.comes_of(ix, gives, &done.end, done.change.as_ref());
        if let (Climbed::Change(_), Some((rung, refusal))) = (&climbed, self.landings.trying(ix)) {
            done.notes.push(words::settled_by(rung, &refusal.reason));
        }
        let detail = says_why(&done.end);
        let failed_by = failed_by(&done.end);
        self.attempt_finished(ix, done, None);
        if failed_by == FailedBy::Machine {
            // That says nothing about the change: it stays aside for whoever goes on with the run.
            self.machine_failed(detail);
        }
        self.climbed(ix, climbed);
    }

    fn comes_of(
        &mut self,
        ix: InstanceIx,
        (attempt, outputs): (Attempt, Outputs),
        end: &AttemptEnd,
        change: Option<&ChangeSummary>,
    ) -> Climbed {
        let rung = self.climbing.get(&ix).map_or(Rung::Rerun, |(_, rung)| *rung);
        // A resolver settles the change only: what the task hands over besides stays as it was.
        if *end == AttemptEnd::Succeeded && rung == Rung::Rerun {
            let state = &mut self.states[ix.index()];
            (state.outputs, state.gave, state.ran_again) = (outputs, attempt.0, true);
        }
        match (end, change, self.landings.aside(ix)) {
            (AttemptEnd::Succeeded, Some(change), Some(landing)) if change.changes_anything() => {
                self.states[ix.index()].change = Some(Arc::new(change.clone()));
                let (change, origin) = (change.clone(), Origin::Ran);
                // It stands on what landed now.
                let comes_after = vec![];
                Climbed::Change(Box::new(Landing { change, origin, comes_after, is_stale: false, ..landing.clone() }))
            }
            // A task that finds nothing left to do is done; a resolver that leaves nothing has dropped the change.
            (AttemptEnd::Succeeded, _, _) if rung == Rung::Resolve => {
                Climbed::Failed("the resolver left nothing of the change".to_owned())
            }
            (AttemptEnd::Succeeded, _, _) => {
                self.states[ix.index()].change = None;
                Climbed::Unchanged
            }
            (end, _, _) => Climbed::Failed(match rung {
                Rung::Rerun => format!("its second try {}", words::end(end)),
                Rung::Resolve => format!("the resolver: {}", words::end(end)),
            }),
        }
    }

    /// What may be tried with a task's change that does not land: what the plan says for all, and a rerun where the task's own
    /// `retry` names conflicts, or a person asked for it. Nothing, when a person settled it by hand.
    pub(super) fn rungs(&self, instance: InstanceIx) -> Vec<Rung> {
        let (plan, task) = (self.graph.plan(), self.graph.instance(instance).task);
        let word = self.states[instance.index()].word;
        if word == Word::ByHand {
            return vec![];
        }
        let retry = &plan.task(task).retry;
        let mut rungs = plan.merge.on_conflict.clone();
        let asked = retry.max > 0 && retry.on.contains(&RetryClass::Conflict) || word == Word::Again;
        if asked && !rungs.contains(&Rung::Rerun) {
            rungs.insert(0, Rung::Rerun);
        }
        rungs
    }
}
