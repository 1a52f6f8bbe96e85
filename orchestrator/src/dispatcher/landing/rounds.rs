//! Rounds of the train: where all that is left to run waits until what has ended is settled, that is settled first.

use super::Landings;
use crate::merge::order::Place;

/// Under whom a round of the train was parted from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatcher) enum Parted {
    /// This coordinator: who waits for the next round starts now.
    Now,
    /// An earlier one.
    Before,
}

impl Landings {
    /// Says that all that can run has ended: it is settled before the rest takes its turn. Returns whether that is news.
    pub(in crate::dispatcher) fn part(&mut self) -> bool {
        let is_news = self.round == self.train.last_round();
        if is_news {
            self.train.part(self.round + 1);
            self.parted = true;
        }
        is_news
    }

    /// Says in which round an instance was that ended under an earlier coordinator.
    pub(in crate::dispatcher) fn was_in(&mut self, place: Place, round: usize) {
        self.train.was_in(place, round);
    }

    /// Says how many rounds earlier coordinators began behind the first: what is open is in the last.
    pub(in crate::dispatcher) fn rounds_before(&mut self, rounds: usize) {
        self.train.part(rounds);
    }

    /// Goes on to the next round, when there is one and all before it is settled. Returns who parted the two; `None` when it stays.
    pub(in crate::dispatcher) fn goes_on(&mut self) -> Option<Parted> {
        if self.round == self.train.last_round() || !self.train.is_through(self.round) || !self.has_settled() {
            return None;
        }
        self.round += 1;
        Some(if std::mem::take(&mut self.parted) { Parted::Now } else { Parted::Before })
    }
}
