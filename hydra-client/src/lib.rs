//! The Hydra client: one per host. It holds the connection to the server and supervises that host's workers.
//!
//! ```text
//!   listener or dialler ──connections──┐
//!   server link ──────────messages─────┤
//!   workers ──messages, deaths─────────┼──► Event ──► Dispatcher::handle ──► Relay ──► actions ──► executors
//!   root looker ──────────views────────┤                (sans-IO ledger)
//!   log socket ───────────lines────────┘
//! ```
//!
//! The dispatcher is one task and owns all state; executors (a task or two for each connection, each worker)
//! own their streams and processes, and share nothing with it but bounded channels. Which work is whose is
//! decided in `hydra-proto`'s `Relay`. This crate walks nothing, knows no plugin and no command line: what it
//! needs of those is in [`Config`].

mod at_hand;
mod breaker;
mod config;
mod crew;
mod dispatcher;
mod doors;
mod error;
pub mod inherit;
mod link;
mod logs;
mod looker;
mod mounts;
mod results;
mod roots;
mod rows;
mod run;
mod watch;
mod worker;

pub use config::{
    Allow, Config, DecodeSlot, LogSink, LookAtRoot, MakeReducer, Mode, OnListening, PathMap,
    Timings, WorkerCommand,
};
pub use error::ClientError;
pub use logs::print_log_line;
pub use looker::look_at_roots;
pub use run::{run, serve_embedded};
pub use watch::Doing;
