//! What a job is: the plugin, the roots, and how to walk. Goes from the server to every worker.

use crate::ids::RootId;
use crate::segment::RowsDir;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Everything that a client or worker must know of a job. The default has nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's options, encoded by the plugin's own binary.
    #[serde(with = "serde_bytes")]
    pub options: Vec<u8>,
    /// Whether the plugin changes the tree or runs commands, so that clients must have allowed it and
    /// workers act under a lease only.
    pub acts: bool,
    /// The trees to walk, in the server's words.
    pub roots: Vec<RootSpec>,
    /// How to walk.
    pub walk: WalkOptions,
    /// Periods and limits that both sides of a session must agree on.
    pub timing: Timing,
    /// Where rows go that are too many for a commit.
    pub rows: Option<RowsDir>,
}

impl JobSpec {
    /// The root that `id` names.
    #[must_use]
    pub fn root(&self, id: RootId) -> Option<&RootSpec> {
        self.roots.get(id.0 as usize)
    }
}

/// One of the job's trees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// Its path as messages show it. With a slash at its end it was given so, and what is no directory is an error.
    #[serde(with = "serde_bytes")]
    pub shown: Vec<u8>,
    /// Where this host finds it: the same, unless the client maps it. With a slash at its end it must be a directory;
    /// it has none where the root was given without one too, and then anything counts.
    #[serde(with = "serde_bytes")]
    pub local: Vec<u8>,
    /// Paths below it that are roots of their own: this walk stops there and does not count them. One with a slash at
    /// its end is such a root only where it is a directory itself, not a link to one.
    pub stops: Vec<serde_bytes::ByteBuf>,
}

impl RootSpec {
    /// Its path as results show it: without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match self.shown.strip_suffix(b"/") {
            Some(path) if !path.is_empty() => path,
            _ => &self.shown,
        }
    }

    /// Whether it is an error that this root is no directory.
    #[must_use]
    pub fn should_be_directory(&self) -> bool {
        self.shown.ends_with(b"/")
    }

    /// Whether the entry `path` below this root, which is a directory or not, is a root of its own.
    #[must_use]
    pub fn stops_at(&self, path: &[u8], is_directory: bool) -> bool {
        let is_it = |stop: &serde_bytes::ByteBuf| is_stop(stop, path, is_directory);
        self.stops.iter().any(is_it)
    }

    /// The path that results show for `path` below this root.
    #[must_use]
    pub fn show(&self, path: &[u8]) -> Vec<u8> {
        let mut shown = self.path().to_vec();
        if !path.is_empty() {
            if !shown.ends_with(b"/") {
                shown.push(b'/');
            }
            shown.extend_from_slice(path);
        }
        shown
    }
}

/// Whether the walk stops at `path`, which is a directory or not, because of `stop`.
#[must_use]
pub fn is_stop(stop: &[u8], path: &[u8], is_directory: bool) -> bool {
    stop == path || (is_directory && stop.strip_suffix(b"/") == Some(path))
}

/// How to walk: the same for every root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkOptions {
    /// Do not enter other file systems.
    pub one_file_system: bool,
    /// Globs over paths below the root; what matches is neither counted nor opened.
    pub excludes: Vec<String>,
    /// Enter snapshot directories too.
    pub snapshots: bool,
    /// Enter kernel pseudo file systems below a root too.
    pub pseudo: bool,
    /// Let network file systems answer from their caches (`AT_STATX_DONT_SYNC`).
    pub lazy_stat: bool,
    /// Grant a root to clients that see something else there than the others do.
    pub trust_roots: bool,
    /// Put the names that a plugin means to act on on the server's record before it acts on the first of them.
    pub intents: bool,
}

/// Periods and limits of a session. All have the design's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How often each side says that it lives. Default 1 s.
    pub beat: Duration,
    /// Silence after which a link counts as dead. Default 5 s.
    pub dead_after: Duration,
    /// How long after that a session may still be resumed. Default 15 s.
    pub grace: Duration,
    /// How long a worker of an acting plugin may act after its parent's last word. Default 8 s: dead
    /// links are noticed, and grace ends, long after it has run out.
    pub lease: Duration,
    /// The longest time between two commits of a worker with results. Default 200 ms.
    pub commit_interval: Duration,
    /// Commits that may be on their way before the sender waits for an answer. Default 16.
    pub commit_window: u32,
    /// How long a system call of a worker may take before it is taken to hang. Default 5 min.
    pub stall: Duration,
}

/// How long a root may take to answer a client that looks at it: a mount that is slower than that is of no use.
pub const ROOT_LOOK: Duration = Duration::from_secs(5);
/// All roots of a job together may take so many times as long as one of them.
pub const ROOT_LOOKS: u32 = 2;

/// Far more than any period needs, and little enough to be added to any time.
const PERIOD_MAX: Duration = Duration::from_secs(1000 * 365 * 86_400);

impl Timing {
    /// The same with periods that can be reckoned with, whoever sent them.
    #[must_use]
    pub fn bounded(self) -> Self {
        let bound = |period: Duration| period.min(PERIOD_MAX);
        Self {
            beat: bound(self.beat),
            dead_after: bound(self.dead_after),
            grace: bound(self.grace),
            lease: bound(self.lease),
            commit_interval: bound(self.commit_interval),
            commit_window: self.commit_window,
            stall: bound(self.stall),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
            grace: Duration::from_secs(15),
            lease: Duration::from_secs(8),
            commit_interval: Duration::from_millis(200),
            commit_window: 16,
            stall: Duration::from_secs(300),
        }
    }
}
