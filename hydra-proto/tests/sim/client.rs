//! A client's process: the real relay, and around it a shell that does what the real one does.

use super::total::Total;
use hydra_proto::ids::ConnId;
use hydra_proto::ledger::{Relay, RelayConfig, Time, UplinkConfig};
use hydra_proto::message::Delta;
use hydra_proto::reduce::{Merger, Reduce, Summary};
use hydra_proto::walk::WalkSummary;

pub(crate) struct Client {
    /// Which roots it serves.
    pub serves: Vec<bool>,
    pub worker_count: u32,
    pub alive: bool,
    pub stopped: bool,
    /// Counts its processes.
    pub life: u64,
    /// Counts the sessions of this process, so that what was meant for one does not reach the next.
    pub session: u64,
    pub relay: Relay,
    pub server: Option<ConnId>,
    pub connecting: bool,
    pub partitioned_until: Time,
    /// Its workers, by their number in the world.
    pub workers: Vec<usize>,
    pub(crate) part_bytes: usize,
    pub(crate) memory: u64,
    /// How many times as long as others its workers take.
    pub(crate) slow: u32,
    /// By how many thousandths its clock is slow.
    pub(crate) lag: u32,
    merger: Merger<Total>,
    walk: WalkSummary,
    has_result: bool,
}

fn secrets() -> [u8; 16] {
    [7; 16]
}

impl Client {
    pub(crate) fn new(name: String, worker_count: u32, serves: Vec<bool>, nonce: u64) -> Self {
        let relay = relay(name, worker_count, nonce);
        Self {
            serves,
            worker_count,
            alive: false,
            stopped: false,
            life: 0,
            session: 0,
            relay,
            server: None,
            connecting: false,
            partitioned_until: Time::ZERO,
            workers: Vec::new(),
            part_bytes: 1 << 20,
            memory: u64::MAX,
            slow: 1,
            lag: 0,
            merger: Merger::default(),
            walk: WalkSummary::default(),
            has_result: false,
        }
    }

    /// The process starts, with nothing in its memory.
    pub(crate) fn start(&mut self, name: String, nonce: u64) {
        self.relay = relay(name, self.worker_count, nonce);
        self.relay.limit_parts(self.part_bytes);
        self.relay.limit_memory(self.memory);
        self.alive = true;
        self.stopped = false;
        self.life += 1;
        self.session = 0;
        self.server = None;
        self.connecting = false;
        self.workers.clear();
        self.forget();
    }

    /// Forgets what workers have found.
    pub(crate) fn forget(&mut self) {
        self.merger = Merger::default();
        self.walk = WalkSummary::default();
        self.has_result = false;
    }

    pub(crate) fn merge(&mut self, delta: Delta) {
        self.has_result = true;
        self.walk.merge(delta.walk);
        self.merger
            .merge(&delta.plugin)
            .expect("a summary that a worker encoded");
    }

    /// What was found since the last commit.
    pub(crate) fn take(&mut self) -> Option<Delta> {
        if !std::mem::take(&mut self.has_result) {
            return None;
        }
        Some(Delta {
            walk: std::mem::take(&mut self.walk),
            plugin: self.merger.take().expect("a summary that fits"),
            rows: Vec::new(),
            lost_workers: 0,
            segments: Vec::new(),
        })
    }
}

fn relay(name: String, workers: u32, nonce: u64) -> Relay {
    Relay::new(RelayConfig {
        uplink: UplinkConfig {
            name,
            workers,
            nonce,
            release: String::new(),
            resumable: true,
            uncut: false,
        },
        secrets,
    })
}
