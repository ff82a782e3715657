//! A coordinator that reads nothing more from its clients, since too much waits for a disk.

use super::*;
use crate::rows::Store;
use hydra_proto::message::Rows;
use hydra_proto::segment::SegmentId;
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::File;
use std::path::PathBuf;

/// Rows that wait for a disk that does not answer: a pipe without a reader, where who opens it waits.
struct Stuck {
    _dir: tempfile::TempDir,
    pipe: PathBuf,
}

impl Stuck {
    fn new(server: &mut Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let store = Store::create(&path, false).unwrap();
        let (session, worker, number) = (0, 1, 0);
        let id = SegmentId {
            session,
            worker,
            number,
        };
        let pipe = path.join(store.spec().segments()).join(id.file_name());
        mkfifoat(CWD, &pipe, Mode::RWXU).unwrap();
        let (done, _) = tokio::sync::mpsc::unbounded_channel();
        let coordinator = &mut server.coordinator;
        coordinator.keep_rows(store, done).unwrap();
        let keeper = coordinator.rows.as_mut().unwrap();
        for at in 0..300 {
            let bytes = b"\n".to_vec();
            let rows = Rows {
                worker,
                number,
                at,
                bytes,
            };
            let job = JobId(0);
            keeper.piece(ConnId(0), Epoch { job, number: 0 }, rows);
        }
        Self { _dir: dir, pipe }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Lets the thread go.
        let _ = File::open(&self.pipe);
    }
}

impl Server {
    /// So much time passes in which nothing is read. Returns when it ends.
    fn is_deaf_for(&mut self, time: Duration) -> Time {
        let step = self.coordinator.dead_after() / 4;
        let mut now = NOW;
        while now < NOW + time {
            now += step;
            assert!(!self.coordinator.hears(now));
            self.coordinator.tick(now).unwrap();
        }
        now
    }

    fn is_connected(&self) -> bool {
        let mut children = self.coordinator.parent.children();
        children.any(|view| view.connected)
    }
}

#[tokio::test]
async fn clients_that_were_not_read_from_were_taken_for_silent() {
    let mut server = Server::new(false);
    server.join(Origin::Accepted, seen());
    let stuck = Stuck::new(&mut server);
    let dead_after = server.coordinator.dead_after();
    let now = server.is_deaf_for(dead_after * 3);
    assert!(server.is_connected());
    // From then on it counts again.
    server.coordinator.rows = None;
    assert!(server.coordinator.hears(now));
    let early = now + dead_after - Duration::from_millis(1);
    server.coordinator.tick(early).unwrap();
    assert!(server.coordinator.hears(early) && server.is_connected());
    server.coordinator.tick(now + dead_after).unwrap();
    assert!(!server.is_connected());
    drop(stuck);
}

#[tokio::test]
async fn a_job_ended_for_want_of_clients_that_could_not_come_back() {
    let mut server = Server::new(false);
    let conn = server.join(Origin::Accepted, seen());
    server.handle(NOW, Event::Closed(conn, None));
    let stuck = Stuck::new(&mut server);
    let timing = server.coordinator.job.timing;
    let time = server.coordinator.client_timeout + timing.grace;
    server.is_deaf_for(time * 2);
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    assert_eq!(server.coordinator.parent.children().count(), 1);
    drop(stuck);
}
