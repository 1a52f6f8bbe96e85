//! The private git directory of a worktree: everything of it that depends on the commit and not on the files. It lies in a
//! tiny layer of its own, so the large one below is shared by all commits of one tree.
//!
//! Objects come from the repository's own stores through `objects/info/alternates`; what a worker adds stays in its upper
//! layer. Nothing in here names the repository's own `.git`.

use std::path::{Path, PathBuf};

use git2::Oid;
use swarm_protocol::{Access, Grant};

use super::BaseError;
use crate::repository::{Identity, Objects, Repository, RepositoryError};
use crate::worktree::Backend;

/// The branch that a worker stands on.
const WORK_BRANCH: &str = "refs/heads/work";

/// What git is told of a partial clone: objects that nobody fetched are missing by intention, so `gc` and `fsck` pass them by.
/// git would ask that remote for one that it needs. Where it is, nothing can be, so that no program is started for it and no
/// network opened, and git's own words say why.
const PROMISOR: &str = "[remote \"partial-clone\"]\n\tpromisor = true\n\turl = /objects/that/a/partial/clone/lacks/are/not/fetched/inside/a/worktree\n";

/// Where the repository's object stores are when a worker looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectsAt {
    /// Bound read-only below this folder inside the cage, as `0`, `1` … (namespaces tier).
    Bound(PathBuf),
    /// At their own host paths (landlock tier).
    Host,
}

impl ObjectsAt {
    /// Where a worker sees the store of this number, which lies at a host path.
    pub fn place(&self, number: usize, path: &Path) -> PathBuf {
        match self {
            ObjectsAt::Bound(prefix) => prefix.join(number.to_string()),
            ObjectsAt::Host => path.to_owned(),
        }
    }

    /// What a cage shows of the repository's object stores, read-only.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn shown(&self, repository: &Repository) -> Result<Vec<Grant>, RepositoryError> {
        let stores = repository.object_dirs()?.into_iter().enumerate();
        Ok(stores.map(|(number, path)| Grant { at: self.place(number, &path), path, access: Access::Read }).collect())
    }
}

/// What the private git directory says.
pub struct GitDir<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Where its objects are seen.
    pub objects: &'a ObjectsAt,
    /// How worktrees are made.
    pub backend: Backend,
    /// The commit that HEAD names.
    pub commit: Oid,
    /// The branch that the run started from, with its commit.
    pub branch: Option<(&'a str, Oid)>,
}

/// Folders that git wants to see before it calls a folder a repository.
pub const FOLDERS: [&str; 6] =
    [".git", ".git/objects", ".git/objects/info", ".git/objects/pack", ".git/refs", ".git/info"];

impl GitDir<'_> {
    /// Every file, with its path from the worktree's root.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, BaseError> {
        let mut files = vec![
            (".git/HEAD", format!("ref: {WORK_BRANCH}\n").into_bytes()),
            (".git/packed-refs", self.packed_refs().into_bytes()),
            (".git/config", self.config()?.into_bytes()),
            (".git/objects/info/alternates", self.alternates()?),
            (".git/info/exclude", exclude(self.repository)?),
        ];
        let shallow = self.repository.common_dir().join("shallow");
        match std::fs::read(&shallow) {
            Ok(bytes) => files.push((".git/shallow", bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(BaseError::Io { path: shallow, source }),
        }
        Ok(files)
    }

    /// What the cage must show for the alternates to resolve, read-only. `empty_file` is any empty host file: it hides the
    /// stores' own lists of alternates, whose host paths mean nothing in the cage.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn grants(&self, empty_file: &Path) -> Result<Vec<Grant>, BaseError> {
        let mut grants = Vec::new();
        for grant in self.objects.shown(self.repository)? {
            let nested = grant.path.join("info/alternates").exists() && matches!(self.objects, ObjectsAt::Bound(_));
            let at = grant.at.join("info/alternates");
            grants.push(grant);
            if nested {
                grants.push(Grant { path: empty_file.to_owned(), at, access: Access::Read });
            }
        }
        Ok(grants)
    }

    fn config(&self) -> Result<String, BaseError> {
        let promisor = match self.repository.standing()?.objects {
            Objects::Partial => PROMISOR,
            Objects::Whole => "",
        };
        Ok(config(&self.repository.identity()?, self.backend) + promisor)
    }

    fn alternates(&self) -> Result<Vec<u8>, BaseError> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut text = Vec::new();
        for (number, path) in self.repository.object_dirs()?.iter().enumerate() {
            let seen = self.objects.place(number, path);
            text.extend_from_slice(seen.as_os_str().as_bytes());
            text.push(b'\n');
        }
        Ok(text)
    }

    fn packed_refs(&self) -> String {
        let mut refs = vec![(WORK_BRANCH, self.commit)];
        refs.extend(self.branch.filter(|(name, _)| *name != WORK_BRANCH));
        refs.sort();
        let lines: String = refs.iter().map(|(name, id)| format!("{id} {name}\n")).collect();
        format!("# pack-refs with: peeled fully-peeled sorted \n{lines}")
    }
}

/// What `info/exclude` of a worktree holds: the user's own rules, so that git inside the cage and the collector agree on what
/// is ignored.
///
/// # Errors
/// Those of the repository.
pub fn exclude(repository: &Repository) -> Result<Vec<u8>, BaseError> {
    let mut text = repository.exclude_files()?.join(&b'\n');
    text.push(b'\n');
    Ok(text)
}

fn config(identity: &Identity, backend: Backend) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let (name, email) = (quoted(&identity.name), quoted(&identity.email));
    // The index comes with what git would otherwise have to find out; where it does not hold, git starts it anew. In a plain copy
    // there is nothing to win.
    let untracked_cache = backend == Backend::Overlay;
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
         \tfsmonitor = false\n\tuntrackedCache = {untracked_cache}\n\tautocrlf = false\n\
         [user]\n\tname = {name}\n\temail = {email}\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[commit]\n\tgpgSign = false\n[tag]\n\tgpgSign = false\n"
    )
}
