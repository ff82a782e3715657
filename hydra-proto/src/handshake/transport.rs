//! The encrypted stream after the handshake: frames in, ciphertext out, and back.
//!
//! Frames are written one after another into a plain stream. That stream is cut into records of at
//! most 65,535 bytes, each encrypted on its own, and each sent as one frame of the outer stream:
//!
//! ```text
//! plain     [len][frame 1][len][frame 2 ............................][len][frame 3]
//! records   [len][ciphertext, 65,535 bytes at most][len][ciphertext ...][len][...]
//! ```
//!
//! So a frame may be longer than a record, and many short frames share one.

use std::sync::Arc;

use snow::StatelessTransportState;
use thiserror::Error;

use crate::frame::{self, FRAME_BYTES_MAX, FrameDecoder, FrameError};

/// The longest message that Noise allows, in bytes.
const RECORD_BYTES_MAX: usize = 65_535;
/// What the cipher adds to each record, in bytes.
pub(super) const TAG_BYTES: usize = 16;
/// The most plain bytes that one record carries.
const RECORD_PLAIN_MAX: usize = RECORD_BYTES_MAX - TAG_BYTES;

/// Why the encrypted stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TransportError {
    /// The bytes are not a frame, outside or inside the encryption.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A record was damaged, repeated, left out, or made with another key.
    #[error("a record does not decrypt")]
    Decrypt,
    /// No further record may be sent with these keys.
    #[error("the keys of this connection are used up")]
    Exhausted,
}

/// The two halves of an encrypted stream; they can be used from different tasks.
#[derive(Debug)]
pub struct Transport {
    /// The sending half.
    pub sealer: Sealer,
    /// The receiving half.
    pub opener: Opener,
}

impl Transport {
    pub(super) fn new(cipher: Arc<StatelessTransportState>, sent: u64, received: u64) -> Self {
        Self {
            sealer: Sealer {
                cipher: Arc::clone(&cipher),
                nonce: sent,
                pending: Vec::new(),
            },
            opener: Opener {
                cipher,
                nonce: received,
                records: FrameDecoder::new(RECORD_BYTES_MAX),
                plain: Vec::new(),
                position: 0,
                frames: FrameDecoder::new(FRAME_BYTES_MAX),
            },
        }
    }
}

/// Turns frames into ciphertext.
#[derive(Debug)]
pub struct Sealer {
    cipher: Arc<StatelessTransportState>,
    nonce: u64,
    /// Plain bytes of the record that is not yet full.
    pending: Vec<u8>,
}

impl Sealer {
    /// Adds one frame. Records that it fills go to `out`; what is left waits for [`Self::flush`].
    ///
    /// # Errors
    ///
    /// [`TransportError::Frame`] if `payload` is over the frame limit: nothing happened.
    /// [`TransportError::Exhausted`] ends the connection.
    pub fn seal(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        let header = frame::header(payload.len())?;
        self.write(&header, out)?;
        self.write(payload, out)
    }

    /// Closes the record under way, if there is one, and appends it to `out`.
    ///
    /// # Errors
    ///
    /// [`TransportError::Exhausted`] ends the connection.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), TransportError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        seal_record(&self.cipher, self.nonce, &self.pending, out)?;
        self.nonce += 1;
        self.pending.clear();
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TransportError> {
        while !bytes.is_empty() {
            let room = RECORD_PLAIN_MAX - self.pending.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == RECORD_PLAIN_MAX {
                self.flush(out)?;
            }
        }
        Ok(())
    }
}

/// Turns ciphertext into frames.
///
/// It holds one record and the one frame under way, however much it is fed.
#[derive(Debug)]
pub struct Opener {
    cipher: Arc<StatelessTransportState>,
    nonce: u64,
    records: FrameDecoder,
    /// The last record in plain, and how far it has been read.
    plain: Vec<u8>,
    position: usize,
    frames: FrameDecoder,
}

impl Opener {
    /// Takes bytes off the front of `input` up to the end of a frame, and returns that frame;
    /// `None` when all of `input` is taken and more is needed.
    ///
    /// # Errors
    ///
    /// [`TransportError`]: the stream is of no more use and must be closed.
    pub fn open(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            let mut plain = self.plain.get(self.position..).unwrap_or_default();
            let frame = self.frames.decode(&mut plain)?;
            self.position = self.plain.len() - plain.len();
            if frame.is_some() {
                return Ok(frame);
            }
            let Some(record) = self.records.decode(input)? else {
                return Ok(None);
            };
            open_record(&self.cipher, self.nonce, &record, &mut self.plain)?;
            self.nonce += 1;
            self.position = 0;
        }
    }

    /// Whether a frame or a record has begun and is not complete: if the stream ends now, it was
    /// cut.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.records.is_mid_frame() || self.frames.is_mid_frame()
    }
}

/// Appends `plain`, encrypted, as one frame of the outer stream.
pub(super) fn seal_record(
    cipher: &StatelessTransportState,
    nonce: u64,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TransportError> {
    let length = plain.len() + TAG_BYTES;
    let header = frame::header(length)?;
    let start = out.len();
    out.extend_from_slice(&header);
    let body = out.len();
    out.resize(body + length, 0);
    match cipher.write_message(nonce, plain, &mut out[body..]) {
        Ok(written) if written == length => Ok(()),
        _ => {
            out.truncate(start);
            Err(TransportError::Exhausted)
        }
    }
}

/// Decrypts one record into `plain`, in place of what was there.
pub(super) fn open_record(
    cipher: &StatelessTransportState,
    nonce: u64,
    record: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), TransportError> {
    let length = record
        .len()
        .checked_sub(TAG_BYTES)
        .ok_or(TransportError::Decrypt)?;
    plain.resize(length, 0);
    match cipher.read_message(nonce, record, plain) {
        Ok(read) if read == length => Ok(()),
        _ => {
            plain.clear();
            Err(TransportError::Decrypt)
        }
    }
}
