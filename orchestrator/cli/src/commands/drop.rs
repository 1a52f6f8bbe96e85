//! `swarm drop [RUN] TASK`: a result that did not land is given up.

use swarm_orchestrator::ids::branch_of;
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::second_word::{DropError, drop_result};
use swarm_orchestrator::state::StateDir;

use crate::commands::failure::{Failure, state_hint};
use crate::commands::resolve::{Settlement, open_ones};
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Gives up a result that did not land: nothing keeps it any more, and git removes it in time.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm drop [OPTIONS] [RUN] TASK")]
pub struct Drop {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "WORD", required = true, num_args = 1..=2)]
    words: Vec<String>,
}

/// Says on stderr what is no longer kept, with the commit that brings it back as long as git has it.
///
/// # Errors
/// There is no such run or task, it landed, or the run has not ended.
pub fn run(args: &Drop, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    let state_dir = it.state_of(&repository);
    let (row, _, id) = select::instance(&it.journal(&state_dir)?, &args.words)?;
    it.expect_own(&repository, &row)?;
    let name = sanitize::name(&id.0);
    let state = StateDir::open(&state_dir).map_err(|error| {
        Failure::environment(format!("use {}: {error}", state_dir.display()), state_hint(&state_dir))
    })?;
    let dropped = drop_result(&repository, &state, (&row.id, &id), it.clock.now_ms());
    let dropped = dropped.map_err(|error| match error {
        DropError::Unfinished(ref run) => {
            let hint = format!("swarm resume {run} goes on with it, swarm cancel {run} ends it");
            Failure::usage(&error, hint)
        }
        DropError::Landed { ref commit, .. } => {
            let hint = revert(&repository, commit, row.target.as_deref());
            Failure::usage(&error, hint)
        }
        DropError::Held(held) => held.into(),
        DropError::Journal(error) => error.into(),
        DropError::Repository(error) => error.into(),
    })?;
    if dropped.refs.is_empty() {
        it.err.write(&format!("nothing of {name} is kept in {}\n", row.id))?;
    }
    for (reference, commit) in dropped.refs {
        let commit = words::short(&commit);
        it.err.write(&format!("dropped {reference}; until git removes it: git branch NAME {commit}\n"))?;
    }
    it.err.write(&open_ones(&repository, &row.id, [&id], Settlement::Dropped))?;
    Ok(0)
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
