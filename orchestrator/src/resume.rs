//! A run goes on where its journal stops: plan, base, target and what it was asked for come from there, never from the
//! files of today.
//!
//! hold the run → read what happened → wait until nothing of the earlier coordinator lives → complete a landing that was
//! announced → clean what was half made → the straight line of [`crate::run`], with a core that knows the past.
//!
//! What has a result is never run again, with two exceptions that are said: a failure that was the machine's, and a result
//! whose change or artifacts somebody removed while something still needs them.

/// Results of which a part is gone.
mod losses;
/// Refs and objects that hold nothing.
mod mending;

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use git2::Oid;
use serde_json::{Map, Value};
use swarm_plans::file::{ONLY, SET};
use swarm_plans::{Beside, Budget, InstanceId, Plan, SourceFile, Task, TaskBudget, TaskGraph};

use losses::Losses;
use mending::Mended;

use crate::agent::fork;
use crate::base::eviction::evict_unused;
use crate::commit;
use crate::dispatcher::core::resume::Resumed;
use crate::dispatcher::core::{Options, RunCore};
use crate::dispatcher::history::{self, Became, History, TakenUp};
use crate::event::{AttemptEnd, ChangeSummary, Handed, InstanceResult, Recorded, RunEvent};
use crate::executor::WORKTREES;
use crate::executor::outputs::OUT;
use crate::ids::{Attempt, RunId};
use crate::journal::{InstanceState, Journal, JournalReader, LockError, RunLock, RunRow, RunState, Tally, attempt_dir};
use crate::lent::Lent;
use crate::machine::Machine;
use crate::model::broker::accounts::Accounts;
use crate::ownership::other_repository;
use crate::plain_copy::copy_onto;
use crate::policy::{Looked, Places, View};
use crate::removal::{remove_tree, sweep};
use crate::report::{Reports, is_resumable};
use crate::repository::Repository;
use crate::run::before::{heard, keys_are_here, prices_are_here};
use crate::run::{LoadedPlan, RunEnd, RunError, Stage, answer_globs, expanded_hash};
use crate::second_word::is_given_up;
use crate::settings::{BudgetAsked, Settings};
use crate::state::{StateDir, make_private_dir_all};
use crate::target;

/// How long the workers of a dead coordinator may take to end: they are killed as soon as they see that it is gone.
const WORKERS_END_MAX: Duration = Duration::from_secs(30);

/// The newest attempts whose worktrees may not have been removed yet when the coordinator died: as many as wait for removal
/// at once, and a few that were on their way there.
const UNCLEANED_ATTEMPTS_MAX: usize = 512;

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The journal has no such run.
    #[error("find the run {0} in the journal")]
    Unknown(RunId),
    /// It is a run of another repository, which uses the same state folder.
    #[error("change {run}: it is a run of another repository, {repository}")]
    Elsewhere {
        /// The run.
        run: RunId,
        /// Common git folder of that.
        repository: String,
    },
    /// The text of its plan in the journal is refused, which an older or newer swarm accepted.
    #[error("read the plan of {run} from the journal: {message}")]
    Plan {
        /// The run.
        run: RunId,
        /// The first mistake.
        message: String,
    },
    /// Its plan gives other tasks than it did.
    #[error("go on with {0}: this swarm expands its plan to other tasks than the one that began it")]
    Expansion(RunId),
    /// Its base is not in this repository.
    #[error("find the base {base} of {run} in the repository at {}", repository.display())]
    Base {
        /// The run.
        run: RunId,
        /// Its commit.
        base: String,
        /// Where it was looked for.
        repository: std::path::PathBuf,
    },
    /// Workers of the earlier coordinator do not end.
    #[error("go on with {run}: workers of its earlier coordinator still live after {} s", WORKERS_END_MAX.as_secs())]
    Workers {
        /// The run.
        run: RunId,
    },
}

impl ResumeError {
    /// What a person can do.
    pub fn hint(&self) -> String {
        match self {
            ResumeError::Unknown(_) => "`swarm list` shows the runs".to_owned(),
            ResumeError::Elsewhere { repository, .. } => in_its_repository(repository),
            ResumeError::Plan { .. } | ResumeError::Expansion(_) => {
                "resume it with the swarm that began it, or start it anew with `swarm run`".to_owned()
            }
            ResumeError::Base { .. } => "run it where the commit is, or fetch it; `-C` names another folder".to_owned(),
            ResumeError::Workers { .. } => {
                "end the processes that `pgrep -fa __worker` shows, then resume again".to_owned()
            }
        }
    }
}

/// How a person gives the same command where a run belongs; `repository` is its common git folder.
pub fn in_its_repository(repository: &str) -> String {
    let folder = repository.strip_suffix("/.git").unwrap_or(repository);
    format!("give the command there: swarm -C {} …", crate::report::sanitize::shell_word(folder))
}

/// What a person wants tried again.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Results that failed or are parked, in graph order.
    pub instances: Vec<InstanceId>,
    /// Among them, what they settled by hand, with the change that they made of it and the attempt that it is kept as.
    pub resolved: Option<(InstanceId, Attempt, ChangeSummary)>,
    /// Among them, the one whose agent is to go on with the conversation of its newest attempt, behind so many answers.
    pub fork: Option<(InstanceId, u32)>,
    /// What the run, and the tasks and attempts of these results, may spend on models at least.
    pub budget: BudgetAsked,
}

impl Wanted {
    /// What a run may spend that may spend `run` otherwise, and its tasks, in plan order.
    pub fn budgets(&self, plan: &Plan, run: &Budget) -> (Budget, Vec<TaskBudget>) {
        let tried: HashSet<String> = self.instances.iter().map(|id| id.task().to_owned()).collect();
        // They draw from the budgets of those that added them, too.
        let mut all: HashSet<&str> = tried.iter().map(String::as_str).collect();
        for name in &tried {
            let mut at = plan.task_by_name(name);
            while let Some(giver) = at.and_then(|at| plan.task(at).grown.as_ref()).map(|grown| grown.giver) {
                at = all.insert(&plan.task(giver).name.0).then_some(giver);
            }
        }
        let raised = |task: &Task| match all.contains(task.name.0.as_str()) {
            true => TaskBudget {
                task: self.budget.raising(&task.budget.task),
                attempt: self.budget.raising(&task.budget.attempt),
            },
            false => task.budget,
        };
        (self.budget.raising(run), plan.tasks.iter().map(raised).collect())
    }

    fn resolved_id(&self) -> Option<&InstanceId> {
        self.resolved.as_ref().map(|(id, ..)| id)
    }

    /// What happened to the instance that was settled by hand: it handed over that before.
    fn events(&self, before: impl Fn(&InstanceId) -> (Map<String, Value>, Handed)) -> Vec<RunEvent> {
        let Some((instance, attempt, change)) = &self.resolved else { return vec![] };
        let (instance, attempt) = (instance.clone(), *attempt);
        let (outputs, handed) = before(&instance);
        let done = RunEvent::AttemptFinished {
            instance: instance.clone(),
            attempt,
            end: AttemptEnd::Succeeded,
            duration_ms: 0,
            change: Some(change.clone()),
            outputs,
            handed,
            notes: vec!["a person settled it by hand".to_owned()],
            refusals: vec![],
            envelope: None,
            retry_in_ms: None,
        };
        vec![RunEvent::AttemptStarted { instance, attempt, on: None }, done]
    }
}

/// Goes on with a run to its end, as [`crate::run::run`] does with a new one, after giving these results another try: what failed
/// runs again, what was parked takes its turn on the target again. A run that has nothing left to do ends at once with the exit
/// code that it had.
///
/// # Errors
/// [`RunError`]; what happened before stays true, and the run can be resumed again.
pub async fn retry(run: &RunId, again: Wanted, settings: Settings, reports: &mut Reports) -> Result<RunEnd, RunError> {
    go_on(run, None, again, settings, reports).await
}

/// The same for who holds the run already, and so knows that nobody has made anything of these results meanwhile.
///
/// # Errors
/// As of [`retry`].
pub async fn retry_held(
    run: &RunId,
    held: RunLock,
    again: Wanted,
    settings: Settings,
    reports: &mut Reports,
) -> Result<RunEnd, RunError> {
    go_on(run, Some(held), again, settings, reports).await
}

async fn go_on(
    run: &RunId,
    held: Option<RunLock>,
    again: Wanted,
    mut settings: Settings,
    reports: &mut Reports,
) -> Result<RunEnd, RunError> {
    let (repository, state_root, row) = found(run, &settings)?;
    if let Some(end) = ended_for_good(run, &row, &again) {
        return Ok(end);
    }
    let state = StateDir::open(&state_root).map_err(|source| RunError::Io { path: state_root, source })?;
    let now_ms = settings.clock.now_ms();
    let of_run = held.map_or_else(|| RunLock::of_run(state.root(), run, now_ms), Ok)?;
    let mut journal = Journal::open(state.root())?;
    // Read again: until the lock was ours, somebody else may have gone on with it.
    let reader = JournalReader::open(state.root())?;
    let row = row_of(&reader, run)?;
    if let Some(end) = ended_for_good(run, &row, &again) {
        return Ok(end);
    }
    let asked = reader.asked(run)?.unwrap_or_default();
    settings.ask(&asked);
    asked.signer.into_iter().for_each(|signer| repository.sign_as(signer));
    let mut mended = Mended::of(&repository, &state, &row)?;
    let (loaded, base) = (plan_of(&reader, &row)?, base_of(&repository, &row)?);
    let now_lent = Lent::now(loaded.graph.plan(), &repository, &settings.host);
    let lent = asked.lent.and_then(|then| then.note(&now_lent));
    let places = Places { worktree: repository.place(), git: repository.common_dir(), state: state.root() };
    let mut told = Told::default();
    reader.tell_ahead(run, |recorded| told.hear(recorded))?;
    let Told { mut history, state: so_far, ended, is_begun } = told;
    let view = View { host: &settings.host, places, looked: &Looked::default() };
    heard(loaded.graph.plan(), may_run(&history, &again), &settings, view)?;
    if asks_models(loaded.graph.plan(), &so_far, &again) {
        keys_are_here(loaded.graph.plan(), &settings)?;
        prices_are_here(loaded.graph.plan(), &settings)?;
    }
    let target_lock = hold_target(&repository, &state, (&row, base), &history, now_ms)?;
    empty_trash(&state);
    evict_unused(&state);
    let journal = journal.resume_run(run, of_run)?;
    reports.catch_up(so_far);
    let workers = state.path(&format!("{}/workers.log", StateDir::run(run)));
    nobody_lives(run, &workers).await?;
    let unwritten = repository.sweep_refs(&commit::run_refs(run));
    commit::keep(&repository, &commit::base_ref(run), base)?;
    mended.make_again(&repository, unwritten, JournalReader::open(state.root())?, (run, base))?;
    clean_half_made(&state, run, &ended, &history)?;
    let known = not_written(&repository, &row, &history)?;
    known.iter().for_each(|event| history.hear(event));
    let again = Wanted { instances: history.with_a_turn(&again.instances), ..again };
    let taken_up = history.try_again(&again.instances, again.resolved_id());
    let by_hand = again.events(|id| history.instance(id).map(history::Past::handed_over).unwrap_or_default());
    carry_over(&state, run, &again, &history)?;
    by_hand.iter().for_each(|event| history.hear(event));
    let plan = Arc::clone(loaded.graph.plan());
    let (target, started_ms) = (row.target, row.started_at_ms);
    let past = Past { history, known, again, by_hand, taken_up, lent, mended, is_begun };
    let (settings, host) = (&settings, settings.host.clone());
    // Its workers were alive when the word was asked for: what they may have changed since is looked at again.
    let (journal, past, looked) = (&journal, Some(past), Looked::default());
    let mut stage =
        Stage { repository, state, plan, base, target, target_lock, journal, started_ms, settings, host, looked, past };
    stage.run_out(loaded.graph, reports).await
}

/// The repository of a run, looked at after a power cut, the state folder, and what the journal's table says of the run.
fn found(run: &RunId, settings: &Settings) -> Result<(Arc<Repository>, PathBuf, RunRow), RunError> {
    let repository = Arc::new(Repository::discover(&settings.repository)?);
    let state_root = settings.state_dir.clone().unwrap_or_else(|| repository.common_dir().join("swarm"));
    let row = row_of(&JournalReader::open(&state_root)?, run)?;
    if let Some(repository) = other_repository(&row, &repository, &state_root)? {
        return Err(ResumeError::Elsewhere { run: run.clone(), repository: repository.to_owned() }.into());
    }
    repository.look_after_power_cut(&state_root)?;
    Ok((repository, state_root, row))
}

/// The end of a run that does not go on, and of which nothing is wanted again.
fn ended_for_good(run: &RunId, row: &RunRow, again: &Wanted) -> Option<RunEnd> {
    let goes_on = is_resumable(row.exit) || !again.instances.is_empty();
    row.exit.filter(|_| !goes_on).map(|exit| RunEnd { run: run.clone(), exit })
}

/// What the journal lacks of what has happened: landings that were announced by the branch only, and calls that nobody ended.
fn not_written(repository: &Repository, row: &RunRow, history: &History) -> Result<Vec<RunEvent>, RunError> {
    let landed = match &row.target {
        Some(target) => announced_landing(repository, target, history)?,
        None => Vec::new(),
    };
    Ok(landed.into_iter().chain(history.abandoned_calls()).collect())
}

/// Which tasks may still run: none that was given up, unless it is named. A policy is judged again before anything runs under it.
fn may_run(history: &History, again: &Wanted) -> impl Fn(&Task) -> bool {
    let given_up = history.given_up_tasks();
    move |task| {
        let is_named = || again.instances.iter().any(|id| id.task() == &*task.name.0);
        !given_up.contains(&*task.name.0) || is_named()
    }
}

/// Whether something that is still to be done may ask a model.
fn asks_models(plan: &Plan, so_far: &RunState, again: &Wanted) -> bool {
    use InstanceResult::{Blocked, Cancelled, Lost};
    let is_open = |name: &str| {
        let mut instances = so_far.instances.iter().filter(|(_, instance)| instance.task() == name).peekable();
        // What ended only because something else did is open, too; what was given up is not, unless it is named.
        let runs = |result| matches!(result, None | Some(Cancelled | Blocked | Lost));
        let open = |(id, instance): (_, &InstanceState)| {
            runs(instance.result()) && !is_given_up(instance) || again.instances.contains(id)
        };
        instances.peek().is_none() || instances.any(open)
    };
    plan.tasks.iter().filter(|task| task.model_uses().next().is_some()).any(|task| is_open(&task.name.0))
}

/// What a stage knows of an earlier coordinator's work.
pub struct Past {
    /// All of it.
    pub history: History,
    /// What is known now of the earlier coordinator's last moment: fates that follow from a landing that had been announced and
    /// was made, and calls of models that nobody heard the end of.
    pub known: Vec<RunEvent>,
    /// What a person wants tried again.
    pub again: Wanted,
    /// What a person did themselves.
    pub by_hand: Vec<RunEvent>,
    /// How much of what is wanted again was put aside for good.
    pub taken_up: TakenUp,
    /// What is to be said of what the person's checkout and environment lend, when that is not as it was.
    pub lent: Option<String>,
    /// What of its refs and objects held nothing.
    pub mended: Mended,
    /// Whether it came so far that the run had its first event.
    pub is_begun: bool,
}

impl Past {
    /// Books what earlier coordinators of the run spent on models: for the run, its tasks, and the attempts that were cut short,
    /// whose conversations go on.
    pub fn carry_over(&self, graph: &TaskGraph, accounts: &Accounts) {
        for (id, spending) in self.history.spending() {
            // Instances of fan-outs that are not answered yet are known by their task's name in front of the bracket.
            let task = match graph.instance_by_id(&id.0) {
                Some(ix) => Some(graph.instance(ix).task),
                None => graph.plan().task_by_name(id.task()),
            };
            accounts.carry_over(task, spending.spent());
        }
        for (id, spending) in self.history.spending_cut_short() {
            accounts.go_on(id.clone(), spending.spent());
        }
    }
}

/// What a journal tells, taken in event by event.
#[derive(Default)]
struct Told {
    history: History,
    state: RunState,
    /// The attempts that ended last, oldest first; at most [`UNCLEANED_ATTEMPTS_MAX`].
    ended: VecDeque<(InstanceId, Attempt)>,
    is_begun: bool,
}

impl Told {
    fn hear(&mut self, recorded: Recorded) {
        self.state.apply(&recorded);
        self.history.hear(&recorded.event);
        match recorded.event {
            RunEvent::RunStarted { .. } => self.is_begun = true,
            RunEvent::AttemptFinished { instance, attempt, .. } => {
                if self.ended.len() == UNCLEANED_ATTEMPTS_MAX {
                    self.ended.pop_front();
                }
                self.ended.push_back((instance, attempt));
            }
            _ => {}
        }
    }
}

pub(crate) fn row_of(reader: &JournalReader, run: &RunId) -> Result<RunRow, RunError> {
    Ok(reader.run(run)?.ok_or_else(|| ResumeError::Unknown(run.clone()))?)
}

/// The plan as the journal keeps it.
pub fn plan_of(reader: &JournalReader, row: &RunRow) -> Result<LoadedPlan, RunError> {
    let refused = |message: String| ResumeError::Plan { run: row.id.clone(), message };
    let sources = reader.sources(&row.id)?;
    let (only, rest): (Vec<_>, Vec<_>) = sources.iter().partition(|source| source.name == ONLY);
    let only: Vec<String> = only.iter().flat_map(|only| only.text.split(',').map(str::to_owned)).collect();
    let (sets, texts): (Vec<_>, Vec<_>) = rest.into_iter().partition(|source| source.name == SET);
    let sets: Vec<(String, String)> =
        sets.iter().filter_map(|set| set.text.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let Some((plan, included)) = texts.split_first() else {
        return Err(refused("its text is not there".to_owned()).into());
    };
    let mut include = |name: &str| {
        let text = included.iter().find(|source| source.name == name).map(|source| source.text.clone());
        text.ok_or_else(|| "the journal has no text of it".to_owned())
    };
    let parsed = swarm_plans::parse_recorded(&plan.name, &plan.text, Beside { sets: &sets, only: &only }, &mut include);
    let first = |diagnostics: &[swarm_plans::Diagnostic]| {
        refused(diagnostics.first().map_or_else(String::new, |diagnostic| diagnostic.message.clone()))
    };
    let plan = parsed.plan.ok_or_else(|| first(&parsed.diagnostics))?;
    let graph = TaskGraph::expand(plan).map_err(|diagnostics| first(&diagnostics))?;
    let sources = sources.into_iter().map(|source| SourceFile { name: source.name, text: source.text }).collect();
    let loaded = LoadedPlan { graph, sources };
    if expanded_hash(&loaded) != row.expanded_hash {
        return Err(ResumeError::Expansion(row.id.clone()).into());
    }
    Ok(loaded)
}

fn base_of(repository: &Repository, row: &RunRow) -> Result<Oid, RunError> {
    let missing = || ResumeError::Base {
        run: row.id.clone(),
        base: row.base.clone(),
        repository: repository.common_dir().to_owned(),
    };
    let base = Oid::from_str(&row.base).map_err(|_| missing())?;
    repository.tree_of(base).map_err(|_| missing())?;
    Ok(base)
}

/// Holds the target of a run that can take the rest of it; `None` where the run has none.
fn hold_target(
    repository: &Repository,
    state: &StateDir,
    (row, base): (&RunRow, Oid),
    history: &History,
    now_ms: u64,
) -> Result<Option<Arc<RunLock>>, RunError> {
    let Some(target) = row.target.as_deref() else { return Ok(None) };
    let lock = target::lock(repository, state.root(), target, now_ms)?;
    lock.name_run(&row.id, state.root())?;
    may_go_on(repository, target, base, history)?;
    Ok(Some(lock))
}

/// Whether the target can still take the rest of the run: it is not checked out, it stems from the base, and what had landed
/// on it is there.
fn may_go_on(repository: &Repository, target: &str, base: Oid, history: &History) -> Result<(), RunError> {
    let landed = history.instances().filter(|(_, past)| past.fate == Some(Became::Landed)).count();
    if repository.find_ref(target)?.is_none() && repository.stands_for(target)?.is_none() && landed > 0 {
        let tip = history.tip().unwrap_or_default().to_owned();
        return Err(RunError::TargetAgain(target::removed(repository, target, tip)?));
    }
    if let Some(landed) = history.tip().filter(|_| landed > 0).and_then(|tip| Oid::from_str(tip).ok())
        && let Some(error) = target::lost_landed(repository, target, landed)?
    {
        return Err(RunError::TargetAgain(error));
    }
    target::may_move(repository, target, base).map_err(|error| match error {
        RunError::Target(error) => RunError::TargetAgain(error),
        error => error,
    })
}

/// Removes what dead coordinators left in the trash, when no other one works here.
fn empty_trash(state: &StateDir) {
    match RunLock::of_idle_state(state.root()) {
        Ok(_alone) => {
            if let Err(error) = sweep(state) {
                tracing::warn!(%error, "the trash could not be emptied; `swarm clean` tries again");
            }
        }
        // Somebody works here, and the trash is theirs, too.
        Err(LockError::Held { .. }) => {}
        Err(error) => tracing::warn!(%error, "the trash was not emptied"),
    }
}

/// Waits until no worker of an earlier coordinator lives. Every one of them has a copy of the descriptor behind `workers`
/// as its standard error, and the coordinator had locked it: the kernel keeps that lock until the last copy is closed.
async fn nobody_lives(run: &RunId, workers: &Path) -> Result<(), RunError> {
    let io = |source| RunError::Io { path: workers.to_owned(), source };
    let file = match std::fs::File::open(workers) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    let (sender, free) = tokio::sync::oneshot::channel();
    // Not on the runtime's threads: should the wait have no end, the program still has one.
    let wait = move || {
        let locked = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive));
        // Nobody listens any more once the time is over.
        let _ = sender.send(locked);
    };
    std::thread::Builder::new().name("workers-end".to_owned()).stack_size(128 << 10).spawn(wait).map_err(io)?;
    match tokio::time::timeout(WORKERS_END_MAX, free).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(io(error.into())),
        Ok(Err(_)) | Err(_) => Err(ResumeError::Workers { run: run.clone() }.into()),
    }
}

/// Removes the worktrees of attempts that were lost, and those that were waiting for removal. Logs stay.
fn clean_half_made(
    state: &StateDir,
    run: &RunId,
    ended: &VecDeque<(InstanceId, Attempt)>,
    history: &History,
) -> Result<(), RunError> {
    let lost = history.instances().filter_map(|(id, past)| Some((id, past.running?)));
    for (instance, attempt) in lost.chain(ended.iter().map(|(instance, attempt)| (instance, *attempt))) {
        let folder = attempt_dir(state.root(), run, instance, attempt);
        for name in WORKTREES {
            let path = folder.join(name);
            remove_tree(&path).map_err(|source| RunError::Io { path, source })?;
        }
    }
    Ok(())
}

/// What a settled result handed over stays handed over, under the number of the attempt that it is now.
fn carry_over(state: &StateDir, run: &RunId, again: &Wanted, history: &History) -> Result<(), RunError> {
    for id in &again.instances {
        let Some(newest) = history.instance(id).map(|past| past.attempts).filter(|newest| *newest > 0) else {
            continue;
        };
        let folder = attempt_dir(state.root(), run, id, Attempt(newest));
        // What an earlier try was asked for holds for that one.
        let marked = match &again.fork {
            Some((forked, answers)) if forked == id => fork::mark(&folder, *answers),
            _ => fork::unmark(&folder),
        };
        marked.map_err(|source| RunError::Io { path: folder, source })?;
    }
    let Some((id, attempt, _)) = &again.resolved else { return Ok(()) };
    let before = Attempt(history.instance(id).map_or(1, |past| past.gave));
    let [from, to] = [before, *attempt].map(|attempt| attempt_dir(state.root(), run, id, attempt).join(OUT));
    if from.is_dir() && from != to {
        let copied = make_private_dir_all(&to).and_then(|()| copy_onto(&from, &to));
        copied.map_err(|source| RunError::Io { path: to, source })?;
    }
    Ok(())
}

/// What follows from a landing that was announced: when the target holds its commit, it was made, whoever moved the target
/// since; else it was not, and what it was to bring is folded again.
fn announced_landing(repository: &Repository, target: &str, history: &History) -> Result<Vec<RunEvent>, RunError> {
    let Some(announced) = history.announced() else { return Ok(Vec::new()) };
    let Ok(to) = Oid::from_str(&announced.to) else { return Ok(Vec::new()) };
    if !target::holds(repository, target, to)? {
        return Ok(Vec::new());
    }
    let merged = announced.merges.into_iter();
    Ok(merged.map(|merge| RunEvent::Merged { instance: merge.instance, fate: merge.fate }).collect())
}

impl Stage<'_> {
    /// A core that knows the past, and the events that are to be stored before it goes on. Results that are not there any
    /// more and are still needed are made again, with all that builds on them; the notes name them.
    pub(crate) async fn core_with_past(
        &self,
        graph: TaskGraph,
        options: &Options,
        past: &mut Past,
        machine: &Machine,
        state: &RunState,
    ) -> Result<(RunCore, Vec<RunEvent>), RunError> {
        let expected_ms = self.expected_ms();
        let mut notes: Vec<String> = past.lent.take().filter(|_| past.is_begun).into_iter().collect();
        notes.extend(past.mended.note());
        let looked = self.look_through(&past.mended).await?;
        past.history.lose_grounds(|commit| self.has_commit_and_tree(commit))?;
        let mut resumed = RunCore::resume(graph, options.clone(), &expected_ms, &past.history);
        let mut losses = Losses::default();
        while self.lose_what_is_gone((&resumed.core, looked.as_ref()), state, &mut past.history, &mut losses)? {
            let mut graph = TaskGraph::expand(Arc::clone(&self.plan)).expect("it was expanded a moment ago");
            answer_globs(&mut graph, &self.repository, self.base)?;
            resumed = RunCore::resume(graph, options.clone(), &expected_ms, &past.history);
        }
        notes.append(&mut losses.notes);
        if let Some(looked) = &looked {
            self.remove_hollow(looked, &mut notes)?;
        }
        resumed.core.lose_files_of_landed(|id, attempt| self.has_artifacts(id, attempt));
        let target = self.target.as_deref().map(|target| self.repository.find_ref(target)).transpose()?.flatten();
        target.into_iter().for_each(|tip| resumed.core.stands_at(tip.to_string()));
        let TakenUp { parked, dropped } = past.taken_up;
        let (parked, dropped) = (state.tally.parked - parked, state.tally.dropped - dropped);
        let tally = Tally { parked, dropped, ..state.tally };
        let instances = resumed.still_there(&past.again.instances);
        let mut events = Self::opening(&mut resumed, machine, options.jobs, notes, tally);
        if !instances.is_empty() {
            // Right behind `run-resumed`, before what is open because of it.
            let resolved = past.again.resolved_id().cloned();
            let retried = RunEvent::Retried { instances, resolved };
            events.splice(1..1, [retried].into_iter().chain(std::mem::take(&mut past.by_hand)));
        }
        Ok((resumed.core, events))
    }

    fn opening(
        resumed: &mut Resumed,
        machine: &Machine,
        jobs: usize,
        notes: Vec<String>,
        mut tally: Tally,
    ) -> Vec<RunEvent> {
        tally.instances -= resumed.unexpanded.len() as u64;
        for (_, result) in resumed.unexpanded.iter().chain(&resumed.reopened) {
            tally.reopen(*result);
        }
        let mut events = vec![RunEvent::RunResumed {
            jobs: u32::try_from(jobs).unwrap_or(u32::MAX),
            backend: machine.backend.name().to_owned(),
            enforcement: machine.enforcement.clone(),
            notes,
            unexpanded: resumed.unexpanded.iter().map(|(id, _)| id.clone()).collect(),
            tally,
        }];
        events.extend(resumed.take_events());
        events
    }
}
