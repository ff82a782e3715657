//! Rows in a directory (`--rows-dir`), with real processes that are killed while they write: each row counts once, a
//! reader never sees one that does not count, and at the end nothing else is left.
//!
//! This program is its own Hydra: with a role on its command line it plays that role, with a plugin that writes rows.

mod job;
mod lab;
#[path = "../shared/logged.rs"]
mod logged;
#[path = "../shared/manifest.rs"]
mod manifest;
#[path = "../shared/mount.rs"]
mod mount;
mod plugin;

use hydra::Hydra;
use job::{Job, Setup};
use lab::{Lab, Sees};
use plugin::Pour;
use std::process::ExitCode;
use std::time::Instant;

/// No process takes more memory, in bytes, however many rows one entry has.
const MEMORY_MAX: u64 = 64 << 20;

/// A scenario, and what it is called.
type Scenario = (&'static str, fn(&Lab) -> Result<(), String>);

const SCENARIOS: [Scenario; 10] = [
    ("undisturbed, on one host", on_one_host),
    ("workers are killed", workers_are_killed),
    ("clients write in place, and are killed", clients_in_place),
    ("one client must not write there", one_client_streams),
    ("one client cannot write there", one_client_cannot_write),
    ("the server is killed, and goes on", server_is_killed),
    ("one entry has many MiB of rows", one_huge_entry),
    (
        "one entry has too many rows for one file",
        too_many_for_a_file,
    ),
    ("no room for a while", no_room_for_a_while),
    ("stopped while there is no room", stopped_without_room),
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
        let started = Instant::now();
        match outcome.and_then(|lab| scenario(&lab)) {
            Ok(()) => println!("{name}: ok, {:.1} s", started.elapsed().as_secs_f64()),
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
        clients: vec![Sees::Writable, Sees::Writable],
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
    lab.fill(10, 4, 6000)?;
    let setup = Setup {
        clients: vec![Sees::Writable, Sees::NotAllowed],
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|job, tick| match tick {
        8 | 16 => job.kill_worker(),
        24 => job.restart_client(1),
        _ => Ok(()),
    })?;
    job.check(0)?;
    job.warned("--allow-rows-dir")
}

fn one_client_cannot_write(lab: &Lab) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        println!("one client cannot write there: skipped, it needs root");
        return Ok(());
    }
    lab.fill(10, 3, 6000)?;
    let setup = Setup {
        clients: vec![Sees::Writable, Sees::ReadOnly],
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|_, _| Ok(()))?;
    job.check(0)?;
    job.warned("read-only file system")
}

fn server_is_killed(lab: &Lab) -> Result<(), String> {
    lab.fill(15, 3, 6000)?;
    let setup = Setup {
        clients: vec![Sees::Writable, Sees::NotAllowed],
        state: true,
        ..Setup::default()
    };
    let mut job = Job::start(lab, &setup)?;
    job.run(|job, tick| match tick {
        10 | 20 | 30 => job.kill_server(),
        25 => job.kill_worker(),
        _ => Ok(()),
    })?;
    job.check(0)
}

/// Neither the worker nor its client nor the server has them all in memory, wherever they are written.
fn one_huge_entry(lab: &Lab) -> Result<(), String> {
    let number = std::env::var("HYDRA_SEGMENTS_MIB");
    let mib = number.ok().and_then(|text| text.parse().ok()).unwrap_or(96);
    lab.fill(1, 1, mib * 16)?;
    for sees in [Sees::Writable, Sees::NotAllowed] {
        let setup = Setup {
            clients: vec![sees],
            state: sees == Sees::NotAllowed,
            bytes: 64 << 10,
            ..Setup::default()
        };
        let mut job = Job::start(lab, &setup)?;
        job.run(|_, _| Ok(()))?;
        job.check(0)?;
        let most = job.memory();
        println!(
            "{mib} MiB of rows of one entry: no process took more than {} MiB",
            most >> 20
        );
        if !(1..MEMORY_MAX).contains(&most) {
            return Err("that is too much".to_owned());
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

/// Needs root, for a file system of its own.
fn stopped_without_room(lab: &Lab) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        println!("stopped while there is no room: skipped, it needs root");
        return Ok(());
    }
    lab.fill(10, 2, 8000)?;
    for (state, clients) in [
        (false, vec![]),
        (true, vec![]),
        (false, vec![Sees::NotAllowed]),
        (true, vec![Sees::NotAllowed]),
    ] {
        let setup = Setup {
            room: Some(8 << 20),
            state,
            clients,
            ..Setup::default()
        };
        Job::start(lab, &setup)?.stop_without_room()?;
    }
    Ok(())
}
