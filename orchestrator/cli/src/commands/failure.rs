//! Why a command did not do what it was asked: what and where, then what to type next.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use swarm_orchestrator::apply::ApplyError;
use swarm_orchestrator::cancel::CancelError;
use swarm_orchestrator::commit::run_refs;
use swarm_orchestrator::journal::{DamagedRow, JournalError, LockError};
use swarm_orchestrator::report::words::Tone;
use swarm_orchestrator::report::{exit, sanitize};
use swarm_orchestrator::repository::RepositoryError;
use swarm_orchestrator::run::RunError;
use swarm_orchestrator::state::{Expected, StateDir, obstacle};
use swarm_orchestrator::threads;

use crate::commands::surroundings::Stream;

/// What to look at when the state folder cannot be used.
const STATE_HINT: &str = "check the permissions and the space of the state folder (--state-dir)";

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

    /// What was said to whoever has something else to tell, too: the exit code of a run stands although nobody reads its summary.
    ///
    /// # Errors
    /// The writing failed for another reason.
    pub fn unless_gone(written: Result<(), Failure>) -> Result<(), Failure> {
        match written {
            Err(Failure::ReaderGone) => Ok(()),
            written => written,
        }
    }

    /// The same failure with the place in a plan that it is about.
    pub fn at(self, place: &str) -> Self {
        match self {
            Failure::Told { code, message, hint } => {
                Failure::Told { code, message: format!("{message} ({place})"), hint }
            }
            other => other,
        }
    }

    /// The same failure with the command that goes on once it is mended.
    pub fn then(self, command: &str) -> Self {
        match self {
            Failure::Told { code, message, hint } => {
                let mend = hint.unwrap_or_else(|| "mend that".to_owned());
                Failure::Told { code, message, hint: Some(format!("{mend}, then go on: {command}")) }
            }
            other => other,
        }
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(self, err: &Stream) -> ExitCode {
        let style = err.style;
        match self {
            Failure::ReaderGone => ExitCode::SUCCESS,
            Failure::Said(code) => ExitCode::from(code),
            Failure::Told { code, message, hint } => {
                let mut text = format!("{} failed to {}\n", style.paint(Tone::Bad, "error:"), sanitize::text(&message));
                if let Some(hint) = few_files(code).or(hint) {
                    text.push_str(&format!("\n{} {}\n", style.paint(Tone::Strong, "hint:"), sanitize::text(&hint)));
                }
                // There is nobody to tell when stderr itself is gone.
                drop(std::io::Write::write_all(&mut std::io::stderr(), err.legible(&text).as_bytes()));
                ExitCode::from(code)
            }
        }
    }
}

/// How many open files are few: no run does with them, and every failure of the system is due to that first of all.
const FILES_FEW: u64 = 64;

/// What to do first where the system failed and lets this process open few files only.
fn few_files(code: u8) -> Option<String> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    (code == exit::ENVIRONMENT && limit <= FILES_FEW).then(|| {
        format!("{limit} files may be open at once here, which is too few: ulimit -n 4096, then type it again")
    })
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Failure::environment(&error, error.hint())
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let hint = match &error {
            JournalError::DiskFull { .. } => "free some space (swarm clean --dry-run shows what swarm can give back)",
            JournalError::Newer { .. } => "use the newer swarm that wrote it, or another --state-dir",
            JournalError::Busy { .. } => "try again",
            JournalError::Damaged { path, .. } => return Failure::environment(&error, put_aside(path)),
            JournalError::DamagedRun(damaged) => return Failure::environment(&error, do_without(damaged)),
            JournalError::Lock(error) => return Failure::environment(error, lock_hint(error)),
            JournalError::Sql { path, .. } => return Failure::environment(&error, journal_hint(path)),
            JournalError::Io { source, .. } if threads::is_no_more(source) => threads::NO_MORE_HINT,
            // Its path may be that of the state folder.
            JournalError::Io { path, .. } if path.is_dir() => return Failure::environment(&error, state_hint(path)),
            JournalError::Io { path, .. } => return Failure::environment(&error, journal_hint(path)),
            JournalError::Stopped => STATE_HINT,
        };
        Failure::environment(&error, hint.to_owned())
    }
}

/// What to do about a state folder that cannot be used, by what stands there.
pub fn state_hint(folder: &Path) -> String {
    StateDir::obstacle(folder).unwrap_or_else(|| STATE_HINT.to_owned())
}

fn journal_hint(journal: &Path) -> String {
    obstacle(journal, Expected::File).unwrap_or_else(|| STATE_HINT.to_owned())
}

fn lock_hint(error: &LockError) -> Option<String> {
    match error {
        LockError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Some("free some space (swarm clean --dry-run shows what swarm can give back)".to_owned())
        }
        LockError::Io { path, .. } => obstacle(path, Expected::File),
        LockError::Held { .. } => None,
    }
}

/// A path as a word for the shell.
pub fn shell_path(path: &Path) -> String {
    sanitize::shell_bytes(path.as_os_str().as_encoded_bytes())
}

/// What is left of a run whose row is damaged.
fn do_without(damaged: &DamagedRow) -> String {
    let refs = sanitize::shell_word(&run_refs(&damaged.run));
    format!(
        "no other run is touched, and all results of this one are still there: git for-each-ref {refs}; what it landed is on its branch; to do the rest, run the plan anew"
    )
}

/// How a journal is put aside that cannot be read, with the files that SQLite keeps beside it.
fn put_aside(journal: &Path) -> String {
    let names = (1..).map(|n| if n == 1 { "damaged".to_owned() } else { format!("damaged-{n}") });
    let mut folders = names.map(|name| journal.with_file_name(name));
    let aside = folders.find(|folder| folder.symlink_metadata().is_err()).expect("names do not end");
    let [journal, aside] = [journal, &aside].map(shell_path);
    format!(
        "put it aside, and runs begin anew: mkdir {aside} && mv {journal}* {aside}; all results are still there: git for-each-ref refs/swarm/"
    )
}

impl From<CancelError> for Failure {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Lock(error) => error.into(),
            CancelError::OutOfReach { .. } => Failure::environment(error, "run this where it runs".to_owned()),
            CancelError::Signal { .. } => Failure::environment(error, "do it as the user who started it".to_owned()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::Held { holder } => {
                let run = holder.as_ref().and_then(|holder| holder.run.as_ref());
                let end = run.map_or("`swarm list` shows what runs".to_owned(), |run| format!("swarm cancel {run}"));
                let hint = Some(format!("wait for it, or end it: {end}"));
                Failure::Told { code: exit::HELD, message: format!("go on: {error}"), hint }
            }
            LockError::Io { .. } => Failure::environment(&error, lock_hint(&error)),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Repository(error) => error.into(),
            RunError::Journal(error) => error.into(),
            RunError::Cut { run, source } => {
                // What is left of a run may do without what a policy lacks. Of a damaged journal nothing is left to go on with.
                let instead = match *source {
                    RunError::Journal(error @ JournalError::Damaged { .. }) => return error.into(),
                    RunError::Policy(_) => format!("; or give up what failed for want of it: swarm drop {run} TASK"),
                    _ => String::new(),
                };
                Failure::from(*source).then(&format!("swarm resume {run}{instead}"))
            }
            error => {
                let message = if error.is_about_an_item() { error.to_string() } else { format!("run: {error}") };
                Failure::Told { code: error.exit_code(), message, hint: error.hint() }
            }
        }
    }
}

/// With which exit status that ends.
fn code_of(error: &ApplyError) -> u8 {
    match error {
        ApplyError::Conflicts { .. }
        | ApplyError::Bases { .. }
        | ApplyError::Filtered { .. }
        | ApplyError::LinksAsFiles { .. }
        | ApplyError::Sparse { .. }
        | ApplyError::Unmerged { .. }
        | ApplyError::LocalChanges { .. }
        | ApplyError::Moved { .. }
        | ApplyError::InTheWay { .. }
        | ApplyError::HiddenChanges { .. }
        | ApplyError::Hostile(_)
        | ApplyError::OutOfScope { .. } => exit::TASK_FAILED,
        ApplyError::Busy(LockError::Held { .. }) => exit::HELD,
        _ => exit::ENVIRONMENT,
    }
}

fn shell_words(paths: &[String]) -> String {
    paths.iter().map(|path| sanitize::shell_word(path)).collect::<Vec<_>>().join(" ")
}

fn unmerged_hint(paths: &str) -> String {
    format!(
        "settle them and git add {paths}, or give up what is there: git restore --source HEAD --staged --worktree {paths}; then apply \
         again"
    )
}

fn hidden_hint(paths: &str) -> String {
    format!(
        "git update-index --no-assume-unchanged {paths} && git update-index --no-skip-worktree {paths} lets git see them; then commit \
         them, or git stash"
    )
}

fn damaged_hint(index: &Path) -> String {
    let aside = shell_path(&index.with_extension("damaged"));
    format!(
        "nothing has changed; git makes it anew from HEAD, and your files stay as they are: mv {} {aside} && git reset; then apply again",
        shell_path(index)
    )
}

/// Why a branch was not applied, with what to type next about that very branch.
pub fn not_applied(error: ApplyError, branch: &str) -> Failure {
    let branch = sanitize::shell_word(branch);
    let hint = match &error {
        ApplyError::Bare => format!("merge {branch} in a clone"),
        ApplyError::UnderWay(_) => "finish or abort it first: git status".to_owned(),
        ApplyError::Unmerged { paths } => unmerged_hint(&shell_words(paths)),
        ApplyError::Sparse { .. } | ApplyError::Filtered { .. } | ApplyError::LinksAsFiles { .. } => {
            format!("git merge {branch} does it, the branch is an ordinary one")
        }
        // Untracked files may be in the way, too.
        ApplyError::LocalChanges { .. } => "commit them, or git stash -u, then apply again".to_owned(),
        ApplyError::Moved { .. } => {
            "git commit it, then apply again: the merge follows what was moved (behind git stash, git stash pop would be in \
             conflict)"
                .to_owned()
        }
        ApplyError::HiddenChanges { paths } => hidden_hint(&shell_words(paths)),
        ApplyError::InTheWay { obstacles } => {
            let first = obstacles.first().map(|first| [&first.at, &first.aside].map(|path| shell_path(path)));
            let [from, to] = first.unwrap_or_default();
            format!("nothing has changed; mv -n {from} {to}, then apply again")
        }
        ApplyError::Conflicts { .. } => {
            format!("git merge {branch}, and solve the conflicts there; nothing has changed yet")
        }
        ApplyError::Bases { count: 0 } => format!("git merge --allow-unrelated-histories {branch}, if they belong together"),
        ApplyError::Bases { .. } => format!("git merge {branch} merges those first"),
        ApplyError::Hostile(_) => {
            "swarm diff shows what the run changed; rename or remove what stands against it here, then apply again"
                .to_owned()
        }
        ApplyError::OutOfScope { .. } => {
            format!(
                "git merge {branch} takes it there all the same; or swarm run PLAN does the work anew on what is here, with \
                 `writes` that cover the new place"
            )
        }
        ApplyError::Fold(_) => "git fsck shows what the repository lacks".to_owned(),
        ApplyError::Raced { .. } => "nothing has changed; apply again".to_owned(),
        ApplyError::Busy(_) => "wait for it, then apply again".to_owned(),
        ApplyError::IndexLocked(lock) => format!("let it end; if none runs: rm {}", shell_path(lock)),
        ApplyError::IndexDamaged(index) => damaged_hint(index),
        ApplyError::Note(note) => {
            format!("git status shows what it wrote; when that is as you want it: rm {}", shell_path(note))
        }
        ApplyError::HalfWay { .. } => {
            "free some space (df -h .), then apply again: that takes back what is half written and begins anew"
                .to_owned()
        }
        ApplyError::Io { .. } => "look at the space and the permissions there: df -h .".to_owned(),
        ApplyError::Repository(error @ RepositoryError::NoCommits) => {
            return Failure::usage(error, format!("git merge {branch} begins it with that"));
        }
        ApplyError::Repository(error) => return Failure::environment(error, error.hint()),
    };
    let code = code_of(&error);
    Failure::Told { code, message: error.to_string(), hint: Some(hint) }
}
