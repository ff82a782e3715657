//! What every walk counts, whatever its plugin: entries by type, and what went wrong.

use crate::reduce::Summary;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many errors a report lists: the first by path bytes, so that the list does not depend on timing.
pub const ERRORS_LISTED_MAX: usize = 100;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum FileType {
    /// The directory did not say (`DT_UNKNOWN`).
    Unknown = 0,
    /// A named pipe.
    Fifo = 1,
    /// A character device.
    CharDevice = 2,
    /// A directory.
    Directory = 4,
    /// A block device.
    BlockDevice = 6,
    /// A regular file.
    File = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A socket.
    Socket = 12,
}

impl FileType {
    /// From `d_type` of a directory entry, or from `st_mode >> 12`: the numbers are the same.
    #[must_use]
    pub fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Fifo,
            2 => Self::CharDevice,
            4 => Self::Directory,
            6 => Self::BlockDevice,
            8 => Self::File,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => Self::Unknown,
        }
    }

    /// The number that [`FileType::from_raw`] reads.
    #[must_use]
    pub fn to_raw(self) -> u8 {
        self as u8
    }
}

/// One thing that could not be done to one entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WalkError {
    /// The entry, as results show it.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// The operation that failed: `open`, `list`, `stat`, or a plugin's own word.
    pub operation: String,
    /// The kind of failure: the name of the error number (`EACCES`), or a word of Hydra's (`PANIC`).
    pub kind: String,
    /// What it means, in words.
    pub message: String,
}

/// What a walk counts besides the plugin's summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkSummary {
    /// Entries, the roots among them. The sum of the four below.
    pub entries: u64,
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Everything else.
    pub other: u64,
    /// Entries that were gone when they were looked at. No errors, and in no other count.
    pub vanished: u64,
    /// Entries that a glob excluded.
    pub excluded: u64,
    /// Snapshot directories that were counted and not entered.
    pub skipped_snapshots: u64,
    /// Pseudo file systems that were counted and not entered, by type.
    pub skipped_pseudo: BTreeMap<String, u64>,
    /// Mount points that `--one-file-system` left alone.
    pub skipped_mounts: u64,
    /// Errors by kind. Their sum is the number of errors.
    pub errors: BTreeMap<String, u64>,
    /// The first [`ERRORS_LISTED_MAX`] errors by path.
    pub first_errors: BTreeSet<WalkError>,
}

impl WalkSummary {
    /// Counts an entry of this type.
    #[inline]
    pub fn count(&mut self, file_type: FileType) {
        self.entries += 1;
        match file_type {
            FileType::Directory => self.directories += 1,
            FileType::File => self.files += 1,
            FileType::Symlink => self.symlinks += 1,
            _ => self.other += 1,
        }
    }

    /// Counts and, if it is among the first, lists an error.
    pub fn fail(&mut self, error: WalkError) {
        *self.errors.entry(error.kind.clone()).or_default() += 1;
        self.first_errors.insert(error);
        if self.first_errors.len() > ERRORS_LISTED_MAX {
            self.first_errors.pop_last();
        }
    }

    /// How many errors there were.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl Summary for WalkSummary {
    fn merge(&mut self, other: Self) {
        add(&mut self.entries, other.entries);
        add(&mut self.directories, other.directories);
        add(&mut self.files, other.files);
        add(&mut self.symlinks, other.symlinks);
        add(&mut self.other, other.other);
        add(&mut self.vanished, other.vanished);
        add(&mut self.excluded, other.excluded);
        add(&mut self.skipped_snapshots, other.skipped_snapshots);
        add(&mut self.skipped_mounts, other.skipped_mounts);
        for (kind, count) in other.skipped_pseudo {
            add(self.skipped_pseudo.entry(kind).or_default(), count);
        }
        for (kind, count) in other.errors {
            add(self.errors.entry(kind).or_default(), count);
        }
        self.first_errors.extend(other.first_errors);
        while self.first_errors.len() > ERRORS_LISTED_MAX {
            self.first_errors.pop_last();
        }
    }
}

/// A peer may say anything: no sum wraps around.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
