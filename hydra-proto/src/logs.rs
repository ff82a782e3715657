//! A worker's log: how it proves who it is, and how its lines travel to its client.
//!
//! ```text
//!   worker                                      client
//!     ── opening (LOG_PROOF_BYTES) ──────────────►   proves the secret; the kernel says pid and uid
//!     ◄────────────── answer (LOG_PROOF_BYTES) ──    proves it back
//!     ── frames, a LogRecord each ───────────────►
//! ```
//!
//! The secret is the worker's own, came over its control channel, and is good for one connection. The proof is
//! Noise (`NNpsk0`), so neither side shows the secret to an impostor. What follows is not encrypted: it stays
//! within the host. Nothing here opens a socket or waits.

use crate::codec;
use crate::frame::{self, FRAME_HEADER_BYTES};
use crate::message::LogLine;
use serde::{Deserialize, Serialize};
use snow::{Builder, HandshakeState};
use std::fmt;

/// Length of the opening and of the answer.
pub const LOG_PROOF_BYTES: usize = 48;
/// The longest frame on a log connection.
pub const LOG_FRAME_BYTES_MAX: usize = 16 << 10;
/// The longest text of a line; what is longer is cut.
pub const LOG_TEXT_BYTES_MAX: usize = 8 << 10;

const TARGET_BYTES_MAX: usize = 256;
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"Hydra log";

/// What a worker is told before its session begins: the first frame on its control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStart {
    /// The worker's number at its client, from 1. A successor of a dead worker has the same.
    pub worker: u32,
    /// What it must put into its Hello: differs between all processes that this client starts.
    pub nonce: u64,
    /// Where its log goes; without it, nowhere.
    pub log: Option<LogAccess>,
    /// What it should log, in the words of `RUST_LOG`.
    pub log_filter: String,
}

/// Where a worker's log goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogAccess {
    /// Name of the client's socket in the abstract namespace, without the leading NUL.
    #[serde(with = "serde_bytes")]
    pub socket: Vec<u8>,
    /// What both sides prove that they know.
    pub secret: [u8; 32],
}

impl fmt::Debug for LogAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogAccess").finish_non_exhaustive()
    }
}

/// One frame on a log connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogRecord {
    /// A line.
    Line(LogLine),
    /// So many lines were dropped here, because nobody took them.
    Dropped(u64),
}

/// The other side of a log connection could not prove the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the log connection does not know the worker's secret")]
pub struct LogProofError;

/// The worker's side of the proof.
pub struct LogProof(HandshakeState);

impl LogProof {
    /// Begins: send what this returns, and read [`LOG_PROOF_BYTES`].
    ///
    /// # Errors
    /// When the cryptography fails, for want of random bytes, say.
    pub fn open(secret: &[u8; 32]) -> Result<(Self, [u8; LOG_PROOF_BYTES]), LogProofError> {
        let mut noise = builder(secret)?.build_initiator().map_err(failed)?;
        let opening = write(&mut noise)?;
        Ok((Self(noise), opening))
    }

    /// Checks the answer. Frames may be sent if it is right.
    ///
    /// # Errors
    /// When whoever answers is not the client.
    pub fn check(mut self, answer: &[u8; LOG_PROOF_BYTES]) -> Result<(), LogProofError> {
        self.0.read_message(answer, &mut []).map_err(failed)?;
        Ok(())
    }
}

impl fmt::Debug for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogProof").finish_non_exhaustive()
    }
}

/// The client's side of the proof: checks the opening, and returns the answer to send.
///
/// # Errors
/// When whoever sent the opening is not that worker: close without a word.
pub fn answer_proof(
    secret: &[u8; 32],
    opening: &[u8; LOG_PROOF_BYTES],
) -> Result<[u8; LOG_PROOF_BYTES], LogProofError> {
    let mut noise = builder(secret)?.build_responder().map_err(failed)?;
    noise.read_message(opening, &mut []).map_err(failed)?;
    write(&mut noise)
}

fn builder(secret: &[u8; 32]) -> Result<Builder<'_>, LogProofError> {
    Builder::new(PATTERN.parse().map_err(failed)?)
        .prologue(PROLOGUE)
        .and_then(|builder| builder.psk(0, secret))
        .map_err(failed)
}

fn write(noise: &mut HandshakeState) -> Result<[u8; LOG_PROOF_BYTES], LogProofError> {
    let mut message = [0; LOG_PROOF_BYTES];
    match noise.write_message(b"", &mut message) {
        Ok(LOG_PROOF_BYTES) => Ok(message),
        Ok(_) | Err(_) => Err(LogProofError),
    }
}

fn failed(_: snow::Error) -> LogProofError {
    LogProofError
}

/// Lines on their way into a socket that may not take them now. Bounded: what does not fit is counted, and
/// the count is sent when there is room again. So a walk never waits for its log.
#[derive(Debug)]
pub struct LogBuffer {
    bytes: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl LogBuffer {
    /// Holds at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            dropped: 0,
        }
    }

    /// Adds a line, cut to its limits, or drops it.
    pub fn push(&mut self, mut line: LogLine) {
        cut(&mut line.text, LOG_TEXT_BYTES_MAX);
        cut(&mut line.target, TARGET_BYTES_MAX);
        if self.dropped > 0 && self.append(&LogRecord::Dropped(self.dropped)) {
            self.dropped = 0;
        }
        if self.dropped > 0 || !self.append(&LogRecord::Line(line)) {
            self.dropped += 1;
        }
    }

    fn append(&mut self, record: &LogRecord) -> bool {
        let Ok(payload) = codec::encode(record) else {
            return false;
        };
        let fits = self.bytes.len() + FRAME_HEADER_BYTES + payload.len() <= self.limit;
        fits && frame::encode(&payload, &mut self.bytes).is_ok()
    }

    /// What the socket should take next.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes
    }

    /// The socket has taken this many bytes.
    pub fn advance(&mut self, taken: usize) {
        self.bytes.drain(..taken.min(self.bytes.len()));
    }
}

/// Cuts at a boundary between characters.
fn cut(text: &mut String, most: usize) {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameDecoder;

    fn line(text: &str) -> LogLine {
        LogLine {
            worker: 1,
            pid: 2,
            level: 3,
            target: "walk".to_owned(),
            text: text.to_owned(),
        }
    }

    fn records(mut bytes: &[u8]) -> Vec<LogRecord> {
        let mut decoder = FrameDecoder::new(LOG_FRAME_BYTES_MAX);
        let mut records = Vec::new();
        while let Some(frame) = decoder.decode(&mut bytes).unwrap() {
            records.push(codec::decode(&frame).unwrap());
        }
        records
    }

    #[test]
    fn both_sides_prove_the_secret() {
        let (proof, opening) = LogProof::open(&[7; 32]).unwrap();
        let answer = answer_proof(&[7; 32], &opening).unwrap();
        assert_eq!(proof.check(&answer), Ok(()));
    }

    #[test]
    fn an_impostor_proves_nothing_on_either_side() {
        let (proof, opening) = LogProof::open(&[7; 32]).unwrap();
        assert_eq!(answer_proof(&[8; 32], &opening), Err(LogProofError));
        let (_, other) = LogProof::open(&[8; 32]).unwrap();
        let answer = answer_proof(&[8; 32], &other).unwrap();
        assert_eq!(proof.check(&answer), Err(LogProofError));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_later() {
        let mut buffer = LogBuffer::new(64);
        (0..20).for_each(|_| buffer.push(line("twenty bytes of text")));
        let kept = records(buffer.pending()).len() as u64;
        assert!(kept < 20 && buffer.pending().len() <= 64);
        buffer.advance(usize::MAX);
        buffer.push(line("later"));
        let told = records(buffer.pending());
        assert_eq!(
            told,
            [
                LogRecord::Dropped(20 - kept),
                LogRecord::Line(line("later"))
            ]
        );
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut buffer = LogBuffer::new(1 << 20);
        buffer.push(line(&"ä".repeat(LOG_TEXT_BYTES_MAX)));
        let [LogRecord::Line(sent)] = &records(buffer.pending())[..] else {
            panic!("not one line");
        };
        assert_eq!(sent.text, "ä".repeat(LOG_TEXT_BYTES_MAX / 2));
    }
}
