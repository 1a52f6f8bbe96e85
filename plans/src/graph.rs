//! The expanded graph: every task's instances, what each waits for, and the order in which results are merged. It grows
//! while the run learns what fan-outs wait for, and is a pure value otherwise.
//!
//! Each task has a *group* that stands for all of its instances, so a dependent of a thousand-fold fan-out waits for one
//! thing. Instances become nodes of the inner graph only where some `needs` names single instances.

use std::collections::HashMap;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use crate::cycle;
use crate::diagnostic::Diagnostic;
use crate::expand::{Combination, TooMany, combinations};
use crate::expansion::Item;
use crate::ids::InstanceId;
use crate::instance::{BoundValue, Instance, InstanceIx, stable_hash};
use crate::lower::INSTANCES_MAX;
use crate::merge::Overlap;
use crate::needs::Deferred;
use crate::plan::*;
use crate::turns;
use crate::validate::{cycle_diagnostic, direct_needs};

/// A plan's instances and what they wait for.
#[derive(Debug, Clone)]
pub struct TaskGraph {
    pub(crate) plan: Arc<Plan>,
    pub(crate) instances: Vec<Instance>,
    /// By the hash of the id, or, where that is taken by another id, the next free number. Nothing is ever removed.
    by_id: HashMap<u64, InstanceIx>,
    /// By task.
    pub(crate) groups: Vec<Group>,
    /// Needs on single instances, of those instances that have any.
    pub(crate) selected: HashMap<InstanceIx, Vec<Need>>,
    /// Needs that wait for a fan-out before they can be looked up, by the task that fans out.
    pub(crate) deferred: HashMap<TaskIx, Vec<Deferred>>,
    /// Edges point from the needed to the needing.
    pub(crate) order: DiGraph<Waits, ()>,
    /// The nodes of instances, where they have one.
    pub(crate) nodes: HashMap<InstanceIx, NodeIndex>,
}

/// One task's part of the graph.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub instances: Vec<InstanceIx>,
    pub pending: bool,
    /// Tasks it waits for as a whole, `*` written out, in plan order.
    pub whole: Vec<TaskIx>,
    /// All tasks that it names in any way, in plan order.
    pub named: Vec<TaskIx>,
    /// Whether its instances have nodes of their own.
    pub single: bool,
    pub begin: NodeIndex,
    pub end: NodeIndex,
}

/// What waits, in the inner graph.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waits {
    Begin(TaskIx),
    End(TaskIx),
    Instance(InstanceIx),
}

/// Something that has to be over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// All instances of a task, those that it will still get included.
    Task(TaskIx),
    /// One instance.
    Instance(InstanceIx),
}

/// A fan-out that waits for its items.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The task; its needs have to be over before the items can be had.
    pub task: TaskIx,
    /// Where the items come from; never [`Fan::List`].
    pub source: Fan,
}

/// A place in the merge order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeSlot {
    /// An instance's change.
    Instance(InstanceIx),
    /// Where a task's instances will stand: nothing behind it may land before they are known.
    Awaiting(TaskIx),
}

/// Why a graph did not grow. It is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The caller asked at the wrong time.
    #[error("`{0}` does not wait for items")]
    NotPending(String),
    /// The plan's own bound.
    #[error("`{task}` got {items} items, and its foreach-max is {max}")]
    TooManyItems {
        /// The task.
        task: String,
        /// What came.
        items: usize,
        /// What it allows.
        max: u32,
    },
    /// The bound of an `expands`.
    #[error("`{task}` and what follows from it bring {items} tasks, and its max-tasks is {max}")]
    TooManyTasks {
        /// The task that expands.
        task: String,
        /// What came.
        items: usize,
        /// What it allows.
        max: u32,
    },
    /// The bound of this program.
    #[error("`{task}` would bring the run to more than {INSTANCES_MAX} instances")]
    TooManyInstances {
        /// The task.
        task: String,
    },
    /// Something needs an instance that did not come to be.
    #[error("`{needing}` needs `{needed}`, which does not exist")]
    UnknownInstance {
        /// Who.
        needing: String,
        /// What.
        needed: String,
    },
    /// Instances wait for each other.
    #[error("instances wait for each other: {0}")]
    Cycle(String),
    /// A need's text did not render.
    #[error("a need of `{needing}` did not render: {reason}")]
    Template {
        /// Who.
        needing: String,
        /// What minijinja says.
        reason: String,
    },
}

impl TaskGraph {
    /// Everything that the plan itself says: matrices, lists, and what needs what.
    ///
    /// # Errors
    /// Diagnostics of the plan's sources: too many instances, needs on instances that do not exist, cycles.
    pub fn expand(plan: Arc<Plan>) -> Result<TaskGraph, Vec<Diagnostic>> {
        let mut graph = TaskGraph::empty(plan.clone());
        let mut diagnostics = Vec::new();
        for (index, task) in plan.tasks.iter().enumerate() {
            let ix = TaskIx(index as u32);
            if graph.groups[index].pending {
                continue;
            }
            match combinations(task, None) {
                Ok(all) if graph.instances.len() + all.len() <= INSTANCES_MAX => {
                    graph.add(ix, all);
                }
                Ok(_) | Err(TooMany) => {
                    let message = format!("`{}` brings the plan to more than {INSTANCES_MAX} instances", task.name);
                    diagnostics.push(Diagnostic::error(task.at, message).hint("split the plan, or use foreach-batch"));
                    return Err(diagnostics);
                }
            }
        }
        for task in 0..plan.tasks.len() {
            graph.select_for_task(TaskIx(task as u32), &mut diagnostics);
        }
        // Between whole tasks there is none: the plan was validated.
        if diagnostics.is_empty()
            && graph.groups.iter().any(|group| group.single)
            && let Some(members) = graph.first_cycle()
        {
            diagnostics.push(graph.describe_cycle(&members));
        }
        if plan.merge.overlap == Overlap::Serialize {
            diagnostics.extend(turns::without_order(&graph));
        }
        if diagnostics.is_empty() { Ok(graph) } else { Err(diagnostics) }
    }

    fn empty(plan: Arc<Plan>) -> Self {
        let mut order = DiGraph::with_capacity(plan.tasks.len() * 2, plan.tasks.len() * 2);
        let named = direct_needs(&plan.tasks);
        let selectors = |task: &Task| task.needs.iter().any(|need| matches!(need.target, NeedTarget::Instances { .. }));
        let mut single: Vec<bool> = plan.tasks.iter().map(selectors).collect();
        for need in plan.tasks.iter().flat_map(|task| &task.needs) {
            if let NeedTarget::Instances { task, .. } = need.target {
                single[task.index()] = true;
            }
        }
        for (single, task) in single.iter_mut().zip(&plan.tasks) {
            *single |= task.grown.is_some();
        }
        let mut groups: Vec<Group> = Vec::with_capacity(plan.tasks.len());
        for (index, (task, named)) in plan.tasks.iter().zip(named).enumerate() {
            let ix = TaskIx(index as u32);
            let (begin, end) = (order.add_node(Waits::Begin(ix)), order.add_node(Waits::End(ix)));
            order.add_edge(begin, end, ());
            let pending = task.foreach.iter().any(|each| !matches!(each.source, Fan::List(_)));
            let whole = whole_needs(task, &named);
            groups.push(Group { instances: Vec::new(), pending, whole, named, single: single[index], begin, end });
        }
        for group in &groups {
            for need in &group.whole {
                order.add_edge(groups[need.index()].end, group.begin, ());
            }
        }
        TaskGraph {
            plan,
            instances: Vec::new(),
            by_id: HashMap::new(),
            groups,
            selected: HashMap::new(),
            deferred: HashMap::new(),
            order,
            nodes: HashMap::new(),
        }
    }

    /// Adds instances of a task; ids that are taken get a number.
    fn add(&mut self, task: TaskIx, all: Vec<Combination>) -> Vec<InstanceIx> {
        let name = self.plan.task(task).name.0.clone();
        self.instances.reserve(all.len());
        self.by_id.reserve(all.len());
        let first = self.instances.len();
        let mut repeated: HashMap<String, u32> = HashMap::new();
        for combination in all {
            let mut id = if combination.key.is_empty() { name.clone() } else { format!("{name}[{}]", combination.key) };
            if self.instance_by_id(&id).is_some() {
                let plain = id;
                let count = repeated.entry(plain.clone()).or_insert(1);
                id = loop {
                    *count += 1;
                    let numbered = format!("{}#{count}]", plain.trim_end_matches(']'));
                    if self.instance_by_id(&numbered).is_none() {
                        break numbered;
                    }
                };
            }
            let ix = InstanceIx(self.instances.len() as u32);
            self.remember(&id, ix);
            self.instances.push(Instance { id: InstanceId(id.into()), task, bindings: combination.bindings.into() });
        }
        let added: Vec<InstanceIx> = (first..self.instances.len()).map(|index| InstanceIx(index as u32)).collect();
        let (begin, end) = (self.groups[task.index()].begin, self.groups[task.index()].end);
        if self.groups[task.index()].single {
            for ix in &added {
                let node = self.order.add_node(Waits::Instance(*ix));
                self.order.add_edge(begin, node, ());
                self.order.add_edge(node, end, ());
                self.nodes.insert(*ix, node);
            }
        }
        self.groups[task.index()].instances.extend_from_slice(&added);
        added
    }

    fn remember(&mut self, id: &str, ix: InstanceIx) {
        let mut hash = stable_hash(id);
        while self.by_id.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.by_id.insert(hash, ix);
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// All instances so far; [`InstanceIx`] indexes them, and new ones join at the end.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// The instance of an index.
    pub fn instance(&self, ix: InstanceIx) -> &Instance {
        &self.instances[ix.index()]
    }

    /// The instance of an id.
    pub fn instance_by_id(&self, id: &str) -> Option<InstanceIx> {
        let mut hash = stable_hash(id);
        loop {
            let ix = *self.by_id.get(&hash)?;
            if *self.instances[ix.index()].id.0 == *id {
                return Some(ix);
            }
            hash = hash.wrapping_add(1);
        }
    }

    /// A task's instances so far: matrix first, then items, the last axis running fastest.
    pub fn task_instances(&self, task: TaskIx) -> &[InstanceIx] {
        &self.groups[task.index()].instances
    }

    /// Whether a task still waits for its items.
    pub fn is_pending(&self, task: TaskIx) -> bool {
        self.groups[task.index()].pending
    }

    /// The fan-outs that wait for items, in plan order; of those that get theirs together, the first.
    pub fn pending(&self) -> Vec<Pending> {
        let pending = self.groups.iter().enumerate().filter(|(_, group)| group.pending);
        pending
            .filter(|(index, _)| self.family(TaskIx(*index as u32)).first() == Some(&TaskIx(*index as u32)))
            .filter_map(|(index, _)| {
                let fed = self.plan.tasks[index].foreach.iter().find(|each| !matches!(each.source, Fan::List(_)))?;
                Some(Pending { task: TaskIx(index as u32), source: fed.source.clone() })
            })
            .collect()
    }

    /// The tasks that get their items together with this one, itself among them, in plan order.
    pub fn family(&self, task: TaskIx) -> Vec<TaskIx> {
        let giver = self.plan.task(task).grown.as_ref().and_then(|grown| self.plan.task(grown.giver).expands.as_ref());
        giver.map_or_else(|| vec![task], |expands| expands.grown.values().copied().collect())
    }

    /// The tasks that have to be over before a fan-out's items can be had.
    pub fn items_needs(&self, task: TaskIx) -> Vec<TaskIx> {
        match &self.plan.task(task).grown {
            Some(grown) => vec![grown.giver],
            None => self.groups[task.index()].named.clone(),
        }
    }

    /// Gives a fan-out its items, once, and returns its instances, and those of its family, in the family's order. No items
    /// give no instances: the task is over at once.
    /// Needs of other tasks on instances of this one are looked up now.
    ///
    /// # Errors
    /// See [`ExpandError`]; the graph is unchanged then.
    pub fn supply(&mut self, task: TaskIx, items: Vec<Value>) -> Result<Vec<InstanceIx>, ExpandError> {
        let name = || self.plan.task(task).name.0.clone();
        if !self.groups[task.index()].pending {
            return Err(ExpandError::NotPending(name()));
        }
        let max = self.plan.task(task).foreach_max;
        if items.len() > max as usize {
            return Err(ExpandError::TooManyItems { task: name(), items: items.len(), max });
        }
        let items: Vec<BoundValue> = items.into_iter().map(BoundValue::from).collect();
        let mut all: Vec<(TaskIx, Vec<Combination>)> = Vec::new();
        for member in self.family(task) {
            let its = match &self.plan.task(member).grown {
                Some(grown) => {
                    items.iter().filter(|item| Item::of(&item.json()).template == grown.template).cloned().collect()
                }
                None => items.clone(),
            };
            let too_many = |_| ExpandError::TooManyInstances { task: name() };
            all.push((member, combinations(self.plan.task(member), Some(&its)).map_err(too_many)?));
        }
        let count: usize = all.iter().map(|(_, its)| its.len()).sum();
        if self.instances.len() + count > INSTANCES_MAX {
            return Err(ExpandError::TooManyInstances { task: name() });
        }
        self.bounded_growth(task, count)?;
        // Only needs on single instances can still fail; only then the old state has to be kept.
        let before = self.groups[task.index()].single.then(|| self.clone());
        let mut added = Vec::with_capacity(count);
        for (member, its) in all {
            self.groups[member.index()].pending = false;
            added.extend(self.add(member, its));
        }
        let result = self.select_after_supply(task, &added);
        match (result, before) {
            (Err(error), Some(before)) => {
                *self = before;
                Err(error)
            }
            (Err(error), None) => unreachable!("BUG: a task without single instances failed to grow: {error}"),
            (Ok(()), _) => Ok(added),
        }
    }

    /// What one `expands` adds, directly and through what it added, is held to its `max-tasks`.
    fn bounded_growth(&self, task: TaskIx, more: usize) -> Result<(), ExpandError> {
        let root = |mut task: TaskIx| {
            while let Some(grown) = &self.plan.task(task).grown {
                task = grown.giver;
            }
            task
        };
        let origin = root(task);
        let Some(expands) = self.plan.task(task).grown.as_ref().and(self.plan.task(origin).expands.as_ref()) else {
            return Ok(());
        };
        let of_origin = |task: &TaskIx| self.plan.task(*task).grown.is_some() && root(*task) == origin;
        let all = (0..self.groups.len()).map(|at| TaskIx(at as u32)).filter(of_origin);
        let items = more + all.map(|task| self.groups[task.index()].instances.len()).sum::<usize>();
        if items > expands.max_tasks as usize {
            let task = self.plan.task(origin).name.0.clone();
            return Err(ExpandError::TooManyTasks { task, items, max: expands.max_tasks });
        }
        Ok(())
    }

    /// What a task (`None`: before its items can be had and its instances begin) or one of its instances waits for, in
    /// plan order, without doubles. A need on an instance that a fan-out has not made yet is shown as a need on that task,
    /// and as the instance once it is there.
    pub fn needs_of(&self, task: TaskIx, instance: Option<InstanceIx>) -> Vec<Need> {
        let group = &self.groups[task.index()];
        let mut needs: Vec<Need> = group.whole.iter().copied().map(Need::Task).collect();
        match instance {
            Some(ix) => {
                needs.extend(self.selected.get(&ix).into_iter().flatten().copied());
                let waiting = group.named.iter().filter_map(|named| Some((*named, self.deferred.get(named)?)));
                needs.extend(
                    waiting
                        .filter(|(_, all)| all.iter().any(|one| one.instance == ix))
                        .map(|(named, _)| Need::Task(named)),
                );
            }
            None if group.pending => {
                needs.extend(self.items_needs(task).into_iter().filter(|named| *named != task).map(Need::Task));
            }
            None => {}
        }
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// All tasks that a task names in its `needs`, `*` written out, in plan order.
    pub fn named_needs(&self, task: TaskIx) -> &[TaskIx] {
        &self.groups[task.index()].named
    }

    pub(crate) fn first_cycle(&self) -> Option<Vec<Waits>> {
        let cycle = cycle::cycles(&self.order).into_iter().next()?;
        Some(cycle.into_iter().map(|node| self.order[node]).collect())
    }

    /// A cycle's instances and tasks, first and last the same.
    pub(crate) fn cycle_words(&self, members: &[Waits]) -> String {
        let mut words: Vec<&str> = Vec::new();
        for member in members {
            let word = match member {
                Waits::Instance(ix) => self.instance(*ix).id.0.as_ref(),
                Waits::Begin(task) | Waits::End(task) => self.plan.task(*task).name.0.as_str(),
            };
            // A group's instance says more than the group that it passes through.
            if words.last() != Some(&word) {
                words.push(word);
            }
        }
        if words.len() > 1 && words.first() == words.last() {
            words.pop();
        }
        words.extend(words.first().copied());
        words.join(" -> ")
    }

    fn describe_cycle(&self, members: &[Waits]) -> Diagnostic {
        let mut tasks: Vec<TaskIx> = members
            .iter()
            .map(|member| match member {
                Waits::Begin(task) | Waits::End(task) => *task,
                Waits::Instance(ix) => self.instance(*ix).task,
            })
            .collect();
        tasks.dedup();
        if tasks.len() > 1 && tasks.first() == tasks.last() {
            tasks.pop();
        }
        let mut diagnostic = cycle_diagnostic(&self.plan, &tasks);
        diagnostic.message = format!("tasks wait for each other: {}", self.cycle_words(members));
        diagnostic
    }
}

/// The tasks that a task waits for with all their instances.
fn whole_needs(task: &Task, named: &[TaskIx]) -> Vec<TaskIx> {
    if task.needs.iter().any(|need| matches!(need.target, NeedTarget::Every)) {
        return named.to_vec();
    }
    let mut whole: Vec<TaskIx> = task
        .needs
        .iter()
        .filter_map(|need| match need.target {
            NeedTarget::Task(task) => Some(task),
            NeedTarget::Instances { .. } | NeedTarget::Every => None,
        })
        .collect();
    whole.sort_unstable();
    whole
}
