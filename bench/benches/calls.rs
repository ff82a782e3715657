//! Ways to make the same calls: the buffer of a listing, the mask of `statx`, the order in which entries are asked about.
//!
//! ```sh
//! cargo bench -p hydra-bench --bench calls -- DIR            # warm; DIR holds many files itself
//! cargo bench -p hydra-bench --bench calls -- --cold DIR     # caches dropped before each run; needs root
//! ```
//!
//! One process, one thread, in turns; medians of wall-clock time.

use anyhow::{Context, ensure};
use clap::Parser;
use hydra_bench::runner::session::drop_caches;
use hydra_worker::sys::list::{ListBuffer, Lister};
use hydra_worker::sys::stat::{StatMask, Sync, stat_at};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Make the same system calls in several ways
#[derive(Parser)]
struct Args {
    /// The directory
    dir: PathBuf,
    /// Timed runs of each
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Drop the kernel's caches before each
    #[arg(long)]
    cold: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A name, and the inode number that the listing gave.
type Name = (u64, CString);

/// In what order entries are asked about.
#[derive(Clone, Copy)]
enum Order {
    /// As they are listed.
    Listed,
    /// So many at a time by their inode numbers.
    Inodes(usize),
}

#[derive(Clone, Copy)]
enum Way {
    /// Only list, into a buffer of so many bytes.
    List(usize),
    /// List, and ask about each entry.
    Stat(StatMask, Sync, Order),
}

const SORTED_TOGETHER: usize = 2048;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let narrow = StatMask::TYPE | StatMask::SIZE | StatMask::BLOCKS;
    let (basic, as_stat) = (StatMask::BASIC_STATS, Sync::AsStat);
    let kib = 1024;
    let ways = [
        ("list, 4 KiB", Way::List(4 * kib)),
        ("list, 32 KiB", Way::List(32 * kib)),
        ("list, 64 KiB", Way::List(64 * kib)),
        ("list, 1 MiB", Way::List(kib * kib)),
        (
            "stat, type, size, blocks",
            Way::Stat(narrow, as_stat, Order::Listed),
        ),
        ("stat, all", Way::Stat(basic, as_stat, Order::Listed)),
        (
            "stat, all, lazy",
            Way::Stat(basic, Sync::Lazy, Order::Listed),
        ),
        (
            "stat, all, by inode, 2,048 together",
            Way::Stat(basic, as_stat, Order::Inodes(SORTED_TOGETHER)),
        ),
        (
            "stat, all, by inode, all together",
            Way::Stat(basic, as_stat, Order::Inodes(usize::MAX)),
        ),
    ];
    let mut seconds = ways.map(|_| Vec::new());
    let expected = go(ways[0].1, &args.dir)?;
    for _ in 0..args.runs {
        for ((name, way), seconds) in ways.iter().zip(&mut seconds) {
            if args.cold {
                drop_caches()?;
            }
            let begun = Instant::now();
            let entries = go(*way, &args.dir)?;
            seconds.push(begun.elapsed());
            ensure!(
                entries == expected,
                "{name}: {entries} entries, {expected} before"
            );
        }
    }
    println!("| {expected} entries | s |\n|---|---|");
    for ((name, _), mut seconds) in ways.into_iter().zip(seconds) {
        seconds.sort_unstable();
        let median = seconds
            .get(seconds.len() / 2)
            .map_or(f64::NAN, Duration::as_secs_f64);
        println!("| {name} | {median:.3} |");
    }
    Ok(())
}

/// Goes through the directory; returns how many entries it has.
fn go(way: Way, dir: &Path) -> anyhow::Result<u64> {
    let open = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    let mut buffer = match way {
        Way::List(bytes) => ListBuffer::new(bytes),
        Way::Stat(..) => ListBuffer::default(),
    };
    let mut lister = Lister::new(open.as_fd(), &mut buffer);
    let mut waiting: Vec<Name> = Vec::new();
    while let Some(entry) = lister.next() {
        let entry = entry.context("list")?;
        match way {
            Way::List(_) => {}
            Way::Stat(mask, sync, Order::Listed) => {
                stat_at(open.as_fd(), entry.c_name, mask, sync).context("statx")?;
            }
            Way::Stat(mask, sync, Order::Inodes(most)) => {
                waiting.push((entry.ino, entry.c_name.to_owned()));
                if waiting.len() >= most {
                    sorted(&open, &mut waiting, mask, sync)?;
                }
            }
        }
    }
    if let Way::Stat(mask, sync, Order::Inodes(_)) = way {
        sorted(&open, &mut waiting, mask, sync)?;
    }
    Ok(lister.names())
}

/// Asks about these entries, by their inode numbers.
fn sorted(dir: &File, names: &mut Vec<Name>, mask: StatMask, sync: Sync) -> anyhow::Result<()> {
    names.sort_unstable_by_key(|(ino, _)| *ino);
    for (_, name) in names.drain(..) {
        stat_at(dir.as_fd(), name.as_c_str(), mask, sync).context("statx")?;
    }
    Ok(())
}
