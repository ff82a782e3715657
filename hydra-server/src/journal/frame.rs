//! The file's format: a header and numbered, checksummed frames. Knows bytes only.
//!
//! A frame that ends beyond the file, or that nothing sound follows, was being written when the power went: it is
//! the torn tail, and counts as never written. A frame that is not sound while a later one is means damage.

use hydra_proto::ids::JobId;

const MAGIC: [u8; 8] = *b"HydraJnl";
/// The format's version.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the file's header: magic, version, job, first sequence number, checksum.
pub(crate) const HEADER: usize = 32;
/// Bytes before a frame's payload: length, checksum, sequence number.
const FRAME_HEADER: usize = 16;
/// How far sequence numbers are looked for behind damage.
const LOOK_AHEAD: u64 = 1 << 32;

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) job: JobId,
    /// Number, first byte and payload of each frame.
    pub(crate) frames: Vec<Frame<'a>>,
    /// The number of the frame that would come next.
    pub(crate) next: u64,
}

#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
}

/// Why bytes are not a journal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsound {
    Header,
    Version(u32),
    /// A frame in the middle.
    Damaged {
        record: u64,
        offset: u64,
    },
}

/// The first bytes of a file whose first frame will have the number `first`.
pub(crate) fn header(job: JobId, first: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&job.0.to_le_bytes());
    bytes[20..28].copy_from_slice(&first.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Appends a frame to `out`.
pub(crate) fn write(out: &mut Vec<u8>, sequence: u64, payload: &[u8]) {
    // A payload is bounded far below 4 GiB by the limit on what may wait for the disk.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, sequence, payload).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
}

/// The checksum covers the length and the number, so that a frame cannot be mistaken for another one.
fn checksum(length: u32, sequence: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Reads a whole file.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents<'_>, Unsound> {
    let (job, mut next) = read_header(bytes)?;
    let mut frames = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        match frame_at(bytes, at) {
            Some(frame) if frame.sequence == next => {
                at += FRAME_HEADER + frame.payload.len();
                next += 1;
                frames.push(frame);
            }
            _ if is_torn(bytes, at, next) => break,
            _ => {
                let (record, offset) = (next, at as u64);
                return Err(Unsound::Damaged { record, offset });
            }
        }
    }
    Ok(Contents { job, frames, next })
}

fn read_header(bytes: &[u8]) -> Result<(JobId, u64), Unsound> {
    let header = bytes.get(..HEADER).ok_or(Unsound::Header)?;
    if header[..8] != MAGIC {
        return Err(Unsound::Header);
    }
    let version = number(&header[8..12]) as u32;
    if version != VERSION {
        return Err(Unsound::Version(version));
    }
    match u64::from(crc32fast::hash(&header[..28])) == number(&header[28..]) {
        true => Ok((JobId(number(&header[12..20])), number(&header[20..28]))),
        false => Err(Unsound::Header),
    }
}

fn number(bytes: &[u8]) -> u64 {
    let little = bytes.iter().rev();
    little.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// The frame that begins at `at`, if a sound one does.
fn frame_at(bytes: &[u8], at: usize) -> Option<Frame<'_>> {
    let header = bytes.get(at..at.checked_add(FRAME_HEADER)?)?;
    let length = number(&header[..4]) as u32;
    let sequence = number(&header[8..]);
    let start = at + FRAME_HEADER;
    let payload = bytes.get(start..start.checked_add(length as usize)?)?;
    if payload.is_empty() || u64::from(checksum(length, sequence, payload)) != number(&header[4..8])
    {
        return None;
    }
    Some(Frame { sequence, payload })
}

/// Whether nothing sound follows `at`, where frame `next` should be. The length there may be damaged too, so
/// every byte may be the beginning of the next frame.
fn is_torn(bytes: &[u8], at: usize, next: u64) -> bool {
    let follows = |at: usize| {
        let sequence = bytes.get(at + 8..at + FRAME_HEADER).map(number);
        let plausible = sequence.is_some_and(|s| s > next && s - next <= LOOK_AHEAD);
        plausible && frame_at(bytes, at).is_some()
    };
    !(at + 1..bytes.len()).any(follows)
}
