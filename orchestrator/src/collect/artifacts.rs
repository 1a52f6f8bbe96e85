//! Files that a task hands on beside its change: copied out of the worktree (ignored ones and caches included) into the
//! attempt's artifacts folder, with the same care as everything else that a worker left.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;

use super::{CollectError, CollectLimits, Refusal, walk};
use crate::path_globs::PathGlobs;
use crate::worktree::Worktree;

/// What taking artifacts gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The paths that were copied, from the worktree's root, sorted.
    Files(Vec<Vec<u8>>),
    /// A limit was exceeded; what was copied before stays.
    Refused(Refusal),
}

/// Copies what matches `patterns` into the folder `name` of `out`, keeping relative paths. What the worker wrote wins over what
/// was there before; links are not copied. The worker could write in `out`, but not replace it: the folder that it left there
/// has to be one.
///
/// # Errors
/// [`CollectError::BadGlob`] and [`CollectError::Io`].
pub fn take_artifacts(
    worktree: &Worktree,
    patterns: &[String],
    (out, name): (&Path, &str),
    limits: &CollectLimits,
) -> Result<Taken, CollectError> {
    if patterns.is_empty() {
        return Ok(Taken::Files(Vec::new()));
    }
    let globs = PathGlobs::new(patterns)?;
    let io = |source| CollectError::Io { path: Vec::new(), source };
    let out = Dir::open_ambient_dir(out, ambient_authority()).map_err(io)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = match rustix::fs::openat(&out, name, flags, Mode::empty()) {
        Ok(folder) => Dir::from_std_file(folder.into()),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {
            let reason = "the folder for artifacts was removed or replaced".to_owned();
            return Ok(Taken::Refused(Refusal::Hostile { path: b"$SWARM_ARTIFACTS".to_vec(), reason }));
        }
        Err(error) => return Err(io(error.into())),
    };
    let mut taking = Taking { globs, to, limits, bytes: 0, paths_bytes: 0, entries: 0, taken: Vec::new() };
    // Topmost first, and what is taken once is not taken again.
    let mut roots: Vec<(PathBuf, Vec<u8>)> = vec![(worktree.written_dir(), Vec::new())];
    for (number, cache) in worktree.layers().caches.iter().enumerate() {
        let upper = worktree.attempt_dir().join(format!("cow/{number}/upper"));
        roots.push((upper, cache.as_os_str().as_bytes().to_vec()));
    }
    for (root, prefix) in roots.iter().filter(|(root, _)| root.is_dir()) {
        let dir = Dir::open_ambient_dir(root, ambient_authority())
            .map_err(|source| CollectError::Io { path: prefix.clone(), source })?;
        if let Err(stop) = taking.folder(&dir, prefix, 0) {
            return match stop {
                walk::Stop::Refused(refusal) => Ok(Taken::Refused(refusal)),
                walk::Stop::Failed(error) => Err(error),
            };
        }
    }
    taking.taken.sort();
    Ok(Taken::Files(taking.taken))
}

/// A sentence for people that names the patterns for which there is no file, neither among what was `taken` nor in what the
/// job itself wrote into `folder`; `None` where each has some. Of what the job wrote only plain names are looked up: beside a
/// glob, anything that it wrote passes for what was meant.
pub fn unmatched_note(patterns: &[String], taken: &[Vec<u8>], folder: &Path) -> Option<String> {
    let wrote = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let matches_none = |pattern: &&String| {
        let Ok(globs) = PathGlobs::new(&[pattern]) else { return false };
        let glob = pattern.contains(['*', '?', '[', '{', '!']);
        let there = if glob { wrote } else { folder.join(pattern).symlink_metadata().is_ok() };
        !there && !taken.iter().any(|path| globs.matches(path))
    };
    let named: Vec<String> = patterns.iter().filter(matches_none).map(|pattern| format!("`{pattern}`")).collect();
    (!named.is_empty()).then(|| format!("artifacts: it left no file that matches {}", named.join(", ")))
}

struct Taking<'a> {
    globs: PathGlobs,
    to: Dir,
    limits: &'a CollectLimits,
    bytes: u64,
    /// Bytes of the paths of `taken`.
    paths_bytes: u64,
    entries: u64,
    taken: Vec<Vec<u8>>,
}

impl Taking<'_> {
    fn folder(&mut self, dir: &Dir, path: &[u8], depth: usize) -> Result<(), walk::Stop> {
        if depth > self.limits.depth {
            return Err(over("depth", self.limits.depth as u64, path));
        }
        let io = |source: io::Error| CollectError::Io { path: path.to_vec(), source };
        for entry in dir.entries().map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(over("entries", self.limits.entries, path));
            }
            if depth == 0 && path.is_empty() && name == ".git" {
                continue;
            }
            let inner = if path.is_empty() { name.as_bytes().to_vec() } else { [path, b"/", name.as_bytes()].concat() };
            if inner.len() > self.limits.path_bytes {
                return Err(over("path_bytes", self.limits.path_bytes as u64, path));
            }
            let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| io(error.into()))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let below = walk::open_folder(dir, name.as_bytes(), &inner)?;
                    self.folder(&below, &inner, depth + 1)?;
                }
                FileType::RegularFile if self.globs.matches(&inner) => self.file(dir, name.as_bytes(), &inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<(), walk::Stop> {
        let io = |source: io::Error| CollectError::Io { path: path.to_vec(), source };
        let source = walk::open_even_if_locked(dir, name, path)?;
        let metadata = source.metadata().map_err(io)?;
        self.bytes += metadata.len();
        if self.bytes > self.limits.bytes {
            return Err(over("bytes", self.limits.bytes, path));
        }
        if self.taken.len() as u64 == self.limits.files {
            return Err(over("files", self.limits.files, path));
        }
        self.paths_bytes += path.len() as u64;
        if self.paths_bytes > self.limits.paths_bytes {
            return Err(over("paths_bytes", self.limits.paths_bytes, path));
        }
        // The job itself may write into its artifacts folder, so nothing that stands there is trusted: a link that it left
        // in place of a folder is resolved beneath this one or refused.
        let target = Path::new(std::ffi::OsStr::from_bytes(path));
        if let Some(folder) = target.parent() {
            self.to.create_dir_all(folder).map_err(io)?;
        }
        let _ = self.to.remove_file(target);
        let copy = self.to.open_with(target, OpenOptions::new().write(true).create_new(true)).map_err(io)?;
        copy_with_holes(&source, &copy.into_std(), metadata.len()).map_err(io)?;
        self.taken.push(path.to_vec());
        Ok(())
    }
}

/// Copies `length` bytes of a file onto an empty one, and its holes as holes: they cost the job nothing, so its limit on disk
/// bounds what a copy takes only where that has them, too. Source: lseek(2), `SEEK_DATA` and `SEEK_HOLE`.
///
/// # Errors
/// The file system's.
pub(crate) fn copy_with_holes(from: &File, to: &File, length: u64) -> io::Result<()> {
    let mut at = 0;
    while at < length {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data.min(length),
            // There is none behind.
            Err(Errno::NXIO) => length,
            Err(error) => return Err(error.into()),
        };
        if data == length {
            break;
        }
        at = seek(from, SeekFrom::Hole(data))?.min(length);
        seek(from, SeekFrom::Start(data))?;
        seek(to, SeekFrom::Start(data))?;
        io::copy(&mut from.take(at - data), &mut &*to)?;
    }
    to.set_len(length)
}

fn over(limit: &'static str, max: u64, path: &[u8]) -> walk::Stop {
    walk::Stop::Refused(Refusal::Limit { limit, max, path: path.to_vec() })
}
