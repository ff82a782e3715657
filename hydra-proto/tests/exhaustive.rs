//! Every order of events of a tiny cluster, over the real ledgers: two clients with two workers each, a handful of
//! directories, one crash, one cut link. In each state every directory is committed once or lies under exactly one
//! item, and where nothing is left to happen the job is done.
//!
//! A ledger cannot be copied, so a state is kept as the events that lead to it, and made again from them. States are
//! the same if all that they hold is: two orders that come to one state are followed once. A path ends when it has
//! had so many messages of the server that work goes to and fro without being done; how many paths ended like that
//! is printed.
//!
//! `cargo test -p hydra-proto --test exhaustive -- --ignored` goes further.

use hydra_proto::ids::{ChildId, ConnId, IdRange, JobId, RootId};
use hydra_proto::item::{Dirs, Item, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing, WalkOptions};
use hydra_proto::ledger::{
    Action, Frontier, Parent, ParentConfig, Place, Relay, RelayAction, RelayConfig, Time, Uplink,
    UplinkConfig, UplinkEvent, Work,
};
use hydra_proto::message::{Delta, Down, Ready, RootView, Up};
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

const NOW: Time = Duration::from_secs(1);
const CLIENTS: usize = 2;

/// The directories by path, and their children.
const TREE: [(&str, &[&str]); 4] = [("", &["a", "b"]), ("a", &["c"]), ("b", &[]), ("a/c", &[])];

#[derive(Clone, Debug, PartialEq)]
struct Path(Vec<u8>);

impl Path {
    fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() && !name.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

impl Place for Path {
    fn at(_: RootId, path: &[u8]) -> Self {
        Self(path.to_vec())
    }

    fn root(&self) -> RootId {
        RootId(0)
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

fn number(path: &[u8]) -> usize {
    let found = TREE.iter().position(|(known, _)| known.as_bytes() == path);
    found.expect("a directory that exists")
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The next message of a client reaches the server.
    Up(usize),
    /// The next message of the server reaches a client.
    Down(usize),
    /// A worker walks a directory and commits.
    Step(usize, usize),
    /// A client commits.
    Cut(usize),
    /// A client's process dies with its workers, and starts again.
    Crash(usize),
    /// A worker's process dies, and another takes its place.
    Kill(usize, usize),
    /// A link breaks; the client connects again. The server does not know yet.
    Break(usize),
    /// The server gives a session up.
    Fence(ChildId),
}

#[derive(Debug)]
struct Worker {
    uplink: Uplink,
    frontier: Option<Frontier<Path>>,
    conn: ConnId,
}

#[derive(Debug)]
struct Client {
    relay: Relay,
    workers: Vec<Worker>,
    conn: ConnId,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    found: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    workers: usize,
    crashes: u32,
    cuts: u32,
    /// Grants and requests for work that reach clients.
    messages: u32,
    /// A deliberate fault: results of clients that lost their link are forgotten.
    forgets: bool,
}

#[derive(Debug)]
struct World {
    server: Parent,
    clients: Vec<Client>,
    seen: [u8; TREE.len()],
    conns: u64,
    bounds: Bounds,
    /// Sessions whose connection is gone.
    orphans: Vec<(ConnId, ChildId)>,
    sessions: Vec<(ConnId, ChildId)>,
}

fn spec() -> JobSpec {
    JobSpec {
        plugin: "test".to_owned(),
        options: Vec::new(),
        acts: false,
        roots: vec![RootSpec::default()],
        walk: WalkOptions::default(),
        timing: Timing {
            commit_interval: Duration::ZERO,
            ..Timing::default()
        },
    }
}

fn uplink(workers: u32, nonce: u64, resumable: bool) -> UplinkConfig {
    UplinkConfig {
        name: String::new(),
        workers,
        nonce,
        release: String::new(),
        resumable,
    }
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let mut server = Parent::new(ParentConfig {
            job: JobId(1),
            spec: spec(),
            ids: IdRange {
                start: 1,
                end: 1 << 40,
            },
            lease_ids: 1 << 20,
            resumable: true,
            forward_logs: false,
            release: String::new(),
            secrets: Box::new(|| [9; 16]),
        });
        let ids = server.take_ids(1).expect("an id");
        let root = Parcel::Dirs(Dirs {
            first: ids.iter().next().expect("an id"),
            root: RootId(0),
            dir: Vec::new(),
            names: NameList::from_iter([&b""[..]]),
        });
        server.add(vec![root], true);
        let mut world = Self {
            server,
            clients: Vec::new(),
            seen: [0; TREE.len()],
            conns: 0,
            bounds,
            orphans: Vec::new(),
            sessions: Vec::new(),
        };
        for _ in 0..CLIENTS {
            world.clients.push(Client {
                relay: Relay::new(RelayConfig {
                    uplink: uplink(0, 0, true),
                    secrets: || [7; 16],
                }),
                workers: Vec::new(),
                conn: ConnId(0),
                up: VecDeque::new(),
                down: VecDeque::new(),
                found: Vec::new(),
            });
        }
        // Everybody is there and knows of the job: how sessions begin is the same in all orders.
        (0..CLIENTS).for_each(|at| world.start(at));
        while let Some(at) = (0..CLIENTS).find(|&at| !world.clients[at].up.is_empty()) {
            world.apply(Event::Up(at));
            while world.clients[at]
                .down
                .iter()
                .any(|down| matches!(down, Down::Welcome(_)))
            {
                world.apply(Event::Down(at));
            }
        }
        world
    }

    fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    /// A client's process starts, and connects.
    fn start(&mut self, at: usize) {
        let conn = self.conn();
        let client = &mut self.clients[at];
        client.relay = Relay::new(RelayConfig {
            uplink: uplink(self.bounds.workers as u32, conn.0, true),
            secrets: || [7; 16],
        });
        client.workers.clear();
        client.found.clear();
        self.connect(at, conn);
    }

    fn connect(&mut self, at: usize, conn: ConnId) {
        let client = &mut self.clients[at];
        (client.conn, client.up, client.down) = (conn, VecDeque::new(), VecDeque::new());
        client.relay.server_connected(NOW, conn);
        self.pump(at);
    }

    /// What can happen in this state.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            if !client.up.is_empty() {
                events.push(Event::Up(at));
            }
            if !client.down.is_empty() {
                events.push(Event::Down(at));
            }
            if client.relay.wants_cut(NOW) {
                events.push(Event::Cut(at));
            }
            for (index, worker) in client.workers.iter().enumerate() {
                let held = worker.frontier.as_ref().map_or(0, Frontier::held);
                if held > 0 {
                    events.push(Event::Step(at, index));
                }
                if self.bounds.crashes > 0 && held > 0 {
                    events.push(Event::Kill(at, index));
                }
            }
            if self.bounds.crashes > 0 {
                events.push(Event::Crash(at));
            }
            if self.bounds.cuts > 0 && client.relay.uplink().is_open() {
                events.push(Event::Break(at));
            }
        }
        events.extend(self.orphans.iter().map(|&(_, child)| Event::Fence(child)));
        events
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Up(at) => {
                let conn = self.clients[at].conn;
                if let Some(message) = self.clients[at].up.pop_front() {
                    self.server.handle(NOW, conn, message);
                    self.pump_server();
                }
            }
            Event::Down(at) => {
                let client = &mut self.clients[at];
                if let Some(message) = client.down.pop_front() {
                    let counts = matches!(message, Down::Grant(_) | Down::Shed(_));
                    let left = &mut self.bounds.messages;
                    *left = left.saturating_sub(counts.into());
                    client.relay.server_message(NOW, client.conn, message);
                    self.pump(at);
                }
            }
            Event::Step(at, worker) => self.step(at, worker),
            Event::Cut(at) => {
                let client = &mut self.clients[at];
                let found = std::mem::take(&mut client.found);
                client.relay.cut(NOW, Some(delta(found)));
                self.pump(at);
            }
            Event::Crash(at) => {
                self.bounds.crashes -= 1;
                self.orphan(at);
                self.start(at);
            }
            Event::Kill(at, worker) => self.kill(at, worker),
            Event::Break(at) => {
                self.bounds.cuts -= 1;
                self.orphan(at);
                let conn = self.clients[at].conn;
                if self.bounds.forgets {
                    self.clients[at].found.clear();
                }
                self.clients[at].relay.server_closed(NOW, conn);
                self.pump(at);
                let conn = self.conn();
                self.connect(at, conn);
            }
            Event::Fence(child) => {
                self.orphans.retain(|&(_, orphan)| orphan != child);
                self.server.fence(NOW, child, "it was silent");
                self.pump_server();
            }
        }
    }

    /// The server has lost the connection of a client, and may notice it at any time.
    fn orphan(&mut self, at: usize) {
        let conn = self.clients[at].conn;
        let lost = self.sessions.iter().filter(|session| session.0 == conn);
        self.orphans.extend(lost.copied());
    }

    fn pump_server(&mut self) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Send { conn, message } => {
                    let client = self.clients.iter_mut().find(|client| client.conn == conn);
                    if let Some(client) = client {
                        client.down.push_back(message);
                    }
                }
                Action::Sees { child, .. } => self.server.serve(child, vec![true]),
                Action::Joined { child, conn, .. } => self.sessions.push((conn, child)),
                Action::Back { child, conn } => {
                    self.sessions.retain(|session| session.1 != child);
                    self.orphans.retain(|session| session.1 != child);
                    self.sessions.push((conn, child));
                }
                Action::Lost { child, .. } => self.orphans.retain(|orphan| orphan.1 != child),
                Action::Applied { result, .. } => {
                    let found = result.map(|delta| delta.plugin).unwrap_or_default();
                    found
                        .into_iter()
                        .for_each(|dir| self.seen[usize::from(dir)] += 1);
                }
                _ => {}
            }
        }
        // Beats are advice, and wait for nothing but what is before them.
        for at in 0..CLIENTS {
            while let [Down::Beat(_)] = self.clients[at].down.make_contiguous() {
                self.apply(Event::Down(at));
            }
        }
    }

    fn pump(&mut self, at: usize) {
        loop {
            let client = &mut self.clients[at];
            let Some(action) = client.relay.poll_action(NOW) else {
                client.relay.balance(NOW);
                match client.relay.workers().is_some() && self.worker_talk(at) {
                    true => continue,
                    false => break,
                }
            };
            match action {
                RelayAction::Begin(_) => self.begin(at),
                RelayAction::End(_) => {
                    self.clients[at].workers.clear();
                    self.clients[at].found.clear();
                    let conn = self.conn();
                    self.connect(at, conn);
                }
                RelayAction::DropServer(_) => panic!("an honest server was dropped"),
                RelayAction::Worker(Action::Send { conn, message }) => {
                    self.worker_gets(at, conn, message);
                }
                RelayAction::Worker(Action::Applied { result, .. }) => {
                    let found = result.map(|delta| delta.plugin).unwrap_or_default();
                    self.clients[at].found.extend(found);
                }
                _ => {}
            }
        }
        let client = &mut self.clients[at];
        while let Some(message) = client.relay.poll_server() {
            client.up.push_back(message);
        }
        if let [Up::Beat(_)] = client.up.make_contiguous() {
            self.apply(Event::Up(at));
        }
    }

    fn begin(&mut self, at: usize) {
        let view = RootView::Refused(String::new());
        self.clients[at].relay.ready(vec![view]);
        self.clients[at].workers.clear();
        (0..self.bounds.workers).for_each(|_| self.hire(at));
    }

    fn hire(&mut self, at: usize) {
        let conn = self.conn();
        let mut worker = Worker {
            uplink: Uplink::new(uplink(1, conn.0, false)),
            frontier: None,
            conn,
        };
        worker.uplink.connected(NOW, conn);
        self.clients[at].workers.push(worker);
    }

    fn kill(&mut self, at: usize, worker: usize) {
        self.bounds.crashes -= 1;
        let client = &mut self.clients[at];
        let conn = client.workers.remove(worker).conn;
        client.relay.worker_died(NOW, conn, None, "killed");
        self.hire(at);
        self.pump(at);
    }

    /// Hands on what workers say. Between a worker and its client nothing is ever on its way.
    fn worker_talk(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        let mut any = false;
        for worker in &mut client.workers {
            while let Some(message) = worker.uplink.poll_send() {
                client.relay.worker_message(NOW, worker.conn, message);
                any = true;
            }
        }
        any
    }

    fn worker_gets(&mut self, at: usize, conn: ConnId, message: Down) {
        let workers = &mut self.clients[at].workers;
        let Some(worker) = workers.iter_mut().find(|worker| worker.conn == conn) else {
            return;
        };
        worker.uplink.handle(NOW, conn, message);
        while let Some(event) = worker.uplink.poll_event() {
            match (event, &mut worker.frontier) {
                (UplinkEvent::Started(welcome), frontier) => {
                    *frontier = Some(Frontier::new(welcome.ids));
                    let epoch = worker.uplink.epoch();
                    let roots = vec![RootView::Refused(String::new())];
                    worker.uplink.send(Up::Ready(Ready { epoch, roots }));
                }
                (UplinkEvent::Granted(grant), Some(frontier)) => frontier.accept(grant),
                (UplinkEvent::Asked(shed), Some(frontier)) => frontier.ask(shed),
                _ => {}
            }
        }
        if let Some(frontier) = &mut worker.frontier
            && (frontier.could_give() || (frontier.is_dry() && frontier.asked().is_some()))
            && let Some(cut) = frontier.cut(None)
        {
            worker.uplink.commit(cut);
        }
    }

    fn step(&mut self, at: usize, worker: usize) {
        let worker = &mut self.clients[at].workers[worker];
        let frontier = worker.frontier.as_mut().expect("a worker that has work");
        let Some((_, Work::Dir { parent, name })) = frontier.pop() else {
            panic!("only whole directories are walked");
        };
        let path = parent.join(&name);
        let dir = number(&path.0);
        let names = TREE[dir].1.iter().map(|name| name.as_bytes()).collect();
        frontier.push_dirs(&path, names);
        frontier.finish();
        let cut = frontier.cut(Some(delta(vec![dir as u8])));
        worker.uplink.commit(cut.expect("ids for what was found"));
        self.pump(at);
    }

    /// Each directory is committed once, or lies under exactly one item.
    fn check(&self) -> Result<(), String> {
        if !self.server.counts().balanced() {
            return Err("the counts are out of balance".to_owned());
        }
        let paths: Vec<Vec<u8>> = self.server.items().map(Item::path).collect();
        for (dir, (path, _)) in TREE.iter().enumerate() {
            let lies_under = |item: &&Vec<u8>| {
                let below = path.as_bytes().strip_prefix(item.as_slice());
                below.is_some_and(|rest| item.is_empty() || rest.is_empty() || rest[0] == b'/')
            };
            let items = paths.iter().filter(lies_under).count();
            if items + usize::from(self.seen[dir]) != 1 {
                let seen = self.seen[dir];
                return Err(format!(
                    "/{path}: committed {seen} times, under {items} items"
                ));
            }
        }
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }
}

fn delta(dirs: Vec<u8>) -> Delta {
    Delta {
        plugin: dirs,
        ..Delta::default()
    }
}

#[derive(Debug, Default)]
struct Explored {
    states: u64,
    ends: u64,
    bounded: u64,
    longest: usize,
}

fn again(bounds: Bounds, path: &[Event]) -> World {
    let mut world = World::new(bounds);
    path.iter().for_each(|&event| world.apply(event));
    world
}

/// Follows every order of events. Panics with the events that lead to a state that must not be.
fn explore(bounds: Bounds, states_max: u64) -> Explored {
    let mut explored = Explored::default();
    let mut known = HashSet::from([World::new(bounds).fingerprint()]);
    let mut open: Vec<Vec<Event>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        explored.states += 1;
        assert!(
            explored.states <= states_max,
            "more states than expected: {explored:?}"
        );
        explored.longest = explored.longest.max(path.len());
        let events = again(bounds, &path).events();
        let faults =
            |event: &Event| matches!(event, Event::Crash(_) | Event::Kill(..) | Event::Break(_));
        if events.iter().all(faults) {
            let world = again(bounds, &path);
            let done = world.server.is_done() && world.seen == [1; TREE.len()];
            assert!(done, "stuck after {path:?}: {:?}", world.server.counts());
            explored.ends += 1;
        }
        for event in events {
            let mut longer = path.clone();
            longer.push(event);
            let world = again(bounds, &longer);
            if let Err(what) = world.check() {
                panic!("{what} after {longer:?}");
            }
            if world.bounds.messages == 0 {
                explored.bounded += 1;
            } else if known.insert(world.fingerprint()) {
                open.push(longer);
            }
        }
    }
    println!("{bounds:?}: {explored:?}");
    explored
}

fn bounds(workers: usize, crashes: u32, cuts: u32, messages: u32) -> Bounds {
    Bounds {
        workers,
        crashes,
        cuts,
        messages,
        forgets: false,
    }
}

#[test]
fn every_order_of_events_without_faults() {
    let explored = explore(bounds(2, 0, 0, u32::MAX), 20_000);
    assert!(explored.ends > 0 && explored.bounded == 0);
}

#[test]
fn every_order_of_events_with_a_crash() {
    assert!(explore(bounds(2, 1, 0, 2), 60_000).states > 1000);
}

#[test]
fn every_order_of_events_with_a_cut_link() {
    assert!(explore(bounds(2, 0, 1, 2), 60_000).states > 1000);
}

#[test]
#[should_panic(expected = "committed 0 times, under 0 items")]
fn results_that_are_forgotten_with_a_link_are_found() {
    let forgets = true;
    explore(
        Bounds {
            forgets,
            ..bounds(2, 0, 1, 2)
        },
        60_000,
    );
}

#[test]
#[ignore = "takes many minutes"]
fn every_order_of_events_with_a_crash_and_a_cut_link() {
    let explored = explore(bounds(2, 1, 1, 4), u64::MAX);
    assert!(explored.ends > 0);
}
