//! `swarm list`: all runs, newest first.

use swarm_orchestrator::journal::{Holder, RunLock, RunRow};
use swarm_orchestrator::report::words::{self, Tone};
use swarm_orchestrator::report::{exit_meaning, sanitize, status};

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Lists the runs of this repository, newest first.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Shows at most this many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// A line a run on stdout: id, state, when, counts, branch.
///
/// # Errors
/// There is no repository, or the journal cannot be read.
pub fn run(args: &List, it: &Surroundings) -> Result<u8, Failure> {
    let state = it.state()?;
    let runs = it.journal(&state)?.runs()?;
    if runs.is_empty() {
        it.err.write("no runs yet: swarm run PLAN makes one\n")?;
        return Ok(0);
    }
    let columns = runs.iter().take(args.limit).map(|row| row.id.0.len()).max().unwrap_or(0);
    let now_ms = it.clock.now_ms();
    for row in runs.iter().take(args.limit) {
        let holder = RunLock::holder_of_run(&state, &row.id)?;
        it.out.write(&line(row, holder, now_ms, columns, it))?;
    }
    if runs.len() > args.limit {
        it.err.write(&format!("… and {} more: swarm list -n {}\n", runs.len() - args.limit, runs.len()))?;
    }
    Ok(0)
}

fn line(row: &RunRow, holder: Option<Holder>, now_ms: u64, columns: usize, it: &Surroundings) -> String {
    let (mark, tone, what) = match (row.exit, holder) {
        (Some(0), _) => ("[+]", Tone::Good, exit_meaning(0).to_owned()),
        (Some(code), _) => ("[x]", Tone::Bad, exit_meaning(code).to_owned()),
        (None, Some(holder)) => ("[>]", Tone::Strong, format!("running in process {}", holder.pid)),
        (None, None) => ("[?]", Tone::Warn, "interrupted: its coordinator is gone".to_owned()),
    };
    let ago = match now_ms.saturating_sub(row.started_at_ms) / 1000 {
        0 => "now".to_owned(),
        s @ 1..60 => format!("{s}s ago"),
        s => format!("{} ago", words::duration(s * 1000)),
    };
    let branch = row.target.as_deref().map(|target| target.strip_prefix("refs/heads/").unwrap_or(target));
    let branch = branch.map(|branch| format!("  {}", sanitize::name(branch))).unwrap_or_default();
    format!(
        "{} {}  {ago:>11}  {what}: {}{branch}\n",
        it.out.style.paint(tone, mark),
        words::pad(&row.id.0, columns),
        status::tally(row.tally)
    )
}
