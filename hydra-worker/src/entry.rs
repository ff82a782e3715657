//! What a plugin is shown: directories and their entries, borrowed from the walk.

use crate::node::DirNode;
use hydra_proto::ids::RootId;
use hydra_proto::job::RootSpec;
use hydra_proto::walk::FileType;
use std::os::fd::BorrowedFd;

/// What [`PathOf::write_start`] leaves out begins behind more bytes than this. No longer path can be handed to the
/// kernel in one piece.
pub const PATH_START: usize = 4096;

/// Something that has a path below a root, and builds it only when asked.
pub trait PathOf {
    /// Appends the path below the root; nothing for the root itself. In a deep tree that is work for each
    /// component.
    fn write_path(&self, out: &mut Vec<u8>);

    /// Appends the path, or of one longer than [`PATH_START`] at least the first `PATH_START + 1` bytes: in a deep
    /// tree far less work.
    fn write_start(&self, out: &mut Vec<u8>) {
        self.write_path(out);
    }
}

/// The first bytes of a path; see [`PathOf::write_start`].
fn start(path: &[u8]) -> &[u8] {
    path.get(..=PATH_START).unwrap_or(path)
}

impl PathOf for [u8] {
    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(start(self));
    }
}

impl PathOf for &[u8] {
    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(start(self));
    }
}

impl PathOf for Vec<u8> {
    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(start(self));
    }
}

impl PathOf for DirNode {
    fn write_path(&self, out: &mut Vec<u8>) {
        self.append_path(out);
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        self.append_start(out);
    }
}

/// Facts of an entry. A field that was not asked for is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Apparent size in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Inode number.
    pub ino: u64,
    /// Device, as this host numbers it: says which entries share a file system, on this host only.
    pub dev: u64,
    /// Last access: seconds since 1970 and nanoseconds.
    pub atime: (i64, u32),
    /// Last change of the content.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
}

/// Where a symbolic link leads, as far as that can be told without leaving the root or the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To something below the root that is not a directory.
    File,
    /// To a directory below the root.
    Directory,
    /// To nothing.
    Dangling,
    /// Out of the root, across a mount point, or where it cannot be followed. Never touched.
    Elsewhere,
}

/// A directory that is being walked.
#[derive(Clone, Copy)]
pub struct Dir<'a> {
    /// The root that it lies under.
    pub root: &'a RootSpec,
    /// Which of the job's roots that is.
    pub root_id: RootId,
    /// 0 for the root itself.
    pub depth: u32,
    /// The open directory, to name entries in (`openat`, `unlinkat`); none when the root is no directory. That may be
    /// all it is good for (`O_PATH`): to read the directory, open `.` in it.
    pub fd: Option<BorrowedFd<'a>>,
    /// Its path below the root.
    pub path: &'a (dyn PathOf + 'a),
}

impl Dir<'_> {
    /// Its path as results show it.
    #[must_use]
    pub fn shown(&self) -> Vec<u8> {
        self.root.show(&self.relative())
    }

    /// The path of the entry `name` in it as results show it, for [`crate::Visit::leave`], where no entry is at hand.
    #[must_use]
    pub fn shown_entry(&self, name: &[u8]) -> Vec<u8> {
        self.root.show(&self.relative_entry(name))
    }

    /// Its path below the root.
    #[must_use]
    pub fn relative(&self) -> Vec<u8> {
        let mut path = Vec::new();
        self.path.write_path(&mut path);
        path
    }

    fn relative_entry(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.relative();
        if !name.is_empty() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }
}

/// An entry of a directory, or a root itself.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The directory that it is in. For a root, the root itself.
    pub dir: &'a Dir<'a>,
    /// Its name; empty for a root.
    pub name: &'a [u8],
    /// Its type; never `Unknown`, unless it is gone.
    pub file_type: FileType,
    /// The facts that the plugin asked for.
    pub stat: &'a Stat,
    /// Where a symbolic link leads, if the plugin asked.
    pub target: Option<Target>,
    /// Identity of the file system that it is on, the same on every host; 0 unless the plugin asked for
    /// `fs_id`.
    pub fs: u64,
}

impl Entry<'_> {
    /// Whether this is a root of the job and not found in a directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.name.is_empty()
    }

    /// 0 for a root, 1 for what is in it, and so on.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.dir.depth + u32::from(!self.is_root())
    }

    /// Its path below the root; nothing for the root itself.
    #[must_use]
    pub fn relative(&self) -> Vec<u8> {
        self.dir.relative_entry(self.name)
    }

    /// Its path as results show it: the server's words, the same on every host.
    #[must_use]
    pub fn shown(&self) -> Vec<u8> {
        self.dir.root.show(&self.relative())
    }

    /// Its path on this host, which may have the root elsewhere. Of use only to other programs: what lies at a
    /// path may change at any moment, and paths may be longer than the kernel takes.
    #[must_use]
    pub fn local(&self) -> Vec<u8> {
        let relative = self.relative();
        let mut path = self.dir.root.local.clone();
        if !relative.is_empty() {
            if !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(&relative);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_root_directory_had_two_slashes() {
        let shown = |root: &[u8], below: &[u8]| {
            let root = RootSpec {
                shown: root.to_vec(),
                local: b"/mnt".to_vec(),
                stops: Vec::new(),
            };
            let dir = Dir {
                root: &root,
                root_id: RootId(0),
                depth: 0,
                fd: None,
                path: &below,
            };
            dir.shown_entry(b"A")
        };
        assert_eq!(shown(b"/", b""), b"/A");
        assert_eq!(shown(b"/", b"d"), b"/d/A");
        assert_eq!(shown(b"/x/", b""), b"/x/A");
        assert_eq!(shown(b"/x", b"d"), b"/x/d/A");
    }
}
