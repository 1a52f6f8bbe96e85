//! An attempt in which the plan's resolver settles a conflict. It works on what landed, with all of the change that fits, and
//! finds conflict markers where the two contradict each other; around them it finds the versions and the texts of both sides'
//! tasks (`$SWARM_CONFLICT`). It may write the conflicting paths only. What it leaves counts when no marker is left and
//! the task's own checks pass.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use git2::Oid;
use serde::Serialize;
use serde_json::{Value, json};
use swarm_plans::{InstanceId, RenderedAgent, RenderedCommand, Template, Work, task_in};
use swarm_protocol::toolset::Toolset;
use swarm_protocol::{Ended, Grant};

use super::agent::{Talk, bootstrap_failed};
use super::errand::Errand;
use super::settle::{Made, Meeting, ResolvingBy, refused};
use super::{Executor, Record, Stop, Trial, When, agent};
use crate::agent::bootstrap::{self, Beginning};
use crate::agent::resolving::{self, CONFLICT_VARIABLE, Contradiction};
use crate::collect::rules::judge_together;
use crate::collect::{Collected, Terms, collect, display_path};
use crate::commit::{self, CommitSpec};
use crate::egress::Leads;
use crate::event::{AttemptEnd, ChangeSummary};
use crate::ids::Attempt;
use crate::merge::Step;
use crate::merge::text::Labels;
use crate::merge::touched::{ConflictPlace, Conflicted, Unsettled, conflicted, still_unsettled};
use crate::report::{sanitize, words};
use crate::repository::RepositoryError;
use crate::state::make_private_dir_all;
use crate::threads;
use crate::tree;
use crate::worktree::Worktree;

/// The attempt's folder that the resolver is shown.
const CONFLICT: &str = "conflict";

/// The versions of a conflicting path, as its folders are called.
const SIDES: [&str; 3] = ["base", "ours", "theirs"];

/// Commits of the target that are searched for the task of the other side.
pub(super) const LANDED_MAX: usize = 1000;

/// Of these, those that an agent is told.
const LANDED_TOLD_MAX: usize = 20;

/// Paths that an end names.
const PATHS_NAMED_MAX: usize = 20;

/// A commit of the target in conflicting paths, as the resolver is told of it.
#[derive(Debug, Serialize)]
struct OnTip {
    /// Full hex id.
    commit: String,
    /// The instance whose change it is; `None` of what somebody else committed.
    instance: Option<String>,
    /// What that was to do, as the plan has it.
    task: Option<String>,
    /// The first line of its message.
    subject: String,
}

/// The change that does not land as it is.
struct Side {
    instance: String,
    /// What its task was to do, as the plan has it.
    task: String,
}

/// What the resolver works on.
struct Contested {
    conflict: Conflicted,
    /// The paths that it may write, as globs.
    scope: Vec<String>,
    /// What changed them on the target, the newest first.
    landed: Vec<OnTip>,
}

impl Executor {
    /// Has the resolver settle what contradicts each other in `commit` (of the target) and a change.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        trial: Trial<'_>,
        commit: &str,
        change: &ChangeSummary,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let resolving = self.settler.resolver.as_ref().expect("BUG: the plan names no resolver");
        let tip = Oid::from_str(commit)?;
        let shown = trial.places.shown(self.cages[&resolving.sandbox].tier(), CONFLICT);
        let side = Side { instance: trial.job.name.0.to_string(), task: words::command(&trial.job.rendered.argv) };
        let sides = vec![Oid::from_str(&change.tree)?];
        let (executor, change, folder) = (Arc::clone(self), change.clone(), shown.path.clone());
        let laid_out = tokio::task::spawn_blocking(move || executor.lay_out(side, tip, &change, &folder));
        let Contested { conflict, scope, landed } = laid_out.await??;
        if conflict.places.is_empty() {
            // What it contradicted did not land, after all.
            let meeting = Meeting { paths: conflict.again, sides };
            return self.resolved(trial, tip, (conflict.tree, meeting), record).await;
        }
        self.jobs.phase(Some(&trial.job.name), "resolving its conflict");
        let (executor, tree) = (Arc::clone(self), conflict.tree);
        let written = tokio::task::spawn_blocking(move || {
            let spec = CommitSpec { parents: &[tip], tree, subject: "a conflict", trailers: &[] };
            commit::write_commit(&executor.repository, &executor.signing, &spec)
        });
        let at = written.await??;
        let (ended, worktree) = match &resolving.by {
            ResolvingBy::Command(command) => {
                self.by_command(trial, (command, &resolving.sandbox), at, shown, record).await?
            }
            ResolvingBy::Agent(agent, timeout) => {
                let beginning = self.told_of(trial, agent, &conflict.places, &landed)?;
                let by = (&**agent, *timeout, resolving.sandbox.as_str());
                self.by_agent(trial, by, (at, beginning), shown, record).await?
            }
        };
        let executor = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || {
            let taken = collect(&executor.repository, &worktree, Some(&scope), &Terms::without(&executor.jobs.secrets));
            executor.trees.discard(worktree);
            taken
        });
        let taken = taken.await??;
        ended.map_err(Stop)?;
        let tree = match taken {
            Collected::Change(change) => change.tree,
            Collected::Refused(refusal) => return Err(unresolved(&format!("it {}", refused(&refusal)), vec![])),
        };
        let (executor, Conflicted { places, again, .. }) = (Arc::clone(self), conflict);
        tokio::task::spawn_blocking(move || executor.expect_settled(tree, &places)).await??;
        self.resolved(trial, tip, (tree, Meeting { paths: again, sides }), record).await
    }

    /// The plan's command works on the commit of a conflict; its end, and the worktree that it leaves.
    async fn by_command(
        self: &Arc<Self>,
        trial: Trial<'_>,
        (command, sandbox): (&RenderedCommand, &str),
        commit: Oid,
        shown: Grant,
        record: &mut Record,
    ) -> Result<(Result<(), AttemptEnd>, Worktree), Stop> {
        let mut env: Vec<(String, String)> = trial.job.rendered.env.clone().into_iter().collect();
        env.push((CONFLICT_VARIABLE.to_owned(), shown.at.to_string_lossy().into_owned()));
        let errand = Errand {
            layers: &self.trees.base.layers,
            commit,
            command,
            sandbox,
            places: trial.places,
            env,
            grants: vec![shown],
            jobs: &self.jobs,
            shown: Some(&trial.job.name),
        };
        let ran = self.errand(errand, &mut record.log).await;
        let (ended, worktree) = ran.map_err(|detail| Stop(AttemptEnd::Infra { detail }))?;
        let ended = match ended {
            Ended::Exited { code: 0 } => Ok(()),
            ended => Err(AttemptEnd::Work { ended }),
        };
        Ok((ended, worktree))
    }

    /// The same for the plan's agent.
    async fn by_agent(
        self: &Arc<Self>,
        trial: Trial<'_>,
        (agent, timeout, sandbox): (&RenderedAgent, Option<Duration>, &str),
        (commit, beginning): (Oid, Beginning),
        shown: Grant,
        record: &mut Record,
    ) -> Result<(Result<(), AttemptEnd>, Worktree), Stop> {
        let (executor, layers) = (Arc::clone(self), self.trees.base.layers.clone());
        let start = tokio::task::spawn_blocking(move || executor.trees.layered_on(&layers, commit)).await??;
        let tree = start.tree;
        // As its words: what landed meanwhile, and what contradicts it, may both have changed the project's rules.
        let began = self.repository.tree_of(self.base)?;
        let worktree = self.provision(&Arc::new(start), trial.places, When::WORK.name).await?;
        let talk = Talk {
            agent,
            beginning,
            tree,
            began,
            transcript: trial.places.transcript(),
            toolset: Toolset::default(),
            own_tools: None,
            when: When::WORK,
            sandbox,
            timeout,
            // The models of the task are for its own programs.
            leads: Leads { hosts: self.cages[sandbox].egress().cloned(), models: None },
            shown: Some((shown, CONFLICT_VARIABLE)),
        };
        let (ran, held) = match self.talk(trial, talk, &worktree, &mut record.log).await {
            Ok(talked) => talked,
            Err(stop) => {
                self.trees.let_go(worktree).await;
                return Err(stop);
            }
        };
        record.notes.extend(agent::notes(&held));
        let ended = agent::end_of(ran.outcome.ended, held.envelope.as_ref(), held.spent());
        record.envelope = held.envelope;
        Ok((ended, worktree))
    }

    /// What the plan's agent is told of a conflict.
    fn told_of(
        &self,
        trial: Trial<'_>,
        agent: &RenderedAgent,
        places: &[ConflictPlace],
        landed: &[OnTip],
    ) -> Result<Beginning, Stop> {
        let job = trial.job;
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        // Its words come from where the run began: no change rewrites who settles it.
        let begun = self.repository.tree_of(self.base)?;
        let asked = bootstrap::words_of(&odb, begun, agent).map_err(bootstrap_failed)?;
        let project = bootstrap::project(&odb, begun, &agent.settings.directory).map_err(bootstrap_failed)?;
        let task = match &job.rendered.agent {
            Some(agent) => bootstrap::words_of(&odb, begun, agent).map_err(bootstrap_failed)?,
            None => words::command(&job.rendered.argv),
        };
        let said = |one: &OnTip| (one.instance.clone(), one.task.clone().unwrap_or_else(|| one.subject.clone()));
        Ok(resolving::told(&Contradiction {
            instance: &job.name.0,
            task: &self.jobs.secrets.text(&task),
            paths: places.iter().map(resolving::Place::from).collect(),
            landed: landed.iter().take(LANDED_TOLD_MAX).map(said).collect(),
            checks: job.rendered.checks.iter().map(|check| words::command(&check.command.argv)).collect(),
            asked: &asked,
            project: &project,
        }))
    }

    /// Lays out in `folder` what contradicts each other; nothing where all of the change fits.
    fn lay_out(&self, side: Side, tip: Oid, change: &ChangeSummary, folder: &Path) -> Result<Contested, Stop> {
        let conflict = self.conflict(&side, tip, change)?;
        if conflict.places.is_empty() {
            return Ok(Contested { conflict, scope: vec![], landed: vec![] });
        }
        let scope = scope(&conflict.places)?;
        let landed = self.landed_on(tip, &conflict.places)?;
        self.show(&side, &landed, &conflict.places, folder)?;
        Ok(Contested { conflict, scope, landed })
    }

    fn conflict(&self, side: &Side, tip: Oid, change: &ChangeSummary) -> Result<Conflicted, Stop> {
        let labels = Labels {
            base: "before both".to_owned(),
            ours: "landed".to_owned(),
            theirs: sanitize::name(&side.instance),
        };
        let (ours, theirs) = (self.repository.tree_of(tip)?, Step::try_from(change)?);
        let git = self.repository.handle()?;
        Ok(conflicted(&git.odb()?, &self.trees.rules, (ours, &theirs), &labels)?)
    }

    /// Makes what the resolver is shown: the three versions of each path, and who wants what.
    fn show(&self, side: &Side, landed: &[OnTip], places: &[ConflictPlace], folder: &Path) -> Result<(), Stop> {
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        let io = |error: std::io::Error| Stop(AttemptEnd::Infra { detail: format!("show a conflict: {error}") });
        for side in SIDES {
            make_private_dir_all(&folder.join(side)).map_err(io)?;
        }
        for place in places {
            for (side, version) in SIDES.iter().zip(place.versions) {
                // A submodule has no content here; a link is shown by where it points.
                let Some(entry) = version.filter(|entry| entry.mode != tree::GITLINK) else { continue };
                // Its name was looked at: it leads nowhere else.
                let path = folder.join(side).join(std::ffi::OsStr::from_bytes(&place.at.path));
                if entry.is_tree() {
                    // What is in it stands in the worktree.
                    make_private_dir_all(&path).map_err(io)?;
                    continue;
                }
                make_private_dir_all(path.parent().unwrap_or(folder)).map_err(io)?;
                std::fs::write(&path, odb.read(entry.id)?.data()).map_err(io)?;
            }
        }
        let paths: Vec<Value> = places
            .iter()
            .map(|place| {
                let mut told = json!({ "path": display_path(&place.at.path), "kind": place.at.kind.name() });
                if let Some(beside) = &place.beside {
                    told["beside"] = display_path(beside).into();
                }
                told
            })
            .collect();
        let facts = json!({
            "version": 1,
            "paths": paths,
            "theirs": { "instance": side.instance, "task": side.task },
            "ours": landed,
        });
        std::fs::write(folder.join("conflict.json"), facts.to_string()).map_err(io)
    }

    /// What changed the conflicting paths on the way to `tip`, the newest first.
    fn landed_on(&self, tip: Oid, places: &[ConflictPlace]) -> Result<Vec<OnTip>, RepositoryError> {
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        let mut all = Vec::new();
        let mut commit = git.find_commit(tip)?;
        for _ in 0..LANDED_MAX {
            if commit.id() == self.base || commit.parent_count() == 0 {
                break;
            }
            let parent = commit.parent(0)?;
            let at = |tree: Oid, place: &ConflictPlace| tree::find(&odb, tree, &place.at.path).ok().flatten();
            if places.iter().any(|place| at(commit.tree_id(), place) != at(parent.tree_id(), place)) {
                let instance = commit::task_of(commit.message().unwrap_or_default()).map(str::to_owned);
                let task = instance.as_deref().and_then(|id| self.task_text(id));
                let subject = commit.summary().ok().flatten().unwrap_or_default().to_owned();
                all.push(OnTip { commit: commit.id().to_string(), instance, task, subject });
            }
            commit = parent;
        }
        Ok(all)
    }

    /// What the task of an instance is to do, as the plan has it.
    fn task_text(&self, instance: &str) -> Option<String> {
        let name = task_in(instance);
        let task = self.plan.tasks.iter().find(|task| task.name.0 == name)?;
        let join = |all: &[Template]| all.iter().map(Template::source).collect::<Vec<_>>().join(" ");
        Some(match &task.work {
            Work::Run(script) => script.source().to_owned(),
            Work::Argv(argv) => join(argv),
            Work::Wasm(guest) => format!("{} {}", guest.module.source(), join(&guest.args)),
            Work::Agent(agent) => {
                let file = agent.prompt_file.as_ref().map(|file| format!("[{file}] ")).unwrap_or_default();
                format!("{file}{}", agent.prompt.as_ref().map_or("", Template::source))
            }
        })
    }

    fn expect_settled(&self, tree: Oid, places: &[ConflictPlace]) -> Result<(), Stop> {
        let git = self.repository.handle()?;
        let left = still_unsettled(&git.odb()?, tree, places)?;
        let named = |paths: &[Vec<u8>]| paths.iter().take(PATHS_NAMED_MAX).map(|path| display_path(path)).collect();
        match left {
            Unsettled { marked, .. } if !marked.is_empty() => {
                Err(unresolved("it left conflict markers", named(&marked)))
            }
            Unsettled { beside, .. } if !beside.is_empty() => {
                Err(unresolved("it left a file beside the folder in its place", named(&beside)))
            }
            Unsettled { .. } => Ok(()),
        }
    }

    /// What the resolver left becomes the attempt's change, once the task's checks pass on it.
    async fn resolved(
        self: &Arc<Self>,
        trial: Trial<'_>,
        tip: Oid,
        (tree, meeting): (Oid, Meeting),
        record: &mut Record,
    ) -> Result<(), Stop> {
        let executor = Arc::clone(self);
        let made = threads::apart("make", move || executor.made_again(tip, tree, &meeting)).await?;
        let tree = match made.map_err(|detail| Stop(AttemptEnd::Infra { detail }))? {
            Made::Tree(tree) => tree,
            Made::Not(reason) => return Err(unresolved(&reason, vec![])),
        };
        let (executor, job) = (Arc::clone(self), trial.job);
        let (name, attempt, writes) = (job.name.clone(), job.attempt, job.rendered.writes.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let (commit, change) = executor.keep_resolved(tip, tree, (&name, attempt), writes)?;
            Ok::<_, Stop>((commit, change, executor.trees.layered(tip)?))
        });
        let (commit, change, start) = kept.await??;
        record.change = Some(change);
        self.checks_after(trial, &Arc::new(start), Some(commit), record).await
    }

    /// Makes a commit of what the resolver left, under the attempt's ref.
    fn keep_resolved(
        &self,
        tip: Oid,
        tree: Oid,
        (name, attempt): (&InstanceId, Attempt),
        writes: Option<Vec<String>>,
    ) -> Result<(Oid, ChangeSummary), Stop> {
        let before = self.repository.tree_of(tip)?;
        if let Some(refusal) = judge_together(&self.repository.handle()?.odb()?, before, tree)? {
            return Err(unresolved(&format!("with what landed before, it {}", refused(&refusal)), vec![]));
        }
        let trailers = commit::trailers(&self.plan.name, name);
        let subject = format!("{}: {name}", self.plan.name);
        let spec = CommitSpec { parents: &[tip], tree, subject: &subject, trailers: &trailers };
        let commit = commit::write_commit(&self.repository, &self.signing, &spec)?;
        commit::keep_new(&self.repository, &commit::attempt_ref(&self.run, name, attempt), commit, &[tip])?;
        let git = self.repository.handle()?;
        let files = tree::diff(&git.odb()?, Some(before), Some(tree))?.len() as u64;
        let (base_tree, tree, commit_id) = (before.to_string(), tree.to_string(), commit.to_string());
        Ok((commit, ChangeSummary { base_tree, commit: commit_id, tree, files, history: None, writes }))
    }
}

/// The paths that the resolver may write, as globs: of a folder that a file contradicts, all that is in it, too.
fn scope(places: &[ConflictPlace]) -> Result<Vec<String>, Stop> {
    let glob = |path: &[u8]| match std::str::from_utf8(path) {
        Ok(path) if path.split('/').all(|name| !matches!(name, "" | "." | "..")) => Ok(globset::escape(path)),
        Ok(path) => Err(unresolved("its name leads out of the tree", vec![display_path(path.as_bytes())])),
        Err(_) => Err(unresolved("its name is not UTF-8", vec![display_path(path)])),
    };
    let mut globs = Vec::new();
    for place in places {
        globs.push(glob(&place.at.path)?);
        if let Some(beside) = &place.beside {
            globs.extend([format!("{}/**", glob(&place.at.path)?), glob(beside)?]);
        }
    }
    Ok(globs)
}

fn unresolved(detail: &str, paths: Vec<String>) -> Stop {
    Stop(AttemptEnd::Unresolved { detail: detail.to_owned(), paths })
}
