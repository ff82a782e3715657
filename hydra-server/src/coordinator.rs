//! The coordinator: turns what happens outside into events of the ledger, and does what the ledger says.

use crate::config::{Config, LogSink, ProgressSink};
use crate::connection::{self, Event, Origin, Outbox};
use crate::gathering::{Gathering, Readiness};
use crate::journal::{Entry, Journal};
use crate::outcome::{Ending, Outcome, Progress, ServerError, SetAside};
use crate::roots::{RootBook, Trouble};
use crate::tally::Tally;
use hydra_link::address::HostPort;
use hydra_link::{Connection, Timeouts};
use hydra_proto::ids::{ChildId, ConnId, IdRange, ItemId, JobId, RootId};
use hydra_proto::item::{Dirs, Item, NameList, Parcel};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Action, Parent, ParentConfig, Time};
use hydra_proto::message::{Busy, Down, PROTOCOL_VERSION, Up};
use hydra_proto::walk::WalkError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Ids that each session gets: enough for any job, and 2^22 sessions of them.
const CLIENT_IDS: u64 = 1 << 40;
/// How long clients may take to let go of a job that is over.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Clients come and say what they see.
    Gathering,
    /// Work is granted.
    Walking,
    /// Clients let go of the job, until this time at the latest.
    Ending(Time),
    /// All is said.
    Over,
}

struct Conn {
    outbox: Outbox,
    origin: Origin,
    since: Time,
    child: Option<ChildId>,
    /// Its session was opened or resumed, and the child was told.
    greeted: bool,
}

/// What waits until something is durable.
pub(crate) struct HeldBack {
    pub(crate) ticket: u64,
    pub(crate) conn: ConnId,
    /// A message, or the end of the connection.
    pub(crate) message: Option<Down>,
}

pub(crate) struct Coordinator {
    pub(crate) job_id: JobId,
    pub(crate) job: JobSpec,
    pub(crate) parent: Parent,
    pub(crate) tally: Tally,
    pub(crate) book: RootBook,
    /// What makes all this durable; none if this server's death would be the end of the job.
    pub(crate) journal: Option<Journal>,
    pub(crate) held: VecDeque<HeldBack>,
    pub(crate) disk_full: bool,
    /// How often a server has begun with this job, before this one.
    pub(crate) incarnation: u32,
    /// An earlier server has begun to grant.
    pub(crate) began_before: bool,
    /// Sessions of the client inside this server.
    pub(crate) embedded: BTreeSet<ChildId>,
    /// Sessions of clients inside a server that died.
    pub(crate) orphans: Vec<ChildId>,
    /// What the program keeps in the journal for itself.
    pub(crate) note: Vec<u8>,
    pub(crate) release: String,
    gathering: Gathering,
    pub(crate) phase: Phase,
    ending: Option<Ending>,
    hopeless: bool,
    clients: Vec<HostPort>,
    /// Tell the diallers when to dial again; gone when a client is given up, or the job is over.
    wishes: Vec<Option<watch::Sender<u64>>>,
    listens: bool,
    wait: bool,
    timeouts: Timeouts,
    client_timeout: Duration,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    events: mpsc::Sender<Event>,
    began: Time,
    ended: Time,
    /// Since when no client has been there that could go on.
    lonely: Option<Time>,
    progress: Option<ProgressSink>,
    pub(crate) logs: Option<LogSink>,
}

/// The ledger of a job.
pub(crate) fn parent(job: JobId, spec: &JobSpec, forward_logs: bool, release: String) -> Parent {
    Parent::new(ParentConfig {
        job,
        spec: spec.clone(),
        ids: IdRange {
            start: 1,
            end: 1 << 62,
        },
        lease_ids: CLIENT_IDS,
        resumable: true,
        forward_logs,
        release,
        secrets: Box::new(rand::random),
    })
}

impl Coordinator {
    pub(crate) fn new(
        config: Config,
        has_embedded: bool,
        now: Time,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let listens = config.listen.is_some();
        let wanted = if listens { config.min_clients } else { 0 };
        let patience = match wanted {
            // A dialler gives up by itself; what is left then is to say what is seen of the roots.
            0 => config.timeouts.connect + config.timeouts.handshake,
            _ => config.client_timeout,
        };
        let job_id = JobId(rand::random());
        let logs = config.logs.is_some();
        let parent = parent(job_id, &config.job, logs, config.release.clone());
        let wanted = if listens { config.min_clients } else { 0 };
        let expected = config.clients.len() + usize::from(has_embedded);
        let dialled = config.clients.iter();
        let wishes = dialled.map(|_| Some(watch::Sender::new(0))).collect();
        Self {
            book: RootBook::new(config.job.roots.len(), config.job.walk.trust_roots),
            job_id,
            job: config.job,
            parent,
            journal: None,
            held: VecDeque::new(),
            disk_full: false,
            incarnation: 0,
            began_before: false,
            embedded: BTreeSet::new(),
            orphans: Vec::new(),
            note: Vec::new(),
            release: config.release,
            tally: Tally::new(config.reducer, config.rows),
            gathering: Gathering::new(expected, wanted, now + patience),
            phase: Phase::Gathering,
            ending: None,
            hopeless: false,
            clients: config.clients,
            wishes,
            listens,
            wait: config.wait,
            timeouts: config.timeouts,
            client_timeout: config.client_timeout,
            conns: BTreeMap::new(),
            next_conn: 0,
            events,
            began: now,
            ended: now,
            lonely: None,
            progress: config.progress,
            logs: config.logs,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The addresses to dial, and what tells when to dial them again.
    pub(crate) fn diallers(&self) -> Vec<(HostPort, watch::Receiver<u64>)> {
        let receivers = self.wishes.iter().flatten().map(watch::Sender::subscribe);
        self.clients.iter().cloned().zip(receivers).collect()
    }

    /// When [`Coordinator::tick`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let own = match self.phase {
            Phase::Gathering => Some(self.gathering.deadline),
            Phase::Walking => self.lonely.map(|since| since + self.client_timeout),
            // What is late then is the disk, which answers by itself.
            Phase::Ending(_) if self.ending == Some(Ending::Done) && !self.is_settled() => None,
            Phase::Ending(deadline) => Some(deadline),
            Phase::Over => None,
        };
        let greeting = self
            .mute()
            .map(|(_, since)| since + self.job.timing.dead_after);
        let disk = self.journal.as_ref().and_then(Journal::poll_timeout);
        let ledger = self.parent.poll_timeout();
        let others = [greeting, disk, ledger].into_iter().flatten();
        own.into_iter().chain(others).min()
    }

    /// Something has happened.
    ///
    /// # Errors
    /// When the job cannot go on.
    pub(crate) fn handle(&mut self, now: Time, event: Event) -> Result<(), ServerError> {
        match event {
            Event::Connected(origin, connection) => self.connected(now, origin, connection),
            Event::Unreachable {
                client,
                reason,
                last,
            } => self.unreachable(client, reason, last),
            Event::Message(conn, message) => self.message(now, conn, *message),
            Event::Closed(conn, reason) => self.closed(now, conn, reason),
        }
        self.proceed(now)
    }

    /// Looks at the timers.
    ///
    /// # Errors
    /// As [`Coordinator::handle`].
    pub(crate) fn tick(&mut self, now: Time) -> Result<(), ServerError> {
        self.parent.tick(now);
        while let Some((conn, since)) = self.mute()
            && now >= since + self.job.timing.dead_after
        {
            self.closed(now, conn, Some("it does not say who it is".to_owned()));
        }
        self.proceed(now)
    }

    /// The connection that has said nothing for the longest time: no session watches over its silence.
    fn mute(&self) -> Option<(ConnId, Time)> {
        let mute = self.conns.iter().filter(|(_, state)| state.child.is_none());
        mute.map(|(&conn, state)| (conn, state.since))
            .min_by_key(|&(_, since)| since)
    }

    /// The user wants the job to stop.
    ///
    /// # Errors
    /// As [`Coordinator::handle`].
    pub(crate) fn interrupt(&mut self, now: Time) -> Result<(), ServerError> {
        self.end(now, Ending::Interrupted);
        self.proceed(now)
    }

    /// Tells how far the job is.
    pub(crate) fn tell(&mut self, now: Time) {
        let Some(tell) = &mut self.progress else {
            return;
        };
        let mut progress = Progress {
            entries: self.tally.walk.entries,
            frontier: self.parent.counts().pool,
            elapsed: now.saturating_sub(self.began),
            ..Progress::default()
        };
        for child in self.parent.children() {
            progress.frontier = progress.frontier.saturating_add(child.load.held);
            progress.busy = progress.busy.saturating_add(child.load.busy);
            progress.workers = progress.workers.saturating_add(child.workers);
            progress.clients += usize::from(child.connected);
        }
        tell(&progress);
    }

    fn connected(&mut self, now: Time, origin: Origin, connection: Connection) {
        if !matches!(self.phase, Phase::Gathering | Phase::Walking) {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let outbox = connection::start(conn, connection, self.events.clone());
        self.conns.insert(
            conn,
            Conn {
                outbox,
                origin,
                since: now,
                child: None,
                greeted: false,
            },
        );
    }

    fn unreachable(&mut self, client: usize, reason: String, last: bool) {
        tracing::debug!(client = self.client_name(client), %reason, last, "not reached");
        match last {
            true => self.give_up(client, reason),
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

    fn client_name(&self, client: usize) -> String {
        self.clients
            .get(client)
            .map_or("local".to_owned(), ToString::to_string)
    }

    fn message(&mut self, now: Time, conn: ConnId, message: Up) {
        tracing::trace!(?conn, ?message);
        let Some(origin) = self.conns.get(&conn).map(|state| state.origin) else {
            return;
        };
        match &message {
            Up::Busy(busy) => {
                let busy = busy.clone();
                return self.turned_away(conn, &busy);
            }
            // One that dials knows no other server than this, and begins anew when it is refused.
            Up::Resume(resume)
                if resume.epoch.job != self.job_id && matches!(origin, Origin::Dialled(_)) =>
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
                self.warn(conn, &reason);
                if let Origin::Dialled(client) = origin {
                    self.give_up(client, reason);
                }
            }
            Up::Leave(reason) => {
                if let Some(client) = self.expected(origin) {
                    self.gathering.failed(client, reason.clone());
                }
            }
            _ => {}
        }
        self.parent.handle(now, conn, message);
    }

    /// A client does not want this connection: it is busy, with another server or still with this one, or keeps
    /// its work for a server that may come back.
    fn turned_away(&mut self, conn: ConnId, busy: &Busy) {
        let reason = format!("it is busy: it serves {}", busy.server.escape_debug());
        let Some(state) = self.conns.remove(&conn) else {
            return;
        };
        let Origin::Dialled(client) = state.origin else {
            return;
        };
        match self.wait || busy.job == Some(self.job_id) {
            true => {
                tracing::info!(client = self.client_name(client), %reason, "waiting for it");
                self.gathering.wait_for_ever();
                self.dial_again(client);
            }
            false => {
                self.give_up(client, format!("{reason}; --wait waits for it"));
            }
        }
    }

    fn warn(&self, conn: ConnId, reason: &str) {
        let origin = self.conns.get(&conn).map(|state| state.origin);
        let name = match origin {
            Some(Origin::Dialled(client)) => self.client_name(client),
            _ => "a client".to_owned(),
        };
        tracing::warn!("{name}: {reason}");
    }

    fn closed(&mut self, now: Time, conn: ConnId, reason: Option<String>) {
        let state = self.conns.remove(&conn);
        self.parent.closed(now, conn);
        let Some(state) = state else {
            return;
        };
        let why = reason
            .clone()
            .unwrap_or_else(|| "it closed the connection".to_owned());
        match state.origin {
            Origin::Dialled(client) => {
                self.gathering.put_off(client, why);
                self.dial_again(client);
            }
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

    /// Does what the ledger says, and sees whether the job has come further.
    pub(crate) fn proceed(&mut self, now: Time) -> Result<(), ServerError> {
        while let Some(action) = self.parent.poll_action() {
            self.act(now, action)?;
        }
        match self.phase {
            Phase::Gathering => self.gather(now)?,
            Phase::Walking => self.watch(now),
            Phase::Ending(deadline) if self.is_over(now, deadline) => self.phase = Phase::Over,
            Phase::Ending(_) | Phase::Over => {}
        }
        while let Some(action) = self.parent.poll_action() {
            self.act(now, action)?;
        }
        Ok(())
    }

    fn act(&mut self, now: Time, action: Action) -> Result<(), ServerError> {
        tracing::trace!(?action);
        match action {
            Action::Record(record) => return self.note_record(*record),
            Action::Send { conn, message } => self.send(now, conn, Some(message)),
            Action::Close { conn } => self.send(now, conn, None),
            Action::Joined {
                child,
                conn,
                name,
                workers,
            } => return self.joined(child, conn, &name, workers),
            Action::Back { child, conn } => self.back(child, conn),
            Action::Sees { child, roots } => return self.sees(child, roots),
            Action::Applied {
                child, mut result, ..
            } => {
                self.hold_rows(&mut result);
                return self.tally.add(child, result.map(|delta| *delta));
            }
            Action::Lost { child, reason } => self.lost(child, &reason),
            Action::Log { child, lines } => self.log(child, &lines),
        }
        Ok(())
    }

    /// Sends a message, or ends a connection, as soon as what it follows from is durable.
    fn send(&mut self, now: Time, conn: ConnId, message: Option<Down>) {
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

    fn joined(
        &mut self,
        child: ChildId,
        conn: ConnId,
        name: &str,
        workers: u32,
    ) -> Result<(), ServerError> {
        let origin = self.conns.get(&conn).map(|state| state.origin);
        let name = match origin {
            Some(Origin::Dialled(client)) => self.client_name(client),
            Some(Origin::Embedded) => "local".to_owned(),
            Some(Origin::Accepted) | None => name.to_owned(),
        };
        tracing::debug!(client = name, workers, "joined");
        self.tally.joined(child, &name, workers);
        if let Some(state) = self.conns.get_mut(&conn) {
            state.child = Some(child);
        }
        let embedded = origin == Some(Origin::Embedded);
        if embedded {
            self.embedded.insert(child);
        }
        self.note(&Entry::Client {
            child,
            name,
            workers,
            embedded,
        })
    }

    fn back(&mut self, child: ChildId, conn: ConnId) {
        tracing::info!(client = self.tally.name(child), "its connection is back");
        if let Some(state) = self.conns.get_mut(&conn) {
            state.child = Some(child);
        }
    }

    fn sees(
        &mut self,
        child: ChildId,
        roots: Vec<hydra_proto::message::RootView>,
    ) -> Result<(), ServerError> {
        self.book.sees(child, roots);
        let mut conns = self.conns.values();
        if let Some(state) = conns.find(|state| state.child == Some(child)) {
            match self.expected(state.origin) {
                Some(client) => self.gathering.arrived(client),
                None => self.gathering.came(child),
            }
        }
        if self.phase == Phase::Walking {
            self.open_roots();
            self.serve(child);
        }
        self.note_roots()
    }

    fn lost(&mut self, child: ChildId, reason: &str) {
        self.book.lost(child);
        self.gathering.left(child);
        if matches!(self.phase, Phase::Gathering | Phase::Walking) {
            let client = self.tally.name(child);
            tracing::warn!("client {client} is given up: {reason}; its work goes to others");
        }
    }

    fn log(&mut self, child: ChildId, lines: &[hydra_proto::message::LogLine]) {
        if let Some(sink) = &mut self.logs {
            let name = self.tally.name(child);
            lines.iter().for_each(|line| sink(name, line));
        }
    }

    fn gather(&mut self, now: Time) -> Result<(), ServerError> {
        match self.gathering.readiness(now) {
            // The others may come later: what was granted before goes on without them.
            Readiness::Wait if self.began_before && self.gathering.has_somebody() => {
                return self.begin(now);
            }
            Readiness::Wait => {}
            Readiness::Begin => return self.begin(now),
            Readiness::Hopeless => {
                self.hopeless = true;
                self.end(now, Ending::Incomplete("no client can be used".to_owned()));
            }
        }
        Ok(())
    }

    fn begin(&mut self, now: Time) -> Result<(), ServerError> {
        let missing = match self.began_before {
            true => Vec::new(),
            false => self.gathering.missing(),
        };
        for (client, reason) in missing {
            tracing::warn!(
                "going on without client {}: {reason}",
                self.client_name(client)
            );
        }
        self.phase = Phase::Walking;
        self.began = now;
        self.note(&Entry::Began)?;
        self.open_roots();
        self.note_roots()?;
        let children: Vec<ChildId> = self.parent.children().map(|view| view.child).collect();
        for child in children {
            if self.book.has(child) {
                self.serve(child);
            }
        }
        self.watch(now);
        Ok(())
    }

    /// Puts roots into the pool that can be walked now.
    fn open_roots(&mut self) {
        for root in self.book.settle() {
            let Some(ids) = self.parent.take_ids(1) else {
                continue;
            };
            let first = ItemId(ids.start);
            let names = NameList::from_iter([b"".as_slice()]);
            let dir = Vec::new();
            let item = Parcel::Dirs(Dirs {
                first,
                root,
                dir,
                names,
            });
            self.parent.add(vec![item], false);
        }
    }

    fn serve(&mut self, child: ChildId) {
        let (serves, warnings) = self.book.serves(child);
        for (root, reason) in warnings {
            let client = self.tally.name(child);
            let root = self.shown(root).escape_ascii().to_string();
            tracing::warn!("client {client} is not granted root {root}: {reason}");
        }
        self.parent.serve(child, serves);
    }

    fn shown(&self, root: RootId) -> Vec<u8> {
        self.job
            .root(root)
            .map(|root| root.shown.clone())
            .unwrap_or_default()
    }

    /// Is the job over, or can nobody go on with it?
    fn watch(&mut self, now: Time) {
        if self.parent.is_done() {
            return self.end(now, Ending::Done);
        }
        let alone = !self.parent.children().any(|child| child.connected);
        let stuck = self.parent.is_stuck();
        if !alone && !stuck {
            self.lonely = None;
            return;
        }
        let since = *self.lonely.get_or_insert(now);
        let patience = match self.may_come() {
            true => self.client_timeout,
            false => Duration::ZERO,
        };
        if now < since + patience {
            return;
        }
        match alone {
            true => self.end(now, Ending::Incomplete("no client is left".to_owned())),
            false => {
                self.parent
                    .set_aside_unserved(&|_| "no client serves this root".to_owned());
                self.lonely = None;
                self.watch(now);
            }
        }
    }

    /// Whether some client that is connected has not said yet what it sees of the roots.
    fn is_looking(&self) -> bool {
        let mut children = self.parent.children();
        children.any(|view| view.connected && !self.book.has(view.child))
    }

    /// Whether a client that is not here, or has not said what it sees, may still make a difference.
    fn may_come(&self) -> bool {
        let is_here = |state: &&Conn| {
            let ready = state.child.is_some_and(|child| self.book.has(child));
            ready && matches!(state.origin, Origin::Dialled(_))
        };
        let here = self.conns.values().filter(is_here).count();
        self.listens || self.is_looking() || self.wishes.iter().flatten().count() > here
    }

    pub(crate) fn end(&mut self, now: Time, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        self.ended = now;
        if matches!(ending, Ending::Incomplete(_)) {
            // Not for ever: whoever goes on with the journal finds it as it was.
            self.parent.keep_records(false);
            // Named, so that the user knows what is missing.
            self.parent
                .abandon(now, &|_| "no client was left to walk it".to_owned());
        }
        self.ending = Some(ending);
        self.wishes.clear();
        self.parent.stop();
        self.phase = match self.conns.is_empty() && self.is_settled() {
            true => Phase::Over,
            false => Phase::Ending(now + LETTING_GO),
        };
    }

    /// Whether everybody has let go, and everything is durable. A full disk holds up the end, unless the job goes
    /// on another time.
    fn is_over(&self, now: Time, deadline: Time) -> bool {
        let late = now >= deadline;
        match self.ending {
            Some(Ending::Done) => (self.conns.is_empty() || late) && self.is_settled(),
            _ => (self.conns.is_empty() && self.is_settled()) || late,
        }
    }

    /// What came out of it.
    ///
    /// # Errors
    /// When nobody could walk anything, or the last rows could not be written.
    pub(crate) fn finish(mut self) -> Result<Outcome, ServerError> {
        if self.hopeless {
            let missing = self.gathering.missing().into_iter();
            let reasons =
                missing.map(|(client, why)| format!("{}: {why}", self.client_name(client)));
            return Err(ServerError::NoClient(reasons.collect()));
        }
        self.tally.finish()?;
        let mut set_aside: Vec<SetAside> = self
            .parent
            .aside()
            .values()
            .map(|aside| self.set_aside(&aside.item, &aside.reason))
            .collect();
        for (root, trouble) in self.book.unwalked() {
            let path = self.shown(root);
            match trouble {
                Some(Trouble::Missing { kind, message }) => self.tally.walk.fail(WalkError {
                    path,
                    operation: "open".to_owned(),
                    kind,
                    message,
                }),
                Some(Trouble::Refused(reason)) => set_aside.push(SetAside { path, reason }),
                None => {}
            }
        }
        set_aside.sort();
        Ok(Outcome {
            ending: self.ending.unwrap_or(Ending::Done),
            roots_walked: self.book.walked(),
            clients: self.tally.runs(),
            walk: self.tally.walk,
            reducer: self.tally.reducer,
            set_aside,
            elapsed: self.ended.saturating_sub(self.began),
            warnings: Vec::new(),
        })
    }

    fn set_aside(&self, item: &Item, reason: &str) -> SetAside {
        let root = self.job.root(item.root());
        SetAside {
            path: root.map(|root| root.show(&item.path())).unwrap_or_default(),
            reason: reason.to_owned(),
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

#[cfg(test)]
mod tests;
