//! The talking thread: frames in and out, the beat, the commit interval, and answers to the parent while the
//! walker is busy.
//!
//! It decides nothing about work; it asks the ledger. It waits in one place, in `poll`, for the channel, the walker
//! or a timer.

use crate::clock;
use crate::session::WorkerError;
use crate::shared::{Attention, Ledger, Shared};
use hydra_proto::codec;
use hydra_proto::frame::{self, FRAME_BYTES_MAX, FrameDecoder};
use hydra_proto::ids::ConnId;
use hydra_proto::ledger::{Frontier, Time, UplinkEvent};
use hydra_proto::message::{Down, Grant, Refusal, Shed, Up, Welcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The only connection of a worker.
const CONN: ConnId = ConnId(0);
/// How long a commit may wait for the end of a directory, before the walker is asked to stop within it.
const PATIENCE: Duration = Duration::from_millis(20);
/// The same for a request: somebody has nothing to do meanwhile.
const REQUEST_PATIENCE: Duration = Duration::from_millis(4);
/// A piece that lasts longer, where nothing else is left, is worth dividing.
const LONG: Duration = Duration::from_millis(4);
/// A request that comes within this time after another one waits as long before it gets of what is little: to move that
/// takes longer than to finish it.
const LITTLE_PATIENCE: Duration = Duration::from_millis(1);
/// How long a request waits before it gets pieces of listings, where there is nothing else.
const PIECES_PATIENCE: Duration = Duration::from_millis(2);
/// How long a request may wait before it gets the rest of a listing, which has to be read again then.
const REST_PATIENCE: Duration = Duration::from_millis(250);
/// How long the deque must have been empty, or not, before the parent is told: a chain of directories empties and
/// fills it at each step.
const HUNGER_LASTS: Duration = Duration::from_micros(300);
/// Bytes read at once.
const INPUT_BYTES: usize = 64 << 10;

/// One end of the channel to the parent.
pub(crate) struct Talker {
    channel: OwnedFd,
    decoder: FrameDecoder,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    shared: Arc<Shared>,
    /// When to look whether the parent knows if we are hungry.
    hunger_check: Option<Time>,
    /// When to look whether what was in hand after so many steps, and is all that is left, lasts.
    lasts_check: Option<(Time, u64)>,
    /// When to ask more urgently, unless the walker has made this many steps by then.
    escalate: Option<(Time, u64)>,
    /// The request that waits, and since when.
    asked: Option<(u64, Time)>,
    /// When the last one came.
    last_asked: Option<Time>,
    over: Option<Option<Refusal>>,
}

impl Talker {
    /// Greets the parent on `channel`.
    pub(crate) fn new(channel: OwnedFd, shared: Arc<Shared>) -> Result<Self, WorkerError> {
        rustix::io::ioctl_fionbio(&channel, true).map_err(|errno| channel_error("open", errno))?;
        shared.lock().uplink.connected(clock::now(), CONN);
        Ok(Self {
            channel,
            decoder: FrameDecoder::new(FRAME_BYTES_MAX),
            input: vec![0; INPUT_BYTES],
            output: Vec::new(),
            sent: 0,
            shared,
            hunger_check: None,
            lasts_check: None,
            escalate: None,
            asked: None,
            last_asked: None,
            over: None,
        })
    }

    /// Talks until the parent has said what the job is.
    pub(crate) fn welcome(&mut self) -> Result<Box<Welcome>, WorkerError> {
        loop {
            if let Some(welcome) = self.turn()? {
                return Ok(welcome);
            }
            self.check_over()?;
            if self.over.is_some() {
                return Err(WorkerError::Refused(Refusal::JobOver));
            }
        }
    }

    /// Talks until the session is over, and frees the walker then.
    pub(crate) fn run(&mut self) -> Result<(), WorkerError> {
        let outcome = self.talk();
        self.shared.end();
        outcome
    }

    fn talk(&mut self) -> Result<(), WorkerError> {
        while self.over.is_none() {
            self.turn()?;
            let failure = self.shared.lock().failure.take();
            if let Some(reason) = failure {
                self.leave(reason.clone());
                return Err(WorkerError::Walk(reason));
            }
        }
        self.check_over()
    }

    /// Says that this worker cannot go on, and waits until that is sent or the parent is gone.
    pub(crate) fn leave(&mut self, reason: String) {
        self.shared.lock().uplink.send(Up::Leave(reason));
        let is_sent = |talker: &Self| talker.output.is_empty() && talker.over.is_none();
        while self.flush().is_ok() && !is_sent(self) && self.over.is_none() {
            if self.turn().is_err() {
                return;
            }
        }
    }

    fn check_over(&mut self) -> Result<(), WorkerError> {
        match &self.over {
            Some(Some(refusal)) if *refusal != Refusal::JobOver => {
                Err(WorkerError::Refused(refusal.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Waits for one thing to happen, and deals with it.
    fn turn(&mut self) -> Result<Option<Box<Welcome>>, WorkerError> {
        self.flush()?;
        let readable = self.wait()?;
        if readable {
            self.receive()?;
        }
        self.tick();
        let welcome = self.events()?;
        self.timers();
        self.flush()?;
        Ok(welcome)
    }

    fn wait(&self) -> Result<bool, WorkerError> {
        let mut interest = PollFlags::IN;
        if !self.output.is_empty() {
            interest |= PollFlags::OUT;
        }
        let mut fds = [
            PollFd::new(&self.channel, interest),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        let timeout = self.timeout().map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(channel_error("poll", errno)),
        }
        let [channel, wake] = fds.map(|fd| fd.revents());
        if !wake.is_empty() {
            // Nothing to read means that somebody else woke us: no harm.
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        }
        Ok(channel.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
    }

    /// How long to wait at most.
    fn timeout(&self) -> Option<Duration> {
        let ledger = self.shared.lock();
        let commit = commit_timer(&ledger);
        let uplink = ledger.uplink.poll_timeout();
        let escalate = self.escalate.map(|(at, _)| at);
        let now = clock::now();
        let yields = self.asked.and_then(|(_, since)| {
            let times =
                [LITTLE_PATIENCE, PIECES_PATIENCE, REST_PATIENCE].map(|patience| since + patience);
            times.into_iter().find(|time| *time > now)
        });
        let lasts = self.lasts_check.map(|(at, _)| at);
        let next = [commit, uplink, self.hunger_check, lasts, escalate, yields];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_sub(now))
    }

    fn receive(&mut self) -> Result<(), WorkerError> {
        let count = match rustix::io::read(&self.channel, &mut self.input) {
            Ok(0) | Err(Errno::CONNRESET) => {
                self.shared.lock().uplink.closed(clock::now(), CONN);
                return Ok(());
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(errno) => return Err(channel_error("read", errno)),
        };
        let now = clock::now();
        let mut bytes = self.input.get(..count).unwrap_or_default();
        while let Some(payload) = self.decoder.decode(&mut bytes).map_err(protocol)? {
            let message: Down = codec::decode(&payload).map_err(protocol)?;
            self.shared.lock().uplink.handle(now, CONN, message);
        }
        Ok(())
    }

    fn events(&mut self) -> Result<Option<Box<Welcome>>, WorkerError> {
        let shared = Arc::clone(&self.shared);
        let mut ledger = shared.lock();
        let mut started = None;
        while let Some(event) = ledger.uplink.poll_event() {
            match event {
                UplinkEvent::Started(welcome) => {
                    started = Some(start(&mut ledger, welcome));
                }
                UplinkEvent::Granted(grant) => granted(&mut ledger, grant)?,
                UplinkEvent::Asked(shed) => {
                    let now = clock::now();
                    let last = self.last_asked.replace(now);
                    let is_soon = last.is_some_and(|last| now < last + LITTLE_PATIENCE);
                    asked(&mut ledger, shed, is_soon);
                }
                UplinkEvent::Paused(paused) => ledger.paused = paused,
                UplinkEvent::Kept(_) => ledger.kept += 1,
                UplinkEvent::Frugal(frugal) => shared.set_frugal(frugal),
                UplinkEvent::Over(refusal) => self.over = Some(refusal),
                UplinkEvent::Resumed | UplinkEvent::Lost | UplinkEvent::Drop(_) => {}
            }
        }
        if let Some(until) = ledger.uplink.acts_until() {
            shared.lease.renew(until);
        }
        shared.notify();
        Ok(started)
    }

    /// Before the events: a silent parent is one.
    fn tick(&self) {
        let mut ledger = self.shared.lock();
        let load = ledger.frontier.load();
        ledger.uplink.tick(clock::now(), load);
    }

    fn timers(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut ledger = shared.lock();
        let now = clock::now();
        if commit_timer(&ledger).is_some_and(|due| now >= due) {
            ledger.commit_due = true;
        }
        self.yield_more(&mut ledger, now);
        self.tell_hunger(&mut ledger, now);
        self.note_lasting(&ledger, now);
        self.press(&ledger, now);
    }

    /// Tells the parent that the deque is empty, or is so no longer, if that lasts.
    fn tell_hunger(&mut self, ledger: &mut Ledger, now: Time) {
        if ledger.hunger_noted {
            self.hunger_check.get_or_insert(now + HUNGER_LASTS);
        }
        if self.hunger_check.is_some_and(|check| now >= check) {
            self.hunger_check = None;
            ledger.hunger_noted = false;
            let load = ledger.frontier.load();
            if load.hungry != ledger.told_hungry {
                ledger.told_hungry = load.hungry;
                ledger.uplink.beat(now, load);
            }
            self.lasts_check = load.hungry.then_some((now + LONG, ledger.steps));
        }
    }

    /// Has the walker say when what it has in hand can be divided, where that lasts and nothing has come in its place.
    fn note_lasting(&mut self, ledger: &Ledger, now: Time) {
        let Some((_, steps)) = self.lasts_check.filter(|(at, _)| now >= *at) else {
            return;
        };
        let is_all = !ledger.idle && ledger.frontier.load().hungry;
        if is_all && steps == ledger.steps {
            self.shared.set_lasts(true);
        }
        let again = is_all && steps != ledger.steps;
        self.lasts_check = again.then_some((now + LONG, ledger.steps));
    }

    /// Gives more to a request that has waited: pieces of a listing where nothing else is left, and at last the rest of
    /// one where the walker sits in one long call.
    fn yield_more(&mut self, ledger: &mut Ledger, now: Time) {
        let asked = ledger.frontier.asked().map(|shed| shed.id);
        if asked != self.asked.map(|(id, _)| id) {
            self.asked = asked.map(|id| (id, now));
        }
        let Some((_, since)) = self.asked else {
            return;
        };
        let waited = now.saturating_sub(since);
        match waited {
            _ if waited < LITTLE_PATIENCE => return,
            _ if waited < PIECES_PATIENCE => ledger.frontier.yield_little(),
            _ if waited < REST_PATIENCE => ledger.frontier.yield_pieces(),
            _ => ledger.frontier.yield_rest(),
        }
        if ledger.uplink.has_window()
            && let Some(cut) = ledger.frontier.give()
        {
            ledger.send_gift(cut);
        }
    }

    /// Asks the walker for attention as long as something waits for it, and more urgently if it does not come.
    fn press(&mut self, ledger: &Ledger, now: Time) {
        let waits = ledger.commit_due || ledger.frontier.asked().is_some();
        if !waits || ledger.idle || !ledger.uplink.has_window() {
            self.escalate = None;
            return;
        }
        let patience = match ledger.frontier.asked() {
            Some(_) => REQUEST_PATIENCE,
            None => PATIENCE,
        };
        match self.escalate {
            Some((at, steps)) if now >= at && steps == ledger.steps => {
                self.shared.ask_for(Attention::Now);
                self.escalate = None;
            }
            Some((at, _)) if now < at && at <= now + patience => {}
            _ => {
                if !self.shared.wants(Attention::Soon) {
                    self.shared.ask_for(Attention::Soon);
                }
                self.escalate = Some((now + patience, ledger.steps));
            }
        }
    }

    /// Sends what can be sent without waiting.
    fn flush(&mut self) -> Result<(), WorkerError> {
        while !self.output.is_empty() || self.fill()? {
            if !self.write()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes what is encoded; `false` if the parent takes no more of it for now, or is gone.
    fn write(&mut self) -> Result<bool, WorkerError> {
        while !self.output.is_empty() {
            let rest = self.output.get(self.sent..).unwrap_or_default();
            match rustix::net::send(&self.channel, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::PIPE | Errno::CONNRESET) => return self.hung_up().map(|()| false),
                Err(errno) => return Err(channel_error("write", errno)),
            }
            if self.sent >= self.output.len() {
                self.output.clear();
                self.sent = 0;
            }
        }
        Ok(true)
    }

    /// What the parent said last may still be there to be read.
    fn hung_up(&mut self) -> Result<(), WorkerError> {
        self.output.clear();
        self.sent = 0;
        self.receive()?;
        self.shared.lock().uplink.closed(clock::now(), CONN);
        Ok(())
    }

    /// Encodes the next message; `false` if there is none.
    fn fill(&mut self) -> Result<bool, WorkerError> {
        let Some(message) = self.shared.lock().uplink.poll_send() else {
            return Ok(false);
        };
        let payload = match codec::encode(&message) {
            Ok(payload) => payload,
            Err(error) => return Err(self.unsendable(&message, error.to_string())),
        };
        frame::encode(&payload, &mut self.output).map_err(protocol)?;
        if let Up::Commit(commit) = &message {
            self.shared.lock().note_sent(commit.seq);
        }
        Ok(true)
    }

    /// A message fits into no frame, so this worker cannot go on. What was in hand last is blamed, lest everybody after it
    /// ends the same way.
    fn unsendable(&mut self, message: &Up, reason: String) -> WorkerError {
        if let Up::Commit(commit) | Up::Part(commit) = message {
            self.shared.lock().blame_for(commit.seq);
        }
        let leave = codec::encode(&Up::Leave(reason.clone())).map_err(protocol);
        let said =
            leave.and_then(|leave| frame::encode(&leave, &mut self.output).map_err(protocol));
        // Nothing that waits behind that message may come before this.
        while said.is_ok() && matches!(self.write(), Ok(false)) && !self.output.is_empty() {
            let mut fds = [PollFd::new(&self.channel, PollFlags::OUT)];
            if poll(&mut fds, None).is_err_and(|errno| errno != Errno::INTR) {
                break;
            }
        }
        WorkerError::Walk(reason)
    }
}

/// When the next commit is due, if the walker is at work.
fn commit_timer(ledger: &Ledger) -> Option<Time> {
    let at_work = !ledger.idle && !ledger.commit_due && ledger.uplink.has_window();
    at_work.then_some(ledger.last_commit + ledger.interval)
}

fn start(ledger: &mut Ledger, welcome: Box<Welcome>) -> Box<Welcome> {
    ledger.frontier = Frontier::new(welcome.ids);
    if welcome.job.walk.intents {
        ledger.frontier.wait_for_record();
    }
    ledger.interval = welcome.job.timing.commit_interval;
    ledger.idle = true;
    welcome
}

fn granted(ledger: &mut Ledger, grant: Grant) -> Result<(), WorkerError> {
    for parcel in &grant.items {
        parcel.check().map_err(protocol)?;
    }
    if !grant.items.is_empty() {
        ledger.told_hungry = false;
        if ledger.idle {
            ledger.idle = false;
            ledger.last_commit = clock::now();
        }
    }
    ledger.frontier.accept(grant);
    Ok(())
}

/// Gives at once what is on record; what is not waits for the walker.
fn asked(ledger: &mut Ledger, shed: Shed, is_soon: bool) {
    ledger.frontier.ask(shed);
    if is_soon {
        ledger.frontier.keep_little();
    }
    if ledger.uplink.has_window()
        && let Some(cut) = ledger.frontier.give()
    {
        ledger.send_gift(cut);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn protocol(error: impl std::fmt::Display) -> WorkerError {
    WorkerError::Protocol(error.to_string())
}

fn channel_error(operation: &'static str, errno: Errno) -> WorkerError {
    WorkerError::Channel {
        operation,
        source: errno.into(),
    }
}
