//! `swarm drop [RUN] TASK`: results that did not land are given up.

use swarm_orchestrator::ids::branch_of;
use swarm_orchestrator::journal::{JournalReader, RunRow};
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::second_word::{DropError, DropOutcome, drop_results};
use swarm_orchestrator::state::StateDir;
use swarm_plans::InstanceId;

use crate::commands::failure::{Failure, state_hint};
use crate::commands::resolve::{Settlement, open_ones};
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Gives up results that did not land: nothing keeps them any more, and git removes them in time.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm drop [OPTIONS] [RUN] TASK\n       swarm drop --all [RUN]")]
pub struct Drop {
    /// The run (its id or its plan's name; the newest run when left out), then an instance, a task with all of its instances,
    /// or a pattern with `*`.
    #[arg(value_name = "WORD", required_unless_present = "all", num_args = 1..=2)]
    words: Vec<String>,
    /// All of the run that did not land.
    #[arg(long)]
    all: bool,
}

/// Says on stderr what is no longer kept, with the commits that bring it back as long as git has them.
///
/// # Errors
/// There is no such run or task, it landed, or the run has not ended.
pub fn run(args: &Drop, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    let state_dir = it.state_of(&repository);
    let (row, ids) = chosen(args, &it.journal(&state_dir)?)?;
    it.expect_own(&repository, &row)?;
    let state = StateDir::open(&state_dir).map_err(|error| {
        Failure::environment(format!("use {}: {error}", state_dir.display()), state_hint(&state_dir))
    })?;
    let dropped = drop_results(&repository, &state, (&row.id, &ids), it.clock.now_ms());
    let dropped = dropped.map_err(|error| match error {
        DropError::Unfinished(ref run) => {
            let hint = format!("all of it is kept; swarm resume {run} brings the run to its end, then: swarm drop");
            Failure::usage(&error, hint)
        }
        DropError::Held(held) => held.into(),
        DropError::Journal(error) => error.into(),
        DropError::Repository(error) => error.into(),
    })?;
    if let [(id, outcome @ (DropOutcome::Landed { .. } | DropOutcome::Awaited))] = dropped.each.as_slice() {
        return Err(not_dropped(&repository, &row, id, outcome));
    }
    let mut taken = 0;
    for (id, outcome) in &dropped.each {
        taken += usize::from(matches!(outcome, DropOutcome::Dropped { refs } if !refs.is_empty()));
        it.err.write(&line(args, &row, id, outcome))?;
    }
    if dropped.each.len() > 1 {
        let (taken, all) = (words::count(taken as u64, "result"), dropped.each.len());
        it.err.write(&format!("{taken} of {all} tasks of {} dropped\n", row.id))?;
    }
    it.err.write(&open_ones(&repository, &row.id, &ids, Settlement::Dropped))?;
    Ok(0)
}

/// The run and those of it that are meant.
fn chosen(args: &Drop, journal: &JournalReader) -> Result<(RunRow, Vec<InstanceId>), Failure> {
    if !args.all {
        let (row, _, ids) = select::instances(journal, &args.words)?;
        return Ok((row, ids));
    }
    if let [_, task] = args.words.as_slice() {
        let message = format!("drop {} and all: one of them is enough", sanitize::name(task));
        return Err(Failure::usage(message, "swarm drop --all RUN, or swarm drop RUN TASK".to_owned()));
    }
    let row = select::run_of_plan(journal, args.words.first().map(String::as_str))?;
    let state = journal.state(&row.id)?;
    Ok((row, state.instances.into_keys().collect()))
}

fn line(args: &Drop, row: &RunRow, id: &InstanceId, outcome: &DropOutcome) -> String {
    let name = sanitize::name(&id.0);
    match outcome {
        DropOutcome::Dropped { refs } if refs.is_empty() && args.all => String::new(),
        DropOutcome::Dropped { refs } if refs.is_empty() => format!("nothing of {name} is kept in {}\n", row.id),
        DropOutcome::Dropped { refs } => {
            let told = refs.iter().map(|(reference, commit)| {
                format!("dropped {reference}; until git removes it: git branch NAME {}\n", words::short(commit))
            });
            told.collect()
        }
        DropOutcome::Landed { .. } if args.all => String::new(),
        DropOutcome::Landed { commit } => format!("{name} stays: it landed as {}\n", words::short(commit)),
        DropOutcome::Awaited => {
            format!("{name} stays: it waits to be merged when the run goes on: swarm resume {}\n", row.id)
        }
    }
}

/// Why the only one that was asked for stays.
fn not_dropped(repository: &Repository, row: &RunRow, id: &InstanceId, outcome: &DropOutcome) -> Failure {
    let name = sanitize::name(&id.0);
    match outcome {
        DropOutcome::Landed { commit } => {
            let hint = revert(repository, commit, row.target.as_deref());
            Failure::usage(format!("drop {name}: it landed as {commit}"), hint)
        }
        DropOutcome::Awaited | DropOutcome::Dropped { .. } => {
            let message = format!("drop {name}: its run was interrupted, and it waits to be merged when that goes on");
            let hint =
                format!("swarm resume {run}, then: swarm drop {run} {}", sanitize::shell_word(&id.0), run = row.id);
            Failure::usage(message, hint)
        }
    }
}

/// How a commit that landed is undone: where the checkout has it, or on the branch that it landed on.
fn revert(repository: &Repository, commit: &str, target: Option<&str>) -> String {
    let commit = words::short(commit);
    let in_checkout = repository.head_holds(commit).unwrap_or(false);
    match target.map(branch_of).filter(|_| !in_checkout) {
        Some(branch) => {
            let branch = sanitize::shell_word(branch);
            format!(
                "it is on {branch} only: git switch {branch} && git revert {commit}; or all of it: git branch -D {branch}"
            )
        }
        None => format!("git revert {commit}"),
    }
}
