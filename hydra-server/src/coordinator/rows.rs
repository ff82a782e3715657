//! Rows on their way out: through the file or pipe that takes them, or as pieces of segments that workers cannot write
//! themselves.

use super::{Coordinator, Phase};
use crate::journal::Journal;
use crate::outcome::{Ending, ServerError};
use crate::rows::{Done, Keeper, Outflow, Store};
use hydra_proto::ids::{ChildId, ConnId, Epoch};
use hydra_proto::ledger::Time;
use hydra_proto::message::{Down, Rows};
use std::fs::File;
use tokio::sync::mpsc;

/// What a client may say in one warning, in characters.
const WARNING_MAX: usize = 1000;

impl Coordinator {
    /// Uses this directory for rows. What is done there comes to `done`.
    ///
    /// # Errors
    /// When its manifest cannot be written.
    pub(crate) fn keep_rows(
        &mut self,
        store: Store,
        done: mpsc::UnboundedSender<Done>,
    ) -> Result<(), ServerError> {
        let sync = self.journal.is_some() && store.spec().sync;
        let streamed = self.journal.as_ref().map_or(0, Journal::rows);
        let (job, segments) = (self.job_id, &self.segments);
        self.rows = Some(Keeper::start(store, job, sync, segments, streamed, done)?);
        Ok(())
    }

    /// Writes rows to this file or pipe. What is done there comes to `done`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub(crate) fn write_rows(
        &mut self,
        file: File,
        done: mpsc::UnboundedSender<Done>,
    ) -> Result<(), ServerError> {
        self.outflow = Some(Outflow::start(file, done).map_err(ServerError::Rows)?);
        Ok(())
    }

    /// Looks whether rows are taken. The walk pauses while too many wait; the user is told if it is for nobody taking any.
    pub(super) fn look_at_rows(&mut self, now: Time) {
        let Some(outflow) = &mut self.outflow else {
            return;
        };
        let news = outflow.look(now);
        let (is_file, is_behind) = (outflow.is_file(), outflow.is_behind());
        let is_stuck = outflow.is_stuck(now) && !self.rows_full;
        if news == Some(false) && std::mem::take(&mut self.told_stuck) {
            let who = match is_file {
                true => "the disk of the rows answers again",
                false => "somebody reads the rows again",
            };
            tracing::warn!("{who}: the walk goes on");
        }
        if news.is_some() {
            self.pause();
            self.acknowledge_late(now);
        }
        let is_waited_for = is_behind || matches!(self.phase, Phase::Ending(_));
        if is_stuck && is_waited_for && !std::mem::replace(&mut self.told_stuck, true) {
            let pauses = self.what_pauses();
            match is_file {
                true => tracing::warn!(
                    "the disk of the rows does not answer: the {pauses} until it does"
                ),
                false => tracing::warn!("nobody reads the rows: the {pauses} until somebody does"),
            }
        }
    }

    /// What the user is told of who does not take what is found.
    pub(crate) fn what_pauses(&self) -> &'static str {
        match self.phase {
            Phase::Ending(_) => "job waits",
            _ => "walk pauses",
        }
    }

    /// When nothing will have been taken for so long that the user is to be told.
    pub(super) fn stuck_timeout(&self) -> Option<Time> {
        if self.told_stuck {
            return None;
        }
        let is_ending = matches!(self.phase, Phase::Ending(_));
        let rows = self.outflow.as_ref();
        let rows = rows.filter(|rows| (rows.is_behind() || is_ending) && !self.rows_full);
        let disk = self.journal.as_ref().and_then(Journal::stuck_at);
        rows.and_then(Outflow::stuck_at).or(disk)
    }

    /// Whether an acknowledgement has to wait until rows are taken: without it their client sends no more than a few
    /// commits. It is kept then.
    pub(super) fn keep_ack(&mut self, conn: ConnId, seq: u64) -> bool {
        let is_behind = self.outflow.as_ref().is_some_and(Outflow::is_behind);
        if is_behind {
            self.late_acks.insert(conn, seq);
        }
        is_behind
    }

    fn acknowledge_late(&mut self, now: Time) {
        for (conn, seq) in std::mem::take(&mut self.late_acks) {
            self.send(now, conn, Some(Down::Ack { seq }));
        }
    }

    /// Whether no rows wait for who takes them.
    pub(super) fn has_written_rows(&self) -> bool {
        self.outflow.as_ref().is_none_or(Outflow::is_settled)
    }

    /// Whether it is no use to wait for who takes them.
    pub(super) fn has_given_rows_up(&self, now: Time) -> bool {
        let outflow = self.outflow.as_ref();
        self.rows_full || outflow.is_some_and(|outflow| outflow.is_stuck(now))
    }

    /// Says how much was not taken.
    pub(super) fn tell_rows_lost(&mut self) {
        let waiting = self.outflow.as_ref().map_or(0, Outflow::waiting);
        if waiting > 0 {
            self.warn(format!(
                "{waiting} bytes of rows are lost: they were found, and could not be written before the job was stopped"
            ));
        }
    }

    /// A client has sent a piece of a segment. Without a directory there is nobody to keep it, and no answer.
    pub(super) fn rows_came(&mut self, now: Time, conn: ConnId, session: Epoch, rows: Rows) {
        match &mut self.rows {
            Some(keeper) => keeper.piece(conn, session, rows),
            None => self.closed(
                now,
                conn,
                Some("it sends rows that nobody wants".to_owned()),
            ),
        }
    }

    /// Something was done about rows.
    ///
    /// # Errors
    /// When rows cannot be kept.
    pub(crate) fn rows_done(&mut self, now: Time, done: Done) -> Result<(), ServerError> {
        if let Some(keeper) = &mut self.rows {
            keeper.done(&done);
        }
        match done {
            Done::Kept(conn, segment) => self.send(now, conn, Some(Down::Kept(segment))),
            Done::Appended => self.outflow.iter_mut().for_each(Outflow::appended),
            Done::Published => {}
            Done::Full => {
                tracing::warn!("the disk of the rows is full: the walk pauses until there is room");
                self.rows_full = true;
                self.pause();
            }
            Done::RoomAgain => {
                tracing::warn!("the disk of the rows has room again: the walk goes on");
                self.rows_full = false;
                self.pause();
            }
            Done::Failed(error) => return Err(error.into()),
            Done::Unwritable(error) => return Err(ServerError::Rows(error)),
        }
        self.proceed(now)
    }

    /// Tells readers which rows have become durable.
    pub(super) fn publish_rows(&mut self) {
        let journal = self.journal.as_ref();
        if let Some(keeper) = &mut self.rows {
            keeper.publish(|ticket| journal.is_none_or(|journal| journal.has(ticket)));
        }
    }

    /// The job is over: only what counts stays, unless somebody may go on with it.
    pub(super) fn end_rows(&mut self) -> Result<(), ServerError> {
        let done = self.ending.is_none() || self.ending == Some(Ending::Done);
        let for_good = done || self.journal.is_none();
        match self.rows.take() {
            Some(keeper) => Ok(keeper.end(&self.segments, done, for_good)?),
            None => Ok(()),
        }
    }

    /// A client has something to say to the user.
    pub(super) fn warned(&mut self, child: ChildId, text: &str) {
        let client = self.tally.name(child).to_owned();
        let text: String = text.chars().take(WARNING_MAX).collect();
        self.warn(format!("client {client}: {text}"));
    }
}
