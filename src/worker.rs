//! The worker's role: what the running binary does when a client has started it again.
//!
//! The walk and the two threads are in `hydra-worker`, what a worker inherits in `hydra-client`; this joins them
//! with the plugins.

mod log;

use crate::registry::{PluginError, Registry};
use hydra_client::inherit::{self, Inherited};
use hydra_proto::codec::{self, CodecError};
use hydra_proto::job::JobSpec;
use hydra_proto::logs::WorkerStart;
use hydra_proto::message::Refusal;
use hydra_proto::words::words;
use hydra_worker::sys::slot::Slot;
use hydra_worker::{Identity, Session, Visit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpgrp, getpid, kill_process_group};
use std::io;
use std::os::unix::net::UnixStream;

/// The first argument of a worker. Not for people.
pub const WORKER_ARGUMENT: &str = "__hydra-worker";

/// The first argument of a process that looks at roots. Not for people.
pub const LOOKER_ARGUMENT: &str = "__hydra-roots";

/// A worker whose job has begun.
pub struct WorkerSession {
    session: Session,
}

impl WorkerSession {
    /// What to do.
    #[must_use]
    pub fn job(&self) -> &JobSpec {
        self.session.job()
    }
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// What a worker needs was not handed down.
    #[error("a worker cannot take over what its client handed down: {}", words(.0))]
    Inherit(#[source] io::Error),
    /// The first frame is none that a worker understands.
    #[error("a worker cannot read what its client told it: {0}")]
    Start(#[from] CodecError),
    /// The client's binary has a plugin that this one has not.
    #[error("this program has no plugin '{0}': it is not the same build as the server's")]
    NoPlugin(String),
    /// The plugin refuses its options.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The session or the walk failed.
    #[error(transparent)]
    Walk(#[from] hydra_worker::WorkerError),
}

/// Runs a worker on the control channel that its client handed over.
///
/// # Errors
/// When it cannot go on; its client hears of the end by itself.
pub fn run_worker(registry: &Registry) -> Result<(), WorkerError> {
    let Inherited { mut control, slot } = inherit::take().map_err(WorkerError::Inherit)?;
    let first = inherit::first_frame(&mut control).map_err(WorkerError::Inherit)?;
    let start: WorkerStart = codec::decode(&first)?;
    log::start(&start);
    tell_panics();
    let client = control.try_clone().map_err(WorkerError::Inherit)?;
    let slot = Slot::map(&slot).map_err(|errno| WorkerError::Inherit(errno.into()))?;
    let identity = Identity {
        name: format!("worker {}", start.worker),
        nonce: start.nonce,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        slot: Some(slot),
        own_descriptors: true,
        ..Identity::default()
    };
    let session = match Session::open(control.into(), identity) {
        // The others were quicker: nothing is wrong, and nobody needs to hear of it.
        Err(hydra_worker::WorkerError::Refused(Refusal::JobOver)) => return Ok(()),
        session => session?,
    };
    let name = session.job().plugin.clone();
    tracing::debug!(plugin = name, "the job has begun");
    let outcome = match registry.get(&name) {
        Some(plugin) => plugin.work(WorkerSession { session }),
        None => {
            let error = WorkerError::NoPlugin(name);
            session.leave(&error.to_string());
            Err(error)
        }
    };
    if let Err(error) = &outcome {
        tracing::error!("{error}");
    }
    // The client kills this group when the worker has ended, unless it dies at this very moment.
    if outcome.is_ok() || has_hung_up(&client) {
        end_group();
    }
    outcome
}

/// Has panics told in the log, as all else is. What the plugin's cost is in the report, too.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("it does not say why");
        match panic.location() {
            Some(place) => tracing::error!("a panic at {place}: {text}"),
            None => tracing::error!("a panic: {text}"),
        }
    }));
}

/// Whether nobody holds the other end of the control channel any more.
fn has_hung_up(control: &UnixStream) -> bool {
    let mut fds = [PollFd::new(control, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP))
}

/// Kills this process and all that the plugin has started, which may be in the middle of a call.
fn end_group() {
    // The group of a worker that was not started as usual may have others in it.
    if getpgrp() == getpid() {
        // It cannot fail for a group that this process is in; if it does, the process ends by itself.
        let _ = kill_process_group(getpgrp(), Signal::KILL);
    }
}

/// Walks with a plugin's visitor.
pub(crate) fn run_visitor<V: Visit>(session: WorkerSession, visit: V) -> Result<(), WorkerError> {
    Ok(session.session.run(visit)?)
}
