//! How sessions begin and go on: Hello, Resume, and what a child says of the roots.

use super::parent::{Action, Parent};
use super::parts::Parts;
use super::record::{Opened, Record};
use super::session::{Link, Session};
use super::{ProtocolError, Time};
use crate::ids::{ChildId, ConnId, Epoch, Secret};
use crate::item::Item;
use crate::message::{
    Down, Grant, Hello, HelloHeader, PROTOCOL_VERSION, Ready, Refusal, Resume, Welcome,
};

/// The longest name of a child, in bytes.
const NAME_BYTES_MAX: usize = 255;

impl Parent {
    /// Says why, and hangs up.
    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        let message = Down::Refused(refusal);
        self.actions.push_back(Action::Send { conn, message });
        self.hang_up(conn);
    }

    pub(super) fn hang_up(&mut self, conn: ConnId) {
        self.actions.push_back(Action::Close { conn });
    }

    /// A beat or a commit on a connection without a session: from a session that was given up, or from
    /// nobody. Or from one that goes on, over another connection than this: that one needs no answer.
    pub(super) fn stray(&mut self, conn: ConnId, epoch: Epoch) {
        let goes_on = |session: &Session| {
            session.epoch == epoch && !matches!(session.link, Link::Fenced { .. })
        };
        if self.sessions.values().any(goes_on) {
            return self.hang_up(conn);
        }
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

    pub(super) fn hello(&mut self, now: Time, conn: ConnId, hello: &Hello) {
        if hello.header.protocol != PROTOCOL_VERSION {
            return self.refuse(conn, Refusal::Version(self.header()));
        }
        if self.stopped {
            return self.refuse(conn, Refusal::JobOver);
        }
        if hello.name.len() > NAME_BYTES_MAX {
            let error = ProtocolError::Unexpected("a name that is too long");
            return self.refuse(conn, Refusal::Protocol(error.to_string()));
        }
        self.fence_predecessor(now, hello.nonce);
        let Some(ids) = self.take_lease() else {
            return self.refuse(conn, Refusal::Protocol("no ids are left".to_owned()));
        };
        let child = ChildId(self.next_child);
        let epoch = Epoch {
            job: self.config.job,
            number: self.next_epoch,
        };
        self.next_child += 1;
        self.next_epoch += 1;
        let secret = Secret((self.config.secrets)());
        let opened = Opened {
            child,
            epoch,
            secret,
            name: hello.name.clone(),
            workers: hello.workers,
            nonce: hello.nonce,
            ids,
        };
        let session = Session::new(&opened, Link::Up { conn, heard: now });
        self.note_deadline(now + self.config.spec.timing.dead_after);
        self.record(|| Record::Opened(opened));
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
            journaled: self.keeps_records,
        });
        let message = Down::Welcome(welcome);
        self.actions.push_back(Action::Send { conn, message });
        self.say_advice(conn);
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

    pub(super) fn resume(&mut self, now: Time, conn: ConnId, resume: &Resume) {
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
            return self.hang_up(conn);
        }
        session.attempt = resume.attempt;
        let child = session.child;
        if let Some(old) = session.conn() {
            self.conns.remove(&old);
            self.actions.push_back(Action::Close { conn: old });
        }
        session.link = Link::Up { conn, heard: now };
        session.shed = None;
        session.parts = Parts::default();
        session.seen(resume.last_grant);
        let last_commit = session.applied;
        self.note_deadline(now + self.config.spec.timing.dead_after);
        self.conns.insert(conn, child);
        self.index(child);
        self.actions.push_back(Action::Back { child, conn });
        let message = Down::Resumed { last_commit };
        self.actions.push_back(Action::Send { conn, message });
        self.send_again(child, conn);
        self.say_advice(conn);
    }

    /// Says what holds for all children, to one that may not have heard it.
    fn say_advice(&mut self, conn: ConnId) {
        let paused = self.paused.then_some(Down::Pause(true));
        let frugal = self.is_frugal().then_some(Down::Frugal(true));
        for message in paused.into_iter().chain(frugal) {
            self.actions.push_back(Action::Send { conn, message });
        }
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
                .filter_map(|&id| Some((id, self.table.get(id)?.item)));
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

    pub(super) fn ready(&mut self, child: ChildId, ready: Ready) -> Result<(), ProtocolError> {
        if ready.roots.len() != self.config.spec.roots.len() {
            return Err(ProtocolError::Unexpected("Ready for other roots"));
        }
        let Some(session) = self.sessions.get_mut(&child) else {
            return Ok(());
        };
        // A child that resumes says it again, because the first may have been lost with the link.
        if std::mem::replace(&mut session.ready, true) {
            return Ok(());
        }
        let roots = ready.roots;
        self.actions.push_back(Action::Sees { child, roots });
        Ok(())
    }
}
