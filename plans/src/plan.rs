//! What a plan means: types whose invariants the parser has established. Start at [`Plan`], then [`Task`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

use crate::agent::Agent;
use crate::diagnostic::Location;
use crate::egress::HostRule;
use crate::ids::TaskName;
use crate::merge::Merge;
use crate::models::{Budget, Model, ModelUse, TaskBudget};
use crate::review::Reviewer;
use crate::template::{Engine, Template};
use crate::tool_servers::{ServerUse, ToolServer};

/// The policy that exists without being written.
pub const DEFAULT_SANDBOX: &str = "default";

/// A task's place in [`Plan::tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskIx(pub u32);

impl TaskIx {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A validated plan: every name in it resolves, every number is in its range.
#[derive(Debug)]
pub struct Plan {
    /// `[A-Za-z0-9._-]+`; the file's stem unless the plan says otherwise.
    pub name: String,
    /// The revision that the run starts from, as written; `HEAD` by default.
    pub base: String,
    /// Reaches workers as `$SWARM_SEED`.
    pub seed: Option<u64>,
    /// Workers at once; `None` leaves it to the machine.
    pub jobs: Option<u32>,
    /// For the whole run.
    pub deadline: Option<Duration>,
    /// Values for templates, after `--set`.
    pub vars: IndexMap<String, Value>,
    /// Capacities that tasks take parts of.
    pub resources: IndexMap<String, u32>,
    /// How each worktree is made.
    pub workspace: Workspace,
    /// Named policies; `default` is always among them.
    pub sandboxes: IndexMap<String, SandboxPolicy>,
    /// Models by name, without a person's own.
    pub models: IndexMap<String, Model>,
    /// Servers of tools for agents, by name.
    pub servers: IndexMap<String, ToolServer>,
    /// What the run may spend on models.
    pub budget: Budget,
    /// What happens with the changes.
    pub merge: Merge,
    /// In the order in which the plan writes them.
    pub tasks: Vec<Task>,
    /// The compiled templates of all of the above.
    pub(crate) engine: Engine,
}

impl Plan {
    /// By which task each of them is added, in plan order; `None` for those that are written.
    pub fn givers(&self) -> impl Iterator<Item = Option<TaskIx>> + '_ {
        self.tasks.iter().map(|task| task.grown.as_ref().map(|grown| grown.giver))
    }

    /// The task of that name.
    pub fn task_by_name(&self, name: &str) -> Option<TaskIx> {
        let at = self.tasks.iter().position(|task| task.name.0 == name)?;
        Some(TaskIx(at as u32))
    }

    /// Every model that a task names, for its programs or for its agent.
    pub fn model_uses(&self) -> impl Iterator<Item = &ModelUse> {
        self.tasks.iter().flat_map(Task::model_uses).chain(self.merge.agent().map(|agent| &agent.model_use))
    }

    /// The models of its agents.
    pub fn agent_models(&self) -> impl Iterator<Item = &ModelUse> {
        self.agents().map(|agent| &agent.model_use)
    }

    /// Every server that an agent names, as written.
    pub fn server_uses(&self) -> impl Iterator<Item = &ServerUse> {
        self.agents().flat_map(|agent| &agent.server_uses)
    }

    /// Those that work, those that look at what others did (one that looks at several tasks comes once for each), and the one that
    /// settles conflicts.
    fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.tasks.iter().flat_map(Task::agents).chain(self.merge.agent())
    }

    /// The caller's variables that texts of the plan name as `env.NAME`, sorted, each once.
    pub fn variables_named(&self) -> BTreeSet<String> {
        let variable = |name: &str| Some(name.strip_prefix("env.")?.split('.').next().unwrap_or_default().to_owned());
        self.engine.names().filter_map(variable).collect()
    }

    /// The task at an index of this plan.
    pub fn task(&self, task: TaskIx) -> &Task {
        &self.tasks[task.index()]
    }
}

/// A task as written; it stands for one instance, or for many.
#[derive(Debug)]
pub struct Task {
    /// Its name.
    pub name: TaskName,
    /// Where its header or first key is.
    pub at: Location,
    /// What an instance does.
    pub work: Work,
    /// The program in front of a `run` script, its last argument; `sh -eu -c` by default.
    pub shell: Option<Vec<String>>,
    /// What it waits for, in plan order.
    pub needs: Vec<NeedSpec>,
    /// Fan-outs over lists; the first is the outermost.
    pub foreach: Vec<Foreach>,
    /// Items an instance gets; with more than one the value is a list.
    pub foreach_batch: u32,
    /// The most items a fan-out may have.
    pub foreach_max: u32,
    /// Axes, and what to leave out and add, as in GitHub Actions.
    pub matrix: Option<Matrix>,
    /// An expression; the instance is skipped when it is false.
    pub condition: Option<Template>,
    /// Variables for the work and its checks, in order.
    pub env: IndexMap<String, Template>,
    /// Values that dependents see, by name.
    pub outputs: IndexMap<String, OutputSource>,
    /// Globs of files to keep beside the change, relative to the tree.
    pub artifacts: Vec<String>,
    /// Globs of what it may change, relative to the tree: `None` is anything, an empty list nothing.
    pub writes: Option<Vec<Template>>,
    /// Gates, in order.
    pub checks: Vec<Check>,
    /// What happens after a failed attempt.
    pub retry: Retry,
    /// Attempts that `until` allows, the first included; `None` without it.
    pub rounds: Option<u32>,
    /// Agents that look at its result before it counts, in order: the verifier of `until`, then tasks with `review`.
    pub reviewers: Vec<Reviewer>,
    /// Whether it stands for its reviews of other tasks and has no work of its own.
    pub is_review: bool,
    /// The tasks that it reviews, while the plan is read.
    pub(crate) reviews: Vec<NeedSpec>,
    /// Wall time of one attempt's work; its checks have their own.
    pub timeout: Option<Duration>,
    /// Parts of the plan's capacities that one instance takes while it runs.
    pub resources: IndexMap<String, u32>,
    /// Larger starts earlier among those that could start.
    pub priority: i32,
    /// Whether dependents run although it failed.
    pub allow_failure: AllowFailure,
    /// A key of [`Plan::sandboxes`].
    pub sandbox: String,
    /// Models that its programs may ask; the first is the one asked by default.
    pub models: Vec<ModelUse>,
    /// What it may spend on models.
    pub budget: TaskBudget,
    /// What its result depends on, when a recorded result may be taken instead of running it.
    pub cache: Option<Caching>,
    /// What its output may add to the run.
    pub expands: Option<Expands>,
    /// Where its instances come from, when it stands for a template that another task's output names.
    pub grown: Option<Grown>,
    /// `with` values for a template's texts.
    pub with: Arc<IndexMap<String, Value>>,
    /// Where the keys are that more than one task decides about.
    pub(crate) places: Places,
}

/// Places of a task's keys, for what is found out later.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Places {
    pub resources: Option<Location>,
    pub sandbox: Option<Location>,
    pub cache: Option<Location>,
    pub models: Option<Location>,
    pub batch: Option<Location>,
    pub with: Option<Location>,
    pub writes: Option<Location>,
    pub exclude: Option<Location>,
}

impl Places {
    pub(crate) fn of(place: impl Fn(&str) -> Option<Location>) -> Self {
        Places {
            resources: place("resources"),
            sandbox: place("sandbox"),
            cache: place("cache"),
            models: place("models"),
            batch: place("foreach-batch"),
            with: place("with"),
            writes: place("writes"),
            exclude: place("matrix-exclude"),
        }
    }
}

impl Task {
    /// Whether it is more than one plain instance.
    pub fn fans_out(&self) -> bool {
        self.matrix.is_some() || !self.foreach.is_empty()
    }

    /// Its agent, where its work is one.
    pub fn agent(&self) -> Option<&Agent> {
        match &self.work {
            Work::Agent(agent) => Some(agent),
            Work::Run(_) | Work::Argv(_) | Work::Wasm(_) => None,
        }
    }

    /// Every model that its attempts ask: its programs, its agent, those that look at its result.
    pub fn model_uses(&self) -> impl Iterator<Item = &ModelUse> {
        self.models.iter().chain(self.agents().map(|agent| &agent.model_use))
    }

    /// The one that works, and those that look at its result.
    fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agent().into_iter().chain(self.reviewers.iter().map(|reviewer| &reviewer.agent))
    }

    /// Its agents, while the plan is read.
    pub(crate) fn agents_mut(&mut self) -> impl Iterator<Item = &mut Agent> {
        let own = match &mut self.work {
            Work::Agent(agent) => Some(&mut **agent),
            Work::Run(_) | Work::Argv(_) | Work::Wasm(_) => None,
        };
        own.into_iter().chain(self.reviewers.iter_mut().map(|reviewer| &mut reviewer.agent))
    }
}

/// `expands`: tasks that a task's output `tasks` may add, all of them instances of templates of the plan.
#[derive(Debug, Clone)]
pub struct Expands {
    /// Where it is written.
    pub at: Location,
    /// By template, the task whose instances they become; empty where no more may follow.
    pub grown: IndexMap<String, TaskIx>,
    /// The most tasks that may be added, those included that are added by added ones.
    pub max_tasks: u32,
}

impl Task {
    /// The table of the plan that says what it does, without brackets: its own, or that of the template which it comes from.
    pub fn table(&self) -> String {
        match &self.grown {
            Some(Grown { template, .. }) => format!("templates.{template}"),
            None => format!("tasks.{}", self.name),
        }
    }
}

/// A task that is not written: a template, with instances from another task's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// Whose output names them.
    pub giver: TaskIx,
    /// The template.
    pub template: String,
}

/// What an instance does.
#[derive(Debug, Clone)]
pub enum Work {
    /// A script for the task's shell.
    Run(Template),
    /// A program and its arguments; never empty.
    Argv(Vec<Template>),
    /// A WebAssembly guest.
    Wasm(Wasm),
    /// A coding agent.
    Agent(Box<Agent>),
}

/// A WebAssembly module or component to run.
#[derive(Debug, Clone)]
pub struct Wasm {
    /// Its file: relative to the tree, or below `$SWARM_NEEDS/`.
    pub module: Template,
    /// Its arguments, without its own name.
    pub args: Vec<Template>,
    /// Instructions that it may execute.
    pub fuel: Option<u64>,
}

/// A command of its own: setup, a check, a fan-out's lines.
#[derive(Debug, Clone)]
pub struct Command {
    /// Script or program.
    pub work: Work,
    /// As in [`Task::shell`].
    pub shell: Option<Vec<String>>,
    /// Wall time.
    pub timeout: Option<Duration>,
}

/// One entry of `needs`.
#[derive(Debug, Clone)]
pub struct NeedSpec {
    /// Where it is written.
    pub at: Location,
    /// What it names.
    pub target: NeedTarget,
}

/// What an entry of `needs` names.
#[derive(Debug, Clone)]
pub enum NeedTarget {
    /// All instances of a task.
    Task(TaskIx),
    /// The instances of `task` that a selector picks.
    Instances {
        /// The task before the bracket.
        task: TaskIx,
        /// The whole text, `build[profile=release]`; may be a template over `matrix`, `vars`, `seed`, `with` and foreach names.
        selector: Template,
    },
    /// Every task that has no `*` of its own, and waits neither for this one nor for another with `*` (unless this one
    /// waits for that by name).
    Every,
}

/// One `foreach.NAME`.
#[derive(Debug, Clone)]
pub struct Foreach {
    /// The name under which templates see the item.
    pub name: Arc<str>,
    /// Where it is written.
    pub at: Location,
    /// Where the items come from.
    pub source: Fan,
}

/// Where a fan-out's items come from.
#[derive(Debug, Clone)]
pub enum Fan {
    /// The plan itself.
    List(Vec<Arc<Value>>),
    /// Files of the base tree that match any of the globs, sorted by bytes. The items are their paths.
    Glob(Vec<String>),
    /// The lines that a command prints in a worktree of the base, without empty ones.
    Lines(Command),
    /// A list among a need's outputs; worker-fed.
    Output {
        /// The need.
        task: TaskIx,
        /// The output's name.
        output: String,
    },
    /// New tasks in the output of a task with `expands`; worker-fed. All templates of one `expands` get theirs together.
    Grown {
        /// That task.
        giver: TaskIx,
    },
}

/// `matrix`, `matrix-exclude`, `matrix-include`.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    /// Where it is written.
    pub at: Option<Location>,
    /// Name and values, in plan order.
    pub axes: Vec<(Arc<str>, Vec<Arc<Value>>)>,
    /// A combination that has all pairs of an entry is left out.
    pub exclude: Vec<Vec<(String, Value)>>,
    /// Pairs that extend the combinations whose axes they do not contradict, or make a new one.
    pub include: Vec<Vec<(Arc<str>, Arc<Value>)>>,
}

/// Where an output's value comes from, after the work succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSource {
    /// A JSON file in `$SWARM_ARTIFACTS`.
    Json(String),
    /// A text file in `$SWARM_ARTIFACTS`, without the last newline.
    Text(String),
    /// The lines of a file in `$SWARM_ARTIFACTS`, as a list.
    Lines(String),
}

/// A task's gate.
#[derive(Debug, Clone)]
pub struct Check {
    /// What has to exit with 0 after the work.
    pub command: Command,
    /// Whether it has to fail before the work, too.
    pub before: BeforeWork,
}

/// What a check has to do before the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeforeWork {
    /// It is not run.
    NotRun,
    /// It has to fail: else it would prove nothing.
    ExpectFail,
}

/// What a reusable result depends on beside the task itself.
#[derive(Debug, Clone, Default)]
pub struct Caching {
    /// Globs of the files of the start tree that count; `None` is all of them.
    pub inputs: Option<Vec<String>>,
    /// A command whose output counts; it runs once on the base.
    pub fingerprint: Option<Command>,
}

/// Whether dependents run although a task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowFailure {
    /// They are blocked.
    No,
    /// They run without its change, and see its result.
    Yes,
}

/// What happens after a failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts after the first.
    pub max: u32,
    /// The ends that are tried again.
    pub on: Vec<RetryClass>,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The first wait.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// Whether waits are spread.
    pub jitter: Jitter,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max: 0,
            on: vec![RetryClass::Infra, RetryClass::Timeout, RetryClass::Exit],
            backoff: Backoff::Exponential,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            jitter: Jitter::Spread,
        }
    }
}

/// Ends that a retry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// Something of ours failed.
    Infra,
    /// Its time was over.
    Timeout,
    /// It, or a check, did not exit with 0.
    Exit,
    /// Its change did not merge.
    Conflict,
}

/// How the wait between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// No wait.
    None,
    /// delay, 2 × delay, 3 × delay …
    Linear,
    /// delay, 2 × delay, 4 × delay …
    Exponential,
}

/// Whether waits are spread, so that instances that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Between half of the wait and all of it.
    Spread,
    /// Exactly the wait.
    Exact,
}

/// How each worktree is made.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Untracked files of the checkout that every worktree gets, relative to its root.
    pub copy: Vec<String>,
    /// Runs once on the base; its result is shared by all worktrees.
    pub setup: Option<Command>,
    /// Ignored folders of the checkout that worktrees see copy-on-write, relative to its root.
    pub cache: Vec<String>,
    /// Globs of the files that tasks find beside what the run changes; `None` is all of them.
    pub sparse: Option<Vec<String>>,
}

/// A named policy, as written; paths are not resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SandboxPolicy {
    /// The weakest tier that is acceptable; `None` is `landlock`.
    pub tier: Option<Tier>,
    /// Readable beside the system's folders; absolute or starting with `~/`.
    pub read: Vec<String>,
    /// Writable beside the worktree; absolute or starting with `~/`.
    pub write: Vec<String>,
    /// Seen copy-on-write; absolute or starting with `~/`.
    pub cow: Vec<String>,
    /// Toolchain presets; `None` takes what is on the caller's `PATH`.
    pub tools: Option<Vec<String>>,
    /// Unreadable although inside an allowed tree: absolute, `~/…`, or relative to the worktree.
    pub hide: Vec<String>,
    /// What it may reach.
    pub network: Network,
    /// Names of variables let through.
    pub env: Vec<String>,
    /// Names of variables let through whose values nobody is shown.
    pub secrets: Vec<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Bytes written to the worktree and the private folders.
    pub disk_bytes: Option<u64>,
    /// Files in the worktree's layer and the private folders.
    pub files: Option<u64>,
    /// Processors.
    pub cpu: Option<f64>,
    /// What has to be enforced; missing on the machine is a refusal.
    pub require: Vec<String>,
}

/// The weakest cage that is acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Whatever there is: no job runs without one of the others.
    Wasm,
    /// No privilege needed.
    Landlock,
    /// The same inside namespaces.
    Namespaces,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// Its own loopback.
    #[default]
    None,
    /// These hosts, through the egress proxy; an empty list is a proxy that refuses everything.
    Hosts(Vec<HostRule>),
    /// The host's network; needs `--allow-host-network`.
    Host,
}
