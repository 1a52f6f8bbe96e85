//! The order in which results are merged: topological, then the plan's, then the instances'. It depends on the plan only, never on
//! what finished first; and while the graph grows, what stands before a waiting fan-out keeps its place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::graph::{MergeSlot, Need, TaskGraph};
use crate::instance::InstanceIx;
use crate::plan::TaskIx;

impl TaskGraph {
    /// All instances so far in merge order.
    pub fn merge_order(&self) -> Vec<InstanceIx> {
        let known = |slot| match slot {
            MergeSlot::Instance(ix) => Some(ix),
            MergeSlot::Awaiting(_) => None,
        };
        self.merge_slots().into_iter().filter_map(known).collect()
    }

    /// The same with the places of fan-outs that still wait: nothing behind one may land before it has its items.
    pub fn merge_slots(&self) -> Vec<MergeSlot> {
        let mut slots = Vec::with_capacity(self.instances().len());
        for knot in self.knots() {
            let waiting = knot.iter().filter(|task| self.is_pending(**task));
            slots.extend(waiting.map(|task| MergeSlot::Awaiting(*task)));
            match knot.as_slice() {
                [task] if !self.named_needs(*task).contains(task) => {
                    slots.extend(self.task_instances(*task).iter().map(|ix| MergeSlot::Instance(*ix)));
                }
                knot => slots.extend(self.knot_order(knot).into_iter().map(MergeSlot::Instance)),
            }
        }
        slots
    }

    /// Tasks in topological order, then plan order. Tasks that name instances of each other come together: only their
    /// instances have an order.
    pub(crate) fn knots(&self) -> Vec<Vec<TaskIx>> {
        let count = self.plan().tasks.len();
        let mut tasks: DiGraph<(), ()> = DiGraph::with_capacity(count, count);
        for _ in 0..count {
            tasks.add_node(());
        }
        for task in 0..count {
            for need in self.named_needs(TaskIx(task as u32)) {
                tasks.add_edge(NodeIndex::new(need.index()), NodeIndex::new(task), ());
            }
        }
        let mut knots: Vec<Vec<TaskIx>> = tarjan_scc(&tasks)
            .into_iter()
            .map(|part| {
                let mut part: Vec<TaskIx> = part.into_iter().map(|node| TaskIx(node.index() as u32)).collect();
                part.sort_unstable();
                part
            })
            .collect();
        knots.sort_unstable();
        let mut knot_of = vec![0; count];
        for (index, knot) in knots.iter().enumerate() {
            knot.iter().for_each(|task| knot_of[task.index()] = index);
        }
        let needs = |knot: usize| -> BTreeSet<usize> {
            let named = knots[knot].iter().flat_map(|task| self.named_needs(*task));
            named.map(|need| knot_of[need.index()]).filter(|other| *other != knot).collect()
        };
        let order = ordered((0..knots.len()).map(|knot| (knot, needs(knot))).collect());
        order.into_iter().map(|knot| knots[knot].clone()).collect()
    }

    /// The depth of each task, by its position in the plan: 0 without needs, else one more than its deepest need. Tasks whose
    /// instances need each other, and those that one `expands` adds, stand at one depth.
    pub fn levels(&self) -> Vec<u32> {
        let count = self.plan().tasks.len();
        let mut tasks: DiGraph<(), ()> = DiGraph::with_capacity(count, count);
        for _ in 0..count {
            tasks.add_node(());
        }
        for task in 0..count {
            let ix = TaskIx(task as u32);
            let family = self.family(ix);
            // Both ways, so that a family is one part.
            let next = family.iter().cycle().skip_while(|member| **member != ix).nth(1).copied();
            for need in self.named_needs(ix).iter().copied().chain(next) {
                tasks.add_edge(NodeIndex::new(task), NodeIndex::new(need.index()), ());
            }
        }
        let mut levels = vec![0; count];
        // Needs come before what needs them. Source: petgraph's `tarjan_scc`, "reverse topological order".
        for part in tarjan_scc(&tasks) {
            let outside = part.iter().flat_map(|&task| tasks.neighbors(task)).filter(|need| !part.contains(need));
            let level = outside.map(|need| levels[need.index()] + 1).max().unwrap_or(0);
            part.iter().for_each(|task| levels[task.index()] = level);
        }
        levels
    }

    fn knot_order(&self, knot: &[TaskIx]) -> Vec<InstanceIx> {
        let members: Vec<InstanceIx> = knot.iter().flat_map(|task| self.task_instances(*task)).copied().collect();
        let place: HashMap<InstanceIx, usize> = members.iter().enumerate().map(|(place, ix)| (*ix, place)).collect();
        let needs = |ix: &InstanceIx| -> BTreeSet<usize> {
            let selected = self.selected.get(ix).into_iter().flatten();
            let inside = selected.filter_map(|need| match need {
                Need::Instance(ix) => place.get(ix).copied(),
                Need::Task(_) => None,
            });
            inside.collect()
        };
        ordered(members.iter().map(|ix| (place[ix], needs(ix))).collect()).into_iter().map(|at| members[at]).collect()
    }
}

/// The topological order that takes the smallest possible number at each step. What lies on a cycle is left out; an
/// expanded graph has none.
fn ordered(needs: BTreeMap<usize, BTreeSet<usize>>) -> Vec<usize> {
    let mut dependents: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut missing: HashMap<usize, usize> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for (node, needs) in &needs {
        missing.insert(*node, needs.len());
        needs.iter().for_each(|need| dependents.entry(*need).or_default().push(*node));
        if needs.is_empty() {
            ready.push(Reverse(*node));
        }
    }
    let mut order = Vec::with_capacity(needs.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for dependent in dependents.get(&node).into_iter().flatten() {
            if let Some(left) = missing.get_mut(dependent) {
                *left -= 1;
                if *left == 0 {
                    ready.push(Reverse(*dependent));
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_number_that_is_free_comes_next() {
        let needs = BTreeMap::from([
            (0, BTreeSet::from([3])),
            (1, BTreeSet::new()),
            (2, BTreeSet::from([1])),
            (3, BTreeSet::new()),
        ]);
        assert_eq!(ordered(needs), [1, 2, 3, 0]);
    }
}
