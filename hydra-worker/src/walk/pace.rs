//! What it costs to show an entry, measured buffer by buffer, to tell how much of a large directory is worth
//! giving away.
//!
//! Names travel to another worker at about a tenth of a microsecond each, for whoever reads them. Where showing
//! an entry costs less than that matters, as without a `stat`, a reader that gave away all that is asked for
//! would be slower than alone. It then keeps the larger part for itself.

use crate::clock;
use hydra_proto::ledger::Time;

/// Entries that cost less than this, in nanoseconds, are cheap.
const CHEAP_NANOS: u128 = 300;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the showing of this buffer began, and after how many names.
    begun: Option<(Time, u64)>,
    cheap: bool,
    /// Entries to be shown here before more are given away.
    owed: u64,
}

impl Pace {
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
            self.owed = self.owed.saturating_sub(shown);
        }
    }

    /// So many names were read for others.
    pub(super) fn gave(&mut self, names: u64) {
        if self.cheap {
            self.owed = names + names / 2;
        }
    }

    /// Whether others may have more.
    pub(super) fn may_give(&self) -> bool {
        self.owed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_cheap_entries_the_larger_part_is_kept() {
        let mut pace = Pace::default();
        pace.begin(0);
        pace.end(1_000_000_000);
        assert!(pace.cheap && pace.may_give());
        pace.gave(1000);
        assert!(!pace.may_give());
        pace.begin(0);
        pace.end(1400);
        assert!(!pace.may_give());
        pace.begin(1400);
        pace.end(1500);
        assert!(pace.may_give());
    }

    #[test]
    fn dear_entries_are_given_whenever_they_are_asked_for() {
        let mut pace = Pace::default();
        pace.gave(1000);
        assert!(pace.may_give());
    }
}
