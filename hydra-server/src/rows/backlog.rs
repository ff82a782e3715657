//! Whether what waits to be written has become too much, and whether nothing of it is taken any more.

use hydra_proto::ledger::Time;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog {
    most: u64,
    patience: Duration,
    /// Since when nothing was seen to be taken.
    since: Time,
    is_behind: bool,
}

impl Backlog {
    /// More than `most` is too much, until half of it is left; when nothing is taken for as long as `patience`, nobody
    /// takes anything.
    pub(super) fn new(most: u64, patience: Duration) -> Self {
        Self {
            most,
            patience,
            since: Time::ZERO,
            is_behind: false,
        }
    }

    /// So much waits now; `moved` says whether some was taken since the last look. Returns whether it is too much, if
    /// that is news.
    pub(super) fn look(&mut self, now: Time, waiting: u64, moved: bool) -> Option<bool> {
        if moved || waiting == 0 {
            self.since = now;
        }
        let limit = match self.is_behind {
            true => self.most / 2,
            false => self.most,
        };
        let was_behind = std::mem::replace(&mut self.is_behind, waiting > limit);
        (was_behind != self.is_behind).then_some(self.is_behind)
    }

    /// Whoever looks stood still until now: that nothing was seen to be taken means nothing.
    pub(super) fn held_up(&mut self, now: Time) {
        self.since = now;
    }

    /// Whether it was too much at the last look.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// When it will have been waited for long enough, if so much waits.
    pub(super) fn stuck_at(&self, waiting: u64) -> Option<Time> {
        (waiting > 0).then(|| self.since + self.patience)
    }
}
