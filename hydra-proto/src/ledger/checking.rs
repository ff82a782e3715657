//! Whether a commit may be applied: range by range, so that its cost is that of the message, whatever the ranges hold.

use super::ProtocolError;
use super::table::{Owner, Table};
use crate::ids::{ChildId, IdRange, ItemId};
use crate::item::Parcel;
use crate::message::Commit;
use std::collections::BTreeMap;

/// Ranges of ids that have nothing in common: the end of each, by its start.
#[derive(Default)]
struct Set(BTreeMap<u64, u64>);

impl Set {
    /// The last range that begins at or before `at`, if it ends behind it: its end.
    fn end_at(&self, at: u64) -> Option<u64> {
        let (_, &end) = self.0.range(..=at).next_back()?;
        (end > at).then_some(end)
    }

    /// The first id of `range` that is here.
    fn first_of(&self, range: IdRange) -> Option<ItemId> {
        if range.is_empty() {
            return None;
        }
        if self.end_at(range.start).is_some() {
            return Some(ItemId(range.start));
        }
        let next = self.0.range(range.start..range.end).next();
        next.map(|(&start, _)| ItemId(start))
    }

    /// Adds a range, or names an id of it that is here already.
    fn add(&mut self, range: IdRange) -> Result<(), ItemId> {
        match self.first_of(range) {
            Some(id) => Err(id),
            None if range.is_empty() => Ok(()),
            None => {
                self.0.insert(range.start, range.end);
                Ok(())
            }
        }
    }
}

impl Table {
    /// Whether `commit` may be applied: changes nothing.
    pub(super) fn check(
        &self,
        child: ChildId,
        commit: &Commit,
        leased: &[IdRange],
    ) -> Result<(), ProtocolError> {
        let mut done = Set::default();
        for &range in &commit.done {
            self.check_owned(child, range, &Set::default())?;
            done.add(range).map_err(ProtocolError::NotOwned)?;
        }
        let new = self.check_new(&commit.new, leased)?;
        let mut gone = Set::default();
        let failed = commit.failed.iter().map(|fail| IdRange::one(fail.id));
        for range in commit.give.iter().copied().chain(failed) {
            self.check_owned(child, range, &new)?;
            if let Some(id) = done.first_of(range) {
                return Err(ProtocolError::NotOwned(id));
            }
            gone.add(range).map_err(ProtocolError::NotOwned)?;
        }
        let (begun, given) = (count(&commit.begun), count(&commit.give));
        match commit.begun.first() {
            Some(range) if begun > given => Err(ProtocolError::NotOwned(ItemId(range.start))),
            _ => Ok(()),
        }
    }

    /// Whether a child owns all of `range`, or is about to as it is `new`.
    fn check_owned(&self, child: ChildId, range: IdRange, new: &Set) -> Result<(), ProtocolError> {
        let mut at = range.start;
        while at < range.end {
            at = match (new.end_at(at), self.runs.find(ItemId(at))) {
                (Some(end), _) => end,
                (None, Some((first, _, run))) if run.owner == Owner::Child(child) => {
                    run.ids(first).end
                }
                _ => return Err(ProtocolError::NotOwned(ItemId(at))),
            };
        }
        Ok(())
    }

    fn check_new(&self, parcels: &[Parcel], leased: &[IdRange]) -> Result<Set, ProtocolError> {
        let mut seen = Set::default();
        for parcel in parcels {
            parcel.check().map_err(ProtocolError::BadItem)?;
            let ids = parcel.ids();
            let mut at = ids.start;
            while at < ids.end {
                let lease = leased.iter().find(|range| range.contains(ItemId(at)));
                at = lease.ok_or(ProtocolError::NotLeased(ItemId(at)))?.end;
            }
            if let Some(id) = self.first_known(ids) {
                return Err(ProtocolError::Repeated(id));
            }
            seen.add(ids).map_err(ProtocolError::Repeated)?;
        }
        Ok(seen)
    }
}

fn count(ranges: &[IdRange]) -> u64 {
    let lengths = ranges.iter().map(IdRange::len);
    lengths.fold(0, u64::saturating_add)
}
