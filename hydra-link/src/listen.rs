//! Listening: from a port to established connections, whoever else knocks.
//!
//! ```text
//! backlog ──accept──► pending (at most PENDING_MAX, each under the handshake deadline) ──► accept()
//!                        └─ one too many: the oldest is hung up on
//! ```
//!
//! Handshakes run beside one another, so that a silent stranger delays nobody; and the oldest gives
//! way, because an honest dialler is done in a few round trips while a silent one only ages.

use hydra_proto::words::words;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hydra_proto::handshake::Key;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::Timeouts;
use crate::address::HostPort;
use crate::connection::{Connection, EstablishError};
use crate::resolve::look_up;

/// The most handshakes under way at one listener.
pub const PENDING_MAX: usize = 64;

/// The pause after the system refused us a connection, for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a port cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error("{address} is in use: stop what listens there, or choose another port")]
    InUse {
        /// Where to listen.
        address: HostPort,
    },
    /// Another reason.
    #[error("cannot listen on {address}: {}", words(source))]
    Bind {
        /// Where to listen.
        address: HostPort,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A port on which proven peers arrive.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    key: Arc<Key>,
    timeouts: Timeouts,
    handshakes: JoinSet<(SocketAddr, Result<Connection, EstablishError>)>,
    /// The handshakes under way, oldest first.
    pending: VecDeque<AbortHandle>,
    refused: u64,
}

impl Listener {
    /// Listens on `address`; `key` says which side we are.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub async fn bind(
        address: &HostPort,
        key: Arc<Key>,
        timeouts: Timeouts,
    ) -> Result<Self, ListenError> {
        let binding = async { TcpListener::bind(&*look_up(address).await?).await };
        let bound = timeout(timeouts.connect, binding).await;
        match bound.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(socket) => Ok(Self {
                socket,
                key,
                timeouts,
                handshakes: JoinSet::new(),
                pending: VecDeque::new(),
                refused: 0,
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse {
                address: address.clone(),
            }),
            Err(source) => Err(ListenError::Bind {
                address: address.clone(),
                source,
            }),
        }
    }

    /// Where it listens: the true port, where port 0 was asked for.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next peer that proves that it holds the matching key, and where it comes from. Waits for
    /// ever; it may be dropped half-way (in a `select!`) without losing anybody.
    ///
    /// Nobody is let in while nobody waits here, so a task that serves a peer should not be the one
    /// that waits for the next.
    pub async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            tokio::select! {
                // First those who are done: then nothing piles up while many knock.
                biased;
                Some(done) = self.handshakes.join_next() => match done {
                    Ok((from, Ok(connection))) => return (connection, from),
                    Ok((from, Err(error))) => self.refuse(from, &error),
                    // One that was hung up on.
                    Err(_) => {}
                },
                knock = self.socket.accept() => match knock {
                    Ok((stream, from)) => self.begin(stream, from),
                    Err(error) => self.accept_failed(&error).await,
                },
            }
        }
    }

    /// How many handshakes are under way; never more than [`PENDING_MAX`].
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.iter().filter(|p| !p.is_finished()).count()
    }

    fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
        self.pending.retain(|handshake| !handshake.is_finished());
        if self.pending.len() >= PENDING_MAX {
            self.drop_oldest();
        }
        let key = Arc::clone(&self.key);
        let timeouts = self.timeouts;
        let handshake = async move {
            let established = match stream.set_nodelay(true) {
                Ok(()) => Connection::respond(stream, &key, &timeouts).await,
                Err(error) => Err(EstablishError::Io(error)),
            };
            (from, established)
        };
        self.pending.push_back(self.handshakes.spawn(handshake));
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.pending.pop_front() {
            oldest.abort();
        }
    }

    /// Says so at the first, second, fourth, eighth … refusal: enough for somebody who wonders why
    /// a peer does not get in, and no way to fill the log.
    fn refuse(&mut self, from: SocketAddr, error: &EstablishError) {
        self.refused += 1;
        if self.refused.is_power_of_two() {
            warn!(%from, %error, refused = self.refused, "refused a connection");
        } else {
            debug!(%from, %error, "refused a connection");
        }
    }

    /// The connection may be gone again, which is nothing; or descriptors are short, and then it
    /// helps to hang up on somebody and to wait a little.
    async fn accept_failed(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        warn!(%error, "cannot accept a connection");
        self.drop_oldest();
        sleep(ACCEPT_PAUSE).await;
    }
}
