//! Watches over one job from its launch to the end of its last process: one poll(2) loop over the coordinator, the cage's
//! status and the job's two pipes.
//!
//! What ends a job is decided once and remembered ([`Cause`]); how it ends is always the same: SIGTERM to all of it, after
//! the grace SIGKILL to all of it, and if init itself does not answer, init is killed. `finished` is sent when init has said
//! that all of the job is dead, or has ended itself; where something outlived even that, it says so.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior};
use swarm_protocol::agent::ToAgent;
use swarm_protocol::{Chunk, Ended, FromWorker, Job, Outcome, Refusal, SeenRefusal, Start, Stream, ToWorker, WasmJob};
use swarm_sandbox::watchdog::bytes as people_bytes;
use swarm_sandbox::{Breach, Caged, End, Enforcement, Grade, Left, Policy, Remains, Status, Usage};

use crate::airlock;
use crate::channel::{Channel, Heard as Said, Nonsense};
use crate::conversation::{Heard, Input, send};
use crate::output::{CHUNK_BYTES_MAX, Output};
use crate::refusals::Tail;
use crate::standby::{Standby, Successor};
use crate::wasm;
use crate::work::{Launched, Pipes, launch};

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
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    TimedOut,
    Cancelled,
    Limit(Broken),
}

/// A limit that the job broke.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken {
    /// As plans write it.
    limit: String,
    /// What was seen, for people.
    detail: String,
}

/// Runs the job of `start` and gives its outcome; everything of the job is dead then, or said not to be.
///
/// # Errors
/// The coordinator is gone; the job has been killed.
pub fn supervise(start: &Start, input: &mut Input, standby: &mut Standby) -> io::Result<(Outcome, Option<Remains>)> {
    let policy = match airlock::policy(&start.sandbox) {
        Ok(policy) => policy,
        Err(error) => {
            let ended = Ended::Refused(Refusal::new("policy", error.to_string()));
            return Ok((Outcome::of_nothing(ended), None));
        }
    };
    let (Launched { caged, pipes, channel }, successor) = match launch(start, &policy, input, standby)? {
        Ok(launched) => launched,
        Err(ended) => return Ok((Outcome::of_nothing(ended), None)),
    };
    // No process of the same user may look into the memory that holds the spec. Only now: a process that cannot be looked
    // into does not own its own files in /proc, which init needs for its id maps.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    for pipe in pipes.iter().filter_map(|(_, pipe)| pipe.as_ref()) {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    Watch {
        start,
        policy: &policy,
        caged: Some(caged),
        successor,
        remains: None,
        pipes,
        channel,
        output: Output::new(start.output_bytes_max),
        tail: Tail::default(),
        launched: Instant::now(),
        last_frame: Instant::now(),
        running_since: None,
        ending: None,
        verdict: None,
        last_breach: None,
        left: Left::Nothing,
        lacked_room: false,
        hunted: 0,
    }
    .run(input)
}

/// When the polite signal was sent and what comes next.
#[derive(Debug, Clone)]
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
    /// `None` once all of it is dead.
    caged: Option<Caged>,
    /// What is left of it then.
    remains: Option<Remains>,
    /// Who is to make a cage like this one, as soon as this one is closed.
    successor: Option<Successor>,
    pipes: Pipes,
    /// Only where the job is an agent.
    channel: Option<Channel>,
    output: Output,
    /// What is looked through when the job fails.
    tail: Tail,
    launched: Instant,
    last_frame: Instant,
    running_since: Option<Instant>,
    ending: Option<Ending>,
    verdict: Option<Verdict>,
    /// What was found when everything was dead.
    last_breach: Option<Breach>,
    /// Whether everything was.
    left: Left,
    /// Whether its user had as many processes as it may, at some time.
    lacked_room: bool,
    /// How many processes had to be killed that init had left.
    hunted: u64,
}

/// What the inside said about the end.
struct Verdict {
    ended: Ended,
    usage: Usage,
    orphans: u64,
    wall: Duration,
}

impl Watch<'_> {
    fn run(mut self, input: &mut Input) -> io::Result<(Outcome, Option<Remains>)> {
        self.hear_pending(input)?;
        while self.caged.is_some() {
            self.wait_once(input)?;
            self.keep_time()?;
        }
        self.drain()?;
        let ran = self.running_since.is_some();
        let verdict = self.verdict.unwrap_or_else(|| silence(ran));
        let cause = self.ending.map(|ending| ending.cause);
        let (ended, limit_reached) = conclude(cause, verdict.ended, self.last_breach, self.start);
        let left_running = left_running(self.left);
        let ended = believed(ended, left_running.as_deref());
        let ended = if self.lacked_room { without_room(ended) } else { ended };
        let refusals = match ended {
            Ended::Exited { code: 0 } | Ended::Cancelled | Ended::Refused(_) => Vec::new(),
            _ => refusals(self.tail, self.start, self.policy),
        };
        let (output_bytes, output_bytes_dropped) = self.output.counts();
        if let Some(mark) = self.output.mark() {
            send(&FromWorker::Output { stream: Stream::Stderr, chunk: Chunk::new(mark.as_bytes()) })?;
        }
        for (stream, bytes) in self.output.into_tail() {
            for piece in bytes.chunks(CHUNK_BYTES_MAX) {
                send(&FromWorker::Output { stream, chunk: Chunk::new(piece) })?;
            }
        }
        let outcome = Outcome {
            ended,
            wall_ms: milliseconds(verdict.wall),
            cpu_ms: verdict.usage.cpu_us / 1000,
            max_rss_kib: verdict.usage.max_rss_kib,
            output_bytes,
            output_bytes_dropped,
            orphans: verdict.orphans + self.hunted,
            refusals,
            limit_reached,
            left_running,
        };
        Ok((outcome, self.remains))
    }

    /// Waits for the next thing to happen, or the next time to keep, and deals with all that has.
    fn wait_once(&mut self, input: &mut Input) -> io::Result<()> {
        let timeout = self.time_left();
        let caged = self.caged.as_ref().expect("the loop ends when the cage is reaped");
        // At most five descriptors; what is closed leaves the set.
        let mut fds = vec![
            PollFd::from_borrowed_fd(input.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(caged.status(), PollFlags::IN),
        ];
        let open: Vec<usize> = (0..self.pipes.len()).filter(|&index| self.pipes[index].1.is_some()).collect();
        fds.extend(
            open.iter().filter_map(|&index| self.pipes[index].1.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN))),
        );
        let channel = self.channel.as_ref().and_then(Channel::awaits);
        fds.extend(channel.map(|(fd, wanted)| PollFd::from_borrowed_fd(fd, wanted)));
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
        if happened.get(2 + open.len()) == Some(&true) {
            self.hear_agent()?;
        }
        if happened[1] { self.hear_inside() } else { Ok(()) }
    }

    /// The nearest moment at which something is due although nothing happens.
    fn time_left(&self) -> Duration {
        let now = Instant::now();
        let heartbeat = self.last_frame + HEARTBEAT;
        let deadline = self.ending.is_none().then(|| self.deadline()).flatten();
        let ending = self.ending.as_ref().and_then(|ending| match ending.stage {
            Stage::Asked => Some(ending.kill_at),
            Stage::Killed => Some(ending.kill_at + KILL_PATIENCE),
            Stage::Destroyed => None,
        });
        let launch = self.is_closing().then(|| self.launched + LAUNCH_MAX);
        let look = self.caged.as_ref().filter(|_| self.is_watched()).and_then(Caged::next_look);
        let next = [deadline, ending, launch, look].into_iter().flatten().fold(heartbeat, Instant::min);
        next.saturating_duration_since(now)
    }

    /// Whether the cage is still being closed.
    fn is_closing(&self) -> bool {
        self.running_since.is_none() && self.verdict.is_none()
    }

    /// Whether the job's limits are looked after: while its program runs and nothing has been decided.
    fn is_watched(&self) -> bool {
        self.running_since.is_some() && self.ending.is_none() && self.verdict.is_none()
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
            let ended = Ended::Refused(Refusal::new("launch", reason));
            self.verdict = Some(Verdict { ended, ..silence(false) });
        }
        // What has ended is not too slow, however long its end was waited for.
        if self.caged.is_some() && self.ending.is_none() && self.deadline().is_some_and(|deadline| now >= deadline) {
            self.end(Cause::TimedOut, Duration::from_millis(self.start.grace_ms));
        }
        self.look_after_limits(now);
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

    fn look_after_limits(&mut self, now: Instant) {
        if !self.is_watched() {
            return;
        }
        if let Some(bound) = self.start.sandbox.limits.output_bytes.filter(|bound| self.output.counts().0 > *bound) {
            let detail = format!("it printed more than {}", people_bytes(Some(bound)));
            return self.end(Cause::Limit(Broken { limit: "output".to_owned(), detail }), Duration::ZERO);
        }
        let Some(caged) = self.caged.as_mut().filter(|caged| caged.next_look().is_some_and(|at| now >= at)) else {
            return;
        };
        if let Some(breach) = caged.look() {
            self.end(Cause::Limit(broken(breach)), Duration::ZERO);
        }
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
            ToWorker::Agent { message } => self.tell_agent(message),
        }
    }

    fn tell_agent(&mut self, message: &ToAgent) {
        let Some(channel) = &mut self.channel else { return };
        if let Err(nonsense) = channel.tell(message) {
            self.end_nonsense(nonsense);
        }
    }

    /// Takes part in the conversation with the agent: once in each direction.
    fn hear_agent(&mut self) -> io::Result<bool> {
        let Some(channel) = &mut self.channel else { return Ok(false) };
        channel.flush();
        match channel.read() {
            Ok(Said::Frames(frames)) => {
                let any = !frames.is_empty();
                frames.iter().try_for_each(|frame| self.tell(frame))?;
                Ok(any)
            }
            Ok(Said::Closed) => Ok(false),
            Err(nonsense) => {
                // Nothing of it is heard any more.
                self.channel = None;
                self.end_nonsense(nonsense);
                Ok(false)
            }
        }
    }

    fn end_nonsense(&mut self, nonsense: Nonsense) {
        let detail = format!("it did not keep to its protocol: {nonsense}");
        self.end(Cause::Limit(Broken { limit: "agent".to_owned(), detail }), Duration::ZERO);
    }

    fn hear_inside(&mut self) -> io::Result<()> {
        let Some(caged) = self.caged.as_mut() else { return Ok(()) };
        match caged.read() {
            Ok(words) => words.into_iter().try_for_each(|word| self.take_word(word)),
            Err(_) => {
                let caged = self.caged.take().expect("it was there a line ago");
                let (reaped, remains) = caged.finish()?;
                self.remains = Some(remains);
                (self.last_breach, self.left) = (reaped.breach, reaped.left);
                (self.lacked_room, self.hunted) = (reaped.lacked_room, reaped.hunted);
                Ok(())
            }
        }
    }

    fn take_word(&mut self, word: Status) -> io::Result<()> {
        let wall = self.running_since.map(|since| since.elapsed()).unwrap_or_default();
        let told = |ended| Verdict { ended, usage: Usage::default(), orphans: 0, wall };
        match word {
            Status::Ready { landlock_abi, metadata } => {
                self.running_since = Some(Instant::now());
                if let Some(successor) = self.successor.take() {
                    successor.wake();
                }
                let mut enforcement = airlock::report(Enforcement::of(self.policy, landlock_abi, metadata));
                if let Job::Wasm(_) = self.start.job {
                    enforcement.enforced.push("wasm".to_owned());
                }
                return self.tell(&FromWorker::Entered { enforcement });
            }
            Status::Refused(refused) => {
                self.verdict.get_or_insert(told(Ended::Refused(airlock::refusal(refused))));
            }
            Status::StartFailed { errno } => {
                let reason = start_failed(&self.start.job, errno);
                if Errno::from_raw_os_error(errno) == Errno::NOENT {
                    self.tail.lacks(program_name(&self.start.job));
                }
                self.verdict.get_or_insert(told(Ended::StartFailed { reason }));
            }
            Status::Limit { limit, detail } => {
                self.verdict.get_or_insert(told(wasm::limit(limit, detail)));
            }
            Status::NotRunnable { reason } => {
                let reason = format!("{}: {reason}", program_name(&self.start.job));
                self.verdict.get_or_insert(told(Ended::StartFailed { reason }));
            }
            Status::Ended { end, usage, orphans, .. } => {
                let ended = match end {
                    End::Exited(code) => Ended::Exited { code },
                    End::Signaled(signal) => Ended::Signaled { signal },
                };
                // Before `Ready` no program ran, whatever ended the process.
                let ended = if self.running_since.is_some() { ended } else { silence(false).ended };
                // How it ended may have been told before.
                let ended = self.verdict.take().map_or(ended, |told| told.ended);
                self.verdict = Some(Verdict { ended, usage, orphans, wall });
            }
        }
        Ok(())
    }

    /// Reads one pipe once and passes on what is due.
    fn pass_on(&mut self, index: usize) -> io::Result<usize> {
        let (stream, pipe) = &mut self.pipes[index];
        let Some(fd) = pipe else { return Ok(0) };
        // Left as it is: of most jobs little is read, and a page that nothing is read into costs nothing.
        let mut bytes = Vec::with_capacity(CHUNK_BYTES_MAX);
        let count = match rustix::io::read(fd.as_fd(), spare_capacity(&mut bytes)) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            *pipe = None;
            return Ok(0);
        }
        let stream = *stream;
        self.tail.take(&bytes);
        let now = self.output.take(stream, &bytes);
        if !now.is_empty() {
            let frame = FromWorker::Output { stream, chunk: Chunk::new(now) };
            self.tell(&frame)?;
        }
        Ok(count)
    }

    /// Reads what is still in the pipes when everything inside is dead.
    fn drain(&mut self) -> io::Result<()> {
        // What a socket holds is bounded, and nobody is left who could write.
        while self.channel.as_ref().is_some_and(|channel| channel.awaits().is_some()) {
            self.hear_agent()?;
        }
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

/// What the cage kept from a job that failed, as far as its output tells.
fn refusals(tail: Tail, start: &Start, policy: &Policy) -> Vec<SeenRefusal> {
    let (cwd, argv) = match &start.job {
        Job::Command { cwd, argv } | Job::Shell { cwd, argv } => (&**cwd, &**argv),
        Job::Wasm(_) | Job::Agent(_) => (&**start.sandbox.worktree.at(), &[][..]),
    };
    let path = start.sandbox.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
    tail.refusals(policy, (cwd, argv), path)
}

fn broken(breach: Breach) -> Broken {
    Broken { limit: breach.limit.to_string(), detail: breach.detail }
}

/// How the job ended, of all that is known, and a limit that it reached and coped with.
fn conclude(cause: Option<Cause>, said: Ended, last: Option<Breach>, start: &Start) -> (Ended, Option<String>) {
    let limit = |broken: Broken| Ended::Limit { limit: broken.limit, detail: broken.detail };
    let ran = matches!(said, Ended::Exited { .. } | Ended::Signaled { .. });
    let passed = said == Ended::Exited { code: 0 };
    match (cause, last) {
        (Some(Cause::Cancelled), _) => (Ended::Cancelled, None),
        (Some(Cause::Limit(broken)), _) => (limit(broken), None),
        (_, Some(breach)) if breach.grade == Grade::Broke => (limit(broken(breach)), None),
        (Some(Cause::TimedOut), _) if ran => (Ended::TimedOut, None),
        (_, Some(breach)) if ran && !passed => (limit(broken(breach)), None),
        (_, Some(breach)) => (said, Some(format!("{}: {}", breach.limit, breach.detail))),
        (_, None) => (file_too_large(&said, start).map_or(said, limit), None),
    }
}

/// The kernel ends a program that makes a single file larger than it may; a shell passes that on as 128 and the signal.
fn file_too_large(said: &Ended, start: &Start) -> Option<Broken> {
    let bound = start.sandbox.limits.disk_bytes?;
    let signal = Signal::XFSZ.as_raw();
    let is = *said == Ended::Signaled { signal } || *said == Ended::Exited { code: 128 + signal };
    let detail = || format!("a file grew beyond {}", people_bytes(Some(bound)));
    is.then(|| Broken { limit: "disk".to_owned(), detail: detail() })
}

/// What is said when processes of a job could not be ended.
fn left_running(left: Left) -> Option<String> {
    let words = "some of its processes outlived every attempt to end them, and may still run and write";
    (left == Left::MayRun).then(|| words.to_owned())
}

/// How the job ended, where something of it may still run: what it left is not to be believed, whatever its first process said.
/// Where nothing of its own ended it, a process that cannot be killed is a fault of the machine.
fn believed(ended: Ended, left_running: Option<&str>) -> Ended {
    match (ended, left_running) {
        (Ended::Exited { .. } | Ended::Signaled { .. }, Some(reason)) => Ended::Refused(Refusal::new("work", reason)),
        (ended, _) => ended,
    }
}

/// How a job ended while others left its processes no room: what it failed with says nothing about it.
fn without_room(ended: Ended) -> Ended {
    let words = match ended {
        Ended::Exited { code } if code != 0 => format!("it exited with {code}"),
        Ended::Signaled { signal } => format!("signal {signal} ended it"),
        ended => return ended,
    };
    let reason = format!(
        "{words} while there were as many processes and threads as its user may have (ulimit -u), or a control group around its own \
         (pids.max): its own forks may have failed"
    );
    Ended::Refused(Refusal::for_want_of_room("work", reason))
}

/// The inside ended without saying how, before its program ran or while it did.
fn silence(ran: bool) -> Verdict {
    let reason = "the cage was killed before it could report (out of memory?)";
    let refusal = Refusal::new(if ran { "work" } else { "launch" }, reason);
    Verdict { ended: Ended::Refused(refusal), usage: Usage::default(), orphans: 0, wall: Duration::ZERO }
}

fn start_failed(job: &Job, errno: i32) -> String {
    let program = program_name(job);
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT => format!("{program}: not found inside the sandbox"),
        Errno::ACCESS => format!("{program}: not executable inside the sandbox"),
        error => format!("{program}: {error}"),
    }
}

fn program_name(job: &Job) -> &str {
    match job {
        Job::Command { argv: words, .. } | Job::Shell { argv: words, .. } | Job::Wasm(WasmJob { args: words, .. }) => {
            words.first().map_or("", String::as_str)
        }
        Job::Agent(_) => "agent",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_still_run_is_said_beside_any_end_and_is_no_violation_of_its_own() {
        let said = left_running(Left::MayRun).expect("something is left");
        assert_eq!(left_running(Left::Nothing), None);
        let broke = Ended::Limit { limit: "memory".to_owned(), detail: "too much".to_owned() };
        for ended in [Ended::Cancelled, Ended::TimedOut, broke] {
            assert_eq!(believed(ended.clone(), Some(&said)), ended);
        }
        assert_eq!(without_room(Ended::Cancelled), Ended::Cancelled);
        assert_eq!(without_room(Ended::Exited { code: 0 }), Ended::Exited { code: 0 }, "it had all it needed");
        assert!(matches!(without_room(Ended::Exited { code: 2 }), Ended::Refused(refusal) if refusal.lacks_room));
        for ended in [Ended::Exited { code: 0 }, Ended::Exited { code: 1 }, Ended::Signaled { signal: 9 }] {
            assert_eq!(believed(ended.clone(), None), ended);
            let machine = believed(ended, Some(&said));
            assert!(matches!(&machine, Ended::Refused(refusal) if refusal.reason == said), "{machine:?}");
        }
    }
}
