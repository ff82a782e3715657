//! What a journal says of its job, whether a server is at work on it or not. Reads only, and takes no lock.

use super::JournalError;
use super::disk::journal_path;
use super::frame::Source;
use super::replay::{NoRows, NoSum, Restored, replay};
use super::state_dir::{LOCK, open};
use crate::coordinator::{bare_parent, bound};
use crate::outcome::{Listed, SetAside};
use crate::spill::Spill;
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::Counts;
use hydra_proto::walk::WalkSummary;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// About how many bytes of open items are in memory while they are counted; the others are in a temporary file.
const MEMORY: u64 = 256 << 20;

/// A job, as its journal knows it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The job's number.
    pub job: u64,
    /// Its plugin.
    pub plugin: String,
    /// Its roots, as results show them.
    pub roots: Vec<Vec<u8>>,
    /// Whether a server is at work on it now.
    pub running: bool,
    /// How often a server has gone on with it.
    pub resumed: u32,
    /// Whether nothing is left to do.
    pub done: bool,
    /// What is committed.
    pub walk: WalkSummary,
    /// How many items there are, and where.
    pub items: Counts,
    /// The sessions that may go on.
    pub sessions: Vec<SessionStatus>,
    /// The first of what cannot be finished, by path. How much there is stands in `items`.
    pub set_aside: Vec<SetAside>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
}

/// One client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The client, as it was dialled or named itself.
    pub client: String,
    /// Items that it has on record.
    pub items: u64,
}

/// Reads the journal in `dir`.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn status(dir: &Path) -> Result<Status, JournalError> {
    let journal = open(dir)?;
    let bytes = journal.length();
    let bytes = bytes.map_err(|error| JournalError::io("read", &journal_path(dir), error))?;
    let spill = Spill::new(None);
    let blank = |job, spec: &JobSpec| {
        let mut parent = bare_parent(job, spec);
        bound(&mut parent, MEMORY, &spill);
        parent
    };
    let restored = replay(dir, &journal, &blank, Box::new(NoSum), &mut NoRows)?;
    Ok(Status {
        job: restored.job.0,
        plugin: restored.spec.plugin.clone(),
        roots: restored
            .spec
            .roots
            .iter()
            .map(|root| root.path().to_vec())
            .collect(),
        running: is_locked(dir),
        resumed: restored.incarnation,
        done: restored.is_done(),
        items: restored.parent.counts(),
        sessions: sessions(&restored),
        set_aside: Listed::of(&restored.parent, &restored.spec).end().0,
        walk: restored.tally.walk,
        journal_bytes: bytes,
    })
}

impl Restored {
    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.began && self.parent.is_done()
    }
}

fn sessions(restored: &Restored) -> Vec<SessionStatus> {
    let children = restored.parent.children();
    let sessions = children.map(|child| SessionStatus {
        client: restored.tally.name(child.child).to_owned(),
        items: child.owned,
    });
    sessions.collect()
}

/// Whether somebody holds the lock. Asked of the kernel's list: taking it, however briefly, could turn a server
/// away that starts at the same moment.
fn is_locked(dir: &Path) -> bool {
    let (Ok(lock), Ok(locks)) = (
        fs::metadata(dir.join(LOCK)),
        fs::read_to_string("/proc/locks"),
    ) else {
        return false;
    };
    let inode = format!(":{}", lock.ino());
    locks.lines().any(|line| {
        let mut words = line.split_whitespace();
        line.contains(" FLOCK ") && words.any(|word| word.ends_with(&inode))
    })
}
