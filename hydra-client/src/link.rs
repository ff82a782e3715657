//! One connection to a server: the task that reads and writes it. What the messages mean is decided elsewhere.

use hydra_link::{Connection, FrameReader, FrameWriter, LinkError};
use hydra_proto::codec::{self, CodecError};
use hydra_proto::ids::ConnId;
use hydra_proto::message::{Down, Up};
use serde::{Serialize, de::DeserializeOwned};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Messages that may wait for a slow server: its commit window and some advice. More means that it is stuck.
const OUTBOX_MAX: usize = 256;
/// How long a closed connection is still read, so that the other side gets our last words and no reset.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection brings.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A message.
    Message(ConnId, Down),
    /// Its end, and why.
    Closed(ConnId, String),
    /// A message of ours cannot be written, and would not fit into another connection either.
    Unsendable(String),
}

/// A connection to a server, as the dispatcher holds it. Closed when dropped, after what was sent.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    /// The server, as people know it.
    pub(crate) peer: String,
    outbox: mpsc::Sender<Up>,
    task: JoinHandle<()>,
}

impl Link {
    pub(crate) fn open(
        conn: ConnId,
        peer: String,
        connection: Connection,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let task = tokio::spawn(attend(conn, connection, messages, events));
        Self {
            conn,
            peer,
            outbox,
            task,
        }
    }

    /// Sends a message; false if the link is stuck or gone.
    pub(crate) fn send(&self, message: Up) -> bool {
        self.outbox.try_send(message).is_ok()
    }

    /// Whether messages that may be lost should be, because the link is slow.
    pub(crate) fn is_slow(&self) -> bool {
        self.outbox.capacity() < OUTBOX_MAX / 2
    }

    /// Closes, and waits until what was sent is on its way.
    pub(crate) async fn close(self) {
        let Self { outbox, task, .. } = self;
        drop(outbox);
        // An end by timeout leaves the task to its own deadlines.
        let _ = timeout(2 * LINGER, task).await;
    }
}

async fn attend(
    conn: ConnId,
    connection: Connection,
    messages: mpsc::Receiver<Up>,
    events: mpsc::Sender<LinkEvent>,
) {
    let (reader, writer) = connection.split();
    let mut writing = pin!(send_to_server(writer, messages));
    let forward = |message| LinkEvent::Message(conn, message);
    let mut reading = pin!(receive_all(reader, &events, forward));
    let reason = tokio::select! {
        reason = &mut reading => reason,
        sent = &mut writing => match sent {
            Ok(()) => {
                let _ = timeout(LINGER, reading).await;
                return;
            }
            Err(SendError::Message(error)) => {
                let _ = events.send(LinkEvent::Unsendable(error.to_string())).await;
                let _ = timeout(LINGER, reading).await;
                return;
            }
            Err(SendError::Link(error)) => error.to_string(),
        },
    };
    // The dispatcher may have ended meanwhile.
    let _ = events.send(LinkEvent::Closed(conn, reason)).await;
}

/// Writes messages; if one of them cannot be written, that this client leaves. The server would take the mere end of the
/// connection for a lost one.
async fn send_to_server(
    mut writer: FrameWriter,
    messages: mpsc::Receiver<Up>,
) -> Result<(), SendError> {
    let sent = send_all(&mut writer, messages).await;
    if let Err(SendError::Message(error)) = &sent {
        queue(&mut writer, &Up::Leave(error.to_string())).await?;
        writer.close().await?;
    }
    sent
}

/// Writes messages until there will be no more, or the stream fails; those that wait leave together.
pub(crate) async fn send_all<T: Serialize>(
    writer: &mut FrameWriter,
    mut messages: mpsc::Receiver<T>,
) -> Result<(), SendError> {
    while let Some(first) = messages.recv().await {
        queue(writer, &first).await?;
        while let Ok(next) = messages.try_recv() {
            queue(writer, &next).await?;
        }
        writer.flush().await?;
    }
    Ok(writer.close().await?)
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// It is too large.
    #[error(transparent)]
    Message(#[from] CodecError),
    /// The connection is of no more use.
    #[error(transparent)]
    Link(#[from] LinkError),
}

async fn queue<T: Serialize>(writer: &mut FrameWriter, message: &T) -> Result<(), SendError> {
    let frame = codec::encode(message)?;
    Ok(writer.queue(&frame).await?)
}

/// Reads messages and passes them on, no faster than they are taken. Returns why it ended.
pub(crate) async fn receive_all<T: DeserializeOwned, E>(
    mut reader: FrameReader,
    events: &mpsc::Sender<E>,
    wrap: impl Fn(T) -> E,
) -> String {
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the other side closed the connection".to_owned(),
            Err(error) => return error.to_string(),
        };
        let message = match codec::decode(&frame) {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        if events.send(wrap(message)).await.is_err() {
            return "nobody is left to hear it".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_link::Timeouts;
    use hydra_proto::frame::FRAME_BYTES_MAX;

    #[tokio::test]
    async fn a_server_took_a_client_whose_message_fits_into_no_frame_for_cut_off() {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let timeouts = Timeouts::default();
        let (events, mut heard) = mpsc::channel(4);
        let ours = Connection::plain(ours, &timeouts);
        let link = Link::open(ConnId(1), "server".to_owned(), ours, events);
        assert!(link.send(Up::Warning("x".repeat(FRAME_BYTES_MAX))));
        let (mut reader, _writer) = Connection::plain(theirs, &timeouts).split();
        let said = reader.next().await.unwrap().unwrap();
        let said: Up = codec::decode(&said).unwrap();
        assert!(matches!(&said, Up::Leave(_)), "{said:?}");
        let event = heard.recv().await;
        assert!(matches!(event, Some(LinkEvent::Unsendable(_))), "{event:?}");
    }
}
