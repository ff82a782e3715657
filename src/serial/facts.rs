//! Errors, types and facts, from what the standard library gives to what plugins are shown.

use hydra_proto::walk::FileType;
use hydra_worker::{Facts, Stat, errno};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The system's error behind one of `walkdir`'s, with its number kept.
pub(super) fn io_error(error: &walkdir::Error) -> io::Error {
    let code = error.io_error().and_then(io::Error::raw_os_error);
    code.map_or_else(
        || io::Error::other(error.to_string()),
        io::Error::from_raw_os_error,
    )
}

/// The name of an error's number, and what it means.
pub(super) fn describe(error: &io::Error) -> (String, String) {
    let Some(code) = error.raw_os_error() else {
        return ("EIO".to_owned(), error.to_string());
    };
    (errno::name(code), errno::message(code))
}

pub(super) fn type_of(metadata: &Metadata) -> FileType {
    type_from(metadata.file_type())
}

pub(super) fn type_from(file_type: std::fs::FileType) -> FileType {
    match file_type {
        t if t.is_dir() => FileType::Directory,
        t if t.is_file() => FileType::File,
        t if t.is_symlink() => FileType::Symlink,
        t if t.is_fifo() => FileType::Fifo,
        t if t.is_socket() => FileType::Socket,
        t if t.is_block_device() => FileType::BlockDevice,
        t if t.is_char_device() => FileType::CharDevice,
        _ => FileType::Unknown,
    }
}

/// The facts that were asked for; the others stay zero, as they do in a worker.
pub(super) fn stat_of(metadata: &Metadata, facts: Facts) -> Stat {
    let mut stat = Stat::default();
    if facts.contains(Facts::SIZE) {
        stat.size = metadata.size();
    }
    if facts.contains(Facts::BLOCKS) {
        stat.blocks = metadata.blocks();
    }
    if facts.contains(Facts::OWNER) {
        (stat.uid, stat.gid) = (metadata.uid(), metadata.gid());
    }
    if facts.contains(Facts::MODE) {
        stat.mode = metadata.mode();
    }
    if facts.contains(Facts::LINKS) {
        stat.nlink = u32::try_from(metadata.nlink()).unwrap_or(u32::MAX);
        (stat.ino, stat.dev) = (metadata.ino(), pack_dev(metadata.dev()));
    }
    let time = |secs: i64, nanos: i64| (secs, u32::try_from(nanos).unwrap_or(0));
    if facts.contains(Facts::ATIME) {
        stat.atime = time(metadata.atime(), metadata.atime_nsec());
    }
    if facts.contains(Facts::MTIME) {
        stat.mtime = time(metadata.mtime(), metadata.mtime_nsec());
    }
    if facts.contains(Facts::CTIME) {
        stat.ctime = time(metadata.ctime(), metadata.ctime_nsec());
    }
    stat
}

/// A device number as workers write it, so that what is looked at again can be compared.
fn pack_dev(dev: u64) -> u64 {
    u64::from(rustix::fs::major(dev)) << 32 | u64::from(rustix::fs::minor(dev))
}
