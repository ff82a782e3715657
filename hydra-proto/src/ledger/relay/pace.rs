//! How late a server's answers are: what a client says, and how often, follows it.
//!
//! The quickest answer shows what the way takes. What answers take beyond that is time for which messages wait for each
//! other at the server, and whoever says more makes it longer for all.

use crate::ledger::Time;

/// An answer that takes a part in so many longer than the quickest one is not late.
const CHANCE: u32 = 4;
/// Half of what was late is forgotten after this time.
const FADES: Time = Time::from_millis(100);

/// Times of answers to messages of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    quickest: Option<Time>,
    late: Time,
    noted: Time,
}

impl Pace {
    /// An answer has come that took so long.
    pub(super) fn note(&mut self, now: Time, took: Time) {
        self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        self.late = self.late_by(took).max(self.late(now));
        self.noted = now;
    }

    /// By how much answers are late.
    pub(super) fn late(&self, now: Time) -> Time {
        let ago = now.saturating_sub(self.noted).as_nanos() / FADES.as_nanos();
        let halves = 1u32.checked_shl(u32::try_from(ago).unwrap_or(u32::MAX));
        halves.map_or(Time::ZERO, |halves| self.late / halves)
    }

    /// By how much an answer is late that took this long, or that has not come after this time.
    pub(super) fn late_by(&self, took: Time) -> Time {
        let quickest = self.quickest.unwrap_or(took);
        took.saturating_sub(quickest + quickest / CHANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_long_way_is_not_late() {
        let mut pace = Pace::default();
        for n in 1..10 {
            pace.note(ms(100 * n), ms(20 + n % 3));
        }
        assert_eq!(pace.late(ms(900)), ms(0));
        assert_eq!(pace.late_by(ms(60)), ms(35));
    }

    #[test]
    fn what_was_late_is_forgotten_by_and_by() {
        let mut pace = Pace::default();
        pace.note(ms(10), ms(4));
        pace.note(ms(100), ms(85));
        assert_eq!(pace.late(ms(100)), ms(80));
        assert_eq!(pace.late(ms(250)), ms(40));
        pace.note(ms(250), ms(4));
        assert_eq!(pace.late(ms(250)), ms(40));
        assert_eq!(pace.late(ms(100_000)), ms(0));
    }
}
