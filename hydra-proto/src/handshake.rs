//! The handshake: both sides prove that they hold their key before anything else is said.
//!
//! It is Noise with a pre-shared key, in one of two patterns, always three messages:
//!
//! ```text
//!            server dials: KNpsk0           client dials: NKpsk0
//! opening    server ──────────► client      client ──────────► server    48 bytes
//! answer     server ◄────────── client      client ◄────────── server    48 bytes
//! proof      server ──────────► client      client ──────────► server    16 bytes
//! ```
//!
//! - The opening proves the PSK. Whoever cannot make it gets no byte of reply. (A recorded opening,
//!   played again, draws an answer; it says nothing and leads nowhere.)
//! - With `NKpsk0` the answer proves the server's private key.
//! - With `KNpsk0` the server's private key is needed to read the answer, so only the proof, an
//!   empty encrypted record, shows that the dialler is the server and not somebody who holds a
//!   client's key. Until the proof has been read the responder has no [`Transport`], and so cannot
//!   say a word.
//!
//! The prologue, the patterns and the three messages are the same in every version of Hydra;
//! versions are compared afterwards, in Hello, so that a mismatch can be explained.
//!
//! This module does no I/O and knows no deadline: bytes in, bytes out.

mod key;
#[cfg(test)]
mod tests;
mod transport;

use std::fmt;
use std::sync::Arc;

use snow::{Builder, HandshakeState, StatelessTransportState};
use thiserror::Error;

pub use key::{ClientKey, KEY_BYTES, Key, KeyError, ServerKey};
pub use transport::{Opener, Sealer, Transport, TransportError};

use crate::frame::{self, FrameDecoder};
use transport::{TAG_BYTES, open_record, seal_record};

/// The longest frame that is read from a stranger, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 256;

/// Never changes: two versions that differ here could not even tell each other that they differ.
const PROLOGUE: &[u8] = b"Hydra";
const SERVER_DIALS: &str = "Noise_KNpsk0_25519_ChaChaPoly_BLAKE2s";
const CLIENT_DIALS: &str = "Noise_NKpsk0_25519_ChaChaPoly_BLAKE2s";

/// Length of the opening and of the answer: an ephemeral public key and the tag.
const MESSAGE_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// Why there will be no connection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// What came is no handshake: the other side is not Hydra.
    #[error("the other side does not speak Hydra's protocol")]
    Foreign,
    /// The dialler does not hold a key that belongs to ours.
    #[error("the other side does not hold the matching key")]
    WrongKey,
    /// The answer cannot be read with our key.
    #[error("the answer does not belong to our key")]
    WrongAnswer,
    /// The dialler holds the PSK, but not the private key of the server.
    #[error("the other side could not prove that it is the server")]
    Unproven,
    /// More bytes were given to a handshake that has ended.
    #[error("the handshake is over")]
    Over,
    /// The cryptography itself failed, for want of random bytes, say.
    #[error("cannot encrypt: {0}")]
    Crypto(String),
}

/// One side of a handshake under way.
///
/// Feed it with [`Self::read`] until it yields a [`Transport`] or fails; send what it writes. After
/// a failure close the connection without a word.
pub struct Handshake {
    messages: FrameDecoder,
    state: State,
}

enum State {
    /// The responder waits for the opening.
    Opening(Box<HandshakeState>),
    /// The initiator has sent the opening and waits for the answer.
    Answer(Box<HandshakeState>),
    /// The responder has answered; who the dialler is stands unproven.
    Unproven(Arc<StatelessTransportState>),
    Over,
}

impl Handshake {
    /// Begins as the side that dialled, and appends the opening to `out`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Crypto`].
    pub fn initiate(key: &Key, out: &mut Vec<u8>) -> Result<Self, HandshakeError> {
        let mut noise = match key {
            Key::Server(server) => builder(SERVER_DIALS, key)?.local_private_key(server.private()),
            Key::Client(client) => builder(CLIENT_DIALS, key)?.remote_public_key(client.server()),
        }
        .and_then(Builder::build_initiator)
        .map_err(crypto)?;
        write(&mut noise, out)?;
        Ok(Self::starting_in(State::Answer(Box::new(noise))))
    }

    /// Begins as the side that was dialled.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Crypto`].
    pub fn respond(key: &Key) -> Result<Self, HandshakeError> {
        let noise = match key {
            Key::Server(server) => builder(CLIENT_DIALS, key)?.local_private_key(server.private()),
            Key::Client(client) => builder(SERVER_DIALS, key)?.remote_public_key(client.server()),
        }
        .and_then(Builder::build_responder)
        .map_err(crypto)?;
        Ok(Self::starting_in(State::Opening(Box::new(noise))))
    }

    fn starting_in(state: State) -> Self {
        Self {
            messages: FrameDecoder::new(HANDSHAKE_BYTES_MAX),
            state,
        }
    }

    /// Takes bytes off the front of `input` and appends to `out` what must be sent in return.
    /// Returns the encrypted stream when the handshake is done: what `input` then still holds
    /// belongs to that stream. Send `out` even then: it may hold the proof.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; `out` is then untouched and the handshake is over.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Transport>, HandshakeError> {
        loop {
            let message = match self.messages.decode(input) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(_) => return Err(HandshakeError::Foreign),
            };
            match std::mem::replace(&mut self.state, State::Over) {
                State::Opening(noise) => self.state = answer(*noise, &message, out)?,
                State::Answer(noise) => return prove(*noise, &message, out).map(Some),
                State::Unproven(cipher) => return check_proof(cipher, &message).map(Some),
                State::Over => return Err(HandshakeError::Over),
            }
        }
    }

    /// Whether this side has answered, and has not yet seen proof of who the dialler is.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        matches!(self.state, State::Unproven(_))
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Opening(_) => "Opening",
            State::Answer(_) => "Answer",
            State::Unproven(_) => "Unproven",
            State::Over => "Over",
        };
        f.debug_tuple("Handshake").field(&state).finish()
    }
}

fn builder<'a>(protocol: &str, key: &'a Key) -> Result<Builder<'a>, HandshakeError> {
    Builder::new(protocol.parse().map_err(crypto)?)
        .prologue(PROLOGUE)
        .and_then(|builder| builder.psk(0, key.psk()))
        .map_err(crypto)
}

/// The responder's turn: checks the opening, writes the answer.
fn answer(
    mut noise: HandshakeState,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<State, HandshakeError> {
    read(&mut noise, message, HandshakeError::WrongKey)?;
    let start = out.len();
    write(&mut noise, out)?;
    match noise.into_stateless_transport_mode() {
        Ok(cipher) => Ok(State::Unproven(Arc::new(cipher))),
        Err(error) => {
            out.truncate(start);
            Err(crypto(error))
        }
    }
}

/// The initiator's second turn: checks the answer, writes the proof.
fn prove(
    mut noise: HandshakeState,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<Transport, HandshakeError> {
    read(&mut noise, message, HandshakeError::WrongAnswer)?;
    let cipher = Arc::new(noise.into_stateless_transport_mode().map_err(crypto)?);
    seal_record(&cipher, 0, b"", out).map_err(|error| HandshakeError::Crypto(error.to_string()))?;
    Ok(Transport::new(cipher, 1, 0))
}

/// The responder's second turn.
fn check_proof(
    cipher: Arc<StatelessTransportState>,
    message: &[u8],
) -> Result<Transport, HandshakeError> {
    let mut plain = Vec::new();
    open_record(&cipher, 0, message, &mut plain).map_err(|_| HandshakeError::Unproven)?;
    if !plain.is_empty() {
        return Err(HandshakeError::Foreign);
    }
    Ok(Transport::new(cipher, 0, 1))
}

/// Appends the next message, without payload, as one frame.
fn write(noise: &mut HandshakeState, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let mut message = [0; MESSAGE_BYTES];
    let length = noise.write_message(b"", &mut message).map_err(crypto)?;
    frame::encode(&message[..length], out)
        .map_err(|error| HandshakeError::Crypto(error.to_string()))
}

/// Reads the other side's message; `refusal` is what it means if it does not decrypt.
fn read(
    noise: &mut HandshakeState,
    message: &[u8],
    refusal: HandshakeError,
) -> Result<(), HandshakeError> {
    if message.len() != MESSAGE_BYTES {
        return Err(HandshakeError::Foreign);
    }
    match noise.read_message(message, &mut []) {
        Ok(_) => Ok(()),
        Err(_) => Err(refusal),
    }
}

fn crypto(error: snow::Error) -> HandshakeError {
    HandshakeError::Crypto(error.to_string())
}
