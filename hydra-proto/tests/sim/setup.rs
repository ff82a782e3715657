//! How the world of a seed begins.

use super::client::Client;
use super::faults::{Sabotage, plan};
use super::oracle::Oracle;
use super::rng::Rng;
use super::tree::{Shape, Tree};
use super::worker::Habits;
use super::world::{Event, Stats, World};
use hydra_proto::ids::{IdRange, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing, WalkOptions};
use hydra_proto::ledger::{Parent, ParentConfig, Time};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::rc::Rc;
use std::time::Duration;

impl World {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let poison = if rng.chance(20) {
            rng.range(20, 400)
        } else {
            0
        };
        let afters = rng.chance(60);
        let acts = rng.chance(30) || sabotage == Some(Sabotage::LongLease);
        let shape = Shape {
            seed: rng.next(),
            roots: if rng.chance(25) { 2 } else { 1 },
            entries_max: rng.range(20, 900) as u32,
            depth_max: rng.range(1, 7) as u32,
            huge_one_in: if rng.chance(50) { rng.range(2, 20) } else { 0 },
            poison_one_in: poison,
            afters,
        };
        let tree = Rc::new(Tree::new(shape));
        let timing = Timing {
            beat: Duration::from_millis(100),
            dead_after: Duration::from_millis(500),
            grace: Duration::from_millis(1500),
            lease: Duration::from_millis(800),
            commit_interval: Duration::from_millis(rng.range(1, 60)),
            commit_window: rng.range(1, 8) as u32,
        };
        let habits = Habits {
            acts,
            afters,
            commit_interval: timing.commit_interval,
            split_percent: if rng.chance(30) { rng.below(8) } else { 0 },
            part_bytes: if rng.chance(30) {
                rng.range(1, 1000) as usize
            } else {
                1 << 20
            },
        };
        let lease_ids = if rng.chance(30) {
            rng.range(1 << 13, 1 << 16)
        } else {
            1 << 40
        };
        let span = Duration::from_millis(rng.range(100, 4000));
        let step_cost = span * 3 / tree.len;
        let latency = Duration::from_micros(1 << rng.range(5, 15));
        let server = Parent::new(ParentConfig {
            job: JobId(seed),
            spec: spec(&tree, acts, timing),
            ids: IdRange {
                start: 1,
                end: u64::MAX / 2,
            },
            lease_ids,
            resumable: true,
            forward_logs: false,
            release: String::new(),
            secrets: Box::new(|| [9; 16]),
        });
        let mut world = Self {
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            oracle: Oracle::new(Rc::clone(&tree)),
            tree,
            server,
            clients: Vec::new(),
            workers: Vec::new(),
            links: Vec::new(),
            wakes: HashMap::new(),
            frozen: BTreeMap::new(),
            sabotage,
            stats: Stats::default(),
            habits,
            step_cost,
            latency,
            last_fault: Time::ZERO,
            failure: None,
            over: false,
            lost: BTreeSet::new(),
            resumed_on: BTreeMap::new(),
            granted: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            highest: HashMap::new(),
            changed: true,
            check_percent: rng.range(2, 30),
            encode: rng.chance(12),
            trace,
            spins: (Time::ZERO, 0),
            rng,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let ids = self
            .server
            .take_ids(self.tree.roots.len() as u64)
            .expect("ids for the roots");
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
        let count = self.rng.range(1, 4) as usize;
        let picky = self.rng.chance(40);
        for client in 0..count {
            let serves = (0..self.tree.roots.len()).map(|root| !picky || client == 0 || root == 0);
            let workers = self.rng.range(1, 3) as u32;
            let serves = serves.collect();
            let mut process = Client::new(String::new(), workers, serves, 0);
            process.part_bytes = self.habits.part_bytes;
            self.clients.push(process);
            let joins_late = client > 0 && self.rng.chance(25);
            let at = if joins_late {
                self.rng.below(2_000_000)
            } else {
                self.rng.below(20_000)
            };
            self.at(Duration::from_micros(at), Event::Start(client));
        }
        let span = self.step_cost * self.tree.len / 3;
        let plan = plan(&mut self.rng, span);
        for &(at, fault) in &plan {
            self.at(at, Event::Strike(fault));
        }
        self.last_fault = plan.last().map_or(Time::ZERO, |&(at, _)| at);
    }
}

fn spec(tree: &Tree, acts: bool, timing: Timing) -> JobSpec {
    JobSpec {
        plugin: "total".to_owned(),
        options: Vec::new(),
        acts,
        roots: tree.roots.iter().map(|_| RootSpec::default()).collect(),
        walk: WalkOptions::default(),
        timing,
    }
}
