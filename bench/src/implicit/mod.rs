//! Trees that exist only as arithmetic: who lies where follows from the numbers, so a tree of any
//! size takes no memory, and any part of it can be asked for at once, in any order.
//!
//! Directories are numbered in depth-first order. A directory is known by its number, by how many
//! directories its subtree has, and by its depth; all three fit into one inode number, and from them
//! and the seed follow its children, its files and their names:
//!
//! ```text
//!   root      first 0, size 9          a child's subtree is a range of numbers,
//!   ├─ d0     first 1, size 4          so where it begins and how long it is
//!   │  ├─ d0  first 2, size 2          says everything
//!   │  │  └─ d0  first 3, size 1
//!   │  └─ d1  first 4, size 1
//!   └─ d1     first 5, size 4
//! ```
//!
//! Nothing here is served or measured; that is for others.

mod numbers;
#[cfg(test)]
mod tests;

use std::ops::Range;

use anyhow::bail;

use crate::tree::Shape;
use numbers::{below, fraction, mix};

/// The most directories that a tree may have: what fits into an inode number.
pub const DIRECTORIES_MAX: u64 = 1 << 26;
/// The deepest that a skewed tree goes.
pub const DEPTH_MAX: u32 = 400;
/// How many directories a directory of a balanced tree has, where there are enough.
const FAN_OUT: u64 = 7;

const DIRECTORY_BIT: u64 = 1 << 62;
const FILE_BIT: u64 = 1 << 63;

/// What a tree is made with.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct TreeArgs {
    /// What kind of tree; all but hostile
    #[arg(long, value_enum, default_value = "balanced")]
    pub shape: Shape,
    /// How many directories, the root included (default: as `bench-tree` makes it)
    #[arg(long, value_name = "N")]
    pub directories: Option<u64>,
    /// How many files in all; a skewed tree has about as many (default: as `bench-tree` makes it)
    #[arg(long, value_name = "N")]
    pub files: Option<u64>,
    /// Another seed gives another tree of the same shape
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A tree. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImplicitTree {
    shape: Shape,
    directories: u64,
    files: u64,
    seed: u64,
}

/// One directory of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dir {
    first: u32,
    size: u32,
    depth: u32,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir(Dir),
    /// A regular file.
    File {
        /// The number of the directory that it lies in.
        dir: u32,
        /// Its own number among the files there.
        index: u32,
    },
}

/// What a whole tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Directories, the root included.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Directories below the root on the longest path.
    pub depth: u64,
    /// Entries of the largest directory.
    pub widest: u64,
}

impl ImplicitTree {
    /// The tree that was asked for.
    ///
    /// # Errors
    ///
    /// When there is no such tree.
    pub fn new(args: &TreeArgs) -> anyhow::Result<Self> {
        let (directories, files) = match args.shape {
            Shape::Balanced => (61_431, 1_042_865),
            Shape::Skewed => (180_845, 452_904),
            Shape::Flat => (1, 1_000_000),
            Shape::Widedirs => (200_001, 0),
            Shape::Hostile => bail!("the hostile tree is not arithmetic; bench-tree builds it"),
        };
        let directories = args.directories.unwrap_or(directories);
        let files = args.files.unwrap_or(files);
        if !(1..=DIRECTORIES_MAX).contains(&directories) {
            bail!("a tree has 1 to {DIRECTORIES_MAX} directories");
        }
        if args.shape == Shape::Flat && directories > 1 {
            bail!("a flat tree has one directory");
        }
        if files > u64::from(u32::MAX) {
            bail!("a tree has at most {} files", u32::MAX);
        }
        Ok(Self {
            shape: args.shape,
            directories,
            files,
            seed: args.seed,
        })
    }

    /// The root.
    pub fn root(&self) -> Dir {
        Dir {
            first: 0,
            size: self.directories as u32,
            depth: 0,
        }
    }

    /// How many directories lie directly in `dir`.
    pub fn subdirectories(&self, dir: Dir) -> u32 {
        let below = dir.size - 1;
        match self.shape {
            Shape::Balanced => below.min(FAN_OUT as u32),
            Shape::Skewed => self.branches(dir),
            _ => below,
        }
    }

    /// The directory of this number in `dir`; `index` must be less than [`Self::subdirectories`].
    pub fn subdirectory(&self, dir: Dir, index: u32) -> Dir {
        let Range { start, end } = match self.shape {
            Shape::Balanced => even_part(dir.size - 1, self.subdirectories(dir), index),
            Shape::Skewed => self.uneven_part(dir, index),
            _ => index..index + 1,
        };
        Dir {
            first: dir.first + 1 + start,
            size: end - start,
            depth: dir.depth + 1,
        }
    }

    /// How many files lie directly in `dir`.
    pub fn files(&self, dir: Dir) -> u32 {
        let first = u64::from(dir.first);
        match self.shape {
            Shape::Skewed => self.heavy_tailed(first),
            _ => {
                let (even, odd) = (first & !1, first | 1);
                let least = self.fair_share(even).min(self.fair_share(odd));
                // What one of a pair has more, the other has less: so the sum comes out.
                let less = below(mix(self.seed, even, 1), least.min(8) + 1);
                let share = self.fair_share(first);
                (match (odd < self.directories, first == even) {
                    (false, _) => share,
                    (true, true) => share + less,
                    (true, false) => share - less,
                }) as u32
            }
        }
    }

    /// How many entries `dir` has.
    pub fn entries(&self, dir: Dir) -> u64 {
        u64::from(self.subdirectories(dir)) + u64::from(self.files(dir))
    }

    /// The entry at this place of the listing; directories lie evenly among files. `place` must be
    /// less than [`Self::entries`].
    pub fn entry(&self, dir: Dir, place: u64) -> Entry {
        let (all, dirs) = (self.entries(dir), u64::from(self.subdirectories(dir)));
        let before = u64::from(self.number_at(dir, place));
        match (place + 1) * dirs / all > before {
            true => Entry::Dir(self.subdirectory(dir, before as u32)),
            false => Entry::File {
                dir: dir.first,
                index: (place - before) as u32,
            },
        }
    }

    /// The number of the directory at this place of the listing.
    pub fn number_at(&self, dir: Dir, place: u64) -> u32 {
        (place * u64::from(self.subdirectories(dir)) / self.entries(dir)) as u32
    }

    /// The place in the listing of `dir` at which its directory `index` stands.
    pub fn place_of(&self, dir: Dir, index: u32) -> u64 {
        let (all, dirs) = (self.entries(dir), u64::from(self.subdirectories(dir)));
        // The first place at which (place + 1) * dirs / all exceeds the index.
        ((u64::from(index) + 1) * all).div_ceil(dirs) - 1
    }

    /// The entry's name, appended to `out`. For a directory the number in its parent says it.
    pub fn write_name(&self, entry: &Entry, number: u32, out: &mut Vec<u8>) {
        use std::io::Write;
        // Writing to memory does not fail.
        let _ = match entry {
            Entry::Dir(_) => write!(out, "d{number}"),
            Entry::File { dir, index } => {
                let kind = mix(self.seed, u64::from(*dir) << 32 | u64::from(*index), 2);
                let extension = EXTENSIONS[below(kind, EXTENSIONS.len() as u64) as usize];
                write!(out, "f{index:06}{extension}")
            }
        };
    }

    /// The entry of this name in `dir`.
    pub fn find(&self, dir: Dir, name: &[u8]) -> Option<Entry> {
        let (kind, rest) = name.split_first()?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number: u32 = std::str::from_utf8(rest.get(..digits)?)
            .ok()?
            .parse()
            .ok()?;
        let entry = match kind {
            b'd' if number < self.subdirectories(dir) => Entry::Dir(self.subdirectory(dir, number)),
            b'f' if number < self.files(dir) => Entry::File {
                dir: dir.first,
                index: number,
            },
            _ => return None,
        };
        let mut expected = Vec::with_capacity(16);
        self.write_name(&entry, number, &mut expected);
        (expected == name).then_some(entry)
    }

    /// The entry with this inode number.
    pub fn by_inode(&self, inode: u64) -> Option<Entry> {
        if inode == 1 {
            return Some(Entry::Dir(self.root()));
        }
        if inode & FILE_BIT != 0 {
            return Some(Entry::File {
                dir: (inode >> 32) as u32 & (DIRECTORIES_MAX as u32 - 1),
                index: inode as u32,
            });
        }
        let mask = DIRECTORIES_MAX - 1;
        let dir = Dir {
            first: (inode & mask) as u32,
            size: (inode >> 36 & mask) as u32,
            depth: (inode >> 26 & 0x3ff) as u32,
        };
        let known = inode & DIRECTORY_BIT != 0
            && dir.size > 0
            && u64::from(dir.first) + u64::from(dir.size) <= self.directories;
        known.then_some(Entry::Dir(dir))
    }

    /// Counts the whole tree by walking it.
    pub fn count(&self) -> Counts {
        let mut counts = Counts::default();
        self.walk((), &mut |dir, (), _| {
            counts.directories += 1;
            counts.files += u64::from(self.files(dir));
            counts.depth = counts.depth.max(u64::from(dir.depth));
            counts.widest = counts.widest.max(self.entries(dir));
        });
        counts
    }

    /// Shows every directory to `visit`, parents before children, with what the visit of its parent
    /// returned and its number there; the root with `start` and 0.
    pub fn walk<T: Clone>(&self, start: T, visit: &mut impl FnMut(Dir, T, u32) -> T) {
        let root = self.root();
        let mut open = vec![(root, visit(root, start, 0), 0..self.subdirectories(root))];
        while let Some((dir, value, numbers)) = open.last_mut() {
            let Some(number) = numbers.next() else {
                open.pop();
                continue;
            };
            let child = self.subdirectory(*dir, number);
            let value = visit(child, value.clone(), number);
            open.push((child, value, 0..self.subdirectories(child)));
        }
    }

    /// Its part of all files if every directory had the same number.
    fn fair_share(&self, first: u64) -> u64 {
        let until = |number: u64| {
            (u128::from(number) * u128::from(self.files)) / u128::from(self.directories)
        };
        (until(first + 1) - until(first)) as u64
    }

    /// Most directories have no file or one, a few have thousands.
    fn heavy_tailed(&self, first: u64) -> u32 {
        const MEAN: f64 = 2.5;
        let mean = self.files as f64 / self.directories as f64;
        let unit = fraction(mix(self.seed, first, 1)).max(1e-9);
        (0.5 * unit.powf(-0.8) * mean / MEAN).min(20_000.0) as u32
    }

    /// How a directory of a skewed tree goes on: mostly as a chain.
    fn branches(&self, dir: Dir) -> u32 {
        let below_it = dir.size - 1;
        if dir.depth + 1 >= DEPTH_MAX {
            return below_it;
        }
        let drawn = mix(self.seed, u64::from(dir.first), 3);
        let wanted = match drawn % 16 {
            0..13 => 1,
            13 | 14 => 2,
            _ => 3 + (drawn >> 8) as u32 % 6,
        };
        wanted.min(below_it)
    }

    /// The numbers of one branch, counted from the first directory below `dir`. Each of those before
    /// the last takes a random part of what is left, often a small one.
    fn uneven_part(&self, dir: Dir, index: u32) -> Range<u32> {
        if dir.depth + 1 >= DEPTH_MAX {
            return index..index + 1;
        }
        let (branches, all) = (self.branches(dir), dir.size - 1);
        let mut start = 0;
        for branch in 0..branches.saturating_sub(1) {
            let spare = all - start - (branches - branch);
            let part = fraction(mix(self.seed, u64::from(dir.first), 4 + u64::from(branch)));
            let end = start + 1 + (f64::from(spare) * part * part) as u32;
            if branch == index {
                return start..end;
            }
            start = end;
        }
        start..all
    }
}

impl Dir {
    /// How many directories lie between it and the root.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

impl Entry {
    /// Its inode number; the root's is 1.
    pub fn inode(&self) -> u64 {
        match *self {
            Entry::Dir(Dir { first: 0, .. }) => 1,
            Entry::Dir(dir) => {
                let size = u64::from(dir.size) << 36;
                DIRECTORY_BIT | size | u64::from(dir.depth) << 26 | u64::from(dir.first)
            }
            Entry::File { dir, index } => FILE_BIT | u64::from(dir) << 32 | u64::from(index),
        }
    }
}

/// How the files of a tree end; the weights are those of the list.
const EXTENSIONS: [&str; 8] = [".txt", ".txt", ".dat", ".log", ".jpg", ".h5", ".c", ""];

/// One of `parts` even parts of the numbers below `all`.
fn even_part(all: u32, parts: u32, index: u32) -> Range<u32> {
    let (base, longer) = (all / parts, all % parts);
    let start = index * base + index.min(longer);
    start..start + base + u32::from(index < longer)
}
