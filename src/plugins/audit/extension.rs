//! What a file's extension is, as a number that costs no allocation.
//!
//! The extension is what follows the last dot of a name, in lower case, if that dot is neither the first
//! nor the last character. It counts by itself if it has 1 to 16 bytes out of `A-Z a-z 0-9 _ - +`; a longer or
//! stranger one is "(other)", a name without any is "(none)".

use super::category::Category;
use super::table::Key;
use serde::{Deserialize, Serialize};

/// An extension: its bytes, the last one lowest. Plain text, so no two extensions share a number, and
/// short ones are small numbers, which take few bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Extension(u128);

const BYTES_MAX: usize = 16;

/// Bytes of an extension in lower case; 0 for those that none may have.
const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+') {
            table[byte] = b.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

impl Extension {
    /// Of names without one.
    pub(super) const NONE: Self = Self(0);
    /// All that do not count by themselves.
    pub(super) const OTHER: Self = Self(1);

    /// The extension of a file name.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        let mut key = 0;
        for (at, &byte) in name.iter().rev().take(BYTES_MAX + 1).enumerate() {
            if byte == b'.' {
                return Self(if at + 1 == name.len() { 0 } else { key });
            }
            let lower = LOWER[usize::from(byte)];
            if lower == 0 || at == BYTES_MAX {
                return Self::unusual(name);
            }
            key |= u128::from(lower) << (8 * at);
        }
        Self::NONE
    }

    /// For names that do not end in an extension which counts by itself.
    #[cold]
    fn unusual(name: &[u8]) -> Self {
        match name.iter().rposition(|&byte| byte == b'.') {
            None | Some(0) => Self::NONE,
            Some(dot) if dot + 1 == name.len() => Self::NONE,
            Some(_) => Self::OTHER,
        }
    }

    /// How reports show it.
    pub(super) fn text(self) -> String {
        match self {
            Self::NONE => "(none)".to_owned(),
            Self::OTHER => "(other)".to_owned(),
            Self(key) => as_text(&key.to_be_bytes()).to_owned(),
        }
    }

    /// The category of files that have it.
    pub(super) fn category(self) -> Category {
        match self {
            Self::NONE => Category::None,
            Self::OTHER => Category::Other,
            Self(key) => Category::of(as_text(&key.to_be_bytes())),
        }
    }
}

/// The text behind the zeros.
fn as_text(bytes: &[u8; BYTES_MAX]) -> &str {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let text = bytes.get(zeros..).unwrap_or_default();
    // What came over the wire may be anything.
    std::str::from_utf8(text).unwrap_or("(other)")
}

impl Key for Extension {
    type Rank = (u8, u32, u128);

    /// Those with a category stay first; then those that are more than a number, short before long.
    fn rank(&self) -> Self::Rank {
        let bytes = self.0.to_be_bytes();
        let is_number = bytes.iter().all(|&byte| byte == 0 || byte.is_ascii_digit());
        let class = match self.category() {
            _ if self.0 <= Self::OTHER.0 => 0,
            Category::Other if is_number => 3,
            Category::Other => 2,
            _ => 1,
        };
        (class, u128::BITS - self.0.leading_zeros(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_for_extensions() {
        let cases: [(&[u8], &str); 18] = [
            (b"a.txt", "txt"),
            (b"a.TXT", "txt"),
            (b"a.tar.gz", "gz"),
            (b"README", "(none)"),
            (b".bashrc", "(none)"),
            (b".config.json", "json"),
            (b"end.", "(none)"),
            (b"...", "(none)"),
            (b"", "(none)"),
            (b"a.1234567890123456", "1234567890123456"),
            (b"a.12345678901234567", "(other)"),
            (b"a.b c", "(other)"),
            (b"a b", "(none)"),
            (b"a.\xff", "(other)"),
            (b"x.c++", "c++"),
            (b"x.c~", "(other)"),
            (b".12345678901234567890", "(none)"),
            (b"a-very-long-name-without-any-dot-in-it", "(none)"),
        ];
        for (name, expected) in cases {
            assert_eq!(Extension::of(name).text(), expected, "{name:?}");
        }
    }

    #[test]
    fn known_extensions_outrank_short_ones_and_those_outrank_numbers() {
        let rank = |name: &str| Extension::of(name.as_bytes()).rank();
        assert!(rank("none") < rank("a.parquet"));
        assert!(rank("a.parquet") < rank("a.zq"));
        assert!(rank("a.zq") < rank("a.zqq"));
        assert!(rank("a.zqqqqqqqqqqq") < rank("a.123456"));
    }
}
