//! A program in a cage on a terminal of its own. The person's terminal is passed through byte by byte, in both directions;
//! the program never gets a descriptor of it, so it can neither type into it nor change how it works.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use swarm_orchestrator::settings::GRACE_MS;
use swarm_orchestrator::signal::interrupts;
use swarm_orchestrator::threads::{self, NO_MORE_HINT};
use swarm_protocol::{FrameReader, FromWorker, Job, Outcome, SandboxSpec, Start, ToWorker, VERSION, encode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::commands::caged::Ran;
use crate::commands::failure::Failure;
use crate::commands::surroundings::THIS_PROGRAM;

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 16 << 10;

fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> Failure {
    move |error| Failure::environment(format!("{what}: {error}"), None)
}

/// The person's terminal, raw as long as this lives. What was typed and not read yet is thrown away at the end: an answer that
/// the program lured out of the terminal is not typed into the person's shell.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self, Failure> {
        let before = tcgetattr(std::io::stdin()).map_err(failed("look at the terminal"))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed("set the terminal"))?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell when the terminal is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Runs `argv` in a cage, on a terminal of its own, to its end.
///
/// # Errors
/// There is no terminal, or no result: a failure of ours or of the machine.
pub fn run(argv: Vec<String>, cwd: PathBuf, sandbox: SandboxSpec) -> Result<Ran, Failure> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).map_err(failed("make a terminal"))?;
    grantpt(&ours).and_then(|()| unlockpt(&ours)).map_err(failed("make a terminal"))?;
    let theirs = ioctl_tiocgptpeer(&ours, flags).map_err(failed("make a terminal"))?;
    let raw = Raw::enter()?;
    follow_size(&ours)?;
    let start = Start {
        version: VERSION,
        job: Job::Shell { argv, cwd },
        sandbox,
        timeout_ms: None,
        grace_ms: GRACE_MS,
        output_bytes_max: 0,
    };
    let outcome = converse(start, &ours, theirs);
    drop(raw);
    Ok(Ran { outcome: outcome?, interrupted: None })
}

fn follow_size(ours: &OwnedFd) -> Result<(), Failure> {
    let size = tcgetwinsize(std::io::stdin()).map_err(failed("measure the terminal"))?;
    tcsetwinsize(ours, size).map_err(failed("measure the terminal"))
}

/// Starts the worker and passes everything on until it has its result.
fn converse(start: Start, ours: &OwnedFd, theirs: OwnedFd) -> Result<Outcome, Failure> {
    let lost = |error: &dyn std::fmt::Display| Failure::environment(format!("talk to the worker: {error}"), None);
    let mut signals = Signals::listen()?;
    let mut child = Command::new(THIS_PROGRAM)
        .args([swarm_worker::SUBCOMMAND, "--stdio"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The worker knows the terminal by this place.
        .stderr(Stdio::from(theirs))
        .spawn()
        .map_err(|error| lost(&error))?;
    let mut input = child.stdin.take().expect("piped above");
    let output = child.stdout.take().expect("piped above");
    input.write_all(&encode(&ToWorker::Start(Box::new(start)))).map_err(|error| lost(&error))?;
    let copy = |fd: &OwnedFd| fd.as_fd().try_clone_to_owned().map(File::from).map_err(|error| lost(&error));
    let (from, to) = (copy(ours)?, copy(ours)?);
    // It waits for a key when all is over, and ends with the program.
    thread("typed", move || pass(std::io::stdin(), to))?;
    let shown = thread("shown", move || pass(from, std::io::stdout()))?;
    let (sender, ended) = oneshot::channel();
    thread("outcome", move || {
        // Nobody listens any more when a signal ended it.
        let _ = sender.send(outcome_of(FrameReader::new(BufReader::new(output))));
    })?;
    let outcome = signals.watch(ended, ours);
    // Whoever was cut off: a worker without a coordinator ends, and all of its cage with it.
    drop(input);
    child.wait().map_err(|error| lost(&error))?;
    // The terminal closes with its last holder, and then all of it has been shown.
    drop(shown.join());
    outcome?.map_err(|reason| lost(&reason))
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    // The worker ends with its input, which whoever called this lets go of.
    let failed = |error| Failure::environment(format!("pass the terminal through: {error}"), NO_MORE_HINT.to_owned());
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(failed)
}

fn outcome_of(mut frames: FrameReader<impl std::io::BufRead>) -> Result<Outcome, String> {
    loop {
        match frames.read().map_err(|error| error.to_string())? {
            Some(FromWorker::Finished { outcome }) => return Ok(outcome),
            Some(_) => {}
            None => return Err("it ended without a result".to_owned()),
        }
    }
}

/// What this program hears from before the worker starts: from then on no signal ends it by itself, because it looks at what the
/// program left.
struct Signals {
    runtime: tokio::runtime::Runtime,
    resized: Signal,
    /// Those by which a person ends it.
    ended: mpsc::Receiver<u8>,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::environment(format!("start an event loop: {error}"), None);
        let runtime = threads::event_loop().map_err(failed)?;
        let heard = runtime.block_on(async { Ok((signal(SignalKind::window_change())?, interrupts()?)) });
        let (resized, ended) = heard.map_err(failed)?;
        Ok(Signals { runtime, resized, ended })
    }

    /// Waits for the result; meanwhile the inner terminal has the size of the outer one.
    fn watch(
        &mut self,
        mut outcome: oneshot::Receiver<Result<Outcome, String>>,
        ours: &OwnedFd,
    ) -> Result<Result<Outcome, String>, Failure> {
        self.runtime.block_on(async {
            loop {
                tokio::select! {
                    outcome = &mut outcome => return Ok(outcome.unwrap_or_else(|_| Err("its answer was lost".to_owned()))),
                    Some(signal) = self.ended.recv() => return Ok(Err(format!("it was ended by signal {signal}"))),
                    Some(()) = self.resized.recv() => follow_size(ours)?,
                }
            }
        })
    }
}

/// Copies until either end is closed.
fn pass(mut from: impl std::io::Read, mut to: impl std::io::Write) {
    let mut bytes = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
