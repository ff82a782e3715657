//! What can go wrong with a journal.

use hydra_proto::codec::CodecError;
use hydra_proto::ledger::{ReplayError, StoreError};
use hydra_proto::reduce::ReduceError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A system call failed.
    #[error("cannot {operation} {}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another server is at work there.
    #[error("another server is using {}", .0.display())]
    Locked(PathBuf),
    /// There is no journal.
    #[error("there is no journal in {}", .0.display())]
    Missing(PathBuf),
    /// There is the journal of a job that is not finished.
    #[error(
        "{} holds a job that is not finished: go on with it (hydra-server resume), or remove the directory",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// The file is not a journal, or its first bytes are damaged.
    #[error("{} is not a journal", .0.display())]
    NotAJournal(PathBuf),
    /// Another release wrote it.
    #[error("{} has format {found}, and this release reads {expected}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// This release's.
        expected: u32,
    },
    /// Bytes in the middle are not what was written.
    #[error("{} is damaged at byte {offset}, in record {record}; what follows it is sound", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The record's number.
        record: u64,
        /// Its first byte.
        offset: u64,
    },
    /// Not even the first snapshot is whole.
    #[error("{} has lost its beginning", .0.display())]
    NoSnapshot(PathBuf),
    /// A frame is sound, and what it says is not.
    #[error("record {record} of {} cannot be understood: was it written by another build?", .path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The record's number.
        record: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// Rows that were written are gone.
    #[error(
        "the file of rows has {found} bytes, and {expected} were written to it: it cannot be gone on with"
    )]
    RowsLost {
        /// Its length.
        found: u64,
        /// What it should have at least.
        expected: u64,
    },
    /// The plugin's sum cannot be saved.
    #[error("the plugin's sum cannot be kept in the journal")]
    Reduce(#[from] ReduceError),
    /// What was put away for want of memory is missing in a snapshot.
    #[error("what was put away for want of memory cannot be read")]
    PutAway(#[from] StoreError),
    /// An entry cannot be encoded.
    #[error(transparent)]
    Encode(#[from] CodecError),
}

/// Why an entry makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It does not follow from those before it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The plugin does not know it.
    #[error(transparent)]
    Reduce(#[from] ReduceError),
    /// It stands where it cannot.
    #[error("it stands before the job that it belongs to")]
    NoJob,
}

impl JournalError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io {
            operation,
            path,
            source,
        }
    }
}
