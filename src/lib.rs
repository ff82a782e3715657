//! Hydra: a distributed, parallel file-tree walker.

pub mod cli;
pub mod exit_codes;
pub mod keys;
pub mod plugin;
pub mod plugins;
pub mod progress;
pub mod registry;
pub mod report;
pub mod serial;
pub mod stock;
#[cfg(test)]
mod test_plugin;
pub mod worker;

pub use cli::Hydra;
pub use hydra_proto::ids::RootId;
pub use hydra_proto::job::RootSpec;
pub use hydra_proto::reduce::ReduceError;
pub use hydra_proto::walk::WalkSummary;
pub use hydra_worker::{
    Again, Dir, Enter, Entry, Facts, FileType, Listing, PathOf, Sink, Stat, Summary, Target, Visit,
    Wants,
};
pub use plugin::{ByteTotals, Plugin, PluginReport, ReportContext, ShownPath, SummaryOf, Total};
pub use report::escape;
