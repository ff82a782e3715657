//! Items that were in hand when a worker died.
//!
//! One death may be bad luck, and two. The third try runs the item alone, under a worker that commits each
//! step and cuts it into pieces; the pieces are suspects too, until the one that kills is alone.

use crate::ids::ItemId;
use crate::item::Parcel;
use std::collections::BTreeMap;

/// Deaths after which an item is run alone.
const TRIES_MAX: u8 = 2;

#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<ItemId, u8>);

/// What to do with an item that was in hand when its worker died.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    TryAgain,
    /// It died alone and cannot be cut any further.
    SetAside,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the item may be granted only alone.
    pub(super) fn is_confined(&self, id: ItemId) -> bool {
        self.0.get(&id).is_some_and(|&tries| tries >= TRIES_MAX)
    }

    /// Whether a worker died with the item in hand.
    pub(super) fn is_accused(&self, id: ItemId) -> bool {
        self.0.contains_key(&id)
    }

    /// The confined items.
    pub(super) fn confined(&self) -> impl Iterator<Item = ItemId> {
        let confined = self.0.iter().filter(|&(_, &tries)| tries >= TRIES_MAX);
        confined.map(|(&id, _)| id)
    }

    /// A worker died with this item in hand.
    pub(super) fn accuse(&mut self, id: ItemId, parcel: &Parcel) -> Verdict {
        let tries = self.0.entry(id).or_default();
        if *tries >= TRIES_MAX && !can_be_cut(parcel) {
            return Verdict::SetAside;
        }
        *tries = tries.saturating_add(1);
        // A confined item that could be cut and yet killed its worker whole gets a bounded number of tries.
        match *tries > 2 * TRIES_MAX {
            true => Verdict::SetAside,
            false => Verdict::TryAgain,
        }
    }

    /// The item was finished or replaced by pieces: its `pieces` are what is left to suspect.
    pub(super) fn replace(&mut self, id: ItemId, pieces: &[ItemId]) {
        if self.0.remove(&id).is_some_and(|tries| tries >= TRIES_MAX) {
            self.0
                .extend(pieces.iter().map(|&piece| (piece, TRIES_MAX)));
        }
    }

    /// The item is somebody else's now.
    pub(super) fn forget(&mut self, id: ItemId) {
        self.0.remove(&id);
    }
}

fn can_be_cut(parcel: &Parcel) -> bool {
    match parcel {
        Parcel::Names(names) => names.names.len() > 1,
        Parcel::Dirs(_) | Parcel::Rest(_) | Parcel::After(_) => false,
    }
}
