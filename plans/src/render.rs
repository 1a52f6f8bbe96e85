//! An instance's texts with its values in them, made when it starts: command lines, environment, globs, conditions.
//!
//! What comes from workers never becomes part of a command: templates of commands are not even given those values. Names of
//! files and lines of output may appear in a script as long as a shell would not interpret them.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use minijinja::Value;
use minijinja::value::Serde;
use serde_json::Value as Json;

use crate::agent::{Agent, AgentSettings};
use crate::diagnostic::Location;
use crate::expand::combinations;
use crate::expansion;
use crate::graph::TaskGraph;
use crate::ids::InstanceId;
use crate::instance::{Binding, BoundValue, Instance, InstanceIx, Origin};
use crate::merge::MergeMode;
use crate::plan::*;
use crate::review::Reviewer;
use crate::shape::glob_inside;
use crate::template::{Template, root};
use crate::validate::branch_name;

/// What only the run knows.
pub struct RenderContext<'a> {
    /// `run.name`.
    pub run_name: &'a str,
    /// `run.id`.
    pub run_id: &'a str,
    /// `run.base`: full hex id.
    pub base: &'a str,
    /// `run.target`: the target branch.
    pub target: Option<&'a str>,
    /// `{task: {result, outputs: {…}, instances: {id: {result, outputs}}}}`, of the instance's needs.
    pub needs: &'a Json,
    /// `env.NAME`: the coordinator's environment, as far as it is let through.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// `seed`; when `None`, the plan's.
    pub seed: Option<u64>,
}

/// An instance, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The work, the shell in front where there is one. Of a guest: its module and its arguments. Of an agent: nothing.
    pub argv: Vec<String>,
    /// Set when the work is a coding agent and no program.
    pub agent: Option<RenderedAgent>,
    /// Set when the work is a WebAssembly guest and no program.
    pub guest: Option<RenderedGuest>,
    /// For the work and its checks, in order: the task's `env`, then `SWARM_TASK`, `SWARM_SEED`, `SWARM_MATRIX_*`, `SWARM_FOREACH_*`.
    pub env: Vec<(String, String)>,
    /// The gates, in order.
    pub checks: Vec<RenderedCheck>,
    /// Agents that look at the result before it counts, in order.
    pub reviewers: Vec<RenderedReviewer>,
    /// Globs of what may change, relative to the tree: `None` is anything, an empty list nothing.
    pub writes: Option<Vec<String>>,
}

/// An agent that looks at a result, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedReviewer {
    /// The task with `review`, or `verifier`.
    pub by: String,
    /// What it is told.
    pub agent: RenderedAgent,
}

/// An agent, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedAgent {
    /// What it is told; empty where all of it stands in a file.
    pub prompt: String,
    /// A file with what it is told before that, relative to the tree.
    pub prompt_file: Option<String>,
    /// The rest.
    pub settings: AgentSettings,
}

/// What a guest has beside its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderedGuest {
    /// Instructions that it may execute.
    pub fuel: Option<u64>,
}

/// A command, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedCommand {
    /// Never empty.
    pub argv: Vec<String>,
    /// Wall time.
    pub timeout: Option<std::time::Duration>,
}

/// A gate, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedCheck {
    /// What has to exit with 0 after the work.
    pub command: RenderedCommand,
    /// What it has to do before the work.
    pub before: BeforeWork,
}

/// Why an instance cannot start. The plan, or what workers gave, has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A name is undefined, a filter unknown, a type wrong.
    #[error("`{text}` does not render: {reason}")]
    Template {
        /// The text.
        text: String,
        /// Where it is written.
        at: Location,
        /// What minijinja says.
        reason: String,
    },
    /// A name of a file or a line of output that a shell would interpret.
    #[error(
        "`{name}` is {value:?}, which a shell would not take as one plain word; use \"${variable}\" in the script instead"
    )]
    Shell {
        /// The foreach name.
        name: String,
        /// Its value.
        value: String,
        /// The variable that holds the same value.
        variable: String,
    },
    /// A glob of `writes` leaves the tree, or is none.
    #[error("a glob of `writes` is refused: {reason}")]
    Writes {
        /// Why.
        reason: String,
    },
    /// The target is not a name of a branch.
    #[error("`{branch}` cannot be a branch: {reason}")]
    Branch {
        /// The name.
        branch: String,
        /// The rule.
        reason: &'static str,
    },
    /// An argument or a variable that no program can be given.
    #[error("`{what}` cannot be passed to a program: {reason}")]
    Unpassable {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
}

/// The longest argument or variable, in bytes. Source: execve(2), `MAX_ARG_STRLEN`.
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// The longest prompt, in bytes.
const PROMPT_BYTES_MAX: usize = 1 << 20;

/// The shell of a `run` without `shell`.
pub const SHELL: [&str; 3] = ["sh", "-eu", "-c"];

/// What a template is rendered for.
#[derive(Clone, Copy)]
struct View<'a> {
    plan: &'a Plan,
    instance: Option<&'a Instance>,
    cx: Option<&'a RenderContext<'a>>,
}

impl TaskGraph {
    /// Renders all of an instance.
    ///
    /// # Errors
    /// See [`RenderError`]; the instance cannot start.
    pub fn render(&self, ix: InstanceIx, cx: &RenderContext<'_>) -> Result<Rendered, RenderError> {
        let instance = self.instance(ix);
        let task = self.plan.task(instance.task);
        let view = View { plan: &self.plan, instance: Some(instance), cx: Some(cx) };
        let checks = task.checks.iter().map(|check| {
            let shell = check.command.shell.as_deref().or(task.shell.as_deref());
            let argv = view.work(&check.command.work, shell)?;
            let command = RenderedCommand { argv, timeout: check.command.timeout };
            Ok(RenderedCheck { command, before: check.before })
        });
        Ok(Rendered {
            argv: view.work(&task.work, task.shell.as_deref())?,
            guest: match &task.work {
                Work::Wasm(wasm) => Some(RenderedGuest { fuel: wasm.fuel }),
                Work::Run(_) | Work::Argv(_) | Work::Agent(_) => None,
            },
            agent: match &task.work {
                Work::Agent(agent) => Some(view.agent(agent)?),
                Work::Run(_) | Work::Argv(_) | Work::Wasm(_) => None,
            },
            env: view.env(task, instance, cx)?,
            checks: checks.collect::<Result<_, _>>()?,
            reviewers: task.reviewers.iter().map(|one| view.reviewer(one)).collect::<Result<_, _>>()?,
            writes: match &task.writes {
                Some(globs) => Some(globs.iter().map(|glob| view.glob(glob)).collect::<Result<_, _>>()?),
                None => None,
            },
        })
    }

    /// Globs of what an instance may change, as far as the plan alone says; as [`Rendered::writes`].
    ///
    /// # Errors
    /// [`RenderError`] when it depends on what only the run knows.
    pub fn writes_before(&self, ix: InstanceIx) -> Result<Option<Vec<String>>, RenderError> {
        let instance = self.instance(ix);
        let view = View { plan: &self.plan, instance: Some(instance), cx: None };
        let globs = self.plan.task(instance.task).writes.as_ref();
        globs.map(|globs| globs.iter().map(|glob| view.glob(glob)).collect()).transpose()
    }

    /// Whether an instance's `if` holds; one without `if` runs.
    ///
    /// # Errors
    /// [`RenderError::Template`].
    pub fn condition(&self, ix: InstanceIx, cx: &RenderContext<'_>) -> Result<bool, RenderError> {
        let instance = self.instance(ix);
        let view = View { plan: &self.plan, instance: Some(instance), cx: Some(cx) };
        match &self.plan.task(instance.task).condition {
            Some(condition) => Ok(!view.text(condition, Trust::Value)?.is_empty()),
            None => Ok(true),
        }
    }

    /// A command outside of any instance: `[workspace] setup`, or the lines of a fan-out.
    ///
    /// # Errors
    /// [`RenderError::Template`] and [`RenderError::Unpassable`].
    pub fn render_command(&self, command: &Command, cx: &RenderContext<'_>) -> Result<RenderedCommand, RenderError> {
        self.plan.render_command(command, cx)
    }

    /// An agent outside of any instance: the resolver.
    ///
    /// # Errors
    /// [`RenderError::Template`] and [`RenderError::Unpassable`].
    pub fn render_agent(&self, agent: &Agent, cx: &RenderContext<'_>) -> Result<RenderedAgent, RenderError> {
        View { plan: &self.plan, instance: None, cx: Some(cx) }.agent(agent)
    }

    /// The values of a need's text, which only the plan decides.
    pub(crate) fn graph_values<'t>(&self, ix: InstanceIx, template: &'t Template) -> BTreeMap<&'t str, Value> {
        View { plan: &self.plan, instance: Some(self.instance(ix)), cx: None }.values(template, Trust::Value)
    }
}

impl Plan {
    /// A command outside of any instance: a fingerprint.
    ///
    /// # Errors
    /// [`RenderError::Template`] and [`RenderError::Unpassable`].
    pub fn render_command(&self, command: &Command, cx: &RenderContext<'_>) -> Result<RenderedCommand, RenderError> {
        let view = View { plan: self, instance: None, cx: Some(cx) };
        Ok(RenderedCommand { argv: view.work(&command.work, command.shell.as_deref())?, timeout: command.timeout })
    }

    /// The target branch, `swarm/{{ run.name }}` unless the plan says otherwise; `None` in mode `none`.
    ///
    /// # Errors
    /// [`RenderError::Template`], or [`RenderError::Branch`] when git would not take the name.
    pub fn target(&self, cx: &RenderContext<'_>) -> Result<Option<String>, RenderError> {
        if self.merge.mode == MergeMode::None {
            return Ok(None);
        }
        let branch = match &self.merge.into {
            Some(into) => View { plan: self, instance: None, cx: Some(cx) }.text(into, Trust::Command)?,
            None => format!("swarm/{}", cx.run_name),
        };
        match branch_name(&branch) {
            Ok(()) => Ok(Some(branch)),
            Err(reason) => Err(RenderError::Branch { branch, reason }),
        }
    }
}

impl Plan {
    /// Whether all that an entry's values go into can be made of them: for each instance that the entry becomes, as far as it and the
    /// plan alone say. What also names a need, the run or a variable is only known when the instance starts.
    ///
    /// # Errors
    /// See [`RenderError`]; an instance could not start.
    pub(crate) fn takes(&self, task: TaskIx, entry: &Json) -> Result<(), RenderError> {
        let (fed, task_ix, task) = ([BoundValue::from(entry.clone())], task, self.task(task));
        let is_known = |template: &&Template| !template.roots().any(|root| matches!(root, "needs" | "run" | "env"));
        // How many there may be is for whoever adds them.
        for combination in combinations(task, Some(&fed)).unwrap_or_default() {
            let id = InstanceId(task.name.0.as_str().into());
            let instance = Instance { id, task: task_ix, bindings: combination.bindings.into() };
            let view = View { plan: self, instance: Some(&instance), cx: None };
            for glob in task.writes.iter().flatten().filter(is_known) {
                view.glob(glob)?;
            }
            for (name, template) in task.env.iter().filter(|(_, template)| is_known(template)) {
                passable(name, &view.text(template, Trust::Value)?)?;
            }
            if let Some(condition) = task.condition.as_ref().filter(is_known) {
                view.text(condition, Trust::Value)?;
            }
        }
        Ok(())
    }
}

/// Whether a text may see what workers gave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// No: it becomes a command.
    Command,
    /// Yes.
    Value,
}

impl View<'_> {
    fn text(&self, template: &Template, trust: Trust) -> Result<String, RenderError> {
        if let Some(literal) = template.literal() {
            return Ok(literal.to_owned());
        }
        let values = self.values(template, trust);
        self.plan.engine.render(template, &values).map_err(|reason| RenderError::Template {
            text: template.source().to_owned(),
            at: template.at(),
            reason,
        })
    }

    /// The values of the names that a template uses, and of no others.
    fn values<'t>(&self, template: &'t Template, trust: Trust) -> BTreeMap<&'t str, Value> {
        let mut values = BTreeMap::new();
        for name in template.names() {
            let root = root(name);
            if values.contains_key(root) {
                continue;
            }
            let value = match (root, self.cx) {
                ("vars", _) => Some(self.plan.engine.vars()),
                ("seed", cx) => cx.and_then(|cx| cx.seed).or(self.plan.seed).map(Value::from),
                ("run", Some(cx)) => Some(run_value(cx)),
                ("env", Some(cx)) => Some(env_value(template, cx)),
                ("needs", Some(cx)) if trust == Trust::Value => Some(needs_value(template, cx)),
                _ => self.instance.and_then(|instance| self.bound(root, instance, trust)),
            };
            if let Some(value) = value {
                values.insert(root, value);
            }
        }
        values
    }

    /// `matrix`, `with`, or a foreach name.
    fn bound(&self, root: &str, instance: &Instance, trust: Trust) -> Option<Value> {
        let task = self.plan.task(instance.task);
        let value = |json: &Json| Value::from(Serde(json));
        match root {
            "matrix" => {
                let axes = instance.bindings.iter().filter(|binding| !binding.origin.is_foreach());
                Some(Value::from_pairs(axes.map(|binding| (&*binding.name, value(&binding.value.json())))))
            }
            "with" if task.grown.is_some() => {
                let entry = instance.bindings.iter().find(|binding| *binding.name == *expansion::ITEM)?;
                let hidden = trust == Trust::Command;
                let with = || Some(value(entry.value.json().get("with")?));
                (!hidden).then(|| with().unwrap_or_else(|| Value::from_pairs::<_, &str, Value>([])))
            }
            "with" => Some(Value::from_pairs(task.with.iter().map(|(name, json)| (name.as_str(), value(json))))),
            name => {
                let mut items = instance.bindings.iter().filter(|binding| binding.origin.is_foreach());
                let binding = items.find(|binding| *binding.name == *name)?;
                let hidden = trust == Trust::Command && binding.origin == Origin::Worker;
                (!hidden).then(|| value(&binding.value.json()))
            }
        }
    }

    fn work(&self, work: &Work, shell: Option<&[String]>) -> Result<Vec<String>, RenderError> {
        let argv: Vec<String> = match work {
            Work::Argv(argv) => argv.iter().map(|text| self.text(text, Trust::Command)).collect::<Result<_, _>>()?,
            Work::Wasm(wasm) => std::iter::once(&wasm.module)
                .chain(&wasm.args)
                .map(|text| self.text(text, Trust::Command))
                .collect::<Result<_, _>>()?,
            Work::Run(script) => {
                self.refuse_shell_words(script)?;
                let script = self.text(script, Trust::Command)?;
                let shell: Vec<String> = match shell {
                    Some(shell) => shell.to_vec(),
                    None => SHELL.map(str::to_owned).to_vec(),
                };
                shell.into_iter().chain([script]).collect()
            }
            Work::Agent(_) => return Ok(Vec::new()),
        };
        for (index, argument) in argv.iter().enumerate() {
            passable(&format!("argument {index}"), argument)?;
        }
        match argv.first() {
            Some(program) if !program.is_empty() => Ok(argv),
            _ => Err(RenderError::Unpassable {
                what: "argument 0".to_owned(),
                reason: "the program has no name".to_owned(),
            }),
        }
    }

    fn reviewer(&self, reviewer: &Reviewer) -> Result<RenderedReviewer, RenderError> {
        Ok(RenderedReviewer { by: reviewer.by.clone(), agent: self.agent(&reviewer.agent)? })
    }

    fn agent(&self, agent: &Agent) -> Result<RenderedAgent, RenderError> {
        let prompt = agent.prompt.as_ref().map(|prompt| self.text(prompt, Trust::Value)).transpose()?;
        let prompt = prompt.unwrap_or_default();
        if prompt.len() > PROMPT_BYTES_MAX {
            let reason = format!("it has {} bytes, and {PROMPT_BYTES_MAX} are possible", prompt.len());
            return Err(RenderError::Unpassable { what: "prompt".to_owned(), reason });
        }
        let (prompt_file, settings) = (agent.prompt_file.clone(), agent.settings.clone());
        Ok(RenderedAgent { prompt, prompt_file, settings })
    }

    /// Names of files and lines of output become part of a script only when they are plain words.
    fn refuse_shell_words(&self, script: &Template) -> Result<(), RenderError> {
        let Some(instance) = self.instance else { return Ok(()) };
        for binding in instance.bindings.iter().filter(|binding| binding.origin == Origin::Names) {
            if script.roots().any(|root| *root == *binding.name)
                && let Some(odd) = odd_word(&binding.value.json())
            {
                return Err(RenderError::Shell {
                    name: binding.name.to_string(),
                    value: odd,
                    variable: foreach_variable(&binding.name),
                });
            }
        }
        Ok(())
    }

    /// Whether a text uses something that a worker chose.
    fn is_from_workers(&self, template: &Template) -> bool {
        let worker = |binding: &&Binding| binding.origin == Origin::Worker;
        let mut bindings = self.instance.iter().flat_map(|instance| &instance.bindings).filter(worker);
        let grown = self.instance.is_some_and(|instance| self.plan.task(instance.task).grown.is_some());
        template.roots().any(|root| root == "needs" || (grown && root == "with"))
            || bindings.any(|one| template.roots().any(|root| *root == *one.name))
    }

    fn glob(&self, template: &Template) -> Result<String, RenderError> {
        let text = self.text(template, Trust::Value)?;
        // Matched literally, a value can still be no folder at all: `{{ dir }}/**` would then mean the whole tree.
        let path = text.strip_prefix("./").filter(|_| template.source().starts_with("./")).unwrap_or(&text);
        if self.is_from_workers(template) && path.trim_end_matches('/').split('/').any(|part| matches!(part, "" | "."))
        {
            return Err(RenderError::Writes { reason: format!("a value leaves a part of `{text}` without a name") });
        }
        glob_inside(&text).map_err(|(reason, _)| RenderError::Writes { reason })
    }

    fn env(
        &self,
        task: &Task,
        instance: &Instance,
        cx: &RenderContext<'_>,
    ) -> Result<Vec<(String, String)>, RenderError> {
        let mut env: IndexMap<String, String> = IndexMap::new();
        for (name, template) in &task.env {
            env.insert(name.clone(), self.text(template, Trust::Value)?);
        }
        env.insert("SWARM_TASK".to_owned(), instance.id.to_string());
        if let Some(seed) = cx.seed.or(self.plan.seed) {
            env.insert("SWARM_SEED".to_owned(), seed.to_string());
        }
        for binding in &instance.bindings {
            env.insert(variable(binding), plain(&binding.value.json()));
        }
        for (name, value) in &env {
            passable(name, value)?;
        }
        Ok(env.into_iter().collect())
    }
}

fn run_value(cx: &RenderContext<'_>) -> Value {
    let fixed = [("name", cx.run_name), ("id", cx.run_id), ("base", cx.base)];
    let all = fixed.into_iter().chain(cx.target.map(|target| ("target", target)));
    Value::from_pairs(all.map(|(name, text)| (name, Value::from(text))))
}

/// The variables that a template names, and no others.
fn env_value(template: &Template, cx: &RenderContext<'_>) -> Value {
    let names = template.names().iter().filter_map(|name| name.strip_prefix("env."));
    let names = names.map(|rest| rest.split('.').next().unwrap_or(rest));
    Value::from_pairs(names.filter_map(|name| Some((name, Value::from((cx.env)(name)?)))))
}

/// The needs that a template names; all of them when it uses `needs` as a whole.
fn needs_value(template: &Template, cx: &RenderContext<'_>) -> Value {
    let mut named: BTreeMap<&str, Value> = BTreeMap::new();
    for name in template.names().iter().filter(|name| root(name) == "needs") {
        let Some(task) = name.split('.').nth(1) else {
            return Value::from(Serde(cx.needs));
        };
        if let Some(need) = cx.needs.get(task) {
            named.entry(task).or_insert_with(|| Value::from(Serde(need)));
        }
    }
    Value::from_pairs(named)
}

fn passable(what: &str, text: &str) -> Result<(), RenderError> {
    let refuse = |reason: String| Err(RenderError::Unpassable { what: what.to_owned(), reason });
    if text.contains('\0') {
        return refuse("it contains a NUL character".to_owned());
    }
    if what.len() + text.len() > ARGUMENT_BYTES_MAX {
        return refuse(format!("it has {} bytes, and {ARGUMENT_BYTES_MAX} are possible", text.len()));
    }
    Ok(())
}

/// The first string in a value that is not one plain word to a shell.
fn odd_word(value: &Json) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || "_./@+:,%=-".contains(c);
    match value {
        Json::String(text) if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) => {
            Some(text.clone())
        }
        Json::Array(items) => items.iter().find_map(odd_word),
        _ => None,
    }
}

/// A value as a program sees it: a string as it is, anything else as JSON.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn variable(binding: &Binding) -> String {
    match binding.origin {
        Origin::Axis | Origin::Added => format!("SWARM_MATRIX_{}", upper(&binding.name)),
        Origin::List | Origin::Names | Origin::Worker => foreach_variable(&binding.name),
    }
}

fn foreach_variable(name: &str) -> String {
    format!("SWARM_FOREACH_{}", upper(name))
}

fn upper(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
