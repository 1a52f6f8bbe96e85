//! A run from a parsed plan to its last event: names every room once, in the order of the straight line.
//!
//! open the repository → name the run → take the target → probe the machine → resolve the policies → prepare the base →
//! run `setup` → answer the globs → schedule, work, merge ([`crate::dispatcher`]) → close the journal.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use git2::Oid;
use swarm_plans::{DEFAULT_SANDBOX, ExpandError, Fan, Plan, RenderError, SourceFile, TaskGraph};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::base::{BaseError, BaseSettings, Bases};
use crate::commit::{self, Signing};
use crate::dispatcher::core::{Options, RunCore, RunFacts, StopCause};
use crate::dispatcher::{Dispatcher, over};
use crate::event::{Progress, RunEvent};
use crate::executor::job::Jobs;
use crate::executor::setup::SetupError;
use crate::executor::trees::{self, Naming, TreeError, Trees};
use crate::executor::{Executor, setup};
use crate::ids::RunId;
use crate::journal::{Journal, JournalError, JournalReader, LockError, NewRun, RunLock, RunWriter};
use crate::machine::{Machine, MachineError};
use crate::policy::{Cage, Places, PolicyError};
use crate::report::{Ending, Reports, exit_code};
use crate::repository::{History, IdentitySource, Objects, Repository, RepositoryError};
use crate::settings::{GRACE_MS, Settings};
use crate::signal;
use crate::state::StateDir;
use crate::worker_process::{Permit, WorkerProgram};

/// Lines of output that wait to be shown; more are logged only.
const PROGRESS_MAX: usize = 1024;

/// A plan that was read, with its texts for the journal.
#[derive(Debug)]
pub struct LoadedPlan {
    /// The plan's graph.
    pub graph: TaskGraph,
    /// The plan's text first, then those it includes.
    pub sources: Vec<SourceFile>,
}

/// How a run ended.
#[derive(Debug)]
pub struct RunEnd {
    /// The run.
    pub run: RunId,
    /// The exit code of the command line's table.
    pub exit: u8,
}

/// Why a run did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The repository cannot be worked on.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The target cannot be used (exit code 2).
    #[error("{0}")]
    Target(#[from] TargetError),
    /// Another coordinator holds the target (exit code 8).
    #[error(transparent)]
    Held(#[from] LockError),
    /// The machine offers no cage.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A policy cannot be granted.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A text of the plan does not render (exit code 2).
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A fan-out over files cannot be expanded (exit code 2).
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// The base cannot be prepared.
    #[error("prepare the base: {0}")]
    Base(#[from] BaseError),
    /// The files of the base cannot be listed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// `[workspace] setup` failed.
    #[error("set the worktrees up ([workspace] setup): {0}")]
    Setup(#[from] SetupError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state folder or another file of ours.
    #[error("use {}: {source}", path.display())]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a branch cannot be the target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is checked out somewhere, and its checkout would no longer fit.
    #[error("branch `{branch}` is checked out at {}; a run never moves a branch under a checkout", at.display())]
    CheckedOut {
        /// The branch.
        branch: String,
        /// Where.
        at: std::path::PathBuf,
    },
    /// It went another way than the base.
    #[error("branch `{branch}` exists and has gone another way than the base commit")]
    Diverged {
        /// The branch.
        branch: String,
    },
    /// Not a name for a branch.
    #[error("`{branch}` cannot be a branch: {reason}")]
    Name {
        /// As given.
        branch: String,
        /// The rule.
        reason: &'static str,
    },
}

impl RunError {
    /// The exit code of the command line's table.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Target(_) | RunError::Render(_) | RunError::Expand(_) => crate::report::exit::USAGE,
            RunError::Held(LockError::Held { .. }) => crate::report::exit::HELD,
            _ => crate::report::exit::ENVIRONMENT,
        }
    }

    /// The next command to type, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            RunError::Repository(error) => Some(error.hint()),
            RunError::Target(TargetError::CheckedOut { .. }) => {
                Some("name another with `--into`, then `swarm apply` merges it into the checkout".to_owned())
            }
            RunError::Target(TargetError::Diverged { branch }) => Some(format!(
                "name another with `--into`, or put the old one aside: `git branch -m {branch} {branch}-old`"
            )),
            RunError::Held(_) => Some("`swarm list` shows what runs".to_owned()),
            RunError::Machine(_) | RunError::Policy(PolicyError::Tier { .. }) => {
                Some("`swarm doctor` shows what this machine can enforce, and why not more".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs a plan to its end. Whatever happens is told to `reports`, after it is in the journal.
///
/// # Errors
/// [`RunError`]: nothing ran, or the journal failed; the target is where it was, or where the journal says it went.
pub async fn run(loaded: LoadedPlan, settings: Settings, reports: &mut Reports) -> Result<RunEnd, RunError> {
    let repository = Arc::new(Repository::discover(&settings.repository)?);
    let plan = Arc::clone(loaded.graph.plan());
    let base = repository.resolve(&plan.base)?;
    let target = target(&repository, &plan, &settings, base)?;
    let state_root = settings.state_dir.clone().unwrap_or_else(|| repository.common_dir().join("swarm"));
    let state = StateDir::open(&state_root).map_err(|source| RunError::Io { path: state_root, source })?;
    let started_ms = settings.clock.now_ms();
    let _target_lock = match &target {
        Some(target) => Some(RunLock::of_target(state.root(), target, started_ms)?),
        None => None,
    };
    let journal = begin(&repository, &state, &loaded, base, target.as_deref(), started_ms)?;
    commit::keep(&repository, &commit::base_ref(journal.run()), base)?;
    let mut stage = Stage { repository, state, plan, base, target, journal: &journal, started_ms, settings: &settings };
    let ended = stage.go(loaded.graph, reports).await;
    if let Err(error) = &ended {
        stage.failed(error, reports);
    }
    ended
}

/// What is known once a run has its name.
struct Stage<'a> {
    repository: Arc<Repository>,
    state: StateDir,
    plan: Arc<Plan>,
    base: Oid,
    target: Option<String>,
    journal: &'a RunWriter,
    started_ms: u64,
    settings: &'a Settings,
}

impl Stage<'_> {
    async fn go(&mut self, mut graph: TaskGraph, reports: &mut Reports) -> Result<RunEnd, RunError> {
        let deadline = self.plan.deadline.map(|wait| Instant::now() + wait);
        let mut interrupts = signal::interrupts().map_err(|source| RunError::Io { path: "signals".into(), source })?;
        let (progress, heard) = mpsc::channel(PROGRESS_MAX);
        let (permit, permitted) = watch::channel(Permit::Run);
        let phase = |reports: &mut Reports, phase: &str| {
            reports.progress(&Progress::Phase { instance: None, phase: phase.to_owned() });
        };
        let worker = self.worker()?;
        let machine = Machine::probe(&worker, self.state.root()).await?;
        let cages = self.cages(&machine)?;
        let jobs = self.settings.jobs.or(self.plan.jobs.map(|n| n as usize)).unwrap_or(self.settings.cores).max(1);
        let empty = self.answer_globs(&mut graph)?;
        self.tell(reports, vec![self.started(&machine, jobs, empty)?])?;
        self.write_enforcement(&machine)?;
        phase(reports, "preparing the base");
        let signing = self.signing()?;
        let runner = Jobs { worker, permit: permitted, progress, grace_ms: GRACE_MS };
        let trees = self.trees(&machine, signing.clone())?;
        let mut executor = Executor {
            repository: Arc::clone(&self.repository),
            state: self.state.clone(),
            run: self.journal.run().clone(),
            plan: Arc::clone(&self.plan),
            base: self.base,
            target: self.target.clone(),
            signing,
            cages,
            facts: self.facts(),
            not_enforced: machine.enforcement.not_enforced.clone(),
            jobs: runner,
            trees,
        };
        if let Some(command) = &self.plan.workspace.setup {
            phase(reports, "running setup");
            let setup = setup::run(&mut executor, &graph, command);
            match unless_stopped(setup, &mut interrupts, deadline, &permit).await {
                (_, Some(cause)) => {
                    let (ending, word) = cause.ending();
                    return self.finish(ending, Some(word), reports);
                }
                (done, None) => done?,
            }
        }
        let executor = Arc::new(executor);
        let core = RunCore::new(graph, self.options(jobs), &self.expected_ms());
        let dispatcher = Dispatcher {
            core,
            journal: self.journal,
            reports,
            executor,
            clock: self.settings.clock.clone(),
            permit,
            progress: heard,
            interrupts,
            deadline,
        };
        let (ending, cause) = dispatcher.run().await?.ending();
        self.finish(ending, cause, reports)
    }

    fn worker(&self) -> Result<WorkerProgram, RunError> {
        let path = self.state.path(&format!("{}/workers.log", StateDir::run(self.journal.run())));
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        let diagnostics = Arc::new(opened.map_err(|source| RunError::Io { path, source })?);
        Ok(WorkerProgram { program: self.settings.worker.clone(), diagnostics })
    }

    /// Every policy that a task uses, resolved on this host.
    fn cages(&self, machine: &Machine) -> Result<HashMap<String, Cage>, RunError> {
        let places =
            Places { worktree: self.repository.place(), git: self.repository.common_dir(), state: self.state.root() };
        let offer = machine.offer(self.settings.host_network);
        let mut cages = HashMap::new();
        let used = self.plan.tasks.iter().map(|task| task.sandbox.as_str()).chain([DEFAULT_SANDBOX]);
        for name in used {
            let Some(policy) = self.plan.sandboxes.get(name) else { continue };
            let cage = crate::policy::resolve(name, policy, &self.settings.host, offer, places)?;
            machine.check(name, &cage.require)?;
            cages.insert(name.to_owned(), cage);
        }
        Ok(cages)
    }

    fn started(&self, machine: &Machine, jobs: usize, more: Vec<String>) -> Result<RunEvent, RunError> {
        let mut notes = machine.notes.clone();
        notes.extend(more);
        let standing = self.repository.standing()?;
        if standing.history == History::Shallow {
            notes.push("the clone is shallow: a branch from behind its edge cannot be merged".to_owned());
        }
        if standing.objects == Objects::Partial {
            notes.push("the clone is partial: what git has not fetched yet is missing here".to_owned());
        }
        if self.repository.identity()?.source == IdentitySource::Fallback {
            notes.push("git knows no user.name and user.email: commits are made as swarm <swarm@localhost>".to_owned());
        }
        Ok(RunEvent::RunStarted {
            run: self.journal.run().clone(),
            plan: self.plan.name.clone(),
            base: self.base.to_string(),
            target: self.target.clone(),
            jobs: u32::try_from(jobs).unwrap_or(u32::MAX),
            backend: machine.backend.name().to_owned(),
            enforcement: machine.enforcement.clone(),
            notes,
        })
    }

    /// `enforcement.json` beside the run's attempts: what every worker of the run is held to.
    fn write_enforcement(&self, machine: &Machine) -> Result<(), RunError> {
        let path = self.state.path(&StateDir::run(self.journal.run())).join("enforcement.json");
        let text = serde_json::to_vec_pretty(&machine.enforcement).expect("plain words and numbers");
        std::fs::write(&path, text).map_err(|source| RunError::Io { path, source })
    }

    fn signing(&self) -> Result<Signing, RunError> {
        let date_seconds = self.settings.clock.commit_date_s(self.started_ms);
        Ok(Signing { identity: self.repository.identity()?, date_seconds })
    }

    fn trees(&self, machine: &Machine, signing: Signing) -> Result<Trees, RunError> {
        let workspace = &self.plan.workspace;
        let settings = BaseSettings {
            backend: machine.backend,
            objects: machine.objects_at(),
            sparse: workspace.sparse.clone().unwrap_or_default(),
            copy: workspace.copy.clone(),
            cache: workspace.cache.clone(),
        };
        let bases = Bases::new(Arc::clone(&self.repository), self.state.clone(), settings)?;
        let base = bases.prepare(self.base)?;
        let naming = Naming { signing, plan: self.plan.name.clone(), state: self.state.clone() };
        Ok(Trees::new(Arc::clone(&self.repository), bases, base, machine, naming))
    }

    /// Fan-outs over files of the base tree are answered before anything runs. Those that match nothing are named: a
    /// mistyped glob must not look like work that was done.
    fn answer_globs(&self, graph: &mut TaskGraph) -> Result<Vec<String>, RunError> {
        let mut notes = Vec::new();
        for waiting in graph.pending() {
            let Fan::Glob(globs) = &waiting.source else { continue };
            let items = trees::files_matching(&self.repository, self.base, globs)?;
            if items.is_empty() {
                let name = &self.plan.task(waiting.task).name.0;
                notes.push(format!("task {name} has no instances: no tracked file of the base matches its glob"));
            }
            if let Err(error) = graph.supply(waiting.task, items) {
                return Err(error.into());
            }
        }
        Ok(notes)
    }

    fn options(&self, jobs: usize) -> Options {
        Options { jobs, fail_fast: self.settings.fail_fast, facts: self.facts(), grace_ms: GRACE_MS }
    }

    fn facts(&self) -> RunFacts {
        let short = |name: &String| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
        RunFacts {
            name: self.plan.name.clone(),
            id: self.journal.run().0.clone(),
            base: self.base.to_string(),
            target: self.target.as_ref().map(short),
            env: self.settings.host.env.clone(),
        }
    }

    /// How long tasks took in earlier runs. A journal that cannot be read costs only the better order.
    fn expected_ms(&self) -> impl Fn(&str) -> Option<u64> + use<> {
        let known = JournalReader::open(self.state.root()).and_then(|reader| reader.durations(&self.plan.name));
        let known: HashMap<String, u64> =
            known.unwrap_or_default().into_iter().map(|task| (task.task, task.median_ms)).collect();
        move |task: &str| known.get(task).copied()
    }

    fn finish(&self, ending: Ending, cause: Option<&str>, reports: &mut Reports) -> Result<RunEnd, RunError> {
        let tip = match &self.target {
            Some(target) => self.repository.find_ref(target)?.map(|tip| tip.to_string()),
            None => None,
        };
        let exit = exit_code(ending, reports.state());
        let event = RunEvent::RunFinished { exit, tip, cause: cause.map(str::to_owned) };
        self.tell(reports, vec![event])?;
        Ok(RunEnd { run: self.journal.run().clone(), exit })
    }

    /// The run's record gets its end, so that it is not taken for one whose coordinator died.
    fn failed(&self, error: &RunError, reports: &mut Reports) {
        let cause = error.to_string().lines().next().map(str::to_owned);
        let event = RunEvent::RunFinished { exit: error.exit_code(), tip: None, cause };
        // A journal that fails now has nothing to add to the error that is on its way to the person.
        drop(self.tell(reports, vec![event]));
    }

    fn tell(&self, reports: &mut Reports, events: Vec<RunEvent>) -> Result<(), RunError> {
        for recorded in self.journal.append(self.settings.clock.now_ms(), events)? {
            reports.event(&recorded);
        }
        Ok(())
    }
}

/// Waits for what happens before the dispatcher listens, and cancels it when a person or the deadline asks for that. It is
/// waited for in any case; the last cause is returned beside what came of it.
async fn unless_stopped<T>(
    work: impl Future<Output = T>,
    interrupts: &mut mpsc::Receiver<u8>,
    mut deadline: Option<Instant>,
    permit: &watch::Sender<Permit>,
) -> (T, Option<StopCause>) {
    let mut work = std::pin::pin!(work);
    let (mut stopped, mut signals) = (None, 0);
    loop {
        let cause = tokio::select! {
            done = &mut work => return (done, stopped),
            Some(signal) = interrupts.recv() => {
                signals += 1;
                StopCause::of_signal(signal, signals - 1)
            }
            () = over(deadline) => {
                deadline = None;
                StopCause::Deadline
            }
        };
        if stopped.is_none_or(|before| before < cause) {
            stopped = Some(cause);
            permit.send_replace(Permit::Cancel { grace_ms: cause.grace_ms(GRACE_MS) });
        }
    }
}

/// The full ref name of the target, when it may be used.
fn target(repository: &Repository, plan: &Plan, settings: &Settings, base: Oid) -> Result<Option<String>, RunError> {
    let facts = RunFacts {
        name: plan.name.clone(),
        base: base.to_string(),
        env: settings.host.env.clone(),
        ..RunFacts::default()
    };
    let Some(planned) = plan.target(&facts.context(&serde_json::Value::Null, &facts.lookup()))? else {
        return Ok(None);
    };
    let branch = settings.into.clone().unwrap_or(planned);
    if let Err(reason) = swarm_plans::branch_name(&branch) {
        return Err(TargetError::Name { branch, reason }.into());
    }
    let name = format!("refs/heads/{branch}");
    if let Some(at) = repository.checked_out_at(&name)? {
        return Err(TargetError::CheckedOut { branch, at }.into());
    }
    if let Some(tip) = repository.find_ref(&name)? {
        let git = repository.handle()?;
        let holds = |a: Oid, b: Oid| Ok::<bool, git2::Error>(a == b || git.graph_descendant_of(a, b)?);
        let related = holds(tip, base).and_then(|held| Ok(held || holds(base, tip)?));
        if !related.map_err(RepositoryError::from)? {
            return Err(TargetError::Diverged { branch }.into());
        }
    }
    Ok(Some(name))
}

/// Gives the run its name and its place in the journal.
fn begin(
    repository: &Repository,
    state: &StateDir,
    loaded: &LoadedPlan,
    base: Oid,
    target: Option<&str>,
    started_at_ms: u64,
) -> Result<RunWriter, RunError> {
    let sources: Vec<(String, String)> = loaded.sources.iter().map(|s| (s.name.clone(), s.text.clone())).collect();
    let mut hasher = blake3::Hasher::new();
    for instance in loaded.graph.instances() {
        hasher.update(instance.id.0.as_bytes()).update(b"\0");
    }
    for (_, text) in &sources {
        hasher.update(text.as_bytes()).update(b"\0");
    }
    let new = NewRun {
        plan: loaded.graph.plan().name.clone(),
        sources,
        expanded_hash: hasher.finalize().to_hex().to_string(),
        base: base.to_string(),
        target: target.map(str::to_owned),
        started_at_ms,
    };
    let mut journal = Journal::open(state.root())?;
    // Every run leaves the ref of its base, also where its journal is gone: a name is never given twice.
    let known: HashSet<String> = repository.refs_below("refs/swarm/")?.into_iter().map(|(name, _)| name).collect();
    Ok(journal.begin_run(new, |run| known.contains(&commit::base_ref(run)))?)
}
