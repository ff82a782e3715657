//! Items in runs: what is found together and goes the same way has one entry, not one for each item.
//!
//! ```text
//!   parcel: first id 40, dir "a", names b c d e f g h          one allocation
//!   runs:   40 ─ b c ─ child 1 │ 42 ─ d e f ─ pool │ 46 ─ h ─ pool            (45 is done)
//! ```
//!
//! A run is cut where a part of it is taken, given or done. Runs are not joined again: walks go through a run
//! from its end, and others take from its beginning, so there are few cuts.

use super::table::{Entry, Owner};
use crate::ids::{ChildId, IdRange, ItemId};
use crate::item::Item;
use std::collections::BTreeMap;

/// Neighbours of one parcel, of which the same is known.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The first of them.
    pub(super) item: Item,
    pub(super) len: u32,
    pub(super) owner: Owner,
    /// The child that gave them, while they are in the pool.
    pub(super) giver: Option<ChildId>,
    /// Whether this parent's own parent knows them.
    pub(super) recorded: bool,
    /// A child that was lost may have acted on them, which this parent alone knows.
    pub(super) begun: bool,
}

impl Run {
    /// Its items, as the first of them has this id.
    pub(super) fn items(&self, first: ItemId) -> impl Iterator<Item = (ItemId, Item)> {
        (0..self.len).map(move |n| (ItemId(first.0 + u64::from(n)), self.item.nth(n)))
    }

    /// Its ids, as this is the first of them.
    pub(super) fn ids(&self, first: ItemId) -> IdRange {
        IdRange {
            start: first.0,
            end: first.0 + u64::from(self.len),
        }
    }

    /// Roughly the bytes of its items. When it is cut, its parts have as many.
    pub(super) fn content(&self) -> u64 {
        u64::from(self.len) * self.item.share()
    }

    /// Takes off all but the first `len` items.
    pub(super) fn split_off(&mut self, len: u32) -> Self {
        let mut tail = self.clone();
        tail.item = self.item.nth(len);
        tail.len = self.len - len;
        self.len = len;
        tail
    }

    fn entry(&self, n: u32) -> Entry {
        Entry {
            item: self.item.nth(n),
            owner: self.owner,
        }
    }
}

/// Runs by their first ids; no two hold the same id.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<ItemId, Run>);

impl Runs {
    /// The run in which an item is, and how far behind its first.
    pub(super) fn find(&self, id: ItemId) -> Option<(ItemId, u32, &Run)> {
        let (&first, run) = self.0.range(..=id).next_back()?;
        let n = u32::try_from(id.0 - first.0).ok()?;
        (n < run.len).then_some((first, n, run))
    }

    /// One item.
    pub(super) fn get(&self, id: ItemId) -> Option<Entry> {
        self.find(id).map(|(_, n, run)| run.entry(n))
    }

    /// All of them, in the order of ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ItemId, &Run)> {
        self.0.iter().map(|(&first, run)| (first, run))
    }

    /// The part of `range` that lies in the first run that has any of it.
    pub(super) fn first_in(&self, range: IdRange) -> Option<(IdRange, &Run)> {
        let before = self.find(ItemId(range.start));
        let (first, run) = match before {
            Some((first, _, run)) => (first, run),
            None if range.is_empty() => return None,
            None => {
                let (&first, run) = self
                    .0
                    .range(ItemId(range.start)..ItemId(range.end))
                    .next()?;
                (first, run)
            }
        };
        let ids = run.ids(first);
        let part = IdRange {
            start: ids.start.max(range.start),
            end: ids.end.min(range.end),
        };
        (!part.is_empty()).then_some((part, run))
    }

    /// The parts of `range` that are in runs, one after the other.
    pub(super) fn parts_of(&self, range: IdRange) -> impl Iterator<Item = (IdRange, &Run)> {
        let mut left = range;
        std::iter::from_fn(move || {
            let (part, run) = self.first_in(left)?;
            left.start = part.end;
            Some((part, run))
        })
    }

    /// Puts a run in. None of its ids may be here.
    pub(super) fn insert(&mut self, first: ItemId, run: Run) {
        debug_assert!(self.first_in(run.ids(first)).is_none());
        self.0.insert(first, run);
    }

    /// Takes the run out that begins with this item.
    pub(super) fn remove(&mut self, first: ItemId) -> Option<Run> {
        self.0.remove(&first)
    }

    /// Sees to it that a run begins with this item, if it is here: the new run, if one was cut off.
    pub(super) fn cut(&mut self, at: ItemId) -> Option<&Run> {
        let (first, n, _) = self.find(at)?;
        if n == 0 {
            return None;
        }
        let tail = self.0.get_mut(&first)?.split_off(n);
        self.0.insert(at, tail);
        self.0.get(&at)
    }

    /// Marks all of `range` as known to this parent's own parent. It begins and ends where runs do.
    pub(super) fn record(&mut self, range: IdRange) {
        if !range.is_empty() {
            let runs = self.0.range_mut(ItemId(range.start)..ItemId(range.end));
            runs.for_each(|(_, run)| run.recorded = true);
        }
    }

    /// Notes of such runs in `range` that a child which was lost may have acted on them.
    pub(super) fn begin(&mut self, range: IdRange, which: impl Fn(&Run) -> bool) {
        if !range.is_empty() {
            let runs = self.0.range_mut(ItemId(range.start)..ItemId(range.end));
            for (_, run) in runs.filter(|(_, run)| which(run)) {
                run.begun |= run.item.begin();
            }
        }
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
