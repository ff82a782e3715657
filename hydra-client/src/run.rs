//! How a client is started.

use crate::config::Config;
use crate::crew::Crew;
use crate::dispatcher::Dispatcher;
use crate::doors::Doors;
use crate::error::ClientError;
use crate::logs::LogSocket;
use hydra_link::Connection;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events of workers that may wait for the dispatcher; who brings more waits.
const EVENTS_MAX: usize = 64;
/// Log lines that may wait to be forwarded; more are dropped.
const LINES_MAX: usize = 1024;

/// Serves servers, as `config.mode` says, until `shutdown`. With `config.once` until a job is over.
///
/// Needs a tokio runtime with I/O and time; one thread is enough. When it returns, all workers are gone, but for
/// those that not even SIGKILL can end; those were named in a warning.
///
/// # Errors
/// [`ClientError`]: the port, the key or the address is wrong, or the one job could not be done.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ClientError> {
    let doors = Doors::open(&config).await?;
    serve(config, doors, shutdown).await
}

/// Serves one job of the server at the other end of `connection`, in this process or not.
///
/// # Errors
/// [`ClientError`]: the job could not be done.
pub async fn serve_embedded(
    connection: Connection,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    serve(config, Doors::given(connection).await, shutdown).await
}

async fn serve(
    config: Config,
    doors: Doors,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let config = Arc::new(config);
    let (forward, lines) = mpsc::channel(LINES_MAX);
    let socket =
        LogSocket::open(Arc::clone(&config.log_sink), forward).map_err(ClientError::LogSocket)?;
    let (events, workers) = mpsc::channel(EVENTS_MAX);
    let crew = Crew::new(Arc::clone(&config), events, socket.desk());
    let dispatcher = Dispatcher::new(config, doors, crew, workers, lines);
    tokio::select! {
        result = dispatcher.run(shutdown) => result,
        () = socket.serve() => Ok(()),
    }
}
