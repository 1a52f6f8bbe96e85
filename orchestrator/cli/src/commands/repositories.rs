//! The repositories in a folder that a command may write: each `.git` folder, each `.git` file that points to one (worktrees,
//! submodules), and each folder that git takes for a repository without a work tree. Git obeys their config and hooks, so a
//! command that nobody trusts may change none of them, and may not move one aside to put its own in the place.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use swarm_orchestrator::entry_name::is_git_dir;
use swarm_orchestrator::state;

use crate::commands::failure::Failure;
use crate::commands::opened_folder::{HANDLE, Identity, OpenedFolder, has, open_to_owner};

/// The most entries that are looked through: a second or two of a warm disk.
pub const ENTRIES_MAX: usize = 2_000_000;
/// The most repositories: each becomes a mount of its own in the cage.
const REPOSITORIES_MAX: usize = 1_000;

/// What of a folder belongs to a repository's own state.
#[derive(Debug, Default)]
pub struct Repositories {
    /// Absolute path of the folder.
    folder: PathBuf,
    /// Sorted by path.
    parts: Vec<Part>,
    /// State folders of swarm, of whatever repository; sorted by path. Nothing in one of them is looked at.
    states: Vec<Part>,
    /// Each of them, opened: nothing new gets the inode of one that somebody removes.
    _held: Vec<OwnedFd>,
}

/// A `.git`, or a repository without a work tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Below the folder that was looked through; empty for that folder itself.
    pub path: PathBuf,
    /// What lies at a known path later may be something else.
    pub identity: Identity,
}

impl Part {
    /// Opens the part itself and the folder that holds it, if that is not the folder that was looked through; `None` where
    /// something else lies there by now.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn open(&self, folder: &OpenedFolder) -> io::Result<Option<(Option<OwnedFd>, OwnedFd)>> {
        let (above, opened) = match (self.path.parent(), self.path.file_name()) {
            (Some(above), Some(name)) => {
                let Some(above) = folder.folder(above)? else { return Ok(None) };
                match openat(&above, name, HANDLE, Mode::empty()) {
                    Ok(opened) => (Some(above), opened),
                    Err(Errno::NOENT) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            _ => {
                let Some(opened) = folder.folder(&self.path)? else { return Ok(None) };
                (None, opened)
            }
        };
        Ok((Identity::of(&opened)? == self.identity).then_some((above, opened)))
    }
}

/// What is done about folders that nobody may list.
#[derive(Debug, Clone, Copy)]
enum Closed<'a> {
    /// The caller's own are an error: a command could open them. Those of others stay closed for it, too.
    Refused,
    /// The caller's own are opened to them, but for what was there before: git would find what lies in one that only cannot be
    /// listed.
    Opened(&'a Repositories),
}

impl Closed<'_> {
    /// Whether what lies in a state folder is nobody's business: a command that makes one hides nothing in it.
    fn leaves(self, state: &Part) -> bool {
        match self {
            Closed::Refused => true,
            Closed::Opened(before) => before.states.iter().any(|known| known.identity == state.identity),
        }
    }
}

impl Repositories {
    /// Looks through a folder; follows no link, and looks into no `.git`.
    ///
    /// # Errors
    /// The folder is part of a repository's own state, or it cannot be looked through.
    pub fn below(folder: &OpenedFolder) -> Result<Self, Failure> {
        let (parts, states) = look_through(folder, Closed::Refused)?;
        let path = folder.path();
        if path.components().any(|part| is_git(part.as_os_str())) || parts.iter().any(|part| part.path == Path::new(""))
        {
            let message = format!("open {} to the command: git obeys what lies in it", path.display());
            return Err(Failure::usage(message, "go to the work tree, or use --ro".to_owned()));
        }
        let hold = |part: &Part| match part.open(folder) {
            Ok(Some((_, opened))) => Ok(opened),
            Ok(None) => Err(failed(folder, &part.path, &io::Error::other("it changed meanwhile"))),
            Err(error) => Err(failed(folder, &part.path, &error)),
        };
        let held = parts.iter().chain(&states).map(hold).collect::<Result<_, _>>()?;
        Ok(Repositories { folder: path.to_owned(), parts, states, _held: held })
    }

    /// What of a folder is a repository now and was not one of these under any name, sorted by path.
    ///
    /// # Errors
    /// It cannot be looked through.
    pub fn new_below(&self, folder: &OpenedFolder) -> Result<Vec<Part>, Failure> {
        let (mut all, _) = look_through(folder, Closed::Opened(self))?;
        all.retain(|part| !self.parts.iter().any(|before| before.identity == part.identity));
        Ok(all)
    }

    /// What must not be written: absolute paths, sorted.
    pub fn parts(&self) -> impl Iterator<Item = PathBuf> {
        self.parts.iter().map(|part| self.folder.join(&part.path))
    }

    /// The state folders in it, which nobody is shown: absolute paths, sorted.
    pub fn states(&self) -> impl Iterator<Item = PathBuf> {
        self.states.iter().map(|state| self.folder.join(&state.path))
    }

    /// The folders between the folder and the repositories and state folders in it, sorted. Each of them could be renamed with all that it
    /// holds, and another one be made under its name.
    pub fn ways(&self) -> BTreeSet<PathBuf> {
        let between = |part: PathBuf| {
            let above = part.ancestors().skip(1).take_while(|above| *above != self.folder);
            above.map(Path::to_owned).collect::<Vec<_>>()
        };
        let mut ways: BTreeSet<PathBuf> = self.parts().chain(self.states()).flat_map(between).collect();
        ways.retain(|way| !self.parts().any(|part| way.starts_with(part)));
        ways
    }
}

/// All parts of repositories in a folder and all state folders, sorted. What is put somewhere else meanwhile may be missed: the end of the command
/// that does so finds it.
fn look_through(folder: &OpenedFolder, closed: Closed<'_>) -> Result<(Vec<Part>, Vec<Part>), Failure> {
    let (mut parts, mut states, mut open, mut entries) = (Vec::new(), Vec::new(), vec![PathBuf::new()], 0);
    while let Some(below) = open.pop() {
        let found = look_into(folder, &below, closed).map_err(|error| failed(folder, &below, &error))?;
        entries += found.entries;
        parts.extend(found.parts);
        states.extend(found.state);
        open.extend(found.folders);
        if entries > ENTRIES_MAX || parts.len() + states.len() > REPOSITORIES_MAX {
            let what = if entries > ENTRIES_MAX { "2,000,000 entries" } else { "1,000 repositories" };
            let message = format!("open {} to the command: it holds more than {what}", folder.path().display());
            return Err(Failure::usage(message, "go to a smaller folder, or use swarm exec".to_owned()));
        }
    }
    parts.sort();
    states.sort();
    Ok((parts, states))
}

fn failed(folder: &OpenedFolder, below: &Path, error: &io::Error) -> Failure {
    let message = format!("look for repositories in {}: {error}", folder.path().join(below).display());
    Failure::environment(message, "use --ro, or swarm exec".to_owned())
}

/// What one folder holds; paths are below the folder that is looked through.
#[derive(Default)]
struct Found {
    entries: usize,
    parts: Vec<Part>,
    /// The folder itself, where it is a state folder that nobody looks into.
    state: Option<Part>,
    folders: Vec<PathBuf>,
}

/// One folder; an empty answer where none lies there any more.
fn look_into(folder: &OpenedFolder, below: &Path, closed: Closed<'_>) -> io::Result<Found> {
    let mut found = Found::default();
    let Some(here) = folder.folder(below)? else { return Ok(found) };
    if state::is_state_at(&here) {
        found.state =
            Some(Part { path: below.to_owned(), identity: Identity::of(&here)? }).filter(|it| closed.leaves(it));
        if found.state.is_some() {
            return Ok(found);
        }
    }
    if is_bare(&here) {
        found.parts.push(Part { path: below.to_owned(), identity: Identity::of(&here)? });
    }
    let Some(listing) = list(&here, closed)? else { return Ok(found) };
    for entry in listing {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        found.entries += 1;
        if is_git(name) {
            match Identity::at(&here, name) {
                Ok(identity) => found.parts.push(Part { path: below.join(name), identity }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        } else if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            found.folders.push(below.join(name));
        }
    }
    Ok(found)
}

/// What a folder holds; `None` where that is nobody's business: it is gone, or closed and not the caller's.
fn list(folder: &OwnedFd, closed: Closed<'_>) -> io::Result<Option<Dir>> {
    let read = || {
        let opened = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Dir::new(opened)
    };
    match read() {
        Ok(listing) => return Ok(Some(listing)),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ACCESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mine = fstat(folder)?.st_uid == rustix::process::geteuid().as_raw();
    match closed {
        _ if !mine => Ok(None),
        Closed::Refused => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is closed, and the command could open it"))
        }
        Closed::Opened(before) => {
            let identity = Identity::of(folder)?;
            if before.parts.iter().any(|part| part.identity == identity) {
                return Ok(None);
            }
            open_to_owner(folder)?;
            Ok(Some(read()?))
        }
    }
}

/// Whether git, on whatever file system, takes an entry of this name for a work tree's repository.
fn is_git(name: &OsStr) -> bool {
    is_git_dir(name.as_bytes())
}

/// Whether git takes a folder for a repository. Source: git's `is_git_directory`: `HEAD` beside `objects` and `refs`, or beside
/// `commondir`.
fn is_bare(folder: impl AsFd) -> bool {
    let has = |name: &str| has(&folder, OsStr::new(name));
    has("HEAD") && (has("commondir") || has("objects") && has("refs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_orchestrator::state::StateDir;

    #[test]
    fn every_kind_of_repository_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let top = dir.path().canonicalize().expect("it exists");
        for folder in [".git/hooks", "vendor/x/.git", "sub", "bare.git/objects", "bare.git/refs", "plain/objects"] {
            std::fs::create_dir_all(top.join(folder)).expect("a folder");
        }
        std::fs::create_dir_all(top.join("kept/st/bases/x/.git")).expect("a folder");
        for file in ["sub/.git", "bare.git/HEAD", "plain/HEAD", ".gitignore", "vendor/SWARM-STATE"] {
            std::fs::write(top.join(file), "gitdir: elsewhere\n").expect("a file");
        }
        let state = |path: &str| drop(StateDir::open(&top.join(path)).expect("a state folder"));
        state("kept/st");
        std::os::unix::fs::symlink("vendor", top.join("link")).expect("a link");
        let open = |folder: &Path| OpenedFolder::open(folder).expect("it is there");
        let found = Repositories::below(&open(&top)).expect("it is small");
        let short = |path: PathBuf| path.strip_prefix(&top).expect("below").to_owned();
        let ways: Vec<_> = found.ways().into_iter().map(short).collect();
        assert_eq!(ways, ["kept", "sub", "vendor", "vendor/x"].map(Path::new));
        assert_eq!(found.states().map(short).collect::<Vec<_>>(), [Path::new("kept/st")]);
        // What a command calls a state folder is none.
        std::fs::create_dir_all(top.join("made/.git")).expect("a folder");
        state("made");
        let new: Vec<_> =
            found.new_below(&open(&top)).expect("it is small").into_iter().map(|part| part.path).collect();
        assert_eq!(new, [Path::new("made/.git")]);
        let found: Vec<_> = found.parts().map(short).collect();
        assert_eq!(found, [".git", "bare.git", "sub/.git", "vendor/x/.git"].map(Path::new));
        for inside in [".git", ".git/hooks", "bare.git"] {
            assert!(Repositories::below(&open(&top.join(inside))).is_err(), "{inside}");
        }
    }
}
