//! Finds the longest green prefix of a batch with few verifications. Pure: verdicts come in, prefixes to verify go out.
//!
//! A batch of `n` results gives `n + 1` trees: prefix 0 is the tip that the batch was folded onto, prefix `k` holds the first
//! `k` results. All at once is tried first; when that stays red, the prefixes between the longest known green one and the
//! shortest known red one are searched, with as many verifiers as there are. The search ends at a green prefix `k` whose
//! successor is red as often as the plan asks: result `k + 1` is the culprit then, by the evidence of two neighbouring trees.
//!
//! The way between them is looked for in warm worktrees, in which what the base's own verification built is there already.
//! What is found there is a guess: old output can spoil a build, and it can hide that something no longer builds. So the
//! whole batch is looked at in a fresh worktree, and nobody lands and nobody is blamed but on a fresh verdict; one that
//! contradicts a guess takes its place.
//!
//! Nothing is assumed of the gate: a red prefix may have green ones behind it (a later result heals it). Whatever ends the
//! search, the prefix that it names was itself found green.

use std::collections::BTreeMap;

use crate::event::GateVerdict as Verdict;

/// Verifications that found no verdict (a worktree that could not be made) before the search gives up.
pub const BROKEN_MAX: u32 = 3;

/// What a verification finds in its worktree beside the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Look {
    /// What the verification of the base left of ignored files, where that is known.
    Warm,
    /// Nothing.
    Fresh,
}

/// Whether the tip is known to be green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tip {
    /// It is.
    Green,
    /// Nobody has looked.
    Unknown,
}

/// How a search ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All results together are green.
    All,
    /// The first `green` results are green, and with the next one they are not.
    Culprit {
        /// How many lead the batch.
        green: usize,
    },
    /// The tip itself is red, and nothing behind it heals it.
    RedTip,
    /// There is no verdict to be had.
    Broken,
}

/// What is known of one prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    /// Green in a warm worktree.
    guess: bool,
    /// Green in a fresh one.
    green: bool,
    /// Red in any.
    reds: u32,
    /// Among these, in a fresh one.
    fresh_reds: u32,
    running: bool,
}

impl Known {
    /// What to go on from until a fresh verdict says otherwise.
    fn seems_green(self) -> bool {
        self.green || self.guess && self.fresh_reds == 0
    }
}

/// The search over one batch.
#[derive(Debug, Clone)]
pub struct Search {
    /// Results in the batch; at least 1.
    count: usize,
    /// Verifications at once.
    parallel: usize,
    /// Reds that make a verdict.
    reds_needed: u32,
    known: BTreeMap<usize, Known>,
    broken: u32,
}

impl Search {
    /// A search over `count` results, at least one; a red prefix is tried `retry` times more before it counts.
    pub fn new(count: usize, parallel: usize, retry: u32, tip: Tip) -> Search {
        let green = Known { green: tip == Tip::Green, ..Known::default() };
        let known = BTreeMap::from([(0, green)]);
        Search {
            count: count.max(1),
            parallel: parallel.max(1),
            reds_needed: retry.saturating_add(1),
            known,
            broken: 0,
        }
    }

    /// The prefixes to verify now, in the order of their importance; each is answered by [`Search::verdict`].
    pub fn wanted(&mut self) -> Vec<(usize, Look)> {
        let mut wanted = Vec::new();
        while self.found().is_none() && self.running() < self.parallel {
            let Some(prefix) = self.choose() else { break };
            let is_end = prefix == 0 || prefix == self.count;
            let known = self.known.entry(prefix).or_default();
            known.running = true;
            let is_guess = !is_end && known.reds == 0 && !known.guess;
            wanted.push((prefix, if is_guess { Look::Warm } else { Look::Fresh }));
        }
        wanted
    }

    /// Takes the verdict on a prefix, and how it was looked at.
    pub fn verdict(&mut self, prefix: usize, verdict: Verdict, look: Look) {
        let known = self.known.entry(prefix).or_default();
        known.running = false;
        match verdict {
            Verdict::Green if look == Look::Warm => known.guess = true,
            Verdict::Green => known.green = true,
            Verdict::Red => {
                known.reds += 1;
                known.fresh_reds += u32::from(look == Look::Fresh);
            }
            Verdict::Broken => self.broken += 1,
        }
    }

    /// How it ends, once that is known. Verifications that still run do not matter any more then.
    pub fn found(&self) -> Option<Found> {
        if self.known(self.count).green {
            return Some(Found::All);
        }
        if self.broken >= BROKEN_MAX {
            return Some(Found::Broken);
        }
        let confirmed = |prefix: usize| self.confirmed(prefix);
        match self.green() {
            Some(green) => (self.known(green).green && confirmed(green + 1)).then_some(Found::Culprit { green }),
            None => (confirmed(0) && confirmed(self.red()?)).then_some(Found::RedTip),
        }
    }

    fn known(&self, prefix: usize) -> Known {
        self.known.get(&prefix).copied().unwrap_or_default()
    }

    fn running(&self) -> usize {
        self.known.values().filter(|known| known.running).count()
    }

    /// Whether a prefix is red as often as the plan asks, and not over old output alone.
    fn confirmed(&self, prefix: usize) -> bool {
        let known = self.known(prefix);
        known.reds >= self.reds_needed && known.fresh_reds > 0
    }

    /// The longest prefix that seems to be green.
    fn green(&self) -> Option<usize> {
        self.known.iter().rev().find(|(_, known)| known.seems_green()).map(|(prefix, _)| *prefix)
    }

    /// The shortest red prefix behind the longest green one.
    fn red(&self) -> Option<usize> {
        let above = self.green().map_or(0, |green| green + 1);
        self.known.range(above..).find(|(_, known)| known.reds > 0).map(|(prefix, _)| *prefix)
    }

    /// The prefix that is worth most now; `None` when what runs has to be waited for.
    fn choose(&self) -> Option<usize> {
        let free = |prefix: &usize| !self.known(*prefix).running;
        let all = self.known(self.count);
        if all.reds < self.reds_needed {
            // One verification of everything at a time: what runs beside it would be wasted when it is green.
            if !all.running {
                return Some(self.count);
            }
            if all.reds == 0 {
                return None;
            }
        }
        let red = self.red()?;
        let Some(green) = self.green() else {
            // Nobody knows the tip: that is worth a look only when the first result seems to be the culprit.
            return if red > 1 { self.between(0, red) } else { Some(0).filter(free) };
        };
        match red - green {
            1 => Some(if self.confirmed(red) { green } else { red }).filter(free),
            _ => self.between(green, red),
        }
    }

    /// The middle of the widest gap between what is known or running from `low` to `high`, both left out.
    fn between(&self, low: usize, high: usize) -> Option<usize> {
        let looked_at = self.known.range(low + 1..high).filter(|(_, known)| known.running).map(|(prefix, _)| *prefix);
        let mut edges: Vec<usize> = [low].into_iter().chain(looked_at).chain([high]).collect();
        edges.dedup();
        let widest = edges.windows(2).max_by_key(|pair| (pair[1] - pair[0], std::cmp::Reverse(pair[0])))?;
        let middle = widest[0] + (widest[1] - widest[0]) / 2;
        (middle > widest[0]).then_some(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Judge<'a> = &'a dyn Fn(&[usize]) -> bool;

    /// A gate over sets of results, and how often each prefix is red although it should be green.
    struct Gate<'a> {
        is_green: Judge<'a>,
        /// What the gate says over old output, where there is some.
        over_old: Option<Judge<'a>>,
        flakes: BTreeMap<Vec<usize>, u32>,
        verifications: usize,
        /// Among these, in fresh worktrees.
        fresh: usize,
    }

    impl<'a> Gate<'a> {
        fn of(is_green: Judge<'a>) -> Self {
            Gate { is_green, over_old: None, flakes: BTreeMap::new(), verifications: 0, fresh: 0 }
        }

        fn judge(&mut self, results: &[usize], look: Look) -> (Verdict, Look) {
            let look = if self.over_old.is_some() { look } else { Look::Fresh };
            (self.says(results, look), look)
        }

        fn says(&mut self, results: &[usize], look: Look) -> Verdict {
            self.verifications += 1;
            self.fresh += usize::from(look == Look::Fresh);
            if let Some(left) = self.flakes.get_mut(results).filter(|left| **left > 0) {
                *left -= 1;
                return Verdict::Red;
            }
            let is_green = self.over_old.filter(|_| look == Look::Warm).unwrap_or(self.is_green);
            if is_green(results) { Verdict::Green } else { Verdict::Red }
        }
    }

    /// What lands and what is evicted, batch after batch, as the train does it. Verdicts come in the order of `pick`.
    fn train(
        count: usize,
        parallel: usize,
        retry: u32,
        gate: &mut Gate<'_>,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let (mut landed, mut evicted, mut pending) = (vec![], vec![], (0..count).collect::<Vec<_>>());
        while !pending.is_empty() {
            let mut search = Search::new(pending.len(), parallel, retry, Tip::Green);
            let mut running = Vec::new();
            let found = loop {
                running.extend(search.wanted());
                assert!(running.len() <= parallel, "{running:?} at once");
                if let Some(found) = search.found() {
                    break found;
                }
                let (prefix, look) = running.swap_remove(pick(running.len()));
                let tree: Vec<usize> = landed.iter().chain(&pending[..prefix]).copied().collect();
                let (verdict, look) = gate.judge(&tree, look);
                search.verdict(prefix, verdict, look);
            };
            match found {
                Found::All => landed.append(&mut pending),
                Found::Culprit { green } => {
                    landed.extend(pending.drain(..green));
                    evicted.push(pending.remove(0));
                }
                Found::RedTip | Found::Broken => panic!("{found:?}"),
            }
            assert!((gate.is_green)(&landed), "{landed:?} is red and landed");
        }
        (landed, evicted)
    }

    fn first(_: usize) -> usize {
        0
    }

    #[test]
    fn every_set_of_up_to_eight_results_lands_its_innocents_and_nothing_red() {
        for count in 1..=8usize {
            for culprits in 0..1u32 << count {
                let is_green = |results: &[usize]| results.iter().all(|result| culprits >> result & 1 == 0);
                for parallel in [1, 2, 3, 8] {
                    let mut gate = Gate::of(&is_green);
                    let (landed, evicted) = train(count, parallel, 1, &mut gate, &mut |running| running - 1);
                    let guilty: Vec<usize> = (0..count).filter(|result| culprits >> result & 1 == 1).collect();
                    assert_eq!(evicted, guilty, "{count} results, {parallel} at once");
                    assert_eq!(landed.len() + evicted.len(), count);
                }
            }
        }
    }

    #[test]
    fn a_gate_that_fails_once_for_each_tree_costs_no_result_its_place() {
        for count in 1..=8usize {
            for culprits in 0..1u32 << count {
                let is_green = |results: &[usize]| results.iter().all(|result| culprits >> result & 1 == 0);
                let all_trees = (0u32..1 << count).map(|set| {
                    let tree: Vec<usize> = (0..count).filter(|result| set >> result & 1 == 1).collect();
                    (tree, 1)
                });
                for parallel in [1, 3] {
                    let mut gate = Gate { flakes: all_trees.clone().collect(), ..Gate::of(&is_green) };
                    let (_, evicted) = train(count, parallel, 1, &mut gate, &mut first);
                    let guilty: Vec<usize> = (0..count).filter(|result| culprits >> result & 1 == 1).collect();
                    assert_eq!(evicted, guilty, "{count} results, {parallel} at once, {culprits:b}");
                }
            }
        }
    }

    #[test]
    fn of_two_results_that_are_red_only_together_the_later_one_goes() {
        for count in 2..=8usize {
            for one in 0..count {
                for two in one + 1..count {
                    let is_green = |results: &[usize]| !(results.contains(&one) && results.contains(&two));
                    for parallel in [1, 2, 8] {
                        let mut gate = Gate::of(&is_green);
                        let (landed, evicted) = train(count, parallel, 0, &mut gate, &mut first);
                        assert_eq!((evicted, landed.len()), (vec![two], count - 1));
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_later_result_heals_lands_with_it() {
        let is_green = |results: &[usize]| !results.contains(&2) || results.contains(&5);
        let mut gate = Gate::of(&is_green);
        assert_eq!(train(8, 1, 0, &mut gate, &mut first), ((0..8).collect(), vec![]));
        assert_eq!(gate.verifications, 1);
    }

    #[test]
    fn four_culprits_among_256_cost_about_34_verifications() {
        let mut worst = 0;
        let mut sum = 0;
        let rounds = 200;
        let mut state = 7u64;
        for _ in 0..rounds {
            let culprits: Vec<usize> = (0..4)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as usize % 256
                })
                .collect();
            let is_green = |results: &[usize]| !results.iter().any(|result| culprits.contains(result));
            let mut gate = Gate::of(&is_green);
            train(256, 1, 0, &mut gate, &mut first);
            worst = worst.max(gate.verifications);
            sum += gate.verifications;
        }
        assert!(sum / rounds <= 34 && worst <= 38, "{} on average, {worst} at worst", sum / rounds);
    }

    #[test]
    fn a_red_tip_is_found_out_before_a_result_is_blamed() {
        let mut search = Search::new(2, 1, 0, Tip::Unknown);
        for expected in [2, 1, 0] {
            let look = if expected == 1 { Look::Warm } else { Look::Fresh };
            assert_eq!((search.found(), search.wanted()), (None, vec![(expected, look)]));
            search.verdict(expected, Verdict::Red, Look::Fresh);
        }
        assert_eq!(search.found(), Some(Found::RedTip));
    }

    #[test]
    fn old_output_neither_lands_nor_blames_anybody() {
        for count in 1..=6usize {
            for (culprits, liar) in (0..1u32 << count).flat_map(|set| (0..1u32 << count).map(move |other| (set, other)))
            {
                let of = |set: u32| move |results: &[usize]| results.iter().all(|result| set >> result & 1 == 0);
                let is_green = of(culprits);
                for (parallel, retry) in [(1, 0), (2, 1)] {
                    let mut gate = Gate { over_old: Some(&of(liar)), ..Gate::of(&is_green) };
                    let (_, evicted) = train(count, parallel, retry, &mut gate, &mut first);
                    let guilty: Vec<usize> = (0..count).filter(|result| culprits >> result & 1 == 1).collect();
                    assert_eq!(evicted, guilty, "{count} results, {culprits:b}, {liar:b}");
                }
            }
        }
    }

    #[test]
    fn most_of_a_search_is_warm() {
        let is_green = |results: &[usize]| !results.contains(&100);
        let mut gate = Gate { over_old: Some(&is_green), ..Gate::of(&is_green) };
        train(256, 1, 0, &mut gate, &mut first);
        // All, what is in front of the culprit, the culprit, and what is behind it.
        assert_eq!((gate.verifications, gate.fresh), (12, 4));
    }

    #[test]
    fn a_gate_that_cannot_run_ends_the_search() {
        let mut search = Search::new(1, 1, 0, Tip::Green);
        for _ in 0..BROKEN_MAX {
            assert_eq!(search.wanted(), [(1, Look::Fresh)]);
            search.verdict(1, Verdict::Broken, Look::Fresh);
        }
        assert_eq!(search.found(), Some(Found::Broken));
    }
}
