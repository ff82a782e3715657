//! Keeps a client connected: dials it, and dials again when the connection is lost, as long as the job lasts.

use crate::connection::{Event, Intake, Origin};
use hydra_link::address::HostPort;
use hydra_link::{DialError, Timeouts};
use hydra_proto::handshake::Key;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The pause before a client is dialled again.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest such pause: it doubles with each connection that comes to nothing.
const AGAIN_MAX: Duration = Duration::from_secs(4);

/// Dials one client, and again each time that `wishes` changes, until its sender is dropped. Where this server goes on
/// with a job (`goes_on`), a client that is silent is dialled again: it may be stopped, or its link cut.
pub(crate) async fn keep_dialling(
    client: usize,
    address: HostPort,
    key: Arc<Key>,
    timeouts: Timeouts,
    mut wishes: watch::Receiver<u64>,
    intake: Intake,
    goes_on: bool,
) {
    let (mut reached, mut pause) = (goes_on, AGAIN / 2);
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
        let since = Instant::now();
        // The coordinator changes its wish when it has lost this connection.
        if connected && wishes.changed().await.is_err() {
            return;
        }
        pause = next_pause(pause, connected.then(|| since.elapsed()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ended(wishes.clone()) => return,
        }
    }
}

/// The pause before the next try, when this one brought a connection that lasted so long.
///
/// A busy client hangs up at once, and is not to be called twice a second for hours; one that was lost is missed.
fn next_pause(pause: Duration, lasted: Option<Duration>) -> Duration {
    match lasted {
        Some(lasted) if lasted < AGAIN_MAX => (pause * 2).min(AGAIN_MAX),
        _ => AGAIN,
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

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::handshake::ServerKey;

    #[test]
    fn a_busy_client_was_dialled_twice_a_second_for_as_long_as_it_was_busy() {
        let hung_up = Some(Duration::from_millis(1));
        let mut pause = AGAIN / 2;
        let pauses = std::iter::from_fn(|| {
            pause = next_pause(pause, hung_up);
            Some(pause)
        });
        let pauses: Vec<u128> = pauses.take(6).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(next_pause(AGAIN_MAX, Some(AGAIN_MAX)), AGAIN);
        assert_eq!(next_pause(AGAIN_MAX, None), AGAIN);
    }

    /// What is said of a client that takes connections and says nothing: whether it is the last word.
    async fn is_last_word(goes_on: bool) -> bool {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = HostPort {
            host: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
        };
        let key = Arc::new(ServerKey::generate().unwrap().into());
        let timeouts = Timeouts {
            handshake: Duration::from_millis(20),
            ..Timeouts::default()
        };
        let (_wish, wishes) = watch::channel(0);
        let (intake, mut events) = Intake::new();
        tokio::spawn(keep_dialling(
            0, address, key, timeouts, wishes, intake, goes_on,
        ));
        match events.recv().await {
            Some(Event::Unreachable { last, .. }) => last,
            _ => panic!("it was reached"),
        }
    }

    #[tokio::test]
    async fn a_client_that_was_stopped_when_its_server_came_back_was_given_up_for_ever() {
        assert!(is_last_word(false).await);
        assert!(!is_last_word(true).await);
    }
}
