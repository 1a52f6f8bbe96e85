//! `swarm resume [RUN]`: goes on with a run whose coordinator died or was ended early, as its journal says.

use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::JournalReader;
use swarm_orchestrator::report::{is_resumable, meaning};
use swarm_orchestrator::resume::{Wanted, retry};
use swarm_orchestrator::second_word::worth_another_try;
use swarm_orchestrator::settings::Settings;
use swarm_orchestrator::starved::Starved;
use swarm_plans::InstanceId;

use crate::commands::failure::Failure;
use crate::commands::plan;
use crate::commands::retry::{changed_plan, left_out};
use crate::commands::run::{
    BudgetFlags, DeadlineFlag, JobsFlag, JsonEvents, on_event_loop, plain_settings, reports, say_end,
};
use crate::commands::select;
use crate::commands::served::remove_served;
use crate::commands::surroundings::Surroundings;
use crate::commands::written::Written;

/// Goes on with a run that was interrupted; what has a result is not run again, but for what failed because the run's whole
/// budget was too small for one call of a model, where a larger one is given.
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
    let budget = args.budget.asked()?;
    let wants_it = row.exit.is_some() && (budget.is_any() || !is_resumable(row.exit));
    let starved = if wants_it { starved(&journal, &row.id)? } else { vec![] };
    let fed = if budget.is_any() { starved.clone() } else { vec![] };
    remove_served(&it.repository()?, (&state_dir, &journal), &row.id, it)?;
    if let (Some(exit), false) = (row.exit, is_resumable(row.exit) || !fed.is_empty()) {
        it.err.write(&format!(
            "{} has ended: {}; there is nothing left to do\n",
            row.id,
            meaning(row.tally, row.target.is_some(), exit)
        ))?;
        let state = journal.state(&row.id)?;
        it.err.write(&left_out(&row.id, &state))?;
        if !worth_another_try(&state, None).is_empty() {
            it.err.write(&format!("hint: swarm retry {} gives what failed or is parked another try\n", row.id))?;
        }
        if !starved.is_empty() {
            it.err.write(&format!(
                "hint: swarm resume {} --budget-tokens N (or --budget-usd N) with a larger budget goes on\n",
                row.id
            ))?;
        }
        return Ok(exit);
    }
    // Most runs need not be read for that.
    if row.tally.dropped > 0 {
        it.err.write(&left_out(&row.id, &journal.state(&row.id)?))?;
    }
    it.err.write(&changed_plan(&journal, &row.id, it)?)?;
    let again = Wanted { instances: fed, ..Wanted::default() };
    let settings =
        Settings { jobs: args.jobs.asked(), budget, deadline: args.deadline.deadline, ..plain_settings(it)? };
    let events = JsonEvents::of(args.json);
    let mut reports = reports(events, it);
    let written = Written::of_run(&journal, &row, it)?;
    let ended = on_event_loop(retry(&row.id, again, settings, &mut reports));
    let left = written.settle(it)?;
    let ended = ended?;
    // What was settled by hand before the coordinator died is taken by now.
    remove_served(&it.repository()?, (&state_dir, &journal), &row.id, it)?;
    say_end(&reports, &state_dir, events, it)?;
    // A program that reads events finds the plan in them.
    let exit = left.exit(ended.exit);
    match writing.filter(|writing| exit == 0 && (writing.file.is_some() || !args.json)) {
        Some(writing) => plan::go_on(&row.id, &writing, it),
        None => Ok(exit),
    }
}

/// What failed in a run because its whole budget was less than one call of a model may take, in graph order.
fn starved(journal: &JournalReader, run: &RunId) -> Result<Vec<InstanceId>, Failure> {
    let mut starved = Starved::default();
    journal.tell(run, 0, |recorded| starved.hear(&recorded.event))?;
    let failed = worth_another_try(&journal.state(run)?, None);
    Ok(failed.into_iter().filter(|id| starved.holds(id)).collect())
}
