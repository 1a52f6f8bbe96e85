//! The target branch into the user's checkout. The only place that writes into a checkout, so it refuses early and moves
//! last: what would be overwritten is found out before anything is touched, libgit2's own safe checkout looks again, and the
//! branch moves by compare-and-swap after the files are there. A crash in between leaves the new files as local changes.

use std::collections::BTreeSet;

use git2::build::CheckoutBuilder;
use git2::{Oid, RepositoryState, Signature, Status, StatusOptions, Time};

use crate::repository::{Identity, Repository, RepositoryError, Swap};

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

/// Why nothing was applied. Nothing has changed then, except after [`ApplyError::Raced`].
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is no checkout to apply to.
    #[error("apply to a bare repository: it has no checkout")]
    Bare,
    /// A merge, rebase, cherry-pick … is under way.
    #[error("apply while a {0} is under way")]
    UnderWay(&'static str),
    /// Only part of the tree is checked out, and libgit2 would check out the rest.
    #[error("apply to a sparse checkout")]
    Sparse,
    /// Local changes are in the way.
    #[error("apply: local changes to {} would be overwritten", paths.join(", "))]
    LocalChanges {
        /// Rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// The branches changed the same places.
    #[error("merge: both sides changed {}", paths.join(", "))]
    Conflicts {
        /// Rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// Somebody moved the checkout's branch meanwhile: the files are those of the result, the branch is where it was moved.
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

/// Merges `target` (a commit) into the checkout: a fast-forward where possible, else a merge commit by `identity` at `date_s`
/// (seconds since the Unix epoch), which calls it `name`.
///
/// # Errors
/// All of [`ApplyError`].
pub fn apply(
    repository: &Repository,
    target: Oid,
    name: &str,
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
    if git.config()?.get_bool("core.sparseCheckout").unwrap_or(false) {
        return Err(ApplyError::Sparse);
    }
    let head = repository.resolve("HEAD")?;
    if head == target || git.graph_descendant_of(head, target)? {
        return Ok(Applied::UpToDate);
    }
    let forward = git.graph_descendant_of(target, head)?;
    let tree = if forward { repository.tree_of(target)? } else { merged_tree(&git, head, target)? };
    refuse_overwriting(&git, repository.tree_of(head)?, tree)?;
    let commit = if forward {
        target
    } else {
        let who = Signature::new(&identity.name, &identity.email, &Time::new(date_s, 0))?;
        let parents = [&git.find_commit(head)?, &git.find_commit(target)?];
        git.commit(None, &who, &who, &format!("Merge branch '{name}'\n"), &git.find_tree(tree)?, &parents)?
    };
    // A second look by libgit2 itself, at the moment of writing.
    let mut safe = CheckoutBuilder::new();
    safe.safe().overwrite_ignored(false);
    git.checkout_tree(git.find_tree(tree)?.as_object(), Some(&mut safe))?;
    move_head(repository, head, commit, name)?;
    Ok(if forward { Applied::FastForward { to: commit } } else { Applied::Merged { commit } })
}

fn merged_tree(git: &git2::Repository, ours: Oid, theirs: Oid) -> Result<Oid, ApplyError> {
    let mut index = git.merge_commits(&git.find_commit(ours)?, &git.find_commit(theirs)?, None)?;
    if !index.has_conflicts() {
        return Ok(index.write_tree_to(git)?);
    }
    let mut paths = BTreeSet::new();
    for conflict in index.conflicts()? {
        let conflict = conflict?;
        let side = conflict.our.or(conflict.their).or(conflict.ancestor);
        paths.extend(side.map(|side| shown(&side.path)));
    }
    Err(ApplyError::Conflicts { paths: paths.into_iter().take(PATHS_MAX).collect() })
}

/// Compares what will be written with what is changed in the checkout: staged, unstaged, untracked or ignored.
fn refuse_overwriting(git: &git2::Repository, from: Oid, to: Oid) -> Result<(), ApplyError> {
    let diff = git.diff_tree_to_tree(Some(&git.find_tree(from)?), Some(&git.find_tree(to)?), None)?;
    let mut touched: BTreeSet<Vec<u8>> = BTreeSet::new();
    for delta in diff.deltas() {
        for file in [delta.old_file(), delta.new_file()] {
            touched.extend(file.path_bytes().map(<[u8]>::to_vec));
        }
    }
    let mut options = StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).include_ignored(true).recurse_ignored_dirs(false);
    let mut paths = Vec::new();
    for entry in git.statuses(Some(&mut options))?.iter() {
        let path = entry.path_bytes();
        // A whole ignored folder is one entry that ends in a slash.
        let in_the_way = match path.strip_suffix(b"/") {
            Some(folder) => {
                touched.contains(folder)
                    || touched.range(path.to_vec()..).next().is_some_and(|first| {
                        first.starts_with(path) && git.workdir().is_some_and(|root| exists_below(root, first))
                    })
            }
            None => touched.contains(path) || lies_below_touched(path, &touched),
        };
        if entry.status() != Status::CURRENT && in_the_way && paths.len() < PATHS_MAX {
            paths.push(shown(path));
        }
    }
    if paths.is_empty() { Ok(()) } else { Err(ApplyError::LocalChanges { paths }) }
}

/// Whether a file that will be written takes the place of a folder that `path` lies in.
fn lies_below_touched(path: &[u8], touched: &BTreeSet<Vec<u8>>) -> bool {
    path.iter().enumerate().any(|(at, &byte)| byte == b'/' && touched.contains(&path[..at]))
}

fn exists_below(root: &std::path::Path, path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    root.join(std::ffi::OsStr::from_bytes(path)).symlink_metadata().is_ok()
}

fn move_head(repository: &Repository, from: Oid, to: Oid, name: &str) -> Result<(), ApplyError> {
    let reflog = format!("swarm apply: {name}");
    match repository.head_branch()? {
        Some(branch) => match repository.compare_and_swap(&branch, Some(from), to, &reflog)? {
            Swap::Done => Ok(()),
            Swap::Moved(_) => Err(ApplyError::Raced { branch }),
        },
        None => Ok(repository.handle()?.set_head_detached(to)?),
    }
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

fn shown(path: &[u8]) -> String {
    crate::report::sanitize::name(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::repository::IdentitySource;

    struct Fixture {
        folder: tempfile::TempDir,
        git: git2::Repository,
        base: Oid,
    }

    const BASE: &[(&str, &str)] =
        &[("a.txt", "one\ntwo\nthree\n"), ("b.txt", "b\n"), (".gitignore", "ignored\nout/\n")];

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let git = git2::Repository::init(folder.path()).expect("a repository");
            let base = commit(&git, BASE, &[]);
            git.set_head("refs/heads/main").expect("a name");
            git.reference("refs/heads/main", base, true, "").expect("a ref");
            git.checkout_head(Some(CheckoutBuilder::new().force())).expect("a checkout");
            Fixture { folder, git, base }
        }

        fn target(&self, changes: &[(&str, &str)]) -> Oid {
            let mut files: Vec<_> = BASE.iter().filter(|(name, _)| changes.iter().all(|(n, _)| n != name)).collect();
            files.extend(changes);
            let files: Vec<(&str, &str)> = files.into_iter().copied().collect();
            commit(&self.git, &files, &[self.base])
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap_or_default()
        }

        fn apply(&self, target: Oid) -> Result<Applied, ApplyError> {
            let repository = Repository::open(self.folder.path()).expect("a repository");
            let identity = Identity {
                name: "t".to_owned(),
                email: "t@example.org".to_owned(),
                source: IdentitySource::Configured,
            };
            apply(&repository, target, "swarm/x", &identity, 1_700_000_000)
        }

        /// Applying must be refused and leave everything as it was.
        fn refused(&self, target: Oid) -> ApplyError {
            let before = (self.read("a.txt"), self.read("new"), self.head());
            let error = self.apply(target).expect_err("must be refused");
            assert_eq!((self.read("a.txt"), self.read("new"), self.head()), before);
            error
        }

        fn head(&self) -> Oid {
            self.git.refname_to_id("HEAD").expect("a commit")
        }

        fn is_clean(&self) -> bool {
            self.git.statuses(None).expect("a status").iter().all(|entry| entry.status() == Status::IGNORED)
        }
    }

    fn commit(git: &git2::Repository, files: &[(&str, &str)], parents: &[Oid]) -> Oid {
        let mut tree = git.treebuilder(None).expect("a builder");
        for (name, content) in files {
            tree.insert(*name, git.blob(content.as_bytes()).expect("a blob"), 0o100_644).expect("a legal name");
        }
        let tree = git.find_tree(tree.write().expect("a tree")).expect("just written");
        let who = Signature::new("t", "t@example.org", &Time::new(1, 0)).expect("legal");
        let parents: Vec<_> = parents.iter().map(|id| git.find_commit(*id).expect("exists")).collect();
        git.commit(None, &who, &who, "m", &tree, &parents.iter().collect::<Vec<_>>()).expect("a commit")
    }

    #[test]
    fn a_checkout_without_changes_moves_forward() {
        let it = Fixture::new();
        let target = it.target(&[("a.txt", "changed\n"), ("new", "new\n")]);
        assert_eq!(it.apply(target).expect("applies"), Applied::FastForward { to: target });
        assert_eq!((it.read("a.txt").as_str(), it.read("new").as_str()), ("changed\n", "new\n"));
        assert!(it.is_clean() && it.head() == target);
        assert_eq!(it.apply(target).expect("applies"), Applied::UpToDate);
    }

    #[test]
    fn edits_elsewhere_survive_and_edits_in_the_way_refuse() {
        let it = Fixture::new();
        let target = it.target(&[("a.txt", "changed\n"), ("new", "new\n")]);
        fs::write(it.path("a.txt"), "mine\n").expect("a write");
        assert!(matches!(it.refused(target), ApplyError::LocalChanges { paths } if paths == ["a.txt"]));
        fs::write(it.path("a.txt"), BASE[0].1).expect("a write");
        fs::write(it.path("new"), "untracked\n").expect("a write");
        assert!(matches!(it.refused(target), ApplyError::LocalChanges { paths } if paths == ["new"]));
        fs::remove_file(it.path("new")).expect("it is there");
        fs::write(it.path("b.txt"), "mine\n").expect("a write");
        it.apply(target).expect("nothing is in the way");
        assert_eq!(it.read("b.txt"), "mine\n");
    }

    #[test]
    fn ignored_files_are_not_overwritten() {
        let it = Fixture::new();
        let target = it.target(&[("ignored", "theirs\n")]);
        fs::write(it.path("ignored"), "mine\n").expect("a write");
        assert!(matches!(it.refused(target), ApplyError::LocalChanges { .. }));
        assert_eq!(it.read("ignored"), "mine\n");
        let target = it.target(&[("out", "a file now\n")]);
        fs::create_dir(it.path("out")).expect("a folder");
        fs::write(it.path("out/built"), "mine\n").expect("a write");
        it.refused(target);
        assert_eq!(it.read("out/built"), "mine\n");
    }

    #[test]
    fn a_staged_edit_in_the_way_refuses() {
        let it = Fixture::new();
        let target = it.target(&[("a.txt", "changed\n")]);
        fs::write(it.path("a.txt"), "staged\n").expect("a write");
        let mut index = it.git.index().expect("an index");
        index.add_path(std::path::Path::new("a.txt")).and_then(|()| index.write()).expect("staged");
        fs::write(it.path("a.txt"), BASE[0].1).expect("a write");
        assert!(matches!(it.refused(target), ApplyError::LocalChanges { .. }));
    }

    #[test]
    fn branches_that_went_apart_are_merged_or_refused() {
        let it = Fixture::new();
        let mine = it.target(&[("a.txt", "one\ntwo\nmine\n")]);
        it.git.reference("refs/heads/main", mine, true, "").expect("a ref");
        it.git.checkout_head(Some(CheckoutBuilder::new().force())).expect("a checkout");
        let conflict = it.target(&[("a.txt", "one\ntwo\ntheirs\n")]);
        assert!(matches!(it.refused(conflict), ApplyError::Conflicts { paths } if paths == ["a.txt"]));
        let clean = it.target(&[("b.txt", "theirs\n")]);
        let Ok(Applied::Merged { commit }) = it.apply(clean) else { panic!("expected a merge") };
        let parents: Vec<Oid> = it.git.find_commit(commit).expect("made").parent_ids().collect();
        assert_eq!(parents, [mine, clean]);
        assert_eq!((it.read("a.txt").as_str(), it.read("b.txt").as_str()), ("one\ntwo\nmine\n", "theirs\n"));
        assert!(it.is_clean() && it.head() == commit);
    }

    #[test]
    fn nothing_is_applied_in_the_middle_of_a_merge() {
        let it = Fixture::new();
        let target = it.target(&[("b.txt", "theirs\n")]);
        fs::write(it.git.path().join("MERGE_HEAD"), format!("{target}\n")).expect("a write");
        assert!(matches!(it.refused(target), ApplyError::UnderWay("merge")));
    }
}
