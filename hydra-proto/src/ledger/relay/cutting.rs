//! A client's commits: when one is due, what it says, and what it gives back.

use super::Relay;
use crate::ids::{ItemId, join_ids, join_ranges};
use crate::ledger::Time;
use crate::ledger::frontier::Cut;
use crate::ledger::parent::Parent;
use crate::message::{Delta, Failure, Shed};

/// A client waits so many times longer between two commits than the server takes to acknowledge one: what is found
/// and finished between commits costs the server nothing, so a busy server gets less to do.
const ACK_SHARE: u32 = 20;
/// And so many times longer than messages wait at the server.
const COMMIT_LATE_SHARE: u32 = 50;
/// It does not wait longer than so many commit intervals.
const INTERVALS_MAX: u32 = 25;
/// The most items that one answer to a shed gives.
const GIVE_ITEMS_MAX: u64 = 16_384;
/// A request for work waits for all workers that were asked, for one part in as many of the time that the server takes
/// to answer.
const GATHER_SHARE: u32 = 2;
/// But not for longer than this.
const GATHER_MAX: Time = Time::from_millis(100);
/// Where messages wait this long at the server, a request is answered with what is on record.
const LATE: Time = Time::from_millis(2);

impl Relay {
    /// Whether a commit is due: never before all of [`Relay::poll_action`] is taken. The shell then adds up what its
    /// workers found and calls [`Relay::cut`].
    #[must_use]
    pub fn wants_cut(&self, now: Time) -> bool {
        let Some(parent) = &self.parent else {
            return false;
        };
        // What was applied and is not polled yet is missing from the difference.
        if !self.uplink.is_open() || !self.uplink.has_window() || parent.has_actions() {
            return false;
        }
        let dry = parent.is_done() && (self.has_news() || self.shed.is_some());
        let gathered = self.is_gathered(now);
        let surplus = parent.is_over() && parent.has_for_parent();
        let gives = parent.has_held() || surplus || (gathered && self.could_answer());
        let waited_for = self.uplink.is_settled() && self.gate.waits_for(self.uplink.safe() + 1);
        dry || gives || waited_for || (self.has_news() && now >= self.next_commit)
    }

    /// Sends a commit: everything that changed since the last one, with what was found.
    pub fn cut(&mut self, now: Time, result: Option<Delta>) {
        self.say_walls(false);
        let (mut give, answers) = self.answer();
        let Some(parent) = &mut self.parent else {
            return;
        };
        give.extend(parent.pick_held(GIVE_ITEMS_MAX));
        parent.complete(&mut give);
        let aside = parent.aside().map(|aside| Failure {
            id: aside.id,
            reason: aside.reason.as_ref().to_owned(),
        });
        let failed: Vec<Failure> = aside.collect();
        let new = parent.record_fresh(&self.fresh);
        let begun = parent.begun_of(&give);
        let give = join_ids(give);
        for &ids in &give {
            parent.give_up(ids);
        }
        for failure in &failed {
            parent.report_aside(failure.id);
        }
        parent.rebalance();
        self.fresh.clear();
        self.unsent = false;
        self.committed = now;
        self.plan_commit(now);
        let cut = Cut {
            done: join_ranges(std::mem::take(&mut self.done)),
            new,
            give,
            failed,
            result,
            load: self.load(),
            answers,
            begun: join_ids(begun),
        };
        self.say(now, cut);
    }

    /// Answers a request with what is on the server's record already, and leaves the rest for the next commit: where
    /// messages wait at the server, all that was found since the last one would keep it busy for longer.
    pub(super) fn give_recorded(&mut self, now: Time) {
        let Some(shed) = self.shed.filter(|_| self.may_give_recorded(now)) else {
            return;
        };
        let give = self.pick_recorded(shed);
        let Some(parent) = self.parent.as_mut().filter(|_| !give.is_empty()) else {
            return;
        };
        let begun = join_ids(parent.begun_of(&give));
        let give = join_ids(give);
        for &ids in &give {
            parent.give_up(ids);
        }
        self.set_shed(None);
        if let Some(parent) = &mut self.parent {
            parent.rebalance();
        }
        let cut = Cut {
            give,
            load: self.load(),
            answers: Some(shed.id),
            begun,
            ..Cut::default()
        };
        self.say(now, cut);
    }

    /// What workers wait for in a job with intents is on record with the next commit: none may leave it out.
    fn may_give_recorded(&self, now: Time) -> bool {
        let ready = |parent: &Parent| !parent.has_actions() && !parent.is_over();
        self.late(now) >= LATE
            && !self.gate.is_closed()
            && self.uplink.is_open()
            && self.uplink.has_window()
            && self.parent.as_ref().is_some_and(ready)
            && self.is_gathered(now)
    }

    /// Nothing, if that would be less than half of what could be given.
    fn pick_recorded(&self, shed: Shed) -> Vec<ItemId> {
        let Some(parent) = &self.parent else {
            return Vec::new();
        };
        let all = parent.pick_for_parent(self.share_of(shed));
        let mut give = parent.recorded_of(&all);
        let count = give.len();
        parent.complete(&mut give);
        match count * 2 >= all.len() && give.len() == count {
            true => give,
            false => Vec::new(),
        }
    }

    fn say(&mut self, now: Time, cut: Cut) {
        self.told = self.hunger(cut.load);
        self.told_held = cut.load.held;
        self.uplink.commit(cut);
        if self.uplink.is_open() && !self.paused {
            self.timed.get_or_insert((self.uplink.commits().0, now));
        }
    }

    /// Whether a request has waited for everything that it may wait for: the answers of workers, and that what was just
    /// granted grows.
    fn is_gathered(&self, now: Time) -> bool {
        let waits = self.parent.as_ref().is_some_and(Parent::waits_for_answers);
        let workers = u64::from(self.config.uplink.workers.max(1));
        let grown = now >= self.digests_until || self.load().held >= 2 * workers;
        grown && (!waits || now >= self.gathers_until)
    }

    /// How many items a request asks for.
    fn share_of(&self, shed: Shed) -> u64 {
        let (held, hungry) = (self.load().held, u128::from(shed.hungry.max(1)));
        let share = (u128::from(held) * hungry / (hungry + 1)) as u64;
        share.clamp(1, GIVE_ITEMS_MAX)
    }

    /// Whether the pool has less than half of what the waiting request should get.
    pub(super) fn wants_more(&self) -> bool {
        let (Some(shed), Some(parent)) = (self.shed, &self.parent) else {
            return false;
        };
        parent.pool_len() < self.share_of(shed) / 2
    }

    /// Whether a request waits and there is something for it.
    pub(super) fn could_answer(&self) -> bool {
        let has_some = self.parent.as_ref().is_some_and(Parent::has_for_parent);
        self.shed.is_some() && has_some
    }

    /// How long a request waits for the workers: short beside the way that it has come.
    pub(super) fn gathering(&self) -> Time {
        (self.ack_takes / GATHER_SHARE).min(GATHER_MAX)
    }

    /// What the waiting shed gets, and what there is no memory for: from the pool, nearest to the root first.
    fn answer(&mut self) -> (Vec<ItemId>, Option<u64>) {
        let Some(parent) = &self.parent else {
            return (Vec::new(), None);
        };
        let surplus = if parent.is_over() { GIVE_ITEMS_MAX } else { 0 };
        let Some(shed) = self.shed else {
            return (parent.pick_for_parent(surplus), None);
        };
        let give = parent.pick_for_parent(self.share_of(shed).max(surplus));
        if give.is_empty() && !parent.is_done() {
            return (give, None);
        }
        self.set_shed(None);
        (give, Some(shed.id))
    }

    /// Says when the next commit is due, unless somebody waits for it.
    pub(super) fn plan_commit(&mut self, now: Time) {
        let most = self.commit_interval.saturating_mul(INTERVALS_MAX);
        let slow = self.ack_takes.saturating_mul(ACK_SHARE);
        let late = self.late(now).saturating_mul(COMMIT_LATE_SHARE);
        let pause = slow.max(late).min(most).max(self.commit_interval);
        self.next_commit = self.committed + pause;
    }
}
