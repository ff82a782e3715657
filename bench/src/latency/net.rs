//! Hosts as network namespaces, joined by a bridge. Made with `ip`, and left to vanish with the mount
//! namespace in which the rig runs.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The hosts, numbered from 1.
#[derive(Debug)]
pub(super) struct Net {
    hosts: u8,
}

impl Net {
    /// Makes `hosts` hosts.
    ///
    /// # Errors
    ///
    /// When `ip` fails: without root, say.
    pub(super) fn new(hosts: u8) -> anyhow::Result<Self> {
        ip("netns add bridge")?;
        ip("-n bridge link add bridge type bridge")?;
        ip("-n bridge link set bridge up")?;
        for host in 1..=hosts {
            let address = address(host);
            ip(&format!("netns add host{host}"))?;
            ip(&format!("-n host{host} link set lo up"))?;
            ip(&format!(
                "-n bridge link add port{host} type veth peer name eth0 netns host{host}"
            ))?;
            ip(&format!("-n bridge link set port{host} master bridge up"))?;
            ip(&format!("-n host{host} address add {address}/24 dev eth0"))?;
            ip(&format!("-n host{host} link set eth0 up"))?;
        }
        Ok(Self { hosts })
    }

    /// A command that runs `program` on a host.
    pub(super) fn on(&self, host: u8, program: &Path) -> Command {
        debug_assert!((1..=self.hosts).contains(&host));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/host{host}"));
        command.arg(program).stdin(Stdio::null());
        command
    }
}

/// A host's address.
pub(super) fn address(host: u8) -> String {
    format!("10.213.77.{host}")
}

fn ip(words: &str) -> anyhow::Result<()> {
    run("ip", words)
}

/// Runs a command of plain words.
pub(super) fn run(program: &str, words: &str) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(words.split(' '))
        .status()
        .with_context(|| format!("start {program}"))?;
    ensure!(status.success(), "{program} {words}: {status}");
    Ok(())
}
