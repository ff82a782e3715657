//! The socket for the workers' log: who may speak on it, how much, and where the lines go.
//!
//! A connection is taken from a worker of this client only: the kernel says which process and user it is, and
//! the worker proves the secret that its control channel brought, once. Lines over the rate are counted and
//! dropped here; the walk never waits for a log, and neither does the dispatcher.

use crate::config::LogSink;
use hydra_proto::codec;
use hydra_proto::frame::FrameDecoder;
use hydra_proto::logs::{LOG_FRAME_BYTES_MAX, LOG_PROOF_BYTES, LogAccess, LogRecord, answer_proof};
use hydra_proto::message::LogLine;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, trace, warn};

/// Lines that one worker may log at once, and per second in the long run.
const BURST_LINES: u32 = 2000;
const LINES_PER_SECOND: u32 = 200;
/// How long the proof may take.
const PROOF_TIME: Duration = Duration::from_secs(3);
/// The pause after the system refused a connection, for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 4 << 10;

/// Where workers are announced: connections are taken from those that are expected.
#[derive(Clone)]
pub(crate) struct LogDesk {
    socket: Arc<[u8]>,
    expected: Arc<Mutex<HashMap<u32, Expected>>>,
}

/// A worker that may connect.
#[derive(Clone)]
struct Expected {
    worker: u32,
    /// None once it was used.
    secret: Option<[u8; 32]>,
}

impl LogDesk {
    /// Lets a new process connect.
    pub(crate) fn expect(&self, pid: u32, worker: u32) -> Option<LogAccess> {
        let secret: [u8; 32] = rand::random();
        let expected = Expected {
            worker,
            secret: Some(secret),
        };
        self.lock().insert(pid, expected);
        Some(LogAccess {
            socket: self.socket.to_vec(),
            secret,
        })
    }

    /// A process is gone.
    pub(crate) fn forget(&self, pid: u32) {
        self.lock().remove(&pid);
    }

    /// The worker's number and secret, good for one try.
    fn redeem(&self, pid: u32) -> Option<(u32, [u8; 32])> {
        let mut expected = self.lock();
        let entry = expected.get_mut(&pid)?;
        Some((entry.worker, entry.secret.take()?))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Expected>> {
        // Nothing that holds it can leave it half-changed.
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket. Closed when dropped.
pub(crate) struct LogSocket {
    listener: UnixListener,
    desk: LogDesk,
    sink: LogSink,
    forward: mpsc::Sender<LogLine>,
}

impl LogSocket {
    /// Opens a socket under a random name. Lines go to `sink`, and to `forward` as far as there is room.
    pub(crate) fn open(sink: LogSink, forward: mpsc::Sender<LogLine>) -> io::Result<Self> {
        let name = format!("hydra-{:016x}", rand::random::<u64>());
        let address = SocketAddr::from_abstract_name(&name)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            desk: LogDesk {
                socket: name.into_bytes().into(),
                expected: Arc::default(),
            },
            sink,
            forward,
        })
    }

    pub(crate) fn desk(&self) -> LogDesk {
        self.desk.clone()
    }

    /// Takes connections for ever.
    pub(crate) async fn serve(self) {
        let mut readers = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = readers.join_next() => {}
                knock = self.listener.accept() => match knock {
                    Ok((stream, _)) => {
                        if let Some(reader) = self.admit(stream) {
                            readers.spawn(reader.run());
                        }
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a log connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Strangers are turned away before they can say a word, so there are never more readers than workers.
    fn admit(&self, stream: UnixStream) -> Option<Reader> {
        let peer = stream.peer_cred().ok()?;
        let pid = u32::try_from(peer.pid()?).ok()?;
        let ours = peer.uid() == rustix::process::geteuid().as_raw();
        match self.desk.redeem(pid).filter(|_| ours) {
            Some((worker, secret)) => Some(Reader {
                stream,
                worker,
                pid,
                secret,
                sink: Arc::clone(&self.sink),
                forward: self.forward.clone(),
                rate: Rate::new(),
            }),
            None => {
                warn!(pid, uid = peer.uid(), "refused a log connection");
                None
            }
        }
    }
}

struct Reader {
    stream: UnixStream,
    worker: u32,
    pid: u32,
    secret: [u8; 32],
    sink: LogSink,
    forward: mpsc::Sender<LogLine>,
    rate: Rate,
}

impl Reader {
    async fn run(mut self) {
        let (worker, pid) = (self.worker, self.pid);
        match timeout(PROOF_TIME, self.prove()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return warn!(worker, pid, %error, "refused a log connection"),
            Err(_) => return warn!(worker, pid, "a log connection said nothing"),
        }
        if let Err(error) = self.read().await {
            warn!(worker, pid, %error, "a worker's log broke off");
        }
    }

    async fn prove(&mut self) -> io::Result<()> {
        let mut opening = [0; LOG_PROOF_BYTES];
        self.stream.read_exact(&mut opening).await?;
        let answer = answer_proof(&self.secret, &opening).map_err(io::Error::other)?;
        self.stream.write_all(&answer).await
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut decoder = FrameDecoder::new(LOG_FRAME_BYTES_MAX);
        let mut buffer = [0; READ_BYTES];
        loop {
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let mut input = buffer.get(..read).unwrap_or_default();
            while let Some(frame) = decoder.decode(&mut input).map_err(io::Error::other)? {
                let record = codec::decode(&frame).map_err(io::Error::other)?;
                self.take(record);
            }
        }
    }

    fn take(&mut self, record: LogRecord) {
        match record {
            LogRecord::Line(line) if self.rate.admits() => {
                let dropped = std::mem::take(&mut self.rate.dropped);
                self.tell_dropped(dropped);
                // What it is was proven; what it says of itself does not count.
                self.pass(LogLine {
                    worker: self.worker,
                    pid: self.pid,
                    ..line
                });
            }
            LogRecord::Line(_) => self.rate.dropped += 1,
            LogRecord::Dropped(count) => {
                self.rate.dropped = self.rate.dropped.saturating_add(count);
            }
        }
    }

    fn tell_dropped(&self, dropped: u64) {
        if dropped > 0 {
            self.pass(LogLine {
                worker: self.worker,
                pid: self.pid,
                level: 2,
                target: module_path!().to_owned(),
                text: format!("{dropped} lines of this worker's log were dropped"),
            });
        }
    }

    fn pass(&self, line: LogLine) {
        (self.sink)(&line);
        // A server that is slow to take them gets fewer.
        let _ = self.forward.try_send(line);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let dropped = std::mem::take(&mut self.rate.dropped);
        self.tell_dropped(dropped);
    }
}

/// A bucket of lines that fills with time.
struct Rate {
    lines: u32,
    filled: Instant,
    dropped: u64,
}

impl Rate {
    fn new() -> Self {
        Self {
            lines: BURST_LINES,
            filled: Instant::now(),
            dropped: 0,
        }
    }

    fn admits(&mut self) -> bool {
        let passed = self.filled.elapsed().as_millis() * u128::from(LINES_PER_SECOND) / 1000;
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        if more > 0 {
            self.lines = self.lines.saturating_add(more).min(BURST_LINES);
            self.filled = Instant::now();
        }
        let admitted = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        admitted
    }
}

/// Prints a worker's line through `tracing`, escaped: the names of files are in it.
pub fn print_log_line(line: &LogLine) {
    let (worker, pid) = (line.worker, line.pid);
    let (module, text) = (Escaped(&line.target), Escaped(&line.text));
    match line.level {
        0 | 1 => error!(target: "hydra_worker", worker, pid, %module, "{text}"),
        2 => warn!(target: "hydra_worker", worker, pid, %module, "{text}"),
        3 => info!(target: "hydra_worker", worker, pid, %module, "{text}"),
        4 => debug!(target: "hydra_worker", worker, pid, %module, "{text}"),
        _ => trace!(target: "hydra_worker", worker, pid, %module, "{text}"),
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            // What is not ASCII may reorder a line, too, but only `escape_debug` knows what is printable.
            match c == '"' || c == '\'' || c == '\\' {
                true => write!(f, "{c}")?,
                false => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
