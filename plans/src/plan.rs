//! What a plan means: types whose invariants the parser has established. Start at [`Plan`], then [`Task`].

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

use crate::diagnostic::Location;
use crate::ids::TaskName;
use crate::template::{Engine, Template};

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
    /// What happens with the changes.
    pub merge: Merge,
    /// In the order in which the plan writes them.
    pub tasks: Vec<Task>,
    /// The compiled templates of all of the above.
    pub(crate) engine: Engine,
}

impl Plan {
    /// The task of that name.
    pub fn task_by_name(&self, name: &str) -> Option<TaskIx> {
        let at = self.tasks.iter().position(|task| task.name.0 == name)?;
        Some(TaskIx(at as u32))
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
    pub batch: Option<Location>,
}

impl Places {
    pub(crate) fn of(place: impl Fn(&str) -> Option<Location>) -> Self {
        Places { resources: place("resources"), sandbox: place("sandbox"), batch: place("foreach-batch") }
    }
}

impl Task {
    /// Whether it is more than one plain instance.
    pub fn fans_out(&self) -> bool {
        self.matrix.is_some() || !self.foreach.is_empty()
    }
}

/// What an instance does.
#[derive(Debug, Clone)]
pub enum Work {
    /// A script for the task's shell.
    Run(Template),
    /// A program and its arguments; never empty.
    Argv(Vec<Template>),
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
    /// Every task that does not itself wait for this one and has no `*` of its own.
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
    /// Globs of the files that are checked out; `None` is all of them.
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
    /// No privilege needed.
    Landlock,
    /// The same inside namespaces.
    Namespaces,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Its own loopback.
    #[default]
    None,
    /// The host's network; needs `--allow-host-network`.
    Host,
}

/// What happens with the changes.
#[derive(Debug)]
pub struct Merge {
    /// Whether there is a target at all.
    pub mode: MergeMode,
    /// The target branch; `None` is `swarm/{{ run.name }}`.
    pub into: Option<Template>,
}

/// What happens with the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMode {
    /// They are merged into the target branch.
    Train,
    /// There must be none: any change is a failure.
    None,
}
