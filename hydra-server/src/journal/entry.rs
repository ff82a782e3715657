//! What is written into a journal: changes, and the parts of a snapshot.

use crate::journal::JournalError;
use crate::outcome::ClientRun;
use crate::roots::Trouble;
use hydra_proto::codec;
use hydra_proto::ids::{ChildId, JobId, RootId};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::Record;
use hydra_proto::message::RootFacts;
use hydra_proto::segment::SegmentId;
use hydra_proto::walk::WalkSummary;
use serde::{Deserialize, Serialize};

/// A snapshot goes to disk in frames of about this size.
const FRAME_BYTES: usize = 1 << 20;

/// One change, or one part of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The first entry of every file.
    Job {
        id: JobId,
        /// How often a server has begun with this job, before this one.
        incarnation: u32,
        spec: Box<JobSpec>,
        /// What the program needs to know to go on; not understood here.
        #[serde(with = "serde_bytes")]
        note: Vec<u8>,
    },
    /// A change of the ledger.
    Ledger(Record),
    /// A client has come: as it is shown, and whether it is the one inside the server.
    Client {
        child: ChildId,
        name: String,
        workers: u32,
        embedded: bool,
    },
    /// What is known of a root.
    Root {
        root: RootId,
        facts: Option<RootFacts>,
        trouble: Option<Trouble>,
    },
    /// The first item was granted, or could be.
    Began,
    /// Snapshots only: what a client has done.
    Run(ClientRun),
    /// Snapshots only: the counts of the walk.
    Walk(Box<WalkSummary>),
    /// Snapshots only: a piece of the plugin's sum.
    Plugin(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Snapshots only: bytes of rows that were written.
    Rows(u64),
    /// The end of a snapshot.
    Complete,
    /// Snapshots only: what counts of some segments.
    Segments(Vec<(SegmentId, u64)>),
}

/// Collects the entries of a snapshot as payloads of frames.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Writer {
    pub(crate) fn push(&mut self, entry: &Entry) -> Result<(), JournalError> {
        codec::store(entry, &mut self.last)?;
        if self.last.len() >= FRAME_BYTES {
            self.full.push(std::mem::take(&mut self.last));
        }
        Ok(())
    }

    /// The payloads.
    pub(crate) fn finish(mut self) -> Result<Vec<Vec<u8>>, JournalError> {
        codec::store(&Entry::Complete, &mut self.last)?;
        self.full.push(self.last);
        Ok(self.full)
    }
}
