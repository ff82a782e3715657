//! From the name of a host to its addresses, in a thread of its own: the system's resolver blocks.
//!
//! Sets no limit of time: who asks does. Where no thread can be made, that is an error and nothing worse.

use crate::address::HostPort;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;
use tokio::sync::oneshot;

/// The addresses of a host, which may be none.
pub(crate) async fn look_up(address: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let name = (address.host.clone(), address.port);
    if let Ok(ip) = name.0.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let (sender, found) = oneshot::channel();
    let thread = thread::Builder::new().name("resolver".to_owned());
    thread.spawn(move || {
        // Nobody listens when it took too long.
        let _ = sender.send(name.to_socket_addrs().map(Iterator::collect));
    })?;
    found.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_addresses_are_looked_up() {
        for host in ["127.0.0.1", "localhost", "::1"] {
            let address = HostPort {
                host: host.to_owned(),
                port: 7,
            };
            let found = look_up(&address).await.unwrap();
            let is_right = |found: &SocketAddr| found.ip().is_loopback() && found.port() == 7;
            assert!(!found.is_empty() && found.iter().all(is_right), "{found:?}");
        }
    }
}
