//! A FUSE file system that never changes, serves an implicit tree, and answers each call after a set time.
//!
//! ```text
//!   kernel ──► reader threads: decode, look into the tree, prepare the answer
//!                   │ at once (no latency)          │ due later
//!                   ▼                               ▼
//!                 reply ◄── replier thread ◄── delay line (a heap by due time)
//! ```
//!
//! Waiting takes no thread, so thousands of calls can be under way at once. `READDIRPLUS` is not
//! offered, so a listing brings names and types only; lookups and listings of one directory run beside
//! one another (`FUSE_PARALLEL_DIROPS`), and listings are never kept in the kernel's cache. Nothing here
//! measures Hydra.

mod calls;
mod delay;
mod inject;
mod self_test;
mod serve;

pub use calls::{CallCounts, Kind, Summary};
pub use inject::{Injected, Injections};
pub use self_test::{Load, measure};

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use fuser::{BackgroundSession, Config, MountOption};

use crate::implicit::ImplicitTree;
use calls::KINDS;
use delay::DelayLine;
use serve::Synthetic;

/// How calls are answered.
#[derive(Clone, Debug)]
pub struct Answering {
    /// How long a call of each kind takes, by [`Kind`].
    pub latency: [Duration; KINDS],
    /// How long the kernel may keep what a name leads to.
    pub entry_timeout: Duration,
    /// How long the kernel may keep attributes.
    pub attr_timeout: Duration,
    /// The most entries that one `READDIR` brings.
    pub entries_per_readdir: usize,
    /// Threads that read the calls of a mount.
    pub threads: usize,
    /// Mounted so that names may be removed, as far as the kernel is concerned.
    pub writable: bool,
    /// What befalls single entries; nothing where time is measured.
    pub injections: Injections,
}

impl Default for Answering {
    fn default() -> Self {
        Self {
            latency: [Duration::ZERO; KINDS],
            entry_timeout: Duration::ZERO,
            attr_timeout: Duration::ZERO,
            entries_per_readdir: 512,
            threads: 2,
            writable: false,
            injections: Injections::default(),
        }
    }
}

impl Answering {
    /// The same latency for every call that somebody waits for: all but `RELEASEDIR`.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = [latency; KINDS];
        self.latency[Kind::Releasedir as usize] = Duration::ZERO;
        self
    }

    /// What a tree is mounted with.
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.mount_options = vec![
            match self.writable {
                true => MountOption::RW,
                false => MountOption::RO,
            },
            MountOption::FSName("implicit".to_owned()),
            MountOption::Subtype("hydra-bench".to_owned()),
        ];
        config.n_threads = Some(self.threads.max(1));
        config.clone_fd = true;
        config
    }
}

/// A mounted tree, on one directory or on several. Unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    /// One for each mount.
    sessions: Vec<BackgroundSession>,
    counts: Arc<CallCounts>,
    line: Arc<DelayLine>,
    injections: Injections,
    replier: Option<JoinHandle<()>>,
}

impl Mounted {
    /// Mounts `tree` on `dir`.
    ///
    /// # Errors
    ///
    /// When FUSE cannot be used here.
    pub fn new(tree: ImplicitTree, answering: &Answering, dir: &Path) -> anyhow::Result<Self> {
        Self::on_each(tree, answering, &[dir])
    }

    /// Mounts `tree` on each of `dirs`, as hosts mount one file system: what the kernel keeps of one mount
    /// it does not know of another. Calls are counted together.
    ///
    /// # Errors
    ///
    /// When FUSE cannot be used here.
    pub fn on_each(
        tree: ImplicitTree,
        answering: &Answering,
        dirs: &[impl AsRef<Path>],
    ) -> anyhow::Result<Self> {
        let counts = Arc::new(CallCounts::default());
        let line = Arc::new(DelayLine::default());
        let replier = std::thread::Builder::new()
            .name("replier".to_owned())
            .spawn({
                let line = Arc::clone(&line);
                move || line.run()
            })
            .context("start a thread")?;
        let mut mounted = Self {
            sessions: Vec::with_capacity(dirs.len()),
            counts: Arc::clone(&counts),
            line: Arc::clone(&line),
            injections: answering.injections.clone(),
            replier: Some(replier),
        };
        let config = answering.config();
        for dir in dirs.iter().map(AsRef::as_ref) {
            let (counts, line) = (Arc::clone(&counts), Arc::clone(&line));
            let served = Synthetic::new(tree, answering.clone(), counts, line);
            let session = fuser::spawn_mount(served, dir, &config)
                .with_context(|| format!("mount on {}", dir.display()))?;
            mounted.sessions.push(session);
        }
        Ok(mounted)
    }

    /// What was called so far.
    pub fn calls(&self) -> Summary {
        self.counts.summary()
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> u64 {
        self.counts.in_flight()
    }

    /// Injects nothing from now on, and answers all that still waits.
    pub fn heal(&self) {
        self.injections.clear();
        self.line.hurry();
    }

    /// Whether a mount was unmounted by somebody else.
    pub fn is_over(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|session| session.guard.is_finished())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for session in self.sessions.drain(..) {
            // One that is busy still is detached: it ends with its last user.
            let _ = session.umount_and_join();
        }
        self.line.stop();
        if let Some(replier) = self.replier.take() {
            // It panics with the program's own mistakes only, and has said so.
            let _ = replier.join();
        }
    }
}
