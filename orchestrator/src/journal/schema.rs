//! The tables and their version. `user_version` counts the steps of [`STEPS`] that a file has been through; a file with
//! more steps than this program knows was written by a newer one and is refused, never guessed at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::JournalError;
use crate::write_ahead::write_ahead;

/// Each entry takes the file from version `index` to `index + 1`. Entries are never edited once released, only added.
const STEPS: &[&str] = &[
    "
    -- The last number that a plan's runs were given; outlives the runs, so that an id never comes back.
    CREATE TABLE plans (
        name TEXT PRIMARY KEY,
        last_number INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE runs (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        plan TEXT NOT NULL,
        number INTEGER NOT NULL,
        event_version INTEGER NOT NULL,
        expanded_hash TEXT NOT NULL,       -- of the expanded plan, hex
        base TEXT NOT NULL,                -- commit id, hex
        target TEXT,                       -- full ref name
        started_at_ms INTEGER NOT NULL,    -- since the Unix epoch
        finished_at_ms INTEGER,            -- null while it runs, and for ever when its coordinator died
        exit INTEGER,
        tally TEXT NOT NULL                -- counts as JSON, moved on with every commit
    ) STRICT;

    -- The plan and its includes as they were read; position 0 is the plan.
    CREATE TABLE sources (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (run, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE events (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (run, seq)
    ) STRICT, WITHOUT ROWID;

    -- How long a task's successful attempts took in the newest run that had any.
    CREATE TABLE durations (
        plan TEXT NOT NULL,
        task TEXT NOT NULL,
        median_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        samples INTEGER NOT NULL,
        PRIMARY KEY (plan, task)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- What the run was asked for beside its plan, as JSON: whoever resumes it asks for the same.
    ALTER TABLE runs ADD COLUMN asked TEXT NOT NULL DEFAULT '{}';
",
    "
    -- Trees that passed the gate of a target (`[merge] verify`). Only green is kept: a red verdict may have had a cause
    -- outside of the tree, such as a tool that was missing.
    CREATE TABLE verdicts (
        gate TEXT NOT NULL,                -- hash of the command and its policy, hex
        tree TEXT NOT NULL,                -- tree id, hex
        at_ms INTEGER NOT NULL,            -- since the Unix epoch
        PRIMARY KEY (gate, tree)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The common git folder of the repository that the run works on: one state folder may serve several. Null in runs of before.
    ALTER TABLE runs ADD COLUMN repository TEXT;
",
    "
    -- Nobody reads it: a kind of event that an older swarm does not know comes with a step here. These are `needs-settled`, `noted`.
    ALTER TABLE runs DROP COLUMN event_version;
",
    "
    -- Events say on which commit of the target an attempt starts (`attempt-started`, `needs-settled`): an older swarm would go on from
    -- another one.
",
    "
    -- What failed can be given up (`merged`, `dropped` with `was`): an older swarm would try it again, and count it as parked.
",
    "
    -- What is handed over may be an earlier attempt's (`attempt-finished`, `handed` is `before`): an older swarm does not read that.
",
    "
    -- What landed can be given up (`merged`, `dropped`, `was` is `landed`): an older swarm does not read that.
",
    "
    -- By which an event is known that is not as it was written (`checksum.rs`). Null in events of before.
    ALTER TABLE events ADD COLUMN checksum INTEGER;
",
    "
    -- By which the row of a run is known that is not as it was written. Null in rows of before.
    ALTER TABLE runs ADD COLUMN checksum INTEGER;
",
];

/// How long a call waits for another process's transaction. One commit takes milliseconds; a checkpoint of a large
/// journal on a slow disk can take seconds.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// Memory that one connection may use for pages, in KiB (SQLite's own default is 2,000); the journal is written front to
/// back and rarely read by its writer.
const PAGE_CACHE_KIB: i64 = 512;

/// Where the journal of a state folder lies.
pub(super) fn journal_path(state: &Path) -> PathBuf {
    state.join("journal.sqlite")
}

/// Opens the journal for writing, making or upgrading it as needed.
pub(super) fn open_to_write(state: &Path) -> Result<Connection, JournalError> {
    let path = journal_path(state);
    let io = |source| JournalError::Io { path: state.to_owned(), source: Arc::new(source) };
    std::fs::create_dir_all(state).map_err(io)?;
    let sql = |error| JournalError::from_sql(&path, error);
    let mut connection = Connection::open(&path).map_err(sql)?;
    connection.busy_timeout(BUSY_MAX).map_err(sql)?;
    write_ahead(&connection, BUSY_MAX).map_err(sql)?;
    connection.pragma_update(None, "synchronous", "full").map_err(sql)?;
    connection.pragma_update(None, "foreign_keys", "on").map_err(sql)?;
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB).map_err(sql)?;
    upgrade(&mut connection, &path)?;
    Ok(connection)
}

/// Opens the journal for reading; `None` when there is none yet.
pub(super) fn open_to_read(state: &Path) -> Result<Option<Connection>, JournalError> {
    let path = journal_path(state);
    if !path.exists() {
        return Ok(None);
    }
    let (connection, found) = match connect(&path, &path, OpenFlags::empty()) {
        Err(JournalError::Sql { .. } | JournalError::DiskFull { .. }) if is_settled(&path) => {
            connect(&path, &as_it_stands(&path), OpenFlags::SQLITE_OPEN_URI)?
        }
        opened => opened?,
    };
    match usize::try_from(found) {
        // Version 0 is a file that its maker has not filled yet: there is nothing to read in it.
        Ok(0) => Ok(None),
        Ok(known) if known <= STEPS.len() => Ok(Some(connection)),
        _ => Err(newer(&path, found)),
    }
}

fn connect(path: &Path, name: &Path, more: OpenFlags) -> Result<(Connection, i64), JournalError> {
    let sql = |error| JournalError::from_sql(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(name, flags).map_err(sql)?;
    connection.busy_timeout(BUSY_MAX).map_err(sql)?;
    let found = version(&connection, path)?;
    Ok((connection, found))
}

/// Whether all of the journal is in its one file. Readers of a log that is written ahead share a small file beside it, which a
/// full disk or a read-only one has no place for; where the log is empty, they can do without, and a person sees what there is to
/// give back.
fn is_settled(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |log| log.len() == 0)
}

/// The name under which SQLite reads a file without anything beside it. Source: <https://sqlite.org/uri.html>.
fn as_it_stands(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let escaped = path.as_os_str().as_bytes().iter().flat_map(|&byte| match byte {
        b'%' | b'?' | b'#' => format!("%{byte:02x}").into_bytes(),
        byte => vec![byte],
    });
    let name: Vec<u8> = b"file:".iter().copied().chain(escaped).chain(b"?immutable=1".iter().copied()).collect();
    PathBuf::from(std::ffi::OsString::from_vec(name))
}

fn upgrade(connection: &mut Connection, path: &Path) -> Result<(), JournalError> {
    let sql = |error| JournalError::from_sql(path, error);
    if version(connection, path)? == STEPS.len() as i64 {
        return Ok(());
    }
    // Immediate, so that of two first users one makes the tables and the other finds them.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(sql)?;
    let found = version(&transaction, path)?;
    let done = usize::try_from(found).ok().filter(|&done| done <= STEPS.len()).ok_or_else(|| newer(path, found))?;
    for step in &STEPS[done..] {
        transaction.execute_batch(step).map_err(sql)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len() as i64).map_err(sql)?;
    transaction.commit().map_err(sql)
}

fn version(connection: &Connection, path: &Path) -> Result<i64, JournalError> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| JournalError::from_sql(path, error))
}

fn newer(path: &Path, found: i64) -> JournalError {
    JournalError::Newer { path: path.to_owned(), found, known: STEPS.len() as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_make_the_journal_at_once_open_it() {
        for round in 0..20 {
            let state = tempfile::tempdir().expect("a temporary folder");
            let start = std::sync::Barrier::new(6);
            let open = || {
                start.wait();
                open_to_write(state.path()).map(drop).map_err(|error| error.to_string())
            };
            let opened: Vec<_> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
                all.into_iter().map(|one| one.join().expect("no panic")).collect()
            });
            assert!(opened.iter().all(Result::is_ok), "round {round}: {opened:?}");
        }
    }

    #[test]
    fn a_newer_journal_is_refused_by_name() {
        let state = tempfile::tempdir().expect("a temporary folder");
        drop(open_to_write(state.path()).expect("a new journal"));
        let raw = Connection::open(journal_path(state.path())).expect("the same file");
        raw.pragma_update(None, "user_version", 99).expect("a version of the future");
        for error in [open_to_write(state.path()).err(), open_to_read(state.path()).err()] {
            let text = error.expect("must be refused").to_string();
            assert!(text.contains("its format is 99") && text.contains("up to 11"), "{text}");
        }
    }

    #[test]
    fn a_new_kind_of_event_is_a_new_format() {
        let none = serde_json::from_str::<crate::event::RunEvent>(r#"{"event":"none-of-them"}"#);
        let known = none.expect_err("there is no such kind").to_string();
        let kinds = known.matches('`').count() / 2 - 1;
        assert_eq!((STEPS.len(), kinds), (11, 22), "an older swarm cannot read it: add a step that names it. {known}");
    }

    /// A run as the first version wrote it, as SQL: never edited, whatever events look like today.
    const VERSION_1: &str = include_str!("version-1.sql");

    #[test]
    fn a_journal_of_the_first_version_is_read_and_taken_along() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let old = Connection::open(journal_path(state.path())).expect("a new file");
        old.execute_batch(STEPS[0]).and_then(|()| old.execute_batch(VERSION_1)).expect("the first version");
        drop(old);
        let seen = || {
            let reader = crate::journal::JournalReader::open(state.path()).expect("legible");
            let runs = reader.runs().expect("its runs");
            let run = reader.state(&runs[0].id).expect("its events");
            let asked = reader.asked(&runs[0].id).expect("nothing was asked for that it knows");
            assert_eq!(asked, Some(crate::settings::Asked::default()));
            (runs.len(), run.tally, run.tip.clone(), run.finished.map(|end| end.exit))
        };
        let before = seen();
        assert_eq!((before.0, before.1.passed, before.1.landed, before.3), (1, 2, 1, Some(0)));
        drop(open_to_write(state.path()).expect("it is taken along"));
        let raw = Connection::open(journal_path(state.path())).expect("the same file");
        assert_eq!(version(&raw, state.path()).expect("a version"), STEPS.len() as i64);
        assert_eq!(seen(), before, "the past reads the same");
        drop(open_to_write(state.path()).expect("once is enough"));
    }

    #[test]
    fn what_is_no_journal_is_called_damaged() {
        let state = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(journal_path(state.path()), "x".repeat(5000)).expect("a file");
        assert!(matches!(open_to_write(state.path()), Err(JournalError::Damaged { .. })));
        assert!(matches!(open_to_read(state.path()), Err(JournalError::Damaged { .. })));
    }

    #[test]
    fn no_journal_is_nothing_to_read() {
        let state = tempfile::tempdir().expect("a temporary folder");
        assert!(open_to_read(state.path()).expect("no error").is_none());
    }
}
