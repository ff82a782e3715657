//! Journals that were cut, damaged, filled and made shorter.

use super::disk::{Batch, Disk};
use super::replay::NoSum;
use super::*;
use crate::coordinator;
use hydra_proto::ids::{ChildId, ConnId, IdRange, ItemId, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing, WalkOptions};
use hydra_proto::ledger::{Action, Parent, Record, Time};
use hydra_proto::message::{Commit, Delta, Hello, HelloHeader, Load, PROTOCOL_VERSION, Up};
use hydra_proto::walk::FileType;
use std::fs;
use std::path::Path;

const JOB: JobId = JobId(5);
const CONN: ConnId = ConnId(1);
/// As much of the end of a journal as power loss may take.
const CUT: usize = 64 << 10;

fn spec() -> JobSpec {
    JobSpec {
        plugin: "none".to_owned(),
        options: Vec::new(),
        acts: false,
        roots: vec![RootSpec::default()],
        walk: WalkOptions::default(),
        timing: Timing::default(),
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
struct Job {
    parent: Parent,
    client: Commit,
    next: u64,
}

impl Job {
    fn new() -> (Self, Vec<Entry>) {
        let mut parent = coordinator::parent(JOB, &spec(), false, String::new());
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
                failed: Vec::new(),
                result: None,
                load: Load::default(),
                answers: None,
                begun: Vec::new(),
            },
            parent,
            next: 2,
        };
        let entries = job.entries();
        (job, entries)
    }

    /// One directory becomes three; one entry and one row are counted.
    fn step(&mut self) -> Vec<Entry> {
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

fn payload(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        hydra_proto::codec::store(entry, &mut out).unwrap();
    }
    out
}

/// The snapshot with which a journal begins.
fn beginning() -> Vec<Vec<u8>> {
    let mut out = Writer::default();
    out.push(&Entry::Job {
        id: JOB,
        incarnation: 0,
        spec: Box::new(spec()),
        note: b"note".to_vec(),
    })
    .unwrap();
    out.finish().unwrap()
}

/// A journal with a log of at least `length` bytes: its bytes, and where each frame of the log ends.
fn journal(length: usize) -> (Vec<u8>, Vec<usize>) {
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

fn replayed(bytes: &[u8]) -> Result<replay::Restored, JournalError> {
    super::replay(Path::new("/state"), bytes, Box::new(NoSum), false, "")
}

#[test]
fn cut_anywhere_it_is_what_was_durable_before() {
    let (bytes, ends) = journal(CUT + 100);
    let from = bytes.len() - CUT;
    let mut whole = ends.iter().filter(|&&end| end <= from).count();
    for cut in from..=bytes.len() {
        whole += usize::from(ends.get(whole) == Some(&cut));
        let contents = frame::read(&bytes[..cut]).unwrap();
        assert_eq!(contents.frames.len(), whole, "cut at {cut}");
    }
    // What is in the frames decides about the rest.
    for (index, &end) in ends.iter().enumerate().step_by(97) {
        let restored = replayed(&bytes[..end]).unwrap();
        let commits = index.saturating_sub(1) as u64;
        assert_eq!(restored.tally.walk.entries, commits);
        assert_eq!(restored.parent.counts().new, 3 * commits);
        assert!(restored.parent.counts().balanced());
        assert_eq!(
            restored.rows.iter().filter(|&&b| b == b'\n').count() as u64,
            commits
        );
    }
}

#[test]
fn damage_in_the_middle_is_refused_and_located() {
    let (bytes, ends) = journal(4000);
    let last = ends[ends.len() - 2];
    for at in ends[0]..last {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        let frame = ends.iter().filter(|&&end| end <= at).count();
        let error = replayed(&damaged).err().unwrap();
        let JournalError::Damaged { record, offset, .. } = error else {
            panic!("byte {at}: {error}");
        };
        assert_eq!(offset, ends[frame - 1] as u64, "byte {at}");
        assert_eq!(record, frame as u64 + 1, "byte {at}");
    }
}

#[test]
fn damage_at_the_beginning_is_refused() {
    let (bytes, ends) = journal(4000);
    for at in 0..ends[0] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x01;
        assert!(replayed(&damaged).is_err(), "byte {at}");
    }
    for cut in 0..ends[0] {
        assert!(replayed(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    let (mut bytes, ends) = journal(1000);
    bytes.resize(bytes.len() + 9000, 0);
    assert_eq!(frame::read(&bytes).unwrap().frames.len(), ends.len());
}

#[test]
fn a_journal_made_shorter_replays_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::begin(dir.path(), JOB, 1, &beginning(), true).unwrap();
    let (mut job, mut entries) = Job::new();
    for step in 0..300 {
        let batch = Batch {
            entries: payload(&entries),
            ..Batch::default()
        };
        disk.write(&batch).unwrap();
        if step % 100 == 99 {
            let before = snapshot(&replayed_from(dir.path()).parent);
            let mut out = Writer::default();
            out.push(&Entry::Job {
                id: JOB,
                incarnation: 7,
                spec: Box::new(spec()),
                note: Vec::new(),
            })
            .unwrap();
            for record in snapshot(&job.parent) {
                out.push(&Entry::Ledger(record)).unwrap();
            }
            disk.compact(&out.finish().unwrap()).unwrap();
            let restored = replayed_from(dir.path());
            assert_eq!(restored.incarnation, 7);
            assert_eq!(snapshot(&restored.parent), before);
        }
        entries = job.step();
    }
    assert!(!dir.path().join("journal.new").exists());
}

fn replayed_from(dir: &Path) -> replay::Restored {
    replayed(&fs::read(dir.join("journal")).unwrap()).unwrap()
}

fn snapshot(parent: &Parent) -> Vec<Record> {
    let mut records = Vec::new();
    parent.snapshot(&mut |record| records.push(record));
    records
}

#[test]
fn rows_go_on_behind_those_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let rows = || {
        let mut options = fs::File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(&path).unwrap()
    };
    let mut disk = Disk::begin(dir.path(), JOB, 1, &beginning(), false).unwrap();
    disk.set_rows(Some(rows()), 0);
    for text in ["one\n", "two\n"] {
        let batch = Batch {
            entries: payload(&[Entry::Began]),
            rows: text.into(),
            snapshot: None,
        };
        disk.write(&batch).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
    crate::durable::write_rows(&rows(), 4, b"2\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one\n2\n");
    let lost = crate::durable::write_rows(&rows(), 100, b"").unwrap_err();
    assert!(lost.to_string().contains("100"), "{lost}");
}

#[test]
fn a_directory_belongs_to_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::create(dir.path(), Durability::Os, Vec::new()).unwrap();
    let second = StateDir::create(dir.path(), Durability::Os, Vec::new());
    assert!(matches!(second, Err(JournalError::Locked(_))));
    drop(state);
    StateDir::create(dir.path(), Durability::Os, Vec::new()).unwrap();
    let none = StateDir::open(dir.path(), Durability::Os);
    assert!(matches!(none, Err(JournalError::Missing(_))));
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let error = |errno: rustix::io::Errno| {
        JournalError::io("write", Path::new("/state/journal"), errno.into())
    };
    assert!(disk::is_full(&error(rustix::io::Errno::NOSPC)));
    assert!(disk::is_full(&error(rustix::io::Errno::DQUOT)));
    assert!(!disk::is_full(&error(rustix::io::Errno::IO)));
}

#[tokio::test]
async fn a_full_disk_that_was_asked_too_early_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::create(dir.path(), Durability::Os, Vec::new()).unwrap();
    let disk = Disk::begin(dir.path(), JOB, 1, &beginning(), false).unwrap();
    let (reports, mut written) = tokio::sync::mpsc::channel(1);
    let mut journal = Journal::new(disk, state.lock, 0, reports);
    journal.append(&Entry::Began).unwrap();
    let (ticket, now) = (journal.ticket(), Time::ZERO);
    journal.flush(now, None);
    let mut report = written.recv().await.unwrap();
    let errno = rustix::io::Errno::NOSPC;
    report.written = Err(JournalError::io("write", dir.path(), errno.into()));
    assert_eq!(journal.written(now, report).unwrap(), Written::Full);
    journal.flush(now, None);
    assert!(!journal.has(ticket) && !journal.is_settled());
    journal.flush(journal.poll_timeout().unwrap(), None);
    let report = written.recv().await.unwrap();
    assert_eq!(journal.written(now, report).unwrap(), Written::RoomAgain);
    assert!(journal.has(ticket) && journal.is_settled());
    assert!(replayed_from(dir.path()).began);
}
