//! A client's ledger: child of the server and parent of its workers at once.
//!
//! Because every change passes the client, its state is a consistent cut at every instant. What goes up is
//! the difference between that state and what the server has on record:
//!
//! ```text
//!   on record and gone here        → done
//!   open here and not on record    → new
//!   set aside here                 → failed
//! ```

mod cutting;
mod gate;
mod hunger;
mod pace;

use super::Time;
use super::parent::{Action, Parent, ParentConfig};
use super::uplink::{Uplink, UplinkConfig, UplinkEvent};
use crate::ids::{ConnId, IdRange, ItemId};
use crate::message::{Down, Grant, Ready, Refusal, RootView, Shed, Up, Wall, Welcome};
use crate::segment::Segment;
use gate::Gate;
use pace::Pace;
use std::fmt;

/// The fewest and the most ids that a session of a worker gets at a time.
const WORKER_IDS: (u64, u64) = (1 << 11, 1 << 24);
/// How many leases of workers a client's own lease is good for.
const WORKER_LEASES: u64 = 1 << 16;
/// Into how many parts the commit interval is divided for the first commits of clients.
const PHASES: u64 = 256;

/// What a relay is made with.
pub struct RelayConfig {
    /// The client's side of its session with the server.
    pub uplink: UplinkConfig,
    /// Makes the secrets of the workers' sessions.
    pub secrets: fn() -> [u8; 16],
}

impl fmt::Debug for RelayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayConfig")
            .field("uplink", &self.uplink)
            .finish_non_exhaustive()
    }
}

/// What the shell around a relay has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum RelayAction {
    /// A job begins: look at the roots, start workers, and answer with [`Relay::ready`].
    Begin(Box<Welcome>),
    /// The job is over here: stop the workers and forget what they found. With the server's reason, if that
    /// was no ordinary end.
    End(Option<Refusal>),
    /// The connection to the server is unusable: close it.
    DropServer(ConnId),
    /// The connection to the server is lost: the session waits for another one.
    ServerLost,
    /// The session with the server goes on.
    ServerBack,
    /// The server keeps so much of a segment.
    Kept(Segment),
    /// To or about a worker.
    Worker(Action),
}

/// How urgently a client needs work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hunger {
    None,
    /// It is about to run dry.
    Hungry,
    /// Some of its workers have nothing to do, and the others hold too little for them.
    Starving,
}

/// The ledger of a client.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    pub(super) uplink: Uplink,
    pub(super) parent: Option<Parent>,
    /// Workers' epochs are numbered from here on in the next session.
    next_epoch: u64,
    /// Items on the server's record that are finished.
    done: Vec<IdRange>,
    /// Items that workers found since the last commit; some are finished meanwhile.
    fresh: Vec<IdRange>,
    shed: Option<Shed>,
    /// All workers that could give were asked for it.
    asked_workers: bool,
    /// What this host sees of the roots: said again when a link is lost, since it belongs to no sequence.
    views: Option<Vec<RootView>>,
    /// Where the server was told to grant nothing, if it ever was told anything.
    pub(super) walls: Option<Vec<Wall>>,
    /// Results that the shell has added up and not yet sent.
    unsent: bool,
    /// The time of the last commit, or of what came instead of it.
    committed: Time,
    /// By how much the first commit comes before others'.
    ahead: Time,
    next_commit: Time,
    commit_interval: Time,
    /// A commit that was sent and not acknowledged, and when that was.
    timed: Option<(u64, Time)>,
    /// How long the server takes to acknowledge one.
    ack_takes: Time,
    /// How late acknowledgements and answers to beats are.
    acks: Pace,
    beats: Pace,
    /// Until when a request for work waits for all workers that were asked.
    gathers_until: Time,
    /// What the server was told of this client's hunger.
    told: Hunger,
    /// How much it was told that this client holds.
    told_held: u64,
    /// Before this it says neither that it has enough nor how much it holds.
    may_tell: Time,
    /// When it says what it owes, if no answer has to come first.
    says_at: Time,
    /// It has enough, or holds much more or less than it said, and has not said so yet.
    owes_load: bool,
    /// It was granted something, and does not say before this that it is hungry still.
    digests_until: Time,
    paused: bool,
    gate: Gate,
    /// Bytes that the items of a job may take here.
    memory: u64,
}

impl Relay {
    /// A client without a job.
    #[must_use]
    pub fn new(config: RelayConfig) -> Self {
        let uplink = Uplink::new(config.uplink.clone());
        Self {
            config,
            uplink,
            parent: None,
            next_epoch: 1,
            done: Vec::new(),
            fresh: Vec::new(),
            shed: None,
            asked_workers: false,
            views: None,
            walls: None,
            unsent: false,
            committed: Time::ZERO,
            ahead: Time::ZERO,
            next_commit: Time::ZERO,
            commit_interval: Time::ZERO,
            timed: None,
            ack_takes: Time::ZERO,
            acks: Pace::default(),
            beats: Pace::default(),
            gathers_until: Time::ZERO,
            told: Hunger::None,
            told_held: 0,
            may_tell: Time::ZERO,
            says_at: Time::ZERO,
            owes_load: false,
            digests_until: Time::ZERO,
            paused: false,
            gate: Gate::default(),
            memory: u64::MAX,
        }
    }

    /// Returns items to the server when all of a job take more than about so many bytes. Default: never.
    pub fn limit_memory(&mut self, bytes: u64) {
        self.memory = bytes;
    }

    /// Sends commits in parts of about this many bytes, where they are larger. Default 1 MiB.
    pub fn limit_parts(&mut self, bytes: usize) {
        self.uplink.limit_parts(bytes);
    }

    /// The session with the server.
    #[must_use]
    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// The ledger over the workers, while there is a job.
    #[must_use]
    pub fn workers(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// A connection to the server is open.
    pub fn server_connected(&mut self, now: Time, conn: ConnId) {
        self.uplink.connected(now, conn);
    }

    /// The server's message has come.
    pub fn server_message(&mut self, now: Time, conn: ConnId, message: Down) {
        self.uplink.handle(now, conn, message);
        if let Some((seq, sent)) = self.timed
            && self.uplink.commits().1 >= seq
        {
            self.timed = None;
            let took = now.saturating_sub(sent);
            // Forgotten slowly: a server that is busy now and then is busy.
            self.ack_takes = took.max(self.ack_takes * 7 / 8);
            self.acks.note(now, took);
        }
        if let Some(sent) = self.uplink.take_answered() {
            self.beats.note(now, now.saturating_sub(sent));
        }
        self.pass_lease_on();
    }

    /// Workers may act for as long as this client may, and not before the server has said so.
    fn pass_lease_on(&mut self) {
        if let Some(parent) = &mut self.parent {
            parent.limit_lease(self.uplink.acts_until().unwrap_or(Time::ZERO));
        }
    }

    /// The connection to the server is gone.
    pub fn server_closed(&mut self, now: Time, conn: ConnId) {
        self.uplink.closed(now, conn);
    }

    /// Says what this host sees of the roots.
    pub fn ready(&mut self, roots: Vec<RootView>) {
        self.views = Some(roots);
        self.say_ready();
    }

    fn say_ready(&mut self) {
        if let Some(roots) = self.views.clone() {
            let epoch = self.uplink.epoch();
            self.uplink.send(Up::Ready(Ready { epoch, roots }));
        }
    }

    /// Sends what belongs to no sequence to the server: lines of workers' logs, warnings, rows. Lost if the link is down.
    pub fn send(&mut self, message: Up) {
        self.uplink.send(message);
    }

    /// The shell has something for the next commit that no commit of a worker brought: that one is lost.
    pub fn note_result(&mut self) {
        self.unsent = self.parent.is_some();
    }

    /// This client cannot go on.
    pub fn leave(&mut self, reason: String) {
        self.uplink.send(Up::Leave(reason));
    }

    /// A worker's message has come.
    pub fn worker_message(&mut self, now: Time, conn: ConnId, message: Up) {
        if let Some(parent) = &mut self.parent {
            parent.handle(now, conn, message);
        }
    }

    /// A worker comes no further for now, or does again.
    pub fn worker_stands(&mut self, conn: ConnId, stands: bool) {
        if let Some(parent) = &mut self.parent {
            parent.note_standing(conn, stands);
        }
    }

    /// A worker is gone, with this item in hand.
    pub fn worker_died(&mut self, now: Time, conn: ConnId, in_hand: Option<ItemId>, reason: &str) {
        if let Some(parent) = &mut self.parent {
            parent.died(now, conn, in_hand, reason);
        }
    }

    /// This process stood still for a while, until now: nobody's silence counts.
    pub fn held_up(&mut self, now: Time) {
        self.uplink.held_up(now);
        if let Some(parent) = &mut self.parent {
            parent.held_up(now);
        }
    }

    /// Looks at the timers.
    pub fn tick(&mut self, now: Time) {
        let load = self.load();
        self.uplink.tick(now, load);
        self.pass_lease_on();
        if let Some(parent) = &mut self.parent {
            parent.tick(now);
        }
    }

    /// When [`Relay::tick`] or [`Relay::wants_cut`] has something to do next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        // Without a window the answer to an earlier commit is the next thing that happens.
        let may_cut = self.uplink.is_open() && self.uplink.has_window();
        let cut = (may_cut && self.has_news()).then_some(self.next_commit);
        let workers = self.parent.as_ref().and_then(Parent::poll_timeout);
        let load = self.owes_load.then_some(self.says_at);
        let answer =
            (may_cut && self.could_answer()).then_some(self.gathers_until.max(self.digests_until));
        [self.uplink.poll_timeout(), workers, cut, load, answer]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next message to the server.
    #[must_use]
    pub fn poll_server(&mut self) -> Option<Up> {
        self.uplink.poll_send()
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self, now: Time) -> Option<RelayAction> {
        while let Some(event) = self.uplink.poll_event() {
            if let Some(action) = self.uplink_event(now, event) {
                return Some(action);
            }
        }
        let mut next = self.gate.pass(self.uplink.safe());
        while next.is_none() {
            let parent = self.parent.as_mut()?;
            let action = parent.poll_action()?;
            // What its client serves, a worker serves.
            if let Action::Sees { child, roots } = action {
                parent.serve(child, vec![true; roots.len()]);
                continue;
            }
            self.note(&action);
            let (sent, safe) = self.uplink.commits();
            let commit = sent + u64::from(self.has_news());
            next = self.gate.keep(action, commit, safe);
        }
        next.map(RelayAction::Worker)
    }

    fn uplink_event(&mut self, now: Time, event: UplinkEvent) -> Option<RelayAction> {
        match event {
            UplinkEvent::Started(welcome) => return Some(self.begin(now, welcome)),
            UplinkEvent::Resumed => {
                self.set_shed(None);
                self.told = Hunger::None;
                self.pause(false);
                self.be_frugal(false);
                self.say_ready();
                self.say_walls(true);
                return Some(RelayAction::ServerBack);
            }
            UplinkEvent::Granted(grant) => self.granted(now, grant),
            UplinkEvent::Asked(shed) => {
                self.set_shed(Some(shed));
                self.gathers_until = now + self.gathering();
            }
            UplinkEvent::Kept(segment) => return Some(RelayAction::Kept(segment)),
            UplinkEvent::Paused(pause) => self.pause(pause),
            UplinkEvent::Frugal(frugal) => self.be_frugal(frugal),
            UplinkEvent::Over(refusal) => {
                self.forget();
                return Some(RelayAction::End(refusal));
            }
            UplinkEvent::Drop(conn) => return Some(RelayAction::DropServer(conn)),
            UplinkEvent::Lost => {
                self.timed = None;
                self.pause(true);
                return Some(RelayAction::ServerLost);
            }
        }
        None
    }

    fn granted(&mut self, now: Time, grant: Grant) {
        // What was said before it came is stale to the server, even where it brings nothing but ids.
        self.told = Hunger::None;
        if !grant.items.is_empty() {
            self.digests_until = now + self.late(now);
            // Nothing was found before it.
            if !self.has_news() {
                self.committed = now.saturating_sub(self.ahead);
            }
        }
        if let Some(parent) = &mut self.parent {
            parent.add_ids(grant.ids);
            parent.add(grant.items, true);
        }
    }

    fn begin(&mut self, now: Time, welcome: Box<Welcome>) -> RelayAction {
        self.forget();
        let timing = welcome.job.timing;
        self.gate = Gate::new(welcome.job.walk.intents);
        let mut parent = Parent::new(ParentConfig {
            job: welcome.epoch.job,
            spec: welcome.job.clone(),
            ids: welcome.ids,
            lease_ids: (welcome.ids.len() / WORKER_LEASES).clamp(WORKER_IDS.0, WORKER_IDS.1),
            resumable: false,
            forward_logs: false,
            release: self.config.uplink.release.clone(),
            secrets: Box::new(self.config.secrets),
        });
        parent.limit_memory(self.memory);
        // Epochs of workers must differ between the sessions of this client, too.
        parent.start_epochs_at(self.next_epoch);
        self.parent = Some(parent);
        self.pass_lease_on();
        self.commit_interval = timing.commit_interval;
        // Clients that begin together do not all commit together.
        let phase = (welcome.epoch.number % PHASES) as u32;
        self.ahead = timing.commit_interval * phase / PHASES as u32;
        self.committed = now.saturating_sub(self.ahead);
        self.plan_commit(now);
        RelayAction::Begin(welcome)
    }

    fn set_shed(&mut self, shed: Option<Shed>) {
        self.shed = shed;
        self.asked_workers = false;
        if let Some(parent) = &mut self.parent {
            parent.reserve(shed.is_some());
        }
    }

    fn forget(&mut self) {
        if let Some(parent) = self.parent.take() {
            self.next_epoch = parent.next_epoch;
        }
        self.done.clear();
        self.fresh.clear();
        self.shed = None;
        self.views = None;
        self.walls = None;
        self.unsent = false;
        self.told = Hunger::None;
        self.timed = None;
        self.ack_takes = Time::ZERO;
        self.acks = Pace::default();
        self.beats = Pace::default();
        self.paused = false;
        self.gate = Gate::default();
    }

    fn pause(&mut self, pause: bool) {
        if self.paused != pause
            && let Some(parent) = &mut self.parent
        {
            self.paused = pause;
            // What keeps the server from acknowledging is not that it is slow.
            self.timed = None;
            parent.pause(pause);
        }
    }

    fn be_frugal(&mut self, frugal: bool) {
        if let Some(parent) = &mut self.parent {
            parent.be_frugal(frugal);
        }
    }

    /// Keeps the difference to the server's record.
    fn note(&mut self, action: &Action) {
        if let Action::Applied {
            result, done, new, ..
        } = action
        {
            self.done.extend_from_slice(done);
            self.fresh.extend_from_slice(new);
            self.unsent |= result.is_some();
            self.prune();
        }
    }

    /// Forgets found items that are finished, before they outnumber the open ones.
    fn prune(&mut self) {
        if let Some(parent) = &self.parent
            && self.fresh.len() > 1024 + 2 * parent.run_count()
        {
            let fresh = std::mem::take(&mut self.fresh).into_iter();
            self.fresh = fresh.flat_map(|ids| parent.unrecorded(ids)).collect();
        }
    }

    fn has_news(&self) -> bool {
        let aside = self
            .parent
            .as_ref()
            .is_some_and(|parent| parent.counts().aside > 0);
        self.unsent || aside || !self.done.is_empty() || !self.fresh.is_empty()
    }
}
