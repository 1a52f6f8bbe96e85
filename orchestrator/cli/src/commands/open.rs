//! `swarm open [RUN] TASK DIR`: a result as a folder, to look at and to build; or the files that it handed over.

use std::path::Path;

use swarm_orchestrator::ids::{RunId, encode_component};
use swarm_orchestrator::journal::InstanceState;
use swarm_orchestrator::open::files::{self, LeftOut};
use swarm_orchestrator::open::{OpenError, open_worktree};
use swarm_orchestrator::report::sanitize;
use swarm_plans::InstanceId;

use crate::commands::failure::{Failure, shell_path};
use crate::commands::opened_folder::OpenedFolder;
use crate::commands::repositories::Repositories;
use crate::commands::select;
use crate::commands::settling::settle_new;
use crate::commands::surroundings::Surroundings;

/// Checks a task's result out into a new folder, as a linked worktree.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm open [OPTIONS] [RUN] TASK DIR")]
pub struct Open {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance, then the new folder.
    #[arg(value_name = "WORD", required = true, num_args = 2..=3)]
    words: Vec<String>,
    /// Copies what the task left in $SWARM_ARTIFACTS (of a failed one, too) into the new folder, not its change.
    #[arg(long)]
    artifacts: bool,
}

/// The folder's path on stdout.
///
/// # Errors
/// There is no such run or task, it changed nothing or handed nothing over, or the folder exists.
pub fn run(args: &Open, it: &Surroundings) -> Result<u8, Failure> {
    let (folder, words) = args.words.split_last().expect("the command line takes two or three words");
    let at = it.folder.join(folder);
    let repository = it.repository()?;
    let state_dir = it.state_of(&repository);
    let journal = it.journal(&state_dir)?;
    let (row, state, id) = select::instance(&journal, words)?;
    let instance = &state.instances[&id];
    let handed = files::handed_over(&state_dir, &row.id, (&id, instance));
    if args.artifacts {
        let Some(from) = handed else { return Err(nothing_handed(&row.id, (&id, instance))) };
        return copy(&from, &at, it);
    }
    let change = instance.attempts.iter().rev().find_map(|attempt| attempt.change());
    let Some(change) = change else {
        let message = format!("open {} of {}: it changed nothing", sanitize::name(&id.0), row.id);
        let hint = match handed {
            Some(_) => {
                let (task, folder) = (sanitize::shell_word(&id.0), shell_path(Path::new(folder)));
                format!("what it handed over: swarm open --artifacts {} {task} {folder}", row.id)
            }
            None => format!("swarm status {}", row.id),
        };
        return Err(Failure::usage(message, hint));
    };
    let name = encode_component(&format!("{}-{}", row.id, id));
    open_worktree(&repository, change.commit, &name, &at).map_err(|error| match error {
        OpenError::Repository(error) => error.into(),
        OpenError::Exists(_) => Failure::usage(error, A_NEW_ONE.to_owned()),
        OpenError::TooMany { .. } => Failure::usage(error, "git worktree remove PATH removes one".to_owned()),
    })?;
    it.out.write(&format!("{}\n", at.display()))?;
    Ok(0)
}

const A_NEW_ONE: &str = "name a folder that does not exist yet";

/// Why there is nothing to copy.
fn nothing_handed(run: &RunId, (id, instance): (&InstanceId, &InstanceState)) -> Failure {
    let (said, hint) = if instance.left_files() {
        let hint = format!("`swarm clean` has removed them; swarm run the plan anew, or swarm status {run}");
        ("they are no longer there", hint)
    } else {
        let hint =
            "a task hands over what it puts in $SWARM_ARTIFACTS, and files of its worktree that `artifacts` names";
        ("it handed nothing over", hint.to_owned())
    };
    Failure::usage(format!("open the files of {} of {run}: {said}", sanitize::name(&id.0)), hint)
}

/// Copies the files into a new folder. A repository among them is settled as one that a task made in a folder of the person's.
fn copy(from: &Path, at: &Path, it: &Surroundings) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| {
        Failure::environment(format!("copy {} to {}: {error}", from.display(), at.display()), None)
    };
    if let Some(above) = at.parent() {
        std::fs::create_dir_all(above).map_err(failed)?;
    }
    std::fs::create_dir(at).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("make {}: it exists", at.display()), A_NEW_ONE.to_owned())
        }
        _ => failed(error),
    })?;
    let opened = OpenedFolder::open(at).map_err(failed)?;
    let before = Repositories::below(&opened)?;
    let copied = files::copy(from, at);
    // Whatever became of it: what lies there is looked at.
    let left = settle_new(&opened, &before, it)?;
    let left_out = copied.map_err(|error| {
        let hint = format!("what was copied before that lies there: rm -r {}", shell_path(at));
        Failure::environment(format!("copy {} to {}: {error}", from.display(), at.display()), hint)
    })?;
    for LeftOut { path, reason } in left_out {
        let path = sanitize::name(&path.to_string_lossy());
        it.err.write(&format!("swarm: left out: {path}, {reason}\n"))?;
    }
    it.out.write(&format!("{}\n", at.display()))?;
    Ok(left.exit(0))
}
