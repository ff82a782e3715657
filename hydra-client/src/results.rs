//! What the workers found and no commit has taken up yet: merged, so that it does not grow with the tree.
//!
//! Rows cannot be merged, nor can the items that workers find, and sums may grow as they are merged; their bytes are
//! counted, and beyond [`PENDING_BYTES_MAX`] the dispatcher takes no more commits before it has made its own.

use hydra_proto::item::Parcel;
use hydra_proto::message::{Commit, Delta, Up};
use hydra_proto::reduce::{Reduce, ReduceError, Summary};
use hydra_proto::segment::Segment;
use hydra_proto::walk::WalkSummary;
use std::collections::BTreeMap;

/// What may gather before a commit is cut at once, in bytes; or a single commit of a worker, which fits into a frame.
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
        self.pending_bytes += size(&delta);
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

    /// Whether a commit should be cut before this message of a worker is handled, or before any other.
    pub(crate) fn is_full(&self, next: Option<&Up>) -> bool {
        let bytes = match next {
            Some(Up::Commit(commit)) => commit.result.as_ref().map_or(0, size),
            _ => 0,
        };
        let both = self.pending_bytes.saturating_add(bytes);
        self.pending_bytes >= PENDING_BYTES_MAX
            || (self.pending_bytes > 0 && both > PENDING_BYTES_MAX)
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

/// The bytes of a result that are not merged with those of others, or not for certain.
fn size(delta: &Delta) -> usize {
    delta.rows.len() + delta.plugin.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::reduce::Merger;

    fn commit(rows: usize) -> Up {
        let delta = Delta {
            rows: vec![b'\n'; rows],
            ..Delta::default()
        };
        Up::Commit(Box::new(Commit {
            epoch: hydra_proto::ids::Epoch {
                job: hydra_proto::ids::JobId(1),
                number: 1,
            },
            seq: 1,
            done: Vec::new(),
            new: Vec::new(),
            give: Vec::new(),
            failed: Vec::new(),
            result: Some(delta),
            load: Default::default(),
            answers: None,
            begun: Vec::new(),
        }))
    }

    #[test]
    fn a_large_commit_on_top_of_others_did_not_fit_into_a_frame() {
        let mut results = Results::new(Box::new(Merger::<()>::default()));
        let large = commit(PENDING_BYTES_MAX * 2);
        assert!(!results.is_full(Some(&large)));
        let Up::Commit(few) = commit(1) else {
            unreachable!()
        };
        results.add(few.result.unwrap()).unwrap();
        assert!(results.is_full(Some(&large)));
        assert!(!results.is_full(Some(&commit(1))) && !results.is_full(None));
        results.take().unwrap();
        assert!(!results.is_full(Some(&large)));
    }
}
