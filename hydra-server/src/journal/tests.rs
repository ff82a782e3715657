//! Journals that were cut, damaged, filled and made shorter.

mod outcome;

use super::disk::{Batch, Disk};
use super::fuzz::replayed;
use super::replay::NoSum;
use super::sample::{JOB, Job, beginning, journal, payload, spec};
use super::*;
use crate::coordinator::bare_parent;
use crate::durable::RowsFile;
use crate::spill::Spill;
use hydra_proto::ids::RootId;
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::ledger::{Parent, Record, Store, Time};
use std::cell::Cell;
use std::path::Path;
use std::{fs, io};

/// As much of the end of a journal as power loss may take.
const CUT: usize = 64 << 10;

fn job_entry() -> Entry {
    Entry::Job {
        id: JOB,
        incarnation: 7,
        spec: Box::new(spec()),
        note: Vec::new(),
    }
}

/// How many frames are read.
fn frames(bytes: &[u8]) -> usize {
    let mut frames = frame::Frames::open(bytes).unwrap();
    std::iter::from_fn(|| frames.next().unwrap().map(drop)).count()
}

#[test]
fn cut_anywhere_it_is_what_was_durable_before() {
    let (bytes, ends) = journal(CUT + 100);
    let from = bytes.len() - CUT;
    let mut whole = ends.iter().filter(|&&end| end <= from).count();
    for cut in from..=bytes.len() {
        whole += usize::from(ends.get(whole) == Some(&cut));
        assert_eq!(frames(&bytes[..cut]), whole, "cut at {cut}");
    }
    // What is in the frames decides about the rest.
    for (index, &end) in ends.iter().enumerate().step_by(97) {
        let (restored, rows) = replayed(&bytes[..end]).unwrap();
        let commits = index.saturating_sub(1) as u64;
        assert_eq!(restored.tally.walk.entries, commits);
        assert_eq!(restored.parent.counts().new, 3 * commits);
        assert!(restored.parent.counts().balanced());
        let lines = rows.iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(lines as u64, commits);
        assert_eq!(restored.rows, rows.len() as u64);
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
    assert_eq!(frames(&bytes), ends.len());
}

/// A journal whose readers are watched.
struct Watched(Vec<u8>, Cell<usize>);

impl frame::Source for Watched {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.1.set(self.1.get().max(buffer.len()));
        self.0.read_exact_at(buffer, at)
    }
}

#[test]
fn the_whole_journal_was_read_into_memory() {
    let (mut bytes, ends) = journal(400 << 10);
    let large = |sequence| {
        let mut frame = Vec::new();
        frame::write(&mut frame, sequence, &[7; 100 << 10]);
        frame
    };
    let next = ends.len() as u64 + 1;
    bytes.extend(large(next));
    let watched = Watched(bytes, Cell::default());
    let mut frames = frame::Frames::open(&watched).unwrap();
    let mut most = 0;
    while let Some(frame) = frames.next().unwrap() {
        most = frame.payload.len();
    }
    // The last one is larger than what is looked at at once.
    assert_eq!((most, frames.next_number()), (100 << 10, next + 1));
    assert_eq!(watched.1.get(), 100 << 10);
    // Damage in front of all this is no reason to read more at once, nor is a frame that only looks like a large one.
    let Watched(mut bytes, _) = watched;
    bytes[ends[0] + 20] ^= 1;
    let length = (bytes.len() as u32).to_le_bytes();
    bytes[ends[3]..ends[3] + 4].copy_from_slice(&length);
    let watched = Watched(bytes, Cell::default());
    let mut frames = frame::Frames::open(&watched).unwrap();
    let error = frames.check().unwrap_err();
    let offset = ends[0] as u64;
    assert!(matches!(error, frame::Unsound::Damaged { record: 2, offset: at } if at == offset));
    assert!(watched.1.get() <= 65 << 10);
}

#[test]
fn a_journal_made_shorter_replays_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::begin(dir.path(), JOB, 1, &first_snapshot(), true).unwrap();
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
            out.push(&job_entry()).unwrap();
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

/// The snapshot with which a journal begins.
fn first_snapshot() -> Vec<Payload> {
    beginning().into_iter().map(Payload::Entries).collect()
}

#[test]
fn what_was_put_away_is_in_a_snapshot_though_it_was_brought_back_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let spill = Spill::new(Some(dir.path()));
    let mut parent = bare_parent(JOB, &spec());
    parent.limit_memory(0);
    parent.keep_in(Box::new(spill.clone()));
    let ids = parent.take_ids(40).unwrap();
    let dirs = |first| Dirs {
        first,
        root: RootId(0),
        dir: b"a".to_vec(),
        names: NameList::from_iter([&b"b"[..]]),
    };
    let parcels = ids.iter().map(|id| Parcel::Dirs(dirs(id)));
    parent.add(parcels.collect(), false);
    let mut out = Writer::default();
    out.push(&job_entry()).unwrap();
    for record in snapshot(&parent) {
        out.push(&Entry::Ledger(record)).unwrap();
    }
    let slots: Vec<u64> = parent.slots().map(|(slot, _)| slot).collect();
    assert!(!slots.is_empty());
    for (slot, aside) in parent.slots() {
        out.push_piece(spill.piece(slot).unwrap(), aside);
    }
    let mut store = spill.clone();
    slots.iter().for_each(|&slot| store.forget(slot));
    assert!(slots.iter().all(|&slot| spill.piece(slot).is_none()));
    let payloads = out.finish().unwrap();
    Disk::begin(dir.path(), JOB, 1, &payloads, false).unwrap();
    let again = replayed_from(dir.path()).parent;
    assert_eq!(again.counts().pool, 40);
    assert_eq!(again.items().count(), 40);
}

fn replayed_from(dir: &Path) -> replay::Restored {
    let journal = fs::File::open(dir.join("journal")).unwrap();
    let rows = &mut replay::NoRows;
    super::replay(dir, &journal, &bare_parent, Box::new(NoSum), rows).unwrap()
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
    let mut disk = Disk::begin(dir.path(), JOB, 1, &first_snapshot(), false).unwrap();
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
    let file = rows();
    let mut again = RowsFile::new(Some(&file));
    again.kept(4);
    again.add(4, b"2\n");
    again.end(6).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one\n2\n");
    let mut again = RowsFile::new(Some(&file));
    again.kept(100);
    again.add(100, b"3\n");
    let lost = again.end(102).unwrap_err();
    assert!(lost.to_string().contains("100"), "{lost}");
    assert_eq!(fs::read(&path).unwrap(), b"one\n2\n");
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

/// A journal in `dir` with an entry that is not written yet, and where it says what was.
fn begun(dir: &Path) -> (Journal, tokio::sync::mpsc::Receiver<Report>) {
    let state = StateDir::create(dir, Durability::Os, Vec::new()).unwrap();
    let disk = Disk::begin(dir, JOB, 1, &first_snapshot(), false).unwrap();
    let (reports, written) = tokio::sync::mpsc::channel(1);
    let mut journal = Journal::new(disk, state.lock, 0, reports).unwrap();
    journal.append(&Entry::Began).unwrap();
    (journal, written)
}

#[tokio::test]
async fn a_sync_that_failed_for_want_of_room_was_taken_for_a_full_disk() {
    // What compaction may fail with, and whether the old file is still good.
    for (operation, is_good) in [
        ("create", true),
        ("write", true),
        ("sync rows of", false),
        ("sync", false),
        ("replace", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut written) = begun(dir.path());
        journal.flush(Time::ZERO, Some(first_snapshot()));
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            if let Some(mut report) = written.recv().await {
                let failed = JournalError::io(operation, dir.path(), errno.into());
                report.compacted = Some(Err(failed));
                let written = journal.written(Time::ZERO, report);
                assert_eq!(written.is_ok(), is_good, "{operation}: {written:?}");
            }
            journal.append(&Entry::Began).unwrap();
            journal.flush(Time::ZERO, Some(first_snapshot()));
        }
    }
}

#[tokio::test]
async fn a_full_disk_that_was_asked_too_early_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, mut written) = begun(dir.path());
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
