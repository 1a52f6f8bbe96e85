//! The repositories in a folder that a command may write: each `.git` folder, each `.git` file that points to one (worktrees,
//! submodules), and each folder that git takes for a repository without a work tree. Git obeys their config and hooks, so a
//! command that nobody trusts may change none of them, and may not move one aside to put its own in the place.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use swarm_orchestrator::entry_name::{is_bare_repository, is_git_dir};
use swarm_orchestrator::state;

use crate::commands::failure::Failure;
use crate::commands::opened_folder::{HANDLE, Identity, OpenedFolder, has, open_to_owner, shortened};

/// The most entries that are looked through: a second or two of a warm disk.
pub const ENTRIES_MAX: usize = 2_000_000;
/// The most repositories: each becomes a mount of its own in the cage.
const REPOSITORIES_MAX: usize = 1_000;
/// Bytes of a path below the folder, four times what the kernel takes in one piece.
const PATH_BYTES_MAX: usize = 16 << 10;
/// Bytes of a path that may be mounted, with a word to spare for what lies in it.
const MOUNT_BYTES_MAX: usize = 4_000;
/// Bytes of a path that count as much as an entry.
const BYTES_AN_ENTRY: usize = 64;

const TOO_MANY: &str = "more than 2,000,000 entries";
const TOO_LONG: &str = "paths that are too long";
const GIT: &str = ".git";

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
    held: Vec<OwnedFd>,
    /// All folders that were looked into. One that is made may get the inode of one that was removed, and is looked through
    /// like that then. `None` where nobody knows: then any may be the person's.
    folders: Option<HashSet<Identity>>,
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
        let mut found = look_through(folder).map_err(|stopped| stopped.before(folder))?;
        let (path, parts) = (folder.path(), &found.parts);
        if path.components().any(|part| is_git(part.as_os_str())) || parts.iter().any(|part| part.path == Path::new(""))
        {
            let message = format!("open {} to the command: git obeys what lies in it", path.display());
            return Err(Failure::usage(message, "go to the work tree, or use --ro".to_owned()));
        }
        let hold = |part: &Part| {
            if path.join(&part.path).as_os_str().len() > MOUNT_BYTES_MAX {
                return Err(Stopped::TooMuch(TOO_LONG));
            }
            match part.open(folder) {
                Ok(Some((_, opened))) => Ok(opened),
                Ok(None) => Err(Stopped::Io(part.path.clone(), io::Error::other("it changed meanwhile"))),
                Err(error) => Err(Stopped::Io(part.path.clone(), error)),
            }
        };
        let held = found.parts.iter().chain(&found.states).map(hold).collect::<Result<_, _>>();
        found.folder = path.to_owned();
        found.folders.get_or_insert_default();
        found.held = held.map_err(|stopped| stopped.before(folder))?;
        Ok(found)
    }

    /// A folder that held no repository when a command began of which nobody knows more.
    pub fn forgotten() -> Self {
        Repositories::default()
    }

    /// Whether a folder may have been there before.
    fn had(&self, folder: Identity) -> bool {
        self.folders.as_ref().is_none_or(|folders| folders.contains(&folder))
    }

    /// Looks through the folder once more and tells what is there now and was not among these under any name: each thing as
    /// soon as it is found, so that nothing that comes later takes back what was done about it. The folders that were there
    /// are looked at first and whatever they hold, then those that were made, as far as [`ENTRIES_MAX`] reaches. Folders
    /// in `walled` are passed by. Where nobody knows which were there, all are looked at as if they were, and no more of them.
    pub fn each_new(&self, folder: &OpenedFolder, walled: &HashSet<Identity>, tell: &mut dyn FnMut(New)) {
        let mut past = walled.clone();
        let (mut known, mut made, mut looked_into) = (vec![Waiting::top()], Vec::new(), 0);
        while let Some(waiting) = known.pop() {
            looked_into += 1;
            if self.folders.is_none() && looked_into > ENTRIES_MAX {
                return tell(New::Blind(waiting.path(), Stopped::TooMuch(TOO_MANY).to_string()));
            }
            let (below, mut listed) = (waiting.path(), None);
            let looked = look_into(folder, &below, Closed::Opened(self), &mut |met| {
                match met {
                    Met::Enter(identity) => return Ok(if past.contains(&identity) { Go::Past } else { Go::On }),
                    Met::State(_) | Met::Entry => {}
                    Met::Marker(marker) => tell(New::State(marker)),
                    Met::Part(part) => self.tell(part, &mut past, tell),
                    Met::Folder { here, name } => {
                        let path: &Rc<Path> = listed.get_or_insert_with(|| Rc::from(&*below));
                        let Ok(identity) = Identity::at(here, name) else { return Ok(Go::On) };
                        let waiting = Waiting { above: Rc::clone(path), name: name.to_owned() };
                        if past.contains(&identity) {
                            return Ok(Go::On);
                        }
                        if self.had(identity) && waiting.bytes() <= PATH_BYTES_MAX {
                            known.push(waiting);
                        } else if made.len() < ENTRIES_MAX {
                            made.push((waiting, identity));
                        } else {
                            past.insert(identity);
                            tell(New::Unseen(Part { path: waiting.path(), identity }, TOO_MANY.to_owned()));
                        }
                    }
                }
                Ok(Go::On)
            });
            if let Err(stopped) = looked {
                tell(New::Blind(below, stopped.to_string()));
            }
        }
        let mut entries = 0;
        for (waiting, identity) in made {
            if let Err(stopped) = self.look_through_made(folder, &waiting, &mut entries, &mut past, tell) {
                tell(New::Unseen(Part { path: waiting.path(), identity }, stopped.to_string()));
            }
        }
    }

    /// A folder that was not there before, with all that it holds.
    fn look_through_made(
        &self,
        folder: &OpenedFolder,
        made: &Waiting,
        entries: &mut usize,
        past: &mut HashSet<Identity>,
        tell: &mut dyn FnMut(New),
    ) -> Result<(), Stopped> {
        walk(folder, made.clone(), Closed::Opened(self), entries, &mut |met| {
            match met {
                Met::Enter(identity) if past.contains(&identity) => return Ok(Go::Past),
                Met::Marker(marker) => tell(New::State(marker)),
                Met::Part(part) => self.tell(part, past, tell),
                Met::Enter(_) | Met::State(_) | Met::Folder { .. } | Met::Entry => {}
            }
            Ok(Go::On)
        })
    }

    /// Tells a part that is new. Under the name that it gets for that it is not looked into.
    fn tell(&self, part: Part, past: &mut HashSet<Identity>, tell: &mut dyn FnMut(New)) {
        if self.parts.iter().any(|before| before.identity == part.identity) {
            return;
        }
        if part.path.file_name().is_some_and(is_git) {
            past.insert(part.identity);
        }
        tell(New::Part(part));
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

/// What a folder holds before a command runs in it. What is put somewhere else meanwhile may be missed: the end of the command
/// that does so finds it.
fn look_through(folder: &OpenedFolder) -> Result<Repositories, Stopped> {
    let mut found = Repositories::default();
    walk(folder, Waiting::top(), Closed::Refused, &mut 0, &mut |met| {
        match met {
            Met::Enter(identity) => {
                found.folders.get_or_insert_default().insert(identity);
            }
            Met::Part(part) => found.parts.push(part),
            Met::State(state) => found.states.push(state),
            Met::Marker(_) | Met::Folder { .. } | Met::Entry => {}
        }
        let few = found.parts.len() + found.states.len() <= REPOSITORIES_MAX;
        few.then_some(Go::On).ok_or(Stopped::TooMuch("more than 1,000 repositories"))
    })?;
    found.parts.sort();
    found.states.sort();
    Ok(found)
}

/// Looks into a folder and all folders in it, as far as [`ENTRIES_MAX`] and [`PATH_BYTES_MAX`] reach.
fn walk(
    folder: &OpenedFolder,
    from: Waiting,
    closed: Closed<'_>,
    entries: &mut usize,
    visit: &mut dyn FnMut(Met<'_>) -> Result<Go, Stopped>,
) -> Result<(), Stopped> {
    let mut open = vec![from];
    while let Some(waiting) = open.pop() {
        let (below, mut listed) = (waiting.path(), None);
        if waiting.bytes() > PATH_BYTES_MAX {
            return Err(Stopped::TooMuch(TOO_LONG));
        }
        // To open it costs as much as its path has names.
        *entries += waiting.bytes() / BYTES_AN_ENTRY;
        look_into(folder, &below, closed, &mut |met| {
            match &met {
                Met::Entry => *entries += 1,
                Met::Folder { name, .. } => {
                    let above = listed.get_or_insert_with(|| Rc::from(&*below));
                    open.push(Waiting { above: Rc::clone(above), name: (*name).to_owned() });
                }
                Met::Enter(_) | Met::Part(_) | Met::State(_) | Met::Marker(_) => {}
            }
            if *entries > ENTRIES_MAX {
                return Err(Stopped::TooMuch(TOO_MANY));
            }
            visit(met)
        })?;
    }
    Ok(())
}

/// What is new in a folder.
#[derive(Debug)]
pub enum New {
    /// A repository, or what git takes for one.
    Part(Part),
    /// The file by which swarm would take a folder for its own state, and look at nothing in it from then on.
    State(Part),
    /// A folder that was made and cannot be looked through, and why.
    Unseen(Part, String),
    /// A folder that was there before and cannot be looked through, and why.
    Blind(PathBuf, String),
}

/// A folder that is to be looked into.
#[derive(Debug, Clone)]
struct Waiting {
    /// Below the folder that is looked through; shared by all that one folder holds.
    above: Rc<Path>,
    name: OsString,
}

impl Waiting {
    /// The folder itself that is looked through.
    fn top() -> Self {
        Waiting { above: Rc::from(Path::new("")), name: OsString::new() }
    }

    fn path(&self) -> PathBuf {
        if self.name.is_empty() { PathBuf::new() } else { self.above.join(&self.name) }
    }

    fn bytes(&self) -> usize {
        self.above.as_os_str().len() + 1 + self.name.len()
    }
}

/// Why a look ended.
#[derive(Debug)]
enum Stopped {
    /// Where, below the folder that is looked through.
    Io(PathBuf, io::Error),
    TooMuch(&'static str),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Io(_, error) => error.fmt(f),
            Stopped::TooMuch(what) => write!(f, "it holds {what}"),
        }
    }
}

impl Stopped {
    /// Before the command runs, it is refused.
    fn before(self, folder: &OpenedFolder) -> Failure {
        match self {
            Stopped::Io(below, error) => {
                let path = shortened(&folder.path().join(below));
                let message = format!("look for repositories in {path}: {error}");
                Failure::environment(message, "use --ro, or swarm exec".to_owned())
            }
            Stopped::TooMuch(what) => {
                let message = format!("open {} to the command: it holds {what}", folder.path().display());
                Failure::usage(message, "go to a smaller folder, or use swarm exec".to_owned())
            }
        }
    }
}

/// What a look meets.
enum Met<'a> {
    /// A folder, before anything in it.
    Enter(Identity),
    /// A state folder that nobody looks into.
    State(Part),
    /// What makes one of a folder that was none before, which is looked into all the same.
    Marker(Part),
    Part(Part),
    Folder {
        here: &'a OwnedFd,
        name: &'a OsStr,
    },
    /// Any entry of a folder, before what it is.
    Entry,
}

/// Whether a folder is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    Past,
}

/// Looks into one folder, which may be there no more: for what makes it a repository or holds one first, so that no number of
/// other entries is in the way.
fn look_into(
    folder: &OpenedFolder,
    below: &Path,
    closed: Closed<'_>,
    visit: &mut dyn FnMut(Met<'_>) -> Result<Go, Stopped>,
) -> Result<(), Stopped> {
    let failed = |error: io::Error| Stopped::Io(below.to_owned(), error);
    let Some(here) = folder.folder(below).map_err(failed)? else { return Ok(()) };
    let itself = Part { path: below.to_owned(), identity: Identity::of(&here).map_err(failed)? };
    if visit(Met::Enter(itself.identity))? == Go::Past {
        return Ok(());
    }
    let is_state = state::is_state_at(&here);
    if is_state && closed.leaves(&itself) {
        return visit(Met::State(itself)).map(drop);
    }
    let part = |name: &OsStr| match Identity::at(&here, name) {
        Ok(identity) => Ok(Some(Part { path: below.join(name), identity })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    };
    if let Some(marker) = if is_state { part(OsStr::new(state::MARKER))? } else { None } {
        visit(Met::Marker(marker))?;
    }
    // This may open it to its owner, whose git would find what it is from then on.
    let listing = list(&here, closed).map_err(failed)?;
    if is_bare(&here) {
        visit(Met::Part(itself))?;
    }
    if let Some(git) = part(OsStr::new(GIT))? {
        visit(Met::Part(git))?;
    }
    for entry in listing.into_iter().flatten() {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || name == GIT {
            continue;
        }
        visit(Met::Entry)?;
        if is_git(name) {
            if let Some(part) = part(name)? {
                visit(Met::Part(part))?;
            }
        } else if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            visit(Met::Folder { here: &here, name })?;
        }
    }
    Ok(())
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

/// Whether git takes a folder for a repository without a work tree.
pub fn is_bare(folder: impl AsFd) -> bool {
    is_bare_repository(|name| has(&folder, OsStr::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_orchestrator::state::StateDir;

    #[test]
    fn a_folder_with_more_repositories_than_a_cage_mounts_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let opened = OpenedFolder::open(dir.path()).expect("it is there");
        for number in 0..=REPOSITORIES_MAX {
            let folder = dir.path().join(number.to_string());
            std::fs::create_dir(&folder).and_then(|()| std::fs::write(folder.join(".git"), "")).expect("a file");
        }
        let Err(Failure::Told { message, hint, .. }) = Repositories::below(&opened) else { panic!("it is opened") };
        assert!(message.ends_with("to the command: it holds more than 1,000 repositories"), "{message}");
        assert_eq!(hint.as_deref(), Some("go to a smaller folder, or use swarm exec"));
        std::fs::remove_file(dir.path().join("0/.git")).expect("ours");
        assert!(Repositories::below(&opened).is_ok());
    }

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
        let mut new = Vec::new();
        found.each_new(&open(&top), &HashSet::new(), &mut |it| new.push(it));
        let [New::State(marker), New::Part(part)] = &*new else { panic!("{new:?}") };
        assert_eq!([&marker.path, &part.path], [Path::new("made/SWARM-STATE"), Path::new("made/.git")]);
        let found: Vec<_> = found.parts().map(short).collect();
        assert_eq!(found, [".git", "bare.git", "sub/.git", "vendor/x/.git"].map(Path::new));
        for inside in [".git", ".git/hooks", "bare.git"] {
            assert!(Repositories::below(&open(&top.join(inside))).is_err(), "{inside}");
        }
    }
}
