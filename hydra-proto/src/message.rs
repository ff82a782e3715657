//! What children and parents say to each other: the same messages on both levels.
//!
//! Only [`Commit`] and [`Grant`] move work. All else is advice or belongs to the session.

use crate::ids::{Epoch, IdRange, ItemId, JobId, RootId, Secret};
use crate::item::{Item, Parcel};
use crate::job::JobSpec;
use crate::segment::Segment;
use crate::walk::WalkSummary;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::time::Duration;

/// The version of the messages. Two builds that differ in it do not work together.
pub const PROTOCOL_VERSION: u32 = 1;

/// The first bytes of a child's first message, the same in every version: enough to explain a mismatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloHeader {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// The sender's release, for people.
    pub release: String,
}

/// Why a child leaves that is being stopped: through no fault of the job.
pub const BEING_STOPPED: &str = "the client is being stopped";

/// What a child says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up {
    /// Opens a new session. The first message of a connection is this or [`Up::Resume`].
    Hello(Hello),
    /// Goes on with a session after its link was lost.
    Resume(Resume),
    /// What the child sees of the job's roots. No grant before it.
    Ready(Ready),
    /// Moves work up. See [`Commit`].
    Commit(Box<Commit>),
    /// "I live."
    Beat(UpBeat),
    /// Log lines of the child's workers, when the server asked for them.
    Log(Vec<LogLine>),
    /// The child cannot go on with this job, and why.
    Leave(String),
    /// A part of a commit that is too large for one message. Parts come before the [`Up::Commit`] of the
    /// same number; they are applied with it, or not at all.
    Part(Box<Commit>),
    /// Instead of a Hello: the child serves another server. It closes the connection.
    Busy(Busy),
    /// Where the child gets no answer for now: all of it, each time. Advice: what it returns from there is offered to
    /// other children first.
    Walls(Vec<Wall>),
    /// Something that the server's user should know. Advice: it changes nothing.
    Warning(String),
    /// A piece of a segment that the child cannot write itself. It counts for nothing before a commit names it.
    Rows(Rows),
}

/// What a parent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down {
    /// Answers [`Up::Hello`]: the session and the job.
    Welcome(Box<Welcome>),
    /// Answers [`Up::Resume`].
    Resumed {
        /// The last commit that was applied.
        last_commit: u64,
    },
    /// The session will not be, or is over, and why. The parent closes the connection.
    Refused(Refusal),
    /// Moves work down. See [`Grant`].
    Grant(Grant),
    /// The commits up to this one are safe with the parent.
    Ack {
        /// Sequence number of the last commit that was applied.
        seq: u64,
    },
    /// Asks a busy child to give items back. Answered by a commit that names it.
    Shed(Shed),
    /// "I live", and how long the child's workers may act.
    Beat(DownBeat),
    /// Whether to stop taking new directories for now.
    Pause(bool),
    /// The job is over: stop, keep nothing.
    Stop,
    /// Answers [`Up::Rows`]: so much of the segment is kept, and a commit may name it.
    Kept(Segment),
    /// Whether to find no more than is needed, for want of memory. Advice: what a child does not read it need not keep.
    Frugal(bool),
}

/// Opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The child's version.
    pub header: HelloHeader,
    /// What the child calls itself.
    pub name: String,
    /// How many workers it has: its share of what is granted.
    pub workers: u32,
    /// Drawn at random when the child's process started: two processes of one name are not the same.
    pub nonce: u64,
}

/// Whom a child serves that cannot serve another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// The child's version.
    pub header: HelloHeader,
    /// The server that it serves, as people know it.
    pub server: String,
    /// That server's job, once it is known. A server that finds its own job here has redialled before the
    /// child noticed that the link was lost, and tries again.
    pub job: Option<JobId>,
}

/// Goes on with a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The child's version.
    pub header: HelloHeader,
    /// The session.
    pub epoch: Epoch,
    /// The secret from [`Welcome`].
    pub secret: Secret,
    /// Counts this session's attempts; an older one than the parent has seen is ignored.
    pub attempt: u64,
    /// The last grant that arrived.
    pub last_grant: u64,
    /// What [`Welcome`] said of the parent's journal.
    pub journaled: bool,
}

/// Answers [`Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The new session.
    pub epoch: Epoch,
    /// Proves to the parent that a later [`Resume`] comes from the same child.
    pub secret: Secret,
    /// Ids for the items that the child will find.
    pub ids: IdRange,
    /// What to do.
    pub job: JobSpec,
    /// Whether to send [`Up::Log`].
    pub forward_logs: bool,
    /// Whether the parent keeps a journal, so that another process may go on with the job when it has died.
    pub journaled: bool,
}

/// Why a parent ends a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Another protocol version. Carries the parent's header.
    Version(HelloHeader),
    /// The session was given up: start anew with a Hello.
    Fenced,
    /// The parent knows no such session.
    Unknown,
    /// The child broke the protocol; says how.
    Protocol(String),
    /// The job is over.
    JobOver,
}

/// What the child sees of the roots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The session.
    pub epoch: Option<Epoch>,
    /// One answer for each of the job's roots, in order.
    pub roots: Vec<RootView>,
}

/// What one host sees of one root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootView {
    /// It is there.
    Seen(RootFacts),
    /// It is not, or cannot be looked at.
    Missing {
        /// Name of the error number.
        kind: String,
        /// In words.
        message: String,
    },
    /// The client does not serve it, and why.
    Refused(String),
    /// Nobody knows whether it is there: its file system does not answer, or it was not looked at. In words.
    Silent(String),
}

/// What a root is: the same on every host that sees the same tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFacts {
    /// Type of the file system, by name.
    pub fs_type: String,
    /// The file system's identity across hosts: its UUID, `f_fsid`, or source; empty when it has none.
    pub fs_id: String,
    /// Inode number of the root.
    pub inode: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether it lies on the file system of the host's own `/`: what a missing mount looks like.
    pub on_system_disk: bool,
}

/// A part of the tree where a child gets no answer: what lies at or below `path`, but for what lies at or below one
/// of `without`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// The root that the paths are relative to.
    pub root: RootId,
    /// Where it begins; empty for the root itself.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Other file systems below it.
    pub without: Vec<ByteBuf>,
    /// Why there is no answer, in words.
    pub reason: String,
}

impl Wall {
    /// Whether this item lies behind it.
    #[must_use]
    pub fn holds(&self, item: &Item) -> bool {
        item.root() == self.root
            && item.lies_at(&self.path)
            && !self.without.iter().any(|path| item.lies_at(path))
    }

    /// Whether all of its root lies behind it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.path.is_empty() && self.without.is_empty()
    }

    /// Roughly the bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let without = self.without.iter().map(|path| 32 + path.len());
        64 + self.path.len() + self.reason.len() + without.sum::<usize>()
    }
}

/// One atomic step of a child: `done` items are replaced by the `new` ones and by `result`, then `give`
/// returns items to the parent's pool, and `failed` ones are set aside. Applied whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The session.
    pub epoch: Epoch,
    /// Counts this session's commits from 1, without gaps.
    pub seq: u64,
    /// Items that are finished, or were replaced by `new`.
    pub done: Vec<IdRange>,
    /// Items that were found and are still open.
    pub new: Vec<Parcel>,
    /// Items that return to the parent's pool.
    pub give: Vec<IdRange>,
    /// Items that cannot be finished.
    pub failed: Vec<Failure>,
    /// What was found since the last commit.
    pub result: Option<Delta>,
    /// Advice: what the child holds after this.
    pub load: Load,
    /// The shed that this answers.
    pub answers: Option<u64>,
    /// What of `give` a worker that was lost may have acted on.
    pub begun: Vec<IdRange>,
}

/// An item that cannot be finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The item.
    pub id: ItemId,
    /// Why, in words.
    pub reason: String,
}

/// What a child found since its last commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Counts of the walk itself.
    pub walk: WalkSummary,
    /// The plugin's summary, encoded.
    #[serde(with = "serde_bytes")]
    pub plugin: Vec<u8>,
    /// Output rows: lines of JSON.
    #[serde(with = "serde_bytes")]
    pub rows: Vec<u8>,
    /// Where the work was done, for the report's `run` part.
    pub lost_workers: u32,
    /// Output rows that are in segments. The last word on each of them counts.
    pub segments: Vec<Segment>,
}

/// A piece of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The number of the session of the worker whose rows they are.
    pub worker: u64,
    /// Counts that worker's segments.
    pub number: u32,
    /// Where in the segment they begin. What is there already may come again, and is the same.
    pub at: u64,
    /// Whole rows or parts of them.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Advice about how much a child has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Items that it holds, whether or not they are on record.
    pub held: u64,
    /// Whether it is about to run dry.
    pub hungry: bool,
    /// Workers that have something to do.
    pub busy: u32,
    /// Ids that it has left for new items: more come before they run out.
    pub ids: u64,
}

/// Moves items to a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The session.
    pub epoch: Epoch,
    /// Counts this session's grants from 1, without gaps.
    pub seq: u64,
    /// The items.
    pub items: Vec<Parcel>,
    /// More ids, when the child's lease runs low.
    pub ids: IdRange,
    /// These items are suspected of killing their worker: commit each step, and cut them into pieces.
    pub careful: bool,
}

/// Asks a child to give about half of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shed {
    /// Its number, to be named in the answer.
    pub id: u64,
    /// How many children are hungry.
    pub hungry: u32,
}

/// "I live."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpBeat {
    /// The session.
    pub epoch: Epoch,
    /// Counts beats; the answer names it.
    pub number: u64,
    /// The last grant that arrived: the parent need not keep it any longer.
    pub last_grant: u64,
    /// How much there is to do.
    pub load: Load,
}

/// Answers [`UpBeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownBeat {
    /// The session.
    pub epoch: Epoch,
    /// The beat that this answers.
    pub number: u64,
    /// How long the child may act, counted from the moment when it sent that beat.
    pub lease: Duration,
}

/// A line of a worker's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The worker's number at its client.
    pub worker: u32,
    /// The worker's process.
    pub pid: u32,
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// The module that speaks.
    pub target: String,
    /// What it says, fields included. Hostile: escape before printing.
    pub text: String,
}
