//! Connections and sessions: who comes, what they say, how they go.

use super::quitters::QUITS_MAX;
use super::rows::WARNING_MAX;
use super::{Conn, Coordinator, Phase, WARNINGS_MAX};
use crate::connection::{self, Origin};
use crate::journal::Entry;
use crate::outcome::ServerError;
use hydra_link::Connection;
use hydra_proto::ids::{ChildId, ConnId};
use hydra_proto::ledger::Time;
use hydra_proto::message::{
    BEING_STOPPED, Busy, Down, LogLine, PROTOCOL_VERSION, Refusal, RootView, Up,
};
use std::collections::BTreeSet;

/// What the client inside a server is called.
const LOCAL: &str = "local";

/// Connections that have proven the key. What is more is closed.
const CONNS_MAX: usize = 1 << 15;

impl Coordinator {
    /// The connection that has said nothing for the longest time: no session watches over its silence.
    pub(super) fn mute(&self) -> Option<(ConnId, Time)> {
        let (conn, since) = self.mute.first_key_value()?;
        Some((*conn, *since))
    }

    pub(super) fn connected(&mut self, now: Time, origin: Origin, connection: Connection) {
        if !matches!(self.phase, Phase::Gathering | Phase::Walking) {
            return;
        }
        if self.conns.len() >= CONNS_MAX {
            tracing::warn!("there are {CONNS_MAX} connections: another one is closed");
            if let Origin::Dialled(client) = origin {
                self.dial_again(client);
            }
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let outbox = connection::start(conn, connection, self.intake.clone());
        if origin != Origin::Embedded {
            self.mute.insert(conn, now);
        }
        self.conns.insert(
            conn,
            Conn {
                outbox,
                origin,
                child: None,
                greeted: false,
            },
        );
    }

    pub(super) fn unreachable(&mut self, client: usize, reason: String, last: bool) {
        tracing::debug!(client = self.client_name(client), %reason, last, "not reached");
        match last {
            true => self.give_up(client, reason),
            // It was there once, and is dialled again.
            false if self.began_before => self.gathering.put_off(client, reason),
            false => self.gathering.failed(client, reason),
        }
    }

    /// Does without a client that was to be dialled.
    fn give_up(&mut self, client: usize, reason: String) {
        self.gathering.failed(client, reason);
        if let Some(wish) = self.wishes.get_mut(client) {
            *wish = None;
        }
    }

    pub(super) fn client_name(&self, client: usize) -> String {
        self.clients
            .get(client)
            .map_or(LOCAL.to_owned(), ToString::to_string)
    }

    pub(super) fn message(&mut self, now: Time, conn: ConnId, message: Up) {
        tracing::trace!(?conn, ?message);
        let Some(origin) = self.conns.get(&conn).map(|state| state.origin) else {
            return;
        };
        match &message {
            Up::Busy(busy) => {
                let busy = busy.clone();
                return self.turned_away(conn, &busy);
            }
            // Any other is refused, and begins anew: its server will not come back, or it dials no other than this.
            Up::Resume(resume)
                if resume.epoch.job != self.job_id
                    && resume.journaled
                    && matches!(origin, Origin::Dialled(_)) =>
            {
                let busy = Busy {
                    header: resume.header.clone(),
                    server: "one that is gone and may come back".to_owned(),
                    job: Some(resume.epoch.job),
                };
                return self.turned_away(conn, &busy);
            }
            Up::Hello(hello) if hello.header.protocol != PROTOCOL_VERSION => {
                let reason = version_mismatch(hello.header.protocol, &hello.header.release);
                let name = match origin {
                    Origin::Dialled(client) => self.client_name(client),
                    _ => "a client".to_owned(),
                };
                self.warn(format!("{name}: {reason}"));
                if let Origin::Dialled(client) = origin {
                    self.give_up(client, reason);
                }
            }
            Up::Leave(reason) => {
                if let Some(client) = self.expected(origin) {
                    self.gathering.failed(client, reason.clone());
                }
                if reason != BEING_STOPPED {
                    self.quits(conn, reason);
                }
            }
            _ => {}
        }
        self.parent.handle(now, conn, message);
    }

    /// A client gives the job up, or broke the protocol. One that was dialled would be dialled again, and do the same for
    /// ever: not, when it has done nothing else for some time.
    fn quits(&mut self, conn: ConnId, reason: &str) {
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        let Origin::Dialled(client) = state.origin else {
            return;
        };
        if !matches!(self.phase, Phase::Gathering | Phase::Walking) {
            return;
        }
        if self.quitters.quits(client, state.child) {
            let name = self.client_name(client);
            let reason: String = reason.chars().take(WARNING_MAX).collect();
            self.warn(format!(
                "client {name} is not dialled again: it gave up {QUITS_MAX} times in a row and had found nothing; \
                 the last time: {reason}"
            ));
            self.give_up(client, reason);
        }
    }

    /// A client does not want this connection: it is busy, with another server or still with this one, or keeps
    /// its work for a server that may come back.
    fn turned_away(&mut self, conn: ConnId, busy: &Busy) {
        self.mute.remove(&conn);
        let Some(state) = self.conns.remove(&conn) else {
            return;
        };
        let Origin::Dialled(client) = state.origin else {
            return;
        };
        let reason = format!("it is busy: it serves {}", busy.server.escape_debug());
        match busy.job {
            // It has not noticed yet that its connection is gone.
            Some(job) if job == self.job_id && self.may_have_served(client) => {
                self.try_again(client, reason);
            }
            Some(job) if job == self.job_id => {
                self.give_up(client, "it serves this job under another name".to_owned());
            }
            Some(_) if self.wait => self.wait_for(client, reason),
            Some(_) => self.give_up(client, format!("{reason}; --wait waits for it")),
            // Whose job it will have is not settled yet.
            None => self.try_again(client, reason),
        }
    }

    /// Whether a session of this job may be this client's, of this server or of one before it.
    fn may_have_served(&self, client: usize) -> bool {
        self.incarnation > 0 || self.served.contains(&client)
    }

    fn try_again(&mut self, client: usize, reason: String) {
        self.gathering.put_off(client, reason);
        self.dial_again(client);
    }

    fn wait_for(&mut self, client: usize, reason: String) {
        let name = self.client_name(client);
        let told = self.waits_for.insert(client, reason.clone());
        if told.is_none_or(|told| told != reason) {
            tracing::info!(client = name, %reason, "waiting for it");
        }
        self.gathering.busy(client);
        self.dial_again(client);
    }

    /// Tells the user, now and in the report.
    pub(super) fn warn(&mut self, warning: String) {
        if self.warnings.contains(&warning) {
            return;
        }
        tracing::warn!("{warning}");
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    pub(super) fn closed(&mut self, now: Time, conn: ConnId, reason: Option<String>) {
        self.mute.remove(&conn);
        self.late_acks.remove(&conn);
        self.held.forget(conn, |_| true);
        let state = self.conns.remove(&conn);
        self.parent.closed(now, conn);
        let Some(state) = state else {
            return;
        };
        let why = reason
            .clone()
            .unwrap_or_else(|| "it closed the connection".to_owned());
        match state.origin {
            Origin::Dialled(client) => self.try_again(client, why),
            // It does not come back.
            Origin::Embedded => self.gathering.failed(self.clients.len(), why),
            Origin::Accepted => {}
        }
        if let (Some(reason), Some(child)) = (reason, state.child) {
            tracing::debug!(client = self.tally.name(child), %reason, "connection lost");
        }
    }

    /// The number of a client that the work waits for.
    fn expected(&self, origin: Origin) -> Option<usize> {
        match origin {
            Origin::Dialled(client) => Some(client),
            Origin::Embedded => Some(self.clients.len()),
            Origin::Accepted => None,
        }
    }

    fn dial_again(&mut self, client: usize) {
        if let Some(Some(wish)) = self.wishes.get(client) {
            wish.send_modify(|wish| *wish += 1);
        }
    }

    /// Sends a message, or ends a connection, as soon as what it follows from is durable.
    pub(super) fn send(&mut self, now: Time, conn: ConnId, message: Option<Down>) {
        if let Some(Down::Refused(Refusal::Protocol(reason))) = &message {
            self.quits(conn, reason);
        }
        let message = match message {
            Some(Down::Ack { seq }) if self.keep_ack(conn, seq) => return,
            message => message,
        };
        if let Some(message) = self.hold_back(conn, message) {
            self.deliver(now, conn, message);
        }
    }

    pub(crate) fn is_greeted(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|state| state.greeted)
    }

    /// Sends a message now, or ends a connection when all is sent.
    pub(crate) fn deliver(&mut self, now: Time, conn: ConnId, message: Option<Down>) {
        let Some(message) = message else {
            let reason = "it was silent, or its session is over".to_owned();
            return self.closed(now, conn, Some(reason));
        };
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.greeted |= matches!(message, Down::Welcome(_) | Down::Resumed { .. });
        if let Some(run) = state.child.and_then(|child| self.tally.run(child)) {
            match &message {
                Down::Grant(_) => run.grants += 1,
                Down::Shed(_) => run.sheds += 1,
                _ => {}
            }
        }
        if !state.outbox.send(message) {
            let reason = "it takes no messages".to_owned();
            self.closed(now, conn, Some(reason));
        }
    }

    pub(super) fn joined(
        &mut self,
        child: ChildId,
        conn: ConnId,
        name: &str,
        workers: u32,
    ) -> Result<(), ServerError> {
        let origin = self.conns.get(&conn).map(|state| state.origin);
        let name = match origin {
            Some(Origin::Dialled(client)) => self.client_name(client),
            Some(Origin::Embedded) => LOCAL.to_owned(),
            Some(Origin::Accepted) | None => self.free_name(child, name),
        };
        tracing::debug!(client = name, workers, "joined");
        self.tally.joined(child, &name, workers);
        self.note_served(origin);
        if let Some(state) = self.conns.get_mut(&conn) {
            self.mute.remove(&conn);
            state.child = Some(child);
        }
        let embedded = origin == Some(Origin::Embedded);
        if embedded {
            self.embedded.insert(child);
            self.parent.never_silent(child);
        }
        self.note(&Entry::Client {
            child,
            name,
            workers,
            embedded,
        })
    }

    pub(super) fn back(&mut self, child: ChildId, conn: ConnId) -> Result<(), ServerError> {
        tracing::info!(client = self.tally.name(child), "its connection is back");
        let Some(state) = self.conns.get_mut(&conn) else {
            return Ok(());
        };
        self.mute.remove(&conn);
        state.child = Some(child);
        let origin = state.origin;
        self.note_served(Some(origin));
        match origin {
            Origin::Accepted => self.rename(child),
            Origin::Dialled(_) | Origin::Embedded => Ok(()),
        }
    }

    fn note_served(&mut self, origin: Option<Origin>) {
        if let Some(Origin::Dialled(client)) = origin {
            self.served.insert(client);
            self.waits_for.remove(&client);
        }
    }

    /// Finds another name for a client that was away, if a newcomer has taken its own meanwhile.
    fn rename(&mut self, child: ChildId) -> Result<(), ServerError> {
        let name = self.tally.name(child).to_owned();
        let free = self.free_name(child, &name);
        let view = self.parent.children().find(|view| view.child == child);
        let Some(workers) = view.filter(|_| free != name).map(|view| view.workers) else {
            return Ok(());
        };
        self.tally.joined(child, &free, workers);
        self.note(&Entry::Client {
            child,
            name: free,
            workers,
            embedded: false,
        })
    }

    /// What a client that dials and calls itself `name` is called: what no other is called that is connected, or is
    /// dialled, or is inside a server. One whose connection is gone has most likely come again.
    fn free_name(&self, child: ChildId, name: &str) -> String {
        let others = self.parent.children();
        let others = others.filter(|view| view.connected && view.child != child);
        let mut taken: BTreeSet<String> = others
            .map(|view| self.tally.name(view.child).to_owned())
            .collect();
        taken.extend(self.clients.iter().map(ToString::to_string));
        taken.insert(LOCAL.to_owned());
        let numbered = (2u64..).map(|number| format!("{name} ({number})"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names
            .find(|name| !taken.contains(name))
            .unwrap_or_else(|| name.to_owned())
    }

    pub(super) fn sees(&mut self, child: ChildId, roots: Vec<RootView>) -> Result<(), ServerError> {
        self.book.sees(child, roots);
        let mut conns = self.conns.values();
        if let Some(state) = conns.find(|state| state.child == Some(child)) {
            match self.expected(state.origin) {
                Some(client) => self.gathering.arrived(client),
                None => self.gathering.came(child),
            }
        }
        if self.phase == Phase::Walking && !self.open_roots() {
            self.serve(child);
        }
        self.note_roots()
    }

    pub(super) fn lost(&mut self, child: ChildId, reason: &str) {
        self.book.lost(child);
        self.quitters.lost(child);
        self.gathering.left(child);
        if matches!(self.phase, Phase::Gathering | Phase::Walking) {
            let client = self.tally.name(child);
            let reason: String = reason.chars().take(WARNING_MAX).collect();
            let work = match self.parent.children().next() {
                Some(_) => "its work goes to others",
                None => "no other client is left",
            };
            self.warn(format!("client {client} is given up: {reason}; {work}"));
        }
        self.tally.left(child);
    }

    pub(super) fn log(&mut self, child: ChildId, lines: &[LogLine]) {
        if let Some(sink) = &mut self.logs {
            let name = self.tally.name(child);
            lines.iter().for_each(|line| sink(name, line));
        }
    }
}

fn version_mismatch(protocol: u32, release: &str) -> String {
    let age = match protocol < PROTOCOL_VERSION {
        true => "older",
        false => "newer",
    };
    let release = release.escape_debug();
    format!("its release {release} is {age} than this server's: install the same release on both")
}
