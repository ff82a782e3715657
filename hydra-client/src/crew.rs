//! The workers of a job: who runs, who is to be started when, who is being stopped.
//!
//! ```text
//!   post: waiting until start_at ──► starting ──Hello──► at work
//!            ▲                          │                   │
//!            └────── it died, or was dismissed ◄────────────┘      dismissed ones linger until reaped
//! ```
//!
//! A post whose workers die young waits longer each time. Several deaths in a row before their Hello, with no work
//! done meanwhile, mean that workers cannot run here at all. Nothing here waits; which worker does what is the ledger's.

use crate::config::Config;
use crate::logs::LogDesk;
use crate::watch::{self, Place, Rounds, Watch};
use crate::worker::{Worker, WorkerEvent};
use hydra_proto::ids::{ConnId, ItemId};
use hydra_proto::ledger::Time;
use hydra_proto::logs::WorkerStart;
use hydra_proto::message::Down;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Deaths in a row, before Hello or with a refusal, after which the job is given up.
const UNBORN_MAX: u32 = 5;
/// A worker that lived shorter than this died young.
const YOUNG: Duration = Duration::from_secs(1);
/// The first pause after a worker died young; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_DOUBLINGS_MAX: u32 = 7;
/// Workers that were killed and do not die, for each post, before the job is given up.
const LINGERING_PER_POST: usize = 2;

pub(crate) struct Crew {
    config: Arc<Config>,
    events: mpsc::Sender<WorkerEvent>,
    desk: LogDesk,
    posts: Vec<Post>,
    /// Processes that were killed and are not reaped yet, with their pids.
    lingering: BTreeMap<ConnId, u32>,
    /// Those whose mount is known to be dead.
    excused: BTreeSet<ConnId>,
    stopping: bool,
    next_conn: u64,
    nonce: u64,
    /// Deaths before Hello, and refusals, since some worker has done some work.
    unborn: u32,
    /// How the last of them died.
    last_words: String,
    /// How long a system call may take.
    stall: Duration,
    rounds: Option<Rounds>,
}

/// A worker that hangs.
#[derive(Debug)]
pub(crate) struct Hung {
    pub(crate) conn: ConnId,
    pub(crate) in_hand: Option<ItemId>,
    /// What it hangs at.
    pub(crate) place: Place,
    /// The same in words.
    pub(crate) reason: String,
}

#[derive(Debug)]
struct Post {
    number: u32,
    worker: Option<Running>,
    start_at: Time,
    /// Workers in a row that died young.
    young: u32,
}

#[derive(Debug)]
struct Running {
    worker: Worker,
    since: Time,
    /// Whether it has said Hello.
    born: bool,
    watch: Watch,
}

impl Crew {
    pub(crate) fn new(
        config: Arc<Config>,
        events: mpsc::Sender<WorkerEvent>,
        desk: LogDesk,
    ) -> Self {
        Self {
            config,
            events,
            desk,
            posts: Vec::new(),
            lingering: BTreeMap::new(),
            excused: BTreeSet::new(),
            stopping: false,
            next_conn: 1,
            nonce: rand::random(),
            unborn: 0,
            last_words: String::new(),
            stall: Duration::MAX,
            rounds: None,
        }
    }

    /// Starts the workers of a job. Those whose system calls take as long as `stall` are taken to hang.
    pub(crate) fn hire(&mut self, now: Time, stall: Duration) {
        self.unborn = 0;
        self.stall = stall;
        self.rounds = Some(Rounds::new(now, stall));
        self.stopping = false;
        self.posts = (1..=self.config.workers.max(1))
            .map(|number| Post {
                number,
                worker: None,
                start_at: now,
                young: 0,
            })
            .collect();
        self.tick(now);
    }

    /// Starts the workers whose time has come, and gives up those that do not say Hello.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.stopping {
            return;
        }
        let patience = self.config.timings.worker_start;
        for index in 0..self.posts.len() {
            let Some(post) = self.posts.get(index) else {
                return;
            };
            match &post.worker {
                None if now >= post.start_at => self.start(now, index),
                Some(running) if !running.born && now >= running.since + patience => {
                    let conn = running.worker.conn;
                    self.note_death(now, conn, "it did not say Hello in time");
                }
                _ => {}
            }
        }
    }

    fn start(&mut self, now: Time, index: usize) {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let Some(post) = self.posts.get_mut(index) else {
            return;
        };
        let number = post.number;
        let nonce = self.nonce.wrapping_add(conn.0);
        let (desk, log_filter) = (&self.desk, self.config.log_filter.clone());
        let introduce = |pid| WorkerStart {
            worker: number,
            nonce,
            log: desk.expect(pid, number),
            log_filter,
        };
        match Worker::start(&self.config, conn, introduce, self.events.clone()) {
            Ok(worker) => {
                debug!(worker = number, pid = worker.pid, "worker started");
                post.worker = Some(Running {
                    worker,
                    since: now,
                    born: false,
                    watch: Watch::default(),
                });
            }
            Err(error) => {
                let program = self.config.worker.program.display();
                self.last_words = format!("cannot start {program}: {error}");
                self.unborn += 1;
                post.postpone(now);
            }
        }
    }

    /// When [`Crew::tick`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        if self.stopping {
            return None;
        }
        let patience = self.config.timings.worker_start;
        let deadlines = self.posts.iter().filter_map(|post| match &post.worker {
            None => Some(post.start_at),
            Some(running) => (!running.born).then(|| running.since + patience),
        });
        let round = self.rounds.as_ref().map(Rounds::due);
        deadlines.chain(round).min()
    }

    /// Looks what the workers are doing, if it is time to: those that hang, which are to be dismissed.
    pub(crate) fn look_around(&mut self, now: Time) -> Vec<Hung> {
        let is_due = self.rounds.as_mut().is_some_and(|rounds| rounds.begin(now));
        if self.stopping || !is_due {
            return Vec::new();
        }
        let stall = self.stall;
        let running = self.posts.iter_mut().filter_map(|p| p.worker.as_mut());
        running.filter_map(|running| running.look(stall)).collect()
    }

    /// Sends to a worker. One that takes nothing any more is killed; it comes back as an exit.
    pub(crate) fn send(&mut self, conn: ConnId, message: Down) -> bool {
        match self.running(conn) {
            Some(running) => running.worker.send(message),
            None => true,
        }
    }

    /// A worker has said Hello.
    pub(crate) fn born(&mut self, conn: ConnId) {
        if let Some(running) = self.running(conn) {
            running.born = true;
        }
    }

    /// A worker has done some work: workers can work here.
    pub(crate) fn works(&mut self) {
        self.unborn = 0;
    }

    /// Kills a worker; its post is filled again. False if it is gone already.
    pub(crate) fn dismiss(&mut self, now: Time, conn: ConnId, reason: &str) -> bool {
        self.note_death(now, conn, reason)
    }

    /// A worker hangs on a mount that is known to be dead: it does not speak against this client.
    pub(crate) fn excuse(&mut self, conn: ConnId) {
        self.excused.insert(conn);
    }

    /// A worker is reaped. True if nothing was known of its end before.
    pub(crate) fn exited(&mut self, now: Time, conn: ConnId, reason: &str) -> bool {
        let news = self.note_death(now, conn, reason);
        self.excused.remove(&conn);
        if let Some(pid) = self.lingering.remove(&conn) {
            self.desk.forget(pid);
        }
        news
    }

    fn note_death(&mut self, now: Time, conn: ConnId, reason: &str) -> bool {
        let is_its = |post: &&mut Post| {
            let running = post.worker.as_ref();
            running.is_some_and(|running| running.worker.conn == conn)
        };
        let Some(post) = self.posts.iter_mut().find(is_its) else {
            return false;
        };
        let Some(running) = post.worker.take() else {
            return false;
        };
        let pid = running.worker.pid;
        self.lingering.insert(conn, pid);
        if self.stopping {
            return true;
        }
        warn!(worker = post.number, pid, reason, "worker lost");
        match now.saturating_sub(running.since) < YOUNG {
            true => post.postpone(now),
            false => post.young = 0,
        }
        post.start_at = post.start_at.max(now);
        if !running.born {
            self.unborn += 1;
            self.last_words = reason.to_owned();
        }
        true
    }

    /// Why workers cannot go on here at all.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let lingering = self.lingering.len().saturating_sub(self.excused.len());
        if self.unborn >= UNBORN_MAX {
            let last = &self.last_words;
            return Err(format!(
                "workers do not work here: {UNBORN_MAX} in a row ended before they began; the last: {last}"
            ));
        }
        if lingering > LINGERING_PER_POST * self.posts.len() && !self.posts.is_empty() {
            return Err(format!(
                "{lingering} workers hang and cannot be killed: a file system does not answer"
            ));
        }
        Ok(())
    }

    /// A worker left because it cannot do this job; counted like a death before Hello.
    pub(crate) fn note_refusal(&mut self, reason: &str) {
        self.unborn += 1;
        self.last_words = reason.to_owned();
    }

    /// Asks all to end.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        for running in self.posts.iter().filter_map(|post| post.worker.as_ref()) {
            // One that takes nothing is killed soon.
            running.worker.send(Down::Stop);
        }
    }

    /// Kills all that still run.
    pub(crate) fn kill(&mut self) {
        for post in std::mem::take(&mut self.posts) {
            if let Some(Running { worker, .. }) = post.worker {
                self.lingering.insert(worker.conn, worker.pid);
            }
        }
    }

    /// Whether all are reaped.
    pub(crate) fn is_gone(&self) -> bool {
        self.lingering.is_empty() && self.posts.iter().all(|post| post.worker.is_none())
    }

    /// Leaves behind those that do not die, with a warning.
    pub(crate) fn abandon(&mut self) {
        self.excused.clear();
        for (_, pid) in std::mem::take(&mut self.lingering) {
            warn!(pid, "worker cannot be killed: left behind");
            self.desk.forget(pid);
        }
    }

    fn running(&mut self, conn: ConnId) -> Option<&mut Running> {
        let mut running = self.posts.iter_mut().filter_map(|p| p.worker.as_mut());
        running.find(|running| running.worker.conn == conn)
    }
}

impl Running {
    fn look(&mut self, stall: Duration) -> Option<Hung> {
        if !self.watch.look(self.worker.doing()) {
            return None;
        }
        let doing = self.watch.found()?;
        let place = Place::of(self.worker.pid, doing);
        Some(Hung {
            conn: self.worker.conn,
            in_hand: doing.item,
            reason: watch::describe(&place, doing, stall),
            place,
        })
    }
}

impl Post {
    fn postpone(&mut self, now: Time) {
        let pause = PAUSE_MIN * (1 << self.young.min(PAUSE_DOUBLINGS_MAX));
        self.young += 1;
        self.start_at = now + pause;
    }
}
