//! The repositories in a folder that a command may write: each `.git` folder, each `.git` file that points to one (worktrees,
//! submodules), and each folder that git takes for a repository without a work tree. Git obeys their config and hooks, so a
//! command that nobody trusts may change none of them, and may not move one aside to put its own in the place.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::ReadDir;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use swarm_orchestrator::entry_name::is_git_dir;

use crate::commands::failure::Failure;

/// The most entries that are looked through: a second or two of a warm disk.
const ENTRIES_MAX: usize = 2_000_000;
/// The most repositories: each becomes a mount of its own in the cage.
const REPOSITORIES_MAX: usize = 1_000;

/// What of a folder belongs to a repository's own state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repositories {
    /// Absolute, sorted by path.
    parts: Vec<Part>,
}

/// A `.git`, or a repository without a work tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    path: PathBuf,
    /// Device and inode: what lies at a known path later may be something else.
    identity: (u64, u64),
}

impl Part {
    fn at(path: PathBuf) -> io::Result<Part> {
        let metadata = path.symlink_metadata()?;
        Ok(Part { path, identity: (metadata.dev(), metadata.ino()) })
    }
}

/// What is done about folders that nobody may list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The caller's own are an error: a command could open them. Those of others stay closed for it, too.
    Refused,
    /// The caller's own are opened to them: git would find what lies in one that only cannot be listed.
    Opened,
}

impl Repositories {
    /// Looks through a folder; follows no link, and looks into no `.git`.
    ///
    /// # Errors
    /// The folder is part of a repository's own state, or it cannot be looked through.
    pub fn below(folder: &Path) -> Result<Self, Failure> {
        if folder.components().any(|part| is_git(part.as_os_str())) || is_bare(folder) {
            let message = format!("open {} to the command: git obeys what lies in it", folder.display());
            return Err(Failure::usage(message, "go to the work tree, or use --ro".to_owned()));
        }
        Ok(Repositories { parts: look_through(folder, Closed::Refused)? })
    }

    /// What of a folder is a repository now and was not one of these: absolute paths, sorted.
    ///
    /// # Errors
    /// It cannot be looked through.
    pub fn new_below(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut all = look_through(folder, Closed::Opened)?;
        if is_bare(folder) {
            all.extend(Part::at(folder.to_owned()));
        }
        all.retain(|part| !self.parts.contains(part));
        Ok(all.into_iter().map(|part| part.path).collect())
    }

    /// What must not be written: absolute paths, sorted.
    pub fn parts(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| &*part.path)
    }

    /// The folders between `folder` and the repositories in it, sorted. Each of them could be renamed with all that it
    /// holds, and another one be made under its name.
    pub fn ways(&self, folder: &Path) -> BTreeSet<PathBuf> {
        let between = |part: &Path| {
            let above = part.ancestors().skip(1).take_while(|above| *above != folder);
            above.map(Path::to_owned).collect::<Vec<_>>()
        };
        let mut ways: BTreeSet<PathBuf> = self.parts().flat_map(between).collect();
        ways.retain(|way| !self.parts().any(|part| way.starts_with(part)));
        ways
    }
}

/// All parts of repositories in a folder, sorted.
fn look_through(folder: &Path, closed: Closed) -> Result<Vec<Part>, Failure> {
    let (mut parts, mut open, mut entries) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(below) = open.pop() {
        let failed = |error: io::Error| {
            let message = format!("look for repositories in {}: {error}", below.display());
            Failure::environment(message, "use --ro, or swarm exec".to_owned())
        };
        let Some(listing) = list(&below, closed).map_err(failed)? else { continue };
        for entry in listing {
            let entry = entry.map_err(failed)?;
            entries += 1;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            if is_git(&entry.file_name()) {
                parts.push(Part::at(path).map_err(failed)?);
            } else if kind.is_dir() {
                if is_bare(&path) {
                    parts.push(Part::at(path.clone()).map_err(failed)?);
                }
                open.push(path);
            }
        }
        if entries > ENTRIES_MAX || parts.len() > REPOSITORIES_MAX {
            let what = if entries > ENTRIES_MAX { "2,000,000 entries" } else { "1,000 repositories" };
            let message = format!("open {} to the command: it holds more than {what}", folder.display());
            return Err(Failure::usage(message, "go to a smaller folder, or use --ro or swarm exec".to_owned()));
        }
    }
    parts.sort();
    Ok(parts)
}

/// What a folder holds; `None` where that is nobody's business: it is gone, or closed and not the caller's.
fn list(folder: &Path, closed: Closed) -> io::Result<Option<ReadDir>> {
    let error = match folder.read_dir() {
        Ok(listing) => return Ok(Some(listing)),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::NotFound => return Ok(None),
        io::ErrorKind::PermissionDenied => {}
        _ => return Err(error),
    }
    let metadata = folder.symlink_metadata()?;
    let mine = metadata.uid() == rustix::process::geteuid().as_raw();
    match closed {
        _ if !mine => Ok(None),
        Closed::Refused => Err(io::Error::new(error.kind(), "it is closed, and the command could open it")),
        Closed::Opened => {
            let mode = metadata.permissions().mode();
            let set = |mode| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode));
            set(mode | 0o700)?;
            folder.read_dir().map(Some)
        }
    }
}

/// Whether git, on whatever file system, takes an entry of this name for a work tree's repository.
fn is_git(name: &OsStr) -> bool {
    is_git_dir(name.as_bytes())
}

/// Whether git takes a folder for a repository. Source: git's `is_git_directory`: `HEAD` beside `objects` and `refs`, or beside
/// `commondir`.
fn is_bare(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).symlink_metadata().is_ok();
    has("HEAD") && (has("commondir") || has("objects") && has("refs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_repository_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let top = dir.path().canonicalize().expect("it exists");
        for folder in [".git/hooks", "vendor/x/.git", "sub", "bare.git/objects", "bare.git/refs", "plain/objects"] {
            std::fs::create_dir_all(top.join(folder)).expect("a folder");
        }
        for file in ["sub/.git", "bare.git/HEAD", "plain/HEAD", ".gitignore"] {
            std::fs::write(top.join(file), "gitdir: elsewhere\n").expect("a file");
        }
        std::os::unix::fs::symlink("vendor", top.join("link")).expect("a link");
        let found = Repositories::below(&top).expect("it is small");
        let short = |path: &Path| path.strip_prefix(&top).expect("below").to_owned();
        let ways: Vec<_> = found.ways(&top).iter().map(|way| short(way)).collect();
        assert_eq!(ways, ["sub", "vendor", "vendor/x"].map(Path::new));
        let found: Vec<_> = found.parts().map(short).collect();
        assert_eq!(found, [".git", "bare.git", "sub/.git", "vendor/x/.git"].map(Path::new));
        for inside in [".git", ".git/hooks", "bare.git"] {
            assert!(Repositories::below(&top.join(inside)).is_err(), "{inside}");
        }
    }
}
