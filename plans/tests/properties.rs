//! What holds for every plan: reading never panics, and a graph is acyclic, bounded, has unique ids, and is the same each time.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use swarm_plans::{INSTANCES_MAX, InstanceIx, MergeSlot, Need, Parsed, TaskGraph, parse};

fn read(text: &str) -> Parsed {
    parse("plan.toml", text, &[], &mut |_| Err("none".to_owned()))
}

/// Plans that are often valid: tasks that need earlier ones, or any, with matrices and lists.
fn plans() -> impl Strategy<Value = String> {
    let values = || proptest::collection::vec("[ab1 ,=\\[\\]]{0,3}", 1..4);
    let task = (values(), values(), proptest::collection::vec((0_usize..6, 0_u8..8), 0..3), 0_u8..4);
    proptest::collection::vec(task, 1..6).prop_map(|tasks| {
        let mut text = String::from("version = 1\n");
        for (index, (axis, list, needs, shape)) in tasks.iter().enumerate() {
            let needs: HashSet<String> = needs
                .iter()
                .map(|(need, odd)| match odd {
                    // Mostly backwards, so that most graphs have no cycle.
                    0 => format!("t{need}"),
                    1 => "*".to_owned(),
                    2 => format!("t{}[x=a]", need % (index + 1)),
                    _ => format!("t{}", need % (index.max(1))),
                })
                .collect();
            let mut axis = axis.clone();
            axis.sort();
            axis.dedup();
            text.push_str(
                &format!("[tasks.t{index}]\nrun = 'x'\nneeds = {needs:?}\n").replace('{', "[").replace('}', "]"),
            );
            if shape & 1 == 1 {
                text.push_str(&format!("matrix = {{ x = {axis:?} }}\n"));
            }
            if shape & 2 == 2 {
                text.push_str(&format!("foreach.y = {list:?}\n"));
            }
        }
        text
    })
}

/// Follows every need from every instance; a cycle would never end, so each is visited once and its depth remembered.
fn depth(
    graph: &TaskGraph,
    ix: InstanceIx,
    open: &mut HashSet<InstanceIx>,
    known: &mut HashMap<InstanceIx, usize>,
) -> usize {
    if let Some(depth) = known.get(&ix) {
        return *depth;
    }
    assert!(open.insert(ix), "a cycle through {}", graph.instance(ix).id);
    let mut deepest = 0;
    for need in graph.needs_of(graph.instance(ix).task, Some(ix)) {
        let needed = match need {
            Need::Instance(needed) => vec![needed],
            Need::Task(task) => graph.task_instances(task).to_vec(),
        };
        for needed in needed {
            deepest = deepest.max(depth(graph, needed, open, known) + 1);
        }
    }
    open.remove(&ix);
    known.insert(ix, deepest);
    deepest
}

proptest! {
    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        drop(read(&text));
    }

    #[test]
    fn reading_a_damaged_plan_never_panics(cut in 0_usize..4000, length in 0_usize..30, insert in "[\\[\\]{}\"'=.,a0\n#]{0,6}") {
        for file in ["tour.toml", "ci-matrix.toml", "setup-cache.toml", "common.toml"] {
            let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).expect("the example exists");
            let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (start, end) = (floor(cut), floor(cut + length));
            let parsed = read(&format!("{}{insert}{}", &text[..start], &text[end..]));
            for diagnostic in &parsed.diagnostics {
                let source = &parsed.sources[diagnostic.source].text;
                prop_assert!(source.get(diagnostic.span.clone()).is_some(), "{diagnostic:?}");
            }
            prop_assert_eq!(parsed.plan.is_some(), parsed.diagnostics.iter().all(|d| d.severity == swarm_plans::Severity::Warning));
            if let Some(plan) = parsed.plan {
                drop(TaskGraph::expand(plan));
            }
        }
    }

    /// What stands before a waiting fan-out in merge order stays there, whatever items come.
    #[test]
    fn growth_keeps_the_order_of_what_was_known(items in proptest::collection::vec(".{0,6}", 0..12), batch in 1_usize..4) {
        let text = format!(
            "version = 1\n[tasks.late]\nrun = 'x'\nneeds = ['grow']\n[tasks.early]\nrun = 'x'\nmatrix = {{ a = [1, 2] }}\n[tasks.grow]\nrun = 'x'\nneeds = ['early']\nforeach.f = {{ lines = 'x' }}\nforeach-batch = {batch}\n"
        );
        let mut graph = TaskGraph::expand(read(&text).plan.expect("it is valid")).expect("it expands");
        let before = graph.merge_slots();
        let grow = graph.pending()[0].task;
        let place = before.iter().position(|slot| *slot == MergeSlot::Awaiting(grow)).expect("it waits");
        let added = graph.supply(grow, items.iter().cloned().map(serde_json::Value::from).collect()).expect("few items");
        prop_assert_eq!(added.len(), items.len().div_ceil(batch));
        let after = graph.merge_slots();
        prop_assert_eq!(&after[..place], &before[..place]);
        prop_assert_eq!(&after[place + added.len()..], &before[place + 1..]);
        let ids: HashSet<&str> = graph.instances().iter().map(|instance| instance.id.0.as_ref()).collect();
        prop_assert_eq!(ids.len(), graph.instances().len());
        prop_assert!(ids.iter().all(|id| !id.contains(['\n', ' ', '\0'])));
    }

    #[test]
    fn a_graph_is_acyclic_bounded_unique_and_the_same_each_time(text in plans()) {
        let parsed = read(&text);
        if let Some(plan) = parsed.plan && let Ok(graph) = TaskGraph::expand(plan.clone()) {
            let ids: HashSet<&str> = graph.instances().iter().map(|instance| instance.id.0.as_ref()).collect();
            prop_assert_eq!(ids.len(), graph.instances().len());
            prop_assert!(ids.len() <= INSTANCES_MAX);
            for (index, instance) in graph.instances().iter().enumerate() {
                prop_assert_eq!(graph.instance_by_id(&instance.id.0), Some(InstanceIx(index as u32)));
            }
            let mut known = HashMap::new();
            for index in 0..graph.instances().len() {
                depth(&graph, InstanceIx(index as u32), &mut HashSet::new(), &mut known);
            }
            let order = graph.merge_order();
            prop_assert_eq!(order.iter().collect::<HashSet<_>>().len(), graph.instances().len());
            let place: HashMap<InstanceIx, usize> = order.iter().enumerate().map(|(place, ix)| (*ix, place)).collect();
            for ix in &order {
                for need in graph.needs_of(graph.instance(*ix).task, Some(*ix)) {
                    let needed = match need {
                        Need::Instance(needed) => vec![needed],
                        Need::Task(task) => graph.task_instances(task).to_vec(),
                    };
                    prop_assert!(needed.iter().all(|needed| place[needed] < place[ix]), "{}", text);
                }
            }
            let again = TaskGraph::expand(plan).expect("it was accepted before");
            prop_assert_eq!(again.merge_order(), order);
            prop_assert_eq!(again.tree(), graph.tree());
        }
    }
}
