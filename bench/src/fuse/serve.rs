//! What the file system answers. Everything is worked out when a call is read; later it is only sent.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, OpenFlags, ReplyAttr, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, Request,
};

use super::Answering;
use super::calls::{CallCounts, Kind};
use super::delay::DelayLine;
use super::inject::Injected;
use crate::implicit::{Dir, Entry, ImplicitTree};
use crate::tree::NEWEST;

/// Long enough to be no answer.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// The file system.
pub(super) struct Synthetic {
    tree: ImplicitTree,
    answering: Answering,
    counts: Arc<CallCounts>,
    line: Arc<DelayLine>,
}

impl Synthetic {
    pub(super) fn new(
        tree: ImplicitTree,
        answering: Answering,
        counts: Arc<CallCounts>,
        line: Arc<DelayLine>,
    ) -> Self {
        Self {
            tree,
            answering,
            counts,
            line,
        }
    }

    /// Sends what a call of this kind about this entry, read just now, gets, when that is due.
    fn answer<T: Send + 'static>(
        &self,
        kind: Kind,
        inode: u64,
        found: Result<T, Errno>,
        send: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let read = Instant::now();
        self.counts.begin();
        let injected = self.answering.injections.of(inode, kind);
        let (found, later) = match injected {
            None => (found, Duration::ZERO),
            Some(Injected::Error(errno)) => (Err(Errno::from_i32(errno)), Duration::ZERO),
            Some(Injected::Delay(later)) => (found, later),
            Some(Injected::Hang) => (found, NEVER),
        };
        let latency = self.answering.latency[kind as usize] + later;
        if latency.is_zero() {
            self.counts.end(kind, Duration::ZERO);
            return send(found);
        }
        let counts = Arc::clone(&self.counts);
        let counted = move || {
            counts.end(kind, read.elapsed());
            send(found);
        };
        self.line.push(read + latency, Box::new(counted));
    }

    fn dir(&self, inode: INodeNo) -> Result<Dir, Errno> {
        match self.tree.by_inode(inode.0) {
            Some(Entry::Dir(dir)) => Ok(dir),
            Some(Entry::File { .. }) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let found = self.tree.find(self.dir(parent)?, name.as_bytes());
        found
            .map(|entry| self.attributes(&entry))
            .ok_or(Errno::ENOENT)
    }

    fn attributes(&self, entry: &Entry) -> FileAttr {
        let inode = entry.inode();
        // Any spread will do, as long as it is the same each time.
        let spread = (inode ^ inode >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let age = spread >> 38;
        let time = UNIX_EPOCH + Duration::from_secs((NEWEST as u64).saturating_sub(age));
        let (kind, perm, nlink, size) = match entry {
            Entry::Dir(dir) => {
                let links = 2 + self.tree.subdirectories(*dir);
                (FileType::Directory, 0o755, links, 4096)
            }
            Entry::File { .. } => {
                let magnitude = spread % 27;
                let size = ((1 << magnitude) - 1) & (spread >> 20);
                (FileType::RegularFile, 0o644, 1, size)
            }
        };
        FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(4096) * 8,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Fills `reply` with the entries from `offset` on: `.`, `..`, and those of the tree.
    fn list(&self, inode: INodeNo, offset: u64, reply: &mut ReplyDirectory) -> Result<(), Errno> {
        let dir = self.dir(inode)?;
        let mut dots = [".", ".."].iter().zip(1..).skip(offset.min(2) as usize);
        let mut left = self.answering.entries_per_readdir.max(3);
        if dots.any(|(name, next)| {
            left -= 1;
            reply.add(inode, next, FileType::Directory, name)
        }) {
            return Ok(());
        }
        let entries = self.tree.entries(dir);
        let mut name = Vec::with_capacity(32);
        for place in offset.saturating_sub(2)..entries.min(offset.saturating_sub(2) + left as u64) {
            let entry = self.tree.entry(dir, place);
            let (kind, number) = match entry {
                Entry::Dir(_) => (FileType::Directory, self.tree.number_at(dir, place)),
                Entry::File { index, .. } => (FileType::RegularFile, index),
            };
            name.clear();
            self.tree.write_name(&entry, number, &mut name);
            let inode = INodeNo(entry.inode());
            if reply.add(inode, place + 3, kind, OsStr::from_bytes(&name)) {
                break;
            }
        }
        Ok(())
    }
}

impl Filesystem for Synthetic {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Without it the kernel asks for one name of a directory at a time.
        config
            .add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS)
            .map_err(|_| std::io::Error::other("this kernel is too old: no parallel lookups"))?;
        // Only closing is done in the background; it must not wait for itself.
        let _ = config.set_max_background(u16::MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.find(parent, name);
        let (attributes, names) = (self.answering.attr_timeout, self.answering.entry_timeout);
        let inode = found.as_ref().map_or(0, |found| found.ino.0);
        self.answer(Kind::Lookup, inode, found, move |found| match found {
            Ok(found) => reply.entry_with_ttls(&attributes, &names, &found, Generation(0)),
            Err(errno) => reply.error(errno),
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let entry = self.tree.by_inode(inode.0);
        let found = entry.map(|entry| self.attributes(&entry));
        let timeout = self.answering.attr_timeout;
        let found = found.ok_or(Errno::ENOENT);
        self.answer(Kind::Getattr, inode.0, found, move |found| match found {
            Ok(found) => reply.attr(&timeout, &found),
            Err(errno) => reply.error(errno),
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let found = self.find(parent, name);
        let inode = found.map_or(0, |found| found.ino.0);
        let refused: Result<(), Errno> = Err(Errno::EROFS);
        self.answer(Kind::Unlink, inode, refused, move |refused| {
            reply.error(refused.err().unwrap_or(Errno::EROFS));
        });
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let dir = self.dir(inode);
        self.answer(Kind::Opendir, inode.0, dir, move |dir| match dir {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(inode, offset, &mut reply);
        self.answer(Kind::Readdir, inode.0, listed, move |listed| match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.answer(Kind::Releasedir, inode.0, Ok(()), move |_| reply.ok());
    }

    fn statfs(&self, _: &Request, inode: INodeNo, reply: ReplyStatfs) {
        self.answer(Kind::Statfs, inode.0, Ok(()), move |_| {
            reply.statfs(1 << 30, 1 << 29, 1 << 29, 1 << 30, 1 << 29, 4096, 255, 4096);
        });
    }
}
