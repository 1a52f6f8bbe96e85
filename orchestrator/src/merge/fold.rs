//! One result onto a tip. The walk descends only where base, ours and theirs all differ and writes only the trees that
//! change, so its cost follows the folders that a result touches, not the size of the repository.
//!
//! The walk answers only what cannot depend on renames. Why that is safe: git pairs a deleted path with an added one
//! *within one side*, and such a pair changes the merge only if the other side touched one of the two paths, or added
//! something to a folder that is gone. So wherever each path was touched by one side only, or was there in all three
//! versions, renames cannot matter. At the first place where they could, and at the first conflict, the walk stops and
//! [`super::touched`] decides from all touched paths at once.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use git2::{Odb, Oid, Repository};

use super::attributes::{Attributes, Way};
use super::file::{self, Merged};
use super::rules::FileRules;
use super::touched;
use crate::event::ChangeSummary;
use crate::path_globs::PathGlobs;
use crate::tree::{self, DEPTH_MAX, DIRECTORY, Entry, Listing, TreeError};

/// A merged tree, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// Both changes are in `tree`, which is written.
    Clean {
        /// The merged tree.
        tree: Oid,
    },
    /// They do not fit together; nothing that could be seen was written.
    Conflict {
        /// Where, sorted by path; never empty.
        paths: Vec<ConflictPath>,
    },
}

/// One place where two changes do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConflictPath {
    /// From the top of the tree, raw bytes.
    pub path: Vec<u8>,
    /// In which way.
    pub kind: ConflictKind,
    /// Where it was moved to; for [`ConflictKind::MovedOutOfScope`].
    pub moved_to: Option<Vec<u8>>,
}

/// The ways in which two changes do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictKind {
    /// Both changed the same lines, or lines next to each other.
    Content,
    /// Both changed a binary file, or one that its tree says is merged as a whole (`-merge`).
    Binary,
    /// Both changed a file larger than [`file::TEXT_BYTES_MAX`].
    TooLarge,
    /// Both changed where a link points.
    Symlink,
    /// Both changed which commit a submodule is at.
    Gitlink,
    /// One made a link or submodule of what the other changed.
    TypeChange,
    /// Both added it, differently.
    AddAdd,
    /// One deleted or moved what the other changed.
    ModifyDelete,
    /// One needs a folder where the other has a file.
    FolderFile,
    /// Both deleted it, and at least one side may have moved it.
    RenameDelete,
    /// One deleted a folder that it may have moved, and the other added something to it.
    FolderRename,
    /// One may have moved what the other changed, but where to is not certain.
    RenameUncertain,
    /// Ours moved what theirs changed to a place where theirs may change nothing.
    MovedOutOfScope,
}

impl ConflictKind {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ConflictKind::Content => "content",
            ConflictKind::Binary => "binary",
            ConflictKind::TooLarge => "too-large",
            ConflictKind::Symlink => "symlink",
            ConflictKind::Gitlink => "submodule",
            ConflictKind::TypeChange => "type-change",
            ConflictKind::AddAdd => "add/add",
            ConflictKind::ModifyDelete => "modify/delete",
            ConflictKind::FolderFile => "folder/file",
            ConflictKind::RenameDelete => "rename/delete",
            ConflictKind::FolderRename => "folder-rename",
            ConflictKind::RenameUncertain => "rename-uncertain",
            ConflictKind::MovedOutOfScope => "moved-out-of-writes",
        }
    }
}

impl fmt::Display for ConflictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a merge could not even be tried.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// An object that the merge needs is not in the repository (a partial or damaged clone): fetch it.
    #[error("the repository lacks object {id}")]
    Missing {
        /// The object.
        id: Oid,
    },
    /// A tree cannot be read or written: a damaged repository or a full disk.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The object store cannot be read or written: disk full, permissions.
    #[error("use the object store: {0}")]
    Store(#[from] git2::Error),
}

impl FoldError {
    /// The error of reading object `id`.
    pub(super) fn of_read(id: Oid, error: git2::Error) -> FoldError {
        if error.code() == git2::ErrorCode::NotFound { FoldError::Missing { id } } else { FoldError::Store(error) }
    }
}

/// A merge by the rules of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What came of it.
    pub folded: Folded,
    /// Files that a command makes again, because both sides touched them, sorted; they are as in ours meanwhile.
    pub again: Vec<Vec<u8>>,
}

/// Merges the change from tree `base` to tree `theirs`, which may touch anything, into tree `ours`, as git does.
///
/// # Errors
/// [`FoldError`] when objects cannot be read or written. A conflict is a value.
pub fn fold(repo: &Repository, base: Oid, ours: Oid, theirs: Oid) -> Result<Folded, FoldError> {
    let step = Step { base, result: theirs, writes: None };
    Ok(fold_by(repo, &FileRules::default(), ours, &step)?.folded)
}

/// Merges a change into tree `tip`, where some files have rules of their own.
///
/// # Errors
/// As [`fold`].
pub fn fold_by(repo: &Repository, rules: &FileRules, tip: Oid, step: &Step<'_>) -> Result<Outcome, FoldError> {
    let odb = repo.odb()?;
    let clean = |tree| Ok(Outcome { folded: Folded::Clean { tree }, again: vec![] });
    let it = Walk { odb: &odb, rules, attributes: Attributes::of(tip) };
    match walk(&it, Some(step.base), tip, step.result, &Folder::default()) {
        Ok(Some(tree)) => clean(tree),
        Ok(None) => clean(tree::write(&odb, Listing::new())?),
        Err(Stop::Doubt) => touched::merge(&odb, rules, tip, step),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// A change that is merged: from tree `base` to tree `result`, which touches nothing but what `writes` cover.
///
/// Where what it touched was moved meanwhile, git would carry the change along. It goes where `writes` cover the new place,
/// too; elsewhere it is a conflict, for nobody let this work change what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// The tree that the work started from.
    pub base: Oid,
    /// The tree that it left.
    pub result: Oid,
    /// Globs from the top of the tree; `None` is anything.
    pub writes: Option<&'a [String]>,
}

impl Step<'_> {
    /// Whether it may change a path. A glob that is none covers nothing.
    pub(super) fn may_write(&self, path: &[u8]) -> bool {
        self.writes.is_none_or(|globs| PathGlobs::new(globs).is_ok_and(|globs| globs.matches(path)))
    }
}

impl<'a> TryFrom<&'a ChangeSummary> for Step<'a> {
    type Error = git2::Error;

    /// The change that an attempt left.
    fn try_from(change: &'a ChangeSummary) -> Result<Self, git2::Error> {
        let (base, result) = (Oid::from_str(&change.base_tree)?, Oid::from_str(&change.tree)?);
        Ok(Step { base, result, writes: change.writes.as_deref() })
    }
}

/// The result of [`fold_all`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoldedAll {
    /// All changes are in `tree`.
    Clean {
        /// The merged tree.
        tree: Oid,
        /// As in [`Outcome`], of all merges together.
        again: Vec<Vec<u8>>,
    },
    /// A change does not fit onto those before it.
    Conflict {
        /// The position of that change.
        at: usize,
        /// Where, sorted by path; never empty.
        paths: Vec<ConflictPath>,
    },
}

/// Merges several changes onto `tip`, one after the other: the tree that a task starts from is the run's base with the
/// changes of all its needs in merge order.
///
/// # Errors
/// As [`fold`].
pub fn fold_all(repo: &Repository, rules: &FileRules, tip: Oid, steps: &[Step<'_>]) -> Result<FoldedAll, FoldError> {
    let mut tree = tip;
    let mut all_again = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        let Outcome { folded, again } = fold_by(repo, rules, tree, step)?;
        all_again.extend(again);
        match folded {
            Folded::Clean { tree: folded } => tree = folded,
            Folded::Conflict { paths } => return Ok(FoldedAll::Conflict { at, paths }),
        }
    }
    Ok(FoldedAll::Clean { tree, again: all_again.into_iter().collect() })
}

/// Why the walk stopped.
enum Stop {
    /// Renames could matter, or there is a conflict.
    Doubt,
    /// It could not go on.
    Failed(FoldError),
}

impl<E: Into<FoldError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// What the walk reads from and asks.
struct Walk<'a> {
    odb: &'a Odb<'a>,
    rules: &'a FileRules,
    /// Those of ours.
    attributes: Attributes,
}

/// Where the walk is; by default at the top.
#[derive(Debug, Clone, Copy, Default)]
struct Folder<'a> {
    /// Folders above.
    depth: usize,
    /// The one above, and the name there.
    above: Option<(&'a Folder<'a>, &'a [u8])>,
}

impl Folder<'_> {
    /// The path of what has that name here, from the top.
    fn path(&self, name: &[u8]) -> Vec<u8> {
        let Some((above, here)) = self.above else { return name.to_vec() };
        [&above.path(here), b"/".as_slice(), name].concat()
    }
}

/// Merges three versions of a folder; `None` when nothing is left in it.
fn walk(it: &Walk<'_>, base: Option<Oid>, ours: Oid, theirs: Oid, at: &Folder<'_>) -> Result<Option<Oid>, Stop> {
    let odb = it.odb;
    if base == Some(theirs) {
        return Ok(Some(ours));
    }
    if base == Some(ours) {
        return Ok(Some(theirs));
    }
    if at.depth > DEPTH_MAX {
        return Err(TreeError::TooDeep.into());
    }
    let before = base.map(|base| tree::list(odb, base)).transpose()?.unwrap_or_default();
    let after = tree::list(odb, theirs)?;
    let tip = tree::list(odb, ours)?;
    let mut edits = HashMap::new();
    // Whatever both sides touched is among what theirs touched; all else stays as ours has it.
    for (name, [base, theirs]) in tree::changes(&before, &after) {
        let ours = tree::get(&tip, name);
        let merged = walk_name(it, [base, ours, theirs], (at, name))?;
        if merged != ours {
            edits.insert(name.to_vec(), merged);
        }
    }
    if edits.is_empty() { Ok(Some(ours)) } else { Ok(tree::replace(odb, tip, edits)?) }
}

/// Merges what a name stands for in base, ours and theirs, where base and theirs differ.
fn walk_name(
    it: &Walk<'_>,
    versions: [Option<Entry>; 3],
    (at, name): (&Folder<'_>, &[u8]),
) -> Result<Option<Entry>, Stop> {
    let odb = it.odb;
    let [base, ours, theirs] = versions;
    if ours == base {
        return Ok(theirs);
    }
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return Err(Stop::Doubt) };
    match base {
        // Whether it is, or holds, one of the files with rules of their own, the path tells, which the walk does not know.
        Some(base) if !it.rules.is_empty() && (ours == theirs || !base.is_tree()) => Err(Stop::Doubt),
        // The same new folder on both sides: a path that both deleted may be a rename in one of them.
        Some(base) if ours == theirs && base.is_tree() && ours.is_tree() => {
            if same_paths(odb, base.id, ours.id, at.depth)? { Ok(Some(ours)) } else { Err(Stop::Doubt) }
        }
        base if ours.is_tree() && theirs.is_tree() && base.is_none_or(Entry::is_tree) => {
            let below = Folder { depth: at.depth + 1, above: Some((at, name)) };
            let folder = walk(it, base.map(|entry| entry.id), ours.id, theirs.id, &below)?;
            Ok(folder.map(|id| Entry { mode: DIRECTORY, id }))
        }
        Some(base) if ![base, ours, theirs].into_iter().any(Entry::is_tree) => {
            let is_by_lines = file::is_by_lines(base, ours, theirs);
            if is_by_lines && it.attributes.way(odb, &at.path(name))? != Way::Lines {
                return Err(Stop::Doubt);
            }
            match file::merge(odb, base, ours, theirs)? {
                Merged::Clean(entry) => Ok(Some(entry)),
                Merged::Conflict(_) => Err(Stop::Doubt),
            }
        }
        _ => Err(Stop::Doubt),
    }
}

/// Whether two trees hold the same paths, whatever is in the files.
fn same_paths(odb: &Odb<'_>, a: Oid, b: Oid, depth: usize) -> Result<bool, TreeError> {
    if depth > DEPTH_MAX {
        return Err(TreeError::TooDeep);
    }
    let (a, b) = (tree::list(odb, a)?, tree::list(odb, b)?);
    for changed in tree::changes(&a, &b).into_values() {
        let same = match changed {
            [Some(a), Some(b)] if a.is_tree() && b.is_tree() => same_paths(odb, a.id, b.id, depth + 1)?,
            [Some(a), Some(b)] => !a.is_tree() && !b.is_tree(),
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
