//! Secret files in a directory: read only if nobody else can have touched them, created whole.
//!
//! What they mean is not known here.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::KeyFileError;

/// A key file has about 120 bytes.
const FILE_BYTES_MAX: usize = 4096;
const PRIVATE: Mode = Mode::from_raw_mode(0o600);
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Makes `dir` for the user alone, if it is missing. What it lies in must be there, or a slip would make directories
/// all the way down; but for `.config`, which whoever first needs it makes.
pub(super) fn create_dir(dir: &Path) -> Result<(), KeyFileError> {
    let parent = dir.parent().filter(|parent| parent.ends_with(".config"));
    for dir in parent.into_iter().chain([dir]) {
        let made = DirBuilder::new().mode(0o700).create(dir);
        match made.map_err(|error| (error.kind(), error)) {
            Ok(()) | Err((io::ErrorKind::AlreadyExists, _)) => {}
            Err((io::ErrorKind::NotFound, _)) => {
                return Err(KeyFileError::NoParent { path: dir.into() });
            }
            Err((_, source)) => {
                return Err(KeyFileError::Io {
                    operation: "create directory",
                    path: dir.into(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Whether there is anything of this name.
pub(super) fn exists(dir: &Path, name: &str) -> Result<bool, KeyFileError> {
    let path = dir.join(name);
    match fs::lstat(&path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("look at", &path, errno)),
    }
}

/// The contents of a file; `None` if there is none.
pub(super) fn read(dir: &Path, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let Some(opened) = open_dir(dir)? else {
        return Ok(None);
    };
    let path = dir.join(name);
    // Without O_NONBLOCK a pipe of this name would keep us waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match fs::openat(&opened, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(KeyFileError::Symlink { path }),
        // A socket, or a device without a driver.
        Err(Errno::NXIO) => return Err(KeyFileError::NotAFile { path }),
        Err(errno) => return Err(failed("open", &path, errno)),
    };
    let stat = fs::fstat(&file).map_err(|errno| failed("look at", &path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(KeyFileError::NotAFile { path });
    }
    check(&path, &stat, OTHERS, "600")?;
    let mut contents = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    let mut limited = file.take(FILE_BYTES_MAX as u64 + 1);
    match limited.read_to_end(&mut contents) {
        Ok(length) if length > FILE_BYTES_MAX => Err(KeyFileError::Oversized { path }),
        Ok(_) => Ok(Some(contents)),
        Err(source) => Err(KeyFileError::Io {
            operation: "read",
            path,
            source,
        }),
    }
}

/// Creates a file that only its owner can read: whole or not at all, and never over another.
pub(super) fn create(dir: &Path, name: &str, text: &str) -> Result<(), KeyFileError> {
    let path = dir.join(name);
    let opened = open_dir(dir)?.ok_or_else(|| failed("open", dir, Errno::NOENT))?;
    let (file, temporary) = create_temporary(&opened, name)
        .map_err(|errno| failed("create a file beside", &path, errno))?;
    let created = write_whole(file, text.as_bytes())
        .and_then(|()| {
            Ok(fs::linkat(
                &opened,
                &temporary,
                &opened,
                name,
                AtFlags::empty(),
            )?)
        })
        .and_then(|()| Ok(fs::fsync(&opened)?));
    let removed = fs::unlinkat(&opened, &temporary, AtFlags::empty());
    match created {
        Ok(()) => removed.map_err(|errno| failed("finish", &path, errno)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists { path })
        }
        Err(source) => Err(KeyFileError::Io {
            operation: "create",
            path,
            source,
        }),
    }
}

/// A new file beside the one to be made, and its name. Somebody else may be at the same, on this
/// host or on another that shares the directory; or may have died over it.
fn create_temporary(dir: &OwnedFd, name: &str) -> Result<(File, String), Errno> {
    const TRIES: u32 = 100;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    for number in 0..TRIES {
        let temporary = format!(".{name}.{number}");
        match fs::openat(dir, &temporary, flags, PRIVATE) {
            Ok(file) => return Ok((File::from(file), temporary)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

fn write_whole(mut file: File, bytes: &[u8]) -> io::Result<()> {
    // Whatever the umask.
    fs::fchmod(&file, PRIVATE)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The key directory, which nobody else can change; `None` if there is none.
fn open_dir(dir: &Path) -> Result<Option<OwnedFd>, KeyFileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match fs::open(dir, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("open directory", dir, errno)),
    };
    let stat = fs::fstat(&opened).map_err(|errno| failed("look at", dir, errno))?;
    check(dir, &stat, OTHERS_WRITE, "700")?;
    Ok(Some(opened))
}

/// Refuses what belongs to somebody else, or has any of the bits `forbidden`.
fn check(
    path: &Path,
    stat: &Stat,
    forbidden: u32,
    remedy: &'static str,
) -> Result<(), KeyFileError> {
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us && stat.st_uid != 0 {
        return Err(KeyFileError::Owner {
            path: path.into(),
            owner: stat.st_uid,
        });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeyFileError::Mode {
            path: path.into(),
            mode,
            remedy,
        });
    }
    Ok(())
}

fn failed(operation: &'static str, path: &Path, errno: Errno) -> KeyFileError {
    KeyFileError::Io {
        operation,
        path: path.into(),
        source: errno.into(),
    }
}
