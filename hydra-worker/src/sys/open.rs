//! Opens directories relative to open directories, so that no symlink and no `..` ever leads out of the tree.
//!
//! A single name needs no `RESOLVE_BENEATH`: without a slash and without a symlink to follow it cannot leave its
//! directory, and the kernel pays for that flag with a lock that all mounts of the machine share. Paths of several
//! components get it. Where `openat2` is missing, components are opened one by one.
//!
//! This module does not cache descriptors; [`crate::dirs`] does.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::path::Arg;

use super::stat::{self, Stat, StatMask};
use super::{Errno, PATH_MAX, retry};

/// How often a lookup that raced with a rename (`EAGAIN`) is tried before the race is reported.
const RACES_MAX: usize = 64;

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const HANDLE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What an opened directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be listed; needs the right to read it.
    List,
    /// To be the base of other calls only (`O_PATH`); needs the right to search the directories above it.
    Base,
}

/// What happens at a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// The other side is opened.
    Cross,
    /// The other side is not opened; the call fails with [`OpenError::MountPoint`].
    Detect,
}

/// Why a directory was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A mount point is here, and it was not to be crossed.
    #[error("a mount point is in the way")]
    MountPoint,
    /// The system call failed. `ELOOP` and `ENOTDIR`: no directory, or no longer one.
    #[error("{0}")]
    Errno(#[from] Errno),
}

/// A root as [`Opener::open_root`] found it.
#[derive(Debug)]
pub struct OpenedRoot {
    /// The root, for use as a base (`O_PATH`), whatever its type.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: Stat,
}

/// The way directories are opened on this machine; decided once, when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Opener {
    openat2: bool,
}

impl Opener {
    /// Finds out which calls this kernel, and any filter above it, allows.
    ///
    /// # Errors
    /// [`Unsupported`] where `statx` is missing: without it nothing here works.
    pub fn probe() -> Result<Self, Unsupported> {
        let root = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        if let Err(Errno::NOSYS) = rustix::fs::statx(CWD, c"/", root, StatxFlags::TYPE) {
            return Err(Unsupported);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let probe = rustix::fs::openat2(CWD, c"/", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        Ok(Self {
            openat2: !matches!(probe, Err(Errno::NOSYS | Errno::PERM | Errno::INVAL)),
        })
    }

    /// An opener that does without `openat2`, as on kernels before 5.6 and under some container filters.
    pub fn without_openat2() -> Self {
        Self { openat2: false }
    }

    /// Whether `openat2` is used.
    pub fn has_openat2(&self) -> bool {
        self.openat2
    }

    /// Opens the directory `name`, a single component, in `dir`.
    ///
    /// # Errors
    /// [`OpenError`]; `EINVAL` for a name that is empty, `.`, `..` or holds a slash.
    #[inline]
    pub fn open_name(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        purpose: Purpose,
        mounts: Mounts,
    ) -> Result<OwnedFd, OpenError> {
        if name.contains(&b'/') {
            return Err(Errno::INVAL.into());
        }
        check_component(name)?;
        self.open_checked_name(dir, name, purpose, mounts)
    }

    /// Opens the directory at `path`, relative to `dir`, of one or more components and of any length.
    ///
    /// # Errors
    /// [`OpenError`]; `EINVAL` for a path that is empty or absolute or has an empty component, `.` or `..`.
    /// With [`Mounts::Detect`] a mount point anywhere on the path counts.
    pub fn open_path(
        &self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        purpose: Purpose,
        mounts: Mounts,
    ) -> Result<OwnedFd, OpenError> {
        if !path.contains(&b'/') {
            return self.open_name(dir, path, purpose, mounts);
        }
        let mut rest = path;
        let mut held: Option<OwnedFd> = None;
        loop {
            let (chunk, tail, single) = self.next_chunk(rest)?;
            let base = held.as_ref().map_or(dir, AsFd::as_fd);
            let purpose = if tail.is_empty() {
                purpose
            } else {
                Purpose::Base
            };
            let fd = if single {
                self.open_checked_name(base, chunk, purpose, mounts)?
            } else {
                open_beneath(base, chunk, purpose, mounts)?
            };
            if tail.is_empty() {
                return Ok(fd);
            }
            held = Some(fd);
            rest = tail;
        }
    }

    /// Opens the directory behind `dir` anew, with an offset of its own.
    ///
    /// # Errors
    /// The errno of the call.
    pub fn reopen(&self, dir: BorrowedFd<'_>, purpose: Purpose) -> Result<OwnedFd, OpenError> {
        let flags = flags_of(purpose);
        Ok(retry(|| {
            rustix::fs::openat(dir, c".", flags, Mode::empty())
        })?)
    }

    /// Opens a root by its absolute path, following a symlink at its end as `find -H` does: what it points to,
    /// and the link itself where it points nowhere.
    ///
    /// # Errors
    /// The errno of the call.
    pub fn open_root(&self, path: &Path) -> Result<OpenedRoot, Errno> {
        let open = |more: OFlags| {
            let flags = OFlags::PATH | OFlags::CLOEXEC | more;
            retry(|| rustix::fs::open(path, flags, Mode::empty()))
        };
        // With O_DIRECTORY first: without it a root that is an automount point would be left unmounted.
        let fd = match open(OFlags::DIRECTORY) {
            Err(Errno::NOTDIR) => open(OFlags::empty()),
            outcome => outcome,
        };
        let fd = match fd {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => open(OFlags::NOFOLLOW),
            outcome => outcome,
        }?;
        let stat = stat::stat_fd(fd.as_fd(), StatMask::BASIC_STATS, stat::Sync::AsStat)?;
        Ok(OpenedRoot { fd, stat })
    }

    #[inline]
    fn open_checked_name(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        purpose: Purpose,
        mounts: Mounts,
    ) -> Result<OwnedFd, OpenError> {
        let flags = flags_of(purpose);
        if mounts == Mounts::Cross {
            return Ok(retry(|| {
                rustix::fs::openat(dir, name, flags, Mode::empty())
            })?);
        }
        if !self.openat2 {
            return open_unless_mounted(dir, name, flags);
        }
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match openat2(dir, name, flags, resolve) {
            Err(Errno::XDEV) => Err(OpenError::MountPoint),
            outcome => Ok(outcome?),
        }
    }

    /// Splits off what one call can open: as many components as fit into a path, or one without `openat2`.
    /// Also says whether it is a single name.
    fn next_chunk<'p>(&self, path: &'p [u8]) -> Result<(&'p [u8], &'p [u8], bool), Errno> {
        let limit = if self.openat2 { PATH_MAX } else { 0 };
        let mut end = 0;
        let mut components = 0;
        loop {
            let start = if components == 0 { 0 } else { end + 1 };
            let component = first_component(path.get(start..).unwrap_or_default());
            check_component(component)?;
            if components > 0 && start + component.len() >= limit {
                break;
            }
            end = start + component.len();
            components += 1;
            if end == path.len() {
                break;
            }
        }
        let (chunk, tail) = path.split_at(end);
        let tail = tail.strip_prefix(b"/").unwrap_or(tail);
        Ok((chunk, tail, components == 1))
    }
}

/// The kernel lacks a call that nothing can stand in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel has no statx; Linux 4.11 or newer is needed")]
pub struct Unsupported;

/// `openat2`, tried again when it raced with a rename.
pub(super) fn openat2<P: Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut races = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if races < RACES_MAX => races += 1,
            outcome => return outcome,
        }
    }
}

/// Which mount the object `name` in `dir` belongs to (`dir` itself for an empty name); never mounts anything.
///
/// # Errors
/// The errno of `statx`.
pub fn mount_id(dir: BorrowedFd<'_>, name: &CStr) -> Result<MountId, Errno> {
    look(dir, name).map(|look| look.mount)
}

/// What has to be known of an object before it may be entered.
pub(super) struct Look {
    pub(super) kind: FileType,
    pub(super) mount: MountId,
    /// Whether entering it would mount something.
    pub(super) automount: bool,
}

pub(super) fn look<P: Arg + Copy>(dir: BorrowedFd<'_>, name: P) -> Result<Look, Errno> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let mask = StatxFlags::TYPE | StatxFlags::MNT_ID;
    let found = retry(|| rustix::fs::statx(dir, name, flags, mask))?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    let mount = if known {
        MountId::Mount(found.stx_mnt_id)
    } else {
        MountId::Device(stat::pack_dev(found.stx_dev_major, found.stx_dev_minor))
    };
    Ok(Look {
        kind: FileType::from_raw_mode(found.stx_mode.into()),
        mount,
        automount: found.stx_attributes.contains(StatxAttributes::AUTOMOUNT),
    })
}

/// A mount on this host; two that differ are different mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountId {
    /// The number of the mount, as in `/proc/self/mountinfo`.
    Mount(u64),
    /// The device, packed as in [`Stat`]: all that kernels before 5.8 tell.
    Device(u64),
}

/// What `RESOLVE_NO_XDEV` does, by comparing mounts before and after the directory is opened.
fn open_unless_mounted(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, OpenError> {
    let here = mount_id(dir, c"")?;
    if look(dir, name)?.mount != here {
        return Err(OpenError::MountPoint);
    }
    let fd = retry(|| rustix::fs::openat(dir, name, flags, Mode::empty()))?;
    if mount_id(fd.as_fd(), c"")? != here {
        return Err(OpenError::MountPoint);
    }
    Ok(fd)
}

fn open_beneath(
    dir: BorrowedFd<'_>,
    path: &[u8],
    purpose: Purpose,
    mounts: Mounts,
) -> Result<OwnedFd, OpenError> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    if mounts == Mounts::Detect {
        resolve |= ResolveFlags::NO_XDEV;
    }
    match openat2(dir, path, flags_of(purpose), resolve) {
        // `path` has no `..` and is relative: only a mount point or a rename out of the tree gives this.
        Err(Errno::XDEV) if mounts == Mounts::Detect => Err(OpenError::MountPoint),
        outcome => Ok(outcome?),
    }
}

fn flags_of(purpose: Purpose) -> OFlags {
    match purpose {
        Purpose::List => READ,
        Purpose::Base => HANDLE,
    }
}

fn first_component(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').next().unwrap_or_default()
}

fn check_component(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        _ => Ok(()),
    }
}
