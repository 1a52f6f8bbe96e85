//! `swarm report [RUN]`: what was said at a run's end, or everything that happened.

use swarm_orchestrator::journal::{log_path, replay, tail};
use swarm_orchestrator::report::json;
use swarm_orchestrator::report::summary::{TAIL_LINES_MAX, summary};

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Prints a run's summary, or its events.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// The run's id, or a plan's name for its newest run [default: the newest run].
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// What is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The summary.
    Text,
    /// One versioned event a line, as `run --json` prints them.
    Json,
}

/// The report on stdout.
///
/// # Errors
/// There is no such run, or the journal cannot be read.
pub fn run(args: &Report, it: &Surroundings) -> Result<u8, Failure> {
    let folder = it.state()?;
    let journal = it.journal(&folder)?;
    let row = select::run(&journal, args.run.as_deref())?;
    let events = journal.events(&row.id, 0)?;
    let text = match args.format {
        Format::Json => events.iter().map(json::line).collect(),
        Format::Text => {
            // A log that cannot be read leaves the summary without its words; `swarm logs` says why.
            let log_tail =
                |id: &_, attempt| tail(&log_path(&folder, &row.id, id, attempt), TAIL_LINES_MAX).unwrap_or_default();
            summary(&replay(&events), &log_tail, it.out.style)
        }
    };
    it.out.write(&text)?;
    Ok(0)
}
