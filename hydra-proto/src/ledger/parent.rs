//! A parent's ledger: server over clients, client over workers.

use super::balance::Balance;
use super::memory::Memory;
use super::record::Record;
use super::session::{Link, Session};
use super::store::{Shelf, StoreError};
use super::suspects::Suspects;
use super::table::{Aside, Counts, Table};
use super::{ProtocolError, Time};
use crate::ids::{ChildId, ConnId, Epoch, IdRange, JobId};
use crate::item::{Item, Parcel};
use crate::job::JobSpec;
use crate::message::{Delta, Down, Load, LogLine, RootView, Rows, Up};
use crate::segment::{PIECE_BYTES, SEGMENT_BYTES_MAX};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make this durable before anything that follows is sent. Only from a parent that keeps records.
    Record(Box<Record>),
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
        /// The child's session.
        epoch: Epoch,
        /// What was found.
        result: Option<Box<Delta>>,
        /// Items that are finished and that this parent's own parent knows.
        done: Vec<IdRange>,
        /// Items that are new.
        new: Vec<IdRange>,
    },
    /// A session was given up; its work is granted again.
    Lost {
        /// Its child.
        child: ChildId,
        /// Why.
        reason: String,
    },
    /// A piece of a segment: keep it, and answer with [`Down::Kept`].
    Rows {
        /// Where the answer goes.
        conn: ConnId,
        /// The child's session.
        epoch: Epoch,
        /// The piece.
        rows: Rows,
    },
    /// Something that the user should know.
    Warning {
        /// Who says so.
        child: ChildId,
        /// In words.
        text: String,
    },
    /// Lines of workers' logs.
    Log {
        /// Whose.
        child: ChildId,
        /// The lines.
        lines: Vec<LogLine>,
    },
    /// The store has not taken what there is too much of: it stays in memory.
    KeptInMemory(StoreError),
    /// What was put away cannot be read. It stays in the pool, and is tried again when somebody is hungry.
    NotReadBack(StoreError),
}

/// Which child got no answer where an item lies, if that keeps it from being granted, and what that child says.
pub type NoAnswer<'a> = Option<(ChildId, &'a str)>;

/// A state of the pool and of who may be granted what of it: as long as it is the same, so is what can be granted.
pub(super) type Version = (u64, u64);

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
    /// The children that have walls.
    pub(super) walled: BTreeSet<ChildId>,
    pub(super) suspects: Suspects,
    pub(super) balance: Balance,
    pub(super) memory: Memory,
    pub(super) shelf: Shelf,
    pub(super) actions: VecDeque<Action>,
    pub(super) next_shed: u64,
    /// No timer of a session runs out before this. May be earlier than the first that does.
    pub(super) deadline: Option<Time>,
    /// The time of the last event.
    pub(super) now: Time,
    /// Ids for when those of the configuration are used up.
    spare_ids: VecDeque<IdRange>,
    /// How often it has changed who may be granted what.
    pub(super) turns: u64,
    /// Whether nothing could be granted to anybody, when it was seen last.
    pub(super) stuck: Option<(Version, bool)>,
    pub(super) next_child: u32,
    pub(super) next_epoch: u64,
    /// How long children may act, as far as this parent itself may.
    pub(super) lease_until: Option<Time>,
    pub(super) stopped: bool,
    pub(super) paused: bool,
    pub(super) keeps_records: bool,
    /// This parent's own parent has asked for work.
    pub(super) reserved: bool,
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
            walled: BTreeSet::new(),
            suspects: Suspects::default(),
            balance: Balance::default(),
            memory: Memory::default(),
            shelf: Shelf::default(),
            actions: VecDeque::new(),
            next_shed: 1,
            deadline: None,
            now: Time::ZERO,
            spare_ids: VecDeque::new(),
            turns: 0,
            stuck: None,
            next_child: 0,
            next_epoch: 1,
            lease_until: None,
            stopped: false,
            paused: false,
            keeps_records: false,
            reserved: false,
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

    /// The items that cannot be finished, as far as they can be read: those that are in memory, and then the others,
    /// piece by piece. How many there are is among [`Parent::counts`].
    pub fn aside(&self) -> impl Iterator<Item = Aside> {
        self.table.aside().chain(self.aside_away())
    }

    /// All items that are open or set aside, in no particular order.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.table.items().chain(self.items_away())
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

    /// Lets this parent use more ids.
    pub(super) fn add_ids(&mut self, ids: IdRange) {
        if !ids.is_empty() {
            self.spare_ids.push_back(ids);
        }
    }

    /// How many ids there are to hand down.
    pub(super) fn ids_left(&self) -> u64 {
        let spare = self.spare_ids.iter().map(IdRange::len);
        spare.fold(self.config.ids.len(), u64::saturating_add)
    }

    /// Ids for one child.
    pub(super) fn take_lease(&mut self) -> Option<IdRange> {
        loop {
            if let Some(ids) = self.config.ids.take(self.config.lease_ids) {
                return Some(ids);
            }
            self.config.ids = self.spare_ids.pop_front()?;
        }
    }

    /// Adds items from outside. `recorded` says whether this parent's own parent knows them.
    pub fn add(&mut self, items: Vec<Parcel>, recorded: bool) {
        if self.keeps_records {
            let items = items.clone();
            self.record(|| Record::Added { items, recorded });
        }
        for parcel in items {
            self.table.add(parcel, recorded);
        }
        self.rebalance();
    }

    /// Limits how long children may act: what this parent's own parent has allowed.
    pub fn limit_lease(&mut self, until: Time) {
        self.lease_until = Some(until);
    }

    /// Says which roots a child may be granted.
    pub fn serve(&mut self, child: ChildId, roots: Vec<bool>) {
        if let Some(session) = self.sessions.get_mut(&child) {
            session.serves = Some(roots);
            self.turns += 1;
        }
        self.index(child);
        self.rebalance();
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

    /// Asks all children to stop taking new directories, or to go on. Those that come later are asked too.
    pub fn pause(&mut self, pause: bool) {
        self.paused = pause;
        for conn in self.conns.keys().copied() {
            self.actions.push_back(Action::Send {
                conn,
                message: Down::Pause(pause),
            });
        }
    }

    /// A child's message has come.
    pub fn handle(&mut self, now: Time, conn: ConnId, message: Up) {
        self.now = now;
        let bound = self.conns.get(&conn).copied();
        if let Some(session) = bound.and_then(|child| self.sessions.get_mut(&child)) {
            session.heard(now);
        }
        match bound {
            None => self.stranger(now, conn, message),
            Some(child) => {
                if let Err(error) = self.child_says(now, child, message) {
                    self.end(now, child, &error);
                }
            }
        }
        self.rebalance();
    }

    /// A message on a connection that has no session, or none any more.
    fn stranger(&mut self, now: Time, conn: ConnId, message: Up) {
        match message {
            Up::Hello(hello) => self.hello(now, conn, &hello),
            Up::Resume(resume) => self.resume(now, conn, &resume),
            Up::Beat(beat) => self.stray(conn, beat.epoch),
            Up::Commit(commit) | Up::Part(commit) => self.stray(conn, commit.epoch),
            Up::Ready(_)
            | Up::Log(_)
            | Up::Leave(_)
            | Up::Busy(_)
            | Up::Walls(_)
            | Up::Warning(_)
            | Up::Rows(_) => self.hang_up(conn),
        }
    }

    fn child_says(&mut self, now: Time, child: ChildId, message: Up) -> Result<(), ProtocolError> {
        match message {
            Up::Hello(_) | Up::Resume(_) => {
                let what = "a second Hello on one connection";
                return Err(ProtocolError::Unexpected(what));
            }
            Up::Busy(_) => return Err(ProtocolError::Unexpected("a busy child has no session")),
            Up::Ready(ready) => return self.ready(child, ready),
            Up::Commit(commit) => return self.commit(child, *commit),
            Up::Part(part) => return self.part(child, *part),
            Up::Beat(beat) => return self.beat(now, child, &beat),
            Up::Log(lines) => self.actions.push_back(Action::Log { child, lines }),
            Up::Leave(reason) => self.fence(now, child, &reason),
            Up::Walls(walls) => return self.wall(child, walls),
            Up::Warning(text) => self.actions.push_back(Action::Warning { child, text }),
            Up::Rows(rows) => return self.rows(child, rows),
        }
        Ok(())
    }

    /// A piece of a segment moves no work: it is handed to the shell.
    fn rows(&mut self, child: ChildId, rows: Rows) -> Result<(), ProtocolError> {
        let end = rows.at.saturating_add(rows.bytes.len() as u64);
        if rows.bytes.len() > PIECE_BYTES || end > SEGMENT_BYTES_MAX {
            return Err(ProtocolError::Unexpected("rows beyond the limit"));
        }
        if let Some(session) = self.sessions.get(&child)
            && let Some(conn) = session.conn()
        {
            let epoch = session.epoch;
            self.actions.push_back(Action::Rows { conn, epoch, rows });
        }
        Ok(())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }
}
