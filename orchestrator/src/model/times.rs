//! Times as providers write them in the heads of their answers, in milliseconds since the Unix epoch. Pure.

/// `2026-01-31T12:00:00Z`, with a fraction or an offset, in milliseconds since the Unix epoch.
pub fn rfc3339_ms(text: &str) -> Option<u64> {
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

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Source: RFC 9110, 5.6.7, `IMF-fixdate`: the only form that a sender may write.
pub fn http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.trim().split_once(", ")?;
    let mut parts = date.strip_suffix(" GMT")?.split(' ');
    let (day, month, year, clock) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let is_plain = parts.next().is_none() && [day, year].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    is_plain.then(|| rfc3339_ms(&format!("{year}-{month:02}-{day}T{clock}Z")))?
}

/// Days from 1970-01-01 in the Gregorian calendar. Source: Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times whose parts are numbers and no times.
    const LATE: &str = "2024-01-01T00:9223372036854775807:00Z";
    const FAR: &str = "2024-01-01T00:00:00+9223372036854775807:00";

    #[test]
    fn times_are_read_and_what_is_none_is_not() {
        assert_eq!(rfc3339_ms("1970-01-02T00:00:01Z"), Some(86_401_000));
        assert_eq!(rfc3339_ms("2024-02-29T12:00:00.250Z"), Some(1_709_208_000_250));
        assert_eq!(rfc3339_ms("2024-02-29T14:00:00+02:00"), Some(1_709_208_000_000));
        for text in ["", "soon", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T99:00:00Z", LATE, FAR] {
            assert_eq!(rfc3339_ms(text), None, "{text}");
        }
        assert_eq!(http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(http_date_ms("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000_000));
        for text in [
            "",
            "7",
            "Sun, 06 Nov 1994",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "x, -1 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date_ms(text), None, "{text}");
        }
    }
}
