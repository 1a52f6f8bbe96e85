//! Cycles, found and made readable: one shortest cycle for each knot of nodes that wait for each other.

use std::collections::{HashMap, VecDeque};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// For each strongly connected part one shortest cycle through its first node, each node before the one that it waits for
/// (edges point from the needed to the needing), ordered by the first nodes.
pub(crate) fn cycles<N, E>(graph: &DiGraph<N, E>) -> Vec<Vec<NodeIndex>> {
    let mut all: Vec<Vec<NodeIndex>> = tarjan_scc(graph)
        .into_iter()
        .filter(|part| part.len() > 1 || graph.contains_edge(part[0], part[0]))
        .filter_map(|part| {
            let first = *part.iter().min()?;
            shortest(graph, first, &part)
        })
        .collect();
    all.sort_unstable();
    all
}

/// Searches along "waits for" until it is back at `first`.
fn shortest<N, E>(graph: &DiGraph<N, E>, first: NodeIndex, part: &[NodeIndex]) -> Option<Vec<NodeIndex>> {
    let inside: std::collections::HashSet<NodeIndex> = part.iter().copied().collect();
    let mut came_from: HashMap<NodeIndex, NodeIndex> = HashMap::new();
    let mut open = VecDeque::from([first]);
    while let Some(node) = open.pop_front() {
        for next in graph.neighbors_directed(node, Direction::Incoming).filter(|next| inside.contains(next)) {
            if next == first {
                let mut path = vec![node];
                while let Some(before) = came_from.get(path.last()?) {
                    path.push(*before);
                }
                path.reverse();
                return Some(path);
            }
            if let std::collections::hash_map::Entry::Vacant(entry) = came_from.entry(next) {
                entry.insert(node);
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_cycle_of_each_knot_is_shown() {
        // 0 needs 1 needs 2 needs 0, and 1 needs 0; 3 needs itself; 4 is free.
        let graph = DiGraph::<(), ()>::from_edges([(1, 0), (2, 1), (0, 2), (0, 1), (3, 3), (3, 4)]);
        let cycles: Vec<Vec<usize>> = cycles(&graph).iter().map(|c| c.iter().map(|n| n.index()).collect()).collect();
        assert_eq!(cycles, [vec![0, 1], vec![3]]);
    }
}
