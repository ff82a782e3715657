//! Paths and texts that are kept up to a limit only.
//!
//! The tree chooses how long its paths are, and plugins and errors how much they say; what is kept of them has to fit
//! into one message. Comparing what is kept, and showing what is kept, gives the same result in any order.

use serde::{Deserialize, Serialize};

/// How much reports keep of a path, in bytes.
pub const PATH_KEPT_MAX: usize = 4096;
/// What stands where the rest of a text is cut off.
pub const CUT_MARK: &str = "…";

/// A path as results show it, cut off behind a limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptPath {
    /// Its first bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Whether there are more.
    pub cut: bool,
}

impl KeptPath {
    /// Keeps at most `limit` bytes of `path`.
    #[must_use]
    pub fn new(path: &[u8], limit: usize) -> Self {
        let (bytes, cut) = clip(path, limit);
        let bytes = bytes.to_vec();
        Self { bytes, cut }
    }

    /// The bytes, and whether there are more: as [`clip`] returns them.
    #[must_use]
    pub fn parts(&self) -> (&[u8], bool) {
        (&self.bytes, self.cut)
    }

    /// Keeps at most `limit` bytes of what is kept.
    pub fn shorten(&mut self, limit: usize) {
        self.cut |= self.bytes.len() > limit;
        self.bytes.truncate(limit);
    }
}

/// What [`KeptPath::new`] would keep.
#[must_use]
pub fn clip(path: &[u8], limit: usize) -> (&[u8], bool) {
    path.get(..limit)
        .map_or((path, false), |head| (head, path.len() > limit))
}

/// Keeps at most `limit` bytes of a text, [`CUT_MARK`] included where something is cut off.
pub fn shorten(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = limit.saturating_sub(CUT_MARK.len());
        text.truncate(text.floor_char_boundary(end));
        text.push_str(CUT_MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_behind_the_limit_and_says_so() {
        assert_eq!(
            KeptPath::new(b"/abc", 4).parts(),
            (b"/abc".as_slice(), false)
        );
        let mut kept = KeptPath::new(b"/abcd", 4);
        assert_eq!(kept.parts(), (b"/abc".as_slice(), true));
        kept.shorten(4);
        assert_eq!(kept.parts(), (b"/abc".as_slice(), true));
        kept.shorten(2);
        assert_eq!(kept.parts(), (b"/a".as_slice(), true));
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let cut = |text: &str, limit| {
            let mut text = text.to_owned();
            shorten(&mut text, limit);
            text
        };
        assert_eq!(cut("ääää", 8), "ääää");
        assert_eq!(cut("ääää", 7), "ää…");
        assert_eq!(cut("ääää", 6), "ä…");
        assert_eq!(cut(&cut("abcdefgh", 6), 6), "abc…");
    }
}
