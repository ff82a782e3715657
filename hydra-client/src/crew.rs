//! The workers of a job: who runs, who is to be started when, who is being stopped.
//!
//! ```text
//!   post: waiting until start_at ──► starting ──Hello──► at work
//!            ▲                          │                   │
//!            └────── it died, or was dismissed ◄────────────┘      dismissed ones linger until reaped
//! ```
//!
//! A worker that comes no further for a moment has a stand-in, on a post of its own, so that as many work as should.
//!
//! A post whose workers die young waits longer each time. Several deaths in a row before their Hello, with no work
//! done meanwhile, mean that workers cannot run here at all. Nothing here waits; which worker does what is the ledger's.

use crate::config::Config;
use crate::logs::LogDesk;
use crate::watch::{self, Place, Rounds, Watch};
use crate::worker::{Spawned, Worker, WorkerEvent};
use hydra_proto::ids::{ConnId, ItemId};
use hydra_proto::ledger::Time;
use hydra_proto::logs::WorkerStart;
use hydra_proto::message::Down;
use hydra_proto::words::not_started;
use std::collections::BTreeMap;
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
/// So many workers may be on their way to their Hello. The others begin after them: starting a worker takes the
/// dispatcher's time, and hundreds at once are none of them ready in time.
const STARTING_MAX: usize = 16;
/// The first worker of a job has the machine to itself until it has work. If it takes longer than this to get there, the
/// others are started all the same.
const ALONE_MAX: Duration = Duration::from_millis(50);
/// So many stand-ins there may be, even where there are fewer workers than that.
const STAND_INS_MIN: usize = 4;

pub(crate) struct Crew {
    config: Arc<Config>,
    events: mpsc::Sender<WorkerEvent>,
    desk: LogDesk,
    posts: Vec<Post>,
    /// A process that waits for a job.
    spare: Option<Spawned>,
    /// Processes that were killed and are not reaped yet, with their pids.
    lingering: BTreeMap<ConnId, u32>,
    stopping: bool,
    /// The first worker has no work yet, and the others wait for that.
    alone: bool,
    next_conn: u64,
    nonce: u64,
    /// Deaths before Hello, and refusals, since some worker has done some work.
    unborn: u32,
    /// When a worker has made room for another to start.
    room_since: Time,
    /// It was told that not all workers of this job can be started.
    is_short: bool,
    /// How the last of them died.
    last_words: String,
    /// How long a system call may take.
    stall: Duration,
    rounds: Option<Rounds>,
}

/// What a round has found.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Workers that hang, which are to be dismissed.
    pub(crate) hung: Vec<Hung>,
    /// Workers that come no further, since this round.
    pub(crate) standing: Vec<Hung>,
    /// Workers that come on again.
    pub(crate) moving: Vec<ConnId>,
    /// Idle stand-ins that are not needed any more: they are gone.
    pub(crate) retired: Vec<ConnId>,
}

/// A worker that hangs, or begins to.
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
            spare: None,
            lingering: BTreeMap::new(),
            stopping: false,
            alone: false,
            next_conn: 1,
            nonce: rand::random(),
            unborn: 0,
            room_since: Time::ZERO,
            is_short: false,
            last_words: String::new(),
            stall: Duration::MAX,
            rounds: None,
        }
    }

    /// Starts a process for the first worker of a job that is certain to come: it is ready when the job is.
    pub(crate) fn prepare(&mut self) {
        // If it fails, it is tried again when it is needed.
        self.spare = Spawned::new(&self.config).ok();
    }

    /// Starts the first worker of a job; the others follow by [`Crew::start_next`]. Those whose system calls take as
    /// long as `stall` are taken to hang.
    pub(crate) fn hire(&mut self, now: Time, stall: Duration) {
        self.unborn = 0;
        self.is_short = false;
        self.stall = stall;
        self.rounds = Some(Rounds::new(now, stall));
        self.stopping = false;
        self.alone = true;
        let others = (2..=self.config.workers).map(|number| Post::new(number, now + ALONE_MAX));
        self.posts = vec![Post::new(1, now)];
        self.posts.extend(others);
        self.start_next(now);
    }

    /// A worker has work: there may be some for the others, too.
    pub(crate) fn at_work(&mut self, now: Time) {
        if std::mem::replace(&mut self.alone, false) {
            let unused = self.posts.iter_mut().filter(|post| post.is_unused());
            unused.for_each(|post| post.start_at = post.start_at.min(now));
        }
    }

    /// Whether [`Crew::start_next`] has a worker to start.
    pub(crate) fn can_start(&self, now: Time) -> bool {
        self.due(now).is_some()
    }

    /// Starts one worker whose time has come. That holds up the caller for a moment, in which others are not served: so
    /// it is for when there is nothing else to do.
    pub(crate) fn start_next(&mut self, now: Time) {
        if let Some(index) = self.due(now) {
            self.start(now, index);
        }
    }

    fn due(&self, now: Time) -> Option<usize> {
        if self.stopping || self.room_to_start() == 0 {
            return None;
        }
        let is_due = |post: &Post| post.worker.is_none() && now >= post.start_at;
        self.posts.iter().position(is_due)
    }

    /// Gives up the workers that do not say Hello.
    pub(crate) fn tick(&mut self, now: Time) {
        let patience = self.config.timings.worker_start;
        let running = self.posts.iter().filter_map(|post| post.worker.as_ref());
        let late =
            |running: &&Running| !self.stopping && !running.born && now >= running.since + patience;
        let late: Vec<ConnId> = running.filter(late).map(|r| r.worker.conn).collect();
        for conn in late {
            self.note_death(now, conn, "it did not say Hello in time");
        }
    }

    /// How many workers may be started now.
    fn room_to_start(&self) -> usize {
        let running = self.posts.iter().filter_map(|post| post.worker.as_ref());
        STARTING_MAX.saturating_sub(running.filter(|running| !running.born).count())
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
        let spare = self.spare.take().map(Ok);
        match spare.unwrap_or_else(|| Spawned::new(&self.config)) {
            Ok(spawned) => {
                let worker = Worker::start(spawned, conn, introduce, self.events.clone());
                debug!(worker = number, pid = worker.pid, "worker started");
                post.worker = Some(Running {
                    worker,
                    since: now,
                    born: false,
                    watch: Watch::new(self.stall),
                });
            }
            Err(error) => {
                let program = self.config.worker.program.display();
                self.last_words = format!("cannot start {program}: {}", not_started(&error));
                post.postpone(now);
                self.note_shortage(&not_started(&error));
            }
        }
    }

    /// A worker could not be started. Those that run go on without it; where none does, workers cannot run here.
    fn note_shortage(&mut self, why: &str) {
        let mut running = self.posts.iter().filter_map(|post| post.worker.as_ref());
        if !running.any(|running| running.born) {
            self.unborn += 1;
        } else if !std::mem::replace(&mut self.is_short, true) {
            warn!(
                "not all {} workers can be started now: {why}",
                self.config.workers
            );
        }
    }

    /// When [`Crew::tick`] or [`Crew::start_next`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        if self.stopping {
            return None;
        }
        let patience = self.config.timings.worker_start;
        let has_room = self.room_to_start() > 0;
        let deadlines = self.posts.iter().filter_map(|post| match &post.worker {
            None => has_room.then_some(post.start_at.max(self.room_since)),
            Some(running) => (!running.born).then(|| running.since + patience),
        });
        let round = self.rounds.as_ref().map(Rounds::due);
        deadlines.chain(round).min()
    }

    /// Looks what the workers are doing, if it is time to.
    pub(crate) fn look_around(&mut self, now: Time) -> Round {
        let is_due = self.rounds.as_mut().is_some_and(|rounds| rounds.begin(now));
        let mut round = Round::default();
        if self.stopping || !is_due {
            return round;
        }
        let stall = self.stall;
        for running in self.posts.iter_mut().filter_map(|p| p.worker.as_mut()) {
            let stood = running.watch.stands();
            let hangs = running.watch.look(running.worker.doing());
            match (stood, running.watch.stands()) {
                (false, true) => round.standing.extend(running.hung(stall)),
                (true, false) => round.moving.push(running.worker.conn),
                _ => {}
            }
            if hangs {
                round.hung.extend(running.hung(stall));
            }
        }
        self.fit_posts(now, &mut round);
        round
    }

    /// How many posts there have to be, so that as many work as should while some come no further.
    fn wanted_posts(&self) -> usize {
        let running = self.posts.iter().filter_map(|post| post.worker.as_ref());
        let standing = running.filter(|running| running.watch.stands()).count();
        let workers = self.config.workers.max(1) as usize;
        workers + standing.min(workers.max(STAND_INS_MIN))
    }

    fn fit_posts(&mut self, now: Time, round: &mut Round) {
        let wanted = self.wanted_posts();
        while self.posts.len() < wanted {
            let taken = |number: &u32| self.posts.iter().any(|post| post.number == *number);
            let number = (1..).find(|number| !taken(number)).unwrap_or(u32::MAX);
            self.posts.push(Post::new(number, now));
        }
        while self.posts.len() > wanted
            && let Some(index) = self.posts.iter().rposition(Post::is_idle)
            && let Some(Running { worker, .. }) = self.posts.remove(index).worker
        {
            debug!(worker = index, "not needed any more");
            self.lingering.insert(worker.conn, worker.pid);
            round.retired.push(worker.conn);
        }
    }

    /// Sends to a worker. One that takes nothing any more is killed; it comes back as an exit.
    pub(crate) fn send(&mut self, conn: ConnId, message: Down) -> bool {
        match self.running(conn) {
            Some(running) => running.worker.send(message),
            None => true,
        }
    }

    /// A worker has said Hello.
    pub(crate) fn born(&mut self, now: Time, conn: ConnId) {
        if let Some(running) = self.running(conn) {
            running.born = true;
            self.room_since = now;
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

    /// A worker is reaped. True if nothing was known of its end before.
    pub(crate) fn exited(&mut self, now: Time, conn: ConnId, reason: &str) -> bool {
        let news = self.note_death(now, conn, reason);
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
        let number = post.number;
        let pid = running.worker.pid;
        self.room_since = now;
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
        // Where another stands in for it, nobody follows.
        if self.posts.len() > self.wanted_posts() {
            self.posts
                .retain(|post| post.worker.is_some() || post.number != number);
        }
        true
    }

    /// Why workers cannot go on here at all. Those that were left behind on mounts with a breaker do not count.
    pub(crate) fn verdict(&self, excused: usize) -> Result<(), String> {
        let lingering = self.lingering.len().saturating_sub(excused);
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
        self.stopping = true;
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
        for (_, pid) in std::mem::take(&mut self.lingering) {
            warn!(pid, "worker cannot be killed: left behind");
            self.desk.forget(pid);
        }
    }

    /// What a worker says that it is working on.
    pub(crate) fn in_hand(&mut self, conn: ConnId) -> Option<ItemId> {
        self.running(conn)?.worker.doing()?.item
    }

    fn running(&mut self, conn: ConnId) -> Option<&mut Running> {
        let mut running = self.posts.iter_mut().filter_map(|p| p.worker.as_mut());
        running.find(|running| running.worker.conn == conn)
    }
}

impl Running {
    fn hung(&self, stall: Duration) -> Option<Hung> {
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
    fn new(number: u32, start_at: Time) -> Self {
        Self {
            number,
            worker: None,
            start_at,
            young: 0,
        }
    }

    /// Whether no worker was ever here.
    fn is_unused(&self) -> bool {
        self.worker.is_none() && self.young == 0
    }

    fn is_idle(&self) -> bool {
        let running = self.worker.as_ref();
        running.is_some_and(|running| running.born && running.watch.is_idle())
    }

    fn postpone(&mut self, now: Time) {
        let pause = PAUSE_MIN * (1 << self.young.min(PAUSE_DOUBLINGS_MAX));
        self.young += 1;
        self.start_at = now + pause;
    }
}
