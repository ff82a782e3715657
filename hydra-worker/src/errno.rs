//! Error numbers in words: the names that reports count by, and what they mean.

use crate::sys::Errno;
use hydra_proto::walk::WalkError;
pub use hydra_proto::words::words;

/// The kind of error that a number stands for: its name, `EACCES` for example.
pub fn name(code: i32) -> String {
    match nix::errno::Errno::from_raw(code) {
        nix::errno::Errno::UnknownErrno => format!("E{code}"),
        known => format!("{known:?}"),
    }
}

/// What a number means, as a lower-case fragment.
pub fn message(code: i32) -> String {
    match nix::errno::Errno::from_raw(code) {
        nix::errno::Errno::UnknownErrno => format!("unknown error {code}"),
        known => known.desc().to_lowercase(),
    }
}

/// The error of a system call on an entry that results show as `path`.
pub(crate) fn walk_error(path: &[u8], operation: &str, errno: Errno) -> WalkError {
    let code = errno.raw_os_error();
    WalkError::new(path, operation, &name(code), &message(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_and_words() {
        let error = walk_error(b"/x", "open", Errno::ACCESS);
        assert_eq!(
            (error.kind.as_str(), error.message.as_str()),
            ("EACCES", "permission denied")
        );
        assert_eq!(name(99_999), "E99999");
    }
}
