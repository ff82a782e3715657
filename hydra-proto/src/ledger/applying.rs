//! How work moves: commits are applied, grants are made, ids are leased.

use super::parent::{Action, Parent};
use super::record::{Granted, Record, runs};
use super::session::Sent;
use super::table::{Applied, Owner};
use super::{ProtocolError, Time};
use crate::ids::{ChildId, IdRange, ItemId, join_ranges};
use crate::item::{Item, Parcel};
use crate::message::{Commit, Down, DownBeat, Grant, UpBeat};

impl Parent {
    pub(super) fn beat(
        &mut self,
        now: Time,
        child: ChildId,
        beat: &UpBeat,
    ) -> Result<(), ProtocolError> {
        let lease = self.config.spec.timing.lease;
        let Some(session) = self.sessions.get_mut(&child) else {
            return Ok(());
        };
        let Some(conn) = session.conn() else {
            return Ok(());
        };
        if beat.epoch != session.epoch {
            return Err(ProtocolError::Unexpected("a beat of another session"));
        }
        // Who has not seen the last grant yet does not know how much he holds.
        if beat.last_grant >= session.granted {
            session.loaded(now, beat.load);
        }
        session.load.ids = beat.load.ids;
        session.end_rest(now);
        session.seen(beat.last_grant);
        let lease = match self.lease_until {
            Some(until) => lease.min(until.saturating_sub(now)),
            None => lease,
        };
        // The child counts from when it sent the beat, this parent from now: the later of the two.
        session.may_act(now, lease);
        let message = Down::Beat(DownBeat {
            epoch: session.epoch,
            number: beat.number,
            lease,
        });
        self.index(child);
        self.actions.push_back(Action::Send { conn, message });
        self.lease_more(child);
        Ok(())
    }

    /// Whether this is the commit that is due: an error if it comes too early, `false` if it came before.
    pub(super) fn is_due(&self, child: ChildId, commit: &Commit) -> Result<bool, ProtocolError> {
        let Some(session) = self.sessions.get(&child) else {
            return Ok(false);
        };
        if commit.epoch != session.epoch {
            return Err(ProtocolError::Unexpected("a commit of another session"));
        }
        let (expected, got) = (session.applied + 1, commit.seq);
        match got > expected {
            true => Err(ProtocolError::Gap { expected, got }),
            false => Ok(got == expected),
        }
    }

    pub(super) fn part(&mut self, child: ChildId, part: Commit) -> Result<(), ProtocolError> {
        if self.is_due(child, &part)?
            && let Some(session) = self.sessions.get_mut(&child)
        {
            session.parts.add(part)?;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, child: ChildId, commit: Commit) -> Result<(), ProtocolError> {
        if !self.is_due(child, &commit)? {
            self.acknowledge(child);
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&child) else {
            return Ok(());
        };
        let commit = session.parts.complete(commit);
        self.apply(child, commit)?;
        self.acknowledge(child);
        self.lease_more(child);
        Ok(())
    }

    /// Applies the commit that is due, or changes nothing.
    pub(super) fn apply(
        &mut self,
        child: ChildId,
        mut commit: Commit,
    ) -> Result<(), ProtocolError> {
        let Some(session) = self.sessions.get(&child) else {
            return Ok(());
        };
        self.table.check(child, &commit, &session.leased)?;
        self.record(|| Record::Committed {
            child,
            commit: Box::new(commit.clone()),
        });
        let Some(session) = self.sessions.get_mut(&child) else {
            return Ok(());
        };
        session.applied = commit.seq;
        let epoch = session.epoch;
        session.loaded(self.now, commit.load);
        session.end_rest(self.now);
        if commit.answers.is_some() && commit.answers == session.shed {
            session.shed = None;
        }
        let result = commit.result.take().map(Box::new);
        let applied = self.table.apply(child, commit);
        self.clear_suspects(&applied);
        self.settle(child);
        let known = applied.done.iter().filter(|(_, recorded)| *recorded);
        self.actions.push_back(Action::Applied {
            child,
            epoch,
            result,
            done: join_ranges(known.map(|&(ids, _)| ids).collect()),
            new: join_ranges(applied.new),
        });
        Ok(())
    }

    /// Brings what is derived from a child's items up to date.
    fn settle(&mut self, child: ChildId) {
        let owned = self.table.owned(child);
        if let Some(session) = self.sessions.get_mut(&child) {
            session.careful &= owned > 0;
        }
        self.index(child);
    }

    /// Pieces of a suspect are suspects; directories found in it are not.
    fn clear_suspects(&mut self, applied: &Applied) {
        if self.suspects.is_empty() {
            return;
        }
        let is_piece = |id: &ItemId| {
            let entry = self.table.get(*id);
            entry.is_some_and(|entry| {
                matches!(entry.item.parcel(), Parcel::Names(_) | Parcel::Rest(_))
            })
        };
        let done = || applied.done.iter().flat_map(|(ids, _)| ids.iter());
        let pieces: Vec<ItemId> = match done().any(|id| self.suspects.is_confined(id)) {
            true => {
                let new = applied.new.iter().flat_map(|ids| ids.iter());
                new.filter(is_piece).collect()
            }
            false => Vec::new(),
        };
        for id in done() {
            self.suspects.replace(id, &pieces);
        }
        for &id in &applied.aside {
            self.suspects.forget(id);
        }
    }

    pub(super) fn acknowledge(&mut self, child: ChildId) {
        let Some(session) = self.sessions.get(&child) else {
            return;
        };
        if let Some(conn) = session.conn() {
            let message = Down::Ack {
                seq: session.applied,
            };
            self.actions.push_back(Action::Send { conn, message });
        }
    }

    /// Hands down another range of ids before the child has used up what it has.
    fn lease_more(&mut self, child: ChildId) {
        let low = self.sessions.get(&child).is_some_and(|session| {
            session.leasing.is_none() && session.load.ids < self.config.lease_ids / 2
        });
        if !low {
            return;
        }
        let Some(ids) = self.take_lease() else {
            return;
        };
        self.grant(child, &[], ids, false);
    }

    /// Hands items to a child, and ids if there are any.
    pub(super) fn grant(&mut self, child: ChildId, items: &[ItemId], ids: IdRange, careful: bool) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        let Some(conn) = session.conn() else {
            return;
        };
        let (epoch, seq) = (session.epoch, session.granted + 1);
        self.record(|| Record::Granted {
            child,
            grant: Granted {
                seq,
                items: runs(items),
                ids,
                careful,
            },
        });
        self.assign(child, items, ids, careful);
        let packed = items
            .iter()
            .filter_map(|&id| Some((id, self.table.get(id)?.item)));
        let grant = Grant {
            epoch,
            seq,
            items: Item::pack(packed),
            ids,
            careful,
        };
        let message = Down::Grant(grant);
        self.actions.push_back(Action::Send { conn, message });
        self.index(child);
    }

    /// Notes a grant.
    pub(super) fn assign(&mut self, child: ChildId, items: &[ItemId], ids: IdRange, careful: bool) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        session.granted += 1;
        let sent = Sent {
            seq: session.granted,
            items: items.to_vec(),
            ids,
            careful,
        };
        if !ids.is_empty() {
            session.leased.push(ids);
            session.leasing = Some(sent.seq);
        }
        if self.config.resumable {
            session.unseen.push_back(sent);
        }
        if !items.is_empty() {
            session.fed = (self.now, items.len() as u64);
            session.keeps_until = self.now + self.config.spec.timing.beat;
            session.careful = careful;
            session.hungry = false;
            // What the child will say when it has seen the grant.
            session.load.held += items.len() as u64;
            session.load.busy = session.load.busy.max(1);
        }
        for ids in runs(items) {
            self.table.transfer(ids, Owner::Child(child));
        }
    }
}
