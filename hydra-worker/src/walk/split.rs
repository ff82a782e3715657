//! Making pieces out of a directory that cannot be finished in one go.

use super::{Left, Walker};
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::Visit;
use crate::sys::Errno;
use crate::sys::list::Lister;
use hydra_proto::ids::ItemId;
use hydra_proto::item::NameList;
use hydra_proto::ledger::Work;
use std::sync::Arc;

/// Names in one piece.
pub(super) const BATCH_NAMES: usize = 2048;
/// The fewest pieces that are read ahead for each who waits: of 100,000 names a tenth and more, should nobody come to
/// ask again.
pub(super) const AHEAD_EACH: usize = 10;
/// The most pieces that are read ahead of the walk.
pub(super) const BATCHES_MAX: usize = 32;
/// The most bytes of names, with the paths that they repeat, that are read ahead.
pub(super) const AHEAD_BYTES: usize = 2 << 20;

/// Names and types, cut into pieces.
pub(super) struct Batches {
    pieces: Vec<(NameList, Vec<u8>)>,
    names_each: usize,
    path_len: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Batches {
    /// Pieces of at most `names_each` names of the directory `node`, full at about `bytes_max`.
    pub(super) fn new(node: &DirNode, names_each: usize, bytes_max: usize) -> Self {
        Self {
            pieces: Vec::new(),
            names_each: names_each.clamp(1, BATCH_NAMES),
            path_len: node.path_len(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn push(&mut self, name: &[u8], file_type: u8) {
        let full = |(names, _): &(NameList, Vec<u8>)| names.len() >= self.names_each;
        if self.pieces.last().is_none_or(full) {
            self.pieces.push(Default::default());
            self.bytes += self.path_len;
        }
        if let Some((names, types)) = self.pieces.last_mut() {
            names.push(name);
            types.push(file_type);
            self.bytes += name.len() + 5;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// About what they take in memory and on the wire.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has `count` full pieces, or as many as memory allows.
    pub(super) fn is_full(&self, count: usize) -> bool {
        self.pieces.len() > count || self.bytes >= self.bytes_max
    }

    /// The names with their types.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u8)> {
        let pieces = self.pieces.iter();
        pieces.flat_map(|(names, types)| names.iter().zip(types.iter().copied()))
    }

    /// The same names in about as many pieces as there are shares.
    pub(super) fn shared_among(self, node: &DirNode, shares: usize) -> Self {
        let total: usize = self.pieces.iter().map(|(names, _)| names.len()).sum();
        let mut shared = Self::new(node, total.div_ceil(shares.max(1)), self.bytes_max);
        for (name, file_type) in self.iter() {
            shared.push(name, file_type);
        }
        shared
    }

    pub(super) fn into_pieces(self) -> Vec<(NameList, Vec<u8>)> {
        self.pieces
    }
}

/// Takes what is left in the buffer.
pub(super) fn rest_of_buffer(
    lister: &mut Lister<'_>,
    directories: &mut u64,
    batches: &mut Batches,
) -> Option<Ended> {
    while !lister.at_buffer_end() {
        if let Some(ended) = take_one(lister, directories, batches) {
            return Some(ended);
        }
    }
    None
}

/// Reads on until there are `count` pieces, and to the end of the buffer.
pub(super) fn read_ahead(
    lister: &mut Lister<'_>,
    directories: &mut u64,
    batches: &mut Batches,
    count: usize,
) -> Option<Ended> {
    while !(batches.is_full(count) && lister.at_buffer_end()) {
        if let Some(ended) = take_one(lister, directories, batches) {
            return Some(ended);
        }
    }
    None
}

/// How a listing has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Listed,
    Failed(Errno),
}

fn take_one(
    lister: &mut Lister<'_>,
    directories: &mut u64,
    batches: &mut Batches,
) -> Option<Ended> {
    match lister.next() {
        None => Some(Ended::Listed),
        Some(Err(errno)) => Some(Ended::Failed(errno)),
        Some(Ok(entry)) => {
            let file_type = super::entry::type_of(entry.kind);
            *directories += u64::from(file_type == hydra_proto::walk::FileType::Directory);
            batches.push(entry.name(), file_type.to_raw());
            None
        }
    }
}

impl<V: Visit> Walker<V> {
    /// Whether the directory in hand may become several pieces from here on. The first time, its end becomes a
    /// piece of its own, which goes into the deque before all others.
    pub(super) fn may_split(&mut self, node: &Arc<DirNode>, visit: &mut Option<ItemId>) -> bool {
        if self.wants.whole_directories {
            return false;
        }
        if !self.wants.leave || visit.is_some() {
            return true;
        }
        *visit = self.shared.lock().frontier.take_id();
        if let Some(visit) = *visit {
            let dir = At(Arc::clone(node));
            self.left.push(Left::Part(Work::After { dir, visit }));
        }
        visit.is_some()
    }

    /// Leaves pieces behind.
    pub(super) fn leave_names(
        &mut self,
        node: &Arc<DirNode>,
        visit: Option<ItemId>,
        batches: Batches,
    ) {
        for (names, types) in batches.into_pieces() {
            let dir = At(Arc::clone(node));
            self.left.push(Left::Part(Work::Names {
                dir,
                visit,
                names,
                types,
                begun: self.sink.again(),
            }));
        }
    }

    /// Leaves behind the directories that were found.
    pub(super) fn leave_subdirs(&mut self, node: &Arc<DirNode>) {
        if !self.subdirs.is_empty() {
            let names = std::mem::take(&mut self.subdirs);
            self.left.push(Left::Dirs(At(Arc::clone(node)), names));
        }
    }

    /// How many pieces what is left of the piece in hand should make: one for each who waits, and one to keep.
    pub(super) fn shares(&self) -> usize {
        let asked = self.shared.lock().frontier.asked();
        asked
            .map_or(1, |shed| shed.hungry.max(1) as usize + 1)
            .min(BATCHES_MAX)
    }
}
