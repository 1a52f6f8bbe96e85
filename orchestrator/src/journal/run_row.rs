//! What the journal keeps of a run beside its events, one row: how it is read, and by which checksum one is known that is not as it
//! was written. A damaged row is a value, so that a list still has all the others.

use std::path::{Path, PathBuf};

use rusqlite::Row;
use rusqlite::types::{Value, ValueRef};

use super::JournalError;
use super::checksum::row_checksum;
use super::tally::Tally;
use crate::ids::RunId;
use crate::settings::Asked;

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// The plan's name.
    pub plan: String,
    /// The common git folder of its repository; `None` where an older swarm did not write it down.
    pub repository: Option<String>,
    /// Full hex id of the base commit.
    pub base: String,
    /// Full ref name of the target branch.
    pub target: Option<String>,
    /// Hex hash of the expanded plan.
    pub expanded_hash: String,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// `None` while it runs, and for ever when its coordinator died.
    pub finished_at_ms: Option<u64>,
    /// The exit code, once finished.
    pub exit: Option<u8>,
    /// The counts as of the last commit.
    pub tally: Tally,
}

/// What is kept of a run beside its events is not as it was written. Its events, its refs and all other runs are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the journal {}: what it says of {run} is not as it was written (it is damaged)", path.display())]
pub struct DamagedRow {
    /// The journal.
    pub path: PathBuf,
    /// The run, by what the damaged row says of its name.
    pub run: RunId,
}

/// The columns that every journal has, in the order of [`Values`].
const COLUMNS: &str = "id, plan, number, expanded_hash, base, target, started_at_ms, finished_at_ms, exit, tally";

/// The columns that came later, in the order of [`Values`], and what they read as where the journal lacks them.
const LATER: [(&str, &str); 2] = [("asked", "'{}'"), ("repository", "NULL")];

/// How many values a row has; its checksum comes behind them.
const VALUES: usize = 12;

/// The list of columns that [`read`] takes; `has` says which of those that came later there are.
pub(super) fn columns(mut has: impl FnMut(&str) -> Result<bool, JournalError>) -> Result<String, JournalError> {
    let mut list = COLUMNS.to_owned();
    for (name, without) in LATER.into_iter().chain([("checksum", "NULL")]) {
        list.push_str(", ");
        list.push_str(if has(name)? { name } else { without });
    }
    Ok(list)
}

/// The values of a row in the order of the columns. Whoever writes keeps them, so that what was damaged meanwhile gets no new
/// checksum.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values([Value; VALUES]);

impl Values {
    /// Those of a run that begins.
    pub(super) fn new(run: &RunId, number: i64, new: &super::NewRun) -> Self {
        let asked = serde_json::to_string(&new.asked).expect("plain words and numbers");
        Values([
            run.0.clone().into(),
            new.plan.clone().into(),
            number.into(),
            new.expanded_hash.clone().into(),
            new.base.clone().into(),
            new.target.as_ref().map(|target| target.of(run)).into(),
            (new.started_at_ms as i64).into(),
            Value::Null,
            Value::Null,
            tally_text(&Tally::default()).into(),
            asked.into(),
            new.repository.clone().into(),
        ])
    }

    /// Those of a row; `None` where its texts are none.
    fn of(values: [ValueRef<'_>; VALUES]) -> Option<Self> {
        let values: Result<Vec<Value>, _> = values.into_iter().map(Value::try_from).collect();
        values.ok()?.try_into().ok().map(Values)
    }

    /// Notes how the run ended, and when; `None` when it goes on.
    pub(super) fn set_end(&mut self, end: Option<(u64, u8)>) {
        self.0[7] = end.map(|(at_ms, _)| at_ms as i64).into();
        self.0[8] = end.map(|(_, exit)| i64::from(exit)).into();
    }

    /// Notes the counts.
    pub(super) fn set_tally(&mut self, tally: &Tally) {
        self.0[9] = tally_text(tally).into();
    }

    /// The row of a run that begins.
    pub(super) fn insert(&self, connection: &rusqlite::Connection) -> rusqlite::Result<()> {
        let [asked, repository] = LATER.map(|(name, _)| name);
        let marks = vec!["?"; VALUES + 1].join(", ");
        let sql = format!("INSERT INTO runs ({COLUMNS}, {asked}, {repository}, checksum) VALUES ({marks})");
        let checksum = Value::from(i64::from(self.checksum()));
        connection.execute(&sql, rusqlite::params_from_iter(self.0.iter().chain([&checksum]))).map(drop)
    }

    /// What moves while a run goes on: the row of that key follows.
    pub(super) fn update(&self, connection: &rusqlite::Connection, key: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE runs SET finished_at_ms = ?2, exit = ?3, tally = ?4, checksum = ?5 WHERE key = ?1";
        let values = rusqlite::params![key, self.0[7], self.0[8], self.0[9], self.checksum()];
        connection.execute(sql, values).map(drop)
    }

    fn checksum(&self) -> u32 {
        row_checksum(self.0.iter().map(ValueRef::from))
    }
}

fn tally_text(tally: &Tally) -> String {
    serde_json::to_string(tally).expect("counts are plain numbers")
}

/// A row as it is kept and as it reads.
pub(super) type Read = Result<(Values, RunRow), DamagedRow>;

/// A row of [`columns`] of the journal at that path, as it is kept and as it reads, where it is as it was written. One that an older
/// swarm wrote has no checksum.
pub(super) fn read(path: &Path, row: &Row<'_>) -> rusqlite::Result<Read> {
    let mut values = [const { ValueRef::Null }; VALUES];
    for (at, value) in values.iter_mut().enumerate() {
        *value = row.get_ref(at)?;
    }
    let written = row.get::<_, Option<i64>>(VALUES)?;
    let is_as_written = written.is_none_or(|written| written == i64::from(row_checksum(values)));
    // What is as it was written is legible; that of a journal of before may be neither.
    let legible = || Some((Values::of(values)?, run_row(row).ok()?));
    Ok(is_as_written.then(legible).flatten().ok_or_else(|| {
        let run = RunId(String::from_utf8_lossy(values[0].as_bytes().unwrap_or_default()).into_owned());
        DamagedRow { path: path.to_owned(), run }
    }))
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let tally: String = row.get(9)?;
    Ok(RunRow {
        id: RunId(row.get(0)?),
        plan: row.get(1)?,
        repository: row.get(11)?,
        base: row.get(4)?,
        target: row.get(5)?,
        expanded_hash: row.get(3)?,
        started_at_ms: row.get::<_, i64>(6)? as u64,
        finished_at_ms: row.get::<_, Option<i64>>(7)?.map(|at| at as u64),
        exit: row.get(8)?,
        // Counts are a convenience beside the events; a journal whose counts are illegible still lists its runs.
        tally: serde_json::from_str(&tally).unwrap_or_default(),
    })
}

/// What a row of [`columns`] says that its run was asked for.
///
/// # Errors
/// [`JournalError::Damaged`] where an older swarm's is not legible.
pub(super) fn asked(path: &Path, run: &RunId, values: &Values) -> Result<Asked, JournalError> {
    let Value::Text(text) = &values.0[10] else { return Ok(Asked::default()) };
    serde_json::from_str(text).map_err(|error| JournalError::Damaged {
        path: path.to_owned(),
        detail: format!("what {run} was asked for: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::journal::schema::journal_path;
    use crate::journal::{Journal, JournalReader, NewRun, NewTarget, RunLock, RunWriter};
    use crate::report::story;

    fn begin(state: &Path) -> RunWriter {
        let new = NewRun {
            plan: "x".to_owned(),
            sources: vec![],
            repository: "/repo/.git".to_owned(),
            expanded_hash: "e".to_owned(),
            base: "b".to_owned(),
            target: Some(NewTarget::Ref("refs/heads/t".to_owned())),
            started_at_ms: story::START_MS,
            asked: Asked::default(),
        };
        Journal::open(state).and_then(|mut journal| journal.begin_run(new, |_| false)).expect("a run")
    }

    #[test]
    fn a_row_that_is_not_as_it_was_written_is_told_and_hides_no_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..3 {
            begin(folder.path()).append(5, vec![story::finished(1, None)]).expect("space");
        }
        let raw = Connection::open(journal_path(folder.path())).expect("the same file");
        let [damaged, other] = ["x-2", "x-3"].map(|id| RunId(id.to_owned()));
        let reader = JournalReader::open(folder.path()).expect("a journal");
        let whole = |reader: &JournalReader| {
            reader.runs().expect("legible").into_iter().map(|row| row.id.0).collect::<Vec<_>>()
        };
        assert_eq!(whole(&reader), ["x-3", "x-2", "x-1"].map(str::to_owned).to_vec());
        for change in [
            "repository = '/repp/.git'",
            "target = 'refs/heads/u'",
            "target = NULL",
            "base = 'c'",
            "plan = 'y'",
            "number = 6",
            "exit = 0",
            "finished_at_ms = NULL",
            "started_at_ms = started_at_ms + 1",
            "tally = replace(tally, '0', '1')",
            "asked = '{ }'",
            "expanded_hash = CAST(x'ff' AS TEXT)",
        ] {
            raw.execute_batch(&format!("SAVEPOINT s; UPDATE runs SET {change} WHERE id = 'x-2'; RELEASE s"))
                .expect("damage");
            for told in [reader.run(&damaged).map(drop), reader.asked(&damaged).map(drop)] {
                let told = told.expect_err(change).to_string();
                assert!(told.contains("x-2 is not as it was written"), "{change}: {told}");
            }
            assert_eq!(whole(&reader), ["x-3", "x-1"].map(str::to_owned).to_vec(), "{change}");
            assert_eq!(reader.entries().expect("legible").iter().filter(|entry| entry.is_err()).count(), 1);
            assert!(reader.run(&other).is_ok_and(|row| row.is_some()));
            raw.execute_batch(
                "UPDATE runs SET (plan, number, expanded_hash, base, target, started_at_ms, finished_at_ms, exit, tally, asked,
                 repository) = (SELECT plan, 2, expanded_hash, base, target, started_at_ms, finished_at_ms, exit, tally, asked,
                 repository FROM runs WHERE id = 'x-1') WHERE id = 'x-2'",
            )
            .expect("mended");
            assert!(reader.run(&damaged).is_ok_and(|row| row.is_some()), "{change}");
        }
    }

    #[test]
    fn who_writes_on_takes_no_damage_for_its_own() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let writer = begin(folder.path());
        let run = writer.run().clone();
        let raw = Connection::open(journal_path(folder.path())).expect("the same file");
        raw.execute_batch("UPDATE runs SET base = 'c'").expect("damage");
        writer.append(5, vec![story::finished(1, None)]).expect("space");
        drop(writer);
        let resume = || {
            let lock = RunLock::of_run(folder.path(), &run, 0).expect("nobody holds it");
            Journal::open(folder.path()).and_then(|mut journal| journal.resume_run(&run, lock))
        };
        assert!(matches!(resume(), Err(JournalError::DamagedRun(_))));
        // Of before: taken as it stands, and known by a checksum from then on.
        raw.execute_batch("UPDATE runs SET checksum = NULL").expect("old");
        resume().expect("an old row").append(6, vec![story::attempt("a", 1)]).expect("space");
        let reader = JournalReader::open(folder.path()).expect("a journal");
        assert_eq!(reader.run(&run).expect("legible").expect("a run").base, "c");
        raw.execute_batch("UPDATE runs SET base = 'b'").expect("damage");
        assert!(matches!(reader.run(&run), Err(JournalError::DamagedRun(_))));
    }
}
