//! What one process of the floor does: the necessary calls and as little as possible beside them.
//!
//! For each directory one `openat` relative to its parent, `getdents64` into one large buffer until
//! it says that it has no more, one `close`; for stat work one `statx` for each entry, by name
//! relative to its directory, straight from the buffer, with the mask that gives size and blocks.
//! The names of subdirectories are copied once, because the buffer is used again. Entries are counted
//! by type. Nothing is printed, remembered, sorted or compared.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::plan::{Step, next_step};
use crate::Work;

const BUFFER: usize = 1 << 20;
const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const STAT_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);
const MASK: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::SIZE)
    .union(StatxFlags::BLOCKS);

/// What was counted; the root counts as an entry. Bytes are zero in list work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Every entry.
    pub entries: u64,
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Everything else.
    pub other: u64,
    /// Sum of the sizes of regular files.
    pub apparent_bytes: u64,
    /// Sum of the blocks of all entries, in bytes, hard links as often as they appear.
    pub allocated_bytes: u64,
    /// Directories and entries that could not be read.
    pub errors: u64,
}

impl Counts {
    /// Adds the counts of another process.
    pub fn add(&mut self, other: &Counts) {
        self.entries += other.entries;
        self.directories += other.directories;
        self.files += other.files;
        self.symlinks += other.symlinks;
        self.other += other.other;
        self.apparent_bytes += other.apparent_bytes;
        self.allocated_bytes += other.allocated_bytes;
        self.errors += other.errors;
    }

    fn count(&mut self, kind: FileType) {
        self.entries += 1;
        match kind {
            FileType::Directory => self.directories += 1,
            FileType::RegularFile => self.files += 1,
            FileType::Symlink => self.symlinks += 1,
            _ => self.other += 1,
        }
    }
}

/// One process of the floor, ready to start.
pub struct Part {
    root: OwnedFd,
    walker: Walker,
}

impl Part {
    /// Opens the root and gets the memory.
    ///
    /// # Errors
    ///
    /// When the root cannot be opened.
    pub fn new(root: &Path, work: Work) -> anyhow::Result<Part> {
        crate::totals::raise_open_files();
        let root = openat(CWD, root, OPEN, Mode::empty())
            .with_context(|| format!("open {}", root.display()))?;
        let mut buffer = vec![0_u8; BUFFER];
        buffer.clear();
        let walker = Walker {
            work,
            buffer,
            names: Vec::with_capacity(BUFFER),
            counts: Counts::default(),
        };
        Ok(Part { root, walker })
    }

    /// Follows the steps and returns what was counted and the processor time it took.
    ///
    /// # Errors
    ///
    /// When the steps make no sense or a directory that the plan names cannot be opened.
    pub fn run(mut self, mut steps: &[u8]) -> anyhow::Result<(Counts, Duration)> {
        let before = cpu_time();
        // `None` is a directory that could not be opened, or one in it.
        let mut open: Vec<Option<OwnedFd>> = Vec::new();
        while let Some(step) = next_step(&mut steps)? {
            let at = open.last().map_or(Some(&self.root), Option::as_ref);
            let at = at.map(OwnedFd::as_fd);
            match step {
                Step::Leave => ensure!(open.pop().is_some(), "a plan that leaves its root"),
                Step::Enter(name) => {
                    let child = at.and_then(|at| self.walker.open(at, name));
                    open.push(child);
                }
                Step::Claim(name) => {
                    let child = at.and_then(|at| self.walker.claim(at, name));
                    if !name.is_empty() {
                        open.push(child);
                    }
                }
                Step::List(first) => at
                    .into_iter()
                    .for_each(|at| self.walker.list(at, Some(first))),
                Step::Walk => at.into_iter().for_each(|at| self.walker.walk(at)),
                Step::Stat(name) => at.into_iter().for_each(|at| self.walker.one(at, name)),
            }
        }
        Ok((self.walker.counts, cpu_time().saturating_sub(before)))
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Walker {
    work: Work,
    /// Kept empty: only its capacity is used.
    buffer: Vec<u8>,
    /// Names of subdirectories still to be walked, with their NUL, as a stack.
    names: Vec<u8>,
    counts: Counts,
}

impl Walker {
    fn open(&mut self, at: BorrowedFd<'_>, name: &CStr) -> Option<OwnedFd> {
        let child = openat(at, name, OPEN, Mode::empty()).ok();
        self.counts.errors += u64::from(child.is_none());
        child
    }

    /// Counts a directory, or the root by an empty name, and opens it unless it is the root.
    fn claim(&mut self, at: BorrowedFd<'_>, name: &CStr) -> Option<OwnedFd> {
        self.counts.count(FileType::Directory);
        if self.work == Work::Stat {
            stat_into(&mut self.counts, at, name);
        }
        if name.is_empty() {
            return None;
        }
        self.open(at, name)
    }

    fn one(&mut self, at: BorrowedFd<'_>, name: &CStr) {
        match stat_into(&mut self.counts, at, name) {
            Some(kind) => self.counts.count(kind),
            None => self.counts.errors += 1,
        }
    }

    fn walk(&mut self, at: BorrowedFd<'_>) {
        let start = self.names.len();
        self.list(at, None);
        let end = self.names.len();
        let mut next = start;
        while next < end {
            let Ok(name) = CStr::from_bytes_until_nul(&self.names[next..end]) else {
                break;
            };
            next += name.to_bytes_with_nul().len();
            // Not `self.open`: the name lies in `self`.
            match openat(at, name, OPEN, Mode::empty()) {
                Ok(child) => self.walk(child.as_fd()),
                Err(_) => self.counts.errors += 1,
            }
        }
        self.names.truncate(start);
    }

    /// Reads a directory. With `alone` directories in it are left to others, and so are
    /// non-directories from that number on in stat work.
    fn list(&mut self, at: BorrowedFd<'_>, alone: Option<u64>) {
        let Walker {
            work,
            buffer,
            names,
            counts,
        } = self;
        let mut number = 0;
        let mut dir = RawDir::new(at, buffer.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let Ok(entry) = entry else {
                counts.errors += 1;
                break;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = entry.file_type();
            if let Some(first) = alone {
                number += u64::from(kind != FileType::Directory);
                if kind == FileType::Directory || number > first {
                    continue;
                }
            }
            if *work == Work::Stat && stat_into(counts, at, name).is_none() {
                counts.errors += 1;
            }
            counts.count(kind);
            if kind == FileType::Directory {
                names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
    }
}

fn stat_into(counts: &mut Counts, at: BorrowedFd<'_>, name: &CStr) -> Option<FileType> {
    let flags = if name.is_empty() {
        STAT_FLAGS.union(AtFlags::EMPTY_PATH)
    } else {
        STAT_FLAGS
    };
    let stat = statx(at, name, flags, MASK).ok()?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    if kind == FileType::RegularFile {
        counts.apparent_bytes += stat.stx_size;
    }
    counts.allocated_bytes += stat.stx_blocks * 512;
    Some(kind)
}
