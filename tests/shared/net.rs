//! Hosts as network namespaces, joined by a bridge in a namespace of its own. Needs root.

// Each test that has this module uses a part of it.
#![allow(dead_code)]

use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NETS: AtomicU32 = AtomicU32::new(0);

/// A network that is gone when it is dropped.
pub(crate) struct Net {
    name: String,
    hosts: u8,
}

impl Net {
    /// With the hosts 1 to `hosts`.
    pub(crate) fn new(hosts: u8) -> io::Result<Self> {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("hydra-{}-{number}", std::process::id());
        let net = Self { name, hosts };
        let bridge = net.namespace(0);
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "bridge", "up"])?;
        for host in 1..=hosts {
            let (namespace, port) = (net.namespace(host), port(host));
            ip(&["netns", "add", &namespace])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            let words = ["-n", &bridge, "link", "add", &port, "type", "veth"];
            ip(&[&words[..], &["peer", "name", "eth0", "netns", &namespace]].concat())?;
            let words = ["-n", &bridge, "link", "set", &port];
            ip(&[&words[..], &["master", "bridge", "up"]].concat())?;
            let address = format!("{}/24", address(host));
            ip(&["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        }
        Ok(net)
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}-{host}", self.name)
    }

    /// Cuts a host off, or heals its link.
    pub(crate) fn set_link(&self, host: u8, state: &str) -> io::Result<()> {
        let bridge = self.namespace(0);
        ip(&["-n", &bridge, "link", "set", &port(host), state])
    }

    /// Whatever one host sends to another one is lost, until it is told to [`find`](Self::find) it again.
    pub(crate) fn lose(&self, from: u8, to: u8, nobody: &str) -> io::Result<()> {
        let (namespace, address) = (self.namespace(from), address(to));
        let words = ["-n", &namespace, "neigh", "replace", &address, "lladdr"];
        ip(&[&words[..], &[nobody, "nud", "permanent", "dev", "eth0"]].concat())
    }

    /// Nothing is lost on that way any more.
    pub(crate) fn find(&self, from: u8, to: u8) {
        let (namespace, address) = (self.namespace(from), address(to));
        // There is nothing to be deleted where nothing was lost.
        let _ = ip(&["-n", &namespace, "neigh", "delete", &address, "dev", "eth0"]);
    }

    /// The same command on that host.
    pub(crate) fn on(&self, host: u8, command: &Command) -> Command {
        let mut outer = Command::new("ip");
        outer.args(["netns", "exec", &self.namespace(host)]);
        outer.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            outer.env(name, value.unwrap_or_default());
        }
        if let Some(dir) = command.get_current_dir() {
            outer.current_dir(dir);
        }
        outer.stdin(Stdio::null());
        outer
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in 0..=self.hosts {
            let mut delete = Command::new("ip");
            delete.args(["netns", "delete", &self.namespace(host)]);
            let _ = delete.stderr(Stdio::null()).status();
        }
    }
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words = arguments.join(" ");
    Err(io::Error::other(format!("ip {words}: {}", said.trim())))
}

fn port(host: u8) -> String {
    format!("port{host}")
}

/// A host's address.
pub(crate) fn address(host: u8) -> String {
    format!("10.213.77.{host}")
}
