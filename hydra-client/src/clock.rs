//! The client's clock: it goes on while the machine sleeps, so that a lease cannot outlast a suspend.

use hydra_proto::ledger::Time;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Now, since the machine was started.
pub(crate) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
