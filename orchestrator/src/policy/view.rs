//! What the policies of one run look at: the caller's host, the places of the run, and what was found there. Each folder of `PATH` and each
//! home of a toolchain is walked once, however many policies want it shown and however often they are asked about: for a person's word, for
//! what is refused, for the cage.
//!
//! A view lives as long as a run takes to start. It is no cache: what was found is never looked at again, so whoever wants it anew makes
//! another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::installation::Part;
use super::on_path::Programs;
use super::paths::Guard;
use super::reason::Reason;
use super::unnamed::{Look, Withheld};
use super::{Host, Places};

/// What is found on a host for one run.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The caller's.
    pub host: &'a Host,
    /// What no policy may expose.
    pub places: Places<'a>,
    /// What was found so far.
    pub looked: &'a Looked,
}

impl<'a> View<'a> {
    /// What decides about paths.
    pub fn guard(self) -> Guard<'a> {
        let View { host, places, .. } = self;
        Guard { home: &host.home, own_state: &host.state, path: self.programs(), places }
    }

    /// What runs when the caller types a command.
    pub fn programs(self) -> &'a Programs {
        self.looked.programs.get_or_init(|| Programs::of(&self.host.path))
    }
}

/// What was found, each by what was asked.
#[derive(Debug, Default)]
pub struct Looked {
    programs: OnceLock<Programs>,
    /// What of a canonical path is to be hidden, or why it is not shown.
    judged: Mutex<BTreeMap<(PathBuf, Look), Result<Withheld, Reason>>>,
    beside: Mutex<BTreeMap<PathBuf, Beside>>,
    by_default: OnceLock<ByDefault>,
}

/// What the programs of a folder on `PATH` need, and links in it that were not followed.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// All of it.
    pub parts: Vec<Part>,
    /// How many.
    pub more: usize,
}

/// What tasks see, or may see by naming a toolchain, without asking; canonical paths.
#[derive(Debug, Default)]
pub struct ByDefault {
    /// Folders and files.
    pub shown: Vec<PathBuf>,
    /// What is hidden in them.
    pub hidden: Vec<PathBuf>,
}

impl ByDefault {
    /// Whether a canonical path is seen without asking.
    pub fn shows(&self, path: &Path) -> bool {
        let within = |all: &[PathBuf]| all.iter().any(|shown| path.starts_with(shown));
        within(&self.shown) && !within(&self.hidden)
    }
}

impl Looked {
    /// What of a canonical path is to be hidden, as `find` says when nobody asked before.
    pub fn judged(
        &self,
        path: &Path,
        look: Look,
        find: impl FnOnce() -> Result<Withheld, Reason>,
    ) -> Result<Withheld, Reason> {
        remembered(&self.judged, (path.to_owned(), look), find)
    }

    /// What a folder on `PATH` needs, as `find` says when nobody asked before.
    pub fn beside(&self, folder: &Path, find: impl FnOnce() -> Beside) -> Beside {
        remembered(&self.beside, folder.to_owned(), find)
    }

    /// What is seen without asking, as `find` says when nobody asked before.
    pub fn by_default(&self, find: impl FnOnce() -> ByDefault) -> &ByDefault {
        self.by_default.get_or_init(find)
    }
}

/// What is kept under a key, or is found and kept from now on.
fn remembered<K: Ord, V: Clone>(kept: &Mutex<BTreeMap<K, V>>, key: K, find: impl FnOnce() -> V) -> V {
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(&key) {
        return known.clone();
    }
    let found = find();
    lock().entry(key).or_insert(found).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_looked_at_once_for_each_way_to_look() {
        let (looked, mut looks) = (Looked::default(), 0);
        for (path, look) in [("/a", Look::Folder), ("/a", Look::Folder), ("/a", Look::Home), ("/b", Look::Folder)] {
            let found = looked.judged(Path::new(path), look, || {
                looks += 1;
                Ok(Withheld { hidden: vec![Path::new(path).join(".env")], unlooked: vec![] })
            });
            assert_eq!(found.map(|found| found.hidden), Ok(vec![Path::new(path).join(".env")]));
        }
        assert_eq!(looks, 3);
    }

    #[test]
    fn what_is_hidden_in_what_is_shown_is_not_seen() {
        let view = ByDefault { shown: vec!["/tools".into()], hidden: vec!["/tools/.git".into()] };
        let seen = ["/tools/bin", "/tools", "/tools/.git/config", "/other"].map(|path| view.shows(Path::new(path)));
        assert_eq!(seen, [true, true, false, false]);
    }
}
