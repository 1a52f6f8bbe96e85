//! Durations and sizes as people write them: `1h 30m`, `4GiB`.

use std::time::Duration;

/// Units of time and their nanoseconds, largest first.
const TIME: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Units of size and their bytes.
const SIZE: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Why a quantity was not understood: the message, and what to write instead.
pub type Misread = (String, String);

/// Reads `30m`, `1h 30m`, `1.5s`; zero is refused, because no limit here means "at once".
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn duration(text: &str) -> Result<Duration, Misread> {
    let example = || "write it like \"90s\", \"30m\" or \"1h 30m\"; the units are d, h, m, s, ms, us".to_owned();
    let mut total: u128 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(("an empty duration".to_owned(), example()));
    }
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest);
        if number.is_empty() {
            return Err((format!("`{text}` is not a duration"), example()));
        }
        if unit.is_empty() {
            return Err((
                format!("the duration `{text}` lacks a unit after {number}"),
                format!("write \"{number}s\" for seconds or \"{number}m\" for minutes"),
            ));
        }
        let Some((_, nanoseconds)) = TIME.iter().find(|(name, _)| *name == unit) else {
            return Err((format!("`{unit}` is not a unit of time"), example()));
        };
        let part = scaled(number, *nanoseconds).ok_or_else(|| (format!("`{number}` is not a number"), example()))?;
        total += u128::from(part);
        rest = after.trim_start();
    }
    match u64::try_from(total) {
        Ok(0) => Err((
            format!("`{text}` is no time at all"),
            "leave a limit out for none; of `retry`, backoff = \"none\" waits for nothing".to_owned(),
        )),
        Ok(total) => Ok(Duration::from_nanos(total)),
        Err(_) => Err((format!("`{text}` is more than 500 years"), "leave the key out for no limit".to_owned())),
    }
}

/// Reads `4GiB`, `512 MB`, `0.5TiB`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, Misread> {
    let example =
        || "write it like \"512MiB\" or \"4GiB\"; the units are B, KiB, MiB, GiB, TiB and kB, MB, GB, TB".to_owned();
    let (number, unit, rest) = number_and_unit(text.trim());
    if number.is_empty() || !rest.is_empty() {
        return Err((format!("`{text}` is not a size"), example()));
    }
    if unit.is_empty() {
        return Err((format!("the size `{text}` lacks a unit"), format!("write \"{number}MiB\" or \"{number}GiB\"")));
    }
    let Some((_, bytes)) = SIZE.iter().find(|(name, _)| *name == unit) else {
        let near = SIZE.iter().find(|(name, _)| name.to_lowercase().starts_with(&unit.to_lowercase()));
        let hint = near.map_or_else(example, |(name, _)| format!("write \"{number}{name}\""));
        return Err((format!("`{unit}` is not a unit of size"), hint));
    };
    match scaled(number, *bytes) {
        Some(0) => Err((format!("`{text}` is nothing at all"), "leave the key out for no limit".to_owned())),
        Some(bytes) => Ok(bytes),
        None => Err((format!("`{number}` is not a number that fits"), example())),
    }
}

/// Whether a size is one that anything can be done with; `what` is the key.
pub(crate) fn at_least(bytes: u64, min: u64, text: &str, what: &str) -> Result<(), Misread> {
    let mebibytes = min.div_ceil(1 << 20);
    if bytes >= min {
        return Ok(());
    }
    Err((
        format!("`{text}` is too little: no command runs in less than {mebibytes}MiB"),
        format!("write {what} = \"512MiB\", or what it needs"),
    ))
}

/// Splits `1.5 GiB rest` into number, unit and what follows.
fn number_and_unit(text: &str) -> (&str, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    (number, unit, rest)
}

/// `number` × `unit` without rounding whole numbers; `None` when it is no number or does not fit.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let product = number.parse::<f64>().ok()? * unit as f64;
    (product.is_finite() && product < u64::MAX as f64).then_some(product.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        for (text, seconds) in
            [("90s", 90.0), ("1h 30m", 5400.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("250ms", 0.25), ("2d", 172_800.0)]
        {
            assert_eq!(duration(text).map(|d| d.as_secs_f64()), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn a_duration_says_what_it_lacks() {
        for (text, message) in [
            ("30", "the duration `30` lacks a unit after 30"),
            ("5 parsecs", "`parsecs` is not a unit of time"),
            ("soon", "`soon` is not a duration"),
            ("0s", "`0s` is no time at all"),
            ("99999999999d", "`99999999999` is not a number"),
            ("", "an empty duration"),
            ("1.2.3s", "`1.2.3` is not a number"),
        ] {
            assert_eq!(duration(text).unwrap_err().0, message);
        }
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        for (text, bytes) in [("4GiB", 4 << 30), ("4 GB", 4_000_000_000), ("0.5KiB", 512), ("7B", 7)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(at_least(1 << 20, 1 << 20, "1MiB", "memory").is_ok());
        assert!(at_least(1024, 1 << 20, "1KiB", "memory").unwrap_err().0.contains("less than 1MiB"));
        assert_eq!(size("4gb").unwrap_err().1, "write \"4GB\"");
        assert_eq!(size("4096").unwrap_err().0, "the size `4096` lacks a unit");
    }
}
