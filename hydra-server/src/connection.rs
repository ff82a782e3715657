//! One connection to a client: a task that reads, a task that writes, and the events they make.

use crate::held;
use hydra_link::{Connection, FrameReader, FrameWriter};
use hydra_proto::codec;
use hydra_proto::frame::FRAME_BYTES_MAX;
use hydra_proto::ids::ConnId;
use hydra_proto::message::{Down, Up};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages that may wait to be sent to one client. A client that does not take them loses its connection,
/// and resumes.
const OUTBOX_MAX: usize = 4096;
/// The same in bytes.
const OUTBOX_BYTES_MAX: u32 = 64 << 20;
/// Events that may wait for the coordinator; then readers wait, and with them the clients.
pub(crate) const EVENTS_MAX: usize = 1024;
/// The same in bytes of messages. More than the largest frame, so that each message finds room some time.
const EVENTS_BYTES_MAX: u32 = 64 << 20;
const _: () = assert!(FRAME_BYTES_MAX < EVENTS_BYTES_MAX as usize);

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client inside this process.
    Embedded,
    /// The client of this number was dialled.
    Dialled(usize),
    /// It dialled us.
    Accepted,
}

/// What the outside world does.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client has proven who it is.
    Connected(Origin, Connection),
    /// A client cannot be reached; `last` when it will not be tried again.
    Unreachable {
        client: usize,
        reason: String,
        last: bool,
    },
    /// A message, and its share of the room for messages.
    Message(ConnId, Box<Up>, OwnedSemaphorePermit),
    /// A connection is gone, and why, if that is worth telling.
    Closed(ConnId, Option<String>),
}

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    events: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
}

impl Intake {
    /// An intake, and where its events come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        let room = Arc::new(Semaphore::new(EVENTS_BYTES_MAX as usize));
        (Self { events, room }, incoming)
    }

    /// Waits for room. `false` when nobody takes events any more.
    pub(crate) async fn send(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// Room for a message of so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        room.acquire_many_owned(bytes.min(EVENTS_BYTES_MAX))
            .await
            .ok()
    }
}

/// The coordinator's end of a connection. Dropping it closes the connection when all is sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
}

/// A message, and its share of the room for those that wait.
type Outgoing = (Down, OwnedSemaphorePermit);

impl Outbox {
    fn new() -> (Self, mpsc::Receiver<Outgoing>) {
        let (messages, outgoing) = mpsc::channel(OUTBOX_MAX);
        let room = Arc::new(Semaphore::new(OUTBOX_BYTES_MAX as usize));
        (Self { messages, room }, outgoing)
    }

    /// Sends a message, if there is room.
    pub(crate) fn send(&self, message: Down) -> bool {
        let bytes = u32::try_from(held::size(&message)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        match room.try_acquire_many_owned(bytes.min(OUTBOX_BYTES_MAX)) {
            Ok(room) => self.messages.try_send((message, room)).is_ok(),
            Err(_) => false,
        }
    }
}

/// Starts the two tasks of a connection.
pub(crate) fn start(conn: ConnId, connection: Connection, intake: Intake) -> Outbox {
    let (reader, writer) = connection.split();
    let (outbox, messages) = Outbox::new();
    let sending = tokio::spawn(send_all(writer, messages));
    tokio::spawn(async move {
        let mut sending = sending;
        // Whichever half ends first, the connection is over; what remains to be said is said.
        let reason = tokio::select! {
            reason = receive_all(conn, reader, &intake) => {
                sending.abort();
                reason
            }
            sent = &mut sending => sent.ok().flatten(),
        };
        // The coordinator is gone when this fails, and with it whoever wanted to know.
        let _ = intake.send(Event::Closed(conn, reason)).await;
    });
    outbox
}

async fn receive_all(conn: ConnId, mut reader: FrameReader, intake: &Intake) -> Option<String> {
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        };
        // Not before it is read: who is slow would then keep room from the beats of all others.
        let room = intake.room(frame.len()).await?;
        let message: Up = match codec::decode(&frame) {
            Ok(message) => message,
            Err(error) => return Some(error.to_string()),
        };
        let event = Event::Message(conn, Box::new(message), room);
        if !intake.send(event).await {
            return None;
        }
    }
}

async fn send_all(
    mut writer: FrameWriter,
    mut messages: mpsc::Receiver<Outgoing>,
) -> Option<String> {
    while let Some(message) = messages.recv().await {
        let mut next = Some(message);
        while let Some((message, _room)) = next {
            let sent = match codec::encode(&message) {
                Ok(bytes) => writer.queue(&bytes).await,
                Err(error) => return Some(error.to_string()),
            };
            if let Err(error) = sent {
                return Some(error.to_string());
            }
            next = messages.try_recv().ok();
        }
        if let Err(error) = writer.flush().await {
            return Some(error.to_string());
        }
    }
    writer.close().await.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hydra_proto::ids::{Epoch, IdRange, ItemId, JobId, RootId};
    use hydra_proto::item::{Dirs, NameList, Parcel};
    use hydra_proto::message::Grant;

    fn grant(bytes: usize) -> Down {
        let name = vec![b'x'; bytes];
        let dirs = Dirs {
            first: ItemId(1),
            root: RootId(0),
            dir: Vec::new(),
            names: NameList::from_iter([name.as_slice()]),
        };
        Down::Grant(Grant {
            epoch: Epoch {
                job: JobId(1),
                number: 1,
            },
            seq: 1,
            items: vec![Parcel::Dirs(dirs)],
            ids: IdRange { start: 1, end: 1 },
            careful: false,
        })
    }

    #[tokio::test]
    async fn messages_that_waited_for_a_client_had_no_limit_in_bytes() {
        let (outbox, mut messages) = Outbox::new();
        let sent = (0..100).take_while(|_| outbox.send(grant(1 << 20))).count();
        assert_eq!(sent, 63);
        assert!(outbox.send(Down::Pause(true)));
        // When some are taken there is room again.
        drop(messages.recv().await);
        assert!(outbox.send(grant(1 << 20)));
    }
}
