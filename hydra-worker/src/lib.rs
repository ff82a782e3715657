//! The Hydra worker: the walk, the plugin contract and the two threads.

pub mod act;
mod clock;
pub mod dirs;
pub mod entry;
pub mod errno;
mod lease;
pub mod node;
mod place;
pub mod plugin;
mod rows;
mod session;
mod shared;
pub mod sys;
mod talk;
mod walk;

pub use act::Again;
pub use entry::{Dir, Entry, PATH_START, PathOf, Stat, Target};
pub use hydra_proto::item::Listing;
pub use hydra_proto::reduce::Summary;
pub use hydra_proto::walk::FileType;
pub use plugin::{Enter, Facts, Sink, Visit, Wants};
pub use session::{Identity, Session, WorkerError};
pub use walk::bare::walk_bare;
