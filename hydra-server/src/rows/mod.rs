//! The directory for rows: segments, and the manifest that says what of them counts.
//!
//! ```text
//!   commit applied ──► durable ──► manifest: so many bytes of this segment count
//!   DIR/manifest.ndjson                 appended to while the job runs, written anew at its end
//!   DIR/segments-NONCE/streamed.ndjson  rows that came inside commits
//!                      S-W-N.ndjson     segments of workers, written by them, or here for those that cannot
//! ```
//!
//! [`Store`] is the open directory, [`Keeper`] the coordinator's side, [`thread`](self::thread) what blocks. At the end
//! everything goes that no commit has named.

mod keeper;
mod manifest;
mod thread;

pub(crate) use self::keeper::{Counts, Keeper, count};
pub(crate) use self::thread::Done;

use hydra_proto::segment::RowsDir;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The file of rows that came inside commits.
pub(crate) const STREAMED: &str = "streamed.ndjson";

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
    /// For a new job: makes the directory if there is none; one that is there must be empty. `path` is absolute.
    ///
    /// # Errors
    /// When it cannot be made, or is not empty.
    pub fn create(path: &Path, sync: bool) -> Result<Self, RowsError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut entries =
                    fs::read_dir(path).map_err(|error| failed("read", path, error))?;
                if entries.next().is_some() {
                    return Err(RowsError::NotEmpty(path.to_owned()));
                }
            }
            Err(error) => return Err(failed("make", path, error)),
        }
        let spec = RowsDir {
            path: path.as_os_str().as_bytes().to_vec(),
            nonce: rand::random(),
            session: 0,
            sync,
        };
        let dir = open_dir(CWD, path).map_err(|errno| failed("open", path, errno))?;
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
        let dir = open_dir(CWD, path).map_err(|errno| failed("open", path, errno))?;
        Self::with(dir, spec.clone())
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

fn open_dir(at: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests;
