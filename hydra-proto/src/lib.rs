//! What Hydra's parts say to one another, and who owns which work: no I/O, no clock, no runtime.

pub mod frame;
pub mod handshake;
