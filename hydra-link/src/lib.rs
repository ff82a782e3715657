//! The encrypted, framed connection between a Hydra server and its clients.
//!
//! [`dial`] and [`Listener`] make a [`Connection`] in either direction; [`Connection::plain`] makes
//! one of a stream that needs no proof, such as the one to the embedded client. A connection splits
//! into a [`FrameReader`] and a [`FrameWriter`]. Every wait has a deadline, apart from
//! [`FrameReader::next`]: how long silence is bearable is for the session to say.
//!
//! This crate does not know what the frames mean, and decides neither which clients to dial nor
//! what to do when one is lost.

use std::time::Duration;

pub mod address;
pub mod clock;
mod connection;
mod dial;
mod listen;
mod resolve;

pub use connection::{Connection, EstablishError, FrameReader, FrameWriter, LinkError};
pub use dial::{DialError, dial, dial_telling};
pub use listen::{ListenError, Listener, PENDING_MAX};

/// How long a connection waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be made, name lookup and repeated tries included. Default: 10 s, time
    /// for a client to be started after the server.
    pub connect: Duration,
    /// For the whole handshake. Default: 3 s, many round trips even on a bad network.
    pub handshake: Duration,
    /// For the other side to take any bytes at all while we send. Default: 15 s, longer than a
    /// silent peer is borne with, so that it is the session that notices first.
    pub send: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(3),
            send: Duration::from_secs(15),
        }
    }
}
