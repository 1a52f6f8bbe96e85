//! `swarm report [RUN]`: what was said at a run's end, or everything that happened.

use swarm_orchestrator::journal::{log_path, tail};
use swarm_orchestrator::report::summary::{TAIL_LINES_MAX, facts, summary};
use swarm_orchestrator::report::{json, pages};

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
    /// JUnit's XML, for a CI server.
    Junit,
    /// Markdown, for a pull request.
    Md,
    /// One page that fetches nothing.
    Html,
}

/// The report on stdout.
///
/// # Errors
/// There is no such run, or the journal cannot be read.
pub fn run(args: &Report, it: &Surroundings) -> Result<u8, Failure> {
    let folder = it.state()?;
    let journal = it.journal(&folder)?;
    let row = select::run(&journal, args.run.as_deref())?;
    let state = || journal.state(&row.id);
    // A log that cannot be read leaves the report without its words; `swarm logs` says why.
    let log_tail = |id: &_, attempt| tail(&log_path(&folder, &row.id, id, attempt), TAIL_LINES_MAX).unwrap_or_default();
    let text = match args.format {
        Format::Json => {
            let mut lines = String::new();
            journal.tell(&row.id, 0, |recorded| lines.push_str(&json::line(&recorded)))?;
            lines
        }
        Format::Text => {
            let state = state()?;
            let text =
                format!("{}\n{}", summary(&state, &log_tail, it.checkout(), it.out.style), facts(&state, it.out.style));
            it.given.complete(&text).into_owned()
        }
        Format::Junit => pages::junit(&state()?, &log_tail),
        Format::Md => pages::markdown(&state()?),
        Format::Html => pages::html(&state()?, &log_tail),
    };
    it.out.write(&text)?;
    Ok(0)
}
