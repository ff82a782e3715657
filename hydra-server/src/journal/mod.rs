//! The journal: what makes a server's own death lose nothing.
//!
//! ```text
//!   DIR/journal   header │ snapshot: frame, frame ... Complete │ log: frame, frame, frame ...
//!   DIR/lock      held by the server that is at work
//!
//!   ledger ─► entries ─► batch ─► one frame ─► write, fdatasync ─► what waited for it is sent
//! ```
//!
//! A *frame* is what goes to disk at once: `length u32 │ crc32 u32 │ sequence u64 │ entries`, little endian. It
//! counts whole or not at all. An *entry* is one change: a record of the ledger, or something that only the server
//! knows. Every file begins with a snapshot, if only of the state before the first client came. When the log has
//! grown long, a new file with a new snapshot replaces the old one; so a journal is as large as the frontier and the
//! results, however long the job. Coming back is reading the file and writing such a new one.
//!
//! Decides nothing about who owns what: that is replayed by the ledger itself.

mod disk;
mod entry;
mod error;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod log;
mod replay;
#[cfg(any(test, fuzzing))]
mod sample;
mod state_dir;
mod status;

#[cfg(test)]
mod tests;

pub use error::JournalError;
pub use state_dir::{Durability, StateDir};
pub use status::{SessionStatus, Status, status};

pub(crate) use disk::Disk;
pub(crate) use entry::{Entry, Payload, Writer};
pub(crate) use log::{Journal, Report, Written};
pub(crate) use replay::{NoSum, RowsAgain, replay};
