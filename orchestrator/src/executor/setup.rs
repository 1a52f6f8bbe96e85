//! Commands on the base that belong to no attempt: `[workspace] setup`, whose result all worktrees share, and the lines of
//! fan-outs. They run caged like all others.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use swarm_plans::{Command, DEFAULT_SANDBOX, InstanceId, RenderError, RenderedCommand, TaskGraph, TaskIx};
use swarm_protocol::{Access, Ended, Stream};

use super::Executor;
use super::job::{CagedCommand, Ran};
use super::places::{Places, with_private_folders};
use super::trees::{Start, TreeError};
use crate::base::BaseError;
use crate::dispatcher::history::{FailedBy, failed_by};
use crate::egress::Leads;
use crate::event::AttemptEnd;
use crate::ids::Attempt;
use crate::journal::LogWriter;
use crate::journal::logs::{SECTION_BYTES_MAX, tail};
use crate::policy::Cage;
use crate::report::{sanitize, words};
use crate::worker_process::WorkerError;
use crate::worktree::Worktree;

/// Bytes of lines that a fan-out takes; more is an error, never cut in silence.
const LINES_BYTES_MAX: usize = 8 << 20;

/// Lines of the log that an error quotes.
const QUOTED_LINES_MAX: usize = 10;

/// The instance under which the log of `setup` is kept. No task can have this name.
pub const SETUP: &str = "[workspace] setup";

/// Why a command on the base gave nothing to work with.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its text does not render.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// It did not exit with 0.
    #[error("`{command}` {ended}{quoted}")]
    Ended {
        /// The command.
        command: String,
        /// How it ended.
        ended: String,
        /// Its last lines, each on a line of its own.
        quoted: String,
    },
    /// Its cage could not be closed around it, or the disk of its worktree was full.
    #[error("`{command}` {reason}")]
    Machine {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
    /// It printed too much, or no text.
    #[error("`{command}` {reason}")]
    Lines {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
    /// A worktree or a layer.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A layer.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The file system.
    #[error("prepare the folders of a command: {0}")]
    Io(#[from] std::io::Error),
}

impl SetupError {
    /// Whether the machine failed, and not the command.
    pub fn is_the_machines(&self) -> bool {
        match self {
            // What it left there, no machine could take.
            SetupError::Base(BaseError::Setup { .. }) => false,
            SetupError::Machine { .. }
            | SetupError::Tree(_)
            | SetupError::Base(_)
            | SetupError::Worker(_)
            | SetupError::Io(_) => true,
            SetupError::Render(_) | SetupError::Ended { .. } | SetupError::Lines { .. } => false,
        }
    }
}

/// Runs `setup`, unless an earlier run left its result, and puts that under all worktrees.
///
/// Gives what a person should know of it.
///
/// # Errors
/// [`SetupError`].
pub async fn run(executor: &mut Executor, graph: &TaskGraph, command: &Command) -> Result<Vec<String>, SetupError> {
    let command = executor.render(graph, command)?;
    let base = Arc::clone(&executor.trees.base);
    let parts = setup_parts(&command, &executor.cages[DEFAULT_SANDBOX]);
    let parts = parts.each_ref().map(String::as_bytes);
    let known = executor.trees.bases.known_setup(&base.layers, &parts);
    let layers = match known {
        Some(layers) => layers,
        None => {
            let name = InstanceId(SETUP.into());
            let (ran, worktree) = executor.on_base(&name, DEFAULT_SANDBOX, &command, &mut |_, _| {}).await?;
            if let Err(error) = executor.expect_exit(&name, DEFAULT_SANDBOX, &command, &ran) {
                executor.trees.let_go(worktree).await;
                return Err(error);
            }
            executor.trees.bases.adopt_setup_layer(&base.layers, &parts, worktree)?
        }
    };
    let notes = executor.trees.bases.left_out_of_setup(&layers)?.iter().map(|cache| left_out(cache)).collect();
    executor.trees.base = Arc::new(Start { commit: base.commit, tree: base.tree, layers });
    Ok(notes)
}

/// What `setup` wrote to a cache, nobody sees.
fn left_out(cache: &Path) -> String {
    let cache = cache.display();
    format!(
        "what `[workspace] setup` wrote to {cache} is left out: worktrees see that folder as your checkout has it, since it is \
         in `[workspace] cache`; let setup write elsewhere, or take {cache} out of `cache`"
    )
}

/// What the result of `setup` depends on beside the base. The policy belongs to it: what setup could see under a looser one
/// is not handed to a stricter. What the machine has free does not: one plan has one result, in whatever run.
pub(super) fn setup_parts(command: &RenderedCommand, cage: &Cage) -> [String; 2] {
    [serde_json::to_string(&command.argv).expect("strings"), cage.ingredients()]
}

/// The lines that a command prints in a worktree of the base, without empty ones.
///
/// # Errors
/// [`SetupError`].
pub async fn lines(executor: &Executor, task: TaskIx, command: &RenderedCommand) -> Result<Vec<Value>, SetupError> {
    let task = executor.plan.task(task);
    let text = printed(executor, &InstanceId(task.name.0.as_str().into()), &task.sandbox, command).await?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(|line| Value::String(line.to_owned())).collect())
}

/// What a command prints on its standard output in a worktree of the base; `name` is what its log is kept under.
///
/// # Errors
/// [`SetupError`].
pub async fn printed(
    executor: &Executor,
    name: &InstanceId,
    sandbox: &str,
    command: &RenderedCommand,
) -> Result<String, SetupError> {
    let mut printed = Vec::new();
    let mut excess = false;
    let mut hear = |stream: Stream, bytes: &[u8]| {
        excess |= printed.len() + bytes.len() > LINES_BYTES_MAX;
        if stream == Stream::Stdout && !excess {
            printed.extend_from_slice(bytes);
        }
    };
    let (ran, worktree) = executor.on_base(name, sandbox, command, &mut hear).await?;
    executor.trees.let_go(worktree).await;
    executor.expect_exit(name, sandbox, command, &ran)?;
    let refuse = |reason: String| SetupError::Lines { command: words::command_in_short(&command.argv), reason };
    if excess || ran.outcome.output_bytes_dropped > 0 {
        return Err(refuse(format!("printed more than {LINES_BYTES_MAX} bytes")));
    }
    String::from_utf8(printed).map_err(|_| refuse("printed lines that are not UTF-8".to_owned()))
}

impl Executor {
    /// Renders a command outside of any instance.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn render(&self, graph: &TaskGraph, command: &Command) -> Result<RenderedCommand, RenderError> {
        graph.render_command(command, &self.facts.context(&Value::Null, &self.facts.lookup()))
    }

    async fn on_base(
        &self,
        name: &InstanceId,
        sandbox: &str,
        command: &RenderedCommand,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<(Ran, Worktree), SetupError> {
        let places = Places::of(&self.state, &self.run, name, Attempt(1));
        places.clear_beside(&self.state).await?;
        let own = places.of_cage_beside(&self.state, "work").await?;
        let worktree = self.trees.worktree_beside(&self.trees.base, &own.relative).await?;
        match self.on_it(&worktree, &places, sandbox, command, hear).await {
            Ok(ran) => Ok((ran, worktree)),
            Err(error) => {
                self.trees.let_go(worktree).await;
                Err(error)
            }
        }
    }

    async fn on_it(
        &self,
        worktree: &Worktree,
        places: &Places,
        sandbox: &str,
        command: &RenderedCommand,
        hear: &mut (dyn FnMut(Stream, &[u8]) + Send),
    ) -> Result<Ran, SetupError> {
        let cage = &self.cages[sandbox];
        let how = (cage.tier(), Access::Write);
        let (inside, own) = places.caged_beside(how, &Arc::default(), (&self.state, &self.run), "work").await?;
        let mut grants = worktree.grants.clone();
        grants.extend(inside.grants);
        let spec = cage.spec(worktree.spec.clone(), worktree.cow.clone(), grants, inside.env, &own);
        let spec = with_private_folders(&self.state, spec).await?;
        let (argv, cwd) = (command.argv.clone(), worktree.spec.at().clone());
        let caged = CagedCommand {
            argv,
            cwd,
            timeout: command.timeout,
            leads: Leads { hosts: cage.egress().cloned(), models: None },
        };
        let mut log = LogWriter::new(places.log(), SECTION_BYTES_MAX);
        let mut both = |stream: Stream, bytes: &[u8]| {
            // A log that cannot be written is told of when it is finished.
            log.write(bytes);
            hear(stream, bytes);
        };
        let ran = self.jobs.run(None, caged, spec, &mut both).await;
        log.finish_of_command();
        ran.map_err(|error| match error {
            WorkerError::Lacking { .. } => {
                let command = words::command_in_short(&command.argv);
                SetupError::Machine { command, reason: format!("failed: {error}") }
            }
            other => other.into(),
        })
    }

    fn expect_exit(
        &self,
        name: &InstanceId,
        sandbox: &str,
        command: &RenderedCommand,
        ran: &Ran,
    ) -> Result<(), SetupError> {
        if ran.outcome.ended == (Ended::Exited { code: 0 }) {
            return Ok(());
        }
        let command = words::command_in_short(&command.argv);
        let end = AttemptEnd::Work { ended: ran.outcome.ended.clone() };
        if failed_by(&end) == FailedBy::Machine {
            return Err(SetupError::Machine { command, reason: words::end(&end) });
        }
        let log = Places::of(&self.state, &self.run, name, Attempt(1)).log();
        let lines = tail(&log, QUOTED_LINES_MAX).unwrap_or_default();
        let mut quoted: String = lines.iter().map(|line| format!("\n    {}", sanitize::line(line))).collect();
        let refused = words::refusals(&self.cages[sandbox].origin.seen(&ran.outcome.refusals), "    ");
        if !refused.is_empty() {
            quoted.push_str(&format!("\n{}", refused.trim_end()));
        }
        quoted.extend(ran.scarce.iter().map(|scarce| format!("\n    {scarce}")));
        Err(SetupError::Ended { command, ended: words::ended(&ran.outcome.ended), quoted })
    }
}
