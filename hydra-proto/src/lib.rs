//! What Hydra's parts say to one another, and who owns which work.
//!
//! Nothing here does I/O, reads a clock or knows a runtime: events and the time go in, actions come out,
//! and the same input always gives the same output.

pub mod codec;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod handshake;
pub mod ids;
pub mod item;
pub mod job;
pub mod kept;
pub mod ledger;
pub mod logs;
pub mod message;
pub mod reduce;
pub mod segment;
pub mod walk;
pub mod words;
