//! Births, deaths and accidents of processes and connections.

use super::faults::Fault;
use super::net::Node;
use super::setup::slowness;
use super::worker::Worker;
use super::world::{Event, World};
use hydra_proto::ids::{ConnId, ItemId, RootId};
use hydra_proto::ledger::{Mount, Pass};
use hydra_proto::message::{RootFacts, RootView, Wall};
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    /// A client's process starts.
    pub(crate) fn start(&mut self, at: usize) {
        if self.clients[at].alive {
            return;
        }
        let nonce = self.rng.next();
        self.thaw(Node::Client(at));
        self.wakes.remove(&Node::Client(at));
        self.clients[at].start(format!("client {at}"), nonce);
        self.say(|| format!("client {at} starts"));
        self.pump_client(at);
    }

    pub(crate) fn connect(&mut self, at: usize, life: u64) {
        let (now, client) = (self.now, &mut self.clients[at]);
        if client.life != life || !client.alive {
            return;
        }
        client.connecting = false;
        if client.server.is_some() {
            return;
        }
        if self.down {
            self.clients[at].connecting = true;
            let pause = Duration::from_micros(self.rng.range(1, self.redial.as_micros() as u64));
            return self.after(pause, Event::Connect { client: at, life });
        }
        let client = &mut self.clients[at];
        if client.partitioned_until > now {
            let until = client.partitioned_until;
            client.connecting = true;
            return self.at(until, Event::Connect { client: at, life });
        }
        self.open_server_link(at);
    }

    fn open_server_link(&mut self, at: usize) {
        let latency = self.latency;
        let conn = self.open_link(Node::Client(at), Node::Server, latency);
        if self.stats.faults > 0 && self.now < self.last_fault && self.rng.chance(15) {
            let span = Duration::from_micros(self.rng.skewed(1_500_000));
            self.hold(conn, span);
        }
        self.say(|| format!("client {at} connects on {conn:?}"));
        let now = self.now;
        self.clients[at].server = Some(conn);
        self.clients[at].relay.server_connected(now, conn);
        self.pump_client(at);
    }

    /// A job begins at a client: workers start, and it looks at the roots.
    pub(crate) fn begin(&mut self, at: usize) {
        self.clients[at].session += 1;
        self.clients[at].forget();
        let client = &self.clients[at];
        let (life, session, count) = (client.life, client.session, client.worker_count);
        let pause = Duration::from_micros(self.rng.skewed(50_000));
        self.after(
            pause,
            Event::Ready {
                client: at,
                life,
                session,
            },
        );
        for _ in 0..count {
            let pause = Duration::from_micros(self.rng.below(10_000));
            self.after(
                pause,
                Event::Spawn {
                    client: at,
                    life,
                    session,
                },
            );
        }
    }

    pub(crate) fn ready(&mut self, at: usize, life: u64, session: u64) {
        let client = &mut self.clients[at];
        if !client.alive || client.life != life || client.session != session {
            return;
        }
        let view = |&served: &bool| match served {
            true => RootView::Seen(RootFacts {
                fs_type: "sim".to_owned(),
                fs_id: "sim".to_owned(),
                inode: 1,
                directory: true,
                on_system_disk: false,
            }),
            false => RootView::Refused("not here".to_owned()),
        };
        let views = client.serves.iter().map(view).collect();
        client.relay.ready(views);
        self.pump_client(at);
    }

    /// The job is over at a client, for whatever reason: its workers go.
    pub(crate) fn end(&mut self, at: usize) {
        self.clients[at].session += 1;
        self.clients[at].forget();
        for worker in std::mem::take(&mut self.clients[at].workers) {
            let conn = self.workers[worker].conn;
            self.close_parent(conn);
            self.kill_or_leave(worker);
        }
        if let Some(conn) = self.clients[at].server {
            self.server_gone(at, conn);
        }
    }

    pub(crate) fn spawn(&mut self, at: usize, life: u64, session: u64) {
        let client = &self.clients[at];
        let full = client.workers.len() >= client.worker_count as usize;
        if !client.alive || client.life != life || client.session != session || full {
            return;
        }
        let number = self.workers.len();
        let latency = Duration::from_micros(self.rng.range(10, 400));
        let conn = self.open_link(Node::Worker(number), Node::Client(at), latency);
        let uid = self.rng.next();
        let mut worker = Worker::new(uid, at, conn, self.habits, self.now);
        worker.slow = slowness(&mut self.rng, self.slow).max(self.clients[at].slow);
        self.workers.push(worker);
        self.clients[at].workers.push(number);
        self.pump_worker(number);
    }

    /// A client has closed a worker's channel: it ends that worker and starts another.
    pub(crate) fn end_worker(&mut self, at: usize, conn: ConnId) {
        let found = self.clients[at]
            .workers
            .iter()
            .position(|&w| self.workers[w].conn == conn);
        if let Some(index) = found {
            let worker = self.clients[at].workers.remove(index);
            self.kill_or_leave(worker);
            self.replace_worker(at);
        }
    }

    /// Ends a worker that belongs to nobody; some cannot be killed and are left behind.
    fn kill_or_leave(&mut self, at: usize) {
        if self.rng.chance(70) {
            let conn = self.workers[at].conn;
            self.workers[at].alive = false;
            self.thaw(Node::Worker(at));
            self.close_child(conn);
        }
    }

    fn replace_worker(&mut self, at: usize) {
        let client = &self.clients[at];
        let (life, session) = (client.life, client.session);
        let pause = Duration::from_micros(self.rng.range(500, 20_000));
        self.after(
            pause,
            Event::Spawn {
                client: at,
                life,
                session,
            },
        );
    }

    /// A worker's process dies, with something in hand.
    pub(crate) fn kill_worker(&mut self, at: usize, by_chance: bool) {
        let in_hand = self.workers[at].in_hand();
        self.say(|| format!("worker {at} is gone, by chance: {by_chance}, in hand {in_hand:?}"));
        self.workers[at].alive = false;
        self.thaw(Node::Worker(at));
        self.announce_death(at, in_hand);
    }

    /// A worker's process ends by itself.
    pub(crate) fn worker_exits(&mut self, at: usize) {
        self.announce_death(at, None);
    }

    fn announce_death(&mut self, at: usize, in_hand: Option<ItemId>) {
        let conn = self.workers[at].conn;
        if !self.link(conn).child_open {
            return;
        }
        self.close_child(conn);
        let client = self.workers[at].client;
        let life = self.link(conn).parent_life;
        let pause = Duration::from_micros(self.rng.range(10, 3000));
        self.after(
            pause,
            Event::WorkerDied {
                client,
                life,
                conn,
                in_hand,
            },
        );
    }

    /// A client learns that a worker's process is gone.
    pub(crate) fn worker_died(
        &mut self,
        at: usize,
        life: u64,
        conn: ConnId,
        in_hand: Option<ItemId>,
    ) {
        let found = self.clients[at]
            .workers
            .iter()
            .position(|&w| self.workers[w].conn == conn);
        let Some(index) = found.filter(|_| self.clients[at].alive && self.clients[at].life == life)
        else {
            return;
        };
        self.clients[at].workers.remove(index);
        self.link_mut(conn).parent_open = false;
        let now = self.now;
        self.clients[at]
            .relay
            .worker_died(now, conn, in_hand, "killed");
        self.replace_worker(at);
        self.pump_client(at);
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        self.stats.faults += 1;
        let client = self.rng.below(self.clients.len() as u64) as usize;
        self.say(|| format!("{fault:?} strikes client {client}"));
        match fault {
            Fault::KillWorker => self.strike_worker(None),
            Fault::StopWorker(span) => self.strike_worker(Some(span)),
            Fault::KillClient(span) => self.kill_client(client, span),
            Fault::StopClient(span) => self.stop(Node::Client(client), span),
            Fault::Cut => self.cut(client, true, true),
            Fault::CutUp => self.cut(client, true, false),
            Fault::CutDown => self.cut(client, false, true),
            Fault::Partition(span) => {
                let until = self.now + span;
                self.last_fault = self.last_fault.max(until);
                let known = &mut self.clients[client].partitioned_until;
                *known = until.max(*known);
                // The network loses what is on its way, or keeps it for later.
                match self.clients[client].server {
                    Some(conn) if self.rng.chance(50) => self.hold(conn, span),
                    _ => self.cut(client, true, true),
                }
            }
            Fault::Duplicate => self.duplicate(client),
            Fault::Slow(span) => self.slow(client, span),
            Fault::Hold(span) => {
                if let Some(conn) = self.clients[client].server {
                    self.hold(conn, span);
                }
            }
            Fault::DiskFull(span) => {
                let until = self.now + span;
                self.last_fault = self.last_fault.max(until);
                self.journal.full_until = until.max(self.journal.full_until);
            }
            Fault::Wall(span) => self.wall(client, span),
            Fault::StopServer(span) => self.stop(Node::Server, span),
            Fault::Pause(_) if self.stopped.is_some() => {}
            Fault::Pause(span) => {
                self.server.pause(true);
                self.pump_server();
                self.last_fault = self.last_fault.max(self.now + span);
                self.after(span, Event::Unpause);
            }
        }
    }

    /// What a client holds, or a part of it, lies on a mount that does not answer it for a while.
    fn wall(&mut self, at: usize, span: Duration) {
        let client = &self.clients[at];
        let (life, session) = (client.life, client.session);
        let Some(parent) = client.relay.workers().filter(|_| client.alive) else {
            return;
        };
        let places: BTreeSet<(u32, Vec<u8>)> = parent
            .items()
            .map(|item| (item.root().0, item.path()))
            .collect();
        let chosen = self.rng.below(places.len() as u64) as usize;
        let Some((root, path)) = places.into_iter().nth(chosen) else {
            return;
        };
        let whole = self.rng.chance(30);
        let wall = Wall {
            root: RootId(root),
            path: if whole { Vec::new() } else { path },
            without: Vec::new(),
            reason: "a dead mount".to_owned(),
        };
        self.stats.hits += 1;
        self.set_wall(at, wall.clone(), Pass::None);
        self.last_fault = self.last_fault.max(self.now + span);
        for (pause, pass) in [(span / 2, Pass::One), (span, Pass::All)] {
            let change = Event::Wall {
                client: at,
                life,
                session,
                wall: Box::new(wall.clone()),
                pass,
            };
            self.after(pause, change);
        }
    }

    pub(crate) fn change_wall(
        &mut self,
        at: usize,
        life: u64,
        session: u64,
        wall: Wall,
        pass: Pass,
    ) {
        let client = &self.clients[at];
        if client.alive && client.life == life && client.session == session {
            self.set_wall(at, wall, pass);
        }
    }

    fn set_wall(&mut self, at: usize, wall: Wall, pass: Pass) {
        let (number, walls) = (1, vec![wall]);
        let mount = Mount {
            number,
            walls,
            pass,
        };
        self.clients[at].relay.set_mounts(vec![mount]);
        self.pump_client(at);
    }

    /// Kills or stops a worker, rather one that is at work.
    fn strike_worker(&mut self, stop: Option<Duration>) {
        let alive = |&at: &usize| self.workers[at].alive && !self.workers[at].stopped;
        let working = |&at: &usize| alive(&at) && self.workers[at].is_working();
        let mut choice: Vec<usize> = (0..self.workers.len()).filter(working).collect();
        if choice.is_empty() {
            choice = (0..self.workers.len()).filter(alive).collect();
        }
        let Some(&at) = choice.get(self.rng.below(choice.len() as u64) as usize) else {
            return;
        };
        self.stats.hits += u64::from(self.workers[at].is_working());
        match stop {
            Some(span) => self.stop(Node::Worker(at), span),
            // By chance again and again with one suspect in hand is what the ledger must take for poison.
            None if self.workers[at].is_careful() => {}
            None => self.kill_worker(at, true),
        }
    }

    fn stop(&mut self, node: Node, span: Duration) {
        match node {
            Node::Server => {
                if self.down || self.over || self.stopped.is_some() {
                    return;
                }
                self.stats.hits += 1;
                self.stopped = Some(self.now);
            }
            Node::Client(at) => {
                if !self.clients[at].alive {
                    return;
                }
                self.clients[at].stopped = true;
            }
            Node::Worker(at) => self.workers[at].stopped = true,
        }
        let life = self.life_of(node);
        self.last_fault = self.last_fault.max(self.now + span);
        self.after(span, Event::Continue(node, life));
    }

    /// A client's process dies; its workers learn of it by the end of their channels.
    fn kill_client(&mut self, at: usize, span: Duration) {
        if !self.clients[at].alive {
            return;
        }
        self.stats.hits += u64::from(!self.clients[at].workers.is_empty());
        self.clients[at].alive = false;
        self.clients[at].stopped = false;
        self.thaw(Node::Client(at));
        for worker in std::mem::take(&mut self.clients[at].workers) {
            let conn = self.workers[worker].conn;
            self.close_parent(conn);
        }
        if let Some(conn) = self.clients[at].server.take() {
            // A host that loses its power does not say good-bye.
            match self.rng.chance(30) {
                true => self.link_mut(conn).cut(true, true),
                false => self.close_child(conn),
            }
        }
        self.last_fault = self.last_fault.max(self.now + span);
        self.after(span, Event::Start(at));
    }

    fn cut(&mut self, at: usize, up: bool, down: bool) {
        let Some(conn) = self.clients[at].server else {
            return;
        };
        self.stats.hits += 1;
        self.link_mut(conn).cut(up, down);
        if up && down {
            for (percent, event) in [(60, Event::ParentEnd(conn)), (60, Event::ChildEnd(conn))] {
                if self.rng.chance(percent) {
                    let pause = Duration::from_micros(self.rng.skewed(1_000_000));
                    self.after(pause, event);
                }
            }
        }
    }

    /// The client opens a second connection while the first still looks alive.
    fn duplicate(&mut self, at: usize) {
        let client = &self.clients[at];
        let Some(old) = client
            .server
            .filter(|_| client.alive && !client.stopped && !self.down)
        else {
            return;
        };
        self.stats.hits += 1;
        self.open_server_link(at);
        let pause = Duration::from_micros(self.rng.skewed(1_000_000));
        self.after(pause, Event::ChildEnd(old));
    }

    fn hold(&mut self, conn: ConnId, span: Duration) {
        let until = self.now + span;
        self.last_fault = self.last_fault.max(until);
        let pipe = &mut self.link_mut(conn).up;
        pipe.clear_at = pipe.clear_at.max(until);
    }

    fn slow(&mut self, at: usize, span: Duration) {
        if let Some(conn) = self.clients[at].server {
            let both = self.rng.below(3);
            let link = self.link_mut(conn);
            if both != 1 {
                link.up.extra = span;
            }
            if both != 2 {
                link.down.extra = span;
            }
        }
    }
}
