//! One worker process: how it is started, the tasks that attend it, and how it ends.
//!
//! ```text
//!   started ──end of its control channel, or killed by the dispatcher──► group killed ──reaped──► Exited
//! ```
//!
//! The group is killed before the worker is reaped, so that its number cannot belong to anybody else by then;
//! whatever the worker has started dies with it. Reaping waits as long as it takes, and only this task with
//! it: a process that hangs in the kernel holds up nobody. Whether a worker is replaced is decided elsewhere.

use crate::config::{Config, WorkerCommand};
use crate::inherit;
use crate::link::{receive_all, send_all};
use crate::watch::Doing;
use hydra_link::Connection;
use hydra_proto::ids::{ConnId, ItemId};
use hydra_proto::logs::WorkerStart;
use hydra_proto::message::{Down, Up};
use hydra_proto::words::words;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait for a worker. One that takes none of so many has stopped.
const OUTBOX_MAX: usize = 256;

/// What a worker brings.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// A message.
    Message(ConnId, Up),
    /// Its end: the process is reaped.
    Exited(Exit),
}

/// How a worker ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) conn: ConnId,
    /// In words.
    pub(crate) reason: String,
    /// The item that it was working on.
    pub(crate) in_hand: Option<ItemId>,
}

/// A running worker, as the dispatcher holds it. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) conn: ConnId,
    pub(crate) pid: u32,
    outbox: mpsc::Sender<Down>,
    slot: Slot,
    _alive: oneshot::Sender<Infallible>,
}

/// A process that waits to be told which worker it is. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Spawned {
    control: UnixStream,
    slot: Slot,
    child: Child,
}

impl Spawned {
    /// Starts a process.
    pub(crate) fn new(config: &Arc<Config>) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let slot = inherit::make_slot(config.slot_bytes)?;
        let child = spawn(&config.worker, theirs.into(), slot.try_clone()?.into())?;
        let slot = Slot {
            file: Arc::new(File::from(slot)),
            config: Arc::clone(config),
        };
        Ok(Self {
            control,
            slot,
            child,
        })
    }
}

impl Worker {
    /// Makes a worker of a process. What `introduce` makes of its pid is the first frame on its control channel.
    pub(crate) fn start(
        spawned: Spawned,
        conn: ConnId,
        introduce: impl FnOnce(u32) -> WorkerStart,
        events: mpsc::Sender<WorkerEvent>,
    ) -> Self {
        let Spawned {
            control,
            slot,
            child,
        } = spawned;
        let pid = child.id().unwrap_or(0);

        let (reader, writer) = Connection::plain(control, &slot.config.timings.link).split();
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let start = introduce(pid);
        tokio::spawn(async move {
            let mut writer = writer;
            let frame = hydra_proto::codec::encode(&start).unwrap_or_default();
            if writer.send(&frame).await.is_ok() {
                // If it fails, the worker is gone, or silent: both are noticed where it is read.
                let _ = send_all(&mut writer, messages).await;
            }
        });

        let (alive, killed) = oneshot::channel();
        let process = Process {
            conn,
            child,
            pid,
            reaped: false,
            slot: slot.clone(),
        };
        tokio::spawn(async move {
            let read = receive_all(reader, &events, |message| {
                WorkerEvent::Message(conn, message)
            });
            tokio::select! {
                _ = read => {}
                _ = killed => {}
            }
            let exit = process.end().await;
            // The dispatcher may have ended meanwhile.
            let _ = events.send(WorkerEvent::Exited(exit)).await;
        });
        Self {
            conn,
            pid,
            outbox,
            slot,
            _alive: alive,
        }
    }

    /// What it is doing.
    pub(crate) fn doing(&self) -> Option<Doing> {
        self.slot.read()
    }

    /// Sends a message; false if the worker takes none.
    pub(crate) fn send(&self, message: Down) -> bool {
        use mpsc::error::TrySendError;
        // One that is gone is noticed by its end.
        !matches!(self.outbox.try_send(message), Err(TrySendError::Full(_)))
    }
}

/// Starts a process in a group of its own, with these as its standard input and output. Killed when dropped.
pub(crate) fn spawn(command: &WorkerCommand, control: OwnedFd, slot: Stdio) -> io::Result<Child> {
    Command::new(&command.program)
        .args(&command.args)
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(control))
        .stdout(slot)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

struct Process {
    conn: ConnId,
    child: Child,
    pid: u32,
    reaped: bool,
    slot: Slot,
}

/// The memory that a worker shares with its client.
#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    config: Arc<Config>,
}

impl Slot {
    fn read(&self) -> Option<Doing> {
        let mut bytes = vec![0; self.config.slot_bytes];
        let read = self.file.read_at(&mut bytes, 0).ok()?;
        (self.config.decode_slot)(bytes.get(..read)?)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.file).finish()
    }
}

impl Process {
    /// Kills what is left of it, and reaps it.
    async fn end(mut self) -> Exit {
        kill_group(self.pid);
        let status = self.child.wait().await;
        self.reaped = true;
        let reason = match status {
            Ok(status) => describe(status),
            Err(error) => format!("lost: {}", words(&error)),
        };
        Exit {
            conn: self.conn,
            reason,
            in_hand: self.slot.read().and_then(|doing| doing.item),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The runtime was shut down: nobody attends it any more.
        if !self.reaped {
            kill_group(self.pid);
        }
    }
}

/// Kills a worker and all that it started. Only for one that is not reaped.
fn kill_group(pid: u32) {
    // 0 and 1 would be other groups than its own.
    if let Ok(pid @ 2..) = i32::try_from(pid) {
        // It fails where nothing is left to kill.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}
