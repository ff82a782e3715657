//! The file's format: a header and numbered, checksummed frames. Knows bytes only, and reads them piece
//! by piece: a journal may be larger than the memory.
//!
//! A frame that ends beyond the file, or that nothing sound follows, was being written when the power went, or cannot be
//! told from one that was: it is the torn tail, and counts as never written. A frame that is not sound while a later
//! one is means damage.

use hydra_proto::ids::JobId;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: [u8; 8] = *b"HydraJnl";
/// The format's version.
pub(crate) const VERSION: u32 = 2;
/// Bytes of the file's header: magic, version, job, first sequence number, checksum.
pub(crate) const HEADER: usize = 32;
/// Bytes before a frame's payload: length, checksum, sequence number.
const FRAME_HEADER: usize = 16;
/// How far sequence numbers are looked for behind damage.
const LOOK_AHEAD: u64 = 1 << 32;

/// Bytes looked at at once.
const CHUNK: usize = 64 << 10;

/// Where the bytes of a journal are.
pub(crate) trait Source {
    /// How many there are.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` with those from `at` on.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, at)
    }
}

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
}

/// Why bytes are not a journal.
#[derive(Debug)]
pub(crate) enum Unsound {
    Header,
    Version(u32),
    /// A frame in the middle.
    Damaged {
        record: u64,
        offset: u64,
    },
    /// They cannot be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Unsound {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
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
    let mut hasher = hasher(length, sequence);
    hasher.update(payload);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&hasher.finalize().to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
}

/// The checksum of a frame, up to its payload: it covers the length and the number, so that a frame cannot be mistaken for
/// another one.
fn hasher(length: u32, sequence: u64) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher
}

/// Reads a journal, frame by frame. No more than one frame is in memory, and only one that is sound.
#[derive(Debug)]
pub(crate) struct Frames<'a, S: ?Sized> {
    source: &'a S,
    /// Where it ends. What a server appends meanwhile is not looked at.
    end: u64,
    job: JobId,
    /// Where the next frame is, and its number.
    at: u64,
    next: u64,
    /// The payload of a frame, or the piece of it that was looked at last.
    payload: Vec<u8>,
}

/// A sound frame.
struct Found {
    sequence: u64,
    length: usize,
}

impl<'a, S: Source + ?Sized> Frames<'a, S> {
    /// Reads the header.
    pub(crate) fn open(source: &'a S) -> Result<Self, Unsound> {
        let end = source.length()?;
        if end < HEADER as u64 {
            return Err(Unsound::Header);
        }
        let mut header = [0; HEADER];
        source.read_exact_at(&mut header, 0)?;
        let (job, next) = read_header(&header)?;
        Ok(Self {
            source,
            end,
            job,
            at: HEADER as u64,
            next,
            payload: Vec::new(),
        })
    }

    /// The job.
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// The number of the frame that comes next.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The next frame; none at the end, or where only a torn tail is left.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, Unsound> {
        let start = self.at + FRAME_HEADER as u64;
        let Some(found) = self.step()? else {
            return Ok(None);
        };
        if self.payload.len() != found.length {
            // It is larger than what is looked at at once.
            self.payload.resize(found.length, 0);
            self.source.read_exact_at(&mut self.payload, start)?;
        }
        Ok(Some(Frame {
            sequence: found.sequence,
            payload: &self.payload,
        }))
    }

    /// Goes to the end, to see whether all is sound.
    pub(crate) fn check(&mut self) -> Result<(), Unsound> {
        while self.step()?.is_some() {}
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Found>, Unsound> {
        if self.at >= self.end {
            return Ok(None);
        }
        match self.frame_at(self.at)? {
            Some(frame) if frame.sequence == self.next => {
                self.at += (FRAME_HEADER + frame.length) as u64;
                self.next += 1;
                Ok(Some(frame))
            }
            _ if self.is_torn()? => {
                self.end = self.at;
                Ok(None)
            }
            _ => Err(Unsound::Damaged {
                record: self.next,
                offset: self.at,
            }),
        }
    }

    /// The frame that begins at `at`, if a sound one does.
    fn frame_at(&mut self, at: u64) -> io::Result<Option<Found>> {
        let left = self.end.saturating_sub(at);
        let Some(left) = left.checked_sub(FRAME_HEADER as u64) else {
            return Ok(None);
        };
        let mut header = [0; FRAME_HEADER];
        self.source.read_exact_at(&mut header, at)?;
        let length = number(&header[..4]) as u32;
        let sequence = number(&header[8..]);
        if length == 0 || u64::from(length) > left {
            return Ok(None);
        }
        let mut hasher = hasher(length, sequence);
        let mut at = at + FRAME_HEADER as u64;
        let end = at + u64::from(length);
        while at < end {
            let some = (CHUNK as u64).min(end - at) as usize;
            self.payload.resize(some, 0);
            self.source.read_exact_at(&mut self.payload, at)?;
            hasher.update(&self.payload);
            at += some as u64;
        }
        let is_sound = u64::from(hasher.finalize()) == number(&header[4..8]);
        Ok(is_sound.then_some(Found {
            sequence,
            length: length as usize,
        }))
    }

    /// Whether nothing sound follows where the next frame should be. The length there may be damaged too, so every byte
    /// behind it may be the beginning of another one.
    fn is_torn(&mut self) -> io::Result<bool> {
        let mut window = Vec::new();
        let mut from = self.at + 1;
        while from + (FRAME_HEADER as u64) <= self.end {
            let size = (self.end - from).min((CHUNK + FRAME_HEADER) as u64) as usize;
            window.resize(size, 0);
            self.source.read_exact_at(&mut window, from)?;
            let headers = window.windows(FRAME_HEADER).take(CHUNK);
            for (header, at) in headers.zip(from..) {
                let sequence = number(&header[8..]);
                let plausible = sequence > self.next && sequence - self.next <= LOOK_AHEAD;
                if plausible && self.frame_at(at)?.is_some() {
                    return Ok(false);
                }
            }
            from += CHUNK as u64;
        }
        Ok(true)
    }
}

fn read_header(header: &[u8; HEADER]) -> Result<(JobId, u64), Unsound> {
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

#[cfg(any(test, fuzzing))]
impl Source for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(buffer.len());
        let bytes = self.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
