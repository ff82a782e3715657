//! Too little memory for what is still to be walked: the report is the same, and nothing else is noticed.

use super::common::{Lab, Process, spine, truth, without_run};
use serde_json::Value;
use std::process::Command;

/// Memory for some hundred directories.
const LITTLE: [&str; 2] = ["--frontier-memory", "16K"];

/// A lab with a tree that is wide on every level, and the report of one thread.
fn wide() -> (Lab, Value) {
    let lab = Lab::in_memory();
    spine(&lab.path("tree"), 12, 4000);
    let reference = lab.serial(&[], &[&lab.path("tree")]);
    assert_eq!(reference["totals"], truth(&lab.path("tree")));
    (lab, reference)
}

/// A server that says what it puts away, and commits often.
fn server(lab: &Lab) -> Command {
    let mut server = lab.audit();
    server
        .args(LITTLE)
        .args(["--log-level", "hydra_server=trace"])
        .args(["--commit-interval", "5ms"]);
    server
}

#[test]
fn what_does_not_fit_into_memory_is_walked_all_the_same() {
    let (lab, reference) = wide();
    let mut alone = server(&lab);
    alone.args(["--workers", "3", "./tree"]);
    let ran = lab.run(alone);
    ran.assert_says("put away");
    assert_eq!(without_run(ran.assert_status(0).report()), reference);

    let (_clients, list) = lab.listen_all(2, &LITTLE);
    let mut with_clients = server(&lab);
    with_clients.args(["--clients", &list, "./tree"]);
    let ran = lab.run(with_clients);
    assert_eq!(without_run(ran.assert_status(0).report()), reference);
}

#[test]
fn a_server_that_is_killed_with_much_put_away_goes_on() {
    let (lab, reference) = wide();
    let state = lab.path("state");
    let mut first = server(&lab);
    first.arg("--state-dir").arg(&state);
    first.args(["--workers", "3", "./tree"]);
    let mut first = Process::start(first);
    for _ in 0..5 {
        first.line("put away");
    }
    first.kill();
    lab.assert_nobody_left();
    let mut resume = lab.command(env!("CARGO_BIN_EXE_hydra-server"));
    resume.arg("resume").arg(&state);
    resume.args(["--log-level", "hydra_server=trace"]);
    let ran = lab.run(resume);
    assert_eq!(without_run(ran.assert_status(0).report()), reference);
    ran.assert_says("put away");
    // The file has no name.
    let mut left: Vec<_> = std::fs::read_dir(&state).unwrap().collect();
    left.retain(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name != "journal" && name != "lock"
    });
    assert!(left.is_empty(), "{left:?}");
}
