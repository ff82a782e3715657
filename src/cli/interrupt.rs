//! Being told to stop, by Ctrl-C or the system: the first time the job ends in order, the second time the program at
//! once.
//!
//! A thread of its own waits for it, so that it also counts while the program is busy with something else.

use crate::exit_codes::Exit;
use hydra_proto::words::not_started;
use std::sync::mpsc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Whether the program was told to stop.
pub(super) struct Interrupt {
    told: watch::Receiver<bool>,
    /// Ends when signals are watched, or cannot be.
    begun: mpsc::Receiver<()>,
}

impl Interrupt {
    /// Begins to watch. Where that cannot be done, a signal ends the program as usual.
    pub(super) fn watch() -> Self {
        let (tell, told) = watch::channel(false);
        let (ready, begun) = mpsc::channel();
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let spawned = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let Ok(mut signals) = Signals::new() else {
                    return;
                };
                drop(ready);
                signals.next().await;
                tell.send_replace(true);
                signals.next().await;
                std::process::exit(i32::from(Exit::Interrupted.code()));
            });
        });
        if let Err(error) = spawned {
            let why = not_started(&error);
            tracing::warn!("a signal ends this program at once, without a report: {why}");
        }
        Self { told, begun }
    }

    /// Waits until signals are watched.
    pub(super) fn begin(&self) {
        let _ = self.begun.recv();
    }

    /// Whether it was told.
    pub(super) fn is_told(&self) -> bool {
        *self.told.borrow()
    }

    /// Is ready when it is told.
    pub(super) async fn told(mut self) {
        self.begin();
        if self.told.wait_for(|told| *told).await.is_err() {
            // Nobody will tell.
            std::future::pending().await
        }
    }
}

/// The signals that ask a program to stop.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
