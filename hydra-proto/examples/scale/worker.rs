//! A worker: the real frontier and the real session; what walks takes a fixed time for each directory.
//!
//! Nothing happens to anybody else while a worker walks, so many directories are one event: the walk is caught up
//! with when a message comes, a commit is due, or the deque may have run dry.

use super::shape::{Shape, Spot};
use hydra_proto::codec;
use hydra_proto::ids::ConnId;
use hydra_proto::ledger::{Frontier, Time, Uplink, UplinkConfig, UplinkEvent, Work};
use hydra_proto::message::{Delta, Down, Ready, RootFacts, RootView, Up};
use hydra_proto::walk::WalkSummary;
use std::time::Duration;

/// Bytes of a plugin's summary besides the sum.
const SUMMARY: usize = 120;

pub(crate) struct Worker {
    pub uplink: Uplink,
    frontier: Option<Frontier<Spot>>,
    hand: Option<Spot>,
    /// When what is in hand was begun.
    begun: Time,
    next_cut: Time,
    interval: Time,
    told_hungry: bool,
    dirs: u64,
    sum: u64,
    /// The moment of the event that is planned, if there is one.
    pub planned: Option<Time>,
    /// The same for the session's timers.
    pub planned_tick: Option<Time>,
}

impl Worker {
    pub(crate) fn new(number: u64, interval: Time) -> Self {
        Self {
            uplink: Uplink::new(UplinkConfig {
                name: String::new(),
                workers: 1,
                nonce: number,
                release: String::new(),
                resumable: false,
                uncut: false,
            }),
            frontier: None,
            hand: None,
            begun: Time::ZERO,
            next_cut: Time::ZERO,
            interval,
            told_hungry: true,
            dirs: 0,
            sum: 0,
            planned: None,
            planned_tick: None,
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.hand.is_some()
    }

    pub(crate) fn message(
        &mut self,
        now: Time,
        conn: ConnId,
        message: Down,
        cost: Duration,
        shape: &Shape,
    ) {
        self.walk(now, cost, shape);
        self.uplink.handle(now, conn, message);
        while let Some(event) = self.uplink.poll_event() {
            self.session_event(now, event);
        }
        if self.hand.is_some()
            && self.uplink.has_window()
            && let Some(frontier) = &mut self.frontier
            && let Some(cut) = frontier.give()
        {
            self.told_hungry = cut.load.hungry;
            self.uplink.commit(cut);
        }
        if self.hand.is_none() {
            self.begun = now;
            self.boundary(now, shape);
        }
        self.tell_hunger(now);
    }

    fn session_event(&mut self, now: Time, event: UplinkEvent) {
        match (event, &mut self.frontier) {
            (UplinkEvent::Started(welcome), _) => {
                self.frontier = Some(Frontier::new(welcome.ids));
                let view = RootView::Seen(facts());
                let roots = welcome.job.roots.iter().map(|_| view.clone()).collect();
                let epoch = self.uplink.epoch();
                self.uplink.send(Up::Ready(Ready { epoch, roots }));
            }
            (UplinkEvent::Granted(grant), Some(frontier)) => {
                self.told_hungry &= grant.items.is_empty();
                if self.hand.is_none() {
                    self.next_cut = now + self.interval;
                }
                frontier.accept(grant);
            }
            (UplinkEvent::Asked(shed), Some(frontier)) => frontier.ask(shed),
            (other, _) => assert!(!matches!(other, UplinkEvent::Drop(_)), "{other:?}"),
        }
    }

    /// Catches up with the walk until `now`.
    pub(crate) fn walk(&mut self, now: Time, cost: Duration, shape: &Shape) {
        while let Some(spot) = self.hand
            && self.begun + cost <= now
        {
            self.begun += cost;
            self.hand = None;
            self.dirs += 1;
            self.sum = self.sum.wrapping_add(spot.hash);
            if let Some(frontier) = &mut self.frontier {
                frontier.push_dirs(&spot, shape.names(spot));
                frontier.finish();
            }
            self.boundary(self.begun, shape);
        }
    }

    /// Between two directories: commits if that is due, and takes the next one.
    fn boundary(&mut self, now: Time, shape: &Shape) {
        let Some(frontier) = &mut self.frontier else {
            return;
        };
        let asked = frontier.asked().is_some();
        let dry = frontier.is_dry() && (frontier.has_news() || asked);
        let due = now >= self.next_cut && frontier.has_news();
        if (dry || due || frontier.could_give()) && self.uplink.has_window() && frontier.can_cut() {
            self.cut(now);
        }
        if let Some((_, work)) = self.frontier.as_mut().and_then(Frontier::pop) {
            let Work::Dir { parent, name } = work else {
                unreachable!("only whole directories are walked");
            };
            self.hand = Some(shape.find(parent, &name));
        }
    }

    fn cut(&mut self, now: Time) {
        let Some(frontier) = &mut self.frontier else {
            return;
        };
        let (dirs, sum) = (
            std::mem::take(&mut self.dirs),
            std::mem::take(&mut self.sum),
        );
        let delta = (dirs > 0).then(|| delta(dirs, sum));
        if let Some(cut) = frontier.cut(delta) {
            self.told_hungry = cut.load.hungry;
            self.next_cut = now + self.interval;
            self.uplink.commit(cut);
        }
    }

    /// Tells the parent when the deque is empty, and when it is so no longer.
    pub(crate) fn tell_hunger(&mut self, now: Time) {
        let Some(frontier) = &self.frontier else {
            return;
        };
        let load = frontier.load();
        if load.hungry != self.told_hungry && self.hand.is_some() {
            self.told_hungry = load.hungry;
            self.uplink.beat(now, load);
        }
    }

    pub(crate) fn tick(&mut self, now: Time) {
        let load = self.frontier.as_ref().map(Frontier::load);
        self.uplink.tick(now, load.unwrap_or_default());
    }

    /// When something may happen that others notice.
    pub(crate) fn next(&self, cost: Duration) -> Option<Time> {
        let frontier = self.frontier.as_ref().filter(|_| self.hand.is_some())?;
        let next = self.begun + cost;
        if frontier.asked().is_some() && self.uplink.has_window() {
            return Some(next);
        }
        // Each step takes at most one item out of the deque.
        let steps = u32::try_from(frontier.held().max(1)).unwrap_or(u32::MAX);
        let dry = self.begun.saturating_add(cost.saturating_mul(steps));
        let due = match self.uplink.has_window() {
            true => self.next_cut.max(next) + cost,
            false => dry,
        };
        Some(dry.min(due))
    }
}

pub(crate) fn delta(dirs: u64, sum: u64) -> Delta {
    let mut walk = WalkSummary::default();
    (walk.entries, walk.directories) = (dirs, dirs);
    let plugin = codec::encode(&(sum, vec![7u8; SUMMARY])).unwrap_or_default();
    Delta {
        walk,
        plugin,
        ..Delta::default()
    }
}

pub(crate) fn sum_of(delta: &Delta) -> u64 {
    codec::decode::<(u64, Vec<u8>)>(&delta.plugin).map_or(0, |(sum, _)| sum)
}

pub(crate) fn facts() -> RootFacts {
    RootFacts {
        fs_type: "nfs".to_owned(),
        fs_id: "host:/export".to_owned(),
        inode: 1,
        directory: true,
        on_system_disk: false,
    }
}
