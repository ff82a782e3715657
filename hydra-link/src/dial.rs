//! Dialling: from an address to an established connection.
//!
//! A port where nothing listens yet is tried again until the deadline; everything that would only
//! fail the same way once more is final.

use hydra_proto::words::words;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hydra_proto::handshake::{HandshakeError, Key};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::Timeouts;
use crate::address::HostPort;
use crate::connection::{Connection, EstablishError};
use crate::resolve::look_up;

/// The first pause before a port is tried again; it doubles each time.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// What is left of the time when the last try begins; less where the whole time is short.
const LAST_TRY: Duration = Duration::from_millis(50);

/// Why dialling failed. Each reads as one sentence that says what to do.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name has no address.
    #[error("host {:?} does not resolve ({reason}): check its spelling, or give its address", address.host)]
    Unresolved {
        /// What was dialled.
        address: HostPort,
        /// What the resolver says.
        reason: String,
    },
    /// The host answers that nothing listens on this port.
    #[error("nothing listens on {address}: start `{program}` there, or correct the port")]
    Refused {
        /// What was dialled.
        address: HostPort,
        /// The command that should be running there.
        program: &'static str,
    },
    /// No answer at all.
    #[error(
        "{address} does not answer within {waited:?}: check that the host is up and that no firewall is between"
    )]
    Unanswered {
        /// What was dialled.
        address: HostPort,
        /// How long it was tried.
        waited: Duration,
    },
    /// The operating system cannot connect.
    #[error(
        "cannot connect to {address} ({}): check the network between",
        words(source)
    )]
    Unreachable {
        /// What was dialled.
        address: HostPort,
        /// What the operating system says.
        source: io::Error,
    },
    /// Something accepts the connection and then hangs up or says nothing.
    #[error(
        "{address} accepts connections and says nothing: wrong key, or not Hydra; {}",
        remedy(program)
    )]
    Silent {
        /// What was dialled.
        address: HostPort,
        /// The command that should be running there.
        program: &'static str,
    },
    /// What listens there speaks something else.
    #[error("{address} answers, but not as Hydra: correct the port, or start `{program}` there")]
    Foreign {
        /// What was dialled.
        address: HostPort,
        /// The command that should be running there.
        program: &'static str,
    },
    /// The handshake failed on this side.
    #[error("cannot begin the handshake with {address}: {source}")]
    Handshake {
        /// What was dialled.
        address: HostPort,
        /// Why.
        source: EstablishError,
    },
}

fn remedy(program: &str) -> &'static str {
    match program {
        CLIENT_PROGRAM => "give that client the client.key of this server",
        _ => "give this client the client.key of that server",
    }
}

const CLIENT_PROGRAM: &str = "hydra-client --listen";
const SERVER_PROGRAM: &str = "hydra-server --listen";

/// Connects to `address` and shakes hands, as the side that `key` says.
///
/// # Errors
///
/// [`DialError`].
pub async fn dial(
    address: &HostPort,
    key: &Key,
    timeouts: &Timeouts,
) -> Result<Connection, DialError> {
    dial_telling(address, key, timeouts, &mut |_| {}).await
}

/// As [`dial`], and `tell` is told why each try failed that is followed by another.
///
/// # Errors
///
/// [`DialError`].
pub async fn dial_telling(
    address: &HostPort,
    key: &Key,
    timeouts: &Timeouts,
    tell: &mut (dyn FnMut(&DialError) + Send),
) -> Result<Connection, DialError> {
    let program = match key {
        Key::Server(_) => CLIENT_PROGRAM,
        Key::Client(_) => SERVER_PROGRAM,
    };
    let stream = connect(address, program, timeouts.connect, tell).await?;
    Connection::initiate(stream, key, timeouts)
        .await
        .map_err(|error| failed(address, program, error))
}

fn failed(address: &HostPort, program: &'static str, error: EstablishError) -> DialError {
    let address = address.clone();
    match error {
        EstablishError::HungUp | EstablishError::Late(_) => DialError::Silent { address, program },
        EstablishError::Refused(HandshakeError::Foreign | HandshakeError::WrongAnswer) => {
            DialError::Foreign { address, program }
        }
        EstablishError::Io(source) => DialError::Unreachable { address, source },
        source @ EstablishError::Refused(_) => DialError::Handshake { address, source },
    }
}

/// Tries all addresses of the host, again and again, until one answers or time is up.
async fn connect(
    address: &HostPort,
    program: &'static str,
    limit: Duration,
    tell: &mut (dyn FnMut(&DialError) + Send),
) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    let last_try = deadline - LAST_TRY.min(limit / 4);
    let candidates = resolve(address, deadline).await?;
    let mut pause = RETRY_MIN;
    loop {
        let error = match connect_any(&candidates, deadline).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let is_passing = is_passing(&error);
        let error = unconnected(address, program, limit, error);
        match next_try(Instant::now(), pause, last_try) {
            Some(next) if is_passing => {
                tell(&error);
                sleep_until(next).await;
            }
            _ => return Err(error),
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// When to try again after a try that failed just now; none if that was the last.
fn next_try(now: Instant, pause: Duration, last_try: Instant) -> Option<Instant> {
    (now < last_try).then(|| (now + pause).min(last_try))
}

fn unconnected(
    address: &HostPort,
    program: &'static str,
    waited: Duration,
    source: io::Error,
) -> DialError {
    let address = address.clone();
    match source.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused { address, program },
        io::ErrorKind::TimedOut => DialError::Unanswered { address, waited },
        _ => DialError::Unreachable { address, source },
    }
}

async fn resolve(address: &HostPort, deadline: Instant) -> Result<Vec<SocketAddr>, DialError> {
    let unresolved = |reason: String| DialError::Unresolved {
        address: address.clone(),
        reason,
    };
    let found = match timeout_at(deadline, look_up(address)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(unresolved(words(&error))),
        Err(_) => return Err(unresolved("the name service does not answer".into())),
    };
    if found.is_empty() {
        return Err(unresolved("it has no address".into()));
    }
    Ok(found)
}

/// Tries each address once; one that swallows packets may use its share of the time only. Of
/// several errors a refusal says most.
async fn connect_any(candidates: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut reported = io::Error::from(io::ErrorKind::TimedOut);
    for (position, candidate) in candidates.iter().enumerate() {
        let left = u32::try_from(candidates.len() - position).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout_at(Instant::now() + share, connect_one(*candidate)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if reported.kind() != io::ErrorKind::ConnectionRefused => {
                reported = error;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(reported)
}

async fn connect_one(candidate: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(candidate).await?;
    // On a host of its own, a port of the ephemeral range can be dialled from that very port:
    // then the stream is connected to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether another try may end differently.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_ended_when_the_next_pause_would_have_passed_the_deadline() {
        let start = Instant::now();
        let limit = Duration::from_secs(10);
        let last_try = start + limit - LAST_TRY;
        let (mut now, mut pause, mut tries) = (start, RETRY_MIN, 1);
        while let Some(next) = next_try(now, pause, last_try) {
            assert!(next > now && next < start + limit);
            (now, pause, tries) = (next, (pause * 2).min(RETRY_MAX), tries + 1);
        }
        assert_eq!(now, last_try, "after {tries} tries");
    }
}
