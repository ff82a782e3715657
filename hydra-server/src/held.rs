//! What the coordinator has to say, and may not before the disk of the journal has something. Decides nothing: which of it
//! has to wait, and when it may go, is the journal's matter (`durable`).

use hydra_proto::codec;
use hydra_proto::ids::ConnId;
use hydra_proto::item::Parcel;
use hydra_proto::message::Down;
use std::collections::VecDeque;

/// When so many bytes wait, nothing more is read from clients.
const BYTES_MAX: usize = 64 << 20;
/// The same for each session, where that is more: a grant, and another one on its heels.
const BYTES_EACH: usize = 2 << 20;
/// Roughly what a message, or the end of a connection, takes beside what is in it.
const MESSAGE_BYTES: usize = 256;

/// What waits until something is durable.
#[derive(Debug)]
pub(crate) struct HeldBack {
    pub(crate) ticket: u64,
    pub(crate) conn: ConnId,
    /// A message, or the end of the connection.
    pub(crate) message: Option<Down>,
    bytes: usize,
}

/// All that waits, in its order.
#[derive(Debug, Default)]
pub(crate) struct Held {
    queue: VecDeque<HeldBack>,
    bytes: usize,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether more waits than is to be said to so many clients: then nothing more may come.
    pub(crate) fn is_crowded(&self, sessions: usize) -> bool {
        self.bytes > BYTES_MAX.max(BYTES_EACH * sessions)
    }

    pub(crate) fn push(&mut self, ticket: u64, conn: ConnId, message: Option<Down>) {
        let bytes = message.as_ref().map_or(MESSAGE_BYTES, size);
        self.bytes += bytes;
        self.queue.push_back(HeldBack {
            ticket,
            conn,
            message,
            bytes,
        });
    }

    /// The first, if what it waits for is durable.
    pub(crate) fn pop(&mut self, is_durable: impl Fn(u64) -> bool) -> Option<HeldBack> {
        self.queue.front().filter(|held| is_durable(held.ticket))?;
        let held = self.queue.pop_front()?;
        self.bytes -= held.bytes;
        Some(held)
    }

    /// Forgets what waits for a connection, as far as `which` says so.
    pub(crate) fn forget(&mut self, conn: ConnId, which: impl Fn(&Option<Down>) -> bool) {
        let bytes = &mut self.bytes;
        self.queue.retain(|held| {
            let goes = held.conn == conn && which(&held.message);
            *bytes -= if goes { held.bytes } else { 0 };
            !goes
        });
    }

    /// Whether a client has still to be told why its connection ends.
    pub(crate) fn has_last_word(&self, conn: ConnId) -> bool {
        let refused = |held: &HeldBack| matches!(held.message, Some(Down::Refused(_)));
        let mut held = self.queue.iter();
        held.any(|held| held.conn == conn && refused(held))
    }
}

/// Roughly the bytes of a message in memory.
pub(crate) fn size(message: &Down) -> usize {
    let inside = match message {
        Down::Grant(grant) => grant.items.iter().map(Parcel::size).sum(),
        Down::Welcome(_) => codec::encode(message).map_or(0, |bytes| bytes.len()),
        _ => 0,
    };
    MESSAGE_BYTES + inside
}
