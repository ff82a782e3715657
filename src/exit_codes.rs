//! The exit statuses, and which of them an outcome deserves.

use crate::report::{Ending, Outcome};
use std::process::ExitCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Complete, and every entry was read.
    Complete = 0,
    /// Complete, but some entries could not be read.
    Unread = 1,
    /// Wrong usage: nothing was tried.
    Usage = 2,
    /// Incomplete: items were set aside, work was given up, or no client was left.
    Incomplete = 3,
    /// Nothing was walked: no client, a wrong key, every root missing or refused.
    Nothing = 4,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether the whole tree was walked, as the report's `complete` says.
    #[must_use]
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Complete | Self::Unread)
    }

    /// What `outcome` deserves.
    #[must_use]
    pub fn decide(outcome: &Outcome) -> Self {
        let unserved = !outcome.roots.is_empty() && outcome.unserved.len() >= outcome.roots.len();
        match &outcome.ending {
            Ending::Interrupted => Self::Interrupted,
            _ if unserved && outcome.walk.entries == 0 => Self::Nothing,
            Ending::GivenUp(_) => Self::Incomplete,
            Ending::Done if !outcome.set_aside.is_empty() => Self::Incomplete,
            Ending::Done if outcome.errors().error_count() > 0 => Self::Unread,
            Ending::Done => Self::Complete,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SetAside, Unserved};
    use hydra_proto::walk::{FileType, WalkError};

    fn outcome(roots: &[&str]) -> Outcome {
        let mut outcome = Outcome {
            roots: roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
            ..Outcome::default()
        };
        outcome.walk.count(FileType::Directory);
        outcome
    }

    fn missing(path: &str) -> Unserved {
        Unserved {
            path: path.into(),
            kind: "ENOENT".into(),
            reason: "no such file or directory".into(),
        }
    }

    #[test]
    fn a_whole_walk_is_complete() {
        assert_eq!(Exit::decide(&outcome(&["/a"])), Exit::Complete);
    }

    #[test]
    fn an_unread_entry_shows() {
        let mut outcome = outcome(&["/a"]);
        outcome.walk.vanished = 3;
        assert_eq!(Exit::decide(&outcome), Exit::Complete);
        outcome.walk.fail(WalkError {
            path: b"/a/b".to_vec(),
            operation: "open".into(),
            kind: "EACCES".into(),
            message: "permission denied".into(),
        });
        assert_eq!(Exit::decide(&outcome), Exit::Unread);
    }

    #[test]
    fn a_missing_root_counts_by_what_else_there_is() {
        let mut both = outcome(&["/a", "/b"]);
        both.unserved.push(missing("/b"));
        assert_eq!(Exit::decide(&both), Exit::Unread);
        both.unserved.push(missing("/a"));
        both.walk = Default::default();
        assert_eq!(Exit::decide(&both), Exit::Nothing);
    }

    #[test]
    fn work_left_undone_is_incomplete() {
        let mut aside = outcome(&["/a"]);
        aside.set_aside.push(SetAside {
            path: b"/a/b".to_vec(),
            reason: "killed its worker three times".into(),
        });
        assert_eq!(Exit::decide(&aside), Exit::Incomplete);
        let mut alone = outcome(&["/a"]);
        alone.ending = Ending::GivenUp("no client is left".into());
        assert_eq!(Exit::decide(&alone), Exit::Incomplete);
        alone.ending = Ending::Interrupted;
        assert_eq!(Exit::decide(&alone), Exit::Interrupted);
    }

    #[test]
    fn statuses_are_the_documented_numbers() {
        let all = [
            Exit::Complete,
            Exit::Unread,
            Exit::Usage,
            Exit::Incomplete,
            Exit::Nothing,
            Exit::Interrupted,
        ];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 130]);
        assert_eq!(
            all.map(Exit::is_complete),
            [true, true, false, false, false, false]
        );
    }
}
