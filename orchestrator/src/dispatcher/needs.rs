//! What an instance gets from its needs: their results and outputs for templates, their changes for its worktree, their
//! artifacts. Computed once for each distinct list of needs when all of them have ended, and anew when one ran again. Those that an instance only comes
//! after ([`super::core::turns`]) hand on their changes and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use swarm_plans::expansion;
use swarm_plans::{InstanceId, InstanceIx, Need, TaskGraph, TaskIx};

use super::core::InstanceState;
use super::core::turns::Before;
use super::kept::Outputs;
use crate::event::{ChangeSummary, InstanceResult};
use crate::ids::Attempt;

/// What one list of needs hands on.
#[derive(Debug, Clone, Default)]
pub struct NeedsView {
    /// `{task: {result, outputs, instances: {id: {result, outputs}}}}` of the direct needs: `needs` in templates.
    pub json: Value,
    /// The changes of all that passed among its transitive needs and those before it in turn, in merge order.
    pub changes: Vec<(InstanceIx, ChangeSummary)>,
    /// Those of `changes` that it does not need, but comes after.
    pub comes_after: HashSet<InstanceIx>,
    /// Direct needs and the attempt whose artifacts count, in graph order.
    pub artifacts: Vec<(InstanceId, Attempt)>,
}

impl NeedsView {
    /// The same without the changes of those that it only comes after.
    pub fn without_turns(self: &Arc<Self>) -> Arc<Self> {
        if self.comes_after.is_empty() {
            return Arc::clone(self);
        }
        let is_needed = |(ix, _): &&(InstanceIx, ChangeSummary)| !self.comes_after.contains(ix);
        let changes = self.changes.iter().filter(is_needed).cloned().collect();
        Arc::new(NeedsView { changes, comes_after: HashSet::new(), ..NeedsView::clone(self) })
    }
}

/// Views by list of needs.
#[derive(Debug, Default)]
pub struct Views {
    known: HashMap<Vec<Need>, Arc<NeedsView>>,
}

impl Views {
    /// Says that what an instance hands on is no longer what it was.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The view of an instance whose needs have all ended. `rank` orders tasks as the merge order does, `before` says whom
    /// each instance comes directly after.
    pub fn of(
        &mut self,
        graph: &TaskGraph,
        states: &[InstanceState],
        (rank, before): (&[u32], &Before),
        ix: InstanceIx,
    ) -> Arc<NeedsView> {
        let needs = graph.needs_of(graph.instance(ix).task, Some(ix));
        let turn = before.of(ix);
        if !turn.is_empty() {
            // Nobody else has the same place.
            return Arc::new(view(graph, states, (rank, before), &needs, turn));
        }
        if let Some(view) = self.known.get(&needs) {
            return Arc::clone(view);
        }
        let view = Arc::new(view(graph, states, (rank, before), &needs, &[]));
        self.known.insert(needs, Arc::clone(&view));
        view
    }
}

/// The instances that a list of needs names.
pub fn direct(graph: &TaskGraph, needs: &[Need]) -> Vec<InstanceIx> {
    needs
        .iter()
        .flat_map(|need| match *need {
            Need::Task(task) => graph.task_instances(task).to_vec(),
            Need::Instance(ix) => vec![ix],
        })
        .collect()
}

fn view(
    graph: &TaskGraph,
    states: &[InstanceState],
    (rank, before): (&[u32], &Before),
    needs: &[Need],
    turn: &[InstanceIx],
) -> NeedsView {
    let mut direct: BTreeMap<TaskIx, Vec<InstanceIx>> = BTreeMap::new();
    for need in needs {
        match *need {
            Need::Task(task) => direct.entry(task).or_default().extend(graph.task_instances(task)),
            Need::Instance(ix) => direct.entry(graph.instance(ix).task).or_default().push(ix),
        }
    }
    let mut json = Map::new();
    let mut artifacts = Vec::new();
    for (task, instances) in &mut direct {
        instances.sort_unstable();
        instances.dedup();
        json.insert(graph.plan().task(*task).name.0.clone(), task_json(graph, states, *task, instances));
        for &ix in instances.iter() {
            let state = &states[ix.index()];
            if state.result.is_some_and(InstanceResult::passed) {
                artifacts.push((graph.instance(ix).id.clone(), Attempt(state.gave)));
            }
        }
    }
    // Whether something passed never changes again, whatever is tried once more.
    let passed = |ix: InstanceIx| states[ix.index()].result.is_some_and(InstanceResult::passed);
    let needed = transitive(graph, &Before::default(), (needs.to_vec(), &[]), &passed);
    let mut all: Vec<InstanceIx> = transitive(graph, before, (needs.to_vec(), turn), &passed).into_iter().collect();
    // Numbers of instances compare within a task only: across tasks they follow the order in which fan-outs got their items.
    all.sort_unstable_by_key(|ix| (rank[graph.instance(*ix).task.index()], graph.instance(*ix).task, *ix));
    let comes_after = all.iter().copied().filter(|ix| !needed.contains(ix)).collect();
    NeedsView { json: Value::Object(json), changes: changes(states, all), comes_after, artifacts }
}

fn task_json(graph: &TaskGraph, states: &[InstanceState], task: TaskIx, instances: &[InstanceIx]) -> Value {
    let mut by_id = Map::new();
    for &ix in instances {
        let state = &states[ix.index()];
        let result = state.result.map_or("lost", InstanceResult::name);
        by_id.insert(graph.instance(ix).id.to_string(), json!({"result": result, "outputs": state.outputs}));
    }
    let results: Vec<InstanceResult> = instances.iter().filter_map(|ix| states[ix.index()].result).collect();
    let outputs = task_outputs(graph, states, task, instances);
    json!({"result": combined(&results).name(), "outputs": outputs, "instances": by_id})
}

/// One output of a task, as `needs` shows it; `None` when no instance gave it.
pub fn output(graph: &TaskGraph, states: &[InstanceState], task: TaskIx, name: &str) -> Option<Value> {
    let instances = graph.task_instances(task);
    let mut all = task_outputs(graph, states, task, instances);
    all.remove(name)
}

/// The tasks that a task with `expands` adds: the lists of its instances that passed, in their order. One that failed adds nothing,
/// whatever it had handed over by then and whoever goes on all the same.
pub fn new_tasks(graph: &TaskGraph, states: &[InstanceState], giver: TaskIx) -> Vec<Value> {
    let entries = |ix: &InstanceIx| {
        let (giver, state) = (&graph.instance(*ix).id.0, &states[ix.index()]);
        let passed = state.result.is_some_and(InstanceResult::passed);
        let list = state.outputs.get(expansion::OUTPUT).and_then(Value::as_array).filter(|_| passed);
        list.into_iter().flatten().map(|entry| expansion::of_giver(entry.clone(), giver)).collect::<Vec<_>>()
    };
    graph.task_instances(giver).iter().flat_map(entries).collect()
}

fn task_outputs(
    graph: &TaskGraph,
    states: &[InstanceState],
    task: TaskIx,
    instances: &[InstanceIx],
) -> Map<String, Value> {
    match instances {
        [only] if !graph.plan().task(task).fans_out() => states[only.index()].outputs.to_map(),
        _ => gathered(instances.iter().map(|ix| &states[ix.index()].outputs)),
    }
}

/// The outputs of a fan-out by name: lists are joined, other values become a list, in instance order.
fn gathered<'a>(all: impl Iterator<Item = &'a Outputs>) -> Map<String, Value> {
    let mut gathered: Map<String, Value> = Map::new();
    for outputs in all {
        for (name, value) in outputs.iter() {
            let entry = gathered.entry(name.clone()).or_insert_with(|| Value::Array(vec![]));
            let Value::Array(list) = entry else { unreachable!("BUG: only lists are inserted") };
            match value {
                Value::Array(items) => list.extend(items.iter().cloned()),
                single => list.push(single.clone()),
            }
        }
    }
    gathered
}

/// One result for several: theirs when they agree, `succeeded` when all passed, else the gravest.
fn combined(results: &[InstanceResult]) -> InstanceResult {
    use InstanceResult::*;
    if let Some(first) = results.first()
        && results.iter().all(|result| result == first)
    {
        return *first;
    }
    let gravest = [Violation, Failed, TimedOut, Blocked, Cancelled, Lost];
    gravest.into_iter().find(|grave| results.contains(grave)).unwrap_or(Succeeded)
}

/// A list of needs, and those before it in turn, with all that those need or come after, in no order. One that is only before it
/// hands on what it needed if it `counts`, and whatever was before itself: what failed or never started leaves nothing to stand
/// on, and not all that it needs may have ended.
pub fn transitive(
    graph: &TaskGraph,
    before: &Before,
    (needs, turn): (Vec<Need>, &[InstanceIx]),
    counts: &dyn Fn(InstanceIx) -> bool,
) -> HashSet<InstanceIx> {
    let mut open: Vec<(Need, Reached)> = needs.into_iter().map(|need| (need, Reached::AsNeed)).collect();
    open.extend(turn.iter().map(|ix| (Need::Instance(*ix), Reached::InTurn)));
    let mut tasks: HashSet<TaskIx> = HashSet::new();
    let (mut all, mut asked) = (HashSet::new(), HashSet::new());
    let mut walked = HashSet::new();
    while let Some((need, reached)) = open.pop() {
        let instances = match need {
            Need::Task(task) if tasks.insert(task) => graph.task_instances(task).to_vec(),
            Need::Task(_) => continue,
            Need::Instance(ix) => vec![ix],
        };
        for ix in instances {
            let how = match reached {
                Reached::AsNeed if before.saw_all(ix) => Reached::InTurn,
                Reached::AsNeed => Reached::Before(ix),
                reached => reached,
            };
            if walked.insert((ix, how)) {
                open.extend(before.of(ix).iter().map(|earlier| (Need::Instance(*earlier), how)));
            }
            if matches!(how, Reached::Before(need) if !before.saw(need, ix)) {
                continue;
            }
            all.insert(ix);
            if (reached == Reached::AsNeed || counts(ix)) && asked.insert(ix) {
                let needs = graph.needs_of(graph.instance(ix).task, Some(ix));
                open.extend(needs.into_iter().map(|need| (need, Reached::AsNeed)));
            }
        }
    }
    all
}

/// How one instance leads to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reached {
    /// It is needed.
    AsNeed,
    /// It is before it in turn, and has been waited for.
    InTurn,
    /// It was before this one, which is needed: it counts if that one waited for it.
    Before(InstanceIx),
}

/// The changes of those that passed.
fn changes(states: &[InstanceState], all: Vec<InstanceIx>) -> Vec<(InstanceIx, ChangeSummary)> {
    let change = |ix: InstanceIx| {
        let state = &states[ix.index()];
        let passed = state.result.is_some_and(InstanceResult::passed);
        let change = state.change.as_ref().filter(|change| passed && change.changes_anything())?;
        Some((ix, ChangeSummary::clone(change)))
    };
    all.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_results_become_one() {
        use InstanceResult::*;
        assert_eq!(combined(&[]), Succeeded);
        assert_eq!(combined(&[Skipped, Skipped]), Skipped);
        assert_eq!(combined(&[Succeeded, Flaky]), Succeeded);
        assert_eq!(combined(&[Succeeded, Failed, Skipped]), Failed);
    }

    #[test]
    fn the_words_of_plans_are_the_results() {
        use InstanceResult::*;
        let results = [Succeeded, Flaky, Failed, TimedOut, Violation, Cancelled, Skipped, Blocked, Lost];
        assert_eq!(results.map(InstanceResult::name), swarm_plans::result_words::RESULTS);
    }

    #[test]
    fn outputs_of_a_fan_out_become_lists() {
        let outputs = |value: Value| Map::from_iter([("x".to_owned(), value)]);
        let all = [outputs(json!(1)), outputs(json!([2, 3])), Map::new()].map(Outputs::from);
        assert_eq!(Value::Object(gathered(all.iter())), json!({"x": [1, 2, 3]}));
    }
}
