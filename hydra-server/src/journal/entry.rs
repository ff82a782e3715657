//! What is written into a journal: changes, and the parts of a snapshot.

use crate::journal::JournalError;
use crate::outcome::ClientRun;
use crate::roots::Trouble;
use crate::spill::Piece;
use hydra_proto::codec;
use hydra_proto::ids::{ChildId, JobId, RootId};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Record, stored_records};
use hydra_proto::message::RootFacts;
use hydra_proto::segment::SegmentId;
use hydra_proto::walk::WalkSummary;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

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

/// The payload of one frame of a snapshot.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Entries.
    Entries(Vec<u8>),
    /// Items that are not in memory; where they are set aside, why.
    Piece(Arc<Piece>, Option<Arc<str>>),
}

impl Payload {
    /// The entries. Reads them, if they are not in memory.
    pub(crate) fn entries(&self) -> Result<Cow<'_, [u8]>, JournalError> {
        let (piece, aside) = match self {
            Self::Entries(entries) => return Ok(Cow::Borrowed(entries)),
            Self::Piece(piece, aside) => (piece, aside),
        };
        let bytes = piece.read()?;
        let mut entries = Vec::new();
        for record in stored_records(&bytes, aside.as_deref())? {
            codec::store(&Entry::Ledger(record), &mut entries)?;
        }
        Ok(Cow::Owned(entries))
    }
}

/// Collects the entries of a snapshot as payloads of frames.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    full: Vec<Payload>,
    last: Vec<u8>,
}

impl Writer {
    pub(crate) fn push(&mut self, entry: &Entry) -> Result<(), JournalError> {
        codec::store(entry, &mut self.last)?;
        if self.last.len() >= FRAME_BYTES {
            self.close();
        }
        Ok(())
    }

    /// Adds items that are not in memory, as they are now.
    pub(crate) fn push_piece(&mut self, piece: Arc<Piece>, aside: Option<Arc<str>>) {
        self.close();
        self.full.push(Payload::Piece(piece, aside));
    }

    fn close(&mut self) {
        if !self.last.is_empty() {
            let entries = std::mem::take(&mut self.last);
            self.full.push(Payload::Entries(entries));
        }
    }

    /// The payloads.
    pub(crate) fn finish(mut self) -> Result<Vec<Payload>, JournalError> {
        codec::store(&Entry::Complete, &mut self.last)?;
        self.close();
        Ok(self.full)
    }
}
