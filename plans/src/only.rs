//! `--only`: some tasks of a plan, with all that they need. What is left is the plan that they alone would be: each of them needs the same
//! as before, in the same order, so its instances have the same names and start from the same trees. It is a part of what the plan says,
//! like `--set`: who reads its sources again leaves out the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Location, nearest};
use crate::ids::{name_matches, task_in};
use crate::plan::{Fan, NeedTarget, Plan, Task, TaskIx};
use crate::validate::direct_needs;

/// Tasks that a mistake names; more are counted by whoever reads the plan.
const NAMES_MAX: usize = 8;

/// Leaves the tasks in a plan that `words` mean (a name, or a pattern in which `*` is anything), all that they need, and what those add
/// while they run. `source` is where the words stand, with a comma between each two.
///
/// # Errors
/// A word that means no task.
pub(crate) fn keep(plan: &mut Plan, words: &[String], source: usize) -> Result<(), Vec<Diagnostic>> {
    let (mut open, mut diagnostics, mut at) = (Vec::new(), Vec::new(), 0);
    for word in words {
        let is_meant = |(_, task): &(usize, &Task)| name_matches(word, &task.name.0);
        let meant: Vec<usize> = plan.tasks.iter().enumerate().filter(is_meant).map(|(task, _)| task).collect();
        if meant.is_empty() {
            diagnostics.push(unknown(plan, word, Location::new(source, at..at + word.len())));
        }
        open.extend(meant);
        at += word.len() + 1;
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let needs = direct_needs(&plan.tasks);
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    while let Some(task) = open.pop() {
        if kept.insert(task) {
            let added = plan.tasks[task].expands.iter().flat_map(|expands| expands.grown.values());
            open.extend(needs[task].iter().chain(added).map(|other| other.index()));
        }
    }
    let places: BTreeMap<TaskIx, TaskIx> =
        kept.iter().zip(0..).map(|(before, now)| (TaskIx(*before as u32), TaskIx(now))).collect();
    let mut place = 0..;
    plan.tasks.retain(|_| place.next().is_some_and(|task| kept.contains(&task)));
    plan.tasks.iter_mut().for_each(|task| rename(task, &places));
    Ok(())
}

/// Gives the tasks that a task names their places in the plan that is left. All of them are.
fn rename(task: &mut Task, places: &BTreeMap<TaskIx, TaskIx>) {
    let needs = task.needs.iter_mut().filter_map(|need| match &mut need.target {
        NeedTarget::Task(task) | NeedTarget::Instances { task, .. } => Some(task),
        NeedTarget::Every => None,
    });
    let items = task.foreach.iter_mut().filter_map(|each| match &mut each.source {
        Fan::Output { task, .. } | Fan::Grown { giver: task } => Some(task),
        Fan::List(_) | Fan::Glob(_) | Fan::Lines(_) => None,
    });
    let added = task.expands.iter_mut().flat_map(|expands| expands.grown.values_mut());
    let giver = task.grown.iter_mut().map(|grown| &mut grown.giver);
    needs.chain(items).chain(added).chain(giver).for_each(|task| *task = places[task]);
}

fn unknown(plan: &Plan, word: &str, at: Location) -> Diagnostic {
    let names = || plan.tasks.iter().map(|task| task.name.0.as_str());
    let diagnostic = Diagnostic::error(at, format!("the plan has no task `{word}`"));
    if word.contains('[') && names().any(|name| name == task_in(word)) {
        return diagnostic.hint(format!("`{}` is a task, which runs with all of its instances", task_in(word)));
    }
    match nearest(word, names()) {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => {
            let first: Vec<&str> = names().take(NAMES_MAX).collect();
            let more = if names().count() > NAMES_MAX { " and others" } else { "" };
            diagnostic.hint(format!("its tasks are {}{more}", first.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::file::{Beside, Parsed, parse_beside};
    use crate::graph::TaskGraph;
    use crate::instance::InstanceIx;

    const PLAN: &str = "version = 1\n\
        [templates.fix]\nrun = 'x'\n\
        [tasks.lint]\nrun = 'x'\n\
        [tasks.list]\nrun = 'x'\noutputs.files = { json = 'f.json' }\n\
        [tasks.build]\nrun = 'x'\nmatrix = { os = ['a', 'b'] }\n\
        [tasks.each]\nneeds = ['list']\nforeach.file = 'needs.list.outputs.files'\nrun = 'x'\n\
        [tasks.test]\nneeds = ['build[os=b]']\nrun = 'x'\n\
        [tasks.split]\nneeds = ['lint']\nrun = 'x'\nexpands = { template = ['fix'], max-tasks = 4 }\n\
        [tasks.all]\nneeds = ['*']\nrun = 'x'\n\
        [tasks.behind]\nneeds = ['all', 'split.fix']\nrun = 'x'\n";

    fn parsed(only: &[&str]) -> Parsed {
        let only: Vec<String> = only.iter().map(|&word| word.to_owned()).collect();
        parse_beside("p", PLAN, Beside { only: &only, ..Beside::default() }, &mut |_| Err(String::new()))
    }

    fn graph(only: &[&str]) -> TaskGraph {
        let parsed = parsed(only);
        TaskGraph::expand(parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))).expect("it expands")
    }

    #[test]
    fn what_is_needed_is_kept_and_nothing_else() {
        let check = |only: &[&str], expected: &[&str]| {
            let graph = graph(only);
            let names: Vec<&str> = graph.plan().tasks.iter().map(|task| task.name.0.as_str()).collect();
            assert_eq!(names, expected, "{only:?}");
        };
        check(&["lint"], &["lint"]);
        check(&["each", "lint"], &["lint", "list", "each"]);
        check(&["l*"], &["lint", "list"]);
        check(&["test"], &["build", "test"]);
        check(&["split"], &["lint", "split", "split.fix"]);
        check(&["split.fix"], &["lint", "split", "split.fix"]);
        let but_behind = ["lint", "list", "build", "each", "test", "split", "all", "split.fix"];
        check(&["all"], &but_behind);
        check(&["behind"], &["lint", "list", "build", "each", "test", "split", "all", "behind", "split.fix"]);
    }

    #[test]
    fn whoever_is_kept_needs_what_it_needed_in_the_whole_plan() {
        let told = |graph: &TaskGraph, task: &str| {
            let task = graph.plan().task_by_name(task).expect("it is kept");
            let name = |ix: &InstanceIx| graph.instance(*ix).id.to_string();
            let needs = |ix: &InstanceIx| {
                graph.needs_of(task, Some(*ix)).into_iter().map(|need| match need {
                    crate::Need::Task(task) => graph.plan().task(task).name.0.clone(),
                    crate::Need::Instance(ix) => name(&ix),
                })
            };
            let instances = graph.task_instances(task);
            let all: Vec<_> = instances.iter().map(|ix| (name(ix), needs(ix).collect::<Vec<_>>())).collect();
            let named = graph.named_needs(task).iter().map(|need| graph.plan().task(*need).name.0.clone());
            (all, named.collect::<Vec<_>>())
        };
        let whole = graph(&[]);
        for only in ["lint", "each", "test", "split", "all", "behind", "split.fix"] {
            let some = graph(&[only]);
            for task in &some.plan().tasks {
                assert_eq!(told(&some, &task.name.0), told(&whole, &task.name.0), "{only}: {}", task.name);
            }
        }
    }

    #[test]
    fn who_looks_at_a_result_looks_at_it_all_the_same() {
        let plan = "version = 1\n[tasks.work]\nrun = 'x'\n[tasks.look]\nagent = { prompt = 'r' }\nreview = ['work']\n";
        let plan = parse_beside("p", plan, Beside { only: &["work".to_owned()], ..Beside::default() }, &mut |_| {
            Err(String::new())
        })
        .plan
        .expect("a plan");
        assert_eq!((plan.tasks.len(), plan.tasks[0].reviewers[0].by.as_str()), (1, "look"));
    }

    #[test]
    fn a_word_that_means_no_task_is_a_mistake() {
        let check = |only: &[&str], expected: &[(&str, &str)]| {
            let Parsed { plan, diagnostics, sources } = parsed(only);
            assert!(plan.is_none());
            let told = diagnostics
                .iter()
                .map(|one| (&sources[one.source].text[one.span.clone()], one.hint.as_deref().unwrap_or_default()));
            assert_eq!(told.collect::<Vec<_>>(), expected, "{only:?}");
        };
        check(
            &["lint", "tset", "zzz"],
            &[
                ("tset", "did you mean `test`?"),
                ("zzz", "its tasks are lint, list, build, each, test, split, all, behind and others"),
            ],
        );
        check(&["build[os=a]"], &[("build[os=a]", "`build` is a task, which runs with all of its instances")]);
        check(&["x*"], &[("x*", "its tasks are lint, list, build, each, test, split, all, behind and others")]);
    }
}
