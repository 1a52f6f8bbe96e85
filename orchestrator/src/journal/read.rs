//! Runs and events, read beside a live writer: WAL gives a reader the state of its last commit and never makes either
//! wait for the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checksum::checksum;
use super::lock::{last_run_of, run_dir};
use super::replay::{Finished, RunState};
use super::run_row::{self, Values};
use super::schema::{journal_path, open_to_read};
use super::{DamagedRow, JournalError, RunRow};
use crate::event::{Recorded, RunEvent};
use crate::ids::RunId;
use crate::settings::Asked;
use crate::threads::SMALL_STACK_BYTES;

/// Known verdicts that a run remembers; older ones are found out again.
pub const GREEN_TREES_MAX: usize = 100_000;

/// Events that are handed over together, and how often, before whoever reads ahead waits.
const EVENTS_AHEAD: usize = 256;
const BATCHES_AHEAD_MAX: usize = 4;

/// The journal of a state folder, open for reading.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    connection: Option<Connection>,
}

/// A plan or include as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As given on the command line or in `include`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// How long a task took in the newest finished run of its plan that had it succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDuration {
    /// The task's name.
    pub task: String,
    /// Median over its instances, in milliseconds.
    pub median_ms: u64,
    /// The last one, in milliseconds.
    pub last_ms: u64,
}

impl JournalReader {
    /// Opens the journal of a state folder. A folder without one reads as a journal without runs.
    ///
    /// # Errors
    /// [`JournalError`] as [`super::Journal::open`].
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        Ok(JournalReader { path: journal_path(state), connection: open_to_read(state)? })
    }

    /// The journal's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folders of runs that lie beside the journal, by name, sorted: also of those that it knows nothing of. One that holds
    /// nothing but its lock is of a run that never began.
    pub fn run_folders(&self) -> Vec<String> {
        let entries_of = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let has_begun = |folder: &Path| entries_of(folder).any(|entry| entry.file_name() != "lock");
        let folders = self.path.with_file_name("runs");
        let entries = entries_of(&folders).filter(|entry| has_begun(&entry.path()));
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The runs whose folders hold nothing but their lock, by what that says of its last holder, sorted.
    pub fn bare_locks(&self) -> Vec<RunId> {
        let state = self.path.parent().unwrap_or(&self.path);
        let folders = std::fs::read_dir(state.join("runs")).into_iter().flatten().flatten();
        let holds_nothing_else = |folder: &PathBuf| {
            std::fs::read_dir(folder)
                .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lock")))
        };
        let bare = folders.map(|entry| entry.path()).filter(holds_nothing_else);
        let named = bare.filter_map(|folder| last_run_of(&folder).filter(|run| run_dir(state, run) == folder));
        let mut runs: Vec<RunId> = named.collect();
        runs.sort();
        runs
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// The journal is damaged, busy or unreadable.
    pub fn entries(&self) -> Result<Vec<Result<RunRow, DamagedRow>>, JournalError> {
        Ok(self.run_rows("ORDER BY key DESC", [])?.into_iter().map(|entry| entry.map(|(_, row)| row)).collect())
    }

    /// All runs whose rows are as they were written, newest first.
    ///
    /// # Errors
    /// As [`JournalReader::entries`].
    pub fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        Ok(self.entries()?.into_iter().filter_map(Result::ok).collect())
    }

    /// The rows of runs that meet a condition, each as it is kept and as it reads.
    fn run_rows(&self, rest: &str, values: impl rusqlite::Params) -> Result<Vec<run_row::Read>, JournalError> {
        let sql = format!("SELECT {} FROM runs {rest}", run_row::columns(|name| self.has_column("runs", name))?);
        self.rows(&sql, values, |row| run_row::read(&self.path, row))
    }

    fn run_of(&self, id: &RunId) -> Result<Option<(Values, RunRow)>, JournalError> {
        Ok(self.run_rows("WHERE id = ?1", [&id.0])?.pop().transpose()?)
    }

    /// Whether rows of a table have that: the first versions of the journal did not have all.
    fn has_column(&self, table: &str, name: &str) -> Result<bool, JournalError> {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        Ok(self.rows(sql, [table, name], |row| row.get::<_, i64>(0))?.pop() == Some(1))
    }

    /// The query for the events of the run `?1`, as [`JournalReader::recorded`] reads them, but for what follows the condition.
    fn events_sql(&self, rest: &str) -> Result<String, JournalError> {
        let checksum = if self.has_column("events", "checksum")? { "checksum" } else { "NULL" };
        Ok(format!(
            "SELECT seq, at_ms, json, {checksum} FROM events WHERE run = (SELECT key FROM runs WHERE id = ?1) {rest}"
        ))
    }

    /// One run by its id.
    ///
    /// # Errors
    /// As [`JournalReader::runs`], and [`JournalError::DamagedRun`].
    pub fn run(&self, id: &RunId) -> Result<Option<RunRow>, JournalError> {
        Ok(self.run_of(id)?.map(|(_, row)| row))
    }

    /// The run that began last.
    ///
    /// # Errors
    /// As [`JournalReader::run`].
    pub fn newest(&self) -> Result<Option<RunRow>, JournalError> {
        let newest = self.run_rows("ORDER BY key DESC LIMIT 1", [])?.pop().transpose()?;
        Ok(newest.map(|(_, row)| row))
    }

    /// The events of a run with a number above `after`, in order; all of them for `after` = 0.
    ///
    /// # Errors
    /// As [`JournalReader::runs`].
    pub fn events(&self, run: &RunId, after: u64) -> Result<Vec<Recorded>, JournalError> {
        let mut all = Vec::new();
        self.tell(run, after, |recorded| all.push(recorded))?;
        Ok(all)
    }

    /// Tells `hear` each event of a run with a number above `after`, in order. A long run has hundreds of thousands, which
    /// need hundreds of megabytes when all are kept at once: whoever can does with one after the other.
    ///
    /// # Errors
    /// As [`JournalReader::runs`]; what comes before a damaged event was told.
    pub fn tell(&self, run: &RunId, after: u64, mut hear: impl FnMut(Recorded)) -> Result<(), JournalError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let failed = |error| JournalError::from_sql(&self.path, error);
        let mut statement = connection.prepare(&self.events_sql("AND seq > ?2 ORDER BY seq")?).map_err(failed)?;
        let mut rows = statement.query(params![run.0, after as i64]).map_err(failed)?;
        let damaged = |detail: String| JournalError::Damaged { path: self.path.clone(), detail };
        let (mut expected, mut had_checksum) = (after + 1, false);
        while let Some(row) = rows.next().map_err(failed)? {
            let (recorded, has_checksum) = self.recorded(run, row)?;
            if recorded.seq != expected {
                return Err(damaged(format!("event {expected} of {run} is missing")));
            }
            // Those of before have none, and nobody writes one of those behind one of today's.
            if had_checksum && !has_checksum {
                return Err(damaged(format!("event {expected} of {run} is not as it was written")));
            }
            (expected, had_checksum) = (expected + 1, has_checksum);
            hear(recorded);
        }
        Ok(())
    }

    /// Tells all events of a run as [`JournalReader::tell`] does, but reads on a thread of its own, ahead of `hear`: the end of a
    /// long run comes in the time of the longer half.
    ///
    /// # Errors
    /// As [`JournalReader::tell`]; [`JournalError::Io`] when there is no thread to be had.
    pub fn tell_ahead(self, run: &RunId, hear: impl FnMut(Recorded)) -> Result<(), JournalError> {
        let (sender, batches) = sync_channel::<Vec<Recorded>>(BATCHES_AHEAD_MAX);
        let path = self.path.clone();
        let read = move || {
            let mut batch = Vec::with_capacity(EVENTS_AHEAD);
            let told = self.tell(run, 0, |recorded| {
                batch.push(recorded);
                if batch.len() == EVENTS_AHEAD {
                    // Refused when whoever heard is gone; then nobody hears of the rest.
                    let _ = sender.send(std::mem::replace(&mut batch, Vec::with_capacity(EVENTS_AHEAD)));
                }
            });
            let _ = sender.send(batch);
            told
        };
        // The receiver goes inside: should `hear` panic, the reader finds nobody there, and ends.
        std::thread::scope(move |scope| {
            let thread = std::thread::Builder::new().name("journal-reader".to_owned()).stack_size(SMALL_STACK_BYTES);
            let thread = thread
                .spawn_scoped(scope, read)
                .map_err(|source| JournalError::Io { path, source: Arc::new(source) })?;
            batches.into_iter().flatten().for_each(hear);
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// One event, read where the database has its text, and whether it has a checksum. One that an older swarm wrote has none.
    fn recorded(&self, run: &RunId, row: &Row<'_>) -> Result<(Recorded, bool), JournalError> {
        let failed = |error| JournalError::from_sql(&self.path, error);
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64).map_err(failed);
        let (seq, at_ms) = (number(0)?, number(1)?);
        let text = row.get_ref(2).map_err(failed)?.as_str().map_err(|error| failed(error.into()))?;
        let damaged = |what: String| JournalError::Damaged { path: self.path.clone(), detail: what };
        let event: RunEvent =
            serde_json::from_str(text).map_err(|error| damaged(format!("event {seq} of {run}: {error}")))?;
        let written = row.get::<_, Option<i64>>(3).map_err(failed)?;
        if written.is_some_and(|written| written != i64::from(checksum(seq, at_ms, text))) {
            return Err(damaged(format!("event {seq} of {run} is not as it was written")));
        }
        Ok((Recorded { seq, at_ms, event }, written.is_some()))
    }

    /// The state of a run, replayed. What its first event says comes from its row where it ended before that.
    ///
    /// # Errors
    /// As [`JournalReader::runs`].
    pub fn state(&self, run: &RunId) -> Result<RunState, JournalError> {
        let mut state = RunState::default();
        self.tell(run, 0, |recorded| state.apply(&recorded))?;
        if let (None, Some(row)) = (&state.run, self.run(run)?) {
            state.run = Some(row.id);
            (state.plan, state.base, state.target) = (row.plan, row.base, row.target);
            state.started_at_ms = row.started_at_ms;
        }
        Ok(state)
    }

    /// How a run ended last; `None` where it has not, or goes on.
    ///
    /// # Errors
    /// As [`JournalReader::runs`].
    pub fn ending(&self, run: &RunId) -> Result<Option<Finished>, JournalError> {
        let failed = |error| JournalError::from_sql(&self.path, error);
        let Some(connection) = &self.connection else { return Ok(None) };
        let mut statement = connection.prepare(&self.events_sql("ORDER BY seq DESC LIMIT 1")?).map_err(failed)?;
        let mut rows = statement.query([&run.0]).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
        let mut state = RunState::default();
        state.apply(&self.recorded(run, row)?.0);
        Ok(state.finished)
    }

    /// The plan of a run and what it included, the plan first.
    ///
    /// # Errors
    /// As [`JournalReader::runs`].
    pub fn sources(&self, run: &RunId) -> Result<Vec<Source>, JournalError> {
        let sql = "SELECT name, text FROM sources WHERE run = (SELECT key FROM runs WHERE id = ?1) ORDER BY position";
        self.rows(sql, [&run.0], |row| Ok(Source { name: row.get(0)?, text: row.get(1)? }))
    }

    /// What a run was asked for beside its plan; `None` when there is no such run. A run of an older journal reads as one
    /// that was asked for nothing.
    ///
    /// # Errors
    /// As [`JournalReader::run`].
    pub fn asked(&self, run: &RunId) -> Result<Option<Asked>, JournalError> {
        self.run_of(run)?.map(|(values, _)| run_row::asked(&self.path, run, &values)).transpose()
    }

    /// How long the tasks of a plan took when they last succeeded.
    ///
    /// # Errors
    /// As [`JournalReader::runs`].
    pub fn durations(&self, plan: &str) -> Result<Vec<TaskDuration>, JournalError> {
        let sql = "SELECT task, median_ms, last_ms FROM durations WHERE plan = ?1 ORDER BY task";
        self.rows(sql, [plan], |row| {
            Ok(TaskDuration {
                task: row.get(0)?,
                median_ms: row.get::<_, i64>(1)? as u64,
                last_ms: row.get::<_, i64>(2)? as u64,
            })
        })
    }

    /// Trees, full hex ids, that passed the gate of this key in any run since a moment, in milliseconds since the Unix epoch; the
    /// newest ones, at most [`GREEN_TREES_MAX`].
    ///
    /// # Errors
    /// As [`JournalReader::runs`].
    pub fn green_trees(&self, gate: &str, since_ms: u64) -> Result<Vec<String>, JournalError> {
        let sql = "SELECT tree FROM verdicts WHERE gate = ?1 AND at_ms >= ?3 ORDER BY at_ms DESC LIMIT ?2";
        self.rows(sql, rusqlite::params![gate, GREEN_TREES_MAX as i64, since_ms as i64], |row| row.get(0))
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        connection
            .prepare(sql)
            .and_then(|mut statement| statement.query_map(values, read)?.collect())
            .map_err(|error| JournalError::from_sql(&self.path, error))
    }
}

/// Whether the journal's file answers at all, for `doctor`: the number of runs in it.
///
/// # Errors
/// As [`JournalReader::open`].
pub fn count_runs(state: &Path) -> Result<u64, JournalError> {
    let Some(connection) = open_to_read(state)? else { return Ok(0) };
    let count: Option<i64> = connection
        .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
        .optional()
        .map_err(|error| JournalError::from_sql(&journal_path(state), error))?;
    Ok(count.unwrap_or(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Attempt;
    use crate::journal::{Journal, NewRun};
    use crate::report::story;

    /// More than may be on their way at once.
    const EVENTS: usize = EVENTS_AHEAD * (BATCHES_AHEAD_MAX + 2) + 1;

    #[test]
    fn what_is_read_ahead_is_heard_in_order_and_up_to_what_is_damaged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let new = NewRun {
            plan: "x".to_owned(),
            sources: vec![],
            repository: String::new(),
            expanded_hash: String::new(),
            base: String::new(),
            target: None,
            started_at_ms: story::START_MS,
            asked: Asked::default(),
        };
        let mut journal = Journal::open(folder.path()).expect("a journal");
        let writer = journal.begin_run(new, |_| false).expect("a run");
        let started = |n| RunEvent::AttemptStarted { instance: story::id("a"), attempt: Attempt(n), on: None };
        let stored = writer.append(1, (0..EVENTS as u32).map(started).collect()).expect("space");
        let ahead = || {
            let mut heard = Vec::new();
            let reader = JournalReader::open(folder.path()).expect("a journal");
            let told = reader.tell_ahead(writer.run(), |recorded| heard.push(recorded));
            (told.map_err(|error| error.to_string()), heard)
        };
        assert_eq!(ahead(), (Ok(()), stored.clone()));
        let raw = Connection::open(journal_path(folder.path())).expect("the same file");
        let damaged_by = |change: &str, said: &str| {
            raw.execute(&format!("UPDATE events SET {change} WHERE seq = {EVENTS}"), []).expect("damage");
            let (told, heard) = ahead();
            let why = told.expect_err("it is damaged");
            assert!(why.contains(&format!("event {EVENTS} of x-1{said}")), "{why}");
            assert_eq!(heard, stored[..EVENTS - 1]);
        };
        let other = " is not as it was written";
        damaged_by(r#"json = replace(json, '"a"', '"b"')"#, other);
        damaged_by(r#"json = replace(json, '"b"', '"a"'), at_ms = at_ms + 1"#, other);
        damaged_by("json = '{}'", ": missing field `event`");
        raw.execute_batch("UPDATE events SET json = replace(json, '1', '2'), checksum = NULL WHERE seq <= 2")
            .expect("old");
        let reader = JournalReader::open(folder.path()).expect("a journal");
        let mut heard = 0;
        let told = reader.tell(writer.run(), 0, |_| heard += 1);
        assert!(told.is_err() && heard == EVENTS - 1, "what has no checksum is taken as it stands");
        let heard_up_to = |damage: &str, heard: usize, said: &str| {
            raw.execute_batch(damage).expect("damage");
            let mut count = 0;
            let told = JournalReader::open(folder.path()).expect("a journal").tell(writer.run(), 0, |_| count += 1);
            assert_eq!((count, told.map_err(|error| error.to_string().contains(said))), (heard, Err(true)), "{damage}");
        };
        heard_up_to("UPDATE events SET checksum = NULL WHERE seq = 7", 6, "event 7 of x-1 is not as it was written");
        heard_up_to("DELETE FROM events WHERE seq = 5", 4, "event 5 of x-1 is missing");
        heard_up_to("UPDATE events SET seq = -1 WHERE seq = 4", 3, "event 4 of x-1 is missing");
    }
}
