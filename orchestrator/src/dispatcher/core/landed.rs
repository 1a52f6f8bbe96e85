//! An instance whose change has landed runs again where what it handed over is gone and somebody still needs that. What landed
//! stays as it is, and is what the others are given: a change that comes out otherwise this time is on no branch, so whatever
//! is built on it would stand on something that nobody has. It is kept as any attempt's change is, and its attempt says so.

use std::collections::HashMap;
use std::sync::Arc;

use swarm_plans::InstanceIx;

use super::{AttemptDone, RunCore};
use crate::dispatcher::history::{Became, History};
use crate::event::{AttemptEnd, ChangeSummary};

/// What landed of an instance that runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// This, and the repository has it.
    Change(Arc<ChangeSummary>),
    /// What the repository no longer has as a change of its own.
    Gone,
}

impl RunCore {
    /// Those that are open although their changes have landed.
    pub(super) fn relive_landed(&mut self, history: &History) {
        let is_open = |ix: &InstanceIx| self.states[ix.index()].result.is_none();
        let all = (0..self.states.len()).map(|at| InstanceIx(at as u32)).filter(is_open);
        let kept = |ix: InstanceIx| {
            let past = history.instance(&self.graph.instance(ix).id)?;
            let kept = past.change.clone().map_or(Kept::Gone, Kept::Change);
            (past.fate == Some(Became::Landed)).then_some((ix, kept))
        };
        self.landed = all.filter_map(kept).collect::<HashMap<_, _>>();
    }

    /// The change that others are given of an instance whose attempt ended so.
    pub(super) fn given_on(&mut self, ix: InstanceIx, done: &mut AttemptDone) -> Option<Arc<ChangeSummary>> {
        let made = done.change.as_ref().map(|change| self.changes.keep(change));
        let passed = done.end == AttemptEnd::Succeeded;
        match self.landed.get(&ix).filter(|_| passed) {
            None => made,
            Some(Kept::Gone) => {
                let note = "its change had landed, and the repository has lost its own commit: what it changed this time is not \
                            landed again, and what needs it starts from that";
                done.notes.push(note.to_owned());
                made
            }
            Some(Kept::Change(landed)) => {
                let trees = |change: &ChangeSummary| (change.base_tree.clone(), change.tree.clone());
                if made.as_deref().map(trees) != Some(trees(landed)) {
                    let note = "its change had landed, and this time it changed something else: what landed stays, and what needs it \
                                starts from that; this change is kept and not landed";
                    done.notes.push(note.to_owned());
                }
                Some(Arc::clone(landed))
            }
        }
    }
}
