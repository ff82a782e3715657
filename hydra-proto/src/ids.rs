//! Names for things that parents and children talk about. All are plain numbers on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One job of one server: drawn at random when the job starts, part of every [`Epoch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// One session of one child. A number is never used twice within a job, so nothing that belongs to a
/// session that was given up can be mistaken for the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The job that the session belongs to.
    pub job: JobId,
    /// Counts the sessions that this parent has opened in this job.
    pub number: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.job.0, self.number)
    }
}

/// Proves that a session is resumed by the child that began it. Not shown by `Debug`, which ends up in logs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A work item. One id space serves both levels, because ids are handed down in leases.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct ItemId(pub u64);

/// Which of the job's roots a path is relative to: an index into the job's list.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct RootId(pub u32);

/// A child as its parent numbers it, for as long as the parent remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChildId(pub u32);

/// One connection of a child to its parent, numbered by the parent's shell and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// Ids from `start` up to and not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct IdRange {
    /// The first id.
    pub start: u64,
    /// One past the last id.
    pub end: u64,
}

impl IdRange {
    /// The range that holds only `id`.
    #[must_use]
    pub fn one(id: ItemId) -> Self {
        Self {
            start: id.0,
            end: id.0.saturating_add(1),
        }
    }

    /// How many ids it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether `id` lies in it.
    #[must_use]
    pub fn contains(&self, id: ItemId) -> bool {
        (self.start..self.end).contains(&id.0)
    }

    /// Takes `count` ids off the front; `None`, and nothing taken, when there are fewer.
    pub fn take(&mut self, count: u64) -> Option<Self> {
        let end = self.start.checked_add(count)?;
        if end > self.end {
            return None;
        }
        let taken = Self {
            start: self.start,
            end,
        };
        self.start = end;
        Some(taken)
    }

    /// The ids in order.
    pub fn iter(self) -> impl Iterator<Item = ItemId> {
        (self.start..self.end).map(ItemId)
    }
}

/// Sorts `ids` and joins neighbours, so that a list of ids costs what its gaps cost.
#[must_use]
pub fn join_ids(mut ids: Vec<ItemId>) -> Vec<IdRange> {
    ids.sort_unstable();
    let mut ranges: Vec<IdRange> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some(last) if last.end == id.0 => last.end += 1,
            _ => ranges.push(IdRange::one(id)),
        }
    }
    ranges
}

/// Sorts `ranges` and joins neighbours.
#[must_use]
pub fn join_ranges(mut ranges: Vec<IdRange>) -> Vec<IdRange> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joins = last.end == next.start;
        if joins {
            last.end = next.end;
        }
        joins
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined() {
        let ids = [5, 1, 2, 9, 6, 3].map(ItemId).to_vec();
        let ranges = join_ids(ids);
        assert_eq!(
            ranges,
            [
                IdRange { start: 1, end: 4 },
                IdRange { start: 5, end: 7 },
                IdRange { start: 9, end: 10 }
            ]
        );
        assert_eq!(ranges.iter().map(IdRange::len).sum::<u64>(), 6);
    }

    #[test]
    fn a_range_gives_no_more_than_it_has() {
        let mut range = IdRange { start: 10, end: 13 };
        assert_eq!(range.take(4), None);
        assert_eq!(range.take(2), Some(IdRange { start: 10, end: 12 }));
        assert_eq!(range.len(), 1);
        assert!(range.contains(ItemId(12)) && !range.contains(ItemId(13)));
    }
}
