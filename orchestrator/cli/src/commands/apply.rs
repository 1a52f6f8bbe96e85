//! `swarm apply [RUN]`: a run's branch into the checkout.

use std::io::ErrorKind;
use swarm_orchestrator::apply::{Applied, Merging, Scopes, TakenBack, apply, put_in_order};
use swarm_orchestrator::ids::branch_of;
use swarm_orchestrator::journal::{JournalReader, RunLock, RunRow, RunState};
use swarm_orchestrator::report::exit::{self, exit_meaning, is_resumable};
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::target::{holds_announced, lost_from_both};

use crate::commands::failure::{Failure, not_applied, shell_path};
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Merges a run's branch into the checkout, or refuses; never overwrites a local edit.
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// The run's id, or a plan's name for its newest run [default: the newest run of a plan].
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

/// Moves the checkout; says on stderr how.
///
/// # Errors
/// There is nothing to apply, or something is in the way; then nothing has changed.
pub fn run(args: &Apply, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    // First of all: whatever is wrong with what is asked for now, the checkout does not stay half written.
    let put = put_in_order(&repository, it.clock.now_ms()).map_err(|error| not_applied(error, "BRANCH"))?;
    if put == TakenBack::Something {
        it.err.write("note: took back what a `swarm apply` that died had written here\n")?;
    }
    let journal = it.journal(&it.state_of(&repository))?;
    let row = select::run_of_plan(&journal, args.run.as_deref())?;
    it.expect_own(&repository, &row)?;
    let Some(target) = &row.target else {
        let hint = "a plan with `mode = \"none\"` changes nothing".to_owned();
        return Err(Failure::usage(format!("apply {}: it has no branch", row.id), hint));
    };
    let branch = branch_of(target);
    let state = journal.state(&row.id)?;
    has_what_landed(&repository, &state, &row)?;
    let has_landed = row.tally.landed > 0 || holds_announced(&repository, &state)?;
    let tip = repository.find_ref(target)?.filter(|_| has_landed);
    let Some(tip) = tip else { return Err(nothing_landed(&journal, &row, target)?) };
    let date_s = it.clock.commit_date_s(it.clock.now_ms());
    let scopes = Scopes::on(&journal, target)?;
    let merging = Merging { target: tip, name: branch, scopes: &scopes };
    let applied = apply(&repository, merging, &repository.identity()?, date_s);
    let applied = applied.map_err(|error| not_applied(error, branch))?;
    let branch = sanitize::name(branch);
    it.err.write(&match applied {
        Applied::UpToDate => format!("the checkout has all of {branch} already\n"),
        Applied::FastForward { to } => {
            format!("the checkout moved forward to {branch} at {}\n", words::short(&to.to_string()))
        }
        Applied::Merged { commit } => format!("merged {branch} as {}\n", words::short(&commit.to_string())),
    })?;
    it.err.write(&gone_from_here(&repository))?;
    it.err.write(&incomplete(&row, RunLock::holder_of_run(&it.state_of(&repository), &row.id)?.is_some()))?;
    Ok(0)
}

/// That a run has brought nothing to its branch: what is there is somebody else's.
fn nothing_landed(journal: &JournalReader, row: &RunRow, target: &str) -> Result<Failure, Failure> {
    let message = format!("apply {}: nothing of it has landed on {}", row.id, sanitize::name(branch_of(target)));
    let landed_there = |other: &&RunRow| other.target.as_deref() == Some(target) && other.tally.landed > 0;
    let runs = journal.runs()?;
    let other =
        runs.iter().find(landed_there).map(|other| format!("; what is on that branch: swarm apply {}", other.id));
    let hint = format!("swarm status {} shows what became of it{}", row.id, other.unwrap_or_default());
    Ok(Failure::usage(message, hint))
}

/// Refuses a branch that has lost what the run has landed on it, unless the checkout has that already.
fn has_what_landed(repository: &Repository, state: &RunState, row: &RunRow) -> Result<(), Failure> {
    let Some(lost) = lost_from_both(repository, state)? else { return Ok(()) };
    let hint = lost.way_back().map(|commands| format!("{commands} puts it back, then: swarm apply {}", row.id));
    Err(Failure::environment(format!("apply: {lost}"), hint))
}

/// Says how a person goes on whose current folder went away with what was applied.
fn gone_from_here(repository: &Repository) -> String {
    match (std::env::current_dir(), repository.workdir()) {
        (Err(error), Some(checkout)) if error.kind() == ErrorKind::NotFound => {
            format!("note: the folder that you are in is gone with it: cd {}\n", shell_path(checkout))
        }
        _ => String::new(),
    }
}

/// Says of a run that has not brought all of its work to the branch what is missing.
fn incomplete(row: &RunRow, is_worked_on: bool) -> String {
    let run = &row.id;
    match row.exit {
        None if is_worked_on => {
            format!("note: {run} is still at work; `swarm apply {run}` again brings what it lands from here on\n")
        }
        exit if is_resumable(exit) => {
            format!("note: {run} is incomplete: `swarm resume {run}` goes on with it, then apply again\n")
        }
        Some(exit::ALL_LANDED) | None => String::new(),
        Some(code) => {
            format!("note: {run} is incomplete: {}; `swarm status {run}` shows what is missing\n", exit_meaning(code))
        }
    }
}
