//! How the world of a seed begins.

use super::client::Client;
use super::faults::{Fault, Sabotage, plan};
use super::journal::Journal;
use super::oracle::Oracle;
use super::rng::Rng;
use super::store::Shelf;
use super::tree::{Shape, Tree};
use super::worker::Habits;
use super::world::{Event, Stats, World};
use hydra_proto::ids::{IdRange, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing};
use hydra_proto::ledger::{Parent, ParentConfig, Time};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::rc::Rc;
use std::time::Duration;

/// What a seed decides before anything happens.
struct Setup {
    shape: Shape,
    timing: Timing,
    habits: Habits,
    lease_ids: u64,
    /// Bytes that items may take at the server and at each client.
    memory: u64,
    /// How long the walk takes three workers.
    span: Duration,
    latency: Duration,
    /// How long clients wait before they dial, at most.
    redial: Duration,
    crew: Vec<Member>,
    plan: Vec<(Time, Fault)>,
    /// How long the disk of the journal takes for a batch, at most.
    sync: Duration,
    /// How often, of a hundred, a batch makes the journal shorter.
    compacts: u64,
    /// How often, of a hundred, a host or a worker is slow.
    slow: u64,
    /// How often, of a hundred, the cover is looked at after a change.
    checks: u64,
}

/// A client: its workers, the roots it serves, and when it starts.
struct Member {
    workers: u32,
    serves: Vec<bool>,
    starts: Time,
    slow: u32,
    lag: u32,
}

impl Setup {
    /// Anything can be the case, and anything can happen.
    fn swarm(rng: &mut Rng, sabotage: Option<Sabotage>) -> Self {
        let afters = rng.chance(60);
        let acts = rng.chance(30)
            || matches!(
                sabotage,
                Some(Sabotage::LongLease | Sabotage::GrantBeforeDurable)
            );
        let about_intents = sabotage.is_some_and(Sabotage::is_about_intents);
        let acts = acts || about_intents;
        let shape = Shape {
            seed: rng.next(),
            roots: rng.range(1, 5) as u32 / 4 + 1,
            entries_max: rng.range(20, 900) as u32,
            depth_max: rng.range(1, 7) as u32,
            huge_one_in: rng.often(50, 2, 20),
            poison_one_in: rng.often(20, 20, 400),
            afters,
        };
        let intents = about_intents || (acts && shape.seed.is_multiple_of(2));
        let timing = timing(rng.range(1, 60), rng.range(1, 8) as u32);
        let split_percent = rng.often(30, 1, 8);
        let part_bytes = match rng.often(30, 1, 1000) {
            0 => 1 << 20,
            bytes => bytes as usize,
        };
        let lease_ids = match rng.often(30, 1 << 13, 1 << 16) {
            0 => 1 << 40,
            ids => ids,
        };
        // Nearly nothing, or more than there is.
        let memory = match (shape.seed >> 20) % 4 {
            0 => 1 << ((shape.seed >> 24) % 16),
            _ => u64::MAX,
        };
        let span = Duration::from_millis(rng.range(100, 4000));
        let picky = rng.chance(40);
        let slow = rng.often(40, 5, 60);
        let member = |client: u64, rng: &mut Rng| Member {
            workers: rng.range(1, 3) as u32,
            serves: (0..shape.roots)
                .map(|root| !picky || client == 0 || root == 0)
                .collect(),
            starts: match client > 0 && rng.chance(25) {
                true => Duration::from_micros(rng.below(2_000_000)),
                false => Duration::from_micros(rng.below(20_000)),
            },
            slow: slowness(rng, slow),
            lag: rng.often(40, 1, LAG_MAX) as u32,
        };
        Self {
            shape,
            timing,
            habits: Habits {
                acts,
                intents,
                hasty: sabotage == Some(Sabotage::ActBeforeRecord),
                afters,
                commit_interval: timing.commit_interval,
                split_percent,
                part_bytes,
            },
            lease_ids,
            memory,
            span,
            latency: Duration::from_micros(1 << rng.range(5, 15)),
            redial: Duration::from_millis(200),
            crew: (0..rng.range(1, 4))
                .map(|client| member(client, rng))
                .collect(),
            plan: plan(rng, span),
            sync: Duration::from_micros(rng.often(60, 50, 40_000)),
            compacts: rng.often(50, 1, 20),
            slow,
            checks: match rng.below(8) {
                0 => 100,
                _ => rng.range(2, 30),
            },
        }
    }

    /// A large tree, a good network, and nothing goes wrong; or every client loses its link once.
    fn calm(rng: &mut Rng, cut: bool) -> Self {
        let afters = rng.chance(50);
        let timing = timing(20, 16);
        let span = Duration::from_millis(1000);
        let member = |_| Member {
            workers: 2,
            serves: vec![true],
            starts: Time::ZERO,
            slow: 1,
            lag: 0,
        };
        let cuts = |n: u32| (span / 20 * (2 + n), Fault::Cut);
        Self {
            shape: Shape {
                seed: rng.next(),
                roots: 1,
                entries_max: 4000,
                depth_max: 8,
                huge_one_in: rng.often(50, 5, 20),
                poison_one_in: 0,
                afters,
            },
            timing,
            habits: Habits {
                acts: false,
                intents: false,
                hasty: false,
                afters,
                commit_interval: timing.commit_interval,
                split_percent: 0,
                part_bytes: 1 << 20,
            },
            lease_ids: 1 << 40,
            memory: u64::MAX,
            span,
            latency: Duration::from_micros(200),
            redial: Duration::from_millis(5),
            crew: (0..3).map(member).collect(),
            plan: if cut {
                (0..4).map(cuts).collect()
            } else {
                Vec::new()
            },
            sync: Duration::ZERO,
            compacts: 0,
            slow: 0,
            checks: rng.range(2, 30),
        }
    }
}

/// How many times as long as others a host or a worker takes that is slow.
const SLOWEST: u64 = 16;
/// By so many thousandths a client's clock is slow at most: its leases last longer by that.
const LAG_MAX: u64 = 10;

/// How many times as long as usual somebody takes.
pub(crate) fn slowness(rng: &mut Rng, percent: u64) -> u32 {
    match percent {
        0 => 1,
        _ => rng.often(percent, 2, SLOWEST).max(1) as u32,
    }
}

fn timing(commit_interval: u64, commit_window: u32) -> Timing {
    Timing {
        beat: Duration::from_millis(100),
        dead_after: Duration::from_millis(500),
        grace: Duration::from_millis(1500),
        lease: Duration::from_millis(800),
        commit_interval: Duration::from_millis(commit_interval),
        commit_window,
        ..Timing::default()
    }
}

impl World {
    /// A seed under faults.
    pub(crate) fn swarm(seed: u64, sabotage: Option<Sabotage>, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::swarm(&mut rng, sabotage);
        Self::new(rng, setup, sabotage, trace)
    }

    /// A seed under faults, in which the server dies too.
    pub(crate) fn with_deaths(seed: u64, sabotage: Option<Sabotage>, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::swarm(&mut rng, sabotage);
        let span = setup.span.as_micros() as u64;
        let mut world = Self::new(rng, setup, sabotage, trace);
        let mut rng = Rng::new(!seed);
        for _ in 0..rng.range(1, 4) {
            let at = Duration::from_micros(rng.below(span));
            world.last_fault = world.last_fault.max(at);
            world.at(at, Event::KillServer);
        }
        world
    }

    /// A seed that shows how well work is spread.
    pub(crate) fn calm(seed: u64, cut: bool, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::calm(&mut rng, cut);
        Self::new(rng, setup, None, trace)
    }

    fn new(mut rng: Rng, setup: Setup, sabotage: Option<Sabotage>, trace: bool) -> Self {
        let tree = Rc::new(Tree::new(setup.shape));
        let mut spec = spec(&tree, setup.habits.acts, setup.timing);
        spec.walk.intents = setup.habits.intents;
        let mut server = server(&spec, setup.lease_ids);
        server.keep_records(true);
        let mut world = Self {
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            oracle: Oracle::new(Rc::clone(&tree)),
            safe: Oracle::new(Rc::clone(&tree)),
            journal: Journal::default(),
            down: false,
            mirror: self::server(&spec, setup.lease_ids),
            durable: self::server(&spec, setup.lease_ids),
            server,
            spec,
            lease_ids: setup.lease_ids,
            memory: setup.memory,
            store: Shelf::default(),
            incarnation: 0,
            clients: Vec::new(),
            workers: Vec::new(),
            links: Vec::new(),
            wakes: HashMap::new(),
            frozen: BTreeMap::new(),
            sabotage,
            stats: Stats::default(),
            habits: setup.habits,
            step_cost: setup.span * 3 / tree.len,
            slow: setup.slow,
            slowest: if setup.slow > 0 { SLOWEST as u32 } else { 1 },
            stopped: None,
            held_since: None,
            tree,
            latency: setup.latency,
            redial: setup.redial,
            last_fault: setup.plan.last().map_or(Time::ZERO, |&(at, _)| at),
            failure: None,
            over: false,
            lost: BTreeSet::new(),
            resumed_on: BTreeMap::new(),
            granted: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            highest: HashMap::new(),
            changed: true,
            check_percent: setup.checks,
            encode: rng.chance(12),
            trace,
            spins: (Time::ZERO, 0),
            rng,
        };
        world.limit_memory();
        // The first snapshot holds the roots.
        world.add_roots();
        world.pump_server();
        world.journal.sync = setup.sync;
        world.journal.compacts = setup.compacts;
        for member in setup.crew {
            world.enlist(member);
        }
        for (at, fault) in setup.plan {
            world.at(at, Event::Strike(fault));
        }
        world
    }

    /// Gives the server of this incarnation a store of its own, and little memory.
    pub(crate) fn limit_memory(&mut self) {
        if self.memory < u64::MAX {
            let fails_each =
                [0, 2, 3, 7, 50][(self.memory.ilog2() + self.incarnation) as usize % 5];
            self.store = Shelf::new(fails_each);
            if self.sabotage == Some(Sabotage::LoseAway) {
                self.store.lose_all();
            }
            self.server.limit_memory(self.memory);
            self.server.keep_in(Box::new(self.store.clone()));
        }
    }

    fn add_roots(&mut self) {
        let count = self.tree.roots.len() as u64;
        let ids = self.server.take_ids(count).expect("ids for the roots");
        let roots = (0..).zip(ids.iter()).map(|(root, first)| {
            let names = NameList::from_iter([&b""[..]]);
            Parcel::Dirs(Dirs {
                first,
                root: RootId(root),
                dir: Vec::new(),
                names,
            })
        });
        self.server.add(roots.collect(), true);
    }

    fn enlist(&mut self, member: Member) {
        let number = self.clients.len();
        let mut client = Client::new(String::new(), member.workers, member.serves, 0);
        client.part_bytes = self.habits.part_bytes;
        client.memory = self.memory;
        (client.slow, client.lag) = (member.slow, member.lag);
        self.clients.push(client);
        self.at(member.starts, Event::Start(number));
    }
}

/// A server's ledger.
pub(crate) fn server(spec: &JobSpec, lease_ids: u64) -> Parent {
    Parent::new(ParentConfig {
        job: JobId(1),
        spec: spec.clone(),
        ids: IdRange {
            start: 1,
            end: u64::MAX / 2,
        },
        lease_ids,
        resumable: true,
        forward_logs: false,
        release: String::new(),
        secrets: Box::new(|| [9; 16]),
    })
}

fn spec(tree: &Tree, acts: bool, timing: Timing) -> JobSpec {
    JobSpec {
        plugin: "total".to_owned(),
        acts,
        roots: tree.roots.iter().map(|_| RootSpec::default()).collect(),
        timing,
        ..JobSpec::default()
    }
}
