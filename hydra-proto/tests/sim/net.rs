//! Connections in virtual time: ordered, delayed, cut in one direction or both, closed by either end.

use super::rng::Rng;
use hydra_proto::ledger::Time;
use std::time::Duration;

/// Who a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Server,
    Client(usize),
    Worker(usize),
}

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe {
    /// Nothing that is sent arrives any more.
    pub cut: bool,
    /// Counts cuts: what was on its way before one is lost.
    pub generation: u32,
    /// When the last message arrives: later ones come after it.
    pub(crate) clear_at: Time,
    /// Messages on their way.
    pub flying: u32,
    /// Added to every delay.
    pub extra: Duration,
}

impl Pipe {
    /// When something that is sent now arrives.
    pub(crate) fn arrival(&mut self, now: Time, latency: Duration, rng: &mut Rng) -> Time {
        let jitter = rng.below(latency.as_micros() as u64 + 1);
        let at = now + latency + Duration::from_micros(jitter) + self.extra;
        self.clear_at = self.clear_at.max(at);
        self.clear_at
    }
}

/// A connection between a child and its parent.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub child: Node,
    /// Which life of the child's process it belongs to.
    pub life: u64,
    pub parent: Node,
    /// Which life of the parent's process it belongs to.
    pub parent_life: u64,
    pub up: Pipe,
    pub down: Pipe,
    pub child_open: bool,
    pub parent_open: bool,
    /// What the parent's end had received before it was closed is still handed on.
    pub late: bool,
    pub latency: Duration,
    /// A session was opened on it.
    pub joined: bool,
}

impl Link {
    /// Nothing gets through any more, and what was on its way is lost.
    pub(crate) fn cut(&mut self, up: bool, down: bool) {
        for (pipe, cut) in [(&mut self.up, up), (&mut self.down, down)] {
            if cut {
                pipe.cut = true;
                pipe.generation += 1;
                pipe.flying = 0;
            }
        }
    }
}
