//! A run from a parsed plan to its last event: names every room once, in the order of the straight line.
//!
//! open the repository → name the run → take the target → probe the machine → resolve the policies → prepare the base →
//! run `setup` → answer the globs → schedule, work, merge ([`crate::dispatcher`]) → close the journal.

/// What has to be so before a run begins.
pub mod before;
/// A run gets its name.
mod begin;
/// The end of a run.
mod end;
/// Why a run did not start, or could not go on.
mod error;
/// Files of the base that git stores through a filter.
pub mod filters;
/// The base, once for all who look at it.
mod prepare;
/// Which verdicts of earlier runs count.
mod recall;
/// What can end a run while no dispatcher listens.
mod stopping;
/// Paths and globs that match nothing.
pub mod unmatched;

use begin::begin;
use end::At;
use error::Begun;
pub use error::RunError;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use git2::Oid;
use rustix::fs::FlockOperation;
use swarm_plans::{Fan, Plan, SourceFile, TaskGraph, ToolServer};
use swarm_protocol::EnforcementReport;
use tokio::sync::{mpsc, watch};

use crate::base::eviction::evict_unused;
use crate::base::{BaseError, BaseSettings, Bases, Prepared};
use crate::cache::CacheError;
use crate::commit::Signing;
use crate::descriptors;
use crate::dispatcher::Dispatcher;
use crate::dispatcher::core::{Options, RunCore, RunFacts, StopCause};
use crate::egress::Egress;
use crate::event::{Progress, RunEvent};
use crate::executor::again::unchecked;
use crate::executor::job::Jobs;
use crate::executor::outputs::HandedOver;
use crate::executor::settle::Settler;
use crate::executor::trees::{self, Naming, Trees};
use crate::executor::verify::Gate;
use crate::executor::{Executor, setup};
use crate::fork_server::ForkServer;
use crate::ids::{RunId, branch_of};
use crate::journal::{JournalReader, NewTarget, RunLock, RunWriter};
use crate::lent::Lent;
use crate::machine::{self, Machine};
use crate::merge::FileRules;
use crate::model::broker::Broker;
use crate::model::broker::accounts::Accounts;
use crate::model::broker::catalog::Catalog;
use crate::model::broker::keys::Keys;
use crate::model::broker::tape::{Player, Recorder, Tape};
use crate::model::broker::told::News;
use crate::policy::{Cage, Host, Looked, Places, View, tracked, word};
use crate::report::Reports;
use crate::repository::{History, IdentitySource, Objects, Repository, RepositoryError};
use crate::resume::Past;
use crate::secrets::Secrets;
use crate::settings::{Asked, GRACE_MS, Settings, TapeAt};
use crate::signal;
use crate::state::StateDir;
use crate::target;
use crate::threads;
use crate::tool_servers::ToolServers;
use crate::worker_process::{Permit, WorkerProgram};
use prepare::{Judged, prepare};
use stopping::Stopping;

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

/// Runs a plan to its end. Whatever happens is told to `reports`, after it is in the journal.
///
/// # Errors
/// [`RunError`]: nothing ran, or the journal failed; the target is where it was, or where the journal says it went.
pub async fn run(loaded: LoadedPlan, settings: Settings, reports: &mut Reports) -> Result<RunEnd, RunError> {
    let repository = Arc::new(Repository::discover(&settings.repository)?);
    let plan = Arc::clone(loaded.graph.plan());
    let base = repository.resolve(&plan.base)?;
    let state_root = settings.state_dir.clone().unwrap_or_else(|| repository.common_dir().join("swarm"));
    machine::has_room(repository.place(), &state_root)?;
    let state = StateDir::open(&state_root).map_err(|source| RunError::Io { path: state_root, source })?;
    let damaged = repository.look_after_power_cut(state.root())?;
    if damaged > 0 {
        tracing::warn!(damaged, "object files that a power cut left empty or cut short got out of the way");
    }
    before::globs_fit(&loaded.graph, &repository, base)?;
    let places = Places { worktree: repository.place(), git: repository.common_dir(), state: state.root() };
    let looked = Looked::default();
    let view = View { host: &settings.host, places, looked: &looked };
    before::policies_fit(&plan, view)?;
    before::heard(&plan, |_| true, &settings, view)?;
    before::keys_are_here(&plan, &settings)?;
    before::prices_are_here(&plan, &settings)?;
    let target = target::choose(&repository, &plan, &settings, base)?;
    let started_ms = settings.clock.now_ms();
    let target_lock = match &target {
        Some(NewTarget::Ref(target)) => Some(target::lock(&repository, state.root(), target, started_ms)?),
        Some(NewTarget::OfRun) | None => None,
    };
    evict_unused(&state);
    let lent = Some(Lent::now(&plan, &repository, &settings.host));
    let asked = Asked { lent, signer: Some(repository.identity()?), ..settings.asked() };
    let (journal, of_run) = begin(&repository, &state, &loaded, base, target.clone(), started_ms, asked)?;
    let (target, target_lock) = (target.map(|target| target.of(journal.run())), target_lock.or(of_run));
    if let Some(lock) = &target_lock {
        lock.name_run(journal.run(), state.root())?;
    }
    let (settings, host) = (&settings, settings.host.clone());
    let journal = &journal;
    let past = None;
    let mut stage =
        Stage { repository, state, plan, base, target, target_lock, journal, started_ms, settings, host, looked, past };
    stage.run_out(loaded.graph, reports).await
}

/// What the policies of a plan hide and git shows all the same, in words for people.
///
/// # Errors
/// Those of reading the base's trees.
pub fn hidden_in_vain(plan: &Plan, repository: &Repository, base: Oid, host: &Host) -> Result<Vec<String>, RunError> {
    let git = repository.handle()?;
    let (odb, root) = (git.odb().map_err(RepositoryError::from)?, repository.tree_of(base)?);
    let places = Places { worktree: repository.place(), ..Places::nowhere() };
    let view = View { host, places, looked: &Looked::default() };
    let mut warnings = Vec::new();
    for (name, policy) in word::used_policies(plan) {
        let found = tracked::hidden_in_vain(&odb, root, policy, view.guard()).map_err(BaseError::from)?;
        warnings.extend(found.into_iter().map(|(text, path)| tracked::warning(name, text, &path)));
    }
    Ok(warnings)
}

/// Fan-outs over files of the base tree are answered before anything runs. Those that match nothing are named: a
/// mistyped glob must not look like work that was done.
///
/// # Errors
/// Those of reading the base's trees, and [`RunError::Misfits`] with all that does not fit the plan.
pub fn answer_globs(graph: &mut TaskGraph, repository: &Repository, base: Oid) -> Result<Vec<String>, RunError> {
    let (mut notes, mut misfits) = (Vec::new(), Vec::new());
    for waiting in graph.pending() {
        let Fan::Glob(globs) = &waiting.source else { continue };
        let items = trees::files_matching(repository, base, globs)?;
        if items.is_empty() {
            let name = &graph.plan().task(waiting.task).name.0;
            let meant = unmatched::of_a_fan_out(repository, base, globs)?;
            notes.push(format!("task {name} has no instances: no tracked file of the base matches its glob {meant}"));
        }
        if let Err(error) = graph.supply(waiting.task, items.clone()) {
            misfits.extend(graph.misfits(waiting.task, &items, error));
        }
    }
    if misfits.is_empty() { Ok(notes) } else { Err(RunError::Misfits(misfits)) }
}

/// The text of `enforcement.json`.
#[derive(serde::Serialize)]
struct EnforcementFile<'a> {
    #[serde(flatten)]
    all: &'a EnforcementReport,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    policies: BTreeMap<&'a str, EnforcementReport>,
}

/// What is known once a run has its name.
pub(crate) struct Stage<'a> {
    pub(crate) repository: Arc<Repository>,
    pub(crate) state: StateDir,
    pub(crate) plan: Arc<Plan>,
    pub(crate) base: Oid,
    pub(crate) target: Option<String>,
    pub(crate) target_lock: Option<Arc<RunLock>>,
    pub(crate) journal: &'a RunWriter,
    pub(crate) started_ms: u64,
    pub(crate) settings: &'a Settings,
    /// The caller's surroundings as workers may know them.
    pub(crate) host: Host,
    /// What was found there on behalf of the plan's policies, before the run has its name and after.
    pub(crate) looked: Looked,
    /// What an earlier coordinator did; `None` for a new run.
    pub(crate) past: Option<Past>,
}

/// What decides and what does the work of a run that is about to begin.
struct Ready {
    core: RunCore,
    executor: Executor,
    verify_permit: watch::Sender<Permit>,
    progress: mpsc::Receiver<Progress>,
    calls: mpsc::UnboundedReceiver<News>,
}

impl Stage<'_> {
    /// The rest of the straight line; a run that fails on it has its end in the journal.
    pub(crate) async fn run_out(&mut self, graph: TaskGraph, reports: &mut Reports) -> Result<RunEnd, RunError> {
        let begun = if self.past.is_some() { Begun::Before } else { Begun::Now };
        let ended = self.go(graph, reports).await;
        // Whatever it came to, nobody can look at it or go on with it.
        if let Ok(None) = JournalReader::open(self.state.root()).and_then(|journal| journal.run(self.journal.run())) {
            let branch = self.target.as_deref().map(|target| branch_of(target).to_owned());
            let (run, state) = (self.journal.run().clone(), self.state.root().to_owned());
            return Err(RunError::StateGone { run, state, branch });
        }
        ended.map_err(|error| {
            self.failed(&error, begun, reports);
            error.cut(self.journal.run(), begun)
        })
    }

    async fn go(&mut self, graph: TaskGraph, reports: &mut Reports) -> Result<RunEnd, RunError> {
        let (permit, permitted) = watch::channel(Permit::Run);
        let mut stopping = Stopping {
            longest: self.settings.deadline.or(self.plan.deadline),
            deadline: None,
            interrupts: signal::interrupts().map_err(|source| RunError::Io { path: "signals".into(), source })?,
            permit,
        };
        let ready = self.ready(graph, permitted, &mut stopping, reports).await?;
        let Ready { core, mut executor, verify_permit, progress, calls } = match ready {
            Ok(ready) => ready,
            Err(cause) => return self.stopped(cause, reports),
        };
        if let Some(command) = &self.plan.workspace.setup {
            say(reports, "running setup");
            let setup = setup::run(&mut executor, core.graph(), command);
            let (done, stopped) = stopping.unless_stopped(setup).await;
            if let Some(cause) = stopped {
                return self.stopped(cause, reports);
            }
            let noted = Some(done?).filter(|notes| !notes.is_empty()).map(|notes| RunEvent::Noted { notes });
            self.tell(reports, noted.into_iter().collect())?;
        }
        let (recalled, stopped) = stopping.unless_stopped(self.recall(&mut executor)).await;
        if let Some(cause) = stopped {
            return self.stopped(cause, reports);
        }
        let noted = Some(recalled?).filter(|notes| !notes.is_empty()).map(|notes| RunEvent::Noted { notes });
        self.tell(reports, noted.into_iter().collect())?;
        if let Err(error) = self.open_results(&mut executor) {
            say(reports, &format!("no result is reused or recorded: {error}"));
        }
        let executor = Arc::new(executor);
        let Stopping { interrupts, deadline, permit, longest: _ } = stopping;
        let dispatcher = Dispatcher {
            core,
            journal: self.journal,
            reports,
            executor: Arc::clone(&executor),
            clock: self.settings.clock.clone(),
            permit,
            verify_permit,
            progress,
            calls,
            interrupts,
            deadline,
        };
        let core = dispatcher.run().await?;
        // From here on nobody else hears them. Where nobody can, the wait below has its own end, and the run is at its own.
        let interrupts = signal::interrupts().ok();
        let ((ending, cause), at) = (core.ending(), if core.is_done() { At::Rest } else { At::Work });
        if let Err(error) = executor.settle_results() {
            say(reports, &format!("results of this run may not be found again: {error}"));
        }
        let ended = self.finish((ending, cause.as_deref()), at, reports);
        stopping::unless_signalled(threads::apart("leaving", move || drop(executor)), interrupts).await;
        ended
    }

    /// Makes all that decides and does the work; what stopped it is a value.
    async fn ready(
        &mut self,
        mut graph: TaskGraph,
        permitted: watch::Receiver<Permit>,
        stopping: &mut Stopping,
        reports: &mut Reports,
    ) -> Result<Result<Ready, StopCause>, RunError> {
        let (heard, progress) = mpsc::channel(PROGRESS_MAX);
        let (told, calls) = mpsc::unbounded_channel();
        let catalog = before::catalog(&self.plan, self.settings)?;
        self.host = self.without_keys(&catalog);
        let broker = Arc::new(self.broker(catalog, &graph, told)?);
        let worker = self.worker()?;
        let machine = self.machine(&worker).await?;
        let cages = self.cages(&machine)?;
        let jobs = self.settings.jobs.or(self.plan.jobs.map(|n| n as usize)).unwrap_or(self.settings.cores).max(1);
        let odd = self.odd(&mut graph, &cages)?;
        let before = self.past.iter().flat_map(|past| past.history.instances());
        let handed_over = HandedOver::of(before.map(|(id, past)| (id, &past.outputs)));
        let core = self.core(graph, &machine, jobs, odd, reports).await?;
        stopping.begin();
        self.write_enforcement(&machine)?;
        say(reports, "preparing the base");
        let signing = self.signing()?;
        // One mask for all: what one task was let read, another may print.
        let secrets = Secrets::new(cages.values().flat_map(Cage::secrets));
        let (permit, egress) = (permitted.clone(), self.egress(jobs));
        let state = self.state.clone();
        let runner = Jobs { worker, state, permit, progress: heard, grace_ms: GRACE_MS, egress, secrets };
        let (verify_permit, verify_permitted) = watch::channel(Permit::Run);
        let train_jobs = Jobs { permit: verify_permitted, ..runner.clone() };
        let gate = self.gate(core.graph(), &cages, train_jobs.clone())?;
        let settler = Settler::new(core.graph(), &self.facts(), train_jobs)?;
        let bases = self.bases(&machine)?;
        let judged =
            if gate.is_some() || !self.plan.merge.regenerate.is_empty() { Judged::Whole } else { Judged::ByTasks };
        let (prepared, stopped) = stopping.unless_stopped(prepare(bases, self.base, judged, permitted)).await;
        if let Some(cause) = stopped {
            return Ok(Err(cause));
        }
        let (bases, prepared) = prepared?;
        let trees = self.trees(bases, prepared, &machine, signing.clone())?;
        let executor = Executor {
            repository: Arc::clone(&self.repository),
            obeyed: self.repository.obeyed(&self.settings.host.home),
            state: self.state.clone(),
            run: self.journal.run().clone(),
            plan: Arc::clone(&self.plan),
            base: self.base,
            target: self.target.clone(),
            target_lock: self.target_lock.clone(),
            signing,
            cages,
            facts: self.facts(),
            broker,
            tool_servers: Arc::new(self.tool_servers().await),
            user_servers: self.settings.user.servers.clone(),
            user_models: self.settings.user.models.keys().cloned().collect(),
            not_enforced: machine.enforcement.not_enforced.clone(),
            jobs: runner,
            trees,
            repeats: self.settings.repeats,
            results: None,
            gate,
            settler,
            handed_over,
        };
        Ok(Ok(Ready { core, executor, verify_permit, progress, calls }))
    }

    /// The end of a run that was ended before its first task.
    fn stopped(&self, cause: StopCause, reports: &mut Reports) -> Result<RunEnd, RunError> {
        let (ending, word) = cause.ending();
        self.finish((ending, Some(word)), At::Rest, reports)
    }

    /// What a person should know before anything runs.
    fn odd(&self, graph: &mut TaskGraph, cages: &HashMap<String, Cage>) -> Result<Vec<String>, RunError> {
        let mut odd = answer_globs(graph, &self.repository, self.base)?;
        odd.extend(cages.values().flat_map(|cage| cage.warnings.iter().cloned()));
        odd.extend(hidden_in_vain(&self.plan, &self.repository, self.base, &self.host)?);
        odd.extend(unmatched::unmatched(graph, &self.repository, self.base)?);
        odd.extend(filters::filtered(&self.repository, self.base)?);
        // What every policy leaves out of PATH is said once.
        let mut said = BTreeSet::new();
        odd.retain(|line| said.insert(line.clone()));
        Ok(odd)
    }

    /// Opens what earlier runs recorded, when a task may take a result from there.
    fn open_results(&self, executor: &mut Executor) -> Result<(), CacheError> {
        match self.plan.tasks.iter().any(|task| task.cache.is_some()) {
            true => executor.open_results(self.settings.clock.clone()),
            false => Ok(()),
        }
    }

    /// Says how the run begins or goes on, and gives the core that decides the rest.
    async fn core(
        &mut self,
        graph: TaskGraph,
        machine: &Machine,
        jobs: usize,
        notes: Vec<String>,
        reports: &mut Reports,
    ) -> Result<RunCore, RunError> {
        let options = self.options(jobs);
        let mut past = self.past.take();
        if past.as_ref().is_none_or(|past| !past.is_begun) {
            self.tell(reports, vec![self.started(machine, jobs, notes)?])?;
        }
        let Some(past) = &mut past else { return Ok(RunCore::new(graph, options, &self.expected_ms())) };
        self.tell(reports, std::mem::take(&mut past.known))?;
        let (core, events) = self.core_with_past(graph, &options, past, machine, reports.state()).await?;
        self.tell(reports, events)?;
        Ok(core)
    }

    /// The gate of the target.
    fn gate(&self, graph: &TaskGraph, cages: &HashMap<String, Cage>, jobs: Jobs) -> Result<Option<Gate>, RunError> {
        let Some(verify) = self.plan.merge.verify.as_ref().filter(|_| self.target.is_some()) else { return Ok(None) };
        let facts = self.facts();
        let command =
            graph.render_command(&verify.command, &facts.context(&serde_json::Value::Null, &facts.lookup()))?;
        Ok(Some(Gate::new(command, &verify.sandbox, &cages[&verify.sandbox], verify.parallel, jobs)))
    }

    /// How workers are started. The file of their own words is locked: every worker has a copy of the descriptor, so the
    /// kernel keeps the lock until the last of them is gone, and whoever resumes the run waits for that.
    fn worker(&self) -> Result<WorkerProgram, RunError> {
        let path = self.state.path(&format!("{}/workers.log", StateDir::run(self.journal.run())));
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(&path).and_then(|file| {
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
            Ok(file)
        });
        let diagnostics = Arc::new(opened.map_err(|source| RunError::Io { path, source })?);
        let server = Some(Arc::new(ForkServer::default()));
        Ok(WorkerProgram { program: self.settings.worker.clone(), diagnostics, server })
    }

    /// The one door to models, with what earlier coordinators of the run spent.
    fn broker(
        &self,
        catalog: Catalog,
        graph: &TaskGraph,
        news: mpsc::UnboundedSender<News>,
    ) -> Result<Broker, RunError> {
        let tape = match &self.settings.tape {
            TapeAt::Off => Tape::Off,
            TapeAt::Record(folder) if self.past.is_some() => Tape::Record(Recorder::go_on(folder)?),
            TapeAt::Record(folder) => Tape::Record(Recorder::create(folder)?),
            TapeAt::Replay(folder) => {
                let given = self.state.path(&format!("{}/replayed.jsonl", StateDir::run(self.journal.run())));
                Tape::Replay(Box::new(Player::open(folder)?.go_on(&given)?))
            }
        };
        let asked = self.settings.budget.over(&self.plan.budget);
        let again = self.past.as_ref().map(|past| past.again.clone()).unwrap_or_default();
        let (run, tasks) = again.budgets(&self.plan, &asked);
        let accounts = Accounts::new(&run, &tasks).with_givers(self.plan.givers());
        if let Some(past) = &self.past {
            past.carry_over(graph, &accounts);
        }
        Ok(Broker::new(catalog, tape, self.keys(), Arc::new(accounts), news))
    }

    fn keys(&self) -> Keys {
        Keys::new(self.settings.host.env.clone()).kept_by(self.settings.worker.clone())
    }

    /// The caller's surroundings without the keys of the models that tasks name and of servers of tools: no policy lets those through, and no template
    /// sees them.
    fn without_keys(&self, catalog: &Catalog) -> Host {
        let keys = catalog.key_variables(self.plan.model_uses().map(|used| used.name.as_str()));
        let mut host = self.settings.host.clone();
        let tokens: Vec<&String> =
            self.settings.user.servers.values().filter_map(ToolServer::secret_variable).collect();
        host.env.retain(|name, _| !keys.contains(name) && !tokens.contains(&name));
        host
    }

    /// The servers of tools that its agents name and that have an address. A replay speaks with nobody.
    async fn tool_servers(&self) -> ToolServers {
        let known = &self.settings.user.servers;
        let named: BTreeSet<&str> = self.plan.server_uses().map(|used| used.name.as_str()).collect();
        let named = known.iter().filter(|(name, _)| named.contains(name.as_str()));
        if let TapeAt::Replay(_) = self.settings.tape {
            let silent = |(name, _): (&String, _)| (name.clone(), Err("a replay speaks with nobody".to_owned()));
            return ToolServers::new(named.map(silent).collect());
        }
        ToolServers::of(named, &self.keys(), &self.state).await
    }

    /// The run's folder is the only place where its workers' doors can be knocked at.
    fn egress(&self, jobs: usize) -> Egress {
        descriptors::raise();
        let folder = self.state.path(&StateDir::run(self.journal.run()));
        Egress::new(folder, self.settings.resolver.clone(), descriptors::connections_for(jobs))
    }

    /// What this machine can do. While workers find that out, what every policy asks for is looked at.
    async fn machine(&self, worker: &WorkerProgram) -> Result<Machine, RunError> {
        let look = async { self.view().programs().look() };
        let (machine, (), ()) = tokio::join!(Machine::probe(worker, self.state.root()), worker.warm_up(), look);
        Ok(machine?)
    }

    fn view(&self) -> View<'_> {
        let places =
            Places { worktree: self.repository.place(), git: self.repository.common_dir(), state: self.state.root() };
        View { host: &self.host, places, looked: &self.looked }
    }

    /// Every policy that a task uses, resolved on this host; what only given up tasks would use may be missing there.
    fn cages(&self, machine: &Machine) -> Result<HashMap<String, Cage>, RunError> {
        let view = self.view();
        let offer = machine.offer(self.settings.word(self.repository.place()));
        let mut cages = HashMap::new();
        let given_up = self.past.as_ref().map(|past| past.history.given_up_tasks()).unwrap_or_default();
        for (name, policy) in word::policies_of(&self.plan, |task| !given_up.contains(&*task.name.0)) {
            let mut cage = crate::policy::resolve(name, policy, view, offer.clone())?;
            machine.check(name, policy)?;
            let open = machine.left_open_by(&policy.network);
            cage.warnings.extend(open.into_iter().map(|open| format!("not enforced for sandbox.{name}: {open}")));
            cages.insert(name.to_owned(), cage);
        }
        Ok(cages)
    }

    fn started(&self, machine: &Machine, jobs: usize, more: Vec<String>) -> Result<RunEvent, RunError> {
        let mut notes = machine.notes.clone();
        notes.extend(more);
        notes.extend(unchecked(&self.plan, self.settings.repeats));
        if let Some(target) = &self.target {
            let journal = JournalReader::open(self.state.root())?;
            notes.extend(target::ahead_note(&self.repository, &journal, (self.journal.run(), target), self.base)?);
        }
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

    /// `enforcement.json` beside the run's attempts: what every worker of the run is held to, and under `policies` those
    /// policies whose workers are held to something else.
    fn write_enforcement(&self, machine: &Machine) -> Result<(), RunError> {
        let path = self.state.path(&StateDir::run(self.journal.run())).join("enforcement.json");
        let others = word::used_policies(&self.plan).map(|(name, policy)| (name, machine.held_to(&policy.network)));
        let file = EnforcementFile {
            all: &machine.enforcement,
            policies: others.filter(|(_, held)| *held != machine.enforcement).collect(),
        };
        let text = serde_json::to_vec_pretty(&file).expect("plain words and numbers");
        std::fs::write(&path, text).map_err(|source| RunError::Io { path, source })
    }

    fn signing(&self) -> Result<Signing, RunError> {
        let date_seconds = self.settings.clock.commit_date_s(self.started_ms);
        Ok(Signing { identity: self.repository.identity()?, date_seconds })
    }

    fn bases(&self, machine: &Machine) -> Result<Bases, RunError> {
        let workspace = &self.plan.workspace;
        let settings = BaseSettings {
            backend: machine.backend,
            objects: machine.objects_at(),
            sparse: workspace.sparse.clone().unwrap_or_default(),
            copy: workspace.copy.clone(),
            cache: workspace.cache.clone(),
        };
        Ok(Bases::new(Arc::clone(&self.repository), self.state.clone(), settings)?)
    }

    fn trees(&self, bases: Bases, base: Prepared, machine: &Machine, signing: Signing) -> Result<Trees, RunError> {
        let run = Some(self.journal.run().clone());
        let naming = Naming { signing, plan: self.plan.name.clone(), run, state: self.state.clone() };
        let rules = FileRules::of(&self.plan.merge).map_err(BaseError::from)?;
        Ok(Trees::new(Arc::clone(&self.repository), bases, base, machine, naming, rules))
    }

    fn options(&self, jobs: usize) -> Options {
        Options {
            jobs,
            fail_fast: self.settings.fail_fast,
            facts: self.facts(),
            grace_ms: GRACE_MS,
            reuse: self.settings.reuse,
        }
    }

    fn facts(&self) -> RunFacts {
        RunFacts {
            name: self.plan.name.clone(),
            id: self.journal.run().0.clone(),
            base: self.base.to_string(),
            target: self.target.as_deref().map(branch_of).map(str::to_owned),
            env: self.settings.word(self.repository.place()).readable(&self.host.env),
        }
    }

    /// How long tasks took in earlier runs. A journal that cannot be read costs only the better order.
    pub(crate) fn expected_ms(&self) -> impl Fn(&str) -> Option<u64> + use<> {
        let known = JournalReader::open(self.state.root()).and_then(|reader| reader.durations(&self.plan.name));
        let known: HashMap<String, u64> =
            known.unwrap_or_default().into_iter().map(|task| (task.task, task.median_ms)).collect();
        move |task: &str| known.get(task).copied()
    }

    /// The run's record gets its end, so that it is not taken for one whose coordinator died.
    fn failed(&self, error: &RunError, begun: Begun, reports: &mut Reports) {
        let cause = error.to_string().lines().next().map(str::to_owned);
        let exit = match begun {
            Begun::Now => error.exit_code(),
            // What it has done waits for whoever goes on with it, be it the plan's fault or the machine's that nobody can now.
            Begun::Before => crate::report::exit::ENVIRONMENT,
        };
        let event = RunEvent::RunFinished { exit, tip: None, cause, lost: None, way_back: None };
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

/// Tells who watches what happens before the first task.
fn say(reports: &mut Reports, phase: &str) {
    reports.progress(&Progress::Phase { instance: None, phase: phase.to_owned() });
}

/// A hex hash of the texts of a plan and of the instances that it has before any fan-out over files or outputs is answered.
pub fn expanded_hash(loaded: &LoadedPlan) -> String {
    let mut hasher = blake3::Hasher::new();
    for instance in loaded.graph.instances() {
        hasher.update(instance.id.0.as_bytes()).update(b"\0");
    }
    for source in &loaded.sources {
        hasher.update(source.text.as_bytes()).update(b"\0");
    }
    hasher.finalize().to_hex().to_string()
}
