//! Where entries take long, others get a part of what a worker has in hand, whenever its next commit is due.

mod common;

use common::*;
use hydra_proto::ids::{ItemId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use std::time::Duration;

const FILES: usize = 200;

/// How many entries each worker is shown of one directory, where an entry takes each of them so long.
fn shared_by(takes: &[Duration]) -> Vec<u64> {
    let dir = scratch();
    flat(dir.path(), FILES);
    let mut job = job(dir.path());
    job.timing.commit_interval = PATIENCE;
    let mut cluster = Cluster::new(job);
    let slow = |&slow| Paths {
        slow,
        ..Paths::default()
    };
    let mut conns = Vec::new();
    for takes in takes {
        conns.push(cluster.worker(slow(takes)));
        // The first has said that it will need more when the others come.
        cluster.until(|cluster| cluster.beats > 0);
    }
    cluster.finish();
    assert_eq!(cluster.walk.files, FILES as u64);
    let entries = |conn: &_| cluster.entries.get(conn).copied().unwrap_or_default();
    conns.iter().map(entries).collect()
}

#[test]
fn a_slow_directory_was_one_workers_until_its_commit_was_due() {
    let shares = shared_by(&[Duration::from_millis(2); 3]);
    assert!(shares.iter().all(|&share| share > 10), "{shares:?}");
}

#[test]
fn a_slow_piece_of_names_was_one_workers_until_its_commit_was_due() {
    let shares = shared_by(&[1, 20].map(Duration::from_millis));
    assert!(shares[1] < FILES as u64 / 4, "{shares:?}");
}

#[test]
fn one_who_had_given_its_last_directory_never_said_that_it_could_share() {
    let dir = scratch();
    for (name, files) in [("one", 1), ("many", FILES)] {
        let below = dir.path().join(name);
        std::fs::create_dir(&below).unwrap();
        flat(&below, files);
    }
    let mut job = job(dir.path());
    job.timing.commit_interval = PATIENCE;
    let mut cluster = Cluster::empty(job);
    let dirs = Dirs {
        first: ItemId(cluster.parent.take_ids(2).unwrap().start),
        root: RootId(0),
        dir: Vec::new(),
        names: NameList::from_iter([&b"one"[..], b"many"]),
    };
    cluster.parent.add(vec![Parcel::Dirs(dirs)], false);
    let slow = || Paths {
        slow: Duration::from_millis(2),
        ..Paths::default()
    };
    let owner = cluster.worker(slow());
    // It has taken up the second directory, and holds the first.
    cluster.until(|cluster| cluster.beats > 0);
    let other = cluster.worker(slow());
    cluster.finish();
    let entries = [owner, other].map(|conn| cluster.entries[&conn]);
    assert!(entries[1] > FILES as u64 / 4, "{entries:?}");
}
