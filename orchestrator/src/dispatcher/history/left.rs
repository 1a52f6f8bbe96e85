//! Results of which the repository or the state folder has lost a part while something still needs them. What is gone is made
//! again, unless something else stands in for it.

use std::sync::Arc;

use serde_json::{Map, Value};
use swarm_plans::InstanceId;

use super::Word;
use super::{Became, History, Past};
use crate::event::{ChangeSummary, Handed};

/// What an instance leaves to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Left {
    /// Its change.
    Change,
    /// Its artifacts.
    HandedOver,
}

/// What becomes of an instance of which others need the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// It left none, or they are there.
    There,
    /// They are to be made again.
    Gone,
    /// Nothing makes them again: a person settled its change, and another try would make another one.
    Missed,
}

impl Past {
    /// What others are given besides its change: outputs by name, and whether files lie beside them.
    pub fn handed_over(&self) -> (Map<String, Value>, Handed) {
        (self.outputs.to_map(), self.handed)
    }

    /// What is to be done about the files that it left, when their folder is there or not.
    pub fn files(&self, has_folder: bool) -> Files {
        match self.handed {
            Handed::Nothing => Files::There,
            _ if has_folder => Files::There,
            // What landed stays, whatever comes out of another try.
            _ if self.word == Word::ByHand && self.fate != Some(Became::Landed) => Files::Missed,
            Handed::Files | Handed::Before | Handed::Unknown => Files::Gone,
        }
    }

    /// What an instance whose own change is gone gave to others instead, under an earlier coordinator.
    pub fn made_again(&self) -> Option<&Arc<ChangeSummary>> {
        self.made_again.as_ref().filter(|_| self.fate == Some(Became::Landed))
    }
}

impl History {
    /// Those of `ids` that another try may come to something else for: an earlier run's result without a change, and one of which
    /// another try on what landed left nothing, have nothing that could take its turn again.
    pub fn with_a_turn(&self, ids: &[InstanceId]) -> Vec<InstanceId> {
        let is_nothing = |past: &Past| past.fate == Some(Became::Empty) && past.change.is_none();
        ids.iter().filter(|id| !self.instance(id).is_some_and(is_nothing)).cloned().collect()
    }

    /// Whether a part of what it left is known to be gone.
    pub fn is_gone(&self, id: &InstanceId) -> bool {
        self.gone.contains(id)
    }

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
    fn files_are_made_again_where_there_were_some_and_nobody_settled_what_would_be_made_with_them() {
        let past = |handed, word, fate| Past { handed, word, fate, ..Past::default() };
        let gone = |handed, word, fate| past(handed, word, fate).files(false);
        assert_eq!(gone(Handed::Nothing, Word::None, None), Files::There);
        assert_eq!(gone(Handed::Files, Word::Again, None), Files::Gone);
        assert_eq!(gone(Handed::Files, Word::ByHand, None), Files::Missed);
        assert_eq!(gone(Handed::Files, Word::ByHand, Some(Became::Landed)), Files::Gone);
        assert_eq!(gone(Handed::Unknown, Word::None, None), Files::Gone, "as journals had it that do not say so");
        assert_eq!(past(Handed::Files, Word::None, None).files(true), Files::There);
    }

    #[test]
    fn what_is_given_on_as_it_landed_is_of_the_try_that_landed() {
        let mut history = History::of(&[story::ended("a", 1, AttemptEnd::Succeeded, 1, 1), story::landed("a")]);
        let gave = |history: &History| history.instance(&story::id("a")).map(|past| past.gave);
        let mut again = |attempt: u32, before: bool| {
            let mut ended = story::ended("a", attempt, AttemptEnd::Succeeded, 1, 2);
            if let crate::event::RunEvent::AttemptFinished { handed, .. } = &mut ended {
                *handed = if before { Handed::Before } else { Handed::Files };
            }
            history.hear(&ended);
            gave(&history)
        };
        assert_eq!((again(2, true), again(3, false)), (Some(1), Some(3)));
    }

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
