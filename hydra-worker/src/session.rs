//! A worker's session with its parent: from the greeting to the end of the job.

use crate::plugin::Visit;
use crate::shared::Shared;
use crate::sys::slot::Slot;
use crate::talk::Talker;
use crate::walk::Walker;
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Uplink, UplinkConfig};
use hydra_proto::message::{Ready, Refusal, RootFacts, RootView, Up};
use hydra_proto::words::not_started;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a worker ends before its job does.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The channel to the parent failed.
    #[error("{operation} failed on the channel to the client")]
    Channel {
        /// The operation.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What the parent said cannot be understood.
    #[error("the client broke the protocol: {0}")]
    Protocol(String),
    /// The parent wants nothing of this worker (any more).
    #[error("the client ended the session: {0:?}")]
    Refused(Refusal),
    /// The kernel lacks what the walk needs.
    #[error(transparent)]
    Unsupported(#[from] crate::sys::open::Unsupported),
    /// The job excludes by a glob that is none.
    #[error("the exclude pattern {pattern:?} is not a glob")]
    Glob {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// The job excludes by more globs than can be looked for at once.
    #[error("the {count} exclude patterns together cannot be used")]
    Globs {
        /// How many they are.
        count: usize,
        /// What is wrong with them.
        #[source]
        source: globset::Error,
    },
    /// The walking thread could not be started, or failed.
    #[error("the walk failed: {0}")]
    Walk(String),
}

/// Who a worker is, and how it works apart from the job.
#[derive(Debug, Default)]
pub struct Identity {
    /// What it calls itself.
    pub name: String,
    /// Drawn at random when its process started.
    pub nonce: u64,
    /// This build, for people.
    pub release: String,
    /// The page that it shares with its supervisor.
    pub slot: Option<Slot>,
    /// Give the walking thread a descriptor table of its own, which saves the kernel an atomic operation for each
    /// call on a descriptor. Only for a process that ends with its session: the copies stay open until then.
    pub own_descriptors: bool,
    /// Where an acting plugin's worker puts the names of a directory that are too many for memory, in an unlinked file;
    /// empty for the usual place, `/var/tmp`.
    pub spool_dir: PathBuf,
    /// Bytes of names that such a worker keeps in memory; 0 for the usual number. For tests.
    pub spool_bytes: usize,
    /// Bytes of the buffer that directories are read into; 0 for the usual size. For tests.
    pub list_buffer: usize,
    /// Ask `statx` for every type, as if directories gave none. For tests.
    pub distrust_types: bool,
}

/// A worker's session. Nothing is walked before [`Session::run`].
pub struct Session {
    talker: Talker,
    shared: Arc<Shared>,
    job: Arc<JobSpec>,
    forward_logs: bool,
    identity: Identity,
}

impl Session {
    /// Greets the parent at the other end of `channel`, and waits to be told the job.
    ///
    /// # Errors
    /// When the channel fails, or the parent refuses.
    pub fn open(channel: OwnedFd, identity: Identity) -> Result<Self, WorkerError> {
        let uplink = Uplink::new(UplinkConfig {
            name: identity.name.clone(),
            workers: 1,
            nonce: identity.nonce,
            release: identity.release.clone(),
            resumable: false,
            uncut: false,
        });
        let shared = Shared::new(uplink).map_err(|errno| WorkerError::Channel {
            operation: "eventfd",
            source: errno.into(),
        })?;
        let shared = Arc::new(shared);
        let mut talker = Talker::new(channel, Arc::clone(&shared))?;
        let welcome = talker.welcome()?;
        Ok(Self {
            talker,
            shared,
            job: Arc::new(welcome.job),
            forward_logs: welcome.forward_logs,
            identity,
        })
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> &JobSpec {
        &self.job
    }

    /// Whether the parent wants log lines.
    #[must_use]
    pub fn forward_logs(&self) -> bool {
        self.forward_logs
    }

    /// Walks what is granted and shows it to `visit`, until the parent ends the session or hangs up. Returns then
    /// without waiting for a plugin that is in the middle of something: the process is to end.
    ///
    /// # Errors
    /// When the walk cannot be started, or the session ends otherwise than with the job.
    pub fn run<V: Visit>(mut self, visit: V) -> Result<(), WorkerError> {
        let shared = Arc::clone(&self.shared);
        let own_descriptors = self.identity.own_descriptors;
        let walker = match Walker::new(visit, self.job, shared, self.identity) {
            Ok(walker) => walker,
            Err(error) => {
                self.talker.leave(error.to_string());
                return Err(error);
            }
        };
        self.shared.say_ready(walker.roots());
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new()
            .name("walk".to_owned())
            .spawn(move || {
                if own_descriptors {
                    // Where it is not allowed, the walk is a little slower.
                    let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES);
                }
                walk(walker, &shared);
            });
        if let Err(error) = spawned {
            let why = not_started(&error);
            self.talker.leave(why.clone());
            return Err(WorkerError::Walk(why));
        }
        self.talker.run()
    }

    /// Ends the session because this worker cannot do the job.
    pub fn leave(mut self, reason: &str) {
        self.talker.leave(reason.to_owned());
    }
}

/// The walking thread.
fn walk<V: Visit>(walker: Walker<V>, shared: &Shared) {
    let failure = match catch_unwind(AssertUnwindSafe(|| walker.run())) {
        Ok(Ok(())) => return,
        Ok(Err(reason)) => reason,
        Err(payload) => crate::walk::panic_message(&*payload),
    };
    shared.lock().failure = Some(failure);
    shared.wake();
}

impl Shared {
    /// The client has looked at the roots; its workers see what it sees.
    fn say_ready(&self, roots: usize) {
        let mut ledger = self.lock();
        let seen = RootView::Seen(RootFacts {
            fs_type: String::new(),
            fs_id: String::new(),
            inode: 0,
            directory: true,
            on_system_disk: false,
        });
        let ready = Ready {
            epoch: ledger.uplink.epoch(),
            roots: vec![seen; roots],
        };
        ledger.uplink.send(Up::Ready(ready));
    }
}
