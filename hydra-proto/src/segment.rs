//! Rows that are too many for a commit: files of a directory for rows, which workers write and commits name.
//!
//! ```text
//!   DIR/manifest.ndjson            what of the segments counts
//!   DIR/segments-NONCE/            made by the server; who finds it there sees the server's directory
//!       00000001-00000003-0000.ndjson      session of the client, of the worker, number
//! ```
//!
//! What is in a segment counts as far as a commit says, and no further. Nothing here opens a file.

use crate::ids::Epoch;
use serde::{Deserialize, Serialize};

/// A segment with so many bytes is not gone on with: the next rows begin another one.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// No honest child says that it has a longer one.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 40;
/// Rows that cannot be written in place go to the parent in pieces of so many bytes, at most.
pub const PIECE_BYTES: usize = 1 << 20;

/// What the names of files with rows end with.
const SUFFIX: &str = ".ndjson";

/// Where rows go that are too many for a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsDir {
    /// The directory, in the server's words; for a worker, where it is on this host, without symbolic links.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// The directory of segments in it.
    pub nonce: u64,
    /// The number of the client's session, which segments are named by. The client tells it its workers.
    pub session: u64,
    /// Whether a segment must be on disk before a commit names it.
    pub sync: bool,
}

impl RowsDir {
    /// The name of the directory of segments.
    #[must_use]
    pub fn segments(&self) -> String {
        format!("segments-{:016x}", self.nonce)
    }
}

/// What a commit says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The number of the session of the worker that has written it.
    pub worker: u64,
    /// Counts that worker's segments.
    pub number: u32,
    /// So many of its first bytes count.
    pub bytes: u64,
}

/// A segment of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentId {
    /// The number of the client's session.
    pub session: u64,
    /// The number of the worker's.
    pub worker: u64,
    /// Counts the worker's segments.
    pub number: u32,
}

impl SegmentId {
    /// What a client's session calls this segment.
    #[must_use]
    pub fn new(session: Epoch, segment: &Segment) -> Self {
        Self {
            session: session.number,
            worker: segment.worker,
            number: segment.number,
        }
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Self {
            session,
            worker,
            number,
        } = self;
        format!("{session:08x}-{worker:08x}-{number:04x}{SUFFIX}")
    }

    /// The segment whose file has this name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let mut parts = text.strip_suffix(SUFFIX)?.split('-');
        let id = Self {
            session: u64::from_str_radix(parts.next()?, 16).ok()?,
            worker: u64::from_str_radix(parts.next()?, 16).ok()?,
            number: u32::from_str_radix(parts.next()?, 16).ok()?,
        };
        // Only what it would be called itself.
        (id.file_name().as_bytes() == name).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_segment_is_read_again_and_no_other_is() {
        for (session, worker, number) in [(1, 2, 3), (1 << 40, 1, 70_000), (u64::MAX, 0, u32::MAX)]
        {
            let id = SegmentId {
                session,
                worker,
                number,
            };
            assert_eq!(SegmentId::parse(id.file_name().as_bytes()), Some(id));
        }
        let others: [&[u8]; 6] = [
            b"streamed.ndjson",
            b"1-2-3.ndjson",
            b"00000001-00000002-0003.ndjson.part",
            b"+0000001-00000002-0003.ndjson",
            b"00000001-00000002-0003-0.ndjson",
            b"\xff",
        ];
        for name in others {
            assert_eq!(SegmentId::parse(name), None, "{}", name.escape_ascii());
        }
    }
}
