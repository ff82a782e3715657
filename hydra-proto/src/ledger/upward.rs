//! What a client's ledger over its workers tells the server: the other half of [`super::Relay`].

use super::parent::Parent;
use super::session::Link;
use crate::ids::ItemId;
use crate::item::{Item, Parcel};
use crate::message::Load;

impl Parent {
    pub(super) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Items in the pool, without those that wait for their visit.
    pub(super) fn pool_len(&self) -> u64 {
        self.table.pool_len()
    }

    /// What the children with a session have to do.
    pub(super) fn loads(&self) -> impl Iterator<Item = Load> {
        let sessions = self.sessions.values();
        let live = sessions.filter(|session| !matches!(session.link, Link::Fenced { .. }));
        live.map(|session| session.load)
    }

    pub(super) fn open_count(&self) -> u64 {
        let counts = self.table.counts();
        counts.pool + counts.owned
    }

    pub(super) fn is_unrecorded(&self, id: ItemId) -> bool {
        self.table.get(id).is_some_and(|entry| !entry.recorded) || self.aside().contains_key(&id)
    }

    /// Whether there is anything that could go up: not what waits for its visit, not what is suspected.
    pub(super) fn has_for_parent(&self) -> bool {
        !self.pick_for_parent(1).is_empty()
    }

    pub(super) fn pick_for_parent(&self, most: u64) -> Vec<ItemId> {
        // What is suspected stays here: elsewhere its deaths would be counted from the beginning, for ever.
        let free = |id: &ItemId| !self.suspects.is_accused(*id) && !self.is_probe(*id);
        self.table.pool().filter(free).take(most as usize).collect()
    }

    /// Adds what has to go up together with these items, and sorts them.
    pub(super) fn complete(&self, give: &mut Vec<ItemId>) {
        let companions = give.iter().filter_map(|&id| self.table.companion(id));
        let companions: Vec<ItemId> = companions.collect();
        give.extend(companions);
        give.sort_unstable();
        give.dedup();
    }

    pub(super) fn give_up(&mut self, id: ItemId) {
        self.table.give_up(id);
        self.suspects.forget(id);
    }

    pub(super) fn report_aside(&mut self, id: ItemId) {
        self.table.report_aside(id);
    }

    /// Marks what is still open of `fresh` as recorded, and packs it for the way up.
    pub(super) fn record_fresh(&mut self, fresh: &[ItemId]) -> Vec<Parcel> {
        let mut open: Vec<ItemId> = fresh.to_vec();
        open.retain(|&id| self.is_unrecorded(id));
        let items = open.iter().filter_map(|&id| {
            let here = self.table.get(id).map(|entry| &entry.item);
            let item = here.or_else(|| self.aside().get(&id).map(|aside| &aside.item))?;
            Some((id, item))
        });
        let packed = Item::pack(items);
        for id in open {
            self.table.record(id);
        }
        packed
    }
}
