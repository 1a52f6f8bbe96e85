//! Tasks that other tasks add while the run goes on: `expands`. A task's output `tasks` is a list of
//! `{ template, name, with, needs }`. What it names are templates of the reviewed plan, so no worker widens a policy, a scope
//! or a budget; what it gives them are values, which never become part of a command. A list is accepted whole or refused
//! whole ([`accept`]).
//!
//! For each template of a task's `expands` the plan has one task that nobody wrote, `GIVER.TEMPLATE`, whose instances are
//! what the list says. So other tasks can need them, and the graph grows as it does for any fan-out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use indexmap::IndexMap;
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;
use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, nearest};
use crate::document::{Entry, Node, Table};
use crate::keys::{NAME_BYTES_MAX, is_name};
use crate::lower::count;
use crate::plan::*;
use crate::template::{Template, root};

/// The output that holds the list.
pub const OUTPUT: &str = "tasks";
/// The name under which instances know their entry.
pub const ITEM: &str = "task";
/// The key of an entry that names the instance whose list it stands in; set by the coordinator, never by a worker.
const BY: &str = "by";
/// Without `max-tasks`.
const TASKS_DEFAULT: u32 = 1000;
/// The most tasks of a plan that nobody wrote.
const GROWN_MAX: usize = 500;

/// A task that nobody wrote.
pub(crate) struct Growth<'a> {
    pub name: String,
    pub template: &'a Entry,
    pub giver: TaskIx,
}

/// All of them, and what each task's `expands` says; the tasks as written come first in both orders.
#[derive(Default)]
pub(crate) struct Growths<'a> {
    pub grown: Vec<Growth<'a>>,
    pub expands: HashMap<TaskIx, Expands>,
}

/// What a table's `expands` allows.
#[derive(Clone)]
struct Allowed<'a> {
    node: &'a Node,
    templates: Vec<(&'a str, &'a Node)>,
    max_tasks: u32,
    depth: u32,
}

impl<'a> Allowed<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let table = node.table()?;
        let names = table.get("template").and_then(Node::list).unwrap_or_default();
        Some(Allowed {
            node,
            templates: names.iter().filter_map(|name| Some((name.text()?, name))).collect(),
            max_tasks: count(table.get("max-tasks")).unwrap_or(TASKS_DEFAULT),
            depth: count(table.get("max-depth")).unwrap_or(1),
        })
    }

    /// The same inside of what an outer one allows.
    fn below(self, outer: &Allowed<'_>) -> Self {
        Allowed { max_tasks: self.max_tasks.min(outer.max_tasks), depth: self.depth.min(outer.depth - 1), ..self }
    }
}

impl<'a> Growths<'a> {
    /// From the tasks as written and the templates.
    pub fn of(
        tasks: &'a [Entry],
        templates: &IndexMap<&'a str, &'a Entry>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Growths<'a> {
        let table = |name: &str| templates.get(name).and_then(|entry| entry.node.table());
        let expands = |own: &'a Table| own.get("expands").and_then(Allowed::of);
        let mut growths = Growths::default();
        let mut open: Vec<(TaskIx, String, Allowed<'a>)> = Vec::new();
        for (at, task) in tasks.iter().enumerate().rev() {
            let Some(own) = task.node.table() else { continue };
            let used = own.get("use").and_then(Node::text).and_then(table);
            let allowed = expands(own).or_else(|| used.and_then(expands));
            open.extend(allowed.map(|allowed| (TaskIx(at as u32), task.key.clone(), allowed)));
        }
        while let Some((giver, name, allowed)) = open.pop() {
            let mut grown = IndexMap::new();
            for (template, written) in allowed.templates.iter().filter(|_| allowed.depth > 0) {
                let Some(entry) = templates.get(template) else {
                    diagnostics.push(no_template(template, written, templates));
                    continue;
                };
                if growths.grown.len() == GROWN_MAX {
                    let message = format!("expansions nest into more than {GROWN_MAX} kinds of tasks");
                    diagnostics.push(Diagnostic::error(allowed.node.at, message).hint("lower `max-depth`"));
                    return growths;
                }
                let ix = TaskIx((tasks.len() + growths.grown.len()) as u32);
                let grown_name = format!("{name}.{template}");
                if let Some(inner) = entry.node.table().and_then(expands) {
                    open.push((ix, grown_name.clone(), inner.below(&allowed)));
                }
                growths.grown.push(Growth { name: grown_name, template: entry, giver });
                grown.insert((*template).to_owned(), ix);
            }
            let Allowed { node, max_tasks, .. } = allowed;
            growths.expands.insert(giver, Expands { at: node.at, grown, max_tasks });
        }
        growths
    }
}

fn no_template(name: &str, written: &Node, templates: &IndexMap<&str, &Entry>) -> Diagnostic {
    let hint = match nearest(name, templates.keys().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write it as [templates.{name}]"),
    };
    Diagnostic::error(written.at, format!("there is no template `{name}`")).hint(hint)
}

/// The texts of a task into which values of workers may go.
fn value_texts(task: &Task) -> impl Iterator<Item = &Template> {
    task.env.values().chain(task.writes.iter().flatten()).chain(&task.condition)
}

/// The `with` values that a template uses.
fn with_names(task: &Task) -> BTreeSet<&str> {
    value_texts(task).flat_map(Template::names).filter_map(|name| name.strip_prefix("with.")).map(root).collect()
}

/// Looks at what a task with `expands` handed over. The entries come back with needs before what needs them, in the list's
/// own order otherwise.
///
/// # Errors
/// What is wrong with the list, for people; none of it is taken then.
pub fn accept(plan: &Plan, task: TaskIx, list: Option<&Value>) -> Result<Vec<Value>, String> {
    let Some(expands) = &plan.task(task).expands else { return Ok(Vec::new()) };
    let list = match list {
        Some(Value::Array(list)) => list,
        Some(_) => return Err(format!("output `{OUTPUT}` is not a list")),
        None => return Err(format!("there is no output `{OUTPUT}`: write $SWARM_ARTIFACTS/{OUTPUT}.json")),
    };
    if list.len() > expands.max_tasks as usize {
        return Err(format!("it asks for {} tasks, and max-tasks is {}", list.len(), expands.max_tasks));
    }
    if expands.grown.is_empty() && !list.is_empty() {
        return Err(format!("it asks for {} more tasks, and max-depth is reached", list.len()));
    }
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (at, entry) in list.iter().enumerate() {
        let name = well_formed(plan, expands, entry).map_err(|reason| format!("task {}: {reason}", at + 1))?;
        if let Some(before) = places.insert(name, at) {
            return Err(format!("tasks {} and {} are both named `{name}`", before + 1, at + 1));
        }
    }
    in_order(list, &places)
}

/// An entry's name, when all of the entry is as it has to be.
fn well_formed<'e>(plan: &Plan, expands: &Expands, entry: &'e Value) -> Result<&'e str, String> {
    const KEYS: [&str; 4] = ["template", "name", "with", "needs"];
    let Value::Object(keys) = entry else { return Err("it is not an object".to_owned()) };
    if let Some(odd) = keys.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("`{}` is not a key; the keys are {}", odd.escape_debug(), KEYS.join(", ")));
    }
    let text = |key: &str| entry.get(key).and_then(Value::as_str).ok_or_else(|| format!("it lacks a text `{key}`"));
    let (template, name) = (text("template")?, text("name")?);
    if !is_name(name) {
        let name = name.escape_debug();
        return Err(format!("`{name}` is not a name: A-Z a-z 0-9 _ - and at most {NAME_BYTES_MAX} letters"));
    }
    let Some(grown) = expands.grown.get(template) else {
        let known: Vec<&str> = expands.grown.keys().map(String::as_str).collect();
        return Err(format!("template `{}` is not among {}", template.escape_debug(), known.join(", ")));
    };
    let none = Map::new();
    let given = match keys.get("with") {
        None => &none,
        Some(Value::Object(with)) => with,
        Some(_) => return Err("`with` is not an object".to_owned()),
    };
    let wanted = with_names(plan.task(*grown));
    if let Some(missing) = wanted.iter().find(|wanted| !given.contains_key(**wanted)) {
        return Err(format!("`with` lacks `{missing}`, which the template uses"));
    }
    if let Some(odd) = given.keys().find(|given| !wanted.contains(given.as_str())) {
        return Err(format!("the template does not use `with.{}`", odd.escape_debug()));
    }
    plan.takes(*grown, entry).map_err(|error| error.to_string())?;
    Ok(name)
}

/// The names that an entry needs.
fn needs(entry: &Value) -> Result<Vec<&str>, String> {
    let wrong = || "`needs` is not a list of names".to_owned();
    match entry.get("needs") {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn in_order(list: &[Value], places: &HashMap<&str, usize>) -> Result<Vec<Value>, String> {
    let mut graph: DiGraph<usize, ()> = DiGraph::with_capacity(list.len(), list.len());
    // petgraph's order takes what was added last first among equals.
    let nodes: BTreeMap<usize, _> = (0..list.len()).rev().map(|at| (at, graph.add_node(at))).collect();
    let name = |at: usize| list[at].get("name").and_then(Value::as_str).unwrap_or_default();
    for (at, entry) in list.iter().enumerate() {
        for need in needs(entry).map_err(|reason| format!("task {}: {reason}", at + 1))? {
            let Some(needed) = places.get(need) else {
                return Err(format!("`{}` needs `{}`, which is not in the list", name(at), need.escape_debug()));
            };
            graph.update_edge(nodes[needed], nodes[&at], ());
        }
    }
    match toposort(&graph, None) {
        Ok(order) => Ok(order.into_iter().map(|node| list[graph[node]].clone()).collect()),
        Err(cycle) => Err(format!("`{}` waits for itself through its needs", name(graph[cycle.node_id()]))),
    }
}

/// The entry of one list among those of several: it remembers whose list it stands in.
pub fn of_giver(mut entry: Value, giver: &str) -> Value {
    if let Value::Object(entry) = &mut entry {
        entry.insert(BY.to_owned(), Value::String(giver.to_owned()));
    }
    entry
}

/// An entry as the graph reads it.
pub(crate) struct Item<'e> {
    /// The instance whose list it stands in, and its name there.
    pub key: (&'e str, &'e str),
    pub template: &'e str,
    /// Names in the same list.
    pub needs: Vec<&'e str>,
}

impl<'e> Item<'e> {
    /// What is missing reads as empty: entries were accepted before.
    pub fn of(entry: &'e Value) -> Self {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        Item { key: (text(BY), text("name")), template: text("template"), needs: needs(entry).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAN: &str = "version = 1\n[templates.fix]\nrun = 'x'\nenv = { DIR = '{{ with.dir }}' }\n\
        writes = ['{{ with.dir }}/**']\n[templates.again]\nrun = 'x'\nexpands = { template = ['fix'], max-tasks = 9 }\n\
        [tasks.split]\nrun = 'x'\nexpands = { template = ['fix', 'again'], max-tasks = 3, max-depth = 2 }\n";

    fn plan(text: &str) -> std::sync::Arc<Plan> {
        let parsed = crate::parse("p.toml", text, &[], &mut |_| Err(String::new()));
        parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
    }

    fn accepted(list: Value) -> Result<Vec<String>, String> {
        let plan = plan(PLAN);
        let entries = accept(&plan, plan.task_by_name("split").unwrap(), Some(&list))?;
        Ok(entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect())
    }

    fn fix(name: &str, needs: &[&str]) -> Value {
        json!({"template": "fix", "name": name, "with": {"dir": "a"}, "needs": needs})
    }

    #[test]
    fn needs_come_before_what_needs_them_and_all_else_stays() {
        let list = json!([fix("c", &["a"]), fix("b", &[]), fix("a", &[])]);
        assert_eq!(accepted(list).unwrap(), ["b", "a", "c"]);
        assert_eq!(accepted(json!([fix("x", &[]), fix("y", &[])])).unwrap(), ["x", "y"]);
    }

    #[test]
    fn a_list_is_refused_whole_for_one_mistake() {
        let without = |key: &str| {
            let mut entry = fix("a", &[]);
            entry.as_object_mut().unwrap().remove(key);
            json!([fix("b", &[]), entry])
        };
        let with = |key: &str, value: Value| {
            let mut entry = fix("a", &[]);
            entry[key] = value;
            json!([entry])
        };
        for (list, says) in [
            (json!({}), "is not a list"),
            (json!([1]), "not an object"),
            (without("name"), "lacks a text `name`"),
            (without("with"), "lacks `dir`"),
            (with("template", json!("split")), "is not among fix, again"),
            (with("name", json!("../x")), "is not a name"),
            (with("sandbox", json!("open")), "is not a key"),
            (with("by", json!("other")), "is not a key"),
            (with("with", json!({"dir": "a", "more": 1})), "does not use `with.more`"),
            (with("with", json!({"dir": "../x"})), "climbs out of the tree"),
            (with("with", json!({"dir": ""})), "a part of `/**` without a name"),
            (with("with", json!({"dir": "a\u{0}"})), "NUL"),
            (with("needs", json!("a")), "not a list of names"),
            (with("needs", json!(["gone"])), "not in the list"),
            (with("needs", json!(["a"])), "waits for itself"),
            (json!([fix("a", &["b"]), fix("b", &["a"])]), "waits for itself"),
            (json!([fix("a", &[]), fix("a", &[])]), "both named"),
            (json!([fix("a", &[]), fix("b", &[]), fix("c", &[]), fix("d", &[])]), "max-tasks is 3"),
        ] {
            let refused = accepted(list.clone()).unwrap_err();
            assert!(refused.contains(says), "{list}: {refused}");
        }
    }

    #[test]
    fn expansions_nest_as_deep_as_the_outermost_allows() {
        let plan = plan(PLAN);
        let names: Vec<&str> = plan.tasks.iter().map(|task| task.name.0.as_str()).collect();
        assert_eq!(names, ["split", "split.fix", "split.again", "split.again.fix"]);
        let inner = plan.task(plan.task_by_name("split.again").unwrap()).expands.clone().unwrap();
        assert_eq!((inner.max_tasks, inner.grown.len()), (3, 1), "the outer bound holds inside");
    }

    #[test]
    fn values_of_workers_stay_out_of_commands_and_names_are_checked() {
        let messages = |text: &str| {
            let parsed = crate::parse("p.toml", text, &[], &mut |_| Err(String::new()));
            parsed.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>().join("; ")
        };
        let split = "[tasks.split]\nrun = 'x'\nexpands = { template = ['fix'] }\n";
        let in_command = format!("version = 1\n[templates.fix]\nrun = 'x {{{{ with.dir }}}}'\n{split}");
        assert!(messages(&in_command).contains("cannot be part of `run`"), "{}", messages(&in_command));
        assert!(messages(&format!("version = 1\n{split}")).contains("there is no template `fix`"));
    }
}
