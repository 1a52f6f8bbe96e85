//! Models that answer to one name, in the order in which a call asks them. One that did not answer is passed by for a while
//! where another stands in its place: every call of the run knows, and one says so.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::catalog::Endpoint;
use super::told::Call;
use super::{AskError, Broker};
use crate::clock::Clock;
use crate::event::RunEvent;
use crate::model::Delta;
use crate::model::health::{Health, Way};

/// The longest wait for a model in whose place another stands.
const WAIT_BESIDE_OTHERS_MAX: Duration = Duration::from_secs(10);

/// How often one model is asked by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As often as makes sense.
    Full,
    /// Twice: another stands in its place.
    Twice,
    /// Once.
    Once,
}

/// One call looks at one model of a row. Dropped without a word, it found out nothing.
#[derive(Debug)]
pub struct Look<'a> {
    /// `None` for a model that has none in its place.
    health: Option<&'a Mutex<Health>>,
    place: String,
    /// How it was let in.
    way: Way,
    /// How often it asks.
    pub patience: Patience,
}

impl Patience {
    /// Tries of one call; `None` for no bound of its own.
    pub fn tries_max(self) -> Option<u32> {
        match self {
            Patience::Full => None,
            Patience::Twice => Some(2),
            Patience::Once => Some(1),
        }
    }

    /// Whether a call waits that long for a model: not where another stands in its place.
    pub fn waits_for(self, wait: Duration) -> bool {
        self == Patience::Full || wait <= WAIT_BESIDE_OTHERS_MAX
    }
}

impl Broker {
    /// In which order a call asks these: first those against which nothing is known, each but the last of them twice; the
    /// others once each, where none of the first answers.
    pub(super) fn row(&self, chain: Vec<Endpoint>) -> Vec<(Endpoint, Patience)> {
        let (health, now_ms) = (lock(&self.health), self.now_ms());
        let (open, down): (Vec<_>, Vec<_>) =
            chain.into_iter().partition(|endpoint| health.is_open(&place(endpoint), now_ms));
        let last = if open.is_empty() { Patience::Full } else { Patience::Once };
        let down = down.into_iter().map(|endpoint| (endpoint, last));
        let last = open.len().saturating_sub(1);
        let patience = |at| if at < last { Patience::Twice } else { Patience::Full };
        open.into_iter().enumerate().map(|(at, endpoint)| (endpoint, patience(at))).chain(down).collect()
    }

    /// Looks at the model at a place of a row.
    pub(super) fn look(&self, row: &[(Endpoint, Patience)], at: usize) -> Look<'_> {
        let (endpoint, patience) = &row[at];
        let place = place(endpoint);
        if row.len() == 1 {
            return Look { health: None, place, way: Way::Free, patience: *patience };
        }
        let way = lock(&self.health).way(&place, self.now_ms());
        let patience = if way == Way::Probe { Patience::Once } else { *patience };
        Look { health: Some(&self.health), place, way, patience }
    }

    /// Notes what came of it, and says so where that is news.
    pub(super) fn looked(
        &self,
        look: Look<'_>,
        (row, at): (&[(Endpoint, Patience)], usize),
        error: Option<&AskError>,
        call: &Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) {
        let Some(health) = look.health else { return };
        let failure = match error {
            None => return lock(health).answered(&look.place),
            Some(AskError::Refused { failure, .. }) => failure,
            Some(_) => return,
        };
        let now_ms = self.now_ms();
        let went_down = lock(health).failed(&look.place, look.way, failure.class, now_ms);
        let (Some(until_ms), Some((instead, _))) = (went_down, row.get(at + 1)) else { return };
        let model = row[at].0.name.clone();
        let until_ms = Clock::system().now_ms().saturating_add(until_ms.saturating_sub(now_ms));
        news(Delta::Said(format!("{model} is down, the next is {}", instead.name)));
        call.note(RunEvent::ModelDown {
            model,
            instead: instead.name.clone(),
            until_ms,
            why: self.keys.strike(&failure.message),
        });
    }

    /// Milliseconds since the broker was made.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        if let Some(health) = self.health.filter(|_| self.way == Way::Probe) {
            lock(health).unprobed(&self.place);
        }
    }
}

/// What tells models apart that have one name at two places.
fn place(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.base_url, endpoint.name)
}

fn lock(health: &Mutex<Health>) -> std::sync::MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}
