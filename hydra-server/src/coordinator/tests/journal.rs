//! A coordinator with a journal: what waits for its disk, and how a job goes on.

use super::*;
use crate::durable::RowsFile;
use crate::journal::{Durability, NoSum, Report, StateDir, replay};

/// A server with a journal in this directory, and what it hears of its disk.
fn journaled() -> (
    tempfile::TempDir,
    Server,
    tokio::sync::mpsc::Receiver<Report>,
) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::create(dir.path(), Durability::Os, Vec::new()).unwrap();
    let (reports, written) = tokio::sync::mpsc::channel(1);
    let mut server = Server::new(false);
    let coordinator = &mut server.coordinator;
    coordinator.keep_journal(NOW, state, reports).unwrap();
    (dir, server, written)
}

#[tokio::test]
async fn clients_of_one_name_were_one_client_in_the_journal() {
    let (dir, mut server, mut written) = journaled();
    server.join_as("vm", 2, Origin::Accepted, seen());
    server.join_as("vm", 1, Origin::Accepted, seen());
    server.coordinator.flush(NOW).unwrap();
    let report = written.recv().await.unwrap();
    server.coordinator.written(NOW, report).unwrap();
    let journal = std::fs::File::open(dir.path().join("journal")).unwrap();
    let rows = &mut RowsFile::new(None);
    let restored = replay(dir.path(), &journal, &bare_parent, Box::new(NoSum), rows).unwrap();
    assert_eq!(restored.tally.runs(), server.coordinator.tally.runs());
    assert_eq!(restored.tally.name(ChildId(1)), "vm (2)");
}

#[tokio::test]
async fn a_journal_whose_disk_does_not_answer_was_waited_for_in_silence() {
    let (_dir, mut server, mut written) = journaled();
    server.join(Origin::Dialled(0), seen());
    let coordinator = &mut server.coordinator;
    coordinator.flush(NOW).unwrap();
    let late = coordinator.stuck_timeout().unwrap();
    coordinator.tick(late - Duration::from_millis(1)).unwrap();
    assert!(!coordinator.told_disk);
    // Not, if the server itself stood still.
    coordinator.held_up(late);
    coordinator.tick(late).unwrap();
    assert!(!coordinator.told_disk);
    let late = coordinator.stuck_timeout().unwrap();
    coordinator.tick(late).unwrap();
    assert!(coordinator.told_disk && coordinator.stuck_timeout().is_none());
    let report = written.recv().await.unwrap();
    coordinator.written(late, report).unwrap();
    assert!(!coordinator.told_disk && coordinator.stuck_timeout().is_none());
}

#[tokio::test]
async fn what_was_held_for_a_connection_outlived_it() {
    let (_dir, mut server, _written) = journaled();
    server.join(Origin::Dialled(0), seen());
    // The disk has it, and does not answer.
    server.coordinator.flush(NOW).unwrap();
    assert!(!server.coordinator.held.is_empty());
    server.handle(NOW, Event::Closed(ConnId(0), None));
    assert!(server.coordinator.held.is_empty());
    let again = server.connect(NOW, Origin::Dialled(0));
    server.say(NOW, again, resume(false));
    // It is told why before its connection ends, which waits for that.
    assert!(server.coordinator.held.has_last_word(again));
    assert!(server.coordinator.conns.contains_key(&again));
}

#[tokio::test]
async fn the_end_of_a_silent_connection_waited_for_the_disk() {
    let (_dir, mut server, _written) = journaled();
    let conn = server.join(Origin::Accepted, seen());
    server.coordinator.flush(NOW).unwrap();
    let late = NOW + server.coordinator.job.timing.dead_after;
    server.coordinator.tick(late).unwrap();
    assert!(!server.coordinator.conns.contains_key(&conn));
    assert!(server.coordinator.held.is_empty());
}

/// The server whose journal is in this directory, as it is resumed.
fn resumed(dir: &tempfile::TempDir) -> Server {
    let state = StateDir::open(dir.path(), Durability::Os).unwrap();
    let mut server = Server::new(false);
    let (reports, _) = tokio::sync::mpsc::channel(1);
    let coordinator = &mut server.coordinator;
    coordinator.keep_journal(NOW, state, reports).unwrap();
    server
}

#[tokio::test]
async fn a_resumed_server_was_gone_again_before_its_clients_were_back() {
    let (dir, mut server, mut written) = journaled();
    server.join(Origin::Dialled(0), seen());
    assert_eq!(server.coordinator.phase(), Phase::Walking);
    server.coordinator.flush(NOW).unwrap();
    written.recv().await.unwrap();
    drop(server);
    let mut server = resumed(&dir);
    let timeouts = server.coordinator.timeouts;
    let early = NOW + timeouts.connect + timeouts.handshake;
    let reason = "nothing answers".to_owned();
    let refused = Event::Unreachable {
        client: 0,
        reason,
        last: false,
    };
    server.handle(early, refused);
    server.coordinator.tick(early).unwrap();
    assert_eq!(server.coordinator.phase(), Phase::Gathering);
    let late = NOW + server.coordinator.client_timeout;
    assert!(server.coordinator.gathering.deadline() == Some(late));
    server.coordinator.tick(late).unwrap();
    let outcome = server.coordinator.finish().unwrap();
    let ending = Ending::Incomplete("no client has come back".to_owned());
    assert_eq!(outcome.ending, ending);
    let warned = "client host1:8101 has not come back: nothing answers";
    assert!(
        outcome.warnings.iter().any(|text| text == warned),
        "{:?}",
        outcome.warnings
    );
    // What it ended with is not for ever.
    let restored = resumed(&dir);
    assert_eq!(restored.coordinator.parent.counts().aside, 0);
    assert!(restored.coordinator.began_before);
}

#[tokio::test]
async fn a_resumed_server_that_nobody_can_come_back_to_ends_at_once() {
    let (dir, mut server, mut written) = journaled();
    server.join(Origin::Dialled(0), seen());
    server.coordinator.flush(NOW).unwrap();
    written.recv().await.unwrap();
    drop(server);
    let mut server = resumed(&dir);
    let conn = server.connect(NOW, Origin::Dialled(0));
    server.say(NOW, conn, busy_with(Some(JobId(0))));
    let outcome = server.coordinator.finish().unwrap();
    let ending = Ending::Incomplete("no client has come back".to_owned());
    assert_eq!(outcome.ending, ending);
}
