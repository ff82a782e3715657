//! What cannot be finished, and stays until the job ends: runs of neighbours that share a reason, in memory or away.

use super::{RUN_BYTES, Table};
use crate::ids::{IdRange, ItemId};
use crate::item::{Item, Parcel};
use crate::ledger::runs::Run;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most of a reason that is kept, in bytes.
const REASON_MAX: usize = 1024;

/// An item that cannot be finished.
#[derive(Clone, Debug)]
pub struct Aside {
    /// Its number.
    pub id: ItemId,
    /// The item.
    pub item: Item,
    /// Why, in words.
    pub reason: Arc<str>,
}

/// Neighbours of one parcel.
#[derive(Debug)]
struct AsideRun {
    item: Item,
    len: u32,
    reason: Arc<str>,
}

impl AsideRun {
    fn bytes(&self) -> u64 {
        u64::from(self.len) * self.item.share() + RUN_BYTES + self.reason.len() as u64
    }

    fn end(&self, first: ItemId) -> u64 {
        first.0 + u64::from(self.len)
    }
}

/// Those that are in memory, by their first ids.
#[derive(Debug, Default)]
pub(super) struct Asides {
    runs: BTreeMap<ItemId, AsideRun>,
    bytes: u64,
}

impl Asides {
    /// Roughly the bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn insert(&mut self, first: ItemId, run: AsideRun) {
        self.bytes += run.bytes();
        self.runs.insert(first, run);
    }

    fn remove_run(&mut self, first: ItemId) -> Option<AsideRun> {
        let run = self.runs.remove(&first)?;
        self.bytes -= run.bytes();
        Some(run)
    }

    fn find(&self, id: ItemId) -> Option<ItemId> {
        let (&first, run) = self.runs.range(..=id).next_back()?;
        (id.0 < run.end(first)).then_some(first)
    }

    /// The first id of `range` that is here.
    pub(super) fn first_in(&self, range: IdRange) -> Option<ItemId> {
        if self.runs.is_empty() || range.is_empty() {
            return None;
        }
        let start = ItemId(range.start);
        if self.find(start).is_some() {
            return Some(start);
        }
        let next = self.runs.range(start..ItemId(range.end)).next();
        next.map(|(&first, _)| first)
    }

    /// Takes one item out.
    fn take(&mut self, id: ItemId) -> Option<Aside> {
        let first = self.find(id)?;
        let run = self.remove_run(first)?;
        let n = (id.0 - first.0) as u32;
        for (from, to) in [(0, n), (n + 1, run.len)] {
            if from < to {
                let (item, len) = (run.item.nth(from), to - from);
                let reason = Arc::clone(&run.reason);
                let part = AsideRun { item, len, reason };
                self.insert(ItemId(first.0 + u64::from(from)), part);
            }
        }
        let (item, reason) = (run.item.nth(n), run.reason);
        Some(Aside { id, item, reason })
    }

    fn iter(&self) -> impl Iterator<Item = Aside> {
        self.runs.iter().flat_map(|(first, run)| {
            (0..run.len).map(|n| Aside {
                id: ItemId(first.0 + u64::from(n)),
                item: run.item.nth(n),
                reason: Arc::clone(&run.reason),
            })
        })
    }
}

/// A reason as it is kept.
pub(in crate::ledger) fn reason(text: &str) -> Arc<str> {
    let end = (0..=REASON_MAX.min(text.len())).rev();
    let end = end.into_iter().find(|&at| text.is_char_boundary(at));
    Arc::from(text.get(..end.unwrap_or(0)).unwrap_or_default())
}

impl Table {
    /// The items that are set aside and in memory, by id.
    pub(in crate::ledger) fn aside(&self) -> impl Iterator<Item = Aside> {
        self.aside.iter()
    }

    /// How many entries they take.
    pub(in crate::ledger) fn aside_runs(&self) -> usize {
        self.aside.runs.len()
    }

    /// Those in `range`.
    pub(in crate::ledger) fn aside_in(&self, range: IdRange) -> impl Iterator<Item = Aside> {
        let mut left = range;
        let mut parts = std::iter::from_fn(move || {
            let start = self.aside.first_in(left)?;
            let first = self.aside.find(start)?;
            let run = self.aside.runs.get(&first)?;
            left.start = run.end(first).min(left.end);
            Some((first, run, start.0..left.start))
        });
        std::iter::from_fn(move || parts.next()).flat_map(|(first, run, ids)| {
            ids.map(move |id| Aside {
                id: ItemId(id),
                item: run.item.nth((id - first.0) as u32),
                reason: Arc::clone(&run.reason),
            })
        })
    }

    /// Brings items back that are set aside.
    pub(in crate::ledger) fn restore_aside(&mut self, items: Vec<Parcel>, text: &str) {
        let reason = reason(text);
        for parcel in items {
            let ids = parcel.ids();
            if ids.is_empty() {
                continue;
            }
            let run = AsideRun {
                len: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                item: Item::first_of(parcel),
                reason: Arc::clone(&reason),
            };
            self.counts.aside += ids.len();
            self.aside.insert(ItemId(ids.start), run);
        }
    }

    /// Moves one item to where it stays until the job ends.
    pub(in crate::ledger) fn set_aside(&mut self, id: ItemId, text: &str) -> bool {
        self.set_all_aside(IdRange::one(id), &reason(text)).is_ok()
    }

    /// Moves all of `range` there, or as much as is open in front of the first item that is not.
    pub(in crate::ledger) fn set_all_aside(
        &mut self,
        mut range: IdRange,
        reason: &Arc<str>,
    ) -> Result<(), ItemId> {
        while !range.is_empty() {
            let open = self.runs.first_in(range).map(|(part, _)| part.start);
            let run = self.remove(range, true);
            let Some((first, Run { item, len, .. })) = run.filter(|_| open == Some(range.start))
            else {
                return Err(ItemId(range.start));
            };
            range.start = first.0 + u64::from(len);
            self.counts.aside += u64::from(len);
            let reason = Arc::clone(reason);
            self.aside.insert(first, AsideRun { item, len, reason });
        }
        Ok(())
    }

    /// Forgets an item set aside here, because this parent's own parent keeps it now.
    pub(in crate::ledger) fn report_aside(&mut self, id: ItemId) {
        if self.aside.take(id).is_some() {
            self.counts.aside -= 1;
            self.counts.given_up += 1;
        }
    }

    /// Runs that share a reason, of about so many bytes, as they travel; with the reason and how many items there are.
    pub(in crate::ledger) fn pack_aside(
        &self,
        bytes: u64,
    ) -> Option<(Vec<ItemId>, Vec<Parcel>, Arc<str>)> {
        let shared = Arc::clone(&self.aside.runs.first_key_value()?.1.reason);
        let mut picked = 0;
        let runs = self.aside.runs.iter().take_while(|(_, run)| {
            let fits = picked < bytes && run.reason == shared;
            picked += run.bytes();
            fits
        });
        let runs: Vec<_> = runs.collect();
        let items = runs.iter().flat_map(|(first, run)| {
            (0..run.len).map(|n| (ItemId(first.0 + u64::from(n)), run.item.nth(n)))
        });
        let items = Item::pack(items);
        Some((
            runs.iter().map(|(first, _)| **first).collect(),
            items,
            shared,
        ))
    }

    /// Forgets all of these runs but that they are set aside, and found under this slot.
    pub(in crate::ledger) fn put_aside_away(
        &mut self,
        runs: &[ItemId],
        reason: Arc<str>,
        slot: u64,
    ) {
        for &first in runs {
            if let Some(run) = self.aside.remove_run(first) {
                let (start, end) = (first.0, run.end(first));
                self.away.insert(IdRange { start, end }, slot);
            }
        }
        self.away.aside.insert(slot, reason);
    }

    /// All that lies in a slot of the pool is set aside.
    pub(in crate::ledger) fn set_slot_aside(&mut self, slot: u64, reason: Arc<str>) {
        if let Some(open) = self.away.slots.remove(&slot) {
            self.counts.pool -= open.len;
            self.counts.aside += open.len;
            self.away.aside.insert(slot, reason);
            self.moves += 1;
        }
    }
}
