//! What the file system itself can do: many callers that ask about one file after another.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};

use super::{Answering, Mounted};
use crate::implicit::{Entry, ImplicitTree, TreeArgs};
use crate::tree::Shape;

/// Files that the callers ask about.
const FILES: u64 = 100_000;

/// What one load has shown.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Load {
    /// Threads that call.
    pub callers: usize,
    /// The latency that was set, in microseconds.
    pub latency_microseconds: u128,
    /// Calls that were answered in a second, of all callers together.
    pub calls_per_second: f64,
    /// How long a call took on average, as its caller saw it, in microseconds.
    pub mean_microseconds: f64,
    /// How long half of the calls took at most, as their callers saw it, in microseconds.
    pub median_microseconds: f64,
    /// The same for 99 of 100.
    pub p99_microseconds: f64,
    /// The most calls under way at once, as the file system saw it.
    pub in_flight_max: u64,
}

/// Mounts a flat tree on each of `dirs` and asks about its files for `period`, from as many threads as
/// `callers` says, spread over the mounts. Each question is one `LOOKUP`.
///
/// # Errors
///
/// When FUSE cannot be used here, or a call fails.
pub fn measure<P: AsRef<Path>>(
    dirs: &[P],
    latency: Duration,
    callers: usize,
    period: Duration,
) -> anyhow::Result<Load> {
    let tree = ImplicitTree::new(&TreeArgs {
        shape: Shape::Flat,
        directories: None,
        files: Some(FILES),
        seed: 1,
    })?;
    let answering = Answering {
        attr_timeout: Duration::from_secs(3600),
        ..Answering::default().with_latency(latency)
    };
    let mounted = Mounted::on_each(tree, &answering, dirs)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |dir: &P| openat(CWD, dir.as_ref(), flags, Mode::empty());
    let roots: Result<Vec<OwnedFd>, _> = dirs.iter().map(open).collect();
    let roots = roots.context("open the mounted roots")?;
    let start = Barrier::new(callers);
    let results: Vec<anyhow::Result<Vec<u32>>> = std::thread::scope(|scope| {
        let start = &start;
        let roots = roots.iter().map(OwnedFd::as_fd).cycle();
        let threads = (0..callers).zip(roots).map(|(caller, root)| {
            scope.spawn(move || {
                start.wait();
                ask(&tree, root, caller * FILES as usize / callers, period)
            })
        });
        // All are started before the first is waited for.
        let threads: Vec<_> = threads.collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            let panicked = |_| Err(anyhow::anyhow!("a caller panicked"));
            thread.join().unwrap_or_else(panicked)
        };
        threads.into_iter().map(join).collect()
    });
    drop(roots);
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    times.sort_unstable();
    let sum: f64 = times.iter().copied().map(f64::from).sum();
    let at = |part: usize| times.get(times.len() * part / 100).copied();
    let microseconds = |part| f64::from(at(part).unwrap_or_default()) / 1000.0;
    Ok(Load {
        callers,
        latency_microseconds: latency.as_micros(),
        calls_per_second: (times.len() as f64 / period.as_secs_f64()).round(),
        mean_microseconds: (sum / times.len().max(1) as f64).round() / 1000.0,
        median_microseconds: microseconds(50),
        p99_microseconds: microseconds(99),
        in_flight_max: mounted.calls().in_flight_max,
    })
}

/// Asks about files from number `first` on, and returns how long each answer took, in nanoseconds.
fn ask(
    tree: &ImplicitTree,
    root: BorrowedFd<'_>,
    first: usize,
    period: Duration,
) -> anyhow::Result<Vec<u32>> {
    let mut times = Vec::new();
    let mut name = Vec::new();
    let mut before = Instant::now();
    let end = before + period;
    for number in first.. {
        let index = (number as u64 % FILES) as u32;
        name.clear();
        tree.write_name(&Entry::File { dir: 0, index }, index, &mut name);
        statx(root, &name[..], AtFlags::SYMLINK_NOFOLLOW, StatxFlags::SIZE).context("statx")?;
        let now = Instant::now();
        times.push(u32::try_from((now - before).as_nanos()).unwrap_or(u32::MAX));
        if now >= end {
            break;
        }
        before = now;
    }
    Ok(times)
}
