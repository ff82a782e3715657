//! What a job came to, and its two shapes: one JSON document, or text for people.
//!
//! Adds nothing up and decides nothing about the walk: the outcome comes in whole.

mod escape;
mod json;
mod text;

pub use escape::escape;
pub use json::{SCHEMA, write_json};
pub use text::{human_bytes, human_count, write_text};

use crate::plugin::PluginReport;
use hydra_proto::walk::{WalkError, WalkSummary};
use std::time::Duration;

/// Everything that a report is made of.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The plugin's name.
    pub plugin: String,
    /// The roots in the order of the command line, as results show them.
    pub roots: Vec<Vec<u8>>,
    /// How the job ended.
    pub ending: Ending,
    /// What the walk counted.
    pub walk: WalkSummary,
    /// The plugin's part.
    pub report: PluginReport,
    /// What is missing because it could not be finished.
    pub set_aside: Vec<SetAside>,
    /// Roots that nobody could walk at all: errors of the report, not set aside.
    pub unserved: Vec<Unserved>,
    /// What differs from run to run.
    pub run: Run,
}

impl Outcome {
    /// The walk's counts with the roots that nobody could walk among the errors.
    #[must_use]
    pub fn errors(&self) -> WalkSummary {
        let mut errors = self.walk.clone();
        for root in &self.unserved {
            errors.fail(WalkError {
                path: root.path.clone(),
                operation: "open".to_owned(),
                kind: root.kind.clone(),
                message: root.reason.clone(),
            });
        }
        errors
    }
}

/// How a job ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left to do.
    #[default]
    Done,
    /// The user stopped it.
    Interrupted,
    /// It was given up, and why.
    GivenUp(String),
}

/// A part of the tree that is missing from the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is, as results show it.
    pub path: Vec<u8>,
    /// Why it could not be finished.
    pub reason: String,
}

/// A root that nobody could walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The root, as results show it.
    pub path: Vec<u8>,
    /// The kind of failure: the name of the error number, or a word of Hydra's (`REFUSED`).
    pub kind: String,
    /// Why, in words.
    pub reason: String,
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

/// A client's share of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClientRun {
    /// As it was dialled, or as it named itself; `local` for the embedded one.
    pub name: String,
    /// Its workers.
    pub workers: u32,
    /// Entries that it committed.
    pub entries: u64,
    /// Commits that were applied.
    pub commits: u64,
    /// Grants that it got.
    pub grants: u64,
    /// Times that it was asked to give items back.
    pub sheds: u64,
    /// Workers that it lost.
    pub lost_workers: u64,
}

#[cfg(test)]
mod tests;
