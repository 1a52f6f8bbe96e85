//! What the first process of a cage does when it is no program: it runs a guest, or compiles a module, and ends. All of it
//! happens after the cage is closed.

use std::io::Write as _;
use std::os::fd::AsFd;

use rustix::stdio::{stderr, stdin, stdout};
use wasmtime::Engine;

use super::guest::{Guest, Stdio};
use super::run::{GuestEnd, LoadError, Loaded};
use crate::status::{Status, send};

/// The exit status of a guest that trapped: what a shell says of a program that aborted.
const EXIT_TRAPPED: i32 = 134;
/// The exit status of a job that ended otherwise than by itself; the status record says how.
const EXIT_ENDED: i32 = 125;

/// Signals of faults, by which compiled code tells of a trap. The engine handles them from the moment it is made, before the
/// process of the guest exists.
pub(crate) const FAULTS: &[libc::c_int] = &[libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// A guest, ready to be run in a cage.
pub struct GuestJob {
    /// The engine that the artifact was made for.
    pub engine: Engine,
    /// What [`super::compile()`] made of the guest's module. It is loaded inside the cage only.
    pub artifact: Vec<u8>,
    /// What the guest gets.
    pub guest: Guest,
}

impl std::fmt::Debug for GuestJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestJob").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl GuestJob {
    /// Runs the guest to its end; gives the exit status of the process.
    pub(crate) fn run(&self, status: impl AsFd) -> i32 {
        // SAFETY: the worker takes artifacts from its cache, which holds only what a caged compiler made of the very same
        // module. Were that compiler fooled, what runs here is in the cage all the same.
        let loaded = match unsafe { Loaded::new(&self.engine, &self.artifact) } {
            Ok(loaded) => loaded,
            Err(LoadError::NotACommand(reason) | LoadError::Damaged(reason)) => {
                send(status, &Status::NotRunnable { reason });
                return EXIT_ENDED;
            }
        };
        match loaded.run(&self.guest, &Stdio { stdin: Some(stdin()), stdout: stdout(), stderr: stderr() }) {
            GuestEnd::Exited(code) => code,
            GuestEnd::Limit { limit, detail } => {
                send(status, &Status::Limit { limit, detail });
                EXIT_ENDED
            }
            GuestEnd::Trapped(text) => {
                let _ = writeln!(std::io::stderr(), "wasm: {text}");
                EXIT_TRAPPED
            }
            GuestEnd::StartFailed(reason) => {
                send(status, &Status::NotRunnable { reason });
                EXIT_ENDED
            }
        }
    }
}

/// Compiles a module: machine code to standard output, or what is wrong to standard error. Gives the exit status.
pub(crate) fn compile(engine: &Engine, module: &[u8]) -> i32 {
    match super::compile(engine, module) {
        Ok(artifact) => {
            // Not through the standard library's buffer, which looks for line ends.
            let output = stdout().try_clone_to_owned().map(std::fs::File::from);
            i32::from(output.and_then(|mut output| output.write_all(&artifact)).is_err())
        }
        Err(error) => {
            let _ = write!(std::io::stderr(), "{error}");
            1
        }
    }
}
