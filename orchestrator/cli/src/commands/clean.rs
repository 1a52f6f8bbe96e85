//! `swarm clean`: gives back the disk of finished runs, and says what it keeps.

use std::path::Path;
use std::time::{Duration, Instant};

use swarm_orchestrator::cache::{Cache, CacheError};
use swarm_orchestrator::clean::{
    CleanError, CleanedRun, Cleaning, KeptResult, Mode, Prepared, Progress, RunOutcome, clean_prepared, clean_runs,
    clean_unbegun,
};
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::{Journal, JournalReader, LockError, RunLock, RunRow};
use swarm_orchestrator::ownership::other_repository;
use swarm_orchestrator::report::{exit, sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::state::StateDir;
use swarm_sandbox::cgroup;

use crate::commands::failure::{Failure, shell_path, state_hint};
use crate::commands::resolve::{Settlement, open_ones};
use crate::commands::select;
use crate::commands::served::remove_served;
use crate::commands::settling::Left;
use crate::commands::surroundings::Surroundings;
use crate::commands::unsettled;

/// Gives back the disk of finished runs; keeps every result that no branch has.
///
/// Removes folders of attempts, logs (those of failed tasks, too), files that tasks handed over in $SWARM_ARTIFACTS (`swarm open
/// --artifacts` copies them out before), prepared bases, and refs of what landed.
#[derive(Debug, clap::Args)]
pub struct Clean {
    /// Only these runs, whether they have ended or were interrupted [default: all that have ended].
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Also forgets the results that tasks with `cache` recorded and which trees passed their gate: everything runs and is
    /// verified again.
    #[arg(long)]
    cache: bool,
    /// Also forgets the events of runs of which nothing is kept: `list` and `status` no longer show them.
    #[arg(long)]
    history: bool,
}

/// Kept results that are named a run; more are counted.
const KEPT_MAX: usize = 10;

/// How long a person is told nothing while refs are removed.
const SILENCE_MAX: Duration = Duration::from_secs(1);

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
        .map_err(|error| Failure::environment(format!("open {}: {error}", folder.display()), state_hint(&folder)))?;
    let journal = it.journal(&folder)?;
    let runs = runs_to_clean(args, &journal, &repository, it)?;
    let mode = if args.dry_run { Mode::Look } else { Mode::Remove };
    let left = if mode == Mode::Remove { unsettled::settle(&folder, it)? } else { Left::Nothing };
    if mode == Mode::Remove {
        for run in &runs {
            remove_served(&repository, (&folder, &journal), run, it)?;
        }
    }
    let mut freed_bytes = 0;
    let recorded = clean_recorded(args.cache && mode == Mode::Remove, mode, (&folder, &state, &repository), it)?;
    let mut a_kept_one = None;
    let mut said = Instant::now();
    let mut told = |at: Progress<'_>| {
        if at.done > 0 && said.elapsed() >= SILENCE_MAX {
            said = Instant::now();
            // Whoever cannot be told any more is told of that by the next line.
            let text = match at.done == at.all {
                true => {
                    format!("{}: all of {} are gone, its folders go now\n", at.run, words::count(at.all as u64, "ref"))
                }
                false => format!("{}: {} of {} refs are gone\n", at.run, at.done, at.all),
            };
            drop(it.err.write(&text));
        }
    };
    let cleaning = Cleaning { runs: &runs, mode, history: args.history };
    for cleaned in clean_runs(&repository, &state, &journal, cleaning, &mut told)? {
        freed_bytes += cleaned.freed_bytes;
        let run = &cleaned.run;
        if cleaned.outcome == RunOutcome::Busy {
            it.err.write(&format!("{run}: running, left alone\n"))?;
            continue;
        }
        a_kept_one = a_kept_one.or_else(|| cleaned.kept.first().map(|kept| drop_command(run, kept)));
        say_what_is_kept(&cleaned, mode, it)?;
        say_what_is_settled(&repository, &cleaned, it)?;
    }
    if args.runs.is_empty() {
        freed_bytes += clean_what_is_no_runs(&repository, &state, mode, it)?;
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    it.err.write(&format!("{verb} {}\n", bytes_text(freed_bytes)))?;
    if let Some(command) = a_kept_one {
        it.err.write(&format!("\nto drop a kept result for good: {command}\n"))?;
    }
    Ok(left.exit(match recorded {
        Recorded::InUse => exit::HELD,
        Recorded::Served => 0,
    }))
}

/// Removes what belongs to no run of the journal; gives the bytes that this frees.
fn clean_what_is_no_runs(
    repository: &Repository,
    state: &StateDir,
    mode: Mode,
    it: &Surroundings,
) -> Result<u64, Failure> {
    let freed_bytes = match clean_prepared(state, mode)? {
        Prepared::InUse => it.err.write("prepared bases: in use, left alone\n").map(|()| 0)?,
        Prepared::Removed { freed_bytes } => freed_bytes,
    };
    let unbegun = clean_unbegun(repository, state, mode)?;
    if !unbegun.is_empty() {
        let runs = words::count(unbegun.len() as u64, "run");
        let goes = if mode == Mode::Remove { "is gone" } else { "would go" };
        it.err.write(&format!("what {runs} left by dying before the first entry in the journal {goes}\n"))?;
    }
    let groups = if mode == Mode::Remove { cgroup::sweep_all() } else { 0 };
    if groups > 0 {
        it.err.write(&format!("empty control groups of workers that were killed: {groups} removed\n"))?;
    }
    Ok(freed_bytes)
}

/// What became of recorded results and green verdicts.
enum Recorded {
    /// What was asked for was done.
    Served,
    /// They were to be forgotten, and a run may wait with one of them.
    InUse,
}

/// Forgets recorded results and green verdicts where a person asks for it and no run may wait with one of them; else what the cache
/// keeps gets refs of its own, before those of its runs go: or none would be found again.
fn clean_recorded(
    forgets: bool,
    mode: Mode,
    (folder, state, repository): (&Path, &StateDir, &Repository),
    it: &Surroundings,
) -> Result<Recorded, Failure> {
    // What a run took of them and has not landed yet is kept by nothing else.
    let (alone, recorded) = match forgets.then(|| RunLock::of_idle_state(state.root())) {
        Some(Err(LockError::Held { .. })) => {
            it.err.write("recorded results and green verdicts: in use, left alone\n")?;
            (None, Recorded::InUse)
        }
        alone => (alone.transpose()?, Recorded::Served),
    };
    if let (Some(cache), Mode::Remove) = (Cache::open_existing(folder)?, mode) {
        match alone {
            Some(_) => cache.clear(repository)?,
            None => cache.keep_all(repository)?,
        }
    }
    if alone.is_some() {
        Journal::open(folder)?.forget_verdicts()?;
    }
    Ok(recorded)
}

/// Says why a run that was to be forgotten stays in the history.
fn say_what_is_settled(repository: &Repository, cleaned: &CleanedRun, it: &Surroundings) -> Result<(), Failure> {
    let (run, open) = (&cleaned.run, &cleaned.being_settled);
    if open.is_empty() {
        return Ok(());
    }
    let results = words::count(open.len() as u64, "result");
    it.err.write(&format!("{run}: stays in the history, {results} of it being settled by hand\n"))?;
    it.err.write(&open_ones(repository, run, open, Settlement::Dropped))?;
    Ok(())
}

/// The runs that were named, or all of this repository that have ended: what the refs of another one keep, nobody knows here.
fn runs_to_clean(
    args: &Clean,
    journal: &JournalReader,
    repository: &Repository,
    it: &Surroundings,
) -> Result<Vec<RunId>, Failure> {
    let mut runs = Vec::new();
    for word in &args.runs {
        let row = select::run(journal, Some(word))?;
        it.expect_own(repository, &row)?;
        runs.push(row.id);
    }
    let all = if args.runs.is_empty() { journal.entries()? } else { Vec::new() };
    for entry in all {
        let row = match entry {
            Ok(row) => row,
            Err(damaged) => {
                let run = sanitize::name(&damaged.run.0);
                it.err.write(&format!("{run}: what the journal says of it is damaged, left alone\n"))?;
                continue;
            }
        };
        match other_repository(&row, repository, &it.state_of(repository))? {
            None if is_interrupted(it, repository, &row)? => {
                let run = &row.id;
                it.err.write(&format!(
                    "{run}: interrupted, left alone; `swarm resume {run}` goes on with it, `swarm clean {run}` gives its folders back\n"
                ))?;
            }
            None => runs.push(row.id),
            Some(of) => it.err.write(&format!("{}: a run of {}, left alone\n", row.id, sanitize::name(of)))?,
        }
    }
    Ok(runs)
}

/// Whether a run was interrupted and nobody goes on with it now: what its tasks handed over is still needed for that.
fn is_interrupted(it: &Surroundings, repository: &Repository, row: &RunRow) -> Result<bool, Failure> {
    Ok(exit::is_resumable(row.exit) && RunLock::holder_of_run(&it.state_of(repository), &row.id)?.is_none())
}

fn say_what_is_kept(cleaned: &CleanedRun, mode: Mode, it: &Surroundings) -> Result<(), Failure> {
    let run = &cleaned.run;
    if !cleaned.kept.is_empty() {
        it.err.write(&format!("{run}: kept {}\n", words::count(cleaned.kept.len() as u64, "result")))?;
    }
    for (reference, commit) in cleaned.gone.iter().take(KEPT_MAX) {
        let goes = if mode == Mode::Look { "would go" } else { "is gone" };
        let reference = sanitize::name(reference);
        it.err.write(&format!("{run}: what {reference} kept is no longer there ({commit}): the ref {goes}\n"))?;
    }
    if cleaned.gone.len() > KEPT_MAX {
        it.err.write(&format!("{run}: … and {} more such refs\n", cleaned.gone.len() - KEPT_MAX))?;
    }
    if !cleaned.void.is_empty() {
        let (go, refs) =
            (if mode == Mode::Look { "would go" } else { "are gone" }, words::count(cleaned.void.len() as u64, "ref"));
        it.err.write(&format!("{run}: {refs} that a power cut left empty {go}\n"))?;
    }
    if cleaned.released > 0 {
        let go = if mode == Mode::Look { "would go" } else { "are gone" };
        let results = words::count(cleaned.released, "landed result");
        it.err.write(&format!("{run}: our refs of {results} {go}: from then on a branch alone holds that\n"))?;
    }
    if cleaned.failed_logs > 0 {
        let goes = if mode == Mode::Look { "would go" } else { "are gone" };
        let failed = words::count(cleaned.failed_logs, "failed task");
        it.err.write(&format!("{run}: the logs of {failed} {goes}\n"))?;
    }
    if cleaned.handed_over > 0 {
        let go = if mode == Mode::Look { "would go" } else { "are gone" };
        let tasks = words::count(cleaned.handed_over, "task");
        it.err.write(&format!("{run}: the files that {tasks} handed over in $SWARM_ARTIFACTS {go}\n"))?;
    }
    for kept in cleaned.kept.iter().take(KEPT_MAX) {
        let name = kept.instance.as_deref().unwrap_or(&kept.reference);
        it.err.write(&format!("    {name}: {}\n        {}\n", kept.reason, kept.reference))?;
    }
    if cleaned.kept.len() > KEPT_MAX {
        it.err.write(&format!("    … and {} more: swarm status {run}\n", cleaned.kept.len() - KEPT_MAX))?;
    }
    Ok(())
}

/// What gives a kept result up: by its task, or by its ref where the journal does not know it.
fn drop_command(run: &RunId, kept: &KeptResult) -> String {
    match &kept.instance {
        Some(id) => format!("swarm drop {run} {}", sanitize::shell_word(id)),
        None => format!("git update-ref -d {}", sanitize::shell_word(&kept.reference)),
    }
}

/// `12.3 MiB`.
pub fn bytes_text(bytes: u64) -> String {
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

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        let hint = match &error {
            CacheError::Newer { path, .. } | CacheError::Sql { path, .. } => {
                Some(format!("it holds nothing that cannot be made again: rm {}", shell_path(path)))
            }
            CacheError::Io { .. } | CacheError::Repository(_) => None,
        };
        Failure::environment(error, hint)
    }
}

impl From<CleanError> for Failure {
    fn from(error: CleanError) -> Self {
        match error {
            CleanError::Journal(error) => error.into(),
            CleanError::Lock(error) => error.into(),
            CleanError::Repository(error) => error.into(),
            CleanError::Io { .. } => Failure::environment(
                error,
                "look at the permissions and the disk there, then again: swarm clean".to_owned(),
            ),
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
