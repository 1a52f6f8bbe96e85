//! Results of earlier runs instead of attempts: which instances are looked up, and what follows from what is found.
//!
//! An instance is looked up when it could start for the first time, and once more where it waited until its needs contradicted
//! each other no longer: only then is known what its result depends on. It takes no place meanwhile, so all that could start is
//! looked up together, whatever `-j` is; what is not found starts when its turn comes.

use std::collections::BTreeMap;

use swarm_plans::{InstanceIx, TaskIx};

use super::{Action, AttemptJob, Origin, Reuse, ReuseResults, RunCore, StartAt};
use crate::event::{InstanceResult, ReusedInstance, RunEvent};
use crate::merge::order::End;
use crate::schedule::Verdict;

/// Where an instance stands with the results of earlier runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It was not looked up.
    #[default]
    Not,
    /// It was: there was no result, or the answer is on its way.
    Asked,
    /// It was; what it needs may be other now than it was then.
    Outdated,
    /// It took one.
    Taken,
}

impl Lookup {
    /// Where an instance stood whose change came from there.
    pub(super) fn of(origin: Origin) -> Self {
        match origin {
            Origin::Ran => Lookup::Not,
            Origin::Reused => Lookup::Taken,
        }
    }

    /// Where the change comes from.
    pub(super) fn origin(self) -> Origin {
        match self {
            Lookup::Not | Lookup::Asked | Lookup::Outdated => Origin::Ran,
            Lookup::Taken => Origin::Reused,
        }
    }
}

/// Instances that are looked up together.
const LOOKUPS_MAX: usize = 1000;

impl RunCore {
    /// Lays a job that is about to start aside when an earlier run may have recorded its result; else gives it back.
    pub(super) fn looks_up(&mut self, job: AttemptJob) -> Option<AttemptJob> {
        let state = &mut self.states[job.instance.index()];
        let reusable = self.options.reuse == ReuseResults::Yes && self.graph.plan().task(job.task).cache.is_some();
        let is_due = match state.lookup {
            Lookup::Not => job.attempt.0 == 1,
            Lookup::Outdated => true,
            Lookup::Asked | Lookup::Taken => false,
        };
        // What was made on what landed depends on all of that, and no record says so.
        if !reusable || !is_due || job.start != StartAt::Needs {
            return Some(job);
        }
        // It has not begun.
        (state.lookup, state.attempts) = (Lookup::Asked, state.attempts - 1);
        self.schedule.rest(self.nodes[job.instance.index()]);
        self.resting += 1;
        self.lookups.push(job);
        None
    }

    /// Asks for what was laid aside. A task whose key waits for a command is asked for by itself: nobody else waits for that.
    pub(super) fn look_up(&mut self) {
        let mut together: BTreeMap<Option<TaskIx>, Vec<AttemptJob>> = BTreeMap::new();
        for job in std::mem::take(&mut self.lookups) {
            let caching = self.graph.plan().task(job.task).cache.as_ref();
            let waits = caching.is_some_and(|caching| caching.fingerprint.is_some());
            together.entry(waits.then_some(job.task)).or_default().push(job);
        }
        for mut jobs in together.into_values() {
            while !jobs.is_empty() {
                let rest = jobs.split_off(jobs.len().min(LOOKUPS_MAX));
                self.actions.push(Action::Reuse(std::mem::replace(&mut jobs, rest)));
            }
        }
    }

    /// Instances that found a result have ended with it; the others start when their turn comes.
    pub(super) fn looked_up(&mut self, found: Vec<(InstanceIx, Option<Reuse>)>) {
        self.resting -= found.len();
        let mut reused = Vec::new();
        let mut passed = Vec::new();
        for (ix, reuse) in found {
            let node = self.nodes[ix.index()];
            let state = &mut self.states[ix.index()];
            match reuse {
                // The run was stopped meanwhile.
                _ if state.result.is_some() => {}
                None => self.schedule.wake(node),
                Some(Reuse { key, from, saved_ms, change, outputs, handed, notes }) => {
                    (state.lookup, state.result) = (Lookup::Taken, Some(InstanceResult::Succeeded));
                    state.attempts += 1;
                    (state.outputs, state.gave) = (outputs.clone().into(), state.attempts);
                    state.change = change.as_ref().map(|change| self.changes.keep(change));
                    let end = if change.is_some() { End::Change } else { End::Nothing };
                    let instance = self.graph.instance(ix).id.clone();
                    reused.push(ReusedInstance { instance, key, from, saved_ms, change, outputs, handed, notes });
                    self.landings.finished(self.place(ix), end);
                    passed.push(node);
                }
            }
        }
        if !reused.is_empty() {
            self.events.push(RunEvent::Reused { instances: reused });
        }
        for node in passed {
            let effects = self.schedule.finish(node, Verdict::Pass);
            self.effects(effects);
        }
    }
}
