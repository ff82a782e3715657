//! The benchmark suite: deterministic trees, the floor, an oracle that counts them, the runner that sets
//! Hydra beside its peers, and the rigs for slow calls and for the coordinator.
//!
//! The programs in `src/bin` only parse arguments and print. Nothing here is part of the product, and
//! all but [`coordinator`] know Hydra as a command like every other.

pub mod coordinator;
pub mod floor;
pub mod fuse;
pub mod implicit;
pub mod latency;
pub mod period;
pub mod runner;
pub mod totals;
pub mod tree;

use std::fmt;

/// What a command has to do with each entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Only name it; its type comes with the listing.
    List,
    /// Ask the file system for its size and blocks as well.
    Stat,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::List => "list",
            Work::Stat => "stat",
        })
    }
}
