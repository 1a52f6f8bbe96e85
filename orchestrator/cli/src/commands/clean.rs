//! `swarm clean`: gives back the disk of finished runs, and says what it keeps.

use swarm_orchestrator::clean::{CleanError, Mode, Prepared, RunOutcome, clean_prepared, clean_runs};
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::Journal;
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::state::StateDir;

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Gives back the disk of finished runs; keeps every result that no branch has.
///
/// Removes folders of attempts, logs, prepared bases, and refs of what landed.
#[derive(Debug, clap::Args)]
pub struct Clean {
    /// Only these runs [default: all].
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Also forgets the events of runs of which nothing is kept: `list` and `status` no longer show them.
    #[arg(long)]
    history: bool,
}

/// Kept results that are named a run; more are counted.
const KEPT_MAX: usize = 10;

/// Says on stderr what was removed and kept.
///
/// # Errors
/// There is no such run, or something cannot be removed.
pub fn run(args: &Clean, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    let folder = it.state_of(&repository);
    if !folder.exists() {
        it.err.write("nothing to clean: swarm has never run here\n")?;
        return Ok(0);
    }
    let state = StateDir::open(&folder)
        .map_err(|error| Failure::environment(format!("open {}: {error}", folder.display()), None))?;
    let journal = it.journal(&folder)?;
    let runs: Vec<RunId> = if args.runs.is_empty() {
        journal.runs()?.into_iter().map(|row| row.id).collect()
    } else {
        args.runs.iter().map(|word| select::run(&journal, Some(word)).map(|row| row.id)).collect::<Result<_, _>>()?
    };
    let mode = if args.dry_run { Mode::Look } else { Mode::Remove };
    let mut freed_bytes = 0;
    let mut forgotten = Vec::new();
    let mut a_kept_ref = None;
    for cleaned in clean_runs(&repository, &state, &journal, &runs, mode)? {
        freed_bytes += cleaned.freed_bytes;
        let run = &cleaned.run;
        if cleaned.outcome == RunOutcome::Busy {
            it.err.write(&format!("{run}: running, left alone\n"))?;
            continue;
        }
        if cleaned.kept.is_empty() {
            forgotten.push(run.clone());
        } else {
            it.err.write(&format!("{run}: kept {}\n", words::count(cleaned.kept.len() as u64, "result")))?;
        }
        a_kept_ref = a_kept_ref.or_else(|| cleaned.kept.first().map(|kept| kept.reference.clone()));
        for kept in cleaned.kept.iter().take(KEPT_MAX) {
            let name = kept.instance.as_deref().unwrap_or(&kept.reference);
            it.err.write(&format!("    {name}: {}\n        {}\n", kept.reason, kept.reference))?;
        }
        if cleaned.kept.len() > KEPT_MAX {
            it.err.write(&format!("    … and {} more: swarm status {run}\n", cleaned.kept.len() - KEPT_MAX))?;
        }
    }
    if args.runs.is_empty() {
        match clean_prepared(&state, mode)? {
            Prepared::InUse => it.err.write("prepared bases: in use, left alone\n")?,
            Prepared::Removed { freed_bytes: bytes } => freed_bytes += bytes,
        }
    }
    if args.history && mode == Mode::Remove {
        let mut journal = Journal::open(&folder)?;
        for run in &forgotten {
            journal.forget(run)?;
        }
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    it.err.write(&format!("{verb} {}\n", bytes_text(freed_bytes)))?;
    if let Some(reference) = a_kept_ref {
        let word = sanitize::shell_word(&reference);
        it.err.write(&format!("\nto drop a kept result for good: git update-ref -d {word}\n"))?;
    }
    Ok(0)
}

/// `12.3 MiB`.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return words::count(bytes, "byte");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().expect("there is a first unit");
    while size >= 1024.0 {
        let Some(next) = units.next() else { break };
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

impl From<CleanError> for Failure {
    fn from(error: CleanError) -> Self {
        match error {
            CleanError::Journal(error) => error.into(),
            CleanError::Lock(error) => error.into(),
            CleanError::Repository(error) => error.into(),
            CleanError::Io { .. } => Failure::environment(error, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_legible() {
        for (bytes, text) in
            [(0, "0 bytes"), (1, "1 byte"), (2048, "2.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB")]
        {
            assert_eq!(bytes_text(bytes), text);
        }
    }
}
