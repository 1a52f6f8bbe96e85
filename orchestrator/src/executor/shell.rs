//! A task's place once more, for a person: a fresh worktree of the tree that it started from or of its result, in the cage
//! and with the variables that it had (`swarm shell`). Nothing is recorded, collected or merged; the worktree goes when the
//! person leaves. Whoever holds the run is not disturbed: its journal is only read.

use std::path::PathBuf;
use std::sync::Arc;

use git2::Oid;
use serde_json::Value;
use swarm_plans::{DEFAULT_SANDBOX, Fan, InstanceId, Plan, RenderError, TaskGraph, UserConfig};
use swarm_protocol::{Access, SandboxSpec};

use super::places::{Places, make_private_folders};
use super::setup::setup_parts;
use super::trees::{Naming, TreeError, Trees, files_matching};
use crate::base::{BaseError, BaseSettings, Bases, Prepared};
use crate::commit::Signing;
use crate::dispatcher::core::{Options, RunCore, RunFacts};
use crate::dispatcher::history::{History, Past};
use crate::ids::{Attempt, branch_of};
use crate::journal::{JournalError, JournalReader, LockError, RunLock, RunRow};
use crate::machine::{Machine, MachineError};
use crate::merge::FileRules;
use crate::policy::{self, Cage, Host, Looked, Places as Around, PolicyError, View, Word};
use crate::removal::Debris;
use crate::repository::{Repository, RepositoryError};
use crate::resume::plan_of;
use crate::run::RunError;
use crate::settings::GRACE_MS;
use crate::state::StateDir;
use crate::worktree::Worktree;

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The run's plan, from its journal.
    #[error(transparent)]
    Run(#[from] Box<RunError>),
    /// The plan has no such instance now: its fan-out has no items.
    #[error("find {0} in the plan: what it stems from did not get its items")]
    Unknown(InstanceId),
    /// There is no result to look at.
    #[error("open the result of {0}: it changed nothing")]
    NoResult(InstanceId),
    /// Its texts do not render.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A tree to work on.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state folder is being cleaned.
    #[error(transparent)]
    Held(#[from] LockError),
    /// The file system.
    #[error("prepare a worktree: {0}")]
    Io(#[from] std::io::Error),
}

impl From<RunError> for ShellError {
    fn from(error: RunError) -> Self {
        ShellError::Run(Box::new(error))
    }
}

impl From<RepositoryError> for ShellError {
    fn from(error: RepositoryError) -> Self {
        ShellError::Tree(error.into())
    }
}

impl From<BaseError> for ShellError {
    fn from(error: BaseError) -> Self {
        ShellError::Tree(error.into())
    }
}

/// Which tree a person wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// What the task started from.
    Start,
    /// What it left, checked or not.
    Result,
}

/// A place to be in. Dropping it leaves the worktree for `swarm clean`; [`Place::leave`] removes it.
#[derive(Debug)]
pub struct Place {
    /// The cage, all of it.
    pub spec: SandboxSpec,
    /// Where a program starts, as the cage sees it.
    pub cwd: PathBuf,
    /// The policy behind the cage.
    pub cage: Cage,
    /// What a person should know.
    pub notes: Vec<String>,
    worktree: Worktree,
    folder: PathBuf,
    state: StateDir,
    /// Nobody cleans the layers away meanwhile.
    _in_use: RunLock,
}

impl Place {
    /// Removes the worktree with all that was made in it.
    ///
    /// # Errors
    /// The file system's; what is left, `swarm clean` removes.
    pub fn leave(self) -> std::io::Result<()> {
        let gone = self.worktree.remove()?;
        drop(gone);
        Debris::take(&self.state, &self.folder)?.clear()?;
        // Others may be in the same task's place.
        drop(self.folder.parent().map(std::fs::remove_dir));
        Ok(())
    }
}

/// What a place is made of.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The repository.
    pub repository: Arc<Repository>,
    /// Where the worktree will lie.
    pub state: StateDir,
    /// The journal that knows the run.
    pub journal: &'a JournalReader,
    /// The run.
    pub row: &'a RunRow,
    /// What the machine can do.
    pub machine: &'a Machine,
    /// The caller's surroundings.
    pub host: &'a Host,
    /// The person's own configuration.
    pub user: &'a UserConfig,
}

impl Ground<'_> {
    /// Makes the place of an instance. Blocks. `result` is the commit of its newest change, where it has one.
    ///
    /// # Errors
    /// [`ShellError`].
    pub fn place(self, id: &InstanceId, at: At, result: Option<Oid>) -> Result<Place, ShellError> {
        let in_use = RunLock::of_state(self.state.root())?;
        let loaded = plan_of(self.journal, self.row)?;
        let graph = loaded.graph;
        let base = self.repository.resolve(&self.row.base)?;
        let mut history = History::default();
        self.journal.tell(&self.row.id, 0, |recorded| history.hear(&recorded.event))?;
        let asked = self.journal.asked(&self.row.id)?.unwrap_or_default();
        let word = asked.word(self.user, &self.host.home, self.repository.place());
        let core = RunCore::resume(self.with_globs(graph, base)?, self.options(&word), &|_| None, &history).core;
        let plan = Arc::clone(core.graph().plan());
        let instance = core.graph().instance_by_id(&id.0).ok_or_else(|| ShellError::Unknown(id.clone()))?;
        let (rendered, needs) = core.looked_at(instance)?;
        let task = plan.task(core.graph().instance(instance).task);
        let trees = self.trees(&core, base, &word)?;
        let cage = self.cage(&plan, &task.sandbox, &word)?;
        let on_landed = history.instance(id).and_then(Past::started_on).map(|commit| self.repository.resolve(commit));
        let start = match (at, result) {
            (At::Start, _) => match on_landed {
                Some(commit) => Arc::new(trees.layered(commit?)?),
                None => trees.with_changes(&needs.changes)?,
            },
            (At::Result, Some(commit)) => Arc::new(trees.layered(commit)?),
            (At::Result, None) => return Err(ShellError::NoResult(id.clone())),
        };
        let name = InstanceId(format!("[shell] {id}").into());
        let places = Places::of(&self.state, &self.row.id, &name, Attempt(std::process::id()));
        places.clear(&self.state)?;
        let own = places.of_cage(&self.state, "work")?;
        let worktree = trees.worktree(&start, &own.relative)?;
        let inside = places.inside(cage.tier(), Access::Write, &needs, &self.state, &self.row.id)?;
        let mut grants = worktree.grants.clone();
        grants.extend(inside.grants);
        let mut env = inside.env;
        env.push(("SWARM_RUN".to_owned(), self.row.id.0.clone()));
        env.extend(rendered.env);
        let spec = cage.spec(worktree.spec.clone(), worktree.cow.clone(), grants, env, &own);
        make_private_folders(&self.state, &spec)?;
        let mut notes = cage.warnings.clone();
        if cage.egress().is_some() {
            notes.push("the hosts of its policy are not reachable here: the proxy belongs to runs".to_owned());
        }
        if plan.workspace.setup.is_some() && trees.base.layers.untracked().is_empty() {
            notes.push("what [workspace] setup made is no longer there".to_owned());
        }
        let (cwd, folder) = (worktree.spec.at().clone(), places.folder().to_owned());
        Ok(Place { spec, cwd, cage, notes, worktree, folder, state: self.state, _in_use: in_use })
    }

    fn with_globs(&self, mut graph: TaskGraph, base: Oid) -> Result<TaskGraph, ShellError> {
        for waiting in graph.pending() {
            if let Fan::Glob(globs) = &waiting.source {
                let items = files_matching(&self.repository, base, globs)?;
                graph.supply(waiting.task, items).map_err(RunError::from)?;
            }
        }
        Ok(graph)
    }

    fn options(&self, word: &Word) -> Options {
        let target = self.row.target.as_ref();
        let facts = RunFacts {
            name: self.row.plan.clone(),
            id: self.row.id.0.clone(),
            base: self.row.base.clone(),
            target: target.map(|name| branch_of(name).to_owned()),
            env: word.readable(&self.host.env),
        };
        Options { jobs: 1, fail_fast: Default::default(), facts, grace_ms: GRACE_MS, reuse: Default::default() }
    }

    fn cage(&self, plan: &Plan, name: &str, word: &Word) -> Result<Cage, ShellError> {
        let (worktree, git) = (self.repository.place(), self.repository.common_dir());
        let around = Around { worktree, git, state: self.state.root() };
        let view = View { host: self.host, places: around, looked: &Looked::default() };
        let policy = plan.sandboxes.get(name).cloned().unwrap_or_default();
        let cage = policy::resolve(name, &policy, view, self.machine.offer(word.clone()))?;
        self.machine.check(name, &policy)?;
        Ok(cage)
    }

    fn trees(&self, core: &RunCore, base: Oid, word: &Word) -> Result<Trees, ShellError> {
        let plan = core.graph().plan();
        let workspace = &plan.workspace;
        let settings = BaseSettings {
            backend: self.machine.backend,
            objects: self.machine.objects_at(),
            sparse: workspace.sparse.clone().unwrap_or_default(),
            copy: workspace.copy.clone(),
            cache: workspace.cache.clone(),
        };
        let bases = Bases::new(Arc::clone(&self.repository), self.state.clone(), settings)?;
        let mut layers = bases.prepare(base)?;
        if let Some(command) = &workspace.setup {
            let facts = self.options(word).facts;
            let command = core.graph().render_command(command, &facts.context(&Value::Null, &facts.lookup()))?;
            let parts = setup_parts(&command, &self.cage(plan, DEFAULT_SANDBOX, word)?);
            let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
            layers = bases.known_setup(&layers, &parts).unwrap_or(layers);
        }
        let signing = Signing { identity: self.repository.identity()?, date_seconds: 0 };
        let naming = Naming { signing, plan: plan.name.clone(), run: None, state: self.state.clone() };
        let rules = FileRules::of(&plan.merge).map_err(BaseError::from)?;
        let base = Prepared { whole: None, shown: layers };
        Ok(Trees::new(Arc::clone(&self.repository), bases, base, self.machine, naming, rules))
    }
}
