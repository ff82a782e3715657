//! The files of a journal, and what blocks: writing, waiting for the disk, replacing a file by another.

use super::{JournalError, Payload, frame};
use hydra_proto::ids::JobId;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const JOURNAL: &str = "journal";
const JOURNAL_NEW: &str = "journal.new";

const CREATE: &str = "create";
const WRITE: &str = "write";
const WRITE_ROWS: &str = "write rows of";

/// Where the journal in `dir` is.
pub(super) fn journal_path(dir: &Path) -> PathBuf {
    dir.join(JOURNAL)
}

/// What goes to disk at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The payload of one frame.
    pub(crate) entries: Vec<u8>,
    /// Rows of the commits among the entries.
    pub(crate) rows: Vec<u8>,
    /// The payloads of a snapshot that holds the entries too.
    pub(crate) snapshot: Option<Vec<Payload>>,
}

/// The open files.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    job: JobId,
    log: File,
    /// Where the next frame goes.
    at: u64,
    sequence: u64,
    rows: Option<File>,
    rows_at: u64,
    sync: bool,
}

impl Disk {
    /// The directory that it is in.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins a journal in `dir` with a snapshot; an older journal there is replaced.
    pub(crate) fn begin(
        dir: &Path,
        job: JobId,
        sequence: u64,
        snapshot: &[Payload],
        sync: bool,
    ) -> Result<Self, JournalError> {
        let log = write_snapshot(dir, job, sequence, snapshot)?;
        let at = log.0;
        Ok(Self {
            dir: dir.to_owned(),
            job,
            log: log.1,
            at,
            sequence: sequence + snapshot.len() as u64,
            rows: None,
            rows_at: 0,
            sync,
        })
    }

    /// Takes the file that rows go to, which has `at` bytes.
    pub(crate) fn set_rows(&mut self, rows: Option<File>, at: u64) {
        (self.rows, self.rows_at) = (rows, at);
    }

    /// The bytes of the journal.
    pub(crate) fn len(&self) -> u64 {
        self.at
    }

    /// Writes a batch. A batch that failed for want of room may be written again: it goes to the same place.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<(), JournalError> {
        if !batch.entries.is_empty() {
            self.append(&batch.entries)?;
        }
        if let Some(rows) = self.rows.as_ref().filter(|_| !batch.rows.is_empty()) {
            let written = rows.write_all_at(&batch.rows, self.rows_at);
            written.map_err(|error| self.failed(WRITE_ROWS, error))?;
        }
        if !batch.entries.is_empty() {
            self.at += frame_len(&batch.entries);
            self.sequence += 1;
        }
        self.rows_at += batch.rows.len() as u64;
        Ok(())
    }

    fn append(&mut self, entries: &[u8]) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(entries.len() + 16);
        frame::write(&mut bytes, self.sequence, entries);
        let written = self.log.write_all_at(&bytes, self.at);
        written.map_err(|error| self.failed(WRITE, error))?;
        if self.sync {
            let synced = self.log.sync_data();
            synced.map_err(|error| self.failed("sync", error))?;
        }
        Ok(())
    }

    /// Replaces the file by one that begins with this snapshot. Where that fails for want of room ([`is_full`]), the old
    /// one is still good; where it fails otherwise, nobody knows which of the two is found later.
    pub(crate) fn compact(&mut self, snapshot: &[Payload]) -> Result<(), JournalError> {
        if let Some(rows) = &self.rows {
            let synced = rows.sync_data();
            synced.map_err(|error| self.failed("sync rows of", error))?;
        }
        let (at, log) = write_snapshot(&self.dir, self.job, self.sequence, snapshot)?;
        (self.at, self.log) = (at, log);
        self.sequence += snapshot.len() as u64;
        Ok(())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> JournalError {
        JournalError::io(operation, &journal_path(&self.dir), source)
    }
}

fn frame_len(payload: &[u8]) -> u64 {
    payload.len() as u64 + 16
}

/// Whether what failed may succeed when somebody has made room. A sync may not, whatever it says: the kernel tells of a
/// lost write once. Nor may what follows when a new file has taken the old one's name.
pub(crate) fn is_full(error: &JournalError) -> bool {
    let JournalError::Io {
        operation: CREATE | WRITE | WRITE_ROWS,
        source,
        ..
    } = error
    else {
        return false;
    };
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
    full.contains(&source.raw_os_error())
}

/// Writes a new file beside the old one and puts it in its place: after a crash there is one or the other.
fn write_snapshot(
    dir: &Path,
    job: JobId,
    first: u64,
    snapshot: &[Payload],
) -> Result<(u64, File), JournalError> {
    let new = dir.join(JOURNAL_NEW);
    let written = try_write_snapshot(dir, &new, job, first, snapshot);
    if written.is_err() {
        // What is left of it takes room, and is of no use; if it cannot go, the next attempt replaces it.
        let _ = fs::remove_file(&new);
    }
    written
}

fn try_write_snapshot(
    dir: &Path,
    new: &Path,
    job: JobId,
    first: u64,
    snapshot: &[Payload],
) -> Result<(u64, File), JournalError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |error| JournalError::io(operation, &path, error)
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(new);
    let mut file = opened.map_err(failed(CREATE, new))?;
    let mut length = frame::HEADER as u64;
    let mut bytes = frame::header(job, first).to_vec();
    for (payload, sequence) in snapshot.iter().zip(first..) {
        let entries = payload.entries()?;
        frame::write(&mut bytes, sequence, &entries);
        length += frame_len(&entries);
        file.write_all(&bytes).map_err(failed(WRITE, new))?;
        bytes.clear();
    }
    file.sync_all().map_err(failed("sync", new))?;
    let path = journal_path(dir);
    fs::rename(new, &path).map_err(failed("replace", &path))?;
    sync_dir(dir)?;
    Ok((length, file))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| JournalError::io("sync", dir, error))
}
