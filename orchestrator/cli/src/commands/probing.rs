//! What this machine can do for cages, found out by a worker that closes real ones; this process confines nothing and can do
//! something else meanwhile.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use swarm_orchestrator::machine::Machine;
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::state::StateDir;
use swarm_protocol::{Probe, Question};

use crate::commands::failure::Failure;
use crate::commands::surroundings::THIS_PROGRAM;

/// A worker that tries. Dropping it waits for its end, so that nothing of its is left in its folder.
#[derive(Debug)]
pub struct Probing(Option<Child>);

impl Probing {
    /// Has one try cages whose layers lie in `folder`.
    ///
    /// # Errors
    /// The worker cannot be asked.
    pub fn begin(question: Question, folder: &Path) -> Result<Self, Failure> {
        let state = StateDir::open(folder).map_err(|error| failed(&error))?;
        let mut command = Command::new(THIS_PROGRAM);
        command.arg(swarm_worker::SUBCOMMAND).args(["--probe", question.word(), "--state"]).arg(state.root());
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        pipes.spawn().map(|child| Probing(Some(child))).map_err(|error| failed(&error))
    }

    /// What it found.
    ///
    /// # Errors
    /// It gave no answer.
    pub fn probe(mut self) -> Result<Probe, Failure> {
        let child = self.0.take().expect("taken here and at the end only");
        let output = child.wait_with_output().map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&sanitize::line(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
    }

    /// What this machine can do, of what it found.
    ///
    /// # Errors
    /// No cage can be closed here.
    pub fn machine(self) -> Result<Machine, Failure> {
        Machine::of(self.probe()?).map_err(|error| Failure::environment(error, "swarm doctor says more".to_owned()))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            drop(child.wait_with_output());
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::environment(format!("probe the cage: {error}"), None)
}
