//! What a job came to, and its two shapes: one JSON document, or text for people.
//!
//! Adds nothing up and decides nothing about the walk: the outcome comes in whole.

mod escape;
mod json;
mod text;

pub use escape::{escape, escape_kept};
pub(crate) use json::AsideLine;
pub use json::{SCHEMA, write_json};
pub(crate) use text::missing_part;
pub use text::{SERIAL, incomplete, interrupted, nothing, write_text};

pub use hydra_server::{ClientRun, Ending, Part, SetAside};

use crate::plugin::PluginReport;
use hydra_proto::walk::WalkSummary;
use std::time::Duration;

/// Everything that a report is made of.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The plugin's name.
    pub plugin: String,
    /// The roots in the order of the command line, as results show them.
    pub roots: Vec<Vec<u8>>,
    /// How many of the roots were walked. The others are among the errors or set aside.
    pub roots_walked: usize,
    /// How many were not, because they did not answer.
    pub roots_silent: usize,
    /// How the job ended.
    pub ending: Ending,
    /// What the walk counted.
    pub walk: WalkSummary,
    /// The plugin's part.
    pub report: PluginReport,
    /// The first of what is missing because it could not be finished, by path.
    pub set_aside: Vec<SetAside>,
    /// How much is missing.
    pub set_aside_count: u64,
    /// What differs from run to run.
    pub run: Run,
}

/// What differs from run to run over the same tree.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// From the start of the job to its end.
    pub elapsed: Duration,
    /// The clients that took part.
    pub clients: Vec<ClientRun>,
    /// What was odd without touching the results, such as a client that did not see a root.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests;
