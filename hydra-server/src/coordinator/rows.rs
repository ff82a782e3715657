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

/// How it stands with rows.
struct Look {
    /// Whether too many wait, if that is news.
    news: Option<bool>,
    /// What the user was told is true no longer.
    is_well: bool,
    is_behind: bool,
    /// Somebody may wait for them though they are few.
    holds_up: bool,
    /// When nothing will have been taken for too long.
    stuck_at: Option<Time>,
    is_disk: bool,
}

/// What a client may say in one warning, in characters.
pub(super) const WARNING_MAX: usize = 1000;

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
        let Some(look) = self.rows_looked_at(now) else {
            return;
        };
        let is_ending = matches!(self.phase, Phase::Ending(_));
        if look.is_well && std::mem::take(&mut self.told_rows) && !is_ending {
            let who = match look.is_disk {
                true => "the disk of the rows answers again",
                false => "somebody reads the rows again",
            };
            tracing::warn!("{who}: the walk goes on");
            self.pause();
        }
        if look.news.is_some() {
            self.pause();
            self.acknowledge_late(now);
        }
        let is_waited_for = look.is_behind || look.holds_up || is_ending;
        let is_stuck = look.stuck_at.is_some_and(|at| now >= at) && !self.rows_full;
        if is_stuck && is_waited_for && !std::mem::replace(&mut self.told_rows, true) {
            let pauses = self.what_pauses();
            match look.is_disk {
                true => tracing::warn!(
                    "the disk of the rows does not answer: the {pauses} until it does"
                ),
                false => tracing::warn!("nobody reads the rows: the {pauses} until somebody does"),
            }
            self.pause();
        }
    }

    fn rows_looked_at(&mut self, now: Time) -> Option<Look> {
        if let Some(outflow) = &mut self.outflow {
            let news = outflow.look(now);
            return Some(Look {
                news,
                // Not as soon as somebody takes some: who turns a page has them wait again.
                is_well: news == Some(false) || outflow.is_settled(),
                is_behind: outflow.is_behind(),
                holds_up: false,
                stuck_at: outflow.stuck_at(),
                is_disk: outflow.is_file(),
            });
        }
        let keeper = self.rows.as_mut()?;
        let news = keeper.look(now);
        let stuck_at = keeper.stuck_at();
        Some(Look {
            news,
            is_well: stuck_at.is_none_or(|at| now < at),
            is_behind: keeper.is_behind(),
            // Workers wait until it is said that their pieces are kept.
            holds_up: true,
            stuck_at,
            is_disk: true,
        })
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
        let is_ending = matches!(self.phase, Phase::Ending(_));
        let outflow = self.outflow.as_ref();
        let outflow = outflow.filter(|rows| rows.is_behind() || is_ending);
        let outflow = outflow.and_then(Outflow::stuck_at);
        let rows = outflow.or_else(|| self.rows.as_ref().and_then(Keeper::stuck_at));
        let rows = rows.filter(|_| !self.told_rows && !self.rows_full);
        let disk = self.journal.as_ref().and_then(Journal::stuck_at);
        let disk = disk.filter(|_| !self.told_disk);
        [rows, disk].into_iter().flatten().min()
    }

    /// Whether an acknowledgement has to wait until rows are taken: without it their client sends no more than a few
    /// commits. It is kept then.
    pub(super) fn keep_ack(&mut self, conn: ConnId, seq: u64) -> bool {
        let is_behind = self.is_behind_with_rows();
        if is_behind {
            self.late_acks.insert(conn, seq);
        }
        is_behind
    }

    /// Whether too many rows wait.
    pub(crate) fn is_behind_with_rows(&self) -> bool {
        let outflow = self.outflow.as_ref().is_some_and(Outflow::is_behind);
        outflow || self.rows.as_ref().is_some_and(Keeper::is_behind)
    }

    fn acknowledge_late(&mut self, now: Time) {
        for (conn, seq) in std::mem::take(&mut self.late_acks) {
            self.send(now, conn, Some(Down::Ack { seq }));
        }
    }

    /// Whether no rows wait for who takes them.
    pub(super) fn has_written_rows(&self) -> bool {
        let outflow = self.outflow.as_ref().is_none_or(Outflow::is_settled);
        outflow && self.rows.as_ref().is_none_or(Keeper::is_settled)
    }

    /// Whether it is no use to wait for who takes them.
    pub(super) fn has_given_rows_up(&self, now: Time) -> bool {
        self.rows_full || self.rows_stuck_at().is_some_and(|at| now >= at)
    }

    /// When nothing will have been taken for too long.
    pub(super) fn rows_stuck_at(&self) -> Option<Time> {
        let outflow = self.outflow.as_ref().and_then(Outflow::stuck_at);
        outflow.or_else(|| self.rows.as_ref().and_then(Keeper::stuck_at))
    }

    /// Says how much was not taken.
    pub(super) fn tell_rows_lost(&mut self) {
        let waiting = self.outflow.as_ref().map_or(0, Outflow::waiting);
        if waiting > 0 {
            self.warn_of_lost_rows(waiting);
        }
    }

    fn warn_of_lost_rows(&mut self, bytes: u64) {
        self.warn(format!(
            "{bytes} bytes of rows are lost: they were found, and could not be written before the job was stopped"
        ));
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
            Done::Ended { is_done, lost } => self.rows_ended(is_done, lost),
            Done::Full => {
                let pauses = self.what_pauses();
                tracing::warn!("the disk of the rows is full: the {pauses} until there is room");
                self.rows_full = true;
                self.pause();
            }
            Done::RoomAgain => {
                let what = match self.phase {
                    Phase::Ending(_) => "job",
                    _ => "walk",
                };
                tracing::warn!("the disk of the rows has room again: the {what} goes on");
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

    /// The job is over: only what counts stays in the directory for rows, unless somebody may go on with it. Returns
    /// whether that has to be waited for.
    pub(super) fn end_rows(&mut self) -> bool {
        let done = self.ending == Some(Ending::Done);
        // What is set aside is missing, as the report says.
        let complete = done && self.parent.counts().aside == 0;
        let for_good = done || self.journal.is_none();
        let is_settled = self.is_settled();
        let Some(keeper) = &mut self.rows else {
            return false;
        };
        let obstacle = match keeper.is_ending() {
            true => Some("its disk does not answer"),
            // The manifest would count what is not durable.
            false if !is_settled => Some("the disk of the journal has not taken all"),
            false => None,
        };
        if let Some(obstacle) = obstacle {
            self.rows = None;
            self.leave_rows(obstacle);
            return false;
        }
        if self.ending == Some(Ending::Interrupted) {
            keeper.stop();
        }
        keeper.end(&self.segments, complete, for_good);
        true
    }

    /// Whether nothing but the end of the directory for rows is waited for.
    pub(super) fn ends_rows(&self) -> bool {
        self.rows.as_ref().is_some_and(Keeper::is_ending)
    }

    /// The directory has been brought to its end, as far as there was room.
    fn rows_ended(&mut self, is_done: bool, lost: u64) {
        self.rows = None;
        self.phase = Phase::Over;
        if lost > 0 {
            self.warn_of_lost_rows(lost);
        }
        if !is_done {
            self.leave_rows("its disk is full");
        }
    }

    fn leave_rows(&mut self, reason: &str) {
        self.warn(format!(
            "the directory of the rows is left as it is: {reason}"
        ));
    }

    /// A client has something to say to the user.
    pub(super) fn warned(&mut self, child: ChildId, text: &str) {
        let client = self.tally.name(child).to_owned();
        let text: String = text.chars().take(WARNING_MAX).collect();
        self.warn(format!("client {client}: {text}"));
    }
}
