//! Keeps a client connected: dials it, and dials again when the connection is lost, as long as the job lasts.

use crate::connection::{Event, Intake, Origin};
use hydra_link::address::HostPort;
use hydra_link::{DialError, Timeouts};
use hydra_proto::handshake::Key;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The pause before a client is dialled again.
const AGAIN: Duration = Duration::from_millis(500);

/// Dials one client, and again each time that `wishes` changes, until its sender is dropped.
pub(crate) async fn keep_dialling(
    client: usize,
    address: HostPort,
    key: Arc<Key>,
    timeouts: Timeouts,
    mut wishes: watch::Receiver<u64>,
    intake: Intake,
) {
    let mut reached = false;
    loop {
        wishes.mark_unchanged();
        let dialled = tokio::select! {
            dialled = hydra_link::dial(&address, &key, &timeouts) => dialled,
            () = ended(wishes.clone()) => return,
        };
        let connected = dialled.is_ok();
        let event = match dialled {
            Ok(connection) => Event::Connected(Origin::Dialled(client), connection),
            Err(error) => Event::Unreachable {
                client,
                last: !reached && is_final(&error),
                reason: error.to_string(),
            },
        };
        reached |= connected;
        let last = matches!(event, Event::Unreachable { last: true, .. });
        if !intake.send(event).await || last {
            return;
        }
        // The coordinator changes its wish when it has lost this connection.
        if connected && wishes.changed().await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = ended(wishes.clone()) => return,
        }
    }
}

/// Waits for the end of all wishes.
async fn ended(mut wishes: watch::Receiver<u64>) {
    while wishes.changed().await.is_ok() {}
}

/// Whether trying again is pointless: the peer answers, and is not what it should be.
fn is_final(error: &DialError) -> bool {
    match error {
        DialError::Silent { .. } | DialError::Foreign { .. } | DialError::Handshake { .. } => true,
        DialError::Unresolved { .. }
        | DialError::Refused { .. }
        | DialError::Unanswered { .. }
        | DialError::Unreachable { .. } => false,
    }
}
