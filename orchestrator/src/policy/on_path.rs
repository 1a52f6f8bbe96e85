//! What runs when the caller types a command: the folders of their `PATH`, and what links there lead to. `~/.local/bin/node` is a link to
//! `~/tools/node/bin/node`, by `~/tools/node`, which is a link again: who may write any of these decides what `node` is.
//!
//! It judges a canonical path that is to be written, by where it lies; it reads folders of `PATH` and links, nothing else. What is not
//! there yet counts, too: whoever makes it decides what it says.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::way;

/// Entries of one folder that are looked at. Nobody who is judged here made them.
const ENTRIES_MAX: usize = 100_000;

/// How a path lies to what runs by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnPath {
    /// In a folder on `PATH`.
    In,
    /// Around that folder, or a link by which `PATH` names it.
    Holds(PathBuf),
    /// Around what that link on `PATH` leads to, or a part of the way there; or it is that.
    Leads(PathBuf),
    /// Apart from all.
    Beside,
}

/// The folders of a `PATH`, listed when the first path is judged that lies in none of them.
#[derive(Debug, Default)]
pub struct Programs {
    folders: Vec<PathBuf>,
    ways: OnceLock<Vec<way::Way>>,
    /// The links that leave their folder, by folder, then by name, each with its way.
    links: OnceLock<Vec<(PathBuf, way::Way)>>,
}

impl Programs {
    /// Of these folders, absolute ones.
    pub fn of(folders: &[PathBuf]) -> Programs {
        Programs { folders: folders.to_vec(), ..Programs::default() }
    }

    /// Lists them now, for whoever asks later.
    pub fn look(&self) {
        self.links();
    }

    fn ways(&self) -> &[way::Way] {
        self.ways.get_or_init(|| way::to_each(self.folders.clone()).into_iter().map(|(_, way)| way).collect())
    }

    fn links(&self) -> &[(PathBuf, way::Way)] {
        self.links.get_or_init(|| self.ways().iter().flat_map(|way| leaving(&way.end)).collect())
    }

    /// How a canonical path lies to them.
    pub fn lies(&self, path: &Path) -> OnPath {
        let ways = self.ways();
        if ways.iter().any(|way| path.starts_with(&way.end)) {
            return OnPath::In;
        }
        for way in ways {
            if let Some(held) = [&way.end].into_iter().chain(&way.links).find(|place| place.starts_with(path)) {
                return OnPath::Holds(held.clone());
            }
        }
        let leads = |way: &way::Way| [&way.end].into_iter().chain(&way.links).any(|place| place.starts_with(path));
        let leading = self.links().iter().find(|(_, way)| leads(way));
        leading.map_or(OnPath::Beside, |(link, _)| OnPath::Leads(link.clone()))
    }
}

/// The links in a folder that leave it, by name.
fn leaving(folder: &Path) -> Vec<(PathBuf, way::Way)> {
    let entries = folder.read_dir().into_iter().flatten().flatten().take(ENTRIES_MAX);
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink())).map(|entry| entry.path());
    // Most links lead to their neighbours.
    let leaves = |link: &PathBuf| link.read_link().is_ok_and(|target| target.components().count() > 1);
    let mut links: Vec<PathBuf> = links.filter(leaves).collect();
    links.sort();
    way::to_each(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write_what_a_name_leads_to_decides_what_it_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        for folder in ["bin", "tools/v1/bin", "tools/v1/lib", "moved/bin", "hop", "data", "later", "named"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for (target, link) in [
            ("../hop/node", "bin/node"),
            ("node", "bin/same"),
            ("../later/x", "bin/x"),
            ("../tools/v1/bin/node", "hop/node"),
            ("../moved/bin", "named/bin"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).expect("a link");
        }
        std::fs::write(root.join("tools/v1/bin/node"), "").expect("a file");
        let programs = Programs::of(&[root.join("bin"), root.join("named/bin"), root.join("gone/bin")]);
        let check = |path: &str, expected: OnPath| assert_eq!(programs.lies(&root.join(path)), expected, "{path}");
        check("bin", OnPath::In);
        check("bin/sub", OnPath::In);
        check("moved/bin", OnPath::In);
        check("moved", OnPath::Holds(root.join("moved/bin")));
        check("named", OnPath::Holds(root.join("named/bin")));
        check("gone", OnPath::Holds(root.join("gone/bin")));
        for path in ["tools", "tools/v1/bin", "tools/v1/bin/node", "hop"] {
            check(path, OnPath::Leads(root.join("bin/node")));
        }
        check("later", OnPath::Leads(root.join("bin/x")));
        for path in ["data", "tools/v1/lib"] {
            check(path, OnPath::Beside);
        }
    }
}
