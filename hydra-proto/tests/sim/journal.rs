//! The server's journal and its disk. What is recorded gathers while the disk is busy, goes to it batch by batch,
//! and what follows from it waits until it is there; only advice goes past what waits. This is the rule of the
//! real server, whose own journal cannot run here: it does I/O.

use super::faults::Sabotage;
use super::net::Node;
use super::world::{Event, World};
use hydra_proto::ids::{ChildId, ConnId, Epoch};
use hydra_proto::ledger::Time;
use hydra_proto::ledger::{Action, Parent, Record};
use hydra_proto::message::Down;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How often a full disk is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// What waits until something is durable: a message, or the end of a connection.
pub(crate) struct Held {
    ticket: u64,
    conn: ConnId,
    message: Option<Down>,
}

/// The journal of one incarnation of the server.
#[derive(Default)]
pub(crate) struct Journal {
    /// How long the disk takes for a batch, at most. Zero: everything is durable at once.
    pub(crate) sync: Duration,
    /// How often, of a hundred, a batch makes the journal shorter.
    pub(crate) compacts: u64,
    /// What replays from the shorter journal that is being written. It takes the place of the older one at once, with
    /// what the disk is busy with.
    shorter: Option<Parent>,
    /// What gathers.
    open: Vec<Record>,
    /// What the disk is busy with.
    writing: Option<Vec<Record>>,
    /// Batches that went to the disk, and those that it has.
    begun: u64,
    durable: u64,
    held: VecDeque<Held>,
    greeted: BTreeSet<ConnId>,
    /// The disk has no room until then.
    pub(crate) full_until: Time,
    was_full: bool,
    /// The last grant of each session that is durable.
    granted: BTreeMap<Epoch, u64>,
    epochs: BTreeMap<ChildId, Epoch>,
}

impl Journal {
    /// Whether a child can have seen this grant.
    pub(crate) fn has_granted(&self, epoch: Epoch, grant: u64) -> bool {
        grant <= self.granted.get(&epoch).copied().unwrap_or(0)
    }

    /// What must be durable before something may be sent that follows from what was recorded so far.
    fn ticket(&self) -> u64 {
        self.begun + u64::from(!self.open.is_empty())
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.durable == self.ticket() && self.held.is_empty()
    }
}

fn is_pause(held: &Held) -> bool {
    matches!(held.message, Some(Down::Pause(_)))
}

impl World {
    /// The server has recorded something.
    pub(crate) fn recorded(&mut self, record: Record) {
        let record = self.coded(record);
        if let Err(error) = self.mirror.replay(record.clone()) {
            self.fail(format!("a record cannot be replayed: {error}"));
        }
        while self.mirror.poll_action().is_some() {}
        match self.journal.sync.is_zero() {
            true => self.keep(record),
            false => self.journal.open.push(record),
        }
    }

    /// A record is durable.
    fn keep(&mut self, record: Record) {
        if let Record::Granted { child, grant } = &record
            && let Some(&epoch) = self.journal.epochs.get(child)
        {
            self.journal.granted.insert(epoch, grant.seq);
        }
        if let Record::Opened(opened) = &record {
            self.journal.epochs.insert(opened.child, opened.epoch);
        }
        if let Err(error) = self.durable.replay(record) {
            self.fail(format!("a durable record cannot be replayed: {error}"));
        }
        while let Some(action) = self.durable.poll_action() {
            if let Action::Applied {
                result: Some(delta),
                ..
            } = action
                && let Err(what) = self.safe.applied(&delta)
            {
                self.fail(format!("in the journal: {what}"));
            }
        }
    }

    /// Sends what has gathered to the disk, if that is idle.
    pub(crate) fn flush_journal(&mut self) {
        let journal = &mut self.journal;
        if journal.writing.is_some() || journal.open.is_empty() {
            return;
        }
        journal.writing = Some(std::mem::take(&mut journal.open));
        journal.begun += 1;
        let most = journal.sync.as_micros() as u64;
        if self.journal.compacts > 0 && self.rng.chance(self.journal.compacts) {
            self.journal.shorter = Some(self.shorter());
        }
        let pause = Duration::from_micros(1 + self.rng.below(most));
        self.after(pause, Event::Synced(self.incarnation));
    }

    /// The disk has answered.
    pub(crate) fn synced(&mut self, incarnation: u32) {
        if incarnation != self.incarnation || self.down {
            return;
        }
        if self.now < self.journal.full_until {
            self.after(AGAIN, Event::Synced(incarnation));
            if !std::mem::replace(&mut self.journal.was_full, true) {
                self.say(|| "the disk is full".to_owned());
                self.server.pause(true);
                self.pump_server();
            }
            return;
        }
        for record in self.journal.writing.take().unwrap_or_default() {
            self.keep(record);
        }
        self.shorten();
        self.journal.durable = self.journal.begun;
        if std::mem::take(&mut self.journal.was_full) {
            self.server.pause(false);
        }
        self.release();
        self.pump_server();
    }

    /// The shorter journal is durable, if one was written.
    fn shorten(&mut self) {
        if let Some(shorter) = self.journal.shorter.take() {
            self.durable = shorter;
            self.stats.compacted += 1;
        }
    }

    /// Sends what has waited long enough.
    fn release(&mut self) {
        while let Some(held) = self.journal.held.front() {
            if held.ticket > self.journal.durable {
                return;
            }
            if let Some(held) = self.journal.held.pop_front() {
                self.deliver(held.conn, held.message);
            }
        }
    }

    /// Sends a message of the server, or closes a connection, when what it follows from is durable.
    pub(crate) fn send_when_durable(&mut self, conn: ConnId, message: Option<Down>) {
        let journal = &mut self.journal;
        let greeted = journal.greeted.contains(&conn);
        let goes_past = match &message {
            Some(Down::Beat(_)) => true,
            Some(Down::Pause(_) | Down::Shed(_)) => greeted,
            Some(Down::Ack { .. }) => greeted && self.sabotage == Some(Sabotage::AckBeforeDurable),
            Some(Down::Grant(_)) => greeted && self.sabotage == Some(Sabotage::GrantBeforeDurable),
            _ => false,
        };
        if goes_past && matches!(message, Some(Down::Pause(_))) {
            // One that waits from before the child was greeted would come after this one, and last for ever.
            let is_older = |held: &Held| held.conn == conn && is_pause(held);
            journal.held.retain(|held| !is_older(held));
        }
        let ticket = journal.ticket();
        if goes_past || (journal.held.is_empty() && ticket <= journal.durable) {
            return self.deliver(conn, message);
        }
        journal.held.push_back(Held {
            ticket,
            conn,
            message,
        });
    }

    fn deliver(&mut self, conn: ConnId, message: Option<Down>) {
        let Some(message) = message else {
            return self.close_parent(conn);
        };
        if matches!(message, Down::Welcome(_) | Down::Resumed { .. }) {
            self.journal.greeted.insert(conn);
        }
        self.send_down(conn, message);
    }

    /// The journal as the next server finds it. What was on its way to the disk is there up to some record, what
    /// had not left memory is lost.
    pub(crate) fn tear(&mut self) {
        let next = Journal {
            sync: self.journal.sync,
            compacts: self.journal.compacts,
            full_until: self.journal.full_until,
            granted: self.journal.granted.clone(),
            epochs: self.journal.epochs.clone(),
            ..Journal::default()
        };
        let torn = std::mem::replace(&mut self.journal, next);
        let writing = torn.writing.unwrap_or_default();
        let kept = match &torn.shorter {
            // The older journal or the shorter one: nothing in between.
            Some(_) => writing.len() * self.rng.below(2) as usize,
            None => self.rng.below(writing.len() as u64 + 1) as usize,
        };
        self.stats.torn += (writing.len() - kept + torn.open.len()) as u64;
        let whole = kept == writing.len();
        for record in writing.into_iter().take(kept) {
            self.keep(record);
        }
        self.journal.shorter = torn.shorter.filter(|_| whole);
        self.shorten();
        self.oracle.go_back_to(&self.safe);
        let known: BTreeSet<_> = self.durable.children().map(|child| child.child).collect();
        self.lost.retain(|child| !known.contains(child));
        self.changed = true;
        self.wakes.remove(&Node::Server);
    }
}
