//! Entries that were read before, by this worker or another.

use super::Walker;
use super::here::Here;
use super::split::{AHEAD_BYTES, BATCH_NAMES, Batches, pieces_apart};
use crate::clock;
use crate::entry::Dir;
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::Visit;
use crate::sys::Errno;
use hydra_proto::ids::{ItemId, RootId};
use hydra_proto::item::NameList;
use hydra_proto::ledger::Key;
use hydra_proto::walk::FileType;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// No pieces are made that take less.
const PIECE_TIME: Duration = Duration::from_millis(4);

impl<V: Visit> Walker<V> {
    /// Shows entries of `dir`.
    pub(super) fn names(
        &mut self,
        key: Key,
        dir: &At,
        mut visit: Option<ItemId>,
        names: NameList,
        types: Vec<u8>,
    ) {
        if key.careful && names.len() > 1 && self.may_split(&dir.0, &mut visit) {
            let pieces = tail(dir, &names, &types, 0, 2);
            return self.leave_names(&dir.0, visit, pieces);
        }
        let job = Arc::clone(&self.job);
        let fd = match self.base(&dir.0) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return self.all_gone(&dir.0, &names, &types);
            }
            Err(errno) => return self.fail(self.shown(&dir.0), "open", errno),
        };
        let Some(mut here) = Here::new(&job, &dir.0, fd.as_fd(), &self.slot) else {
            return;
        };
        here.on_record = self.tells_gone();
        self.tell_directory(here.fd);
        let begun = clock::now();
        let (mut done, mut worth, mut pressed) = (0, 1, None);
        while done < names.len() {
            done = self.show_names(&here, &names, &types, done, true);
            let (now, left) = (clock::now(), names.len() - done);
            // What is not worth dividing may come to its end, unless that takes longer than it seemed to.
            let late = now >= *pressed.get_or_insert(now) + PIECE_TIME;
            worth =
                pieces_worth(now.saturating_sub(begun), done, left).min(pieces_apart(&dir.0, left));
            let stops = worth > 1 || late || self.sink.is_full();
            if left > 0 && stops && self.may_split(&dir.0, &mut visit) {
                break;
            }
        }
        self.leave_subdirs(&dir.0);
        if done < names.len() {
            let pieces = tail(dir, &names, &types, done, self.shares().min(worth.max(1)));
            self.leave_names(&dir.0, visit, pieces);
        } else if visit.is_none() {
            self.leave(&here);
        }
    }

    /// Whether the plugin is told which of the names in hand are gone: where it has said that it intends to act on
    /// them, or where that may have been done already.
    fn tells_gone(&self) -> bool {
        self.wants.acts && (self.intents || self.sink.again())
    }

    /// The directory of these names is gone.
    fn all_gone(&mut self, node: &Arc<DirNode>, names: &NameList, types: &[u8]) {
        self.sink.walk.vanished += names.len() as u64;
        let job = Arc::clone(&self.job);
        let Some(root) = job.roots.get(node.root_index() as usize) else {
            return;
        };
        let dir = Dir {
            root,
            root_id: RootId(node.root_index()),
            depth: node.depth(),
            fd: None,
            path: &**node,
            slot: None,
        };
        if self.tells_gone() {
            for (name, &file_type) in names.iter().zip(types) {
                self.gone(&dir, name, FileType::from_raw(file_type));
            }
        }
    }

    /// Shows names from `from` on; returns where it stopped, one at least. Where they are `divisible` and last, others
    /// are told that they may have some.
    fn show_names(
        &mut self,
        here: &Here<'_>,
        names: &NameList,
        types: &[u8],
        from: usize,
        divisible: bool,
    ) -> usize {
        for index in from..names.len() {
            let name = names.get(index).unwrap_or_default();
            let raw = types.get(index).copied().unwrap_or_default();
            self.show_name(here, name, FileType::from_raw(raw));
            if self.is_pressed() {
                return index + 1;
            }
            if divisible && index + 1 < names.len() && self.shared.lasts() {
                self.say_divisible();
            }
        }
        names.len()
    }

    fn show_name(&mut self, here: &Here<'_>, name: &[u8], file_type: FileType) {
        self.with_name(name, |walker, name| walker.entry(here, name, file_type));
    }

    /// Calls with the name as system calls take it.
    pub(super) fn with_name<T>(
        &mut self,
        name: &[u8],
        call: impl FnOnce(&mut Self, &CStr) -> T,
    ) -> Option<T> {
        let mut terminated = std::mem::take(&mut self.name);
        terminated.clear();
        terminated.extend_from_slice(name);
        terminated.push(0);
        // Names with NUL do not come this far: parcels are checked on arrival.
        let name = CStr::from_bytes_with_nul(&terminated).ok();
        let result = name.map(|name| call(self, name));
        self.name = terminated;
        result
    }

    /// Shows entries until too many rows were found of them, and the directory may be split; returns the others.
    pub(super) fn show_all(
        &mut self,
        here: &Here<'_>,
        visit: &mut Option<ItemId>,
        batches: Batches,
    ) -> Batches {
        let mut left = Batches::new(here.node, BATCH_NAMES, usize::MAX);
        let mut stopped = false;
        for (names, types) in batches.into_pieces() {
            let mut done = 0;
            while done < names.len() && !stopped {
                done = self.show_names(here, &names, &types, done, false);
                stopped = self.sink.is_full() && self.may_split(here.node, visit);
            }
            for index in done..names.len() {
                let name = names.get(index).unwrap_or_default();
                left.push(name, types.get(index).copied().unwrap_or_default());
            }
        }
        left
    }
}

/// How many pieces `left` names are worth where `done` took so long. To move one that is finished sooner takes as long.
fn pieces_worth(spent: Duration, done: usize, left: usize) -> usize {
    let left = u128::from(left as u64) * spent.as_nanos() / u128::from(done.max(1) as u64);
    usize::try_from(left / PIECE_TIME.as_nanos()).unwrap_or(usize::MAX)
}

/// The names from `from` on, in about `shares` pieces.
fn tail(dir: &At, names: &NameList, types: &[u8], from: usize, shares: usize) -> Batches {
    let left = names.len() - from;
    let mut pieces = Batches::new(&dir.0, left.div_ceil(shares.max(1)), AHEAD_BYTES);
    for index in from..names.len() {
        let name = names.get(index).unwrap_or_default();
        pieces.push(name, types.get(index).copied().unwrap_or_default());
    }
    pieces
}
