//! Work items: what is still to be walked, and the parcels in which items travel.
//!
//! ```text
//!   Dirs  { first, root, dir, names }      directories, unread: names[i] in dir has the id first + i
//!   Names { id, root, dir, entries }       entries of dir that were read and not yet handled
//!   Rest  { id, root, dir, skip, hash }    the part of dir's listing that was not read yet
//!   After { id, root, dir, visit }         "all entries of dir are handled", once its visit is empty
//! ```
//!
//! Siblings found together are one parcel, so their common path is held once, in memory and on the wire.

mod name_list;

pub use name_list::NameList;

use crate::ids::{IdRange, ItemId, RootId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest relative path that an item may have, in bytes. A directory below a longer one is
/// reported as an error and not walked.
pub const PATH_BYTES_MAX: usize = 2 << 20;
/// The most names that one parcel may hold.
pub const PARCEL_NAMES_MAX: usize = 4096;

/// Unread directories with a common parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirs {
    /// The id of the first name; the others follow it one by one.
    pub first: ItemId,
    /// The root that `dir` is relative to.
    pub root: RootId,
    /// The parent's path below the root; empty for the root itself.
    #[serde(with = "serde_bytes")]
    pub dir: Vec<u8>,
    /// Names in `dir`. One empty name stands for `dir` itself, as in a root's first item.
    pub names: NameList,
}

/// Entries of a directory that were read and not yet handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The item's id.
    pub id: ItemId,
    /// The root that `dir` is relative to.
    pub root: RootId,
    /// The directory's path below the root.
    #[serde(with = "serde_bytes")]
    pub dir: Vec<u8>,
    /// The visit whose end waits for this item, where the plugin asked to be told of it.
    pub visit: Option<ItemId>,
    /// The entries' names.
    pub names: NameList,
    /// The entries' types, as the directory gave them (`d_type`), one byte a name.
    #[serde(with = "serde_bytes")]
    pub types: Vec<u8>,
    /// Whether a worker that was lost may have acted on some of them.
    pub begun: bool,
}

/// What listing a directory has found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Names read, without `.` and `..`.
    pub entries: u64,
    /// Subdirectories among them, as far as the file system gives types with names.
    pub directories: u64,
    /// Running hash over the names in the order in which they were read.
    pub hash: u64,
}

/// The part of a directory's listing that was not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The item's id.
    pub id: ItemId,
    /// The root that `dir` is relative to.
    pub root: RootId,
    /// The directory's path below the root.
    #[serde(with = "serde_bytes")]
    pub dir: Vec<u8>,
    /// The visit whose end waits for this item, where the plugin asked to be told of it.
    pub visit: Option<ItemId>,
    /// What was read: the next reader skips `read.entries` names and compares the hash.
    pub read: Listing,
}

/// The end of a directory that was split: runs when no other item of its visit is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The item's id.
    pub id: ItemId,
    /// The root that `dir` is relative to.
    pub root: RootId,
    /// The directory's path below the root.
    #[serde(with = "serde_bytes")]
    pub dir: Vec<u8>,
    /// The visit that it ends.
    pub visit: ItemId,
}

/// Items as they travel, in commits and in grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parcel {
    /// Unread directories.
    Dirs(Dirs),
    /// Read and unhandled entries.
    Names(Names),
    /// An unread part of a listing.
    Rest(Rest),
    /// The end of a split directory.
    After(After),
}

impl Parcel {
    /// The ids that it brings.
    #[must_use]
    pub fn ids(&self) -> IdRange {
        match self {
            Self::Dirs(dirs) => IdRange {
                start: dirs.first.0,
                end: dirs.first.0.saturating_add(dirs.names.len() as u64),
            },
            Self::Names(names) => IdRange::one(names.id),
            Self::Rest(rest) => IdRange::one(rest.id),
            Self::After(after) => IdRange::one(after.id),
        }
    }

    /// The root that its items lie under.
    #[must_use]
    pub fn root(&self) -> RootId {
        match self {
            Self::Dirs(dirs) => dirs.root,
            Self::Names(names) => names.root,
            Self::Rest(rest) => rest.root,
            Self::After(after) => after.root,
        }
    }

    /// The directory that its items are in, or are.
    #[must_use]
    pub fn dir(&self) -> &[u8] {
        match self {
            Self::Dirs(dirs) => &dirs.dir,
            Self::Names(names) => &names.dir,
            Self::Rest(rest) => &rest.dir,
            Self::After(after) => &after.dir,
        }
    }

    /// The visit whose end waits for it.
    #[must_use]
    pub fn visit(&self) -> Option<ItemId> {
        match self {
            Self::Dirs(_) | Self::After(_) => None,
            Self::Names(names) => names.visit,
            Self::Rest(rest) => rest.visit,
        }
    }

    /// Roughly the bytes that it takes in memory and on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        let names = match self {
            Self::Dirs(dirs) => dirs.names.size(),
            Self::Names(names) => names.names.size() + names.types.len(),
            Self::Rest(_) | Self::After(_) => 0,
        };
        64 + self.dir().len() + names
    }

    /// Whether a peer may have sent this: relative paths without `..`, names without `/` or NUL,
    /// lengths that fit together.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        if !is_relative_path(self.dir()) {
            return Err("an item's path is not a plain relative path");
        }
        match self {
            Self::Dirs(dirs) => check_names(&dirs.names, dirs.names.len() == 1),
            Self::Names(names) if names.types.len() != names.names.len() => {
                Err("an item has more names than types")
            }
            Self::Names(names) => check_names(&names.names, false),
            Self::Rest(_) | Self::After(_) => Ok(()),
        }
    }
}

fn check_names(names: &NameList, empty_allowed: bool) -> Result<(), &'static str> {
    if !names.is_sound() {
        return Err("an item's names do not fit their lengths");
    }
    if names.is_empty() || names.len() > PARCEL_NAMES_MAX {
        return Err("a parcel has no names or too many");
    }
    let sound = |name: &[u8]| (empty_allowed && name.is_empty()) || is_name(name);
    match names.iter().all(sound) {
        true => Ok(()),
        false => Err("an item's name is not a plain file name"),
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

fn is_relative_path(path: &[u8]) -> bool {
    path.is_empty() || (path.len() <= PATH_BYTES_MAX && path.split(|&b| b == b'/').all(is_name))
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    let rest = path.strip_prefix(top);
    rest.is_some_and(|rest| top.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}

/// One work item as a parent keeps it. Items of one parcel share it.
#[derive(Clone, Debug)]
pub struct Item {
    parcel: Arc<Parcel>,
    index: u32,
}

impl Item {
    /// The items of a parcel, in the order of their ids.
    pub fn unpack(parcel: Parcel) -> impl Iterator<Item = (ItemId, Self)> {
        let ids = parcel.ids();
        let parcel = Arc::new(parcel);
        ids.iter().zip(0..).map(move |(id, index)| {
            let parcel = Arc::clone(&parcel);
            (id, Self { parcel, index })
        })
    }

    /// The first item of a parcel.
    pub(crate) fn first_of(parcel: Parcel) -> Self {
        let parcel = Arc::new(parcel);
        Self { parcel, index: 0 }
    }

    /// The item `n` places behind this one in its parcel.
    pub(crate) fn nth(&self, n: u32) -> Self {
        Self {
            parcel: Arc::clone(&self.parcel),
            index: self.index + n,
        }
    }

    /// Roughly the bytes of memory that it takes, without what its owner notes of it: its share of its parcel.
    pub(crate) fn share(&self) -> u64 {
        let size = self.parcel.size() as u64;
        size.div_ceil(self.parcel.ids().len().max(1))
    }

    /// The parcel that the item came in.
    #[must_use]
    pub fn parcel(&self) -> &Parcel {
        &self.parcel
    }

    /// Notes that its owner was lost, who may have acted on some of it, if there is anything that can be acted on:
    /// entries that were read. Says whether there is.
    pub fn begin(&mut self) -> bool {
        let is_names = matches!(&*self.parcel, Parcel::Names(_));
        if is_names && let Parcel::Names(names) = Arc::make_mut(&mut self.parcel) {
            names.begun = true;
        }
        is_names
    }

    /// The root that it lies under.
    #[must_use]
    pub fn root(&self) -> RootId {
        self.parcel.root()
    }

    /// How many directories lie between it and its root.
    #[must_use]
    pub fn depth(&self) -> usize {
        let dir = self.parcel.dir();
        match dir.is_empty() {
            true => 0,
            false => 1 + dir.iter().filter(|&&b| b == b'/').count(),
        }
    }

    /// The path of the directory that it is, or is a part of, below its root.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let mut path = self.parcel.dir().to_vec();
        if let Parcel::Dirs(dirs) = &*self.parcel {
            let name = dirs.names.get(self.index as usize).unwrap_or_default();
            if !path.is_empty() && !name.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// Whether [`Item::path`] is `path` or lies below it.
    #[must_use]
    pub fn lies_at(&self, path: &[u8]) -> bool {
        let dir = self.parcel.dir();
        if is_at_or_below(dir, path) {
            return true;
        }
        let Parcel::Dirs(dirs) = &*self.parcel else {
            return false;
        };
        let name = dirs.names.get(self.index as usize).unwrap_or_default();
        let above = match dir {
            [] => Some(path),
            _ => path.strip_prefix(dir).and_then(|p| p.strip_prefix(b"/")),
        };
        above == Some(name)
    }

    /// Roughly the bytes that it takes on the wire by itself.
    #[must_use]
    pub fn size(&self) -> usize {
        match &*self.parcel {
            Parcel::Dirs(dirs) => {
                16 + dirs.names.get(self.index as usize).map_or(0, <[u8]>::len)
                    + dirs.dir.len() / dirs.names.len().max(1)
            }
            other => other.size(),
        }
    }

    /// Roughly the bytes that [`Item::pack`] takes for it after `before`: little, if the two are neighbours
    /// in one parcel.
    #[must_use]
    pub fn packed_size(&self, id: ItemId, before: Option<(ItemId, &Self)>) -> usize {
        let Parcel::Dirs(dirs) = &*self.parcel else {
            return self.size();
        };
        let name = 8 + dirs.names.get(self.index as usize).map_or(0, <[u8]>::len);
        let joins = before.is_some_and(|(other, item)| {
            other.0.checked_add(1) == Some(id.0) && Arc::ptr_eq(&item.parcel, &self.parcel)
        });
        match joins {
            true => name,
            false => 64 + dirs.dir.len() + name,
        }
    }

    /// Packs items for the wire, joining neighbours of one parcel again.
    #[must_use]
    pub fn pack(items: impl IntoIterator<Item = (ItemId, Self)>) -> Vec<Parcel> {
        let mut packed: Vec<Parcel> = Vec::new();
        let mut open: Option<Arc<Parcel>> = None;
        for (id, item) in items {
            match (&*item.parcel, packed.last_mut()) {
                (Parcel::Dirs(from), Some(Parcel::Dirs(to)))
                    if open
                        .as_ref()
                        .is_some_and(|open| Arc::ptr_eq(open, &item.parcel))
                        && to.first.0 + to.names.len() as u64 == id.0 =>
                {
                    to.names
                        .push(from.names.get(item.index as usize).unwrap_or_default());
                }
                (Parcel::Dirs(from), _) => {
                    let name = from.names.get(item.index as usize).unwrap_or_default();
                    packed.push(Parcel::Dirs(Dirs {
                        first: id,
                        root: from.root,
                        dir: from.dir.clone(),
                        names: NameList::from_iter([name]),
                    }));
                }
                (other, _) => packed.push(other.clone()),
            }
            open = Some(item.parcel);
        }
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(dir: &[u8], names: &[&[u8]]) -> Parcel {
        Parcel::Dirs(Dirs {
            first: ItemId(7),
            root: RootId(0),
            dir: dir.to_vec(),
            names: names.iter().copied().collect(),
        })
    }

    #[test]
    fn unpacking_and_packing_is_the_identity() {
        let parcel = dirs(b"a/b", &[b"x", b"y", b"z"]);
        let items: Vec<_> = Item::unpack(parcel.clone()).collect();
        assert_eq!(items[1].1.path(), b"a/b/y");
        assert_eq!(items[1].1.depth(), 2);
        assert_eq!(Item::pack(items), [parcel]);
    }

    #[test]
    fn an_item_lies_at_its_path_and_at_all_above_it() {
        let items: Vec<Item> = Item::unpack(dirs(b"a/b", &[b"x", b"yy"]))
            .map(|i| i.1)
            .collect();
        for path in [&b""[..], b"a", b"a/b", b"a/b/yy"] {
            assert!(items[1].lies_at(path), "{}", path.escape_ascii());
        }
        for path in [
            &b"a/b/x"[..],
            b"a/b/y",
            b"a/",
            b"a/bb",
            b"b",
            b"a/b/yy/z",
            b"yy",
        ] {
            assert!(!items[1].lies_at(path), "{}", path.escape_ascii());
        }
        let root: Vec<Item> = Item::unpack(dirs(b"", &[b""])).map(|i| i.1).collect();
        assert!(root[0].lies_at(b"") && !root[0].lies_at(b"a"));
    }

    #[test]
    fn a_gap_in_the_ids_splits_a_parcel() {
        let items: Vec<_> = Item::unpack(dirs(b"", &[b"x", b"y", b"z"])).collect();
        let packed = Item::pack([items[0].clone(), items[2].clone()]);
        assert_eq!(packed.len(), 2);
        assert_eq!(packed[1].ids(), IdRange { start: 9, end: 10 });
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let bad: [&[u8]; 6] = [b"/etc", b"a/../b", b"a//b", b"a/", b"..", b"a\0b"];
        for dir in bad {
            assert!(dirs(dir, &[b"x"]).check().is_err(), "{dir:?}");
        }
        let names: [&[u8]; 4] = [b"..", b"a/b", b".", b"x\0"];
        for name in names {
            assert!(dirs(b"a", &[name]).check().is_err(), "{name:?}");
        }
        assert!(dirs(b"a", &[b"x", b""]).check().is_err());
        assert!(dirs(b"", &[b""]).check().is_ok());
        assert!(dirs(b"a/b", &[b"..."]).check().is_ok());
    }
}
