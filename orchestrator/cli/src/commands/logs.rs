//! `swarm logs [RUN] TASK`: what an attempt printed, stripped of what a terminal would obey.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use swarm_orchestrator::ids::Attempt;
use swarm_orchestrator::journal::{JournalReader, RunLock, RunRow, log_path};
use swarm_orchestrator::report::sanitize;
use swarm_plans::InstanceId;

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::{Stream, Surroundings};

/// Prints the log of a task's newest attempt.
#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "[RUN] TASK", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// The attempt, from 1 [default: the newest].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Goes on while the attempt runs.
    #[arg(short, long)]
    follow: bool,
    /// Prints the bytes as they are, escape sequences included.
    #[arg(long)]
    raw: bool,
}

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
    let (row, state, id) = select::instance(&journal, &args.words)?;
    let attempts = &state.instances[&id].attempts;
    let attempt = match args.attempt {
        None => attempts.last().map(|attempt| attempt.attempt),
        Some(n) => attempts.iter().map(|attempt| attempt.attempt).find(|attempt| attempt.0 == n),
    };
    let Some(attempt) = attempt else {
        let message = format!("show a log: {} has {} attempts", sanitize::name(&id.0), attempts.len());
        return Err(Failure::usage(message, format!("swarm status {}", row.id)));
    };
    let path = log_path(&folder, &row.id, &id, attempt);
    let form = if args.raw { Form::Raw } else { Form::Harmless };
    let mut printer = Printer::new(&path, form, it.out);
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
        it.err.write(&format!("attempt {attempt} of {name} left no log: it printed nothing, or was cleaned away\n"))?;
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
        let ended = instance.attempts.iter().any(|attempt| attempt.attempt == self.attempt && attempt.end.is_some());
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
                write!(out, "{}{end}", sanitize::line(&piece)).map_err(gone)?;
            }
        }
    }
}
