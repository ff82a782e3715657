use super::*;
use crate::ids::{Epoch, IdRange, ItemId, JobId, RootId, Secret};
use crate::item::{After, Dirs, Listing, NameList, Names, Parcel, Rest};
use crate::job::{JobSpec, RootSpec, Timing, WalkOptions};
use crate::message::*;
use crate::segment::{RowsDir, Segment};
use crate::walk::{FileType, WalkError, WalkSummary};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_bytes::ByteBuf;
use std::fmt::Debug;
use std::time::Duration;

const EPOCH: Epoch = Epoch {
    job: JobId(0xfeed),
    number: 3,
};
const LOAD: Load = Load {
    held: 5,
    hungry: true,
    busy: 2,
    ids: 300,
};

fn header() -> HelloHeader {
    HelloHeader {
        protocol: 1,
        release: "0.1.0".to_owned(),
    }
}

fn parcels() -> Vec<Parcel> {
    let (root, dir, visit) = (RootId(1), b"a/\xff".to_vec(), ItemId(9));
    let names: NameList = [&b"x"[..], b"\n"].into_iter().collect();
    let types = vec![FileType::File.to_raw(), FileType::Unknown.to_raw()];
    let read = Listing {
        entries: 7,
        directories: 2,
        hash: u64::MAX,
    };
    vec![
        Parcel::Dirs(Dirs {
            first: ItemId(10),
            root,
            dir: dir.clone(),
            names: names.clone(),
        }),
        Parcel::Names(Names {
            id: ItemId(12),
            root,
            dir: dir.clone(),
            visit: Some(visit),
            names,
            types,
            begun: false,
        }),
        Parcel::Rest(Rest {
            id: ItemId(13),
            root,
            dir: dir.clone(),
            visit: None,
            read,
        }),
        Parcel::After(After {
            id: ItemId(14),
            root,
            dir,
            visit,
        }),
    ]
}

fn delta() -> Delta {
    let mut walk = WalkSummary::default();
    walk.count(FileType::Directory);
    walk.fail(WalkError::new(b"/\xfe", "open", "EACCES", "no"));
    Delta {
        walk,
        plugin: vec![1, 2],
        rows: b"{}\n".to_vec(),
        lost_workers: 1,
        segments: vec![Segment {
            worker: 2,
            number: 3,
            bytes: 300,
        }],
    }
}

fn commit() -> Box<Commit> {
    Box::new(Commit {
        epoch: EPOCH,
        seq: 4,
        done: vec![IdRange { start: 1, end: 3 }],
        new: parcels(),
        give: vec![IdRange { start: 10, end: 11 }],
        failed: vec![Failure {
            id: ItemId(14),
            reason: "stale".to_owned(),
        }],
        result: Some(delta()),
        load: LOAD,
        answers: Some(6),
        begun: vec![IdRange { start: 10, end: 11 }],
    })
}

fn job() -> JobSpec {
    let root = RootSpec {
        shown: b"/data".to_vec(),
        local: b"/mnt".to_vec(),
        stops: vec![ByteBuf::from(b"a".to_vec())],
    };
    let walk = WalkOptions {
        excludes: vec!["*.o".to_owned()],
        ..WalkOptions::default()
    };
    JobSpec {
        rows: Some(RowsDir {
            path: b"/rows".to_vec(),
            nonce: 5,
            session: 0,
            sync: true,
        }),
        plugin: "count".to_owned(),
        options: vec![9],
        acts: true,
        roots: vec![root],
        walk,
        timing: Timing::default(),
    }
}

/// Every message that goes up.
pub(crate) fn ups() -> Vec<Up> {
    let facts = RootFacts {
        fs_type: "ext4".to_owned(),
        fs_id: "uuid".to_owned(),
        inode: 2,
        directory: true,
        on_system_disk: false,
    };
    let missing = RootView::Missing {
        kind: "ENOENT".to_owned(),
        message: "no".to_owned(),
    };
    let roots = vec![
        RootView::Seen(facts),
        missing,
        RootView::Refused("no".to_owned()),
        RootView::Silent("no".to_owned()),
    ];
    let (header, epoch) = (header(), EPOCH);
    let (target, text) = ("walk".to_owned(), "\u{1b}[0m".to_owned());
    vec![
        Up::Hello(Hello {
            header: header.clone(),
            name: "h1".to_owned(),
            workers: 2,
            nonce: 8,
        }),
        Up::Resume(Resume {
            header,
            epoch,
            secret: Secret([7; 16]),
            attempt: 1,
            last_grant: 2,
            journaled: true,
        }),
        Up::Ready(Ready {
            epoch: Some(epoch),
            roots,
        }),
        Up::Commit(commit()),
        Up::Beat(UpBeat {
            epoch,
            number: 1,
            last_grant: 2,
            load: LOAD,
        }),
        Up::Log(vec![LogLine {
            worker: 1,
            pid: 2,
            level: 3,
            target,
            text,
        }]),
        Up::Leave("full".to_owned()),
        Up::Part(commit()),
        Up::Walls(vec![Wall {
            root: RootId(1),
            path: b"a/\xff".to_vec(),
            without: vec![ByteBuf::from(b"a/b".to_vec())],
            reason: "dead".to_owned(),
        }]),
        Up::Warning("no".to_owned()),
        Up::Rows(Rows {
            worker: 2,
            number: 3,
            at: 300,
            bytes: b"{}\n".to_vec(),
        }),
    ]
}

/// Every message that goes down.
pub(crate) fn downs() -> Vec<Down> {
    let (epoch, secret, ids) = (EPOCH, Secret([7; 16]), IdRange { start: 1, end: 300 });
    let refusals = [
        Refusal::Version(header()),
        Refusal::Fenced,
        Refusal::Unknown,
        Refusal::Protocol("no".to_owned()),
        Refusal::JobOver,
    ];
    let mut downs = vec![
        Down::Welcome(Box::new(Welcome {
            epoch,
            secret,
            ids,
            job: job(),
            forward_logs: true,
            journaled: true,
        })),
        Down::Resumed { last_commit: 4 },
        Down::Grant(Grant {
            epoch,
            seq: 2,
            items: parcels(),
            ids,
            careful: true,
        }),
        Down::Ack { seq: 251 },
        Down::Shed(Shed { id: 1, hungry: 2 }),
        Down::Beat(DownBeat {
            epoch,
            number: 1,
            lease: Duration::from_millis(8000),
        }),
        Down::Pause(true),
        Down::Stop,
        Down::Kept(Segment {
            worker: 2,
            number: 3,
            bytes: 300,
        }),
    ];
    downs.extend(refusals.map(Down::Refused));
    downs.push(Down::Frugal(true));
    downs
}

/// What must hold for the bytes of any value.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = encode(value).expect("a value that fits");
    assert_eq!(&decode::<T>(&bytes).expect("what was encoded"), value);
    for length in 0..bytes.len() {
        assert!(
            decode::<T>(&bytes[..length]).is_err(),
            "{length} bytes of {value:?}"
        );
    }
    let mut more = bytes;
    more.push(0);
    assert!(matches!(
        decode::<T>(&more),
        Err(CodecError::Trailing { extra: 1 })
    ));
}

#[test]
fn every_message_survives_and_no_prefix_of_it_does() {
    ups().iter().for_each(check);
    downs().iter().for_each(check);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changing any of these needs another [`PROTOCOL_VERSION`]: an older build would misread them.
const GOLDEN_UPS: [&str; 11] = [
    "000105302e312e300268310208",
    "010105302e312e30fbedfe0307070707070707070707070707070707010201",
    "0201fbedfe030400046578743404757569640201000106454e4f454e54026e6f02026e6f03026e6f",
    "03fbedfe030401010304000a0103612fff02780a020102010c0103612fff010902780a0201020208000002\
     0d0103612fff000702fdffffffffffffffff030e0103612fff09010a0b010e057374616c650101010000\
     00000000000001064541434345530101022ffe00046f70656e06454143434553026e6f020102037b7d0a01\
     010203fb2c01050102fb2c010106010a0b",
    "04fbedfe030102050102fb2c01",
    "05010102030477616c6b041b5b306d",
    "060466756c6c",
    "07fbedfe030401010304000a0103612fff02780a020102010c0103612fff010902780a0201020208000002\
     0d0103612fff000702fdffffffffffffffff030e0103612fff09010a0b010e057374616c650101010000\
     00000000000001064541434345530101022ffe00046f70656e06454143434553026e6f020102037b7d0a01\
     010203fb2c01050102fb2c010106010a0b",
    "09010103612fff0103612f620464656164",
    "0a026e6f",
    "0b0203fb2c01037b7d0a",
];
const GOLDEN_DOWNS: [&str; 15] = [
    "00fbedfe030707070707070707070707070707070701fb2c0105636f756e7401090101052f6461746104\
     2f6d6e740101610001032a2e6f0000000000010005000f00080000fc00c2eb0b10fb2c010001052f726f7773\
     0500010101",
    "0104",
    "03fbedfe030204000a0103612fff02780a020102010c0103612fff010902780a02010202080000020d0103\
     612fff000702fdffffffffffffffff030e0103612fff0901fb2c0101",
    "04fbfb00",
    "050102",
    "06fbedfe03010800",
    "0701",
    "08",
    "090203fb2c01",
    "02000105302e312e30",
    "0201",
    "0202",
    "0203026e6f",
    "0204",
    "0a01",
];

#[test]
fn the_bytes_of_messages_have_not_changed() {
    assert_eq!(PROTOCOL_VERSION, 1);
    for (message, golden) in ups().iter().zip(GOLDEN_UPS) {
        assert_eq!(
            hex(&encode(message).expect("a message that fits")),
            golden,
            "{message:?}"
        );
    }
    for (message, golden) in downs().iter().zip(GOLDEN_DOWNS) {
        assert_eq!(
            hex(&encode(message).expect("a message that fits")),
            golden,
            "{message:?}"
        );
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..20_000 {
        let length = rng.random_range(0..200);
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        let _ = decode::<Up>(&bytes);
        let _ = decode::<Down>(&bytes);
    }
}

#[test]
fn messages_with_damaged_bytes_never_panic_and_items_in_them_are_checked() {
    let mut rng = StdRng::seed_from_u64(2);
    let whole: Vec<Vec<u8>> = ups().iter().map(|up| encode(up).expect("fits")).collect();
    for round in 0..40_000 {
        let mut bytes = whole[round % whole.len()].clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        if let Ok(Up::Commit(commit) | Up::Part(commit)) = decode::<Up>(&bytes) {
            for parcel in commit.new {
                let _ = parcel.size();
                if parcel.check().is_ok() {
                    let items: Vec<_> = crate::item::Item::unpack(parcel).collect();
                    let again = crate::item::Item::pack(items.clone());
                    assert!(!again.is_empty() && again.iter().all(|parcel| parcel.check().is_ok()));
                    items.iter().for_each(|(_, item)| drop(item.path()));
                }
            }
        }
    }
}

/// `bytes` with `length` as a variable-length integer in the place of the byte at `at`.
fn with_length(bytes: &[u8], at: usize, length: u64) -> Vec<u8> {
    let mut bomb = bytes[..at].to_vec();
    bomb.push(253);
    bomb.extend_from_slice(&length.to_le_bytes());
    bomb.extend_from_slice(&bytes[at + 1..]);
    bomb
}

#[test]
fn lengths_that_promise_more_than_there_is_are_errors() {
    let messages = ups()
        .iter()
        .map(|up| encode(up).expect("fits"))
        .collect::<Vec<_>>();
    for bytes in messages {
        for at in 0..bytes.len() {
            for length in [1 << 24, 1 << 32, 1 << 60, u64::MAX] {
                let bomb = with_length(&bytes, at, length);
                // Where the byte was no length, the number is just large.
                if let Ok(up) = decode::<Up>(&bomb) {
                    assert!(encode(&up).expect("fits").len() <= bomb.len() + 16);
                }
            }
        }
    }
}

#[test]
fn a_stored_text_that_claimed_to_be_endless_ended_the_program() {
    for length in [1 << 20, 1 << 40, u64::MAX] {
        let bomb = with_length(&[0, b'x'], 0, length);
        assert!(load::<String>(&bomb).is_err());
        assert!(load::<ByteBuf>(&bomb).is_err());
    }
    let small = vec![1u64; 70_000];
    let mut bytes = Vec::new();
    store(&small, &mut bytes).expect("it is stored");
    let (again, used) = load::<Vec<u64>>(&bytes).expect("what was stored");
    assert_eq!((again, used), (small, bytes.len()));
}

#[test]
fn a_message_over_the_limit_is_not_written() {
    let most = Up::Leave("x".repeat(FRAME_BYTES_MAX + 1));
    assert!(matches!(
        encode(&most),
        Err(CodecError::TooLarge { .. } | CodecError::Encode(_))
    ));
}
