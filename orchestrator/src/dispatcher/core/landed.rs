//! An instance whose change has landed runs again where what it handed over is gone and somebody still needs that. What landed
//! stays as it is, and is what the others are given: a change that comes out otherwise this time is on no branch, so whatever
//! is built on it would stand on something that nobody has. With it goes what was handed over with it, as long as that is there. The
//! other change is kept as any attempt's is, and its attempt says so.

use std::collections::HashMap;
use std::sync::Arc;

use swarm_plans::{InstanceId, InstanceIx};

use super::{AttemptDone, RunCore};
use crate::dispatcher::history::{Became, History, Past};
use crate::dispatcher::kept::Outputs;
use crate::event::{AttemptEnd, ChangeSummary, Handed};
use crate::ids::Attempt;

/// What landed of an instance that runs again.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kept {
    /// This change, and the repository has it; with what was handed over beside it, unless that is gone.
    Change(Arc<ChangeSummary>, Option<HandedOver>),
    /// What the repository no longer has as a change of its own.
    Gone,
}

/// What an attempt handed over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HandedOver {
    outputs: Outputs,
    gave: Attempt,
    has_files: bool,
}

impl HandedOver {
    fn of(past: &Past) -> Self {
        let has_files = past.handed_over().1 != Handed::Nothing;
        HandedOver { outputs: past.outputs.clone(), gave: Attempt(past.gave), has_files }
    }
}

/// What others are given of an instance whose attempt ended.
pub(super) struct Given {
    /// Its change.
    pub change: Option<Arc<ChangeSummary>>,
    /// The attempt whose files they are given, where that is another one.
    pub gave: Option<Attempt>,
}

impl RunCore {
    /// Those that are open although their changes have landed.
    pub(super) fn relive_landed(&mut self, history: &History) {
        let is_open = |ix: &InstanceIx| self.states[ix.index()].result.is_none();
        let all = (0..self.states.len()).map(|at| InstanceIx(at as u32)).filter(is_open);
        let kept = |ix: InstanceIx| {
            let id = &self.graph.instance(ix).id;
            let past = history.instance(id).filter(|past| past.fate == Some(Became::Landed))?;
            let handed_over = || (!history.is_gone(id)).then(|| HandedOver::of(past));
            let kept = past.change.clone().map_or(Kept::Gone, |change| Kept::Change(change, handed_over()));
            Some((ix, kept))
        };
        self.landed = all.filter_map(kept).collect::<HashMap<_, _>>();
    }

    /// Forgets what was handed over beside changes that landed, where `is_there` knows no files of that attempt any more.
    pub fn lose_files_of_landed(&mut self, is_there: impl Fn(&InstanceId, Attempt) -> bool) {
        for (ix, kept) in &mut self.landed {
            if let Kept::Change(_, handed_over) = kept {
                let id = &self.graph.instance(*ix).id;
                handed_over.take_if(|it| it.has_files && !is_there(id, it.gave));
            }
        }
    }

    /// What others are given of an instance whose attempt ended so.
    pub(super) fn given_on(&mut self, ix: InstanceIx, done: &mut AttemptDone) -> Given {
        let made = done.change.as_ref().map(|change| self.changes.keep(change));
        let passed = done.end == AttemptEnd::Succeeded;
        match self.landed.get(&ix).filter(|_| passed) {
            None => Given { change: made, gave: None },
            Some(Kept::Gone) => {
                let note = "its change had landed, and the repository has lost its own commit: what it changed this time is not \
                            landed again, and what needs it starts from that";
                done.notes.push(note.to_owned());
                Given { change: made, gave: None }
            }
            Some(Kept::Change(landed, handed_over)) => {
                let trees = |change: &ChangeSummary| (change.base_tree.clone(), change.tree.clone());
                let mut given = Given { change: Some(Arc::clone(landed)), gave: None };
                if made.as_deref().map(trees) == Some(trees(landed)) {
                    return given;
                }
                let with = match handed_over {
                    Some(before) => {
                        (done.outputs, done.handed) = (before.outputs.to_map(), Handed::Before);
                        given.gave = Some(before.gave);
                        "what landed stays, and what needs it starts from that and is given what was handed over with it"
                    }
                    None => {
                        "what landed stays, and what needs it starts from that, but is given what this try handed over: the files \
                         beside what landed are gone"
                    }
                };
                done.notes.push(format!(
                    "its change had landed, and this time it changed something else: {with}; this change is kept and not landed"
                ));
                given
            }
        }
    }
}
