//! The items of one parent: each in the pool, with one child, or set aside.

use super::ProtocolError;
use super::visits::{Closed, Visits};
use super::walls::Walls;
use crate::ids::{ChildId, IdRange, ItemId, RootId};
use crate::item::{Item, Parcel};
use crate::message::{Commit, Failure};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) item: Item,
    pub(super) owner: Owner,
    /// The child that gave it, while it is in the pool.
    pub(super) giver: Option<ChildId>,
    /// Whether this parent's own parent knows the item.
    pub(super) recorded: bool,
}

/// An item that cannot be finished.
#[derive(Clone, Debug)]
pub struct Aside {
    /// The item.
    pub item: Item,
    /// Why, in words.
    pub reason: String,
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

type Map<K, V> = HashMap<K, V, FixedState>;

/// ```text
///   entries: id → item, owner          pool: the ids whose owner is the pool, nearest to the root first
///   aside:   id → item, reason         owned[child]: a count; the ids are found by a pass over entries
///   held:    the ids that are held back, so that looking through the pool never meets them
/// ```
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Map<ItemId, Entry>,
    pub(super) pool: BTreeSet<(u32, ItemId)>,
    pub(super) held: BTreeSet<ItemId>,
    aside: BTreeMap<ItemId, Aside>,
    owned: BTreeMap<ChildId, Owned>,
    visits: Visits,
    pub(super) walls: Walls,
    counts: Counts,
}

impl Table {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn aside(&self) -> &BTreeMap<ItemId, Aside> {
        &self.aside
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        let open = self.entries.values().map(|entry| &entry.item);
        open.chain(self.aside.values().map(|aside| &aside.item))
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

    /// The open items, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (ItemId, &Entry)> {
        self.entries.iter().map(|(&id, entry)| (id, entry))
    }

    /// Brings open items of a snapshot back.
    pub(super) fn restore(&mut self, items: Vec<Parcel>, owner: Owner, recorded: bool) {
        for (id, item) in items.into_iter().flat_map(Item::unpack) {
            self.insert(id, item, owner, recorded);
        }
    }

    /// Brings an item set aside back.
    pub(super) fn restore_aside(&mut self, items: Vec<Parcel>, reason: &str) {
        for (id, item) in items.into_iter().flat_map(Item::unpack) {
            let reason = reason.to_owned();
            self.aside.insert(id, Aside { item, reason });
            self.counts.aside += 1;
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

    pub(super) fn get(&self, id: ItemId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn contains(&self, id: ItemId) -> bool {
        self.entries.contains_key(&id) || self.aside.contains_key(&id)
    }

    pub(super) fn is_in_pool(&self, id: ItemId) -> bool {
        self.get(id).is_some_and(|entry| entry.owner == Owner::Pool)
    }

    pub(super) fn is_owned_by(&self, id: ItemId, child: ChildId) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.owner == Owner::Child(child))
    }

    /// Whether a pool item came from this child.
    pub(super) fn was_given_by(&self, id: ItemId, child: ChildId) -> bool {
        self.get(id).is_some_and(|entry| entry.giver == Some(child))
    }

    /// Pool items in the order in which they are granted.
    pub(super) fn pool(&self) -> impl DoubleEndedIterator<Item = ItemId> {
        self.pool.iter().map(|&(_, id)| id)
    }

    pub(super) fn pool_len(&self) -> u64 {
        self.pool.len() as u64
    }

    /// Takes items from outside into the pool.
    pub(super) fn add(&mut self, parcel: Parcel, recorded: bool) -> Vec<ItemId> {
        let mut ids = Vec::new();
        for (id, item) in Item::unpack(parcel) {
            if self.contains(id) {
                continue;
            }
            self.counts.added += 1;
            self.insert(id, item, Owner::Pool, recorded);
            ids.push(id);
        }
        ids
    }

    fn insert(&mut self, id: ItemId, item: Item, owner: Owner, recorded: bool) {
        self.visits.opened(id, item.parcel());
        let owner = place(&self.visits, &mut self.walls, id, &item, owner);
        self.enter(id, place_of(&item), owner);
        let entry = Entry {
            item,
            owner,
            giver: None,
            recorded,
        };
        self.entries.insert(id, entry);
    }

    fn enter(&mut self, id: ItemId, (root, depth): (RootId, u32), owner: Owner) {
        match owner {
            Owner::Pool => {
                self.pool.insert((depth, id));
                self.counts.pool += 1;
            }
            Owner::Waiting => self.counts.pool += 1,
            Owner::Held => {
                self.held.insert(id);
                self.counts.pool += 1;
            }
            Owner::Child(child) => {
                let owned = self.owned.entry(child).or_default();
                owned.count += 1;
                *owned.places.entry((depth, root)).or_default() += 1;
                self.counts.owned += 1;
            }
        }
    }

    fn exit(&mut self, id: ItemId, (root, depth): (RootId, u32), owner: Owner) {
        match owner {
            Owner::Pool => {
                self.pool.remove(&(depth, id));
                self.counts.pool -= 1;
            }
            Owner::Waiting => self.counts.pool -= 1,
            Owner::Held => {
                self.held.remove(&id);
                self.counts.pool -= 1;
            }
            Owner::Child(child) => {
                if let Some(owned) = self.owned.get_mut(&child)
                    && let Some(count) = owned.places.get_mut(&(depth, root))
                {
                    owned.count -= 1;
                    *count -= 1;
                    if *count == 0 {
                        owned.places.remove(&(depth, root));
                    }
                }
                self.counts.owned -= 1;
            }
        }
    }

    /// Moves an item to another owner.
    pub(super) fn transfer(&mut self, id: ItemId, owner: Owner) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let (at, from) = (place_of(&entry.item), entry.owner);
        let owner = place(&self.visits, &mut self.walls, id, &entry.item, owner);
        self.exit(id, at, from);
        self.enter(id, at, owner);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owner = owner;
            entry.giver = None;
        }
    }

    fn leave(&mut self, id: ItemId, set_aside: bool) -> Option<(Entry, Closed)> {
        let entry = self.entries.remove(&id)?;
        self.walls.forget(id);
        self.exit(id, place_of(&entry.item), entry.owner);
        let closed = self.visits.closed(entry.item.parcel(), set_aside);
        Some((entry, closed))
    }

    fn remove(&mut self, id: ItemId, set_aside: bool) -> Option<Entry> {
        let (entry, closed) = self.leave(id, set_aside)?;
        match closed {
            Closed::Nothing => {}
            Closed::Ready(after) => self.release(after),
            Closed::Broken(after) => {
                let reason = "a part of this directory was set aside".to_owned();
                self.set_aside(after, reason);
            }
        }
        Some(entry)
    }

    /// The parts of a split directory are finished: its end may run.
    fn release(&mut self, after: ItemId) {
        if self
            .get(after)
            .is_some_and(|entry| entry.owner == Owner::Waiting)
        {
            self.transfer(after, Owner::Pool);
        }
    }

    /// What has to go up together with an item: the end of its directory, if that waits here.
    pub(super) fn companion(&self, id: ItemId) -> Option<ItemId> {
        let visit = self.get(id)?.item.parcel().visit()?;
        let after = self.visits.after(visit)?;
        let owner = self.get(after)?.owner;
        matches!(owner, Owner::Waiting | Owner::Pool | Owner::Held).then_some(after)
    }

    /// Moves an item to where it stays until the job ends.
    pub(super) fn set_aside(&mut self, id: ItemId, reason: String) -> bool {
        let Some(entry) = self.remove(id, true) else {
            return false;
        };
        let item = entry.item;
        self.aside.insert(id, Aside { item, reason });
        self.counts.aside += 1;
        true
    }

    /// Forgets an item that goes back to this parent's own parent. The end of its directory goes with it
    /// (see [`Table::companion`]), so whether that may run is decided there.
    pub(super) fn give_up(&mut self, id: ItemId) {
        if self.leave(id, false).is_some() {
            self.counts.given_up += 1;
        }
    }

    /// Forgets an item set aside here, because this parent's own parent keeps it now.
    pub(super) fn report_aside(&mut self, id: ItemId) {
        if self.aside.remove(&id).is_some() {
            self.counts.aside -= 1;
            self.counts.given_up += 1;
        }
    }

    /// Marks an item as known to this parent's own parent.
    pub(super) fn record(&mut self, id: ItemId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.recorded = true;
        }
    }

    /// The items that a child owns, in the order of ids.
    pub(super) fn owned_ids(&self, child: ChildId) -> Vec<ItemId> {
        let mut ids: Vec<ItemId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.owner == Owner::Child(child))
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Returns everything that a child owns to the pool.
    pub(super) fn reclaim(&mut self, child: ChildId) -> Vec<ItemId> {
        let ids = self.owned_ids(child);
        for &id in &ids {
            self.transfer(id, Owner::Pool);
        }
        self.owned.remove(&child);
        ids
    }

    /// Whether `commit` may be applied: changes nothing.
    pub(super) fn check(
        &self,
        child: ChildId,
        commit: &Commit,
        leased: &[IdRange],
    ) -> Result<(), ProtocolError> {
        let done = self.check_done(child, &commit.done)?;
        let new = self.check_new(&commit.new, leased)?;
        let mut gone: HashSet<ItemId, FixedState> = HashSet::default();
        let given = expand(&commit.give, self.owned(child) + new.len() as u64)?;
        let failed = commit.failed.iter().map(|failure| failure.id);
        for id in given.into_iter().chain(failed) {
            let mine = new.contains(&id) || (self.is_owned_by(id, child) && !done.contains(&id));
            if !mine || !gone.insert(id) {
                return Err(ProtocolError::NotOwned(id));
            }
        }
        Ok(())
    }

    fn check_done(
        &self,
        child: ChildId,
        done: &[IdRange],
    ) -> Result<HashSet<ItemId, FixedState>, ProtocolError> {
        let mut seen = HashSet::default();
        for id in expand(done, self.owned(child))? {
            if !self.is_owned_by(id, child) || !seen.insert(id) {
                return Err(ProtocolError::NotOwned(id));
            }
        }
        Ok(seen)
    }

    fn check_new(
        &self,
        parcels: &[Parcel],
        leased: &[IdRange],
    ) -> Result<HashSet<ItemId, FixedState>, ProtocolError> {
        let mut seen = HashSet::default();
        for parcel in parcels {
            parcel.check().map_err(ProtocolError::BadItem)?;
            for id in parcel.ids().iter() {
                if !leased.iter().any(|range| range.contains(id)) {
                    return Err(ProtocolError::NotLeased(id));
                }
                if self.contains(id) || !seen.insert(id) {
                    return Err(ProtocolError::Repeated(id));
                }
            }
        }
        Ok(seen)
    }

    /// Applies the item part of a commit that [`Table::check`] has passed: done, new, give, failed.
    pub(super) fn apply(&mut self, child: ChildId, commit: Commit) -> Applied {
        let mut applied = Applied::default();
        // The new items first: a directory must not look finished between the two.
        for parcel in commit.new {
            for (id, item) in Item::unpack(parcel) {
                self.counts.new += 1;
                self.insert(id, item, Owner::Child(child), false);
                applied.new.push(id);
            }
        }
        for id in commit.done.iter().flat_map(|range| range.iter()) {
            if let Some(entry) = self.remove(id, false) {
                self.counts.done += 1;
                self.walls.note_done(&entry.item);
                applied.done.push((id, entry));
            }
        }
        for id in commit.give.iter().flat_map(|range| range.iter()) {
            self.transfer(id, Owner::Pool);
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.giver = Some(child);
            }
            applied.given.push(id);
        }
        for Failure { id, reason } in commit.failed {
            if self.set_aside(id, reason) {
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
    pub(super) done: Vec<(ItemId, Entry)>,
    pub(super) new: Vec<ItemId>,
    pub(super) given: Vec<ItemId>,
    pub(super) aside: Vec<ItemId>,
}

/// Where an item that is meant for `owner` has to be: the end of a split directory waits for its parts, and what lies
/// behind a wall is held back.
fn place(visits: &Visits, walls: &mut Walls, id: ItemId, item: &Item, owner: Owner) -> Owner {
    match item.parcel() {
        _ if owner != Owner::Pool => owner,
        Parcel::After(after) if visits.is_open(after.visit) => Owner::Waiting,
        _ if !walls.admit(id, item) => Owner::Held,
        _ => owner,
    }
}

/// The root, and how far below it.
fn place_of(item: &Item) -> (RootId, u32) {
    (item.root(), u32::try_from(item.depth()).unwrap_or(u32::MAX))
}

/// Ranges to ids, of which there can be no more than `most` in an honest message.
fn expand(ranges: &[IdRange], most: u64) -> Result<Vec<ItemId>, ProtocolError> {
    let mut count = 0u64;
    for range in ranges {
        count = count.saturating_add(range.len());
        if count > most {
            return Err(ProtocolError::NotOwned(ItemId(range.start)));
        }
    }
    Ok(ranges.iter().flat_map(|range| range.iter()).collect())
}
