//! For the tests of plugins: runs one over a tree, in this thread, and returns everything that came of it.
//!
//! Options and summaries are encoded and decoded on their way, as they are between hosts. Not here: workers,
//! clients and servers; those are tested with the program itself.

use crate::plugin::{Plugin, PluginReport, ReportContext, Total};
use crate::registry::PluginError;
use crate::serial::{self, SerialError, Watch};
use hydra_proto::codec;
use hydra_proto::job::{JobSpec, RootSpec};
use hydra_proto::reduce::ReduceError;
use hydra_proto::walk::WalkSummary;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

/// What came of a walk.
#[derive(Clone, Debug)]
pub struct Found {
    /// The plugin's part of the report, for a terminal of 80 columns without colours.
    pub report: PluginReport,
    /// The rows in the order in which they were written.
    pub rows: Vec<serde_json::Value>,
    /// What the walk itself counted, errors among it.
    pub walk: WalkSummary,
}

/// Has the plugin walk `root`, as `--serial` does. A plugin that acts does act.
///
/// # Errors
/// When the plugin refuses its options, when they or its summary do not survive being sent, or when the report
/// cannot be made.
pub fn walk<P: Plugin>(mut options: P::Options, root: &Path) -> Result<Found, SerialError> {
    P::prepare(&mut options, SystemTime::now());
    let plugin = P::NAME;
    let encoding = |source| PluginError::Encoding { plugin, source };
    let refused = |reason| PluginError::Refused { plugin, reason };
    let encoded = serde_json::to_vec(&options).map_err(encoding)?;
    let options: P::Options = serde_json::from_slice(&encoded).map_err(encoding)?;
    let path = root.as_os_str().as_bytes().to_vec();
    let job = JobSpec {
        plugin: plugin.to_owned(),
        options: encoded,
        acts: P::ACTS,
        roots: vec![RootSpec {
            shown: path.clone(),
            local: path,
            stops: Vec::new(),
        }],
        ..JobSpec::default()
    };
    let mut total = P::total(&options).map_err(refused)?;
    let mut keep = |summary| -> Result<(), ReduceError> {
        let sent = codec::encode(&summary)?;
        total.add(codec::decode(&sent)?)
    };
    let mut rows = Vec::new();
    let mut watch = Watch {
        rows: Some(&mut rows),
        tick: &mut |_, _| {},
        interrupt: &|| false,
    };
    let visit = P::visit(&options).map_err(refused)?;
    let walk = serial::walk(&job, visit, &mut watch, &mut keep)?.walk;
    let context = ReportContext {
        width: 80,
        color: false,
        walk: walk.clone(),
    };
    let rows = serde_json::Deserializer::from_slice(&rows).into_iter();
    Ok(Found {
        report: P::report(&options, total, &context)?,
        rows: rows
            .collect::<Result<_, _>>()
            .map_err(|error| SerialError::Rows(error.into()))?,
        walk,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_plugin::{Probe, ProbeOptions};
    use crate::{Entry, Sink, Summary, Visit, Wants};
    use serde::{Deserialize, Serialize};
    use std::time::Duration;

    /// Options that travel, and a summary that is written without a length and so cannot be read.
    struct Lossy;
    struct LossyVisit;

    #[derive(Default, Serialize, Deserialize)]
    struct LossySummary {
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<u64>,
    }

    impl Summary for LossySummary {
        fn merge(&mut self, _: Self) {}
    }

    impl Visit for LossyVisit {
        type Summary = LossySummary;

        fn wants(&self) -> Wants {
            Wants::default()
        }

        fn entry(&mut self, _: &Entry<'_>, _: &mut Sink<LossySummary>) {}
    }

    impl Plugin for Lossy {
        const NAME: &'static str = "lossy";
        const ABOUT: &'static str = "Lose what it found";
        type Options = crate::plugins::count::CountOptions;
        type Visit = LossyVisit;
        type Total = LossySummary;

        fn visit(_: &Self::Options) -> Result<LossyVisit, String> {
            Ok(LossyVisit)
        }

        fn total(_: &Self::Options) -> Result<LossySummary, String> {
            Ok(LossySummary::default())
        }

        fn report(
            _: &Self::Options,
            _: LossySummary,
            _: &ReportContext,
        ) -> Result<PluginReport, ReduceError> {
            Ok(PluginReport::default())
        }
    }

    #[test]
    fn a_summary_that_cannot_be_sent_is_found_in_one_process() {
        let tmp = tempfile::tempdir().unwrap();
        let error = walk::<Lossy>(Default::default(), tmp.path()).unwrap_err();
        assert!(matches!(error, SerialError::Reduce(_)), "{error}");
    }

    #[test]
    fn options_that_the_plugin_refuses_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let mut options = ProbeOptions {
            facts: false,
            skip: None,
            panic_at: None,
            older: Duration::ZERO,
            now: 0,
        };
        let found = walk::<Probe>(options.clone(), tmp.path()).unwrap();
        assert_eq!((found.walk.entries, found.rows.len()), (1, 0));
        options.older = Duration::MAX;
        walk::<Probe>(options, tmp.path()).unwrap_err();
    }
}
