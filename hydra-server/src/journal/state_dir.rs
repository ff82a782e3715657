//! The state directory: made, locked, and looked into before a server starts.

use super::disk::{journal_path, sync_dir};
use super::entry::Entry;
use super::replay::Records;
use super::{JournalError, status};
use hydra_proto::codec;
use hydra_proto::job::JobSpec;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) const LOCK: &str = "lock";

/// When something counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it: survives the machine.
    #[default]
    Fsync,
    /// When the operating system has it: survives the server.
    Os,
}

/// A directory that keeps the state of one job, locked for this process as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    pub(crate) dir: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) note: Vec<u8>,
    /// The journal of the job to go on with.
    pub(crate) old: Option<File>,
    pub(crate) rows: Option<File>,
    pub(crate) lock: File,
    spec: Option<JobSpec>,
}

impl StateDir {
    /// For a new job. Makes the directory if there is none. `note` is kept for whoever goes on with the job.
    ///
    /// # Errors
    /// When it cannot be made or locked, or holds a job that is not finished.
    pub fn create(dir: &Path, durability: Durability, note: Vec<u8>) -> Result<Self, JournalError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| JournalError::io("create", dir, error))?;
        let lock = lock(dir)?;
        if journal_path(dir).exists() && !status(dir)?.done {
            return Err(JournalError::Unfinished(dir.to_owned()));
        }
        sync_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            durability,
            note,
            old: None,
            rows: None,
            lock,
            spec: None,
        })
    }

    /// To go on with a job.
    ///
    /// # Errors
    /// When there is no journal, it is damaged, or another server uses it.
    pub fn open(dir: &Path, durability: Durability) -> Result<Self, JournalError> {
        if !journal_path(dir).exists() {
            return Err(JournalError::Missing(dir.to_owned()));
        }
        let lock = lock(dir)?;
        let old = open(dir)?;
        // Before anything is done, and as a whole: what follows reads it once more.
        Records::of(dir, &old)?.check()?;
        let (spec, note) = first_entry(dir, &old)?;
        Ok(Self {
            dir: dir.to_owned(),
            durability,
            note,
            old: Some(old),
            rows: None,
            lock,
            spec: Some(spec),
        })
    }

    /// The job to go on with.
    #[must_use]
    pub fn job(&self) -> Option<&JobSpec> {
        self.spec.as_ref()
    }

    /// What [`StateDir::create`] was given.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// Rows go to this file. It must be a plain one; what is in it beyond the rows that are durable is cut off.
    #[must_use]
    pub fn with_rows(mut self, rows: File) -> Self {
        self.rows = Some(rows);
        self
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(|error| JournalError::io("open", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked(dir.to_owned())),
        Err(errno) => Err(JournalError::io("lock", &path, errno.into())),
    }
}

/// Opens the journal.
pub(super) fn open(dir: &Path) -> Result<File, JournalError> {
    let path = journal_path(dir);
    File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => JournalError::Missing(dir.to_owned()),
        _ => JournalError::io("read", &path, error),
    })
}

fn first_entry(dir: &Path, old: &File) -> Result<(JobSpec, Vec<u8>), JournalError> {
    let mut records = Records::of(dir, old)?;
    let first = records.next()?.map(|frame| codec::load(frame.payload));
    match first {
        Some(Ok((Entry::Job { spec, note, .. }, _))) => Ok((*spec, note)),
        Some(Ok(_) | Err(_)) | None => Err(JournalError::NoSnapshot(journal_path(dir))),
    }
}
