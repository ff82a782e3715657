//! The targets under seeded bytes, and the seed files that both ways of fuzzing begin with.

use super::super::Entry;
use super::*;
use hydra_proto::ids::{ChildId, Epoch, IdRange, Secret};
use hydra_proto::ledger::{Granted, Opened, State};
use std::fs;

#[path = "../../../../fuzz/driver.rs"]
mod driver;

use driver::{drive, seed_dir, seeds};

#[test]
fn damage() {
    drive("damage", super::damage);
}

#[test]
fn entries() {
    drive("entries", super::entries);
}

/// What the seed files hold, by target and name.
fn fresh() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let framed = |payload: Vec<u8>| {
        let length = u16::try_from(payload.len()).unwrap();
        [&length.to_le_bytes()[..], &payload].concat()
    };
    let (mut job, _) = Job::new();
    let log: Vec<_> = (0..3).map(|_| framed(payload(&job.step()))).collect();
    let mut snapshot = beginning();
    let last = snapshot.last_mut().unwrap();
    job.parent.snapshot(&mut |record| {
        last.extend_from_slice(&payload(&[Entry::Ledger(record)]));
    });
    let snapshot: Vec<_> = snapshot.into_iter().map(framed).collect();
    vec![
        ("damage", "cut", vec![0, 0x01, 0x05, 0]),
        ("damage", "flip", vec![5, 0x01, 0x03, 0x40]),
        ("damage", "zeros", vec![1, 0x40, 0x02, 100, 2, 0, 0, 200]),
        ("entries", "log", [vec![1], log.concat()].concat()),
        ("entries", "snapshot", [vec![0], snapshot.concat()].concat()),
    ]
}

/// If not: `cargo test -p hydra-server --lib write_the_seed_files -- --ignored`.
#[test]
fn the_seed_files_are_understood() {
    for entries in seeds("entries") {
        replayed(&super::framed(&entries)).unwrap();
    }
}

#[test]
fn a_grant_of_endless_items_took_all_memory() {
    let grant = Granted {
        seq: 1,
        items: vec![IdRange {
            start: 0,
            end: u64::MAX,
        }],
        ids: IdRange::default(),
        careful: false,
    };
    let opened = Opened {
        child: ChildId(u32::MAX),
        epoch: Epoch {
            job: JOB,
            number: u64::MAX,
        },
        secret: Secret([0; 16]),
        name: String::new(),
        workers: 1,
        nonce: 1,
        ids: IdRange::default(),
    };
    let session = State::Session {
        opened: opened.clone(),
        leased: Vec::new(),
        applied: 0,
        granted: 1,
        unseen: vec![grant.clone()],
        careful: false,
        fenced: false,
    };
    let child = opened.child;
    for records in [
        vec![Record::State(Box::new(session))],
        vec![Record::Opened(opened), Record::Granted { child, grant }],
    ] {
        let mut bytes = frame::header(JOB, 1).to_vec();
        frame::write(&mut bytes, 1, &beginning().concat());
        let entries: Vec<_> = records.into_iter().map(Entry::Ledger).collect();
        frame::write(&mut bytes, 2, &payload(&entries));
        let error = replayed(&bytes).err().unwrap();
        assert!(matches!(error, JournalError::Entry { .. }), "{error}");
    }
}

#[test]
#[ignore = "writes into fuzz/seeds, after a change of the journal"]
fn write_the_seed_files() {
    for (target, name, bytes) in fresh() {
        fs::create_dir_all(seed_dir(target)).unwrap();
        fs::write(seed_dir(target).join(name), bytes).unwrap();
    }
}
