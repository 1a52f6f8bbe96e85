//! `swarm cancel RUN`: asks the coordinator of a run to end it, and waits until it has.

use std::time::Duration;

use swarm_orchestrator::cancel::{Coordinator, Urgency};

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// How long one wait takes; between two of them it is said that it goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends a run from another terminal; `swarm resume` can go on with it.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// The run's id, or a plan's name for its newest run.
    #[arg(value_name = "RUN")]
    run: String,
    /// Kills what runs at once, instead of giving it time to end.
    #[arg(long)]
    now: bool,
}

/// Returns when the coordinator has ended.
///
/// # Errors
/// There is no such run, or its coordinator cannot be reached.
pub fn run(args: &Cancel, it: &Surroundings) -> Result<u8, Failure> {
    let state = it.state()?;
    let journal = it.journal(&state)?;
    let row = select::run(&journal, Some(&args.run))?;
    let Some(coordinator) = Coordinator::of_run(&state, &row.id)? else {
        it.err.write(&format!("nobody works on {}\n", row.id))?;
        return Ok(0);
    };
    coordinator.ask_to_end(if args.now { Urgency::AtOnce } else { Urgency::Orderly })?;
    while !coordinator.ends_within(PATIENCE) {
        it.err.write(&format!("waiting for process {} to end what runs\n", coordinator.pid()))?;
    }
    it.err.write(&format!("{} has ended; `swarm resume {}` goes on\n", row.id, row.id))?;
    Ok(0)
}
