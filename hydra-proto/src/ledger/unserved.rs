//! Items of the pool that nobody may be granted: whether there is anything else, and setting them aside.
//!
//! What is set aside may be all of a pool that does not fit into memory, so it is never listed item by item: runs share
//! their reason, and what lies in the store is said to be aside where it is, or comes back one piece at a time.

use super::parent::{NoAnswer, Parent, Version};
use super::record::Record;
use super::session::{Link, Session};
use super::table::reason_of;
use crate::ids::{IdRange, ItemId, RootId, join_ranges};
use crate::item::Item;
use std::collections::{BTreeMap, BTreeSet};

/// Says why something is set aside.
type Why<'a> = &'a dyn Fn(NoAnswer<'_>) -> String;

impl Parent {
    /// What decides what can be granted, in its present state.
    pub(super) fn version(&self) -> Version {
        (self.table.moves, self.turns)
    }

    /// Whether the only open items are ones that no child may be granted.
    pub fn is_stuck(&mut self) -> bool {
        let counts = self.table.counts();
        if counts.owned > 0 || counts.pool == 0 {
            return false;
        }
        let version = self.version();
        match self.stuck {
            Some((seen, stuck)) if seen == version => stuck,
            _ => {
                let mut pool = self.table.pool().filter_map(|id| self.table.get(id));
                let servable = pool.any(|entry| self.is_servable(&entry.item));
                let stuck = !servable && !self.is_away_servable();
                self.stuck = Some((version, stuck));
                stuck
            }
        }
    }

    fn live(&self) -> impl Iterator<Item = &Session> {
        let sessions = self.sessions.values();
        sessions.filter(|session| !matches!(session.link, Link::Fenced { .. }))
    }

    /// Whether some child may be granted this item: one that is connected, or may still come back.
    fn is_servable(&self, item: &Item) -> bool {
        self.live().any(|session| session.serves(item)) && !self.is_tried(item)
    }

    /// Whether some child may be granted something that is away, as far as that is seen from here.
    fn is_away_servable(&self) -> bool {
        let slots = self.table.away.slots();
        let roots: BTreeSet<RootId> = slots.flat_map(|(_, roots)| roots.iter().copied()).collect();
        roots.into_iter().any(|root| self.is_root_servable(root))
    }

    /// Whether some child may be granted anything that lies under a root.
    pub(super) fn is_root_servable(&self, root: RootId) -> bool {
        let open = |session: &Session| session.serves_root(root) && !session.is_shut(root);
        self.live().any(open) && !self.is_root_tried(root)
    }

    /// Sets aside the pool items that no child may be granted.
    pub fn set_aside_unserved(&mut self, why: Why<'_>) {
        self.set_aside_in_memory(why);
        for (slot, roots) in self.table.away.copy() {
            match self.walled.is_empty() {
                true if roots.iter().any(|&root| self.is_root_servable(root)) => {
                    if self.bring_back_slot(slot) {
                        self.set_aside_in_memory(why);
                    }
                }
                true => self.set_slot_aside(slot, &why(None)),
                // Each of its items may have another reason.
                false if self.bring_back_slot(slot) => self.set_aside_in_memory(why),
                false => {}
            }
        }
    }

    fn set_aside_in_memory(&mut self, why: Why<'_>) {
        let mut by_reason: BTreeMap<String, Vec<IdRange>> = BTreeMap::new();
        for (first, run) in self.table.pool_runs() {
            // Without walls all of a run are alike.
            let alike = self.walled.is_empty();
            for (id, item) in run.items(first) {
                if !self.is_servable(&item) {
                    let why = why(self.walls_before(&item).next());
                    let ids = if alike {
                        run.ids(first)
                    } else {
                        IdRange::one(id)
                    };
                    by_reason.entry(why).or_default().push(ids);
                }
                if alike {
                    break;
                }
            }
        }
        for (why, ids) in by_reason {
            let (ids, reason) = (join_ranges(ids), reason_of(&why));
            self.record(|| Record::SetAside {
                ids: ids.clone(),
                reason: why,
            });
            for range in ids {
                let moved = self.table.set_all_aside(range, &reason);
                debug_assert_eq!(moved, Ok(()));
            }
        }
        self.mind_memory();
    }

    /// Replays that items were set aside.
    pub(super) fn replay_aside(&mut self, ids: &[IdRange], why: &str) -> Result<(), ItemId> {
        let reason = reason_of(why);
        let mut ranges = ids.iter();
        ranges.try_for_each(|&range| self.table.set_all_aside(range, &reason))
    }
}
