//! What the walking and the talking thread share: the ledger under one lock, and two flags that ask for attention.
//!
//! ```text
//!            attention: NONE, SOON, NOW; whether to say that it lasts (read per entry, relaxed)
//!   walker ◄──────────────────────────────────────────────────────── talker
//!     │  lock: push, finish, pop, cut     lock: grants, sheds, beats    ▲
//!     └────────────────────── eventfd: "something to send" ─────────────┘
//! ```

use crate::lease::Lease;
use crate::place::At;
use crate::sys::slot::Slot;
use hydra_proto::ids::IdRange;
use hydra_proto::ledger::{Cut, Frontier, Time, Uplink};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How urgently the walker is wanted at the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Attention {
    /// Walk on.
    None = 0,
    /// At the next end of a directory or of a buffer of names.
    Soon = 1,
    /// After the entry in hand.
    Now = 2,
}

/// The ledger of this worker, and what its two threads tell each other about it.
pub(crate) struct Ledger {
    pub(crate) frontier: Frontier<At>,
    pub(crate) uplink: Uplink,
    /// The session has ended.
    pub(crate) over: bool,
    pub(crate) paused: bool,
    /// The walker waits.
    pub(crate) idle: bool,
    /// It is time for a commit.
    pub(crate) commit_due: bool,
    pub(crate) last_commit: Time,
    /// The time between two commits.
    pub(crate) interval: Duration,
    /// Counts the pieces of work that were finished.
    pub(crate) steps: u64,
    /// What the parent believes.
    pub(crate) told_hungry: bool,
    /// The talker was woken to look whether the parent believes the right thing.
    pub(crate) hunger_noted: bool,
    /// Pieces of rows that the server has kept.
    pub(crate) kept: u64,
    /// Why the walker has given up.
    pub(crate) failure: Option<String>,
    /// What was in hand last before each commit that is not sent, by its number.
    pub(crate) unsent: VecDeque<(u64, Option<u64>)>,
    /// Where the supervisor sees what is in hand.
    pub(crate) slot: Option<Arc<Slot>>,
}

impl Ledger {
    /// A commit was cut; `last` was in hand last.
    pub(crate) fn note_cut(&mut self, last: Option<u64>) {
        let (cut, _) = self.uplink.commits();
        self.unsent.push_back((cut, last));
    }

    /// Sends what is given away while something is in hand. The parent learns what is left: that may be nothing but
    /// what is in hand, and whether that lasts is to be looked at.
    pub(crate) fn send_gift(&mut self, cut: Cut) {
        self.told_hungry = cut.load.hungry;
        self.hunger_noted = true;
        self.uplink.commit(cut);
    }

    /// A commit is on its way, and with it all before it.
    pub(crate) fn note_sent(&mut self, seq: u64) {
        self.unsent.retain(|(cut, _)| *cut > seq);
    }

    /// This commit cannot be sent: the walk ends, and what was in hand last before it is to blame.
    pub(crate) fn blame_for(&mut self, seq: u64) {
        // From here on the walker says nothing of what it has in hand.
        self.over = true;
        let cut = self.unsent.iter().find(|(cut, _)| *cut == seq);
        if let Some(slot) = &self.slot {
            slot.set_item(cut.and_then(|(_, last)| *last));
        }
    }
}

/// See the module.
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    work: Condvar,
    attention: AtomicU8,
    lasts: AtomicBool,
    frugal: AtomicBool,
    pub(crate) wake: OwnedFd,
    pub(crate) lease: Arc<Lease>,
}

impl Shared {
    pub(crate) fn new(uplink: Uplink) -> Result<Self, rustix::io::Errno> {
        let ledger = Ledger {
            frontier: Frontier::new(IdRange::default()),
            uplink,
            over: false,
            paused: false,
            idle: false,
            commit_due: false,
            last_commit: Time::ZERO,
            interval: Duration::ZERO,
            steps: 0,
            told_hungry: true,
            hunger_noted: false,
            kept: 0,
            failure: None,
            unsent: VecDeque::new(),
            slot: None,
        };
        Ok(Self {
            ledger: Mutex::new(ledger),
            work: Condvar::new(),
            attention: AtomicU8::new(0),
            lasts: AtomicBool::new(false),
            frugal: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            lease: Arc::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the walker wait until the talker has news for it.
    pub(crate) fn wait<'a>(&self, ledger: MutexGuard<'a, Ledger>) -> MutexGuard<'a, Ledger> {
        self.work
            .wait(ledger)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the walker, if it waits.
    pub(crate) fn notify(&self) {
        self.work.notify_all();
    }

    /// Wakes the talker.
    pub(crate) fn wake(&self) {
        // It can only fail when the counter is full, and then the talker is awake anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    #[inline]
    pub(crate) fn wants(&self, attention: Attention) -> bool {
        self.attention.load(Ordering::Relaxed) >= attention as u8
    }

    pub(crate) fn ask_for(&self, attention: Attention) {
        self.attention.store(attention as u8, Ordering::Relaxed);
    }

    /// What is in hand lasts, and nothing else is left: others may have a part of it.
    #[inline]
    pub(crate) fn lasts(&self) -> bool {
        self.lasts.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lasts(&self, lasts: bool) {
        self.lasts.store(lasts, Ordering::Relaxed);
    }

    /// Whether to find no more than is needed, because the parent lacks memory.
    #[inline]
    pub(crate) fn is_frugal(&self) -> bool {
        self.frugal.load(Ordering::Relaxed)
    }

    pub(crate) fn set_frugal(&self, frugal: bool) {
        self.frugal.store(frugal, Ordering::Relaxed);
    }

    /// The session is over: frees the walker from whatever it waits for.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.ask_for(Attention::Now);
        self.notify();
        self.lease.end();
    }
}
