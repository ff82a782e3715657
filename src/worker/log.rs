//! A worker's log: what it says goes to its client, over a socket of its own, and never makes the walk wait.
//!
//! Most workers have nothing to say. So the socket is opened, and its proof given, for the first line: that one waits
//! for the client, and no other.

use hydra_proto::logs::{LOG_PROOF_BYTES, LogAccess, LogBuffer, LogProof, WorkerStart};
use hydra_proto::message::LogLine;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, Registry};

/// What waits to be taken by the client; more is dropped, and counted.
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// How long the client may take to prove that it is the client.
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends what this process logs to its client, if there is a way. Without one, the worker is silent.
pub(super) fn start(start: &WorkerStart) {
    let Some(access) = &start.log else {
        return;
    };
    let filter = EnvFilter::builder().parse_lossy(for_workers(&start.log_filter));
    let sender = ToClient {
        worker: start.worker,
        state: Mutex::new((
            Way::Unopened(access.clone()),
            LogBuffer::new(BUFFER_BYTES_MAX),
        )),
    };
    let subscriber = Registry::default().with(filter).with(sender);
    // A program that has set up messages of its own keeps them.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn connect(access: &LogAccess) -> io::Result<UnixStream> {
    let address = SocketAddr::from_abstract_name(&access.socket)?;
    let mut socket = UnixStream::connect_addr(&address)?;
    socket.set_read_timeout(Some(PROOF_TIMEOUT))?;
    let (proof, opening) = LogProof::open(&access.secret).map_err(io::Error::other)?;
    socket.write_all(&opening)?;
    let mut answer = [0; LOG_PROOF_BYTES];
    socket.read_exact(&mut answer)?;
    proof.check(&answer).map_err(io::Error::other)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct ToClient {
    worker: u32,
    state: Mutex<(Way, LogBuffer)>,
}

/// The way to the client.
enum Way {
    Unopened(LogAccess),
    Open(UnixStream),
    /// The client does not take it: this worker is silent.
    None,
}

impl Way {
    fn socket(&mut self) -> Option<&mut UnixStream> {
        if let Self::Unopened(access) = self {
            *self = connect(access).map_or(Self::None, Self::Open);
        }
        match self {
            Self::Open(socket) => Some(socket),
            Self::Unopened(_) | Self::None => None,
        }
    }
}

impl<S: Subscriber> Layer<S> for ToClient {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let metadata = event.metadata();
        let line = LogLine {
            worker: self.worker,
            pid: std::process::id(),
            level: number(*metadata.level()),
            target: metadata.target().to_owned(),
            text: text.0,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (way, buffer) = &mut *state;
        if let Some(socket) = way.socket() {
            buffer.push(line);
            send(socket, buffer);
        }
    }
}

/// Sends what the socket takes now; the rest waits for the next line.
fn send(socket: &mut UnixStream, buffer: &mut LogBuffer) {
    while !buffer.pending().is_empty() {
        match socket.write(buffer.pending()) {
            Ok(taken @ 1..) => buffer.advance(taken),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Full, or closed: then the client is gone, and this process soon is.
            Ok(_) | Err(_) => return,
        }
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// An event's message and fields, as one line.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{space}{value:?}"),
            name => write!(self.0, "{space}{name}={value:?}"),
        };
    }
}

/// The filter for what a worker says. All of it is shown as `hydra_worker`, so what is asked for by that name is meant
/// for its other modules too.
fn for_workers(filter: &str) -> String {
    let levels = filter.split(',');
    let levels = levels.filter_map(|directive| directive.trim().strip_prefix("hydra_worker="));
    levels.fold(filter.to_owned(), |filter, level| {
        format!("{filter},hydra={level}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_under_which_workers_are_shown_asked_for_none_of_their_lines() {
        assert_eq!(for_workers("info"), "info");
        assert_eq!(
            for_workers("warn,hydra_worker=debug"),
            "warn,hydra_worker=debug,hydra=debug"
        );
    }
}
