use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create};
use tempfile::TempDir;

use super::list::{End, ListBuffer, ListEntry, Lister, NameHash};
use super::mount::FsType;
use super::open::{Mounts, OpenError, Opener, Purpose};
use super::slot::{self, Call, SLOT_BYTES, SLOT_PATH_MAX, Slot};
use super::stat::{self, StatMask, Sync};
use super::{Errno, FileType};

mod links;

/// Both ways of opening; every test of what may be opened holds for both.
fn openers() -> [Opener; 2] {
    [Opener::probe().unwrap(), Opener::without_openat2()]
}

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

fn child(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

fn names(dir: &Path, buffer_bytes: usize) -> (Vec<Vec<u8>>, u64) {
    let fd = open(dir);
    let mut buffer = ListBuffer::new(buffer_bytes);
    let mut lister = Lister::new(fd.as_fd(), &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = lister.next() {
        found.push(entry.unwrap().name().to_vec());
    }
    assert_eq!(lister.names(), found.len() as u64);
    (found, lister.hash())
}

#[test]
fn lists_names_of_any_bytes_without_the_dots() {
    let tree = TempDir::new().unwrap();
    let longest = vec![b'x'; 255];
    let expected: [&[u8]; 6] = [b"new\nline", b"\xff\xfe", b" ", b"...", b"a\\b", &longest];
    for name in expected {
        File::create(child(tree.path(), name)).unwrap();
    }
    let (mut found, _) = names(tree.path(), 0);
    found.sort();
    let mut expected = expected.map(<[u8]>::to_vec);
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_listing_has_the_same_names_and_hash_in_any_buffer() {
    let tree = TempDir::new().unwrap();
    for number in 0..3000 {
        File::create(tree.path().join(format!("a rather long name {number}"))).unwrap();
    }
    let (found, hash) = names(tree.path(), 1 << 20);
    assert_eq!(found.len(), 3000);
    assert_eq!(names(tree.path(), 0), (found.clone(), hash));

    let fd = open(tree.path());
    let mut buffer = ListBuffer::new(0);
    let mut lister = Lister::new(fd.as_fd(), &mut buffer);
    let mut ends = 0;
    let mut expected = NameHash::default();
    for name in &found {
        assert_eq!(lister.next().unwrap().unwrap().name(), name);
        expected.add(name);
        assert_eq!(
            lister.hash(),
            expected.value(),
            "the hash of every beginning"
        );
        ends += usize::from(lister.at_buffer_end());
    }
    assert!(ends > 10, "3000 names do not fit into {ends} buffers");
    assert!(lister.next().is_none());
}

#[test]
fn a_listing_is_the_same_where_its_last_name_tells_the_end() {
    let tree = TempDir::new().unwrap();
    let fs = FsType::of(open(tree.path()).as_fd()).unwrap();
    let mut made = 0;
    for count in [0, 1, 2, 20, 100, 101, 102, 103, 3000] {
        for number in made..count {
            File::create(tree.path().join(format!("a rather long name {number}"))).unwrap();
        }
        made = count;
        let (silent, hash) = names(tree.path(), 0);
        assert_eq!(silent.len(), count);
        let fd = open(tree.path());
        let mut buffer = ListBuffer::new(0);
        let mut lister = Lister::new(fd.as_fd(), &mut buffer).knowing(End::Unknown);
        for name in &silent {
            assert_eq!(lister.next().unwrap().unwrap().name(), name);
        }
        assert!(lister.next().is_none() && lister.next().is_none());
        assert_eq!(lister.hash(), hash);
        // Only where a position says so is the file system asked for its type.
        assert!([End::on(fs), End::Unknown].contains(&lister.end()));
    }
}

#[test]
fn only_of_ext4_the_last_name_tells_the_end() {
    let proc = open(Path::new("/proc"));
    assert_eq!(End::on(FsType::of(proc.as_fd()).unwrap()), End::Silent);
    assert_eq!(End::on(FsType { magic: 0xef53 }), End::Told);
}

#[test]
fn the_hash_of_names_never_changes() {
    let hash = |names: &[&[u8]]| {
        let mut hash = NameHash::default();
        names.iter().for_each(|name| hash.add(name));
        hash.value()
    };
    assert_eq!(hash(&[]), NameHash::SEED);
    assert_eq!(hash(&[b"a", b"README.md", b"\xff\x00"]), HASH_OF_THREE);
    let bytes: Vec<u8> = (0..30).map(|byte| byte * 5 + 100).collect();
    for length in 0..bytes.len() {
        let name = &bytes[..length];
        assert_eq!(hash(&[name]), plain_hash(name), "{length} bytes");
    }
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
    assert_ne!(hash(&[b"a"]), hash(&[b"a\0"]));
}

/// The hash of one name as its description has it, without tricks.
fn plain_hash(name: &[u8]) -> u64 {
    let words = name.chunks(8).map(|chunk| {
        let byte = |(at, byte): (usize, &u8)| u64::from(*byte) << (8 * at);
        chunk.iter().enumerate().map(byte).sum()
    });
    words
        .chain([name.len() as u64])
        .fold(NameHash::SEED, |state, word: u64| {
            let product = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15;
            let halves = product as u64 ^ (product >> 64) as u64;
            halves.wrapping_add(word.rotate_left(32))
        })
}

/// Computed apart from this program, from the words of [`NameHash`].
const HASH_OF_THREE: u64 = 0xc091_8dc5_b161_cea6;

#[test]
fn listing_something_that_is_no_directory_fails() {
    let file = tempfile::tempfile().unwrap();
    let mut buffer = ListBuffer::default();
    let mut lister = Lister::new(file.as_fd(), &mut buffer);
    assert_eq!(lister.next().unwrap().unwrap_err(), Errno::NOTDIR);
}

#[test]
fn stat_agrees_with_the_standard_library() {
    let tree = TempDir::new().unwrap();
    let path = child(tree.path(), b"f\n");
    fs::write(&path, vec![7; 10_000]).unwrap();
    fs::hard_link(&path, tree.path().join("g")).unwrap();
    let dir = open(tree.path());
    for sync in [Sync::AsStat, Sync::Lazy] {
        let stat = stat::stat_at(dir.as_fd(), c"f\n", StatMask::BASIC_STATS, sync).unwrap();
        let expected = fs::metadata(&path).unwrap();
        assert_eq!(stat.size, 10_000);
        assert_eq!((stat.blocks, stat.ino), (expected.blocks(), expected.ino()));
        assert_eq!((stat.uid, stat.gid), (expected.uid(), expected.gid()));
        assert_eq!((stat.mode, stat.nlink), (expected.mode(), 2));
        assert_eq!(stat.mtime.secs, expected.mtime());
        assert_eq!(i64::from(stat.ctime.nanos), expected.ctime_nsec());
        assert_eq!(stat.kind(), FileType::RegularFile);
        assert!(!stat.mount_root);
    }
    let gone = stat::stat_at(
        dir.as_fd(),
        b"gone".as_slice(),
        StatMask::SIZE,
        Sync::AsStat,
    );
    assert_eq!(gone, Err(Errno::NOENT));
}

#[test]
fn stat_does_not_follow_links() {
    let tree = TempDir::new().unwrap();
    symlink("/", tree.path().join("link")).unwrap();
    let dir = open(tree.path());
    let stat = stat::stat_at(dir.as_fd(), c"link", StatMask::TYPE, Sync::AsStat).unwrap();
    assert_eq!(stat.kind(), FileType::Symlink);
    let mut text = b"older".to_vec();
    stat::read_link(dir.as_fd(), c"link", &mut text).unwrap();
    assert_eq!(text, b"/");
}

#[test]
fn an_unknown_type_is_looked_up() {
    let tree = TempDir::new().unwrap();
    fs::create_dir(tree.path().join("d")).unwrap();
    let dir = open(tree.path());
    let entry = |kind, c_name| ListEntry {
        c_name,
        kind,
        ino: 1,
    };
    let kind = |kind, name| stat::type_at(dir.as_fd(), &entry(kind, name));
    assert_eq!(kind(FileType::Unknown, c"d"), Ok(FileType::Directory));
    assert_eq!(kind(FileType::Fifo, c"d"), Ok(FileType::Fifo));
    assert_eq!(kind(FileType::Unknown, c"gone"), Err(Errno::NOENT));
}

#[test]
fn a_symlink_in_place_of_a_directory_is_not_followed() {
    let tree = TempDir::new().unwrap();
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    fs::create_dir_all(tree.path().join("real/b/c")).unwrap();
    fs::rename(tree.path().join("a"), tree.path().join("old")).unwrap();
    symlink("real", tree.path().join("a")).unwrap();
    let root = open(tree.path());
    for opener in openers() {
        for mounts in [Mounts::Cross, Mounts::Detect] {
            for purpose in [Purpose::List, Purpose::Base] {
                let refused = |outcome: Result<OwnedFd, OpenError>| match outcome.unwrap_err() {
                    OpenError::Errno(errno) => {
                        assert!([Errno::LOOP, Errno::NOTDIR].contains(&errno), "{errno}");
                    }
                    OpenError::MountPoint => panic!("no mount point here"),
                };
                refused(opener.open_name(root.as_fd(), b"a", purpose, mounts));
                refused(opener.open_path(root.as_fd(), b"a/b/c", purpose, mounts));
                let real = opener.open_path(root.as_fd(), b"real/b/c", purpose, mounts);
                real.unwrap();
            }
        }
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let tree = TempDir::new().unwrap();
    fs::create_dir_all(tree.path().join("a/b")).unwrap();
    let root = open(tree.path());
    let bad: [&[u8]; 9] = [
        b"", b".", b"..", b"/", b"/a", b"a/..", b"a//b", b"a/", b"a/\0",
    ];
    for opener in openers() {
        for path in bad {
            let (purpose, mounts) = (Purpose::List, Mounts::Cross);
            let outcome = opener.open_path(root.as_fd(), path, purpose, mounts);
            assert_eq!(
                outcome.unwrap_err(),
                OpenError::Errno(Errno::INVAL),
                "{path:?}"
            );
            let outcome = opener.open_name(root.as_fd(), path, purpose, mounts);
            assert_eq!(
                outcome.unwrap_err(),
                OpenError::Errno(Errno::INVAL),
                "{path:?}"
            );
        }
    }
}

#[test]
fn a_mount_point_is_detected_or_crossed() {
    let root = open(Path::new("/"));
    for opener in openers() {
        for purpose in [Purpose::List, Purpose::Base] {
            let open = |path: &[u8], mounts| opener.open_path(root.as_fd(), path, purpose, mounts);
            for path in [b"proc".as_slice(), b"proc/self"] {
                let outcome = open(path, Mounts::Detect);
                assert_eq!(outcome.unwrap_err(), OpenError::MountPoint);
            }
            open(b"proc", Mounts::Cross).unwrap();
            open(b"proc/sys/kernel", Mounts::Cross).unwrap();
            open(b"usr", Mounts::Detect).unwrap();
        }
    }
}

/// Makes a chain of `depth` directories, each called `name`, and returns the last.
fn chain(top: &Path, name: &CStr, depth: usize) -> OwnedFd {
    let mut fd = open(top);
    for _ in 0..depth {
        rustix::fs::mkdirat(&fd, name, Mode::RWXU).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fd = rustix::fs::openat(&fd, name, flags, Mode::empty()).unwrap();
    }
    fd
}

#[test]
fn opens_a_path_longer_than_the_kernel_takes() {
    let tree = TempDir::new().unwrap();
    let name = CString::new(vec![b'n'; 200]).unwrap();
    let last = chain(tree.path(), &name, 100);
    rustix::fs::mkdirat(&last, c"end", Mode::RWXU).unwrap();
    let path = [vec![name.to_bytes(); 100].join(&b'/'), b"/end".to_vec()].concat();
    let root = open(tree.path());
    for opener in openers() {
        for mounts in [Mounts::Cross, Mounts::Detect] {
            opener
                .open_path(root.as_fd(), &path, Purpose::List, mounts)
                .unwrap();
            let missing = [path.as_slice(), b"/missing"].concat();
            let outcome = opener.open_path(root.as_fd(), &missing, Purpose::List, mounts);
            assert_eq!(outcome.unwrap_err(), OpenError::Errno(Errno::NOENT));
            let too_long = [b"n/".as_slice(), &[b'x'; 5000]].concat();
            let outcome = opener.open_path(root.as_fd(), &too_long, Purpose::List, mounts);
            assert!(outcome.is_err());
        }
    }
}

#[test]
fn a_root_is_what_find_makes_of_it() {
    let tree = TempDir::new().unwrap();
    let path = |name: &str| tree.path().join(name);
    fs::create_dir(path("d")).unwrap();
    fs::write(path("f"), b"x").unwrap();
    for (link, target) in [
        ("to_d", "d"),
        ("to_f", "f"),
        ("to_nothing", "gone"),
        ("loop", "loop"),
    ] {
        symlink(target, path(link)).unwrap();
    }
    let opener = Opener::probe().unwrap();
    let kind = |name: &str| opener.open_root(&path(name)).map(|root| root.stat.kind());
    assert_eq!(kind("d"), Ok(FileType::Directory));
    assert_eq!(kind("f"), Ok(FileType::RegularFile));
    assert_eq!(kind("to_d"), Ok(FileType::Directory));
    assert_eq!(kind("to_f"), Ok(FileType::RegularFile));
    assert_eq!(kind("to_nothing"), Ok(FileType::Symlink));
    assert_eq!(kind("loop"), Ok(FileType::Symlink));
    assert_eq!(kind("gone"), Err(Errno::NOENT));
    let root = opener.open_root(&path("to_d")).unwrap();
    opener.reopen(root.fd.as_fd(), Purpose::List).unwrap();
}

#[test]
fn a_slot_is_read_by_its_supervisor() {
    let memfd = memfd_create(c"slot", MemfdFlags::CLOEXEC).unwrap();
    assert_eq!(Slot::map(&memfd).unwrap_err(), Errno::INVAL, "too short");
    slot::prepare(&memfd).unwrap();
    let file = File::from(memfd.try_clone().unwrap());
    let read = || {
        let mut bytes = vec![0; SLOT_BYTES];
        file.read_exact_at(&mut bytes, 0).unwrap();
        slot::decode(&bytes)
    };
    assert_eq!(read(), None, "no worker yet");
    let slot = Slot::map(&memfd).unwrap();
    slot.set_item(Some(77));
    slot.set_call(Some(Call::Stat));
    slot.set_directory(Some(9));
    slot.advance(5);
    slot.advance(1);
    slot.set_path(b"a\xff/b");
    let view = read().unwrap();
    assert_eq!((view.item, view.progress), (Some(77), 6));
    assert_eq!((view.call, view.directory), (Some(Call::Stat), Some(9)));
    let path = view.path.unwrap();
    assert_eq!(
        (path.bytes.as_slice(), path.truncated),
        (b"a\xff/b".as_slice(), false)
    );

    for call in Call::ALL {
        slot.set_call(Some(call));
        assert_eq!(read().unwrap().call, Some(call));
    }

    let name: Vec<u8> = (1..40).collect();
    for length in 0..name.len() {
        slot.set_path(&name[..length]);
        let path = read().unwrap().path.unwrap();
        assert_eq!(
            (path.bytes.as_slice(), path.truncated),
            (&name[..length], false)
        );
    }

    slot.set_item(None);
    slot.set_path(&vec![b'p'; 10_000]);
    let view = read().unwrap();
    assert_eq!(view.item, None);
    let path = view.path.unwrap();
    assert_eq!((path.bytes.len(), path.truncated), (SLOT_PATH_MAX, true));
    assert!(path.bytes.iter().all(|&byte| byte == b'p'));

    drop(slot);
    assert!(read().is_some(), "it outlives its worker");
}

#[test]
fn a_torn_path_in_a_slot_is_recognised() {
    let memfd = memfd_create(c"slot", MemfdFlags::CLOEXEC).unwrap();
    slot::prepare(&memfd).unwrap();
    let file = File::from(memfd.try_clone().unwrap());
    let slot = Slot::map(&memfd).unwrap();
    slot.set_path(b"before");
    let mut bytes = vec![0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, 0).unwrap();
    slot.set_path(b"after");
    let mut later = vec![0; SLOT_BYTES];
    file.read_exact_at(&mut later, 0).unwrap();
    // A copy that was overtaken by the writer somewhere on its way to the end.
    for cut in (64..SLOT_BYTES).step_by(8) {
        let torn = [&bytes[..cut], &later[cut..]].concat();
        assert_eq!(slot::decode(&torn).unwrap().path, None, "cut at {cut}");
    }
    assert_eq!(slot::decode(&bytes[..100]), None);
    assert_eq!(slot::decode(&[0xff; SLOT_BYTES]), None);
}

#[test]
fn a_directory_that_may_not_be_read_says_so() {
    let tree = TempDir::new().unwrap();
    fs::create_dir(tree.path().join("file_not")).unwrap();
    fs::write(tree.path().join("file"), b"").unwrap();
    let root = rustix::fs::openat(CWD, tree.path(), OFlags::PATH, Mode::empty()).unwrap();
    for opener in openers() {
        let open = |name: &[u8]| {
            let (purpose, mounts) = (Purpose::List, Mounts::Detect);
            opener.open_name(root.as_fd(), name, purpose, mounts)
        };
        assert_eq!(open(b"file").unwrap_err(), OpenError::Errno(Errno::NOTDIR));
        assert_eq!(open(b"gone").unwrap_err(), OpenError::Errno(Errno::NOENT));
        open(b"file_not").unwrap();
    }
}
