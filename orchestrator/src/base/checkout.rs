//! Writes a tree into an empty folder: raw blob bytes, in parallel, with the index that fits exactly these files.
//!
//! No filter runs and no line ending is converted, so that collecting is the exact inverse. libgit2's own checkout takes
//! twice git's time on a large tree, and its files would all be younger than the user's build caches: here a file whose
//! content the user's checkout holds unchanged gets that file's modification time.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use git2::{Odb, Oid};
use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use super::BaseError;
use super::index_file::{CachedTree, Index, IndexEntry, Presence, Stat};
use crate::entry_name::check_component;
use crate::path_globs::PathGlobs;
use crate::repository::Repository;
use crate::tree::{self, DEPTH_MAX, EXECUTABLE, GITLINK, SYMLINK};

/// Threads that write files; more only queue at the file system.
const THREADS_MAX: usize = 8;
/// Files that a thread takes at once: neighbours share their folder.
const CHUNK_FILES: usize = 64;
/// How much older than now a fresh file is made, in seconds: git compares whole seconds, and an entry as young as the
/// index would be read again by every `git status`.
pub const FRESH_AGE_SECONDS: i64 = 2;

/// How much a checkout may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files, links and folders. The largest public repositories have some 400,000; each takes about 200 bytes of memory.
    pub entries: u64,
    /// Bytes of all paths together.
    pub path_bytes: u64,
    /// Folders on the way to a file.
    pub depth: usize,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { entries: 4_000_000, path_bytes: 1 << 30, depth: 256, bytes: 256 << 30 }
    }
}

/// Judges how much a tree would be when it is written out, before anything is.
///
/// # Errors
/// [`BaseError::TooLarge`] with the bound, [`BaseError::Stopped`] once `stop` is true, and those of reading trees.
pub fn measure(odb: &Odb<'_>, tree: Oid, bounds: &Bounds, stop: &AtomicBool) -> Result<(), BaseError> {
    let over = |what, count: u64, max: u64| Err(BaseError::TooLarge { tree, what, count, max });
    let extent = match tree::extent(odb, tree, bounds.depth, &|| !stop.load(Ordering::Relaxed)) {
        Ok(extent) => extent,
        Err(tree::TreeError::Stopped) => return Err(BaseError::Stopped),
        Err(tree::TreeError::TooDeep) => {
            return over("folders inside each other or more", bounds.depth as u64 + 1, bounds.depth as u64);
        }
        Err(error) => return Err(error.into()),
    };
    if extent.entries > bounds.entries {
        return over("files and folders", extent.entries, bounds.entries);
    }
    if extent.path_bytes > bounds.path_bytes {
        return over("bytes in its paths", extent.path_bytes, bounds.path_bytes);
    }
    Ok(())
}

/// The user's own checkout as a source of modification times.
#[derive(Debug, Default)]
pub struct WarmTimes {
    index: Option<Index>,
    index_seconds: i64,
    folder: std::path::PathBuf,
}

impl WarmTimes {
    /// Reads the checkout's index. One that cannot be read (or none) makes all files fresh: slower builds, nothing else.
    pub fn of(repository: &Repository) -> WarmTimes {
        let path = repository.git_dir().join("index");
        let (Some(folder), Ok(bytes), Ok(metadata)) =
            (repository.workdir(), std::fs::read(&path), std::fs::metadata(&path))
        else {
            return WarmTimes::default();
        };
        let index_seconds = i64::from(Stat::of(&metadata).mtime.0);
        WarmTimes { index: Index::parse(&bytes).ok(), index_seconds, folder: folder.to_owned() }
    }

    /// The modification time of the user's file at `path`, if git would call it unchanged and its content is `id`.
    pub fn get(&self, path: &[u8], id: Oid) -> Option<Timespec> {
        use std::os::unix::ffi::OsStrExt as _;
        let entry = self.index.as_ref()?.get(path).filter(|entry| entry.id == id)?;
        let at = self.folder.join(std::ffi::OsStr::from_bytes(path));
        let metadata = at.symlink_metadata().ok()?;
        let stat = Stat::of(&metadata);
        // As young as the index: it may have changed since without a trace. Git says so of some itself, by a size of 0.
        let racy = i64::from(stat.mtime.0) >= self.index_seconds || entry.stat.size == 0;
        let known = Stat { size: if racy { stat.size } else { entry.stat.size }, ..entry.stat };
        let is_unchanged = || !racy || holds(&at, id);
        (metadata.is_file() && stat.is_same_file(&known) && is_unchanged())
            .then(|| Timespec { tv_sec: i64::from(stat.mtime.0), tv_nsec: i64::from(stat.mtime.1) as _ })
    }
}

/// Whether a file has this content.
fn holds(file: &Path, id: Oid) -> bool {
    let hash = |bytes: Vec<u8>| Oid::hash_object(git2::ObjectType::Blob, &bytes).ok();
    std::fs::read(file).ok().and_then(hash) == Some(id)
}

/// What a checkout is made of.
pub struct Checkout<'a> {
    /// Where objects come from.
    pub repository: &'a Repository,
    /// What to write.
    pub tree: Oid,
    /// Paths to write; `None` writes all.
    pub sparse: Option<&'a PathGlobs>,
    /// Modification times.
    pub warm: &'a WarmTimes,
    /// Seconds since the Unix epoch.
    pub now_seconds: i64,
    /// How much there may be of it.
    pub bounds: &'a Bounds,
    /// Ends it, once it is true.
    pub stop: &'a AtomicBool,
}

/// A tree that was written out.
#[derive(Debug)]
pub struct Written {
    /// The index for exactly these files.
    pub index: Index,
    /// All folders of tracked files but the root, by path from it, parents first: what they look like when everything is
    /// written.
    pub folders: Vec<(Vec<u8>, Stat)>,
}

/// The folders and files of a tree, before anything is written.
struct Layout {
    /// Parents first.
    folders: Vec<Vec<u8>>,
    /// Sorted by path.
    entries: Vec<IndexEntry>,
}

impl Checkout<'_> {
    /// Writes everything below `root`, an empty folder.
    ///
    /// # Errors
    /// [`BaseError::HostileName`] and [`BaseError::TooLarge`] for a tree that no checkout should hold,
    /// [`BaseError::MissingObject`] in a partial clone, [`BaseError::Io`] when the disk is full, [`BaseError::Stopped`].
    pub fn write(&self, root: &Path) -> Result<Written, BaseError> {
        let mut layout = Layout { folders: Vec::new(), entries: Vec::new() };
        let cached = {
            let git = self.repository.handle()?;
            let odb = git.odb().map_err(tree::TreeError::from)?;
            measure(&odb, self.tree, self.bounds, self.stop)?;
            self.lay_out(&odb, self.tree, &mut Vec::new(), 0, &mut layout)?
        };
        let io = |source| BaseError::Io { path: root.to_owned(), source };
        let folder = File::open(root).map_err(io)?;
        for path in &layout.folders {
            rustix::fs::mkdirat(&folder, path.as_slice(), Mode::from_raw_mode(0o755))
                .map_err(|error| io(error.into()))?;
        }
        let Layout { mut entries, folders } = layout;
        let stats = self.write_files(&folder, &entries)?;
        for (at, stat) in stats {
            entries[at].stat = stat;
        }
        let index = Index::new(entries, cached);
        // The folder of a submodule is an entry of the index: git never looks into it for files of this repository.
        let folders = folders.into_iter().filter(|path| index.get(path).is_none());
        let folders = folders.map(|path| self.finish_folder(&folder, &path).map(|stat| (path, stat)));
        let folders = folders.collect::<Result<_, _>>().map_err(io)?;
        Ok(Written { index, folders })
    }

    /// Gives a folder in which everything is written its modification time.
    fn finish_folder(&self, root: &File, path: &[u8]) -> std::io::Result<Stat> {
        let fresh = self.fresh();
        let times = Timestamps { last_access: fresh, last_modification: fresh };
        rustix::fs::utimensat(root, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Stat::of(&File::from(open_folder(root, path)?).metadata()?))
    }

    /// When whatever the user's checkout does not hold unchanged was modified last.
    fn fresh(&self) -> Timespec {
        Timespec { tv_sec: self.now_seconds - FRESH_AGE_SECONDS, tv_nsec: 0 }
    }

    /// Returns the directory's cached tree, `None` when it holds a directory that git's index cannot express (an empty one).
    fn lay_out(
        &self,
        odb: &Odb<'_>,
        id: Oid,
        path: &mut Vec<u8>,
        depth: usize,
        layout: &mut Layout,
    ) -> Result<Option<CachedTree>, BaseError> {
        if depth > DEPTH_MAX {
            return Err(tree::TreeError::TooDeep.into());
        }
        self.go_on()?;
        let first = layout.entries.len();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        let mut below = Some(Vec::new());
        for (name, entry) in tree::list(odb, id)? {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            check_component(&name).map_err(|reason| BaseError::HostileName { path: path.clone(), reason })?;
            if entry.is_tree() {
                let at = layout.folders.len();
                let before = layout.entries.len();
                layout.folders.push(path.clone());
                let cached = self.lay_out(odb, entry.id, path, depth + 1, layout)?;
                below = below.zip(cached).map(|(mut all, one)| {
                    all.push(one);
                    all
                });
                if layout.entries[before..].iter().all(|entry| entry.presence == Presence::Skipped) {
                    layout.folders.truncate(at);
                }
            } else {
                self.lay_out_entry(path, entry.canonical(), layout);
            }
            path.truncate(length);
        }
        let count = (layout.entries.len() - first) as u32;
        let known = Some((count, id));
        Ok(below.filter(|_| count > 0).map(|below| CachedTree { name, known, below }))
    }

    /// # Errors
    /// [`BaseError::Stopped`].
    fn go_on(&self) -> Result<(), BaseError> {
        if self.stop.load(Ordering::Relaxed) { Err(BaseError::Stopped) } else { Ok(()) }
    }

    fn lay_out_entry(&self, path: &[u8], entry: tree::Entry, layout: &mut Layout) {
        let wanted = self.sparse.is_none_or(|sparse| sparse.matches(path));
        let presence = if wanted { Presence::CheckedOut } else { Presence::Skipped };
        if entry.mode == GITLINK && wanted {
            layout.folders.push(path.to_vec());
        }
        let (mode, id) = (entry.mode, entry.id);
        layout.entries.push(IndexEntry { path: path.to_vec(), mode, id, stat: Stat::default(), presence });
    }

    fn write_files(&self, root: &File, entries: &[IndexEntry]) -> Result<Vec<(usize, Stat)>, BaseError> {
        let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        let chunks = entries.len().div_ceil(CHUNK_FILES);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(chunks.max(1));
        std::thread::scope(|scope| {
            let work = || -> Result<Vec<(usize, Stat)>, BaseError> {
                let git = self.repository.handle()?;
                let odb = git.odb().map_err(tree::TreeError::from)?;
                let mut writer = FileWriter { checkout: self, odb, root, folder: None, bytes: &bytes };
                let mut stats = Vec::new();
                loop {
                    let start = next.fetch_add(1, Ordering::Relaxed) * CHUNK_FILES;
                    if start >= entries.len() {
                        return Ok(stats);
                    }
                    let end = (start + CHUNK_FILES).min(entries.len());
                    for (at, entry) in entries[start..end].iter().enumerate() {
                        if entry.presence == Presence::CheckedOut && entry.mode != GITLINK {
                            stats.push((start + at, writer.write(entry)?));
                        }
                    }
                }
            };
            // This thread is one of them, and all where the system makes no other.
            let other = |_| std::thread::Builder::new().name("checkout".to_owned()).spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(other).collect();
            let mut all = Vec::with_capacity(entries.len());
            all.extend(work()?);
            for thread in others {
                all.extend(thread.join().expect("BUG: a checkout thread panicked")?);
            }
            Ok(all)
        })
    }
}

/// One thread's way of writing files.
struct FileWriter<'a, 'odb> {
    checkout: &'a Checkout<'a>,
    odb: Odb<'odb>,
    root: &'a File,
    /// The folder of the last file: neighbours share it.
    folder: Option<(Vec<u8>, OwnedFd)>,
    /// What all threads have written.
    bytes: &'a AtomicU64,
}

impl FileWriter<'_, '_> {
    fn write(&mut self, entry: &IndexEntry) -> Result<Stat, BaseError> {
        self.checkout.go_on()?;
        let io = |source: std::io::Error| BaseError::Io { path: path_of(&entry.path), source };
        let repository = self.checkout.repository;
        let blob = repository.blob(&self.odb, entry.id);
        let blob = blob.map_err(|error| BaseError::of_blob(repository, &entry.path, entry.id, error))?;
        let size = blob.len() as u64;
        let (count, max) = (self.bytes.fetch_add(size, Ordering::Relaxed) + size, self.checkout.bounds.bytes);
        if count > max {
            let tree = self.checkout.tree;
            return Err(BaseError::TooLarge { tree, what: "bytes in its files or more", count, max });
        }
        let (folder, name) = match entry.path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&entry.path[..slash], &entry.path[slash + 1..]),
            None => (&b"."[..], entry.path.as_slice()),
        };
        if self.folder.as_ref().is_none_or(|(known, _)| known != folder) {
            self.folder = Some((folder.to_vec(), open_folder(self.root, folder).map_err(io)?));
        }
        let (_, folder) = self.folder.as_ref().expect("it was opened above");
        let time = self.checkout.warm.get(&entry.path, entry.id);
        let fresh = self.checkout.fresh();
        let time = time.filter(|time| time.tv_sec < fresh.tv_sec).unwrap_or(fresh);
        write_entry(folder, name, entry.mode, &blob, time).map_err(io)
    }
}

/// Opens a folder below `root`, following no link on the way.
pub(super) fn open_folder(root: &File, path: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Makes one file or link that does not exist yet, with its modification time.
pub(super) fn write_entry(
    folder: impl AsFd,
    name: &[u8],
    mode: u32,
    content: &[u8],
    time: Timespec,
) -> std::io::Result<Stat> {
    let times = Timestamps { last_access: time, last_modification: time };
    if mode == SYMLINK {
        rustix::fs::symlinkat(content, &folder, name)?;
        rustix::fs::utimensat(&folder, name, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = File::from(rustix::fs::openat(&folder, name, flags, Mode::empty())?);
        return Ok(Stat::of(&link.metadata()?));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let permissions = if mode == EXECUTABLE { 0o755 } else { 0o644 };
    let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(permissions))?);
    file.write_all(content)?;
    rustix::fs::futimens(&file, &times)?;
    Ok(Stat::of(&file.metadata()?))
}

fn path_of(bytes: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
