//! One child's session, as its parent sees it: the link, the sequence numbers, the timers.

use super::Time;
use super::balance::Standing;
use super::parent::Version;
use super::parts::Parts;
use super::record::Opened;
use crate::ids::{ChildId, ConnId, Epoch, IdRange, ItemId, RootId, Secret};
use crate::item::Item;
use crate::message::{Load, Wall};
use std::collections::VecDeque;

/// A grant that is done within less time was too small: it has taken as long to move. Where many small ones follow each
/// other, they grow.
const GRANT_LASTS: Time = Time::from_millis(1);
/// By how much at once.
const GROWTH_MAX: u32 = 16;

/// A lease counts for one part in so many longer than it was told: clocks of two hosts do not run at one rate. Those
/// that are steered differ by a thousandth at most.
const CLOCKS_DIFFER: u32 = 100;

/// Where a session's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Open; the child was last heard at this time.
    Up { conn: ConnId, heard: Time },
    /// Lost at this time; the child may come back until the grace time is over.
    Down { since: Time },
    /// Given up. What the child owns stays with it until its lease has run out.
    Fenced { release: Time },
}

/// A grant that the child may not have seen yet.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) seq: u64,
    pub(super) items: Vec<ItemId>,
    pub(super) ids: IdRange,
    pub(super) careful: bool,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) child: ChildId,
    pub(super) name: String,
    pub(super) weight: u64,
    pub(super) nonce: u64,
    pub(super) epoch: Epoch,
    pub(super) secret: Secret,
    pub(super) link: Link,
    /// Its connection cannot be cut: it is over when it ends, however long it is silent.
    pub(super) uncut: bool,
    /// The highest resume attempt that was seen.
    pub(super) attempt: u64,
    /// The last commit that was applied.
    pub(super) applied: u64,
    /// What has come of the next commit.
    pub(super) parts: Parts,
    /// The last grant that was made.
    pub(super) granted: u64,
    pub(super) unseen: VecDeque<Sent>,
    /// Ids that the child may use. Ranges are as large as they are few; a client's workers use them in any order.
    pub(super) leased: Vec<IdRange>,
    /// The grant that brings it more ids, until it has arrived.
    pub(super) leasing: Option<u64>,
    /// It has said what it sees of the roots.
    pub(super) ready: bool,
    /// Which roots it may be granted; none before it has said what it sees.
    pub(super) serves: Option<Vec<bool>>,
    /// Where it gets no answer for now.
    pub(super) walls: Vec<Wall>,
    pub(super) load: Load,
    /// It comes no further for now, and may be long in answering a shed.
    pub(super) stands: bool,
    pub(super) hungry: bool,
    pub(super) shed: Option<u64>,
    /// What it gave came back to it, as nobody else could use it: not asked again before its next beat or commit after
    /// this.
    pub(super) rests_until: Option<Time>,
    /// When it was last granted items, and how many.
    pub(super) fed: (Time, u64),
    /// So many items it can do with: fewer did not last.
    pub(super) needs: u64,
    /// It was granted something lately: it is not asked for that before this.
    pub(super) keeps_until: Time,
    /// Until when its workers may act, counted generously, however much its clock and this one differ.
    pub(super) acts_until: Time,
    /// It works on suspects: grant it nothing else.
    pub(super) careful: bool,
    /// How the balance sees it.
    pub(super) standing: Standing,
    /// There was nothing for it in the pool when that was in this state.
    pub(super) in_vain: Option<Version>,
}

impl Session {
    pub(super) fn new(opened: &Opened, link: Link) -> Self {
        Self {
            child: opened.child,
            name: opened.name.clone(),
            weight: u64::from(opened.workers.max(1)),
            nonce: opened.nonce,
            epoch: opened.epoch,
            secret: opened.secret,
            link,
            uncut: false,
            attempt: 0,
            applied: 0,
            parts: Parts::default(),
            granted: 0,
            unseen: VecDeque::new(),
            leased: vec![opened.ids],
            leasing: None,
            ready: false,
            serves: None,
            walls: Vec::new(),
            load: Load::default(),
            stands: false,
            hungry: true,
            shed: None,
            rests_until: None,
            fed: (Time::ZERO, 0),
            needs: 0,
            keeps_until: Time::ZERO,
            acts_until: Time::ZERO,
            careful: false,
            standing: Standing::default(),
            in_vain: None,
        }
    }

    /// The open connection.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.link {
            Link::Up { conn, .. } => Some(conn),
            Link::Down { .. } | Link::Fenced { .. } => None,
        }
    }

    /// Whether it is there, and it is known what it may be granted.
    pub(super) fn is_served(&self) -> bool {
        self.conn().is_some() && self.serves.is_some()
    }

    /// Whether it may be granted anything at all.
    pub(super) fn serves_any(&self) -> bool {
        let serves = self.serves.as_ref();
        serves.is_some_and(|serves| serves.contains(&true))
    }

    /// Whether it may be granted what lies under this root.
    pub(super) fn serves_root(&self, root: RootId) -> bool {
        let serves = self.serves.as_ref();
        serves.is_some_and(|serves| serves.get(root.0 as usize) == Some(&true))
    }

    /// Whether it may be granted this item.
    pub(super) fn serves(&self, item: &Item) -> bool {
        self.serves_root(item.root()) && self.wall_before(item).is_none()
    }

    /// Its workers may act for so long from now on.
    pub(super) fn may_act(&mut self, now: Time, lease: Time) {
        let until = now + lease + lease / CLOCKS_DIFFER;
        self.acts_until = self.acts_until.max(until);
    }

    /// Notes that the child lives.
    pub(super) fn heard(&mut self, now: Time) {
        if let Link::Up { heard, .. } = &mut self.link {
            *heard = now;
        }
    }

    /// Forgets grants that have arrived.
    pub(super) fn seen(&mut self, last_grant: u64) {
        while self
            .unseen
            .front()
            .is_some_and(|sent| sent.seq <= last_grant)
        {
            self.unseen.pop_front();
        }
        if self.leasing.is_some_and(|seq| seq <= last_grant) {
            self.leasing = None;
        }
    }

    /// Notes what the child says about its load.
    pub(super) fn loaded(&mut self, now: Time, load: Load) {
        if load.hungry && !self.hungry {
            let (since, items) = self.fed;
            let lasted = now.saturating_sub(since).max(GRANT_LASTS / GROWTH_MAX);
            let enough = u128::from(items) * GRANT_LASTS.as_nanos() / lasted.as_nanos();
            self.needs = u64::try_from(enough).unwrap_or(u64::MAX);
        }
        self.load = load;
        self.hungry = load.hungry;
    }

    /// Ends its rest, if that is over.
    pub(super) fn end_rest(&mut self, now: Time) {
        self.rests_until = self.rests_until.filter(|&until| now < until);
    }
}
