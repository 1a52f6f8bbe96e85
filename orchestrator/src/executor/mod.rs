//! One attempt, from its tree to its result: start tree → worktree → work in the cage → collect → commit → outputs →
//! checks. Decides nothing about the run; a failure is a value. Start reading at [`Executor::attempt`].
//!
//! Checks run in a worktree of their own, made from the collected change: what a worker left behind beside its change
//! (ignored files, a poisoned cache, its `.git`) cannot make a check pass.

/// What may be read above a worktree that lies where its folder is.
pub mod above;
/// The same attempt several times, compared.
pub mod again;
/// Coding agents as work.
mod agent;
/// The gates of one attempt.
mod checks;
/// Commands of the merge train.
mod errand;
/// WebAssembly guests as work.
mod guest;
/// What a task hands over, on the disk.
mod handed;
/// A worker's own commits.
mod history;
/// One command in one cage.
pub mod job;
/// Changes onto the target.
mod land;
/// What an attempt hands over by value.
pub mod outputs;
/// The folders of one attempt and what they are called inside.
mod places;
/// Which programs a command begins with.
pub mod programs;
/// An attempt in which the plan's resolver settles a conflict.
mod resolve;
/// Results of earlier runs instead of attempts.
pub mod reuse;
/// Agents that look at a result before it counts.
mod review;
/// Conflicts that commands of the plan settle.
pub mod settle;
/// `[workspace] setup` and the lines of fan-outs: commands on the base that belong to no attempt.
pub mod setup;
/// A task's place once more, for a person.
pub mod shell;
/// How much of its disk a command had.
mod space;
/// What fails behind a budget that is spent.
mod spent;
/// What an attempt left becomes a commit under its ref.
mod take;
/// The trees that attempts start from.
pub mod trees;
/// The gate of the target.
pub mod verify;
/// What the plan does not allow, and the line that would.
mod violation;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use git2::Oid;
use indexmap::IndexMap;
use serde_json::{Map, Value};
use swarm_plans::expansion;
use swarm_plans::{MergeMode, Plan, RenderedCommand, Task, TaskIx, ToolServer};
use swarm_protocol::agent::Envelope;
use swarm_protocol::causes::causes;
use swarm_protocol::{Access, Ended, SEEN_MAX, SandboxSpec, Stream};

use crate::agent::planning;
use crate::base::BaseError;
use crate::collect::artifacts::{Taken as Artifacts, take_artifacts, unmatched_note};
use crate::collect::run_by_plan::files_run;
use crate::collect::{CollectLimits, display_path};
use crate::commit::Signing;
use crate::dispatcher::core::{AttemptDone, AttemptJob, NoItems, RunFacts, StartAt};
use crate::egress::Leads;
use crate::event::{AttemptEnd, ChangeSummary, RefusalSeen, Whose};
use crate::ids::RunId;
use crate::journal::logs::SECTION_BYTES_MAX;
use crate::journal::{LogWriter, RunLock};
use crate::model::broker::endpoint::Desk;
use crate::model::broker::{Broker, Caller};
use crate::policy::Cage;
use crate::report::words;
use crate::repository::{Obeyed, Repository};
use crate::state::StateDir;
use crate::tool_servers::ToolServers;
use crate::worktree::Worktree;

use job::{CagedCommand, Jobs, Ran};
use places::{Inside, Places, with_private_folders};
use reuse::Results;
use take::{RunByPlan, TakeError, Taken, only_ignored};
use trees::{Start, Trees};
use violation::violation;

/// The output under which dependents find what an agent said of its work, unless the plan uses the name itself.
const AGENT_OUTPUT: &str = "agent";

/// Does the work of one run.
pub struct Executor {
    /// The repository.
    pub repository: Arc<Repository>,
    /// What of its checkout git obeys by configuration and hooks.
    pub obeyed: Obeyed,
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
    /// The lock of the target.
    pub target_lock: Option<Arc<RunLock>>,
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
    /// How often a task runs whose result may be reused, to be compared with itself; 1 compares nothing.
    pub repeats: u32,
    /// Results of earlier runs, and where those of this one are recorded; `None` when there can be none.
    pub results: Option<Results>,
    /// The one door to models.
    pub broker: Arc<Broker>,
    /// Servers of tools that the coordinator speaks with for agents.
    pub tool_servers: Arc<ToolServers>,
    /// The person's own servers of tools, by name.
    pub user_servers: IndexMap<String, ToolServer>,
    /// The names of the person's own models.
    pub user_models: Vec<String>,
    /// The gate of the target, if there is one.
    pub gate: Option<verify::Gate>,
    /// What settles conflicts.
    pub settler: settle::Settler,
    /// How much tasks have handed over.
    pub handed_over: outputs::HandedOver,
}

/// How an attempt ended that did not come to its last step.
struct Stop(AttemptEnd);

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop(AttemptEnd::Infra { detail: causes(&error) })
    }
}

fn no_start(error: trees::TreeError) -> Stop {
    match error {
        trees::TreeError::Contradiction { detail } => Stop(AttemptEnd::Needs { detail }),
        other => other.into(),
    }
}

fn not_handed_over(error: outputs::OutputError) -> Stop {
    match error {
        outputs::OutputError::TooMuch { .. } => {
            Stop(AttemptEnd::Violation { detail: error.to_string(), paths: vec![], allow_with: None })
        }
        error if error.is_the_machines() => error.into(),
        error => Stop(AttemptEnd::Outputs { detail: causes(&error) }),
    }
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

/// The folders of an attempt that hold its worktrees.
pub const WORKTREES: [&str; 4] = [When::WORK.name, When::BEFORE.name, When::AFTER.name, When::REVIEW.name];

impl When {
    const WORK: When = When { name: "work", words: "the work", out: Access::Write };
    const BEFORE: When = When { name: "before", words: "before the work", out: Access::Read };
    const AFTER: When = When { name: "check", words: "after the work", out: Access::Read };
    const REVIEW: When = When { name: "review", words: "behind the checks", out: Access::Read };
}

/// One attempt: what to do, for which task, in which folders.
#[derive(Clone, Copy)]
struct Trial<'a> {
    job: &'a Arc<AttemptJob>,
    task: &'a Task,
    places: &'a Places,
}

/// What an attempt has brought so far.
struct Record {
    log: LogWriter,
    change: Option<ChangeSummary>,
    outputs: Map<String, Value>,
    notes: Vec<String>,
    refusals: Vec<RefusalSeen>,
    envelope: Option<Envelope>,
    submitted: Option<Result<String, String>>,
    /// Whose budget refused the newest question of its program, and why.
    spent: Option<(Whose, String)>,
}

impl Record {
    fn new(log: LogWriter) -> Self {
        let (notes, refusals) = (vec![], vec![]);
        Record { log, change: None, outputs: Map::new(), notes, refusals, envelope: None, submitted: None, spent: None }
    }
}

impl Executor {
    /// Runs one attempt to its end. Never fails: whatever goes wrong is its end.
    pub async fn attempt(self: &Arc<Self>, job: AttemptJob) -> AttemptDone {
        let begun = Instant::now();
        let job = Arc::new(job);
        let name = job.name.clone();
        let places = Places::of(&self.state, &self.run, &name, job.attempt);
        let left = places.clear_beside(&self.state).await;
        let log = LogWriter::new(places.log(), SECTION_BYTES_MAX);
        let mut record = Record::new(log);
        if let Err(error) = left {
            let detail = format!("remove what an earlier coordinator left: {error}");
            return AttemptDone::bare(AttemptEnd::Infra { detail });
        }
        let trial = Trial { job: &job, task: self.plan.task(job.task), places: &places };
        let mut passed = match &job.start {
            StartAt::Conflict { commit, change } => self.resolve(trial, commit, change, &mut record).await,
            StartAt::Needs | StartAt::Tip { .. } => self.steps(trial, &mut record).await,
        };
        if passed.is_ok() && job.start == StartAt::Needs {
            passed = self.again(trial, &mut record).await;
        }
        let mut end = match passed {
            Ok(()) => AttemptEnd::Succeeded,
            Err(Stop(end)) => spent::told(end, record.spent.take()),
        };
        if let Err(error) = record.log.finish() {
            end = blame(end, &error);
            record.notes.push(format!("its log is incomplete: {error}"));
        }
        if end == AttemptEnd::Succeeded
            && let Err(error) = handed::bring_to_disk_beside(places.artifacts()).await
        {
            let detail = format!("bring what it hands over to the disk: {error}");
            end = AttemptEnd::Infra { detail };
        }
        let unheard = self.leave_feedback(trial, &end, record.envelope.as_ref(), record.change.as_ref()).await;
        record.notes.extend(unheard);
        let duration_ms = begun.elapsed().as_millis() as u64;
        if end == AttemptEnd::Succeeded
            && job.start == StartAt::Needs
            && let Err(reason) =
                self.record_result(&job, record.change.as_ref(), (&record.outputs, &record.notes), duration_ms).await
        {
            record.notes.push(format!("its result cannot be reused: {reason}"));
        }
        // Behind the record: it is of this run alone.
        record.notes.extend(self.why_not_taken(job.instance));
        let Record { change, outputs, notes, refusals, envelope, .. } = record;
        let handed = places.handed_beside().await;
        AttemptDone { end, duration_ms, change, outputs, handed, notes, refusals, envelope }.masked(&self.jobs.secrets)
    }

    async fn steps(self: &Arc<Self>, trial: Trial<'_>, record: &mut Record) -> Result<(), Stop> {
        let Trial { job, task, places } = trial;
        let start = self.start_of(job).await?;
        self.checks_before(trial, &start, record).await?;
        let worktree = self.provision(&start, places, "work").await?;
        let worked = self.work(trial, &start, &worktree, record).await;
        let collected = self.collect(trial, &start, worktree, record).await;
        worked?;
        let result = collected?;
        record.outputs = self.outputs_of(job.task, places).await?.map_err(not_handed_over)?;
        if task.expands.is_some() {
            let refused = |reason| Stop(AttemptEnd::Outputs { detail: format!("the new tasks are refused: {reason}") });
            // What is refused is not handed over either.
            let list = record.outputs.remove(expansion::OUTPUT);
            let entries = expansion::accept(&self.plan, job.task, list.as_ref()).map_err(refused)?;
            record.outputs.insert(expansion::OUTPUT.to_owned(), entries.into());
        }
        if let Some(envelope) = &record.envelope {
            record.outputs.entry(AGENT_OUTPUT).or_insert_with(|| serde_json::json!(envelope));
        }
        if let Some(plan) = agent::handed_over(record.submitted.take()).map_err(Stop)? {
            record.outputs.insert(planning::OUTPUT.to_owned(), plan.into());
        }
        if let Err(error) = self.handed_over.book(&job.name, &record.outputs) {
            record.outputs = Map::new();
            return Err(not_handed_over(error));
        }
        self.checks_after(trial, &start, result, record).await?;
        if result.is_none() {
            let note = agent::mere_word(trial, self.writes(job).as_deref(), record.envelope.as_ref());
            record.notes.extend(note.map(str::to_owned));
        }
        Ok(())
    }

    async fn start_of(self: &Arc<Self>, job: &AttemptJob) -> Result<Arc<Start>, Stop> {
        if let StartAt::Tip { commit } = &job.start {
            let (executor, commit) = (Arc::clone(self), Oid::from_str(commit)?);
            return Ok(Arc::new(tokio::task::spawn_blocking(move || executor.trees.layered(commit)).await??));
        }
        if job.needs.changes.is_empty() {
            return Ok(Arc::clone(&self.trees.base));
        }
        let joined = || {
            let (executor, needs) = (Arc::clone(self), Arc::clone(&job.needs));
            tokio::task::spawn_blocking(move || executor.trees.with_changes(&needs.changes))
        };
        let start = match joined().await? {
            Err(trees::TreeError::ToBeMade { tree, again }) => {
                self.make_joined(&job.needs.changes, tree, again).await?;
                joined().await?
            }
            start => start,
        };
        start.map_err(no_start)
    }

    async fn provision(self: &Arc<Self>, start: &Arc<Start>, places: &Places, name: &str) -> Result<Worktree, Stop> {
        let (executor, start, own) =
            (Arc::clone(self), Arc::clone(start), places.of_cage_beside(&self.state, name).await?);
        let made = tokio::task::spawn_blocking(move || executor.trees.worktree(&start, &own.relative)).await?;
        made.map_err(|error| match error {
            // Another try starts from the same tree.
            trees::TreeError::Base(BaseError::Cache { ref path, .. }) => Stop(AttemptEnd::Violation {
                detail: causes(&error),
                paths: vec![display_path(path.as_os_str().as_encoded_bytes())],
                allow_with: None,
            }),
            other => other.into(),
        })
    }

    /// The work itself; anything but an exit status of 0 ends the attempt.
    async fn work(
        &self,
        trial: Trial<'_>,
        start: &Start,
        worktree: &Worktree,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let mut spent = None;
        let ran = if let Some(guest) = trial.job.rendered.guest {
            self.guest(trial, guest, start, worktree, &mut record.log).await?
        } else if let Some(agent) = &trial.job.rendered.agent {
            let worked = self.agent(trial, agent, start, worktree, &mut record.log).await?;
            record.notes.extend(worked.notes);
            (record.envelope, record.submitted, spent) = (worked.envelope, worked.submitted, worked.spent);
            worked.ran
        } else {
            let (argv, timeout) = (trial.job.rendered.argv.clone(), trial.task.timeout);
            let hosts = self.cages[&trial.task.sandbox].egress().cloned();
            let desk = self.desk(trial);
            let leads = Leads { hosts, models: desk.clone() };
            let command = CagedCommand { argv, cwd: worktree.spec.at().clone(), timeout, leads };
            let ran = self.caged(trial, command, worktree, When::WORK, &mut record.log).await?;
            record.spent = desk.and_then(|desk| desk.spent());
            ran
        };
        note(&ran, &self.not_enforced, record);
        self.hear_refusals(trial, &ran, record);
        match ran.outcome.ended {
            ended if trial.job.rendered.agent.is_some() => {
                agent::end_of(ended, record.envelope.as_ref(), spent).map_err(Stop)
            }
            Ended::Exited { code: 0 } => Ok(()),
            ended => Err(Stop(AttemptEnd::Work { ended })),
        }
    }

    /// The attempt's way to the models that its task names, where it names any.
    fn desk(&self, trial: Trial<'_>) -> Option<Arc<Desk>> {
        let Trial { job, task, .. } = trial;
        let models: Arc<[String]> = task.models.iter().map(|used| used.name.clone()).collect();
        let caller = Caller { instance: job.name.clone(), task: job.task, attempt: job.attempt, models };
        (!caller.models.is_empty()).then(|| Arc::new(Desk::new(Arc::clone(&self.broker), caller)))
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
        let (spec, _) = self.cage_of(trial, worktree, when).await?;
        // A log that cannot be written is noticed when it is finished.
        let mut hear = |_: Stream, bytes: &[u8]| log.write(bytes);
        Ok(self.jobs.run(Some(&trial.job.name), command, spec, &mut hear).await?)
    }

    /// The cage of one of the attempt's jobs, with its folders made, and what it is shown of the attempt.
    async fn cage_of(&self, trial: Trial<'_>, worktree: &Worktree, when: When) -> Result<(SandboxSpec, Inside), Stop> {
        self.cage_under(&trial.task.sandbox, trial, worktree, when).await
    }

    /// The same under a policy of the plan that need not be the task's.
    async fn cage_under(
        &self,
        policy: &str,
        trial: Trial<'_>,
        worktree: &Worktree,
        when: When,
    ) -> Result<(SandboxSpec, Inside), Stop> {
        let Trial { job, places, .. } = trial;
        let cage = &self.cages[policy];
        let how = (cage.tier(), when.out);
        let (attempt, own) = places.caged_beside(how, &job.needs, (&self.state, &self.run), when.name).await?;
        let mut env = attempt.env.clone();
        env.push(("SWARM_ATTEMPT".to_owned(), job.try_number.to_string()));
        env.push(("SWARM_RUN".to_owned(), self.run.0.clone()));
        env.extend(job.rendered.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut grants = worktree.grants.clone();
        grants.extend(attempt.grants.iter().cloned());
        let spec = cage.spec(worktree.spec.clone(), worktree.cow.clone(), grants, env, &own);
        Ok((with_private_folders(&self.state, spec).await?, attempt))
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
        let (task, out, run) = (job.task, places.out(), self.run_by_plan(job));
        let taken = tokio::task::spawn_blocking(move || {
            let taken = executor.take((&name, attempt), &from, &worktree, writes.as_deref(), &run);
            let patterns = &executor.plan.task(task).artifacts;
            let files = take_artifacts(&worktree, patterns, (&out, outputs::ARTIFACTS), &CollectLimits::default());
            executor.trees.discard(worktree);
            Ok::<_, TakeError>(match (taken?, files?) {
                (Taken { kept, refusal: None }, Artifacts::Refused(refusal)) => {
                    (Taken { kept, refusal: Some(refusal) }, None)
                }
                (taken, Artifacts::Files(files)) => {
                    (taken, unmatched_note(patterns, &files, &out.join(outputs::ARTIFACTS)))
                }
                (taken, Artifacts::Refused(_)) => (taken, None),
            })
        });
        let (Taken { kept, refusal }, note) = taken.await??;
        record.notes.extend(note);
        let unchanged = kept.as_ref().is_none_or(|kept| kept.summary.tree == kept.summary.base_tree);
        let commit = kept.as_ref().map(|kept| kept.commit);
        if let Some(kept) = kept {
            let is_wanted = self.target.is_some() && self.plan.task(job.task).artifacts.is_empty();
            let may_change = self.writes(job).is_none_or(|writes| !writes.is_empty());
            let ignored = kept.ignored.filter(|_| unchanged && is_wanted && may_change);
            record.notes.extend(kept.notes);
            record.notes.extend(ignored.map(|path| only_ignored(&path)));
            record.change = Some(kept.summary);
        }
        match refusal {
            Some(refusal) => {
                let (mode, task) = (self.plan.merge.mode, self.plan.task(job.task));
                Err(Stop(violation(&refusal, mode, task, self.writes(job).as_deref())))
            }
            None if unchanged => Ok(None),
            None => Ok(commit),
        }
    }

    /// The files that commands run by which a result is judged, or the worktrees of later runs are prepared.
    fn run_by_plan(&self, job: &AttemptJob) -> Vec<RunByPlan> {
        let checks = job.rendered.checks.iter().flat_map(|check| files_run(&check.command.argv)).collect();
        let verify = self.gate.as_ref().map(|gate| files_run(&gate.command().argv)).unwrap_or_default();
        // One that does not render has ended the run before any task.
        let rendered = |setup| self.plan.render_command(setup, &self.facts.context(&Value::Null, &self.facts.lookup()));
        let setup = self.plan.workspace.setup.as_ref().and_then(|setup| rendered(setup).ok());
        let setup = setup.map(|setup| files_run(&setup.argv)).unwrap_or_default();
        let named = [("its check", checks), ("[merge] verify", verify), ("[workspace] setup", setup)];
        named.into_iter().map(|(by, files)| RunByPlan { by, files }).collect()
    }

    /// What a task may change: nothing at all in mode `none`.
    fn writes(&self, job: &AttemptJob) -> Option<Vec<String>> {
        match self.plan.merge.mode {
            MergeMode::Train => job.rendered.writes.clone(),
            MergeMode::None => Some(vec![]),
        }
    }

    /// Keeps what the cage seems to have kept from a command that failed, with the plan lines that would allow it.
    fn hear_refusals(&self, trial: Trial<'_>, ran: &Ran, record: &mut Record) {
        for refusal in self.cages[&trial.task.sandbox].origin.seen(&ran.outcome.refusals) {
            if record.refusals.len() < SEEN_MAX && !record.refusals.contains(&refusal) {
                record.refusals.push(refusal);
            }
        }
    }

    /// The items of a fan-out: the lines that a caged command prints on the base tree.
    pub async fn items(&self, task: TaskIx, command: RenderedCommand) -> Result<Vec<Value>, NoItems> {
        setup::lines(self, task, &command).await.map_err(|error| match error.is_the_machines() {
            true => NoItems::Machine(causes(&error)),
            false => NoItems::Work(causes(&error)),
        })
    }
}

/// A command that fails while its log finds no space says nothing about the work: the machine failed it.
fn blame(end: AttemptEnd, log: &std::io::Error) -> AttemptEnd {
    let is_full = matches!(log.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let (AttemptEnd::Work { ended } | AttemptEnd::Check { ended, .. }) = &end else { return end };
    match ended {
        Ended::Exited { .. } | Ended::Signaled { .. } if is_full => {
            let detail = format!("no space was left for its log when it {}", words::end(&end));
            AttemptEnd::Infra { detail }
        }
        _ => end,
    }
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
    record.notes.extend(ran.outcome.left_running.clone());
    record.notes.extend(ran.notes.iter().cloned());
    if let Some(reached) = &ran.outcome.limit_reached {
        record.notes.push(format!("it reached a limit and coped: {reached}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_on_a_full_disk_is_the_machines() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let exited = AttemptEnd::Work { ended: Ended::Exited { code: 1 } };
        assert_eq!(blame(exited.clone(), &std::io::Error::from(std::io::ErrorKind::NotADirectory)), exited);
        let AttemptEnd::Infra { detail } = blame(exited, &full) else { panic!("the machine's") };
        assert_eq!(detail, "no space was left for its log when it exited with 1");
        let timed_out = AttemptEnd::Work { ended: Ended::TimedOut };
        assert_eq!(blame(timed_out.clone(), &full), timed_out);
        assert_eq!(blame(AttemptEnd::Succeeded, &full), AttemptEnd::Succeeded);
    }
}
