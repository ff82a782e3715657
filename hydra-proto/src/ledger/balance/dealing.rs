//! What of the pool a hungry child gets.

use super::HELD_MIN;
use crate::ids::{ChildId, ItemId};
use crate::item::{Item, Parcel};
use crate::ledger::parent::Parent;
use crate::ledger::session::Session;
use std::cell::Cell;

/// The most items in one grant.
const GRANT_ITEMS_MAX: u64 = 4096;
/// A grant that has this many bytes takes no more items.
const GRANT_BYTES_MAX: usize = 1 << 20;
/// Who gave so many of the first items in the pool gets them again: others' lie far behind.
const PASSED_MAX: usize = 1 << 14;
/// Where there is little, a grant is enough for one in so many of a child's workers.
const FED_SHARE: u64 = 2;
/// Of so many items of the pool a grant takes one, at most.
const STRIDE_MAX: u64 = 64;
/// So many siblings are dealt side by side.
const SIBLINGS: u64 = 64;
/// And it looks at about so many.
const LOOKS_MAX: usize = 4096;

/// Takes one item in `stride`. Of many siblings as many, but side by side: every gap between them would cost memory
/// here, and bytes on the way.
struct Dealer {
    stride: u64,
    /// How many were passed over since the last that was taken.
    due: u64,
    /// The siblings that were looked at last, and how many more of them are taken.
    run: Option<ItemId>,
    left: u64,
}

impl Dealer {
    /// Whether the next item is taken, one of `len` siblings that begin with `first`.
    fn takes(&mut self, first: ItemId, len: u64) -> bool {
        let begins = self.run.replace(first) != Some(first);
        if len <= SIBLINGS {
            self.due = (self.due + 1) % self.stride;
            return self.due == 0;
        }
        if begins {
            self.left = (self.due + len) / self.stride;
            self.due = (self.due + len) % self.stride;
        }
        let takes = self.left > 0;
        self.left -= u64::from(takes);
        takes
    }
}

impl Parent {
    /// A hungry child's share of the pool.
    pub(super) fn pick(&self, child: ChildId, own: bool) -> Vec<ItemId> {
        let Some(session) = self.sessions.get(&child).filter(|session| !session.careful) else {
            return Vec::new();
        };
        let most = self.most_of_pool(session).clamp(1, GRANT_ITEMS_MAX) as usize;
        let stride = self.stride(most);
        let (mut bytes, mut before) = (0, None::<(ItemId, Item)>);
        let fits = |id: &ItemId| {
            let fits = bytes < GRANT_BYTES_MAX;
            if let Some(entry) = self.table.get(*id) {
                let joins = before.as_ref().map(|(id, item)| (*id, item));
                bytes += entry.item.packed_size(*id, joins);
                before = Some((*id, entry.item));
            }
            fits
        };
        let passed = Cell::new(0);
        let passes_over = |id: &ItemId| {
            let own = !own && self.table.was_given_by(*id, child);
            passed.set(passed.get() + usize::from(own));
            own
        };
        let allowed = |id: &ItemId| {
            !passes_over(id) && self.may_grant(session, *id) && !self.suspects.is_confined(*id)
        };
        let near = |_: &ItemId| passed.get() < PASSED_MAX;
        let pool = || self.table.pool().take_while(near).filter(allowed);
        let accused = |id: &ItemId| self.suspects.is_accused(*id);
        // What somebody has died of comes last, so that the others have not to wait for it.
        match self.suspects.is_empty() || pool().all(|id| accused(&id)) {
            true => {
                let dealt = self.dealt(pool(), stride);
                dealt.take(most).take_while(fits).collect()
            }
            false => {
                let dealt = self.dealt(pool().filter(|id| !accused(id)), stride);
                dealt.take(most).take_while(fits).collect()
            }
        }
    }

    /// How many items of the pool a hungry child gets.
    fn most_of_pool(&self, session: &Session) -> u64 {
        let pool = self.table.pool_len() * session.weight;
        let share = pool.div_ceil(self.balance.weight.max(1));
        let hungry = self.balance.hungry_weight.max(session.weight);
        let first = self.table.pool().next().and_then(|id| self.table.get(id));
        let most = match first.as_ref().map(|entry| entry.item.parcel()) {
            // Pieces of one listing are small and alike, and were given for those who are in need now: dealt out at
            // once, they do not all go to whoever comes back first.
            Some(Parcel::Names(_)) => {
                return share.max(pool.div_ceil(hungry + self.balance.idle_weight));
            }
            // Of much else, its share by the number of its workers; of little, enough for them to be at work while
            // the next grant is on its way, unless others need it now.
            _ => {
                let enough = session.needs.max(HELD_MIN * session.weight);
                share.max(pool.div_ceil(hungry).min(enough))
            }
        };
        // Where there is less than one for each that is hungry, some get something to do for half of their workers, and
        // can soon give again: what is too small to last costs the most messages.
        match self.balance.hungry.len() as u64 >= self.table.pool_len() {
            true => most.max(self.table.pool_len().min(session.weight / FED_SHARE)),
            false => most,
        }
    }

    /// Each takes one of so many items of the pool, so that what lies near the root is not all granted to the first.
    fn stride(&self, most: usize) -> u64 {
        let grants = self.table.pool_len() / most.max(1) as u64;
        let hungry = self.balance.hungry.len() as u64;
        let looks = (LOOKS_MAX / most.max(1)) as u64;
        grants.min(hungry).min(STRIDE_MAX).min(looks).max(1)
    }

    /// Of these items one in `stride`, the first among them.
    fn dealt(
        &self,
        ids: impl Iterator<Item = ItemId>,
        stride: u64,
    ) -> impl Iterator<Item = ItemId> {
        let mut dealer = Dealer {
            stride,
            due: stride - 1,
            run: None,
            left: 0,
        };
        ids.filter(move |&id| {
            let found = self.table.runs.find(id);
            found.is_some_and(|(first, _, run)| dealer.takes(first, u64::from(run.len)))
        })
    }

    /// One suspect, for a child that has nothing else to do.
    pub(super) fn pick_suspect(&self, child: ChildId) -> Vec<ItemId> {
        let Some(session) = self.sessions.get(&child) else {
            return Vec::new();
        };
        if self.table.owned(child) > 0 {
            return Vec::new();
        }
        let in_pool = |id: &ItemId| self.table.is_in_pool(*id) && self.may_grant(session, *id);
        self.suspects.confined().find(in_pool).into_iter().collect()
    }

    fn may_grant(&self, session: &Session, id: ItemId) -> bool {
        let entry = self.table.get(id);
        entry.is_some_and(|entry| session.serves(&entry.item) && !self.is_tried(&entry.item))
    }
}
