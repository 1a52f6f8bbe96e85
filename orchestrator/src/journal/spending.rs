//! What was spent on models, added up from events; pure.

use swarm_protocol::chat::Usage;

use crate::event::{CallOutcome, Counted, RunEvent};
use crate::model::broker::accounts::Spent;
use crate::model::budget::{Amount, NanoUsd, tokens_of};

/// Calls, tokens and money of an instance, a task or a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// Calls.
    pub calls: u64,
    /// Among them, those without an answer.
    pub failed: u64,
    /// Among them, those whose answer was recorded.
    pub replayed: u64,
    /// Tries beyond the first of each call.
    pub retries: u64,
    /// Tokens of requests, without those from a cache or into one.
    pub input: u64,
    /// Tokens of requests, read from a cache.
    pub cache_read: u64,
    /// Tokens of requests, written to a cache.
    pub cache_write: u64,
    /// Tokens of answers.
    pub output: u64,
    /// Money for what has a price.
    pub cost: NanoUsd,
    /// Calls of which something has no price.
    pub unpriced: u64,
    /// Calls of which something is counted at the most that it can be: nobody said what it took.
    pub estimated: u64,
    /// Milliseconds of waiting for models, summed over calls.
    pub time_ms: u64,
}

impl Spending {
    /// Counts a call; other events change nothing.
    pub fn count(&mut self, event: &RunEvent) {
        let RunEvent::ModelCalled { usage, cost_nano_usd, counted, duration_ms, tries, outcome, .. } = event else {
            return;
        };
        let Usage { input, cache_read, cache_write, output, .. } = *usage;
        let is = |is: bool| u64::from(is);
        self.add(&Spending {
            calls: 1,
            failed: is(matches!(outcome, CallOutcome::Failed { .. } | CallOutcome::Abandoned)),
            replayed: is(*outcome == CallOutcome::Replayed),
            retries: u64::from(tries.saturating_sub(1)),
            input: input.unwrap_or(0),
            cache_read: cache_read.unwrap_or(0),
            cache_write: cache_write.unwrap_or(0),
            output: output.unwrap_or(0),
            cost: NanoUsd(cost_nano_usd.unwrap_or(0)),
            unpriced: is(cost_nano_usd.is_none()),
            estimated: is(*counted == Counted::AtMost),
            time_ms: *duration_ms,
        });
    }

    /// Adds another.
    pub fn add(&mut self, other: &Spending) {
        let sums = [
            (&mut self.calls, other.calls),
            (&mut self.failed, other.failed),
            (&mut self.replayed, other.replayed),
            (&mut self.retries, other.retries),
            (&mut self.input, other.input),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.output, other.output),
            (&mut self.cost.0, other.cost.0),
            (&mut self.unpriced, other.unpriced),
            (&mut self.estimated, other.estimated),
            (&mut self.time_ms, other.time_ms),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// The part of the requests' tokens that came from a cache, in percent.
    pub fn cached_percent(&self) -> u64 {
        let all = self.input.saturating_add(self.cache_read).saturating_add(self.cache_write);
        self.cache_read.saturating_mul(100).checked_div(all).unwrap_or(0)
    }

    /// As the budget counts it.
    pub fn spent(&self) -> Spent {
        let (input, cache_read) = (Some(self.input), Some(self.cache_read));
        let (cache_write, output) = (Some(self.cache_write), Some(self.output));
        let usage = Usage { input, cache_read, cache_write, output, ..Usage::default() };
        Spent { amount: Amount { tokens: tokens_of(&usage), usd: self.cost }, time_ms: self.time_ms }
    }
}

#[cfg(test)]
mod tests {
    use swarm_plans::InstanceId;

    use super::*;
    use crate::ids::Attempt;

    fn called(cost_nano_usd: Option<u64>, outcome: CallOutcome) -> RunEvent {
        RunEvent::ModelCalled {
            call: 0,
            instance: InstanceId("a".into()),
            attempt: Attempt(1),
            asked: "main".to_owned(),
            model: "ollama/m".to_owned(),
            usage: Usage { input: Some(10), cache_read: Some(30), output: Some(5), ..Usage::default() },
            cost_nano_usd,
            counted: Counted::Said,
            duration_ms: 7,
            tries: 3,
            outcome,
        }
    }

    #[test]
    fn calls_add_up_and_what_has_no_price_is_counted_apart() {
        let mut spending = Spending::default();
        spending.count(&called(Some(500), CallOutcome::Answered));
        spending.count(&called(None, CallOutcome::Failed { why: String::new(), too_small: None }));
        let counted = (spending.calls, spending.failed, spending.unpriced, spending.retries, spending.cost);
        assert_eq!(counted, (2, 1, 1, 4, NanoUsd(500)));
        assert_eq!(spending.cached_percent(), 75);
        let spent = Spent { amount: Amount { tokens: 90, usd: NanoUsd(500) }, time_ms: 14 };
        assert_eq!(spending.spent(), spent);
    }
}
