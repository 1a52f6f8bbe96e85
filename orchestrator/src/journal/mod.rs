//! The durable record of runs: one SQLite file, `<state>/journal.sqlite`, and beside it the logs of attempts.
//!
//! Events go in, in batches; they come back numbered and dated once they are on the disk, and only then may anybody hear
//! of them. Everything that `list`, `status` and the summary show is a replay of these events, so a run that died looks
//! the same as one that is watched. Nothing here decides anything, reads a clock or knows what a terminal is.
//!
//! Start reading at [`write`], whose head explains the group commit.

/// By which an event, or the row of a run, is known that is not as it was written.
mod checksum;
/// Who holds a run or a target: a lock that ends with its holder's life.
pub mod lock;
/// What workers printed, a file an attempt.
pub mod logs;
/// Runs and events, read beside a live writer.
pub mod read;
/// Events become the state of a run; pure.
pub mod replay;
/// What is kept of a run beside its events.
mod run_row;
/// The tables and their version.
mod schema;
/// What was spent on models; pure.
mod spending;
/// How many instances stand where.
mod tally;
/// How often an instance was tried.
mod tries;
/// Events onto the disk, many with one sync.
pub mod write;

use std::path::PathBuf;
use std::sync::Arc;

pub use lock::{Holder, LockError, RunLock};
pub use logs::{LogWriter, attempt_dir, log_path, tail};
pub use read::{JournalReader, Source, TaskDuration};
pub use replay::{AttemptState, ChangeState, Finished, InstanceState, Phase, RunState, replay};
pub use run_row::{DamagedRow, RunRow};
pub use spending::Spending;
pub use tally::Tally;
pub use tries::Tries;
pub use write::{Journal, NewRun, NewTarget, RunWriter};

/// Why the journal could not be read or written, by what the reader can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// No space is left: free some, then resume. What was announced before is stored.
    #[error("write the journal: no space is left where {} lies", path.display())]
    DiskFull {
        /// The journal.
        path: PathBuf,
    },
    /// A newer swarm wrote it: use that one.
    #[error("read the journal {}: its format is {found}, and this swarm knows formats up to {known}", path.display())]
    Newer {
        /// The journal.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// Another process kept it locked for longer than the bound: try again.
    #[error("use the journal {}: another process keeps it locked", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// It is not a journal, or its contents are not legible: move it away; refs keep all results.
    #[error("read the journal {}: it is damaged ({detail})", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Nobody can go on with that run; all others are as they were.
    #[error(transparent)]
    DamagedRun(#[from] DamagedRow),
    /// The folder or the file cannot be used (permissions, a read-only disk).
    #[error("use the journal {}: {source}", path.display())]
    Io {
        /// The journal or its folder.
        path: PathBuf,
        /// The system's word.
        source: Arc<std::io::Error>,
    },
    /// Any other answer of SQLite.
    #[error("use the journal {}: {source}", path.display())]
    Sql {
        /// The journal.
        path: PathBuf,
        /// SQLite's word.
        source: Arc<rusqlite::Error>,
    },
    /// The lock file of a new run could not be made.
    #[error("lock the run: {0}")]
    Lock(Arc<LockError>),
    /// The writer thread is gone; the error that ended it was given to an earlier caller.
    #[error("write the journal: its writer has stopped")]
    Stopped,
}

/// Whether the file can be written, and what SQLite keeps beside it: a log and an index of it, which may not be there yet.
///
/// Source: "Write-Ahead Logging" of SQLite's documentation.
fn is_writable(journal: &std::path::Path) -> bool {
    use rustix::fs::{Access, access};
    let is = |path: Option<&std::path::Path>| path.is_some_and(|path| access(path, Access::WRITE_OK).is_ok());
    let beside = ["-wal", "-shm"].map(|end| {
        let mut name = journal.as_os_str().to_owned();
        name.push(end);
        std::path::PathBuf::from(name)
    });
    is(Some(journal)) && is(journal.parent()) && beside.iter().all(|file| !file.exists() || is(Some(file)))
}

/// Whether SQLite says of a file itself that nobody may write it. With more to the code it is about something else: a log that cannot be
/// recovered by who only reads, a file that was moved.
///
/// Source: "Result and Error Codes" of SQLite's documentation, SQLITE_READONLY.
fn is_about_the_file(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_READONLY)
}

impl JournalError {
    /// Sorts an answer of the system for the journal at `path`.
    fn from_io(path: &std::path::Path, error: std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::StorageFull => JournalError::DiskFull { path },
            _ => JournalError::Io { path, source: Arc::new(error) },
        }
    }

    /// Sorts an answer of SQLite for the journal at `path`.
    fn from_sql(path: &std::path::Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let damaged = |path, error: &rusqlite::Error| JournalError::Damaged { path, detail: error.to_string() };
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => JournalError::DiskFull { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Busy { path },
            // Statements fit the tables that we make: where one does not, these are others.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => damaged(path, &error),
            // A file that may be written says of itself that it may not.
            Some(ErrorCode::ReadOnly) if is_about_the_file(&error) && is_writable(&path) => damaged(path, &error),
            Some(_) => JournalError::Sql { path, source: Arc::new(error) },
            // What it holds is not what was written: no text, or of another type.
            None => damaged(path, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_no_journal_of_ours_can_answer_is_damage() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal.sqlite");
        std::fs::write(&path, b"").expect("space");
        let of = |code: i32| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let is_damage =
            |path: &Path, error| matches!(JournalError::from_sql(path, error), JournalError::Damaged { .. });
        let text = rusqlite::Error::InvalidColumnType(0, "id".to_owned(), rusqlite::types::Type::Integer);
        assert!(is_damage(&path, text), "of another type");
        let [sql, corrupt, read_only, io] = [1, 11, 8, 10];
        assert!(is_damage(&path, of(sql)) && is_damage(&path, of(corrupt)) && is_damage(&path, of(read_only)));
        assert!(!is_damage(&path, of(io)), "the disk fails");
        assert!(!is_damage(&folder.path().join("none/journal.sqlite"), of(read_only)), "nobody can write there");
        for more in 1..=6 {
            assert!(!is_damage(&path, of(read_only | more << 8)), "it says nothing of what the file holds");
        }
    }
}
