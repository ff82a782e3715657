//! What nodes do: messages arrive, ledgers are asked what to do next, and it is done.

use super::faults::Sabotage;
use super::net::Node;
use super::rng::Rng;
use super::world::{Event, World};
use hydra_proto::ids::{ChildId, ConnId, IdRange, ItemId};
use hydra_proto::item::Parcel;
use hydra_proto::ledger::{Action, RelayAction};
use hydra_proto::message::{Commit, Down, Grant, Refusal, RootView, Up};
use std::time::Duration;

/// The most turns in which one event may keep a node busy.
const TURNS_MAX: u32 = 10_000;

impl World {
    pub(crate) fn arrive_up(&mut self, conn: ConnId, generation: u32, message: Up) {
        let link = self.link_mut(conn);
        if link.up.generation != generation {
            return;
        }
        link.up.flying -= 1;
        let (parent, parent_life) = (link.parent, link.parent_life);
        if !link.parent_open && !link.late || self.life_of(parent) != parent_life {
            return;
        }
        match parent {
            Node::Server => self.arrive_at_server(conn, message),
            Node::Client(client) if self.clients[client].alive => {
                let now = self.now;
                self.say(|| format!("  {conn:?} ► {}", brief_up(&message)));
                if let (Up::Commit(commit), Some(Sabotage::AckBeforeServer)) =
                    (&message, self.sabotage)
                {
                    self.send_down(conn, Down::Ack { seq: commit.seq });
                }
                self.clients[client]
                    .relay
                    .worker_message(now, conn, message);
                self.pump_client(client);
            }
            Node::Client(_) | Node::Worker(_) => {}
        }
    }

    fn arrive_at_server(&mut self, conn: ConnId, mut message: Up) {
        self.say(|| format!("{conn:?} ► {}", brief_up(&message)));
        let mut conn = conn;
        match (&mut message, self.sabotage) {
            (Up::Commit(commit), Some(Sabotage::NoFenceCheck)) => {
                // Children and epochs of the server are numbered side by side.
                let child = ChildId(commit.epoch.number as u32 - 1);
                if self.lost.contains(&child) {
                    self.count(commit);
                }
            }
            (Up::Commit(commit), Some(Sabotage::NoSequenceCheck)) => {
                let highest = self.highest.entry(commit.epoch).or_default();
                match commit.seq <= *highest {
                    true => self.count(&commit.clone()),
                    false => *highest = commit.seq,
                }
            }
            (Up::Resume(resume), _)
                if !self.journal.has_granted(resume.epoch, resume.last_grant) =>
            {
                self.fail("a grant arrived that is not in the journal");
            }
            (Up::Resume(resume), Some(Sabotage::NoAttemptCounter)) => {
                resume.attempt = self.stats.events;
            }
            (Up::Hello(_), Some(Sabotage::TwoSessions)) if self.link(conn).joined => {
                let (child, latency) = (self.link(conn).child, self.link(conn).latency);
                conn = self.open_link(child, Node::Server, latency);
                self.link_mut(conn).joined = true;
            }
            _ => {}
        }
        self.server.handle(self.now, conn, message);
        self.pump_server();
    }

    fn count(&mut self, commit: &Commit) {
        if let Some(Err(what)) = commit
            .result
            .as_ref()
            .map(|delta| self.oracle.applied(delta))
        {
            self.fail(what);
        }
    }

    pub(crate) fn arrive_down(&mut self, conn: ConnId, generation: u32, message: Down) {
        let link = self.link_mut(conn);
        if link.down.generation != generation {
            return;
        }
        link.down.flying -= 1;
        let (child, life) = (link.child, link.life);
        if !link.child_open || self.life_of(child) != life {
            return;
        }
        let now = self.now;
        match child {
            Node::Client(client) if self.clients[client].alive => {
                self.clients[client]
                    .relay
                    .server_message(now, conn, message);
                self.pump_client(client);
            }
            Node::Worker(worker) if self.workers[worker].alive => {
                self.workers[worker].message(now, conn, message);
                self.pump_worker(worker);
            }
            _ => {}
        }
    }

    pub(crate) fn parent_end(&mut self, conn: ConnId) {
        if self.link(conn).parent == Node::Server {
            self.link_mut(conn).parent_open = false;
            self.say(|| format!("{conn:?} ends at the server"));
            if self.down {
                return;
            }
            self.server.closed(self.now, conn);
            self.pump_server();
        }
        // A client goes by the death of the worker's process, not by the end of its channel.
    }

    pub(crate) fn child_end(&mut self, conn: ConnId) {
        let (child, life, open) = (
            self.link(conn).child,
            self.link(conn).life,
            self.link(conn).child_open,
        );
        if self.life_of(child) != life || !open {
            return;
        }
        match child {
            Node::Client(client) if self.clients[client].alive => {
                self.server_gone(client, conn);
                self.pump_client(client);
            }
            Node::Worker(worker) if self.workers[worker].alive => {
                let now = self.now;
                self.workers[worker].closed(now);
                self.pump_worker(worker);
            }
            _ => {}
        }
    }

    /// A client's end of a connection to the server is closed.
    pub(crate) fn server_gone(&mut self, client: usize, conn: ConnId) {
        self.close_child(conn);
        let now = self.now;
        self.clients[client].relay.server_closed(now, conn);
        if self.clients[client].server == Some(conn) {
            self.clients[client].server = None;
        }
    }

    pub(crate) fn pump_server(&mut self) {
        let mut turns = 0;
        while let Some(action) = self.server.poll_action() {
            turns += 1;
            match action {
                Action::Send { conn, message } => self.server_sends(conn, message),
                Action::Close { conn } => self.send_when_durable(conn, None),
                Action::Joined { child, conn, .. } => self.joined(child, conn),
                Action::Back { child, conn } => self.back(child, conn),
                Action::Sees { child, roots } => {
                    let seen = |view: &RootView| matches!(view, RootView::Seen(_));
                    self.server.serve(child, roots.iter().map(seen).collect());
                }
                Action::Applied { child, result, .. } => {
                    self.changed = true;
                    if self.lost.contains(&child) {
                        self.fail("a commit of a session that was given up was applied");
                    }
                    if let Some(Err(what)) = result.map(|delta| self.oracle.applied(&delta)) {
                        self.fail(what);
                    }
                }
                Action::Lost { child, reason } => self.lost(child, &reason),
                Action::Record(record) => self.recorded(*record),
                Action::Log { .. }
                | Action::Warning { .. }
                | Action::Rows { .. }
                | Action::KeptInMemory(_)
                | Action::NotReadBack(_) => {}
            }
            if turns > TURNS_MAX {
                return self.fail("the server has too much to do at once");
            }
        }
        self.flush_journal();
        self.schedule(Node::Server);
    }

    fn server_sends(&mut self, conn: ConnId, mut message: Down) {
        self.say(|| format!("{conn:?} ◄ {}", brief_down(&message)));
        self.judge(&message);
        match (&mut message, self.sabotage) {
            (Down::Grant(grant), Some(Sabotage::ForgetWork)) => self.forget(grant),
            (Down::Beat(beat), Some(Sabotage::LongLease)) => beat.lease *= 10,
            (Down::Grant(grant), Some(Sabotage::ForgetBegun)) => forget_begun(grant),
            _ => {}
        }
        if let (Down::Beat(beat), Node::Client(at)) = (&mut message, self.link(conn).child) {
            // By its own clock the lease is as long as it was told.
            beat.lease += beat.lease * self.clients[at].lag / 1000;
        }
        if matches!(message, Down::Shed(_)) {
            self.stats.sheds += 1;
            self.stats.asked += 1;
        }
        self.send_when_durable(conn, Some(message));
    }

    /// Between honest machines nobody ever breaks the protocol.
    fn judge(&mut self, message: &Down) {
        match message {
            Down::Refused(Refusal::Protocol(what)) if what != "no ids are left" => {
                self.fail(format!("an honest child was refused: {what}"));
            }
            Down::Refused(Refusal::Unknown) => self.fail("an honest child was not known"),
            _ => {}
        }
    }

    fn forget(&mut self, grant: &mut Grant) {
        let child = ChildId(grant.epoch.number as u32 - 1);
        let forgotten = &self.forgotten;
        grant
            .items
            .retain(|parcel| !parcel.ids().iter().any(|id| forgotten.contains(&id)));
        let ids = grant.items.iter().flat_map(|parcel| parcel.ids().iter());
        self.granted.entry(child).or_default().extend(ids);
    }

    fn joined(&mut self, child: ChildId, conn: ConnId) {
        self.say(|| format!("{child:?} joins on {conn:?}"));
        // The number of a session that no durable record knows of is used again.
        self.lost.remove(&child);
        if std::mem::replace(&mut self.link_mut(conn).joined, true) {
            self.fail("two sessions on one connection");
        }
    }

    fn back(&mut self, child: ChildId, conn: ConnId) {
        self.say(|| format!("{child:?} is back on {conn:?}"));
        self.stats.resumed += 1;
        let before = self.resumed_on.insert(child, conn);
        if before.is_some_and(|before| before > conn) {
            self.fail("an older attempt took a session over");
        }
    }

    fn lost(&mut self, child: ChildId, reason: &str) {
        self.say(|| format!("{child:?} is lost: {reason}"));
        self.changed = true;
        self.stats.lost_clients += 1;
        self.lost.insert(child);
        let granted: Vec<ItemId> = self.granted.remove(&child).unwrap_or_default();
        self.forgotten.extend(granted);
    }

    pub(crate) fn pump_client(&mut self, at: usize) {
        let mut turns = 0;
        loop {
            turns += 1;
            if turns > TURNS_MAX {
                return self.fail("a client has too much to do at once");
            }
            let now = self.now;
            let client = &mut self.clients[at];
            if let Some(action) = client.relay.poll_action(now) {
                self.client_does(at, action);
                continue;
            }
            client.relay.balance(now);
            if client.relay.wants_cut(now) {
                let result = client.take();
                client.relay.cut(now, result);
                continue;
            }
            break;
        }
        self.flush_client(at);
        let balanced = self.clients[at]
            .relay
            .workers()
            .is_none_or(|parent| parent.counts().balanced());
        if !balanced {
            self.fail("a client's counts are out of balance");
        }
        self.schedule(Node::Client(at));
        let client = &self.clients[at];
        if client.alive && client.server.is_none() && !client.connecting && !self.over_for(at) {
            let life = client.life;
            self.clients[at].connecting = true;
            let most = self.redial.as_micros() as u64;
            let pause = Duration::from_micros(self.rng.range(1, most));
            self.after(pause, Event::Connect { client: at, life });
        }
    }

    fn over_for(&self, at: usize) -> bool {
        self.over && self.clients[at].relay.workers().is_none()
    }

    fn flush_client(&mut self, at: usize) {
        while let Some(mut message) = self.clients[at].relay.poll_server() {
            let Some(conn) = self.clients[at].server else {
                continue;
            };
            match (&mut message, self.sabotage) {
                (Up::Commit(commit), Some(Sabotage::GiveWithoutCommit)) => commit.give.clear(),
                (Up::Commit(commit), Some(Sabotage::RangeTooLong)) => {
                    let relay = &self.clients[at].relay;
                    let new = commit.new.iter().map(Parcel::ids);
                    let new: Vec<IdRange> = new.collect();
                    let is_open = |id| relay.item(id).is_some();
                    let is_new = |id| new.iter().any(|ids| ids.contains(id));
                    let next = |ids: &IdRange| ItemId(ids.end);
                    let mut done = commit.done.iter_mut();
                    let longer = done.find(|ids| is_open(next(ids)) && !is_new(next(ids)));
                    longer.into_iter().for_each(|ids| ids.end += 1);
                }
                (Up::Commit(commit), Some(Sabotage::AckBeforeApplied)) => {
                    let seq = commit.seq;
                    self.send_down(conn, Down::Ack { seq });
                }
                (Up::Hello(hello), Some(Sabotage::TwoSessions)) => {
                    let mut second = hello.clone();
                    second.nonce += 1;
                    self.send_up(conn, Up::Hello(second));
                }
                _ => {}
            }
            self.send_up(conn, message);
        }
    }

    fn client_does(&mut self, at: usize, action: RelayAction) {
        let life = self.clients[at].life;
        match action {
            RelayAction::Begin(_) => self.begin(at),
            RelayAction::End(refusal) => {
                self.say(|| format!("client {at} ends: {refusal:?}"));
                self.end(at);
            }
            RelayAction::DropServer(conn) => self.server_gone(at, conn),
            RelayAction::ServerLost | RelayAction::ServerBack | RelayAction::Kept(_) => {}
            RelayAction::Worker(Action::Send { conn, mut message }) => {
                self.say(|| format!("  {conn:?} ◄ {}", brief_down(&message)));
                self.judge(&message);
                self.stats.asked += u64::from(matches!(message, Down::Shed(_)));
                if let (Down::Beat(beat), Some(Sabotage::LongLease)) = (&mut message, self.sabotage)
                {
                    beat.lease *= 10;
                }
                if let (Down::Grant(grant), Some(Sabotage::ForgetBegun)) =
                    (&mut message, self.sabotage)
                {
                    forget_begun(grant);
                }
                self.send_down(conn, message);
            }
            RelayAction::Worker(Action::Close { conn }) => {
                self.close_parent(conn);
                self.end_worker(at, conn);
            }
            RelayAction::Worker(Action::Applied { result, .. }) => {
                if let Some(delta) = result {
                    self.clients[at].merge(*delta);
                }
            }
            RelayAction::Worker(Action::Lost { reason, .. }) => {
                self.say(|| format!("client {at} (life {life}) lost a worker: {reason}"));
            }
            RelayAction::Worker(_) => {}
        }
    }

    pub(crate) fn pump_worker(&mut self, at: usize) {
        self.flush_worker(at);
        let percent = Rng::new(self.workers[at].uid).below(100) as u32;
        let cost = self.cost(at, percent);
        self.walk_on(at, cost);
    }

    pub(crate) fn flush_worker(&mut self, at: usize) {
        let conn = self.workers[at].conn;
        while let Some(message) = self.workers[at].uplink.poll_send() {
            self.send_up(conn, message);
        }
        match self.workers[at].alive {
            true => self.schedule(Node::Worker(at)),
            false => self.worker_exits(at),
        }
    }
}

fn forget_begun(grant: &mut Grant) {
    for parcel in &mut grant.items {
        if let Parcel::Names(names) = parcel {
            names.begun = false;
        }
    }
}

fn brief_up(message: &Up) -> String {
    match message {
        Up::Commit(commit) => format!(
            "commit {} {} done {:?} new {:?} give {:?} failed {:?} answers {:?} {:?} result {}",
            commit.epoch,
            commit.seq,
            commit.done,
            commit
                .new
                .iter()
                .map(|parcel| (parcel.ids(), parcel.visit()))
                .collect::<Vec<_>>(),
            commit.give,
            commit.failed,
            commit.answers,
            commit.load,
            commit.result.is_some(),
        ),
        other => format!("{other:?}"),
    }
}

fn brief_down(message: &Down) -> String {
    match message {
        Down::Grant(grant) => format!(
            "grant {} {} {:?} ids {:?} careful {}",
            grant.epoch,
            grant.seq,
            grant
                .items
                .iter()
                .map(|parcel| (parcel.ids(), parcel.visit()))
                .collect::<Vec<_>>(),
            grant.ids,
            grant.careful,
        ),
        Down::Welcome(welcome) => format!("welcome {} {:?}", welcome.epoch, welcome.ids),
        other => format!("{other:?}"),
    }
}
