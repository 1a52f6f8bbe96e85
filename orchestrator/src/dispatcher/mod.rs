//! The loop that owns all run state. Inputs go into [`core::RunCore`], which decides; its events go to the journal and,
//! once they are durable, to the reporter; its actions are carried out.
//!
//! Work may start while the event that says so is on its way to the disk: a coordinator that dies takes its workers along,
//! so nothing is lost by that. The target moves only when the intent is durable. Start reading at [`Dispatcher::run`].

/// Whether the machine still works.
mod breaker;
/// The decisions; pure.
pub mod core;
/// The target's gate; pure.
mod gate;
/// What waits for all others; pure.
mod held;
/// What a journal says of a run.
pub mod history;
/// What is kept of an instance that has ended.
mod kept;
/// What is tried with a change that did not land; pure.
mod ladder;
/// The target half of the decisions; pure.
mod landing;
/// What the core hears and wants done.
pub mod messages;
/// What needs hand on.
mod needs;
/// What a batch comes to; pure.
mod settlement;
/// Runs told by hand: inputs in, results out.
#[cfg(test)]
mod stories;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use self::core::{Action, AttemptDone, Input, NoItems, NotFolded, Reach, RunCore, StopCause, TargetMove, VerifyDone};
use crate::clock::Clock;
use crate::event::{AttemptEnd, Progress, Recorded, RunEvent};
use crate::executor::Executor;
use crate::journal::{JournalError, RunWriter};
use crate::model::broker::told::News;
use crate::report::Reports;
use crate::settings::GRACE_MS;
use crate::threads;
use crate::worker_process::Permit;

pub use kept::Outputs;
pub use needs::NeedsView;

/// How often reporters may redraw.
const TICK: Duration = Duration::from_millis(100);

/// Inputs that wait at most; senders wait beyond that.
const INPUTS_MAX: usize = 4096;

/// What is said where a part of ours panicked.
const BUG: &str = "the coordinator failed; this is a bug";

/// How long a run may take to end that a person ended with so many signals, or in which a part of ours panicked. Whatever it
/// waits for then, be it a fold or a move of the target, it ends as by `kill -9`: the core that is returned is not done, what
/// was announced stays, and whoever goes on finds out what became of it.
fn patience(interrupts: u32) -> Duration {
    match interrupts {
        0 | 1 => Duration::from_secs(300),
        2 => Duration::from_secs(30),
        _ => Duration::ZERO,
    }
}

/// Everything the loop works with.
pub struct Dispatcher<'a> {
    /// The decisions.
    pub core: RunCore,
    /// Where events become durable.
    pub journal: &'a RunWriter,
    /// Who hears of them.
    pub reports: &'a mut Reports,
    /// Who does the work.
    pub executor: Arc<Executor>,
    /// Where time comes from.
    pub clock: Clock,
    /// Tells running work to end.
    pub permit: watch::Sender<Permit>,
    /// Tells running verifications to end.
    pub verify_permit: watch::Sender<Permit>,
    /// What running work prints.
    pub progress: mpsc::Receiver<Progress>,
    /// What the model broker has to tell.
    pub calls: mpsc::UnboundedReceiver<News>,
    /// Signals of a person by their numbers, one message each.
    pub interrupts: mpsc::Receiver<u8>,
    /// When the run has to end.
    pub deadline: Option<tokio::time::Instant>,
}

type Stored = oneshot::Receiver<Result<Vec<Recorded>, JournalError>>;

/// A batch on its way to the disk, and what may be done only behind it.
struct InFlight {
    stored: Stored,
    then: Vec<Action>,
    /// Who waits for it.
    told: Option<oneshot::Sender<()>>,
}

impl Dispatcher<'_> {
    /// Runs to the end, or until nobody has the patience for that. Returns the core, which knows the verdict and whether it is
    /// done.
    ///
    /// # Errors
    /// [`JournalError`] when events cannot be stored: nothing more is started or moved, running work is killed, and what
    /// was announced stays true.
    pub async fn run(mut self) -> Result<RunCore, JournalError> {
        let (sender, mut inputs) = mpsc::channel(INPUTS_MAX);
        let mut in_flight: VecDeque<InFlight> = VecDeque::new();
        let mut tick = tokio::time::interval(TICK);
        let mut interrupts = 0u32;
        // When it ends whatever it still waits for.
        let mut last = None;
        self.core.pump();
        loop {
            while let Ok(news) = self.calls.try_recv() {
                self.hear(news, &mut in_flight);
            }
            self.carry_out(&sender, &mut in_flight);
            if self.core.is_done() && in_flight.is_empty() {
                return Ok(self.core);
            }
            tokio::select! {
                // A person first, then what is durable: a flood of ends never keeps a signal waiting.
                biased;
                Some(signal) = self.interrupts.recv() => {
                    self.core.handle(Input::Stop(StopCause::of_signal(signal, interrupts)), random());
                    interrupts += 1;
                    last = Some(tokio::time::Instant::now() + patience(interrupts));
                    if interrupts == 1 {
                        let grace_s = GRACE_MS / 1000;
                        let phase = format!("interrupted: what runs has {grace_s} s to end; once more ends it at once");
                        self.reports.progress(&Progress::Phase { instance: None, phase });
                    }
                }
                () = over(last) => {
                    let phase = "what still runs does not end: the run ends without it".to_owned();
                    self.reports.progress(&Progress::Phase { instance: None, phase });
                    return Ok(self.core);
                }
                () = threads::panicked() => {
                    self.core.handle(Input::Stop(StopCause::Bug), random());
                    last = last.or(Some(tokio::time::Instant::now() + patience(interrupts)));
                }
                recorded = front(&mut in_flight) => {
                    let batch = in_flight.pop_front().expect("BUG: it was just waited for");
                    for recorded in &recorded? {
                        self.reports.event(recorded);
                    }
                    batch.then.into_iter().for_each(|action| self.act(action, &sender));
                    if let Some(told) = batch.told {
                        // Who asked may have gone away meanwhile.
                        let _ = told.send(());
                    }
                }
                Some(news) = self.calls.recv() => self.hear(news, &mut in_flight),
                Some(input) = inputs.recv() => {
                    self.core.handle(input, random());
                    while let Ok(input) = inputs.try_recv() {
                        self.core.handle(input, random());
                    }
                }
                () = over(self.deadline) => {
                    self.deadline = None;
                    self.core.handle(Input::Stop(StopCause::Deadline), random());
                }
                Some(progress) = self.progress.recv() => self.reports.progress(&progress),
                _ = tick.tick() => self.reports.tick(self.clock.now_ms()),
            }
        }
    }

    /// What the model broker tells: calls go to the journal as they are.
    fn hear(&mut self, news: News, in_flight: &mut VecDeque<InFlight>) {
        match news {
            News::Sends(event, told) | News::Called(event, told) => {
                let stored = self.journal.append_async(self.clock.now_ms(), vec![*event]);
                in_flight.push_back(InFlight { stored, then: vec![], told: Some(told) });
            }
            News::Noted(event) => {
                let stored = self.journal.append_async(self.clock.now_ms(), vec![*event]);
                in_flight.push_back(InFlight { stored, then: vec![], told: None });
            }
            News::RunBudgetSpent(why) => {
                let (_, ended) = self.core.ending();
                self.core.handle(Input::Stop(StopCause::Budget), random());
                if ended.is_none() {
                    let phase = format!("the run's budget is spent: {why}");
                    self.reports.progress(&Progress::Phase { instance: None, phase });
                }
            }
        }
    }

    /// Hands events to the journal and does what may be done before they are durable.
    fn carry_out(&mut self, sender: &mpsc::Sender<Input>, in_flight: &mut VecDeque<InFlight>) {
        let (events, actions) = self.core.take();
        let (behind, now): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(|action| matches!(action, Action::MoveTarget { .. }));
        now.into_iter().for_each(|action| self.act(action, sender));
        if !behind.is_empty() && !events.iter().any(|event| matches!(event, RunEvent::Landing { .. })) {
            unreachable!("BUG: the target is to move, and no event says so");
        }
        if !events.is_empty() {
            let stored = self.journal.append_async(self.clock.now_ms(), events);
            in_flight.push_back(InFlight { stored, then: behind, told: None });
        }
    }

    fn act(&self, action: Action, sender: &mpsc::Sender<Input>) {
        let executor = Arc::clone(&self.executor);
        let sender = sender.clone();
        match action {
            Action::Attempt(job) => {
                let instance = job.instance;
                let detail = "the coordinator failed while it ran; this is a bug".to_owned();
                let lost = AttemptDone::bare(AttemptEnd::Infra { detail });
                let answer = Answer::new(sender, Input::Attempt(instance, Box::new(lost)));
                tokio::spawn(async move {
                    let done = executor.attempt(*job).await;
                    answer.give(Input::Attempt(instance, Box::new(done))).await;
                });
            }
            Action::Reuse(jobs) => {
                // Whatever goes wrong, what was not found runs.
                let none = jobs.iter().map(|job| (job.instance, None)).collect();
                let answer = Answer::new(sender, Input::Reused(none));
                tokio::spawn(async move { answer.give(Input::Reused(executor.reuse(jobs).await)).await });
            }
            Action::Items { task, command } => {
                let bug = "the coordinator failed while it looked; this is a bug".to_owned();
                let lost = Input::Items(task, Err(NoItems::Machine(bug)));
                let answer = Answer::new(sender, lost);
                tokio::spawn(async move { answer.give(Input::Items(task, executor.items(task, command).await)).await });
            }
            Action::RetryIn { instance, delay_ms } => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                    let _ = sender.send(Input::RetryDue(instance)).await;
                });
            }
            Action::Fold { batch, onto, landed } => {
                let answer = Answer::new(sender, Input::Folded(Err(NotFolded::Failed(BUG.to_owned()))));
                tokio::spawn(async move {
                    let folded = executor.fold(batch, onto, landed).await;
                    answer.give(Input::Folded(folded)).await;
                });
            }
            Action::Verify(verification) => {
                let number = verification.number;
                let lost = VerifyDone::broken(verification.of.clone(), BUG.to_owned());
                let answer = Answer::new(sender, Input::Verified(number, Box::new(lost)));
                tokio::spawn(async move {
                    let done = executor.verify(verification).await;
                    answer.give(Input::Verified(number, Box::new(done))).await;
                });
            }
            Action::MoveTarget { from, to } => {
                // Where it did move, whoever goes on with the run sees that.
                let answer = Answer::new(sender, Input::Moved(TargetMove::Refused(BUG.to_owned())));
                tokio::spawn(async move {
                    let moved = executor.move_target(from, to).await;
                    answer.give(Input::Moved(moved)).await;
                });
            }
            Action::CancelAll { grace_ms, reach } => {
                self.permit.send_replace(Permit::Cancel { grace_ms });
                if reach == Reach::Everything {
                    self.verify_permit.send_replace(Permit::Cancel { grace_ms });
                }
            }
        }
    }
}

/// An answer that is owed: given once, or the one prepared for the worst when the work panics.
struct Answer {
    sender: mpsc::Sender<Input>,
    worst: Option<Input>,
}

impl Answer {
    fn new(sender: mpsc::Sender<Input>, worst: Input) -> Self {
        Answer { sender, worst: Some(worst) }
    }

    async fn give(mut self, input: Input) {
        self.worst = None;
        // The receiver is gone only when the run has failed already.
        let _ = self.sender.send(input).await;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(worst) = self.worst.take() else { return };
        if let Err(TrySendError::Full(worst)) = self.sender.try_send(worst)
            && let Ok(event_loop) = Handle::try_current()
        {
            let sender = self.sender.clone();
            event_loop.spawn(async move { drop(sender.send(worst).await) });
        }
    }
}

/// The oldest batch, once it is durable; never when there is none.
async fn front(in_flight: &mut VecDeque<InFlight>) -> Result<Vec<Recorded>, JournalError> {
    match in_flight.front_mut() {
        Some(batch) => (&mut batch.stored).await.unwrap_or(Err(JournalError::Stopped)),
        None => std::future::pending().await,
    }
}

/// Waits until the deadline is over; for ever when there is none.
pub async fn over(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Uniform in `0.0..1.0`, for jitter only: the hash of a fresh random state is random enough to spread retries.
pub(crate) fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_owed_comes_behind_all_that_waits() {
        let (sender, mut inputs) = mpsc::channel(1);
        sender.try_send(Input::Moved(core::TargetMove::Done)).expect("room");
        drop(Answer::new(sender, Input::Reused(vec![])));
        assert!(matches!(inputs.recv().await, Some(Input::Moved(_))));
        assert!(matches!(inputs.recv().await, Some(Input::Reused(_))));
    }

    #[tokio::test]
    async fn an_answer_that_is_owed_comes_even_when_the_work_panics() {
        let (sender, mut inputs) = mpsc::channel(1);
        let answer = Answer::new(sender.clone(), Input::Reused(vec![]));
        let work = tokio::spawn(async move {
            let _owed = answer;
            panic!("as it should");
        });
        assert!(work.await.is_err_and(|end| end.is_panic()));
        assert!(matches!(inputs.try_recv(), Ok(Input::Reused(none)) if none.is_empty()));
        let answer = Answer::new(sender, Input::Reused(vec![]));
        answer.give(Input::Moved(core::TargetMove::Done)).await;
        assert!(matches!(inputs.try_recv(), Ok(Input::Moved(_))) && inputs.try_recv().is_err(), "it is given once");
    }
}
