//! The items of one parent: each in the pool, with one child, or set aside.

mod aside;
mod away;
mod moving;

use super::runs::{Run, Runs};
use super::visits::{Closed, Visits};
use super::walls::Walls;
use crate::ids::{ChildId, IdRange, ItemId, RootId};
use crate::item::{Item, Parcel};
use crate::message::{Commit, Failure};
pub use aside::Aside;
use aside::Asides;
pub(super) use aside::reason as reason_of;
use away::Away;
use std::collections::{BTreeMap, BTreeSet};

/// Roughly the bytes that a run takes in a table, without what is in it.
pub(super) const RUN_BYTES: u64 = 256;

/// Where an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Pool,
    Child(ChildId),
    /// The end of a split directory that waits for its other parts.
    Waiting,
    /// In the pool, and handed to nobody: behind a wall.
    Held,
}

/// What is known of one open item.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) item: Item,
    pub(super) owner: Owner,
}

/// How many items there are, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items that came from outside: roots, or grants from above.
    pub added: u64,
    /// Items that children found.
    pub new: u64,
    /// Items that children finished.
    pub done: u64,
    /// Items handed to this parent's own parent.
    pub given_up: u64,
    /// Items in the pool, those that wait for their visit or are held back included.
    pub pool: u64,
    /// Items that children own.
    pub owned: u64,
    /// Items set aside.
    pub aside: u64,
}

impl Counts {
    /// Invariant 5.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.added + self.new == self.done + self.given_up + self.pool + self.owned + self.aside
    }
}

/// What one child owns: how much, and where it lies.
#[derive(Debug, Default)]
struct Owned {
    count: u64,
    places: BTreeMap<(u32, RootId), u64>,
}

/// ```text
///   runs:    first id → items, owner    pool: the runs whose owner is the pool, nearest to the root first
///   aside:   first id → items, reason   owned[child]: a count; the runs are found by a pass over all
///   away:    items of the pool or aside that are not in memory: their ids, and where they are
///   held:    the runs that are held back, so that looking through the pool never meets them
/// ```
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) runs: Runs,
    pool: BTreeSet<(u32, ItemId)>,
    /// Items in `pool`.
    pooled: u64,
    /// Bytes of what is in the runs.
    content: u64,
    /// Bytes of what is in `pool` and may go away.
    loose: u64,
    pub(super) away: Away,
    held: BTreeSet<ItemId>,
    aside: Asides,
    /// How often anything has moved.
    pub(super) moves: u64,
    owned: BTreeMap<ChildId, Owned>,
    visits: Visits,
    pub(super) walls: Walls,
    counts: Counts,
}

impl Table {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        let open = self.runs.iter().flat_map(|(first, run)| run.items(first));
        let aside = self.aside().map(|aside| aside.item);
        open.map(|(_, item)| item).chain(aside)
    }

    /// Roughly the bytes that the items take, open or set aside.
    pub(super) fn bytes(&self) -> u64 {
        self.content + self.runs.len() as u64 * RUN_BYTES + self.aside.bytes()
    }

    pub(super) fn owned(&self, child: ChildId) -> u64 {
        self.owned.get(&child).map_or(0, |owned| owned.count)
    }

    /// The roots of what a child owns; the same one more than once.
    pub(super) fn roots_of(&self, child: ChildId) -> impl Iterator<Item = RootId> {
        let places = self.owned.get(&child).map(|owned| &owned.places);
        places.into_iter().flatten().map(|(&(_, root), _)| root)
    }

    /// How far below its root the topmost item is that a child owns.
    pub(super) fn top_of(&self, child: ChildId) -> Option<u32> {
        let places = &self.owned.get(&child)?.places;
        places.first_key_value().map(|(&(depth, _), _)| depth)
    }

    /// Brings open items of a snapshot back.
    pub(super) fn restore(&mut self, items: Vec<Parcel>, owner: Owner, recorded: bool) {
        for parcel in items {
            self.insert(parcel, owner, recorded);
        }
    }

    /// Brings back what was counted over the time.
    pub(super) fn restore_counts(&mut self, past: Counts) {
        let Counts {
            pool, owned, aside, ..
        } = self.counts;
        self.counts = Counts {
            pool,
            owned,
            aside,
            ..past
        };
    }

    /// Split directories that can never be finished.
    pub(super) fn broken(&self) -> Vec<ItemId> {
        self.visits.broken()
    }

    /// Brings them back.
    pub(super) fn restore_broken(&mut self, visits: &[ItemId]) {
        visits
            .iter()
            .for_each(|&visit| self.visits.break_visit(visit));
    }

    pub(super) fn get(&self, id: ItemId) -> Option<Entry> {
        self.runs.get(id)
    }

    /// The first id of `range` that is in use.
    pub(super) fn first_known(&self, range: IdRange) -> Option<ItemId> {
        if range.is_empty() {
            return None;
        }
        let open = self.runs.first_in(range).map(|part| ItemId(part.0.start));
        let away = self.away.first_in(range);
        let known = open.into_iter().chain(away);
        known.chain(self.aside.first_in(range)).min()
    }

    pub(super) fn is_in_pool(&self, id: ItemId) -> bool {
        let found = self.runs.find(id);
        found.is_some_and(|(_, _, run)| run.owner == Owner::Pool)
    }

    pub(super) fn is_owned_by(&self, id: ItemId, child: ChildId) -> bool {
        let found = self.runs.find(id);
        found.is_some_and(|(_, _, run)| run.owner == Owner::Child(child))
    }

    /// Whether a pool item came from this child.
    pub(super) fn was_given_by(&self, id: ItemId, child: ChildId) -> bool {
        let found = self.runs.find(id);
        found.is_some_and(|(_, _, run)| run.giver == Some(child))
    }

    /// Pool items in the order in which they are granted.
    pub(super) fn pool(&self) -> impl Iterator<Item = ItemId> {
        self.ids_of(self.pool.iter().map(|&(_, first)| first))
    }

    /// Runs of the pool in the order in which they are granted.
    pub(super) fn pool_runs(&self) -> impl Iterator<Item = (ItemId, &Run)> {
        let runs = self
            .pool
            .iter()
            .filter_map(|&(_, first)| self.runs.find(first));
        runs.map(|(first, _, run)| (first, run))
    }

    pub(super) fn pool_len(&self) -> u64 {
        self.pooled
    }

    /// The items that are held back.
    pub(super) fn held(&self) -> impl Iterator<Item = ItemId> {
        self.ids_of(self.held.iter().copied())
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    fn ids_of(&self, runs: impl Iterator<Item = ItemId>) -> impl Iterator<Item = ItemId> {
        let found = runs.filter_map(|first| self.runs.find(first));
        found.flat_map(|(first, _, run)| run.ids(first).iter())
    }

    /// Takes items from outside into the pool.
    pub(super) fn add(&mut self, parcel: Parcel, recorded: bool) {
        self.counts.added += self.insert(parcel, Owner::Pool, recorded);
    }

    /// Takes in what is not known yet of a parcel, and counts it.
    fn insert(&mut self, parcel: Parcel, owner: Owner, recorded: bool) -> u64 {
        let (ids, mut count) = (parcel.ids(), 0);
        let all = Run {
            len: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            item: Item::first_of(parcel),
            owner,
            giver: None,
            recorded,
            begun: false,
        };
        let mut rest = ids;
        while !rest.is_empty() {
            let known = self.first_known(rest).map_or(rest.end, |id| id.0);
            let len = (known - rest.start) as u32;
            if len > 0 {
                let run = Run {
                    item: all.item.nth((rest.start - ids.start) as u32),
                    len,
                    ..all.clone()
                };
                let first = ItemId(rest.start);
                self.visits.opened(first, run.item.parcel());
                self.place(first, run);
                count += u64::from(len);
            }
            rest.start = known.saturating_add(u64::from(known < rest.end));
        }
        count
    }

    fn leave(&mut self, range: IdRange, set_aside: bool) -> Option<(ItemId, Run, Closed)> {
        let (first, run) = self.exit(range)?;
        self.walls.forget(run.ids(first));
        let closed = self.visits.closed(run.item.parcel(), set_aside);
        Some((first, run, closed))
    }

    /// Takes out what is in `range` of one run, and lets the end of a split directory run if that was its last part.
    fn remove(&mut self, range: IdRange, set_aside: bool) -> Option<(ItemId, Run)> {
        let (first, run, closed) = self.leave(range, set_aside)?;
        match closed {
            Closed::Nothing => {}
            Closed::Ready(after) => self.release(after),
            Closed::Broken(after) => {
                self.set_aside(after, "a part of this directory was set aside");
            }
        }
        Some((first, run))
    }

    /// The parts of a split directory are finished: its end may run.
    fn release(&mut self, after: ItemId) {
        if self
            .get(after)
            .is_some_and(|entry| entry.owner == Owner::Waiting)
        {
            self.transfer(IdRange::one(after), Owner::Pool);
        }
    }

    /// What has to go up together with an item: the end of its directory, if that waits here.
    pub(super) fn companion(&self, id: ItemId) -> Option<ItemId> {
        let visit = self.get(id)?.item.parcel().visit()?;
        let after = self.visits.after(visit)?;
        let owner = self.get(after)?.owner;
        matches!(owner, Owner::Waiting | Owner::Pool | Owner::Held).then_some(after)
    }

    /// Forgets items that go back to this parent's own parent. The ends of their directories go with them
    /// (see [`Table::companion`]), so whether those may run is decided there.
    pub(super) fn give_up(&mut self, mut range: IdRange) {
        while let Some((first, run, _)) = self.leave(range, false) {
            range.start = run.ids(first).end;
            self.counts.given_up += u64::from(run.len);
        }
    }

    /// What is open of `range`, and not known to this parent's own parent: marks it as known.
    pub(super) fn record(&mut self, range: IdRange) -> Vec<(ItemId, Item)> {
        self.cut(range);
        let parts = self.runs.parts_of(range);
        let fresh = parts.filter(|(_, run)| !run.recorded);
        let items = fresh.flat_map(|(part, run)| run.items(ItemId(part.start)));
        let items = items.collect();
        self.runs.record(range);
        items
    }

    /// Returns everything that a child owns to the pool. `acts` says that it may have acted on that.
    pub(super) fn reclaim(&mut self, child: ChildId, acts: bool) {
        let runs = self.runs.iter();
        let own = runs.filter(|(_, run)| run.owner == Owner::Child(child));
        let own: Vec<IdRange> = own.map(|(first, run)| run.ids(first)).collect();
        for ids in own {
            self.transfer(ids, Owner::Pool);
            if acts {
                self.runs.begin(ids, |_| true);
            }
        }
        self.owned.remove(&child);
    }

    /// Applies the item part of a commit that [`Table::check`] has passed: done, new, give, failed.
    pub(super) fn apply(&mut self, child: ChildId, commit: Commit) -> Applied {
        let mut applied = Applied::default();
        // The new items first: a directory must not look finished between the two.
        for parcel in commit.new {
            let ids = parcel.ids();
            self.counts.new += self.insert(parcel, Owner::Child(child), false);
            applied.new.push(ids);
        }
        for mut range in commit.done {
            while let Some((first, run)) = self.remove(range, false) {
                let ids = run.ids(first);
                range.start = ids.end;
                self.counts.done += ids.len();
                self.walls.note_done(&run);
                applied.done.push((ids, run.recorded));
            }
        }
        for range in commit.give {
            self.hand(range, Owner::Pool, Some(child));
        }
        for range in commit.begun {
            self.runs.begin(range, |run| run.giver == Some(child));
        }
        for Failure { id, reason } in commit.failed {
            if self.set_aside(id, &reason) {
                applied.aside.push(id);
            }
        }
        debug_assert!(self.counts.balanced(), "{:?}", self.counts);
        applied
    }
}

/// What a commit changed.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Each with whether this parent's own parent knows it.
    pub(super) done: Vec<(IdRange, bool)>,
    pub(super) new: Vec<IdRange>,
    pub(super) aside: Vec<ItemId>,
}
