//! Which node runs next: a pure value, fed with what ended and asked what to start. No clock, no I/O, no randomness.
//!
//! A node is *work* (started by somebody, holds a slot and resources while it runs) or a *join*, which stands for "all of
//! these" and ends by itself; a task's join lets a dependent of a thousand instances have one edge. A *turn* is a join that
//! passes whatever its needs came to: who waits behind it wants them out of the way, not their success. The graph may grow
//! while it runs: a fan-out whose items are not known yet is a work node that adds its instances before it finishes.
//!
//! What a failure keeps from starting is blocked when all that it needs has ended: which of several failures it names is then a
//! matter of the graph, the first in the order in which it got its needs, and not of which happened first.
//!
//! Among what is ready, higher priority goes first, then the longest critical path (the weight of the heaviest chain that
//! waits for it), then the order in which nodes were added. Start reading at [`Schedule::start_next`] and [`Schedule::finish`].

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

/// A node of the schedule, dense from 0 in the order of adding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIx(u32);

impl NodeIx {
    /// The node at a position, as [`NodeIx::index`] gave it.
    pub fn at(position: usize) -> Self {
        NodeIx(u32::try_from(position).expect("a plan is bounded far below 2^32 instances"))
    }

    /// The position among all nodes.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    fn graph(self) -> NodeIndex {
        NodeIndex::new(self.0 as usize)
    }
}

/// What a resource demand takes: `(resource, units)`, sorted by resource, no zero units. Resources are positions in the
/// capacities given to [`Schedule::new`].
pub type Demand = Vec<(usize, u32)>;

/// What joins the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeSpec {
    /// Something to start.
    Work {
        /// Expected duration in milliseconds, for the critical path.
        weight_ms: u64,
        /// Higher starts first.
        priority: i32,
        /// Units of each resource held while it runs.
        demand: Demand,
    },
    /// Passes when all its needs pass; when they have ended and one failed, it has failed.
    Join,
    /// Passes when all its needs have ended, however they did.
    Turn,
}

/// How a node ended, as far as its dependents care. A permitted failure and a false condition are passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Dependents may start.
    Pass,
    /// Dependents will never start.
    Fail,
}

/// What else ended because of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A node will never start: `cause` is the work node whose failure is at the root.
    Blocked {
        /// The node that will not start.
        node: NodeIx,
        /// The work that failed.
        cause: NodeIx,
    },
    /// All needs of a join passed.
    Joined(NodeIx),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Added, not yet counted by [`Schedule::seal`].
    Fresh,
    /// So many needs have not passed yet, and none has failed.
    Waiting(u32),
    /// A need failed; so many others, turns aside, have not ended yet.
    Doomed(u32),
    /// In the ready heap of its demand.
    Ready,
    /// Started and not ended.
    Running,
    /// Its attempt ended, another one follows later: holds neither slot nor resources.
    Resting,
    Passed,
    /// Itself, or by the root failure that blocks it.
    Failed(NodeIx),
    /// Never started: the schedule was stopped.
    Cancelled,
}

/// A run may have a hundred thousand, and nearly all take the same: that is kept once.
#[derive(Debug)]
struct Node {
    kind: Kind,
    state: State,
    /// Weight of the heaviest chain from this node's start to the end of the graph, in milliseconds; the node's own until it is
    /// leveled.
    level: u64,
}

/// A [`NodeSpec`] without its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Work {
        priority: i32,
        /// What it takes, as a position in [`Schedule::lanes`].
        lane: u32,
    },
    Join,
    Turn,
}

/// Work that takes the same.
#[derive(Debug)]
struct Lane {
    demand: Demand,
    /// What of it is ready, so that one full resource never makes the search walk past its waiters.
    ready: BinaryHeap<Candidate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    priority: i32,
    node: NodeIx,
    level: u64,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |c: &Candidate| (c.priority, c.level, std::cmp::Reverse(c.node));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The schedule of one run.
///
/// Invariant: `running` counts the nodes in `State::Running`, `open` those that have not ended, and `free` is the
/// capacity minus the demand of all running nodes.
#[derive(Debug)]
pub struct Schedule {
    graph: DiGraph<Node, (), u32>,
    fresh: Vec<NodeIx>,
    /// No two have the same demand.
    lanes: Vec<Lane>,
    free: Vec<u32>,
    jobs: usize,
    running: usize,
    open: usize,
    stopped: bool,
}

impl Schedule {
    /// An empty schedule of `jobs` slots (at least 1) and the given units of each resource.
    pub fn new(jobs: usize, capacities: Vec<u32>) -> Self {
        Schedule {
            graph: DiGraph::default(),
            fresh: Vec::new(),
            lanes: Vec::new(),
            free: capacities,
            jobs: jobs.max(1),
            running: 0,
            open: 0,
            stopped: false,
        }
    }

    /// Makes room for that many nodes, each with a join behind it.
    pub fn reserve(&mut self, nodes: usize) {
        self.graph.reserve_nodes(nodes);
        self.graph.reserve_edges(nodes);
    }

    /// Adds a node that waits for `needs`. It takes part from the next [`Schedule::seal`] on.
    pub fn add(&mut self, spec: NodeSpec, needs: &[NodeIx]) -> NodeIx {
        let (kind, level) = match spec {
            NodeSpec::Work { weight_ms, priority, demand } => {
                (Kind::Work { priority, lane: self.lane(demand) }, weight_ms.max(1))
            }
            NodeSpec::Join => (Kind::Join, 0),
            NodeSpec::Turn => (Kind::Turn, 0),
        };
        let node = self.graph.add_node(Node { kind, state: State::Fresh, level });
        for need in needs {
            self.graph.add_edge(need.graph(), node, ());
        }
        let node = NodeIx::at(node.index());
        self.fresh.push(node);
        self.open += 1;
        node
    }

    /// The lane of a demand. There are few, and among thousands of instances it is that of the one before.
    fn lane(&mut self, demand: Demand) -> u32 {
        let at = self.lanes.iter().rposition(|lane| lane.demand == demand).unwrap_or_else(|| {
            self.lanes.push(Lane { demand, ready: BinaryHeap::new() });
            self.lanes.len() - 1
        });
        u32::try_from(at).expect("a plan is bounded far below 2^32 instances")
    }

    /// Makes `dependent` wait for `need`. One of the two has to be of the batch that the next [`Schedule::seal`] lets in:
    /// a new node may need anything, and an old one that waits may get a new need.
    pub fn add_need(&mut self, dependent: NodeIx, need: NodeIx) {
        let is_fresh = |node: NodeIx| self.graph[node.graph()].state == State::Fresh;
        debug_assert!(is_fresh(need) || is_fresh(dependent), "BUG: old nodes get no old needs");
        self.graph.add_edge(need.graph(), dependent.graph(), ());
        let is_turn = self.graph[need.graph()].kind == Kind::Turn;
        match &mut self.graph[dependent.graph()].state {
            State::Waiting(count) => *count += 1,
            State::Doomed(count) => *count += u32::from(!is_turn),
            _ => {}
        }
    }

    /// Lets everything added since the last call take part. What is blocked or joined at once is returned.
    pub fn seal(&mut self) -> Vec<Effect> {
        self.level_fresh();
        let fresh = std::mem::take(&mut self.fresh);
        let mut effects = Vec::new();
        for &node in &fresh {
            let is_turn = self.graph[node.graph()].kind == Kind::Turn;
            let has_failed = |need: NodeIndex| matches!(self.graph[need].state, State::Failed(_));
            self.graph[node.graph()].state = match !is_turn && self.needs(node).any(has_failed) {
                true => State::Doomed(self.undecided(node)),
                false => {
                    let is_over = |need: &NodeIndex| self.graph[*need].state == State::Passed || has_failed(*need);
                    State::Waiting(counted(self.needs(node).filter(|need| !is_over(need))))
                }
            };
        }
        for node in fresh {
            match self.graph[node.graph()].state {
                State::Waiting(0) | State::Doomed(0) => self.ended([node].into(), &mut effects),
                _ => {}
            }
        }
        effects
    }

    /// Starts the best node that has a slot and its resources; `None` when there is none right now.
    pub fn start_next(&mut self) -> Option<NodeIx> {
        if self.stopped || self.running >= self.jobs {
            return None;
        }
        let fits = |lane: &Lane| lane.demand.iter().all(|&(resource, units)| self.free[resource] >= units);
        let best = (0..self.lanes.len())
            .filter(|&at| fits(&self.lanes[at]))
            .filter_map(|at| Some((*self.lanes[at].ready.peek()?, at)))
            .max_by_key(|&(candidate, _)| candidate)
            .map(|(_, at)| at)?;
        let Lane { demand, ready, .. } = &mut self.lanes[best];
        let node = ready.pop().expect("peeked above").node;
        // A fan-out is ready all at once, and its lane is that large only then.
        if ready.len() < ready.capacity() / 4 {
            ready.shrink_to(ready.len() * 2);
        }
        for &(resource, units) in demand.iter() {
            self.free[resource] -= units;
        }
        self.running += 1;
        self.graph[node.graph()].state = State::Running;
        Some(node)
    }

    /// Records the end of a running or resting node and returns, in the order of adding, what else ended with it.
    pub fn finish(&mut self, node: NodeIx, verdict: Verdict) -> Vec<Effect> {
        match self.graph[node.graph()].state {
            State::Running => self.free_slot(node),
            State::Resting => {}
            state => unreachable!("BUG: {node:?} ended while {state:?}"),
        }
        let mut effects = Vec::new();
        match verdict {
            Verdict::Pass => self.conclude(node, State::Passed),
            Verdict::Fail => self.conclude(node, State::Failed(node)),
        }
        let next = self.tell_dependents(node);
        self.ended(next, &mut effects);
        effects
    }

    /// Gives slot and resources of a running node back without ending it: another attempt follows.
    pub fn rest(&mut self, node: NodeIx) {
        assert_eq!(self.graph[node.graph()].state, State::Running, "BUG: only running work rests");
        self.free_slot(node);
        self.graph[node.graph()].state = State::Resting;
    }

    /// Makes a resting node ready again.
    pub fn wake(&mut self, node: NodeIx) {
        assert_eq!(self.graph[node.graph()].state, State::Resting, "BUG: only resting work wakes");
        if self.stopped {
            return;
        }
        self.push_ready(node);
    }

    /// Starts nothing from now on. Every other node that has not started, and every resting one, is cancelled; running ones are
    /// still to be finished, and what a failure keeps from starting is blocked when those are that it needs. Returns what is
    /// blocked by now, and what was cancelled in the order of adding.
    pub fn stop(&mut self) -> (Vec<Effect>, Vec<NodeIx>) {
        self.stopped = true;
        self.lanes.iter_mut().for_each(|lane| lane.ready = BinaryHeap::new());
        let doomed = self.doom_all_behind();
        let has_not_started =
            |state: State| matches!(state, State::Fresh | State::Waiting(_) | State::Ready | State::Resting);
        let (joins, others): (Vec<NodeIndex>, Vec<NodeIndex>) = self
            .graph
            .node_indices()
            .filter(|index| has_not_started(self.graph[*index].state))
            .partition(|index| self.graph[*index].kind == Kind::Join);
        let mut cancelled = Vec::new();
        // What a join stands for may all be running: it ends with that.
        for index in others.into_iter().chain(joins) {
            let node = NodeIx(index.index() as u32);
            let is_cut = |need: NodeIndex| self.graph[need].state == State::Cancelled;
            if self.graph[index].kind != Kind::Join || self.needs(node).any(is_cut) {
                self.conclude(node, State::Cancelled);
                cancelled.push(node);
            }
        }
        cancelled.sort_unstable();
        for &node in &doomed {
            self.graph[node.graph()].state = State::Doomed(self.undecided(node));
        }
        let mut effects = Vec::new();
        let is_decided = |node: &NodeIx| self.graph[node.graph()].state == State::Doomed(0);
        let decided = doomed.into_iter().filter(is_decided).collect();
        self.ended(decided, &mut effects);
        (effects, cancelled)
    }

    /// Dooms what waits for something that is doomed. Returns all that is, in the order of adding.
    fn doom_all_behind(&mut self) -> Vec<NodeIx> {
        let is_doomed = |index: &NodeIndex| matches!(self.graph[*index].state, State::Doomed(_));
        let mut doomed: Vec<NodeIndex> = self.graph.node_indices().filter(is_doomed).collect();
        let mut told = 0;
        while let Some(&node) = doomed.get(told) {
            told += 1;
            for dependent in self.graph.neighbors(node).collect::<Vec<_>>() {
                let Node { kind, state, .. } = &mut self.graph[dependent];
                if matches!(state, State::Waiting(_)) && *kind != Kind::Turn {
                    *state = State::Doomed(1);
                    doomed.push(dependent);
                }
            }
        }
        doomed.sort_unstable();
        doomed.into_iter().map(|index| NodeIx(index.index() as u32)).collect()
    }

    /// Whether every node has ended.
    pub fn is_done(&self) -> bool {
        self.open == 0
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.running
    }

    fn needs(&self, node: NodeIx) -> impl Iterator<Item = NodeIndex> + '_ {
        self.graph.neighbors_directed(node.graph(), Direction::Incoming)
    }

    /// Computes the critical path of the fresh nodes, dependents first. Levels of older nodes stay: their own needs have
    /// already started when a running fan-out adds to the graph.
    fn level_fresh(&mut self) {
        let mut unleveled: BTreeMap<NodeIx, usize> = BTreeMap::new();
        for &node in &self.fresh {
            let fresh_dependents = self.graph.neighbors(node.graph());
            let count = fresh_dependents.filter(|&d| self.graph[d].state == State::Fresh).count();
            unleveled.insert(node, count);
        }
        let mut stack: Vec<NodeIx> = unleveled.iter().filter(|(_, n)| **n == 0).map(|(node, _)| *node).collect();
        while let Some(node) = stack.pop() {
            let behind = self.graph.neighbors(node.graph()).map(|d| self.graph[d].level).max().unwrap_or(0);
            let level = &mut self.graph[node.graph()].level;
            *level = behind.saturating_add(*level);
            for need in self.graph.neighbors_directed(node.graph(), Direction::Incoming) {
                let need = NodeIx(need.index() as u32);
                if let Some(count) = unleveled.get_mut(&need) {
                    *count -= 1;
                    if *count == 0 {
                        stack.push(need);
                    }
                }
            }
        }
    }

    /// How many needs of a node have not ended, turns aside.
    fn undecided(&self, node: NodeIx) -> u32 {
        let is_open = |need: &NodeIndex| {
            let Node { kind, state, .. } = &self.graph[*need];
            *kind != Kind::Turn && !matches!(state, State::Passed | State::Failed(_) | State::Cancelled)
        };
        counted(self.needs(node).filter(is_open))
    }

    /// The failure that a node is blocked by: that of the first need, in the order in which it got them, that failed.
    fn cause(&self, node: NodeIx) -> NodeIx {
        let failed = self.needs(node).filter_map(|need| match self.graph[need].state {
            State::Failed(cause) => Some(cause),
            _ => None,
        });
        // The graph gives the newest first.
        failed.last().expect("BUG: blocked by nothing")
    }

    /// Goes on with nodes whose needs have all ended, and with what ends by that: a join ends, work becomes ready, and what a
    /// failure kept from starting is blocked. What turns let go on comes last, behind all that is blocked.
    fn ended(&mut self, mut nodes: VecDeque<NodeIx>, effects: &mut Vec<Effect>) {
        let mut turns = VecDeque::new();
        while let Some(node) = nodes.pop_front().or_else(|| turns.pop_front()) {
            match (self.graph[node.graph()].state, self.graph[node.graph()].kind) {
                (State::Waiting(0), Kind::Work { .. }) => {
                    if !self.stopped {
                        self.push_ready(node);
                    }
                    continue;
                }
                (State::Waiting(0), kind) => {
                    if kind == Kind::Join {
                        effects.push(Effect::Joined(node));
                    }
                    self.conclude(node, State::Passed);
                }
                (State::Doomed(0), _) => {
                    let cause = self.cause(node);
                    effects.push(Effect::Blocked { node, cause });
                    self.conclude(node, State::Failed(cause));
                }
                // It was gone on with already.
                _ => continue,
            }
            let next = self.tell_dependents(node);
            let is_turn = |next: &NodeIx| self.graph[next.graph()].kind == Kind::Turn;
            let (over, others): (Vec<NodeIx>, Vec<NodeIx>) = next.into_iter().partition(is_turn);
            nodes.extend(others);
            turns.extend(over);
        }
    }

    fn conclude(&mut self, node: NodeIx, end: State) {
        self.open -= 1;
        self.graph[node.graph()].state = end;
    }

    /// Tells what waits for a node that it has ended. Returns, in the order of adding, what waits for nothing more.
    fn tell_dependents(&mut self, node: NodeIx) -> VecDeque<NodeIx> {
        let mut dependents: Vec<NodeIndex> = self.graph.neighbors(node.graph()).collect();
        dependents.sort_unstable();
        let Node { kind, state, .. } = self.graph[node.graph()];
        let (is_turn, has_failed) = (kind == Kind::Turn, state != State::Passed);
        let (mut next, mut doomed) = (VecDeque::new(), None);
        for dependent in dependents {
            // Whoever needs it twice has been told.
            if doomed == Some(dependent) {
                continue;
            }
            let at = NodeIx(dependent.index() as u32);
            let before = self.graph[dependent].state;
            let now = match before {
                State::Waiting(_) if has_failed && self.graph[dependent].kind != Kind::Turn => {
                    State::Doomed(self.undecided(at))
                }
                State::Waiting(count) => State::Waiting(count - 1),
                State::Doomed(count) if !is_turn && count > 0 => State::Doomed(count - 1),
                _ => continue,
            };
            if matches!((before, now), (State::Waiting(_), State::Doomed(_))) {
                doomed = Some(dependent);
            }
            self.graph[dependent].state = now;
            if matches!(now, State::Waiting(0) | State::Doomed(0)) {
                next.push_back(at);
            }
        }
        next
    }

    fn push_ready(&mut self, node: NodeIx) {
        let entry = &mut self.graph[node.graph()];
        let Kind::Work { priority, lane } = entry.kind else { unreachable!("BUG: a join is never ready") };
        entry.state = State::Ready;
        let candidate = Candidate { priority, node, level: entry.level };
        self.lanes[lane as usize].ready.push(candidate);
    }

    fn free_slot(&mut self, node: NodeIx) {
        self.running -= 1;
        if let Kind::Work { lane, .. } = self.graph[node.graph()].kind {
            for &(resource, units) in &self.lanes[lane as usize].demand {
                self.free[resource] += units;
            }
        }
    }
}

fn counted(all: impl Iterator) -> u32 {
    u32::try_from(all.count()).expect("edges are numbered with 32 bits")
}

#[cfg(test)]
mod tests;
