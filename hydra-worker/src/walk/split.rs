//! Making pieces out of a directory that cannot be finished in one go.

use super::{Left, Walker};
use crate::clock;
use crate::node::DirNode;
use crate::place::At;
use crate::plugin::Visit;
use crate::sys::Errno;
use crate::sys::list::Lister;
use hydra_proto::ids::ItemId;
use hydra_proto::item::NameList;
use hydra_proto::ledger::{Time, Work};
use std::sync::Arc;
use std::time::Duration;

/// Names in one piece.
pub(super) const BATCH_NAMES: usize = 2048;
/// The fewest pieces that are read ahead for each who waits: of 100,000 names a tenth and more, should nobody come to
/// ask again.
pub(super) const AHEAD_EACH: usize = 10;
/// The most pieces that are read ahead of the walk.
pub(super) const BATCHES_MAX: usize = 32;
/// How long is read ahead, where listing is slow: those who wait get what there is by then.
pub(super) const AHEAD_TIME: Duration = Duration::from_millis(20);
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

    pub(super) fn names(&self) -> usize {
        self.pieces.iter().map(|(names, _)| names.len()).sum()
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
        let mut shared = Self::new(node, self.names().div_ceil(shares.max(1)), self.bytes_max);
        for (name, file_type) in self.iter() {
            shared.push(name, file_type);
        }
        shared
    }

    pub(super) fn into_pieces(self) -> Vec<(NameList, Vec<u8>)> {
        self.pieces
    }
}

/// How many pieces so many names of a directory can make at most: whoever gets one may have to look up each name of its path.
pub(super) fn pieces_apart(node: &DirNode, names: usize) -> usize {
    names / (node.depth() as usize + 1)
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

/// Reads on until there are `count` pieces, or it is as late as `until`, and to the end of a buffer.
pub(super) fn read_ahead(
    lister: &mut Lister<'_>,
    directories: &mut u64,
    batches: &mut Batches,
    count: usize,
    until: Time,
) -> Option<Ended> {
    let late = |batches: &Batches| !batches.pieces.is_empty() && clock::now() >= until;
    while !(lister.at_buffer_end() && (batches.is_full(count) || late(batches))) {
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
            let names = self.subdirs.take_all();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::list::ListBuffer;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Reads ahead in a directory of 1,000 files, 4 KiB at a time, until as late as `until`.
    fn names_read(until: Time) -> (usize, Option<Ended>) {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        let file = File::open(dir.path()).unwrap();
        let mut buffer = ListBuffer::new(0);
        let mut lister = Lister::new(file.as_fd(), &mut buffer);
        let mut batches = Batches::new(&DirNode::root(0), BATCH_NAMES, AHEAD_BYTES);
        let ended = read_ahead(&mut lister, &mut 0, &mut batches, BATCHES_MAX, until);
        (batches.iter().count(), ended)
    }

    #[test]
    fn others_waited_until_a_slow_listing_was_read_to_its_end() {
        assert_eq!(names_read(Time::MAX), (1000, Some(Ended::Listed)));
        let (names, ended) = names_read(Time::ZERO);
        assert!((1..500).contains(&names), "{names} names");
        assert_eq!(ended, None);
    }

    #[test]
    fn few_names_are_shared_by_all_who_wait() {
        let node = DirNode::root(0);
        let mut batches = Batches::new(&node, BATCH_NAMES, AHEAD_BYTES);
        (0..100).for_each(|number| batches.push(&[b'a' + number % 26], 8));
        let shared = batches.shared_among(&node, 7);
        let sizes: Vec<_> = shared
            .into_pieces()
            .iter()
            .map(|(names, _)| names.len())
            .collect();
        assert_eq!(sizes, [15, 15, 15, 15, 15, 15, 10]);
    }
}
