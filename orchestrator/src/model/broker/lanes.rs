//! The way to each provider, shared by all workers of a run: whoever wants to call waits here until the [`Governor`] lets it
//! go, in the order of asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::model::failure::Class;
use crate::model::governor::{Admission, Ended, Governor};

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
    /// Waits for the way to `place` to be free for a call of so many tokens, roughly.
    pub async fn enter(&self, place: &str, tokens: u64) -> Pass {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(place.to_owned()).or_default())
        };
        let turn = lane.turn.lock().await;
        loop {
            // Listening begins before asking: an end between both is heard.
            let ended = lane.ended.notified();
            let now_ms = millis(self.began);
            let admission = lane.governor.lock().unwrap_or_else(PoisonError::into_inner).admit(tokens, now_ms);
            match admission {
                Admission::Go => break,
                Admission::NotBefore(at_ms) => {
                    tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms).max(1))).await;
                }
                Admission::Full => ended.await,
                Admission::Low(at_ms) => {
                    // A call that takes long does not stand in the way of what is there again before it ends.
                    drop(timeout(Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)), ended).await);
                }
            }
        }
        drop(turn);
        Pass { lane, began: self.began, tokens, told: false }
    }
}

impl Pass {
    /// Says how the call ended, as far as the provider's limits go. `spread` is uniformly random in `0.0..1.0`.
    pub fn ended(mut self, how: Ended, spread: f64) {
        self.tell(how, spread);
    }

    fn tell(&mut self, how: Ended, spread: f64) {
        self.told = true;
        let mut governor = self.lane.governor.lock().unwrap_or_else(PoisonError::into_inner);
        governor.ended(how, self.tokens, millis(self.began), spread);
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
        lanes.enter("https://a", 1).await.ended(Ended::Answered(low), 0.5);
        let long = lanes.enter("https://a", 5).await;
        assert!(timeout(Duration::from_secs(60), lanes.enter("https://a", 5)).await.is_ok(), "the other never ends");
        drop(long);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nobody_is_forgotten_and_never_are_too_many_under_way() {
        let (lanes, most) = (Arc::new(Lanes::default()), Arc::new(Mutex::new((0, 0))));
        let slow = Ended::Refused(Class::RateLimited { wait: Some(Duration::from_millis(1)) });
        lanes.enter("https://a", 1).await.ended(slow, 0.5);
        let calls: Vec<_> = (0..9)
            .map(|_| {
                let (lanes, most) = (Arc::clone(&lanes), Arc::clone(&most));
                tokio::spawn(async move {
                    let pass = lanes.enter("https://a", 1).await;
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
        drop(lanes.enter("https://b", 1).await);
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(*most.lock().unwrap(), (0, 2), "four at once were halved by the refusal");
    }
}
