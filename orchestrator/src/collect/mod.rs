//! What changed in a worktree becomes a tree. Comes in: a worktree whose whole process tree is dead. Goes out: a [`Change`],
//! or a [`Refusal`] that names what the worker may not do.
//!
//! What a worker left is hostile until shown otherwise. Nothing of it is executed or obeyed (its `.git`, hooks, attributes and
//! config are never read), no link is followed, only regular files are opened, every count is bounded. Two passes: the first
//! reads and judges and writes trees only; blobs enter the repository's object store when all is accepted.

/// Files that a task hands on beside its change.
pub mod artifacts;
/// Files that git stores through a filter.
mod filtered;
/// The commits that a worker made itself.
pub mod history;
/// Which untracked files are nobody's business.
pub mod ignore_rules;
/// What stays out of a change, path by path.
mod left_out;
/// What a `.gitmodules` may say.
pub mod modules;
/// Which new names may stand beside others.
mod names;
/// Where links may point, what may stand where something else is expected.
pub mod rules;
/// Files that a command of the plan runs.
pub mod run_by_plan;
/// Changed files that somebody's tools will execute.
pub mod self_running;
/// Files that git obeys, judged by their content.
mod steering;
/// The first pass.
mod walk;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use git2::{ObjectType, Odb, Oid};

use crate::base::BaseError;
use crate::fault;
use crate::merge::FoldError;
use crate::path_globs::{BadGlob, PathGlobs};
use crate::report::sanitize;
use crate::repository::{Repository, RepositoryError};
use crate::secrets::Secrets;
use crate::tree::{self, TreeError};
use crate::worktree::Worktree;

use self::walk::Hostile;

/// How often what is kept of a refused worktree is judged again without what was refused: more than there are rules.
const ROUNDS_MAX: usize = 16;
/// Out-of-scope paths that a refusal names.
const PATHS_NAMED_MAX: usize = 20;

/// Bounds on one worktree; what exceeds one is refused by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectLimits {
    /// Changed files.
    pub files: u64,
    /// Entries looked at, ignored folders not counted.
    pub entries: u64,
    /// Bytes of all changed files together.
    pub bytes: u64,
    /// Bytes of one file.
    pub blob_bytes: u64,
    /// Bytes of one path.
    pub path_bytes: usize,
    /// Bytes of the paths of all changed files together. They are held in memory a few times over; 200,000 of an ordinary repository
    /// have a third of the default.
    pub paths_bytes: u64,
    /// Folders above a file.
    pub depth: usize,
    /// Rules in all `.gitignore` files that are looked at; compiling them is what collecting spends most time on.
    pub ignore_rules: u64,
    /// Bytes of memory that the rules of one folder and of those above it may take, about: thirty files with a few rules each in one
    /// another, or one of a million letters. Of all tasks that are collected at once one takes more than an eighth of it, the others wait.
    pub ignore_bytes: u64,
    /// Milliseconds that compiling and matching these rules may take: a worker writes them, and some take seconds for one path.
    pub ignore_ms: u64,
}

impl Default for CollectLimits {
    fn default() -> Self {
        CollectLimits {
            files: 200_000,
            entries: 1_000_000,
            bytes: 2 << 30,
            blob_bytes: 256 << 20,
            // What the kernel takes in one piece, less the NUL at its end.
            path_bytes: 4095,
            paths_bytes: 32 << 20,
            depth: 128,
            ignore_rules: 50_000,
            ignore_bytes: 64 << 20,
            ignore_ms: 30_000,
        }
    }
}

/// On which terms a worktree is taken.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// How much of it.
    pub limits: CollectLimits,
    /// What no file may hold.
    pub secrets: Secrets,
}

impl Terms {
    /// The usual bounds, and what no file may hold.
    pub fn without(secrets: &Secrets) -> Self {
        Terms { limits: CollectLimits::default(), secrets: secrets.clone() }
    }
}

/// What a worker changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it started from.
    pub base_tree: Oid,
    /// What it made of it; equal to `base_tree` when nothing changed.
    pub tree: Oid,
    /// Sorted by path.
    pub paths: Vec<ChangedPath>,
    /// What a person should know: entries that were left out.
    pub notes: Vec<String>,
    /// Something that the worker made and that stays out because an ignore rule covers it; a folder with its slash.
    pub ignored: Option<Vec<u8>>,
}

impl Change {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tree == self.base_tree
    }
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    /// From the root; any bytes.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content, mode or kind is another.
    Modified,
    /// It is gone.
    Deleted,
}

/// Why a worktree is not taken. The attempt ends as a violation and is not retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Paths that the task's `writes` do not cover.
    OutOfScope {
        /// Sorted; at most 20.
        paths: Vec<Vec<u8>>,
        /// How many there are in all.
        count: usize,
    },
    /// An entry that no repository should hold.
    Hostile {
        /// From the root.
        path: Vec<u8>,
        /// For people.
        reason: String,
    },
    /// More than a limit allows.
    Limit {
        /// Which one, as [`CollectLimits`] calls it.
        limit: &'static str,
        /// Its value.
        max: u64,
        /// Where it was exceeded.
        path: Vec<u8>,
    },
}

/// What collecting gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collected {
    /// The change, its blobs and trees in the repository's object store.
    Change(Change),
    /// Nothing was taken.
    Refused(Refusal),
}

/// Why collecting failed though the worktree may be fine: an `infra` end, worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The object store: usually a full disk.
    #[error("collect: {0}")]
    Tree(#[from] TreeError),
    /// The attributes of a tree.
    #[error("collect: {0}")]
    Attributes(#[from] FoldError),
    /// A prepared layer.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A pattern of `writes` or `artifacts`.
    #[error(transparent)]
    BadGlob(#[from] BadGlob),
    /// The file system.
    #[error("collect {}: {source}", String::from_utf8_lossy(path).escape_debug())]
    Io {
        /// From the worktree's root.
        path: Vec<u8>,
        /// Why.
        source: std::io::Error,
    },
}

/// Takes what changed in a worktree. `writes` are the task's globs: `None` allows all, an empty list nothing.
///
/// # Errors
/// All of [`CollectError`]; refusals are values.
pub fn collect(
    repository: &Repository,
    worktree: &Worktree,
    writes: Option<&[String]>,
    terms: &Terms,
) -> Result<Collected, CollectError> {
    let scope = writes.map(PathGlobs::new).transpose()?;
    let git = repository.handle()?;
    let odb = git.odb().map_err(TreeError::from)?;
    let found = match walk::walk(&odb, repository.exclude_files()?, worktree, terms, Hostile::RefusesAll) {
        Ok(found) => found,
        Err(walk::Stop::Refused(refusal)) => return Ok(Collected::Refused(refusal)),
        Err(walk::Stop::Failed(error)) => return Err(error),
    };
    fault::point().map_err(|source| CollectError::Io { path: b".".to_vec(), source })?;
    match judged((&git, &odb), worktree, scope.as_ref(), &found, (1, terms.limits.ignore_ms))? {
        Ok(tree) => Ok(Collected::Change(stored(&odb, worktree, found, tree)?)),
        Err(mut refusals) => Ok(Collected::Refused(refusals.remove(0))),
    }
}

/// What can be kept of a worktree that is refused: all but the entries that no repository should hold, which the notes name.
/// For people to look at; nobody may merge it unasked. `None` when so much is wrong that nothing is.
///
/// # Errors
/// All of [`CollectError`].
pub fn salvage(repository: &Repository, worktree: &Worktree, terms: &Terms) -> Result<Option<Change>, CollectError> {
    let git = repository.handle()?;
    let odb = git.odb().map_err(TreeError::from)?;
    let mut found = match walk::walk(&odb, repository.exclude_files()?, worktree, terms, Hostile::IsLeftOut) {
        Ok(found) => found,
        Err(walk::Stop::Refused(_)) => return Ok(None),
        Err(walk::Stop::Failed(error)) => return Err(error),
    };
    let mut untold = 0;
    for _ in 0..ROUNDS_MAX {
        let refusals = match judged((&git, &odb), worktree, None, &found, (usize::MAX, terms.limits.ignore_ms))? {
            Ok(tree) => {
                found.notes.extend((untold > 0).then(|| format!("left out for such reasons: {untold} more")));
                return stored(&odb, worktree, found, tree).map(Some);
            }
            Err(refusals) => refusals,
        };
        let before = found.edits.len();
        for refusal in refusals {
            let (Refusal::Hostile { path, .. } | Refusal::Limit { path, .. }) = &refusal else { return Ok(None) };
            if matches!(refusal, Refusal::Limit { limit: filtered::MATCHING, .. }) {
                return Ok(None);
            }
            found.leave_out(path);
            match found.notes.len() < walk::NOTES_MAX {
                true => found.notes.push(walk::left_out(&refusal)),
                false => untold += 1,
            }
        }
        if found.edits.len() == before {
            return Ok(None);
        }
        let edits = &found.edits;
        found.contents.retain(|content| edits.contains_key(&content.path));
    }
    Ok(None)
}

fn is_at_or_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The tree that was found, when all of it may stand; else what breaks the first rule that is broken: at least one refusal, and at most
/// `count_max`.
fn judged(
    (git, odb): (&git2::Repository, &Odb<'_>),
    worktree: &Worktree,
    scope: Option<&PathGlobs>,
    found: &walk::Found,
    (count_max, ms_max): (usize, u64),
) -> Result<Result<Judged, Vec<Refusal>>, CollectError> {
    let base_tree = worktree.layers().tree;
    let refusals = steering(odb, worktree, &found.contents, count_max)?;
    if !refusals.is_empty() {
        return Ok(Err(refusals));
    }
    let tree = match tree::edit(odb, Some(base_tree), &found.edits)? {
        Some(tree) => tree,
        None => tree::write(odb, Vec::new())?,
    };
    let differences = tree::diff(odb, Some(base_tree), Some(tree))?;
    let outside = out_of_scope(scope, &differences).into_iter();
    let in_the_way = rules::in_the_way(&worktree.layers().caches, &differences);
    let mut refusals: Vec<Refusal> = outside.chain(in_the_way).take(count_max).collect();
    if refusals.is_empty() {
        refusals = rules::breaches(odb, base_tree, tree, &differences, count_max)?;
    }
    if !refusals.is_empty() {
        return Ok(Err(refusals));
    }
    let filtered =
        filtered::filtered((git, odb), worktree, &found.contents, (tree, &differences), (count_max, ms_max))?;
    Ok(match filtered.refusals.is_empty() {
        true => Ok(Judged { tree, differences, note: filtered.note }),
        false => Err(filtered.refusals),
    })
}

/// A tree that may stand.
struct Judged {
    tree: Oid,
    /// From the tree that the worker started from.
    differences: Vec<tree::Difference>,
    /// What a person should know of files with a filter.
    note: Option<String>,
}

/// Writes what was judged.
fn stored(odb: &Odb<'_>, worktree: &Worktree, found: walk::Found, judged: Judged) -> Result<Change, CollectError> {
    let Judged { tree, differences, note } = judged;
    store_blobs(odb, worktree, found.contents)?;
    let (mut notes, ignored) = (found.notes, found.ignored);
    notes.extend(gone_submodules(&differences));
    notes.extend(note);
    let paths = differences.into_iter().map(|difference| ChangedPath {
        kind: match (difference.old, difference.new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Modified,
        },
        path: difference.path,
    });
    Ok(Change { base_tree: worktree.layers().tree, tree, paths: paths.collect(), notes, ignored })
}

/// A submodule that is gone is a change that no file shows.
fn gone_submodules(differences: &[tree::Difference]) -> impl Iterator<Item = String> {
    let gone = differences.iter().filter(|one| {
        let was = one.old.is_some_and(|entry| entry.mode == tree::GITLINK);
        was && one.new.is_none_or(|entry| entry.mode != tree::GITLINK)
    });
    gone.take(walk::NOTES_MAX).map(|one| match one.new {
        None => format!("the submodule {} is gone from the tree", display_path(&one.path)),
        Some(_) => format!("the submodule {} became a file", display_path(&one.path)),
    })
}

/// Why a file may not be kept whose bytes are these, and were `before`: whoever clones the repository would read a secret. What
/// stood there already is none.
fn tells(
    secrets: &Secrets,
    path: &[u8],
    bytes: &[u8],
    before: impl FnOnce() -> Result<Vec<u8>, TreeError>,
) -> Result<Option<String>, TreeError> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let told = match secrets.found_in(bytes) {
        Some(_) => secrets.new_in(bytes, &before()?),
        None => secrets.found_in(path),
    };
    Ok(told.map(|name| format!("it holds the value of the secret `{name}`; let it name the variable instead")))
}

/// Whether an entry of an upper layer says that what lies below it is gone. Source: the kernel's
/// `Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque directories".
pub fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Renders a path for people: what acts on a screen or cannot be seen is spelled out, and so are foreign bytes.
pub fn display_path(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) => sanitize::name(text),
        Err(_) => path.escape_ascii().to_string(),
    }
}

/// Whether a path holds what nobody sees, or what shows it in another order than it has. Git and file systems take such names;
/// people take them for others.
pub fn has_unseen_characters(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|text| text.chars().any(sanitize::is_deceptive))
}

fn out_of_scope(scope: Option<&PathGlobs>, differences: &[tree::Difference]) -> Option<Refusal> {
    let scope = scope?;
    let outside = || differences.iter().map(|difference| &difference.path).filter(|path| !scope.matches(path));
    let count = outside().count();
    (count > 0).then(|| Refusal::OutOfScope { paths: outside().take(PATHS_NAMED_MAX).cloned().collect(), count })
}

/// Judges the changed files that git obeys when somebody clones the result. Harmless ones are stored at once: should the trees
/// be refused for another reason, git-fsck looks for these files even in trees that nobody reaches.
fn steering(
    odb: &Odb<'_>,
    worktree: &Worktree,
    contents: &[walk::Content],
    count_max: usize,
) -> Result<Vec<Refusal>, CollectError> {
    let mut refusals = Vec::new();
    for content in contents.iter().filter(|content| steering::is_judged(&content.path)) {
        let bytes = match &content.bytes {
            Some(bytes) => bytes.clone(),
            None => read_again(&worktree.written_dir(), &content.path)?,
        };
        match steering::check(&content.path, &bytes) {
            Ok(()) => drop(odb.write(ObjectType::Blob, &bytes).map_err(TreeError::from)?),
            Err(reason) => {
                refusals.push(Refusal::Hostile { path: content.path.clone(), reason: reason.to_owned() });
                if refusals.len() == count_max {
                    break;
                }
            }
        }
    }
    Ok(refusals)
}

/// The content of a file that the first pass has judged and not kept.
fn read_again(root: &Path, path: &[u8]) -> Result<Vec<u8>, CollectError> {
    let io = |source| CollectError::Io { path: path.to_vec(), source };
    let root = File::open(root).map_err(io)?;
    let mut bytes = Vec::new();
    let file = walk::open_again(&root, path).map_err(io)?;
    File::from(file).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// The second pass: what was judged is written. Contents that were too many to keep are read again; nobody can have changed
/// them since, and if the disk did, the id tells.
fn store_blobs(odb: &Odb<'_>, worktree: &Worktree, contents: Vec<walk::Content>) -> Result<(), CollectError> {
    let root = worktree.written_dir();
    for walk::Content { path, id, bytes } in contents {
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => read_again(&root, &path)?,
        };
        let written = odb.write(ObjectType::Blob, &bytes).map_err(TreeError::from)?;
        if written != id {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "its content changed while it was read");
            return Err(CollectError::Io { path, source });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
