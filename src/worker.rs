//! The worker's role: what the running binary does when a client has started it again.
//!
//! The walk and the two threads are in `hydra-worker`; this joins them with the plugins.

use crate::registry::{PluginError, Registry};
use hydra_proto::job::JobSpec;
use hydra_worker::Visit;

/// The first argument of a worker. Not for people.
pub const WORKER_ARGUMENT: &str = "__hydra-worker";

/// What a worker is given when its job begins.
#[derive(Debug)]
pub struct WorkerSession {
    /// What to do.
    pub job: JobSpec,
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The client's binary has a plugin that this one has not.
    #[error("this program has no plugin '{0}': it is not the same build as the server's")]
    NoPlugin(String),
    /// The plugin refuses its options.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Workers cannot run yet.
    #[error("internal error: workers are not built yet")]
    NotBuilt,
}

/// Runs a worker on the control channel that its client handed over.
///
/// # Errors
/// When it cannot go on; its client hears of the end by itself.
pub fn run_worker(registry: &Registry) -> Result<(), WorkerError> {
    let session = open_session()?;
    let plugin = registry
        .get(&session.job.plugin)
        .ok_or_else(|| WorkerError::NoPlugin(session.job.plugin.clone()))?;
    plugin.work(session)
}

/// Waits for the first message of the control channel.
fn open_session() -> Result<WorkerSession, WorkerError> {
    Err(WorkerError::NotBuilt)
}

/// Walks with a plugin's visitor.
pub(crate) fn run_visitor<V: Visit>(_session: WorkerSession, _visit: V) -> Result<(), WorkerError> {
    Err(WorkerError::NotBuilt)
}
