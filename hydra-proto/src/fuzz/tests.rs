//! The targets under seeded bytes, and the seed files that both ways of fuzzing begin with.

use super::*;
use crate::codec::tests::{downs, ups};
use crate::ids::Epoch;
use crate::message::{
    Commit, Hello, HelloHeader, Load, PROTOCOL_VERSION, Ready, RootView, Rows, UpBeat,
};
use std::fs;

#[path = "../../../fuzz/driver.rs"]
mod driver;

use driver::{drive, seed_dir, seeds};

#[test]
fn frame() {
    drive("frame", super::frame);
}

#[test]
fn handshake() {
    drive("handshake", super::handshake);
}

#[test]
fn messages() {
    drive("messages", super::messages);
}

#[test]
fn child() {
    drive("child", super::child);
}

/// What the seed files hold, by target and name.
fn fresh() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let frames = |payloads: &[&[u8]]| {
        let mut out = Vec::new();
        for payload in payloads {
            frame::encode(payload, &mut out).unwrap();
        }
        out
    };
    let mut files = vec![
        (
            "frame",
            "two",
            [vec![255, 6], frames(&[b"grant", b""])].concat(),
        ),
        (
            "frame",
            "long",
            [vec![9, 255], frames(&[&[7; 144]])].concat(),
        ),
        (
            "frame",
            "too-long",
            [vec![1, 1], frames(&[b"x", &[7; 17]])].concat(),
        ),
        ("handshake", "server-dials", b"\0\0some words".to_vec()),
        (
            "handshake",
            "client-dials",
            [&[1, 0][..], &[8; 300]].concat(),
        ),
        ("handshake", "opening", vec![0, 1, 10, 0, 1]),
        ("handshake", "proof", vec![1, 1, 120, 0, 1, b'x']),
        (
            "handshake",
            "record",
            [&[0, 1, 140, 0, 1][..], &[8; 200]].concat(),
        ),
        (
            "handshake",
            "stranger",
            [&[2][..], &frames(&[&[5; 48]])].concat(),
        ),
        (
            "child",
            "session",
            frames(&session().each_ref().map(Vec::as_slice)),
        ),
    ];
    let (up, down) = (["hello", "commit"], ["welcome", "grant"]);
    for (name, at) in up.into_iter().zip([0, 3]) {
        let bytes = codec::encode(&ups()[at]).unwrap();
        files.push(("messages", name, [vec![0], bytes].concat()));
    }
    for (name, at) in down.into_iter().zip([0, 2]) {
        let bytes = codec::encode(&downs()[at]).unwrap();
        files.push(("messages", name, [vec![1], bytes].concat()));
    }
    files
}

/// What an honest child says from beginning to end.
fn session() -> [Vec<u8>; 8] {
    let epoch = Epoch {
        job: JobId(0xfeed),
        number: 1,
    };
    let hello = Hello {
        header: HelloHeader {
            protocol: PROTOCOL_VERSION,
            release: String::new(),
        },
        name: "one".to_owned(),
        workers: 1,
        nonce: 1,
    };
    let ready = Ready {
        epoch: Some(epoch),
        roots: vec![RootView::Refused(String::new())],
    };
    let found = Parcel::Dirs(Dirs {
        first: ItemId(2),
        root: RootId(0),
        dir: b"a".to_vec(),
        names: [&b"x"[..], b"y"].into_iter().collect(),
    });
    let mut commit = Commit {
        epoch,
        seq: 1,
        done: vec![IdRange { start: 1, end: 2 }],
        new: vec![found],
        give: vec![IdRange { start: 3, end: 4 }],
        failed: Vec::new(),
        result: None,
        load: Load::default(),
        answers: None,
        begun: vec![IdRange { start: 3, end: 4 }],
    };
    let first = Up::Commit(Box::new(commit.clone()));
    (commit.seq, commit.new) = (2, Vec::new());
    (commit.give, commit.begun) = (Vec::new(), Vec::new());
    commit.done = vec![IdRange { start: 2, end: 3 }];
    let part = Up::Part(Box::new(commit.clone()));
    commit.done = Vec::new();
    let beat = UpBeat {
        epoch,
        number: 1,
        last_grant: 1,
        load: Load::default(),
    };
    let rows = Rows {
        worker: 1,
        number: 0,
        at: 300,
        bytes: b"{}\n".to_vec(),
    };
    [
        Up::Hello(hello),
        Up::Ready(ready),
        first,
        part,
        Up::Commit(Box::new(commit)),
        Up::Beat(beat),
        Up::Rows(rows),
        Up::Warning("no".to_owned()),
    ]
    .map(|up| codec::encode(&up).unwrap())
}

/// If not: `cargo test -p hydra-proto --lib write_the_seed_files -- --ignored`.
#[test]
fn the_seed_files_are_understood() {
    let items = seeds("messages")
        .into_iter()
        .map(|bytes| parcels_of(&bytes));
    let items: Vec<Parcel> = items.flat_map(Option::unwrap).collect();
    assert!(!items.is_empty() && items.iter().all(|parcel| parcel.check().is_ok()));
    let counts = converse(&seeds("child")[0]).counts();
    assert_eq!((counts.done, counts.new, counts.pool), (2, 2, 1));
}

#[test]
#[ignore = "writes into fuzz/seeds, after a change of the messages"]
fn write_the_seed_files() {
    for (target, name, bytes) in fresh() {
        fs::create_dir_all(seed_dir(target)).unwrap();
        fs::write(seed_dir(target).join(name), bytes).unwrap();
    }
}
