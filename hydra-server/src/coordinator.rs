//! The coordinator: turns what happens outside into events of the ledger, and does what the ledger says.

use crate::config::{Config, LogSink, ProgressSink};
use crate::connection::{Event, Intake, Origin, Outbox};
use crate::gathering::Gathering;
use crate::held::Held;
use crate::journal::Journal;
use crate::outcome::{Ending, Progress, ServerError};
use crate::roots::RootBook;
use crate::rows::{Counts, Keeper, Outflow};
use crate::spill::Spill;
use crate::tally::Tally;
use hydra_link::Timeouts;
use hydra_link::address::HostPort;
use hydra_proto::ids::{ChildId, ConnId, IdRange, JobId};
use hydra_proto::job::{JobSpec, ROOT_LOOK, ROOT_LOOKS};
use hydra_proto::ledger::{Action, Parent, ParentConfig, Time};
use quitters::Quitters;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

mod links;
mod quitters;
mod rows;
mod stages;

/// Ids that each session gets: enough for any job, and 2^22 sessions of them.
const CLIENT_IDS: u64 = 1 << 40;
/// Warnings that the report shows; the others are in the log.
const WARNINGS_MAX: usize = 100;
/// How long clients may take to let go of a job that is over.
const LETTING_GO: Duration = Duration::from_secs(5);

/// How long clients may take to look at the roots.
const LOOKING: Duration = ROOT_LOOK.saturating_mul(ROOT_LOOKS);

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Clients come and say what they see.
    Gathering,
    /// Work is granted.
    Walking,
    /// Clients let go of the job, until this time at the latest.
    Ending(Time),
    /// All is said.
    Over,
}

struct Conn {
    outbox: Outbox,
    origin: Origin,
    child: Option<ChildId>,
    /// Its session was opened or resumed, and the child was told.
    greeted: bool,
}

pub(crate) struct Coordinator {
    pub(crate) job_id: JobId,
    pub(crate) job: JobSpec,
    pub(crate) parent: Parent,
    pub(crate) tally: Tally,
    pub(crate) book: RootBook,
    /// What makes all this durable; none if this server's death would be the end of the job.
    pub(crate) journal: Option<Journal>,
    /// The file or pipe for rows, if no journal writes them.
    pub(crate) outflow: Option<Outflow>,
    /// Acknowledgements that wait for it: the last one of each connection.
    late_acks: BTreeMap<ConnId, u64>,
    /// The user was told that nobody takes rows.
    pub(crate) told_rows: bool,
    /// The user was told that the disk of the journal does not answer.
    pub(crate) told_disk: bool,
    /// The directory for rows.
    pub(crate) rows: Option<Keeper>,
    /// What counts of the segments in it.
    pub(crate) segments: Counts,
    pub(crate) held: Held,
    pub(crate) disk_full: bool,
    pub(crate) rows_full: bool,
    /// How often a server has begun with this job, before this one.
    pub(crate) incarnation: u32,
    /// An earlier server has begun to grant.
    pub(crate) began_before: bool,
    /// Sessions of the client inside this server.
    pub(crate) embedded: BTreeSet<ChildId>,
    /// Sessions of clients inside a server that died.
    pub(crate) orphans: Vec<ChildId>,
    /// What the program keeps in the journal for itself.
    pub(crate) note: Vec<u8>,
    pub(crate) release: String,
    pub(crate) memory: u64,
    /// Where the ledger puts what does not fit into that.
    pub(crate) spill: Spill,
    pub(crate) gathering: Gathering,
    pub(crate) phase: Phase,
    ending: Option<Ending>,
    hopeless: bool,
    clients: Vec<HostPort>,
    /// Tell the diallers when to dial again; gone when a client is given up, or the job is over.
    wishes: Vec<Option<watch::Sender<u64>>>,
    listens: bool,
    wait: bool,
    timeouts: Timeouts,
    pub(crate) client_timeout: Duration,
    conns: BTreeMap<ConnId, Conn>,
    /// Connections without a session, and since when: the oldest first.
    mute: BTreeMap<ConnId, Time>,
    next_conn: u64,
    intake: Intake,
    began: Time,
    ended: Time,
    /// Since when no client has been there that could go on, but for some that did not last.
    lonely: Option<Time>,
    /// Since when one is there without a break.
    company: Option<Time>,
    quitters: Quitters,
    /// So much waits that nothing more is read from clients.
    is_deaf: bool,
    progress: Option<ProgressSink>,
    pub(crate) logs: Option<LogSink>,
    /// Clients that were dialled and have had a session of this job.
    served: BTreeSet<usize>,
    /// Clients that are busy, and what was said of it.
    waits_for: BTreeMap<usize, String>,
    /// What the user has to know of, each once.
    warnings: Vec<String>,
}

/// The ledger of a job.
pub(crate) fn parent(job: JobId, spec: &JobSpec, forward_logs: bool, release: String) -> Parent {
    Parent::new(ParentConfig {
        job,
        spec: spec.clone(),
        ids: IdRange {
            start: 1,
            end: 1 << 62,
        },
        lease_ids: CLIENT_IDS,
        resumable: true,
        forward_logs,
        release,
        secrets: Box::new(rand::random),
    })
}

/// The same for who only reads.
pub(crate) fn bare_parent(job: JobId, spec: &JobSpec) -> Parent {
    parent(job, spec, false, String::new())
}

/// From now on what takes more than about so many bytes is in `spill`.
pub(crate) fn bound(parent: &mut Parent, memory: u64, spill: &Spill) {
    parent.limit_memory(memory);
    parent.keep_in(Box::new(spill.clone()));
}

impl Coordinator {
    pub(crate) fn new(config: Config, has_embedded: bool, now: Time, intake: Intake) -> Self {
        let listens = config.listen.is_some();
        let wanted = if listens { config.min_clients } else { 0 };
        let patience = match wanted {
            // A dialler gives up by itself; what is left then is to say what is seen of the roots.
            0 => config.timeouts.connect + config.timeouts.handshake + LOOKING,
            _ => config.client_timeout,
        };
        let job_id = JobId(rand::random());
        let logs = config.logs.is_some();
        let parent = parent(job_id, &config.job, logs, config.release.clone());
        let wanted = if listens { config.min_clients } else { 0 };
        let expected = config.clients.len() + usize::from(has_embedded);
        let dialled = config.clients.iter();
        let wishes = dialled.map(|_| Some(watch::Sender::new(0))).collect();
        Self {
            book: RootBook::new(config.job.roots.len(), config.job.walk.trust_roots),
            job_id,
            job: config.job,
            parent,
            journal: None,
            held: Held::default(),
            disk_full: false,
            rows_full: false,
            incarnation: 0,
            began_before: false,
            embedded: BTreeSet::new(),
            orphans: Vec::new(),
            note: Vec::new(),
            release: config.release,
            memory: config.memory,
            spill: Spill::new(None),
            tally: Tally::new(config.reducer),
            gathering: Gathering::new(expected, wanted, now + patience),
            phase: Phase::Gathering,
            ending: None,
            hopeless: false,
            clients: config.clients,
            wishes,
            listens,
            wait: config.wait,
            timeouts: config.timeouts,
            client_timeout: config.client_timeout,
            conns: BTreeMap::new(),
            mute: BTreeMap::new(),
            next_conn: 0,
            intake,
            began: now,
            ended: now,
            lonely: None,
            company: None,
            quitters: Quitters::default(),
            is_deaf: false,
            progress: config.progress,
            logs: config.logs,
            outflow: None,
            late_acks: BTreeMap::new(),
            told_rows: false,
            told_disk: false,
            rows: None,
            segments: Counts::new(),
            served: BTreeSet::new(),
            waits_for: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// From now on no more open items are in memory than there is memory for: the others go to a file in `dir`, or a
    /// temporary one elsewhere.
    pub(crate) fn bound_memory(&mut self, dir: Option<&Path>) {
        self.spill = Spill::new(dir);
        bound(&mut self.parent, self.memory, &self.spill);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether an earlier server has begun this job.
    pub(crate) fn goes_on(&self) -> bool {
        self.began_before
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The addresses to dial, and what tells when to dial them again.
    pub(crate) fn diallers(&self) -> Vec<(HostPort, watch::Receiver<u64>)> {
        let receivers = self.wishes.iter().flatten().map(watch::Sender::subscribe);
        self.clients.iter().cloned().zip(receivers).collect()
    }

    /// When [`Coordinator::tick`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let own = match self.phase {
            Phase::Gathering => self.gathering.deadline(),
            Phase::Walking => self.lonely_timeout(),
            Phase::Ending(deadline) => self.end_timeout(deadline),
            Phase::Over => None,
        };
        let greeting = self
            .mute()
            .map(|(_, since)| since + self.job.timing.dead_after);
        let disk = self.journal.as_ref().and_then(Journal::poll_timeout);
        let stuck = self.stuck_timeout();
        let ledger = self.parent.poll_timeout();
        let others = [greeting, disk, stuck, ledger].into_iter().flatten();
        own.into_iter().chain(others).min()
    }

    /// Something has happened.
    ///
    /// # Errors
    /// When the job cannot go on.
    pub(crate) fn handle(&mut self, now: Time, event: Event) -> Result<(), ServerError> {
        match event {
            Event::Connected(origin, connection) => self.connected(now, origin, connection),
            Event::Unreachable {
                client,
                reason,
                last,
            } => self.unreachable(client, reason, last),
            Event::Message(conn, message, _room) => self.message(now, conn, *message),
            Event::Closed(conn, reason) => self.closed(now, conn, reason),
        }
        self.proceed(now)
    }

    /// Looks at the timers.
    ///
    /// # Errors
    /// As [`Coordinator::handle`].
    pub(crate) fn tick(&mut self, now: Time) -> Result<(), ServerError> {
        self.parent.tick(now);
        while let Some((conn, since)) = self.mute()
            && now >= since + self.job.timing.dead_after
        {
            self.closed(now, conn, Some("it does not say who it is".to_owned()));
        }
        self.proceed(now)
    }

    /// How long a child may be silent.
    pub(crate) fn dead_after(&self) -> Time {
        self.job.timing.dead_after
    }

    /// This process stood still for a while, until now: nobody's silence counts.
    pub(crate) fn held_up(&mut self, now: Time) {
        self.parent.held_up(now);
        self.mute.values_mut().for_each(|since| *since = now);
        self.outflow.iter_mut().for_each(|rows| rows.held_up(now));
        self.rows.iter_mut().for_each(|rows| rows.held_up(now));
        self.journal.iter_mut().for_each(|disk| disk.held_up(now));
    }

    /// Whether clients are read from. While they are not, nobody can be heard or come back: neither silence nor absence
    /// counts, and begins to count anew when they are read from again.
    pub(crate) fn hears(&mut self, now: Time) -> bool {
        let is_deaf = self.is_crowded();
        if std::mem::replace(&mut self.is_deaf, is_deaf) || is_deaf {
            self.parent.held_up(now);
            self.lonely = None;
        }
        !is_deaf
    }

    /// The user wants the job to stop.
    ///
    /// # Errors
    /// As [`Coordinator::handle`].
    pub(crate) fn interrupt(&mut self, now: Time) -> Result<(), ServerError> {
        match self.phase {
            // All is done, but who is to keep it does not take it.
            Phase::Ending(_) if !self.is_settled() || !self.has_written_rows() => {
                self.ending = Some(Ending::Interrupted);
                self.phase = Phase::Ending(now + LETTING_GO);
                if let Some(keeper) = self.rows.as_ref().filter(|rows| rows.is_ending()) {
                    keeper.stop();
                }
            }
            _ => self.end(now, Ending::Interrupted),
        }
        self.proceed(now)
    }

    /// Tells how far the job is: the user, and readers of rows.
    pub(crate) fn tell(&mut self, now: Time) {
        self.publish_rows();
        let Some(tell) = &mut self.progress else {
            return;
        };
        let mut progress = Progress {
            entries: self.tally.walk.entries,
            frontier: self.parent.counts().pool,
            elapsed: now.saturating_sub(self.began),
            ..Progress::default()
        };
        for child in self.parent.children() {
            progress.frontier = progress.frontier.saturating_add(child.load.held);
            progress.busy = progress.busy.saturating_add(child.load.busy);
            progress.workers = progress.workers.saturating_add(child.workers);
            progress.clients += usize::from(child.connected);
        }
        tell(&progress);
    }

    /// Does what the ledger says, and sees whether the job has come further.
    pub(crate) fn proceed(&mut self, now: Time) -> Result<(), ServerError> {
        self.look_at_rows(now);
        self.look_at_disk(now);
        while let Some(action) = self.parent.poll_action() {
            self.act(now, action)?;
        }
        match self.phase {
            Phase::Gathering => self.gather(now)?,
            Phase::Walking => self.watch(now),
            Phase::Ending(_) | Phase::Over => {}
        }
        while let Some(action) = self.parent.poll_action() {
            self.act(now, action)?;
        }
        if let Phase::Ending(deadline) = self.phase
            && self.is_over(now, deadline)
        {
            self.phase = match self.end_rows() {
                true => Phase::Ending(now + LETTING_GO),
                false => Phase::Over,
            };
        }
        Ok(())
    }

    fn act(&mut self, now: Time, action: Action) -> Result<(), ServerError> {
        tracing::trace!(?action);
        match action {
            Action::Record(record) => return self.note_record(*record),
            Action::Send { conn, message } => self.send(now, conn, Some(message)),
            Action::Close { conn } => self.send(now, conn, None),
            Action::Joined {
                child,
                conn,
                name,
                workers,
            } => return self.joined(child, conn, &name, workers),
            Action::Back { child, conn } => return self.back(child, conn),
            Action::Sees { child, roots } => return self.sees(child, roots),
            Action::Applied {
                child,
                epoch,
                mut result,
                ..
            } => {
                self.note_found(child, result.as_deref());
                self.note_rows(epoch, &mut result);
                return self.tally.add(child, result.map(|delta| *delta));
            }
            Action::Lost { child, reason } => self.lost(child, &reason),
            Action::Log { child, lines } => self.log(child, &lines),
            Action::Rows { conn, epoch, rows } => self.rows_came(now, conn, epoch, rows),
            Action::Warning { child, text } => self.warned(child, &text),
            Action::KeptInMemory(error) => self.warn(format!(
                "what is still to be walked takes more memory than it should: {error}"
            )),
            Action::NotReadBack(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
