//! Who gets work, and who is asked to give some back. Policy: nothing here can lose or double an item.
//!
//! The pool goes to hungry children at once, nearest to the root first, each getting its share by the number
//! of its workers. When the pool cannot feed them all, the richest children are asked to shed. A child that
//! has nothing to give keeps the request until it has; so nobody is asked twice, and nothing is polled.
//!
//! A child is hungry before it runs dry, and starves when it has. Only for one that starves is another asked
//! for the last thing that it holds: else two busy children would hand it to and fro for as long as they work.

use super::parent::{Action, Parent};
use super::session::Session;
use crate::ids::{ChildId, ConnId, IdRange, ItemId, RootId};
use crate::item::{Item, Parcel};
use crate::message::{Down, Shed};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// The most items in one grant.
const GRANT_ITEMS_MAX: u64 = 4096;
/// A grant that has this many bytes takes no more items.
const GRANT_BYTES_MAX: usize = 1 << 20;
/// Who gave so many of the first items in the pool gets them again: others' lie far behind.
const PASSED_MAX: usize = 1 << 14;
/// A child with fewer items than this for each of its workers has nothing that it could spare.
const HELD_MIN: u64 = 2;
/// Where many are rich, each gives at most as many parts of what it holds as it keeps one.
const PARTS_MAX: usize = 3;

/// Which children are hungry and which are rich, kept up to date child by child, so that balancing costs
/// nothing while everybody is busy.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// Those who are hungry: the starving before the others, and who waits longest first.
    hungry: BTreeSet<(Hunger, ChildId)>,
    next_hungry: u64,
    /// Busy children that are not asked yet, by what they hold: the last is the richest.
    rich: BTreeSet<(Wealth, ChildId)>,
    /// Rich children that were asked and have not answered.
    asked: BTreeSet<ChildId>,
    /// Workers of all children that may be granted something.
    weight: u64,
    /// Workers of the hungry ones.
    hungry_weight: u64,
    /// Workers of those that own nothing and do not say yet that they are hungry.
    idle_weight: u64,
    /// Children that own nothing: hungry, or about to say so.
    idle: usize,
}

/// How urgent a child's hunger is: the least is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hunger {
    /// It still has something in hand.
    works: bool,
    since: u64,
}

/// How much a child could give: the greatest is the richest. What lies near the root is large, however few it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wealth {
    has_some: bool,
    top: Reverse<u32>,
    held: u64,
}

/// Where a child stands in [`Balance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    hungry: Option<Hunger>,
    rich: Option<Wealth>,
    asked: bool,
    idle: bool,
    weight: u64,
}

impl Standing {
    fn idle_weight(&self) -> u64 {
        match self.hungry.is_none() && self.idle {
            true => self.weight,
            false => 0,
        }
    }
}

impl Balance {
    fn remove(&mut self, child: ChildId, standing: Standing) {
        self.weight -= standing.weight;
        self.idle -= usize::from(standing.idle);
        self.idle_weight -= standing.idle_weight();
        if let Some(hunger) = standing.hungry {
            self.hungry_weight -= standing.weight;
            self.hungry.remove(&(hunger, child));
        }
        if let Some(wealth) = standing.rich {
            self.rich.remove(&(wealth, child));
        }
        if standing.asked {
            self.asked.remove(&child);
        }
    }

    fn insert(&mut self, child: ChildId, standing: Standing) {
        self.weight += standing.weight;
        self.idle += usize::from(standing.idle);
        self.idle_weight += standing.idle_weight();
        if let Some(hunger) = standing.hungry {
            self.hungry_weight += standing.weight;
            self.hungry.insert((hunger, child));
        }
        if let Some(wealth) = standing.rich {
            self.rich.insert((wealth, child));
        }
        if standing.asked {
            self.asked.insert(child);
        }
    }
}

fn standing(session: &Session, owned: u64, top: u32, next_hungry: u64) -> Standing {
    if !session.is_served() {
        return Standing::default();
    }
    let before = session.standing.hungry.map(|hunger| hunger.since);
    let held = session.load.held.max(u64::from(owned > 0));
    // One whose workers all work may give, though it will be hungry soon, to those who have nothing at all.
    let works = u64::from(session.load.busy) >= session.weight;
    let hunger = Hunger {
        works,
        since: before.unwrap_or(next_hungry),
    };
    let busy = owned > 0 && (!session.hungry || (works && session.load.held >= HELD_MIN));
    let wealth = Wealth {
        has_some: !session.hungry || held >= HELD_MIN,
        top: Reverse(top),
        held,
    };
    // One that serves no root gets nothing, and takes nobody's share; it may still own what it was granted before.
    let serves = session.serves_any();
    Standing {
        // One that works on suspects is granted nothing else: others would give for it in vain.
        hungry: (serves && session.hungry && !session.careful).then_some(hunger),
        rich: (busy && session.shed.is_none() && session.rests_until.is_none()).then_some(wealth),
        asked: busy && session.shed.is_some() && held >= HELD_MIN && !session.stands,
        idle: serves && owned == 0,
        weight: if serves { session.weight } else { 0 },
    }
}

impl Parent {
    /// Takes note of what has changed about a child.
    pub(super) fn index(&mut self, child: ChildId) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        let next = self.balance.next_hungry;
        let now = {
            let top = self.table.top_of(child).unwrap_or(u32::MAX);
            standing(session, self.table.owned(child), top, next)
        };
        if now != session.standing {
            self.balance.next_hungry += u64::from(now.hungry.is_some_and(|h| h.since == next));
            self.balance.remove(child, session.standing);
            self.balance.insert(child, now);
            session.standing = now;
        }
    }

    /// Forgets a child that is gone.
    pub(super) fn unindex(&mut self, session: &Session) {
        self.balance.remove(session.child, session.standing);
    }

    /// Feeds the hungry, and asks the rich if that was not enough.
    pub(super) fn rebalance(&mut self) {
        if self.is_stopped() {
            return;
        }
        if !self.balance.hungry.is_empty() {
            self.feed();
            while self.bring_back() {
                self.feed();
            }
            self.ask();
        }
        self.mind_memory();
    }

    fn feed(&mut self) {
        if self.table.pool_len() == 0 {
            return;
        }
        // What this parent's own parent waits for is for those who starve, here or there.
        let fed = |(hunger, _): &&(Hunger, ChildId)| !hunger.works || !self.reserved;
        let hungry = self.balance.hungry.iter().take_while(fed);
        let hungry: Vec<ChildId> = hungry.map(|&(_, child)| child).collect();
        let mut came_back = Vec::new();
        // What somebody gave goes to others, if they can have it.
        for own in [false, true] {
            for &child in &hungry {
                if self.feed_one(child, own) {
                    came_back.push(child);
                }
            }
        }
        if !self.balance.hungry.is_empty() {
            came_back.into_iter().for_each(|child| self.rest(child));
        }
    }

    /// Grants a hungry child its share, if there is any. Says whether it got back what it gave.
    fn feed_one(&mut self, child: ChildId, own: bool) -> bool {
        let is_hungry = |session: &Session| session.standing.hungry.is_some();
        let is_hungry = self.sessions.get(&child).is_some_and(is_hungry);
        if self.table.pool_len() == 0 || !is_hungry {
            return false;
        }
        let (items, careful) = match self.pick(child, own) {
            items if items.is_empty() && own => (self.pick_suspect(child), true),
            items => (items, false),
        };
        if items.is_empty() {
            return false;
        }
        let came_back = items.iter().any(|&id| self.table.was_given_by(id, child));
        self.grant(child, &items, IdRange::default(), careful);
        came_back
    }

    /// What a child gave has come back to it, and somebody is hungry still: asking it again at once would
    /// bring the same.
    fn rest(&mut self, child: ChildId) {
        let until = self.now + self.config.spec.timing.beat;
        if let Some(session) = self.sessions.get_mut(&child) {
            session.rests_until = Some(until);
        }
        self.index(child);
    }

    pub(super) fn hungry(&self) -> impl Iterator<Item = ChildId> {
        self.balance.hungry.iter().map(|&(_, child)| child)
    }

    /// A hungry child's share of the pool.
    fn pick(&self, child: ChildId, own: bool) -> Vec<ItemId> {
        let Some(session) = self.sessions.get(&child).filter(|session| !session.careful) else {
            return Vec::new();
        };
        let most = self.most_of_pool(session).clamp(1, GRANT_ITEMS_MAX) as usize;
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
            true => pool().take(most).take_while(fits).collect(),
            false => {
                let pool = pool().filter(|id| !accused(id));
                pool.take(most).take_while(fits).collect()
            }
        }
    }

    /// How many items of the pool a hungry child gets.
    fn most_of_pool(&self, session: &Session) -> u64 {
        let pool = self.table.pool_len() * session.weight;
        let share = pool.div_ceil(self.balance.weight.max(1));
        let hungry = self.balance.hungry_weight.max(session.weight);
        let first = self.table.pool().next().and_then(|id| self.table.get(id));
        match first.as_ref().map(|entry| entry.item.parcel()) {
            // Pieces of one listing are small and alike, and were given for those who are in need now: dealt out at
            // once, they do not all go to whoever comes back first.
            Some(Parcel::Names(_)) => share.max(pool.div_ceil(hungry + self.balance.idle_weight)),
            // Of much else, its share by the number of its workers; of little, enough for them to be at work while
            // the next grant is on its way, unless others need it now.
            _ => {
                let enough = session.needs.max(HELD_MIN * session.weight);
                share.max(pool.div_ceil(hungry).min(enough))
            }
        }
    }

    /// One suspect, for a child that has nothing else to do.
    fn pick_suspect(&self, child: ChildId) -> Vec<ItemId> {
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

    fn ask(&mut self) {
        let hungry = self.balance.hungry.len();
        let need = hungry.saturating_sub(self.balance.asked.len());
        if need == 0 || self.balance.rich.is_empty() {
            return;
        }
        let starves = |(hunger, _): &&(Hunger, ChildId)| !hunger.works;
        let hungriest = self.balance.hungry.iter().take(self.balance.rich.len());
        let starving = hungriest.take_while(starves).count();
        let richest = self.balance.rich.iter().rev();
        let useful = richest.filter(|&&(_, child)| self.has_for_hungry(child));
        let chosen = useful.take(need).enumerate();
        let spares = chosen.filter(|&(index, &(wealth, child))| {
            index < starving || self.can_spare(child, wealth.held)
        });
        let asked: Vec<ChildId> = spares.map(|(_, rich)| rich.1).collect();
        // Nobody is asked again when another one says a moment later that it has nothing either. Those who were asked
        // before give for some of them.
        let givers = asked.len() + self.balance.asked.len();
        let each = hungry.max(self.balance.idle).div_ceil(givers.max(1));
        // Where there are others that can be asked, nobody is left with nothing.
        let most = match self.balance.rich.len() > hungry {
            true => PARTS_MAX,
            false => usize::MAX,
        };
        let each = each.min(most);
        for child in asked {
            self.ask_one(child, u32::try_from(each).unwrap_or(u32::MAX));
        }
    }

    /// Whether a child that gave some of `held` would not be hungry itself.
    fn can_spare(&self, child: ChildId, held: u64) -> bool {
        let weight = self
            .sessions
            .get(&child)
            .map_or(1, |session| session.weight);
        held >= weight.saturating_mul(HELD_MIN)
    }

    /// Whether a child owns anything that some hungry child may be granted.
    fn has_for_hungry(&self, child: ChildId) -> bool {
        let serves = |root: RootId| {
            let served = |id| {
                self.sessions
                    .get(&id)
                    .is_some_and(|other| other.serves_root(root))
            };
            self.hungry().any(served)
        };
        self.table.roots_of(child).any(serves)
    }

    /// Asks a child to give some of what it holds.
    fn ask_one(&mut self, child: ChildId, hungry: u32) {
        let id = self.next_shed;
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        let Some(conn) = session.conn() else {
            return;
        };
        self.next_shed += 1;
        session.shed = Some(id);
        let message = Down::Shed(Shed { id, hungry });
        self.actions.push_back(Action::Send { conn, message });
        self.index(child);
    }

    /// Asks all rich children, because this parent's own parent wants work back: what goes there has a longer way.
    pub(super) fn ask_for_parent(&mut self, hungry: u32) {
        let rich: Vec<ChildId> = self.balance.rich.iter().map(|&(_, child)| child).collect();
        for child in rich {
            self.ask_one(child, hungry);
        }
    }

    /// Asks the child that holds most, because there are more items here than memory for them. One at a time: the
    /// others may not be needed. Not one that was granted something a moment ago: it was hungry, and would be again.
    pub(super) fn ask_back(&mut self) {
        if self.has_asked() {
            return;
        }
        let keeps = |child| {
            let session = self.sessions.get(&child);
            session.is_some_and(|session| self.now < session.keeps_until)
        };
        let rich = self.balance.rich.iter();
        let spares =
            rich.filter(|&&(wealth, child)| self.can_spare(child, wealth.held) && !keeps(child));
        if let Some(&(_, child)) = spares.max_by_key(|(wealth, _)| wealth.held) {
            self.ask_one(child, 1);
        }
    }

    /// Says whether a child comes no further. Others do not wait for what it was asked for.
    pub(super) fn note_standing(&mut self, conn: ConnId, stands: bool) {
        if let Some(&child) = self.conns.get(&conn)
            && let Some(session) = self.sessions.get_mut(&child)
        {
            session.stands = stands;
            self.index(child);
        }
        self.rebalance();
    }

    /// Says whether this parent's own parent waits for work. Call [`Parent::rebalance`] when what it gets is
    /// out of the pool.
    pub(super) fn reserve(&mut self, reserved: bool) {
        self.reserved = reserved;
    }

    /// Whether a child that has something to give was asked for it.
    pub(super) fn has_asked(&self) -> bool {
        !self.balance.asked.is_empty()
    }

    /// Whether some child is about to run dry.
    pub(super) fn has_hungry(&self) -> bool {
        !self.balance.hungry.is_empty()
    }
}
