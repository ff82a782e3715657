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
    /// Incomplete: roots or items were set aside, work was given up, or no client was left.
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
        let walked = outcome.roots_walked + outcome.roots_silent > 0 || outcome.walk.entries > 0;
        match &outcome.ending {
            Ending::Interrupted => Self::Interrupted,
            Ending::Done | Ending::Incomplete(_) if !walked => Self::Nothing,
            Ending::Incomplete(_) => Self::Incomplete,
            Ending::Done if outcome.set_aside_count > 0 => Self::Incomplete,
            Ending::Done if outcome.walk.error_count() > 0 => Self::Unread,
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
    use crate::report::{Part, Run, SetAside};
    use hydra_proto::kept::{KeptPath, PATH_KEPT_MAX};
    use hydra_proto::walk::{FileType, WalkError, WalkSummary};

    fn outcome(roots: &[&str]) -> Outcome {
        let mut walk = WalkSummary::default();
        walk.count(FileType::Directory);
        Outcome {
            plugin: "audit".into(),
            roots: roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
            roots_walked: roots.len(),
            roots_silent: 0,
            ending: Ending::Done,
            walk,
            report: Default::default(),
            set_aside: Vec::new(),
            set_aside_count: 0,
            run: Run::default(),
        }
    }

    fn missing(outcome: &mut Outcome, path: &str) {
        outcome.roots_walked -= 1;
        let message = "no such file or directory";
        let error = WalkError::new(path.as_bytes(), "open", "ENOENT", message);
        outcome.walk.fail(error);
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
        let error = WalkError::new(b"/a/b", "open", "EACCES", "permission denied");
        outcome.walk.fail(error);
        assert_eq!(Exit::decide(&outcome), Exit::Unread);
    }

    #[test]
    fn a_missing_root_counts_by_what_else_there_is() {
        let mut both = outcome(&["/a", "/b"]);
        missing(&mut both, "/b");
        assert_eq!(Exit::decide(&both), Exit::Unread);
        missing(&mut both, "/a");
        both.walk.entries = 0;
        assert_eq!(Exit::decide(&both), Exit::Nothing);
    }

    #[test]
    fn work_left_undone_is_incomplete() {
        let mut aside = outcome(&["/a"]);
        aside.set_aside.push(SetAside {
            path: KeptPath::new(b"/a/b", PATH_KEPT_MAX),
            part: Part::Directory,
            reason: "killed its worker three times".into(),
        });
        aside.set_aside_count = 1;
        assert_eq!(Exit::decide(&aside), Exit::Incomplete);
        let mut alone = outcome(&["/a"]);
        alone.ending = Ending::Incomplete("no client is left".into());
        assert_eq!(Exit::decide(&alone), Exit::Incomplete);
        alone.ending = Ending::Interrupted;
        assert_eq!(Exit::decide(&alone), Exit::Interrupted);
    }

    #[test]
    fn roots_that_did_not_answer_passed_for_done() {
        let mut all = outcome(&["/a"]);
        (all.roots_walked, all.roots_silent, all.walk.entries) = (0, 1, 0);
        all.set_aside.push(SetAside {
            path: KeptPath::new(b"/a", PATH_KEPT_MAX),
            part: Part::Root,
            reason: "it does not answer".into(),
        });
        all.set_aside_count = 1;
        assert_eq!(Exit::decide(&all), Exit::Incomplete);
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
