//! The one task that owns a client's state. Three steps, again and again:
//!
//! 1. [`Dispatcher::next_event`] waits for whatever comes first and makes an [`Event`] of it;
//! 2. [`Dispatcher::handle`] tells the ledger, a function for each event, without waiting;
//! 3. [`Dispatcher::act`] does what the ledger asks for, without waiting.
//!
//! ```text
//!            ┌─────────────────────────────────────────────┐
//!            ▼                                             │ next server
//!   Serving: no link ──connection──► link ──job──► workers │
//!            ▲                        │ lost               │
//!            └── within the grace ────┘       Stopping: workers end, or are killed ──► run ends
//! ```
//!
//! How a job begins, what is done with workers and how things end is in the modules beside this one.
//!
//! # Memory
//! Every queue is bounded. When the server is slow its commit window closes; then the commits of workers are
//! put by instead of handled ([`Dispatcher::is_full`]), so they are not acknowledged, the workers' own windows
//! close, and they stop. Put by are at most a window of commits for each worker, in number and in bytes. Beats go on
//! meanwhile.

use self::beginning::{Around, Job};
use self::ending::Next;
use crate::breaker;
use crate::config::Config;
use crate::crew::Crew;
use crate::doors::{Arrival, Doors, Want};
use crate::error::ClientError;
use crate::link::{Link, LinkEvent};
use crate::roots::LeftBehind;
use crate::worker::WorkerEvent;
use hydra_link::Connection;
use hydra_link::clock;
use hydra_proto::ids::{ConnId, Epoch};
use hydra_proto::ledger::{Relay, RelayAction, RelayConfig, Time, UplinkConfig};
use hydra_proto::message::{Busy, HelloHeader, LogLine, PROTOCOL_VERSION, Up};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, trace, warn};

mod beginning;
mod breaking;
mod ending;
mod rows;
mod workers;

/// Events that may wait for the dispatcher; who brings more waits.
const EVENTS_MAX: usize = 64;
/// Commits that may be put by in all; no honest workers send so many unacknowledged.
const PUT_BY_MAX: usize = 1 << 14;
/// Log lines that may wait to be forwarded, and that travel in one message.
const LINES_MAX: usize = 64;
/// A timer that comes later than this, or than half the silence that counts, means that the whole process was held up.
const HELD_UP: Duration = Duration::from_secs(1);
/// How long the others may speak after that, before their silence counts.
const HELD_UP_REST: Duration = Duration::from_millis(200);
/// The shortest sleep, so that a deadline that cannot be met yet costs little.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// What can happen.
enum Event {
    Shutdown,
    Arrival(Arrival),
    Link(LinkEvent),
    Worker(WorkerEvent),
    Looked(Epoch, Box<Around>),
    Line(LogLine),
    /// There is nothing to do but to start another worker.
    Start,
    Timer,
}

enum Stage {
    Serving,
    Stopping {
        next: Next,
        deadline: Time,
        killed: bool,
    },
}

/// A channel of events, both ends: tasks get clones of the one, the dispatcher reads the other.
type Inbox<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

pub(crate) struct Dispatcher {
    config: Arc<Config>,
    relay: Relay,
    crew: Crew,
    job: Option<Job>,
    looked: Inbox<(Epoch, Box<Around>)>,
    /// Processes that looked at roots, and hang there.
    lookers: LeftBehind,
    /// Workers that earlier jobs have left behind.
    left_behind: breaker::LeftBehind,
    doors: Doors,
    link: Option<Link>,
    links: Inbox<LinkEvent>,
    workers: mpsc::Receiver<WorkerEvent>,
    lines: mpsc::Receiver<LogLine>,
    unsent_lines: Vec<LogLine>,
    put_by: VecDeque<(ConnId, Up)>,
    stage: Stage,
    nonce: u64,
    next_conn: u64,
    /// Servers that called while this client was busy with the present job.
    calls: u64,
    /// Something was sent that the server has to hear before this client ends.
    has_said_why: bool,
    /// When the dispatcher meant to wake at the latest.
    awaited: Option<Time>,
    /// The process was held up: until then nobody's silence counts.
    rest_until: Option<Time>,
}

impl Dispatcher {
    pub(crate) fn new(
        config: Arc<Config>,
        doors: Doors,
        crew: Crew,
        workers: mpsc::Receiver<WorkerEvent>,
        lines: mpsc::Receiver<LogLine>,
    ) -> Self {
        let nonce = rand::random();
        Self {
            relay: new_relay(&config, nonce, !doors.is_given()),
            crew,
            job: None,
            looked: mpsc::channel(1),
            lookers: LeftBehind::default(),
            left_behind: BTreeMap::new(),
            doors,
            link: None,
            links: mpsc::channel(EVENTS_MAX),
            workers,
            lines,
            unsent_lines: Vec::new(),
            put_by: VecDeque::new(),
            stage: Stage::Serving,
            nonce,
            next_conn: 1,
            calls: 0,
            has_said_why: false,
            awaited: None,
            rest_until: None,
            config,
        }
    }

    /// Serves until `shutdown`, or until there is nothing left to serve.
    pub(crate) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ClientError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut stopped = false;
        self.doors.want(Want::First);
        loop {
            let event = self.next_event(shutdown.as_mut(), stopped).await;
            stopped |= matches!(event, Event::Shutdown);
            let now = clock::now();
            self.handle(now, event);
            self.act(now);
            if let Some(result) = self.advance(now) {
                // Last words have to arrive; after a job's ordinary end there are none.
                if let Some(link) = self.link.take().filter(|_| self.has_said_why) {
                    link.close().await;
                }
                return result;
            }
        }
    }

    async fn next_event(
        &mut self,
        shutdown: Pin<&mut impl Future<Output = ()>>,
        stopped: bool,
    ) -> Event {
        let serving = matches!(self.stage, Stage::Serving);
        self.awaited = self.deadline();
        let wait = self.awaited.map(|at| {
            let left = at.saturating_sub(clock::now());
            left.max(SLEEP_MIN)
        });
        let timer = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let can_start = self.crew.can_start(clock::now());
        tokio::select! {
            biased;
            () = shutdown, if !stopped => Event::Shutdown,
            Some(event) = self.links.1.recv() => Event::Link(event),
            Some(event) = self.workers.recv() => Event::Worker(event),
            Some((epoch, looked)) = self.looked.1.recv() => Event::Looked(epoch, looked),
            Some(line) = self.lines.recv() => Event::Line(line),
            arrival = self.doors.next(), if serving => Event::Arrival(arrival),
            () = tokio::task::yield_now(), if can_start => Event::Start,
            () = timer => Event::Timer,
        }
    }

    fn deadline(&self) -> Option<Time> {
        let stopping = match self.stage {
            Stage::Serving => None,
            Stage::Stopping { deadline, .. } => Some(deadline),
        };
        let now = clock::now();
        let probe = self
            .job
            .as_ref()
            .and_then(|job| job.breakers.poll_timeout(now));
        let ticks = [self.relay.poll_timeout(), self.crew.poll_timeout(), probe];
        let ticks = ticks.into_iter().flatten().min().max(self.rest_until);
        [ticks, stopping].into_iter().flatten().min()
    }

    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Shutdown => self.shut_down(now),
            Event::Arrival(arrival) => self.arrived(now, arrival),
            Event::Link(LinkEvent::Message(conn, message)) => {
                self.relay.server_message(now, conn, message);
            }
            Event::Link(LinkEvent::Closed(conn, reason)) => self.link_closed(now, conn, &reason),
            Event::Link(LinkEvent::Unsendable(reason)) => self.give_up(now, reason),
            Event::Worker(WorkerEvent::Message(conn, message)) => {
                self.worker_said(now, conn, message);
            }
            Event::Worker(WorkerEvent::Exited(exit)) => self.worker_exited(now, &exit),
            Event::Looked(epoch, around) => self.looked_around(now, epoch, *around),
            Event::Line(line) => self.keep_line(line),
            Event::Start => self.crew.start_next(now),
            Event::Timer => {}
        }
        self.tick(now);
    }

    fn arrived(&mut self, now: Time, arrival: Arrival) {
        let (connection, peer) = match arrival {
            Arrival::Connected(connection, peer) => (*connection, peer),
            Arrival::Failed(error) => return self.stop(now, Next::End(Err(error))),
            Arrival::Gone => return self.stop(now, Next::End(Ok(()))),
        };
        if let Some(link) = &self.link {
            let serving = link.peer.clone();
            self.note_call(&peer, &serving);
            let busy = self.busy(serving);
            tokio::spawn(decline(connection, busy));
            return;
        }
        debug!(%peer, "server connected");
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.link = Some(Link::open(conn, peer, connection, self.links.0.clone()));
        self.relay.server_connected(now, conn);
    }

    /// Says so at the first, second, fourth, eighth … call of a job: a server that waits calls again and again.
    fn note_call(&mut self, peer: &str, serving: &str) {
        self.calls += 1;
        let (calls, text) = (
            self.calls,
            "another server called; told it that this client is busy",
        );
        match calls.is_power_of_two() {
            true => info!(%peer, serving, calls, "{text}"),
            false => debug!(%peer, serving, calls, "{text}"),
        }
    }

    fn busy(&self, server: String) -> Up {
        Up::Busy(Busy {
            header: HelloHeader {
                protocol: PROTOCOL_VERSION,
                release: self.config.release.clone(),
            },
            server,
            job: self.relay.uplink().epoch().map(|epoch| epoch.job),
        })
    }

    fn link_closed(&mut self, now: Time, conn: ConnId, reason: &str) {
        if self.link.as_ref().is_some_and(|link| link.conn == conn) {
            debug!(reason, "the connection to the server ended");
            self.link = None;
        }
        self.relay.server_closed(now, conn);
    }

    fn keep_line(&mut self, line: LogLine) {
        if self.job.as_ref().is_some_and(|job| job.forward_logs) {
            self.unsent_lines.push(line);
            if self.unsent_lines.len() >= LINES_MAX {
                self.send_lines();
            }
        }
    }

    fn send_lines(&mut self) {
        let lines = std::mem::take(&mut self.unsent_lines);
        let is_slow = self.link.as_ref().is_none_or(Link::is_slow);
        if !lines.is_empty() && !is_slow {
            self.relay.send(Up::Log(lines));
        }
    }

    /// Looks at the timers, unless the process itself was held up: then everybody may speak first.
    fn tick(&mut self, now: Time) {
        let late = self
            .awaited
            .take()
            .map_or(Time::ZERO, |at| now.saturating_sub(at));
        let dead_after = self.job.as_ref().map(|job| job.spec.timing.dead_after);
        let limit = dead_after.map_or(HELD_UP, |time| HELD_UP.min(time / 2));
        if late >= limit && self.rest_until.is_none() {
            warn!(?late, "this process was held up");
            self.rest_until = Some(now + HELD_UP_REST);
            self.relay.held_up(now);
        }
        if self.rest_until.is_some_and(|until| now < until) {
            return;
        }
        self.rest_until = None;
        let ticks = [self.relay.poll_timeout(), self.crew.poll_timeout()];
        if ticks.into_iter().flatten().any(|due| due <= now) {
            self.relay.tick(now);
            self.crew.tick(now);
            self.look_around(now);
        }
        self.look_at_mounts(now);
    }

    /// Does what the ledger asks for, until it asks for nothing more.
    fn act(&mut self, now: Time) {
        loop {
            while let Some(action) = self.relay.poll_action(now) {
                self.perform(now, action);
            }
            if let Some(job) = &self.job
                && let Err(reason) = self.crew.verdict(job.breakers.left_behind())
            {
                self.give_up(now, reason);
            }
            self.relay.balance(now);
            self.cut_if_due(now);
            let more = !self.is_full(self.put_by.front()) && self.apply_next(now);
            self.send_to_server(now);
            if !more && !self.act_again(now) {
                return;
            }
        }
    }

    /// Balancing and cutting may have asked for more.
    fn act_again(&mut self, now: Time) -> bool {
        match self.relay.poll_action(now) {
            Some(action) => {
                self.perform(now, action);
                true
            }
            None => false,
        }
    }

    /// Whether commits of workers, of which this is the next, have to wait until the server has taken what is there.
    fn is_full(&self, next: Option<&(ConnId, Up)>) -> bool {
        let uplink = self.relay.uplink();
        let has_room = uplink.is_open() && uplink.has_window();
        let next = next.map(|(_, message)| message);
        let job = self.job.as_ref();
        !has_room || job.is_none_or(|job| job.results.is_full(next))
    }

    fn apply_next(&mut self, now: Time) -> bool {
        let Some((conn, message)) = self.put_by.pop_front() else {
            return false;
        };
        self.apply(now, conn, message);
        true
    }

    /// Passes on a commit, or a part of one.
    fn apply(&mut self, now: Time, conn: ConnId, message: Up) {
        if let (Up::Commit(commit) | Up::Part(commit), Some(job)) = (&message, &mut self.job) {
            job.results.note(commit);
        }
        self.relay.worker_message(now, conn, message);
    }

    fn cut_if_due(&mut self, now: Time) {
        let uplink = self.relay.uplink();
        let may = uplink.is_open() && uplink.has_window();
        let Some(job) = &mut self.job else {
            return;
        };
        let next = self.put_by.front().map(|(_, message)| message);
        let due = self.relay.wants_cut(now) || (may && job.results.is_full(next));
        if !due {
            return;
        }
        match job.results.take() {
            Ok(delta) => self.relay.cut(now, delta),
            Err(error) => self.give_up(now, error.to_string()),
        }
    }

    fn send_to_server(&mut self, now: Time) {
        self.send_lines();
        while let Some(message) = self.relay.poll_server() {
            let sent = self.link.as_ref().is_some_and(|link| link.send(message));
            if !sent {
                self.drop_link(now);
            }
        }
    }

    /// Sends past the ledger, whatever state the session is in.
    fn say(&mut self, message: Up) {
        self.has_said_why = true;
        if let Some(link) = &self.link {
            // A link that does not take it is as good as closed.
            let _ = link.send(message);
        }
    }

    fn drop_link(&mut self, now: Time) {
        if let Some(link) = self.link.take() {
            self.relay.server_closed(now, link.conn);
        }
    }

    fn perform(&mut self, now: Time, action: RelayAction) {
        trace!(?action);
        match action {
            RelayAction::Begin(welcome) => self.begin(*welcome),
            RelayAction::End(refusal) => self.session_over(now, refusal),
            RelayAction::DropServer(_) => self.drop_link(now),
            RelayAction::ServerLost => self.server_lost(),
            RelayAction::ServerBack => self.server_back(),
            RelayAction::Kept(segment) => self.rows_kept(now, segment),
            RelayAction::Worker(action) => self.perform_for_worker(now, action),
        }
    }

    fn server_back(&mut self) {
        info!("the connection to the server is back");
        if let Some(job) = &mut self.job {
            job.pieces.send_again();
        }
        self.send_rows();
    }

    fn server_lost(&mut self) {
        warn!("the connection to the server is lost; waiting for it to come back");
        self.link = None;
        self.doors.want(Want::Back);
    }
}

fn new_relay(config: &Config, nonce: u64, resumable: bool) -> Relay {
    let mut relay = Relay::new(RelayConfig {
        uplink: UplinkConfig {
            name: config.name.clone(),
            workers: config.workers,
            nonce,
            release: config.release.clone(),
            resumable,
            uncut: !resumable,
        },
        secrets: rand::random,
    });
    relay.limit_memory(config.memory);
    relay
}

/// Tells a server that this client serves another one.
async fn decline(mut connection: Connection, busy: Up) {
    let Ok(frame) = hydra_proto::codec::encode(&busy) else {
        return;
    };
    // If it cannot be told, it notices the end.
    if connection.send(&frame).await.is_ok() {
        let _ = timeout(Duration::from_secs(1), connection.next()).await;
    }
}
