//! Files with other names: a command that may write a folder writes through a hard link in it to wherever the other name lies,
//! and no cage sees that, since it is one file. Which those are is said before the command starts; a package store (pnpm's, uv's) is
//! the usual one, so it is no reason to refuse the folder.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use swarm_orchestrator::entry_name::is_git_dir;
use swarm_orchestrator::report::{sanitize, words};

use crate::commands::failure::Failure;
use crate::commands::repositories::ENTRIES_MAX;
use crate::commands::surroundings::Surroundings;

/// Files that the warning names.
const NAMED_MAX: usize = 3;

/// What was found in a folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Linked {
    /// Files that have a name outside, by one that they have inside; below the folder, sorted.
    files: Vec<PathBuf>,
    /// Whether all of the folder was looked at.
    is_all: bool,
}

/// Says which files of a folder, which a command may write, are written outside of it, too.
///
/// # Errors
/// Nobody reads it.
pub fn say(folder: &Path, it: &Surroundings) -> Result<(), Failure> {
    match warning(folder, &linked_outside(folder, ENTRIES_MAX)) {
        Some(warning) => it.err.write(&format!("swarm: {warning}\n")),
        None => Ok(()),
    }
}

fn warning(folder: &Path, linked: &Linked) -> Option<String> {
    let place = sanitize::name(&folder.to_string_lossy());
    if linked.files.is_empty() {
        let words = format!(
            "{place} holds too much to look for files with names outside of it: those would be written there, too"
        );
        return (!linked.is_all).then_some(words);
    }
    let list = words::first_of(linked.files.iter().map(|file| sanitize::name(&file.to_string_lossy())), NAMED_MAX);
    let have = if linked.files.len() == 1 {
        "1 file has a name".to_owned()
    } else {
        format!("{} files have names", linked.files.len())
    };
    Some(format!("{have} outside of {place}, too, and what the command writes to them changes there: {list}"))
}

/// Files below a folder of whose names some lie elsewhere. Follows no link, and looks into no `.git`, which stays read-only. What
/// cannot be looked at cannot be written either, but by who changes that.
fn linked_outside(folder: &Path, entries_max: usize) -> Linked {
    // By device and number: a name inside, how many there are in all and how many inside.
    let mut seen: HashMap<(u64, u64), (PathBuf, u64, u64)> = HashMap::new();
    let (mut open, mut left) = (vec![folder.to_owned()], entries_max);
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(&here).into_iter().flatten().flatten() {
            let Some(still) = left.checked_sub(1) else {
                return Linked { files: outside(seen, folder), is_all: false };
            };
            left = still;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !is_git_dir(entry.file_name().as_encoded_bytes()) {
                open.push(entry.path());
            }
            let file = kind.is_file().then(|| entry.metadata().ok()).flatten().filter(|file| file.nlink() > 1);
            if let Some(file) = file {
                let names = seen.entry((file.dev(), file.ino())).or_insert_with(|| (entry.path(), file.nlink(), 0));
                names.2 += 1;
            }
        }
    }
    Linked { files: outside(seen, folder), is_all: true }
}

fn outside(seen: HashMap<(u64, u64), (PathBuf, u64, u64)>, folder: &Path) -> Vec<PathBuf> {
    let some = seen.into_values().filter(|(_, all, inside)| inside < all);
    let mut files: Vec<PathBuf> =
        some.map(|(path, ..)| path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path)).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_are_told_from_names_inside() {
        let dir = tempfile::tempdir().expect("a folder");
        let (top, out) = (dir.path().join("in"), dir.path().join("out"));
        for folder in [&top.join("deep"), &top.join(".git"), &out] {
            fs::create_dir_all(folder).expect("a folder");
        }
        for file in ["a", "b", "c", "d", "e", "alone", ".git/x"] {
            fs::write(top.join(file), file).expect("a file");
        }
        fs::hard_link(top.join("a"), top.join("deep/a2")).expect("one file system");
        fs::hard_link(top.join("b"), top.join("deep/b2")).expect("one file system");
        for file in ["b", "c", "d", "e", ".git/x"] {
            fs::hard_link(top.join(file), out.join(file.replace('/', "-"))).expect("one file system");
        }
        let linked = linked_outside(&top, 100);
        let names: Vec<String> = linked.files.iter().map(|file| file.display().to_string()).collect();
        assert_eq!((names[1..].join(" "), names.len(), linked.is_all), ("c d e".to_owned(), 4, true));
        assert!(warning(&top, &linked).is_some_and(|said| said.contains("4 files") && said.ends_with("d and 1 more")));
        assert_eq!(warning(&top, &Linked { files: vec![], is_all: true }), None);
        assert!(warning(&top, &linked_outside(&top, 0)).is_some_and(|said| said.contains("too much")));
    }
}
