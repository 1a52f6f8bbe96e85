//! What failed and a person gave up (`swarm drop`): nobody tries it again unless it is named, and it keeps nothing else from landing.

use std::collections::HashSet;

use swarm_plans::{InstanceId, InstanceIx, TaskIx};

use super::RunCore;
use crate::dispatcher::history::{Became, History};
use crate::event::InstanceResult;
use crate::schedule::Verdict;

/// Those that a journal says were given up.
pub(super) fn given_up(history: &History) -> HashSet<InstanceId> {
    let given_up = history.instances().filter(|(_, past)| past.fate == Some(Became::GivenUp));
    given_up.map(|(id, _)| id.clone()).collect()
}

impl RunCore {
    pub(super) fn is_given_up(&self, ix: InstanceIx) -> bool {
        !self.given_up.is_empty() && self.given_up.contains(&self.graph.instance(ix).id)
    }

    /// Whether what stands for a fan-out without items was given up: nobody asks for them again.
    pub(super) fn is_fan_given_up(&self, task: TaskIx) -> bool {
        let name = &self.graph.plan().task(task).name.0;
        !self.given_up.is_empty() && self.given_up.contains(&InstanceId(name.as_str().into()))
    }

    /// What stands for it has ended long ago.
    pub(super) fn fan_stays_given_up(&mut self, task: TaskIx) {
        self.close(task);
        let effects = self.schedule.finish(self.fan_of(task), Verdict::Fail);
        self.effects(effects);
    }

    /// It is open again only because something that it needs was made again: it ends without another try.
    pub(super) fn stays_given_up(&mut self, ix: InstanceIx) {
        // An allowed failure still lets others run.
        let result = if self.states[ix.index()].allowed { InstanceResult::Failed } else { InstanceResult::Cancelled };
        self.finish(ix, result, Some("it was given up".to_owned()));
    }

    /// An instance failed in a way that keeps others from landing where all is published or nothing.
    pub(super) fn failed(&mut self, ix: InstanceIx) {
        let id = &self.graph.instance(ix).id;
        match self.states[ix.index()].allowed || self.is_given_up(ix) {
            true => {}
            false if self.breaker.suspects(ix) => self.landings.failed_by_machine(id, &self.said),
            false => self.landings.failed(self.place(ix), id),
        }
    }
}
