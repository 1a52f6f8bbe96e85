//! Coding agents as work: what one is told, and how its conversation becomes an end of the attempt.
//!
//! An attempt whose coordinator died is followed by one that gives its transcript once more (see
//! [`crate::agent::transcript`]); one that failed is followed by one that is told why.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use git2::Oid;
use serde::{Deserialize, Serialize};
use swarm_plans::{
    AgentMode, CONTEXT_TOKENS_DEFAULT, DEFAULT_SANDBOX, Network, OUTPUT_TOKENS_DEFAULT, RenderedAgent, ServerReach,
    Submits,
};
use swarm_protocol::agent::{AgentJob, AgentLimits, AgentRules, AgentStatus, Envelope};
use swarm_protocol::causes::causes;
use swarm_protocol::toolset::{
    HookEvent, HookSpec, LanguageServers, ProjectFile, ProjectHooks, Reach, SkillFile, ToolServer, Toolset,
};
use swarm_protocol::{Access, Ended, Grant, Stream};
use tokio::sync::mpsc;

use super::job::Ran;
use super::trees::{Start, files_matching};
use super::{Executor, Stop, Trial, When};
use crate::agent::attach::Entrance;
use crate::agent::bootstrap::{self, Beginning, BootstrapError, Told};
use crate::agent::conversation::{Conversation, Ear, Held, OwnTools, SAYS_MAX, Shown, TOLD_MAX};
use crate::agent::fork;
use crate::agent::of_project;
use crate::agent::planning::{self, Submissions};
use crate::agent::transcript::{self, Entry, Kept, Recorded, Transcript};
use crate::dispatcher::core::StartAt;
use crate::egress::Leads;
use crate::event::{AttemptEnd, ChangeSummary, Progress, Whose};
use crate::ids::Attempt;
use crate::journal::{LogWriter, attempt_dir, logs};
use crate::model::broker::Caller;
use crate::report::{sanitize, words};
use crate::secrets::Secrets;
use crate::state::write_whole;
use crate::tool_servers::given;
use crate::worker_process::AgentLink;
use crate::worktree::Worktree;

/// The file, beside a failed attempt's log, with what the next one is told of it.
const FEEDBACK_FILE: &str = "feedback.json";
/// The version of that file.
const FEEDBACK_VERSION: u32 = 1;
/// Lines of a failed attempt's log that the next one is told.
const FEEDBACK_LINES_MAX: usize = 80;
/// The longest part of its change that the next one is told, in bytes.
const FEEDBACK_DIFF_BYTES_MAX: usize = 24 << 10;
/// The longest of these lines, in characters.
const FEEDBACK_LINE_CHARS_MAX: usize = 400;

/// What the next attempt is told.
#[derive(Serialize, Deserialize)]
struct Feedback {
    version: u32,
    text: String,
}

/// What an agent's work came to.
pub(super) struct Worked {
    /// How its process ended.
    pub ran: Ran,
    /// Its last word.
    pub envelope: Option<Envelope>,
    /// Things a person should know.
    pub notes: Vec<String>,
    /// What it was to hand over, or why there is none; `None` where it hands over nothing.
    pub submitted: Option<Result<String, String>>,
    /// Whose budget kept it from asking a model.
    pub spent: Option<Whose>,
}

/// One conversation with an agent.
pub(super) struct Talk<'a> {
    /// The agent.
    pub agent: &'a RenderedAgent,
    /// What it is told, with secrets: [`Executor::talk`] masks it before anybody hears or keeps it.
    pub beginning: Beginning,
    /// The tree that it begins with.
    pub tree: Oid,
    /// The tree that was there before the work: the project's own file is read there, so that no change rewrites what holds
    /// for whoever looks at it or merges it.
    pub began: Oid,
    /// Where it is kept; absolute. What an attempt that was cut short kept under the same name is given once more.
    pub transcript: PathBuf,
    /// What it is given beside its own tools.
    pub toolset: Toolset,
    /// Who runs those of them that are the coordinator's.
    pub own_tools: Option<Arc<dyn OwnTools>>,
    /// In which of the attempt's worktrees.
    pub when: When,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: &'a str,
    /// Its wall time.
    pub timeout: Option<Duration>,
    /// Whom its programs reach.
    pub leads: Leads,
    /// A folder that it is shown beside the worktree, and the variable that names it.
    pub shown: Option<(Grant, &'static str)>,
}

impl Executor {
    /// Runs the attempt's agent in a worktree.
    pub(super) async fn agent(
        &self,
        trial: Trial<'_>,
        agent: &RenderedAgent,
        start: &Start,
        worktree: &Worktree,
        log: &mut LogWriter,
    ) -> Result<Worked, Stop> {
        let models = self.models_for(agent);
        let told = Told { feedback: self.newest_feedback(trial), models: models.clone() };
        let beginning = self.beginning(trial, agent, start, &told)?;
        let mut toolset = self.toolset(agent).await;
        let submissions = agent.settings.submits.map(|Submits::Plan| self.submissions(models, start.commit));
        let own_tools = submissions.clone().map(|own| own as Arc<dyn OwnTools>);
        toolset.of_coordinator = own_tools.iter().flat_map(|own| own.offered()).collect();
        let transcript = trial.places.transcript();
        let (tree, when) = (start.tree, When::WORK);
        let (sandbox, timeout) = (trial.task.sandbox.as_str(), trial.task.timeout);
        let talk = Talk {
            agent,
            beginning,
            tree,
            began: tree,
            transcript,
            toolset,
            own_tools,
            when,
            sandbox,
            timeout,
            leads: Leads { hosts: self.cages[sandbox].egress().cloned(), models: self.desk(trial) },
            shown: None,
        };
        let (ran, held) = self.talk(trial, talk, worktree, log).await?;
        let notes = notes(&held);
        let spent = held.spent();
        let submitted = submissions.map(|submissions| submissions.taken());
        Ok(Worked { ran, notes, envelope: held.envelope, submitted, spent })
    }

    /// Holds one conversation to its end.
    pub(super) async fn talk(
        &self,
        trial: Trial<'_>,
        talk: Talk<'_>,
        worktree: &Worktree,
        log: &mut LogWriter,
    ) -> Result<(Ran, Held), Stop> {
        let (job, agent) = (trial.job, talk.agent);
        let beginning = masked(talk.beginning, &self.jobs.secrets);
        let begun = begun(agent, &beginning, talk.tree);
        let (mut spec, _) = self.cage_under(talk.sandbox, trial, worktree, talk.when).await?;
        if let Some((grant, variable)) = talk.shown {
            spec.env.push((variable.to_owned(), grant.at.to_string_lossy().into_owned()));
            spec.grants.push(grant);
        }
        let scratch = spec.tmp.clone().unwrap_or_else(|| PathBuf::from("/tmp")).join("agent");
        let sizes = self.broker.sizes(&agent.settings.model);
        let (project, skills) = self.of_project(talk.began, talk.when).await?;
        let toolset = Toolset { project, skills, ..talk.toolset };
        let job_of_agent = agent_job(agent, sizes, beginning, worktree.spec.at().clone(), scratch, toolset);
        let (earlier, place, first) = (self.earlier(trial).collect::<Vec<_>>(), talk.transcript, begun.clone());
        let attempt = Arc::clone(trial.job);
        // Earlier transcripts may be long, and a folder waits for its disk.
        let at_disk = tokio::task::spawn_blocking(move || {
            let name = place.file_name().unwrap_or_default();
            let recorded = recorded(earlier, name, &first, &attempt.start);
            Transcript::create(&place).map(|transcript| (recorded, transcript))
        });
        let ((recorded, unread), transcript) = at_disk.await??;
        // Nobody joins who looks at a result: it has a fresh context.
        let people = (talk.when.out == Access::Write).then(|| Entrance::open(trial.places.folder())).transpose()?;
        let (says, heard) = mpsc::channel(SAYS_MAX);
        let (tell, told) = mpsc::channel(TOLD_MAX);
        let log = Mutex::new(log);
        let ear = Listener { executor: self, trial, log: &log };
        let mut conversation = Conversation {
            broker: Arc::clone(&self.broker),
            caller: self.caller(trial, agent),
            servers: Arc::clone(&self.tool_servers),
            servers_named: agent.settings.servers.iter().map(|(name, _)| name.clone()).collect(),
            own_tools: talk.own_tools,
            transcript: Arc::new(Mutex::new(transcript)),
            recorded,
            decided: vec![],
            secrets: self.jobs.secrets.clone(),
            ear: &ear,
            people,
            heard: mpsc::unbounded_channel(),
            shown: Shown::default(),
        };
        let mut before = Held::default();
        conversation.keep(begun, &mut before).await;
        // A log that cannot be written is noticed when it is finished.
        let mut hear = |_: Stream, bytes: &[u8]| lock(&log).write(bytes);
        let link = AgentLink { says, told };
        let work = self.jobs.run_agent(&job.name, job_of_agent, link, talk.timeout, talk.leads, spec, &mut hear);
        let (ran, held) = tokio::join!(work, conversation.hold(heard, tell));
        let transcript_lost = before.transcript_lost.or(held.transcript_lost);
        Ok((ran?.of_agent(held.envelope.as_ref())?, Held { unread, transcript_lost, ..held }))
    }

    /// What the project says of agents, and its skills, of the tree that was there before the work; the thread that decides does not read
    /// it. Who looks at a result runs none of its hooks, as it runs none of the plan's.
    async fn of_project(&self, began: Oid, when: When) -> Result<(Option<ProjectFile>, Vec<SkillFile>), Stop> {
        let hooks = if when.out == Access::Write { ProjectHooks::Run } else { ProjectHooks::LeftOut };
        let repository = Arc::clone(&self.repository);
        let read = tokio::task::spawn_blocking(move || {
            let git = repository.handle()?;
            let odb = git.odb()?;
            let text = bootstrap::project_file(&odb, began).map_err(bootstrap_failed)?;
            let file = |text: String| {
                let programs = of_project::programs(&odb, began, &text)?;
                Ok::<_, BootstrapError>(ProjectFile { text, hooks, programs })
            };
            let file = text.map(file).transpose().map_err(bootstrap_failed)?;
            Ok((file, of_project::skills(&odb, began).map_err(bootstrap_failed)?))
        });
        read.await?
    }

    /// The models that a plan which this agent writes may name.
    fn models_for(&self, agent: &RenderedAgent) -> Vec<String> {
        if agent.settings.submits.is_none() {
            return vec![];
        }
        planning::models(&self.user_models, &agent.settings.model)
    }

    fn submissions(&self, models: Vec<String>, start: Oid) -> Arc<Submissions> {
        let repository = Arc::clone(&self.repository);
        let files = move |globs: &[String]| files_matching(&repository, start, globs).map_err(|error| causes(&error));
        Arc::new(Submissions::new(models, Box::new(files)))
    }

    /// What the agent is given beside its own tools, with which servers of tools cannot be used.
    async fn toolset(&self, agent: &RenderedAgent) -> Toolset {
        let settings = &agent.settings;
        let (mut servers, mut lacking) = (Vec::new(), Vec::new());
        for (name, known) in &settings.servers {
            // A person's own entry wins over the plan's.
            let Some(server) = self.user_servers.get(name).or(known.as_ref()) else { continue };
            let reach = match &server.reach {
                ServerReach::Program { argv, env } => Reach::Program { argv: argv.clone(), env: env.clone() },
                ServerReach::Address { .. } => match self.tool_servers.offered(name).await {
                    Ok(listed) => {
                        let not_heard = listed
                            .left_out
                            .map(|what| format!("server `{name}` does not list its tools to an end: {what}"));
                        lacking.extend(not_heard);
                        let (offered, left_out) = given(listed.tools, server.tools.as_deref());
                        if left_out > 0 {
                            lacking.push(format!(
                                "server `{name}` offers too many tools: {left_out} are left out; name those that are needed in its \
                                 `tools`"
                            ));
                        }
                        Reach::Coordinator { offered }
                    }
                    Err(why) => {
                        lacking.push(why);
                        continue;
                    }
                },
            };
            let timeout_ms = server.timeout.as_millis() as u64;
            servers.push(ToolServer { name: name.clone(), reach, tools: server.tools.clone(), timeout_ms });
        }
        let hooks = settings.hooks.iter().filter_map(|hook| {
            let (matcher, run) = (hook.tools.clone(), hook.run.clone());
            let event = HookEvent::of_name(&hook.event)?;
            Some(HookSpec { event, matcher, run, timeout_ms: hook.timeout.as_millis() as u64 })
        });
        let diagnostics = match settings.language_servers {
            swarm_plans::LanguageServers::WhenInstalled => LanguageServers::WhenInstalled,
            swarm_plans::LanguageServers::Never => LanguageServers::Never,
        };
        let (tools, hooks) = (settings.tools.clone(), hooks.collect());
        Toolset { tools, hooks, servers, diagnostics, lacking, ..Toolset::default() }
    }

    fn caller(&self, trial: Trial<'_>, agent: &RenderedAgent) -> Caller {
        Caller {
            instance: trial.job.name.clone(),
            task: trial.job.task,
            attempt: trial.job.attempt,
            models: Arc::from([agent.settings.model.clone()]),
        }
    }

    fn beginning(
        &self,
        trial: Trial<'_>,
        agent: &RenderedAgent,
        start: &Start,
        told: &Told,
    ) -> Result<Beginning, Stop> {
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        let work = (&trial.job.rendered, agent);
        let network = self.network_of(&trial.task.sandbox);
        bootstrap::beginning(&odb, start.tree, &trial.job.name, work, network, told).map_err(bootstrap_failed)
    }

    fn network_of(&self, policy: &str) -> &Network {
        let known = &self.plan.sandboxes;
        &known.get(policy).unwrap_or_else(|| &known[DEFAULT_SANDBOX]).network
    }

    /// The folders of earlier attempts of the instance, the newest first.
    fn earlier(&self, trial: Trial<'_>) -> impl Iterator<Item = PathBuf> {
        let folder = |attempt| attempt_dir(self.state.root(), &self.run, &trial.job.name, Attempt(attempt));
        (1..trial.job.attempt.0).rev().map(folder)
    }

    /// What the newest attempt that came to an end leaves to this one. What cannot be read is nothing.
    fn newest_feedback(&self, trial: Trial<'_>) -> Option<String> {
        self.earlier(trial).find_map(|folder| told_next(&folder))
    }

    /// A change that does not count, as text; `None` where there is none, or it cannot be read any more.
    fn gone(&self, change: &ChangeSummary) -> Option<String> {
        let commit = Oid::from_str(&change.commit).ok().filter(|_| change.changes_anything())?;
        let from = self.repository.handle().ok()?.find_commit(commit).ok()?.parent_id(0).ok()?;
        self.change_of(from, commit, FEEDBACK_DIFF_BYTES_MAX).ok()
    }

    /// Keeps what the next attempt is to be told of one that failed by its own fault. One that was cut short is told nothing: it
    /// is gone on with.
    pub(super) async fn leave_feedback(
        self: &Arc<Self>,
        trial: Trial<'_>,
        end: &AttemptEnd,
        envelope: Option<&Envelope>,
        change: Option<&ChangeSummary>,
    ) -> Option<String> {
        let cut_short = end.is_cancelled() || matches!(end, AttemptEnd::Lost | AttemptEnd::Infra { .. });
        if trial.job.rendered.agent.is_none() || *end == AttemptEnd::Succeeded || cut_short {
            return None;
        }
        let (executor, log, folder) = (Arc::clone(self), trial.places.log(), trial.places.folder().to_owned());
        let (end, envelope, change) = (end.clone(), envelope.cloned(), change.cloned());
        let written = tokio::task::spawn_blocking(move || {
            let tail = logs::tail(&log, FEEDBACK_LINES_MAX).unwrap_or_default();
            let mut text = feedback(&end, envelope.as_ref(), &tail);
            if let Some(diff) = change.and_then(|change| executor.gone(&change)) {
                text.push_str(&format!("\nWhat it had changed; take of it what was right:\n\n{diff}"));
            }
            let text = executor.jobs.secrets.text(&text).into_owned();
            write_feedback(&folder, text)
        });
        let written = written.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        written.err().map(|error| format!("its next attempt will not know why it failed: {error}"))
    }
}

/// Answers that are given once more, from the transcripts of this name of attempts that were told nothing to the next one: those
/// behind the newest that failed by its own fault, of the folders in `earlier`, the newest first. What of them cannot be read is
/// asked for once more; the notes say so.
fn recorded(earlier: Vec<PathBuf>, name: &OsStr, begun: &Entry, start: &StartAt) -> (VecDeque<Recorded>, Vec<String>) {
    let is_work = name == transcript::FILE;
    let told = |folder: &PathBuf| if is_work { told_next(folder) } else { read_feedback(folder) };
    let cut_short = earlier.into_iter().take_while(|folder| told(folder).is_none());
    // A task that runs once more because its change did not land is to think again.
    let is_first = *start == StartAt::Needs;
    let (mut longest, mut notes) = (VecDeque::new(), vec![]);
    for folder in cut_short {
        let (entries, lost) = kept(&folder, name);
        notes.extend(lost);
        if let Some(answers) = fork::marked(&folder).filter(|_| is_work) {
            let (recorded, note) = forked(&folder, transcript::recorded(&entries, begun), answers);
            notes.push(note);
            longest = if recorded.len() > longest.len() { recorded } else { longest };
            // A person wants what was said before it, and nothing else.
            break;
        }
        if is_first || !transcript::has_ended(&entries) {
            // The longest conversation that began the same way.
            let recorded = transcript::recorded(&entries, begun);
            longest = if recorded.len() > longest.len() { recorded } else { longest };
        }
    }
    (longest, notes)
}

/// What is given once more of a conversation that a person has forked behind some of its answers, and what people are told of it.
fn forked(folder: &Path, mut recorded: VecDeque<Recorded>, answers: usize) -> (VecDeque<Recorded>, String) {
    let attempt = folder.file_name().unwrap_or_default().to_string_lossy();
    let note = match recorded.is_empty() {
        true => format!(
            "the conversation of attempt {attempt} cannot be gone on with: it began with another tree, or with other words, than \
             this one, which begins anew"
        ),
        false => format!("it goes on with the conversation of attempt {attempt}, behind answer {answers}"),
    };
    recorded.truncate(answers);
    (recorded, note)
}

/// The end of an attempt whose agent could not be told its task.
pub(super) fn bootstrap_failed(error: BootstrapError) -> Stop {
    match error {
        error @ BootstrapError::NotThere { .. } => {
            Stop(AttemptEnd::Work { ended: Ended::StartFailed { reason: error.to_string() } })
        }
        error => error.into(),
    }
}

/// What an agent is told, without secrets: checks and tasks that hold one are masked in its log as well.
fn masked(Beginning { system, prompt }: Beginning, secrets: &Secrets) -> Beginning {
    let masked = |text: String| secrets.text(&text).into_owned();
    Beginning { system: masked(system), prompt: masked(prompt) }
}

/// How a conversation begins in a worktree of `tree`.
fn begun(agent: &RenderedAgent, beginning: &Beginning, tree: Oid) -> Entry {
    let Beginning { system, prompt } = beginning.clone();
    Entry::Begun { model: agent.settings.model.clone(), system, prompt, tree: tree.to_string() }
}

/// What an earlier attempt kept of its conversation, and what of it is lost, for people.
fn kept(folder: &Path, name: &OsStr) -> (Vec<Entry>, Option<String>) {
    let attempt = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let again = "what a model was asked there is asked, and paid, once more";
    let place = folder.join(name);
    let shown = place.display();
    let has_talked = || logs::tail(&folder.join("log"), 1).is_ok_and(|lines| !lines.is_empty());
    match transcript::read(&place) {
        // Somebody emptied it: its first entry is there before anything is logged.
        Ok(Some(Kept { entries, broken: None })) if entries.is_empty() && name == transcript::FILE && has_talked() => {
            (vec![], Some(format!("attempt {attempt} left a log and an empty transcript ({shown}): {again}")))
        }
        Ok(Some(Kept { entries, broken: None })) => (entries, None),
        Ok(Some(Kept { entries, broken: Some(why) })) => (
            entries,
            Some(format!(
                "the transcript of attempt {attempt} cannot be read to its end ({shown}, {why}): behind it {again}"
            )),
        ),
        // It begins with the conversation; before that, an attempt leaves nothing of it.
        Ok(None) if name == transcript::FILE && has_talked() => {
            (vec![], Some(format!("attempt {attempt} left a log and no transcript ({shown}): {again}")))
        }
        Ok(None) => (vec![], None),
        Err(error) => {
            (vec![], Some(format!("the transcript of attempt {attempt} cannot be read ({shown}: {error}): {again}")))
        }
    }
}

/// What an agent handed over, where it was to hand over something.
///
/// # Errors
/// How the attempt ends without it.
pub(super) fn handed_over(submitted: Option<Result<String, String>>) -> Result<Option<String>, AttemptEnd> {
    submitted.transpose().map_err(|detail| AttemptEnd::Outputs { detail })
}

/// How an attempt ends whose agent's process ended by itself.
pub(super) fn end_of(ended: Ended, envelope: Option<&Envelope>, spent: Option<Whose>) -> Result<(), AttemptEnd> {
    match (ended, envelope) {
        (Ended::Exited { .. }, Some(envelope)) if envelope.status.is_for_checks() => Ok(()),
        (Ended::Exited { .. }, Some(Envelope { status, detail, summary, .. })) => {
            let detail = if detail.is_empty() { summary } else { detail };
            let spent = spent.filter(|_| *status == AgentStatus::Unanswered);
            Err(AttemptEnd::Agent { status: *status, detail: detail.clone(), spent })
        }
        // One of ours always has a last word.
        (Ended::Exited { code: 0 }, None) => Err(AttemptEnd::Work { ended: Ended::Exited { code: 1 } }),
        (ended, _) => Err(AttemptEnd::Work { ended }),
    }
}

fn agent_job(
    agent: &RenderedAgent,
    (context, output): (Option<u32>, Option<u32>),
    beginning: Beginning,
    worktree: PathBuf,
    scratch: PathBuf,
    toolset: Toolset,
) -> AgentJob {
    let settings = agent.settings.clone();
    AgentJob {
        worktree,
        scratch,
        model: settings.model,
        system: beginning.system,
        prompt: beginning.prompt,
        limits: AgentLimits {
            turns: settings.turns,
            tokens: settings.tokens,
            context_tokens: settings.context_tokens.or(context.map(u64::from)).unwrap_or(CONTEXT_TOKENS_DEFAULT),
            output_tokens: settings.output_tokens.or(output).unwrap_or(OUTPUT_TOKENS_DEFAULT),
        },
        mode: match settings.mode {
            AgentMode::ReadOnly => swarm_protocol::agent::AgentMode::ReadOnly,
            AgentMode::WorkspaceWrite => swarm_protocol::agent::AgentMode::WorkspaceWrite,
            AgentMode::Full => swarm_protocol::agent::AgentMode::Full,
        },
        rules: AgentRules { allow: settings.allow, ask: settings.ask, deny: settings.deny },
        toolset,
    }
}

/// What a person should know of an agent that did what its task wants by its own word, and changed nothing though it might,
/// where nothing and nobody looks at that.
pub(super) fn mere_word(
    trial: Trial<'_>,
    writes: Option<&[String]>,
    envelope: Option<&Envelope>,
) -> Option<&'static str> {
    let is_done = envelope.is_some_and(|envelope| envelope.status == AgentStatus::Done);
    let is_looked_at = !trial.job.rendered.checks.is_empty() || trial.task.rounds.is_some();
    let may_write = writes.is_none_or(|globs| !globs.is_empty());
    (is_done && may_write && !is_looked_at)
        .then_some("its agent changed nothing, and that it is done is its own word only: a `check` would decide")
}

/// What a person should know of a conversation.
pub(super) fn notes(held: &Held) -> Vec<String> {
    let mut notes = Vec::new();
    if held.given_again > 0 {
        let n = held.given_again;
        notes.push(format!(
            "it went on with a conversation that was cut short: {n} answers were given once more, unpaid"
        ));
    }
    notes.extend(held.unread.iter().cloned());
    notes.extend(held.lacks.iter().cloned());
    notes.extend(held.transcript_lost.as_ref().map(|why| format!("its transcript is incomplete: {why}")));
    notes
}

/// What the next attempt is told of one that failed.
fn feedback(end: &AttemptEnd, envelope: Option<&Envelope>, tail: &[Vec<u8>]) -> String {
    let mut text = match end {
        AttemptEnd::Findings { by, findings } => {
            let listed: String = findings.iter().map(|finding| format!("- {}\n", finding.trim())).collect();
            format!("{by} looked at the result and found what has to change:\n{listed}")
        }
        // What ended in what way: some ends say themselves what failed.
        end => format!("{}.\n", words::end(end)),
    };
    if let Some(envelope) = envelope.filter(|envelope| !envelope.summary.is_empty()) {
        text.push_str(&format!("\nWhat was said of it then:\n{}\n", envelope.summary));
    }
    if !tail.is_empty() {
        let line = |line: &Vec<u8>| sanitize::line(line).chars().take(FEEDBACK_LINE_CHARS_MAX).collect::<String>();
        text.push_str("\nThe end of its log:\n");
        tail.iter().for_each(|one| text.push_str(&format!("    {}\n", line(one))));
    }
    text
}

/// What an attempt leaves to the next one: nothing where a person wants its conversation gone on with.
fn told_next(folder: &Path) -> Option<String> {
    if fork::marked(folder).is_some() { None } else { read_feedback(folder) }
}

/// Leaves it in the folder of an attempt, on the disk: the journal is about to name the attempt, and whoever goes on after a power cut
/// would take it for one that was cut short.
fn write_feedback(folder: &Path, text: String) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(&Feedback { version: FEEDBACK_VERSION, text }).expect("plain data");
    write_whole(&folder.join(FEEDBACK_FILE), &folder.join("feedback.new"), 0o644, &bytes)
}

fn read_feedback(folder: &Path) -> Option<String> {
    let bytes = std::fs::read(folder.join(FEEDBACK_FILE)).ok()?;
    let feedback: Feedback = serde_json::from_slice(&bytes).ok()?;
    (feedback.version == FEEDBACK_VERSION).then_some(feedback.text)
}

/// Whoever panicked while it wrote left a log that is whole but for a line.
fn lock<'a, 'l>(log: &'a Mutex<&'l mut LogWriter>) -> std::sync::MutexGuard<'a, &'l mut LogWriter> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to the attempt's log and tells the reporters.
struct Listener<'a, 'l> {
    executor: &'a Executor,
    trial: Trial<'a>,
    log: &'a Mutex<&'l mut LogWriter>,
}

impl Ear for Listener<'_, '_> {
    fn log(&self, text: &str) {
        lock(self.log).write(text.as_bytes());
    }

    fn line(&self, text: &str) {
        let line = text.lines().next().unwrap_or_default().as_bytes().to_vec();
        let instance = self.trial.job.name.clone();
        // A line that finds no room is not shown.
        let _ = self.executor.jobs.progress.try_send(Progress::Line { instance, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(status: AgentStatus) -> Envelope {
        let (detail, summary) = (String::new(), "said".to_owned());
        Envelope { status, detail, summary, evidence: vec![], follow_ups: vec![], turns: 1 }
    }

    #[test]
    fn the_next_attempt_is_told_in_a_sentence_what_failed() {
        let check = AttemptEnd::Check {
            index: 0,
            command: "make test".to_owned(),
            ended: Ended::Exited { code: 2 },
            before: false,
        };
        let (detail, paths) = ("it changed a path outside of its `writes`".to_owned(), vec!["a".to_owned()]);
        let violation = AttemptEnd::Violation { detail, paths, allow_with: None };
        for (end, expected) in [
            (check, "check 1 `make test` exited with 2.\n"),
            (violation, "it changed a path outside of its `writes`: a.\n"),
        ] {
            assert_eq!(feedback(&end, None, &[]), expected);
        }
    }

    #[test]
    fn the_word_to_the_next_attempt_is_there_whole_or_not_at_all() {
        use std::io::Read as _;
        let folder = tempfile::tempdir().expect("space");
        write_feedback(folder.path(), "one".to_owned()).expect("space");
        let mut read = std::fs::File::open(folder.path().join(FEEDBACK_FILE)).expect("it was written");
        write_feedback(folder.path(), "two".to_owned()).expect("space");
        let mut text = String::new();
        read.read_to_string(&mut text).expect("legible");
        assert!(text.contains("\"one\""), "who reads it meanwhile reads all of it: {text}");
        assert_eq!(read_feedback(folder.path()).as_deref(), Some("two"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("legible").count(), 1, "no draft stays");
    }

    #[test]
    fn only_a_model_that_ended_its_work_reaches_the_checks() {
        let exited = |code| Ended::Exited { code };
        let end_of = |ended, envelope: Option<&Envelope>| end_of(ended, envelope, None);
        assert_eq!(end_of(exited(0), Some(&envelope(AgentStatus::Done))), Ok(()));
        assert_eq!(end_of(exited(0), Some(&envelope(AgentStatus::Partial))), Ok(()));
        for status in [AgentStatus::Limit, AgentStatus::Blocked, AgentStatus::Unanswered] {
            let end = end_of(exited(1), Some(&envelope(status)));
            assert_eq!(end, Err(AttemptEnd::Agent { status, detail: "said".to_owned(), spent: None }));
        }
        assert_eq!(end_of(exited(0), None), Err(AttemptEnd::Work { ended: exited(1) }));
        let killed = Ended::Limit { limit: "memory".to_owned(), detail: String::new() };
        let end = end_of(killed.clone(), Some(&envelope(AgentStatus::Done)));
        assert_eq!(end, Err(AttemptEnd::Work { ended: killed }), "what it said before does not count");
    }
}
