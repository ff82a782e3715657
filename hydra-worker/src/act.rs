//! What acting plugins do to an entry: look at it once more, and remove it. Always by its name in its open
//! directory, so that nothing that was moved or linked in the meantime leads elsewhere.
//!
//! Not here: the right to act ([`crate::Sink::may_act`]), and what is reported of it.

use crate::entry::{Entry, Stat};
use crate::plugin::Facts;
use crate::sys::slot::Call;
use crate::sys::stat::{Sync, stat_at};
use crate::sys::{Errno, retry};
use crate::walk::entry::{facts_of, mask, type_of};
use rustix::fs::{AtFlags, unlinkat};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What has become of an entry since the walk looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same inode with the same type. Its facts as they are now may differ from what they were.
    Same(Stat),
    /// Something else has its name.
    Other,
    /// Nothing has its name.
    Gone,
}

impl Entry<'_> {
    /// Looks at the entry once more, never from a cache that `stat` would not trust. To be called right before
    /// each change. The plugin must have asked for [`Facts::LINKS`], or nothing is ever the same.
    ///
    /// # Errors
    /// Those of `statx`. A root, which is in no open directory, cannot be looked at again.
    pub fn again(&self, facts: Facts) -> io::Result<Again> {
        let (dir, name) = self.place()?;
        let facts = facts | Facts::LINKS;
        let look = || stat_at(dir, name, mask(facts), Sync::AsStat);
        let now = match self.told(Call::Again, look) {
            Ok(now) => now,
            Err(Errno::NOENT) => return Ok(Again::Gone),
            Err(errno) => return Err(errno.into()),
        };
        let same = (now.dev, now.ino) == (self.stat.dev, self.stat.ino);
        Ok(match same && type_of(now.kind()) == self.file_type {
            true => Again::Same(facts_of(&now, facts)),
            false => Again::Other,
        })
    }

    /// Removes the entry's name. Directories stay.
    ///
    /// # Errors
    /// Those of `unlink`; `NotFound` also where a network file system did it and lost the answer. A root cannot
    /// be removed.
    pub fn unlink(&self) -> io::Result<()> {
        self.remove(Call::Unlink, AtFlags::empty())
    }

    /// Removes the entry if it is an empty directory.
    ///
    /// # Errors
    /// As [`Entry::unlink`].
    pub fn rmdir(&self) -> io::Result<()> {
        self.remove(Call::Rmdir, AtFlags::REMOVEDIR)
    }

    fn remove(&self, call: Call, flags: AtFlags) -> io::Result<()> {
        let (dir, name) = self.place()?;
        Ok(self.told(call, || retry(|| unlinkat(dir, name, flags)))?)
    }

    /// Makes a system call about the entry that may never return, on a dead mount say. If it has not returned after
    /// `--stall-timeout` this worker is replaced, as it is where the walk's own calls do not return; the rest of what a
    /// plugin does may take as long as it likes. So what may take long although all is well has to be in pieces.
    pub fn watched<T>(&self, call: impl FnOnce() -> T) -> T {
        self.told(Call::Plugin, call)
    }

    fn told<T>(&self, call: Call, make: impl FnOnce() -> T) -> T {
        let Some(slot) = self.dir.slot else {
            return make();
        };
        let directory = self.dir.fd.map(|dir| dir.as_raw_fd());
        slot.advance(1);
        slot.set_directory(directory.and_then(|fd| u32::try_from(fd).ok()));
        slot.set_path(self.name);
        slot.set_call(Some(call));
        let made = make();
        slot.advance(1);
        slot.set_call(None);
        made
    }

    fn place(&self) -> io::Result<(BorrowedFd<'_>, &[u8])> {
        match self.dir.fd {
            Some(dir) if !self.is_root() => Ok((dir, self.name)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a root is in no open directory",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dir;
    use crate::sys::slot::{self, Slot};
    use hydra_proto::ids::RootId;
    use hydra_proto::job::RootSpec;
    use hydra_proto::walk::FileType;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    /// Looks at the file `name` in `path` as the walk does, then calls `then` with the entry.
    fn with_entry(path: &Path, name: &str, then: impl FnOnce(&Entry<'_>)) {
        let file = File::open(path).unwrap();
        let stat = stat_at(file.as_fd(), name, mask(Facts::ALL), Sync::AsStat).unwrap();
        let dir = Dir {
            root: &RootSpec::default(),
            root_id: RootId(0),
            depth: 0,
            fd: Some(file.as_fd()),
            path: &Vec::new(),
            slot: None,
        };
        then(&Entry {
            dir: &dir,
            name: name.as_bytes(),
            file_type: type_of(stat.kind()),
            stat: &facts_of(&stat, Facts::ALL),
            target: None,
            fs: 0,
        });
    }

    #[test]
    fn what_took_an_entrys_place_is_told_apart() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        fs::write(at("f"), "old").unwrap();
        fs::write(at("new"), "new").unwrap();
        with_entry(tmp.path(), "f", |entry| {
            fs::write(at("f"), "longer").unwrap();
            let Again::Same(stat) = entry.again(Facts::SIZE).unwrap() else {
                panic!("a file that grew is the same file");
            };
            assert_eq!(stat.size, 6);
            fs::rename(at("new"), at("f")).unwrap();
            assert_eq!(entry.again(Facts::TYPE).unwrap(), Again::Other);
            fs::remove_file(at("f")).unwrap();
            std::os::unix::fs::symlink("elsewhere", at("f")).unwrap();
            assert_eq!(entry.again(Facts::TYPE).unwrap(), Again::Other);
            entry.unlink().unwrap();
            assert_eq!(entry.again(Facts::TYPE).unwrap(), Again::Gone);
            let error = entry.unlink().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn files_and_directories_are_removed_by_different_calls() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("d")).unwrap();
        with_entry(tmp.path(), "d", |entry| {
            assert_eq!(entry.file_type, FileType::Directory);
            entry.unlink().unwrap_err();
            entry.rmdir().unwrap();
        });
        assert!(!tmp.path().join("d").exists());
    }

    #[test]
    fn what_a_plugin_did_was_told_to_nobody() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("f"), "").unwrap();
        let memfd = memfd_create("slot", MemfdFlags::CLOEXEC).unwrap();
        slot::prepare(&memfd).unwrap();
        let told = Slot::map(&memfd).unwrap();
        let file = File::from(memfd);
        let read = || {
            let mut bytes = vec![0; slot::SLOT_BYTES];
            file.read_exact_at(&mut bytes, 0).unwrap();
            slot::decode(&bytes).unwrap()
        };
        with_entry(tmp.path(), "f", |entry| {
            let dir = Dir {
                slot: Some(&told),
                ..*entry.dir
            };
            let entry = Entry {
                dir: &dir,
                ..*entry
            };
            let during = entry.watched(read);
            assert_eq!(during.call, Some(Call::Plugin));
            let fd = dir.fd.unwrap().as_raw_fd();
            assert_eq!(during.directory, u32::try_from(fd).ok());
            assert_eq!(during.path.unwrap().bytes, b"f");
            let mut before = read();
            let acts: [&dyn Fn(); 2] = [
                &|| assert!(matches!(entry.again(Facts::TYPE), Ok(Again::Same(_)))),
                &|| entry.unlink().unwrap(),
            ];
            for act in acts {
                act();
                let after = read();
                assert_eq!(after.call, None);
                assert!(after.progress > before.progress);
                before = after;
            }
        });
    }

    #[test]
    fn a_root_is_never_removed() {
        let tmp = tempfile::tempdir().unwrap();
        with_entry(tmp.path(), ".", |entry| {
            let root = Entry {
                name: b"",
                ..*entry
            };
            assert_eq!(
                root.rmdir().unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        });
        assert!(tmp.path().exists());
    }
}
