//! What is to outlast a power cut is on the disk before anybody relies on it: the objects that a commit of ours brings, before a ref or
//! the journal names it, and a ref before the journal does. Both the journal and ext4 make what follows so: whoever syncs one file
//! there makes the names of all younger ones durable, too, and not what is in them, so that a power cut leaves objects of no bytes, or
//! of some of theirs, under names that git never writes again. What it left all the same is for [`super::damaged`].
//!
//! One `fdatasync` after the other flushes the disk's own cache for each object, although the disk was told of all of them first and
//! most are there by then: 23 objects take 40 ms, 102 take 95, and one `syncfs` takes 15 to 25. But that waits for all that builds have
//! written beside. So what nobody has written out yet decides ([`unwritten_bytes`]), until there are so many objects that it is the
//! smaller part.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use git2::{ConfigLevel, ObjectType, Oid};
use rustix::fs::{Advice, MemfdFlags, fadvise, fdatasync, memfd_create};

use super::inspection::Inspection;
use super::loose::Loose;
use super::{Handle, Repository, RepositoryError, sync_around};
use crate::fault;
use crate::tree::TreeError;

/// Objects that are written at once; each has its file open for so long.
const OPEN_MAX: usize = 64;

/// Objects from which on the whole file system is synced, whatever else it has to write.
const SYNCED_MAX: usize = 100;

/// Bytes that a disk writes while it flushes its cache once: a millisecond at 1 GB/s, or ten of a disk that turns at 100 MB/s.
const BYTES_A_FLUSH: u64 = 1 << 20;

/// What makes libgit2 sync a ref before it gets its name, and its folder behind that. Source: `loose_commit` and `refdb_backend_fs`
/// of libgit2 1.9.
const SYNCED: &[u8] = b"[core]\n\tfsyncObjectFiles = true\n";

/// What a commit of ours brings.
#[derive(Debug)]
pub(crate) enum Brought {
    /// All of it is there: these objects, which may be gone again where somebody collects garbage.
    All(Vec<Oid>),
    /// This is in no store.
    Missing(Oid),
}

impl Repository {
    /// Brings all to the disk that a commit and those behind it bring, back to one of `before`, before anything names it. A file of
    /// the store that is not what its name says gets out of the way: no git would write that object any more.
    ///
    /// # Errors
    /// [`RepositoryError`] when something cannot be read, or the disk failed to take it.
    pub(crate) fn bring_to_disk(&self, commit: Oid, before: &[Oid]) -> Result<Brought, RepositoryError> {
        fault::point().map_err(|source| RepositoryError::Io { path: self.common_dir.clone(), source })?;
        let git = self.handle()?;
        self.synced_all(self.brought(&git, commit, before)?)
    }

    /// The same of what a tree has and another one has not.
    ///
    /// # Errors
    /// As of [`Repository::bring_to_disk`].
    pub(crate) fn bring_tree_to_disk(&self, before: Oid, tree: Oid) -> Result<Brought, RepositoryError> {
        let git = self.handle()?;
        let mut inspection = Inspection::by(self, &git);
        let lacking = inspection.lacking_in_tree(Some(before), tree)?;
        self.synced_all(inspection.brought(lacking))
    }

    fn synced_all(&self, brought: Brought) -> Result<Brought, RepositoryError> {
        if let Brought::All(all) = &brought {
            self.sync(all)?;
        }
        Ok(brought)
    }

    fn sync(&self, objects: &[Oid]) -> Result<(), RepositoryError> {
        if objects.len() > SYNCED_MAX {
            return self.make_durable();
        }
        match unwritten_bytes() {
            Some(bytes) if bytes < BYTES_A_FLUSH * objects.len() as u64 => {
                let path = self.common_dir.join("objects");
                sync_around(&path).map_err(|source| RepositoryError::Io { path, source })
            }
            _ => self.sync_loose(objects),
        }
    }

    /// The first object found in no store of those that a commit and those behind it bring, back to one of `before`.
    ///
    /// # Errors
    /// [`RepositoryError`] when they cannot be read, which says nothing about what is there.
    pub(crate) fn first_missing(&self, commit: Oid, before: &[Oid]) -> Result<Option<Oid>, RepositoryError> {
        match self.brought(&self.fresh()?, commit, before)? {
            Brought::Missing(missing) => self.lies_nowhere(missing).map(|()| Some(missing)),
            Brought::All(_) => Ok(None),
        }
    }

    /// What a commit and those behind it bring, back to one of `before`.
    pub(super) fn brought(
        &self,
        git: &git2::Repository,
        commit: Oid,
        before: &[Oid],
    ) -> Result<Brought, RepositoryError> {
        let mut inspection = Inspection::by(self, git);
        let lacking = inspection.lacking(commit, before)?;
        Ok(inspection.brought(lacking))
    }

    /// Writes an object of ours to the disk, whatever a power cut left of an earlier one.
    ///
    /// # Errors
    /// [`RepositoryError`] when it cannot be written.
    pub(crate) fn write_durably(&self, kind: ObjectType, bytes: &[u8]) -> Result<Oid, RepositoryError> {
        let git = self.handle()?;
        let id = Oid::hash_object(kind, bytes)?;
        self.is_held(&git, id).map_err(|error| self.why_not_walked(error))?;
        let written = git.odb()?.write(kind, bytes)?;
        self.sync_loose(&[written])?;
        Ok(written)
    }

    /// Brings these objects to the disk where they are files of their own; those of packs are there.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when the disk failed to take one.
    pub(crate) fn sync_loose(&self, objects: &[Oid]) -> Result<(), RepositoryError> {
        for some in objects.chunks(OPEN_MAX) {
            let mut begun = Vec::with_capacity(some.len());
            for &id in some {
                let path = self.loose_path(id);
                match File::open(&path) {
                    // Writing begins here; that it was left out costs time only.
                    Ok(file) => {
                        let _ = fadvise(&file, 0, None, Advice::DontNeed);
                        begun.push((path, file));
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(source) => return Err(RepositoryError::Io { path, source }),
                }
            }
            for (path, file) in begun {
                fdatasync(&file).map_err(|error| RepositoryError::Io { path, source: error.into() })?;
            }
        }
        Ok(())
    }

    /// Whether objects that were brought are all there still, in whichever form.
    ///
    /// # Errors
    /// [`RepositoryError`] when the repository cannot be read.
    pub(crate) fn still_holds(&self, commit: Oid, before: &[Oid], brought: &[Oid]) -> Result<bool, RepositoryError> {
        let is_loose = |id: &Oid| self.loose_path(*id).symlink_metadata().is_ok();
        if brought.iter().all(is_loose) && !self.is_collected() {
            return Ok(true);
        }
        self.is_whole(commit, before)
    }

    /// Whether what failed with an error may be done when all of it is written once more: objects that it needs were there and are not
    /// any more, or files that are not what their names say were in their place.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] when the store cannot be read.
    pub(crate) fn may_be_written_again(&self, error: &RepositoryError) -> Result<bool, RepositoryError> {
        match error {
            RepositoryError::Vanished(_) => {
                // Who collects garbage takes again what is written while it is at it; and where one object was damaged, there are more.
                self.outlast_gc();
                self.remove_damaged().map(|_| true)
            }
            RepositoryError::Git(_) => Ok(self.remove_damaged()? > 0),
            _ => Ok(false),
        }
    }

    /// Whether some store has an object. A file that is not what its name says is no object, and gets out of the way.
    pub(super) fn is_held(&self, git: &git2::Repository, id: Oid) -> Result<bool, TreeError> {
        if self.loose(id)? == Loose::Whole {
            return Ok(true);
        }
        let odb = git.odb()?;
        if odb.exists(id) {
            return Ok(true);
        }
        odb.refresh()?;
        Ok(odb.exists(id))
    }

    pub(super) fn why_not_walked(&self, error: TreeError) -> RepositoryError {
        match error {
            TreeError::Store(error) => error.into(),
            other => RepositoryError::Io { path: self.common_dir.clone(), source: io::Error::other(other) },
        }
    }

    pub(super) fn loose_path(&self, id: Oid) -> PathBuf {
        let hex = id.to_string();
        self.common_dir.join("objects").join(&hex[..2]).join(&hex[2..])
    }

    /// A handle by which refs are on the disk once they are written. Objects are not written by it, each of which it would sync.
    pub(super) fn ref_handle(&self) -> Result<Handle<'_>, RepositoryError> {
        Handle::taken(&self.idle_for_refs, || self.fresh_for_refs())
    }

    /// The same for one use.
    pub(super) fn fresh_for_refs(&self) -> Result<git2::Repository, git2::Error> {
        let git = self.fresh()?;
        let synced = self.synced().map_err(|error| git2::Error::from_str(&error.to_string()))?;
        let path = format!("/proc/self/fd/{}", synced.as_raw_fd());
        // Configuration and repository are one and the same in libgit2: what is added here holds for the handle.
        git.config()?.add_file(Path::new(&path), ConfigLevel::App, true)?;
        Ok(git)
    }

    /// Makes HEAD stand for a commit and no branch, on the disk.
    ///
    /// # Errors
    /// As of [`Repository::compare_and_swap`].
    pub fn detach_head(&self, commit: Oid) -> Result<(), RepositoryError> {
        Ok(self.ref_handle()?.set_head_detached(commit)?)
    }

    /// A configuration file that says how refs are written, kept for as long as libgit2 may look at it again.
    fn synced(&self) -> io::Result<&File> {
        if let Some(file) = self.synced.get() {
            return Ok(file);
        }
        let mut file = File::from(memfd_create(c"swarm-refs", MemfdFlags::CLOEXEC)?);
        file.write_all(SYNCED)?;
        Ok(self.synced.get_or_init(|| file))
    }
}

/// What is in memory only of all that was written to files of this machine, on whichever disk; `None` where the kernel does not say.
/// Source: proc_meminfo(5), `Dirty` and `Writeback`.
fn unwritten_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some((kib("Dirty:")? + kib("Writeback:")?) << 10)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::git_fixture::{Fixture, git};

    /// A repository with a second commit, that commit and the first one.
    fn two() -> (Fixture, Repository, [Oid; 2]) {
        let fixture = Fixture::with_files(&[("a", "1"), ("d/b", "2"), ("d/e/c", "3")]);
        let repository = fixture.repository();
        let one = repository.resolve("HEAD").expect("a commit");
        let two = fixture.commit(&[("d/e/c", "4"), ("n/w", "5")]);
        (fixture, repository, [two, one])
    }

    fn named(fixture: &Fixture, name: &str) -> Oid {
        git(fixture.path(), &["rev-parse", name]).trim().parse().expect("an id")
    }

    #[test]
    fn a_commit_brings_what_its_parent_has_not() {
        let (fixture, repository, [two, one]) = two();
        let Brought::All(brought) = repository.bring_to_disk(two, &[one]).expect("legible") else {
            panic!("it is there")
        };
        let new = ["HEAD", "HEAD^{tree}", "HEAD:d", "HEAD:d/e", "HEAD:d/e/c", "HEAD:n", "HEAD:n/w"];
        let new: HashSet<Oid> = new.iter().map(|name| named(&fixture, name)).collect();
        assert_eq!(brought.into_iter().collect::<HashSet<_>>(), new);
    }

    #[test]
    fn an_object_that_is_not_what_its_name_says_is_missing_and_can_be_written_again() {
        type Harm = fn(&[u8]) -> Vec<u8>;
        let harms: [Harm; 4] =
            [|_| vec![], |_| vec![0; 3], |whole| whole[..whole.len() - 1].to_vec(), |whole| [whole, b"x"].concat()];
        for (lost, harm) in
            ["HEAD:n/w", "HEAD:d/e", "HEAD^{tree}", "HEAD"].iter().flat_map(|it| harms.map(|harm| (it, harm)))
        {
            let (fixture, repository, [two, one]) = two();
            let id = named(&fixture, lost);
            let path = repository.loose_path(id);
            let content = harm(&std::fs::read(&path).expect("loose"));
            std::fs::remove_file(&path).and_then(|()| std::fs::write(&path, content)).expect("loose");
            let said = repository.bring_to_disk(two, &[one]).expect("legible");
            assert!(matches!(said, Brought::Missing(missing) if missing == id), "{lost}: {said:?}");
            assert!(!path.exists(), "{lost}");
            assert_eq!(repository.first_missing(two, &[one]).expect("legible"), Some(id), "{lost}");
        }
    }

    #[test]
    fn what_a_commit_stands_on_may_be_what_is_missing() {
        for lost in ["HEAD", "HEAD^{tree}", "HEAD:d"] {
            let (fixture, repository, [_, one]) = two();
            let three = fixture.commit(&[("d/b", "6")]);
            let id = named(&fixture, &lost.replace("HEAD", "HEAD~1"));
            std::fs::remove_file(repository.loose_path(id)).expect("loose");
            assert_eq!(repository.first_missing(three, &[one]).expect("legible"), Some(id), "{lost}");
        }
    }

    #[test]
    fn however_many_objects_a_commit_brings_each_is_looked_for() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let one = fixture.repository().resolve("HEAD").expect("a commit");
        let names: Vec<String> = (0..=SYNCED_MAX).map(|at| format!("f{at:04}")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let two = fixture.commit(&files);
        let repository = fixture.repository();
        let said = repository.bring_to_disk(two, &[one]).expect("legible");
        let Brought::All(brought) = said else { panic!("{said:?}") };
        assert_eq!(brought.len(), names.len() + 2, "a commit, a tree and what is in it");
        assert!(repository.is_whole(two, &[one]).expect("legible"));
        let last = named(&fixture, &format!("HEAD:{}", names[SYNCED_MAX]));
        std::fs::remove_file(repository.loose_path(last)).expect("loose");
        assert!(!repository.still_holds(two, &[one], &brought).expect("legible"));
        std::fs::write(repository.loose_path(last), "").expect("space");
        assert!(!repository.is_whole(two, &[one]).expect("legible"), "an empty file is no object");
        std::fs::write(repository.loose_path(last), "").expect("space");
        let said = repository.bring_to_disk(two, &[one]).expect("legible");
        assert!(matches!(said, Brought::Missing(missing) if missing == last), "{said:?}");
    }

    #[test]
    fn a_tree_brings_what_another_has_not() {
        let (fixture, repository, _) = two();
        let [one, two] = ["HEAD~1^{tree}", "HEAD^{tree}"].map(|name| named(&fixture, name));
        let Brought::All(brought) = repository.bring_tree_to_disk(one, two).expect("legible") else { panic!("there") };
        let new = ["HEAD^{tree}", "HEAD:d", "HEAD:d/e", "HEAD:d/e/c", "HEAD:n", "HEAD:n/w"];
        let new: HashSet<Oid> = new.iter().map(|name| named(&fixture, name)).collect();
        assert_eq!(brought.into_iter().collect::<HashSet<_>>(), new);
    }

    #[test]
    fn what_was_packed_is_still_there_and_what_was_pruned_is_not() {
        let (fixture, repository, [two, one]) = two();
        let Brought::All(brought) = repository.bring_to_disk(two, &[one]).expect("legible") else {
            panic!("it is there")
        };
        git(fixture.path(), &["repack", "-adq"]);
        assert!(repository.still_holds(two, &[one], &brought).expect("legible"));
        git(fixture.path(), &["update-ref", "refs/heads/main", &one.to_string()]);
        git(fixture.path(), &["reflog", "expire", "--expire=now", "--all"]);
        git(fixture.path(), &["gc", "-q", "--prune=now"]);
        assert!(!repository.still_holds(two, &[one], &brought).expect("legible"));
    }

    #[test]
    fn the_kernel_says_what_is_in_memory_only() {
        assert!(unwritten_bytes().is_some_and(|bytes| bytes < 1 << 50));
    }

    #[test]
    fn refs_are_written_by_a_handle_that_syncs_them_and_objects_are_not() {
        let (_fixture, repository, _) = two();
        let says = |git: &git2::Repository| {
            git.config().and_then(|mut config| config.snapshot()?.get_bool("core.fsyncObjectFiles"))
        };
        assert!(says(&repository.ref_handle().expect("opens")).expect("it is set"));
        assert!(says(&repository.handle().expect("opens")).is_err());
    }
}
