//! From a journal back to the state that it describes.

use super::JournalError;
use super::disk::journal_path;
use super::entry::Entry;
use super::error::EntryError;
use super::state_dir::sound;
use crate::coordinator;
use crate::roots::RootBook;
use crate::rows::{self, Counts};
use crate::tally::Tally;
use hydra_proto::codec;
use hydra_proto::ids::{ChildId, JobId};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Action, Parent};
use hydra_proto::reduce::{Reduce, ReduceError};
use hydra_proto::segment::SegmentId;
use std::collections::BTreeSet;
use std::path::Path;

/// What a server was when it wrote the last durable entry.
pub(crate) struct Restored {
    pub(crate) job: JobId,
    pub(crate) incarnation: u32,
    pub(crate) spec: JobSpec,
    pub(crate) parent: Parent,
    pub(crate) tally: Tally,
    pub(crate) book: RootBook,
    /// Sessions of clients that were inside the server.
    pub(crate) embedded: BTreeSet<ChildId>,
    pub(crate) began: bool,
    /// Rows that are durable in their own file.
    pub(crate) rows_kept: u64,
    /// Rows behind them, from commits since the snapshot.
    pub(crate) rows: Vec<u8>,
    /// What counts of segments.
    pub(crate) segments: Counts,
    /// The number of the next frame.
    pub(crate) sequence: u64,
}

/// Replays `bytes`, the journal in `dir`, as far as it is whole. `reducer` is empty, and gets the plugin's sum.
pub(crate) fn replay(
    dir: &Path,
    bytes: &[u8],
    reducer: Box<dyn Reduce>,
    forward_logs: bool,
    release: &str,
) -> Result<Restored, JournalError> {
    let contents = sound(dir, bytes)?;
    let mut replay = Replay {
        forward_logs,
        release,
        reducer: Some(reducer),
        restored: None,
        complete: false,
    };
    for frame in &contents.frames {
        let applied = replay.frame(frame.payload);
        applied.map_err(|source| JournalError::Entry {
            path: journal_path(dir),
            record: frame.sequence,
            source,
        })?;
    }
    match replay.restored.filter(|_| replay.complete) {
        Some(mut restored) => {
            restored.sequence = contents.next;
            restored.job = contents.job;
            Ok(restored)
        }
        None => Err(JournalError::NoSnapshot(journal_path(dir))),
    }
}

struct Replay<'a> {
    forward_logs: bool,
    release: &'a str,
    reducer: Option<Box<dyn Reduce>>,
    restored: Option<Restored>,
    complete: bool,
}

impl Replay<'_> {
    fn frame(&mut self, mut payload: &[u8]) -> Result<(), EntryError> {
        while !payload.is_empty() {
            let (entry, used) = codec::load(payload)?;
            payload = payload.get(used..).unwrap_or_default();
            match entry {
                Entry::Job { .. } => self.job(entry)?,
                Entry::Complete => self.complete = true,
                entry => self
                    .restored
                    .as_mut()
                    .ok_or(EntryError::NoJob)?
                    .apply(entry)?,
            }
        }
        Ok(())
    }

    fn job(&mut self, entry: Entry) -> Result<(), EntryError> {
        let (
            Entry::Job {
                id,
                incarnation,
                spec,
                ..
            },
            Some(reducer),
        ) = (entry, self.reducer.take())
        else {
            return Err(EntryError::NoJob);
        };
        let (logs, release) = (self.forward_logs, self.release.to_owned());
        self.restored = Some(Restored {
            job: id,
            incarnation,
            parent: coordinator::parent(id, &spec, logs, release),
            tally: Tally::new(reducer),
            book: RootBook::new(spec.roots.len(), spec.walk.trust_roots),
            spec: *spec,
            embedded: BTreeSet::new(),
            began: false,
            rows_kept: 0,
            rows: Vec::new(),
            segments: Counts::new(),
            sequence: 0,
        });
        Ok(())
    }
}

impl Restored {
    fn apply(&mut self, entry: Entry) -> Result<(), EntryError> {
        match entry {
            Entry::Job { .. } | Entry::Complete => return Err(EntryError::NoJob),
            Entry::Ledger(record) => {
                self.parent.replay(record)?;
                return self.add_up();
            }
            Entry::Client {
                child,
                name,
                workers,
                embedded,
            } => {
                self.tally.joined(child, &name, workers);
                if embedded {
                    self.embedded.insert(child);
                }
            }
            Entry::Root {
                root,
                facts,
                trouble,
            } => self.book.restore(root, facts, trouble),
            Entry::Began => self.began = true,
            Entry::Run(run) => self.tally.restore_run(run),
            Entry::Walk(walk) => self.tally.walk = *walk,
            Entry::Plugin(piece) => self.tally.reducer.load(&piece)?,
            Entry::Rows(length) => self.rows_kept = length,
            Entry::Segments(segments) => self.segments.extend(segments),
        }
        Ok(())
    }

    /// Adds up what the record has committed.
    fn add_up(&mut self) -> Result<(), EntryError> {
        while let Some(action) = self.parent.poll_action() {
            if let Action::Applied {
                child,
                epoch,
                result,
                ..
            } = action
            {
                let mut delta = result.map(|delta| *delta);
                if let Some(delta) = &mut delta {
                    self.rows.append(&mut delta.rows);
                    for segment in &delta.segments {
                        let id = SegmentId::new(epoch, segment);
                        rows::count(&mut self.segments, id, segment.bytes);
                    }
                }
                self.tally.merge(child, delta)?;
            }
        }
        Ok(())
    }
}

/// Takes a sum's place where nobody looks at it.
pub(crate) struct NoSum;

impl Reduce for NoSum {
    fn merge(&mut self, _: &[u8]) -> Result<(), ReduceError> {
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<u8>, ReduceError> {
        Ok(Vec::new())
    }

    fn save(&mut self, _: &mut dyn FnMut(Vec<u8>)) -> Result<(), ReduceError> {
        Ok(())
    }

    fn load(&mut self, _: &[u8]) -> Result<(), ReduceError> {
        Ok(())
    }
}
