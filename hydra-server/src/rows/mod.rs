//! Rows that the journal does not write: one file or pipe of them ([`Outflow`]), or a directory of segments, and the
//! manifest that says what of them counts.
//!
//! ```text
//!   commit applied ──► durable ──► manifest: so many bytes of this segment count
//!   DIR/manifest.ndjson                 appended to while the job runs, written anew at its end
//!   DIR/segments-NONCE/streamed.ndjson  rows that came inside commits
//!                      S-W-N.ndjson     segments of workers, written by them, or here for those that cannot
//! ```
//!
//! [`Store`] is the open directory, [`Keeper`] the coordinator's side, [`thread`](self::thread) what blocks. At the end
//! everything goes from it that no commit has named.

mod backlog;
mod keeper;
mod manifest;
mod outflow;
mod thread;

pub(crate) use self::keeper::{Counts, Keeper, count};
pub(crate) use self::outflow::Outflow;
pub(crate) use self::thread::Done;

use hydra_proto::segment::RowsDir;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The file of rows that came inside commits.
pub(crate) const STREAMED: &str = "streamed.ndjson";

/// What names of directories of segments begin with.
const SEGMENTS: &[u8] = b"segments-";

/// Why rows cannot be kept in their directory.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// A call failed.
    #[error("rows cannot be kept: cannot {operation} {}", shown(path))]
    Io {
        /// The operation.
        operation: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory holds something.
    #[error("{} is not empty: it may hold the rows of another job", shown(.0))]
    NotEmpty(PathBuf),
    /// Another server uses the directory.
    #[error("another server uses {}", shown(.0))]
    Locked(PathBuf),
    /// Rows that a commit has named are gone.
    #[error(
        "rows are lost: {} has {found} bytes, and {expected} were committed",
        shown(path)
    )]
    Lost {
        /// The segment.
        path: PathBuf,
        /// Its bytes.
        found: u64,
        /// What it should have at least.
        expected: u64,
    },
}

fn shown(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn failed(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> RowsError {
    RowsError::Io {
        operation,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A directory for the rows of one job.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: OwnedFd,
    segments: OwnedFd,
    spec: RowsDir,
}

impl Store {
    /// For a new job: makes the directory if there is none; one that is there must hold nothing, but for what a job has
    /// left that came to no rows. `path` is absolute.
    ///
    /// # Errors
    /// When it cannot be made, is not empty, or another server uses it.
    pub fn create(path: &Path, sync: bool) -> Result<Self, RowsError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make", path, error));
            }
            _ => {}
        }
        let dir = open_dir(path)?;
        clear(path, &dir)?;
        let spec = RowsDir {
            path: path.as_os_str().as_bytes().to_vec(),
            nonce: rand::random(),
            session: 0,
            sync,
        };
        let name = spec.segments();
        let made = mkdirat(&dir, &name, Mode::RWXU);
        made.map_err(|errno| failed("make", &path.join(&name), errno))?;
        Self::with(dir, spec)
    }

    /// To go on with a job.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn open(spec: &RowsDir) -> Result<Self, RowsError> {
        let path = Path::new(OsStr::from_bytes(&spec.path));
        Self::with(open_dir(path)?, spec.clone())
    }

    fn with(dir: OwnedFd, spec: RowsDir) -> Result<Self, RowsError> {
        let path = PathBuf::from(OsStr::from_bytes(&spec.path));
        let name = spec.segments();
        // The one directory in it that this process, or one before it, has made.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let segments = openat(&dir, &name, flags, Mode::empty());
        let segments = segments.map_err(|errno| failed("open", &path.join(&name), errno))?;
        Ok(Self {
            path,
            dir,
            segments,
            spec,
        })
    }

    /// What the job says of it.
    #[must_use]
    pub fn spec(&self) -> &RowsDir {
        &self.spec
    }

    /// The file for rows that come inside commits, as it is.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn streamed(&self) -> Result<File, RowsError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.segments, STREAMED, flags, Mode::RUSR | Mode::WUSR);
        let opened = opened.map_err(|errno| failed("open", &self.path_of(STREAMED), errno))?;
        Ok(File::from(opened))
    }

    /// Where a segment is.
    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(self.spec.segments()).join(name)
    }
}

/// Opens the directory, and keeps other servers away from it as long as it is open.
fn open_dir(path: &Path) -> Result<OwnedFd, RowsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, path, flags, Mode::empty());
    let dir = dir.map_err(|errno| failed("open", path, errno))?;
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(RowsError::Locked(path.to_owned())),
        // Some file systems have no locks for directories.
        _ => Ok(dir),
    }
}

/// Removes what a job has left that came to no rows. Anything else stays, and is an error.
fn clear(path: &Path, dir: &OwnedFd) -> Result<(), RowsError> {
    let not_empty = || RowsError::NotEmpty(path.to_owned());
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| failed("read", path, error))?;
    let names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
    let is_ours = |name: &[u8]| name == manifest::MANIFEST.as_bytes() || name.starts_with(SEGMENTS);
    if !names.iter().all(|name| is_ours(name.as_bytes())) {
        return Err(not_empty());
    }
    let (segments, manifests): (Vec<_>, Vec<_>) = names
        .iter()
        .partition(|name| name.as_bytes().starts_with(SEGMENTS));
    if segments.is_empty() && !manifests.is_empty() {
        return Err(not_empty());
    }
    for name in segments {
        // It goes only if nothing is in it.
        unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(|_| not_empty())?;
    }
    for name in manifests {
        let removed = unlinkat(dir, name, AtFlags::empty());
        removed.map_err(|errno| failed("remove", &path.join(name), errno))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
