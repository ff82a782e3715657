//! The world: nodes, connections, and the queue of events in the order of time.

use super::client::Client;
use super::faults::{Fault, Sabotage};
use super::journal::Journal;
use super::net::{Link, Node};
use super::oracle::Oracle;
use super::rng::Rng;
use super::store::Shelf;
use super::tree::Tree;
use super::worker::{Habits, Worker};
use hydra_proto::ids::{ChildId, ConnId, Epoch, ItemId};
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Parent, Pass, Time};
use hydra_proto::message::{Down, Up, Wall};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::rc::Rc;
use std::time::Duration;

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToParent(ConnId, u32, Box<Up>),
    ToChild(ConnId, u32, Box<Down>),
    ParentEnd(ConnId),
    ChildEnd(ConnId),
    Wake(Node, u64),
    Step(usize),
    Start(usize),
    Connect {
        client: usize,
        life: u64,
    },
    Spawn {
        client: usize,
        life: u64,
        session: u64,
    },
    Ready {
        client: usize,
        life: u64,
        session: u64,
    },
    WorkerDied {
        client: usize,
        life: u64,
        conn: ConnId,
        in_hand: Option<ItemId>,
    },
    Strike(Fault),
    Continue(Node, u64),
    Unpause,
    /// A mount at a client answers again, or as far as `pass` says.
    Wall {
        client: usize,
        life: u64,
        session: u64,
        wall: Box<Wall>,
        pass: Pass,
    },
    KillServer,
    ReviveServer,
    /// The disk has answered to a server of this incarnation.
    Synced(u32),
}

/// How much happened in a seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub events: u64,
    pub faults: u64,
    pub hits: u64,
    pub entries: u64,
    pub finished: Time,
    pub lost_clients: u64,
    pub resumed: u64,
    pub sheds: u64,
    /// Sheds at both levels.
    pub asked: u64,
    pub aside: u64,
    /// Records that were lost because they were not durable.
    pub torn: u64,
    /// How often the journal of a living server was made shorter.
    pub compacted: u64,
    /// Pieces of the pool that were put away, and how often that or bringing back has failed.
    pub put_away: u64,
    pub kept: u64,
    /// Time that workers have spent at work.
    pub busy: Time,
}

pub(crate) struct World {
    pub rng: Rng,
    pub now: Time,
    pub(crate) queue: BinaryHeap<Reverse<(Time, u64)>>,
    pub(crate) events: HashMap<u64, Event>,
    pub(crate) next_event: u64,
    pub tree: Rc<Tree>,
    pub oracle: Oracle,
    pub server: Parent,
    /// What the server's records make of another one.
    pub mirror: Parent,
    /// What the durable ones make of another one.
    pub durable: Parent,
    /// What those records say was found.
    pub safe: Oracle,
    pub journal: Journal,
    /// The server is dead.
    pub down: bool,
    pub spec: JobSpec,
    pub lease_ids: u64,
    /// Bytes that items may take at the server and at each client.
    pub memory: u64,
    /// Where the server puts what is more.
    pub store: Shelf,
    pub incarnation: u32,
    pub clients: Vec<Client>,
    pub workers: Vec<Worker>,
    pub links: Vec<Link>,
    pub wakes: HashMap<Node, Time>,
    pub(crate) frozen: BTreeMap<usize, (Node, Vec<Event>)>,
    pub sabotage: Option<Sabotage>,
    pub stats: Stats,
    pub habits: Habits,
    pub step_cost: Duration,
    /// How often, of a hundred, a worker is slow, and how many times as long it takes at most.
    pub slow: u64,
    pub slowest: u32,
    /// Since when the server is stopped.
    pub stopped: Option<Time>,
    /// Since when it was stopped, until it looks at its timers again.
    pub held_since: Option<Time>,
    pub latency: Duration,
    /// How long clients wait before they dial, at most.
    pub redial: Duration,
    pub last_fault: Time,
    pub failure: Option<String>,
    pub over: bool,
    pub lost: BTreeSet<ChildId>,
    pub resumed_on: BTreeMap<ChildId, ConnId>,
    /// For the deliberate faults: what was granted to whom, what is forgotten, which commits have come.
    pub granted: BTreeMap<ChildId, Vec<ItemId>>,
    pub forgotten: BTreeSet<ItemId>,
    pub highest: HashMap<Epoch, u64>,
    /// The server's ledger has changed since the cover was checked.
    pub changed: bool,
    pub(crate) check_percent: u64,
    pub(crate) encode: bool,
    pub(crate) trace: bool,
    pub(crate) spins: (Time, u32),
}

impl World {
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.next_event += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.next_event)));
        self.events.insert(self.next_event, event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        self.failure.get_or_insert(what.into());
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12?} {}", self.now, what());
        }
    }

    /// Goes on until the job is over and everybody has let go of it.
    pub(crate) fn run(mut self) -> Result<Stats, String> {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            let Some(event) = self.events.remove(&number) else {
                continue;
            };
            self.now = at;
            self.stats.events += 1;
            self.dispatch(event);
            self.check();
            if let Some(failure) = self.failure.take() {
                return Err(format!(
                    "at {:?}: {failure} ({})",
                    self.now,
                    self.oracle.progress()
                ));
            }
            if self.over
                && self
                    .clients
                    .iter()
                    .all(|client| client.relay.workers().is_none())
            {
                self.stats.entries = self.tree.entries;
                return Ok(self.stats);
            }
        }
        Err("nothing happens any more".to_owned())
    }

    fn check(&mut self) {
        let is_known = !self.down && self.journal.is_settled();
        if self.server.is_done() && is_known && !self.over {
            self.finish();
        }
        let work = self.step_cost * self.slowest * (self.tree.len + 50) * 4;
        let bound = self.last_fault + work + Duration::from_secs(60);
        if self.now > bound {
            let stuck = self.describe();
            self.fail(format!("stuck: {stuck}"));
        }
        if !self.changed {
            return;
        }
        self.changed = false;
        if !self.server.counts().balanced() {
            self.fail("the server's counts are out of balance");
        }
        if self.rng.chance(self.check_percent) || self.trace {
            self.compare();
            let (oracle, server) = (&self.oracle, &self.server);
            let outcome = self.store.at_peace(|| oracle.cover(server.items()));
            if let Err(what) = outcome {
                self.fail(what);
            }
        }
    }

    fn finish(&mut self) {
        self.over = true;
        self.stats.finished = self.now;
        self.stats.aside = self.server.counts().aside;
        self.count_store();
        self.say(|| "the job is done".to_owned());
        let aside: Vec<_> = self.store.at_peace(|| self.server.aside().collect());
        let items = aside.iter().map(|aside| &aside.item);
        if let Err(what) = self.oracle.finished(items) {
            let asides = format!("{aside:?}");
            self.fail(format!("{what}; {asides}"));
        }
        // Balancing costs messages: work that goes to and fro would cost them without end.
        if self.stats.asked > 1000 + 10 * self.tree.entries {
            self.fail(format!(
                "children were asked {} times to give",
                self.stats.asked
            ));
        }
        self.last_fault = self.last_fault.max(self.now);
        self.server.stop();
        self.pump_server();
    }

    /// Adds up what the store of this server has done.
    pub(crate) fn count_store(&mut self) {
        let counts = self.store.counts();
        self.stats.put_away += counts.puts;
        self.stats.kept += counts.failures;
    }

    fn describe(&self) -> String {
        let children: Vec<_> = self.server.children().collect();
        let loads: Vec<_> = self
            .clients
            .iter()
            .map(|client| client.relay.load())
            .collect();
        let items: Vec<_> = self.server.items().take(20).collect();
        format!(
            "{:?} {children:?} {loads:?} {items:?}",
            self.server.counts()
        )
    }

    /// The node that an event is for, if that can be stopped.
    fn target(&self, event: &Event) -> Option<Node> {
        match event {
            Event::ToParent(conn, ..) | Event::ParentEnd(conn) => Some(self.link(*conn).parent),
            Event::ToChild(conn, ..) | Event::ChildEnd(conn) => Some(self.link(*conn).child),
            Event::Wake(node, _) => Some(*node),
            Event::Step(worker) => Some(Node::Worker(*worker)),
            Event::Connect { client, .. }
            | Event::Spawn { client, .. }
            | Event::Ready { client, .. }
            | Event::Wall { client, .. }
            | Event::WorkerDied { client, .. } => Some(Node::Client(*client)),
            Event::Synced(_) | Event::Unpause => Some(Node::Server),
            _ => None,
        }
    }

    fn is_stopped(&self, node: Node) -> bool {
        match node {
            Node::Server => self.stopped.is_some(),
            Node::Client(client) => self.clients[client].stopped,
            Node::Worker(worker) => self.workers[worker].stopped,
        }
    }

    fn frozen_key(node: Node) -> usize {
        match node {
            Node::Server => 0,
            Node::Client(client) => 1 + 2 * client,
            Node::Worker(worker) => 2 + 2 * worker,
        }
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(node) = self.target(&event)
            && self.is_stopped(node)
        {
            let entry = self.frozen.entry(Self::frozen_key(node));
            entry.or_insert((node, Vec::new())).1.push(event);
            return;
        }
        match event {
            Event::ToParent(conn, generation, message) => {
                self.arrive_up(conn, generation, *message)
            }
            Event::ToChild(conn, generation, message) => {
                self.arrive_down(conn, generation, *message)
            }
            Event::ParentEnd(conn) => self.parent_end(conn),
            Event::ChildEnd(conn) => self.child_end(conn),
            Event::Wake(node, life) => self.wake(node, life),
            Event::Step(worker) => self.step(worker),
            Event::Start(client) => self.start(client),
            Event::Connect { client, life } => self.connect(client, life),
            Event::Spawn {
                client,
                life,
                session,
            } => self.spawn(client, life, session),
            Event::Ready {
                client,
                life,
                session,
            } => self.ready(client, life, session),
            Event::WorkerDied {
                client,
                life,
                conn,
                in_hand,
            } => {
                self.worker_died(client, life, conn, in_hand);
            }
            Event::Strike(fault) => self.strike(fault),
            Event::Continue(node, life) => self.carry_on(node, life),
            Event::KillServer => self.kill_server(),
            Event::ReviveServer => self.revive_server(),
            Event::Synced(incarnation) => self.synced(incarnation),
            Event::Wall {
                client,
                life,
                session,
                wall,
                pass,
            } => self.change_wall(client, life, session, *wall, pass),
            Event::Unpause => {
                self.server.pause(false);
                self.pump_server();
            }
        }
    }

    /// A stopped process goes on: what came meanwhile reaches it now, in order.
    fn carry_on(&mut self, node: Node, life: u64) {
        if self.life_of(node) != life || !self.is_stopped(node) {
            return;
        }
        self.say(|| format!("{node:?} goes on"));
        match node {
            Node::Server => self.held_since = self.stopped.take(),
            Node::Client(client) => self.clients[client].stopped = false,
            Node::Worker(worker) => self.workers[worker].stopped = false,
        }
        if let Some((_, events)) = self.frozen.remove(&Self::frozen_key(node)) {
            // Timers are looked at first, as often as last: both happen to real processes.
            let timers_first = self.rng.chance(50);
            if timers_first {
                self.at(self.now, Event::Wake(node, life));
            }
            for event in events {
                self.at(self.now, event);
            }
        }
        self.wakes.remove(&node);
        self.at(self.now, Event::Wake(node, life));
    }

    /// Forgets what was kept for a process that is gone.
    pub(crate) fn thaw(&mut self, node: Node) {
        self.frozen.remove(&Self::frozen_key(node));
    }

    pub(crate) fn life_of(&self, node: Node) -> u64 {
        match node {
            Node::Server => self.incarnation.into(),
            Node::Worker(_) => 0,
            Node::Client(client) => self.clients[client].life,
        }
    }

    /// Notes when a node wants to be woken.
    pub(crate) fn schedule(&mut self, node: Node) {
        let wish = match node {
            Node::Server => self.server.poll_timeout(),
            Node::Client(client) => self.clients[client].relay.poll_timeout(),
            Node::Worker(worker) => self.workers[worker].uplink.poll_timeout(),
        };
        let Some(at) = wish.map(|at| at.max(self.now)) else {
            return;
        };
        if self.wakes.get(&node).is_none_or(|&known| at < known) {
            self.wakes.insert(node, at);
            let life = self.life_of(node);
            self.at(at, Event::Wake(node, life));
        }
    }

    fn wake(&mut self, node: Node, life: u64) {
        if self.life_of(node) != life {
            return;
        }
        if self.wakes.get(&node).is_some_and(|&at| at <= self.now) {
            self.wakes.remove(&node);
        }
        self.note_spin();
        match node {
            Node::Server if self.down => {}
            Node::Server => {
                // Shorter than that is no different from being busy.
                let patience = self.spec.timing.dead_after / 2;
                let since = self.held_since.take();
                if since.is_some_and(|since| self.now > since + patience) {
                    self.server.held_up(self.now);
                }
                self.server.tick(self.now);
                self.pump_server();
            }
            Node::Client(client) if self.clients[client].alive => {
                self.clients[client].relay.tick(self.now);
                self.pump_client(client);
            }
            Node::Worker(worker) if self.workers[worker].alive => {
                self.workers[worker].tick(self.now);
                self.pump_worker(worker);
            }
            Node::Client(_) | Node::Worker(_) => {}
        }
    }

    /// A timer that fires again and again at one moment would keep a real process busy.
    fn note_spin(&mut self) {
        match self.spins.0 == self.now {
            true => self.spins.1 += 1,
            false => self.spins = (self.now, 0),
        }
        if self.spins.1 > 100 {
            self.fail("a timer fires without end");
        }
    }
}
