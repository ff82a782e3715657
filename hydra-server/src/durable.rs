//! How the coordinator makes its state durable: what changes goes into the journal, and what follows from a change
//! waits until the disk has it.
//!
//! Only what moves work or ends a session waits. Beats, sheds and pauses are advice: they go past what waits, so
//! that a slow disk costs no connection, and a full one can be told to the clients.

use crate::coordinator::{Coordinator, Phase, bound, parent};
use crate::held::HeldBack;
use crate::journal::{
    Disk, Durability, Entry, Journal, JournalError, NoSum, Payload, Report, RowsAgain, StateDir,
    Writer, Written, replay,
};
use crate::outcome::{Ending, ServerError};
use crate::rows;
use hydra_proto::ids::{ConnId, Epoch};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Record, Time};
use hydra_proto::message::{Delta, Down};
use hydra_proto::segment::SegmentId;
use std::fs::File;
use std::os::unix::fs::FileExt;
use tokio::sync::mpsc;

/// What an honest client sends while nothing is acknowledged: its window, and what its last commit has beyond that.
pub(crate) const UNACKNOWLEDGED_BYTES: u64 = 24 << 20;
/// Segments in one entry of a snapshot.
const SEGMENTS_AT_ONCE: usize = 4096;

impl Coordinator {
    /// Goes on where the journal ends, if there is one to go on with, and begins a new file.
    ///
    /// # Errors
    /// When the journal is damaged, or the disk does not take the new file.
    pub(crate) fn keep_journal(
        &mut self,
        now: Time,
        mut state: StateDir,
        reports: mpsc::Sender<Report>,
    ) -> Result<(), ServerError> {
        let mut sequence = 1;
        let rows = state.rows.take();
        let mut rows_len = 0;
        if let Some(old) = state.old.take() {
            (sequence, rows_len) = self.restore(now, &state, &old, rows.as_ref())?;
        } else if let Some(rows) = &rows {
            rows.set_len(0).map_err(ServerError::Rows)?;
        }
        self.note = std::mem::take(&mut state.note);
        let snapshot = self.snapshot(rows_len)?;
        let sync = state.durability == Durability::Fsync;
        let mut disk = Disk::begin(&state.dir, self.job_id, sequence, &snapshot, sync)?;
        disk.set_rows(rows, rows_len);
        self.journal = Some(Journal::new(disk, state.lock, rows_len, reports)?);
        self.parent.keep_records(true);
        // Clients that were inside the server have died with it.
        for child in std::mem::take(&mut self.orphans) {
            self.parent.fence(now, child, "it died with the server");
        }
        Ok(())
    }

    /// Takes over what an earlier server knew. Returns the number of the next frame, and the bytes of rows.
    fn restore(
        &mut self,
        now: Time,
        state: &StateDir,
        old: &File,
        rows: Option<&File>,
    ) -> Result<(u64, u64), ServerError> {
        let reducer = std::mem::replace(&mut self.tally.reducer, Box::new(NoSum));
        let blank = |job, spec: &JobSpec| {
            let mut parent = parent(job, spec, self.logs.is_some(), self.release.clone());
            bound(&mut parent, self.memory, &self.spill);
            parent
        };
        let mut again = RowsFile::new(rows);
        let mut restored = replay(&state.dir, old, &blank, reducer, &mut again)?;
        let rows_len = restored.rows;
        again.end(rows_len)?;
        self.incarnation = restored.incarnation + 1;
        restored.parent.revive(now, self.incarnation);
        self.began_before = restored.began;
        self.job_id = restored.job;
        self.parent = restored.parent;
        self.tally = restored.tally;
        self.book = restored.book;
        self.segments = restored.segments;
        self.orphans = restored.embedded.into_iter().collect();
        if restored.began {
            self.gathering.wait_until(now + self.client_timeout);
        }
        if restored.began && self.parent.is_done() {
            self.end(now, Ending::Done);
        }
        Ok((restored.sequence, rows_len))
    }

    /// All that is known, as entries that replay to it.
    fn snapshot(&mut self, rows: u64) -> Result<Vec<Payload>, ServerError> {
        let mut out = Writer::default();
        out.push(&Entry::Job {
            id: self.job_id,
            incarnation: self.incarnation,
            spec: Box::new(self.job.clone()),
            note: self.note.clone(),
        })?;
        let mut pushed = Ok(());
        self.parent.snapshot(&mut |record| {
            if pushed.is_ok() {
                pushed = out.push(&Entry::Ledger(record));
            }
        });
        pushed?;
        // Held until they are written, whatever is brought back meanwhile.
        for (slot, aside) in self.parent.slots() {
            if let Some(piece) = self.spill.piece(slot) {
                out.push_piece(piece, aside);
            }
        }
        for child in self.parent.children() {
            out.push(&Entry::Client {
                child: child.child,
                name: self.tally.name(child.child).to_owned(),
                workers: child.workers,
                embedded: self.embedded.contains(&child.child),
            })?;
        }
        for root in self.book.all() {
            out.push(&root)?;
        }
        if self.began_before || !matches!(self.phase, Phase::Gathering) {
            out.push(&Entry::Began)?;
        }
        for run in self.tally.runs() {
            out.push(&Entry::Run(run))?;
        }
        out.push(&Entry::Walk(Box::new(self.tally.walk.clone())))?;
        let mut pushed = Ok(());
        let saved = self.tally.reducer.save(&mut |piece| {
            if pushed.is_ok() {
                pushed = out.push(&Entry::Plugin(piece));
            }
        });
        saved.map_err(JournalError::from)?;
        pushed?;
        out.push(&Entry::Rows(rows))?;
        let segments: Vec<_> = self
            .segments
            .iter()
            .map(|(id, bytes)| (*id, *bytes))
            .collect();
        for some in segments.chunks(SEGMENTS_AT_ONCE) {
            out.push(&Entry::Segments(some.to_vec()))?;
        }
        Ok(out.finish()?)
    }

    /// Notes a change.
    pub(crate) fn note(&mut self, entry: &Entry) -> Result<(), ServerError> {
        match &mut self.journal {
            Some(journal) => Ok(journal.append(entry)?),
            None => Ok(()),
        }
    }

    /// Notes what has changed about the roots.
    pub(crate) fn note_roots(&mut self) -> Result<(), ServerError> {
        for entry in self.book.changes() {
            self.note(&entry)?;
        }
        Ok(())
    }

    pub(crate) fn note_record(&mut self, record: Record) -> Result<(), ServerError> {
        self.note(&Entry::Ledger(record))
    }

    /// Notes where the rows of a commit are. Those in it are taken out where they are written when it is durable.
    pub(crate) fn note_rows(&mut self, session: Epoch, result: &mut Option<Box<Delta>>) {
        if let (Some(outflow), Some(delta)) = (&mut self.outflow, &mut *result)
            && !delta.rows.is_empty()
        {
            outflow.append(std::mem::take(&mut delta.rows));
        }
        let ticket = self.journal.as_ref().map_or(0, Journal::ticket);
        if let (Some(keeper), Some(delta)) = (&mut self.rows, &mut *result) {
            for segment in &delta.segments {
                let id = SegmentId::new(session, segment);
                rows::count(&mut self.segments, id, segment.bytes);
                keeper.named(ticket, id, segment.bytes);
            }
            if !delta.rows.is_empty() {
                keeper.came(ticket, delta.rows.len());
                if self.journal.is_none() {
                    keeper.append(std::mem::take(&mut delta.rows));
                }
            }
        }
        if let (Some(journal), Some(delta)) = (&mut self.journal, result) {
            journal.add_rows(&delta.rows);
            delta.rows = Vec::new();
        }
    }

    /// Whether this has to wait for the disk; if so it is kept. `None` stands for the end of the connection.
    pub(crate) fn hold_back(
        &mut self,
        conn: ConnId,
        message: Option<Down>,
    ) -> Option<Option<Down>> {
        let Some(journal) = &self.journal else {
            return Some(message);
        };
        let is_advice = match &message {
            // A child beats only when it was greeted.
            Some(Down::Beat(_)) => true,
            Some(Down::Pause(_) | Down::Shed(_)) => self.is_greeted(conn),
            _ => false,
        };
        let ticket = journal.ticket();
        if is_advice && matches!(message, Some(Down::Pause(_))) {
            // It would come last and stand.
            let is_older = |held: &Option<Down>| matches!(held, Some(Down::Pause(_)));
            self.held.forget(conn, is_older);
        }
        if is_advice || (self.held.is_empty() && journal.has(ticket)) {
            return Some(message);
        }
        if message.is_none() && !self.held.has_last_word(conn) {
            // Nobody learns anything from that, and what waits for this connection comes again on the next one.
            return Some(message);
        }
        self.held.push(ticket, conn, message);
        None
    }

    /// Sends what has gathered to the disk.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(crate) fn flush(&mut self, now: Time) -> Result<(), ServerError> {
        let wants = self
            .journal
            .as_ref()
            .filter(|journal| journal.wants_snapshot())
            // Not of what an incomplete job sets aside at its end: whoever goes on finds it as it was.
            .filter(|_| !self.is_abandoned());
        let snapshot = match wants.map(Journal::rows) {
            Some(rows) => Some(self.snapshot(rows)?),
            None => None,
        };
        if let Some(journal) = &mut self.journal {
            journal.flush(now, snapshot);
        }
        Ok(())
    }

    /// The disk has answered.
    ///
    /// # Errors
    /// When it does not keep what it is given.
    pub(crate) fn written(&mut self, now: Time, report: Report) -> Result<(), ServerError> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        match journal.written(now, report)? {
            Written::Durable => self.disk_answers(),
            Written::Full if !self.disk_full => {
                self.told_disk = false;
                tracing::warn!(
                    "the disk of the journal is full: the walk pauses until there is room"
                );
                self.disk_full = true;
                self.pause();
            }
            Written::Full => {}
            Written::RoomAgain => {
                tracing::warn!("the disk of the journal has room again: the walk goes on");
                self.disk_full = false;
                self.pause();
            }
        }
        self.release(now);
        self.proceed(now)
    }

    /// Looks whether the disk of the journal answers. The walk pauses while it does not.
    pub(crate) fn look_at_disk(&mut self, now: Time) {
        let stuck_at = self.journal.as_ref().and_then(Journal::stuck_at);
        let is_stuck = stuck_at.is_some_and(|at| now >= at);
        if is_stuck && !std::mem::replace(&mut self.told_disk, true) {
            let pauses = self.what_pauses();
            tracing::warn!(
                "the disk of the journal or of the rows does not answer: the {pauses} until it does"
            );
            self.pause();
        }
    }

    fn disk_answers(&mut self) {
        if std::mem::take(&mut self.told_disk) {
            tracing::warn!("the disk of the journal answers again: the walk goes on");
            self.pause();
        }
    }

    /// Has the walk pause while a disk is full or does not answer, or too many rows wait.
    pub(crate) fn pause(&mut self) {
        let is_full = self.disk_full || self.rows_full;
        let is_told = self.told_disk || self.told_rows;
        let pauses = is_full || is_told || self.is_behind_with_rows();
        self.parent.pause(pauses);
    }

    /// Sends what has waited long enough.
    fn release(&mut self, now: Time) {
        loop {
            let journal = self.journal.as_ref();
            let is_durable = |ticket| journal.is_none_or(|journal| journal.has(ticket));
            let Some(HeldBack { conn, message, .. }) = self.held.pop(is_durable) else {
                return;
            };
            self.deliver(now, conn, message);
        }
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.held.is_empty() && self.journal.as_ref().is_none_or(Journal::is_settled)
    }

    /// Whether clients have to wait with what they have to say.
    pub(crate) fn is_crowded(&self) -> bool {
        let sessions = self.tally.sessions();
        let count = sessions as u64;
        let outflow = self.outflow.as_ref();
        let (keeper, journal) = (self.rows.as_ref(), self.journal.as_ref());
        outflow.is_some_and(|rows| rows.is_crowded(count))
            || keeper.is_some_and(|rows| rows.is_crowded(count))
            || journal.is_some_and(|disk| disk.is_crowded(count))
            || self.held.is_crowded(sessions)
    }
}

/// The file of rows, into which those are written again that may not have come to the disk.
pub(crate) struct RowsFile<'a> {
    file: Option<&'a File>,
    /// What went wrong first.
    outcome: Result<(), ServerError>,
}

impl<'a> RowsFile<'a> {
    pub(crate) fn new(file: Option<&'a File>) -> Self {
        let outcome = Ok(());
        Self { file, outcome }
    }

    fn act(&mut self, act: impl FnOnce(&File) -> Result<(), ServerError>) {
        if let (Some(file), Ok(())) = (self.file, &self.outcome) {
            self.outcome = act(file);
        }
    }

    /// Cuts off what does not count, and has the disk keep the rest.
    ///
    /// # Errors
    /// When this, or anything before it, cannot be done.
    pub(crate) fn end(mut self, length: u64) -> Result<(), ServerError> {
        self.act(|file| {
            let cut = file.set_len(length).and_then(|()| file.sync_data());
            cut.map_err(ServerError::Rows)
        });
        self.outcome
    }
}

impl RowsAgain for RowsFile<'_> {
    fn kept(&mut self, expected: u64) {
        self.act(|file| {
            let found = file.metadata().map_err(ServerError::Rows)?.len();
            match found < expected {
                true => Err(JournalError::RowsLost { found, expected }.into()),
                false => Ok(()),
            }
        });
    }

    fn add(&mut self, at: u64, rows: &[u8]) {
        self.act(|file| file.write_all_at(rows, at).map_err(ServerError::Rows));
    }
}
