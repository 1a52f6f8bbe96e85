//! What may stand in a result beyond what a single name says: where links may point, what may stand where something else is
//! expected.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use git2::{Odb, Oid};

use super::{Refusal, names, steering};
use crate::entry_name::{check_path, is_git_dir, is_state_marker, is_steering_file};
use crate::tree::{self, Difference, EXECUTABLE, Entry, FILE, SYMLINK, TreeError};

/// What is said of a link that leads elsewhere on each machine.
const ABSOLUTE: &str = "a link to an absolute path: make it relative (ln -srf TARGET LINK)";

/// The links of a tree, for who judges those of another one: where a link to an absolute path stands already, it may move.
#[derive(Debug)]
pub struct LinksOf {
    tree: Oid,
    /// The contents of all of them; read when it is asked about the first.
    contents: OnceCell<HashSet<Oid>>,
}

impl LinksOf {
    /// Those of a tree.
    pub fn tree(tree: Oid) -> Self {
        LinksOf { tree, contents: OnceCell::new() }
    }

    /// Judges a link at `path` with the content `id`, which is `target`, as [`check_link`] does.
    ///
    /// # Errors
    /// Those of reading the tree; within, the reason, for people.
    pub fn check(
        &self,
        odb: &Odb<'_>,
        path: &[u8],
        (id, target): (Oid, &[u8]),
    ) -> Result<Result<(), &'static str>, TreeError> {
        match check_link(path, target) {
            Err(reason) if reason == ABSOLUTE && self.hold(odb, id)? => Ok(Ok(())),
            judged => Ok(judged),
        }
    }

    fn hold(&self, odb: &Odb<'_>, id: Oid) -> Result<bool, TreeError> {
        if let Some(contents) = self.contents.get() {
            return Ok(contents.contains(&id));
        }
        let files = tree::diff(odb, None, Some(self.tree))?.into_iter().filter_map(|file| file.new);
        let links = files.filter(|entry| entry.mode == SYMLINK).map(|entry| entry.id).collect();
        Ok(self.contents.get_or_init(|| links).contains(&id))
    }
}

/// Judges a link at `path` that was not there before.
///
/// A target may climb at its start only: the folders above a link are real ones, so climbing is exact there, while `a/..`
/// may leave the tree when `a` is a link itself.
///
/// # Errors
/// The reason, for people.
pub fn check_link(path: &[u8], target: &[u8]) -> Result<(), &'static str> {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if is_steering_file(name) {
        return Err("a link in the place of a file that steers git");
    }
    if target.starts_with(b"/") {
        return Err(ABSOLUTE);
    }
    if target.contains(&0) {
        return Err("a link with a NUL in its target");
    }
    let mut room = path.iter().filter(|&&byte| byte == b'/').count();
    let mut descended = false;
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if descended => return Err("a link that climbs after it descended"),
            b".." if room == 0 => return Err("a link out of the tree"),
            b".." => room -= 1,
            name if is_git_dir(name) => return Err("a link into a git directory"),
            _ => descended = true,
        }
    }
    Ok(())
}

/// Judges a tree that several changes came to, or that a change came to on another tree than its own, against the tree
/// `below` it, as if one worker had left all of the difference. Each change was judged on what it started from only: a link
/// that one moves and another turns, a repository of which each brings a half, nobody has seen yet.
///
/// # Errors
/// Those of reading trees, and the links and steering files that differ.
pub fn judge_together(odb: &Odb<'_>, below: Oid, result: Oid) -> Result<Option<Refusal>, TreeError> {
    let differences = tree::diff(odb, Some(below), Some(result))?;
    let links = LinksOf::tree(below);
    for Difference { path, new, .. } in &differences {
        let Some(entry) = new.map(Entry::canonical) else { continue };
        let judged = match entry.mode {
            SYMLINK => links.check(odb, path, (entry.id, odb.read(entry.id)?.data()))?,
            FILE | EXECUTABLE if steering::is_judged(path) => steering::check(path, odb.read(entry.id)?.data()),
            _ => Ok(()),
        };
        if let Err(reason) = check_path(path).and(judged) {
            return Ok(Some(Refusal::Hostile { path: path.clone(), reason: reason.to_owned() }));
        }
    }
    judge(odb, below, result, &differences)
}

/// Judges the names of a result as a whole: the first that breaks a rule. `differences` are sorted by path.
///
/// # Errors
/// Those of reading trees.
pub fn judge(odb: &Odb<'_>, base: Oid, result: Oid, differences: &[Difference]) -> Result<Option<Refusal>, TreeError> {
    Ok(breaches(odb, base, result, differences, 1)?.pop())
}

/// The same, of all names that break the first rule that is broken: up to `count_max` of them.
///
/// # Errors
/// Those of reading trees.
pub fn breaches(
    odb: &Odb<'_>,
    base: Oid,
    result: Oid,
    differences: &[Difference],
    count_max: usize,
) -> Result<Vec<Refusal>, TreeError> {
    let markers: Vec<Refusal> = state_markers(differences).take(count_max).collect();
    if !markers.is_empty() {
        return Ok(markers);
    }
    names::name_breaches(odb, base, result, differences, count_max)
}

/// Finds the links and files where a cache of the workspace (paths from the root) or a folder on the way to one has to be: the
/// worktrees of all who build on this result could not have it.
pub fn in_the_way(caches: &[PathBuf], differences: &[Difference]) -> impl Iterator<Item = Refusal> {
    let there = differences.iter().filter(|one| one.new.is_some());
    let blocked = |path: &[u8]| caches.iter().any(|cache| cache.starts_with(OsStr::from_bytes(path)));
    there.filter(move |one| blocked(&one.path)).map(|one| Refusal::Hostile {
        path: one.path.clone(),
        reason: "a link or a file in the way of a folder of `[workspace] cache`".to_owned(),
    })
}

/// Finds a link that a change puts in the place of what a policy of the plan hides (paths from the root), or of a folder on
/// the way to it: every later cage of that policy would have to hide what the link leads to, and is refused instead.
///
/// # Errors
/// Those of reading trees.
pub fn link_to_hidden(odb: &Odb<'_>, hidden: &[PathBuf], base: Oid, result: Oid) -> Result<Option<Refusal>, TreeError> {
    let is_link = |root, path: &[u8]| {
        let entry = tree::find(odb, root, path)?;
        Ok::<bool, TreeError>(entry.is_some_and(|entry| entry.mode == SYMLINK))
    };
    for hidden in hidden {
        for path in hidden.ancestors().map(|path| path.as_os_str().as_bytes()).filter(|path| !path.is_empty()) {
            if is_link(result, path)? && !is_link(base, path)? {
                let reason = "a link in the place of what a policy of the plan hides".to_owned();
                return Ok(Some(Refusal::Hostile { path: path.to_vec(), reason }));
            }
        }
    }
    Ok(None)
}

/// Finds new files by which swarm would take their folder for a state folder: whoever adds one would decide what people's
/// commands are shown. One that the base has already is its own.
fn state_markers(differences: &[Difference]) -> impl Iterator<Item = Refusal> {
    let new = differences.iter().filter(|one| one.old.is_none() && one.new.is_some()).map(|one| &one.path);
    let is_marker = |path: &&Vec<u8>| path.rsplit(|&byte| byte == b'/').next().is_some_and(is_state_marker);
    new.filter(is_marker).map(|marker| Refusal::Hostile {
        path: marker.clone(),
        reason: "a file of the name by which swarm knows its state folders: rename it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_inside_the_tree_pass() {
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./b/."), ("a/b", "..")] {
            assert_eq!(check_link(path.as_bytes(), target.as_bytes()), Ok(()), "{path} -> {target}");
        }
    }

    #[test]
    fn nothing_but_a_folder_stands_on_the_way_to_a_cache() {
        let entry = Some(tree::Entry { mode: tree::SYMLINK, id: Oid::ZERO_SHA1 });
        for (path, old, new, taken) in [
            ("node", None, entry, false),
            ("node/.cache", None, entry, false),
            ("node/.cache/x/y", None, entry, true),
            ("node/.cach", None, entry, true),
            ("node", entry, None, true),
        ] {
            let differences = [Difference { path: path.into(), old, new }];
            assert_eq!(in_the_way(&["node/.cache".into()], &differences).next().is_none(), taken, "{path}");
        }
    }

    #[test]
    fn no_change_makes_a_folder_a_state_folder() {
        let entry = Some(tree::Entry { mode: FILE, id: Oid::ZERO_SHA1 });
        for (path, old, new, taken) in [
            ("SWARM-STATE", None, entry, false),
            ("docs/swarm-State", None, entry, false),
            ("SWARM-STATE", entry, entry, true),
            ("SWARM-STATE", entry, None, true),
            ("SWARM-STATE.md", None, entry, true),
        ] {
            let differences = [Difference { path: path.into(), old, new }];
            assert_eq!(state_markers(&differences).next().is_none(), taken, "{path}");
        }
    }

    #[test]
    fn links_that_leave_or_could_leave_are_refused() {
        for (path, target) in [
            ("a", "/etc"),
            ("a", ".."),
            ("a/b", "../.."),
            ("a/b/c", "../x/../../.."),
            ("a", "b/../c"),
            ("a", ".git/config"),
            ("a", "sub/.GIT/hooks"),
            (".gitmodules", "x"),
            ("sub/.gitattributes", "x"),
        ] {
            assert!(check_link(path.as_bytes(), target.as_bytes()).is_err(), "{path} -> {target}");
        }
    }
}
