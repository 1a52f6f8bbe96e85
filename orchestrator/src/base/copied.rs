//! What worktrees get from the user's checkout beside tracked files: `[workspace] copy` (a few untracked files, in a layer of
//! their own) and `cache` (ignored folders, seen copy-on-write).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec};

use super::checkout::{open_folder, write_entry};
use super::delta::make_folders;
use super::published::{Survives, publish};
use super::{BaseError, key, secret_key};
use crate::entry_name::check_path;
use crate::repository::Repository;
use crate::state::StateDir;
use crate::tree::{EXECUTABLE, FILE, SYMLINK};

/// Files of all `copy` entries together.
const COPY_FILES_MAX: usize = 10_000;
/// Bytes of all `copy` entries together: they are read to find out whether they changed.
const COPY_BYTES_MAX: u64 = 256 << 20;
/// Folders below a `copy` entry.
const COPY_DEPTH_MAX: usize = 64;

/// One file to copy, already read.
struct Copied {
    path: Vec<u8>,
    mode: u32,
    content: Vec<u8>,
    time: Timespec,
}

/// The layer of `[workspace] copy`; `None` when nothing is listed. A bare repository has no checkout to copy from, and an
/// entry that is not there is left out: `.env` is often optional.
pub(super) fn copied_layer(
    repository: &Repository,
    state: &StateDir,
    entries: &[String],
) -> Result<Option<String>, BaseError> {
    let (Some(checkout), false) = (repository.workdir(), entries.is_empty()) else { return Ok(None) };
    let root = File::open(checkout).map_err(|source| BaseError::Io { path: checkout.to_owned(), source })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = relative(entry)?;
        read_entry(&root, entry, path.as_os_str().as_bytes(), 0, &mut files)?;
    }
    if files.is_empty() {
        return Ok(None);
    }
    let times: Vec<[u8; 16]> = files
        .iter()
        .map(|file| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&file.time.tv_sec.to_le_bytes());
            bytes[8..12].copy_from_slice(&file.mode.to_le_bytes());
            bytes
        })
        .collect();
    let mut parts: Vec<&[u8]> = vec![b"copied"];
    for (file, time) in files.iter().zip(&times) {
        parts.extend([file.path.as_slice(), time, file.content.as_slice()]);
    }
    let name = format!("layers/{}", secret_key(state, &parts)?);
    publish(state, &name, Survives::Never, |layer| {
        let path = layer.join("tree");
        let io = |source| BaseError::Io { path: path.clone(), source };
        let root = File::open(&path).map_err(io)?;
        for file in &files {
            let slash = file.path.iter().rposition(|&byte| byte == b'/');
            let (folder, name) =
                slash.map_or((&b"."[..], &file.path[..]), |at| (&file.path[..at], &file.path[at + 1..]));
            make_folders(&root, folder).map_err(io)?;
            let folder = open_folder(&root, folder).map_err(io)?;
            write_entry(&folder, name, file.mode, &file.content, file.time).map_err(io)?;
        }
        Ok(())
    })?;
    Ok(Some(name))
}

/// A digest of what each `copy` entry gives: paths, bits and bytes of its files, not their times. An entry that gives nothing,
/// or cannot be taken, has none.
pub(crate) fn digests(repository: &Repository, entries: &[String]) -> BTreeMap<String, String> {
    let Some(root) = repository.workdir().and_then(|checkout| File::open(checkout).ok()) else {
        return BTreeMap::new();
    };
    let mut files = Vec::new();
    let digest = |entry: &String| {
        let from = files.len();
        let path = relative(entry).ok()?;
        read_entry(&root, entry, path.as_os_str().as_bytes(), 0, &mut files).ok()?;
        let modes: Vec<[u8; 4]> = files[from..].iter().map(|file| file.mode.to_le_bytes()).collect();
        let parts = files[from..].iter().zip(&modes).flat_map(|(file, mode)| [&file.path[..], mode, &file.content]);
        let parts: Vec<&[u8]> = parts.collect();
        (!parts.is_empty()).then(|| (entry.clone(), key(&parts)))
    };
    entries.iter().filter_map(digest).collect()
}

/// The folders of `[workspace] cache` that exist in the checkout, from its root. One that is not there yet is left out.
pub(super) fn caches(repository: &Repository, entries: &[String]) -> Result<Vec<PathBuf>, BaseError> {
    let Some(checkout) = repository.workdir() else { return Ok(Vec::new()) };
    let git = repository.handle()?;
    let mut found = Vec::new();
    for entry in entries {
        let refuse = |reason| BaseError::Copy { path: entry.clone(), reason };
        let path = relative(entry)?;
        match checkout.join(&path).symlink_metadata() {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(source) => return Err(BaseError::Io { path: checkout.join(&path), source }),
            Ok(metadata) if !metadata.is_dir() => return Err(refuse("it is no folder")),
            Ok(_) => {}
        }
        // A link on the way would lead out of the checkout.
        if checkout.join(&path).canonicalize().ok() != Some(checkout.join(&path)) {
            return Err(refuse("a link is on the way to it"));
        }
        let below = [path.as_os_str().as_bytes(), b"/"].concat();
        let index = git.index().map_err(crate::repository::RepositoryError::from)?;
        if index.iter().any(|entry| entry.path.starts_with(&below)) {
            return Err(refuse("it holds tracked files; only ignored folders can be shared as caches"));
        }
        // The slash matters: a rule like `target/` is about folders.
        let ignored = git.is_path_ignored(std::ffi::OsStr::from_bytes(&below));
        if !ignored.map_err(crate::repository::RepositoryError::from)? {
            return Err(refuse("it is not ignored; add it to .gitignore"));
        }
        found.push(path);
    }
    Ok(found)
}

/// A path inside the checkout that is no part of any `.git`.
fn relative(entry: &str) -> Result<PathBuf, BaseError> {
    let refuse = |reason| BaseError::Copy { path: entry.to_owned(), reason };
    let mut path = PathBuf::new();
    for component in Path::new(entry).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(refuse("it must lie inside the checkout")),
        }
    }
    check_path(path.as_os_str().as_bytes()).map_err(refuse)?;
    Ok(path)
}

fn read_entry(root: &File, entry: &str, path: &[u8], depth: usize, files: &mut Vec<Copied>) -> Result<(), BaseError> {
    let refuse = |reason| BaseError::Copy { path: entry.to_owned(), reason };
    let io = |source: std::io::Error| BaseError::Io { path: PathBuf::from(entry), source };
    check_path(path).map_err(refuse)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::LOOP) if depth > 0 => {
            files.push(read_link(root, path).map_err(|error| io(error.into()))?);
            return within_bounds(files).map_err(refuse);
        }
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
            return Err(refuse("it is a link, or a link is on the way to it"));
        }
        Err(error) => return Err(io(error.into())),
    };
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        if depth == COPY_DEPTH_MAX {
            return Err(refuse("its folders are nested too deep"));
        }
        let mut listing = rustix::fs::Dir::read_from(&file).map_err(|error| io(error.into()))?;
        let mut names = Vec::new();
        while let Some(found) = listing.read() {
            let found = found.map_err(|error| io(error.into()))?;
            names.push(found.file_name().to_bytes().to_vec());
        }
        names.sort();
        // Of a repository within, a submodule's most often, the files: that of the worktree is the only one.
        for name in names.iter().filter(|name| !matches!(name.as_slice(), b"." | b".." | b".git")) {
            read_entry(root, entry, &[path, b"/", name].concat(), depth + 1, files)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(refuse("it holds something that is neither a file nor a folder"));
    }
    let mut content = Vec::new();
    (&mut file).take(COPY_BYTES_MAX + 1).read_to_end(&mut content).map_err(io)?;
    let mode = if metadata.mode() & 0o100 == 0 { FILE } else { EXECUTABLE };
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() as _ };
    files.push(Copied { path: path.to_vec(), mode, content, time });
    within_bounds(files).map_err(refuse)
}

/// A link inside of what is copied: it stays one, wherever it leads.
fn read_link(root: &File, path: &[u8]) -> rustix::io::Result<Copied> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let link = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
    let stat = rustix::fs::fstat(&link)?;
    let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Ok(Copied { path: path.to_vec(), mode: SYMLINK, content: target.into_bytes(), time })
}

fn within_bounds(files: &[Copied]) -> Result<(), &'static str> {
    let taken: u64 = files.iter().map(|file| file.content.len() as u64).sum();
    if files.len() > COPY_FILES_MAX || taken > COPY_BYTES_MAX {
        return Err("it is too large to be copied; a folder that is ignored can be a cache instead");
    }
    Ok(())
}
