//! The table of results, a SQLite file of its own: losing it costs time and nothing else, so it is not synced at every
//! step, and the journal never waits for it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Oid;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::key::Key;
use super::shelf::Ready;
use super::{CacheError, Holdings};
use crate::event::ChangeSummary;
use crate::ids::RunId;
use crate::write_ahead::write_ahead;

/// Each entry takes the file from version `index` to `index + 1`. Entries are never edited once released, only added.
const STEPS: &[&str] = &[
    "
    CREATE TABLE results (
        key TEXT PRIMARY KEY,              -- hex
        run TEXT NOT NULL,                 -- that recorded it
        instance TEXT NOT NULL,
        duration_ms INTEGER NOT NULL,      -- of the work and its checks
        start_tree TEXT NOT NULL,          -- what it started from, hex
        commit_id TEXT,                    -- of the result, hex; null when it changed nothing
        tree TEXT,                         -- of that commit, hex
        files INTEGER NOT NULL,            -- that it changed
        outputs TEXT NOT NULL,             -- a JSON object
        artifacts TEXT,                    -- digest of the folder, hex; null when it is empty
        artifact_bytes INTEGER NOT NULL,
        used_at_ms INTEGER NOT NULL        -- since the Unix epoch
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX results_by_run ON results (run);
    CREATE INDEX results_by_commit ON results (commit_id);
    CREATE INDEX results_by_use ON results (used_at_ms);
",
    "
    -- What people were told of it: a JSON list of texts.
    ALTER TABLE results ADD COLUMN notes TEXT NOT NULL DEFAULT '[]';
",
    "
    -- What gave one thing once and another thing later, from the same.
    CREATE TABLE irreproducible (
        key TEXT PRIMARY KEY,              -- hex
        found_at_ms INTEGER NOT NULL       -- since the Unix epoch
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The newest of the worker's own commits, hex; null where they are not told.
    ALTER TABLE results ADD COLUMN history TEXT;
",
];

/// Keys that are known to be irreproducible at most; the oldest are forgotten.
const IRREPRODUCIBLE_MAX: i64 = 100_000;

/// How long a call waits for another process's transaction.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// A result as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// By which run.
    pub run: RunId,
    /// For which instance.
    pub instance: String,
    /// Milliseconds from spawn to the end of the last check.
    pub duration_ms: u64,
    /// Full hex id of the tree that it started from.
    pub start_tree: String,
    /// What it changed; `None` when nothing.
    pub change: Option<ChangeSummary>,
    /// Its outputs by name.
    pub outputs: Map<String, Value>,
    /// What people were told of it.
    pub notes: Vec<String>,
    /// What it handed over in its folder: the digest in hex, and bytes. `None` when nothing.
    pub artifacts: Option<(String, u64)>,
}

/// A result that is no longer there.
#[derive(Debug)]
pub struct Forgotten {
    /// Its key in hex.
    pub key: String,
    /// The run that recorded it.
    pub run: RunId,
    /// Whether it had a folder.
    pub has_artifacts: bool,
}

/// The table.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    /// Opens the file, making or upgrading it as needed.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        let sql = |source| CacheError::Sql { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(sql)?;
        connection.busy_timeout(BUSY_MAX).map_err(sql)?;
        write_ahead(&connection, BUSY_MAX).map_err(sql)?;
        connection.pragma_update(None, "synchronous", "off").map_err(sql)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
        let known = STEPS.len();
        let done = usize::try_from(found).ok().filter(|&done| done <= known);
        let done = done.ok_or_else(|| CacheError::Newer { path: path.to_owned(), found, known: known as i64 })?;
        for step in &STEPS[done..] {
            transaction.execute_batch(step).map_err(sql)?;
        }
        transaction.pragma_update(None, "user_version", known as i64).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        Ok(Store { path: path.to_owned(), connection })
    }

    fn sql(&self) -> impl Fn(rusqlite::Error) -> CacheError + use<> {
        let path = self.path.clone();
        move |source| CacheError::Sql { path: path.clone(), source }
    }

    /// See [`super::Cache::find`].
    pub fn find(&mut self, keys: &[Key], now_ms: u64) -> Result<Vec<Option<Recorded>>, CacheError> {
        let sql = self.sql();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        let mut select = transaction
            .prepare(
                "SELECT run, instance, duration_ms, start_tree, commit_id, tree, files, outputs, artifacts, artifact_bytes,
                 notes, history FROM results WHERE key = ?1
                 AND NOT EXISTS (SELECT 1 FROM irreproducible WHERE key = ?1)",
            )
            .map_err(&sql)?;
        let mut touch = transaction.prepare("UPDATE results SET used_at_ms = ?2 WHERE key = ?1").map_err(&sql)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let key = key.to_string();
            let result = match select.query_row([&key], read).optional() {
                // SQLite read a row that says nothing: the task runs again, and what it gives takes its place.
                Err(error) if error.sqlite_error_code().is_none() => None,
                found => found.map_err(&sql)?,
            };
            if result.is_some() {
                touch.execute(params![key, now_ms as i64]).map_err(&sql)?;
            }
            found.push(result);
        }
        drop(select);
        drop(touch);
        transaction.commit().map_err(&sql)?;
        Ok(found)
    }

    /// See [`super::Cache::record`]. Where something is recorded, `ready` is put in its place in the same transaction.
    pub fn record(
        &mut self,
        key: &Key,
        result: &Recorded,
        ready: Option<&Ready>,
        now_ms: u64,
    ) -> Result<bool, CacheError> {
        let sql = self.sql();
        let outputs = Value::Object(result.outputs.clone()).to_string();
        let notes = Value::from(result.notes.as_slice()).to_string();
        let change = result.change.as_ref();
        let (digest, bytes) = match &result.artifacts {
            Some((digest, bytes)) => (Some(digest), *bytes),
            None => (None, 0),
        };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        let recorded = transaction
            .prepare(
                "INSERT OR REPLACE INTO results SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
                 WHERE NOT EXISTS (SELECT 1 FROM irreproducible WHERE key = ?1)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    key.to_string(),
                    result.run.0,
                    result.instance,
                    result.duration_ms as i64,
                    result.start_tree,
                    change.map(|change| &change.commit),
                    change.map(|change| &change.tree),
                    change.map_or(0, |change| change.files as i64),
                    outputs,
                    digest,
                    bytes as i64,
                    now_ms as i64,
                    notes,
                    change.and_then(|change| change.history.as_ref()),
                ])
            })
            .map_err(&sql)?;
        if let (Some(ready), true) = (ready, recorded > 0) {
            ready.put().map_err(|source| CacheError::Io { path: self.path.clone(), source })?;
        }
        transaction.commit().map_err(&sql)?;
        Ok(recorded > 0)
    }

    /// The keys of results that have artifacts, in hex.
    pub fn with_artifacts(&self) -> Result<HashSet<String>, CacheError> {
        let mut select =
            self.connection.prepare("SELECT key FROM results WHERE artifacts IS NOT NULL").map_err(self.sql())?;
        let keys = select.query_map([], |row| row.get(0)).and_then(Iterator::collect);
        keys.map_err(self.sql())
    }

    /// See [`super::Cache::never_again`]. What is forgotten and what is kept in mind are one step: nothing takes or records a result
    /// between them.
    pub fn never_again(&mut self, key: &Key, now_ms: u64) -> Result<Vec<Forgotten>, CacheError> {
        let sql = self.sql();
        let key = key.to_string();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        transaction
            .execute("INSERT OR REPLACE INTO irreproducible VALUES (?1, ?2)", params![key, now_ms as i64])
            .and_then(|_| {
                let oldest = "DELETE FROM irreproducible WHERE key IN
                    (SELECT key FROM irreproducible ORDER BY found_at_ms DESC, key LIMIT -1 OFFSET ?1)";
                transaction.execute(oldest, params![IRREPRODUCIBLE_MAX])
            })
            .map_err(&sql)?;
        let select = "SELECT key, run, artifacts FROM results WHERE key = ?1";
        let forgotten = forgotten(&transaction, select, params![key]).map_err(&sql)?;
        transaction.commit().map_err(&sql)?;
        Ok(forgotten)
    }

    /// See [`super::Cache::holdings`].
    pub fn holdings(&self) -> Result<Holdings, CacheError> {
        self.connection
            .query_row("SELECT count(*), coalesce(sum(artifact_bytes), 0) FROM results", [], |row| {
                Ok(Holdings { results: row.get::<_, i64>(0)? as u64, artifact_bytes: row.get::<_, i64>(1)? as u64 })
            })
            .map_err(self.sql())
    }

    /// Forgets what was not used for longest until both bounds hold.
    pub fn prune(&mut self, results_max: usize, bytes_max: u64) -> Result<Vec<Forgotten>, CacheError> {
        let mut gone = self.forget(
            "SELECT key, run, artifacts FROM results ORDER BY used_at_ms DESC, key LIMIT -1 OFFSET ?1",
            params![results_max as i64],
        )?;
        if self.holdings()?.artifact_bytes > bytes_max {
            gone.extend(self.forget(
                "SELECT key, run, artifacts FROM (
                     SELECT key, run, artifacts, sum(artifact_bytes) OVER (ORDER BY used_at_ms DESC, key) AS all_bytes
                     FROM results WHERE artifacts IS NOT NULL
                 ) WHERE all_bytes > ?1",
                params![bytes_max as i64],
            )?);
        }
        Ok(gone)
    }

    /// See [`super::Cache::forget_commit`].
    pub fn forget_commit(&mut self, commit: &str) -> Result<Vec<Forgotten>, CacheError> {
        self.forget("SELECT key, run, artifacts FROM results WHERE commit_id = ?1", params![commit])
    }

    /// See [`super::Cache::forget`].
    pub fn forget_keys(&mut self, keys: &[Key]) -> Result<Vec<Forgotten>, CacheError> {
        let sql = self.sql();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        let mut gone = Vec::new();
        for key in keys {
            let select = "SELECT key, run, artifacts FROM results WHERE key = ?1";
            gone.extend(forgotten(&transaction, select, params![key.to_string()]).map_err(&sql)?);
        }
        transaction.commit().map_err(&sql)?;
        Ok(gone)
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> Result<Vec<Forgotten>, CacheError> {
        self.connection.execute("DELETE FROM irreproducible", params![]).map_err(self.sql())?;
        self.forget("SELECT key, run, artifacts FROM results", params![])
    }

    fn forget(&mut self, select: &str, bounds: &[&dyn rusqlite::ToSql]) -> Result<Vec<Forgotten>, CacheError> {
        let sql = self.sql();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        let forgotten = forgotten(&transaction, select, bounds).map_err(&sql)?;
        transaction.commit().map_err(&sql)?;
        Ok(forgotten)
    }

    /// The runs that recorded anything that is still there.
    pub fn runs(&self) -> Result<Vec<RunId>, CacheError> {
        let mut select = self.connection.prepare("SELECT DISTINCT run FROM results").map_err(self.sql())?;
        let runs = select.query_map([], |row| row.get(0).map(RunId)).and_then(Iterator::collect);
        runs.map_err(self.sql())
    }

    /// The commits of a run's results and of their histories, each once, sorted.
    pub fn commits_of(&self, run: &RunId) -> Result<Vec<Oid>, CacheError> {
        let mut select = self
            .connection
            .prepare(
                "SELECT commit_id FROM results WHERE run = ?1 AND commit_id IS NOT NULL
                 UNION SELECT history FROM results WHERE run = ?1 AND history IS NOT NULL ORDER BY 1",
            )
            .map_err(self.sql())?;
        let texts: Result<Vec<String>, _> = select.query_map([&run.0], |row| row.get(0)).and_then(Iterator::collect);
        Ok(texts.map_err(self.sql())?.iter().filter_map(|text| Oid::from_str(text).ok()).collect())
    }
}

/// Forgets the results that a query names.
fn forgotten(
    transaction: &rusqlite::Transaction<'_>,
    select: &str,
    bounds: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Forgotten>> {
    let read = |row: &rusqlite::Row<'_>| {
        let artifacts: Option<String> = row.get(2)?;
        Ok(Forgotten { key: row.get(0)?, run: RunId(row.get(1)?), has_artifacts: artifacts.is_some() })
    };
    let forgotten: Vec<Forgotten> = transaction.prepare(select)?.query_map(bounds, read)?.collect::<Result<_, _>>()?;
    for gone in &forgotten {
        transaction.execute("DELETE FROM results WHERE key = ?1", [&gone.key])?;
    }
    Ok(forgotten)
}

/// What a column holds as JSON text. Another form was not written by us, and what a task gave out is not nothing for that.
fn written<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    let illegible =
        |error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(illegible)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Recorded> {
    let (start_tree, commit, tree): (String, Option<String>, Option<String>) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let files = row.get::<_, i64>(6)? as u64;
    let history: Option<String> = row.get(11)?;
    let change = commit.zip(tree).map(|(commit, tree)| ChangeSummary {
        base_tree: start_tree.clone(),
        commit,
        tree,
        files,
        history,
        // Part of the key: whoever takes the result has the same.
        writes: None,
    });
    let outputs: String = row.get(7)?;
    let digest: Option<String> = row.get(8)?;
    let bytes = row.get::<_, i64>(9)? as u64;
    let notes: String = row.get(10)?;
    Ok(Recorded {
        run: RunId(row.get(0)?),
        instance: row.get(1)?,
        duration_ms: row.get::<_, i64>(2)? as u64,
        start_tree,
        change,
        outputs: written(7, &outputs)?,
        notes: written(10, &notes)?,
        artifacts: digest.map(|digest| (digest, bytes)),
    })
}
