//! Roots, directories and mount points: whether they are entered, and how they are opened.

use super::Walker;
use crate::entry::{Dir, Entry, Stat, Target};
use crate::node::DirNode;
use crate::plugin::Visit;
use crate::sys::Errno;
use crate::sys::list::End;
use crate::sys::mount::FsType;
use crate::sys::open::{Mounts, OpenError};
use crate::sys::stat::{self, StatMask};
use hydra_proto::ids::RootId;
use hydra_proto::walk::FileType;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

impl<V: Visit> Walker<V> {
    /// Counts and shows a root; whether it is a directory.
    pub(super) fn root(&mut self, node: &Arc<DirNode>) -> bool {
        let (job, slot) = (Arc::clone(&self.job), self.slot.clone());
        let Some(root) = job.roots.get(node.root_index() as usize) else {
            return false;
        };
        self.tell_open(node);
        let (facts, sync) = (self.facts, self.sync);
        let looked = self.dirs.root_fd(node).and_then(|fd| {
            let owned = rustix::io::fcntl_dupfd_cloexec(fd, 0)?;
            Ok((stat::stat_fd(fd, facts, sync)?, owned))
        });
        let (found, fd) = match looked {
            Ok(found) => found,
            Err(errno) => {
                self.fail(root.shown.clone(), "open", errno);
                return false;
            }
        };
        let file_type = super::entry::type_of(found.kind());
        self.sink.walk.count(file_type);
        let is_directory = file_type == FileType::Directory;
        if root.should_be_directory() && !is_directory {
            // Given with a slash and without: the one counts, the other is an error.
            let errno = match file_type {
                FileType::Symlink => Errno::NOENT,
                _ => Errno::NOTDIR,
            };
            self.fail(root.shown.clone(), "open", errno);
        }
        let dir = Dir {
            root,
            root_id: RootId(node.root_index()),
            depth: 0,
            fd: is_directory.then(|| fd.as_fd()),
            path: &**node,
            slot: slot.as_deref(),
        };
        let stat: Stat = super::entry::facts_of(&found, self.wants.facts);
        let many = self.wants.fs_id && found.nlink > 1 && !is_directory;
        let entry = Entry {
            dir: &dir,
            name: b"",
            file_type,
            stat: &stat,
            target: (self.wants.targets && file_type == FileType::Symlink)
                .then_some(Target::Dangling),
            fs: if many {
                self.fs_id(fd.as_fd(), found.dev)
            } else {
                0
            },
        };
        // A root is on record from the beginning, by its name.
        let barred = self.sink.bar(false);
        self.call(|| entry.shown(), |visit, out| visit.entry(&entry, out));
        self.sink.bar(barred);
        is_directory
    }

    /// Opens a directory that was found; `None` when it is not to be entered or cannot be, which is then counted.
    pub(super) fn open(&mut self, node: &Arc<DirNode>) -> Option<OwnedFd> {
        let outcome = match self.try_open(node, self.rules.mounts()) {
            Ok(fd) => {
                self.on_the_same(node);
                match self.rules.one_file_system {
                    true => self.unless_foreign(node, fd),
                    false => Ok(Some(fd)),
                }
            }
            Err(OpenError::MountPoint) => return self.open_mount(node),
            Err(OpenError::Errno(errno)) => Err(errno),
        };
        outcome.unwrap_or_else(|errno| {
            self.not_opened(node, errno);
            None
        })
    }

    /// This directory is no mount point: it lies on the file system of the one right above.
    fn on_the_same(&self, node: &DirNode) {
        if let Some(above) = node.right_above() {
            node.learn_end(above.end());
        }
    }

    /// Leaves a directory with another device number than its root has: a subvolume, which begins without a mount.
    fn unless_foreign(
        &mut self,
        node: &Arc<DirNode>,
        fd: OwnedFd,
    ) -> Result<Option<OwnedFd>, Errno> {
        let found = stat::stat_fd(fd.as_fd(), StatMask::TYPE, self.sync)?;
        let foreign = self.dirs.root_dev(node).is_some_and(|dev| dev != found.dev);
        self.sink.walk.skipped_mounts += u64::from(foreign);
        Ok((!foreign).then_some(fd))
    }

    /// A stale file handle is tried again once.
    pub(super) fn try_open(
        &mut self,
        node: &Arc<DirNode>,
        mounts: Mounts,
    ) -> Result<OwnedFd, OpenError> {
        self.tell_open(node);
        match self.dirs.open(node, mounts) {
            Err(OpenError::Errno(Errno::STALE)) => self.dirs.open(node, mounts),
            outcome => outcome,
        }
    }

    /// A descriptor of a directory whose entries are known by name: it need not be read again, and is not opened again
    /// for its next piece.
    pub(super) fn base(&mut self, node: &Arc<DirNode>) -> Result<OwnedFd, Errno> {
        self.tell_open(node);
        match self.dirs.own_fd(node) {
            Err(Errno::STALE) => self.dirs.own_fd(node),
            outcome => outcome,
        }
    }

    /// A directory that cannot be opened. Whatever it is called, it was counted when it was found: if it has
    /// vanished since, or become something else, then it counts there and as vanished.
    fn not_opened(&mut self, node: &Arc<DirNode>, errno: Errno) {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => self.sink.walk.vanished += 1,
            _ => self.fail(self.shown(node), "open", errno),
        }
    }

    /// Opens a directory of which a part is to be done.
    pub(super) fn reopen(&mut self, node: &Arc<DirNode>) -> Option<OwnedFd> {
        match self.try_open(node, Mounts::Cross) {
            Ok(fd) => Some(fd),
            Err(OpenError::Errno(errno)) => {
                self.not_opened(node, errno);
                None
            }
            Err(OpenError::MountPoint) => None,
        }
    }

    /// A mount point: entered unless a rule forbids it.
    fn open_mount(&mut self, node: &Arc<DirNode>) -> Option<OwnedFd> {
        let parent = node.parent()?;
        let looked = self.dirs.fd(parent).and_then(|base| {
            let other = stat::stat_at(base, node.name(), StatMask::TYPE, self.sync)?;
            let here = stat::stat_fd(base, StatMask::TYPE, self.sync)?;
            Ok((other.dev == here.dev, FsType::at(base, node.name())?))
        });
        match looked {
            Err(errno) => self.not_opened(node, errno),
            Ok((false, _)) if self.rules.one_file_system => self.sink.walk.skipped_mounts += 1,
            Ok((_, kind)) if kind.is_pseudo() && !self.rules.pseudo => {
                let skipped = &mut self.sink.walk.skipped_pseudo;
                *skipped.entry(kind.name().to_owned()).or_default() += 1;
            }
            Ok((_, kind)) => {
                node.learn_end(End::on(kind));
                return self.reopen(node);
            }
        }
        None
    }
}
