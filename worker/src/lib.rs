//! The worker: what `swarm __worker` does. It runs one job once, inside a cage, and reports how it ended.
//!
//! greeted → start → caged → running → finished. Comes in: frames of [`swarm_protocol`] on standard input; goes out:
//! frames on standard output. One thread, no runtime, no configuration, no decisions about what is allowed: that is the
//! coordinator's. The job is never believed: it has no channel to this process but two pipes of bytes.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use swarm_protocol::{Probe, VERSION, encode};

/// [`swarm_protocol::SandboxSpec`] becomes a policy of the sandbox: the only place that knows both.
mod airlock;
/// Bytes from the coordinator become messages, bytes to it are never left half-written.
mod conversation;
/// Bounded capture of what a job prints.
mod output;
/// Watches over one job from its launch to the end of its last process.
mod supervise;

/// The first argument that makes `swarm` a worker.
pub const SUBCOMMAND: &str = "__worker";

/// The exit status of a worker that could not hold its conversation. The outcome of a job is never told by exit status.
const EXIT_BROKEN: u8 = 3;

/// What a worker was started for.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    /// Runs one job.
    Stdio,
    /// Tells what the machine can do.
    Probe { state: PathBuf },
}

/// Runs the worker with the arguments that follow [`SUBCOMMAND`]. Must be called before any thread is started.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = match mode(&arguments.into_iter().collect::<Vec<_>>()) {
        Some(Mode::Stdio) => conversation::run(),
        Some(Mode::Probe { state }) => print_probe(&state),
        None => Err(std::io::Error::other("usage: swarm __worker --stdio | --probe --state DIR")),
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

fn mode(arguments: &[OsString]) -> Option<Mode> {
    match arguments {
        [stdio] if stdio == "--stdio" => Some(Mode::Stdio),
        [probe, state, folder] if probe == "--probe" && state == "--state" => {
            Some(Mode::Probe { state: PathBuf::from(folder) })
        }
        _ => None,
    }
}

fn print_probe(state: &Path) -> std::io::Result<()> {
    let found = swarm_sandbox::probe(state)?;
    let tier = if found.namespaces.is_ok() {
        Some(swarm_protocol::Tier::Namespaces)
    } else {
        found.landlock.is_ok().then_some(swarm_protocol::Tier::Landlock)
    };
    let probe = Probe {
        version: VERSION,
        tier,
        landlock_abi: found.landlock_abi,
        landlock: airlock::verdict(found.landlock),
        namespaces: airlock::verdict(found.namespaces),
        overlay: airlock::verdict(found.overlay),
    };
    std::io::stdout().write_all(&encode(&probe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_known_modes_start_anything() {
        let check = |words: &[&str], expected: Option<Mode>| {
            assert_eq!(mode(&words.iter().map(OsString::from).collect::<Vec<_>>()), expected);
        };
        check(&["--stdio"], Some(Mode::Stdio));
        check(&["--probe", "--state", "/s"], Some(Mode::Probe { state: "/s".into() }));
        check(&[], None);
        check(&["--stdio", "--stdio"], None);
        check(&["--probe"], None);
    }
}
