//! What of a pool does not fit into memory: put away into a [`Store`], and brought back when it can be granted.
//!
//! ```text
//!   pool:  nearest to the root ───────────────────────────► deepest
//!          granted first                     ──put away──► slot, slot, slot
//!            ▲                                                          │
//!            └──────── when a hungry child finds nothing here ──────────┘
//! ```
//!
//! For all others it stays in the pool: it is counted, its ids are in use, no record tells that it moved. A store that
//! keeps nothing does no harm: then it stays in memory.

use super::parent::{Action, Parent};
use super::record::{Record, ReplayError, State};
use super::runs::Run;
use super::session::Session;
use super::table::{Aside, reason_of};
use crate::codec;
use crate::ids::{IdRange, ItemId, RootId, join_ranges};
use crate::item::{Item, Parcel};
use std::fmt;
use std::sync::Arc;

/// Keeps bytes elsewhere than in memory.
pub trait Store: Send {
    /// Keeps these bytes: what they are found under.
    ///
    /// # Errors
    /// When it cannot. It has kept nothing then.
    fn put(&mut self, bytes: &[u8]) -> Result<u64, StoreError>;

    /// The bytes under this slot.
    ///
    /// # Errors
    /// When they cannot be read. They may be tried again.
    fn get(&self, slot: u64) -> Result<Vec<u8>, StoreError>;

    /// Keeps them no longer.
    fn forget(&mut self, slot: u64);
}

/// Why a store fails, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A parent's store, if it has one.
#[derive(Default)]
pub(super) struct Shelf {
    store: Option<Box<dyn Store>>,
    /// It kept nothing when there were so many bytes: it is tried again when there are a quarter more.
    failed_at: Option<u64>,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("failed_at", &self.failed_at)
            .finish_non_exhaustive()
    }
}

/// The parcels in a slot, and whether this parent's own parent knows them.
type Kept = Vec<(bool, Vec<Parcel>)>;

fn unpack(bytes: &[u8]) -> Result<Kept, StoreError> {
    let (kept, _) = codec::load(bytes).map_err(|error| StoreError(error.to_string()))?;
    Ok(kept)
}

/// What a slot holds, as the records of a snapshot. `aside` says why, where all of it is set aside.
///
/// # Errors
/// When the bytes are not what was put away.
pub fn stored_records(bytes: &[u8], aside: Option<&str>) -> Result<Vec<Record>, StoreError> {
    let state = |(recorded, items)| match aside {
        None => State::Items {
            owner: None,
            recorded,
            items,
        },
        Some(reason) => State::Aside {
            items,
            reason: reason.to_owned(),
        },
    };
    let records = unpack(bytes)?.into_iter().map(state);
    Ok(records
        .map(|state| Record::State(Box::new(state)))
        .collect())
}

impl Parent {
    /// Puts away into `store` what of the pool takes more than half of the memory that the items may take. Its
    /// children are asked to give back what does not fit into all of it. Before or after a replay, not between records.
    pub fn keep_in(&mut self, store: Box<dyn Store>) {
        self.shelf = Shelf {
            store: Some(store),
            failed_at: None,
        };
        self.mind_memory();
    }

    /// The slots of the store, and for those where all is set aside, why. What [`stored_records`] makes of them belongs to
    /// [`Parent::snapshot`], which does not read the store.
    pub fn slots(&self) -> impl Iterator<Item = (u64, Option<Arc<str>>)> {
        let aside = self.table.away.aside();
        let aside = aside.map(|(slot, reason)| (slot, Some(Arc::clone(reason))));
        let open = self.table.away.slots().map(|(slot, _)| (slot, None));
        open.chain(aside)
    }

    /// Puts pieces of about so many bytes away, until no more than `most` bytes are left or nothing that may go: what is set
    /// aside first, which nobody needs before the end. Two pieces of the pool stay: one that was brought back has not to
    /// go at once.
    pub(super) fn put_away(&mut self, most: u64, piece: u64) {
        let tried = self
            .shelf
            .failed_at
            .is_some_and(|at| self.table.bytes() < at / 4 * 5);
        // Nobody suspects what is away.
        if tried || self.shelf.store.is_none() || !self.suspects.is_empty() {
            return;
        }
        let piece = piece.max(1);
        while self.table.bytes() > most
            && let Some((runs, items, reason)) = self.table.pack_aside(piece)
        {
            let Some(slot) = self.keep(vec![(false, items)]) else {
                return;
            };
            self.table.put_aside_away(&runs, reason, slot);
        }
        // Where there are walls, looking for what is free costs more: it is done for more at once.
        let spare = if self.walled.is_empty() { 0 } else { most / 8 };
        if self.table.bytes() > most {
            self.put_pool_away(most - spare, piece);
        }
    }

    /// What lies behind walls stays: each look for what does not would bring it back. Unless they enclose all of a root, where
    /// nobody looks.
    fn put_pool_away(&mut self, most: u64, piece: u64) {
        while self.table.bytes() > most && self.table.loose() > 2 * piece {
            let free = |run: &Run| !self.is_near_wall(run);
            let much = (self.table.bytes() - most).min(self.table.loose() - 2 * piece);
            let runs = self.table.pick_loose(much.max(piece), free);
            if runs.is_empty() {
                // Tried again when there is a quarter more, or when the walls have changed.
                self.shelf.failed_at = Some(self.table.bytes());
                return;
            }
            for runs in self.table.in_pieces(&runs, piece) {
                let Some(slot) = self.keep(self.table.pack_runs(&runs).into()) else {
                    return;
                };
                self.table.put_away(&runs, slot);
            }
        }
    }

    /// Keeps these elsewhere than in memory, if that can be done.
    fn keep(&mut self, kept: Kept) -> Option<u64> {
        let store = self.shelf.store.as_mut()?;
        let mut bytes = Vec::new();
        let stored = codec::store(&kept, &mut bytes);
        let stored = stored.map_err(|error| StoreError(error.to_string()));
        match stored.and_then(|()| store.put(&bytes)) {
            Ok(slot) => {
                self.shelf.failed_at = None;
                Some(slot)
            }
            Err(error) => {
                self.shelf.failed_at = Some(self.table.bytes());
                self.actions.push_back(Action::KeptInMemory(error));
                None
            }
        }
    }

    /// It has changed what may go.
    pub(super) fn try_to_put_away(&mut self) {
        self.shelf.failed_at = None;
    }

    /// All that lies in a slot cannot be finished, for one reason.
    pub(super) fn set_slot_aside(&mut self, slot: u64, reason: &str) {
        if self.keeps_records {
            let Some(ids) = self.ids_in(slot) else {
                return;
            };
            let reason = reason.to_owned();
            self.record(|| Record::SetAside { ids, reason });
        }
        self.table.set_slot_aside(slot, reason_of(reason));
    }

    fn ids_in(&mut self, slot: u64) -> Option<Vec<IdRange>> {
        let bytes = self.shelf.store.as_ref()?.get(slot);
        match bytes.and_then(|bytes| unpack(&bytes)) {
            Ok(kept) => {
                let parcels = kept.iter().flat_map(|(_, parcels)| parcels);
                Some(join_ranges(parcels.map(Parcel::ids).collect()))
            }
            Err(error) => {
                self.actions.push_back(Action::NotReadBack(error));
                None
            }
        }
    }

    /// Whether what children give back leaves this parent's memory.
    pub(super) fn has_room_elsewhere(&self) -> bool {
        self.shelf.store.is_some() && self.shelf.failed_at.is_none()
    }

    /// Brings back something that a hungry child may be granted: whether there was any.
    pub(super) fn bring_back(&mut self) -> bool {
        if self.table.away.is_empty() {
            return false;
        }
        let wanted = |root: &RootId| {
            let serves = |session: &Session| session.serves_root(*root) && !session.is_shut(*root);
            let mut hungry = self.hungry().filter_map(|child| self.sessions.get(&child));
            hungry.any(serves) && !self.is_root_tried(*root)
        };
        let latest = self.table.away.slots().rev();
        let found = latest.filter(|(_, roots)| roots.iter().any(wanted));
        let slot = found.map(|(slot, _)| slot).next();
        slot.is_some_and(|slot| self.bring_back_slot(slot))
    }

    pub(super) fn bring_back_slot(&mut self, slot: u64) -> bool {
        let Some(store) = &mut self.shelf.store else {
            return false;
        };
        match store.get(slot).and_then(|bytes| unpack(&bytes)) {
            Ok(kept) => {
                for (recorded, items) in kept {
                    self.table.bring_back(items, recorded);
                }
                self.table.forget_slot(slot);
                store.forget(slot);
                true
            }
            Err(error) => {
                self.actions.push_back(Action::NotReadBack(error));
                false
            }
        }
    }

    /// Brings back what a record moves of what is away.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn recall(&mut self, ids: &[IdRange]) -> Result<(), ReplayError> {
        for &range in ids {
            while let Some(slot) = self.table.away.slot_in(range) {
                if !self.bring_back_slot(slot) {
                    return Err(ReplayError::NotReadBack);
                }
            }
        }
        Ok(())
    }

    /// The items that are away, open or set aside, as far as they can be read.
    pub(super) fn items_away(&self) -> impl Iterator<Item = Item> {
        let slots = self.slots().map(|(slot, _)| slot);
        slots
            .flat_map(|slot| self.items_in(slot))
            .map(|(_, item)| item)
    }

    /// What is set aside and away, as far as it can be read, one piece at a time.
    pub(super) fn aside_away(&self) -> impl Iterator<Item = Aside> {
        self.table.away.aside().flat_map(|(slot, reason)| {
            let aside = |(id, item)| Aside {
                id,
                item,
                reason: Arc::clone(reason),
            };
            self.items_in(slot).map(aside)
        })
    }

    fn items_in(&self, slot: u64) -> impl Iterator<Item = (ItemId, Item)> + use<> {
        let bytes = self.shelf.store.as_ref().map(|store| store.get(slot));
        let kept = bytes.and_then(|bytes| unpack(&bytes.ok()?).ok());
        let parcels = kept.into_iter().flatten().flat_map(|(_, parcels)| parcels);
        parcels.flat_map(Item::unpack)
    }
}
