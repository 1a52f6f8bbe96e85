//! Ends what happens before the dispatcher listens (looking at the machine, preparing the base, setup) and when it listens no more:
//! worktrees are removed.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::dispatcher::core::StopCause;
use crate::dispatcher::over;
use crate::settings::GRACE_MS;
use crate::worker_process::Permit;

/// What can end a run, and how running work hears of it.
pub(super) struct Stopping {
    /// Signals of a person by their numbers, one message each.
    pub(super) interrupts: mpsc::Receiver<u8>,
    /// How long the run may take, from when it is said to have begun.
    pub(super) longest: Option<Duration>,
    /// When it has to end; `None` before it has begun, too.
    pub(super) deadline: Option<Instant>,
    /// Tells running work to end.
    pub(super) permit: watch::Sender<Permit>,
}

impl Stopping {
    /// The run begins: what was looked at before, on behalf of its policies, is none of its time.
    pub(super) fn begin(&mut self) {
        self.deadline = self.longest.map(|longest| Instant::now() + longest);
    }

    /// Waits for `work`, and cancels it when a person or the deadline asks for that. It is waited for in any case; the last
    /// cause is returned beside what came of it.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> (T, Option<StopCause>) {
        let mut work = std::pin::pin!(work);
        let (mut stopped, mut signals) = (None, 0);
        let mut deadline = self.deadline;
        loop {
            let cause = tokio::select! {
                done = &mut work => return (done, stopped),
                Some(signal) = self.interrupts.recv() => {
                    signals += 1;
                    StopCause::of_signal(signal, signals - 1)
                }
                () = over(deadline) => {
                    deadline = None;
                    StopCause::Deadline
                }
            };
            if stopped.is_none_or(|before| before < cause) {
                stopped = Some(cause);
                self.permit.send_replace(Permit::Cancel { grace_ms: cause.grace_ms(GRACE_MS) });
            }
        }
    }
}

/// Waits for what need not be done now: a signal, where any are heard, ends the wait, and the work is left behind.
pub(super) async fn unless_signalled<T>(work: impl Future<Output = T>, interrupts: Option<mpsc::Receiver<u8>>) {
    let signalled = async {
        if let Some(mut interrupts) = interrupts
            && interrupts.recv().await.is_some()
        {
            return;
        }
        // There is nobody who could send one.
        std::future::pending().await
    };
    tokio::select! {
        _ = work => {}
        () = signalled => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_counts_from_when_the_run_begins() {
        let (_sender, interrupts) = mpsc::channel(1);
        let (permit, mut permitted) = watch::channel(Permit::Run);
        let mut stopping = Stopping { interrupts, longest: Some(Duration::ZERO), deadline: None, permit };
        let (_, stopped) = stopping.unless_stopped(tokio::task::yield_now()).await;
        assert!(stopped.is_none(), "it has not begun");
        stopping.begin();
        let ended = stopping.unless_stopped(permitted.changed()).await.1;
        assert_eq!(ended, Some(StopCause::Deadline));
    }

    #[tokio::test]
    async fn a_signal_ends_the_wait_for_what_need_not_be_done_now() {
        let (sender, interrupts) = mpsc::channel(1);
        sender.try_send(15).expect("there is room");
        unless_signalled(std::future::pending::<()>(), Some(interrupts)).await;
        drop(sender);
        unless_signalled(std::future::ready(()), None).await;
    }
}
