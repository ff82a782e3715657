//! When is a split directory finished? When no part of it is open; only then may its end run.
//!
//! ```text
//!   visit v:  Names(v) Names(v) Rest(v)   open = 3      After(v) waits
//!             Names(v)                    open = 1      After(v) waits
//!                                         open = 0      After(v) goes to the pool
//! ```
//!
//! A worker gives away from the tail of its deque, where the end lies below its parts. So the end is
//! always at the lowest parent that has all open parts below it.

use crate::ids::ItemId;
use crate::item::Parcel;
use foldhash::fast::FixedState;
use std::collections::HashMap;

#[derive(Debug, Default)]
struct Visit {
    open: u32,
    after: Option<ItemId>,
    /// A part was set aside: the directory can never be finished.
    broken: bool,
}

#[derive(Debug, Default)]
pub(super) struct Visits(HashMap<ItemId, Visit, FixedState>);

/// What closing a part has done to the end of its directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Nothing,
    /// This item may run now.
    Ready(ItemId),
    /// This item can never run.
    Broken(ItemId),
}

impl Visits {
    /// An item was added.
    pub(super) fn opened(&mut self, id: ItemId, parcel: &Parcel) {
        if let Parcel::After(after) = parcel {
            self.0.entry(after.visit).or_default().after = Some(id);
        } else if let Some(visit) = parcel.visit() {
            self.0.entry(visit).or_default().open += 1;
        }
    }

    /// An item was finished or has left.
    pub(super) fn closed(&mut self, parcel: &Parcel, set_aside: bool) -> Closed {
        if let Parcel::After(after) = parcel {
            if let Some(visit) = self.0.get_mut(&after.visit) {
                visit.after = None;
            }
            self.forget_if_empty(after.visit);
            return Closed::Nothing;
        }
        let Some(id) = parcel.visit() else {
            return Closed::Nothing;
        };
        let Some(visit) = self.0.get_mut(&id) else {
            return Closed::Nothing;
        };
        visit.open = visit.open.saturating_sub(1);
        visit.broken |= set_aside;
        let outcome = match (visit.open, visit.after) {
            (0, Some(after)) if visit.broken => Closed::Broken(after),
            (0, Some(after)) => Closed::Ready(after),
            _ => Closed::Nothing,
        };
        self.forget_if_empty(id);
        outcome
    }

    /// Whether the end of this visit has to wait.
    pub(super) fn is_open(&self, visit: ItemId) -> bool {
        self.0.get(&visit).is_some_and(|visit| visit.open > 0)
    }

    /// The end of this visit, if it is here.
    pub(super) fn after(&self, visit: ItemId) -> Option<ItemId> {
        self.0.get(&visit)?.after
    }

    /// The directories that can never be finished.
    pub(super) fn broken(&self) -> Vec<ItemId> {
        let broken = self.0.iter().filter(|(_, visit)| visit.broken);
        let mut broken: Vec<ItemId> = broken.map(|(&id, _)| id).collect();
        broken.sort_unstable();
        broken
    }

    /// This directory can never be finished.
    pub(super) fn break_visit(&mut self, visit: ItemId) {
        self.0.entry(visit).or_default().broken = true;
    }

    fn forget_if_empty(&mut self, id: ItemId) {
        if let Some(visit) = self.0.get(&id)
            && visit.open == 0
            && visit.after.is_none()
        {
            self.0.remove(&id);
        }
    }
}
