//! Why a run did not start, or could not go on: what the command line turns into an exit code and the next command to type.

use std::path::Path;

use rustix::io::Errno;
use swarm_plans::{Diagnostic, ExpandError, RenderError};

use super::before::{self, Keyless};
use crate::base::BaseError;
use crate::commit::run_refs;
use crate::executor::setup::SetupError;
use crate::executor::trees::TreeError;
use crate::ids::RunId;
use crate::journal::{Holder, JournalError, LockError};
use crate::machine::MachineError;
use crate::model::broker::catalog::CatalogError;
use crate::model::broker::tape::TapeError;
use crate::policy::PolicyError;
use crate::report::sanitize::shell_word;
use crate::repository::RepositoryError;
use crate::resume::ResumeError;
use crate::state::{Expected, StateDir, obstacle};
use crate::target::{self, TargetError};
use crate::threads;

/// When a run began that could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// With this coordinator.
    Now,
    /// With an earlier one, which left something.
    Before,
}

/// Why a run did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The repository cannot be worked on.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The target cannot be used (exit code 2; 3 where it lost what the run has landed on it).
    #[error("{0}")]
    Target(#[from] TargetError),
    /// The target of a run that is to go on cannot be used (exit codes as above).
    #[error("{0}")]
    TargetAgain(TargetError),
    /// Another coordinator holds the target (exit code 8).
    #[error(transparent)]
    Held(#[from] LockError),
    /// The machine offers no cage.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A policy cannot be granted.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Policies cannot be granted, which is known before anything runs; never empty.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Policies(Vec<PolicyError>),
    /// The plan's models cannot be asked as it says (exit code 2).
    #[error(transparent)]
    Models(#[from] CatalogError),
    /// Models that tasks name have no key here (exit code 2).
    #[error("ask the models of the plan: {}", before::without_keys(.0))]
    Keys(Vec<Keyless>),
    /// A budget is in dollars, and nobody knows what these models cost, as the plan names them (exit code 2).
    #[error("keep the budget in dollars: {} no price", before::without_prices(.0))]
    Unpriced(Vec<String>),
    /// The folder of `--record` or `--replay` cannot be used (exit code 2).
    #[error(transparent)]
    Tape(#[from] TapeError),
    /// A text of the plan does not render (exit code 2).
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A fan-out over files cannot be expanded (exit code 2).
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// Fan-outs over files do not fit the plan (exit code 2); never empty.
    #[error("expand the plan: {}", .0.first().map_or("", |diagnostic| diagnostic.message.as_str()))]
    Misfits(Vec<Diagnostic>),
    /// The base cannot be prepared.
    #[error("prepare the base: {0}")]
    Base(#[from] BaseError),
    /// The files of the base cannot be listed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// `[workspace] setup` failed (exit code 2 where the machine did not fail it).
    #[error("set the worktrees up ([workspace] setup): {0}")]
    Setup(#[from] SetupError),
    /// It cannot go on where its journal stops.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The machine failed a run that had its name already: whoever mends that goes on with it.
    #[error("{source}")]
    Cut {
        /// The run.
        run: RunId,
        /// What happened.
        source: Box<RunError>,
    },
    /// Somebody removed the state folder, or the journal in it, while the run was at work.
    #[error("the journal of {run} is no longer in {}: somebody removed it while the run was at work", state.display())]
    StateGone {
        /// The run.
        run: RunId,
        /// The state folder.
        state: std::path::PathBuf,
        /// The target branch.
        branch: Option<String>,
    },
    /// The state folder or another file of ours.
    #[error("use {}: {source}", path.display())]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl RunError {
    /// The exit code of the command line's table.
    pub fn exit_code(&self) -> u8 {
        match self {
            // As the run itself would end that sees it.
            RunError::Target(error) | RunError::TargetAgain(error) if error.way_back().is_some() => {
                crate::report::exit::ENVIRONMENT
            }
            RunError::Target(_)
            | RunError::TargetAgain(_)
            | RunError::Render(_)
            | RunError::Expand(_)
            | RunError::Misfits(_)
            | RunError::Models(_)
            | RunError::Keys(_)
            | RunError::Unpriced(_)
            | RunError::Tree(TreeError::Name(_))
            | RunError::Tape(_) => crate::report::exit::USAGE,
            RunError::Policy(error) if error.is_the_plans() => crate::report::exit::USAGE,
            RunError::Policies(refused) if refused.iter().any(PolicyError::is_the_plans) => crate::report::exit::USAGE,
            RunError::Setup(error) if !error.is_the_machines() => crate::report::exit::USAGE,
            RunError::Held(LockError::Held { .. }) => crate::report::exit::HELD,
            RunError::Cut { source, .. } => source.exit_code(),
            _ => crate::report::exit::ENVIRONMENT,
        }
    }

    /// The next command to type, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            RunError::Repository(error) => Some(error.hint()),
            RunError::TargetAgain(error) => error.freed().or_else(|| gone(error)),
            RunError::Target(error) => about_target(error).or_else(|| remedy(self).map(str::to_owned)),
            RunError::StateGone { run, branch, .. } => {
                let landed = branch.as_ref().map(|branch| format!("what had landed is on {}, ", shell_word(branch)));
                Some(format!(
                    "{}other results are there as long as git has their refs: git for-each-ref {}; swarm run PLAN begins anew",
                    landed.unwrap_or_default(),
                    run_refs(run)
                ))
            }
            RunError::Setup(error) if !error.is_the_machines() => Some(
                "mend `setup` in the plan, or what it lacks here: swarm logs '[workspace] setup' has all that it printed, and `swarm \
                 exec -- COMMAND` tries one in such a cage"
                    .to_owned(),
            ),
            RunError::Resume(error) => Some(error.hint()),
            RunError::Models(CatalogError::Untrusted { .. }) => Some(
                "put the entry into your own ~/.config/swarm/config.toml, or let this plan's with `--trust-models`"
                    .to_owned(),
            ),
            RunError::Keys(models) => Some(before::key_hint(models)),
            RunError::Unpriced(models) => Some(before::price_hint(models)),
            RunError::Policy(error) => Some(error.hint()),
            RunError::Policies(refused) => refused.first().map(PolicyError::hint),
            RunError::Models(CatalogError::Mistake(_)) => Some("`swarm check PLAN` shows where".to_owned()),
            RunError::Held(LockError::Held { holder: Some(Holder { run: Some(run), state, .. }) }) => {
                let state =
                    state.as_ref().map(|state| format!("--state-dir {} ", shell_word(&state.to_string_lossy())));
                Some(format!("wait for it, or end it: swarm {}cancel {run}", state.unwrap_or_default()))
            }
            RunError::Base(BaseError::Io { path, source })
            | RunError::Tree(TreeError::Base(BaseError::Io { path, source })) => {
                seen(path, source).or_else(|| remedy(self).map(str::to_owned))
            }
            RunError::Base(error) | RunError::Tree(TreeError::Base(error)) if error.is_the_trees() => {
                Some("`git ls-tree BASE` shows how its tree begins; `base` in the plan names another commit".to_owned())
            }
            RunError::Held(LockError::Io { path, source }) | RunError::Io { path, source } => {
                seen(path, source).or_else(|| remedy(self).map(str::to_owned))
            }
            RunError::Held(_) => {
                let list = "`swarm list` shows what runs, `swarm cancel RUN` ends it";
                Some(remedy(self).unwrap_or(list).to_owned())
            }
            RunError::Machine(error) if error.hint().is_some() => error.hint(),
            RunError::Machine(_) => {
                let doctor = "`swarm doctor` shows what this machine can enforce, and why not more";
                Some(remedy(self).unwrap_or(doctor).to_owned())
            }
            RunError::Tree(TreeError::Name(_)) => Some(
                "let the glob of `foreach` leave it out, or rename the file: no template can hold such a name"
                    .to_owned(),
            ),
            RunError::Cut { source, .. } => source.hint(),
            error => remedy(error).map(str::to_owned),
        }
    }

    /// Whether it is about something that a plan makes an instance of, which it is for whoever only looks at the plan, too.
    pub fn is_about_an_item(&self) -> bool {
        matches!(self, RunError::Tree(TreeError::Name(_)))
    }

    /// With the run that can be resumed, when the machine failed it and not what it was asked for, or when it had begun before.
    pub(super) fn cut(self, run: &RunId, begun: Begun) -> Self {
        // Nothing of the machine's is to be mended there: the tree stays what it is.
        if let RunError::Base(error) | RunError::Tree(TreeError::Base(error)) = &self
            && error.is_the_trees()
        {
            return self;
        }
        match self {
            RunError::Repository(_)
            | RunError::Base(_)
            | RunError::Tree(_)
            | RunError::Machine(MachineError::Probe(_))
            | RunError::Journal(_)
            | RunError::Io { .. } => RunError::Cut { run: run.clone(), source: Box::new(self) },
            RunError::Setup(error) if error.is_the_machines() => {
                RunError::Cut { run: run.clone(), source: Box::new(RunError::Setup(error)) }
            }
            error if begun == Begun::Before => RunError::Cut { run: run.clone(), source: Box::new(error) },
            error => error,
        }
    }
}

/// What to do about a target branch that cannot be had, where that is for the person to decide.
fn about_target(error: &TargetError) -> Option<String> {
    match error {
        // Where nobody named it, there is none to leave out.
        TargetError::CheckedOut { branch, at } if branch.starts_with("swarm/") => Some(format!(
            "name another, --into {}, and `swarm apply` merges it into the checkout; or free this one: git -C {} switch --detach leaves \
             the files there as they are",
            shell_word(&format!("{branch}-2")),
            shell_word(&at.to_string_lossy())
        )),
        TargetError::CheckedOut { .. } => Some(
            "name a branch with `--into` that is nowhere checked out, or none where one was; then `swarm apply` merges it into the checkout"
                .to_owned(),
        ),
        TargetError::Symbolic { stands_for, lost: None, .. } => Some(format!("name that one: --into {}", shell_word(stands_for))),
        TargetError::Diverged { aside, .. } => {
            Some(format!("name another with `--into`, or put the old one aside: {}", aside.command()))
        }
        TargetError::InTheWay { in_the_way, .. } => {
            Some(format!("name another with `--into`, or {}", target::out_of_the_way(in_the_way)))
        }
        TargetError::LostLanded { .. } | TargetError::Removed { .. } | TargetError::Symbolic { .. } => gone(error),
        _ => None,
    }
}

/// How a branch gets back what a run has landed on it.
fn gone(error: &TargetError) -> Option<String> {
    let commands = error.way_back()?;
    let keeps = match error {
        TargetError::LostLanded { branch, .. } => format!(", and what it holds now stays as {branch}-mine"),
        _ => String::new(),
    };
    Some(format!("`{commands}` puts it back{keeps}; a new `swarm run` with `--into` another starts over"))
}

/// What to do about what can be seen at a path of ours.
fn seen(path: &Path, source: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match source.kind() {
        // A folder was to be made.
        AlreadyExists | NotADirectory => StateDir::obstacle(path),
        // It says why by itself.
        PermissionDenied if source.get_ref().is_some() => StateDir::obstacle(path),
        PermissionDenied | ReadOnlyFilesystem if path.is_dir() => {
            StateDir::obstacle(path).map(|obstacle| format!("{obstacle}; --state-dir takes another folder"))
        }
        PermissionDenied | ReadOnlyFilesystem | IsADirectory => obstacle(path, Expected::File),
        _ => None,
    }
}

/// What to do about a failure of the system, wherever below an error it is.
fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let causes = std::iter::successors(Some(error), |error| error.source());
    let system = causes.filter_map(|error| error.downcast_ref::<std::io::Error>()).next()?;
    match system.kind() {
        _ if threads::is_no_more(system) => Some(threads::NO_MORE_HINT),
        StorageFull => Some("free some space, or inodes; `swarm clean --dry-run` shows what swarm can give back"),
        ReadOnlyFilesystem | PermissionDenied => Some("`--state-dir` names another folder"),
        _ if system.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            Some("raise the limit of open files (`ulimit -n 4096`), or take fewer workers (`-j`)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_setup_left_is_the_plans_and_a_full_disk_the_machines() {
        let run = RunId("it-1".to_owned());
        let left = || BaseError::Setup { path: "node".into(), reason: "it is a link" };
        let full = || BaseError::Io { path: "/x".into(), source: std::io::ErrorKind::StorageFull.into() };
        for (error, code, resumable) in [(left(), 2, false), (full(), 3, true)] {
            let error = RunError::Setup(SetupError::Base(error)).cut(&run, Begun::Now);
            assert_eq!((error.exit_code(), matches!(error, RunError::Cut { .. })), (code, resumable), "{error}");
            assert!(error.hint().is_some(), "{error}");
            let names_the_log = error.hint().is_some_and(|hint| hint.contains("swarm logs '[workspace] setup'"));
            assert_eq!(names_the_log, !resumable, "{error}");
        }
        let of_a_resumed_run = RunError::Setup(SetupError::Base(left())).cut(&run, Begun::Before);
        assert!(matches!(of_a_resumed_run, RunError::Cut { .. }), "what it has done waits");
    }

    #[test]
    fn a_tree_that_no_base_may_have_is_no_reason_to_go_on_later() {
        let run = RunId("it-1".to_owned());
        let large = || BaseError::TooLarge { tree: git2::Oid::ZERO_SHA1, what: "files", count: 2, max: 1 };
        let cut = |error: RunError| matches!(error.cut(&run, Begun::Now), RunError::Cut { .. });
        assert!(!cut(RunError::Base(large())) && !cut(RunError::Tree(TreeError::Base(large()))));
        assert!(RunError::Base(large()).hint().is_some_and(|hint| hint.contains("git ls-tree")));
        let full = BaseError::Io { path: "/x".into(), source: std::io::ErrorKind::StorageFull.into() };
        assert!(cut(RunError::Base(full)), "the control: what a person can mend");
    }
}
