//! A thread with a runtime for what speaks over pipes and sockets: foreign tool servers, the web. The agent itself stays
//! plain and blocking; it asks here and waits for so long and no longer.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How much longer than its time a question may take until its answer is here.
const SLACK: Duration = Duration::from_secs(5);

/// The runtime; what runs on it ends with this value.
#[derive(Debug)]
pub struct Background {
    handle: Handle,
    /// Its end is the sign to stop.
    _stop: oneshot::Sender<()>,
}

/// An answer did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of starting a thread and of making a poll descriptor.
    pub fn start() -> io::Result<Background> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
            // What still runs is dropped, not waited for: a name server that hangs must not hold the agent's end.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("agent-io".to_owned()).spawn(run)?;
        Ok(Background { handle, _stop: stop })
    }

    /// Waits for an answer; dropped when it is late.
    ///
    /// # Errors
    /// [`Late`].
    pub fn wait<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Late> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Nobody may be waiting any more.
            let _ = answer.send(tokio::time::timeout(limit, work).await.map_err(|_| Late));
        });
        answered.recv_timeout(limit.saturating_add(SLACK)).unwrap_or(Err(Late))
    }

    /// Where other work can be started.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_and_late_ones_do_not() {
        let background = Background::start().unwrap();
        assert_eq!(background.wait(Duration::from_secs(60), async { 7 }), Ok(7));
        let never = std::future::pending::<()>();
        assert_eq!(background.wait(Duration::from_millis(20), never), Err(Late));
    }
}
