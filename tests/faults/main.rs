//! Real servers, clients and workers, killed and stopped at random while they work: the report must not change.
//!
//! This program is its own Hydra: with a role on its command line it plays that role, with a plugin that makes
//! the audit's report and tells the harness, every few directories, which worker is at work. So each fault hits a
//! process that owns work at that moment. Without a role it is the harness.
//!
//! `HYDRA_FAULT_RUNS` says how many runs, `HYDRA_FAULT_SEED` where the seeds start; a failing run prints how to
//! repeat it. Then the server itself is killed and goes on: `HYDRA_FAULT_KILLS` says how often in one job. With
//! `HYDRA_FAULT_TREE` only that is done, on a tree that is there already.

mod cluster;
mod plugin;
mod server;
mod tree;

use cluster::{Cluster, Fault, Lab};
use hydra::Hydra;
use plugin::TickAudit;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::process::ExitCode;

/// Runs that a plain `cargo test` makes.
const RUNS: u64 = 8;
/// How often a plain `cargo test` kills the server of one job.
const KILLS: u64 = 4;
/// Work that is done again when servers of a large job were killed and its clients lived, in percent of the job.
const AGAIN_MAX: f64 = 5.0;
/// Directories of the tree.
const DIRECTORIES: usize = 20_000;

fn main() -> ExitCode {
    let role = |arg: &String| {
        let names = ["client", "keygen", "tick-audit", "resume"];
        names.contains(&arg.as_str()) || arg.starts_with("__")
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
    let kills = number("HYDRA_FAULT_KILLS", KILLS);
    match std::env::var_os("HYDRA_FAULT_TREE") {
        Some(tree) => long(Lab::on(tree.as_ref()), kills),
        None => harness(runs, first, kills),
    }
}

/// Kills the server of jobs over a large tree.
fn long(lab: std::io::Result<Lab>, kills: u64) -> ExitCode {
    match lab.map(|lab| kill_servers(&lab, kills)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the lab could not be set up: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One job with two clients, which outlive the servers, and one whose workers die with them. Says whether all was well.
fn kill_servers(lab: &Lab, kills: u64) -> bool {
    let kills = u32::try_from(kills).unwrap_or(u32::MAX);
    let with_clients = kill_server(lab, 2, kills);
    let alone = kill_server(lab, 0, kills);
    // Alone, each kill costs what was not committed, however large the job is.
    with_clients.is_some_and(|again| again < AGAIN_MAX) && alone.is_some()
}

/// Says how much was done again, in percent; nothing if the report was another one.
fn kill_server(lab: &Lab, clients: usize, kills: u32) -> Option<f64> {
    match server::run(lab, clients, kills) {
        Ok(told) => {
            println!(
                "{clients} clients, server killed {} times in {:.1} s: {} entries walked of {}, {:.2} % again: ok",
                told.kills,
                told.seconds,
                told.walked,
                told.entries,
                told.again()
            );
            (told.kills == kills).then(|| told.again())
        }
        Err(error) => {
            println!("{clients} clients, server killed: {error}");
            println!("repeat: HYDRA_FAULT_RUNS=0 cargo test --test faults");
            None
        }
    }
}

fn harness(runs: u64, first: u64, kills: u64) -> ExitCode {
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
    let went_on = kill_servers(&lab, kills);
    match failed == 0 && (counted > 0 || runs == 0) && went_on {
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
