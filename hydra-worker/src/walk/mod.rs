//! The walk: takes pieces of work from the ledger, one after the other, and shows what is there to the plugin.
//!
//! ```text
//!   turn.rs   between two pieces: hand over what was found, cut commits, take the next piece
//!   list.rs   a directory, or the rest of one: read, show, stop in between where it must be
//!   spool.rs  a directory of a plugin that acts: read to its end first
//!   intent.rs which of its entries the plugin intends to act on: they go on record before
//!   open.rs   roots and directories: whether they are entered
//!   names.rs  entries that somebody has read before
//!   entry.rs  one entry
//! ```
//!
//! Per entry there is no allocation, lock, clock or message; per directory one lock. Whatever has to happen in the
//! middle of a directory (a commit, sharing it with others) ends the piece in hand early: what is left becomes
//! pieces of its own, which are handed over like everything else and usually taken up again at once, with the
//! directory still open ([`parked::Parked`]).

pub(crate) mod bare;
pub(crate) mod entry;
mod here;
mod intent;
mod list;
mod names;
mod open;
mod pace;
mod parked;
mod rules;
mod split;
mod spool;
mod telling;
mod turn;

use crate::dirs::{DirCache, descriptor_budget};
use crate::errno::walk_error;
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::{Facts, Overflow, Sink, Visit, Wants};
use crate::rows::{COMMIT_ROWS_MAX, ENTRY_ROWS_MAX, Outlet};
use crate::session::{Identity, WorkerError};
use crate::shared::{Attention, Shared};
use crate::sys::Errno;
use crate::sys::link::LinkResolver;
use crate::sys::list::{LIST_BUFFER_BYTES, ListBuffer};
use crate::sys::mount::FileSystems;
use crate::sys::open::{Mounts, Opener};
use crate::sys::slot::Slot;
use crate::sys::stat::{StatMask, Sync};
use hydra_proto::item::NameList;
use hydra_proto::job::JobSpec;
use hydra_proto::ledger::{Key, Work};
use hydra_proto::walk::WalkError;
use pace::Pace;
use parked::Parked;
use rules::Rules;
use spool::{Spool, SpoolRules};
use std::any::Any;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

/// The walking thread's half of a worker.
pub(crate) struct Walker<V: Visit> {
    shared: Arc<Shared>,
    job: Arc<JobSpec>,
    visit: V,
    sink: Sink<V::Summary>,
    wants: Wants,
    /// What the plugin intends to act on goes on the server's record first.
    intents: bool,
    facts: StatMask,
    sync: Sync,
    distrust_types: bool,
    rules: Rules,
    dirs: DirCache,
    links: LinkResolver,
    systems: FileSystems,
    /// The file system asked for last.
    last_fs: Option<(u64, u64)>,
    buffer: Option<ListBuffer>,
    buffer_bytes: usize,
    parked: Parked,
    spool_rules: SpoolRules,
    /// Names of the directory that is handed out piece by piece.
    spool: Option<Spool>,
    pace: Pace,
    slot: Option<Arc<Slot>>,
    /// Directories found in the piece in hand.
    subdirs: NameList,
    /// What the piece in hand leaves behind, in the order in which it goes into the deque.
    left: Vec<Left>,
    /// The listing that is to be read on without showing anything, and where it stands.
    slow: Option<(Arc<DirNode>, u64)>,
    /// Where a listing was last tried again because its file handle was stale.
    stale: Option<(Arc<DirNode>, u64)>,
    /// Buffers for names and paths.
    name: Vec<u8>,
    path: Vec<u8>,
    tail: Vec<u8>,
    turn: turn::Turn,
}

/// What a piece of work leaves behind.
enum Left {
    Dirs(At, NameList),
    Part(Work<At>),
}

impl<V: Visit> Walker<V> {
    /// A walker of `job`.
    ///
    /// # Errors
    /// When the kernel lacks a necessary call, or the job has a bad glob.
    pub(crate) fn new(
        visit: V,
        job: Arc<JobSpec>,
        shared: Arc<Shared>,
        identity: Identity,
    ) -> Result<Self, WorkerError> {
        let opener = Opener::probe()?;
        let local =
            |root: &hydra_proto::job::RootSpec| PathBuf::from(OsStr::from_bytes(&root.local));
        let roots = job.roots.iter().map(local).collect();
        let mut wants = visit.wants();
        if wants.fs_id {
            wants.facts = wants.facts | Facts::LINKS;
        }
        let mut sink = Sink::default();
        sink.set_lease(Arc::clone(&shared.lease));
        let lazy = job.walk.lazy_stat && !wants.acts;
        let intents = job.walk.intents && wants.acts;
        if intents && wants.whole_directories {
            let reason = "what must see directories in one piece cannot put its intents on record";
            return Err(WorkerError::Walk(reason.to_owned()));
        }
        sink.bar(intents);
        let slot = identity.slot.map(Arc::new);
        shared.lock().slot = slot.clone();
        sink.set_outlet(Outlet::new(&shared, job.rows.as_ref(), slot.clone()));
        Ok(Self {
            intents,
            facts: entry::mask(wants.facts),
            sync: if lazy { Sync::Lazy } else { Sync::AsStat },
            distrust_types: identity.distrust_types,
            rules: Rules::new(&job.walk)?,
            dirs: DirCache::new(opener, roots, descriptor_budget(1), Mounts::Cross),
            links: LinkResolver::new(opener, false),
            systems: FileSystems::default(),
            last_fs: None,
            buffer: None,
            buffer_bytes: match identity.list_buffer {
                0 => LIST_BUFFER_BYTES,
                bytes => bytes,
            },
            parked: Parked::default(),
            spool_rules: SpoolRules::new(&identity.spool_dir, identity.spool_bytes),
            spool: None,
            pace: Pace::default(),
            slot,
            subdirs: NameList::default(),
            left: Vec::new(),
            slow: None,
            stale: None,
            name: Vec::new(),
            path: Vec::new(),
            tail: Vec::new(),
            turn: turn::Turn::default(),
            shared,
            job,
            visit,
            sink,
            wants,
        })
    }

    /// How many roots the job has.
    pub(crate) fn roots(&self) -> usize {
        self.job.roots.len()
    }

    /// Walks until the session is over.
    ///
    /// # Errors
    /// Why this worker cannot go on.
    pub(crate) fn run(mut self) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        while let Some((key, work)) = self.next(&shared)? {
            self.step(key, work);
        }
        Ok(())
    }

    fn step(&mut self, key: Key, work: Work<At>) {
        let on_record = matches!(work, Work::Names { .. } | Work::After { .. });
        self.sink.bar(self.intents && !on_record);
        self.sink
            .set_again(matches!(work, Work::Names { begun: true, .. }));
        match work {
            Work::Dir { parent, name } => self.directory(key, &parent, &name),
            Work::Rest { dir, visit, read } => self.rest(key, dir, visit, read),
            Work::Names {
                dir,
                visit,
                names,
                types,
                ..
            } => self.names(key, &dir, visit, names, types),
            Work::After { dir, .. } => self.after(&dir),
        }
    }

    /// Whether the piece in hand must end after this entry.
    #[inline]
    fn is_pressed(&self) -> bool {
        self.shared.wants(Attention::Now) || self.sink.is_full()
    }

    /// Calls the plugin; a panic costs what the call was about.
    fn call<T>(
        &mut self,
        path: impl FnOnce() -> Vec<u8>,
        call: impl FnOnce(&mut V, &mut Sink<V::Summary>) -> T,
    ) -> Option<T> {
        self.tell_none();
        self.sink.begin();
        let (visit, sink) = (&mut self.visit, &mut self.sink);
        let outcome = catch_unwind(AssertUnwindSafe(|| call(visit, sink)));
        let path = match self.sink.relieve() || outcome.is_err() {
            true => path(),
            false => Vec::new(),
        };
        if let Some(overflow) = self.sink.take_overflow() {
            self.left_out(path.clone(), overflow);
        }
        match outcome {
            Ok(value) => Some(value),
            Err(payload) => {
                let message = panic_message(&*payload);
                let error = WalkError::new(&path, "plugin", "PANIC", &message);
                self.sink.walk.fail(error);
                None
            }
        }
    }

    /// Rows were left out, from those of the entry `path` on.
    fn left_out(&mut self, path: Vec<u8>, overflow: Overflow) {
        let message = match overflow {
            Overflow::Entry => {
                let most = ENTRY_ROWS_MAX >> 20;
                format!("its rows come to more than {most} MiB: the others are left out")
            }
            Overflow::Commit => {
                let most = COMMIT_ROWS_MAX >> 20;
                format!(
                    "its directory has to be shown in one piece, and the rows of that come to more than {most} MiB: \
                     those from here on are left out"
                )
            }
        };
        let message = message + " (--rows-dir takes any number)";
        self.sink.fail_as(path, "rows", "EFBIG", message);
    }

    fn fail(&mut self, path: Vec<u8>, operation: &str, errno: Errno) {
        self.sink.walk.fail(walk_error(&path, operation, errno));
    }

    /// The path of a directory as results show it.
    fn shown(&self, node: &DirNode) -> Vec<u8> {
        let mut path = Vec::new();
        node.append_path(&mut path);
        match self.job.roots.get(node.root_index() as usize) {
            Some(root) => root.show(&path),
            None => path,
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panicked").to_owned()
}
