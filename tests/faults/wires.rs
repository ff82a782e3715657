//! How server and clients are joined, and how that is cut.

use crate::link::{Cut, Proxy};
use crate::net::{Net, address};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// The port of everybody in namespaces.
const PORT: u16 = 8101;
/// The server's number among the hosts.
const SERVER: u8 = 1;
/// Nobody has this hardware address.
const NOBODY: &str = "02:00:00:00:00:01";

static PORTS: AtomicU16 = AtomicU16::new(0);

pub(crate) enum Wires {
    /// Server and client are one process.
    Inside,
    /// A proxy before each client, or, for each client, before the server.
    Proxied {
        proxies: Vec<Proxy>,
        ports: Vec<u16>,
    },
    /// Hosts in namespaces.
    Net(Net),
}

impl Wires {
    /// Proxies for clients that are dialled, or that dial.
    pub(crate) fn proxied(clients: usize, dialling: bool) -> Self {
        let ports: Vec<u16> = match dialling {
            true => vec![free_port(); clients],
            false => (0..clients).map(|_| free_port()).collect(),
        };
        let proxies = ports.iter().map(|&port| Proxy::new(free_port(), port));
        Self::Proxied {
            proxies: proxies.collect(),
            ports,
        }
    }

    pub(crate) fn namespaces(clients: usize) -> io::Result<Self> {
        Net::new(clients as u8 + 1).map(Self::Net)
    }

    /// The command on the server's host, or on a client's.
    pub(crate) fn place(&self, client: Option<usize>, command: Command) -> Command {
        match self {
            Self::Net(net) => net.on(client.map_or(SERVER, host), &command),
            Self::Inside | Self::Proxied { .. } => command,
        }
    }

    /// Where this client listens, or the server for it.
    pub(crate) fn listens(&self, client: usize, dialling: bool) -> String {
        match self {
            Self::Inside => String::new(),
            Self::Proxied { ports, .. } => format!("127.0.0.1:{}", ports[client]),
            Self::Net(_) if dialling => format!("{}:{PORT}", address(SERVER)),
            Self::Net(_) => format!("{}:{PORT}", address(host(client))),
        }
    }

    /// What is dialled to get there.
    pub(crate) fn is_dialled(&self, client: usize, dialling: bool) -> String {
        match self {
            Self::Proxied { proxies, .. } => format!("127.0.0.1:{}", proxies[client].port()),
            Self::Inside | Self::Net(_) => self.listens(client, dialling),
        }
    }

    /// A client dies, or the server, and connections with it.
    pub(crate) fn dies(&self, client: Option<usize>, dialling: bool) {
        if let Self::Proxied { proxies, .. } = self {
            match client {
                Some(client) if !dialling => proxies[client].target_dies(),
                None if dialling => proxies.iter().for_each(Proxy::target_dies),
                _ => {}
            }
        }
    }

    pub(crate) fn cut(&self, client: usize, cut: Cut, dialling: bool) -> io::Result<()> {
        match self {
            Self::Inside => Ok(()),
            Self::Proxied { proxies, .. } => {
                proxies[client].cut(cut, dialling);
                Ok(())
            }
            Self::Net(net) => match cut {
                Cut::Closed | Cut::Silent => net.set_link(host(client), "down"),
                Cut::Up => net.lose(host(client), SERVER, NOBODY),
                Cut::Down => net.lose(SERVER, host(client), NOBODY),
            },
        }
    }

    pub(crate) fn heal(&self, client: usize) -> io::Result<()> {
        match self {
            Self::Inside => Ok(()),
            Self::Proxied { proxies, .. } => {
                proxies[client].heal();
                Ok(())
            }
            Self::Net(net) => {
                net.find(host(client), SERVER);
                net.find(SERVER, host(client));
                net.set_link(host(client), "up")
            }
        }
    }
}

fn host(client: usize) -> u8 {
    client as u8 + SERVER + 1
}

/// One that is free, and that no connection takes by chance: below those that the kernel gives out.
pub(crate) fn free_port() -> u16 {
    let own = (std::process::id() % 200) as u16 * 100;
    loop {
        let port = 10_000 + own + PORTS.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
