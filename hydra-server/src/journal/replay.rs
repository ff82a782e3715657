//! From a journal back to the state that it describes.

use super::JournalError;
use super::disk::journal_path;
use super::entry::Entry;
use super::error::EntryError;
use super::frame::{Frame, Frames, Source, Unsound, VERSION};
use crate::roots::RootBook;
use crate::rows::Counts;
use crate::tally::Tally;
use hydra_proto::codec;
use hydra_proto::ids::{ChildId, JobId};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Action, Parent};
use hydra_proto::reduce::{Reduce, ReduceError};
use hydra_proto::segment::SegmentId;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    /// Bytes of rows that count.
    pub(crate) rows: u64,
    /// What counts of segments.
    pub(crate) segments: Counts,
    /// The number of the next frame.
    pub(crate) sequence: u64,
}

/// What becomes of rows whose place in their file is known again.
pub(crate) trait RowsAgain {
    /// So many bytes of them were written before the snapshot.
    fn kept(&mut self, bytes: u64);
    /// These come next, from `at` on.
    fn add(&mut self, at: u64, rows: &[u8]);
}

/// The frames of the journal in a directory.
pub(crate) struct Records<'a, S: ?Sized> {
    path: PathBuf,
    frames: Frames<'a, S>,
}

impl<'a, S: Source + ?Sized> Records<'a, S> {
    /// Those of `source`, the journal in `dir`.
    pub(crate) fn of(dir: &Path, source: &'a S) -> Result<Self, JournalError> {
        let path = journal_path(dir);
        match Frames::open(source) {
            Ok(frames) => Ok(Self { path, frames }),
            Err(error) => Err(unsound(path, error)),
        }
    }

    /// The next one, as far as the file is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, JournalError> {
        let path = &self.path;
        let next = self.frames.next();
        next.map_err(|error| unsound(path.clone(), error))
    }

    /// Goes to the end, to see whether all is sound.
    pub(crate) fn check(&mut self) -> Result<(), JournalError> {
        let checked = self.frames.check();
        checked.map_err(|error| unsound(self.path.clone(), error))
    }
}

fn unsound(path: PathBuf, error: Unsound) -> JournalError {
    match error {
        Unsound::Header => JournalError::NotAJournal(path),
        Unsound::Version(found) => JournalError::Version {
            path,
            found,
            expected: VERSION,
        },
        Unsound::Damaged { record, offset } => JournalError::Damaged {
            path,
            record,
            offset,
        },
        Unsound::Unreadable(error) => JournalError::io("read", &path, error),
    }
}

/// Makes the empty ledger of a job.
type Blank<'a> = &'a dyn Fn(JobId, &JobSpec) -> Parent;

/// Replays `source`, the journal in `dir`, as far as it is whole, to what `blank` makes. `reducer` is empty, and gets the
/// plugin's sum; `rows` are told of rows.
pub(crate) fn replay<S: Source + ?Sized>(
    dir: &Path,
    source: &S,
    blank: Blank<'_>,
    reducer: Box<dyn Reduce>,
    rows: &mut dyn RowsAgain,
) -> Result<Restored, JournalError> {
    let mut records = Records::of(dir, source)?;
    let mut replay = Replay {
        blank,
        reducer: Some(reducer),
        restored: None,
        complete: false,
        rows,
    };
    while let Some(frame) = records.next()? {
        let applied = replay.frame(frame.payload);
        applied.map_err(|source| JournalError::Entry {
            path: journal_path(dir),
            record: frame.sequence,
            source,
        })?;
    }
    match replay.restored.filter(|_| replay.complete) {
        Some(mut restored) => {
            restored.sequence = records.frames.next_number();
            restored.job = records.frames.job();
            Ok(restored)
        }
        None => Err(JournalError::NoSnapshot(journal_path(dir))),
    }
}

struct Replay<'a> {
    blank: Blank<'a>,
    reducer: Option<Box<dyn Reduce>>,
    restored: Option<Restored>,
    complete: bool,
    rows: &'a mut dyn RowsAgain,
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
                    .apply(entry, self.rows)?,
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
        self.restored = Some(Restored {
            job: id,
            incarnation,
            parent: (self.blank)(id, &spec),
            tally: Tally::new(reducer),
            book: RootBook::new(spec.roots.len(), spec.walk.trust_roots),
            spec: *spec,
            embedded: BTreeSet::new(),
            began: false,
            rows: 0,
            segments: Counts::new(),
            sequence: 0,
        });
        Ok(())
    }
}

impl Restored {
    fn apply(&mut self, entry: Entry, rows: &mut dyn RowsAgain) -> Result<(), EntryError> {
        match entry {
            Entry::Job { .. } | Entry::Complete => return Err(EntryError::NoJob),
            Entry::Ledger(record) => {
                self.parent.replay(record)?;
                return self.add_up(rows);
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
            Entry::Rows(length) => {
                self.rows = length;
                rows.kept(length);
            }
            Entry::Segments(segments) => self.segments.extend(segments),
        }
        Ok(())
    }

    /// Adds up what the record has committed.
    fn add_up(&mut self, rows: &mut dyn RowsAgain) -> Result<(), EntryError> {
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
                    rows.add(self.rows, &delta.rows);
                    self.rows = self.rows.saturating_add(delta.rows.len() as u64);
                    delta.rows = Vec::new();
                    for segment in &delta.segments {
                        let id = SegmentId::new(epoch, segment);
                        crate::rows::count(&mut self.segments, id, segment.bytes);
                    }
                }
                self.tally.merge(child, delta)?;
            }
        }
        Ok(())
    }
}

/// Takes the place of rows where nobody looks at them.
pub(crate) struct NoRows;

impl RowsAgain for NoRows {
    fn kept(&mut self, _: u64) {}

    fn add(&mut self, _: u64, _: &[u8]) {}
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
