//! `swarm run PLAN`: reads the plan, runs it, and says what came of it.

use std::io::IsTerminal as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swarm_orchestrator::dispatcher::core::{FailFast, ReuseResults};
use swarm_orchestrator::egress::Resolver;
use swarm_orchestrator::event::EVENT_VERSION;
use swarm_orchestrator::journal::{Spending, log_path, tail};
use swarm_orchestrator::machine::MachineError;
use swarm_orchestrator::model::budget::NanoUsd;
use swarm_orchestrator::policy::PolicyError;
use swarm_orchestrator::report::money;
use swarm_orchestrator::report::summary::{TAIL_LINES_MAX, summary};
use swarm_orchestrator::report::{AsTyped, Json, Lines, Live, Reporter, Reports, Size, exit, sanitize};
use swarm_orchestrator::run::{LoadedPlan, RunEnd, RunError};
use swarm_orchestrator::settings::{
    BudgetAsked, HostNetwork, IntoBranch, PlanModels, Present, Settings, TapeAt, Writing,
};
use swarm_orchestrator::threads;
use swarm_plans::{Need, Task, TaskGraph, TaskIx};

use crate::commands::allow::{self, Allow};
use crate::commands::failure::Failure;
use crate::commands::login;
use crate::commands::plan;
use crate::commands::plan_file::{PlanFile, key_value, misfits_shown, place_of, policies_at_fault};
use crate::commands::resident::{self, Resident};
use crate::commands::surroundings::{ReaderKind, Surroundings, THIS_PROGRAM, host};
use crate::commands::written::Written;
use crate::commands::{uncommitted, user_config};

/// How long what is still at work on other threads may hold up the end of the program; what it writes may be cut at any moment.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// The plan of a repository, in its root.
const PLAN_DEFAULT: &str = "swarm.toml";

/// Runs the tasks of a plan in caged worktrees and merges what they change into one branch.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The plan's file [default: swarm.toml in the root of the repository].
    #[arg(value_name = "PLAN", conflicts_with = "goal")]
    pub plan: Option<PathBuf>,
    /// Sets one of the plan's [vars]; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, conflicts_with = "goal")]
    pub sets: Vec<(String, String)>,
    /// Runs only these tasks and all that they need; `*` stands for anything.
    #[arg(long, value_name = "TASK", value_delimiter = ',', conflicts_with = "goal")]
    pub only: Vec<String>,
    /// Has an agent write the plan for a goal, as `swarm plan` does, shows it, and runs it after a yes.
    #[arg(long, value_name = "GOAL")]
    pub goal: Option<String>,
    /// The model that writes it: an entry of [models] in your configuration, or provider/model [default: main].
    #[arg(long, value_name = "MODEL", requires = "goal", conflicts_with = "plan")]
    pub model: Option<String>,
    /// Says yes to the plan beforehand.
    #[arg(long, requires = "goal", conflicts_with = "plan")]
    pub yes: bool,
    #[command(flatten)]
    pub jobs: JobsFlag,
    /// The branch that receives the work [default: the plan's `into`, else swarm/NAME].
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// Starts nothing more after the first failure, and cancels what runs.
    #[arg(long)]
    pub fail_fast: bool,
    /// Runs every task and verifies every tree, also those of which an earlier run recorded what came of it; that is recorded
    /// again.
    #[arg(long)]
    pub no_cache: bool,
    /// Runs every task with `cache` N times, and fails it when it does not leave the same each time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub check_determinism: Option<u32>,
    /// Prints one JSON event a line on stdout.
    #[arg(long)]
    pub json: bool,
    /// Only shows what would run; with `--json`, one object a task.
    #[arg(long)]
    pub dry_run: bool,
    /// Lets plans use the host's network where they ask for it.
    #[arg(long)]
    pub allow_host_network: bool,
    #[command(flatten)]
    pub allow: Allow,
    /// Lets the plan's [models] name a base-url, of this machine, too, and use other keys than their providers'.
    #[arg(long)]
    pub trust_models: bool,
    #[command(flatten)]
    pub budget: BudgetFlags,
    #[command(flatten)]
    pub deadline: DeadlineFlag,
    /// Keeps every answer of a model in DIR, to be replayed.
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Takes every answer of a model from DIR and calls nobody; needs no key.
    #[arg(long, value_name = "DIR")]
    pub replay: Option<PathBuf>,
}

/// Exit codes as in the help of `swarm`.
///
/// # Errors
/// The plan has mistakes, or the run could not start or go on.
pub fn run(args: &Run, it: &Surroundings) -> Result<u8, Failure> {
    resident::let_go();
    let mut settings = settings(args, it)?;
    let plan = match (&args.plan, &args.goal) {
        (Some(plan), _) => Some(plan.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(of_the_repository(it)?),
    };
    let loaded = match (&plan, &args.goal) {
        (Some(plan), _) => {
            let file = PlanFile { plan: plan.clone(), sets: args.sets.clone(), only: args.only.clone() };
            let (graph, sources) = file.load_for(settings.tape.answers(), it)?;
            if !args.dry_run {
                it.err.write(&format!("{}\n", sanitize::text(&graph.tree())))?;
            }
            LoadedPlan { graph, sources }
        }
        (None, goal) => match goal_to_plan(args, goal.as_deref().unwrap_or_default(), &mut settings, it)? {
            GoAhead::With(loaded) => *loaded,
            GoAhead::Not(code) => return Ok(code),
        },
    };
    if args.dry_run {
        let shown = if args.json { dry_run_json(&loaded.graph) } else { sanitize::text(&loaded.graph.tree()) };
        it.out.write(&shown)?;
        return Ok(0);
    }
    uncommitted::say(&it.repository()?, &loaded.graph.plan().base, plan.as_deref(), it)?;
    login::before(loaded.graph.plan(), &settings, it)?;
    let mut reports = reports(JsonEvents::of(args.json), it);
    resident::prepare(&loaded.graph);
    let ended = start(loaded, settings, &mut reports, it)?;
    say_end(&reports, &it.state()?, JsonEvents::of(args.json), it)?;
    Ok(ended.exit)
}

/// The plan that a run has where none is named.
///
/// # Errors
/// There is none.
fn of_the_repository(it: &Surroundings) -> Result<PathBuf, Failure> {
    let root = it.repository()?.workdir().map(Path::to_owned);
    let plan = root.as_ref().map(|root| root.join(PLAN_DEFAULT)).filter(|plan| plan.is_file());
    let is_here = root.is_some_and(|root| it.folder.canonicalize().is_ok_and(|folder| folder == root));
    plan.map(|plan| if is_here { PathBuf::from(PLAN_DEFAULT) } else { plan }).ok_or_else(|| {
        let message = format!("run a plan: none is named, and the repository's root has no {PLAN_DEFAULT}");
        Failure::usage(message, "swarm run PLAN; swarm run --goal GOAL has one written".to_owned())
    })
}

/// Whether a plan that was just written is run.
enum GoAhead {
    /// It is.
    With(Box<LoadedPlan>),
    /// It is not: this is the exit code.
    Not(u8),
}

/// Has a plan written and shown, and asks for a yes. One that is not run goes to stdout, so that it is not lost. Recordings
/// of the writing lie in a folder of their own beside those of the run.
fn goal_to_plan(args: &Run, goal: &str, settings: &mut Settings, it: &Surroundings) -> Result<GoAhead, Failure> {
    let asks = !args.yes && !args.dry_run;
    if asks && !(std::io::stdin().is_terminal() && it.err.reader == ReaderKind::Terminal) {
        let hint = "look at it first: swarm plan GOAL -o plan.toml; or say yes beforehand: --yes".to_owned();
        return Err(Failure::usage("run a plan that a model is still to write: nobody is here to say yes", hint));
    }
    let (writing, running) = (settings.tape.below("plan"), settings.tape.below("run"));
    settings.tape = running;
    let model = args.model.as_deref().unwrap_or(plan::MODEL_DEFAULT);
    let wanted = Writing { goal: goal.to_owned(), model: model.to_owned(), file: None, present: Present::default() };
    let written = match plan::write(wanted, args.budget, writing, it)? {
        plan::Written::Plan(written) => written,
        plan::Written::Nothing(code) => return Ok(GoAhead::Not(code)),
    };
    it.err.write(&written.shown())?;
    settings.budget = left_for_the_run(settings.budget, &written.spending, it)?;
    if asks && !it.agrees("run this plan?")? {
        it.out.write(&written.text)?;
        return Ok(GoAhead::Not(exit::TASK_FAILED));
    }
    Ok(GoAhead::With(Box::new(written.loaded()?)))
}

/// What of a budget is left for the run behind the writing of its plan; said where that took some of it. One budget is for both.
fn left_for_the_run(asked: BudgetAsked, spending: &Spending, it: &Surroundings) -> Result<BudgetAsked, Failure> {
    let left = asked.less(&spending.spent());
    if left != asked {
        let usd = left.usd.map(money::usd);
        let tokens = left.tokens.map(|tokens| format!("{} tokens", money::tokens(tokens)));
        let time = left.time.map(|time| format!("{} s of models", time.as_secs()));
        let left: Vec<String> = [usd, tokens, time].into_iter().flatten().collect();
        it.err.write(&format!("budget: writing the plan took some of it; left for the run: {}\n", left.join(", ")))?;
    }
    Ok(left)
}

/// Runs on this thread, with a few more for what blocks.
///
/// # Errors
/// Those of the run, and a machine that gives no event loop.
pub fn start(
    loaded: LoadedPlan,
    settings: Settings,
    reports: &mut Reports,
    it: &Surroundings,
) -> Result<RunEnd, Failure> {
    let sources = loaded.sources.clone();
    let written = Written::before(loaded.graph.plan(), it)?;
    let ended = on_event_loop(async {
        let ended = swarm_orchestrator::run::run(loaded, settings, reports).await;
        Ok(ended.map_err(|error| match &error {
            RunError::Policy(PolicyError::Word { asks }) => allow::refused(asks, &sources),
            RunError::Misfits(_) => misfits_shown(error, &sources, it),
            RunError::Policies(_) if !policies_at_fault(&error, &sources).is_empty() => {
                misfits_shown(error, &sources, it)
            }
            _ => match policy_at_fault(&error).and_then(|fault| place_of(&sources, fault)) {
                Some(place) => Failure::from(error).at(&place),
                None => error.into(),
            },
        }))
    });
    // Whatever became of the run: what its tasks left in folders of the person's own is looked at.
    let left = written.settle(it)?;
    let ended = ended??;
    Ok(RunEnd { exit: left.exit(ended.exit), ..ended })
}

/// The policy, the key and the text in it that a run was refused for.
pub fn policy_at_fault(error: &RunError) -> Option<(&str, &str, Option<&str>)> {
    match error {
        RunError::Policy(error) => error.place(),
        RunError::Policies(refused) => refused.first()?.place(),
        RunError::Machine(MachineError::Missing { policy, missing, .. }) => Some((policy, "require", Some(missing))),
        _ => None,
    }
}

/// Waits for a run on this thread, with a few more for what blocks.
///
/// # Errors
/// Those of the run, a machine that gives no event loop, and a panic: the run can be resumed then, as after `kill -9`.
pub fn on_event_loop<T>(run: impl Future<Output = Result<T, RunError>>) -> Result<T, Failure> {
    let runtime = threads::event_loop().map_err(|error| {
        let hint = threads::is_no_more(&error).then(|| threads::NO_MORE_HINT.to_owned());
        Failure::environment(format!("start an event loop: {error}"), hint)
    })?;
    threads::hear_panics();
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run)));
    runtime.shutdown_timeout(LINGER_MAX);
    let ended = ended.map_err(|panic| {
        let words = threads::words_of(&*panic);
        let hint = "swarm list shows whether a run is left, swarm resume goes on with it".to_owned();
        Failure::environment(format!("go on: the coordinator failed, which is a bug: {words}"), hint)
    });
    Ok(ended??)
}

fn settings(args: &Run, it: &Surroundings) -> Result<Settings, Failure> {
    Ok(Settings {
        jobs: args.jobs.asked(),
        into: args.into.clone().map_or(IntoBranch::Planned, IntoBranch::Branch),
        fail_fast: if args.fail_fast { FailFast::Yes } else { FailFast::No },
        reuse: match args.no_cache || args.check_determinism.is_some() {
            true => ReuseResults::No,
            false => ReuseResults::Yes,
        },
        repeats: args.check_determinism.unwrap_or(1),
        host_network: if args.allow_host_network { HostNetwork::Allowed } else { HostNetwork::Refused },
        allowed: args.allow.allow.clone(),
        plan_models: if args.trust_models { PlanModels::Trusted } else { PlanModels::Bounded },
        budget: args.budget.asked()?,
        deadline: args.deadline.deadline,
        tape: match (&args.record, &args.replay) {
            (Some(folder), _) => TapeAt::Record(it.folder.join(folder)),
            (None, Some(folder)) => TapeAt::Replay(it.folder.join(folder)),
            (None, None) => TapeAt::Off,
        },
        ..plain_settings(it)?
    })
}

/// How many workers a run has.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct JobsFlag {
    /// Workers at once [default: as the run was begun, then the plan's `jobs`, else the number of cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub jobs: Option<u32>,
}

impl JobsFlag {
    /// In place of the plan's.
    pub fn asked(self) -> Option<usize> {
        self.jobs.map(|jobs| jobs as usize)
    }
}

/// How long a run may go on.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DeadlineFlag {
    /// How long it may go on from now, like `90s` or `1h 30m` [default: as the run was begun, then the plan's `deadline`].
    #[arg(long, value_name = "DURATION", value_parser = duration_of)]
    pub deadline: Option<Duration>,
}

/// A duration as plans write them.
pub fn duration_of(text: &str) -> Result<Duration, String> {
    swarm_plans::duration(text).map_err(|(wrong, instead)| format!("{wrong}; {instead}"))
}

/// An amount of dollars.
pub fn dollars(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "it is no number of dollars, like 5 or 0.25".to_owned())
}

/// What a run may spend on models.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct BudgetFlags {
    /// Dollars that the run may spend on models [default: the plan's `[budget]`].
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub budget_usd: Option<f64>,
    /// Tokens that the run may spend on models, in and out [default: the plan's `[budget]`].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget_tokens: Option<u64>,
    /// How long models may take for the run, all calls together, like `90s` or `1h 30m` [default: the plan's `[budget]`].
    #[arg(long, value_name = "DURATION", value_parser = duration_of)]
    pub budget_time: Option<Duration>,
}

impl BudgetFlags {
    /// In place of the plan's.
    ///
    /// # Errors
    /// Nothing, or less, cannot be spent.
    pub fn asked(self) -> Result<BudgetAsked, Failure> {
        let usd = self.budget_usd.map(|usd| {
            let nano = NanoUsd::from_usd(usd).filter(|nano| nano.0 > 0);
            nano.ok_or_else(|| Failure::usage(format!("spend {usd} dollars"), "--budget-usd is above 0".to_owned()))
        });
        Ok(BudgetAsked { usd: usd.transpose()?, tokens: self.budget_tokens, time: self.budget_time })
    }
}

/// What a run without flags is asked for.
///
/// # Errors
/// The caller has no home folder.
pub fn plain_settings(it: &Surroundings) -> Result<Settings, Failure> {
    Ok(Settings {
        repository: it.folder.clone(),
        state_dir: it.state_dir.clone(),
        jobs: None,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        into: IntoBranch::Planned,
        fail_fast: FailFast::No,
        reuse: ReuseResults::Yes,
        repeats: 1,
        host_network: HostNetwork::Refused,
        allowed: Vec::new(),
        plan_models: PlanModels::Bounded,
        user: user_config::load(it)?,
        tape: TapeAt::Off,
        writing: None,
        budget: BudgetAsked::default(),
        deadline: None,
        host: host()?,
        resolver: Resolver::default(),
        clock: it.clock.clone(),
        worker: PathBuf::from(THIS_PROGRAM),
    })
}

/// Whether a program listens to the events on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonEvents {
    /// stdout is for the branch's name.
    Off,
    /// `--json`: one event a line.
    On,
}

impl JsonEvents {
    /// From the flag.
    pub fn of(json: bool) -> Self {
        if json { JsonEvents::On } else { JsonEvents::Off }
    }
}

/// Who reports a run: events as JSON on stdout when asked for, and talk on stderr, moving on a terminal, as lines
/// elsewhere.
pub fn reports(events: JsonEvents, it: &Surroundings) -> Reports {
    let mut reporters: Vec<Box<dyn Reporter + Send>> = vec![Box::new(Resident::default())];
    if events == JsonEvents::On {
        reporters.push(Box::new(Json::new(it.out.open())));
    }
    reporters.push(match it.err.reader {
        ReaderKind::Terminal => live(it),
        ReaderKind::Other => Box::new(Lines::new(it.err.open(), it.err.style).as_typed(as_typed(it))),
    });
    Reports::new(reporters)
}

/// The moving picture on the terminal behind stderr.
pub fn live(it: &Surroundings) -> Box<dyn Reporter + Send> {
    let terminal = it.err.clone();
    let live = Live::new(it.err.open(), it.err.style, move || {
        let (rows, columns) = terminal.size();
        Size { rows, columns }
    });
    Box::new(live.as_typed(as_typed(it)))
}

/// Commands in what is said while a run goes on, as in its summary.
fn as_typed(it: &Surroundings) -> AsTyped {
    let given = Arc::clone(&it.given);
    Box::new(move |text| given.complete(text).into_owned())
}

/// Says what came of a run: the summary on stderr; on stdout, for a program, the branch that received the work, unless JSON
/// goes there.
///
/// # Errors
/// It cannot be written, or a run without another fault left events unwritten. Where nobody reads any more the run ended as it did.
pub fn say_end(reports: &Reports, state_dir: &Path, events: JsonEvents, it: &Surroundings) -> Result<(), Failure> {
    let state = reports.state();
    let log_tail = |id: &_, attempt| {
        let path = state.run.as_ref().map(|run| log_path(state_dir, run, id, attempt));
        // A log that cannot be read leaves the summary without its words; `swarm logs` says why.
        path.and_then(|path| tail(&path, TAIL_LINES_MAX).ok()).unwrap_or_default()
    };
    it.err.write(&format!("\n{}", summary(state, &log_tail, it.checkout(), it.err.style)))?;
    let is_data = events == JsonEvents::Off && it.out.reader == ReaderKind::Other && state.tally.landed > 0;
    if let Some(branch) = state.branch().filter(|_| is_data) {
        Failure::unless_gone(it.out.write(&format!("{branch}\n")))?;
    }
    match (reports.unwritten(), &state.run) {
        (Some(error), Some(run)) => unwritten(error, &run.0, state.finished.as_ref().map_or(0, |end| end.exit), it),
        _ => Ok(()),
    }
}

/// A run whose events a program did not get is no success; one that ended otherwise keeps its own exit code.
fn unwritten(error: &std::io::Error, run: &str, exit: u8, it: &Surroundings) -> Result<(), Failure> {
    let hint = format!("the journal has all events: swarm report {} --format json", sanitize::shell_word(run));
    let failure = Failure::environment(format!("write all events: {error}"), hint);
    if exit == 0 {
        return Err(failure);
    }
    failure.report(&it.err);
    Ok(())
}

/// What would run, one object a task and line, in the plan's order.
fn dry_run_json(graph: &TaskGraph) -> String {
    let name = |need: Need| match need {
        Need::Task(task) => graph.plan().task(task).name.0.clone(),
        Need::Instance(instance) => graph.instance(instance).id.to_string(),
    };
    let line = |(at, task): (u32, &Task)| {
        let task_ix = TaskIx(at);
        let instances = graph.task_instances(task_ix).iter().map(|&ix| {
            let needs: Vec<String> = graph.needs_of(task_ix, Some(ix)).into_iter().map(name).collect();
            serde_json::json!({ "id": graph.instance(ix).id.to_string(), "needs": needs })
        });
        let needs: Vec<String> = graph.named_needs(task_ix).iter().map(|&need| name(Need::Task(need))).collect();
        let object = serde_json::json!({
            "version": EVENT_VERSION,
            "task": task.name.0,
            "needs": needs,
            "instances": instances.collect::<Vec<_>>(),
            "waits-for-items": graph.is_pending(task_ix),
        });
        format!("{object}\n")
    };
    (0..).zip(&graph.plan().tasks).map(line).collect()
}
