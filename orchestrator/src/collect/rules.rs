//! What may stand in a result beyond what a single name says: where links may point, which names may stand side by side.

use std::collections::{BTreeMap, HashMap};

use git2::{Odb, Oid};

use super::Refusal;
use crate::entry_name::{folded, is_git_dir, is_steering_file};
use crate::tree::{self, Difference, TreeError};

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

/// Finds a new name that differs only in case from another one in its folder. Pairs that the base has already are its own.
///
/// # Errors
/// Those of reading trees.
pub fn case_collision(
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
                let mut counts = HashMap::new();
                for (name, _) in listing(result)?.unwrap_or_default() {
                    *counts.entry(folded(&name)).or_default() += 1;
                }
                let mut before = listing(base)?;
                before.iter_mut().for_each(|listing| listing.sort_by(|a, b| a.0.cmp(&b.0)));
                folders.insert(folder.to_vec(), FolderNames { counts, before });
            }
            let FolderNames { counts, before } = &folders[folder];
            let known = before
                .as_ref()
                .is_some_and(|listing| listing.binary_search_by(|(known, _)| known.as_slice().cmp(name)).is_ok());
            if !known && counts.get(&folded(name)).is_some_and(|&count| count > 1) {
                let reason = "its name differs only in case from another one in its folder".to_owned();
                return Ok(Some(Refusal::Hostile { path: path[..end].to_vec(), reason }));
            }
        }
    }
    Ok(None)
}

/// The names of one folder.
struct FolderNames {
    /// How many names of the result fold to one form.
    counts: HashMap<Vec<u8>, u32>,
    /// What the base has there, sorted by name.
    before: Option<tree::Listing>,
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
