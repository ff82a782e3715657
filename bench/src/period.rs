//! Periods as people type them: `1ms`, `250us`, `1.5s`, `0`.

use std::time::Duration;

/// Reads a period.
///
/// # Errors
///
/// When it has no unit that is known, or is no number of it. The error says what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    UNITS
        .iter()
        .find_map(|(unit, seconds)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            Duration::try_from_secs_f64(number * seconds).ok()
        })
        .ok_or_else(|| "a period is a number with ns, us, ms or s behind it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        for (text, period) in [
            ("0", Duration::ZERO),
            ("1ms", Duration::from_millis(1)),
            ("250us", Duration::from_micros(250)),
            ("1.5s", Duration::from_millis(1500)),
            ("7ns", Duration::from_nanos(7)),
        ] {
            assert_eq!(parse(text), Ok(period), "{text}");
        }
        for text in ["", "1", "ms", "-1s", "1 h", "nans"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
