//! Rows in one file or pipe, without a journal: they gather while a thread of their own writes those before them.
//!
//! ```text
//!   append ─► gathered        at the thread ─► a piece at a time into the file
//!                 ▲                 │
//!                 └── then they go ─┴─ Done::Appended
//! ```
//!
//! Who reads a pipe may stop reading, and a disk may stop answering: nobody but the thread waits for them. Here is told
//! how much waits, and for how long nothing of it was taken; what follows from that is up to the coordinator.

use super::backlog::Backlog;
use super::thread::{AGAIN, Done};
use crate::durable::UNACKNOWLEDGED_BYTES;
use hydra_proto::ledger::Time;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// When more bytes than this wait, the walk pauses, and commits are not acknowledged.
const WAITING_MAX: u64 = 16 << 20;
/// When more than this wait all the same, nothing more is read from clients.
const CROWD: u64 = 256 << 20;
/// When nothing was taken for so long, nobody reads.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes for a file at once.
const FILE_BYTES: usize = 1 << 20;
/// The same for a pipe, whose reader may be slow: that some were taken is seen only when all were.
const PIPE_BYTES: usize = 4 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outflow {
    orders: mpsc::Sender<Vec<u8>>,
    gathered: Vec<u8>,
    is_busy: bool,
    /// Bytes that came.
    came: u64,
    /// Bytes that were written, as the thread counts them.
    written: Arc<AtomicU64>,
    /// The same when it was looked at last.
    seen: u64,
    backlog: Backlog,
    is_file: bool,
}

impl Outflow {
    /// Starts the thread. What is done comes to `done`.
    ///
    /// # Errors
    /// When there is no thread to be had, or the file is none.
    pub(crate) fn start(
        file: File,
        done: tokio::sync::mpsc::UnboundedSender<Done>,
    ) -> io::Result<Self> {
        let is_file = file.metadata()?.is_file();
        let (orders, received) = mpsc::channel();
        let written = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            file,
            is_file,
            is_full: false,
            written: Arc::clone(&written),
            done,
        };
        thread::Builder::new()
            .name("rows".to_owned())
            .spawn(move || writer.run(&received))?;
        Ok(Self {
            orders,
            gathered: Vec::new(),
            is_busy: false,
            came: 0,
            written,
            seen: 0,
            backlog: Backlog::new(WAITING_MAX, PATIENCE),
            is_file,
        })
    }

    /// Rows came inside a commit.
    pub(crate) fn append(&mut self, rows: Vec<u8>) {
        self.came += rows.len() as u64;
        match self.gathered.is_empty() {
            true => self.gathered = rows,
            false => self.gathered.extend_from_slice(&rows),
        }
        self.pass_on();
    }

    /// The thread has written what it was given.
    pub(crate) fn appended(&mut self) {
        self.is_busy = false;
        self.pass_on();
    }

    fn pass_on(&mut self) {
        if !self.is_busy && !self.gathered.is_empty() {
            self.is_busy = true;
            // It fails when the thread has ended, which has said why.
            let _ = self.orders.send(std::mem::take(&mut self.gathered));
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> u64 {
        self.came
            .saturating_sub(self.written.load(Ordering::Acquire))
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting() == 0
    }

    /// Looks whether some were taken. Returns whether the walk is to pause, if that is news.
    pub(crate) fn look(&mut self, now: Time) -> Option<bool> {
        let written = self.written.load(Ordering::Acquire);
        let seen = std::mem::replace(&mut self.seen, written);
        self.backlog.look(now, self.waiting(), seen != written)
    }

    /// This process stood still until now.
    pub(crate) fn held_up(&mut self, now: Time) {
        self.backlog.held_up(now);
    }

    /// Whether the walk is to pause.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog.is_behind()
    }

    /// Whether more waits than comes from so many honest clients: then nothing more may come.
    pub(crate) fn is_crowded(&self, sessions: u64) -> bool {
        self.waiting() > CROWD.max(UNACKNOWLEDGED_BYTES * sessions)
    }

    /// When it will have been waited long enough for somebody to take some, if any wait.
    pub(crate) fn stuck_at(&self) -> Option<Time> {
        self.backlog.stuck_at(self.waiting())
    }

    /// Whether it is a disk that they wait for, and not a reader.
    pub(crate) fn is_file(&self) -> bool {
        self.is_file
    }
}

/// The thread's half.
struct Writer {
    file: File,
    is_file: bool,
    is_full: bool,
    written: Arc<AtomicU64>,
    done: tokio::sync::mpsc::UnboundedSender<Done>,
}

impl Writer {
    fn run(mut self, orders: &mpsc::Receiver<Vec<u8>>) {
        while let Ok(rows) = orders.recv() {
            let written = self.write(&rows);
            let failed = written.is_err();
            self.tell(match written {
                Ok(()) => Done::Appended,
                Err(error) => Done::Unwritable(error),
            });
            if failed {
                return;
            }
        }
    }

    fn tell(&self, done: Done) {
        // The server may have ended meanwhile.
        let _ = self.done.send(done);
    }

    fn write(&mut self, mut rows: &[u8]) -> io::Result<()> {
        let most = if self.is_file { FILE_BYTES } else { PIPE_BYTES };
        while !rows.is_empty() {
            match self.file.write(&rows[..rows.len().min(most)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rows = rows.get(count..).unwrap_or_default();
                    self.written.fetch_add(count as u64, Ordering::AcqRel);
                    if std::mem::take(&mut self.is_full) {
                        self.tell(Done::RoomAgain);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.is_file && is_full(&error) => {
                    if !std::mem::replace(&mut self.is_full, true) {
                        self.tell(Done::Full);
                    }
                    thread::park_timeout(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a failed write may succeed when somebody has made room.
pub(super) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
    full.contains(&error.raw_os_error())
}
