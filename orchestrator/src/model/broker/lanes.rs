//! The way to each provider, shared by all workers of a run: whoever wants to call waits here until the [`Governor`] lets it
//! go, in the order of asking.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::event::WaitReason;
use crate::model::failure::Class;
use crate::model::governor::{Admission, Ended, Governor};

/// A wait that is told: a shorter one is over before anybody has read of it.
pub const TOLD_MIN: Duration = Duration::from_secs(5);

/// Hears how long a call waits at most, and why.
pub type Waits<'a> = dyn FnMut(Duration, WaitReason) + Send + 'a;

/// The ways to all providers, by where their APIs are.
#[derive(Debug)]
pub struct Lanes {
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
    began: Instant,
}

#[derive(Debug, Default)]
struct Lane {
    governor: Mutex<Governor>,
    /// The one that is next.
    turn: tokio::sync::Mutex<()>,
    /// A call ended.
    ended: Notify,
    /// Before when no call goes, and why: also those hear it that are not next.
    closed: watch::Sender<(u64, WaitReason)>,
}

/// One call that was let go. Dropping it without a word says that it was given up.
#[derive(Debug)]
pub struct Pass {
    lane: Arc<Lane>,
    began: Instant,
    tokens: u64,
    told: bool,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes { lanes: Mutex::default(), began: Instant::now() }
    }
}

impl Lanes {
    /// Waits for the way to `place` to be free for a call of so many tokens, roughly. `waits` hears of each moment that it has
    /// to wait for, where that is not near.
    pub async fn enter(&self, place: &str, tokens: u64, waits: &mut Waits<'_>) -> Pass {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(place.to_owned()).or_default())
        };
        let mut told = Told { until_ms: 0, began: self.began, waits };
        let turn = {
            let (mut closed, mut turn) = (lane.closed.subscribe(), pin!(lane.turn.lock()));
            loop {
                tokio::select! {
                    biased;
                    turn = &mut turn => break turn,
                    () = told.hear(&mut closed) => {}
                }
            }
        };
        loop {
            // Listening begins before asking: an end between both is heard.
            let ended = lane.ended.notified();
            let now_ms = millis(self.began);
            let admission = lane.governor.lock().unwrap_or_else(PoisonError::into_inner).admit(tokens, now_ms);
            match admission {
                Admission::Go => break,
                Admission::NotBefore(at_ms) => {
                    told.tell(at_ms, lane.closed.borrow().1);
                    tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms).max(1))).await;
                }
                Admission::Full => ended.await,
                Admission::Low(at_ms) => {
                    told.tell(at_ms, WaitReason::RateLimit);
                    // A call that takes long does not stand in the way of what is there again before it ends.
                    drop(timeout(Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)), ended).await);
                }
            }
        }
        drop(turn);
        Pass { lane, began: self.began, tokens, told: false }
    }
}

/// What one call heard of how long it waits.
struct Told<'a, 'w> {
    until_ms: u64,
    began: Instant,
    waits: &'a mut Waits<'w>,
}

impl Told<'_, '_> {
    /// Hears until when nobody goes, now and whenever that changes.
    async fn hear(&mut self, closed: &mut watch::Receiver<(u64, WaitReason)>) {
        let (until_ms, why) = *closed.borrow_and_update();
        self.tell(until_ms, why);
        if closed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn tell(&mut self, until_ms: u64, why: WaitReason) {
        let wait = Duration::from_millis(until_ms.saturating_sub(millis(self.began)));
        if until_ms > self.until_ms && wait >= TOLD_MIN {
            self.until_ms = until_ms;
            (self.waits)(wait, why);
        }
    }
}

impl Pass {
    /// Says how the call ended, as far as the provider's limits go. `spread` is uniformly random in `0.0..1.0`.
    pub fn ended(mut self, how: Ended, spread: f64) {
        self.tell(how, spread);
    }

    fn tell(&mut self, how: Ended, spread: f64) {
        self.told = true;
        let closed = {
            let mut governor = self.lane.governor.lock().unwrap_or_else(PoisonError::into_inner);
            governor.ended(how, self.tokens, millis(self.began), spread);
            governor.closed()
        };
        self.lane.closed.send_if_modified(|known| std::mem::replace(known, closed) != closed);
        self.lane.ended.notify_one();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Ended::Refused(Class::Invalid), 0.5);
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_there_again_is_not_waited_for_behind_a_long_call() {
        use crate::model::governor::Allowance;
        let lanes = Lanes::default();
        let low = Allowance { requests: None, tokens: Some(5), resets_in_ms: Some(30) };
        lanes.enter("https://a", 1, &mut |_, _| ()).await.ended(Ended::Answered(low), 0.5);
        let long = lanes.enter("https://a", 5, &mut |_, _| ()).await;
        assert!(
            timeout(Duration::from_secs(60), lanes.enter("https://a", 5, &mut |_, _| ())).await.is_ok(),
            "the other never ends"
        );
        drop(long);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn whoever_waits_hears_until_when_and_a_moment_is_not_told() {
        let lanes = Arc::new(Lanes::default());
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let enter = |name: &'static str| {
            let (lanes, said) = (Arc::clone(&lanes), said.clone());
            tokio::spawn(async move {
                let mut waits = |wait: Duration, why| said.send((name, wait.as_secs(), why)).unwrap();
                lanes.enter("https://a", 1, &mut waits).await.ended(Ended::Refused(Class::Invalid), 0.5);
            })
        };
        let refused = |wait| Ended::Refused(Class::Overloaded { wait: Some(Duration::from_millis(wait)) });
        let pass = lanes.enter("https://a", 1, &mut |_, _| panic!("nothing is known of it")).await;
        pass.ended(refused(20), 0.5);
        enter("short").await.unwrap();
        let pass = lanes.enter("https://a", 1, &mut |_, _| ()).await;
        pass.ended(refused(300_400), 0.5);
        let both = [enter("first"), enter("second")];
        let mut told = [heard.recv().await.unwrap(), heard.recv().await.unwrap()];
        told.sort_by_key(|(name, ..)| *name);
        assert_eq!(told, [("first", 300, WaitReason::Overloaded), ("second", 300, WaitReason::Overloaded)]);
        both.iter().for_each(|one| one.abort());
        assert!(heard.try_recv().is_err(), "each is told once");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nobody_is_forgotten_and_never_are_too_many_under_way() {
        let (lanes, most) = (Arc::new(Lanes::default()), Arc::new(Mutex::new((0, 0))));
        let slow = Ended::Refused(Class::RateLimited { wait: Some(Duration::from_millis(1)) });
        lanes.enter("https://a", 1, &mut |_, _| ()).await.ended(slow, 0.5);
        let calls: Vec<_> = (0..9)
            .map(|_| {
                let (lanes, most) = (Arc::clone(&lanes), Arc::clone(&most));
                tokio::spawn(async move {
                    let pass = lanes.enter("https://a", 1, &mut |_, _| ()).await;
                    {
                        let mut most = most.lock().unwrap();
                        *most = (most.0 + 1, most.1.max(most.0 + 1));
                    }
                    tokio::task::yield_now().await;
                    most.lock().unwrap().0 -= 1;
                    drop(pass);
                })
            })
            .collect();
        drop(lanes.enter("https://b", 1, &mut |_, _| ()).await);
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(*most.lock().unwrap(), (0, 2), "four at once were halved by the refusal");
    }
}
