//! Counting calls: how many of each kind, how long they took, and how many were under way at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The kinds of calls that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A name in a directory: each component of a path that is resolved. Brings the attributes too.
    Lookup,
    /// The attributes of something known.
    Getattr,
    /// Opening a directory.
    Opendir,
    /// A part of a listing; the last one is empty.
    Readdir,
    /// Closing a directory. Nobody waits for it.
    Releasedir,
    /// About the file system as a whole.
    Statfs,
    /// Removing a name, where the file system is not mounted read-only. Refused, when it is answered.
    Unlink,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 7;

const NAMES: [&str; KINDS] = [
    "lookup",
    "getattr",
    "opendir",
    "readdir",
    "releasedir",
    "statfs",
    "unlink",
];

/// The counters; shared by all threads.
#[derive(Debug, Default)]
pub struct CallCounts {
    calls: [AtomicU64; KINDS],
    nanoseconds: [AtomicU64; KINDS],
    now: AtomicU64,
    most: AtomicU64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Calls of each kind.
    pub calls: BTreeMap<String, u64>,
    /// From the moment when a call was read until its answer left, on average, in microseconds.
    pub mean_microseconds: BTreeMap<String, f64>,
    /// The most calls under way at once.
    pub in_flight_max: u64,
}

impl CallCounts {
    pub(super) fn begin(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(now, Relaxed);
    }

    pub(super) fn end(&self, kind: Kind, took: Duration) {
        self.now.fetch_sub(1, Relaxed);
        self.calls[kind as usize].fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds[kind as usize].fetch_add(nanoseconds, Relaxed);
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// What was counted so far.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            in_flight_max: self.most.load(Relaxed),
            ..Summary::default()
        };
        for (index, name) in NAMES.iter().enumerate() {
            let calls = self.calls[index].load(Relaxed);
            summary.calls.insert((*name).to_owned(), calls);
            if calls > 0 {
                let mean = self.nanoseconds[index].load(Relaxed) as f64 / calls as f64;
                let rounded = (mean / 100.0).round() / 10.0;
                summary
                    .mean_microseconds
                    .insert((*name).to_owned(), rounded);
            }
        }
        summary
    }
}

impl Summary {
    /// Calls of this kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.calls
            .get(NAMES[kind as usize])
            .copied()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn each_kind_has_its_own_counter_and_name() {
        let counts = CallCounts::default();
        for (times, kind) in (1..).zip(Kind::value_variants()) {
            (0..times).for_each(|_| counts.begin());
            (0..times).for_each(|_| counts.end(*kind, Duration::from_micros(3)));
        }
        let summary = counts.summary();
        assert_eq!(summary.in_flight_max, KINDS as u64);
        for (times, kind) in (1..).zip(Kind::value_variants()) {
            assert_eq!(summary.of(*kind), times);
            let name = format!("{kind:?}").to_lowercase();
            assert_eq!(summary.calls[&name], times);
            assert!((summary.mean_microseconds[&name] - 3.0).abs() < 0.01);
        }
    }
}
