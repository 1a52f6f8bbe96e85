//! One command in one cage: what it prints goes to the caller and, line by line, to the reporters.

use std::path::PathBuf;
use std::time::Duration;

use swarm_plans::InstanceId;
use swarm_protocol::agent::{AgentJob, Envelope};
use swarm_protocol::{
    Ended, EnforcementReport, Job, NetworkSpec, Outcome, Refusal, SandboxSpec, Start, Stream, VERSION,
};
use tokio::sync::{mpsc, watch};

use super::space::{Space, Told, Verdict};
use crate::egress::{Beside, Door, Egress, Leads};
use crate::event::Progress;
use crate::model::broker::endpoint::Settings;
use crate::report::words;
use crate::secrets::Secrets;
use crate::state::StateDir;
use crate::threads;
use crate::worker_process::{AgentLink, Permit, Said, WorkerError, WorkerProgram};

/// Bytes of output that one command passes on; what exceeds it is left out in the middle.
pub const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// The longest line that reporters are shown, in bytes.
const LINE_BYTES_MAX: usize = 512;

/// Wall time of a command for which the plan says nothing.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(6 * 3600);

/// A command as its cage sees it.
#[derive(Debug, Clone)]
pub struct CagedCommand {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Where it starts, as the cage sees it.
    pub cwd: PathBuf,
    /// Its wall time; `None` is [`TIMEOUT_DEFAULT`].
    pub timeout: Option<Duration>,
    /// Where its door leads to; nowhere opens none.
    pub leads: Leads,
}

/// What is left of a command that ran.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// What really confined it; `None` when it was refused before its cage closed.
    pub enforcement: Option<EnforcementReport>,
    /// Things a person should know.
    pub notes: Vec<String>,
    /// That its disk was nearly full, where it failed; also among the notes.
    pub scarce: Option<String>,
    /// What it lacked, for people, where it failed and that says nothing about it, unless it has said itself how it ended.
    lacked: Option<String>,
}

impl Ran {
    /// Closes the job's door and keeps what was refused there.
    fn hear(&mut self, door: Option<Door>) {
        let (refusals, notes) = door.map(|door| door.close(&self.outcome.ended)).unwrap_or_default();
        self.outcome.refusals.extend(refusals);
        self.notes.extend(notes);
    }

    /// What is left of a command: one that lacked something has no end of its own.
    ///
    /// # Errors
    /// [`WorkerError::Lacking`].
    fn of_command(self) -> Result<Ran, WorkerError> {
        match self.lacked {
            Some(lacking) => Err(WorkerError::Lacking { lacking, ended: words::ended(&self.outcome.ended) }),
            None => Ok(self),
        }
    }

    /// What is left of an agent, who exits as a command that fails does in most of its ends. What it said last counts, and what it
    /// lacked meanwhile is a note beside it; one without a last word is judged as a command.
    ///
    /// # Errors
    /// [`WorkerError::Lacking`].
    pub fn of_agent(mut self, envelope: Option<&Envelope>) -> Result<Ran, WorkerError> {
        // What was said before a signal does not count.
        if envelope.is_none() || !matches!(self.outcome.ended, Ended::Exited { .. }) {
            return self.of_command();
        }
        let lacked = self.lacked.take();
        self.notes.extend(lacked.map(|lacked| format!("while it worked, {}", lacked.trim_end_matches(','))));
        Ok(self)
    }
}

/// Runs commands for one run.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// How workers are started.
    pub worker: WorkerProgram,
    /// Where their worktrees and their logs lie.
    pub state: StateDir,
    /// Whether work may go on.
    pub permit: watch::Receiver<Permit>,
    /// Hears what commands print. Bounded: a line that does not fit is not shown, only logged.
    pub progress: mpsc::Sender<Progress>,
    /// Milliseconds between SIGTERM and SIGKILL when a command's time is over.
    pub grace_ms: u64,
    /// Opens doors to the proxy.
    pub egress: Egress,
    /// What is masked in everything that commands print.
    pub secrets: Secrets,
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
        mut sandbox: SandboxSpec,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<Ran, WorkerError> {
        let door = self.door(&command.leads, &mut sandbox)?;
        let job = Job::Command { argv: command.argv, cwd: command.cwd };
        let mut ran = self.run_job(instance, job, command.timeout, sandbox, hear).await?;
        ran.hear(door);
        Ok(ran)
    }

    /// The same for an agent, who speaks through `link`; what was said there decides how it ended: [`Ran::of_agent`].
    ///
    /// # Errors
    /// As of [`Jobs::run`].
    #[expect(clippy::too_many_arguments, reason = "what a command has, and the link")]
    pub async fn run_agent(
        &self,
        instance: &InstanceId,
        job: AgentJob,
        link: AgentLink,
        timeout: Option<Duration>,
        leads: Leads,
        mut sandbox: SandboxSpec,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<Ran, WorkerError> {
        let door = self.door(&leads, &mut sandbox)?;
        let start = self.start(Job::Agent(Box::new(job)), timeout, sandbox);
        let mut ran = self.conduct(Some(instance), start, Some(link), hear).await?;
        ran.hear(door);
        Ok(ran)
    }

    /// Opens the cage's door, where it leads anywhere.
    fn door(&self, leads: &Leads, sandbox: &mut SandboxSpec) -> Result<Option<Door>, WorkerError> {
        if leads.is_nowhere() {
            return Ok(None);
        }
        let beside = if sandbox.network == NetworkSpec::Host { Beside::Host } else { Beside::Nothing };
        let door = self.egress.open(leads, sandbox.tier, beside).map_err(WorkerError::Door)?;
        if let Some(network) = door.network() {
            sandbox.network = network;
        }
        let models = door.models_env();
        sandbox.env.retain(|(known, _)| !models.iter().any(|(name, _)| name == known));
        sandbox.env.extend(models);
        for Settings { variable, place, file } in door.models_settings() {
            // A task that names a place of its own has its own settings.
            if !sandbox.env.iter().any(|(known, _)| known == variable) {
                sandbox.env.push((variable.to_owned(), sandbox.home.join(place).to_string_lossy().into_owned()));
                sandbox.home_files.push(file);
            }
        }
        let missing = |(name, _): &(String, String)| !sandbox.env.iter().any(|(known, _)| known == name);
        let added: Vec<_> = door.env().into_iter().filter(missing).collect();
        sandbox.env.extend(added);
        Ok(Some(door))
    }

    /// The same for any kind of job, without a door; `timeout` is as in [`CagedCommand`].
    ///
    /// # Errors
    /// As of [`Jobs::run`].
    pub async fn run_job(
        &self,
        instance: Option<&InstanceId>,
        job: Job,
        timeout: Option<Duration>,
        sandbox: SandboxSpec,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<Ran, WorkerError> {
        self.conduct(instance, self.start(job, timeout, sandbox), None, hear).await?.of_command()
    }

    fn start(&self, job: Job, timeout: Option<Duration>, sandbox: SandboxSpec) -> Start {
        Start {
            version: VERSION,
            job,
            sandbox,
            timeout_ms: Some(timeout.unwrap_or(TIMEOUT_DEFAULT).as_millis() as u64),
            grace_ms: self.grace_ms,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }

    async fn conduct(
        &self,
        instance: Option<&InstanceId>,
        start: Start,
        agent: Option<AgentLink>,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<Ran, WorkerError> {
        let (mut enforcement, mut notes) = (None, Vec::new());
        let mut last = LastLine::default();
        let mut show = |stream: Stream, bytes: &[u8]| {
            hear(stream, bytes);
            if let (Some(line), Some(instance)) = (last.feed(bytes), instance) {
                let _ = self.progress.try_send(Progress::Line { instance: instance.clone(), line });
            }
        };
        let mut masked = Stream::ALL.map(|stream| (stream, self.secrets.stream()));
        let mut told = Told::default();
        let mut said = |said: Said| match said {
            Said::Entered(report) => enforcement = Some(report),
            Said::Note(note) => notes.push(note),
            Said::Output(stream, bytes) => {
                told.hear(&bytes);
                let masks = masked.iter_mut().filter(|(of, _)| *of == stream);
                masks.for_each(|(_, mask)| show(stream, &mask.take(&bytes)));
            }
        };
        let mut space = Space::of(&self.state).await;
        let worked = space.during(self.worker.work(start, self.permit.clone(), &mut said, agent)).await;
        for (stream, mask) in &mut masked {
            show(*stream, &mask.finish());
        }
        let outcome = match worked {
            Err(WorkerError::Spawn(error)) if threads::is_no_more(&error) => {
                let refusal = Refusal::for_want_of_room("start the worker process", threads::told(&error));
                Outcome::of_nothing(Ended::Refused(refusal))
            }
            worked => worked?,
        };
        let (scarce, lacked) = match space.verdict(&outcome.ended, told.is_found()).await {
            Verdict::Enough => (None, None),
            Verdict::Scarce(note) => (Some(note), None),
            Verdict::Lacked(lacking) => (None, Some(lacking)),
        };
        notes.extend(scarce.clone());
        Ok(Ran { outcome, enforcement, notes, scarce, lacked })
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
    use swarm_protocol::agent::AgentStatus;

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
    fn a_full_disk_takes_no_agents_last_word() {
        let ended = |ended: Ended, lacked: Option<&str>| Ran {
            outcome: Outcome::of_nothing(ended),
            enforcement: None,
            notes: vec![],
            scarce: None,
            lacked: lacked.map(str::to_owned),
        };
        let ran = |lacked| ended(Ended::Exited { code: 1 }, lacked);
        let envelope = Envelope {
            status: AgentStatus::Blocked,
            detail: String::new(),
            summary: "it cannot be done".to_owned(),
            evidence: vec![],
            follow_ups: vec![],
            turns: 1,
        };
        let none_left = "no space was left for its worktree";
        let said = ran(Some(none_left)).of_agent(Some(&envelope)).expect("it said how it ended");
        assert_eq!(said.notes, ["while it worked, no space was left for its worktree"]);
        for cut_short in [ran(Some(none_left)).of_agent(None), ran(Some(none_left)).of_command()] {
            let error = cut_short.expect_err("nobody knows what it would have come to").to_string();
            assert_eq!(error, "no space was left for its worktree when it exited with 1");
        }
        let killed = ended(Ended::Signaled { signal: 7 }, Some(none_left)).of_agent(Some(&envelope));
        assert!(matches!(killed, Err(WorkerError::Lacking { .. })), "what it said before does not count");
        for plain in [ran(None).of_agent(Some(&envelope)), ran(None).of_agent(None), ran(None).of_command()] {
            assert!(plain.expect("it lacked nothing").notes.is_empty());
        }
    }

    #[test]
    fn an_endless_line_does_not_grow() {
        let mut last = LastLine::default();
        (0..100).for_each(|_| assert!(last.feed(&[b'x'; 1000]).is_none()));
        assert_eq!(last.feed(b"\n").map(|line| line.len()), Some(LINE_BYTES_MAX));
    }
}
