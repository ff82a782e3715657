//! What the ledger costs: the same walk and the same plugin over a plain stack, and by one worker of `hydra-server`.
//!
//! ```sh
//! cargo build --release && cargo bench -p hydra-bench --bench ledger -- DIR
//! ```
//!
//! Processor time of all processes, taken in turns: where the machine is shared it varies least. `hydra-server` holds a
//! process more, the greeting, the commits and the printed report, so an empty directory is walked as well, and what that
//! takes is to be taken off. It walks once more with so long a commit interval that there are hardly any commits: what is
//! between the two is what commits cost. Both tell in a page what they are doing, as a worker tells its supervisor.

use anyhow::{Context, ensure};
use clap::Parser;
use hydra::plugins::audit::{Audit, AuditOptions};
use hydra::plugins::count::{Count, CountOptions};
use hydra::{Plugin, RootSpec};
use hydra_bench::Work;
use hydra_proto::job::JobSpec;
use hydra_worker::sys::slot::{self, Slot};
use hydra_worker::{Identity, walk_bare};
use rustix::fs::MemfdFlags;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Walk a tree with the ledger and without it
#[derive(Parser)]
struct Args {
    /// The tree
    dir: PathBuf,
    /// The program `hydra-server`
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/hydra-server"))]
    hydra: PathBuf,
    /// Timed walks of each
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Walk over a plain stack, once, and print the number of entries: what the timed processes do
    #[arg(long, hide = true)]
    bare: Option<Work>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let dir = std::path::absolute(&args.dir)?;
    if let Some(work) = args.bare {
        return walk(work, &dir);
    }
    let empty = tempfile::tempdir()?;
    println!(
        "| work, tree | plain stack, CPU s | worker that hardly commits | ratio | worker | ratio |"
    );
    println!("|---|---|---|---|---|---|");
    for work in [Work::List, Work::Stat] {
        for dir in [dir.as_path(), empty.path()] {
            compare(&args, work, dir)?;
        }
    }
    Ok(())
}

/// Prints a row: medians.
fn compare(args: &Args, work: Work, dir: &Path) -> anyhow::Result<()> {
    let plugin = match work {
        Work::List => "count",
        Work::Stat => "audit",
    };
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg(format!("--bare={work}")).arg(dir);
    let worker = |interval: &str| {
        let mut worker = Command::new(&args.hydra);
        worker.args([
            "--workers=1",
            "--commit-interval",
            interval,
            plugin,
            "--json",
        ]);
        worker.arg(dir);
        worker
    };
    let (mut rarely, mut worker) = (worker("1h"), worker("200ms"));
    // These fill the kernel's caches, too.
    let (ours, theirs) = (entries(&mut bare)?, entries(&mut worker)?);
    ensure!(
        ours == theirs,
        "{ours} entries without the ledger, {theirs} with it"
    );
    let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..args.runs {
        for (seconds, command) in seconds
            .iter_mut()
            .zip([&mut bare, &mut rarely, &mut worker])
        {
            seconds.push(processor_time(command)?);
        }
    }
    let [bare, rarely, worker] = seconds.map(median);
    let (few, all) = (rarely / bare, worker / bare);
    let dir = dir.display();
    println!("| {work}, {dir} | {bare:.3} | {rarely:.3} | {few:.3} | {worker:.3} | {all:.3} |");
    Ok(())
}

/// How many entries it says that it found.
fn entries(command: &mut Command) -> anyhow::Result<u64> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("start a walk to be counted")?;
    ensure!(output.status.success(), "a walk failed: {}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let entries = report.pointer("/totals/entries").unwrap_or(&report);
    entries.as_u64().context("no number of entries")
}

/// User and system time of a process and of all that it waited for, in seconds.
fn processor_time(command: &mut Command) -> anyhow::Result<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let spent = || -> anyhow::Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let times = [usage.user_time(), usage.system_time()];
        let seconds = times.map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
        Ok(seconds.iter().sum())
    };
    let before = spent()?;
    let program = command.get_program().to_owned();
    let status = command.stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("start {}", program.display()))?;
    ensure!(status.success(), "{} failed: {status}", program.display());
    Ok(spent()? - before)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

fn walk(work: Work, dir: &Path) -> anyhow::Result<()> {
    match work {
        Work::List => walk_with::<Count>(CountOptions::default(), dir),
        Work::Stat => walk_with::<Audit>(AuditOptions::default(), dir),
    }
}

fn walk_with<P: Plugin>(mut options: P::Options, dir: &Path) -> anyhow::Result<()> {
    P::prepare(&mut options, SystemTime::now());
    let visit = P::visit(&options).map_err(anyhow::Error::msg)?;
    let path = dir.as_os_str().as_bytes().to_vec();
    let job = JobSpec {
        plugin: P::NAME.to_owned(),
        roots: vec![RootSpec {
            shown: path.clone(),
            local: path,
            ..RootSpec::default()
        }],
        ..JobSpec::default()
    };
    let page = rustix::fs::memfd_create("slot", MemfdFlags::CLOEXEC)?;
    slot::prepare(&page)?;
    let identity = Identity {
        slot: Some(Slot::map(&page)?),
        ..Identity::default()
    };
    let (_, walked) = walk_bare(visit, job, identity)?;
    ensure!(walked.errors.is_empty(), "not everything could be read");
    println!("{}", walked.entries);
    Ok(())
}
