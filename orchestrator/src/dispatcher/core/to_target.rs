//! What goes to the target: which change has its turn, what it builds on, and what is folded, verified or tried against a refusal
//! now. The decisions about that are those of [`crate::dispatcher::landing`]; here they meet the graph.

use swarm_plans::{InstanceId, InstanceIx, TaskIx};

use super::turns::Before;
use super::{Landing, Role, RunCore};
use crate::dispatcher::history::Word;
use crate::dispatcher::needs::transitive;
use crate::event::{ChangeSummary, InstanceResult};
use crate::merge::order::{Next, Place, TaskPlace};

impl RunCore {
    pub(super) fn task_place(&self, task: TaskIx) -> TaskPlace {
        TaskPlace { level: self.rank[task.index()], task: task.0 }
    }

    pub(super) fn place(&self, ix: InstanceIx) -> Place {
        Place { task: self.task_place(self.graph.instance(ix).task), instance: ix.0 }
    }

    /// The change at a place of the train, with the instances it builds on.
    fn landing(&mut self, place: Place) -> Option<Landing> {
        let instance = InstanceIx(place.instance);
        let state = &mut self.states[instance.index()];
        let builds_on = state.builds_on.take();
        let change = ChangeSummary::clone(state.change.as_ref()?);
        let (origin, word) = (state.lookup.origin(), state.word);
        let is_by_hand = word == Word::ByHand;
        let is_stale = state.is_stale && !is_by_hand;
        let needs = builds_on.iter().flat_map(|view| view.changes.iter().map(|(need, _)| (*need, self.name(*need))));
        // What a person settled stands on what landed, whatever it once came after, and without what was given up.
        let is_before = |need: &InstanceIx| builds_on.as_ref().is_some_and(|view| view.comes_after.contains(need));
        let landings = &self.landings;
        let needs = needs.filter(|(need, _)| !is_by_hand || !(is_before(need) || landings.is_dropped(*need)));
        let (comes_after, mut builds_on): (Vec<_>, Vec<_>) = needs.partition(|(need, _)| is_before(need));
        let looked_at = self.looked_at_by(instance).into_iter();
        builds_on.extend(looked_at.filter(|(need, _)| !(is_by_hand && self.landings.is_dropped(*need))));
        builds_on.sort_unstable();
        builds_on.dedup();
        let name = self.name(instance);
        let rungs = self.rungs(instance);
        Some(Landing { instance, name, place, rungs, change, builds_on, comes_after, origin, is_stale, is_by_hand })
    }

    /// Those that an instance needs and of whose changes nothing says so: they changed nothing, and are asked again or parked.
    fn looked_at_by(&self, ix: InstanceIx) -> Vec<(InstanceIx, InstanceId)> {
        if !self.landings.has_onlookers() {
            return vec![];
        }
        let needs = self.graph.needs_of(self.graph.instance(ix).task, Some(ix));
        let passed = |need: InstanceIx| self.states[need.index()].result.is_some_and(InstanceResult::passed);
        let needs = transitive(&self.graph, &Before::default(), (needs, &[]), &passed);
        let mut onlookers = self.landings.onlookers_among(needs);
        onlookers.sort_unstable();
        onlookers.into_iter().map(|need| (need, self.name(need))).collect()
    }

    /// Folds what can be folded.
    pub(super) fn drive_target(&mut self) {
        if let Some(cause) = self.landings.closed() {
            self.stop(cause);
        }
        while let Some(next) = self.landings.next() {
            self.takes_its_turn(next);
        }
        let climbs = self.landings.drive();
        if let Some(reason) = self.landings.broken() {
            self.machine_failed(reason.to_owned());
        }
        let grew = !climbs.is_empty();
        for climb in climbs {
            let spec = self.demand(climb.instance, 1);
            let node = self.add_node(spec, Role::Climb(climb));
            self.climbing.insert(climb.instance, (node, climb.rung));
        }
        if grew {
            self.something_is_tried();
            let effects = self.schedule.seal();
            self.effects(effects);
        }
        let (events, actions) = self.landings.take();
        self.events.extend(events);
        self.actions.extend(actions);
    }

    fn takes_its_turn(&mut self, next: Next) {
        let (Next::Fold(place) | Next::Empty(place)) = next;
        match (self.landing(place), self.second_tries.get(&InstanceIx(place.instance))) {
            (Some(landing), Some(before)) => self.landings.second_before(landing, before),
            (Some(landing), None) => self.landings.ready(landing),
            (None, _) => {}
        }
    }
}
