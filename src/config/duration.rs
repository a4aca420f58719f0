//! Durations as Go writes them: `100ms`, `1m30s`, `1.5h`, `0s` (Go `time.ParseDuration`).

use std::time::Duration;

/// The units and their lengths in nanoseconds. `µ` has two code points.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Longest duration: Go's, in nanoseconds.
const MAX: u128 = i64::MAX as u128;

/// Reads a duration. What is smaller than a nanosecond is cut off.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: want one such as \"100ms\", \"20s\" or \"1m30s\"");
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.starts_with('-') {
        return Err(format!("{text:?} is less than nothing"));
    }
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (unsigned, 0_u128);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        nanos = amount(number, *length).and_then(|part| part.checked_add(nanos)).ok_or_else(wrong)?;
        rest = after;
    }
    if nanos > MAX {
        return Err(format!("{text:?} is longer than 292 years"));
    }
    Ok(Duration::from_nanos(u64::try_from(nanos).map_err(|_| wrong())?))
}

/// `number` times `length`, in nanoseconds. At least one digit must stand before or after the point.
fn amount(number: &str, length: u128) -> Option<u128> {
    /// Digits beyond these are worth less than a nanosecond of an hour.
    const DIGITS: usize = 13;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let fraction: String = fraction.chars().take(DIGITS).collect();
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.into() };
    whole.checked_mul(length)?.checked_add(fraction.checked_mul(length)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100_000_000),
            ("20s", 20_000_000_000),
            ("1m30s", 90_000_000_000),
            ("+1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("0.1234567899s", 123_456_789),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for bad in [
            "",
            "+",
            "3",
            "s",
            ".s",
            "1.2.3s",
            "3 s",
            "10 ",
            "1d",
            "-1s",
            "99999999999999999999s",
            "2562048h",
            "1s-1s",
            "é",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
