//! Rows that do not come inside commits: pieces of segments that workers cannot write themselves.

use super::Coordinator;
use crate::journal::Journal;
use crate::outcome::{Ending, ServerError};
use crate::rows::{Done, Keeper, Store};
use hydra_proto::ids::{ChildId, ConnId, Epoch};
use hydra_proto::ledger::Time;
use hydra_proto::message::{Down, Rows};
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
            Done::Appended | Done::Published => {}
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
