//! `swarm run PLAN`: reads the plan, runs it, and says what came of it.

use std::path::{Path, PathBuf};

use swarm_orchestrator::dispatcher::core::FailFast;
use swarm_orchestrator::journal::{RunState, log_path, tail};
use swarm_orchestrator::report::summary::{TAIL_LINES_MAX, summary};
use swarm_orchestrator::report::{Json, Lines, Live, Reporter, Reports, Size};
use swarm_orchestrator::run::{LoadedPlan, RunEnd};
use swarm_orchestrator::settings::{HostNetwork, Settings};

use crate::commands::failure::Failure;
use crate::commands::plan_file::PlanFile;
use crate::commands::surroundings::{ReaderKind, Surroundings, THIS_PROGRAM, host};

/// Threads that may wait for git and the file system at once, beside the one that decides.
const BLOCKING_THREADS_MAX: usize = 16;

/// Runs the tasks of a plan in caged worktrees and merges what they change into one branch.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub plan: PlanFile,
    /// Workers at once [default: the plan's `jobs`, else the number of cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub jobs: Option<u32>,
    /// The branch that receives the work [default: the plan's `into`, else swarm/NAME].
    #[arg(long, value_name = "BRANCH")]
    pub into: Option<String>,
    /// Starts nothing more after the first failure, and cancels what runs.
    #[arg(long)]
    pub fail_fast: bool,
    /// Prints one JSON event a line on stdout.
    #[arg(long)]
    pub json: bool,
    /// Only shows what would run.
    #[arg(long)]
    pub dry_run: bool,
    /// Lets plans use the host's network where they ask for it.
    #[arg(long)]
    pub allow_host_network: bool,
}

/// Exit codes as in the help of `swarm`.
///
/// # Errors
/// The plan has mistakes, or the run could not start or go on.
pub fn run(args: &Run, it: &Surroundings) -> Result<u8, Failure> {
    let (graph, sources) = args.plan.load(it)?;
    if args.dry_run {
        it.out.write(&graph.tree())?;
        return Ok(0);
    }
    it.err.write(&format!("{}\n", graph.tree()))?;
    let mut reports = reports(args, it);
    let ended = start(LoadedPlan { graph, sources }, settings(args, it)?, &mut reports)?;
    say_end(reports.state(), &it.state()?, args, it)?;
    Ok(ended.exit)
}

/// Runs on this thread, with a few more for what blocks.
///
/// # Errors
/// Those of the run, and a machine that gives no event loop.
pub fn start(loaded: LoadedPlan, settings: Settings, reports: &mut Reports) -> Result<RunEnd, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Failure::environment(format!("start an event loop: {error}"), None))?;
    Ok(runtime.block_on(swarm_orchestrator::run::run(loaded, settings, reports))?)
}

fn settings(args: &Run, it: &Surroundings) -> Result<Settings, Failure> {
    Ok(Settings {
        jobs: args.jobs.map(|jobs| jobs as usize),
        into: args.into.clone(),
        fail_fast: if args.fail_fast { FailFast::Yes } else { FailFast::No },
        host_network: if args.allow_host_network { HostNetwork::Allowed } else { HostNetwork::Refused },
        ..plain_settings(it)?
    })
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
        into: None,
        fail_fast: FailFast::No,
        host_network: HostNetwork::Refused,
        host: host()?,
        clock: it.clock.clone(),
        worker: PathBuf::from(THIS_PROGRAM),
    })
}

/// Who reports a run: events as JSON on stdout when asked for, and talk on stderr, moving on a terminal, as lines
/// elsewhere.
pub fn reports(args: &Run, it: &Surroundings) -> Reports {
    let mut reporters: Vec<Box<dyn Reporter + Send>> = Vec::new();
    if args.json {
        reporters.push(Box::new(Json::new(it.out.open())));
    }
    reporters.push(match it.err.reader {
        ReaderKind::Terminal => live(it),
        ReaderKind::Other => Box::new(Lines::new(it.err.open(), it.err.style)),
    });
    Reports::new(reporters)
}

/// The moving picture on the terminal behind stderr.
pub fn live(it: &Surroundings) -> Box<dyn Reporter + Send> {
    let terminal = it.err;
    Box::new(Live::new(it.err.open(), it.err.style, move || {
        let (rows, columns) = terminal.size();
        Size { rows, columns }
    }))
}

/// Says what came of a run: the summary on stderr; on stdout the branch that received the work, unless JSON goes there.
///
/// # Errors
/// Nobody reads it.
pub fn say_end(state: &RunState, state_dir: &Path, args: &Run, it: &Surroundings) -> Result<(), Failure> {
    let log_tail = |id: &_, attempt| {
        let path = state.run.as_ref().map(|run| log_path(state_dir, run, id, attempt));
        // A log that cannot be read leaves the summary without its words; `swarm logs` says why.
        path.and_then(|path| tail(&path, TAIL_LINES_MAX).ok()).unwrap_or_default()
    };
    it.err.write(&format!("\n{}", summary(state, &log_tail, it.err.style)))?;
    if let (Some(branch), false, true) = (state.branch(), args.json, state.tally.landed > 0) {
        it.out.write(&format!("{branch}\n"))?;
    }
    Ok(())
}
