//! `swarm open [RUN] TASK DIR`: a result as a folder, to look at and to build.

use swarm_orchestrator::ids::encode_component;
use swarm_orchestrator::open::{OpenError, open_worktree};
use swarm_orchestrator::report::sanitize;

use crate::commands::failure::Failure;
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Checks a task's result out into a new folder, as a linked worktree.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm open [OPTIONS] [RUN] TASK DIR")]
pub struct Open {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance, then the new folder.
    #[arg(value_name = "WORD", required = true, num_args = 2..=3)]
    words: Vec<String>,
}

/// The folder's path on stdout.
///
/// # Errors
/// There is no such run or task, it changed nothing, or the folder exists.
pub fn run(args: &Open, it: &Surroundings) -> Result<u8, Failure> {
    let (folder, words) = args.words.split_last().expect("the command line takes two or three words");
    let at = it.folder.join(folder);
    let repository = it.repository()?;
    let journal = it.journal(&it.state_of(&repository))?;
    let (row, state, id) = select::instance(&journal, words)?;
    let change = state.instances[&id].attempts.iter().rev().find_map(|attempt| attempt.change());
    let Some(change) = change else {
        let message = format!("open {} of {}: it changed nothing", sanitize::name(&id.0), row.id);
        return Err(Failure::usage(message, format!("swarm status {}", row.id)));
    };
    let name = encode_component(&format!("{}-{}", row.id, id));
    open_worktree(&repository, change.commit, &name, &at).map_err(|error| match error {
        OpenError::Repository(error) => error.into(),
        OpenError::Exists(_) => Failure::usage(error, "name a folder that does not exist yet".to_owned()),
        OpenError::TooMany { .. } => Failure::usage(error, "git worktree remove PATH removes one".to_owned()),
    })?;
    it.out.write(&format!("{}\n", at.display()))?;
    Ok(0)
}
