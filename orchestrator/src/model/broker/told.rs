//! What is told of each call, whatever became of it: an answer, a refusal, or a worker that went away in its midst.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swarm_plans::InstanceId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::accounts::{Booked, Priced};
use super::{Caller, Cost, Receipt};
use crate::clock::Clock;
use crate::event::{CallOutcome, ModelWait, RunEvent, WaitReason};
use crate::ids::Attempt;

/// What the loop that owns the run hears.
#[derive(Debug)]
pub enum News {
    /// A call is about to be sent; the sender is told when that is in the journal, and sends it then.
    Sends(Box<RunEvent>, oneshot::Sender<()>),
    /// A call ended; the sender is told when that is in the journal.
    Called(Box<RunEvent>, oneshot::Sender<()>),
    /// Something that nobody waits for to be in the journal.
    Noted(Box<RunEvent>),
    /// The run's budget is spent; why, for people.
    RunBudgetSpent(String),
}

/// How many calls this process has sent.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Nothing can be written down any more.
#[derive(Debug)]
pub struct JournalGone;

/// One call and its tries. Dropped in its midst, it says that it was abandoned.
#[derive(Debug)]
pub struct Call {
    /// From 1, when it is sent.
    number: u64,
    instance: InstanceId,
    attempt: Attempt,
    asked: String,
    model: String,
    tries: u32,
    receipt: Receipt,
    began: Instant,
    news: Option<mpsc::UnboundedSender<News>>,
}

impl Call {
    /// A call of which nothing was tried yet.
    pub fn begin(caller: &Caller, asked: &str, news: &mpsc::UnboundedSender<News>) -> Self {
        Call {
            number: 0,
            instance: caller.instance.clone(),
            attempt: caller.attempt,
            asked: asked.to_owned(),
            model: String::new(),
            tries: 0,
            receipt: Receipt::default(),
            began: Instant::now(),
            news: Some(news.clone()),
        }
    }

    /// It is for this model, as long as none was asked.
    pub fn is_for(&mut self, model: &str) {
        if self.tries == 0 {
            model.clone_into(&mut self.model);
        }
    }

    /// One more try, of this model.
    pub fn tries(&mut self, model: &str) {
        self.tries += 1;
        model.clone_into(&mut self.model);
    }

    /// Where its tries are added up.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// What it cost until now.
    pub fn cost(&self) -> Cost {
        match self.booked() {
            Booked { priced: Priced::All, cost, .. } => Cost::Usd(cost),
            Booked { priced: Priced::NotAll, .. } => Cost::Unpriced,
        }
    }

    /// It is about to be sent, and can cost so much with all that was booked of it until now; waits until that is in the journal.
    ///
    /// # Errors
    /// The journal is gone, and with it the run: nothing is to be sent.
    pub async fn sends(&mut self, at_most: Booked) -> Result<(), JournalGone> {
        let Some(news) = &self.news else { return Err(JournalGone) };
        if self.number == 0 {
            self.number = 1 + CALLS.fetch_add(1, Ordering::Relaxed);
        }
        let (stored, told) = oneshot::channel();
        let event = RunEvent::ModelAsked {
            call: self.number,
            instance: self.instance.clone(),
            attempt: self.attempt,
            asked: self.asked.clone(),
            model: self.model.clone(),
            usage: at_most.usage,
            cost_nano_usd: (at_most.priced == Priced::All).then_some(at_most.cost.0),
            tries: self.tries,
        };
        news.send(News::Sends(Box::new(event), stored)).map_err(|_| JournalGone)?;
        told.await.map_err(|_| JournalGone)
    }

    /// It waits for so long at most, before `model` is asked.
    pub fn waits(&self, model: &str, wait: Duration, reason: WaitReason) -> ModelWait {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let until_ms = Clock::system().now_ms().saturating_add(wait_ms);
        let wait = ModelWait { model: model.to_owned(), until_ms, reason };
        let (instance, attempt) = (self.instance.clone(), self.attempt);
        self.note(RunEvent::ModelWaits { instance, attempt, wait: wait.clone() });
        wait
    }

    /// Says something that nobody waits for. Where the run's end came first, nobody hears it.
    pub fn note(&self, event: RunEvent) {
        if let Some(news) = &self.news {
            drop(news.send(News::Noted(Box::new(event))));
        }
    }

    /// It ended; waits until that is in the journal.
    pub async fn end(mut self, outcome: CallOutcome) {
        if let Some(stored) = self.tell(outcome) {
            // A journal that is gone has said so to the run already.
            drop(stored.await);
        }
    }

    fn booked(&self) -> Booked {
        *self.receipt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&mut self, outcome: CallOutcome) -> Option<oneshot::Receiver<()>> {
        let news = self.news.take()?;
        let (stored, told) = oneshot::channel();
        let Booked { usage, cost, priced, counted } = self.booked();
        let event = RunEvent::ModelCalled {
            call: self.number,
            instance: self.instance.clone(),
            attempt: self.attempt,
            asked: std::mem::take(&mut self.asked),
            model: std::mem::take(&mut self.model),
            usage,
            cost_nano_usd: (priced == Priced::All).then_some(cost.0),
            counted,
            duration_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            tries: self.tries,
            outcome,
        };
        news.send(News::Called(Box::new(event), stored)).ok()?;
        Some(told)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.model.is_empty() {
            // Nobody waits for it.
            drop(self.tell(CallOutcome::Abandoned));
        }
    }
}
