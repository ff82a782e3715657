//! The Hydra worker: the walk, the plugin contract and the two threads.

pub mod dirs;
pub mod entry;
pub mod node;
pub mod plugin;
pub mod sys;

pub use entry::{Dir, Entry, PathOf, Stat, Target};
pub use hydra_proto::item::Listing;
pub use hydra_proto::reduce::Summary;
pub use hydra_proto::walk::FileType;
pub use plugin::{Enter, Facts, Sink, Visit, Wants};
