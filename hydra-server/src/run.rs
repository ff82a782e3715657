//! One job, from the first connection to the last: the loop around the coordinator.

use crate::config::Config;
use crate::connection::{Event, Intake, Origin};
use crate::coordinator::{Coordinator, Phase};
use crate::dialler;
use crate::outcome::{Outcome, ServerError};
use hydra_link::{Listener, clock};
use hydra_proto::ledger::Time;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(500);
/// Events handled before the ledger's answers are sent.
const EVENTS_AT_ONCE: usize = 64;

/// Does a job. When `interrupt` is ready the job stops, and what is committed is the outcome.
///
/// # Errors
/// When nothing could be walked at all, or results could not be kept.
pub async fn run(
    mut config: Config,
    interrupt: impl Future<Output = ()>,
) -> Result<Outcome, ServerError> {
    let (intake, mut incoming) = Intake::new();
    let mut listener = listen(&config).await?;
    let key = config.key.clone();
    if !config.clients.is_empty() && key.is_none() {
        return Err(ServerError::NoKey);
    }
    let has_embedded = config.embedded.is_some();
    if let Some(connection) = config.embedded.take() {
        // There is room: nothing was sent yet.
        intake
            .send(Event::Connected(Origin::Embedded, connection))
            .await;
    }
    let state = config.state.take();
    let rows_dir = config.rows_dir.take();
    let mut coordinator = Coordinator::new(config, has_embedded, clock::now(), intake.clone());
    // One batch is under way at a time.
    let (reports, mut written) = mpsc::channel(1);
    let dir = state.as_ref().map(|state| state.dir.clone());
    if let Some(state) = state {
        coordinator.keep_journal(clock::now(), state, reports)?;
    }
    let (done, mut rows) = mpsc::unbounded_channel();
    if let Some(store) = rows_dir {
        coordinator.keep_rows(store, done)?;
    }
    coordinator.bound_memory(dir.as_deref());
    if let Some(key) = key {
        for (client, (address, wishes)) in coordinator.diallers().into_iter().enumerate() {
            let (key, timeouts) = (key.clone(), coordinator.timeouts());
            let intake = intake.clone();
            tokio::spawn(dialler::keep_dialling(
                client, address, key, timeouts, wishes, intake,
            ));
        }
    }
    let mut progress = tokio::time::interval(PROGRESS);
    tokio::pin!(interrupt);
    let mut interrupted = false;
    while coordinator.phase() != Phase::Over {
        coordinator.flush(clock::now())?;
        let deadline = coordinator.poll_timeout().map(until);
        let crowded = coordinator.is_crowded();
        tokio::select! {
            Some(report) = written.recv() => coordinator.written(clock::now(), report)?,
            Some(done) = rows.recv() => coordinator.rows_done(clock::now(), done)?,
            event = incoming.recv(), if !crowded => {
                let mut next = event;
                for _ in 0..EVENTS_AT_ONCE {
                    let Some(event) = next else { break };
                    coordinator.handle(clock::now(), event)?;
                    next = incoming.try_recv().ok();
                }
                if let Some(event) = next {
                    coordinator.handle(clock::now(), event)?;
                }
            }
            (connection, _) = accept(&mut listener) => {
                coordinator.handle(clock::now(), Event::Connected(Origin::Accepted, connection))?;
            }
            () = sleep(deadline) => coordinator.tick(clock::now())?,
            _ = progress.tick() => coordinator.tell(clock::now()),
            () = &mut interrupt, if !interrupted => {
                interrupted = true;
                coordinator.interrupt(clock::now())?;
            }
        }
    }
    coordinator.finish()
}

async fn listen(config: &Config) -> Result<Option<Listener>, ServerError> {
    let Some(address) = &config.listen else {
        return Ok(None);
    };
    let key = config.key.clone().ok_or(ServerError::NoKey)?;
    let listener = Listener::bind(address, key, config.timeouts).await?;
    if let Ok(address) = listener.local_address() {
        tracing::info!(%address, "listening for clients");
    }
    Ok(Some(listener))
}

async fn accept(listener: &mut Option<Listener>) -> (hydra_link::Connection, std::net::SocketAddr) {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn until(deadline: Time) -> Duration {
    deadline.saturating_sub(clock::now())
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
