//! How many calls go to one provider at a time, as a pure value shared by all workers: one refusal slows everybody down, so
//! that a burst never ends a run. The caller has the clock, in milliseconds from anywhere, and the randomness.

use std::time::Duration;

use super::failure::Class;
use crate::event::WaitReason;

/// Calls at once, at the beginning.
const AT_ONCE_FIRST: f64 = 4.0;
/// Calls at once, at most.
const AT_ONCE_MAX: f64 = 64.0;
/// The first wait behind a refusal that names none.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// The longest wait behind refusals that name none.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Tries of one call.
pub const TRIES_MAX: u32 = 8;

/// How often a host that has no address is looked up for one call: a mistyped name is said after some seconds, and a
/// network that only just comes up has those.
const TRIES_NAMELESS_MAX: u32 = 5;

/// What a provider says of its own limits, with any answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests that are left.
    pub requests: Option<u64>,
    /// Tokens that are left.
    pub tokens: Option<u64>,
    /// When there are more again, in milliseconds from now.
    pub resets_in_ms: Option<u64>,
}

/// Whether a call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may, and is counted until [`Governor::ended`].
    Go,
    /// Not before this time.
    NotBefore(u64),
    /// Not before another call ended.
    Full,
    /// Too little is left at the provider: not before another call ended, or this time, whichever comes first.
    Low(u64),
}

/// How a call ended, as far as the provider's limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Answered(Allowance),
    /// With a refusal.
    Refused(Class),
}

/// The calls to one provider.
#[derive(Debug)]
pub struct Governor {
    at_once: f64,
    running: u32,
    /// No call goes before.
    closed_until_ms: u64,
    closed_by: WaitReason,
    refusals: u32,
    /// Tokens of the calls that are running, roughly.
    running_tokens: u64,
    bucket: Bucket,
}

/// What the provider said is left, less what was let go since.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    requests: Option<u64>,
    tokens: Option<u64>,
    /// When it is full again; nothing is known from then on.
    full_at_ms: u64,
}

impl Bucket {
    fn holds(&self, tokens: u64, now_ms: u64) -> bool {
        now_ms >= self.full_at_ms || (self.requests != Some(0) && self.tokens.is_none_or(|left| tokens <= left))
    }

    fn take(&mut self, tokens: u64) {
        self.requests = self.requests.map(|left| left.saturating_sub(1));
        self.tokens = self.tokens.map(|left| left.saturating_sub(tokens));
    }
}

impl Default for Governor {
    fn default() -> Self {
        Governor {
            at_once: AT_ONCE_FIRST,
            running: 0,
            closed_until_ms: 0,
            closed_by: WaitReason::default(),
            refusals: 0,
            running_tokens: 0,
            bucket: Bucket::default(),
        }
    }
}

impl Governor {
    /// Asks for one call of so many tokens, roughly. A call that would be alone goes whatever the provider said is left: what is
    /// known of its tokens is a guess, and a refusal says how long to wait.
    pub fn admit(&mut self, tokens: u64, now_ms: u64) -> Admission {
        if now_ms < self.closed_until_ms {
            return Admission::NotBefore(self.closed_until_ms);
        }
        if f64::from(self.running) >= self.at_once.floor() {
            return Admission::Full;
        }
        if self.running > 0 && !self.bucket.holds(tokens, now_ms) {
            return Admission::Low(self.bucket.full_at_ms);
        }
        self.running += 1;
        self.running_tokens = self.running_tokens.saturating_add(tokens);
        self.bucket.take(tokens);
        Admission::Go
    }

    /// A call that was let go with so many tokens ended. `spread` is uniformly random in `0.0..1.0`.
    pub fn ended(&mut self, how: Ended, tokens: u64, now_ms: u64, spread: f64) {
        self.running = self.running.saturating_sub(1);
        self.running_tokens = self.running_tokens.saturating_sub(tokens);
        match how {
            Ended::Answered(allowance) => {
                self.refusals = 0;
                self.at_once = (self.at_once + 1.0 / self.at_once).min(AT_ONCE_MAX);
                self.fill(allowance, now_ms);
                let spent = allowance.requests == Some(0) || allowance.tokens == Some(0);
                if let (true, Some(wait)) = (spent, allowance.resets_in_ms) {
                    self.close(now_ms, Duration::from_millis(wait), WaitReason::RateLimit);
                }
            }
            Ended::Refused(class @ (Class::RateLimited { wait } | Class::Overloaded { wait })) => {
                self.refusals += 1;
                self.at_once = (self.at_once / 2.0).max(1.0);
                self.close(now_ms, wait.unwrap_or_else(|| backoff(self.refusals, spread)), class.waits_for());
            }
            Ended::Refused(_) => {}
        }
    }

    /// The provider's word does not know of the calls that are under way.
    fn fill(&mut self, allowance: Allowance, now_ms: u64) {
        let Some(resets_in_ms) = allowance.resets_in_ms else { return };
        self.bucket = Bucket {
            requests: allowance.requests.map(|left| left.saturating_sub(self.running.into())),
            tokens: allowance.tokens.map(|left| left.saturating_sub(self.running_tokens)),
            full_at_ms: now_ms.saturating_add(resets_in_ms),
        };
    }

    fn close(&mut self, now_ms: u64, wait: Duration, why: WaitReason) {
        let wait = u64::try_from(wait.min(super::failure::WAIT_MAX).as_millis()).unwrap_or(u64::MAX);
        let until_ms = now_ms.saturating_add(wait);
        if until_ms > self.closed_until_ms {
            (self.closed_until_ms, self.closed_by) = (until_ms, why);
        }
    }

    /// Before when no call goes, and why.
    pub fn closed(&self) -> (u64, WaitReason) {
        (self.closed_until_ms, self.closed_by)
    }
}

/// How long one call waits before its next try; `None` when it is not tried again. `tries` counts those made, from 1.
pub fn retry_in(class: Class, tries: u32, spread: f64) -> Option<Duration> {
    let named = class.retry()?;
    let tries_max = if class == Class::Nameless { TRIES_NAMELESS_MAX } else { TRIES_MAX };
    (tries < tries_max).then(|| named.unwrap_or_else(|| backoff(tries, spread)))
}

/// Doubles with each time, between half and whole of that.
fn backoff(times: u32, spread: f64) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1 << times.saturating_sub(1).min(16)).min(WAIT_MAX);
    doubled.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Ended = Ended::Refused(Class::RateLimited { wait: Some(Duration::from_secs(7)) });
    const FINE: Ended = Ended::Answered(Allowance { requests: None, tokens: None, resets_in_ms: None });

    #[test]
    fn one_refusal_closes_the_way_for_all() {
        let mut governor = Governor::default();
        assert_eq!(governor.admit(0, 0), Admission::Go);
        governor.ended(SLOW, 0, 1000, 0.5);
        assert_eq!(governor.admit(0, 1001), Admission::NotBefore(8000));
        assert_eq!(governor.admit(0, 8000), Admission::Go);
    }

    #[test]
    fn calls_at_once_halve_with_a_refusal_and_grow_with_answers() {
        let mut governor = Governor::default();
        let at_once = |governor: &mut Governor| {
            let n = (0..100).take_while(|_| governor.admit(0, 1 << 40) == Admission::Go).count();
            (0..n).for_each(|_| governor.running -= 1);
            n
        };
        assert_eq!(at_once(&mut governor), 4);
        governor.admit(0, 0);
        governor.ended(SLOW, 0, 0, 0.5);
        assert_eq!(at_once(&mut governor), 2);
        for _ in 0..40 {
            governor.admit(0, 1 << 40);
            governor.ended(FINE, 0, 1 << 40, 0.5);
        }
        assert!(at_once(&mut governor) > 6);
    }

    #[test]
    fn an_allowance_that_is_spent_waits_for_its_reset() {
        let mut governor = Governor::default();
        governor.admit(0, 0);
        let spent = Allowance { requests: Some(0), tokens: Some(9), resets_in_ms: Some(500) };
        governor.ended(Ended::Answered(spent), 0, 100, 0.0);
        assert_eq!(governor.admit(0, 200), Admission::NotBefore(600));
    }

    #[test]
    fn what_the_provider_says_is_left_is_shared() {
        let mut governor = Governor::default();
        governor.admit(10, 0);
        let left = Allowance { requests: Some(9), tokens: Some(100), resets_in_ms: Some(500) };
        governor.ended(Ended::Answered(left), 10, 0, 0.0);
        assert_eq!((governor.admit(60, 1), governor.admit(60, 2)), (Admission::Go, Admission::Low(500)));
        assert_eq!(governor.admit(40, 3), Admission::Go);
        assert_eq!(governor.admit(60, 500), Admission::Go, "it is full again");
    }

    #[test]
    fn what_is_of_no_use_is_not_tried_again() {
        assert_eq!(retry_in(Class::Key, 1, 0.5), None);
        assert_eq!(retry_in(Class::Transient { wait: None }, TRIES_MAX, 0.5), None);
        assert!(retry_in(Class::Nameless, 4, 0.5).is_some() && retry_in(Class::Nameless, 5, 0.5).is_none());
        assert_eq!(retry_in(Class::Overloaded { wait: None }, 1, 1.0), Some(WAIT_FIRST));
    }

    proptest! {
        #[test]
        fn there_is_always_a_way_on_and_never_too_many(steps in proptest::collection::vec(0u8..4, 1..200)) {
            let (mut governor, mut running, mut now) = (Governor::default(), 0u32, 0u64);
            for step in steps {
                now += 50;
                match step {
                    0 | 1 => match governor.admit(0, now) {
                        Admission::Go => running += 1,
                        Admission::NotBefore(at) => { prop_assert!(at > now); now = at; }
                        Admission::Full => prop_assert!(running > 0),
                        Admission::Low(at) => { prop_assert!(running > 0 && at > now); now = at; }
                    },
                    2 if running > 0 => { governor.ended(FINE, 0, now, 0.3); running -= 1; }
                    3 if running > 0 => { governor.ended(SLOW, 0, now, 0.3); running -= 1; }
                    _ => {}
                }
                prop_assert!(f64::from(running) <= AT_ONCE_MAX);
            }
        }
    }
}
