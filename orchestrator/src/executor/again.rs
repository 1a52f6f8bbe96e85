//! `--check-determinism`: a task whose result may be reused runs several times, each in a worktree of its own, and has to
//! leave the same tree, the same outputs and the same artifacts each time. The first difference is its failure.

use std::sync::Arc;

use git2::Oid;
use serde_json::{Map, Value};
use swarm_plans::Plan;

use swarm_protocol::causes::causes;

use super::places::Places;
use super::{Executor, LogWriter, Record, SECTION_BYTES_MAX, Stop, Trial};
use crate::cache::folder;
use crate::collect::display_path;
use crate::commit;
use crate::dispatcher::history::{FailedBy, failed_by};
use crate::event::{AttemptEnd, ChangeSummary};
use crate::report::words;
use crate::repository::RepositoryError;
use crate::tree;

/// Tasks without `cache` that a note names.
const TASKS_NAMED_MAX: usize = 8;
/// Differing paths that an end names.
const PATHS_NAMED_MAX: usize = 20;

/// What a person should know who asked for each task to be run that often: only tasks whose result may be reused are.
pub fn unchecked(plan: &Plan, repeats: u32) -> Option<String> {
    let without: Vec<&str> =
        plan.tasks.iter().filter(|task| task.cache.is_none()).map(|task| task.name.0.as_str()).collect();
    let asked = format!("`--check-determinism {repeats}`");
    match without.as_slice() {
        _ if repeats < 2 => None,
        [] => None,
        all if all.len() == plan.tasks.len() => Some(format!(
            "{asked} checks nothing: only tasks with `cache` run more than once, and this plan has none; write `cache = true` in those \
             whose result has to be the same each time"
        )),
        some => {
            let named = words::first_of(some, TASKS_NAMED_MAX);
            Some(format!(
                "{asked} does not check {named}: write `cache = true` in those whose result has to be the same each time"
            ))
        }
    }
}

impl Executor {
    /// Runs an attempt that passed again, as often as was asked for, and compares.
    pub(super) async fn again(self: &Arc<Self>, trial: Trial<'_>, first: &mut Record) -> Result<(), Stop> {
        if trial.task.cache.is_none() {
            return Ok(());
        }
        for round in 2..=self.repeats {
            self.jobs.phase(Some(&trial.job.name), format!("once more, {round} of {}", self.repeats));
            let places = trial.places.again(round);
            let log = LogWriter::new(places.log(), SECTION_BYTES_MAX);
            let mut second = Record::new(log);
            let passed = self.steps(Trial { places: &places, ..trial }, &mut second).await;
            self.keep_first(trial, first)?;
            let Record { log, change, outputs, .. } = second;
            // What it printed lies beside the first log; one that cannot be written changes no verdict.
            if let Err(error) = log.finish() {
                first.notes.push(format!("the log of run {round} of the same is incomplete: {error}"));
            }
            if let Err(Stop(end)) = passed {
                if failed_by(&end) == FailedBy::Machine || end.is_cancelled() {
                    return Err(Stop(end));
                }
                let detail = format!("it passed once, and at run {round} of the same it {}", words::end(&end));
                return Err(self.differs(trial, detail, vec![]).await);
            }
            if let Some((what, paths)) =
                self.difference(first, (change.as_ref(), &outputs), trial.places, &places).await?
            {
                let detail = format!("run {round} of the same left {what}");
                return Err(self.differs(trial, detail, paths).await);
            }
        }
        Ok(())
    }

    /// The end of what is not reproducible: nor is what an earlier run recorded of it.
    async fn differs(self: &Arc<Self>, trial: Trial<'_>, detail: String, paths: Vec<String>) -> Stop {
        match self.never_reuse(trial.job).await {
            Ok(()) => Stop(AttemptEnd::Differs { detail, paths }),
            Err(reason) => Stop(AttemptEnd::Differs { detail: format!("{detail} (and {reason})"), paths }),
        }
    }

    /// A repetition takes the attempt's ref for its own result; the first one is the result.
    fn keep_first(&self, trial: Trial<'_>, first: &Record) -> Result<(), RepositoryError> {
        let Some(change) = first.change.as_ref().filter(|change| change.changes_anything()) else {
            return Ok(());
        };
        let reference = commit::attempt_ref(&self.run, &trial.job.name, trial.job.attempt);
        commit::keep(&self.repository, &reference, Oid::from_str(&change.commit)?)
    }

    /// What differs, and in which paths, the first first.
    async fn difference(
        &self,
        first: &Record,
        (change, outputs): (Option<&ChangeSummary>, &Map<String, Value>),
        places: &Places,
        others: &Places,
    ) -> Result<Option<(&'static str, Vec<String>)>, Stop> {
        if let (Some(one), Some(other)) = (&first.change, change)
            && one.tree != other.tree
        {
            let git = self.repository.handle()?;
            let odb = git.odb()?;
            let paths = tree::diff(&odb, Some(Oid::from_str(&one.tree)?), Some(Oid::from_str(&other.tree)?))?;
            let paths = paths.iter().take(PATHS_NAMED_MAX).map(|difference| display_path(&difference.path)).collect();
            return Ok(Some(("another tree", paths)));
        }
        if first.outputs != *outputs {
            let mut all = first.outputs.keys().chain(outputs.keys());
            let name = all.find(|name| first.outputs.get(*name) != outputs.get(*name));
            return Ok(Some(("another output", name.into_iter().cloned().collect())));
        }
        let folders = [places.artifacts(), others.artifacts()];
        let compare = move || {
            let [one, other] = folders.map(|folder| folder::contents(&folder));
            one.and_then(|one| Ok(one.map(|one| one.digest) == other?.map(|other| other.digest)))
        };
        let same = tokio::task::spawn_blocking(compare).await?;
        let same =
            same.map_err(|error| Stop(AttemptEnd::Infra { detail: format!("compare artifacts: {}", causes(&error)) }))?;
        Ok((!same).then(|| ("other files in $SWARM_ARTIFACTS", vec![])))
    }
}
