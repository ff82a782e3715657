//! Real servers, clients and workers, killed and stopped at random while they work: the report must not change.
//!
//! This program is its own Hydra: with a role on its command line it plays that role, with a plugin that makes
//! the audit's report and tells the harness, every few directories, which worker is at work. So each fault hits a
//! process that owns work at that moment. Without a role it is the harness.
//!
//! `HYDRA_FAULT_RUNS` says how many runs, `HYDRA_FAULT_SEED` where the seeds start; a failing run prints how to
//! repeat it.

mod cluster;
mod plugin;
mod tree;

use cluster::{Cluster, Fault, Lab};
use hydra::Hydra;
use plugin::TickAudit;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::process::ExitCode;

/// Runs that a plain `cargo test` makes.
const RUNS: u64 = 8;
/// Directories of the tree.
const DIRECTORIES: usize = 20_000;

fn main() -> ExitCode {
    let role = |arg: &String| {
        matches!(arg.as_str(), "client" | "keygen" | "tick-audit") || arg.starts_with("__")
    };
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    if args.iter().skip(1).any(role) {
        return Hydra::new().plugin::<TickAudit>().run();
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("faults: test");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (runs, first) = (
        number("HYDRA_FAULT_RUNS", RUNS),
        number("HYDRA_FAULT_SEED", 1),
    );
    harness(runs, first)
}

fn harness(runs: u64, first: u64) -> ExitCode {
    let lab = match Lab::new(DIRECTORIES) {
        Ok(lab) => lab,
        Err(error) => {
            println!("the lab could not be set up: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut failed, mut hits, mut counted) = (0, 0, 0);
    for seed in first..first + runs {
        match run(&lab, seed) {
            Ok(hit) => {
                hits += hit;
                counted += u64::from(hit > 0);
                println!("seed {seed}: {hit} faults hit a process that owned work: ok");
            }
            Err(error) => {
                failed += 1;
                println!("seed {seed}: {error}");
                println!(
                    "repeat: HYDRA_FAULT_SEED={seed} HYDRA_FAULT_RUNS=1 cargo test --test faults"
                );
            }
        }
    }
    println!("{hits} faults in {counted} runs that count, of {runs}");
    println!("{} passed, {failed} failed", runs - failed);
    match failed == 0 && counted > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One job under one to five faults. Says how many of them hit.
fn run(lab: &Lab, seed: u64) -> Result<u64, String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let clients = [0, 2, 3][rng.random_range(0..3)];
    let mut cluster = Cluster::start(lab, seed, clients)?;
    let mut faults: Vec<(u64, Fault)> = Vec::new();
    for _ in 0..rng.random_range(1..=5) {
        let at = rng.random_range(20..lab.ticks() * 9 / 10);
        faults.push((at, Fault::random(&mut rng, clients)));
    }
    faults.sort_by_key(|(at, _)| *at);
    let mut faults = faults.into_iter().peekable();
    let mut tick = 0;
    while let Some(worker) = cluster.next_tick()? {
        tick += 1;
        cluster.recover(tick)?;
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= tick) {
            cluster.inflict(fault, worker, tick)?;
        }
    }
    let hits = cluster.hits();
    let report = cluster.finish()?;
    match report == *lab.reference() {
        true => Ok(hits),
        false => Err(lab.difference(seed, &report)),
    }
}
