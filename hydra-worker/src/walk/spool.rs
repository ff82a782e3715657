//! Directories of plugins that change the tree: listed to the end before anything in them is shown, so that what the
//! plugin does cannot show in the listing.
//!
//! ```text
//!   listing ──► names: in memory up to a budget, then in an unlinked file
//!                 │ the listing has ended
//!                 ▼
//!   few: shown at once          many: pieces, all of them in one commit; only of more than 32 MiB of names is there a
//!                               rest, which lies highest and so goes on record before this worker shows anything
//! ```
//!
//! A worker that dies before all names of so large a directory are on record leaves a rest that can be read again only
//! if nobody has changed the directory yet; otherwise that is reported, as it is of every rest. In jobs with intents
//! see [`super::intent`] for what happens when the listing has ended.

use super::here::Here;
use super::list::Reading;
use super::split::{AHEAD_BYTES, BATCH_NAMES, Batches, Ended};
use super::{Left, Walker};
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::Visit;
use crate::sys::Errno;
use crate::sys::list::{Lister, NameHash};
use hydra_proto::ids::ItemId;
use hydra_proto::item::Listing;
use hydra_proto::ledger::{Key, Work};
use hydra_proto::walk::FileType;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where names go that are too many for memory, unless told otherwise.
const SPOOL_DIR: &str = "/var/tmp";

/// So many times what may be in memory of a listing goes on record in one commit: 32 MiB, unless told otherwise.
const COMMIT_SHARES: usize = 16;

/// Where names are kept, and how many.
pub(super) struct SpoolRules {
    dir: PathBuf,
    bytes: usize,
}

impl SpoolRules {
    /// No more than `bytes` of names in memory, the others in a file in `dir`; none stands for what is usual.
    pub(super) fn new(dir: &Path, bytes: usize) -> Self {
        let empty = dir.as_os_str().is_empty();
        Self {
            dir: if empty { Path::new(SPOOL_DIR) } else { dir }.to_path_buf(),
            bytes: if bytes == 0 { AHEAD_BYTES } else { bytes },
        }
    }

    /// How much of one directory goes on record at once.
    pub(super) fn commit_bytes(&self) -> usize {
        COMMIT_SHARES * self.bytes
    }
}

/// The names of one directory, as it is listed.
struct Listed {
    memory: Batches,
    file: Option<BufWriter<File>>,
    directories: u64,
    ended: Ended,
}

impl Listed {
    /// Reads to the end, and calls `tell` at each name.
    fn read(
        lister: &mut Lister<'_>,
        rules: &SpoolRules,
        node: &DirNode,
        tell: impl Fn(),
    ) -> io::Result<Self> {
        let mut listed = Self {
            memory: Batches::new(node, BATCH_NAMES, rules.bytes),
            file: None,
            directories: 0,
            ended: Ended::Listed,
        };
        loop {
            match lister.next() {
                None => return Ok(listed),
                Some(Err(errno)) => {
                    listed.ended = Ended::Failed(errno);
                    return Ok(listed);
                }
                Some(Ok(entry)) => {
                    tell();
                    let file_type = super::entry::type_of(entry.kind);
                    listed.directories += u64::from(file_type == FileType::Directory);
                    listed.push(entry.name(), file_type.to_raw(), &rules.dir)?;
                }
            }
        }
    }

    fn push(&mut self, name: &[u8], file_type: u8, dir: &Path) -> io::Result<()> {
        if self.file.is_none() && !self.memory.is_full(usize::MAX) {
            self.memory.push(name, file_type);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(tempfile::tempfile_in(dir)?)),
        };
        let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&[file_type])?;
        file.write_all(name)
    }

    /// The names from the beginning, `bytes` at a time.
    fn into_spool(
        self,
        node: &Arc<DirNode>,
        bytes: usize,
        before: Listing,
        all: Listing,
    ) -> io::Result<Spool> {
        let file = match self.file {
            Some(file) => {
                let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.rewind()?;
                Some(BufReader::new(file))
            }
            None => None,
        };
        Ok(Spool {
            node: Arc::clone(node),
            memory: Some(self.memory),
            file,
            bytes,
            out: before,
            all,
            ended: self.ended,
        })
    }
}

/// The names of a directory that was listed to its end, as far as they were not handed out.
pub(super) struct Spool {
    node: Arc<DirNode>,
    memory: Option<Batches>,
    file: Option<BufReader<File>>,
    bytes: usize,
    /// What was handed out, as a reader of the directory would have found it.
    out: Listing,
    /// What there is in all.
    all: Listing,
    ended: Ended,
}

impl Spool {
    /// The next names, as many as may be in memory.
    pub(super) fn take(&mut self) -> io::Result<Batches> {
        let mut hash = NameHash::resume(self.out.hash);
        let mut note = |out: &mut Listing, name: &[u8], file_type: u8| {
            hash.add(name);
            out.entries += 1;
            out.directories += u64::from(FileType::from_raw(file_type) == FileType::Directory);
            out.hash = hash.value();
        };
        if let Some(memory) = self.memory.take() {
            for (name, file_type) in memory.iter() {
                note(&mut self.out, name, file_type);
            }
            return Ok(memory);
        }
        let mut batches = Batches::new(&self.node, BATCH_NAMES, self.bytes);
        let mut name = Vec::new();
        while let Some(file) = &mut self.file
            && self.out.entries < self.all.entries
            && !batches.is_full(usize::MAX)
        {
            let mut head = [0; 3];
            file.read_exact(&mut head)?;
            let [low, high, file_type] = head;
            name.resize(usize::from(u16::from_le_bytes([low, high])), 0);
            file.read_exact(&mut name)?;
            note(&mut self.out, &name, file_type);
            batches.push(&name, file_type);
        }
        Ok(batches)
    }

    /// What was handed out so far.
    pub(super) fn out(&self) -> Listing {
        self.out
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.entries >= self.all.entries
    }
}

impl<V: Visit> Walker<V> {
    /// Reads a directory to its end, then shows it or hands it out.
    pub(super) fn list_first(
        &mut self,
        key: Key,
        here: &Here<'_>,
        lister: &mut Lister<'_>,
        reading: &Reading,
    ) {
        let tell = || self.tell_name();
        let listed = match Listed::read(lister, &self.spool_rules, here.node, tell) {
            Ok(listed) => listed,
            Err(error) => return self.spool_failed(here, &error),
        };
        let before = reading.read;
        let stale = listed.ended == Ended::Failed(Errno::STALE);
        if stale && self.is_first_try(here.node, before.entries) {
            // Nothing was shown yet: all of it is tried again.
            let (dir, visit) = (At(Arc::clone(here.node)), reading.visit);
            let read = before;
            self.left.push(Left::Part(Work::Rest { dir, visit, read }));
            return;
        }
        let all = Listing {
            entries: lister.names(),
            directories: before.directories + listed.directories,
            hash: lister.hash(),
        };
        match listed.into_spool(here.node, self.spool_rules.bytes, before, all) {
            Ok(spool) => self.hand_out(key, here, reading.visit, spool),
            Err(error) => self.spool_failed(here, &error),
        }
    }

    /// The names that were spooled behind the first `entries` of `node`, if they were.
    pub(super) fn spooled(&mut self, node: &Arc<DirNode>, entries: u64) -> Option<Spool> {
        let same =
            |spool: &mut Spool| Arc::ptr_eq(&spool.node, node) && spool.out.entries == entries;
        self.spool.take_if(same)
    }

    /// Goes on handing out names.
    pub(super) fn spooled_rest(&mut self, key: Key, visit: Option<ItemId>, spool: Spool) {
        let node = Arc::clone(&spool.node);
        let job = Arc::clone(&self.job);
        let Some(fd) = self.reopen(&node) else { return };
        if let Some(here) = Here::new(&job, &node, fd.as_fd(), &self.slot) {
            self.hand_out(key, &here, visit, spool);
        }
        if matches!(self.left.last(), Some(Left::Dirs(..))) {
            self.dirs.keep(&node, fd);
        }
    }

    fn hand_out(&mut self, key: Key, here: &Here<'_>, mut visit: Option<ItemId>, mut spool: Spool) {
        self.tell_none();
        if self.intents {
            return self.intend(here, visit, spool);
        }
        loop {
            let batches = match spool.take() {
                Ok(batches) => batches,
                Err(error) => {
                    self.leave_subdirs(here.node);
                    return self.spool_failed(here, &error);
                }
            };
            let last = spool.is_empty();
            let few = batches.len() == 0 || (batches.len() == 1 && !key.careful);
            if !(last && few && visit.is_none()) && self.may_split(here.node, &mut visit) {
                self.leave_subdirs(here.node);
                return self.leave_all(here, visit, batches, spool);
            }
            let batches = self.show_all(here, &mut visit, batches);
            if batches.len() > 0 {
                self.leave_subdirs(here.node);
                return self.leave_all(here, visit, batches, spool);
            }
            if last {
                self.leave_subdirs(here.node);
                if self.listed(here, &spool) && visit.is_none() {
                    self.leave(here);
                }
                return;
            }
        }
    }

    /// Leaves the names, and all others of the directory: in one commit, if they are not too many for that. Who lists
    /// the rest, should this worker die, would find what others have done meanwhile.
    fn leave_all(
        &mut self,
        here: &Here<'_>,
        visit: Option<ItemId>,
        mut batches: Batches,
        mut spool: Spool,
    ) {
        let mut room = self.spool_rules.commit_bytes();
        loop {
            room = room.saturating_sub(batches.bytes());
            self.leave_names(here.node, visit, batches);
            if spool.is_empty() {
                self.listed(here, &spool);
                return;
            }
            if room == 0 {
                return self.leave_rest(here, visit, spool);
            }
            batches = match spool.take() {
                Ok(batches) => batches,
                Err(error) => return self.spool_failed(here, &error),
            };
        }
    }

    /// Tells how the listing has ended; whether well.
    pub(super) fn listed(&mut self, here: &Here<'_>, spool: &Spool) -> bool {
        match spool.ended {
            Ended::Listed => {
                self.call(
                    || here.shown(b""),
                    |visit, out| visit.listed(&here.dir(), &spool.all, out),
                );
                true
            }
            Ended::Failed(errno) => {
                self.fail(here.shown(b""), "list", errno);
                false
            }
        }
    }

    pub(super) fn spool_failed(&mut self, here: &Here<'_>, error: &io::Error) {
        self.sink.fail(here.shown(b""), "temporary file", error);
    }
}
