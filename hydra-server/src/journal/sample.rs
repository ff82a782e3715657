//! A journal made from the steps of a small job, for tests and fuzz targets. Not part of the library.

use super::{Entry, Writer, frame};
use crate::coordinator;
use hydra_proto::ids::{ChildId, ConnId, IdRange, ItemId, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec};
use hydra_proto::ledger::{Action, Parent, Time};
use hydra_proto::message::{Commit, Delta, Hello, HelloHeader, Load, PROTOCOL_VERSION, Up};
use hydra_proto::walk::FileType;

pub(crate) const JOB: JobId = JobId(5);
const CONN: ConnId = ConnId(1);

pub(crate) fn spec() -> JobSpec {
    JobSpec {
        plugin: "none".to_owned(),
        roots: vec![RootSpec::default()],
        ..JobSpec::default()
    }
}

fn dirs(first: u64, dir: &[u8], names: &[&[u8]]) -> Parcel {
    Parcel::Dirs(Dirs {
        first: ItemId(first),
        root: RootId(0),
        dir: dir.to_vec(),
        names: names.iter().copied().collect::<NameList>(),
    })
}

/// A ledger at work under one client, and what it records.
pub(crate) struct Job {
    pub(crate) parent: Parent,
    client: Commit,
    next: u64,
}

impl Job {
    pub(crate) fn new() -> (Self, Vec<Entry>) {
        let mut parent = coordinator::bare_parent(JOB, &spec());
        parent.keep_records(true);
        let root = parent.take_ids(1).unwrap();
        parent.add(vec![dirs(root.start, b"", &[b""])], false);
        let hello = Hello {
            header: HelloHeader {
                protocol: PROTOCOL_VERSION,
                release: String::new(),
            },
            name: "one".to_owned(),
            workers: 1,
            nonce: 1,
        };
        parent.handle(Time::ZERO, CONN, Up::Hello(hello));
        parent.serve(ChildId(0), vec![true]);
        let mut job = Self {
            client: Commit {
                epoch: parent_epoch(),
                seq: 0,
                done: vec![IdRange::one(ItemId(root.start))],
                new: Vec::new(),
                give: Vec::new(),
                begun: Vec::new(),
                failed: Vec::new(),
                result: None,
                load: Load::default(),
                answers: None,
            },
            parent,
            next: 2,
        };
        let entries = job.entries();
        (job, entries)
    }

    /// One directory becomes three; one entry and one row are counted.
    pub(crate) fn step(&mut self) -> Vec<Entry> {
        let first = self.next;
        self.next += 3;
        self.client.seq += 1;
        self.client.new = vec![dirs(first, b"some/where", &[b"a", b"b", b"c"])];
        let mut delta = Delta {
            rows: format!("{{\"row\":{}}}\n", self.client.seq).into_bytes(),
            ..Delta::default()
        };
        delta.walk.count(FileType::File);
        self.client.result = Some(delta);
        let commit = Box::new(self.client.clone());
        self.parent.handle(Time::ZERO, CONN, Up::Commit(commit));
        self.client.done = vec![IdRange::one(ItemId(first))];
        let entries = self.entries();
        assert!(!entries.is_empty(), "the commit was refused");
        entries
    }

    fn entries(&mut self) -> Vec<Entry> {
        let actions = std::iter::from_fn(|| self.parent.poll_action());
        let records = actions.filter_map(|action| match action {
            Action::Record(record) => Some(Entry::Ledger(*record)),
            _ => None,
        });
        records.collect()
    }
}

fn parent_epoch() -> hydra_proto::ids::Epoch {
    hydra_proto::ids::Epoch {
        job: JOB,
        number: 1,
    }
}

pub(crate) fn payload(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        hydra_proto::codec::store(entry, &mut out).unwrap();
    }
    out
}

/// The snapshot with which a journal begins.
pub(crate) fn beginning() -> Vec<Vec<u8>> {
    let mut out = Writer::default();
    out.push(&Entry::Job {
        id: JOB,
        incarnation: 0,
        spec: Box::new(spec()),
        note: b"note".to_vec(),
    })
    .unwrap();
    let payloads = out.finish().unwrap().into_iter();
    payloads
        .map(|payload| payload.entries().unwrap().into_owned())
        .collect()
}

/// A journal with a log of at least `length` bytes: its bytes, and where each frame of the log ends.
pub(crate) fn journal(length: usize) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::header(JOB, 1).to_vec();
    let mut sequence = 1;
    for payload in beginning() {
        frame::write(&mut bytes, sequence, &payload);
        sequence += 1;
    }
    let mut ends = vec![bytes.len()];
    let (mut job, first) = Job::new();
    let mut entries = first;
    while bytes.len() - ends[0] < length {
        frame::write(&mut bytes, sequence, &payload(&entries));
        sequence += 1;
        ends.push(bytes.len());
        entries = job.step();
    }
    (bytes, ends)
}
