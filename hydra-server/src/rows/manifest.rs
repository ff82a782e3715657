//! The manifest: lines of JSON that say how much of each segment counts. The last line about a segment counts, and only
//! whole lines do.

use super::{RowsError, Store, failed};
use hydra_proto::ids::JobId;
use rustix::fs::{Mode, OFlags, fsync, openat, renameat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

/// Its name.
pub(super) const MANIFEST: &str = "manifest.ndjson";
const MANIFEST_NEW: &str = "manifest.ndjson.new";
/// A manifest shorter than that is only appended to.
const LENGTH_MIN: u64 = 1 << 20;

/// The manifest of a job at work.
#[derive(Debug)]
pub(super) struct Manifest {
    job: JobId,
    /// What was said of each segment.
    said: BTreeMap<String, u64>,
    file: OwnedFd,
    /// Where the next line goes.
    at: u64,
    /// The length that it had when it was written anew.
    fresh: u64,
}

impl Manifest {
    /// Begins one that says this.
    pub(super) fn begin(
        store: &Store,
        job: JobId,
        said: BTreeMap<String, u64>,
    ) -> Result<Self, RowsError> {
        let (file, at) = replace(store, &text(store, job, &said, ""))?;
        let fresh = at;
        Ok(Self {
            job,
            said,
            file,
            at,
            fresh,
        })
    }

    /// Says more. What failed may be said again: it goes to the same place.
    pub(super) fn say(&mut self, store: &Store, news: &[(String, u64)]) -> Result<(), RowsError> {
        for (name, bytes) in news {
            self.said.insert(name.clone(), *bytes);
        }
        let mut lines = String::new();
        for (name, bytes) in news {
            line(store, name, *bytes, &mut lines);
        }
        if self.at + lines.len() as u64 > LENGTH_MIN + 4 * self.fresh {
            let (file, at) = replace(store, &text(store, self.job, &self.said, ""))?;
            (self.file, self.at, self.fresh) = (file, at, at);
            return Ok(());
        }
        write_at(store, &self.file, lines.as_bytes(), self.at)?;
        self.at += lines.len() as u64;
        Ok(())
    }

    /// Says everything once more, and that nothing will follow.
    pub(super) fn end(
        store: &Store,
        job: JobId,
        said: &BTreeMap<String, u64>,
        complete: bool,
    ) -> Result<(), RowsError> {
        let (segments, bytes) = (said.len(), said.values().sum::<u64>());
        let last = format!(
            "{{\"ended\":true,\"complete\":{complete},\"segments\":{segments},\"bytes\":{bytes}}}\n"
        );
        replace(store, &text(store, job, said, &last))?;
        Ok(())
    }
}

fn text(store: &Store, job: JobId, said: &BTreeMap<String, u64>, last: &str) -> String {
    let mut text = format!(
        "{{\"schema\":\"hydra.rows/1\",\"job\":\"{:016x}\"}}\n",
        job.0
    );
    for (name, bytes) in said {
        line(store, name, *bytes, &mut text);
    }
    text.push_str(last);
    text
}

fn line(store: &Store, name: &str, bytes: u64, text: &mut String) {
    let dir = store.spec.segments();
    // Writing to a string cannot fail; the names need no escapes.
    let _ = writeln!(text, "{{\"segment\":\"{dir}/{name}\",\"bytes\":{bytes}}}");
}

/// Puts another file in the manifest's place: a reader finds the one or the other.
fn replace(store: &Store, text: &str) -> Result<(OwnedFd, u64), RowsError> {
    let new = store.path.join(MANIFEST_NEW);
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(&store.dir, MANIFEST_NEW, flags, Mode::RUSR | Mode::WUSR);
    let file = opened.map_err(|errno| failed("make", &new, errno))?;
    write_at(store, &file, text.as_bytes(), 0)?;
    fsync(&file).map_err(|errno| failed("sync", &new, errno))?;
    let renamed = renameat(&store.dir, MANIFEST_NEW, &store.dir, MANIFEST);
    renamed.map_err(|errno| failed("replace", &store.path.join(MANIFEST), errno))?;
    fsync(&store.dir).map_err(|errno| failed("sync", &store.path, errno))?;
    Ok((file, text.len() as u64))
}

fn write_at(store: &Store, file: &OwnedFd, bytes: &[u8], at: u64) -> Result<(), RowsError> {
    let written = super::thread::write_all_at(file, bytes, at);
    written.map_err(|errno: Errno| failed("write", &store.path.join(MANIFEST), errno))
}
