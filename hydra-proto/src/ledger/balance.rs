//! Who gets work, and who is asked to give some back. Policy: nothing here can lose or double an item.
//!
//! The pool goes to hungry children at once, nearest to the root first, each getting its share by the number
//! of its workers. When the pool cannot feed them all, the richest children are asked to shed. A child that
//! has nothing to give keeps the request until it has; so nobody is asked twice, and nothing is polled.
//!
//! A child is hungry before it runs dry, and starves when what its workers hold is not enough for all of them. Only
//! for one that starves is another asked for the last thing that it holds: else two busy children would hand it to
//! and fro for as long as they work.

mod dealing;

use super::parent::{Action, Parent};
use super::session::Session;
use crate::ids::{ChildId, ConnId, IdRange, RootId};
use crate::message::{Down, Shed};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;

/// A child with fewer items than this for each of its workers has nothing that it could spare.
const HELD_MIN: u64 = 2;
/// One in so many children is asked at a time, or so many where that is more: whoever gives for many moves more with
/// one message.
const ASKED_SHARE: usize = 16;
const ASKED_MIN: usize = 64;
/// Where many are rich, each gives at most as many parts of what it holds as it keeps one.
const PARTS_MAX: usize = 3;
/// Who got back what it gave is not asked again for one part in so many of a beat, and until it says something after
/// that: meanwhile something else may be found.
const REST_SHARE: u32 = 64;

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
    /// Busy children that were asked, whatever they hold, and have not answered.
    waited_for: usize,
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
    /// Each of its workers has something in hand, or could be given it by the others.
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
    waited_for: bool,
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
        self.waited_for -= usize::from(standing.waited_for);
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
        self.waited_for += usize::from(standing.waited_for);
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
    // One whose workers all work, or can share what they hold, may give, though it will be hungry soon, to those who have
    // nothing at all.
    let works = u64::from(session.load.busy) + session.load.held >= session.weight;
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
        waited_for: busy && session.shed.is_some() && !session.stands,
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
        let mut came_back = Vec::new();
        // What somebody gave goes to others, if they can have it.
        for own in [false, true] {
            let mut last = None;
            while self.table.pool_len() > 0
                && let Some(next) = self.hungry_after(last)
            {
                last = Some(next);
                if self.feed_one(next.1, own) {
                    came_back.push(next.1);
                }
            }
        }
        if !self.balance.hungry.is_empty() {
            came_back.into_iter().for_each(|child| self.rest(child));
        }
    }

    /// The next that may be fed. What this parent's own parent waits for is for those who starve, here or there.
    fn hungry_after(&self, last: Option<(Hunger, ChildId)>) -> Option<(Hunger, ChildId)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.balance.hungry.range((from, Bound::Unbounded)).next();
        next.filter(|(hunger, _)| !hunger.works || !self.reserved)
            .copied()
    }

    /// Grants a hungry child its share, if there is any. Says whether it got back what it gave.
    fn feed_one(&mut self, child: ChildId, own: bool) -> bool {
        let is_hungry = |session: &Session| session.standing.hungry.is_some();
        let is_hungry = self.sessions.get(&child).is_some_and(is_hungry);
        let version = self.version();
        let in_vain = |session: &Session| session.in_vain == Some(version);
        let in_vain = self.sessions.get(&child).is_some_and(in_vain);
        if self.table.pool_len() == 0 || !is_hungry || in_vain {
            return false;
        }
        let (items, careful) = match self.pick(child, own) {
            items if items.is_empty() && own => (self.pick_suspect(child), true),
            items => (items, false),
        };
        if items.is_empty() {
            // Not looked for again by each message, where all that is there lies behind walls.
            if own
                && self.suspects.is_empty()
                && let Some(session) = self.sessions.get_mut(&child)
            {
                session.in_vain = Some(version);
            }
            return false;
        }
        let came_back = items.iter().any(|&id| self.table.was_given_by(id, child));
        self.grant(child, &items, IdRange::default(), careful);
        came_back
    }

    /// What a child gave has come back to it, and somebody is hungry still: asking it again at once would
    /// bring the same.
    fn rest(&mut self, child: ChildId) {
        let until = self.now + self.config.spec.timing.beat / REST_SHARE;
        if let Some(session) = self.sessions.get_mut(&child) {
            session.rests_until = Some(until);
        }
        self.index(child);
    }

    pub(super) fn hungry(&self) -> impl Iterator<Item = ChildId> {
        self.balance.hungry.iter().map(|&(_, child)| child)
    }

    fn ask(&mut self) {
        let hungry = self.balance.hungry.len();
        let need = hungry.saturating_sub(self.balance.asked.len());
        let most = (self.sessions.len() / ASKED_SHARE).max(ASKED_MIN);
        let need = need.min(most.saturating_sub(self.balance.asked.len()));
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

    /// Whether some child that has something in hand was asked.
    pub(super) fn waits_for_answers(&self) -> bool {
        self.balance.waited_for > 0
    }

    /// Whether some child is about to run dry.
    pub(super) fn has_hungry(&self) -> bool {
        !self.balance.hungry.is_empty()
    }
}
