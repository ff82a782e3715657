//! What the workers found and no commit has taken up yet: merged, so that it does not grow with the tree.
//!
//! Rows cannot be merged, nor can the items that workers find, and sums may grow as they are merged; their bytes are
//! counted, and from [`PENDING_BYTES_MAX`] on the dispatcher takes no more commits before it has made its own.

use hydra_proto::item::Parcel;
use hydra_proto::message::{Commit, Delta};
use hydra_proto::reduce::{Reduce, ReduceError, Summary};
use hydra_proto::segment::Segment;
use hydra_proto::walk::WalkSummary;
use std::collections::BTreeMap;

/// What may gather before a commit is cut at once, in bytes. With one more commit of a worker on top it still
/// fits into a frame.
pub(crate) const PENDING_BYTES_MAX: usize = 4 << 20;

pub(crate) struct Results {
    reducer: Box<dyn Reduce>,
    walk: WalkSummary,
    rows: Vec<u8>,
    lost_workers: u32,
    /// What counts of the segments of workers, by worker and number.
    segments: BTreeMap<(u64, u32), u64>,
    /// Whether anything was added since the last [`Results::take`].
    any: bool,
    pending_bytes: usize,
}

impl Results {
    pub(crate) fn new(reducer: Box<dyn Reduce>) -> Self {
        Self {
            reducer,
            walk: WalkSummary::default(),
            rows: Vec::new(),
            lost_workers: 0,
            segments: BTreeMap::new(),
            any: false,
            pending_bytes: 0,
        }
    }

    /// A worker's commit is about to be handled.
    pub(crate) fn note(&mut self, commit: &Commit) {
        self.pending_bytes += commit.new.iter().map(Parcel::size).sum::<usize>();
    }

    /// Adds what a worker found.
    pub(crate) fn add(&mut self, delta: Delta) -> Result<(), ReduceError> {
        self.any = true;
        self.pending_bytes += delta.rows.len() + delta.plugin.len();
        self.walk.merge(delta.walk);
        let segments = delta.segments.into_iter();
        self.segments
            .extend(segments.map(|segment| ((segment.worker, segment.number), segment.bytes)));
        match self.rows.is_empty() {
            true => self.rows = delta.rows,
            false => self.rows.extend_from_slice(&delta.rows),
        }
        self.lost_workers = self.lost_workers.saturating_add(delta.lost_workers);
        self.reducer.merge(&delta.plugin)
    }

    /// A worker is lost.
    pub(crate) fn lost_worker(&mut self) {
        self.any = true;
        self.lost_workers += 1;
    }

    /// Whether a commit should be cut before more is added.
    pub(crate) fn is_full(&self) -> bool {
        self.pending_bytes >= PENDING_BYTES_MAX
    }

    /// Everything since the last call.
    pub(crate) fn take(&mut self) -> Result<Option<Delta>, ReduceError> {
        self.pending_bytes = 0;
        if !std::mem::take(&mut self.any) {
            return Ok(None);
        }
        let segments = std::mem::take(&mut self.segments).into_iter();
        let segments = segments.map(|((worker, number), bytes)| Segment {
            worker,
            number,
            bytes,
        });
        Ok(Some(Delta {
            walk: std::mem::take(&mut self.walk),
            plugin: self.reducer.take()?,
            rows: std::mem::take(&mut self.rows),
            lost_workers: std::mem::take(&mut self.lost_workers),
            segments: segments.collect(),
        }))
    }
}
