//! Durations as Go writes them, which is how they stand in the objects: `90s`, `1m30s`, `1.5h`.
//!
//! Not kube's parser: it panics on a sign in the middle (`1s-5s`) and on numbers that are too large.

use std::time::Duration;

/// Why a text is no duration that we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not in Go's notation.
    #[error("not a duration; write numbers with units, such as 90s, 1m30s or 500ms")]
    Malformed,
    /// Below zero.
    #[error("a duration below zero; leave out the sign")]
    Negative,
    /// Beyond what Go can represent, about 292 years.
    #[error("a duration longer than 292 years; write a shorter one")]
    TooLong,
}

/// The units and their nanoseconds. The micro sign (U+00B5) and the Greek letter (U+03BC) look alike.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// Reads a duration. What is finer than a nanosecond is cut off.
/// # Errors
/// See [`DurationError`]. Source: Go's `time.ParseDuration`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after) = split_where(after, |c| c.is_ascii_digit() || c == '.');
        rest = after;
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Malformed)?.1;
        nanos = nanos.checked_add(scaled(number, unit)?).ok_or(DurationError::TooLong)?;
    }
    let nanos = i64::try_from(nanos).map_err(|_| DurationError::TooLong)?;
    match negative && nanos > 0 {
        true => Err(DurationError::Negative),
        false => Ok(Duration::from_nanos(nanos.unsigned_abs())),
    }
}

/// `number`, digits with at most one point, times `unit`.
fn scaled(number: &str, unit: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Malformed);
    }
    let digits = |text: &str| match text {
        "" => Ok(0),
        text => text.parse::<u128>().map_err(|_| DurationError::TooLong),
    };
    // Digits after the 18th are worth less than a nanosecond in every unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let places = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let whole = digits(whole)?.checked_mul(unit).ok_or(DurationError::TooLong)?;
    whole.checked_add(digits(fraction)? * unit / places).ok_or(DurationError::TooLong)
}

/// Splits before the first character that `ends` says yes to.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("+5s", 5_000_000_000),
            ("90s", 90_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("0.9999999999999999999999s", 999_999_999),
            ("9223372036854775807ns", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_without_a_panic() {
        use DurationError::{Malformed, Negative, TooLong};
        for (text, error) in [
            ("", Malformed),
            ("-", Malformed),
            ("90", Malformed),
            ("s", Malformed),
            (".s", Malformed),
            ("1.2.3s", Malformed),
            ("1d", Malformed),
            ("1s-5s", Malformed),
            (" 1s", Malformed),
            ("+-1s", Malformed),
            ("1\u{1f552}", Malformed),
            ("-5s", Negative),
            ("9223372036854775808ns", TooLong),
            ("99999999999999999999999999999999999999999h", TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
