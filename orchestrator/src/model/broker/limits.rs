//! What a provider says of its limits in the head of an answer: names and values → [`Allowance`]. Pure.
//!
//! Source: Anthropic, "Rate limits", response headers (`anthropic-ratelimit-*`, times in RFC 3339); OpenAI, "Rate limits",
//! headers (`x-ratelimit-*`, durations such as `6m0s`).

use crate::model::governor::Allowance;
use crate::model::times::rfc3339_ms;

/// Reads the head of an answer; `now_ms` is in milliseconds since the Unix epoch.
pub fn allowance(header: &dyn Fn(&str) -> Option<String>, now_ms: u64) -> Allowance {
    let count = |name: &str| header(name)?.trim().parse::<u64>().ok();
    let least = |names: &[&str]| names.iter().filter_map(|name| count(name)).min();
    let tokens = [
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-input-tokens-remaining",
        "x-ratelimit-remaining-tokens",
    ];
    let requests = ["anthropic-ratelimit-requests-remaining", "x-ratelimit-remaining-requests"];
    let until = |name: &str| Some(rfc3339_ms(&header(name)?)?.saturating_sub(now_ms));
    let span = |name: &str| span_ms(&header(name)?);
    let resets = [
        until("anthropic-ratelimit-tokens-reset"),
        until("anthropic-ratelimit-input-tokens-reset"),
        until("anthropic-ratelimit-requests-reset"),
        span("x-ratelimit-reset-tokens"),
        span("x-ratelimit-reset-requests"),
    ];
    Allowance { requests: least(&requests), tokens: least(&tokens), resets_in_ms: resets.into_iter().flatten().max() }
}

/// `6m0s`, `1s`, `120ms`, `1.5s`; a number alone is in seconds.
fn span_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = rest[..digits].parse::<f64>().ok()?;
        let behind = &rest[digits..];
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        total += number
            * match &behind[..unit] {
                "d" => 86_400_000.0,
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" | "" => 1000.0,
                "ms" => 1.0,
                _ => return None,
            };
        rest = &behind[unit..];
    }
    (!text.trim().is_empty() && total.is_finite()).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_until_a_reset() {
        let spans = [("6m0s", 360_000), ("1s", 1000), ("120ms", 120), ("1h2m", 3_720_000), ("0", 0), ("1.5s", 1500)];
        spans.iter().for_each(|(text, ms)| assert_eq!(span_ms(text), Some(*ms), "{text}"));
        ["", "-1", "5 weeks", "m"].iter().for_each(|text| assert_eq!(span_ms(text), None, "{text}"));
    }

    #[test]
    fn both_families_of_headers() {
        let read = |fields: &[(&str, &str)]| {
            let header = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            allowance(&header, 1_709_208_000_000)
        };
        let anthropic = read(&[
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-tokens-remaining", "9000"),
            ("anthropic-ratelimit-input-tokens-remaining", "8000"),
            ("anthropic-ratelimit-tokens-reset", "2024-02-29T12:00:30Z"),
        ]);
        assert_eq!(anthropic, Allowance { requests: Some(49), tokens: Some(8000), resets_in_ms: Some(30_000) });
        let openai = read(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1s")]);
        assert_eq!(openai, Allowance { requests: None, tokens: Some(0), resets_in_ms: Some(1000) });
        assert_eq!(read(&[("x-ratelimit-remaining-requests", "-1")]), Allowance::default());
    }
}
