//! What will happen in a cluster, in the order of virtual time; of what happens at once, in the order of planning.

use hydra_proto::ids::ConnId;
use hydra_proto::ledger::Time;
use hydra_proto::message::{Down, Up};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(crate) enum Event {
    ServerGets(ConnId, Box<Up>),
    ClientGets(u32, Box<Down>),
    FromWorker(ConnId, Box<Up>),
    WorkerGets(ConnId, Box<Down>),
    ServerWakes,
    ClientWakes(u32),
    WorkerSteps(u32),
    WorkerTicks(u32),
    Start,
}

#[derive(Default)]
pub(crate) struct Agenda {
    queue: BinaryHeap<Reverse<Entry>>,
    planned: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: Time, event: Event) {
        self.planned += 1;
        let number = self.planned;
        self.queue.push(Reverse(Entry { at, number, event }));
    }

    pub(crate) fn next(&mut self) -> Option<(Time, Event)> {
        let Reverse(Entry { at, event, .. }) = self.queue.pop()?;
        Some((at, event))
    }
}

struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
