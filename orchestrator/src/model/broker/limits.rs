//! What a provider says of its limits in the head of an answer: names and values → [`Allowance`]. Pure.
//!
//! Source: Anthropic, "Rate limits", response headers (`anthropic-ratelimit-*`, times in RFC 3339); OpenAI, "Rate limits",
//! headers (`x-ratelimit-*`, durations such as `6m0s`).

use crate::model::governor::Allowance;

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

/// `2026-01-31T12:00:00Z`, with a fraction or an offset, in milliseconds since the Unix epoch.
fn rfc3339_ms(text: &str) -> Option<u64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let mut parts = clock.split(':');
    let (hours, minutes) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let seconds = parts.next()?.parse::<f64>().ok().filter(|seconds| (0.0..61.0).contains(seconds))?;
    let offset = match zone.as_bytes().first()? {
        b'Z' | b'z' => 0,
        sign => {
            let (h, m) = zone[1..].split_once(':')?;
            let hours = h.parse::<i64>().ok().filter(|hours| (0..24).contains(hours))?;
            let minutes = m.parse::<i64>().ok().filter(|minutes| (0..60).contains(minutes))?;
            let minutes = hours * 60 + minutes;
            if *sign == b'-' { -minutes } else { minutes }
        }
    };
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || !(0..24).contains(&hours)
        || !(0..60).contains(&minutes)
    {
        return None;
    }
    let minutes = days_since_epoch(year, month, day) * 1440 + hours * 60 + minutes - offset;
    u64::try_from(minutes * 60_000 + (seconds * 1000.0) as i64).ok()
}

/// Days from 1970-01-01 in the Gregorian calendar. Source: Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
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

    /// Times whose parts are numbers and no times.
    const LATE: &str = "2024-01-01T00:9223372036854775807:00Z";
    const FAR: &str = "2024-01-01T00:00:00+9223372036854775807:00";

    #[test]
    fn times_of_a_reset() {
        assert_eq!(rfc3339_ms("1970-01-02T00:00:01Z"), Some(86_401_000));
        assert_eq!(rfc3339_ms("2024-02-29T12:00:00.250Z"), Some(1_709_208_000_250));
        assert_eq!(rfc3339_ms("2024-02-29T14:00:00+02:00"), Some(1_709_208_000_000));
        for text in ["", "soon", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T99:00:00Z", LATE, FAR] {
            assert_eq!(rfc3339_ms(text), None, "{text}");
        }
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
