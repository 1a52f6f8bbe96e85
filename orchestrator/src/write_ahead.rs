//! Has SQLite write changes ahead in a log of their own, so that readers and a writer do not wait for each other. Where another process
//! looks at a new file meanwhile, SQLite does not wait here, whatever its timeout says: it holds a lock by then that the other one may
//! wait for. Nothing tells when that one is done, so it is asked again.
//!
//! Source: <https://sqlite.org/c3ref/busy_handler.html>.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

/// How often is looked where SQLite itself does not wait.
const LOOK: Duration = Duration::from_millis(2);

/// Switches a file over, or finds that somebody did; for so long others may be in the way.
///
/// # Errors
/// SQLite's; busy or locked when somebody was in the way for all that time.
pub fn write_ahead(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let until = Instant::now() + patience;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_in_the_way(&error) && Instant::now() < until => std::thread::sleep(LOOK),
            done => return done,
        }
    }
}

fn is_in_the_way(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
