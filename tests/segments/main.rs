//! Rows in a directory (`--rows-dir`), with real processes that are killed while they write: each row counts once, a
//! reader never sees one that does not count, and at the end nothing else is left.
//!
//! This program is its own Hydra: with a role on its command line it plays that role, with a plugin that writes rows.

mod job;
mod plugin;

use hydra::Hydra;
use job::{Job, Lab, Setup};
use plugin::Pour;
use std::process::ExitCode;

/// A scenario, and what it is called.
type Scenario = (&'static str, fn(&Lab) -> Result<(), String>);

const SCENARIOS: [Scenario; 8] = [
    ("undisturbed, on one host", on_one_host),
    ("workers are killed", workers_are_killed),
    ("clients write in place, and are killed", clients_in_place),
    ("one client must not write there", one_client_streams),
    ("the server is killed, and goes on", server_is_killed),
    ("one entry has 300 MiB of rows", one_huge_entry),
    (
        "one entry has too many rows for one file",
        too_many_for_a_file,
    ),
    ("no room for a while", no_room_for_a_while),
];

fn main() -> ExitCode {
    let role = |arg: &String| {
        let names = ["client", "keygen", "pour", "resume"];
        names.contains(&arg.as_str()) || arg.starts_with("__")
    };
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    if args.iter().skip(1).any(role) {
        return Hydra::new().plugin::<Pour>().run();
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("segments: test");
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::var("HYDRA_SEGMENTS_ONLY").unwrap_or_default();
    let mut failed = 0;
    for (name, scenario) in SCENARIOS {
        if !name.contains(&wanted) {
            continue;
        }
        let outcome = Lab::new().map_err(|error| error.to_string());
        match outcome.and_then(|lab| scenario(&lab)) {
            Ok(()) => println!("{name}: ok"),
            Err(error) => {
                failed += 1;
                println!("{name}: {error}");
            }
        }
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn on_one_host(lab: &Lab) -> Result<(), String> {
    lab.fill(60, 5, 300)?;
    let mut job = Job::start(lab, &Setup::default())?;
    job.run(|_, _| Ok(()))?;
    job.check(0)
}

fn workers_are_killed(lab: &Lab) -> Result<(), String> {
    lab.fill(60, 5, 300)?;
    let mut job = Job::start(lab, &Setup::default())?;
    job.run(|job, tick| match tick % 60 {
        50 => job.kill_worker(),
        _ => Ok(()),
    })?;
    job.check(0)
}

fn clients_in_place(lab: &Lab) -> Result<(), String> {
    lab.fill(60, 5, 300)?;
    let setup = Setup {
        clients: vec![true, true],
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|job, tick| match tick {
        60 => job.kill_worker(),
        100 => job.restart_client(0),
        180 => job.restart_client(1),
        _ => Ok(()),
    })?;
    job.check(0)
}

fn one_client_streams(lab: &Lab) -> Result<(), String> {
    // More than a megabyte in each entry: too much for a commit.
    lab.fill(20, 3, 8000)?;
    let setup = Setup {
        clients: vec![true, false],
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|job, tick| match tick {
        10 | 20 => job.kill_worker(),
        30 => job.restart_client(1),
        _ => Ok(()),
    })?;
    job.check(0)?;
    job.warned("--allow-rows-dir")
}

fn server_is_killed(lab: &Lab) -> Result<(), String> {
    lab.fill(40, 4, 3000)?;
    let setup = Setup {
        clients: vec![true, false],
        state: true,
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|job, tick| match tick {
        40 | 80 | 120 => job.kill_server(),
        100 => job.kill_worker(),
        _ => Ok(()),
    })?;
    job.check(0)
}

/// Neither the worker nor its client nor the server has them all in memory, wherever they are written.
fn one_huge_entry(lab: &Lab) -> Result<(), String> {
    lab.fill(1, 1, 4800)?;
    for in_place in [true, false] {
        let setup = Setup {
            clients: vec![in_place],
            state: !in_place,
            bytes: 64 << 10,
            ..Setup::default()
        };
        let mut job = Job::start(lab, &setup)?;
        job.run(|_, _| Ok(()))?;
        job.check(0)?;
        let most = job.memory();
        if !(1..150 << 20).contains(&most) {
            return Err(format!("a process took {} MiB", most >> 20));
        }
    }
    Ok(())
}

fn too_many_for_a_file(lab: &Lab) -> Result<(), String> {
    lab.fill(1, 2, 300)?;
    let setup = Setup {
        bytes: 64 << 10,
        file: true,
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|_, _| Ok(()))?;
    job.check_file("EFBIG", 2)
}

/// Needs root, for a file system of its own.
fn no_room_for_a_while(lab: &Lab) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        println!("no room for a while: skipped, it needs root");
        return Ok(());
    }
    lab.fill(10, 2, 8000)?;
    for state in [false, true] {
        let setup = Setup {
            room: Some(8 << 20),
            state,
            ..Setup::default()
        };
        let mut job = Job::start(lab, &setup)?;
        job.run_out_of_room()?;
        job.run(|_, _| Ok(()))?;
        job.check(0)?;
    }
    Ok(())
}
