//! `swarm resume [RUN]`: goes on with a run whose coordinator died or was ended early, as its journal says.

use swarm_orchestrator::report::{is_resumable, meaning};
use swarm_orchestrator::resume::{SecondTry, retry};
use swarm_orchestrator::second_word::worth_another_try;
use swarm_orchestrator::settings::Settings;

use crate::commands::failure::Failure;
use crate::commands::plan;
use crate::commands::retry::changed_plan;
use crate::commands::run::{
    BudgetFlags, DeadlineFlag, JobsFlag, JsonEvents, on_event_loop, plain_settings, reports, say_end,
};
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Goes on with a run that was interrupted; what has a result is not run again.
///
/// The plan is the one that the run began with.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The run's id, or a plan's name for its newest run [default: the newest run of a plan].
    #[arg(value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    jobs: JobsFlag,
    #[command(flatten)]
    budget: BudgetFlags,
    #[command(flatten)]
    deadline: DeadlineFlag,
    /// Prints one JSON event a line on stdout.
    #[arg(long)]
    json: bool,
}

/// Exit codes as in the help of `swarm`; those of the whole run.
///
/// # Errors
/// There is no such run, or it cannot go on.
pub fn run(args: &Resume, it: &Surroundings) -> Result<u8, Failure> {
    let state_dir = it.state()?;
    let journal = it.journal(&state_dir)?;
    let row = select::run_of_plan(&journal, args.run.as_deref())?;
    it.expect_own(&it.repository()?, &row)?;
    let writing = journal.asked(&row.id)?.and_then(|asked| asked.writing);
    if let (Some(writing), Some(0)) = (&writing, row.exit) {
        return plan::go_on(&row.id, writing, it);
    }
    if let (Some(exit), false) = (row.exit, is_resumable(row.exit)) {
        it.err.write(&format!(
            "{} has ended: {}; there is nothing left to do\n",
            row.id,
            meaning(row.tally, row.target.is_some(), exit)
        ))?;
        if !worth_another_try(&journal.state(&row.id)?, None).is_empty() {
            it.err.write(&format!("hint: swarm retry {} gives what failed or is parked another try\n", row.id))?;
        }
        return Ok(exit);
    }
    it.err.write(&changed_plan(&journal, &row.id, it)?)?;
    let settings = Settings {
        jobs: args.jobs.asked(),
        budget: args.budget.asked()?,
        deadline: args.deadline.deadline,
        ..plain_settings(it)?
    };
    let events = JsonEvents::of(args.json);
    let mut reports = reports(events, it);
    let ended = on_event_loop(retry(&row.id, SecondTry::default(), settings, &mut reports))?;
    say_end(reports.state(), &state_dir, events, it)?;
    // A program that reads events finds the plan in them.
    match writing.filter(|writing| ended.exit == 0 && (writing.file.is_some() || !args.json)) {
        Some(writing) => plan::go_on(&row.id, &writing, it),
        None => Ok(ended.exit),
    }
}
