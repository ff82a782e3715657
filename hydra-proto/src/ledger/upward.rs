//! What a client's ledger over its workers tells the server: the other half of [`super::Relay`].

use super::parent::Parent;
use super::session::Link;
use crate::ids::{IdRange, ItemId};
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

    /// What the children with a session have to do. One that comes no further gives nothing of what it holds.
    pub(super) fn loads(&self) -> impl Iterator<Item = Load> {
        let sessions = self.sessions.values();
        let live = sessions.filter(|session| !matches!(session.link, Link::Fenced { .. }));
        live.map(|session| Load {
            held: if session.stands { 0 } else { session.load.held },
            ..session.load
        })
    }

    /// What of `ids` is open or set aside, and not known to this parent's own parent.
    pub(super) fn unrecorded(&self, ids: IdRange) -> Vec<IdRange> {
        let parts = self.table.runs.parts_of(ids);
        let open = parts.filter(|(_, run)| !run.recorded).map(|part| part.0);
        open.chain(self.aside_in(ids)).collect()
    }

    fn aside_in(&self, ids: IdRange) -> impl Iterator<Item = IdRange> {
        self.table.aside_in(ids).map(|aside| IdRange::one(aside.id))
    }

    /// How many entries the items take, open or set aside.
    pub(super) fn run_count(&self) -> usize {
        self.table.runs.len() + self.table.aside_runs()
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

    /// What of these this parent's own parent knows.
    pub(super) fn recorded_of(&self, ids: &[ItemId]) -> Vec<ItemId> {
        let recorded = |id: &ItemId| {
            let found = self.table.runs.find(*id);
            found.is_some_and(|(_, _, run)| run.recorded)
        };
        ids.iter().copied().filter(recorded).collect()
    }

    /// Adds what has to go up together with these items, and sorts them.
    pub(super) fn complete(&self, give: &mut Vec<ItemId>) {
        let companions = give.iter().filter_map(|&id| self.table.companion(id));
        let companions: Vec<ItemId> = companions.collect();
        give.extend(companions);
        give.sort_unstable();
        give.dedup();
    }

    /// What of these a worker that was lost may have acted on, as this parent alone knows.
    pub(super) fn begun_of(&self, ids: &[ItemId]) -> Vec<ItemId> {
        let begun = |id: &ItemId| {
            let found = self.table.runs.find(*id);
            found.is_some_and(|(_, _, run)| run.begun)
        };
        ids.iter().copied().filter(begun).collect()
    }

    pub(super) fn give_up(&mut self, ids: IdRange) {
        self.table.give_up(ids);
        if !self.suspects.is_empty() {
            ids.iter().for_each(|id| self.suspects.forget(id));
        }
    }

    pub(super) fn report_aside(&mut self, id: ItemId) {
        self.table.report_aside(id);
    }

    /// Marks what is still open of `fresh` as recorded, and packs it for the way up.
    pub(super) fn record_fresh(&mut self, fresh: &[IdRange]) -> Vec<Parcel> {
        let mut items = Vec::new();
        for &ids in fresh {
            let before = items.len();
            let aside = self.table.aside_in(ids);
            items.extend(aside.map(|aside| (aside.id, aside.item)));
            items.extend(self.table.record(ids));
            items[before..].sort_by_key(|&(id, _)| id);
        }
        Item::pack(items)
    }
}
