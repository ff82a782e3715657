//! Work as a worker takes it in hand, and as it travels.

use crate::ids::{ItemId, RootId};
use crate::item::{After, Dirs, Listing, NameList, Names, Parcel, Rest};

/// A directory that items are in, as the worker holds it. Cheap to clone.
pub trait Place: Clone {
    /// The directory at this path below this root.
    fn at(root: RootId, path: &[u8]) -> Self;
    /// The root that it lies under.
    fn root(&self) -> RootId;
    /// Appends its path below the root.
    fn write_path(&self, out: &mut Vec<u8>);
}

/// What ties a piece of work to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id, if the parent knows it.
    pub id: Option<ItemId>,
    /// The item on record that it stems from: itself, or the one in which it was found.
    pub origin: ItemId,
    /// Commit each step, and cut it into pieces.
    pub careful: bool,
    /// It is careful, or was found below something that is: commit it when it is finished, so that what was found in it
    /// is blamed for itself. Each death would else lead only one level further down.
    pub wary: bool,
}

/// A piece of work, taken in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work<P> {
    /// Walk the directory `name` in `parent`; an empty name stands for `parent` itself.
    Dir {
        /// Where it is.
        parent: P,
        /// Its name.
        name: Vec<u8>,
    },
    /// Handle these entries of `dir`.
    Names {
        /// Where they are.
        dir: P,
        /// The visit that they are part of.
        visit: Option<ItemId>,
        /// Their names.
        names: NameList,
        /// Their types, one byte a name.
        types: Vec<u8>,
        /// A worker that was lost may have acted on some of them.
        begun: bool,
    },
    /// Read on in `dir`.
    Rest {
        /// The directory.
        dir: P,
        /// The visit that this is part of.
        visit: Option<ItemId>,
        /// What was read already.
        read: Listing,
    },
    /// All entries of `dir` are handled.
    After {
        /// The directory.
        dir: P,
        /// The visit that this ends.
        visit: ItemId,
    },
}

/// Roughly the bytes that an item takes beside its path and names.
const ITEM_BYTES: usize = 64;

impl<P> Work<P> {
    /// Roughly the bytes that it takes in memory and on the wire, where `path` are those of its place.
    pub fn size(&self, path: impl Fn(&P) -> usize) -> usize {
        let (place, names) = match self {
            Self::Dir { parent, name } => (parent, name.len()),
            Self::Names {
                dir, names, types, ..
            } => (dir, names.size() + types.len()),
            Self::Rest { dir, .. } | Self::After { dir, .. } => (dir, 0),
        };
        ITEM_BYTES + path(place) + names
    }
}

#[derive(Debug)]
pub(super) enum Pending<P> {
    /// The names from `from` on; those before it were given away.
    Dirs {
        parent: P,
        names: NameList,
        from: usize,
    },
    One(Work<P>),
}

impl<P> Pending<P> {
    /// As [`Work::size`].
    pub(super) fn size(&self, path: impl Fn(&P) -> usize) -> usize {
        match self {
            Self::Dirs { parent, names, .. } => ITEM_BYTES + path(parent) + names.size(),
            Self::One(work) => work.size(path),
        }
    }
}

pub(super) fn unpack<P: Place>(parcel: Parcel) -> Pending<P> {
    let place = P::at(parcel.root(), parcel.dir());
    match parcel {
        Parcel::Dirs(dirs) => Pending::Dirs {
            parent: place,
            names: dirs.names,
            from: 0,
        },
        Parcel::Names(names) => Pending::One(Work::Names {
            dir: place,
            visit: names.visit,
            names: names.names,
            types: names.types,
            begun: names.begun,
        }),
        Parcel::Rest(rest) => Pending::One(Work::Rest {
            dir: place,
            visit: rest.visit,
            read: rest.read,
        }),
        Parcel::After(after) => Pending::One(Work::After {
            dir: place,
            visit: after.visit,
        }),
    }
}

fn path_of<P: Place>(place: &P) -> Vec<u8> {
    let mut path = Vec::new();
    place.write_path(&mut path);
    path
}

pub(super) fn pack<P: Place>(work: &Pending<P>, first: ItemId) -> Parcel {
    match work {
        Pending::Dirs {
            parent,
            names,
            from,
        } => Parcel::Dirs(Dirs {
            first,
            root: parent.root(),
            dir: path_of(parent),
            names: match from {
                0 => names.clone(),
                _ => names.iter().skip(*from).collect(),
            },
        }),
        Pending::One(Work::Dir { parent, name }) => Parcel::Dirs(Dirs {
            first,
            root: parent.root(),
            dir: path_of(parent),
            names: NameList::from_iter([name.as_slice()]),
        }),
        Pending::One(Work::Names {
            dir,
            visit,
            names,
            types,
            begun,
        }) => Parcel::Names(Names {
            id: first,
            root: dir.root(),
            dir: path_of(dir),
            visit: *visit,
            names: names.clone(),
            types: types.clone(),
            begun: *begun,
        }),
        Pending::One(Work::Rest { dir, visit, read }) => Parcel::Rest(Rest {
            id: first,
            root: dir.root(),
            dir: path_of(dir),
            visit: *visit,
            read: *read,
        }),
        Pending::One(Work::After { dir, visit }) => Parcel::After(After {
            id: first,
            root: dir.root(),
            dir: path_of(dir),
            visit: *visit,
        }),
    }
}
