//! How many calls were under way over time. Where they are fewer than there are workers, these had
//! nothing to do, or something else.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::fuse::Mounted;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(2);
/// The time that each mean stands for.
pub const SLICE: Duration = Duration::from_millis(50);

/// Looks until `over` is closed; returns the mean number of calls under way in each [`SLICE`] in which it was looked,
/// the last of which may be shorter.
pub(super) fn watch(mounted: &Mounted, over: &Receiver<()>) -> Vec<f64> {
    let start = Instant::now();
    let mut slices = Vec::new();
    let (mut sum, mut looks) = (0, 0_u32);
    let mut close = |sum: &mut u64, looks: &mut u32| {
        let mean = std::mem::take(sum) as f64 / f64::from(std::mem::take(looks));
        if mean.is_finite() {
            slices.push((mean * 10.0).round() / 10.0);
        }
    };
    let mut ends = SLICE;
    while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        while start.elapsed() >= ends {
            close(&mut sum, &mut looks);
            ends += SLICE;
        }
        sum += mounted.in_flight();
        looks += 1;
    }
    close(&mut sum, &mut looks);
    slices
}
