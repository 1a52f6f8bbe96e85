//! Fan-outs that wait for items: asking for them, and what becomes of the task when they come or do not.

use serde_json::Value;
use swarm_plans::{Fan, InstanceId, TaskIx};

use super::{Action, ENDED_EARLY, FailFast, NoItems, Role, RunCore, StopCause};
use crate::dispatcher::needs;
use crate::event::{AddedInstance, InstanceResult, OnFailure, RunEvent};
use crate::merge::order::Place;
use crate::schedule::{NodeIx, Verdict};

impl RunCore {
    pub(super) fn start_fan(&mut self, task: TaskIx) {
        if self.is_fan_given_up(task) {
            return self.fan_stays_given_up(task);
        }
        let waiting = self.graph.pending().into_iter().find(|waiting| waiting.task == task);
        let waiting = waiting.expect("BUG: a fan-out starts once for each of its sources");
        if let Fan::Grown { giver } = waiting.source {
            let items = needs::new_tasks(&self.graph, &self.states, giver);
            if self.ran_again(giver) {
                self.remember(task, &items);
            }
            return self.items(task, Ok(items));
        }
        if let Fan::Output { task: need, output } = &waiting.source {
            let value = needs::output(&self.graph, &self.states, *need, output);
            let name = &self.graph.plan().task(*need).name;
            let items = match value {
                Some(Value::Array(items)) => Ok(items),
                Some(Value::String(_)) => Err(format!(
                    "output `{output}` of `{name}` is a text, as a line of $SWARM_OUTPUT always is: a list comes of outputs.{output} = \
                     {{ json = \"{output}.json\" }}, written to $SWARM_ARTIFACTS/{output}.json"
                )),
                Some(_) => Err(format!("output `{output}` of `{name}` is not a list")),
                None => Err(format!("`{name}` gave no output `{output}`")),
            };
            // Where nothing was found, a person should see that it is nothing.
            if let Ok(items) = &items
                && (items.is_empty() || self.ran_again(*need))
            {
                self.remember(task, items);
            }
            self.items(task, items);
            return;
        }
        let Fan::Lines(command) = &waiting.source else {
            unreachable!("BUG: lists need no answer, and globs are answered before the run");
        };
        let facts = &self.options.facts;
        let rendered = self.graph.render_command(command, &facts.context(&Value::Null, &facts.lookup()));
        match rendered {
            Ok(command) => self.actions.push(Action::Items { task, command }),
            Err(error) => self.items(task, Err(error.to_string())),
        }
    }

    /// Whether an instance of a task handed something over again: whoever goes on with the run does not know by itself which of it
    /// became items.
    pub(super) fn ran_again(&self, task: TaskIx) -> bool {
        self.graph.task_instances(task).iter().any(|ix| self.states[ix.index()].ran_again)
    }

    fn remember(&mut self, task: TaskIx, items: &[Value]) {
        let task = self.graph.plan().task(task).name.0.clone();
        self.events.push(RunEvent::ItemsFound { task, items: items.to_vec() });
    }

    /// A fan-out that never got its items ends under the task's own name, so that a person sees it.
    pub(super) fn unexpanded(&mut self, task: TaskIx, result: InstanceResult, cause: String) {
        let name = &self.graph.plan().task(task).name.0;
        let id = InstanceId(name.as_str().into());
        let added = AddedInstance { id: id.clone(), task: name.clone(), needs: vec![], on_failure: OnFailure::Fail };
        self.events.push(RunEvent::InstancesAdded { instances: vec![added] });
        self.events.push(RunEvent::InstanceFinished { instance: id.clone(), result, cause: Some(cause) });
        if result != InstanceResult::Cancelled || !self.is_held() {
            // What is blocked failed by what failed before it.
            if result != InstanceResult::Blocked && !self.given_up.contains(&id) {
                self.landings.failed(Place { task: self.task_place(task), instance: u32::MAX }, &id);
            }
            self.close(task);
        }
    }

    /// Nobody of the task joins any more.
    pub(super) fn close(&mut self, task: TaskIx) {
        for member in self.graph.family(task) {
            self.landings.close(self.task_place(member));
        }
    }

    /// The words for a fan-out without items; a machine that fails stops the run first.
    pub(super) fn no_items(&mut self, task: TaskIx, reason: NoItems) -> String {
        match reason {
            NoItems::Work(reason) => reason,
            NoItems::Machine(reason) => {
                let name = &self.graph.plan().task(task).name;
                self.machine_failed(format!("the items of `{name}` could not be listed: {reason}"));
                reason
            }
        }
    }

    /// The node that waits for a task's items.
    pub(super) fn fan_of(&self, task: TaskIx) -> NodeIx {
        let is_fan = |role: &Role| matches!(role, Role::Fan(of) if *of == task);
        NodeIx::at(self.roles.iter().position(is_fan).expect("BUG: items of a task that is no fan-out"))
    }

    pub(super) fn items(&mut self, task: TaskIx, items: Result<Vec<Value>, String>) {
        let fan = self.fan_of(task);
        if self.stop.is_some() {
            // What would be added now could never start.
            self.unexpanded(task, InstanceResult::Cancelled, ENDED_EARLY.to_owned());
            let effects = self.schedule.finish(fan, Verdict::Fail);
            return self.effects(effects);
        }
        let added = items.and_then(|items| self.graph.supply(task, items).map_err(|error| error.to_string()));
        match added {
            Ok(added) => {
                self.add_instances(&added, &|_| None);
                let effects = self.schedule.seal();
                self.effects(effects);
                self.close(task);
                let effects = self.schedule.finish(fan, Verdict::Pass);
                self.effects(effects);
            }
            Err(reason) => {
                self.unexpanded(task, InstanceResult::Failed, reason);
                let effects = self.schedule.finish(fan, Verdict::Fail);
                self.effects(effects);
                if self.options.fail_fast == FailFast::Yes {
                    self.stop(StopCause::FailFast);
                }
            }
        }
    }
}
