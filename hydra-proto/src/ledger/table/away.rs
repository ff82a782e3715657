//! Items that are not in memory: which they are, and where they went.
//!
//! Of the pool only unread directories go away. They are what a pool can have any number of; and no end of a split
//! directory waits for one. What is set aside goes whatever it is, and does not come back.

use super::{Owner, Table};
use crate::ids::{IdRange, ItemId, RootId};
use crate::item::{Item, Parcel};
use crate::ledger::runs::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of the items that are away. A slot is what they are found under.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Away {
    /// Ranges of ids, by their first.
    ids: BTreeMap<u64, Range>,
    pub(super) slots: BTreeMap<u64, Slot>,
    /// Slots in which all is set aside, and why.
    pub(super) aside: BTreeMap<u64, Arc<str>>,
}

/// Where a range of ids ends, and the slot that its items are under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    end: u64,
    slot: u64,
}

/// Items of the pool under one slot.
#[derive(Debug)]
pub(super) struct Slot {
    roots: BTreeSet<RootId>,
    pub(super) len: u64,
}

impl Away {
    pub(in crate::ledger) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slots of the pool, the oldest first, and under which roots their items lie.
    pub(in crate::ledger) fn slots(
        &self,
    ) -> impl DoubleEndedIterator<Item = (u64, &BTreeSet<RootId>)> {
        self.slots.iter().map(|(&slot, open)| (slot, &open.roots))
    }

    /// The slots of what is set aside, and why it is.
    pub(in crate::ledger) fn aside(&self) -> impl Iterator<Item = (u64, &Arc<str>)> {
        self.aside.iter().map(|(&slot, reason)| (slot, reason))
    }

    /// The same, to go through while they change.
    pub(in crate::ledger) fn copy(&self) -> Vec<(u64, BTreeSet<RootId>)> {
        let slots = self.slots();
        slots.map(|(slot, roots)| (slot, roots.clone())).collect()
    }

    /// The first id of `range` that is away.
    pub(super) fn first_in(&self, range: IdRange) -> Option<ItemId> {
        Some(self.find(range)?.0)
    }

    /// The slot of the first id of `range` that is away, if that is one of the pool.
    pub(in crate::ledger) fn slot_in(&self, range: IdRange) -> Option<u64> {
        let (_, slot) = self.find(range)?;
        self.slots.contains_key(&slot).then_some(slot)
    }

    fn find(&self, range: IdRange) -> Option<(ItemId, u64)> {
        if range.is_empty() {
            return None;
        }
        let before = self.ids.range(..=range.start).next_back();
        if let Some((_, found)) = before.filter(|(_, found)| found.end > range.start) {
            return Some((ItemId(range.start), found.slot));
        }
        let next = self.ids.range(range.start..range.end).next();
        next.map(|(&start, found)| (ItemId(start), found.slot))
    }

    /// Neighbours in one slot become one: whoever finds many siblings numbers them one after the other.
    pub(super) fn insert(&mut self, range: IdRange, slot: u64) {
        let before = self.ids.range(..range.start).next_back();
        let before = before.filter(|(_, at)| at.end == range.start && at.slot == slot);
        let start = before.map_or(range.start, |(&start, _)| start);
        let next = self.ids.get(&range.end).filter(|at| at.slot == slot);
        let end = next.map_or(range.end, |at| at.end);
        if end > range.end {
            self.ids.remove(&range.end);
        }
        self.ids.insert(start, Range { end, slot });
    }

    fn remove(&mut self, range: IdRange) {
        let found = self.ids.range(..=range.start).next_back();
        let Some((&start, &Range { end, slot })) = found.filter(|(_, at)| at.end >= range.end)
        else {
            return;
        };
        self.ids.remove(&start);
        for (start, end) in [(start, range.start), (range.end, end)] {
            if start < end {
                self.ids.insert(start, Range { end, slot });
            }
        }
    }
}

/// Whether items of this parcel may go away.
pub(super) fn may_go(parcel: &Parcel) -> bool {
    matches!(parcel, Parcel::Dirs(_))
}

impl Table {
    /// Bytes of what is in the pool and may go away.
    pub(in crate::ledger) fn loose(&self) -> u64 {
        self.loose
    }

    /// Runs of the pool that may go away as far as `free` says so, of about so many bytes: those that would be granted
    /// last.
    pub(in crate::ledger) fn pick_loose(
        &self,
        bytes: u64,
        free: impl Fn(&Run) -> bool,
    ) -> Vec<ItemId> {
        let mut picked = 0;
        let last = self.pool.iter().rev();
        let runs = last.filter_map(|&(_, first)| Some((first, self.runs.find(first)?.2)));
        let loose = runs.filter(|(_, run)| may_go(run.item.parcel()) && free(run));
        let fits = |(_, run): &(ItemId, &Run)| {
            let fits = picked < bytes;
            picked += run.content();
            fits
        };
        loose.take_while(fits).map(|(first, _)| first).collect()
    }

    /// These runs in pieces of about so many bytes.
    pub(in crate::ledger) fn in_pieces(&self, runs: &[ItemId], bytes: u64) -> Vec<Vec<ItemId>> {
        let (mut pieces, mut room) = (Vec::<Vec<ItemId>>::new(), 0);
        for &first in runs {
            match pieces.last_mut().filter(|_| room > 0) {
                Some(piece) => piece.push(first),
                None => {
                    pieces.push(vec![first]);
                    room = bytes;
                }
            }
            let content = self.runs.find(first).map_or(0, |(_, _, run)| run.content());
            room = room.saturating_sub(content);
        }
        pieces
    }

    /// These runs, as they travel: apart, as they are known to this parent's own parent or not.
    pub(in crate::ledger) fn pack_runs(&self, runs: &[ItemId]) -> [(bool, Vec<Parcel>); 2] {
        [false, true].map(|recorded| {
            let found = runs.iter().filter_map(|&first| self.runs.find(first));
            let found = found.filter(|(_, _, run)| run.recorded == recorded);
            let items = found.flat_map(|(first, _, run)| run.items(first));
            (recorded, Item::pack(items))
        })
    }

    /// Forgets all of these runs but that they are in the pool, and found under this slot.
    pub(in crate::ledger) fn put_away(&mut self, runs: &[ItemId], slot: u64) {
        let (mut roots, mut len) = (BTreeSet::new(), 0);
        for &first in runs {
            let ids = self.runs.find(first).map(|(first, _, run)| run.ids(first));
            if let Some((first, run)) = ids.and_then(|ids| self.exit(ids)) {
                self.counts.pool += u64::from(run.len);
                len += u64::from(run.len);
                self.away.insert(run.ids(first), slot);
                roots.insert(run.item.root());
            }
        }
        self.away.slots.insert(slot, Slot { roots, len });
    }

    /// Takes items that were away into the pool again.
    pub(in crate::ledger) fn bring_back(&mut self, items: Vec<Parcel>, recorded: bool) {
        for parcel in items {
            let ids = parcel.ids();
            self.away.remove(ids);
            self.counts.pool -= ids.len();
            let run = Run {
                len: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                item: Item::first_of(parcel),
                owner: Owner::Pool,
                giver: None,
                recorded,
                begun: false,
            };
            self.place(ItemId(ids.start), run);
        }
    }

    /// Nothing is found under this slot any more.
    pub(in crate::ledger) fn forget_slot(&mut self, slot: u64) {
        self.away.slots.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> IdRange {
        IdRange { start, end }
    }

    #[test]
    fn ranges_of_one_slot_are_joined_and_cut_again() {
        let mut away = Away::default();
        for (start, end, slot) in [
            (10, 20, 1),
            (30, 40, 1),
            (20, 30, 1),
            (50, 51, 1),
            (51, 60, 2),
        ] {
            away.insert(range(start, end), slot);
        }
        let at = |end, slot| Range { end, slot };
        let joined = [(10, at(40, 1)), (50, at(51, 1)), (51, at(60, 2))];
        assert_eq!(away.ids, BTreeMap::from(joined));
        assert_eq!(away.first_in(range(0, 10)), None);
        assert_eq!(away.first_in(range(0, 11)), Some(ItemId(10)));
        assert_eq!(away.first_in(range(39, 60)), Some(ItemId(39)));
        assert_eq!(away.first_in(range(40, 60)), Some(ItemId(50)));
        away.remove(range(15, 20));
        away.remove(range(30, 40));
        away.remove(range(50, 51));
        let cut = [(10, at(15, 1)), (20, at(30, 1)), (51, at(60, 2))];
        assert_eq!(away.ids, BTreeMap::from(cut));
    }
}
