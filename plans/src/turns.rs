//! Which instances take turns under `overlap = "serialize"`: whoever may change the same path as an earlier one waits for it.
//! Instances and their scopes come in as the graph grows; who waits for whom goes out. Pure.
//!
//! *The order* is that in which results are merged: depth in the graph, then the plan, then the instance. Every need points
//! the same way, so waiting never makes a circle. Where it could (tasks that name single instances of each other), the plan
//! is refused. The tasks of one `expands` stand together, ordered among themselves by what their entries need.
//!
//! *Few edges.* Instances with equal scopes form a group, and a group that changes anything meets itself, so it is a chain:
//! whoever comes behind some of a group waits for the last of them only. Groups whose globs begin differently are never
//! compared.
//!
//! *What is not known yet.* A scope that only the run knows (values of needs) meets everything. An instance behind a fan-out
//! without items waits until those are known, and for those of them that it meets then. So who waits for whom follows from
//! the plan and the outputs, never from what was quicker.
//!
//! Each instance starts from the results of all that it waited for, so the lists of changes behind a chain grow with the
//! square of its length: for tens or hundreds of tasks on one file, not for a hundred thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::diagnostic::Diagnostic;
use crate::graph::{Need, TaskGraph};
use crate::instance::InstanceIx;
use crate::plan::TaskIx;
use crate::scope::{Scope, Sense};

/// Pairs of different scopes that are compared at most; scopes that come behind that are taken to meet everything.
const PAIRS_MAX: usize = 200_000;
/// Pairs of their globs, as far as these have to be read together.
const COMPARED_MAX: u64 = 150_000;

/// Somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Who.
    pub later: InstanceIx,
    /// For what.
    pub earlier: Earlier,
}

/// What somebody waits for; however it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// The end of an instance, and of all that this one waits for.
    Instance(InstanceIx),
    /// The items of a fan-out, and of all fan-outs before it.
    Items(TaskIx),
}

/// A place in the order; fields compare in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    level: u32,
    /// The first task of its family.
    family: u32,
    /// How deep its entry's needs within the family go.
    depth: u32,
    task: u32,
    instance: InstanceIx,
}

/// Instances with equal scopes.
#[derive(Debug)]
struct Group {
    scope: Scope,
    members: BTreeSet<Turn>,
    /// The groups that it meets, itself among them.
    meets: BTreeSet<usize>,
}

/// All that take turns so far.
#[derive(Debug)]
pub struct Turns {
    levels: Vec<u32>,
    groups: Vec<Group>,
    /// Groups by their globs.
    known: HashMap<Option<Vec<String>>, usize>,
    /// Groups by the beginnings of their globs.
    beginnings: BTreeMap<String, BTreeSet<usize>>,
    compared: usize,
    globs_compared: u64,
    /// Fan-outs that had no items at the start, by their place in the order.
    fans: BTreeMap<(u32, u32), TaskIx>,
}

impl Turns {
    /// Nobody yet. `graph` is as the plan alone gives it.
    pub fn new(graph: &TaskGraph) -> Self {
        let levels = graph.levels();
        let changes = |task: &TaskIx| graph.plan().task(*task).writes.as_ref().is_none_or(|globs| !globs.is_empty());
        let pending = graph.pending().into_iter().map(|pending| pending.task);
        let pending = pending.filter(|task| graph.family(*task).iter().any(changes));
        let fans = pending.map(|task| ((levels[task.index()], first_of_family(graph, task)), task)).collect();
        Turns {
            levels,
            groups: vec![],
            known: HashMap::new(),
            beginnings: BTreeMap::new(),
            compared: 0,
            globs_compared: 0,
            fans,
        }
    }

    /// The fan-outs that [`Earlier::Items`] names, in order.
    pub fn fans(&self) -> impl Iterator<Item = TaskIx> {
        self.fans.values().copied()
    }

    /// Takes instances in, and says who waits for whom because of them.
    pub fn join(&mut self, graph: &TaskGraph, added: &[InstanceIx]) -> Vec<Wait> {
        let mut turns: Vec<Turn> = added.iter().map(|ix| self.turn(graph, *ix)).collect();
        turns.sort_unstable();
        let mut waits = Vec::new();
        for turn in turns {
            let later = turn.instance;
            let Some(own) = self.group_of(graph, later) else { continue };
            let before = self.fans.range(..(turn.level, turn.family)).next_back();
            waits.extend(before.map(|(_, task)| Wait { later, earlier: Earlier::Items(*task) }));
            for group in self.groups[own].meets.iter().map(|at| &self.groups[*at]) {
                let before = group.members.range(..turn).next_back();
                waits.extend(before.map(|it| Wait { later, earlier: Earlier::Instance(it.instance) }));
                let behind = group.members.range(turn..).next();
                waits.extend(behind.map(|it| Wait { later: it.instance, earlier: Earlier::Instance(later) }));
            }
            self.groups[own].members.insert(turn);
        }
        waits
    }

    fn turn(&self, graph: &TaskGraph, ix: InstanceIx) -> Turn {
        let task = graph.instance(ix).task;
        let depth = if graph.plan().task(task).grown.is_some() { depth(graph, ix) } else { 0 };
        Turn {
            level: self.levels[task.index()],
            family: first_of_family(graph, task),
            depth,
            task: task.0,
            instance: ix,
        }
    }

    /// The group of an instance; `None` when it changes nothing.
    fn group_of(&mut self, graph: &TaskGraph, ix: InstanceIx) -> Option<usize> {
        let mut globs = graph.writes_before(ix).unwrap_or_default();
        if globs.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        if (self.compared > PAIRS_MAX || self.globs_compared > COMPARED_MAX) && !self.known.contains_key(&globs) {
            globs = None;
        }
        if let Some(known) = self.known.get(&globs) {
            return Some(*known);
        }
        let scope = Scope::new(globs.as_deref());
        let (at, candidates) = (self.groups.len(), self.candidates(&scope));
        self.compared += candidates.len();
        let (groups, compared) = (&self.groups, &mut self.globs_compared);
        let meeting =
            candidates.into_iter().filter(|other| scope.meets(&groups[*other].scope, Sense::Alike, compared).is_some());
        let meets: BTreeSet<usize> = meeting.chain([at]).collect();
        for other in meets.iter().filter(|other| **other != at) {
            self.groups[*other].meets.insert(at);
        }
        for beginning in scope.beginnings() {
            self.beginnings.entry(beginning).or_default().insert(at);
        }
        self.groups.push(Group { scope, members: BTreeSet::new(), meets });
        self.known.insert(globs, at);
        Some(at)
    }

    /// Groups of which some glob may begin as one of the scope's does.
    fn candidates(&self, scope: &Scope) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for beginning in scope.beginnings() {
            let shorter = (0..beginning.len()).filter(|end| beginning.is_char_boundary(*end));
            found.extend(shorter.filter_map(|end| self.beginnings.get(&beginning[..end])).flatten());
            let longer = self.beginnings.range(beginning.clone()..);
            found.extend(
                longer.take_while(|(other, _)| other.starts_with(beginning.as_str())).flat_map(|(_, groups)| groups),
            );
        }
        found
    }
}

fn first_of_family(graph: &TaskGraph, task: TaskIx) -> u32 {
    graph.family(task).first().map_or(task.0, |first| first.0)
}

/// The longest chain of entries of one `expands` that an instance waits for. Their needs have no circle.
fn depth(graph: &TaskGraph, ix: InstanceIx) -> u32 {
    let family = graph.family(graph.instance(ix).task);
    let mut deepest = 0;
    let mut open = vec![(ix, 0)];
    let mut seen: HashMap<InstanceIx, u32> = HashMap::new();
    while let Some((at, depth)) = open.pop() {
        deepest = deepest.max(depth);
        for need in graph.needs_of(graph.instance(at).task, Some(at)) {
            let Need::Instance(need) = need else { continue };
            let is_deeper = seen.get(&need).is_none_or(|known| *known < depth + 1);
            if is_deeper && family.contains(&graph.instance(need).task) {
                seen.insert(need, depth + 1);
                open.push((need, depth + 1));
            }
        }
    }
    deepest
}

/// What is wrong with a plan whose tasks are to take turns: tasks that name single instances of each other have no order.
pub(crate) fn without_order(graph: &TaskGraph) -> Option<Diagnostic> {
    let levels = graph.levels();
    let is_level =
        |task: &TaskIx| graph.named_needs(*task).iter().any(|need| levels[need.index()] == levels[task.index()]);
    let task = (0..levels.len()).map(|at| TaskIx(at as u32)).find(is_level)?;
    let task = graph.plan().task(task);
    let message = format!(
        "`{}` and what it needs name single instances of each other, which have no order to take turns in",
        task.name
    );
    Some(
        Diagnostic::error(task.at, message)
            .hint("split the task in two, or leave out `overlap = \"serialize\"` of [merge]"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(tasks: &str) -> Result<TaskGraph, Vec<Diagnostic>> {
        let text = format!("version = 1\nmerge.overlap = 'serialize'\n{tasks}");
        let parsed = crate::parse("p.toml", &text, &[], &mut |_| Err(String::new()));
        TaskGraph::expand(parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics)))
    }

    fn shown(graph: &TaskGraph, waits: &[Wait]) -> Vec<String> {
        let name = |ix: InstanceIx| graph.instance(ix).id.to_string();
        let earlier = |wait: &Wait| match wait.earlier {
            Earlier::Instance(ix) => name(ix),
            Earlier::Items(task) => format!("{}…", graph.plan().task(task).name),
        };
        waits.iter().map(|wait| format!("{} < {}", earlier(wait), name(wait.later))).collect()
    }

    fn all(graph: &TaskGraph) -> Vec<InstanceIx> {
        (0..graph.instances().len()).map(|at| InstanceIx(at as u32)).collect()
    }

    fn waits(tasks: &str) -> Vec<String> {
        let graph = graph(tasks).expect("it expands");
        let waits = Turns::new(&graph).join(&graph, &all(&graph));
        shown(&graph, &waits)
    }

    #[test]
    fn whoever_meets_an_earlier_one_waits_for_the_last_of_its_group() {
        let task = |name: &str, glob: &str| format!("[tasks.{name}]\nrun = 'x'\nwrites = ['{glob}']\n");
        let plan = [("a", "x/**"), ("b", "x/**"), ("c", "y/**"), ("d", "**/z"), ("e", "x/**")];
        let plan: String = plan.iter().map(|(name, glob)| task(name, glob)).collect();
        assert_eq!(waits(&plan), ["a < b", "b < d", "c < d", "b < e", "d < e"]);
    }

    #[test]
    fn scopes_that_are_disjoint_or_empty_wait_for_nobody() {
        let plan =
            "[tasks.a]\nrun = 'x'\nforeach.n = [1, 2]\nwrites = ['d{{ n }}/**']\n[tasks.b]\nrun = 'x'\nwrites = []\n";
        assert_eq!(waits(plan), Vec::<String>::new());
        assert_eq!(waits("[tasks.a]\nrun = 'x'\nforeach.n = [1, 2, 3]\n"), ["a[n=1] < a[n=2]", "a[n=2] < a[n=3]"]);
    }

    #[test]
    fn depth_comes_before_the_plan() {
        let plan = "[tasks.a]\nneeds = ['c']\nrun = 'x'\n[tasks.b]\nrun = 'x'\n[tasks.c]\nrun = 'x'\n";
        assert_eq!(waits(plan), ["b < c", "c < a"]);
    }

    #[test]
    fn what_stands_behind_a_fan_out_waits_for_its_items_and_then_for_those_that_it_meets() {
        let plan = "[tasks.l]\nrun = 'x'\nwrites = []\noutputs.all = { json = 'a' }\n\
                    [tasks.f]\nneeds = ['l']\nrun = 'x'\nforeach.n = 'needs.l.outputs.all'\nwrites = ['{{ n }}/**']\n\
                    [tasks.z]\nneeds = ['l']\nrun = 'x'\nwrites = ['b/**']\n[tasks.y]\nrun = 'x'\nwrites = ['b/*']\n";
        let mut graph = graph(plan).expect("it expands");
        let mut turns = Turns::new(&graph);
        let waits = turns.join(&graph, &all(&graph));
        assert_eq!(shown(&graph, &waits), ["f… < z", "y < z"]);
        let added = graph.supply(TaskIx(1), vec!["a".into(), "b".into()]).expect("two items");
        let waits = turns.join(&graph, &added);
        assert_eq!(shown(&graph, &waits), ["y < f[n=b]", "f[n=b] < z"]);
    }

    #[test]
    fn tasks_that_name_instances_of_each_other_have_no_order() {
        let plan = "[tasks.a]\nmatrix.n = ['1', '2']\nneeds = ['b[n=1]']\nrun = 'x'\n\
                    [tasks.b]\nmatrix.n = ['1', '2']\nrun = 'x'\n";
        assert!(graph(plan).is_ok());
        let crosswise = "[tasks.a]\nmatrix.n = ['1', '2']\nmatrix.m = ['1']\nneeds = ['a[n=1,m=1]']\nrun = 'x'\n";
        assert!(graph(crosswise).is_err());
    }

    #[test]
    fn added_tasks_are_ordered_by_what_their_entries_need() {
        let plan = "[templates.p]\nrun = 'x'\n[templates.q]\nrun = 'x'\n\
                    [tasks.s]\nrun = 'x'\nwrites = []\nexpands = { template = ['p', 'q'] }\n";
        let mut graph = graph(plan).expect("it expands");
        let mut turns = Turns::new(&graph);
        assert_eq!(turns.join(&graph, &all(&graph)), []);
        let entry = |template: &str, name: &str, needs: &[&str]| serde_json::json!({"template": template, "name": name, "needs": needs, "by": "s"});
        let list = vec![entry("q", "a", &[]), entry("p", "b", &["a"]), entry("p", "c", &[])];
        let added = graph.supply(TaskIx(1), list).expect("three entries");
        let waits = turns.join(&graph, &added);
        assert_eq!(shown(&graph, &waits), ["s.p[task=c] < s.q[task=a]", "s.q[task=a] < s.p[task=b]"]);
    }
}
