//! What a model worker has in hand, in the middle of being handled.

use super::tree::Tree;
use hydra_proto::ids::{ItemId, RootId};
use hydra_proto::item::NameList;
use hydra_proto::ledger::{Key, Place, Work};
use std::collections::VecDeque;
use std::rc::Rc;

/// Names that are read from a listing at a time.
const WINDOW: usize = 16;

/// A directory, as the model's frontier holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At(pub(crate) RootId, pub(crate) Rc<[u8]>);

impl At {
    fn join(&self, name: &[u8]) -> Self {
        let mut path = self.1.to_vec();
        if !path.is_empty() && !name.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(self.0, path.into())
    }
}

impl Place for At {
    fn at(root: RootId, path: &[u8]) -> Self {
        Self(root, path.into())
    }

    fn root(&self) -> RootId {
        self.0
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.1);
    }
}

/// What is in hand, in the middle of being handled.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) key: Key,
    pub(crate) place: At,
    pub(crate) dir: usize,
    /// Entries that were read and are not handled.
    pub(crate) read: VecDeque<usize>,
    /// Where the listing goes on; nothing when it is at its end, or somebody else's.
    pub(crate) next: Option<usize>,
    pub(crate) visit: Option<ItemId>,
    /// The whole directory: its end belongs to it.
    pub(crate) whole: bool,
    /// Only the end of a directory.
    pub(crate) end: bool,
    /// A root, which nobody else counts.
    pub(crate) root: bool,
    /// A worker that was lost may have acted on it.
    pub(crate) begun: bool,
    pub(crate) found: NameList,
}

impl Hand {
    /// Entries that are still to be handled, as far as this hand knows.
    pub(crate) fn left(&self, entries: usize) -> usize {
        self.read.len() + self.next.map_or(0, |next| entries - next)
    }

    pub(crate) fn read_on(&mut self, entries: usize) {
        if let Some(next) = self.next {
            let until = (next + WINDOW).min(entries);
            self.read.extend(next..until);
            self.next = (until < entries).then_some(until);
        }
    }
}

pub(crate) fn open(key: Key, work: Work<At>, tree: &Tree) -> Hand {
    let mut hand = Hand {
        key,
        place: At(RootId(0), Rc::from(&b""[..])),
        dir: 0,
        read: VecDeque::new(),
        next: None,
        visit: None,
        whole: false,
        end: false,
        root: false,
        begun: false,
        found: NameList::default(),
    };
    hand.place = match &work {
        Work::Dir { parent, name } => parent.join(name),
        Work::Names { dir, .. } | Work::Rest { dir, .. } | Work::After { dir, .. } => dir.clone(),
    };
    hand.dir = tree
        .find(hand.place.0, &hand.place.1)
        .expect("work in a directory that exists");
    let dir = &tree.dirs[hand.dir];
    match work {
        Work::Dir { name, .. } => {
            hand.root = name.is_empty();
            hand.whole = true;
            hand.next = (!dir.entries.is_empty()).then_some(0);
        }
        Work::Names {
            visit,
            names,
            types,
            begun,
            ..
        } => {
            hand.visit = visit;
            hand.begun = begun;
            for (name, file_type) in names.iter().zip(types) {
                let (index, entry) = dir.entry(name).expect("a name that exists");
                assert_eq!(entry.file_type.to_raw(), file_type);
                hand.read.push_back(index);
            }
        }
        Work::Rest { visit, read, .. } => {
            let count = read.entries as usize;
            assert_eq!(dir.listing(count), read, "a listing that reads differently");
            hand.visit = visit;
            hand.next = (count < dir.entries.len()).then_some(count);
        }
        Work::After { visit, .. } => {
            hand.visit = Some(visit);
            hand.end = true;
        }
    }
    hand
}

pub(crate) fn names_of(
    tree: &Tree,
    dir: usize,
    place: &At,
    (visit, begun): (Option<ItemId>, bool),
    part: &VecDeque<usize>,
) -> Work<At> {
    let entries = || part.iter().map(|&index| &tree.dirs[dir].entries[index]);
    Work::Names {
        dir: place.clone(),
        visit,
        names: entries().map(|entry| entry.name.as_slice()).collect(),
        types: entries().map(|entry| entry.file_type.to_raw()).collect(),
        begun,
    }
}
