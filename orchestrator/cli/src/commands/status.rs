//! `swarm status [RUN]`: where each instance of a run stands.

use swarm_orchestrator::journal::RunLock;
use swarm_orchestrator::open::files;
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::report::status::{Liveness, status, status_json};

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::served::left_behind;
use crate::commands::surroundings::Surroundings;

/// Shows where each task of a run stands.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The run's id, or a plan's name for its newest run [default: the newest run].
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// A table on stdout.
///
/// # Errors
/// There is no such run, or the journal cannot be read.
pub fn run(args: &Status, it: &Surroundings) -> Result<u8, Failure> {
    let folder = it.state()?;
    let journal = it.journal(&folder)?;
    let row = select::run(&journal, args.run.as_deref())?;
    // Asked before the events are read: a run that ends in between reads as running, never as dead.
    let holder = RunLock::holder_of_run(&folder, &row.id)?;
    let state = journal.state(&row.id)?;
    let liveness = Liveness::new(state.finished.as_ref(), holder);
    if args.json {
        let mut told = status_json(&state, &liveness);
        for (told, (id, instance)) in told["instances"].as_array_mut().into_iter().flatten().zip(&state.instances) {
            told["artifacts"] = files::handed_over(&folder, &row.id, (id, instance))
                .map_or(serde_json::Value::Null, |folder| folder.to_string_lossy().into());
        }
        it.out.write(&format!("{}\n", sanitize::json(&told.to_string())))?;
        return Ok(0);
    }
    let mut text = status(&state, &liveness, it.clock.now_ms(), it.out.style);
    if let (Liveness::Finished, Ok(repository)) = (&liveness, it.repository()) {
        text.push_str(&left_behind(&repository, &row.id, &state));
    }
    it.out.write(&it.given.complete(&text))?;
    Ok(0)
}
