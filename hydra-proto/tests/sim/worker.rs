//! A model of the worker: what walks in it obeys the rules of the real walk, over the implicit tree.
//!
//! It pops, handles, pushes what it finds and cuts commits at boundaries; a directory in hand can be cut
//! in the middle by replacing it with pieces; what is suspected goes in single steps.

use super::hand::{At, Hand, names_of, open};
use super::rng::Rng;
use super::total::Total;
use super::tree::{Entry, Poison, Tree};
use hydra_proto::codec;
use hydra_proto::ids::{ConnId, ItemId};
use hydra_proto::ledger::{Frontier, Time, Uplink, UplinkConfig, UplinkEvent, Work};
use hydra_proto::message::{Delta, Down, Ready, RootFacts, RootView, Up};
use hydra_proto::walk::{FileType, WalkSummary};

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was done.
    Went,
    /// There is nothing to do until a message comes.
    Idle,
    /// It waits for its lease.
    Barred,
    /// It died of what it touched.
    Died,
}

/// What a worker may be told to do wrong, and how it works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub acts: bool,
    /// It puts on record what it acts on, and waits for that.
    pub intents: bool,
    /// It does not wait.
    pub hasty: bool,
    pub afters: bool,
    pub commit_interval: Time,
    /// How often, of a hundred, it splits a directory although nobody asked.
    pub split_percent: u64,
    /// Commits that are larger go in parts.
    pub part_bytes: usize,
}

/// What a worker acted on.
#[derive(Debug)]
pub(crate) struct Acted {
    pub id: u32,
    /// Where that is.
    pub place: At,
    pub name: Vec<u8>,
    /// It was told that a worker that was lost may have acted on it.
    pub begun: bool,
}

/// How much a worker with intents looks for before it acts.
const AHEAD: u64 = 24;

/// How many directories a frugal worker finds in one before it puts off the rest.
const FRUGAL: usize = 2;

#[derive(Debug)]
pub(crate) struct Worker {
    pub uid: u64,
    pub client: usize,
    pub conn: ConnId,
    pub habits: Habits,
    pub alive: bool,
    pub stopped: bool,
    pub stepping: bool,
    /// How many times as long as others it takes.
    pub slow: u32,
    pub uplink: Uplink,
    frontier: Option<Frontier<At>>,
    hand: Option<Hand>,
    total: Total,
    walk: WalkSummary,
    next_cut: Time,
    paused: bool,
    frugal: bool,
    /// A careful step waits to be committed: nothing else may begin before.
    must_cut: bool,
    told_hungry: bool,
    /// What it acted on in the last step.
    pub acted: Option<Acted>,
    rng: Rng,
}

impl Worker {
    pub(crate) fn new(uid: u64, client: usize, conn: ConnId, habits: Habits, now: Time) -> Self {
        let mut uplink = Uplink::new(UplinkConfig {
            name: format!("worker {uid}"),
            workers: 1,
            nonce: uid,
            release: String::new(),
            resumable: false,
            uncut: false,
        });
        uplink.limit_parts(habits.part_bytes);
        uplink.connected(now, conn);
        Self {
            uid,
            client,
            conn,
            habits,
            alive: true,
            stopped: false,
            stepping: false,
            slow: 1,
            uplink,
            frontier: None,
            hand: None,
            total: Total::default(),
            walk: WalkSummary::default(),
            next_cut: now,
            paused: false,
            frugal: false,
            must_cut: false,
            told_hungry: false,
            acted: None,
            rng: Rng::new(uid ^ 0x776f_726b),
        }
    }

    /// The item on record that the work in hand stems from.
    pub(crate) fn in_hand(&self) -> Option<ItemId> {
        self.hand.as_ref().map(|hand| hand.key.origin)
    }

    /// Whether what is in hand is suspected already.
    pub(crate) fn is_careful(&self) -> bool {
        self.hand.as_ref().is_some_and(|hand| hand.key.careful)
    }

    pub(crate) fn is_working(&self) -> bool {
        self.hand.is_some()
    }

    pub(crate) fn message(&mut self, now: Time, conn: ConnId, message: Down) {
        self.uplink.handle(now, conn, message);
        self.settle(now);
    }

    pub(crate) fn tick(&mut self, now: Time) {
        let load = self
            .frontier
            .as_ref()
            .map(Frontier::load)
            .unwrap_or_default();
        self.uplink.tick(now, load);
        self.settle(now);
    }

    pub(crate) fn closed(&mut self, now: Time) {
        self.uplink.closed(now, self.conn);
        self.settle(now);
    }

    /// The talking thread: takes note of what the session brought, and gives what is on record.
    fn settle(&mut self, now: Time) {
        while let Some(event) = self.uplink.poll_event() {
            match event {
                UplinkEvent::Started(welcome) => {
                    let mut frontier = Frontier::new(welcome.ids);
                    if welcome.job.walk.intents {
                        frontier.wait_for_record();
                    }
                    self.frontier = Some(frontier);
                    let view = RootView::Seen(facts());
                    let roots = welcome.job.roots.iter().map(|_| view.clone()).collect();
                    let epoch = self.uplink.epoch();
                    self.uplink.send(Up::Ready(Ready { epoch, roots }));
                }
                UplinkEvent::Granted(grant) => {
                    if let Some(frontier) = &mut self.frontier {
                        self.told_hungry &= grant.items.is_empty();
                        frontier.accept(grant);
                    }
                }
                UplinkEvent::Asked(shed) => {
                    if let Some(frontier) = &mut self.frontier {
                        frontier.ask(shed);
                    }
                }
                UplinkEvent::Paused(paused) => self.paused = paused,
                UplinkEvent::Frugal(frugal) => self.frugal = frugal,
                UplinkEvent::Over(_) | UplinkEvent::Drop(_) | UplinkEvent::Lost => {
                    self.alive = false;
                }
                UplinkEvent::Resumed | UplinkEvent::Kept(_) => {}
            }
        }
        let Some(frontier) = &mut self.frontier else {
            return;
        };
        if self.hand.is_some()
            && self.uplink.has_window()
            && let Some(cut) = frontier.give()
        {
            self.uplink.commit(cut);
        }
        self.cut_if_due(now);
        self.tell_hunger(now);
    }

    fn tell_hunger(&mut self, now: Time) {
        let Some(frontier) = &self.frontier else {
            return;
        };
        let load = frontier.load();
        if load.hungry && !self.told_hungry {
            self.told_hungry = true;
            self.uplink.beat(now, load);
        }
    }

    fn cut_if_due(&mut self, now: Time) {
        let Some(frontier) = &self.frontier else {
            return;
        };
        let asked = frontier.asked().is_some();
        let dry = frontier.is_dry();
        let due = now >= self.next_cut && frontier.has_news();
        let gives = frontier.could_give();
        if (dry && (frontier.has_news() || asked)) || due || gives {
            self.cut(now);
        }
    }

    /// Commits, if that can be done now.
    fn cut(&mut self, now: Time) -> bool {
        let Some(frontier) = &mut self.frontier else {
            return false;
        };
        if self.hand.is_some() || !self.uplink.has_window() || !frontier.can_cut() {
            return false;
        }
        let delta = (self.total != Total::default()).then(|| Delta {
            walk: std::mem::take(&mut self.walk),
            plugin: codec::encode(&std::mem::take(&mut self.total)).unwrap_or_default(),
            rows: Vec::new(),
            lost_workers: 0,
            segments: Vec::new(),
        });
        let Some(cut) = frontier.cut(delta) else {
            return false;
        };
        self.told_hungry = cut.load.hungry;
        self.must_cut = false;
        self.next_cut = now + self.habits.commit_interval;
        self.uplink.commit(cut);
        true
    }

    /// The walking thread goes one step.
    pub(crate) fn step(&mut self, now: Time, tree: &Tree) -> Step {
        self.acted = None;
        if self.frontier.is_none() || !self.alive {
            return Step::Idle;
        }
        if self.hand.is_none() {
            if self.must_cut && !self.cut(now) {
                return Step::Idle;
            }
            self.cut_if_due(now);
            let step = self.take(tree);
            if step == Step::Idle && self.habits.intents {
                // What waits for its acknowledgement must be on its way.
                let has_news = |frontier: &Frontier<At>| frontier.has_news();
                if self.frontier.as_ref().is_some_and(has_news) {
                    self.cut(now);
                }
            }
            self.tell_hunger(now);
            return step;
        }
        let wary = self.hand.as_ref().is_some_and(|hand| hand.key.wary);
        let step = match self.is_careful() {
            true => self.careful_step(now, tree),
            false => self.plain_step(now, tree),
        };
        if wary && self.hand.is_none() && step == Step::Went {
            self.must_cut = !self.cut(now);
        }
        self.settle(now);
        step
    }

    /// Takes something in hand.
    fn take(&mut self, tree: &Tree) -> Step {
        let Some(frontier) = self.frontier.as_mut().filter(|_| !self.paused) else {
            return Step::Idle;
        };
        let work = match self.habits.intents && !self.habits.hasty {
            true => frontier.pop_ready(self.uplink.safe(), AHEAD),
            false => frontier.pop(),
        };
        let Some((key, work)) = work else {
            return Step::Idle;
        };
        let hand = open(key, work, tree);
        let killed = hand.whole && tree.dirs[hand.dir].poison == Some(Poison::Open);
        if hand.root && !killed {
            self.total.add(tree.roots[hand.place.0.0 as usize]);
            self.walk.count(FileType::Directory);
        }
        self.hand = Some(hand);
        match killed {
            true => Step::Died,
            false => Step::Went,
        }
    }

    fn plain_step(&mut self, now: Time, tree: &Tree) -> Step {
        let wants_split = self.wants_split(now);
        let Some(hand) = &mut self.hand else {
            return Step::Idle;
        };
        let dir = &tree.dirs[hand.dir];
        if self.habits.intents && (hand.whole || hand.next.is_some()) {
            return self.intend(now, tree);
        }
        if hand.read.is_empty() {
            hand.read_on(dir.entries.len());
        }
        if wants_split && hand.left(dir.entries.len()) > 3 && self.split(tree) {
            return Step::Went;
        }
        let Some(hand) = &mut self.hand else {
            return Step::Idle;
        };
        if let Some(frontier) = &mut self.frontier {
            frontier.set_splittable(hand.left(dir.entries.len()) > 8);
        }
        match hand.read.front().copied() {
            Some(index) => self.handle(now, tree, index),
            None => self.finish(now, tree),
        }
    }

    /// Puts what a listing holds on record: most often all of it at once.
    fn intend(&mut self, now: Time, tree: &Tree) -> Step {
        let Some(hand) = &mut self.hand else {
            return Step::Idle;
        };
        let entries = tree.dirs[hand.dir].entries.len();
        hand.read_on(entries);
        while hand.next.is_some() && !self.rng.chance(5) {
            hand.read_on(entries);
        }
        if hand.read.is_empty() && !self.habits.afters {
            return self.finish(now, tree);
        }
        match self.split(tree) {
            true => Step::Went,
            // Until there are ids.
            false => Step::Barred,
        }
    }

    fn wants_split(&mut self, now: Time) -> bool {
        let found = self.hand.as_ref().map_or(0, |hand| hand.found.len());
        if self.frugal && found > FRUGAL {
            return true;
        }
        let Some(frontier) = &self.frontier else {
            return false;
        };
        let asked = frontier.asked().is_some() && frontier.held() < 2;
        let late = now > self.next_cut + 4 * self.habits.commit_interval;
        asked || late || self.rng.chance(self.habits.split_percent)
    }

    /// Handles one entry of what is in hand.
    fn handle(&mut self, now: Time, tree: &Tree, index: usize) -> Step {
        let Some(hand) = &mut self.hand else {
            return Step::Idle;
        };
        let entry: &Entry = &tree.dirs[hand.dir].entries[index];
        if entry.poison.is_some() {
            return Step::Died;
        }
        if self.habits.acts {
            if self.uplink.acts_until().is_none_or(|until| until <= now) {
                return Step::Barred;
            }
            self.acted = Some(Acted {
                id: entry.id,
                place: hand.place.clone(),
                name: entry.name.clone(),
                begun: hand.begun,
            });
        }
        hand.read.pop_front();
        self.total.add(entry.id);
        self.walk.count(entry.file_type);
        if entry.file_type == FileType::Directory {
            hand.found.push(&entry.name);
        }
        Step::Went
    }

    /// All of what is in hand is handled.
    fn finish(&mut self, now: Time, tree: &Tree) -> Step {
        let (Some(hand), Some(frontier)) = (self.hand.take(), &mut self.frontier) else {
            return Step::Idle;
        };
        if (hand.whole || hand.end) && self.habits.afters {
            self.total.add(tree.dirs[hand.dir].after);
        }
        frontier.push_dirs(&hand.place, hand.found);
        frontier.finish();
        self.cut_if_due(now);
        Step::Went
    }

    /// Replaces what is in hand by pieces.
    fn split(&mut self, tree: &Tree) -> bool {
        let (Some(mut hand), Some(frontier)) = (self.hand.take(), &mut self.frontier) else {
            return false;
        };
        if self.habits.afters && hand.visit.is_none() {
            hand.visit = frontier.take_id();
            if hand.visit.is_none() {
                self.hand = Some(hand);
                return false;
            }
        }
        let dir = hand.place;
        if let (true, Some(visit)) = (hand.whole, hand.visit) {
            frontier.push(Work::After {
                dir: dir.clone(),
                visit,
            });
        }
        if let Some(next) = hand.next {
            let read = tree.dirs[hand.dir].listing(next);
            frontier.push(Work::Rest {
                dir: dir.clone(),
                visit: hand.visit,
                read,
            });
        }
        let half = hand.read.split_off(hand.read.len() / 2);
        for part in [half, hand.read] {
            if !part.is_empty() {
                frontier.push(names_of(
                    tree,
                    hand.dir,
                    &dir,
                    (hand.visit, hand.begun),
                    &part,
                ));
            }
        }
        frontier.push_dirs(&dir, hand.found);
        frontier.finish();
        true
    }

    /// One step with a suspect: cut it into pieces, or handle what cannot be cut; and commit that.
    fn careful_step(&mut self, now: Time, tree: &Tree) -> Step {
        let Some(hand) = &mut self.hand else {
            return Step::Idle;
        };
        let entries = tree.dirs[hand.dir].entries.len();
        let reads = hand.read.is_empty() && hand.next.is_some();
        if hand.read.is_empty() {
            hand.read_on(entries);
        }
        let whole_or_more = (hand.whole && entries > 0) || hand.next.is_some();
        // What was only read now is not on record, though it be a single name.
        let intends = self.habits.intents && reads && !hand.read.is_empty();
        if whole_or_more || intends || hand.read.len() > 1 {
            if !self.split(tree) {
                return Step::Barred;
            }
        } else {
            let step = match hand.read.front().copied() {
                Some(index) => self.handle(now, tree, index),
                None => Step::Went,
            };
            if step != Step::Went {
                return step;
            }
            self.finish(now, tree);
        }
        self.must_cut = !self.cut(now);
        Step::Went
    }
}

fn facts() -> RootFacts {
    RootFacts {
        fs_type: "sim".to_owned(),
        fs_id: "sim".to_owned(),
        inode: 1,
        directory: true,
        on_system_disk: false,
    }
}
