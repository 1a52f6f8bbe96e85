//! The first pass: walks what a worker wrote, judges it, and says which entries of the tree become what.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use git2::{ObjectType, Odb, Oid};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use super::ignore_rules::{IGNORE_FILE_BYTES_MAX, IgnoreRules, Kind};
use super::rules::LinksOf;
use super::{CollectError, CollectLimits, Refusal, Terms, display_path, ignore_rules, steering, tells};
use crate::base::index_file::{Index, Presence, Stat};
use crate::base::{Extent, read_index};
use crate::entry_name::{check_component, is_git_dir};
use crate::secrets::Secrets;
use crate::tree::{self, EXECUTABLE, Edits, Entry, FILE, GITLINK, SYMLINK, TreeError};
use crate::worktree::{Backend, Worktree};

/// Bytes of changed files that are kept in memory between the two passes.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// Notes of one worktree.
pub(super) const NOTES_MAX: usize = 50;

/// What becomes of an entry that no repository should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hostile {
    /// The whole worktree is refused.
    RefusesAll,
    /// It is left out, with a note.
    IsLeftOut,
}

/// Why the walk ended early.
pub(super) enum Stop {
    Refused(Refusal),
    Failed(CollectError),
}

impl<E: Into<CollectError>> From<E> for Stop {
    fn from(error: E) -> Self {
        match error.into() {
            CollectError::Io { path, source } if is_the_workers(&source) => {
                Stop::Refused(Refusal::Hostile { path, reason: format!("it cannot be taken: {source}") })
            }
            error => Stop::Failed(error),
        }
    }
}

/// Whether an error says how a worker left something, and nothing of the machine. It had all the time to make names too long,
/// to put a file in the place of a folder, to lock what it owns; that is no reason to try again, or to doubt the machine.
fn is_the_workers(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const LEFT_SO: [Errno; 12] = [
        Errno::ACCESS,
        Errno::EXIST,
        Errno::INVAL,
        Errno::ISDIR,
        Errno::LOOP,
        Errno::NAMETOOLONG,
        Errno::NOTDIR,
        Errno::NOTEMPTY,
        Errno::NXIO,
        Errno::OVERFLOW,
        Errno::PERM,
        Errno::XDEV,
    ];
    match error.raw_os_error() {
        Some(number) => LEFT_SO.contains(&Errno::from_raw_os_error(number)),
        // The word of cap-std for a path that leads out of its folder.
        None => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// A changed file's content on its way to the object store.
pub(super) struct Content {
    pub path: Vec<u8>,
    pub id: Oid,
    /// `None`: to be read again.
    pub bytes: Option<Vec<u8>>,
}

/// What the walk found.
#[derive(Default)]
pub(super) struct Found {
    pub edits: Edits,
    pub contents: Vec<Content>,
    pub notes: Vec<String>,
    /// The first path that the worker made and an ignore rule covers; a folder with its slash.
    pub ignored: Option<Vec<u8>>,
}

impl Found {
    /// Takes back what was found at a path and below it, but for the contents.
    pub fn leave_out(&mut self, path: &[u8]) {
        self.edits.remove(path);
        // What begins with the path and a slash stands together: `0` is the byte behind it.
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<Vec<u8>> = self.edits.range(first..end).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.edits.remove(&path);
        }
    }
}

/// Walks a worktree.
pub(super) fn walk(
    odb: &Odb<'_>,
    personal: Vec<Vec<u8>>,
    worktree: &Worktree,
    terms: &Terms,
    hostile: Hostile,
) -> Result<Found, Stop> {
    let root = worktree.written_dir();
    let io = |source| CollectError::Io { path: Vec::new(), source };
    let attempt = Dir::open_ambient_dir(worktree.attempt_dir(), ambient_authority()).map_err(io)?;
    let name = root.file_name().expect("a folder of the attempt's");
    let dir = open_folder(&attempt, name.as_bytes(), b"")?;
    let (index, sparse) = match (worktree.backend(), worktree.layers().extent) {
        (Backend::Copy, _) => (Some(read_index(&worktree.index_path())?), None),
        (Backend::Overlay, Extent::Sparse) => (None, Some(read_index(&worktree.index_path())?)),
        (Backend::Overlay, Extent::Whole) => (None, None),
    };
    let untracked = worktree.layers().untracked().iter().map(|layer| worktree.state().path(layer)).collect();
    let mut walk = Walk {
        odb,
        limits: &terms.limits,
        secrets: &terms.secrets,
        hostile,
        links: LinksOf::tree(worktree.layers().tree),
        index,
        sparse,
        untracked,
        ignore: IgnoreRules::new(&personal),
        present: HashSet::new(),
        entries: 0,
        rules: 0,
        bytes: 0,
        paths_bytes: 0,
        kept_bytes: 0,
        found: Found::default(),
    };
    let here = Place { base: Some(worktree.layers().tree), ignored: false, lowers: Lowers::Shown, depth: 0 };
    walk.folder(&dir, &mut Vec::new(), here)?;
    walk.missing();
    Ok(walk.found)
}

/// Opens a file or link of the worktree for the second pass, following no link on the way.
pub(super) fn open_again(root: &File, path: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, file_flags(), Mode::empty(), resolve)?)
}

/// A pipe would block an ordinary open.
fn file_flags() -> OFlags {
    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

/// A folder on the way.
#[derive(Clone, Copy)]
struct Place {
    /// The base's folder of that name.
    base: Option<Oid>,
    /// An ignore rule excludes it or one above it: only tracked files count in it.
    ignored: bool,
    /// Whether the layers below show through.
    lowers: Lowers,
    depth: usize,
}

/// Whether the lower layers show through a folder of the upper one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lowers {
    /// What the upper layer does not hold is as it was.
    Shown,
    /// The folder or one above it is opaque: what it does not hold is gone.
    Hidden,
}

struct Walk<'a> {
    odb: &'a Odb<'a>,
    limits: &'a CollectLimits,
    secrets: &'a Secrets,
    hostile: Hostile,
    links: LinksOf,
    /// Copy backend only: what the files looked like when the worker got them.
    index: Option<Index>,
    /// Overlay backend only: which files the worker got, where these are not all.
    sparse: Option<Index>,
    /// Layers of files that are nobody's change.
    untracked: Vec<PathBuf>,
    ignore: IgnoreRules,
    /// Copy backend only: tracked paths that are still there.
    present: HashSet<Vec<u8>>,
    entries: u64,
    /// Ignore rules met so far.
    rules: u64,
    bytes: u64,
    /// Bytes of the paths that are held.
    paths_bytes: u64,
    kept_bytes: u64,
    found: Found,
}

impl Walk<'_> {
    fn folder(&mut self, dir: &Dir, path: &mut Vec<u8>, place: Place) -> Result<(), Stop> {
        if place.depth > self.limits.depth {
            return Err(self.over("depth", self.limits.depth as u64, path));
        }
        let io = |path: &[u8], source| CollectError::Io { path: path.to_vec(), source };
        let listing = place.base.map(|id| tree::list(self.odb, id)).transpose()?.unwrap_or_default();
        let listing: BTreeMap<Vec<u8>, Entry> = listing.into_iter().collect();
        // With a plain copy the index tells what is missing.
        let opaque = self.index.is_none() && (place.lowers == Lowers::Hidden || place.depth > 0 && is_opaque(dir));
        let place = Place { lowers: if opaque { Lowers::Hidden } else { Lowers::Shown }, ..place };
        let mut names = Vec::new();
        for entry in dir.entries().map_err(|source| io(path, source))? {
            let name = entry.map_err(|source| io(path, source))?.file_name();
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(self.over("entries", self.limits.entries, path));
            }
            names.push(name.as_bytes().to_vec());
        }
        names.sort();
        let rules = self.rules_of(dir, &names, listing.get(&b".gitignore"[..]).filter(|_| !opaque))?;
        self.rules += rules.as_deref().map_or(0, ignore_rules::count);
        if self.rules > self.limits.ignore_rules {
            return Err(self.over("ignore_rules", self.limits.ignore_rules, path));
        }
        if rules.as_deref().is_some_and(|rules| self.ignore.weight_with(rules) > self.limits.ignore_bytes) {
            return Err(self.over("ignore_bytes", self.limits.ignore_bytes, path));
        }
        self.ignore.enter(path, rules.as_deref());
        for name in &names {
            // The worker's own git directory is nobody's business.
            if place.depth == 0 && name == b".git" {
                continue;
            }
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let entered = self.entry(dir, name, path, listing.get(name).copied(), place);
            path.truncate(length);
            self.or_left_out(entered)?;
            if self.ignore.spent().as_millis() > u128::from(self.limits.ignore_ms) {
                return Err(self.over("ignore_ms", self.limits.ignore_ms, path));
            }
        }
        self.ignore.leave();
        if opaque {
            for name in listing.keys().filter(|name| names.binary_search(name).is_err()) {
                let path = if path.is_empty() { name.clone() } else { [path, &b"/"[..], name].concat() };
                self.gone(path);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &Dir,
        name: &[u8],
        path: &mut Vec<u8>,
        base: Option<Entry>,
        place: Place,
    ) -> Result<(), Stop> {
        if path.len() > self.limits.path_bytes {
            return Err(self.over("path_bytes", self.limits.path_bytes as u64, path));
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| CollectError::Io { path: path.clone(), source: error.into() })?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::CharacterDevice if stat.st_rdev == 0 && self.index.is_none() => {
                if base.is_some() {
                    self.gone(path.clone());
                }
                Ok(())
            }
            FileType::Directory => self.sub_folder(dir, name, path, base, place),
            FileType::RegularFile | FileType::Symlink => {
                let tracked = base.filter(|entry| !entry.is_tree());
                if tracked.is_none() && self.is_left_alone(path, place) {
                    self.ignored(path, Kind::File);
                    return self.replaced(path, base);
                }
                let known = self.index.as_ref().and_then(|index| index.get(path));
                if known.is_some() {
                    self.present.insert(path.clone());
                }
                let touched = !known.is_some_and(|known| known.stat.is_same_file(&stat_of(&stat)));
                if touched { self.file(dir, name, path, base, kind) } else { Ok(()) }
            }
            _ => {
                if !place.ignored {
                    self.note(format!("left out: {} is neither a file, a folder nor a link", display_path(path)));
                }
                self.replaced(path, base)
            }
        }
    }

    fn sub_folder(
        &mut self,
        dir: &Dir,
        name: &[u8],
        path: &mut Vec<u8>,
        base: Option<Entry>,
        place: Place,
    ) -> Result<(), Stop> {
        if base.is_some_and(|entry| entry.mode == GITLINK) {
            self.present.insert(path.clone());
            return self.submodule(dir, name, path);
        }
        let below = base.filter(|entry| entry.is_tree()).map(|entry| entry.id);
        let ignored = place.ignored || self.ignore.excludes(path, Kind::Folder);
        if ignored && below.is_none() {
            self.ignored(path, Kind::Folder);
            return self.replaced(path, base);
        }
        if below.is_none() && self.hides(path) {
            return Err(self.hostile(path, UNSEEN));
        }
        if is_git_dir(name) {
            return Err(self.hostile(path, "a repository inside the worktree"));
        }
        if below.is_none() {
            steering::check_folder(name).map_err(|reason| self.hostile(path, reason))?;
        }
        self.replaced(path, base.filter(|entry| !entry.is_tree()))?;
        let inner = open_folder(dir, name, path)?;
        self.folder(&inner, path, Place { base: below, ignored, depth: place.depth + 1, ..place })
    }

    /// The content of a submodule is another repository's; an empty folder stands for it.
    fn submodule(&mut self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<(), Stop> {
        let inner = open_folder(dir, name, path)?;
        let io = |source| CollectError::Io { path: path.to_vec(), source };
        if inner.entries().map_err(io)?.next().is_some() {
            self.note(format!(
                "left out: {} is a submodule, its content belongs to another repository",
                display_path(path)
            ));
        }
        Ok(())
    }

    fn file(&mut self, dir: &Dir, name: &[u8], path: &[u8], base: Option<Entry>, kind: FileType) -> Result<(), Stop> {
        let io = |source: io::Error| CollectError::Io { path: path.to_vec(), source };
        let (mode, bytes) = if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|error| io(error.into()))?;
            (SYMLINK, target.into_bytes())
        } else {
            self.read(dir, name, path)?
        };
        let id = Oid::hash_object(ObjectType::Blob, &bytes).map_err(TreeError::from)?;
        let entry = Entry { mode, id };
        if base.map(Entry::canonical) == Some(entry) {
            return Ok(());
        }
        if base.is_some_and(|base| base.is_tree()) && self.hides(path) {
            return Err(self.hostile(path, UNSEEN));
        }
        if base.is_some() && self.hides(path) {
            let path = display_path(path);
            self.note(format!(
                "{path} was written without what it held: `[workspace] sparse` leaves it out of the worktree"
            ));
        }
        check_component(name).map_err(|reason| self.hostile(path, reason))?;
        // Folders on the way that are new were never judged.
        crate::entry_name::check_path(path).map_err(|reason| self.hostile(path, reason))?;
        if mode == SYMLINK {
            let judged = self.links.check(self.odb, path, (id, &bytes))?;
            judged.map_err(|reason| self.hostile(path, reason))?;
        }
        let before = || match base.filter(|base| !base.is_tree() && base.mode != GITLINK) {
            Some(base) => Ok(self.odb.read(base.id)?.data().to_vec()),
            None => Ok(Vec::new()),
        };
        // What the repository holds under another name is known to whoever reads it.
        let told = if self.odb.exists(id) { None } else { tells(self.secrets, path, &bytes, before)? };
        if let Some(reason) = told {
            return Err(self.hostile(path, &reason));
        }
        if self.bytes + bytes.len() as u64 > self.limits.bytes {
            return Err(self.over("bytes", self.limits.bytes, path));
        }
        if self.found.contents.len() as u64 >= self.limits.files {
            return Err(self.over("files", self.limits.files, path));
        }
        if self.paths_bytes + path.len() as u64 > self.limits.paths_bytes {
            return Err(self.over("paths_bytes", self.limits.paths_bytes, path));
        }
        self.paths_bytes += path.len() as u64;
        self.bytes += bytes.len() as u64;
        let keep = mode == SYMLINK || self.kept_bytes + bytes.len() as u64 <= KEPT_BYTES_MAX;
        self.kept_bytes += if keep { bytes.len() as u64 } else { 0 };
        self.found.contents.push(Content { path: path.to_vec(), id, bytes: keep.then_some(bytes) });
        self.found.edits.insert(path.to_vec(), Some(entry));
        Ok(())
    }

    fn read(&mut self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<(u32, Vec<u8>), Stop> {
        let io = |source: io::Error| CollectError::Io { path: path.to_vec(), source };
        let file = open_even_if_locked(dir, name, path)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(self.hostile(path, "it changed its kind while it was read"));
        }
        let max = self.limits.blob_bytes;
        if metadata.len() > max {
            return Err(self.over("blob_bytes", max, path));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.take(max + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > max {
            return Err(self.over("blob_bytes", max, path));
        }
        use std::os::unix::fs::MetadataExt as _;
        Ok((if metadata.mode() & 0o100 == 0 { FILE } else { EXECUTABLE }, bytes))
    }

    /// Whether an untracked path stays out: an ignore rule covers it, or it came with the layers.
    fn is_left_alone(&self, path: &[u8], place: Place) -> bool {
        place.ignored
            || self.ignore.excludes(path, Kind::File)
            || self.untracked.iter().any(|layer| {
                layer.join(std::ffi::OsStr::from_bytes(path)).symlink_metadata().is_ok_and(|known| !known.is_dir())
            })
    }

    /// Remembers what stays out, unless it came with the layers.
    fn ignored(&mut self, path: &[u8], kind: Kind) {
        let came_along = |layer: &PathBuf| layer.join(std::ffi::OsStr::from_bytes(path)).symlink_metadata().is_ok();
        if self.found.ignored.is_none() && !self.untracked.iter().any(came_along) {
            let slash: &[u8] = if kind == Kind::Folder { b"/" } else { b"" };
            self.found.ignored = Some([path, slash].concat());
        }
    }

    /// What stood here is gone, though what stands here now is not taken.
    fn replaced(&mut self, path: &[u8], base: Option<Entry>) -> Result<(), Stop> {
        if base.is_some() {
            self.gone(path.to_vec());
        }
        Ok(())
    }

    /// A tracked file or folder is not there any more. Of a folder that the worker saw in parts, those parts are gone.
    fn gone(&mut self, path: Vec<u8>) {
        let Some(index) = self.index.as_ref().or(self.sparse.as_ref()) else {
            self.found.edits.insert(path, None);
            return;
        };
        let shown = index.below(&path).filter(|entry| entry.presence == Presence::CheckedOut);
        self.found.edits.extend(shown.map(|entry| (entry.path.clone(), None)));
    }

    /// Whether tracked files that the worker did not get are at a path or below it.
    fn hides(&self, path: &[u8]) -> bool {
        let index = self.index.as_ref().or(self.sparse.as_ref());
        index.is_some_and(|index| index.below(path).any(|entry| entry.presence != Presence::CheckedOut))
    }

    /// Goes on without an entry that was refused, where that is what is wanted.
    fn or_left_out(&mut self, entered: Result<(), Stop>) -> Result<(), Stop> {
        match entered {
            Err(Stop::Refused(refusal)) if self.hostile == Hostile::IsLeftOut => {
                self.note(left_out(&refusal));
                Ok(())
            }
            entered => entered,
        }
    }

    /// Copy backend: tracked files that the walk did not meet.
    fn missing(&mut self) {
        let Some(index) = &self.index else { return };
        for entry in index.entries() {
            if entry.presence == Presence::CheckedOut && !self.present.contains(&entry.path) {
                self.found.edits.entry(entry.path.clone()).or_insert(None);
            }
        }
    }

    /// The `.gitignore` that is in force in a folder: what the worker left, else the base's.
    fn rules_of(&self, dir: &Dir, names: &[Vec<u8>], base: Option<&Entry>) -> Result<Option<Vec<u8>>, Stop> {
        if names.iter().any(|name| name == b".gitignore") {
            let Ok(file) = rustix::fs::openat(dir, ".gitignore", file_flags(), Mode::empty()) else { return Ok(None) };
            let file = File::from(file);
            if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                return Ok(None);
            }
            let mut content = Vec::new();
            let read = file.take(IGNORE_FILE_BYTES_MAX).read_to_end(&mut content);
            return Ok(read.is_ok().then_some(content));
        }
        match base.filter(|entry| self.index.is_none() && matches!(entry.canonical().mode, FILE | EXECUTABLE)) {
            Some(entry) => Ok(Some(self.odb.read(entry.id).map_err(TreeError::from)?.data().to_vec())),
            None => Ok(None),
        }
    }

    fn note(&mut self, note: String) {
        if self.found.notes.len() < NOTES_MAX {
            self.found.notes.push(note);
        }
    }

    fn hostile(&self, path: &[u8], reason: &str) -> Stop {
        Stop::Refused(Refusal::Hostile { path: path.to_vec(), reason: reason.to_owned() })
    }

    fn over(&self, limit: &'static str, max: u64, path: &[u8]) -> Stop {
        Stop::Refused(Refusal::Limit { limit, max, path: path.to_vec() })
    }
}

/// Why a path is refused where a sparse worktree does not show what is there.
const UNSEEN: &str = "files that `[workspace] sparse` leaves out are at this path";

/// Says what a refusal is about, where the rest is kept.
pub(super) fn left_out(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Hostile { path, reason } => format!("left out: {}: {reason}", display_path(path)),
        Refusal::Limit { limit, max, path } => {
            format!("left out: {}: the limit `{limit}` is {max}", display_path(path))
        }
        Refusal::OutOfScope { count, .. } => format!("{count} paths are none of its files"),
    }
}

/// Opens a folder without following a link. A worker may have taken the permissions to list and to search it.
pub(super) fn open_folder(dir: &Dir, name: &[u8], path: &[u8]) -> Result<Dir, Stop> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => {
            let unlocked = rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty());
            unlocked.and_then(|()| rustix::fs::openat(dir, name, flags, Mode::empty()))
        }
        opened => opened,
    };
    let io = |error: rustix::io::Errno| CollectError::Io { path: path.to_vec(), source: error.into() };
    let folder = opened.map_err(io)?;
    if rustix::fs::fstat(&folder).map_err(io)?.st_mode & 0o500 != 0o500 {
        rustix::fs::fchmod(&folder, Mode::RWXU).map_err(io)?;
    }
    Ok(Dir::from_std_file(File::from(folder)))
}

/// A worker may have taken the permission to read from its own file; it is still its content.
pub(super) fn open_even_if_locked(dir: &Dir, name: &[u8], path: &[u8]) -> Result<File, Stop> {
    let opened = match rustix::fs::openat(dir, name, file_flags(), Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let mode = stat.map(|stat| Mode::from_raw_mode(stat.st_mode) | Mode::RUSR);
            mode.and_then(|mode| rustix::fs::chmodat(dir, name, mode, AtFlags::empty()))
                .and_then(|()| rustix::fs::openat(dir, name, file_flags(), Mode::empty()))
        }
        opened => opened,
    };
    Ok(File::from(opened.map_err(|error| CollectError::Io { path: path.to_vec(), source: error.into() })?))
}

/// Both names: which one overlay used depends on how it was mounted.
fn is_opaque(dir: &Dir) -> bool {
    let mut value = [0_u8; 4];
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
        rustix::fs::fgetxattr(dir.as_fd(), *name, &mut value[..]).is_ok_and(|length| value[..length].starts_with(b"y"))
    })
}

fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    Stat {
        ctime: (stat.st_ctime as u32, stat.st_ctime_nsec as u32),
        mtime: (stat.st_mtime as u32, stat.st_mtime_nsec as u32),
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u32,
    }
}
