//! The session itself: how it begins, pauses and ends.

mod common;

use common::*;
use hydra_proto::codec;
use hydra_proto::frame;
use hydra_proto::message::Down;
use hydra_worker::{Entry, Identity, Session, Sink, Visit, Wants, WorkerError};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Says when it is shown the first entry, and then waits to be let go.
struct Hang(Sender<()>, Receiver<()>);

impl Visit for Hang {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn entry(&mut self, _: &Entry<'_>, _: &mut Sink<()>) {
        let _ = self.0.send(());
        let _ = self.1.recv();
    }
}

#[test]
fn the_end_of_the_channel_ends_a_worker_whose_plugin_hangs() {
    let dir = scratch();
    tree(dir.path(), 2, 2, 2);
    let mut cluster = Cluster::new(job(dir.path()));
    let (told, hears) = channel();
    let (release, released) = channel();
    let conn = cluster.worker(Hang(told, released));
    cluster.until(|_| hears.try_recv().is_ok());
    let begun = Instant::now();
    cluster.kill(conn, None);
    cluster.stop();
    // The plugin would have hung until now.
    assert!(begun.elapsed() < PATIENCE);
    drop(release);
}

#[test]
fn a_worker_gives_from_its_record_while_its_plugin_hangs() {
    let dir = scratch();
    tree(dir.path(), 3, 1, 1);
    let mut cluster = Cluster::new(job(dir.path()));
    let (told, hears) = channel();
    let (release, released) = channel();
    // It is shown the root, four entries in it, and hangs in the first of them; then its record is one item.
    let hanging = cluster.worker(Hang(told, released));
    for _ in 0..5 {
        cluster.until(|_| hears.try_recv().is_ok());
        release.send(()).unwrap();
    }
    // Let the commit interval pass, so that what it found goes on record.
    cluster.until(|_| hears.try_recv().is_ok());
    release.send(()).unwrap();
    let waiting = cluster.worker(Paths::default());
    cluster.until(|cluster| cluster.gives > 0 || cluster.parent.is_done());
    drop(release);
    cluster.until(|cluster| cluster.parent.is_done());
    cluster.stop();
    assert_ne!(hanging, waiting);
    assert_eq!(cluster.walk.entries, oracle(dir.path()).len() as u64);
}

#[test]
fn a_paused_worker_takes_nothing_new_and_goes_on_later() {
    let dir = scratch();
    tree(dir.path(), 4, 4, 3);
    let mut cluster = Cluster::new(job(dir.path()));
    let worker = cluster.worker(Paths::default());
    cluster.until(|cluster| cluster.walk.entries > 0 || cluster.parent.is_done());
    cluster.pause(true);
    let mut quiet = Instant::now();
    let mut seen = 0;
    cluster.until(|cluster| {
        if cluster.walk.entries != seen {
            seen = cluster.walk.entries;
            quiet = Instant::now();
        }
        quiet.elapsed() > Duration::from_millis(300)
    });
    cluster.pause(false);
    cluster.finish();
    assert_same(&cluster.paths(b'e'), &oracle(dir.path()));
    assert_eq!(cluster.entries[&worker], cluster.walk.entries);
}

/// Answers a greeting with these bytes.
fn answered(bytes: Vec<u8>) -> Result<(), WorkerError> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let parent = std::thread::spawn(move || {
        let _ = ours.read(&mut [0; 4096]);
        let _ = ours.write_all(&bytes);
        ours
    });
    let session = Session::open(OwnedFd::from(theirs), Identity::default());
    drop(parent.join());
    session.map(|_| ())
}

#[test]
fn bytes_that_are_no_protocol_end_the_session() {
    let outcome = answered(vec![0xff; 64]);
    assert!(
        matches!(outcome, Err(WorkerError::Protocol(_))),
        "{outcome:?}"
    );
    let mut garbage = Vec::new();
    frame::encode(b"garbage", &mut garbage).unwrap();
    let outcome = answered(garbage);
    assert!(
        matches!(outcome, Err(WorkerError::Protocol(_))),
        "{outcome:?}"
    );
}

#[test]
fn a_refusal_is_handed_on() {
    let refusal = Down::Refused(hydra_proto::message::Refusal::JobOver);
    let mut bytes = Vec::new();
    frame::encode(&codec::encode(&refusal).unwrap(), &mut bytes).unwrap();
    let outcome = answered(bytes);
    assert!(
        matches!(outcome, Err(WorkerError::Refused(_))),
        "{outcome:?}"
    );
}

#[test]
fn a_parent_that_says_nothing_is_given_up() {
    let silence = answered(Vec::new());
    assert!(
        matches!(silence, Err(WorkerError::Refused(_))),
        "{silence:?}"
    );
}

#[test]
fn a_bad_glob_makes_the_worker_leave_with_a_reason() {
    let dir = scratch();
    let mut spec = job(dir.path());
    spec.walk.excludes = vec!["a[".to_owned()];
    let mut cluster = Cluster::new(spec);
    cluster.tolerant = true;
    cluster.worker(Paths::default());
    cluster.until(|cluster| !cluster.lost.is_empty());
    assert!(cluster.lost[0].contains("a["), "{:?}", cluster.lost);
}
