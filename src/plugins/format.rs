//! Numbers, names and tables for people to read, on terminals of any width.
//!
//! Whatever comes out of a tree goes through [`terminal`] first: file names are hostile. Nothing here knows
//! what a report is about.

mod table;

pub use table::{Column, Table};

use std::fmt::Write as _;

/// Bytes in the largest unit of 1024 that leaves a number of at least 1: `0 B`, `1.5 GiB`, `12 TiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    match unit {
        0 => format!("{whole} B"),
        _ if whole >= 100 => format!("{} {}", (tenths + 5) / 10, UNITS[unit]),
        _ => format!("{whole}.{tenth} {}", UNITS[unit]),
    }
}

/// A number with a comma between thousands: `12,345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share of a whole: `12.3 %`; nothing where there is no whole.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    let mills = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{} %", mills / 10, mills % 10)
}

/// The quotient of two integers with one digit behind the point, rounded: `2.5`; `0.0` where nothing was counted.
#[must_use]
pub fn ratio(sum: u64, number: u64) -> String {
    let number = u128::from(number.max(1));
    let tenths = (u128::from(sum) * 10 + number / 2) / number;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A bar of at most `width` columns.
#[must_use]
pub fn bar(part: u64, whole: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let all = u128::from(whole.max(1));
    let part = u128::from(part).min(all);
    let eighths = (part * width as u128 * 8).div_ceil(all) as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// A moment, given in seconds since 1970: `2026-11-21 10:00:00 UTC`.
#[must_use]
pub fn time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from 1 March, so that the leap day is the last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let january = i64::from(month >= 10);
    (era * 400 + year + january, month + 3 - 12 * january, day)
}

/// A name as a terminal may show it: what is not UTF-8, and every character that could move the cursor,
/// change the order of text or hide, becomes an escape such as `\x1b` or `\u{202e}`; a backslash is doubled.
#[must_use]
pub fn terminal(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if c.is_ascii_control() => push_escaped(&mut out, "x", u32::from(c)),
                c if is_hidden(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for &byte in chunk.invalid() {
            push_escaped(&mut out, "x", u32::from(byte));
        }
    }
    out
}

fn push_escaped(out: &mut String, kind: &str, value: u32) {
    let _ = write!(out, "\\{kind}{value:02x}");
}

/// Characters that are no control characters of ASCII and yet show nothing, or rule over others.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that a text takes: two for wide characters, one for others.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| 1 + usize::from(is_wide(c))).sum()
}

fn is_wide(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}')
}

/// Cuts the middle out of a text that takes more than `width` columns.
#[must_use]
pub fn shorten(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let head = fitting(text.chars(), room / 3);
    let tail = fitting(text.chars().rev(), room - columns(&head));
    format!("{head}…{}", tail.chars().rev().collect::<String>())
}

fn fitting(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += 1 + usize::from(is_wide(*c));
        used <= width
    };
    chars.take_while(fits).collect()
}

/// A text in lines of at most `width` columns, broken between words; all lines but the first are indented. A
/// word that is longer than a line stays whole.
#[must_use]
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut used = 0;
    for (number, word) in text.split(' ').enumerate() {
        let length = columns(word);
        if number > 0 && used + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent;
        } else if number > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// Colours, where they may be used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether they may.
    pub color: bool,
}

impl Style {
    /// A heading.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Something that matters less.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// A bar.
    #[must_use]
    pub fn bar(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A path as JSON shows it: `path`, lossy where it is not UTF-8, and then `path_b64`, exact.
pub fn insert_path(object: &mut serde_json::Map<String, serde_json::Value>, path: &[u8]) {
    use base64::Engine as _;
    let lossy = String::from_utf8_lossy(path).into_owned();
    object.insert("path".to_owned(), lossy.into());
    if std::str::from_utf8(path).is_err() {
        let exact = base64::engine::general_purpose::STANDARD.encode(path);
        object.insert("path_b64".to_owned(), exact.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (150 << 10, "150 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn numbers_have_separators() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_345), "12,345");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(share(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(share(0, 0), "");
        assert_eq!(ratio(5, 2), "2.5");
        assert_eq!(ratio(0, 0), "0.0");
    }

    #[test]
    fn bars_fill_their_width_and_show_even_the_least() {
        assert_eq!(bar(0, 10, 8), "");
        assert_eq!(bar(1, 1_000_000, 8), "▏");
        assert_eq!(bar(5, 10, 8), "████");
        assert_eq!(columns(&bar(u64::MAX, 3, 8)), 8);
        assert_eq!(bar(0, 0, 8), "");
    }

    #[test]
    fn times_follow_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(time(1_795_255_200), "2026-11-21 10:00:00 UTC");
    }

    #[test]
    fn hostile_names_are_harmless() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain name", "plain name"),
            ("Grüße 漢字".as_bytes(), "Grüße 漢字"),
            (b"\x1b[2J\x07", "\\x1b[2J\\x07"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\xff\xfe.txt", "\\xff\\xfe.txt"),
            (
                "\u{202e}txt.exe\u{9b}1m".as_bytes(),
                "\\u{202e}txt.exe\\u{9b}1m",
            ),
            (b"back\\slash", "back\\\\slash"),
        ];
        for (name, shown) in cases {
            assert_eq!(terminal(name), shown);
        }
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shorten("/a/b", 10), "/a/b");
        assert_eq!(shorten("/data/very/long/path/file", 13), "/dat…ath/file");
        assert!(columns(&shorten(&"漢".repeat(50), 11)) <= 11);
        assert_eq!(shorten("abc", 1), "…");
    }

    #[test]
    fn lines_were_longer_than_the_terminal() {
        let text = "Files by age, seen from 2026-11-21 10:00:00 UTC";
        assert_eq!(wrap(text, 80, 2), text);
        let expected = "Files by age, seen from 2026-11-21\n  10:00:00 UTC";
        assert_eq!(wrap(text, 40, 2), expected);
        assert_eq!(wrap("  a  b", 4, 2), "  a \n  b");
        assert_eq!(wrap("/long/path", 4, 2), "/long/path");
    }

    #[test]
    fn paths_in_json_are_exact_even_if_not_utf8() {
        let mut object = serde_json::Map::new();
        insert_path(&mut object, b"/a\xff");
        assert_eq!(object["path"], "/a\u{fffd}");
        assert_eq!(object["path_b64"], "L2H/");
        let mut object = serde_json::Map::new();
        insert_path(&mut object, b"/a");
        assert!(!object.contains_key("path_b64"));
    }
}
