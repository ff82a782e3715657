//! What file system a directory is on: its type, whether the kernel makes it up, and its identity across hosts.
//!
//! A file system is never identified by `st_dev`, which hosts number as they like, unless it cannot be seen from
//! another host at all. Asked once per device, not per directory. Nothing here mounts or unmounts.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstatfs, fstatvfs};
use rustix::ioctl::{Getter, ioctl, opcode};

use super::list::NameHash;
use super::open::{self, MountId, Opener};
use super::stat::{self, StatMask, Sync};
use super::{Errno, retry};

/// The type of a file system, by the number that `statfs` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsType {
    /// `f_type`, a constant of the kernel.
    pub magic: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Holds files on a device or in memory.
    Local,
    /// Holds files on another machine.
    Network,
    /// The kernel's own: there is nothing to walk in it.
    Pseudo,
}

use Class::{Local, Network, Pseudo};

const EXT4: u32 = 0x0000_ef53;

/// Every type that we know by name.
const TYPES: &[(u32, &str, Class)] = &[
    (0x0000_9fa0, "proc", Pseudo),
    (0x6265_6572, "sysfs", Pseudo),
    (0x0027_e0eb, "cgroup", Pseudo),
    (0x6367_7270, "cgroup2", Pseudo),
    (0x6462_6720, "debugfs", Pseudo),
    (0x7472_6163, "tracefs", Pseudo),
    (0x7363_6673, "securityfs", Pseudo),
    (0x6165_676c, "pstore", Pseudo),
    (0xcafe_4a11, "bpf", Pseudo),
    (0x6265_6570, "configfs", Pseudo),
    (0x0000_1cd1, "devpts", Pseudo),
    (0x1980_0202, "mqueue", Pseudo),
    (0x6573_5543, "fusectl", Pseudo),
    (0x4249_4e4d, "binfmt_misc", Pseudo),
    (0xde5e_81e4, "efivarfs", Pseudo),
    (0x6759_6969, "rpc_pipefs", Pseudo),
    (0x6e66_7364, "nfsd", Pseudo),
    (0xf97c_ff8c, "selinuxfs", Pseudo),
    (0x4341_5d53, "smackfs", Pseudo),
    (0x5a3c_69f0, "apparmorfs", Pseudo),
    (0x6e73_6673, "nsfs", Pseudo),
    (0x0000_0187, "autofs", Pseudo),
    (0x9584_58f6, "hugetlbfs", Pseudo),
    (0x0765_5821, "resctrl", Pseudo),
    (0x6c6f_6f70, "binder", Pseudo),
    (0xabba_1974, "xenfs", Pseudo),
    (0x0000_9fa1, "openpromfs", Pseudo),
    (0x5049_5045, "pipefs", Pseudo),
    (0x534f_434b, "sockfs", Pseudo),
    (0x5049_4446, "pidfs", Pseudo),
    (0x0904_1934, "anon_inodefs", Pseudo),
    (0x0000_6969, "nfs", Network),
    (0xff53_4d42, "cifs", Network),
    (0xfe53_4d42, "smb3", Network),
    (0x0000_517b, "smbfs", Network),
    (0x5346_414f, "afs", Network),
    (0x6b41_4653, "afs", Network),
    (0x00c3_6400, "ceph", Network),
    (0x7375_7245, "coda", Network),
    (0x0102_1997, "9p", Network),
    (0x6573_5546, "fuse", Network),
    (0x0bd0_0bd0, "lustre", Network),
    (0x4750_4653, "gpfs", Network),
    (0x1983_0326, "beegfs", Network),
    (0x2003_0528, "orangefs", Network),
    (0xaad7_aaea, "panfs", Network),
    (EXT4, "ext4", Local),
    (0x5846_5342, "xfs", Local),
    (0x9123_683e, "btrfs", Local),
    (0xca45_1a4e, "bcachefs", Local),
    (0x2fc1_2fc1, "zfs", Local),
    (0xf2f5_2010, "f2fs", Local),
    (0x0102_1994, "tmpfs", Local),
    (0x8584_58f6, "ramfs", Local),
    (OVERLAY, "overlay", Local),
    (0x7371_7368, "squashfs", Local),
    (0xe0f5_e1e2, "erofs", Local),
    (0x0000_4d44, "vfat", Local),
    (0x2011_bab0, "exfat", Local),
    (0x7366_746e, "ntfs3", Local),
    (0x5346_544e, "ntfs", Local),
    (0x0000_9660, "iso9660", Local),
    (0x1501_3346, "udf", Local),
    (0x0000_3434, "nilfs2", Local),
    (0x3153_464a, "jfs", Local),
    (0x5265_4973, "reiserfs", Local),
    (0x7461_636f, "ocfs2", Local),
    (0x0116_1970, "gfs2", Local),
    (0x0000_f15f, "ecryptfs", Local),
];

const OVERLAY: u32 = 0x794c_7630;

impl FsType {
    /// The type of the file system that `fd` is on.
    ///
    /// # Errors
    /// The errno of `fstatfs`.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let found = retry(|| fstatfs(fd))?;
        // The number has 32 bits; how wide the field is depends on the machine.
        Ok(Self {
            magic: found.f_type as u32,
        })
    }

    /// The type of what `name` in `dir` leads to, mounts included, without causing a mount.
    ///
    /// # Errors
    /// The errno of the call.
    pub fn at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry(|| rustix::fs::openat(dir, name, flags, Mode::empty()))?;
        Self::of(fd.as_fd())
    }

    /// Its usual name; `unknown` where we know none.
    pub fn name(self) -> &'static str {
        self.known().map_or("unknown", |(_, name, _)| name)
    }

    /// Whether the kernel reads it as ext4 does, or as ext2 and ext3 did.
    pub fn is_ext4(self) -> bool {
        self.magic == EXT4
    }

    /// Whether the kernel makes up what is in it. Neither `tmpfs` nor `devtmpfs`.
    pub fn is_pseudo(self) -> bool {
        self.known().is_some_and(|(_, _, class)| *class == Pseudo)
    }

    /// Whether other hosts may see the same.
    pub fn is_network(self) -> bool {
        self.known().is_some_and(|(_, _, class)| *class == Network)
    }

    /// Whether entering a directory of it may mount something.
    pub fn mounts_by_itself(self) -> bool {
        matches!(self.name(), "autofs" | "nfs" | "cifs" | "smb3" | "afs")
    }

    fn known(self) -> Option<&'static (u32, &'static str, Class)> {
        TYPES.iter().find(|(magic, _, _)| *magic == self.magic)
    }
}

/// A file system, the same on every host that sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FsIdentity {
    /// The name of its type.
    pub kind: String,
    /// What tells it from others of its type, as text: `fsid:`, `uuid:`, `source:` and what follows.
    pub id: Vec<u8>,
}

impl FsIdentity {
    /// A short form, the same on every host and in every version.
    pub fn hash(&self) -> u64 {
        let mut hash = NameHash::default();
        hash.add(self.kind.as_bytes());
        hash.add(&self.id);
        hash.value()
    }

    /// Finds out what file system `fd` is on.
    ///
    /// # Errors
    /// The errno of the call that failed; what merely is not known is left out.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let fs_type = FsType::of(fd)?;
        let dev = stat::stat_fd(fd, StatMask::TYPE, Sync::Lazy)?.dev;
        let entry = mount_entry(open::mount_id(fd, c"")?, dev).unwrap_or_default();
        let kind = match entry.kind.as_str() {
            "" => fs_type.name().to_owned(),
            kind => kind.to_owned(),
        };
        let id = if fs_type.is_network() && !entry.source.is_empty() {
            [b"source:", entry.source.as_slice()].concat()
        } else {
            local_id(fd, fs_type, dev, &entry.source)?
        };
        Ok(Self { kind, id })
    }
}

/// The identities already found, by device.
#[derive(Debug, Default)]
pub struct FileSystems {
    by_dev: HashMap<u64, Arc<FsIdentity>>,
}

impl FileSystems {
    /// More mounts than anybody has; beyond it the cache starts anew.
    const ENTRIES_MAX: usize = 4096;

    /// The file system that `fd` is on; `dev` is its device as in [`stat::Stat`].
    ///
    /// # Errors
    /// The errno of the call that failed.
    pub fn identity(&mut self, fd: BorrowedFd<'_>, dev: u64) -> Result<Arc<FsIdentity>, Errno> {
        if let Some(known) = self.by_dev.get(&dev) {
            return Ok(Arc::clone(known));
        }
        if self.by_dev.len() >= Self::ENTRIES_MAX {
            self.by_dev.clear();
        }
        let found = Arc::new(FsIdentity::of(fd)?);
        self.by_dev.insert(dev, Arc::clone(&found));
        Ok(found)
    }
}

/// What a host sees where a root should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFacts {
    /// What it is; a symlink only if it points nowhere.
    pub kind: FileType,
    /// The file system it is on.
    pub file_system: FsIdentity,
    /// Its inode number there.
    pub ino: u64,
}

/// Looks at a root, given by its absolute path.
///
/// # Errors
/// The errno that says why it cannot be seen.
pub fn root_facts(opener: &Opener, path: &Path) -> Result<RootFacts, Errno> {
    let root = opener.open_root(path)?;
    Ok(RootFacts {
        kind: root.stat.kind(),
        file_system: FsIdentity::of(root.fd.as_fd())?,
        ino: root.stat.ino,
    })
}

/// `f_fsid` first: it is made of the UUID, and of the subvolume where inode numbers repeat between subvolumes. Some
/// file systems make it of the device number or leave it empty; then the UUID, and what `mount` was told.
fn local_id(fd: BorrowedFd<'_>, kind: FsType, dev: u64, source: &[u8]) -> Result<Vec<u8>, Errno> {
    let fsid = retry(|| fstatvfs(fd))?.f_fsid;
    if kind.magic == OVERLAY {
        // It borrows its number from what lies below, and no other host sees it.
        return Ok(format!("fsid:{fsid:016x} dev:{dev:x}").into_bytes());
    }
    if fsid != 0 && fsid != encoded_dev(dev) {
        return Ok(format!("fsid:{fsid:016x}").into_bytes());
    }
    if let Some(uuid) = uuid_by_ioctl(fd).or_else(|| uuid_by_device(dev)) {
        return Ok([b"uuid:", uuid.as_bytes()].concat());
    }
    let dev = format!(" dev:{dev:x}");
    Ok([b"source:", source, dev.as_bytes()].concat())
}

/// The device number as the kernel packs it where it uses it for `f_fsid`.
fn encoded_dev(dev: u64) -> u64 {
    let (major, minor) = (dev >> 32, dev & 0xffff_ffff);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// `struct fsuuid2` of the kernel.
#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// Asks the file system itself (Linux 6.9 and newer).
fn uuid_by_ioctl(fd: BorrowedFd<'_>) -> Option<String> {
    const GET_FS_UUID: rustix::ioctl::Opcode = opcode::read::<FsUuid>(0x15, 0);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(fd, c".", flags, Mode::empty()).ok()?;
    // SAFETY: FS_IOC_GETFSUUID writes one `struct fsuuid2`, which `FsUuid` mirrors; the kernel fails the call on
    // file systems that do not know it.
    let found = unsafe { ioctl(&readable, Getter::<GET_FS_UUID, FsUuid>::new()) }.ok()?;
    let bytes = found.uuid.get(..usize::from(found.len))?;
    let known = bytes.iter().any(|&byte| byte != 0);
    known.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Finds the block device among those that udev lists by UUID.
fn uuid_by_device(dev: u64) -> Option<String> {
    let entries = fs::read_dir("/dev/disk/by-uuid").ok()?;
    entries.flatten().find_map(|entry| {
        let rdev = fs::metadata(entry.path()).ok()?.rdev();
        let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
        (stat::pack_dev(major, minor) == dev).then(|| {
            entry
                .file_name()
                .to_string_lossy()
                .replace('-', "")
                .to_lowercase()
        })
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct MountEntry {
    kind: String,
    source: Vec<u8>,
}

/// What `/proc/self/mountinfo` says of a mount; nothing where it is not to be found or read.
fn mount_entry(mount: MountId, dev: u64) -> Option<MountEntry> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, c"/proc/self/mountinfo", flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut fs::File::from(file), &mut text).ok()?;
    find_mount(&text, mount, dev)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`
fn find_mount(mountinfo: &[u8], mount: MountId, dev: u64) -> Option<MountEntry> {
    let numbers = format!("{}:{}", dev >> 32, dev & 0xffff_ffff);
    let line = mountinfo.split(|&byte| byte == b'\n').find(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let (id, _, device) = (fields.next(), fields.next(), fields.next());
        match mount {
            MountId::Mount(number) => id == Some(number.to_string().as_bytes()),
            MountId::Device(_) => device == Some(numbers.as_bytes()),
        }
    })?;
    let mut fields = line.split(|&byte| byte == b' ');
    fields.find(|field| *field == b"-")?;
    Some(MountEntry {
        kind: String::from_utf8_lossy(fields.next()?).into_owned(),
        source: unescape(fields.next()?),
    })
}

/// Undoes the octal escapes of `/proc`: `\040` for a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let [
            b'\\',
            a @ b'0'..=b'3',
            b @ b'0'..=b'7',
            c @ b'0'..=b'7',
            tail @ ..,
        ] = rest
        {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        36 27 0:52 / /mnt\\040a rw master:1 shared:2 - nfs4 host:/my\\040export\\134x rw\n";

    #[test]
    fn finds_a_mount_by_number_or_device() {
        let by_number = find_mount(INFO, MountId::Mount(36), 0);
        let by_device = find_mount(INFO, MountId::Device(52), 52);
        let expected = MountEntry {
            kind: "nfs4".into(),
            source: b"host:/my export\\x".to_vec(),
        };
        assert_eq!(by_number.as_ref(), Some(&expected));
        assert_eq!(by_device, Some(expected));
        assert_eq!(find_mount(INFO, MountId::Mount(3), 0), None);
        assert_eq!(find_mount(b"garbage\n1 2 3:4", MountId::Mount(1), 0), None);
    }

    #[test]
    fn keeps_the_names_of_types_apart() {
        for (at, (magic, _, _)) in TYPES.iter().enumerate() {
            let first = TYPES.iter().position(|(other, _, _)| other == magic);
            assert_eq!(first, Some(at), "{magic:#x} twice");
        }
    }

    #[test]
    fn identity_does_not_hold_the_device_number_where_there_is_better() {
        let mut known = FileSystems::default();
        let root = Opener::probe().unwrap().open_root(Path::new("/")).unwrap();
        let identity = known.identity(root.fd.as_fd(), root.stat.dev).unwrap();
        assert!(!identity.id.is_empty() && !identity.kind.is_empty());
        let again = known.identity(root.fd.as_fd(), root.stat.dev).unwrap();
        assert!(Arc::ptr_eq(&identity, &again));
        let ext4 = FsType::of(root.fd.as_fd()).unwrap().name() == "ext4";
        assert!(!ext4 || identity.id.starts_with(b"fsid:"), "{identity:?}");
    }

    #[test]
    fn a_device_number_in_f_fsid_is_recognised() {
        assert_eq!(encoded_dev(8 << 32 | 1), 0x801);
        assert_eq!(encoded_dev(259 << 32 | 0x123), 0x0011_0323);
    }

    #[test]
    fn proc_is_made_up_and_the_root_is_not() {
        let opener = Opener::probe().unwrap();
        let root = opener.open_root(Path::new("/")).unwrap();
        assert!(!FsType::of(root.fd.as_fd()).unwrap().is_pseudo());
        let proc = FsType::at(root.fd.as_fd(), b"proc").unwrap();
        assert_eq!((proc.name(), proc.is_pseudo()), ("proc", true));
    }

    #[test]
    fn root_facts_tell_what_is_missing() {
        let opener = Opener::probe().unwrap();
        let facts = root_facts(&opener, Path::new("/")).unwrap();
        assert_eq!(facts.kind, FileType::Directory);
        let missing = root_facts(&opener, Path::new("/there/is/no/such/root"));
        assert_eq!(missing, Err(Errno::NOENT));
    }
}
