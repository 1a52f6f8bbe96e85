//! Gives back what finished runs left: folders of attempts, logs, prepared bases, refs of what has landed. Never a result
//! that is neither on a branch nor dropped by name: its ref, its log and the files that it handed over stay, and it is said
//! that they do.
//!
//! "Landed" is believed of the repository, not of the journal: the commit must still be reachable from a branch, a tag, a
//! remote branch or HEAD. Whoever deleted the target branch keeps all results.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::Oid;
use swarm_plans::InstanceId;

use crate::base::published::clear_prepared;
use crate::commit::{self, attempt_ref, base_ref, folded_ref, history_ref, run_refs, start_refs};
use crate::event::Fate;
use crate::executor::verify::VERIFY;
use crate::hollow::{self, Unreadable};
use crate::ids::{Attempt, RunId};
use crate::journal::lock::run_dir;
use crate::journal::{InstanceState, Journal, JournalError, JournalReader, LockError, RunLock, RunState, log_path};
use crate::open::files;
use crate::removal::{Debris, sweep};
use crate::repository::{Repository, RepositoryError};
use crate::resolution::open_among;
use crate::reused;
use crate::second_word::has_failed;
use crate::state::StateDir;

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only says what would be done.
    Look,
    /// Does it.
    Remove,
}

/// What one run gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanedRun {
    /// The run.
    pub run: RunId,
    /// What became of it.
    pub outcome: RunOutcome,
    /// Disk that its folders took, in bytes.
    pub freed_bytes: u64,
    /// Refs that are no longer needed.
    pub refs_removed: u64,
    /// Refs among them of results that have landed, which nothing but their branch keeps from then on.
    pub released: u64,
    /// Refs among them whose commit is gone, with its id: nothing is kept by them, and git's own collection fails on them.
    pub gone: Vec<(String, Oid)>,
    /// Refs that held nothing, as a power cut leaves them.
    pub void: Vec<String>,
    /// Failed instances whose logs go.
    pub failed_logs: u64,
    /// Instances whose files of `$SWARM_ARTIFACTS` go.
    pub handed_over: u64,
    /// Results that stay, with their refs.
    pub kept: Vec<KeptResult>,
    /// Instances whose results somebody settles by hand right now, where its history was to be forgotten: that would not end
    /// without what the journal knows, so the history stays.
    pub being_settled: Vec<InstanceId>,
}

/// What is to be cleaned.
#[derive(Debug, Clone, Copy)]
pub struct Cleaning<'a> {
    /// Which runs.
    pub runs: &'a [RunId],
    /// Whether anything is done.
    pub mode: Mode,
    /// Whether runs of which nothing is kept are forgotten, too.
    pub history: bool,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// A coordinator works on it: nothing was touched.
    Busy,
    /// Cleaned.
    Cleaned,
}

/// A result that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptResult {
    /// Its full ref name.
    pub reference: String,
    /// The instance, as displayed; `None` when the journal does not know it.
    pub instance: Option<String>,
    /// Why it stays, for people.
    pub reason: String,
}

/// What became of the prepared bases and layers, which all runs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// A coordinator uses the state folder.
    InUse,
    /// They gave back this many bytes.
    Removed {
        /// Disk, in bytes.
        freed_bytes: u64,
    },
}

/// Why cleaning stopped. What was cleaned before stays cleaned; what was to be kept is there.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A folder.
    #[error("remove {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How far cleaning a run is, for a person who waits.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Refs that are gone.
    pub done: usize,
    /// Refs that go.
    pub all: usize,
}

/// Cleans `runs`, each unless somebody works on it. `told` hears often how far it is.
///
/// # Errors
/// All of [`CleanError`].
pub fn clean_runs(
    repository: &Repository,
    state: &StateDir,
    journal: &JournalReader,
    Cleaning { runs, mode, history }: Cleaning<'_>,
    told: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<CleanedRun>, CleanError> {
    let mut forgetting = (history && mode == Mode::Remove).then(|| Journal::open(state.root())).transpose()?;
    let mut states: Vec<(RunId, RunState)> = Vec::new();
    for run in runs {
        states.push((run.clone(), journal.state(run)?));
    }
    let landed =
        reachable(repository, states.iter().flat_map(|(_, state)| landed_commits(state.instances.values())).collect())?;
    let mut cleaned = Vec::new();
    for (run, run_state) in states {
        let lock = match RunLock::holder_of_run(state.root(), &run)? {
            Some(_) => None,
            None if mode == Mode::Look => Some(None),
            None => match RunLock::of_run(state.root(), &run, 0) {
                Ok(lock) => Some(Some(lock)),
                Err(LockError::Held { .. }) => None,
                Err(error) => return Err(error.into()),
            },
        };
        // One that somebody went on with before the lock was had has other results than those that were read.
        let is_as_read = || Ok::<_, JournalError>(journal.events(&run, run_state.seq)?.is_empty());
        let Some(_held) = lock.map_or(Ok(None), |lock| Ok::<_, CleanError>(is_as_read()?.then_some(lock)))? else {
            cleaned.push(CleanedRun { outcome: RunOutcome::Busy, ..CleanedRun::nothing(run) });
            continue;
        };
        let void = repository.unwritten_below(&run_refs(&run));
        let mut one = clean_run((repository, state), (&run, &run_state), &landed, mode, told)?;
        one.void = void;
        if history && one.kept.is_empty() {
            let open = open_among(repository, &run, run_state.instances.keys())?;
            one.being_settled = open.into_iter().cloned().collect();
            if let Some(journal) = forgetting.as_mut().filter(|_| one.being_settled.is_empty()) {
                journal.forget(&run)?;
            }
        }
        cleaned.push(one);
    }
    Ok(cleaned)
}

/// Removes prepared bases, layers and trash, when nobody uses them; the next run prepares them again.
///
/// # Errors
/// [`CleanError::Io`] and [`CleanError::Lock`].
pub fn clean_prepared(state: &StateDir, mode: Mode) -> Result<Prepared, CleanError> {
    let _alone = match RunLock::of_idle_state(state.root()) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(Prepared::InUse),
        Err(error) => return Err(error.into()),
    };
    let folders = ["bases", "layers", "trash"].map(|name| state.path(name));
    let freed_bytes = folders.iter().map(|folder| content_bytes(folder)).sum();
    if mode == Mode::Remove {
        clear_prepared(state).map_err(|source| CleanError::Io { path: folders[0].clone(), source })?;
        sweep(state).map_err(|source| CleanError::Io { path: folders[2].clone(), source })?;
    }
    Ok(Prepared::Removed { freed_bytes })
}

/// Removes what runs left that died before their first entry in the journal: a folder with nothing but its lock, and the ref of
/// their base. Gives their names. Only in the repository's own state folder, where both are certainly of one run, and only while
/// nobody uses that: whoever begins a run says so first.
///
/// # Errors
/// All of [`CleanError`].
pub fn clean_unbegun(repository: &Repository, state: &StateDir, mode: Mode) -> Result<Vec<RunId>, CleanError> {
    if state.root() != repository.common_dir().join("swarm") {
        return Ok(Vec::new());
    }
    let _alone = match RunLock::of_idle_state(state.root()) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    // Opened now: nothing is written to it while we are alone.
    let journal = JournalReader::open(state.root())?;
    let mut unbegun = Vec::new();
    for run in journal.bare_locks() {
        let (base, refs) = (base_ref(&run), repository.refs_below(&run_refs(&run))?);
        let is_known = match journal.run(&run) {
            Err(JournalError::DamagedRun(_)) => true,
            row => row?.is_some(),
        };
        if is_known || refs.iter().any(|(name, _)| *name != base) {
            continue;
        }
        if mode == Mode::Remove {
            // A ref without a folder is nobody's whom we know, and a folder without its ref may meet that of another run to which
            // the name was given since. So the ref is marked, then goes the folder, then the ref: whoever dies in between leaves
            // what the next one knows for certain.
            repository.sweep_refs(&run_refs(&run));
            if repository.find_ref(&base)?.is_some() {
                commit::mark_base(repository, &run)?;
            }
            let path = run_dir(state.root(), &run);
            let gone = Debris::take(state, &path).and_then(Debris::clear);
            gone.map_err(|source| CleanError::Io { path, source })?;
            repository.delete_ref(&base)?;
        }
        unbegun.push(run);
    }
    unbegun.extend(half_cleaned(repository, &unbegun, mode)?);
    Ok(unbegun)
}

/// Removes the refs of bases that somebody marked who was killed before they were removed, and those that a power cut left empty;
/// gives the names of their runs, as refs have them, but for those of `known`.
fn half_cleaned(repository: &Repository, known: &[RunId], mode: Mode) -> Result<Vec<RunId>, CleanError> {
    let (mark, mut runs) = (commit::no_base()?, Vec::new());
    let marked = repository.refs_below("refs/swarm/")?.into_iter().filter(|(_, commit)| *commit == mark);
    // A run that is known has its base in the journal: whoever goes on with it makes the ref again.
    for name in marked.map(|(name, _)| name).chain(repository.unwritten_below("refs/swarm/")) {
        let Some(refs) = name.strip_suffix("+base") else { continue };
        if known.iter().any(|run| run_refs(run) == refs) {
            continue;
        }
        if mode == Mode::Remove {
            repository.sweep_refs(refs);
            repository.delete_ref(&name)?;
        }
        runs.push(RunId(refs.trim_start_matches("refs/swarm/").trim_end_matches('/').to_owned()));
    }
    Ok(runs)
}

impl CleanedRun {
    fn nothing(run: RunId) -> Self {
        CleanedRun {
            run,
            outcome: RunOutcome::Cleaned,
            freed_bytes: 0,
            refs_removed: 0,
            released: 0,
            gone: Vec::new(),
            void: Vec::new(),
            failed_logs: 0,
            handed_over: 0,
            kept: Vec::new(),
            being_settled: Vec::new(),
        }
    }
}

fn clean_run(
    (repository, state): (&Repository, &StateDir),
    (run, run_state): (&RunId, &RunState),
    landed: &HashSet<Oid>,
    mode: Mode,
    told: &mut dyn FnMut(Progress<'_>),
) -> Result<CleanedRun, CleanError> {
    let mut cleaned = CleanedRun::nothing(run.clone());
    let (base, folded, starts) = (base_ref(run), folded_ref(run), start_refs(run));
    let owners = owners(run, run_state);
    let (mut kept_logs, mut kept_files): (Vec<PathBuf>, HashSet<PathBuf>) = Default::default();
    let mut removable = Vec::new();
    let prefix = run_refs(run);
    let Unreadable { hidden, gone } = hollow::unreadable(repository, &prefix)?;
    cleaned.gone = gone;
    let gone: HashSet<&String> = cleaned.gone.iter().map(|(reference, _)| reference).collect();
    let reused = reused::reused_refs(run);
    let taken = reused::to_keep(repository, run, run_state)?;
    if mode == Mode::Remove {
        reused::settle(repository, run, run_state)?;
    }
    let references = repository.refs_below(&prefix)?.into_iter().chain(taken).map(|(reference, _)| reference);
    for reference in references.collect::<BTreeSet<_>>() {
        if reference == base && !gone.contains(&base) {
            continue;
        }
        let is_of_the_way = reference == folded || [&starts, &reused].iter().any(|below| reference.starts_with(*below));
        if is_of_the_way && !hidden.contains_key(&reference) || gone.contains(&reference) {
            removable.push(reference);
            continue;
        }
        let owner = owners.get(&reference);
        let known = || owner.map_or(Some("the journal does not know it".to_owned()), |it| reason_to_keep(*it, landed));
        match hidden.get(&reference).map(|why| format!("it cannot be read ({why}): git fsck")).or_else(known) {
            Some(reason) => {
                kept_logs.extend(owner.into_iter().flat_map(|owner| logs_of(state, run, owner)));
                kept_files.extend(owner.and_then(|owner| files_of(state, run, owner)));
                let instance = owner.map(|owner| crate::report::sanitize::name(&owner.id.0));
                cleaned.kept.push(KeptResult { reference, instance, reason });
            }
            None => {
                cleaned.released += u64::from(owner.is_some_and(Owner::has_landed));
                removable.push(reference);
            }
        }
    }
    if cleaned.kept.is_empty() && !removable.contains(&base) && repository.find_ref(&base)?.is_some() {
        removable.push(base);
    }
    cleaned.refs_removed = removable.len() as u64;
    cleaned.failed_logs = failed_logs(state, run, run_state, &kept_logs);
    cleaned.handed_over = handed_over(state, run, run_state, &kept_files);
    let folder = run_dir(state.root(), run);
    let before = disk_bytes(&folder);
    let stays: Vec<PathBuf> = kept_logs.into_iter().chain(kept_files).collect();
    let stay_bytes: u64 = stays.iter().map(|path| disk_bytes(path)).sum();
    cleaned.freed_bytes = before.saturating_sub(stay_bytes);
    if mode == Mode::Remove {
        // A process that died while it held this run's lock may have held those of its refs.
        repository.sweep_refs(&run_refs(run));
        for (done, reference) in removable.iter().enumerate() {
            told(Progress { run, done, all: removable.len() });
            repository.delete_ref(reference)?;
        }
        told(Progress { run, done: removable.len(), all: removable.len() });
        remove_all_but(state, &folder, &stays).map_err(|source| CleanError::Io { path: folder, source })?;
    }
    Ok(cleaned)
}

/// What a result that stays is explained by: the log of its try, and that of the verification which was red with it.
fn logs_of(state: &StateDir, run: &RunId, owner: &Owner<'_>) -> Vec<PathBuf> {
    let mut logs = vec![log_path(state.root(), run, owner.id, owner.attempt)];
    if let Some(Fate::Parked { verification: Some(number), .. }) = owner.state.fate() {
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        logs.push(log_path(state.root(), run, &InstanceId(VERIFY.into()), Attempt(number)));
    }
    logs
}

/// The files that a result which stays hands over to those that need it; `None` where there are none.
fn files_of(state: &StateDir, run: &RunId, owner: &Owner<'_>) -> Option<PathBuf> {
    let folder = files::folder_of(state.root(), run, owner.id, owner.attempt);
    files::holds_something(&folder).then_some(folder)
}

/// How many instances handed files over that are not kept.
fn handed_over(state: &StateDir, run: &RunId, run_state: &RunState, kept: &HashSet<PathBuf>) -> u64 {
    let goes = |id, attempt| {
        let folder = files::folder_of(state.root(), run, id, attempt);
        !kept.contains(&folder) && files::holds_something(&folder)
    };
    let losing = run_state
        .instances
        .iter()
        .filter(|(id, instance)| instance.attempts.iter().any(|attempt| goes(id, attempt.attempt)));
    losing.count() as u64
}

/// How many instances failed of which a log lies there that is not kept.
fn failed_logs(state: &StateDir, run: &RunId, run_state: &RunState, kept: &[PathBuf]) -> u64 {
    let goes = |id, attempt| {
        let log = log_path(state.root(), run, id, attempt);
        !kept.contains(&log) && log.exists()
    };
    let failed = run_state.instances.iter().filter(|(_, instance)| has_failed(instance));
    let losing = failed.filter(|(id, instance)| instance.attempts.iter().any(|attempt| goes(id, attempt.attempt)));
    losing.count() as u64
}

/// The attempt that a ref belongs to.
#[derive(Clone, Copy)]
struct Owner<'a> {
    id: &'a InstanceId,
    attempt: Attempt,
    state: &'a InstanceState,
}

impl Owner<'_> {
    fn has_landed(&self) -> bool {
        matches!(self.state.fate(), Some(Fate::Landed { .. }))
    }
}

fn owners<'a>(run: &RunId, run_state: &'a RunState) -> HashMap<String, Owner<'a>> {
    let attempts = run_state.instances.iter().flat_map(|(id, state)| {
        state.attempts.iter().map(move |attempt| Owner { id, attempt: attempt.attempt, state })
    });
    let refs = attempts.flat_map(|owner| {
        let names = [attempt_ref(run, owner.id, owner.attempt), history_ref(run, owner.id, owner.attempt)];
        names.map(|name| (name, owner))
    });
    refs.collect()
}

/// Why what a try left must stay; `None` when nothing would be lost.
fn reason_to_keep(owner: Owner<'_>, landed: &HashSet<Oid>) -> Option<String> {
    let instance = owner.state;
    let is_aside = || instance.put_aside().any(|attempt| attempt.attempt == owner.attempt);
    match instance.fate() {
        Some(Fate::Landed { .. }) if is_aside() => match instance.landed_attempt() {
            Some(landed) if landed.attempt < owner.attempt => {
                Some(format!("attempt {} changed something else when {} had landed", owner.attempt, landed.attempt))
            }
            _ => Some(format!("attempt {} was put aside, and a later one landed", owner.attempt)),
        },
        Some(Fate::Empty) if is_aside() => {
            Some(format!("attempt {} was put aside, and a later one changed nothing", owner.attempt))
        }
        Some(Fate::Landed { commit }) => match Oid::from_str(commit) {
            Ok(commit) if landed.contains(&commit) => None,
            _ => Some("it landed, but no branch has it any more".to_owned()),
        },
        Some(Fate::Empty | Fate::Dropped { .. }) => None,
        Some(Fate::Parked { reason, .. }) => Some(format!("parked: {}", crate::report::sanitize::name(reason))),
        // Attempts without a change have nothing to lose, whatever their ref names.
        None if instance.attempts.iter().all(|attempt| attempt.collected.is_some() && attempt.change().is_none()) => {
            None
        }
        None => Some(instance.result().map_or("not merged", |result| result.name()).to_owned()),
    }
}

/// The commits as which results landed.
pub(crate) fn landed_commits<'a>(instances: impl IntoIterator<Item = &'a InstanceState>) -> impl Iterator<Item = Oid> {
    instances.into_iter().filter_map(|instance| match instance.fate() {
        Some(Fate::Landed { commit }) => Oid::from_str(commit).ok(),
        _ => None,
    })
}

/// Those of `wanted` that a branch, a tag, a remote branch or HEAD reaches. Newest first, so that it ends soon after the
/// oldest wanted commit.
pub(crate) fn reachable(repository: &Repository, mut wanted: HashSet<Oid>) -> Result<HashSet<Oid>, RepositoryError> {
    let mut found = HashSet::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let git = repository.handle()?;
    let mut walk = git.revwalk()?;
    walk.set_sorting(git2::Sort::TIME)?;
    for names in ["refs/heads/*", "refs/tags/*", "refs/remotes/*"] {
        walk.push_glob(names)?;
    }
    // A detached HEAD may be the only one; an unborn one reaches nothing.
    drop(walk.push_head());
    for id in walk {
        let id = id?;
        if wanted.remove(&id) {
            found.insert(id);
            if wanted.is_empty() {
                break;
            }
        }
    }
    Ok(found)
}

/// Takes the folder away, but for `kept` files and folders, which stay where they are at every moment: whoever dies in between loses none.
fn remove_all_but(state: &StateDir, folder: &Path, kept: &[PathBuf]) -> io::Result<()> {
    if kept.iter().all(|path| !path.exists()) {
        return Debris::take(state, folder)?.clear();
    }
    let kept: HashSet<&Path> = kept.iter().map(PathBuf::as_path).collect();
    let above: HashSet<&Path> = kept.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if above.contains(&*path) {
                open.push(path);
            } else if !kept.contains(&*path) {
                Debris::take(state, &path)?.clear()?;
            }
        }
    }
    Ok(())
}

/// Disk that a folder's entries take, in bytes.
fn content_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter_map(Result::ok).map(|entry| disk_bytes(&entry.path())).sum()
}

/// Disk that a file or folder takes, in bytes; what cannot be read counts nothing.
pub fn disk_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir()
            && let Ok(entries) = std::fs::read_dir(&path)
        {
            open.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AttemptEnd, InstanceResult, ParkedBy, RunEvent};
    use crate::journal::{Journal, NewRun, NewTarget, RunWriter, attempt_dir};
    use crate::report::story;

    struct Fixture {
        folder: tempfile::TempDir,
        repository: Repository,
        state: StateDir,
        base: Oid,
        landed: Oid,
    }

    /// A run in which `a` landed, `b` is parked and `c` changed nothing; each has a ref, a log and an upper layer.
    fn fixture() -> (Fixture, RunWriter) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init(folder.path()).expect("a repository");
        let who = git2::Signature::new("t", "t@example.org", &git2::Time::new(1, 0)).expect("legal");
        let tree = git.find_tree(git.treebuilder(None).and_then(|b| b.write()).expect("a tree")).expect("written");
        let base = git.commit(Some("refs/heads/main"), &who, &who, "base", &tree, &[]).expect("a commit");
        let parent = git.find_commit(base).expect("made");
        let landed = git.commit(Some("refs/heads/swarm/x"), &who, &who, "a", &tree, &[&parent]).expect("a commit");
        let state = StateDir::open(&git.path().join("swarm")).expect("a state folder");
        let new = NewRun {
            plan: "x".to_owned(),
            sources: Vec::new(),
            repository: String::new(),
            expanded_hash: String::new(),
            base: base.to_string(),
            target: Some(NewTarget::Ref("refs/heads/swarm/x".to_owned())),
            started_at_ms: 1,
            asked: crate::settings::Asked::default(),
        };
        let writer = Journal::open(state.root()).and_then(|mut j| j.begin_run(new, |_| false)).expect("a run");
        let run = writer.run().clone();
        let mut events = vec![story::added(&[("a", &[]), ("b", &[]), ("c", &[])])];
        for (name, files) in [("a", 1), ("b", 1), ("c", 0)] {
            events.push(story::ended(name, 1, AttemptEnd::Succeeded, 1, files));
            events.push(story::result(name, InstanceResult::Succeeded, None));
            let reference = attempt_ref(&run, &story::id(name), Attempt(1));
            git.reference(&reference, base, false, "").expect("a ref");
            let attempt = attempt_dir(state.root(), &run, &story::id(name), Attempt(1));
            std::fs::create_dir_all(attempt.join("upper")).expect("a folder");
            std::fs::write(attempt.join("upper/file"), "x".repeat(10_000)).expect("a file");
            std::fs::write(attempt.join("log"), "words\n").expect("a log");
            std::fs::create_dir_all(attempt.join("out/artifacts/deep")).expect("a folder");
            std::fs::write(attempt.join("out/artifacts/deep/file"), "handed over\n").expect("a file");
        }
        git.reference(&base_ref(&run), base, false, "").expect("a ref");
        let fate = Fate::Landed { commit: landed.to_string() };
        events.push(RunEvent::Merged { instance: story::id("a"), fate });
        let (reason, by, verification) = ("red".to_owned(), ParkedBy::Gate, Some(3));
        let fate = Fate::Parked { reason, paths: vec![], by, verification };
        events.push(RunEvent::Merged { instance: story::id("b"), fate });
        for number in [2, 3] {
            let log = log_path(state.root(), &run, &story::id(VERIFY), Attempt(number));
            std::fs::create_dir_all(log.parent().expect("of an attempt")).expect("a folder");
            std::fs::write(log, "words\n").expect("a log");
        }
        events.push(RunEvent::Merged { instance: story::id("c"), fate: Fate::Empty });
        writer.append(1, events).expect("space");
        let repository = Repository::open(folder.path()).expect("a repository");
        (Fixture { folder, repository, state, base, landed }, writer)
    }

    impl Fixture {
        fn clean(&self, mode: Mode) -> CleanedRun {
            let journal = JournalReader::open(self.state.root()).expect("a journal");
            let runs = [RunId("x-1".to_owned())];
            clean_runs(
                &self.repository,
                &self.state,
                &journal,
                Cleaning { runs: &runs, mode, history: false },
                &mut |_| (),
            )
            .expect("cleans")
            .remove(0)
        }

        fn refs(&self) -> Vec<String> {
            self.repository.refs_below("refs/swarm/").expect("refs").into_iter().map(|(name, _)| name).collect()
        }

        fn log(&self, name: &str) -> PathBuf {
            log_path(self.state.root(), &RunId("x-1".to_owned()), &story::id(name), Attempt(1))
        }
    }

    #[test]
    fn what_landed_goes_and_what_is_parked_stays() {
        let (it, writer) = fixture();
        drop(writer);
        let before = it.refs();
        let look = it.clean(Mode::Look);
        assert_eq!((it.refs(), it.log("a").exists()), (before, true));
        let cleaned = it.clean(Mode::Remove);
        assert_eq!(look, cleaned);
        assert_eq!((cleaned.refs_removed, cleaned.released), (2, 1));
        assert_eq!(cleaned.kept.iter().map(|kept| kept.reason.as_str()).collect::<Vec<_>>(), ["parked: red"]);
        assert_eq!(it.refs(), ["refs/swarm/x-1/+base", "refs/swarm/x-1/b/1"]);
        assert_eq!((it.log("a").exists(), it.log("b").exists()), (false, true));
        let of_gate = |number| log_path(it.state.root(), &RunId("x-1".to_owned()), &story::id(VERIFY), Attempt(number));
        assert_eq!([2, 3].map(|number| of_gate(number).exists()), [false, true], "what was red with it is told, too");
        assert!(!it.log("b").with_file_name("upper").exists());
        let handed_over = |name| it.log(name).with_file_name("out/artifacts/deep/file").exists();
        assert_eq!((handed_over("a"), handed_over("b")), (false, true), "what settles b hands that over");
        assert!(cleaned.freed_bytes >= 30_000, "{}", cleaned.freed_bytes);
    }

    #[test]
    fn what_landed_on_a_branch_that_is_gone_stays() {
        let (it, writer) = fixture();
        drop(writer);
        let git = git2::Repository::open(it.folder.path()).expect("a repository");
        git.find_reference("refs/heads/swarm/x").and_then(|mut branch| branch.delete()).expect("deleted");
        assert_eq!(it.clean(Mode::Remove).kept.len(), 2);
        // Merged elsewhere is as good as the target itself.
        git.reference("refs/tags/kept", it.landed, false, "").expect("a tag");
        assert_eq!(it.clean(Mode::Remove).kept.len(), 1);
        assert!(git.find_commit(it.base).is_ok());
    }

    #[test]
    fn what_died_before_it_began_goes_and_what_begins_right_now_stays() {
        let (it, writer) = fixture();
        drop(writer);
        let run = RunId("it's-2".to_owned());
        let git = git2::Repository::open(it.folder.path()).expect("a repository");
        git.reference(&base_ref(&run), it.base, false, "").expect("a ref");
        drop(RunLock::of_run(it.state.root(), &run, 1).expect("free"));
        let before = it.refs();
        let clean = |mode| clean_unbegun(&it.repository, &it.state, mode).expect("cleans");
        let begins = RunLock::of_state(it.state.root()).expect("shared");
        assert_eq!((clean(Mode::Remove), it.refs()), (vec![], before.clone()), "somebody begins a run");
        drop(begins);
        assert_eq!((clean(Mode::Look), it.refs()), (vec![run.clone()], before.clone()));
        git.reference(&attempt_ref(&run, &story::id("a"), Attempt(1)), it.base, false, "").expect("a ref");
        assert_eq!(clean(Mode::Remove), vec![], "what has a result was a run");
        it.repository.delete_ref(&attempt_ref(&run, &story::id("a"), Attempt(1))).expect("gone");
        assert_eq!(clean(Mode::Remove), vec![run.clone()]);
        assert_eq!(it.refs().len(), before.len() - 1, "the run in the journal keeps its own");
        assert!(!run_dir(it.state.root(), &run).exists() && clean(Mode::Remove).is_empty());
    }

    #[test]
    fn a_run_that_is_worked_on_is_not_touched() {
        let (it, writer) = fixture();
        let before = it.refs();
        assert_eq!(it.clean(Mode::Remove).outcome, RunOutcome::Busy);
        assert_eq!(clean_prepared(&it.state, Mode::Remove).expect("no error"), Prepared::InUse);
        assert_eq!((it.refs(), it.log("a").exists()), (before, true));
        drop(writer);
        std::fs::create_dir_all(it.state.path("bases/k/tree")).expect("a folder");
        assert!(matches!(clean_prepared(&it.state, Mode::Remove).expect("no error"), Prepared::Removed { .. }));
        assert!(!it.state.path("bases/k").exists() && it.state.path("bases").exists());
    }
}
