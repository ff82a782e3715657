//! The server in the model: one thread. Each message keeps it busy for a while, later ones wait.

use super::super::figures::{kind_of, memory};
use super::super::worker::sum_of;
use super::{Cluster, Event, START, server};
use hydra_proto::codec;
use hydra_proto::ids::{ConnId, IdRange};
use hydra_proto::ledger::{Action, Record, Time};
use hydra_proto::message::{Down, Up};
use std::time::{Duration, Instant};

/// What a message costs it, apart from its items and bytes.
const MESSAGE: Duration = Duration::from_micros(4);
/// What each item and each byte of it cost it.
const ITEM: Duration = Duration::from_nanos(400);
const BYTE_PS: u64 = 1500;

impl Cluster {
    pub(super) fn server_gets(&mut self, conn: ConnId, message: Up) {
        let bytes = codec::encode(&message).expect("a message that fits");
        let items = match &message {
            Up::Commit(commit) | Up::Part(commit) => {
                let parcels = commit.new.iter().map(|parcel| parcel.ids().len());
                let ranges = commit.done.iter().chain(&commit.give);
                parcels.chain(ranges.map(IdRange::len)).sum()
            }
            _ => 0,
        };
        let kind = kind_of(&message);
        let begun = Instant::now();
        let message = codec::decode(&bytes).expect("a message that was encoded");
        self.server.handle(self.now, conn, message);
        self.figures.server_cpu += begun.elapsed();
        if self.now >= START {
            self.figures.up(kind, bytes.len(), items);
        }
        self.pump_server(self.service(bytes.len(), items));
    }

    pub(super) fn server_wakes(&mut self) {
        if self.server_woken.take().is_some() {
            let begun = Instant::now();
            self.server.tick(self.now);
            self.figures.server_cpu += begun.elapsed();
            self.pump_server(Duration::ZERO);
        }
    }

    /// Takes what the server has to do; it is busy for `service` and for what it sends.
    pub(super) fn pump_server(&mut self, service: Duration) {
        let mut free = self.server_free.max(self.now) + service;
        let mut spent = service;
        loop {
            let begun = Instant::now();
            let Some(action) = self.server.poll_action() else {
                break;
            };
            self.figures.server_cpu += begun.elapsed();
            match action {
                Action::Send { conn, message } => {
                    let begun = Instant::now();
                    let bytes = codec::encode(&message).expect("a message that fits").len();
                    self.figures.server_cpu += begun.elapsed();
                    let items = match &message {
                        Down::Grant(grant) => grant.items.iter().map(|p| p.ids().len()).sum(),
                        _ => 0,
                    };
                    let cost = self.service(bytes, items);
                    (free, spent) = (free + cost, spent + cost);
                    if self.now >= START {
                        self.figures.down(&message, bytes, items);
                    }
                    self.send_to_client(conn, free, message);
                }
                Action::Sees { child, .. } => self.server.serve(child, vec![true]),
                Action::Applied {
                    result: Some(delta),
                    ..
                } => {
                    self.found.dirs += delta.walk.directories;
                    self.found.sum = self.found.sum.wrapping_add(sum_of(&delta));
                }
                Action::Lost { reason, .. } => panic!("a client was lost: {reason}"),
                _ => {}
            }
        }
        self.server_free = free;
        if self.now >= START {
            self.figures.server_busy += spent;
            self.figures.queued = self.figures.queued.max(free - self.now);
        }
        let counts = self.server.counts();
        self.weigh(counts.pool + counts.owned);
        if let Some(at) = self.server.poll_timeout()
            && self.server_woken.is_none_or(|woken| at < woken)
        {
            self.server_woken = Some(at);
            self.at(at, Event::ServerWakes);
        }
    }

    /// How long a message keeps the server busy.
    fn service(&self, bytes: usize, items: u64) -> Duration {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        let bytes = Duration::from_nanos(bytes as u64 * BYTE_PS / 1000);
        (MESSAGE + ITEM.saturating_mul(items) + bytes) * self.setup.slower
    }

    /// Where the server has more items than ever, weighs them: by how much memory a second ledger takes.
    fn weigh(&mut self, items: u64) {
        self.peak_items = self.peak_items.max(items);
        if self.figures.memory.is_some() || self.found.dirs < self.figures.weigh_at {
            return;
        }
        let mut records: Vec<Record> = Vec::new();
        self.server.snapshot(&mut |record| records.push(record));
        let before = memory();
        let mut again = server(&self.setup);
        for record in records {
            again.replay(record).expect("a snapshot that fits");
        }
        self.figures.memory = Some((memory().saturating_sub(before), items));
    }

    fn send_to_client(&mut self, conn: ConnId, from: Time, message: Down) {
        let jitter = self.jitter(self.setup.latency / 10);
        let client = &mut self.clients[conn.0 as usize];
        client.down_clear = client.down_clear.max(from + self.setup.latency + jitter);
        let at = client.down_clear;
        self.at(at, Event::ClientGets(conn.0 as u32, Box::new(message)));
    }
}
