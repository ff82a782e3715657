//! The breaker of each mount: whether workers are sent there.
//!
//! ```text
//!   closed ──STALLS_MAX workers hang there, nothing is finished meanwhile──► open ──pause──► half-open
//!      ▲                                                                      ▲                 │
//!      │                                                                      └── the probe ────┤
//!      └─────────────────────── something there is finished ──────────────────────── hangs ─────┘
//! ```
//!
//! A worker that hangs counts only if nothing there was finished since it came no further: a directory that hangs makes
//! no dead mount. Open: nobody is sent there. Half-open: one worker gets one item, the probe. Each time it hangs the next pause is
//! twice as long. Where workers of earlier jobs still hang it begins half-open, or open if they are many. Nothing here looks
//! at a clock, a file or a worker.

use hydra_proto::ids::ConnId;
use hydra_proto::ledger::{Mount, Pass, Time};
use hydra_proto::message::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many workers hang on a mount before nobody is sent there any more.
pub(crate) const STALLS_MAX: u32 = 3;
/// While so many workers are left behind on a mount, those of earlier jobs included, no probe is sent after them.
const LEFT_BEHIND_MAX: usize = 8;
/// How often the pause doubles.
const DOUBLINGS_MAX: u32 = 6;
/// The shortest first pause. It is as long as a worker takes to be found hanging.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The most mounts that have a breaker.
const BREAKERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Time },
    HalfOpen,
}

#[derive(Debug)]
struct Breaker {
    number: u64,
    state: State,
    /// Workers that have hung since something was finished there.
    stalls: u32,
    /// Pauses that were not enough.
    doublings: u32,
    /// Workers that come no further there.
    standing: BTreeSet<ConnId>,
    /// Those of them since whose last step something there was finished.
    excused: BTreeSet<ConnId>,
    /// Workers that hung there and are not reaped yet.
    left: BTreeSet<ConnId>,
    /// Those of earlier jobs.
    earlier: BTreeSet<ConnId>,
    walls: Vec<Wall>,
}

/// Workers that were left behind, by mount point.
pub(crate) type LeftBehind = BTreeMap<Vec<u8>, BTreeSet<ConnId>>;

/// The breakers of a job at one client, by mount point. Mounts on which no worker has hung have none.
#[derive(Debug)]
pub(crate) struct Breakers {
    pause: Duration,
    next_number: u64,
    known: BTreeMap<Vec<u8>, Breaker>,
}

impl Breakers {
    /// System calls that take as long as `stall` are taken to hang.
    pub(crate) fn new(stall: Duration) -> Self {
        Self {
            pause: stall.max(PAUSE_MIN),
            next_number: 1,
            known: BTreeMap::new(),
        }
    }

    /// A job begins: workers of earlier ones still hang on a mount, which is behind these walls. Returns them if there are
    /// too many mounts for this one to have a breaker.
    pub(crate) fn haunted(
        &mut self,
        now: Time,
        mount: &[u8],
        workers: BTreeSet<ConnId>,
        walls: Vec<Wall>,
    ) -> BTreeSet<ConnId> {
        let Some(breaker) = self.breaker(mount, walls) else {
            return workers;
        };
        breaker.state = match workers.len() < LEFT_BEHIND_MAX {
            true => State::HalfOpen,
            false => State::Open { until: now },
        };
        breaker.earlier = workers;
        BTreeSet::new()
    }

    /// The job is over: the workers that hung, or began to, and are not reaped yet.
    pub(crate) fn into_left(self) -> LeftBehind {
        let left = self.known.into_iter().map(|(mount, mut breaker)| {
            breaker.left.append(&mut breaker.earlier);
            breaker.left.append(&mut breaker.standing);
            (mount, breaker.left)
        });
        left.filter(|(_, workers)| !workers.is_empty()).collect()
    }

    /// A worker comes no further on a mount, which is behind these walls. Says whether that mount is a new one.
    pub(crate) fn stands(&mut self, mount: &[u8], worker: ConnId, walls: Vec<Wall>) -> bool {
        let is_new = !self.known.contains_key(mount);
        match self.breaker(mount, walls) {
            Some(breaker) => breaker.standing.insert(worker) && is_new,
            None => false,
        }
    }

    /// A worker comes on again, or is gone.
    pub(crate) fn moves(&mut self, worker: ConnId) {
        for breaker in self.known.values_mut() {
            breaker.standing.remove(&worker);
            breaker.excused.remove(&worker);
        }
    }

    /// A worker hangs on a mount, which is behind these walls. Says whether that is why nobody is sent there any more.
    pub(crate) fn stalled(
        &mut self,
        now: Time,
        mount: &[u8],
        worker: ConnId,
        walls: Vec<Wall>,
    ) -> bool {
        let pause = self.pause;
        let Some(breaker) = self.breaker(mount, walls) else {
            return false;
        };
        breaker.left.insert(worker);
        breaker.standing.remove(&worker);
        if breaker.excused.remove(&worker) {
            return false;
        }
        breaker.stalls += 1;
        breaker.stalled(now, pause)
    }

    fn breaker(&mut self, mount: &[u8], walls: Vec<Wall>) -> Option<&mut Breaker> {
        if self.known.len() >= BREAKERS_MAX && !self.known.contains_key(mount) {
            self.known
                .retain(|_, breaker| breaker.is_trouble() || !breaker.earlier.is_empty());
        }
        if self.known.len() >= BREAKERS_MAX && !self.known.contains_key(mount) {
            return None;
        }
        let breaker = self.known.entry(mount.to_vec()).or_insert_with(|| {
            self.next_number += 1;
            Breaker::new(self.next_number)
        });
        breaker.walls = walls;
        Some(breaker)
    }

    /// Something was finished on the mounts with these numbers. Says whether workers are sent there again.
    pub(crate) fn answered(&mut self, numbers: &[u64]) -> bool {
        let mut changed = false;
        for breaker in self.known.values_mut() {
            if numbers.contains(&breaker.number) {
                changed |= breaker.state != State::Closed;
                (breaker.state, breaker.stalls, breaker.doublings) = (State::Closed, 0, 0);
                breaker.excused.append(&mut breaker.standing);
            }
        }
        changed
    }

    /// A worker that hung is reaped.
    pub(crate) fn reaped(&mut self, worker: ConnId) {
        for breaker in self.known.values_mut() {
            breaker.left.remove(&worker);
            breaker.earlier.remove(&worker);
        }
    }

    /// Workers of this job that hung on these mounts and are not reaped yet.
    pub(crate) fn left_behind(&self) -> usize {
        let trouble = self.known.values().filter(|breaker| breaker.is_trouble());
        trouble.map(|breaker| breaker.left.len()).sum()
    }

    /// Whether the pause of some breaker is over.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.known.values().any(|breaker| breaker.is_due(now))
    }

    /// Sends probes where the pause is over.
    pub(crate) fn probe(&mut self, now: Time) {
        for breaker in self
            .known
            .values_mut()
            .filter(|breaker| breaker.is_due(now))
        {
            breaker.state = State::HalfOpen;
        }
    }

    /// When the next pause is over that is not over yet.
    pub(crate) fn poll_timeout(&self, now: Time) -> Option<Time> {
        let pauses = self
            .known
            .values()
            .filter_map(|breaker| match breaker.state {
                State::Open { until } => Some(until),
                State::Closed | State::HalfOpen => None,
            });
        pauses.filter(|&until| until > now).min()
    }

    /// What the ledger is to hold back.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        self.known.values().map(Breaker::mount).collect()
    }
}

impl Breaker {
    fn new(number: u64) -> Self {
        Self {
            number,
            state: State::Closed,
            stalls: 0,
            doublings: 0,
            standing: BTreeSet::new(),
            excused: BTreeSet::new(),
            left: BTreeSet::new(),
            earlier: BTreeSet::new(),
            walls: Vec::new(),
        }
    }

    fn stalled(&mut self, now: Time, pause: Duration) -> bool {
        match self.state {
            State::Closed if self.stalls < STALLS_MAX => return false,
            State::Closed => {}
            State::HalfOpen => self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX),
            // One that was there before.
            State::Open { .. } => return false,
        }
        let until = now.saturating_add(pause.saturating_mul(1 << self.doublings));
        self.state = State::Open { until };
        true
    }

    fn is_trouble(&self) -> bool {
        self.stalls > 0 || self.state != State::Closed
    }

    fn is_due(&self, now: Time) -> bool {
        let is_over = matches!(self.state, State::Open { until } if until <= now);
        is_over && self.left.len() + self.earlier.len() < LEFT_BEHIND_MAX
    }

    fn mount(&self) -> Mount {
        Mount {
            number: self.number,
            walls: self.walls.clone(),
            pass: match self.state {
                State::Closed => Pass::All,
                State::HalfOpen => Pass::One,
                State::Open { .. } => Pass::None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    fn s(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    /// So many workers hang on a mount, at the same time.
    fn hang(
        breakers: &mut Breakers,
        now: Time,
        mount: &str,
        workers: std::ops::Range<u64>,
    ) -> bool {
        let hang = |n| breakers.stalled(now, mount.as_bytes(), ConnId(n), Vec::new());
        workers.map(hang).last().unwrap()
    }

    fn passes(breakers: &Breakers) -> Vec<Pass> {
        breakers.mounts().iter().map(|mount| mount.pass).collect()
    }

    fn numbers(breakers: &Breakers) -> Vec<u64> {
        breakers.mounts().iter().map(|mount| mount.number).collect()
    }

    /// Mount `m` is open since second 0; its workers are reaped.
    fn open() -> Breakers {
        let mut breakers = Breakers::new(STALL);
        assert!(hang(&mut breakers, s(0), "m", 0..3));
        (0..3).for_each(|n| breakers.reaped(ConnId(n)));
        breakers
    }

    #[test]
    fn some_stalls_open_it() {
        let mut breakers = Breakers::new(STALL);
        assert!(!hang(&mut breakers, s(0), "m", 0..2));
        assert_eq!(passes(&breakers), [Pass::All]);
        assert!(hang(&mut breakers, s(1), "m", 2..3));
        assert_eq!(passes(&breakers), [Pass::None]);
        assert_eq!(breakers.poll_timeout(s(1)), Some(s(11)));
    }

    #[test]
    fn stalls_with_an_answer_between_them_do_not() {
        let mut breakers = Breakers::new(STALL);
        hang(&mut breakers, s(0), "m", 0..2);
        breakers.answered(&numbers(&breakers));
        assert!(!hang(&mut breakers, s(1), "m", 2..4));
    }

    #[test]
    fn some_directories_that_hung_at_a_time_made_a_dead_mount() {
        let mut breakers = Breakers::new(STALL);
        for n in 0..4 {
            assert_eq!(breakers.stands(b"m", ConnId(n), Vec::new()), n == 0);
        }
        assert!(!breakers.answered(&numbers(&breakers)));
        assert!(!hang(&mut breakers, s(1), "m", 0..4));
        assert_eq!(breakers.left_behind(), 0);
        // Those that come no further after that count.
        for n in 4..7 {
            breakers.stands(b"m", ConnId(n), Vec::new());
        }
        assert!(hang(&mut breakers, s(2), "m", 4..7));
        assert_eq!(breakers.left_behind(), 7);
    }

    #[test]
    fn one_that_came_on_once_counts_the_next_time() {
        let mut breakers = Breakers::new(STALL);
        breakers.stands(b"m", ConnId(0), Vec::new());
        breakers.answered(&numbers(&breakers));
        breakers.moves(ConnId(0));
        breakers.stands(b"m", ConnId(0), Vec::new());
        assert!(hang(&mut breakers, s(1), "m", 0..3));
    }

    #[test]
    fn each_mount_has_its_own() {
        let mut breakers = Breakers::new(STALL);
        assert!(!hang(&mut breakers, s(0), "a", 0..2));
        assert!(!hang(&mut breakers, s(0), "b", 2..4));
        assert!(hang(&mut breakers, s(0), "b", 4..5));
        assert_eq!(passes(&breakers), [Pass::All, Pass::None]);
        assert_eq!(numbers(&breakers).len(), 2);
    }

    #[test]
    fn after_the_pause_a_probe_is_sent_and_each_that_hangs_doubles_the_next() {
        let mut breakers = open();
        let (mut now, mut pauses) = (s(0), Vec::new());
        for n in 0..9 {
            let until = breakers.poll_timeout(now).unwrap();
            assert!(!breakers.is_due(until - Duration::from_millis(1)));
            assert!(breakers.is_due(until));
            breakers.probe(until);
            assert_eq!(passes(&breakers), [Pass::One]);
            assert_eq!(breakers.poll_timeout(until), None);
            pauses.push((until - now).as_secs());
            now = until + STALL;
            assert!(hang(&mut breakers, now, "m", n..n + 1));
            breakers.reaped(ConnId(n));
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
    }

    #[test]
    fn an_answer_to_the_probe_closes_it_and_forgets_the_pauses() {
        let mut breakers = open();
        breakers.probe(s(10));
        hang(&mut breakers, s(20), "m", 3..4);
        breakers.probe(s(40));
        breakers.answered(&numbers(&breakers));
        assert_eq!(passes(&breakers), [Pass::All]);
        hang(&mut breakers, s(50), "m", 4..7);
        assert_eq!(breakers.poll_timeout(s(50)), Some(s(60)));
    }

    #[test]
    fn workers_that_were_there_before_do_not_lengthen_the_pause() {
        let mut breakers = open();
        assert!(!hang(&mut breakers, s(1), "m", 3..9));
        assert_eq!(breakers.poll_timeout(s(1)), Some(s(10)));
    }

    #[test]
    fn no_probe_follows_many_who_are_left_behind() {
        let mut breakers = Breakers::new(STALL);
        hang(&mut breakers, s(0), "m", 0..8);
        assert!(!breakers.is_due(s(100)));
        breakers.reaped(ConnId(5));
        assert!(breakers.is_due(s(100)));
    }

    #[test]
    fn each_job_left_as_many_behind_as_the_first() {
        let begin = |left: LeftBehind| {
            let mut breakers = Breakers::new(STALL);
            for (mount, workers) in left {
                breakers.haunted(s(0), &mount, workers, Vec::new());
            }
            breakers
        };
        let mut breakers = Breakers::new(STALL);
        hang(&mut breakers, s(0), "m", 0..3);
        hang(&mut breakers, s(0), "other", 9..10);
        breakers.reaped(ConnId(9));
        breakers.stands(b"m", ConnId(3), Vec::new());
        let mut breakers = begin(breakers.into_left());
        assert_eq!(passes(&breakers), [Pass::One]);
        assert_eq!(breakers.left_behind(), 0);
        // The probe hangs, and three after it.
        for (n, now) in (4..8).zip([10, 100, 1000, 10_000]) {
            assert!(hang(&mut breakers, s(now), "m", n..n + 1));
            assert_eq!(breakers.is_due(s(now * 9)), n < 7);
            breakers.probe(s(now * 9));
        }
        // Nobody follows them in the next job, until one of the first comes back.
        let mut breakers = begin(breakers.into_left());
        assert_eq!(passes(&breakers), [Pass::None]);
        assert!(!breakers.is_due(s(100)));
        breakers.reaped(ConnId(0));
        assert!(breakers.is_due(s(100)));
        breakers.probe(s(100));
        breakers.answered(&numbers(&breakers));
        assert_eq!(passes(&breakers), [Pass::All]);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut breakers = Breakers::new(STALL);
        for n in 0..BREAKERS_MAX {
            hang(&mut breakers, s(0), &n.to_string(), 0..3);
        }
        assert!(!hang(&mut breakers, s(0), "one more", 0..9));
        assert_eq!(passes(&breakers).len(), BREAKERS_MAX);
        // Those of earlier jobs are not forgotten for that.
        let workers = BTreeSet::from([ConnId(1)]);
        let rest = breakers.haunted(s(1), b"another", workers.clone(), Vec::new());
        assert_eq!(rest, workers);
    }
}
