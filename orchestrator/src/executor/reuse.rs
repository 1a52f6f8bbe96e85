//! Results of earlier runs instead of attempts: which task may be looked up, by what, and what a recorded result becomes
//! in this run. Nothing is spawned for a result that is found, and no worktree is made.
//!
//! A result that depends on the whole start tree is taken as it is: the same tree gives the same tree. One that depends on
//! some files only (`inputs`) may meet another start tree; then every path that it changed has to stand there as it stood
//! before or after the recorded work, and is put as it stood after. Where one stands otherwise, or something else would have to
//! make way for it, the task runs: nothing is ever blended. With `history = "keep"` a worker's own commits come with the result, told
//! as this run would have told them; on another tree than theirs the task runs. Start reading at [`Executor::reuse`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use git2::Oid;
use serde_json::{Map, Value};
use swarm_plans::{Caching, Command, History, InstanceId, InstanceIx, Network, Task, TaskIx};
use tokio::sync::{OnceCell, Semaphore};

use swarm_protocol::causes::causes;

use super::places::Places;
use super::{Executor, setup};
use crate::cache::key::{Ingredients, Mix};
use crate::cache::{Cache, CacheError, Digest, Key, Recorded, folder};
use crate::clock::Clock;
use crate::collect::rules::judge_together;
use crate::commit::{self, CommitSpec};
use crate::dispatcher::NeedsView;
use crate::dispatcher::core::{AttemptJob, Reuse};
use crate::event::ChangeSummary;
use crate::event::Handed;
use crate::ids::Attempt;
use crate::path_globs::PathGlobs;
use crate::policy::Cage;
use crate::repository::Inspection;
use crate::reused;
use crate::tree::{self, Edits};

/// The instances under which the logs of fingerprints are kept. No task can have such a name.
const FINGERPRINT: &str = "[cache] fingerprint";

/// Commands that print fingerprints at once, beside the workers: most print a version, and one that waits holds up few others.
const PRINTING_MAX: usize = 4;

/// Why the result of what is known to differ each time is not recorded.
const IRREPRODUCIBLE: &str =
    "`--check-determinism` found that it gives another one each time (`swarm clean --cache` forgets that)";

/// Why nothing is recorded or forgotten when our own code panicked.
const FAILED: &str = "the coordinator failed; this is a bug";

/// The recorded results, and what all keys of a run share.
pub struct Results {
    cache: Cache,
    clock: Clock,
    workspace: Digest,
    /// How commits of workers are told; `None` where they are not.
    told: Option<Digest>,
    /// The rules by which the changes of several needs become one tree.
    joining: Digest,
    /// By policy.
    policies: HashMap<String, Digest>,
    /// By task, once its command was run; or why there is none. Who waits for one waits for no other.
    fingerprints: Mutex<HashMap<TaskIx, Arc<OnceCell<Printed>>>>,
    /// Places for commands that print one.
    printing: Semaphore,
    /// By start tree and task.
    inputs: Mutex<HashMap<(Oid, TaskIx), Digest>>,
    /// Why instances run of which there was a result, for people.
    not_taken: Mutex<HashMap<InstanceIx, String>>,
}

/// What of a recorded result can be had in a run.
enum Restored {
    /// All of it.
    Taken(Box<Reuse>),
    /// It does not fit where the instance would start.
    Unfit,
    /// Something of it is in no store any more; what, for people.
    Gone(String),
}

/// What a fingerprint command came to, or why there is no fingerprint.
type Printed = Result<Digest, String>;

/// Why a recorded result cannot be looked up or taken, for people.
type NoKey = String;

/// What of a key jobs with the same needs share.
#[derive(Clone, Copy)]
struct OfNeeds {
    handed: Digest,
    whole_tree: Digest,
}

impl Executor {
    /// Opens the recorded results for this run. To be called when the base's layers are complete.
    ///
    /// # Errors
    /// [`CacheError`]: the run goes on without.
    pub fn open_results(&mut self, clock: Clock) -> Result<(), CacheError> {
        let cache = Cache::open(self.state.root())?;
        let layers = &self.trees.base.layers;
        let mut workspace = Mix::new("workspace");
        workspace.add("place", self.repository.place().as_os_str().as_encoded_bytes());
        workspace.list("untracked", layers.untracked().iter().map(String::as_bytes));
        workspace.list("caches", layers.caches.iter().map(|path| path.as_os_str().as_encoded_bytes()));
        let sparse = self.plan.workspace.sparse.iter().flatten();
        workspace.list("sparse", sparse.map(String::as_bytes));
        // What these exclude is no part of a change; the rules of the tree count with it.
        let excluded = self.repository.exclude_files()?;
        workspace.list("excluded", excluded.iter().map(Vec::as_slice));
        // The text of a resolved policy names all that it grants on this host, and the variables that it lets through.
        let of_policy = |cage: &Cage| Mix::new("policy").add("cage", cage.ingredients().as_bytes()).done();
        self.results = Some(Results {
            cache,
            clock,
            workspace: workspace.done(),
            told: self.told(),
            joining: self.joining(),
            policies: self.cages.iter().map(|(name, cage)| (name.clone(), of_policy(cage))).collect(),
            fingerprints: Mutex::default(),
            printing: Semaphore::new(PRINTING_MAX),
            inputs: Mutex::default(),
            not_taken: Mutex::default(),
        });
        Ok(())
    }

    /// All that a worker's commits say beside what it says itself.
    fn told(&self) -> Option<Digest> {
        let mut told = Mix::new("told");
        let who = &self.signing.identity;
        told.add("plan", self.plan.name.as_bytes());
        told.add("name", who.name.as_bytes()).add("email", who.email.as_bytes());
        (self.plan.merge.history == History::Keep).then(|| told.done())
    }

    /// The rules by which changes are joined: files of which both sides' lines are kept, and commands that make files again.
    fn joining(&self) -> Digest {
        let mut rules = Mix::new("joining");
        rules.list("union", self.plan.merge.union.iter().map(String::as_bytes));
        for maker in self.settler.makers() {
            rules.list("makes", maker.paths.iter().map(String::as_bytes));
            rules.list("argv", maker.command.argv.iter().map(String::as_bytes));
            rules.add("cage", self.cages[&maker.sandbox].ingredients().as_bytes());
        }
        rules.done()
    }

    /// What earlier runs recorded for these instances; an answer for each, in their order.
    pub async fn reuse(self: Arc<Self>, jobs: Vec<AttemptJob>) -> Vec<(InstanceIx, Option<Reuse>)> {
        let none = jobs.iter().map(|job| (job.instance, None)).collect();
        let Some(results) = &self.results else { return none };
        let mut fingerprints = HashMap::new();
        for job in &jobs {
            // Why there is none is said beside the attempt that will run instead.
            if let Ok(Some(fingerprint)) = self.fingerprint(results, job.task).await {
                fingerprints.insert(job.task, fingerprint);
            }
        }
        let executor = Arc::clone(&self);
        let found = tokio::task::spawn_blocking(move || executor.look_up(&jobs, &fingerprints)).await;
        found.ok().flatten().unwrap_or(none)
    }

    fn look_up(
        &self,
        jobs: &[AttemptJob],
        fingerprints: &HashMap<TaskIx, Digest>,
    ) -> Option<Vec<(InstanceIx, Option<Reuse>)>> {
        let results = self.results.as_ref()?;
        let mut of_needs: HashMap<*const NeedsView, OfNeeds> = HashMap::new();
        let mut known = Vec::new();
        for job in jobs {
            let fingerprint = fingerprints.get(&job.task).copied();
            let shared = match of_needs.get(&Arc::as_ptr(&job.needs)) {
                Some(shared) => Ok(*shared),
                None => self.of_needs(&job.needs),
            };
            let key = shared.and_then(|shared| {
                of_needs.insert(Arc::as_ptr(&job.needs), shared);
                self.key(results, job, shared, fingerprint)
            });
            known.extend(key.ok().map(|key| (job, key)));
        }
        let keys: Vec<Key> = known.iter().map(|(_, key)| *key).collect();
        let found = results.cache.find(&keys, results.clock.now_ms()).ok()?;
        let mut answers = self.restored_all(results, known.into_iter().zip(found));
        let changes = answers.values().filter_map(|reuse| reuse.change.as_ref());
        let commits = changes.filter_map(|change| Oid::from_str(&change.commit).ok()).collect();
        // What nothing keeps may be gone when it is its turn.
        reused::hold(&self.repository, &self.run, commits).ok()?;
        Some(jobs.iter().map(|job| (job.instance, answers.remove(&job.instance))).collect())
    }

    /// What can be taken of recorded results, by the instances that take it. What is gone of one (an object that a power cut took or
    /// that was pruned, a removed folder) is forgotten with all of it: the task runs again, and is recorded anew.
    fn restored_all<'a>(
        &self,
        results: &Results,
        found: impl Iterator<Item = ((&'a AttemptJob, Key), Option<Recorded>)>,
    ) -> HashMap<InstanceIx, Reuse> {
        let (mut answers, mut gone) = (HashMap::new(), Vec::new());
        let Ok(git) = self.repository.handle() else { return answers };
        let mut inspection = Inspection::by(&self.repository, &git);
        for ((job, key), recorded) in found {
            let Some(recorded) = recorded else { continue };
            let from = recorded.run.clone();
            let why = match self.restored(results, (job, &key), &mut inspection, recorded) {
                Ok(Restored::Taken(reuse)) => {
                    answers.insert(job.instance, *reuse);
                    continue;
                }
                Ok(Restored::Unfit) => continue,
                Ok(Restored::Gone(what)) => {
                    gone.push(key);
                    what
                }
                Err(error) => causes(&*error),
            };
            let told = format!("it ran although {} recorded its result: {why}", from.0);
            results.not_taken.lock().unwrap_or_else(PoisonError::into_inner).insert(job.instance, told);
        }
        if !gone.is_empty()
            && let Err(error) = results.cache.forget(&self.repository, &gone)
        {
            tracing::warn!(error = %causes(&error), "recorded results that are gone cannot be forgotten");
        }
        answers
    }

    /// Why an instance runs of which an earlier run recorded a result; once.
    pub(super) fn why_not_taken(&self, instance: InstanceIx) -> Option<String> {
        let results = self.results.as_ref()?;
        results.not_taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance)
    }

    /// Records the result of an attempt that passed, unless its task says nothing of reuse or it was not the first try.
    ///
    /// # Errors
    /// Why there is no record, for people.
    pub(super) async fn record_result(
        self: &Arc<Self>,
        job: &Arc<AttemptJob>,
        change: Option<&ChangeSummary>,
        (outputs, notes): (&Map<String, Value>, &[String]),
        duration_ms: u64,
    ) -> Result<(), NoKey> {
        let cacheable = self.plan.task(job.task).cache.is_some();
        let (Some(results), true, 1, Some(change)) = (&self.results, cacheable, job.try_number, change) else {
            return Ok(());
        };
        let fingerprint = self.fingerprint(results, job.task).await?;
        let recorded = Recorded {
            run: self.run.clone(),
            instance: job.name.to_string(),
            duration_ms,
            start_tree: change.base_tree.clone(),
            change: change.changes_anything().then(|| change.clone()),
            outputs: outputs.clone(),
            notes: notes.iter().map(|note| self.jobs.secrets.text(note).into_owned()).collect(),
            artifacts: None,
        };
        let (executor, job) = (Arc::clone(self), Arc::clone(job));
        let stored = tokio::task::spawn_blocking(move || executor.store_result(&job, fingerprint, recorded)).await;
        stored.unwrap_or_else(|_| Err(FAILED.to_owned()))
    }

    fn store_result(&self, job: &AttemptJob, fingerprint: Option<Digest>, result: Recorded) -> Result<(), NoKey> {
        let Some(results) = &self.results else { return Ok(()) };
        let key = self.key(results, job, self.of_needs(&job.needs)?, fingerprint)?;
        let artifacts = Places::of(&self.state, &self.run, &job.name, job.attempt).artifacts();
        let contents = folder::contents(&artifacts).map_err(|error| format!("its artifacts: {error}"))?;
        let handed = contents.map(|contents| (contents.digest.to_string(), contents.bytes));
        let result = Recorded { artifacts: handed, ..result };
        match results.cache.record(&key, &result, &artifacts, results.clock.now_ms()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(IRREPRODUCIBLE.to_owned()),
            Err(error) => Err(causes(&error)),
        }
    }

    /// Keeps in mind that an attempt gave another result than before it, from the same: what is recorded of it is forgotten.
    ///
    /// # Errors
    /// Why not, for people: it may be taken for reproducible again.
    pub(super) async fn never_reuse(self: &Arc<Self>, job: &Arc<AttemptJob>) -> Result<(), NoKey> {
        let Some(results) = &self.results else { return Ok(()) };
        let fingerprint = self.fingerprint(results, job.task).await?;
        let (executor, job) = (Arc::clone(self), Arc::clone(job));
        let forgotten = tokio::task::spawn_blocking(move || executor.forget_result(&job, fingerprint)).await;
        forgotten.unwrap_or_else(|_| Err(FAILED.to_owned()))
    }

    fn forget_result(&self, job: &AttemptJob, fingerprint: Option<Digest>) -> Result<(), NoKey> {
        let Some(results) = &self.results else { return Ok(()) };
        let key = self.key(results, job, self.of_needs(&job.needs)?, fingerprint)?;
        results.cache.never_again(&self.repository, &key, results.clock.now_ms()).map_err(|error| causes(&error))
    }

    /// Makes sure that what this run recorded stays, within the bounds of the cache.
    ///
    /// # Errors
    /// [`CacheError`]; what was recorded may be gone when git collects garbage, and is then not taken.
    pub fn settle_results(&self) -> Result<(), CacheError> {
        self.results.as_ref().map_or(Ok(()), |results| results.cache.settle(&self.repository, &self.run))
    }

    /// The digest of what a task's fingerprint command prints; `None` when it has none. It runs once a run.
    async fn fingerprint(&self, results: &Results, task: TaskIx) -> Result<Option<Digest>, String> {
        let spec = self.plan.task(task);
        let Some(Caching { fingerprint: Some(command), .. }) = &spec.cache else { return Ok(None) };
        let known = {
            let mut all = results.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(task).or_default())
        };
        known.get_or_init(|| self.printed_fingerprint(results, spec, command)).await.clone().map(Some)
    }

    /// What a task's fingerprint command prints, as a digest.
    async fn printed_fingerprint(&self, results: &Results, spec: &Task, command: &Command) -> Printed {
        let _place = results.printing.acquire().await;
        let rendered = self.plan.render_command(command, &self.facts.context(&Value::Null, &self.facts.lookup()));
        let printed = match rendered {
            Err(error) => Err(causes(&error)),
            Ok(command) => {
                let name = InstanceId(format!("{FINGERPRINT} {}", spec.name).into());
                setup::printed(self, &name, &spec.sandbox, &command).await.map_err(|error| causes(&error))
            }
        };
        let digest = printed.map(|text| Mix::new("fingerprint").add("printed", text.as_bytes()).done());
        // A note is one line; what the command printed may be several.
        let one_line = |text: String| text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        digest.map_err(|reason| format!("its fingerprint: {}", one_line(reason)))
    }

    fn key(
        &self,
        results: &Results,
        job: &AttemptJob,
        needs: OfNeeds,
        fingerprint: Option<Digest>,
    ) -> Result<Key, NoKey> {
        let task = self.plan.task(job.task);
        let caching = task.cache.as_ref().ok_or("its task does not say `cache`")?;
        if caching.fingerprint.is_some() != fingerprint.is_some() {
            return Err("its fingerprint is not known".to_owned());
        }
        if self.plan.sandboxes.get(&task.sandbox).is_none_or(|policy| policy.network != Network::None) {
            return Err("its policy reaches the network".to_owned());
        }
        let inputs = match &caching.inputs {
            None => needs.whole_tree,
            Some(globs) => self.with_module(job, self.inputs(results, job, globs)?)?,
        };
        Ok(Ingredients {
            name: &job.name,
            rendered: &job.rendered,
            task,
            mode: self.plan.merge.mode,
            policy: results.policies[&task.sandbox],
            workspace: results.workspace,
            inputs,
            needs: needs.handed,
            told: results.told,
            fingerprint,
        }
        .key())
    }

    fn of_needs(&self, needs: &NeedsView) -> Result<OfNeeds, NoKey> {
        let mut handed = Mix::new("needs");
        handed.add("json", needs.json.to_string().as_bytes());
        for (instance, attempt) in &needs.artifacts {
            let artifacts = Places::of(&self.state, &self.run, instance, *attempt).artifacts();
            let contents =
                folder::contents(&artifacts).map_err(|error| format!("artifacts of `{instance}`: {error}"))?;
            handed.add("need", instance.0.as_bytes());
            if let Some(contents) = contents {
                handed.digest("artifacts", contents.digest);
            }
        }
        // The start tree follows from these; merging them only to learn its name would cost more.
        let mut tree = Mix::new("whole tree");
        tree.add("base", self.trees.base.tree.as_bytes());
        let several = needs.changes.len() > 1;
        if let (Some(results), true) = (&self.results, several) {
            tree.digest("joined by", results.joining);
        }
        for (_, change) in &needs.changes {
            tree.add("before", change.base_tree.as_bytes()).add("after", change.tree.as_bytes());
            // Where it goes when another one moved what it touches.
            if let (Some(writes), true) = (&change.writes, several) {
                tree.list("writes", writes.iter().map(String::as_bytes));
            }
        }
        Ok(OfNeeds { handed: handed.done(), whole_tree: tree.done() })
    }

    /// The files of the start tree that match any of the globs, and all that say which files a change is made of.
    fn inputs(&self, results: &Results, job: &AttemptJob, globs: &[String]) -> Result<Digest, NoKey> {
        let text = |error: &dyn std::error::Error| format!("its inputs: {}", causes(error));
        let start = self.trees.tree_with(&job.needs.changes).map_err(|error| text(&error))?;
        let known = |digest: Option<Digest>| {
            let mut all = results.inputs.lock().unwrap_or_else(PoisonError::into_inner);
            match digest {
                Some(digest) => all.insert((start, job.task), digest),
                None => all.get(&(start, job.task)).copied(),
            }
        };
        if let Some(digest) = known(None) {
            return Ok(digest);
        }
        let ways = PathGlobs::new(&ways(globs)).map_err(|error| text(&error))?;
        let globs = PathGlobs::new(globs).map_err(|error| text(&error))?;
        let git = self.repository.handle().map_err(|error| text(&error))?;
        let odb = git.odb().map_err(|error| text(&error))?;
        let (mut mix, mut has_link) = (Mix::new("inputs"), false);
        for file in tree::diff(&odb, None, Some(start)).map_err(|error| text(&error))? {
            let counts = globs.matches(&file.path) || is_ignore_file(&file.path);
            if let (Some(entry), true) = (file.new, counts) {
                mix.add("path", &file.path).add("mode", &entry.mode.to_le_bytes()).add("id", entry.id.as_bytes());
            }
            let is_link = file.new.is_some_and(|entry| entry.mode == tree::SYMLINK);
            has_link |= is_link && (counts || ways.matches(&file.path));
        }
        if has_link {
            // What is read through a link lies anywhere in the tree.
            mix.add("through links", start.as_bytes());
        }
        let digest = mix.done();
        known(Some(digest));
        Ok(digest)
    }

    /// The same and the module of a guest, which counts whether `inputs` names it or not.
    fn with_module(&self, job: &AttemptJob, inputs: Digest) -> Result<Digest, NoKey> {
        if job.rendered.guest.is_none() {
            return Ok(inputs);
        }
        let text = |error: &dyn std::error::Error| format!("its module: {}", causes(error));
        let start = self.trees.tree_with(&job.needs.changes).map_err(|error| text(&error))?;
        let git = self.repository.handle().map_err(|error| text(&error))?;
        let odb = git.odb().map_err(|error| text(&error))?;
        let module = tree::find(&odb, start, job.rendered.argv[0].as_bytes()).map_err(|error| text(&error))?;
        let mut mix = Mix::new("module");
        // One that a need handed over counts among its artifacts.
        mix.digest("inputs", inputs).add("module", module.as_ref().map_or(&[][..], |module| module.id.as_bytes()));
        Ok(mix.done())
    }

    /// A recorded result in this run.
    fn restored(
        &self,
        results: &Results,
        (job, key): (&AttemptJob, &Key),
        inspection: &mut Inspection<'_>,
        recorded: Recorded,
    ) -> Result<Restored, Box<dyn std::error::Error>> {
        let change = match &recorded.change {
            None => None,
            Some(change) => {
                let history = change.history.as_deref().map(Oid::from_str).transpose()?;
                if let Some(missing) = inspection.first_missing_of(Oid::from_str(&change.commit)?, history)? {
                    return Ok(Restored::Gone(format!("its object {missing} is gone (a power cut, git prune?)")));
                }
                // Another policy may hide something since it was recorded.
                if self.link_to_hidden(Oid::from_str(&change.base_tree)?, Oid::from_str(&change.tree)?)?.is_some() {
                    return Ok(Restored::Unfit);
                }
                match self.on_this_tree(job, change)? {
                    Some(change) if change.tree == change.base_tree => None,
                    Some(change) => Some(ChangeSummary { writes: job.rendered.writes.clone(), ..change }),
                    None => return Ok(Restored::Unfit),
                }
            }
        };
        let handed = if recorded.artifacts.is_some() { Handed::Files } else { Handed::Nothing };
        if let Some((digest, _)) = &recorded.artifacts {
            let to = Places::of(&self.state, &self.run, &job.name, job.attempt).artifacts();
            if !folder::taken(&results.cache.artifacts(key), &to, digest)? {
                return Ok(Restored::Gone("the files that it handed over are gone or others".to_owned()));
            }
        }
        let Recorded { run, duration_ms, outputs, notes, .. } = recorded;
        // What counts for who runs counts for who need not.
        self.handed_over.book(&job.name, &outputs)?;
        let reuse = Reuse { key: key.to_string(), from: run, saved_ms: duration_ms, change, outputs, handed, notes };
        Ok(Restored::Taken(Box::new(reuse)))
    }

    /// The change on the tree that the instance would start from; `None` when it does not fit there.
    fn on_this_tree(
        &self,
        job: &AttemptJob,
        change: &ChangeSummary,
    ) -> Result<Option<ChangeSummary>, Box<dyn std::error::Error>> {
        let caching = self.plan.task(job.task).cache.as_ref();
        if caching.is_none_or(|caching| caching.inputs.is_none()) {
            return self.with_history(job, change).map(Some);
        }
        let start = self.trees.tree_with(&job.needs.changes)?;
        if start.to_string() == change.base_tree {
            return self.with_history(job, change).map(Some);
        }
        if change.history.is_some() {
            return Ok(None);
        }
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        let (before, after) = (Oid::from_str(&change.base_tree)?, Oid::from_str(&change.tree)?);
        let mut edits = Edits::new();
        for difference in tree::diff(&odb, Some(before), Some(after))? {
            let present = tree::find(&odb, start, &difference.path)?;
            if present == difference.new {
                continue;
            }
            if present != difference.old {
                return Ok(None);
            }
            edits.insert(difference.path, difference.new);
        }
        let Some(tree) = tree::edit(&odb, Some(start), &edits)? else { return Ok(None) };
        if !changes_only(&odb, start, tree, &edits)? || judge_together(&odb, start, tree)?.is_some() {
            return Ok(None);
        }
        let mut here = ChangeSummary {
            base_tree: start.to_string(),
            commit: String::new(),
            tree: tree.to_string(),
            files: edits.len() as u64,
            history: None,
            writes: None,
        };
        if tree != start {
            let parent = self.trees.commit_with(&job.needs.changes)?;
            here.commit = self.kept_commit(&job.name, parent, tree)?.to_string();
        }
        Ok(Some(here))
    }

    /// A change that stands on the tree that it was made on, with its worker's own commits as this run would have told them.
    fn with_history(
        &self,
        job: &AttemptJob,
        change: &ChangeSummary,
    ) -> Result<ChangeSummary, Box<dyn std::error::Error>> {
        let Some(newest) = &change.history else { return Ok(change.clone()) };
        let start = self.trees.commit_with(&job.needs.changes)?;
        let history = Some(self.tell_again(&job.name, start, (&change.commit, newest))?.to_string());
        let commit = self.kept_commit(&job.name, start, Oid::from_str(&change.tree)?)?.to_string();
        Ok(ChangeSummary { commit, history, ..change.clone() })
    }

    fn kept_commit(
        &self,
        name: &InstanceId,
        parent: Oid,
        tree: Oid,
    ) -> Result<Oid, crate::repository::RepositoryError> {
        let trailers = commit::trailers(&self.plan.name, name);
        let subject = format!("{}: {name}", self.plan.name);
        let spec = CommitSpec { parents: &[parent], tree, subject: &subject, trailers: &trailers };
        let commit = commit::write_commit(&self.repository, &self.signing, &spec)?;
        commit::keep_new(&self.repository, &commit::attempt_ref(&self.run, name, Attempt(1)), commit, &[parent])?;
        Ok(commit)
    }
}

/// Globs of the folders on the way to what globs name: where a link stands there, what is read lies elsewhere. A way that begins with
/// any number of folders and names none is left out, because the place that a link leads to is named by it, too.
fn ways(globs: &[String]) -> Vec<String> {
    let of_one = |glob: &String| {
        let ends = glob.match_indices('/').map(|(end, _)| glob[..end].to_owned()).collect::<Vec<_>>();
        ends.into_iter().filter(|way| !way.is_empty() && way != "**").map(|way| match PathGlobs::new(&[&way]) {
            Ok(_) => way,
            // Cut in the middle of its alternatives: any folder may be meant.
            Err(_) => "**".to_owned(),
        })
    };
    globs.iter().flat_map(of_one).collect()
}

/// Whether the file at a path holds ignore rules of a tree.
fn is_ignore_file(path: &[u8]) -> bool {
    path.rsplit(|&byte| byte == b'/').next() == Some(b".gitignore")
}

/// Whether two trees differ in these places only: a file that is put below another file, or in the place of a folder, would take
/// that away.
fn changes_only(odb: &git2::Odb<'_>, start: Oid, tree: Oid, edits: &Edits) -> Result<bool, tree::TreeError> {
    let made = tree::diff(odb, Some(start), Some(tree))?;
    Ok(made.iter().all(|one| edits.get(&one.path) == Some(&one.new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_to_what_globs_name() {
        let check = |glob: &str, expected: &[&str]| assert_eq!(ways(&[glob.to_owned()]), expected, "{glob}");
        check("a", &[]);
        check("a/", &["a"]);
        check("a/b/*.rs", &["a", "a/b"]);
        check("**/*.rs", &[]);
        check("a/**/b/c", &["a", "a/**", "a/**/b"]);
        check("{a/b,c}/d", &["**", "{a/b,c}"]);
    }
}
