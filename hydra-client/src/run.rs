//! How a client is started.

use crate::config::Config;
use crate::crew::Crew;
use crate::dispatcher::Dispatcher;
use crate::doors::Doors;
use crate::error::ClientError;
use crate::logs::LogSocket;
use crate::roots;
use hydra_link::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::warn;

/// Events of workers that may wait for the dispatcher; who brings more waits.
const EVENTS_MAX: usize = 64;
/// Log lines that may wait to be forwarded; more are dropped.
const LINES_MAX: usize = 1024;

/// Descriptors that each worker takes here: its control channel, its slot, its process and its log.
const WORKER_DESCRIPTORS: u64 = 4;
/// Descriptors that are kept for other things, where there are so many.
const OTHER_DESCRIPTORS: u64 = 128;

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

/// Serves one job of the server at the other end of `connection`, which is over when it ends, and not before, however
/// silent the server is: nothing can cut what lies within a process.
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
    let config = Arc::new(Config {
        workers: affordable(config.workers),
        ..config
    });
    if !config.allow_roots.is_empty() {
        tokio::spawn(roots::warn_of_missing(Arc::clone(&config)));
    }
    let (forward, lines) = mpsc::channel(LINES_MAX);
    let socket =
        LogSocket::open(Arc::clone(&config.log_sink), forward).map_err(ClientError::LogSocket)?;
    let (events, workers) = mpsc::channel(EVENTS_MAX);
    let mut crew = Crew::new(Arc::clone(&config), events, socket.desk());
    if doors.is_given() {
        crew.prepare();
    }
    let dispatcher = Dispatcher::new(config, doors, crew, workers, lines);
    tokio::select! {
        result = dispatcher.run(shutdown) => result,
        () = socket.serve() => Ok(()),
    }
}

/// How many of the `wanted` workers there are descriptors for; says so if not for all.
fn affordable(wanted: u32) -> u32 {
    allow(descriptors_for(wanted));
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let workers = wanted.min(affordable_with(limit));
    if workers < wanted {
        warn!(
            "{workers} workers run here instead of {wanted}: this process may have only {limit} open files (ulimit -n)"
        );
    }
    workers
}

fn descriptors_for(workers: u32) -> u64 {
    u64::from(workers) * WORKER_DESCRIPTORS + OTHER_DESCRIPTORS
}

/// Lets this process, and those that it starts, have so many open files, as far as it may.
fn allow(descriptors: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit
        .maximum
        .map_or(descriptors, |most| most.min(descriptors));
    if limit.current.is_some_and(|current| current < most) {
        // What is not to be had is told by whoever needs it.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(most),
                ..limit
            },
        );
    }
}

fn affordable_with(limit: u64) -> u32 {
    let room = limit - OTHER_DESCRIPTORS.min(limit / 4);
    u32::try_from(room / WORKER_DESCRIPTORS)
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_workers_than_there_are_descriptors_for_ended_the_job() {
        assert_eq!(affordable_with(1024), 224);
        assert_eq!(affordable_with(0), 1);
        assert_eq!(affordable_with(u64::MAX), u32::MAX);
        for workers in [1, 7, 224, 225, 5000] {
            assert!(affordable_with(descriptors_for(workers)) >= workers);
        }
    }
}
