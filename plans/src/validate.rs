//! What a plan's parts say together: names that templates use, capacities, policies, fan-outs, cycles. Reports everything.

use std::collections::HashSet;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::agent::Agent;
use crate::cycle;
use crate::diagnostic::{Diagnostic, Location, SourceFile, nearest};
use crate::expand::matrix_combinations;
use crate::merge::MergeMode;
use crate::plan::*;
use crate::result_words::{ASKED, FallsShort, RESULTS, falls_short, never_a_result};
use crate::template::{Template, root};

/// Checks a plan whose parts were lowered, stand-ins for broken ones included.
pub(crate) fn plan(plan: &Plan, sources: &[SourceFile], diagnostics: &mut Vec<Diagnostic>) {
    let mut validator = Validator { plan, sources, diagnostics, used: HashSet::new() };
    for (index, task) in plan.tasks.iter().enumerate() {
        validator.task(TaskIx(index as u32), task);
    }
    if let Some(command) = &plan.workspace.setup {
        validator.command(command, &Scope::outside("setup"));
    }
    validator.target();
    validator.merge();
    validator.cycles();
}

/// The tasks that each task waits for directly, with `*` written out, in plan order and without doubles.
pub(crate) fn direct_needs(tasks: &[Task]) -> Vec<Vec<TaskIx>> {
    let mut needs: Vec<Vec<TaskIx>> = tasks.iter().map(|task| named_needs(task).collect()).collect();
    let every = |task: &Task| task.needs.iter().any(|need| matches!(need.target, NeedTarget::Every));
    let starred: Vec<bool> = tasks.iter().map(every).collect();
    if starred.contains(&true) {
        let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
        for (task, needs) in needs.iter().enumerate() {
            needs.iter().for_each(|need| dependents[need.index()].push(task));
        }
        let all: Vec<usize> = (0..tasks.len()).collect();
        let behind: Vec<(usize, HashSet<usize>)> =
            all.iter().filter(|task| starred[**task]).map(|&task| (task, reachable(task, &dependents))).collect();
        for &task in all.iter().filter(|task| starred[**task]) {
            // What waits for another `*` is left out, too, unless this one waits for that `*` by name: two of them would
            // wait for each other's dependents otherwise.
            let out = |other: &usize| {
                behind.iter().any(|(star, after)| after.contains(other) && (*star == task || !after.contains(&task)))
            };
            let wanted = all.iter().filter(|other| !starred[**other] && !out(other));
            needs[task].extend(wanted.map(|other| TaskIx(*other as u32)));
        }
    }
    for needs in &mut needs {
        needs.sort_unstable();
        needs.dedup();
    }
    needs
}

fn named_needs(task: &Task) -> impl Iterator<Item = TaskIx> {
    task.needs.iter().filter_map(|need| match need.target {
        NeedTarget::Task(task) | NeedTarget::Instances { task, .. } => Some(task),
        NeedTarget::Every => None,
    })
}

fn reachable(from: usize, edges: &[Vec<usize>]) -> HashSet<usize> {
    let mut seen = HashSet::from([from]);
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        open.extend(edges[node].iter().filter(|next| seen.insert(**next)));
    }
    seen
}

/// Which names a text may use.
struct Scope<'a> {
    /// The task, unless the text is outside of any.
    task: Option<(TaskIx, &'a Task)>,
    /// What the text is, in messages.
    what: &'a str,
    /// Whether values that workers gave may appear.
    trust: Trust,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The text becomes a command: only what the plan says.
    Command,
    /// The text becomes a value.
    Value,
    /// The text is rendered when the graph is built.
    Graph,
}

impl<'a> Scope<'a> {
    fn outside(what: &'a str) -> Self {
        Scope { task: None, what, trust: Trust::Command }
    }
}

struct Validator<'a> {
    plan: &'a Plan,
    sources: &'a [SourceFile],
    diagnostics: &'a mut Vec<Diagnostic>,
    /// The values of `with` that the texts of the task in hand have used so far.
    used: HashSet<String>,
}

impl<'a> Validator<'a> {
    fn error(&mut self, at: Location, message: impl Into<String>, hint: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(at, message).hint(hint));
    }

    fn task(&mut self, ix: TaskIx, task: &'a Task) {
        self.resources(task);
        self.policy(task);
        self.scope(task);
        self.fan_outs(ix, task);
        let scope = |what, trust| Scope { task: Some((ix, task)), what, trust };
        self.work(&task.work, &scope(work_name(&task.work), Trust::Command));
        for check in &task.checks {
            self.command(&check.command, &scope("check", Trust::Command));
        }
        for reviewer in &task.reviewers {
            self.prompt(&reviewer.agent, &scope("prompt", Trust::Value));
        }
        for value in task.env.values() {
            self.names(value, &scope("env", Trust::Value));
        }
        for glob in task.writes.iter().flatten() {
            self.names(glob, &scope("writes", Trust::Value));
        }
        if let Some(condition) = &task.condition {
            self.names(condition, &scope("if", Trust::Value));
            self.result_words(condition);
            self.unasked(ix, condition);
        }
        for need in &task.needs {
            if let NeedTarget::Instances { selector, .. } = &need.target {
                self.names(selector, &scope("needs", Trust::Graph));
            }
        }
        if let Some(Caching { fingerprint: Some(command), .. }) = &task.cache {
            self.command(command, &Scope::outside("fingerprint"));
        }
        for foreach in &task.foreach {
            if let Fan::Lines(command) = &foreach.source {
                self.command(command, &Scope::outside("lines"));
            }
        }
        self.unused_values(task);
    }

    /// A condition that asks for a result that there is not is never true, or always.
    fn result_words(&mut self, condition: &Template) {
        for word in never_a_result(condition.source()) {
            let hint = match nearest(word, RESULTS) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("an `if` finds {ASKED}"),
            };
            let warning = Diagnostic::warning(self.place(condition, word), format!("no result is called '{word}'"));
            self.diagnostics.push(warning.hint(hint));
        }
    }

    /// What needs something that did not pass is blocked, whatever its condition says, unless that may fail.
    fn unasked(&mut self, ix: TaskIx, condition: &Template) {
        for FallsShort { need: name, word, may_be_allowed } in falls_short(condition.source()) {
            let need = self.plan.task_by_name(name).filter(|need| self.needs_directly(ix, *need));
            let is_strict = |need: &TaskIx| !may_be_allowed || self.plan.task(*need).allow_failure == AllowFailure::No;
            if need.filter(is_strict).is_none() {
                continue;
            }
            let task = &self.plan.task(ix).name;
            let message = format!("this never holds: where `{name}` is '{word}', `{task}` does not start");
            let warning = Diagnostic::warning(self.place(condition, word), message);
            let hint = match may_be_allowed {
                false => format!(
                    "an `if` finds {ASKED}: let `{task}` need the task that fails, with `allow-failure = true` there, and ask for \
                     its result"
                ),
                true => format!("its `if` is asked then only with `allow-failure = true` in [tasks.{name}]"),
            };
            self.diagnostics.push(warning.hint(hint));
        }
    }

    fn work(&mut self, work: &Work, scope: &Scope<'_>) {
        match work {
            Work::Run(script) => self.names(script, scope),
            Work::Argv(argv) => argv.iter().for_each(|text| self.names(text, scope)),
            Work::Wasm(wasm) => {
                std::iter::once(&wasm.module).chain(&wasm.args).for_each(|text| self.names(text, scope));
            }
            Work::Agent(agent) => self.prompt(agent, scope),
        }
    }

    /// Words, not a command: they may hold what workers gave.
    fn prompt(&mut self, agent: &Agent, scope: &Scope<'_>) {
        let scope = Scope { what: "prompt", trust: Trust::Value, ..*scope };
        agent.prompt.iter().for_each(|text| self.names(text, &scope));
    }

    fn command(&mut self, command: &Command, scope: &Scope<'_>) {
        self.work(&command.work, scope);
    }

    fn resources(&mut self, task: &Task) {
        let at = task.places.resources.unwrap_or(task.at);
        for (name, demand) in &task.resources {
            match self.plan.resources.get(name) {
                None => {
                    let near = nearest(name, self.plan.resources.keys().map(String::as_str));
                    let hint = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if self.plan.resources.is_empty() => {
                            format!("declare it:\n[resources]\n{name} = {demand}")
                        }
                        None => format!("declare it in [resources]:\n{name} = {demand}"),
                    };
                    self.error(at, format!("there is no resource `{name}`"), hint);
                }
                Some(capacity) if demand > capacity => {
                    let message = format!(
                        "`{}` takes {demand} of `{name}`, and there are only {capacity}: it could never start",
                        task.name
                    );
                    self.error(at, message, format!("take less, or raise `{name}` in [resources]"));
                }
                Some(_) => {}
            }
        }
    }

    fn policy(&mut self, task: &Task) {
        let known = &self.plan.sandboxes;
        if !known.contains_key(&task.sandbox) {
            let near = nearest(&task.sandbox, known.keys().map(String::as_str));
            let hint = near.map_or_else(
                || format!("write it as [sandbox.{}]", task.sandbox),
                |near| format!("did you mean `{near}`?"),
            );
            self.error(task.places.sandbox.unwrap_or(task.at), format!("there is no policy `{}`", task.sandbox), hint);
        }
        let narrow = task.cache.as_ref().is_some_and(|cache| cache.inputs.is_some());
        if let (Work::Agent(_), true) = (&task.work, narrow) {
            let message = format!("results of `{}` cannot be known by some files: an agent may look at any", task.name);
            self.error(task.places.cache.unwrap_or(task.at), message, "leave out `inputs`: the whole tree counts then");
        }
        let network = known.get(&task.sandbox).map(|policy| &policy.network);
        if task.cache.is_some() && network.is_some_and(|network| *network != Network::None) {
            let message = format!("results of `{}` cannot be reused: its policy reaches the network", task.name);
            let hint =
                "what the network answered is not part of what a result is known by: leave out `cache`, or `network`";
            self.error(task.places.cache.unwrap_or(task.at), message, hint);
        }
        let asks = task.places.models.filter(|_| !task.models.is_empty());
        if let (Some(at), Some(_)) = (asks, &task.cache) {
            let message = format!("results of `{}` cannot be reused: it asks models", task.name);
            self.error(at, message, "leave out `cache`, or `models`");
        }
        if let (Some(at), Work::Wasm(_)) = (asks, &task.work) {
            let message = format!("`{}` cannot ask models: a WebAssembly guest has no sockets", task.name);
            self.error(at, message, "give `models` to a task with `run` or `argv`");
        }
    }

    /// Where nothing is merged any change is a violation, whatever a scope would allow.
    fn scope(&mut self, task: &Task) {
        if self.plan.merge.mode == MergeMode::None && task.writes.as_ref().is_some_and(|globs| !globs.is_empty()) {
            let at = task.places.writes.unwrap_or(task.at);
            let message = format!("`writes` of `{}` allow nothing: `mode = \"none\"` refuses any change", task.name);
            let hint = "write `writes = []`, or mode = \"train\" in [merge]";
            self.diagnostics.push(Diagnostic::warning(at, message).hint(hint));
        }
    }

    fn fan_outs(&mut self, ix: TaskIx, task: &Task) {
        let fed: Vec<&Foreach> = task.foreach.iter().filter(|each| !matches!(each.source, Fan::List(_))).collect();
        if let [_, second, ..] = fed.as_slice() {
            let message = format!("`{}` is the second fan-out of this task that waits for data", second.name);
            self.error(second.at, message, "only lists of the plan can be combined with one that waits");
        }
        if let (Some(grown), true) = (&task.grown, task.foreach_batch > 1) {
            let at = task.places.batch.unwrap_or(task.at);
            let message =
                format!("the template `{}` stands for single tasks: `foreach-batch` has no place", grown.template);
            self.error(at, message, "leave it out");
        } else if task.foreach_batch > 1 && task.foreach.len() != 1 {
            let at = task.places.batch.unwrap_or(task.at);
            self.error(at, "`foreach-batch` needs exactly one foreach name", "items of one list are batched");
        }
        if let (Some(at), Some(matrix)) = (task.places.exclude, &task.matrix)
            && matrix_combinations(matrix).is_ok_and(|left| left.is_empty())
        {
            let warning =
                Diagnostic::warning(at, format!("this leaves no instance of `{}`: it does nothing", task.name));
            self.diagnostics.push(warning.hint("leave a combination, or add one by `matrix-include`"));
        }
        for foreach in &task.foreach {
            if let Fan::List(items) = &foreach.source
                && items.len() > task.foreach_max as usize
            {
                let message =
                    format!("`{}` has {} items, and foreach-max is {}", foreach.name, items.len(), task.foreach_max);
                self.error(foreach.at, message, "raise foreach-max, or shorten the list");
            }
            if let Fan::Output { task: producer, output } = &foreach.source {
                self.fed_by(ix, foreach, *producer, output);
            }
        }
    }

    /// A fan-out over an output needs the task that gives it, as a single instance.
    fn fed_by(&mut self, ix: TaskIx, foreach: &Foreach, producer: TaskIx, output: &str) {
        let giver = self.plan.task(producer);
        let name = &giver.name;
        if !self.needs_directly(ix, producer) {
            self.error(
                foreach.at,
                format!("this waits for `{name}`, which the task does not need"),
                format!("add it: needs = [\"{name}\"]"),
            );
        }
        if giver.fans_out() {
            let message = format!("`{name}` has many instances, and each has its own `{output}`");
            self.error(foreach.at, message, "gather them in a task of its own that needs all of them");
        }
        if !giver.outputs.contains_key(output) {
            let warning = Diagnostic::warning(foreach.at, format!("`{name}` declares no output `{output}`"));
            let known = giver.outputs.keys().map(String::as_str);
            self.diagnostics.push(match nearest(output, known) {
                Some(near) => warning.hint(format!("did you mean `needs.{name}.outputs.{near}`?")),
                None => warning.hint(format!("declare it, outputs.{output} = {{ json = \"{output}.json\" }}, and write a JSON list to $SWARM_ARTIFACTS/{output}.json")),
            });
        }
    }

    fn needs_directly(&self, ix: TaskIx, need: TaskIx) -> bool {
        let task = self.plan.task(ix);
        named_needs(task).any(|named| named == need)
            || task.needs.iter().any(|need| matches!(need.target, NeedTarget::Every))
    }

    /// The names that a text uses.
    fn names(&mut self, template: &Template, scope: &Scope<'_>) {
        for name in template.names() {
            let at = self.place(template, name);
            let mut parts = name.split('.').skip(1);
            let (second, third) = (parts.next(), parts.next());
            match (root(name), scope.task) {
                ("run", _) if scope.trust != Trust::Graph => {
                    self.known(at, "run", second, ["name", "id", "base", "target"].into_iter())
                }
                ("vars", _) => self.known(at, "vars", second, self.plan.vars.keys().map(String::as_str)),
                ("env", _) if scope.trust != Trust::Graph => {
                    if second.is_none() {
                        self.error(at, "`env` needs the name of a variable", "write env.NAME");
                    }
                }
                ("seed", _) => {}
                ("with", Some((_, task))) if task.grown.is_some() => {
                    if scope.trust != Trust::Value {
                        self.refuse_in_command(at, name, scope);
                    }
                }
                ("with", Some((_, task))) => self.with_name(at, second, task),
                ("matrix", Some((_, task))) => self.matrix_name(at, second, task),
                ("needs", Some(_)) if scope.trust == Trust::Command => self.refuse_in_command(at, name, scope),
                ("needs", Some((ix, _))) if scope.trust == Trust::Value => self.need_name(at, second, third, ix),
                (name, Some((_, task))) if task.foreach.iter().any(|each| *each.name == *name) => {
                    let fed = task.foreach.iter().any(|each| {
                        *each.name == *name && matches!(each.source, Fan::Output { .. } | Fan::Grown { .. })
                    });
                    if fed && scope.trust == Trust::Command {
                        self.refuse_in_command(at, name, scope);
                    }
                }
                (name, _) => self.unknown_name(at, name, scope),
            }
        }
    }

    /// Where a name stands inside its text, when that can be seen.
    fn place(&self, template: &Template, name: &str) -> Location {
        let at = template.at();
        let raw = self.sources.get(at.source as usize).and_then(|source| source.text.get(at.span()));
        match raw.and_then(|raw| find_word(raw, name)) {
            Some(offset) => {
                let start = at.start as usize + offset;
                Location::new(at.source as usize, start..start + name.len())
            }
            None => at,
        }
    }

    fn known<'n>(&mut self, at: Location, root: &str, name: Option<&str>, known: impl Iterator<Item = &'n str>) {
        let Some(name) = name else { return };
        let known: Vec<&str> = known.collect();
        if known.contains(&name) {
            return;
        }
        let dashed = known.iter().find(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')));
        let hint = match (dashed, nearest(name, known.iter().copied())) {
            (Some(dashed), _) => format!("a dash is a minus here: write {root}[\"{dashed}\"]"),
            (None, Some(near)) => format!("did you mean `{root}.{near}`?"),
            (None, None) if known.is_empty() => format!("there is nothing in `{root}`"),
            (None, None) => format!(
                "`{root}` has {}",
                known.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        self.error(at, format!("`{root}.{name}` is not defined"), hint);
    }

    fn with_name(&mut self, at: Location, name: Option<&str>, task: &Task) {
        match name {
            None => self.used.extend(task.with.keys().cloned()),
            Some(name) if task.with.contains_key(name) => drop(self.used.insert(name.to_owned())),
            // One of several tasks that use the template: the caret alone does not tell which.
            Some(name) if nearest(name, task.with.keys().map(String::as_str)).is_none() => {
                let hint = format!("give it in [tasks.{}]: with = {{ {name} = \"…\" }}", task.name);
                self.error(at, format!("`with.{name}` is not defined for task `{}`", task.name), hint);
            }
            Some(_) => self.known(at, "with", name, task.with.keys().map(String::as_str)),
        }
    }

    /// A value that no text of a task asks for is most likely mistyped.
    fn unused_values(&mut self, task: &Task) {
        let used = std::mem::take(&mut self.used);
        // What a file says is not known here.
        if task.grown.is_some() || task.agent().is_some_and(|agent| agent.prompt_file.is_some()) {
            return;
        }
        for name in task.with.keys().filter(|name| !used.contains(*name)) {
            let at = task.places.with.unwrap_or(task.at);
            let message = format!("task `{}` gives `with.{name}`, which its template does not use", task.name);
            let hint = match nearest(name, used.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("take it away, or write {{{{ with.{name} }}}} in the template"),
            };
            self.diagnostics.push(Diagnostic::warning(at, message).hint(hint));
        }
    }

    fn matrix_name(&mut self, at: Location, name: Option<&str>, task: &Task) {
        let Some(matrix) = &task.matrix else {
            self.error(at, format!("`{}` has no matrix", task.name), "write matrix = { name = [\"a\", \"b\"] }");
            return;
        };
        let added = matrix.include.iter().flatten().map(|(name, _)| &**name);
        let axes = matrix.axes.iter().map(|(name, _)| &**name);
        self.known(at, "matrix", name, axes.chain(added));
    }

    /// `needs.TASK.result`, `needs.TASK.outputs`, `needs.TASK.instances`.
    fn need_name(&mut self, at: Location, task: Option<&str>, attribute: Option<&str>, ix: TaskIx) {
        let Some(name) = task else { return };
        match self.plan.task_by_name(name) {
            None => self.known(at, "needs", Some(name), self.plan.tasks.iter().map(|task| task.name.0.as_str())),
            Some(need) if !self.needs_directly(ix, need) => {
                let message = format!("`{}` does not need `{name}`", self.plan.task(ix).name);
                self.error(at, message, format!("add it: needs = [\"{name}\"]"));
            }
            Some(_) => {
                let known = ["result", "outputs", "instances"];
                if let Some(attribute) = attribute.filter(|attribute| !known.contains(attribute)) {
                    self.error(
                        at,
                        format!("`needs.{name}.{attribute}` is not defined"),
                        "a need has `result`, `outputs` and `instances`",
                    );
                }
            }
        }
    }

    fn refuse_in_command(&mut self, at: Location, name: &str, scope: &Scope<'_>) {
        let spoken = name.strip_prefix("with.").unwrap_or(name);
        let variable: String = root(spoken).to_uppercase();
        let diagnostic = Diagnostic::error(
            at,
            format!("`{name}` comes from a worker and cannot be part of `{}`", scope.what),
        )
        .label("could smuggle commands in")
        .hint(format!(
            "pass it through the environment: env = {{ {variable} = \"{{{{ {name} }}}}\" }}, and use \"${variable}\""
        ));
        self.diagnostics.push(diagnostic);
    }

    fn unknown_name(&mut self, at: Location, name: &str, scope: &Scope<'_>) {
        let mut known: Vec<&str> = match scope.trust {
            Trust::Graph => vec!["vars", "seed"],
            _ => vec!["run", "vars", "env", "seed"],
        };
        if let Some((_, task)) = scope.task {
            known.extend(task.foreach.iter().map(|each| &*each.name));
            known.extend(task.matrix.as_ref().map(|_| "matrix"));
            known.extend((!task.with.is_empty()).then_some("with"));
            known.extend((scope.trust == Trust::Value).then_some("needs"));
        }
        let hint = nearest(name, known.iter().copied())
            .map_or_else(|| format!("known here: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        self.error(at, format!("`{name}` is not defined in `{}`", scope.what), hint);
    }

    fn target(&mut self) {
        let Some(template) = &self.plan.merge.into else { return };
        self.names(template, &Scope::outside("into"));
        if let Some(branch) = template.literal()
            && let Err(reason) = branch_name(branch)
        {
            self.error(
                template.at(),
                format!("`{branch}` cannot be a branch: {reason}"),
                "a name like \"swarm/my-change\"",
            );
        }
    }

    fn merge(&mut self) {
        let merge = &self.plan.merge;
        for (what, command) in merge.commands() {
            self.command(command, &Scope::outside(what));
        }
        if let Some(agent) = merge.agent() {
            self.prompt(agent, &Scope::outside("prompt"));
        }
        for (name, at) in merge.sandboxes() {
            if let Some(at) = at.filter(|_| !self.plan.sandboxes.contains_key(name)) {
                let hint = format!("write it as [sandbox.{name}]");
                self.error(at, format!("there is no policy `{name}`"), hint);
            }
        }
    }

    /// Tasks that wait for each other as wholes. What instances add, the graph finds when it is expanded.
    fn cycles(&mut self) {
        let tasks = &self.plan.tasks;
        let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(tasks.len(), tasks.len());
        for _ in tasks {
            graph.add_node(());
        }
        for (index, task) in tasks.iter().enumerate() {
            for need in &task.needs {
                if let NeedTarget::Task(need) = need.target {
                    graph.add_edge(NodeIndex::new(need.index()), NodeIndex::new(index), ());
                }
            }
        }
        for cycle in cycle::cycles(&graph) {
            let members: Vec<TaskIx> = cycle.into_iter().map(|node| TaskIx(node.index() as u32)).collect();
            self.diagnostics.push(cycle_diagnostic(self.plan, &members));
        }
    }
}

/// "a -> b -> a", where `->` reads "needs".
pub(crate) fn cycle_diagnostic(plan: &Plan, members: &[TaskIx]) -> Diagnostic {
    let needed_at = |task: TaskIx, need: TaskIx| {
        let task = plan.task(task);
        let found = task.needs.iter().find(|spec| match spec.target {
            NeedTarget::Task(target) | NeedTarget::Instances { task: target, .. } => target == need,
            NeedTarget::Every => true,
        });
        found.map_or(task.at, |spec| spec.at)
    };
    let name = |task: &TaskIx| plan.task(*task).name.0.as_str();
    let mut names: Vec<&str> = members.iter().map(name).collect();
    names.extend(members.first().map(name));
    let (first, next) = (members[0], members[1 % members.len()]);
    let mut diagnostic =
        Diagnostic::error(needed_at(first, next), format!("tasks wait for each other: {}", names.join(" -> ")));
    for (index, task) in members.iter().enumerate().skip(1) {
        let next = members[(index + 1) % members.len()];
        diagnostic = diagnostic
            .related(needed_at(*task, next), format!("`{}` needs `{}`", plan.task(*task).name, plan.task(next).name));
    }
    diagnostic
        .label(format!("`{}` needs `{}`", plan.task(first).name, plan.task(next).name))
        .hint("remove one of these needs")
}

fn work_name(work: &Work) -> &'static str {
    match work {
        Work::Run(_) => "run",
        Work::Argv(_) => "argv",
        Work::Wasm(_) => "wasm",
        Work::Agent(_) => "agent",
    }
}

/// The first place where `name` stands as a word of its own.
fn find_word(text: &str, name: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    text.match_indices(name).map(|(at, _)| at).find(|at| {
        !text[..*at].ends_with(part) && !text[at + name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// Whether git would take it as the name of a branch.
///
/// # Errors
/// The first rule of `git check-ref-format` that it breaks, for people. Source: git-check-ref-format(1).
pub fn branch_name(name: &str) -> Result<(), &'static str> {
    let component = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if name.is_empty() || name == "@" || name == "HEAD" {
        Err("it is not a name")
    } else if name.starts_with('-') {
        Err("it starts with a dash")
    } else if name.starts_with("refs/") {
        Err("it starts with refs/: write the branch's name alone")
    } else if name.split('/').any(component) {
        Err("a part between slashes is empty, starts with a dot or ends with .lock")
    } else if name.contains("..") || name.contains("@{") || name.ends_with('.') {
        Err("it contains .. or @{ or ends with a dot")
    } else if name.contains(|c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c)) {
        Err("it contains a space, a control character or one of ~ ^ : ? * [ \\")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_follow_gits_rules() {
        for good in ["main", "swarm/x", "a.b/c-d"] {
            assert_eq!(branch_name(good), Ok(()), "{good}");
        }
        for bad in
            ["", "-x", "a//b", "a/", ".a", "a.lock", "a..b", "a b", "a~1", "x@{1}", "HEAD", "a\n", "refs/heads/x"]
        {
            assert!(branch_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_found_as_words() {
        assert_eq!(find_word("{{ crate }} {{ crat }}", "crat"), Some(15));
        assert_eq!(find_word("x.needs needs.a", "needs.a"), Some(8));
    }

    #[test]
    fn what_can_never_be_is_said_with_what_would_help() {
        let check = |tasks: &str, expected: &[&str]| {
            let text = format!("version = 1\n{tasks}\n");
            let found = crate::file::parse("p", &text, &[], &mut |_| Err(String::new())).diagnostics;
            let told: Vec<String> =
                found.iter().map(|one| format!("{} ({})", one.message, one.hint.as_deref().unwrap_or(""))).collect();
            assert_eq!(told.len(), expected.len(), "{tasks}: {told:?}");
            assert!(told.iter().zip(expected).all(|(told, words)| told.contains(words)), "{tasks}: {told:?}");
        };
        let of = |flag: &str, condition: &str| {
            format!("[tasks.b]\nrun = 'x'\n{flag}\n[tasks.c]\nneeds = ['b']\nif = \"{condition}\"\nrun = 'x'")
        };
        let never = "where `b` is 'failed', `c` does not start (its `if` is asked then only with `allow-failure = true` in [tasks.b])";
        check(&of("", "needs.b.result == 'failed'"), &[never]);
        check(&of("allow-failure = true", "needs.b.result == 'failed'"), &[]);
        check(&of("", "needs.b.result == 'skipped'"), &[]);
        let began = ["let `c` need the task that fails, with `allow-failure = true` there"];
        for word in ["blocked", "cancelled", "lost"] {
            check(&of("allow-failure = true", &format!("needs.b.result == '{word}'")), &began);
        }
        check(&of("allow-failure = true", "needs.b.result in ['blocked', 'failed']"), &[]);
        let known = ["(an `if` finds succeeded, flaky or skipped; and of a task with `allow-failure`"];
        check(&of("", "needs.b.result == 'done'"), &known);
        let matrix = "[tasks.m]\nrun = 'x'\nmatrix = { v = [1] }\nmatrix-exclude = [{ v = 1 }]";
        check(matrix, &["this leaves no instance of `m`"]);
        check(&format!("{matrix}\nmatrix-include = [{{ v = 2 }}]"), &[]);
        check(
            "[tasks.a]\nrun = 'x'\n[sandbox]\nnetwork = ['x.org']",
            &["is a key of one (write it below [sandbox.default])"],
        );
        check("[tasks.-x]\nrun = 'x'", &["it begins with a dash"]);
        check("[tasks.a]\nrun = \"grep \\d+ f\"", &["single quotes take it as it is"]);
        let yaml = crate::file::parse("p", "version: 1\ntasks:\n", &[], &mut |_| Err(String::new())).diagnostics;
        assert!(yaml[0].hint.as_deref().is_some_and(|hint| hint.contains("not YAML")), "{yaml:?}");
    }
}
