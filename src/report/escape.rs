//! Makes hostile names harmless for terminals and logs.
//!
//! Only the display changes: exact bytes stay in JSON (`path_b64`) and wherever raw output is asked for.

use hydra_proto::kept::{CUT_MARK, KeptPath};
use std::fmt::Write;

/// `bytes` as one line of text that a terminal shows as it is: control characters, invisible and
/// direction-changing characters, backslashes and bytes that are not UTF-8 are written as escapes.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_char(&mut text, c));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The same for a path that may be cut off, with a mark where it is.
#[must_use]
pub fn escape_kept(path: &KeptPath) -> String {
    let mark = if path.cut { CUT_MARK } else { "" };
    escape(&path.bytes) + mark
}

fn push_char(text: &mut String, c: char) {
    match c {
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c if c.is_ascii_control() => {
            let _ = write!(text, "\\x{:02x}", u32::from(c));
        }
        c if c.is_control() || is_invisible(c) => {
            let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
        }
        c => text.push(c),
    }
}

/// Characters that show nothing, or change the direction or the order of what stands beside them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        assert_eq!(escape("a b/ü'\"".as_bytes()), "a b/ü'\"");
    }

    #[test]
    fn what_could_move_the_cursor_is_spelt_out() {
        assert_eq!(escape(b"a\x1b[2J\n\r\t\x7f"), "a\\x1b[2J\\n\\r\\t\\x7f");
        assert_eq!(escape("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(escape("gpj\u{202e}exe".as_bytes()), "gpj\\u{202e}exe");
    }

    #[test]
    fn bytes_and_backslashes_cannot_be_confused() {
        assert_eq!(escape(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(escape(b"\\xff"), "\\\\xff");
    }
}
