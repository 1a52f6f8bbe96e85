//! What lies above a worktree of the landlock tier. Without a mount namespace a worktree is where its folder really is, mostly below
//! the checkout, and tools that look for settings folder by folder upwards (cargo for a workspace and for `.cargo/config.toml`, pytest,
//! linters) meet those of the checkout. That a file is there and cannot be opened ends them, where its absence would not.
//!
//! So what is in the checkout's topmost folder as the base has it may be read: the worktree's own history holds the same bytes, and
//! nobody learns anything. What somebody has edited since stays closed, as does all that was never committed; who needs more has
//! `--state-dir`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid};
use swarm_protocol::{Access, Grant};

use crate::repository::Repository;
use crate::tree;

/// Files that are shown; each is a rule of its own.
const FILES_MAX: usize = 64;

/// Bytes of one file; nobody keeps settings in a longer one.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The folder in which cargo looks in every folder above its own.
const FOLDER_OF_SETTINGS: &[u8] = b".cargo";

/// What of the folders above a worktree may be read, of a repository whose `base` (a tree) the run stands on. What cannot be
/// looked at stays closed.
pub fn readable(repository: &Repository, base: Oid, worktree: &Path) -> Vec<Grant> {
    let main = repository.common_dir().parent();
    let mut checkouts: Vec<&Path> = repository.workdir().into_iter().chain(main).collect();
    checkouts.retain(|checkout| worktree.starts_with(checkout));
    checkouts.dedup();
    if checkouts.is_empty() {
        return Vec::new();
    }
    let committed = committed(repository, base).unwrap_or_default();
    let paths =
        checkouts.iter().flat_map(|checkout| committed.iter().map(move |(name, id)| (checkout.join(name), *id)));
    let same = paths.filter(|(path, id)| is_same(path, *id)).map(|(path, _)| path);
    same.take(FILES_MAX).map(|path| Grant { path: path.clone(), at: path, access: Access::Read }).collect()
}

/// The files of a tree's topmost folder, and those of the folder of settings in it.
fn committed(repository: &Repository, base: Oid) -> Result<Vec<(PathBuf, Oid)>, Box<dyn std::error::Error>> {
    let git = repository.handle()?;
    let odb = git.odb()?;
    let top = tree::list(&odb, base)?;
    let path = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
    let mut found = Vec::new();
    if let Some(settings) = tree::get(&top, FOLDER_OF_SETTINGS).filter(|entry| entry.is_tree()) {
        let files = tree::list(&odb, settings.id)?.into_iter().filter(|(_, entry)| is_file(*entry));
        found.extend(files.map(|(name, entry)| (path(FOLDER_OF_SETTINGS).join(path(&name)), entry.id)));
    }
    found.extend(top.iter().filter(|(_, entry)| is_file(*entry)).map(|(name, entry)| (path(name), entry.id)));
    Ok(found)
}

fn is_file(entry: tree::Entry) -> bool {
    matches!(entry.mode, tree::FILE | tree::EXECUTABLE)
}

/// Whether a file is there, behind no link, with these bytes.
fn is_same(path: &Path, id: Oid) -> bool {
    let is_folder = path.parent().and_then(|folder| folder.symlink_metadata().ok()).is_some_and(|it| it.is_dir());
    let is_short = |it: std::fs::Metadata| it.is_file() && it.len() <= FILE_BYTES_MAX;
    is_folder
        && path.symlink_metadata().is_ok_and(is_short)
        && Oid::hash_file(ObjectType::Blob, path).is_ok_and(|found| found == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::Fixture;

    /// What is read above a worktree at `worktree`, of a checkout with these files committed once `edit` was made.
    fn found(worktree: &str, edit: impl FnOnce(&Path)) -> Vec<String> {
        let files = [("Cargo.toml", "a"), (".cargo/config.toml", "b"), (".cargo/deep/x", "c"), ("src/lib.rs", "d")];
        let fixture = Fixture::with_files(&files);
        let repository = fixture.repository();
        let base = repository.tree_of(repository.resolve("HEAD").expect("a commit")).expect("its tree");
        edit(fixture.path());
        let root = repository.workdir().expect("a checkout").to_owned();
        let grants = readable(&repository, base, &root.join(worktree));
        grants.iter().map(|grant| grant.at.strip_prefix(&root).expect("in it").display().to_string()).collect()
    }

    #[test]
    fn only_what_the_base_has_too_is_read_above_a_worktree() {
        let worktree = ".git/swarm/runs/r/t/1/tree";
        let write = |name: &'static str| move |root: &Path| std::fs::write(root.join(name), "mine").expect("a file");
        assert_eq!(found(worktree, |_| {}), [".cargo/config.toml", "Cargo.toml"]);
        assert_eq!(found(worktree, write("Cargo.toml")), [".cargo/config.toml"]);
        assert_eq!(found(worktree, write(".env")), [".cargo/config.toml", "Cargo.toml"]);
        assert_eq!(found("/elsewhere/tree", |_| {}), Vec::<String>::new());
    }

    #[test]
    fn no_link_is_followed_to_what_lies_elsewhere() {
        let worktree = ".git/swarm/runs/r/t/1/tree";
        let by_link = |root: &Path| {
            for (name, aside) in [("Cargo.toml", "aside"), (".cargo", "settings")] {
                std::fs::rename(root.join(name), root.join(aside)).expect("it was there");
                std::os::unix::fs::symlink(aside, root.join(name)).expect("its place is free");
            }
        };
        assert_eq!(found(worktree, by_link), Vec::<String>::new());
    }
}
