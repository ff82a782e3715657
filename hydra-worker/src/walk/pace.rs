//! What it costs to show an entry, measured buffer by buffer, to tell how much of a large directory is worth
//! giving away.
//!
//! Names travel to another worker at about a tenth of a microsecond each, for whoever reads them. Where showing
//! an entry costs less than that matters, as without a `stat`, a reader that gave away all that is asked for
//! would be slower than alone. It then keeps a larger share of the directory for itself than each of the others gets.

use crate::clock;
use hydra_proto::ledger::Time;

/// Entries that cost less than this, in nanoseconds, are cheap.
const CHEAP_NANOS: u128 = 300;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the showing of this buffer began, and after how many names.
    begun: Option<(Time, u64)>,
    cheap: bool,
    /// Names of the directory that were shown here.
    kept: u64,
    /// Those that were read for others.
    given: u64,
    /// How many others there are.
    others: u64,
}

impl Pace {
    /// Another directory.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// A buffer was filled, after so many names.
    pub(super) fn begin(&mut self, names: u64) {
        self.begun = Some((clock::now(), names));
    }

    /// All names of the buffer were shown: so many by now.
    pub(super) fn end(&mut self, names: u64) {
        if let Some((begun, before)) = self.begun.take() {
            let shown = names.saturating_sub(before);
            let nanos = clock::now().saturating_sub(begun).as_nanos();
            self.cheap = nanos < CHEAP_NANOS * u128::from(shown.max(1));
            self.kept += shown;
        }
    }

    /// So many names were read for so many others.
    pub(super) fn gave(&mut self, names: u64, others: u64) {
        self.given += names;
        self.others = self.others.max(others);
    }

    /// Whether others may have more.
    pub(super) fn may_give(&self) -> bool {
        !self.cheap || self.given <= self.share(self.others)
    }

    /// How many names so many others are due of what was read so far. They are given all at once: cheap entries are
    /// done faster than they are asked for.
    pub(super) fn due(&self, others: u64) -> u64 {
        match self.cheap {
            true => self
                .share(others.max(self.others))
                .saturating_sub(self.given),
            false => 0,
        }
    }

    fn share(&self, others: u64) -> u64 {
        self.kept * 2 / 3 * others.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of which so many cheap entries were shown.
    fn shown(names: u64) -> Pace {
        let mut pace = Pace::default();
        pace.begin(0);
        pace.end(names);
        pace
    }

    #[test]
    fn of_cheap_entries_the_larger_part_is_kept() {
        let mut pace = shown(1_000_000_000);
        assert!(pace.cheap && pace.may_give());
        pace.gave(1_000_000_000, 1);
        assert!(!pace.may_give());
        pace.begin(1_000_000_000);
        pace.end(1_500_000_000);
        assert!(pace.may_give());
    }

    #[test]
    fn those_who_came_late_got_no_more_of_what_was_left() {
        let mut pace = shown(1_000_000_000);
        for _ in 0..6 {
            assert!(pace.may_give());
            pace.gave(100_000_000, 1);
        }
        pace.gave(100_000_000, 1);
        assert!(!pace.may_give());
        pace.gave(500_000_000, 2);
        assert!(pace.may_give());
    }

    #[test]
    fn dear_entries_are_given_whenever_they_are_asked_for() {
        let mut pace = Pace::default();
        pace.gave(1000, 1);
        assert!(pace.may_give());
    }
}
