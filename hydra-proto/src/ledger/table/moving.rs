//! How runs come in, move and go out: the indexes of a table follow.

use super::away::may_go;
use super::{Owner, Table};
use crate::ids::{ChildId, IdRange, ItemId, RootId};
use crate::item::{Item, Parcel};
use crate::ledger::runs::Run;
use crate::ledger::visits::Visits;
use crate::ledger::walls::Walls;

impl Table {
    /// Puts a run in where it has to be, in pieces if walls lie between its items.
    pub(super) fn place(&mut self, mut first: ItemId, mut run: Run) {
        loop {
            let owner = self.owner_of(first, &run.item, run.owner);
            let mut len = run.len;
            if owner != run.owner || (run.owner == Owner::Pool && !self.walls.is_empty()) {
                let others = (1..run.len).map(|n| (n, ItemId(first.0 + u64::from(n))));
                let ends = others.into_iter().find(|&(n, id)| {
                    owner_of(
                        &self.visits,
                        &mut self.walls,
                        id,
                        &run.item.nth(n),
                        run.owner,
                    ) != owner
                });
                len = ends.map_or(len, |(n, _)| n);
            }
            let rest = (len < run.len).then(|| run.split_off(len));
            let wanted = std::mem::replace(&mut run.owner, owner);
            self.enter(first, run);
            let Some(mut rest) = rest else {
                return;
            };
            rest.owner = wanted;
            (first, run) = (ItemId(first.0 + u64::from(len)), rest);
        }
    }

    fn owner_of(&mut self, id: ItemId, item: &Item, owner: Owner) -> Owner {
        owner_of(&self.visits, &mut self.walls, id, item, owner)
    }

    fn enter(&mut self, first: ItemId, run: Run) {
        self.moves += 1;
        let (len, (root, depth)) = (u64::from(run.len), place_of(&run.item));
        match run.owner {
            Owner::Child(child) => {
                let owned = self.owned.entry(child).or_default();
                owned.count += len;
                *owned.places.entry((depth, root)).or_default() += len;
                self.counts.owned += len;
            }
            Owner::Pool | Owner::Waiting | Owner::Held => self.counts.pool += len,
        }
        if run.owner == Owner::Pool {
            self.pooled += len;
            self.loose += loose(&run);
        }
        self.content += run.content();
        self.list(first, &run);
        self.runs.insert(first, run);
    }

    /// Notes where the run is that begins with this item.
    fn list(&mut self, first: ItemId, run: &Run) {
        match run.owner {
            Owner::Pool => {
                self.pool.insert((place_of(&run.item).1, first));
            }
            Owner::Held => {
                self.held.insert(first);
            }
            Owner::Waiting | Owner::Child(_) => {}
        }
    }

    /// Sees to it that no run lies across an end of `range`.
    pub(super) fn cut(&mut self, range: IdRange) {
        for at in [range.start, range.end].map(ItemId) {
            if let Some(tail) = self.runs.cut(at).cloned() {
                self.list(at, &tail);
            }
        }
    }

    /// Takes out what is in `range` of the first run that has any of it.
    pub(super) fn exit(&mut self, range: IdRange) -> Option<(ItemId, Run)> {
        let (part, _) = self.runs.first_in(range)?;
        self.cut(part);
        let first = ItemId(part.start);
        let run = self.runs.remove(first)?;
        self.moves += 1;
        self.content -= run.content();
        let (len, (root, depth)) = (u64::from(run.len), place_of(&run.item));
        match run.owner {
            Owner::Pool => {
                self.pool.remove(&(depth, first));
                self.pooled -= len;
                self.loose -= loose(&run);
                self.counts.pool -= len;
            }
            Owner::Waiting => self.counts.pool -= len,
            Owner::Held => {
                self.held.remove(&first);
                self.counts.pool -= len;
            }
            Owner::Child(child) => {
                if let Some(owned) = self.owned.get_mut(&child)
                    && let Some(count) = owned.places.get_mut(&(depth, root))
                {
                    owned.count -= len;
                    *count -= len;
                    if *count == 0 {
                        owned.places.remove(&(depth, root));
                    }
                }
                self.counts.owned -= len;
            }
        }
        Some((first, run))
    }

    /// Moves items to another owner.
    pub(in crate::ledger) fn transfer(&mut self, range: IdRange, owner: Owner) {
        self.hand(range, owner, None);
    }

    pub(super) fn hand(&mut self, mut range: IdRange, owner: Owner, giver: Option<ChildId>) {
        while let Some((first, mut run)) = self.exit(range) {
            range.start = run.ids(first).end;
            (run.owner, run.giver) = (owner, giver);
            self.place(first, run);
        }
    }
}

/// Where an item that is meant for `owner` has to be: the end of a split directory waits for its parts, and what lies
/// behind a wall is held back.
fn owner_of(visits: &Visits, walls: &mut Walls, id: ItemId, item: &Item, owner: Owner) -> Owner {
    match item.parcel() {
        _ if owner != Owner::Pool => owner,
        Parcel::After(after) if visits.is_open(after.visit) => Owner::Waiting,
        _ if !walls.admit(id, item) => Owner::Held,
        _ => owner,
    }
}

/// Bytes of a pool run that may go away.
fn loose(run: &Run) -> u64 {
    match may_go(run.item.parcel()) {
        true => run.content(),
        false => 0,
    }
}

/// The root, and how far below it.
fn place_of(item: &Item) -> (RootId, u32) {
    (item.root(), u32::try_from(item.depth()).unwrap_or(u32::MAX))
}
