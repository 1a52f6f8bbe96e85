//! Taking turns (`[merge] overlap = "serialize"`): an instance that may change the same paths as an earlier one starts when that
//! one has ended, and from what it left. Who waits for whom, [`swarm_plans::turns`] says; here that becomes edges.
//!
//! *It waits for the end, not for the landing.* What has landed when an instance starts depends on what was quicker, and a
//! gate or `publish = "all-or-nothing"` may land everything at the very end. The end of an instance and its accepted change
//! depend on the plan alone. So the later one starts from the base, the changes of its needs, and the changes of all that
//! passed before it in turn: the same tree at any `-j`, and nothing left to conflict when they land in that order.
//!
//! *A failure lets the next one pass* without handing anything over: each turn is a node that passes however its needs ended.
//! It stands for everything before it, too, so that an instance which is blocked early lets nobody overtake.
//!
//! *An earlier change may still not land* (the gate is red with it). Then the later one stands on something that is not
//! there. It is not parked with it, as what needs it is: nobody said that it needs it. It runs once more, on what landed
//! ([`crate::dispatcher::ladder`]).

use std::collections::{HashMap, HashSet};

use swarm_plans::turns::{Earlier, Turns, Wait};
use swarm_plans::{InstanceId, InstanceIx, Overlap, TaskIx};

use super::{Role, RunCore};
use crate::schedule::{NodeIx, NodeSpec};

/// Whom each instance comes directly after.
#[derive(Debug, Default)]
pub struct Before {
    all: HashMap<InstanceIx, Vec<InstanceIx>>,
    /// Those that are made again since earlier coordinators, by when.
    again: HashMap<InstanceIx, u32>,
    /// Those that had started before the last of these, by when.
    started: HashMap<InstanceIx, u32>,
}

impl Before {
    /// Whom an instance comes directly after.
    pub fn of(&self, later: InstanceIx) -> &[InstanceIx] {
        self.all.get(&later).map_or(&[], Vec::as_slice)
    }

    /// Whether an instance that has started did so when all that it came after had ended for good.
    pub fn saw_all(&self, later: InstanceIx) -> bool {
        !self.started.contains_key(&later)
    }

    /// Whether it did so when `earlier` had.
    pub fn saw(&self, later: InstanceIx, earlier: InstanceIx) -> bool {
        match (self.started.get(&later), self.again.get(&earlier)) {
            (Some(started), Some(again)) => again <= started,
            (None, _) | (_, None) => true,
        }
    }

    /// Says which are made `again`, and when those `started` that have ended.
    pub(super) fn relived(
        &mut self,
        again: HashMap<InstanceIx, u32>,
        started: impl Iterator<Item = (InstanceIx, u32)>,
    ) {
        let last = again.values().copied().max().unwrap_or(0);
        self.started = started.filter(|(_, started)| *started < last).collect();
        self.again = again;
    }
}

/// Who takes turns, and the nodes that let the next one pass.
#[derive(Debug)]
pub(super) struct Queue {
    turns: Turns,
    nodes: HashMap<InstanceIx, NodeIx>,
    fans: HashMap<TaskIx, NodeIx>,
    /// Instances that had their turn under an earlier coordinator: nothing that is open again holds them back.
    pub had_theirs: HashSet<InstanceId>,
}

impl RunCore {
    /// Makes the queue, where the plan asks for one. Fan-outs have their nodes already, instances not yet.
    pub(super) fn queue_up(&mut self, had_theirs: HashSet<InstanceId>) {
        if self.graph.plan().merge.overlap == Overlap::Parallel {
            return;
        }
        let turns = Turns::new(&self.graph);
        let mut fans: HashMap<TaskIx, NodeIx> = HashMap::new();
        let mut last = None;
        for task in turns.fans() {
            let is_fan = |role: &Role| matches!(role, Role::Fan(of) if *of == task);
            let fan = NodeIx::at(self.roles.iter().position(is_fan).expect("BUG: a fan-out that waits has a node"));
            let turn = self.add_node(NodeSpec::Turn, Role::Turn);
            for need in [fan].into_iter().chain(last) {
                self.schedule.add_need(turn, need);
            }
            fans.insert(task, turn);
            last = Some(turn);
        }
        self.queue = Some(Queue { turns, nodes: HashMap::new(), fans, had_theirs });
    }

    /// New instances take their places.
    pub(super) fn take_turns(&mut self, added: &[InstanceIx]) {
        let Some(mut queue) = self.queue.take() else { return };
        for Wait { later, earlier } in queue.turns.join(&self.graph, added) {
            let before = match earlier {
                Earlier::Items(task) => queue.fans[&task],
                Earlier::Instance(earlier) => {
                    self.before.all.entry(later).or_default().push(earlier);
                    self.turn_of(&mut queue, earlier)
                }
            };
            let turn = self.turn_of(&mut queue, later);
            self.schedule.add_need(turn, before);
            if !queue.had_theirs.contains(&self.graph.instance(later).id) {
                self.schedule.add_need(self.nodes[later.index()], before);
            }
        }
        self.queue = Some(queue);
    }

    /// The node that passes when an instance, and all before it in turn, has ended.
    fn turn_of(&mut self, queue: &mut Queue, ix: InstanceIx) -> NodeIx {
        *queue.nodes.entry(ix).or_insert_with(|| {
            let turn = self.add_node(NodeSpec::Turn, Role::Turn);
            self.schedule.add_need(turn, self.nodes[ix.index()]);
            turn
        })
    }
}
