//! Rows that workers send because they cannot write them in place: passed on to the server, and its answers back.

use super::Dispatcher;
use hydra_proto::ids::ConnId;
use hydra_proto::ledger::Time;
use hydra_proto::message::{Down, Rows, Up};
use hydra_proto::segment::Segment;

impl Dispatcher {
    /// A worker has sent a piece.
    pub(super) fn rows_came(&mut self, conn: ConnId, rows: Rows) {
        if let Some(job) = &mut self.job {
            job.pieces.add(conn, rows);
        }
        self.send_rows();
    }

    /// The server keeps a piece: its worker may send more.
    pub(super) fn rows_kept(&mut self, now: Time, segment: Segment) {
        let conn = self.job.as_mut().and_then(|job| job.pieces.kept(&segment));
        if let Some(conn) = conn {
            self.send_to_worker(now, conn, Down::Kept(segment));
        }
        self.send_rows();
    }

    /// Sends what may be on its way.
    pub(super) fn send_rows(&mut self) {
        if !self.relay.uplink().is_open() {
            return;
        }
        while let Some(rows) = self.job.as_mut().and_then(|job| job.pieces.next()) {
            self.relay.send(Up::Rows(rows));
        }
    }

    pub(super) fn forget_rows(&mut self, conn: ConnId) {
        if let Some(job) = &mut self.job {
            job.pieces.forget(conn);
        }
        self.send_rows();
    }
}
