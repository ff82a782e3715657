//! The worker's role: what the running binary does when a client has started it again.
//!
//! The walk and the two threads are in `hydra-worker`, what a worker inherits in `hydra-client`; this joins them
//! with the plugins.

mod log;

use crate::registry::{PluginError, Registry};
use hydra_client::inherit::{self, Inherited};
use hydra_proto::codec::{self, CodecError};
use hydra_proto::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use hydra_proto::job::JobSpec;
use hydra_proto::logs::WorkerStart;
use hydra_worker::sys::slot::Slot;
use hydra_worker::{Identity, Session, Visit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{getpgrp, getpid};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

/// The first argument of a worker. Not for people.
pub const WORKER_ARGUMENT: &str = "__hydra-worker";

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
    #[error("a worker cannot take over what its client handed down: {0}")]
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
    let start = read_start(&mut control)?;
    log::start(&start);
    let slot = Slot::map(&slot).map_err(|errno| WorkerError::Inherit(errno.into()))?;
    let identity = Identity {
        name: format!("worker {}", start.worker),
        nonce: start.nonce,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        slot: Some(slot),
        own_descriptors: true,
        ..Identity::default()
    };
    let session = Session::open(control.into(), identity)?;
    let name = session.job().plugin.clone();
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
    end_group();
    outcome
}

/// Ends what this worker has started, and with it this process: a client that was killed cannot do it any more.
fn end_group() {
    // Only a leader's group is its own.
    if getpgrp() == getpid() {
        // Nothing is left to be done where it fails.
        let _ = killpg(getpgrp(), Signal::SIGKILL);
    }
}

/// Reads the first frame of the control channel, and not a byte more.
fn read_start(control: &mut UnixStream) -> Result<WorkerStart, WorkerError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    control
        .read_exact(&mut header)
        .map_err(WorkerError::Inherit)?;
    let length = u32::from_le_bytes(header) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(CodecError::TooLarge { size: length }.into());
    }
    let mut frame = vec![0; length];
    control
        .read_exact(&mut frame)
        .map_err(WorkerError::Inherit)?;
    Ok(codec::decode(&frame)?)
}

/// Walks with a plugin's visitor.
pub(crate) fn run_visitor<V: Visit>(session: WorkerSession, visit: V) -> Result<(), WorkerError> {
    Ok(session.session.run(visit)?)
}
