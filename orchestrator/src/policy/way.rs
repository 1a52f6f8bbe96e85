//! The way to a path: the links that lie on it, and who may have made them.
//!
//! A person's word names a place (`--allow write=~/work/sets`), and holds for more runs than one. Where a link lies on the way, whoever makes
//! that link says which place is meant; and a task that may write `~/work` makes links there as it likes. So a word follows those
//! links only that no task can have made: in a folder of the machine, in the home folder itself, in what runs by itself, none of which is ever
//! granted ([`super::paths`]), and out of every repository, whose tree a task may have changed. Everywhere else the person has to name
//! what the link leads to.
//!
//! It judges by names and owners, not by what else lies there: what a task may make decides nothing here. A way is walked once, and what
//! it came to is handed on: between two looks a task of another run may exchange a link.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

use super::SYSTEM;
use super::paths::{MACHINE, SHARED};
use super::running::runs_by_itself;

/// Links that one way may lead through: as many as the kernel follows. Source: path_resolution(7).
const LINKS_MAX: usize = 40;

/// Folders of the machine in which anybody makes what they like.
const ANYBODYS: [&str; 2] = ["/tmp", "/var/tmp"];

/// Folders in which Nix and Guix keep links into their stores.
const PROFILES: [&str; 2] = ["/nix/var/nix", "/var/guix"];

/// A way through the file system.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// Where it ends: canonical as far as something is there.
    pub end: PathBuf,
    /// The links on it, in the order in which they are met, each in its canonical folder.
    pub links: Vec<PathBuf>,
    /// Whether something is there, which no link hides.
    pub is_there: bool,
}

/// Where a path that somebody named leads, and who may have decided that: both of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Canonical as far as something is there.
    pub path: PathBuf,
    /// The first link on the way that a task may have made; none where the way is the person's alone.
    pub turned: Option<PathBuf>,
    /// Whether something is there.
    pub is_there: bool,
}

/// The way to an absolute path.
pub fn to(path: &Path) -> Way {
    Walk::default().way(path)
}

/// The ways to absolute paths, all of one look: through what many of them lead is looked at once.
pub fn to_each(paths: Vec<PathBuf>) -> Vec<(PathBuf, Way)> {
    let mut walk = Walk::default();
    paths.into_iter().map(|path| (path.clone(), walk.way(&path))).collect()
}

/// What a path is, without following it.
#[derive(Debug)]
enum Found {
    Nothing,
    /// A link, to where it says; `None` where that cannot be read.
    Link(Option<PathBuf>),
    /// A folder, a file or something else.
    Other,
}

/// A walk through the file system that looks at each path once.
#[derive(Debug, Default)]
struct Walk(HashMap<PathBuf, Found>);

impl Walk {
    fn at(&mut self, path: &Path) -> &Found {
        if !self.0.contains_key(path) {
            let found = match path.symlink_metadata() {
                Err(_) => Found::Nothing,
                Ok(meta) if meta.is_symlink() => Found::Link(path.read_link().ok()),
                Ok(_) => Found::Other,
            };
            self.0.insert(path.to_owned(), found);
        }
        &self.0[path]
    }

    fn way(&mut self, path: &Path) -> Way {
        let (mut ahead, mut end, mut links, mut is_there) = (steps(path), PathBuf::from("/"), Vec::new(), true);
        while let Some(step) = ahead.pop() {
            if step == ".." {
                end.pop();
                continue;
            }
            end.push(step);
            match self.at(&end) {
                Found::Other => {}
                Found::Link(Some(target)) if links.len() < LINKS_MAX => {
                    links.push(end.clone());
                    end.pop();
                    if target.is_absolute() {
                        end = PathBuf::from("/");
                    }
                    ahead.extend(steps(target));
                }
                Found::Nothing | Found::Link(_) => is_there = false,
            }
        }
        Way { end, links, is_there }
    }
}

/// The names of a path, the last first.
fn steps(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    named.rev().collect()
}

/// Where an absolute path leads that a plan or a person named.
pub fn place(path: &Path, home: &Path) -> Place {
    let (path, home) = from_home(path, home);
    let Way { end, links, is_there } = to(&path);
    Place { path: end, turned: links.into_iter().find(|link| !is_settled(link, &home)), is_there }
}

/// A path and the home folder, as it is called in full: how one comes to that is the machine's business.
fn from_home(path: &Path, home: &Path) -> (PathBuf, PathBuf) {
    let canonical = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    (path.strip_prefix(home).map_or_else(|_| path.to_owned(), |below| canonical.join(below)), canonical)
}

/// Where an absolute path leads that nobody named to us: canonical as far as something is there.
///
/// # Errors
/// The first link on the way which may be a task's doing and gains it something: what it leads to lies beside the folder that the link
/// is in. Whoever may write a folder may see what is in it, so `current -> 1.2` gains nothing; neither does what every cage shows.
pub fn unnamed(path: &Path, home: &Path) -> Result<PathBuf, PathBuf> {
    let (path, home) = from_home(path, home);
    let Way { end, links, .. } = to(&path);
    let stays = |link: &PathBuf| link.parent().is_some_and(|folder| to(link).end.starts_with(around(folder)));
    if SYSTEM.iter().any(|system| end.starts_with(system)) {
        return Ok(end);
    }
    match links.into_iter().find(|link| !is_settled(link, &home) && !stays(link)) {
        Some(link) => Err(link),
        None => Ok(end),
    }
}

/// An entry of the caller's `PATH` as cages know it: where it leads, unless a task may have led it there; then as it is called, and no
/// cage shows it.
pub fn of_path(folder: PathBuf, home: &Path) -> PathBuf {
    unnamed(&folder, home).unwrap_or(folder)
}

/// The folder in which a link right in another stays: Homebrew's `opt` leads to the Cellar beside it.
fn around(folder: &Path) -> &Path {
    let brew = folder.parent().filter(|prefix| folder.ends_with("opt") && prefix.join("Cellar").is_dir());
    brew.unwrap_or(folder)
}

/// Whether no task can have made a link. `home` is canonical.
fn is_settled(link: &Path, home: &Path) -> bool {
    let Some(folder) = link.parent() else { return false };
    let within = |folders: &[&str]| folders.iter().any(|of| folder.starts_with(of));
    let is = |folders: &[&str]| folders.iter().any(|of| folder == Path::new(of));
    let is_of_a_tree = || folder.ancestors().any(|above| above.join(".git").symlink_metadata().is_ok());
    let is_never_granted =
        folder.parent().is_none() || is(SHARED) || home.starts_with(folder) || runs_by_itself(folder, home);
    within(SYSTEM)
        || within(MACHINE)
        || within(&PROFILES)
        || !is(&ANYBODYS) && !is_of_a_tree() && (is_never_granted || is_the_machines(folder))
}

/// Whether nobody but the machine's owner makes anything in a folder, who is not the caller.
fn is_the_machines(folder: &Path) -> bool {
    let is_roots = |meta: std::fs::Metadata| meta.uid() == 0 && meta.mode() & 0o022 == 0;
    !geteuid().is_root() && folder.symlink_metadata().is_ok_and(is_roots)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A home and a disk beside it, with these links (`AT -> TARGET`), and the first that turns the way to `path`; `@` is the
    /// scene's folder.
    fn check(links: &[&str], path: &str, expected: Option<&str>) {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        for folder in ["home/work/repo/.git", "home/.local/bin", "disk/sets"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let whole = |text: &str| PathBuf::from(text.replace('@', &root.display().to_string()));
        for link in links {
            let (at, target) = link.split_once(" -> ").expect("a link");
            symlink(whole(target), whole(at)).expect("a link");
        }
        let found = place(&whole(path), &whole("@/home"));
        assert_eq!(found.turned, expected.map(whole), "{links:?} {path}");
        assert_eq!(found.is_there, whole(path).exists(), "{links:?} {path}");
        let end = to(&whole(path)).end;
        assert_eq!(end, whole(path).canonicalize().unwrap_or_else(|_| end.clone()), "{links:?} {path}");
    }

    #[test]
    fn a_link_where_a_task_may_write_turns_a_way() {
        check(&[], "@/home/work", None);
        check(&["@/home/work/sets -> @/disk/sets"], "@/home/work/sets", Some("@/home/work/sets"));
        check(&["@/home/work/sets -> @/disk"], "@/home/work/sets/sets", Some("@/home/work/sets"));
        check(&["@/home/work/a -> ../..", "@/b -> disk"], "@/home/work/a/b/sets", Some("@/home/work/a"));
        check(&["@/home/work/repo/data -> @/disk"], "@/home/work/repo/data", Some("@/home/work/repo/data"));
        check(&["@/home/data -> @/disk/x", "@/disk/x -> sets"], "@/home/data", Some("@/disk/x"));
        check(&["@/home/loop -> @/home/work/loop"], "@/home/loop", None);
    }

    #[test]
    fn a_link_that_stays_where_it_lies_gains_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        for folder in ["home/x/v1", "home/private", "brew/Cellar/go/1/bin", "brew/opt", "brew/more"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let check = |target: &str, link: &str, path: &str, expected: Option<&str>| {
            symlink(target, root.join(link)).expect("a link");
            let found = unnamed(&root.join(path), &root.join("home"));
            assert_eq!(found.err(), expected.map(|link| root.join(link)), "{link} -> {target}");
        };
        check("v1", "home/x/current", "home/x/current/bin", None);
        check("../private", "home/x/venv", "home/x/venv", Some("home/x/venv"));
        check("private", "home/venv", "home/venv", None);
        check("../Cellar/go/1", "brew/opt/go", "brew/opt/go/bin", None);
        check("../Cellar/go/1", "brew/more/go", "brew/more/go/bin", Some("brew/more/go"));
    }

    #[test]
    fn a_link_where_no_task_ever_writes_turns_none() {
        check(&["@/home/data -> @/disk/sets"], "@/home/data", None);
        check(&["@/home/.local/bin/x -> @/disk/sets"], "@/home/.local/bin/x", None);
        for path in ["/bin/sh", "/usr/bin/env"] {
            assert_eq!(place(Path::new(path), Path::new("/home/me")).turned, None);
        }
    }

    #[test]
    fn a_folder_on_path_is_followed_over_links_that_no_task_makes() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        let version = "home/.local/share/fnm/node-versions/v20/installation";
        for folder in [&format!("{version}/bin"), "home/.local/state/fnm_multishells", "home/work", "home/private/bin"]
        {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let followed = |target: &str, link: &str, path: &str| {
            symlink(root.join(target), root.join(link)).expect("a link");
            let found = of_path(root.join(path), &root.join("home"));
            found.strip_prefix(&root).expect("below").display().to_string()
        };
        let shell = "home/.local/state/fnm_multishells/17_1";
        assert_eq!(followed(version, shell, &format!("{shell}/bin")), format!("{version}/bin"));
        assert_eq!(followed("home/private", "home/mine", "home/mine/bin"), "home/private/bin");
        assert_eq!(followed("home/private", "home/work/venv", "home/work/venv/bin"), "home/work/venv/bin");
    }

    #[test]
    fn a_home_in_a_repository_of_its_own_is_a_tree() {
        check(&["@/home/.git -> @/disk", "@/home/data -> @/disk/sets"], "@/home/data", Some("@/home/data"));
    }
}
