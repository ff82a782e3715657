//! Directories: reading them as far as it goes. Those of plugins that act are read to the end first (`spool`).
//!
//! ```text
//!   names ─► shown one by one ─► Listed: the directory is finished
//!                │
//!                ├─ between two buffers: the rest is left for later, the directory stays open
//!                │      (a commit is due; too many subdirectories were found)
//!                ├─ between two buffers, and others wait for work: pieces are read ahead for them first
//!                └─ within a buffer, because entries take long: what is left in the buffer becomes pieces
//! ```

use super::here::Here;
use super::split::{
    AHEAD_BYTES, AHEAD_EACH, AHEAD_TIME, BATCH_NAMES, BATCHES_MAX, Batches, Ended, pieces_apart,
    read_ahead, rest_of_buffer,
};
use super::{Left, Walker};
use crate::clock;
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::{Enter, Visit};
use crate::shared::Attention;
use crate::sys::list::{End, ListBuffer, Lister, NameHash};
use crate::sys::open::Mounts;
use crate::sys::{self, Errno};
use hydra_proto::ids::ItemId;
use hydra_proto::item::Listing;
use hydra_proto::ledger::{Key, Time, Work};
use hydra_proto::walk::WalkError;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A directory with as many entries is worth sharing.
const LARGE: u64 = 256;
/// The most subdirectories that are found before the reading of their directory is put off.
const SUBDIRS_MAX: usize = 64 << 10;
/// The same while memory is short.
const SUBDIRS_FRUGAL: usize = 1 << 10;
/// The same in bytes of names.
const SUBDIRS_BYTES_MAX: usize = 2 << 20;
/// Where paths are this long, subdirectories are kept to one parcel at a time.
const PATH_LONG: usize = 64 << 10;

/// A directory being read.
pub(super) struct Reading {
    pub(super) visit: Option<ItemId>,
    /// What was read before.
    pub(super) read: Listing,
    /// It was opened anew, and stands at its beginning.
    anew: bool,
    /// The listing is slow, and others wait for it.
    read_on: bool,
}

/// Why the showing of entries stopped.
enum Pause {
    Ended(Ended),
    /// At the end of a buffer.
    Between,
    /// At the end of a buffer, and others are hungry.
    Share,
    /// Within a buffer.
    Within,
}

impl<V: Visit> Walker<V> {
    /// Walks the directory `name` in `parent`, or `parent` itself.
    pub(super) fn directory(&mut self, key: Key, parent: &At, name: &[u8]) {
        let node = match name.is_empty() {
            true => Arc::clone(&parent.0),
            false => DirNode::below(&parent.0, name),
        };
        if node.parent().is_none() && !self.root(&node) {
            return;
        }
        let Some(fd) = self.open(&node) else {
            return;
        };
        if !name.is_empty() && !self.wants.acts {
            // The last of its subdirectories was opened: the piece in hand and `node` know it, and nobody else. Long
            // chains would fill the cache with what nobody needs, and be closed when the kernel has forgotten them.
            self.dirs.release(&parent.0, 2);
        }
        let unknown = node.end() == End::Unknown;
        if self.enter(&node, &fd) == Enter::Walk {
            let read = Listing {
                hash: NameHash::SEED,
                ..Listing::default()
            };
            let reading = Reading {
                visit: None,
                read,
                anew: true,
                read_on: false,
            };
            self.read(key, &node, fd, reading);
        }
        // It is no mount point: of that it would have been known.
        if let Some(above) = node.right_above().filter(|_| unknown) {
            above.learn_end(node.end());
        }
    }

    /// Reads on in a directory.
    pub(super) fn rest(&mut self, key: Key, dir: At, visit: Option<ItemId>, read: Listing) {
        if let Some(spool) = self.spooled(&dir.0, read.entries) {
            return self.spooled_rest(key, visit, spool);
        }
        let parked = self.parked.take(&dir.0, read.entries);
        let slow = self.slow.take();
        let read_on =
            slow.is_some_and(|(node, at)| Arc::ptr_eq(&node, &dir.0) && at == read.entries);
        let anew = parked.is_none();
        let fd = parked.or_else(|| self.reopen(&dir.0));
        if let Some(fd) = fd {
            let reading = Reading {
                visit,
                read,
                anew,
                read_on,
            };
            self.read(key, &dir.0, fd, reading);
        }
    }

    /// All entries of a split directory were shown.
    pub(super) fn after(&mut self, dir: &At) {
        let job = Arc::clone(&self.job);
        if let Some(fd) = self.reopen(&dir.0)
            && let Some(here) = Here::new(&job, &dir.0, fd.as_fd(), &self.slot)
        {
            self.leave(&here);
        }
    }

    fn enter(&mut self, node: &Arc<DirNode>, fd: &OwnedFd) -> Enter {
        let job = Arc::clone(&self.job);
        let Some(here) = Here::new(&job, node, fd.as_fd(), &self.slot) else {
            return Enter::Skip;
        };
        let entered = self.call(
            || here.shown(b""),
            |visit, out| visit.enter(&here.dir(), out),
        );
        entered.unwrap_or(Enter::Walk)
    }

    pub(super) fn leave(&mut self, here: &Here<'_>) {
        if self.wants.leave {
            self.call(
                || here.shown(b""),
                |visit, out| visit.leave(&here.dir(), out),
            );
        }
    }

    /// Reads a directory, and keeps it open if somebody will need that.
    fn read(&mut self, key: Key, node: &Arc<DirNode>, fd: OwnedFd, reading: Reading) {
        let job = Arc::clone(&self.job);
        let buffer = self.buffer.take();
        let mut buffer = buffer.unwrap_or_else(|| ListBuffer::new(self.buffer_bytes));
        let parked = Here::new(&job, node, fd.as_fd(), &self.slot)
            .and_then(|here| self.read_here(key, &here, &mut buffer, reading));
        self.buffer = Some(buffer);
        match parked {
            Some(entries) => self.parked.put(node, entries, fd),
            None if matches!(self.left.last(), Some(Left::Dirs(..))) => self.dirs.keep(node, fd),
            None => {}
        }
    }

    /// Returns after how many names the directory is to be parked, if it is.
    fn read_here(
        &mut self,
        key: Key,
        here: &Here<'_>,
        buffer: &mut ListBuffer,
        mut reading: Reading,
    ) -> Option<u64> {
        self.tell_directory(here.fd);
        self.tell_list();
        let mut lister = self.lister(here, buffer, &reading)?;
        if self.wants.acts {
            self.list_first(key, here, &mut lister, &reading);
            return None;
        }
        if key.careful && self.may_split(here.node, &mut reading.visit) {
            // Entries are shown one by one.
            return self.read_on(here, &mut lister, reading, usize::MAX, Time::MAX);
        }
        if reading.read_on && (self.shared.lock().frontier.held() as usize) < BATCHES_MAX {
            // Until much lies ahead, others need what a slow listing brings more than what one worker could show meanwhile.
            let until = clock::now() + AHEAD_TIME;
            let parked = self.read_on(here, &mut lister, reading, BATCHES_MAX, until);
            self.slow = parked.map(|at| (Arc::clone(here.node), at));
            return parked;
        }
        loop {
            let parked = match self.show(here, &mut lister, &mut reading) {
                Pause::Ended(ended) => {
                    let listed = self.ended(here, &lister, &reading, ended);
                    if listed && reading.visit.is_none() {
                        self.leave(here);
                    }
                    None
                }
                Pause::Between => self.put_off(here, &lister, &reading),
                pause => {
                    if !self.may_split(here.node, &mut reading.visit) {
                        continue;
                    }
                    self.split(here, &mut lister, &mut reading, &pause)
                }
            };
            return parked;
        }
    }

    /// A lister behind what was read before; `None` if that is no longer the same.
    fn lister<'b>(
        &mut self,
        here: &Here<'b>,
        buffer: &'b mut ListBuffer,
        reading: &Reading,
    ) -> Option<Lister<'b>> {
        let read = reading.read;
        if reading.read.entries == 0 {
            self.pace.restart();
        }
        let end = match self.rules.mounts() {
            Mounts::Detect => here.node.end(),
            // Nobody would know that a mount lies between.
            Mounts::Cross => End::Silent,
        };
        if !reading.anew {
            let lister = Lister::resume(here.fd, buffer, read.entries, read.hash);
            return Some(lister.knowing(end));
        }
        let mut lister = Lister::new(here.fd, buffer).knowing(end);
        for _ in 0..read.entries {
            self.tell_name();
            match lister.next() {
                Some(Ok(_)) => {}
                Some(Err(errno)) => {
                    self.fail(here.shown(b""), "list", errno);
                    return None;
                }
                None => break,
            }
        }
        if (lister.names(), lister.hash()) == (read.entries, read.hash) {
            return Some(lister);
        }
        let message = "the directory changed while it was being read in parts";
        let error = WalkError::new(&here.shown(b""), "list", "CHANGED", message);
        self.sink.walk.fail(error);
        None
    }

    /// Shows entries until there is a reason to stop.
    fn show(&mut self, here: &Here<'_>, lister: &mut Lister<'_>, reading: &mut Reading) -> Pause {
        let mut announced = false;
        let mut large = false;
        let mut shown = 0;
        loop {
            self.tell_list();
            match lister.next() {
                None => return Pause::Ended(Ended::Listed),
                Some(Err(errno)) => return Pause::Ended(Ended::Failed(errno)),
                Some(Ok(entry)) => {
                    if large {
                        large = false;
                        self.pace.begin(shown);
                    }
                    let file_type = super::entry::type_of(entry.kind);
                    reading.read.directories += u64::from(entry.kind == sys::FileType::Directory);
                    self.entry(here, entry.c_name, file_type);
                }
            }
            if self.wants.whole_directories {
                continue;
            }
            if lister.at_buffer_end() {
                self.pace.end(lister.names());
                shown = lister.names();
                large = shown >= LARGE;
                if large && let Some(pause) = self.between(here, &mut announced) {
                    return pause;
                }
            } else if self.is_pressed() {
                return Pause::Within;
            } else if self.shared.lasts() {
                self.say_divisible();
            }
        }
    }

    /// Looks around between two buffers of a large directory.
    fn between(&mut self, here: &Here<'_>, announced: &mut bool) -> Option<Pause> {
        if !*announced {
            *announced = true;
            self.say_divisible();
        }
        let names_max = match here.node.path_len() {
            _ if self.shared.is_frugal() => SUBDIRS_FRUGAL,
            0..PATH_LONG => SUBDIRS_MAX,
            _ => hydra_proto::item::PARCEL_NAMES_MAX / 2,
        };
        if self.subdirs.len() >= names_max || self.subdirs.size() >= SUBDIRS_BYTES_MAX {
            return Some(Pause::Between);
        }
        let pressed = self.is_pressed();
        if !pressed && !self.shared.wants(Attention::Soon) {
            return None;
        }
        let ledger = self.shared.lock();
        match ledger.frontier.asked() {
            Some(shed)
                if ledger.frontier.held() <= u64::from(shed.hungry) && self.pace.may_give() =>
            {
                Some(Pause::Share)
            }
            _ if ledger.commit_due || pressed => Some(Pause::Between),
            _ => None,
        }
    }

    /// Leaves the unread part for later, below the directories that were found.
    fn put_off(&mut self, here: &Here<'_>, lister: &Lister<'_>, reading: &Reading) -> Option<u64> {
        let read = listing(lister, reading);
        let dir = At(Arc::clone(here.node));
        let visit = reading.visit;
        self.left.push(Left::Part(Work::Rest { dir, visit, read }));
        self.leave_subdirs(here.node);
        Some(read.entries)
    }

    /// Turns what is left into pieces. Those that are read ahead lie lowest, so that they are given away first and
    /// this worker reads on before it takes one up; what was in the buffer lies highest. Where listing is slow that lies
    /// lower, too: those who wait would soon wait again if nobody read on.
    fn split(
        &mut self,
        here: &Here<'_>,
        lister: &mut Lister<'_>,
        reading: &mut Reading,
        pause: &Pause,
    ) -> Option<u64> {
        self.tell_list();
        let shares = self.shares();
        let mut own = Batches::new(here.node, BATCH_NAMES, AHEAD_BYTES);
        let mut ahead = Batches::new(here.node, BATCH_NAMES, AHEAD_BYTES);
        let directories = &mut reading.read.directories;
        let mut ended = match pause {
            Pause::Within => rest_of_buffer(lister, directories, &mut own),
            _ => None,
        };
        let mut slow = false;
        if shares > 1 && ended.is_none() {
            let others = shares as u64 - 1;
            let due = self.pace.due(others) as usize / BATCH_NAMES;
            let window = due.max(AHEAD_EACH * shares).min(BATCHES_MAX);
            let before = lister.names();
            let until = clock::now() + AHEAD_TIME;
            ended = read_ahead(lister, directories, &mut ahead, window, until);
            slow = ended.is_none() && !ahead.is_full(window);
            if ahead.len() + 1 < shares {
                ahead = ahead.shared_among(here.node, shares - 1);
            }
            let ahead = lister.names() - before;
            self.pace.gave(ahead - ahead / shares as u64, others);
        }
        let visit = reading.visit;
        self.leave_names(here.node, visit, ahead);
        let own_shares = shares.min(pieces_apart(here.node, own.names()));
        let mut own = Some(own.shared_among(here.node, own_shares));
        if let Some(own) = own.take_if(|_| slow) {
            self.leave_names(here.node, visit, own);
        }
        let parked = match ended {
            Some(ended) => {
                self.ended(here, lister, reading, ended);
                None
            }
            None => {
                let at = lister.names();
                self.slow = slow.then(|| (Arc::clone(here.node), at));
                self.put_off(here, lister, reading)
            }
        };
        if let Some(own) = own {
            self.leave_names(here.node, visit, own);
        }
        parked
    }

    /// Reads without showing anything, as `read_ahead` does, and leaves all that was read as pieces.
    fn read_on(
        &mut self,
        here: &Here<'_>,
        lister: &mut Lister<'_>,
        mut reading: Reading,
        window: usize,
        until: Time,
    ) -> Option<u64> {
        let mut ahead = Batches::new(here.node, BATCH_NAMES, AHEAD_BYTES);
        let directories = &mut reading.read.directories;
        let ended = read_ahead(lister, directories, &mut ahead, window, until);
        self.leave_names(here.node, reading.visit, ahead);
        match ended {
            Some(ended) => {
                self.ended(here, lister, &reading, ended);
                None
            }
            None => self.put_off(here, lister, &reading),
        }
    }

    /// The listing has ended, well or not; whether well.
    fn ended(
        &mut self,
        here: &Here<'_>,
        lister: &Lister<'_>,
        reading: &Reading,
        ended: Ended,
    ) -> bool {
        here.node.learn_end(lister.end());
        let read = listing(lister, reading);
        let listed = match ended {
            Ended::Listed => {
                self.call(
                    || here.shown(b""),
                    |visit, out| visit.listed(&here.dir(), &read, out),
                );
                true
            }
            Ended::Failed(Errno::STALE) if self.is_first_try(here.node, read.entries) => {
                let dir = At(Arc::clone(here.node));
                let visit = reading.visit;
                self.left.push(Left::Part(Work::Rest { dir, visit, read }));
                false
            }
            Ended::Failed(errno) => {
                self.fail(here.shown(b""), "list", errno);
                false
            }
        };
        self.leave_subdirs(here.node);
        listed
    }

    /// A stale file handle is tried again once: opened anew, it may be good.
    pub(super) fn is_first_try(&mut self, node: &Arc<DirNode>, entries: u64) -> bool {
        let before = self.stale.replace((Arc::clone(node), entries));
        before.is_none_or(|(tried, at)| !Arc::ptr_eq(&tried, node) || at != entries)
    }
}

/// What was read so far.
fn listing(lister: &Lister<'_>, reading: &Reading) -> Listing {
    Listing {
        entries: lister.names(),
        directories: reading.read.directories,
        hash: lister.hash(),
    }
}
