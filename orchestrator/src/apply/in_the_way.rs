//! What lies in a checkout where an application would write. Git tells what is changed, untracked or ignored; of pipes, sockets
//! and devices, of links in the place of folders, and of files that it was told not to look at it says nothing, so those are
//! looked for one by one.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use git2::{
    AttrCheckFlags, Diff, DiffOptions, ErrorCode, FileMode, Index, IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag,
    IndexTime, Oid, Status, StatusOptions,
};

use super::{ApplyError, PATHS_MAX};
use crate::collect::display_path;

/// Something that is nobody's change and has to make way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Absolute.
    pub at: PathBuf,
    /// Where it would be out of the way: absolute.
    pub aside: PathBuf,
    /// From the checkout's root, rendered for people.
    shown: String,
    what: &'static str,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.shown, self.what)
    }
}

/// Compares what will be written with what is there: staged, unstaged, untracked, ignored or unknown to git.
pub(super) fn refuse_overwriting(git: &git2::Repository, from: Oid, to: Oid) -> Result<(), ApplyError> {
    let root = git.workdir().ok_or(ApplyError::Bare)?;
    let unmerged = unmerged_here(git)?;
    if !unmerged.is_empty() {
        return Err(ApplyError::Unmerged { paths: unmerged });
    }
    let diff = git.diff_tree_to_tree(Some(&git.find_tree(from)?), Some(&git.find_tree(to)?), None)?;
    let (mut touched, mut written) = (BTreeSet::new(), BTreeSet::new());
    for delta in diff.deltas() {
        for file in [delta.old_file(), delta.new_file()] {
            touched.extend(file.path_bytes().map(<[u8]>::to_vec));
        }
        written.extend(delta.new_file().path_bytes().filter(|_| delta.new_file().exists()).map(<[u8]>::to_vec));
    }
    let left_out = left_out_here(git, root, &touched)?;
    if !left_out.is_empty() {
        return Err(ApplyError::Sparse { paths: left_out });
    }
    let filtered = filtered_here(git, &written)?;
    if !filtered.is_empty() {
        return Err(ApplyError::Filtered { paths: filtered });
    }
    let as_files = links_as_files(git, &diff)?;
    if !as_files.is_empty() {
        return Err(ApplyError::LinksAsFiles { paths: as_files });
    }
    let Known { changes, moved, mut obstacles } = known_to_git(git, root, &touched)?;
    if !changes.is_empty() {
        return Err(ApplyError::LocalChanges { paths: changes });
    }
    if !moved.is_empty() {
        return Err(ApplyError::Moved { paths: moved });
    }
    let hidden = hidden_from_git(git, &touched)?;
    if !hidden.is_empty() {
        return Err(ApplyError::HiddenChanges { paths: hidden });
    }
    let mut folders = HashSet::new();
    let unknown = written.iter().filter_map(|path| on_the_way(root, path, &touched, &mut folders));
    for path in unknown {
        let found = obstacle(root, &path, &touched);
        if obstacles.len() < PATHS_MAX && !obstacles.contains(&found) {
            obstacles.push(found);
        }
    }
    if obstacles.is_empty() { Ok(()) } else { Err(ApplyError::InTheWay { obstacles }) }
}

/// What git tells of a checkout; paths are rendered for people, at most 20 of each.
#[derive(Default)]
struct Known {
    /// Changes of somebody's.
    changes: Vec<String>,
    /// Files that the index no longer has where they were.
    moved: Vec<String>,
    /// What it ignores.
    obstacles: Vec<Obstacle>,
}

/// What git tells of what is where something will be written.
fn known_to_git(git: &git2::Repository, root: &Path, touched: &BTreeSet<Vec<u8>>) -> Result<Known, ApplyError> {
    let mut options = StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).include_ignored(true).recurse_ignored_dirs(false);
    let Known { mut changes, mut moved, mut obstacles } = Known::default();
    for entry in git.statuses(Some(&mut options))?.iter() {
        let path = entry.path_bytes();
        // A whole ignored folder is one entry that ends in a slash.
        let folder = path.strip_suffix(b"/");
        let below = || touched.range(path.to_vec()..).next().filter(|first| first.starts_with(path));
        let in_the_way = match folder {
            Some(folder) if touched.contains(folder) || lies_below_touched(folder, touched) => Some(folder),
            Some(_) => below().map(Vec::as_slice).filter(|first| exists(root, first)),
            None => Some(path).filter(|path| touched.contains(*path) || lies_below_touched(path, touched)),
        };
        match in_the_way {
            // Git looks into no repository in another one, and stashes none.
            Some(at) if entry.status() == Status::IGNORED || folder.is_some() => {
                obstacles.extend((obstacles.len() < PATHS_MAX).then(|| obstacle(root, at, touched)));
            }
            Some(_) if entry.status() == Status::INDEX_DELETED && moved.len() < PATHS_MAX => {
                moved.push(display_path(path));
            }
            Some(_) if !matches!(entry.status(), Status::CURRENT | Status::IGNORED) && changes.len() < PATHS_MAX => {
                changes.push(display_path(path));
            }
            _ => {}
        }
    }
    Ok(Known { changes, moved, obstacles })
}

/// Files of which the index holds several versions, wherever they are: git itself merges nothing then. Rendered for people.
fn unmerged_here(git: &git2::Repository) -> Result<Vec<String>, ApplyError> {
    let mut paths = BTreeSet::new();
    for conflict in git.index()?.conflicts()? {
        let conflict = conflict?;
        paths.extend([conflict.our, conflict.their, conflict.ancestor].into_iter().flatten().map(|entry| entry.path));
    }
    Ok(paths.iter().take(PATHS_MAX).map(|path| display_path(path)).collect())
}

/// Files that are not checked out, as a sparse checkout leaves them; rendered for people.
fn left_out_here(git: &git2::Repository, root: &Path, touched: &BTreeSet<Vec<u8>>) -> Result<Vec<String>, ApplyError> {
    let index = git.index()?;
    let absent =
        index.iter().filter(|entry| touched.contains(&entry.path) && is_skipped(entry) && !exists(root, &entry.path));
    Ok(absent.take(PATHS_MAX).map(|entry| display_path(&entry.path)).collect())
}

/// Files that git would not write as they are stored, line ends aside; rendered for people. Source: gitattributes(5), `filter` and
/// `working-tree-encoding`; a filter that is not configured is none.
fn filtered_here(git: &git2::Repository, written: &BTreeSet<Vec<u8>>) -> Result<Vec<String>, ApplyError> {
    let config = git.config()?.snapshot()?;
    let attribute = |path: &[u8], name: &str| {
        let value = git.get_attr(Path::new(OsStr::from_bytes(path)), name, AttrCheckFlags::FILE_THEN_INDEX)?;
        Ok::<_, git2::Error>(value.map(str::to_owned))
    };
    let is_configured = |filter: &str| {
        let keys = ["smudge", "process", "required"].map(|key| format!("filter.{filter}.{key}"));
        keys.iter().any(|key| config.get_entry(key).is_ok())
    };
    let mut filtered = Vec::new();
    for path in written {
        let by_filter = attribute(path, "filter")?.is_some_and(|filter| is_configured(&filter));
        if by_filter || attribute(path, "working-tree-encoding")?.is_some() {
            filtered.push(display_path(path));
        }
        if filtered.len() == PATHS_MAX {
            break;
        }
    }
    Ok(filtered)
}

/// Links that change or go, where git wrote a file for each; rendered for people. libgit2 takes such a file for somebody's change.
/// Source: git-config(1), `core.symlinks`.
fn links_as_files(git: &git2::Repository, diff: &Diff<'_>) -> Result<Vec<String>, ApplyError> {
    match git.config()?.get_bool("core.symlinks") {
        Ok(false) => {}
        Err(error) if error.code() != ErrorCode::NotFound => return Err(error.into()),
        Ok(true) | Err(_) => return Ok(Vec::new()),
    }
    let old = diff.deltas().filter(|delta| delta.old_file().mode() == FileMode::Link);
    Ok(old.filter_map(|delta| delta.old_file().path_bytes().map(display_path)).take(PATHS_MAX).collect())
}

fn is_skipped(entry: &IndexEntry) -> bool {
    IndexEntryExtendedFlag::from_bits_truncate(entry.flags_extended).is_skip_worktree()
}

/// Files that somebody told git not to look at, and that hold something else than git believes; rendered for people.
fn hidden_from_git(git: &git2::Repository, touched: &BTreeSet<Vec<u8>>) -> Result<Vec<String>, ApplyError> {
    let is_hidden =
        |entry: &IndexEntry| IndexEntryFlag::from_bits_truncate(entry.flags).is_valid() || is_skipped(entry);
    // Git looks for itself, by an index that tells it nothing of what these files looked like: it knows of line ends, filters,
    // links and modes.
    let mut blank = Index::new()?;
    let mut options = DiffOptions::new();
    options.include_typechange(true).disable_pathspec_match(true).ignore_submodules(true);
    let index = git.index()?;
    for entry in index.iter().filter(|entry| touched.contains(&entry.path) && is_hidden(entry)) {
        options.pathspec(entry.path.as_slice());
        let (never, flags) = (IndexTime::new(0, 0), entry.flags & !IndexEntryFlag::VALID.bits());
        blank.add(&IndexEntry { ctime: never, mtime: never, file_size: 0, flags, flags_extended: 0, ..entry })?;
    }
    if blank.is_empty() {
        return Ok(Vec::new());
    }
    let diff = git.diff_index_to_workdir(Some(&blank), Some(&mut options))?;
    let changed = diff.deltas().filter_map(|delta| delta.old_file().path_bytes().map(display_path));
    Ok(changed.take(PATHS_MAX).collect())
}

/// Whether a file that will be written takes the place of a folder that `path` lies in.
fn lies_below_touched(path: &[u8], touched: &BTreeSet<Vec<u8>>) -> bool {
    above(path).any(|above| touched.contains(above))
}

/// The folders above a path, topmost first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

fn exists(root: &Path, path: &[u8]) -> bool {
    root.join(OsStr::from_bytes(path)).symlink_metadata().is_ok()
}

/// The first place on the way to a file that will be written, or its own, where something is that git does not tell of. `folders`
/// are those that were found to be such.
fn on_the_way(
    root: &Path,
    path: &[u8],
    touched: &BTreeSet<Vec<u8>>,
    folders: &mut HashSet<Vec<u8>>,
) -> Option<Vec<u8>> {
    for above in above(path) {
        if folders.contains(above) {
            continue;
        }
        match root.join(OsStr::from_bytes(above)).symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => folders.insert(above.to_vec()),
            // A tracked file or link, which goes.
            Ok(_) if touched.contains(above) => return None,
            Ok(_) => return Some(above.to_vec()),
            Err(_) => return None,
        };
    }
    let at = root.join(OsStr::from_bytes(path));
    let kind = at.symlink_metadata().ok()?.file_type();
    // What is tracked in it goes with it; what else is a file, git told. An empty one makes way.
    let holds_empty_folders = || {
        let below = [path, b"/"].concat();
        let is_known = touched.range(below.clone()..).next().is_some_and(|first| first.starts_with(&below));
        !is_known && std::fs::read_dir(&at).is_ok_and(|mut entries| entries.next().is_some())
    };
    let is_in_the_way = if kind.is_dir() { holds_empty_folders() } else { !kind.is_file() && !kind.is_symlink() };
    is_in_the_way.then(|| path.to_vec())
}

fn obstacle(root: &Path, path: &[u8], touched: &BTreeSet<Vec<u8>>) -> Obstacle {
    let at = root.join(OsStr::from_bytes(path));
    let what = match at.symlink_metadata().map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_dir() && at.join(".git").symlink_metadata().is_ok() => "a repository of its own",
        Ok(kind) if kind.is_dir() => "a folder that git ignores, or of which it knows nothing",
        Ok(kind) if kind.is_symlink() => "a symbolic link",
        Ok(kind) if kind.is_file() => "a file that git ignores or that stands in the place of a folder",
        Ok(kind) if kind.is_fifo() => "a pipe",
        Ok(kind) if kind.is_socket() => "a socket",
        Ok(_) => "a device",
        Err(_) => "it cannot be looked at",
    };
    // Beside a file that takes the place of a folder, not in that folder.
    let replaced = above(path).find(|above| touched.contains(*above));
    let mut name = at.file_name().unwrap_or_default().to_owned();
    name.push(".mine");
    let beside = replaced.map_or_else(|| at.clone(), |replaced| root.join(OsStr::from_bytes(replaced)));
    Obstacle { aside: beside.with_file_name(name), at, shown: display_path(path), what }
}
