//! Collects what a policy shows: what it names, what the caller's `PATH` and tools need, each once, parents before children.

use std::path::{Path, PathBuf};

use swarm_protocol::{Access, Grant, Tier};

use super::linked::linked;
use super::paths::{self, CREDENTIALS, Guard, SHARED};
use super::toolchains::Show;
use super::{Host, Places, SYSTEM};

/// Files in which a tool keeps credentials in its own home folder.
pub const TOOL_CREDENTIALS: &[&str] = &["credentials", "credentials.toml"];

/// What is shown beside the programs of a tool that has a folder of its own, where something marks it as one of a kind: libraries
/// and data, what a Java is configured by, the sources that a Go compiles.
const BESIDE: &[(&str, &[&str])] = &[
    ("bin", &["lib", "lib32", "lib64", "libx32", "libexec", "share", "include", "plugins", "boot"]),
    ("release", &["release", "conf", "jmods", "jre", "legal"]),
    ("pkg/tool", &["VERSION", "go.env", "pkg", "src", "misc"]),
];

/// Whether more of a folder than its programs may not be shown: many owners share it, or it is or lies in the home of
/// somebody, who need not be the caller (`sudo` keeps a `PATH`), or a tool that lives there keeps its credentials there.
pub fn may_hold_secrets(prefix: &Path) -> bool {
    let exists = |path: PathBuf| path.symlink_metadata().is_ok();
    let is_home = |folder: &Path| CREDENTIALS.iter().any(|name| exists(folder.join(name)));
    SHARED.iter().any(|shared| prefix == Path::new(shared))
        || prefix.parent() == Some(Path::new("/home"))
        || prefix.ancestors().filter(|folder| folder.parent().is_some()).any(is_home)
        || TOOL_CREDENTIALS.iter().any(|name| exists(prefix.join(name)))
}

/// Key, path and reason of what a policy names and cannot have.
pub type Unfit = (&'static str, String, paths::Reason);

/// Collects what is shown.
pub struct Showcase<'a> {
    /// What may not be exposed.
    pub places: Places<'a>,
    /// Whether folders can be shown copy-on-write.
    pub overlay: bool,
    /// What the policy names.
    pub named: Vec<Grant>,
    /// What the caller's `PATH` and tools need.
    pub grants: Vec<Grant>,
    /// Host folders to be seen copy-on-write.
    pub cows: Vec<PathBuf>,
}

impl Showcase<'_> {
    /// Shows a path of the host at its own place. What lies in the worktree is there already; what would expose the
    /// repository's `.git` or the state is left out.
    pub fn add(&mut self, path: PathBuf, show: Show) {
        let exposes = |place: &Path| place.starts_with(&path) || path.starts_with(place);
        let system = SYSTEM.iter().any(|dir| path.starts_with(dir));
        if system || path.starts_with(self.places.worktree) || exposes(self.places.git) || exposes(self.places.state) {
            return;
        }
        match show {
            Show::Cow if self.overlay && path.is_dir() => self.cows.push(path),
            Show::Cow | Show::Read => self.grants.push(Grant { at: path.clone(), path, access: Access::Read }),
        }
    }

    /// Shows a folder of the caller's `PATH`, and what programs in it usually need beside it: [`BESIDE`] outside of the
    /// home folder (`/opt/tool/share` for `/opt/tool/bin`), `lib` inside. Nobody was asked, so nothing else of the prefix is
    /// shown: it may be anybody's folder that has a `bin`.
    pub fn path_folder(&mut self, dir: &Path, host: &Host) {
        let home = host.home.as_path();
        let Some(prefix) = dir.parent() else { return };
        if !dir.is_dir() || home.starts_with(dir) {
            return;
        }
        self.add(dir.to_owned(), Show::Read);
        let guard = Guard { home, own_state: &host.state, path: &host.path, places: self.places };
        linked(dir, guard).into_iter().for_each(|(path, at)| self.add_link(at, path));
        if !dir.ends_with("bin") || prefix.parent().is_none() || home.starts_with(prefix) {
            return;
        }
        let is_tool = !dir.starts_with(home) && !may_hold_secrets(prefix);
        let kinds = BESIDE.iter().filter(|(mark, _)| prefix.join(mark).exists());
        let beside: Vec<&str> = kinds.flat_map(|(_, names)| names.iter().copied()).collect();
        let beside: Vec<PathBuf> =
            if is_tool { beside } else { vec!["lib"] }.into_iter().map(|name| prefix.join(name)).collect();
        for at in &beside {
            // A link (`lib64`) shows what it leads to, as long as that is shown anyway.
            match at.canonicalize() {
                Ok(path) if path == *at => self.add(path, Show::Read),
                Ok(path) if beside.contains(&path) => self.add_link(at.clone(), path),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Shows what a link leads to in the link's place.
    fn add_link(&mut self, at: PathBuf, path: PathBuf) {
        let before = self.grants.len();
        self.add(path, Show::Read);
        self.grants[before..].iter_mut().for_each(|grant| grant.at.clone_from(&at));
    }

    /// Settles what contradicts itself: what a policy says in so many words wins over what tools need, and of two things that
    /// it says itself one has to go.
    pub fn settle(&mut self, hide: &[(&String, PathBuf)], tier: Tier) -> Result<(), Unfit> {
        for (text, hidden) in hide {
            if self.named.iter().any(|grant| grant.at.starts_with(hidden)) {
                return Err(("hide", (*text).clone(), "it would hide what the same policy lets be read or written"));
            }
            self.grants.retain(|grant| !grant.at.starts_with(hidden));
            self.cows.retain(|cow| !cow.starts_with(hidden));
        }
        let written: Vec<&Path> =
            self.named.iter().filter(|grant| grant.access == Access::Write).map(|grant| &*grant.at).collect();
        // What may be written may be read: a tool's folder in it needs no grant that would take writing away.
        self.grants.retain(|grant| !written.iter().any(|tree| grant.at.starts_with(tree)));
        if tier > Tier::Landlock {
            return Ok(());
        }
        // There a job follows the link itself, to what is granted under its own name.
        self.grants.retain(|grant| grant.at == grant.path);
        let inside = |path: &Path| written.iter().any(|tree| path.starts_with(tree) && path != *tree);
        let narrowed = self.named.iter().find(|grant| grant.access == Access::Read && inside(&grant.at));
        if let Some(grant) = narrowed {
            let path = grant.at.display().to_string();
            return Err((
                "read",
                path,
                "the landlock tier cannot keep it read-only inside a folder that may be written",
            ));
        }
        match hide.iter().find(|(_, hidden)| inside(hidden)) {
            Some((text, _)) => Err((
                "hide",
                (*text).clone(),
                "the landlock tier cannot hide what lies in a folder that may be written",
            )),
            None => Ok(()),
        }
    }

    /// Parents before children, and nothing twice: a later mount may lie in an earlier one, never under it. What is granted
    /// as its nearest parent is needs no grant of its own.
    pub fn sorted(mut self) -> (Vec<Grant>, Vec<PathBuf>) {
        self.grants.append(&mut self.named);
        self.grants.sort_by(|a, b| a.at.cmp(&b.at).then((b.access == Access::Write).cmp(&(a.access == Access::Write))));
        self.grants.dedup_by(|later, earlier| later.at == earlier.at);
        let mut kept: Vec<Grant> = Vec::new();
        for grant in self.grants {
            let around = kept.iter().rfind(|around| grant.at.starts_with(&around.at));
            if around.is_none_or(|around| around.access != grant.access) {
                kept.push(grant);
            }
        }
        self.cows.sort();
        self.cows.dedup();
        let outer = self.cows.clone();
        self.cows.retain(|path| !outer.iter().any(|other| other != path && path.starts_with(other)));
        (kept, self.cows)
    }
}
