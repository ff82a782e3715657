//! One job on several hosts, here clients on loopback ports: the report is that of one machine.

use super::common::{Gate, Lab, Process, forest, is_root, lab::listening, truth, without_run};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn names(report: &Value) -> BTreeSet<String> {
    let clients = report["run"]["clients"].as_array().unwrap().iter();
    clients
        .map(|client| client["name"].as_str().unwrap().to_owned())
        .collect()
}

fn set(list: &str) -> BTreeSet<String> {
    list.split(',').map(str::to_owned).collect()
}

/// A lab with a tree, and the report of one thread.
fn lab_with_tree() -> (Lab, Value) {
    let lab = Lab::new();
    forest(&lab.path("tree"), 400);
    let reference = lab.serial(&[], &[&lab.path("tree")]);
    assert_eq!(reference["totals"], truth(&lab.path("tree")));
    (lab, reference)
}

#[test]
fn three_clients_report_what_one_thread_does() {
    let (lab, reference) = lab_with_tree();
    assert_eq!(lab.alone(&[], &[&lab.path("tree")]), reference);
    let (_clients, list) = lab.listen_all(3, &[]);
    let mut server = lab.audit();
    server.args(["--clients", &list]).arg("./tree");
    let ran = lab.run(server);
    let report = ran.assert_status(0).report();
    assert_eq!(ran.stderr, "", "nothing is said where nothing is wrong");
    assert_eq!(names(&report), set(&list));
    let entries = |client: &Value| client["entries"].as_u64().unwrap();
    let clients = report["run"]["clients"].as_array().unwrap();
    let sum: u64 = clients.iter().map(entries).sum();
    assert_eq!(sum, report["totals"]["entries"].as_u64().unwrap());
    assert_eq!(without_run(report), reference);
}

#[test]
fn a_listening_client_serves_job_after_job_and_with_once_only_one() {
    let (lab, reference) = lab_with_tree();
    let (_ever, ever) = lab.listen(&[]);
    let (once, address) = lab.listen(&["--once"]);
    let list = format!("{ever},{address}");
    for clients in [&list, &ever, &ever] {
        let mut server = lab.audit();
        server.args(["--clients", clients]).arg("./tree");
        let ran = lab.run(server);
        assert_eq!(
            without_run(ran.assert_status(0).report()),
            reference,
            "{}",
            ran.stderr
        );
        assert_eq!(names(&ran.report()), set(clients));
    }
    once.finish().assert_status(0);
}

#[test]
fn hosts_come_from_a_file_and_from_ranges() {
    let (lab, reference) = lab_with_tree();
    let (_clients, list) = lab.listen_all(2, &[]);
    let text = format!("# ours\n\n{}\n", list.replace(',', "  # one\n"));
    fs::write(lab.path("hosts"), text).unwrap();
    let mut server = lab.audit();
    server.args(["--hostfile", "hosts"]).arg("./tree");
    let report = lab.run(server).assert_status(0).report();
    assert_eq!(names(&report), set(&list));
    assert_eq!(without_run(report), reference);

    // The whole of 127.0.0.0/8 is this host.
    let mut one = lab.client();
    one.args(["--listen", "127.0.0.2:0"]);
    let (_one, address) = listening(one);
    let port = address.rsplit(':').next().unwrap().to_owned();
    let mut other = lab.client();
    other.args(["--listen", &format!("127.0.0.3:{port}")]);
    let (_other, _) = listening(other);
    let mut server = lab.audit();
    let range = format!("127.0.0.[2-3]:{port}");
    server.args(["--clients", &range]).arg("./tree");
    let report = lab.run(server).assert_status(0).report();
    let both = format!("127.0.0.2:{port},127.0.0.3:{port}");
    assert_eq!(names(&report), set(&both));
    assert_eq!(without_run(report), reference);
}

#[test]
fn clients_may_dial_and_be_dialled_over_both_protocols() {
    let (lab, reference) = lab_with_tree();
    let mut client = lab.client();
    client.args(["--listen", "[::1]:0"]);
    let (_listening, address) = listening(client);
    assert!(address.starts_with("[::1]:"), "{address}");
    let mut server = lab.audit();
    server.args(["-v", "--listen=[::1]:0", "--min-clients", "2"]);
    server.args(["--clients", &address, "--workers", "1", "./tree"]);
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let port = line.rsplit('=').next().unwrap();
    let dial = |name| {
        let mut client = lab.client();
        client.args(["--connect", port, "--name", name, "--once"]);
        Process::start(client)
    };
    let (one, two) = (dial("one"), dial("two"));
    let ran = server.finish();
    let report = ran.assert_status(0).report();
    assert_eq!(names(&report), set(&format!("{address},one,two,local")));
    assert_eq!(without_run(report), reference);
    one.finish().assert_status(0);
    two.finish().assert_status(0);
}

#[test]
fn two_clients_on_one_host_were_one_with_the_workers_of_the_second() {
    let (lab, reference) = lab_with_tree();
    let mut server = lab.audit();
    server.args(["-v", "--listen=127.0.0.1:0", "--min-clients", "2", "./tree"]);
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let port = line.rsplit('=').next().unwrap();
    let clients = ["2", "1"].map(|workers| {
        let mut client = lab.client();
        client.args(["--connect", port, "--once", "--name", "vm"]);
        client.args(["--workers", workers]);
        Process::start(client)
    });
    let report = server.finish().assert_status(0).report();
    assert_eq!(names(&report), set("vm,vm (2)"));
    let walkers = report["run"]["clients"].as_array().unwrap();
    let workers = walkers.iter().map(|client| client["workers"].as_u64());
    assert_eq!(workers.sum::<Option<u64>>(), Some(3));
    assert_eq!(without_run(report), reference);
    for client in clients {
        client.finish().assert_status(0);
    }
}

#[test]
fn a_client_may_see_the_tree_elsewhere() {
    let (lab, reference) = lab_with_tree();
    let map = format!("/far/data={}", lab.path("").display());
    let (_clients, list) = lab.listen_all(2, &["--map", &map]);
    let mut server = lab.audit();
    server.args(["--clients", &list, "/far/data/tree"]);
    let report = lab.run(server).assert_status(0).report();
    assert_eq!(report["roots"], json!(["/far/data/tree"]));
    assert_eq!(report["totals"], reference["totals"]);
    assert!(!report.to_string().contains(lab.path("").to_str().unwrap()));
}

#[test]
fn a_host_whose_mount_is_missing_is_left_out_with_a_warning() {
    let (lab, reference) = lab_with_tree();
    fs::create_dir(lab.path("unmounted")).unwrap();
    let tree = lab.path("tree");
    let (_two, two) = lab.listen_all(2, &[]);
    let map = |to: &str| format!("{}={}", tree.display(), lab.path(to).display());
    let (_empty, empty) = lab.listen(&["--map", &map("unmounted")]);
    let (_missing, missing) = lab.listen(&["--map", &map("nowhere")]);
    let mut server = lab.audit();
    let list = format!("{empty},{two},{missing}");
    server.args(["--clients", &list]).arg("./tree");
    let ran = lab.run(server);
    let report = ran.assert_status(0).report();
    for client in [&empty, &missing] {
        let text = format!("client {client} is not granted root {}", tree.display());
        ran.assert_says(&text);
    }
    assert_eq!(without_run(report), reference);
}

#[test]
fn of_two_hosts_that_see_different_trees_the_first_was_believed() {
    let (lab, reference) = lab_with_tree();
    fs::create_dir(lab.path("other")).unwrap();
    let tree = lab.path("tree");
    let (_two, two) = lab.listen_all(2, &[]);
    let map = format!("{}={}", tree.display(), lab.path("other").display());
    let (_other, other) = lab.listen(&["--map", &map]);
    let (one, _) = two.split_once(',').unwrap();
    let mut server = lab.audit();
    let list = format!("{one},{other}");
    server.args(["--clients", &list]).arg("./tree");
    let ran = lab.run(server);
    ran.assert_status(4).assert_says("different trees");
    assert_eq!(ran.report()["complete"], false);

    let mut server = lab.audit();
    let list = format!("{other},{two}");
    server.args(["--clients", &list]).arg("./tree");
    let ran = lab.run(server);
    assert_eq!(without_run(ran.assert_status(0).report()), reference);
}

#[test]
fn a_client_serves_only_what_it_allows() {
    let (lab, reference) = lab_with_tree();
    fs::create_dir(lab.path("other")).unwrap();
    let allowed = lab.path("other");
    let (_strict, strict) = lab.listen(&["--allow-root", allowed.to_str().unwrap()]);
    let (_open, open) = lab.listen(&[]);
    let mut server = lab.audit();
    server.args(["--clients", &format!("{strict},{open}"), "./tree"]);
    let ran = lab.run(server);
    assert_eq!(without_run(ran.assert_status(0).report()), reference);
    ran.assert_says(&strict).assert_says("--allow-root");

    let mut server = lab.audit();
    server.args(["--clients", &strict, "./tree"]);
    let ran = lab.run(server);
    ran.assert_status(4).assert_says("--allow-root");
    assert_eq!(ran.report()["complete"], false);

    // A link does not lead out of what is allowed.
    std::os::unix::fs::symlink(lab.path("tree"), allowed.join("tree")).unwrap();
    let mut server = lab.audit();
    server.args(["--clients", &strict, "./other/tree"]);
    lab.run(server).assert_status(4).assert_says("--allow-root");
}

#[test]
fn a_second_server_is_told_who_is_served_or_waits() {
    let lab = Lab::new();
    fs::create_dir(lab.path("one")).unwrap();
    fs::write(lab.path("one/file"), "").unwrap();
    let gate = Gate::new(&lab);
    let mut client = lab.example("exec", &["client", "-v", "--listen", "127.0.0.1:0"]);
    client.args(["--allow", "exec"]);
    let (_client, address) = listening(client);
    let server = |more: &[&str]| {
        let mut server = lab.example("exec", &["--json"]);
        server.args(["--clients", &address]).args(more);
        server
    };
    let mut first = server(&["./one"]);
    first.args(gate.arguments());
    let first = Process::start(first);
    gate.reached();

    let mut second = server(&["--command", "true", "./one"]);
    second.args(["--connect-timeout", "5s"]);
    let ran = lab.run(second);
    ran.assert_status(4)
        .assert_says(&address)
        .assert_says("busy");
    ran.assert_says("it serves").assert_says("--wait");

    let mut patient = Process::start(server(&["-v", "--wait", "--command", "true", "./one"]));
    patient.line("waiting for it");
    gate.open(1);
    first.finish().assert_status(0);
    let ran = patient.finish();
    assert_eq!(ran.assert_status(0).report()["totals"]["files"], 1);
}

#[test]
fn two_servers_that_wait_for_the_same_clients_at_once_both_come_to_their_ends() {
    let (lab, reference) = lab_with_tree();
    let (_clients, list) = lab.listen_all(2, &[]);
    for _ in 0..3 {
        let servers = [(); 2].map(|()| {
            let mut server = lab.audit();
            server.args(["--clients", &list, "--wait", "./tree"]);
            Process::start(server)
        });
        for server in servers {
            let report = server.finish().assert_status(0).report();
            let names = names(&report);
            assert!(!names.is_empty() && names.is_subset(&set(&list)));
            assert_eq!(without_run(report), reference);
        }
    }
}

#[test]
fn a_client_that_joins_a_running_job_gets_work_at_once() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..40 {
        fs::create_dir(tree.join(format!("d{number}"))).unwrap();
        fs::write(tree.join(format!("d{number}/file")), "").unwrap();
    }
    let gate = Gate::new(&lab);
    let mut server = lab.example("exec", &["-v", "--json", "--listen=127.0.0.1:0"]);
    server.args(gate.arguments()).arg("./tree");
    // What can be given away is what a commit has told of.
    server.args(["--commit-interval", "1ms"]);
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let port = line.rsplit('=').next().unwrap();
    let dial = |name| {
        let mut client = lab.example("exec", &["client", "--workers", "1"]);
        client.args(["--allow", "exec", "--connect", port, "--name", name]);
        Process::start(client)
    };
    let _first = dial("first");
    gate.open(5);
    (0..6).for_each(|_| gate.reached());
    // The first one's only worker stands at the gate: whoever comes there now is another.
    let _second = dial("second");
    gate.reached();
    gate.open(40);
    let ran = server.finish();
    let report = ran.assert_status(0).report();
    assert_eq!(names(&report), set("first,second"));
    assert_eq!(report["totals"]["files"], 40);
}

#[test]
fn a_plugin_that_runs_commands_must_be_allowed_by_the_client() {
    let lab = Lab::new();
    fs::create_dir(lab.path("one")).unwrap();
    fs::write(lab.path("one/file"), "").unwrap();
    let client = lab.example("exec", &["client", "-v", "--listen", "127.0.0.1:0"]);
    let (_client, address) = listening(client);
    let mut server = lab.example("exec", &["--json", "--clients", &address]);
    server.args(["--command", "touch", "--arg", "done", "./one"]);
    let ran = lab.run(server);
    ran.assert_status(4).assert_says("--allow exec");
    ran.assert_says(&address);
    assert!(!lab.path("done").exists() && !lab.path("one/done").exists());
}

#[test]
fn worker_logs_reach_the_server_when_asked_for() {
    let (lab, _) = lab_with_tree();
    let mut client = lab.client();
    // Not -v: what is said of the log goes before how much is said.
    client.args([
        "--log-level",
        "hydra=debug,hydra_client=info",
        "--listen",
        "127.0.0.1:0",
    ]);
    let (_client, address) = listening(client);
    let mut server = lab.audit();
    server.args(["--clients", &address, "./tree"]);
    server.arg("--forward-logs");
    let ran = lab.run(server);
    ran.assert_status(0).assert_says("worker 1 (pid ");
    ran.assert_says(&address);
}

#[test]
fn usr_is_what_find_and_du_say_for_one_host_and_for_three() {
    let lab = Lab::new();
    let usr = Path::new("/usr");
    let truth = truth(usr);
    let alone = lab.alone(&[], &[usr]);
    assert_eq!(alone["totals"], truth);
    let (_clients, list) = lab.listen_all(3, &[]);
    let mut server = lab.audit();
    server.args(["--clients", &list, "/usr"]);
    let report = lab.run(server).assert_status(0).report();
    assert_eq!(without_run(report), alone);
    if is_root("/dev with and without its mounts") {
        let dev = Path::new("/dev");
        let x = lab.alone(&["-x"], &[dev]);
        assert_eq!(x, lab.serial(&["-x"], &[dev]));
    }
}
