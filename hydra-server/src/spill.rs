//! The file for what of the pool does not fit into memory.
//!
//! It has no name: what the journal knows is enough to go on after a crash, and nothing is left behind. What is read
//! back makes room at once, where the file system can make holes; else when nothing is left in the file.

use hydra_proto::ledger::{Store, StoreError};
use hydra_proto::words::words;
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pieces begin at multiples of this, so that the hole that one leaves is whole.
const BLOCK: u64 = 4096;

/// The file. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Spill(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Made when it is needed first.
    file: Option<Arc<File>>,
    end: u64,
    pieces: BTreeMap<u64, Arc<Piece>>,
    next: u64,
}

/// Bytes in the file, for as long as somebody holds this.
#[derive(Debug)]
pub(crate) struct Piece {
    file: Arc<File>,
    at: u64,
    len: usize,
    crc: u32,
}

impl Spill {
    /// A file in `dir`, or where there is most room for such files.
    pub(crate) fn new(dir: Option<&Path>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            dir: dir.unwrap_or(Path::new("/var/tmp")).to_owned(),
            file: None,
            end: 0,
            pieces: BTreeMap::new(),
            next: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is under this slot now, to be read later: even if it is forgotten meanwhile.
    pub(crate) fn piece(&self, slot: u64) -> Option<Arc<Piece>> {
        self.lock().pieces.get(&slot).cloned()
    }
}

impl Inner {
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(tempfile::tempfile_in(&self.dir)?);
                self.file.insert(file).clone()
            }
        };
        if self.pieces.is_empty() && Arc::strong_count(&file) == 2 {
            file.set_len(0)?;
            self.end = 0;
        }
        let piece = Piece {
            file,
            at: self.end,
            len: bytes.len(),
            crc: crc32fast::hash(bytes),
        };
        // If this fails, the piece makes a hole of what was written.
        piece.file.write_all_at(bytes, piece.at)?;
        self.end += (bytes.len() as u64).next_multiple_of(BLOCK);
        self.next += 1;
        tracing::debug!(bytes = bytes.len(), at = piece.at, "put away");
        self.pieces.insert(self.next, Arc::new(piece));
        Ok(self.next)
    }
}

impl Piece {
    /// Its bytes.
    pub(crate) fn read(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; self.len];
        let read = self.file.read_exact_at(&mut bytes, self.at);
        let read = read.and_then(|()| match crc32fast::hash(&bytes) == self.crc {
            true => Ok(()),
            false => Err(io::Error::other("it is not what was written")),
        });
        match read {
            Ok(()) => Ok(bytes),
            Err(error) => Err(failed("read", &error)),
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where this cannot be done, the room is given back with the file.
        let _ = fallocate(&self.file, flags, self.at, self.len as u64);
    }
}

impl Store for Spill {
    fn put(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let mut inner = self.lock();
        let put = inner.put(bytes);
        put.map_err(|error| {
            let dir = inner.dir.display();
            failed(&format!("write (in {dir})"), &error)
        })
    }

    fn get(&self, slot: u64) -> Result<Vec<u8>, StoreError> {
        let gone = || failed("read", &io::ErrorKind::NotFound.into());
        self.piece(slot).ok_or_else(gone)?.read()
    }

    fn forget(&mut self, slot: u64) {
        self.lock().pieces.remove(&slot);
    }
}

fn failed(operation: &str, error: &io::Error) -> StoreError {
    let why = words(error);
    StoreError(format!(
        "cannot {operation} the temporary file for it: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn file(spill: &Spill) -> Arc<File> {
        spill.lock().file.clone().expect("a file")
    }

    #[test]
    fn what_is_put_is_read_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(Some(dir.path()));
        let bytes = |n: u8| vec![n; 5000 + usize::from(n)];
        let slots: Vec<u64> = (0..4).map(|n| spill.put(&bytes(n)).unwrap()).collect();
        for n in [2, 0, 3, 1] {
            assert_eq!(spill.get(slots[usize::from(n)]).unwrap(), bytes(n));
            spill.forget(slots[usize::from(n)]);
            assert!(spill.get(slots[usize::from(n)]).is_err());
        }
        // Nobody else sees the file, and when nothing is in it, it begins anew.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        spill.put(&bytes(1)).unwrap();
        assert_eq!(file(&spill).metadata().unwrap().len(), 5001);
    }

    #[test]
    fn what_is_forgotten_takes_no_room_unless_somebody_still_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(Some(dir.path()));
        let large = vec![7; 1 << 20];
        let (first, second) = (spill.put(&large).unwrap(), spill.put(&large).unwrap());
        let held = spill.piece(first).unwrap();
        spill.forget(first);
        assert_eq!(held.read().unwrap(), large);
        drop(held);
        let blocks = file(&spill).metadata().unwrap().blocks();
        assert!(blocks * 512 < 2 << 20, "{blocks} blocks");
        assert_eq!(spill.get(second).unwrap(), large);
    }

    #[test]
    fn bytes_that_have_changed_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(Some(dir.path()));
        let slot = spill.put(b"something").unwrap();
        file(&spill).write_all_at(b"X", 3).unwrap();
        let error = spill.get(slot).unwrap_err().to_string();
        assert!(error.contains("not what was written"), "{error}");
    }

    #[test]
    fn where_no_file_can_be_made_nothing_is_put() {
        let mut spill = Spill::new(Some(Path::new("/nonexistent")));
        let error = spill.put(b"something").unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
