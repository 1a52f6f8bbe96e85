//! `swarm diff [RUN] [TASK]`: what a run put onto its branch, or what one task changed, landed or not.

use std::io::BufWriter;

use swarm_orchestrator::event::Fate;
use swarm_orchestrator::journal::{AttemptState, ChangeState, RunRow, RunState};
use swarm_orchestrator::report::diff::{Form, Reader, write_diff};
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_plans::InstanceId;

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::{ReaderKind, Surroundings};

/// Shows what a run or one of its tasks changed.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "[RUN] [TASK]", num_args = 0..=2)]
    words: Vec<String>,
    /// The task's attempt, from 1 [default: the newest that changed something].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// A line a file instead of every changed line.
    #[arg(long)]
    stat: bool,
}

/// The difference on stdout: a patch that `git apply` takes when it is piped, coloured and harmless on a terminal.
///
/// # Errors
/// There is no such run, task or attempt, or its commits are gone.
pub fn run(args: &Diff, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    let journal = it.journal(&it.state_of(&repository))?;
    let (row, state, id) = select::run_or_instance(&journal, &args.words)?;
    let (from, to) = match &id {
        Some(id) => {
            let attempts = &state.instances[id].attempts;
            let wanted = |n: u32| args.attempt.is_none_or(|attempt| attempt == n);
            if args.attempt.is_some() && !attempts.iter().any(|attempt| wanted(attempt.attempt.0)) {
                let all = words::count(attempts.len() as u64, "attempt");
                let message = format!("show what changed: {} has {all}", sanitize::name(&id.0));
                return Err(Failure::usage(message, format!("swarm status {}", row.id)));
            }
            let change = attempts.iter().rev().find_map(|a| a.change().filter(|_| wanted(a.attempt.0)));
            match change {
                Some(change) if !repository.has_commit(change.commit)? => {
                    return Err(is_gone(&row, &state, id, change));
                }
                Some(change) => (format!("{}^", change.commit), change.commit.to_string()),
                None => {
                    let has_ended = |attempt: &AttemptState| attempt.end().is_some();
                    let said = match attempts.iter().rev().find(|a| wanted(a.attempt.0)) {
                        Some(attempt) if !has_ended(attempt) => "has not ended: what it changes is known then",
                        None => "has not begun",
                        Some(_) => "changed nothing",
                    };
                    it.err.write(&format!("{} of {} {said}\n", sanitize::name(&id.0), row.id))?;
                    return Ok(0);
                }
            }
        }
        None => {
            let tip = state.finished.as_ref().and_then(|end| end.tip.clone()).or(state.tip.clone());
            match tip {
                Some(tip) => (row.base.clone(), tip),
                None => {
                    it.err.write(&format!("nothing of {} has landed\n", row.id))?;
                    return Ok(0);
                }
            }
        }
    };
    let form = if args.stat { Form::Stat { columns: it.out.columns() } } else { Form::Patch };
    show(&repository, (&from, &to), form, it)?;
    Ok(0)
}

/// Why a change cannot be shown that git has removed.
fn is_gone(row: &RunRow, state: &RunState, id: &InstanceId, change: &ChangeState) -> Failure {
    let (name, commit) = (sanitize::name(&id.0), change.commit.to_string());
    let (because, hint) = match state.instances[id].fate() {
        Some(Fate::Dropped { .. }) => {
            ("it was dropped, and git has removed it", "swarm run PLAN makes it anew".to_owned())
        }
        _ => ("the repository does not have it any more", format!("swarm status {}; git fsck", row.id)),
    };
    Failure::usage(format!("show what {name} of {} changed, {}: {because}", row.id, words::short(&commit)), hint)
}

/// Writes the difference between two revisions to stdout.
///
/// # Errors
/// A commit is gone, or nobody reads it.
pub fn show(repository: &Repository, (from, to): (&str, &str), form: Form, it: &Surroundings) -> Result<(), Failure> {
    let reader = match it.out.reader {
        ReaderKind::Terminal => Reader::Person(it.out.style),
        ReaderKind::Other => Reader::Program,
    };
    let mut out = BufWriter::with_capacity(64 << 10, it.out.open());
    let written = write_diff(repository, repository.resolve(from)?, repository.resolve(to)?, (form, reader), &mut out)?;
    written.and_then(|()| std::io::Write::flush(&mut out)).map_err(|error| Failure::of_output(&error))
}
