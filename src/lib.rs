//! Hydra: a distributed, parallel file-tree walker.

mod keys;
pub mod plugin;

pub use plugin::{ByteTotals, Plugin, PluginReport, ReportContext, Total};
