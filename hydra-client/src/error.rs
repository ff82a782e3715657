//! Why a client ends.

use hydra_link::{DialError, ListenError};
use hydra_proto::message::{HelloHeader, PROTOCOL_VERSION};
use hydra_proto::words::words;
use std::io;
use thiserror::Error;

/// Why a client cannot go on.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The port cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The server cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No key was given where one is needed.
    #[error("a client on the network needs a key")]
    NoKey,
    /// The server speaks another protocol.
    #[error("the server ({}) speaks protocol {}, this client {PROTOCOL_VERSION}: upgrade the {}",
        .0.release, .0.protocol, older(.0))]
    Version(HelloHeader),
    /// The server ended the session.
    #[error("the server ended the session: {0}")]
    Refused(String),
    /// The client gave the job up.
    #[error("{0}")]
    GaveUp(String),
    /// The connection to the server was lost, and cannot come back.
    #[error("the connection to the server was lost")]
    Lost,
    /// The socket for the workers' log cannot be made.
    #[error("cannot open the socket for the workers' log: {}", words(.0))]
    LogSocket(#[source] io::Error),
}

fn older(server: &HelloHeader) -> &'static str {
    match server.protocol < PROTOCOL_VERSION {
        true => "server",
        false => "client",
    }
}
