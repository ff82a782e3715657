//! Hydra: a distributed, parallel file-tree walker.

pub mod plugin;
pub mod plugins;

pub use plugin::{ByteTotals, Plugin, PluginReport, ReportContext, Total};
