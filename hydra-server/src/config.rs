//! What a job of the server is made with.

use crate::journal::StateDir;
use crate::outcome::Progress;
use crate::rows::Store;
use hydra_link::address::HostPort;
use hydra_link::{Connection, Timeouts};
use hydra_proto::handshake::Key;
use hydra_proto::job::JobSpec;
use hydra_proto::message::LogLine;
use hydra_proto::reduce::Reduce;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// Is told how far the job is, about twice a second.
pub type ProgressSink = Box<dyn FnMut(&Progress) + Send>;
/// Is given the lines of workers' logs, with the name of their client.
pub type LogSink = Box<dyn FnMut(&str, &LogLine) + Send>;

/// Everything that [`crate::run()`] needs.
pub struct Config {
    /// The job, as clients are told of it.
    pub job: JobSpec,
    /// Clients to dial.
    pub clients: Vec<HostPort>,
    /// Where to listen for clients that dial.
    pub listen: Option<HostPort>,
    /// How many clients that dial to wait for before the work begins.
    pub min_clients: usize,
    /// How long to wait for a client when none is left, and for the first one that dials. Default 5 min.
    pub client_timeout: Duration,
    /// How long connecting, shaking hands and sending may take.
    pub timeouts: Timeouts,
    /// Wait for a client that is busy with another server, instead of doing without it. The walk begins as soon as
    /// anybody else is there; who is busy joins it later.
    pub wait: bool,
    /// This server's key; not needed without the network.
    pub key: Option<Arc<Key>>,
    /// The embedded client's end of a connection.
    pub embedded: Option<Connection>,
    /// Adds up the plugin's summaries.
    pub reducer: Box<dyn Reduce>,
    /// Where the job's state is kept, so that it survives this server.
    pub state: Option<StateDir>,
    /// About how many bytes the open items may take in memory. Default 1 GiB.
    pub memory: u64,
    /// The file or pipe that output rows go to; with a state directory that is said there.
    pub rows: Option<File>,
    /// The directory for rows, if the job has one. With a state directory [`Store::streamed`] is to be
    /// said there.
    pub rows_dir: Option<Store>,
    /// Is told how far the job is.
    pub progress: Option<ProgressSink>,
    /// Is given workers' logs; they are asked for only if this is set.
    pub logs: Option<LogSink>,
    /// This build, for people.
    pub release: String,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("job", &self.job)
            .field("clients", &self.clients)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
