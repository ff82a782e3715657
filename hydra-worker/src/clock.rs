//! The clock of leases and timers: it goes on while the machine sleeps, and nobody can set it.

use hydra_proto::ledger::Time;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The time since the machine was started (`CLOCK_BOOTTIME`).
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    // Neither part is ever negative.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
