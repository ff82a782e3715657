//! What every walk counts, whatever its plugin: entries by type, and what went wrong.

use crate::kept::{KeptPath, PATH_KEPT_MAX, shorten};
use crate::reduce::Summary;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many errors a report lists: the first by path bytes, so that the list does not depend on timing.
pub const ERRORS_LISTED_MAX: usize = 100;
/// How many bytes of an error's message are kept.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// How many bytes of a word are kept that counts are kept by, or that names an operation.
pub const WORD_BYTES_MAX: usize = 64;
/// How many kinds of errors, or of file systems, are counted by name.
pub const KINDS_MAX: usize = 256;
/// What a summary takes in a message at most: what may come beside it counts on that.
pub const WALK_BYTES_MAX: usize = 1 << 20;
/// What all other kinds are counted as.
const OTHER_KIND: &str = "OTHER";

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

/// One thing that could not be done to one entry. Summaries keep so much of each that a list of them fits into a
/// message; of those that are the same then one is listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WalkError {
    /// The entry, as results show it: [`PATH_KEPT_MAX`] bytes of it.
    pub path: KeptPath,
    /// The operation that failed: `open`, `list`, `stat`, or a plugin's own word. [`WORD_BYTES_MAX`].
    pub operation: String,
    /// The kind of failure: the name of the error number (`EACCES`), or a word of Hydra's (`PANIC`). [`WORD_BYTES_MAX`].
    pub kind: String,
    /// What it means, in words. [`MESSAGE_BYTES_MAX`].
    pub message: String,
}

impl WalkError {
    /// What of an error is kept.
    #[must_use]
    pub fn new(path: &[u8], operation: &str, kind: &str, message: &str) -> Self {
        let error = Self {
            path: KeptPath::new(path, PATH_KEPT_MAX),
            operation: operation.to_owned(),
            kind: kind.to_owned(),
            message: message.to_owned(),
        };
        error.shortened()
    }

    fn shortened(mut self) -> Self {
        self.path.shorten(PATH_KEPT_MAX);
        shorten(&mut self.operation, WORD_BYTES_MAX);
        shorten(&mut self.kind, WORD_BYTES_MAX);
        shorten(&mut self.message, MESSAGE_BYTES_MAX);
        self
    }
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
    /// Errors by kind, [`KINDS_MAX`] of them and `OTHER`. Their sum is the number of errors.
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
        let error = error.shortened();
        count(&mut self.errors, error.kind.clone(), 1);
        self.list(error);
    }

    fn list(&mut self, error: WalkError) {
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
        for (kind, number) in other.skipped_pseudo {
            count(&mut self.skipped_pseudo, kind, number);
        }
        for (kind, number) in other.errors {
            count(&mut self.errors, kind, number);
        }
        for error in other.first_errors {
            self.list(error.shortened());
        }
    }
}

/// Adds to the count of a kind. A peer may name any, and a plugin as many as it likes.
fn count(kinds: &mut BTreeMap<String, u64>, mut kind: String, number: u64) {
    shorten(&mut kind, WORD_BYTES_MAX);
    if kinds.len() >= KINDS_MAX && !kinds.contains_key(&kind) {
        kind = OTHER_KIND.to_owned();
    }
    add(kinds.entry(kind).or_default(), number);
}

/// A peer may say anything: no sum wraps around.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    /// Summaries of one error each, as long as a tree and a plugin can make them.
    fn long_errors() -> impl Iterator<Item = WalkError> {
        (0..300).map(|number| WalkError {
            path: KeptPath {
                bytes: format!("/{number:03}/{}", "d/".repeat(1 << 17)).into_bytes(),
                cut: false,
            },
            operation: format!("o{number}{}", "o".repeat(1 << 10)),
            kind: format!("k{number}{}", "k".repeat(1 << 10)),
            message: "ä".repeat(1 << 17),
        })
    }

    #[test]
    fn errors_with_long_paths_did_not_fit_into_a_frame() {
        let mut failed = WalkSummary::default();
        let (mut hostile, mut merged) = (WalkSummary::default(), WalkSummary::default());
        for error in long_errors() {
            failed.fail(error.clone());
            hostile.errors.insert(error.kind.clone(), 1);
            hostile.skipped_pseudo.insert(error.kind.clone(), 1);
            hostile.first_errors.insert(error);
        }
        merged.merge(hostile);
        for walk in [failed, merged] {
            assert_eq!(walk.first_errors.len(), ERRORS_LISTED_MAX);
            assert_eq!(walk.error_count(), 300);
            assert!(codec::encode(&walk).unwrap().len() <= WALK_BYTES_MAX);
        }
    }

    #[test]
    fn a_cut_error_is_the_same_wherever_it_is_cut() {
        let (mut one, mut other) = (WalkSummary::default(), WalkSummary::default());
        for error in long_errors() {
            one.fail(error.clone());
            let mut part = WalkSummary::default();
            part.fail(error);
            other.merge(part);
        }
        assert_eq!(one, other);
        let first = one.first_errors.first().unwrap();
        assert!(first.path.cut && first.path.bytes.len() == PATH_KEPT_MAX);
        assert!(first.message.ends_with("ä…") && first.message.len() <= MESSAGE_BYTES_MAX);
    }
}
