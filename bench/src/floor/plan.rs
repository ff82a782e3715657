//! Divides a tree among processes before anything is timed.
//!
//! The tree is read once, each directory gets a weight from the entries below it, the heaviest
//! pieces are split until they are small, and the pieces are dealt out evenly. A plan is a list of
//! steps for each process; [`super::part`] follows it. It also serves again while the tree does not
//! change.

use std::collections::BinaryHeap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};

use crate::Work;

/// Cost of opening, reading and closing a directory, of listing an entry, and of its `statx`; only
/// the proportions matter. Measured warm, on ext4.
const DIRECTORY_COST: u64 = 24;
const LIST_COST: u64 = 1;
const STAT_COST: u64 = 7;
/// A piece heavier than this part of one process's share is split, if it can be.
const FINENESS: u64 = 32;

const MAGIC: &[u8] = b"hydra floor plan 1\n";

/// One step of a process, in the order in which it is taken. The position starts at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Open a child directory that another process asks about.
    Enter(&'a CStr),
    /// The same, and in stat work ask about it as well. An empty name is the root, opened already.
    Claim(&'a CStr),
    /// Close the directory and go back to its parent.
    Leave,
    /// Read this directory, not those in it; in stat work ask about its first so many
    /// non-directories, in the order of the listing.
    List(u64),
    /// Walk everything below.
    Walk,
    /// Ask about one entry, in a directory that another process reads.
    Stat(&'a CStr),
}

/// Steps for each of several processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The work it was made for.
    pub work: Work,
    pub(crate) parts: Vec<Vec<u8>>,
}

impl Plan {
    /// Reads the tree below `root` and divides it among `procs` processes.
    ///
    /// # Errors
    ///
    /// When the root cannot be read or a name could not be read a second time.
    pub fn new(root: &Path, work: Work, procs: usize) -> anyhow::Result<Plan> {
        ensure!((1..=1024).contains(&procs), "between 1 and 1024 processes");
        crate::totals::raise_open_files();
        let context = || format!("plan {}", root.display());
        let fd = openat(CWD, root, DIRECTORY, Mode::empty()).with_context(context)?;
        let mut tree = Tree::default();
        tree.read(&fd, 0, c"");
        tree.weigh(work);
        let pieces = tree.split(work, procs);
        let parts = deal(pieces, procs)
            .iter()
            .map(|pieces| Writer::new(&tree, &fd, pieces).write())
            .collect::<anyhow::Result<_>>()
            .with_context(context)?;
        Ok(Plan { work, parts })
    }

    /// How many processes it is for.
    #[must_use]
    pub fn procs(&self) -> usize {
        self.parts.len()
    }

    /// The plan as the bytes of a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(matches!(self.work, Work::Stat).into());
        for part in &self.parts {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        bytes
    }

    /// Reads what [`Plan::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Plan> {
        let rest = bytes.strip_prefix(MAGIC).context("not a floor plan")?;
        let (&work, mut rest) = rest.split_first().context("a cut floor plan")?;
        let mut parts = Vec::new();
        while let Some((len, tail)) = rest.split_first_chunk::<8>() {
            let len = usize::try_from(u64::from_le_bytes(*len))?;
            ensure!(len <= tail.len(), "a cut floor plan");
            let (part, tail) = tail.split_at(len);
            parts.push(part.to_vec());
            rest = tail;
        }
        ensure!(rest.is_empty() && !parts.is_empty(), "a cut floor plan");
        let work = if work == 0 { Work::List } else { Work::Stat };
        Ok(Plan { work, parts })
    }
}

/// Takes the next step off the front of a part, or `None` at its end.
pub(crate) fn next_step<'a>(part: &mut &'a [u8]) -> anyhow::Result<Option<Step<'a>>> {
    let Some((&tag, rest)) = part.split_first() else {
        return Ok(None);
    };
    let step = match tag {
        b'W' | b'L' => {
            *part = rest;
            if tag == b'W' { Step::Walk } else { Step::Leave }
        }
        b'R' => {
            let (first, rest) = rest.split_first_chunk().context("a cut step")?;
            *part = rest;
            Step::List(u64::from_le_bytes(*first))
        }
        b'E' | b'C' | b'S' => {
            let name = CStr::from_bytes_until_nul(rest)?;
            *part = &rest[name.to_bytes_with_nul().len()..];
            match tag {
                b'E' => Step::Enter(name),
                b'C' => Step::Claim(name),
                _ => Step::Stat(name),
            }
        }
        _ => bail!("an unknown step in a floor plan"),
    };
    Ok(Some(step))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Node {
    parent: u32,
    name: CString,
    /// Entries that are not directories.
    others: u64,
    children: Vec<u32>,
    /// Of everything below, itself included.
    weight: u64,
}

/// All directories, in the order of a depth-first walk.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Whole,
    /// The directory alone and, in stat work, so many of its non-directories.
    Own(u64),
    /// Its non-directories from the first number up to the second.
    Names(u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    weight: u64,
    node: u32,
    what: What,
}

impl Tree {
    /// Adds the directory and all below it; what cannot be read stays empty here, and the oracle and
    /// the counts of the walk itself show it.
    fn read(&mut self, fd: &OwnedFd, parent: u32, name: &CStr) {
        let index = self.nodes.len();
        self.nodes.push(Node {
            parent,
            name: name.to_owned(),
            others: 0,
            children: Vec::new(),
            weight: 0,
        });
        let (mut others, mut names) = (0, Vec::new());
        let _ = each_entry(fd, |name, kind| {
            if kind == FileType::Directory {
                names.push(name.to_owned());
            } else {
                others += 1;
            }
        });
        self.nodes[index].others = others;
        for name in names {
            let child = self.nodes.len() as u32;
            self.nodes[index].children.push(child);
            if let Ok(below) = openat(fd, name.as_c_str(), DIRECTORY, Mode::empty()) {
                self.read(&below, index as u32, &name);
            } else {
                let node = Node {
                    parent: index as u32,
                    name,
                    others: 0,
                    children: Vec::new(),
                    weight: 0,
                };
                self.nodes.push(node);
            }
        }
    }

    fn weigh(&mut self, work: Work) {
        let stat = stat_cost(work);
        for index in (0..self.nodes.len()).rev() {
            let node = &mut self.nodes[index];
            // Its own statx and its line in the listing of its parent belong to the directory.
            node.weight += DIRECTORY_COST + LIST_COST + stat + node.others * (LIST_COST + stat);
            let (weight, parent) = (node.weight, node.parent as usize);
            if index > 0 {
                self.nodes[parent].weight += weight;
            }
        }
    }

    fn split(&self, work: Work, procs: usize) -> Vec<Piece> {
        let whole = |node: u32| Piece {
            weight: self.nodes[node as usize].weight,
            node,
            what: What::Whole,
        };
        if procs == 1 {
            return vec![whole(0)];
        }
        let limit = self.nodes[0].weight / (procs as u64 * FINENESS) + 1;
        let mut heap = BinaryHeap::from([whole(0)]);
        let mut small = Vec::new();
        while let Some(piece) = heap.pop() {
            if piece.weight <= limit {
                small.push(piece);
                continue;
            }
            self.split_own(piece.node, work, limit, &mut small);
            let children = &self.nodes[piece.node as usize].children;
            heap.extend(children.iter().map(|&child| whole(child)));
        }
        small
    }

    /// The directory itself: its listing, which cannot be divided, and the `statx` calls, which can.
    fn split_own(&self, index: u32, work: Work, limit: u64, pieces: &mut Vec<Piece>) {
        let node = &self.nodes[index as usize];
        let stat = stat_cost(work);
        let children = node.children.len() as u64;
        let listing = DIRECTORY_COST + stat + (node.others + children) * LIST_COST;
        let chunk = (limit / STAT_COST).max(1);
        let first = match work {
            Work::List => u64::MAX,
            Work::Stat if node.others * stat <= limit => u64::MAX,
            Work::Stat => chunk.saturating_sub(listing / STAT_COST),
        };
        pieces.push(Piece {
            weight: listing + first.min(node.others) * stat,
            node: index,
            what: What::Own(first),
        });
        let mut from = first;
        while from < node.others {
            let to = (from + chunk).min(node.others);
            pieces.push(Piece {
                weight: (to - from) * stat,
                node: index,
                what: What::Names(from, to),
            });
            from = to;
        }
    }
}

fn stat_cost(work: Work) -> u64 {
    match work {
        Work::List => 0,
        Work::Stat => STAT_COST,
    }
}

/// Gives each piece to a process: heavy ones to whoever has least, then small ones so that
/// neighbours stay together, because neighbours share cache lines and blocks.
fn deal(mut pieces: Vec<Piece>, procs: usize) -> Vec<Vec<Piece>> {
    let total: u64 = pieces.iter().map(|piece| piece.weight).sum();
    let share = total / procs as u64;
    pieces.sort_unstable_by_key(|piece| std::cmp::Reverse(*piece));
    let light = pieces.partition_point(|piece| piece.weight > share / 512);
    let mut small = pieces.split_off(light);
    let mut dealt = vec![Vec::new(); procs];
    let mut load = vec![0; procs];
    for piece in pieces {
        let least = (0..procs).min_by_key(|&i| load[i]).unwrap_or(0);
        load[least] += piece.weight;
        dealt[least].push(piece);
    }
    small.sort_unstable_by_key(|piece| (piece.node, piece.what));
    let mut taker = 0;
    for piece in small {
        while taker + 1 < procs && load[taker] >= share {
            taker += 1;
        }
        load[taker] += piece.weight;
        dealt[taker].push(piece);
    }
    dealt
}

/// Writes the steps of one process.
struct Writer<'a> {
    tree: &'a Tree,
    root: &'a OwnedFd,
    pieces: Vec<Piece>,
    /// Directories that lead to a piece of this process.
    needed: Vec<bool>,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(tree: &'a Tree, root: &'a OwnedFd, pieces: &[Piece]) -> Self {
        let mut needed = vec![false; tree.nodes.len()];
        for piece in pieces {
            let mut at = piece.node as usize;
            while !needed[at] {
                needed[at] = true;
                at = tree.nodes[at].parent as usize;
            }
        }
        let mut pieces = pieces.to_vec();
        pieces.sort_unstable_by_key(|piece| (piece.node, piece.what));
        Writer {
            tree,
            root,
            pieces,
            needed,
            out: Vec::new(),
        }
    }

    fn write(mut self) -> anyhow::Result<Vec<u8>> {
        if self.needed[0] {
            self.node(0)?;
        }
        Ok(self.out)
    }

    fn node(&mut self, index: u32) -> anyhow::Result<()> {
        let tree = self.tree;
        let node = &tree.nodes[index as usize];
        let start = self.pieces.partition_point(|piece| piece.node < index);
        let end = self.pieces.partition_point(|piece| piece.node <= index);
        let mine = self.pieces[start..end].to_vec();
        let claimed = mine
            .iter()
            .any(|piece| !matches!(piece.what, What::Names(..)));
        if claimed {
            self.name(b'C', &node.name);
        } else if index != 0 {
            self.name(b'E', &node.name);
        }
        for piece in &mine {
            match piece.what {
                What::Whole => self.out.push(b'W'),
                What::Own(first) => {
                    self.out.push(b'R');
                    self.out.extend(first.to_le_bytes());
                }
                What::Names(from, to) => self.names(index, from, to)?,
            }
        }
        for &child in &node.children {
            // Below a whole piece nothing else is needed.
            if self.needed[child as usize] {
                self.node(child)?;
            }
        }
        if index != 0 {
            self.out.push(b'L');
        }
        Ok(())
    }

    fn name(&mut self, tag: u8, name: &CStr) {
        self.out.push(tag);
        self.out.extend(name.to_bytes_with_nul());
    }

    fn names(&mut self, index: u32, from: u64, to: u64) -> anyhow::Result<()> {
        let fd = self.open(index)?;
        let mut number = 0;
        each_entry(&fd, |name, kind| {
            if kind != FileType::Directory {
                if (from..to).contains(&number) {
                    self.name(b'S', name);
                }
                number += 1;
            }
        })?;
        ensure!(number >= to, "the tree changed while it was planned");
        Ok(())
    }

    fn open(&self, index: u32) -> anyhow::Result<OwnedFd> {
        let mut path = Vec::new();
        let mut at = index;
        while at != 0 {
            path.push(at);
            at = self.tree.nodes[at as usize].parent;
        }
        let mut fd = self.root.try_clone()?;
        for node in path.into_iter().rev() {
            let name = self.tree.nodes[node as usize].name.as_c_str();
            fd = openat(fd.as_fd(), name, DIRECTORY, Mode::empty())?;
        }
        Ok(fd)
    }
}

/// Calls `each` for every entry but `.` and `..`, in the order of the listing.
fn each_entry(fd: &OwnedFd, mut each: impl FnMut(&CStr, FileType)) -> rustix::io::Result<()> {
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(entry.file_name(), entry.file_type());
        }
    }
    Ok(())
}
