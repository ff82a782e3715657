//! `statx` by name relative to an open directory, and what a symlink says.
//!
//! Nothing here follows a symlink or mounts anything, and nothing allocates: a name comes terminated from the
//! listing, or is copied to the stack.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes};
use rustix::path::Arg;

use super::list::ListEntry;
use super::{Errno, PATH_MAX, retry};

/// Which fields are asked for; the type comes with any.
pub use rustix::fs::StatxFlags as StatMask;

/// How fresh the answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// As fresh as `stat` makes it.
    #[default]
    AsStat,
    /// What the client of a network file system has at hand.
    Lazy,
}

/// What `statx` said. A field that was not asked for may hold anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Apparent size in bytes.
    pub size: u64,
    /// Allocated size in units of 512 bytes.
    pub blocks: u64,
    /// Inode number.
    pub ino: u64,
    /// Device, its major number in the upper and its minor number in the lower 32 bits; means nothing elsewhere.
    pub dev: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Whether a mount begins here (never, on kernels before 5.8).
    pub mount_root: bool,
}

/// A point in time as file systems keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

impl Stat {
    /// The type in `mode`.
    #[inline]
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// Stats `name` in `dir`, the link itself where it is one.
///
/// # Errors
/// The errno of the call; `ENOENT` where the entry has vanished.
#[inline]
pub fn stat_at<P: Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: P,
    mask: StatMask,
    sync: Sync,
) -> Result<Stat, Errno> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW | sync.flags();
    retry(|| rustix::fs::statx(dir, name, flags, mask | StatMask::TYPE))
        .map(|x| Stat::from_statx(&x))
}

/// Stats what `fd` is open on.
///
/// # Errors
/// The errno of the call.
pub fn stat_fd(fd: BorrowedFd<'_>, mask: StatMask, sync: Sync) -> Result<Stat, Errno> {
    let flags = AtFlags::EMPTY_PATH | sync.flags();
    retry(|| rustix::fs::statx(fd, c"", flags, mask | StatMask::TYPE)).map(|x| Stat::from_statx(&x))
}

/// The type of a listed entry, by `statx` where the listing does not tell.
///
/// # Errors
/// The errno of `statx`.
#[inline]
pub fn type_at(dir: BorrowedFd<'_>, entry: &ListEntry<'_>) -> Result<FileType, Errno> {
    match entry.kind {
        FileType::Unknown => {
            stat_at(dir, entry.c_name, StatMask::TYPE, Sync::AsStat).map(|stat| stat.kind())
        }
        known => Ok(known),
    }
}

/// Reads the symlink `name` in `dir` into `text`, replacing what is there; no more than fits into a path.
///
/// # Errors
/// The errno of the call; `EINVAL` where it is no symlink.
pub fn read_link<P: Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: P,
    text: &mut Vec<u8>,
) -> Result<(), Errno> {
    text.clear();
    text.reserve(PATH_MAX);
    retry(|| {
        rustix::fs::readlinkat_raw(dir, name, rustix::buffer::spare_capacity(&mut *text))
            .map(|_| ())
    })
}

/// A device number in one integer, comparable on this host only.
#[inline]
pub(super) fn pack_dev(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

impl Sync {
    #[inline]
    fn flags(self) -> AtFlags {
        match self {
            Self::AsStat => AtFlags::STATX_SYNC_AS_STAT,
            Self::Lazy => AtFlags::STATX_DONT_SYNC,
        }
    }
}

impl Stat {
    #[inline]
    fn from_statx(x: &Statx) -> Self {
        let time = |t: rustix::fs::StatxTimestamp| Time {
            secs: t.tv_sec,
            nanos: t.tv_nsec,
        };
        Self {
            size: x.stx_size,
            blocks: x.stx_blocks,
            ino: x.stx_ino,
            dev: pack_dev(x.stx_dev_major, x.stx_dev_minor),
            uid: x.stx_uid,
            gid: x.stx_gid,
            mode: u32::from(x.stx_mode),
            nlink: x.stx_nlink,
            atime: time(x.stx_atime),
            mtime: time(x.stx_mtime),
            ctime: time(x.stx_ctime),
            mount_root: x.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}
