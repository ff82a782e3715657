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
use super::record::{Record, State};
use super::session::Link;
use crate::codec;
use crate::ids::RootId;
use crate::item::{Item, Parcel};
use std::fmt;

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

/// What a slot holds, as the records of a snapshot.
///
/// # Errors
/// When the bytes are not what was put away.
pub fn stored_records(bytes: &[u8]) -> Result<Vec<Record>, StoreError> {
    let state = |(recorded, items)| State::Items {
        owner: None,
        recorded,
        items,
    };
    let records = unpack(bytes)?.into_iter().map(state);
    Ok(records
        .map(|state| Record::State(Box::new(state)))
        .collect())
}

impl Parent {
    /// Puts away into `store` what of the pool takes more than half of the memory that the items may take. Its
    /// children are asked to give back what does not fit into all of it. Not before a replay is over.
    pub fn keep_in(&mut self, store: Box<dyn Store>) {
        self.shelf = Shelf {
            store: Some(store),
            failed_at: None,
        };
        self.mind_memory();
    }

    /// The slots of the store that hold items of the pool. What [`stored_records`] makes of them belongs to
    /// [`Parent::snapshot`], which does not read the store.
    pub fn slots(&self) -> impl Iterator<Item = u64> {
        self.table.away.slots().map(|(slot, _)| slot)
    }

    /// Puts pieces of about so many bytes away, until no more than `most` bytes are left or nothing that may go.
    /// Two pieces stay: one that was brought back has not to go at once.
    pub(super) fn put_away(&mut self, most: u64, piece: u64) {
        let tried = self
            .shelf
            .failed_at
            .is_some_and(|at| self.table.bytes() < at / 4 * 5);
        // What lies behind walls is brought back by each look for what does not, and nobody suspects what is away.
        if tried || !self.walled.is_empty() || !self.suspects.is_empty() {
            return;
        }
        while self.table.bytes() > most && self.table.loose() > 2 * piece {
            let Some(store) = &mut self.shelf.store else {
                return;
            };
            let runs = self.table.pick_loose(piece.max(1));
            let kept: Kept = self.table.pack_runs(&runs).into();
            let mut bytes = Vec::new();
            let stored = codec::store(&kept, &mut bytes);
            let stored = stored.map_err(|error| StoreError(error.to_string()));
            match stored.and_then(|()| store.put(&bytes)) {
                Ok(slot) => {
                    self.shelf.failed_at = None;
                    self.table.put_away(&runs, slot);
                }
                Err(error) => {
                    self.shelf.failed_at = Some(self.table.bytes());
                    self.actions.push_back(Action::KeptInMemory(error));
                    return;
                }
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
            let serves = |child| self.sessions.get(&child).map(|s| s.serves_root(*root));
            self.hungry().any(|child| serves(child) == Some(true))
        };
        let latest = self.table.away.slots().rev();
        let found = latest.filter(|(_, roots)| roots.iter().any(wanted));
        let slot = found.map(|(slot, _)| slot).next();
        slot.is_some_and(|slot| self.bring_back_slot(slot))
    }

    /// Brings everything back, as far as it can be read.
    pub(super) fn bring_all_back(&mut self) {
        for slot in self.slots().collect::<Vec<u64>>() {
            self.bring_back_slot(slot);
        }
    }

    fn bring_back_slot(&mut self, slot: u64) -> bool {
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

    /// Whether some child may be granted something that is away, as far as that is seen from here.
    pub(super) fn is_away_servable(&self) -> bool {
        let sessions = self.sessions.values();
        let live = sessions.filter(|session| !matches!(session.link, Link::Fenced { .. }));
        let roots = || self.table.away.slots().flat_map(|(_, roots)| roots);
        live.into_iter()
            .any(|session| roots().any(|&root| session.serves_root(root)))
    }

    /// The items that are away, as far as they can be read.
    pub(super) fn items_away(&self) -> impl Iterator<Item = Item> {
        let read = |slot| {
            let bytes = self.shelf.store.as_ref()?.get(slot).ok()?;
            unpack(&bytes).ok()
        };
        let parcels = self.slots().filter_map(read).flatten();
        let parcels = parcels.flat_map(|(_, parcels)| parcels);
        parcels.flat_map(Item::unpack).map(|(_, item)| item)
    }
}
