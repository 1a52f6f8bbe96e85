//! A person settles what keeps a parked result from landing (`swarm resolve`). [`begin`] opens an ordinary linked worktree
//! in the middle of that merge, as `git merge` would have left it: the target's tip, all of the change that fits, conflict
//! markers where the two contradict each other, and both sides in git's index. [`finish`] takes what the person made there;
//! [`crate::resume::retry`] then lands it through the target's gate. [`abort`] removes the worktree and nothing else, and none that a
//! person edited unless they say so.
//!
//! The worktree is the person's: no cage, their own editor and tools. It is made from the repository's own objects, no filter
//! or hook runs for it, and nothing that a worker left beside its change is in it. What the person makes is not held to
//! the task's `writes`; the gate judges it as it judges everything.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use git2::build::CheckoutBuilder;
use git2::{ErrorCode, Index, IndexAddOption, IndexEntry, IndexTime, Oid};
use ignore::{DirEntry, WalkBuilder};
use serde::{Deserialize, Serialize};
use swarm_plans::{InstanceId, Merge, Plan};
use swarm_protocol::glob_bounds;

use crate::collect::rules::judge_together;
use crate::collect::{Refusal, display_path};
use crate::commit::{self, CommitSpec, Signing};
use crate::entry_name::is_modules_file;
use crate::event::ChangeSummary;
use crate::executor::settle::refused;
use crate::fault;
use crate::ids::{Attempt, RunId, encode_component};
use crate::merge::text::Labels;
use crate::merge::touched::{ConflictPlace, Conflicted, Unsettled, conflicted, still_unsettled};
use crate::merge::{FileRules, FoldError, Step};
use crate::open::{self, OpenError, open_worktree};
use crate::path_globs::BadGlob;
use crate::report::sanitize;
use crate::repository::{Repository, RepositoryError, shared_settings};
use crate::state::write_whole;
use crate::tree::{self, TreeError};

/// Worktrees in which somebody settled a result and that have served.
pub mod served;
/// What a result is settled on where a plan publishes all or nothing.
pub mod waiting;

/// What stands beside a worktree's HEAD, in its folder of the repository: what it was opened for.
const NOTE: &str = "SWARM_RESOLVE";

/// What the names begin with by which git knows these worktrees.
const NAMED_BY: &str = "resolve-";

/// Bits of an index entry's flags that hold its stage. Source: gitformat-index(5), "2-bit stage (during merge)".
const STAGE_SHIFT: u16 = 12;

/// Why a resolution did not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum ResolutionError {
    /// One is under way.
    #[error("open it: it is open already, at {}", .0.display())]
    UnderWay(PathBuf),
    /// None is.
    #[error("find a resolution of {id} in {run}: none was begun")]
    None {
        /// The run.
        run: RunId,
        /// Which result.
        id: InstanceId,
    },
    /// One is, in a folder that is not there now: it was moved, or its disk is not mounted. What was settled in it is there.
    #[error("look into {}: it is not there", .0.display())]
    Away(PathBuf),
    /// It was begun for another change than the newest.
    #[error("take what is in {}: the result has another change since it was opened", .0.display())]
    Outdated(PathBuf),
    /// What it was opened on is not below it any more: it would take back what landed.
    #[error("take what is in {}: its HEAD no longer stems from {tip}, which it was opened on", at.display())]
    OtherBase {
        /// The worktree.
        at: PathBuf,
        /// Full hex id of the target's tip then.
        tip: String,
    },
    /// Markers are left.
    #[error("take what is in {}: conflict markers are left in {}", at.display(), paths.join(", "))]
    Marked {
        /// The worktree.
        at: PathBuf,
        /// Where, rendered for people.
        paths: Vec<String>,
    },
    /// Files still stand beside the folders that have their places.
    #[error("take what is in {}: beside a folder still stands {}", at.display(), paths.join(", "))]
    Beside {
        /// The worktree.
        at: PathBuf,
        /// Which files, rendered for people.
        paths: Vec<String>,
    },
    /// The merge itself is a tree that no worker may leave; what is wrong with it, rendered for people.
    #[error("open the merge: with what landed before, it {0}")]
    Unfit(String),
    /// No worker may leave such a tree, and nobody may land it.
    #[error("take what is in {}: it {what}", at.display())]
    Hostile {
        /// The worktree.
        at: PathBuf,
        /// What is in it, rendered for people.
        what: String,
    },
    /// It is what landed before.
    #[error("take what is in {}: nothing of the change is left", .0.display())]
    Nothing(PathBuf),
    /// Somebody worked in it.
    #[error("remove {}: files in it were edited since it was opened", .0.display())]
    Edited(PathBuf),
    /// The folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A glob of the plan.
    #[error(transparent)]
    Glob(#[from] BadGlob),
    /// Objects.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The file system.
    #[error("use {}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<git2::Error> for ResolutionError {
    fn from(error: git2::Error) -> Self {
        ResolutionError::Repository(error.into())
    }
}

impl From<TreeError> for ResolutionError {
    fn from(error: TreeError) -> Self {
        ResolutionError::Fold(error.into())
    }
}

/// Which result is settled.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its run.
    pub run: &'a RunId,
    /// Its instance.
    pub id: &'a InstanceId,
    /// Its newest change.
    pub change: Step<'a>,
    /// The commit that holds it.
    pub commit: Oid,
}

/// What was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Conflicting paths, rendered for people; empty where everything fits and only the gate was red.
    pub paths: Vec<String>,
    /// Files that a command of the plan would make again: they are as they landed.
    pub again: Vec<String>,
}

/// What a worktree was opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Note {
    version: u32,
    /// Full hex commit ids: the target's tip, and the change.
    tip: String,
    change: String,
    /// The tree of the files as they were laid out, full hex id; `None` where an older swarm opened it.
    #[serde(default)]
    laid_out: Option<String>,
}

/// Whether a worktree that a person edited may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edits {
    /// It stays.
    Keep,
    /// It goes with them.
    Discard,
}

/// The name that git knows the worktree by.
fn worktree_name(run: &RunId, id: &InstanceId) -> String {
    encode_component(&format!("{NAMED_BY}{run}-{id}"))
}

/// Opens the merge of a result into `tip` in the new folder `at`.
///
/// # Errors
/// [`ResolutionError`]; nothing is opened then.
pub fn begin(
    repository: &Repository,
    plan: &Merge,
    subject: Subject<'_>,
    tip: Oid,
    at: &Path,
) -> Result<Opened, ResolutionError> {
    if let Some(known) = place_of(repository, subject.run, subject.id)? {
        return Err(ResolutionError::UnderWay(known));
    }
    clear_half_made(repository, subject)?;
    let merged = merged(repository, plan, &subject, tip)?;
    if let Some(refusal) = judged(repository, &merged, tip)? {
        return Err(ResolutionError::Unfit(refused(&refusal)));
    }
    open_worktree(repository, tip, &worktree_name(subject.run, subject.id), at)?;
    let filled = fill(at, &subject, tip, &merged);
    if filled.is_err() {
        // What was made is of no use; whatever cannot be removed, whoever begins again removes.
        drop(clear_half_made(repository, subject));
    }
    filled?;
    Ok(Opened {
        paths: merged.places.iter().map(shown).collect(),
        again: merged.again.iter().map(|path| display_path(path)).collect(),
    })
}

/// A conflicting path, for people.
fn shown(place: &ConflictPlace) -> String {
    let path = display_path(&place.at.path);
    match &place.beside {
        Some(beside) => format!("{path} (a folder; the other side's file is {})", display_path(beside)),
        None => path,
    }
}

/// What must not be laid out on the person's disk: their own git would obey it.
fn judged(repository: &Repository, merged: &Conflicted, tip: Oid) -> Result<Option<Refusal>, ResolutionError> {
    let git = repository.handle()?;
    let odb = git.odb()?;
    let name = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
    // With conflict markers in it, git cannot read such a file and obeys nothing in it.
    let marked = merged.places.iter().filter(|place| place.beside.is_none() && is_modules_file(&name(&place.at.path)));
    let as_landed = |place: &ConflictPlace| place.versions[1].filter(|entry| !entry.is_tree());
    let edits: tree::Edits = marked.map(|place| (place.at.path.clone(), as_landed(place))).collect();
    let tree = match tree::edit(&odb, Some(merged.tree), &edits)? {
        Some(tree) => tree,
        None => tree::write(&odb, vec![])?,
    };
    Ok(judge_together(&odb, repository.tree_of(tip)?, tree)?)
}

fn merged(
    repository: &Repository,
    plan: &Merge,
    subject: &Subject<'_>,
    tip: Oid,
) -> Result<Conflicted, ResolutionError> {
    let labels =
        Labels { base: "before both".to_owned(), ours: "landed".to_owned(), theirs: sanitize::name(&subject.id.0) };
    let (git, ours) = (repository.handle()?, repository.tree_of(tip)?);
    let rules = FileRules::of(plan)?;
    Ok(conflicted(&git.odb()?, &rules, (ours, &subject.change), &labels)?)
}

/// Makes a checkout of the tip look like a merge in its midst.
fn fill(at: &Path, subject: &Subject<'_>, tip: Oid, merged: &Conflicted) -> Result<(), ResolutionError> {
    let git = shared_settings::open(at)?;
    let tree = git.find_tree(merged.tree)?;
    let point = || fault::point().map_err(|source| ResolutionError::Io { path: at.to_owned(), source });
    point()?;
    git.checkout_tree(tree.as_object(), Some(CheckoutBuilder::new().force()))?;
    let mut index = git.index()?;
    // What was just laid out stays known with its times: `git merge --abort` takes a file of which nothing is known for an edit.
    index.read_tree(&tree)?;
    for place in &merged.places {
        put_stages(&mut index, place)?;
    }
    point()?;
    index.write()?;
    let laid_out = tree_of_files(&git, at)?;
    let note = Note {
        version: 1,
        tip: tip.to_string(),
        change: subject.commit.to_string(),
        laid_out: Some(laid_out.to_string()),
    };
    let write = |name: &str, text: String| {
        let path = git.path().join(name);
        let written = fault::point().and_then(|()| fs::write(&path, text));
        written.map_err(|source| ResolutionError::Io { path, source })
    };
    write("MERGE_HEAD", format!("{}\n", subject.commit))?;
    write("MERGE_MSG", format!("{}\n", sanitize::name(&subject.id.0)))?;
    // Last and whole, after a power cut, too: what has it is a person's from here on.
    point()?;
    let (draft, path) = (git.path().join("SWARM_RESOLVE.new"), git.path().join(NOTE));
    let note = serde_json::to_vec(&note).expect("plain strings");
    write_whole(&path, &draft, 0o644, &note).map_err(|source| ResolutionError::Io { path, source })
}

/// Puts the versions of a path that are files in the place of the merged one; what is in a folder there stays merged.
fn put_stages(index: &mut Index, place: &ConflictPlace) -> Result<(), git2::Error> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&place.at.path));
    index.remove_path(path)?;
    for (stage, version) in (1_u16..).zip(place.versions) {
        let Some(entry) = version.map(|entry| entry.canonical()).filter(|entry| !entry.is_tree()) else { continue };
        index.add(&IndexEntry {
            ctime: IndexTime::new(0, 0),
            mtime: IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: entry.mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: entry.id,
            flags: stage << STAGE_SHIFT,
            flags_extended: 0,
            path: place.at.path.clone(),
        })?;
    }
    Ok(())
}

/// Takes what a person made as a new change of the instance, kept under the ref of `attempt`. The worktree stays.
///
/// # Errors
/// [`ResolutionError`]; nothing has changed then.
pub fn finish(
    repository: &Repository,
    plan: &Plan,
    subject: Subject<'_>,
    attempt: Attempt,
    signing: &Signing,
) -> Result<ChangeSummary, ResolutionError> {
    let at = place_of(repository, subject.run, subject.id)?
        .ok_or_else(|| ResolutionError::None { run: subject.run.clone(), id: subject.id.clone() })?;
    let there = shared_settings::open(&at)?;
    let path = there.path().join(NOTE);
    let text = fs::read_to_string(&path).map_err(|source| ResolutionError::Io { path: path.clone(), source })?;
    let outdated = || ResolutionError::Outdated(at.clone());
    let note: Note = serde_json::from_str(&text).map_err(|_| outdated())?;
    if note.change != subject.commit.to_string() {
        return Err(outdated());
    }
    let tip = Oid::from_str(&note.tip)?;
    let head = there.head()?.peel_to_commit()?.id();
    if head != tip && !there.graph_descendant_of(head, tip)? {
        return Err(ResolutionError::OtherBase { at, tip: tip.to_string() });
    }
    let places = merged(repository, &plan.merge, &subject, tip)?.places;
    let tree = tree_of_files(&there, &at)?;
    let git = repository.handle()?;
    let odb = git.odb()?;
    let left = still_unsettled(&odb, tree, &places)?;
    let named = |paths: &[Vec<u8>]| paths.iter().map(|path| display_path(path)).collect();
    match left {
        Unsettled { marked, .. } if !marked.is_empty() => {
            return Err(ResolutionError::Marked { at, paths: named(&marked) });
        }
        Unsettled { beside, .. } if !beside.is_empty() => {
            return Err(ResolutionError::Beside { at, paths: named(&beside) });
        }
        Unsettled { .. } => {}
    }
    let before = repository.tree_of(tip)?;
    if tree == before {
        return Err(ResolutionError::Nothing(at));
    }
    if let Some(refusal) = judge_together(&odb, before, tree)? {
        return Err(ResolutionError::Hostile { at, what: refused(&refusal) });
    }
    let trailers = commit::trailers(&plan.name, subject.id);
    let title = format!("{}: {}", plan.name, subject.id);
    let spec = CommitSpec { parents: &[tip], tree, subject: &title, trailers: &trailers };
    let commit = commit::write_commit(repository, signing, &spec)?;
    commit::keep_new(repository, &commit::attempt_ref(subject.run, subject.id, attempt), commit, &[tip])?;
    let files = tree::diff(&odb, Some(before), Some(tree))?.len() as u64;
    let (base_tree, tree) = (before.to_string(), tree.to_string());
    Ok(ChangeSummary { base_tree, commit: commit.to_string(), tree, files, history: None, writes: None })
}

/// The tree of a person's files as they are now, whether or not they were added or committed. Their index stays as it is.
fn tree_of_files(git: &git2::Repository, at: &Path) -> Result<Oid, ResolutionError> {
    let mut index = git.index()?;
    let mut gone = Vec::new();
    for conflict in index.conflicts()? {
        let conflict = conflict?;
        gone.extend([conflict.our, conflict.their, conflict.ancestor].into_iter().flatten().map(|entry| entry.path));
    }
    for path in gone {
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        // A file that the person removed is no longer in conflict: it is gone. Of a folder, what is in it counts, unless it
        // is a repository of its own.
        let is_entry =
            at.join(path).symlink_metadata().is_ok_and(|it| !it.is_dir() || at.join(path).join(".git").exists());
        if !is_entry && index.conflict_get(path).is_ok() {
            index.conflict_remove(path)?;
        }
    }
    if let Some(inside) = repository_inside(&index, at)? {
        let what = format!("holds a repository of its own in {inside}, whose files would be left out");
        return Err(ResolutionError::Hostile { at: at.to_owned(), what });
    }
    index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
    index.update_all(["*"], None)?;
    Ok(index.write_tree_to(git)?)
}

/// Whether what git ignores in a folder may be read by who walks through it.
fn may_be_walked(folder: &Path) -> bool {
    glob_bounds::are_lists_bounded(|name| {
        let list = folder.join(name);
        list.metadata().is_ok_and(|it| it.is_file()).then(|| std::fs::read(list))
    })
}

/// The folder, rendered for people, of a repository that somebody made in a worktree; submodules and what git ignores do not
/// count.
fn repository_inside(index: &Index, at: &Path) -> Result<Option<String>, ResolutionError> {
    if !may_be_walked(at) {
        return Err(unread_ignores(at, at));
    }
    let unread = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&unread);
    let may_be = move |entry: &DirEntry| {
        let passes = !entry.file_type().is_some_and(|kind| kind.is_dir()) || may_be_walked(entry.path());
        if !passes {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry.path().to_owned());
        }
        passes
    };
    let all = WalkBuilder::new(at).hidden(false).parents(false).require_git(false).filter_entry(may_be).build();
    for entry in all {
        let entry =
            entry.map_err(|error| ResolutionError::Io { path: at.to_owned(), source: io::Error::other(error) })?;
        let folder = entry.path().parent().and_then(|folder| folder.strip_prefix(at).ok());
        let Some(folder) = folder.filter(|folder| entry.file_name() == ".git" && *folder != Path::new("")) else {
            continue;
        };
        let is_submodule = index.get_path(folder, 0).is_some_and(|entry| entry.mode == tree::GITLINK);
        if !is_submodule {
            return Ok(Some(display_path(folder.as_os_str().as_bytes())));
        }
    }
    let unread = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
    unread.map_or(Ok(None), |folder| Err(unread_ignores(at, &folder)))
}

/// What git ignores in a folder cannot be read without overflowing the stack.
fn unread_ignores(at: &Path, folder: &Path) -> ResolutionError {
    let shown = display_path(folder.strip_prefix(at).unwrap_or(folder).as_os_str().as_bytes());
    let folder = if shown.is_empty() { "." } else { &shown };
    let what = format!("has lines in the .gitignore of {folder} that nobody reads");
    ResolutionError::Hostile { at: at.to_owned(), what }
}

/// Removes the worktree, and returns where it was. The result stays as it is.
///
/// # Errors
/// [`ResolutionError::None`], [`ResolutionError::Edited`] where that is to stop it, and those of the repository.
pub fn abort(repository: &Repository, subject: Subject<'_>, edits: Edits) -> Result<PathBuf, ResolutionError> {
    let at = match place_of(repository, subject.run, subject.id) {
        Ok(Some(at)) => at,
        Ok(None) => {
            return match clear_half_made(repository, subject)? {
                Some(at) => Ok(at),
                None => Err(ResolutionError::None { run: subject.run.clone(), id: subject.id.clone() }),
            };
        }
        // Whoever gives up what they settled gives up what nobody can look at.
        Err(ResolutionError::Away(at)) if edits != Edits::Keep => at,
        Err(error) => return Err(error),
    };
    if edits == Edits::Keep && is_edited(&at, subject.change.result).unwrap_or(true) {
        return Err(ResolutionError::Edited(at));
    }
    // From here on it is nobody's, and half removed is as half made.
    let note = open::admin_dir(repository, &worktree_name(subject.run, subject.id)).join(NOTE);
    let removed = fault::point().and_then(|()| fs::remove_file(&note));
    removed.map_err(|source| ResolutionError::Io { path: note, source })?;
    clear_half_made(repository, subject)?;
    Ok(at)
}

/// Whether the files are others than those that were laid out, and than those of the result, which is kept. What git ignores
/// does not count.
fn is_edited(at: &Path, result: Oid) -> Result<bool, ResolutionError> {
    let git = shared_settings::open(at)?;
    let path = git.path().join(NOTE);
    let text = fs::read_to_string(&path).map_err(|source| ResolutionError::Io { path, source })?;
    let Ok(Note { laid_out: Some(laid_out), .. }) = serde_json::from_str(&text) else { return Ok(true) };
    let files = tree_of_files(&git, at)?;
    Ok(files.to_string() != laid_out && files != result)
}

/// Removes a worktree that was never handed over, or whose removal was begun, and returns where it was; `None` where there is
/// none.
fn clear_half_made(repository: &Repository, subject: Subject<'_>) -> Result<Option<PathBuf>, ResolutionError> {
    let admin = open::admin_dir(repository, &worktree_name(subject.run, subject.id));
    let note = admin.join(NOTE);
    // A note that cannot be looked at may say that it is a person's.
    let is_handed_over = note.try_exists().map_err(|source| ResolutionError::Io { path: note, source })?;
    if !admin.is_dir() || is_handed_over {
        return Ok(None);
    }
    Ok(Some(open::remove_half_made(&admin)?))
}

/// Where a result is being settled; `None` where it is not, or not yet. One of our folders that a person removed is forgotten;
/// one that lost its tie to the repository (both were moved, its `.git` was removed) is tied again, as `git worktree repair` would.
///
/// # Errors
/// Those of the repository.
pub fn place_of(repository: &Repository, run: &RunId, id: &InstanceId) -> Result<Option<PathBuf>, ResolutionError> {
    let git = repository.handle()?;
    let admin = open::admin_dir(repository, &worktree_name(run, id));
    match git.find_worktree(&worktree_name(run, id)) {
        Ok(_) if !admin.join(NOTE).exists() => Ok(None),
        Ok(worktree) => match tied_place(repository, &admin, worktree.path())? {
            Some(at) => Ok(Some(at)),
            None if worktree.path().starts_with(own_folder(repository)) => {
                worktree.prune(None)?;
                Ok(None)
            }
            None => Err(ResolutionError::Away(worktree.path().to_owned())),
        },
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        // Half made, so that git does not take it for one.
        Err(_) if !admin.join(NOTE).exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Those of `instances` that are being settled, also in a folder that is away.
///
/// # Errors
/// Those of the repository.
pub fn open_among<'a>(
    repository: &Repository,
    run: &RunId,
    instances: impl IntoIterator<Item = &'a InstanceId>,
) -> Result<Vec<&'a InstanceId>, RepositoryError> {
    // Nearly always there is none, and a run may have a hundred thousand results.
    let known = known_worktrees(repository)?;
    let is_open = |id: &&InstanceId| {
        let name = worktree_name(run, id);
        known.contains(OsStr::new(&name)) && open::admin_dir(repository, &name).join(NOTE).exists()
    };
    Ok(instances.into_iter().filter(|_| !known.is_empty()).filter(is_open).collect())
}

/// The names that git knows linked worktrees by.
fn known_worktrees(repository: &Repository) -> Result<HashSet<OsString>, RepositoryError> {
    let above = repository.common_dir().join("worktrees");
    match fs::read_dir(&above) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.file_name()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(source) => Err(RepositoryError::Io { path: above, source }),
    }
}

/// Where worktrees are made for which a person names no place.
fn own_folder(repository: &Repository) -> PathBuf {
    repository.common_dir().join("swarm/resolve")
}

/// The folder of a worktree that the repository keeps at `told`: there, or among our own folders, if the repository came here with
/// them from somewhere else. `None` where there is neither.
fn tied_place(repository: &Repository, admin: &Path, told: &Path) -> Result<Option<PathBuf>, ResolutionError> {
    let beside = told.file_name().map(|name| own_folder(repository).join(name));
    for at in [Some(told), beside.as_deref()].into_iter().flatten().filter(|at| at.is_dir()) {
        let came_along = |to: &Path| at != told && to.file_name() == admin.file_name();
        match tied_to(at) {
            Some(to) if to == admin => return Ok(Some(at.to_owned())),
            Some(to) if !came_along(&to) => {}
            None if at.join(".git").symlink_metadata().is_ok() => {}
            Some(_) | None => {
                tie(admin, at)?;
                return Ok(Some(at.to_owned()));
            }
        }
    }
    // What else a person made of its `.git` is theirs to say.
    Ok(told.is_dir().then(|| told.to_owned()))
}

/// What the `.git` of a worktree says: the folder in which its repository keeps what it knows of it.
fn tied_to(at: &Path) -> Option<PathBuf> {
    let text = fs::read(at.join(".git")).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.strip_prefix(b"gitdir: ")?.trim_ascii_end())))
}

/// Ties a worktree to its repository. Source: gitrepository-layout(5), `worktrees/<id>/gitdir`; git-worktree(1), `repair`.
fn tie(admin: &Path, at: &Path) -> Result<(), ResolutionError> {
    let pointer = at.join(".git");
    for (path, words) in [
        (&pointer, [b"gitdir: ", admin.as_os_str().as_bytes(), b"\n"].concat()),
        (&admin.join("gitdir"), [pointer.as_os_str().as_bytes(), b"\n"].concat()),
    ] {
        fs::write(path, words).map_err(|source| ResolutionError::Io { path: path.clone(), source })?;
    }
    Ok(())
}
