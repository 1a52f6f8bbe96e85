//! The worker: what `swarm __worker` does. It runs one job once, inside a cage, and reports how it ended.
//!
//! greeted → start → caged → running → finished. Comes in: frames of [`swarm_protocol`] on standard input; goes out:
//! frames on standard output. One thread, no runtime, no configuration, no decisions about what is allowed: that is the
//! coordinator's. The job is never believed: it has no channel to this process but two pipes of bytes.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::stdio::{dup2_stdout, stdin};
use swarm_protocol::{Probe, Question, VERSION, encode};
use swarm_sandbox::launch::exit_now;
use swarm_sandbox::{Left, Remains};

use crate::standby::Standby;

/// The agent: a model's turns and tools.
pub mod agent;
/// [`swarm_protocol::SandboxSpec`] becomes a policy of the sandbox: the only place that knows both.
pub mod airlock;
/// The supervisor's end of the connection with an agent in its cage.
mod channel;
/// Bytes from the coordinator become messages, bytes to it are never left half-written.
mod conversation;
/// The fork server: makes workers by fork.
mod launcher;
/// A program that ends with the coordinator.
mod lifeline;
/// Network namespaces on their way from one worker to the next.
mod networks;
/// Bounded capture of what a job prints.
mod output;
/// What the cage kept from a job that failed.
mod refusals;
/// What a worker that stands by has ready before it has a job.
mod standby;
/// Watches over one job from its launch to the end of its last process.
mod supervise;
/// WebAssembly guests: compiled once, kept, run.
mod wasm;
/// What a job is made of becomes something that runs.
mod work;

/// The first argument that makes `swarm` a worker.
pub const SUBCOMMAND: &str = "__worker";

/// The exit status of a worker that could not hold its conversation. The outcome of a job is never told by exit status.
const EXIT_BROKEN: u8 = 3;

/// What a worker was started for.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    /// Runs one job.
    Stdio,
    /// Forks workers that run one job each.
    Server,
    /// Tells what the machine can do.
    Probe { question: Question, state: PathBuf },
    /// Runs a program that ends with the coordinator.
    Lifeline { program: OsString, arguments: Vec<OsString> },
}

/// Runs the worker with the arguments that follow [`SUBCOMMAND`]. Must be called before any thread is started.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = match mode(&arguments.into_iter().collect::<Vec<_>>()) {
        Some(Mode::Stdio) => leave_terminal().and_then(|()| work(Standby::default())),
        Some(Mode::Server) => leave_terminal().and_then(|()| launcher::serve()).and_then(|role| match role {
            launcher::Role::Done => Ok(()),
            launcher::Role::Worker(standby) => work(standby),
        }),
        Some(Mode::Probe { question, state }) => print_probe(question, &state),
        Some(Mode::Lifeline { program, arguments }) => match lifeline::run(&program, &arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        None => Err(std::io::Error::other(
            "usage: swarm __worker --stdio | --server | --probe QUESTION --state DIR | --lifeline PROGRAM ARGUMENT…",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error of a worker is the coordinator's log; nothing can be done if even that is gone.
            let _ = writeln!(std::io::stderr(), "worker: {error}");
            ExitCode::from(EXIT_BROKEN)
        }
    }
}

/// Does one job and ends the process, at once: libraries have handlers for the end of a process that would touch a hundred
/// kilobytes of a forked worker's memory for nothing. The coordinator hears the end before the kernel takes the memory
/// apart; everything of the job is dead by then, and its outcome was told.
fn work(mut standby: Standby) -> std::io::Result<()> {
    let remains = conversation::run(&mut standby)?;
    // Closes the only writing end; nobody writes to what takes its place.
    dup2_stdout(stdin())?;
    if remains.map_or(Left::Nothing, Remains::wait) == Left::Nothing {
        standby.pass_on();
    }
    exit_now(0)
}

/// A session of its own: what a person types at the coordinator's terminal (Ctrl-C) is the coordinator's to pass on, with the
/// grace that it gives. Source: setsid(2).
fn leave_terminal() -> std::io::Result<()> {
    match rustix::process::setsid() {
        // Started by a shell as a job of its own: already the leader of a group.
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn mode(arguments: &[OsString]) -> Option<Mode> {
    match arguments {
        [stdio] if stdio == "--stdio" => Some(Mode::Stdio),
        [server] if server == "--server" => Some(Mode::Server),
        [probe, question, state, folder] if probe == "--probe" && state == "--state" => {
            let question = [Question::Strongest, Question::Each].into_iter().find(|one| question == one.word())?;
            Some(Mode::Probe { question, state: PathBuf::from(folder) })
        }
        [lifeline, program, arguments @ ..] if lifeline == "--lifeline" => {
            Some(Mode::Lifeline { program: program.clone(), arguments: arguments.to_vec() })
        }
        _ => None,
    }
}

fn print_probe(question: Question, state: &Path) -> std::io::Result<()> {
    let found = swarm_sandbox::probe(state, airlock::question(question))?;
    let works = |verdict: &Option<swarm_sandbox::Verdict>| verdict.as_ref().is_some_and(Result::is_ok);
    let tier = if works(&found.overlay) || works(&found.namespaces) {
        Some(swarm_protocol::Tier::Namespaces)
    } else {
        works(&found.landlock).then_some(swarm_protocol::Tier::Landlock)
    };
    let probe = Probe {
        version: VERSION,
        tier,
        landlock_abi: found.landlock_abi,
        landlock: found.landlock.map(airlock::verdict),
        namespaces: found.namespaces.map(airlock::verdict),
        overlay: found.overlay.map(airlock::verdict),
        memory_bytes: found.memory_bytes,
        disk_bytes: found.disk_bytes,
        groups: found.groups.into_iter().map(airlock::group_spec).collect(),
    };
    std::io::stdout().write_all(&encode(&probe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_modes_start_anything() {
        let check = |words: &[&str], expected: Option<Mode>| {
            assert_eq!(mode(&words.iter().map(OsString::from).collect::<Vec<_>>()), expected);
        };
        check(&["--stdio"], Some(Mode::Stdio));
        check(&["--server"], Some(Mode::Server));
        let probe = |question| Some(Mode::Probe { question, state: "/s".into() });
        check(&["--probe", "strongest", "--state", "/s"], probe(Question::Strongest));
        check(&["--probe", "each", "--state", "/s"], probe(Question::Each));
        check(&["--probe", "all", "--state", "/s"], None);
        let (program, arguments) = ("pass".into(), vec!["show".into()]);
        check(&["--lifeline", "pass", "show"], Some(Mode::Lifeline { program, arguments }));
        check(&["--lifeline"], None);
        check(&[], None);
        check(&["--stdio", "--stdio"], None);
        check(&["--probe"], None);
    }
}
