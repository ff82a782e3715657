//! The journal of a server at work: entries gather while the disk is busy with those before them.
//!
//! ```text
//!   append ─► batch 7 (open)      batch 6 (at the disk)      batches 1..5 (durable)
//!                                        │
//!                          done ◄────────┘ then batch 7 goes
//! ```

use super::JournalError;
use super::disk::{Batch, Disk, is_full};
use super::entry::{Entry, Payload};
use crate::durable::UNACKNOWLEDGED_BYTES;
use hydra_proto::codec;
use hydra_proto::ledger::Time;
use std::fs::File;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// A log shorter than this is not compacted.
const LOG_MIN: u64 = 8 << 20;
/// When this much waits for the disk, nothing more is read from clients until it is there.
const WAITING_MAX: u64 = 256 << 20;
/// How often a full disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// When a write takes longer than this, the disk does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A number that says what must be durable before something may be sent.
pub(crate) type Ticket = u64;

/// What came of a batch; comes back from the thread that wrote it.
#[derive(Debug)]
pub(crate) struct Report {
    disk: Disk,
    batch: Batch,
    pub(super) written: Result<(), JournalError>,
    pub(super) compacted: Option<Result<(), JournalError>>,
}

/// What a report means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// More is durable than before.
    Durable,
    /// The disk has no room.
    Full,
    /// The disk has room again, and more is durable than before.
    RoomAgain,
}

/// The journal of one server.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Away while a batch is being written.
    disk: Option<Disk>,
    /// What gathers.
    open: Batch,
    /// Since when a batch is being written.
    since: Option<Time>,
    /// A batch for which there was no room, and when to try again.
    stuck: Option<(Batch, Time)>,
    was_full: bool,
    /// The number of the open batch.
    number: Ticket,
    durable: Ticket,
    snapshot_bytes: u64,
    log_bytes: u64,
    rows: u64,
    /// Where a batch goes, with the disk.
    writer: std::sync::mpsc::Sender<(Disk, Batch)>,
    /// Keeps the directory locked.
    _lock: File,
}

impl Journal {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn new(
        disk: Disk,
        lock: File,
        rows: u64,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, JournalError> {
        let (writer, batches) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name("journal".to_owned());
        let spawned = thread.spawn(move || write_all(&batches, &reports));
        spawned.map_err(|error| JournalError::io("begin to write to", disk.dir(), error))?;
        Ok(Self {
            snapshot_bytes: disk.len(),
            log_bytes: 0,
            disk: Some(disk),
            open: Batch::default(),
            since: None,
            stuck: None,
            was_full: false,
            number: 1,
            durable: 0,
            rows,
            writer,
            _lock: lock,
        })
    }

    /// Adds an entry.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        Ok(codec::store(entry, &mut self.open.entries)?)
    }

    /// Adds rows of a commit that was appended.
    pub(crate) fn add_rows(&mut self, rows: &[u8]) {
        self.open.rows.extend_from_slice(rows);
        self.rows += rows.len() as u64;
    }

    /// Bytes of rows, those that are on their way to the disk included.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// What must be durable before something may be sent that follows from what was appended so far.
    pub(crate) fn ticket(&self) -> Ticket {
        match self.open.entries.is_empty() {
            true => self.number - 1,
            false => self.number,
        }
    }

    /// Whether this is durable.
    pub(crate) fn has(&self, ticket: Ticket) -> bool {
        ticket <= self.durable
    }

    /// Whether everything is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.has(self.ticket()) && self.disk.is_some() && self.stuck.is_none()
    }

    /// Whether more waits for the disk than comes from so many honest clients: then nothing more may come.
    pub(crate) fn is_crowded(&self, sessions: u64) -> bool {
        let waiting = self.open.entries.len() + self.open.rows.len();
        waiting as u64 > WAITING_MAX.max(UNACKNOWLEDGED_BYTES * sessions)
    }

    /// When [`Journal::flush`] has something to do next, apart from reports.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.stuck.as_ref().map(|(_, again)| *again)
    }

    /// When the disk will have had long enough for what it is given, if it is given anything, and has had room.
    pub(crate) fn stuck_at(&self) -> Option<Time> {
        let since = self.since.filter(|_| !self.was_full);
        since.map(|since| since + PATIENCE)
    }

    /// This process stood still until now: so did the thread that writes.
    pub(crate) fn held_up(&mut self, now: Time) {
        self.since = self.since.map(|_| now);
    }

    /// Whether the log has grown so long that [`Journal::flush`] should get a snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        let is_long = self.log_bytes > LOG_MIN.max(2 * self.snapshot_bytes);
        is_long && self.disk.is_some() && self.stuck.is_none()
    }

    /// Sends what has gathered to the disk, if that is idle. `snapshot` holds all that was appended.
    pub(crate) fn flush(&mut self, now: Time, snapshot: Option<Vec<Payload>>) {
        if let Some((_, again)) = &self.stuck {
            if now >= *again
                && let Some(disk) = self.disk.take()
                && let Some((batch, _)) = self.stuck.take()
            {
                self.write(now, disk, batch);
            }
            return;
        }
        if self.open.entries.is_empty() && snapshot.is_none() {
            return;
        }
        if let Some(disk) = self.disk.take() {
            let mut batch = std::mem::take(&mut self.open);
            batch.snapshot = snapshot;
            self.number += 1;
            self.write(now, disk, batch);
        }
    }

    fn write(&mut self, now: Time, disk: Disk, batch: Batch) {
        self.since = Some(now);
        // The thread is there as long as this journal.
        let _ = self.writer.send((disk, batch));
    }

    /// A batch was written, or could not be.
    ///
    /// # Errors
    /// When the disk does not keep what it is given.
    pub(crate) fn written(&mut self, now: Time, report: Report) -> Result<Written, JournalError> {
        let Report {
            disk,
            mut batch,
            written,
            compacted,
        } = report;
        self.since = None;
        let was_full = self.was_full;
        let length = disk.len();
        self.disk = Some(disk);
        match written {
            Err(error) if is_full(&error) => {
                // The snapshot is taken anew when there is room.
                batch.snapshot = None;
                self.stuck = Some((batch, now + AGAIN));
                self.was_full = true;
                return Ok(Written::Full);
            }
            written => written?,
        }
        self.durable = self.number - 1;
        self.log_bytes = length - self.snapshot_bytes.min(length);
        match compacted {
            None => {}
            Some(Ok(())) => (self.snapshot_bytes, self.log_bytes) = (length, 0),
            Some(Err(error)) if is_full(&error) => {
                tracing::warn!("the journal cannot be made shorter: {error}");
                // Tried again when the log has doubled.
                self.snapshot_bytes = length;
            }
            Some(compacted) => compacted?,
        }
        self.was_full = false;
        match was_full {
            true => Ok(Written::RoomAgain),
            false => Ok(Written::Durable),
        }
    }
}

/// Writes batches as they come, until the journal is dropped.
fn write_all(batches: &std::sync::mpsc::Receiver<(Disk, Batch)>, reports: &mpsc::Sender<Report>) {
    while let Ok((mut disk, batch)) = batches.recv() {
        let written = disk.write(&batch);
        let snapshot = batch.snapshot.as_ref().filter(|_| written.is_ok());
        let compacted = snapshot.map(|snapshot| disk.compact(snapshot));
        // There is room for the one report that can be under way; nobody listens when the server has ended.
        let _ = reports.try_send(Report {
            disk,
            batch,
            written,
            compacted,
        });
    }
}
