//! What befalls calls about single entries: an error, a delay, or no answer at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::calls::Kind;

/// What a call about an entry gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// This error, a number of the operating system.
    Error(i32),
    /// Its answer, so much later.
    Delay(Duration),
    /// No answer, until [`Mounted::heal`](super::Mounted::heal).
    Hang,
}

/// What is injected where: by the inode number of the entry, for a lookup of the one that is looked up, and by the kind
/// of call. May be changed while it is mounted; clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct Injections(Arc<Mutex<HashMap<(u64, usize), Injected>>>);

impl Injections {
    /// Injects it from now on, unless something is injected there already.
    pub fn set(&self, inode: u64, kind: Kind, injected: Injected) {
        self.lock()
            .entry((inode, kind as usize))
            .or_insert(injected);
    }

    /// Injects nothing from now on.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn of(&self, inode: u64, kind: Kind) -> Option<Injected> {
        self.lock().get(&(inode, kind as usize)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, usize), Injected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
