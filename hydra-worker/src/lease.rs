//! The right to act for a while, and the waiting for its renewal.
//!
//! The talking thread renews it, the walking thread asks before each action. A worker that was stopped, or whose
//! parent is silent, finds that it has run out, and does nothing until the parent has spoken again.

use crate::clock;
use hydra_proto::ledger::Time;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// A lease; none has been granted at first.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// In nanoseconds of [`clock::now`].
    deadline: AtomicU64,
    over: AtomicBool,
    gate: Mutex<()>,
    changed: Condvar,
}

impl Lease {
    /// It lasts until `deadline`.
    pub(crate) fn renew(&self, deadline: Time) {
        let nanos = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        if self.deadline.swap(nanos, Ordering::AcqRel) != nanos {
            self.tell();
        }
    }

    /// It will never be renewed again.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.tell();
    }

    fn tell(&self) {
        // Taken so that nobody is between looking and waiting.
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Whether it holds at this moment; `None` when it is over for good.
    fn holds(&self) -> Option<bool> {
        if self.over.load(Ordering::Acquire) {
            return None;
        }
        Some(clock::now().as_nanos() < u128::from(self.deadline.load(Ordering::Acquire)))
    }

    /// Waits until it holds; `false` when it never will again.
    pub(crate) fn wait(&self) -> bool {
        if self.holds() == Some(true) {
            return true;
        }
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.holds() {
                None => return false,
                Some(true) => return true,
                Some(false) => {
                    gate = self
                        .changed
                        .wait(gate)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn nobody_acts_before_the_parent_has_spoken() {
        let lease = Arc::new(Lease::default());
        let waiting = Arc::clone(&lease);
        let thread = std::thread::spawn(move || waiting.wait());
        lease.renew(Time::from_nanos(1));
        assert_eq!(lease.holds(), Some(false));
        lease.renew(clock::now() + Duration::from_secs(60));
        assert!(thread.join().unwrap());
    }

    #[test]
    fn the_end_frees_those_who_wait() {
        let lease = Arc::new(Lease::default());
        let waiting = Arc::clone(&lease);
        let thread = std::thread::spawn(move || waiting.wait());
        lease.end();
        assert!(!thread.join().unwrap());
    }
}
