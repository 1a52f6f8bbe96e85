//! Watches over one job from its launch to the end of its last process: one poll(2) loop over the coordinator, the cage's
//! status and the job's two pipes.
//!
//! What ends a job is decided once and remembered ([`Cause`]); how it ends is always the same: SIGTERM to all of it, after
//! the grace SIGKILL to all of it, and if init itself does not answer, init is killed. `finished` is sent when init is
//! reaped, so when nothing of the job can be running any more.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use swarm_protocol::{Chunk, Ended, FromWorker, Job, Outcome, Refusal, Start, Stream, ToWorker};
use swarm_sandbox::{Caged, End, Enforcement, Policy, Program, Status, Usage};

use crate::airlock;
use crate::conversation::{Heard, Input, nothing_run, send};
use crate::output::{CHUNK_BYTES_MAX, Output};

/// A heartbeat follows this much silence.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long the cage may take to close. Mounts of folders on a dead network file system hang for ever.
const LAUNCH_MAX: Duration = Duration::from_secs(60);
/// How long init may take to kill everything before it is killed itself. Longer than its own hunt.
const KILL_PATIENCE: Duration = Duration::from_secs(15);
/// How much output is still read after the job: what fits into both pipes at their largest (`pipe-max-size`), so a
/// process that escaped with a writing end cannot keep us reading.
const DRAIN_BYTES_MAX: usize = 2 << 20;

/// Why a job is being ended before it ends itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    TimedOut,
    Cancelled,
}

/// Runs the job of `start` and gives its outcome.
///
/// # Errors
/// The coordinator is gone; the job has been killed.
pub fn supervise(start: &Start, input: &mut Input) -> io::Result<Outcome> {
    let Job::Command { argv, cwd } = &start.job;
    let refused =
        |step: &str, reason: String| Ok(nothing_run(Ended::Refused(Refusal { step: step.to_owned(), reason })));
    let policy = match airlock::policy(&start.sandbox) {
        Ok(policy) => policy,
        Err(error) => return refused("policy", error.to_string()),
    };
    let program = match Program::new(argv, &start.sandbox.env, cwd) {
        Ok(program) => program,
        Err(error) => return Ok(nothing_run(Ended::StartFailed { reason: error.to_string() })),
    };
    let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let output = swarm_sandbox::launch::Output { stdout: stdout_end, stderr: stderr_end };
    let caged = match swarm_sandbox::launch(&policy, &program, output) {
        Ok(caged) => caged,
        Err(error) => return refused(&error.step, error.reason),
    };
    // No process of the same user may look into the memory that holds the spec. Only now: a process that cannot be looked
    // into does not own its own files in /proc, which init needs for its id maps.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    for pipe in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    Watch {
        start,
        policy: &policy,
        caged: Some(caged),
        pipes: [(Stream::Stdout, Some(stdout)), (Stream::Stderr, Some(stderr))],
        output: Output::new(start.output_bytes_max),
        launched: Instant::now(),
        last_frame: Instant::now(),
        running_since: None,
        ending: None,
        verdict: None,
    }
    .run(input)
}

/// When the polite signal was sent and what comes next.
#[derive(Debug, Clone, Copy)]
struct Ending {
    cause: Cause,
    /// When everything is killed.
    kill_at: Instant,
    /// Whether that has been done; init itself is killed at this time plus [`KILL_PATIENCE`].
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    Killed,
    Destroyed,
}

struct Watch<'a> {
    start: &'a Start,
    policy: &'a Policy,
    /// `None` once reaped.
    caged: Option<Caged>,
    pipes: [(Stream, Option<OwnedFd>); 2],
    output: Output,
    launched: Instant,
    last_frame: Instant,
    running_since: Option<Instant>,
    ending: Option<Ending>,
    verdict: Option<Verdict>,
}

/// What the inside said about the end.
struct Verdict {
    ended: Ended,
    usage: Usage,
    orphans: u64,
    wall: Duration,
}

impl Watch<'_> {
    fn run(mut self, input: &mut Input) -> io::Result<Outcome> {
        self.hear_pending(input)?;
        while self.caged.is_some() {
            self.wait_once(input)?;
            self.keep_time()?;
        }
        self.drain()?;
        let verdict = self.verdict.unwrap_or_else(silence);
        let ended = match (self.ending, verdict.ended) {
            (Some(Ending { cause: Cause::TimedOut, .. }), Ended::Exited { .. } | Ended::Signaled { .. }) => {
                Ended::TimedOut
            }
            (Some(Ending { cause: Cause::Cancelled, .. }), _) => Ended::Cancelled,
            (_, ended) => ended,
        };
        let (output_bytes, output_bytes_dropped) = self.output.counts();
        for (stream, bytes) in self.output.into_tail() {
            for piece in bytes.chunks(CHUNK_BYTES_MAX) {
                send(&FromWorker::Output { stream, chunk: Chunk::new(piece) })?;
            }
        }
        Ok(Outcome {
            ended,
            wall_ms: milliseconds(verdict.wall),
            cpu_ms: verdict.usage.cpu_us / 1000,
            max_rss_kib: verdict.usage.max_rss_kib,
            output_bytes,
            output_bytes_dropped,
            orphans: verdict.orphans,
        })
    }

    /// Waits for the next thing to happen, or the next time to keep, and deals with all that has.
    fn wait_once(&mut self, input: &mut Input) -> io::Result<()> {
        let timeout = self.time_left();
        let caged = self.caged.as_ref().expect("the loop ends when the cage is reaped");
        // At most four descriptors; closed pipes leave the set.
        let mut fds = vec![
            PollFd::from_borrowed_fd(input.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(caged.status(), PollFlags::IN),
        ];
        let open: Vec<usize> = (0..self.pipes.len()).filter(|&index| self.pipes[index].1.is_some()).collect();
        fds.extend(
            open.iter().filter_map(|&index| self.pipes[index].1.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN))),
        );
        match poll(&mut fds, Some(&timespec(timeout))) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let happened: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if happened[0] {
            self.listen(input)?;
        }
        for (position, &index) in open.iter().enumerate() {
            if happened[2 + position] {
                self.pass_on(index)?;
            }
        }
        if happened[1] { self.hear_inside() } else { Ok(()) }
    }

    /// The nearest moment at which something is due although nothing happens.
    fn time_left(&self) -> Duration {
        let now = Instant::now();
        let heartbeat = self.last_frame + HEARTBEAT;
        let deadline = self.ending.is_none().then(|| self.deadline()).flatten();
        let ending = self.ending.and_then(|ending| match ending.stage {
            Stage::Asked => Some(ending.kill_at),
            Stage::Killed => Some(ending.kill_at + KILL_PATIENCE),
            Stage::Destroyed => None,
        });
        let launch = self.is_closing().then(|| self.launched + LAUNCH_MAX);
        let next = [deadline, ending, launch].into_iter().flatten().fold(heartbeat, Instant::min);
        next.saturating_duration_since(now)
    }

    /// Whether the cage is still being closed.
    fn is_closing(&self) -> bool {
        self.running_since.is_none() && self.verdict.is_none()
    }

    fn deadline(&self) -> Option<Instant> {
        self.running_since?.checked_add(Duration::from_millis(self.start.timeout_ms?))
    }

    /// Does what is due.
    fn keep_time(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if let Some(caged) = self.caged.as_ref().filter(|_| self.is_closing() && now >= self.launched + LAUNCH_MAX) {
            caged.destroy();
            let reason = format!("the cage was not closed within {} s", LAUNCH_MAX.as_secs());
            let ended = Ended::Refused(Refusal { step: "launch".to_owned(), reason });
            self.verdict = Some(Verdict { ended, ..silence() });
        }
        if self.ending.is_none() && self.deadline().is_some_and(|deadline| now >= deadline) {
            self.end(Cause::TimedOut, Duration::from_millis(self.start.grace_ms));
        }
        if let (Some(ending), Some(caged)) = (&mut self.ending, &self.caged) {
            match ending.stage {
                Stage::Asked if now >= ending.kill_at => {
                    caged.kill();
                    ending.stage = Stage::Killed;
                }
                Stage::Killed if now >= ending.kill_at + KILL_PATIENCE => {
                    caged.destroy();
                    ending.stage = Stage::Destroyed;
                }
                Stage::Asked | Stage::Killed | Stage::Destroyed => {}
            }
        }
        if now >= self.last_frame + HEARTBEAT { self.tell(&FromWorker::Heartbeat) } else { Ok(()) }
    }

    /// Begins to end the job; a second reason changes nothing but may shorten the grace.
    fn end(&mut self, cause: Cause, grace: Duration) {
        let kill_at = Instant::now() + grace;
        match &mut self.ending {
            Some(ending) => ending.kill_at = ending.kill_at.min(kill_at),
            None => {
                if let Some(caged) = self.caged.as_ref().filter(|_| !grace.is_zero()) {
                    caged.terminate();
                }
                self.ending = Some(Ending { cause, kill_at, stage: Stage::Asked });
            }
        }
    }

    fn listen(&mut self, input: &mut Input) -> io::Result<()> {
        match input.read()? {
            Heard::Nothing => Ok(()),
            Heard::Message(message) => {
                self.hear(&message);
                self.hear_pending(input)
            }
            // Nobody is there to hear the rest: dropping the cage kills all of it.
            Heard::End => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the coordinator is gone")),
        }
    }

    /// Hears what came in one read together with an earlier message: poll(2) will not tell of it again.
    fn hear_pending(&mut self, input: &mut Input) -> io::Result<()> {
        while let Some(message) = input.next_message()? {
            self.hear(&message);
        }
        Ok(())
    }

    fn hear(&mut self, message: &ToWorker) {
        match message {
            ToWorker::Start(_) => {}
            ToWorker::Cancel { grace_ms } => self.end(Cause::Cancelled, Duration::from_millis(*grace_ms)),
        }
    }

    fn hear_inside(&mut self) -> io::Result<()> {
        let Some(caged) = self.caged.as_mut() else { return Ok(()) };
        match caged.read() {
            Ok(words) => words.into_iter().try_for_each(|word| self.take_word(word)),
            Err(_) => {
                let caged = self.caged.take().expect("it was there a line ago");
                caged.reap()
            }
            .map_err(Into::into),
        }
    }

    fn take_word(&mut self, word: Status) -> io::Result<()> {
        let wall = self.running_since.map(|since| since.elapsed()).unwrap_or_default();
        let told = |ended| Verdict { ended, usage: Usage::default(), orphans: 0, wall };
        match word {
            Status::Ready { landlock_abi } => {
                self.running_since = Some(Instant::now());
                let enforcement = airlock::report(Enforcement::of(self.policy, landlock_abi));
                return self.tell(&FromWorker::Entered { enforcement });
            }
            Status::Refused { step, reason } => {
                self.verdict.get_or_insert(told(Ended::Refused(Refusal { step, reason })));
            }
            Status::StartFailed { errno } => {
                let reason = start_failed(&self.start.job, errno);
                self.verdict.get_or_insert(told(Ended::StartFailed { reason }));
            }
            Status::Ended { end, usage, orphans } => {
                let ended = match end {
                    End::Exited(code) => Ended::Exited { code },
                    End::Signaled(signal) => Ended::Signaled { signal },
                };
                // Before `Ready` no program ran, whatever ended the process.
                let ended = if self.running_since.is_some() { ended } else { silence().ended };
                self.verdict.get_or_insert(Verdict { ended, usage, orphans, wall });
            }
        }
        Ok(())
    }

    /// Reads one pipe once and passes on what is due.
    fn pass_on(&mut self, index: usize) -> io::Result<usize> {
        let (stream, pipe) = &mut self.pipes[index];
        let Some(fd) = pipe else { return Ok(0) };
        let mut bytes = [0; CHUNK_BYTES_MAX];
        let count = match rustix::io::read(fd.as_fd(), &mut bytes) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            *pipe = None;
            return Ok(0);
        }
        let stream = *stream;
        let now = self.output.take(stream, &bytes[..count]);
        if !now.is_empty() {
            let frame = FromWorker::Output { stream, chunk: Chunk::new(now) };
            self.tell(&frame)?;
        }
        Ok(count)
    }

    /// Reads what is still in the pipes when everything inside is dead.
    fn drain(&mut self) -> io::Result<()> {
        for index in 0..self.pipes.len() {
            let mut left = DRAIN_BYTES_MAX;
            loop {
                match self.pass_on(index)? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
                if left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, message: &FromWorker) -> io::Result<()> {
        self.last_frame = Instant::now();
        send(message)
    }
}

/// The inside ended without saying how.
fn silence() -> Verdict {
    let refusal = Refusal {
        step: "launch".to_owned(),
        reason: "the cage was killed before it could report (out of memory?)".to_owned(),
    };
    Verdict { ended: Ended::Refused(refusal), usage: Usage::default(), orphans: 0, wall: Duration::ZERO }
}

fn start_failed(job: &Job, errno: i32) -> String {
    let Job::Command { argv, .. } = job;
    let program = argv.first().map_or("", String::as_str);
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT => format!("{program}: not found inside the sandbox"),
        Errno::ACCESS => format!("{program}: not executable inside the sandbox"),
        error => format!("{program}: {error}"),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
