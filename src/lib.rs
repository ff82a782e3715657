//! Hydra: a distributed, parallel file-tree walker.

mod keys;
pub mod plugin;
pub mod plugins;

pub use plugin::{ByteTotals, Plugin, PluginReport, ReportContext, Total};
