//! Which new names may stand in a result: what misleads whoever reads them, what differs from another name of its folder in case
//! only, what makes a folder a repository.
//!
//! One walk looks at each name that the base does not have once, in the order of their paths, and holds the folders on its way
//! only: however many folders a change has, and however many names it breaks a rule with, each folder is read once.

use std::collections::{HashMap, HashSet};

use git2::{Odb, Oid};

use super::{Refusal, is_at_or_below};
use crate::entry_name::{folded, is_bare_repository};
use crate::tree::{self, Difference, Listing, TreeError};

/// Names that are looked for in a folder one by one, before all of its names are indexed.
const LOOKS_MAX: u32 = 8;

/// The new names of a result that break a rule, up to `count_max` of them, in the order of their paths. Of two names that
/// collide only one does: without it, the other may stay. `differences` are sorted by path.
///
/// # Errors
/// Those of reading trees.
pub fn name_breaches(
    odb: &Odb<'_>,
    base: Oid,
    result: Oid,
    differences: &[Difference],
    count_max: usize,
) -> Result<Vec<Refusal>, TreeError> {
    let mut found: Vec<Refusal> = Vec::new();
    let mut told: Vec<u8> = Vec::new();
    let mut way = vec![Folder::read(odb, 0, Some(result), Some(base))?];
    let mut before: &[u8] = b"";
    for path in differences.iter().filter(|one| one.old.is_none()).map(|one| one.path.as_slice()) {
        if found.len() == count_max {
            break;
        }
        if !found.is_empty() && is_at_or_below(path, &told) {
            continue;
        }
        let is_on_the_way = |folder: &Folder| {
            let rest = path.strip_prefix(&before[..folder.length]);
            folder.length == 0 || rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        way.truncate(way.iter().take_while(|folder| is_on_the_way(folder)).count());
        before = path;
        if let Some((breach, reason)) = first_breach(odb, &mut way, path)? {
            told = breach.to_vec();
            found.push(Refusal::Hostile { path: told.clone(), reason: reason.to_owned() });
        }
    }
    Ok(found)
}

/// What of a path is refused, and why. The folders of `way` lead to it, and are judged; those behind them are added.
fn first_breach<'a>(
    odb: &Odb<'_>,
    way: &mut Vec<Folder>,
    path: &'a [u8],
) -> Result<Option<(&'a [u8], &'static str)>, TreeError> {
    loop {
        let folder = way.last_mut().expect("the root stays");
        let start = folder.length + usize::from(folder.length > 0);
        let length = path[start..].iter().position(|&byte| byte == b'/');
        let end = length.map_or(path.len(), |length| start + length);
        let name = &path[start..end];
        if let Some((breach, reason)) = folder.breach(name) {
            let whole = if breach == Breach::OfFolder { folder.length } else { end };
            return Ok(Some((&path[..whole], reason)));
        }
        if end == path.len() {
            return Ok(None);
        }
        let below = |listing: &Listing| tree::get(listing, name).filter(|entry| entry.is_tree()).map(|entry| entry.id);
        let (after, before) = (below(&folder.names), folder.before.as_ref().and_then(below));
        way.push(Folder::read(odb, end, after, before)?);
    }
}

/// What a new name is refused with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breach {
    OfName,
    /// The folder as a whole.
    OfFolder,
}

/// A folder on the way.
struct Folder {
    /// How much of the path names it.
    length: usize,
    /// What the result has there, without what was refused.
    names: Listing,
    /// What the base has there.
    before: Option<Listing>,
    /// How often its names were looked through.
    asked: u32,
    /// How many of them fold to one form, once that pays.
    counts: Option<HashMap<Vec<u8>, u32>>,
}

impl Folder {
    fn read(odb: &Odb<'_>, length: usize, after: Option<Oid>, before: Option<Oid>) -> Result<Self, TreeError> {
        let list = |id: Option<Oid>| id.map(|id| tree::list(odb, id)).transpose();
        let (names, before) = (list(after)?.unwrap_or_default(), list(before)?);
        Ok(Folder { length, names, before, asked: 0, counts: None })
    }

    /// Judges a name of the result's; one that the base has already is its own.
    fn breach(&mut self, name: &[u8]) -> Option<(Breach, &'static str)> {
        if self.before.as_ref().is_some_and(|before| tree::get(before, name).is_some()) {
            return None;
        }
        if let Some(reason) = why_misleading(name) {
            return Some((Breach::OfName, reason));
        }
        if self.count(name) > 1 {
            self.forget(name);
            return Some((Breach::OfName, "its name differs only in case from another one in its folder"));
        }
        if !self.becomes_repository(name) {
            return None;
        }
        if self.length > 0 {
            return Some((Breach::OfFolder, "a repository inside: git would obey its config"));
        }
        // The root cannot be left out, and without this name it is none.
        self.names.retain(|(known, _)| known != name);
        Some((Breach::OfName, "it makes the root of the tree a repository: git would obey its config"))
    }

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

    /// Counts a name no more.
    fn forget(&mut self, name: &[u8]) {
        match &mut self.counts {
            // Nothing but counts is asked from now on.
            Some(counts) => *counts.entry(folded(name)).or_insert(1) -= 1,
            None => self.names.retain(|(known, _)| known != name),
        }
    }

    /// Whether git takes the folder for a repository without a work tree because of a name, and did not before: whoever runs git
    /// inside of it runs what its `config` says.
    fn becomes_repository(&self, name: &[u8]) -> bool {
        const PARTS: [&[u8]; 4] = [b"HEAD", b"objects", b"refs", b"commondir"];
        PARTS.iter().any(|part| part.eq_ignore_ascii_case(name))
            && is_repository(&self.names)
            && !self.before.as_ref().is_some_and(is_repository)
    }
}

fn is_repository(listing: &Listing) -> bool {
    // Some file systems know no letters by their case.
    let names: HashSet<Vec<u8>> = listing.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    is_bare_repository(|name| names.contains(name.to_ascii_lowercase().as_bytes()))
}

/// Why a new name is refused that acts on a terminal or splits a list where it is shown, or that is a path on another system.
/// Git takes such names.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, FILE};

    fn folder(names: &[&str]) -> Folder {
        let entry = Entry { mode: FILE, id: Oid::ZERO_SHA1 };
        let names = names.iter().map(|name| (name.as_bytes().to_vec(), entry)).collect();
        Folder { length: 0, names, before: None, asked: 0, counts: None }
    }

    #[test]
    fn names_are_counted_alike_one_by_one_and_by_index() {
        let mut folder = folder(&["Foo", "foo", "bar", "\u{c9}t\u{e9}", "\u{e9}t\u{e9}"]);
        for round in 0..LOOKS_MAX {
            let found = ["FOO", "bar", "ba", "\u{c9}T\u{c9}"].map(|name| folder.count(name.as_bytes()));
            assert_eq!(found, [2, 1, 0, 2], "round {round}");
        }
        assert!(folder.counts.is_some());
    }

    #[test]
    fn of_names_that_collide_all_but_one_are_refused() {
        for rounds in [0, LOOKS_MAX] {
            let mut folder = folder(&["A", "FOO", "Foo", "foo"]);
            (0..rounds).for_each(|_| _ = folder.count(b"A"));
            let refused = ["A", "FOO", "Foo", "foo"].map(|name| folder.breach(name.as_bytes()).is_some());
            assert_eq!(refused, [false, true, true, false], "after {rounds} looks");
        }
    }

    #[test]
    fn a_folder_is_a_repository_by_the_names_in_it() {
        assert!(folder(&["HEAD", "objects", "refs"]).becomes_repository(b"refs"));
        assert!(folder(&["Head", "CommonDir"]).becomes_repository(b"Head"));
        assert!(!folder(&["HEAD", "objects", "refs"]).becomes_repository(b"x"));
        assert!(!folder(&["HEAD", "objects"]).becomes_repository(b"HEAD"));
    }

    #[test]
    fn of_a_root_that_is_a_repository_one_name_is_refused() {
        let names = ["HEAD", "config", "objects", "refs"];
        let refused = |mut folder: Folder| names.map(|name| folder.breach(name.as_bytes()).map(|(breach, _)| breach));
        assert_eq!(refused(folder(&names)), [Some(Breach::OfName), None, None, None]);
        let inside = refused(Folder { length: 3, ..folder(&names) });
        assert_eq!(inside, [Some(Breach::OfFolder), None, Some(Breach::OfFolder), Some(Breach::OfFolder)]);
    }
}
