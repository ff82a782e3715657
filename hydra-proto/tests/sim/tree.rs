//! An implicit tree: a hash of a directory's path decides what the directory holds.
//!
//! Everything that must happen once has a number, in the order of a depth-first walk, so that what lies
//! below an item is a range of numbers: an entry, and after all entries of a directory its end.

use super::rng::mix;
use hydra_proto::ids::RootId;
use hydra_proto::item::{Item, Listing, Parcel};
use hydra_proto::walk::FileType;
use std::collections::HashMap;
use std::ops::Range;

/// What becomes of a worker that touches something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// Handling the entry kills the worker.
    Entry,
    /// Opening the directory kills the worker.
    Open,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub name: Vec<u8>,
    pub file_type: FileType,
    /// The entry's own number; what lies below it follows, up to `end`.
    pub id: u32,
    pub end: u32,
    pub poison: Option<Poison>,
}

#[derive(Debug)]
pub(crate) struct Dir {
    pub path: Vec<u8>,
    pub entries: Vec<Entry>,
    by_name: HashMap<Vec<u8>, usize>,
    /// The number of the directory's end, where the plugin asked to be told of it.
    pub after: u32,
    /// One past the directory's last number.
    pub end: u32,
    /// The hash over the first so many names.
    hashes: Vec<u64>,
    pub poison: Option<Poison>,
}

impl Dir {
    pub(crate) fn entry(&self, name: &[u8]) -> Option<(usize, &Entry)> {
        let index = *self.by_name.get(name)?;
        Some((index, &self.entries[index]))
    }

    /// What a reader knows who has read the first `count` names.
    pub(crate) fn listing(&self, count: usize) -> Listing {
        let directories = |entry: &&Entry| entry.file_type == FileType::Directory;
        Listing {
            entries: count as u64,
            directories: self.entries[..count].iter().filter(directories).count() as u64,
            hash: self.hashes[count],
        }
    }

    fn start(&self) -> u32 {
        self.entries.first().map_or(self.after, |entry| entry.id)
    }
}

/// How trees of one seed look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub seed: u64,
    pub roots: u32,
    pub entries_max: u32,
    pub depth_max: u32,
    /// One directory in so many is huge.
    pub huge_one_in: u64,
    /// One entry in so many kills; none if zero.
    pub poison_one_in: u64,
    /// Whether the plugin asked to be told of the ends of directories.
    pub afters: bool,
}

#[derive(Debug)]
pub(crate) struct Tree {
    shape: Shape,
    pub dirs: Vec<Dir>,
    index: HashMap<(u32, Vec<u8>), usize>,
    /// The numbers of the roots themselves.
    pub roots: Vec<u32>,
    /// How many numbers there are.
    pub len: u32,
    /// Entries, the roots among them.
    pub entries: u64,
    /// What the killers take with them: nothing in these ranges can be reached.
    pub poisoned: Vec<Range<u32>>,
    poison_left: u32,
}

impl Tree {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut tree = Self {
            shape,
            dirs: Vec::new(),
            index: HashMap::new(),
            roots: Vec::new(),
            len: 0,
            entries: 0,
            poisoned: Vec::new(),
            poison_left: 3,
        };
        for root in 0..shape.roots {
            tree.roots.push(tree.len);
            tree.number();
            tree.entries += 1;
            let hash = mix(shape.seed ^ u64::from(root));
            tree.grow(root, Vec::new(), hash, 0, None);
        }
        tree
    }

    fn number(&mut self) -> u32 {
        self.len += 1;
        self.len - 1
    }

    fn grow(&mut self, root: u32, path: Vec<u8>, hash: u64, depth: u32, poison: Option<Poison>) {
        let (files, dirs) = self.size_of(hash, depth);
        let at = self.dirs.len();
        self.index.insert((root, path.clone()), at);
        self.dirs.push(Dir {
            path: path.clone(),
            entries: Vec::new(),
            by_name: HashMap::new(),
            after: 0,
            end: 0,
            hashes: vec![0],
            poison,
        });
        let (mut entries, mut hashes) = (Vec::new(), vec![0]);
        let mut spoilt = false;
        for n in 0..files + dirs {
            let below = mix(hash ^ (n + 1));
            // Files and directories mixed, in an order that the hash gives.
            let is_dir = below % (files + dirs) < dirs;
            let entry = self.grow_entry(root, &path, below, depth, is_dir);
            spoilt |= entry.poison == Some(Poison::Entry);
            hashes.push(mix(hashes[entries.len()] ^ mix(entry.id.into())));
            entries.push(entry);
        }
        let after = self.len;
        if self.shape.afters {
            self.number();
        }
        if spoilt {
            self.poisoned.push(after..self.len);
        }
        let end = self.len;
        let dir = &mut self.dirs[at];
        dir.by_name = (0..)
            .zip(&entries)
            .map(|(i, e)| (e.name.clone(), i))
            .collect();
        (dir.entries, dir.hashes, dir.after) = (entries, hashes, after);
        dir.end = end;
    }

    fn size_of(&self, hash: u64, depth: u32) -> (u64, u64) {
        let room = u64::from(self.shape.entries_max.saturating_sub(self.len));
        if room < 8 || depth >= self.shape.depth_max {
            return ((mix(hash ^ 1) % 4).min(room), 0);
        }
        if self.shape.huge_one_in > 0 && mix(hash ^ 2).is_multiple_of(self.shape.huge_one_in) {
            return ((60 + mix(hash ^ 3) % 300).min(room / 2), mix(hash ^ 4) % 6);
        }
        let dirs = if depth == 0 {
            2 + mix(hash ^ 5) % 6
        } else {
            mix(hash ^ 5) % 5
        };
        (mix(hash ^ 6) % 12, dirs)
    }

    fn grow_entry(&mut self, root: u32, dir: &[u8], hash: u64, depth: u32, is_dir: bool) -> Entry {
        let id = self.number();
        self.entries += 1;
        let file_type = match is_dir {
            true => FileType::Directory,
            false => FileType::from_raw([8, 8, 8, 8, 10, 1][(hash >> 8) as usize % 6]),
        };
        let mut name = if is_dir {
            b"d".to_vec()
        } else {
            b"f\xff\n".to_vec()
        };
        name.extend_from_slice(format!("{id:x}").as_bytes());
        let poison = self.poison_of(hash, is_dir);
        if is_dir {
            let mut path = dir.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let open = poison.filter(|&poison| poison == Poison::Open);
            self.grow(root, path, hash, depth + 1, open);
        }
        let end = self.len;
        match poison {
            Some(Poison::Entry) => self.poisoned.push(id..end),
            Some(Poison::Open) => self.poisoned.push(id + 1..end),
            None => {}
        }
        Entry {
            name,
            file_type,
            id,
            end,
            poison: poison.filter(|&p| p == Poison::Entry),
        }
    }

    fn poison_of(&mut self, hash: u64, is_dir: bool) -> Option<Poison> {
        let one_in = self.shape.poison_one_in;
        if one_in == 0 || self.poison_left == 0 || !mix(hash ^ 7).is_multiple_of(one_in) {
            return None;
        }
        self.poison_left -= 1;
        match is_dir && hash & 1 == 0 {
            true => Some(Poison::Open),
            false => Some(Poison::Entry),
        }
    }

    /// The directory at a path.
    pub(crate) fn find(&self, root: RootId, path: &[u8]) -> Option<usize> {
        self.index.get(&(root.0, path.to_vec())).copied()
    }

    /// The numbers that an item stands for, as ranges.
    pub(crate) fn cover(&self, item: &Item) -> Result<Vec<Range<u32>>, String> {
        let path = item.path();
        let at = self.find(item.root(), &path);
        let dir = &self.dirs[at.ok_or_else(|| format!("an item without a directory: {item:?}"))?];
        let range = match item.parcel() {
            Parcel::Dirs(dirs) if dirs.dir.is_empty() && path.is_empty() => {
                self.roots[item.root().0 as usize]..dir.end
            }
            Parcel::Dirs(_) => dir.start()..dir.end,
            Parcel::Names(names) => {
                let entry = |name| dir.entry(name).map(|(_, entry)| entry.id..entry.end);
                let ranges: Option<Vec<_>> = names.names.iter().map(entry).collect();
                return ranges
                    .ok_or_else(|| format!("an item with a name that is not there: {item:?}"));
            }
            Parcel::Rest(rest) => {
                let next = dir.entries.get(rest.read.entries as usize);
                next.map_or(dir.after, |entry| entry.id)..dir.after
            }
            Parcel::After(_) => dir.after..dir.end,
        };
        Ok(std::iter::once(range).collect())
    }

    /// Which path a number belongs to, for people.
    pub(crate) fn describe(&self, id: u32) -> String {
        for dir in &self.dirs {
            let path = String::from_utf8_lossy(&dir.path);
            if dir.after == id && dir.end > id {
                return format!("the end of /{path}");
            }
            if let Some(entry) = dir.entries.iter().find(|entry| entry.id == id) {
                return format!(
                    "/{path}/{}",
                    String::from_utf8_lossy(&entry.name).escape_debug()
                );
            }
        }
        format!("root {id}")
    }
}
