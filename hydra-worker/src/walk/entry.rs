//! One entry: what it is, whether it counts, and what the plugin makes of it.

use super::Walker;
use super::here::Here;
use crate::entry::{Dir, Entry, Stat, Target};
use crate::plugin::{Facts, Visit};
use crate::sys::link::{self, LinkDir};
use crate::sys::slot::Call;
use crate::sys::stat::{self, StatMask};
use crate::sys::{self, Errno};
use hydra_proto::item::PATH_BYTES_MAX;
use hydra_proto::walk::FileType;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

impl<V: Visit> Walker<V> {
    /// Deals with the entry `name`, which the directory calls a `listed`.
    #[inline]
    pub(super) fn entry(&mut self, here: &Here<'_>, name: &CStr, listed: FileType) {
        self.entry_unless::<false>(here, name, listed);
    }

    /// Deals with the entry as [`Walker::entry`] does, unless it is to `LEAVE` what the plugin intends to act on, and
    /// this is: then nothing is done but to say so.
    #[inline]
    pub(super) fn entry_unless<const LEAVE: bool>(
        &mut self,
        here: &Here<'_>,
        name: &CStr,
        listed: FileType,
    ) -> bool {
        if (self.rules.has_excludes() || !here.stops.is_empty()) && self.is_hidden(here, name) {
            return false;
        }
        let mut file_type = listed;
        let mut stat = Stat::default();
        if !self.facts.is_empty() || listed == FileType::Unknown || self.distrust_types {
            self.tell_entry(Call::Stat, name.to_bytes());
            match self.stat(here.fd, name) {
                Ok(found) => {
                    file_type = type_of(found.kind());
                    stat = facts_of(&found, self.wants.facts);
                }
                Err(errno) => {
                    self.unseen(here, name, listed, errno);
                    return false;
                }
            }
        }
        let target = match self.wants.targets && file_type == FileType::Symlink {
            true => match self.target(here, name) {
                Err(Errno::NOENT) => {
                    self.unseen(here, name, listed, Errno::NOENT);
                    return false;
                }
                outcome => self.target_or_fail(here, name, outcome),
            },
            false => None,
        };
        let dir = here.dir();
        let entry = Entry {
            dir: &dir,
            name: name.to_bytes(),
            file_type,
            stat: &stat,
            target,
            fs: match self.wants.fs_id && stat.nlink > 1 && file_type != FileType::Directory {
                true => self.fs_id(here.fd, stat.dev),
                false => 0,
            },
        };
        if LEAVE && self.call(|| entry.shown(), |visit, _| visit.intends(&entry)) == Some(true) {
            return true;
        }
        self.sink.walk.count(file_type);
        self.call(|| entry.shown(), |visit, out| visit.entry(&entry, out));
        if file_type == FileType::Directory {
            self.subdirectory(here, name.to_bytes());
        }
        false
    }

    /// Whether the entry is none of this walk's.
    #[cold]
    fn is_hidden(&mut self, here: &Here<'_>, name: &CStr) -> bool {
        let name = name.to_bytes();
        if here.stops.contains(&name) {
            return true;
        }
        if !self.rules.has_excludes() {
            return false;
        }
        self.path.clear();
        self.path.extend_from_slice(here.path());
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let excluded = self.rules.excludes(&self.path);
        self.sink.walk.excluded += u64::from(excluded);
        excluded
    }

    #[inline]
    fn stat(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<stat::Stat, Errno> {
        match stat::stat_at(dir, name, self.facts, self.sync) {
            Err(Errno::STALE) => stat::stat_at(dir, name, self.facts, self.sync),
            outcome => outcome,
        }
    }

    /// An entry that could not be looked at. It counts as what the directory calls it, but is not shown: nothing
    /// is known of it.
    #[cold]
    fn unseen(&mut self, here: &Here<'_>, name: &CStr, listed: FileType, errno: Errno) {
        if errno == Errno::NOENT {
            self.sink.walk.vanished += 1;
            if here.on_record {
                self.gone(&here.dir(), name.to_bytes(), listed);
            }
            return;
        }
        self.sink.walk.count(listed);
        self.fail(here.shown(name.to_bytes()), "stat", errno);
    }

    /// An entry on record is gone.
    pub(super) fn gone(&mut self, dir: &Dir<'_>, name: &[u8], listed: FileType) {
        let entry = Entry {
            dir,
            name,
            file_type: listed,
            stat: &Stat::default(),
            target: None,
            fs: 0,
        };
        self.call(|| entry.shown(), |visit, out| visit.gone(&entry, out));
    }

    fn target(&mut self, here: &Here<'_>, name: &CStr) -> Result<Target, Errno> {
        self.tell_entry(Call::Link, name.to_bytes());
        let root = self.dirs.root_fd(here.node)?;
        let dir = LinkDir {
            root,
            path: here.path(),
            fd: here.fd,
        };
        self.links.target(&dir, name).map(|target| match target {
            link::Target::File => Target::File,
            link::Target::Directory => Target::Directory,
            link::Target::Dangling => Target::Dangling,
            link::Target::Elsewhere => Target::Elsewhere,
        })
    }

    fn target_or_fail(
        &mut self,
        here: &Here<'_>,
        name: &CStr,
        outcome: Result<Target, Errno>,
    ) -> Option<Target> {
        if let Err(errno) = outcome {
            self.fail(here.shown(name.to_bytes()), "readlink", errno);
        }
        outcome.ok()
    }

    /// The file system of an entry with several links.
    pub(super) fn fs_id(&mut self, dir: BorrowedFd<'_>, dev: u64) -> u64 {
        if let Some((known, id)) = self.last_fs
            && known == dev
        {
            return id;
        }
        let id = match self.systems.identity(dir, dev) {
            Ok(identity) => identity.hash(),
            Err(_) => return 0,
        };
        self.last_fs = Some((dev, id));
        id
    }

    /// A directory that is to be entered, unless a rule forbids it.
    #[inline]
    fn subdirectory(&mut self, here: &Here<'_>, name: &[u8]) {
        if self.rules.is_skipped_snapshot(name) {
            self.sink.walk.skipped_snapshots += 1;
        } else if here.node.path_len() + 1 + name.len() > PATH_BYTES_MAX {
            self.fail(here.shown(name), "open", Errno::NAMETOOLONG);
        } else {
            self.subdirs.push(name);
        }
    }
}

/// What to ask `statx` for.
pub(crate) fn mask(facts: Facts) -> StatMask {
    let fields = [
        (Facts::SIZE, StatMask::SIZE),
        (Facts::BLOCKS, StatMask::BLOCKS),
        (Facts::OWNER, StatMask::UID.union(StatMask::GID)),
        (Facts::MODE, StatMask::MODE),
        (Facts::LINKS, StatMask::NLINK.union(StatMask::INO)),
        (Facts::ATIME, StatMask::ATIME),
        (Facts::MTIME, StatMask::MTIME),
        (Facts::CTIME, StatMask::CTIME),
    ];
    let wanted = fields.iter().filter(|(fact, _)| facts.contains(*fact));
    wanted.fold(StatMask::empty(), |mask, (_, field)| mask | *field)
}

/// The facts that were asked for; the rest is zero, whatever the kernel threw in.
#[inline]
pub(crate) fn facts_of(found: &stat::Stat, facts: Facts) -> Stat {
    let mut stat = Stat::default();
    if facts.contains(Facts::SIZE) {
        stat.size = found.size;
    }
    if facts.contains(Facts::BLOCKS) {
        stat.blocks = found.blocks;
    }
    if facts.contains(Facts::OWNER) {
        (stat.uid, stat.gid) = (found.uid, found.gid);
    }
    if facts.contains(Facts::MODE) {
        stat.mode = found.mode;
    }
    if facts.contains(Facts::LINKS) {
        (stat.nlink, stat.ino, stat.dev) = (found.nlink, found.ino, found.dev);
    }
    if facts.contains(Facts::ATIME) {
        stat.atime = (found.atime.secs, found.atime.nanos);
    }
    if facts.contains(Facts::MTIME) {
        stat.mtime = (found.mtime.secs, found.mtime.nanos);
    }
    if facts.contains(Facts::CTIME) {
        stat.ctime = (found.ctime.secs, found.ctime.nanos);
    }
    stat
}

/// The type in the words of the protocol.
#[inline]
pub(crate) fn type_of(kind: sys::FileType) -> FileType {
    match kind {
        sys::FileType::RegularFile => FileType::File,
        sys::FileType::Directory => FileType::Directory,
        sys::FileType::Symlink => FileType::Symlink,
        sys::FileType::Fifo => FileType::Fifo,
        sys::FileType::Socket => FileType::Socket,
        sys::FileType::CharacterDevice => FileType::CharDevice,
        sys::FileType::BlockDevice => FileType::BlockDevice,
        sys::FileType::Unknown => FileType::Unknown,
    }
}
