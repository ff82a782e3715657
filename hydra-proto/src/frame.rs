//! Framing: how a stream of bytes is cut into messages.
//!
//! A frame is its payload's length, four bytes little-endian, and then the payload. Every stream
//! between Hydra's processes is cut this way. Decoding has three outcomes: a frame is complete
//! (`Ok(Some)`), more bytes are needed (`Ok(None)`), or the stream is malformed (`Err`), after
//! which nothing on it can be understood any more.
//!
//! This module knows neither what a payload means nor where the bytes come from.

use thiserror::Error;

/// The longest payload that any stream carries, in bytes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Length of the header before each payload, in bytes.
pub const FRAME_HEADER_BYTES: usize = 4;

/// What is set aside for a payload before its bytes arrive; a header alone costs no more than this.
const PAYLOAD_RESERVE_MAX: usize = 64 << 10;

/// Why bytes cannot be a frame on this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The payload is, or claims to be, longer than the stream allows.
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The length in question, in bytes.
        length: usize,
        /// The limit of this stream, in bytes.
        limit: usize,
    },
}

/// Appends `payload` as one frame to `out`.
///
/// # Errors
///
/// [`FrameError::TooLong`] if the payload is over [`FRAME_BYTES_MAX`]; `out` is then untouched.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let header = header(payload.len())?;
    out.reserve(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    Ok(())
}

/// The header of a frame whose payload has `length` bytes.
///
/// # Errors
///
/// [`FrameError::TooLong`] if `length` is over [`FRAME_BYTES_MAX`].
pub fn header(length: usize) -> Result<[u8; FRAME_HEADER_BYTES], FrameError> {
    match u32::try_from(length) {
        Ok(short) if length <= FRAME_BYTES_MAX => Ok(short.to_le_bytes()),
        _ => Err(FrameError::TooLong {
            length,
            limit: FRAME_BYTES_MAX,
        }),
    }
}

/// Cuts a stream of bytes into frames.
///
/// It holds the one frame that is under way and nothing more: at most `limit` bytes, and never
/// much more than twice what has arrived.
///
/// ```
/// use hydra_proto::frame::{FRAME_BYTES_MAX, FrameDecoder, encode};
///
/// let mut stream = Vec::new();
/// encode(b"grant", &mut stream)?;
/// encode(b"commit", &mut stream)?;
///
/// let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
/// let mut input = stream.as_slice();
/// assert_eq!(decoder.decode(&mut input)?, Some(b"grant".to_vec()));
/// assert_eq!(decoder.decode(&mut input)?, Some(b"commit".to_vec()));
/// assert_eq!(decoder.decode(&mut input)?, None);
/// # Ok::<(), hydra_proto::frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; FRAME_HEADER_BYTES],
        filled: usize,
    },
    Payload {
        payload: Vec<u8>,
        length: usize,
    },
    Malformed(FrameError),
}

impl State {
    const START: State = State::Header {
        bytes: [0; FRAME_HEADER_BYTES],
        filled: 0,
    };
}

impl FrameDecoder {
    /// A decoder for a stream whose payloads have at most `limit` bytes; a `limit` above
    /// [`FRAME_BYTES_MAX`] means [`FRAME_BYTES_MAX`].
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(FRAME_BYTES_MAX),
            state: State::START,
        }
    }

    /// Takes bytes off the front of `input` up to the end of a frame, and returns that frame's
    /// payload; `None` when all of `input` is taken and the frame needs more.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] as soon as a header exceeds the limit, before any memory is set
    /// aside for it; every later call fails the same way.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        loop {
            match &mut self.state {
                State::Header { bytes, filled } => {
                    let taken = take(input, FRAME_HEADER_BYTES - *filled);
                    bytes[*filled..*filled + taken.len()].copy_from_slice(taken);
                    *filled += taken.len();
                    if *filled < FRAME_HEADER_BYTES {
                        return Ok(None);
                    }
                    self.state = begin(u32::from_le_bytes(*bytes), self.limit);
                }
                State::Payload { payload, length } => {
                    let taken = take(input, *length - payload.len());
                    extend(payload, taken, *length);
                    if payload.len() < *length {
                        return Ok(None);
                    }
                    let payload = std::mem::take(payload);
                    self.state = State::START;
                    return Ok(Some(payload));
                }
                State::Malformed(error) => return Err(*error),
            }
        }
    }

    /// Whether a frame has begun and is not complete: if the stream ends now, it was cut.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !matches!(self.state, State::Header { filled: 0, .. })
    }
}

fn begin(length: u32, limit: usize) -> State {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return State::Malformed(FrameError::TooLong { length, limit });
    }
    State::Payload {
        payload: Vec::with_capacity(length.min(PAYLOAD_RESERVE_MAX)),
        length,
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    taken
}

/// Grows by doubling, as a vector does, but never past the length that was announced.
fn extend(payload: &mut Vec<u8>, bytes: &[u8], length: usize) {
    if payload.capacity() - payload.len() < bytes.len() {
        let doubled = payload.len().min(length - payload.len());
        payload.reserve_exact(doubled.max(bytes.len()));
    }
    payload.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(payload, &mut out).unwrap();
        out
    }

    #[test]
    fn the_header_is_four_bytes_little_endian() {
        assert_eq!(encoded(b"abc"), b"\x03\0\0\0abc");
        assert_eq!(encoded(b""), b"\0\0\0\0");
        assert_eq!(encoded(&[7; 0x01_02_03])[..4], [3, 2, 1, 0]);
        assert_eq!(header(FRAME_BYTES_MAX), Ok([0, 0, 0, 1]));
    }

    #[test]
    fn every_prefix_of_a_frame_is_incomplete() {
        let stream = encoded(b"hello");
        for cut in 0..stream.len() {
            let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
            let mut input = &stream[..cut];
            assert_eq!(decoder.decode(&mut input), Ok(None), "cut at {cut}");
            assert_eq!(decoder.is_mid_frame(), cut > 0, "cut at {cut}");
            assert!(input.is_empty());
            let mut rest = &stream[cut..];
            assert_eq!(decoder.decode(&mut rest), Ok(Some(b"hello".to_vec())));
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn frames_fed_byte_by_byte_come_out_in_order() {
        let payloads = [
            b"".to_vec(),
            b"x".to_vec(),
            vec![9; 70_000],
            b"end".to_vec(),
        ];
        let stream: Vec<u8> = payloads.iter().flat_map(|p| encoded(p)).collect();
        let mut decoder = FrameDecoder::new(70_000);
        let mut seen = Vec::new();
        for byte in &stream {
            let mut input = std::slice::from_ref(byte);
            while let Some(frame) = decoder.decode(&mut input).unwrap() {
                assert!(frame.capacity() <= frame.len().max(PAYLOAD_RESERVE_MAX));
                seen.push(frame);
            }
        }
        assert_eq!(seen, payloads);
    }

    #[test]
    fn a_header_over_the_limit_is_malformed_for_good() {
        let mut decoder = FrameDecoder::new(10);
        let error = FrameError::TooLong {
            length: 11,
            limit: 10,
        };
        assert_eq!(decoder.decode(&mut &[11, 0, 0][..]), Ok(None));
        assert_eq!(decoder.decode(&mut &[0][..]), Err(error));
        assert_eq!(decoder.decode(&mut &encoded(b"fine")[..]), Err(error));
    }

    #[test]
    fn no_limit_exceeds_the_global_one() {
        let mut decoder = FrameDecoder::new(usize::MAX);
        let over = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
        assert!(decoder.decode(&mut &over[..]).is_err());
        let mut out = Vec::new();
        assert!(encode(&vec![0; FRAME_BYTES_MAX + 1], &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn a_long_header_sets_no_memory_aside() {
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        let header = header(FRAME_BYTES_MAX).unwrap();
        assert_eq!(decoder.decode(&mut &header[..]), Ok(None));
        assert_eq!(decoder.decode(&mut &[0; 100][..]), Ok(None));
        let State::Payload { payload, .. } = &decoder.state else {
            panic!("no payload under way");
        };
        assert!(payload.capacity() <= PAYLOAD_RESERVE_MAX);
    }
}
