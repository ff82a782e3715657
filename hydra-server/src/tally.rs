//! Adding up what was committed: the walk's counts, the plugin's sum, and who did what.

use crate::outcome::{ClientRun, ServerError};
use hydra_proto::ids::ChildId;
use hydra_proto::message::Delta;
use hydra_proto::reduce::{Reduce, ReduceError, Summary};
use hydra_proto::walk::WalkSummary;
use std::collections::BTreeMap;

/// Clients that the report lists; what others do is in the sums alone.
const RUNS_MAX: usize = 1 << 16;

pub(crate) struct Tally {
    pub(crate) walk: WalkSummary,
    pub(crate) reducer: Box<dyn Reduce>,
    runs: BTreeMap<String, ClientRun>,
    names: BTreeMap<ChildId, String>,
}

impl Tally {
    pub(crate) fn new(reducer: Box<dyn Reduce>) -> Self {
        Self {
            walk: WalkSummary::default(),
            reducer,
            runs: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// A session is over: nothing more comes from it.
    pub(crate) fn left(&mut self, child: ChildId) {
        self.names.remove(&child);
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.names.len()
    }

    /// A session of the client with this name was opened, or goes on under this name. No two clients may have one.
    pub(crate) fn joined(&mut self, child: ChildId, name: &str, workers: u32) {
        self.names.insert(child, name.to_owned());
        if self.runs.len() >= RUNS_MAX && !self.runs.contains_key(name) {
            return;
        }
        let run = self.runs.entry(name.to_owned()).or_default();
        run.name = name.to_owned();
        run.workers = workers;
    }

    pub(crate) fn name(&self, child: ChildId) -> &str {
        self.names.get(&child).map_or("a client", String::as_str)
    }

    pub(crate) fn run(&mut self, child: ChildId) -> Option<&mut ClientRun> {
        self.runs.get_mut(self.names.get(&child)?)
    }

    /// Adds the result of a commit.
    ///
    /// # Errors
    /// When it cannot be kept. The commit must then not be acknowledged.
    pub(crate) fn add(&mut self, child: ChildId, delta: Option<Delta>) -> Result<(), ServerError> {
        let merged = self.merge(child, delta);
        merged.map_err(|source| ServerError::Reduce {
            client: self.name(child).to_owned(),
            source,
        })
    }

    /// Adds the sums of a commit.
    ///
    /// # Errors
    /// When they cannot be kept.
    pub(crate) fn merge(
        &mut self,
        child: ChildId,
        delta: Option<Delta>,
    ) -> Result<(), ReduceError> {
        let (entries, lost) = delta
            .as_ref()
            .map_or((0, 0), |d| (d.walk.entries, d.lost_workers));
        if let Some(run) = self.run(child) {
            run.commits += 1;
            run.entries = run.entries.saturating_add(entries);
            run.lost_workers = run.lost_workers.saturating_add(u64::from(lost));
        }
        let Some(delta) = delta else {
            return Ok(());
        };
        self.reducer.merge(&delta.plugin)?;
        self.walk.merge(delta.walk);
        Ok(())
    }

    /// Brings back what a client has done.
    pub(crate) fn restore_run(&mut self, run: ClientRun) {
        self.runs.insert(run.name.clone(), run);
    }

    pub(crate) fn runs(&self) -> Vec<ClientRun> {
        self.runs.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::NoSum;

    #[test]
    fn the_names_of_all_sessions_that_ever_were_stayed() {
        let mut tally = Tally::new(Box::new(NoSum));
        for child in (0..1000).map(ChildId) {
            tally.joined(child, "vm", 2);
            tally.left(child);
        }
        assert!(tally.names.is_empty());
        assert_eq!(tally.runs().len(), 1);
    }

    #[test]
    fn strangers_names_took_all_memory() {
        let mut tally = Tally::new(Box::new(NoSum));
        for child in (0..RUNS_MAX as u32 + 10).map(ChildId) {
            tally.joined(child, &child.0.to_string(), 2);
            tally.left(child);
        }
        assert_eq!(tally.runs().len(), RUNS_MAX);
        // Who is there is named as before, and adds up.
        tally.joined(ChildId(u32::MAX), "late", 1);
        assert_eq!(tally.name(ChildId(u32::MAX)), "late");
        tally.add(ChildId(u32::MAX), None).unwrap();
    }
}
