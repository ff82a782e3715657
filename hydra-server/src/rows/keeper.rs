//! The coordinator's side of the directory for rows: what waits to be told to readers, and what waits for the disk.

use super::backlog::Backlog;
use super::manifest::Manifest;
use super::thread::{self, Done, End, Order, Piece};
use super::{RowsError, STREAMED, Store};
use hydra_proto::ids::{ConnId, Epoch, JobId};
use hydra_proto::ledger::Time;
use hydra_proto::message::Rows;
use hydra_proto::segment::{PIECE_BYTES, SegmentId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How much may wait to be written before nothing more is read from clients: pieces, and commits with rows in them. One
/// that is large counts as several.
const ORDERS_MAX: u64 = 256;
/// The same for each session, where that is more: the pieces that an honest client has on their way, a window of commits,
/// and what these hold beyond a piece each.
const ORDERS_EACH: u64 = 8 + 16 + 24;
/// When more than so much waits, the walk pauses.
const ORDERS_MANY: u64 = 64;
/// What counts as one: a piece.
const ORDER_BYTES: usize = PIECE_BYTES;
/// When nothing is done for so long, the disk does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says what must be durable before readers may be told.
pub(crate) type Ticket = u64;

/// How much of each segment counts.
pub(crate) type Counts = BTreeMap<SegmentId, u64>;

/// Notes that so much of a segment counts.
pub(crate) fn count(counts: &mut Counts, id: SegmentId, bytes: u64) {
    let counted = counts.entry(id).or_default();
    *counted = bytes.max(*counted);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    orders: mpsc::Sender<Order>,
    stop: Arc<AtomicBool>,
    /// Bytes of rows that came inside commits.
    streamed: u64,
    /// What was committed, and is perhaps not durable: the last word on each segment in one batch of the journal.
    waiting: BTreeMap<(Ticket, String), u64>,
    /// What is durable, and not in the manifest.
    news: BTreeMap<String, u64>,
    publishing: bool,
    /// The job is over, and what is to be done then is not done yet.
    ending: bool,
    /// What waits to be written, in the order in which it is done, and as how many each counts.
    open: VecDeque<u64>,
    /// Their sum.
    orders_open: u64,
    backlog: Backlog,
    /// Something was done since the last look.
    has_moved: bool,
}

impl Keeper {
    /// Begins the manifest of this job, of which so much counts already. What is done comes to `done`.
    pub(crate) fn start(
        store: Store,
        job: JobId,
        sync: bool,
        counts: &Counts,
        streamed: u64,
        done: tokio::sync::mpsc::UnboundedSender<Done>,
    ) -> Result<Self, RowsError> {
        let manifest = Manifest::begin(&store, job, named(counts, streamed))?;
        let (orders, received) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        thread::start(store, job, sync, manifest, received, done, theirs)?;
        Ok(Self {
            orders,
            stop,
            streamed,
            waiting: BTreeMap::new(),
            news: BTreeMap::new(),
            publishing: false,
            ending: false,
            open: VecDeque::new(),
            orders_open: 0,
            backlog: Backlog::new(ORDERS_MANY, PATIENCE),
            has_moved: false,
        })
    }

    /// A session has sent a piece of a segment.
    pub(crate) fn piece(&mut self, conn: ConnId, session: Epoch, rows: Rows) {
        self.opened(rows.bytes.len());
        let id = SegmentId {
            session: session.number,
            worker: rows.worker,
            number: rows.number,
        };
        let (at, bytes) = (rows.at, rows.bytes);
        self.order(Order::Piece(Piece {
            conn,
            id,
            at,
            bytes,
        }));
    }

    fn order(&self, order: Order) {
        // It fails when the thread has ended, which has said why.
        let _ = self.orders.send(order);
    }

    /// Rows came inside a commit, and there is no journal to write them behind.
    pub(crate) fn append(&mut self, rows: Vec<u8>) {
        self.opened(rows.len());
        self.order(Order::Append(rows));
    }

    fn opened(&mut self, bytes: usize) {
        let orders = bytes.div_ceil(ORDER_BYTES).max(1) as u64;
        self.open.push_back(orders);
        self.orders_open += orders;
    }

    /// Whether more waits than comes from so many honest clients: then nothing more may come.
    pub(crate) fn is_crowded(&self, sessions: u64) -> bool {
        self.orders_open > ORDERS_MAX.max(ORDERS_EACH * sessions)
    }

    /// Looks whether something was done. Returns whether the walk is to pause, if that is news.
    pub(crate) fn look(&mut self, now: Time) -> Option<bool> {
        let moved = std::mem::take(&mut self.has_moved);
        self.backlog.look(now, self.waiting(), moved)
    }

    fn waiting(&self) -> u64 {
        self.orders_open + u64::from(self.publishing) + u64::from(self.ending)
    }

    /// This process stood still until now.
    pub(crate) fn held_up(&mut self, now: Time) {
        self.backlog.held_up(now);
    }

    /// Whether the walk is to pause.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog.is_behind()
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting() == 0
    }

    /// When the disk will have had long enough for what it is given, if it is given anything.
    pub(crate) fn stuck_at(&self) -> Option<Time> {
        self.backlog.stuck_at(self.waiting())
    }

    /// A commit has named so much of a segment.
    pub(crate) fn named(&mut self, ticket: Ticket, id: SegmentId, bytes: u64) {
        let said = self.waiting.entry((ticket, id.file_name()));
        let said = said.or_default();
        *said = bytes.max(*said);
    }

    /// A commit had so many bytes of rows in it.
    pub(crate) fn came(&mut self, ticket: Ticket, bytes: usize) {
        self.streamed += bytes as u64;
        let name = STREAMED.to_owned();
        self.waiting.insert((ticket, name), self.streamed);
    }

    /// Tells readers what has become durable.
    pub(crate) fn publish(&mut self, is_durable: impl Fn(Ticket) -> bool) {
        while let Some(entry) = self.waiting.first_entry()
            && is_durable(entry.key().0)
        {
            let ((_, name), bytes) = entry.remove_entry();
            let said = self.news.entry(name).or_default();
            *said = bytes.max(*said);
        }
        if !self.publishing && !self.ending && !self.news.is_empty() {
            self.publishing = true;
            let news = std::mem::take(&mut self.news).into_iter();
            self.order(Order::Publish(news.collect()));
        }
    }

    /// Something was done.
    pub(crate) fn done(&mut self, done: &Done) {
        self.has_moved = true;
        match done {
            Done::Kept(..) | Done::Appended => {
                let orders = self.open.pop_front().unwrap_or(0);
                self.orders_open = self.orders_open.saturating_sub(orders);
            }
            Done::Published => self.publishing = false,
            Done::Ended { .. } => self.ending = false,
            Done::Full | Done::RoomAgain | Done::Failed(_) | Done::Unwritable(_) => {}
        }
    }

    /// The job is over: says for good what counts, and removes everything else if nobody will go on with it. It comes to
    /// the others when that is done.
    pub(crate) fn end(&mut self, counts: &Counts, complete: bool, for_good: bool) {
        self.ending = true;
        self.order(Order::End(End {
            counts: named(counts, self.streamed),
            complete,
            for_good,
        }));
    }

    /// Whether [`Keeper::end`] is under way.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// The job was stopped: nothing is tried again for which there is no room.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn named(counts: &Counts, streamed: u64) -> BTreeMap<String, u64> {
    let segments = counts.iter().map(|(id, bytes)| (id.file_name(), *bytes));
    let mut named: BTreeMap<String, u64> = segments.collect();
    if streamed > 0 {
        named.insert(STREAMED.to_owned(), streamed);
    }
    named
}
