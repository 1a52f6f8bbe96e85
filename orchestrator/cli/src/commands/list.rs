//! `swarm list`: all runs, newest first.

use swarm_orchestrator::clean::disk_bytes;
use swarm_orchestrator::event::EVENT_VERSION;
use swarm_orchestrator::ids::branch_of;
use swarm_orchestrator::journal::lock::run_dir;
use swarm_orchestrator::journal::{DamagedRow, Finished, Holder, JournalReader, RunLock, RunRow, Tally};
use swarm_orchestrator::ownership::other_repository;
use swarm_orchestrator::report::exit::{self, told_of};
use swarm_orchestrator::report::words::{self, Tone};
use swarm_orchestrator::report::{meaning, sanitize, status};
use swarm_orchestrator::repository::Repository;

use crate::commands::clean::bytes_text;
use crate::commands::exec::PLAN as EXEC_PLAN;
use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Lists the runs of this repository, newest first.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Shows at most this many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Prints one JSON object a run, a line each.
    #[arg(long)]
    json: bool,
}

/// A line a run on stdout: id, state, when, counts, disk, branch.
///
/// # Errors
/// There is no repository, or the journal cannot be read.
pub fn run(args: &List, it: &Surroundings) -> Result<u8, Failure> {
    let state = it.state()?;
    // With a state folder of its own it may be asked for outside of any repository.
    let repository = Repository::discover(&it.folder).ok();
    let journal = it.journal(&state)?;
    let runs = journal.entries()?;
    if runs.is_empty() {
        match select::forgotten_runs(&journal) {
            Some(unknown) => return Err(unknown),
            None => it.err.write("no runs yet: swarm run PLAN makes one\n")?,
        }
        return Ok(0);
    }
    let shown = || runs.iter().take(args.limit);
    let columns = shown().flatten().map(|row| row.id.0.len()).max().unwrap_or(0);
    let now_ms = it.clock.now_ms();
    for entry in shown() {
        let row = match entry {
            Ok(row) => row,
            Err(damaged) if args.json => {
                it.out.write(&format!("{}\n", sanitize::json(&damaged_json(damaged).to_string())))?;
                continue;
            }
            Err(damaged) => {
                it.out.write(&damaged_line(damaged, columns, it))?;
                continue;
            }
        };
        let holder = RunLock::holder_of_run(&state, &row.id)?;
        let bytes = disk_bytes(&run_dir(&state, &row.id));
        match args.json {
            true => it.out.write(&format!("{}\n", sanitize::json(&row_json(row, holder, bytes).to_string())))?,
            false => {
                let other =
                    repository.as_ref().map(|repository| other_repository(row, repository, &state)).transpose()?;
                let whose = other.map_or(row.repository.as_deref(), |other| other);
                // An end that is nobody's doing says more than its code.
                let is_odd = row.exit.is_some_and(|code| code == exit::ENVIRONMENT);
                let end = if is_odd { journal.ending(&row.id)? } else { None };
                let branch = branch_state(row, repository.as_ref(), &journal)?;
                it.out.write(&line(row, (whose, end, branch), holder, now_ms, (columns, bytes), it))?;
            }
        }
    }
    if runs.len() > args.limit {
        it.err.write(&format!("… and {} more: swarm list -n {}\n", runs.len() - args.limit, runs.len()))?;
    }
    if !args.json {
        let of = |name: &str| bytes_text(disk_bytes(&state.join(name)));
        let (shared, results) =
            (bytes_text(["bases", "layers"].map(|name| disk_bytes(&state.join(name))).iter().sum()), of("results"));
        it.err.write(&format!("prepared bases {shared}, recorded results {results}: swarm clean gives disk back\n"))?;
    }
    Ok(0)
}

/// What became of the branch that received a run's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// It is there, or went by a person's hand.
    There,
    /// `swarm exec` took it away when it had shown what the command changed.
    ThrownAway,
}

/// A later command may have a branch of the same name, so its commit is what counts.
fn branch_state(row: &RunRow, repository: Option<&Repository>, journal: &JournalReader) -> Result<Branch, Failure> {
    let (Some(repository), Some(target)) = (repository.filter(|_| row.plan == EXEC_PLAN), &row.target) else {
        return Ok(Branch::There);
    };
    let tip = journal.ending(&row.id)?.and_then(|end| end.tip);
    let now = repository.find_ref(target)?.map(|tip| tip.to_string());
    Ok(if row.exit.is_some() && (now.is_none() || now != tip) { Branch::ThrownAway } else { Branch::There })
}

fn row_json(row: &RunRow, holder: Option<Holder>, disk_bytes: u64) -> serde_json::Value {
    serde_json::json!({
        "version": EVENT_VERSION,
        "run": row.id.0,
        "plan": row.plan,
        "state": match (row.exit, holder) {
            (Some(_), _) => "finished",
            (None, Some(_)) => "running",
            (None, None) => "interrupted",
        },
        "exit": row.exit,
        "repository": row.repository,
        "base": row.base,
        "target": row.target,
        "started-at-ms": row.started_at_ms,
        "finished-at-ms": row.finished_at_ms,
        "disk-bytes": disk_bytes,
        "tally": row.tally,
    })
}

fn damaged_json(damaged: &DamagedRow) -> serde_json::Value {
    serde_json::json!({ "version": EVENT_VERSION, "run": damaged.run.0, "state": "damaged" })
}

fn damaged_line(damaged: &DamagedRow, columns: usize, it: &Surroundings) -> String {
    let (mark, name) = (it.out.style.paint(Tone::Bad, "[x]"), sanitize::name(&damaged.run.0));
    let status = sanitize::shell_word(&damaged.run.0);
    format!("{mark} {}  what the journal says of it is damaged: swarm status {status}\n", words::pad(&name, columns))
}

fn line(
    row: &RunRow,
    (whose, end, branch): (Option<&str>, Option<Finished>, Branch),
    holder: Option<Holder>,
    now_ms: u64,
    (columns, bytes): (usize, u64),
    it: &Surroundings,
) -> String {
    let landed = if branch == Branch::ThrownAway { 0 } else { row.tally.landed };
    let tally = Tally { landed, ..row.tally };
    let (mark, tone, what) = match (row.exit, holder) {
        (Some(code), _) => {
            let (mark, tone) = if code == 0 { ("[+]", Tone::Good) } else { ("[x]", Tone::Bad) };
            let train = row.target.is_some() && branch == Branch::There;
            let what = end.map_or_else(|| meaning(tally, train, code), |end| told_of(tally, train, &end));
            let shown =
                if branch == Branch::ThrownAway && row.tally.landed > 0 { ", its change was shown" } else { "" };
            (mark, tone, format!("{what}{shown}"))
        }
        (None, Some(holder)) => ("[>]", Tone::Strong, format!("running in process {}", holder.pid)),
        (None, None) => ("[?]", Tone::Warn, "interrupted, can be resumed".to_owned()),
    };
    let ago = match now_ms.saturating_sub(row.started_at_ms) / 1000 {
        0 => "now".to_owned(),
        s @ 1..60 => format!("{s}s ago"),
        s => format!("{} ago", words::duration(s * 1000)),
    };
    let branch = row.target.as_deref().filter(|_| branch == Branch::There).map(branch_of);
    let branch = branch.map(|branch| format!("  {}", sanitize::name(branch))).unwrap_or_default();
    let whose = whose.map(|whose| format!("  of {}", sanitize::name(whose))).unwrap_or_default();
    format!(
        "{} {}  {ago:>11}  {:>9}  {what}: {}{branch}{whose}\n",
        it.out.style.paint(tone, mark),
        words::pad(&row.id.0, columns),
        bytes_text(bytes),
        status::tally(tally)
    )
}
