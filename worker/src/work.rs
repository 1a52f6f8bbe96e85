//! What a job is made of becomes something that runs: in the cage that a worker has ready, or in a new one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use swarm_protocol::agent::AgentJob;
use swarm_protocol::{Ended, Job, Start, Stream};
use swarm_sandbox::launch::Output;
use swarm_sandbox::network::Private;
use swarm_sandbox::wasm::GuestJob;
use swarm_sandbox::{Caged, Errand, Kind, Policy, Program, Refused};

use crate::agent;
use crate::airlock;
use crate::channel::Channel;
use crate::conversation::Input;
use crate::standby::{Standby, Successor};
use crate::wasm;

/// Our ends of a job's two streams.
pub type Pipes = [(Stream, Option<OwnedFd>); 2];

/// What was launched, and our ends of what it has.
#[derive(Debug)]
pub struct Launched {
    /// The cage.
    pub caged: Caged,
    /// Of both streams; none where the job has a terminal.
    pub pipes: Pipes,
    /// Only where the job is an agent.
    pub channel: Option<Channel>,
}

/// What is going to run in the cage.
enum Work<'a> {
    Program(Program),
    Shell(Program),
    Guest(GuestJob),
    Agent(&'a AgentJob),
}

/// Launches the job of `start` under `policy`; with who is to be woken when it runs. The inner error is the outcome of a job that
/// cannot even be tried.
///
/// # Errors
/// The coordinator is gone, or the system has no descriptors left.
pub fn launch(
    start: &Start,
    policy: &Policy,
    input: &mut Input,
    standby: &mut Standby,
) -> io::Result<Result<(Launched, Option<Successor>), Ended>> {
    let kind = Kind::of(policy.get());
    let is_program = matches!(start.job, Job::Command { .. });
    let successor = standby.take_successor(is_program.then_some(kind));
    if !is_program {
        standby.forget();
    }
    let work = match prepare(start, input)? {
        Ok(work) => work,
        Err(ended) => return Ok(Err(ended)),
    };
    let ahead = if is_program { standby.launch(policy) } else { Ok(None) };
    let launched = match ahead {
        Ok(None) => match outside(start, kind, standby) {
            Ok(outside) => anew(&work, start, policy, outside)?,
            Err(refused) => Err(refused),
        },
        Ok(Some((caged, [stdout, stderr]))) => Ok(Launched { caged, pipes: pipes(stdout, stderr), channel: None }),
        Err(refused) => Err(refused),
    };
    Ok(launched.map(|launched| (launched, successor)).map_err(|refused| Ended::Refused(airlock::refusal(refused))))
}

/// Everything that can be made ready before the cage.
fn prepare<'a>(start: &'a Start, input: &mut Input) -> io::Result<Result<Work<'a>, Ended>> {
    match &start.job {
        Job::Command { argv, cwd } => Ok(program(start, argv, cwd).map(Work::Program)),
        Job::Shell { argv, cwd } => Ok(program(start, argv, cwd).map(Work::Shell)),
        Job::Wasm(job) => Ok(wasm::prepare(start, job, input)?.map(Work::Guest)),
        Job::Agent(job) => Ok(Ok(Work::Agent(job))),
    }
}

/// The program of a command.
///
/// # Errors
/// The outcome of a command that cannot even be tried.
pub fn program(start: &Start, argv: &[String], cwd: &Path) -> Result<Program, Ended> {
    Program::new(argv, &start.sandbox.env, cwd).map_err(|error| Ended::StartFailed { reason: error.to_string() })
}

/// What a new cage is given of this process.
struct Outside {
    door: Option<OwnedFd>,
    network: Option<Private>,
}

fn outside(start: &Start, kind: Kind, standby: &mut Standby) -> Result<Outside, Refused> {
    let door = airlock::door(&start.sandbox).map_err(|error| Refused::new("reach the proxy", error))?;
    let network =
        standby.give_up(kind).map_err(|error| Refused::new("leave the network of another kind of job", error))?;
    Ok(Outside { door, network })
}

/// Launches work around which there is no cage yet; the inner error refuses it.
fn anew(
    work: &Work<'_>,
    start: &Start,
    policy: &Policy,
    Outside { door, network }: Outside,
) -> io::Result<Result<Launched, Refused>> {
    let (pipes, [stdout, stderr]) = streams(work)?;
    let output = Output { stdout, stderr, door, network };
    let mut channel = None;
    let launched = match work {
        Work::Program(program) => swarm_sandbox::launch(policy, program, output),
        Work::Shell(program) => swarm_sandbox::launch_on_terminal(policy, program, output),
        Work::Guest(guest) => swarm_sandbox::launch_guest(policy, guest, output),
        Work::Agent(job) => {
            let (ours, theirs) = Channel::pair()?;
            channel = Some(ours);
            let run = |channel: BorrowedFd<'_>| agent::run(job, &start.sandbox.env, channel);
            let errand = Errand { cwd: &job.worktree, channel: theirs, run: &run };
            swarm_sandbox::launch_errand(policy, &errand, output)
        }
    };
    Ok(launched.map(|caged| Launched { caged, pipes, channel }))
}

/// Our ends of the job's two streams, none where it has a terminal, and the job's.
fn streams(work: &Work<'_>) -> io::Result<(Pipes, [OwnedFd; 2])> {
    if let Work::Shell(_) = work {
        let terminal = || rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
        return Ok((Stream::ALL.map(|stream| (stream, None)), [terminal()?, terminal()?]));
    }
    let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((pipes(stdout, stderr), [stdout_end, stderr_end]))
}

fn pipes(stdout: OwnedFd, stderr: OwnedFd) -> Pipes {
    [(Stream::Stdout, Some(stdout)), (Stream::Stderr, Some(stderr))]
}
