//! Why items do not fit a plan, with the place in it: for fan-outs that are known before anything runs. Comes in: what
//! [`TaskGraph::supply`] refused. Goes out: diagnostics, all of one kind together.

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Location, nearest};
use crate::graph::{ExpandError, TaskGraph};
use crate::ids::task_in;
use crate::plan::{NeedTarget, Task, TaskIx};

/// Needs on instances that do not exist which are told of one fan-out; each costs another try.
const MISSING_MAX: usize = 20;
/// The most ids that are compared with a mistyped one.
const COMPARED_IDS_MAX: usize = 1_000;

impl TaskGraph {
    /// What is wrong with these items of a task, which [`TaskGraph::supply`] refused with `error`.
    pub fn misfits(&self, task: TaskIx, items: &[Value], error: ExpandError) -> Vec<Diagnostic> {
        let mut errors = vec![error];
        let mut probe = self.clone();
        while errors.len() < MISSING_MAX
            && let Some(ExpandError::UnknownInstance { needing, needed }) = errors.last()
            && probe.forget_need(task, needing, needed)
        {
            errors.extend(probe.supply(task, items.to_vec()).err());
        }
        errors.iter().map(|error| self.misfit(task, error, &probe)).collect()
    }

    fn misfit(&self, task: TaskIx, error: &ExpandError, probe: &TaskGraph) -> Diagnostic {
        let giver = self.plan().task(task);
        let fan = giver.foreach.first().map_or(giver.at, |each| each.at);
        match error {
            ExpandError::TooManyItems { max, .. } => Diagnostic::error(fan, error.to_string())
                .hint(format!("raise foreach-max = {max}, or narrow what it is a fan-out over")),
            ExpandError::UnknownInstance { needing, needed } => {
                let ids = probe.instances().iter().take(COMPARED_IDS_MAX).map(|instance| instance.id.0.as_ref());
                let hint = match nearest(needed, ids) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("`{}` has no such instance", giver.name),
                };
                Diagnostic::error(self.place_of_need(needing, needed).unwrap_or(fan), error.to_string()).hint(hint)
            }
            ExpandError::TooManyInstances { .. } | ExpandError::TooManyTasks { .. } => {
                Diagnostic::error(fan, error.to_string()).hint("split the plan, or use foreach-batch")
            }
            ExpandError::Cycle(_) => Diagnostic::error(fan, error.to_string()).hint("remove one of these needs"),
            ExpandError::NotPending(_) | ExpandError::Template { .. } => Diagnostic::error(fan, error.to_string()),
        }
    }

    /// Where an instance's need on another is written.
    fn place_of_need(&self, needing: &str, needed: &str) -> Option<Location> {
        let waiting = self.deferred.values().flatten();
        let waits = waiting.filter(|one| one.text == needed && self.instance(one.instance).id.0.as_ref() == needing);
        let of_task = |task: &Task| {
            let named = |target: &NeedTarget| matches!(target, NeedTarget::Instances { selector, .. } if selector.literal() == Some(needed));
            task.needs.iter().find(|need| named(&need.target)).map(|need| need.at)
        };
        let task = self.plan().task_by_name(task_in(needing));
        waits.map(|one| one.at).next().or_else(|| of_task(self.plan().task(task?)))
    }

    /// Takes a need away that waits for the items of a task; whether there was one.
    fn forget_need(&mut self, task: TaskIx, needing: &str, needed: &str) -> bool {
        let family = self.family(task);
        let ix = self.instance_by_id(needing);
        let lists = self.deferred.iter_mut().filter(|(named, _)| family.contains(named));
        let mut forgotten = false;
        for (_, waiting) in lists {
            let before = waiting.len();
            waiting.retain(|one| Some(one.instance) != ix || one.text != needed);
            forgotten |= waiting.len() < before;
        }
        forgotten
    }
}
