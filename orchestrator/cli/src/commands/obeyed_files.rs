//! Files of a folder that git obeys because a repository's config or a hook in its `.git` names them (`include.path = ../.gitconfig`, `core.hooksPath =
//! .husky`). A command that may write the folder may write them, too, since they are part of the work like a build script; but the
//! person's next command of git runs what they say, so those that it changed are named when it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use swarm_orchestrator::entry_name::is_git_dir;
use swarm_orchestrator::policy::Host;
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::repository::Repository;

use crate::commands::repositories::Repositories;

/// Repositories whose config is read.
const REPOSITORIES_MAX: usize = 100;
/// Entries that are looked at: git obeys a folder of hooks or scripts, and seldom a whole tree.
const ENTRIES_MAX: usize = 100_000;
/// Files that are named; of more, their number is.
const NAMED_MAX: usize = 5;

/// What tells that a file is as it was: no command sets the time of its last change of any kind (the last two).
type Mark = (u64, u64, u32, u64, i64, i64);

/// Those of a folder, as they were.
#[derive(Debug, Default)]
pub struct ObeyedFiles {
    /// Canonical.
    folder: PathBuf,
    /// Absolute paths in it, with all that lies there.
    trees: BTreeSet<PathBuf>,
    /// Absolute paths in it that count where they are no folder.
    files: BTreeSet<PathBuf>,
    /// Folders, and ends of paths of files anywhere in them.
    anywhere: BTreeSet<(PathBuf, PathBuf)>,
    /// Whether a repository's config names more.
    has_more: bool,
    /// What lay there before; `None` where it was too much.
    before: Option<BTreeMap<PathBuf, Mark>>,
}

impl ObeyedFiles {
    /// By the repository around a canonical folder and those in it, as far as one can be opened.
    pub fn before(folder: &Path, repositories: &Repositories, host: &Host) -> ObeyedFiles {
        let inside = repositories.parts().filter_map(|git| Repository::open(git.parent()?).ok()).take(REPOSITORIES_MAX);
        let mut found = ObeyedFiles { folder: folder.to_owned(), ..ObeyedFiles::default() };
        for repository in Repository::discover(folder).ok().into_iter().chain(inside) {
            let Some(root) = repository.workdir() else { continue };
            let obeyed = repository.obeyed(&host.home);
            found.has_more |= !obeyed.is_all();
            found.files.extend(obeyed.files().map(|path| root.join(path)).filter(|path| path.starts_with(folder)));
            let here = |path: PathBuf| match folder.starts_with(&path) {
                true => Some(folder.to_owned()),
                false => path.starts_with(folder).then_some(path),
            };
            let whole = if folder.starts_with(root) { folder } else { root };
            found.anywhere.extend(obeyed.anywhere().map(|end| (whole.to_owned(), end.to_owned())));
            found.trees.extend(obeyed.trees().filter_map(|path| here(root.join(path))));
        }
        found.before = found.look();
        found
    }

    /// What is said of those that are not as they were; `None` where all are.
    pub fn changed(&self) -> Option<String> {
        let before_git = "look at it before you use git here";
        let (Some(before), Some(after)) = (&self.before, self.look()) else {
            let place = sanitize::name(&self.folder.to_string_lossy());
            return Some(format!(
                "git obeys so much of {place}, by a repository's config or hooks, that nobody knows what of it changed: {before_git}"
            ));
        };
        let changed: Vec<_> = after.iter().filter(|(path, mark)| before.get(*path) != Some(mark)).collect();
        let name = |path: &Path| sanitize::name(&path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy());
        let mut names: Vec<String> = changed.iter().take(NAMED_MAX).map(|(path, _)| name(path)).collect();
        if changed.len() > NAMED_MAX {
            names.push(format!("{} more", changed.len() - NAMED_MAX));
        }
        let told = || {
            format!("it changed what git obeys by the repository's config or hooks, {}: {before_git}", names.join(", "))
        };
        (!changed.is_empty()).then(told)
    }

    /// What lies there now; `None` where it is too much. Links are not followed, but on the way to what is named.
    fn look(&self) -> Option<BTreeMap<PathBuf, Mark>> {
        if self.has_more {
            return None;
        }
        let mut found = BTreeMap::new();
        for file in &self.files {
            found.extend(mark(file).map(|mark| (file.clone(), mark)));
        }
        let whole = self.anywhere.iter().map(|(folder, end)| (folder.clone(), Some(end)));
        let mut waiting: Vec<_> = self.trees.iter().map(|tree| (tree.clone(), None)).chain(whole).collect();
        let mut entries = 0;
        while let Some((path, end)) = waiting.pop() {
            if let Some(mark) = mark(&path) {
                if end.is_none_or(|end| path.ends_with(end)) {
                    found.insert(path, mark);
                }
                continue;
            }
            for entry in std::fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok) {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return None;
                }
                if !is_git_dir(entry.file_name().as_encoded_bytes()) {
                    waiting.push((entry.path(), end));
                }
            }
        }
        Some(found)
    }
}

/// Of anything that is no folder.
fn mark(path: &Path) -> Option<Mark> {
    let it = path.symlink_metadata().ok().filter(|it| !it.is_dir())?;
    Some((it.dev(), it.ino(), it.mode(), it.len(), it.ctime(), it.ctime_nsec()))
}
