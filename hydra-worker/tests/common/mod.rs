//! What the tests of the walk share: a parent with workers, what workers show, and trees.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod cluster;
mod trees;
mod visits;

pub use cluster::{Cluster, item_in, job, page};
pub use trees::{assert_same, flat, oracle, scratch, tree};
pub use visits::{Count, Paths, unhex, with_stat};

use std::time::Duration;

/// Nothing here takes longer, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(40);
