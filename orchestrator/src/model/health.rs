//! Which models of a run do not answer, as a pure value shared by all calls: while one is down, those in its place are asked
//! at once, and now and then one call finds out whether it is back. The caller has the clock, in milliseconds from anywhere.

use std::collections::HashMap;
use std::time::Duration;

use super::failure::Class;

/// How long a model is passed by that did not answer, at first; doubles with each call that finds it down again.
const DOWN_FIRST: Duration = Duration::from_secs(60);
/// How long it is passed by at most.
const DOWN_MAX: Duration = Duration::from_secs(600);

/// The models that do not answer, by `provider/model` and place.
#[derive(Debug, Default)]
pub struct Health {
    down: HashMap<String, Down>,
}

/// A model that does not answer.
#[derive(Debug, Clone, Copy)]
struct Down {
    until_ms: u64,
    /// How often it was found down, one time after the other.
    times: u32,
    /// One call is finding out.
    is_probed: bool,
}

/// How a model may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As often as makes sense: nothing is known against it.
    Free,
    /// Once: it did not answer before, and this call finds out whether it does again.
    Probe,
    /// Not at all.
    Closed,
}

impl Health {
    /// Whether a call may begin with a model.
    pub fn is_open(&self, model: &str, now_ms: u64) -> bool {
        self.down.get(model).is_none_or(|down| now_ms >= down.until_ms && !down.is_probed)
    }

    /// How a model may be asked. Whoever gets [`Way::Probe`] says what came of it: [`Health::answered`], [`Health::failed`]
    /// or, where it was asked nothing, [`Health::unprobed`].
    pub fn way(&mut self, model: &str, now_ms: u64) -> Way {
        match self.down.get_mut(model) {
            None => Way::Free,
            Some(down) if now_ms < down.until_ms || down.is_probed => Way::Closed,
            Some(down) => {
                down.is_probed = true;
                Way::Probe
            }
        }
    }

    /// It answers: nothing is known against it any more.
    pub fn answered(&mut self, model: &str) {
        self.down.remove(model);
    }

    /// It does not answer a call that was let in by `way`, after all tries that made sense. Until when it is passed by, where
    /// that is news; `None` where it was known, and where the failure says nothing about other calls. While one call finds out,
    /// its word alone counts: what another was told that began before says nothing of now.
    pub fn failed(&mut self, model: &str, way: Way, class: Class, now_ms: u64) -> Option<u64> {
        if way != Way::Probe && self.down.get(model).is_some_and(|down| down.is_probed) {
            return None;
        }
        let named = match class {
            Class::RateLimited { wait } | Class::Overloaded { wait } | Class::Transient { wait } => wait,
            Class::Nameless | Class::Spent | Class::Key | Class::UnknownModel | Class::Foreign => None,
            Class::TooLong | Class::NotHere | Class::Invalid => {
                self.unprobed(model);
                return None;
            }
        };
        let known = self.down.get(model).copied();
        // Calls that were under way together find out the same.
        if known.is_some_and(|down| now_ms < down.until_ms && !down.is_probed) {
            return None;
        }
        let times = known.map_or(0, |down| down.times);
        let doubled = DOWN_FIRST.saturating_mul(1 << times.min(8));
        let wait = named.map_or(doubled, |named| named.max(DOWN_FIRST)).min(DOWN_MAX);
        let until_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.down.insert(model.to_owned(), Down { until_ms, times: times + 1, is_probed: false });
        known.is_none().then_some(until_ms)
    }

    /// The call that was to find out was not asked: the next one finds out.
    pub fn unprobed(&mut self, model: &str) {
        if let Some(down) = self.down.get_mut(model) {
            down.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Class = Class::Transient { wait: None };

    #[test]
    fn what_is_down_is_passed_by_until_one_call_finds_it_back() {
        let mut health = Health::default();
        assert_eq!(health.way("a", 0), Way::Free);
        assert_eq!(health.failed("a", Way::Free, GONE, 1_000), Some(61_000));
        assert_eq!((health.way("a", 60_999), health.way("b", 60_999)), (Way::Closed, Way::Free));
        assert_eq!((health.way("a", 61_000), health.way("a", 61_000)), (Way::Probe, Way::Closed), "one finds out");
        assert_eq!(health.failed("a", Way::Probe, GONE, 61_000), None, "no news");
        assert_eq!(health.failed("a", Way::Free, GONE, 61_001), None, "of one that was under way");
        assert_eq!((health.way("a", 180_999), health.is_open("a", 180_999)), (Way::Closed, false), "twice as long");
        assert_eq!(health.way("a", 181_000), Way::Probe);
        health.unprobed("a");
        assert_eq!(health.way("a", 181_000), Way::Probe, "it was not asked");
        health.answered("a");
        assert_eq!(health.way("a", 181_000), Way::Free);
        assert_eq!(health.failed("a", Way::Free, GONE, 0), Some(60_000), "it begins anew");
    }

    #[test]
    fn while_one_call_finds_out_no_other_speaks_for_it() {
        let mut health = Health::default();
        health.failed("a", Way::Free, GONE, 0);
        assert_eq!(health.way("a", 60_000), Way::Probe);
        for class in [GONE, Class::TooLong] {
            assert_eq!(health.failed("a", Way::Free, class, 60_001), None, "it began before");
            assert_eq!(health.way("a", 60_001), Way::Closed, "the probe still finds out");
        }
        assert_eq!(health.failed("a", Way::Probe, GONE, 60_002), None);
        assert_eq!((health.way("a", 180_001), health.way("a", 180_002)), (Way::Closed, Way::Probe), "found down twice");
    }

    #[test]
    fn a_wait_that_is_named_holds_and_none_is_for_ever() {
        let mut health = Health::default();
        let named = |secs| Class::Overloaded { wait: Some(Duration::from_secs(secs)) };
        assert_eq!(health.failed("a", Way::Free, named(90), 0), Some(90_000));
        assert_eq!(health.failed("b", Way::Free, named(9_999), 0), Some(600_000));
        for at in (0..40).map(|n| n * 600_000) {
            let way = health.way("c", at);
            assert_ne!(way, Way::Closed);
            health.failed("c", way, GONE, at);
        }
    }

    #[test]
    fn what_is_wrong_with_one_question_says_nothing_of_others() {
        let mut health = Health::default();
        for class in [Class::TooLong, Class::NotHere, Class::Invalid] {
            assert_eq!((health.failed("a", Way::Free, class, 0), health.way("a", 0)), (None, Way::Free), "{class:?}");
        }
        health.failed("a", Way::Free, Class::Key, 0);
        assert_eq!(health.way("a", 60_000), Way::Probe);
        assert_eq!(health.failed("a", Way::Probe, Class::TooLong, 60_000), None);
        assert_eq!(health.way("a", 60_000), Way::Probe, "it answered something: the next one finds out");
    }
}
