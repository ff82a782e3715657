//! What the operating system says of an error, as messages tell it: in words, without its number.

use std::io;

/// What `error` means, as a lower-case fragment.
#[must_use]
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(code) = error.raw_os_error() else {
        return text;
    };
    let number = format!(" (os error {code})");
    let mut text = text.strip_suffix(&number).unwrap_or(&text).to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

/// Why a process or a thread could not be started, as a lower-case fragment that says which limit it was.
#[must_use]
pub fn not_started(error: &io::Error) -> String {
    const EAGAIN: i32 = 11;
    const EMFILE: i32 = 24;
    match error.raw_os_error() {
        Some(EAGAIN) => "this user may have no more processes and threads (ulimit -u)".to_owned(),
        Some(EMFILE) => "this process may have no more open files (ulimit -n)".to_owned(),
        _ => words(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_were_told_with_their_numbers() {
        let words_of = |code| words(&io::Error::from_raw_os_error(code));
        assert_eq!(words_of(2), "no such file or directory");
        assert_eq!(words_of(113), "no route to host");
        assert!(!words_of(99_999).contains("os error"));
        assert_eq!(words(&io::Error::other("Some text")), "Some text");
    }

    #[test]
    fn a_limit_of_processes_was_told_as_a_resource_that_is_away_for_now() {
        let told = |code| not_started(&io::Error::from_raw_os_error(code));
        assert!(told(11).contains("ulimit -u"));
        assert!(told(24).contains("ulimit -n"));
        assert_eq!(told(2), "no such file or directory");
    }
}
