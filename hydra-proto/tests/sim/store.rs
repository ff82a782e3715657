//! The server's store: in memory, so that it can be looked into, and failing now and then.

use hydra_proto::codec;
use hydra_proto::item::Parcel;
use hydra_proto::ledger::{Record, Store, StoreError, stored_records};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store that the world can look into. Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    kept: BTreeMap<u64, Vec<u8>>,
    next: u64,
    /// Every so many-th call fails; never if zero.
    fails_each: u64,
    calls: u64,
    /// It gives nothing back, and does not say so.
    loses: bool,
    counts: Counts,
}

/// What has happened to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub puts: u64,
    pub failures: u64,
}

impl Shelf {
    /// One that is empty, and fails each so many-th time.
    pub(crate) fn new(fails_each: u64) -> Self {
        let shelf = Self::default();
        shelf.lock().fails_each = fails_each;
        shelf
    }

    /// From now on it gives nothing back.
    pub(crate) fn lose_all(&self) {
        self.lock().loses = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Does something while nothing fails: looking does not count.
    pub(crate) fn at_peace<T>(&self, look: impl FnOnce() -> T) -> T {
        let fails_each = std::mem::take(&mut self.lock().fails_each);
        let seen = look();
        self.lock().fails_each = fails_each;
        seen
    }

    /// What lies in a slot.
    pub(crate) fn records(&self, slot: u64, aside: Option<&str>) -> Vec<Record> {
        let inner = self.lock();
        stored_records(&inner.kept[&slot], aside).expect("what was put away")
    }
}

impl Inner {
    fn fail(&mut self) -> Result<(), StoreError> {
        if self.fails_each == 0 {
            return Ok(());
        }
        self.calls += 1;
        match self.calls.is_multiple_of(self.fails_each) {
            true => {
                self.counts.failures += 1;
                Err(StoreError("the store has failed".to_owned()))
            }
            false => Ok(()),
        }
    }
}

impl Store for Shelf {
    fn put(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let mut inner = self.lock();
        inner.fail()?;
        inner.next += 1;
        inner.counts.puts += 1;
        let slot = inner.next;
        inner.kept.insert(slot, bytes.to_vec());
        Ok(slot)
    }

    fn get(&self, slot: u64) -> Result<Vec<u8>, StoreError> {
        let mut inner = self.lock();
        inner.fail()?;
        if inner.loses {
            let nothing: Vec<(bool, Vec<Parcel>)> = Vec::new();
            let mut bytes = Vec::new();
            codec::store(&nothing, &mut bytes).expect("an empty list");
            return Ok(bytes);
        }
        let kept = inner.kept.get(&slot).cloned();
        kept.ok_or_else(|| StoreError("nothing lies there".to_owned()))
    }

    fn forget(&mut self, slot: u64) {
        self.lock().kept.remove(&slot);
    }
}
