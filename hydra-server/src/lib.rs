//! The Hydra server: coordinates clients, walks nothing, and adds up what they find.
//!
//! ```text
//!   dialler  ─┐                        ┌─► Parent (the ledger: who owns what)
//!   listener ─┼─► events ─► Coordinator┼─► RootBook (who may be granted which root)
//!   readers  ─┘      ▲                 └─► Tally (walk counts, the plugin's sum)
//!                    │                        │
//!                 timers                      ▼
//!                                          Outcome
//! ```
//!
//! [`run()`] is one job from the first connection to the last. It knows nothing of command lines or reports.

#![forbid(unsafe_code)]

mod config;
mod connection;
mod coordinator;
mod dialler;
mod durable;
mod gathering;
mod held;
pub mod journal;
mod outcome;
mod roots;
mod rows;
mod run;
mod spill;
mod tally;

pub use config::{Config, LogSink, ProgressSink};
pub use outcome::{ClientRun, Ending, LISTED_MAX, Outcome, Part, Progress, ServerError, SetAside};
pub use rows::{RowsError, Store as RowsStore};
pub use run::run;
