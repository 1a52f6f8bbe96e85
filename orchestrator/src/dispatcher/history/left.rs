//! Results of which the repository or the state folder has lost a part while something still needs them. What is gone is made
//! again, unless something else stands in for it.

use std::sync::Arc;

use swarm_plans::InstanceId;

use super::{Became, History, Past};
use crate::event::ChangeSummary;

/// What an instance leaves to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its change.
    Change,
    /// Its artifacts.
    HandedOver,
}

impl Past {
    /// What an instance whose own change is gone gave to others instead, under an earlier coordinator.
    pub fn made_again(&self) -> Option<&Arc<ChangeSummary>> {
        self.made_again.as_ref().filter(|_| self.fate == Some(Became::Landed))
    }
}

impl History {
    /// Says that what an instance left is no longer there.
    pub fn forget(&mut self, id: InstanceId, what: Left) {
        let past = self.past(&id);
        past.forget_tries();
        if what == Left::Change {
            past.change = None;
        }
        self.gone.insert(id);
    }

    /// Lets another change stand for that of an instance, which has landed and is gone.
    pub fn stand_in(&mut self, id: &InstanceId, change: Arc<ChangeSummary>) {
        self.past(id).change = Some(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::AttemptEnd;
    use crate::report::story;

    #[test]
    fn what_landed_stays_and_what_was_made_again_first_is_known() {
        let mut history = History::of(&[story::ended("a", 1, AttemptEnd::Succeeded, 1, 1), story::landed("a")]);
        let past = |history: &History| history.instance(&story::id("a")).cloned().expect("it is named");
        let first = past(&history).change;
        history.hear(&story::ended("a", 2, AttemptEnd::Succeeded, 1, 2));
        let second = past(&history).made_again().cloned();
        history.hear(&story::ended("a", 3, AttemptEnd::Succeeded, 1, 3));
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!((past(&history).change, past(&history).made_again().cloned()), (first, second));
    }
}
