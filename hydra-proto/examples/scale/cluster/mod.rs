//! A whole cluster in virtual time: the real ledgers of the server, of thousands of clients and of all their workers.
//! No faults here, those are the simulator's; here it is counted what balancing costs and what it achieves.

mod server;

use super::agenda::{Agenda, Event};
use super::figures::Figures;
use super::shape::{Shape, Total};
use super::worker::{Worker, delta, facts, sum_of};
use hydra_proto::ids::{ConnId, IdRange, JobId, RootId};
use hydra_proto::item::{Dirs, NameList, Parcel};
use hydra_proto::job::{JobSpec, RootSpec, Timing};
use hydra_proto::ledger::{
    Action, Parent, ParentConfig, Relay, RelayAction, RelayConfig, Time, UplinkConfig,
};
use hydra_proto::message::{Down, RootView};
use std::time::{Duration, Instant};

/// Between a client and its workers.
const LOCAL: Duration = Duration::from_micros(20);
/// Everybody has come by then, and the job begins.
const START: Time = Duration::from_secs(2);

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub shape: Shape,
    pub clients: u32,
    pub workers: u32,
    pub latency: Duration,
    /// What a directory costs its worker.
    pub cost: Duration,
    pub commit_interval: Duration,
    /// How many times slower the server is than it is modelled to be.
    pub slower: u32,
}

struct Client {
    relay: Relay,
    woken: Option<Time>,
    dirs: u64,
    sum: u64,
    up_clear: Time,
    down_clear: Time,
}

pub(crate) struct Cluster {
    setup: Setup,
    now: Time,
    agenda: Agenda,
    server: Parent,
    server_free: Time,
    server_woken: Option<Time>,
    clients: Vec<Client>,
    workers: Vec<Worker>,
    random: u64,
    found: Total,
    busy: u64,
    peak_items: u64,
    pub(crate) figures: Figures,
}

fn server(setup: &Setup) -> Parent {
    let timing = Timing {
        commit_interval: setup.commit_interval,
        ..Timing::default()
    };
    Parent::new(ParentConfig {
        job: JobId(1),
        spec: JobSpec {
            plugin: "audit".to_owned(),
            roots: vec![RootSpec::default()],
            timing,
            ..JobSpec::default()
        },
        ids: IdRange {
            start: 1,
            end: 1 << 62,
        },
        lease_ids: 1 << 40,
        resumable: true,
        forward_logs: false,
        release: "1".to_owned(),
        secrets: Box::new(|| [9; 16]),
    })
}

fn relay(number: u32, workers: u32) -> Relay {
    Relay::new(RelayConfig {
        uplink: UplinkConfig {
            name: format!("host{number:05}"),
            workers,
            nonce: u64::from(number),
            release: "1".to_owned(),
            resumable: true,
            uncut: false,
        },
        secrets: || [7; 16],
    })
}

impl Cluster {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut cluster = Self {
            now: Time::ZERO,
            agenda: Agenda::default(),
            server: server(&setup),
            server_free: Time::ZERO,
            server_woken: None,
            clients: Vec::new(),
            workers: Vec::new(),
            random: 1,
            found: Total::default(),
            busy: 0,
            peak_items: 0,
            figures: Figures::default(),
            setup,
        };
        for number in 0..cluster.setup.clients {
            let mut relay = relay(number, cluster.setup.workers);
            relay.server_connected(Time::ZERO, ConnId(number.into()));
            cluster.clients.push(Client {
                relay,
                woken: None,
                dirs: 0,
                sum: 0,
                up_clear: Time::ZERO,
                down_clear: Time::ZERO,
            });
        }
        for number in 0..cluster.setup.clients {
            cluster.pump_client(number);
        }
        cluster.at(START, Event::Start);
        cluster
    }

    fn at(&mut self, at: Time, event: Event) {
        self.agenda.plan(at.max(self.now), event);
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.random % nanos)
    }

    /// Runs the job. What was found has to be what is there.
    pub(crate) fn run(mut self, expected: Total) -> Figures {
        let began = Instant::now();
        while let Some((at, event)) = self.agenda.next() {
            self.now = at;
            self.figures.events += 1;
            self.dispatch(event);
            if self.now >= START && self.server.is_done() && self.found.dirs > 0 {
                break;
            }
        }
        self.found.depth = expected.depth;
        assert_eq!(self.found, expected, "what was found differs from the tree");
        let workers = u64::from(self.setup.clients) * u64::from(self.setup.workers);
        let figures = &mut self.figures;
        figures.dirs = expected.dirs;
        figures.depth = expected.depth;
        figures.took = self.now - START;
        let share = self.setup.cost.as_secs_f64() * expected.dirs as f64 / workers as f64;
        let path = self.setup.cost.as_secs_f64() * f64::from(expected.depth + 1);
        figures.ideal = share.max(path);
        figures.slack = share / path;
        figures.peak_items = self.peak_items;
        figures.wall = began.elapsed();
        self.figures
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::ServerGets(conn, message) => self.server_gets(conn, *message),
            Event::ClientGets(client, message) => {
                let (now, conn) = (self.now, ConnId(client.into()));
                let relay = &mut self.clients[client as usize].relay;
                relay.server_message(now, conn, *message);
                self.pump_client(client);
            }
            Event::FromWorker(conn, message) => {
                let (now, client) = (self.now, conn.0 as u32 / self.setup.workers);
                let relay = &mut self.clients[client as usize].relay;
                relay.worker_message(now, conn, *message);
                self.pump_client(client);
            }
            Event::WorkerGets(conn, message) => self.worker_gets(conn, *message),
            Event::ServerWakes => self.server_wakes(),
            Event::ClientWakes(client) => self.client_wakes(client),
            Event::WorkerSteps(worker) => self.worker_steps(worker),
            Event::WorkerTicks(worker) => self.worker_ticks(worker),
            Event::Start => {
                let ids = self.server.take_ids(1).expect("an id for the root");
                let root = Parcel::Dirs(Dirs {
                    first: ids.iter().next().expect("one id"),
                    root: RootId(0),
                    dir: Vec::new(),
                    names: NameList::from_iter([&b""[..]]),
                });
                self.server.add(vec![root], true);
                self.pump_server(Duration::ZERO);
            }
        }
    }

    // Clients.

    fn client_wakes(&mut self, at: u32) {
        let client = &mut self.clients[at as usize];
        if client.woken.is_some_and(|woken| woken <= self.now) {
            client.woken = None;
            client.relay.tick(self.now);
            self.pump_client(at);
        }
    }

    fn pump_client(&mut self, at: u32) {
        let now = self.now;
        loop {
            let client = &mut self.clients[at as usize];
            if let Some(action) = client.relay.poll_action(now) {
                self.client_does(at, action);
                continue;
            }
            client.relay.balance(now);
            if !client.relay.wants_cut(now) {
                break;
            }
            let (dirs, sum) = (
                std::mem::take(&mut client.dirs),
                std::mem::take(&mut client.sum),
            );
            client.relay.cut(now, (dirs > 0).then(|| delta(dirs, sum)));
        }
        while let Some(message) = self.clients[at as usize].relay.poll_server() {
            let jitter = self.jitter(self.setup.latency / 10);
            let client = &mut self.clients[at as usize];
            client.up_clear = client.up_clear.max(now + self.setup.latency + jitter);
            let arrives = client.up_clear;
            self.at(
                arrives,
                Event::ServerGets(ConnId(at.into()), Box::new(message)),
            );
        }
        let client = &mut self.clients[at as usize];
        let wish = client.relay.poll_timeout().map(|wish| wish.max(now));
        if let Some(wish) = wish
            && client.woken.is_none_or(|woken| wish < woken)
        {
            client.woken = Some(wish);
            self.at(wish, Event::ClientWakes(at));
        }
    }

    fn client_does(&mut self, at: u32, action: RelayAction) {
        match action {
            RelayAction::Begin(_) => self.begin(at),
            RelayAction::Worker(Action::Send { conn, message }) => {
                let arrives = self.now + local(conn);
                self.at(arrives, Event::WorkerGets(conn, Box::new(message)));
            }
            RelayAction::Worker(Action::Applied {
                result: Some(delta),
                ..
            }) => {
                let client = &mut self.clients[at as usize];
                client.dirs += delta.walk.directories;
                client.sum = client.sum.wrapping_add(sum_of(&delta));
            }
            RelayAction::Worker(Action::Lost { reason, .. }) => {
                panic!("a worker was lost: {reason}")
            }
            RelayAction::End(reason) => panic!("a client has ended: {reason:?}"),
            RelayAction::DropServer(_) | RelayAction::ServerLost => panic!("a link was lost"),
            RelayAction::ServerBack | RelayAction::Kept(_) | RelayAction::Worker(_) => {}
        }
    }

    /// A job begins at a client. Workers are numbered client by client, and all clients begin in order.
    fn begin(&mut self, at: u32) {
        let view = RootView::Seen(facts());
        self.clients[at as usize].relay.ready(vec![view]);
        for number in 0..self.setup.workers {
            let worker = at * self.setup.workers + number;
            while self.workers.len() <= worker as usize {
                let interval = self.setup.commit_interval;
                let next = self.workers.len() as u64;
                self.workers.push(Worker::new(next, interval));
            }
            let now = self.now;
            self.workers[worker as usize]
                .uplink
                .connected(now, ConnId(worker.into()));
            self.flush_worker(worker);
        }
    }

    // Workers.

    fn worker_gets(&mut self, conn: ConnId, message: Down) {
        let worker = &mut self.workers[conn.0 as usize];
        let was_busy = worker.is_busy();
        worker.message(self.now, conn, message, self.setup.cost, &self.setup.shape);
        self.note_busy(conn.0 as u32, was_busy);
        self.flush_worker(conn.0 as u32);
    }

    fn worker_steps(&mut self, at: u32) {
        let worker = &mut self.workers[at as usize];
        if worker.planned.is_none_or(|planned| planned != self.now) {
            return;
        }
        worker.planned = None;
        let was_busy = worker.is_busy();
        worker.walk(self.now, self.setup.cost, &self.setup.shape);
        worker.tell_hunger(self.now);
        self.note_busy(at, was_busy);
        self.flush_worker(at);
    }

    fn worker_ticks(&mut self, at: u32) {
        let worker = &mut self.workers[at as usize];
        if worker
            .planned_tick
            .take_if(|planned| *planned == self.now)
            .is_some()
        {
            worker.tick(self.now);
            self.flush_worker(at);
        }
    }

    fn note_busy(&mut self, at: u32, was_busy: bool) {
        match (was_busy, self.workers[at as usize].is_busy()) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy -= 1,
            _ => return,
        }
        if self.busy * 10 >= self.workers.len() as u64 * 9 {
            let since = self.now - START;
            self.figures.spread.get_or_insert(since);
            self.figures.spread_until = since;
        }
    }

    fn flush_worker(&mut self, at: u32) {
        while let Some(message) = self.workers[at as usize].uplink.poll_send() {
            let arrives = self.now + local(ConnId(at.into()));
            self.at(
                arrives,
                Event::FromWorker(ConnId(at.into()), Box::new(message)),
            );
        }
        let (now, cost) = (self.now, self.setup.cost);
        let worker = &mut self.workers[at as usize];
        let step = worker.next(cost).map(|step| step.max(now));
        let step = step.filter(|&step| worker.planned.is_none_or(|planned| step < planned));
        worker.planned = step.or(worker.planned);
        let tick = worker.uplink.poll_timeout().map(|tick| tick.max(now));
        let tick = tick.filter(|&tick| worker.planned_tick.is_none_or(|planned| tick < planned));
        worker.planned_tick = tick.or(worker.planned_tick);
        if let Some(step) = step {
            self.at(step, Event::WorkerSteps(at));
        }
        if let Some(tick) = tick {
            self.at(tick, Event::WorkerTicks(at));
        }
    }
}

/// How long a message takes between a worker and its client: not the same for all.
fn local(conn: ConnId) -> Duration {
    LOCAL + Duration::from_nanos(conn.0 * 7919 % 10_000)
}
