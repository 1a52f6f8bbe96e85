//! The graph for people: a tree for terminals, DOT and Mermaid for pictures. Needs that follow from others are left out.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::graph::TaskGraph;
use crate::plan::{Fan, Task, TaskIx};

/// A fan-out with more instances than this is shown as a count.
const INSTANCES_SHOWN_MAX: usize = 6;

/// With more tasks than this all needs are shown: leaving out what follows from others costs the square of their number.
const REDUCED_TASKS_MAX: usize = 2_000;

impl TaskGraph {
    /// Each task below the last of its needs, in merge order; other needs stand behind it in words.
    pub fn tree(&self) -> String {
        let order: Vec<TaskIx> = self.knots().into_iter().flatten().collect();
        let needs = self.reduced_needs(&order);
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, task)| place[task.index()] = at);
        let mut children: Vec<Vec<TaskIx>> = vec![Vec::new(); order.len()];
        let mut parents: Vec<Option<TaskIx>> = vec![None; order.len()];
        let mut roots = Vec::new();
        for task in &order {
            let before = needs[task.index()].iter().filter(|need| place[need.index()] < place[task.index()]);
            match before.max_by_key(|need| place[need.index()]) {
                Some(parent) => {
                    children[parent.index()].push(*task);
                    parents[task.index()] = Some(*parent);
                }
                None => roots.push(*task),
            }
        }
        let mut text = String::new();
        let mut open: Vec<(TaskIx, String, String)> =
            roots.into_iter().rev().map(|task| (task, String::new(), String::new())).collect();
        while let Some((task, first, rest)) = open.pop() {
            self.tree_task(&mut text, task, &first, &rest, &also(self, &needs[task.index()], parents[task.index()]));
            let count = children[task.index()].len();
            for (at, child) in children[task.index()].iter().enumerate().rev() {
                let last = at + 1 == count;
                let branch = if last { "└─ " } else { "├─ " };
                let line = if last { "   " } else { "│  " };
                open.push((*child, format!("{rest}{branch}"), format!("{rest}{line}")));
            }
        }
        text
    }

    fn tree_task(&self, text: &mut String, task: TaskIx, first: &str, rest: &str, also: &str) {
        let words = self.group_words(task);
        let _ = writeln!(text, "{first}{}{words}{also}", self.plan().task(task).name);
        let instances = self.task_instances(task);
        if self.plan().task(task).fans_out() && instances.len() <= INSTANCES_SHOWN_MAX {
            for ix in instances {
                let _ = writeln!(text, "{rest}·  {}", self.instance(*ix).id);
            }
        }
    }

    /// ` ×12`, or what a fan-out waits for.
    fn group_words(&self, task: TaskIx) -> String {
        let written = self.plan().task(task);
        if self.is_pending(task) {
            format!(" ×? {}", waits_for(self, written))
        } else if written.fans_out() {
            format!(" ×{}", self.task_instances(task).len())
        } else {
            String::new()
        }
    }

    /// Graphviz's language.
    pub fn dot(&self) -> String {
        let order: Vec<TaskIx> = self.knots().into_iter().flatten().collect();
        let needs = self.reduced_needs(&order);
        let mut text = String::from("digraph plan {\n  rankdir = LR;\n  node [shape = box];\n");
        for (index, task) in self.plan().tasks.iter().enumerate() {
            let _ = writeln!(
                text,
                "  t{index} [label = {:?}];",
                format!("{}{}", task.name, self.group_words(TaskIx(index as u32)))
            );
        }
        for (task, needs) in needs.iter().enumerate() {
            for need in needs {
                let _ = writeln!(text, "  t{} -> t{task};", need.0);
            }
        }
        text.push_str("}\n");
        text
    }

    /// Mermaid's language, as GitHub renders it.
    pub fn mermaid(&self) -> String {
        let order: Vec<TaskIx> = self.knots().into_iter().flatten().collect();
        let needs = self.reduced_needs(&order);
        let mut text = String::from("flowchart LR\n");
        for (index, task) in self.plan().tasks.iter().enumerate() {
            let words = self.group_words(TaskIx(index as u32)).replace('"', "#quot;");
            let _ = writeln!(text, "  t{index}[\"{}{words}\"]", task.name);
        }
        for (task, needs) in needs.iter().enumerate() {
            for need in needs {
                let _ = writeln!(text, "  t{} --> t{task}", need.0);
            }
        }
        text
    }

    /// Each task's needs without those that follow from the others: the transitive reduction. Tasks that name instances of
    /// each other keep all.
    fn reduced_needs(&self, order: &[TaskIx]) -> Vec<Vec<TaskIx>> {
        if order.len() > REDUCED_TASKS_MAX {
            return self.groups.iter().map(|group| group.named.clone()).collect();
        }
        let mut before: Vec<BTreeSet<TaskIx>> = vec![BTreeSet::new(); order.len()];
        let mut reduced = vec![Vec::new(); order.len()];
        for task in order {
            let named = self.named_needs(*task);
            let follows =
                |need: &TaskIx| named.iter().any(|other| other != need && before[other.index()].contains(need));
            reduced[task.index()] = named.iter().copied().filter(|need| need != task && !follows(need)).collect();
            let all: BTreeSet<TaskIx> =
                named.iter().flat_map(|need| before[need.index()].iter().chain([need])).copied().collect();
            before[task.index()] = all;
        }
        reduced
    }
}

/// The needs beside the one under which a task stands.
fn also(graph: &TaskGraph, needs: &[TaskIx], parent: Option<TaskIx>) -> String {
    let others: Vec<&str> = needs
        .iter()
        .filter(|need| Some(**need) != parent)
        .map(|need| graph.plan().task(*need).name.0.as_str())
        .collect();
    if others.is_empty() { String::new() } else { format!("  (after {}, too)", others.join(", ")) }
}

fn waits_for(graph: &TaskGraph, task: &Task) -> String {
    let fed = task.foreach.iter().find(|each| !matches!(each.source, Fan::List(_)));
    match fed.map(|each| (&each.name, &each.source)) {
        Some((name, Fan::Output { task, output })) => {
            format!("for each {name} in {output} of {}", graph.plan().task(*task).name)
        }
        Some((_, Fan::Grown { giver })) => format!("as {} says", graph.plan().task(*giver).name),
        Some((name, Fan::Glob(globs))) => format!("for each {name} in {}", globs.join(", ")),
        Some((name, Fan::Lines(_))) => format!("for each {name} in the lines of a command"),
        Some((_, Fan::List(_))) | None => String::new(),
    }
}
