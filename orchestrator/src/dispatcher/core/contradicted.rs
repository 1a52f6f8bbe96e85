//! An instance whose needs' changes contradict each other has no tree to start from. One of these changes will not land as it is:
//! it is tried again behind the others ([`crate::dispatcher::ladder`]), and from what comes of that the instance may be able to
//! start. So it waits until all that can run has ended, all that could land has, and nothing is being tried; then it starts once
//! more. It fails where nothing was tried meanwhile: then its needs will never be other than they are.

use swarm_plans::{InstanceId, InstanceIx};

use super::reuse::Lookup;
use super::{INSTANCES_PER_EVENT_MAX, RunCore};
use crate::dispatcher::landing::Parted;
use crate::event::{InstanceResult, RunEvent};

/// Whether what an instance needs may be other than it was when it was last started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// Nothing was tried since.
    None,
    /// Something was, or an earlier coordinator may have.
    Tried,
}

impl RunCore {
    /// Its last attempt ended without a tree; it keeps its place.
    pub(super) fn waits_for_its_needs(&mut self, ix: InstanceIx) {
        // The attempt says nothing about the work.
        self.states[ix.index()].lost += 1;
        self.schedule.rest(self.nodes[ix.index()]);
        self.contradicted.insert(ix, Hope::None);
    }

    /// The same of one that waited under an earlier coordinator.
    pub(super) fn goes_on_waiting(&mut self, ix: InstanceIx) {
        self.schedule.rest(self.nodes[ix.index()]);
        self.contradicted.insert(ix, Hope::Tried);
    }

    /// Something is tried with changes that did not land.
    pub(super) fn something_is_tried(&mut self) {
        self.contradicted.values_mut().for_each(|hope| *hope = Hope::Tried);
    }

    /// Whether only such instances, and what waits for them, are left of all that could run.
    pub(super) fn stalls(&self) -> bool {
        // Before the base is verified nothing is started that could be.
        let is_idle = self.landings.is_open() && self.schedule.running() == 0 && self.resting == 0;
        is_idle && !self.contradicted.is_empty() && self.stop.is_none()
    }

    /// Lets the target catch up when nothing else can run, and then starts or fails those that wait. Returns whether that
    /// changed anything.
    pub(super) fn settle_the_contradicted(&mut self) -> bool {
        match self.landings.goes_on() {
            Some(Parted::Now) => {
                self.start_the_contradicted();
                true
            }
            Some(Parted::Before) => true,
            None => self.stalls() && self.landings.part(),
        }
    }

    fn start_the_contradicted(&mut self) {
        let all = std::mem::take(&mut self.contradicted);
        let names: Vec<InstanceId> = all.keys().map(|ix| self.name(*ix)).collect();
        let settled = |names: &[InstanceId]| RunEvent::NeedsSettled { instances: names.to_vec() };
        self.events.extend(names.chunks(INSTANCES_PER_EVENT_MAX).map(settled));
        for (ix, hope) in all {
            // The first that fails may end the run, and the others with it.
            if self.states[ix.index()].result.is_some() {
                continue;
            }
            match hope {
                Hope::Tried => {
                    self.states[ix.index()].lookup = Lookup::Outdated;
                    self.schedule.wake(self.nodes[ix.index()]);
                }
                Hope::None => self.finish(ix, InstanceResult::Failed, None),
            }
        }
    }
}
