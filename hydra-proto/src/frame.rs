//! Frames: how messages are cut out of a stream of bytes.

/// The largest payload of a frame, in bytes. Checked before anything is allocated.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
