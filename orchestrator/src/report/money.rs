//! What models took and cost, in words. What has no price is called so; it is never nothing.

use crate::journal::{RunState, Spending};
use crate::model::budget::NanoUsd;

/// `$1.25`; below a dollar with four digits, and never `$0` for what cost something.
pub fn usd(amount: NanoUsd) -> String {
    match amount.0 {
        0 => "$0".to_owned(),
        1..100_000 => "under $0.0001".to_owned(),
        100_000..1_000_000_000 => format!("${:.4}", amount.usd()),
        _ => format!("${:.2}", amount.usd()),
    }
}

/// `950`, `12.3k`, `4.5M`.
pub fn tokens(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => format!("{}.{}k", count / 1000, count % 1000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

/// Whether nobody knows a price of anything that was paid for. Calls that nobody was asked, and those that failed, cost nothing.
pub fn is_unpriced(spending: &Spending) -> bool {
    spending.unpriced > 0 && (spending.unpriced == spending.calls || spending.cost == NanoUsd(0))
}

/// What it cost: `$0.0123`, `unpriced`, `$0.0123 and 2 calls unpriced`, `$0.0123, 1 call estimated`.
pub fn cost(spending: &Spending) -> String {
    let cost = match spending.unpriced {
        0 => usd(spending.cost),
        _ if is_unpriced(spending) => "unpriced".to_owned(),
        some => format!("{} and {} unpriced", usd(spending.cost), super::words::count(some, "call")),
    };
    match spending.estimated {
        0 => cost,
        some => format!("{cost}, {} estimated", super::words::count(some, "call")),
    }
}

/// All of it: `3 calls, 12.3k tokens in (80% cached), 950 out, $0.0123`.
pub fn spending(spending: &Spending) -> String {
    let all_in = spending.input.saturating_add(spending.cache_read).saturating_add(spending.cache_write);
    let cached = match spending.cached_percent() {
        0 => String::new(),
        percent => format!(" ({percent}% cached)"),
    };
    let mut text = super::words::count(spending.calls, "call");
    let mut add = |n: u64, word: &str| {
        if n > 0 {
            text.push_str(&format!(", {n} {word}"));
        }
    };
    add(spending.retries, "tried again");
    add(spending.failed, "failed");
    add(spending.replayed, "replayed");
    format!("{text}, {} tokens in{cached}, {} out, {}", tokens(all_in), tokens(spending.output), cost(spending))
}

/// What a whole run took; `None` when it asked no model.
pub fn total(state: &RunState) -> Option<Spending> {
    let mut all = state.instances.values().filter_map(|instance| instance.models()).peekable();
    all.peek()?;
    let mut total = Spending::default();
    all.for_each(|one| total.add(one));
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_legible_and_nothing_is_hidden() {
        let amounts = [(0, "$0"), (1, "under $0.0001"), (12_345_678, "$0.0123"), (1_250_000_000, "$1.25")];
        amounts.iter().for_each(|(nano, text)| assert_eq!(usd(NanoUsd(*nano)), *text));
        let counts = [(950, "950"), (12_345, "12.3k"), (4_560_000, "4.5M")];
        counts.iter().for_each(|(count, text)| assert_eq!(tokens(*count), *text));
        let mut some = Spending { calls: 3, input: 200, cache_read: 800, output: 9, ..Spending::default() };
        some.cost = NanoUsd(20_000_000);
        assert_eq!(spending(&some), "3 calls, 1.0k tokens in (80% cached), 9 out, $0.0200");
        some.unpriced = 1;
        assert_eq!(cost(&some), "$0.0200 and 1 call unpriced");
        some.estimated = 2;
        assert_eq!(cost(&some), "$0.0200 and 1 call unpriced, 2 calls estimated");
        assert_eq!(cost(&Spending { cost: NanoUsd(0), estimated: 0, ..some }), "unpriced");
        (some.unpriced, some.estimated, some.retries) = (3, 0, 2);
        assert_eq!(spending(&some), "3 calls, 2 tried again, 1.0k tokens in (80% cached), 9 out, unpriced");
    }
}
