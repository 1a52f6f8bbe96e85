//! Spawns one worker, talks to it and returns its last word. Everything the worker says is checked for form and bounded;
//! what the job behind it claims is never believed here or later.
//!
//! The worker is this same program, started as `swarm __worker --stdio` with an empty environment. Its last frame is the
//! result; the exit status of the process is not. A worker that falls silent for [`SILENCE_MAX`] is ended.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use swarm_protocol::frame::{self, FrameError, LINE_BYTES_MAX};
use swarm_protocol::{EnforcementReport, FromWorker, Outcome, Probe, Start, Stream, ToWorker, VERSION};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

/// Workers beat every two seconds; fifteen missed beats mean that the worker, or the machine, is stuck.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long an ended conversation waits for the process to go before it is killed.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Whether a job may go on. Only ever moves downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Run,
    /// It should end; after the given milliseconds it is killed.
    Cancel {
        /// Milliseconds between the polite signal and the final one.
        grace_ms: u64,
    },
}

/// What a worker tells before its last word.
#[derive(Debug)]
pub enum Said {
    /// The cage is closed.
    Entered(EnforcementReport),
    /// The job wrote something.
    Output(Stream, Vec<u8>),
}

/// Why there is no last word. All of these are failures of ours or of the machine, never of the job.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process could not be started.
    #[error("start the worker process: {0}")]
    Spawn(#[source] std::io::Error),
    /// It ended without a result.
    #[error("get a result: the worker process ended early ({0})")]
    Vanished(String),
    /// It sent something that is not a frame.
    #[error("understand the worker: {0}")]
    Frame(#[from] FrameError),
    /// It spoke another version or out of turn.
    #[error("understand the worker: {0}")]
    OutOfTurn(&'static str),
    /// It sent nothing for [`SILENCE_MAX`].
    #[error("hear from the worker for {} s", SILENCE_MAX.as_secs())]
    Silent,
}

/// How workers are started.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The program; `/proc/self/exe` names this very binary even after it was replaced on disk.
    pub program: PathBuf,
    /// Receives what worker processes themselves (not jobs) write to standard error; opened for appending once a run.
    pub diagnostics: std::sync::Arc<std::fs::File>,
}

impl WorkerProgram {
    /// Runs one job to its end. `said` hears everything before the last word, in order.
    ///
    /// # Errors
    /// [`WorkerError`]; the worker and all its processes are gone then, too.
    pub async fn work(
        &self,
        start: Start,
        mut permit: watch::Receiver<Permit>,
        said: &mut (dyn FnMut(Said) + Send),
    ) -> Result<Outcome, WorkerError> {
        let mut child = self.spawn()?;
        let mut input = child.stdin.take().expect("piped above");
        let mut output = BufReader::new(child.stdout.take().expect("piped above"));
        let hello = frame::encode(&ToWorker::Start(Box::new(start)));
        if input.write_all(&hello).await.is_err() {
            return Err(vanished(child).await);
        }
        let result = converse(&mut input, &mut output, &mut permit, said).await;
        drop(input);
        match result {
            Ok(Some(outcome)) => {
                goodbye(child).await;
                Ok(outcome)
            }
            Ok(None) => Err(vanished(child).await),
            Err(error) => {
                goodbye(child).await;
                Err(error)
            }
        }
    }

    /// Asks a worker what this machine can do; overlays are tried in `state`.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn probe(&self, state: &std::path::Path) -> Result<Probe, WorkerError> {
        let diagnostics = self.diagnostics.try_clone().map_err(WorkerError::Spawn)?;
        let mut child = Command::new(&self.program)
            .args(["__worker", "--probe", "--state"])
            .arg(state)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(diagnostics))
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Spawn)?;
        let mut output = BufReader::new(child.stdout.take().expect("piped above"));
        let mut line = Vec::new();
        let whole = tokio::time::timeout(SILENCE_MAX, fill_line(&mut output, &mut line)).await;
        match whole.map_err(|_| WorkerError::Silent)?? {
            true => Ok(frame::decode(&line)?),
            false => Err(vanished(child).await),
        }
    }

    fn spawn(&self) -> Result<Child, WorkerError> {
        let diagnostics = self.diagnostics.try_clone().map_err(WorkerError::Spawn)?;
        // No `pre_exec` and no current directory: std then uses posix_spawn, whose cost does not grow with this process.
        Command::new(&self.program)
            .args(["__worker", "--stdio"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(diagnostics))
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Spawn)
    }
}

/// Follows the conversation to the last word; `None` when the stream ends without one.
async fn converse(
    input: &mut ChildStdin,
    output: &mut (impl AsyncBufReadExt + AsyncRead + Unpin),
    permit: &mut watch::Receiver<Permit>,
    said: &mut (dyn FnMut(Said) + Send),
) -> Result<Option<Outcome>, WorkerError> {
    let mut line = Vec::new();
    let mut told = Permit::Run;
    let mut permit_lives = true;
    loop {
        let wanted = *permit.borrow_and_update();
        if let Some(grace_ms) = tightened(told, wanted) {
            told = wanted;
            // A worker that cannot hear this is ending anyway: the reader below sees it.
            let _ = input.write_all(&frame::encode(&ToWorker::Cancel { grace_ms })).await;
        }
        let whole = tokio::select! {
            whole = tokio::time::timeout(SILENCE_MAX, fill_line(output, &mut line)) => whole.map_err(|_| WorkerError::Silent)??,
            changed = permit.changed(), if permit_lives => {
                permit_lives = changed.is_ok();
                continue;
            }
        };
        if !whole {
            return Ok(None);
        }
        let message = frame::decode(&line)?;
        line.clear();
        match message {
            FromWorker::Hello { version } if version == VERSION => {}
            FromWorker::Hello { .. } => return Err(WorkerError::OutOfTurn("it speaks another version")),
            FromWorker::Entered { enforcement } => said(Said::Entered(enforcement)),
            FromWorker::Output { stream, chunk } => match chunk.into_bytes() {
                Some(bytes) => said(Said::Output(stream, bytes)),
                None => return Err(WorkerError::OutOfTurn("a chunk of output is not base64")),
            },
            FromWorker::Heartbeat => {}
            FromWorker::Finished { outcome } => return Ok(Some(outcome)),
        }
    }
}

/// The grace to tell the worker, when `wanted` leaves less time than what it was told before.
fn tightened(told: Permit, wanted: Permit) -> Option<u64> {
    match (told, wanted) {
        (_, Permit::Run) => None,
        (Permit::Run, Permit::Cancel { grace_ms }) => Some(grace_ms),
        (Permit::Cancel { grace_ms: before }, Permit::Cancel { grace_ms }) => (grace_ms < before).then_some(grace_ms),
    }
}

/// Reads on until `line` holds one whole line, without its line feed; `false` at the end of the stream. Cancel-safe: what
/// was read so far stays in `line`.
async fn fill_line(input: &mut (impl AsyncBufReadExt + Unpin), line: &mut Vec<u8>) -> Result<bool, FrameError> {
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return if line.is_empty() { Ok(false) } else { Err(FrameError::Torn) };
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > LINE_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        line.extend_from_slice(&available[..taken]);
        input.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Waits for an ended worker; one that lingers is killed.
async fn goodbye(mut child: Child) -> String {
    match tokio::time::timeout(GOODBYE_MAX, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            let _ = child.kill().await;
            format!("killed after {} s", GOODBYE_MAX.as_secs())
        }
    }
}

async fn vanished(child: Child) -> WorkerError {
    WorkerError::Vanished(goodbye(child).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut input = BufReader::with_capacity(3, bytes);
        let (mut all, mut line) = (vec![], vec![]);
        while let Ok(true) = fill_line(&mut input, &mut line).await {
            all.push(std::mem::take(&mut line));
        }
        all
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_are_cut_at_line_feeds_only() {
        assert_eq!(lines(b"abcd\n\nefghijk\n").await, [&b"abcd"[..], b"", b"efghijk"]);
        assert_eq!(lines(b"torn").await, Vec::<Vec<u8>>::new());
    }

    #[test]
    fn permits_only_move_downwards() {
        let cancel = |grace_ms| Permit::Cancel { grace_ms };
        assert_eq!(tightened(Permit::Run, cancel(5000)), Some(5000));
        assert_eq!(tightened(cancel(5000), cancel(0)), Some(0));
        assert_eq!(tightened(cancel(0), cancel(5000)), None);
    }
}
