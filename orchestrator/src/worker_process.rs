//! Spawns one worker, talks to it and returns its last word. Everything the worker says is checked for form and bounded;
//! what the job behind it claims is never believed here or later.
//!
//! The worker is this same program, with an empty environment: forked by the run's [fork server](crate::fork_server), or
//! started as `swarm __worker --stdio` where that cannot be, which is said. Its last frame is the result; the exit status
//! of the process is not. A worker that falls silent for [`SILENCE_MAX`] is ended.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use swarm_protocol::agent::{AgentSays, ToAgent};
use swarm_protocol::frame::{self, FrameError, LINE_BYTES_MAX};
use swarm_protocol::{
    EnforcementReport, FromWorker, LineBuffer, Outcome, Probe, Question, Start, Stream, ToWorker, VERSION,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::fault;
use crate::fork_server::{ForkServer, ForkedWorker};
use crate::frames;
use crate::threads;

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
    /// Something that a person should know about how it was started.
    Note(String),
}

/// The conversation with an agent, for whoever holds it: what the agent says comes out, what it is told goes in. Both are
/// bounded: an agent that says more than is heard has to wait.
#[derive(Debug)]
pub struct AgentLink {
    /// Hears what the agent says. It must be read on at all times.
    pub says: mpsc::Sender<AgentSays>,
    /// What the agent is to be told.
    pub told: mpsc::Receiver<ToAgent>,
}

/// Why there is no last word. All of these are failures of ours or of the machine, never of the job.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process could not be started.
    #[error("start the worker process: {}", threads::told(.0))]
    Spawn(#[source] std::io::Error),
    /// Its way to the egress proxy could not be opened.
    #[error("open its way to the proxy: {0}")]
    Door(#[source] std::io::Error),
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
    /// It failed while there was no space, or no folder of ours: that says nothing about it.
    #[error("{lacking} when it {ended}")]
    Lacking {
        /// What it lacked, for people.
        lacking: String,
        /// How it ended, for people.
        ended: String,
    },
}

/// How workers are started.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The program; `/proc/self/exe` names this very binary even after it was replaced on disk.
    pub program: PathBuf,
    /// Receives what worker processes themselves (not jobs) write to standard error; opened for appending once a run.
    pub diagnostics: Arc<std::fs::File>,
    /// Makes workers by fork; `None` starts each directly.
    pub server: Option<Arc<ForkServer>>,
}

/// A worker's process, by how it was made.
#[derive(Debug)]
enum Process {
    Started(Child),
    Forked(ForkedWorker),
}

impl WorkerProgram {
    /// Starts the fork server, when there is one, so that it is ready when the first worker is asked for.
    pub async fn warm_up(&self) {
        if let Some(server) = &self.server {
            server.warm_up(self).await;
        }
    }

    /// Runs one job to its end. `said` hears everything before the last word, in order; an agent speaks through `agent`.
    ///
    /// # Errors
    /// [`WorkerError`]; the worker and all its processes are gone then, too.
    pub async fn work(
        &self,
        start: Start,
        mut permit: watch::Receiver<Permit>,
        said: &mut (dyn FnMut(Said) + Send),
        agent: Option<AgentLink>,
    ) -> Result<Outcome, WorkerError> {
        let (their_input, input) = pipe_with(PipeFlags::CLOEXEC).map_err(spawn_error)?;
        let (output, their_output) = pipe_with(PipeFlags::CLOEXEC).map_err(spawn_error)?;
        let mut input = pipe::Sender::from_owned_fd(input).map_err(WorkerError::Spawn)?;
        let mut output = BufReader::new(pipe::Receiver::from_owned_fd(output).map_err(WorkerError::Spawn)?);
        let process = self.make(their_input, their_output, said).await?;
        let hello = frame::encode(&ToWorker::Start(Box::new(start)));
        let result = match input.write_all(&hello).await {
            Ok(()) => converse(&mut input, &mut output, &mut permit, said, agent).await,
            // It ended before it listened.
            Err(_) => Ok(None),
        };
        drop(input);
        let status = goodbye(process, output).await;
        result?.ok_or(WorkerError::Vanished(status))
    }

    /// Makes a worker that speaks through these pipes: by fork, or directly where there is no server.
    async fn make(
        &self,
        input: OwnedFd,
        output: OwnedFd,
        said: &mut (dyn FnMut(Said) + Send),
    ) -> Result<Process, WorkerError> {
        fault::point().map_err(WorkerError::Spawn)?;
        if let Some(server) = &self.server {
            match server.fork(self, input.as_fd(), output.as_fd()).await {
                Ok(forked) => return Ok(Process::Forked(forked)),
                Err(error) => said(Said::Note(format!("its worker was started directly: {error}"))),
            }
        }
        let diagnostics = self.diagnostics.try_clone().map_err(WorkerError::Spawn)?;
        // No `pre_exec` and no current directory: std then uses posix_spawn, whose cost does not grow with this process.
        let child = Command::new(&self.program)
            .args(["__worker", "--stdio"])
            .env_clear()
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(diagnostics))
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Spawn)?;
        Ok(Process::Started(child))
    }

    /// Asks a worker for the strongest cage that this machine can close; overlays are tried in `state`.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn probe(&self, state: &std::path::Path) -> Result<Probe, WorkerError> {
        let diagnostics = self.diagnostics.try_clone().map_err(WorkerError::Spawn)?;
        let mut child = Command::new(&self.program)
            .args(["__worker", "--probe", Question::Strongest.word(), "--state"])
            .arg(state)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(diagnostics))
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Spawn)?;
        let mut output = BufReader::new(child.stdout.take().expect("piped above"));
        let mut lines = LineBuffer::new(LINE_BYTES_MAX);
        let probe = tokio::time::timeout(SILENCE_MAX, frames::next(&mut output, &mut lines)).await;
        match probe.map_err(|_| WorkerError::Silent)?? {
            Some(probe) => Ok(probe),
            None => Err(WorkerError::Vanished(goodbye(Process::Started(child), output).await)),
        }
    }
}

fn spawn_error(error: rustix::io::Errno) -> WorkerError {
    WorkerError::Spawn(error.into())
}

/// Bytes for the worker that wait while more is taken from whoever speaks with its agent.
const OUTGOING_BYTES_MAX: usize = 1 << 20;

/// Follows the conversation to the last word; `None` when the stream ends without one. Writes while it reads: a worker that
/// waits to be heard does not listen.
async fn converse(
    input: &mut pipe::Sender,
    output: &mut (impl AsyncBufReadExt + AsyncRead + Unpin),
    permit: &mut watch::Receiver<Permit>,
    said: &mut (dyn FnMut(Said) + Send),
    mut agent: Option<AgentLink>,
) -> Result<Option<Outcome>, WorkerError> {
    let (mut lines, mut outgoing) = (LineBuffer::new(LINE_BYTES_MAX), Vec::new());
    let mut told = Permit::Run;
    let (mut permit_lives, mut agent_lives) = (true, agent.is_some());
    loop {
        let wanted = *permit.borrow_and_update();
        if let Some(grace_ms) = tightened(told, wanted) {
            told = wanted;
            outgoing.extend(frame::encode(&ToWorker::Cancel { grace_ms }));
        }
        let message = tokio::select! {
            message = tokio::time::timeout(SILENCE_MAX, frames::next(output, &mut lines)) => message.map_err(|_| WorkerError::Silent)??,
            changed = permit.changed(), if permit_lives => {
                permit_lives = changed.is_ok();
                continue;
            }
            written = input.write(&outgoing), if !outgoing.is_empty() => {
                // A worker that cannot hear is ending anyway: the reader above sees it.
                let count = written.unwrap_or(outgoing.len());
                outgoing.drain(..count);
                continue;
            }
            message = next_told(&mut agent), if agent_lives && outgoing.len() < OUTGOING_BYTES_MAX => {
                agent_lives = message.is_some();
                let frame = message.map(|message| frame::encode(&ToWorker::Agent { message: Box::new(message) }));
                outgoing.extend(frame.into_iter().flatten());
                continue;
            }
        };
        let Some(message) = message else { return Ok(None) };
        match message {
            FromWorker::Hello { version } if version == VERSION => {}
            FromWorker::Hello { .. } => return Err(WorkerError::OutOfTurn("it speaks another version")),
            FromWorker::Entered { enforcement } => said(Said::Entered(enforcement)),
            FromWorker::Output { stream, chunk } => match chunk.into_bytes() {
                Some(bytes) => said(Said::Output(stream, bytes)),
                None => return Err(WorkerError::OutOfTurn("a chunk of output is not base64")),
            },
            FromWorker::Agent { says } => match &agent {
                // Whoever does not hear it any more has its reasons.
                Some(link) => drop(link.says.send(*says).await),
                None => return Err(WorkerError::OutOfTurn("it speaks as an agent")),
            },
            FromWorker::Heartbeat => {}
            FromWorker::Finished { outcome } => return Ok(Some(outcome)),
        }
    }
}

/// The next message for an agent; `None` when there will be no more.
async fn next_told(agent: &mut Option<AgentLink>) -> Option<ToAgent> {
    agent.as_mut()?.told.recv().await
}

/// The grace to tell the worker, when `wanted` leaves less time than what it was told before.
fn tightened(told: Permit, wanted: Permit) -> Option<u64> {
    match (told, wanted) {
        (_, Permit::Run) => None,
        (Permit::Run, Permit::Cancel { grace_ms }) => Some(grace_ms),
        (Permit::Cancel { grace_ms: before }, Permit::Cancel { grace_ms }) => (grace_ms < before).then_some(grace_ms),
    }
}

/// Waits for a worker whose conversation is over; one that lingers is killed.
async fn goodbye(mut process: Process, mut output: impl AsyncRead + Unpin) -> String {
    let ended = async {
        match &mut process {
            Process::Started(child) => child.wait().await.map(|status| status.to_string()),
            Process::Forked(_) => {
                tokio::io::copy(&mut output, &mut tokio::io::sink()).await.map(|_| "its output has ended".to_owned())
            }
        }
    };
    match tokio::time::timeout(GOODBYE_MAX, ended).await {
        Ok(Ok(status)) => {
            if let Process::Forked(worker) = process {
                worker.let_go();
            }
            status
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            match process {
                Process::Started(mut child) => drop(child.kill().await),
                Process::Forked(worker) => worker.kill(),
            }
            format!("killed after {} s", GOODBYE_MAX.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_only_move_downwards() {
        let cancel = |grace_ms| Permit::Cancel { grace_ms };
        assert_eq!(tightened(Permit::Run, cancel(5000)), Some(5000));
        assert_eq!(tightened(cancel(5000), cancel(0)), Some(0));
        assert_eq!(tightened(cancel(0), cancel(5000)), None);
    }
}
