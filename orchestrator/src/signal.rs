//! What a person at the keyboard, or a service manager, asks of a run: SIGINT and SIGTERM. The first asks for an orderly
//! end, the second for a quick one; what they mean is decided by the dispatcher.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that wait to be heard; more say nothing new.
const WAITING_MAX: usize = 4;

/// Listens from now on; the numbers of the signals arrive in order. Has to be called inside a runtime.
///
/// # Errors
/// The system's, when handlers cannot be set.
pub fn interrupts() -> std::io::Result<mpsc::Receiver<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
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
