//! Those that changed nothing: they take no place on the target, but what they say of others' results holds only as long as
//! those do.

use std::collections::HashSet;

use swarm_plans::InstanceIx;

use super::{Landings, outdated_by_a_rerun};

impl Landings {
    /// Whether there may be any that [`Landings::onlookers_among`] would give.
    pub(in crate::dispatcher) fn has_onlookers(&self) -> bool {
        let is_none = self.onlookers.is_empty() && self.parked.is_empty() && self.dropped.is_empty();
        !is_none || self.ladder.onlookers().next().is_some()
    }

    /// Those of some instances that may have changed nothing and be asked again, or have been put aside for good.
    pub(in crate::dispatcher) fn onlookers_among(
        &self,
        instances: impl IntoIterator<Item = InstanceIx>,
    ) -> Vec<InstanceIx> {
        let here = self.onlookers.values().map(|landing| landing.instance);
        let looking: HashSet<InstanceIx> = here.chain(self.ladder.onlookers()).collect();
        let looks_on = |ix: &InstanceIx| looking.contains(ix) || self.parked.contains(ix) || self.dropped.contains(ix);
        instances.into_iter().filter(looks_on).collect()
    }

    /// What changed nothing and has to be asked again is aside before what stands on it is folded.
    pub(super) fn mind_onlookers(&mut self) {
        for (place, landing) in std::mem::take(&mut self.onlookers) {
            if landing.stands_on().any(|need| self.ladder.holds(need)) {
                self.ladder.wait(landing);
            } else if landing.is_stale {
                self.refuse(landing, outdated_by_a_rerun());
            } else {
                self.onlookers.insert(place, landing);
            }
        }
    }

    /// The others are settled when all that they stand on is.
    pub(super) fn settle_onlookers(&mut self) {
        self.mind_onlookers();
        std::mem::take(&mut self.onlookers).into_values().for_each(|landing| self.empty(landing.name));
    }
}
