//! A parent's ledger: server over clients, client over workers.

use super::balance::Balance;
use super::session::{Link, Sent, Session};
use super::suspects::{Suspects, Verdict};
use super::table::{Applied, Aside, Counts, Owner, Table};
use super::{ProtocolError, Time};
use crate::ids::{ChildId, ConnId, Epoch, IdRange, ItemId, JobId};
use crate::item::{Item, Parcel};
use crate::job::JobSpec;
use crate::message::{
    Commit, Delta, Down, DownBeat, Grant, Hello, HelloHeader, Load, LogLine, PROTOCOL_VERSION,
    Ready, Refusal, Resume, RootView, Up, UpBeat, Welcome,
};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// What a parent is made with.
pub struct ParentConfig {
    /// This job.
    pub job: JobId,
    /// What children are told of it.
    pub spec: JobSpec,
    /// Ids for all items that children will find.
    pub ids: IdRange,
    /// How many of them each session gets at a time.
    pub lease_ids: u64,
    /// Whether a session outlives its connection.
    pub resumable: bool,
    /// Whether children send their workers' logs.
    pub forward_logs: bool,
    /// This build, for people.
    pub release: String,
    /// Makes the secrets of sessions: random in earnest, seeded in a simulation.
    pub secrets: Box<dyn FnMut() -> [u8; 16] + Send>,
}

impl fmt::Debug for ParentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentConfig")
            .field("job", &self.job)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

/// What the shell around a parent has to do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Send a message.
    Send {
        /// Where to.
        conn: ConnId,
        /// What.
        message: Down,
    },
    /// Close a connection, after what was sent on it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// A session was opened.
    Joined {
        /// Its child.
        child: ChildId,
        /// On this connection.
        conn: ConnId,
        /// As the child calls itself.
        name: String,
        /// How many workers it has.
        workers: u32,
    },
    /// A session goes on, on another connection.
    Back {
        /// Its child.
        child: ChildId,
        /// The connection.
        conn: ConnId,
    },
    /// A child has said what it sees of the roots: answer with [`Parent::serve`].
    Sees {
        /// The child.
        child: ChildId,
        /// One view for each root.
        roots: Vec<RootView>,
    },
    /// A commit was applied: add up its result.
    Applied {
        /// Whose it was.
        child: ChildId,
        /// What was found.
        result: Option<Box<Delta>>,
        /// Items that are finished and that this parent's own parent knows.
        done: Vec<ItemId>,
        /// Items that are new.
        new: Vec<ItemId>,
    },
    /// A session was given up; its work is granted again.
    Lost {
        /// Its child.
        child: ChildId,
        /// Why.
        reason: String,
    },
    /// Lines of workers' logs.
    Log {
        /// Whose.
        child: ChildId,
        /// The lines.
        lines: Vec<LogLine>,
    },
}

/// What can be known of a child.
#[derive(Clone, Debug)]
pub struct ChildView {
    /// Its number.
    pub child: ChildId,
    /// Its name.
    pub name: String,
    /// How many workers it has.
    pub workers: u32,
    /// Whether its connection is open.
    pub connected: bool,
    /// Items that it owns on record.
    pub owned: u64,
    /// What it said of its load.
    pub load: Load,
}

/// The ledger of a parent. Feed it with [`Parent::handle`], [`Parent::closed`] and [`Parent::tick`]; then take
/// [`Parent::poll_action`] until it is empty.
#[derive(Debug)]
pub struct Parent {
    pub(super) config: ParentConfig,
    pub(super) table: Table,
    pub(super) sessions: BTreeMap<ChildId, Session>,
    pub(super) conns: BTreeMap<ConnId, ChildId>,
    pub(super) suspects: Suspects,
    pub(super) balance: Balance,
    pub(super) actions: VecDeque<Action>,
    pub(super) next_shed: u64,
    next_child: u32,
    next_epoch: u64,
    /// How long children may act, as far as this parent itself may.
    lease_until: Option<Time>,
    stopped: bool,
}

impl Parent {
    /// A parent with nothing to do yet and no children.
    #[must_use]
    pub fn new(config: ParentConfig) -> Self {
        Self {
            config,
            table: Table::default(),
            sessions: BTreeMap::new(),
            conns: BTreeMap::new(),
            suspects: Suspects::default(),
            balance: Balance::default(),
            actions: VecDeque::new(),
            next_shed: 1,
            next_child: 0,
            next_epoch: 1,
            lease_until: None,
            stopped: false,
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether nothing is left to do: the pool and every owned set are empty.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let counts = self.table.counts();
        counts.pool == 0 && counts.owned == 0
    }

    /// How many items there are, and where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// The items that cannot be finished.
    #[must_use]
    pub fn aside(&self) -> &BTreeMap<ItemId, Aside> {
        self.table.aside()
    }

    /// The children that have a session, in the order in which they came.
    pub fn children(&self) -> impl Iterator<Item = ChildView> {
        let live = self
            .sessions
            .values()
            .filter(|session| !matches!(session.link, Link::Fenced { .. }));
        live.map(|session| ChildView {
            child: session.child,
            name: session.name.clone(),
            workers: u32::try_from(session.weight).unwrap_or(u32::MAX),
            connected: session.conn().is_some(),
            owned: self.table.owned(session.child),
            load: session.load,
        })
    }

    /// Numbers the sessions from here on.
    pub fn start_epochs_at(&mut self, number: u64) {
        self.next_epoch = self.next_epoch.max(number);
    }

    /// Takes ids for items that come from this parent itself, such as the job's roots.
    pub fn take_ids(&mut self, count: u64) -> Option<IdRange> {
        self.config.ids.take(count)
    }

    /// Adds items from outside. `recorded` says whether this parent's own parent knows them.
    pub fn add(&mut self, items: Vec<Parcel>, recorded: bool) {
        for parcel in items {
            self.table.add(parcel, recorded);
        }
        self.rebalance();
    }

    /// Limits how long children may act: what this parent's own parent has allowed.
    pub fn limit_lease(&mut self, until: Option<Time>) {
        self.lease_until = until;
    }

    /// Says which roots a child may be granted.
    pub fn serve(&mut self, child: ChildId, roots: Vec<bool>) {
        if let Some(session) = self.sessions.get_mut(&child) {
            session.serves = Some(roots);
        }
        self.index(child);
        self.rebalance();
    }

    /// Sets aside the pool items that no connected child may be granted.
    pub fn set_aside_unserved(&mut self, reason: &dyn Fn(&Item) -> String) {
        let unserved: Vec<ItemId> = self
            .table
            .pool()
            .filter(|&id| !self.is_servable(id))
            .collect();
        for id in unserved {
            if let Some(entry) = self.table.get(id) {
                let reason = reason(&entry.item);
                self.table.set_aside(id, reason);
            }
        }
    }

    /// Whether some connected child may be granted this item.
    fn is_servable(&self, id: ItemId) -> bool {
        let Some(entry) = self.table.get(id) else {
            return false;
        };
        let root = entry.item.root().0 as usize;
        let serves = |session: &Session| {
            let roots = session.serves.as_ref();
            session.conn().is_some() && roots.is_some_and(|roots| roots.get(root) == Some(&true))
        };
        self.sessions.values().any(serves)
    }

    /// Whether the only open items are ones that no connected child may be granted.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let counts = self.table.counts();
        counts.owned == 0 && counts.pool > 0 && !self.table.pool().any(|id| self.is_servable(id))
    }

    /// The job is over: tells every child.
    pub fn stop(&mut self) {
        self.stopped = true;
        for conn in self.conns.keys().copied() {
            self.actions.push_back(Action::Send {
                conn,
                message: Down::Stop,
            });
        }
    }

    /// Asks all children to stop taking new directories, or to go on.
    pub fn pause(&mut self, pause: bool) {
        for conn in self.conns.keys().copied() {
            self.actions.push_back(Action::Send {
                conn,
                message: Down::Pause(pause),
            });
        }
    }

    /// A child's message has come.
    pub fn handle(&mut self, now: Time, conn: ConnId, message: Up) {
        let bound = self.conns.get(&conn).copied();
        if let Some(session) = bound.and_then(|child| self.sessions.get_mut(&child)) {
            session.heard(now);
        }
        let outcome = match (bound, message) {
            (None, Up::Hello(hello)) => self.hello(now, conn, &hello),
            (None, Up::Resume(resume)) => self.resume(now, conn, &resume),
            (None, Up::Beat(beat)) => self.stray(conn, beat.epoch),
            (_, Up::Busy(_)) => Err(ProtocolError::Unexpected("a busy child has no session")),
            (None, _) => Err(ProtocolError::Unexpected("work before Hello")),
            (Some(_), Up::Hello(_) | Up::Resume(_)) => Err(ProtocolError::Unexpected(
                "a second Hello on one connection",
            )),
            (Some(child), Up::Ready(ready)) => self.ready(child, ready),
            (Some(child), Up::Commit(commit)) => self.commit(child, *commit),
            (Some(child), Up::Beat(beat)) => self.beat(now, child, &beat),
            (Some(child), Up::Log(lines)) => {
                self.actions.push_back(Action::Log { child, lines });
                Ok(())
            }
            (Some(child), Up::Leave(reason)) => {
                self.fence(now, child, &reason);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            self.end(now, conn, &error);
        }
        self.rebalance();
    }

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
            self.table.set_aside(id, reason);
        }
    }

    /// Looks at the timers.
    pub fn tick(&mut self, now: Time) {
        let timing = self.config.spec.timing;
        let mut silent = Vec::new();
        let mut gone = Vec::new();
        let mut released = Vec::new();
        for session in self.sessions.values() {
            match session.link {
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
        self.rebalance();
    }

    /// When [`Parent::tick`] has something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let timing = self.config.spec.timing;
        let deadlines = self.sessions.values().map(|session| match session.link {
            Link::Up { heard, .. } => heard + timing.dead_after,
            Link::Down { since } => since + timing.grace,
            Link::Fenced { release } => release,
        });
        deadlines.min()
    }

    /// Gives a session up: nothing from it counts any more, and what it owned is granted again.
    pub fn fence(&mut self, now: Time, child: ChildId, reason: &str) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        if matches!(session.link, Link::Fenced { .. }) {
            return;
        }
        if let Some(conn) = session.conn() {
            self.conns.remove(&conn);
            self.actions.push_back(Action::Send {
                conn,
                message: Down::Refused(Refusal::Fenced),
            });
            self.actions.push_back(Action::Close { conn });
        }
        let release = match self.config.spec.acts {
            true => session.acts_until.max(now),
            false => now,
        };
        session.link = Link::Fenced { release };
        self.index(child);
        let reason = reason.to_owned();
        self.actions.push_back(Action::Lost { child, reason });
        if release <= now {
            self.release(child);
        }
    }

    fn release(&mut self, child: ChildId) {
        if let Some(session) = self.sessions.remove(&child) {
            self.unindex(&session);
        }
        self.table.reclaim(child);
    }

    /// Ends a session whose child broke the protocol.
    fn end(&mut self, now: Time, conn: ConnId, error: &ProtocolError) {
        self.actions.push_back(Action::Send {
            conn,
            message: Down::Refused(Refusal::Protocol(error.to_string())),
        });
        self.actions.push_back(Action::Close { conn });
        if let Some(child) = self.conns.remove(&conn) {
            self.fence(now, child, &error.to_string());
        }
    }

    fn refuse(&mut self, conn: ConnId, refusal: Refusal) -> Result<(), ProtocolError> {
        let message = Down::Refused(refusal);
        self.actions.push_back(Action::Send { conn, message });
        self.actions.push_back(Action::Close { conn });
        Ok(())
    }

    /// A beat on a connection without a session: from a session that was given up, or from nobody.
    fn stray(&mut self, conn: ConnId, epoch: Epoch) -> Result<(), ProtocolError> {
        match epoch.job == self.config.job && epoch.number < self.next_epoch {
            true => self.refuse(conn, Refusal::Fenced),
            false => self.refuse(conn, Refusal::Unknown),
        }
    }

    fn header(&self) -> HelloHeader {
        HelloHeader {
            protocol: PROTOCOL_VERSION,
            release: self.config.release.clone(),
        }
    }

    fn hello(&mut self, now: Time, conn: ConnId, hello: &Hello) -> Result<(), ProtocolError> {
        if hello.header.protocol != PROTOCOL_VERSION {
            return self.refuse(conn, Refusal::Version(self.header()));
        }
        if self.stopped {
            return self.refuse(conn, Refusal::JobOver);
        }
        self.fence_predecessor(now, hello.nonce);
        let Some(ids) = self.config.ids.take(self.config.lease_ids) else {
            return self.refuse(conn, Refusal::Protocol("no ids are left".to_owned()));
        };
        let child = ChildId(self.next_child);
        let epoch = Epoch {
            job: self.config.job,
            number: self.next_epoch,
        };
        self.next_child += 1;
        self.next_epoch += 1;
        let secret = (self.config.secrets)();
        let mut session = Session::new(child, hello, conn, epoch, secret, now);
        session.leased.push(ids);
        self.sessions.insert(child, session);
        self.conns.insert(conn, child);
        self.actions.push_back(Action::Joined {
            child,
            conn,
            name: hello.name.clone(),
            workers: hello.workers,
        });
        let welcome = Box::new(Welcome {
            epoch,
            secret,
            ids,
            job: self.config.spec.clone(),
            forward_logs: self.config.forward_logs,
        });
        let message = Down::Welcome(welcome);
        self.actions.push_back(Action::Send { conn, message });
        Ok(())
    }

    /// A process that says Hello again has forgotten the session it had.
    fn fence_predecessor(&mut self, now: Time, nonce: u64) {
        let same = |session: &&Session| session.nonce == nonce;
        let before: Vec<ChildId> = self
            .sessions
            .values()
            .filter(same)
            .map(|s| s.child)
            .collect();
        for child in before {
            self.fence(now, child, "it started anew");
        }
    }

    fn resume(&mut self, now: Time, conn: ConnId, resume: &Resume) -> Result<(), ProtocolError> {
        if resume.header.protocol != PROTOCOL_VERSION {
            return self.refuse(conn, Refusal::Version(self.header()));
        }
        if self.stopped {
            return self.refuse(conn, Refusal::JobOver);
        }
        let found = self
            .sessions
            .values_mut()
            .find(|session| session.epoch == resume.epoch);
        let Some(session) = found.filter(|session| !matches!(session.link, Link::Fenced { .. }))
        else {
            return self.stray(conn, resume.epoch);
        };
        // Not compared in constant time: the link is authenticated, and the secret only tells sessions apart.
        if session.secret != resume.secret {
            return self.refuse(conn, Refusal::Unknown);
        }
        if resume.attempt <= session.attempt || resume.last_grant > session.granted {
            self.actions.push_back(Action::Close { conn });
            return Ok(());
        }
        session.attempt = resume.attempt;
        let child = session.child;
        if let Some(old) = session.conn() {
            self.conns.remove(&old);
            self.actions.push_back(Action::Close { conn: old });
        }
        session.link = Link::Up { conn, heard: now };
        session.shed = None;
        session.seen(resume.last_grant);
        let last_commit = session.applied;
        self.conns.insert(conn, child);
        self.index(child);
        self.actions.push_back(Action::Back { child, conn });
        let message = Down::Resumed { last_commit };
        self.actions.push_back(Action::Send { conn, message });
        self.send_again(child, conn);
        Ok(())
    }

    /// Sends the grants that were lost with the old connection.
    fn send_again(&mut self, child: ChildId, conn: ConnId) {
        let Some(session) = self.sessions.get(&child) else {
            return;
        };
        for sent in &session.unseen {
            let items = sent
                .items
                .iter()
                .filter_map(|&id| Some((id, &self.table.get(id)?.item)));
            let grant = Grant {
                epoch: session.epoch,
                seq: sent.seq,
                items: Item::pack(items),
                ids: sent.ids,
                careful: sent.careful,
            };
            let message = Down::Grant(grant);
            self.actions.push_back(Action::Send { conn, message });
        }
    }

    fn ready(&mut self, child: ChildId, ready: Ready) -> Result<(), ProtocolError> {
        if ready.roots.len() != self.config.spec.roots.len() {
            return Err(ProtocolError::Unexpected("Ready for other roots"));
        }
        let roots = ready.roots;
        self.actions.push_back(Action::Sees { child, roots });
        Ok(())
    }

    fn beat(&mut self, now: Time, child: ChildId, beat: &UpBeat) -> Result<(), ProtocolError> {
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
        session.loaded(beat.load);
        session.seen(beat.last_grant);
        let lease = match self.lease_until {
            Some(until) => lease.min(until.saturating_sub(now)),
            None => lease,
        };
        // The child counts from when it sent the beat, this parent from now: the later of the two.
        session.acts_until = session.acts_until.max(now + lease);
        let message = Down::Beat(DownBeat {
            epoch: session.epoch,
            number: beat.number,
            lease,
        });
        self.index(child);
        self.actions.push_back(Action::Send { conn, message });
        Ok(())
    }

    fn commit(&mut self, child: ChildId, commit: Commit) -> Result<(), ProtocolError> {
        let Some(session) = self.sessions.get_mut(&child) else {
            return Ok(());
        };
        if commit.epoch != session.epoch {
            return Err(ProtocolError::Unexpected("a commit of another session"));
        }
        let expected = session.applied + 1;
        if commit.seq < expected {
            self.acknowledge(child);
            return Ok(());
        }
        if commit.seq > expected {
            let got = commit.seq;
            return Err(ProtocolError::Gap { expected, got });
        }
        self.table.check(child, &commit, &session.leased)?;
        session.applied = commit.seq;
        session.loaded(commit.load);
        let highest = commit.new.iter().map(|parcel| parcel.ids().end).max();
        session.highest = session.highest.max(highest.unwrap_or(0));
        if commit.answers.is_some() && commit.answers == session.shed {
            session.shed = None;
        }
        let result = commit.result.clone().map(Box::new);
        let applied = self.table.apply(child, commit);
        self.clear_suspects(&applied);
        self.settle(child);
        self.actions.push_back(Action::Applied {
            child,
            result,
            done: applied
                .done
                .iter()
                .filter(|(_, entry)| entry.recorded)
                .map(|&(id, _)| id)
                .collect(),
            new: applied.new,
        });
        self.acknowledge(child);
        self.lease_more(child);
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
        let is_piece = |id: &&ItemId| {
            let entry = self.table.get(**id);
            entry.is_some_and(|entry| {
                matches!(entry.item.parcel(), Parcel::Names(_) | Parcel::Rest(_))
            })
        };
        let pieces: Vec<ItemId> = match applied
            .done
            .iter()
            .any(|&(id, _)| self.suspects.is_confined(id))
        {
            true => applied.new.iter().filter(is_piece).copied().collect(),
            false => Vec::new(),
        };
        for &(id, _) in &applied.done {
            self.suspects.replace(id, &pieces);
        }
        for &id in &applied.aside {
            self.suspects.forget(id);
        }
    }

    fn acknowledge(&mut self, child: ChildId) {
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

    /// Hands down another range of ids before the child's lease is used up.
    fn lease_more(&mut self, child: ChildId) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        let Some(last) = session.leased.last() else {
            return;
        };
        let low = last.end.saturating_sub(session.highest) < last.len() / 4;
        if low && let Some(ids) = self.config.ids.take(self.config.lease_ids) {
            session.leased.push(ids);
            if session.leased.len() > 2 {
                session.leased.remove(0);
            }
            self.grant(child, &[], ids, false);
        }
    }

    /// Hands items to a child, and ids if there are any.
    pub(super) fn grant(&mut self, child: ChildId, items: &[ItemId], ids: IdRange, careful: bool) {
        let Some(session) = self.sessions.get_mut(&child) else {
            return;
        };
        let Some(conn) = session.conn() else {
            return;
        };
        session.granted += 1;
        let sent = Sent {
            seq: session.granted,
            items: items.to_vec(),
            ids,
            careful,
        };
        if self.config.resumable {
            session.unseen.push_back(sent);
        }
        if !items.is_empty() {
            session.careful = careful;
            session.hungry = false;
        }
        for &id in items {
            self.table.transfer(id, Owner::Child(child));
        }
        let packed = items
            .iter()
            .filter_map(|&id| Some((id, &self.table.get(id)?.item)));
        let grant = Grant {
            epoch: session.epoch,
            seq: session.granted,
            items: Item::pack(packed),
            ids,
            careful,
        };
        let message = Down::Grant(grant);
        self.actions.push_back(Action::Send { conn, message });
        self.index(child);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }
}
