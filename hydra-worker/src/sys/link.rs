//! What a symlink points to, as far as that can be told without leaving the root or crossing a mount.
//!
//! Most links are answered by the kernel in one call: `openat2` from the link's own directory, and from the root
//! if the target lies outside of that directory. Where the links before were absolute, a look at the text comes first,
//! which answers those. What is left (no `openat2`, paths beyond `PATH_MAX`, directories
//! that lie beyond a mount point themselves, file systems that mount as one walks) is followed component by
//! component here. Targets that lie elsewhere are never touched. Nothing is opened for reading.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, ResolveFlags};

use super::open::{self, Look, MountId, Mounts, OpenError, Opener, Purpose};
use super::stat::{self, StatMask, Sync};
use super::{Errno, PATH_MAX};

/// How many symlinks the kernel follows in one look-up.
const LINKS_MAX: u32 = 40;

/// The kind of thing a symlink points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Anything but a directory.
    File,
    /// A directory.
    Directory,
    /// Nothing, or a loop.
    Dangling,
    /// Outside of the root, on another mount, or where we may not look; an absolute target always.
    Elsewhere,
}

/// The directory that holds the links in question.
#[derive(Clone, Copy, Debug)]
pub struct LinkDir<'a> {
    /// The root, beneath which targets are looked for.
    pub root: BorrowedFd<'a>,
    /// The path of the directory relative to the root; empty for the root.
    pub path: &'a [u8],
    /// The directory.
    pub fd: BorrowedFd<'a>,
}

/// Follows symlinks; keeps its buffers from one to the next.
#[derive(Debug)]
pub struct LinkResolver {
    opener: Opener,
    by_kernel: bool,
    /// The last link was absolute: the next one may well be, too.
    absolute: bool,
    text: Vec<u8>,
    path: Vec<u8>,
}

impl LinkResolver {
    /// A resolver. `careful` is for file systems whose directories may mount something when they are entered
    /// (see [`super::mount::FsType::mounts_by_itself`]): before Linux 6.18 the kernel would do so on the way.
    pub fn new(opener: Opener, careful: bool) -> Self {
        Self {
            opener,
            by_kernel: opener.has_openat2() && !careful,
            absolute: false,
            text: Vec::new(),
            path: Vec::new(),
        }
    }

    /// What the symlink `name` in `dir` points to.
    ///
    /// # Errors
    /// `ENOENT` if the link itself has vanished; `EIO` and the like as they come.
    pub fn target(&mut self, dir: &LinkDir<'_>, name: &CStr) -> Result<Target, Errno> {
        let read_first = self.absolute;
        if read_first && self.is_absolute(dir, name)? {
            return Ok(Target::Elsewhere);
        }
        if self.by_kernel
            && let Some(target) = ask_kernel(dir.fd, name)?
        {
            return self.unless_vanished(dir, name, target);
        }
        if !read_first && self.is_absolute(dir, name)? {
            return Ok(Target::Elsewhere);
        }
        // Without a step upwards it is another link that leads out of the directory, mostly an absolute one.
        let leads_up = self.text.starts_with(b"..");
        let length = dir.path.len() + 1 + name.count_bytes();
        if self.by_kernel && leads_up && length < PATH_MAX && !dir.path.is_empty() {
            self.path.clear();
            self.path.extend_from_slice(dir.path);
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            if let Some(target) = ask_kernel(dir.root, self.path.as_slice())? {
                return self.unless_vanished(dir, name, target);
            }
        }
        let target = Walk::new(self.opener, dir, &mut self.path, &mut self.text)?.run();
        target.or_else(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => Ok(Target::Dangling),
            Errno::ACCESS => Ok(Target::Elsewhere),
            other => Err(other),
        })
    }

    /// Reads the link's text.
    fn is_absolute(&mut self, dir: &LinkDir<'_>, name: &CStr) -> Result<bool, Errno> {
        stat::read_link(dir.fd, name, &mut self.text)?;
        self.absolute = self.text.first() == Some(&b'/');
        Ok(self.absolute)
    }

    /// A link that is gone looks as one that points nowhere.
    fn unless_vanished(
        &mut self,
        dir: &LinkDir<'_>,
        name: &CStr,
        target: Target,
    ) -> Result<Target, Errno> {
        if target == Target::Dangling
            && let Err(Errno::NOENT) = stat::read_link(dir.fd, name, &mut self.text)
        {
            return Err(Errno::NOENT);
        }
        Ok(target)
    }
}

/// Lets the kernel follow `path`; nothing if the way leads out of `dir` or over a mount point.
fn ask_kernel<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
) -> Result<Option<Target>, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    match open::openat2(dir, path, flags, resolve) {
        Ok(fd) => {
            let found = stat::stat_fd(fd.as_fd(), StatMask::TYPE, Sync::Lazy)?;
            Ok(Some(class_of(found.kind())))
        }
        Err(Errno::XDEV | Errno::AGAIN) => Ok(None),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
            Ok(Some(Target::Dangling))
        }
        Err(Errno::ACCESS) => Ok(Some(Target::Elsewhere)),
        Err(other) => Err(other),
    }
}

fn class_of(kind: FileType) -> Target {
    match kind {
        FileType::Directory => Target::Directory,
        _ => Target::File,
    }
}

/// One look-up, component by component. Whatever is on `path` is a real directory, so that its last component can
/// be taken off for `..`; the kernel decides what a name is.
struct Walk<'a> {
    opener: Opener,
    root: BorrowedFd<'a>,
    mount: MountId,
    /// The present directory, relative to the root.
    path: &'a mut Vec<u8>,
    /// Open on it; nothing while it is where the walk began.
    at: Option<OwnedFd>,
    start: BorrowedFd<'a>,
    /// What is still to be followed, the first component first.
    pending: &'a mut Vec<u8>,
    links: u32,
}

impl<'a> Walk<'a> {
    fn new(
        opener: Opener,
        dir: &LinkDir<'a>,
        path: &'a mut Vec<u8>,
        pending: &'a mut Vec<u8>,
    ) -> Result<Self, Errno> {
        path.clear();
        path.extend_from_slice(dir.path);
        Ok(Self {
            opener,
            root: dir.root,
            mount: open::mount_id(dir.fd, c"")?,
            path,
            at: None,
            start: dir.fd,
            pending,
            links: 1,
        })
    }

    fn run(mut self) -> Result<Target, Errno> {
        loop {
            let Some((name, more)) = self.next_component() else {
                return Ok(Target::Directory);
            };
            let done = if name == b".." {
                self.ascend()?
            } else {
                self.descend(&name, more)?
            };
            if let Some(target) = done {
                return Ok(target);
            }
        }
    }

    /// Takes the next component off, `.` and empty ones left out, and says whether it must be a directory.
    fn next_component(&mut self) -> Option<(Vec<u8>, bool)> {
        loop {
            if self.pending.is_empty() {
                return None;
            }
            let slash = self.pending.iter().position(|&byte| byte == b'/');
            let end = slash.unwrap_or(self.pending.len());
            let name: Vec<u8> = self.pending.drain(..end).collect();
            if slash.is_some() {
                self.pending.drain(..1);
            }
            if !matches!(name.as_slice(), b"" | b".") {
                return Some((name, slash.is_some()));
            }
        }
    }

    fn ascend(&mut self) -> Result<Option<Target>, Errno> {
        if self.path.is_empty() {
            return Ok(Some(Target::Elsewhere));
        }
        let slash = self.path.iter().rposition(|&byte| byte == b'/');
        self.path.truncate(slash.unwrap_or(0));
        let opened = if self.path.is_empty() {
            self.opener.reopen(self.root, Purpose::Base)
        } else {
            let (path, crossing) = (self.path.as_slice(), Mounts::Cross);
            self.opener
                .open_path(self.root, path, Purpose::Base, crossing)
        };
        let fd = opened.map_err(errno_of)?;
        if open::mount_id(fd.as_fd(), c"")? != self.mount {
            return Ok(Some(Target::Elsewhere));
        }
        self.at = Some(fd);
        Ok(None)
    }

    fn descend(&mut self, name: &[u8], more: bool) -> Result<Option<Target>, Errno> {
        let here = self.at.as_ref().map_or(self.start, AsFd::as_fd);
        let found: Look = open::look(here, name)?;
        if found.mount != self.mount || (found.automount && more) {
            return Ok(Some(Target::Elsewhere));
        }
        match found.kind {
            FileType::Symlink => self.follow(name, more),
            FileType::Directory if more => {
                let fd = self
                    .opener
                    .open_name(here, name, Purpose::Base, Mounts::Cross)
                    .map_err(errno_of)?;
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(name);
                self.at = Some(fd);
                Ok(None)
            }
            _ if more => Ok(Some(Target::Dangling)),
            kind => Ok(Some(class_of(kind))),
        }
    }

    fn follow(&mut self, name: &[u8], more: bool) -> Result<Option<Target>, Errno> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Ok(Some(Target::Dangling));
        }
        let here = self.at.as_ref().map_or(self.start, AsFd::as_fd);
        let mut text = Vec::new();
        stat::read_link(here, name, &mut text)?;
        if text.first() == Some(&b'/') {
            return Ok(Some(Target::Elsewhere));
        }
        if more {
            text.push(b'/');
        }
        self.pending.splice(..0, text);
        Ok(None)
    }
}

fn errno_of(error: OpenError) -> Errno {
    match error {
        OpenError::MountPoint => Errno::XDEV,
        OpenError::Errno(errno) => errno,
    }
}
