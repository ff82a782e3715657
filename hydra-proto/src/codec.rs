//! Values to bytes and back. The only place that knows the format, so that it can be changed.
//!
//! The format is bincode 2 with its standard configuration (little endian, variable-length integers).

use crate::frame::FRAME_BYTES_MAX;
use bincode::config::{Configuration, Limit, LittleEndian, NoLimit, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not a value, or a value does not fit into bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not such a value.
    #[error("the message cannot be read: {0}")]
    Decode(String),
    /// The value does not fit.
    #[error("the message cannot be written: {0}")]
    Encode(String),
    /// The value needs more bytes than a frame may have.
    #[error("the message has {size} bytes, more than the limit of {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Bytes that it would take.
        size: usize,
    },
    /// Bytes are left over behind the value.
    #[error("the message has {extra} bytes too many")]
    Trailing {
        /// How many are left.
        extra: usize,
    },
}

const CONFIG: Configuration<LittleEndian, Varint, Limit<FRAME_BYTES_MAX>> =
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();

/// Encodes `value`.
///
/// # Errors
/// When it would take more than [`FRAME_BYTES_MAX`] bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIG)
        .map_err(|error| CodecError::Encode(error.to_string()))?;
    match bytes.len() {
        size if size > FRAME_BYTES_MAX => Err(CodecError::TooLarge { size }),
        _ => Ok(bytes),
    }
}

/// Decodes the value that fills `bytes`. Memory is bounded by the length of `bytes`.
///
/// # Errors
/// When the bytes are not exactly one such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        extra => Err(CodecError::Trailing { extra }),
    }
}

/// For values that stay on this machine and are guarded by a checksum: no limit.
const STORED: Configuration<LittleEndian, Varint, NoLimit> = bincode::config::standard();

/// Encodes a value of any size behind what is in `out`, for this program to read again.
///
/// # Errors
/// When its type cannot be encoded.
pub fn store<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, out, STORED)
        .map(drop)
        .map_err(|error| CodecError::Encode(error.to_string()))
}

/// Decodes a value at the beginning of what [`store`] has made, and says how many bytes it took. Memory is bounded
/// by the length of `bytes`: a text that claims to be longer than all of them is not believed.
///
/// # Errors
/// When no such value is there.
pub fn load<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    // The limit is a constant, and counts eight bytes for each number however few it takes.
    match usize::BITS - bytes.len().leading_zeros() {
        ..=16 => load_within::<T, { 1 << 20 }>(bytes),
        17..=20 => load_within::<T, { 1 << 24 }>(bytes),
        21..=24 => load_within::<T, { 1 << 28 }>(bytes),
        25..=28 => load_within::<T, { 1 << 32 }>(bytes),
        _ => load_within::<T, { 1 << 36 }>(bytes),
    }
}

fn load_within<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<(T, usize), CodecError> {
    bincode::serde::decode_from_slice(bytes, STORED.with_limit::<LIMIT>())
        .map_err(|error| CodecError::Decode(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests;
