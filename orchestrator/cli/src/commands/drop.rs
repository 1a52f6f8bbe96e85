//! `swarm drop [RUN] TASK`: results that did not land are given up.

use swarm_orchestrator::event::GivenUp;
use swarm_orchestrator::ids::branch_of;
use swarm_orchestrator::journal::{JournalReader, RunRow};
use swarm_orchestrator::report::{added_nothing, is_resumable, sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::second_word::{DropError, DropOutcome, Dropped, drop_results, keeps_others};
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
        if matches!(outcome, DropOutcome::Landed { .. }) && added_nothing(&it.journal(&state_dir)?.state(&row.id)?, id)
        {
            let message = format!("drop {}: it added nothing, the branch had it", sanitize::name(&id.0));
            return Err(Failure::usage(message, format!("swarm status {} shows whose commit has it", row.id)));
        }
        return Err(not_dropped(&repository, &row, id, outcome));
    }
    let mut taken = 0;
    for (id, outcome) in &dropped.each {
        let is_news = |refs: &[_], was: Option<GivenUp>| !refs.is_empty() || was.is_some();
        taken += usize::from(matches!(outcome, DropOutcome::Dropped { refs, was } if is_news(refs, *was)));
        it.err.write(&line(args, &row, id, outcome))?;
    }
    if dropped.each.len() > 1 {
        let (taken, all) = (words::count(taken as u64, "result"), dropped.each.len());
        it.err.write(&format!("{taken} of {all} tasks of {} dropped\n", row.id))?;
    }
    it.err.write(&open_ones(&repository, &row.id, &ids, Settlement::Dropped))?;
    it.err.write(&what_now(&it.journal(&state_dir)?, &row, &dropped)?)?;
    Ok(0)
}

/// What becomes of what failed and was given up, and of what waited for it.
fn what_now(journal: &JournalReader, row: &RunRow, dropped: &Dropped) -> Result<String, Failure> {
    let run = &row.id;
    let failed = |outcome: &DropOutcome| matches!(outcome, DropOutcome::Dropped { was: Some(GivenUp::Failed), .. });
    let mut failed = dropped.each.iter().filter(|(_, outcome)| failed(outcome)).map(|(id, _)| id);
    let mut text = match (failed.next(), failed.next()) {
        (None, _) => String::new(),
        (Some(only), None) => {
            let word = sanitize::shell_word(&only.0);
            format!("it stays failed, and is tried again by its name only: swarm retry {run} {word}\n")
        }
        (Some(_), Some(_)) => {
            format!("what failed stays failed, and is tried again by its name only: swarm retry {run} TASK\n")
        }
    };
    let state = journal.state(run)?;
    let is_open = is_resumable(Some(dropped.exit)) && state.finished.as_ref().is_some_and(|end| end.cause.is_some());
    if is_open && !text.is_empty() {
        text.push_str(&format!("what is left goes on without it: swarm resume {run}\n"));
    } else if keeps_others(&state).is_some_and(|keeping| keeping.is_empty()) {
        text.push_str(&format!("what waited to land with it lands without it: swarm retry {run}\n"));
    }
    Ok(text)
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
        DropOutcome::Dropped { refs, was: Some(_) } if refs.is_empty() => {
            format!("dropped {name}: no ref kept anything of it\n")
        }
        DropOutcome::Dropped { refs, .. } if refs.is_empty() && args.all => String::new(),
        DropOutcome::Dropped { refs, .. } if refs.is_empty() => format!("nothing of {name} is kept in {}\n", row.id),
        DropOutcome::Dropped { refs, .. } => {
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
        Some(branch) if !repository.find_ref(&format!("refs/heads/{branch}")).is_ok_and(|tip| tip.is_some()) => {
            format!(
                "{branch} is gone, and others have it: git branch --all --contains {commit}, and there: git revert {commit}"
            )
        }
        Some(branch) => {
            let branch = sanitize::shell_word(branch);
            format!(
                "it is on {branch} only: git switch {branch} && git revert {commit}; or all of it: git branch -D {branch}"
            )
        }
        None => format!("git revert {commit}"),
    }
}
