//! Processes that are known by their number only.

// Each test that has this module uses a part of it.
#![allow(dead_code)]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::time::{Duration, Instant};

/// The processes with this environment variable, written `NAME=VALUE`; not those that have ended.
pub(crate) fn pids_with(mark: &str) -> Vec<Pid> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&b| b == 0).any(|v| v == mark.as_bytes()) {
            pids.extend(Pid::from_raw(pid));
        }
    }
    pids
}

/// Waits for a process to end, whoever started it; says whether it did in time.
pub(crate) fn ends_within(pid: Pid, limit: Duration) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let timeout = Timespec::try_from(limit).ok();
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut fds, timeout.as_ref()) == Ok(1)
}

/// The processes with this mark that do not end within `limit`.
pub(crate) fn left_over(mark: &str, limit: Duration) -> Vec<Pid> {
    let deadline = Instant::now() + limit;
    loop {
        let left = pids_with(mark);
        let rest = deadline.saturating_duration_since(Instant::now());
        // Those that end may have started others meanwhile: so everybody is asked for again.
        match left.first() {
            Some(&first) if !rest.is_zero() => ends_within(first, rest),
            _ => return left,
        };
    }
}
