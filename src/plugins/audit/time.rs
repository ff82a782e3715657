//! Points in time as people type them.

/// Seconds since 1970 from `1795255200`, `2026-11-21` or `2026-11-21T10:00:00Z`; a space may stand for the
/// `T`, and a distance from UTC such as `+01:00` for the `Z`, which may be left out.
///
/// # Errors
/// In words, when it is none of these.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    parse_civil(text)
        .ok_or_else(|| "expected seconds since 1970, 2026-11-21 or 2026-11-21T10:00:00Z".to_owned())
}

fn parse_civil(text: &str) -> Option<i64> {
    let date = text.get(..10)?;
    let rest = text.get(10..)?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let month_days = days_of(year, month)?;
    if !(1..=month_days).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400;
    if rest.is_empty() {
        return Some(midnight);
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let [hour, minute, second] = fields(clock.get(..8)?, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = midnight + hour * 3600 + minute * 60 + second;
    Some(local - offset(clock.get(8..)?)?)
}

fn offset(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let [hours, minutes] = fields(text.get(1..)?, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Numbers of so many digits with a separator between them.
fn fields<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        *number = is_number.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(28 + i64::from(is_leap)),
        _ => None,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from 1 March, so that the leap day is the last.
    let year = year - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::format;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("0", 0),
            ("-86400", -86_400),
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2026-11-21T10:00:00Z", 1_795_255_200),
            ("2026-11-21 10:00:00", 1_795_255_200),
            ("2026-11-21T11:30:00+01:30", 1_795_255_200),
            ("2026-11-21T08:00:00-02:00", 1_795_255_200),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-11-21T",
            "2026-11-21T25:00:00Z",
            "2026-11-21T10:00:00X",
            "2026-11-21T10:00:00+1",
            "2026-11-2１",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for seconds in (-3_000_000_000..8_000_000_000).step_by(12_345_678) {
            let shown = format::time(seconds);
            let read = parse(shown.trim_end_matches(" UTC"));
            assert_eq!(read, Ok(seconds), "{shown}");
        }
    }
}
