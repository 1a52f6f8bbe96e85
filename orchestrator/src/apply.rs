//! The target branch into the user's checkout. The only place that writes into a checkout, so it refuses early and moves
//! last: what would be overwritten is found out before anything is touched, libgit2's own safe checkout looks again, and the
//! branch moves by compare-and-swap after the files and the index are there. What an application that dies in between has
//! written, the next one takes back before it begins ([`undo`]); one that fails takes it back itself.
//!
//! Where both have gone on, their merge is a tree that nobody has seen yet: it is judged as the merge train judges its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::build::CheckoutBuilder;
use git2::{IndexEntry, Oid, RepositoryState};

use crate::collect::display_path;
use crate::collect::rules::judge_together;
use crate::commit::{CommitSpec, Signing, write_commit};
use crate::executor::settle::refused;
use crate::fault;
use crate::journal::LockError;
use crate::merge::{FoldError, Folded, fold};
use crate::repository::{Brought, Identity, Repository, RepositoryError, Swap};
use crate::tree::TreeError;

/// Who may write into a checkout.
mod claim;
/// What lies where files belong.
mod in_the_way;
/// Files that have a second name elsewhere.
mod links;
/// How far landed changes may reach.
mod scopes;
/// What was half written is taken back.
mod undo;

pub use claim::unlock_index;
use claim::{Claim, HeldIndex, Note};
pub use in_the_way::Obstacle;
use in_the_way::refuse_overwriting;
pub use scopes::Scopes;
use scopes::carried_too_far;

/// Paths that a refusal names.
const PATHS_MAX: usize = 20;

/// What an application did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The checkout has it all already.
    UpToDate,
    /// The checkout's branch moved forward to the target.
    FastForward {
        /// Where it is now.
        to: Oid,
    },
    /// A merge commit joins both.
    Merged {
        /// The merge commit.
        commit: Oid,
    },
}

/// Why nothing was applied. Nothing has changed then, except after [`ApplyError::HalfWay`].
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is no checkout to apply to.
    #[error("apply to a bare repository: it has no checkout")]
    Bare,
    /// A merge, rebase, cherry-pick … is under way.
    #[error("apply while a {0} is under way")]
    UnderWay(&'static str),
    /// The index holds conflicts, although nothing is under way: what `git stash pop` or `git merge --squash` left.
    #[error("apply: {} in conflict here, as `git stash pop` leaves what it could not merge", paths.join(", "))]
    Unmerged {
        /// Rendered for people; at least one, at most 20.
        paths: Vec<String>,
    },
    /// Files that the branch changes are not checked out, and only git itself changes those where they are.
    #[error("apply to a sparse checkout without {}", paths.join(", "))]
    Sparse {
        /// Rendered for people; at least one, at most 20.
        paths: Vec<String>,
    },
    /// Files that git writes through a filter or in another encoding, which only git itself does.
    #[error("apply to {}: git writes them through a filter or in another encoding", paths.join(", "))]
    Filtered {
        /// Rendered for people; at least one, at most 20.
        paths: Vec<String>,
    },
    /// Links that stand in this checkout as files (`core.symlinks = false`), which only git itself replaces.
    #[error("apply to {}: core.symlinks is false here, and git keeps a file in the place of a symbolic link", paths.join(", "))]
    LinksAsFiles {
        /// Rendered for people; at least one, at most 20.
        paths: Vec<String>,
    },
    /// Local changes are in the way.
    #[error("apply: local changes to {} would be overwritten", paths.join(", "))]
    LocalChanges {
        /// Rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// Files that the branch changes were moved or removed here, which is staged and not committed.
    #[error("apply: {} moved or removed here, which is not committed", paths.join(", "))]
    Moved {
        /// Rendered for people; at least one, at most 20.
        paths: Vec<String>,
    },
    /// Files that the branch changes are changed here, and git was told not to look (assume-unchanged, skip-worktree).
    #[error("apply: local changes in {}, which git was told not to look at", paths.join(", "))]
    HiddenChanges {
        /// Rendered for people; at least one, at most 20.
        paths: Vec<String>,
    },
    /// Something that no change of anybody's is lies where files belong.
    #[error("apply: {} in the way", named_obstacles(obstacles))]
    InTheWay {
        /// At least one, at most 20.
        obstacles: Vec<Obstacle>,
    },
    /// The branches changed the same places.
    #[error("merge: both sides changed {}", paths.join(", "))]
    Conflicts {
        /// Rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// They do not go back to one commit: to none, or to several, of which none comes from another.
    #[error("merge: the two go back to {} commits in common", if *count == 0 { "no".to_owned() } else { count.to_string() })]
    Bases {
        /// How many.
        count: usize,
    },
    /// The merge is a tree that no worker may leave.
    #[error("merge: with what the checkout has, {0}")]
    Hostile(String),
    /// The checkout moved what a task changed to where that task may change nothing.
    #[error("merge: {task} changed {from}, which is {to} here, where its `writes` allow it no change")]
    OutOfScope {
        /// The task's instance, or the commit of its change.
        task: String,
        /// Rendered for people.
        from: String,
        /// Rendered for people.
        to: String,
    },
    /// Objects could not be read.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Another application works there.
    #[error("apply: {0}")]
    Busy(#[from] LockError),
    /// A git works there, or died there.
    #[error("apply while another git works in this checkout: {} exists", .0.display())]
    IndexLocked(PathBuf),
    /// What stands where git keeps the index of this checkout is none.
    #[error("apply: {}, where git keeps what is staged in this checkout, is damaged", .0.display())]
    IndexDamaged(PathBuf),
    /// What an earlier application left cannot be read.
    #[error("read what an earlier apply was doing: {} is damaged or of another version", .0.display())]
    Note(PathBuf),
    /// It failed, and what it had written could not be taken back, either.
    #[error("{source}; some files are written already, and to take them back failed: {undo}")]
    HalfWay {
        /// Why it failed.
        source: Box<ApplyError>,
        /// Why the rest failed.
        undo: Box<ApplyError>,
    },
    /// The file system.
    #[error("use {}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody moved the checkout's branch meanwhile.
    #[error("move {branch}: somebody else moved it meanwhile")]
    Raced {
        /// The checkout's branch.
        branch: String,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<git2::Error> for ApplyError {
    fn from(error: git2::Error) -> Self {
        ApplyError::Repository(error.into())
    }
}

impl From<TreeError> for ApplyError {
    fn from(error: TreeError) -> Self {
        ApplyError::Fold(error.into())
    }
}

/// What is merged into a checkout.
#[derive(Debug, Clone, Copy)]
pub struct Merging<'a> {
    /// The commit.
    pub target: Oid,
    /// The branch that it is the tip of, for the merge commit.
    pub name: &'a str,
    /// How far the changes on it may reach.
    pub scopes: &'a Scopes,
}

/// Whether an application that died had left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenBack {
    /// Nothing that is in the checkout still: it was not begun, it was complete, or a person has gone on from it.
    Nothing,
    /// The checkout is as it was before, but for what a person did since.
    Something,
}

/// Takes back what an application that did not come to its end wrote into the checkout, whatever became of the branch that it
/// was about.
///
/// # Errors
/// [`ApplyError::UnderWay`], [`ApplyError::Busy`], and those of taking back.
pub fn put_in_order(repository: &Repository, now_ms: u64) -> Result<TakenBack, ApplyError> {
    if !claim::is_noted(repository) {
        return Ok(TakenBack::Nothing);
    }
    if let Some(work) = under_way(repository.handle()?.state()) {
        return Err(ApplyError::UnderWay(work));
    }
    let claim = Claim::take(repository, now_ms)?;
    match claim.note()? {
        Some(note) => undo::take_back(&claim, &note),
        None => Ok(TakenBack::Nothing),
    }
}

/// Merges a branch into the checkout: a fast-forward where possible, else a merge commit by `identity` at `date_s` (seconds
/// since the Unix epoch). What an earlier application left that did not come to its end is put in order first.
///
/// # Errors
/// All of [`ApplyError`].
pub fn apply(
    repository: &Repository,
    merging: Merging<'_>,
    identity: &Identity,
    date_s: i64,
) -> Result<Applied, ApplyError> {
    let git = repository.handle()?;
    if git.is_bare() {
        return Err(ApplyError::Bare);
    }
    if let Some(work) = under_way(git.state()) {
        return Err(ApplyError::UnderWay(work));
    }
    let claim = Claim::take(repository, date_s.unsigned_abs().saturating_mul(1000))?;
    if let Some(note) = claim.note()? {
        undo::take_back(&claim, &note)?;
    }
    let held = claim.hold_index()?;
    match merge_into(repository, &claim, &held, merging, (identity, date_s)) {
        Err(source) => {
            drop(held);
            // Nothing was written where nothing is noted.
            let undone =
                claim.note().and_then(|note| note.map_or(Ok(()), |note| undo::take_back(&claim, &note).map(drop)));
            Err(match undone {
                Ok(()) => source,
                Err(undo) => ApplyError::HalfWay { source: source.into(), undo: undo.into() },
            })
        }
        applied => applied,
    }
}

/// Merges, with nobody else in the checkout. What it was doing when it fails, the claim's note tells.
fn merge_into(
    repository: &Repository,
    claim: &Claim<'_>,
    held: &HeldIndex<'_>,
    Merging { target, name, scopes }: Merging<'_>,
    (identity, date_s): (&Identity, i64),
) -> Result<Applied, ApplyError> {
    let (git, _index) = held.git()?;
    let head = repository.resolve("HEAD")?;
    if head == target || git.graph_descendant_of(head, target)? {
        return Ok(Applied::UpToDate);
    }
    let forward = git.graph_descendant_of(target, head)?;
    let tree = if forward { repository.tree_of(target)? } else { judged_tree(&git, head, target, scopes)? };
    // libgit2 would write out what is there, and go round for ever in an object that ends too early.
    let brought = repository.bring_tree_to_disk(repository.tree_of(head)?, tree)?;
    refuse_overwriting(&git, repository.tree_of(head)?, tree)?;
    if let Brought::Missing(missing) = brought {
        return Err(RepositoryError::Lost(missing).into());
    }
    let commit = if forward {
        target
    } else {
        let signing = Signing { identity: identity.clone(), date_seconds: date_s };
        let subject = format!("Merge branch '{name}'");
        let spec = CommitSpec { parents: &[head, target], tree, subject: &subject, trailers: &[] };
        write_commit(repository, &signing, &spec)?
    };
    let note = Note::new(repository.tree_of(head)?, tree, repository.head_branch()?);
    claim.keep(commit)?;
    // The note tells of what is on the disk: what is in a checkout that says so can be made again, or taken back.
    repository.make_durable()?;
    claim.write(&note)?;
    links::part(&git, (repository.tree_of(head)?, tree), &claim.folder().join("parted"))?;
    // A second look by libgit2 itself, at the moment of writing.
    let mut safe = CheckoutBuilder::new();
    safe.safe().overwrite_ignored(false);
    count_files(&mut safe);
    written(&git, git.checkout_tree(git.find_tree(tree)?.as_object(), Some(&mut safe)))?;
    held.publish()?;
    let tell = |moving| claim.write(&note.moving(moving)).map_err(std::io::Error::other);
    move_head(repository, (head, commit), name, &tell)?;
    claim.forget()?;
    Ok(if forward { Applied::FastForward { to: commit } } else { Applied::Merged { commit } })
}

/// The merge of two commits, unless it is one that nobody let the changes on `theirs` come to.
fn judged_tree(git: &git2::Repository, ours: Oid, theirs: Oid, scopes: &Scopes) -> Result<Oid, ApplyError> {
    if let Some(carried) = carried_too_far(git, ours, theirs, scopes)? {
        return Err(carried);
    }
    let merged = merged_tree(git, ours, theirs);
    let tree = match &merged {
        Ok(tree) => *tree,
        // Who settles them has all the rest in the checkout.
        Err(ApplyError::Conflicts { .. }) => tree_beside_conflicts(git, ours, theirs)?,
        Err(_) => return merged,
    };
    let before = git.find_commit(ours)?.tree_id();
    match judge_together(&git.odb()?, before, tree)? {
        Some(refusal) => Err(ApplyError::Hostile(format!("it {}", refused(&refusal)))),
        None => merged,
    }
}

/// What is beside the conflicts of a merge, which are as in `ours`: to be judged, for nobody to have.
fn tree_beside_conflicts(git: &git2::Repository, ours: Oid, theirs: Oid) -> Result<Oid, ApplyError> {
    let mut index = git.merge_commits(&git.find_commit(ours)?, &git.find_commit(theirs)?, None)?;
    let conflicts = if index.has_conflicts() { index.conflicts()?.collect::<Result<Vec<_>, _>>()? } else { vec![] };
    for conflict in conflicts {
        for side in [&conflict.our, &conflict.their, &conflict.ancestor].into_iter().flatten() {
            index.remove_path(Path::new(OsStr::from_bytes(&side.path)))?;
        }
        if let Some(ours) = conflict.our {
            index.add(&IndexEntry { flags: 0, flags_extended: 0, ..ours })?;
        }
    }
    Ok(index.write_tree_to(git)?)
}

/// The merged tree, by the same merge that lands results: libgit2's own loses what stands where the other side has a folder.
fn merged_tree(git: &git2::Repository, ours: Oid, theirs: Oid) -> Result<Oid, ApplyError> {
    let bases = match git.merge_bases(ours, theirs) {
        Ok(bases) => bases.to_vec(),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    // Of several, git merges the bases first.
    let [base] = bases[..] else { return Err(ApplyError::Bases { count: bases.len() }) };
    let [base, ours, theirs] =
        [base, ours, theirs].map(|commit| git.find_commit(commit).map(|commit| commit.tree_id()));
    match fold(git, base?, ours?, theirs?)? {
        Folded::Clean { tree } => Ok(tree),
        Folded::Conflict { paths } => {
            let paths: BTreeSet<String> = paths.iter().map(|conflict| display_path(&conflict.path)).collect();
            Err(ApplyError::Conflicts { paths: paths.into_iter().take(PATHS_MAX).collect() })
        }
    }
}

/// Makes each file that a checkout writes an effect at which a test can end the process.
fn count_files(options: &mut CheckoutBuilder<'_>) {
    // The first call comes before the first file. Of an error libgit2 is not told; what follows fails then, too.
    options.progress(|_, _, _| drop(fault::point()));
}

/// What a checkout came to, with the error that a test asked for in its midst.
fn written(git: &git2::Repository, checked_out: Result<(), git2::Error>) -> Result<(), ApplyError> {
    checked_out?;
    let path = git.workdir().unwrap_or(git.path());
    fault::point().map_err(|source| ApplyError::Io { path: path.to_owned(), source })
}

fn move_head(
    repository: &Repository,
    (from, to): (Oid, Oid),
    name: &str,
    tell: &dyn Fn(bool) -> std::io::Result<()>,
) -> Result<(), ApplyError> {
    let reflog = format!("swarm apply: {name}");
    match repository.head_branch()? {
        Some(branch) => match repository.compare_and_swap_told(&branch, Some(from), to, &reflog, tell)? {
            Swap::Done => Ok(()),
            Swap::Moved(_) => Err(ApplyError::Raced { branch }),
        },
        None => {
            let io = |source| ApplyError::Io { path: repository.git_dir().join("HEAD"), source };
            tell(true).map_err(io)?;
            repository.detach_head(to)?;
            tell(false).map_err(io)
        }
    }
}

fn named_obstacles(obstacles: &[Obstacle]) -> String {
    let all: Vec<String> = obstacles.iter().map(Obstacle::to_string).collect();
    format!("{} {}", all.join(", "), if all.len() == 1 { "is" } else { "are" })
}

fn under_way(state: RepositoryState) -> Option<&'static str> {
    match state {
        RepositoryState::Clean => None,
        RepositoryState::Merge => Some("merge"),
        RepositoryState::Revert | RepositoryState::RevertSequence => Some("revert"),
        RepositoryState::CherryPick | RepositoryState::CherryPickSequence => Some("cherry-pick"),
        RepositoryState::Bisect => Some("bisect"),
        RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => Some("rebase"),
        RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => Some("git am"),
    }
}

#[cfg(test)]
mod tests;
