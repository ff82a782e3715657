//! Opens what lies below a root, however long its path is.

use hydra_proto::job::RootSpec;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path that is handed to the kernel in one piece.
const STEP_BYTES_MAX: usize = 4000;

/// An open root.
pub(super) struct Root<'a> {
    /// What the job says of it.
    pub(super) spec: &'a RootSpec,
    /// Open on it, for opening others relative to it.
    pub(super) handle: File,
}

impl<'a> Root<'a> {
    /// Opens a root as `find -H` does: what a link points to, or else the link itself.
    pub(super) fn open(spec: &'a RootSpec) -> io::Result<(Self, Metadata)> {
        let path = Path::new(OsStr::from_bytes(&spec.local));
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // A path that cannot be followed for want of permission is no dangling link.
        let metadata = match std::fs::metadata(path) {
            Err(error) => std::fs::symlink_metadata(path).map_err(|_| error)?,
            Ok(metadata) => metadata,
        };
        let flags = match metadata.is_symlink() {
            true => flags | OFlags::NOFOLLOW,
            false => flags,
        };
        let handle = File::from(openat(CWD, path, flags, Mode::empty())?);
        Ok((Self { spec, handle }, metadata))
    }

    /// Opens a directory for listing. A symbolic link in its place is an error.
    pub(super) fn open_dir(&self, path: &[u8]) -> io::Result<File> {
        self.open_as(path, OFlags::RDONLY)
    }

    /// Opens a directory as the base of other calls; it need not be readable.
    pub(super) fn open_base(&self, path: &[u8]) -> io::Result<File> {
        self.open_as(path, OFlags::PATH)
    }

    fn open_as(&self, path: &[u8], access: OFlags) -> io::Result<File> {
        let common = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut held: Option<File> = None;
        let mut rest = path;
        loop {
            let (step, tail) = split_step(rest);
            let flags = match tail.is_empty() {
                true => access | common,
                false => OFlags::PATH | common,
            };
            let base = held.as_ref().unwrap_or(&self.handle);
            let step = if step.is_empty() { b"." } else { step };
            let opened = File::from(openat(base, step, flags, Mode::empty())?);
            if tail.is_empty() {
                return Ok(opened);
            }
            held = Some(opened);
            rest = tail;
        }
    }
}

/// As much of `path` as one call takes, and what is left.
fn split_step(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= STEP_BYTES_MAX {
        return (path, &[]);
    }
    let window = path.get(..STEP_BYTES_MAX).unwrap_or(path);
    // No name is as long as a step: there is a slash.
    let end = window
        .iter()
        .rposition(|&b| b == b'/')
        .unwrap_or(window.len());
    let (step, tail) = path.split_at(end);
    (step, tail.strip_prefix(b"/").unwrap_or(tail))
}

/// A short path to what `file` is open on.
pub(super) fn proc_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The path of `name` in `dir`.
pub(super) fn child_path(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir.is_empty() {
        true => name.to_vec(),
        false => [dir, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_between_names() {
        let path = [b"x".repeat(255), b"y".repeat(200)].join(&b'/').repeat(20);
        let mut rest: &[u8] = &path;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, tail) = split_step(rest);
            assert!(step.len() <= STEP_BYTES_MAX);
            steps.push(step);
            rest = tail;
        }
        assert_eq!(steps.join(&b'/'), path);
    }
}
