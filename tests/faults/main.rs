//! Real servers, clients and workers that are killed, stopped and cut off at random while they work, on disks that are
//! full and trees that fail: the report must not change.
//!
//! This program is its own Hydra: with a role on its command line it plays that role, with a plugin that makes
//! the audit's report and tells the harness, every few directories, which worker is at work. So each fault hits a
//! process that owns work at that moment. Without a role it is the harness.
//!
//! `HYDRA_FAULT_RUNS` says how many runs, `HYDRA_FAULT_SEED` where the seeds start; a seed decides where the run takes
//! place (`plan.rs` has the kinds, which take turns) and what befalls it, and a failing run prints how to repeat it. What
//! needs root says so and is left out without. Then the server alone is killed, after equal shares of the work:
//! `HYDRA_FAULT_KILLS` says how often in one job. With `HYDRA_FAULT_TREE` only that is done, on a tree that is there
//! already.

mod cluster;
mod fuse;
mod lab;
mod link;
mod ordeal;
mod plan;
mod plugin;
mod purge;
mod server;
mod tree;
mod wires;

#[path = "../shared/logged.rs"]
mod logged;
#[path = "../shared/manifest.rs"]
mod manifest;
#[path = "../shared/mount.rs"]
mod mount;
#[path = "../shared/net.rs"]
mod net;
#[path = "../shared/pids.rs"]
mod pids;

use hydra::Hydra;
use lab::Lab;
use plan::{Kind, Plan};
use plugin::TickAudit;
use purge::TickPurge;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// Runs that a plain `cargo test` makes.
const RUNS: u64 = 2 * Kind::ALL.len() as u64;
/// How often a plain `cargo test` kills the server of one job.
const KILLS: u64 = 4;
/// Work that is done again when servers of a large job were killed and its clients lived, in percent of the job.
const AGAIN_MAX: f64 = 5.0;
/// Directories of the tree.
const DIRECTORIES: usize = 20_000;

fn main() -> ExitCode {
    let role = |arg: &String| {
        let names = ["client", "keygen", "tick-audit", "tick-purge", "resume"];
        names.contains(&arg.as_str()) || arg.starts_with("__")
    };
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    if args.iter().skip(1).any(role) {
        return Hydra::new()
            .plugin::<TickAudit>()
            .plugin::<TickPurge>()
            .run();
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
    let mut count = Count::default();
    for seed in first..first + runs {
        count.run(&lab, &Plan::new(seed), runs == 1);
    }
    count.show();
    let went_on = kill_servers(&lab, kills);
    let hit = !count.hits.is_empty() || count.passed == 0;
    match count.failed == 0 && hit && went_on {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What came of the runs.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    hits: BTreeMap<String, u64>,
    longest: Duration,
}

impl Count {
    fn run(&mut self, lab: &Lab, plan: &Plan, keep: bool) {
        let (Plan { seed, kind, .. }, task) = (plan, plan.task());
        if kind.needs_root() && !can_be_root() {
            self.skipped += 1;
            println!(
                "seed {seed}, {kind:?}: SKIPPED, as it needs root, network namespaces and FUSE"
            );
            return;
        }
        match ordeal::run(lab, plan, keep) {
            Ok(told) => {
                self.passed += 1;
                self.longest = self.longest.max(told.took);
                let faults: Vec<String> = told
                    .hits
                    .iter()
                    .map(|(what, n)| format!("{n} {}", what.trim()))
                    .collect();
                let seconds = told.took.as_secs_f64();
                println!(
                    "seed {seed}, {kind:?}{task}, {seconds:.1} s: ok; {}",
                    faults.join(", ")
                );
                for (what, count) in told.hits {
                    *self.hits.entry(what).or_default() += count;
                }
            }
            Err(error) => {
                self.failed += 1;
                println!("seed {seed}, {kind:?}{task}: FAILED: {error}");
                println!("{plan:?}");
                println!(
                    "repeat: HYDRA_FAULT_SEED={seed} HYDRA_FAULT_RUNS=1 cargo test --test faults"
                );
            }
        }
    }

    fn show(&self) {
        println!("faults that hit somebody who owned work, and what came of that:");
        for (what, count) in &self.hits {
            println!("{count:>6} {what}");
        }
        let (longest, limit) = (self.longest.as_secs_f64(), cluster::RUN_MAX);
        println!("the longest run took {longest:.1} s; none may take {limit:?}");
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}

fn can_be_root() -> bool {
    rustix::process::geteuid().is_root() && std::path::Path::new("/dev/fuse").exists()
}
