//! Needs on single instances: `build[profile=release]`, with templates inside the brackets. They are looked up when the
//! graph is built, or, where they name an instance of a fan-out that still waits, as soon as it has its items.

use std::collections::HashMap;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Location, nearest};
use crate::expansion::{ITEM, Item};
use crate::graph::{ExpandError, Need, TaskGraph};
use crate::ids::task_in;
use crate::instance::{InstanceIx, label};
use crate::plan::*;
use crate::template::Template;

/// A need that could not be looked up yet.
#[derive(Debug, Clone)]
pub(crate) struct Deferred {
    /// Who needs it.
    pub instance: InstanceIx,
    /// The rendered text.
    pub text: String,
    /// Where the need is written.
    pub at: Location,
}

/// The most needs on single instances in one graph.
pub const NEEDS_MAX: usize = 2_000_000;

/// The most ids that are compared with a mistyped one.
const COMPARED_IDS_MAX: usize = 1_000;

/// Which instances have which value, made once per task and key while needs are looked up.
#[derive(Default)]
pub(crate) struct Selection {
    by_value: HashMap<(TaskIx, String), HashMap<String, Vec<InstanceIx>>>,
    found: usize,
}

/// Why a need was not found.
enum Missing {
    /// The instance does not exist.
    Unknown { needing: InstanceIx, text: String, at: Location },
    /// The text did not render.
    Unrendered { needing: InstanceIx, at: Location, reason: String },
    /// More than [`NEEDS_MAX`].
    TooMany { needing: InstanceIx, at: Location },
}

impl TaskGraph {
    /// Looks up what a task's instances need, when the graph is built.
    pub(crate) fn select_for_task(&mut self, task: TaskIx, diagnostics: &mut Vec<Diagnostic>) {
        let instances = self.groups[task.index()].instances.clone();
        let mut selection = Selection::default();
        let missing = self.select(task, &instances, &mut selection);
        diagnostics.extend(missing.into_iter().map(|missing| self.missing_diagnostic(missing)));
        // Before a fan-out has its items, it waits for all that it names as wholes.
        let group = &self.groups[task.index()];
        if group.pending {
            for named in self.items_needs(task).into_iter().filter(|named| *named != task) {
                self.order.add_edge(self.groups[named.index()].end, self.groups[task.index()].begin, ());
            }
        }
    }

    /// Looks up what the new instances of a family need, and what others need of them.
    pub(crate) fn select_after_supply(&mut self, task: TaskIx, added: &[InstanceIx]) -> Result<(), ExpandError> {
        let mut selection = Selection::default();
        for member in self.family(task) {
            let its: Vec<InstanceIx> = added.iter().copied().filter(|ix| self.instance(*ix).task == member).collect();
            if let Some(missing) = self.select(member, &its, &mut selection).into_iter().next() {
                return Err(self.missing_error(missing));
            }
            let waiting = self.deferred.remove(&member).unwrap_or_default();
            for one in waiting {
                let found = self.find(member, &one.text, &mut selection);
                if found.is_empty() {
                    let missing = Missing::Unknown { needing: one.instance, text: one.text, at: one.at };
                    return Err(self.missing_error(missing));
                }
                self.connect(one.instance, found);
            }
        }
        if self.plan.task(task).grown.is_some() {
            self.select_among_items(added);
        }
        match self.groups[task.index()].single.then(|| self.first_cycle()).flatten() {
            Some(members) => Err(ExpandError::Cycle(self.cycle_words(&members))),
            None => Ok(()),
        }
    }

    /// What each of a task's needs lacks: the first instance that misses something stands for all.
    fn select(&mut self, task: TaskIx, instances: &[InstanceIx], selection: &mut Selection) -> Vec<Missing> {
        let plan = self.plan.clone();
        let mut lacking = Vec::new();
        for need in &plan.task(task).needs {
            let NeedTarget::Instances { task: needed, selector } = &need.target else { continue };
            let missing = instances.iter().find_map(|ix| self.select_one(*ix, *needed, (need.at, selector), selection));
            lacking.extend(missing);
        }
        lacking
    }

    fn select_one(
        &mut self,
        ix: InstanceIx,
        needed: TaskIx,
        (at, selector): (Location, &Template),
        selection: &mut Selection,
    ) -> Option<Missing> {
        let text = match self.selector_text(ix, selector) {
            Ok(text) => text,
            Err(reason) => return Some(Missing::Unrendered { needing: ix, at, reason }),
        };
        let found = self.find(needed, &text, selection);
        selection.found += found.len();
        if selection.found > NEEDS_MAX {
            return Some(Missing::TooMany { needing: ix, at });
        }
        if !found.is_empty() {
            self.connect(ix, found);
        } else if self.groups[needed.index()].pending && is_selection(&text) {
            let begin = self.groups[needed.index()].begin;
            self.order.add_edge(begin, self.nodes[&ix], ());
            self.deferred.entry(needed).or_default().push(Deferred { instance: ix, text, at });
        } else {
            return Some(Missing::Unknown { needing: ix, text, at });
        }
        None
    }

    /// The needs of added tasks on each other.
    fn select_among_items(&mut self, added: &[InstanceIx]) {
        let entries: Vec<(InstanceIx, Value)> = added
            .iter()
            .filter_map(|ix| {
                let binding = self.instance(*ix).bindings.iter().find(|binding| *binding.name == *ITEM)?;
                Some((*ix, binding.value.json().into_owned()))
            })
            .collect();
        let mut by_key: HashMap<(&str, &str), Vec<InstanceIx>> = HashMap::new();
        for (ix, entry) in &entries {
            by_key.entry(Item::of(entry).key).or_default().push(*ix);
        }
        for (ix, entry) in &entries {
            let item = Item::of(entry);
            for need in item.needs {
                self.connect(*ix, by_key.get(&(item.key.0, need)).cloned().unwrap_or_default());
            }
        }
    }

    fn selector_text(&self, ix: InstanceIx, selector: &Template) -> Result<String, String> {
        match selector.literal() {
            Some(text) => Ok(text.to_owned()),
            None => self.plan.engine.render(selector, &self.graph_values(ix, selector)),
        }
    }

    /// The instance of that id, else all instances of the task that have all the pairs between the brackets.
    fn find(&self, task: TaskIx, text: &str, selection: &mut Selection) -> Vec<InstanceIx> {
        if let Some(ix) = self.instance_by_id(text).filter(|ix| self.instance(*ix).task == task) {
            return vec![ix];
        }
        let inside = text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or("");
        let mut found: Option<Vec<InstanceIx>> = None;
        for pair in inside.split(',') {
            let Some((name, value)) = pair.split_once('=') else { return Vec::new() };
            let key = (task, name.trim().to_owned());
            let values = selection.by_value.entry(key).or_insert_with_key(|(_, name)| self.values_of(task, name));
            let with = values.get(value.trim()).map(Vec::as_slice).unwrap_or_default();
            found = Some(match found {
                None => with.to_vec(),
                Some(before) => before.into_iter().filter(|ix| with.binary_search(ix).is_ok()).collect(),
            });
        }
        found.unwrap_or_default()
    }

    /// A task's instances by the label that their value of `name` has.
    fn values_of(&self, task: TaskIx, name: &str) -> HashMap<String, Vec<InstanceIx>> {
        let mut values: HashMap<String, Vec<InstanceIx>> = HashMap::new();
        for ix in &self.groups[task.index()].instances {
            if let Some(binding) = self.instance(*ix).bindings.iter().find(|binding| *binding.name == *name) {
                values.entry(label(&binding.value.json(), 0)).or_default().push(*ix);
            }
        }
        values
    }

    fn connect(&mut self, needing: InstanceIx, found: Vec<InstanceIx>) {
        for needed in &found {
            self.order.add_edge(self.nodes[needed], self.nodes[&needing], ());
        }
        let needs = self.selected.entry(needing).or_default();
        needs.extend(found.into_iter().map(Need::Instance));
        needs.sort_unstable();
        needs.dedup();
    }

    fn missing_diagnostic(&self, missing: Missing) -> Diagnostic {
        match missing {
            Missing::Unknown { needing, text, at } => {
                let of_task = |id: &&str| task_in(id) == task_in(&text);
                let ids = self.instances.iter().map(|instance| instance.id.0.as_ref());
                let ids: Vec<&str> = ids.filter(of_task).take(COMPARED_IDS_MAX).collect();
                let message = format!("`{}` needs `{text}`, which does not exist", self.instance(needing).id);
                let name = task_in(&text);
                let hint = match nearest(&text, ids.iter().copied()) {
                    _ if ids == [name] => format!("`{name}` is a task without instances of its own: write \"{name}\""),
                    _ if text.contains('*') => format!("`{name}` alone means all of its instances"),
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("`swarm graph` shows the instances of `{name}`"),
                };
                Diagnostic::error(at, message).hint(hint)
            }
            Missing::Unrendered { needing, at, reason } => {
                Diagnostic::error(at, format!("this need of `{}` does not render: {reason}", self.instance(needing).id))
            }
            Missing::TooMany { at, .. } => {
                Diagnostic::error(at, format!("more than {NEEDS_MAX} needs on single instances"))
                    .hint("need the whole task instead")
            }
        }
    }

    fn missing_error(&self, missing: Missing) -> ExpandError {
        let id = |ix: InstanceIx| self.instance(ix).id.to_string();
        match missing {
            Missing::Unknown { needing, text, .. } => {
                ExpandError::UnknownInstance { needing: id(needing), needed: text }
            }
            Missing::Unrendered { needing, reason, .. } => ExpandError::Template { needing: id(needing), reason },
            Missing::TooMany { needing, .. } => ExpandError::Template {
                needing: id(needing),
                reason: format!("more than {NEEDS_MAX} needs on single instances"),
            },
        }
    }
}

/// Whether a need on single instances can name any: what stands between the brackets says which value a name has.
fn is_selection(text: &str) -> bool {
    text.split_once('[').is_some_and(|(_, inside)| inside.contains('='))
}
