//! A tiny cluster over the real ledgers: what can happen to it, and what must hold in each state.

mod talk;

use hydra_proto::ids::{ChildId, ConnId, IdRange, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing};
use hydra_proto::ledger::{
    Action, Frontier, Parent, ParentConfig, Place, Relay, RelayAction, RelayConfig, Time, Uplink,
    UplinkConfig, UplinkEvent, Work,
};
use hydra_proto::message::{Delta, Down, Ready, RootView, Up};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

const NOW: Time = Duration::from_secs(1);
const CLIENTS: usize = 2;

/// Directories by path, and their children.
pub(super) type Tree = &'static [(&'static str, &'static [&'static str])];

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

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
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

/// How large the world is, and what may still happen to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) tree: Tree,
    /// Of each client.
    pub(super) workers: usize,
    pub(super) crashes: u32,
    pub(super) cuts: u32,
    /// A deliberate fault: results of clients that lost their link are forgotten.
    pub(super) forgets: bool,
}

/// What has befallen the work on the way here. Nothing goes by it: states that differ in it alone are followed each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// Somebody was given up who owned items: only somebody else can have finished them.
    pub(super) granted_again: bool,
    /// A session has gone on over another connection.
    pub(super) resumed: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) server: Parent,
    clients: Vec<Client>,
    /// How often each directory was committed.
    pub(super) seen: Vec<u8>,
    conns: u64,
    pub(super) bounds: Bounds,
    pub(super) past: Past,
    /// Sessions whose connection is gone.
    orphans: Vec<(ConnId, ChildId)>,
    sessions: Vec<(ConnId, ChildId)>,
}

fn spec() -> JobSpec {
    JobSpec {
        plugin: "test".to_owned(),
        roots: vec![RootSpec::default()],
        timing: Timing {
            commit_interval: Duration::ZERO,
            ..Timing::default()
        },
        ..JobSpec::default()
    }
}

fn uplink(workers: u32, nonce: u64, resumable: bool) -> UplinkConfig {
    UplinkConfig {
        name: String::new(),
        workers,
        nonce,
        release: String::new(),
        resumable,
        uncut: false,
    }
}

impl World {
    pub(super) fn new(bounds: Bounds) -> Self {
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
            seen: vec![0; bounds.tree.len()],
            conns: 0,
            bounds,
            past: Past::default(),
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
    pub(super) fn events(&self) -> Vec<Event> {
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

    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Up(at) => {
                let conn = self.clients[at].conn;
                if let Some(message) = self.clients[at].up.pop_front() {
                    self.server_does(|server| server.handle(NOW, conn, message));
                }
            }
            Event::Down(at) => {
                let client = &mut self.clients[at];
                if let Some(message) = client.down.pop_front() {
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
                self.server_does(|server| server.fence(NOW, child, "it was silent"));
            }
        }
    }

    /// Each directory is committed once, or lies under exactly one item.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.server.counts().balanced() {
            return Err("the counts are out of balance".to_owned());
        }
        let paths: Vec<Vec<u8>> = self.server.items().map(|item| item.path()).collect();
        for (dir, (path, _)) in self.bounds.tree.iter().enumerate() {
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

    /// Whether nothing is left to do, and each directory was committed once.
    pub(super) fn is_over(&self) -> bool {
        self.server.is_done() && self.seen.iter().all(|&times| times == 1)
    }

    /// A hash of all that a state holds.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = Hash(DefaultHasher::new());
        write!(hash, "{self:?}").expect("a hash takes everything");
        hash.0.finish()
    }
}

/// Hashes what is written.
struct Hash(DefaultHasher);

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn delta(dirs: Vec<u8>) -> Delta {
    Delta {
        plugin: dirs,
        ..Delta::default()
    }
}
