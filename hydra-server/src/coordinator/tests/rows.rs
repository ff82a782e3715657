//! A coordinator whose disk for rows does not answer, or is full.

use super::*;
use crate::outcome::Outcome;
use crate::rows::{Done, Store};
use hydra_proto::message::Rows;
use hydra_proto::segment::SegmentId;
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::OpenOptions;
use std::path::PathBuf;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const SEGMENT: SegmentId = SegmentId {
    session: 0,
    worker: 1,
    number: 0,
};

/// The disk for the rows of a server.
struct RowsDisk {
    _dir: tempfile::TempDir,
    segment: PathBuf,
    done: UnboundedReceiver<Done>,
}

impl RowsDisk {
    fn new(server: &mut Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let store = Store::create(&path, false).unwrap();
        let segment = path.join(store.spec().segments()).join(SEGMENT.file_name());
        let (sender, done) = unbounded_channel();
        server.coordinator.keep_rows(store, sender).unwrap();
        Self {
            _dir: dir,
            segment,
            done,
        }
    }

    /// Does not answer who opens a segment: it is a pipe without anybody at the other end.
    fn stuck(server: &mut Server) -> Self {
        let disk = Self::new(server);
        mkfifoat(CWD, &disk.segment, Mode::RWXU).unwrap();
        disk
    }

    /// The same, with so many pieces for it that nothing more is read.
    fn crowded(server: &mut Server) -> Self {
        let disk = Self::stuck(server);
        let keeper = server.coordinator.rows.as_mut().unwrap();
        let (job, number) = (JobId(0), SEGMENT.session);
        for at in 0..300 {
            let rows = Rows {
                worker: SEGMENT.worker,
                number: SEGMENT.number,
                at,
                bytes: b"\n".to_vec(),
            };
            keeper.piece(ConnId(0), Epoch { job, number }, rows);
        }
        disk
    }
}

impl Drop for RowsDisk {
    fn drop(&mut self) {
        // Lets a thread go that waits at the pipe.
        let _ = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.segment);
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

    /// Everything is walked, and everybody has let go.
    fn is_done(&mut self) {
        self.coordinator.end(NOW, Ending::Done);
        self.coordinator.proceed(NOW).unwrap();
    }
}

#[tokio::test]
async fn clients_that_were_not_read_from_were_taken_for_silent() {
    let mut server = Server::new(false);
    server.join(Origin::Accepted, seen());
    let _disk = RowsDisk::crowded(&mut server);
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
}

#[tokio::test]
async fn a_job_ended_for_want_of_clients_that_could_not_come_back() {
    let mut server = Server::new(false);
    let conn = server.join(Origin::Accepted, seen());
    server.handle(NOW, Event::Closed(conn, None));
    let _disk = RowsDisk::crowded(&mut server);
    let timing = server.coordinator.job.timing;
    let time = server.coordinator.client_timeout + timing.grace;
    server.is_deaf_for(time * 2);
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    assert_eq!(server.coordinator.parent.children().count(), 1);
}

/// What came of a job that has ended.
fn outcome(server: Server) -> Outcome {
    assert_eq!(server.coordinator.phase(), Phase::Over);
    server.coordinator.finish().unwrap()
}

#[tokio::test]
async fn the_first_interrupt_did_nothing_where_the_disk_of_the_rows_hung_at_the_end() {
    let mut server = Server::new(false);
    let _disk = RowsDisk::stuck(&mut server);
    server.coordinator.segments.insert(SEGMENT, 4);
    server.is_done();
    let coordinator = &mut server.coordinator;
    let late = NOW + Duration::from_secs(3600);
    coordinator.tick(late).unwrap();
    assert_eq!(coordinator.poll_timeout(), None);
    assert!(coordinator.told_rows && coordinator.phase() != Phase::Over);
    coordinator.interrupt(late).unwrap();
    assert_eq!(coordinator.poll_timeout(), Some(late + LETTING_GO));
    coordinator.tick(late + LETTING_GO).unwrap();
    let outcome = outcome(server);
    assert_eq!(outcome.ending, Ending::Interrupted);
    assert_eq!(
        outcome.warnings,
        ["the directory of the rows is left as it is: its disk does not answer"]
    );
}

#[tokio::test]
async fn a_job_is_over_when_its_rows_are_brought_to_their_end() {
    let mut server = Server::new(false);
    let mut disk = RowsDisk::new(&mut server);
    server.is_done();
    assert_ne!(server.coordinator.phase(), Phase::Over);
    let done = disk.done.recv().await.unwrap();
    server.coordinator.rows_done(NOW, done).unwrap();
    let outcome = outcome(server);
    assert_eq!(outcome.ending, Ending::Done);
    assert!(outcome.warnings.is_empty());
}

#[tokio::test]
async fn an_interrupt_on_a_full_disk_ended_without_a_report() {
    let mut server = Server::new(false);
    let _disk = RowsDisk::stuck(&mut server);
    server.coordinator.segments.insert(SEGMENT, 4);
    server.coordinator.interrupt(NOW).unwrap();
    assert_ne!(server.coordinator.phase(), Phase::Over);
    let (is_done, lost) = (false, 5);
    let ended = Done::Ended { is_done, lost };
    server.coordinator.rows_done(NOW, ended).unwrap();
    let outcome = outcome(server);
    assert_eq!(outcome.ending, Ending::Interrupted);
    assert_eq!(
        outcome.warnings,
        [
            "5 bytes of rows are lost: they were found, and could not be written before the job was stopped",
            "the directory of the rows is left as it is: its disk is full"
        ]
    );
}
