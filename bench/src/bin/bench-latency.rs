//! `bench-latency`: clients and workers on a file system whose every call takes a millisecond.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use hydra_bench::latency::SLICE;
use hydra_bench::latency::rig::{HEAD, Rig, Settings};
use hydra_bench::runner::machine::Machine;
use hydra_bench::tree::Shape;
use hydra_bench::{Work, period};

/// Set Hydra on many hosts against the least time that slow calls allow; needs root
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How many clients, each in a network namespace of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=200))]
    clients: u8,
    /// Workers of each client
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// How long each call takes
    #[arg(long, value_name = "TIME", value_parser = period::parse, default_value = "1ms")]
    latency: Duration,
    /// Give each client a mount of its own whose names the kernel keeps for this long; 0: one mount for
    /// all, no name kept
    #[arg(long, value_name = "TIME", value_parser = period::parse, default_value = "0")]
    entry_timeout: Duration,
    /// Make the trees so large that the ideal walk takes about so long
    #[arg(long, value_name = "TIME", value_parser = period::parse, default_value = "8s")]
    ideal: Duration,
    /// Which trees
    #[arg(long, value_delimiter = ',', default_value = "balanced,skewed,flat")]
    shapes: Vec<Shape>,
    /// Which work: list (`count`), stat (`audit`)
    #[arg(long, value_delimiter = ',', default_value = "list,stat")]
    work: Vec<Work>,
    /// Timed runs of each
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Watch how long clients wait for work; their logs make the other times worthless
    #[arg(long)]
    idle: bool,
    /// Another walker to time: a name, and a command for the shell with {} for the tree
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named)]
    beside: Vec<(String, String)>,
    /// The program `hydra-server`; by default the one beside this program
    #[arg(long)]
    server: Option<PathBuf>,
    /// The program `hydra-client`; by default the one beside this program
    #[arg(long)]
    client: Option<PathBuf>,
    /// Write everything to this file as JSON
    #[arg(long)]
    out: Option<PathBuf>,
    /// This process has its namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    ensure!(rustix::process::geteuid().is_root(), "this needs root");
    if !args.inside {
        return enclose();
    }
    end_with_parent();
    let beside_us = |name| anyhow::Ok(std::env::current_exe()?.with_file_name(name));
    let rig = Rig::new(Settings {
        server: args.server.map_or_else(|| beside_us("hydra-server"), Ok)?,
        client: args.client.map_or_else(|| beside_us("hydra-client"), Ok)?,
        clients: args.clients,
        workers: args.workers,
        latency: args.latency,
        entry_timeout: args.entry_timeout,
        ideal: args.ideal,
        runs: args.runs,
        idle: args.idle,
        beside: args.beside,
    })?;
    let machine = Machine::here();
    println!(
        "{} clients with {} workers, calls of {:?}",
        args.clients, args.workers, args.latency
    );
    if !args.entry_timeout.is_zero() {
        let kept = args.entry_timeout;
        println!("each client has a mount of its own, names of which are kept for {kept:?}");
    }
    println!();
    print!("{HEAD}");
    let (mut rows, mut waits) = (Vec::new(), String::new());
    for &shape in &args.shapes {
        for &work in &args.work {
            let row = rig.measure(shape, work)?;
            print!("{}", row.markdown());
            waits += &row.waits();
            rows.push(row);
        }
    }
    if !waits.is_empty() {
        print!("\n{waits}");
    }
    if let Some(out) = &args.out {
        let all = serde_json::json!({
            "machine": machine, "clients": args.clients, "workers": args.workers,
            "entry_timeout_seconds": args.entry_timeout.as_secs_f64(),
            "rows": rows,
            "in_flight_slice_seconds": SLICE.as_secs_f64(),
        });
        std::fs::write(out, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("write {}", out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts this program again as the first process of namespaces of its own: when that ends, everything
/// that it started and mounted is gone.
fn enclose() -> anyhow::Result<ExitCode> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg("--").arg(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--inside");
    // Held open by this process for as long as it lives.
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .context("start unshare (of util-linux)")?;
    let input = child.stdin.take();
    let status = child.wait().context("wait for unshare")?;
    drop(input);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Ends this process when the one that started it has ended, however that came.
fn end_with_parent() {
    std::thread::spawn(|| {
        // Whatever comes, the end or an error, is the end.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
}

fn named(text: &str) -> Result<(String, String), String> {
    let (name, command) = text.split_once('=').ok_or("a name, =, and a command")?;
    Ok((name.to_owned(), command.to_owned()))
}
