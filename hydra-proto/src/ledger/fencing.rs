//! How sessions end: connections close, children die or fall silent, and their work is granted again.

use super::parent::{Action, Parent};
use super::record::Record;
use super::session::Link;
use super::suspects::Verdict;
use super::{ProtocolError, Time};
use crate::ids::{ChildId, ConnId, ItemId};
use crate::message::Refusal;

impl Parent {
    /// A connection is gone.
    pub fn closed(&mut self, now: Time, conn: ConnId) {
        let Some(child) = self.conns.remove(&conn) else {
            return;
        };
        match self.config.resumable {
            true => {
                if let Some(session) = self.sessions.get_mut(&child) {
                    session.link = Link::Down { since: now };
                    session.shed = None;
                }
                self.note_deadline(now + self.config.spec.timing.grace);
                self.index(child);
            }
            false => self.fence(now, child, "its connection is closed"),
        }
        self.rebalance();
    }

    /// A worker died. `in_hand` is the item that it was working on, as far as that is known.
    pub fn died(&mut self, now: Time, conn: ConnId, in_hand: Option<ItemId>, reason: &str) {
        if let Some(&child) = self.conns.get(&conn) {
            if let Some(id) = in_hand.filter(|&id| self.table.is_owned_by(id, child)) {
                self.accuse(id, reason);
            }
            // A dead process acts no more: its lease need not be waited for.
            if let Some(session) = self.sessions.get_mut(&child) {
                session.acts_until = now;
            }
            self.fence(now, child, reason);
        }
        self.closed(now, conn);
    }

    fn accuse(&mut self, id: ItemId, reason: &str) {
        let Some(entry) = self.table.get(id) else {
            return;
        };
        if self.suspects.accuse(id, entry.item.parcel()) == Verdict::SetAside {
            self.suspects.forget(id);
            let reason = format!("its worker died again and again with it in hand: {reason}");
            self.table.set_aside(id, &reason);
        }
    }

    /// A child is in the same process: its connection cannot be cut, so its silence means nothing but that the process
    /// was held up.
    pub fn never_silent(&mut self, child: ChildId) {
        if let Some(session) = self.sessions.get_mut(&child) {
            session.uncut = true;
        }
    }

    /// Looks at the timers.
    pub fn tick(&mut self, now: Time) {
        self.now = now;
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.look_at_sessions(now);
            self.find_deadline();
        }
        self.rebalance();
    }

    fn look_at_sessions(&mut self, now: Time) {
        let timing = self.config.spec.timing;
        let mut silent = Vec::new();
        let mut gone = Vec::new();
        let mut released = Vec::new();
        for session in self.sessions.values() {
            match session.link {
                Link::Up { .. } if session.uncut => {}
                Link::Up { conn, heard } if now >= heard + timing.dead_after => silent.push(conn),
                Link::Down { since } if now >= since + timing.grace => gone.push(session.child),
                Link::Fenced { release } if now >= release => released.push(session.child),
                _ => {}
            }
        }
        for conn in silent {
            self.actions.push_back(Action::Close { conn });
            self.closed(now, conn);
        }
        for child in gone {
            self.fence(now, child, "it did not come back within the grace time");
        }
        for child in released {
            self.release(child);
        }
    }

    /// This process stood still for a while, until now. Nobody could be heard or come back meanwhile, so nobody's silence
    /// or absence counts.
    pub fn held_up(&mut self, now: Time) {
        self.now = now;
        for session in self.sessions.values_mut() {
            match &mut session.link {
                Link::Up { heard: since, .. } | Link::Down { since } => *since = now,
                Link::Fenced { .. } => {}
            }
        }
        self.find_deadline();
    }

    /// When [`Parent::tick`] has something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadline
    }

    /// A timer runs out at this time. Timers that are put off are not told: what is heard most of the time is
    /// that a child lives, and no message may cost a look at all sessions.
    pub(super) fn note_deadline(&mut self, at: Time) {
        self.deadline = Some(self.deadline.map_or(at, |known| known.min(at)));
    }

    /// Looks at all timers.
    pub(super) fn find_deadline(&mut self) {
        let timing = self.config.spec.timing;
        let deadlines = self
            .sessions
            .values()
            .filter_map(|session| match session.link {
                Link::Up { .. } if session.uncut => None,
                Link::Up { heard, .. } => Some(heard + timing.dead_after),
                Link::Down { since } => Some(since + timing.grace),
                Link::Fenced { release } => Some(release),
            });
        self.deadline = deadlines.min();
    }

    /// Gives a session up: nothing from it counts any more, and what it owned is granted again.
    pub fn fence(&mut self, now: Time, child: ChildId, reason: &str) {
        self.give_up_session(now, child, Refusal::Fenced, reason);
        self.rebalance();
    }

    /// Ends all sessions and sets aside all that is left, because the job ends here. No lease is waited for:
    /// nobody is granted what is set aside.
    pub fn abandon(&mut self, now: Time, reason: &str) {
        let children: Vec<ChildId> = self.sessions.keys().copied().collect();
        for child in children {
            self.give_up_session(now, child, Refusal::Fenced, "the job ends");
            self.release(child);
        }
        self.set_aside_unserved(&|_| reason.to_owned());
    }

    fn give_up_session(&mut self, now: Time, child: ChildId, refusal: Refusal, reason: &str) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        if matches!(session.link, Link::Fenced { .. }) {
            return;
        }
        let conn = session.conn();
        let release = match self.config.spec.acts {
            true => session.acts_until.max(now),
            false => now,
        };
        session.link = Link::Fenced { release };
        self.turns += 1;
        self.note_deadline(release);
        self.record(|| Record::Fenced { child });
        if let Some(conn) = conn {
            self.conns.remove(&conn);
            self.refuse(conn, refusal);
        }
        self.index(child);
        let reason = reason.to_owned();
        self.actions.push_back(Action::Lost { child, reason });
        if release <= now {
            self.release(child);
        }
    }

    fn release(&mut self, child: ChildId) {
        self.record(|| Record::Released { child });
        self.reclaim(child);
    }

    pub(super) fn reclaim(&mut self, child: ChildId) {
        if self.walled.remove(&child) {
            self.try_to_put_away();
        }
        self.turns += 1;
        if let Some(session) = self.sessions.remove(&child) {
            self.unindex(&session);
        }
        self.table.reclaim(child, self.config.spec.acts);
    }

    /// Ends a session whose child broke the protocol.
    pub(super) fn end(&mut self, now: Time, child: ChildId, error: &ProtocolError) {
        let reason = error.to_string();
        self.give_up_session(now, child, Refusal::Protocol(reason.clone()), &reason);
    }
}
