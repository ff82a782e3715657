//! What a seed decides: who takes part in a run, and what befalls them.

use crate::link::Cut;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::time::Duration;

/// Where a run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Workers on the server's host.
    Inside,
    /// Clients that are dialled, each behind a proxy.
    Dialled,
    /// Clients that dial, each through a proxy.
    Dialling,
    /// Clients in network namespaces. Needs root, as all that follow.
    Namespaces,
    /// Clients behind proxies, and a state directory on a disk that can be full.
    Disk,
    /// A FUSE tree where single paths fail or dawdle.
    Errors,
    /// A tree, and a FUSE tree with one path that gives no answer.
    Hang,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Inside,
        Self::Dialled,
        Self::Dialling,
        Self::Namespaces,
        Self::Disk,
        Self::Errors,
        Self::Hang,
    ];

    /// Seeds that follow one another have all kinds in turn.
    fn of(seed: u64) -> Self {
        Self::ALL[(seed % Self::ALL.len() as u64) as usize]
    }

    pub(crate) fn needs_root(self) -> bool {
        !matches!(self, Self::Inside | Self::Dialled | Self::Dialling)
    }

    pub(crate) fn has_fuse(self) -> bool {
        matches!(self, Self::Errors | Self::Hang)
    }
}

/// Who is struck.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Worker,
    Client,
    Server,
}

/// What befalls whoever is at work, its client, or the server, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Killed; a client, or a server that can go on, is started again.
    Kill(Who, Duration),
    /// Stopped and continued.
    Stop(Who, Duration),
    /// The link between client and server.
    Cut(Cut, Duration),
    /// The disk of the journal has no room.
    Fill(Duration),
    /// The same, and the server is killed meanwhile.
    Strand(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Kill(Who::Worker, _) => "worker killed",
            Self::Kill(Who::Client, _) => "client killed",
            Self::Kill(Who::Server, _) => "server killed",
            Self::Stop(Who::Worker, _) => "worker stopped",
            Self::Stop(Who::Client, _) => "client stopped",
            Self::Stop(Who::Server, _) => "server stopped",
            Self::Cut(Cut::Closed, _) => "link closed",
            Self::Cut(Cut::Silent, _) => "link silent",
            Self::Cut(Cut::Up, _) => "link silent upwards",
            Self::Cut(Cut::Down, _) => "link silent downwards",
            Self::Fill(_) => "disk filled",
            Self::Strand(_) => "disk filled, and server killed",
        };
        f.write_str(words)
    }
}

/// All that a seed decides.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    /// Clients beside the server; 0: inside it.
    pub(crate) clients: usize,
    /// Whether it is the clients that dial.
    pub(crate) dialling: bool,
    /// Whether there is a journal, so that the server may be killed.
    pub(crate) journal: bool,
    /// Whether files are deleted, in a tree of their own, and not only counted.
    pub(crate) purge: bool,
    /// Whether rows go into a directory, and whether clients may write there.
    pub(crate) rows_dir: Option<bool>,
    /// Whether there is memory for nearly nothing of what is still to be walked.
    pub(crate) tight: bool,
    /// After which part of the work, in thousandths, what happens; in order.
    pub(crate) faults: Vec<(u64, Fault)>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        // Drawn apart, so that what befalls a seed stays the same.
        let mut turns = SmallRng::seed_from_u64(seed << 32);
        let kind = Kind::of(seed);
        let clients = match kind {
            Kind::Inside => 0,
            Kind::Errors | Kind::Hang => [0, 2][rng.random_range(0..2)],
            Kind::Dialled | Kind::Dialling | Kind::Namespaces | Kind::Disk => {
                rng.random_range(2..=3)
            }
        };
        let dialling = match kind {
            Kind::Dialled => false,
            Kind::Dialling => true,
            _ => rng.random_bool(0.5),
        };
        let mut plan = Self {
            seed,
            kind,
            clients,
            dialling,
            journal: kind == Kind::Disk || rng.random_bool(0.7),
            // What fails or hangs does so in a tree that is only read.
            purge: !kind.has_fuse() && turns.random_bool(0.4),
            rows_dir: turns.random_bool(0.3).then(|| turns.random_bool(0.7)),
            // Without a mount to blame, more workers would hang than a client may lose before the path is found.
            tight: kind != Kind::Hang && turns.random_bool(0.3),
            faults: Vec::new(),
        };
        for _ in 0..rng.random_range(1..=6) {
            let at = rng.random_range(10..850);
            let fault = plan.fault(&mut rng);
            plan.faults.push((at, fault));
        }
        // Nobody is at work when the disk is full, so no other fault comes then.
        if kind == Kind::Disk && rng.random_bool(0.5) {
            let at = rng.random_range(10..850);
            plan.faults.push((at, Fault::Strand(duration(&mut rng))));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// What is special about this job, in words.
    pub(crate) fn task(&self) -> String {
        let words = [
            (self.purge, ", purge"),
            (self.rows_dir == Some(true), ", rows in a directory"),
            (self.rows_dir == Some(false), ", rows sent to a directory"),
            (self.tight, ", little memory"),
        ];
        words
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, word)| *word)
            .collect()
    }

    /// One that this run can bear.
    fn fault(&self, rng: &mut SmallRng) -> Fault {
        loop {
            let time = duration(rng);
            let fault = match rng.random_range(0..8) {
                0 => Fault::Kill(Who::Worker, time),
                1 => Fault::Stop(Who::Worker, time),
                2 => Fault::Kill(Who::Client, time),
                3 => Fault::Stop(Who::Client, time),
                4 => Fault::Kill(Who::Server, time),
                5 => Fault::Stop(Who::Server, time),
                6 => {
                    let cuts = [Cut::Closed, Cut::Silent, Cut::Up, Cut::Down];
                    Fault::Cut(cuts[rng.random_range(0..4)], time)
                }
                _ => Fault::Fill(time),
            };
            let possible = match fault {
                Fault::Kill(Who::Worker, _) | Fault::Stop(Who::Worker | Who::Server, _) => true,
                Fault::Kill(Who::Client, _) | Fault::Stop(Who::Client, _) | Fault::Cut(..) => {
                    self.clients > 0
                }
                Fault::Kill(Who::Server, _) => self.journal,
                Fault::Fill(_) | Fault::Strand(_) => self.kind == Kind::Disk,
            };
            if possible {
                return fault;
            }
        }
    }
}

/// From less than a beat to more than a client is waited for.
fn duration(rng: &mut SmallRng) -> Duration {
    let exponent = rng.random_range(0.0..1.0);
    Duration::from_secs_f64(0.01 * 500_f64.powf(exponent))
}
