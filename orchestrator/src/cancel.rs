//! Asks the coordinator of a run to end it, from another process: the same signal that a person at its terminal would give.
//!
//! A process id alone names nobody for long. The signal goes through a descriptor of the process, and only when that process
//! was started when the lock says and the lock is still held: a stranger that got the id meanwhile is never hit.
//! Source: pidfd_open(2), pidfd_send_signal(2).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::ids::RunId;
use crate::journal::lock::started_ticks;
use crate::journal::{Holder, LockError, RunLock};

/// Why a coordinator was not asked.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The lock cannot be looked at.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The holder is on another machine or in another container, or wrote nothing about itself.
    #[error("reach the coordinator of {run}: process {pid} is not on this machine, or not in this container")]
    OutOfReach {
        /// The run.
        run: RunId,
        /// The id that the holder gave.
        pid: u32,
    },
    /// The system refused.
    #[error("signal process {pid}: {source}")]
    Signal {
        /// The process.
        pid: u32,
        /// Why.
        source: std::io::Error,
    },
}

/// The coordinator of a run, while it lives.
#[derive(Debug)]
pub struct Coordinator {
    process: OwnedFd,
    holder: Holder,
}

/// How a run should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// What runs gets time to end, and a landing is finished.
    Orderly,
    /// What runs is killed.
    AtOnce,
}

impl Coordinator {
    /// The process that works on a run; `None` when nobody does.
    ///
    /// # Errors
    /// [`CancelError`]; nobody was signalled.
    pub fn of_run(state: &Path, run: &RunId) -> Result<Option<Self>, CancelError> {
        let Some(holder) = RunLock::holder_of_run(state, run)? else { return Ok(None) };
        let pid = holder.pid;
        let out_of_reach = || CancelError::OutOfReach { run: run.clone(), pid };
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(out_of_reach)?;
        let process = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => {
                return still_held(state, run, &holder)
                    .and_then(|held| held.map_or(Ok(None), |()| Err(out_of_reach())));
            }
            Err(error) => return Err(CancelError::Signal { pid, source: error.into() }),
        };
        // Behind the opening: from now on the descriptor means whichever process this was asked of.
        if started_ticks(pid) != Some(holder.started_ticks) {
            return Err(out_of_reach());
        }
        let held = still_held(state, run, &holder)?;
        Ok(held.map(|()| Coordinator { process, holder }))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.holder.pid
    }

    /// Asks it to end. It counts the signals that it gets, and two of one kind would be one while the first waits.
    ///
    /// # Errors
    /// [`CancelError::Signal`]; one that has ended is no error.
    pub fn ask_to_end(&self, urgency: Urgency) -> Result<(), CancelError> {
        let signals: &[Signal] = match urgency {
            Urgency::Orderly => &[Signal::TERM],
            Urgency::AtOnce => &[Signal::INT, Signal::TERM],
        };
        for &signal in signals {
            match pidfd_send_signal(&self.process, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(CancelError::Signal { pid: self.holder.pid, source: error.into() }),
            }
        }
        Ok(())
    }

    /// Waits for its end, no longer than this; whether it ended.
    pub fn ends_within(&self, longest: Duration) -> bool {
        let timeout = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: i64::from(longest.subsec_nanos()) };
        matches!(poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&timeout)), Ok(1..))
    }
}

/// Whether the same holder still holds a run.
fn still_held(state: &Path, run: &RunId, holder: &Holder) -> Result<Option<()>, CancelError> {
    Ok(RunLock::holder_of_run(state, run)?.filter(|now| now == holder).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_a_run_that_nobody_holds() {
        let state = tempfile::tempdir().expect("a temporary folder");
        assert!(Coordinator::of_run(state.path(), &RunId("a-1".to_owned())).expect("legible").is_none());
    }

    #[test]
    fn a_stranger_with_the_same_process_id_is_never_signalled() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let run = RunId("a-1".to_owned());
        let _held = RunLock::of_run(state.path(), &run, 1).expect("free");
        assert!(Coordinator::of_run(state.path(), &run).expect("this very process").is_some());
        let lock = state.path().join("runs/a-1/lock");
        let text = std::fs::read_to_string(&lock).expect("what the holder wrote");
        let mut holder: Holder = serde_json::from_str(&text).expect("it is a holder");
        holder.started_ticks += 1;
        std::fs::write(&lock, serde_json::to_vec(&holder).expect("plain")).expect("writable");
        assert!(matches!(Coordinator::of_run(state.path(), &run), Err(CancelError::OutOfReach { .. })));
    }
}
