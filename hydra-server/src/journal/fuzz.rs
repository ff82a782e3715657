//! What must hold for whatever bytes a journal has. Called by the fuzzer (`fuzz/`) and, with seeded bytes, by the
//! tests. Not part of the library.

use super::replay::{NoSum, Restored, RowsAgain, replay};
use super::sample::{JOB, Job, beginning, journal, payload};
use super::{JournalError, frame};
use crate::coordinator::bare_parent;
use hydra_proto::ledger::Record;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Bytes of the log that is damaged.
const LOG: usize = 1500;
/// Bytes of one change: what, where (two), and with what.
const CHANGE: usize = 4;

/// A sound journal that is changed here and there is read up to the damage, if that is at its end, or refused
/// with the place; what is read is what was written.
///
/// Every four bytes are one change.
pub fn damage(data: &[u8]) {
    static SOUND: LazyLock<(Vec<u8>, Vec<usize>)> = LazyLock::new(|| journal(LOG));
    let (sound, ends) = &*SOUND;
    let mut bytes = sound.clone();
    for change in data.chunks_exact(CHANGE).take(8) {
        alter(&mut bytes, change);
    }
    let differs = |at: &usize| bytes.get(*at) != sound.get(*at);
    let first = (0..bytes.len().max(sound.len())).find(differs);
    let first = first.unwrap_or(sound.len());
    // The snapshot is the one frame before the first end.
    let whole = ends.iter().filter(|&&end| end <= first).count();
    let intact = match whole {
        0 => frame::HEADER,
        whole => ends[whole - 1],
    };
    let found = frames(&bytes);
    if first < frame::HEADER {
        assert!(found.is_err());
        return;
    }
    let later = (whole + 1..ends.len()).any(|frame| {
        let written = &sound[ends[frame - 1]..ends[frame]];
        let rest = bytes.get(intact..).unwrap_or_default();
        rest.windows(written.len()).any(|window| window == written)
    });
    match found {
        Ok(frames) => {
            assert_eq!(frames, whole);
            assert!(!later, "a sound frame is taken for a torn one");
            same(&bytes, &sound[..intact]);
        }
        Err(frame::Unsound::Damaged { record, offset }) => {
            assert_eq!((record, offset), (whole as u64 + 1, intact as u64));
            assert!(later, "a torn frame is taken for damage");
            assert!(replayed(&bytes).is_err());
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn alter(bytes: &mut Vec<u8>, change: &[u8]) {
    let (what, with) = (change[0], change[3]);
    let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % (bytes.len() + 1);
    let end = bytes.len().min(at + usize::from(with));
    match what % 6 {
        0 => bytes.truncate(at),
        1 => bytes[at..end].fill(0),
        2 => bytes.extend(vec![with; usize::from(with)]),
        3 => drop(bytes.drain(at..end)),
        4 => bytes.insert(at, with),
        _ => match bytes.get_mut(at) {
            Some(byte) => *byte ^= with,
            None => bytes.push(with),
        },
    }
}

/// Both are refused, or both replay to the same state.
fn same(one: &[u8], other: &[u8]) {
    match (replayed(one), replayed(other)) {
        (Ok(one), Ok(other)) => assert_eq!(state(&one), state(&other)),
        (Err(JournalError::NoSnapshot(_)), Err(JournalError::NoSnapshot(_))) => {}
        (one, other) => panic!("{:?} and {:?}", one.err(), other.err()),
    }
}

/// Rows, where they are written to.
#[derive(Default)]
pub(crate) struct RowsInMemory(pub(crate) Vec<u8>);

impl RowsAgain for RowsInMemory {
    fn kept(&mut self, _: u64) {}

    fn add(&mut self, _: u64, rows: &[u8]) {
        self.0.extend_from_slice(rows);
    }
}

/// How many frames are read. All of them are sound, whether they are read or only looked at.
fn frames(bytes: &[u8]) -> Result<usize, frame::Unsound> {
    let checked = frame::Frames::open(bytes).and_then(|mut frames| frames.check());
    let read = frame::Frames::open(bytes).and_then(|mut frames| {
        let mut count = 0;
        while let Some(frame) = frames.next()? {
            assert!(!frame.payload.is_empty());
            count += 1;
        }
        Ok(count)
    });
    assert_eq!(checked.is_ok(), read.is_ok());
    read
}

pub(crate) fn replayed(bytes: &[u8]) -> Result<(Restored, Vec<u8>), JournalError> {
    let mut rows = RowsInMemory::default();
    let dir = Path::new("/state");
    let restored = replay(dir, bytes, &bare_parent, Box::new(NoSum), &mut rows)?;
    Ok((restored, rows.0))
}

fn state((restored, rows): &(Restored, Vec<u8>)) -> (Vec<Record>, u64, &[u8], u64, u64) {
    let mut records = Vec::new();
    restored.parent.snapshot(&mut |record| records.push(record));
    let entries = restored.tally.walk.entries;
    (records, entries, rows, restored.rows, restored.sequence)
}

/// Entries that make no sense, in frames that are sound (another build has written them, say), are refused; what is
/// taken can be written again, and is the same then.
///
/// The first byte says whether the beginning of a job comes first. Then come frames: two bytes of length, payload.
pub fn entries(data: &[u8]) {
    if let Ok(mut found) = replayed(&framed(data)) {
        let (records, ..) = state(&found);
        assert!(records.len() < 10 + data.len());
        let (restored, _) = &mut found;
        restored.parent.revive(Duration::ZERO, 1);
    }
}

/// These entries as a journal.
fn framed(data: &[u8]) -> Vec<u8> {
    let (begins, mut data) = data.split_first().unwrap_or((&0, &[]));
    let mut bytes = frame::header(JOB, 1).to_vec();
    let mut sequence = 1;
    let mut add = |payload: &[u8]| {
        frame::write(&mut bytes, sequence, payload);
        sequence += 1;
    };
    if begins & 1 == 1 {
        beginning().iter().for_each(|payload| add(payload));
        add(&payload(&Job::new().1));
    }
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        if !payload.is_empty() {
            add(payload);
        }
        data = rest;
    }
    bytes
}
