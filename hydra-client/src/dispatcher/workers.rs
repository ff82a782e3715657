//! What workers say, how they end, and what the ledger has to say to them.

use super::{Dispatcher, PUT_BY_MAX};
use crate::worker::Exit;
use hydra_proto::ids::{ConnId, ItemId};
use hydra_proto::ledger::{Action, Time};
use hydra_proto::message::{Delta, Down, Up};
use tracing::{debug, trace, warn};

impl Dispatcher {
    pub(super) fn worker_said(&mut self, now: Time, conn: ConnId, message: Up) {
        trace!(?conn, ?message);
        match message {
            Up::Commit(_) | Up::Part(_) if self.job.is_some() => {
                self.put_by.push_back((conn, message));
            }
            Up::Leave(reason) => self.worker_left(now, conn, &reason),
            other => self.relay.worker_message(now, conn, other),
        }
        if self.put_by.len() > PUT_BY_MAX {
            self.dismiss(now, conn);
        }
    }

    pub(super) fn worker_exited(&mut self, now: Time, exit: &Exit) {
        if let Some(job) = &mut self.job {
            job.breakers.reaped(exit.conn);
            job.breakers.moves(exit.conn);
        }
        self.left_behind.retain(|_, workers| {
            workers.remove(&exit.conn);
            !workers.is_empty()
        });
        if self.crew.exited(now, exit.conn, &exit.reason) {
            self.apply_last(now, exit.conn);
            self.put_by.retain(|(from, _)| *from != exit.conn);
            self.forget_rows(exit.conn);
            let (conn, in_hand) = (exit.conn, exit.in_hand);
            self.relay.worker_died(now, conn, in_hand, &exit.reason);
            self.count_lost_worker();
        }
    }

    /// A worker says that it cannot go on: because of what it has in hand, if anything.
    fn worker_left(&mut self, now: Time, conn: ConnId, reason: &str) {
        warn!(reason, "a worker cannot go on");
        let in_hand = self.crew.in_hand(conn);
        if in_hand.is_none() {
            self.crew.note_refusal(reason);
        }
        self.apply_last(now, conn);
        self.dismiss_for(now, conn, in_hand, reason);
    }

    /// What a worker committed before its end counts, as far as there is room; the rest is done again.
    fn apply_last(&mut self, now: Time, conn: ConnId) {
        while let Some(index) = self.put_by.iter().position(|(from, _)| *from == conn)
            && !self.is_full(self.put_by.get(index))
            && let Some((_, message)) = self.put_by.remove(index)
        {
            self.apply(now, conn, message);
        }
    }

    pub(super) fn count_lost_worker(&mut self) {
        if let Some(job) = &mut self.job {
            job.results.lost_worker();
            self.relay.note_result();
        }
    }

    pub(super) fn dismiss(&mut self, now: Time, conn: ConnId) {
        self.dismiss_for(now, conn, None, "it was given up");
    }

    pub(super) fn dismiss_for(
        &mut self,
        now: Time,
        conn: ConnId,
        in_hand: Option<ItemId>,
        reason: &str,
    ) {
        self.put_by.retain(|(from, _)| *from != conn);
        self.forget_rows(conn);
        self.moves(conn);
        if self.crew.dismiss(now, conn, reason) {
            self.relay.worker_died(now, conn, in_hand, reason);
            self.count_lost_worker();
        }
    }

    pub(super) fn perform_for_worker(&mut self, now: Time, action: Action) {
        match action {
            Action::Send { conn, message } => self.send_to_worker(now, conn, message),
            Action::Close { conn } => self.dismiss(now, conn),
            Action::Joined { conn, .. } => self.crew.born(now, conn),
            Action::Applied { result, .. } => self.work_done(now, result),
            Action::Lost { child, reason } => {
                debug!(
                    child = child.0,
                    reason, "a worker's work goes back to the pool"
                );
            }
            Action::Rows { conn, rows, .. } => self.rows_came(conn, rows),
            Action::Warning { text, .. } => self.relay.send(Up::Warning(text)),
            Action::Log { lines, .. } => lines.into_iter().for_each(|line| self.keep_line(line)),
            // Workers do not come back, and see what their client sees; a client keeps no journal.
            Action::Back { .. }
            | Action::Sees { .. }
            | Action::Record(_)
            | Action::KeptInMemory(_)
            | Action::NotReadBack(_) => {}
        }
    }

    pub(super) fn send_to_worker(&mut self, now: Time, conn: ConnId, mut message: Down) {
        match (&mut message, &self.job) {
            (Down::Welcome(welcome), Some(job)) => welcome.job = job.spec.clone(),
            (Down::Grant(grant), _) if !grant.items.is_empty() => self.crew.at_work(now),
            _ => {}
        }
        if !self.crew.send(conn, message) {
            self.dismiss(now, conn);
        }
    }

    pub(super) fn work_done(&mut self, now: Time, result: Option<Box<Delta>>) {
        self.crew.works();
        if let (Some(delta), Some(job)) = (result, &mut self.job)
            && let Err(error) = job.results.add(*delta)
        {
            self.give_up(now, error.to_string());
        }
    }
}
