//! One command in one cage: what it prints goes to the caller and, line by line, to the reporters.

use std::path::PathBuf;
use std::time::Duration;

use swarm_plans::InstanceId;
use swarm_protocol::{EnforcementReport, Job, Outcome, SandboxSpec, Start, Stream, VERSION};
use tokio::sync::{mpsc, watch};

use crate::event::Progress;
use crate::worker_process::{Permit, Said, WorkerError, WorkerProgram};

/// Bytes of output that one command passes on; what exceeds it is left out in the middle.
pub const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// The longest line that reporters are shown, in bytes.
const LINE_BYTES_MAX: usize = 512;

/// Wall time of a command for which the plan says nothing.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(6 * 3600);

/// A command as its cage sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CagedCommand {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Where it starts, as the cage sees it.
    pub cwd: PathBuf,
    /// Its wall time; `None` is [`TIMEOUT_DEFAULT`].
    pub timeout: Option<Duration>,
}

/// What is left of a command that ran.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// What really confined it; `None` when it was refused before its cage closed.
    pub enforcement: Option<EnforcementReport>,
}

/// Runs commands for one run.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// How workers are started.
    pub worker: WorkerProgram,
    /// Whether work may go on.
    pub permit: watch::Receiver<Permit>,
    /// Hears what commands print. Bounded: a line that does not fit is not shown, only logged.
    pub progress: mpsc::Sender<Progress>,
    /// Milliseconds between SIGTERM and SIGKILL when a command's time is over.
    pub grace_ms: u64,
}

impl Jobs {
    /// Runs `command` in `sandbox` to its end; `hear` gets what it prints.
    ///
    /// # Errors
    /// [`WorkerError`] when there is no result: a failure of ours or of the machine.
    pub async fn run(
        &self,
        instance: Option<&InstanceId>,
        command: CagedCommand,
        sandbox: SandboxSpec,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<Ran, WorkerError> {
        let start = Start {
            version: VERSION,
            job: Job::Command { argv: command.argv, cwd: command.cwd },
            sandbox,
            timeout_ms: Some(command.timeout.unwrap_or(TIMEOUT_DEFAULT).as_millis() as u64),
            grace_ms: self.grace_ms,
            output_bytes_max: OUTPUT_BYTES_MAX,
        };
        let mut enforcement = None;
        let mut last = LastLine::default();
        let mut said = |said: Said| match said {
            Said::Entered(report) => enforcement = Some(report),
            Said::Output(stream, bytes) => {
                hear(stream, &bytes);
                if let (Some(line), Some(instance)) = (last.feed(&bytes), instance) {
                    let _ = self.progress.try_send(Progress::Line { instance: instance.clone(), line });
                }
            }
        };
        let outcome = self.worker.work(start, self.permit.clone(), &mut said).await?;
        Ok(Ran { outcome, enforcement })
    }

    /// Tells reporters what is being done.
    pub fn phase(&self, instance: Option<&InstanceId>, phase: impl Into<String>) {
        let _ = self.progress.try_send(Progress::Phase { instance: instance.cloned(), phase: phase.into() });
    }
}

/// Finds the last complete line in a stream of chunks.
#[derive(Debug, Default)]
struct LastLine {
    open: Vec<u8>,
}

impl LastLine {
    /// The last line that this chunk completes, cut to [`LINE_BYTES_MAX`]; lines of white space only are passed over.
    fn feed(&mut self, chunk: &[u8]) -> Option<Vec<u8>> {
        let Some(end) = chunk.iter().rposition(|&byte| byte == b'\n') else {
            self.keep(chunk);
            return None;
        };
        let mut lines: Vec<&[u8]> = chunk[..end].split(|&byte| byte == b'\n').collect();
        let mut first = std::mem::take(&mut self.open);
        first.extend_from_slice(lines[0]);
        lines[0] = &first;
        let line = lines.iter().rev().find(|line| !line.trim_ascii().is_empty());
        let line = line.map(|line| line[..line.len().min(LINE_BYTES_MAX)].to_vec());
        self.keep(&chunk[end + 1..]);
        line
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.open.len());
        self.open.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(chunks: &[&str]) -> Vec<Option<String>> {
        let mut last = LastLine::default();
        chunks.iter().map(|chunk| last.feed(chunk.as_bytes()).map(|line| String::from_utf8(line).unwrap())).collect()
    }

    #[test]
    fn the_last_complete_line_is_shown() {
        assert_eq!(fed(&["a\nb\nc"]), [Some("b".to_owned())]);
        assert_eq!(fed(&["a", "b\n", "\n  \n"]), [None, Some("ab".to_owned()), None]);
    }

    #[test]
    fn an_endless_line_does_not_grow() {
        let mut last = LastLine::default();
        (0..100).for_each(|_| assert!(last.feed(&[b'x'; 1000]).is_none()));
        assert_eq!(last.feed(b"\n").map(|line| line.len()), Some(LINE_BYTES_MAX));
    }
}
