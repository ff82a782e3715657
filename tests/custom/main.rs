//! A plugin of one's own, from end to end: rows that nobody takes, panics, and workers that end themselves.
//!
//! This program is its own Hydra: with a role on its command line it plays that role, with a plugin that does what the
//! names of files tell. `HYDRA_CUSTOM_ONLY` names a part of the tests to be run.

#[allow(dead_code, unused_imports)]
#[path = "../e2e/common/mod.rs"]
mod common;
#[path = "../shared/mount.rs"]
mod mount;
#[path = "../shared/pids.rs"]
mod pids;
mod plugin;
mod rows;
mod workers;

use hydra::Hydra;
use plugin::Do;
use std::process::ExitCode;

/// A test, and its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let is_role = |arg: &String| arg == "client" || arg == "do" || arg.starts_with("__");
    if args.iter().any(is_role) {
        return Hydra::new().plugin::<Do>().run();
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("custom: test");
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::var("HYDRA_CUSTOM_ONLY").unwrap_or_default();
    let tests = rows::TESTS.iter().chain(workers::TESTS);
    let mut failed = 0;
    for (name, test) in tests.filter(|(name, _)| name.contains(&wanted)) {
        let outcome = std::panic::catch_unwind(test);
        println!("{name}: {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(outcome.is_err());
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
