//! What a process has used, from `/proc`.

use anyhow::Context;

/// CPU time and memory at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// User and system time of all its threads, in seconds.
    pub(super) cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub(super) resident_bytes: u64,
}

impl Usage {
    /// Of this process.
    pub(super) fn own() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    /// Of the process `pid`.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let file = format!("/proc/{pid}/stat");
        let stat = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as u64;
        parse(&stat, ticks, page).with_context(|| format!("understand {file}"))
    }
}

fn parse(stat: &str, ticks: f64, page: u64) -> Option<Usage> {
    // The name before the last parenthesis may hold anything; the state, field 3, follows it.
    let (_, fields) = stat.rsplit_once(')')?;
    let number = |field: usize| fields.split_ascii_whitespace().nth(field - 3)?.parse().ok();
    let (user, system, pages): (u64, u64, u64) = (number(14)?, number(15)?, number(24)?);
    Some(Usage {
        cpu_seconds: (user + system) as f64 / ticks,
        resident_bytes: pages * page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 99 123456 25 999";
        let usage = parse(stat, 100.0, 4096).unwrap();
        assert!((usage.cpu_seconds - 2.0).abs() < 1e-9);
        assert_eq!(usage.resident_bytes, 25 * 4096);
        assert!(parse("42 (a", 100.0, 4096).is_none());
    }
}
