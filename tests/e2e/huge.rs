//! One huge directory is shared among clients, exactly, under kills too.

use super::common::{Lab, Process, crowd, lab::listening, truth, without_run};
use serde_json::Value;

const FILES: usize = 120_000;

/// A lab with the directory, and the report of one thread.
fn crowded() -> (Lab, Value) {
    let lab = Lab::new();
    crowd(&lab.path("tree"), FILES);
    let reference = lab.serial(&[], &[&lab.path("tree")]);
    assert_eq!(reference["totals"], truth(&lab.path("tree")));
    (lab, reference)
}

/// Walks with three clients, and returns the report and what each of them handled.
fn shared(lab: &Lab, plugin: &str) -> (Value, Vec<u64>) {
    let (_clients, list) = lab.listen_all(3, &["--workers", "1"]);
    let mut server = lab.server();
    server.arg(plugin).args(["--clients", &list, "./tree"]);
    if plugin == "audit" {
        server.args(["--reference-time", super::common::REFERENCE_TIME]);
    }
    let report = lab.run(server).assert_status(0).report();
    let clients = report["run"]["clients"].as_array().unwrap();
    let shares = clients
        .iter()
        .map(|client| client["entries"].as_u64().unwrap());
    let shares: Vec<u64> = shares.collect();
    assert_eq!(shares.len(), 3);
    (report, shares)
}

#[test]
fn each_of_three_equal_clients_handles_at_least_a_tenth() {
    let (lab, reference) = crowded();
    for plugin in ["audit", "count"] {
        let is_fair = |shares: &Vec<u64>| shares.iter().all(|&share| share >= FILES as u64 / 10);
        // To count takes some forty milliseconds: a client that waits so long for a processor gets no share.
        let mut tries: Vec<Vec<u64>> = Vec::new();
        while tries.len() < 3 && !tries.last().is_some_and(is_fair) {
            let (report, shares) = shared(&lab, plugin);
            match plugin {
                "audit" => assert_eq!(without_run(report), reference),
                _ => assert_eq!(report["totals"]["entries"], reference["totals"]["entries"]),
            }
            tries.push(shares);
        }
        assert!(tries.last().is_some_and(is_fair), "{plugin}: {tries:?}");
    }
}

#[test]
fn a_client_killed_in_the_middle_changes_nothing() {
    let (lab, reference) = crowded();
    let (mut clients, list) = lab.listen_all(3, &["--workers", "1"]);
    let mut server = lab.audit();
    server.args(["--clients", &list, "--log-level", "hydra_server=trace"]);
    server.args([
        "--commit-interval",
        "5ms",
        "--beat",
        "100ms",
        "--dead-after",
        "1s",
    ]);
    server.args(["--grace", "200ms", "--lease", "100ms", "./tree"]);
    let mut server = Process::start(server);
    // Somebody is in the middle of the directory, and all are killed: others may have nothing in hand just then.
    server.line("Commit(Commit");
    for (client, address) in clients.iter_mut().zip(list.split(',')) {
        client.kill();
        let mut again = lab.client();
        again.args(["--listen", address]);
        *client = listening(again).0;
    }
    let ran = server.finish();
    assert_eq!(without_run(ran.assert_status(0).report()), reference);
    ran.assert_says("is given up");
}
