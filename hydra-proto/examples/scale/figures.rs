//! What is measured, and the table that shows it.

use hydra_proto::message::{Down, Up};
use std::collections::BTreeMap;
use std::time::Duration;

/// What came of one run. All but the memory and the processor time is virtual, and the same each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub dirs: u64,
    pub depth: u32,
    /// From the first grant to the last commit.
    pub took: Duration,
    /// The longer one of work / workers and the critical path, in seconds.
    pub ideal: f64,
    /// How much longer work / workers is than the critical path.
    pub slack: f64,
    /// When nine of ten workers were busy for the first and for the last time.
    pub spread: Option<Duration>,
    pub spread_until: Duration,
    pub messages: u64,
    pub bytes: u64,
    pub items: u64,
    pub grants: u64,
    /// By what they are and why they came: how many messages, and how many items in them.
    pub kinds: BTreeMap<&'static str, (u64, u64)>,
    /// Processor time of the real ledger and codec of the server.
    pub server_cpu: Duration,
    /// How long the model of the server was busy, and for how long a message waited at most.
    pub server_busy: Duration,
    pub queued: Duration,
    /// Bytes that a server's ledger takes, and how many items were in it.
    pub memory: Option<(u64, u64)>,
    /// The memory is looked at when so many directories are done.
    pub weigh_at: u64,
    pub peak_items: u64,
    pub events: u64,
    pub wall: Duration,
}

/// What a client says to the server, and why.
pub(crate) fn kind_of(message: &Up) -> &'static str {
    match message {
        Up::Commit(commit) if commit.answers.is_some() && commit.done.is_empty() => "commit: gives",
        Up::Commit(commit) if commit.answers.is_some() => "commit: answers",
        Up::Commit(commit) if commit.load.held == 0 => "commit: dry",
        Up::Commit(_) => "commit: due",
        Up::Beat(beat) if beat.load.hungry && beat.load.busy == 0 => "beat: idle",
        Up::Beat(beat) if beat.load.hungry => "beat: hungry",
        Up::Beat(_) => "beat: has enough",
        _ => "other",
    }
}

impl Figures {
    pub(crate) fn up(&mut self, kind: &'static str, bytes: usize, items: u64) {
        self.count(kind, bytes, items);
    }

    pub(crate) fn down(&mut self, message: &Down, bytes: usize, items: u64) {
        let kind = match message {
            Down::Grant(grant) if grant.items.is_empty() => "grant of ids",
            Down::Grant(_) => "grant",
            Down::Shed(_) => "shed",
            Down::Ack { .. } => "acknowledgement",
            Down::Beat(_) => "answer to a beat",
            _ => "other",
        };
        self.count(kind, bytes, items);
        self.grants += u64::from(matches!(message, Down::Grant(_)));
    }

    fn count(&mut self, kind: &'static str, bytes: usize, items: u64) {
        self.messages += 1;
        self.bytes += bytes as u64;
        self.items += items;
        let (messages, its_items) = self.kinds.entry(kind).or_default();
        *messages += 1;
        *its_items += items;
    }

    pub(crate) fn efficiency(&self) -> f64 {
        100.0 * self.ideal / self.took.as_secs_f64()
    }

    pub(crate) fn row(&self) -> String {
        let took = self.took.as_secs_f64();
        let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
        let (memory, at) = self.memory.unwrap_or_default();
        let each = memory as f64 / at.max(1) as f64;
        let core = 100.0 * self.server_cpu.as_secs_f64() / took;
        [
            format!("{:.1} M", self.dirs as f64 / 1e6),
            format!("{:.1}", self.slack),
            format!("{took:.2} s"),
            format!("**{:.1} %**", self.efficiency()),
            self.spread.map_or("never".to_owned(), ms),
            ms(self.took.saturating_sub(self.spread_until)),
            format!("{:.0}", self.messages as f64 / took),
            format!("{:.1} MB", self.bytes as f64 / took / 1e6),
            format!("{}", self.grants),
            format!("{:.2} s ({core:.0} %)", self.server_cpu.as_secs_f64()),
            format!("{:.0} %", 100.0 * self.server_busy.as_secs_f64() / took),
            ms(self.queued),
            format!("{:.0} k", self.peak_items as f64 / 1e3),
            format!("{:.0} MB", each * self.peak_items as f64 / 1e6),
            format!("{:.0} s", self.wall.as_secs_f64()),
        ]
        .join(" | ")
    }

    pub(crate) const COLUMNS: &str = "dirs | W/P ÷ path | time | efficiency | spread after | tail | messages/s | \
         bytes/s | grants | server's CPU (of a core) | server model busy | longest queue | items | memory | wall";
}

/// Bytes of memory that this process has, as the kernel counts them.
pub(crate) fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
