//! The server's table of hard-linked inodes: counts each once, in bounded memory.
//!
//! An inode is forgotten when all its names were met. When there are too many others, the table is written,
//! sorted, to an unlinked temporary file as one run, and starts empty; at the end the runs are merged.
//!
//! ```text
//!   links ──▶ table ──(full)──▶ run 1 │ run 2 │ run 3 ...     one file
//!               └──────── finish ────────┴───────┴──▶ merged by (fs, ino), each inode counted
//! ```

use super::links::{Inodes, Link};
use foldhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Inodes that the server keeps in memory.
pub(super) const MEMORY_MAX: usize = 200_000;
/// Bytes of a link in a run.
const LINK_BYTES: usize = 32;
/// Links that are read from a run at once.
const READ_LINKS: usize = 128;

/// The table.
#[derive(Debug)]
pub(super) struct InodeTable {
    memory_max: usize,
    directory: PathBuf,
    complete: Inodes,
    open: HashMap<(u64, u64), Link, RandomState>,
    spilled: Option<File>,
    /// For each run: its first byte, and the byte behind it.
    runs: Vec<(u64, u64)>,
}

impl InodeTable {
    /// An empty table of at most `memory_max` inodes; the others go to a file in `directory`.
    pub(super) fn new(memory_max: usize, directory: &Path) -> Self {
        Self {
            memory_max: memory_max.max(1),
            directory: directory.to_owned(),
            complete: Inodes::default(),
            open: HashMap::default(),
            spilled: None,
            runs: Vec::new(),
        }
    }

    /// Where the file is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Adds inodes of which all names were met.
    pub(super) fn add_complete(&mut self, inodes: Inodes) {
        self.complete.add(inodes);
    }

    /// Adds names of an inode.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn add(&mut self, link: Link) -> io::Result<()> {
        let key = (link.fs, link.ino);
        let known = self.open.entry(key).or_insert(Link { seen: 0, ..link });
        known.join(&link);
        self.complete.add(known.settle());
        if known.seen == 0 {
            self.open.remove(&key);
        }
        if self.open.len() >= self.memory_max {
            self.spill()?;
        }
        Ok(())
    }

    /// Inodes of which all names were met.
    pub(super) fn complete(&self) -> Inodes {
        self.complete
    }

    /// Shows every inode of which names are missing, in memory or on disk; one that is in several runs is
    /// shown for each.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn for_each(&self, show: &mut dyn FnMut(Link)) -> io::Result<()> {
        let mut links: Vec<Link> = self.open.values().copied().collect();
        links.sort_unstable();
        links.into_iter().for_each(&mut *show);
        let mut merge = Merge::new(self)?;
        while let Some(link) = merge.next()? {
            show(link);
        }
        Ok(())
    }

    /// Counts each inode once, those of which names were missing too.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn finish(mut self) -> io::Result<Inodes> {
        if self.runs.is_empty() {
            let mut sum = self.complete;
            self.open.values().for_each(|link| sum.add(rest(*link)));
            return Ok(sum);
        }
        self.spill()?;
        let mut sum = self.complete;
        let mut group: Option<Link> = None;
        let mut merge = Merge::new(&self)?;
        while let Some(link) = merge.next()? {
            match &mut group {
                Some(open) if (open.fs, open.ino) == (link.fs, link.ino) => open.join(&link),
                _ => {
                    if let Some(done) = group.replace(link) {
                        sum.add(rest(done));
                    }
                }
            }
        }
        if let Some(done) = group {
            sum.add(rest(done));
        }
        Ok(sum)
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &self.spilled {
            Some(file) => file,
            None => self.spilled.insert(tempfile::tempfile_in(&self.directory)?),
        };
        let mut links: Vec<Link> = self.open.values().copied().collect();
        links.sort_unstable();
        let start = self.runs.last().map_or(0, |run| run.1);
        let mut out = BufWriter::with_capacity(1 << 16, file);
        for link in &links {
            out.write_all(&to_bytes(link))?;
        }
        out.flush()?;
        let end = start + (links.len() * LINK_BYTES) as u64;
        self.runs.push((start, end));
        self.open.clear();
        Ok(())
    }
}

/// What an inode counts for whose names were not all met, or met too often.
fn rest(mut link: Link) -> Inodes {
    let mut inodes = link.settle();
    if link.seen > 0 {
        inodes.add(Inodes::new(1, link.blocks));
    }
    inodes
}

fn to_bytes(link: &Link) -> [u8; LINK_BYTES] {
    let mut bytes = [0; LINK_BYTES];
    bytes[..8].copy_from_slice(&link.fs.to_le_bytes());
    bytes[8..16].copy_from_slice(&link.ino.to_le_bytes());
    bytes[16..20].copy_from_slice(&link.nlink.to_le_bytes());
    bytes[20..24].copy_from_slice(&link.seen.to_le_bytes());
    bytes[24..].copy_from_slice(&link.blocks.to_le_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Link {
    let number = |from: usize, to: usize| {
        let little = bytes[from..to].iter().rev();
        little.fold(0u64, |sum, &byte| sum << 8 | u64::from(byte))
    };
    Link {
        fs: number(0, 8),
        ino: number(8, 16),
        nlink: number(16, 20) as u32,
        seen: number(20, 24) as u32,
        blocks: number(24, 32),
    }
}

/// All runs as one sorted sequence.
struct Merge<'a> {
    file: Option<&'a File>,
    runs: Vec<RunReader>,
    heads: BinaryHeap<Reverse<(Link, usize)>>,
}

struct RunReader {
    at: u64,
    end: u64,
    /// Links read ahead, the next one last.
    ahead: Vec<Link>,
}

impl<'a> Merge<'a> {
    fn new(table: &'a InodeTable) -> io::Result<Self> {
        let mut merge = Self {
            file: table.spilled.as_ref(),
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for (run, &(at, end)) in table.runs.iter().enumerate() {
            let ahead = Vec::new();
            merge.runs.push(RunReader { at, end, ahead });
            merge.advance(run)?;
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<Link>> {
        let Some(Reverse((link, run))) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(run)?;
        Ok(Some(link))
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        let (Some(file), Some(reader)) = (self.file, self.runs.get_mut(run)) else {
            return Ok(());
        };
        if reader.ahead.is_empty() {
            reader.fill(file)?;
        }
        if let Some(link) = reader.ahead.pop() {
            self.heads.push(Reverse((link, run)));
        }
        Ok(())
    }
}

impl RunReader {
    fn fill(&mut self, file: &File) -> io::Result<()> {
        let mut buffer = [0; READ_LINKS * LINK_BYTES];
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let bytes = &mut buffer[..left.min(READ_LINKS * LINK_BYTES)];
        file.read_exact_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        let links = bytes.chunks_exact(LINK_BYTES).rev().map(from_bytes);
        self.ahead.extend(links);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    fn table(memory_max: usize) -> InodeTable {
        InodeTable::new(memory_max, &std::env::temp_dir())
    }

    /// Inodes with some of their names, shuffled.
    fn links(random: &mut StdRng, inodes: u64) -> Vec<Link> {
        let mut all = Vec::new();
        for ino in 0..inodes {
            let nlink = random.random_range(2..6);
            let link = Link {
                fs: ino % 3,
                ino,
                nlink,
                seen: 1,
                blocks: random.random_range(0..100),
            };
            let seen = random.random_range(1..=nlink);
            all.extend((0..seen).map(|_| link));
        }
        all.shuffle(random);
        all
    }

    #[test]
    fn every_inode_counts_once_with_and_without_spilling() {
        for seed in 0..10 {
            let mut random = StdRng::seed_from_u64(seed);
            let links = links(&mut random, 3000);
            let naive: BTreeMap<_, _> = links.iter().map(|l| ((l.fs, l.ino), l.blocks)).collect();
            let expected = Inodes::new(naive.len() as u64, naive.values().sum());
            for memory_max in [1, 64, 700, 1_000_000] {
                let mut table = table(memory_max);
                links.iter().for_each(|link| table.add(*link).unwrap());
                assert!(table.open.len() <= memory_max);
                assert_eq!(table.runs.is_empty(), memory_max == 1_000_000);
                assert_eq!(
                    table.finish().unwrap(),
                    expected,
                    "seed {seed}, {memory_max}"
                );
            }
        }
    }

    #[test]
    fn what_is_complete_is_forgotten() {
        let mut table = table(10);
        let mut random = StdRng::seed_from_u64(1);
        for mut link in links(&mut random, 1000) {
            link.seen = link.nlink;
            table.add(link).unwrap();
        }
        assert!(table.open.is_empty() && table.runs.is_empty());
    }

    #[test]
    fn names_beyond_the_number_of_links_count_the_same_in_any_order() {
        let link = |seen| Link {
            fs: 0,
            ino: 1,
            nlink: 2,
            seen,
            blocks: 8,
        };
        for split in [&[3][..], &[2, 1], &[1, 2], &[1, 1, 1]] {
            let mut table = table(1);
            split.iter().for_each(|&n| table.add(link(n)).unwrap());
            assert_eq!(table.finish().unwrap(), Inodes::new(2, 16), "{split:?}");
        }
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let mut table = InodeTable::new(1, Path::new("/nonexistent/hydra"));
        let mut random = StdRng::seed_from_u64(1);
        let failed = links(&mut random, 10)
            .into_iter()
            .any(|l| table.add(l).is_err());
        assert!(failed);
    }
}
