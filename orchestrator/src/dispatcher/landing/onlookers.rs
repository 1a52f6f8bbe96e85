//! Those that changed nothing: they take no place on the target, but what they say of others' results holds only as long as
//! those do.

use swarm_plans::InstanceIx;

use super::{Landings, outdated_by_a_rerun};

impl Landings {
    /// Whether there may be any that [`Landings::looks_on`] is true of.
    pub(in crate::dispatcher) fn has_onlookers(&self) -> bool {
        let is_none = self.onlookers.is_empty() && self.parked.is_empty() && self.dropped.is_empty();
        !is_none || self.ladder.has_onlookers()
    }

    /// Whether an instance may have changed nothing and be asked again, or have been put aside for good.
    pub(in crate::dispatcher) fn looks_on(&self, instance: InstanceIx) -> bool {
        self.parked.contains(&instance)
            || self.dropped.contains(&instance)
            || self.onlookers.values().any(|landing| landing.instance == instance)
            || self.ladder.looks_on(instance)
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
