//! Commands of the merge train: each caged in a fresh worktree of a commit, under a log of its own. Nothing that an earlier one
//! left can reach a later one.

use std::sync::Arc;

use git2::Oid;
use swarm_plans::{InstanceId, RenderedCommand};
use swarm_protocol::causes::causes;
use swarm_protocol::{Access, Ended, Grant, Stream};

use super::Executor;
use super::job::{CagedCommand, Jobs};
use super::places::{Places, with_private_folders};
use crate::base::Layers;
use crate::egress::Leads;
use crate::ids::Attempt;
use crate::journal::LogWriter;
use crate::journal::logs::{SECTION_BYTES_MAX, tail};
use crate::report::{sanitize, words};
use crate::worktree::Worktree;

/// Lines of the log that an ending quotes.
const QUOTED_LINES_MAX: usize = 10;

/// One command to run.
pub(super) struct Errand<'a> {
    /// The commit whose tree it works on.
    pub commit: Oid,
    /// The layers of the base, with what else is to lie under the worktree.
    pub layers: &'a Layers,
    /// What it runs.
    pub command: &'a RenderedCommand,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: &'a str,
    /// Its folders.
    pub places: &'a Places,
    /// Variables beside those that every task has.
    pub env: Vec<(String, String)>,
    /// What it is shown beside the worktree.
    pub grants: Vec<Grant>,
    /// Starts it.
    pub jobs: &'a Jobs,
    /// Whose lines reporters show; `None` shows none.
    pub shown: Option<&'a InstanceId>,
}

impl<'a> Errand<'a> {
    /// A command that belongs to no instance.
    pub fn of_train(
        (layers, commit): (&'a Layers, Oid),
        command: &'a RenderedCommand,
        sandbox: &'a str,
        jobs: &'a Jobs,
        places: &'a Places,
    ) -> Self {
        Errand { layers, commit, command, sandbox, places, env: vec![], grants: vec![], jobs, shown: None }
    }
}

impl Executor {
    /// Runs a command that belongs to no instance, as [`Executor::errand`] does, with a log of its own. What an earlier coordinator
    /// left in its folders is thrown away.
    ///
    /// # Errors
    /// As of [`Executor::errand`].
    pub(super) async fn lone_errand(self: &Arc<Self>, errand: Errand<'_>) -> Result<(Ended, Worktree), String> {
        errand.places.clear_beside(&self.state).await.map_err(|error| causes(&error))?;
        let mut log = LogWriter::new(errand.places.log(), SECTION_BYTES_MAX);
        let ran = self.errand(errand, &mut log).await;
        log.finish_of_command();
        ran
    }

    /// Runs a command to its end. The worktree is the caller's to look at and to discard.
    ///
    /// # Errors
    /// Why it could not run, for people: a failure of ours or of the machine.
    pub(super) async fn errand(
        self: &Arc<Self>,
        errand: Errand<'_>,
        log: &mut LogWriter,
    ) -> Result<(Ended, Worktree), String> {
        let (executor, layers, commit) = (Arc::clone(self), errand.layers.clone(), errand.commit);
        let own = errand.places.of_cage_beside(&self.state, "work").await.map_err(|error| causes(&error))?;
        let worktree = tokio::task::spawn_blocking(move || {
            let start = executor.trees.layered_on(&layers, commit)?;
            executor.trees.worktree(&start, &own.relative)
        });
        let worktree = worktree.await.map_err(|error| causes(&error))?.map_err(|error| causes(&error))?;
        match self.errand_in(&worktree, errand, log).await {
            Ok(ended) => Ok((ended, worktree)),
            Err(error) => {
                self.trees.let_go(worktree).await;
                Err(error)
            }
        }
    }

    async fn errand_in(&self, worktree: &Worktree, errand: Errand<'_>, log: &mut LogWriter) -> Result<Ended, String> {
        let Errand { command, sandbox, places, env: more, grants: shown_besides, jobs, shown, .. } = errand;
        let cage = &self.cages[sandbox];
        let how = (cage.tier(), Access::Write);
        let made = places.caged_beside(how, &Arc::default(), (&self.state, &self.run), "work").await;
        let (inside, own) = made.map_err(|error| causes(&error))?;
        let mut grants = worktree.grants.clone();
        grants.extend(inside.grants);
        grants.extend(shown_besides);
        let mut env = inside.env;
        env.push(("SWARM_RUN".to_owned(), self.run.0.clone()));
        env.extend(more);
        let spec = cage.spec(worktree.spec.clone(), worktree.cow.clone(), grants, env, &own);
        let spec = with_private_folders(&self.state, spec).await.map_err(|error| causes(&error))?;
        let cwd = worktree.spec.at().clone();
        let RenderedCommand { argv, timeout } = command.clone();
        let caged = CagedCommand { argv, cwd, timeout, leads: Leads { hosts: cage.egress().cloned(), models: None } };
        // A log that cannot be written is told of when it is finished.
        let mut ends_amid_a_line = false;
        let mut hear = |_: Stream, bytes: &[u8]| {
            ends_amid_a_line = bytes.last().map_or(ends_amid_a_line, |last| *last != b'\n');
            log.write(bytes);
        };
        let ran = jobs.run(shown, caged, spec, &mut hear).await.map_err(|error| causes(&error))?;
        // Below what it printed: whoever quotes the end of that names them, too.
        let mut refused = words::refusals(&cage.origin.seen(&ran.outcome.refusals), "");
        refused.extend(ran.scarce.map(|scarce| scarce + "\n"));
        if !refused.is_empty() && ends_amid_a_line {
            log.write(b"\n");
        }
        log.write(refused.as_bytes());
        Ok(ran.outcome.ended)
    }

    /// The folders of a command that belongs to no instance: `name` is none that a task can have.
    pub(super) fn places_of(&self, name: &str, number: u32) -> Places {
        Places::of(&self.state, &self.run, &InstanceId(name.into()), Attempt(number))
    }
}

/// How a command ended, with its last lines, for people.
pub(super) fn ending(command: &RenderedCommand, ended: &Ended, places: &Places) -> String {
    let lines = tail(&places.log(), QUOTED_LINES_MAX).unwrap_or_default();
    let quoted: String = lines.iter().map(|line| format!("\n    {}", sanitize::line(line))).collect();
    format!("`{}` {}{quoted}", words::command_in_short(&command.argv), words::ended(ended))
}

/// Whether an end says nothing about the work: it was cancelled, or its cage could not be closed.
pub(super) fn is_ours(ended: &Ended) -> bool {
    matches!(ended, Ended::Cancelled | Ended::Refused(_))
}
