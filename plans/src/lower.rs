//! From a document whose shape was checked to the types of `plan`. What has a wrong shape was reported by `shape` and is
//! skipped here; what remains to be said is what several keys say together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::agent::AgentMode;
use crate::diagnostic::{Diagnostic, Location, SourceFile, nearest};
use crate::document::{Entry, Node, Table, Value};
use crate::elsewhere;
use crate::expansion::{self, Growth};
use crate::ids::{TaskName, task_in};
use crate::keys;
use crate::models;
use crate::plan::*;
use crate::quantity;
use crate::shape::{glob_inside, path_inside};
use crate::template::{Dialect, Engine, Template};

/// The most instances of a plan, fan-outs that grow while it runs included.
pub const INSTANCES_MAX: usize = 250_000;

/// What lowering needs everywhere.
pub(crate) struct Lower<'a> {
    pub sources: &'a [SourceFile],
    pub engine: Engine,
    pub diagnostics: Vec<Diagnostic>,
    pub vars: &'a IndexMap<String, Json>,
    /// `[templates]` by name.
    pub templates: HashMap<&'a str, &'a Entry>,
    pub defaults: Option<&'a Table>,
    /// Every task's name, for the needs of all.
    pub task_names: HashMap<&'a str, TaskIx>,
    /// What `expands` says, by task.
    pub expands: HashMap<TaskIx, Expands>,
}

/// The keys of a task: its own, then its template's, then the defaults.
struct Layers<'a> {
    own: &'a Table,
    template: Option<&'a Table>,
    defaults: Option<&'a Table>,
}

const NOTHING: &Table = &Table { entries: Vec::new() };

/// The keys of which a task has exactly one.
const WORK_KEYS: [&str; 4] = ["run", "argv", "wasm", "agent"];

impl<'a> Layers<'a> {
    fn get(&self, key: &str) -> Option<&'a Node> {
        self.layers().find_map(|table| table.get(key))
    }

    /// From the strongest.
    fn layers(&self) -> impl DoubleEndedIterator<Item = &'a Table> {
        [Some(self.own), self.template, self.defaults].into_iter().flatten()
    }

    /// The work keys of the strongest layer that has any.
    fn work(&self) -> Vec<&'a Entry> {
        let of = |table: &'a Table| -> Vec<&'a Entry> {
            table.entries.iter().filter(|entry| WORK_KEYS.contains(&entry.key.as_str())).collect()
        };
        self.layers().map(of).find(|entries| !entries.is_empty()).unwrap_or_default()
    }
}

impl<'a> Lower<'a> {
    /// A text of the plan, compiled; a literal stand-in when it does not parse.
    pub fn template(&mut self, node: &Node, dialect: Dialect) -> Template {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(integer) => integer.to_string(),
            Value::Flag(flag) => flag.to_string(),
            _ => String::new(),
        };
        let raw =
            self.sources.get(node.at.source as usize).and_then(|source| source.text.get(node.at.span())).unwrap_or("");
        match self.engine.compile(&text, node.at, raw, dialect) {
            Ok(template) => template,
            Err(diagnostic) => {
                let braces = dialect == Dialect::Expression && text.contains("{{");
                self.diagnostics.push(match braces {
                    true => (*diagnostic).hint("`if` is an expression already: leave out the {{ }}"),
                    false => *diagnostic,
                });
                Template::literal_at("", node.at)
            }
        }
    }

    pub fn error(&mut self, at: Location, message: impl Into<String>, hint: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(at, message).hint(hint));
    }

    /// A task. One that is not even a table, or has nothing to do, gets a stand-in: it is reported, and what else is wrong
    /// with the plan can still be found.
    pub fn task(&mut self, ix: TaskIx, entry: &'a Entry) -> Task {
        let own = entry.node.table().unwrap_or(NOTHING);
        let layers = Layers { own, template: self.used_template(own), defaults: self.defaults };
        self.task_of(ix, entry, &layers)
    }

    /// A task that nobody wrote: a template, with instances from the giver's output.
    pub fn grown(&mut self, ix: TaskIx, growth: &Growth<'a>) -> Task {
        let own = growth.template.node.table().unwrap_or(NOTHING);
        let layers = Layers { own, template: None, defaults: self.defaults };
        let mut task = self.task_of(ix, growth.template, &layers);
        let at = growth.template.key_at;
        if let Some(twin) = task.foreach.iter().find(|each| &*each.name == expansion::ITEM) {
            let hint = format!("`{}` is the entry of the list that it was made from", expansion::ITEM);
            self.diagnostics.push(Diagnostic::error(twin.at, "this name is taken").hint(hint));
        }
        let giver = growth.giver;
        task.name = TaskName(growth.name.clone());
        task.foreach.insert(0, Foreach { name: expansion::ITEM.into(), at, source: Fan::Grown { giver } });
        if !task.needs.iter().any(|need| matches!(need.target, NeedTarget::Task(task) if task == giver)) {
            task.needs.insert(0, NeedSpec { at, target: NeedTarget::Task(giver) });
        }
        task.grown = Some(Grown { giver, template: growth.template.key.clone() });
        task
    }

    fn task_of(&mut self, ix: TaskIx, entry: &'a Entry, layers: &Layers<'a>) -> Task {
        let own = layers.own;
        let work = self.work(entry, layers);
        let shell = layers.get("shell").and_then(texts);
        let mut checks = layers.get("check").map(|node| self.checks(node)).unwrap_or_default();
        let until = self.until(layers.get("until"), work.as_ref());
        checks.extend(until.checks);
        let reviews = self.reviewed(own, &entry.key, work.as_ref());
        let condition = layers.get("if").map(|node| self.template(node, Dialect::Expression));
        let artifacts = layers.get("artifacts").map(inside_globs).unwrap_or_default();
        let writes = layers.get("writes").and_then(Node::list).map(|items| self.globs(items));
        // What stands behind an agent that may only look (a hook, a server of tools) changes nothing either; what its checks
        // build is not looked at: each has a worktree of its own.
        let only_looks = matches!(&work, Some(Work::Agent(agent)) if agent.settings.mode == AgentMode::ReadOnly);
        let writes = writes.or_else(|| only_looks.then(Vec::new));
        let mut outputs = layers.get("outputs").map(|node| self.outputs(node)).unwrap_or_default();
        let expands = self.expands.get(&ix).cloned();
        if expands.is_some() {
            let file = || OutputSource::Json(format!("{}.json", expansion::OUTPUT));
            outputs.entry(expansion::OUTPUT.to_owned()).or_insert_with(file);
        }
        Task {
            name: TaskName(entry.key.clone()),
            at: entry.key_at,
            work: work.unwrap_or_else(|| Work::Run(Template::literal_at("", entry.key_at))),
            shell,
            needs: layers.get("needs").map(|node| self.needs(node)).unwrap_or_default(),
            foreach: layers.get("foreach").map(|node| self.foreach(node)).unwrap_or_default(),
            foreach_batch: count(layers.get("foreach-batch")).unwrap_or(1),
            foreach_max: count(layers.get("foreach-max")).unwrap_or(INSTANCES_MAX as u32),
            matrix: self.matrix(layers),
            condition,
            env: self.env(layers),
            outputs,
            artifacts,
            writes,
            checks,
            retry: layers.get("retry").map(retry).unwrap_or_default(),
            rounds: until.rounds,
            reviewers: until.reviewers,
            is_review: !reviews.is_empty(),
            reviews,
            timeout: time(layers.get("timeout")),
            resources: layers.get("resources").map(counts).unwrap_or_default(),
            priority: layers.get("priority").and_then(Node::integer).and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
            allow_failure: match layers.get("allow-failure").and_then(Node::flag) {
                Some(true) => AllowFailure::Yes,
                _ => AllowFailure::No,
            },
            sandbox: layers.get("sandbox").and_then(Node::text).unwrap_or(DEFAULT_SANDBOX).to_owned(),
            models: layers.get("models").map(models::uses).unwrap_or_default(),
            budget: models::task_budget(layers.get("budget")),
            cache: layers.get("cache").and_then(|node| self.caching(node)),
            expands,
            grown: None,
            with: Arc::new(self.with(own)),
            places: Places::of(|key| layers.get(key).map(|node| node.at)),
        }
    }

    /// The template that a task uses.
    fn used_template(&mut self, own: &'a Table) -> Option<&'a Table> {
        let node = own.get("use")?;
        let name = node.text()?;
        match self.templates.get(name) {
            Some(entry) => entry.node.table(),
            None => {
                let diagnostic = Diagnostic::error(node.at, format!("there is no template `{name}`"));
                let near = nearest(name, self.templates.keys().copied());
                let hint = near.map_or_else(
                    || format!("write it as [templates.{name}]"),
                    |near| format!("did you mean `{near}`?"),
                );
                self.diagnostics.push(diagnostic.hint(hint));
                None
            }
        }
    }

    fn with(&mut self, own: &Table) -> IndexMap<String, Json> {
        let Some(entry) = own.entry("with") else { return IndexMap::new() };
        if own.get("use").is_none() {
            self.error(entry.key_at, "`with` without `use`", "`with` gives values to the template that `use` names");
        }
        let Some(table) = entry.node.table() else { return IndexMap::new() };
        for value in &table.entries {
            if value.node.text().is_some_and(|text| text.contains("{{")) {
                self.error(
                    value.node.at,
                    "values of `with` are plain, not templates",
                    "use {{ }} in the template's own texts: they see matrix, vars and foreach names, too",
                );
            }
        }
        table.entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
    }

    fn work(&mut self, task: &Entry, layers: &Layers<'_>) -> Option<Work> {
        let entries = layers.work();
        match entries.as_slice() {
            [] => {
                let message = format!("task `{}` has nothing to do", task.key);
                // Another tool's word for `run` is an error of its own, with the word that is meant.
                let meant = layers.own.entries.iter().any(|entry| elsewhere::means_work(&entry.key));
                let meant = meant || layers.own.entries.iter().any(|entry| is_slip_of_work(&entry.key));
                if task.node.table().is_some()
                    && !meant
                    && (layers.own.get("use").is_none() || layers.template.is_some())
                {
                    self.error(task.key_at, message, "give it one of: run, argv, wasm, agent, use");
                }
                None
            }
            [entry] => self.work_of(entry),
            [first, second, ..] => {
                let message = format!("task `{}` has both `{}` and `{}`", task.key, first.key, second.key);
                let diagnostic = Diagnostic::error(second.key_at, message)
                    .related(first.key_at, "the first one")
                    .hint("a task does one thing: exactly one of run, argv, wasm, agent");
                self.diagnostics.push(diagnostic);
                // What else is wrong with the first one can still be found.
                self.work_of(first)
            }
        }
    }

    fn work_of(&mut self, entry: &Entry) -> Option<Work> {
        match entry.key.as_str() {
            "run" => Some(Work::Run(self.template(&entry.node, Dialect::Text))),
            "argv" => Some(Work::Argv(self.templates_of(&entry.node))),
            "wasm" => self.wasm(&entry.node).map(Work::Wasm),
            "agent" => self.agent(&entry.node).map(|agent| Work::Agent(Box::new(agent))),
            _ => None,
        }
    }

    fn wasm(&mut self, node: &Node) -> Option<Wasm> {
        if node.text().is_some() {
            return Some(Wasm { module: self.template(node, Dialect::Text), args: Vec::new(), fuel: None });
        }
        let table = node.table()?;
        let Some(module) = table.get("module") else {
            self.error(node.at, "`wasm` names no module", "write wasm = { module = \"tools/x.wasm\", args = [] }");
            return None;
        };
        Some(Wasm {
            module: self.template(module, Dialect::Text),
            args: table.get("args").map(|args| self.templates_of(args)).unwrap_or_default(),
            fuel: table.get("fuel").and_then(Node::integer).and_then(|fuel| u64::try_from(fuel).ok()),
        })
    }

    fn templates_of(&mut self, node: &Node) -> Vec<Template> {
        let items = node.list().unwrap_or_default();
        items.iter().map(|item| self.template(item, Dialect::Text)).collect()
    }

    /// A command of its own; `None` when it says nothing or too much, which is reported.
    pub fn command(&mut self, node: &Node, what: &str) -> Option<Command> {
        if node.text().is_some() {
            return Some(Command { work: Work::Run(self.template(node, Dialect::Text)), shell: None, timeout: None });
        }
        let table = node.table()?;
        let work = match (table.entry("run"), table.entry("argv")) {
            (Some(run), None) => Work::Run(self.template(&run.node, Dialect::Text)),
            (None, Some(argv)) => Work::Argv(self.templates_of(&argv.node)),
            (None, None) => {
                self.error(node.at, format!("`{what}` has nothing to do"), "give it `run` or `argv`");
                return None;
            }
            (Some(run), Some(argv)) => {
                let diagnostic = Diagnostic::error(argv.key_at, format!("`{what}` has both `run` and `argv`"));
                self.diagnostics.push(diagnostic.related(run.key_at, "the first one"));
                return None;
            }
        };
        Some(Command { work, shell: table.get("shell").and_then(texts), timeout: time(table.get("timeout")) })
    }

    pub fn checks(&mut self, node: &Node) -> Vec<Check> {
        let one = std::slice::from_ref(node);
        let mut checks = Vec::new();
        for item in node.list().unwrap_or(one) {
            let expects = item.table().and_then(|table| table.get("expect-fail-before")).and_then(Node::flag);
            let before = if expects == Some(true) { BeforeWork::ExpectFail } else { BeforeWork::NotRun };
            checks.extend(self.command(item, "check").map(|command| Check { command, before }));
        }
        checks
    }

    /// `cache = true`, or a table that says what counts.
    fn caching(&mut self, node: &Node) -> Option<Caching> {
        match node.table() {
            None => (node.flag() == Some(true)).then(Caching::default),
            Some(table) => Some(Caching {
                inputs: table.get("inputs").map(inside_globs),
                fingerprint: table.get("fingerprint").and_then(|node| self.command(node, "fingerprint")),
            }),
        }
    }

    fn globs(&mut self, items: &[Node]) -> Vec<Template> {
        let mut globs = Vec::new();
        for item in items {
            let glob = self.template(item, Dialect::Glob);
            // A literal is kept in its normal form; what is wrong with it was reported by its shape.
            globs.push(match glob.literal().map(glob_inside) {
                Some(Ok(normal)) => Template::literal_at(&normal, item.at),
                _ => glob,
            });
        }
        globs
    }

    fn env(&mut self, layers: &Layers<'_>) -> IndexMap<String, Template> {
        let mut env = IndexMap::new();
        for entries in layers.layers().rev().filter_map(|layer| layer.get("env")).filter_map(Node::table) {
            for entry in &entries.entries {
                if entry.key.contains('-') || entry.key.starts_with(|c: char| c.is_ascii_digit()) {
                    let hint = "names of variables consist of A-Z a-z 0-9 _ and do not start with a digit";
                    self.error(entry.key_at, format!("no shell can read a variable `{}`", entry.key), hint);
                } else if entry.key.starts_with("SWARM_") {
                    let message = format!("`{}` cannot be set", entry.key);
                    self.error(entry.key_at, message, "names that start with SWARM_ belong to this program");
                }
                env.insert(entry.key.clone(), self.template(&entry.node, Dialect::Text));
            }
        }
        env
    }

    fn outputs(&mut self, node: &Node) -> IndexMap<String, OutputSource> {
        let mut outputs = IndexMap::new();
        for entry in node.table().map(|table| table.entries.as_slice()).unwrap_or_default() {
            let Some(table) = entry.node.table() else { continue };
            let file =
                |key: &str| table.get(key).and_then(Node::text).map(|text| path_inside(text).unwrap_or_default());
            let source = match (file("json"), file("text"), file("lines")) {
                (Some(json), None, None) => OutputSource::Json(json),
                (None, Some(text), None) => OutputSource::Text(text),
                (None, None, Some(lines)) => OutputSource::Lines(lines),
                _ => {
                    let message = format!("output `{}` needs exactly one of `json`, `text`, `lines`", entry.key);
                    self.error(
                        entry.node.at,
                        message,
                        format!("write outputs.{} = {{ json = \"{}.json\" }}", entry.key, entry.key),
                    );
                    continue;
                }
            };
            outputs.insert(entry.key.clone(), source);
        }
        outputs
    }

    pub fn needs(&mut self, node: &Node) -> Vec<NeedSpec> {
        let one = std::slice::from_ref(node);
        let mut needs: Vec<NeedSpec> = Vec::new();
        let mut seen: HashMap<&str, Location> = HashMap::new();
        for item in node.list().unwrap_or(one) {
            let Some(text) = item.text() else { continue };
            if let Some(first) = seen.insert(text, item.at) {
                let diagnostic = Diagnostic::error(item.at, format!("`{text}` is needed twice"));
                self.diagnostics.push(diagnostic.related(first, "the first time"));
                continue;
            }
            needs.extend(self.need(item, text).map(|target| NeedSpec { at: item.at, target }));
        }
        needs
    }

    fn need(&mut self, node: &Node, text: &str) -> Option<NeedTarget> {
        if text == "*" {
            return Some(NeedTarget::Every);
        }
        let name = task_in(text);
        let Some(&task) = self.task_names.get(name) else {
            if name.contains("{{") {
                let hint = "a template may stand inside the brackets: \"build[profile={{ matrix.profile }}]\"";
                self.error(node.at, "the name of a needed task cannot be a template", hint);
                return None;
            }
            let diagnostic = Diagnostic::error(node.at, format!("there is no task `{name}`"));
            self.diagnostics.push(match nearest(name, self.task_names.keys().copied()) {
                Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                None => diagnostic,
            });
            return None;
        };
        if name.len() == text.len() {
            return Some(NeedTarget::Task(task));
        }
        if !text.ends_with(']') {
            self.error(node.at, format!("`{text}` lacks its closing bracket"), format!("write \"{name}[key=value]\""));
            return None;
        }
        Some(NeedTarget::Instances { task, selector: self.template(node, Dialect::Text) })
    }

    fn foreach(&mut self, node: &Node) -> Vec<Foreach> {
        let entries = node.table().map(|table| table.entries.as_slice()).unwrap_or_default();
        let mut all = Vec::new();
        for entry in entries {
            if RESERVED_NAMES.contains(&entry.key.as_str()) {
                let hint = format!("these are taken: {}", RESERVED_NAMES.join(", "));
                self.error(entry.key_at, format!("`{}` cannot be the name of an item", entry.key), hint);
            } else if entry.key.contains('-') || entry.key.starts_with(|c: char| c.is_ascii_digit()) {
                let hint = "templates would read a dash as minus: use letters, digits and _";
                self.error(entry.key_at, format!("`{}` cannot be used in a template", entry.key), hint);
            }
            // What is no source has been refused. Its name stays known, so that nothing is said about those who use it.
            let source = self.fan(&entry.node).unwrap_or_else(|| Fan::List(Vec::new()));
            all.push(Foreach { name: entry.key.as_str().into(), at: entry.key_at, source });
        }
        all
    }

    fn fan(&mut self, node: &Node) -> Option<Fan> {
        match &node.value {
            Value::List(items) => Some(Fan::List(items.iter().map(|item| Arc::new(item.to_json())).collect())),
            Value::Text(text) => self.fan_by_name(node.at, text),
            Value::Table(table) => match (table.entry("glob"), table.entry("lines")) {
                (Some(glob), None) => {
                    let one = std::slice::from_ref(&glob.node);
                    let globs = glob.node.list().unwrap_or(one);
                    Some(Fan::Glob(
                        globs.iter().filter_map(Node::text).filter_map(|text| glob_inside(text).ok()).collect(),
                    ))
                }
                (None, Some(lines)) => self.command(&lines.node, "lines").map(Fan::Lines),
                _ => {
                    self.error(node.at, "a fan-out needs exactly one of `glob` and `lines`", FAN_HINT);
                    None
                }
            },
            _ => None,
        }
    }

    /// `needs.survey.outputs.crates` or `vars.crates`.
    fn fan_by_name(&mut self, at: Location, text: &str) -> Option<Fan> {
        match text.split('.').collect::<Vec<_>>().as_slice() {
            ["needs", task, "outputs", output] => match self.task_names.get(task) {
                Some(&ix) => Some(Fan::Output { task: ix, output: (*output).to_owned() }),
                None => {
                    let near = nearest(task, self.task_names.keys().copied());
                    let diagnostic = Diagnostic::error(at, format!("there is no task `{task}`"));
                    self.diagnostics.push(match near {
                        Some(near) => diagnostic.hint(format!("did you mean `needs.{near}.outputs.{output}`?")),
                        None => diagnostic,
                    });
                    None
                }
            },
            ["vars", name] => match self.vars.get(*name) {
                Some(Json::Array(items)) => Some(Fan::List(items.iter().cloned().map(Arc::new).collect())),
                Some(_) => {
                    self.error(at, format!("`vars.{name}` is not a list"), FAN_HINT);
                    None
                }
                None => {
                    self.error(at, format!("there is no variable `{name}`"), "write it in [vars]");
                    None
                }
            },
            _ => {
                self.error(at, format!("`{text}` is not a source of items"), FAN_HINT);
                None
            }
        }
    }

    fn matrix(&mut self, layers: &Layers<'_>) -> Option<Matrix> {
        let node = layers.get("matrix");
        let include = layers.get("matrix-include");
        let exclude = layers.get("matrix-exclude");
        let at = node.or(include).or(exclude)?.at;
        let mut axes: Vec<(Arc<str>, Vec<Arc<Json>>)> = Vec::new();
        for entry in node.and_then(Node::table).map(|table| table.entries.as_slice()).unwrap_or_default() {
            let values: Vec<Arc<Json>> =
                entry.node.list().unwrap_or_default().iter().map(|v| Arc::new(v.to_json())).collect();
            self.refuse_twins(entry, &values);
            axes.push((entry.key.as_str().into(), values));
        }
        let exclude = self.excludes(exclude, &axes);
        let include = pairs(include).into_iter().map(|table| {
            table.entries.iter().map(|e| (Arc::from(e.key.as_str()), Arc::new(e.node.to_json()))).collect()
        });
        Some(Matrix { at: Some(at), axes, exclude, include: include.collect() })
    }

    fn refuse_twins(&mut self, entry: &Entry, values: &[Arc<Json>]) {
        let mut seen = std::collections::HashSet::new();
        for (index, value) in values.iter().enumerate() {
            if !seen.insert(value.to_string()) {
                let at = entry.node.list().and_then(|items| items.get(index)).map_or(entry.node.at, |item| item.at);
                self.error(
                    at,
                    format!("{value} comes twice in `{}`", entry.key),
                    "each value makes its own instances: remove one",
                );
            }
        }
    }

    /// An exclusion that can match nothing is a mistake.
    fn excludes(&mut self, node: Option<&Node>, axes: &[(Arc<str>, Vec<Arc<Json>>)]) -> Vec<Vec<(String, Json)>> {
        let mut all = Vec::new();
        for table in pairs(node) {
            for entry in &table.entries {
                let value = entry.node.to_json();
                match axes.iter().find(|(name, _)| **name == *entry.key) {
                    None => {
                        let names: Vec<String> = axes.iter().map(|(name, _)| format!("`{name}`")).collect();
                        let message = format!("this exclusion matches nothing: there is no axis `{}`", entry.key);
                        self.error(entry.key_at, message, format!("the axes are {}", names.join(", ")));
                    }
                    Some((name, values)) if !values.iter().any(|known| **known == value) => {
                        let known: Vec<String> = values.iter().take(8).map(|value| value.to_string()).collect();
                        let message = format!("this exclusion matches nothing: `{name}` is never {value}");
                        self.error(entry.node.at, message, format!("its values are {}", known.join(", ")));
                    }
                    Some(_) => {}
                }
            }
            all.push(table.entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect());
        }
        all
    }
}

const FAN_HINT: &str =
    "write a list, \"needs.TASK.outputs.NAME\", \"vars.NAME\", { glob = \"src/**\" } or { lines = \"git ls-files\" }";

/// Names that templates already know.
pub(crate) const RESERVED_NAMES: [&str; 16] = [
    "run", "vars", "matrix", "needs", "env", "seed", "with", "loop", "true", "false", "none", "not", "and", "or", "in",
    "is",
];

fn pairs(node: Option<&Node>) -> Vec<&Table> {
    node.and_then(Node::list).unwrap_or_default().iter().filter_map(Node::table).collect()
}

/// All strings of a list; `None` when it is not a list.
pub(crate) fn texts(node: &Node) -> Option<Vec<String>> {
    Some(node.list()?.iter().filter_map(Node::text).map(str::to_owned).collect())
}

/// The globs of a list, in their normal form.
pub(crate) fn inside_globs(node: &Node) -> Vec<String> {
    let items = node.list().unwrap_or_default();
    items.iter().filter_map(Node::text).filter_map(|text| glob_inside(text).ok()).collect()
}

/// The paths of a list, in their normal form.
pub(crate) fn insides(node: &Node) -> Vec<String> {
    let items = node.list().unwrap_or_default();
    items.iter().filter_map(Node::text).filter_map(|text| path_inside(text).ok()).collect()
}

pub(crate) fn count(node: Option<&Node>) -> Option<u32> {
    node.and_then(Node::integer).and_then(|integer| u32::try_from(integer).ok())
}

pub(crate) fn counts(node: &Node) -> IndexMap<String, u32> {
    let entries = node.table().map(|table| table.entries.as_slice()).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((entry.key.clone(), count(Some(&entry.node))?))).collect()
}

pub(crate) fn time(node: Option<&Node>) -> Option<Duration> {
    node.and_then(Node::text).and_then(|text| quantity::duration(text).ok())
}

fn retry(node: &Node) -> Retry {
    let default = Retry::default();
    let Some(table) = node.table() else {
        return Retry { max: count(Some(node)).unwrap_or(0), ..default };
    };
    let class = |node: &Node| match node.text()? {
        "infra" => Some(RetryClass::Infra),
        "timeout" => Some(RetryClass::Timeout),
        "exit" => Some(RetryClass::Exit),
        "conflict" => Some(RetryClass::Conflict),
        _ => None,
    };
    Retry {
        max: count(table.get("max")).unwrap_or(1),
        on: table.get("on").and_then(Node::list).map_or(default.on, |on| on.iter().filter_map(class).collect()),
        backoff: match table.get("backoff").and_then(Node::text) {
            Some("none") => Backoff::None,
            Some("linear") => Backoff::Linear,
            _ => default.backoff,
        },
        delay: time(table.get("delay")).unwrap_or(default.delay),
        max_delay: time(table.get("max-delay")).unwrap_or(default.max_delay),
        jitter: match table.get("jitter").and_then(Node::flag) {
            Some(false) => Jitter::Exact,
            _ => default.jitter,
        },
    }
}

/// Whether a key that no task has is told to be one of those that say what a task does.
fn is_slip_of_work(key: &str) -> bool {
    let meant = nearest(key, keys::TASK.iter().map(|known| known.name));
    keys::TASK.iter().all(|known| known.name != key) && matches!(meant, Some("run" | "argv" | "wasm" | "agent" | "use"))
}
