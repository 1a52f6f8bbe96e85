//! What may stand in a result beyond what a single name says: where links may point, which names may stand side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use git2::{Odb, Oid};

use super::{Refusal, steering};
use crate::entry_name::{check_path, folded, is_git_dir, is_state_marker, is_steering_file};
use crate::tree::{self, Difference, EXECUTABLE, Entry, FILE, SYMLINK, TreeError};

/// Names that are looked for in a folder one by one, before all of its names are indexed.
const LOOKS_MAX: u32 = 8;

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
        return Err("a link to an absolute path");
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
    for Difference { path, new, .. } in &differences {
        let Some(entry) = new.map(Entry::canonical) else { continue };
        let judged = match entry.mode {
            SYMLINK => check_link(path, odb.read(entry.id)?.data()),
            FILE | EXECUTABLE if steering::is_judged(path) => steering::check(path, odb.read(entry.id)?.data()),
            _ => Ok(()),
        };
        if let Err(reason) = check_path(path).and(judged) {
            return Ok(Some(Refusal::Hostile { path: path.clone(), reason: reason.to_owned() }));
        }
    }
    judge(odb, below, result, &differences)
}

/// Judges the names of a result as a whole: all of the rules below, the first that is broken.
///
/// # Errors
/// Those of reading trees.
pub fn judge(odb: &Odb<'_>, base: Oid, result: Oid, differences: &[Difference]) -> Result<Option<Refusal>, TreeError> {
    if let Some(refusal) = misleading_name(odb, base, differences)? {
        return Ok(Some(refusal));
    }
    if let Some(refusal) = state_marker(differences) {
        return Ok(Some(refusal));
    }
    if let Some(refusal) = case_collision(odb, base, result, differences)? {
        return Ok(Some(refusal));
    }
    bare_repository(odb, base, result, differences)
}

/// Finds a link or a file where a cache of the workspace (paths from the root) or a folder on the way to one has to be: the
/// worktrees of all who build on this result could not have it.
pub fn in_the_way(caches: &[PathBuf], differences: &[Difference]) -> Option<Refusal> {
    let mut there = differences.iter().filter(|one| one.new.is_some());
    let blocked = |path: &[u8]| caches.iter().any(|cache| cache.starts_with(OsStr::from_bytes(path)));
    there.find(|one| blocked(&one.path)).map(|one| Refusal::Hostile {
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

/// Finds a new name that acts on a terminal or splits a list where it is shown, or that is a path on another system. Git takes
/// such names; names that the base has already are its own.
///
/// # Errors
/// Those of reading trees.
fn misleading_name(odb: &Odb<'_>, base: Oid, differences: &[Difference]) -> Result<Option<Refusal>, TreeError> {
    for path in differences.iter().filter(|one| one.old.is_none()).map(|one| one.path.as_slice()) {
        let Some(reason) = why_misleading(path) else { continue };
        let mut end = 0;
        for name in path.split(|&byte| byte == b'/') {
            end += name.len();
            if why_misleading(name).is_some() && tree::find(odb, base, &path[..end])?.is_none() {
                return Ok(Some(Refusal::Hostile { path: path[..end].to_vec(), reason: reason.to_owned() }));
            }
            end += 1;
        }
    }
    Ok(None)
}

fn why_misleading(name: &[u8]) -> Option<&'static str> {
    let control = match std::str::from_utf8(name) {
        Ok(text) => text.chars().any(char::is_control),
        Err(_) => name.iter().any(u8::is_ascii_control),
    };
    if control {
        return Some("a new name with a control character in it (a line feed, an escape …): rename it");
    }
    name.contains(&b'\\').then_some("a new name with a backslash in it, which is a path on Windows: rename it")
}

/// Finds a new file by which swarm would take its folder for a state folder: whoever adds it would decide what people's commands
/// are shown. One that the base has already is its own.
fn state_marker(differences: &[Difference]) -> Option<Refusal> {
    let mut new = differences.iter().filter(|one| one.old.is_none() && one.new.is_some()).map(|one| &one.path);
    let marker = new.find(|path| path.rsplit(|&byte| byte == b'/').next().is_some_and(is_state_marker))?;
    let reason = "a file of the name by which swarm knows its state folders: rename it".to_owned();
    Some(Refusal::Hostile { path: marker.clone(), reason })
}

/// Finds a new name that differs only in case from another one in its folder. Pairs that the base has already are its own.
///
/// # Errors
/// Those of reading trees.
fn case_collision(
    odb: &Odb<'_>,
    base: Oid,
    result: Oid,
    differences: &[Difference],
) -> Result<Option<Refusal>, TreeError> {
    let mut folders: BTreeMap<Vec<u8>, FolderNames> = BTreeMap::new();
    for path in differences.iter().filter(|one| one.old.is_none()).map(|one| &one.path) {
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            let (folder, name) = (&path[..start.max(1) - 1], &path[start..end]);
            start = end + 1;
            if !folders.contains_key(folder) {
                let listing = |root| match tree::find(odb, root, folder)? {
                    Some(entry) if entry.is_tree() => tree::list(odb, entry.id).map(Some),
                    _ => Ok(None),
                };
                let names = listing(result)?.unwrap_or_default();
                let mut before = listing(base)?;
                before.iter_mut().for_each(|listing| listing.sort_by(|a, b| a.0.cmp(&b.0)));
                folders.insert(folder.to_vec(), FolderNames { names, asked: 0, counts: None, before });
            }
            let folder = folders.get_mut(folder).expect("it was put there above");
            let known = folder
                .before
                .as_ref()
                .is_some_and(|listing| listing.binary_search_by(|(known, _)| known.as_slice().cmp(name)).is_ok());
            if !known && folder.count(name) > 1 {
                let reason = "its name differs only in case from another one in its folder".to_owned();
                return Ok(Some(Refusal::Hostile { path: path[..end].to_vec(), reason }));
            }
        }
    }
    Ok(None)
}

/// Finds a folder that git takes for a repository without a work tree, and that was none before: whoever runs git inside of it
/// runs what its `config` says. Source: git's `is_git_directory`: `HEAD` beside `objects` and `refs`, or beside `commondir`.
///
/// # Errors
/// Those of reading trees.
fn bare_repository(
    odb: &Odb<'_>,
    base: Oid,
    result: Oid,
    differences: &[Difference],
) -> Result<Option<Refusal>, TreeError> {
    const PARTS: [&[u8]; 4] = [b"HEAD", b"objects", b"refs", b"commondir"];
    let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
    for path in differences.iter().filter(|one| one.new.is_some()).map(|one| one.path.as_slice()) {
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            let (folder, name) = (&path[..start.max(1) - 1], &path[start..end]);
            start = end + 1;
            if !PARTS.iter().any(|part| part.eq_ignore_ascii_case(name)) || !seen.insert(folder) {
                continue;
            }
            if is_repository(odb, result, folder)? && !is_repository(odb, base, folder)? {
                let reason = "a repository inside: git would obey its config".to_owned();
                return Ok(Some(Refusal::Hostile { path: folder.to_vec(), reason }));
            }
        }
    }
    Ok(None)
}

fn is_repository(odb: &Odb<'_>, root: Oid, folder: &[u8]) -> Result<bool, TreeError> {
    let Some(entry) = tree::find(odb, root, folder)?.filter(|entry| entry.is_tree()) else { return Ok(false) };
    let names: HashSet<Vec<u8>> =
        tree::list(odb, entry.id)?.into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let has = |name: &[u8]| names.contains(name);
    Ok(has(b"head") && (has(b"commondir") || (has(b"objects") && has(b"refs"))))
}

/// The names of one folder.
struct FolderNames {
    /// What the result has there.
    names: tree::Listing,
    /// How often it was looked through.
    asked: u32,
    /// How many of those names fold to one form, once that pays.
    counts: Option<HashMap<Vec<u8>, u32>>,
    /// What the base has there, sorted by name.
    before: Option<tree::Listing>,
}

impl FolderNames {
    /// How many names of the result are one where case does not count. A change adds a name or two to a large folder far more
    /// often than many, so the first few are looked for in passing.
    fn count(&mut self, name: &[u8]) -> u32 {
        let form = folded(name);
        self.asked += 1;
        if self.asked <= LOOKS_MAX {
            let same = |known: &[u8]| match known.is_ascii() {
                true => known.eq_ignore_ascii_case(&form),
                false => folded(known) == form,
            };
            return self.names.iter().filter(|(known, _)| same(known)).take(2).map(|_| 1).sum();
        }
        let counts = self.counts.get_or_insert_with(|| {
            let mut counts = HashMap::new();
            self.names.iter().for_each(|(name, _)| *counts.entry(folded(name)).or_default() += 1);
            counts
        });
        counts.get(&form).copied().unwrap_or_default()
    }
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
            assert_eq!(in_the_way(&["node/.cache".into()], &differences).is_none(), taken, "{path}");
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
            assert_eq!(state_marker(&differences).is_none(), taken, "{path}");
        }
    }

    #[test]
    fn names_are_counted_alike_one_by_one_and_by_index() {
        let entry = tree::Entry { mode: FILE, id: Oid::ZERO_SHA1 };
        let names = ["Foo", "foo", "bar", "\u{c9}t\u{e9}", "\u{e9}t\u{e9}"];
        let names = names.map(|name| (name.as_bytes().to_vec(), entry)).to_vec();
        let mut folder = FolderNames { names, asked: 0, counts: None, before: None };
        for round in 0..LOOKS_MAX {
            let found = ["FOO", "bar", "ba", "\u{c9}T\u{c9}"].map(|name| folder.count(name.as_bytes()));
            assert_eq!(found, [2, 1, 0, 2], "round {round}");
        }
        assert!(folder.counts.is_some());
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
