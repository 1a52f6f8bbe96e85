//! A repository's refs: read, moved from one value to the next in one step for every git on the machine, and removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode, Oid};

use super::{Repository, RepositoryError};
use crate::fault;
use crate::ref_lock;

/// Below which name all refs are ours.
const OURS: &str = "refs/swarm/";

/// The largest file that is looked at for a ref which was never written, in bytes: a ref has 41, a symbolic one hardly more.
const REF_BYTES_MAX: u64 = 4096;

/// What became of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The ref has the new value.
    Done,
    /// Somebody else moved, made or removed it first; its value now.
    Moved(Option<Oid>),
}

impl Repository {
    /// The value of a ref; `None` when there is none. One of ours that was never written ([`Repository::sweep_refs`]) is none.
    ///
    /// # Errors
    /// [`RepositoryError::Git`].
    pub fn find_ref(&self, name: &str) -> Result<Option<Oid>, RepositoryError> {
        match self.handle()?.refname_to_id(name) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(_) if name.starts_with(OURS) && is_unwritten(&self.common_dir.join(name)) => Ok(None),
            Err(error) => Err(self.why_not_read(name, error)),
        }
    }

    /// The full name of the ref that one is only another name for (a symbolic ref); `None` where it is none, or does not exist.
    ///
    /// # Errors
    /// [`RepositoryError::Git`].
    pub fn stands_for(&self, name: &str) -> Result<Option<String>, RepositoryError> {
        match self.handle()?.find_reference(name) {
            Ok(reference) => Ok(reference.symbolic_target()?.map(str::to_owned)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.why_not_read(name, error)),
        }
    }

    /// Sets a ref to `new` if its value is still `expected` (`None`: if it does not exist). The ref's lock file makes this
    /// one step for every git on the machine; one that somebody else holds is waited for, two seconds at most.
    ///
    /// # Errors
    /// [`RepositoryError::Git`], [`RepositoryError::Locked`]; that somebody else was first is a value, not an error.
    pub fn compare_and_swap(
        &self,
        name: &str,
        expected: Option<Oid>,
        new: Oid,
        reflog: &str,
    ) -> Result<Swap, RepositoryError> {
        self.compare_and_swap_told(name, expected, new, reflog, &|_| Ok(()))
    }

    /// The same, telling the caller when the ref's lock may be held from now on, and when it is not any more: the ref is on the disk
    /// then. What it says should outlive the process: it is how [`Repository::sweep_refs`] can know whose a lock is.
    ///
    /// # Errors
    /// As [`Repository::compare_and_swap`], and what `tell` says.
    pub fn compare_and_swap_told(
        &self,
        name: &str,
        expected: Option<Oid>,
        new: Oid,
        reflog: &str,
        tell: &dyn Fn(bool) -> io::Result<()>,
    ) -> Result<Swap, RepositoryError> {
        fault::point().map_err(|source| RepositoryError::Io { path: self.common_dir.clone(), source })?;
        let git = self.ref_handle()?;
        // A ref that is to be made has to be missing under its lock, too: `reference` looks before it locks, so that of two who
        // make one at once both would succeed. libgit2 takes the zero id for "there is none".
        let old = expected.unwrap_or(Oid::ZERO_SHA1);
        let told = |is| tell(is).map_err(|error| git2::Error::from_str(&error.to_string()));
        let write = || git.reference_matching(name, new, expected.is_some(), old, reflog).map(|_| ());
        let swapped = self.patiently(name, || {
            told(true)?;
            let swapped = match write() {
                Err(_) if self.forget_unwritten(name) => write(),
                swapped => swapped,
            };
            if let Err(error) = told(false) {
                tracing::warn!(%error, "a ref's lock stays marked as ours");
            }
            swapped
        });
        match swapped {
            Ok(()) => Ok(Swap::Done),
            Err(RepositoryError::Git(error)) if is_about_the_ref(&error) => {
                drop(git);
                Ok(Swap::Moved(self.find_ref(name)?))
            }
            Err(RepositoryError::Git(error)) => Err(self.why_not_read(name, error)),
            Err(error) => Err(error),
        }
    }

    /// Writes a ref however long others have its lock, within bounds ([`ref_lock::patiently`]).
    fn patiently<T>(&self, name: &str, write: impl FnMut() -> Result<T, git2::Error>) -> Result<T, RepositoryError> {
        // Whoever removes a ref needs the second, too.
        let locks = [format!("{name}.lock"), "packed-refs.lock".to_owned()].map(|lock| self.common_dir.join(lock));
        ref_lock::patiently(&locks, write).map_err(|error| match error.code() {
            ErrorCode::Locked => {
                locks.into_iter().find(|lock| lock.exists()).map_or_else(|| error.into(), RepositoryError::Locked)
            }
            _ => error.into(),
        })
    }

    /// Removes a ref; one that does not exist is no error.
    ///
    /// # Errors
    /// [`RepositoryError::Git`], [`RepositoryError::Locked`].
    pub fn delete_ref(&self, name: &str) -> Result<(), RepositoryError> {
        self.delete(name, None).map(drop)
    }

    /// Removes a ref, where `expected` is given only from that value.
    fn delete(&self, name: &str, expected: Option<Oid>) -> Result<Swap, RepositoryError> {
        fault::point().map_err(|source| RepositoryError::Io { path: self.common_dir.clone(), source })?;
        let looking = self.handle()?;
        let is_another = |now: Option<Oid>| expected.is_some() && now != expected;
        let delete = || {
            // What it could not take out of the packed refs a handle forgets all the same: this one is asked nothing after that.
            let git = self.fresh_for_refs()?;
            let mut found = match git.find_reference(name) {
                Err(_) if self.forget_unwritten(name) => git.find_reference(name)?,
                found => found?,
            };
            if is_another(found.target()) {
                return Ok(Swap::Moved(found.target()));
            }
            match found.delete() {
                // Libgit2 compares what it found with what is there under the ref's lock.
                Err(error) if error.code() == ErrorCode::Modified && expected.is_some() => {
                    return looking.find_reference(name).map(|now| Swap::Moved(now.target()));
                }
                deleted => deleted?,
            }
            // libgit2 1.9 says that it did where it could not take the ref out of the packed ones.
            match looking.find_reference(name)?.target() {
                now if is_another(now) => Ok(Swap::Moved(now)),
                _ => Err(git2::Error::new(ErrorCode::Locked, ErrorClass::Reference, "the packed refs are locked")),
            }
        };
        match self.patiently(name, delete) {
            Err(RepositoryError::Git(error)) if error.code() == ErrorCode::NotFound && is_about_the_ref(&error) => {
                Ok(Swap::Done)
            }
            deleted => deleted,
        }
    }

    /// Removes a ref if its value is still `expected`, in one step for every git on the machine; one that does not exist is no error.
    ///
    /// # Errors
    /// As of [`Repository::delete_ref`]; that somebody moved it is a value, not an error: it stays then. A symbolic ref has no value
    /// of its own, and stays whatever it stands for.
    pub fn compare_and_delete(&self, name: &str, expected: Oid) -> Result<Swap, RepositoryError> {
        self.delete(name, Some(expected))
    }

    /// Removes the locks that a dead coordinator left on a ref that it was about to move, or, where the name ends in `/`, on all
    /// below it; the caller knows that nobody else writes them. Refs of ours that were never written go, too: the machine stopped, or
    /// the disk failed, when their names were on the disk and what they name was not. Their names are returned.
    pub fn sweep_refs(&self, name: &str) -> Vec<String> {
        let path = self.common_dir.join(name);
        match name.ends_with('/') {
            true => ref_lock::sweep(&path),
            false => ref_lock::sweep(&self.common_dir.join(format!("{name}.lock"))),
        }
        if !name.starts_with(OURS) {
            return Vec::new();
        }
        self.unwritten_below(name).into_iter().filter(|name| self.forget_unwritten(name)).collect()
    }

    /// The names of those below a folder, sorted.
    pub fn unwritten_below(&self, folder: &str) -> Vec<String> {
        let files = ignore::WalkBuilder::new(self.common_dir.join(folder)).standard_filters(false).build().flatten();
        let names = files.filter_map(|file| {
            let name = file.path().strip_prefix(&self.common_dir).ok()?.to_str()?.to_owned();
            (!name.ends_with(".lock") && is_unwritten(file.path())).then_some(name)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn why_not_read(&self, name: &str, error: git2::Error) -> RepositoryError {
        let path = self.common_dir.join(name);
        match is_unwritten(&path) {
            true => RepositoryError::VoidRef { name: name.to_owned(), path },
            false => error.into(),
        }
    }

    /// Removes a ref of ours that was never written, and says whether it was one.
    fn forget_unwritten(&self, name: &str) -> bool {
        let path = self.common_dir.join(name);
        if !name.starts_with(OURS) || !is_unwritten(&path) {
            return false;
        }
        let lock = PathBuf::from(format!("{}.lock", path.display()));
        let forget = || {
            File::create_new(&lock)?;
            // Whoever had the lock before may have written it.
            let is_still = is_unwritten(&path);
            let removed = if is_still { fs::remove_file(&path) } else { Ok(()) };
            fs::remove_file(&lock).and(removed).map(|()| is_still)
        };
        match forget() {
            Ok(forgotten) => forgotten,
            Err(error) => {
                tracing::warn!(%error, name, "a ref of ours that holds nothing stays");
                false
            }
        }
    }

    /// All refs whose name starts with `prefix` (which ends in `/`), with their values, sorted by name.
    ///
    /// # Errors
    /// [`RepositoryError::Git`].
    pub fn refs_below(&self, prefix: &str) -> Result<Vec<(String, Oid)>, RepositoryError> {
        let git = self.handle()?;
        let mut found = Vec::new();
        for reference in git.references_glob(&format!("{prefix}*"))? {
            let reference = reference?;
            if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
                found.push((name.to_owned(), id));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Whether an error says of a ref that its value is another than the expected one. A folder that is missing for its lock is not found
/// either, and that says nothing of the ref.
fn is_about_the_ref(error: &git2::Error) -> bool {
    let is_moved = matches!(error.code(), ErrorCode::Modified | ErrorCode::Exists | ErrorCode::NotFound);
    is_moved && error.class() != ErrorClass::Os
}

/// Whether a file holds nothing at all, or nothing but zeros: what was to be in it was not on the disk yet when its name was. No
/// git leaves a ref like that, not even for an instant.
fn is_unwritten(path: &Path) -> bool {
    let is_small = path.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() <= REF_BYTES_MAX);
    is_small && fs::read(path).is_ok_and(|bytes| bytes.iter().all(|&byte| byte == 0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::git_fixture::Fixture;

    /// Fewer than a write begins anew for.
    const FOLDERS_LOST: u32 = 8;

    #[test]
    fn refs_are_written_while_somebody_removes_empty_folders() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let one = repository.resolve("HEAD").expect("the first commit");
        let folder = repository.common_dir().join("refs/swarm/p-1/t");
        // How many folders may go until the next ref. A try fails for at least one of them: who never stops could win every time.
        let (may_go, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for empty in folder.ancestors().take(2) {
                        if may_go.load(Ordering::Relaxed) > 0 && std::fs::remove_dir(empty).is_ok() {
                            may_go.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                }
            });
            let written = (0..500).try_for_each(|n| {
                let name = format!("refs/swarm/p-1/t/{n}");
                may_go.store(FOLDERS_LOST, Ordering::Relaxed);
                let swapped = repository.compare_and_swap(&name, None, one, "t")?;
                may_go.store(FOLDERS_LOST, Ordering::Relaxed);
                repository.delete_ref(&name).map(|()| assert_eq!(swapped, Swap::Done))
            });
            is_over.store(true, Ordering::Relaxed);
            written.expect("every ref");
        });
    }

    #[test]
    fn a_folder_that_is_not_found_says_nothing_of_a_ref() {
        let error = |code, class| git2::Error::new(code, class, "");
        for code in [ErrorCode::Modified, ErrorCode::Exists, ErrorCode::NotFound] {
            assert!(is_about_the_ref(&error(code, ErrorClass::Reference)), "{code:?}");
            assert!(!is_about_the_ref(&error(code, ErrorClass::Os)), "{code:?}");
        }
        assert!(!is_about_the_ref(&error(ErrorCode::Locked, ErrorClass::Reference)));
    }

    #[test]
    fn a_ref_moves_only_from_the_expected_value() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let one = repository.resolve("HEAD").expect("the first commit");
        let two = fixture.commit(&[("a", "2")]);
        let name = "refs/swarm/x";
        assert_eq!(repository.compare_and_swap(name, None, one, "t").expect("made"), Swap::Done);
        assert_eq!(repository.compare_and_swap(name, None, two, "t").expect("kept"), Swap::Moved(Some(one)));
        assert_eq!(repository.compare_and_swap(name, Some(two), two, "t").expect("kept"), Swap::Moved(Some(one)));
        assert_eq!(repository.compare_and_swap(name, Some(one), two, "t").expect("moved"), Swap::Done);
        assert_eq!(repository.find_ref(name).expect("read"), Some(two));
        assert_eq!(repository.compare_and_delete(name, one).expect("kept"), Swap::Moved(Some(two)));
        assert_eq!(repository.find_ref(name).expect("read"), Some(two));
        assert_eq!(repository.compare_and_delete(name, two).expect("removed"), Swap::Done);
        assert_eq!(repository.compare_and_delete(name, two).expect("gone"), Swap::Done);
        assert_eq!(repository.compare_and_swap(name, Some(two), one, "t").expect("gone"), Swap::Moved(None));
    }

    #[test]
    fn a_ref_that_could_not_be_removed_or_became_symbolic_is_not_said_to_be_gone() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let one = repository.resolve("HEAD").expect("the first commit");
        let [packed, lock] = ["packed-refs", "packed-refs.lock"].map(|name| repository.common_dir().join(name));
        fs::write(&packed, format!("{one} refs/heads/packed\n")).and_then(|()| fs::write(&lock, "")).expect("space");
        let locked = repository.compare_and_delete("refs/heads/packed", one);
        assert!(matches!(locked, Err(RepositoryError::Locked(_))), "{locked:?}");
        fs::remove_file(&lock).expect("it is there");
        assert_eq!(repository.find_ref("refs/heads/packed").expect("read"), Some(one));
        let git = repository.handle().expect("a repository");
        git.reference_symbolic("refs/heads/symbolic", "refs/heads/packed", false, "t").expect("made");
        assert_eq!(repository.compare_and_delete("refs/heads/symbolic", one).expect("kept"), Swap::Moved(None));
        assert_eq!(repository.find_ref("refs/heads/symbolic").expect("read"), Some(one));
        assert_eq!(repository.compare_and_delete("refs/heads/packed", one).expect("removed"), Swap::Done);
        assert_eq!(repository.find_ref("refs/heads/packed").expect("read"), None);
    }

    #[test]
    fn a_ref_of_ours_that_was_never_written_is_none_and_is_written_again() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let one = repository.resolve("HEAD").expect("the first commit");
        let unwritten = |name: &str, bytes: usize| {
            let path = repository.common_dir().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("space");
            fs::write(path, vec![0; bytes]).expect("space");
        };
        for bytes in [0, 41] {
            let name = "refs/swarm/p-1/+base";
            unwritten(name, bytes);
            assert_eq!(repository.find_ref(name).expect("read"), None);
            crate::commit::keep(&repository, name, one).expect("written");
            assert_eq!(repository.find_ref(name).expect("read"), Some(one));
            unwritten(name, bytes);
            repository.delete_ref(name).expect("removed");
            unwritten("refs/swarm/p-1/a/1", bytes);
            crate::commit::keep(&repository, "refs/swarm/p-1/a/2", one).expect("written");
            assert_eq!(repository.sweep_refs("refs/swarm/p-1/"), ["refs/swarm/p-1/a/1"]);
            assert_eq!(repository.refs_below("refs/").expect("all can be read").len(), 2);
        }
        unwritten("refs/heads/theirs", 0);
        assert_eq!(repository.sweep_refs("refs/heads/"), [""; 0]);
        let theirs = "refs/heads/theirs";
        let said = [
            repository.find_ref(theirs).map(drop),
            repository.compare_and_swap(theirs, Some(one), one, "t").map(drop),
            repository.compare_and_swap(theirs, None, one, "t").map(drop),
        ];
        for said in said {
            assert!(matches!(said, Err(RepositoryError::VoidRef { .. })), "{said:?}");
        }
    }
}
