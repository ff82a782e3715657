//! `bench-fuse DIR`: a slow, endless tree to walk, and the count of what was asked of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use hydra_bench::fuse::{Answering, Kind, Mounted, measure};
use hydra_bench::implicit::{ImplicitTree, TreeArgs};
use hydra_bench::{period, totals};
use nix::sys::signal::{SigSet, Signal};

/// Serve a tree that exists only as arithmetic, with a set latency for each call
#[derive(Parser)]
#[command(
    version,
    after_help = "SIGUSR1 prints the calls so far; SIGINT and SIGTERM unmount and print them."
)]
struct Args {
    /// Where to mount it: an empty directory
    #[arg(required_unless_present_any = ["self_test", "totals"])]
    dir: Option<PathBuf>,
    #[command(flatten)]
    tree: TreeArgs,
    /// How long each call takes that somebody waits for
    #[arg(long, value_name = "TIME", value_parser = period::parse, default_value = "0")]
    latency: Duration,
    /// Another latency for one kind of call: lookup, getattr, opendir, readdir, releasedir or statfs
    #[arg(long, value_name = "KIND=TIME", value_delimiter = ',', value_parser = one_kind)]
    latency_of: Vec<(Kind, Duration)>,
    /// How long the kernel may keep what a name leads to
    #[arg(long, value_name = "TIME", value_parser = period::parse, default_value = "0")]
    entry_timeout: Duration,
    /// How long the kernel may keep attributes
    #[arg(long, value_name = "TIME", value_parser = period::parse, default_value = "0")]
    attr_timeout: Duration,
    /// The most entries that one READDIR brings
    #[arg(long, value_name = "N", default_value_t = 512)]
    entries_per_readdir: usize,
    /// Threads that read calls
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Only count what the tree holds
    #[arg(long)]
    totals: bool,
    /// Only measure what the file system can do at most
    #[arg(long)]
    self_test: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.self_test {
        return self_test();
    }
    let tree = ImplicitTree::new(&args.tree)?;
    if args.totals {
        println!("{}", serde_json::to_string(&tree.count())?);
        return Ok(());
    }
    let dir = args.dir.as_deref().context("no directory was given")?;
    serve(tree, &answering(&args), dir)
}

fn answering(args: &Args) -> Answering {
    let mut answering = Answering {
        entry_timeout: args.entry_timeout,
        attr_timeout: args.attr_timeout,
        entries_per_readdir: args.entries_per_readdir,
        threads: args.threads,
        ..Answering::default().with_latency(args.latency)
    };
    for (kind, latency) in &args.latency_of {
        answering.latency[*kind as usize] = *latency;
    }
    answering
}

/// Serves until a signal ends it. Says `mounted` when it can be used.
fn serve(tree: ImplicitTree, answering: &Answering, dir: &Path) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1] {
        signals.add(signal);
    }
    // Before any thread is started, so that none of them is interrupted.
    signals.thread_block().context("block signals")?;
    let mounted = Mounted::new(tree, answering, dir)?;
    println!("mounted");
    loop {
        let signal = signals.wait().context("wait for a signal")?;
        println!("{}", serde_json::to_string(&mounted.calls())?);
        if signal != Signal::SIGUSR1 {
            return Ok(());
        }
        if mounted.is_over() {
            bail!("{} was unmounted by somebody else", dir.display());
        }
    }
}

/// Prints a line for each load.
fn self_test() -> anyhow::Result<()> {
    totals::raise_open_files();
    let dir = tempfile::tempdir().context("make a directory")?;
    let millisecond = Duration::from_millis(1);
    for (latency, callers) in [
        (Duration::ZERO, 1),
        (Duration::ZERO, 2),
        (Duration::ZERO, 8),
        (millisecond, 1),
        (millisecond, 8),
        (millisecond, 64),
        (millisecond, 1024),
    ] {
        let load = measure(&[dir.path()], latency, callers, Duration::from_secs(3))?;
        println!("{}", serde_json::to_string(&load)?);
    }
    Ok(())
}

fn one_kind(text: &str) -> Result<(Kind, Duration), String> {
    let (kind, time) = text
        .split_once('=')
        .ok_or("a kind of call, =, and a period")?;
    let kind = <Kind as clap::ValueEnum>::from_str(kind, false)?;
    Ok((kind, period::parse(time)?))
}
