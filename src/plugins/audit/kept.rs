//! The entries that hold a record.

pub(super) use hydra_proto::kept::{KeptPath, clip};
use hydra_proto::reduce::Summary;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// The entry with the largest number so far; of equal ones the first by path bytes. Paths are kept up to
/// `LIMIT` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record<const LIMIT: usize>(Option<(u64, KeptPath)>);

impl<const LIMIT: usize> Record<LIMIT> {
    /// Whether an entry with this number may hold the record, so that its path is worth finding out.
    #[inline]
    pub(super) fn wants(&self, number: u64) -> bool {
        self.0.as_ref().is_none_or(|best| number >= best.0)
    }

    /// Shows an entry.
    pub(super) fn offer(&mut self, number: u64, path: &[u8]) {
        let new = (Reverse(number), clip(path, LIMIT));
        let beaten = |best: &(u64, KeptPath)| new < (Reverse(best.0), best.1.parts());
        if self.0.as_ref().is_none_or(beaten) {
            self.0 = Some((number, KeptPath::new(path, LIMIT)));
        }
    }

    /// The number that another one has to reach.
    pub(super) fn bar(&self) -> u64 {
        self.0.as_ref().map_or(0, |best| best.0)
    }

    /// The number and the path, if there was any entry.
    pub(super) fn get(&self) -> Option<(u64, &KeptPath)> {
        self.0.as_ref().map(|(number, path)| (*number, path))
    }
}

impl<const LIMIT: usize> Default for Record<LIMIT> {
    fn default() -> Self {
        Self(None)
    }
}

impl<const LIMIT: usize> Summary for Record<LIMIT> {
    fn merge(&mut self, other: Self) {
        let Some((number, path)) = other.0 else {
            return;
        };
        let new = (Reverse(number), path.parts());
        let beaten = |best: &(u64, KeptPath)| new < (Reverse(best.0), best.1.parts());
        if self.0.as_ref().is_none_or(beaten) {
            self.0 = Some((number, path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_wins_and_of_equals_the_first_by_bytes() {
        let mut record = Record::<8>::default();
        assert!(record.wants(0));
        record.offer(3, b"/b");
        record.offer(3, b"/a");
        record.offer(3, b"/c");
        record.offer(2, b"/");
        assert!(record.wants(3) && !record.wants(2));
        assert_eq!(record.get(), Some((3, &KeptPath::new(b"/a", 8))));
        let mut other = Record::default();
        other.offer(3, b"/A");
        record.merge(other);
        record.merge(Record::default());
        assert_eq!(record.get(), Some((3, &KeptPath::new(b"/A", 8))));
    }

    #[test]
    fn a_cut_path_is_marked_and_comes_behind_the_whole_one() {
        let mut record = Record::<4>::default();
        record.offer(1, b"/abcd");
        assert!(record.get().unwrap().1.cut);
        record.offer(1, b"/abc");
        assert_eq!(record.get(), Some((1, &KeptPath::new(b"/abc", 4))));
    }
}
