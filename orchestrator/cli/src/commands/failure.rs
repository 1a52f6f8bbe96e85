//! Why a command did not do what it was asked: what and where, then what to type next.

use std::fmt::Display;
use std::process::ExitCode;

use swarm_orchestrator::apply::ApplyError;
use swarm_orchestrator::journal::{JournalError, LockError};
use swarm_orchestrator::report::Style;
use swarm_orchestrator::report::exit;
use swarm_orchestrator::report::words::Tone;
use swarm_orchestrator::repository::RepositoryError;
use swarm_orchestrator::run::RunError;

/// Why a command ended early.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// A person has to know.
    Told {
        /// The exit code.
        code: u8,
        /// What and where: a lowercase fragment that fits after "failed to".
        message: String,
        /// What to type or change next.
        hint: Option<String>,
    },
    /// Everything was said already; only the exit code is left.
    Said(u8),
    /// Nobody reads any more (`swarm list | head -1`): not an error of anybody.
    ReaderGone,
}

impl Failure {
    /// The arguments do not fit what there is.
    pub fn usage(message: impl Display, hint: impl Into<Option<String>>) -> Self {
        Failure::Told { code: exit::USAGE, message: message.to_string(), hint: hint.into() }
    }

    /// The machine, the repository or the disk.
    pub fn environment(message: impl Display, hint: impl Into<Option<String>>) -> Self {
        Failure::Told { code: exit::ENVIRONMENT, message: message.to_string(), hint: hint.into() }
    }

    /// Writing to a stream failed.
    pub fn of_output(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::environment(format!("write the output: {error}"), None),
        }
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(self, style: Style) -> ExitCode {
        match self {
            Failure::ReaderGone => ExitCode::SUCCESS,
            Failure::Said(code) => ExitCode::from(code),
            Failure::Told { code, message, hint } => {
                let mut text = format!("{} failed to {message}\n", style.paint(Tone::Bad, "error:"));
                if let Some(hint) = hint {
                    text.push_str(&format!("\n{} {hint}\n", style.paint(Tone::Strong, "hint:")));
                }
                // There is nobody to tell when stderr itself is gone.
                drop(std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()));
                ExitCode::from(code)
            }
        }
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Failure::environment(&error, error.hint())
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let hint = match &error {
            JournalError::DiskFull { .. } => "free some space: swarm clean --dry-run shows what swarm can give back",
            JournalError::Newer { .. } => "use the newer swarm that wrote it, or another --state-dir",
            JournalError::Busy { .. } => "try again",
            JournalError::Damaged { .. } => "move the file away: all results stay under refs/swarm/",
            JournalError::Lock(error) => return Failure::environment(error, None),
            JournalError::Io { .. } | JournalError::Sql { .. } | JournalError::Stopped => {
                "check the permissions and the space of the state folder (--state-dir)"
            }
        };
        Failure::environment(&error, hint.to_owned())
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Failure::Told {
                code: exit::HELD,
                message: format!("go on: {error}"),
                hint: Some("wait for it, or end it".to_owned()),
            },
            LockError::Io { .. } => Failure::environment(error, None),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Repository(error) => error.into(),
            RunError::Journal(error) => error.into(),
            error => Failure::Told { code: error.exit_code(), message: format!("run: {error}"), hint: error.hint() },
        }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let hint = match &error {
            ApplyError::Bare => "merge the branch in a clone",
            ApplyError::UnderWay(_) => "finish or abort it first: git status",
            ApplyError::Sparse => "git merge BRANCH does it, the branch is an ordinary one",
            ApplyError::LocalChanges { .. } => "commit them, or git stash, then apply again",
            ApplyError::Conflicts { .. } => "git merge BRANCH, and solve the conflicts there; nothing has changed yet",
            ApplyError::Raced { .. } => "git status shows what the files have and the branch has not",
            ApplyError::Repository(error) => return Failure::environment(error, error.hint()),
        };
        let code = match error {
            ApplyError::Conflicts { .. } | ApplyError::LocalChanges { .. } => exit::TASK_FAILED,
            _ => exit::ENVIRONMENT,
        };
        Failure::Told { code, message: error.to_string(), hint: Some(hint.to_owned()) }
    }
}
