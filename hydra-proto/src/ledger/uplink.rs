//! A child's side of a session with its parent: who it is, what was sent and not acknowledged, and the timers.

use super::Time;
use super::frontier::Cut;
use super::parts::{PART_BYTES, size, split};
use crate::ids::{ConnId, Epoch, Secret};
use crate::job::Timing;
use crate::message::{
    Commit, Down, DownBeat, Grant, Hello, HelloHeader, Load, PROTOCOL_VERSION, Refusal, Resume,
    Shed, Up, UpBeat, Welcome,
};
use crate::segment::Segment;
use std::collections::VecDeque;

/// Beats that may be on their way at once; older ones are forgotten.
const BEATS_MAX: usize = 16;
/// When commits of so many bytes are not acknowledged, no more are made, however few they are.
const WINDOW_BYTES: usize = 8 << 20;

/// What a child is made with.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// What it calls itself.
    pub name: String,
    /// How many workers it has.
    pub workers: u32,
    /// Drawn at random when its process started.
    pub nonce: u64,
    /// This build, for people.
    pub release: String,
    /// Whether the session outlives its connection.
    pub resumable: bool,
    /// The connection is within this process and cannot be cut: its silence means nothing.
    pub uncut: bool,
}

/// What has happened to the session.
#[derive(Debug, PartialEq)]
pub enum UplinkEvent {
    /// It is open: here is the job.
    Started(Box<Welcome>),
    /// It goes on over a new connection.
    Resumed,
    /// Work came.
    Granted(Grant),
    /// The parent asks for work.
    Asked(Shed),
    /// Stop taking new directories, or go on.
    Paused(bool),
    /// The parent keeps so much of a segment.
    Kept(Segment),
    /// Find no more than is needed, or go on as usual.
    Frugal(bool),
    /// It is over: forget the job. With the parent's reason, if that was no ordinary end.
    Over(Option<Refusal>),
    /// The connection has been silent for too long, or is unusable: close it.
    Drop(ConnId),
    /// The connection is lost; the session waits to be resumed.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None,
    /// Hello or Resume was sent.
    Opening(ConnId),
    Open(ConnId),
}

#[derive(Debug)]
struct Session {
    epoch: Epoch,
    secret: Secret,
    attempt: u64,
    last_grant: u64,
    sent: u64,
    acked: u64,
    /// Commits to be sent again if the link is lost. Empty where sessions cannot be resumed.
    unacked: VecDeque<Commit>,
    /// The bytes of each commit that is not acknowledged, and of all of them.
    sizes: VecDeque<usize>,
    bytes: usize,
    timing: Timing,
    journaled: bool,
}

impl Session {
    fn acknowledged(&mut self, seq: u64) {
        while self.acked < seq {
            self.acked += 1;
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }
}

/// The child's side of a session.
#[derive(Debug)]
pub struct Uplink {
    config: UplinkConfig,
    session: Option<Session>,
    link: Link,
    heard: Time,
    lost: Option<Time>,
    next_beat: Time,
    beat_number: u64,
    beats: VecDeque<(u64, Time)>,
    /// When the beat was sent that was answered last, if that was not asked yet.
    answered: Option<Time>,
    acts_until: Option<Time>,
    part_bytes: usize,
    out: VecDeque<Up>,
    events: VecDeque<UplinkEvent>,
}

impl Uplink {
    /// A child without a session.
    #[must_use]
    pub fn new(config: UplinkConfig) -> Self {
        Self {
            config,
            session: None,
            link: Link::None,
            heard: Time::ZERO,
            lost: None,
            next_beat: Time::ZERO,
            beat_number: 0,
            beats: VecDeque::new(),
            answered: None,
            acts_until: None,
            part_bytes: PART_BYTES,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Sends commits in parts of about this many bytes, where they are larger. Default 1 MiB.
    pub fn limit_parts(&mut self, bytes: usize) {
        self.part_bytes = bytes;
    }

    /// The next message to send on the present connection.
    #[must_use]
    pub fn poll_send(&mut self) -> Option<Up> {
        self.out.pop_front()
    }

    /// The next thing that has happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<UplinkEvent> {
        self.events.pop_front()
    }

    /// The session's epoch.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.session.as_ref().map(|session| session.epoch)
    }

    /// Until when this child's workers may act; `None` before the parent has said so.
    #[must_use]
    pub fn acts_until(&self) -> Option<Time> {
        self.acts_until
    }

    /// Whether the session is open on a live connection.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Whether another commit may be sent before the parent has answered earlier ones.
    #[must_use]
    pub fn has_window(&self) -> bool {
        let window = |s: &Session| {
            let few = s.sent - s.acked < u64::from(s.timing.commit_window.max(1));
            few && s.bytes < WINDOW_BYTES
        };
        self.session.as_ref().is_some_and(window)
    }

    /// The last commit that was sent, and the last that was acknowledged.
    #[must_use]
    pub fn commits(&self) -> (u64, u64) {
        let session = self.session.as_ref();
        session.map_or((0, 0), |session| (session.sent, session.acked))
    }

    /// The last commit that the parent has acknowledged; 0 before the first.
    #[must_use]
    pub fn safe(&self) -> u64 {
        self.commits().1
    }

    /// Whether every commit was acknowledged.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.sent == session.acked)
    }

    /// A connection to the parent is open: greets it.
    pub fn connected(&mut self, now: Time, conn: ConnId) {
        self.link = Link::Opening(conn);
        self.heard = now;
        self.out.clear();
        let header = HelloHeader {
            protocol: PROTOCOL_VERSION,
            release: self.config.release.clone(),
        };
        let greeting = match &mut self.session {
            Some(session) => {
                session.attempt += 1;
                Up::Resume(Resume {
                    header,
                    epoch: session.epoch,
                    secret: session.secret,
                    attempt: session.attempt,
                    last_grant: session.last_grant,
                    journaled: session.journaled,
                })
            }
            None => Up::Hello(Hello {
                header,
                name: self.config.name.clone(),
                workers: self.config.workers,
                nonce: self.config.nonce,
            }),
        };
        self.out.push_back(greeting);
    }

    /// The connection is gone.
    pub fn closed(&mut self, now: Time, conn: ConnId) {
        if !self.is_on(conn) {
            return;
        }
        self.link = Link::None;
        self.out.clear();
        self.beats.clear();
        match self.config.resumable && self.session.is_some() {
            true => {
                self.lost.get_or_insert(now);
                self.events.push_back(UplinkEvent::Lost);
            }
            false => self.end(None),
        }
    }

    fn is_on(&self, conn: ConnId) -> bool {
        matches!(self.link, Link::Opening(on) | Link::Open(on) if on == conn)
    }

    /// Forgets the session.
    fn end(&mut self, refusal: Option<Refusal>) {
        self.session = None;
        self.lost = None;
        self.acts_until = None;
        self.beats.clear();
        self.out.clear();
        self.link = Link::None;
        self.events.push_back(UplinkEvent::Over(refusal));
    }

    /// The parent's message has come. Messages of an older connection are ignored.
    pub fn handle(&mut self, now: Time, conn: ConnId, message: Down) {
        if !self.is_on(conn) {
            return;
        }
        self.heard = now;
        match message {
            Down::Welcome(welcome) => self.welcome(now, conn, welcome),
            Down::Resumed { last_commit } => self.resumed(now, conn, last_commit),
            Down::Refused(refusal) => self.end(Some(refusal)),
            Down::Grant(grant) => self.granted(conn, grant),
            Down::Ack { seq } => self.acknowledged(seq),
            Down::Shed(shed) => self.events.push_back(UplinkEvent::Asked(shed)),
            Down::Beat(beat) => self.beat_answered(&beat),
            Down::Pause(pause) => self.events.push_back(UplinkEvent::Paused(pause)),
            Down::Frugal(frugal) => self.events.push_back(UplinkEvent::Frugal(frugal)),
            Down::Stop => self.end(None),
            Down::Kept(segment) => self.events.push_back(UplinkEvent::Kept(segment)),
        }
    }

    fn welcome(&mut self, now: Time, conn: ConnId, mut welcome: Box<Welcome>) {
        if self.session.is_some() {
            return;
        }
        welcome.job.timing = welcome.job.timing.bounded();
        self.link = Link::Open(conn);
        self.next_beat = now;
        self.session = Some(Session {
            epoch: welcome.epoch,
            secret: welcome.secret,
            attempt: 0,
            last_grant: 0,
            sent: 0,
            acked: 0,
            unacked: VecDeque::new(),
            sizes: VecDeque::new(),
            bytes: 0,
            timing: welcome.job.timing,
            journaled: welcome.journaled,
        });
        self.events.push_back(UplinkEvent::Started(welcome));
    }

    fn resumed(&mut self, now: Time, conn: ConnId, last_commit: u64) {
        let Some(session) = &mut self.session else {
            return;
        };
        if last_commit < session.acked {
            // The parent has lost what it had acknowledged: its record of what is done here is not what was done.
            self.events.push_back(UplinkEvent::Drop(conn));
            return self.end(Some(Refusal::Fenced));
        }
        self.link = Link::Open(conn);
        self.lost = None;
        self.next_beat = now;
        session.acknowledged(last_commit.min(session.sent));
        session.unacked.retain(|commit| commit.seq > last_commit);
        let again = session.unacked.iter().cloned();
        self.out
            .extend(again.flat_map(|commit| split(commit, self.part_bytes)));
        self.events.push_back(UplinkEvent::Resumed);
    }

    fn granted(&mut self, conn: ConnId, grant: Grant) {
        let Some(session) = &mut self.session else {
            return;
        };
        if grant.epoch != session.epoch || grant.seq <= session.last_grant {
            return;
        }
        // A gap means that the connection is not what it should be; a resume asks for the missing ones.
        if grant.seq != session.last_grant + 1 {
            self.events.push_back(UplinkEvent::Drop(conn));
            return;
        }
        session.last_grant = grant.seq;
        self.events.push_back(UplinkEvent::Granted(grant));
    }

    fn acknowledged(&mut self, seq: u64) {
        if let Some(session) = &mut self.session {
            session.acknowledged(seq.min(session.sent));
            while session
                .unacked
                .front()
                .is_some_and(|commit| commit.seq <= seq)
            {
                session.unacked.pop_front();
            }
        }
    }

    fn beat_answered(&mut self, beat: &DownBeat) {
        while let Some(&(number, sent)) = self.beats.front() {
            if number > beat.number {
                return;
            }
            self.beats.pop_front();
            if number == beat.number {
                self.answered = Some(sent);
                let until = sent.saturating_add(beat.lease);
                self.acts_until = self.acts_until.max(Some(until));
            }
        }
    }

    /// When the beat was sent that the parent has just answered.
    pub(super) fn take_answered(&mut self) -> Option<Time> {
        self.answered.take()
    }

    /// Since when a beat waits for its answer.
    pub(super) fn unanswered(&self) -> Option<Time> {
        self.beats.front().map(|&(_, sent)| sent)
    }

    /// Stamps a commit and sends it.
    pub fn commit(&mut self, cut: Cut) {
        let open = self.is_open();
        let Some(session) = &mut self.session else {
            return;
        };
        session.sent += 1;
        let commit = Commit {
            epoch: session.epoch,
            seq: session.sent,
            done: cut.done,
            new: cut.new,
            give: cut.give,
            failed: cut.failed,
            result: cut.result,
            load: cut.load,
            answers: cut.answers,
            begun: cut.begun,
        };
        let size = size(&commit);
        session.sizes.push_back(size);
        session.bytes += size;
        if self.config.resumable {
            session.unacked.push_back(commit.clone());
        }
        if open {
            self.out.extend(split(commit, self.part_bytes));
        }
    }

    /// Sends something that belongs to no sequence; lost if the link is down.
    pub fn send(&mut self, message: Up) {
        if self.is_open() {
            self.out.push_back(message);
        }
    }

    /// Says at once how much there is to do.
    pub fn beat(&mut self, now: Time, load: Load) {
        let Some(session) = self.session.as_ref().filter(|_| self.is_open()) else {
            return;
        };
        self.beat_number += 1;
        self.next_beat = now + session.timing.beat;
        self.beats.push_back((self.beat_number, now));
        if self.beats.len() > BEATS_MAX {
            self.beats.pop_front();
        }
        self.out.push_back(Up::Beat(UpBeat {
            epoch: session.epoch,
            number: self.beat_number,
            last_grant: session.last_grant,
            load,
        }));
    }

    /// This process stood still for a while, until now: that the parent was not heard means nothing.
    pub fn held_up(&mut self, now: Time) {
        self.heard = now;
    }

    /// Looks at the timers.
    pub fn tick(&mut self, now: Time, load: Load) {
        let timing = self.timing();
        match self.link {
            Link::Open(conn) | Link::Opening(conn)
                if self.silence().is_some_and(|at| now >= at) =>
            {
                self.events.push_back(UplinkEvent::Drop(conn));
                self.closed(now, conn);
            }
            Link::Open(_) if now >= self.next_beat => self.beat(now, load),
            Link::None if self.lost.is_some_and(|lost| now >= lost + timing.grace) => {
                self.end(None)
            }
            _ => {}
        }
    }

    /// When the parent has been silent for too long. Never, where the connection cannot be cut.
    fn silence(&self) -> Option<Time> {
        (!self.config.uncut).then(|| self.heard + self.timing().dead_after)
    }

    fn timing(&self) -> Timing {
        self.session
            .as_ref()
            .map_or_else(Timing::default, |session| session.timing)
    }

    /// When [`Uplink::tick`] has something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let timing = self.timing();
        match self.link {
            Link::Open(_) => Some(
                self.silence()
                    .map_or(self.next_beat, |at| at.min(self.next_beat)),
            ),
            Link::Opening(_) => self.silence(),
            Link::None => self.lost.map(|lost| lost + timing.grace),
        }
    }
}
