//! Hosts as network namespaces: a server and three clients, joined by a bridge in a namespace of its own.

use super::common::{Lab, Process, is_root, lab::listening, truth, without_run};
use super::net::{Net, address};
use std::path::Path;

/// The hosts' numbers; the first one is the server's.
const HOSTS: [u8; 4] = [1, 2, 3, 4];

fn net() -> Net {
    Net::new(HOSTS.len() as u8).unwrap()
}

/// Three clients with two workers each, and their addresses.
fn clients(lab: &Lab, net: &Net) -> (Vec<Process>, String) {
    let start = |&host| {
        let mut client = lab.client();
        client.args([
            "--workers",
            "2",
            "--listen",
            &format!("{}:8101", address(host)),
        ]);
        listening(net.on(host, &client))
    };
    let (processes, addresses): (Vec<_>, Vec<_>) = HOSTS[1..].iter().map(start).unzip();
    (processes, addresses.join(","))
}

#[test]
fn three_hosts_count_usr_as_find_and_du_do() {
    if !is_root("network namespaces") {
        return;
    }
    let (lab, net) = (Lab::new(), net());
    let (_clients, list) = clients(&lab, &net);
    let mut server = lab.audit();
    server.args(["--clients", &list, "/usr"]);
    let report = lab.run(net.on(HOSTS[0], &server)).assert_status(0).report();
    assert_eq!(report["totals"], truth(Path::new("/usr")));
    assert_eq!(report["run"]["clients"].as_array().unwrap().len(), 3);
}

#[test]
fn a_host_that_is_cut_off_and_comes_back_changes_nothing() {
    if !is_root("network namespaces") {
        return;
    }
    let (lab, net) = (Lab::new(), net());
    let reference = lab.alone(&[], &[Path::new("/usr")]);
    // Healed within the grace time, and after it.
    for (grace, sign) in [("20s", "action=Close"), ("0s", "is given up")] {
        let (_clients, list) = clients(&lab, &net);
        let mut server = lab.audit();
        server.args(["--clients", &list, "--log-level", "hydra_server=trace"]);
        server.args([
            "--beat",
            "50ms",
            "--dead-after",
            "300ms",
            "--lease",
            "100ms",
        ]);
        server.args(["--grace", grace, "--commit-interval", "5ms", "/usr"]);
        let mut server = Process::start(net.on(HOSTS[0], &server));
        server.line("Commit(Commit");
        net.set_link(2, "down").unwrap();
        server.line(sign);
        net.set_link(2, "up").unwrap();
        let ran = server.finish();
        assert_eq!(without_run(ran.assert_status(0).report()), reference);
    }
}
