//! Hosts as network namespaces: a server and three clients, joined by a bridge in a namespace of its own.

use super::common::{Lab, Process, is_root, lab::listening, truth, without_run};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The hosts' numbers; the first one is the server's.
const HOSTS: [u8; 4] = [1, 2, 3, 4];

static NETS: AtomicU32 = AtomicU32::new(0);

/// A network that is gone with the test.
struct Net {
    name: String,
}

impl Net {
    fn new() -> Self {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let net = Self {
            name: format!("hydra-{}-{number}", std::process::id()),
        };
        let bridge = net.namespace(0);
        ip(&["netns", "add", &bridge]);
        ip(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &bridge, "link", "set", "bridge", "up"]);
        for host in HOSTS {
            let (namespace, port) = (net.namespace(host), port(host));
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            let words = ["-n", &bridge, "link", "add", &port, "type", "veth"];
            ip(&[&words[..], &["peer", "name", "eth0", "netns", &namespace]].concat());
            ip(&[
                "-n", &bridge, "link", "set", &port, "master", "bridge", "up",
            ]);
            let address = format!("{}/24", address(host));
            ip(&["-n", &namespace, "address", "add", &address, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        net
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}-{host}", self.name)
    }

    /// Cuts a host off, or heals its link.
    fn set_link(&self, host: u8, state: &str) {
        let bridge = self.namespace(0);
        ip(&["-n", &bridge, "link", "set", &port(host), state]);
    }

    /// The same command on that host.
    fn on(&self, host: u8, command: &Command) -> Command {
        let mut outer = Command::new("ip");
        outer.args(["netns", "exec", &self.namespace(host)]);
        outer.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            outer.env(name, value.unwrap_or_default());
        }
        outer.stdin(std::process::Stdio::null());
        outer
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in [0].iter().chain(&HOSTS) {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.namespace(*host)])
                .status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {}", arguments.join(" "));
}

fn port(host: u8) -> String {
    format!("port{host}")
}

fn address(host: u8) -> String {
    format!("10.213.77.{host}")
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
    let (lab, net) = (Lab::new(), Net::new());
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
    let (lab, net) = (Lab::new(), Net::new());
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
        net.set_link(2, "down");
        server.line(sign);
        net.set_link(2, "up");
        let ran = server.finish();
        assert_eq!(without_run(ran.assert_status(0).report()), reference);
    }
}
