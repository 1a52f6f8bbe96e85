//! Which result is folded next. Pure: ends come in, steps go out, and their order depends on the plan alone, never on what
//! finished first.
//!
//! The order is topological, then that of the plan, then that of the instances. A result is folded as soon as everything
//! before it is final. A task whose instances are not all known yet holds back what comes after it. Where the rest waits until
//! what has ended is settled, that is a round of its own and leaves first. Whether a result fits is not decided here.

use std::collections::{BTreeMap, BTreeSet};

/// Where a task stands: its depth in the graph (0 has no needs; else one more than its deepest need), then its position in
/// the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskPlace {
    /// Depth in the graph of tasks.
    pub level: u32,
    /// Position in the plan.
    pub task: u32,
}

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its task.
    pub task: TaskPlace,
    /// Position within the task.
    pub instance: u32,
}

/// The end of an instance, as far as merging is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It passed and changed something.
    Change,
    /// It passed and changed nothing.
    Unchanged,
    /// It has no result to merge: failed, blocked, skipped, cancelled.
    Nothing,
}

/// What to do with the next member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Fold its change onto the tip.
    Fold(Place),
    /// It changed nothing.
    Empty(Place),
}

/// The members of a merge train that have not left it yet.
#[derive(Debug)]
pub struct Train {
    /// By rounds, each member with its end, once that is known. All of one round leave in front of those of the next. Invariant:
    /// there is at least one round, and who has no end is in the last.
    rounds: Vec<BTreeMap<Place, Option<End>>>,
    /// Tasks that more instances may join, in the last round.
    open: BTreeSet<TaskPlace>,
    /// The last that left of the last round. Invariant: all members of that round are behind it.
    left: Option<Place>,
}

impl Default for Train {
    fn default() -> Self {
        Train { rounds: vec![BTreeMap::new()], open: BTreeSet::new(), left: None }
    }
}

impl Train {
    /// An empty train.
    pub fn new() -> Train {
        Train::default()
    }

    /// Says that more instances of `task` may join: nothing behind the task leaves before [`Train::close`].
    pub fn open(&mut self, task: TaskPlace) {
        self.open.insert(task);
    }

    /// Says that all instances of `task` have joined.
    pub fn close(&mut self, task: TaskPlace) {
        self.open.remove(&task);
    }

    /// Adds an instance whose end is not known yet.
    ///
    /// # Panics
    /// When something behind `place` has left already: its task should have been open.
    pub fn join(&mut self, place: Place) {
        assert!(self.left.is_none_or(|left| left < place), "BUG: {place:?} joins behind its time");
        let last = self.last_round();
        self.rounds[last].insert(place, None);
    }

    /// Says how an instance ended. Ends of instances that are not in the train are ignored.
    pub fn finished(&mut self, place: Place, end: End) {
        if let Some(known) = self.rounds.iter_mut().rev().find_map(|round| round.get_mut(&place)) {
            *known = Some(end);
        }
    }

    /// The number of the last round, from 0.
    pub fn last_round(&self) -> usize {
        self.rounds.len() - 1
    }

    /// All that has no end goes on to the round `to`, which is then the last; what has ended leaves in front of it.
    pub fn part(&mut self, to: usize) {
        self.rounds.resize_with(self.rounds.len().max(to + 1), BTreeMap::new);
        let open: Vec<_> =
            self.rounds.iter_mut().flat_map(|round| round.extract_if(.., |_, end| end.is_none())).collect();
        self.rounds[to].extend(open);
        self.left = None;
    }

    /// Says in which round an instance was that had ended when the train was made.
    pub fn was_in(&mut self, place: Place, round: usize) {
        self.rounds.resize_with(self.rounds.len().max(round + 1), BTreeMap::new);
        if let Some(end) = self.rounds.iter_mut().find_map(|round| round.remove(&place)) {
            self.rounds[round].insert(place, end);
        }
    }

    /// The next thing to do of the rounds up to `round`, if all that comes before it is final. Call it until it gives `None`.
    pub fn advance(&mut self, round: usize) -> Option<Next> {
        loop {
            let at = (0..=round.min(self.last_round())).find(|at| !self.rounds[*at].is_empty())?;
            let is_last = at == self.last_round();
            let (&place, &end) = self.rounds[at].first_key_value()?;
            let end = end?;
            if is_last && self.open.first().is_some_and(|&open| open < place.task) {
                return None;
            }
            self.rounds[at].remove(&place);
            self.left = self.left.max(is_last.then_some(place));
            match end {
                End::Nothing => {}
                End::Unchanged => return Some(Next::Empty(place)),
                End::Change => return Some(Next::Fold(place)),
            }
        }
    }

    /// Whether everything of the rounds up to `round` has left, and nothing may join them.
    pub fn is_through(&self, round: usize) -> bool {
        let is_closed = round < self.last_round() || self.open.is_empty();
        is_closed && self.rounds.iter().take(round + 1).all(BTreeMap::is_empty)
    }

    /// Whether everything has left and nothing may join.
    pub fn is_done(&self) -> bool {
        self.is_through(self.last_round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(level: u32, task: u32) -> TaskPlace {
        TaskPlace { level, task }
    }

    fn place(level: u32, at: u32, instance: u32) -> Place {
        Place { task: task(level, at), instance }
    }

    fn steps(train: &mut Train) -> Vec<Next> {
        std::iter::from_fn(|| train.advance(0)).collect()
    }

    #[test]
    fn a_prefix_leaves_as_soon_as_it_is_final() {
        let mut train = Train::new();
        let [a, b, c] = [place(0, 0, 0), place(0, 1, 0), place(0, 2, 0)];
        [c, a, b].into_iter().for_each(|place| train.join(place));
        train.finished(b, End::Change);
        assert_eq!(steps(&mut train), []);
        train.finished(a, End::Change);
        assert_eq!(steps(&mut train), [Next::Fold(a), Next::Fold(b)]);
        train.finished(c, End::Unchanged);
        assert_eq!(steps(&mut train), [Next::Empty(c)]);
        assert!(train.is_done());
    }

    #[test]
    fn depth_comes_before_plan_order_and_that_before_instances() {
        let mut train = Train::new();
        let order = [place(0, 3, 0), place(0, 3, 1), place(0, 5, 0), place(1, 1, 0), place(2, 0, 0)];
        for place in order.into_iter().rev() {
            train.join(place);
            train.finished(place, End::Change);
        }
        assert_eq!(steps(&mut train), order.map(Next::Fold));
    }

    #[test]
    fn what_has_nothing_to_merge_holds_nobody_back() {
        let mut train = Train::new();
        let [failed, passed] = [place(0, 0, 0), place(0, 1, 0)];
        [failed, passed].into_iter().for_each(|place| train.join(place));
        train.finished(passed, End::Change);
        train.finished(failed, End::Nothing);
        assert_eq!(steps(&mut train), [Next::Fold(passed)]);
    }

    #[test]
    fn what_has_ended_leaves_in_front_of_what_goes_on_to_the_next_round() {
        let mut train = Train::new();
        let [a, b, c, d] = [place(0, 0, 0), place(0, 1, 0), place(0, 2, 0), place(1, 0, 0)];
        [a, b, c, d].into_iter().for_each(|place| train.join(place));
        [b, d].into_iter().for_each(|place| train.finished(place, End::Change));
        train.part(1);
        assert_eq!((steps(&mut train), train.is_through(0)), (vec![Next::Fold(b), Next::Fold(d)], true));
        [c, a].into_iter().for_each(|place| train.finished(place, End::Change));
        assert_eq!((steps(&mut train), train.is_done()), (vec![], false));
        assert_eq!([train.advance(1), train.advance(1)], [Some(Next::Fold(a)), Some(Next::Fold(c))]);
        assert!(train.is_done());
    }

    #[test]
    fn a_task_that_still_grows_holds_back_only_what_is_behind_it() {
        let mut train = Train::new();
        let [before, first, second, behind] = [place(0, 0, 0), place(1, 1, 0), place(1, 1, 1), place(1, 2, 0)];
        train.open(first.task);
        [before, first, behind].into_iter().for_each(|place| train.join(place));
        [before, first, behind].into_iter().for_each(|place| train.finished(place, End::Change));
        assert_eq!(steps(&mut train), [Next::Fold(before), Next::Fold(first)]);
        train.join(second);
        train.close(first.task);
        assert_eq!(steps(&mut train), []);
        train.finished(second, End::Change);
        assert_eq!(steps(&mut train), [Next::Fold(second), Next::Fold(behind)]);
    }
}
