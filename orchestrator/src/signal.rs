//! What a person at the keyboard, a terminal that is closed, or a service manager asks of a run: SIGINT, SIGQUIT, SIGHUP and SIGTERM.
//! The first one that comes asks for an orderly end, the second for a quick one; what they mean is decided by the dispatcher. None of
//! them ends the program by itself, because it would be gone before it has looked at what the work left behind.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that wait to be heard; more say nothing new.
const WAITING_MAX: usize = 4;

/// Where the system says what this program was started to be deaf to, as `nohup` makes it.
const STATUS: &str = "/proc/self/status";

/// Listens from now on; the numbers of the signals arrive in order. Has to be called inside a runtime. A hangup and a quit that
/// this program was started to ignore stay ignored.
///
/// # Errors
/// The system's, when handlers cannot be set.
pub fn interrupts() -> std::io::Result<mpsc::Receiver<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    // Where nobody says, nothing is ignored. Once a handler is set, the system says so, too: this may be called again.
    let status = std::fs::read_to_string(STATUS).unwrap_or_default();
    let heard = [SignalKind::hangup(), SignalKind::quit()].into_iter().filter(|kind| !ignores(&status, *kind));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(heard) {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        let number = kind.as_raw_value() as u8;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // A full channel has heard enough; a closed one has ended.
                let _ = sender.try_send(number);
            }
        });
    }
    Ok(receiver)
}

/// Whether a process with this status ignores a signal. Source: proc_pid_status(5), `SigIgn`.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (kind.as_raw_value() - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_set_is_ignored() {
        let status = "SigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n";
        let all = [SignalKind::hangup(), SignalKind::quit(), SignalKind::interrupt()];
        assert_eq!(all.map(|kind| ignores(status, kind)), [true, false, false]);
        assert_eq!(all.map(|kind| ignores("", kind)), [false; 3]);
    }
}
