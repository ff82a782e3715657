//! Watches the memory of a command and of all processes that it starts, by reading `/proc`.
//!
//! What is summed is resident memory, so a page that two processes share counts in both: the sum is
//! an upper bound. What happens between two looks is seen only in the peaks that the kernel keeps
//! for each process.

use std::collections::HashMap;
use std::fs;

use serde::Serialize;

/// What was seen, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// The largest sum over all processes at one look.
    pub peak_sum: u64,
    /// The highest peak of a single process.
    pub peak_single: u64,
    /// The sum of the peaks of all processes, at the same time or not.
    pub sum_of_peaks: u64,
    /// How many processes were seen.
    pub processes: usize,
}

/// A command being watched.
#[derive(Debug)]
pub(super) struct Watch {
    root: u32,
    peak_sum: u64,
    peaks: HashMap<u32, u64>,
}

impl Watch {
    pub(super) fn new(root: u32) -> Watch {
        Watch {
            root,
            peak_sum: 0,
            peaks: HashMap::new(),
        }
    }

    /// Looks at all processes once.
    pub(super) fn look(&mut self) {
        let mut sum = 0;
        let mut open = vec![self.root];
        while let Some(pid) = open.pop() {
            if let Some((now, peak)) = resident(pid) {
                sum += now;
                let old = self.peaks.entry(pid).or_default();
                *old = peak.max(*old);
            }
            children(pid, &mut open);
        }
        self.peak_sum = self.peak_sum.max(sum);
    }

    pub(super) fn finish(self) -> Memory {
        Memory {
            peak_sum: self.peak_sum,
            peak_single: self.peaks.values().copied().max().unwrap_or(0),
            sum_of_peaks: self.peaks.values().sum(),
            processes: self.peaks.len(),
        }
    }
}

/// Resident memory now and at its peak, in bytes; none if the process has ended.
fn resident(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// Adds the children of every thread of the process.
fn children(pid: u32, to: &mut Vec<u32>) {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return;
    };
    for thread in threads.flatten() {
        if let Ok(list) = fs::read_to_string(thread.path().join("children")) {
            to.extend(
                list.split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
}
