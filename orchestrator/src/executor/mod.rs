//! One attempt, from its tree to its result: start tree → worktree → work in the cage → collect → commit → outputs →
//! checks. Decides nothing about the run; a failure is a value. Start reading at [`Executor::attempt`].
//!
//! Checks run in a worktree of their own, made from the collected change: what a worker left behind beside its change
//! (ignored files, a poisoned cache, its `.git`) cannot make a check pass.

/// One command in one cage.
pub mod job;
/// Changes onto the target.
mod land;
/// What an attempt hands over by value.
pub mod outputs;
/// The folders of one attempt and what they are called inside.
mod places;
/// `[workspace] setup` and the lines of fan-outs: commands on the base that belong to no attempt.
pub mod setup;
/// The trees that attempts start from.
pub mod trees;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use git2::Oid;
use serde_json::{Map, Value};
use swarm_plans::{BeforeWork, InstanceId, MergeMode, Plan, RenderedCheck, RenderedCommand, Task, TaskIx};
use swarm_protocol::{Access, Ended, Stream};

use crate::collect::artifacts::{Taken as Artifacts, take_artifacts};
use crate::collect::self_running::runs_on_its_own;
use crate::collect::{
    Change, ChangeKind, ChangedPath, CollectError, CollectLimits, Collected, Refusal, collect, display_path,
};
use crate::commit::{self, CommitSpec, Signing};
use crate::dispatcher::core::{AttemptDone, AttemptJob, RunFacts};
use crate::event::{AttemptEnd, ChangeSummary};
use crate::ids::{Attempt, RunId};
use crate::journal::LogWriter;
use crate::journal::logs::SECTION_BYTES_MAX;
use crate::policy::Cage;
use crate::report::words;
use crate::repository::{Repository, RepositoryError};
use crate::state::StateDir;
use crate::worktree::Worktree;

use job::{CagedCommand, Jobs, Ran};
use places::Places;
use trees::{Start, Trees};

/// Files that run by themselves which a note names.
const SELF_RUNNING_NAMED_MAX: usize = 10;

/// Does the work of one run.
pub struct Executor {
    /// The repository.
    pub repository: Arc<Repository>,
    /// Where everything of ours lies.
    pub state: StateDir,
    /// The run.
    pub run: RunId,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its base commit.
    pub base: Oid,
    /// Full ref name of the target; `None` in mode `none`.
    pub target: Option<String>,
    /// Author and date of all commits.
    pub signing: Signing,
    /// The plan's policies on this host, by name.
    pub cages: HashMap<String, Cage>,
    /// What templates of commands outside of any instance see; the same as tasks do.
    pub facts: RunFacts,
    /// What the report of the run says is not enforced; what else an attempt lacks is said beside it.
    pub not_enforced: Vec<String>,
    /// Runs commands.
    pub jobs: Jobs,
    /// The trees that attempts start from.
    pub trees: Trees,
}

/// How an attempt ended that did not come to its last step.
struct Stop(AttemptEnd);

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop(AttemptEnd::Infra { detail: chain(&error) })
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Which of an attempt's commands runs.
#[derive(Debug, Clone, Copy)]
struct When {
    /// The name of its worktree's folder.
    name: &'static str,
    /// For people.
    words: &'static str,
    /// What it may do in the folder that the work hands over.
    out: Access,
}

impl When {
    const WORK: When = When { name: "work", words: "the work", out: Access::Write };
    const BEFORE: When = When { name: "before", words: "before the work", out: Access::Read };
    const AFTER: When = When { name: "check", words: "after the work", out: Access::Read };
}

/// One attempt: what to do, for which task, in which folders.
#[derive(Clone, Copy)]
struct Trial<'a> {
    job: &'a AttemptJob,
    task: &'a Task,
    places: &'a Places,
}

/// What an attempt has brought so far.
struct Record {
    log: LogWriter,
    change: Option<ChangeSummary>,
    outputs: Map<String, Value>,
    notes: Vec<String>,
}

impl Executor {
    /// Runs one attempt to its end. Never fails: whatever goes wrong is its end.
    pub async fn attempt(self: &Arc<Self>, job: AttemptJob) -> AttemptDone {
        let begun = Instant::now();
        let name = job.name.clone();
        let places = Places::of(&self.state, &self.run, &name, job.attempt);
        let log = LogWriter::new(places.log(), SECTION_BYTES_MAX);
        let mut record = Record { log, change: None, outputs: Map::new(), notes: vec![] };
        let trial = Trial { job: &job, task: self.plan.task(job.task), places: &places };
        let end = match self.steps(trial, &mut record).await {
            Ok(()) => AttemptEnd::Succeeded,
            Err(Stop(end)) => end,
        };
        if let Err(error) = record.log.finish() {
            record.notes.push(format!("its log is incomplete: {error}"));
        }
        AttemptDone {
            end,
            duration_ms: begun.elapsed().as_millis() as u64,
            change: record.change,
            outputs: record.outputs,
            notes: record.notes,
        }
    }

    async fn steps(self: &Arc<Self>, trial: Trial<'_>, record: &mut Record) -> Result<(), Stop> {
        let Trial { job, task, places } = trial;
        let start = self.start_of(job).await?;
        self.checks_before(trial, &start, record).await?;
        let worktree = self.provision(&start, places, "work").await?;
        let worked = self.work(trial, &worktree, record).await;
        let collected = self.collect(trial, &start, worktree, record).await;
        worked?;
        let result = collected?;
        record.outputs = outputs::read(&places.out(), &task.outputs)
            .map_err(|error| Stop(AttemptEnd::Outputs { detail: chain(&error) }))?;
        self.checks_after(trial, &start, result, record).await
    }

    async fn start_of(self: &Arc<Self>, job: &AttemptJob) -> Result<Arc<Start>, Stop> {
        if job.needs.changes.is_empty() {
            return Ok(Arc::clone(&self.trees.base));
        }
        let (executor, needs) = (Arc::clone(self), Arc::clone(&job.needs));
        let start = tokio::task::spawn_blocking(move || executor.trees.with_changes(&needs.changes)).await?;
        start.map_err(|error| match error {
            trees::TreeError::Contradiction { detail } => Stop(AttemptEnd::Needs { detail }),
            other => other.into(),
        })
    }

    async fn provision(self: &Arc<Self>, start: &Arc<Start>, places: &Places, name: &str) -> Result<Worktree, Stop> {
        let (executor, start, folder) = (Arc::clone(self), Arc::clone(start), places.worktree(name));
        Ok(tokio::task::spawn_blocking(move || executor.trees.worktree(&start, &folder)).await??)
    }

    /// The work itself; anything but an exit status of 0 ends the attempt.
    async fn work(&self, trial: Trial<'_>, worktree: &Worktree, record: &mut Record) -> Result<(), Stop> {
        let (argv, timeout) = (trial.job.rendered.argv.clone(), trial.task.timeout);
        let command = CagedCommand { argv, cwd: worktree.spec.at().clone(), timeout };
        let ran = self.caged(trial, command, worktree, When::WORK, &mut record.log).await?;
        note(&ran, &self.not_enforced, record);
        match ran.outcome.ended {
            Ended::Exited { code: 0 } => Ok(()),
            ended => Err(Stop(AttemptEnd::Work { ended })),
        }
    }

    /// Runs one of the attempt's commands in a worktree.
    async fn caged(
        &self,
        trial: Trial<'_>,
        command: CagedCommand,
        worktree: &Worktree,
        when: When,
        log: &mut LogWriter,
    ) -> Result<Ran, Stop> {
        let Trial { job, task, places } = trial;
        let cage = &self.cages[&task.sandbox];
        let attempt = places.inside(cage.tier(), when.out, &job.needs, &self.state, &self.run)?;
        let mut env = attempt.env;
        env.push(("SWARM_ATTEMPT".to_owned(), job.attempt.to_string()));
        env.push(("SWARM_RUN".to_owned(), self.run.0.clone()));
        env.extend(job.rendered.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut grants = worktree.grants.clone();
        grants.extend(attempt.grants);
        let own = places.of_cage(when.name);
        let spec = cage.spec(worktree.spec.clone(), worktree.cow.clone(), grants, env, &own);
        places.make_private_folders(&self.state, &spec)?;
        // A log that cannot be written is noticed when it is finished.
        let mut hear = |_: Stream, bytes: &[u8]| drop(log.write(bytes));
        Ok(self.jobs.run(Some(&job.name), command, spec, &mut hear).await?)
    }

    /// What the work left becomes a commit under a ref, whether it passed or not; then the worktree goes. The commit is
    /// returned, or `None` when nothing changed.
    async fn collect(
        self: &Arc<Self>,
        trial: Trial<'_>,
        start: &Arc<Start>,
        worktree: Worktree,
        record: &mut Record,
    ) -> Result<Option<Oid>, Stop> {
        let Trial { job, places, .. } = trial;
        let (executor, from) = (Arc::clone(self), Arc::clone(start));
        let (name, attempt, writes) = (job.name.clone(), job.attempt, self.writes(job));
        let (task, artifacts) = (job.task, places.artifacts());
        let taken = tokio::task::spawn_blocking(move || {
            let taken = executor.take(&name, attempt, &from, &worktree, writes.as_deref());
            let patterns = &executor.plan.task(task).artifacts;
            let files = take_artifacts(&worktree, patterns, &artifacts, &CollectLimits::default());
            executor.trees.discard(worktree);
            Ok::<Taken, TakeError>(match (taken?, files?) {
                (Taken { kept, refusal: None }, Artifacts::Refused(refusal)) => Taken { kept, refusal: Some(refusal) },
                (taken, _) => taken,
            })
        });
        let Taken { kept, refusal } = taken.await??;
        let unchanged = kept.as_ref().is_none_or(|kept| kept.summary.tree == kept.summary.base_tree);
        let commit = kept.as_ref().map(|kept| kept.commit);
        if let Some(kept) = kept {
            record.notes.extend(kept.notes);
            record.change = Some(kept.summary);
        }
        match refusal {
            Some(refusal) => Err(Stop(violation(&refusal, self.plan.merge.mode))),
            None if unchanged => Ok(None),
            None => Ok(commit),
        }
    }

    /// What a task may change: nothing at all in mode `none`.
    fn writes(&self, job: &AttemptJob) -> Option<Vec<String>> {
        match self.plan.merge.mode {
            MergeMode::Train => job.rendered.writes.clone(),
            MergeMode::None => Some(vec![]),
        }
    }

    /// Collects and keeps. Nothing is lost: what is out of scope is kept for a look, and never merged.
    fn take(
        &self,
        name: &InstanceId,
        attempt: Attempt,
        start: &Start,
        worktree: &Worktree,
        writes: Option<&[String]>,
    ) -> Result<Taken, TakeError> {
        let limits = CollectLimits::default();
        let (change, refusal) = match collect(&self.repository, worktree, writes, &limits)? {
            Collected::Change(change) => (Some(change), None),
            Collected::Refused(refusal @ Refusal::OutOfScope { .. }) => {
                match collect(&self.repository, worktree, None, &limits)? {
                    Collected::Change(change) => (Some(change), Some(refusal)),
                    Collected::Refused(graver) => (None, Some(graver)),
                }
            }
            Collected::Refused(refusal) => (None, Some(refusal)),
        };
        let kept = change.map(|change| self.keep(name, attempt, start, change)).transpose()?;
        Ok(Taken { kept, refusal })
    }

    /// Commits a change and keeps it under the attempt's ref.
    fn keep(
        &self,
        name: &InstanceId,
        attempt: Attempt,
        start: &Start,
        change: Change,
    ) -> Result<Kept, RepositoryError> {
        let mut commit = start.commit;
        if !change.is_empty() {
            let trailers = commit::trailers(&self.plan.name, name);
            let subject = format!("{}: {name}", self.plan.name);
            let spec =
                CommitSpec { parents: &[start.commit], tree: change.tree, subject: &subject, trailers: &trailers };
            commit = commit::write_commit(&self.repository, &self.signing, &spec)?;
            commit::keep(&self.repository, &commit::attempt_ref(&self.run, name, attempt), commit)?;
        }
        let summary = ChangeSummary {
            base_tree: change.base_tree.to_string(),
            commit: commit.to_string(),
            tree: change.tree.to_string(),
            files: change.paths.len() as u64,
        };
        let mut notes = change.notes;
        notes.extend(self_running_note(&change.paths));
        Ok(Kept { summary, commit, notes })
    }

    /// Checks that have to fail before the work: else they would prove nothing.
    async fn checks_before(
        self: &Arc<Self>,
        trial: Trial<'_>,
        start: &Arc<Start>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let before = |check: &&(usize, &RenderedCheck)| check.1.before == BeforeWork::ExpectFail;
        let all: Vec<(usize, &RenderedCheck)> = trial.job.rendered.checks.iter().enumerate().collect();
        for &(index, check) in all.iter().filter(before) {
            let worktree = self.provision(start, trial.places, "before").await?;
            let ended = self.check(trial, (index, check), &worktree, When::BEFORE, record).await;
            self.trees.discard(worktree);
            let ended = ended?;
            let failed_as_asked = matches!(ended, Ended::Exited { code } if code != 0);
            if !failed_as_asked {
                let command = words::command(&check.command.argv);
                return Err(Stop(AttemptEnd::Check { index, command, ended, before: true }));
            }
        }
        Ok(())
    }

    async fn checks_after(
        self: &Arc<Self>,
        trial: Trial<'_>,
        start: &Arc<Start>,
        result: Option<Oid>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        if trial.job.rendered.checks.is_empty() {
            return Ok(());
        }
        let executor = Arc::clone(self);
        let result = match result {
            None => Arc::clone(start),
            Some(commit) => Arc::new(tokio::task::spawn_blocking(move || executor.trees.layered(commit)).await??),
        };
        let worktree = self.provision(&result, trial.places, "check").await?;
        let mut end = Ok(());
        for (index, check) in trial.job.rendered.checks.iter().enumerate() {
            end = match self.check(trial, (index, check), &worktree, When::AFTER, record).await {
                Ok(Ended::Exited { code: 0 }) => Ok(()),
                Ok(ended) => {
                    let command = words::command(&check.command.argv);
                    Err(Stop(AttemptEnd::Check { index, command, ended, before: false }))
                }
                Err(stop) => Err(stop),
            };
            if end.is_err() {
                break;
            }
        }
        self.trees.discard(worktree);
        end
    }

    async fn check(
        &self,
        trial: Trial<'_>,
        (index, check): (usize, &RenderedCheck),
        worktree: &Worktree,
        when: When,
        record: &mut Record,
    ) -> Result<Ended, Stop> {
        let job = trial.job;
        self.jobs.phase(Some(&job.name), format!("check {}/{}", index + 1, job.rendered.checks.len()));
        // A log that cannot be written is noticed when it is finished.
        let _ =
            record.log.section(&format!("check {} {}: {}", index + 1, when.words, words::command(&check.command.argv)));
        let timeout = check.command.timeout.or(trial.task.timeout);
        let command = CagedCommand { argv: check.command.argv.clone(), cwd: worktree.spec.at().clone(), timeout };
        let ran = self.caged(trial, command, worktree, when, &mut record.log).await?;
        note(&ran, &self.not_enforced, record);
        Ok(ran.outcome.ended)
    }

    /// The items of a fan-out: the lines that a caged command prints on the base tree.
    pub async fn items(&self, task: TaskIx, command: RenderedCommand) -> Result<Vec<Value>, String> {
        setup::lines(self, task, &command).await.map_err(|error| chain(&error))
    }
}

/// A change under its ref.
struct Kept {
    summary: ChangeSummary,
    commit: Oid,
    notes: Vec<String>,
}

/// What collecting brought: a change, a refusal, or both when the change is kept but may not be merged.
struct Taken {
    kept: Option<Kept>,
    refusal: Option<Refusal>,
}

/// Why nothing could be taken: a failure of ours.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error("keep its change: {0}")]
    Keep(#[from] RepositoryError),
}

/// Says which of the changed files somebody's tools will execute outside of the cage.
fn self_running_note(paths: &[ChangedPath]) -> Option<String> {
    let changed = paths.iter().filter(|changed| changed.kind != ChangeKind::Deleted).map(|changed| &changed.path);
    let named: Vec<String> = changed
        .filter(|path| runs_on_its_own(path))
        .take(SELF_RUNNING_NAMED_MAX)
        .map(|path| display_path(path))
        .collect();
    let list = named.join(", ");
    (!named.is_empty()).then(|| format!("it changed what runs by itself outside of the cage: {list}"))
}

/// What a person should know of a command that ran; `known` is what the run's own report says is not enforced.
fn note(ran: &Ran, known: &[String], record: &mut Record) {
    if ran.outcome.orphans > 0 {
        let (orphans, were) = match ran.outcome.orphans {
            1 => ("1 process".to_owned(), "was"),
            n => (format!("{n} processes"), "were"),
        };
        record.notes.push(format!("{orphans} outlived the command and {were} killed"));
    }
    if ran.outcome.output_bytes_dropped > 0 {
        let dropped = bytesize::ByteSize(ran.outcome.output_bytes_dropped);
        record.notes.push(format!("{dropped} of its output were left out of the log, in the middle"));
    }
    // A limit that the plan asks for and this machine does not hold is never passed over in silence.
    let lacking = ran.enforcement.iter().flat_map(|report| &report.not_enforced);
    for what in lacking.filter(|what| !known.contains(what)) {
        let note = format!("its policy asks for what this machine does not enforce: {what}");
        if !record.notes.contains(&note) {
            record.notes.push(note);
        }
    }
}

fn violation(refusal: &Refusal, mode: MergeMode) -> AttemptEnd {
    let (detail, paths): (String, &[Vec<u8>]) = match refusal {
        Refusal::OutOfScope { paths, .. } if mode == MergeMode::None => {
            ("the plan's `mode = \"none\"` allows no change, and it changed".to_owned(), paths)
        }
        Refusal::OutOfScope { paths, count: 1 } => ("it changed a path outside of its `writes`".to_owned(), paths),
        Refusal::OutOfScope { paths, count } => (format!("it changed {count} paths outside of its `writes`"), paths),
        Refusal::Hostile { path, reason } => (reason.clone(), std::slice::from_ref(path)),
        Refusal::Limit { limit, max, path } => {
            (format!("what it left exceeds the limit `{limit}` of {max}"), std::slice::from_ref(path))
        }
    };
    AttemptEnd::Violation { detail, paths: paths.iter().map(|path| display_path(path)).collect() }
}
