//! Where time comes from. Everything that decides takes its time as a number; only the dispatcher and the executor ask here.

use std::time::{SystemTime, UNIX_EPOCH};

/// The date of a run's commits and the time of its events.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Seconds since the Unix epoch for every commit, from `SOURCE_DATE_EPOCH`; `None` takes the run's start.
    pub commit_epoch_s: Option<i64>,
}

impl Clock {
    /// The machine's, for the time of events alone.
    pub fn system() -> Clock {
        Clock { commit_epoch_s: None }
    }

    /// Milliseconds since the Unix epoch; 0 when the machine's clock is before it.
    pub fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// The date, in seconds since the Unix epoch, that all commits of a run carry.
    pub fn commit_date_s(&self, run_started_ms: u64) -> i64 {
        self.commit_epoch_s.unwrap_or((run_started_ms / 1000) as i64)
    }
}
