//! What the gate left of ignored files when it passed on the base: build output, which later verifications find under their
//! own trees, so that they build only what differs from the base. Comes in: a worktree of the base whose process tree is
//! dead. Goes out: a read-only layer. Why of the base only, [`crate::executor::verify`] says.
//!
//! *The layer holds nothing that git would see.* What the gate did to tracked files is put back, and untracked files that no
//! ignore rule covers are gone, as are pipes, sockets and devices. Whiteouts and opaque folders would hide what lies below.
//!
//! *What differs from the base is younger than all that was built from it.* Most build tools decide by modification times: a
//! changed file that looks older than the output would not be built again, and a red tree would be called green. So no file of
//! the layer is younger than the layer, and every file of a delta on top of it is a second younger at least.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use git2::{Odb, Oid};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::eviction::used;
use super::published::{Survives, is_of_this_boot, publish};
use super::setup::{OPAQUE, drop_cache};
use super::{BaseError, Bases, Layers, key};
use crate::collect::ignore_rules::{IgnoreRules, Kind};
use crate::removal::remove_tree;
use crate::tree::{self, EXECUTABLE, Entry, FILE, TreeError};
use crate::worktree::Worktree;

/// The file beside a layer that says when it was made, in decimal nanoseconds since the Unix epoch.
const MADE: &str = "made";
const NANOS: u64 = 1_000_000_000;
/// Folders on the way to what is kept; what lies deeper, and in no ignored folder, is dropped.
const DEPTH_MAX: usize = 256;
/// Nanoseconds by which a changed file is younger than the layer at least: some tools compare whole seconds.
const YOUNGER_NS: u64 = NANOS;

/// A layer of build output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warm {
    /// Relative to the state folder.
    pub name: String,
    /// Nothing in it is younger; nanoseconds since the Unix epoch.
    made_ns: u64,
}

impl Warm {
    /// What tells it from one that is made again under the same name.
    pub fn identity(&self) -> String {
        format!("{} {}", self.name, self.made_ns)
    }

    /// A modification time behind everything in it.
    pub fn behind(&self) -> Timespec {
        time(now_ns().max(self.made_ns.saturating_add(YOUNGER_NS)))
    }

    fn read(bases: &Bases, name: String) -> Option<Warm> {
        let text = fs::read_to_string(bases.state.path(&name).join(MADE)).ok()?;
        Some(Warm { made_ns: text.trim().parse().ok()?, name })
    }
}

impl Layers {
    /// Which build output they hold; `None` when they hold none.
    pub fn warmth(&self) -> Option<String> {
        self.stack.warm.as_ref().map(Warm::identity)
    }
}

impl Bases {
    /// The layers with what the gate of that key left on this base since the machine was started; `None` when that is nothing.
    pub fn known_warm(&self, base: &Layers, gate: &str) -> Option<Layers> {
        let name = warm_name(base, gate);
        if !is_of_this_boot(&self.state, &name) {
            return None;
        }
        used(&self.state.path(&name));
        let warm = Warm::read(self, name)?;
        let is_empty = fs::read_dir(self.state.path(&format!("{}/tree", warm.name))).ok()?.next().is_none();
        (!is_empty).then(|| with_warm(base, warm))
    }

    /// Makes the ignored files that the gate of that key left in `worktree` (made of `base`, its process tree dead, its verdict
    /// green) a layer under later verifications; `None` when it left none. The worktree is used up.
    ///
    /// # Errors
    /// [`BaseError::Io`], usually a full disk, and those of reading the base's tree: there is no such layer then.
    pub fn adopt_warm_layer(&self, base: &Layers, gate: &str, worktree: Worktree) -> Result<Option<Layers>, BaseError> {
        let name = warm_name(base, gate);
        let written = worktree.written_dir();
        let io = |source| BaseError::Io { path: written.clone(), source };
        worktree.strip_git_dir().map_err(io)?;
        publish(&self.state, &name, Survives::Never, |layer| {
            base.caches.iter().try_for_each(|cache| drop_cache(&written, cache, worktree.backend()))?;
            let git = self.repository.handle()?;
            let odb = git.odb().map_err(TreeError::from)?;
            let ignore = IgnoreRules::new(&self.repository.exclude_files()?);
            let made_ns = now_ns();
            let top = Place { base: Some(base.tree), ignored: false, depth: 0 };
            Sieve { odb: &odb, ignore, made_ns, root: &written }.folder(&mut Vec::new(), top)?;
            fs::write(layer.join(MADE), made_ns.to_string()).map_err(io)?;
            fs::remove_dir(layer.join("tree")).and_then(|()| fs::rename(&written, layer.join("tree"))).map_err(io)
        })?;
        drop(worktree.remove().map_err(io)?);
        Ok(self.known_warm(base, gate))
    }
}

/// Everything else that the output depends on is part of the gate's key.
fn warm_name(base: &Layers, gate: &str) -> String {
    format!("layers/{}", key(&[b"warm", base.content().as_bytes(), gate.as_bytes()]))
}

fn with_warm(base: &Layers, warm: Warm) -> Layers {
    let mut layers = base.clone();
    layers.stack.warm = Some(warm);
    layers
}

pub(super) fn now_ns() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn time(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NANOS) as i64, tv_nsec: (ns % NANOS) as _ }
}

/// A folder on the way.
#[derive(Clone, Copy)]
struct Place {
    /// The base's folder of that name.
    base: Option<Oid>,
    /// An ignore rule covers it or one above it, though the base has files in it.
    ignored: bool,
    depth: usize,
}

/// Takes everything out of a written folder but what ignore rules cover.
struct Sieve<'a> {
    odb: &'a Odb<'a>,
    ignore: IgnoreRules,
    made_ns: u64,
    root: &'a Path,
}

impl Sieve<'_> {
    /// Sifts the folder at `path` from the root.
    fn folder(&mut self, path: &mut Vec<u8>, place: Place) -> Result<(), BaseError> {
        let listing = place.base.map(|id| tree::list(self.odb, id)).transpose()?.unwrap_or_default();
        let listing: BTreeMap<Vec<u8>, Entry> = listing.into_iter().collect();
        let rules =
            match listing.get(&b".gitignore"[..]).filter(|entry| matches!(entry.canonical().mode, FILE | EXECUTABLE)) {
                Some(entry) => Some(self.odb.read(entry.id).map_err(TreeError::from)?.data().to_vec()),
                None => None,
            };
        self.ignore.enter(path, rules.as_deref());
        let folder = self.at(path);
        let io = |source| BaseError::Io { path: folder.clone(), source };
        for (entry, metadata) in self.listed(&folder).map_err(io)? {
            let (name, length) = (entry.file_name(), path.len());
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            self.entry(path, &metadata, listing.get(name.as_bytes()).copied(), place)?;
            path.truncate(length);
        }
        self.ignore.leave();
        Ok(())
    }

    fn entry(
        &mut self,
        path: &mut Vec<u8>,
        known: &Metadata,
        base: Option<Entry>,
        place: Place,
    ) -> Result<(), BaseError> {
        let at = self.at(path);
        let io = |source| BaseError::Io { path: at.clone(), source };
        let ignored =
            place.ignored || self.ignore.excludes(path, if known.is_dir() { Kind::Folder } else { Kind::File });
        if base.is_none() && ignored {
            return self.keep(at.clone(), known).map_err(io);
        }
        let below = base.filter(|entry| entry.is_tree()).map(|entry| entry.id);
        if !known.is_dir() || base.is_some() && below.is_none() || place.depth >= DEPTH_MAX {
            return remove_tree(&at).map_err(io);
        }
        self.folder(path, Place { base: below, ignored, depth: place.depth + 1 })?;
        // What git does not know of a folder is nobody's change either, and would show through.
        fs::set_permissions(&at, Permissions::from_mode(0o755)).map_err(io)?;
        match fs::remove_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(io(error)),
            _ => Ok(()),
        }
    }

    /// Keeps an ignored entry with all below it, as far as that is files, folders and links.
    fn keep(&self, at: PathBuf, known: &Metadata) -> io::Result<()> {
        let mut pending = vec![(at, known.clone())];
        while let Some((at, known)) = pending.pop() {
            if known.is_dir() {
                pending.extend(self.listed(&at)?.into_iter().map(|(entry, known)| (entry.path(), known)));
            } else if !known.is_file() && !known.is_symlink() {
                fs::remove_file(&at)?;
                continue;
            }
            let changed_ns = i128::from(known.mtime()) * i128::from(NANOS) + i128::from(known.mtime_nsec());
            if changed_ns > i128::from(self.made_ns) {
                let times = Timestamps { last_access: time(self.made_ns), last_modification: time(self.made_ns) };
                rustix::fs::utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// What is in a folder, which is made to show what lies below it. Nothing changes it meanwhile: what is no link stays none.
    fn listed(&self, folder: &Path) -> io::Result<Vec<(DirEntry, Metadata)>> {
        for name in OPAQUE {
            let _ = rustix::fs::lremovexattr(folder, name);
        }
        let mode = folder.symlink_metadata()?.mode();
        if mode & 0o700 != 0o700 {
            fs::set_permissions(folder, Permissions::from_mode(mode & 0o777 | 0o700))?;
        }
        let entry = |entry: io::Result<DirEntry>| entry.and_then(|entry| Ok((entry.metadata()?, entry)));
        fs::read_dir(folder)?.map(|found| entry(found).map(|(metadata, entry)| (entry, metadata))).collect()
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BACKENDS, Scene, run_in};
    use crate::worktree::Backend;

    const FILES: [(&str, &str); 5] = [
        (".gitignore", "target/*\n!target/kept\n*.o\n"),
        ("README", "hello\n"),
        ("bin/tool", "#!/bin/sh\n"),
        ("a/b/c", "1\n"),
        ("target/kept", "tracked\n"),
    ];

    /// What the gate runs on the base, and what a script prints on the base and on the commit behind it, both warm; `None` where
    /// nothing can be mounted.
    fn warm(backend: Backend, gate: &str, behind: &[(&str, &str)], script: &str) -> Option<[String; 2]> {
        let scene = Scene::new(&FILES);
        let bases = scene.bases(backend, |_| {});
        let head = scene.repository.resolve("HEAD").expect("a commit");
        let base = bases.prepare(head).expect("a base");
        let first = scene.worktree(&base, backend);
        run_in(&first, gate)?;
        assert_eq!(bases.known_warm(&base, "gate"), None);
        let layers = bases.adopt_warm_layer(&base, "gate", first).expect("a layer").expect("build output");
        assert_eq!(bases.known_warm(&base, "gate"), Some(layers.clone()));
        assert_eq!(bases.known_warm(&base, "another gate"), None);
        let mut printed = Vec::new();
        for commit in [head, scene.fixture.commit(behind)] {
            let worktree = scene.worktree(&bases.derive(&layers, commit).expect("layers"), backend);
            printed.push(run_in(&worktree, script)?);
            drop(worktree.remove().expect("removed"));
        }
        printed.try_into().ok()
    }

    #[test]
    fn build_output_stays_and_nothing_else_that_the_gate_did() {
        let gate = "mkdir -p target/deep loose && echo built > target/deep/x.o && ln -s /etc target/link && mkfifo target/pipe \
            && echo built > loose/y.o && chmod 000 target/deep/x.o && chmod 111 target/deep \
            && echo spoilt > README && rm bin/tool && echo spoilt > target/kept && rm -r a && ln -s /tmp a \
            && echo loose > loose/file && echo loose > loose.txt && mkdir bin/tool && echo x > bin/tool/z.o && rm -rf .git";
        let script = "git status --porcelain && find . -path ./.git -prune -o ! -type d -print | sort \
            && cat README target/kept a/b/c && test -x bin/tool && stat -c %a target/deep";
        let kept = "./.gitignore\n./README\n./a/b/c\n./bin/tool\n./loose/y.o\n./target/deep/x.o\n./target/kept\n./target/link\n\
            hello\ntracked\n1\n";
        for backend in BACKENDS {
            let Some([on_base, _]) = warm(backend, gate, &[], script) else { continue };
            assert_eq!(on_base.strip_prefix(kept).map(|mode| mode.len()), Some(4), "{backend:?}: {on_base}");
        }
    }

    #[test]
    fn what_differs_from_the_base_is_younger_than_all_that_was_built() {
        let gate = "mkdir target/out && cp README target/out/ && touch -d 2099-01-01 target/future";
        let script = "find . -name README -newer target/future -newer target/out && cat README";
        for backend in BACKENDS {
            let behind = [("README", "changed\n")];
            let Some([on_base, changed]) = warm(backend, gate, &behind, script) else { continue };
            assert_eq!((on_base.as_str(), changed.as_str()), ("hello\n", "./README\nchanged\n"), "{backend:?}");
        }
    }

    #[test]
    fn a_tracked_file_shows_where_something_was_built() {
        let gate = "mkdir target/out target/dir && echo built > target/out/file && echo built > target/name.o";
        let behind = [("target/out", "a file\n"), ("target/name.o/x", "a folder\n")];
        let script =
            "cat target/out 2>/dev/null || cat target/out/file; cat target/name.o/x 2>/dev/null || cat target/name.o";
        // Rules of the later tree let `git add -A` take them.
        let behind: Vec<(&str, &str)> = [(".gitignore", "")].into_iter().chain(behind).collect();
        for backend in BACKENDS {
            let Some([on_base, changed]) = warm(backend, gate, &behind, script) else { continue };
            assert_eq!((on_base.as_str(), changed.as_str()), ("built\nbuilt\n", "a file\na folder\n"), "{backend:?}");
        }
    }
}
