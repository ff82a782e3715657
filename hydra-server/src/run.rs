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
    let (rows_file, rows_dir) = (config.rows.take(), config.rows_dir.take());
    let mut coordinator = Coordinator::new(config, has_embedded, clock::now(), intake.clone());
    // One batch is under way at a time.
    let (reports, mut written) = mpsc::channel(1);
    coordinator.bound_memory(state.as_ref().map(|state| &*state.dir));
    if let Some(state) = state {
        coordinator.keep_journal(clock::now(), state, reports)?;
    }
    let (done, mut rows) = mpsc::unbounded_channel();
    if let Some(file) = rows_file {
        coordinator.write_rows(file, done.clone())?;
    }
    if let Some(store) = rows_dir {
        coordinator.keep_rows(store, done)?;
    }
    if let Some(key) = key {
        for (client, (address, wishes)) in coordinator.diallers().into_iter().enumerate() {
            let (key, timeouts) = (key.clone(), coordinator.timeouts());
            let intake = intake.clone();
            let goes_on = coordinator.goes_on();
            tokio::spawn(dialler::keep_dialling(
                client, address, key, timeouts, wishes, intake, goes_on,
            ));
        }
    }
    let mut progress = tokio::time::interval(PROGRESS);
    tokio::pin!(interrupt);
    let mut interrupted = false;
    let mut pulse = Pulse::new(clock::now(), coordinator.dead_after());
    // A job that is gone on with may be done already.
    coordinator.proceed(clock::now())?;
    while coordinator.phase() != Phase::Over {
        coordinator.flush(clock::now())?;
        let deadline = until(pulse.or_before(coordinator.poll_timeout()));
        let hears = coordinator.hears(clock::now());
        tokio::select! {
            Some(report) = written.recv() => coordinator.written(clock::now(), report)?,
            Some(done) = rows.recv() => coordinator.rows_done(clock::now(), done)?,
            event = incoming.recv(), if hears => {
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
            () = tokio::time::sleep(deadline) => {
                let now = clock::now();
                if pulse.was_held_up(now) {
                    tracing::warn!("this process was held up");
                    coordinator.held_up(now);
                }
                coordinator.tick(now)?;
            }
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

/// Tells whether this process stood still: it was stopped, or its machine slept. What the others said meanwhile, or could
/// not say, is not their fault.
struct Pulse {
    last: Time,
    every: Duration,
}

impl Pulse {
    /// Beats several times while silence does not count yet.
    fn new(now: Time, dead_after: Duration) -> Self {
        let every = dead_after / 4;
        Self { last: now, every }
    }

    /// When timers are to be looked at next.
    fn or_before(&self, deadline: Option<Time>) -> Time {
        let next = self.last + self.every;
        deadline.map_or(next, |deadline| deadline.min(next))
    }

    /// Timers are looked at now. Are they so late that they say nothing?
    fn was_held_up(&mut self, now: Time) -> bool {
        let late = now.saturating_sub(self.last) > self.every * 2;
        self.last = now;
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_that_are_looked_at_late_say_nothing() {
        let at = Duration::from_millis;
        let mut pulse = Pulse::new(at(1000), at(400));
        assert_eq!(pulse.or_before(None), at(1100));
        assert_eq!(pulse.or_before(Some(at(1050))), at(1050));
        assert!(!pulse.was_held_up(at(1200)));
        assert!(pulse.was_held_up(at(1401)));
        assert!(!pulse.was_held_up(at(1500)));
    }
}
