//! What a run, a task and an attempt may spend, as a pure value. An amount is reserved before a call and settled behind it,
//! in every account from the attempt up to the run, so no account is ever found overdrawn by calls that were let go at the
//! same time. What a model costs that has no price is *unpriced*, never nothing: a limit in dollars refuses it.

use serde::{Deserialize, Serialize};
use swarm_protocol::chat::Usage;

/// Billionths of a dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// From dollars; nothing below zero or beyond counting.
    pub fn from_usd(usd: f64) -> Option<NanoUsd> {
        let nano = usd * 1e9;
        (nano.is_finite() && (0.0..1e19).contains(&nano)).then_some(NanoUsd(nano.round() as u64))
    }

    /// In dollars, for people.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// What a model costs, in billionths of a dollar a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// Of the request.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
    /// Of the request, read from the provider's cache.
    pub cache_read: u64,
    /// Of the request, written to the provider's cache.
    pub cache_write: u64,
    /// Of the request, written to the provider's cache for an hour.
    pub cache_write_long: u64,
    /// Which of the two counts where the provider does not say how long it keeps what was written.
    pub cache_life: CacheLife,
}

/// How long a provider keeps what is written to its cache, as far as a request asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheLife {
    /// As long as is usual.
    #[default]
    Usual,
    /// Some of it for an hour.
    Hour,
}

impl Prices {
    /// The same for a request that has a part of it kept for an hour.
    pub fn for_an_hour(self) -> Prices {
        Prices { cache_life: CacheLife::Hour, ..self }
    }

    /// What an answer cost.
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        let of = |tokens: Option<u64>, price: u64| tokens.unwrap_or(0).saturating_mul(price);
        let long = match self.cache_life {
            CacheLife::Usual => usage.cache_write_long,
            CacheLife::Hour => usage.cache_write_long.or(usage.cache_write),
        };
        let long = long.map(|long| long.min(usage.cache_write.unwrap_or(0)));
        let usual = usage.cache_write.map(|all| all.saturating_sub(long.unwrap_or(0)));
        let all = [
            of(usage.input, self.input),
            of(usage.output, self.output),
            of(usage.cache_read, self.cache_read),
            of(usual, self.cache_write),
            of(long, self.cache_write_long),
        ];
        NanoUsd(all.into_iter().fold(0, u64::saturating_add))
    }

    /// The most that a call can cost: nothing of it comes from a cache, all of it goes into one.
    pub fn at_most(&self, tokens: Tokens) -> NanoUsd {
        let cached = match self.cache_life {
            CacheLife::Usual => self.cache_write,
            CacheLife::Hour => self.cache_write.max(self.cache_write_long),
        };
        let input = tokens.input.saturating_mul(self.input.max(cached));
        NanoUsd(input.saturating_add(tokens.output.saturating_mul(self.output)))
    }
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the request.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

/// What an account may spend; `None` is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Money.
    pub usd: Option<NanoUsd>,
    /// Milliseconds spent waiting for models, summed over calls.
    pub time_ms: Option<u64>,
}

/// What was spent, or is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Tokens in and out.
    pub tokens: u64,
    /// Money; of calls without a price nothing is in here.
    pub usd: NanoUsd,
}

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountId(usize);

#[derive(Debug)]
struct Account {
    parent: Option<AccountId>,
    limit: Limit,
    spent: Amount,
    reserved: Amount,
    unpriced_calls: u64,
    /// Milliseconds of calls that ended.
    spent_ms: u64,
    /// Calls that are under way, and the sum of the times at which they began, in milliseconds.
    running: u64,
    began_ms: u64,
}

impl Account {
    /// Milliseconds that calls took until now, those under way included.
    fn time_ms(&self, now_ms: u64) -> u64 {
        self.spent_ms.saturating_add((self.running * now_ms).saturating_sub(self.began_ms))
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Not so many tokens are left.
    #[error("the budget of {limit} tokens has {left} left, and the call may take {asked}")]
    Tokens {
        /// The account.
        account: AccountId,
        /// Its limit.
        limit: u64,
        /// Neither spent nor set aside.
        left: u64,
        /// Set aside for calls under way; what they do not take comes back.
        held: u64,
        /// What the call may take.
        asked: u64,
    },
    /// Not so much money is left.
    #[error("the budget of ${:.2} has ${:.4} left, and the call may cost ${:.4}", .limit.usd(), .left.usd(), .asked.usd())]
    Usd {
        /// The account.
        account: AccountId,
        /// Its limit.
        limit: NanoUsd,
        /// Neither spent nor set aside.
        left: NanoUsd,
        /// Set aside for calls under way; what they do not cost comes back.
        held: NanoUsd,
        /// What the call may cost.
        asked: NanoUsd,
    },
    /// The time is over.
    #[error("the budget of {} s of waiting for models is over", .limit_ms / 1000)]
    Time {
        /// The account.
        account: AccountId,
        /// Its limit in milliseconds.
        limit_ms: u64,
    },
    /// There is a limit in dollars, and nobody knows what the model costs.
    #[error("the budget is in dollars, and the model has no price; give it one, or a budget in tokens")]
    Unpriced {
        /// The account.
        account: AccountId,
    },
}

impl Exhausted {
    /// What raises the budget for one run, as the end of a sentence; the run itself ends and says it there.
    pub fn raised_by(&self, whose: crate::event::Whose) -> String {
        let flag = match self {
            _ if whose == crate::event::Whose::Run => return String::new(),
            Exhausted::Tokens { .. } => "tokens N",
            Exhausted::Usd { .. } => "usd N",
            Exhausted::Time { .. } => "time DURATION",
            Exhausted::Unpriced { .. } => return String::new(),
        };
        format!("; for this run, `swarm retry --budget-{flag}` raises it")
    }

    /// The account that has too little.
    pub fn account(&self) -> AccountId {
        match *self {
            Exhausted::Tokens { account, .. }
            | Exhausted::Usd { account, .. }
            | Exhausted::Time { account, .. }
            | Exhausted::Unpriced { account } => account,
        }
    }

    /// Whether the account could not pay for the call even if nothing had been spent of it.
    pub fn is_for_ever(&self) -> bool {
        match *self {
            Exhausted::Tokens { limit, asked, .. } => asked > limit,
            Exhausted::Usd { limit, asked, .. } => asked > limit,
            Exhausted::Time { .. } | Exhausted::Unpriced { .. } => false,
        }
    }

    /// Whether there may be enough once calls under way have ended.
    pub fn may_pass(&self) -> bool {
        match *self {
            Exhausted::Tokens { left, held, asked, .. } => asked <= left.saturating_add(held),
            Exhausted::Usd { left, held, asked, .. } => asked.0 <= left.0.saturating_add(held.0),
            Exhausted::Time { .. } | Exhausted::Unpriced { .. } => false,
        }
    }
}

/// What is set aside for one call; to be settled exactly once.
#[derive(Debug)]
#[must_use = "what is set aside stays so until it is settled"]
pub struct Reservation {
    account: AccountId,
    amount: Amount,
    began_ms: u64,
}

/// All accounts of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: Vec<Account>,
}

impl Ledger {
    /// Whether tokens or money of an account have an end.
    pub fn is_bounded(&self, account: AccountId) -> bool {
        let limits = self.upwards(account).into_iter().map(|at| self.accounts[at.0].limit);
        limits.into_iter().any(|limit| limit.tokens.is_some() || limit.usd.is_some())
    }

    /// Opens an account; what is spent from it is spent from its parents, too.
    pub fn open(&mut self, parent: Option<AccountId>, limit: Limit) -> AccountId {
        let (spent, reserved) = (Amount::default(), Amount::default());
        let (unpriced_calls, spent_ms, running, began_ms) = (0, 0, 0, 0);
        self.accounts.push(Account { parent, limit, spent, reserved, unpriced_calls, spent_ms, running, began_ms });
        AccountId(self.accounts.len() - 1)
    }

    /// Has what is spent from an account be spent from `parent`, too, and from what that is below; before anything is.
    pub fn put_below(&mut self, account: AccountId, parent: AccountId) {
        if !self.upwards(parent).contains(&account) {
            self.accounts[account.0].parent = Some(parent);
        }
    }

    /// Books what an earlier coordinator spent, from `account` upwards.
    pub fn carry_over(&mut self, account: AccountId, spent: Amount, time_ms: u64) {
        for at in self.upwards(account) {
            self.carry_over_alone(at, spent, time_ms);
        }
    }

    /// Books in one account what an earlier coordinator spent, where those above it have it already.
    pub fn carry_over_alone(&mut self, account: AccountId, spent: Amount, time_ms: u64) {
        let account = &mut self.accounts[account.0];
        account.spent.tokens = account.spent.tokens.saturating_add(spent.tokens);
        account.spent.usd.0 = account.spent.usd.0.saturating_add(spent.usd.0);
        account.spent_ms = account.spent_ms.saturating_add(time_ms);
    }

    /// Milliseconds until the first limit of time from `account` upwards is reached, as many calls being under way as now;
    /// `None` without such a limit.
    pub fn time_left_ms(&self, account: AccountId, now_ms: u64) -> Option<u64> {
        let left = |at: AccountId| {
            let account = &self.accounts[at.0];
            Some(account.limit.time_ms?.saturating_sub(account.time_ms(now_ms)).div_ceil(account.running.max(1)))
        };
        self.upwards(account).into_iter().filter_map(left).min()
    }

    /// Sets the most aside that a call can take.
    ///
    /// # Errors
    /// [`Exhausted`], by the first account from `account` upwards that has too little; nothing is set aside then.
    pub fn reserve(
        &mut self,
        account: AccountId,
        tokens: Tokens,
        prices: Option<&Prices>,
        now_ms: u64,
    ) -> Result<Reservation, Exhausted> {
        let asked = tokens.input.saturating_add(tokens.output);
        let cost = prices.map(|prices| prices.at_most(tokens));
        for at in self.upwards(account) {
            let held = &self.accounts[at.0];
            if let Some(limit) = held.limit.tokens {
                let left = limit.saturating_sub(held.spent.tokens).saturating_sub(held.reserved.tokens);
                if asked > left {
                    let held = limit.saturating_sub(held.spent.tokens).min(held.reserved.tokens);
                    return Err(Exhausted::Tokens { account: at, limit, left, held, asked });
                }
            }
            if let Some(limit) = held.limit.usd {
                let Some(asked) = cost else { return Err(Exhausted::Unpriced { account: at }) };
                let left = NanoUsd(limit.0.saturating_sub(held.spent.usd.0).saturating_sub(held.reserved.usd.0));
                if asked > left {
                    let held = NanoUsd(limit.0.saturating_sub(held.spent.usd.0).min(held.reserved.usd.0));
                    return Err(Exhausted::Usd { account: at, limit, left, held, asked });
                }
            }
            if let Some(limit_ms) = held.limit.time_ms.filter(|limit| held.time_ms(now_ms) >= *limit) {
                return Err(Exhausted::Time { account: at, limit_ms });
            }
        }
        let amount = Amount { tokens: asked, usd: cost.unwrap_or_default() };
        for at in self.upwards(account) {
            let account = &mut self.accounts[at.0];
            (account.running, account.began_ms) = (account.running + 1, account.began_ms.saturating_add(now_ms));
            let reserved = &mut account.reserved;
            reserved.tokens = reserved.tokens.saturating_add(amount.tokens);
            reserved.usd = NanoUsd(reserved.usd.0.saturating_add(amount.usd.0));
        }
        Ok(Reservation { account, amount, began_ms: now_ms })
    }

    /// Books what a call really took; `None` when it took nothing. Returns its cost, `None` for unpriced.
    pub fn settle(
        &mut self,
        reservation: Reservation,
        usage: Option<&Usage>,
        prices: Option<&Prices>,
        now_ms: u64,
    ) -> Option<NanoUsd> {
        let cost = usage.and_then(|usage| prices.map(|prices| prices.cost(usage)));
        for at in self.upwards(reservation.account) {
            let account = &mut self.accounts[at.0];
            account.running -= 1;
            account.began_ms -= reservation.began_ms;
            account.spent_ms = account.spent_ms.saturating_add(now_ms.saturating_sub(reservation.began_ms));
            account.reserved.tokens -= reservation.amount.tokens.min(account.reserved.tokens);
            account.reserved.usd.0 -= reservation.amount.usd.0.min(account.reserved.usd.0);
            let Some(usage) = usage else { continue };
            account.spent.tokens = account.spent.tokens.saturating_add(tokens_of(usage));
            match cost {
                Some(cost) => account.spent.usd.0 = account.spent.usd.0.saturating_add(cost.0),
                None => account.unpriced_calls += 1,
            }
        }
        cost
    }

    /// What was spent from an account, and how many of its calls had no price.
    pub fn spent(&self, account: AccountId) -> (Amount, u64) {
        let account = &self.accounts[account.0];
        (account.spent, account.unpriced_calls)
    }

    fn upwards(&self, account: AccountId) -> Vec<AccountId> {
        std::iter::successors(Some(account), |at| self.accounts[at.0].parent).collect()
    }
}

/// All tokens of an answer and its request.
pub fn tokens_of(usage: &Usage) -> u64 {
    let counts = [usage.input, usage.output, usage.cache_read, usage.cache_write];
    counts.into_iter().flatten().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRICES: Prices = Prices {
        input: 3000,
        output: 15000,
        cache_read: 300,
        cache_write: 3750,
        cache_write_long: 6000,
        cache_life: CacheLife::Usual,
    };

    fn tokens(input: u64, output: u64) -> Tokens {
        Tokens { input, output }
    }

    #[test]
    fn calls_at_the_same_time_never_take_more_than_there_is() {
        let mut ledger = Ledger::default();
        let run = ledger.open(None, Limit { tokens: Some(100), ..Limit::default() });
        let (a, b) = (ledger.open(Some(run), Limit::default()), ledger.open(Some(run), Limit::default()));
        let first = ledger.reserve(a, tokens(40, 20), None, 0).unwrap();
        let refused = ledger.reserve(b, tokens(40, 20), None, 0).unwrap_err();
        assert_eq!(refused, Exhausted::Tokens { account: run, limit: 100, left: 40, held: 60, asked: 60 });
        assert!(refused.may_pass(), "once the first has ended");
        let usage = Usage { input: Some(10), output: Some(5), ..Usage::default() };
        assert_eq!(ledger.settle(first, Some(&usage), None, 0), None);
        assert_eq!(ledger.spent(run), (Amount { tokens: 15, usd: NanoUsd(0) }, 1));
        assert!(ledger.reserve(b, tokens(40, 20), None, 0).is_ok());
    }

    #[test]
    fn a_limit_in_dollars_refuses_a_model_without_a_price() {
        let mut ledger = Ledger::default();
        let run = ledger.open(None, Limit { usd: NanoUsd::from_usd(0.01), ..Limit::default() });
        assert!(matches!(ledger.reserve(run, tokens(1, 1), None, 0), Err(Exhausted::Unpriced { .. })));
        assert!(matches!(ledger.reserve(run, tokens(1000, 1000), Some(&PRICES), 0), Err(Exhausted::Usd { .. })));
        let held = ledger.reserve(run, tokens(1000, 100), Some(&PRICES), 0).unwrap();
        let usage = Usage { input: Some(500), cache_read: Some(500), output: Some(100), ..Usage::default() };
        let cost = ledger.settle(held, Some(&usage), Some(&PRICES), 0).unwrap();
        assert_eq!(cost, NanoUsd(500 * 3000 + 500 * 300 + 100 * 15000));
    }

    #[test]
    fn what_is_kept_for_an_hour_costs_what_that_costs() {
        let usage = |long| Usage { cache_write: Some(100), cache_write_long: long, ..Usage::default() };
        assert_eq!(PRICES.cost(&usage(Some(40))), NanoUsd(60 * 3750 + 40 * 6000));
        assert_eq!(PRICES.cost(&usage(None)), NanoUsd(100 * 3750));
        let hour = PRICES.for_an_hour();
        assert_eq!(hour.cost(&usage(Some(40))), NanoUsd(60 * 3750 + 40 * 6000));
        assert_eq!(hour.cost(&usage(None)), NanoUsd(100 * 6000), "where nobody says");
        assert_eq!(hour.cost(&usage(Some(900))), NanoUsd(100 * 6000));
        assert_eq!((PRICES.at_most(tokens(2, 0)), hour.at_most(tokens(2, 0))), (NanoUsd(7500), NanoUsd(12_000)));
    }

    #[test]
    fn a_call_that_failed_gives_back_what_was_set_aside() {
        let mut ledger = Ledger::default();
        let run = ledger.open(None, Limit { tokens: Some(10), ..Limit::default() });
        let held = ledger.reserve(run, tokens(5, 5), None, 0).unwrap();
        ledger.settle(held, None, None, 0);
        assert!(ledger.reserve(run, tokens(5, 5), None, 0).is_ok());
    }

    #[test]
    fn time_passes_for_each_call_under_way() {
        let mut ledger = Ledger::default();
        let run = ledger.open(None, Limit { time_ms: Some(1000), ..Limit::default() });
        let first = ledger.reserve(run, tokens(1, 1), None, 50).unwrap();
        assert_eq!(ledger.time_left_ms(run, 150), Some(900));
        let second = ledger.reserve(run, tokens(1, 1), None, 150).unwrap();
        assert_eq!(ledger.time_left_ms(run, 350), Some(250), "two of them use it up twice as fast");
        ledger.settle(first, None, None, 350);
        assert_eq!(ledger.time_left_ms(run, 350), Some(500));
        assert!(ledger.reserve(run, tokens(1, 1), None, 850).is_err());
        ledger.settle(second, None, None, 850);
        assert_eq!(ledger.time_left_ms(run, 9999), Some(0));
    }

    #[test]
    fn what_was_spent_before_counts_in_the_whole_subtree() {
        let mut ledger = Ledger::default();
        let run = ledger.open(None, Limit { tokens: Some(100), ..Limit::default() });
        let task = ledger.open(Some(run), Limit::default());
        ledger.carry_over(task, Amount { tokens: 95, usd: NanoUsd(7) }, 3);
        assert_eq!(ledger.spent(run).0, Amount { tokens: 95, usd: NanoUsd(7) });
        let refused = ledger.reserve(task, tokens(5, 1), None, 0).unwrap_err();
        assert_eq!((refused.account(), refused.may_pass()), (run, false));
    }

    proptest! {
        #[test]
        fn what_is_spent_never_exceeds_a_limit(calls in proptest::collection::vec((0u64..60, 0u64..60, 0u64..=100), 1..80)) {
            let mut ledger = Ledger::default();
            let run = ledger.open(None, Limit { tokens: Some(500), usd: NanoUsd::from_usd(0.002), time_ms: None });
            let mut open = vec![];
            for (n, (input, output, share)) in calls.into_iter().enumerate() {
                if let Ok(held) = ledger.reserve(run, tokens(input, output), Some(&PRICES), 0) {
                    let of = |all: u64| Some(all * share / 100);
                    open.push((held, Usage { input: of(input), output: of(output), ..Usage::default() }));
                }
                if n % 3 == 0 && let Some((held, usage)) = open.pop() {
                    ledger.settle(held, Some(&usage), Some(&PRICES), 0);
                }
                let (spent, _) = ledger.spent(run);
                prop_assert!(spent.tokens <= 500 && spent.usd <= NanoUsd(2_000_000));
            }
        }
    }
}
