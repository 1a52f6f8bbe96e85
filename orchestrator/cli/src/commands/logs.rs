//! `swarm logs [RUN] TASK`: what an attempt printed, stripped of what a terminal would obey.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use swarm_orchestrator::executor::settle::REGENERATE;
use swarm_orchestrator::executor::setup::SETUP;
use swarm_orchestrator::executor::verify::VERIFY;
use swarm_orchestrator::ids::Attempt;
use swarm_orchestrator::journal::{JournalReader, RunLock, RunRow, RunState, attempt_dir, log_path};
use swarm_orchestrator::report::{sanitize, words};
use swarm_plans::InstanceId;

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::{Stream, Surroundings};

/// Prints the log of a task's newest attempt.
///
/// Commands that belong to no task are named as messages name them: '[merge] verify', '[merge] regenerate',
/// '[workspace] setup'.
#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "[RUN] TASK", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// The attempt, from 1 [default: the newest].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Waits until the task begins, and goes on while the attempt runs.
    #[arg(short, long)]
    follow: bool,
    /// Prints the bytes as they are, escape sequences included.
    #[arg(long)]
    raw: bool,
}

/// Names under which logs are kept that belong to no task; no task can have one.
const OF_NO_TASK: [&str; 3] = [VERIFY, REGENERATE, SETUP];

/// The longest piece of one line that is shown at once, in bytes; a longer line is cut into several.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// How often a followed log is looked at. A log grows without telling: its writer is another process.
const FOLLOW_EVERY: Duration = Duration::from_millis(150);

/// The log on stdout.
///
/// # Errors
/// There is no such run, task or attempt, or the log cannot be read.
pub fn run(args: &Logs, it: &Surroundings) -> Result<u8, Failure> {
    let folder = it.state()?;
    let journal = it.journal(&folder)?;
    if let Some((task, run_word)) = args.words.split_last().filter(|(task, _)| OF_NO_TASK.contains(&task.as_str())) {
        let row = select::run(&journal, run_word.first().map(String::as_str))?;
        return of_no_task(args, &folder, &row, &InstanceId(task.as_str().into()), it);
    }
    let (row, state, id) = begun(args, &journal, &folder)?;
    let attempts = &state.instances[&id].attempts;
    let chosen = match args.attempt {
        None => attempts.last(),
        Some(n) => attempts.iter().find(|attempt| attempt.attempt.0 == n),
    };
    let Some(attempt) = chosen.map(|attempt| attempt.attempt) else {
        let message =
            format!("show a log: {} has {}", sanitize::name(&id.0), words::count(attempts.len() as u64, "attempt"));
        return Err(Failure::usage(message, format!("swarm status {}", row.id)));
    };
    let path = log_path(&folder, &row.id, &id, attempt);
    let form = if args.raw { Form::Raw } else { Form::Harmless };
    let mut printer = Printer::new(&path, form, it.out.clone());
    let watch = Watch { journal: &journal, folder: &folder, row: &row, id: &id, attempt };
    loop {
        // Asked before reading: what is written until the end is read after it.
        let over = !args.follow || watch.is_over()?;
        printer.print()?;
        if over {
            break;
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
    if printer.log.is_none() {
        let name = sanitize::name(&id.0);
        it.err.write(&match state.instances[&id].reused_from() {
            Some(run) => {
                let word = sanitize::shell_word(&id.0);
                format!("{name} was not run, its result is cached: swarm logs {run} {word}\n")
            }
            None => format!("attempt {attempt} of {name} left no log: it printed nothing, or was cleaned away\n"),
        })?;
    }
    if RunLock::holder_of_run(&folder, &row.id)?.is_some()
        && let Some(wait) = state.instances[&id].waits().filter(|wait| wait.until_ms > it.clock.now_ms())
    {
        // A program's own log does not say it.
        it.err.write(&format!("note: it {}\n", words::waits(wait)))?;
    }
    it.err.write(&words::refusals(chosen.map_or(&[][..], |attempt| attempt.refusals()), ""))?;
    Ok(0)
}

/// The task that is meant. Who follows waits for its first attempt, and for a run that has only begun to say its tasks.
fn begun(args: &Logs, journal: &JournalReader, folder: &Path) -> Result<(RunRow, RunState, InstanceId), Failure> {
    loop {
        let found = select::instance(journal, &args.words);
        let (run, waits) = match &found {
            Ok((row, state, id)) => {
                let instance = &state.instances[id];
                (row.id.clone(), instance.attempts.is_empty() && instance.result().is_none())
            }
            Err(_) => {
                let run_word = args.words.split_last().and_then(|(_, words)| words.first());
                let Ok(row) = select::run(journal, run_word.map(String::as_str)) else { return found };
                let waits = journal.state(&row.id)?.instances.is_empty();
                (row.id, waits)
            }
        };
        if !args.follow || !waits || RunLock::holder_of_run(folder, &run)?.is_none() {
            return found;
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

/// The log of a command of the merge train or of `setup`, which the journal has no attempts of: the newest on the disk.
fn of_no_task(args: &Logs, folder: &Path, row: &RunRow, id: &InstanceId, it: &Surroundings) -> Result<u8, Failure> {
    let above = attempt_dir(folder, &row.id, id, Attempt(1));
    let above = above.parent().expect("attempts lie in the folder of their instance");
    let names = std::fs::read_dir(above).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let known: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    let chosen = match args.attempt {
        None => known.iter().max().copied(),
        Some(n) => known.contains(&n).then_some(n),
    };
    let Some(attempt) = chosen else {
        let message =
            format!("show a log: {} of {} has {} here", id, row.id, words::count(known.len() as u64, "attempt"));
        return Err(Failure::usage(message, format!("swarm status {}", row.id)));
    };
    let form = if args.raw { Form::Raw } else { Form::Harmless };
    let path = log_path(folder, &row.id, id, Attempt(attempt));
    let mut printer = Printer::new(&path, form, it.out.clone());
    loop {
        // Asked before reading: what is written until the end is read after it.
        let over = !args.follow || RunLock::holder_of_run(folder, &row.id)?.is_none();
        printer.print()?;
        if over {
            break;
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
    if printer.log.is_none() {
        it.err.write(&format!("number {attempt} of {id} left no log: it printed nothing, or was cleaned away\n"))?;
    }
    Ok(0)
}

/// Whether an attempt can still print.
struct Watch<'a> {
    journal: &'a JournalReader,
    folder: &'a Path,
    row: &'a RunRow,
    id: &'a InstanceId,
    attempt: Attempt,
}

impl Watch<'_> {
    fn is_over(&self) -> Result<bool, Failure> {
        let alive = RunLock::holder_of_run(self.folder, &self.row.id)?.is_some();
        let state = self.journal.state(&self.row.id)?;
        let instance = &state.instances[self.id];
        let ended = instance.attempts.iter().any(|attempt| attempt.attempt == self.attempt && attempt.end().is_some());
        Ok(!alive || ended || instance.result().is_some())
    }
}

/// How a log is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Stripped of what a terminal would obey.
    Harmless,
    /// The bytes as they are.
    Raw,
}

/// Prints what is new in a log.
pub struct Printer<'a> {
    path: &'a Path,
    log: Option<BufReader<File>>,
    form: Form,
    out: Stream,
}

impl<'a> Printer<'a> {
    /// Will print the log at `path`, which may not exist yet.
    pub fn new(path: &'a Path, form: Form, out: Stream) -> Self {
        Printer { path, log: None, form, out }
    }

    /// Prints what was added since the last time.
    ///
    /// # Errors
    /// The log cannot be read, or nobody reads what is printed.
    pub fn print(&mut self) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::environment(format!("read {}: {error}", self.path.display()), None);
        if self.log.is_none() {
            match File::open(self.path) {
                Ok(file) => self.log = Some(BufReader::with_capacity(64 << 10, file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
        let log = self.log.as_mut().expect("opened above");
        let mut out = BufWriter::with_capacity(64 << 10, self.out.open());
        let gone = |error: std::io::Error| Failure::of_output(&error);
        let mut piece = Vec::new();
        loop {
            piece.clear();
            if log.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece).map_err(failed)? == 0 {
                return out.flush().map_err(gone);
            }
            if self.form == Form::Raw {
                out.write_all(&piece).map_err(gone)?;
            } else {
                let end = if piece.ends_with(b"\n") { "\n" } else { "" };
                write!(out, "{}{end}", sanitize::log_line(&piece)).map_err(gone)?;
            }
        }
    }
}
