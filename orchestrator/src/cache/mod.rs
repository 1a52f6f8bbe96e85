//! Results of earlier runs, found again by what they depend on. A key goes in, the recorded change, outputs and artifacts
//! come out; whether a task may be looked up at all, and what a result becomes in this run, is decided by the executor.
//!
//! A result is recorded only when its work and all its checks passed at the first try, in a cage without network. It is
//! known by everything that it was allowed to depend on ([`key`]), so an equal key means that running again would give the
//! same, as far as the task is a function of that. The result's commit stays reachable from a ref of ours, the artifacts
//! lie beside the store; what is gone all the same (a pruned object, a removed folder) is no result any more.
//!
//! Start reading at [`key::Ingredients`], then [`Cache::find`].

/// Artifacts as a folder: read, digested, linked.
pub mod folder;
/// Refs that keep recorded commits alive.
mod keep;
/// What a result is known by; pure.
pub mod key;
/// Where artifacts lie.
mod shelf;
/// The table of results.
mod store;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use git2::Oid;

use crate::ids::RunId;
use crate::repository::{Repository, RepositoryError};
use crate::state::make_private_dir_all;

pub use key::{Digest, Key};
pub use store::Recorded;

use shelf::Shelf;
use store::Store;

/// Results kept at most; beyond that the ones that were not used for longest are forgotten.
pub const RESULTS_MAX: usize = 200_000;

/// Bytes of artifacts kept at most, over all results.
pub const ARTIFACTS_BYTES_MAX: u64 = 4 << 30;

/// Why the cache cannot be used. A run goes on without it, and says so.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A newer swarm wrote it.
    #[error("use the result cache {}: its format is {found}, and this swarm knows formats up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The database: damaged, locked for too long, or on a full disk. It may be removed: only time is lost.
    #[error("use the result cache {}: {source}", path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// The folder of artifacts.
    #[error("use the result cache {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The refs that keep results.
    #[error("keep cached results: {0}")]
    Repository(#[from] RepositoryError),
}

/// What the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Results.
    pub results: u64,
    /// Bytes of their artifacts.
    pub artifact_bytes: u64,
}

/// The recorded results of one state folder.
#[derive(Debug)]
pub struct Cache {
    shelf: Shelf,
    store: Mutex<Store>,
}

impl Cache {
    /// Opens the cache of a state folder, making it as needed.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn open(state: &Path) -> Result<Self, CacheError> {
        let folder = state.join("results");
        make_private_dir_all(&folder).map_err(|source| CacheError::Io { path: folder.clone(), source })?;
        let store = Mutex::new(Store::open(&folder.join("results.sqlite"))?);
        Ok(Cache { store, shelf: Shelf::new(folder) })
    }

    /// Opens the cache if there is one.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn open_existing(state: &Path) -> Result<Option<Self>, CacheError> {
        if state.join("results/results.sqlite").exists() { Cache::open(state).map(Some) } else { Ok(None) }
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The results of `keys`, in their order, marked as used at `now_ms`. Whether their objects still exist is for the
    /// caller to see.
    ///
    /// # Errors
    /// [`CacheError::Sql`].
    pub fn find(&self, keys: &[Key], now_ms: u64) -> Result<Vec<Option<Recorded>>, CacheError> {
        self.store().find(keys, now_ms)
    }

    /// Records a result; one of the same key is replaced. `artifacts` is the folder that it handed over. `false` where
    /// [`Cache::never_again`] was said of the key: nothing is recorded then.
    ///
    /// # Errors
    /// [`CacheError::Sql`] and [`CacheError::Io`]; nothing is recorded then. What was there stays, or, where the new files had taken the
    /// place of its own by then, is found no more.
    pub fn record(&self, key: &Key, result: &Recorded, artifacts: &Path, now_ms: u64) -> Result<bool, CacheError> {
        let has_some = result.artifacts.is_some();
        let ready = has_some.then(|| self.shelf.ready(&key.to_string(), artifacts)).transpose()?;
        self.store().record(key, result, ready.as_ref(), now_ms)
    }

    /// Forgets what is recorded under a key, and keeps in mind that it gives another result each time: nothing is recorded under
    /// it until all is forgotten.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn never_again(&self, repository: &Repository, key: &Key, now_ms: u64) -> Result<(), CacheError> {
        let forgotten = self.store().never_again(key, now_ms)?;
        let runs = self.removed(forgotten)?;
        self.keep(repository, runs)
    }

    /// Where the artifacts of a result lie.
    pub fn artifacts(&self, key: &Key) -> PathBuf {
        self.shelf.place(&key.to_string())
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`CacheError::Sql`].
    pub fn holdings(&self) -> Result<Holdings, CacheError> {
        self.store().holdings()
    }

    /// Forgets what exceeds the bounds and what never became a result, and keeps the commits of all other results of these runs under
    /// refs.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn settle(&self, repository: &Repository, run: &RunId) -> Result<(), CacheError> {
        let forgotten = self.store().prune(RESULTS_MAX, ARTIFACTS_BYTES_MAX)?;
        let mut runs = self.removed(forgotten)?;
        self.sweep()?;
        runs.push(run.clone());
        self.keep(repository, runs)
    }

    /// Writes the refs of every run that has recorded results and lacks them: one whose coordinator died. Called before
    /// the run's own refs go.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn keep_all(&self, repository: &Repository) -> Result<(), CacheError> {
        let runs = self.store().runs()?;
        self.keep(repository, runs)
    }

    /// Forgets every result whose commit is `commit`, so that nothing of ours reaches it any more. Returns how many.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn forget_commit(&self, repository: &Repository, commit: Oid) -> Result<u64, CacheError> {
        let forgotten = self.store().forget_commit(&commit.to_string())?;
        let count = forgotten.len() as u64;
        let runs = self.removed(forgotten)?;
        self.keep(repository, runs)?;
        Ok(count)
    }

    /// Forgets what is recorded under keys: it is not there any more.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn forget(&self, repository: &Repository, keys: &[Key]) -> Result<(), CacheError> {
        let forgotten = self.store().forget_keys(keys)?;
        let runs = self.removed(forgotten)?;
        self.keep(repository, runs)
    }

    /// Forgets all results, with their refs and artifacts.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn clear(&self, repository: &Repository) -> Result<(), CacheError> {
        let forgotten = self.store().clear()?;
        self.removed(forgotten)?;
        self.sweep()?;
        Ok(keep::remove_all(repository)?)
    }

    fn sweep(&self) -> Result<(), CacheError> {
        self.shelf.sweep(|| self.store().with_artifacts())
    }

    /// Removes the artifacts of results that are forgotten already; returns the runs they came from.
    fn removed(&self, forgotten: Vec<store::Forgotten>) -> Result<Vec<RunId>, CacheError> {
        let mut runs: Vec<RunId> = Vec::new();
        for store::Forgotten { key, run, has_artifacts } in forgotten {
            if has_artifacts {
                self.shelf.remove(&key)?;
            }
            if runs.last() != Some(&run) && !runs.contains(&run) {
                runs.push(run);
            }
        }
        Ok(runs)
    }

    fn keep(&self, repository: &Repository, mut runs: Vec<RunId>) -> Result<(), CacheError> {
        runs.sort_by(|a, b| a.0.cmp(&b.0));
        runs.dedup();
        for run in runs {
            let commits = self.store().commits_of(&run)?;
            keep::set(repository, &run, &commits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
