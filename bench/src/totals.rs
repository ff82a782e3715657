//! The oracle: what a tree holds, counted by a plain serial walk that is never timed.
//!
//! Every other count in the suite is compared with this one. It is written apart from the floor on
//! purpose, so that a mistake in one does not hide a mistake in the other.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use serde::Serialize;

/// What a tree holds, its root included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Every entry, the root included.
    pub entries: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Regular files; each name of a hard-linked one counts.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Fifos, sockets and device nodes.
    pub other: u64,
    /// Sum of the sizes of regular files, in bytes.
    pub apparent_bytes: u64,
    /// Sum of the blocks of all entries, in bytes.
    pub allocated_bytes: u64,
    /// The same with each inode once, as `du` counts.
    pub unique_allocated_bytes: u64,
    /// Directories below the root on the longest path.
    pub depth: u64,
    /// Directories that could not be read.
    pub errors: u64,
}

/// Walks `root` serially and counts what is there.
///
/// # Errors
///
/// When the root cannot be opened. Directories below it that cannot be read are counted in
/// [`Totals::errors`].
pub fn count(root: &Path) -> anyhow::Result<Totals> {
    raise_open_files();
    let context = || format!("count {}", root.display());
    let fd = openat(CWD, root, DIRECTORY, Mode::empty()).with_context(context)?;
    let stat = rustix::fs::fstat(&fd).with_context(context)?;
    let mut counter = Counter::default();
    counter.add(&stat);
    counter.directory(fd, 0);
    Ok(counter.totals)
}

/// Raises the limit of open files to what is allowed: a walk keeps one open on each level.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised the walk may still do; if not, its own error tells.
    let _ = setrlimit(Resource::Nofile, limit);
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[derive(Default)]
struct Counter {
    totals: Totals,
    seen: HashSet<(u64, u64)>,
}

impl Counter {
    fn directory(&mut self, fd: OwnedFd, depth: u64) {
        self.totals.depth = self.totals.depth.max(depth);
        let mut below: Vec<CString> = Vec::new();
        let Ok(mut dir) = Dir::read_from(&fd) else {
            self.totals.errors += 1;
            return;
        };
        while let Some(entry) = dir.read() {
            let Ok(entry) = entry else {
                self.totals.errors += 1;
                break;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
                self.totals.errors += 1;
                continue;
            };
            if self.add(&stat) == FileType::Directory {
                below.push(name.to_owned());
            }
        }
        drop(dir);
        for name in below {
            match openat(&fd, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Ok(child) => self.directory(child, depth + 1),
                Err(_) => self.totals.errors += 1,
            }
        }
    }

    fn add(&mut self, stat: &Stat) -> FileType {
        let totals = &mut self.totals;
        let kind = FileType::from_raw_mode(stat.st_mode);
        totals.entries += 1;
        match kind {
            FileType::Directory => totals.directories += 1,
            FileType::RegularFile => {
                totals.files += 1;
                totals.apparent_bytes += stat.st_size as u64;
            }
            FileType::Symlink => totals.symlinks += 1,
            _ => totals.other += 1,
        }
        let allocated = stat.st_blocks as u64 * 512;
        totals.allocated_bytes += allocated;
        let first = kind == FileType::Directory
            || stat.st_nlink < 2
            || self.seen.insert((stat.st_dev, stat.st_ino));
        if first {
            totals.unique_allocated_bytes += allocated;
        }
        kind
    }
}
