//! Collects what a policy shows: what it names, what the caller's `PATH` and tools need, each once, parents before children.

use std::path::{Path, PathBuf};

use swarm_protocol::{Access, Grant, Tier};

use super::installation::{self, Way};
use super::linked::{self, linked};
use super::paths::{Guard, KERNEL, MACHINE};
use super::reason::Reason;
use super::toolchains::{Home, Show};
use super::unnamed::{Look, Withheld, can_hide, withheld};
use super::view::{Beside, Looked};
use super::{Places, SYSTEM, View, way};

/// Files in which a tool keeps credentials in its own home folder.
pub const TOOL_CREDENTIALS: &[&str] = &["credentials", "credentials.toml"];

/// Where a path leads.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether every cage shows a path without being told to.
fn is_of_the_system(path: &Path) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder))
}

/// Key, path and reason of what a policy names and cannot have.
pub type Unfit = (&'static str, String, Reason);

/// Paths that are shown or hidden for the sake of `PATH`, all together: half of what a cage takes.
const PATHS_MAX: usize = 2_000;

/// Folders that are not shown and named; of more, their number is.
const NAMED_MAX: usize = 8;

/// What the programs of a folder on `PATH` need of their installation, and of those that links lead to.
fn beside(folder: &Path, guard: Guard<'_>) -> Beside {
    let home = guard.home.canonicalize().unwrap_or_else(|_| guard.home.to_owned());
    let mut parts = installation::parts(folder, Way::Folder, &home);
    let shown: Vec<PathBuf> = parts.iter().map(|part| part.path.clone()).collect();
    let links = linked(folder, &shown, guard, &home);
    parts.extend(links.parts);
    Beside { parts, more: links.more }
}

/// Collects what is shown.
pub struct Showcase<'a> {
    /// What may not be exposed.
    pub guard: Guard<'a>,
    looked: &'a Looked,
    /// What the cage can hide depends on it.
    pub tier: Tier,
    /// Whether folders can be shown copy-on-write.
    pub overlay: bool,
    /// What the policy names.
    pub named: Vec<Grant>,
    /// What the caller's `PATH` and tools need.
    pub grants: Vec<Grant>,
    /// Host folders to be seen copy-on-write.
    pub cows: Vec<PathBuf>,
    /// What is hidden of what the caller's `PATH` and tools need.
    pub withheld: Vec<PathBuf>,
    /// What of it is not shown, and why.
    pub left_out: Vec<String>,
}

impl<'a> Showcase<'a> {
    /// Shows nothing yet.
    pub fn new(view: View<'a>, tier: Tier, overlay: bool) -> Self {
        let (guard, looked) = (view.guard(), view.looked);
        let (named, grants, cows) = (Vec::new(), Vec::new(), Vec::new());
        Showcase { guard, looked, tier, overlay, named, grants, cows, withheld: Vec::new(), left_out: Vec::new() }
    }

    /// Shows a path that somebody asked for and that is granted.
    pub fn add(&mut self, path: PathBuf, show: Show) {
        self.put(path.clone(), path, show);
    }

    /// Shows the home of a toolchain, or says why not.
    pub fn home(&mut self, Home { path, show, look }: Home) {
        if let Err(reason) = self.unasked(path.clone(), path.clone(), show, look) {
            self.left_out.push(format!("a toolchain keeps `{}`, which no task sees: {reason}", path.display()));
        }
    }

    /// Shows a folder of the caller's `PATH` (or says why not), what its programs need of the installation that they lie in
    /// ([`installation`]), and what links in it lead to ([`linked`]). Nobody was asked, so nothing else of the prefix is shown: it may be
    /// anybody's folder that has a `bin`.
    pub fn path_folder(&mut self, dir: &Path) {
        if !dir.is_dir() {
            return;
        }
        if let Err(reason) = self.unasked(dir.to_owned(), dir.to_owned(), Show::Read, Look::Folder) {
            self.left_out.push(format!("PATH names `{}`, which no task sees: {reason}", dir.display()));
            return;
        }
        let Beside { parts, more } = self.looked.beside(dir, || beside(dir, self.guard));
        if more > 0 {
            let most = linked::LINKS_MAX;
            self.left_out.push(format!(
                "PATH names `{}`, in which {more} more links than {most} lead out of it: no task sees what they lead to",
                dir.display()
            ));
        }
        for part in parts {
            // Nobody names what lies beside a program, so nobody misses it by name.
            _ = self.unasked(part.path.clone(), part.path.clone(), Show::Read, part.look);
            if part.at != part.path {
                _ = self.unasked(part.at, part.path, Show::Read, part.look);
            }
        }
    }

    /// What nobody sees of what is shown, or would have seen otherwise: for people, each once.
    pub fn omissions(&self) -> Vec<String> {
        let more = self.left_out.len().saturating_sub(NAMED_MAX);
        let more = (more > 0).then(|| format!("{more} more folders of PATH are not seen by any task"));
        self.left_out.iter().take(NAMED_MAX).cloned().chain(more).collect()
    }

    /// Shows at a place what no policy names, without what is withheld of it. What lies in the worktree or in a folder of the system
    /// is there already.
    fn unasked(&mut self, at: PathBuf, path: PathBuf, show: Show, look: Look) -> Result<(), Reason> {
        let Ok(real) = way::unnamed(&path, self.guard.home) else {
            return Err(Reason::Never(
                "a link that a task may have made leads there; `read` can name what it leads to",
            ));
        };
        if real.symlink_metadata().map_or(true, |found| found.is_symlink()) {
            return Err(Reason::Never("it cannot be reached"));
        }
        if is_of_the_system(&at) || real.starts_with(self.guard.places.worktree) || self.is_the_repositorys(&at) {
            return Ok(());
        }
        let is_the_machines = |folder: &&str| at.starts_with(folder) && !real.starts_with(folder);
        if KERNEL.iter().chain(MACHINE).any(is_the_machines) {
            return Ok(());
        }
        let Withheld { hidden, unlooked } = self.withheld_of(&real, look)?;
        let count = self.grants.len() + self.cows.len() + self.withheld.len();
        if count + hidden.len() >= PATHS_MAX {
            return Err(Reason::Never("PATH holds more than a cage can show"));
        }
        for part in unlooked {
            let said = format!(
                "`{}` holds too much to look for credentials in it, or cannot be read to its end: no task sees it",
                part.display()
            );
            if !self.left_out.contains(&said) {
                self.left_out.push(said);
            }
        }
        // There a job follows a link itself.
        let at = if self.tier == Tier::Landlock && at == path { real.clone() } else { at };
        let under = |place: &Path| {
            let below = hidden.iter().filter_map(|hidden| hidden.strip_prefix(&real).ok());
            below.map(|below| place.join(below)).collect::<Vec<_>>()
        };
        self.withheld.extend(under(&at));
        self.withheld.extend(under(&real));
        self.put(at, real, show);
        Ok(())
    }

    /// What of a canonical path is to be hidden, or why it is not shown: looked at once, however many places lead there. What every
    /// cage shows may be shown at any other place, too.
    fn withheld_of(&self, real: &Path, look: Look) -> Result<Withheld, Reason> {
        if is_of_the_system(real) {
            return Ok(Withheld::default());
        }
        let withheld = self.looked.judged(real, look, || withheld(real, look, self.guard))?;
        can_hide(real, &withheld.hidden, self.tier).map(|()| withheld)
    }

    /// Whether a place at which something is to be seen is the worktree's business, by its name or by where its folder lies: what is
    /// put there would look like a change.
    fn is_the_repositorys(&self, at: &Path) -> bool {
        let real = at.parent().and_then(|folder| folder.canonicalize().ok()).zip(at.file_name());
        let real = real.map(|(folder, name)| folder.join(name));
        let Places { worktree, git, state } = self.guard.places;
        let inside = |at: &Path| [worktree, git, state].iter().any(|place| at.starts_with(place));
        inside(at) || real.is_some_and(|real| inside(&real))
    }

    /// Shows a path at a place.
    fn put(&mut self, at: PathBuf, path: PathBuf, show: Show) {
        if is_of_the_system(&at) || at.starts_with(self.guard.places.worktree) {
            return;
        }
        match show {
            Show::Cow if self.overlay && path.is_dir() => self.cows.push(path),
            Show::Cow | Show::Read => self.grants.push(Grant { at, path, access: Access::Read }),
        }
    }

    /// What is to be hidden of what is shown in the end, but for what somebody asked for; sorted.
    pub fn hidden(&self, asked: &[PathBuf]) -> Vec<PathBuf> {
        let shown = |path: &Path| {
            self.grants.iter().any(|grant| path.starts_with(&grant.at))
                || self.cows.iter().any(|cow| path.starts_with(cow))
        };
        let mut hidden = self.withheld.clone();
        hidden.retain(|path| shown(path) && !asked.iter().any(|asked| asked.starts_with(path)));
        hidden.sort();
        hidden.dedup_by(|later, earlier| later.starts_with(&*earlier));
        hidden
    }

    /// The other places at which canonical paths that are to be hidden would be seen: what links on `PATH` lead to is shown by each of
    /// its names. None of it is what a policy names, which is shown where it lies.
    pub fn twins(&self, hidden: &[PathBuf]) -> Vec<PathBuf> {
        let cows = self.cows.iter().map(|cow| (cow, real(cow)));
        let shown: Vec<_> = self.grants.iter().map(|grant| (&grant.at, real(&grant.path))).chain(cows).collect();
        let twin = |(at, real): &(&PathBuf, PathBuf), hidden: &PathBuf| {
            let below = hidden.strip_prefix(real).ok().filter(|_| real != *at)?;
            Some(at.join(below))
        };
        hidden.iter().flat_map(|hidden| shown.iter().filter_map(move |shown| twin(shown, hidden))).collect()
    }

    /// Settles what contradicts itself: what a policy says in so many words wins over what tools need, and of two things that
    /// it says itself one has to go.
    pub fn settle(&mut self, hide: &[(&String, PathBuf)], tier: Tier) -> Result<(), Unfit> {
        for (text, hidden) in hide {
            if self.named.iter().any(|grant| grant.at.starts_with(hidden)) {
                let reason = Reason::Never("it would hide what the same policy lets be read or written");
                return Err(("hide", (*text).clone(), reason));
            }
            // By whichever name it is shown.
            let is_in_it = |at: &Path, path: &Path| at.starts_with(hidden) || real(path).starts_with(hidden);
            self.grants.retain(|grant| !is_in_it(&grant.at, &grant.path));
            self.cows.retain(|cow| !is_in_it(cow, cow));
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
                Reason::Never("the landlock tier cannot keep it read-only inside a folder that may be written"),
            ));
        }
        match hide.iter().find(|(_, hidden)| inside(hidden)) {
            Some((text, _)) => Err((
                "hide",
                (*text).clone(),
                Reason::Never("the landlock tier cannot hide what lies in a folder that may be written"),
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
